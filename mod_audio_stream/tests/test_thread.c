/* Threads are ordinary ones, whoever makes them. */
#define _GNU_SOURCE
#include "thread.h"

#include <sched.h>
#include <semaphore.h>
#include <signal.h>

#include "support.h"

#define STACK_BYTES ((size_t)777 * 1024)

typedef struct seen {
	int policy;
	struct sched_param param;
	size_t stack_bytes;
	int signals; /* that are not blocked */
	char name[16];
	sem_t done;
} seen;

static void *look(void *arg)
{
	seen *s = arg;
	pthread_attr_t attributes;
	sigset_t blocked;
	pthread_getschedparam(pthread_self(), &s->policy, &s->param);
	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstacksize(&attributes, &s->stack_bytes);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	for (int i = 1; i < SIGRTMAX; i++) {
		/* Two can never be blocked, and the C library keeps two for itself. */
		s->signals += sigismember(&blocked, i) == 0 && i != SIGKILL && i != SIGSTOP && (i < 32 || i >= SIGRTMIN);
	}
	pthread_getname_np(pthread_self(), s->name, sizeof(s->name));
	sem_post(&s->done);
	return NULL;
}

static void expect_ordinary(void)
{
	seen s = {.policy = -1};
	pthread_t thread;
	sem_init(&s.done, 0, 0);
	assert_int_equal(as_thread_start(&thread, "as-test", STACK_BYTES, look, &s), 0);
	pthread_join(thread, NULL);
	assert_int_equal(s.policy, SCHED_OTHER);
	assert_int_equal(s.param.sched_priority, 0);
	assert_true(s.stack_bytes >= STACK_BYTES && s.stack_bytes < 2 * STACK_BYTES); /* sanitizers add some */
	assert_int_equal(s.signals, 0);
	assert_string_equal(s.name, "as-test");
}

static void test_a_thread_is_ordinary(void **state)
{
	sigset_t before, after;
	(void)state;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	expect_ordinary();
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM)); /* the maker's are as they were */
}

static void test_a_thread_made_by_one_with_real_time_scheduling_is_ordinary(void **state)
{
	const struct sched_param real_time = {.sched_priority = 1}, ordinary = {.sched_priority = 0};
	(void)state;
	if (pthread_setschedparam(pthread_self(), SCHED_RR, &real_time)) {
		skip(); /* the kernel does not permit it */
	}
	expect_ordinary();
	pthread_setschedparam(pthread_self(), SCHED_OTHER, &ordinary);
}

static void test_scheduling_is_stated_and_not_inherited(void **state)
{
	(void)state;
	for (int detached = 0; detached < 2; detached++) {
		pthread_attr_t attributes;
		int inherit = -1, policy = -1, detach = -1;
		size_t bytes = 0;
		assert_int_equal(as_thread_attributes(&attributes, STACK_BYTES, detached), 0);
		pthread_attr_getinheritsched(&attributes, &inherit);
		pthread_attr_getschedpolicy(&attributes, &policy);
		pthread_attr_getdetachstate(&attributes, &detach);
		pthread_attr_getstacksize(&attributes, &bytes);
		pthread_attr_destroy(&attributes);
		assert_int_equal(inherit, PTHREAD_EXPLICIT_SCHED);
		assert_int_equal(policy, SCHED_OTHER);
		assert_int_equal(detach, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
		assert_int_equal(bytes, STACK_BYTES);
	}
}

static void test_a_detached_thread_runs(void **state)
{
	seen s = {.policy = -1};
	(void)state;
	sem_init(&s.done, 0, 0);
	assert_int_equal(as_thread_start(NULL, "as-test", STACK_BYTES, look, &s), 0);
	sem_wait(&s.done);
	assert_int_equal(s.policy, SCHED_OTHER);
}

static void test_a_stack_that_is_none(void **state)
{
	pthread_t thread;
	(void)state;
	assert_int_equal(as_thread_start(&thread, "as-test", 1, look, NULL), AS_ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_thread_is_ordinary),
		cmocka_unit_test(test_a_thread_made_by_one_with_real_time_scheduling_is_ordinary),
		cmocka_unit_test(test_scheduling_is_stated_and_not_inherited),
		cmocka_unit_test(test_a_detached_thread_runs),
		cmocka_unit_test(test_a_stack_that_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
