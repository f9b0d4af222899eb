/* test_extra_headers.c - STREAM_EXTRA_HEADERS as JSON, compared with a JSON library, and on the stack of a call's thread. */
#define _GNU_SOURCE
#include "support.h"

#include <jansson.h>
#include <pthread.h>

#include "audio_stream_ws.h"
#include "extra_headers.h"

#define CALL_STACK_BYTES (240 * 1024) /* FreeSWITCH's for a session's thread, */
#define USED_BYTES (100 * 1024)       /* and what extensions in extensions may have taken of it */
#define LEVELS 2000
#define CASES 20000

static void test_what_is_read(void **state)
{
	(void)state;
	static const char text[] =
		" {\"X-Tenant\" : \"blue\", \"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\", \"b\":\"\\u00e9\\u20AC\\ud83d\\ude00\","
		"\"n\": 1, \"o\": {\"p\": [\"}\"]}, \"\": \"\"}\n";
	extra_headers headers;
	assert_int_equal(extra_headers_parse(text, &headers), 0);
	assert_int_equal(headers.count, 6);
	assert_string_equal(headers.all[0].name, "X-Tenant");
	assert_string_equal(headers.all[0].value, "blue");
	assert_string_equal(headers.all[1].value, "\"\\/\b\f\n\r\t");
	assert_string_equal(headers.all[2].value, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	assert_null(headers.all[3].value);
	assert_null(headers.all[4].value);
	assert_string_equal(headers.all[5].name, "");
	extra_headers_free(&headers);
	assert_int_equal(extra_headers_parse("", &headers), 0);
	assert_int_equal(headers.count, 0);
	assert_int_equal(extra_headers_parse("{}", &headers), 0);
	assert_int_equal(headers.count, 0);
	extra_headers_free(&headers);
}

static void test_what_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {"x",
										"[]",
										"{\"a\":\"b\"",
										"{\"a\":\"b\"} x",
										"{\"a\":\"\\x\"}",
										"{\"a\":\"\\u12\"}",
										"{\"a\":\"\\u12",
										"{\"a\":\"\\u0000\"}",
										"{\"a\":\"\\ud800\"}",
										"{\"a\":\"\\ud800\\u0041\"}",
										"{\"a\":\"\\udc00\"}",
										"{\"a\":\"\t\"}",
										"{\"a\":\"1\",\"a\":\"2\"}",
										"{\"a\":\"1\",\"\\u0061\":\"2\"}",
										"{\"a\":\"1\",}",
										"{a:\"1\"}",
										"{\"a\" \"1\"}"};
	extra_headers headers;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (extra_headers_parse(wrong[i], &headers) != AS_EINVAL) {
			fail_msg("%s is not refused", wrong[i]);
		}
		assert_null(headers.all);
	}
}

/* What a JSON library makes of the same text. */
static void compare(const char *text)
{
	extra_headers headers;
	json_t *wanted = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *value;
	const char *name;
	int wrong = extra_headers_parse(text, &headers), strings = wanted != NULL;
	json_object_foreach(wanted, name, value)
	{
		strings &= json_is_string(value);
	}
	if (strings && wrong) {
		fail_msg("refused: %s", text);
	}
	if (!wrong) {
		assert_int_equal(strings ? json_object_size(wanted) : headers.count, headers.count);
	}
	for (size_t i = 0; strings && i < headers.count; i++) {
		assert_string_equal(headers.all[i].value, json_string_value(json_object_get(wanted, headers.all[i].name)));
	}
	for (size_t i = 0; !wrong && !wanted && i < headers.count; i++) {
		strings |= !headers.all[i].value; /* inside what is no string, nobody looks */
	}
	if (!wrong && !wanted && !strings) {
		fail_msg("taken: %s", text);
	}
	extra_headers_free(&headers);
	json_decref(wanted);
}

static void test_a_json_library_reads_the_same(void **state)
{
	(void)state;
	static const char *const parts[] = {"\"",
										"\"",
										"{",
										"}",
										":",
										",",
										"a",
										"b",
										"\\n",
										"\\\"",
										"\\\\",
										"\\u0041",
										"\\ud83d",
										"\\ude00",
										"\\u00",
										"\xc3\xa9",
										"\t",
										" ",
										"\\q",
										"1",
										"[",
										"\"a\":\"b\"",
										"\"c\":\"\\u20ac\"",
										",\"d\":\"\"",
										"{\"e\":\"f\"",
										"\"g\":{}"};
	uint32_t seed = 7;
	for (int i = 0; i < CASES; i++) {
		char text[400] = "";
		strcat(text, random_upto(&seed, 4) > 1 ? "{" : "");
		for (size_t n = random_upto(&seed, 12); n > 0; n--) {
			strcat(text, parts[random_upto(&seed, COUNT(parts)) - 1]);
		}
		strcat(text, random_upto(&seed, 4) > 1 ? "}" : "");
		compare(text);
	}
}

/* ---- A call's thread --------------------------------------------------------------------------------------------- */

static char *nested(const char *open, const char *close, const char *inside)
{
	char *text = calloc(1, LEVELS * (strlen(open) + strlen(close)) + strlen(inside) + 1), *at = text;
	for (int i = 0; i < LEVELS; i++) {
		at = stpcpy(at, open);
	}
	at = stpcpy(at, inside);
	for (int i = 0; i < LEVELS; i++) {
		at = stpcpy(at, close);
	}
	return text;
}

static void read_nested(void)
{
	static const char *const forms[][3] = {
		{"{\"a\":", "}", "\"b\""}, {"[", "]", ""}, {"{\"a\":[", "]}", "1"}, {"{\"\":", "", ""}};
	as_options *options = NULL;
	char error[300];
	assert_int_equal(as_options_new(&options), 0);
	for (size_t i = 0; i < COUNT(forms); i++) {
		char *text = nested(forms[i][0], forms[i][1], forms[i][2]);
		assert_int_equal(as_options_set(options, "STREAM_EXTRA_HEADERS", text, error, sizeof(error)), AS_EINVAL);
		for (int dialect = AS_DIALECT_BINARY; dialect <= AS_DIALECT_OPENAI; dialect++) {
			const as_streamer_start start = {
				.dialect = dialect, .url = "ws://h/", .metadata = text, .instructions = text, .api_key = "k"};
			assert_int_equal(as_streamer_check(&start, options, error, sizeof(error)), 0);
		}
		free(text);
	}
	as_options_free(options);
}

static void *run(void *unused)
{
	volatile char used[USED_BYTES];
	(void)unused;
	for (size_t i = 0; i < sizeof(used); i += 4096) {
		used[i] = 1;
	}
	read_nested();
	return used[0] ? NULL : (void *)used;
}

static void test_nesting_costs_no_stack(void **state)
{
	(void)state;
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	assert_int_equal(pthread_attr_setstacksize(&attributes, CALL_STACK_BYTES), 0);
	assert_int_equal(pthread_create(&thread, &attributes, run, NULL), 0);
	pthread_attr_destroy(&attributes);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_read),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_json_library_reads_the_same),
		cmocka_unit_test(test_nesting_costs_no_stack),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
