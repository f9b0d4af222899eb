/* base64: every length, every wrong character, every form of padding, escapes, in place; the oracle goes bit by bit. */
#define _GNU_SOURCE
#include "support.h"

#include "base64.h"
#include "oracle.h"

#define LENGTHS 301

static uint32_t rng = 20251120;

static void fill(uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		data[i] = (uint8_t)(next_random(&rng) >> 8);
	}
}

/* Decodes in memory of exactly the size that is needed, apart and in place. */
static long decode(const char *text, size_t n, uint8_t *out)
{
	char *in = copy_text(text, n);
	uint8_t *apart = malloc(n / 4 * 3 + 3);
	long bytes = base64_decode(in, n, apart);
	assert_int_equal(base64_decode(in, n, (uint8_t *)in), bytes);
	if (bytes > 0) {
		assert_memory_equal(in, apart, (size_t)bytes);
		memcpy(out, apart, (size_t)bytes);
	}
	free(in);
	free(apart);
	return bytes;
}

static void gives(const char *text, const char *wanted)
{
	uint8_t out[256];
	long bytes = decode(text, strlen(text), out);
	assert_int_equal(bytes, strlen(wanted));
	assert_memory_equal(out, wanted, strlen(wanted));
}

static void is_refused(const char *text)
{
	uint8_t out[256];
	assert_int_equal(decode(text, strlen(text), out), -1);
}

/* RFC 4648, section 10. */
static void test_known_answers(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {{"", ""},
										   {"f", "Zg=="},
										   {"fo", "Zm8="},
										   {"foo", "Zm9v"},
										   {"foob", "Zm9vYg=="},
										   {"fooba", "Zm9vYmE="},
										   {"foobar", "Zm9vYmFy"},
										   {"\xfb\xff\xbf", "+/+/"}};
	char text[16];
	for (size_t i = 0; i < COUNT(pairs); i++) {
		size_t n = base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
		assert_int_equal(n, strlen(pairs[i][1]));
		assert_memory_equal(text, pairs[i][1], n);
		gives(pairs[i][1], pairs[i][0]);
	}
}

static void check_length(size_t n, size_t offset)
{
	uint8_t *data = malloc(n + offset), *back = malloc(n + 3), *wanted = malloc(n + 3);
	char *memory = malloc(BASE64_BYTES(n) + offset), *text = memory + offset;
	fill(data, n + offset);
	size_t length = base64_encode(data + offset, n, text);
	assert_int_equal(length, BASE64_BYTES(n));
	assert_int_equal(oracle_decode_plain(text, length, wanted), n);
	assert_memory_equal(wanted, data + offset, n);
	assert_int_equal(base64_decode(text, length, back), n);
	assert_memory_equal(back, data + offset, n);
	while (length && text[length - 1] == '=') {
		length--;
	}
	assert_int_equal(decode(text, length, back), n);
	assert_memory_equal(back, data + offset, n);
	free(data);
	free(back);
	free(wanted);
	free(memory);
}

static void test_every_length_wherever_it_lies(void **state)
{
	(void)state;
	for (size_t n = 0; n < LENGTHS; n++) {
		for (size_t offset = 0; offset < 8; offset++) {
			check_length(n, offset);
		}
	}
	check_length(1 << 20, 1);
}

/* Each of the 256 characters in each place of texts of 8 to 11 characters: taken when it is one of the 64. */
static void test_every_character_in_every_place(void **state)
{
	(void)state;
	for (size_t n = 8; n < 12; n++) {
		for (size_t at = 0; at < n; at++) {
			for (int c = 0; c < 256; c++) {
				char text[] = "QUJDRGVmZ0hp";
				uint8_t out[16], wanted[16];
				text[at] = (char)c;
				long bytes = decode(text, n, out);
				assert_int_equal(bytes, oracle_decode_plain(text, n, wanted));
				if (oracle_symbol(c) < 0 && c != '=') {
					assert_int_equal(bytes, -1);
				}
				assert_true(bytes < 0 || !memcmp(out, wanted, (size_t)bytes));
			}
		}
	}
}

static void test_padding(void **state)
{
	(void)state;
	gives("QQ==", "A");
	gives("QQ", "A");
	gives("QUI=", "AB");
	gives("QUI", "AB");
	gives("QUJDQQ", "ABCA");
	gives("QR==", "A"); /* bits that nobody needs do not matter */
	static const char *const wrong[] = {
		"=",    "==",    "===",   "====",    "Q",      "Q=",       "Q==",     "Q===",    "QUJDQ",
		"QQ=",  "QUI==", "QUJD=", "QUJD==",  "QQ===",  "QQ==QQ==", "QQ==QQ",  "QUI=Q",   "QUI=QUJD",
		"=QQ=", "Q=Q=",  "QQ=Q",  "QUJDQQ=", "QQ==\n", "QQ== ",    "QQ==\\/", "QUJD===="};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		is_refused(wrong[i]);
	}
}

static void test_what_looks_like_it(void **state)
{
	(void)state;
	static const char *const wrong[] = {"QU JD",       "QUJD\n",      "QUJD\r\nQUJD", "QU-_",
										"QU\\nJD",     "QUJD\\",      "QUJ\\",        "\\",
										"QUJD\"",      "QUJD\\\\",    "QUJD\\u",      "QUJD\\u002",
										"QUJD\\u012B", "QUJD\\u002g", "QUJD\\U002B",  "QUJD\\x2B",
										"\xc3\xa9UJD", "QUJD\\u0000", "QUJD\\u00C3",  "data:audio/wav;base64,QUJD"};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		is_refused(wrong[i]);
	}
	uint8_t out[8];
	assert_int_equal(decode("QUJD\0QUJD", 9, out), -1);
}

static void test_escapes(void **state)
{
	(void)state;
	gives("\\/\\/\\/\\/", "\xff\xff\xff");
	gives("+\\/+\\/", "\xfb\xff\xbf");
	gives("\\u002B\\u002f\\u002b\\u002F", "\xfb\xff\xbf");
	gives("QQ\\u003D\\u003d", "A");
	gives("QUI\\u003D", "AB");
	gives("\\u0051UJD", "ABC");
	gives("QUJDQUJD\\/\\/", "ABCABC\xff");
	is_refused("QQ\\u003D");
	is_refused("QQ\\u003D=QUJD");
	is_refused("QUJD\\u003D");
}

/* One or more characters of an encoded text spelt as escapes. */
static size_t escape_some(const char *text, size_t n, char *out)
{
	size_t length = 0;
	for (size_t i = 0; i < n; i++) {
		if (next_random(&rng) % 8) {
			out[length++] = text[i];
		} else if (text[i] == '/' && next_random(&rng) % 2) {
			length += (size_t)sprintf(out + length, "\\/");
		} else {
			length += (size_t)sprintf(out + length, next_random(&rng) % 2 ? "\\u%04x" : "\\u%04X", text[i]);
		}
	}
	return length;
}

static void test_escapes_anywhere(void **state)
{
	(void)state;
	uint8_t data[64], out[64];
	char text[BASE64_BYTES(64)], escaped[6 * sizeof(text) + 1];
	for (int i = 0; i < 20000; i++) {
		size_t n = next_random(&rng) % sizeof(data);
		fill(data, n);
		size_t length = escape_some(text, base64_encode(data, n, text), escaped);
		assert_int_equal(decode(escaped, length, out), n);
		assert_memory_equal(out, data, n);
	}
}

/* Texts with something wrong in them more often than not. */
static void test_random_texts(void **state)
{
	(void)state;
	static const char *const pieces[] = {"A",       "z",       "+",  "/", "QUJD", "=", "==", "\\/",
										 "\\u003d", "\\u002B", "\\", "u", "\n",   "-", "\""};
	char text[256];
	uint8_t out[256], wanted[256];
	int taken = 0;
	for (int i = 0; i < 200000; i++) {
		size_t n = 0;
		for (size_t left = next_random(&rng) % 8; left; left--) {
			size_t sane = next_random(&rng) % 4 ? 5 : COUNT(pieces);
			n += (size_t)sprintf(text + n, "%s", pieces[next_random(&rng) % sane]);
		}
		long bytes = decode(text, n, out);
		assert_int_equal(bytes, oracle_decode(text, n, wanted));
		assert_true(bytes < 0 || !memcmp(out, wanted, (size_t)bytes));
		taken += bytes > 0;
	}
	assert_in_range(taken, 20000, 180000); /* both kinds were there */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_every_length_wherever_it_lies),
		cmocka_unit_test(test_every_character_in_every_place),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_what_looks_like_it),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_escapes_anywhere),
		cmocka_unit_test(test_random_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
