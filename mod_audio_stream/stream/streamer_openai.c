/*
 * streamer_openai.c - the third dialect: an OpenAI Realtime conversation (openai_talk.h) with a streamer's life.
 *
 * The key goes into a header and nowhere else: not into a description, an event or the log.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openai_talk.h"
#include "streamer.h"
#include "utf8.h"

#define UPLINK_MAX_MS 5000 /* unless STREAM_MAX_QUEUE_MS says otherwise: what is said is not worth more later */

typedef struct openai_own {
	openai_talk *talk;
	char *model, *voice, *instructions;
} openai_own;

static const char *first_of(const char *asked, const char *option)
{
	return asked && *asked ? asked : option;
}

/* ---- Where to, and as whom: the caller's thread ----------------------------------------------------------------- */

static int has_parameter(const char *query, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = query; at; at = strchr(at, '&')) {
		at++;
		if (!strncmp(at, name, length) && at[length] == '=') {
			return 1;
		}
	}
	return 0;
}

/* Percent-encodes into out, which has room for three characters for each. */
static void encode(const char *text, char *out)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		out += isalnum(c) || strchr("-._~", c) ? sprintf(out, "%c", c) : sprintf(out, "%%%02X", c);
	}
	*out = '\0';
}

/* With the model in the query, unless that names a model or a deployment itself. NULL without memory. */
static char *url_for(const char *base, const char *model)
{
	const char *query = strchr(base, '?');
	char *encoded = malloc(strlen(model) * 3 + 1), *url = NULL;
	if (!encoded) {
		return NULL;
	}
	encode(model, encoded);
	if (has_parameter(query, "model") || has_parameter(query, "deployment")) {
		url = strdup(base);
	} else if (asprintf(&url, "%s%cmodel=%s", base, query ? '&' : '?', encoded) < 0) {
		url = NULL;
	}
	free(encoded);
	return url;
}

static int host_ends_in(const char *url, const char *domain)
{
	const char *host = strstr(url, "://");
	host = host ? host + 3 : url;
	size_t length = strcspn(host, ":/?"), tail = strlen(domain);
	return length >= tail && !strncasecmp(host + length - tail, domain, tail);
}

/* NULL without memory, "" without a key. */
static char *authorization(const char *url, const char *key)
{
	char *line = NULL;
	if (!*key) {
		return strdup("");
	}
	const char *format = host_ends_in(url, ".azure.com") ? "api-key: %s" : "Authorization: Bearer %s";
	return asprintf(&line, format, key) < 0 ? NULL : line;
}

/* What has been asked for in words that hold for every call. */
static int check_request(const as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	if (s->info.channels == 2 || !strcmp(s->track, "stereo")) {
		snprintf(error, bytes, "track=stereo: a model hears one channel; use both");
		return AS_EINVAL;
	}
	return openai_rate_check(start->rate_hz, 1, error, bytes);
}

static int openai_reach(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	int wrong = check_request(s, start, error, bytes);
	if (wrong) {
		return wrong;
	}
	const char *model = first_of(start->model, s->options->openai_model);
	const char *base = first_of(start->url, s->options->openai_url);
	const char *key = first_of(start->api_key, s->options->openai_api_key);
	if (!*key && host_ends_in(base, ".openai.com")) {
		snprintf(error, bytes, "no key: set OPENAI_API_KEY in FreeSWITCH's environment, or say api_key=");
		return AS_EINVAL;
	}
	char *url = url_for(base, model), *header = authorization(base, key);
	int result = url && header
					 ? streamer_target_init(s, url, NULL, *header ? header : NULL, start->timeout_s, error, bytes)
					 : AS_ENOMEM;
	free(url);
	free(header);
	return result;
}

/* ---- Beginning and end: the caller's thread --------------------------------------------------------------------- */

static void say(void *arg, const char *text, size_t n)
{
	streamer_log_json(arg, "sent", text, n);
	streamer_send(arg, 0, text, n);
}

static void tell(void *arg, const char *name, json_t *body)
{
	streamer_event(arg, name, json_incref(body));
}

static void over(void *arg, const char *reason)
{
	streamer_end(arg, reason);
}

static void openai_free(as_streamer *s)
{
	openai_own *own = s->own;
	if (own) {
		openai_talk_free(own->talk);
		free(own->model);
		free(own->voice);
		free(own->instructions);
		free(own);
	}
}

static int openai_init(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	const as_options *options = s->options;
	openai_own *own = s->own = calloc(1, sizeof(*own));
	if (!own || !(own->model = as_utf8_clean(first_of(start->model, options->openai_model))) ||
		!(own->voice = as_utf8_clean(first_of(start->voice, options->openai_voice))) ||
		!(own->instructions = as_utf8_clean(first_of(start->instructions, options->openai_instructions)))) {
		return AS_ENOMEM;
	}
	int uplink_max_ms = options->max_queue_ms ? options->max_queue_ms : UPLINK_MAX_MS;
	const openai_request request = {.model = own->model,
									.voice = own->voice,
									.instructions = own->instructions,
									.vad_threshold = options->openai_vad_threshold,
									.vad_silence_ms = options->openai_vad_silence_ms,
									.vad_prefix_ms = options->openai_vad_prefix_ms,
									.uplink_max_ms = uplink_max_ms,
									.rate_hz = start->rate_hz};
	const openai_outlets outlets = {s, say, tell, over};
	s->bidirectional = 1;
	s->uplink.over = 1; /* the talk reads the capture itself */
	int result = openai_talk_new(s->stream, &request, &outlets, error, bytes, &own->talk);
	if (!result) {
		const rt_audio *audio = openai_talk_audio(own->talk);
		s->uplink.limit = audio->uplink_max_samples;
		s->uplink.encoding = audio->format.in_encoding;
		s->uplink.rate_hz = audio->format.in_rate_hz;
	}
	return result;
}

/* ---- Service thread --------------------------------------------------------------------------------------------- */

static openai_talk *talk_of(const as_streamer *s)
{
	return ((openai_own *)s->own)->talk;
}

static void on_open(as_streamer *s)
{
	openai_talk_restart(talk_of(s), as_now_ns() + s->target.options.connect_timeout_ms * INT64_C(1000000));
}

static void on_message(as_streamer *s, int binary, char *data, size_t n)
{
	if (binary) {
		streamer_invalid(s, "a Realtime server sends text messages only");
		return;
	}
	streamer_log_json(s, "received", data, n);
	if (s->state == STREAMER_ENDING) {
		openai_talk_silence(talk_of(s));
	}
	openai_talk_message(talk_of(s), data, n);
}

static void pump(as_streamer *s)
{
	const rt_audio *audio = openai_talk_audio(talk_of(s));
	uint64_t dropped = audio->dropped_samples, appends = audio->appends, bytes = audio->appended_bytes;
	openai_talk_pump(talk_of(s), s->actor, as_now_ns());
	s->uplink.encoding = audio->format.in_encoding; /* as the server's session has it */
	s->uplink.rate_hz = audio->format.in_rate_hz;
	s->uplink.dropped += audio->dropped_samples - dropped;
	s->sent_messages += audio->appends - appends;
	s->sent_bytes += audio->appended_bytes - bytes;
}

static int busy(as_streamer *s)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	return stats.inject_queued_samples > 0 || stats.inject_playing;
}

const streamer_dialect streamer_openai = {
	.name = "openai",
	.opened = "connection_established",
	.failed = "connection_failed",
	.timed_out = "connection_timeout",
	.closed = "connection_closed",
	.reach = openai_reach,
	.init = openai_init,
	.free = openai_free,
	.on_open = on_open,
	.on_message = on_message,
	.pump = pump,
	.busy = busy,
};
