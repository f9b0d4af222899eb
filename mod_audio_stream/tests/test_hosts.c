/* test_hosts.c - which servers a list of hosts allows, in what a streamer is asked for and in every connection. */
#define _GNU_SOURCE
#include "support.h"

#include "audio_stream_ws.h"
#include "hosts.h"
#include "ws_client.h"

static void test_what_a_list_allows(void **state)
{
	(void)state;
	static const struct {
		const char *list, *url;
		int allowed;
	} cases[] = {
		{"", "ws://anything/", 1},
		{" , ", "ws://anything/", 1},
		{"", "http://anything/", 0},
		{"a.example.com", "wss://A.example.com/v1?x", 1},
		{"a.example.com", "ws://a.example.com:8765/", 1},
		{"a.example.com", "wss://b.example.com/", 0},
		{"a.example.com", "wss://a.example.com.evil.example/", 0},
		{"a.example.com", "wss://evil.example/a.example.com", 0},
		{"a.example.com", "wss://a.example.com@evil.example/", 0},
		{"a.example.com:443", "wss://a.example.com/", 1},
		{"a.example.com:443", "ws://a.example.com/", 0},
		{"a.example.com:80", "ws://a.example.com/", 1},
		{"*.example.com", "wss://a.example.com/", 1},
		{"*.example.com", "wss://a.b.EXAMPLE.com:1/", 1},
		{"*.example.com", "wss://example.com/", 0},
		{"*.example.com", "wss://.example.com/", 0},
		{"*.example.com", "wss://aexample.com/", 0},
		{"*.example.com:8443", "wss://a.example.com:8443/", 1},
		{"*.example.com:8443", "wss://a.example.com/", 0},
		{"127.0.0.1", "ws://127.0.0.1:5/", 1},
		{"127.0.0.1", "ws://127.0.0.11/", 0},
		{"127.0.0.1", "ws://localhost/", 0},
		{"[::1]", "ws://[0:0::1]:5/", 1},
		{"[::1]:5", "ws://[::1]:6/", 0},
		{"[::1]:5", "ws://[::1]:5/", 1},
		{"a.example.com, *.example.org,\t[::1]", "ws://x.example.org/", 1},
		{"a.example.com, *.example.org,\t[::1]", "ws://[::1]/", 1},
		{"a.example.com, *.example.org,\t[::1]", "ws://example.com/", 0},
		{WS_HOSTS_NONE, "ws://a/", 0},
		{"https://a/ b", "ws://a/", 0}, /* what is wrong allows nothing, and spoils nothing */
		{"https://a/ b", "ws://b/", 1},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (ws_hosts_allow(cases[i].list, cases[i].url) != cases[i].allowed) {
			fail_msg("'%s' and %s: not %d", cases[i].list, cases[i].url, cases[i].allowed);
		}
	}
}

static void test_what_is_no_list(void **state)
{
	(void)state;
	static const char *const wrong[] = {"*",   "*.",          "ws://a", "a/b",  "a:",      "a:0",  "a:65536", "u@a",
										"::1", "*.[::1]",     "a?b",    "a#b",  "a.*.com", "**.a", "*.*.a",   "[::1",
										"!",   WS_HOSTS_NONE, "a\\b",   "a b!", "..a",     "*..a"};
	char named[64], small[3];
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (ws_hosts_check(wrong[i], named, sizeof(named)) != AS_EINVAL) {
			fail_msg("'%s' is a list", wrong[i]);
		}
	}
	assert_int_equal(ws_hosts_check("a, *.b:8,\n[::1]:9 1.2.3.4", named, sizeof(named)), 0);
	assert_int_equal(ws_hosts_check("", named, sizeof(named)), 0);
	assert_int_equal(ws_hosts_check("a, b/c, d/e", named, sizeof(named)), AS_EINVAL);
	assert_string_equal(named, "b/c");
	assert_int_equal(ws_hosts_check("bad/one", small, sizeof(small)), AS_EINVAL);
	assert_string_equal(small, "ba");
}

static void test_a_streamer_goes_only_where_its_options_allow(void **state)
{
	(void)state;
	as_options *options = NULL;
	char error[300];
	assert_int_equal(as_options_new(&options), 0);
	assert_int_equal(as_options_set(options, "allow-hosts", "*.example.com", error, sizeof(error)), 0);
	for (int dialect = AS_DIALECT_BINARY; dialect <= AS_DIALECT_OPENAI; dialect++) {
		as_streamer_start start = {.dialect = dialect, .url = "wss://ai.example.com/SECRET", .api_key = "k"};
		assert_int_equal(as_streamer_check(&start, options, error, sizeof(error)), 0);
		start.url = "wss://ai.example.org/SECRET";
		assert_int_equal(as_streamer_check(&start, options, error, sizeof(error)), AS_EINVAL);
		assert_non_null(strstr(error, "allow-hosts in audio_stream.conf.xml"));
		assert_null(strstr(error, "SECRET"));
	}
	as_streamer_start configured = {.dialect = AS_DIALECT_OPENAI, .api_key = "k"}; /* api.openai.com */
	assert_int_equal(as_streamer_check(&configured, options, error, sizeof(error)), AS_EINVAL);
	as_options_free(options);
}

/* A list with a mistake in it must not come to allow everything. */
static void test_a_list_that_is_wrong_allows_nothing(void **state)
{
	(void)state;
	as_options *options = NULL;
	char error[300];
	const as_streamer_start start = {.dialect = AS_DIALECT_BINARY, .url = "ws://a.example.com/"};
	assert_int_equal(as_options_new(&options), 0);
	assert_int_equal(as_options_set(options, "allow-hosts", "a.example.com, https://b", error, sizeof(error)),
					 AS_EINVAL);
	assert_string_equal(error,
						"allow-hosts has 'https://b' in it but must be hosts, host:port, *.domain; until that is "
						"right, no server is allowed");
	assert_int_equal(as_streamer_check(&start, options, error, sizeof(error)), AS_EINVAL);
	assert_int_equal(as_options_set(options, "allow-hosts", "a.example.com", error, sizeof(error)), 0);
	assert_int_equal(as_streamer_check(&start, options, error, sizeof(error)), 0);
	as_options_free(options);
}

/* Whoever connects: the native transport has no options. */
static void test_no_connection_goes_where_the_process_may_not(void **state)
{
	(void)state;
	as_options *options = NULL;
	char error[300];
	assert_int_equal(as_options_new(&options), 0);
	assert_int_equal(as_options_set(options, "allow-hosts", "*.example.com", error, sizeof(error)), 0);
	assert_int_equal(as_ws_allow_hosts(options), 0);
	assert_int_equal(ws_hosts_allowed("ws://127.0.0.1:1/"), 0);
	assert_int_equal(ws_hosts_allowed("ws://a.example.com:1/"), 1);
	client *c = client_fail(&(ws_options){.url = "ws://127.0.0.1:1/SECRET"}, WS_WHY_OPTIONS);
	assert_string_equal(c->reason, "allow-hosts in audio_stream.conf.xml does not name 127.0.0.1");
	client_done(c);
	as_options_free(options);
	assert_int_equal(as_options_new(&options), 0);
	assert_int_equal(as_ws_allow_hosts(options), 0);
	assert_int_equal(ws_hosts_allowed("ws://127.0.0.1:1/"), 1);
	as_options_free(options);
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
		cmocka_unit_test(test_what_a_list_allows),
		cmocka_unit_test(test_what_is_no_list),
		cmocka_unit_test(test_a_streamer_goes_only_where_its_options_allow),
		cmocka_unit_test(test_a_list_that_is_wrong_allows_nothing),
		cmocka_unit_test(test_no_connection_goes_where_the_process_may_not),
	};
	return cmocka_run_group_tests(tests, NULL, stop_all);
}
