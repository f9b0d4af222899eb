/*
 * thread.h - makes every thread of the library and of the module.
 *
 * A thread made by pthread_create() alone takes its scheduling from the thread that makes it, and its stack from
 * RLIMIT_STACK. FreeSWITCH runs SCHED_FIFO or SCHED_RR, and its threads have 240 KB of stack. What ours do (parsing what
 * peers send, decoding, waiting for a resolver, firing events) takes as long as a peer likes, and at real-time priority
 * would keep media threads from their ticks of 20 ms. So ours are ordinary, whoever makes them: SCHED_OTHER, all signals
 * blocked (the host's threads handle those), a stack of a stated size.
 */
#ifndef AS_THREAD_H
#define AS_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Starts a thread; it is the caller's to join, or detached where out is NULL. name: its first 15 characters count. 0, or
 * AS_ENOMEM: the system has no more threads to give. */
int as_thread_start(pthread_t *out, const char *name, size_t stack_bytes, void *(*run)(void *), void *arg);
/* The attributes of such a thread, to pthread_attr_destroy(). 0 or AS_ENOMEM. */
int as_thread_attributes(pthread_attr_t *out, size_t stack_bytes, int detached);

#endif
