/*
 * worker.c - one thread for what must not be done where it is noticed.
 *
 * Service threads notice events, and that a streamer has finished; firing an event or removing a media bug may wait for
 * locks of FreeSWITCH, and a service thread has other connections to look after. So they leave a job here. Jobs run one
 * after the other in the order in which they came, which keeps a stream's events in order.
 */
#include "worker.h"

#define JOBS_MAX 20000 /* waiting; more means that nobody takes events off FreeSWITCH's hands */
#define BYTES_MAX (32 * 1024 * 1024)

static struct {
	switch_mutex_t *mutex; /* guards all below; held for a few instructions only */
	switch_thread_cond_t *more;
	switch_thread_t *thread;
	job_t *first, **last;
	size_t jobs, bytes;
	switch_bool_t stopping;
} worker;

/* The next job, or NULL when there will be none. */
static job_t *take(void)
{
	switch_mutex_lock(worker.mutex);
	while (!worker.first && !worker.stopping) {
		switch_thread_cond_wait(worker.more, worker.mutex);
	}
	job_t *job = worker.first;
	if (job) {
		worker.first = job->next;
		worker.last = worker.first ? worker.last : &worker.first;
		worker.jobs--;
		worker.bytes -= job->bytes;
	}
	switch_mutex_unlock(worker.mutex);
	return job;
}

static void *SWITCH_THREAD_FUNC run(switch_thread_t *thread, void *unused)
{
	for (job_t *job; (job = take());) {
		job->run(job);
	}
	(void)thread, (void)unused;
	return NULL;
}

switch_bool_t worker_add(job_t *job, switch_bool_t always)
{
	switch_mutex_lock(worker.mutex);
	switch_bool_t room = always || (worker.jobs < JOBS_MAX && worker.bytes + job->bytes <= BYTES_MAX);
	if (room) {
		job->next = NULL;
		*worker.last = job;
		worker.last = &job->next;
		worker.jobs++;
		worker.bytes += job->bytes;
		switch_thread_cond_signal(worker.more);
	}
	switch_mutex_unlock(worker.mutex);
	return room;
}

switch_status_t worker_start(switch_memory_pool_t *pool)
{
	switch_threadattr_t *attributes = NULL;
	if (worker.thread) {
		return SWITCH_STATUS_SUCCESS; /* an unload had to leave us in memory */
	}
	worker.last = &worker.first;
	worker.stopping = SWITCH_FALSE;
	if (switch_mutex_init(&worker.mutex, SWITCH_MUTEX_UNNESTED, pool) != SWITCH_STATUS_SUCCESS ||
		switch_thread_cond_create(&worker.more, pool) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_MEMERR;
	}
	switch_threadattr_create(&attributes, pool);
	switch_threadattr_stacksize_set(attributes, SWITCH_THREAD_STACKSIZE);
	return switch_thread_create(&worker.thread, attributes, run, NULL, pool);
}

void worker_stop(void)
{
	switch_status_t ended;
	switch_mutex_lock(worker.mutex);
	worker.stopping = SWITCH_TRUE;
	switch_thread_cond_signal(worker.more);
	switch_mutex_unlock(worker.mutex);
	switch_thread_join(&ended, worker.thread);
	worker.thread = NULL;
}
