/* stream.h - inside of an as_stream, for stream*.c, registry.c and those that put a listener into it. */
#ifndef AS_STREAM_H
#define AS_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "audio_stream.h"
#include "capture_spsc.h"
#include "convert.h"
#include "inject_spsc.h"
#include "marks.h"

/* Who has subscribed to what the host sees. */
typedef struct as_listener {
	/* Any thread, under the stream's lock `telling`: takes a copy and does not wait. 0, AS_EFULL, AS_ENOMEM. */
	int (*put)(struct as_listener *listener, const char *json, size_t bytes);
	/* The stream has no use for it any more; closed: because it has been closed. */
	void (*release)(struct as_listener *listener, int closed);
} as_listener;

struct as_stream {
	char uuid[AS_NAME_MAX];
	char id[AS_NAME_MAX];
	as_config config;
	_Atomic int refs;
	_Atomic int closed;
	_Atomic int capture_paused;
	struct as_stream *next; /* registry's chain, under the registry's lock */
	int registered;         /* registry's lock */

	as_capture capture;
	pthread_mutex_t reader; /* one reader at a time; guards the reader's format */
	int reader_encoding, reader_rate_hz;
	as_convert *reader_convert;

	as_inject inject;
	pthread_mutex_t
		writer; /* serialises the application's side of inject: everything below, and the queue's producer end */
	as_marks marks;
	as_convert *writer_convert;
	uint64_t writer_mark; /* whose tail is in writer_convert and writer_odd */
	int writer_open;      /* writer_mark is valid */
	int writer_has_odd;
	uint8_t writer_odd; /* first byte of a sample that a write ended in */
	_Atomic uint32_t generation;
	uint64_t full_writes, full_bytes, stale_writes, stale_bytes, flushes;

	pthread_mutex_t telling; /* what follows; after the registry's lock */
	as_listener *listener;
	uint64_t told, untold;
};

static inline int as_in_range(int value, int least, int most)
{
	return value >= least && value <= most;
}

/* At the host's rate, per channel. */
static inline uint32_t as_samples_of(const as_config *config, int ms)
{
	return (uint32_t)((int64_t)config->rate_hz * ms / 1000);
}

/* stream_tell.c */

/* NULL unsubscribes. AS_EEXIST, AS_ECLOSED. */
int as_stream_listener(as_stream *stream, as_listener *listener);
void as_stream_forget_listener(as_stream *stream);
void as_stream_told(as_stream *stream, as_stats *out);

/* registry.c */
int as_registry_add(as_stream *stream);
void as_registry_remove(as_stream *stream);

#endif
