/* test_loop_connect.c - opening connections, and every way it can fail. TLS is in test_loop_tls.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

#include "deaf.h"
#include "support.h"
#include "ws_client.h"
#include "ws_server.h"

/* ---- A resolver that can be told what to do: this program's getaddrinfo() ---------------------------------------- */

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static _Atomic int hanging, let_go, asked;

static int hang(void)
{
	hanging++;
	while (!let_go) {
		sleep_ms(5);
	}
	hanging--;
	return EAI_AGAIN;
}

static int two(resolver *real, const char *first, const char *second, const struct addrinfo *hints,
			   struct addrinfo **out)
{
	int error = real(first, NULL, hints, out);
	return error ? error : real(second, NULL, hints, &(*out)->ai_next);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	resolver *real = (resolver *)(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
	if (host && !strcmp(host, "hangs.test") && !(hints->ai_flags & AI_NUMERICHOST)) {
		return hang();
	}
	if (host && !strcmp(host, "busy.test") && !(hints->ai_flags & AI_NUMERICHOST)) {
		asked++;
		sleep_ms(200);
		return real("127.0.0.1", service, hints, out);
	}
	if (host && !strcmp(host, "two.test") && !(hints->ai_flags & AI_NUMERICHOST)) {
		return two(real, "::1", "127.0.0.1", hints, out);
	}
	if (host && !strcmp(host, "again.test") && !(hints->ai_flags & AI_NUMERICHOST)) {
		return EAI_AGAIN;
	}
	if (host && !strcmp(host, "unknown.test") && !(hints->ai_flags & AI_NUMERICHOST)) {
		return EAI_NONAME;
	}
	return real(host, service, hints, out);
}

/* ---- URLs -------------------------------------------------------------------------------------------------------- */

static char *url_at(const char *scheme_and_host, const ws_server *server, const char *path)
{
	static char url[300];
	snprintf(url, sizeof(url), "%s:%d%s", scheme_and_host, server_port(server), path);
	return url;
}

static char *url_of(const ws_server *server)
{
	return url_at("ws://127.0.0.1", server, "/");
}

static void test_url_check(void **state)
{
	(void)state;
	static const char *const good[] = {
		"ws://a", "WSS://a.example:65535/x?y=z", "ws://[::1]:80/", "ws://1.2.3.4?q", "wss://a_b-c/",
	};
	static const char *const bad[] = {
		"",          "http://a",    "ws://",           "ws:///x",     "ws://a:0/",  "ws://a:65536",
		"ws://a:",   "ws://a:1x",   "ws://user@a/",    "ws://u:p@a/", "ws://a/#f",  "ws://a/ b",
		"ws://[::1", "ws://[::g]/", "ws://[1.2.3.4]/", "ws://a b/",   "ws://a\\b/", "ws://a/\r\nX: y",
		"ws://:80/", "wss:/a",      "ws://a/\xc3\xa4",
	};
	char error[200], long_url[4000];
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(ws_url_check(good[i], error, sizeof(error)), 0);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		error[0] = 0;
		assert_int_equal(ws_url_check(bad[i], error, sizeof(error)), AS_EINVAL);
		assert_true(strlen(error) > 10);
	}
	memset(long_url, 'a', sizeof(long_url));
	memcpy(long_url, "ws://a/", 7);
	long_url[7 + 1999] = 0;
	assert_int_equal(ws_url_check(long_url, error, sizeof(error)), 0);
	long_url[7 + 1999] = 'a';
	long_url[7 + 2000] = 0;
	assert_int_equal(ws_url_check(long_url, error, sizeof(error)), AS_EINVAL);
	assert_int_equal(ws_url_check("ws://u:secret@a/?token=secret", error, sizeof(error)), AS_EINVAL);
	assert_null(strstr(error, "secret"));
}

/* ---- What the server sees ---------------------------------------------------------------------------------------- */

static void tell_request(ws_peer *peer, void *arg)
{
	(void)arg;
	const char *request = peer_request(peer);
	peer_send(peer, WS_OP_TEXT, request, strlen(request));
	server_echo(peer, NULL);
}

static client *ask_request(const ws_options *options)
{
	client *c = client_open(options);
	client_wait_messages(c, 1);
	return c;
}

static void test_the_request(void **state)
{
	(void)state;
	ws_server *server =
		server_start(&(ws_server_options){.serve = tell_request, .extra = "Sec-WebSocket-Protocol: two\r\n"});
	const char *const headers[] = {"X-One: 1", "X-Two:2 3", NULL};
	ws_options options = {.url = url_at("ws://127.0.0.1", server, "/path?a=b&c=%20"),
						  .subprotocol = "one, two",
						  .headers = headers,
						  .user = "me",
						  .password = "p:w"};
	char host[64];
	snprintf(host, sizeof(host), "\r\nHost: 127.0.0.1:%d\r\n", server_port(server));
	setenv("http_proxy", "127.0.0.1:9", 1);
	client *c = ask_request(&options);
	unsetenv("http_proxy");
	assert_ptr_equal(strstr(c->last, "GET /path?a=b&c=%20 HTTP/1.1\r\n"), c->last);
	assert_non_null(strstr(c->last, host));
	assert_non_null(strstr(c->last, "\r\nSec-WebSocket-Protocol: one, two\r\n"));
	assert_non_null(strstr(c->last, "\r\nSec-WebSocket-Version: 13\r\n"));
	assert_non_null(strstr(c->last, "\r\nX-One: 1\r\nX-Two:2 3\r\n"));
	assert_non_null(strstr(c->last, "\r\nAuthorization: Basic bWU6cDp3\r\n"));
	assert_null(strcasestr(c->last, "Sec-WebSocket-Extensions"));
	client_done(c);
	options = (ws_options){.url = url_at("ws://127.0.0.1", server, "?q"), .deflate = 1};
	server_stop(server);
	server = server_start(&(ws_server_options){.serve = tell_request});
	options.url = url_at("ws://127.0.0.1", server, "?q");
	c = ask_request(&options);
	assert_ptr_equal(strstr(c->last, "GET /?q HTTP/1.1\r\n"), c->last);
	assert_non_null(strstr(c->last, "\r\nSec-WebSocket-Extensions: permessage-deflate"));
	client_done(c);
	server_stop(server);
}

static void test_long_headers(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.serve = tell_request});
	char header[15000], path[1990];
	memset(header, 'x', sizeof(header));
	memcpy(header, "X-Long: ", 8);
	header[sizeof(header) - 1] = 0;
	memset(path, 'y', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	const char *const headers[] = {header, NULL};
	char url[2100];
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d%s", server_port(server), path);
	client *c = ask_request(&(ws_options){.url = url, .headers = headers});
	assert_non_null(strstr(c->last, header));
	assert_non_null(strstr(c->last, path));
	client_done(c);
	server_stop(server);
}

static void fail_options(ws_options options, const char *expected)
{
	options.url = options.url ? options.url : "ws://127.0.0.1:1/";
	client *c = client_fail(&options, WS_WHY_OPTIONS);
	if (!strstr(c->reason, expected)) {
		fail_msg("\"%s\" does not say \"%s\"", c->reason, expected);
	}
	assert_null(strstr(c->reason, "secret"));
	client_done(c);
}

static void test_bad_options(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"X: secret\r\nY: z", "X: secret\n",  "no colon secret",           ": secret",           "a b: secret",
		"X: \x01secret",     "Host: secret", "sec-websocket-key: secret", "Connection: secret",
	};
	for (size_t i = 0; i < COUNT(bad); i++) {
		const char *const headers[] = {"Fine: 1", bad[i], NULL};
		fail_options((ws_options){.headers = headers}, "header");
	}
	const char *const authorization[] = {"authorization: Bearer secret", NULL};
	fail_options((ws_options){.headers = authorization, .user = "u"}, "Authorization");
	fail_options((ws_options){.user = "u:secret"}, "user");
	fail_options((ws_options){.user = "u", .password = "secret\n"}, "password");
	fail_options((ws_options){.subprotocol = "a\r\nsecret"}, "subprotocol");
	fail_options((ws_options){.url = "ws://u:secret@a/"}, "user");
	fail_options((ws_options){.url = "http://a/"}, "ws://");
	client *c = client_new();
	assert_int_equal(client_try_connect(c, NULL), AS_EINVAL);
	assert_int_equal(client_try_connect(c, &(ws_options){0}), AS_EINVAL);
	client_done(c);
}

/* ---- Refused ----------------------------------------------------------------------------------------------------- */

static void test_http_refusals(void **state)
{
	(void)state;
	static const int statuses[] = {200, 301, 302, 307, 400, 401, 403, 404, 408, 429, 500, 503};
	for (size_t i = 0; i < COUNT(statuses); i++) {
		ws_server *server =
			server_start(&(ws_server_options){.refuse = statuses[i], .extra = "Location: ws://127.0.0.1:1/x\r\n"});
		client *c = client_fail(&(ws_options){.url = url_of(server)}, WS_WHY_HTTP);
		assert_int_equal(c->end.http_status, statuses[i]);
		assert_int_equal(c->end.passing, statuses[i] == 408 || statuses[i] == 429 || statuses[i] >= 500);
		assert_int_equal(server_connections(server), 1);
		client_done(c);
		server_stop(server);
	}
}

static void say(ws_peer *peer, void *arg)
{
	char request[4096];
	peer_read(peer, request, sizeof(request));
	peer_write(peer, arg, strlen(arg));
}

static void test_answers_that_are_no_handshake(void **state)
{
	(void)state;
	static const struct {
		const char *answer;
		ws_why why;
	} cases[] = {
		{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: wrong\r\n\r\n",
		 WS_WHY_HTTP},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", WS_WHY_HTTP},
		{"", WS_WHY_CONNECT},
		{"HTTP/1.1 101 Switch", WS_WHY_CONNECT},
		{"\x16\x03\x01\x02\x03", WS_WHY_CONNECT},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		ws_server *server = server_start(&(ws_server_options){.raw = 1, .serve = say, .arg = (void *)cases[i].answer});
		client *c = client_new();
		client_connect(c, &(ws_options){.url = url_of(server), .connect_timeout_ms = 1000});
		client_wait_close(c, cases[i].why, WS_ABNORMAL);
		assert_int_equal(c->end.passing, cases[i].why == WS_WHY_CONNECT);
		assert_int_equal(c->end.refused, 0);
		client_done(c);
		server_stop(server);
	}
}

static void test_extension_not_offered(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.extra = "Sec-WebSocket-Extensions: permessage-deflate\r\n"});
	client_done(client_fail(&(ws_options){.url = url_of(server)}, WS_WHY_HTTP));
	server_stop(server);
	server = server_start(&(ws_server_options){.extra = "Sec-WebSocket-Protocol: other\r\n"});
	client_done(client_fail(&(ws_options){.url = url_of(server), .subprotocol = "mine"}, WS_WHY_HTTP));
	server_stop(server);
}

/* A port that nobody listens on. */
static int free_port(void)
{
	ws_server *server = server_start(&(ws_server_options){0});
	int port = server_port(server);
	server_stop(server);
	return port;
}

static void test_refused_connections(void **state)
{
	(void)state;
	char url[64];
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", free_port());
	client *c = client_fail(&(ws_options){.url = url}, WS_WHY_CONNECT);
	assert_non_null(strstr(c->reason, "127.0.0.1"));
	assert_int_equal(c->end.refused, 1);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
	c = client_fail(&(ws_options){.url = "ws://255.255.255.255/"}, WS_WHY_CONNECT); /* nobody there to refuse */
	assert_int_equal(c->end.refused, 0);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
}

/* That a name is not known does not pass; that nobody could be asked may. */
static void test_names_without_an_address(void **state)
{
	(void)state;
	client *c = client_fail(&(ws_options){.url = "ws://unknown.test/"}, WS_WHY_RESOLVE);
	assert_non_null(strstr(c->reason, "unknown.test"));
	assert_int_equal(c->end.passing, 0);
	client_done(c);
	c = client_fail(&(ws_options){.url = "ws://again.test/"}, WS_WHY_RESOLVE);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
}

/* ---- Addresses --------------------------------------------------------------------------------------------------- */

static void test_addresses(void **state)
{
	(void)state;
	ws_server *four = server_start(&(ws_server_options){0});
	ws_server *six = server_start(&(ws_server_options){.ipv6 = 1, .serve = tell_request});
	client_done(client_open(&(ws_options){.url = url_at("ws://localhost", four, "/")}));
	client_done(client_open(&(ws_options){.url = url_at("ws://two.test", four, "/")})); /* ::1 refuses */
	client *c = ask_request(&(ws_options){.url = url_at("ws://[::1]", six, "/")});
	assert_non_null(strstr(c->last, "\r\nHost: [::1]:"));
	client_done(c);
	server_stop(four);
	server_stop(six);
}

static int64_t elapsed_ms(int64_t since_ns)
{
	return (as_now_ns() - since_ns) / 1000000;
}

static void stay_silent(ws_peer *peer, void *arg)
{
	(void)arg;
	peer_wait_gone(peer);
}

static void test_timeouts(void **state)
{
	(void)state;
	char url[64];
	int64_t start = as_now_ns();
	deaf d = deaf_start("127.0.0.1", 0);
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", d.port);
	client *c = client_fail(&(ws_options){.url = url, .connect_timeout_ms = 300}, WS_WHY_TIMEOUT);
	assert_in_range(elapsed_ms(start), 290, 1500);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
	deaf_stop(&d);
	ws_server *silent = server_start(&(ws_server_options){.raw = 1, .serve = stay_silent});
	c = client_fail(&(ws_options){.url = url_of(silent), .connect_timeout_ms = 200}, WS_WHY_TIMEOUT);
	assert_non_null(strstr(c->reason, "handshake"));
	client_done(c);
	server_stop(silent);
}

/* Many calls at a time to one name, by a resolver that takes a while: one answer is everybody's. */
static void test_many_who_ask_for_one_name(void **state)
{
	(void)state;
	enum { MANY = 60 };
	ws_server *server = server_start(&(ws_server_options){0});
	client *clients[MANY];
	asked = 0;
	for (int i = 0; i < MANY; i++) {
		clients[i] = client_new();
		client_connect(clients[i],
					   &(ws_options){.url = url_at("ws://busy.test", server, "/"), .connect_timeout_ms = 3000});
	}
	for (int i = 0; i < MANY; i++) {
		client_wait_open(clients[i]);
		client_done(clients[i]);
	}
	assert_in_range(asked, 1, 4); /* two threads, and perhaps two more for who came late */
	server_stop(server);
}

/* A name whose servers are silent, asked for by many, leaves threads for other names. */
static void test_a_name_that_hangs_holds_up_no_other(void **state)
{
	(void)state;
	enum { MANY = 20 };
	ws_server *server = server_start(&(ws_server_options){0});
	client *clients[MANY];
	let_go = 0;
	for (int i = 0; i < MANY; i++) {
		clients[i] = client_new();
		client_connect(clients[i], &(ws_options){.url = "ws://hangs.test/", .connect_timeout_ms = 1500});
	}
	client_done(client_open(&(ws_options){.url = url_at("ws://busy.test", server, "/"), .connect_timeout_ms = 1000}));
	assert_in_range(hanging, 1, 2);
	let_go = 1;
	for (int i = 0; i < MANY; i++) {
		client_wait(clients[i], &clients[i]->closes, 1, "end");
		assert_int_equal(clients[i]->end.why, WS_WHY_RESOLVE);
		client_done(clients[i]);
	}
	server_stop(server);
}

static void test_a_resolver_that_hangs(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	ws_options lost = {.url = "ws://hangs.test/", .connect_timeout_ms = 200};
	client *clients[20];
	let_go = 0;
	for (size_t i = 0; i < COUNT(clients); i++) {
		clients[i] = client_new();
		client_connect(clients[i], &lost);
	}
	client_done(client_open(&(ws_options){.url = url_of(server)})); /* an address needs no resolver */
	for (size_t i = 0; i < COUNT(clients); i++) {
		client_wait_close(clients[i], WS_WHY_TIMEOUT, WS_ABNORMAL);
		client_done(clients[i]);
	}
	assert_in_range(hanging, 1, 2);
	client *given_up = client_new();
	client_connect(given_up, &(ws_options){.url = "ws://hangs.test/"});
	client_done(given_up);
	client *stopped = client_new();
	client_connect(stopped, &(ws_options){.url = "ws://hangs.test/"});
	int64_t start = as_now_ns();
	ws_loops_stop();
	assert_true(elapsed_ms(start) < 1000);
	ws_actor_unref(stopped->actor);
	client_wait_free(stopped);
	let_go = 1;
	while (hanging) {
		sleep_ms(5);
	}
	sleep_ms(50);
	client_done(client_open(&(ws_options){.url = url_at("ws://localhost", server, "/")}));
	server_stop(server);
}

static void trickle(ws_peer *peer, void *arg)
{
	(void)arg;
	static const char answer[] = "HTTP/1.1 403 Forbidden\r\nX: y\r\nContent-Length: 0\r\n\r\n";
	char request[4096];
	peer_read(peer, request, sizeof(request));
	for (size_t i = 0; answer[i] && peer_write(peer, answer + i, 1) == 0; i++) {
		peer_wait(peer, 5);
	}
}

static void test_a_trickled_answer(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.raw = 1, .serve = trickle});
	client *c = client_fail(&(ws_options){.url = url_of(server)}, WS_WHY_HTTP);
	assert_int_equal(c->end.http_status, 403);
	client_done(c);
	server_stop(server);
}

static void reconnect_once(client *c)
{
	if (c->opens == 1) {
		ws_disconnect(c->actor, 1000, "", 0);
	}
}

static void test_connecting_again(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	ws_options options = {.url = url_of(server)};
	client *c = client_new();
	c->on_open = reconnect_once;
	client_connect(c, &options);
	client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
	client_try_connect(c, &options);
	client_wait(c, &c->opens, 2, "the second on_open");
	client_done(c);
	server_stop(server);
}

static void connect_twice(client *c, void *arg)
{
	assert_int_equal(ws_connect(c->actor, arg), 0);
	assert_int_equal(ws_connect(c->actor, arg), AS_EBUSY);
	assert_int_equal(ws_send(c->actor, 0, "x", 1), AS_ECLOSED);
	assert_int_equal(ws_unsent(c->actor), 0);
}

static void test_connecting_twice(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	client *c = client_new();
	client_call(c, connect_twice, &(ws_options){.url = url_of(server)});
	client_wait_open(c);
	assert_int_equal(client_try_connect(c, &(ws_options){.url = url_of(server)}), AS_EBUSY);
	client_done(c);
	server_stop(server);
}

/* Given up at any moment of opening. */
static void test_given_up_while_opening(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.raw = 1, .serve = stay_silent});
	for (int i = 0; i < 40; i++) {
		client *c = client_new();
		client_connect(c, &(ws_options){.url = i % 3 ? url_of(server) : url_at("ws://localhost", server, "/")});
		usleep((useconds_t)(i * 50));
		client_disconnect(c, 1000, "", i % 2 * 100);
		client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
		client_done(c);
	}
	server_stop(server);
}

static int stop_all(void **state)
{
	(void)state;
	ws_loops_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_url_check),
		cmocka_unit_test(test_the_request),
		cmocka_unit_test(test_long_headers),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_http_refusals),
		cmocka_unit_test(test_answers_that_are_no_handshake),
		cmocka_unit_test(test_extension_not_offered),
		cmocka_unit_test(test_refused_connections),
		cmocka_unit_test(test_names_without_an_address),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_many_who_ask_for_one_name),
		cmocka_unit_test(test_a_name_that_hangs_holds_up_no_other),
		cmocka_unit_test(test_a_resolver_that_hangs),
		cmocka_unit_test(test_a_trickled_answer),
		cmocka_unit_test(test_connecting_again),
		cmocka_unit_test(test_connecting_twice),
		cmocka_unit_test(test_given_up_while_opening),
	};
	return cmocka_run_group_tests(tests, NULL, stop_all);
}
