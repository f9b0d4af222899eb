/* ws_server.c - a WebSocket server for tests: blocking sockets, a thread for each connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include "ws_server.h"

struct ws_server {
	ws_server_options options;
	int listener, port;
	SSL_CTX *tls;
	pthread_t thread;
	atomic_int stopping, connections, live;
};

struct ws_peer {
	ws_server *server;
	int fd, dead;
	SSL *ssl;
	char request[32768];
	unsigned char *frame;
	size_t room;
};

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "test server: %s: %s\n", what, strerror(errno));
		ERR_print_errors_fp(stderr);
		exit(1);
	}
}

/* ---- Bytes: the connection's thread ------------------------------------------------------------------------------ */

int peer_stopping(const ws_peer *peer)
{
	return atomic_load(&peer->server->stopping);
}

/* Waits until something can be done, noticing the server's end. 0 when it is over. */
static int await(ws_peer *peer, short events)
{
	struct pollfd wanted = {.fd = peer->fd, .events = events};
	while (!peer->dead && !peer_stopping(peer)) {
		if (poll(&wanted, 1, 20) > 0) {
			return 1;
		}
	}
	return 0;
}

static long tls_io(ws_peer *peer, void *in, const void *out, size_t n)
{
	for (;;) {
		ERR_clear_error();
		int done = in ? SSL_read(peer->ssl, in, (int)n) : SSL_write(peer->ssl, out, (int)n);
		int error = done > 0 ? 0 : SSL_get_error(peer->ssl, done);
		if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
			return done;
		}
		if (!await(peer, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) {
			return -1;
		}
	}
}

long peer_read(ws_peer *peer, void *data, size_t n)
{
	if (peer->ssl) {
		return tls_io(peer, data, NULL, n);
	}
	if (!await(peer, POLLIN)) {
		return -1;
	}
	return recv(peer->fd, data, n, 0);
}

static int read_all(ws_peer *peer, unsigned char *data, size_t n)
{
	while (n > 0) {
		long got = peer_read(peer, data, n);
		if (got <= 0) {
			peer->dead = 1;
			return 0;
		}
		data += got;
		n -= (size_t)got;
	}
	return 1;
}

int peer_write(ws_peer *peer, const void *data, size_t n)
{
	const char *from = data;
	while (n > 0) {
		if (peer->dead || peer_stopping(peer)) {
			return -1;
		}
		long sent = peer->ssl ? tls_io(peer, NULL, from, n) : send(peer->fd, from, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent <= 0 && !peer->ssl && errno == EAGAIN) {
			await(peer, POLLOUT);
			continue;
		}
		if (sent <= 0) {
			peer->dead = 1;
			return -1;
		}
		from += sent;
		n -= (size_t)sent;
	}
	return 0;
}

void peer_reset(ws_peer *peer)
{
	const struct linger at_once = {.l_onoff = 1};
	setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	peer->dead = 1;
}

void peer_wait(ws_peer *peer, int ms)
{
	for (; ms > 0 && !peer_stopping(peer); ms -= 5) {
		const struct timespec moment = {.tv_nsec = 5000000};
		nanosleep(&moment, NULL);
	}
}

void peer_wait_gone(ws_peer *peer)
{
	char waste[65536];
	while (peer_read(peer, waste, sizeof(waste)) > 0) {
	}
}

/* ---- Frames ------------------------------------------------------------------------------------------------------ */

unsigned char *peer_receive(ws_peer *peer, int *opcode, size_t *n)
{
	unsigned char head[14];
	if (!read_all(peer, head, 2) || !(head[1] & 0x80)) { /* a client masks */
		return NULL;
	}
	size_t length = head[1] & 0x7f, more = length == 127 ? 8 : length == 126 ? 2 : 0;
	if (!read_all(peer, head + 2, more + 4)) {
		return NULL;
	}
	for (size_t i = 0; i < more; i++) {
		length = (i ? length << 8 : 0) | head[2 + i];
	}
	if (length + 1 > peer->room) {
		free(peer->frame);
		peer->room = length + 1;
		peer->frame = malloc(peer->room);
		require(peer->frame != NULL, "memory");
	}
	if (!read_all(peer, peer->frame, length)) {
		return NULL;
	}
	for (size_t i = 0; i < length; i++) {
		peer->frame[i] ^= head[2 + more + i % 4];
	}
	peer->frame[length] = 0;
	*opcode = (head[0] & 0x0f) | (head[0] & 0x80 ? 0 : PEER_MORE) | (head[0] & 0x40 ? PEER_DEFLATED : 0);
	*n = length;
	return peer->frame;
}

int peer_send(ws_peer *peer, int opcode, const void *data, size_t n)
{
	unsigned char head[10] = {
		(unsigned char)((opcode & PEER_MORE ? 0 : 0x80) | (opcode & PEER_DEFLATED ? 0x40 : 0) | (opcode & 0x0f))};
	size_t bytes = n < 126 ? 2 : n < 65536 ? 4 : 10;
	head[1] = n < 126 ? (unsigned char)n : n < 65536 ? 126 : 127;
	for (size_t i = bytes, rest = n; i > 2; i--, rest >>= 8) {
		head[i - 1] = (unsigned char)rest;
	}
	return peer_write(peer, head, bytes) || peer_write(peer, data, n);
}

int peer_send_close(ws_peer *peer, int code, const char *reason)
{
	unsigned char frame[125] = {(unsigned char)(code >> 8), (unsigned char)code};
	size_t n = strlen(reason);
	memcpy(frame + 2, reason, n);
	return peer_send(peer, WS_OP_CLOSE, frame, code ? 2 + n : 0);
}

void server_echo(ws_peer *peer, void *arg)
{
	(void)arg;
	int opcode;
	size_t n;
	for (unsigned char *data; (data = peer_receive(peer, &opcode, &n));) {
		peer_send(peer, opcode == WS_OP_PING ? WS_OP_PONG : opcode, data, n);
		if (opcode == WS_OP_CLOSE) {
			return;
		}
	}
}

/* ---- Handshakes -------------------------------------------------------------------------------------------------- */

const char *peer_request(const ws_peer *peer)
{
	return peer->request;
}

static int read_request(ws_peer *peer)
{
	size_t n = 0;
	while (n < sizeof(peer->request) - 1 && read_all(peer, (unsigned char *)peer->request + n, 1)) {
		peer->request[++n] = 0;
		if (n >= 4 && !strcmp(peer->request + n - 4, "\r\n\r\n")) {
			return 1;
		}
	}
	return 0;
}

/* Answers the handshake; 0 when there is nothing to serve. */
static int upgrade(ws_peer *peer)
{
	static const char name[] = "Sec-WebSocket-Key: ", magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	const ws_server_options *options = &peer->server->options;
	const char *extra = options->extra ? options->extra : "";
	char text[4096], key[128] = "", accept[64];
	unsigned char hash[SHA_DIGEST_LENGTH];
	if (!read_request(peer)) {
		return 0;
	}
	if (options->refuse) {
		snprintf(text, sizeof(text), "HTTP/1.1 %d No\r\nContent-Length: 4\r\n%s\r\nno.\n", options->refuse, extra);
		peer_write(peer, text, strlen(text));
		return 0;
	}
	char *at = strcasestr(peer->request, name);
	if (!at || sscanf(at + sizeof(name) - 1, "%60[^\r]", key) != 1) {
		return 0;
	}
	strcat(key, magic);
	SHA1((unsigned char *)key, strlen(key), hash);
	EVP_EncodeBlock((unsigned char *)accept, hash, sizeof(hash));
	snprintf(text, sizeof(text),
			 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
			 accept, extra);
	return peer_write(peer, text, strlen(text)) == 0;
}

static int tls_accept(ws_peer *peer)
{
	peer->ssl = SSL_new(peer->server->tls);
	require(peer->ssl && SSL_set_fd(peer->ssl, peer->fd), "SSL");
	for (int done; (done = SSL_accept(peer->ssl)) != 1;) {
		int error = SSL_get_error(peer->ssl, done);
		if ((error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) ||
			!await(peer, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) {
			return 0;
		}
	}
	return 1;
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

static void *serve_peer(void *arg)
{
	ws_peer *peer = arg;
	ws_server *server = peer->server;
	const ws_server_options *options = &server->options;
	if ((!server->tls || tls_accept(peer)) && (options->raw || upgrade(peer))) {
		(options->serve ? options->serve : server_echo)(peer, options->arg);
	}
	if (peer->ssl && !peer->dead) {
		SSL_shutdown(peer->ssl);
	}
	SSL_free(peer->ssl);
	ERR_clear_error();
	close(peer->fd);
	free(peer->frame);
	free(peer);
	atomic_fetch_sub(&server->live, 1);
	return NULL;
}

static void accept_peer(ws_server *server)
{
	pthread_t thread;
	pthread_attr_t attributes;
	int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | (server->tls ? SOCK_NONBLOCK : 0));
	ws_peer *peer = fd < 0 ? NULL : calloc(1, sizeof(*peer));
	if (!peer) {
		return;
	}
	peer->server = server;
	peer->fd = fd;
	atomic_fetch_add(&server->connections, 1);
	atomic_fetch_add(&server->live, 1);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 512 * 1024);
	require(pthread_create(&thread, &attributes, serve_peer, peer) == 0, "thread");
	pthread_attr_destroy(&attributes);
}

static void *accept_all(void *arg)
{
	ws_server *server = arg;
	struct pollfd wanted = {.fd = server->listener, .events = POLLIN};
	while (!atomic_load(&server->stopping)) {
		if (poll(&wanted, 1, 20) > 0) {
			accept_peer(server);
		}
	}
	return NULL;
}

static SSL_CTX *make_tls(const ws_server_options *options)
{
	char path[512];
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	snprintf(path, sizeof(path), "%s.pem", options->cert);
	require(tls && SSL_CTX_use_certificate_chain_file(tls, path) == 1, "certificate");
	snprintf(path, sizeof(path), "%s.key", options->cert);
	require(SSL_CTX_use_PrivateKey_file(tls, path, SSL_FILETYPE_PEM) == 1, "key");
	if (options->client_ca) {
		snprintf(path, sizeof(path), "%s.pem", options->client_ca);
		require(SSL_CTX_load_verify_locations(tls, path, NULL) == 1, "client CA");
		SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	}
	return tls;
}

ws_server *server_start(const ws_server_options *options)
{
	ws_server *server = calloc(1, sizeof(*server));
	require(server != NULL, "memory");
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *address = options->ipv6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
	socklen_t bytes = options->ipv6 ? sizeof(six) : sizeof(four);
	server->options = *options;
	server->tls = options->cert ? make_tls(options) : NULL;
	server->listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(server->listener >= 0 && bind(server->listener, address, bytes) == 0, "bind");
	require(listen(server->listener, 512) == 0 && getsockname(server->listener, address, &bytes) == 0, "listen");
	server->port = ntohs(options->ipv6 ? six.sin6_port : four.sin_port);
	require(pthread_create(&server->thread, NULL, accept_all, server) == 0, "thread");
	return server;
}

int server_port(const ws_server *server)
{
	return server->port;
}

int server_connections(ws_server *server)
{
	return atomic_load(&server->connections);
}

void server_stop(ws_server *server)
{
	atomic_store(&server->stopping, 1);
	pthread_join(server->thread, NULL);
	while (atomic_load(&server->live)) {
		const struct timespec moment = {.tv_nsec = 2000000};
		nanosleep(&moment, NULL);
	}
	close(server->listener);
	SSL_CTX_free(server->tls);
	free(server);
}
