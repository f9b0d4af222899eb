/*
 * extra_headers.h - STREAM_EXTRA_HEADERS, a JSON object of strings, read without recursion and without leaving copies.
 *
 * A value is looked at on the thread of a call, whose stack is small, and may hold a key: a JSON library would descend into
 * whatever is nested in it, and free memory that it has not cleared.
 */
#ifndef STREAM_EXTRA_HEADERS_H
#define STREAM_EXTRA_HEADERS_H

#include <stddef.h>

typedef struct extra_header {
	char *name, *value; /* UTF-8; value NULL: it is no string */
} extra_header;

typedef struct extra_headers {
	extra_header *all;
	size_t count;
} extra_headers;

/* text: UTF-8. "" has none. AS_EINVAL for what is no JSON object, has a string in it that is none, or a name twice;
 * AS_ENOMEM. On failure nothing needs freeing. */
int extra_headers_parse(const char *text, extra_headers *out);
/* Is it a token of RFC 9110, which names headers and subprotocols? */
int extra_header_is_token(const char *text);
/* Wipes and frees them. */
void extra_headers_free(extra_headers *headers);

#endif
