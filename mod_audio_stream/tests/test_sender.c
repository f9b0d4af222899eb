/* A sender without a server: what the host captures, and the messages that are made of it. The clock is ours. */
#define _GNU_SOURCE
#include "support.h"

#include "sender.h"

#define MS 1000000
#define MESSAGES_MAX 400
#define SENT_MAX 200000
#define LOG_MAX 8

/* ---- The clock --------------------------------------------------------------------------------------------------- */

static _Atomic int64_t clock_ns = 1000000000000;

int clock_gettime(clockid_t id, struct timespec *now)
{
	(void)id;
	now->tv_sec = clock_ns / 1000000000;
	now->tv_nsec = clock_ns % 1000000000;
	return 0;
}

/* ---- A sender and everything around it --------------------------------------------------------------------------- */

typedef struct rig {
	as_stream *stream;
	struct sender *sender;
	size_t sizes[MESSAGES_MAX];
	int messages;
	uint8_t sent[SENT_MAX];
	size_t sent_bytes;
	size_t unsent, unsent_per_byte; /* the connection: what it holds, and how much of each byte stays there */
	json_t *events[LOG_MAX];
	int event_count;
	uint64_t said; /* samples captured so far */
} rig;

static void on_send(void *arg, const void *audio, size_t bytes)
{
	rig *r = arg;
	assert_true(r->messages < MESSAGES_MAX && r->sent_bytes + bytes <= SENT_MAX);
	r->sizes[r->messages++] = bytes;
	memcpy(r->sent + r->sent_bytes, audio, bytes);
	r->sent_bytes += bytes;
	r->unsent += bytes * r->unsent_per_byte;
}

static size_t on_unsent(void *arg)
{
	return ((rig *)arg)->unsent;
}

static void on_event(void *arg, const char *name, json_t *body)
{
	rig *r = arg;
	assert_string_equal(name, "stream_buffer_overrun");
	assert_true(r->event_count < LOG_MAX);
	r->events[r->event_count++] = body;
}

static struct sender_outlets outlets_of(rig *r)
{
	return (struct sender_outlets){r, on_send, on_unsent, on_event};
}

static rig *open_rig(as_config stream, struct sender_config config)
{
	char error[256] = "";
	rig *r = calloc(1, sizeof(*r));
	const struct sender_outlets outlets = outlets_of(r);
	config.encoding = config.encoding ? config.encoding : AS_S16;
	config.rate_hz = config.rate_hz ? config.rate_hz : RATE;
	config.frame_ms = config.frame_ms ? config.frame_ms : 20;
	config.ring_ms = 30000;
	r->stream = open_config(stream);
	assert_int_equal(sender_check(&config, error, sizeof(error)), 0);
	assert_int_equal(sender_alloc(&r->sender, r->stream, &config, &outlets, error, sizeof(error)), 0);
	return r;
}

static rig *open_plainly(void)
{
	return open_rig((as_config){0}, (struct sender_config){0});
}

static void close_rig(rig *r)
{
	sender_free(r->sender);
	for (int i = 0; i < r->event_count; i++) {
		json_decref(r->events[i]);
	}
	done(r->stream);
	free(r);
}

/* The host captures signal_at(...) for so many samples, a frame at a time. */
static void say(rig *r, size_t samples)
{
	while (samples > 0) {
		size_t n = samples < FRAME ? samples : FRAME;
		int16_t *frame = signal_new(r->said, n);
		as_host_capture(r->stream, frame, n);
		free(frame);
		r->said += n;
		samples -= n;
		clock_ns += (int64_t)n * 1000 * MS / RATE;
	}
}

static void bound(rig *r)
{
	as_stats stats = stats_of(r->stream);
	sender_bound(r->sender, &stats, clock_ns);
}

static void expect_sizes(const rig *r, int count, size_t bytes)
{
	assert_int_equal(r->messages, count);
	for (int i = 0; i < count; i++) {
		assert_int_equal(r->sizes[i], bytes);
	}
}

static void expect_signal(const rig *r, size_t at, uint64_t first, size_t n)
{
	const int16_t *sent = (const int16_t *)(const void *)r->sent;
	assert_true((at + n) * 2 <= r->sent_bytes);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(sent[at + i], signal_at(first + i));
	}
}

static long number_in(const json_t *event, const char *member)
{
	return (long)json_integer_value(json_object_get(event, member));
}

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

static void test_a_frame_is_a_message(void **state)
{
	(void)state;
	rig *r = open_plainly();
	say(r, 5 * FRAME);
	sender_pump(r->sender, 0);
	expect_sizes(r, 5, 320);
	expect_signal(r, 0, 0, 5 * FRAME);
	say(r, FRAME / 2); /* no message yet */
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 5);
	close_rig(r);
}

static void test_a_batch_is_one_message(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.batch_ms = 60});
	say(r, 2 * FRAME);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 0);
	say(r, 4 * FRAME);
	sender_pump(r->sender, 0);
	expect_sizes(r, 2, 960);
	assert_int_equal(sender_message_bytes(r->sender), 960);
	expect_signal(r, 0, 0, 6 * FRAME);
	close_rig(r);
}

static void test_a_batch_that_is_split_is_several(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.batch_ms = 60, .split = 1});
	say(r, 6 * FRAME);
	sender_pump(r->sender, 0);
	expect_sizes(r, 6, 320);
	close_rig(r);
}

static void test_another_rate_keeps_messages_of_one_length(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.rate_hz = 16000});
	for (int i = 1; i <= 20; i++) {
		say(r, FRAME);
		sender_pump(r->sender, 0);
		expect_sizes(r, i, 640); /* also the first, which the resampler keeps some of */
	}
	assert_int_equal(r->sent[0], 0); /* it is filled up in front */
	assert_int_equal(sender_format(r->sender).rate_hz, 16000);
	close_rig(r);
}

static void test_g711_is_a_byte_for_a_sample(void **state)
{
	(void)state;
	uint8_t expected[2 * FRAME];
	rig *r = open_rig((as_config){0}, (struct sender_config){.encoding = AS_PCMU});
	int16_t *samples = signal_new(0, 2 * FRAME);
	as_pcmu_encode(samples, expected, sizeof(expected));
	say(r, 2 * FRAME);
	sender_pump(r->sender, 0);
	expect_sizes(r, 2, 160);
	assert_memory_equal(r->sent, expected, sizeof(expected));
	free(samples);
	close_rig(r);
}

static void test_two_channels_are_sent_interleaved(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){.rate_hz = RATE, .channels = 2}, (struct sender_config){0});
	int16_t *both = signal_new(0, 2 * FRAME);
	as_host_capture(r->stream, both, FRAME);
	sender_pump(r->sender, 0);
	expect_sizes(r, 1, 640);
	expect_signal(r, 0, 0, 2 * FRAME);
	assert_int_equal(sender_format(r->sender).channels, 2);
	free(both);
	close_rig(r);
}

/* ---- A server that does not read --------------------------------------------------------------------------------- */

static void test_no_more_is_sent_than_the_server_reads(void **state)
{
	(void)state;
	rig *r = open_plainly();
	r->unsent_per_byte = 1;
	say(r, 100 * FRAME);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 52); /* 16 KiB */
	r->unsent = 0;
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 100);
	expect_signal(r, 0, 0, 100 * FRAME);
	close_rig(r);
}

static void test_a_short_queue_holds_for_the_connection_too(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.max_queue_ms = 200});
	r->unsent_per_byte = 1;
	say(r, 20 * FRAME);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 10);
	close_rig(r);
}

static void test_the_last_of_it_is_handed_over_at_once(void **state)
{
	(void)state;
	rig *r = open_plainly();
	r->unsent_per_byte = 1;
	say(r, 100 * FRAME + FRAME / 2);
	as_stream_close(r->stream);
	sender_pump(r->sender, 1);
	assert_int_equal(r->messages, 100);
	sender_flush(r->sender);
	assert_int_equal(r->messages, 101);
	assert_int_equal(r->sizes[100], 160); /* as short as it is */
	expect_signal(r, 0, 0, 100 * FRAME + FRAME / 2);
	assert_int_equal(sender_is_over(r->sender), 1);
	close_rig(r);
}

static void test_what_waits_too_long_is_dropped_and_reported_once(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.max_queue_ms = 500});
	r->unsent = 1 << 20;
	say(r, 25 * FRAME);
	bound(r);
	assert_int_equal(r->event_count, 0);
	say(r, 25 * FRAME);
	bound(r);
	assert_int_equal(r->event_count, 1);
	assert_string_equal(json_string_value(json_object_get(r->events[0], "direction")), "capture");
	assert_int_equal(number_in(r->events[0], "droppedMs"), 500);
	assert_int_equal(number_in(r->events[0], "totalDroppedMs"), 500);
	assert_int_equal(number_in(r->events[0], "limitMs"), 500);
	say(r, 25 * FRAME);
	bound(r);
	assert_int_equal(r->event_count, 1); /* it goes on */
	assert_int_equal(sender_dropped(r->sender), 50 * FRAME);
	r->unsent = 0;
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 25);
	expect_signal(r, 0, 50 * FRAME, 25 * FRAME); /* the latest */
	close_rig(r);
}

static void test_an_overrun_after_a_second_without_is_a_new_one(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.max_queue_ms = 500});
	r->unsent = 1 << 20;
	say(r, 30 * FRAME);
	bound(r);
	clock_ns += 1001 * (int64_t)MS;
	bound(r);
	say(r, 10 * FRAME);
	bound(r);
	assert_int_equal(r->event_count, 2);
	assert_int_equal(number_in(r->events[1], "droppedMs"), 200);
	assert_int_equal(number_in(r->events[1], "totalDroppedMs"), 300);
	close_rig(r);
}

/* ---- The end ----------------------------------------------------------------------------------------------------- */

static void test_it_finishes_when_what_was_captured_is_sent(void **state)
{
	(void)state;
	rig *r = open_plainly();
	r->unsent = 1 << 20;
	say(r, 10 * FRAME);
	sender_finish(r->sender);
	assert_int_equal(sender_is_over(r->sender), 0);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 0);
	r->unsent = 0;
	sender_pump(r->sender, 0);
	expect_sizes(r, 10, 320);
	assert_int_equal(sender_is_over(r->sender), 1);
	say(r, 10 * FRAME);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 10);
	close_rig(r);
}

static void test_it_finishes_at_once_when_all_has_been_read(void **state)
{
	(void)state;
	rig *r = open_plainly();
	say(r, 2 * FRAME);
	sender_pump(r->sender, 0);
	sender_finish(r->sender);
	assert_int_equal(sender_is_over(r->sender), 1);
	close_rig(r);
}

static void test_it_waits_for_what_the_host_still_holds(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){.rate_hz = RATE, .behind_ms = 60}, (struct sender_config){0});
	say(r, 2 * FRAME);
	sender_pump(r->sender, 0);
	sender_finish(r->sender);
	for (int i = 0; i < 3; i++) {
		sender_pump(r->sender, 0);
		assert_int_equal(sender_is_over(r->sender), 0);
		say(r, FRAME);
	}
	sender_pump(r->sender, 0);
	assert_int_equal(sender_is_over(r->sender), 1);
	expect_sizes(r, 5, 320);
	close_rig(r);
}

static void test_a_host_that_stands_still_is_not_waited_for(void **state)
{
	(void)state;
	rig *r = open_plainly();
	say(r, FRAME / 2); /* which completes no chunk */
	sender_finish(r->sender);
	sender_pump(r->sender, 0);
	assert_int_equal(sender_is_over(r->sender), 0);
	clock_ns += 200 * (int64_t)MS;
	sender_pump(r->sender, 0);
	assert_int_equal(sender_is_over(r->sender), 1);
	close_rig(r);
}

static void test_what_nobody_is_to_hear_is_no_loss(void **state)
{
	(void)state;
	rig *r = open_rig((as_config){0}, (struct sender_config){.max_queue_ms = 500});
	sender_stop(r->sender);
	say(r, 100 * FRAME);
	bound(r);
	sender_pump(r->sender, 0);
	assert_int_equal(r->messages, 0);
	assert_int_equal(r->event_count, 0);
	assert_int_equal(sender_dropped(r->sender), 0);
	assert_int_equal(as_capture_ready(r->stream), 0);
	close_rig(r);
}

/* ---- Where another reads the capture ----------------------------------------------------------------------------- */

static void test_a_watcher_only_bounds(void **state)
{
	(void)state;
	rig *r = calloc(1, sizeof(*r));
	const struct sender_outlets outlets = outlets_of(r);
	r->stream = open_plain();
	assert_int_equal(sender_alloc_watcher(&r->sender, r->stream, &outlets), 0);
	say(r, 50 * FRAME);
	bound(r);
	assert_int_equal(r->event_count, 0); /* the reader's limit is not known yet */
	sender_watch(r->sender, AS_PCMU, RATE, 25 * FRAME);
	sender_note_dropped(r->sender, 5 * FRAME); /* the reader's own */
	bound(r);
	assert_int_equal(number_in(r->events[0], "droppedMs"), 600);
	assert_int_equal(sender_format(r->sender).encoding, AS_PCMU);
	sender_finish(r->sender);
	sender_pump(r->sender, 0);
	sender_flush(r->sender);
	assert_int_equal(r->messages, 0);
	assert_int_equal(sender_is_over(r->sender), 1);
	bound(r);
	assert_int_equal(as_capture_ready(r->stream), 25 * FRAME);
	sender_stop(r->sender);
	bound(r);
	assert_int_equal(as_capture_ready(r->stream), 0);
	close_rig(r);
}

/* ---- What cannot be ---------------------------------------------------------------------------------------------- */

static void test_impossible_settings_are_refused_by_name(void **state)
{
	(void)state;
	char error[256];
	struct sender_config config = {.encoding = AS_S16, .rate_hz = 7000, .frame_ms = 20, .ring_ms = 30000};
	assert_int_equal(sender_check(&config, error, sizeof(error)), AS_EINVAL);
	assert_string_equal(error, "a rate of 7000 Hz: use 8000 to 48000");
	config.rate_hz = 0;
	assert_int_equal(sender_check(&config, error, sizeof(error)), 0);
	config.batch_ms = 20000;
	assert_int_equal(sender_check(&config, error, sizeof(error)), AS_EINVAL);
	assert_non_null(strstr(error, "MOD_AUDIO_STREAM_BUFFER_SECS"));
	assert_non_null(strstr(error, "use 40 s"));
}

static void test_a_stream_that_cannot_be_captured_like_this_leaves_nothing(void **state)
{
	(void)state;
	char error[256] = "";
	rig *r = calloc(1, sizeof(*r));
	const struct sender_outlets outlets = outlets_of(r);
	struct sender_config config = {.encoding = AS_S16, .rate_hz = 7000, .frame_ms = 20, .ring_ms = 30000};
	r->stream = open_plain();
	assert_int_equal(sender_alloc(&r->sender, r->stream, &config, &outlets, error, sizeof(error)), AS_EINVAL);
	assert_null(r->sender);
	assert_non_null(strstr(error, "audio at 7000 Hz"));
	close_rig(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_frame_is_a_message),
		cmocka_unit_test(test_a_batch_is_one_message),
		cmocka_unit_test(test_a_batch_that_is_split_is_several),
		cmocka_unit_test(test_another_rate_keeps_messages_of_one_length),
		cmocka_unit_test(test_g711_is_a_byte_for_a_sample),
		cmocka_unit_test(test_two_channels_are_sent_interleaved),
		cmocka_unit_test(test_no_more_is_sent_than_the_server_reads),
		cmocka_unit_test(test_a_short_queue_holds_for_the_connection_too),
		cmocka_unit_test(test_the_last_of_it_is_handed_over_at_once),
		cmocka_unit_test(test_what_waits_too_long_is_dropped_and_reported_once),
		cmocka_unit_test(test_an_overrun_after_a_second_without_is_a_new_one),
		cmocka_unit_test(test_it_finishes_when_what_was_captured_is_sent),
		cmocka_unit_test(test_it_finishes_at_once_when_all_has_been_read),
		cmocka_unit_test(test_it_waits_for_what_the_host_still_holds),
		cmocka_unit_test(test_a_host_that_stands_still_is_not_waited_for),
		cmocka_unit_test(test_what_nobody_is_to_hear_is_no_loss),
		cmocka_unit_test(test_a_watcher_only_bounds),
		cmocka_unit_test(test_impossible_settings_are_refused_by_name),
		cmocka_unit_test(test_a_stream_that_cannot_be_captured_like_this_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
