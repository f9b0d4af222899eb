/* The threads that decode: few, in order, ordinary, and gone when they are told to go. */
#define _GNU_SOURCE
#include "decode_pool.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

#define JOBS 200

typedef struct work {
	int number;
	sem_t *begun, *go; /* NULL: neither */
} work;

static _Atomic int running, most_running, count, not_ordinary;
static _Atomic int order[JOBS]; /* numbers as they began */

static void run(void *arg)
{
	const work *w = arg;
	struct sched_param param;
	int policy = -1, now = atomic_fetch_add(&running, 1) + 1, most = atomic_load(&most_running);
	while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now)) {
	}
	pthread_getschedparam(pthread_self(), &policy, &param);
	atomic_fetch_add(&not_ordinary, policy != SCHED_OTHER);
	atomic_store(&order[atomic_fetch_add(&count, 1)], w->number);
	if (w->begun) {
		sem_post(w->begun);
	}
	if (w->go) {
		sem_wait(w->go);
	}
	atomic_fetch_sub(&running, 1);
}

static void begin(void)
{
	decode_pool_stop();
	running = most_running = count = not_ordinary = 0;
	assert_int_equal(decode_pool_threads(), 0);
}

static int most_there_may_be(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	return processors < DECODE_THREADS_MAX ? (int)processors : DECODE_THREADS_MAX;
}

static void test_no_more_threads_than_processors_and_4(void **state)
{
	sem_t begun, go;
	work works[JOBS];
	(void)state;
	sem_init(&begun, 0, 0);
	sem_init(&go, 0, 0);
	begin();
	for (int i = 0; i < JOBS; i++) {
		works[i] = (work){i, &begun, &go};
		assert_int_equal(decode_pool_run(run, &works[i]), 0);
	}
	for (int i = 0; i < most_there_may_be(); i++) {
		sem_wait(&begun); /* so many are at work at a time ... */
	}
	assert_int_equal(decode_pool_threads(), most_there_may_be());
	for (int i = 0; i < JOBS; i++) {
		sem_post(&go);
	}
	decode_pool_stop();
	assert_int_equal(count, JOBS);
	assert_int_equal(most_running, most_there_may_be()); /* ... and no more */
	assert_int_equal(not_ordinary, 0);
}

/* One thread is free, all others are kept: what that one does comes in order. */
static void test_jobs_begin_in_the_order_in_which_they_came(void **state)
{
	sem_t begun, go;
	work keep[DECODE_THREADS_MAX], works[JOBS - DECODE_THREADS_MAX];
	const int kept = most_there_may_be() - 1;
	(void)state;
	sem_init(&begun, 0, 0);
	sem_init(&go, 0, 0);
	begin();
	for (int i = 0; i < kept; i++) {
		keep[i] = (work){-1, &begun, &go};
		assert_int_equal(decode_pool_run(run, &keep[i]), 0);
		sem_wait(&begun);
	}
	for (size_t i = 0; i < COUNT(works); i++) {
		works[i] = (work){(int)i, i + 1 == COUNT(works) ? &begun : NULL, NULL};
		assert_int_equal(decode_pool_run(run, &works[i]), 0);
	}
	sem_wait(&begun);
	for (size_t i = 0; i < COUNT(works); i++) {
		assert_int_equal(order[(size_t)kept + i], i);
	}
	for (int i = 0; i < kept; i++) {
		sem_post(&go);
	}
	decode_pool_stop();
}

static void test_a_thread_that_is_idle_takes_the_next_job(void **state)
{
	sem_t begun;
	work works[50];
	(void)state;
	sem_init(&begun, 0, 0);
	begin();
	for (int i = 0; i < 50; i++) {
		works[i] = (work){i, &begun, NULL};
		assert_int_equal(decode_pool_run(run, &works[i]), 0);
		sem_wait(&begun);
	}
	assert_true(decode_pool_threads() <= most_there_may_be());
	decode_pool_stop();
	assert_int_equal(count, 50);
}

static void test_stopping_waits_for_what_is_there_and_the_pool_goes_on_after_it(void **state)
{
	work works[JOBS];
	(void)state;
	begin();
	for (int round = 1; round <= 2; round++) {
		for (int i = 0; i < JOBS / 2; i++) {
			works[i] = (work){i, NULL, NULL};
			assert_int_equal(decode_pool_run(run, &works[i]), 0);
		}
		decode_pool_stop();
		assert_int_equal(count, round * JOBS / 2);
		assert_int_equal(decode_pool_threads(), 0);
	}
}

static void test_real_time_scheduling_is_not_inherited(void **state)
{
	const struct sched_param real_time = {.sched_priority = 1}, ordinary = {.sched_priority = 0};
	work w = {0, NULL, NULL};
	(void)state;
	begin();
	if (pthread_setschedparam(pthread_self(), SCHED_RR, &real_time)) {
		skip(); /* the kernel does not permit it */
	}
	int error = decode_pool_run(run, &w);
	pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary);
	assert_int_equal(error, 0);
	decode_pool_stop();
	assert_int_equal(not_ordinary, 0);
}

static void test_a_forked_process_has_threads_of_its_own(void **state)
{
	int status = -1;
	work w = {0, NULL, NULL};
	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* it cannot start threads in a forked process */
#endif
	begin();
	assert_int_equal(decode_pool_run(run, &w), 0);
	while (!atomic_load(&count)) {
		sched_yield();
	}
	pid_t child = fork();
	if (child == 0) {
		alarm(10);
		int error = decode_pool_run(run, &w);
		decode_pool_stop();
		_exit(error || atomic_load(&count) != 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	decode_pool_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_more_threads_than_processors_and_4),
		cmocka_unit_test(test_jobs_begin_in_the_order_in_which_they_came),
		cmocka_unit_test(test_a_thread_that_is_idle_takes_the_next_job),
		cmocka_unit_test(test_stopping_waits_for_what_is_there_and_the_pool_goes_on_after_it),
		cmocka_unit_test(test_real_time_scheduling_is_not_inherited),
		cmocka_unit_test(test_a_forked_process_has_threads_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
