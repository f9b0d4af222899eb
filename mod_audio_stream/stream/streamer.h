/*
 * streamer.h - inside of a streamer: what its files share, and the seam for another dialect.
 *
 *     streamer.c            its life: connecting, reopening, ending
 *     streamer_api.c        the public functions
 *     streamer_connect.c    how a connection is made, and which ends it is reopened after
 *     streamer_uplink.c     capture ring -> messages
 *     streamer_downlink.c   the server's audio -> inject queue: formats, utterances
 *     streamer_turns.c      what has to wait before that
 *     streamer_plays.c      what has been heard of it
 *     streamer_decode.c     WAV, MP3, Ogg, whole or in slices, on a thread of its own
 *     streamer_dialects.c   the two dialects
 *     streamer_events.c     what the application is told
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

#include "audio_slices.h"
#include "audio_stream_ws.h"
#include "convert.h"
#include "jitter.h"
#include "loop.h"
#include "options.h"
#include "wire.h"

#define STREAMER_URL_MAX 512
#define STREAMER_REASON_MAX 256
#define STREAMER_CHANNELS_MAX 2 /* of what a server sends */

/* ---- The seam ---------------------------------------------------------------------------------------------------- */

typedef struct streamer_dialect {
	const char *name;                                 /* in descriptions */
	const char *opened, *failed, *timed_out, *closed; /* the connection's events */
	const char *queued;                               /* fired when audio has been queued; NULL: none */
	int spurts;                                       /* raw messages of one utterance are one play */
	/* as_streamer_new() and as_streamer_check(), the caller's thread: checks what was asked for and calls
	 * streamer_target_init(). There may be no s->stream, and s->info be empty. AS_EINVAL with the reason, AS_ENOMEM. */
	int (*reach)(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes);
	/* as_streamer_new(), after that: calls streamer_uplink_init() when it wants s->uplink to read the capture, and
	 * makes s->own. */
	int (*init)(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes);
	void (*free)(as_streamer *s); /* also after an init() that failed half-way */
	/* The rest: the service thread; NULL for those not wanted. */
	void (*on_open)(as_streamer *s); /* the first messages; s->reopened says how often it has been open before */
	void (*on_message)(as_streamer *s, int binary, char *data, size_t n);
	void (*pump)(as_streamer *s); /* every tick while open; streamer_uplink_pump() does it with send_audio() */
	void (*send_audio)(as_streamer *s, const void *audio, size_t bytes); /* one message, shorter at the end */
	void (*on_stop)(as_streamer *s, const char *text); /* the last messages; text: as_streamer_stop()'s or NULL */
	void (*on_checkpoint)(as_streamer *s, const char *name, int reached);
	int (*busy)(as_streamer *s); /* is something being said to the caller? NULL: streamer_talking() */
} streamer_dialect;

extern const streamer_dialect streamer_binary, streamer_json, streamer_openai;

/* ---- Uplink ------------------------------------------------------------------------------------------------------ */

typedef struct streamer_uplink {
	int encoding, rate_hz, channels; /* of what is sent; AS_S16 or AS_PCMU */
	int message_ms;                  /* audio in one message */
	int chunk_ms;                    /* audio captured at a time: one or more messages */
	size_t message_bytes;            /* as s16 */
	uint8_t *pcm;                    /* read and not yet sent: s16 */
	size_t have, room;               /* bytes */
	int primed;                      /* the first audio has been read */
	int over;                        /* nothing will be sent any more */
	uint64_t until;                  /* samples of the stream to send, then it is over; 0: no end */
	int64_t until_ns;                /* the same, at the latest */
	uint64_t limit;                  /* samples that may wait */
	uint64_t dropped;                /* samples, oldest first, because they could not be sent in time */
	int64_t overrun_ns;              /* when some were lost last; 0: not in an excursion */
	uint64_t lost_before;            /* samples lost before this excursion */
} streamer_uplink;

/* The caller's thread: can this rate (0: not known) and these options be? AS_EINVAL with the reason. */
int streamer_uplink_check(const as_streamer *s, char *error, size_t bytes);
/* The caller's thread: sizes, memory, and the stream's capture. AS_EINVAL with the reason, AS_ENOMEM. */
int streamer_uplink_init(as_streamer *s, char *error, size_t bytes);
void streamer_uplink_free(as_streamer *s);
/* Sends what is there, as far as the server reads. */
void streamer_uplink_pump(as_streamer *s);
/* From now on only what has been captured already is sent. */
void streamer_uplink_finish(as_streamer *s);
/* Sends what has been read already as a last, shorter message. */
void streamer_uplink_rest(as_streamer *s);
/* Drops the oldest beyond the limit. stats: of the stream. */
void streamer_uplink_bound(as_streamer *s, const as_stats *stats, int64_t now_ns);

/* ---- Downlink ---------------------------------------------------------------------------------------------------- */

/* Audio as it came; data belongs to whoever called, unless it is in a play. */
typedef struct streamer_audio {
	wire_format format;
	int rate_hz, channels; /* raw formats */
	uint8_t *data;
	size_t bytes;
	char *path; /* instead of data: a file to be read */
} streamer_audio;

/* Something the server wants to be played (or a checkpoint: nothing to play), in the order in which it came. Its audio
 * is in the inject queue under one mark for each write: marks are consecutive, and all before `mark` have been heard. */
typedef struct streamer_play {
	struct streamer_play *next;
	uint64_t number;       /* "playId" */
	uint64_t untold_bytes; /* queued since the dialect's `queued` event was fired last, */
	int64_t untold_us;     /* all of one rate */
	int rate_hz;
	int64_t told_ns;          /* when that was; 0: never */
	uint64_t mark, last_mark; /* none: mark > last_mark */
	uint64_t heard, written;  /* samples: of the marks before `mark`; of all */
	uint64_t hearing;         /* samples of `mark` heard so far */
	int64_t started_ns, finished_ns;
	int audible;      /* a play: has, or may come to have, audio */
	int closed;       /* no more messages add to it */
	int cut;          /* a flush took some of it */
	int failed;       /* some of it was refused, or could not be decoded */
	char *checkpoint; /* to be announced when it is over; NULL: none */
	int goes_on;      /* packed audio: a slice of the same file as the play before it, */
	int is_last;      /* and the last one */
	size_t joins;     /* bytes that its first sample has in the message before */
	int aligned;      /* that has been seen to */
	int waiting;      /* its audio is here, not in the queue, or not all of it */
	streamer_audio audio;
	size_t taken;      /* bytes of it that are in the queue */
	size_t kept_bytes; /* what of waiting_bytes is its */
} streamer_play;

typedef struct streamer_decode streamer_decode;

typedef struct streamer_downlink {
	streamer_play *first, *last; /* not yet over, oldest first */
	streamer_play *spurt;        /* the last of them, when more audio may be added to it */
	size_t count;
	int missed;       /* some audio since the checkpoint before was not heard */
	uint64_t numbers; /* plays so far */
	int64_t look_ns;  /* nothing can happen to the first play before */

	/* The latest raw message, as it came, ends inside a sample: */
	size_t part_bytes, part_frame_bytes; /* bytes of it that are there, and that it has with all channels */
	int part_rate_hz;

	/* Waiting for their turn: behind audio that is being decoded, or queued bit by bit. */
	streamer_play *waiting; /* the first of them; all after it wait too */
	size_t waiting_bytes;
	streamer_decode *decoding; /* of `waiting`'s audio */
	wire_format slicing;       /* the latest message was packed audio, of which another slice may follow; 0: not */
	audio_slices *slices;      /* its decoder, while no slice is being decoded; NULL: none */
	int64_t sliced_ns;         /* when it was used last */

	/* Writing. */
	as_convert *convert;
	streamer_play *tail_play; /* whose tail is in convert; NULL: none */
	size_t tail;              /* samples that will come out of it */
	streamer_play *target;    /* during a write */
	int write_error;
	uint8_t carry[2 * STREAMER_CHANNELS_MAX]; /* the part of a sample that what was written last ended in */
	size_t carried;
	size_t carry_frame; /* bytes of such a sample, all channels, */
	int carry_rate_hz;  /* and its rate; a message of another kind drops it */
	uint64_t next_mark; /* marks below it have been used, */
	uint64_t ended;     /* and up to here as_inject_end() has been called */

	/* The utterance: plays that follow each other closely. */
	int talking;        /* in one */
	int64_t arrival_ns; /* of the latest audio */
	int64_t heard_ns;   /* when the latest finished mark ended; 0: none in this utterance */
	uint64_t begun;     /* the latest mark known to have started */
	int sounding;       /* the first play is being heard */
	int dry;            /* it ran dry; the next sound tells for how long */
	int adaptive;
	as_jitter jitter;
	int prebuffer_ms;
	uint64_t underruns, underrun_ms;

	int over;            /* more than STREAM_INJECT_BUFFER_MS is queued, and this has been said */
	uint64_t refused_ms; /* audio turned away */
} streamer_downlink;

void streamer_downlink_init(as_streamer *s);
void streamer_downlink_free(as_streamer *s);
/* Audio of one message, which is one play; checkpoint may be NULL. Takes over audio->path. */
void streamer_play_message(as_streamer *s, const streamer_audio *audio, const char *checkpoint);
/* Raw audio that goes on with the play before it, if that is such audio, too, and of the same utterance. */
void streamer_play_more(as_streamer *s, const streamer_audio *audio);
/* A name to be announced when all that came before it has been heard. */
void streamer_checkpoint(as_streamer *s, const char *name);
/* Throws away what is queued for the caller. why: "server", "stop", "hangup" ...; quiet: no event when nothing was. */
void streamer_clear(as_streamer *s, const char *why, int quiet);
void streamer_downlink_tick(as_streamer *s, int64_t now_ns);
/* Is something being said to the caller, or about to be? */
int streamer_talking(const as_streamer *s);
/* No message adds to the latest play any more. */
void streamer_close_spurt(as_streamer *s);
/* A file's format, which a decoder has to make samples of. */
static inline int streamer_is_packed(wire_format format)
{
	return format == WIRE_FILE_WAV || format == WIRE_FILE_MP3 || format == WIRE_FILE_OGG;
}
/* Bytes of one sample of all channels; how long raw audio lasts. */
size_t streamer_frame_bytes(const streamer_audio *audio);
int64_t streamer_length_us(const streamer_audio *audio);
/* May all of this raw audio be queued? Says so when not. */
int streamer_admit(as_streamer *s, streamer_play *play, const streamer_audio *audio);
/* Queues raw audio of a play whose turn it is: a message, or the first or a later slice of one, of which rest_us follow.
 * 0, or why the rest need not be tried. */
int streamer_write(as_streamer *s, streamer_play *play, const streamer_audio *audio, int is_first, int64_t rest_us);

/* streamer_turns.c. Queues a play's audio now, or keeps it until what came before it is there. Takes over audio->path. */
void streamer_take(as_streamer *s, streamer_play *play, const streamer_audio *audio);
/* Goes on with what waits. */
void streamer_next_turn(as_streamer *s);
/* The decoder is done: raw audio, whose data is taken over, or why there is none, of the play that waits first. slices: what
 * the next slice needs; taken over. abandoned: nobody waits. */
void streamer_decoded(as_streamer *s, int abandoned, streamer_audio *audio, audio_slices *slices, const char *error);
/* The file that came in slices is over. Says so when there was no audio in it. */
void streamer_end_slices(as_streamer *s);
/* Fires the dialect's `queued` event, if any, for what of a play has been queued and not yet been told. */
void streamer_tell_queued(as_streamer *s, streamer_play *play);
/* Ends the marks not yet ended: from now on running dry is no underrun to the stream. */
void streamer_let_run_dry(as_streamer *s);

/* streamer_plays.c. A new play at the end of the list; NULL without memory. checkpoint: NULL or "" for none. */
streamer_play *streamer_play_new(as_streamer *s, const char *checkpoint);
/* Brings the accounts up to date and announces what has happened. */
void streamer_plays_settle(as_streamer *s, int64_t now_ns);
/* After a flush whose cut marks are in marks[0..count), oldest first: announces and forgets all plays. */
void streamer_plays_cut(as_streamer *s, const as_mark *marks, int count, const char *why, int quiet);
void streamer_plays_free(as_streamer *s);
/* Is there audio not yet heard, in the queue or on its way there? */
int streamer_plays_pending(const as_streamer *s);

/* streamer_decode.c: decodes on a thread of its own; streamer_decoded() follows. Takes over what audio points to, and the
 * slices before, NULL for none. is_last: no slice follows. NULL when there is no memory or thread. */
streamer_decode *streamer_decode_start(as_streamer *s, streamer_audio *audio, audio_slices *slices, int is_last);
void streamer_decode_abandon(streamer_decode *decode);
int streamer_decode_abandoned(const streamer_decode *decode);

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
	as_streamer_event on_event;
	as_streamer_finished on_finished;
	void *arg;
	char *track, *metadata;
	int bidirectional;
	streamer_target target;

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
	streamer_uplink uplink;
	streamer_downlink downlink;
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
	int64_t close_ns;                    /* ENDING: when CLOSE is due (STREAM_LAST_WORDS_MS); 0: it has been sent */
	int64_t invalid_ns;                  /* when stream_invalid_input was fired last */
	uint64_t invalid, invalid_unsaid;
	uint64_t logged; /* how far queueing and playing were when statistics were logged last */
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

/* ---- Events: streamer_events.c ----------------------------------------------------------------------------------- */

/* Fires one; body (taken over; NULL: empty) gets uuid, streamId and at. */
void streamer_event(as_streamer *s, const char *name, json_t *body);
/* The same with "at" the time of something in the past. */
void streamer_event_at(as_streamer *s, const char *name, json_t *body, int64_t ns);
/* A body that is sent on as it is. */
void streamer_event_text(as_streamer *s, const char *name, const char *body);
/* stream_invalid_input, at most once a second. */
void streamer_invalid(as_streamer *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "log" for the application's log. level: "debug", "info", "warning", "error". */
void streamer_log(as_streamer *s, const char *level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* STREAM_DEBUG_JSON: a text message, without secrets. direction: "sent", "received". */
void streamer_log_json(as_streamer *s, const char *direction, const char *text, size_t n);
/* A JSON string of any bytes: what is not UTF-8 is replaced. */
json_t *streamer_string(const char *text);

#endif
