/* Streams by (uuid, id): who finds them, when, and until when. */
#define _GNU_SOURCE
#include "support.h"

static const as_config config = {.rate_hz = RATE};

static as_stream *create(const char *uuid, const char *id)
{
	as_stream *stream = NULL;
	assert_int_equal(as_stream_create(uuid, id, &config, &stream), 0);
	return stream;
}

static int find(const char *uuid, const char *id, as_stream **out)
{
	return as_stream_find(uuid, id, 0, out);
}

static void test_one_stream_of_a_name(void **state)
{
	(void)state;
	as_stream *first = create("call", "main"), *other = create("call", "other"), *same_id = create("call2", "main");
	as_stream *stream = NULL;
	assert_int_equal(as_stream_create("call", "main", &config, &stream), AS_EEXIST);
	assert_null(stream);
	as_stream_close(first);
	as_stream *again = create("call", "main"); /* the name is free though the old stream is still held */
	assert_int_equal(find("call", "main", &stream), 0);
	assert_ptr_equal(stream, again);
	as_stream_unref(stream);
	as_stream_unref(first); /* and its end takes nobody else's name away */
	assert_int_equal(find("call", "main", &stream), 0);
	as_stream_unref(stream);
	done(again);
	done(other);
	done(same_id);
}

static void test_find_takes_a_reference(void **state)
{
	(void)state;
	as_stream *stream = create("call", "main"), *found = NULL, *none = NULL;
	assert_int_equal(find("call", "main", &found), 0);
	assert_ptr_equal(found, stream);
	done(stream);
	assert_int_equal(as_stream_closed(found), 1);
	assert_int_equal(find("call", "main", &none), AS_ENOENT);
	as_stream_unref(found);
	assert_null(none);
}

/* The last reference closes the name, with or without a close. */
static void test_the_last_reference_frees_the_name(void **state)
{
	(void)state;
	as_stream *none = NULL;
	as_stream_unref(create("call", "main"));
	assert_int_equal(find("call", "main", &none), AS_ENOENT);
	done(create("call", "main"));
}

static void test_what_find_refuses(void **state)
{
	(void)state;
	as_stream *stream = NULL;
	assert_int_equal(as_stream_find(NULL, "main", 0, &stream), AS_EINVAL);
	assert_int_equal(as_stream_find("call", NULL, 0, &stream), AS_EINVAL);
	assert_int_equal(as_stream_find("call", "main", 0, NULL), AS_EINVAL);
	assert_int_equal(as_stream_find("call", "main", -1, &stream), AS_ENOENT);
	assert_int_equal(as_stream_find("", "", 0, &stream), AS_ENOENT);
	assert_null(stream);
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

typedef struct waiter {
	pthread_t thread;
	int timeout_ms, result;
	int64_t returned_ns;
} waiter;

static void *wait_for_call(void *arg)
{
	waiter *w = arg;
	as_stream *stream = NULL;
	w->result = as_stream_find("call", "main", w->timeout_ms, &stream);
	w->returned_ns = as_now_ns();
	as_stream_unref(stream);
	return NULL;
}

static void test_find_is_woken_by_the_creation(void **state)
{
	(void)state;
	waiter waiters[3];
	for (size_t i = 0; i < COUNT(waiters); i++) {
		waiters[i].timeout_ms = 10000;
		pthread_create(&waiters[i].thread, NULL, wait_for_call, &waiters[i]);
	}
	sleep_ms(20);
	as_stream *other = create("call", "other"); /* not the one */
	sleep_ms(20);
	int64_t created = as_now_ns();
	as_stream *stream = create("call", "main");
	for (size_t i = 0; i < COUNT(waiters); i++) {
		pthread_join(waiters[i].thread, NULL);
		assert_int_equal(waiters[i].result, 0);
		assert_true(waiters[i].returned_ns >= created && waiters[i].returned_ns < created + 300000000);
	}
	done(other);
	done(stream);
}

static void test_find_gives_up_in_time(void **state)
{
	(void)state;
	waiter w = {.timeout_ms = 30};
	int64_t before = as_now_ns();
	wait_for_call(&w);
	assert_int_equal(w.result, AS_ENOENT);
	assert_true(w.returned_ns - before >= 30000000 && w.returned_ns - before < 330000000);
}

/* ---- Lists ------------------------------------------------------------------------------------------------------- */

static void test_lists(void **state)
{
	(void)state;
	enum { CALLS = 300, PER_CALL = 3 };
	static as_stream *streams[CALLS][PER_CALL];
	static as_info infos[CALLS * PER_CALL + 1];
	char uuid[32], id[32];
	for (int call = 0; call < CALLS; call++) {
		for (int i = 0; i < PER_CALL; i++) {
			snprintf(uuid, sizeof(uuid), "call-%d", call);
			snprintf(id, sizeof(id), "stream-%d", i);
			streams[call][i] = create(uuid, id);
		}
	}
	assert_int_equal(as_stream_list(NULL, NULL, 0), CALLS * PER_CALL);
	assert_int_equal(as_stream_list(NULL, infos, CALLS * PER_CALL), CALLS * PER_CALL);
	assert_int_equal(as_stream_list("call-7", infos, 8), PER_CALL);
	for (int i = 0; i < PER_CALL; i++) {
		assert_string_equal(infos[i].uuid, "call-7");
		assert_int_equal(infos[i].rate_hz, RATE);
		assert_int_equal(infos[i].closed, 0);
	}
	infos[1].uuid[0] = 0;
	assert_int_equal(as_stream_list("call-8", infos, 1), PER_CALL); /* tells how many, copies what fits */
	assert_string_equal(infos[0].uuid, "call-8");
	assert_string_equal(infos[1].uuid, "");
	assert_int_equal(as_stream_list("call-none", infos, 8), 0);
	as_stream_close(streams[7][1]);
	assert_int_equal(as_stream_list("call-7", infos, 8), PER_CALL - 1);
	for (int call = 0; call < CALLS; call++) {
		for (int i = 0; i < PER_CALL; i++) {
			done(streams[call][i]);
		}
	}
	assert_int_equal(as_stream_list(NULL, NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_stream_of_a_name),
		cmocka_unit_test(test_find_takes_a_reference),
		cmocka_unit_test(test_the_last_reference_frees_the_name),
		cmocka_unit_test(test_what_find_refuses),
		cmocka_unit_test(test_find_is_woken_by_the_creation),
		cmocka_unit_test(test_find_gives_up_in_time),
		cmocka_unit_test(test_lists),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
