/*
 * decode_pool.c - threads that decode: see decode_pool.h.
 *
 * A thread comes when there is more to do than threads are idle, and goes when there has been nothing for a while. Threads
 * are detached: a process that ends does not wait for them.
 */
#define _GNU_SOURCE
#include "decode_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "audio_stream.h"
#include "thread.h"

#define IDLE_S 10
#define STACK_BYTES ((size_t)1024 * 1024) /* the decoders that libsndfile uses were seen to take 46 KB */

typedef struct pool_job {
	void (*run)(void *);
	void *arg;
	struct pool_job *next;
} pool_job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* All under the lock. */
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;  /* a job has come, or the pool stops */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER; /* a thread has ended */
static pool_job *first, **last = &first;
static int waiting, idle, threads; /* jobs in the queue; threads without one; threads */
static int stopping;               /* callers of decode_pool_stop() */
static pid_t owner;                /* the process that the threads are of */

static int threads_max(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	return processors < 1 ? 1 : processors < DECODE_THREADS_MAX ? (int)processors : DECODE_THREADS_MAX;
}

/* Under the lock. NULL: there is nothing to do. */
static pool_job *pool_take(void)
{
	pool_job *job = first;
	if (job) {
		first = job->next;
		last = first ? last : &first;
		waiting--;
	}
	return job;
}

/* Under the lock. Waits for a job; NULL when there has been none for a while. */
static pool_job *pool_next(void)
{
	struct timespec until;
	pool_job *job;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_S;
	idle++;
	while (!(job = pool_take()) && !stopping && pthread_cond_timedwait(&more, &lock, &until) == 0) {
	}
	idle--;
	return job ? job : pool_take(); /* it may have come in the last moment, and seen this thread idle */
}

static void *pool_work(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	for (pool_job *job; (job = pool_next());) {
		pthread_mutex_unlock(&lock);
		job->run(job->arg);
		free(job);
		pthread_mutex_lock(&lock);
	}
	threads--;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Under the lock. A process that was forked has none of its parent's threads, and what they had to do is not its own. */
static void pool_own(void)
{
	if (owner != getpid()) {
		owner = getpid();
		first = NULL;
		last = &first;
		waiting = idle = threads = stopping = 0;
	}
}

/* Under the lock. Whether there is a thread that will take one more job. */
static int pool_has_thread(void)
{
	if (waiting >= idle && threads < threads_max() &&
		as_thread_start(NULL, "as-decode", STACK_BYTES, pool_work, NULL) == 0) {
		threads++;
	}
	return threads > 0;
}

int decode_pool_run(void (*run)(void *), void *arg)
{
	pool_job *job = malloc(sizeof(*job));
	if (!job) {
		return AS_ENOMEM;
	}
	*job = (pool_job){.run = run, .arg = arg};
	pthread_mutex_lock(&lock);
	pool_own();
	int error = pool_has_thread() ? 0 : AS_ENOMEM;
	if (!error) {
		*last = job;
		last = &job->next;
		waiting++;
		pthread_cond_signal(&more);
	}
	pthread_mutex_unlock(&lock);
	if (error) {
		free(job);
	}
	return error;
}

void decode_pool_stop(void)
{
	pthread_mutex_lock(&lock);
	pool_own();
	stopping++;
	pthread_cond_broadcast(&more);
	while (threads > 0) {
		pthread_cond_wait(&ended, &lock);
	}
	stopping--;
	pthread_mutex_unlock(&lock);
}

int decode_pool_threads(void)
{
	pthread_mutex_lock(&lock);
	int count = threads;
	pthread_mutex_unlock(&lock);
	return count;
}
