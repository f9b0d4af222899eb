/*
 * fuzz_base64.c - libFuzzer target: base64. The input is decoded as it is, and encoded and decoded again.
 *
 * Whatever the input: the same answer as bit by bit, apart or in place; what is encoded comes back.
 */
#include "base64.h"
#include "oracle.h"

static void decode(const uint8_t *data, size_t n)
{
	char *text = copy_text(data, n);
	uint8_t *out = malloc(n / 4 * 3 + 3), *wanted = malloc(n + 1);
	long bytes = base64_decode(text, n, out), expected = oracle_decode(text, n, wanted);
	expect(bytes == expected, "another length than bit by bit");
	expect(bytes < 0 || !memcmp(out, wanted, (size_t)bytes), "other bytes than bit by bit");
	expect(base64_decode(text, n, (uint8_t *)text) == bytes, "another length in place");
	expect(bytes < 0 || !memcmp(text, wanted, (size_t)bytes), "other bytes in place");
	free(text);
	free(out);
	free(wanted);
}

static void there_and_back(const uint8_t *data, size_t n)
{
	char *text = malloc(BASE64_BYTES(n) + 1);
	uint8_t *back = malloc(n + 1), *wanted = malloc(n + 3);
	size_t length = base64_encode(data, n, text);
	expect(length == BASE64_BYTES(n), "another length than announced");
	expect(oracle_decode_plain(text, length, wanted) == (long)n && !memcmp(wanted, data, n), "not what was encoded");
	expect(base64_decode(text, length, back) == (long)n && !memcmp(back, data, n), "it does not come back");
	free(text);
	free(back);
	free(wanted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n) {
		decode(data, n);
		there_and_back(data, n);
	}
	return 0;
}
