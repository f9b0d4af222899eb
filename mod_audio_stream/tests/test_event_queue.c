/* The queue of events between the service threads and the application's. */
#define _GNU_SOURCE
#include "support.h"

#include "event_queue.h"

/* A source that counts how often it is held. */
typedef struct owner {
	event_source source;
	_Atomic int held;
} owner;

static void retain(void *arg)
{
	((owner *)arg)->held++;
}

static void release(void *arg)
{
	((owner *)arg)->held--;
}

static void own(owner *one, uint64_t tag)
{
	*one = (owner){.source = {.tag = tag, .max_bytes = 1000, .retain = retain, .release = release}};
	one->source.owner = one;
}

static void put(event_queue *queue, owner *one, const char *text, int decisive)
{
	assert_int_equal(event_queue_put(queue, &one->source, text, strlen(text), decisive), 0);
}

static void expect(event_queue *queue, const char *text, uint64_t tag)
{
	char buffer[64];
	uint64_t whose = 0;
	assert_int_equal(event_queue_take(queue, buffer, sizeof(buffer), 1000, &whose), strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
	assert_int_equal(whose, tag);
}

static void expect_nothing(event_queue *queue, long result)
{
	char buffer[8];
	uint64_t whose;
	assert_int_equal(event_queue_take(queue, buffer, sizeof(buffer), 10, &whose), result);
}

static void test_in_order_and_then_the_end(void **state)
{
	(void)state;
	event_queue queue;
	owner a, b;
	event_queue_init(&queue);
	own(&a, 1);
	own(&b, 2);
	expect_nothing(&queue, 0);
	put(&queue, &a, "a", 0);
	put(&queue, &b, "", 0);
	put(&queue, &a, "c", 0);
	event_queue_end(&queue);
	event_queue_end(&queue);
	expect(&queue, "a", 1);
	expect(&queue, "", 2);
	expect(&queue, "c", 1);
	expect_nothing(&queue, AS_ECLOSED);
	event_queue_destroy(&queue);
}

static void test_one_that_does_not_fit_waits(void **state)
{
	(void)state;
	event_queue queue;
	owner a;
	char small[2];
	uint64_t tag;
	event_queue_init(&queue);
	own(&a, 1);
	put(&queue, &a, "long", 0);
	assert_int_equal(event_queue_take(&queue, small, sizeof(small), 0, &tag), 4);
	expect(&queue, "long", 1);
	event_queue_destroy(&queue);
}

/* How many events of n bytes a source may leave waiting. */
static int room_for(size_t n, size_t max_bytes, int flags)
{
	event_queue queue;
	owner a;
	char text[256];
	int count = 0;
	event_queue_init(&queue);
	own(&a, 1);
	a.source.max_bytes = flags & EVENT_OURS ? 0 : max_bytes;
	a.source.max_ours_bytes = flags & EVENT_OURS ? max_bytes : 0;
	memset(text, 'x', n);
	while (!event_queue_put(&queue, &a.source, text, n, flags)) {
		count++;
	}
	assert_int_equal(a.held, count);
	event_queue_destroy(&queue);
	return count;
}

static void test_a_source_is_bounded_by_the_memory_its_events_take(void **state)
{
	(void)state;
	for (int flags = 0; flags <= EVENT_OURS; flags += EVENT_OURS) {
		int empty = room_for(0, 1 << 20, flags), some = room_for(200, 1 << 20, flags);
		assert_in_range((1 << 20) / empty, 32, 96); /* an event without text is not for nothing */
		assert_in_range((1 << 20) / some, 232, 296);
		assert_int_equal(room_for(0, 0, flags), 0);
	}
}

static void test_a_source_at_its_bound_harms_no_other(void **state)
{
	(void)state;
	event_queue queue;
	owner a, b;
	int count = 0;
	event_queue_init(&queue);
	own(&a, 1);
	own(&b, 2);
	a.source.max_ours_bytes = 1000;
	while (!event_queue_put(&queue, &a.source, "a", 1, 0)) {
		count++;
	}
	expect(&queue, "a", 1);
	put(&queue, &a, "a", 0); /* what has been taken makes room */
	assert_int_equal(event_queue_put(&queue, &a.source, "a", 1, 0), AS_EFULL);
	put(&queue, &b, "b", 0);
	put(&queue, &a, "ours", EVENT_OURS); /* has room of its own */
	put(&queue, &a, "the last of it", EVENT_LAST);
	assert_int_equal(a.held, count + 3); /* and the one being dealt with */
	for (int i = 0; i < count; i++) {
		expect(&queue, "a", 1);
	}
	expect(&queue, "b", 2);
	expect(&queue, "ours", 1);
	expect(&queue, "the last of it", 1);
	event_queue_destroy(&queue);
	assert_int_equal(a.held, 0);
	assert_int_equal(b.held, 0);
}

static void test_undecided_until_the_next_is_asked_for(void **state)
{
	(void)state;
	event_queue queue;
	owner a, b;
	event_queue_init(&queue);
	own(&a, 1);
	own(&b, 2);
	put(&queue, &a, "x", 0);
	assert_false(event_queue_undecided(&queue, &a.source));
	put(&queue, &a, "speech", 1);
	put(&queue, &b, "speech", 1);
	assert_true(event_queue_undecided(&queue, &a.source));
	expect(&queue, "x", 1);
	expect(&queue, "speech", 1);
	assert_true(event_queue_undecided(&queue, &a.source));
	assert_int_equal(a.held, 1); /* being dealt with */
	expect(&queue, "speech", 2);
	assert_false(event_queue_undecided(&queue, &a.source));
	assert_true(event_queue_undecided(&queue, &b.source));
	assert_int_equal(a.held, 0);
	expect_nothing(&queue, 0);
	assert_false(event_queue_undecided(&queue, &b.source));
	assert_int_equal(b.held, 0);
	event_queue_destroy(&queue);
}

typedef struct putter {
	event_queue *queue;
	owner owner;
} putter;

static void *put_many(void *arg)
{
	putter *one = arg;
	for (int i = 0; i < 20000; i++) {
		char text[16];
		int n = snprintf(text, sizeof(text), "%d", i);
		while (event_queue_put(one->queue, &one->owner.source, text, (size_t)n, i % 3 == 0 ? EVENT_DECISIVE : 0) ==
			   AS_EFULL) {
			sleep_ms(1);
		}
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	(void)state;
	event_queue queue;
	putter putters[2];
	pthread_t threads[2];
	char buffer[16];
	int next[2] = {0};
	event_queue_init(&queue);
	for (int i = 0; i < 2; i++) {
		putters[i].queue = &queue;
		own(&putters[i].owner, (uint64_t)i);
		pthread_create(&threads[i], NULL, put_many, &putters[i]);
	}
	for (int i = 0; i < 40000; i++) {
		uint64_t tag;
		long n = event_queue_take(&queue, buffer, sizeof(buffer) - 1, 5000, &tag);
		assert_true(n > 0);
		buffer[n] = '\0';
		assert_int_equal(atoi(buffer), next[tag]++);
	}
	expect_nothing(&queue, 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(putters[i].owner.held, 0);
	}
	event_queue_destroy(&queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order_and_then_the_end),
		cmocka_unit_test(test_one_that_does_not_fit_waits),
		cmocka_unit_test(test_a_source_is_bounded_by_the_memory_its_events_take),
		cmocka_unit_test(test_a_source_at_its_bound_harms_no_other),
		cmocka_unit_test(test_undecided_until_the_next_is_asked_for),
		cmocka_unit_test(test_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
