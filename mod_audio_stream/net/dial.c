/*
 * dial.c - TCP: the first of a name's addresses to answer (RFC 8305, "happy eyeballs"). Service thread, all of it.
 *
 * The addresses come from resolve.c, their families taking turns. An attempt begins NEXT_ATTEMPT_MS after the one before,
 * or as soon as that has failed. Those under way go on until one is connected; the others are closed then. No attempt has a
 * timeout of its own: the connection's deadline bounds them all.
 *
 * Each attempt is a client of lws, whose opaque user data it is. lws reads a socket's error and keeps it to itself, so
 * an attempt has a second descriptor of its socket, where the kernel tells what has happened to it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/tcp.h> /* instead of netinet/tcp.h, whose tcp_info has no tcpi_segs_in */

#include "loop_internal.h"

#define MS 1000000LL
#define NEXT_ATTEMPT_MS 250 /* RFC 8305 section 8, "Connection Attempt Delay" */

static const lws_retry_bo_t no_policy; /* lws neither pings nor hangs up by itself */

/* Of a socket that never was connected: has the other side said so? Only a RST does: what an ICMP message ends has received
 * no segment. */
static int was_refused(int fd)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);
	return fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
		   bytes >= offsetof(struct tcp_info, tcpi_segs_in) + sizeof(info.tcpi_segs_in) && info.tcpi_segs_in > 0;
}

/* The attempt is over; lws may have its wsi for a while. */
static void forget(ws_attempt *attempt)
{
	if (attempt->fd >= 0) {
		close(attempt->fd);
		attempt->fd = -1;
	}
	if (attempt->wsi) {
		lws_set_opaque_user_data(attempt->wsi, NULL);
		attempt->wsi = NULL;
	}
	attempt->conn->trying -= attempt->trying;
	attempt->trying = 0;
}

/* The socket is closed in lws's next round. Until then it is of no use: lws may be about to find it connected. */
static void drop(ws_attempt *attempt)
{
	struct lws *wsi = attempt->wsi;
	if (attempt->fd >= 0) {
		shutdown(attempt->fd, SHUT_RDWR);
	}
	forget(attempt);
	if (wsi) {
		lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	}
}

void conn_drop_attempts(ws_conn *conn)
{
	for (int i = 0; i < conn->attempt_count; i++) {
		if (conn->attempts[i].trying) {
			drop(&conn->attempts[i]);
			ws_loop_unsteady(conn->actor->loop);
		}
	}
}

void conn_attempt_failed(ws_attempt *attempt)
{
	ws_conn *conn = attempt->conn;
	if (!attempt->trying) {
		return;
	}
	conn->end.refused |= was_refused(attempt->fd);
	forget(attempt);
	if (conn->attempt_count < conn->address_count) {
		conn->dial_due = 1;
		ws_actor_due(conn->actor);
	} else if (!conn->trying) {
		conn_end(conn, WS_WHY_CONNECT, WS_ABNORMAL, "cannot connect to %s port %d (%s): %s", conn->url.host,
				 conn->url.port, conn->addresses[attempt - conn->attempts],
				 conn->end.refused ? "refused" : "not reachable");
	}
}

void conn_attempt_connected(ws_attempt *attempt, struct lws *wsi)
{
	ws_conn *conn = attempt->conn;
	conn->wsi = wsi;
	attempt->wsi = NULL; /* and keeps its place in lws's opaque user data: its connection is found by it */
	forget(attempt);
	conn_drop_attempts(conn);
}

static void begin(ws_conn *conn, ws_attempt *attempt, const char *address)
{
	int tls = LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK; /* tls.c checks it */
	struct lws_client_connect_info info = {
		.context = conn->actor->loop->context,
		.vhost = conn->actor->loop->vhost,
		.address = address, /* no name, which lws would wait for */
		.port = conn->url.port,
		.ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (conn->url.tls ? tls : 0),
		.path = conn->url.path,
		.host = conn->url.authority,
		.protocol = conn->subprotocol,
		.local_protocol_name = WS_PROTOCOL_NAME,
		.ietf_version_or_minus_one = -1,
		.alpn = "http/1.1",
		.opaque_user_data = attempt,
		.retry_and_idle_policy = &no_policy,
	};
	*attempt = (ws_attempt){.conn = conn, .fd = -1, .trying = 1};
	conn->trying++;
	ws_loop_unsteady(conn->actor->loop);
	struct lws *wsi = lws_client_connect_via_info(&info);
	if (wsi && attempt->trying) {
		attempt->wsi = wsi;
		attempt->fd = fcntl(lws_get_socket_fd(wsi), F_DUPFD_CLOEXEC, 0);
	} else if (!wsi && conn->wsi) { /* connected, and lost in the same breath */
		conn->wsi = NULL;
		conn_opening_failed(conn, "", 0);
	} else if (!wsi) {
		conn_attempt_failed(attempt);
	}
}

void conn_dial(ws_conn *conn)
{
	int i = conn->attempt_count++;
	int64_t next_ns = as_now_ns() + NEXT_ATTEMPT_MS * MS;
	conn->stage = WS_STAGE_TCP;
	conn->dial_due = 0;
	conn->alarm_ns =
		conn->attempt_count < conn->address_count && next_ns < conn->deadline_ns ? next_ns : conn->deadline_ns;
	begin(conn, &conn->attempts[i], conn->addresses[i]);
}
