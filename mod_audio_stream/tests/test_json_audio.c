/* Cutting a string out of JSON: shapes that mislead, and random JSON with jansson to say what should have been found.
 */
#define _GNU_SOURCE
#include "support.h"

#include "json_audio.h"
#include "oracle.h"

static uint32_t rng = 7;
static json_audio audio;
static char rest[4096];

static void cut(const char *text, const char *key)
{
	char *copy = copy_text(text, strlen(text));
	size_t length = json_audio_cut(copy, strlen(text), key, &audio, rest);
	assert_int_equal(length, strlen(rest));
	assert_string_equal(copy, text);
	if (audio.base64) { /* into `text`, which stays */
		audio.base64 = (char *)text + (audio.base64 - copy);
	}
	free(copy);
}

static void finds(const char *text, const char *key, const char *value, const char *left)
{
	cut(text, key);
	assert_non_null(audio.base64);
	assert_int_equal(audio.length, strlen(value));
	assert_memory_equal(audio.base64, value, audio.length);
	assert_string_equal(rest, left);
}

static void finds_none(const char *text, const char *key)
{
	cut(text, key);
	assert_null(audio.base64);
	assert_int_equal(audio.length, 0);
	assert_string_equal(rest, text);
}

static void test_messages(void **state)
{
	(void)state;
	finds("{\"type\":\"x\",\"delta\":\"QUJD\",\"n\":1}", "delta", "QUJD", "{\"type\":\"x\",\"delta\":\"\",\"n\":1}");
	finds("{\"delta\":\"\"}", "delta", "", "{\"delta\":\"\"}");
	finds("{\"data\":{\"x\":[{}],\"audioData\":\"QQ==\"}}", "audioData",
		  "QQ==", "{\"data\":{\"x\":[{}],\"audioData\":\"\"}}");
	finds("{ \"delta\" \t:\r\n \"A\" }", "delta", "A", "{ \"delta\" \t:\r\n \"\" }");
	finds("[1,[{\"delta\":\"A\"}]]", "delta", "A", "[1,[{\"delta\":\"\"}]]");
}

static void test_only_a_members_name_counts(void **state)
{
	(void)state;
	finds_none("{\"type\":\"delta\",\"a\":\"b\"}", "delta");
	finds_none("[\"delta\",\"x\"]", "delta");
	finds_none("{\"a\":\"\\\"delta\\\":\\\"x\\\"\"}", "delta");
	finds_none("{\"xdelta\":\"a\",\"deltax\":\"b\",\"delt\":\"c\",\"Delta\":\"d\",\"\":\"e\"}", "delta");
	finds_none("{\"\\u0064elta\":\"a\"}", "delta");
	finds("{\"a\":\"delta\",\"delta\":\"x\"}", "delta", "x", "{\"a\":\"delta\",\"delta\":\"\"}");
	finds("{\"a\":\"\\\\\",\"delta\":\"x\"}", "delta", "x", "{\"a\":\"\\\\\",\"delta\":\"\"}");
	finds("{\"a\":\"\\\\\\\"delta\\\":\",\"delta\":\"x\"}", "delta", "x",
		  "{\"a\":\"\\\\\\\"delta\\\":\",\"delta\":\"\"}");
}

static void test_only_a_string_counts(void **state)
{
	(void)state;
	finds_none("{\"delta\":5,\"a\":[\"delta\"]}", "delta");
	finds_none("{\"delta\":null}", "delta");
	finds("{\"delta\":{\"delta\":\"x\"}}", "delta", "x", "{\"delta\":{\"delta\":\"\"}}");
	finds("{\"delta\":[\"delta\",{\"delta\":\"x\"}]}", "delta", "x", "{\"delta\":[\"delta\",{\"delta\":\"\"}]}");
	finds("{\"delta\":true,\"b\":{\"delta\":\"x\"}}", "delta", "x", "{\"delta\":true,\"b\":{\"delta\":\"\"}}");
}

static void test_the_first_one_counts(void **state)
{
	(void)state;
	finds("{\"a\":{\"delta\":\"1\"},\"delta\":\"2\"}", "delta", "1", "{\"a\":{\"delta\":\"\"},\"delta\":\"2\"}");
	finds("{\"delta\":\"1\",\"delta\":\"2\"}", "delta", "1", "{\"delta\":\"\",\"delta\":\"2\"}");
}

static void test_escapes_in_the_string(void **state)
{
	(void)state;
	finds("{\"delta\":\"a\\\"b\"}", "delta", "a\\\"b", "{\"delta\":\"\"}");
	finds("{\"delta\":\"a\\\\\",\"b\":\"c\"}", "delta", "a\\\\", "{\"delta\":\"\",\"b\":\"c\"}");
	finds("{\"delta\":\"\\\\\\\"\\\\\"}", "delta", "\\\\\\\"\\\\", "{\"delta\":\"\"}");
	finds("{\"delta\":\"\\/\\/\"}", "delta", "\\/\\/", "{\"delta\":\"\"}");
}

static void test_what_is_not_json(void **state)
{
	(void)state;
	static const char *const texts[] = {"",
										"\"",
										"\"delta",
										"\"delta\"",
										"\"delta\":",
										"\"delta\":\"",
										"{\"delta\":\"abc",
										"{\"delta\":\"abc\\\"",
										"{\"delta\" \"x\"}",
										"{\"delta\"\":\"x\"}",
										"delta:x",
										"\\\"delta\":\"x\"",
										"{\"delta\":'x'}",
										"\"delta\\\":\"x\""};
	for (size_t i = 0; i < COUNT(texts); i++) {
		cut(texts[i], "delta");
		assert_int_equal(audio.length + strlen(rest), strlen(texts[i]));
	}
	finds_none("{\"delta\":\"abc", "delta");
	finds_none("\"delta\":", "delta");
}

/* ---- Random JSON ------------------------------------------------------------------------------------------------- */

static json_t *random_string(void)
{
	static const char *const pieces[] = {"delta", "\"", "\\",       ":", "\"delta\":\"", "QUJD", "/", "{",
										 "}",     "\n", "\xc3\xa9", " ", "audio"};
	char text[128] = "";
	for (size_t left = next_random(&rng) % 6; left; left--) {
		strcat(text, pieces[next_random(&rng) % COUNT(pieces)]);
	}
	return json_string(text);
}

static json_t *random_value(int depth);

static json_t *random_object(int depth)
{
	static const char *const names[] = {"delta", "a", "type", "\"delta\"", "delta\\", ":", "", "deltas"};
	json_t *object = json_object();
	for (size_t left = next_random(&rng) % 5; left; left--) {
		json_object_set_new(object, names[next_random(&rng) % COUNT(names)], random_value(depth - 1));
	}
	return object;
}

static json_t *random_array(int depth)
{
	json_t *array = json_array();
	for (size_t left = next_random(&rng) % 4; left; left--) {
		json_array_append_new(array, random_value(depth - 1));
	}
	return array;
}

static json_t *random_value(int depth)
{
	switch (next_random(&rng) % (depth > 0 ? 6 : 3)) {
	case 0:
		return json_integer(next_random(&rng) % 100);
	case 1:
		return next_random(&rng) % 2 ? json_null() : json_true();
	case 2:
		return random_string();
	case 3:
		return random_array(depth);
	default:
		return random_object(depth);
	}
}

/* The text as it came from jansson, cut, and read by jansson again. */
static int check_random(json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_ENCODE_ANY), *left = malloc(strlen(text) + 1);
	json_t *wanted = oracle_find_in(value, "delta");
	size_t length = json_audio_cut(text, strlen(text), "delta", &audio, left);
	assert_int_equal(audio.base64 != NULL, wanted != NULL);
	if (wanted) {
		char *inside = json_dumps(wanted, flags | JSON_ENCODE_ANY);
		assert_int_equal(audio.length, strlen(inside) - 2);
		assert_memory_equal(audio.base64, inside + 1, audio.length);
		free(inside);
		json_string_set(wanted, "");
	}
	json_t *read = json_loadb(left, length, JSON_DECODE_ANY, NULL);
	assert_true(json_equal(read, value));
	json_decref(read);
	free(text);
	free(left);
	return wanted != NULL;
}

static void test_random_json(void **state)
{
	(void)state;
	static const size_t flags[] = {0, JSON_COMPACT, JSON_INDENT(2), JSON_ESCAPE_SLASH, JSON_ENSURE_ASCII};
	int found = 0;
	for (int i = 0; i < 20000; i++) {
		json_t *value = random_object(4);
		found += check_random(value, flags[i % COUNT(flags)]);
		json_decref(value);
	}
	assert_in_range(found, 1000, 19000);
}

/* Each of these would take minutes if a byte were looked at once for each other byte. */
static void test_long_texts_take_no_longer_than_they_are(void **state)
{
	(void)state;
	static const char *const fillers[] = {"\\\\",       "\\\"",           "\"",           "\"\\\\\"",
										  "\"delta\":", "\"delta\":\"\\", "{\"delta\":1,"};
	size_t n = 4 << 20;
	char *text = malloc(n + 1), *left = malloc(n + 1);
	for (size_t i = 0; i < COUNT(fillers); i++) {
		size_t length = strlen(fillers[i]);
		for (size_t at = 0; at + 16 < n; at += length) {
			memcpy(text + at, fillers[i], length);
		}
		text[0] = '"';
		text[n] = '\0';
		assert_int_equal(json_audio_cut(text, n, "delta", &audio, left) + audio.length, n);
	}
	free(text);
	free(left);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_only_a_members_name_counts),
		cmocka_unit_test(test_only_a_string_counts),
		cmocka_unit_test(test_the_first_one_counts),
		cmocka_unit_test(test_escapes_in_the_string),
		cmocka_unit_test(test_what_is_not_json),
		cmocka_unit_test(test_random_json),
		cmocka_unit_test(test_long_texts_take_no_longer_than_they_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
