/* app_events.c - the public interface over the queue of events: the application's side, and streams that put events into it. */
#include "app_events.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

#define HOST_EVENTS_MAX_BYTES 65536 /* of one stream, that the application has not taken */
#define CLOSED "{\"type\":\"host.closed\"}"

int as_events_new(as_events **out)
{
	as_events *events = malloc(sizeof(*events));
	if (!events) {
		return AS_ENOMEM;
	}
	event_queue_init(&events->queue);
	*out = events;
	return 0;
}

void as_events_free(as_events *events)
{
	if (events) {
		event_queue_destroy(&events->queue);
		free(events);
	}
}

void as_events_end(as_events *events)
{
	event_queue_end(&events->queue);
}

long as_events_recv(as_events *events, char *text, size_t bytes, int timeout_ms, uint64_t *tag)
{
	return event_queue_take(&events->queue, text, bytes, timeout_ms, tag);
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

typedef struct subscription {
	as_listener listener; /* first: a listener is its subscription */
	event_queue *queue;
	event_source source;
	_Atomic int refs; /* the stream's, and one for each event that waits */
} subscription;

static void retain(void *owner)
{
	atomic_fetch_add(&((subscription *)owner)->refs, 1);
}

static void drop(void *owner)
{
	if (atomic_fetch_sub(&((subscription *)owner)->refs, 1) == 1) {
		free(owner);
	}
}

static int put(as_listener *listener, const char *json, size_t bytes)
{
	subscription *one = (subscription *)listener;
	return event_queue_put(one->queue, &one->source, json, bytes, 0);
}

static void release(as_listener *listener, int closed)
{
	subscription *one = (subscription *)listener;
	if (closed) {
		event_queue_put(one->queue, &one->source, CLOSED, strlen(CLOSED), EVENT_LAST);
	}
	drop(one);
}

int as_stream_subscribe(as_stream *stream, as_events *events, uint64_t tag)
{
	if (!events) {
		return as_stream_listener(stream, NULL);
	}
	subscription *one = malloc(sizeof(*one));
	if (!one) {
		return AS_ENOMEM;
	}
	*one = (subscription){.listener = {put, release}, .queue = &events->queue};
	one->source =
		(event_source){.tag = tag, .max_bytes = HOST_EVENTS_MAX_BYTES, .retain = retain, .release = drop, .owner = one};
	atomic_init(&one->refs, 1);
	int error = as_stream_listener(stream, &one->listener);
	if (error) {
		free(one);
	}
	return error;
}
