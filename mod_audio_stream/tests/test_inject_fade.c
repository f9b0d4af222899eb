/* Fades in frames shorter than a fade: what a flush reports is what is heard, to the sample. */
#define _GNU_SOURCE
#include "inject_spsc.h"
#include "support.h"

#define FADE 80 /* samples in 10 ms at RATE */

/* Ticks with frames of n samples until `length` samples have been heard, and expects signal_at(first...) fading out along
 * all of it, whole frames, and silence behind. */
static void expect_fade_over(as_stream *stream, size_t n, uint64_t first, size_t length)
{
	int16_t heard[4096] = {0};
	size_t got = 0;
	while (got < length) {
		assert_true(tick(stream, heard + got, n) >= 0);
		got += n;
	}
	assert_int_equal(heard[0], signal_at(first));
	for (size_t i = 0; i < got; i++) {
		assert_true(is_faded(heard[i], i < length ? signal_at(first + i) : 0, i, length));
	}
}

/* What a flush says was heard of the only mark. */
static uint64_t flush_played(as_stream *stream)
{
	as_mark mark;
	int count = 0;
	assert_true(as_inject_flush(stream, &mark, 1, &count) > 0);
	assert_int_equal(count, 1);
	return mark.played;
}

static void test_a_flush_after_frames_have_become_shorter(void **state)
{
	static const size_t frames[] = {1, 13, 40, 79, 80, 81, 160};
	(void)state;
	for (size_t i = 0; i < COUNT(frames); i++) {
		as_stream *stream = open_plain();
		inject_signal(stream, 1, 0, 2000);
		tick_expect(stream, FRAME, 0, FRAME);
		assert_int_equal(flush_played(stream), FRAME + FADE);
		expect_fade_over(stream, frames[i], FRAME, FADE);
		tick_left_alone(stream, frames[i]);
		as_stats stats = stats_of(stream);
		assert_int_equal(stats.inject_played_samples, FRAME + FADE);
		assert_int_equal(stats.inject_flushed_samples, 2000 - FRAME - FADE);
		assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
		done(stream);
	}
}

/* As the module takes them for a call whose rate is not the stream's: 10 ms at a time. */
static void test_a_fade_of_a_whole_frame_in_steps_of_10_ms(void **state)
{
	static const int rates[] = {8000, 16000, 48000};
	(void)state;
	for (size_t i = 0; i < COUNT(rates); i++) {
		as_stream *stream = open_config((as_config){.rate_hz = rates[i], .fade_ms = 20});
		size_t step = (size_t)rates[i] / 100;
		inject_signal(stream, 1, 0, 20 * step);
		tick_expect(stream, step, 0, step);
		assert_int_equal(flush_played(stream), 3 * step);
		expect_fade_over(stream, step, step, 2 * step);
		tick_left_alone(stream, step);
		done(stream);
	}
}

static void test_near_the_end_of_what_is_queued(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME + 50);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	int count = 1;
	assert_true(as_inject_flush(stream, NULL, 0, &count) > 0);
	assert_int_equal(count, 0); /* all of it is heard */
	assert_int_equal(mark_of(stream, 1).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	expect_fade_over(stream, 20, FRAME, 50);
	tick_left_alone(stream, 20);
	done(stream);
}

static void test_what_is_written_after_the_flush_begins_when_the_fade_is_over(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(flush_played(stream), FRAME + FADE);
	inject_signal(stream, 2, 5000, 100);
	expect_fade_over(stream, 40, FRAME, FADE);
	tick_expect(stream, 40, 5000, 40);
	tick_expect(stream, 40, 5040, 40);
	assert_int_equal(mark_of(stream, 2).played, 80);
	done(stream);
}

static void test_a_second_flush_within_the_fade(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t heard[2 * FADE] = {0};
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(flush_played(stream), FRAME + FADE);
	assert_int_equal(tick(stream, heard, 40), 40);
	inject_signal(stream, 2, 5000, 500);
	assert_int_equal(flush_played(stream), 0);
	for (size_t at = 40; at < COUNT(heard); at += 40) {
		assert_int_equal(tick(stream, heard + at, 40) >= 0, at < FADE);
	}
	for (size_t i = 0; i < FADE; i++) {
		assert_true(is_faded(heard[i], signal_at(FRAME + i), i, FADE));
	}
	assert_int_equal(stats_of(stream).inject_played_samples, FRAME + FADE);
	assert_int_equal(stats_of(stream).inject_flushed_samples, 1500 - FRAME - FADE);
	done(stream);
}

static void test_a_pause_fades_as_long_and_keeps_the_place(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_pause(stream, AS_INJECT);
	expect_fade_over(stream, 20, FRAME, FADE);
	tick_left_alone(stream, 20);
	assert_int_equal(mark_of(stream, 1).played, FRAME + FADE);
	assert_int_equal(flush_played(stream), FRAME + FADE);
	done(stream);
}

static void test_resumed_within_the_fade_of_a_pause(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t heard[FADE];
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_pause(stream, AS_INJECT);
	assert_int_equal(tick(stream, heard, 20), 20);
	as_stream_resume(stream, AS_INJECT);
	assert_true(tick(stream, heard + 20, 60) >= 0);
	for (size_t i = 0; i < FADE; i++) {
		assert_true(is_faded(heard[i], signal_at(FRAME + i), i, FADE));
	}
	tick_expect(stream, 20, FRAME + FADE, 20);
	done(stream);
}

static void test_the_block_that_a_fade_began_in_may_be_freed(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t heard[FADE];
	inject_signal(stream, 1, 0, 5 * AS_BLOCK_SAMPLES);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(flush_played(stream), FRAME + FADE);
	assert_int_equal(tick(stream, heard, 20), 20);
	inject_signal(stream, 2, 9000, 2 * AS_BLOCK_SAMPLES); /* takes freed blocks, and lets the rest go */
	assert_true(tick(stream, heard + 20, 60) >= 0);
	for (size_t i = 0; i < FADE; i++) {
		assert_true(is_faded(heard[i], signal_at(FRAME + i), i, FADE));
	}
	tick_expect(stream, 20, 9000, 20);
	done(stream);
}

/* ---- Frames of any length ---------------------------------------------------------------------------------------- */

/* Ticks with frames of random lengths. Returns the samples heard, without silence at the end of a frame. */
static size_t hear_random(as_stream *stream, uint32_t *seed, size_t ticks)
{
	int16_t frame[2 * FRAME];
	size_t heard = 0;
	for (size_t i = 0; i < ticks; i++) {
		int n = tick(stream, frame, 1 + random_upto(seed, 2 * FRAME - 1));
		heard += n > 0 ? (size_t)n : 0;
	}
	return heard;
}

static void test_reported_is_counted_whatever_frames_come(void **state)
{
	uint32_t seed = 4711;
	uint64_t total = 0, first = 0;
	as_stream *stream = open_plain();
	(void)state;
	for (uint64_t mark = 1; mark < 2000; mark++) {
		size_t n = 200 + random_upto(&seed, 2000);
		inject_signal(stream, mark, first, n);
		first += n;
		size_t plain = hear_random(stream, &seed, random_upto(&seed, 8));
		uint64_t before = stats_of(stream).inject_played_samples - total;
		uint64_t reported = flush_played(stream);
		assert_true(plain <= before && reported >= before && reported <= before + FADE);
		hear_random(stream, &seed, 100); /* 100 samples at least: the fade, whatever the frames */
		total += reported;
		assert_int_equal(stats_of(stream).inject_played_samples, total);
		tick_left_alone(stream, FRAME);
	}
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_flush_after_frames_have_become_shorter),
		cmocka_unit_test(test_a_fade_of_a_whole_frame_in_steps_of_10_ms),
		cmocka_unit_test(test_near_the_end_of_what_is_queued),
		cmocka_unit_test(test_what_is_written_after_the_flush_begins_when_the_fade_is_over),
		cmocka_unit_test(test_a_second_flush_within_the_fade),
		cmocka_unit_test(test_a_pause_fades_as_long_and_keeps_the_place),
		cmocka_unit_test(test_resumed_within_the_fade_of_a_pause),
		cmocka_unit_test(test_the_block_that_a_fade_began_in_may_be_freed),
		cmocka_unit_test(test_reported_is_counted_whatever_frames_come),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
