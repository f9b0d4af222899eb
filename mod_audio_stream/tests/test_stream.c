/* Opening, describing, counting and closing a stream, and the odds and ends of the public interface. */
#define _GNU_SOURCE
#include "stream.h"

#include <limits.h>

#include "support.h"

static int create(as_config config, as_stream **out)
{
	return as_stream_create("uuid", "main", &config, out);
}

static void test_defaults(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.rate_hz = 16000});
	as_info info;
	as_stream_info(stream, &info);
	assert_string_equal(info.id, "main");
	assert_memory_equal(info.uuid, "test-", 5);
	assert_int_equal(info.rate_hz, 16000);
	assert_int_equal(info.app_rate_hz, 16000);
	assert_int_equal(info.wire_encoding, AS_S16);
	assert_int_equal(info.frame_ms, 20);
	assert_int_equal(info.closed, 0);
	as_stats stats = stats_of(stream), none = {.inject_generation = 1};
	assert_memory_equal(&stats, &none, sizeof(stats));
	as_stream_close(stream);
	as_stream_info(stream, &info);
	assert_int_equal(info.closed, 1);
	as_stream_unref(stream);
}

static void test_what_was_configured_is_told(void **state)
{
	(void)state;
	as_config config = {.rate_hz = 8000, .app_rate_hz = 24000, .wire_encoding = AS_PCMA, .frame_ms = 30};
	as_stream *stream = open_config(config);
	as_info info;
	as_stream_info(stream, &info);
	assert_int_equal(info.app_rate_hz, 24000);
	assert_int_equal(info.wire_encoding, AS_PCMA);
	assert_int_equal(info.frame_ms, 30);
	done(stream);
}

static void test_configurations_out_of_range(void **state)
{
	(void)state;
	static const as_config wrong[] = {
		{.rate_hz = 0},
		{.rate_hz = -8000},
		{.rate_hz = 7999},
		{.rate_hz = 48001},
		{.rate_hz = 8000, .app_rate_hz = 7999},
		{.rate_hz = 8000, .app_rate_hz = 48001},
		{.rate_hz = 8000, .wire_encoding = -1},
		{.rate_hz = 8000, .wire_encoding = 4},
		{.rate_hz = 8000, .frame_ms = -20},
		{.rate_hz = 8000, .frame_ms = 1000},
		{.rate_hz = 8000, .capture_ms = -1},
		{.rate_hz = 8000, .inject_max_ms = -1},
		{.rate_hz = 8000, .prebuffer_ms = -1},
		{.rate_hz = 8000, .fade_ms = -1},
		{.rate_hz = 8000, .fade_ms = 101},
		{.rate_hz = 8000, .behind_ms = -1},
		{.rate_hz = 8000, .behind_ms = 1001},
	};
	as_stream *stream = NULL;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(create(wrong[i], &stream), AS_EINVAL);
	}
	assert_null(stream);
	assert_int_equal(as_stream_list(NULL, NULL, 0), 0);
}

static void test_configurations_in_range(void **state)
{
	(void)state;
	static const as_config fine[] = {
		{.rate_hz = 48000, .app_rate_hz = 8000, .frame_ms = 10},
		{.rate_hz = 44100, .frame_ms = 60, .wire_encoding = AS_S16},
		{.rate_hz = 11025, .capture_ms = 1000, .inject_max_ms = 1000, .prebuffer_ms = 5000, .fade_ms = 1},
		{.rate_hz = 8000, .wire_encoding = AS_PCMU, .fade_ms = 100, .behind_ms = 1000},
	};
	for (size_t i = 0; i < COUNT(fine); i++) {
		as_stream *stream = NULL;
		assert_int_equal(create(fine[i], &stream), 0);
		done(stream);
	}
}

static void test_names(void **state)
{
	(void)state;
	char longest[AS_NAME_MAX], too_long[AS_NAME_MAX + 1];
	const as_config config = {.rate_hz = RATE};
	as_stream *stream = NULL;
	as_info info;
	memset(longest, 'x', sizeof(longest));
	longest[AS_NAME_MAX - 1] = 0;
	memset(too_long, 'x', sizeof(too_long));
	too_long[AS_NAME_MAX] = 0;
	const char *const wrong[] = {NULL, "", too_long};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(as_stream_create(wrong[i], "main", &config, &stream), AS_EINVAL);
		assert_int_equal(as_stream_create("uuid", wrong[i], &config, &stream), AS_EINVAL);
	}
	assert_int_equal(as_stream_create("uuid", "main", NULL, &stream), AS_EINVAL);
	assert_int_equal(as_stream_create("uuid", "main", &config, NULL), AS_EINVAL);
	assert_null(stream);
	assert_int_equal(as_stream_create(longest, longest, &config, &stream), 0);
	as_stream_info(stream, &info);
	assert_string_equal(info.uuid, longest);
	assert_string_equal(info.id, longest);
	done(stream);
}

static void test_a_closed_stream(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	int16_t frame[FRAME] = {0};
	inject_signal(stream, 1, 0, 1000);
	tick_expect(stream, FRAME, 0, FRAME);
	assert_int_equal(as_stream_closed(stream), 0);
	as_stream_close(stream);
	as_stream_close(stream);
	assert_int_equal(as_stream_closed(stream), 1);
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, RATE, frame, 2), AS_ECLOSED);
	assert_int_equal(as_inject_end(stream, 1), AS_ECLOSED);
	assert_int_equal(as_capture_read(stream, frame, sizeof(frame), 1000), AS_ECLOSED);
	assert_int_equal(as_host_capture(stream, frame, FRAME), 0);
	tick_left_alone(stream, FRAME);
	assert_int_equal(mark_of(stream, 1).played, FRAME); /* what was heard can still be asked for */
	assert_int_equal(stats_of(stream).inject_played_samples, FRAME);
	assert_int_equal(stats_of(stream).capture_ticks, 0);
	as_stream_unref(stream);
	as_stream_unref(NULL);
}

static void test_references(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	assert_ptr_equal(as_stream_ref(stream), stream);
	as_stream_unref(stream);
	as_stream_close(stream);
	assert_int_equal(as_stream_closed(stream), 1); /* the first reference still holds it */
	as_stream_unref(stream);
}

static void test_pause_takes_directions(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	const int wrong[] = {0, -1, 4, AS_CAPTURE | 4};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		assert_int_equal(as_stream_pause(stream, wrong[i]), AS_EINVAL);
		assert_int_equal(as_stream_resume(stream, wrong[i]), AS_EINVAL);
	}
	assert_int_equal(as_stream_pause(stream, AS_CAPTURE), 0);
	assert_int_equal(stats_of(stream).capture_paused, 1);
	assert_int_equal(stats_of(stream).inject_paused, 0);
	assert_int_equal(as_stream_pause(stream, AS_INJECT), 0);
	assert_int_equal(as_stream_resume(stream, AS_CAPTURE), 0);
	assert_int_equal(stats_of(stream).capture_paused, 0);
	assert_int_equal(stats_of(stream).inject_paused, 1);
	assert_int_equal(as_stream_resume(stream, AS_CAPTURE | AS_INJECT), 0);
	assert_int_equal(stats_of(stream).inject_paused, 0);
	done(stream);
}

/* ---- Snapshots beside a host at work ----------------------------------------------------------------------------- */

#define FRAMES 100000

/* Each frame captured is stored, dropped or paused; each frame injected is played, or silence in an underrun. */
static void *host(void *arg)
{
	as_stream *stream = arg;
	int16_t frame[FRAME] = {0};
	for (int i = 0; i < FRAMES; i++) {
		as_host_capture(stream, frame, FRAME);
		as_host_inject(stream, frame, FRAME);
	}
	return NULL;
}

static void check_snapshot(const as_stats *stats)
{
	assert_int_equal(stats->capture_samples + stats->capture_dropped_samples + stats->capture_paused_samples,
					 stats->capture_ticks * FRAME);
	assert_int_equal(stats->inject_played_samples + stats->inject_underrun_samples, stats->inject_ticks * FRAME);
	assert_true(stats->capture_overruns <= stats->capture_ticks);
	assert_true(stats->inject_underruns <= stats->inject_ticks);
	assert_true(stats->inject_played_samples + stats->inject_flushed_samples <= stats->inject_written_samples);
}

static void test_snapshots_are_of_one_moment(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.capture_ms = 2000});
	int16_t frame[FRAME] = {0};
	pthread_t thread;
	as_stats stats;
	inject_signal(stream, 1, 0, FRAME);
	assert_int_equal(pthread_create(&thread, NULL, host, stream), 0);
	for (int i = 0;; i++) {
		as_inject_write(stream, 1, 0, AS_S16, RATE, frame, sizeof(frame));
		(i % 3 ? as_stream_resume : as_stream_pause)(stream, AS_CAPTURE);
		as_capture_read(stream, frame, sizeof(frame), 0);
		as_stream_stats(stream, &stats);
		check_snapshot(&stats);
		if (stats.inject_ticks == FRAMES) {
			break;
		}
	}
	pthread_join(thread, NULL);
	done(stream);
}

/* ---- Tools ------------------------------------------------------------------------------------------------------- */

static void test_every_error_says_what_it_is(void **state)
{
	(void)state;
	for (int error = AS_EBUSY; error <= 0; error++) {
		assert_string_not_equal(as_strerror(error), "unknown error");
		for (int other = AS_EBUSY; other < error; other++) {
			assert_string_not_equal(as_strerror(error), as_strerror(other));
		}
	}
	assert_string_equal(as_strerror(AS_EBUSY - 1), "unknown error");
	assert_string_equal(as_strerror(INT_MIN), "unknown error");
}

static void test_library_path_and_clock(void **state)
{
	(void)state;
	assert_non_null(strchr(as_library_path(), '/'));
	int64_t before = as_now_ns();
	sleep_ms(5);
	int64_t took = as_now_ns() - before;
	assert_true(took >= 5000000 && took < 1000000000);
}

static void test_what_a_call_cannot_be_streamed_for(void **state)
{
	(void)state;
	static const struct {
		as_config config;
		const char *reason;
	} cases[] = {
		{{.rate_hz = 0}, "the call's audio has no sample rate: no codec has been agreed on yet"},
		{{.rate_hz = 96000}, "the sample rate of the call's codec, in Hz, is 96000 but must be 8000 to 48000"},
		{{.rate_hz = 8000, .app_rate_hz = 4000}, "the sample rate asked for, in Hz, is 4000 but must be 8000 to 48000"},
		{{.rate_hz = 8000, .frame_ms = 150},
		 "the length of the call's packets (ptime), in ms, is 150 but must be 5 to 120"},
		{{.rate_hz = 8000, .frame_ms = 2}, "the length of the call's packets (ptime), in ms, is 2 but"},
		{{.rate_hz = 8000, .channels = 3}, "the number of channels is 3 but must be 1 to 2"},
		{{.rate_hz = 8000, .fade_ms = 101}, "the fade, in ms, is 101"},
	};
	char error[200], small[4];
	as_stream *stream = NULL;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(as_config_check(&cases[i].config, error, sizeof(error)), AS_EINVAL);
		assert_int_equal(strncmp(error, cases[i].reason, strlen(cases[i].reason)), 0);
		assert_int_equal(as_stream_create("u", "s", &cases[i].config, &stream), AS_EINVAL);
	}
	assert_int_equal(as_config_check(&cases[0].config, small, sizeof(small)), AS_EINVAL);
	assert_string_equal(small, "the");
	assert_int_equal(as_config_check(&(as_config){.rate_hz = 8000}, error, sizeof(error)), 0);
}

/* Its tail is still in the resampler, and there is no room for that. */
static void test_an_item_ends_at_a_full_queue(void **state)
{
	(void)state;
	as_stream *stream = open_config((as_config){.inject_max_ms = 100});
	int16_t *in = signal_new(0, 2400), out[2 * RATE / 10];
	long written = 0;
	for (size_t n = 2400; n > 0; n -= n > 24 ? 24 : 1) { /* as much as there is room for */
		long bytes = as_inject_write(stream, 1, 0, AS_S16, 24000, in, n * 2);
		written += bytes > 0 ? bytes / 2 : 0;
	}
	assert_int_equal(as_inject_write(stream, 1, 0, AS_S16, 24000, in, 6), AS_EFULL);
	assert_int_equal(as_inject_end(stream, 1), 0);
	assert_int_equal(mark_of(stream, 1).flags, AS_MARK_ENDED);
	size_t heard = hear_all(stream, FRAME, out, COUNT(out));
	assert_in_range(heard, (size_t)written / 3 - 1, (size_t)written / 3 + 1);
	assert_int_equal(mark_of(stream, 1).flags, AS_MARK_ENDED | AS_MARK_FINISHED);
	tick_left_alone(stream, FRAME); /* what the dialplan plays is heard again */
	free(in);
	done(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_what_was_configured_is_told),
		cmocka_unit_test(test_configurations_out_of_range),
		cmocka_unit_test(test_configurations_in_range),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_a_closed_stream),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_pause_takes_directions),
		cmocka_unit_test(test_snapshots_are_of_one_moment),
		cmocka_unit_test(test_every_error_says_what_it_is),
		cmocka_unit_test(test_library_path_and_clock),
		cmocka_unit_test(test_what_a_call_cannot_be_streamed_for),
		cmocka_unit_test(test_an_item_ends_at_a_full_queue),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
