/* test_loop_messages.c - what goes through an open connection. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zlib.h>

#include "loop_test.h"

static unsigned char *noise(size_t n)
{
	unsigned char *data = malloc(n + 1);
	uint32_t seed = (uint32_t)n + 1;
	for (size_t i = 0; i < n; i++) {
		data[i] = (unsigned char)next_random(&seed);
	}
	return data;
}

static void expect_last(client *c, int binary, const void *data, size_t n)
{
	pthread_mutex_lock(&c->lock);
	assert_int_equal(c->last_bytes, n);
	assert_int_equal(c->binary, binary);
	assert_memory_equal(c->last, data, n);
	pthread_mutex_unlock(&c->lock);
}

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

static void test_echo_of_all_sizes(void **state)
{
	(void)state;
	static const size_t sizes[] = {0,    1,     125,   126,   127,    4096,    8191,   8192,
								   8193, 65535, 65536, 65537, 100000, 1000000, 3000000};
	ws_server *server;
	client *c = serve_one(&server, NULL, NULL);
	for (int i = 0; i < (int)COUNT(sizes); i++) {
		unsigned char *data = noise(sizes[i]);
		assert_int_equal(client_send(c, i % 2, data, sizes[i]), 0);
		client_wait_messages(c, i + 1);
		expect_last(c, i % 2, data, sizes[i]);
		assert_int_equal(client_unsent(c), 0);
		free(data);
	}
	all_done(c, server);
}

static void send_burst(client *c, void *arg)
{
	for (int i = 0; i < 500; i++) {
		char text[16];
		int n = snprintf(text, sizeof(text), "%d", i);
		assert_int_equal(ws_send(c->actor, 0, text, (size_t)n), 0);
	}
	*(size_t *)arg = ws_unsent(c->actor);
}

static void check_number(client *c, int binary, char *data, size_t n)
{
	(void)binary, (void)n;
	assert_int_equal(atoi(data), c->messages - 1);
	memset(data, 'x', n); /* it may be written to */
}

static void test_a_burst_stays_in_order(void **state)
{
	(void)state;
	size_t unsent = 0;
	ws_server *server = server_start(&(ws_server_options){0});
	client *c = client_new();
	c->on_message = check_number;
	client_connect(c, &(ws_options){.url = url_of(server)});
	client_wait_open(c);
	client_call(c, send_burst, &unsent);
	assert_int_equal(unsent, 10 + 90 * 2 + 400 * 3);
	client_wait_messages(c, 500);
	all_done(c, server);
}

static void send_fragments(ws_peer *peer, void *arg)
{
	(void)arg;
	peer_send(peer, WS_OP_TEXT | PEER_MORE, "one ", 4);
	peer_send(peer, WS_OP_PING, "between", 7);
	peer_send(peer, WS_OP_CONTINUATION | PEER_MORE, "", 0);
	peer_send(peer, WS_OP_CONTINUATION | PEER_MORE, "two ", 4);
	peer_send(peer, WS_OP_PONG, "", 0);
	peer_send(peer, WS_OP_CONTINUATION, "three", 5);
	peer_send(peer, WS_OP_BINARY | PEER_MORE, "", 0);
	peer_send(peer, WS_OP_CONTINUATION, "", 0);
	peer_send(peer, WS_OP_TEXT, "after", 5);
	int opcode;
	size_t n;
	unsigned char *pong = peer_receive(peer, &opcode, &n);
	assert_true(pong && opcode == WS_OP_PONG && n == 7 && !memcmp(pong, "between", 7));
	peer_wait_gone(peer);
}

static void note_text(client *c, int binary, char *data, size_t n)
{
	(void)c;
	static int number;
	static const char *const expected[] = {"one two three", "", "after"};
	assert_int_equal(binary, number == 1);
	assert_int_equal(n, strlen(expected[number]));
	assert_string_equal(data, expected[number]);
	number++;
}

static void test_fragments(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = send_fragments});
	client *c = client_new();
	c->on_message = note_text;
	client_connect(c, &(ws_options){.url = url_of(server)});
	client_wait_messages(c, 3);
	sleep_ms(50);
	all_done(c, server);
}

#define BURST ((size_t)20 << 20)

static void send_huge(ws_peer *peer, void *arg)
{
	unsigned char *data = noise(BURST);
	peer_send(peer, WS_OP_BINARY, data, BURST);
	peer_send(peer, WS_OP_TEXT, "small", 5);
	free(data);
	server_echo(peer, arg);
}

static void test_a_huge_message(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = send_huge});
	client *c = client_open(&(ws_options){.url = url_of(server), .max_message_bytes = BURST});
	client_wait_messages(c, 2);
	assert_int_equal(c->bytes, BURST + 5);
	client_done(c);
	c = client_open(&(ws_options){.url = url_of(server)});
	client_wait_close(c, WS_WHY_TOO_BIG, 1009);
	assert_int_equal(c->messages, 0);
	assert_int_equal(c->end.opened, 1);
	all_done(c, server);
}

static _Atomic int code_seen;

static void send_too_much(ws_peer *peer, void *arg)
{
	(void)arg;
	int opcode;
	size_t n;
	peer_send(peer, WS_OP_TEXT, "1234567890", 10);
	peer_send(peer, WS_OP_TEXT | PEER_MORE, "12345", 5);
	peer_send(peer, WS_OP_CONTINUATION | PEER_MORE, "67890", 5);
	peer_send(peer, WS_OP_CONTINUATION, "1", 1);
	unsigned char *close = peer_receive(peer, &opcode, &n);
	code_seen = close && opcode == WS_OP_CLOSE && n >= 2 ? close[0] << 8 | close[1] : -1;
}

static void test_the_limit_counts_fragments(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = send_too_much});
	client *c = client_open(&(ws_options){.url = url_of(server), .max_message_bytes = 10});
	client_wait_close(c, WS_WHY_TOO_BIG, 1009);
	assert_int_equal(c->messages, 1);
	while (!code_seen) {
		sleep_ms(1);
	}
	assert_int_equal(code_seen, 1009);
	all_done(c, server);
}

static void trickle(ws_peer *peer, void *arg)
{
	(void)arg;
	static const unsigned char message[] = {0x81, 5, 'h', 'e', 'l', 'l', 'o', 0x01, 2, 'a', 'b', 0x80, 1, 'c'};
	for (size_t i = 0; i < sizeof(message); i++) {
		peer_write(peer, message + i, 1);
		peer_wait(peer, 10);
	}
	peer_wait_gone(peer);
}

static void test_trickled_bytes(void **state)
{
	(void)state;
	ws_server *server;
	client *c = serve_one(&server, trickle, NULL);
	client_wait_messages(c, 2);
	expect_last(c, 0, "abc", 3);
	assert_int_equal(c->bytes, 8);
	all_done(c, server);
}

/* ---- A server that does not read --------------------------------------------------------------------------------- */

static _Atomic int reading;

static void read_late(ws_peer *peer, void *arg)
{
	while (!reading && !peer_stopping(peer)) {
		peer_wait(peer, 5);
	}
	server_echo(peer, arg);
}

static void fill_up(client *c, void *arg)
{
	static char block[10000];
	int *sent = arg;
	int result;
	while ((result = ws_send(c->actor, 1, block, sizeof(block))) == 0) {
		++*sent;
	}
	assert_int_equal(result, AS_EFULL);
	assert_in_range(ws_unsent(c->actor), 1000000 - sizeof(block) + 1, 1000000);
}

static void test_unsent_is_bounded(void **state)
{
	(void)state;
	int sent = 0;
	reading = 0;
	ws_server *server = server_start(&(ws_server_options){.serve = read_late});
	client *c = client_open(&(ws_options){.url = url_of(server), .max_unsent_bytes = 1000000});
	client_call(c, fill_up, &sent);
	assert_int_equal(sent, 100);
	for (int before = 0; before != sent;) { /* until the kernel takes no more either */
		before = sent;
		sleep_ms(200);
		client_call(c, fill_up, &sent);
	}
	char waste[1000001];
	assert_int_equal(client_send(c, 1, waste, sizeof(waste)), AS_EFULL);
	reading = 1;
	client_wait_messages(c, sent);
	assert_int_equal(client_unsent(c), 0);
	assert_int_equal(c->bytes, (size_t)sent * 10000);
	all_done(c, server);
}

static void fill_up_empty(client *c, void *arg)
{
	int *sent = arg;
	while (ws_send(c->actor, 1, "", 0) == 0) {
		++*sent;
	}
}

/* Each takes memory while it waits. */
static void test_empty_messages_are_bounded(void **state)
{
	(void)state;
	int sent = 0;
	ws_server *server = server_start(&(ws_server_options){.serve = server_echo});
	client *c = client_open(&(ws_options){.url = url_of(server), .max_unsent_bytes = 100000});
	client_call(c, fill_up_empty, &sent);
	assert_in_range(sent, 100000 / 100, 100000 / 30);
	client_wait_messages(c, sent);
	all_done(c, server);
}

/* ---- Compression ------------------------------------------------------------------------------------------------- */

static _Atomic size_t compressed_bytes;

/* Sends what came, compressed as it came. */
static void echo_deflated(ws_peer *peer, void *arg)
{
	(void)arg;
	int opcode;
	size_t n;
	for (unsigned char *data; (data = peer_receive(peer, &opcode, &n));) {
		compressed_bytes += n;
		peer_send(peer, opcode, data, n);
	}
}

static void test_deflate(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 100, 5000, 70000, 1000000};
	size_t plain = 0;
	ws_server *server = server_start(
		&(ws_server_options){.serve = echo_deflated, .extra = "Sec-WebSocket-Extensions: permessage-deflate\r\n"});
	client *c = client_open(&(ws_options){.url = url_of(server), .deflate = 1});
	for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
		size_t n = sizes[i / 2];
		unsigned char *data = noise(n);
		memset(data, 'a', n / 2);
		assert_int_equal(client_send(c, i % 2, data, n), 0);
		client_wait_messages(c, (int)i + 1);
		expect_last(c, i % 2, data, n);
		assert_int_equal(client_unsent(c), 0);
		plain += n;
		free(data);
	}
	assert_in_range(compressed_bytes, 1000, plain * 2 / 3);
	all_done(c, server);
}

/* n bytes of the same, as raw deflate without its last four bytes (RFC 7692). */
static unsigned char *deflated(size_t n, size_t *bytes)
{
	z_stream z = {0};
	unsigned char *zeros = calloc(1, n), *out = malloc(n / 100 + 1000);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = zeros;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)(n / 100 + 1000);
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	*bytes = z.total_out - 4;
	deflateEnd(&z);
	free(zeros);
	return out;
}

static void send_bomb(ws_peer *peer, void *arg)
{
	size_t bytes;
	unsigned char *data = deflated((size_t)(uintptr_t)arg, &bytes);
	peer_send(peer, WS_OP_BINARY | PEER_DEFLATED, data, bytes);
	free(data);
	peer_wait_gone(peer);
}

static client *receive_deflated(size_t n, size_t limit, ws_server **server)
{
	*server = server_start(&(ws_server_options){
		.serve = send_bomb, .arg = (void *)(uintptr_t)n, .extra = "Sec-WebSocket-Extensions: permessage-deflate\r\n"});
	return client_open(&(ws_options){.url = url_of(*server), .deflate = 1, .max_message_bytes = limit});
}

static void test_deflated_messages_are_bounded(void **state)
{
	(void)state;
	ws_server *server;
	client *c = receive_deflated(1000000, 1000000, &server);
	client_wait_messages(c, 1);
	assert_int_equal(c->bytes, 1000000);
	all_done(c, server);
	c = receive_deflated(50000000, 1000000, &server);
	client_wait_close(c, WS_WHY_TOO_BIG, 1009);
	all_done(c, server);
}

/* ---- Signs of life ----------------------------------------------------------------------------------------------- */

static _Atomic int pings_seen;

static void count_pings(ws_peer *peer, void *arg)
{
	int opcode;
	size_t n;
	for (unsigned char *data; (data = peer_receive(peer, &opcode, &n));) {
		pings_seen += opcode == WS_OP_PING;
		if (opcode == WS_OP_PING && arg) {
			peer_send(peer, WS_OP_PONG, data, n);
		}
	}
}

static void test_pings(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = count_pings, .arg = &pings_seen});
	client *c = client_open(&(ws_options){.url = url_of(server), .ping_interval_ms = 50, .ping_timeout_ms = 500});
	int64_t before = ws_last_received_ns(c->actor);
	assert_true(before > 0);
	int64_t began_ns = as_now_ns();
	sleep_ms(800);
	int seen = pings_seen;
	assert_in_range(seen, 5, (as_now_ns() - began_ns) / 50000000 + 1);
	assert_int_equal(c->closes, 0);
	assert_true(ws_last_received_ns(c->actor) > before + 500000000);
	client_done(c);
	pings_seen = 0;
	c = client_open(&(ws_options){.url = url_of(server)});
	sleep_ms(150);
	assert_int_equal(pings_seen, 0);
	all_done(c, server);
}

static void test_silence(void **state)
{
	(void)state;
	pings_seen = 0;
	ws_server *server = server_start(&(ws_server_options){.serve = count_pings});
	int64_t start = as_now_ns();
	client *c = client_open(&(ws_options){.url = url_of(server), .ping_interval_ms = 100, .ping_timeout_ms = 200});
	client_wait_close(c, WS_WHY_SILENT, WS_ABNORMAL);
	assert_in_range((c->closed_ns - start) / 1000000, 290, 900);
	assert_int_equal(pings_seen, 1);
	all_done(c, server);
}

static void send_slowly(ws_peer *peer, void *arg)
{
	(void)arg;
	static const unsigned char head[] = {0x81, 40};
	peer_write(peer, head, sizeof(head));
	for (int i = 0; i < 40 && peer_write(peer, "x", 1) == 0; i++) {
		peer_wait(peer, 20);
	}
	peer_wait_gone(peer);
}

static void test_a_slow_message_is_a_sign_of_life(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = send_slowly});
	client *c = client_open(&(ws_options){.url = url_of(server), .ping_interval_ms = 100, .ping_timeout_ms = 150});
	client_wait_messages(c, 1);
	all_done(c, server);
}

/* The descriptor of this process's connection to a port. */
static int socket_to(int port)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct sockaddr_in peer;
		socklen_t bytes = sizeof(peer);
		if (!getpeername(fd, (struct sockaddr *)&peer, &bytes) && peer.sin_family == AF_INET &&
			ntohs(peer.sin_port) == port) {
			return fd;
		}
	}
	fail_msg("no connection to port %d", port);
	return -1;
}

/* What is sent into a path that swallows it is given up by the kernel, long before its retransmissions are. */
static void test_a_dead_path_is_noticed_within_20_s(void **state)
{
	(void)state;
	ws_server *server;
	client *c = serve_one(&server, NULL, NULL);
	unsigned ms = 0;
	socklen_t bytes = sizeof(ms);
	assert_int_equal(getsockopt(socket_to(server_port(server)), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &bytes), 0);
	assert_in_range(ms, 5000, 20000);
	all_done(c, server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo_of_all_sizes),
		cmocka_unit_test(test_a_burst_stays_in_order),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_a_huge_message),
		cmocka_unit_test(test_the_limit_counts_fragments),
		cmocka_unit_test(test_trickled_bytes),
		cmocka_unit_test(test_unsent_is_bounded),
		cmocka_unit_test(test_deflate),
		cmocka_unit_test(test_deflated_messages_are_bounded),
		cmocka_unit_test(test_pings),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_a_slow_message_is_a_sign_of_life),
		cmocka_unit_test(test_empty_messages_are_bounded),
		cmocka_unit_test(test_a_dead_path_is_noticed_within_20_s),
	};
	return cmocka_run_group_tests(tests, NULL, stop_all);
}
