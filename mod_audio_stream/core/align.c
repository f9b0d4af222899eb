/* align.c - see audio_stream_align.h */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream_align.h"

#define TOLERANCE_MS 5     /* a direction may be off by */
#define WATCH_MS 500       /* before it is moved, */
#define FIRST_WATCH_MS 100 /* and when it has just been placed by the clock */
#define PATIENCE_MS 500    /* for a pause in what is said, to move it by a block at most there */
#define QUIET_PEAK 328     /* -40 dBFS */
#define STANDSTILL_S 5     /* when neither direction has moved for so long, the time until then is left out */
#define CAPACITY_MS 300    /* beside the delay */

typedef struct align_side {
	int16_t *ring;
	int begun;            /* something has been put */
	int placed;           /* by the clock, just now */
	int64_t least;        /* samples: the least late block so far */
	int64_t left;         /* samples to be put until we have seen enough of them */
	_Atomic uint64_t end; /* publishes the ring up to here; the thread that puts */
} align_side;

struct as_align {
	int rate_hz;
	int64_t origin_ns; /* of position 0 */
	uint64_t frame, delay, capacity, mask;
	align_side sides[2];
	_Atomic uint64_t
		taken; /* publishes that the rings before it are free, and that it is too late to put anything there */
};

static uint64_t samples_of(const as_align *line, int ms)
{
	return (uint64_t)line->rate_hz * (uint64_t)ms / 1000;
}

static uint64_t position(const as_align *line, int64_t now_ns)
{
	uint64_t ns = now_ns > line->origin_ns ? (uint64_t)(now_ns - line->origin_ns) : 0, hz = (uint64_t)line->rate_hz;
	return ns / 1000000000 * hz + ns % 1000000000 * hz / 1000000000;
}

as_align *as_align_new(int rate_hz, int delay_ms, int64_t now_ns)
{
	as_align *line = calloc(1, sizeof(*line));
	if (!line) {
		return NULL;
	}
	line->rate_hz = rate_hz;
	line->frame = samples_of(line, AS_ALIGN_FRAME_MS);
	line->delay = samples_of(line, delay_ms);
	line->origin_ns = now_ns - (int64_t)delay_ms * 1000000; /* the first block began before now */
	for (line->capacity = 1; line->capacity < line->delay + samples_of(line, CAPACITY_MS); line->capacity <<= 1) {
	}
	line->mask = line->capacity - 1;
	for (int side = 0; side < 2; side++) {
		line->sides[side].ring = calloc(line->capacity, sizeof(int16_t));
	}
	if (!line->sides[0].ring || !line->sides[1].ring) {
		as_align_free(line);
		return NULL;
	}
	return line;
}

void as_align_free(as_align *line)
{
	if (line) {
		free(line->sides[0].ring);
		free(line->sides[1].ring);
		free(line);
	}
}

/* ---- The thread that puts ---------------------------------------------------------------------------------------- */

/* samples NULL: silence. */
static void store(as_align *line, align_side *side, uint64_t at, const int16_t *samples, uint64_t n)
{
	for (uint64_t done = 0, part; done < n; done += part) {
		uint64_t offset = (at + done) & line->mask;
		part = line->capacity - offset < n - done ? line->capacity - offset : n - done;
		if (samples) {
			memcpy(side->ring + offset, samples + done, part * sizeof(int16_t));
		} else {
			memset(side->ring + offset, 0, part * sizeof(int16_t));
		}
	}
}

/* Looks for the least late block from now on. */
static void watch(const as_align *line, align_side *side, int placed)
{
	side->placed = placed;
	side->least = INT64_MAX;
	side->left = (int64_t)samples_of(line, placed ? FIRST_WATCH_MS : WATCH_MS);
}

static int quiet(const int16_t *samples, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (samples[i] > QUIET_PEAK || samples[i] < -QUIET_PEAK) {
			return 0;
		}
	}
	return 1;
}

/* How far the direction is to be moved before a block, in samples: later (more than 0), earlier (less), or not. */
static int64_t correction(as_align *line, align_side *side, int64_t late, const int16_t *samples, uint64_t n)
{
	int64_t tolerance = (int64_t)samples_of(line, TOLERANCE_MS), most = (int64_t)n;
	side->least = late < side->least ? late : side->least;
	side->left -= most;
	if (side->left > 0) {
		return 0;
	}
	int64_t off = side->least;
	/* Just placed, it is too soon to tell lateness from jitter; but nothing makes a block early. */
	if (off >= -tolerance && (off <= tolerance || side->placed)) {
		watch(line, side, 0);
		return 0;
	}
	if (off >= -most && off <= most && !quiet(samples, n) && side->left > -(int64_t)samples_of(line, PATIENCE_MS)) {
		return 0; /* not in a word, for so little */
	}
	watch(line, side, 0);
	return off > most ? most : off < -most ? -most : off;
}

size_t as_align_missing(const as_align *line, int which, size_t n, int64_t now_ns)
{
	const align_side *side = &line->sides[which];
	uint64_t end = atomic_load_explicit(&side->end, memory_order_relaxed), now = position(line, now_ns);
	uint64_t taken = atomic_load_explicit(&line->taken, memory_order_relaxed);
	return side->begun && end >= taken && now > end + n ? (size_t)(now - end - n) : 0;
}

void as_align_put(as_align *line, int which, const int16_t *samples, size_t n, int64_t now_ns)
{
	align_side *side = &line->sides[which];
	uint64_t end = atomic_load_explicit(&side->end, memory_order_relaxed), at = end;
	uint64_t taken = atomic_load_explicit(&line->taken, memory_order_acquire); /* the rings before it are free */
	uint64_t now = position(line, now_ns);
	int64_t late = (int64_t)(now - end - n);
	if (!side->begun || end < taken) {
		side->begun = 1;
		at = now > taken + n ? now - n : taken;
		watch(line, side, 1);
	} else {
		int64_t move = correction(line, side, late, samples, n);
		if (move < 0) {
			samples -= move;
			n -= (size_t)-move;
		} else {
			at += (uint64_t)move;
		}
	}
	if (late < -(int64_t)line->delay || at + n > taken + line->capacity) {
		return; /* far too early: whoever writes like this is not heard like this either */
	}
	uint64_t from = end > taken ? end : taken;
	if (at > from) {
		store(line, side, from, NULL, at - from);
	}
	store(line, side, at, samples, n);
	atomic_store_explicit(&side->end, at + n, memory_order_release); /* the ring up to here */
}

/* ---- The thread that takes --------------------------------------------------------------------------------------- */

static void copy(const as_align *line, const align_side *side, uint64_t from, int16_t *out)
{
	uint64_t end = atomic_load_explicit(&side->end, memory_order_acquire); /* the ring before it is written */
	uint64_t n = end <= from ? 0 : end - from < line->frame ? end - from : line->frame;
	uint64_t offset = from & line->mask;
	uint64_t first = line->capacity - offset < n ? line->capacity - offset : n;
	memcpy(out, side->ring + offset, first * sizeof(int16_t));
	memcpy(out + first, side->ring, (n - first) * sizeof(int16_t));
	memset(out + n, 0, (line->frame - n) * sizeof(int16_t));
}

size_t as_align_take(as_align *line, int16_t *near, int16_t *far, int64_t now_ns)
{
	uint64_t now = position(line, now_ns), taken = atomic_load_explicit(&line->taken, memory_order_relaxed);
	if (now < taken + line->frame + line->delay) {
		return 0;
	}
	if (now - taken > line->delay + (uint64_t)line->rate_hz * STANDSTILL_S) {
		taken = now - line->delay - line->frame;
	}
	copy(line, &line->sides[AS_ALIGN_NEAR], taken, near);
	copy(line, &line->sides[AS_ALIGN_FAR], taken, far);
	/* release: we have read the rings before it */
	atomic_store_explicit(&line->taken, taken + line->frame, memory_order_release);
	return (size_t)line->frame;
}

int64_t as_align_held_ns(const as_align *line)
{
	return (int64_t)((line->delay + line->frame) * 1000000000 / (uint64_t)line->rate_hz);
}
