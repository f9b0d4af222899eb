#include "utf8.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define REPLACEMENT_BYTES (sizeof(REPLACEMENT) - 1)

static int is_continuation(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

/* Bytes of the character at `at`, which a 0 ends; 0 when it is not UTF-8: too short, too long for what it says, a
 * surrogate, beyond U+10FFFF. */
static size_t character_bytes(const uint8_t *at)
{
	if (at[0] < 0x80) {
		return 1;
	}
	if (at[0] < 0xc2 || at[0] > 0xf4 || !is_continuation(at[1])) {
		return 0;
	}
	if (at[0] < 0xe0) {
		return 2;
	}
	int out_of_range = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
					   (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f);
	if (out_of_range || !is_continuation(at[2])) {
		return 0;
	}
	if (at[0] < 0xf0) {
		return 3;
	}
	return is_continuation(at[3]) ? 4 : 0;
}

int as_utf8_check(const char *text)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t bytes = 1;
	for (; *at && bytes; at += bytes) {
		bytes = character_bytes(at);
	}
	return bytes != 0;
}

/* The length of the clean copy. */
static size_t clean_bytes(const uint8_t *at)
{
	size_t total = 0;
	while (*at) {
		size_t bytes = character_bytes(at);
		total += bytes ? bytes : REPLACEMENT_BYTES;
		at += bytes ? bytes : 1;
	}
	return total;
}

char *as_utf8_clean(const char *text)
{
	const uint8_t *at = (const uint8_t *)text;
	char *clean = malloc(clean_bytes(at) + 1), *to = clean;
	while (clean && *at) {
		size_t bytes = character_bytes(at);
		memcpy(to, bytes ? (const char *)at : REPLACEMENT, bytes ? bytes : REPLACEMENT_BYTES);
		to += bytes ? bytes : REPLACEMENT_BYTES;
		at += bytes ? bytes : 1;
	}
	if (clean) {
		*to = '\0';
	}
	return clean;
}
