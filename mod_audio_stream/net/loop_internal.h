/*
 * loop_internal.h - what the files behind loop.h share.
 *
 *     loop.c         the service threads: how they start and end
 *     service.c      what a service thread does: one iteration after the other
 *     actor.c        actors, and how other threads reach them
 *     connection.c   one connection: from ws_connect() to on_close
 *     dial.c         TCP: the first of a name's addresses to answer
 *     transfer.c     what goes through an open one: messages, pings, CLOSE
 *     deflate.c      permessage-deflate
 *     resolve.c      names and certificates, on threads that may wait
 *     tls.c          who is trusted, and what was wrong with a certificate
 *     url.c          URLs and headers
 *
 * Everything here belongs to the service thread of the actor concerned unless it says otherwise.
 */
#ifndef NET_LOOP_INTERNAL_H
#define NET_LOOP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <libwebsockets.h>

#include "audio_stream.h"
#include "deflate.h"
#include "loop.h"
#include "tls.h"
#include "url.h"

#define WS_ADDRESSES_MAX 8
#define WS_ADDRESS_BYTES 64
#define WS_REASON_BYTES 256
#define WS_CLOSE_REASON_MAX 123
#define WS_SERVICE_BUFFER 32768 /* lws puts a handshake together in it */
#define WS_RECEIVE_BUFFER 8192  /* read at a time; one for each connection */
#define WS_NEVER INT64_MAX
#define WS_PROTOCOL_NAME "as-ws" /* lws's name for our callback; never on the wire */

typedef struct ws_loop ws_loop;
typedef struct ws_conn ws_conn;
typedef struct ws_lookup ws_lookup;

/* Something for a service thread to do, linked into its inbox. */
typedef struct ws_letter {
	struct ws_letter *next;
	void (*deliver)(struct ws_letter *letter);
} ws_letter;

typedef struct ws_out {
	struct ws_out *next;
	size_t n;
	int binary;
	unsigned char data[]; /* LWS_PRE bytes for lws, then the message */
} ws_out;

typedef enum ws_stage {
	WS_STAGE_NEW,     /* ws_connect() has been called */
	WS_STAGE_RESOLVE, /* waiting for addresses and certificates */
	WS_STAGE_TCP,     /* the addresses are being tried */
	WS_STAGE_TLS,
	WS_STAGE_HTTP,
	WS_STAGE_OPEN,
	WS_STAGE_CLOSING, /* CLOSE has been sent, or is to be when everything else has */
	WS_STAGE_ENDED,   /* lws knows nothing of it any more; on_close is due */
} ws_stage;

/* One address being tried. */
typedef struct ws_attempt {
	ws_conn *conn;
	struct lws *wsi; /* while lws tries; NULL before it has returned, and once it is connected */
	int fd;          /* a second descriptor of its socket, -1: none */
	int trying;
} ws_attempt;

struct ws_conn {
	ws_actor *actor;
	struct lws *wsi;         /* the one that is connected, while lws has it */
	int fd, watched, choked; /* its socket; it is in events_fd, to be written to as well */
	ws_conn *next_writer;
	int is_writer;
	ws_stage stage;
	int64_t alarm_ns; /* when conn_alarm() wants to be called */

	/* what was asked for */
	ws_url url;
	char *subprotocol;
	char *headers; /* lines, each with its CR LF */
	char *ca_file, *cert_file, *key_file;
	int deflate, connect_timeout_ms, ping_interval_ms, ping_timeout_ms;
	size_t max_message_bytes, max_unsent_bytes;

	/* while opening */
	ws_lookup *lookup;
	ws_handshake handshake;
	char addresses[WS_ADDRESSES_MAX][WS_ADDRESS_BYTES];
	ws_attempt attempts[WS_ADDRESSES_MAX]; /* one for each address */
	int address_count, attempt_count, trying;
	int dial_due; /* the next attempt is to begin */
	int64_t deadline_ns;

	/* while open */
	ws_out *out_first, *out_last;
	size_t waiting;        /* messages in our queue */
	size_t queued, in_lws; /* bytes of whole messages: in our queue, in lws's hands */
	char *in;              /* the message that is arriving */
	size_t in_bytes, in_room;
	int in_packed, out_packed, too_big; /* the message is compressed; or was too long */
	ws_deflate *deflater;               /* when that has been agreed */
	int64_t ping_ns;                    /* when the ping that waits for an answer was due; 0: none */
	int ping_due;

	/* closing */
	int close_sent, close_code, close_timeout_ms;
	char close_reason[WS_CLOSE_REASON_MAX + 1];

	/* how it ended */
	ws_end end;
	char reason[WS_REASON_BYTES];
};

struct ws_actor {
	ws_callbacks callbacks;
	void *arg;
	ws_loop *loop;
	atomic_int refs;
	_Atomic int64_t last_received_ns; /* set by the service thread; a clock reading, publishes nothing else */
	ws_letter start, release;

	ws_actor *next, *previous; /* of the loop's actors */
	ws_actor *next_due;        /* of those with something to settle */
	int due, finished;
	ws_conn *conn;
};

/* A service thread. The lock-free inbox is a stack that others push to and the thread takes as a whole. Whoever
 * finds it empty wakes the thread. When the thread ends it leaves WS_INBOX_CLOSED in its place: a letter is either
 * taken or comes back to its sender. */
struct ws_loop {
	atomic_int refs;
	_Atomic(ws_letter *) inbox; /* publishes letters, newest first */
	atomic_int stop;            /* WS_STOP_*; publishes nothing else */
	atomic_int load;            /* actors that have been given to it */
	int wake_fd;                /* an eventfd: look at inbox and stop */
	pthread_t thread;
	struct lws_context *context; /* the thread's, while it runs */
	struct lws_vhost *vhost;

	/* the service thread's */
	struct lws *timer_wsi;
	int timer_fd, events_fd; /* the ticks; what is waited for while all connections are just open (service.c) */
	int ticking, tick_due;
	int64_t unsteady_until_ns, lws_due_ns;
	ws_actor *actors, *due;
	ws_conn *writers; /* those that have something to send since the last round */
	char *spare;
	size_t spare_room;
};

enum { WS_STOP_NOT, WS_STOP_POLITELY, WS_STOP_EXITING };

/* ---- loop.c ------------------------------------------------------------------------------------------------------ */

extern ws_letter ws_inbox_closed;
#define WS_INBOX_CLOSED (&ws_inbox_closed)

/* Any thread. Hands a letter to the loop's thread; AS_ECLOSED when that has ended, and the letter is the caller's
 * again. */
int ws_loop_push(ws_loop *loop, ws_letter *letter);
ws_loop *ws_loop_ref(ws_loop *loop);
void ws_loop_unref(ws_loop *loop);
/* The calling thread's, when it is a service thread. */
ws_loop *ws_loop_current(void);
/* Any thread. Gives the actor to the thread with the fewest, which are started if need be; AS_EINVAL when none can
 * be. */
int ws_loop_admit(ws_actor *actor);

/* ---- service.c --------------------------------------------------------------------------------------------------- */

void *ws_loop_run(void *loop); /* the service thread */
int ws_loop_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n); /* lws's */
void ws_loop_tick_while_needed(ws_loop *loop);
/* Has conn_settle() called for this actor soon, from the loop and not from a callback. */
void ws_actor_due(ws_actor *actor);
/* The connection's socket, and what to wait for while all is quiet: to read, and to write if it is choked. */
void ws_loop_watch(ws_conn *conn);
void ws_loop_unwatch(ws_conn *conn);
/* There is something to send. */
void ws_loop_want_write(ws_conn *conn);
/* Whether to wait until the socket takes more. */
void ws_loop_choked(ws_conn *conn, int choked);
/* Something is on its way that only lws knows how to wait for. */
void ws_loop_unsteady(ws_loop *loop);
/* One buffer for arriving messages serves all connections that are not in the middle of one. */
char *ws_loop_take_buffer(ws_loop *loop, size_t *room);
void ws_loop_give_buffer(ws_loop *loop, char *buffer, size_t room);

/* ---- actor.c ----------------------------------------------------------------------------------------------------- */

/* The actor has finished and its connection is gone: takes it off its loop. */
void ws_actor_reap(ws_actor *actor);

/* ---- connection.c ------------------------------------------------------------------------------------------------ */

int conn_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n);
/* Does what is due for the actor's connection: opens it, reports its end. */
void conn_settle(ws_actor *actor);
void conn_alarm(ws_conn *conn, int64_t now_ns);
/* The connection's end: lws lets go of it, on_close is due. The first one counts. */
void conn_end(ws_conn *conn, ws_why why, int code, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* lws closes, or goes on closing, the socket by itself, and calls back for nobody. */
void conn_detach(ws_conn *conn);
/* The answer of resolve.c. */
void conn_resolved(ws_conn *conn, ws_lookup *lookup);
/* There was a connection, and it never came to be open. what: lws's words. */
void conn_opening_failed(ws_conn *conn, const char *what, size_t n);
/* The connection that lws's wsi belongs to; NULL for one that has been given up. */
ws_conn *conn_of(struct lws *wsi);

/* ---- dial.c ------------------------------------------------------------------------------------------------------ */

/* Begins to connect to the next address, of which there is one. */
void conn_dial(ws_conn *conn);
/* What becomes of an attempt. The first to connect ends the others; the last to fail ends the connection. */
void conn_attempt_connected(ws_attempt *attempt, struct lws *wsi);
void conn_attempt_failed(ws_attempt *attempt);
void conn_drop_attempts(ws_conn *conn);

/* ---- transfer.c -------------------------------------------------------------------------------------------------- */

void conn_received(ws_conn *conn, const char *data, size_t n);
void conn_writeable(ws_conn *conn);
lws_extension_callback_function conn_extension;
void conn_check_life(ws_conn *conn, int64_t now_ns);
void conn_begin_close(ws_conn *conn, int code, const char *reason, int timeout_ms);
int conn_close_received(ws_conn *conn, const unsigned char *data, size_t n); /* what lws's callback is to return */
void conn_heard(ws_conn *conn);
void conn_free_messages(ws_conn *conn); /* all that has not been sent or is not complete */

/* ---- resolve.c --------------------------------------------------------------------------------------------------- */

struct ws_lookup {
	ws_letter letter;
	ws_conn *conn; /* the service thread's: who waits for it; NULL once nobody does */
	ws_loop *loop;
	ws_lookup *next;
	int queued; /* under the pool's lock */
	char *host; /* NULL: no name to resolve */
	char *ca_file, *cert_file, *key_file;
	int wants_tls;
	/* the answer; the worker's until the letter is posted */
	char addresses[WS_ADDRESSES_MAX][WS_ADDRESS_BYTES];
	int count;
	ws_tls *tls;
	ws_why why;  /* 0: all is well */
	int passing; /* what is wrong may pass */
	char error[WS_REASON_BYTES];
};

/* Fills in the address when host is one already. Any thread; does not wait. */
int ws_address_numeric(const char *host, char *address, size_t bytes);
/* Starts to look up what the connection needs; conn_resolved() follows, or nothing after ws_lookup_cancel(). */
int ws_lookup_start(ws_conn *conn, int wants_name, int wants_tls);
void ws_lookup_cancel(ws_lookup *lookup);

#endif
