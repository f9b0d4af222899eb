/* events.c - the public interface over the queue of events: the application's side. */
#include "events.h"

#include <stdlib.h>

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
