#include "audio_slices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"

#define OGG_CODEC_AT 28 /* of a first page with one packet: what is in it */

struct audio_slices {
	const slices_kind *kind;
	void *decoder;
	int heard;
};

static int begins_with(const uint8_t *data, size_t n, const char *text)
{
	size_t length = strlen(text);
	return n >= length && !memcmp(data, text, length);
}

/* The beginning of such a message, however little there is of it. */
static int may_begin_with(const uint8_t *data, size_t n, const char *text)
{
	size_t length = strlen(text);
	return n && !memcmp(data, text, n < length ? n : length);
}

/* Ogg with something else in it is not decoded in slices. */
static int is_ogg(const uint8_t *data, size_t n)
{
	const uint8_t *codec = data + OGG_CODEC_AT;
	size_t have = n < OGG_CODEC_AT ? 0 : n - OGG_CODEC_AT;
	return may_begin_with(data, n, "OggS") &&
		   (!have || may_begin_with(codec, have, "OpusHead") || may_begin_with(codec, have, "\x01vorbis"));
}

/* MPEG audio, but for the free format, whose frames say nothing of their length. */
static int is_mp3(const uint8_t *data, size_t n)
{
	return may_begin_with(data, n, "ID3") ||
		   (n && data[0] == 0xff && (n < 2 || (data[1] & 0xe0) == 0xe0) && (n < 3 || data[2] >> 4));
}

static const slices_kind *kind_of(const uint8_t *data, size_t n)
{
	return is_ogg(data, n) ? &ogg_slices : is_mp3(data, n) ? &mp3_slices : NULL;
}

int audio_slices_new(const void *data, size_t n, audio_slices **out)
{
	const slices_kind *kind = kind_of(data, n);
	audio_slices *slices = kind ? calloc(1, sizeof(*slices)) : NULL;
	if (!slices) {
		return kind ? AS_ENOMEM : AS_EINVAL;
	}
	slices->kind = kind;
	int error = kind->new (&slices->decoder);
	if (error) {
		free(slices);
		return error;
	}
	*out = slices;
	return 0;
}

void audio_slices_free(audio_slices *slices)
{
	if (slices) {
		slices->kind->free(slices->decoder);
		free(slices);
	}
}

int audio_slices_ends_before(const void *data, size_t n)
{
	const uint8_t *at = data;
	return begins_with(at, n, "fLaC") || (n >= 12 && begins_with(at, n, "RIFF") && !memcmp(at + 8, "WAVE", 4));
}

int audio_slices_heard(const audio_slices *slices)
{
	return slices->heard;
}

const char *audio_slices_name(const audio_slices *slices)
{
	return slices->kind->name;
}

static int complain(const audio_slices *slices, int code, const pcm_buffer *buffer, char *error, size_t bytes)
{
	const char *name = slices->kind->name;
	if (code == AS_EFULL) {
		snprintf(error, bytes, "the %s file is longer than %.1f s, which is more than can be held", name,
				 (double)buffer->max_samples / buffer->pcm.rate_hz);
	} else if (code == AS_EINVAL) {
		snprintf(error, bytes, slices->heard ? "the %s file is broken" : "the %s file has no audio in it", name);
	} else {
		snprintf(error, bytes, "%s", as_strerror(code));
	}
	return code;
}

int audio_slices_decode(audio_slices *slices, const void *data, size_t n, int last, size_t max_samples, audio_pcm *out,
						char *error, size_t error_bytes)
{
	pcm_buffer buffer = {.max_samples = max_samples, .pcm.rate_hz = AS_RATE_MIN_HZ};
	if (slices->kind->begins(slices->decoder, data, n)) {
		slices->kind->reset(slices->decoder);
	}
	int failed = slices->kind->decode(slices->decoder, data, n, &buffer);
	failed = failed && (failed != AS_EINVAL || !buffer.pcm.n) ? failed : pcm_buffer_end(&buffer);
	slices->heard |= buffer.pcm.n > 0;
	failed = !failed && last && !slices->heard ? AS_EINVAL : failed;
	if (failed) {
		complain(slices, failed, &buffer, error, error_bytes);
		pcm_buffer_free(&buffer);
		return failed;
	}
	*out = buffer.pcm;
	return 0;
}
