/*
 * fuzz_audio_slices.c - libFuzzer target: MP3 and Ogg in slices. The first byte says how long a slice is.
 *
 * Whatever comes: no more samples than are allowed, of a rate that can be played, and a reason with every error.
 */
#include "audio_slices.h"
#include "audio_stream.h"
#include "oracle.h"

#define MAX_SAMPLES 96000

static void check(int failed, const audio_pcm *pcm, const char *error)
{
	if (failed) {
		expect(failed == AS_EINVAL || failed == AS_EFULL, "the wrong error");
		expect(error[0] != 0, "no reason");
		return;
	}
	expect(pcm->n <= MAX_SAMPLES, "more than may be held");
	expect(pcm->rate_hz >= AS_RATE_MIN_HZ && pcm->rate_hz <= AS_RATE_MAX_HZ, "the rate");
	expect(!pcm->n || pcm->samples, "no samples");
	free(pcm->samples);
}

static void decode(audio_slices *slices, const uint8_t *data, size_t n, size_t size)
{
	for (size_t at = 0; at < n; at += size) {
		audio_pcm pcm = {0};
		char error[128] = "";
		size_t part = n - at < size ? n - at : size;
		uint8_t *copy = (uint8_t *)copy_text(data + at, part);
		check(audio_slices_decode(slices, copy, part, at + part == n, MAX_SAMPLES, &pcm, error, sizeof(error)), &pcm,
			  error);
		free(copy);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	audio_slices *slices;
	if (n > 1 && !audio_slices_new(data + 1, n - 1, &slices)) {
		decode(slices, data + 1, n - 1, data[0] ? (size_t)data[0] * 8 : 1);
		audio_slices_free(slices);
	}
	return 0;
}
