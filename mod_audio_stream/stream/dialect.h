/*
 * dialect.h - what is said to a server and what is made of what it says: the seam between a streamer and its dialects.
 *
 *     dialect_binary.c   binary frames and streamAudio
 *     dialect_json.c     start, media, stop and media.*
 *     dialect_openai.c   an OpenAI Realtime conversation
 *     dialect.c          what the first two have in common
 *
 * A dialect knows the player, the sender and its host, which is what it may ask of its owner. Another dialect is a
 * struct dialect in a file of its own and a line in dialects[] of streamer_api.c.
 */
#ifndef STREAM_DIALECT_H
#define STREAM_DIALECT_H

#include "loop.h"
#include "options.h"
#include "player.h"
#include "report.h"
#include "sender.h"

/* What a dialect may ask of its owner. All but `own` and `refused_media` is the owner's, and stays. */
struct dialect_host {
	as_stream *stream; /* NULL for a check without one; `info` is empty then */
	const as_info *info;
	const as_options *options;
	const char *track, *metadata; /* metadata: NULL for none */
	int bidirectional;            /* the server may play */
	int ending; /* what the server says is still told; nothing is played or done to the audio any more */
	int connect_timeout_ms;
	struct report *report;
	struct sender *sender;
	struct player *player; /* not yet there in init() */
	void *arg;             /* of these: */
	/* Sends a message, counted. AS_ECLOSED, AS_EFULL, AS_ENOMEM. */
	int (*send)(void *arg, int binary, const void *data, size_t n);
	/* Counts messages that were sent without send(). */
	void (*count_sent)(void *arg, uint64_t messages, uint64_t bytes);
	/* Begins to end. reason: for the server and the application. */
	void (*end)(void *arg, const char *reason);
	/* The dialect's. */
	void *own;
	int refused_media; /* not bidirectional, and this has been reported */
};

/* Where to connect to, and as whom. */
struct dialect_target {
	char *url, *header;      /* malloc'ed; header: one more, "Name: value"; NULL: none */
	const char *subprotocol; /* unless the options have one; NULL: none */
};

struct dialect {
	const char *name;                                 /* in descriptions */
	const char *opened, *failed, *timed_out, *closed; /* the connection's events */
	const char *queued;                               /* fired when audio has been queued; NULL: none */
	int has_codec;                                    /* STREAM_CODEC holds */
	int split;                                        /* captured batches of several frames are as many messages */
	int fed_ahead;                                    /* audio comes faster than real time: no prebuffer */
	int own_credentials; /* `header` says who we are: no other server's password goes along */
	/* as_streamer_new() and as_streamer_check(), the caller's thread: checks what was asked for. AS_EINVAL with
	 * the reason, AS_ENOMEM; out is the caller's in any case. */
	int (*reach)(const struct dialect_host *h, const as_streamer_start *start, struct dialect_target *out, char *error,
				 size_t bytes);
	/* as_streamer_new(), after that: makes h->own. */
	int (*init)(struct dialect_host *h, const as_streamer_start *start, char *error, size_t bytes);
	void (*free)(struct dialect_host *h); /* also after an init() that failed half-way, or was never called */
	/* The rest: the service thread; NULL for those not wanted. */
	void (*on_open)(struct dialect_host *h,
					uint64_t reopened); /* the first messages; reopened: it has been open so often */
	void (*on_message)(struct dialect_host *h, int binary, char *data, size_t n);
	/* Every tick while open: reads the capture itself, and h->sender is a watcher. NULL: h->sender reads it. */
	void (*pump)(struct dialect_host *h, ws_actor *actor, int64_t now_ns);
	void (*send_audio)(struct dialect_host *h, const void *audio, size_t bytes); /* one message of h->sender's */
	/* The last messages. text: as_streamer_stop()'s or NULL. */
	void (*on_stop)(struct dialect_host *h, const char *reason, const char *text);
	void (*on_checkpoint)(struct dialect_host *h, const char *name, int reached); /* while open */
	int (*busy)(const struct dialect_host *h); /* is the caller being played something? NULL: player_busy() */
};

extern const struct dialect dialect_binary, dialect_json, dialect_openai;

/* ---- dialect.c: for dialects on top of wire.h -------------------------------------------------------------------- */

/* What the server may not do to a stream in one direction; reports it once. */
int dialect_refuses(struct dialect_host *h, wire_kind kind);
/* Does what a message asks for. joins: raw audio goes on with the message before. */
void dialect_apply(struct dialect_host *h, wire_message *message, int joins);
/* An event whose body has one JSON value in it. */
void dialect_pass_on(struct dialect_host *h, const char *event, const char *name, const char *json);
/* Sends a text message and logs it; frees text, which may be NULL. */
void dialect_send_text(struct dialect_host *h, char *text, size_t n);
void dialect_log_received(struct dialect_host *h, const wire_message *message);

#endif
