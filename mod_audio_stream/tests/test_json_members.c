/* Walking through a JSON object: shapes that mislead, and random JSON with jansson to say what should have been found. */
#define _GNU_SOURCE
#include "support.h"

#include <jansson.h>

#include "json_members.h"
#include "oracle.h"

#define MOST 16

static json_member seen[MOST];
static size_t count;

static void note(void *arg, const json_member *member)
{
	(void)arg;
	assert_true(count < MOST);
	seen[count++] = *member;
}

static int walk(const char *text)
{
	static char *copy; /* members point into it */
	free(copy);
	copy = copy_text(text, strlen(text));
	count = 0;
	return json_members(copy, strlen(text), note, NULL);
}

static void is(size_t i, const char *name, char kind, const char *value)
{
	assert_true(json_member_is(&seen[i], name));
	assert_int_equal(seen[i].kind, kind);
	assert_int_equal(seen[i].bytes, strlen(value));
	assert_memory_equal(seen[i].value, value, seen[i].bytes);
}

static void test_members_in_order(void **state)
{
	(void)state;
	assert_int_equal(
		walk(" {\n\"a\" : \"x\\\"}\" ,\"b\":{\"c\":[1,{}]},\"\":[\"]\"], \"n\":-1.5e3,\"t\" :true , \"z\":null}\r\n"),
		0);
	assert_int_equal(count, 6);
	is(0, "a", '"', "x\\\"}");
	is(1, "b", '{', "{\"c\":[1,{}]}");
	is(2, "", '[', "[\"]\"]");
	is(3, "n", 0, "-1.5e3");
	is(4, "t", 0, "true");
	is(5, "z", 0, "null");
	assert_int_equal(walk("{}"), 0);
	assert_int_equal(count, 0);
	assert_int_equal(walk("{\"a\":1,\"a\":2}"), 0);
	assert_int_equal(count, 2);
}

static void test_what_cannot_be_an_object(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		" ",
		"[]",
		"null",
		"\"a\"",
		"{",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1",
		"{\"a\":1,}",
		"{\"a\":1}}",
		"{\"a\":1} x",
		"{\"a\" 1}",
		"{a:1}",
		"{,}",
		"{\"a\":[}",
		"{\"a\":\"",
		"{\"a\":\"\\\"}",
		"{\"a\":{\"b\":1}",
		"{\"a\":1 \"b\":2}",
	};
	for (size_t i = 0; i < COUNT(texts); i++) {
		if (walk(texts[i]) == 0) {
			fail_msg("taken: %s", texts[i]);
		}
	}
	assert_int_equal(json_members("{\"a\":\0}", 7, note, NULL), -1);
}

/* Deep and dense is no slower than long, and needs no memory. */
static void test_large_ones(void **state)
{
	(void)state;
	size_t n = 4000000;
	char *text = malloc(n + 16), *at = text + sprintf(text, "{\"a\":");
	memset(at, '[', n / 2);
	memset(at + n / 2, ']', n / 2);
	strcpy(at + n, "}");
	count = 0;
	assert_int_equal(json_members(text, strlen(text), note, NULL), 0);
	assert_int_equal(count, 1);
	free(text);
}

static json_t *random_json(uint32_t *seed, int depth)
{
	static const char *const strings[] = {"", "a", "\"", "\\", "{\"type\":", "]", "\xc3\xa4", "type", "a\nb"};
	json_t *out;
	switch (next_random(seed) % (depth > 3 ? 4 : 6)) {
	case 0:
		return json_integer((json_int_t)next_random(seed));
	case 1:
		return json_real(next_random(seed) / 7.0);
	case 2:
		return next_random(seed) % 2 ? json_true() : json_null();
	case 3:
		return json_string(strings[next_random(seed) % COUNT(strings)]);
	case 4:
		out = json_array();
		for (uint32_t i = next_random(seed) % 4; i > 0; i--) {
			json_array_append_new(out, random_json(seed, depth + 1));
		}
		return out;
	default:
		out = json_object();
		for (uint32_t i = next_random(seed) % 4; i > 0; i--) {
			json_object_set_new(out, strings[next_random(seed) % COUNT(strings)], random_json(seed, depth + 1));
		}
		return out;
	}
}

/* A member's value, read again by the library. */
static json_t *again(const json_member *member)
{
	int string = member->kind == '"';
	return json_loadb(member->value - string, member->bytes + (size_t)(2 * string), JSON_DECODE_ANY, NULL);
}

static void test_random_objects(void **state)
{
	(void)state;
	uint32_t seed = 5;
	for (int i = 0; i < 5000; i++) {
		json_t *object = json_object(), *value;
		const char *name;
		size_t at = 0;
		for (uint32_t k = next_random(&seed) % 5; k > 0; k--) {
			char key[8];
			snprintf(key, sizeof(key), "k%u", k);
			json_object_set_new(object, key, random_json(&seed, 0));
		}
		char *text = json_dumps(object, next_random(&seed) % 2 ? JSON_COMPACT : JSON_INDENT(2));
		assert_int_equal(walk(text), 0);
		assert_int_equal(count, json_object_size(object));
		json_object_foreach(object, name, value)
		{
			json_t *found = again(&seen[at]);
			assert_true(json_member_is(&seen[at], name));
			assert_true(json_equal(found, value) || json_is_real(value));
			json_decref(found);
			at++;
		}
		size_t cut = next_random(&seed) % strlen(text);
		text[cut] = '\0'; /* a beginning is none */
		assert_int_equal(walk(text), -1);
		free(text);
		json_decref(object);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members_in_order),
		cmocka_unit_test(test_what_cannot_be_an_object),
		cmocka_unit_test(test_large_ones),
		cmocka_unit_test(test_random_objects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
