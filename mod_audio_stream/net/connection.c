/*
 * connection.c - one connection: from ws_connect() to on_close. Service thread, all of it.
 *
 *     NEW ──▶ RESOLVE ──▶ TCP ──▶ TLS ──▶ HTTP ──▶ OPEN ──▶ CLOSING ──▶ ENDED ──▶ on_close
 *
 * Any stage may go to ENDED, by conn_end(): lws is told to forget the socket, and its callbacks find no connection in
 * the socket's place. What users of loop.h are told, and whatever may free an actor, happens in conn_settle(), which
 * the loop calls when no callback is running. What happens in TCP is dial.c's.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/evp.h>

#include "hosts.h"
#include "loop_internal.h"
#include "wipe.h"

#define MS 1000000LL
#define CONNECT_TIMEOUT_MS 5000
#define PING_TIMEOUT_MS 5000
#define MAX_MESSAGE_BYTES ((size_t)16 << 20)
#define TOO_BIG 1009
#define MAX_UNSENT_BYTES ((size_t)4 << 20)
#define NOT_SENT_BYTES 65536 /* of ours in the kernel beyond what the server has room for */
#define DEAD_PATH_MS 15000u  /* what was sent and nobody has acknowledged for so long ends the connection */

/* ---- The end ----------------------------------------------------------------------------------------------------- */

static void free_conn(ws_conn *conn)
{
	conn_free_messages(conn);
	ws_deflate_free(conn->deflater);
	ws_tls_unref(conn->handshake.tls);
	as_wipe_free(conn->url.path); /* there may be a token in it, */
	free(conn->subprotocol);
	as_wipe_free(conn->headers); /* and a password or a key in them */
	free(conn->ca_file);
	free(conn->cert_file);
	free(conn->key_file);
	free(conn);
}

/* lws closes, or goes on closing, the socket by itself, and calls back for nobody. */
void conn_detach(ws_conn *conn)
{
	SSL *ssl = conn->wsi ? lws_get_ssl(conn->wsi) : NULL;
	if (ssl) {
		ws_tls_forget(ssl);
	}
	if (conn->wsi) {
		lws_set_opaque_user_data(conn->wsi, NULL);
		ws_loop_unwatch(conn);
		ws_loop_unsteady(conn->actor->loop);
	}
	conn->wsi = NULL;
	ws_tls_expect(NULL);
}

/* The socket is to be closed at once, which lws does when it comes round to it. */
static void drop(ws_conn *conn)
{
	struct lws *wsi = conn->wsi;
	conn_drop_attempts(conn);
	conn_detach(conn);
	if (wsi) {
		lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	}
}

/* Whether the same may go well in a moment; of an address, resolve.c has said so. */
static int may_pass(const ws_conn *conn, ws_why why)
{
	int status = conn->end.http_status;
	switch (why) {
	case WS_WHY_RESOLVE:
		return conn->end.passing;
	case WS_WHY_CONNECT:
	case WS_WHY_TIMEOUT:
		return 1;
	case WS_WHY_TLS:
		return conn->handshake.cut;
	case WS_WHY_HTTP: /* RFC 9110: 408 Request Timeout; RFC 6585: 429 Too Many Requests; and all that is the server's fault */
		return status == 408 || status == 429 || (status >= 500 && status <= 599);
	default:
		return 0;
	}
}

void conn_end(ws_conn *conn, ws_why why, int code, const char *format, ...)
{
	va_list arguments;
	if (conn->stage == WS_STAGE_ENDED) {
		return;
	}
	va_start(arguments, format);
	vsnprintf(conn->reason, sizeof(conn->reason), format, arguments);
	va_end(arguments);
	if (conn->too_big) { /* however the server took it */
		why = WS_WHY_TOO_BIG;
		code = TOO_BIG;
		snprintf(conn->reason, sizeof(conn->reason), "the server sent a message of more than %zu bytes",
				 conn->max_message_bytes);
	}
	conn->end.why = why;
	conn->end.passing = !conn->end.opened && may_pass(conn, why);
	conn->end.refused = conn->end.refused && why == WS_WHY_CONNECT;
	conn->end.code = code;
	conn->end.reason = conn->reason;
	conn->stage = WS_STAGE_ENDED;
	conn->alarm_ns = WS_NEVER;
	if (conn->lookup) {
		ws_lookup_cancel(conn->lookup);
		conn->lookup = NULL;
	}
	drop(conn);
	ws_actor_due(conn->actor);
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

static ws_stage stage_of(const ws_conn *conn)
{
	return conn->stage == WS_STAGE_TLS && conn->handshake.done ? WS_STAGE_HTTP : conn->stage;
}

/* There was a connection, and then no handshake of HTTP. what: lws's words. */
static void upgrade_failed(ws_conn *conn, const char *what, size_t n)
{
	int status = conn->end.http_status;
	if (status && status != 101) {
		conn_end(conn, WS_WHY_HTTP, WS_ABNORMAL, "%s answered HTTP %d instead of opening a WebSocket", conn->url.host,
				 status);
	} else if (conn->handshake.error[0]) {
		conn_end(conn, WS_WHY_TLS, WS_ABNORMAL, "%s", conn->handshake.error);
	} else if (status || memmem(what, n, "HS: ", 4) || memmem(what, n, "pars", 4)) {
		conn_end(conn, WS_WHY_HTTP, WS_ABNORMAL, "%s answered what is no WebSocket handshake (%.*s)", conn->url.host,
				 (int)n, what);
	} else {
		conn_end(conn, WS_WHY_CONNECT, WS_ABNORMAL, "%s closed the connection before it answered", conn->url.host);
	}
}

void conn_opening_failed(ws_conn *conn, const char *what, size_t n)
{
	if (stage_of(conn) != WS_STAGE_TLS) {
		upgrade_failed(conn, what, n);
	} else if (conn->handshake.error[0]) {
		conn_end(conn, WS_WHY_TLS, WS_ABNORMAL, "%s", conn->handshake.error);
	} else {
		conn->handshake.cut = 1;
		conn_end(conn, WS_WHY_TLS, WS_ABNORMAL, "%s closed the connection during TLS's handshake", conn->url.host);
	}
}

void conn_resolved(ws_conn *conn, ws_lookup *lookup)
{
	conn->lookup = NULL;
	if (lookup->why) {
		conn->end.passing = lookup->passing;
		conn_end(conn, lookup->why, WS_ABNORMAL, "%s", lookup->error);
		return;
	}
	if (lookup->tls) {
		conn->handshake.tls = lookup->tls;
		lookup->tls = NULL;
	}
	if (lookup->count) {
		memcpy(conn->addresses, lookup->addresses, sizeof(conn->addresses));
		conn->address_count = lookup->count;
	}
	conn_dial(conn);
}

/* What can be had without waiting needs no thread. */
static void begin(ws_conn *conn)
{
	conn->deadline_ns = as_now_ns() + conn->connect_timeout_ms * MS;
	conn->alarm_ns = conn->deadline_ns;
	conn->stage = WS_STAGE_RESOLVE;
	conn->address_count = ws_address_numeric(conn->url.host, conn->addresses[0], WS_ADDRESS_BYTES);
	if (conn->address_count && !conn->url.tls) {
		conn_dial(conn);
	} else if (ws_lookup_start(conn, !conn->address_count, conn->url.tls)) { /* even cached files are looked at there */
		conn->end.passing = 1;
		conn_end(conn, WS_WHY_RESOLVE, WS_ABNORMAL, "no memory or no thread to resolve %s", conn->url.host);
	}
}

/* ---- Alarms ------------------------------------------------------------------------------------------------------ */

static void opening_timed_out(ws_conn *conn)
{
	const char *missing = "an answer to the WebSocket handshake";
	switch (stage_of(conn)) {
	case WS_STAGE_RESOLVE:
		missing = "an address for its name";
		break;
	case WS_STAGE_TCP:
		missing = "a connection";
		break;
	case WS_STAGE_TLS:
		missing = "the end of TLS's handshake";
		break;
	default:
		break;
	}
	conn_end(conn, WS_WHY_TIMEOUT, WS_ABNORMAL, "%s: waited %d ms for %s", conn->url.host, conn->connect_timeout_ms,
			 missing);
}

void conn_alarm(ws_conn *conn, int64_t now_ns)
{
	if (conn->stage == WS_STAGE_OPEN) {
		conn_check_life(conn, now_ns);
	} else if (conn->stage == WS_STAGE_CLOSING) {
		conn_end(conn, WS_WHY_CLOSED, WS_ABNORMAL, "the server did not answer our CLOSE within %d ms",
				 conn->close_timeout_ms);
	} else if (now_ns >= conn->deadline_ns) {
		opening_timed_out(conn);
	} else if (conn->stage == WS_STAGE_TCP && conn->attempt_count < conn->address_count) {
		conn_dial(conn);
	}
}

/* ---- lws calls --------------------------------------------------------------------------------------------------- */

static void tcp_connected(ws_conn *conn, struct lws *wsi)
{
	int fd = lws_get_socket_fd(wsi), bytes = NOT_SENT_BYTES;
	unsigned dead_path_ms = DEAD_PATH_MS;
	conn->stage = conn->url.tls ? WS_STAGE_TLS : WS_STAGE_HTTP;
	conn->alarm_ns = conn->deadline_ns;
	/* What a server does not read is to stay with us, where it is counted and bounded. */
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
	/* A path that swallows everything would otherwise be noticed after the kernel's retransmissions, a quarter of an hour. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_path_ms, sizeof(dead_path_ms));
	if (conn->url.tls) {
		conn->handshake.host = conn->url.host;
		ws_tls_expect(&conn->handshake);
	}
}

static int add_headers(ws_conn *conn, char **at, size_t room)
{
	size_t n = strlen(conn->headers);
	if (n > room) {
		conn_end(conn, WS_WHY_OPTIONS, WS_ABNORMAL, "the headers to send are too long");
		return -1;
	}
	memcpy(*at, conn->headers, n);
	*at += n;
	return 0;
}

static int agree_to_deflate(ws_conn *conn, struct lws *wsi)
{
	char agreed[256];
	int n = lws_hdr_total_length(wsi, WSI_TOKEN_EXTENSIONS);
	if (n <= 0) {
		return 0;
	}
	if (!conn->deflate || lws_hdr_copy(wsi, agreed, sizeof(agreed), WSI_TOKEN_EXTENSIONS) <= 0 ||
		ws_deflate_new(agreed, &conn->deflater)) {
		conn_end(conn, WS_WHY_HTTP, WS_ABNORMAL, "%s chose an extension that was not offered", conn->url.host);
		return -1;
	}
	return 0;
}

/* The server's answer has been read, and lws is about to judge it. */
static int answered(ws_conn *conn, struct lws *wsi)
{
	conn->end.http_status = (int)lws_http_client_http_response(wsi);
	return conn->end.http_status == 101 ? agree_to_deflate(conn, wsi) : 0;
}

static void opened(ws_conn *conn)
{
	ws_actor *actor = conn->actor;
	conn->stage = WS_STAGE_OPEN;
	conn->end.opened = 1;
	conn->alarm_ns = WS_NEVER;
	ws_loop_watch(conn);
	conn_heard(conn);
	conn_check_life(conn, as_now_ns());
	if (conn->stage == WS_STAGE_OPEN && actor->callbacks.on_open) {
		actor->callbacks.on_open(actor->arg);
	}
}

/* lws has closed the socket. what: its words, when it was not open. */
static void gone(ws_conn *conn, struct lws *wsi, const char *what, size_t n)
{
	if (lws_get_ssl(wsi) && stage_of(conn) == WS_STAGE_HTTP) {
		ws_tls_read_alert(lws_get_ssl(wsi));
	}
	conn_detach(conn);
	if (conn->stage == WS_STAGE_CLOSING) {
		conn_end(conn, WS_WHY_CLOSED, WS_ABNORMAL, "the server closed the connection without answering our CLOSE");
	} else if (conn->stage == WS_STAGE_OPEN && conn->handshake.error[0]) {
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "the connection was lost: %s", conn->handshake.error);
	} else if (conn->stage == WS_STAGE_OPEN) {
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "the connection was lost, or the server broke the protocol");
	} else {
		conn_opening_failed(conn, what ? what : "", what ? n : 0);
	}
}

/* A connection that nobody waits for is given up by the answer -1, where lws can take it: after one to RECEIVE it
 * may go on to fill a buffer that is full. */
static int orphan_callback(struct lws *wsi, enum lws_callback_reasons reason)
{
	switch (reason) {
	case LWS_CALLBACK_WSI_CREATE: /* connected at the moment when it was given up: TLS is to get nowhere */
		shutdown(lws_get_socket_fd(wsi), SHUT_RDWR);
		return 0;
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return -1;
	default:
		return 0;
	}
}

static int open_callback(ws_conn *conn, enum lws_callback_reasons reason, void *in, size_t n)
{
	switch (reason) {
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		opened(conn);
		break;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		conn_received(conn, in, n);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		conn_heard(conn);
		break;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		conn_writeable(conn);
		break;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		return conn_close_received(conn, in, n);
	default:
		break;
	}
	return conn->stage == WS_STAGE_ENDED ? -1 : 0;
}

ws_conn *conn_of(struct lws *wsi)
{
	ws_attempt *attempt = lws_get_opaque_user_data(wsi);
	return attempt ? attempt->conn : NULL;
}

/* An attempt has come to its end. */
static int attempt_callback(ws_attempt *attempt, struct lws *wsi, enum lws_callback_reasons reason)
{
	switch (reason) {
	case LWS_CALLBACK_WSI_CREATE:
		conn_attempt_connected(attempt, wsi);
		tcp_connected(attempt->conn, wsi);
		break;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
	case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
	case LWS_CALLBACK_WSI_DESTROY:
		lws_set_opaque_user_data(wsi, NULL);
		conn_attempt_failed(attempt);
		break;
	default:
		break;
	}
	return 0;
}

int conn_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	(void)user;
	ws_attempt *attempt = lws_get_opaque_user_data(wsi);
	if (!attempt) {
		return orphan_callback(wsi, reason);
	}
	ws_conn *conn = attempt->conn;
	if (conn->stage == WS_STAGE_TCP) {
		return attempt_callback(attempt, wsi, reason);
	}
	switch (reason) {
	case LWS_CALLBACK_CLIENT_CONFIRM_EXTENSION_SUPPORTED:
		return !conn->deflate;
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return add_headers(conn, in, n);
	case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
		return answered(conn, wsi);
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
	case LWS_CALLBACK_CLIENT_CLOSED:
	case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
	case LWS_CALLBACK_WSI_DESTROY:
		gone(conn, wsi, in, n);
		return 0;
	default:
		return open_callback(conn, reason, in, n);
	}
}

/* ---- The actor's calls ------------------------------------------------------------------------------------------- */

/* Takes the ended connection from the actor, which may connect again in on_close. */
static void report(ws_actor *actor)
{
	ws_conn *conn = actor->conn;
	actor->conn = NULL;
	if (actor->callbacks.on_close) {
		actor->callbacks.on_close(actor->arg, &conn->end);
	}
	free_conn(conn);
}

void conn_settle(ws_actor *actor)
{
	ws_conn *conn = actor->conn;
	if (conn && conn->stage == WS_STAGE_NEW) {
		begin(conn);
	} else if (conn && conn->stage == WS_STAGE_TCP && conn->dial_due) {
		conn_dial(conn);
	} else if (conn && conn->stage == WS_STAGE_ENDED) {
		report(actor);
	}
}

static void set_limits(ws_conn *conn, const ws_options *options)
{
	conn->handshake.allow_selfsigned = options->allow_selfsigned;
	conn->handshake.allow_expired = options->allow_expired;
	conn->handshake.skip_hostname_check = options->skip_hostname_check;
	conn->deflate = options->deflate;
	conn->connect_timeout_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
	conn->ping_interval_ms = options->ping_interval_ms;
	conn->ping_timeout_ms = options->ping_timeout_ms > 0 ? options->ping_timeout_ms : PING_TIMEOUT_MS;
	conn->max_message_bytes = options->max_message_bytes ? options->max_message_bytes : MAX_MESSAGE_BYTES;
	conn->max_unsent_bytes = options->max_unsent_bytes ? options->max_unsent_bytes : MAX_UNSENT_BYTES;
}

static char *copy(const char *text, int *failed)
{
	char *copied = text && *text ? strdup(text) : NULL;
	*failed |= text && *text && !copied;
	return copied;
}

/* 0, AS_ENOMEM, or AS_EINVAL with the reason in error. */
static int set_options(ws_conn *conn, const ws_options *options, char *error, size_t bytes)
{
	int failed = 0;
	set_limits(conn, options);
	conn->ca_file = copy(options->ca_file, &failed);
	conn->cert_file = copy(options->cert_file, &failed);
	conn->key_file = copy(options->key_file, &failed);
	conn->subprotocol = copy(options->subprotocol, &failed);
	if (failed) {
		return AS_ENOMEM;
	}
	int result = ws_url_parse(options->url, &conn->url, error, bytes);
	if (!result && !ws_hosts_allowed(options->url)) {
		snprintf(error, bytes, "allow-hosts in audio_stream.conf.xml does not name %s", conn->url.host);
		result = AS_EINVAL;
	}
	if (!result && conn->subprotocol) {
		result = ws_subprotocol_check(conn->subprotocol, error, bytes);
	}
	if (!result) {
		result = ws_headers_join(options->headers, options->user, options->password, &conn->headers, error, bytes);
	}
	return result;
}

int ws_connect(ws_actor *actor, const ws_options *options)
{
	char error[WS_REASON_BYTES] = "";
	if (!options || !options->url || actor->finished) {
		return AS_EINVAL;
	}
	if (actor->conn) {
		return AS_EBUSY;
	}
	ws_conn *conn = calloc(1, sizeof(*conn));
	if (!conn) {
		return AS_ENOMEM;
	}
	conn->actor = actor;
	conn->alarm_ns = WS_NEVER;
	int result = set_options(conn, options, error, sizeof(error));
	if (result == AS_ENOMEM) {
		free_conn(conn);
		return result;
	}
	actor->conn = conn;
	if (result) {
		conn_end(conn, WS_WHY_OPTIONS, WS_ABNORMAL, "%s", error);
	}
	ws_actor_due(actor);
	return 0;
}

int ws_is_open(const ws_actor *actor)
{
	return actor->conn && actor->conn->stage == WS_STAGE_OPEN;
}

void ws_disconnect(ws_actor *actor, int code, const char *reason, int timeout_ms)
{
	ws_conn *conn = actor->conn;
	if (!conn || conn->stage == WS_STAGE_ENDED) {
		return;
	}
	if (conn->stage < WS_STAGE_OPEN) {
		conn_end(conn, WS_WHY_CLOSED, WS_ABNORMAL, "given up before it was open");
	} else if (timeout_ms <= 0) {
		conn_end(conn, WS_WHY_CLOSED, WS_ABNORMAL, "%s", reason && *reason ? reason : "dropped by us");
	} else if (conn->stage == WS_STAGE_OPEN) {
		conn_begin_close(conn, code, reason, timeout_ms);
	}
}
