/*
 * worker.h - threads of the module's that run jobs, one thread to a lane.
 *
 * Jobs of a lane run one after the other in the order in which they were added. The lanes know nothing of each other: a
 * job that has to come after others of the other lane is added there by a job that stands behind them.
 */
#ifndef FREESWITCH_WORKER_H
#define FREESWITCH_WORKER_H

#include <stddef.h>

typedef enum worker_lane {
	WORKER_EVENTS,  /* fires events; waits for no call */
	WORKER_ENDINGS, /* removes media bugs: that waits for others' callbacks, and for starts on the same call */
	WORKER_LANES,
} worker_lane;

typedef struct job job_t;
struct job {
	job_t *next;
	void (*run)(job_t *job); /* the lane's thread; takes the job over */
	size_t bytes;            /* what it counts for */
};
/* 0 or AS_ENOMEM. */
int worker_start(void);
/* Never waits. 0, or AS_EFULL: too much is waiting in the lane, and the job is still the caller's. always: there is room
 * all the same. */
int worker_add(worker_lane lane, job_t *job, int always);
/* Runs what is left in all lanes, and ends. */
void worker_stop(void);

#endif
