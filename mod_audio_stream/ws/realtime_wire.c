#include "realtime_wire.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"
#include "base64.h"
#include "json_audio.h"

#define SMALL 2048 /* what is left of a message with audio fits easily */

#define NO_RESPONSE "None" /* what the conversation calls a response that has no id */
#define LONG_STRING 1024 /* longer than any type or id */
#define OWN_EVENTS "transport." /* what the application hears from us: no server may say it */

#define APPEND_HEAD "{\"type\":\"input_audio_buffer.append\",\"audio\":\""
#define APPEND_TAIL "\"}"

static rt_kind kind_of(const char *type)
{
	static const struct {
		const char *type;
		rt_kind kind;
	} kinds[] = {
		{"response.output_audio.delta", RT_AUDIO_DELTA},
		{"response.audio.delta", RT_AUDIO_DELTA},
		{"response.output_audio.done", RT_AUDIO_DONE},
		{"response.audio.done", RT_AUDIO_DONE},
		{"response.created", RT_RESPONSE_CREATED},
		{"response.done", RT_RESPONSE_DONE},
		{"input_audio_buffer.speech_started", RT_SPEECH_STARTED},
		{"input_audio_buffer.speech_stopped", RT_SPEECH_STOPPED},
		{"session.created", RT_SESSION_CREATED},
		{"session.updated", RT_SESSION_UPDATED},
		{"error", RT_ERROR},
	};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!strcmp(type, kinds[i].type)) {
			return kinds[i].kind;
		}
	}
	return RT_OTHER;
}

/* One too long to be kept whole is none: cut short it could be another one's. */
static void copy_id(char *out, json_t *id)
{
	const char *text = json_string_value(id);
	size_t length = text ? json_string_length(id) : 0;
	out[0] = '\0';
	if (length < RT_ID_MAX && text && strlen(text) == length) {
		memcpy(out, text, length + 1);
	}
}

static int read_fields(json_t *event, rt_message *out)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	if (!type || !strncmp(type, OWN_EVENTS, sizeof(OWN_EVENTS) - 1)) {
		return AS_EINVAL;
	}
	out->kind = kind_of(type);
	json_t *response = json_object_get(event, "response");
	json_t *response_id = response ? json_object_get(response, "id") : json_object_get(event, "response_id");
	copy_id(out->response_id, response_id);
	if (!response_id && out->kind == RT_AUDIO_DELTA) {
		strcpy(out->response_id, NO_RESPONSE);
	}
	copy_id(out->item_id, json_object_get(event, "item_id"));
	return 0;
}

/* The string's closing quote, or NULL; `at` is its first character. */
static char *string_end(char *at, char *end)
{
	for (char *quote = at; (quote = memchr(quote, '"', (size_t)(end - quote))); quote++) {
		size_t slashes = 0;
		while (quote - slashes > at && quote[-1 - (ptrdiff_t)slashes] == '\\') {
			slashes++;
		}
		if (slashes % 2 == 0) {
			return quote;
		}
	}
	return NULL;
}

/* Empties strings too long to be of interest here, in place: a library takes half a second over ten megabytes. */
static size_t shorten(char *json, size_t n)
{
	char *in = json, *out = json, *end = json + n;
	for (char *quote; (quote = memchr(in, '"', (size_t)(end - in)));) {
		char *close = string_end(quote + 1, end);
		size_t copied = (size_t)((close && close - quote > LONG_STRING ? quote + 1 : close ? close : quote + 1) - in);
		memmove(out, in, copied);
		out += copied;
		if (!close) {
			in += copied;
			break;
		}
		*out++ = '"';
		in = close + 1;
	}
	memmove(out, in, (size_t)(end - in));
	return (size_t)(out - json) + (size_t)(end - in);
}

/* Python takes a lone surrogate in a string, the library does not, and nothing here needs any: blanks in their place. */
static void blank_surrogates(char *json, size_t n)
{
	char *end = json + n;
	for (char *at = json; (at = memchr(at, '\\', (size_t)(end - at))) && end - at >= 6; at += 2) {
		if (at[1] == 'u' && (at[2] == 'd' || at[2] == 'D') && strchr("89abcdefABCDEF", at[3])) {
			memcpy(at + 2, "0020", 4);
		}
	}
}

int rt_parse(char *text, size_t n, rt_message *out)
{
	char small[SMALL], *rest = n < sizeof(small) ? small : malloc(n + 1);
	json_audio audio = {0};
	memset(out, 0, sizeof(*out));
	if (!rest) {
		return AS_ENOMEM;
	}
	size_t length = json_audio_cut(text, n, "delta", &audio, rest);
	if (length > SMALL) {
		length = shorten(rest, length);
	}
	blank_surrogates(rest, length);
	json_t *event = json_loadb(rest, length, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	int error = event ? read_fields(event, out) : AS_EINVAL;
	json_decref(event);
	if (rest != small) {
		free(rest);
	}
	if (!error && out->kind == RT_AUDIO_DELTA) {
		out->base64 = audio.base64;
		out->base64_length = audio.length;
		error = audio.base64 && out->response_id[0] && out->item_id[0] ? 0 : AS_EINVAL;
	}
	return error;
}

size_t rt_append_bytes(size_t n)
{
	return sizeof(APPEND_HEAD) - 1 + BASE64_BYTES(n) + sizeof(APPEND_TAIL) - 1;
}

size_t rt_append(char *buf, const void *audio, size_t n)
{
	char *at = buf + sizeof(APPEND_HEAD) - 1;
	memcpy(buf, APPEND_HEAD, sizeof(APPEND_HEAD) - 1);
	at += base64_encode(audio, n, at);
	memcpy(at, APPEND_TAIL, sizeof(APPEND_TAIL) - 1);
	return (size_t)(at - buf) + sizeof(APPEND_TAIL) - 1;
}
