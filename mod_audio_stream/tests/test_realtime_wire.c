/* Realtime messages: which are audio, whose, and where in the text it lies; and appends. */
#define _GNU_SOURCE
#include "support.h"

#include <jansson.h>

#include "base64.h"
#include "realtime_wire.h"

/* Parses a copy of exactly the text's size: reading past it is noticed. */
static rt_message parsed(const char *text, int expected)
{
	static char *copy; /* out.base64 points into it */
	rt_message message;
	free(copy);
	copy = strdup(text);
	assert_int_equal(rt_parse(copy, strlen(copy), &message), expected);
	assert_string_equal(copy, text);
	return message;
}

static void test_kinds_in_both_dialects(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		rt_kind kind;
	} kinds[] = {
		{"response.output_audio.done", RT_AUDIO_DONE},
		{"response.audio.done", RT_AUDIO_DONE},
		{"response.created", RT_RESPONSE_CREATED},
		{"response.done", RT_RESPONSE_DONE},
		{"input_audio_buffer.speech_started", RT_SPEECH_STARTED},
		{"input_audio_buffer.speech_stopped", RT_SPEECH_STOPPED},
		{"session.created", RT_SESSION_CREATED},
		{"session.updated", RT_SESSION_UPDATED},
		{"error", RT_ERROR},
		{"response.output_audio_transcript.delta", RT_OTHER},
		{"response.output_audio.delta.more", RT_OTHER},
	};
	for (size_t i = 0; i < COUNT(kinds); i++) {
		char text[256];
		snprintf(text, sizeof(text), "{\"event_id\":\"e\",\"type\":\"%s\",\"delta\":\"words\"}", kinds[i].type);
		assert_int_equal(parsed(text, 0).kind, kinds[i].kind);
	}
}

static void test_a_delta_whatever_the_order_of_its_members(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\",\"delta\":\"QUJD\",\"event_"
		"id\":\"e\"}",
		"{\"delta\":\"QUJD\",\"item_id\":\"i\",\"response_id\":\"r\",\"type\":\"response.audio.delta\"}",
		" {\n\"x\":{\"y\":[1,\"}\"]},\"delta\" : \"QUJD\" ,\"response_id\":\"r\",\"item_id\":\"i\","
		"\"type\":\"response.output_audio.delta\"}\n",
	};
	for (size_t i = 0; i < COUNT(texts); i++) {
		rt_message message = parsed(texts[i], 0);
		assert_int_equal(message.kind, RT_AUDIO_DELTA);
		assert_string_equal(message.response_id, "r");
		assert_string_equal(message.item_id, "i");
		assert_string_equal(message.event_id, i ? "" : "e");
		assert_int_equal(message.base64_length, 4);
		assert_memory_equal(message.base64, "QUJD", 4);
	}
}

static void test_a_delta_that_is_not_small(void **state)
{
	(void)state;
	size_t n = 300000;
	char *text = malloc(n + 256);
	int head =
		sprintf(text, "{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\",\"delta\":\"");
	memset(text + head, 'A', n);
	strcpy(text + head + n, "\"}");
	rt_message message;
	assert_int_equal(rt_parse(text, strlen(text), &message), 0);
	assert_ptr_equal(message.base64, text + head);
	assert_int_equal(message.base64_length, n);
	free(text);
}

/* Long strings are skipped, whatever is in them, and what is around them is still looked at. */
static void test_what_only_python_takes_for_json(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{\"t\":\"\\u0000\",\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}",
		"{\"t\":\"\\ud83d\",\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}",
		"{\"t\":\"\\\\\\uDE00\\ud83d\\ude00\",\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}",
		"{\"t\":123456789012345678901234567890,\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}",
	};
	for (size_t i = 0; i < COUNT(texts); i++) {
		assert_string_equal(parsed(texts[i], 0).response_id, "r");
	}
}

static void test_audio_without_a_response(void **state)
{
	(void)state;
	rt_message message = parsed("{\"type\":\"response.audio.delta\",\"item_id\":\"i\",\"delta\":\"QUJD\"}", 0);
	assert_int_equal(message.kind, RT_AUDIO_DELTA);
	assert_string_equal(message.response_id, "None");
}

static void test_large_events(void **state)
{
	(void)state;
	static const char *const fillers[] = {"x", "\\\\", "\\\"", "{\\\"type\\\":"};
	for (size_t f = 0; f < COUNT(fillers); f++) {
		size_t times = 200000;
		char *text = malloc(times * strlen(fillers[f]) + 256), *at = text;
		at += sprintf(at, "{\"pad\":\"");
		for (size_t i = 0; i < times; i++) {
			at += sprintf(at, "%s", fillers[f]);
		}
		strcpy(at, "\",\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}");
		rt_message message = parsed(text, 0);
		assert_int_equal(message.kind, RT_RESPONSE_CREATED);
		assert_string_equal(message.response_id, "r");
		at[0] = '\0'; /* the string never ends */
		parsed(text, AS_EINVAL);
		free(text);
	}
}

static void test_ids_too_long_are_none(void **state)
{
	(void)state;
	char id[RT_ID_MAX + 1], text[2 * RT_ID_MAX];
	memset(id, 'x', sizeof(id));
	for (size_t length = RT_ID_MAX - 1; length <= RT_ID_MAX; length++) {
		id[length] = '\0';
		snprintf(text, sizeof(text), "{\"type\":\"response.created\",\"response\":{\"id\":\"%s\"}}", id);
		assert_string_equal(parsed(text, 0).response_id, length < RT_ID_MAX ? id : "");
		id[length] = 'x';
	}
	assert_string_equal(parsed("{\"type\":\"response.created\",\"response\":{\"id\":\"a\\u0000b\"}}", 0).response_id,
						"");
}

static void test_audio_with_an_id_too_long_is_told_apart(void **state)
{
	(void)state;
	char id[RT_ID_MAX + 1], text[2 * RT_ID_MAX];
	static const char delta[] =
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"%s\",\"item_id\":\"%s\",\"delta\":\"QUJD\"}";
	memset(id, 'x', RT_ID_MAX);
	for (int i = 0; i < 2; i++) { /* the item's, the response's */
		id[RT_ID_MAX] = '\0';
		snprintf(text, sizeof(text), delta, i ? id : "r", i ? "i" : id);
		parsed(text, AS_EFULL);
		id[RT_ID_MAX - 1] = '\0';
		snprintf(text, sizeof(text), delta, i ? id : "r", i ? "i" : id);
		assert_string_equal(i ? parsed(text, 0).response_id : parsed(text, 0).item_id, id);
		id[RT_ID_MAX - 1] = 'x';
	}
	assert_non_null(strstr(rt_complaint(AS_EFULL), "more than 1023 characters"));
	assert_string_equal(rt_complaint(AS_EINVAL), "the server sent what is not an event");
}

static void test_what_is_not_an_event(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		" ",
		"null",
		"[]",
		"7",
		"\"type\"",
		"{}",
		"{\"type\":7}",
		"{\"type\":\"error\"",
		"{\"type\":\"error\"}}",
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\"}",
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"delta\":\"\"}",
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\",\"delta\":7}",
		"{\"type\":\"response.output_audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\",\"delta\":\"QUJD",
		"{\"type\":\"\xff\"}",
		"{\"type\":\"\"}",
		"{\"type\":\"a\\nb\"}",
		"{\"type\":\"wanted\",\"ty\\u0070e\":\"transport.closed\"}", /* one type to us, another to who reads it */
	};
	for (size_t i = 0; i < COUNT(texts); i++) {
		parsed(texts[i], AS_EINVAL);
	}
}

static void test_appends_are_json_around_base64(void **state)
{
	(void)state;
	uint8_t audio[1000];
	for (size_t i = 0; i < sizeof(audio); i++) {
		audio[i] = (uint8_t)(i * 7);
	}
	for (size_t n = 0; n <= sizeof(audio); n += 111) {
		char *text = malloc(rt_append_bytes(n));
		assert_int_equal(rt_append(text, audio, n), rt_append_bytes(n));
		json_t *event = json_loadb(text, rt_append_bytes(n), 0, NULL);
		assert_string_equal(json_string_value(json_object_get(event, "type")), "input_audio_buffer.append");
		const char *base64 = json_string_value(json_object_get(event, "audio"));
		uint8_t decoded[sizeof(audio) + 3];
		assert_int_equal(base64_decode(base64, strlen(base64), decoded), n);
		assert_memory_equal(decoded, audio, n);
		json_decref(event);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds_in_both_dialects),
		cmocka_unit_test(test_a_delta_whatever_the_order_of_its_members),
		cmocka_unit_test(test_a_delta_that_is_not_small),
		cmocka_unit_test(test_what_only_python_takes_for_json),
		cmocka_unit_test(test_audio_without_a_response),
		cmocka_unit_test(test_large_events),
		cmocka_unit_test(test_ids_too_long_are_none),
		cmocka_unit_test(test_audio_with_an_id_too_long_is_told_apart),
		cmocka_unit_test(test_what_is_not_an_event),
		cmocka_unit_test(test_appends_are_json_around_base64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
