/*
 * player_report.c - what the caller has heard of what the server wanted played, and the events that say so. The
 * player's thread.
 *
 * A play's audio lies under one or more marks. Only the oldest mark not yet heard in full is looked at; how much of
 * that mark is left says when to look again.
 */
#define _GNU_SOURCE
#include "player_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define LOOK_AGAIN_NS 100000000 /* at the latest: somebody else may flush the stream */
#define TEXT_MAX 512
#define GAP_NS 2000000 /* less between two marks is rounding, not silence */

/* ---- The list ---------------------------------------------------------------------------------------------------- */

struct play *player_new_play(struct player *p, const char *checkpoint)
{
	struct play *play = calloc(1, sizeof(*play));
	if (!play) {
		return NULL;
	}
	if (checkpoint && *checkpoint) {
		play->checkpoint = strdup(checkpoint);
	}
	play->number = ++p->numbers;
	play->mark = 1; /* none yet: last_mark is 0 */
	if (p->last) {
		p->last->next = play;
	} else {
		p->first = play;
	}
	p->last = play;
	p->count++;
	return play;
}

static void play_free(struct play *play)
{
	free(play->audio.data);
	free(play->audio.path);
	free(play->checkpoint);
	free(play);
}

static void forget_first(struct player *p)
{
	struct play *play = p->first;
	p->first = play->next;
	p->last = p->first ? p->last : NULL;
	p->open = p->open == play ? NULL : p->open;
	p->count--;
	play_free(play);
}

void player_free_plays(struct player *p)
{
	while (p->first) {
		forget_first(p);
	}
}

int player_has_audio(const struct player *p)
{
	const struct play *first = p->first;
	if (!first || p->tail_play) {
		return p->tail_play != NULL;
	}
	return first->next || first->waiting || first->mark <= first->last_mark;
}

/* ---- Announcements ----------------------------------------------------------------------------------------------- */

void player_invalid(struct player *p, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p->out.invalid(p->out.arg, text);
}

void player_event(struct player *p, const char *name, json_t *body)
{
	p->out.event(p->out.arg, name, body, 0);
}

void player_report_queued(struct player *p, struct play *play)
{
	if (p->config.queued && play->unreported_bytes) {
		player_event(p, p->config.queued,
					 json_pack("{s:I,s:I,s:I,s:i}", "playId", (json_int_t)play->number, "bytes",
							   (json_int_t)play->unreported_bytes, "ms", (json_int_t)(play->unreported_us / 1000),
							   "rate", play->rate_hz));
		play->unreported_bytes = 0;
		play->unreported_us %= 1000;
		play->reported_ns = as_now_ns();
	}
}

static json_t *describe_play(const struct player *p, const struct play *play, uint64_t played)
{
	json_t *body = json_pack("{s:I,s:I}", "playId", (json_int_t)play->number, "playedMs", player_ms(p, played));
	if (play->checkpoint) {
		json_object_set_new(body, "checkpoint", report_string(play->checkpoint));
	}
	return body;
}

static void announce_checkpoint(struct player *p, const struct play *play, int reached)
{
	if (!play->checkpoint) {
		return;
	}
	p->missed = 0;
	json_t *body = json_object();
	json_object_set_new(body, "name", report_string(play->checkpoint));
	json_object_set_new(body, "reached", json_boolean(reached));
	player_event(p, "media_checkpoint", body);
	p->out.checkpoint(p->out.arg, play->checkpoint, reached);
}

static void announce_play_end(struct player *p, struct play *play)
{
	player_report_queued(p, play);
	json_t *body = play->written ? describe_play(p, play, play->heard) : NULL;
	if (body && play->cut) {
		json_object_set_new(body, "plays", json_integer(1));
		json_object_set_new(body, "clearedMs", json_integer(player_ms(p, play->written - play->heard)));
		json_object_set_new(body, "reason", json_string("flush"));
		player_event(p, "media_cleared", body);
	} else if (body) {
		p->out.event(p->out.arg, "media_play_complete", body, play->finished_ns);
	}
	p->missed |= play->cut | play->failed;
	announce_checkpoint(p, play, !p->missed);
}

/* ---- Accounts ---------------------------------------------------------------------------------------------------- */

/* Audio that had run dry is heard again: the length of the gap is known now. */
static void end_of_gap(struct player *p, int64_t started_ns)
{
	int64_t gap_ns = started_ns - p->heard_ns;
	if (p->dry && p->heard_ns && gap_ns > GAP_NS) {
		p->underruns++;
		p->underrun_ms += (uint64_t)(gap_ns / 1000000);
		player_event(p, "stream_buffer_underrun",
					 json_pack("{s:I,s:I,s:I,s:i}", "gapMs", (json_int_t)(gap_ns / 1000000), "count",
							   (json_int_t)p->underruns, "totalMs", (json_int_t)p->underrun_ms, "prebufferMs",
							   p->prebuffer_ms));
	}
	p->dry = 0;
}

static void begin_mark(struct player *p, struct play *play, const as_mark *mark)
{
	if (!mark->started_ns || p->begun == mark->id) {
		return;
	}
	p->begun = mark->id;
	end_of_gap(p, mark->started_ns);
	if (!play->started_ns) {
		play->started_ns = mark->started_ns;
		p->out.event(p->out.arg, "media_play_start", describe_play(p, play, 0), mark->started_ns);
	}
}

static void pass_mark(struct player *p, struct play *play, const as_mark *mark)
{
	play->heard += mark->played;
	play->mark++;
	play->cut |= (mark->flags & AS_MARK_FLUSHED) != 0;
	if (mark->finished_ns) {
		/* The frame just taken lasts a while; more than that is a host that is faster than the clock we count by. */
		int64_t latest_ns = as_now_ns() + (int64_t)p->info.frame_ms * 1000000;
		play->finished_ns = p->heard_ns = mark->finished_ns < latest_ns ? mark->finished_ns : latest_ns;
	}
}

/* How long the host will be busy with what is left of a mark. */
static int64_t left_ns(const struct player *p, const as_mark *mark)
{
	int64_t samples = (int64_t)(mark->written - mark->played);
	int64_t ns = samples * 1000000000 / p->info.rate_hz - (int64_t)p->info.frame_ms * 1000000;
	return ns < 0 ? 0 : ns > LOOK_AGAIN_NS ? LOOK_AGAIN_NS : ns;
}

/* Looks at a play's marks. 1 when it is over. */
static int account(struct player *p, struct play *play, int64_t now_ns)
{
	as_mark mark;
	while (play->mark <= play->last_mark) {
		if (as_inject_mark(p->stream, play->mark, &mark)) {
			mark = (as_mark){.id = play->mark, .flags = AS_MARK_FINISHED}; /* over for so long that it is forgotten */
		}
		begin_mark(p, play, &mark);
		if (!(mark.flags & (AS_MARK_FINISHED | AS_MARK_FLUSHED))) {
			p->sounding = mark.started_ns != 0;
			p->look_ns = p->sounding ? now_ns + left_ns(p, &mark) : 0;
			return 0;
		}
		pass_mark(p, play, &mark);
	}
	return play->closed && !play->waiting && p->tail_play != play;
}

void player_end_marks(struct player *p)
{
	for (; p->ended + 1 < p->next_mark; p->ended++) {
		as_inject_end(p->stream, p->ended + 1);
	}
}

void player_update(struct player *p, int64_t now_ns)
{
	p->sounding = 0;
	p->look_ns = 0;
	while (p->first && account(p, p->first, now_ns)) {
		announce_play_end(p, p->first);
		forget_first(p);
	}
	if (p->sounding) {
		player_end_marks(p);
	}
}

/* ---- After a flush ----------------------------------------------------------------------------------------------- */

/* marks[*at...] and a play's marks are both in order. */
static void account_cut(struct player *p, struct play *play, const as_mark *marks, int count, int *at)
{
	as_mark mark;
	for (; play->mark <= play->last_mark; pass_mark(p, play, &mark)) {
		while (*at < count && marks[*at].id < play->mark) {
			++*at;
		}
		if (*at < count && marks[*at].id == play->mark) {
			mark = marks[*at];
		} else if (as_inject_mark(p->stream, play->mark, &mark)) {
			mark = (as_mark){.id = play->mark, .flags = AS_MARK_FLUSHED};
		}
		begin_mark(p, play, &mark);
	}
	/* A play that was heard in full before the flush, but not yet reported, is complete, not cut. */
	play->cut = !(play->closed && !play->waiting && p->tail_play != play && play->heard == play->written);
}

static void announce_cut(struct player *p, const struct play *first, int plays, uint64_t cleared, const char *why)
{
	json_t *body = first ? describe_play(p, first, first->heard) : json_object();
	json_object_set_new(body, "plays", json_integer(plays));
	json_object_set_new(body, "clearedMs", json_integer(player_ms(p, cleared)));
	json_object_set_new(body, "reason", report_string(why));
	player_event(p, "media_cleared", body);
}

void player_report_cut(struct player *p, const as_mark *marks, int count, const char *why, int quiet)
{
	const struct play *first = NULL;
	uint64_t cleared = 0;
	int at = 0, plays = 0;
	for (struct play *play = p->first; play; play = play->next) {
		account_cut(p, play, marks, count, &at);
		player_report_queued(p, play);
		if (play->cut && play->audible) {
			first = first ? first : play;
			cleared += play->written - play->heard;
			plays++;
		}
	}
	if (plays || !quiet) {
		announce_cut(p, first, plays, cleared, why);
	}
	while (p->first) {
		if (!p->first->cut) {
			announce_play_end(p, p->first);
		} else {
			announce_checkpoint(p, p->first, 0);
		}
		forget_first(p);
	}
	p->missed = 0; /* what was thrown away has been reported */
}
