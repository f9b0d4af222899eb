/*
 * sender.c - capture ring -> messages.
 *
 * Messages are of one length, so a resampler, which keeps a few ms to itself, must not leave the first one short: it is
 * filled up with silence in front, and from then on every 20 ms in are 20 ms out.
 */
#define _GNU_SOURCE
#include "sender.h"

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

struct sender {
	as_stream *stream;
	as_info info;
	struct sender_config config;
	struct sender_outlets out;
	struct sender_format format;
	int message_ms;       /* audio in one message */
	int chunk_ms;         /* audio captured at a time: one or more messages */
	size_t message_bytes; /* as s16 */
	uint8_t *pcm;         /* read and not yet sent: s16; NULL: a watcher */
	size_t have, room;    /* bytes */
	int primed;           /* the first audio has been read */
	int over;             /* nothing will be sent any more */
	uint64_t until;       /* samples of the stream to send, then it is over; 0: no end */
	int64_t until_ns;     /* the same, at the latest */
	uint64_t limit;       /* samples that may wait; 0: not known yet */
	uint64_t dropped;     /* samples, oldest first, because they could not be sent in time */
	int64_t overrun_ns;   /* when some were lost last; 0: not in an excursion */
	uint64_t lost_before; /* samples lost before this excursion */
};

/* ---- Its life ---------------------------------------------------------------------------------------------------- */

static size_t pcm_bytes(const struct sender *s, int ms)
{
	return (size_t)((int64_t)s->format.rate_hz * ms / 1000) * (size_t)s->format.channels * sizeof(int16_t);
}

/* Batches of several frames are one message in binary, several in JSON. */
static void size_messages(struct sender *s)
{
	int frame_ms = s->config.frame_ms, batch_ms = s->config.batch_ms;
	s->chunk_ms = batch_ms > PREBATCHED_MS && batch_ms > frame_ms ? batch_ms : frame_ms;
	s->chunk_ms = s->chunk_ms > 1000 ? 1000 : s->chunk_ms;
	s->message_ms = s->config.split ? frame_ms : s->chunk_ms;
	s->message_bytes = pcm_bytes(s, s->message_ms);
	s->room = pcm_bytes(s, 2 * s->chunk_ms + SPARE_MS);
	int limit_ms = s->config.max_queue_ms;
	if (limit_ms <= 0) {
		limit_ms = s->config.ring_ms - RING_SPARE_MS;
	}
	if (limit_ms < s->chunk_ms + SPARE_MS) {
		limit_ms = s->chunk_ms + SPARE_MS; /* less, and no chunk would ever be complete */
	}
	s->limit = (uint64_t)s->info.rate_hz * (uint64_t)limit_ms / 1000;
}

int sender_check(const struct sender_config *config, char *error, size_t bytes)
{
	int rate_hz = config->rate_hz, batch_ms = config->batch_ms;
	if (rate_hz && (rate_hz < AS_RATE_MIN_HZ || rate_hz > AS_RATE_MAX_HZ)) {
		snprintf(error, bytes, "a rate of %d Hz: use %d to %d", rate_hz, AS_RATE_MIN_HZ, AS_RATE_MAX_HZ);
		return AS_EINVAL;
	}
	if (2 * batch_ms > config->ring_ms) {
		snprintf(error, bytes,
				 "STREAM_BUFFER_SIZE is %d ms, but MOD_AUDIO_STREAM_BUFFER_SECS must have room for it twice: "
				 "use %d s there",
				 batch_ms, (2 * batch_ms + 999) / 1000);
		return AS_EINVAL;
	}
	return 0;
}

int sender_alloc_watcher(struct sender **out, as_stream *stream, const struct sender_outlets *outlets)
{
	struct sender *s = calloc(1, sizeof(*s));
	if (!s) {
		return AS_ENOMEM;
	}
	s->stream = as_stream_ref(stream);
	as_stream_info(stream, &s->info);
	s->out = *outlets;
	*out = s;
	return 0;
}

/* The caller's thread: sizes, memory, and the stream's capture. */
static int sender_set_up(struct sender *s, char *error, size_t bytes)
{
	s->format = (struct sender_format){s->config.encoding, s->config.rate_hz, s->info.channels};
	size_messages(s);
	s->pcm = malloc(s->room);
	if (!s->pcm) {
		return AS_ENOMEM;
	}
	int result = as_capture_setup(s->stream, AS_S16, s->format.rate_hz, s->chunk_ms, s->chunk_ms, 0);
	if (result) {
		snprintf(error, bytes, "audio at %d Hz, %d ms at a time: %s", s->format.rate_hz, s->chunk_ms,
				 as_strerror(result));
	}
	return result;
}

int sender_alloc(struct sender **out, as_stream *stream, const struct sender_config *config,
				 const struct sender_outlets *outlets, char *error, size_t bytes)
{
	struct sender *s = NULL;
	int result = sender_alloc_watcher(&s, stream, outlets);
	if (!result) {
		s->config = *config;
		result = sender_set_up(s, error, bytes);
	}
	if (result) {
		sender_free(s);
		return result;
	}
	*out = s;
	return 0;
}

void sender_free(struct sender *s)
{
	if (s) {
		as_stream_unref(s->stream);
		free(s->pcm);
		free(s);
	}
}

void sender_watch(struct sender *s, int encoding, int rate_hz, uint64_t limit_samples)
{
	s->format.encoding = encoding;
	s->format.rate_hz = rate_hz;
	s->limit = limit_samples;
}

void sender_note_dropped(struct sender *s, uint64_t samples)
{
	s->dropped += samples;
}

int sender_is_over(const struct sender *s)
{
	return s->over || !s->pcm;
}

struct sender_format sender_format(const struct sender *s)
{
	return s->format;
}

size_t sender_message_bytes(const struct sender *s)
{
	return s->message_bytes;
}

uint64_t sender_dropped(const struct sender *s)
{
	return s->dropped;
}

/* ---- Sending ----------------------------------------------------------------------------------------------------- */

/* Sends the first n bytes of pcm, which G.711 is encoded in place of. */
static void send_message(struct sender *s, size_t n)
{
	uint8_t *audio = s->pcm;
	size_t bytes = n;
	uint8_t ulaw[4096];
	if (s->format.encoding == AS_PCMU) {
		/* From the front: where a byte goes, the samples have been read. */
		for (size_t at = 0; at < n / sizeof(int16_t); at += sizeof(ulaw)) {
			size_t part = n / sizeof(int16_t) - at < sizeof(ulaw) ? n / sizeof(int16_t) - at : sizeof(ulaw);
			as_pcmu_encode((const int16_t *)(const void *)s->pcm + at, ulaw, part);
			memcpy(audio + at, ulaw, part);
		}
		bytes = n / sizeof(int16_t);
	}
	s->out.send(s->out.arg, audio, bytes);
	s->have -= n;
	memmove(s->pcm, s->pcm + n, s->have);
}

/* Fills up in front what the resampler has kept of the first audio. consumed: samples of the stream. */
static void prime(struct sender *s, uint64_t consumed)
{
	size_t frame = (size_t)s->format.channels * sizeof(int16_t);
	size_t due = (size_t)(consumed * (uint64_t)s->format.rate_hz / (uint64_t)s->info.rate_hz) * frame;
	size_t missing = due > s->have ? due - s->have : 0;
	s->primed = 1;
	if (missing && s->have + missing <= s->room) {
		memmove(s->pcm + missing, s->pcm, s->have);
		memset(s->pcm, 0, missing);
		s->have += missing;
	}
}

static uint64_t read_so_far(struct sender *s)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	return stats.capture_read_samples + stats.capture_discarded_samples;
}

/* Reads what there is, one chunk at least. 0 when there is none. */
static int read_more(struct sender *s)
{
	long ready = as_capture_ready(s->stream);
	long chunk = (long)s->info.rate_hz * s->chunk_ms / 1000;
	if (ready != AS_ECLOSED && ready < chunk && !as_stream_closed(s->stream)) {
		return 0;
	}
	uint64_t before = s->primed ? 0 : read_so_far(s);
	long got = as_capture_read(s->stream, s->pcm + s->have, s->room - s->have, 0);
	if (got <= 0) {
		s->over = got == AS_ECLOSED;
		return 0;
	}
	s->have += (size_t)got;
	if (!s->primed) {
		prime(s, read_so_far(s) - before);
	}
	return 1;
}

/* What the server has to take before more is handed to the connection. */
static size_t most_unsent(const struct sender *s, int is_last)
{
	int limit_ms = s->config.max_queue_ms;
	size_t bytes = pcm_bytes(s, UNSENT_MS), limit = pcm_bytes(s, limit_ms);
	bytes = bytes > UNSENT_LEAST ? bytes : UNSENT_LEAST;
	return is_last ? UNSENT_LAST : limit_ms && limit < bytes ? limit : bytes;
}

/* Has all been read that is still to be sent? Not for ever: a paused host completes no chunk. */
static int is_read(struct sender *s)
{
	return s->until && (read_so_far(s) >= s->until || as_now_ns() > s->until_ns);
}

void sender_pump(struct sender *s, int is_last)
{
	size_t most = most_unsent(s, is_last);
	while (!sender_is_over(s) && s->out.unsent(s->out.arg) < most) {
		if (s->have >= s->message_bytes) {
			send_message(s, s->message_bytes);
		} else if (is_read(s)) {
			s->over = 1;
		} else if (!read_more(s)) {
			return;
		}
	}
}

void sender_finish(struct sender *s)
{
	int behind_ms = s->info.behind_ms; /* of audio that the host has and the ring does not */
	as_stats stats;
	if (!s->pcm) {
		return;
	}
	as_stream_stats(s->stream, &stats);
	s->until = stats.capture_samples + (uint64_t)s->info.rate_hz * (uint64_t)behind_ms / 1000;
	s->until_ns = as_now_ns() + (int64_t)(s->chunk_ms + behind_ms + SPARE_MS) * 1000000;
	s->over |= s->until == stats.capture_read_samples + stats.capture_discarded_samples;
}

void sender_flush(struct sender *s)
{
	while (s->have > 0) {
		send_message(s, s->have < s->message_bytes ? s->have : s->message_bytes);
	}
}

void sender_stop(struct sender *s)
{
	s->over = 1;
}

/* ---- The bound --------------------------------------------------------------------------------------------------- */

/* Reports that audio is being lost, once for each excursion. */
static void note_loss(struct sender *s, uint64_t lost, int64_t now_ns)
{
	int began = !s->overrun_ns;
	s->overrun_ns = now_ns;
	if (began) {
		uint64_t rate = (uint64_t)s->info.rate_hz;
		s->out.event(s->out.arg, "stream_buffer_overrun",
					 json_pack("{s:s,s:I,s:I,s:I}", "direction", "capture", "droppedMs",
							   (json_int_t)((lost - s->lost_before) * 1000 / rate), "totalDroppedMs",
							   (json_int_t)(lost * 1000 / rate), "limitMs", (json_int_t)(s->limit * 1000 / rate)));
	}
	s->lost_before = lost;
}

void sender_bound(struct sender *s, const as_stats *stats, int64_t now_ns)
{
	if (!s->limit) {
		return;
	}
	long ready = as_capture_ready(s->stream);
	if (s->over) {
		as_capture_discard(s->stream, 0); /* not to be sent to anybody: not a loss */
		return;
	}
	if (ready > 0 && (uint64_t)ready > s->limit) {
		s->dropped += as_capture_discard(s->stream, (size_t)s->limit);
	}
	uint64_t lost = s->dropped + stats->capture_dropped_samples;
	if (lost > s->lost_before) {
		note_loss(s, lost, now_ns);
	} else if (s->overrun_ns && now_ns - s->overrun_ns > EXCURSION_NS) {
		s->overrun_ns = 0;
	}
}
