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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_urls_name_the_same_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
