/*
 * streamer_internal.h - inside of a streamer, for the three files that know all of its parts:
 *
 *     streamer_api.c      the public functions
 *     streamer.c          its life: connecting, reopening, ending
 *     streamer_state.c    its memory, and what it says of itself
 *
 * Calls go down this list. The parts know no streamer: player.h (what the server wants the caller to hear), sender.h
 * (what the caller says), dialect.h (what is said to the server and made of its messages), report.h (what the
 * application is told), streamer_connect.h.
 *
 * Everything runs on the streamer's service thread and nothing is locked, but for the public functions, which leave
 * their requests for the next tick, or read the snapshot that the service thread leaves for them.
 */
#ifndef STREAM_STREAMER_INTERNAL_H
#define STREAM_STREAMER_INTERNAL_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "audio_stream_ws.h"
#include "dialect.h"
#include "streamer_connect.h"

#define STREAMER_REASON_MAX 256

typedef enum streamer_state {
	STREAMER_CONNECTING,
	STREAMER_OPEN,
	STREAMER_WAITING,     /* to connect again */
	STREAMER_PLAYING_OUT, /* the connection is gone for good; what is queued is still played */
	STREAMER_ENDING,      /* the last messages, then CLOSE */
	STREAMER_FINISHED,
} streamer_state;

#define STREAMER_STOP_GRACEFUL 1
#define STREAMER_STOP_NOW 2

/* What as_streamer_describe() tells. */
typedef struct streamer_view {
	streamer_state state;
	struct sender_format format;
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
	const struct dialect *dialect;
	struct dialect_host host; /* what the dialect sees of us */
	as_streamer_finished on_finished;
	void *arg; /* on_finished()'s */
	char *track, *metadata;
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
	char *stop_reason;                /* as_streamer_stop()'s text, once that has been acted on; NULL: none */
	int graceful;                     /* ends when all is said and heard */
	char reason[STREAMER_REASON_MAX]; /* why it ends; "" while it does not */
	uint64_t reopened, failed;        /* times it was opened again; attempts that failed */
	uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
	int64_t slow_ns, heart_ns, stats_ns; /* when these are due */
	int64_t close_ns;                    /* ENDING: when CLOSE is due (STREAM_LAST_WORDS_MS); 0: it has been sent */
	int paused;                          /* AS_CAPTURE, AS_INJECT as last announced */
	uint64_t logged;                     /* how far queueing and playing were when statistics were logged last */
	uint32_t random;
};

typedef struct streamer_text {
	struct streamer_text *next;
	size_t bytes;
	char text[];
} streamer_text;

/* ---- streamer_state.c -------------------------------------------------------------------------------------------- */

/* Frees everything; nobody else has the streamer any more. */
void streamer_free(as_streamer *s);
/* Under the lock, or when nobody else has the streamer any more. */
void streamer_free_texts(as_streamer *s);
/* What a description says. Any thread: reads only what as_streamer_new() has set. */
json_t *streamer_describe_json(const as_streamer *s, const streamer_view *view);
void streamer_take_view(const as_streamer *s, const as_stats *stats, streamer_view *view);

/* ---- streamer.c -------------------------------------------------------------------------------------------------- */

extern const ws_callbacks streamer_callbacks;
/* Sends a message, counted. AS_ECLOSED, AS_EFULL, AS_ENOMEM. */
int streamer_send(as_streamer *s, int binary, const void *data, size_t n);
/* Gives what is queued now the time to be heard. */
void streamer_allow_queued(as_streamer *s);
/* Begins to end. reason: for the server and the application. */
void streamer_end(as_streamer *s, const char *reason);

#endif
