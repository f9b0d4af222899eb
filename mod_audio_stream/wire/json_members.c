#include "json_members.h"

#include <string.h>

typedef struct cursor {
	const char *at, *end;
} cursor;

static int is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(cursor *c)
{
	while (c->at < c->end && is_blank(*c->at)) {
		c->at++;
	}
}

/* Takes a character, with the blanks before and after it. 0 when it is not there. */
static int take(cursor *c, char wanted)
{
	skip_blanks(c);
	if (c->at == c->end || *c->at != wanted) {
		return 0;
	}
	c->at++;
	skip_blanks(c);
	return 1;
}

/* Is the quote at `at` escaped: is the number of backslashes before it odd? None of them is before `start`. */
static int is_escaped(const char *start, const char *at)
{
	const char *first = at;
	while (first > start && first[-1] == '\\') {
		first--;
	}
	return (at - first) & 1;
}

const char *json_string_end(const char *at, const char *end)
{
	const char *start = at;
	while (at < end && (at = memchr(at, '"', (size_t)(end - at)))) {
		if (!is_escaped(start, at)) {
			return at;
		}
		at++;
	}
	return NULL;
}

/* At a string: takes it. 0 when it does not end. */
static int take_string(cursor *c, const char **inside, size_t *bytes)
{
	const char *quote = json_string_end(c->at + 1, c->end);
	if (quote) {
		*inside = c->at + 1;
		*bytes = (size_t)(quote - *inside);
		c->at = quote + 1;
	}
	return quote != NULL;
}

/* At an object or array: goes behind it. 0 when it does not end. */
static int skip_nested(cursor *c)
{
	const char *inside;
	size_t bytes, depth = 0;
	while (c->at < c->end) {
		switch (*c->at) {
		case '"':
			if (!take_string(c, &inside, &bytes)) {
				return 0;
			}
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			depth--;
			break;
		}
		c->at++;
		if (depth == 0) {
			return 1;
		}
	}
	return 0;
}

/* At a number, true, false or null: goes behind it. 0 when there is none. */
static int skip_scalar(cursor *c)
{
	const char *start = c->at;
	while (c->at < c->end && !is_blank(*c->at) && !strchr(",{}[]:\"", *c->at)) { /* strchr() finds a NUL as well */
		c->at++;
	}
	return c->at > start;
}

static int take_value(cursor *c, json_member *member)
{
	member->value = c->at;
	member->kind = c->at < c->end && strchr("\"{[", *c->at) ? *c->at : 0;
	if (member->kind == '"') {
		return take_string(c, &member->value, &member->bytes);
	}
	int taken = member->kind ? skip_nested(c) : skip_scalar(c);
	member->bytes = (size_t)(c->at - member->value);
	return taken;
}

int json_members(const char *text, size_t n, json_member_sink sink, void *arg)
{
	cursor c = {text, text + n};
	json_member member;
	if (!take(&c, '{')) {
		return -1;
	}
	if (!take(&c, '}')) {
		do {
			if (c.at == c.end || *c.at != '"' || !take_string(&c, &member.name, &member.name_bytes) || !take(&c, ':') ||
				!take_value(&c, &member)) {
				return -1;
			}
			sink(arg, &member);
		} while (take(&c, ','));
		if (!take(&c, '}')) {
			return -1;
		}
	}
	return c.at == c.end ? 0 : -1;
}

int json_member_is(const json_member *member, const char *name)
{
	return member->name_bytes == strlen(name) && !memcmp(member->name, name, member->name_bytes);
}
