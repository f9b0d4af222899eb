/*
 * oracle.h - what the tests and fuzz targets of the wire expect: the same answers, found slowly by other means.
 */
#ifndef AS_TESTS_ORACLE_H
#define AS_TESTS_ORACLE_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Holds in every build, fuzzing included. */
static inline void expect(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
}

/* A copy of exactly n bytes and a 0: reading or writing past them is noticed. */
static inline char *copy_text(const void *data, size_t n)
{
	char *copy = malloc(n + 1);
	if (n) {
		memcpy(copy, data, n);
	}
	copy[n] = '\0';
	return copy;
}

static inline int oracle_symbol(int c)
{
	const char *symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c > 0 && c < 128 ? strchr(symbols, c) : NULL;
	return at ? (int)(at - symbols) : -1;
}

/* base64 without escapes, bit by bit. Bytes, or -1. */
static inline long oracle_decode_plain(const char *text, size_t n, uint8_t *out)
{
	size_t padding = 0, bits = 0;
	uint32_t window = 0;
	long bytes = 0;
	while (padding < n && text[n - 1 - padding] == '=') {
		padding++;
	}
	size_t symbols = n - padding;
	if (symbols % 4 == 1 || (padding && (padding != 4 - symbols % 4 || padding > 2))) {
		return -1;
	}
	for (size_t i = 0; i < symbols; i++) {
		int value = oracle_symbol((unsigned char)text[i]);
		if (value < 0) {
			return -1;
		}
		window = window << 6 | (uint32_t)value;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[bytes++] = (uint8_t)(window >> bits);
		}
	}
	return bytes;
}

/* The same for the inside of a JSON string: jansson takes the escapes off. */
static inline long oracle_decode(const char *text, size_t n, uint8_t *out)
{
	char *quoted = malloc(n + 3);
	snprintf(quoted, 2, "\"");
	memcpy(quoted + 1, text, n);
	memcpy(quoted + 1 + n, "\"", 2);
	json_t *string = json_loadb(quoted, n + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	long bytes =
		json_is_string(string) ? oracle_decode_plain(json_string_value(string), json_string_length(string), out) : -1;
	json_decref(string);
	free(quoted);
	return bytes;
}

static inline json_t *oracle_find_in(json_t *value, const char *key);

static inline json_t *oracle_find_in_object(json_t *object, const char *key)
{
	const char *name;
	json_t *member;
	json_object_foreach(object, name, member)
	{
		json_t *found = !strcmp(name, key) && json_is_string(member) ? member : oracle_find_in(member, key);
		if (found) {
			return found;
		}
	}
	return NULL;
}

/* The first member of this name whose value is a string, at any depth, in the order of the text. */
static inline json_t *oracle_find_in(json_t *value, const char *key)
{
	size_t i;
	json_t *element;
	if (json_is_object(value)) {
		return oracle_find_in_object(value, key);
	}
	json_array_foreach(value, i, element)
	{
		json_t *found = oracle_find_in(element, key);
		if (found) {
			return found;
		}
	}
	return NULL;
}

#endif
