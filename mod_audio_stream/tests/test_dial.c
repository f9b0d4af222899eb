/* test_dial.c - names with several addresses, of which some answer nothing, some refuse and some take the connection. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>

#include "certs.h"
#include "deaf.h"
#include "support.h"
#include "ws_client.h"
#include "ws_server.h"

#define DEAF "127.0.0.2"         /* where a test has put a deaf one */
#define NOBODY "127.0.0.3"       /* refuses */
#define NO_WAY "255.255.255.255" /* cannot be reached */
#define HERE "127.0.0.1"         /* the server */
#define HERE_IPV6 "::1"          /* the server, when it is an IPv6 one */
#define NOBODY_IPV6 "::1"        /* otherwise */

/* ---- A resolver that says what a test wants: this program's getaddrinfo() ------------------------------------------ */

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static const char *const *addresses; /* of many.test; NULL at their end */

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	resolver *real = (resolver *)(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
	if (!host || strcmp(host, "many.test") || (hints->ai_flags & AI_NUMERICHOST)) {
		return real(host, service, hints, out);
	}
	int error = 0;
	for (const char *const *address = addresses; *address && !error; address++) {
		error = real(*address, NULL, hints, out);
		out = error ? out : &(*out)->ai_next;
	}
	return error;
}

/* ---- What tests say -------------------------------------------------------------------------------------------------- */

static char *url_at(int port, const char *scheme)
{
	static char url[64];
	snprintf(url, sizeof(url), "%s://many.test:%d/", scheme, port);
	return url;
}

static int64_t elapsed_ms(int64_t since_ns)
{
	return (as_now_ns() - since_ns) / 1000000;
}

static int open_descriptors(void)
{
	int count = 0;
	DIR *all = opendir("/proc/self/fd");
	while (readdir(all)) {
		count++;
	}
	closedir(all);
	return count;
}

static void wait_for_descriptors(int most)
{
	for (int i = 0; i < 1000 && open_descriptors() > most; i++) {
		sleep_ms(5);
	}
	assert_true(open_descriptors() <= most);
}

/* Connects to the server by these addresses, of which DEAF is deaf; how long that took, in ms. */
static int64_t connect_ms(const ws_server *server, const char *const *to, int timeout_ms)
{
	deaf d = deaf_start(DEAF, server_port(server));
	addresses = to;
	int64_t start = as_now_ns();
	client *c = client_open(&(ws_options){.url = url_at(server_port(server), "ws"), .connect_timeout_ms = timeout_ms});
	int64_t took = elapsed_ms(start);
	assert_int_equal(client_send(c, 0, "x", 1), 0);
	client_wait_messages(c, 1);
	client_done(c);
	deaf_stop(&d);
	return took;
}

static void test_the_second_begins_after_a_quarter_of_a_second(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	assert_in_range(connect_ms(server, (const char *const[]){DEAF, HERE, NULL}, 5000), 245, 600);
	assert_in_range(connect_ms(server, (const char *const[]){DEAF, DEAF, HERE, NULL}, 5000), 495, 900);
	server_stop(server);
}

static void test_the_next_begins_at_once_when_one_fails(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	assert_in_range(connect_ms(server, (const char *const[]){NOBODY, NOBODY_IPV6, NOBODY, HERE, NULL}, 5000), 0, 200);
	assert_in_range(connect_ms(server, (const char *const[]){NO_WAY, NO_WAY, HERE, NULL}, 5000), 0, 200);
	assert_in_range(connect_ms(server, (const char *const[]){DEAF, NOBODY, HERE, NULL}, 5000), 245, 600);
	server_stop(server);
}

/* However many of one family come first, and were they more than are tried. */
static void test_families_take_turns(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.ipv6 = 1});
	const char *const many[] = {DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, HERE_IPV6, NULL};
	assert_in_range(connect_ms(server, many, 5000), 245, 600);
	server_stop(server);
}

static void test_an_only_address_has_all_the_time(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	assert_in_range(connect_ms(server, (const char *const[]){HERE, NULL}, 5000), 0, 200);
	server_stop(server);
}

/* From now on it answers, and those of before are gone: Linux sends a SYN again after a second. */
static void deaf_hears(deaf *d)
{
	const struct timeval patience = {.tv_sec = 5};
	int flags = fcntl(d->listener, F_GETFL);
	for (size_t i = 0; i < COUNT(d->fillers); i++) {
		close(d->fillers[i]);
	}
	fcntl(d->listener, F_SETFL, flags | O_NONBLOCK);
	for (int fd; (fd = accept(d->listener, NULL, NULL)) >= 0;) {
		close(fd);
	}
	fcntl(d->listener, F_SETFL, flags);
	setsockopt(d->listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static int accept_next(const deaf *d)
{
	int fd = accept(d->listener, NULL, NULL);
	assert_true(fd >= 0);
	return fd;
}

/* What a connection begins with; returns its bytes, and closes it. */
static long first_words(int fd, char *text, size_t bytes)
{
	long n = recv(fd, text, bytes - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	return n > 0 ? n : 0;
}

/* A connection made late counts as well as one made at once. */
static void test_an_attempt_goes_on_beside_the_later_ones(void **state)
{
	(void)state;
	char request[4096];
	deaf d = deaf_start(DEAF, 0);
	addresses = (const char *const[]){DEAF, NOBODY, NULL};
	client *c = client_new();
	client_connect(c, &(ws_options){.url = url_at(d.port, "ws"), .connect_timeout_ms = 5000});
	sleep_ms(400); /* NOBODY has refused by now */
	assert_int_equal(c->closes, 0);
	deaf_hears(&d);
	assert_true(first_words(accept_next(&d), request, sizeof(request)) > 0);
	assert_non_null(strstr(request, "many.test"));
	client_wait_close(c, WS_WHY_CONNECT, WS_ABNORMAL); /* before it answered */
	client_done(c);
	close(d.listener);
}

static void hold_up(void *arg, void *message)
{
	_Atomic int *both_accepted = message;
	(void)arg;
	for (int i = 0; i < 1000 && !*both_accepted; i++) {
		sleep_ms(10);
	}
}

/* The service thread is held up until both attempts are connected, and so finds them in one round. */
static void two_at_once(const char *scheme)
{
	char words[4096];
	_Atomic int both_accepted = 0;
	ws_loops_stop();
	ws_loops_set(1);
	client *other = client_new();
	int before = open_descriptors();
	deaf d = deaf_start(DEAF, 0);
	addresses = (const char *const[]){DEAF, DEAF, NULL};
	client *c = client_new();
	client_connect(c, &(ws_options){.url = url_at(d.port, scheme), .connect_timeout_ms = 10000});
	sleep_ms(350); /* both have begun */
	assert_int_equal(ws_post(other->actor, hold_up, &both_accepted, NULL), 0);
	deaf_hears(&d);
	int one = accept_next(&d), another = accept_next(&d);
	both_accepted = 1;
	long first = first_words(one, words, sizeof(words)), second = first_words(another, words, sizeof(words));
	assert_true((first > 0) != (second > 0)); /* the loser is closed without a word */
	client_wait(c, &c->closes, 1, "the end");
	client_done(c);
	close(d.listener);
	wait_for_descriptors(before);
	client_done(other);
	ws_loops_stop();
	ws_loops_set(WS_THREADS_DEFAULT);
}

static void test_of_two_in_the_same_moment_one_is_kept(void **state)
{
	(void)state;
	two_at_once("ws");
	two_at_once("wss");
}

static void test_all_that_fail(void **state)
{
	(void)state;
	char url[64];
	ws_server *server = server_start(&(ws_server_options){0});
	int port = server_port(server);
	server_stop(server);
	snprintf(url, sizeof(url), "%s", url_at(port, "ws"));
	addresses = (const char *const[]){NO_WAY, NOBODY_IPV6, NOBODY, NULL};
	client *c = client_fail(&(ws_options){.url = url}, WS_WHY_CONNECT);
	assert_non_null(strstr(c->reason, "many.test"));
	assert_int_equal(c->end.refused, 1);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
	addresses = (const char *const[]){NO_WAY, NO_WAY, NULL};
	c = client_fail(&(ws_options){.url = url}, WS_WHY_CONNECT);
	assert_int_equal(c->end.refused, 0);
	client_done(c);
}

static void test_the_timeout_is_for_all_together(void **state)
{
	(void)state;
	deaf d = deaf_start(DEAF, 0);
	addresses = (const char *const[]){DEAF, DEAF, DEAF, DEAF, DEAF, DEAF, NULL};
	int64_t start = as_now_ns();
	client *c = client_fail(&(ws_options){.url = url_at(d.port, "ws"), .connect_timeout_ms = 600}, WS_WHY_TIMEOUT);
	assert_in_range(elapsed_ms(start), 590, 1500);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
	deaf_stop(&d);
}

static void test_given_up_at_any_moment(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	deaf d = deaf_start(DEAF, server_port(server));
	ws_options options = {.url = url_at(server_port(server), "ws"), .connect_timeout_ms = 5000};
	addresses = (const char *const[]){DEAF, NOBODY, DEAF, NO_WAY, HERE, NULL};
	client_done(client_open(&options));
	int before = open_descriptors();
	for (int i = 0; i < 12; i++) {
		client *c = client_new();
		client_connect(c, &options);
		sleep_ms(i * 50); /* both before and after the last one has begun */
		client_done(c);
	}
	wait_for_descriptors(before);
	client *stopped = client_new();
	client_connect(stopped, &options);
	sleep_ms(300);
	ws_loops_stop();
	ws_actor_unref(stopped->actor);
	client_wait_free(stopped);
	deaf_stop(&d);
	server_stop(server);
}

static void test_over_tls(void **state)
{
	(void)state;
	char directory[] = "/tmp/as-dial-XXXXXX", path[64];
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/self", directory);
	assert_int_equal(cert_make(&(cert_spec){path, NULL, "DNS:many.test", -1000, 100000}), 0);
	ws_server *server = server_start(&(ws_server_options){.cert = path});
	deaf d = deaf_start(DEAF, server_port(server));
	addresses = (const char *const[]){DEAF, NOBODY, HERE, NULL};
	client *c = client_open(&(ws_options){.url = url_at(server_port(server), "wss"), .allow_selfsigned = 1});
	assert_int_equal(client_send(c, 0, "x", 1), 0);
	client_wait_messages(c, 1);
	client_done(c);
	deaf_stop(&d);
	server_stop(server);
	snprintf(path, sizeof(path), "%s/self.pem", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/self.key", directory);
	unlink(path);
	rmdir(directory);
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
		cmocka_unit_test(test_over_tls), /* first: the system's authorities are loaded once, and slowly */
		cmocka_unit_test(test_the_second_begins_after_a_quarter_of_a_second),
		cmocka_unit_test(test_the_next_begins_at_once_when_one_fails),
		cmocka_unit_test(test_families_take_turns),
		cmocka_unit_test(test_an_only_address_has_all_the_time),
		cmocka_unit_test(test_an_attempt_goes_on_beside_the_later_ones),
		cmocka_unit_test(test_all_that_fail),
		cmocka_unit_test(test_the_timeout_is_for_all_together),
		cmocka_unit_test(test_of_two_in_the_same_moment_one_is_kept),
		cmocka_unit_test(test_given_up_at_any_moment),
	};
	return cmocka_run_group_tests(tests, NULL, stop_all);
}
