/*
 * player.h - what a server wants the caller to hear, on its way into a stream's inject queue, and reports of what was
 * heard.
 *
 *     player.c           what a dialect asks for; utterances end; time passes
 *     player_pending.c   audio that cannot be queued at once, and what waits behind it
 *     player_decode.c    WAV, MP3, Ogg, whole or in slices, on a thread of its own
 *     player_write.c     raw audio -> inject queue: formats, prebuffer, underruns
 *     player_report.c    what has been heard, and the events that say so
 *
 * Calls go down this list only. A player knows a stream and its outlets, and no connection. All functions belong to one
 * thread, its owner's, and all outlets are called on that thread unless they say otherwise.
 */
#ifndef STREAM_PLAYER_H
#define STREAM_PLAYER_H

#include <jansson.h>

#include "audio_stream.h"
#include "jitter.h"
#include "wire.h"

#define PLAYER_CHANNELS_MAX 2 /* of what a server sends */

struct player;

/* Audio as it came; data belongs to the caller. */
struct player_audio {
	wire_format format;
	int rate_hz, channels; /* raw formats */
	uint8_t *data;
	size_t bytes;
	char *path; /* instead of data: a file to be read */
};

struct player_config {
	int adaptive;            /* the prebuffer follows the jitter: */
	as_jitter_config jitter; /* within these bounds; */
	int prebuffer_ms;        /* else it is this */
	int limit_ms;            /* above it stream_buffer_overrun is fired, */
	int strict;              /* and what would go beyond it is refused */
	const char *file_dir;    /* player_audio.path is below it; the owner's, and stays while the owner does */
	const char *queued;      /* event when audio has been queued; NULL: none */
};

struct player_outlets {
	void *arg;
	/* body is taken over; at_ns: when it happened, 0: now. */
	void (*event)(void *arg, const char *name, json_t *body, int64_t at_ns);
	/* Something that the server sent cannot be played. */
	void (*invalid)(void *arg, const char *text);
	/* All before a checkpoint is over; reached: and has been heard. */
	void (*checkpoint)(void *arg, const char *name, int reached);
	/* Audio that waited has been queued: player_busy() is going to last longer than was known. */
	void (*queued)(void *arg);
	/* Any thread: runs run(arg, message) on the player's thread, or drop(message), on any, when the owner runs
	 * nothing any more. AS_ENOMEM. */
	int (*post)(void *arg, void (*run)(void *arg, void *message), void *message, void (*drop)(void *message));
	/* The owner, and so the player, has to stay until release(), which any thread may call. */
	void (*hold)(void *arg);
	void (*release)(void *arg);
};

struct player_stats {
	int prebuffer_ms; /* -1: as the stream has it */
	uint64_t refused_ms, underruns, underrun_ms;
};

/* The caller's thread: sets the stream's prebuffer and takes a reference. AS_ENOMEM. */
int player_alloc(struct player **out, as_stream *stream, const struct player_config *config,
				 const struct player_outlets *outlets);
/* No decoding thread is left: each holds the owner. NULL is allowed. */
void player_free(struct player *p);
/* Audio of one message, which is one play; checkpoint: announced when it is over; NULL or "": none. Takes over
 * audio->path. */
void player_play(struct player *p, const struct player_audio *audio, const char *checkpoint);
/* Raw audio that goes on with the play before it, if that is such audio, too, and of the same utterance. */
void player_append(struct player *p, const struct player_audio *audio);
/* A name to be announced when all that came before it has been heard. */
void player_checkpoint(struct player *p, const char *name);
/* Throws away what is queued for the caller. why: "server", "stop", "hangup" ...; quiet: no event when nothing was. */
void player_clear(struct player *p, const char *why, int quiet);
/* Every few milliseconds. */
void player_tick(struct player *p, int64_t now_ns);
/* Is the caller being played something, or about to be? */
int player_busy(const struct player *p);
void player_stats(const struct player *p, struct player_stats *out);

/* A file's format, which a decoder has to make samples of. */
static inline int player_is_packed(wire_format format)
{
	return format == WIRE_FILE_WAV || format == WIRE_FILE_MP3 || format == WIRE_FILE_OGG;
}

#endif
