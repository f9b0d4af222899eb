/* extra_headers.c - the members of one flat JSON object as strings of C. */
#define _GNU_SOURCE
#include "extra_headers.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"
#include "json_members.h"
#include "wipe.h"

/* ---- Strings ----------------------------------------------------------------------------------------------------- */

/* Four hexadecimal digits at `at`; -1 without them. */
static int32_t read_hex(const char *at, const char *end)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	int32_t value = 0;
	for (int i = 0; i < 4; i++) {
		const char *digit = at + i < end && at[i] ? strchr(digits, at[i]) : NULL;
		if (!digit) {
			return -1;
		}
		value = value * 16 + (int32_t)((digit - digits) % 16);
	}
	return value;
}

/* Behind "\u": the character, and in *at what follows it. -1 for NUL, half a surrogate pair, and what is no number. */
static int32_t read_character(const char **at, const char *end)
{
	int32_t first = read_hex(*at, end);
	*at += first < 0 ? 0 : 4;
	if (first >= 0xd800 && first < 0xdc00) {
		int32_t second = end - *at > 6 - 1 && !strncmp(*at, "\\u", 2) ? read_hex(*at + 2, end) : -1;
		*at += 6;
		return second >= 0xdc00 && second < 0xe000 ? 0x10000 + ((first - 0xd800) << 10) + second - 0xdc00 : -1;
	}
	return first == 0 || (first >= 0xdc00 && first < 0xe000) ? -1 : first;
}

static char *write_utf8(char *out, int32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	int tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};
	*out++ = (char)(heads[tails] | c >> (6 * tails));
	while (tails-- > 0) {
		*out++ = (char)(0x80 | (c >> (6 * tails) & 0x3f));
	}
	return out;
}

/* Takes the escape behind a backslash; what follows it, or NULL when there is none such. */
static const char *take_escape(const char *at, const char *end, char **out)
{
	static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *name = at < end && *at ? strchr(names, *at) : NULL;
	if (name) {
		*(*out)++ = meanings[name - names];
		return at + 1;
	}
	if (at == end || *at++ != 'u') {
		return NULL;
	}
	int32_t character = read_character(&at, end);
	if (character < 0) {
		return NULL;
	}
	*out = write_utf8(*out, character);
	return at;
}

/* The inside of a JSON string as text, which is never longer. AS_EINVAL for what cannot stand there. */
static int decode(const char *at, size_t bytes, char **out)
{
	const char *end = at + bytes;
	char *text = *out = malloc(bytes + 1);
	if (!text) {
		return AS_ENOMEM;
	}
	while (at && at < end) {
		char c = *at++;
		if (c == '\\') {
			at = take_escape(at, end, &text);
		} else if ((unsigned char)c < ' ') {
			at = NULL;
		} else {
			*text++ = c;
		}
	}
	*text = '\0';
	if (!at) {
		as_wipe_free(*out);
		*out = NULL;
	}
	return at ? 0 : AS_EINVAL;
}

/* ---- The object -------------------------------------------------------------------------------------------------- */

typedef struct reading {
	extra_headers *headers;
	int error;
} reading;

static void take_member(void *arg, const json_member *member)
{
	reading *r = arg;
	extra_headers *headers = r->headers;
	if (r->error) {
		return;
	}
	if ((headers->count & (headers->count - 1)) == 0) { /* room for a power of two, or for none */
		size_t room = headers->count ? headers->count * 2 : 1;
		extra_header *more = realloc(headers->all, room * sizeof(*more));
		if (!more) {
			r->error = AS_ENOMEM;
			return;
		}
		headers->all = more;
	}
	extra_header *header = &headers->all[headers->count++];
	*header = (extra_header){NULL, NULL};
	r->error = decode(member->name, member->name_bytes, &header->name);
	if (!r->error && member->kind == '"') {
		r->error = decode(member->value, member->bytes, &header->value);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_twice(const extra_headers *headers)
{
	const char **names = malloc(headers->count * sizeof(*names) + 1);
	int error = names ? 0 : AS_ENOMEM;
	for (size_t i = 0; names && i < headers->count; i++) {
		names[i] = headers->all[i].name;
	}
	if (names) {
		qsort(names, headers->count, sizeof(*names), by_name);
	}
	for (size_t i = 1; names && i < headers->count; i++) {
		error = strcmp(names[i - 1], names[i]) ? error : AS_EINVAL;
	}
	free(names);
	return error;
}

int extra_headers_parse(const char *text, extra_headers *out)
{
	reading r = {out, 0};
	*out = (extra_headers){NULL, 0};
	if (!*text) {
		return 0;
	}
	int wrong = json_members(text, strlen(text), take_member, &r) ? AS_EINVAL : 0;
	wrong = r.error ? r.error : wrong;
	wrong = wrong ? wrong : check_twice(out);
	if (wrong) {
		extra_headers_free(out);
	}
	return wrong;
}

int extra_header_is_token(const char *text)
{
	for (const char *c = text; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("!#$%&'*+-.^_`|~", *c)) {
			return 0;
		}
	}
	return *text != '\0';
}

void extra_headers_free(extra_headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		as_wipe_free(headers->all[i].name);
		as_wipe_free(headers->all[i].value);
	}
	free(headers->all);
	*headers = (extra_headers){NULL, 0};
}
