/* A reader that polls: what waits for it, chunks without waiting, and throwing away what is too old. */
#define _GNU_SOURCE
#include "stream.h"
#include "support.h"

static void put(as_stream *stream, uint64_t first, size_t n)
{
	int16_t *samples = signal_new(first, n);
	assert_int_equal(as_host_capture(stream, samples, n), n);
	free(samples);
}

static void put_silence(as_stream *stream, size_t n)
{
	int16_t *zeros = calloc(n, sizeof(int16_t));
	assert_int_equal(as_host_capture(stream, zeros, n), n);
	free(zeros);
}

static void read_expect(as_stream *stream, uint64_t first, size_t n)
{
	int16_t out[2048], *due = signal_new(first, n);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), n * 2);
	assert_memory_equal(out, due, n * 2);
	free(due);
}

static void test_ready_counts_everything_that_waits(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_capture_ready(stream), 0);
	put(stream, 0, 100); /* less than a chunk */
	assert_int_equal(as_capture_ready(stream), 100);
	put(stream, 100, 100);
	assert_int_equal(as_capture_ready(stream), 200);
	read_expect(stream, 0, 200);
	assert_int_equal(as_capture_ready(stream), 0);
	put(stream, 200, 50);
	as_stream_close(stream);
	assert_int_equal(as_capture_ready(stream), 50);
	read_expect(stream, 200, 50);
	assert_int_equal(as_capture_ready(stream), AS_ECLOSED);
	as_stream_unref(stream);
}

/* Without waiting, chunks are as large as with: 20 ms while somebody speaks, 100 ms in silence. */
static void test_polling_gets_the_same_chunks(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t out[2000];
	assert_int_equal(as_capture_setup(stream, AS_S16, RATE, 20, 100, 60), 0);
	for (int frame = 1; frame <= 5; frame++) {
		put_silence(stream, FRAME);
		assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), frame < 5 ? 0 : 5 * FRAME * 2);
	}
	put(stream, 0, FRAME);
	read_expect(stream, 0, FRAME);
	for (int frame = 0; frame < 3; frame++) { /* the hang-over */
		put_silence(stream, FRAME);
		assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), FRAME * 2);
	}
	put_silence(stream, FRAME);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), 0);
	assert_int_equal(as_capture_read(stream, out, sizeof(out), -1), 0);
	done(stream);
}

/* Nobody sleeps, so nobody is to be woken: neither poll nor a waiting reader that has left leaves a post behind. */
static void test_polling_asks_for_no_wake_up(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t out[FRAME];
	int posts;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), 0);
		assert_int_equal(atomic_load(&stream->capture.waiting), 0);
		put(stream, 0, FRAME);
		assert_int_equal(as_capture_read(stream, out, sizeof(out), 0), sizeof(out));
	}
	sem_getvalue(&stream->capture.wake, &posts);
	assert_int_equal(posts, 0);
	done(stream);
}

static void test_the_oldest_is_thrown_away(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	put(stream, 0, 1000);
	assert_int_equal(as_capture_discard(stream, 1000), 0);
	assert_int_equal(as_capture_discard(stream, 2000), 0);
	assert_int_equal(as_capture_discard(stream, 300), 700);
	assert_int_equal(as_capture_ready(stream), 300);
	read_expect(stream, 700, 300);
	put(stream, 1000, 400);
	assert_int_equal(as_capture_discard(stream, 0), 400);
	assert_int_equal(as_capture_discard(stream, 0), 0);
	as_stats stats = stats_of(stream);
	assert_int_equal(stats.capture_samples, 1400);
	assert_int_equal(stats.capture_read_samples, 300);
	assert_int_equal(stats.capture_discarded_samples, 1100);
	assert_int_equal(stats.capture_dropped_samples, 0);
	done(stream);
}

static void test_discarding_makes_room(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 128}); /* 1024 samples */
	put(stream, 0, 1024);
	assert_int_equal(as_capture_discard(stream, 24), 1000);
	put(stream, 1024, 1000);
	assert_int_equal(stats_of(stream).capture_dropped_samples, 0);
	read_expect(stream, 1000, 1024);
	done(stream);
}

static void test_not_beside_another_reader(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	put(stream, 0, FRAME);
	pthread_mutex_lock(&stream->reader);
	assert_int_equal(as_capture_discard(stream, 0), 0);
	assert_int_equal(as_capture_ready(stream), FRAME);
	pthread_mutex_unlock(&stream->reader);
	assert_int_equal(as_capture_discard(stream, 0), FRAME);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ready_counts_everything_that_waits),
		cmocka_unit_test(test_polling_gets_the_same_chunks),
		cmocka_unit_test(test_polling_asks_for_no_wake_up),
		cmocka_unit_test(test_the_oldest_is_thrown_away),
		cmocka_unit_test(test_discarding_makes_room),
		cmocka_unit_test(test_not_beside_another_reader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
