/* What a server may cause to be fired, by a clock of the test's own. */
#define _GNU_SOURCE
#include "event_limit.h"

#include "support.h"

#define MS 1000000ll
#define SECOND (1000 * MS)

/* Events of a name, one every step_ns from *now_ns on. Returns how many are taken. */
static int offer(event_limit *limit, const char *name, int count, int64_t step_ns, int64_t *now_ns)
{
	int taken = 0;
	for (int i = 0; i < count; i++, *now_ns += step_ns) {
		taken += event_limit_takes(limit, name, "{}", *now_ns);
	}
	return taken;
}

static event_limit limit_of(int per_second)
{
	event_limit limit;
	event_limit_init(&limit, per_second);
	return limit;
}

static void test_twice_the_rate_comes_at_once_then_the_rate(void **state)
{
	static const int rates[] = {1, 3, 100, 10000};
	(void)state;
	for (size_t i = 0; i < COUNT(rates); i++) {
		event_limit limit = limit_of(rates[i]);
		int64_t now_ns = 5 * SECOND;
		assert_int_equal(offer(&limit, "json", 50000, 0, &now_ns), 2 * rates[i]);
		int taken = offer(&limit, "json", 200000, 50000, &now_ns); /* for 10 s */
		assert_true(taken >= 10 * rates[i] - 1 && taken <= 10 * rates[i] + 1);
	}
}

static void test_what_keeps_to_the_rate_is_never_dropped(void **state)
{
	event_limit limit = limit_of(100);
	int64_t now_ns = 0;
	(void)state;
	assert_int_equal(offer(&limit, "message_received", 10000, 10 * MS, &now_ns), 10000);
}

static void test_a_pause_fills_the_allowance_and_no_more(void **state)
{
	event_limit limit = limit_of(100);
	int64_t now_ns = 0;
	(void)state;
	offer(&limit, "json", 1000, 0, &now_ns);
	now_ns += 500 * MS;
	assert_int_equal(offer(&limit, "json", 1000, 0, &now_ns), 50);
	now_ns += 3600 * SECOND;
	assert_int_equal(offer(&limit, "json", 1000, 0, &now_ns), 200);
}

/* Of a server's flood of one kind the others know nothing. */
static void test_each_kind_has_its_own_allowance(void **state)
{
	static const char *const names[] = {
		"json",
		"message_received",
		"transcription_received",
		"openai_response_generated",
		"play",
		"media_play_start",
		"media_play_complete",
		"media_cleared",
		"media_checkpoint",
		"stream_buffer_overrun",
		"stream_buffer_underrun",
	};
	event_limit limit = limit_of(100);
	int64_t now_ns = 0;
	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		assert_int_equal(offer(&limit, names[i], 1000, 0, &now_ns), 200);
	}
}

static void test_complaints_come_once_a_second_whatever_the_rate(void **state)
{
	static const char *const names[] = {"openai_error", "stream_invalid_input"};
	static const int rates[] = {0, 1, 10000};
	(void)state;
	for (size_t i = 0; i < COUNT(names) * COUNT(rates); i++) {
		event_limit limit = limit_of(rates[i / 2]);
		int64_t now_ns = 0;
		assert_int_equal(offer(&limit, names[i % 2], 1000, 0, &now_ns), 5);
		assert_int_equal(offer(&limit, names[i % 2], 10000, MS, &now_ns), 9); /* for 9.999 s */
	}
}

static void test_a_fatal_error_is_told_after_any_number_of_others(void **state)
{
	event_limit limit = limit_of(100);
	int64_t now_ns = 0;
	(void)state;
	offer(&limit, "openai_error", 1000, 0, &now_ns);
	assert_true(event_limit_takes(&limit, "openai_error", "{\"code\":\"x\",\"fatal\":true,\"uuid\":\"1\"}", now_ns));
	assert_false(event_limit_takes(&limit, "openai_error", "{\"code\":\"x\",\"fatal\":false}", now_ns));
	/* as JSON has a message that looks like it */
	assert_false(
		event_limit_takes(&limit, "openai_error", "{\"message\":\"\\\"fatal\\\":true\",\"fatal\":false}", now_ns));
}

static void test_the_streams_own_life_is_not_limited(void **state)
{
	static const char *const names[] = {
		"connect",
		"disconnect",
		"error",
		"connection_established",
		"connection_failed",
		"connection_timeout",
		"connection_closed",
		"stream_error",
		"stream_heartbeat",
		"stream_timeout",
		"stream_paused",
		"stream_resumed",
		"openai_session_started",
		"openai_session_expired",
		"log",
		"a name of the future",
	};
	event_limit limit = limit_of(1);
	int64_t now_ns = 0;
	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		assert_int_equal(offer(&limit, names[i], 1000, 0, &now_ns), 1000);
	}
}

static void test_no_limit(void **state)
{
	event_limit limit = limit_of(0);
	int64_t now_ns = 0;
	(void)state;
	assert_int_equal(offer(&limit, "json", 100000, 0, &now_ns), 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_twice_the_rate_comes_at_once_then_the_rate),
		cmocka_unit_test(test_what_keeps_to_the_rate_is_never_dropped),
		cmocka_unit_test(test_a_pause_fills_the_allowance_and_no_more),
		cmocka_unit_test(test_each_kind_has_its_own_allowance),
		cmocka_unit_test(test_complaints_come_once_a_second_whatever_the_rate),
		cmocka_unit_test(test_a_fatal_error_is_told_after_any_number_of_others),
		cmocka_unit_test(test_the_streams_own_life_is_not_limited),
		cmocka_unit_test(test_no_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
