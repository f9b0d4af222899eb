/*
 * capture_spsc.h - the capture ring: one producer (the media thread that reads the caller), one consumer (the reader).
 *
 * Positions only grow; data lies at (position + shift) mod capacity. Whenever the producer finds the ring empty it moves
 * `shift` so that it writes at the start again: while the reader keeps up, a ring of 30 s touches a page or two.
 *
 * Everything counts samples per channel. Of interleaved stereo a sample is a pair, and is stored, lost and read as one.
 */
#ifndef AS_CAPTURE_SPSC_H
#define AS_CAPTURE_SPSC_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "activity.h"
#include "audio_stream.h"
#include "seqlock.h"

typedef struct as_capture {
	int16_t *data; /* mapped, zero pages until touched */
	uint64_t capacity, mask;
	size_t map_bytes;
	uint32_t channels;

	/* Producer's line. */
	_Alignas(64) _Atomic uint64_t written; /* publishes data up to here, and shift */
	uint64_t shift;       /* producer; the consumer reads it while written > read, when it cannot move */
	as_activity activity; /* producer */
	as_seq seq;           /* guards the counters below, all written by the producer */
	_Atomic uint64_t dropped, overruns, paused_samples, ticks, active_end;
	_Atomic int64_t last_ns;

	/* Consumer's line. */
	_Alignas(64) _Atomic uint64_t read; /* publishes that data before it may be overwritten */
	_Atomic uint64_t taken, discarded;  /* of which the reader has had, and not had; counts, they publish nothing */

	/* How much the reader waits for, in samples; set by as_capture_setup(), read by the producer. */
	_Alignas(64) _Atomic uint32_t chunk, quiet_chunk, hang;
	_Atomic int waiting; /* the reader sleeps on wake and wants a post; whoever swaps it to 0 posts */
	_Atomic int closed;
	sem_t wake;
} as_capture;

int as_capture_init(as_capture *ring, int rate_hz, int channels, int capacity_ms);
void as_capture_destroy(as_capture *ring);

/* Media thread. Stores what fits, wakes the reader if it now has a chunk. */
size_t as_capture_put(as_capture *ring, const int16_t *samples, size_t n, int64_t now_ns);
/* Media thread. Counts samples that were not stored because capture is paused. */
void as_capture_skip(as_capture *ring, size_t n, int64_t now_ns);

/* Reader. Whether a chunk is there: samples ready, 0 when there is none, AS_ECLOSED when closed and empty. */
long as_capture_poll(as_capture *ring);
/* Reader. Waits until a chunk is there; as as_capture_poll(), 0 after the deadline. */
long as_capture_await(as_capture *ring, int64_t deadline_ns);
/* Reader. The longest contiguous run of ready samples; valid until as_capture_take(). */
size_t as_capture_peek(as_capture *ring, const int16_t **samples);
/* Reader. Is done with the first n of them. */
void as_capture_take(as_capture *ring, size_t n);
/* Reader. Drops the oldest until `keep` are left; returns how many. */
size_t as_capture_drop(as_capture *ring, size_t keep);

/* Any thread. Samples waiting, whether they make a chunk or not; AS_ECLOSED when closed and empty. */
long as_capture_waiting(as_capture *ring);
/* Any thread. Lets the reader finish what is there and wakes it. */
void as_capture_close(as_capture *ring);
/* Any thread. */
void as_capture_counters(as_capture *ring, as_stats *out);

#endif
