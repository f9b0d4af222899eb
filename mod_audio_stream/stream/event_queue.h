/*
 * event_queue.h - texts from many sources, on the service threads, to one application thread that waits for them.
 *
 * The application may decide something when it deals with an event (to flush, above all). It has dealt with an event once
 * it asks for the next one. Until then the source can tell that a decision may still be coming: event_queue_undecided().
 */
#ifndef STREAM_EVENT_QUEUE_H
#define STREAM_EVENT_QUEUE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

typedef struct queued_event queued_event;

/* Whose events these are. It must outlive them: see release. */
typedef struct event_source {
	uint64_t tag;                 /* given to the application with each event */
	size_t max_bytes;             /* of the server's that may wait, what the queue needs for each included */
	size_t max_ours_bytes;        /* of those of our own, likewise; 0: there are none */
	void (*retain)(void *owner);  /* the queue holds the owner for each event, until it has been dealt with */
	void (*release)(void *owner); /* on the application's thread; not under the queue's lock */
	void *owner;
	/* The queue's lock. */
	size_t bytes, ours_bytes;
	int undecided; /* decisive events in the queue, or being dealt with */
} event_source;

typedef struct event_queue {
	pthread_mutex_t lock; /* guards all the rest */
	pthread_cond_t more;
	queued_event *first, **last;
	queued_event *dealing; /* taken, and not yet dealt with */
	int ended;
} event_queue;

void event_queue_init(event_queue *queue);
/* Nobody uses it any more; what is in it is released. */
void event_queue_destroy(event_queue *queue);
#define EVENT_DECISIVE 1 /* see above */
#define EVENT_OURS 2     /* not the server's: counted by itself, so that a flood of the server's does not lose it */
#define EVENT_LAST 4     /* the source's beginning or end: there is always room for it */

/* Service threads. AS_EFULL, AS_ENOMEM. */
int event_queue_put(event_queue *queue, event_source *source, const char *text, size_t bytes, int flags);
int event_queue_undecided(event_queue *queue, const event_source *source);
/* Any thread. From now on nobody waits, and once it is empty the application is told. Idempotent. */
void event_queue_end(event_queue *queue);
/* The application, one thread at a time: as as_events_recv(). */
long event_queue_take(event_queue *queue, char *text, size_t bytes, int timeout_ms, uint64_t *tag);

#endif
