/* app_events.h - inside of an as_events, for those that put events into it. */
#ifndef STREAM_APP_EVENTS_H
#define STREAM_APP_EVENTS_H

#include "audio_stream_ws.h"
#include "event_queue.h"

struct as_events {
	event_queue queue;
};

#endif
