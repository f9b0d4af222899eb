/*
 * ws_server.h - a WebSocket server for tests, on a loopback port of its own: a thread for each connection, which does
 * what the test says, be it against the protocol.
 */
#ifndef AS_TESTS_WS_SERVER_H
#define AS_TESTS_WS_SERVER_H

#include <stddef.h>

typedef struct ws_server ws_server;
typedef struct ws_peer ws_peer;

enum { WS_OP_CONTINUATION = 0, WS_OP_TEXT = 1, WS_OP_BINARY = 2, WS_OP_CLOSE = 8, WS_OP_PING = 9, WS_OP_PONG = 10 };

typedef struct ws_server_options {
	void (*serve)(ws_peer *peer, void *arg); /* after the handshake, on a thread of its own; NULL: server_echo */
	void *arg;
	int raw;               /* no handshake of the server's own: serve() is called with a connected socket */
	int ipv6;              /* on ::1 */
	const char *cert;      /* TLS: CERT.pem and CERT.key */
	const char *client_ca; /* and clients must have a certificate of CLIENT_CA.pem */
	int refuse;            /* answers this HTTP status; with `extra` among its headers */
	const char *extra;     /* lines for the answer, each with its CR LF */
} ws_server_options;

/* Never NULL: a test without its server ends. */
ws_server *server_start(const ws_server_options *options);
int server_port(const ws_server *server);
/* Ends all connections and waits for their threads. */
void server_stop(ws_server *server);
int server_connections(ws_server *server); /* that there have been */

/* For serve(). All give up (0, -1, NULL) when the connection or the server ends. */
const char *peer_request(const ws_peer *peer); /* the HTTP request, as it came */
int peer_stopping(const ws_peer *peer);
#define PEER_MORE 0x100     /* with an opcode: more fragments follow */
#define PEER_DEFLATED 0x200 /* with an opcode: it is compressed */
/* A frame's payload, terminated, valid until the next call; pings are not answered, CLOSE is a frame like others. */
unsigned char *peer_receive(ws_peer *peer, int *opcode, size_t *n);
int peer_send(ws_peer *peer, int opcode, const void *data, size_t n); /* 0 when sent */
int peer_send_close(ws_peer *peer, int code, const char *reason);
int peer_write(ws_peer *peer, const void *data, size_t n); /* bytes as they are */
long peer_read(ws_peer *peer, void *data, size_t n);
void peer_reset(ws_peer *peer);             /* RST */
void peer_wait(ws_peer *peer, int ms);      /* does nothing, shorter when the server stops */
void peer_wait_gone(ws_peer *peer);         /* reads and forgets until the end */
void server_echo(ws_peer *peer, void *arg); /* sends messages back, answers pings and CLOSE */

#endif
