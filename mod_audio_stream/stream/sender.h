/*
 * sender.h - the capture ring's reader: cuts what the caller says into messages of one size.
 *
 * The ring is the queue: what the server does not take stays in it, whether the server is slow or not connected, and
 * the oldest is dropped beyond a limit. A sender knows a stream and its outlets, and no connection.
 *
 * sender_check() and sender_alloc() run on the caller's thread, everything else on the owner's.
 */
#ifndef STREAM_SENDER_H
#define STREAM_SENDER_H

#include <jansson.h>

#include "audio_stream.h"

struct sender;

struct sender_config {
	int encoding, rate_hz; /* of what is sent; AS_S16 or AS_PCMU; rate_hz 0: not known yet, for sender_check() */
	int frame_ms;          /* audio in one message, */
	int batch_ms;          /* and captured at a time, if that is more */
	int split;             /* a batch of several frames is as many messages, not one */
	int max_queue_ms;      /* captured audio that may wait; 0: as much as the ring holds */
	int ring_ms;           /* the capture ring */
};

struct sender_outlets {
	void *arg;
	void (*send)(void *arg, const void *audio, size_t bytes); /* one message, shorter at the end */
	size_t (*unsent)(void *arg);                              /* bytes that the connection has not passed on yet */
	void (*event)(void *arg, const char *name, json_t *body); /* body is taken over */
};

/* Of what is sent. */
struct sender_format {
	int encoding, rate_hz, channels;
};

/* Can this be? AS_EINVAL with the reason. */
int sender_check(const struct sender_config *config, char *error, size_t bytes);
/* Sets the stream's capture up and takes a reference. AS_EINVAL with the reason, AS_ENOMEM. */
int sender_alloc(struct sender **out, as_stream *stream, const struct sender_config *config,
				 const struct sender_outlets *outlets, char *error, size_t bytes);
/* For a stream whose capture another reads: sends nothing, and only drops and reports what waits too long; nothing
 * before sender_watch(). AS_ENOMEM. */
int sender_alloc_watcher(struct sender **out, as_stream *stream, const struct sender_outlets *outlets);
void sender_free(struct sender *s); /* NULL is allowed */

/* A watcher: what the reader sends, and how many samples may wait for it. */
void sender_watch(struct sender *s, int encoding, int rate_hz, uint64_t limit_samples);
/* A watcher: the reader has dropped these. */
void sender_note_dropped(struct sender *s, uint64_t samples);

/* Sends what is there, as far as the server reads. is_last: nothing comes after it, so that far more is handed to the
 * connection at once. */
void sender_pump(struct sender *s, int is_last);
/* From now on only what has been captured already is sent. */
void sender_finish(struct sender *s);
/* Sends what has been read already, the last message as short as it is. */
void sender_flush(struct sender *s);
/* Nothing is sent any more; what is captured is dropped, which is no loss. */
void sender_stop(struct sender *s);
/* Drops the oldest beyond the limit. stats: of the stream. */
void sender_bound(struct sender *s, const as_stats *stats, int64_t now_ns);

/* Will nothing be sent any more? */
int sender_is_over(const struct sender *s);
struct sender_format sender_format(const struct sender *s);
/* Bytes of one message as s16. */
size_t sender_message_bytes(const struct sender *s);
/* Samples dropped, oldest first, because they could not be sent in time. */
uint64_t sender_dropped(const struct sender *s);

#endif
