/* Audio files: each kind as libsndfile writes it, broken ones, bombs, and which paths may be read. */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audio_file.h"
#include "sound_file.h"

#define PLENTY (60u * 48000)

static audio_pcm pcm;
static char error[256];

/* In memory of exactly that size: reading past it is noticed. */
static int decode(const uint8_t *data, size_t n, wire_format format, size_t max_samples)
{
	uint8_t *copy = malloc(n ? n : 1);
	memcpy(copy, data, n);
	free(pcm.samples);
	pcm = (audio_pcm){0};
	error[0] = '\0';
	int failed = audio_file_decode(copy, n, format, max_samples, &pcm, error, sizeof(error));
	free(copy);
	assert_int_equal(failed != 0, error[0] != '\0');
	assert_int_equal(failed != 0, pcm.samples == NULL);
	return failed;
}

static void refuses(const uint8_t *data, size_t n, wire_format format, const char *reason)
{
	assert_int_equal(decode(data, n, format, PLENTY), AS_EINVAL);
	if (!strstr(error, reason)) {
		assert_string_equal(error, reason); /* shows both */
	}
}

/* The tone's level over the middle of what was decoded, of 16384; codecs shift it and add edges. */
static double level(double hz)
{
	double re = 0, im = 0;
	size_t first = pcm.n / 4, n = pcm.n / 2;
	for (size_t i = first; i < first + n; i++) {
		re += pcm.samples[i] * cos(2 * M_PI * hz * (double)i / pcm.rate_hz);
		im += pcm.samples[i] * sin(2 * M_PI * hz * (double)i / pcm.rate_hz);
	}
	return 2 * sqrt(re * re + im * im) / (double)n;
}

/* ---- Decoding ---------------------------------------------------------------------------------------------------- */

/* error_max: of a sample; 0 for codecs, where only the tone's level counts. */
static void check_kind(int format, int rate_hz, int channels, int error_max)
{
	size_t frames = (size_t)rate_hz;
	sound_file file = sound_file_make(format, rate_hz, channels, frames);
	assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_WAV, PLENTY), 0);
	free(file.data);
	assert_int_equal(pcm.rate_hz, rate_hz);
	for (size_t i = 0; error_max && i < frames; i++) {
		int wanted = (int)lrint(32768 * (double)sound_file_value(i, 0, 1, rate_hz)) / (channels == 3 ? 3 : 1);
		assert_in_range(pcm.samples[i] - wanted + error_max, 0, 2 * error_max);
	}
	double wanted = channels == 3 ? 16384 / 3.0 : 16384;
	assert_true(fabs(level(440) - wanted) < 0.04 * wanted);
	if (error_max) {
		assert_int_equal(pcm.n, frames);
	} else {
		assert_in_range(pcm.n, frames, frames + 4608); /* MP3 pads */
	}
}

static void test_wav(void **state)
{
	(void)state;
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 8000, 1, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 44100, 2, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 3, 2);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 8000, 1, 256);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_24, 48000, 1, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_PCM_32, 24000, 2, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 22050, 1, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_DOUBLE, 11025, 2, 1);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_ULAW, 8000, 1, 520);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_ALAW, 8000, 2, 520);
	check_kind(SF_FORMAT_WAV | SF_FORMAT_GSM610, 8000, 1, 0);
	check_kind(SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 32000, 2, 1);
	check_kind(SF_FORMAT_RF64 | SF_FORMAT_PCM_16, 8000, 1, 1);
	check_kind(SF_FORMAT_WAV | SF_ENDIAN_BIG | SF_FORMAT_PCM_16, 8000, 1, 1);
}

static void test_ogg_and_flac(void **state)
{
	(void)state;
	check_kind(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 16000, 1, 0);
	check_kind(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 44100, 2, 0);
	check_kind(SF_FORMAT_OGG | SF_FORMAT_OPUS, 48000, 1, 0);
	check_kind(SF_FORMAT_OGG | SF_FORMAT_OPUS, 16000, 2, 0);
	check_kind(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16000, 2, 1);
}

static int has_mp3(void)
{
	return sound_file_can(MPEG_LAYER_III);
}

static void test_mp3(void **state)
{
	(void)state;
	if (!has_mp3()) {
		const uint8_t frame[] = {0xff, 0xfb, 0x90, 0x00, 0, 0, 0, 0};
		refuses(frame, sizeof(frame), WIRE_FILE_MP3, "MP3 cannot be decoded with libsndfile-");
		return;
	}
	check_kind(MPEG_LAYER_III, 8000, 1, 0);
	check_kind(MPEG_LAYER_III, 24000, 1, 0);
	check_kind(MPEG_LAYER_III, 44100, 2, 0);
}

/* Loud floats are clipped, and what is no number is silence. */
static void test_floats_out_of_range(void **state)
{
	(void)state;
	const float values[] = {2.0f, -2.0f, 1.0f, -1.0f, 32767 / 32768.0f, NAN, INFINITY, -INFINITY, 1e30f, 0};
	const int16_t wanted[] = {32767, -32768, 32767, -32768, 32767, 0, 32767, -32768, 32767, 0};
	sound_file file = sound_file_make(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 8000, 1, COUNT(values));
	memcpy(memmem(file.data, (size_t)file.n, "data", 4) + 8, values, sizeof(values));
	assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_WAV, PLENTY), 0);
	assert_int_equal(pcm.n, COUNT(values));
	assert_memory_equal(pcm.samples, wanted, sizeof(wanted));
	free(file.data);
}

/* Servers that stream a WAV file do not know its length when they send its header. */
static void test_headers_that_do_not_know_the_length(void **state)
{
	(void)state;
	static const uint32_t lengths[][2] = {
		{0xffffffff, 0xffffffff}, {0x7fffffff, 0x7fffffff}, {36, 0},          {0, 0},
		{0xffffffff, 0},          {0, 0xffffffff},          {36, 0xffffffff}, {16036, 0}};
	sound_file file = sound_file_make(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 8000, 1, 8000);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		memcpy(file.data + 4, &lengths[i][0], 4);
		memcpy(file.data + 40, &lengths[i][1], 4);
		assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_WAV, PLENTY), 0);
		assert_int_equal(pcm.n, 8000);
		assert_int_equal(pcm.samples[3], lrint(32768 * (double)sound_file_value(3, 0, 1, 8000)));
	}
	refuses(file.data, 44, WIRE_FILE_WAV, "the WAV file has no audio in it");
	free(file.data);
}

static void test_what_is_no_audio_file(void **state)
{
	(void)state;
	refuses((const uint8_t *)"", 0, WIRE_FILE_WAV, "this is no WAV file");
	refuses((const uint8_t *)"hello world, this is text", 25, WIRE_FILE_MP3, "this is no MP3 file");
	refuses((const uint8_t *)"FORM\0\0\0\0AIFFCOMM", 16, WIRE_FILE_OGG, "this is no Ogg file");
	refuses((const uint8_t *)"RIFF\0\0\0\0AVI LIST", 16, WIRE_FILE_WAV, "this is no WAV file");
	refuses((const uint8_t *)"RIFF\4\0\0\0WAVE", 12, WIRE_FILE_WAV, "the WAV file is broken");
	refuses((const uint8_t *)"OggS\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 28, WIRE_FILE_OGG,
			"the Ogg file is cut off");
	refuses((const uint8_t *)"fLaC\0\0\0\0", 8, WIRE_FILE_WAV, "the FLAC file is broken");
	refuses((const uint8_t *)"ID3\4\0\0\0\0\0\0", 10, WIRE_FILE_MP3,
			has_mp3() ? "the MP3 file is " : "MP3 cannot be decoded");
	refuses((const uint8_t *)"RIFF\4\0\0\0WAVE", 12, WIRE_FILE_MP3,
			"the WAV file is broken"); /* the content says what it is */
}

/* libsndfile looks behind an ID3 tag for any of its formats. */
static void test_what_is_no_mp3_behind_its_tag(void **state)
{
	(void)state;
	const int formats[] = {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, SF_FORMAT_AU | SF_FORMAT_PCM_16,
						   SF_FORMAT_WAV | SF_FORMAT_PCM_16};
	for (size_t i = 0; has_mp3() && i < COUNT(formats); i++) {
		sound_file file = sound_file_make(formats[i], 8000, 1, 8000);
		size_t n = (size_t)file.n + 20;
		uint8_t *tagged = calloc(1, n);
		memcpy(tagged, "ID3\4\0\0\0\0\0\12", 10); /* of ten bytes, all 0 */
		memcpy(tagged + 20, file.data, n - 20);
		refuses(tagged, n, WIRE_FILE_MP3, "the MP3 file is something else inside");
		free(tagged);
		free(file.data);
	}
}

/* Some servers cut a file into messages as they would samples. */
static void test_ogg_in_pieces(void **state)
{
	(void)state;
	sound_file file = sound_file_make(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 44100, 2, 441000);
	size_t n = (size_t)file.n,
		   headers = (size_t)((uint8_t *)memmem(file.data + 100, n - 100, "\x05vorbis", 7) - file.data);
	for (size_t cut = 1; cut < headers + 100; cut += 37) {
		refuses(file.data, cut, WIRE_FILE_OGG, cut < 4 ? "this is no Ogg file" : "the Ogg file is cut off");
	}
	assert_int_equal(decode(file.data, n * 2 / 3, WIRE_FILE_OGG, PLENTY), 0); /* what there is of it */
	assert_in_range(pcm.n, 44100, 400000);
	refuses(file.data + 1, n - 1, WIRE_FILE_OGG, "this is no Ogg file");
	free(file.data);
}

static void test_rates_that_cannot_be_played(void **state)
{
	(void)state;
	sound_file slow = sound_file_make(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 6000, 1, 100);
	refuses(slow.data, (size_t)slow.n, WIRE_FILE_WAV,
			"the WAV file has 6000 samples a second; 8000 to 48000 can be played");
	free(slow.data);
	sound_file fast = sound_file_make(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 96000, 1, 100);
	refuses(fast.data, (size_t)fast.n, WIRE_FILE_OGG, "the FLAC file has 96000 samples");
	free(fast.data);
}

static void test_empty_files(void **state)
{
	(void)state;
	sound_file file = sound_file_make(SF_FORMAT_WAV | SF_FORMAT_PCM_24, 8000, 1, 0);
	refuses(file.data, (size_t)file.n, WIRE_FILE_WAV, "the WAV file has no audio in it");
	free(file.data);
}

/* An hour of silence is a few hundred bytes of FLAC or Ogg a second: what comes out is bounded, not what goes in. */
static void test_what_comes_out_is_bounded(void **state)
{
	(void)state;
	sound_file file = sound_file_make(SF_FORMAT_OGG | SF_FORMAT_VORBIS, 8000, 2, 80000);
	assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_OGG, 79999), AS_EFULL);
	assert_non_null(strstr(error, "the Ogg file is longer than 10.0 s"));
	assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_OGG, 0), AS_EFULL);
	assert_int_equal(decode(file.data, (size_t)file.n, WIRE_FILE_OGG, 80000), 0);
	assert_int_equal(pcm.n, 80000);
	free(file.data);
}

/* Cut off anywhere, or with a byte changed: something shorter comes out, or a reason. */
static void test_damaged_files(void **state)
{
	(void)state;
	const int formats[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_16,  SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM,
						   SF_FORMAT_OGG | SF_FORMAT_VORBIS,  SF_FORMAT_OGG | SF_FORMAT_OPUS,
						   SF_FORMAT_FLAC | SF_FORMAT_PCM_16, MPEG_LAYER_III};
	uint32_t rng = 11;
	for (size_t i = 0; i < COUNT(formats) - !has_mp3(); i++) {
		sound_file file = sound_file_make(formats[i], 16000, 1, 1600);
		for (int round = 0; round < 60; round++) {
			size_t n = (size_t)file.n * (size_t)round / 60;
			int failed = decode(file.data, n, WIRE_FILE_WAV, 4 * 1600);
			assert_true(failed == 0 || failed == AS_EINVAL || failed == AS_EFULL);
			size_t at = next_random(&rng) % (size_t)file.n;
			uint8_t was = file.data[at];
			file.data[at] = (uint8_t)next_random(&rng);
			failed = decode(file.data, (size_t)file.n, WIRE_FILE_WAV, 4 * 1600);
			assert_true(failed == 0 || failed == AS_EINVAL || failed == AS_EFULL);
			file.data[at] = was;
		}
		free(file.data);
	}
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static char base[64], allowed[80];

static void write_file(const char *path, const char *content)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

static const char *at(const char *relative)
{
	static char paths[4][256];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", base, relative);
	return path;
}

/* base/allowed holds what may be read, base/secret what may not. */
static int make_tree(void **state)
{
	(void)state;
	strcpy(base, "/tmp/audio-file-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(allowed, sizeof(allowed), "%s/allowed", base);
	mkdir(allowed, 0700);
	mkdir(at("allowed/sub"), 0700);
	mkdir(at("allowed-not"), 0700);
	write_file(at("secret"), "secret");
	write_file(at("allowed-not/x"), "secret");
	write_file(at("allowed/a.wav"), "inside");
	write_file(at("allowed/sub/b c\xc3\xa9.wav"), "deeper");
	write_file(at("allowed/empty"), "");
	assert_int_equal(symlink("../secret", at("allowed/link-out")), 0);
	assert_int_equal(symlink("../..", at("allowed/sub/up")), 0);
	assert_int_equal(symlink("sub", at("allowed/link-in")), 0);
	assert_int_equal(symlink("loop", at("allowed/loop")), 0);
	assert_int_equal(symlink(allowed, at("alias")), 0);
	assert_int_equal(mkfifo(at("allowed/pipe"), 0600), 0);
	return 0;
}

static int remove_tree(void **state)
{
	(void)state;
	static const char *const files[] = {"allowed/a.wav",  "allowed/sub/b c\xc3\xa9.wav",
										"allowed/empty",  "allowed/link-out",
										"allowed/sub/up", "allowed/link-in",
										"allowed/loop",   "allowed/pipe",
										"allowed/big",    "allowed-not/x",
										"secret",         "alias",
										"allowed/sub",    "allowed-not",
										"allowed",        ""};
	for (size_t i = 0; i < COUNT(files); i++) {
		remove(at(files[i]));
	}
	free(pcm.samples);
	return access(base, F_OK) ? 0 : -1;
}

static void may_read(const char *directory, const char *path, const char *content)
{
	void *data = NULL;
	size_t n = 0;
	assert_int_equal(audio_file_read(directory, path, &data, &n, error, sizeof(error)), 0);
	assert_int_equal(n, strlen(content));
	assert_memory_equal(data, content, n);
	free(data);
}

static void may_not_read(const char *directory, const char *path, const char *reason)
{
	void *data = NULL;
	size_t n = 0;
	assert_int_equal(audio_file_read(directory, path, &data, &n, error, sizeof(error)), AS_EINVAL);
	assert_null(data);
	if (!strstr(error, reason)) {
		assert_string_equal(error, reason); /* shows both */
	}
}

static void test_files_that_may_be_read(void **state)
{
	(void)state;
	may_read(allowed, "a.wav", "inside");
	may_read(allowed, at("allowed/a.wav"), "inside");
	may_read(allowed, "sub/b c\xc3\xa9.wav", "deeper");
	may_read(allowed, "./sub//../a.wav", "inside");
	may_read(allowed, "link-in/b c\xc3\xa9.wav", "deeper");
	may_read(allowed, "sub/up/allowed/a.wav", "inside"); /* out and in again is in */
	may_read(allowed, "empty", "");
	may_read(at("alias"), "a.wav", "inside");
	may_read(at("alias"), at("allowed/a.wav"), "inside");
	may_read("/", at("secret"), "secret");
}

static void test_files_that_may_not(void **state)
{
	(void)state;
	may_not_read(allowed, "../secret", "is not below file-injection-dir");
	may_not_read(allowed, at("secret"), "is not below file-injection-dir");
	may_not_read(allowed, at("allowed/../secret"), "is not below");
	may_not_read(allowed, at("allowed-not/x"), "is not below");
	may_not_read(allowed, "../allowed-not/x", "is not below");
	may_not_read(allowed, "link-out", "is not below");
	may_not_read(allowed, "sub/up/secret", "is not below");
	may_not_read(allowed, "/etc/passwd", "is not below");
	may_not_read(allowed, "/dev/zero", "is not below");
	may_not_read(allowed, ".", "is not below");
	may_not_read(allowed, "", "is not below");
	may_not_read(allowed, "/", "is not below");
	may_not_read(allowed, "missing", "missing cannot be opened: No such file");
	may_not_read(allowed, "loop", "cannot be opened: ");
	may_not_read(allowed, "a.wav/x", "cannot be opened: ");
	may_not_read(allowed, "sub", "sub is no regular file");
	may_not_read(allowed, "pipe", "pipe is no regular file");
	may_not_read(allowed, "li\nne\x1b", "li?ne? cannot be opened");
}

static void test_directories(void **state)
{
	(void)state;
	may_not_read("", "a.wav", "set file-injection-dir");
	may_not_read(at("missing"), "a.wav", "file-injection-dir, ");
	may_not_read(at("secret"), "x", "cannot be opened");
}

static void test_long_files(void **state)
{
	(void)state;
	void *data = NULL;
	size_t n = 0;
	write_file(at("allowed/big"), "");
	assert_int_equal(truncate(at("allowed/big"), (off_t)AUDIO_FILE_MAX_BYTES + 1), 0);
	assert_int_equal(audio_file_read(allowed, "big", &data, &n, error, sizeof(error)), AS_EFULL);
	assert_non_null(strstr(error, "big is longer than 64 MiB"));
	assert_int_equal(truncate(at("allowed/big"), (off_t)AUDIO_FILE_MAX_BYTES), 0);
	assert_int_equal(audio_file_read(allowed, "big", &data, &n, error, sizeof(error)), 0);
	assert_int_equal(n, AUDIO_FILE_MAX_BYTES);
	free(data);
}

/* Links that change all the time, from another thread: what is read is always what is inside. */
typedef struct swapping {
	_Atomic int over;
} swapping;

static void *swap_links(void *arg)
{
	swapping *s = arg;
	char here[256], there[256];
	snprintf(here, sizeof(here), "%s/allowed/sub", base);
	snprintf(there, sizeof(there), "%s/allowed/sub-away", base);
	while (!s->over) {
		assert_int_equal(rename(here, there), 0);
		assert_int_equal(symlink("../allowed-not", here), 0);
		assert_int_equal(unlink(here), 0);
		assert_int_equal(rename(there, here), 0);
	}
	return NULL;
}

static void test_a_link_that_turns_up_meanwhile(void **state)
{
	(void)state;
	swapping s = {0};
	pthread_t thread;
	write_file(at("allowed/sub/x"), "inside");
	assert_int_equal(pthread_create(&thread, NULL, swap_links, &s), 0);
	int read = 0;
	for (int i = 0; i < 5000; i++) {
		void *data = NULL;
		size_t n = 0;
		if (audio_file_read(allowed, "sub/x", &data, &n, error, sizeof(error)) == 0) {
			assert_int_equal(n, 6);
			assert_memory_equal(data, "inside", 6);
			free(data);
			read++;
		}
	}
	s.over = 1;
	pthread_join(thread, NULL);
	unlink(at("allowed/sub/x"));
	assert_in_range(read, 1, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wav),
		cmocka_unit_test(test_ogg_and_flac),
		cmocka_unit_test(test_mp3),
		cmocka_unit_test(test_floats_out_of_range),
		cmocka_unit_test(test_headers_that_do_not_know_the_length),
		cmocka_unit_test(test_what_is_no_audio_file),
		cmocka_unit_test(test_what_is_no_mp3_behind_its_tag),
		cmocka_unit_test(test_ogg_in_pieces),
		cmocka_unit_test(test_rates_that_cannot_be_played),
		cmocka_unit_test(test_empty_files),
		cmocka_unit_test(test_what_comes_out_is_bounded),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_files_that_may_be_read),
		cmocka_unit_test(test_files_that_may_not),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_long_files),
		cmocka_unit_test(test_a_link_that_turns_up_meanwhile),
	};
	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
