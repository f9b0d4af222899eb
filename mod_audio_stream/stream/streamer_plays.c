/*
 * streamer_plays.c - what the caller has heard of what the server wanted played, and saying so. Service thread.
 *
 * A play's audio lies under one or more marks. What is asked about is always the oldest mark not yet heard in full;
 * from what is left of it follows when asking again is worth while.
 */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_AGAIN_NS 100000000 /* at the latest: somebody else may flush the stream */
#define GAP_NS 2000000          /* less between two marks is rounding, not silence */

/* ---- The list ---------------------------------------------------------------------------------------------------- */

streamer_play *streamer_play_new(as_streamer *s, const char *checkpoint)
{
	streamer_downlink *down = &s->downlink;
	streamer_play *play = calloc(1, sizeof(*play));
	if (!play) {
		return NULL;
	}
	if (checkpoint && *checkpoint) {
		play->checkpoint = strdup(checkpoint);
	}
	play->number = ++down->numbers;
	play->mark = 1; /* none yet: last_mark is 0 */
	if (down->last) {
		down->last->next = play;
	} else {
		down->first = play;
	}
	down->last = play;
	down->count++;
	return play;
}

static void play_free(streamer_play *play)
{
	free(play->audio.data);
	free(play->audio.path);
	free(play->checkpoint);
	free(play);
}

static void drop_first(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	streamer_play *play = down->first;
	down->first = play->next;
	down->last = down->first ? down->last : NULL;
	down->spurt = down->spurt == play ? NULL : down->spurt;
	down->count--;
	play_free(play);
}

void streamer_plays_free(as_streamer *s)
{
	while (s->downlink.first) {
		drop_first(s);
	}
}

int streamer_plays_pending(const as_streamer *s)
{
	const streamer_play *first = s->downlink.first;
	if (!first || s->downlink.tail_play) {
		return s->downlink.tail_play != NULL;
	}
	return first->next || first->waiting || first->mark <= first->last_mark;
}

/* ---- Announcements ----------------------------------------------------------------------------------------------- */

static json_int_t ms_of(const as_streamer *s, uint64_t samples)
{
	return (json_int_t)(samples * 1000 / (uint64_t)s->info.rate_hz);
}

static json_t *describe(const as_streamer *s, const streamer_play *play, uint64_t played)
{
	json_t *body = json_pack("{s:I,s:I}", "playId", (json_int_t)play->number, "playedMs", ms_of(s, played));
	if (play->checkpoint) {
		json_object_set_new(body, "checkpoint", report_string(play->checkpoint));
	}
	return body;
}

static void announce_checkpoint(as_streamer *s, const streamer_play *play, int reached)
{
	if (!play->checkpoint) {
		return;
	}
	s->downlink.missed = 0;
	json_t *body = json_object();
	json_object_set_new(body, "name", report_string(play->checkpoint));
	json_object_set_new(body, "reached", json_boolean(reached));
	report_event(&s->report, "media_checkpoint", body);
	if (s->dialect->on_checkpoint) {
		s->dialect->on_checkpoint(s, play->checkpoint, reached);
	}
}

static void announce_end(as_streamer *s, streamer_play *play)
{
	streamer_tell_queued(s, play);
	json_t *body = play->written ? describe(s, play, play->heard) : NULL;
	if (body && play->cut) {
		json_object_set_new(body, "plays", json_integer(1));
		json_object_set_new(body, "clearedMs", json_integer(ms_of(s, play->written - play->heard)));
		json_object_set_new(body, "reason", json_string("flush"));
		report_event(&s->report, "media_cleared", body);
	} else if (body) {
		report_event_at(&s->report, "media_play_complete", body, play->finished_ns);
	}
	s->downlink.missed |= play->cut | play->failed;
	announce_checkpoint(s, play, !s->downlink.missed);
}

/* ---- Accounts ---------------------------------------------------------------------------------------------------- */

/* Audio that had run dry is heard again: now it is known for how long it was not. */
static void end_of_gap(as_streamer *s, int64_t started_ns)
{
	streamer_downlink *down = &s->downlink;
	int64_t gap_ns = started_ns - down->heard_ns;
	if (down->dry && down->heard_ns && gap_ns > GAP_NS) {
		down->underruns++;
		down->underrun_ms += (uint64_t)(gap_ns / 1000000);
		report_event(&s->report, "stream_buffer_underrun",
					 json_pack("{s:I,s:I,s:I,s:i}", "gapMs", (json_int_t)(gap_ns / 1000000), "count",
							   (json_int_t)down->underruns, "totalMs", (json_int_t)down->underrun_ms, "prebufferMs",
							   down->prebuffer_ms));
	}
	down->dry = 0;
}

static void begin_mark(as_streamer *s, streamer_play *play, const as_mark *mark)
{
	streamer_downlink *down = &s->downlink;
	if (!mark->started_ns || down->begun == mark->id) {
		return;
	}
	down->begun = mark->id;
	end_of_gap(s, mark->started_ns);
	if (!play->started_ns) {
		play->started_ns = mark->started_ns;
		report_event_at(&s->report, "media_play_start", describe(s, play, 0), mark->started_ns);
	}
}

static void pass_mark(as_streamer *s, streamer_play *play, const as_mark *mark)
{
	play->heard += mark->played;
	play->hearing = 0;
	play->mark++;
	play->cut |= (mark->flags & AS_MARK_FLUSHED) != 0;
	if (mark->finished_ns) {
		/* The frame just taken lasts a while; more than that is a host that is faster than the clock we count by. */
		int64_t latest_ns = as_now_ns() + (int64_t)s->info.frame_ms * 1000000;
		play->finished_ns = s->downlink.heard_ns = mark->finished_ns < latest_ns ? mark->finished_ns : latest_ns;
	}
}

/* How long the host will be busy with what is left of a mark. */
static int64_t left_ns(const as_streamer *s, const as_mark *mark)
{
	int64_t samples = (int64_t)(mark->written - mark->played);
	int64_t ns = samples * 1000000000 / s->info.rate_hz - (int64_t)s->info.frame_ms * 1000000;
	return ns < 0 ? 0 : ns > LOOK_AGAIN_NS ? LOOK_AGAIN_NS : ns;
}

/* Looks at a play's marks. 1 when it is over. */
static int account(as_streamer *s, streamer_play *play, int64_t now_ns)
{
	streamer_downlink *down = &s->downlink;
	as_mark mark;
	while (play->mark <= play->last_mark) {
		if (as_inject_mark(s->stream, play->mark, &mark)) {
			mark = (as_mark){.id = play->mark, .flags = AS_MARK_FINISHED}; /* over for so long that it is forgotten */
		}
		begin_mark(s, play, &mark);
		if (!(mark.flags & (AS_MARK_FINISHED | AS_MARK_FLUSHED))) {
			play->hearing = mark.played;
			down->sounding = mark.started_ns != 0;
			down->look_ns = down->sounding ? now_ns + left_ns(s, &mark) : 0;
			return 0;
		}
		pass_mark(s, play, &mark);
	}
	return play->closed && !play->waiting && down->tail_play != play;
}

void streamer_plays_settle(as_streamer *s, int64_t now_ns)
{
	streamer_downlink *down = &s->downlink;
	down->sounding = 0;
	down->look_ns = 0;
	while (down->first && account(s, down->first, now_ns)) {
		announce_end(s, down->first);
		drop_first(s);
	}
	if (down->sounding) {
		streamer_let_run_dry(s);
	}
}

/* ---- After a flush ----------------------------------------------------------------------------------------------- */

/* marks[*at...] and a play's marks are both in order. */
static void account_cut(as_streamer *s, streamer_play *play, const as_mark *marks, int count, int *at)
{
	as_mark mark;
	for (; play->mark <= play->last_mark; pass_mark(s, play, &mark)) {
		while (*at < count && marks[*at].id < play->mark) {
			++*at;
		}
		if (*at < count && marks[*at].id == play->mark) {
			mark = marks[*at];
		} else if (as_inject_mark(s->stream, play->mark, &mark)) {
			mark = (as_mark){.id = play->mark, .flags = AS_MARK_FLUSHED};
		}
		begin_mark(s, play, &mark);
	}
	/* All of it may have been heard, but for being told so. */
	play->cut = !(play->closed && !play->waiting && s->downlink.tail_play != play && play->heard == play->written);
}

static void announce_cut(as_streamer *s, const streamer_play *first, int plays, uint64_t cleared, const char *why)
{
	json_t *body = first ? describe(s, first, first->heard) : json_object();
	json_object_set_new(body, "plays", json_integer(plays));
	json_object_set_new(body, "clearedMs", json_integer(ms_of(s, cleared)));
	json_object_set_new(body, "reason", report_string(why));
	report_event(&s->report, "media_cleared", body);
}

void streamer_plays_cut(as_streamer *s, const as_mark *marks, int count, const char *why, int quiet)
{
	const streamer_play *first = NULL;
	uint64_t cleared = 0;
	int at = 0, plays = 0;
	for (streamer_play *play = s->downlink.first; play; play = play->next) {
		account_cut(s, play, marks, count, &at);
		streamer_tell_queued(s, play);
		if (play->cut && play->audible) {
			first = first ? first : play;
			cleared += play->written - play->heard;
			plays++;
		}
	}
	if (plays || !quiet) {
		announce_cut(s, first, plays, cleared, why);
	}
	while (s->downlink.first) {
		if (!s->downlink.first->cut) {
			announce_end(s, s->downlink.first);
		} else {
			announce_checkpoint(s, s->downlink.first, 0);
		}
		drop_first(s);
	}
	s->downlink.missed = 0; /* what was thrown away has been told */
}
