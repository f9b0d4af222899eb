/* worker.h - a thread of the module's that runs jobs. */
#ifndef FREESWITCH_WORKER_H
#define FREESWITCH_WORKER_H

#include <switch.h>

/* Runs jobs on a thread of the module's, in the order in which they were added. Adding one never waits. */
typedef struct job job_t;
struct job {
	job_t *next;
	void (*run)(job_t *job); /* the worker thread; takes the job over */
	size_t bytes;            /* what it counts for */
};
switch_status_t worker_start(switch_memory_pool_t *pool);
/* SWITCH_FALSE: too much is waiting, and the job is still the caller's. always: there is room all the same. */
switch_bool_t worker_add(job_t *job, switch_bool_t always);
/* Runs what is left, and ends. */
void worker_stop(void);

#endif
