/* streamer_state.c - a streamer's memory, and what it says of itself: a snapshot of its service thread, and that
 * as JSON. */
#define _GNU_SOURCE
#include "streamer_internal.h"

#include <stdlib.h>

/* ---- Its memory -------------------------------------------------------------------------------------------------- */

void streamer_free_texts(as_streamer *s)
{
	for (streamer_text *text = s->texts, *next; text; text = next) {
		next = text->next;
		free(text);
	}
	s->texts = NULL;
	s->texts_end = &s->texts;
}

void streamer_free(as_streamer *s)
{
	if (s->dialect && s->dialect->free) {
		s->dialect->free(&s->host);
	}
	player_free(s->player);
	sender_free(s->sender);
	streamer_target_free(&s->target);
	streamer_free_texts(s);
	free(s->stop_text);
	free(s->stop_reason);
	free(s->track);
	free(s->metadata);
	as_options_free(s->options);
	as_stream_unref(s->stream);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void as_streamer_unref(as_streamer *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
		streamer_free(s);
	}
}

as_streamer *as_streamer_ref(as_streamer *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

/* ---- Descriptions ------------------------------------------------------------------------------------------------ */

static const char *state_name(streamer_state state)
{
	static const char *const names[] = {
		[STREAMER_CONNECTING] = "connecting", [STREAMER_OPEN] = "open",       [STREAMER_WAITING] = "reconnecting",
		[STREAMER_PLAYING_OUT] = "closed",    [STREAMER_ENDING] = "stopping", [STREAMER_FINISHED] = "stopped",
	};
	return names[state];
}

void streamer_take_view(const as_streamer *s, const as_stats *stats, streamer_view *view)
{
	uint64_t waiting = stats->capture_samples - stats->capture_read_samples - stats->capture_discarded_samples;
	struct player_stats player;
	player_stats(s->player, &player);
	*view = (streamer_view){
		.state = s->state,
		.format = sender_format(s->sender),
		.sent_messages = s->sent_messages,
		.sent_bytes = s->sent_bytes,
		.received_messages = s->received_messages,
		.received_bytes = s->received_bytes,
		.reopened = s->reopened,
		.failed = s->failed,
		.unsent = ws_unsent(s->actor),
		.dropped_ms = (uint64_t)report_ms(sender_dropped(s->sender) + stats->capture_dropped_samples, s->info.rate_hz),
		.refused_ms = player.refused_ms,
		.queued_ms = (uint64_t)report_ms(stats->inject_queued_samples, s->info.rate_hz),
		.played_ms = (uint64_t)report_ms(stats->inject_played_samples, s->info.rate_hz),
		.underruns = player.underruns,
		.underrun_ms = player.underrun_ms,
		.waiting_ms = (int)(uint64_t)report_ms(waiting, s->info.rate_hz),
		.prebuffer_ms = player.prebuffer_ms,
	};
}

static json_t *count(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static const char *codec_name(int encoding)
{
	return encoding == AS_PCMU ? "ULAW" : encoding == AS_PCMA ? "ALAW" : "L16";
}

/* s: only what as_streamer_new() set. */
json_t *streamer_describe_json(const as_streamer *s, const streamer_view *view)
{
	json_t *out = json_object();
	json_object_set_new(out, "state", json_string(state_name(view->state)));
	json_object_set_new(out, "url", report_string(s->target.shown));
	json_object_set_new(out, "dialect", json_string(s->dialect->name));
	json_object_set_new(out, "track", report_string(s->track));
	json_object_set_new(out, "codec", json_string(codec_name(view->format.encoding)));
	json_object_set_new(out, "rate", json_integer(view->format.rate_hz));
	json_object_set_new(out, "channels", json_integer(view->format.channels));
	json_object_set_new(out, "reconnects", count(view->reopened));
	json_object_set_new(out, "failedAttempts", count(view->failed));
	json_object_set_new(out, "sentMessages", count(view->sent_messages));
	json_object_set_new(out, "sentBytes", count(view->sent_bytes));
	json_object_set_new(out, "receivedMessages", count(view->received_messages));
	json_object_set_new(out, "receivedBytes", count(view->received_bytes));
	json_object_set_new(out, "unsentBytes", count(view->unsent));
	json_object_set_new(out, "unsentMs", json_integer(view->waiting_ms));
	json_object_set_new(out, "droppedMs", count(view->dropped_ms));
	json_object_set_new(out, "queuedMs", count(view->queued_ms));
	json_object_set_new(out, "playedMs", count(view->played_ms));
	json_object_set_new(out, "refusedMs", count(view->refused_ms));
	json_object_set_new(out, "underruns", count(view->underruns));
	json_object_set_new(out, "underrunMs", count(view->underrun_ms));
	json_object_set_new(out, "prebufferMs", json_integer(view->prebuffer_ms));
	return out;
}
