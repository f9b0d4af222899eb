/* What the caller hears of a flush, and that the counts it reports are exactly that. */
#define _GNU_SOURCE
#include "inject_spsc.h"
#include "support.h"

#define FADE 80 /* samples in 10 ms at RATE */

/* A flush and what it said: at most 8 marks. */
typedef struct flushed {
	long generation;
	as_mark marks[8];
	int count;
} flushed;

static flushed flush(as_stream *stream)
{
	flushed f;
	f.generation = as_inject_flush(stream, f.marks, COUNT(f.marks), &f.count);
	assert_true(f.generation > 0);
	assert_int_equal(f.generation, as_inject_generation(stream));
	for (int i = 0; i < f.count; i++) {
		assert_int_equal(f.marks[i].flags, AS_MARK_ENDED | AS_MARK_FLUSHED);
		assert_int_equal(f.marks[i].finished_ns, 0);
	}
	return f;
}

/* Flushes while a single mark is there and expects it to be cut short after `played` samples. */
static void flush_expect(as_stream *stream, uint64_t mark, uint64_t played)
{
	flushed f = flush(stream);
	assert_int_equal(f.count, 1);
	assert_int_equal(f.marks[0].id, mark);
	assert_int_equal(f.marks[0].played, played);
	as_mark now = mark_of(stream, mark);
	assert_int_equal(now.played, played);
	assert_int_equal(now.flags, AS_MARK_ENDED | AS_MARK_FLUSHED);
}

/* ---- Each phase -------------------------------------------------------------------------------------------------- */

static void test_nothing_there(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_inject_generation(stream), 1);
	flushed f = flush(stream);
	assert_int_equal(f.count, 0);
	assert_int_equal(f.generation, 2);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 1, 0, 10);
	tick_expect(stream, FRAME, 0, 10);
	assert_int_equal(stats_of(stream).inject_flushes, 1);
	assert_int_equal(stats_of(stream).inject_generation, 2);
	done(stream);
}

static void test_before_the_first_tick(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	flush_expect(stream, 1, 0);
	assert_int_equal(stats_of(stream).inject_queued_samples, 0);
	tick_left_alone(stream, FRAME);
	assert_int_equal(stats_of(stream).inject_flushed_samples, 1000);
	assert_int_equal(mark_of(stream, 1).started_ns, 0);
	done(stream);
}

static void test_while_prebuffering(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 200});
	inject_signal(stream, 1, 0, 1000);
	for (int i = 0; i < 9; i++) {
		tick_left_alone(stream, FRAME);
	}
	flush_expect(stream, 1, 0);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 2, 0, 1599);
	for (int i = 0; i < 9; i++) { /* the next utterance prebuffers from the beginning */
		tick_left_alone(stream, FRAME);
	}
	inject_signal(stream, 2, 1599, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	done(stream);
}

static void test_while_playing(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	tick_expect(stream, FRAME, FRAME, FRAME);
	flush_expect(stream, 1, 2 * FRAME + FADE);
	assert_int_equal(stats_of(stream).inject_queued_samples, 0);
	tick_expect_fade(stream, FRAME, 2 * FRAME, FADE);
	tick_left_alone(stream, FRAME);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.inject_played_samples, 2 * FRAME + FADE);
	assert_int_equal(stats.inject_flushed_samples, 1000 - 2 * FRAME - FADE);
	assert_int_equal(stats.inject_written_samples, 1000);
	assert_int_equal(stats.inject_underruns, 0);
	assert_int_equal(stats.inject_playing, 0);
	assert_int_equal(mark_of(stream, 1).played, 2 * FRAME + FADE);
	done(stream);
}

static void test_near_the_end(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME + 30);
	tick_expect(stream, FRAME, 0, FRAME);
	flush_expect(stream, 1, FRAME + 30); /* all of it, but it had not been ended */
	tick_expect_fade(stream, FRAME, FRAME, 30);
	tick_left_alone(stream, FRAME);
	done(stream);
}

static void test_the_fade_finishes_an_ended_mark(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME + 30);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(flush(stream).count, 0);
	assert_int_equal(mark_of(stream, 1).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	tick_expect_fade(stream, FRAME, FRAME, 30);
	done(stream);
}

static void test_at_the_end(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME); /* all played, still "playing": no tick has found the queue empty */
	tick_expect(stream, FRAME, 0, FRAME);
	flush_expect(stream, 1, FRAME);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 2, 0, 100);
	as_inject_end(stream, 2);
	tick_expect(stream, FRAME, 0, 100);
	assert_int_equal(flush(stream).count, 0); /* finished marks were not cut short */
	tick_left_alone(stream, FRAME);
	assert_int_equal(mark_of(stream, 2).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	done(stream);
}

static void test_in_an_underrun(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 40});
	inject_signal(stream, 1, 0, 400);
	for (int i = 0; i < 3; i++) {
		tick_expect(stream, FRAME, (uint64_t)i * FRAME, i < 2 ? FRAME : 80);
	}
	inject_signal(stream, 1, 400, 100); /* waits to be primed again */
	flush_expect(stream, 1, 400);
	inject_signal(stream, 2, 0, 100);
	tick_left_alone(stream, FRAME);
	tick_left_alone(stream, FRAME); /* what is waited for now is a beginning, no longer the rest of something */
	assert_int_equal(stats_of(stream).inject_underruns, 0); /* cut before it went on */
	assert_int_equal(stats_of(stream).inject_underrun_samples, 80);
	assert_int_equal(stats_of(stream).inject_flushed_samples, 100);
	done(stream);
}

static void test_paused(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_pause(stream, AS_INJECT);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	flush_expect(stream, 1, FRAME + FADE);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 2, 0, FRAME);
	tick_left_alone(stream, FRAME);
	as_stream_resume(stream, AS_INJECT);
	tick_expect(stream, FRAME, 0, FRAME);
	done(stream);
}

static void test_paused_but_not_yet_noticed(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_pause(stream, AS_INJECT);
	flush_expect(stream, 1, FRAME + FADE);
	as_stream_resume(stream, AS_INJECT);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	tick_left_alone(stream, FRAME);
	done(stream);
}

/* The host of a closed stream plays nothing more, so not even a fade is heard. */
static void test_closed(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_close(stream);
	tick_left_alone(stream, FRAME);
	flush_expect(stream, 1, FRAME);
	as_stream_unref(stream);
}

static void test_flushed_and_heard_then_closed(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	flush_expect(stream, 1, FRAME + FADE);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	as_stream_close(stream);
	assert_int_equal(flush(stream).count, 0);
	assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
	as_stream_unref(stream);
}

/* ---- Several marks, several flushes ------------------------------------------------------------------------------ */

static void test_marks_are_reported_oldest_first(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	as_mark one;
	int count;
	inject_signal(stream, 10, 0, 100); /* will have been played */
	as_inject_end(stream, 10);
	inject_signal(stream, 7, 100, 100); /* will end inside the fade */
	as_inject_end(stream, 7);
	inject_signal(stream, 9, 200, 500); /* never heard */
	assert_int_equal(as_inject_write(stream, 8, 0, AS_S16, RATE, NULL, 0), 0);
	tick_expect(stream, FRAME, 0, FRAME);
	flushed f = flush(stream);
	assert_int_equal(f.count, 2);
	assert_int_equal(mark_of(stream, 7).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	assert_int_equal(f.marks[0].id, 9);
	assert_int_equal(f.marks[0].written, 500);
	assert_int_equal(f.marks[0].played, FRAME + FADE - 200);
	assert_int_equal(f.marks[1].id, 8);
	assert_int_equal(f.marks[1].written + f.marks[1].played, 0);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	inject_signal(stream, 1, 0, 10);
	inject_signal(stream, 2, 0, 10);
	as_inject_flush(stream, &one, 1, &count); /* no room for all: still told how many */
	assert_int_equal(count, 2);
	assert_int_equal(one.id, 1);
	done(stream);
}

static void test_twice_in_a_row(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	flush_expect(stream, 1, FRAME + FADE);
	assert_int_equal(flush(stream).count, 0); /* the host has not ticked in between */
	assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	assert_int_equal(flush(stream).count, 0); /* and now it has */
	tick_left_alone(stream, FRAME);
	assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
	assert_int_equal(as_inject_generation(stream), 4);
	done(stream);
}

static void test_new_audio_at_once(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	flush_expect(stream, 1, FRAME + FADE);
	inject_signal(stream, 2, 5000, 300);
	as_inject_end(stream, 2);
	tick_expect_fade(stream, FRAME, FRAME, FADE);
	tick_expect(stream, FRAME, 5000, FRAME);
	tick_expect(stream, FRAME, 5000 + FRAME, 300 - FRAME);
	assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
	assert_int_equal(mark_of(stream, 2).played, 300);
	done(stream);
}

/* New audio between two flushes that the host notices together: if the old audio is shorter than the fade, the new
 * one's first samples are in it, and counted. */
static void test_two_flushes_in_one_tick(void **state)
{
	(void)state;
	for (int left = 0; left <= 200; left += 40) {
		as_stream *stream = open_plain();
		int16_t frame[FRAME];
		inject_signal(stream, 1, 0, (size_t)(FRAME + left));
		tick_expect(stream, FRAME, 0, FRAME);
		uint64_t first = (uint64_t)(left < FADE ? left : FADE);
		flush_expect(stream, 1, FRAME + first);
		inject_signal(stream, 2, 0, 400);
		flush_expect(stream, 2, FADE - first);
		assert_true(tick(stream, frame, FRAME) > 0);
		tick_left_alone(stream, FRAME);
		assert_int_equal(stats_of(stream).inject_played_samples, FRAME + FADE);
		assert_int_equal(stats_of(stream).inject_flushed_samples, left + 400 - FADE);
		done(stream);
	}
}

static void test_late_audio_of_a_flushed_generation_is_dropped(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t *late = signal_new(9000, 100);
	uint32_t old = as_inject_generation(stream);
	assert_int_equal(as_inject_write(stream, 1, old, AS_S16, RATE, late, 200), 200);
	flushed f = flush(stream);
	assert_int_equal(f.generation, old + 1);
	assert_int_equal(as_inject_write(stream, 1, old, AS_S16, RATE, late, 200), AS_ESTALE);
	assert_int_equal(as_inject_write(stream, 1, old + 2, AS_S16, RATE, late, 199), AS_ESTALE);
	assert_int_equal(mark_of(stream, 1).written, 100);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.inject_stale_writes, 2);
	assert_int_equal(stats.inject_stale_bytes, 399);
	assert_int_equal(stats.inject_written_samples, 100);
	tick_left_alone(stream, FRAME);
	assert_int_equal(as_inject_write(stream, 2, (uint32_t)f.generation, AS_S16, RATE, late, 200), 200);
	tick_expect(stream, FRAME, 9000, 100);
	free(late);
	done(stream);
}

/* What the resampler and half a sample still hold goes with the rest. */
static void test_nothing_is_left_in_the_resampler(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t *loud = signal_new(0, 2400), quiet[241] = {0}, frame[FRAME];
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, loud, 4799), 4799);
	flush(stream);
	tick_left_alone(stream, FRAME);
	assert_int_equal(as_inject_write(stream, 2, 0, AS_S16, 24000, quiet, 480), 480);
	as_inject_end(stream, 2);
	assert_int_equal(mark_of(stream, 2).written, 80);
	assert_int_equal(tick(stream, frame, FRAME), 0);
	tick_left_alone(stream, FRAME);
	free(loud);
	done(stream);
}

/* ---- The fade ---------------------------------------------------------------------------------------------------- */

static void test_fade_lengths(void **state)
{
	(void)state;
	static const as_config configs[] = {
		{.rate_hz = 8000, .frame_ms = 10},
		{.rate_hz = 8000, .frame_ms = 30},
		{.rate_hz = 16000, .frame_ms = 20},
		{.rate_hz = 48000, .frame_ms = 40},
		{.rate_hz = 8000, .frame_ms = 20, .fade_ms = 1},
		{.rate_hz = 8000, .frame_ms = 20, .fade_ms = 20},
		{.rate_hz = 8000, .frame_ms = 20, .fade_ms = 100}, /* no longer than a frame */
	};
	for (size_t i = 0; i < COUNT(configs); i++) {
		int frame_ms = configs[i].frame_ms, fade_ms = configs[i].fade_ms ? configs[i].fade_ms : 10;
		size_t frame = (size_t)(configs[i].rate_hz * frame_ms / 1000);
		size_t fade = (size_t)(configs[i].rate_hz * (fade_ms < frame_ms ? fade_ms : frame_ms) / 1000);
		as_stream *stream = open_config(configs[i]);
		inject_signal(stream, 1, 0, 20000);
		tick_expect(stream, frame, 0, frame);
		flush_expect(stream, 1, frame + fade);
		tick_expect_fade(stream, frame, frame, fade);
		tick_left_alone(stream, frame);
		done(stream);
	}
}

/* No click: nowhere a step larger than the tone's own plus the fade's steepest, its first if it starts at a peak. */
static void test_the_fade_does_not_click(void **state)
{
	(void)state;
	const double peak = 30000, steepest = peak * 2 * M_PI * 300 / RATE + 4 * peak / FADE + 2;
	int16_t *tone = sine_new(300, RATE, peak, 20 * FRAME);
	for (size_t at = 1; at < 12; at++) {
		as_stream *stream = open_plain();
		int16_t heard[4 * FRAME] = {0};
		assert_true(as_inject_write(stream, 1, 0, AS_S16, RATE, tone + at * 13, 16 * FRAME * 2) > 0);
		as_host_inject(stream, heard, FRAME);
		at % 2 ? (void)as_inject_flush(stream, NULL, 0, NULL) : (void)as_stream_pause(stream, AS_INJECT);
		for (int i = 1; i < 4; i++) {
			as_host_inject(stream, heard + i * FRAME, FRAME);
		}
		for (size_t i = 1; i < COUNT(heard); i++) {
			assert_true(abs(heard[i] - heard[i - 1]) <= steepest);
		}
		assert_int_equal(heard[FRAME + FADE], 0);
		done(stream);
	}
	free(tone);
}

/* ---- Any order of things ----------------------------------------------------------------------------------------- */

#define LEVEL 32000

/* Marks written since the last flush, and how much the host has heard since then. */
typedef struct model {
	as_stream *stream;
	uint32_t seed;
	uint64_t first, next; /* marks: [first, next) belong to this generation */
	uint64_t heard;
} model;

static void model_write(model *m, size_t n)
{
	int16_t samples[500];
	for (size_t i = 0; i < n; i++) {
		samples[i] = LEVEL;
	}
	assert_int_equal(as_inject_write(m->stream, m->next - 1, 0, AS_S16, RATE, samples, n * 2), n * 2);
}

/* How many samples of steady LEVEL became this frame: those that are not silence, or as long a fade as its second one
 * says. */
static size_t heard_in(const int16_t *frame, int nonzero)
{
	if (nonzero < 2 || frame[1] == LEVEL) {
		return nonzero > 0 ? (size_t)nonzero : 0;
	}
	return (size_t)lrint(1 / (1 - pow((double)frame[1] / LEVEL, 0.25)));
}

static void model_tick(model *m)
{
	int16_t frame[FRAME];
	int nonzero = tick(m->stream, frame, FRAME);
	m->heard += heard_in(frame, nonzero);
}

static void model_flush(model *m)
{
	uint64_t reported = 0;
	as_inject_flush(m->stream, NULL, 0, NULL);
	for (uint64_t mark = m->first; mark < m->next; mark++) {
		as_mark entry = mark_of(m->stream, mark);
		assert_true(entry.flags & (AS_MARK_FINISHED | AS_MARK_FLUSHED));
		assert_true(entry.played <= entry.written);
		reported += entry.played;
	}
	model_tick(m);
	assert_int_equal(m->heard, reported);
	m->first = m->next;
	m->heard = 0;
}

static void model_step(model *m)
{
	uint32_t what = next_random(&m->seed) % 100;
	if (what < 25) {
		uint64_t mark = m->next > m->first && what < 15 ? m->next - 1 : m->next;
		if (mark == m->next && m->next - m->first < 20) {
			m->next++;
		}
		model_write(m, random_upto(&m->seed, 500));
	} else if (what < 35 && m->next > m->first) {
		as_inject_end(m->stream, m->next - 1);
		m->next += m->next - m->first < 20; /* nothing more is written under an ended mark */
		model_write(m, 1);
	} else if (what < 40) {
		(what % 2 ? as_stream_pause : as_stream_resume)(m->stream, AS_INJECT);
	} else if (what < 45) {
		model_flush(m);
	} else {
		model_tick(m);
	}
}

static void test_reported_is_heard_in_any_order_of_things(void **state)
{
	(void)state;
	static const int prebuffers[] = {0, 20, 60};
	for (size_t i = 0; i < COUNT(prebuffers); i++) {
		model m = {open_config((as_config){.prebuffer_ms = prebuffers[i]}), 77 + (uint32_t)i, 1, 1, 0};
		for (int step = 0; step < 10000; step++) {
			model_step(&m);
		}
		model_flush(&m);
		as_stats stats = stats_of(m.stream);
		assert_int_equal(stats.inject_written_samples, stats.inject_played_samples + stats.inject_flushed_samples);
		assert_int_equal(stats.inject_queued_samples, 0);
		assert_true(stats.inject_flushes > 400);
		done(m.stream);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_before_the_first_tick),
		cmocka_unit_test(test_while_prebuffering),
		cmocka_unit_test(test_while_playing),
		cmocka_unit_test(test_near_the_end),
		cmocka_unit_test(test_the_fade_finishes_an_ended_mark),
		cmocka_unit_test(test_at_the_end),
		cmocka_unit_test(test_in_an_underrun),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_paused_but_not_yet_noticed),
		cmocka_unit_test(test_closed),
		cmocka_unit_test(test_flushed_and_heard_then_closed),
		cmocka_unit_test(test_marks_are_reported_oldest_first),
		cmocka_unit_test(test_twice_in_a_row),
		cmocka_unit_test(test_new_audio_at_once),
		cmocka_unit_test(test_two_flushes_in_one_tick),
		cmocka_unit_test(test_late_audio_of_a_flushed_generation_is_dropped),
		cmocka_unit_test(test_nothing_is_left_in_the_resampler),
		cmocka_unit_test(test_fade_lengths),
		cmocka_unit_test(test_the_fade_does_not_click),
		cmocka_unit_test(test_reported_is_heard_in_any_order_of_things),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
