#define _GNU_SOURCE
#include "convert.h"

#include "support.h"

typedef struct collected {
	int16_t *samples;
	size_t count, room, largest;
} collected;

static int collect(void *arg, const int16_t *samples, size_t n)
{
	collected *out = arg;
	assert_true(out->count + n <= out->room);
	memcpy(out->samples + out->count, samples, n * sizeof(int16_t));
	out->count += n;
	out->largest = n > out->largest ? n : out->largest;
	return 0;
}

static collected collected_new(size_t room)
{
	return (collected){.samples = malloc(room * sizeof(int16_t)), .room = room};
}

/* Converts n samples in pieces of 1..most (at random, or exactly `most` when fixed), then drains. */
static void convert_split(as_convert *convert, const int16_t *in, size_t n, size_t most, int fixed, collected *out)
{
	uint32_t seed = 42;
	while (n > 0) {
		size_t part = fixed ? most : random_upto(&seed, most);
		part = part < n ? part : n;
		size_t bound = as_convert_bound(convert, part), before = out->count;
		assert_int_equal(as_convert_push(convert, in, part, collect, out), 0);
		assert_true(out->count - before + as_convert_held(convert) <= bound);
		in += part;
		n -= part;
	}
	size_t held = as_convert_held(convert), before = out->count;
	assert_int_equal(as_convert_drain(convert, collect, out), 0);
	assert_int_equal(out->count - before, held);
	assert_int_equal(as_convert_held(convert), 0);
}

static collected convert_all(int from_hz, int to_hz, const int16_t *in, size_t n, size_t most, int fixed)
{
	as_convert *convert = NULL;
	collected out = collected_new(n * (size_t)to_hz / (size_t)from_hz + 4000);
	assert_int_equal(as_convert_new(from_hz, to_hz, 1, &convert), 0);
	assert_int_equal(as_convert_from_rate(convert), from_hz);
	convert_split(convert, in, n, most, fixed, &out);
	as_convert_free(convert);
	return out;
}

static const struct {
	int from_hz, to_hz;
} pairs[] = {
	{8000, 16000},  {8000, 24000},  {8000, 32000}, {8000, 44100},  {8000, 48000},  {16000, 8000},  {24000, 8000},
	{32000, 8000},  {44100, 8000},  {48000, 8000}, {16000, 24000}, {24000, 16000}, {44100, 48000}, {48000, 44100},
	{24000, 48000}, {48000, 24000}, {11025, 8000}, {8000, 22050},  {8001, 8000},   {47999, 8000},
};

static void test_length_is_kept_whatever_the_split(void **state)
{
	(void)state;
	static const struct {
		size_t most;
		int fixed;
	} splits[] = {{1, 1}, {FRAME, 1}, {1024, 1}, {1025, 1}, {3000, 0}, {7, 0}};
	for (size_t i = 0; i < COUNT(pairs); i++) {
		size_t n = (size_t)pairs[i].from_hz / 5 + 13;
		int16_t *in = sine_new(440, pairs[i].from_hz, 9000, n);
		collected whole = convert_all(pairs[i].from_hz, pairs[i].to_hz, in, n, n, 1);
		double due = (double)n * pairs[i].to_hz / pairs[i].from_hz;
		assert_true(fabs((double)whole.count - due) <= 1.0);
		assert_true(whole.largest <= AS_CONVERT_CHUNK);
		for (size_t s = 0; s < COUNT(splits); s++) {
			collected parts = convert_all(pairs[i].from_hz, pairs[i].to_hz, in, n, splits[s].most, splits[s].fixed);
			assert_int_equal(parts.count, whole.count);
			assert_memory_equal(parts.samples, whole.samples, whole.count * sizeof(int16_t));
			free(parts.samples);
		}
		free(whole.samples);
		free(in);
	}
}

static void test_any_short_utterance_keeps_its_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(pairs); i++) {
		for (size_t n = 0; n < 300; n += n < 12 ? 1 : 41) {
			int16_t *in = signal_new(0, n);
			collected out = convert_all(pairs[i].from_hz, pairs[i].to_hz, in, n, n ? n : 1, 1);
			assert_true(fabs((double)out.count - (double)n * pairs[i].to_hz / pairs[i].from_hz) <= 1.0);
			free(out.samples);
			free(in);
		}
	}
}

/* Utterances after each other through one converter: each keeps its length and none hears of the one before. */
static void test_drain_starts_afresh(void **state)
{
	(void)state;
	size_t n = 4321;
	int16_t *in = sine_new(700, 24000, 12000, n);
	as_convert *convert = NULL;
	collected first = collected_new(4000), again = collected_new(4000);
	assert_int_equal(as_convert_new(24000, 8000, 1, &convert), 0);
	convert_split(convert, in, n, 480, 1, &first);
	convert_split(convert, in, n, 999, 0, &again);
	assert_int_equal(first.count, again.count);
	assert_memory_equal(first.samples, again.samples, first.count * sizeof(int16_t));
	as_convert_free(convert);
	free(first.samples);
	free(again.samples);
	free(in);
}

/* Fits a sine to the middle of the signal. Returns the rest's level below it in dB; *shift_s: how much it came late. */
static double snr_db(const collected *out, double hz, int rate_hz, double *shift_s)
{
	size_t from = (size_t)rate_hz / 50, to = from + (size_t)(rate_hz / 2);
	double step = 2 * M_PI * hz / rate_hz, s = 0, c = 0, noise = 0, half = (double)(to - from) / 2;
	for (size_t i = from; i < to; i++) {
		s += out->samples[i] * sin(step * (double)i) / half;
		c += out->samples[i] * cos(step * (double)i) / half;
	}
	for (size_t i = from; i < to; i++) {
		double error = out->samples[i] - s * sin(step * (double)i) - c * cos(step * (double)i);
		noise += error * error;
	}
	*shift_s = -atan2(c, s) / (2 * M_PI * hz);
	return 10 * log10((s * s + c * c) * half / (noise + 1e-9));
}

static void test_tones_come_through_clean_and_on_time(void **state)
{
	(void)state;
	const double tones[] = {440, 1000};
	for (size_t i = 0; i < COUNT(pairs); i++) {
		for (size_t t = 0; t < COUNT(tones); t++) {
			double shift_s;
			int16_t *in = sine_new(tones[t], pairs[i].from_hz, 10000, (size_t)pairs[i].from_hz);
			collected out = convert_all(pairs[i].from_hz, pairs[i].to_hz, in, (size_t)pairs[i].from_hz, 480, 1);
			double snr = snr_db(&out, tones[t], pairs[i].to_hz, &shift_s);
			if (snr < 40 || fabs(shift_s) > 1.0 / 8000) {
				fail_msg("%d to %d Hz, %g Hz: SNR %.1f dB, %g ms late", pairs[i].from_hz, pairs[i].to_hz, tones[t], snr,
						 shift_s * 1000);
			}
			free(out.samples);
			free(in);
		}
	}
}

/* What the lower rate cannot hold must not come back as something else. */
static void test_no_aliases(void **state)
{
	(void)state;
	int16_t *in = sine_new(6000, 24000, 10000, 24000);
	collected out = convert_all(24000, 8000, in, 24000, 480, 1);
	double power = 0;
	for (size_t i = 400; i < 7600; i++) {
		power += (double)out.samples[i] * out.samples[i] / 7200;
	}
	assert_true(sqrt(power) < 100); /* 37 dB below */
	free(out.samples);
	free(in);
}

static int same_pointer(void *arg, const int16_t *samples, size_t n)
{
	(void)n;
	return samples == arg ? 0 : AS_EINVAL;
}

static void test_equal_rates_are_passed_on_untouched(void **state)
{
	(void)state;
	int16_t in[5000] = {1, 2, 3};
	as_convert *convert = NULL;
	assert_int_equal(as_convert_new(8000, 8000, 1, &convert), 0);
	assert_int_equal(as_convert_push(convert, in, 5000, same_pointer, in), 0);
	assert_int_equal(as_convert_push(convert, in, 0, same_pointer, NULL), 0);
	assert_int_equal(as_convert_held(convert), 0);
	assert_int_equal(as_convert_drain(convert, same_pointer, NULL), 0);
	as_convert_free(convert);
	as_convert_free(NULL);
}

static int collect_pairs(void *arg, const int16_t *samples, size_t n)
{
	assert_true(n <= AS_CONVERT_CHUNK);
	return collect(arg, samples, 2 * n);
}

/* Each channel of stereo is what that channel alone would be, to the bit. */
static void test_channels_are_converted_each_for_itself(void **state)
{
	(void)state;
	enum { N = 5000 };
	for (size_t i = 0; i < COUNT(pairs); i++) {
		int from_hz = pairs[i].from_hz, to_hz = pairs[i].to_hz;
		int16_t *sides[2] = {sine_new(440, from_hz, 9000, N), sine_new(1234, from_hz, 5000, N)};
		int16_t both[2 * N];
		as_convert *convert = NULL;
		collected out = collected_new(2 * N * (size_t)to_hz / (size_t)from_hz + 8000);
		for (size_t at = 0; at < 2 * N; at++) {
			both[at] = sides[at % 2][at / 2];
		}
		assert_int_equal(as_convert_new(from_hz, to_hz, 2, &convert), 0);
		assert_int_equal(as_convert_push(convert, both, 1777, collect_pairs, &out), 0);
		assert_int_equal(as_convert_push(convert, both + 2 * 1777, N - 1777, collect_pairs, &out), 0);
		assert_int_equal(as_convert_drain(convert, collect_pairs, &out), 0);
		for (size_t side = 0; side < 2; side++) {
			collected alone = convert_all(from_hz, to_hz, sides[side], N, N, 1);
			assert_int_equal(2 * alone.count, out.count);
			for (size_t at = 0; at < alone.count; at++) {
				assert_int_equal(out.samples[2 * at + side], alone.samples[at]);
			}
			free(alone.samples);
			free(sides[side]);
		}
		as_convert_free(convert);
		free(out.samples);
	}
}

static void test_numbers_of_channels(void **state)
{
	(void)state;
	as_convert *convert = NULL;
	assert_int_equal(as_convert_new(8000, 16000, 0, &convert), AS_EINVAL);
	assert_int_equal(as_convert_new(8000, 16000, 3, &convert), AS_EINVAL);
	assert_null(convert);
}

static int refuse(void *arg, const int16_t *samples, size_t n)
{
	(void)arg;
	(void)samples;
	(void)n;
	return AS_ENOMEM;
}

static void test_the_sinks_error_is_handed_back(void **state)
{
	(void)state;
	int16_t in[2000] = {0};
	as_convert *convert = NULL;
	assert_int_equal(as_convert_new(8000, 24000, 1, &convert), 0);
	assert_int_equal(as_convert_push(convert, in, 2000, refuse, NULL), AS_ENOMEM);
	assert_int_equal(as_convert_drain(convert, refuse, NULL), AS_ENOMEM);
	as_convert_free(convert);
}

static void test_formats(void **state)
{
	(void)state;
	const int fine[] = {8000, 11025, 16000, 24000, 32000, 44100, 48000}, wrong[] = {-1, 0, 7999, 48001};
	for (size_t i = 0; i < COUNT(fine); i++) {
		assert_int_equal(as_format_check(AS_S16, fine[i]), 0);
		assert_int_equal(as_format_check(AS_PCMU, fine[i]), fine[i] == 8000 ? 0 : AS_EINVAL);
		assert_int_equal(as_format_check(AS_PCMA, fine[i]), fine[i] == 8000 ? 0 : AS_EINVAL);
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(as_format_check(AS_S16, wrong[i]), AS_EINVAL);
	}
	assert_int_equal(as_format_check(0, 8000), AS_EINVAL);
	assert_int_equal(as_format_check(4, 8000), AS_EINVAL);
	assert_int_equal(as_format_bytes_per_sample(AS_S16), 2);
	assert_int_equal(as_format_bytes_per_sample(AS_PCMU), 1);
	assert_int_equal(as_format_bytes_per_sample(AS_PCMA), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_length_is_kept_whatever_the_split),
		cmocka_unit_test(test_any_short_utterance_keeps_its_length),
		cmocka_unit_test(test_drain_starts_afresh),
		cmocka_unit_test(test_tones_come_through_clean_and_on_time),
		cmocka_unit_test(test_no_aliases),
		cmocka_unit_test(test_equal_rates_are_passed_on_untouched),
		cmocka_unit_test(test_channels_are_converted_each_for_itself),
		cmocka_unit_test(test_numbers_of_channels),
		cmocka_unit_test(test_the_sinks_error_is_handed_back),
		cmocka_unit_test(test_formats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
