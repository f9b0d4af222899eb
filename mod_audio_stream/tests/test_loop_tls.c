/* test_loop_tls.c - wss: who is trusted, who is not, and what is said about it. Certificates are made here. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "certs.h"
#include "support.h"
#include "tls.h"
#include "ws_client.h"
#include "ws_server.h"

#define DAY 86400L

static char directory[] = "/tmp/as-tls-XXXXXX";

static char *file(const char *name)
{
	static char paths[64][300]; /* enough for one test */
	static int next;
	char *path = paths[next++ % 64];
	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void make(const char *name, const char *issuer, const char *names, long from_s, long to_s)
{
	cert_spec spec = {file(name), issuer ? file(issuer) : NULL, names, from_s, to_s};
	assert_int_equal(cert_make(&spec), 0);
}

static int make_all(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(directory));
	make("ca", NULL, NULL, -DAY, DAY);
	make("other-ca", NULL, NULL, -DAY, DAY);
	make("good", "ca", "DNS:localhost,IP:127.0.0.1,IP:::1", -DAY, DAY);
	make("name-only", "ca", "DNS:localhost", -DAY, DAY);
	make("wildcard", "ca", "DNS:*.localhost,DNS:loc*", -DAY, DAY);
	make("wrong-host", "ca", "DNS:elsewhere.example", -DAY, DAY);
	make("expired", "ca", "DNS:localhost,IP:127.0.0.1", -2 * DAY, -DAY);
	make("future", "ca", "DNS:localhost,IP:127.0.0.1", DAY, 2 * DAY);
	make("self", NULL, "DNS:localhost,IP:127.0.0.1", -DAY, DAY);
	make("self-expired", NULL, "DNS:localhost,IP:127.0.0.1", -2 * DAY, -DAY);
	make("self-wrong-host", NULL, "DNS:elsewhere.example", -DAY, DAY);
	make("client", "ca", "DNS:client", -DAY, DAY);
	make("strange-client", "other-ca", "DNS:client", -DAY, DAY);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	ws_loops_stop();
	DIR *all = opendir(directory);
	for (struct dirent *entry; (entry = readdir(all));) {
		if (entry->d_name[0] != '.') {
			unlink(file(entry->d_name));
		}
	}
	closedir(all);
	return rmdir(directory);
}

static ws_server *serve(const char *cert)
{
	return server_start(&(ws_server_options){.cert = file(cert)});
}

static char *url_of(const ws_server *server, const char *host)
{
	static char url[100];
	snprintf(url, sizeof(url), "wss://%s:%d/", host, server_port(server));
	return url;
}

static void echo(client *c)
{
	char data[50000];
	memset(data, 'e', sizeof(data));
	assert_int_equal(client_send(c, 1, data, sizeof(data)), 0);
	client_wait_messages(c, 1);
	assert_int_equal(c->last_bytes, sizeof(data));
	assert_memory_equal(c->last, data, sizeof(data));
}

static void accepted(const char *cert, const char *host, ws_options options)
{
	ws_server *server = serve(cert);
	options.url = url_of(server, host);
	client *c = client_open(&options);
	echo(c);
	client_disconnect(c, 1000, "", 1000);
	client_wait_close(c, WS_WHY_CLOSED, 1000);
	client_done(c);
	server_stop(server);
}

static void refused(const char *cert, const char *host, ws_options options, ws_why why, const char *expected)
{
	ws_server *server = serve(cert);
	options.url = url_of(server, host);
	client *c = client_fail(&options, why);
	if (!strcasestr(c->reason, expected)) {
		fail_msg("\"%s\" does not say \"%s\"", c->reason, expected);
	}
	assert_int_equal(c->end.passing, 0);
	client_done(c);
	server_stop(server);
}

static ws_options trusting(void)
{
	return (ws_options){.ca_file = file("ca.pem")};
}

static void test_accepted(void **state)
{
	(void)state;
	accepted("good", "localhost", trusting());
	accepted("good", "127.0.0.1", trusting());
	ws_options self = {.ca_file = file("self.pem")};
	accepted("self", "localhost", self); /* pinned: it is its own authority */
	ws_options leaf = {.ca_file = file("good.pem")};
	accepted("good", "localhost", leaf);
	ws_options deflate = trusting();
	deflate.deflate = 1;
	accepted("good", "localhost", deflate);
}

static void test_refused(void **state)
{
	(void)state;
	ws_options plain = {0}, other = {.ca_file = file("other-ca.pem")};
	refused("good", "localhost", plain, WS_WHY_TLS, "issuer");
	refused("good", "localhost", other, WS_WHY_TLS, "issuer");
	refused("wrong-host", "localhost", trusting(), WS_WHY_TLS, "hostname mismatch");
	refused("name-only", "127.0.0.1", trusting(), WS_WHY_TLS, "IP address mismatch");
	refused("wildcard", "localhost", trusting(), WS_WHY_TLS, "hostname mismatch");
	refused("expired", "localhost", trusting(), WS_WHY_TLS, "expired");
	refused("future", "localhost", trusting(), WS_WHY_TLS, "not yet valid");
	refused("self", "localhost", plain, WS_WHY_TLS, "self");
	refused("self", "localhost", trusting(), WS_WHY_TLS, "self");
}

/* Each switch allows what it says and nothing else. */
static void test_exceptions(void **state)
{
	(void)state;
	ws_options self = {.allow_selfsigned = 1}, expired = trusting(), host = trusting(), both = {.allow_selfsigned = 1};
	expired.allow_expired = 1;
	host.skip_hostname_check = 1;
	accepted("self", "localhost", self);
	refused("self-expired", "localhost", self, WS_WHY_TLS, "expired");
	refused("self-wrong-host", "localhost", self, WS_WHY_TLS, "hostname mismatch");
	refused("good", "localhost", self, WS_WHY_TLS, "issuer");
	accepted("expired", "localhost", expired);
	refused("future", "localhost", expired, WS_WHY_TLS, "not yet valid");
	refused("self", "localhost", expired, WS_WHY_TLS, "self");
	refused("wrong-host", "localhost", expired, WS_WHY_TLS, "hostname mismatch");
	accepted("wrong-host", "localhost", host);
	accepted("name-only", "127.0.0.1", host);
	refused("expired", "localhost", host, WS_WHY_TLS, "expired");
	refused("self", "localhost", host, WS_WHY_TLS, "self");
	both.allow_expired = 1;
	accepted("self-expired", "localhost", both);
}

static void test_client_certificates(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.cert = file("good"), .client_ca = file("ca")});
	ws_options options = trusting();
	char url[100];
	snprintf(url, sizeof(url), "%s", url_of(server, "localhost"));
	options.url = url;
	options.cert_file = file("client.pem");
	options.key_file = file("client.key");
	client *c = client_open(&options);
	echo(c);
	client_done(c);
	options.cert_file = file("strange-client.pem");
	options.key_file = file("strange-client.key");
	client_done(client_fail(&options, WS_WHY_TLS));
	options.cert_file = options.key_file = NULL;
	c = client_fail(&options, WS_WHY_TLS);
	assert_non_null(strstr(c->reason, "certificate"));
	client_done(c);
	server_stop(server);
}

static void write_file(const char *name, const char *text)
{
	FILE *out = fopen(file(name), "w");
	assert_true(out && fputs(text, out) >= 0 && fclose(out) == 0);
}

static void test_files_that_cannot_be_used(void **state)
{
	(void)state;
	ws_options options = {.ca_file = file("missing.pem")};
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "missing.pem: No such file");
	write_file("garbage.pem", "this is no certificate\n");
	options.ca_file = file("garbage.pem");
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "garbage.pem");
	options = trusting();
	options.cert_file = file("garbage.pem");
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "garbage.pem");
	options.cert_file = file("client.pem");
	options.key_file = file("missing.key");
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "missing.key");
	options.key_file = file("good.key");
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "good.key");
	options.cert_file = NULL;
	refused("good", "127.0.0.1", options, WS_WHY_OPTIONS, "without a certificate");
}

/* A file that has changed is read again; one that has not is not. */
static void test_files_that_change(void **state)
{
	(void)state;
	char error[200];
	ws_server *server = serve("good");
	ws_options options = {.url = url_of(server, "localhost"), .ca_file = file("changing.pem")};
	char *path = strdup(options.ca_file), *ca = strdup(file("ca.pem"));
	assert_int_equal(link(file("other-ca.pem"), path), 0);
	client_done(client_fail(&options, WS_WHY_TLS));
	unlink(path);
	assert_int_equal(link(ca, path), 0);
	client_done(client_open(&options));
	ws_tls *first = ws_tls_load(path, NULL, NULL, error, sizeof(error));
	ws_tls *second = ws_tls_load(path, NULL, NULL, error, sizeof(error));
	assert_ptr_equal(first, second);
	ws_tls_unref(first);
	ws_tls_unref(second);
	free(path);
	free(ca);
	server_stop(server);
}

static void test_many_sets_of_files(void **state)
{
	(void)state;
	char name[40], error[200];
	char *ca = strdup(file("ca.pem"));
	ws_tls *first = NULL, *last = NULL;
	for (int i = 0; i < 80; i++) {
		snprintf(name, sizeof(name), "many-%d.pem", i);
		assert_int_equal(link(ca, file(name)), 0);
		ws_tls *tls = ws_tls_load(file(name), NULL, NULL, error, sizeof(error));
		assert_non_null(tls);
		first = i ? first : ws_tls_ref(tls);
		last = tls;
		ws_tls_unref(tls);
	}
	ws_tls *again = ws_tls_load(file("many-0.pem"), NULL, NULL, error, sizeof(error));
	assert_ptr_not_equal(again, first); /* not kept for ever */
	ws_tls_unref(again);
	ws_tls_unref(first);
	again = ws_tls_load(file("many-79.pem"), NULL, NULL, error, sizeof(error));
	assert_ptr_equal(again, last);
	ws_tls_unref(again);
	free(ca);
}

/* ---- File systems that hang -------------------------------------------------------------------------------------- */

static _Atomic int seen_by_service_threads;

/* This program's stat(), which notes who calls it. */
int stat(const char *restrict path, struct stat *restrict out)
{
	char name[16] = "";
	pthread_getname_np(pthread_self(), name, sizeof(name));
	seen_by_service_threads += !strncmp(name, "as-ws-", 6) && name[6] >= '0' && name[6] <= '9';
	return fstatat(AT_FDCWD, path, out, 0);
}

static void test_no_service_thread_looks_at_files(void **state)
{
	(void)state;
	struct stat status;
	assert_int_equal(stat(file("ca.pem"), &status), 0); /* ours is the one that is called */
	for (int twice = 0; twice < 2; twice++) {           /* loaded, and cached */
		accepted("good", "localhost", (ws_options){.ca_file = file("ca.pem")});
		accepted("good", "127.0.0.1", (ws_options){.ca_file = file("ca.pem")});
	}
	assert_int_equal(seen_by_service_threads, 0);
}

/* Lets go who waits for the FIFO to be opened: 1, or 0 when there is nobody. */
static int let_go(const char *fifo)
{
	int fd = open(fifo, O_WRONLY | O_NONBLOCK);
	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

static void test_a_file_that_hangs_keeps_nobody_from_others(void **state)
{
	(void)state;
	char *fifo = strdup(file("hangs.pem")), *fresh = strdup(file("fresh.pem"));
	ws_server *server = serve("good");
	assert_int_equal(mkfifo(fifo, 0600), 0); /* opening it waits for somebody who writes */
	assert_int_equal(link(file("ca.pem"), fresh), 0);
	client *stuck = client_new();
	client_connect(stuck,
				   &(ws_options){.url = url_of(server, "127.0.0.1"), .ca_file = fifo, .connect_timeout_ms = 60000});
	for (int i = 0; !let_go(fifo); i++) { /* the first time it is opened; the next time it hangs again */
		assert_true(i < 5000);
		sleep_ms(2);
	}
	accepted("good", "127.0.0.1", (ws_options){.ca_file = fresh});
	client_disconnect(stuck, 1000, "", 0);
	client_wait(stuck, &stuck->closes, 1, "on_close");
	client_done(stuck);
	for (int quiet = 0; quiet < 50; quiet = let_go(fifo) ? 0 : quiet + 1) {
		sleep_ms(2);
	}
	free(fifo);
	free(fresh);
	server_stop(server);
}

/* ---- Servers that speak something else --------------------------------------------------------------------------- */

static void say_something(ws_peer *peer, void *arg)
{
	peer_write(peer, arg, strlen(arg));
	peer_wait(peer, 200);
}

static void test_no_tls_there(void **state)
{
	(void)state;
	static const char *const words[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "", "\x15\x03\x03"};
	for (size_t i = 0; i < COUNT(words); i++) {
		ws_server *server =
			server_start(&(ws_server_options){.raw = 1, .serve = say_something, .arg = (void *)words[i]});
		client *c = client_fail(&(ws_options){.url = url_of(server, "127.0.0.1")}, WS_WHY_TLS);
		assert_true(strlen(c->reason) > 10);
		assert_int_equal(c->end.passing, i > 0); /* those end in the middle of a record, or before it */
		client_done(c);
		server_stop(server);
	}
}

static void read_and_leave(ws_peer *peer, void *arg)
{
	char hello[16384];
	(void)arg;
	peer_read(peer, hello, sizeof(hello));
}

static void test_closed_in_the_middle_of_the_handshake(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.raw = 1, .serve = read_and_leave});
	client *c = client_fail(&(ws_options){.url = url_of(server, "127.0.0.1")}, WS_WHY_TLS);
	assert_int_equal(c->end.passing, 1);
	client_done(c);
	server_stop(server);
}

static void be_silent(ws_peer *peer, void *arg)
{
	(void)arg;
	peer_wait_gone(peer);
}

static void test_a_handshake_that_does_not_end(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.raw = 1, .serve = be_silent});
	ws_options options = {.url = url_of(server, "127.0.0.1"), .connect_timeout_ms = 200};
	client *c = client_fail(&options, WS_WHY_TIMEOUT);
	assert_non_null(strstr(c->reason, "TLS"));
	client_done(c);
	server_stop(server);
}

static void tell_request(ws_peer *peer, void *arg)
{
	(void)arg;
	peer_send(peer, WS_OP_TEXT, peer_request(peer), strlen(peer_request(peer)));
	peer_wait_gone(peer);
}

/* Many at once, with different trust, on the same threads: nobody gets another one's. */
static void test_each_by_its_own_settings(void **state)
{
	(void)state;
	client *clients[24];
	ws_server *good = server_start(&(ws_server_options){.cert = file("good"), .serve = tell_request});
	ws_server *self = serve("self");
	char good_url[100], self_url[100];
	snprintf(good_url, sizeof(good_url), "%s", url_of(good, "localhost"));
	snprintf(self_url, sizeof(self_url), "%s", url_of(self, "localhost"));
	for (int i = 0; i < (int)COUNT(clients); i++) {
		ws_options options = trusting();
		options.url = i % 3 ? good_url : self_url;
		options.allow_selfsigned = i % 2;
		options.ca_file = i % 3 == 2 ? file("other-ca.pem") : options.ca_file;
		clients[i] = client_new();
		client_connect(clients[i], &options);
	}
	for (int i = 0; i < (int)COUNT(clients); i++) {
		if (i % 3 == 1 || (i % 3 == 0 && i % 2)) {
			client_wait_open(clients[i]);
		} else {
			client_wait_close(clients[i], WS_WHY_TLS, WS_ABNORMAL);
		}
		client_done(clients[i]);
	}
	server_stop(good);
	server_stop(self);
}

static void reset_after_a_message(ws_peer *peer, void *arg)
{
	int opcode;
	size_t n;
	(void)arg;
	peer_receive(peer, &opcode, &n);
	peer_reset(peer);
}

static void test_lost_and_stopped(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){.cert = file("good"), .serve = reset_after_a_message});
	ws_options options = trusting();
	options.url = url_of(server, "localhost");
	client *c = client_open(&options), *other = client_open(&options);
	assert_int_equal(client_send(c, 0, "x", 1), 0);
	client_wait_close(c, WS_WHY_LOST, WS_ABNORMAL);
	client_done(c);
	ws_loops_stop();
	ws_actor_unref(other->actor);
	client_wait_free(other);
	server_stop(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_files_that_cannot_be_used),
		cmocka_unit_test(test_files_that_change),
		cmocka_unit_test(test_many_sets_of_files),
		cmocka_unit_test(test_no_service_thread_looks_at_files),
		cmocka_unit_test(test_a_file_that_hangs_keeps_nobody_from_others),
		cmocka_unit_test(test_no_tls_there),
		cmocka_unit_test(test_closed_in_the_middle_of_the_handshake),
		cmocka_unit_test(test_a_handshake_that_does_not_end),
		cmocka_unit_test(test_each_by_its_own_settings),
		cmocka_unit_test(test_lost_and_stopped),
	};
	return cmocka_run_group_tests(tests, make_all, remove_all);
}
