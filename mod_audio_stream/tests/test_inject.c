/* The inject queue from as_inject_write() to what as_host_inject() puts into the host's frames. */
#define _GNU_SOURCE
#include "convert.h"
#include "stream.h"
#include "support.h"

#include <malloc.h>

static uint32_t seed = 11;

/* Writes bytes in pieces of 1..most, each from an address of its own, often odd. */
static void write_split(as_stream *stream, uint64_t mark, int encoding, int rate_hz, const void *data, size_t bytes,
						size_t most)
{
	const uint8_t *at = data;
	while (bytes > 0) {
		size_t part = random_upto(&seed, most), offset = next_random(&seed) & 1;
		part = part < bytes ? part : bytes;
		uint8_t *copy = malloc(part + offset);
		memcpy(copy + offset, at, part);
		assert_int_equal(as_inject_write(stream, mark, 0, encoding, rate_hz, copy + offset, part), part);
		free(copy);
		at += part;
		bytes -= part;
	}
}

static void hear_expect(as_stream *stream, size_t frame_samples, const int16_t *due, size_t n)
{
	int16_t *heard = malloc((n + 1) * sizeof(int16_t));
	assert_int_equal(hear_all(stream, frame_samples, heard, n), n);
	assert_memory_equal(heard, due, n * sizeof(int16_t));
	free(heard);
}

/* ---- What is written is heard ------------------------------------------------------------------------------------ */

static void test_any_split_is_sample_exact(void **state)
{
	(void)state;
	static const size_t splits[] = {1, 2, 3, 7, 320, 8001, 50000, 200000};
	size_t n = 10 * RATE;
	int16_t *due = signal_new(0, n);
	for (size_t i = 0; i < COUNT(splits); i++) {
		size_t part = splits[i] == 1 ? 3000 : n;
		as_stream *stream = open_plain();
		write_split(stream, 1, AS_S16, RATE, due, part * 2, splits[i]);
		assert_int_equal(as_inject_end(stream, 1), 0);
		hear_expect(stream, i % 2 ? FRAME : 77, due, part);
		done(stream);
	}
	free(due);
}

static void test_writes_and_ticks_take_turns(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t frame[FRAME];
	uint64_t written = 0, heard = 0;
	while (heard < 100000) {
		size_t n = random_upto(&seed, 400);
		inject_signal(stream, 1, written, n);
		written += n;
		int got = tick(stream, frame, FRAME);
		assert_true(got > 0);
		for (int i = 0; i < got; i++) {
			assert_int_equal(frame[i], signal_at(heard++));
		}
	}
	done(stream);
}

static void test_blocks_join(void **state)
{
	(void)state;
	size_t n = 5 * AS_BLOCK_SAMPLES;
	int16_t *due = signal_new(0, n);
	as_stream *stream = open_plain();
	for (size_t at = 0; at < n; at += AS_BLOCK_SAMPLES) {
		inject_signal(stream, 1, at, AS_BLOCK_SAMPLES);
	}
	as_inject_end(stream, 1);
	hear_expect(stream, FRAME, due, n);
	inject_signal(stream, 2, 0, n); /* the queue's end and the reader stand exactly between two blocks */
	as_inject_end(stream, 2);
	hear_expect(stream, AS_BLOCK_SAMPLES, due, n);
	free(due);
	done(stream);
}

static void test_g711_in_any_split(void **state)
{
	(void)state;
	uint8_t codes[5000];
	int16_t due[5000];
	for (int encoding = AS_PCMU; encoding <= AS_PCMA; encoding++) {
		for (size_t i = 0; i < COUNT(codes); i++) {
			codes[i] = (uint8_t)(i % 100); /* negative and far from zero in both laws */
		}
		(encoding == AS_PCMU ? as_pcmu_decode : as_pcma_decode)(codes, due, COUNT(codes));
		as_stream *stream = open_plain();
		write_split(stream, 1, encoding, RATE, codes, 1000, 1);
		write_split(stream, 1, encoding, RATE, codes + 1000, 4000, 2500);
		as_inject_end(stream, 1);
		hear_expect(stream, FRAME, due, COUNT(due));
		done(stream);
	}
}

static int collect(void *arg, const int16_t *samples, size_t n)
{
	int16_t **at = arg;
	memcpy(*at, samples, n * sizeof(int16_t));
	*at += n;
	return 0;
}

static size_t converted(int from_hz, int to_hz, const int16_t *in, size_t n, int16_t *out)
{
	int16_t *at = out;
	as_convert *convert = NULL;
	assert_int_equal(as_convert_new(from_hz, to_hz, 1, &convert), 0);
	as_convert_push(convert, in, n, collect, &at);
	as_convert_drain(convert, collect, &at);
	as_convert_free(convert);
	return (size_t)(at - out);
}

/* A tone with no zero in it, at any rate: a sine on a pedestal that fades in. */
static int16_t *pedestal_new(int rate_hz, size_t n)
{
	int16_t *samples = sine_new(440, rate_hz, 3000, n);
	for (size_t i = 0; i < n; i++) {
		samples[i] = (int16_t)(samples[i] + 9000);
	}
	return samples;
}

static void test_resampled_in_any_split_of_bytes(void **state)
{
	(void)state;
	static const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};
	for (size_t i = 0; i < COUNT(rates) * 2; i++) {
		int from_hz = i % 2 ? rates[i / 2] : 8000, to_hz = i % 2 ? 8000 : rates[i / 2];
		size_t n = (size_t)from_hz / 2 + 1;
		int16_t *in = pedestal_new(from_hz, n), *due = malloc(sizeof(int16_t) * 50000);
		size_t length = converted(from_hz, to_hz, in, n, due);
		as_stream *stream = open_config((as_config){.rate_hz = to_hz});
		for (int split = 1; split <= 1500; split += 1499) {
			write_split(stream, (uint64_t)split, AS_S16, from_hz, in, n * 2, (size_t)split);
			assert_int_equal(as_inject_end(stream, (uint64_t)split), 0);
			assert_int_equal(mark_of(stream, (uint64_t)split).written, length);
			assert_true(fabs((double)length - (double)n * to_hz / from_hz) <= 1.0);
			hear_expect(stream, (size_t)to_hz / 50, due, length);
		}
		done(stream);
		free(in);
		free(due);
	}
}

/* Each mark starts with a fresh resampler and a whole sample, whatever the one before it left behind. */
static void test_marks_do_not_leak_into_each_other(void **state)
{
	(void)state;
	size_t n = 2401;
	int16_t *in = pedestal_new(24000, n), *due = malloc(sizeof(int16_t) * 4000), heard[4000];
	size_t length = converted(24000, RATE, in, n, due);
	as_stream *stream = open_plain();
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, in, n * 2), n * 2);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, in, 1), 1); /* half a sample, never completed */
	assert_int_equal(as_inject_write(stream, 2, 0, AS_S16, 24000, in, n * 2), n * 2);
	as_inject_end(stream, 2);
	assert_int_equal(mark_of(stream, 1).written, length);
	assert_int_equal(mark_of(stream, 2).written, length);
	assert_int_equal(hear_all(stream, FRAME, heard, COUNT(heard)), 2 * length);
	assert_memory_equal(heard, due, length * sizeof(int16_t));
	assert_memory_equal(heard + length, due, length * sizeof(int16_t));
	done(stream);
	free(in);
	free(due);
}

static void test_a_mark_may_change_its_format(void **state)
{
	(void)state;
	int16_t samples[480] = {0};
	uint8_t codes[80] = {0};
	as_stream *stream = open_plain();
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, samples, 960), 960);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_PCMU, 8000, codes, 80), 80);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 16000, samples, 640), 640);
	as_inject_end(stream, 1);
	assert_int_equal(mark_of(stream, 1).written, 160 + 80 + 160);
	done(stream);
}

/* ---- Nothing to say, prebuffer, underrun ------------------------------------------------------------------------- */

static void test_the_frame_is_left_alone_when_there_is_nothing_to_say(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 1, 0, 2 * FRAME + 50);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	tick_expect(stream, FRAME, FRAME, FRAME);
	tick_expect(stream, FRAME, 2 * FRAME, 50);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 2, 0, FRAME); /* an end on the border of a frame leaves no empty frame behind */
	as_inject_end(stream, 2);
	tick_expect(stream, FRAME, 0, FRAME);
	tick_left_alone(stream, FRAME);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.inject_ticks, 7);
	assert_int_equal(stats.inject_played_samples, 3 * FRAME + 50);
	assert_int_equal(stats.inject_underruns + stats.inject_underrun_samples, 0);
	assert_int_equal(stats.inject_playing, 0);
	done(stream);
}

static void test_an_utterance_waits_for_its_prebuffer(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 100});
	for (uint64_t at = 0; at < 4 * FRAME; at += FRAME) {
		inject_signal(stream, 1, at, FRAME);
		tick_left_alone(stream, FRAME);
	}
	inject_signal(stream, 1, 4 * FRAME, FRAME);
	for (uint64_t at = 0; at < 5 * FRAME; at += FRAME) {
		tick_expect(stream, FRAME, at, FRAME);
	}
	assert_int_equal(stats_of(stream).inject_underruns, 0);
	done(stream);
}

static void test_a_short_utterance_does_not_wait_once_ended(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 100});
	inject_signal(stream, 1, 0, 40);
	tick_left_alone(stream, FRAME);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, 40);
	tick_left_alone(stream, FRAME);
	done(stream);
}

/* Audio that comes too slowly to fill the prebuffer is held back no longer than the prebuffer lasts. */
static void test_a_slow_trickle_is_not_held_for_ever(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 100});
	inject_signal(stream, 1, 0, 50);
	for (int i = 0; i < 5; i++) {
		tick_left_alone(stream, FRAME);
	}
	tick_expect(stream, FRAME, 0, 50);
	as_inject_end(stream, 1);
	inject_signal(stream, 2, 0, 50); /* and the next one waits as long again */
	for (int i = 0; i < 5; i++) {
		tick_left_alone(stream, FRAME);
	}
	tick_expect(stream, FRAME, 0, 50);
	done(stream);
}

static void test_the_prebuffer_can_be_changed(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_inject_prebuffer(stream, -1), AS_EINVAL);
	assert_int_equal(as_inject_prebuffer(stream, 10001), AS_EINVAL);
	assert_int_equal(as_inject_prebuffer(stream, 40), 0);
	inject_signal(stream, 1, 0, FRAME);
	tick_left_alone(stream, FRAME);
	assert_int_equal(as_inject_prebuffer(stream, 0), 0);
	tick_expect(stream, FRAME, 0, FRAME);
	done(stream);
}

/* 20 ms written are 20 ms towards the prebuffer, also where the resampler still holds some of them. */
static void test_what_the_resampler_holds_counts_towards_the_prebuffer(void **state)
{
	(void)state;
	int16_t frame[FRAME], *in = pedestal_new(24000, 480);
	as_stream *stream = open_config((as_config){.prebuffer_ms = 20});
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, in, 960), 960);
	assert_true(mark_of(stream, 1).written < FRAME);
	assert_true(tick(stream, frame, FRAME) > 0);
	free(in);
	done(stream);
}

static void test_underruns_are_counted_and_primed_again(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 40});
	inject_signal(stream, 1, 0, 400);
	tick_expect(stream, FRAME, 0, 160);
	tick_expect(stream, FRAME, 160, 160);
	tick_expect(stream, FRAME, 320, 80);
	tick_expect(stream, FRAME, 0, 0); /* the application's silence, not the host's own audio */
	inject_signal(stream, 1, 400, 160);
	tick_expect(stream, FRAME, 0, 0); /* not enough to begin again */
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.inject_underruns, 0); /* it may have been over: nobody knows yet */
	assert_int_equal(stats.inject_underrun_samples, 80 + 160 + 160);
	inject_signal(stream, 1, 560, 160);
	tick_expect(stream, FRAME, 400, 160);
	assert_int_equal(stats_of(stream).inject_underruns, 1);
	tick_expect(stream, FRAME, 560, 160);
	tick_expect(stream, FRAME, 0, 0);
	as_inject_end(stream, 1); /* it was over all along: the host has its frames back */
	tick_left_alone(stream, FRAME);
	assert_int_equal(stats_of(stream).inject_underruns, 1);
	done(stream);
}

/* Services tell the ends of all items of a response at its end: an item that has run dry is over when the next begins. */
static void test_a_pause_between_items_is_no_underrun(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME);
	tick_expect(stream, FRAME, 0, FRAME);
	for (int i = 0; i < 50; i++) {
		tick_expect(stream, FRAME, 0, 0);
	}
	as_inject_end(stream, 1);
	inject_signal(stream, 2, FRAME, 2 * FRAME);
	as_inject_end(stream, 2); /* all of it between two ticks */
	tick_expect(stream, FRAME, FRAME, FRAME);
	tick_expect(stream, FRAME, 2 * FRAME, FRAME);
	assert_int_equal(stats_of(stream).inject_underruns, 0);
	done(stream);
}

/* Ending an earlier item late is no end of the one being written. */
static void test_only_the_last_items_end_ends_the_queue(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 100);
	inject_signal(stream, 2, 100, 100);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	tick_expect(stream, FRAME, FRAME, 40);
	tick_expect(stream, FRAME, 0, 0);
	inject_signal(stream, 2, 200, FRAME);
	tick_expect(stream, FRAME, 200, FRAME);
	assert_int_equal(stats_of(stream).inject_underruns, 1);
	as_inject_end(stream, 2);
	tick_left_alone(stream, FRAME);
	done(stream);
}

/* A server whose events overtake each other: the item's end, and then some more of it. */
static void test_audio_after_the_end_does_not_keep_the_queue(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 100);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, 100);
	assert_true(mark_of(stream, 1).flags & AS_MARK_FINISHED);
	inject_signal(stream, 1, 100, 200);
	assert_false(mark_of(stream, 1).flags & AS_MARK_FINISHED);
	tick_expect(stream, FRAME, 100, FRAME);
	tick_expect(stream, FRAME, 100 + FRAME, 200 - FRAME);
	tick_left_alone(stream, FRAME);
	as_mark mark = mark_of(stream, 1);
	assert_int_equal(mark.played, 300);
	assert_true(mark.flags & AS_MARK_FINISHED);
	assert_int_equal(stats_of(stream).inject_underruns, 0);
	done(stream);
}

static void test_an_utterance_that_follows_at_once_needs_no_priming(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.prebuffer_ms = 40});
	inject_signal(stream, 1, 0, 400);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, 160);
	inject_signal(stream, 2, 400, 100);
	tick_expect(stream, FRAME, 160, 160);
	tick_expect(stream, FRAME, 320, 160);
	done(stream);
}

/* ---- Pause ------------------------------------------------------------------------------------------------------- */

static void test_pause_fades_and_keeps_the_place(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 1000);
	as_inject_end(stream, 1);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(as_stream_pause(stream, AS_INJECT), 0);
	assert_int_equal(stats_of(stream).inject_paused, 1);
	tick_expect_fade(stream, FRAME, FRAME, 80);
	tick_left_alone(stream, FRAME);
	tick_left_alone(stream, FRAME);
	assert_int_equal(mark_of(stream, 1).played, 240);
	assert_int_equal(as_stream_resume(stream, AS_INJECT), 0);
	for (uint64_t at = 240; at < 1000; at += FRAME) {
		tick_expect(stream, FRAME, at, at + FRAME < 1000 ? FRAME : 1000 - at);
	}
	assert_int_equal(stats_of(stream).inject_played_samples, 1000);
	assert_int_equal(stats_of(stream).inject_underruns, 0);
	assert_true(mark_of(stream, 1).flags & AS_MARK_FINISHED);
	done(stream);
}

static void test_pause_before_the_first_sample_and_near_the_last(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	as_stream_pause(stream, AS_CAPTURE | AS_INJECT);
	inject_signal(stream, 1, 0, 200);
	as_inject_end(stream, 1);
	tick_left_alone(stream, FRAME);
	as_stream_resume(stream, AS_CAPTURE | AS_INJECT);
	tick_expect(stream, FRAME, 0, FRAME);
	as_stream_pause(stream, AS_INJECT);
	tick_expect_fade(stream, FRAME, FRAME, 40); /* no more is left than that */
	as_stream_resume(stream, AS_INJECT);
	tick_left_alone(stream, FRAME);
	assert_true(mark_of(stream, 1).flags & AS_MARK_FINISHED);
	done(stream);
}

/* ---- Bounds and errors ------------------------------------------------------------------------------------------- */

static void test_a_full_queue_refuses_whole_writes(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.inject_max_ms = 100}); /* 800 samples */
	int16_t *more = signal_new(700, 1000);
	as_mark mark;
	inject_signal(stream, 1, 0, 700);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, more, 400), AS_EFULL);
	assert_int_equal(as_inject_write(stream, 2, 0, AS_S16, RATE, more, 2000), AS_EFULL);
	assert_int_equal(as_inject_write(stream, 2, 0, AS_S16, 24000, more, 2000), AS_EFULL);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.inject_full_writes, 3);
	assert_int_equal(stats.inject_full_bytes, 4400);
	assert_int_equal(stats.inject_written_samples, 700);
	assert_int_equal(stats.inject_queued_samples, 700);
	assert_int_equal(mark_of(stream, 1).written, 700);
	assert_int_equal(as_inject_mark(stream, 2, &mark), AS_ENOENT);
	for (uint64_t at = 0; at < 640; at += FRAME) {
		tick_expect(stream, FRAME, at, FRAME);
	}
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, more, 1200), 1200); /* room again */
	tick_expect(stream, FRAME, 640, FRAME);
	as_inject_flush(stream, NULL, 0, NULL);
	assert_int_equal(as_inject_write(stream, 3, 0, AS_S16, RATE, more, 1500), 1500); /* a flush makes room at once */
	free(more);
	done(stream);
}

/* Where the bound leaves room for a write it leaves room for the resampler's tail as well. */
static void test_the_end_fits_a_full_queue(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.rate_hz = 48000, .inject_max_ms = 100});
	int16_t in[80] = {0};
	while (as_inject_write(stream, 1, 0, AS_S16, 8000, in, 1 + random_upto(&seed, 150)) > 0) {
	}
	assert_int_equal(as_inject_end(stream, 1), 0);
	assert_true(stats_of(stream).inject_queued_samples <= 4800);
	assert_true(stats_of(stream).inject_queued_samples > 4300);
	done(stream);
}

static size_t blocks_of(as_stream *stream)
{
	size_t count = stream->inject.spare != NULL;
	for (as_block *block = stream->inject.oldest; block; block = atomic_load(&block->next)) {
		count++;
	}
	return count;
}

/* An hour of audio passes through the few blocks it started with. */
static void test_an_hour_of_audio_takes_no_memory(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t frame[8 * FRAME], *second = signal_new(0, RATE);
	size_t in_use = 0;
	for (int s = 0; s < 3600; s++) {
		assert_int_equal(as_inject_write(stream, (uint64_t)s, 0, AS_S16, RATE, second, 2 * RATE), 2 * RATE);
		assert_int_equal(as_inject_end(stream, (uint64_t)s), 0);
		while (as_host_inject(stream, frame, COUNT(frame)) > 0) {
		}
		assert_true(blocks_of(stream) <= 6);
		if (s == 100) {
			in_use = mallinfo2().uordblks;
		}
	}
	assert_true(mallinfo2().uordblks <= in_use + 2 * sizeof(as_block));
	assert_int_equal(stats_of(stream).inject_played_samples, 3600 * RATE);
	free(second);
	done(stream);
}

static void test_a_backlog_is_given_back(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 60 * RATE);
	assert_true(blocks_of(stream) >= 120);
	as_inject_flush(stream, NULL, 0, NULL);
	tick_left_alone(stream, FRAME);
	inject_signal(stream, 2, 0, 1);
	assert_true(blocks_of(stream) <= 4);
	tick_expect(stream, FRAME, 0, 1);
	done(stream);
}

static void test_what_write_refuses(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t sample = 1;
	as_mark mark;
	assert_int_equal(as_inject_write(stream, 1, 0, 0, RATE, &sample, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, 4, RATE, &sample, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 7999, &sample, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 48001, &sample, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_PCMU, 16000, &sample, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, NULL, 2), AS_EINVAL);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, &sample, ((size_t)1 << 30) + 1), AS_EINVAL);
	assert_int_equal(as_inject_mark(stream, 1, &mark), AS_ENOENT);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, NULL, 0), 0);
	tick_left_alone(stream, FRAME);
	as_stream_close(stream);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, &sample, 2), AS_ECLOSED);
	assert_int_equal(as_inject_end(stream, 1), AS_ECLOSED);
	as_stream_unref(stream);
}

/* Two host threads in one tick would both play the same samples: the second is turned away. */
static void test_a_second_host_is_turned_away(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME);
	atomic_store(&stream->inject.busy, 1);
	tick_left_alone(stream, FRAME);
	assert_int_equal(stats_of(stream).inject_ticks, 0);
	atomic_store(&stream->inject.busy, 0);
	tick_expect(stream, FRAME, 0, FRAME);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_split_is_sample_exact),
		cmocka_unit_test(test_writes_and_ticks_take_turns),
		cmocka_unit_test(test_blocks_join),
		cmocka_unit_test(test_g711_in_any_split),
		cmocka_unit_test(test_resampled_in_any_split_of_bytes),
		cmocka_unit_test(test_marks_do_not_leak_into_each_other),
		cmocka_unit_test(test_a_mark_may_change_its_format),
		cmocka_unit_test(test_the_frame_is_left_alone_when_there_is_nothing_to_say),
		cmocka_unit_test(test_an_utterance_waits_for_its_prebuffer),
		cmocka_unit_test(test_a_short_utterance_does_not_wait_once_ended),
		cmocka_unit_test(test_a_slow_trickle_is_not_held_for_ever),
		cmocka_unit_test(test_the_prebuffer_can_be_changed),
		cmocka_unit_test(test_what_the_resampler_holds_counts_towards_the_prebuffer),
		cmocka_unit_test(test_underruns_are_counted_and_primed_again),
		cmocka_unit_test(test_a_pause_between_items_is_no_underrun),
		cmocka_unit_test(test_only_the_last_items_end_ends_the_queue),
		cmocka_unit_test(test_audio_after_the_end_does_not_keep_the_queue),
		cmocka_unit_test(test_an_utterance_that_follows_at_once_needs_no_priming),
		cmocka_unit_test(test_pause_fades_and_keeps_the_place),
		cmocka_unit_test(test_pause_before_the_first_sample_and_near_the_last),
		cmocka_unit_test(test_a_full_queue_refuses_whole_writes),
		cmocka_unit_test(test_the_end_fits_a_full_queue),
		cmocka_unit_test(test_an_hour_of_audio_takes_no_memory),
		cmocka_unit_test(test_a_backlog_is_given_back),
		cmocka_unit_test(test_what_write_refuses),
		cmocka_unit_test(test_a_second_host_is_turned_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
