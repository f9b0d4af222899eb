/*
 * transfer.c - what goes through an open connection: messages, pings, CLOSE. Service thread, all of it.
 *
 * Messages wait in a queue of ours until lws says that the socket takes more; lws keeps at most the rest of one of
 * them. What arrives is put together in a buffer that a connection has only while a message is incomplete.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "loop_internal.h"

#define MS 1000000LL
#define TURN_BYTES 65536             /* sent for one connection before the others have their turn */
#define AHEAD_BYTES ((size_t)262144) /* of an announced message, to make room for before it has come */
#define KERNEL_CLOCK_NS (10 * MS)    /* how wrong the kernel's "last received" may be */
#define RSV1 0x40                    /* of a frame's first byte: the message is compressed */
#define PROTOCOL_ERROR 1002
#define TOO_BIG 1009
#define TOO_BIG_TIMEOUT_MS 1000
/* lws's own number for a CLOSE frame. Its public way, lws_close_reason(), keeps the server's answer to itself. */
#define WRITE_CLOSE ((enum lws_write_protocol)4)

/* ---- Receiving --------------------------------------------------------------------------------------------------- */

void conn_heard(ws_conn *conn)
{
	atomic_store_explicit(&conn->actor->last_received_ns, as_now_ns(), memory_order_relaxed);
	conn->ping_ns = 0;
}

/* Room for n more bytes, a NUL, and some of what has been announced. */
static int make_room(ws_conn *conn, size_t n, size_t announced)
{
	size_t need = conn->in_bytes + n + 1;
	if (!conn->in) {
		conn->in = ws_loop_take_buffer(conn->actor->loop, &conn->in_room);
	}
	if (need <= conn->in_room) {
		return 0;
	}
	size_t room = need + (announced < AHEAD_BYTES ? announced : AHEAD_BYTES);
	room = room < 2 * conn->in_room ? 2 * conn->in_room : room;
	char *bigger = realloc(conn->in, room);
	if (!bigger) {
		return AS_ENOMEM;
	}
	conn->in = bigger;
	conn->in_room = room;
	return 0;
}

static void deliver(ws_conn *conn, int binary)
{
	ws_actor *actor = conn->actor;
	char *data = conn->in;
	size_t n = conn->in_bytes, room = conn->in_room;
	conn->in = NULL;
	conn->in_bytes = conn->in_room = 0;
	data[n] = 0;
	if (actor->callbacks.on_message) {
		actor->callbacks.on_message(actor->arg, binary, data, n);
	}
	ws_loop_give_buffer(actor->loop, data, room);
}

/* Puts what it says in the place of a compressed message. */
static int unpack(ws_conn *conn)
{
	char *out = NULL;
	size_t room = 0, bytes = 0;
	int result =
		ws_deflate_unpack(conn->deflater, conn->in, conn->in_bytes, conn->max_message_bytes, &out, &room, &bytes);
	if (result) {
		free(out);
		return result;
	}
	ws_loop_give_buffer(conn->actor->loop, conn->in, conn->in_room);
	conn->in = out;
	conn->in_room = room;
	conn->in_bytes = bytes;
	return 0;
}

/* From now on the connection is only there to say CLOSE, and hears nothing else than its answer. */
static void refuse_message(ws_conn *conn)
{
	conn_free_messages(conn);
	conn->too_big = 1;
	conn_begin_close(conn, TOO_BIG, "message too big", TOO_BIG_TIMEOUT_MS);
}

static void complete(ws_conn *conn, int binary)
{
	int result = conn->in_packed ? unpack(conn) : 0;
	if (!result) {
		deliver(conn, binary);
	} else if (result == AS_EFULL) {
		refuse_message(conn);
	} else {
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "a compressed message of the server cannot be decompressed");
	}
}

void conn_received(ws_conn *conn, const char *data, size_t n)
{
	struct lws *wsi = conn->wsi;
	size_t announced = lws_remaining_packet_payload(wsi), most = conn->max_message_bytes;
	conn_heard(conn);
	if (conn->too_big) {
		return;
	}
	if (lws_is_first_fragment(wsi)) {
		conn->in_packed = conn->deflater && (lws_get_reserved_bits(wsi) & RSV1);
	}
	most += conn->in_packed ? most / 256 + 64 : 0; /* what does not shrink grows a little */
	if (announced > most || conn->in_bytes + n + announced > most) {
		refuse_message(conn);
		return;
	}
	if (make_room(conn, n, announced)) {
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "out of memory for a message of the server");
		return;
	}
	memcpy(conn->in + conn->in_bytes, data, n);
	conn->in_bytes += n;
	if (lws_is_final_fragment(wsi)) {
		complete(conn, lws_frame_is_binary(wsi));
	}
}

/* The extension, as lws sees it: something that allows RSV1, and sets it. The rest is done here and in deflate.c. */
int conn_extension(struct lws_context *context, const struct lws_extension *extension, struct lws *wsi,
				   enum lws_extension_callback_reasons reason, void *user, void *in, size_t n)
{
	static const struct lws_ext_options parameters[] = {
		{"server_no_context_takeover", EXTARG_NONE},
		{"client_no_context_takeover", EXTARG_NONE},
		{"server_max_window_bits", EXTARG_OPT_DEC},
		{"client_max_window_bits", EXTARG_OPT_DEC},
		{0},
	};
	(void)context, (void)extension, (void)n;
	ws_conn *conn = conn_of(wsi);
	if (reason == LWS_EXT_CB_CLIENT_CONSTRUCT) {
		*(void **)user = wsi;
		*(const struct lws_ext_options **)in = parameters;
	} else if (reason == LWS_EXT_CB_PACKET_TX_PRESEND && conn && conn->out_packed) {
		*((struct lws_tokens *)in)->token |= RSV1;
	}
	return 0;
}

/* ---- Sending ----------------------------------------------------------------------------------------------------- */

int ws_send(ws_actor *actor, int binary, const void *data, size_t n)
{
	ws_conn *conn = actor->conn;
	if (!ws_is_open(actor)) {
		return AS_ECLOSED;
	}
	/* What the queue needs for each is bounded by as much: many small messages take memory, too. */
	size_t unsent = ws_unsent(actor), headers = (conn->waiting + 1) * (sizeof(ws_out) + LWS_PRE);
	if (headers > conn->max_unsent_bytes || n > conn->max_unsent_bytes || unsent > conn->max_unsent_bytes - n) {
		return AS_EFULL;
	}
	ws_out *out = malloc(sizeof(*out) + LWS_PRE + n);
	if (!out) {
		return AS_ENOMEM;
	}
	*out = (ws_out){.n = n, .binary = binary};
	if (n) {
		memcpy(out->data + LWS_PRE, data, n);
	}
	if (conn->out_last) {
		conn->out_last->next = out;
	} else {
		conn->out_first = out;
	}
	conn->out_last = out;
	conn->queued += n;
	conn->waiting++;
	ws_loop_want_write(conn);
	return 0;
}

size_t ws_unsent(const ws_actor *actor)
{
	return actor->conn ? actor->conn->queued + actor->conn->in_lws : 0;
}

int64_t ws_last_received_ns(const ws_actor *actor)
{
	return atomic_load_explicit(&actor->last_received_ns, memory_order_relaxed);
}

static int write_frame(ws_conn *conn, unsigned char *data, size_t n, enum lws_write_protocol kind)
{
	if (lws_write(conn->wsi, data, n, kind) < 0) {
		conn_detach(conn);
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "the connection was lost while sending");
		return -1;
	}
	return 0;
}

/* A copy of the message in less bytes; or the message. */
static ws_out *pack(ws_conn *conn, ws_out *out)
{
	size_t n = 0;
	ws_out *packed = conn->deflater ? malloc(sizeof(*out) + LWS_PRE + out->n) : NULL;
	if (packed) {
		n = ws_deflate_pack(conn->deflater, out->data + LWS_PRE, out->n, packed->data + LWS_PRE, out->n);
	}
	conn->out_packed = n > 0;
	if (n == 0) {
		free(packed);
		return out;
	}
	*packed = (ws_out){.n = n, .binary = out->binary};
	free(out);
	return packed;
}

/* Hands the oldest message to lws, which keeps what the kernel does not take. Returns its bytes, or -1 at the end. */
static long write_message(ws_conn *conn)
{
	ws_out *out = conn->out_first;
	size_t n = out->n;
	conn->out_first = out->next;
	conn->out_last = conn->out_first ? conn->out_last : NULL;
	conn->queued -= n;
	conn->waiting--;
	out = pack(conn, out);
	int error = write_frame(conn, out->data + LWS_PRE, out->n, out->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
	conn->out_packed = 0;
	free(out);
	if (error) {
		return -1;
	}
	conn->in_lws = lws_partial_buffered(conn->wsi) ? n : 0;
	return (long)n;
}

static int write_ping(ws_conn *conn)
{
	unsigned char frame[LWS_PRE + 1];
	conn->ping_due = 0;
	return write_frame(conn, frame + LWS_PRE, 0, LWS_WRITE_PING);
}

static int write_close(ws_conn *conn)
{
	unsigned char frame[LWS_PRE + 2 + WS_CLOSE_REASON_MAX];
	size_t n = strlen(conn->close_reason);
	frame[LWS_PRE] = (unsigned char)(conn->close_code >> 8);
	frame[LWS_PRE + 1] = (unsigned char)conn->close_code;
	memcpy(frame + LWS_PRE + 2, conn->close_reason, n);
	conn->close_sent = 1;
	return write_frame(conn, frame + LWS_PRE, 2 + n, WRITE_CLOSE);
}

void conn_writeable(ws_conn *conn)
{
	if (lws_partial_buffered(conn->wsi)) {
		ws_loop_choked(conn, 1);
		return;
	}
	conn->in_lws = 0;
	if (conn->close_sent || (conn->ping_due && write_ping(conn))) {
		return;
	}
	for (long sent = 0, n; conn->out_first && sent < TURN_BYTES && !lws_send_pipe_choked(conn->wsi); sent += n + 1) {
		n = write_message(conn);
		if (n < 0) {
			return;
		}
	}
	if (conn->stage == WS_STAGE_CLOSING && !conn->out_first && !conn->in_lws && write_close(conn)) {
		return;
	}
	ws_loop_choked(conn, conn->out_first || conn->in_lws);
}

/* ---- Signs of life ----------------------------------------------------------------------------------------------- */

/* The kernel knows of bytes that lws keeps to itself: pings, and messages that come so slowly that lws waits for
 * more. */
static int64_t last_heard(ws_conn *conn, int64_t now_ns)
{
	int64_t heard = ws_last_received_ns(conn->actor);
	struct tcp_info info;
	socklen_t bytes = sizeof(info);
	if (getsockopt(lws_get_socket_fd(conn->wsi), IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0) {
		int64_t kernel = now_ns - info.tcpi_last_data_recv * MS - KERNEL_CLOCK_NS;
		if (kernel > heard) {
			atomic_store_explicit(&conn->actor->last_received_ns, kernel, memory_order_relaxed);
			return kernel;
		}
	}
	return heard;
}

void conn_check_life(ws_conn *conn, int64_t now_ns)
{
	int64_t interval = conn->ping_interval_ms * MS, timeout = conn->ping_timeout_ms * MS;
	if (interval <= 0) {
		conn->alarm_ns = WS_NEVER;
		return;
	}
	int64_t heard = last_heard(conn, now_ns);
	if (heard >= conn->ping_ns) {
		conn->ping_ns = 0;
	}
	if (conn->ping_ns && now_ns >= conn->ping_ns + timeout) {
		conn_end(conn, WS_WHY_SILENT, WS_ABNORMAL, "the server did not answer a ping within %d ms",
				 conn->ping_timeout_ms);
		return;
	}
	if (!conn->ping_ns && now_ns >= heard + interval) {
		conn->ping_ns = now_ns;
		conn->ping_due = 1;
		ws_loop_want_write(conn);
	}
	conn->alarm_ns = conn->ping_ns ? conn->ping_ns + timeout : heard + interval;
	if (conn->alarm_ns > now_ns + interval) { /* the answer may be here long before the timeout */
		conn->alarm_ns = now_ns + interval;
	}
}

/* ---- CLOSE ------------------------------------------------------------------------------------------------------- */

/* Is it a code that RFC 6455, the registry, or applications may use in a CLOSE? */
static int may_travel(int code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int is_continuation(char byte)
{
	return (byte & 0xc0) == 0x80;
}

void conn_begin_close(ws_conn *conn, int code, const char *reason, int timeout_ms)
{
	size_t n = reason ? strlen(reason) : 0;
	while (n > WS_CLOSE_REASON_MAX || (n > 0 && n < strlen(reason) && is_continuation(reason[n]))) {
		n--;
	}
	memcpy(conn->close_reason, n ? reason : "", n);
	conn->close_reason[n] = 0;
	conn->close_code = may_travel(code) ? code : 1000;
	conn->close_timeout_ms = timeout_ms;
	conn->stage = WS_STAGE_CLOSING;
	conn->alarm_ns = as_now_ns() + timeout_ms * MS;
	ws_loop_unsteady(conn->actor->loop);
	ws_loop_want_write(conn);
}

/* How many bytes a UTF-8 sequence has that begins here; 0 when none does. */
static size_t utf8_sequence(const unsigned char *text, size_t n)
{
	size_t more = *text < 0x80 ? 0 : *text >= 0xc2 && *text < 0xe0 ? 1 : *text >= 0xe0 && *text < 0xf0 ? 2 : 3;
	if (more >= n || (*text >= 0x80 && *text < 0xc2) || *text > 0xf4 || (*text == 0xe0 && text[1] < 0xa0) ||
		(*text == 0xed && text[1] > 0x9f) || (*text == 0xf0 && text[1] < 0x90) || (*text == 0xf4 && text[1] > 0x8f)) {
		return 0;
	}
	for (size_t i = 1; i <= more; i++) {
		if (!is_continuation((char)text[i])) {
			return 0;
		}
	}
	return more + 1;
}

/* The server's words, as UTF-8 and without control characters whatever they were. */
static void clean(const unsigned char *text, size_t n, char *out)
{
	while (n > 0) {
		size_t length = utf8_sequence(text, n);
		if (length == 0 || *text < ' ' || *text == 127) {
			*out++ = '?';
			length = 1;
		} else {
			memcpy(out, text, length);
			out += length;
		}
		text += length;
		n -= length;
	}
	*out = 0;
}

int conn_close_received(ws_conn *conn, const unsigned char *data, size_t n)
{
	char reason[128] = "";
	int code = n >= 2 ? data[0] << 8 | data[1] : n ? PROTOCOL_ERROR : WS_NO_STATUS;
	if (n >= 2 && n <= 125) {
		clean(data + 2, n - 2, reason);
	}
	if (n >= 2 && !may_travel(code)) {
		code = PROTOCOL_ERROR;
	}
	if (conn->close_sent) {
		conn_end(conn, WS_WHY_CLOSED, code, "%s", reason);
		return -1;
	}
	conn_detach(conn); /* lws answers the CLOSE, and closes the socket then */
	conn_end(conn, WS_WHY_CLOSED, code, "%s", reason);
	return 0;
}

void conn_free_messages(ws_conn *conn)
{
	for (ws_out *out = conn->out_first, *next; out; out = next) {
		next = out->next;
		free(out);
	}
	if (conn->in) {
		ws_loop_give_buffer(conn->actor->loop, conn->in, conn->in_room);
	}
	conn->out_first = conn->out_last = NULL;
	conn->in = NULL;
	conn->waiting = conn->queued = conn->in_bytes = conn->in_room = 0;
}
