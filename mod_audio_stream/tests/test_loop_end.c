/* test_loop_end.c - how a connection ends: by the server, by us, by neither. */
#define _GNU_SOURCE
#include <unistd.h>

#include "loop_test.h"

static _Atomic int code_seen;

typedef struct farewell {
	int code;
	const char *reason;
	int expected;
} farewell;

static void say_farewell(ws_peer *peer, void *arg)
{
	const farewell *f = arg;
	int opcode;
	size_t n;
	peer_send_close(peer, f->code, f->reason);
	unsigned char *answer = peer_receive(peer, &opcode, &n);
	code_seen = answer && opcode == WS_OP_CLOSE ? (n >= 2 ? answer[0] << 8 | answer[1] : WS_NO_STATUS) : -1;
}

static void test_the_server_closes(void **state)
{
	(void)state;
	static farewell cases[] = {
		{1000, "bye", 1000},
		{1001, "", 1001},
		{1011, "gr\xc3\xbc\xc3\x9f\x65", 1011},
		{4000, "ours", 4000},
		{0, "", 1005},
		{999, "low", 1002},
		{1005, "never", 1002},
		{1006, "never", 1002},
		{2999, "", 1002},
		{5000, "high", 5000},
		{3000, "a\x01\xff\xc3(b", 3000},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		ws_server *server;
		code_seen = 0;
		client *c = serve_one(&server, say_farewell, &cases[i]);
		client_wait_close(c, WS_WHY_CLOSED, cases[i].code == 5000 ? 1002 : cases[i].expected);
		assert_string_equal(c->reason, cases[i].code == 3000 ? "a??"
															   "?(b"
															 : cases[i].reason);
		while (!code_seen) {
			sleep_ms(1);
		}
		assert_int_equal(code_seen, cases[i].expected); /* it is answered */
		all_done(c, server);
	}
}

static void answer_close(ws_peer *peer, void *arg)
{
	int opcode;
	size_t n;
	const farewell *f = arg;
	for (unsigned char *data; (data = peer_receive(peer, &opcode, &n));) {
		if (opcode == WS_OP_CLOSE) {
			code_seen = data[0] << 8 | data[1];
			assert_string_equal((char *)data + 2, "done");
			peer_send(peer, WS_OP_TEXT, "last words", 10);
			peer_send_close(peer, f->code, f->reason);
			return;
		}
	}
}

static void fill_and_leave(client *c, void *arg)
{
	static char block[100000];
	for (int i = 0; i < 30; i++) {
		assert_int_equal(ws_send(c->actor, 1, block, sizeof(block)), 0);
	}
	ws_disconnect(c->actor, *(int *)arg, "done", 5000);
	assert_int_equal(ws_send(c->actor, 1, block, 1), AS_ECLOSED);
}

static void test_we_close(void **state)
{
	(void)state;
	ws_server *server;
	farewell f = {4321, "indeed", 0};
	int code = 3999;
	client *c = serve_one(&server, answer_close, &f);
	client_call(c, fill_and_leave, &code);
	client_wait_close(c, WS_WHY_CLOSED, 4321);
	assert_string_equal(c->reason, "indeed");
	assert_int_equal(code_seen, 3999);
	assert_int_equal(c->messages, 1); /* what came before the server's CLOSE was heard */
	all_done(c, server);
	code = 1006; /* must not travel */
	c = serve_one(&server, answer_close, &f);
	client_call(c, fill_and_leave, &code);
	client_wait_close(c, WS_WHY_CLOSED, 4321);
	assert_int_equal(code_seen, 1000);
	all_done(c, server);
}

static void ignore_all(ws_peer *peer, void *arg)
{
	(void)arg;
	peer_wait_gone(peer);
}

static void test_nobody_answers_our_close(void **state)
{
	(void)state;
	ws_server *server;
	client *c = serve_one(&server, ignore_all, NULL);
	int64_t start = as_now_ns();
	client_disconnect(c, 1000, "bye", 200);
	client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
	assert_in_range((as_now_ns() - start) / 1000000, 190, 700);
	all_done(c, server);
	c = serve_one(&server, ignore_all, NULL);
	start = as_now_ns();
	client_disconnect(c, 1000, "bye", 0);
	client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
	assert_true(as_now_ns() - start < 150000000);
	all_done(c, server);
}

static void break_it(ws_peer *peer, void *arg)
{
	const char *how = arg;
	int opcode;
	size_t n;
	peer_receive(peer, &opcode, &n);
	if (!strcmp(how, "reset")) {
		peer_reset(peer);
	} else if (!strcmp(how, "half a frame")) {
		peer_write(peer, "\x81\x7e\x10\x00xyz", 7);
	} else if (!strcmp(how, "nonsense")) {
		peer_write(peer, "\xf3\x01x", 3);
		peer_wait_gone(peer);
	} else if (!strcmp(how, "masked ping too long")) {
		peer_write(peer, "\x89\xfe\x10\x00", 4);
		peer_wait_gone(peer);
	}
}

static void test_a_connection_is_lost(void **state)
{
	(void)state;
	static const char *const how[] = {"reset", "end", "half a frame", "nonsense", "masked ping too long"};
	for (size_t i = 0; i < COUNT(how); i++) {
		ws_server *server;
		client *c = serve_one(&server, break_it, (void *)how[i]);
		assert_int_equal(client_send(c, 0, "go", 2), 0);
		client_wait_close(c, WS_WHY_LOST, WS_ABNORMAL);
		assert_int_equal(c->end.opened, 1);
		assert_true(strlen(c->reason) > 10);
		all_done(c, server);
	}
}

static void leave_from_message(client *c, int binary, char *data, size_t n)
{
	(void)binary, (void)data, (void)n;
	ws_disconnect(c->actor, 1000, "", 0);
}

static void finish_from_message(client *c, int binary, char *data, size_t n)
{
	(void)binary, (void)data, (void)n;
	ws_finish(c->actor);
}

static void send_many(ws_peer *peer, void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000 && peer_send(peer, WS_OP_TEXT, "again", 5) == 0; i++) {
	}
	peer_wait_gone(peer);
}

static void test_leaving_from_a_callback(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		ws_server *server = server_start(&(ws_server_options){.serve = send_many});
		client *c = client_new();
		c->on_message = i ? finish_from_message : leave_from_message;
		client_connect(c, &(ws_options){.url = url_of(server)});
		client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
		assert_int_equal(c->messages, 1);
		all_done(c, server);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_server_closes),        cmocka_unit_test(test_we_close),
		cmocka_unit_test(test_nobody_answers_our_close), cmocka_unit_test(test_a_connection_is_lost),
		cmocka_unit_test(test_leaving_from_a_callback),
	};
	return cmocka_run_group_tests(tests, NULL, stop_all);
}
