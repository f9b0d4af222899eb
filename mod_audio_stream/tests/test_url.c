/* test_url.c - which servers URLs name, and what of a URL may be shown. What a URL may be is in test_loop_connect.c. */
#define _GNU_SOURCE
#include "support.h"

#include "url.h"

static void test_which_urls_name_the_same_server(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		int same;
	} pairs[] = {
		{"wss://h/v1", "wss://h/v2?model=x", 1},
		{"wss://H.example.com", "WSS://h.EXAMPLE.com:443/", 1},
		{"ws://h:80/", "ws://h", 1},
		{"ws://[::1]:8/", "ws://[::1]:8/x", 1},
		{"wss://h/", "ws://h/", 0},
		{"ws://h:443/", "wss://h/", 0},
		{"wss://h:8443/", "wss://h/", 0},
		{"wss://h/", "wss://h.evil.example/", 0},
		{"wss://h/", "wss://xh/", 0},
		{"wss://h/", "wss://evil.example/h", 0},
		{"wss://h@evil.example/", "wss://h@evil.example/", 0},
		{"http://h/", "http://h/", 0},
		{"", "", 0},
	};
	for (size_t i = 0; i < COUNT(pairs); i++) {
		if (ws_url_same_server(pairs[i].a, pairs[i].b) != pairs[i].same) {
			fail_msg("%s and %s", pairs[i].a, pairs[i].b);
		}
	}
}

static void test_what_of_a_url_is_shown(void **state)
{
	(void)state;
	static const char *const urls[][2] = {
		{"wss://h.example.com/v1/S3CRET?key=S3CRET", "wss://h.example.com"},
		{"WS://127.0.0.1:8765/", "ws://127.0.0.1:8765"},
		{"ws://h:80?S3CRET", "ws://h"},
		{"wss://[::1]:9/S3CRET", "wss://[::1]:9"},
		{"ws://u:S3CRET@h/", ""},
		{"S3CRET", ""},
	};
	char shown[200], small[8];
	for (size_t i = 0; i < COUNT(urls); i++) {
		ws_url_show(urls[i][0], shown, sizeof(shown));
		assert_string_equal(shown, urls[i][1]);
	}
	ws_url_show("wss://h.example.com/", small, sizeof(small));
	assert_string_equal(small, "wss://h");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_urls_name_the_same_server),
		cmocka_unit_test(test_what_of_a_url_is_shown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
