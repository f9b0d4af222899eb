/*
 * json_members.h - the members of a JSON object, one after the other, without a library and without memory.
 *
 * For messages of which two or three short strings matter, and whose size and shape are the network's choice: linear in
 * n, at memchr()'s speed on strings. A value is looked at no closer than its end has to be found: what is inside an
 * object or array is checked for balance only. So what passes here need not be JSON, but all JSON objects pass.
 */
#ifndef WIRE_JSON_MEMBERS_H
#define WIRE_JSON_MEMBERS_H

#include <stddef.h>

typedef struct json_member {
	const char *name; /* as it stands between the quotes: one spelt with escapes is another name here */
	size_t name_bytes;
	const char *value; /* of a string: its inside, escapes and all; else the value as it stands */
	size_t bytes;
	char kind; /* '"', '{', '[', or 0 for a number, true, false or null */
} json_member;

typedef void (*json_member_sink)(void *arg, const json_member *member);

/* Calls sink for each member in the order of the text. 0, or -1 for what cannot be a JSON object: then some may have been
 * told already. text need not be terminated. */
int json_members(const char *text, size_t n, json_member_sink sink, void *arg);
/* The quote that ends the string whose inside begins at `at`; NULL when there is none before `end`. */
const char *json_string_end(const char *at, const char *end);
/* Is this its name? */
int json_member_is(const json_member *member, const char *name);

#endif
