/*
 * url.c - ws:// and wss:// URLs, and the headers of a handshake (RFC 3986, RFC 6455, RFC 9110).
 *
 * A path and a query may carry a token: no error quotes them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "audio_stream.h"
#include "loop.h"
#include "url.h"
#include "wipe.h"

__attribute__((format(printf, 3, 4))) static int refuse(char *error, size_t bytes, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(error, bytes, format, arguments);
	va_end(arguments);
	return AS_EINVAL;
}

static int is_printable(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~') {
			return 0;
		}
	}
	return 1;
}

/* A name's characters; "_" is not a host name's, but is found in names. */
static int is_name(const char *host)
{
	return *host && host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")] == 0;
}

/* Takes "host", "1.2.3.4" or "[::1]" off the front; returns what follows, or NULL. */
static const char *take_host(const char *text, const char *end, ws_url *out, char *error, size_t bytes)
{
	struct in6_addr address;
	int bracketed = *text == '[';
	const char *from = text + bracketed;
	const char *to = memchr(from, bracketed ? ']' : ':', (size_t)(end - from));
	to = to || bracketed ? to : end;
	if (!to) {
		refuse(error, bytes, "the URL's \"[\" has no \"]\"");
		return NULL;
	}
	if (to - from > WS_HOST_MAX) {
		refuse(error, bytes, "the URL's host is longer than %d characters", WS_HOST_MAX);
		return NULL;
	}
	memcpy(out->host, from, (size_t)(to - from));
	out->host[to - from] = 0;
	if (bracketed ? inet_pton(AF_INET6, out->host, &address) != 1 : !is_name(out->host)) {
		refuse(error, bytes, bracketed ? "the URL's [...] is not an IPv6 address" : "the URL has no valid host name");
		return NULL;
	}
	return to + bracketed;
}

static int take_port(const char *text, const char *end, ws_url *out)
{
	long port = 0;
	if (text == end) {
		out->port = out->tls ? 443 : 80;
		return 0;
	}
	if (*text != ':' || end - text > 6 || end - text < 2) {
		return AS_EINVAL;
	}
	for (const char *digit = text + 1; digit < end; digit++) {
		if (*digit < '0' || *digit > '9') {
			return AS_EINVAL;
		}
		port = port * 10 + (*digit - '0');
	}
	out->port = (int)port;
	return port >= 1 && port <= 65535 ? 0 : AS_EINVAL;
}

static void write_authority(ws_url *url)
{
	const char *open = strchr(url->host, ':') ? "[" : "", *close = *open ? "]" : "";
	char port[8] = "";
	if (url->port != (url->tls ? 443 : 80)) {
		snprintf(port, sizeof(port), ":%d", url->port);
	}
	snprintf(url->authority, sizeof(url->authority), "%s%s%s%s", open, url->host, close, port);
}

static int parse(const char *url, ws_url *out, char *error, size_t bytes)
{
	out->tls = !strncasecmp(url, "wss://", 6);
	if (!out->tls && strncasecmp(url, "ws://", 5)) {
		return refuse(error, bytes, "the URL must begin with ws:// or wss://");
	}
	if (!is_printable(url)) {
		return refuse(error, bytes, "the URL contains spaces, control characters or others to be written as %%XX");
	}
	const char *host = url + (out->tls ? 6 : 5), *path = host + strcspn(host, "/?#");
	if (memchr(host, '@', (size_t)(path - host))) {
		return refuse(error, bytes, "the URL contains a user or password: there are settings for them");
	}
	if (strchr(path, '#')) {
		return refuse(error, bytes, "the URL contains a fragment (#...)");
	}
	if (strlen(path) > WS_PATH_MAX) {
		return refuse(error, bytes, "the URL's path and query are longer than %d characters", WS_PATH_MAX);
	}
	const char *port = take_host(host, path, out, error, bytes);
	if (!port) {
		return AS_EINVAL;
	}
	if (take_port(port, path, out)) {
		return refuse(error, bytes, "the URL's port is not a number from 1 to 65535");
	}
	write_authority(out);
	out->path = malloc(strlen(path) + 2);
	if (out->path) { /* asprintf() would leave copies of a token behind */
		stpcpy(stpcpy(out->path, *path == '/' ? "" : "/"), path);
	}
	return out->path ? 0 : AS_ENOMEM;
}

int ws_url_parse(const char *url, ws_url *out, char *error, size_t bytes)
{
	memset(out, 0, sizeof(*out));
	int result = parse(url ? url : "", out, error, bytes);
	if (result) {
		out->path = NULL;
	}
	return result;
}

int ws_url_check(const char *url, char *error, size_t bytes)
{
	ws_url parsed;
	int result = ws_url_parse(url, &parsed, error, bytes);
	as_wipe_free(parsed.path);
	return result;
}

void ws_url_show(const char *url, char *out, size_t bytes)
{
	ws_url parsed;
	char error[1];
	int wrong = ws_url_parse(url, &parsed, error, sizeof(error));
	snprintf(out, bytes, "%s%s", wrong ? "" : parsed.tls ? "wss://" : "ws://", wrong ? "" : parsed.authority);
	as_wipe_free(parsed.path);
}

int ws_url_same_server(const char *a, const char *b)
{
	ws_url first, second;
	char error[1];
	int same = !ws_url_parse(a, &first, error, sizeof(error));
	same = !ws_url_parse(b, &second, error, sizeof(error)) && same;
	same = same && first.tls == second.tls && first.port == second.port && !strcasecmp(first.host, second.host);
	as_wipe_free(first.path);
	as_wipe_free(second.path);
	return same;
}

/* ---- Headers ----------------------------------------------------------------------------------------------------- */

static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

static int is_header(const char *line, const char *name)
{
	size_t n = strlen(name);
	return !strncasecmp(line, name, n) && line[n] == ':';
}

static int has_controls(const char *text)
{
	for (; *text; text++) {
		if (((unsigned char)*text < ' ' && *text != '\t') || *text == 127) {
			return 1;
		}
	}
	return 0;
}

int ws_header_check(const char *line, char *error, size_t bytes)
{
	static const char *const ours[] = {"Host",
									   "Connection",
									   "Upgrade",
									   "Sec-WebSocket-Key",
									   "Sec-WebSocket-Version",
									   "Sec-WebSocket-Extensions",
									   "Sec-WebSocket-Accept",
									   "Content-Length",
									   "Transfer-Encoding"};
	size_t name = strspn(line, token);
	if (name == 0 || line[name] != ':' || name > 100) {
		return refuse(error, bytes, "a header is not \"Name: value\"");
	}
	if (has_controls(line)) {
		return refuse(error, bytes, "the header %.*s contains a control character", (int)name, line);
	}
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (is_header(line, ours[i])) {
			return refuse(error, bytes, "the header %s is the handshake's own", ours[i]);
		}
	}
	if (is_header(line, "Sec-WebSocket-Protocol")) {
		return refuse(error, bytes, "Sec-WebSocket-Protocol is not a header to add: there is a setting for it");
	}
	return 0;
}

int ws_subprotocol_check(const char *names, char *error, size_t bytes)
{
	size_t n = strlen(names);
	if (n > 200 || strspn(names, token) == 0 || names[n - 1] == ',') {
		return refuse(error, bytes, "the subprotocol is not a name");
	}
	for (const char *p = names; *p; p++) {
		if (!strchr(token, *p) && *p != ',' && *p != ' ') {
			return refuse(error, bytes, "the subprotocol contains a character that a name cannot have");
		}
	}
	return 0;
}

/* "Authorization: Basic ...", or "" without a user. malloc'ed. */
static int authorization(const char *user, const char *password, char **out, char *error, size_t bytes)
{
	static const char name[] = "Authorization: Basic ";
	if (!user || !*user) {
		*out = strdup("");
		return *out ? 0 : AS_ENOMEM;
	}
	password = password ? password : "";
	if (strchr(user, ':') || has_controls(user) || has_controls(password) || strlen(user) + strlen(password) > 2000) {
		return refuse(error, bytes, "the user or password cannot be used for HTTP's basic authentication");
	}
	size_t n = strlen(user) + 1 + strlen(password);
	char *pair = malloc(n + 1);
	*out = pair ? malloc(sizeof(name) + 4 * (n + 2) / 3 + 4) : NULL;
	if (*out) {
		stpcpy(stpcpy(stpcpy(pair, user), ":"), password);
		strcpy(*out, name);
		EVP_EncodeBlock((unsigned char *)*out + sizeof(name) - 1, (const unsigned char *)pair, (int)n);
		as_wipe_free(pair);
	} else {
		free(pair);
	}
	return *out ? 0 : AS_ENOMEM;
}

/* How long they are together; -1 with the reason when one is wrong. */
static long measure(const char *const *lines, int has_user, char *error, size_t bytes)
{
	size_t total = 0;
	for (; lines && *lines; lines++) {
		if (ws_header_check(*lines, error, bytes)) {
			return -1;
		}
		if (has_user && is_header(*lines, "Authorization")) {
			return refuse(error, bytes, "there is a user and an Authorization header: only one can be sent");
		}
		total += strlen(*lines) + 2;
	}
	if (total > WS_HEADERS_MAX) {
		return refuse(error, bytes, "the headers are longer than %d characters", WS_HEADERS_MAX);
	}
	return (long)total;
}

int ws_headers_join(const char *const *lines, const char *user, const char *password, char **out, char *error,
					size_t bytes)
{
	char *basic = NULL;
	long total = measure(lines, user && *user, error, bytes);
	int result = total < 0 ? AS_EINVAL : authorization(user, password, &basic, error, bytes);
	if (result) {
		return result;
	}
	*out = malloc((size_t)total + strlen(basic) + 3);
	if (*out) {
		char *at = stpcpy(stpcpy(*out, basic), *basic ? "\r\n" : "");
		for (; lines && *lines; lines++) {
			at = stpcpy(stpcpy(at, *lines), "\r\n");
		}
	}
	as_wipe_free(basic);
	return *out ? 0 : AS_ENOMEM;
}
