/* Both directions on one time line: where things are placed, and that they stay there. Time is made up. */
#define _GNU_SOURCE

#include <sched.h>

#include "../core/align.c"
#include "support.h"

#define MS 1000000ll
#define DELAY_MS 60
#define START 5000000000ll /* of all time lines here */

/* What has been taken. */
typedef struct taken {
	int16_t *sides[2];
	size_t count, room;
} taken;

static taken taken_new(size_t room)
{
	return (taken){{calloc(room, 2), calloc(room, 2)}, 0, room};
}

static void taken_free(taken *out)
{
	free(out->sides[0]);
	free(out->sides[1]);
}

static void take_all(as_align *line, taken *out, int64_t now_ns)
{
	int16_t near[AS_ALIGN_FRAME_MAX], far[AS_ALIGN_FRAME_MAX];
	for (size_t n; (n = as_align_take(line, near, far, now_ns)) > 0; out->count += n) {
		assert_int_equal(n, FRAME);
		assert_true(out->count + n <= out->room);
		memcpy(out->sides[0] + out->count, near, n * 2);
		memcpy(out->sides[1] + out->count, far, n * 2);
	}
}

/* As both media threads do. first: signal_at() number of the first sample; UINT64_MAX: silence. */
static void put(as_align *line, taken *out, int side, uint64_t first, size_t n, int64_t now_ns)
{
	int16_t *samples = first == UINT64_MAX ? calloc(n, 2) : signal_new(first, n);
	take_all(line, out, now_ns);
	as_align_put(line, side, samples, n, now_ns);
	free(samples);
}

/* Where signal_at(first) is on a side; -1: nowhere. */
static long find(const taken *out, int side, uint64_t first)
{
	for (size_t i = 0; i + 1 < out->count; i++) {
		if (out->sides[side][i] == signal_at(first) && out->sides[side][i + 1] == signal_at(first + 1)) {
			return (long)i;
		}
	}
	return -1;
}

static size_t count_silence(const taken *out, int side, size_t from, size_t to)
{
	size_t zeros = 0;
	for (size_t i = from; i < to; i++) {
		zeros += out->sides[side][i] == 0;
	}
	return zeros;
}

/* 20 ms at a time on both sides, the far one at another phase: to the sample where the clock says, nothing lost. */
static void test_both_sides_lie_where_they_came(void **state)
{
	(void)state;
	for (int phase_ms = 0; phase_ms < 20; phase_ms += 3) {
		as_align *line = as_align_new(RATE, DELAY_MS, START);
		taken out = taken_new(4 * RATE);
		for (int frame = 0; frame < 100; frame++) {
			int64_t now = START + (100 + 20 * frame) * MS;
			put(line, &out, AS_ALIGN_NEAR, (uint64_t)frame * FRAME, FRAME, now);
			put(line, &out, AS_ALIGN_FAR, (uint64_t)frame * FRAME, FRAME, now + phase_ms * MS);
		}
		long near = find(&out, 0, 0), far = find(&out, 1, 0);
		assert_int_equal(near, (100 - 20 + DELAY_MS) * 8); /* the line begins DELAY_MS before */
		assert_int_equal(far - near, phase_ms * 8);
		assert_int_equal(count_silence(&out, 0, (size_t)near, out.count), 0);
		assert_int_equal(count_silence(&out, 1, (size_t)far, out.count), 0);
		taken_free(&out);
		as_align_free(line);
	}
}

/* What is taken is as long as the time that has passed, whatever comes. */
static void test_time_passes_without_audio(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(3 * RATE);
	for (int ms = 0; ms <= 2000; ms += 7) {
		take_all(line, &out, START + ms * MS);
	}
	assert_in_range(out.count, 2 * RATE - FRAME, 2 * RATE);
	assert_int_equal(count_silence(&out, 0, 0, out.count), out.count);
	assert_int_equal(count_silence(&out, 1, 0, out.count), out.count);
	taken_free(&out);
	as_align_free(line);
}

/* A packet late by up to two ticks, and the tick that FreeSWITCH makes up for it: not a sample is missing or doubled. */
static void test_jitter_is_not_heard(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(20 * RATE);
	uint32_t seed = 7;
	int64_t now = 0;
	for (int frame = 0; frame < 800; frame++) {
		int64_t due = START + (100 + 20 * frame) * MS;
		int64_t came = due + (frame % 5 ? (int64_t)random_upto(&seed, 38) * MS : 0);
		now = came > now ? came : now;
		put(line, &out, AS_ALIGN_NEAR, (uint64_t)frame * FRAME, FRAME, now);
	}
	long at = find(&out, 0, 0);
	assert_int_equal(at, (80 + DELAY_MS) * 8);
	for (size_t i = 0; i < 790 * FRAME && at + (long)i < (long)out.count; i++) {
		assert_int_equal(out.sides[0][(size_t)at + i], signal_at(i));
	}
	taken_free(&out);
	as_align_free(line);
}

/* What comes after a pause is where the clock says, and the pause is silence, however long it was. */
static void test_after_a_pause(void **state)
{
	(void)state;
	for (int pause_ms = 80; pause_ms < 4000; pause_ms += pause_ms / 2) {
		as_align *line = as_align_new(RATE, DELAY_MS, START);
		taken out = taken_new(8 * RATE);
		put(line, &out, AS_ALIGN_FAR, 0, FRAME, START + 100 * MS);
		for (int ms = 110; ms < 120 + pause_ms; ms += 10) {
			take_all(line, &out, START + ms * MS);
		}
		put(line, &out, AS_ALIGN_FAR, 1000, FRAME, START + (120 + pause_ms) * MS);
		take_all(line, &out, START + (400 + pause_ms) * MS);
		long first = find(&out, 1, 0), second = find(&out, 1, 1000);
		assert_int_equal(second - first, (20 + pause_ms) * 8);
		assert_int_equal(count_silence(&out, 1, (size_t)first + FRAME, (size_t)second),
						 (size_t)(second - first) - FRAME);
		taken_free(&out);
		as_align_free(line);
	}
}

#define NOWHERE 400

/* How far from `due` the far frame that begins with signal_at(first) is; its first 100 samples may have been left out. */
static int64_t off_by(const taken *out, int64_t due, uint64_t first)
{
	int64_t off = -NOWHERE;
	for (const int16_t *at; off < NOWHERE; off++) {
		at = out->sides[1] + due + off + 100;
		if (at[0] == signal_at(first + 100) && at[1] == signal_at(first + 101)) {
			break;
		}
	}
	return off;
}

/* The far end's clock is off: over ten minutes it stays where it belongs, moved by a few ms at a time. */
static void drift(double speed)
{
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(601 * RATE);
	int64_t ended = START + 600000 * MS;
	uint64_t frames = 0;
	for (int64_t now = START + 100 * MS; now < ended; now += 20 * MS) {
		put(line, &out, AS_ALIGN_NEAR, UINT64_MAX, FRAME, now);
		while ((double)(now - START - 100 * MS) * speed >= (double)frames * 20 * MS) {
			put(line, &out, AS_ALIGN_FAR, frames++ * FRAME, FRAME, now);
		}
	}
	int64_t worst = 0;
	for (uint64_t frame = 50; frame + 50 < frames; frame += 50) {
		/* By its own clock the far end said this frame's first sample then. */
		int64_t due = (int64_t)((double)frame * FRAME / speed) + (80 + DELAY_MS) * 8;
		int64_t off = off_by(&out, due, frame * FRAME);
		if (off == NOWHERE) { /* it has been left out: not the next one, too */
			off = off_by(&out, due + FRAME, (frame + 1) * FRAME);
		}
		worst = llabs(off) > worst ? llabs(off) : worst;
	}
	/* What came was placed up to a tick of ours late to begin with. */
	assert_in_range(worst, 0, (20 + 5) * 8);
	taken_free(&out);
	as_align_free(line);
}

static void test_no_drift(void **state)
{
	(void)state;
	drift(1.0);
	drift(1.0003);
	drift(0.9997);
	drift(1.002);
	drift(0.998);
}

/* A gap shorter than the delay looks like jitter at first; soon it is silence. */
static void test_what_stays_late_is_moved(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(8 * RATE);
	for (int frame = 0; frame < 150; frame++) {
		int64_t now = START + (100 + 20 * frame + (frame >= 50 ? 30 : 0)) * MS;
		put(line, &out, AS_ALIGN_FAR, (uint64_t)frame * FRAME, FRAME, now);
	}
	long first = find(&out, 1, 0), moved = find(&out, 1, 140 * FRAME);
	assert_int_equal(moved - first, 140 * FRAME + 30 * 8);
	taken_free(&out);
	as_align_free(line);
}

/* As said before the call to as_align_put() that places a frame a step of `ms` later. */
static size_t missing_after(as_align *line, int ms)
{
	return as_align_missing(line, AS_ALIGN_NEAR, FRAME, START + (100 + ms) * MS);
}

/* There is room for frames that were lost since the last one, but not before the first, nor after a long pause. */
static void test_room_for_what_was_lost(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(2 * RATE);
	assert_int_equal(missing_after(line, 0), 0);
	put(line, &out, AS_ALIGN_NEAR, 0, FRAME, START + 100 * MS);
	assert_int_equal(missing_after(line, 0), 0);
	assert_int_equal(missing_after(line, 20), 0);
	assert_int_equal(missing_after(line, 60), 2 * FRAME);
	assert_int_equal(as_align_missing(line, AS_ALIGN_FAR, FRAME, START + 160 * MS), 0);
	take_all(line, &out, START + 300 * MS);
	assert_int_equal(missing_after(line, 200), 0);
	taken_free(&out);
	as_align_free(line);
}

/* A side 15 ms too late on the line, as it was placed when the machine stalled: a word is not cut to move it, a pause is,
 * and a word only when no pause comes. */
static void test_moved_in_a_pause(void **state)
{
	(void)state;
	for (int pause = 0; pause <= 1; pause++) {
		as_align *line = as_align_new(RATE, DELAY_MS, START);
		taken out = taken_new(3 * RATE);
		for (uint64_t frame = 0; frame < 100; frame++) {
			int64_t now = START + (100 + 20 * (int64_t)frame + (frame ? 0 : 15)) * MS;
			put(line, &out, AS_ALIGN_NEAR, pause && frame == 20 ? UINT64_MAX : frame * FRAME, FRAME, now);
		}
		long first = find(&out, 0, 0);
		assert_int_equal(find(&out, 0, 19 * FRAME) - first, 19 * FRAME); /* whole, longer than FIRST_WATCH_MS */
		assert_int_equal(find(&out, 0, 21 * FRAME) - first, 21 * FRAME - (pause ? 15 * 8 : 0));
		assert_int_equal(find(&out, 0, 60 * FRAME) - first, 60 * FRAME - 15 * 8);
		taken_free(&out);
		as_align_free(line);
	}
}

/* Somebody who writes without a clock is not let far ahead, and nothing is torn. */
static void test_a_burst(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(4 * RATE);
	for (int frame = 0; frame < 200; frame++) {
		put(line, &out, AS_ALIGN_FAR, (uint64_t)frame * FRAME, FRAME, START + 100 * MS);
	}
	for (int ms = 100; ms < 1000; ms += 10) {
		take_all(line, &out, START + ms * MS);
	}
	long first = find(&out, 1, 0);
	assert_int_equal(first, (80 + DELAY_MS) * 8);
	size_t rest = out.count - (size_t)first;
	assert_in_range(count_silence(&out, 1, (size_t)first, out.count), rest - 8 * (DELAY_MS + 20), rest - FRAME);
	put(line, &out, AS_ALIGN_FAR, 20000, FRAME, START + 1000 * MS);
	take_all(line, &out, START + 1200 * MS);
	assert_int_equal(find(&out, 1, 20000), (980 + DELAY_MS) * 8);
	taken_free(&out);
	as_align_free(line);
}

/* Neither direction moves for long (the call is on hold): that time is left out, and both go on together. */
static void test_a_standstill(void **state)
{
	(void)state;
	as_align *line = as_align_new(RATE, DELAY_MS, START);
	taken out = taken_new(20 * RATE);
	for (int frame = 0; frame < 100; frame++) {
		int64_t now = START + (100 + 20 * frame + (frame >= 50 ? 60000 : 0)) * MS;
		put(line, &out, AS_ALIGN_NEAR, (uint64_t)frame * FRAME, FRAME, now);
		put(line, &out, AS_ALIGN_FAR, (uint64_t)frame * FRAME, FRAME, now);
	}
	assert_in_range(out.count, 0, 8 * RATE);
	assert_true(find(&out, 0, 51 * FRAME) > 0);
	assert_int_equal(find(&out, 0, 51 * FRAME), find(&out, 1, 51 * FRAME));
	taken_free(&out);
	as_align_free(line);
}

/* ---- Three threads ------------------------------------------------------------------------------------------------ */

#define AHEAD_MS 5 /* of one thread before the other, at most: the machine's load is no matter */
#define RUN_MS 1000

typedef struct run {
	as_align *line;
	_Atomic int taking, at_ms[2];
	taken out;
} run;

static void take_in_turn(run *r, int64_t now_ns)
{
	if (!atomic_exchange_explicit(&r->taking, 1, memory_order_acquire)) {
		take_all(r->line, &r->out, now_ns);
		atomic_store_explicit(&r->taking, 0, memory_order_release);
	}
}

static void *put_often(void *arg)
{
	run *r = ((void **)arg)[0];
	int side = ((void **)arg)[1] != NULL;
	for (int ms = 0; ms < RUN_MS; ms++) {
		int16_t *samples = signal_new((uint64_t)ms * 8, 8);
		atomic_store(&r->at_ms[side], ms);
		while (atomic_load(&r->at_ms[!side]) + AHEAD_MS < ms) {
			sched_yield();
		}
		take_in_turn(r, START + ms * MS);
		as_align_put(r->line, side, samples, 8, START + ms * MS);
		free(samples);
	}
	atomic_store(&r->at_ms[side], RUN_MS);
	return NULL;
}

static void test_two_threads_put_and_both_take(void **state)
{
	(void)state;
	run r = {.line = as_align_new(RATE, DELAY_MS, START), .out = taken_new(10 * RATE)};
	void *near[] = {&r, NULL}, *far[] = {&r, &r};
	pthread_t threads[2];
	pthread_create(&threads[0], NULL, put_often, near);
	pthread_create(&threads[1], NULL, put_often, far);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_in_range(r.out.count, 800 * 8, RUN_MS * 8);
	for (int side = 0; side < 2; side++) {
		size_t silent = count_silence(&r.out, side, 0, r.out.count);
		assert_true(silent < r.out.count / 4);
	}
	taken_free(&r.out);
	as_align_free(r.line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_sides_lie_where_they_came),
		cmocka_unit_test(test_time_passes_without_audio),
		cmocka_unit_test(test_jitter_is_not_heard),
		cmocka_unit_test(test_after_a_pause),
		cmocka_unit_test(test_no_drift),
		cmocka_unit_test(test_what_stays_late_is_moved),
		cmocka_unit_test(test_room_for_what_was_lost),
		cmocka_unit_test(test_moved_in_a_pause),
		cmocka_unit_test(test_a_burst),
		cmocka_unit_test(test_a_standstill),
		cmocka_unit_test(test_two_threads_put_and_both_take),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
