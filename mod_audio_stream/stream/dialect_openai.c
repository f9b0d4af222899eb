/*
 * dialect_openai.c - an OpenAI Realtime conversation (openai_talk.h) with a streamer's life.
 *
 * The key goes into a header and nowhere else: not into a description, an event or the log.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dialect.h"
#include "openai_talk.h"
#include "url.h"
#include "utf8.h"
#include "wipe.h"

#define UPLINK_MAX_MS 5000 /* unless STREAM_MAX_QUEUE_MS says otherwise: what is said is not worth more later */

struct openai_own {
	openai_talk *talk;
	char *model, *voice, *instructions;
};

static const char *first_of(const char *asked, const char *option)
{
	return asked && *asked ? asked : option;
}

/* ---- Where to, and as whom: the caller's thread ------------------------------------------------------------------ */

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
	} else if ((url = malloc(strlen(base) + sizeof("?model=") + strlen(encoded)))) { /* asprintf() leaves copies */
		sprintf(url, "%s%cmodel=%s", base, query ? '&' : '?', encoded);
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
static char *credential_header(const char *url, const char *key)
{
	const char *name = host_ends_in(url, ".azure.com") ? "api-key: " : "Authorization: Bearer ";
	char *line = malloc(strlen(name) + strlen(key) + 1);
	if (line) {
		sprintf(line, "%s%s", *key ? name : "", key);
	}
	return line;
}

/* Validates what does not depend on the call's codec. */
static int check_request(const struct dialect_host *h, const as_streamer_start *start, char *error, size_t bytes)
{
	if (h->info->channels == 2 || !strcmp(h->track, "stereo")) {
		snprintf(error, bytes, "track=stereo: a model hears one channel; use both");
		return AS_EINVAL;
	}
	return openai_rate_check(start->rate_hz, 1, error, bytes);
}

/* The key for base, which may be empty. A key that has been configured is for the configured server and no other: the words
 * of a command may have come from elsewhere. */
static int choose_key(const as_options *options, const as_streamer_start *start, const char *base, const char **key,
					  char *error, size_t bytes)
{
	*key = first_of(start->api_key, options->openai_api_key);
	if (start->api_key && *start->api_key) {
		return 0;
	}
	if (**key && start->url && *start->url && !ws_url_same_server(base, options->openai_url)) {
		snprintf(
			error, bytes,
			"url= names another server than OPENAI_REALTIME_URL: OPENAI_API_KEY is not sent there; give the key for "
			"it with api_key=, or set OPENAI_REALTIME_URL");
		return AS_EINVAL;
	}
	if (!**key && host_ends_in(base, ".openai.com")) {
		snprintf(error, bytes, "no key: set OPENAI_API_KEY in FreeSWITCH's environment, or say api_key=");
		return AS_EINVAL;
	}
	return 0;
}

static int openai_reach(const struct dialect_host *h, const as_streamer_start *start, struct dialect_target *out,
						char *error, size_t bytes)
{
	int wrong = check_request(h, start, error, bytes);
	if (wrong) {
		return wrong;
	}
	const char *model = first_of(start->model, h->options->openai_model);
	const char *base = first_of(start->url, h->options->openai_url);
	const char *key;
	wrong = ws_url_check(base, error, bytes);
	wrong = wrong ? wrong : choose_key(h->options, start, base, &key, error, bytes);
	if (wrong) {
		return wrong;
	}
	char *header = credential_header(base, key);
	int made = header != NULL;
	out->url = url_for(base, model);
	if (header && *header) {
		out->header = header;
	} else {
		free(header);
	}
	return out->url && made ? 0 : AS_ENOMEM;
}

/* ---- Beginning and end: the caller's thread ---------------------------------------------------------------------- */

static void talk_sends(void *arg, const char *text, size_t n)
{
	struct dialect_host *h = arg;
	report_json(h->report, "sent", text, n);
	h->send(h->arg, 0, text, n);
}

static void talk_fires(void *arg, const char *name, json_t *body)
{
	struct dialect_host *h = arg;
	report_event(h->report, name, json_incref(body));
}

static void talk_finishes(void *arg, const char *reason)
{
	struct dialect_host *h = arg;
	h->end(h->arg, reason);
}

static void openai_free(struct dialect_host *h)
{
	struct openai_own *own = h->own;
	if (own) {
		openai_talk_free(own->talk);
		free(own->model);
		free(own->voice);
		free(own->instructions);
		free(own);
	}
}

static int openai_init(struct dialect_host *h, const as_streamer_start *start, char *error, size_t bytes)
{
	const as_options *options = h->options;
	struct openai_own *own = h->own = calloc(1, sizeof(*own));
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
	const openai_outlets outlets = {h, talk_sends, talk_fires, talk_finishes};
	int result = openai_talk_new(h->stream, &request, &outlets, error, bytes, &own->talk);
	if (!result) {
		const rt_audio *audio = openai_talk_audio(own->talk);
		sender_watch(h->sender, audio->format.in_encoding, audio->format.in_rate_hz, audio->uplink_max_samples);
	}
	return result;
}

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

static openai_talk *talk_of(const struct dialect_host *h)
{
	return ((struct openai_own *)h->own)->talk;
}

static void openai_on_open(struct dialect_host *h, uint64_t reopened)
{
	(void)reopened;
	openai_talk_restart(talk_of(h), as_now_ns() + h->connect_timeout_ms * INT64_C(1000000));
}

static void openai_on_message(struct dialect_host *h, int binary, char *data, size_t n)
{
	if (binary) {
		report_invalid(h->report, "a Realtime server sends text messages only");
		return;
	}
	report_json(h->report, "received", data, n);
	if (h->ending) {
		openai_talk_silence(talk_of(h));
	}
	openai_talk_message(talk_of(h), data, n);
}

static void openai_pump(struct dialect_host *h, ws_actor *actor, int64_t now_ns)
{
	const rt_audio *audio = openai_talk_audio(talk_of(h));
	uint64_t dropped = audio->dropped_samples, appends = audio->appends, bytes = audio->appended_bytes;
	openai_talk_pump(talk_of(h), actor, now_ns);
	/* As the server's session has it. */
	sender_watch(h->sender, audio->format.in_encoding, audio->format.in_rate_hz, audio->uplink_max_samples);
	sender_note_dropped(h->sender, audio->dropped_samples - dropped);
	h->count_sent(h->arg, audio->appends - appends, audio->appended_bytes - bytes);
}

static int openai_busy(const struct dialect_host *h)
{
	as_stats stats;
	as_stream_stats(h->stream, &stats);
	return stats.inject_queued_samples > 0 || stats.inject_playing;
}

const struct dialect dialect_openai = {
	.name = "openai",
	.opened = "connection_established",
	.failed = "connection_failed",
	.timed_out = "connection_timeout",
	.closed = "connection_closed",
	.fed_ahead = 1,
	.own_credentials = 1,
	.reach = openai_reach,
	.init = openai_init,
	.free = openai_free,
	.on_open = openai_on_open,
	.on_message = openai_on_message,
	.pump = openai_pump,
	.busy = openai_busy,
};
