/*
 * mp3_slices.c - MPEG audio, fed to libmpg123 as it comes. libmpg123 finds frames, keeps the bit reservoir and the
 * filters' state, and takes LAME's padding off where it is told of.
 */
#define _GNU_SOURCE
#include <mpg123.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "audio_slices.h"
#include "audio_stream.h"

#define FEED_BYTES 4096
#define OUT_VALUES 4608              /* a frame: 1152 of two channels, twice */
#define STARVED_MAX_BYTES (1u << 20) /* fed without a frame: what is inside is no audio */
#define TAG_SHOWN 64                 /* a Xing or Info tag stands within so many bytes of its frame */

typedef struct mp3_decoder {
	mpg123_handle *handle;
	int channels, rate_hz;
	size_t skip;    /* bytes of an ID3 tag still to come */
	size_t starved; /* bytes fed since the last audio */
	float out[OUT_VALUES];
} mp3_decoder;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int usable;

static void init(void)
{
	usable = mpg123_init() == MPG123_OK; /* since 1.27 it does nothing */
}

/* ---- Frames ------------------------------------------------------------------------------------------------------ */

/* The length of the frame that begins with this header (ISO 11172-3, 13818-3); 0 when none does, or in free format. */
static size_t frame_bytes(const uint8_t *at)
{
	static const short rates_kbps[5][15] = {
		{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448}, /* MPEG 1, layer 1 */
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
		{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256}, /* MPEG 2, layer 1 */
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},      /* MPEG 2, layers 2 and 3 */
	};
	static const int samples_hz[3] = {44100, 48000, 32000};
	int version = at[1] >> 3 & 3, layer = 4 - (at[1] >> 1 & 3), rate = at[2] >> 4, sampling = at[2] >> 2 & 3;
	if (at[0] != 0xff || (at[1] & 0xe0) != 0xe0 || version == 1 || layer == 4 || rate == 15 || sampling == 3) {
		return 0;
	}
	int mpeg1 = version == 3, kbps = rates_kbps[mpeg1 ? layer - 1 : layer == 1 ? 3 : 4][rate], padding = at[2] >> 1 & 1;
	int hz = samples_hz[sampling] / (mpeg1 ? 1 : version == 2 ? 2 : 4);
	if (!kbps) {
		return 0;
	}
	return layer == 1 ? (size_t)((12000 * kbps / hz + padding) * 4)
					  : (size_t)((layer == 3 && !mpeg1 ? 72000 : 144000) * kbps / hz + padding);
}

/* Is there a frame, and another one like it behind it, or nothing? */
static int is_frame(const uint8_t *data, size_t n)
{
	size_t bytes = n >= 4 ? frame_bytes(data) : 0;
	if (!bytes || n == bytes) {
		return bytes != 0;
	}
	return n >= bytes + 4 && frame_bytes(data + bytes) && !((data[1] ^ data[bytes + 1]) & 0xfe) &&
		   !((data[2] ^ data[bytes + 2]) & 0x0c);
}

static int is_tag_frame(const uint8_t *data, size_t n)
{
	size_t look = n < TAG_SHOWN ? n : TAG_SHOWN;
	return n >= 4 && frame_bytes(data) && (memmem(data, look, "Xing", 4) || memmem(data, look, "Info", 4));
}

/* ---- The decoder ------------------------------------------------------------------------------------------------- */

static void mp3_free(void *arg)
{
	mp3_decoder *d = arg;
	mpg123_delete(d->handle); /* NULL is allowed */
	free(d);
}

static void mp3_reset(void *arg)
{
	mp3_decoder *d = arg;
	mpg123_close(d->handle);
	mpg123_open_feed(d->handle);
	d->skip = d->starved = 0;
	d->channels = 0;
}

static int mp3_new(void **out)
{
	pthread_once(&once, init);
	mp3_decoder *d = usable ? calloc(1, sizeof(*d)) : NULL;
	if (!d) {
		return AS_ENOMEM;
	}
	d->handle = mpg123_new(NULL, NULL);
	if (!d->handle || mpg123_param(d->handle, MPG123_ADD_FLAGS, MPG123_FORCE_FLOAT | MPG123_QUIET, 0) ||
		mpg123_param(d->handle, MPG123_RESYNC_LIMIT, -1, 0) || mpg123_open_feed(d->handle)) {
		mp3_free(d);
		return AS_ENOMEM;
	}
	*out = d;
	return 0;
}

/* Bytes of a frame that is not complete yet. */
static long pending(mp3_decoder *d)
{
	long bytes = 0;
	mpg123_getstate(d->handle, MPG123_BUFFERFILL, &bytes, NULL);
	return bytes;
}

static int mp3_begins(void *arg, const uint8_t *data, size_t n)
{
	mp3_decoder *d = arg;
	if (d->skip) {
		return 0;
	}
	return (n >= 3 && !memcmp(data, "ID3", 3)) || is_tag_frame(data, n) || (pending(d) && is_frame(data, n));
}

/* Bytes of the ID3v2 tag that the message begins with; 0 when there is none, or not enough of it. */
static size_t tag_bytes(const uint8_t *data, size_t n)
{
	if (n < 10 || memcmp(data, "ID3", 3) || ((data[6] | data[7] | data[8] | data[9]) & 0x80)) {
		return 0;
	}
	size_t bytes = (size_t)data[6] << 21 | (size_t)data[7] << 14 | (size_t)data[8] << 7 | data[9];
	return 10 + bytes + (data[5] & 0x10 ? 10 : 0);
}

static int learn_format(mp3_decoder *d, pcm_buffer *out)
{
	long rate_hz = 0;
	int encoding = 0;
	if (mpg123_getformat(d->handle, &rate_hz, &d->channels, &encoding) || encoding != MPG123_ENC_FLOAT_32) {
		d->channels = 0;
		return AS_EINVAL;
	}
	d->rate_hz = (int)rate_hz;
	return pcm_buffer_rate(out, d->rate_hz);
}

/* What has been decoded. */
static int take(mp3_decoder *d, size_t bytes, pcm_buffer *out)
{
	if (!bytes) {
		return 0;
	}
	d->starved = 0;
	int error =
		d->channels ? pcm_buffer_rate(out, d->rate_hz) : learn_format(d, out); /* begun again, it is not told anew */
	return error ? error : pcm_buffer_add(out, d->out, bytes / sizeof(float) / (size_t)d->channels, d->channels);
}

/* Feeds one piece and takes what comes of it. */
static int feed(mp3_decoder *d, const uint8_t *data, size_t n, pcm_buffer *out)
{
	int state = MPG123_OK, error = 0;
	d->starved += n;
	while (!error && (state == MPG123_OK || state == MPG123_NEW_FORMAT)) {
		size_t bytes = 0;
		state = mpg123_decode(d->handle, data, n, (unsigned char *)d->out, sizeof(d->out), &bytes);
		data = NULL;
		n = 0;
		error = take(d, bytes, out);
		if (!error && state == MPG123_NEW_FORMAT) {
			error = learn_format(d, out);
		}
	}
	if (!error && (state != MPG123_NEED_MORE || d->starved > STARVED_MAX_BYTES)) {
		mp3_reset(d);
		error = state == MPG123_DONE ? 0 : AS_EINVAL;
	}
	return error;
}

static int mp3_decode(void *arg, const uint8_t *data, size_t n, pcm_buffer *out)
{
	mp3_decoder *d = arg;
	int error = 0;
	d->skip += d->skip ? 0 : tag_bytes(data, n);
	size_t skipped = d->skip < n ? d->skip : n;
	d->skip -= skipped;
	for (size_t at = skipped; at < n; at += FEED_BYTES) {
		int failed = feed(d, data + at, n - at < FEED_BYTES ? n - at : FEED_BYTES, out);
		if (failed && failed != AS_EINVAL) {
			return failed;
		}
		error = error ? error : failed;
	}
	return error;
}

const slices_kind mp3_slices = {
	.name = "MP3",
	.new = mp3_new,
	.free = mp3_free,
	.begins = mp3_begins,
	.reset = mp3_reset,
	.decode = mp3_decode,
};
