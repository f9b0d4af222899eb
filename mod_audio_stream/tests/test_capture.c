/* The capture ring, from the media thread's as_host_capture() to the reader's as_capture_read(). */
#define _GNU_SOURCE
#include "stream.h"
#include "support.h"

#define QUICKLY_NS 300000000 /* a wake-up, with a machine full of other work and sanitizers: it takes microseconds */

static size_t put_signal(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *samples = signal_new(first, n);
	size_t stored = as_host_capture(stream, samples, n);
	free(samples);
	return stored;
}

static void put_silence(as_stream *stream, int frames)
{
	int16_t zeros[FRAME] = {0};
	for (int i = 0; i < frames; i++) {
		assert_int_equal(as_host_capture(stream, zeros, FRAME), FRAME);
	}
}

/* Reads once without waiting; the answer in samples (or an error). */
static long read_samples(as_stream *stream, int16_t *out, size_t room)
{
	long bytes = as_capture_read(stream, out, room * 2, 0);
	return bytes > 0 ? bytes / 2 : bytes;
}

static long read_any(as_stream *stream)
{
	static int16_t out[100000];
	return read_samples(stream, out, COUNT(out));
}

static void read_expect(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *out = malloc((n + 1) * sizeof(int16_t)), *due = signal_new(first, n);
	assert_int_equal(read_samples(stream, out, n), n);
	assert_memory_equal(out, due, n * sizeof(int16_t));
	free(out);
	free(due);
}

/* ---- The ring ---------------------------------------------------------------------------------------------------- */

static void test_overrun_is_counted_and_loses_nothing_else(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 128}); /* 1024 samples */
	for (uint64_t at = 0; at < 960; at += FRAME) {
		assert_int_equal(put_signal(stream, at, FRAME), FRAME);
	}
	assert_int_equal(put_signal(stream, 960, FRAME), 64);
	assert_int_equal(put_signal(stream, 0, FRAME), 0);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.capture_samples, 1024);
	assert_int_equal(stats.capture_dropped_samples, FRAME + 96);
	assert_int_equal(stats.capture_overruns, 2);
	assert_int_equal(stats.capture_ticks, 8);
	read_expect(stream, 0, 500);
	assert_int_equal(put_signal(stream, 1024, 400), 400);
	read_expect(stream, 500, 924);
	assert_int_equal(stats_of(stream).capture_read_samples, 1424);
	assert_int_equal(stats_of(stream).capture_overruns, 2);
	done(stream);
}

static void test_a_frame_larger_than_the_ring(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 128});
	assert_int_equal(put_signal(stream, 0, 3000), 1024);
	assert_int_equal(stats_of(stream).capture_dropped_samples, 3000 - 1024);
	read_expect(stream, 0, 1024);
	assert_int_equal(put_signal(stream, 0, 0), 0);
	done(stream);
}

/* The reader always lags behind, so the ring never empties and never rewinds: data goes round many times. */
static void test_order_past_the_wrap(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 128});
	uint32_t seed = 3;
	uint64_t written = 700, read = 0;
	put_signal(stream, 0, 700);
	while (read < 100000) {
		size_t n = random_upto(&seed, 300);
		n = written - read + n <= 1024 ? n : 1024 - (size_t)(written - read);
		assert_int_equal(put_signal(stream, written, n), n);
		written += n;
		n = random_upto(&seed, (size_t)(written - read) - 200);
		read_expect(stream, read, n);
		read += n;
	}
	assert_int_equal(stats_of(stream).capture_dropped_samples, 0);
	done(stream);
}

static void test_an_empty_ring_is_written_from_its_start(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	for (uint64_t at = 0; at < 300 * FRAME; at += FRAME) {
		const int16_t *where;
		put_signal(stream, at, FRAME);
		assert_int_equal(as_capture_peek(&stream->capture, &where), FRAME);
		assert_ptr_equal(where, stream->capture.data);
		read_expect(stream, at, FRAME);
	}
	done(stream);
}

static void test_paused_capture_is_dropped_and_counted(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	put_signal(stream, 0, FRAME);
	assert_int_equal(as_stream_pause(stream, AS_CAPTURE), 0);
	assert_int_equal(put_signal(stream, 5000, FRAME), 0);
	assert_int_equal(as_stream_resume(stream, AS_CAPTURE), 0);
	put_signal(stream, FRAME, FRAME);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.capture_paused_samples, FRAME);
	assert_int_equal(stats.capture_samples, 2 * FRAME);
	assert_int_equal(stats.capture_ticks, 3);
	assert_int_equal(stats.capture_dropped_samples, 0);
	read_expect(stream, 0, 2 * FRAME);
	done(stream);
}

/* ---- Chunks ------------------------------------------------------------------------------------------------------ */

static void test_small_chunks_in_speech_large_ones_in_silence(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 100, 200), 0);
	for (int chunk = 0; chunk < 3; chunk++) {
		put_silence(stream, 4);
		assert_int_equal(read_any(stream), 0);
		put_silence(stream, 1);
		assert_int_equal(read_any(stream), 5 * FRAME);
	}
	put_silence(stream, 3);
	put_signal(stream, 0, FRAME); /* the onset hands on the silence before it as well */
	assert_int_equal(read_any(stream), 4 * FRAME);
	for (int frame = 0; frame < 9; frame++) { /* the hang-over: 200 ms */
		assert_int_equal(stats_of(stream).capture_active, 1);
		put_silence(stream, 1);
		assert_int_equal(read_any(stream), FRAME);
	}
	put_silence(stream, 4);
	assert_int_equal(stats_of(stream).capture_active, 0);
	assert_int_equal(read_any(stream), 0);
	assert_int_equal(stats_of(stream).capture_active_samples, 19 * FRAME);
	done(stream);
}

static void test_no_hang_over_still_means_small_chunks_in_speech(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 100, 0), 0);
	for (uint64_t at = 0; at < 10 * FRAME; at += FRAME) {
		put_signal(stream, at, FRAME);
		assert_int_equal(stats_of(stream).capture_active, 1);
		read_expect(stream, at, FRAME);
	}
	put_silence(stream, 1);
	assert_int_equal(stats_of(stream).capture_active, 0);
	assert_int_equal(read_any(stream), 0);
	done(stream);
}

static void test_a_chunk_larger_than_the_ring_is_what_fits(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 100});
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 1000, 0), 0);
	for (int i = 0; i < 50; i++) {
		put_silence(stream, 1);
		read_any(stream);
	}
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.capture_dropped_samples, 0);
	assert_true(stats.capture_read_samples >= 40 * FRAME);
	done(stream);
}

static void test_a_small_buffer_leaves_the_rest(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	put_signal(stream, 0, 3 * FRAME);
	read_expect(stream, 0, FRAME + 7);
	read_expect(stream, FRAME + 7, FRAME);
	assert_int_equal(read_any(stream), 0); /* less than a chunk: wait for more */
	put_signal(stream, 3 * FRAME, FRAME);
	read_expect(stream, 2 * FRAME + 7, 2 * FRAME - 7);
	done(stream);
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

typedef struct reader {
	as_stream *stream;
	pthread_t thread;
	long result;
	int64_t returned_ns;
} reader;

static void *read_once(void *arg)
{
	static int16_t out[100000]; /* one reader at a time */
	reader *r = arg;
	r->result = as_capture_read(r->stream, out, sizeof(out), 5000);
	r->returned_ns = as_now_ns();
	return NULL;
}

/* Starts a reader and comes back once it sleeps. */
static void reader_start(reader *r, as_stream *stream)
{
	r->stream = stream;
	assert_int_equal(pthread_create(&r->thread, NULL, read_once, r), 0);
	while (!atomic_load(&stream->capture.waiting)) {
		sleep_ms(1);
	}
	sleep_ms(2);
}

/* Waits for the reader; it must have returned soon after `since_ns`. */
static long reader_result(reader *r, int64_t since_ns)
{
	pthread_join(r->thread, NULL);
	assert_true(r->returned_ns - since_ns < QUICKLY_NS);
	return r->result;
}

static void test_onset_cuts_a_long_wait_short(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	reader r;
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 1000, 500), 0);
	reader_start(&r, stream);
	put_silence(stream, 3);
	sleep_ms(10);
	assert_int_equal(atomic_load(&stream->capture.waiting), 1); /* silence has not woken it */
	int64_t now = as_now_ns();
	put_signal(stream, 0, FRAME);
	assert_int_equal(reader_result(&r, now), 4 * FRAME * 2);
	done(stream);
}

static void test_a_full_chunk_of_silence_wakes(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	reader r;
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 100, 0), 0);
	reader_start(&r, stream);
	int64_t now = as_now_ns();
	put_silence(stream, 5);
	assert_int_equal(reader_result(&r, now), 5 * FRAME * 2);
	done(stream);
}

static void test_close_wakes_the_reader(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	reader r;
	reader_start(&r, stream);
	int64_t now = as_now_ns();
	as_stream_close(stream);
	assert_int_equal(reader_result(&r, now), AS_ECLOSED);
	as_stream_unref(stream);
}

static void test_close_hands_a_waiting_reader_what_is_there(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	reader r;
	reader_start(&r, stream);
	put_signal(stream, 0, 50);
	int64_t now = as_now_ns();
	as_stream_close(stream);
	assert_int_equal(reader_result(&r, now), 100);
	assert_int_equal(read_any(stream), AS_ECLOSED);
	as_stream_unref(stream);
}

static void test_one_reader_at_a_time(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	reader r;
	reader_start(&r, stream);
	assert_int_equal(read_any(stream), AS_EBUSY);
	assert_int_equal(as_capture_setup(stream, AS_PCMU, RATE, 20, 20, 0), AS_EBUSY);
	int64_t now = as_now_ns();
	put_signal(stream, 0, FRAME);
	assert_int_equal(reader_result(&r, now), FRAME * 2);
	assert_int_equal(read_any(stream), 0);
	done(stream);
}

static void test_timeouts(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t out[FRAME];
	int64_t start = as_now_ns();
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 30), 0);
	int64_t took = as_now_ns() - start;
	assert_true(took >= 30000000 && took < 30000000 + QUICKLY_NS);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), -5), 0);
	assert_true(as_now_ns() - start - took < QUICKLY_NS);
	put_signal(stream, 0, 10); /* less than a chunk is kept for later */
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 5), 0);
	put_signal(stream, 10, FRAME - 10);
	read_expect(stream, 0, FRAME);
	done(stream);
}

static void test_what_was_captured_can_be_read_after_close(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	put_signal(stream, 0, 1000);
	as_stream_close(stream);
	assert_int_equal(put_signal(stream, 1000, FRAME), 0);
	read_expect(stream, 0, 900);
	read_expect(stream, 900, 100);
	assert_int_equal(read_any(stream), AS_ECLOSED);
	assert_int_equal(read_any(stream), AS_ECLOSED);
	as_stream_unref(stream);
}

/* ---- Formats ----------------------------------------------------------------------------------------------------- */

static void test_g711(void **state)
{
	(void)state;
	int16_t in[FRAME];
	uint8_t out[FRAME + 1], due[FRAME];
	for (int i = 0; i < FRAME; i++) {
		in[i] = (int16_t)(i * 400 - 32000);
	}
	for (int encoding = AS_PCMU; encoding <= AS_PCMA; encoding++) {
		as_stream *stream = open_plain();
		(encoding == AS_PCMU ? as_pcmu_encode : as_pcma_encode)(in, due, FRAME);
		assert_int_equal(as_capture_setup(stream, encoding, RATE, 20, 20, 0), 0);
		as_host_capture(stream, in, FRAME);
		assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), FRAME);
		assert_memory_equal(out, due, FRAME);
		done(stream);
	}
}

/* Everything the stream gives until it says closed, read into buffers of random sizes that end where they say. */
static size_t read_to_end(as_stream *stream, uint8_t *out, size_t least, size_t most)
{
	uint32_t seed = 99;
	size_t total = 0;
	for (;;) {
		size_t bytes = least + random_upto(&seed, most);
		uint8_t *exact = malloc(bytes);
		long got = as_capture_read(stream, exact, bytes, 0);
		if (got > 0) {
			assert_true((size_t)got <= bytes);
			memcpy(out + total, exact, (size_t)got);
			total += (size_t)got;
		}
		free(exact);
		if (got <= 0) {
			assert_int_equal(got, AS_ECLOSED);
			return total;
		}
	}
}

static void check_resampled(int host_hz, int encoding, int app_hz)
{
	size_t n = (size_t)host_hz, width = encoding == AS_S16 ? 2 : 1, room = (size_t)app_hz * 3;
	int16_t *in = sine_new(440, host_hz, 9000, n);
	uint8_t *whole = malloc(room), *parts = malloc(room);
	size_t bytes[2];
	for (int split = 0; split < 2; split++) {
		as_stream *stream = open_config((as_config){.rate_hz = host_hz});
		assert_int_equal(as_capture_setup(stream, encoding, app_hz, 20, 20, 0), 0);
		assert_int_equal(as_host_capture(stream, in, n), n);
		as_stream_close(stream);
		bytes[split] = read_to_end(stream, split ? parts : whole, split ? 800 : room - 1, split ? 900 : 1);
		as_stream_unref(stream);
	}
	assert_int_equal(bytes[0], bytes[1]);
	assert_memory_equal(whole, parts, bytes[0]);
	assert_int_equal(bytes[0] % width, 0);
	if (abs((int)(bytes[0] / width) - app_hz) > 1) {
		fail_msg("%d to %d Hz: %zu samples for a second", host_hz, app_hz, bytes[0] / width);
	}
	free(in);
	free(whole);
	free(parts);
}

static void test_resampled_capture_keeps_its_length(void **state)
{
	(void)state;
	const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};
	for (size_t i = 0; i < COUNT(rates); i++) {
		check_resampled(8000, AS_S16, rates[i]);
		check_resampled(rates[i], AS_S16, 8000);
		check_resampled(rates[i], AS_PCMU, 8000);
		check_resampled(rates[i], AS_S16, 24000);
	}
}

/* The resampler keeps the first milliseconds to itself: the reader waits on instead of getting an empty chunk. */
static void test_a_resampler_that_holds_back_is_no_timeout(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	static int16_t out[4000];
	assert_int_equal(as_capture_setup(stream, AS_S16, 24000, 5, 5, 0), 0);
	put_signal(stream, 0, 40);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 5), 0);
	put_signal(stream, 40, 120);
	assert_true(as_capture_read(stream, out, sizeof(out), 5) > 0);
	done(stream);
}

/* A buffer must have room for what the resampler may give back at once; it is never written past its end. */
static void test_a_buffer_too_small_for_the_resampler(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	uint8_t *small = malloc(300), *large = malloc(2000);
	assert_int_equal(as_capture_setup(stream, AS_S16, 24000, 20, 20, 0), 0);
	put_signal(stream, 0, FRAME);
	long first = as_capture_read(stream, large, 2000, 0);
	assert_true(first > 300 && first < 960);
	as_stream_close(stream);
	assert_int_equal(as_capture_read(stream, small, 300, 0), AS_EINVAL);
	assert_int_equal(as_capture_read(stream, large, 2000, 0), 960 - first);
	assert_int_equal(as_capture_read(stream, large, 2000, 0), AS_ECLOSED);
	as_stream_unref(stream);
	free(small);
	free(large);
}

static void test_what_setup_and_read_refuse(void **state)
{
	(void)state;
	static const struct {
		int encoding, rate_hz, chunk_ms, quiet_ms, hang_ms;
	} wrong[] = {
		{0, 8000, 20, 20, 0},          {4, 8000, 20, 20, 0},        {AS_S16, 7999, 20, 20, 0},
		{AS_S16, 48001, 20, 20, 0},    {AS_PCMU, 16000, 20, 20, 0}, {AS_PCMA, 0, 20, 20, 0},
		{AS_S16, 8000, 4, 20, 0},      {AS_S16, 8000, 0, 0, 0},     {AS_S16, 8000, 1001, 1001, 0},
		{AS_S16, 8000, 20, 19, 0},     {AS_S16, 8000, 20, 1001, 0}, {AS_S16, 8000, 20, 20, -1},
		{AS_S16, 8000, 20, 20, 10001},
	};
	as_stream *stream = open_plain();
	int16_t sample;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		int error = as_capture_setup(stream, wrong[i].encoding, wrong[i].rate_hz, wrong[i].chunk_ms, wrong[i].quiet_ms,
									 wrong[i].hang_ms);
		assert_int_equal(error, AS_EINVAL);
	}
	assert_int_equal(as_capture_read(stream, NULL, 100, 0), AS_EINVAL);
	assert_int_equal(as_capture_read(stream, &sample, 0, 0), AS_EINVAL);
	assert_int_equal(as_capture_read(stream, &sample, 1, 0), AS_EINVAL);
	put_signal(stream, 0, FRAME); /* and none of it has changed what is read */
	read_expect(stream, 0, FRAME);
	assert_int_equal(as_capture_setup(stream, AS_S16, 24000, 20, 20, 0), 0);
	assert_int_equal(as_capture_read(stream, &sample, 2, 0), AS_EINVAL);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overrun_is_counted_and_loses_nothing_else),
		cmocka_unit_test(test_a_frame_larger_than_the_ring),
		cmocka_unit_test(test_order_past_the_wrap),
		cmocka_unit_test(test_an_empty_ring_is_written_from_its_start),
		cmocka_unit_test(test_paused_capture_is_dropped_and_counted),
		cmocka_unit_test(test_small_chunks_in_speech_large_ones_in_silence),
		cmocka_unit_test(test_no_hang_over_still_means_small_chunks_in_speech),
		cmocka_unit_test(test_a_chunk_larger_than_the_ring_is_what_fits),
		cmocka_unit_test(test_a_small_buffer_leaves_the_rest),
		cmocka_unit_test(test_onset_cuts_a_long_wait_short),
		cmocka_unit_test(test_a_full_chunk_of_silence_wakes),
		cmocka_unit_test(test_close_wakes_the_reader),
		cmocka_unit_test(test_close_hands_a_waiting_reader_what_is_there),
		cmocka_unit_test(test_one_reader_at_a_time),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_what_was_captured_can_be_read_after_close),
		cmocka_unit_test(test_g711),
		cmocka_unit_test(test_resampled_capture_keeps_its_length),
		cmocka_unit_test(test_a_resampler_that_holds_back_is_no_timeout),
		cmocka_unit_test(test_a_buffer_too_small_for_the_resampler),
		cmocka_unit_test(test_what_setup_and_read_refuse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
