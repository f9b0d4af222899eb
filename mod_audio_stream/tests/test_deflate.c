/* test_deflate.c - permessage-deflate: what is agreed, what comes back, and what a server may not do to us. */
#define _GNU_SOURCE
#include <zlib.h>

#include "deflate.h"
#include "support.h"

static ws_deflate *agree(const char *text)
{
	ws_deflate *d = NULL;
	assert_int_equal(ws_deflate_new(text, &d), 0);
	return d;
}

static void test_what_is_agreed(void **state)
{
	(void)state;
	static const char *const good[] = {
		"permessage-deflate",
		"Permessage-Deflate; server_no_context_takeover; client_no_context_takeover",
		"permessage-deflate;server_max_window_bits=8;client_max_window_bits=15",
		" permessage-deflate ; client_max_window_bits = \"10\" ",
	};
	static const char *const bad[] = {
		"",
		";",
		"x-webkit-deflate-frame",
		"permessage-deflatex",
		"permessage-deflate; what",
		"permessage-deflate; x=1",
		"permessage-deflate; server_max_window_bits=7",
		"permessage-deflate; server_max_window_bits=16",
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_max_window_bits=1x",
		"permessage-deflate, permessage-deflate",
	};
	for (size_t i = 0; i < COUNT(good); i++) {
		ws_deflate_free(agree(good[i]));
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		ws_deflate *d = NULL;
		assert_int_equal(ws_deflate_new(bad[i], &d), AS_EINVAL);
	}
	ws_deflate_free(NULL);
}

/* Half noise, half the same. */
static unsigned char *mixture(size_t n)
{
	unsigned char *data = malloc(n + 1);
	uint32_t seed = (uint32_t)n + 7;
	for (size_t i = 0; i < n; i++) {
		data[i] = i % 64 < 16 ? (unsigned char)next_random(&seed) : 'a';
	}
	return data;
}

/* Both ends are ours: what one packs, the other unpacks. Returns how many bytes have travelled. */
static size_t round_trip(const char *agreed, const size_t *sizes, size_t count)
{
	ws_deflate *sender = agree(agreed), *receiver = agree(agreed);
	size_t travelled = 0, room = 0, bytes = 0;
	char *out = NULL;
	for (size_t i = 0; i < count; i++) {
		unsigned char *data = mixture(sizes[i]), *packed = malloc(sizes[i] + 1);
		size_t n = ws_deflate_pack(sender, data, sizes[i], packed, sizes[i]);
		assert_true(n > 0 && n < sizes[i]);
		assert_int_equal(ws_deflate_unpack(receiver, packed, n, sizes[i], &out, &room, &bytes), 0);
		assert_int_equal(bytes, sizes[i]);
		assert_memory_equal(out, data, bytes);
		assert_int_equal(out[bytes], 0);
		travelled += n;
		free(data);
		free(packed);
	}
	free(out);
	ws_deflate_free(sender);
	ws_deflate_free(receiver);
	return travelled;
}

static void test_there_and_back(void **state)
{
	(void)state;
	static const char alone[] = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
	static const size_t sizes[] = {1000, 200, 200, 200, 70000, 1000, 1000, 3000000, 300}, same[] = {200, 200, 200};
	round_trip("permessage-deflate", sizes, COUNT(sizes));
	round_trip(alone, sizes, COUNT(sizes));
	/* What was there before helps. */
	assert_true(round_trip("permessage-deflate", same, COUNT(same)) * 2 < round_trip(alone, same, COUNT(same)));
	round_trip("permessage-deflate; client_max_window_bits=9; server_max_window_bits=9", sizes, COUNT(sizes));
}

static void test_what_is_not_packed(void **state)
{
	(void)state;
	ws_deflate *d = agree("permessage-deflate"), *small = agree("permessage-deflate; client_max_window_bits=8");
	unsigned char noise[4000], out[4000], zeros[4000] = {0};
	uint32_t seed = 1;
	for (size_t i = 0; i < sizeof(noise); i++) {
		noise[i] = (unsigned char)next_random(&seed);
	}
	assert_int_equal(ws_deflate_pack(d, zeros, WS_DEFLATE_LEAST - 1, out, sizeof(out)), 0);
	assert_int_equal(ws_deflate_pack(d, NULL, 0, out, sizeof(out)), 0);
	assert_int_equal(ws_deflate_pack(d, noise, sizeof(noise), out, sizeof(noise)), 0);
	assert_int_equal(ws_deflate_pack(small, zeros, sizeof(zeros), out, sizeof(out)), 0);
	assert_true(ws_deflate_pack(d, zeros, sizeof(zeros), out, sizeof(out)) > 0); /* a failure is not for ever */
	ws_deflate_free(d);
	ws_deflate_free(small);
}

static void unpack(ws_deflate *d, const void *data, size_t n, size_t most, int expected, const char *text)
{
	char *out = NULL;
	size_t room = 0, bytes = 0;
	assert_int_equal(ws_deflate_unpack(d, data, n, most, &out, &room, &bytes), expected);
	if (!expected) {
		assert_int_equal(bytes, strlen(text));
		assert_memory_equal(out, text, bytes);
	}
	free(out);
}

/* The examples of RFC 7692, section 7.2.3. */
static void test_the_standard(void **state)
{
	(void)state;
	ws_deflate *d = agree("permessage-deflate");
	unpack(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 100, 0, "Hello");
	unpack(d, "\xf2\x00\x11\x00\x00", 5, 100, 0, "Hello");                                  /* by the window */
	unpack(d, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11, 100, 0, "Hello");         /* not compressed */
	unpack(d, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8, 100, 0, "Hello");                      /* a last block */
	unpack(d, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13, 100, 0, "Hello"); /* two blocks */
	unpack(d, "\x00", 1, 100, 0, "");
	unpack(d, "", 0, 100, 0, "");
	ws_deflate_free(d);
}

static void test_limits_and_nonsense(void **state)
{
	(void)state;
	ws_deflate *d = agree("permessage-deflate");
	unpack(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 5, 0, "Hello");
	unpack(d, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 4, AS_EFULL, NULL);
	ws_deflate_free(d);
	d = agree("permessage-deflate");
	unpack(d, "\xff\xff\xff\xff", 4, 100, AS_EINVAL, NULL);
	ws_deflate_free(d);
	d = agree("permessage-deflate");
	unpack(d, "\xf2\x00\x11\x00\x00", 5, 100, AS_EINVAL, NULL); /* nothing is in the window */
	ws_deflate_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_agreed),      cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_what_is_not_packed),  cmocka_unit_test(test_the_standard),
		cmocka_unit_test(test_limits_and_nonsense),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
