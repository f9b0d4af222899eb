/* What was heard of each utterance, and when. */
#define _GNU_SOURCE
#include "marks.h"

#include "support.h"

#define ENDED_FINISHED (AS_MARK_ENDED | AS_MARK_FINISHED)

/* ---- How much, through a stream ---------------------------------------------------------------------------------- */

static const size_t lengths[] = {1000, 37, 0, 4000, 161, 320, 1};

/* After `heard` samples of the whole queue, each mark's share of them. */
static void check_shares(as_stream *stream, uint64_t heard, int ended)
{
	uint64_t start = 0;
	for (size_t i = 0; i < COUNT(lengths); i++) {
		as_mark mark = mark_of(stream, 100 + i);
		uint64_t past = heard > start ? heard - start : 0, played = past < lengths[i] ? past : lengths[i];
		assert_int_equal(mark.id, 100 + i);
		assert_int_equal(mark.written, lengths[i]);
		assert_int_equal(mark.played, played);
		assert_int_equal(mark.flags, !ended ? 0 : played == lengths[i] ? ENDED_FINISHED : AS_MARK_ENDED);
		assert_int_equal(mark.started_ns != 0, played > 0);
		assert_int_equal(mark.finished_ns != 0, ended && played == lengths[i]);
		start += lengths[i];
	}
}

/* Several items queued one behind the other, heard in frames of every length. `early`: ended as soon as written. */
static void check_items(size_t frame_samples, int early)
{
	as_stream *stream = open_config((as_config){.frame_ms = (int)frame_samples / 8});
	uint64_t total = 0, heard = 0;
	int16_t frame[480];
	for (size_t i = 0; i < COUNT(lengths); i++) {
		inject_signal(stream, 100 + i, total, lengths[i]);
		total += lengths[i];
		if (early) {
			assert_int_equal(as_inject_end(stream, 100 + i), 0);
		}
	}
	while (heard < total) {
		check_shares(stream, heard, early);
		heard += (uint64_t)tick(stream, frame, frame_samples);
	}
	check_shares(stream, heard, early);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		assert_int_equal(as_inject_end(stream, 100 + i), 0);
	}
	check_shares(stream, heard, 1);
	tick_left_alone(stream, frame_samples);
	done(stream);
}

static void test_each_item_gets_exactly_its_samples(void **state)
{
	(void)state;
	for (size_t frame_ms = 10; frame_ms <= 40; frame_ms += 10) {
		check_items(frame_ms * 8, 1);
		check_items(frame_ms * 8, 0);
	}
}

static void test_items_may_take_turns(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, 100);
	inject_signal(stream, 2, 100, 100);
	inject_signal(stream, 1, 200, 100);
	as_inject_end(stream, 2);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(mark_of(stream, 1).played, 100);
	assert_int_equal(mark_of(stream, 2).played, 60);
	tick_expect(stream, FRAME, FRAME, 140);
	assert_int_equal(mark_of(stream, 1).played, 200);
	assert_int_equal(mark_of(stream, 1).flags, 0);
	assert_int_equal(mark_of(stream, 2).flags, ENDED_FINISHED);
	as_inject_end(stream, 1);
	assert_int_equal(mark_of(stream, 1).flags, ENDED_FINISHED);
	done(stream);
}

static void test_an_item_without_audio(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_int_equal(as_inject_end(stream, 1), 0);
	assert_int_equal(as_inject_write(stream, 2, 0, AS_S16, RATE, NULL, 0), 0);
	assert_int_equal(mark_of(stream, 2).flags, 0);
	assert_int_equal(as_inject_end(stream, 2), 0);
	assert_int_equal(as_inject_write(stream, 3, 0, AS_S16, RATE, "x", 1), 1); /* half a sample is none */
	assert_int_equal(as_inject_end(stream, 3), 0);
	for (uint64_t id = 1; id <= 3; id++) {
		as_mark mark = mark_of(stream, id);
		assert_int_equal(mark.flags, ENDED_FINISHED);
		assert_int_equal(mark.written + mark.played, 0);
		assert_int_equal(mark.started_ns, 0);
		assert_true(mark.finished_ns > 0);
	}
	tick_left_alone(stream, FRAME);
	done(stream);
}

/* What is written goes on counting while it plays; the tail of the resampler comes with the end. */
static void test_a_resampled_item_is_as_long_as_its_audio(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t *in = signal_new(0, 4800), out[1700];
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, in, 9600), 9600);
	uint64_t before = mark_of(stream, 1).written;
	assert_true(before < 1600 && before > 1500);
	as_inject_end(stream, 1);
	assert_int_equal(mark_of(stream, 1).written, 1600);
	hear_all(stream, FRAME, out, COUNT(out));
	assert_int_equal(mark_of(stream, 1).played, 1600);
	assert_int_equal(mark_of(stream, 1).flags, ENDED_FINISHED);
	free(in);
	done(stream);
}

/* ---- How long marks are kept ------------------------------------------------------------------------------------- */

static void test_finished_marks_are_kept_for_a_while(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t frame[FRAME];
	as_mark mark;
	assert_int_equal(as_inject_mark(stream, 1, &mark), AS_ENOENT);
	inject_signal(stream, 7777, 0, 1); /* never ended: never forgotten */
	for (uint64_t id = 0; id < 1000; id++) {
		inject_signal(stream, id, 0, 20);
		as_inject_end(stream, id);
		tick(stream, frame, FRAME);
		if (id >= AS_MARKS_KEPT) {
			assert_int_equal(mark_of(stream, id - AS_MARKS_KEPT + 1).flags, ENDED_FINISHED);
		}
	}
	assert_int_equal(as_inject_mark(stream, 1, &mark), AS_ENOENT);
	assert_int_equal(mark_of(stream, 7777).flags, 0);
	as_inject_flush(stream, &mark, 1, NULL);
	assert_int_equal(mark.id, 7777);
	done(stream);
}

/* ---- What many of them cost -------------------------------------------------------------------------------------- */

static int64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Marks of one sample each: written, ended, looked up oldest first while none has been heard; then heard, and a few more,
 * or cut off by a flush and looked up again. */
static int64_t cost_of(uint64_t count, int flushed)
{
	as_stream *stream = open_plain();
	int16_t sample = 1000, frame[FRAME];
	as_mark mark, cut[4];
	int cut_count = 0;
	int64_t begun_ns = cpu_ns();
	for (uint64_t id = 1; id <= count; id++) {
		assert_int_equal(as_inject_write(stream, id, 0, AS_S16, RATE, &sample, 2), 2);
		assert_int_equal(as_inject_end(stream, id), 0);
	}
	for (uint64_t id = 1; id <= count; id++) {
		assert_int_equal(as_inject_mark(stream, id, &mark), 0);
		assert_int_equal(mark.written, 1);
	}
	if (flushed) {
		as_inject_flush(stream, cut, COUNT(cut), &cut_count);
		assert_int_equal(cut_count, count);
	}
	for (uint64_t id = 1; id <= count; id++) {
		as_inject_write(stream, count + id, 0, AS_S16, RATE, &sample, 2);
		as_host_inject(stream, frame, FRAME);
		as_inject_flush(stream, cut, COUNT(cut), &cut_count);
		as_inject_mark(stream, id, &mark);
	}
	int64_t ns = cpu_ns() - begun_ns;
	done(stream);
	return ns;
}

/* The best of some: a busy machine only ever makes things slower. */
static int64_t least_cost_of(uint64_t count, int flushed)
{
	int64_t least_ns = INT64_MAX;
	for (int i = 0; i < 5; i++) {
		int64_t ns = cost_of(count, flushed);
		least_ns = ns < least_ns ? ns : least_ns;
	}
	return least_ns;
}

static void test_ten_times_the_marks_cost_ten_times_as_much(void **state)
{
	(void)state;
	for (int flushed = 0; flushed < 2; flushed++) {
		int64_t few_ns = least_cost_of(2000, flushed), many_ns = least_cost_of(20000, flushed);
		if (many_ns > 30 * few_ns) {
			fail_msg("20,000 marks cost %.1f ms, 2,000 cost %.1f ms", (double)many_ns / 1e6, (double)few_ns / 1e6);
		}
	}
}

static void test_marks_without_end_are_refused_and_those_queued_stay(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t sample = 1000, frame[FRAME];
	for (uint64_t id = 1; id <= AS_MARKS_MAX; id++) {
		assert_int_equal(as_inject_write(stream, id, 0, AS_S16, RATE, &sample, 2), 2);
	}
	assert_int_equal(as_inject_write(stream, AS_MARKS_MAX + 1, 0, AS_S16, RATE, &sample, 2), AS_EFULL);
	assert_int_equal(as_inject_end(stream, AS_MARKS_MAX + 1), AS_EFULL);
	assert_int_equal(stats_of(stream).inject_full_writes, 1);
	for (uint64_t id = 1; id <= AS_MARKS_MAX; id++) {
		assert_int_equal(mark_of(stream, id).written, 1);
	}
	as_host_inject(stream, frame, FRAME);
	for (uint64_t id = 1; id <= FRAME; id++) {
		assert_int_equal(as_inject_end(stream, id), 0); /* heard and ended: there is room again, before long */
		assert_int_equal(mark_of(stream, id).flags, ENDED_FINISHED);
	}
	int refused = 0;
	while (as_inject_write(stream, AS_MARKS_MAX + 1, 0, AS_S16, RATE, &sample, 2) == AS_EFULL) {
		assert_true(++refused <= AS_MARKS_MAX);
	}
	as_inject_flush(stream, NULL, 0, NULL);
	for (uint64_t id = 2 * AS_MARKS_MAX; id < 3 * AS_MARKS_MAX - AS_MARKS_KEPT; id++) {
		assert_int_equal(as_inject_write(stream, id, 0, AS_S16, RATE, &sample, 2), 2);
	}
	done(stream);
}

/* ---- When, on the queue itself with a clock of our own ----------------------------------------------------------- */

#define MS INT64_C(1000000)
#define T0 (1000 * MS)

typedef struct bench {
	as_inject queue;
	as_marks marks;
	int64_t now_ns;
} bench;

static bench *bench_new(uint32_t prebuffer)
{
	bench *b = aligned_alloc(64, (sizeof(*b) + 63) / 64 * 64);
	memset(b, 0, sizeof(*b));
	assert_int_equal(as_inject_init(&b->queue, 100000, prebuffer, 80), 0);
	b->marks.rate_hz = RATE;
	b->now_ns = T0;
	return b;
}

static void bench_free(bench *b)
{
	as_inject_destroy(&b->queue);
	as_marks_destroy(&b->marks);
	free(b);
}

static void bench_append(bench *b, uint64_t mark, size_t n, int ended)
{
	int16_t *samples = signal_new(0, n);
	assert_int_equal(as_marks_reserve(&b->marks, mark), 0);
	assert_int_equal(as_inject_reserve(&b->queue, n), 0);
	as_mark *entry = as_marks_open(&b->marks, mark);
	as_inject_append(&b->queue, samples, n);
	as_marks_extend(&b->marks, mark, b->queue.queued_end - n, b->queue.queued_end);
	as_inject_publish(&b->queue, 0);
	if (ended) {
		entry->flags |= AS_MARK_ENDED;
		as_inject_complete(&b->queue);
	}
	free(samples);
}

static void bench_write(bench *b, uint64_t mark, size_t n, int ended)
{
	as_marks_settle(&b->marks, &b->queue);
	bench_append(b, mark, n, ended);
}

static void bench_tick(bench *b, int n)
{
	int16_t frame[FRAME];
	for (int i = 0; i < n; i++) {
		as_inject_tick(&b->queue, frame, FRAME, b->now_ns);
		b->now_ns += 20 * MS;
	}
}

static void expect_times(bench *b, uint64_t mark, int64_t started_ns, int64_t finished_ns)
{
	as_marks_settle(&b->marks, &b->queue);
	as_mark *entry = as_marks_find(&b->marks, mark);
	assert_non_null(entry);
	assert_int_equal(entry->started_ns, started_ns);
	assert_int_equal(as_marks_view(entry).finished_ns, finished_ns);
}

static void test_tables_shrink_again(void **state)
{
	(void)state;
	bench *b = bench_new(0);
	for (uint64_t id = 1; id <= 20000; id++) {
		bench_append(b, id, 1, 1);
	}
	assert_true(b->marks.room >= 20000 && b->marks.segment_room >= 20000);
	as_marks_cut(&b->marks, &b->queue, 0, NULL, 0);
	bench_append(b, 20001, 1, 1);
	assert_true(b->marks.count <= AS_MARKS_KEPT + 1);
	assert_true(b->marks.room <= 256 && b->marks.segment_room <= 256);
	for (uint64_t id = 20001 - AS_MARKS_KEPT; id <= 20001; id++) {
		assert_int_equal(as_marks_find(&b->marks, id)->id, id);
	}
	bench_free(b);
}

static void test_times_are_those_of_the_samples(void **state)
{
	(void)state;
	bench *b = bench_new(0);
	bench_write(b, 1, 400, 1);
	bench_write(b, 2, 400, 1);
	bench_tick(b, 3);
	expect_times(b, 1, T0, T0 + 50 * MS);
	expect_times(b, 2, T0 + 50 * MS, 0);
	bench_tick(b, 2);
	expect_times(b, 2, T0 + 50 * MS, T0 + 100 * MS);
	bench_free(b);
}

static void test_times_after_silence_and_underrun(void **state)
{
	(void)state;
	bench *b = bench_new(0);
	bench_write(b, 1, 160, 0);
	bench_tick(b, 5); /* dry for 80 ms */
	bench_write(b, 1, 80, 1);
	bench_tick(b, 10);
	expect_times(b, 1, T0, T0 + 110 * MS);
	bench_write(b, 2, 160, 1);
	bench_tick(b, 1);
	expect_times(b, 2, T0 + 300 * MS, T0 + 320 * MS);
	bench_free(b);
}

/* The second one is written while the first one's last samples are being played, and begins after a pause for its
 * prebuffer; only then does anybody ask. */
static void test_an_end_is_not_the_next_beginning(void **state)
{
	(void)state;
	bench *b = bench_new(160);
	bench_write(b, 1, 80, 1);
	bench_tick(b, 1);
	bench_append(b, 2, 80, 0);
	bench_tick(b, 3);
	expect_times(b, 1, T0, T0 + 10 * MS);
	expect_times(b, 2, T0 + 40 * MS, 0);
	bench_free(b);
}

/* A call on hold: the host does not tick for a while in the middle of an item, and the time passes all the same. */
static void test_times_after_the_host_stood_still(void **state)
{
	(void)state;
	bench *b = bench_new(0);
	bench_write(b, 1, 400, 1);
	bench_write(b, 2, 400, 1);
	bench_tick(b, 1);
	b->now_ns += 5000 * MS;
	bench_tick(b, 4);
	expect_times(b, 1, T0, T0 + 5050 * MS);
	expect_times(b, 2, T0 + 5050 * MS, T0 + 5100 * MS);
	bench_free(b);
}

/* When the last sample was taken, not when the application came to say that it was the last. */
static void test_an_item_ended_late_finished_when_it_was_heard(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	inject_signal(stream, 1, 0, FRAME);
	tick_expect(stream, FRAME, 0, FRAME);
	as_mark mark = mark_of(stream, 1);
	assert_int_equal(mark.finished_ns, 0);
	sleep_ms(25);
	as_inject_end(stream, 1);
	mark = mark_of(stream, 1);
	assert_int_equal(mark.flags, ENDED_FINISHED);
	assert_int_equal(mark.finished_ns, mark.started_ns + 20 * MS);
	inject_signal(stream, 2, 0, FRAME); /* more of it after it seemed to be over */
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(mark_of(stream, 2).finished_ns, 0);
	inject_signal(stream, 2, FRAME, 50);
	tick_expect(stream, FRAME, FRAME, 50);
	as_inject_end(stream, 2);
	mark = mark_of(stream, 2);
	assert_int_equal(mark.finished_ns, mark.started_ns + 210 * 125000);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_item_gets_exactly_its_samples),
		cmocka_unit_test(test_items_may_take_turns),
		cmocka_unit_test(test_an_item_without_audio),
		cmocka_unit_test(test_a_resampled_item_is_as_long_as_its_audio),
		cmocka_unit_test(test_finished_marks_are_kept_for_a_while),
		cmocka_unit_test(test_ten_times_the_marks_cost_ten_times_as_much),
		cmocka_unit_test(test_marks_without_end_are_refused_and_those_queued_stay),
		cmocka_unit_test(test_tables_shrink_again),
		cmocka_unit_test(test_times_are_those_of_the_samples),
		cmocka_unit_test(test_times_after_silence_and_underrun),
		cmocka_unit_test(test_an_end_is_not_the_next_beginning),
		cmocka_unit_test(test_times_after_the_host_stood_still),
		cmocka_unit_test(test_an_item_ended_late_finished_when_it_was_heard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
