/* MP3 and Ogg in slices: whatever they are cut into, it is the file; and whatever else comes, it is bounded. */
#define _GNU_SOURCE
#include "support.h"

#include <ogg/ogg.h>

#include "audio_file.h"
#include "audio_slices.h"
#include "sound_file.h"

#define PLENTY (60u * 48000)
#define OGG_VORBIS (SF_FORMAT_OGG | SF_FORMAT_VORBIS)
#define OGG_OPUS (SF_FORMAT_OGG | SF_FORMAT_OPUS)

typedef struct kind {
	int format, rate_hz, channels;
} kind;

static const kind kinds[] = {
	{OGG_VORBIS, 16000, 1},    {OGG_VORBIS, 44100, 2},     {OGG_OPUS, 48000, 1},       {OGG_OPUS, 16000, 2},
	{MPEG_LAYER_III, 8000, 1}, {MPEG_LAYER_III, 24000, 1}, {MPEG_LAYER_III, 44100, 2},
};

static char error[256];

/* Everything that slices gave, one behind the other. */
typedef struct heard {
	int16_t *samples;
	size_t n;
	int rate_hz;
} heard;

static int hear(audio_slices *slices, const uint8_t *data, size_t n, int last, heard *all)
{
	uint8_t *copy = malloc(n ? n : 1); /* of exactly that size: reading past it is noticed */
	audio_pcm pcm = {0};
	memcpy(copy, data, n);
	error[0] = '\0';
	int failed = audio_slices_decode(slices, copy, n, last, PLENTY, &pcm, error, sizeof(error));
	free(copy);
	assert_int_equal(failed != 0, error[0] != '\0');
	if (!failed && pcm.n) {
		all->samples = realloc(all->samples, (all->n + pcm.n) * sizeof(int16_t));
		memcpy(all->samples + all->n, pcm.samples, pcm.n * sizeof(int16_t));
		all->n += pcm.n;
		all->rate_hz = pcm.rate_hz;
	}
	free(failed ? NULL : pcm.samples);
	return failed;
}

static audio_slices *begin(const uint8_t *data, size_t n)
{
	audio_slices *slices = NULL;
	assert_int_equal(audio_slices_new(data, n, &slices), 0);
	return slices;
}

/* Slices of this size, the last one shorter. */
static heard hear_sliced(const uint8_t *data, size_t n, size_t size)
{
	heard all = {0};
	audio_slices *slices = begin(data, size < n ? size : n);
	for (size_t at = 0; at < n; at += size) {
		size_t part = n - at < size ? n - at : size;
		assert_int_equal(hear(slices, data + at, part, at + part == n, &all), 0);
	}
	audio_slices_free(slices);
	return all;
}

/* The tone's share in the middle of what was heard: 1 for it alone. */
static double purity(const int16_t *samples, size_t n, int rate_hz)
{
	double re = 0, im = 0, all = 0;
	size_t first = n / 8, count = n / 8 * 6;
	for (size_t i = first; i < first + count; i++) {
		re += samples[i] * cos(2 * M_PI * 440 * (double)i / rate_hz);
		im += samples[i] * sin(2 * M_PI * 440 * (double)i / rate_hz);
		all += (double)samples[i] * samples[i];
	}
	return all > 0 ? 2 * (re * re + im * im) / (double)count / all : 0;
}

static sound_file make(const kind *of, size_t ms)
{
	return sound_file_make(of->format, of->rate_hz, of->channels, (size_t)of->rate_hz * ms / 1000);
}

/* ---- What is right ----------------------------------------------------------------------------------------------- */

static void test_slices_of_any_size_are_the_file(void **state)
{
	(void)state;
	static const size_t sizes[] = {1, 3, 11, 100, 417, 1024, 4096, 100000};
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 1500);
		heard whole = hear_sliced(file.data, (size_t)file.n, (size_t)file.n);
		assert_int_equal(whole.rate_hz, kinds[k].rate_hz);
		assert_true(purity(whole.samples, whole.n, whole.rate_hz) > 0.99);
		for (size_t i = 0; i < COUNT(sizes); i++) {
			heard sliced = hear_sliced(file.data, (size_t)file.n, sizes[i]);
			assert_int_equal(sliced.n, whole.n);
			assert_memory_equal(sliced.samples, whole.samples, whole.n * sizeof(int16_t));
			free(sliced.samples);
		}
		free(whole.samples);
		free(file.data);
	}
}

/* What libsndfile makes of it: the same length, and the same samples but for rounding. */
static void test_the_whole_is_what_another_decoder_makes_of_it(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 1500);
		heard ours = hear_sliced(file.data, (size_t)file.n, 1000);
		audio_pcm theirs;
		assert_int_equal(
			audio_file_decode(file.data, (size_t)file.n, WIRE_FILE_OGG, PLENTY, &theirs, error, sizeof(error)), 0);
		assert_int_equal(ours.rate_hz, theirs.rate_hz);
		assert_int_equal(ours.n, theirs.n);
		for (size_t i = 0; i < ours.n; i++) {
			assert_in_range(ours.samples[i] - theirs.samples[i] + 2, 0, 4);
		}
		free(ours.samples);
		free(theirs.samples);
		free(file.data);
	}
}

/* Each with its own beginning; in one message, and in slices. */
static void test_files_back_to_back(void **state)
{
	(void)state;
	static const size_t sizes[] = {500, 4096, 1000000};
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 700);
		size_t n = (size_t)file.n;
		uint8_t *three = malloc(3 * n);
		for (size_t i = 0; i < 3; i++) {
			memcpy(three + i * n, file.data, n);
		}
		heard one = hear_sliced(file.data, n, n);
		for (size_t i = 0; i < COUNT(sizes); i++) {
			heard all = hear_sliced(three, 3 * n, sizes[i]);
			assert_in_range(all.n, 3 * one.n - 100,
							3 * one.n + 3 * 2 * 1152); /* LAME's padding may be heard as silence */
			free(all.samples);
		}
		free(one.samples);
		free(three);
		free(file.data);
	}
}

/* In one message: what it began with is what it all comes out as. */
static void test_another_rate_behind_the_first(void **state)
{
	(void)state;
	static const int formats[] = {OGG_VORBIS, OGG_OPUS, MPEG_LAYER_III};
	for (size_t k = 0; k < COUNT(formats); k++) {
		if (!sound_file_can(formats[k])) {
			continue;
		}
		sound_file first = sound_file_make(formats[k], 16000, 1, 16000),
				   second = sound_file_make(formats[k], 24000, 1, 24000);
		size_t n = (size_t)(first.n + second.n);
		uint8_t *both = malloc(n);
		memcpy(both, first.data, (size_t)first.n);
		memcpy(both + first.n, second.data, (size_t)second.n);
		heard all = hear_sliced(both, n, n);
		assert_int_equal(all.rate_hz, 16000);
		assert_in_range(all.n, 31000, 36000);
		assert_true(purity(all.samples, 15000, 16000) > 0.98);
		assert_true(purity(all.samples + all.n - 15000, 15000, 16000) > 0.98);
		heard apart = {0};
		audio_slices *slices = begin(first.data, (size_t)first.n);
		assert_int_equal(hear(slices, first.data, (size_t)first.n, 0, &apart), 0);
		assert_int_equal(apart.rate_hz, 16000);
		assert_int_equal(hear(slices, second.data, (size_t)second.n, 1, &apart), 0);
		assert_int_equal(apart.rate_hz, 24000);
		audio_slices_free(slices);
		free(apart.samples);
		free(all.samples);
		free(both);
		free(first.data);
		free(second.data);
	}
}

/* A sentence that was broken off, and the next one in a message of its own: nothing is heard of both at once. */
static void test_a_file_that_was_broken_off_does_not_spoil_the_next(void **state)
{
	(void)state;
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 900);
		size_t n = (size_t)file.n;
		heard whole = hear_sliced(file.data, n, n), all = {0};
		audio_slices *slices = begin(file.data, n);
		hear(slices, file.data, n * 2 / 3 + 1, 0, &all);
		size_t before = all.n;
		assert_int_equal(hear(slices, file.data, n, 1, &all), 0);
		assert_in_range(all.n - before, whole.n - 1152, whole.n + 1152);
		assert_true(purity(all.samples + all.n - whole.n * 9 / 10, whole.n * 9 / 10, whole.rate_hz) > 0.98);
		audio_slices_free(slices);
		free(all.samples);
		free(whole.samples);
		free(file.data);
	}
}

/* Slices of a file whose beginning was missed. */
static void test_from_the_middle_on(void **state)
{
	(void)state;
	if (!sound_file_can(MPEG_LAYER_III)) {
		skip();
	}
	sound_file file = sound_file_make(MPEG_LAYER_III, 24000, 1, 48000);
	heard all = {0};
	audio_slices *slices = begin(file.data, (size_t)file.n);
	assert_int_equal(hear(slices, file.data + 1001, (size_t)file.n - 1001, 1, &all), 0);
	assert_true(purity(all.samples, all.n, 24000) >
				0.9); /* its first frames lack what those before had left for them */
	audio_slices_free(slices);
	free(all.samples);
	free(file.data);
}

static void test_a_large_tag_is_skipped(void **state)
{
	(void)state;
	if (!sound_file_can(MPEG_LAYER_III)) {
		skip();
	}
	const size_t tag = 3u << 20;
	sound_file file = sound_file_make(MPEG_LAYER_III, 24000, 1, 24000);
	size_t n = 10 + tag + (size_t)file.n;
	uint8_t *tagged = malloc(n);
	memset(tagged, 0xff, n); /* all of it frames, to who looks for them */
	memcpy(tagged, "ID3\4\0\0", 6);
	for (int i = 0; i < 4; i++) {
		tagged[6 + i] = (uint8_t)(tag >> (7 * (3 - i)) & 0x7f);
	}
	memcpy(tagged + 10 + tag, file.data, (size_t)file.n);
	heard whole = hear_sliced(file.data, (size_t)file.n, (size_t)file.n);
	for (size_t size = 4096; size <= n; size = size == n ? n + 1 : n) {
		heard all = hear_sliced(tagged, n, size);
		assert_int_equal(all.n, whole.n);
		free(all.samples);
	}
	free(whole.samples);
	free(tagged);
	free(file.data);
}

/* ---- What is wrong ----------------------------------------------------------------------------------------------- */

static void test_what_is_decoded_as_a_whole(void **state)
{
	(void)state;
	static const struct {
		const char *data;
		size_t n;
	} others[] = {{"", 0}, {"hello", 5}, {"RIFF\4\0\0\0WAVE", 12}, {"fLaC\0\0\0\0", 8}, {"\xff\xfb\x00", 3}};
	audio_slices *slices = NULL;
	for (size_t i = 0; i < COUNT(others); i++) {
		assert_int_equal(audio_slices_new(others[i].data, others[i].n, &slices), AS_EINVAL);
	}
	uint8_t speex[64] = "OggS\0\2";
	memcpy(speex + 28, "Speex   ", 8);
	assert_int_equal(audio_slices_new(speex, sizeof(speex), &slices), AS_EINVAL);
	assert_int_equal(audio_slices_ends_before("RIFF\4\0\0\0WAVE", 12), 1);
	assert_int_equal(audio_slices_ends_before("fLaC", 4), 1);
	assert_int_equal(audio_slices_ends_before("RIFFraff, and more", 18), 0);
}

static void test_no_audio_is_an_error_at_the_end(void **state)
{
	(void)state;
	static const struct {
		const char *data;
		size_t n;
		const char *says;
	} nothing[] = {{"ID3\4\0\0\0\0\0\0", 10, "the MP3 file has no audio in it"},
				   {"\xff\xfb\x90\x00 and that was it", 20, "the MP3 file has no audio in it"},
				   {"OggS\0\2 and that was it", 22, "the Ogg file has no audio in it"}};
	for (size_t i = 0; i < COUNT(nothing); i++) {
		heard all = {0};
		audio_slices *slices = begin((const uint8_t *)nothing[i].data, nothing[i].n);
		assert_int_equal(hear(slices, (const uint8_t *)nothing[i].data, nothing[i].n, 0, &all), 0);
		assert_int_equal(audio_slices_heard(slices), 0);
		assert_int_equal(hear(slices, (const uint8_t *)"", 0, 1, &all), AS_EINVAL);
		assert_string_equal(error, nothing[i].says);
		audio_slices_free(slices);
	}
}

static void test_more_than_may_be_held(void **state)
{
	(void)state;
	sound_file file = sound_file_make(OGG_OPUS, 16000, 1, 32000);
	audio_slices *slices = begin(file.data, (size_t)file.n);
	audio_pcm pcm;
	assert_int_equal(audio_slices_decode(slices, file.data, (size_t)file.n, 0, 8000, &pcm, error, sizeof(error)),
					 AS_EFULL);
	assert_string_equal(error, "the Ogg file is longer than 0.5 s, which is more than can be held");
	audio_slices_free(slices);
	free(file.data);
}

/* Rubbish behind a beginning: no more is kept than is said, and a file behind all that is heard. */
static void test_rubbish_is_bounded(void **state)
{
	(void)state;
	uint32_t random = 1;
	uint8_t *rubbish = malloc(1 << 20);
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 500);
		heard all = {0};
		audio_slices *slices = begin(file.data, (size_t)file.n);
		for (int i = 0; i < 8; i++) {
			for (size_t j = 0; j < 1 << 20; j++) {
				rubbish[j] = i & 1 ? 0 : (uint8_t)next_random(&random);
			}
			hear(slices, rubbish, 1 << 20, 0, &all);
		}
		size_t before = all.n;
		assert_int_equal(hear(slices, file.data, (size_t)file.n, 1, &all), 0);
		assert_in_range(all.n - before, (size_t)kinds[k].rate_hz * 45 / 100, (size_t)kinds[k].rate_hz * 65 / 100);
		audio_slices_free(slices);
		free(all.samples);
		free(file.data);
	}
	free(rubbish);
}

/* A packet without an end, page after page. */
static void test_a_packet_without_an_end_is_given_up(void **state)
{
	(void)state;
	const long bytes = 12 << 20;
	ogg_stream_state stream;
	ogg_page page;
	heard all = {0};
	int given_up = 0;
	sound_file file = sound_file_make(OGG_VORBIS, 16000, 1, 8000);
	audio_slices *slices = begin(file.data, (size_t)file.n);
	uint8_t *endless = calloc(1, (size_t)bytes);
	memcpy(endless, "\x01vorbis", 7);
	ogg_stream_init(&stream, 7);
	ogg_stream_packetin(&stream, &(ogg_packet){.packet = endless, .bytes = bytes, .b_o_s = 1});
	while (ogg_stream_pageout(&stream, &page) > 0) {
		given_up += hear(slices, page.header, (size_t)page.header_len, 0, &all) == AS_EINVAL;
		given_up += hear(slices, page.body, (size_t)page.body_len, 0, &all) == AS_EINVAL;
	}
	assert_int_equal(given_up, 1);
	assert_int_equal(hear(slices, file.data, (size_t)file.n, 1, &all), 0);
	assert_true(all.n > 7000);
	audio_slices_free(slices);
	ogg_stream_clear(&stream);
	free(endless);
	free(all.samples);
	free(file.data);
}

/* Bytes changed, left out, doubled: no crash, and no more samples than fit. */
static void test_damaged_files(void **state)
{
	(void)state;
	uint32_t random = 7;
	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (!sound_file_can(kinds[k].format)) {
			continue;
		}
		sound_file file = make(&kinds[k], 300);
		size_t n = (size_t)file.n;
		for (int round = 0; round < 60; round++) {
			uint8_t *copy = malloc(n);
			memcpy(copy, file.data, n);
			for (size_t i = 0; i < 1 + n / 300; i++) {
				copy[4 + random_upto(&random, n - 5)] = (uint8_t)next_random(&random);
			}
			heard all = {0};
			audio_slices *slices = NULL;
			for (size_t at = audio_slices_new(copy, n, &slices) ? n : 0, part; at < n; at += part) {
				part = random_upto(&random, n - at);
				hear(slices, copy + at, part, at + part == n, &all);
			}
			assert_true(all.n <= 48000 * 20);
			audio_slices_free(slices);
			free(all.samples);
			free(copy);
		}
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slices_of_any_size_are_the_file),
		cmocka_unit_test(test_the_whole_is_what_another_decoder_makes_of_it),
		cmocka_unit_test(test_files_back_to_back),
		cmocka_unit_test(test_another_rate_behind_the_first),
		cmocka_unit_test(test_a_file_that_was_broken_off_does_not_spoil_the_next),
		cmocka_unit_test(test_from_the_middle_on),
		cmocka_unit_test(test_a_large_tag_is_skipped),
		cmocka_unit_test(test_what_is_decoded_as_a_whole),
		cmocka_unit_test(test_no_audio_is_an_error_at_the_end),
		cmocka_unit_test(test_more_than_may_be_held),
		cmocka_unit_test(test_rubbish_is_bounded),
		cmocka_unit_test(test_a_packet_without_an_end_is_given_up),
		cmocka_unit_test(test_damaged_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
