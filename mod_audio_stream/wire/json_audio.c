#include "json_audio.h"

#include <string.h>

#include "json_members.h"

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
		at++;
	}
	return at;
}

/* `at` is behind a string: the inside of the string that is its value, if it is a member's name and has one; else NULL.
 */
static const char *string_value(const char *at, const char *end)
{
	at = skip_blanks(at, end);
	if (at == end || *at != ':') {
		return NULL;
	}
	at = skip_blanks(at + 1, end);
	return at < end && *at == '"' ? at + 1 : NULL;
}

static void find(const char *text, const char *end, const char *key, json_audio *out)
{
	size_t key_length = strlen(key);
	const char *at = text;
	while (at < end && (at = memchr(at, '"', (size_t)(end - at)))) {
		const char *name = at + 1, *name_end = json_string_end(name, end);
		if (!name_end) {
			return;
		}
		at = name_end + 1;
		if ((size_t)(name_end - name) == key_length && !memcmp(name, key, key_length)) {
			const char *value = string_value(at, end), *value_end = value ? json_string_end(value, end) : NULL;
			if (value_end) {
				out->base64 = (char *)value;
				out->length = (size_t)(value_end - value);
				return;
			}
		}
	}
}

size_t json_audio_cut(const char *text, size_t n, const char *key, json_audio *out, char *rest)
{
	*out = (json_audio){0};
	find(text, text + n, key, out);
	size_t before = out->base64 ? (size_t)(out->base64 - text) : n;
	size_t after = n - before - out->length;
	memcpy(rest, text, before);
	memcpy(rest + before, text + before + out->length, after);
	rest[before + after] = '\0';
	return before + after;
}
