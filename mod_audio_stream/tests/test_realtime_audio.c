/* A conversation's audio: long deltas go slice by slice, in order with what comes after them, and nothing is forgotten. */
#define _GNU_SOURCE
#include "support.h"

#include "base64.h"
#include "realtime_audio.h"

#define LONG 400000 /* samples: 50 s, more than a few slices */
#define SHORT 800

typedef struct talk {
	as_stream *stream;
	rt_audio audio;
} talk;

static talk *begin(int inject_max_ms)
{
	talk *t = calloc(1, sizeof(*t));
	const as_realtime_audio format = {
		.in_encoding = AS_S16, .in_rate_hz = RATE, .out_encoding = AS_S16, .out_rate_hz = RATE, .chunk_ms = 20};
	t->stream = open_config((as_config){.rate_hz = RATE, .inject_max_ms = inject_max_ms});
	rt_audio_init(&t->audio);
	assert_int_equal(rt_audio_attach(&t->audio, t->stream, &format, 5000), 0);
	return t;
}

static void finish(talk *t)
{
	rt_audio_free(&t->audio);
	done(t->stream);
	free(t);
}

/* Audio of an item that begins with signal_at(first), as the server sends it. */
static rt_outcome delta(talk *t, const char *response, const char *item, uint64_t first, size_t n, int hold)
{
	rt_message message = {.kind = RT_AUDIO_DELTA};
	int16_t *samples = signal_new(first, n);
	snprintf(message.response_id, sizeof(message.response_id), "%s", response);
	snprintf(message.item_id, sizeof(message.item_id), "%s", item);
	message.base64 = malloc(BASE64_BYTES(n * 2));
	message.base64_length = base64_encode(samples, n * 2, message.base64);
	rt_outcome outcome = rt_audio_delta(&t->audio, &message, hold, as_now_ns());
	free(message.base64);
	free(samples);
	return outcome;
}

static uint64_t written(talk *t)
{
	return stats_of(t->stream).inject_written_samples;
}

/* Takes as many turns as are due; returns how many. No turn is long. */
static int all_slices(talk *t)
{
	int turns = 0;
	for (; t->audio.due; turns++) {
		uint64_t before = written(t);
		assert_int_equal(rt_audio_next_slice(&t->audio), 0);
		assert_in_range(written(t) - before, 0, 16384);
	}
	return turns;
}

/* Plays n samples, which are those of the signal from `first` on. */
static void hear(talk *t, uint64_t first, size_t n)
{
	int16_t frame[FRAME];
	for (size_t at = 0; at < n; at += FRAME) {
		assert_int_equal(as_host_inject(t->stream, frame, FRAME), FRAME);
		for (size_t i = 0; i < FRAME; i++) {
			assert_int_equal(frame[i], signal_at(first + at + i));
		}
	}
}

static void test_a_long_delta_is_queued_in_slices(void **state)
{
	(void)state;
	talk *t = begin(0);
	rt_outcome outcome = delta(t, "r1", "i1", 0, LONG, 0);
	assert_true(outcome.announce && outcome.first);
	assert_in_range(written(t), 1, 16384);
	assert_int_equal(mark_of(t->stream, outcome.announce->mark).written, written(t));
	assert_in_range(all_slices(t), LONG / 16384, LONG / 16384 + 1);
	assert_int_equal(t->audio.held_bytes, 0);
	hear(t, 0, LONG);
	finish(t);
}

/* More audio, the item's end and another item wait behind it. */
static void test_what_comes_after_it_stays_behind(void **state)
{
	(void)state;
	talk *t = begin(0);
	uint64_t first = delta(t, "r1", "i1", 0, LONG, 0).announce->mark;
	delta(t, "r1", "i1", LONG, SHORT, 0);
	rt_audio_done(&t->audio, "i1");
	uint64_t second = delta(t, "r1", "i2", LONG + SHORT, SHORT, 0).announce->mark;
	rt_audio_done(&t->audio, "i2");
	all_slices(t);
	hear(t, 0, LONG + SHORT + SHORT);
	as_host_inject(t->stream, (int16_t[FRAME]){0}, FRAME);
	assert_int_equal(mark_of(t->stream, first).played, LONG + SHORT);
	assert_true(mark_of(t->stream, first).flags & AS_MARK_FINISHED);
	assert_int_equal(mark_of(t->stream, second).played, SHORT);
	assert_true(mark_of(t->stream, second).flags & AS_MARK_FINISHED);
	delta(t, "r1", "i3", 7, SHORT, 0); /* nothing waits any more: at once */
	assert_int_equal(written(t), LONG + 3 * SHORT);
	finish(t);
}

static void test_a_flush_drops_what_waits(void **state)
{
	(void)state;
	talk *t = begin(0);
	delta(t, "r1", "i1", 0, LONG, 0);
	rt_audio_next_slice(&t->audio);
	as_inject_flush(t->stream, NULL, 0, NULL);
	delta(t, "r1", "i1", LONG, SHORT, 0);
	delta(t, "r2", "i2", 5000, SHORT, 0);
	all_slices(t);
	as_host_inject(t->stream, (int16_t[FRAME]){0}, FRAME); /* the flush itself: nothing had been heard */
	hear(t, 5000, SHORT);
	assert_int_equal(t->audio.held_bytes, 0);
	finish(t);
}

/* What is held until somebody decides does not keep others waiting, and is queued in slices, too. */
static void test_held_back_then_queued_in_slices(void **state)
{
	(void)state;
	talk *t = begin(0);
	rt_audio_response(&t->audio, "r1", 0);
	delta(t, "r2", "i2", 0, LONG, 1);
	delta(t, "r2", "i2", LONG, SHORT, 0);
	rt_audio_done(&t->audio, "i2");
	assert_int_equal(t->audio.due, 0);
	delta(t, "r1", "i1", 9000, SHORT, 0);
	assert_int_equal(written(t), SHORT);
	rt_audio_route(&t->audio, "r2", as_inject_generation(t->stream));
	assert_in_range(written(t), SHORT + 1, SHORT + 16384);
	all_slices(t);
	hear(t, 9000, SHORT);
	hear(t, 0, LONG + SHORT);
	finish(t);
}

static void test_held_back_then_dropped(void **state)
{
	(void)state;
	talk *t = begin(0);
	delta(t, "r1", "i1", 0, LONG, 1);
	rt_audio_route(&t->audio, "r1", 0);
	delta(t, "r1", "i1", LONG, SHORT, 0);
	assert_int_equal(t->audio.due, 0);
	assert_int_equal(t->audio.held_bytes, 0);
	assert_int_equal(written(t), 0);
	finish(t);
}

/* The rest of a long delta waits when a new item of its response has to: both are queued once that is decided. */
static void test_held_back_in_the_middle(void **state)
{
	(void)state;
	talk *t = begin(0);
	delta(t, "r1", "i1", 0, LONG, 0);
	delta(t, "r1", "i2", LONG, SHORT, 1);
	assert_int_equal(t->audio.due, 0);
	delta(t, "r2", "i3", 1, LONG, 1);
	rt_audio_route(&t->audio, "r2", 0);
	rt_audio_route(&t->audio, "r1", as_inject_generation(t->stream));
	all_slices(t);
	hear(t, 0, LONG + SHORT);
	assert_int_equal(t->audio.held_bytes, 0);
	finish(t);
}

/* More than may be held, but it only waits for its turn. */
static void test_a_burst_makes_room(void **state)
{
	(void)state;
	talk *t = begin(2000000);
	for (int i = 0; i < 20; i++) {
		assert_null(delta(t, "r1", "i1", (uint64_t)i * LONG, LONG, 0).complaint);
	}
	assert_in_range(t->audio.held_bytes, 1, 16 << 20);
	all_slices(t);
	hear(t, 0, 20 * LONG);
	finish(t);
}

static void test_more_than_may_be_held(void **state)
{
	(void)state;
	talk *t = begin(0);
	const char *complaint = NULL;
	for (int i = 0; i < 21; i++) {
		complaint = delta(t, "r1", "i1", (uint64_t)i * LONG, LONG, 1).complaint;
		assert_true(i == 20 || !complaint);
	}
	assert_string_equal(complaint, RT_FULL);
	assert_int_equal(t->audio.full_deltas, 1);
	finish(t);
}

/* The queue's own bound, found while a slice is queued. */
static void test_more_than_the_queue_holds(void **state)
{
	(void)state;
	talk *t = begin(10000);
	assert_null(delta(t, "r1", "i1", 0, LONG, 0).complaint);
	int error = 0;
	while (t->audio.due && !error) {
		error = rt_audio_next_slice(&t->audio);
	}
	assert_int_equal(error, AS_EFULL);
	assert_int_equal(t->audio.full_deltas, 1);
	assert_int_equal(t->audio.due, 0);
	assert_int_equal(t->audio.held_bytes, 0);
	hear(t, 0, 4 * 16384 / FRAME * FRAME);
	finish(t);
}

/* Whatever happens, in whatever order: all that is held is due or waits for a word, and in the end nothing is left. */
static void test_random_talks(void **state)
{
	(void)state;
	uint32_t seed = 11;
	for (int round = 0; round < 200; round++) {
		talk *t = begin(0);
		for (int step = 0; step < 150; step++) {
			char response[16], item[16];
			snprintf(response, sizeof(response), "r%d", (int)random_upto(&seed, 40));
			snprintf(item, sizeof(item), "i%d", (int)random_upto(&seed, 80));
			switch (random_upto(&seed, 8)) {
			case 0:
				rt_audio_response(&t->audio, response, (int)random_upto(&seed, 1));
				break;
			case 1:
				rt_audio_route(&t->audio, response, random_upto(&seed, 1) ? as_inject_generation(t->stream) : 0);
				break;
			case 2:
				rt_audio_done(&t->audio, item);
				break;
			case 3:
				rt_audio_next_slice(&t->audio);
				break;
			case 4:
				if (!random_upto(&seed, 9)) {
					as_inject_flush(t->stream, NULL, 0, NULL);
				}
				break;
			default:
				delta(t, response, item, step, random_upto(&seed, 9) ? random_upto(&seed, 900) : 120000,
					  !random_upto(&seed, 3));
				break;
			}
		}
		while (t->audio.due) {
			rt_audio_next_slice(&t->audio);
		}
		for (int i = 0; i <= 40; i++) {
			char response[16];
			snprintf(response, sizeof(response), "r%d", i);
			rt_audio_route(&t->audio, response, 0);
		}
		assert_int_equal(t->audio.held_bytes, 0);
		assert_null(t->audio.held);
		assert_int_equal(t->audio.due, 0);
		finish(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_long_delta_is_queued_in_slices),
		cmocka_unit_test(test_what_comes_after_it_stays_behind),
		cmocka_unit_test(test_a_flush_drops_what_waits),
		cmocka_unit_test(test_held_back_then_queued_in_slices),
		cmocka_unit_test(test_held_back_then_dropped),
		cmocka_unit_test(test_held_back_in_the_middle),
		cmocka_unit_test(test_a_burst_makes_room),
		cmocka_unit_test(test_more_than_may_be_held),
		cmocka_unit_test(test_more_than_the_queue_holds),
		cmocka_unit_test(test_random_talks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
