/* player_internal.h - inside of a player, for player*.c only. The owner's thread unless said otherwise. */
#ifndef STREAM_PLAYER_INTERNAL_H
#define STREAM_PLAYER_INTERNAL_H

#include "audio_slices.h"
#include "convert.h"
#include "player.h"

#define PLAYER_NS_PER_MS 1000000
#define PLAYER_GAP_MS 200 /* of silence: what comes after it is a new utterance */

/* Something the server wants to be played (or a checkpoint: nothing to play), in the order in which it came. Its
 * audio is in the inject queue under one mark for each write: marks are consecutive, and all before `mark` have
 * been heard. */
struct play {
	struct play *next;
	uint64_t number;           /* "playId" */
	uint64_t unreported_bytes; /* queued since the `queued` event was fired last, */
	int64_t unreported_us;     /* all of one rate */
	int rate_hz;
	int64_t reported_ns;      /* when that was; 0: never */
	uint64_t mark, last_mark; /* none: mark > last_mark */
	uint64_t heard, written;  /* samples: of the marks before `mark`; of all */
	int64_t started_ns, finished_ns;
	int audible;               /* a play: has, or may come to have, audio */
	int closed;                /* no more messages add to it */
	int cut;                   /* a flush took some of it */
	int failed;                /* some of it was refused, or could not be decoded */
	char *checkpoint;          /* to be announced when it is over; NULL: none */
	int continues;             /* packed audio: a slice of the same file as the play before it, */
	int is_last;               /* and the last one */
	size_t joins;              /* bytes that its first sample has in the message before */
	int aligned;               /* that has been seen to */
	int waiting;               /* its audio is here, not in the queue, or not all of it */
	struct player_audio audio; /* data is the play's */
	size_t taken;              /* bytes of it that are in the queue */
	size_t kept_bytes;         /* what of waiting_bytes is its */
};

struct player {
	as_stream *stream;
	as_info info;
	struct player_config config;
	struct player_outlets out;

	struct play *first, *last; /* not yet over, oldest first */
	struct play *open;         /* the last of them, when more audio may be added to it */
	size_t count;
	int missed;       /* some audio since the checkpoint before was not heard */
	uint64_t numbers; /* plays so far */
	int64_t look_ns;  /* nothing can happen to the first play before */

	/* The latest raw message, as it came, ends inside a sample: */
	size_t part_bytes, part_frame_bytes; /* bytes of it that are there, and that it has with all channels */
	int part_rate_hz;

	/* Pending: behind audio that is being decoded, or queued bit by bit. */
	struct play *waiting; /* the first of them; all after it wait too */
	size_t waiting_bytes;
	struct player_decode *decoding; /* of `waiting`'s audio */
	wire_format slicing;            /* the latest message was packed audio, of which another slice may follow; 0: not */
	audio_slices *slices;           /* its decoder, while no slice is being decoded; NULL: none */
	int64_t sliced_ns;              /* when it was used last */

	/* Writing. */
	as_convert *convert;
	struct play *tail_play; /* whose tail is in convert; NULL: none */
	size_t tail;            /* samples that will come out of it */
	struct play *target;    /* during a write */
	int write_error;
	uint8_t carry[2 * PLAYER_CHANNELS_MAX]; /* the part of a sample that what was written last ended in */
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
	as_jitter jitter;
	int prebuffer_ms;
	uint64_t underruns, underrun_ms;

	int over;            /* more than limit_ms is queued, and this has been reported */
	uint64_t refused_ms; /* audio turned away */
};

/* Samples of the stream as milliseconds. */
static inline int64_t player_ms(const struct player *p, uint64_t samples)
{
	return (int64_t)(samples * 1000 / (uint64_t)p->info.rate_hz);
}

/* ---- player_pending.c -------------------------------------------------------------------------------------------- */

/* Queues a play's audio now, or keeps it until what came before it is there. Takes over audio->path. */
void player_take(struct player *p, struct play *play, const struct player_audio *audio);
/* Goes on with what waits: a slice of it, or as far as the next one that has to be decoded. */
void player_next(struct player *p);
/* The file that came in slices is over. Complains when there was no audio in it. */
void player_end_slices(struct player *p);
/* Nothing waits any more; a decoder at work is abandoned. The plays are the caller's. */
void player_drop_pending(struct player *p);

/* ---- player_decode.c --------------------------------------------------------------------------------------------- */

/* What a decoder hands back: raw audio, whose data is the receiver's once taken out of it, or the reason in error. */
struct player_decoded {
	struct player_audio audio;
	audio_slices *slices; /* what the next slice needs; the receiver's */
	const char *error;    /* NULL: none */
	int abandoned;        /* nobody waits */
};

/* Decodes on a thread of its own; done() follows, with `decoded` NULL when the owner runs nothing any more. Takes
 * over what audio points to, and the slices before, NULL for none. is_last: no slice follows. NULL when there is
 * no memory or thread. */
struct player_decode *player_decode_start(struct player *p, struct player_audio *audio, audio_slices *slices,
										  int is_last, void (*done)(struct player *p, struct player_decoded *decoded));
void player_decode_abandon(struct player_decode *decode);
int player_decode_abandoned(const struct player_decode *decode);

/* ---- player_write.c ---------------------------------------------------------------------------------------------- */

void player_write_init(struct player *p);
/* Bytes of one sample of all channels; how long raw audio lasts. */
size_t player_frame_bytes(const struct player_audio *audio);
int64_t player_length_us(const struct player_audio *audio);
/* May all of this raw audio be queued? Reports it when not. */
int player_admit(struct player *p, struct play *play, const struct player_audio *audio);
/* Queues raw audio of a play whose turn it is: a message, or the first or a later slice of one, of which rest_us
 * follow. 0, or why the rest need not be tried. */
int player_write(struct player *p, struct play *play, const struct player_audio *audio, int is_first, int64_t rest_us);
/* Lets out the resampler's tail when it is needed now. */
void player_write_tail(struct player *p, int64_t now_ns);
/* The resampler and the queue have been emptied. */
void player_write_reset(struct player *p);
/* No message adds to the latest play any more. */
void player_close_play(struct player *p);
/* The next audio begins a new utterance. */
void player_end_utterance(struct player *p);

/* ---- player_report.c --------------------------------------------------------------------------------------------- */

/* Tells the owner of something that cannot be played. */
void player_invalid(struct player *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void player_event(struct player *p, const char *name, json_t *body);
/* A new play at the end of the list; NULL without memory. checkpoint: NULL or "" for none. */
struct play *player_new_play(struct player *p, const char *checkpoint);
/* Fires the `queued` event, if any, for what of a play has been queued and not yet been reported. */
void player_report_queued(struct player *p, struct play *play);
/* Ends the marks not yet ended: from now on running dry is no underrun to the stream. */
void player_end_marks(struct player *p);
/* Brings the accounts up to date and announces what has happened. */
void player_update(struct player *p, int64_t now_ns);
/* After a flush whose cut marks are in marks[0..count), oldest first: announces and forgets all plays. */
void player_report_cut(struct player *p, const as_mark *marks, int count, const char *why, int quiet);
void player_free_plays(struct player *p);
/* Is there audio not yet heard, in the queue or on its way there? */
int player_has_audio(const struct player *p);

#endif
