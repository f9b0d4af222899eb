/*
 * player.c - what a dialect asks a player for, and what happens as time passes. The player's thread.
 *
 * Messages that follow each other within PLAYER_GAP_MS of what the caller last heard are one utterance, whether they
 * are one sentence in one message or a word in fifty. Within an utterance running dry is an underrun, and known to be
 * one when audio comes after all: it is the gap between two marks.
 *
 * The stream itself is told of an end (as_inject_end()) for every message as soon as it plays. It would otherwise
 * take the end of every sentence for an underrun, for no server says which message is the last. Until something plays
 * the stream is not told, or it would not wait for the prebuffer.
 */
#define _GNU_SOURCE
#include "player_internal.h"

#include <stdlib.h>
#include <string.h>

#include "sample_join.h"

#define PLAYS_MAX 20000
#define SLICES_NS 1000000000 /* without another slice: the file is over, and complained of when no audio was in it */

/* ---- Its life ---------------------------------------------------------------------------------------------------- */

int player_alloc(struct player **out, as_stream *stream, const struct player_config *config,
				 const struct player_outlets *outlets)
{
	struct player *p = calloc(1, sizeof(*p));
	if (!p) {
		return AS_ENOMEM;
	}
	p->stream = as_stream_ref(stream);
	as_stream_info(stream, &p->info);
	p->config = *config;
	p->out = *outlets;
	player_write_init(p);
	*out = p;
	return 0;
}

void player_free(struct player *p)
{
	if (p) {
		player_free_plays(p);
		audio_slices_free(p->slices);
		as_convert_free(p->convert);
		as_stream_unref(p->stream);
		free(p);
	}
}

int player_busy(const struct player *p)
{
	return p->talking || p->first || p->decoding;
}

void player_stats(const struct player *p, struct player_stats *out)
{
	*out = (struct player_stats){p->prebuffer_ms, p->refused_ms, p->underruns, p->underrun_ms};
}

/* ---- What dialects call ------------------------------------------------------------------------------------------ */

static struct play *begin_play(struct player *p, const char *checkpoint)
{
	player_update(p, as_now_ns());
	struct play *play = NULL;
	if (p->count < PLAYS_MAX) {
		play = player_new_play(p, checkpoint);
	}
	if (!play) {
		p->missed = 1;
		player_invalid(p, "audio refused: %zu pieces are queued already", p->count);
	}
	return play;
}

/* A message has come: the bytes that its first sample has in the one before. */
static size_t join_message(struct player *p, const struct player_audio *audio)
{
	size_t part = p->part_bytes, frame = audio->path ? 1 : player_frame_bytes(audio);
	if (frame != p->part_frame_bytes || audio->rate_hz != p->part_rate_hz ||
		(part && sample_join_begins_whole(audio->data, audio->bytes, frame - part, audio->channels))) {
		part = 0;
	}
	p->part_frame_bytes = frame;
	p->part_rate_hz = audio->rate_hz;
	p->part_bytes = (part + audio->bytes) % frame;
	return part;
}

/* A message of packed audio has come: is it a slice of what the one before had of the same kind? A checkpoint ends
 * it. */
static int is_next_slice(struct player *p, const struct player_audio *audio, int is_last)
{
	int packed = !audio->path && player_is_packed(audio->format);
	int slice = packed && p->slicing == audio->format;
	p->slicing = packed && !is_last ? audio->format : 0;
	return slice;
}

void player_play(struct player *p, const struct player_audio *audio, const char *checkpoint)
{
	player_close_play(p);
	struct play *play = begin_play(p, checkpoint);
	size_t joins = join_message(p, audio);
	int is_last = checkpoint && *checkpoint, slice = is_next_slice(p, audio, is_last);
	if (is_last) {
		p->part_bytes = 0;
	}
	if (play) {
		play->closed = 1;
		play->joins = joins;
		play->continues = slice;
		play->is_last = is_last;
		player_take(p, play, audio);
	} else {
		free(audio->path);
	}
}

/* What waits of a play is of one format, and has been admitted together. */
static int can_join(const struct player *p, const struct play *play, const struct player_audio *audio)
{
	const struct player_audio *kept = &play->audio;
	return !play->waiting || (kept->format == audio->format && kept->rate_hz == audio->rate_hz &&
							  kept->channels == audio->channels && !(p->config.strict && play->taken));
}

void player_append(struct player *p, const struct player_audio *audio)
{
	size_t part = p->part_bytes, joins = join_message(p, audio);
	p->slicing = 0;
	if (p->open && (!can_join(p, p->open, audio) || (part && !joins))) {
		player_close_play(p);
	}
	if (p->open) {
		player_update(p, as_now_ns());
	} else if ((p->open = begin_play(p, NULL))) {
		p->open->joins = joins;
	}
	if (p->open) {
		p->talking = 1; /* until it is over, even if none of it is accepted */
		player_take(p, p->open, audio);
	}
}

void player_checkpoint(struct player *p, const char *name)
{
	player_close_play(p);
	p->part_bytes = 0;
	p->slicing = 0;
	struct play *play = begin_play(p, name);
	if (play) {
		play->closed = 1;
		player_update(p, as_now_ns());
	}
}

void player_clear(struct player *p, const char *why, int quiet)
{
	player_update(p, as_now_ns());
	uint64_t from = p->first && p->first->last_mark ? p->first->mark : p->next_mark;
	int most = (int)(p->next_mark - from) + 1;
	as_mark *marks = malloc((size_t)most * sizeof(*marks)); /* without it, each is asked about */
	int count = 0;
	as_inject_flush(p->stream, marks, marks ? most : 0, &count);
	player_report_cut(p, marks, !marks ? 0 : count < most ? count : most, why, quiet);
	free(marks);
	player_drop_pending(p);
	player_write_reset(p);
	p->part_bytes = 0;
	p->slicing = 0;
	player_end_utterance(p);
}

/* ---- Time passes ------------------------------------------------------------------------------------------------- */

/* A file of which nothing could be played, and nothing more comes. */
static void check_slices(struct player *p, int64_t now_ns)
{
	if (!audio_slices_heard(p->slices) && !p->waiting && now_ns - p->sliced_ns >= SLICES_NS) {
		player_end_slices(p);
	}
}

void player_tick(struct player *p, int64_t now_ns)
{
	player_next(p);
	if (p->slices) {
		check_slices(p, now_ns);
	}
	if (p->tail_play) {
		player_write_tail(p, now_ns);
	}
	if (p->first && now_ns >= p->look_ns) {
		player_update(p, now_ns);
	}
	int64_t last_ns = p->heard_ns > p->arrival_ns ? p->heard_ns : p->arrival_ns;
	if (p->talking && !player_has_audio(p) && now_ns - last_ns >= (int64_t)PLAYER_GAP_MS * PLAYER_NS_PER_MS) {
		p->part_bytes = 0;
		player_end_utterance(p);
		player_update(p, now_ns);
	}
}
