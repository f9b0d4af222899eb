/* Interleaved stereo from as_host_capture() to as_capture_read(): both channels, never a torn pair. */
#define _GNU_SOURCE
#include "convert.h"
#include "stream.h"
#include "support.h"

static as_stream *open_stereo(int capture_ms)
{
	return open_config((as_config){.rate_hz = RATE, .channels = 2, .capture_ms = capture_ms});
}

/* signal_at() on the left, its negative on the right. */
static int16_t *pairs_new(uint64_t first, size_t n)
{
	int16_t *pairs = malloc((n + 1) * 2 * sizeof(int16_t));
	for (size_t i = 0; i < n; i++) {
		pairs[2 * i] = signal_at(first + i);
		pairs[2 * i + 1] = (int16_t)-signal_at(first + i);
	}
	return pairs;
}

static size_t put_pairs(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *pairs = pairs_new(first, n);
	size_t stored = as_host_capture(stream, pairs, n);
	free(pairs);
	return stored;
}

static void read_pairs(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *out = malloc((n + 1) * 4), *due = pairs_new(first, n);
	assert_int_equal(as_capture_read(stream, out, n * 4, 0), n * 4);
	assert_memory_equal(out, due, n * 4);
	free(out);
	free(due);
}

static void test_what_is_told(void **state)
{
	(void)state;
	as_info info;
	as_stream *stream = open_stereo(0), *mono = open_plain();
	as_stream_info(stream, &info);
	assert_int_equal(info.channels, 2);
	as_stream_info(mono, &info);
	assert_int_equal(info.channels, 1);
	assert_int_equal(as_stream_create("uuid", "x", &(as_config){.rate_hz = 8000, .channels = 3}, &mono), AS_EINVAL);
	assert_int_equal(as_stream_create("uuid", "x", &(as_config){.rate_hz = 8000, .channels = -1}, &mono), AS_EINVAL);
	done(mono);
	done(stream);
}

static void test_counts_are_per_channel(void **state)
{
	(void)state;
	as_stream *stream = open_stereo(0);
	assert_int_equal(put_pairs(stream, 0, FRAME), FRAME);
	assert_int_equal(as_capture_ready(stream), FRAME);
	read_pairs(stream, 0, FRAME);
	as_stream_pause(stream, AS_CAPTURE);
	assert_int_equal(put_pairs(stream, 0, FRAME), 0);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.capture_samples, FRAME);
	assert_int_equal(stats.capture_read_samples, FRAME);
	assert_int_equal(stats.capture_paused_samples, FRAME);
	assert_int_equal(stats.capture_ticks, 2);
	done(stream);
}

static void test_an_overrun_loses_whole_pairs(void **state)
{
	(void)state;
	as_stream *stream = open_stereo(128); /* 1024 pairs */
	assert_int_equal(put_pairs(stream, 0, 1000), 1000);
	assert_int_equal(put_pairs(stream, 1000, FRAME), 24);
	assert_int_equal(stats_of(stream).capture_dropped_samples, FRAME - 24);
	read_pairs(stream, 0, 1024);
	done(stream);
}

/* Buffers that end in the middle of a pair, round a ring that never empties. */
static void test_no_pair_is_torn(void **state)
{
	(void)state;
	as_stream *stream = open_stereo(128);
	uint32_t seed = 4;
	uint64_t written = 900, read = 0;
	put_pairs(stream, 0, 900);
	while (read < 60000) {
		int16_t out[800];
		size_t bytes = 4 + random_upto(&seed, 1500);
		long got = as_capture_read(stream, out, bytes, 0);
		assert_true(got > 0 && got % 4 == 0 && (size_t)got <= bytes);
		for (long i = 0; i < got / 4; i++, read++) {
			assert_int_equal(out[2 * i], signal_at(read));
			assert_int_equal(out[2 * i + 1], -signal_at(read));
		}
		written += put_pairs(stream, written, 900 - (size_t)(written - read));
	}
	done(stream);
}

static void test_g711(void **state)
{
	(void)state;
	as_stream *stream = open_stereo(0);
	int16_t *pairs = pairs_new(0, FRAME), decoded[2 * FRAME], due[2 * FRAME];
	uint8_t out[2 * FRAME], codes[2 * FRAME];
	assert_int_equal(as_capture_setup(stream, AS_PCMU, 8000, 20, 20, 0), 0);
	put_pairs(stream, 0, FRAME);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), sizeof(out));
	as_pcmu_encode(pairs, codes, 2 * FRAME);
	as_pcmu_decode(codes, due, 2 * FRAME);
	as_pcmu_decode(out, decoded, 2 * FRAME);
	assert_memory_equal(decoded, due, sizeof(due));
	free(pairs);
	done(stream);
}

/* Another tone on each side: both come out at the reader's rate with their length and level, and neither in the other. */
static void test_resampled_channels_stay_apart(void **state)
{
	(void)state;
	enum { N = 8000 };
	as_stream *stream = open_stereo(2000);
	int16_t *left = sine_new(500, RATE, 8000, N), *pairs = malloc(N * 4), *out = malloc(N * 3 * 4 + 64);
	double sums[2] = {0};
	for (size_t i = 0; i < N; i++) {
		pairs[2 * i] = left[i];
		pairs[2 * i + 1] = 0;
	}
	assert_int_equal(as_capture_setup(stream, AS_S16, 24000, 20, 20, 0), 0);
	assert_int_equal(as_host_capture(stream, pairs, N), N);
	as_stream_close(stream);
	long bytes = 0;
	for (long got; (got = as_capture_read(stream, (char *)out + bytes, (size_t)(N * 3 * 4 + 64 - bytes), 0)) > 0;) {
		assert_int_equal(got % 4, 0);
		bytes += got;
	}
	assert_int_equal(bytes, N * 3 * 4);
	for (size_t i = 0; i < N * 3; i++) {
		sums[0] += (double)out[2 * i] * out[2 * i];
		sums[1] += (double)out[2 * i + 1] * out[2 * i + 1];
	}
	assert_true(fabs(sqrt(sums[0] / (N * 3)) - 8000 / sqrt(2)) < 60);
	assert_true(sums[1] == 0);
	free(left);
	free(pairs);
	free(out);
	as_stream_unref(stream);
}

static void test_either_channel_counts_as_speech(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++) {
		as_stream *stream = open_stereo(0);
		int16_t pairs[2 * FRAME] = {0};
		as_host_capture(stream, pairs, FRAME);
		assert_int_equal(stats_of(stream).capture_active, 0);
		for (int i = 0; i < FRAME; i++) {
			pairs[2 * i + side] = signal_at((uint64_t)i);
		}
		as_host_capture(stream, pairs, FRAME);
		assert_int_equal(stats_of(stream).capture_active_samples, 2 * FRAME);
		done(stream);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_told),
		cmocka_unit_test(test_counts_are_per_channel),
		cmocka_unit_test(test_an_overrun_loses_whole_pairs),
		cmocka_unit_test(test_no_pair_is_torn),
		cmocka_unit_test(test_g711),
		cmocka_unit_test(test_resampled_channels_stay_apart),
		cmocka_unit_test(test_either_channel_counts_as_speech),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
