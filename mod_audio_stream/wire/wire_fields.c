#define _GNU_SOURCE
#include "wire_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "audio_stream.h"
#include "base64.h"
#include "utf8.h"

#define READ_FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)
#define WRITE_FLAGS (JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) /* 15 digits: 0.98 stays 0.98 */
#define REST_MAX (1 << 20) /* bytes beside the audio: a library takes 50 ms for so many small values */
#define NOT_BASE64 "%s: \"%s\" is not base64"

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

int wire_complain(wire_reading *r, int error, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	if (r->error_bytes) {
		vsnprintf(r->error, r->error_bytes, format, arguments);
		for (char *at = r->error; *at; at++) {
			if (*at < ' ' || *at > '~') {
				*at = '?'; /* from the network, and on its way to a log */
			}
		}
	}
	va_end(arguments);
	return error;
}

/* A value as an error shows it. */
static void show(const json_t *value, char *out, size_t bytes)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		snprintf(out, bytes, "\"%.40s\"%s", json_string_value(value), json_string_length(value) > 40 ? "..." : "");
		break;
	case JSON_INTEGER:
		snprintf(out, bytes, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(out, bytes, "%g", json_real_value(value));
		break;
	case JSON_OBJECT:
		snprintf(out, bytes, "an object");
		break;
	case JSON_ARRAY:
		snprintf(out, bytes, "an array");
		break;
	default:
		snprintf(out, bytes, "%s", json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false");
	}
}

int wire_wrong(wire_reading *r, const char *name, const json_t *value, const char *should)
{
	char shown[64];
	show(value, shown, sizeof(shown));
	return wire_complain(r, AS_EINVAL, "%s: \"%s\" is %s; %s", r->what, name, shown, should);
}

/* ---- The message ------------------------------------------------------------------------------------------------- */

static int keep(wire_reading *r, char *text)
{
	r->out->text = text;
	return text ? 0 : wire_complain(r, AS_ENOMEM, "%s", as_strerror(AS_ENOMEM));
}

static int load(wire_reading *r, const char *text, size_t n)
{
	json_error_t error;
	if (memchr(text, 0, n)) {
		return wire_complain(r, AS_EINVAL, "not JSON: there is a NUL byte in it"); /* jansson takes one for the end */
	}
	r->root = json_loadb(text, n, READ_FLAGS, &error);
	if (!r->root && json_error_code(&error) == json_error_numeric_overflow) { /* of no field of ours */
		r->root = json_loadb(text, n, READ_FLAGS | JSON_DECODE_INT_AS_REAL, &error);
	}
	if (r->root) {
		return 0;
	}
	int memory = json_error_code(&error) == json_error_out_of_memory;
	return wire_complain(r, memory ? AS_ENOMEM : AS_EINVAL, "not JSON: %s", error.text);
}

/* Is what was cut out the only member of this name? An escape in what is left may hide another one. */
static int is_only_one(const char *rest, size_t n, const char *key)
{
	char quoted[32];
	size_t length = (size_t)snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	const char *first = memmem(rest, n, quoted, length), *after = first ? first + length : rest;
	return !memmem(after, n - (size_t)(after - rest), quoted, length) && !memmem(rest, n, "\\u", 2);
}

static int read_whole(wire_reading *r)
{
	json_decref(r->root);
	free(r->rest);
	r->root = NULL;
	r->rest = NULL;
	r->audio = (json_audio){0};
	return load(r, r->text, r->n);
}

int wire_read(wire_reading *r, const char *const *audio_keys)
{
	size_t length = 0;
	memset(r->out, 0, sizeof(*r->out));
	r->rest = malloc(r->n + 1);
	if (!r->rest) {
		return wire_complain(r, AS_ENOMEM, "%s", as_strerror(AS_ENOMEM));
	}
	while (!r->audio.base64 && (r->key = *audio_keys++)) {
		length = json_audio_cut(r->text, r->n, r->key, &r->audio, r->rest);
	}
	if (length > REST_MAX) {
		return wire_complain(r, AS_EINVAL, "longer than %d bytes, its audio left out", REST_MAX);
	}
	return r->audio.base64 && is_only_one(r->rest, length, r->key) ? load(r, r->rest, length) : read_whole(r);
}

int wire_words(wire_reading *r, int failed)
{
	size_t first = strspn(r->text, " \t\r\n"); /* text[n] is 0 */
	if (failed != AS_EINVAL || r->n > REST_MAX || first >= r->n || r->text[first] == '{' || memchr(r->text, 0, r->n)) {
		return failed;
	}
	r->out->kind = WIRE_WORDS;
	if (r->error_bytes) {
		r->error[0] = '\0';
	}
	return keep(r, as_utf8_clean(r->text));
}

int wire_settle(wire_reading *r, const json_t *object, const char *name)
{
	int is_it = r->rest && !strcmp(name, r->key) && wire_field(object, name);
	return is_it || !r->rest ? 0 : read_whole(r);
}

int wire_read_end(wire_reading *r, int error)
{
	json_decref(r->root);
	free(r->rest);
	if (error) {
		wire_message_free(r->out);
	}
	return error;
}

/* ---- Fields ------------------------------------------------------------------------------------------------------ */

json_t *wire_field(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	return json_is_null(value) ? NULL : value;
}

/* The string as it is; NULL when it is none, or has a NUL inside. */
static const char *plain_string(const json_t *value)
{
	const char *text = json_string_value(value);
	return text && strlen(text) == json_string_length(value) ? text : NULL;
}

int wire_name(wire_reading *r, const json_t *object, const char *name, char out[WIRE_NAME_MAX])
{
	json_t *value = wire_field(object, name);
	const char *text = plain_string(value);
	if (!value) {
		return 0;
	}
	if (!text) {
		return wire_wrong(r, name, value, "it must be a string");
	}
	if (strlen(text) >= WIRE_NAME_MAX) {
		return wire_complain(r, AS_EINVAL, "%s: \"%s\" is longer than %d bytes", r->what, name, WIRE_NAME_MAX - 1);
	}
	strcpy(out, text);
	return 0;
}

wire_format wire_format_find(const wire_format_name *table, const char *name)
{
	for (; table->name; table++) {
		if (!strcasecmp(table->name, name)) {
			return table->format;
		}
	}
	return 0;
}

/* A number, or one written as a string of digits; -1 for anything else. */
static double number_of(const json_t *value)
{
	const char *text = plain_string(value);
	if (!text) {
		return json_is_number(value) ? json_number_value(value) : -1;
	}
	size_t digits = strspn(text, "0123456789");
	return digits && digits < 10 && !text[digits] ? atof(text) : -1;
}

static int read_integer(wire_reading *r, const json_t *object, const char *name, int lowest, int highest, int *out)
{
	char should[64];
	json_t *value = wire_field(object, name);
	double number = value ? number_of(value) : lowest;
	if (number >= lowest && number <= highest && number == (int)number) {
		*out = (int)number;
		return 0;
	}
	snprintf(should, sizeof(should), lowest < highest ? "it must be %d to %d" : "it must be %d", lowest, highest);
	return wire_wrong(r, name, value, should);
}

int wire_rate_and_channels(wire_reading *r, const json_t *object)
{
	int l16 = r->out->format == WIRE_RAW_L16;
	if (r->out->format > WIRE_RAW_ALAW) {
		return 0;
	}
	int error = read_integer(r, object, "sampleRate", 8000, l16 ? AS_RATE_MAX_HZ : 8000, &r->out->rate_hz);
	return error ? error : read_integer(r, object, "channels", 1, l16 ? 2 : 1, &r->out->channels);
}

/* Puts the member's base64 into r->audio, where it is not there already. */
static int find_audio(wire_reading *r, json_t *object, const char *name)
{
	json_t *value = wire_field(object, name);
	if (!json_is_string(value)) {
		return value ? wire_wrong(r, name, value, "it must be a string of base64")
					 : wire_complain(r, AS_EINVAL, "%s: \"%s\" is missing", r->what, name);
	}
	if (!r->audio.base64) {
		r->audio = (json_audio){.base64 = r->text, .length = json_string_length(value)};
		memcpy(r->text, json_string_value(value), r->audio.length); /* it was longer when it stood there */
		json_string_set(value, "");
		if (memchr(r->text, '\\', r->audio.length)) { /* escapes have been taken off: what looks like one now is none */
			return wire_complain(r, AS_EINVAL, NOT_BASE64, r->what, name);
		}
	}
	return 0;
}

int wire_audio(wire_reading *r, json_t *object, const char *name)
{
	int error = find_audio(r, object, name);
	if (error) {
		return error;
	}
	if (r->audio.length > r->max_base64) {
		return wire_complain(r, AS_EFULL,
							 "%s: \"%s\" has %zu characters, and %zu are allowed; send less at a time, or set "
							 "STREAM_MAX_AUDIO_BASE64_LEN",
							 r->what, name, r->audio.length, r->max_base64);
	}
	r->out->audio = (uint8_t *)r->audio.base64;
	long bytes = base64_decode(r->audio.base64, r->audio.length, r->out->audio);
	if (bytes < 0) {
		return wire_complain(r, AS_EINVAL, NOT_BASE64, r->what, name);
	}
	r->out->audio_bytes = (size_t)bytes;
	return 0;
}

/* ---- What is kept ------------------------------------------------------------------------------------------------ */

int wire_keep_json(wire_reading *r, const json_t *value)
{
	return keep(r, json_dumps(value, WRITE_FLAGS));
}

int wire_keep_rest(wire_reading *r)
{
	return r->rest ? keep(r, strdup(r->rest)) : wire_keep_json(r, r->root);
}

int wire_keep_whole(wire_reading *r)
{
	r->out->kind = WIRE_OTHER;
	return keep(r, strndup(r->text, r->n));
}

void wire_message_free(wire_message *message)
{
	free(message->text);
	message->text = NULL;
}
