#define _GNU_SOURCE
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "utf8.h"
#include "wire.h"

/* ---- Text that is UTF-8 for certain ------------------------------------------------------------------------------ */

/* NULL: no memory. */
static json_t *clean_string(const char *text)
{
	char *clean = as_utf8_clean(text);
	json_t *string = clean ? json_string_nocheck(clean) : NULL;
	free(clean);
	return string;
}

char *wire_escape(const char *text)
{
	json_t *string = clean_string(text);
	char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
	json_decref(string);
	if (quoted) {
		size_t n = strlen(quoted) - 2;
		memmove(quoted, quoted + 1, n);
		quoted[n] = '\0';
	}
	return quoted;
}

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

/* What every message begins with. NULL: no memory. */
static json_t *new_message(const char *event, uint64_t sequence)
{
	return json_pack("{s:s, s:I}", "event", event, "sequence", (json_int_t)sequence);
}

/* 0, or -1 without memory; a NULL text is left out. */
static int add(json_t *message, const char *name, const char *text)
{
	return text ? json_object_set_new(message, name, clean_string(text)) : 0;
}

/* The message as text, which it is no more. failed: it lacks something. */
static char *finish(json_t *message, int failed, size_t *n)
{
	char *text = failed ? NULL : json_dumps(message, JSON_COMPACT);
	json_decref(message);
	*n = text ? strlen(text) : 0;
	return text;
}

/* Only objects and arrays count: what else happens to be JSON, 42 or true, may as well be meant as words. */
static int is_json(const char *metadata)
{
	json_t *value = json_loads(metadata, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	json_decref(value);
	return value != NULL;
}

/* The message's text with one more member, JSON that stays as it was written. */
static char *append_json(char *text, const char *name, const char *json, size_t *n)
{
	char *longer = NULL;
	int length = text ? asprintf(&longer, "%.*s,\"%s\":%s}", (int)*n - 1, text, name, json) : -1;
	free(text);
	*n = length < 0 ? 0 : (size_t)length;
	return length < 0 ? NULL : longer;
}

char *wire_json_start(uint64_t sequence, const wire_start *start, size_t *n)
{
	json_t *message = new_message("start", sequence);
	int verbatim = start->metadata && is_json(start->metadata);
	int failed = !message || add(message, "uuid", start->uuid) || add(message, "streamId", start->stream_id) ||
				 add(message, "track", start->track) || add(message, "codec", start->codec) ||
				 json_object_set_new(message, "rate", json_integer(start->rate_hz)) ||
				 json_object_set_new(message, "channels", json_integer(start->channels)) ||
				 (start->resumed && json_object_set_new(message, "resumed", json_integer(start->resumed))) ||
				 add(message, "authId", start->auth_id) || add(message, "accountId", start->account_id) ||
				 add(message, "subaccountId", start->subaccount_id) || add(message, "streamRate", start->rate) ||
				 add(message, "streamUnit", start->unit) || add(message, "metadata", verbatim ? NULL : start->metadata);
	char *text = finish(message, failed, n);
	return verbatim ? append_json(text, "metadata", start->metadata, n) : text;
}

char *wire_json_stop(uint64_t sequence, const char *stream_id, const char *reason, size_t *n)
{
	json_t *message = new_message("stop", sequence);
	int failed = !message || add(message, "streamId", stream_id) || add(message, "reason", reason);
	return finish(message, failed, n);
}

char *wire_json_checkpoint(uint64_t sequence, const char *stream_id, const char *name, int reached, size_t *n)
{
	json_t *message = new_message("media.checkpoint", sequence);
	int failed = !message || add(message, "streamId", stream_id) || add(message, "name", name) ||
				 json_object_set_new(message, "reached", json_boolean(reached));
	return finish(message, failed, n);
}

char *wire_json_cleared(uint64_t sequence, const char *stream_id, size_t *n)
{
	json_t *message = new_message("media.cleared", sequence);
	return finish(message, !message || add(message, "streamId", stream_id), n);
}

/* ---- media: many times a second, so into memory that is there already -------------------------------------------- */

#define MEDIA_HEAD "{\"event\":\"media\",\"sequence\":"
#define MEDIA_ID ",\"streamId\":\""
#define MEDIA_AUDIO "\",\"audio\":\""
#define MEDIA_TAIL "\"}"
#define MEDIA_FIXED (sizeof(MEDIA_HEAD MEDIA_ID MEDIA_AUDIO MEDIA_TAIL) - 1)
#define SEQUENCE_DIGITS 20

static char *put(char *at, const void *text, size_t n)
{
	return (char *)memcpy(at, text, n) + n;
}

size_t wire_json_media_bytes(const char *escaped_id, size_t n)
{
	return MEDIA_FIXED + SEQUENCE_DIGITS + strlen(escaped_id) + BASE64_BYTES(n);
}

size_t wire_json_media(char *buf, size_t bytes, uint64_t sequence, const char *escaped_id, const void *audio, size_t n)
{
	char digits[SEQUENCE_DIGITS + 1];
	size_t digit_count = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, sequence), id_length = strlen(escaped_id);
	if (MEDIA_FIXED + digit_count + id_length + BASE64_BYTES(n) > bytes) {
		return 0;
	}
	char *at = put(buf, MEDIA_HEAD, sizeof(MEDIA_HEAD) - 1);
	at = put(at, digits, digit_count);
	at = put(at, MEDIA_ID, sizeof(MEDIA_ID) - 1);
	at = put(at, escaped_id, id_length);
	at = put(at, MEDIA_AUDIO, sizeof(MEDIA_AUDIO) - 1);
	at += base64_encode(audio, n, at);
	at = put(at, MEDIA_TAIL, sizeof(MEDIA_TAIL) - 1);
	return (size_t)(at - buf);
}
