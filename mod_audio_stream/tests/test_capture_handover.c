/* test_capture_handover.c - as_capture_setup() again, while audio waits: what the next reader gets, in which format. */
#define _GNU_SOURCE
#include "support.h"

#define SECOND_BYTES 96000

/* Captures n samples of the signal from `first` on. */
static void capture_signal(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *samples = signal_new(first, n);
	assert_int_equal(as_host_capture(stream, samples, n), n);
	free(samples);
}

/* All that can be read; returns bytes. */
static size_t read_all(as_stream *stream, uint8_t *out)
{
	size_t at = 0;
	for (long n; (n = as_capture_read(stream, out + at, SECOND_BYTES, 0)) > 0;) {
		at += (size_t)n;
	}
	return at;
}

static void setup(as_stream *stream, int encoding, int rate_hz)
{
	assert_int_equal(as_capture_setup(stream, encoding, rate_hz, 20, 20, 0), 0);
}

static void test_what_waits_stays(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t out[2 * SECOND_BYTES];
	setup(stream, AS_S16, RATE);
	capture_signal(stream, 0, 100); /* not a chunk yet */
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), 0);
	setup(stream, AS_S16, RATE);
	capture_signal(stream, 100, 2 * FRAME);
	assert_int_equal(read_all(stream, (uint8_t *)out), 2 * (100 + 2 * FRAME));
	for (size_t i = 0; i < 100 + 2 * FRAME; i++) {
		assert_int_equal(out[i], signal_at(i));
	}
	done(stream);
}

/* Sample for sample what one reader would have got, however often the next one takes over. */
static void test_a_resampler_goes_on(void **state)
{
	(void)state;
	static uint8_t once[4 * SECOND_BYTES], often[4 * SECOND_BYTES];
	size_t bytes[2] = {0};
	for (int handovers = 0; handovers < 2; handovers++) {
		as_stream *stream = open_plain();
		setup(stream, AS_S16, 24000);
		for (uint64_t i = 0; i < 50; i++) {
			capture_signal(stream, i * FRAME, FRAME);
			if (handovers) {
				setup(stream, AS_S16, 24000);
			}
			bytes[handovers] += read_all(stream, (handovers ? often : once) + bytes[handovers]);
		}
		done(stream);
	}
	assert_in_range(bytes[0], 50 * 3 * FRAME * 2 - 1000, 50 * 3 * FRAME * 2);
	assert_int_equal(bytes[0], bytes[1]);
	assert_memory_equal(once, often, bytes[0]);
}

static void test_another_encoding_from_the_next_sample_on(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	uint8_t out[SECOND_BYTES], coded[FRAME];
	int16_t *signal = signal_new(FRAME, FRAME);
	setup(stream, AS_S16, RATE);
	capture_signal(stream, 0, 2 * FRAME);
	assert_int_equal(as_capture_read(stream, out, 2 * FRAME, 0), 2 * FRAME);
	setup(stream, AS_PCMU, RATE);
	assert_int_equal(read_all(stream, out), FRAME);
	as_pcmu_encode(signal, coded, FRAME);
	assert_memory_equal(out, coded, FRAME);
	free(signal);
	done(stream);
}

/* Only what the old resampler holds is lost. */
static void test_another_rate(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	static uint8_t out[4 * SECOND_BYTES];
	int16_t *tone = sine_new(440, RATE, 10000, RATE);
	setup(stream, AS_S16, 24000);
	assert_int_equal(as_host_capture(stream, tone, RATE / 2), RATE / 2);
	size_t first = read_all(stream, out);
	assert_int_equal(as_host_capture(stream, tone + RATE / 2, RATE / 2), RATE / 2);
	setup(stream, AS_S16, RATE);
	size_t second = read_all(stream, out);
	assert_in_range(first / 2, 12000 - 240, 12000); /* 10 ms */
	assert_int_equal(second / 2, RATE / 2);
	free(tone);
	done(stream);
}

static void test_what_is_refused_changes_nothing(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	uint8_t out[SECOND_BYTES];
	setup(stream, AS_PCMA, RATE);
	assert_int_equal(as_capture_setup(stream, AS_PCMA, 16000, 20, 20, 0), AS_EINVAL);
	assert_int_equal(as_capture_setup(stream, AS_S16, 16000, 20, 10, 0), AS_EINVAL);
	assert_int_equal(as_capture_check(AS_PCMA, 16000, 20, 20, 0), AS_EINVAL);
	assert_int_equal(as_capture_check(AS_S16, 16000, 20, 10, 0), AS_EINVAL);
	assert_int_equal(as_capture_check(AS_S16, 16000, 20, 20, 0), 0);
	capture_signal(stream, 0, FRAME);
	assert_int_equal(read_all(stream, out), FRAME);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_waits_stays),
		cmocka_unit_test(test_a_resampler_goes_on),
		cmocka_unit_test(test_another_encoding_from_the_next_sample_on),
		cmocka_unit_test(test_another_rate),
		cmocka_unit_test(test_what_is_refused_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
