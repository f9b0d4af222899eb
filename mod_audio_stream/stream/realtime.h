/* realtime.h - inside of an as_realtime, for realtime.c (the service thread) and realtime_api.c (everybody else). */
#ifndef STREAM_REALTIME_H
#define STREAM_REALTIME_H

#include <pthread.h>
#include <stdatomic.h>

#include "app_events.h"
#include "loop.h"
#include "realtime_audio.h"

#define RT_HEADERS_MAX 32
#define RT_COMPLAINTS 5 /* kinds: malformed, base64, full, memory, and what may come */

struct as_realtime {
	_Atomic int users; /* the application's references: with the last one the connection goes */
	_Atomic int refs;  /* keep the memory: one for all users, one of the actor's, one for each event that waits */
	ws_actor *actor;
	/* Set before the actor starts. */
	ws_options options;
	char *strings; /* what options and headers point into */
	size_t strings_bytes;
	const char *headers[RT_HEADERS_MAX + 1];
	const char *events; /* in strings: wanted, each with "\n" before and after it; NULL: all */
	int uplink_max_ms;
	/* The lock around reading the stream's capture. */
	pthread_mutex_t uplink_lock;
	unsigned unlistens; /* as_realtime_unlisten() has been called so often: a listen() of before is void */
	/* The lock; held while audio is converted, so never by who must be quick. It comes before the queue's and the
	 * stream's. Counters, and what pump() uses, are the service thread's without it. */
	pthread_mutex_t audio_lock;
	rt_audio audio;
	/* Service thread. */
	int hearing; /* the server says that the caller speaks */
	int closing;
	struct {
		const char *about; /* a literal */
		int64_t last_ns;
	} complaints[RT_COMPLAINTS];
	int nonsense; /* messages that could not be used since nonsense_ns */
	int64_t nonsense_ns;
	event_queue *queue;  /* the application's */
	event_source source; /* us, in it */
	/* Everybody, under the lock. */
	pthread_mutex_t lock;
	int attached; /* as_realtime_attach() has been called */
	as_realtime_info info;
};

#endif
