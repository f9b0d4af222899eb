/*
 * streamer.h - inside of a streamer: what its files share, and the seam for another dialect.
 *
 *     streamer.c            its life: connecting, reopening, ending
 *     streamer_api.c        the public functions
 *     streamer_connect.c    how a connection is made, and which ends it is reopened after
 *     sender.h              what the caller says, for the server
 *     player.h              what the server wants the caller to hear
 *     streamer_dialects.c   the two dialects
 *     streamer_state.c      what it says of itself
 *
 * Everything runs on the streamer's service thread and nothing is locked, but for the public functions, which
 * leave word for the next tick, or read the snapshot that it leaves for them.
 *
 * A third dialect is a struct streamer_dialect in a file of its own and a line in dialects[] of streamer_api.c.
 */
#ifndef STREAM_STREAMER_H
#define STREAM_STREAMER_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "audio_stream_ws.h"
#include "loop.h"
#include "options.h"
#include "player.h"
#include "report.h"
#include "sender.h"
#include "wire.h"

#define STREAMER_URL_MAX 512
#define STREAMER_REASON_MAX 256

/* ---- The seam ---------------------------------------------------------------------------------------------------- */

typedef struct streamer_dialect {
	const char *name;                                 /* in descriptions */
	const char *opened, *failed, *timed_out, *closed; /* the connection's events */
	const char *queued;                               /* fired when audio has been queued; NULL: none */
	int has_codec;                                    /* STREAM_CODEC holds */
	int split;                                        /* captured batches of several frames are as many messages */
	int joins;                                        /* raw messages of one utterance are one play */
	int fed_ahead;                                    /* audio comes faster than real time: no prebuffer */
	/* as_streamer_new() and as_streamer_check(), the caller's thread: checks what was asked for and calls
	 * streamer_target_init(). There may be no s->stream, and s->info be empty. AS_EINVAL with the reason, AS_ENOMEM. */
	int (*reach)(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes);
	/* as_streamer_new(), after that: makes s->own. s->sender is there. */
	int (*init)(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes);
	void (*free)(as_streamer *s); /* also after an init() that failed half-way */
	/* The rest: the service thread; NULL for those not wanted. */
	void (*on_open)(as_streamer *s); /* the first messages; s->reopened says how often it has been open before */
	void (*on_message)(as_streamer *s, int binary, char *data, size_t n);
	void (*pump)(
		as_streamer *s); /* every tick while open: it reads the capture itself; NULL: s->sender, with send_audio() */
	void (*send_audio)(as_streamer *s, const void *audio, size_t bytes); /* one message, shorter at the end */
	void (*on_stop)(as_streamer *s, const char *text); /* the last messages; text: as_streamer_stop()'s or NULL */
	void (*on_checkpoint)(as_streamer *s, const char *name, int reached);
	int (*busy)(as_streamer *s); /* is something being said to the caller? NULL: player_busy() */
} streamer_dialect;

extern const streamer_dialect streamer_binary, streamer_json, streamer_openai;

/* ---- Connecting -------------------------------------------------------------------------------------------------- */

/* Everything ws_connect() needs, made once. */
typedef struct streamer_target {
	ws_options options;
	char *url, *subprotocol;
	char **headers;               /* "Name: value", the last one followed by NULL */
	char shown[STREAMER_URL_MAX]; /* the URL without its query, which may be secret */
} streamer_target;

/* The caller's thread. subprotocol: unless the options have one; NULL: none. header: one more, "Name: value"; NULL: none.
 * timeout_s: 0 = the options', -1 = none. AS_EINVAL with the reason, AS_ENOMEM. */
int streamer_target_init(as_streamer *s, const char *url, const char *subprotocol, const char *header, int timeout_s,
						 char *error, size_t bytes);
void streamer_target_free(streamer_target *target);
/* Is a connection that ended like this opened again? */
int streamer_reopens(const as_options *options, const ws_end *end);
/* How long to wait before the n-th attempt in a row (1...). random: any number. */
int streamer_backoff_ms(const as_options *options, int attempt, uint32_t random);
const char *streamer_why_name(ws_why why);

/* ---- The streamer ------------------------------------------------------------------------------------------------ */

typedef enum streamer_state {
	STREAMER_CONNECTING,
	STREAMER_OPEN,
	STREAMER_WAITING,     /* to connect again */
	STREAMER_PLAYING_OUT, /* the connection is gone for good; what is queued is still played */
	STREAMER_ENDING,      /* saying goodbye */
	STREAMER_FINISHED,
} streamer_state;

#define STREAMER_STOP_GRACEFUL 1
#define STREAMER_STOP_NOW 2

/* What as_streamer_describe() tells. */
typedef struct streamer_view {
	streamer_state state;
	int encoding, rate_hz; /* of what is sent */
	uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
	uint64_t reopened, failed;
	size_t unsent;
	uint64_t dropped_ms, refused_ms, queued_ms, played_ms, underruns, underrun_ms;
	int waiting_ms; /* captured, not yet sent */
	int prebuffer_ms;
} streamer_view;

struct as_streamer {
	_Atomic int
		refs;        /* the application's, and one of the actor's; a count, publishes nothing but the last one's turn */
	ws_actor *actor; /* service thread: it lives as long as that has to do with us */
	/* Set by as_streamer_new(). */
	as_stream *stream;
	as_info info;
	as_options *options;
	const streamer_dialect *dialect;
	void *own; /* the dialect's */
	as_streamer_finished on_finished;
	void *arg; /* on_finished()'s */
	char *track, *metadata;
	int bidirectional;
	streamer_target target;
	struct sender_config sending; /* the sender's, unless the dialect reads the capture itself */

	/* Any thread, under the lock; held for moments only. */
	pthread_mutex_t lock;
	streamer_view view;
	struct streamer_text *texts, **texts_end; /* to be sent, once the connection is open */
	size_t text_bytes;
	int finished;    /* no more texts are taken */
	int stop;        /* asked to end: STREAMER_STOP_* */
	char *stop_text; /* until the service thread takes it over */

	/* Service thread. */
	streamer_state state;
	struct report report;
	struct sender *sender;
	struct player *player;
	int started;                      /* stream_started has been fired */
	int attempt;                      /* attempts in a row that were not open for long */
	int64_t opened_ns;                /* while open */
	int64_t next_ns;                  /* WAITING: when to connect */
	int64_t give_up_ns;               /* when what is going on is cut short; 0: never */
	int stop_taken;                   /* what of `stop` has been acted on */
	char *farewell;                   /* as_streamer_stop()'s text, once that has been acted on; NULL: none */
	int graceful;                     /* ends when all is said and heard */
	char reason[STREAMER_REASON_MAX]; /* why it ends; "" while it does not */
	uint64_t reopened, failed;        /* times it was opened again; attempts that failed */
	uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
	int64_t slow_ns, heart_ns, stats_ns; /* when these are due */
	int paused;                          /* AS_CAPTURE, AS_INJECT as last announced */
	int refused_media;                   /* not bidirectional, and this has been said */
	uint64_t logged;                     /* how far queueing and playing were when statistics were logged last */
	uint32_t random;
};

typedef struct streamer_text {
	struct streamer_text *next;
	size_t bytes;
	char text[];
} streamer_text;

extern const ws_callbacks streamer_callbacks;
/* Under the lock, or when nobody else has the streamer any more. */
void streamer_free_texts(as_streamer *s);
/* Sends a message, counted. AS_ECLOSED, AS_EFULL, AS_ENOMEM. */
int streamer_send(as_streamer *s, int binary, const void *data, size_t n);
/* Gives what is queued now the time to be heard. */
void streamer_allow_queued(as_streamer *s);
/* Begins to end. reason: for the server and the application. */
void streamer_end(as_streamer *s, const char *reason);
/* What a description says. Any thread. */
json_t *streamer_describe_json(const as_streamer *s, const streamer_view *view);
void streamer_take_view(const as_streamer *s, const as_stats *stats, streamer_view *view);

#endif
