/* streamer_events.c - what the application is told. Service thread; the strings go to its callback and no further. */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "utf8.h"

#define INVALID_EVERY_NS 1000000000
#define TEXT_MAX 512

static int64_t epoch_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

json_t *streamer_string(const char *text)
{
	char *clean = as_utf8_clean(text);
	json_t *string = clean ? json_string(clean) : NULL;
	free(clean);
	return string;
}

void streamer_event_text(as_streamer *s, const char *name, const char *body)
{
	if (s->on_event) {
		s->on_event(s->arg, name, body);
	}
}

static void fire(as_streamer *s, const char *name, json_t *body, int64_t at_ms)
{
	json_t *event = body ? body : json_object();
	json_object_set_new(event, "uuid", streamer_string(s->info.uuid));
	json_object_set_new(event, "streamId", streamer_string(s->info.id));
	json_object_set_new(event, "at", json_integer(at_ms));
	char *text = event ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL; /* 0.98 stays 0.98 */
	json_decref(event);
	if (text) {
		streamer_event_text(s, name, text);
	}
	free(text);
}

void streamer_event(as_streamer *s, const char *name, json_t *body)
{
	fire(s, name, body, epoch_ms());
}

void streamer_event_at(as_streamer *s, const char *name, json_t *body, int64_t ns)
{
	fire(s, name, body, epoch_ms() - (as_now_ns() - ns) / 1000000);
}

void streamer_invalid(as_streamer *s, const char *format, ...)
{
	char text[TEXT_MAX];
	int64_t now_ns = as_now_ns();
	s->invalid++;
	if (s->invalid_ns && now_ns - s->invalid_ns < INVALID_EVERY_NS) {
		s->invalid_unsaid++;
		return;
	}
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_t *body = json_object();
	json_object_set_new(body, "error", streamer_string(text));
	json_object_set_new(body, "count", json_integer((json_int_t)s->invalid));
	json_object_set_new(body, "unreported", json_integer((json_int_t)s->invalid_unsaid));
	s->invalid_ns = now_ns;
	s->invalid_unsaid = 0;
	streamer_event(s, "stream_invalid_input", body);
}

static void log_text(as_streamer *s, const char *level, const char *text)
{
	json_t *body = json_object();
	json_object_set_new(body, "level", json_string(level));
	json_object_set_new(body, "text", streamer_string(text));
	streamer_event(s, "log", body);
}

/* Debug and info are what STREAM_SUPPRESS_LOG silences. */
static int is_logged(const as_streamer *s, const char *level)
{
	return !s->options->suppress_log || !strcmp(level, "warning") || !strcmp(level, "error");
}

void streamer_log(as_streamer *s, const char *level, const char *format, ...)
{
	char text[TEXT_MAX];
	if (is_logged(s, level)) {
		va_list args;
		va_start(args, format);
		vsnprintf(text, sizeof(text), format, args);
		va_end(args);
		log_text(s, level, text);
	}
}

/* ---- STREAM_DEBUG_JSON ------------------------------------------------------------------------------------------- */

static int contains(const char *name, const char *part)
{
	size_t length = strlen(part);
	for (; *name; name++) {
		if (!strncasecmp(name, part, length)) {
			return 1;
		}
	}
	return 0;
}

static int is_secret(const char *name)
{
	static const char *const parts[] = {"key", "token", "secret", "passw", "authoriz", "credential", "cookie"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (contains(name, parts[i])) {
			return 1;
		}
	}
	return 0;
}

static int is_audio(const json_t *object, const char *name)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	return !strcmp(name, "audio") || !strcmp(name, "audioData") ||
		   (!strcmp(name, "delta") && type && contains(type, "audio.delta"));
}

static void hide_secrets(json_t *value)
{
	const char *name;
	json_t *member;
	size_t i;
	void *next;
	json_array_foreach(value, i, member)
	{
		hide_secrets(member);
	}
	json_object_foreach_safe(value, next, name, member)
	{
		if (json_is_string(member) && (is_secret(name) || is_audio(value, name))) {
			json_object_set_new(value, name, json_string("..."));
		} else {
			hide_secrets(member);
		}
	}
}

void streamer_log_json(as_streamer *s, const char *direction, const char *text, size_t n)
{
	if (!s->options->debug_json || s->options->suppress_log) {
		return;
	}
	json_t *message = json_loadb(text, n, 0, NULL);
	if (!message) {
		streamer_log(s, "debug", "%s %zu bytes that are not JSON", direction, n);
		return;
	}
	hide_secrets(message);
	char *shown = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	char *line = shown ? malloc(strlen(shown) + strlen(direction) + 2) : NULL;
	if (line) {
		sprintf(line, "%s %s", direction, shown);
		log_text(s, "debug", line);
	}
	free(line);
	free(shown);
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

static uint64_t ms_of(const as_streamer *s, uint64_t samples)
{
	return samples * 1000 / (uint64_t)s->info.rate_hz;
}

void streamer_take_view(const as_streamer *s, const as_stats *stats, streamer_view *view)
{
	uint64_t waiting = stats->capture_samples - stats->capture_read_samples - stats->capture_discarded_samples;
	*view = (streamer_view){
		.state = s->state,
		.encoding = s->uplink.encoding,
		.rate_hz = s->uplink.rate_hz,
		.sent_messages = s->sent_messages,
		.sent_bytes = s->sent_bytes,
		.received_messages = s->received_messages,
		.received_bytes = s->received_bytes,
		.reopened = s->reopened,
		.failed = s->failed,
		.unsent = ws_unsent(s->actor),
		.dropped_ms = ms_of(s, s->uplink.dropped + stats->capture_dropped_samples),
		.refused_ms = s->downlink.refused_ms,
		.queued_ms = ms_of(s, stats->inject_queued_samples),
		.played_ms = ms_of(s, stats->inject_played_samples),
		.underruns = s->downlink.underruns,
		.underrun_ms = s->downlink.underrun_ms,
		.waiting_ms = (int)ms_of(s, waiting),
		.prebuffer_ms = s->downlink.prebuffer_ms,
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
	json_object_set_new(out, "url", streamer_string(s->target.shown));
	json_object_set_new(out, "dialect", json_string(s->dialect->name));
	json_object_set_new(out, "track", streamer_string(s->track));
	json_object_set_new(out, "codec", json_string(codec_name(view->encoding)));
	json_object_set_new(out, "rate", json_integer(view->rate_hz));
	json_object_set_new(out, "channels", json_integer(s->uplink.channels));
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
