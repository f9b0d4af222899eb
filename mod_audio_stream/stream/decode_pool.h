/*
 * decode_pool.h - the few threads of the process that decode files.
 *
 * Ten minutes of a compressed file take a processor a second or more. So files of all calls share as many threads as there
 * are processors, and DECODE_THREADS_MAX at most: however many servers send files, they take no more than that, at ordinary
 * priority (thread.h). What waits is begun in the order in which it came. A stream has one file at a time with the pool, so
 * a server that sends many holds up only its own call for longer than one file takes.
 */
#ifndef DECODE_POOL_H
#define DECODE_POOL_H

#define DECODE_THREADS_MAX 4

/* Runs run(arg) on a thread of the pool, as soon as one is free. 0, or AS_ENOMEM, and it will not be run. */
int decode_pool_run(void (*run)(void *), void *arg);
/* Waits until all that was given to the pool has been run, and its threads have ended. Those come back with the next job. Not
 * on a thread of the pool. */
void decode_pool_stop(void);
/* Threads there are now. */
int decode_pool_threads(void);

#endif
