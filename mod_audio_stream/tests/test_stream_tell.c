/* test_stream_tell.c - what the host tells a stream comes out of the application's queue of events. */
#define _GNU_SOURCE
#include "support.h"

#include "audio_stream_ws.h"

#define KEY "{\"type\":\"host.dtmf\",\"digit\":\"5\",\"duration_ms\":100}"
#define HOLD "{\"type\":\"host.hold\"}"
#define CLOSED "{\"type\":\"host.closed\"}"

static as_events *events;

static int make_events(void **state)
{
	(void)state;
	return as_events_new(&events);
}

static int free_events(void **state)
{
	(void)state;
	as_events_free(events);
	return 0;
}

static void expect(const char *text, uint64_t tag)
{
	char buffer[AS_TELL_MAX];
	uint64_t whose = 0;
	long n = as_events_recv(events, buffer, sizeof(buffer), 1000, &whose);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
	assert_int_equal(whose, tag);
}

static void expect_nothing(void)
{
	char buffer[AS_TELL_MAX];
	uint64_t whose;
	assert_int_equal(as_events_recv(events, buffer, sizeof(buffer), 10, &whose), 0);
}

static void test_in_order_until_the_stream_is_closed(void **state)
{
	(void)state;
	as_stream *a = open_plain(), *b = open_plain();
	assert_int_equal(as_stream_tell(a, KEY), AS_ENOENT);
	assert_int_equal(as_stream_subscribe(a, events, 7), 0);
	assert_int_equal(as_stream_subscribe(b, events, 8), 0);
	assert_int_equal(as_stream_tell(a, KEY), 0);
	assert_int_equal(as_stream_tell(b, HOLD), 0);
	assert_int_equal(as_stream_tell(a, HOLD), 0);
	as_stream_close(a);
	assert_int_equal(as_stream_tell(a, KEY), AS_ECLOSED);
	assert_int_equal(as_stream_subscribe(a, events, 9), AS_ECLOSED);
	expect(KEY, 7);
	expect(HOLD, 8);
	expect(HOLD, 7);
	expect(CLOSED, 7);
	as_stream_unref(a); /* the events of a stream outlive it */
	as_stream_unref(b); /* never closed: its last reference does that */
	expect(CLOSED, 8);
	expect_nothing();
}

static void test_one_subscribes_at_a_time(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_stream_subscribe(stream, events, 1), 0);
	assert_int_equal(as_stream_subscribe(stream, events, 2), AS_EEXIST);
	assert_int_equal(as_stream_tell(stream, KEY), 0);
	assert_int_equal(as_stream_subscribe(stream, NULL, 0), 0);
	assert_int_equal(as_stream_subscribe(stream, NULL, 0), 0);
	assert_int_equal(as_stream_tell(stream, KEY), AS_ENOENT);
	assert_int_equal(as_stream_subscribe(stream, events, 2), 0);
	assert_int_equal(as_stream_tell(stream, HOLD), 0);
	assert_int_equal(as_stream_subscribe(stream, NULL, 0), 0);
	done(stream);
	expect(KEY, 1);
	expect(HOLD, 2);
	expect_nothing(); /* nobody was subscribed when it was closed */
}

static void test_what_is_not_taken_is_bounded_and_counted(void **state)
{
	(void)state;
	as_stream *stream = open_plain(), *other = open_plain();
	int told = 0, error;
	as_stream_subscribe(stream, events, 1);
	as_stream_subscribe(other, events, 2);
	while ((error = as_stream_tell(stream, KEY)) == 0) {
		told++;
	}
	assert_int_equal(error, AS_EFULL);
	assert_in_range(told * strlen(KEY), 65536 / 4, 65536); /* an event counts with what the queue needs for it */
	assert_int_equal(as_stream_tell(stream, KEY), AS_EFULL);
	assert_int_equal(as_stream_tell(other, HOLD), 0);
	assert_int_equal(stats_of(stream).host_events, told);
	assert_int_equal(stats_of(stream).host_events_dropped, 2);
	assert_int_equal(stats_of(other).host_events, 1);
	expect(KEY, 1);
	assert_int_equal(as_stream_tell(stream, HOLD), 0); /* there is room again */
	for (int i = 1; i < told; i++) {
		expect(KEY, 1);
	}
	expect(HOLD, 2);
	expect(HOLD, 1);
	done(stream);
	done(other);
	expect(CLOSED, 1);
	expect(CLOSED, 2);
}

static void test_what_is_no_event(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	char text[AS_TELL_MAX + 2];
	as_stream_subscribe(stream, events, 1);
	assert_int_equal(as_stream_tell(stream, NULL), AS_EINVAL);
	assert_int_equal(as_stream_tell(stream, ""), AS_EINVAL);
	assert_int_equal(as_stream_tell(stream, "[]"), AS_EINVAL);
	memset(text, ' ', sizeof(text));
	text[0] = '{';
	text[AS_TELL_MAX + 1] = '\0';
	assert_int_equal(as_stream_tell(stream, text), AS_EINVAL);
	text[AS_TELL_MAX] = '\0';
	assert_int_equal(as_stream_tell(stream, text), 0);
	expect(text, 1);
	done(stream);
	expect(CLOSED, 1);
}

static void test_all_streams_of_a_call_are_told(void **state)
{
	(void)state;
	const as_config config = {.rate_hz = RATE};
	as_stream *one = NULL, *two = NULL, *silent = NULL, *other = open_plain();
	assert_int_equal(as_stream_create("a-call", "one", &config, &one), 0);
	assert_int_equal(as_stream_create("a-call", "two", &config, &two), 0);
	assert_int_equal(as_stream_create("a-call", "silent", &config, &silent), 0);
	as_stream_subscribe(one, events, 1);
	as_stream_subscribe(two, events, 2);
	as_stream_subscribe(other, events, 3);
	assert_int_equal(as_call_tell("a-call", KEY), 2);
	assert_int_equal(as_call_tell("no-call", KEY), 0);
	done(one);
	assert_int_equal(as_call_tell("a-call", HOLD), 1);
	int keys = 0;
	for (int i = 0; i < 2; i++) {
		char buffer[AS_TELL_MAX];
		uint64_t tag;
		assert_int_equal(as_events_recv(events, buffer, sizeof(buffer), 1000, &tag), strlen(KEY));
		keys += (int)tag;
	}
	assert_int_equal(keys, 1 + 2);
	expect(CLOSED, 1);
	expect(HOLD, 2);
	done(two);
	done(silent);
	done(other);
	expect(CLOSED, 2);
	expect(CLOSED, 3);
}

static _Atomic int over;

static void *tell_all(void *arg)
{
	(void)arg;
	while (!over) {
		as_call_tell("busy-call", KEY);
	}
	return NULL;
}

static void *take_all(void *arg)
{
	char buffer[AS_TELL_MAX];
	uint64_t tag, *closed = arg;
	for (long n; (n = as_events_recv(events, buffer, sizeof(buffer), 1000, &tag)) >= 0;) {
		*closed += n == (long)strlen(CLOSED);
	}
	return NULL;
}

/* Hosts that tell, a stream that comes and goes, and an application that takes: all at once. */
static void test_told_while_it_is_closed(void **state)
{
	(void)state;
	enum { STREAMS = 300 };
	pthread_t hosts[2], application;
	uint64_t closed = 0;
	over = 0;
	for (int i = 0; i < 2; i++) {
		pthread_create(&hosts[i], NULL, tell_all, NULL);
	}
	pthread_create(&application, NULL, take_all, &closed);
	for (int i = 0; i < STREAMS; i++) {
		as_stream *stream = NULL;
		assert_int_equal(as_stream_create("busy-call", "main", &(as_config){.rate_hz = RATE}, &stream), 0);
		assert_int_equal(as_stream_subscribe(stream, events, (uint64_t)i), 0);
		as_stream_tell(stream, KEY);
		if (i % 2) {
			as_stream_close(stream);
		}
		as_stream_unref(stream);
	}
	over = 1;
	for (int i = 0; i < 2; i++) {
		pthread_join(hosts[i], NULL);
	}
	as_events_end(events);
	pthread_join(application, NULL);
	assert_int_equal(closed, STREAMS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order_until_the_stream_is_closed),
		cmocka_unit_test(test_one_subscribes_at_a_time),
		cmocka_unit_test(test_what_is_not_taken_is_bounded_and_counted),
		cmocka_unit_test(test_what_is_no_event),
		cmocka_unit_test(test_all_streams_of_a_call_are_told),
		cmocka_unit_test(test_told_while_it_is_closed), /* last: it ends the queue */
	};
	return cmocka_run_group_tests(tests, make_events, free_events);
}
