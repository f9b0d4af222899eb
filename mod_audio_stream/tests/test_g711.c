/*
 * Both laws against tables built from the recommendation's own description (G.711, tables 1a to 2b): segments of equal
 * intervals, y0 = 0 for mu-law, every other quantised value in the middle of its interval. The scales are the
 * recommendation's: 14 bits for mu-law (4 of our units a step), 13 for A-law (8).
 */
#define _GNU_SOURCE
#include "support.h"

typedef struct law {
	const char *name;
	int unit;     /* one step of the recommendation's scale in 16-bit samples */
	int x[129];   /* decision values */
	int y2[128];  /* quantised values, doubled: mu-law's and A-law's middles can be halves */
	uint8_t flip; /* what the wire inverts */
	void (*encode)(const int16_t *, uint8_t *, size_t);
	void (*decode)(const uint8_t *, int16_t *, size_t);
} law;

static law mu = {.name = "mu", .unit = 4, .flip = 0x7f, .encode = as_pcmu_encode, .decode = as_pcmu_decode};
static law a = {.name = "A", .unit = 8, .flip = 0x55, .encode = as_pcma_encode, .decode = as_pcma_decode};

static void add_intervals(law *l, int *n, int count, int width)
{
	for (int i = 0; i < count; i++, (*n)++) {
		l->x[*n + 1] = l->x[*n] + width;
		l->y2[*n] = l->x[*n] + l->x[*n + 1];
	}
}

static int build_tables(void **state)
{
	(void)state;
	int n = 0;
	add_intervals(&mu, &n, 1, 1);
	add_intervals(&mu, &n, 15, 2);
	for (int width = 4; width <= 256; width *= 2) {
		add_intervals(&mu, &n, 16, width);
	}
	mu.y2[0] = 0;
	n = 0;
	add_intervals(&a, &n, 32, 2);
	for (int width = 4; width <= 128; width *= 2) {
		add_intervals(&a, &n, 16, width);
	}
	/* Virtual decision values and last quantised values, as printed in the recommendation. */
	return mu.x[128] == 8159 && mu.y2[127] == 2 * 8031 && a.x[128] == 4096 && a.y2[127] == 2 * 4032 ? 0 : -1;
}

/* The code of interval n: sign bit 1 for positive. mu-law sends the number inverted, A-law flips the even bits. */
static uint8_t code_of(const law *l, int n, int negative)
{
	if (l == &mu) {
		return (uint8_t)((negative ? 0x00 : 0x80) | (~n & 0x7f));
	}
	return (uint8_t)((n | (negative ? 0x00 : 0x80)) ^ l->flip);
}

static int interval_of(const law *l, uint8_t code)
{
	return (code ^ l->flip) & 0x7f;
}

static void check_decode(const law *l)
{
	for (int negative = 0; negative < 2; negative++) {
		for (int n = 0; n < 128; n++) {
			uint8_t code = code_of(l, n, negative);
			int16_t sample;
			l->decode(&code, &sample, 1);
			assert_int_equal(sample, (negative ? -1 : 1) * l->y2[n] * l->unit / 2);
		}
	}
}

/* A value on a decision value belongs above it when positive; when negative the neighbour towards zero is as near. */
static void check_one(const law *l, int16_t sample, uint8_t code)
{
	int n = interval_of(l, code);
	int magnitude = sample < 0 ? -sample : sample;
	assert_int_equal(!(code & 0x80), sample < 0);
	assert_true(magnitude >= l->x[n] * l->unit);
	if (n < 127) {
		assert_true(sample < 0 ? magnitude <= l->x[n + 1] * l->unit : magnitude < l->x[n + 1] * l->unit);
	}
}

static void check_encode(const law *l)
{
	int16_t before = INT16_MIN;
	for (int value = INT16_MIN; value <= INT16_MAX; value++) {
		int16_t sample = (int16_t)value, decoded;
		uint8_t code;
		l->encode(&sample, &code, 1);
		check_one(l, sample, code);
		l->decode(&code, &decoded, 1);
		assert_true(decoded >= before);
		before = decoded;
	}
}

static void check_round_trip(const law *l)
{
	uint8_t codes[256], again[256];
	int16_t samples[256];
	for (int i = 0; i < 256; i++) {
		codes[i] = (uint8_t)i;
	}
	l->decode(codes, samples, 256);
	l->encode(samples, again, 256);
	for (int i = 0; i < 256; i++) {
		assert_int_equal(again[i], l == &mu && i == 0x7f ? 0xff : i);
	}
}

static void test_decode_values(void **state)
{
	(void)state;
	check_decode(&mu);
	check_decode(&a);
}

static void test_encode_every_sample(void **state)
{
	(void)state;
	check_encode(&mu);
	check_encode(&a);
}

static void test_round_trip(void **state)
{
	(void)state;
	check_round_trip(&mu);
	check_round_trip(&a);
}

/* Spot values known from elsewhere, so that the tables above are not the only witness. */
static void test_known_values(void **state)
{
	(void)state;
	const uint8_t codes[] = {0x00, 0x80, 0xff, 0x7f, 0xfe};
	const int16_t mu_law[] = {-32124, 32124, 0, 0, 8};
	const uint8_t a_codes[] = {0x2a, 0xaa, 0xd5, 0x55, 0xd4};
	const int16_t a_law[] = {-32256, 32256, 8, -8, 24};
	int16_t samples[5];
	as_pcmu_decode(codes, samples, 5);
	assert_memory_equal(samples, mu_law, sizeof(samples));
	as_pcma_decode(a_codes, samples, 5);
	assert_memory_equal(samples, a_law, sizeof(samples));
}

static void test_nothing_is_touched_for_nothing(void **state)
{
	(void)state;
	int16_t sample = 77;
	uint8_t code = 77;
	as_pcmu_encode(&sample, &code, 0);
	as_pcma_encode(&sample, &code, 0);
	as_pcmu_decode(&code, &sample, 0);
	as_pcma_decode(&code, &sample, 0);
	assert_int_equal(sample, 77);
	assert_int_equal(code, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode_values),
		cmocka_unit_test(test_encode_every_sample),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_known_values),
		cmocka_unit_test(test_nothing_is_touched_for_nothing),
	};
	return cmocka_run_group_tests(tests, build_tables, NULL);
}
