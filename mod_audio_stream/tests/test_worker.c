/* The module's worker: two lanes, each in order. */
#define _GNU_SOURCE
#include "worker.h"

#include <semaphore.h>
#include <stdatomic.h>

#include "support.h"

#define JOBS 1000

typedef struct step {
	job_t job; /* first */
	int number;
	sem_t *wait, *post; /* NULL: neither */
	worker_lane then;   /* where the job adds `next` */
	struct step *next;
} step;

static int ran[JOBS];
static _Atomic int count; /* publishes ran[..count); lanes do not run at the same time where they count */

static void run(job_t *job)
{
	step *s = (step *)job;
	if (s->wait) {
		sem_wait(s->wait);
	}
	ran[atomic_load(&count)] = s->number;
	atomic_fetch_add(&count, 1);
	if (s->next) {
		worker_add(s->then, &s->next->job, 1);
	}
	if (s->post) {
		sem_post(s->post);
	}
}

static step step_of(int number)
{
	return (step){.job = {.run = run}, .number = number};
}

static void begin(void)
{
	atomic_store(&count, 0);
	assert_int_equal(worker_start(), 0);
}

static void test_a_lane_keeps_the_order(void **state)
{
	static step steps[JOBS];
	(void)state;
	begin();
	for (int i = 0; i < JOBS; i++) {
		steps[i] = step_of(i);
		assert_int_equal(worker_add(WORKER_EVENTS, &steps[i].job, 0), 0);
	}
	worker_stop();
	assert_int_equal(atomic_load(&count), JOBS);
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(ran[i], i);
	}
}

/* As when a media bug cannot be removed because another module's callback hangs. */
static void test_an_ending_that_hangs_holds_up_no_event(void **state)
{
	sem_t hang, fired;
	step ending = step_of(1), event = step_of(2);
	(void)state;
	sem_init(&hang, 0, 0);
	sem_init(&fired, 0, 0);
	begin();
	ending.wait = &hang;
	event.post = &fired;
	worker_add(WORKER_ENDINGS, &ending.job, 1);
	worker_add(WORKER_EVENTS, &event.job, 0);
	sem_wait(&fired); /* for ever, if it stood behind the ending */
	assert_int_equal(ran[0], 2);
	sem_post(&hang);
	worker_stop();
	assert_int_equal(ran[1], 1);
}

/* Events, then the end that they come before, then what the end fires. */
static void test_an_ending_comes_behind_the_events_and_its_own_behind_it(void **state)
{
	sem_t hang;
	step events[3] = {step_of(0), step_of(1), step_of(2)}, last = step_of(3), ending = step_of(4), stopped = step_of(5);
	(void)state;
	sem_init(&hang, 0, 0);
	begin();
	events[0].wait = &hang;
	for (size_t i = 0; i < COUNT(events); i++) {
		worker_add(WORKER_EVENTS, &events[i].job, 0);
	}
	last.then = WORKER_ENDINGS;
	last.next = &ending;
	ending.then = WORKER_EVENTS;
	ending.next = &stopped;
	worker_add(WORKER_EVENTS, &last.job, 1);
	sem_post(&hang);
	worker_stop(); /* though the events' lane may have ended before the ending adds to it */
	assert_int_equal(atomic_load(&count), 6);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(ran[i], i);
	}
}

static void test_too_much_in_one_lane_leaves_room_in_the_other(void **state)
{
	sem_t hang;
	step first = step_of(0), large = step_of(1), too_large = step_of(2), important = step_of(3), other = step_of(4);
	(void)state;
	sem_init(&hang, 0, 0);
	begin();
	first.wait = &hang;
	large.job.bytes = 32 * 1024 * 1024;
	too_large.job.bytes = 1;
	worker_add(WORKER_EVENTS, &first.job, 0);
	assert_int_equal(worker_add(WORKER_EVENTS, &large.job, 0), 0);
	assert_int_equal(worker_add(WORKER_EVENTS, &too_large.job, 0), AS_EFULL);
	assert_int_equal(worker_add(WORKER_EVENTS, &important.job, 1), 0);
	assert_int_equal(worker_add(WORKER_ENDINGS, &other.job, 0), 0);
	sem_post(&hang);
	worker_stop();
	assert_int_equal(atomic_load(&count), 4);
}

static void wait_only(job_t *job)
{
	step *s = (step *)job;
	if (s->wait) {
		sem_wait(s->wait);
	}
}

static void test_as_many_jobs_as_there_may_be(void **state)
{
	enum { MAX = 20000 };
	sem_t hang;
	int added = 0;
	step *steps = calloc(MAX + 10, sizeof(*steps));
	(void)state;
	sem_init(&hang, 0, 0);
	begin();
	for (int i = 0; i < MAX + 10; i++) {
		steps[i].job.run = wait_only;
		steps[i].wait = i ? NULL : &hang;
		added += worker_add(WORKER_EVENTS, &steps[i].job, 0) == 0;
	}
	assert_true(added == MAX || added == MAX + 1); /* the thread may have taken the first */
	sem_post(&hang);
	worker_stop();
	free(steps);
}

static void test_it_starts_again(void **state)
{
	step one = step_of(1), two = step_of(2);
	(void)state;
	begin();
	worker_add(WORKER_EVENTS, &one.job, 0);
	worker_stop();
	assert_int_equal(worker_start(), 0);
	assert_int_equal(worker_start(), 0); /* and a second time changes nothing */
	worker_add(WORKER_ENDINGS, &two.job, 0);
	worker_stop();
	assert_int_equal(atomic_load(&count), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_lane_keeps_the_order),
		cmocka_unit_test(test_an_ending_that_hangs_holds_up_no_event),
		cmocka_unit_test(test_an_ending_comes_behind_the_events_and_its_own_behind_it),
		cmocka_unit_test(test_too_much_in_one_lane_leaves_room_in_the_other),
		cmocka_unit_test(test_as_many_jobs_as_there_may_be),
		cmocka_unit_test(test_it_starts_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
