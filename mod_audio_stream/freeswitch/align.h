/*
 * align.h - both directions of a call on one time line, for streams that carry both. No FreeSWITCH.
 *
 *     thread that reads   align_put(ALIGN_NEAR) ─┐
 *                                                ├─ two rings, by time ─▶ align_take(): a frame of each, some ms late
 *     thread that writes  align_put(ALIGN_FAR)  ─┘
 *
 * A position is a number of samples since the beginning, by the clock. What comes at a moment ends at that moment's
 * position; what comes after it is put behind it, whatever its own moment, so jitter shorter than the delay is not heard.
 * Only when a direction has been silent, or comes too late to be taken, is it placed by the clock again.
 *
 * No drift. The clocks at both ends of a call differ, packets get lost, and FreeSWITCH sometimes reads a packet early to
 * catch up. So each direction is watched: jitter only ever makes a block late, so the least late one of half a second
 * shows where the direction stands. When that is off by more than a few ms, the direction is moved by it, by a block at
 * most: silence is put in, or the beginning of a block is left out. A move of less than a block waits for a pause in what
 * is said, if one comes soon. As long as either direction moves, what is taken is as long as the time that has passed.
 *
 * Neither locks, allocates or waits.
 */
#ifndef ALIGN_H
#define ALIGN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ALIGN_NEAR 0 /* what the caller says */
#define ALIGN_FAR 1  /* what the caller hears */

#define ALIGN_FRAME_MS 20
#define ALIGN_FRAME_MAX 960 /* samples of it at 48 kHz */

typedef struct align_side {
	int16_t *ring;
	int begun;            /* something has been put */
	int placed;           /* by the clock, just now */
	int64_t least;        /* samples: the least late block so far */
	int64_t left;         /* samples to be put until we have seen enough of them */
	_Atomic uint64_t end; /* publishes the ring up to here; the thread that puts */
} align_side;

typedef struct align {
	int rate_hz;
	int64_t origin_ns; /* of position 0 */
	uint64_t frame, delay, capacity, mask;
	align_side sides[2];
	_Atomic uint64_t
		taken; /* publishes that the rings before it are free, and that it is too late to put anything there */
} align;

/* delay_ms must be more than any block lasts. Returns NULL without memory. */
align *align_new(int rate_hz, int delay_ms, int64_t now_ns);
void align_free(align *line);
/* Any thread, one at a time for each side. n samples that came just now. */
void align_put(align *line, int side, const int16_t *samples, size_t n, int64_t now_ns);
/* The thread that puts. How many samples there is room for on a side before n that come just now: time in which nothing
 * came. 0 where the clock will place it, and what is missing is silence. */
size_t align_missing(const align *line, int side, size_t n, int64_t now_ns);
/* Any thread, one at a time. A frame of each side, of up to ALIGN_FRAME_MAX samples; returns how many, 0 when it is not
 * time yet. To be called until then, by every thread that puts, just before it does. */
size_t align_take(align *line, int16_t *near, int16_t *far, int64_t now_ns);

#endif
