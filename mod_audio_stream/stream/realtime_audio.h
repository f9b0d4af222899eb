/*
 * realtime_audio.h - the audio of one Realtime conversation, between a stream and the messages of a connection.
 *
 *     capture ring ──▶ rt_audio_pump() ──▶ input_audio_buffer.append
 *     inject queue ◀── rt_audio_delta() ◀── response.output_audio.delta       a mark per item
 *
 * Everything here runs on the actor's service thread.
 *
 * Generations. A response's audio is queued under the generation in which it was first heard of, so that a flush in the
 * meantime drops it. Where whoever decides about flushes is still thinking (the caller spoke, and that has not been dealt
 * with), audio of a response or an item first heard of then is held back until rt_audio_route() says what becomes of it.
 */
#ifndef STREAM_REALTIME_AUDIO_H
#define STREAM_REALTIME_AUDIO_H

#include <stdatomic.h>

#include "audio_stream_ws.h"
#include "loop.h"
#include "realtime_recall.h"
#include "realtime_wire.h"

#define RT_RESPONSES 32 /* remembered: more than can have audio on its way */
#define RT_ITEMS 64
#define RT_DELTAS 64

typedef struct rt_held rt_held;

typedef struct rt_response {
	char *id;              /* NULL: no response */
	uint32_t generation;   /* 0 while held, and when dropped */
	int held;              /* waits for rt_audio_route() */
	rt_held *first, *last; /* what of it is held, in order of arrival */
} rt_response;

typedef struct rt_item {
	char *id; /* NULL: no item */
	uint64_t mark;
	rt_response *response;
	int64_t announced_ns;
} rt_item;

typedef struct rt_audio {
	as_stream *stream; /* NULL until rt_audio_attach() */
	as_realtime_audio format;
	int listening, unlistened; /* the caller is sent; is never to be read here again */
	int set_up;                /* the stream's capture is as `format` says */
	size_t uplink_max_samples; /* that may wait in the ring */
	size_t unsent_max_bytes;   /* and in the connection */
	uint64_t appended_bytes;   /* handed to it in all */
	rt_recall recall;          /* what was sent and is not answered yet, where rt_audio_recall() was called */
	rt_response responses[RT_RESPONSES];
	rt_item items[RT_ITEMS];
	unsigned next_response, next_item;
	size_t held_bytes;         /* of all responses, headers included */
	uint64_t heard[RT_DELTAS]; /* fingerprints of the last deltas that had an event_id */
	unsigned next_heard;
	uint64_t last_id, last_type; /* of the last event but audio: its event_id and its type, hashed */
	int ids_are_shared;          /* the server gives one event_id to different events: an id tells nothing */
	/* As in as_realtime_info; publish nothing else. */
	_Atomic uint64_t dropped_samples, appends, deltas, full_deltas, repeated_deltas;
} rt_audio;

/* What rt_audio_delta() has to say. */
typedef struct rt_outcome {
	const rt_item *announce; /* this item's audio is worth an announcement: the first, or a second has passed */
	int first;               /* it has not been announced before */
	const char *complaint;   /* what was wrong with the audio; NULL */
	const char *about;       /* a word for the kind of complaint */
	int useless;             /* it is the server's fault: audio that can never be played */
} rt_outcome;

void rt_audio_init(rt_audio *audio);
void rt_audio_free(rt_audio *audio);
/* AS_EINVAL for a format, AS_EBUSY for a second stream. */
int rt_audio_attach(rt_audio *audio, as_stream *stream, const as_realtime_audio *format, int uplink_max_ms);
/* The stream's capture is set up then, and not at attach: until then it may be another connection's. AS_EINVAL before
 * attach. */
int rt_audio_listen(rt_audio *audio);
/* Nothing of the stream's capture is touched any more. */
void rt_audio_unlisten(rt_audio *audio);
/* From now on the caller's turn is kept until it is answered. After attach. */
void rt_audio_recall(rt_audio *audio);
/* Sends what another connection has kept of the caller's turn, if it is in the format of this one. Before listen. */
void rt_audio_resend(rt_audio *audio, ws_actor *actor, const as_realtime_audio *format, const uint8_t *data, size_t n);
/* Drops the oldest of what the caller has said beyond the bound; sends the rest, once listening and as far as the
 * server reads. */
void rt_audio_pump(rt_audio *audio, ws_actor *actor);
/* A response has begun. hold: see above. */
void rt_audio_response(rt_audio *audio, const char *response_id, int hold);
/* Audio has come (the base64 is decoded in place). One that has come before, with its event_id and its audio, is counted
 * and not heard again; by its event_id alone no audio is told from another's, for not every server counts them well. */
rt_outcome rt_audio_delta(rt_audio *audio, const rt_message *message, int hold, int64_t now_ns);
/* Any event but audio: learns whether the server's event_ids tell one event from another. */
void rt_audio_event(rt_audio *audio, const rt_message *message);
/* An item's audio is complete. */
void rt_audio_done(rt_audio *audio, const char *item_id);
/* The item behind a mark, or NULL for one that is not of this conversation, or long past. */
const rt_item *rt_audio_item(const rt_audio *audio, uint64_t mark);
/* A new conversation: no item of the last one is known any more. */
void rt_audio_forget(rt_audio *audio);
/* What becomes of a response's audio: this generation, or 0 to drop it. */
void rt_audio_route(rt_audio *audio, const char *response_id, uint32_t generation);

#endif
