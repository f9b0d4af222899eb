/*
 * streamer_connect.c - how a streamer's connection is made, and which ends it is reopened after.
 *
 *     how it ended                                                     reopened
 *     no CLOSE at all (1006): broken, silent, refused, no address,     yes
 *       not open in time
 *     1011 internal error, 1012 restart, 1013 try again later,         yes: the server means to be back
 *       1014 bad gateway
 *     1002 protocol error                                              yes: libwebsockets turns 1012-1014 into it, and
 *                                                                      a restart is likelier than an error of ours
 *     1001 going away, 1005 (CLOSE without a code)                     yes, unless STREAM_RECONNECT_GOING_AWAY is
 *                                                                      false: a server or a proxy that restarts
 *     HTTP 408, 425, 429, 5xx instead of 101                           yes
 *     1000                                                             no: it ended on purpose
 *     1003, 1007, 1008, 1009, 1010                                     no: the same again would end the same way
 *     3000-4999, and any other code                                    no: an application's word
 *     any other HTTP status; a certificate; an unreadable file         no: it takes somebody to change something
 */
#define _GNU_SOURCE
#include "streamer_connect.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "extra_headers.h"
#include "hosts.h"
#include "tls.h"
#include "url.h"
#include "wipe.h"

#define MESSAGE_SPARE (1 << 20)
#define MESSAGE_LEAST (16 << 20)
#define PING_TIMEOUT_MS 5000
#define GOING_AWAY 1001
#define PROTOCOL_ERROR 1002
#define ERROR_MAX 400
#define NO_TIMEOUT_MS (INT_MAX / 2) /* a fortnight */

static int reopens_after_close(const as_options *options, int code)
{
	if (code == GOING_AWAY || code == WS_NO_STATUS) {
		return options->reconnect_going_away;
	}
	return code == WS_ABNORMAL || code == PROTOCOL_ERROR || (code >= 1011 && code <= 1014);
}

int streamer_reopens(const as_options *options, const ws_end *end)
{
	switch (end->why) {
	case WS_WHY_LOST:
	case WS_WHY_SILENT:
	case WS_WHY_RESOLVE:
	case WS_WHY_CONNECT:
	case WS_WHY_TIMEOUT:
		return 1;
	case WS_WHY_CLOSED:
		return reopens_after_close(options, end->code);
	case WS_WHY_HTTP:
		return end->http_status == 408 || end->http_status == 425 || end->http_status == 429 ||
			   (end->http_status >= 500 && end->http_status <= 599);
	default:
		return 0;
	}
}

int streamer_backoff_ms(const as_options *options, int attempt, uint32_t random)
{
	int64_t delay_ms = options->reconnect_delay_ms;
	for (int i = 1; i < attempt && delay_ms < options->reconnect_delay_max_ms; i++) {
		delay_ms *= 2;
	}
	if (delay_ms > options->reconnect_delay_max_ms) {
		delay_ms = options->reconnect_delay_max_ms;
	}
	return (int)(delay_ms * (800 + random % 401) / 1000);
}

const char *streamer_why_name(ws_why why)
{
	switch (why) {
	case WS_WHY_CLOSED:
		return "closed";
	case WS_WHY_LOST:
		return "lost";
	case WS_WHY_SILENT:
		return "silent";
	case WS_WHY_TOO_BIG:
		return "too big";
	case WS_WHY_RESOLVE:
		return "no address";
	case WS_WHY_CONNECT:
		return "refused";
	case WS_WHY_TLS:
		return "tls";
	case WS_WHY_HTTP:
		return "http";
	case WS_WHY_TIMEOUT:
		return "timeout";
	default:
		return "options";
	}
}

static char *header_line(const char *name, const char *value)
{
	size_t bytes = strlen(name) + strlen(value) + 3;
	char *line = malloc(bytes);
	if (line) {
		snprintf(line, bytes, "%s: %s", name, value);
	}
	return line;
}

static int is_credential(const char *header)
{
	return !strcasecmp(header, "authorization") || !strcasecmp(header, "api-key");
}

/* text: as as_options_set() has checked it. first: before those; NULL: none. own: credentials, which are for other
 * servers, are left out. */
static int make_headers(streamer_target *target, const char *text, const char *first, int own)
{
	extra_headers headers;
	size_t count = 0;
	int error = extra_headers_parse(text, &headers);
	target->headers = calloc(headers.count + 2, sizeof(char *));
	if (!target->headers || (first && !(target->headers[count++] = strdup(first)))) {
		error = AS_ENOMEM;
	}
	for (size_t i = 0; !error && i < headers.count; i++) {
		if (own && is_credential(headers.all[i].name)) {
			continue;
		}
		if (!(target->headers[count++] = header_line(headers.all[i].name, headers.all[i].value))) {
			error = AS_ENOMEM;
		}
	}
	extra_headers_free(&headers);
	return error;
}

static const char *non_empty(const char *text)
{
	return text && *text ? text : NULL;
}

static size_t message_bytes(long max_base64)
{
	/* Twice as long as is allowed: what is too long is refused with a reason, not with a closed connection. */
	size_t most = (size_t)max_base64 * 2 + MESSAGE_SPARE;
	return most > MESSAGE_LEAST ? most : MESSAGE_LEAST;
}

static int timeout_ms(const as_options *options, int asked_s)
{
	int ms = asked_s ? asked_s * 1000 : options->connect_timeout_ms;
	return ms > 0 ? ms : NO_TIMEOUT_MS;
}

/* STREAM_PING_INTERVAL_S, or STREAM_HEART_BEAT where that is more often. */
static int ping_interval_ms(const as_options *options)
{
	int ping_s = options->ping_interval_s, beat_s = options->heart_beat_s;
	return 1000 * (beat_s && (!ping_s || beat_s < ping_s) ? beat_s : ping_s);
}

/* own: the dialect has its own way to say who we are, and no other server's password goes along. */
static ws_options connection_options(const as_options *options, const streamer_target *target, int timeout_s, int own)
{
	return (ws_options){
		.url = target->url,
		.subprotocol = target->subprotocol,
		.headers = (const char *const *)target->headers,
		.user = own ? NULL : non_empty(options->auth_user),
		.password = own ? NULL : non_empty(options->auth_password),
		.ca_file = non_empty(options->tls_ca_file),
		.cert_file = non_empty(options->tls_cert_file),
		.key_file = non_empty(options->tls_key_file),
		.allow_selfsigned = options->tls_allow_selfsigned,
		.allow_expired = options->tls_allow_expired,
		.skip_hostname_check = options->tls_skip_hostname,
		.deflate = options->deflate,
		.connect_timeout_ms = timeout_ms(options, timeout_s),
		.ping_interval_ms = ping_interval_ms(options),
		.ping_timeout_ms = PING_TIMEOUT_MS,
		.max_message_bytes = message_bytes(options->max_base64),
	};
}

/* What connecting would refuse of the headers, before anything has begun. */
static int check_joined_headers(const ws_options *options, char *error, size_t bytes)
{
	char *joined = NULL;
	int result = ws_headers_join(options->headers, options->user, options->password, &joined, error, bytes);
	as_wipe_free(joined);
	return result;
}

/* The setting that a complaint of ws_tls_load() is about. */
static const char *setting_of(const char *reason)
{
	return strstr(reason, "CA file")    ? "STREAM_TLS_CA_FILE"
		   : strstr(reason, "key file") ? "STREAM_TLS_KEY_FILE"
										: "STREAM_TLS_CERT_FILE";
}

/* What connecting would refuse of the files named, in time for whoever named them; what is right stays loaded. */
static int check_files(const ws_options *options, char *error, size_t bytes)
{
	char reason[ERROR_MAX];
	int named = options->ca_file || options->cert_file || options->key_file;
	if (!named || strncasecmp(options->url, "wss:", 4)) {
		return 0;
	}
	ws_tls *tls = ws_tls_load(options->ca_file, options->cert_file, options->key_file, reason, sizeof(reason));
	if (!tls) {
		snprintf(error, bytes, "%s: %s", setting_of(reason), reason);
		return AS_EINVAL;
	}
	ws_tls_unref(tls);
	return 0;
}

int streamer_target_init(streamer_target *target, const as_options *options, const struct dialect_target *to,
						 int own_credentials, int timeout_s, char *error, size_t bytes)
{
	const char *url = to->url;
	const char *subprotocol = options->subprotocol_set ? options->subprotocol : to->subprotocol;
	if (!url || !*url) {
		snprintf(error, bytes, "no URL: say ws://host[:port]/path or wss://...");
		return AS_EINVAL;
	}
	int result = ws_url_check(url, error, bytes);
	if (!result && !ws_hosts_allow(options->allow_hosts, url)) {
		snprintf(error, bytes, "allow-hosts in audio_stream.conf.xml does not name the URL's host");
		result = AS_EINVAL;
	}
	if (!result) {
		result = make_headers(target, options->extra_headers, to->header, own_credentials);
	}
	if (result) {
		return result;
	}
	target->url = strdup(url);
	target->subprotocol = subprotocol ? strdup(subprotocol) : NULL;
	if (!target->url || (subprotocol && !target->subprotocol)) {
		return AS_ENOMEM;
	}
	ws_url_show(url, target->shown, sizeof(target->shown));
	target->options = connection_options(options, target, timeout_s, own_credentials);
	result = check_joined_headers(&target->options, error, bytes);
	return result ? result : check_files(&target->options, error, bytes);
}

void streamer_target_free(streamer_target *target)
{
	for (char **header = target->headers; header && *header; header++) {
		as_wipe_free(*header);
	}
	free(target->headers);
	free(target->subprotocol);
	as_wipe_free(target->url);
}
