/*
 * fuzz_realtime.c - libFuzzer target: what an OpenAI Realtime server may send.
 * The first byte chooses between the parser alone and a whole conversation of
 * `openai_start`, to which the lines of the input are messages.
 *
 * Whatever the text: no crash, and when it is JSON, the type and the item that
 * jansson finds.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "openai_talk.h"
#include "oracle.h"
#include "realtime_wire.h"

static void nothing_sent(void *arg, const char *text, size_t n)
{
	(void)arg, (void)text, (void)n;
}

static void nothing_told(void *arg, const char *name, json_t *body)
{
	(void)arg, (void)name;
	free(json_dumps(body, JSON_COMPACT));
}

static void nothing_finished(void *arg, const char *reason)
{
	(void)arg, (void)reason;
}

static int is_word(const char *text, size_t room)
{
	size_t n = text ? strlen(text) : room;
	for (size_t i = 0; i < n && n < room; i++) {
		n = text[i] < ' ' || text[i] > '~' ? room : n;
	}
	return n < room;
}

/* Names spelt with escapes are not taken here. */
static void check_json(const char *text, size_t n, int error, const rt_message *message)
{
	json_t *event = memchr(text, '\\', n) ? NULL : json_loadb(text, n, JSON_DECODE_INT_AS_REAL, NULL);
	const char *type = json_string_value(json_object_get(event, "type"));
	const char *item = json_string_value(json_object_get(event, "item_id"));
	if (is_word(type, RT_TYPE_MAX) && *type && strncmp(type, "transport.", 10)) {
		expect(!error || message->kind == RT_AUDIO_DELTA, "a JSON object with a type is none");
		expect(!strcmp(message->type, type), "another type");
		expect(!strcmp(message->item_id, is_word(item, RT_ID_MAX) ? item : ""), "another item");
	} else if (event) {
		expect(error, "no type, and yet an event");
	}
	json_decref(event);
}

static void parse(char *text, size_t n)
{
	rt_message message;
	int error = rt_parse(text, n, &message);
	check_json(text, n, error, &message);
	if (!error && message.base64) {
		base64_decode(message.base64, message.base64_length, (uint8_t *)message.base64);
	}
}

static void talk_over(char *text, size_t n)
{
	static const openai_outlets outlets = {NULL, nothing_sent, nothing_told, nothing_finished};
	static const openai_request request = {.model = "m", .voice = "v", .instructions = "i", .vad_threshold = 0.5};
	as_config config = {.rate_hz = 8000, .wire_encoding = AS_PCMU, .inject_max_ms = 1000};
	as_stream *stream = NULL;
	openai_talk *talk = NULL;
	char error[256];
	int16_t frame[160];
	if (as_stream_create("fuzz", "main", &config, &stream) ||
		openai_talk_new(stream, &request, &outlets, error, sizeof(error), &talk)) {
		abort();
	}
	for (char *line = text, *end; line < text + n; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + n - line));
		end = end ? end : text + n;
		*end = '\0';
		openai_talk_message(talk, line, (size_t)(end - line));
		as_host_inject(stream, frame, 160);
	}
	openai_talk_free(talk);
	as_stream_close(stream);
	as_stream_unref(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0) {
		return 0;
	}
	char *text = malloc(n);
	memcpy(text, data + 1, n - 1);
	text[n - 1] = '\0';
	if (data[0] & 1) {
		talk_over(text, n - 1);
	} else {
		parse(text, n - 1);
	}
	free(text);
	return 0;
}
