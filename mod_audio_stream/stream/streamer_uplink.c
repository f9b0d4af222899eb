/*
 * streamer_uplink.c - the capture ring's reader: cuts what the caller says into messages of one size.
 *
 * The ring is the queue: what the server does not take stays in it, whether it is slow or not connected, and the oldest
 * is dropped beyond a limit. Messages are of one length, so a resampler, which keeps a few ms to itself, must not leave
 * the first one short: it is filled up with silence in front, and from then on every 20 ms in are 20 ms out.
 *
 * Everything here but streamer_uplink_init() and _free() runs on the service thread.
 */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSENT_MS 1000          /* audio handed to the connection ahead of what the server reads, */
#define UNSENT_LEAST 16384      /* in bytes at least, unless STREAM_MAX_QUEUE_MS is less */
#define UNSENT_LAST (2 << 20)   /* the same for all that is left at the call's end */
#define SPARE_MS 100            /* read at once beyond a chunk, after a pause */
#define RING_SPARE_MS 500       /* the oldest is dropped before the ring is full and drops the newest */
#define EXCURSION_NS 1000000000 /* without a loss: the next one is a new overrun */
#define PREBATCHED_MS 20        /* STREAM_BUFFER_SIZE up to this asks for no batches */

static size_t bytes_of(const streamer_uplink *uplink, int ms)
{
	return (size_t)((int64_t)uplink->rate_hz * ms / 1000) * (size_t)uplink->channels * sizeof(int16_t);
}

/* Batches of several frames are one message in binary, several in JSON. */
static void size_messages(as_streamer *s)
{
	streamer_uplink *uplink = &s->uplink;
	int frame_ms = s->options->frame_ms, batch_ms = s->options->buffer_size_ms;
	uplink->chunk_ms = batch_ms > PREBATCHED_MS && batch_ms > frame_ms ? batch_ms : frame_ms;
	uplink->chunk_ms = uplink->chunk_ms > 1000 ? 1000 : uplink->chunk_ms;
	uplink->message_ms = s->dialect == &streamer_json ? frame_ms : uplink->chunk_ms;
	uplink->message_bytes = bytes_of(uplink, uplink->message_ms);
	uplink->room = bytes_of(uplink, 2 * uplink->chunk_ms + SPARE_MS);
	int limit_ms = s->options->max_queue_ms;
	if (limit_ms <= 0) {
		limit_ms = s->options->buffer_secs * 1000 - RING_SPARE_MS;
	}
	if (limit_ms < uplink->chunk_ms + SPARE_MS) {
		limit_ms = uplink->chunk_ms + SPARE_MS; /* less, and no chunk would ever be complete */
	}
	uplink->limit = (uint64_t)s->info.rate_hz * (uint64_t)limit_ms / 1000;
}

int streamer_uplink_check(const as_streamer *s, char *error, size_t bytes)
{
	int rate_hz = s->uplink.rate_hz, chunk_ms = s->options->buffer_size_ms, ring_ms = s->options->buffer_secs * 1000;
	if (rate_hz && (rate_hz < AS_RATE_MIN_HZ || rate_hz > AS_RATE_MAX_HZ)) {
		snprintf(error, bytes, "a rate of %d Hz: use %d to %d", rate_hz, AS_RATE_MIN_HZ, AS_RATE_MAX_HZ);
		return AS_EINVAL;
	}
	if (2 * chunk_ms > ring_ms) {
		snprintf(error, bytes,
				 "STREAM_BUFFER_SIZE is %d ms, but MOD_AUDIO_STREAM_BUFFER_SECS must have room for it twice: "
				 "use %d s there",
				 chunk_ms, (2 * chunk_ms + 999) / 1000);
		return AS_EINVAL;
	}
	return 0;
}

int streamer_uplink_init(as_streamer *s, char *error, size_t bytes)
{
	streamer_uplink *uplink = &s->uplink;
	uplink->channels = s->info.channels;
	size_messages(s);
	uplink->pcm = malloc(uplink->room);
	if (!uplink->pcm) {
		return AS_ENOMEM;
	}
	int result = as_capture_setup(s->stream, AS_S16, uplink->rate_hz, uplink->chunk_ms, uplink->chunk_ms, 0);
	if (result) {
		snprintf(error, bytes, "audio at %d Hz, %d ms at a time: %s", uplink->rate_hz, uplink->chunk_ms,
				 as_strerror(result));
	}
	return result;
}

void streamer_uplink_free(as_streamer *s)
{
	free(s->uplink.pcm);
}

/* Sends the first n bytes of pcm. G.711 takes their place. */
static void send_message(as_streamer *s, size_t n)
{
	streamer_uplink *uplink = &s->uplink;
	uint8_t *audio = uplink->pcm;
	size_t bytes = n;
	uint8_t ulaw[4096];
	if (uplink->encoding == AS_PCMU) {
		/* From the front: where a byte goes, the samples have been read. */
		for (size_t at = 0; at < n / sizeof(int16_t); at += sizeof(ulaw)) {
			size_t part = n / sizeof(int16_t) - at < sizeof(ulaw) ? n / sizeof(int16_t) - at : sizeof(ulaw);
			as_pcmu_encode((const int16_t *)(const void *)uplink->pcm + at, ulaw, part);
			memcpy(audio + at, ulaw, part);
		}
		bytes = n / sizeof(int16_t);
	}
	s->dialect->send_audio(s, audio, bytes);
	uplink->have -= n;
	memmove(uplink->pcm, uplink->pcm + n, uplink->have);
}

/* Fills up in front what the resampler has kept of the first audio. consumed: samples of the stream. */
static void prime(as_streamer *s, uint64_t consumed)
{
	streamer_uplink *uplink = &s->uplink;
	size_t frame = (size_t)uplink->channels * sizeof(int16_t);
	size_t due = (size_t)(consumed * (uint64_t)uplink->rate_hz / (uint64_t)s->info.rate_hz) * frame;
	size_t missing = due > uplink->have ? due - uplink->have : 0;
	uplink->primed = 1;
	if (missing && uplink->have + missing <= uplink->room) {
		memmove(uplink->pcm + missing, uplink->pcm, uplink->have);
		memset(uplink->pcm, 0, missing);
		uplink->have += missing;
	}
}

static uint64_t read_so_far(as_streamer *s)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	return stats.capture_read_samples + stats.capture_discarded_samples;
}

/* Reads what there is, one chunk at least. 0 when there is none. */
static int read_more(as_streamer *s)
{
	streamer_uplink *uplink = &s->uplink;
	long ready = as_capture_ready(s->stream);
	long chunk = (long)s->info.rate_hz * uplink->chunk_ms / 1000;
	if (ready != AS_ECLOSED && ready < chunk && !as_stream_closed(s->stream)) {
		return 0;
	}
	uint64_t before = uplink->primed ? 0 : read_so_far(s);
	long got = as_capture_read(s->stream, uplink->pcm + uplink->have, uplink->room - uplink->have, 0);
	if (got <= 0) {
		uplink->over = got == AS_ECLOSED;
		return 0;
	}
	uplink->have += (size_t)got;
	if (!uplink->primed) {
		prime(s, read_so_far(s) - before);
	}
	return 1;
}

/* What the server has to take before more is handed to the connection. */
static size_t most_unsent(const as_streamer *s)
{
	int limit_ms = s->options->max_queue_ms;
	size_t bytes = bytes_of(&s->uplink, UNSENT_MS), limit = bytes_of(&s->uplink, limit_ms);
	bytes = bytes > UNSENT_LEAST ? bytes : UNSENT_LEAST;
	return s->state == STREAMER_ENDING ? UNSENT_LAST : limit_ms && limit < bytes ? limit : bytes;
}

/* Has all been read that is still to be sent? Not for ever: a paused host completes no chunk. */
static int is_read(as_streamer *s)
{
	const streamer_uplink *uplink = &s->uplink;
	return uplink->until && (read_so_far(s) >= uplink->until || as_now_ns() > uplink->until_ns);
}

void streamer_uplink_pump(as_streamer *s)
{
	streamer_uplink *uplink = &s->uplink;
	size_t most = most_unsent(s);
	while (!uplink->over && ws_unsent(s->actor) < most) {
		if (uplink->have >= uplink->message_bytes) {
			send_message(s, uplink->message_bytes);
		} else if (is_read(s)) {
			uplink->over = 1;
		} else if (!read_more(s)) {
			return;
		}
	}
}

void streamer_uplink_finish(as_streamer *s)
{
	int behind_ms = s->info.behind_ms; /* the host has it, and we do not */
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	s->uplink.until = stats.capture_samples + (uint64_t)s->info.rate_hz * (uint64_t)behind_ms / 1000;
	s->uplink.until_ns = as_now_ns() + (int64_t)(s->uplink.chunk_ms + behind_ms + SPARE_MS) * 1000000;
	s->uplink.over |= s->uplink.until == stats.capture_read_samples + stats.capture_discarded_samples;
}

void streamer_uplink_rest(as_streamer *s)
{
	streamer_uplink *uplink = &s->uplink;
	while (uplink->have > 0) {
		send_message(s, uplink->have < uplink->message_bytes ? uplink->have : uplink->message_bytes);
	}
}

/* Says once that audio is being lost, and again only after it has not been for a while. */
static void note_loss(as_streamer *s, uint64_t lost, int64_t now_ns)
{
	streamer_uplink *uplink = &s->uplink;
	int began = !uplink->overrun_ns;
	uplink->overrun_ns = now_ns;
	if (began) {
		uint64_t rate = (uint64_t)s->info.rate_hz;
		report_event(&s->report, "stream_buffer_overrun",
					 json_pack("{s:s,s:I,s:I,s:I}", "direction", "capture", "droppedMs",
							   (json_int_t)((lost - uplink->lost_before) * 1000 / rate), "totalDroppedMs",
							   (json_int_t)(lost * 1000 / rate), "limitMs", (json_int_t)(uplink->limit * 1000 / rate)));
	}
	uplink->lost_before = lost;
}

void streamer_uplink_bound(as_streamer *s, const as_stats *stats, int64_t now_ns)
{
	streamer_uplink *uplink = &s->uplink;
	long ready = as_capture_ready(s->stream);
	if (uplink->pcm ? uplink->over : s->state == STREAMER_PLAYING_OUT) {
		as_capture_discard(s->stream, 0); /* nobody is to hear it: not a loss */
		return;
	}
	if (ready > 0 && (uint64_t)ready > uplink->limit) {
		uplink->dropped += as_capture_discard(s->stream, (size_t)uplink->limit);
	}
	uint64_t lost = uplink->dropped + stats->capture_dropped_samples;
	if (lost > uplink->lost_before) {
		note_loss(s, lost, now_ns);
	} else if (uplink->overrun_ns && now_ns - uplink->overrun_ns > EXCURSION_NS) {
		uplink->overrun_ns = 0;
	}
}
