#include "base64.h"

static const char symbols[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#define XX 0x80 /* not a symbol: one of four has this bit, and so has their disjunction */

static const uint8_t values[256] = {
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, 62, XX, XX, XX, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61,
	XX, XX, XX, XX, XX, XX, XX, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
	22, 23, 24, 25, XX, XX, XX, XX, XX, XX, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
	45, 46, 47, 48, 49, 50, 51, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
	XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX,
};

/* ---- Encoding ---------------------------------------------------------------------------------------------------- */

/* The last one or two bytes. */
static void encode_rest(const uint8_t *in, size_t n, char *out)
{
	uint32_t bits = (uint32_t)in[0] << 16 | (n == 2 ? (uint32_t)in[1] << 8 : 0);
	out[0] = symbols[bits >> 18];
	out[1] = symbols[bits >> 12 & 63];
	out[2] = n == 2 ? symbols[bits >> 6 & 63] : '=';
	out[3] = '=';
}

size_t base64_encode(const void *data, size_t n, char *out)
{
	const uint8_t *in = data;
	char *at = out;
	for (; n >= 3; n -= 3, in += 3, at += 4) {
		uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
		at[0] = symbols[bits >> 18];
		at[1] = symbols[bits >> 12 & 63];
		at[2] = symbols[bits >> 6 & 63];
		at[3] = symbols[bits & 63];
	}
	if (n) {
		encode_rest(in, n, at);
		at += 4;
	}
	return (size_t)(at - out);
}

/* ---- Decoding ---------------------------------------------------------------------------------------------------- */

/* Whole groups of four symbols, until something else comes: an escape, padding, the end. Writes no further than it has
 * read, which is why out may be the text. Returns the groups. */
static size_t decode_groups(const uint8_t *in, size_t n, uint8_t *out)
{
	size_t groups = 0;
	for (; n >= 4; n -= 4, in += 4, out += 3, groups++) {
		uint32_t a = values[in[0]], b = values[in[1]], c = values[in[2]], d = values[in[3]];
		if ((a | b | c | d) & XX) {
			break;
		}
		uint32_t bits = a << 18 | b << 12 | c << 6 | d;
		out[0] = (uint8_t)(bits >> 16);
		out[1] = (uint8_t)(bits >> 8);
		out[2] = (uint8_t)bits;
	}
	return groups;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character of "\u00XX" after its backslash, with *used set; -1 when it is another escape. */
static int unescape(const uint8_t *in, size_t n, size_t *used)
{
	if (n >= 1 && in[0] == '/') {
		*used = 1;
		return '/';
	}
	if (n < 5 || in[0] != 'u' || in[1] != '0' || in[2] != '0') {
		return -1;
	}
	int high = hex_digit(in[3]), low = hex_digit(in[4]);
	*used = 5;
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* The next character, escapes taken off, with *used set; -1 for an escape of something else. */
static int next_character(const uint8_t *in, size_t n, size_t *used)
{
	*used = 1;
	if (in[0] != '\\') {
		return in[0];
	}
	int c = unescape(in + 1, n - 1, used);
	*used += 1;
	return c;
}

/* Up to four characters, the last ones or some with escapes among them; padding fills up to four. Writes to out what
 * they mean. Returns how many of n were used, 0 when it is not base64. With *bytes less than 3 nothing may follow. */
static size_t decode_slowly(const uint8_t *in, size_t n, uint8_t *out, size_t *bytes)
{
	size_t used = 0, symbol_count = 0, padding = 0;
	uint32_t bits = 0;
	while (used < n && symbol_count + padding < 4) {
		size_t step;
		int c = next_character(in + used, n - used, &step);
		if (c == '=') {
			padding++;
		} else if (c < 0 || padding || values[c] == XX) {
			return 0;
		} else {
			bits = bits << 6 | values[c];
			symbol_count++;
		}
		used += step;
	}
	if (symbol_count < 2 || (padding && symbol_count + padding != 4)) {
		return 0;
	}
	bits <<= 6 * (4 - symbol_count);
	*bytes = symbol_count - 1;
	for (size_t i = 0; i < *bytes; i++) {
		out[i] = (uint8_t)(bits >> (16 - 8 * i));
	}
	return used;
}

long base64_decode(const char *text, size_t n, uint8_t *out)
{
	const uint8_t *in = (const uint8_t *)text;
	uint8_t *at = out;
	for (;;) {
		size_t groups = decode_groups(in, n, at), bytes;
		in += 4 * groups, n -= 4 * groups, at += 3 * groups;
		if (n == 0) {
			return at - out;
		}
		size_t used = decode_slowly(in, n, at, &bytes);
		if (used == 0 || (bytes < 3 && used < n)) {
			return -1;
		}
		in += used, n -= used, at += bytes;
	}
}
