/* events.h - inside of an as_events, for those that put events into it. */
#ifndef WS_EVENTS_H
#define WS_EVENTS_H

#include "audio_stream_ws.h"
#include "event_queue.h"

struct as_events {
	event_queue queue;
};

#endif
