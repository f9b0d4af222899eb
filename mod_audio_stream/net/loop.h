/*
 * loop.h - WebSocket connections of many actors on a few service threads.
 *
 * An *actor* is something that talks to one server at a time: a streamer, a Realtime conversation. It lives on one
 * service thread, and all of its callbacks run there: its state needs no lock. Other threads reach it with ws_post().
 *
 *     any thread        ws_actor_new()   ws_post()   ws_actor_unref()
 *     service thread    callbacks; ws_connect()   ws_send()   ws_unsent()   ws_disconnect()   ws_finish()
 *
 * A callback must not block: everybody else on its thread waits meanwhile. Names are resolved, and files of
 * certificates read, on threads of their own. The service threads start with the first actor and stay until
 * ws_loops_stop().
 *
 * Connections go straight to the server: what the environment says of proxies is ignored, redirects are not followed.
 * Each service thread has room for about 4,000. libwebsockets before 4.3 lets a server's close codes 1012 to 1014
 * arrive as 1002.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stddef.h>
#include <stdint.h>

#define WS_TICK_MS 2 /* how often on_tick() is called */
#define WS_THREADS_MAX 16
#define WS_THREADS_DEFAULT 2

/* Close codes of our own making (RFC 6455 section 7.4.1 reserves both: they never travel). */
#define WS_NO_STATUS 1005 /* the server sent CLOSE without a code */
#define WS_ABNORMAL 1006  /* the connection ended without a CLOSE, or never opened */

typedef struct ws_actor ws_actor;

/* What a connection is to be like. Strings may be NULL (none). Copied by ws_connect(). */
typedef struct ws_options {
	const char *url;                  /* ws://host[:port][/path][?query] or wss://...; see ws_url_check() */
	const char *subprotocol;          /* Sec-WebSocket-Protocol */
	const char *const *headers;       /* "Name: value", the last one followed by NULL */
	const char *user, *password;      /* HTTP basic authentication */
	const char *ca_file;              /* PEM to trust instead of the system's authorities */
	const char *cert_file, *key_file; /* client certificate (PEM) */
	int allow_selfsigned, allow_expired, skip_hostname_check;
	int deflate;              /* offer permessage-deflate */
	int connect_timeout_ms;   /* until the handshake is done, name resolution included; 0 = 5000 */
	int ping_interval_ms;     /* when nothing has come for this long; 0 = never */
	int ping_timeout_ms;      /* then given up on after this; 0 = 5000 */
	size_t max_message_bytes; /* of one message, decompressed; longer ones close with 1009; 0 = 16 MiB */
	size_t max_unsent_bytes;  /* ws_send() beyond it fails; 0 = 4 MiB */
} ws_options;

typedef enum ws_why {
	WS_WHY_CLOSED = 1, /* the server sent CLOSE, or we did and it answered (or did not in time) */
	WS_WHY_LOST,       /* the connection broke */
	WS_WHY_SILENT,     /* no answer to a ping */
	WS_WHY_TOO_BIG,    /* a message was longer than max_message_bytes */
	WS_WHY_RESOLVE,    /* never opened: no address */
	WS_WHY_CONNECT,    /* never opened: refused, unreachable */
	WS_WHY_TLS,        /* never opened: the certificate, or TLS itself */
	WS_WHY_HTTP,       /* never opened: the server answered something else than 101; http_status says what */
	WS_WHY_TIMEOUT,    /* never opened: not within connect_timeout_ms */
	WS_WHY_OPTIONS,    /* never opened: an unreadable file, a bad header */
} ws_why;

typedef struct ws_end {
	ws_why why;
	int opened;         /* it had been open */
	int code;           /* the close code, WS_NO_STATUS or WS_ABNORMAL */
	int http_status;    /* 0 when there was none */
	int passing;        /* never opened, and trying again in a moment may help */
	int refused;        /* never opened: an address said that nobody listens there */
	const char *reason; /* the server's, or what went wrong in words that name the cause; never NULL */
} ws_end;

/* All on the actor's service thread. NULL for those not wanted, but on_free. */
typedef struct ws_callbacks {
	void (*on_start)(void *arg);                /* first of all */
	void (*on_tick)(void *arg, int64_t now_ns); /* every WS_TICK_MS, connected or not */
	void (*on_open)(void *arg);
	/* A whole message. data[n] is 0, and data may be written to; it is gone after the callback. */
	void (*on_message)(void *arg, int binary, char *data, size_t n);
	void (*on_close)(void *arg, const ws_end *end); /* once for each successful ws_connect(); may connect again */
	void (*on_free)(void *arg);                     /* last of all: after ws_finish() and the last unref */
} ws_callbacks;

/* ---- Any thread -------------------------------------------------------------------------------------------------- */

/* AS_ENOMEM, or AS_EINVAL when threads cannot be started. The caller gets one reference; the actor holds one of its own
 * until ws_finish(). */
int ws_actor_new(const ws_callbacks *callbacks, void *arg, ws_actor **out);
ws_actor *ws_actor_ref(ws_actor *actor);
void ws_actor_unref(ws_actor *actor);
/* Runs run(arg, message) on the actor's thread, in the order of posting, or drop(message) there instead once the actor
 * has finished; drop may be NULL. The actor's arg stays valid until on_free. AS_ENOMEM. After ws_loops_stop() there is
 * no such thread, and every actor has finished: drop, and on_free, are called by whoever posts or gives back the last
 * reference. */
int ws_post(ws_actor *actor, void (*run)(void *arg, void *message), void *message, void (*drop)(void *message));
/* How many service threads from the next start on, 1..WS_THREADS_MAX. AS_EINVAL. */
int ws_loops_set(int threads);
/* Ends all service threads, after closing what is still connected (on_close, on_free are called). Waits. Not from a
 * service thread. The next ws_actor_new() starts them again. */
void ws_loops_stop(void);
/* Checks a URL without connecting: 0, or AS_EINVAL with the reason in error. IPv6 addresses stand in brackets; users,
 * passwords and fragments are refused, and hosts beyond 100 or paths (with their query) beyond 2,000 characters. */
int ws_url_check(const char *url, char *error, size_t bytes);

/* ---- The actor's service thread ---------------------------------------------------------------------------------- */

/* Starts to connect; on_open or on_close follows. AS_EBUSY while connected or connecting, AS_EINVAL, AS_ENOMEM. */
int ws_connect(ws_actor *actor, const ws_options *options);
/* Queues a message. AS_ECLOSED unless open, AS_EFULL beyond max_unsent_bytes, or when the queue needs as much for messages that
 * are empty, AS_ENOMEM. */
int ws_send(ws_actor *actor, int binary, const void *data, size_t n);
/* Bytes queued and not yet handed to the kernel; a message counts until its last byte has been. */
size_t ws_unsent(const ws_actor *actor);
int ws_is_open(const ws_actor *actor);
int64_t ws_last_received_ns(const ws_actor *actor); /* any thread may ask; 0 before the first byte */
/* Sends what is queued, then CLOSE, and waits up to timeout_ms for the server's; 0 drops the connection at once.
 * on_close follows in any case, never from inside this call. */
void ws_disconnect(ws_actor *actor, int code, const char *reason, int timeout_ms);
/* The actor's end: no callback but on_close (when connected or connecting) and on_free comes after it. The
 * connection is dropped; ws_disconnect() first and finish in on_close for a polite end. */
void ws_finish(ws_actor *actor);

#endif
