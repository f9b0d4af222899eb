/*
 * audio_stream_align.h - both directions of a call on one time line, for hosts and streams that carry both.
 *
 *     thread that reads   as_align_put(AS_ALIGN_NEAR) ─┐
 *                                                      ├─ two rings, by time ─▶ as_align_take(): a frame of each, late
 *     thread that writes  as_align_put(AS_ALIGN_FAR)  ─┘
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
#ifndef AUDIO_STREAM_ALIGN_H
#define AUDIO_STREAM_ALIGN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* cffi: begin */

#define AS_ALIGN_NEAR 0 /* what the caller says */
#define AS_ALIGN_FAR 1  /* what the caller hears */

#define AS_ALIGN_FRAME_MS 20
#define AS_ALIGN_FRAME_MAX 960 /* samples of it at 48 kHz */

typedef struct as_align as_align;

/* delay_ms must be more than any block lasts. Returns NULL without memory. */
as_align *as_align_new(int rate_hz, int delay_ms, int64_t now_ns);
void as_align_free(as_align *line);
/* Any thread, one at a time for each side. n samples that came just now. */
void as_align_put(as_align *line, int side, const int16_t *samples, size_t n, int64_t now_ns);
/* The thread that puts. How many samples there is room for on a side before n that come just now: time in which nothing
 * came. 0 where the clock will place it, and what is missing is silence. */
size_t as_align_missing(const as_align *line, int side, size_t n, int64_t now_ns);
/* Any thread, one at a time. A frame of each side, of up to AS_ALIGN_FRAME_MAX samples; returns how many, 0 when it is not
 * time yet. To be called until then, by every thread that puts, just before it does. */
size_t as_align_take(as_align *line, int16_t *near, int16_t *far, int64_t now_ns);
/* How long after it came the last sample can be taken. */
int64_t as_align_held_ns(const as_align *line);

/* cffi: end */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
