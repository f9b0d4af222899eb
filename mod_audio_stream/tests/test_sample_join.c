/* Where samples begin in a message after one that was cut inside a sample: the audio tells, where there is any. */
#define _GNU_SOURCE
#include "support.h"

#include "sample_join.h"

#define FRAMES 4000

typedef struct audio {
	uint8_t bytes[4 * FRAMES + 4];
	size_t n;
	int channels;
} audio;

/* A tone of this level behind some silence; with two channels the other one is an octave higher. */
static audio tone(int channels, int level, int silent_frames)
{
	audio out = {.channels = channels};
	for (int i = 0; i < FRAMES / 2; i++) {
		for (int c = 0; c < channels; c++, out.n += 2) {
			int sample = i < silent_frames ? 0 : (int)lround(level * sin(0.35 * (c + 1) * i));
			out.bytes[out.n] = (uint8_t)sample;
			out.bytes[out.n + 1] = (uint8_t)(sample >> 8);
		}
	}
	return out;
}

/* The message from this byte of the audio on. */
static int begins_whole(const audio *of, size_t from, size_t missing)
{
	return sample_join_begins_whole(of->bytes + from, of->n - from, missing, of->channels);
}

static void test_speech_tells(void **state)
{
	(void)state;
	static const int levels[] = {3, 40, 300, 8000, 32000};
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		for (int channels = 1; channels <= 2; channels++) {
			audio said = tone(channels, levels[i], 0);
			size_t frame = 2 * (size_t)channels;
			for (size_t missing = 1; missing < frame; missing += 2) { /* a whole sample off, only the sides are wrong */
				assert_int_equal(begins_whole(&said, 0, missing), 1);
				assert_int_equal(begins_whole(&said, frame - missing, missing), 0);
			}
		}
	}
}

static void test_speech_behind_silence_tells(void **state)
{
	(void)state;
	audio said = tone(1, 8000, 1500);
	assert_int_equal(begins_whole(&said, 0, 1), 1);
	assert_int_equal(begins_whole(&said, 1, 1), 0);
}

static void test_what_does_not_tell_goes_on(void **state)
{
	(void)state;
	audio silence = tone(2, 0, 0), noise = tone(1, 0, 0), said = tone(1, 8000, 0);
	uint32_t random = 1;
	for (size_t i = 0; i < noise.n; i++) {
		noise.bytes[i] = (uint8_t)next_random(&random);
	}
	assert_int_equal(begins_whole(&silence, 0, 3), 0);
	assert_int_equal(begins_whole(&noise, 0, 1), 0);
	for (size_t n = 0; n < 16; n++) {
		assert_int_equal(sample_join_begins_whole(said.bytes, n, 1, 1), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_speech_tells),
		cmocka_unit_test(test_speech_behind_silence_tells),
		cmocka_unit_test(test_what_does_not_tell_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
