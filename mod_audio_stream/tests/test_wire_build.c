/* What is sent in the JSON dialect, read back by jansson; strings of any bytes become UTF-8. */
#define _GNU_SOURCE
#include "support.h"

#include "base64.h"
#include "oracle.h"
#include "wire.h"

#define FFFD "\xef\xbf\xbd"

/* Reads what was built, and frees it. */
static json_t *read_back(char *text, size_t n)
{
	assert_non_null(text);
	assert_int_equal(strlen(text), n);
	json_t *message = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(message);
	free(text);
	return message;
}

/* The message is exactly this JSON. */
static void is(char *text, size_t n, const char *wanted)
{
	json_t *message = read_back(text, n), *other = json_loads(wanted, 0, NULL);
	assert_non_null(other);
	if (!json_equal(message, other)) {
		char *shown = json_dumps(message, JSON_COMPACT);
		assert_string_equal(shown, wanted);
	}
	json_decref(message);
	json_decref(other);
}

static void test_start(void **state)
{
	(void)state;
	size_t n;
	wire_start start = {
		.uuid = "u-1", .stream_id = "s1", .track = "inbound", .codec = "L16", .rate_hz = 16000, .channels = 1};
	char *text = wire_json_start(1, &start, &n);
	assert_string_equal(text, "{\"event\":\"start\",\"sequence\":1,\"uuid\":\"u-1\",\"streamId\":\"s1\",\"track\":"
							  "\"inbound\",\"codec\":\"L16\","
							  "\"rate\":16000,\"channels\":1}");
	assert_int_equal(n, strlen(text));
	free(text);
	start = (wire_start){.uuid = "u",
						 .stream_id = "s",
						 .track = "both",
						 .codec = "ULAW",
						 .rate_hz = 8000,
						 .channels = 2,
						 .resumed = 3,
						 .metadata = "plain words",
						 .auth_id = "a",
						 .account_id = "b",
						 .subaccount_id = "c",
						 .rate = "0.01",
						 .unit = "60"};
	text = wire_json_start(1ull << 40, &start, &n);
	is(text, n,
	   "{\"event\":\"start\",\"sequence\":1099511627776,\"uuid\":\"u\",\"streamId\":\"s\",\"track\":\"both\",\"codec\":"
	   "\"ULAW\","
	   "\"rate\":8000,\"channels\":2,\"resumed\":3,\"authId\":\"a\",\"accountId\":\"b\",\"subaccountId\":\"c\","
	   "\"streamRate\":\"0.01\",\"streamUnit\":\"60\",\"metadata\":\"plain words\"}");
}

static void test_metadata(void **state)
{
	(void)state;
	static const struct {
		const char *metadata, *member;
	} cases[] = {
		{"{\"mode\":\"x\",\"n\":0.98}", "\"metadata\":{\"mode\":\"x\",\"n\":0.98}}"}, /* as it was written */
		{" [1, 2.50, 123456789012345678901234567890] ", "\"metadata\": [1, 2.50, 123456789012345678901234567890] }"},
		{"{}", "\"metadata\":{}}"},
		{"", "\"metadata\":\"\"}"},
		{"{\"broken\":", "\"metadata\":\"{\\\"broken\\\":\"}"},
		{"{} {}", "\"metadata\":\"{} {}\"}"},
		{"42", "\"metadata\":\"42\"}"},
		{"true", "\"metadata\":\"true\"}"},
		{"\"quoted\"", "\"metadata\":\"\\\"quoted\\\"\"}"},
		{"line\nbreak\xff", "\"metadata\":\"line\\nbreak" FFFD "\"}"},
		{"{\"a\":\"\xff\"}", "\"metadata\":\"{\\\"a\\\":\\\"" FFFD "\\\"}\"}"},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t n;
		wire_start start = {.uuid = "u", .codec = "L16", .rate_hz = 8000, .channels = 1, .metadata = cases[i].metadata};
		char *text = wire_json_start(1, &start, &n);
		assert_string_equal(strstr(text, "\"metadata\""), cases[i].member);
		assert_int_equal(n, strlen(text));
		json_t *message = json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
		assert_non_null(message);
		json_decref(message);
		free(text);
	}
}

static void test_the_small_ones(void **state)
{
	(void)state;
	size_t n;
	char *text = wire_json_stop(7, "s\"1\"", "the caller \\ left", &n);
	is(text, n, "{\"event\":\"stop\",\"sequence\":7,\"streamId\":\"s\\\"1\\\"\",\"reason\":\"the caller \\\\ left\"}");
	text = wire_json_checkpoint(8, "s", "end", 1, &n);
	is(text, n, "{\"event\":\"media.checkpoint\",\"sequence\":8,\"streamId\":\"s\",\"name\":\"end\",\"reached\":true}");
	text = wire_json_checkpoint(9, "s", "end", 0, &n);
	is(text, n,
	   "{\"event\":\"media.checkpoint\",\"sequence\":9,\"streamId\":\"s\",\"name\":\"end\",\"reached\":false}");
	text = wire_json_cleared(10, "s", &n);
	is(text, n, "{\"event\":\"media.cleared\",\"sequence\":10,\"streamId\":\"s\"}");
}

static void escapes_to(const char *text, const char *wanted)
{
	char *escaped = wire_escape(text);
	assert_string_equal(escaped, wanted);
	free(escaped);
}

static void test_escape(void **state)
{
	(void)state;
	escapes_to("", "");
	escapes_to("plain /", "plain /");
	escapes_to("\"\\\b\f\n\r\t\x01\x1f\x7f", "\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F\x7f");
	escapes_to("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

/* Table 3-7 of the Unicode standard: the borders of what is well-formed. */
static void test_what_is_not_utf8_is_replaced(void **state)
{
	(void)state;
	static const char *const well_formed[] = {
		"\xc2\x80",     "\xdf\xbf",     "\xe0\xa0\x80",     "\xec\xbf\xbf",     "\xed\x80\x80",     "\xed\x9f\xbf",
		"\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf3\xbf\xbf\xbf", "\xf4\x80\x80\x80", "\xf4\x8f\xbf\xbf"};
	for (size_t i = 0; i < COUNT(well_formed); i++) {
		escapes_to(well_formed[i], well_formed[i]);
	}
	escapes_to("a\x80"
			   "b\xbf",
			   "a" FFFD "b" FFFD);
	escapes_to("\xc0\xaf", FFFD FFFD);
	escapes_to("\xc1\xbf", FFFD FFFD);
	escapes_to("\xe0\x9f\xbf", FFFD FFFD FFFD);
	escapes_to("\xed\xa0\x80", FFFD FFFD FFFD); /* a surrogate */
	escapes_to("\xf0\x8f\xbf\xbf", FFFD FFFD FFFD FFFD);
	escapes_to("\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD);
	escapes_to("\xf5\xff\xfe", FFFD FFFD FFFD);
	escapes_to("\xc3", FFFD);
	escapes_to("\xe2\x82", FFFD FFFD);
	escapes_to("\xf0\x9f\x98", FFFD FFFD FFFD);
	escapes_to("\xc3\x28\xe2\x82\x28\xf0\x9f\x98\x28", FFFD "(" FFFD FFFD "(" FFFD FFFD FFFD "(");
}

/* Any bytes give JSON that jansson reads, and bytes that were UTF-8 come back. */
static void test_random_strings(void **state)
{
	(void)state;
	uint32_t rng = 3;
	for (int i = 0; i < 20000; i++) {
		char text[33];
		size_t length = next_random(&rng) % 32, n;
		for (size_t at = 0; at < length; at++) {
			text[at] = (char)(1 + next_random(&rng) % 255);
		}
		text[length] = '\0';
		char *built = wire_json_stop(1, "s", text, &n);
		json_t *message = read_back(built, n);
		json_t *reason = json_object_get(message, "reason"), *valid = json_string(text);
		assert_true(valid ? json_equal(reason, valid) : strstr(json_string_value(reason), FFFD) != NULL);
		json_decref(valid);
		json_decref(message);
	}
}

static void check_media(uint64_t sequence, const char *id, size_t audio_bytes)
{
	uint8_t *audio = malloc(audio_bytes + 1), *back = malloc(audio_bytes + 3);
	char *escaped = wire_escape(id);
	for (size_t i = 0; i < audio_bytes; i++) {
		audio[i] = (uint8_t)(i * 37 + sequence);
	}
	size_t room = wire_json_media_bytes(escaped, audio_bytes);
	char *buf = malloc(room);
	size_t n = wire_json_media(buf, room, sequence, escaped, audio, audio_bytes);
	assert_in_range(n, 1, room);
	json_t *message = json_loadb(buf, n, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(message);
	assert_int_equal(json_object_size(message), 4);
	assert_string_equal(json_string_value(json_object_get(message, "event")), "media");
	assert_string_equal(json_string_value(json_object_get(message, "streamId")), id);
	json_t *encoded = json_object_get(message, "audio");
	assert_int_equal(base64_decode(json_string_value(encoded), json_string_length(encoded), back), audio_bytes);
	assert_memory_equal(back, audio, audio_bytes);
	char *tight = malloc(n); /* exactly enough, and one too little */
	assert_int_equal(wire_json_media(tight, n, sequence, escaped, audio, audio_bytes), n);
	assert_memory_equal(tight, buf, n);
	assert_int_equal(wire_json_media(tight, n - 1, sequence, escaped, audio, audio_bytes), 0);
	json_decref(message);
	free(audio), free(back), free(escaped), free(buf), free(tight);
}

static void test_media(void **state)
{
	(void)state;
	char buf[256];
	size_t n = wire_json_media(buf, sizeof(buf), 2, "my_stream_1", "\1\2\3", 3);
	assert_int_equal(n, strlen("{\"event\":\"media\",\"sequence\":2,\"streamId\":\"my_stream_1\",\"audio\":\"AQID\"}"));
	assert_memory_equal(buf, "{\"event\":\"media\",\"sequence\":2,\"streamId\":\"my_stream_1\",\"audio\":\"AQID\"}", n);
	for (size_t audio_bytes = 0; audio_bytes < 20; audio_bytes++) {
		check_media(audio_bytes, "s", audio_bytes);
	}
	check_media(0, "", 320);
	check_media(INT64_MAX, "a \"quoted\" \\ id \xc3\xa9", 1920);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_the_small_ones),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_what_is_not_utf8_is_replaced),
		cmocka_unit_test(test_random_strings),
		cmocka_unit_test(test_media),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
