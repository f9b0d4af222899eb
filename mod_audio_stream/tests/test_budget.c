/* What all streams and connections together may hold. */
#define _GNU_SOURCE
#include "budget.h"

#include "base64.h"
#include "event_queue.h"
#include "realtime_audio.h"
#include "support.h"

#define MB (1 << 20)

static void test_what_is_granted_and_given_back(void **state)
{
	(void)state;
	long before = as_memory_used();
	assert_int_equal(as_memory_limit(0), AS_EINVAL);
	assert_int_equal(as_memory_limit(2), 0);
	assert_int_equal(as_budget_reserve(0, MB), 0);
	assert_int_equal(as_budget_reserve(MB, MB), 0);
	assert_int_equal(as_budget_reserve(2 * MB, 1), AS_ENOMEM);
	assert_int_equal(as_budget_reserve(0, SIZE_MAX / 2), AS_ENOMEM);
	assert_int_equal(as_memory_used() - before, 2 * MB);
	assert_int_equal(as_budget_reserve(0, 1000), 0); /* another holder's first */
	as_budget_release(1000);
	as_budget_release(MB);
	assert_int_equal(as_budget_reserve(MB, MB), 0);
	as_budget_release(2 * MB);
	assert_int_equal(as_memory_used(), before);
}

static void *reserve_and_release(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20000; i++) {
		if (!as_budget_reserve(MB, 300000)) {
			assert_true(as_memory_used() <= 2 * MB + 4 * 300000);
			as_budget_release(300000);
		}
	}
	return NULL;
}

static void test_many_threads_lose_nothing(void **state)
{
	(void)state;
	pthread_t threads[4];
	long before = as_memory_used();
	as_memory_limit(2);
	for (int i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, reserve_and_release, NULL);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(as_memory_used(), before);
}

/* Writes seconds of silence until that is refused; the error. */
static long fill(as_stream *stream, int *seconds)
{
	static const int16_t second[RATE];
	long result;
	for (*seconds = 0; (result = as_inject_write(stream, 1, 0, AS_S16, RATE, second, sizeof(second))) > 0; ++*seconds) {
	}
	return result;
}

static void test_queued_audio_of_all_streams(void **state)
{
	(void)state;
	long before = as_memory_used();
	as_stream *greedy = open_plain(), *other = open_plain();
	int greedy_s, other_s;
	as_memory_limit(1);
	assert_int_equal(fill(greedy, &greedy_s), AS_ENOMEM);
	assert_in_range(greedy_s, 50, 66); /* 1 MB */
	assert_int_equal(fill(other, &other_s), AS_ENOMEM);
	assert_in_range(other_s, 2, 5); /* its own 64 KB */
	assert_int_equal(as_inject_end(other, 1), 0);
	assert_int_equal(mark_of(other, 1).flags, AS_MARK_ENDED);
	done(greedy);
	assert_int_equal(fill(other, &other_s), AS_ENOMEM);
	assert_true(other_s > 40); /* what the greedy one had is free again */
	done(other);
	assert_int_equal(as_memory_used(), before);
}

/* The tail has no block to go to: the mark ends all the same, and the host hears the dialplan again. */
static void test_an_item_ends_without_memory_for_its_tail(void **state)
{
	(void)state;
	as_stream *greedy = open_plain(), *stream = open_plain();
	int16_t frame[FRAME], one = 1000;
	int seconds;
	as_memory_limit(1);
	fill(greedy, &seconds);
	while (as_inject_write(stream, 1, 0, AS_S16, 24000, &one, 2) > 0) {
	}
	assert_int_equal(as_inject_end(stream, 1), 0);
	while (tick(stream, frame, FRAME) >= 0) {
	}
	assert_int_equal(mark_of(stream, 1).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	tick_left_alone(stream, FRAME);
	done(greedy);
	done(stream);
}

static void nobody(void *owner)
{
	(void)owner;
}

static void test_events_that_wait(void **state)
{
	(void)state;
	long before = as_memory_used();
	event_queue queue;
	static char text[1000], taken[2000];
	event_source greedy = {.max_bytes = 32 * MB, .retain = nobody, .release = nobody}, other = greedy;
	uint64_t tag;
	as_memory_limit(1);
	event_queue_init(&queue);
	while (!event_queue_put(&queue, &greedy, text, sizeof(text), 0)) {
	}
	assert_int_equal(event_queue_put(&queue, &greedy, text, sizeof(text), 0), AS_ENOMEM);
	assert_int_equal(event_queue_put(&queue, &greedy, "the end", 7, EVENT_LAST), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(event_queue_put(&queue, &other, text, sizeof(text), 0), 0);
	}
	assert_in_range(as_memory_used() - before, MB - 2000, MB + 65536);
	while (event_queue_take(&queue, taken, sizeof(taken), 0, &tag) > 0) {
	}
	assert_int_equal(as_memory_used(), before);
	assert_int_equal(event_queue_put(&queue, &greedy, text, sizeof(text), 0), 0);
	event_queue_destroy(&queue);
	assert_int_equal(as_memory_used(), before);
}

/* ---- What a native conversation holds back ------------------------------------------------------------------------ */

static const as_realtime_audio plain = {AS_S16, RATE, AS_PCMU, RATE, 20, 20, 0};

/* A delta of n bytes of audio, while the caller speaks. */
static rt_outcome held_delta(rt_audio *audio, size_t n)
{
	static char base64[200000], bytes[100000];
	rt_message message = {.kind = RT_AUDIO_DELTA, .response_id = "r", .item_id = "i", .base64 = base64};
	message.base64_length = base64_encode(bytes, n, base64);
	return rt_audio_delta(audio, &message, 1, as_now_ns());
}

/* How many deltas of n bytes are held before one is refused, for this reason. */
static int held_of(size_t n, const char *about)
{
	rt_audio audio;
	rt_outcome outcome;
	as_stream *stream = open_plain();
	long before = as_memory_used();
	int count = 0;
	rt_audio_init(&audio);
	assert_int_equal(rt_audio_attach(&audio, stream, &plain, 1000), 0);
	while (!(outcome = held_delta(&audio, n)).complaint) {
		count++;
	}
	assert_string_equal(outcome.about, about);
	assert_true(as_memory_used() - before <= 17 * MB);
	rt_audio_free(&audio);
	assert_int_equal(as_memory_used(), before);
	done(stream);
	return count;
}

static void test_audio_held_back_counts_with_its_headers(void **state)
{
	(void)state;
	as_memory_limit(512);
	assert_in_range(held_of(1, "full"), 100000, 16 * MB / 40);
	assert_in_range(held_of(60000, "full"), 275, 280);
	as_memory_limit(1);
	assert_in_range(held_of(60000, "memory"), 16, 18);
}

/* The end of an item has no audio, and is not for nothing. */
static void test_ends_held_back_are_bounded(void **state)
{
	(void)state;
	rt_audio audio;
	as_stream *stream = open_plain();
	long before = as_memory_used();
	as_memory_limit(512);
	rt_audio_init(&audio);
	assert_int_equal(rt_audio_attach(&audio, stream, &plain, 1000), 0);
	held_delta(&audio, 1);
	for (int i = 0; i < 1000000; i++) {
		rt_audio_done(&audio, "i");
	}
	assert_true(as_memory_used() - before <= 16 * MB);
	rt_audio_free(&audio);
	assert_int_equal(as_memory_used(), before);
	done(stream);
}

static int limit_again(void **state)
{
	(void)state;
	return as_memory_limit(AS_BUDGET_MB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_what_is_granted_and_given_back, limit_again),
		cmocka_unit_test_teardown(test_many_threads_lose_nothing, limit_again),
		cmocka_unit_test_teardown(test_queued_audio_of_all_streams, limit_again),
		cmocka_unit_test_teardown(test_an_item_ends_without_memory_for_its_tail, limit_again),
		cmocka_unit_test_teardown(test_events_that_wait, limit_again),
		cmocka_unit_test_teardown(test_audio_held_back_counts_with_its_headers, limit_again),
		cmocka_unit_test_teardown(test_ends_held_back_are_bounded, limit_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
