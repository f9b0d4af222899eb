/*
 * ogg_slices.c - Ogg (RFC 3533) with Vorbis or Opus (RFC 7845), page by page as they become complete. Of several streams in
 * one file the first with audio is played; files may follow each other.
 */
#include <ogg/ogg.h>
#include <opus/opus_multistream.h>
#include <stdlib.h>
#include <string.h>
#include <vorbis/codec.h>

#include "audio_slices.h"
#include "audio_stream.h"

#define FEED_BYTES 4096
#define OUT_FRAMES 5760 /* 120 ms at 48 kHz, the longest Opus packet */
#define CHANNELS_MAX 8
#define OPUS_HZ 48000 /* what granule positions count */
#define VORBIS_HEADERS 3
#define OPUS_HEADERS 2

typedef enum codec { NOTHING, VORBIS, OPUS, UNKNOWN } codec;

typedef struct ogg_decoder {
	ogg_sync_state sync;
	ogg_stream_state stream;
	int open; /* stream is, and codec says what is in it */
	codec codec;
	int headers; /* of it that have come */
	int channels, rate_hz;
	int ready; /* its decoder has been made */
	vorbis_info info;
	vorbis_comment comment;
	vorbis_dsp_state dsp;
	vorbis_block block;
	OpusMSDecoder *opus;
	long skip;                /* samples at 48 kHz still to be left out at the beginning */
	ogg_int64_t page_granule; /* of the page before; -1: none */
	long page_samples;        /* of this page so far, at 48 kHz */
	float out[OUT_FRAMES * CHANNELS_MAX];
} ogg_decoder;

/* ---- One stream -------------------------------------------------------------------------------------------------- */

static void close_stream(ogg_decoder *d)
{
	if (d->ready && d->codec == VORBIS) {
		vorbis_block_clear(&d->block);
		vorbis_dsp_clear(&d->dsp);
	}
	if (d->open && d->codec == VORBIS) {
		vorbis_comment_clear(&d->comment);
		vorbis_info_clear(&d->info);
	}
	if (d->opus) {
		opus_multistream_decoder_destroy(d->opus);
		d->opus = NULL;
	}
	if (d->open) {
		ogg_stream_clear(&d->stream);
	}
	d->open = d->ready = d->headers = 0;
	d->codec = NOTHING;
}

/* By the packet that its first page begins with. */
static codec codec_of(const ogg_page *page)
{
	if (page->body_len >= 8 && !memcmp(page->body, "OpusHead", 8)) {
		return OPUS;
	}
	return page->body_len >= 7 && !memcmp(page->body, "\x01vorbis", 7) ? VORBIS : UNKNOWN;
}

static int open_stream(ogg_decoder *d, const ogg_page *page)
{
	close_stream(d);
	if (ogg_stream_init(&d->stream, ogg_page_serialno(page))) {
		return AS_ENOMEM;
	}
	d->open = 1;
	d->codec = codec_of(page);
	d->page_granule = -1;
	if (d->codec == VORBIS) {
		vorbis_info_init(&d->info);
		vorbis_comment_init(&d->comment);
	}
	return 0;
}

/* ---- Vorbis ------------------------------------------------------------------------------------------------------ */

static int vorbis_header(ogg_decoder *d, ogg_packet *packet)
{
	if (vorbis_synthesis_headerin(&d->info, &d->comment, packet)) {
		return AS_EINVAL;
	}
	if (++d->headers < VORBIS_HEADERS) {
		return 0;
	}
	d->channels = d->info.channels;
	d->rate_hz = (int)d->info.rate;
	if (d->channels < 1 || d->channels > CHANNELS_MAX || d->info.rate < AS_RATE_MIN_HZ ||
		d->info.rate > AS_RATE_MAX_HZ || vorbis_synthesis_init(&d->dsp, &d->info)) {
		return AS_EINVAL;
	}
	vorbis_block_init(&d->dsp, &d->block);
	d->ready = 1;
	return 0;
}

static int vorbis_packet(ogg_decoder *d, ogg_packet *packet, pcm_buffer *out)
{
	float **values;
	int frames, error = pcm_buffer_rate(out, d->rate_hz);
	if (vorbis_synthesis(&d->block, packet)) {
		return AS_EINVAL;
	}
	vorbis_synthesis_blockin(&d->dsp, &d->block);
	while (!error && (frames = vorbis_synthesis_pcmout(&d->dsp, &values)) > 0) {
		frames = frames < OUT_FRAMES ? frames : OUT_FRAMES;
		for (int i = 0; i < frames * d->channels; i++) {
			d->out[i] = values[i % d->channels][i / d->channels];
		}
		error = pcm_buffer_add(out, d->out, (size_t)frames, d->channels);
		vorbis_synthesis_read(&d->dsp, frames);
	}
	return error;
}

/* ---- Opus -------------------------------------------------------------------------------------------------------- */

static int little_endian_16(const unsigned char *at)
{
	return at[0] | at[1] << 8;
}

/* What the original had, where Opus can give it, as other decoders do. */
static int opus_rate(const unsigned char *head)
{
	long hz = little_endian_16(head + 12) | (long)little_endian_16(head + 14) << 16;
	return hz == 8000 || hz == 12000 || hz == 16000 || hz == 24000 ? (int)hz : OPUS_HZ;
}

/* OpusHead: version, channels, pre-skip, rate, gain, mapping. */
static int opus_head(ogg_decoder *d, const ogg_packet *packet)
{
	const unsigned char *head = packet->packet;
	unsigned char one[CHANNELS_MAX] = {0, 1}, *mapping = one;
	int family = packet->bytes >= 19 ? head[18] : -1, channels = packet->bytes >= 19 ? head[9] : 0, error;
	int streams = 1, coupled = channels - 1;
	if (family < 0 || channels < 1 || channels > (family ? CHANNELS_MAX : 2) || head[8] >> 4 ||
		(family && packet->bytes < 21 + channels)) {
		return AS_EINVAL;
	}
	if (family) {
		streams = head[19];
		coupled = head[20];
		mapping = (unsigned char *)head + 21;
	}
	d->rate_hz = opus_rate(head);
	d->channels = channels;
	d->skip = little_endian_16(head + 10);
	d->opus = opus_multistream_decoder_create(d->rate_hz, channels, streams, coupled, mapping, &error);
	if (!d->opus || opus_multistream_decoder_ctl(d->opus, OPUS_SET_GAIN((opus_int16)little_endian_16(head + 16)))) {
		return error == OPUS_ALLOC_FAIL ? AS_ENOMEM : AS_EINVAL;
	}
	return 0;
}

static int opus_header(ogg_decoder *d, ogg_packet *packet)
{
	int error = d->headers ? 0 : opus_head(d, packet); /* the second are tags */
	d->ready = !error && ++d->headers == OPUS_HEADERS;
	return error;
}

static int opus_packet(ogg_decoder *d, ogg_packet *packet, pcm_buffer *out)
{
	int frames = opus_multistream_decode_float(d->opus, packet->packet, (opus_int32)packet->bytes, d->out,
											   OUT_FRAMES * d->rate_hz / OPUS_HZ, 0);
	if (frames < 0) {
		return AS_EINVAL;
	}
	int scale = OPUS_HZ / d->rate_hz, skipped = (int)(d->skip / scale < frames ? d->skip / scale : frames);
	d->skip -= skipped == frames ? (long)frames * scale : d->skip;
	d->page_samples += (long)frames * scale;
	int error = pcm_buffer_rate(out, d->rate_hz);
	return error ? error : pcm_buffer_add(out, d->out + skipped * d->channels, (size_t)(frames - skipped), d->channels);
}

/* The last page says where its audio ends: the last packet is filled up with what is none. */
static void opus_page_end(ogg_decoder *d, const ogg_page *page, pcm_buffer *out, size_t before)
{
	ogg_int64_t granule = ogg_page_granulepos(page), due = granule - (d->page_granule < 0 ? 0 : d->page_granule);
	if (ogg_page_eos(page) && granule >= 0 && due >= 0 && due < d->page_samples) {
		size_t excess = (size_t)(d->page_samples - due) * (size_t)out->pcm.rate_hz / OPUS_HZ,
			   made = out->pcm.n - before;
		pcm_buffer_cut(out, excess < made ? excess : made);
	}
	d->page_granule = granule >= 0 ? granule : d->page_granule;
	d->page_samples = 0;
}

/* ---- Pages ------------------------------------------------------------------------------------------------------- */

static int take_packet(ogg_decoder *d, ogg_packet *packet, pcm_buffer *out)
{
	switch (d->codec) {
	case VORBIS:
		return d->ready ? vorbis_packet(d, packet, out) : vorbis_header(d, packet);
	case OPUS:
		return d->ready ? opus_packet(d, packet, out) : opus_header(d, packet);
	default:
		return 0;
	}
}

/* A stream's first page: is it one to turn to? Not while a file's other streams are announced. */
static int is_wanted(const ogg_decoder *d)
{
	return !d->open || d->codec == UNKNOWN || d->headers > 1;
}

static int take_page(ogg_decoder *d, ogg_page *page, pcm_buffer *out)
{
	ogg_packet packet;
	int error = ogg_page_bos(page) && is_wanted(d) ? open_stream(d, page) : 0, more;
	size_t before = out->pcm.n;
	if (error || !d->open || d->stream.serialno != ogg_page_serialno(page) || ogg_stream_pagein(&d->stream, page)) {
		return error;
	}
	while ((more = ogg_stream_packetout(&d->stream, &packet)) != 0) { /* less than 0: a page has been lost */
		int failed = more > 0 ? take_packet(d, &packet, out) : 0;
		if (failed && (failed != AS_EINVAL || !d->ready)) {
			close_stream(d); /* no header, no audio */
			return failed;
		}
		error = error ? error : failed;
	}
	if (d->codec == OPUS && d->ready) {
		opus_page_end(d, page, out, before);
	}
	if (d->stream.body_fill - d->stream.body_returned > (long)SLICES_HELD_MAX_BYTES) {
		close_stream(d);
		error = AS_EINVAL;
	}
	return error;
}

/* ---- The decoder ------------------------------------------------------------------------------------------------- */

static int ogg_new(void **out)
{
	ogg_decoder *d = calloc(1, sizeof(*d));
	if (!d) {
		return AS_ENOMEM;
	}
	ogg_sync_init(&d->sync);
	*out = d;
	return 0;
}

static void ogg_free(void *arg)
{
	ogg_decoder *d = arg;
	close_stream(d);
	ogg_sync_clear(&d->sync);
	free(d);
}

static void ogg_reset(void *arg)
{
	ogg_decoder *d = arg;
	close_stream(d);
	ogg_sync_reset(&d->sync);
}

/* A page that is the first of its stream, and of its file. */
static int ogg_begins(void *arg, const uint8_t *data, size_t n)
{
	const ogg_decoder *d = arg;
	int is_first = n >= 6 && !memcmp(data, "OggS", 4) && data[5] & 2, broken_off = d->sync.fill > d->sync.returned;
	return is_first && (is_wanted(d) || broken_off);
}

static int ogg_decode(void *arg, const uint8_t *data, size_t n, pcm_buffer *out)
{
	ogg_decoder *d = arg;
	ogg_page page;
	int error = 0, more;
	for (size_t at = 0, part; at < n; at += part) {
		part = n - at < FEED_BYTES ? n - at : FEED_BYTES;
		char *room = ogg_sync_buffer(&d->sync, (long)part);
		if (!room) {
			return AS_ENOMEM;
		}
		memcpy(room, data + at, part);
		ogg_sync_wrote(&d->sync, (long)part);
		while ((more = ogg_sync_pageout(&d->sync, &page)) != 0) { /* less than 0: something was skipped */
			int failed = more > 0 ? take_page(d, &page, out) : 0;
			if (failed && failed != AS_EINVAL) {
				return failed;
			}
			error = error ? error : failed;
		}
	}
	return error;
}

const slices_kind ogg_slices = {
	.name = "Ogg",
	.new = ogg_new,
	.free = ogg_free,
	.begins = ogg_begins,
	.reset = ogg_reset,
	.decode = ogg_decode,
};
