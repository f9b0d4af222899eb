/* A player without a server: what it is told to play, what the host takes of that, and what it reports. */
#define _GNU_SOURCE
#include "player_test.h"

/* ---- Pieces ------------------------------------------------------------------------------------------------------ */

static void test_pieces_cut_inside_samples_are_heard_whole(void **state)
{
	(void)state;
	static const size_t sizes[] = {333, 1, 1, 7, 500, 3, 1155};
	rig *r = open_plainly();
	int16_t *samples = signal_new(0, 1000);
	size_t at = 0;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct player_audio piece = raw((uint8_t *)samples + at, sizes[i]);
		player_append(r->player, &piece);
		at += sizes[i];
	}
	assert_int_equal(at, 2000);
	pass_ms(r, 600);
	assert_int_equal(r->heard_samples, 1000);
	expect_signal(r, 0, 0, 1000);
	expect_names(r, "media_play_start media_play_complete");
	assert_int_equal(number_in(find(r, "media_play_complete", 0), "playedMs"), 125);
	assert_int_equal(player_busy(r->player), 0);
	free(samples);
	close_rig(r);
}

static void test_two_channels_are_mixed_wherever_they_are_cut(void **state)
{
	(void)state;
	rig *r = open_plainly();
	int16_t both[800];
	for (size_t i = 0; i < 400; i++) {
		both[2 * i] = signal_at(i);
		both[2 * i + 1] = (int16_t)(signal_at(i) + 2);
	}
	for (size_t at = 0; at < sizeof(both); at += 3) {
		size_t n = sizeof(both) - at < 3 ? sizeof(both) - at : 3;
		struct player_audio piece = {WIRE_RAW_L16, RATE, 2, (uint8_t *)both + at, n, NULL};
		player_append(r->player, &piece);
	}
	pass_ms(r, 400);
	assert_int_equal(r->heard_samples, 400);
	for (size_t i = 0; i < 400; i++) {
		assert_int_equal(r->heard[i], signal_at(i) + 1);
	}
	close_rig(r);
}

static void test_half_a_sample_ends_with_its_checkpoint(void **state)
{
	(void)state;
	rig *r = open_plainly();
	int16_t *samples = signal_new(0, 161);
	struct player_audio audio = raw(samples, 321);
	player_play(r->player, &audio, "end");
	append_ms(r, 500, 20);
	pass_ms(r, 100);
	assert_int_equal(r->heard_samples, 320);
	expect_signal(r, 0, 0, 160);
	expect_signal(r, 160, 500, 160);
	free(samples);
	close_rig(r);
}

static void test_other_rates_and_encodings_keep_their_length(void **state)
{
	(void)state;
	static uint8_t bytes[9600];
	static const struct player_audio kinds[] = {
		{WIRE_RAW_L16, 24000, 1, bytes, 9600, NULL},
		{WIRE_RAW_L16, 48000, 2, bytes, 9600, NULL},
		{WIRE_RAW_ULAW, 8000, 1, bytes, 1600, NULL},
		{WIRE_RAW_ALAW, 8000, 1, bytes, 1600, NULL},
	};
	static const int lengths_ms[] = {200, 50, 200, 200};
	rig *r = open_plainly();
	for (size_t i = 0; i < COUNT(kinds); i++) {
		player_play(r->player, &kinds[i], NULL);
	}
	pass_ms(r, 1200);
	for (int i = 0; i < (int)COUNT(kinds); i++) {
		const fired *end = find(r, "media_play_complete", i);
		assert_int_equal(number_in(end, "playId"), i + 1);
		assert_in_range(number_in(end, "playedMs"), lengths_ms[i] - 1, lengths_ms[i] + 1);
	}
	close_rig(r);
}

static void test_long_audio_is_queued_slice_by_slice(void **state)
{
	(void)state;
	rig *r = open_plainly();
	play_ms(r, 5000, "end");
	assert_in_range(stats_of(r->stream).inject_queued_samples, RATE / 20, RATE / 5);
	append_ms(r, 7, 20); /* waits behind it */
	pass_ms(r, 200);
	assert_true(stats_of(r->stream).inject_queued_samples > RATE);
	assert_true(r->moved > 1);
	pass_ms(r, 5400);
	assert_int_equal(r->heard_samples, 5020 * RATE / 1000);
	expect_signal(r, 0, 0, 5 * RATE);
	expect_signal(r, 5 * RATE, 7, FRAME);
	assert_string_equal(r->reached, "+end");
	close_rig(r);
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */

static void test_checkpoints_come_in_order_once_all_before_them_was_heard(void **state)
{
	(void)state;
	rig *r = open_plainly();
	play_ms(r, 100, "a");
	player_checkpoint(r->player, "b");
	play_ms(r, 60, NULL);
	player_checkpoint(r->player, "c");
	pass_ms(r, 80);
	assert_string_equal(r->reached, "");
	expect_names(r, "media_play_start");
	pass_ms(r, 40);
	assert_string_equal(r->reached, "+a+b");
	pass_ms(r, 100);
	assert_string_equal(r->reached, "+a+b+c");
	expect_names(r, "media_play_start media_play_complete media_checkpoint media_checkpoint "
					"media_play_start media_play_complete media_checkpoint");
	const fired *end = find(r, "media_play_complete", 0);
	assert_int_equal(number_in(end, "playedMs"), 100);
	assert_int_equal(end->at_ns - find(r, "media_play_start", 0)->at_ns, 100 * (int64_t)MS);
	close_rig(r);
}

static void test_a_checkpoint_behind_nothing_is_reached_at_once(void **state)
{
	(void)state;
	rig *r = open_plainly();
	player_checkpoint(r->player, "now");
	assert_string_equal(r->reached, "+now");
	assert_true(json_is_true(json_object_get(find(r, "media_checkpoint", 0)->body, "reached")));
	close_rig(r);
}

/* ---- Clear ------------------------------------------------------------------------------------------------------- */

static void test_a_clear_says_to_the_millisecond_what_was_heard(void **state)
{
	(void)state;
	rig *r = open_plainly();
	play_ms(r, 1000, "never");
	play_ms(r, 500, NULL);
	pass_ms(r, 200);
	player_clear(r->player, "server", 0);
	expect_names(r, "media_play_start media_cleared media_checkpoint");
	const fired *cut = find(r, "media_cleared", 0);
	assert_int_equal(number_in(cut, "playId"), 1);
	assert_int_equal(number_in(cut, "plays"), 2);
	assert_int_equal(number_in(cut, "playedMs"), 210); /* with the fade */
	assert_int_equal(number_in(cut, "clearedMs"), 1290);
	assert_string_equal(json_string_value(json_object_get(cut->body, "reason")), "server");
	assert_string_equal(r->reached, "-never");
	assert_int_equal(player_busy(r->player), 0);
	play_ms(r, 20, "next");
	pass_ms(r, 60);
	assert_string_equal(r->reached, "-never+next");
	close_rig(r);
}

static void test_a_play_heard_in_full_before_a_clear_is_complete(void **state)
{
	(void)state;
	int16_t frame[FRAME];
	rig *r = open_plainly();
	play_ms(r, 20, "heard");
	assert_int_equal(tick(r->stream, frame, FRAME), FRAME);
	player_clear(r->player, "server", 1);
	expect_names(r, "media_play_start media_play_complete media_checkpoint");
	assert_string_equal(r->reached, "+heard");
	close_rig(r);
}

static void test_a_flush_by_another_is_reported_as_one(void **state)
{
	(void)state;
	int cut = 0;
	rig *r = open_plainly();
	play_ms(r, 100, "lost");
	pass_ms(r, 40);
	as_inject_flush(r->stream, NULL, 0, &cut);
	pass_ms(r, 200);
	const fired *event = find(r, "media_cleared", 0);
	assert_string_equal(json_string_value(json_object_get(event->body, "reason")), "flush");
	assert_int_equal(number_in(event, "playedMs"), 50);
	assert_int_equal(number_in(event, "clearedMs"), 50);
	assert_string_equal(r->reached, "-lost");
	close_rig(r);
}

static void test_a_clear_of_nothing_is_reported_unless_it_is_quiet(void **state)
{
	(void)state;
	rig *r = open_plainly();
	player_clear(r->player, "stop", 1);
	expect_names(r, "");
	player_clear(r->player, "server", 0);
	assert_int_equal(number_in(find(r, "media_cleared", 0), "plays"), 0);
	close_rig(r);
}

/* ---- Prebuffer and utterances ------------------------------------------------------------------------------------ */

static void test_nothing_plays_before_the_prebuffer_is_there(void **state)
{
	(void)state;
	rig *r = open_rig((struct player_config){.prebuffer_ms = 100});
	struct player_stats stats;
	player_stats(r->player, &stats);
	assert_int_equal(stats.prebuffer_ms, 100);
	append_ms(r, 0, 60);
	pass_ms(r, 20);
	assert_int_equal(r->heard_samples, 0);
	append_ms(r, 480, 60);
	pass_ms(r, 20);
	assert_int_equal(r->heard_samples, FRAME);
	pass_ms(r, 400);
	expect_signal(r, 0, 0, 960);
	close_rig(r);
}

static void test_an_adaptive_prebuffer_grows_after_an_underrun(void **state)
{
	(void)state;
	rig *r = open_rig((struct player_config){.adaptive = 1, .jitter = {20, 200, 5, 0.1}});
	struct player_stats before, after;
	player_stats(r->player, &before);
	assert_int_equal(before.prebuffer_ms, 20);
	for (uint64_t i = 0; i < 5; i++) {
		append_ms(r, i * FRAME, 20);
		pass_ms(r, 80);
	}
	player_stats(r->player, &after);
	assert_true(after.prebuffer_ms > before.prebuffer_ms);
	assert_true(after.underruns > 0);
	close_rig(r);
}

static void test_running_dry_within_an_utterance_is_an_underrun(void **state)
{
	(void)state;
	rig *r = open_plainly();
	struct player_stats stats;
	append_ms(r, 0, 40);
	pass_ms(r, 140);
	assert_int_equal(count_of(r, "stream_buffer_underrun"), 0); /* nobody knows yet that more comes */
	append_ms(r, 320, 40);
	pass_ms(r, 400);
	assert_int_equal(number_in(find(r, "stream_buffer_underrun", 0), "gapMs"), 100);
	player_stats(r->player, &stats);
	assert_int_equal(stats.underruns, 1);
	assert_int_equal(stats.underrun_ms, 100);
	assert_int_equal(number_in(find(r, "media_play_complete", 0), "playedMs"), 80); /* one play */
	assert_int_equal(count_of(r, "media_play_start"), 1);
	close_rig(r);
}

static void test_a_pause_begins_a_new_utterance(void **state)
{
	(void)state;
	rig *r = open_plainly();
	append_ms(r, 0, 40);
	pass_ms(r, 220);
	assert_int_equal(player_busy(r->player), 1);
	pass_ms(r, 60);
	assert_int_equal(player_busy(r->player), 0);
	append_ms(r, 320, 40);
	pass_ms(r, 400);
	assert_int_equal(count_of(r, "stream_buffer_underrun"), 0);
	assert_int_equal(number_in(find(r, "media_play_complete", 1), "playId"), 2);
	close_rig(r);
}

static void test_queued_audio_is_reported_at_once_and_then_once_a_second(void **state)
{
	(void)state;
	rig *r = open_rig((struct player_config){.queued = "play"});
	for (uint64_t i = 0; i < 120; i++) {
		append_ms(r, i * FRAME, 20);
		pass_ms(r, 20);
	}
	pass_ms(r, 400);
	long ms = 0;
	for (int i = 0; i < count_of(r, "play"); i++) {
		assert_int_equal(number_in(find(r, "play", i), "playId"), 1);
		ms += number_in(find(r, "play", i), "ms");
	}
	assert_int_equal(count_of(r, "play"), 4); /* 0 s, 1 s, 2 s, and the rest at its end */
	assert_int_equal(number_in(find(r, "play", 0), "ms"), 20);
	assert_int_equal(ms, 2400);
	close_rig(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_cut_inside_samples_are_heard_whole),
		cmocka_unit_test(test_two_channels_are_mixed_wherever_they_are_cut),
		cmocka_unit_test(test_half_a_sample_ends_with_its_checkpoint),
		cmocka_unit_test(test_other_rates_and_encodings_keep_their_length),
		cmocka_unit_test(test_long_audio_is_queued_slice_by_slice),
		cmocka_unit_test(test_checkpoints_come_in_order_once_all_before_them_was_heard),
		cmocka_unit_test(test_a_checkpoint_behind_nothing_is_reached_at_once),
		cmocka_unit_test(test_a_clear_says_to_the_millisecond_what_was_heard),
		cmocka_unit_test(test_a_play_heard_in_full_before_a_clear_is_complete),
		cmocka_unit_test(test_a_flush_by_another_is_reported_as_one),
		cmocka_unit_test(test_a_clear_of_nothing_is_reported_unless_it_is_quiet),
		cmocka_unit_test(test_nothing_plays_before_the_prebuffer_is_there),
		cmocka_unit_test(test_an_adaptive_prebuffer_grows_after_an_underrun),
		cmocka_unit_test(test_running_dry_within_an_utterance_is_an_underrun),
		cmocka_unit_test(test_a_pause_begins_a_new_utterance),
		cmocka_unit_test(test_queued_audio_is_reported_at_once_and_then_once_a_second),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
