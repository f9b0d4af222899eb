/* What is kept of the caller's turn, and when it goes. */
#define _GNU_SOURCE
#include "realtime_recall.h"

#include "support.h"

#define RATE 8000           /* bytes a second: G.711 */
#define CHUNK 160           /* 20 ms */
#define PADDING (RATE / 2)  /* kept between turns */
#define LONGEST (RATE * 30) /* of one turn */

static uint8_t sample_at(size_t i)
{
	return (uint8_t)(i * 7 % 251);
}

/* Adds the chunks first..last of a signal. */
static void add(rt_recall *recall, size_t first, size_t last)
{
	for (size_t n = first; n <= last; n++) {
		uint8_t chunk[CHUNK];
		for (size_t i = 0; i < CHUNK; i++) {
			chunk[i] = sample_at(n * CHUNK + i);
		}
		rt_recall_add(recall, chunk, CHUNK);
	}
}

/* What is kept ends with the chunk `last`, without a gap. Returns how much it is. */
static size_t kept_to(const rt_recall *recall, size_t last)
{
	const uint8_t *data;
	size_t bytes = rt_recall_data(recall, &data), end = (last + 1) * CHUNK;
	for (size_t i = 0; i < bytes; i++) {
		assert_int_equal(data[bytes - 1 - i], sample_at(end - 1 - i));
	}
	return bytes;
}

static void test_a_turn_and_what_came_before_it(void **state)
{
	(void)state;
	rt_recall recall = {0};
	rt_recall_init(&recall, RATE, 1);
	add(&recall, 0, 499);
	assert_int_equal(kept_to(&recall, 499), 0); /* nobody speaks */
	rt_recall_open(&recall);
	add(&recall, 500, 599);
	size_t kept = kept_to(&recall, 599);
	assert_in_range(kept, 100 * CHUNK + PADDING, 100 * CHUNK + 2 * PADDING);
	rt_recall_free(&recall);
}

static void test_it_goes_when_an_answer_is_heard(void **state)
{
	(void)state;
	rt_recall recall = {0};
	rt_recall_init(&recall, RATE, 1);
	rt_recall_open(&recall);
	add(&recall, 0, 99);
	rt_recall_close(&recall); /* audio of the response that was interrupted */
	assert_int_equal(kept_to(&recall, 99), 100 * CHUNK);
	rt_recall_answer(&recall);
	assert_int_equal(kept_to(&recall, 99), 100 * CHUNK); /* begun, and not heard */
	rt_recall_close(&recall);
	assert_int_equal(kept_to(&recall, 99), 0);
	add(&recall, 100, 199);
	assert_true(recall.room <= 4 * PADDING); /* and so does its memory */
	rt_recall_free(&recall);
}

static void test_the_caller_goes_on_before_the_answer(void **state)
{
	(void)state;
	rt_recall recall = {0};
	rt_recall_init(&recall, RATE, 1);
	rt_recall_open(&recall);
	add(&recall, 0, 9);
	rt_recall_answer(&recall);
	rt_recall_open(&recall); /* and the answer is never heard */
	rt_recall_close(&recall);
	add(&recall, 10, 19);
	assert_int_equal(kept_to(&recall, 19), 20 * CHUNK);
	rt_recall_free(&recall);
}

static void test_a_turn_without_end_is_bounded(void **state)
{
	(void)state;
	rt_recall recall = {0};
	rt_recall_init(&recall, RATE, 1);
	rt_recall_open(&recall);
	add(&recall, 0, 3 * LONGEST / CHUNK);
	size_t kept = kept_to(&recall, 3 * LONGEST / CHUNK);
	assert_in_range(kept, LONGEST / 2, LONGEST);
	rt_recall_free(&recall);
}

static void test_nothing_is_kept_where_that_was_not_asked_for(void **state)
{
	(void)state;
	rt_recall recall = {0};
	rt_recall_open(&recall);
	add(&recall, 0, 99);
	assert_int_equal(kept_to(&recall, 99), 0);
	assert_null(recall.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_turn_and_what_came_before_it),
		cmocka_unit_test(test_it_goes_when_an_answer_is_heard),
		cmocka_unit_test(test_the_caller_goes_on_before_the_answer),
		cmocka_unit_test(test_a_turn_without_end_is_bounded),
		cmocka_unit_test(test_nothing_is_kept_where_that_was_not_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
