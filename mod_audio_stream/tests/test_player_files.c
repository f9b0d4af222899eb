/* A player's bounds, and files: audio that has to wait for a decoder. */
#define _GNU_SOURCE
#include "player_test.h"

/* ---- Bounds ------------------------------------------------------------------------------------------------------ */

static void test_strict_refuses_what_goes_beyond_the_bound(void **state)
{
	(void)state;
	rig *r = open_rig((struct player_config){.limit_ms = 500, .strict = 1});
	struct player_stats stats;
	append_ms(r, 0, 400);
	append_ms(r, 3200, 200);
	append_ms(r, 4800, 300);
	player_checkpoint(r->player, "missed");
	assert_int_equal(count_of(r, "stream_buffer_overrun"), 2); /* for each that is refused */
	const fired *overrun = find(r, "stream_buffer_overrun", 0);
	assert_string_equal(json_string_value(json_object_get(overrun->body, "direction")), "inject");
	assert_int_equal(number_in(overrun, "queuedMs"), 400);
	assert_int_equal(number_in(overrun, "limitMs"), 500);
	assert_int_equal(number_in(overrun, "refusedMs"), 200);
	player_stats(r->player, &stats);
	assert_int_equal(stats.refused_ms, 500);
	pass_ms(r, 600);
	assert_int_equal(r->heard_samples, 400 * RATE / 1000);
	assert_string_equal(r->reached, "-missed");
	close_rig(r);
}

static void test_otherwise_the_bound_is_only_reported(void **state)
{
	(void)state;
	rig *r = open_rig((struct player_config){.limit_ms = 500});
	append_ms(r, 0, 400);
	append_ms(r, 3200, 200);
	append_ms(r, 4800, 200);
	assert_int_equal(count_of(r, "stream_buffer_overrun"), 1);
	assert_int_equal(number_in(find(r, "stream_buffer_overrun", 0), "queuedMs"), 600);
	pass_ms(r, 1200);
	assert_int_equal(r->heard_samples, 800 * RATE / 1000);
	close_rig(r);
}

static void test_no_more_than_20000_plays_are_kept(void **state)
{
	(void)state;
	rig *r = open_plainly();
	play_ms(r, 100, NULL);
	for (int i = 1; i < 20000; i++) {
		player_checkpoint(r->player, "");
	}
	assert_int_equal(r->complaints, 0);
	player_checkpoint(r->player, "too many");
	assert_int_equal(r->complaints, 1);
	assert_string_equal(r->complaint, "audio refused: 20000 pieces are queued already");
	pass_ms(r, 200);
	player_checkpoint(r->player, "then");
	assert_string_equal(r->reached, "-then"); /* something between was not heard */
	close_rig(r);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static struct player_audio wav_of(sound_file *file, size_t frames)
{
	*file = sound_file_make(SF_FORMAT_WAV | SF_FORMAT_PCM_16, RATE, 1, frames);
	return (struct player_audio){WIRE_FILE_WAV, 0, 0, file->data, (size_t)file->n, NULL};
}

static void test_a_file_and_what_came_after_it_are_heard_in_order(void **state)
{
	(void)state;
	sound_file file;
	rig *r = open_plainly();
	struct player_audio wav = wav_of(&file, 4000);
	player_play(r->player, &wav, "file");
	free(file.data);
	append_ms(r, 0, 60);
	player_checkpoint(r->player, "raw");
	pass_ms(r, 60);
	assert_int_equal(r->heard_samples, 0); /* the decoder has not reported */
	assert_int_equal(player_busy(r->player), 1);
	run_post(r);
	pass_ms(r, 900);
	assert_int_equal(r->heard_samples, 4480);
	for (size_t i = 0; i < 4000; i++) {
		assert_in_range(r->heard[i] - (int)lrint(32768 * sound_file_value(i, 0, 1, RATE)) + 2, 0, 4);
	}
	expect_signal(r, 4000, 0, 480);
	assert_string_equal(r->reached, "+file+raw");
	assert_int_equal(number_in(find(r, "media_play_complete", 0), "playedMs"), 500);
	close_rig(r);
}

static void test_a_broken_file_is_complained_of_and_loses_nothing_else(void **state)
{
	(void)state;
	rig *r = open_plainly();
	uint8_t broken[] = "RIFF, and not a WAV at all";
	struct player_audio wav = {WIRE_FILE_WAV, 0, 0, broken, sizeof(broken), NULL};
	player_play(r->player, &wav, "broken");
	append_ms(r, 0, 60);
	run_post(r);
	assert_int_equal(r->complaints, 1);
	pass_ms(r, 200);
	assert_int_equal(r->heard_samples, 480);
	assert_string_equal(r->reached, "-broken");
	close_rig(r);
}

static void test_a_file_that_is_not_allowed_is_complained_of(void **state)
{
	(void)state;
	rig *r = open_plainly();
	struct player_audio file = {WIRE_FILE_WAV, 0, 0, NULL, 0, strdup("/etc/hostname")};
	player_play(r->player, &file, "file");
	run_post(r);
	assert_int_equal(r->complaints, 1);
	pass_ms(r, 20);
	assert_string_equal(r->reached, "-file");
	close_rig(r);
}

static void test_a_file_that_is_being_decoded_can_be_cleared(void **state)
{
	(void)state;
	sound_file file;
	rig *r = open_plainly();
	struct player_audio wav = wav_of(&file, 4000);
	player_play(r->player, &wav, "first");
	player_clear(r->player, "server", 0);
	assert_int_equal(number_in(find(r, "media_cleared", 0), "plays"), 1);
	append_ms(r, 0, 60); /* does not wait for the decoder */
	pass_ms(r, 60);
	expect_signal(r, 0, 0, 480);
	player_play(r->player, &wav, "second"); /* does */
	free(file.data);
	run_post(r);
	run_post(r);
	pass_ms(r, 900);
	assert_int_equal(r->heard_samples, 4480);
	assert_string_equal(r->reached, "-first+second");
	close_rig(r);
}

static void test_a_decoder_may_outlive_everything_that_its_owner_runs(void **state)
{
	(void)state;
	sound_file file;
	rig *r = open_plainly();
	struct player_audio wav = wav_of(&file, 4000);
	player_play(r->player, &wav, NULL);
	free(file.data);
	posted one = next_post(r);
	assert_int_equal(r->held, 1);
	player_clear(r->player, "service stopped", 1);
	one.drop(one.message);
	assert_int_equal(r->held, 0);
	assert_int_equal(player_busy(r->player), 0);
	close_rig(r);
}

static void test_audio_that_waits_for_a_decoder_is_bounded(void **state)
{
	(void)state;
	enum { MEGABYTE = 1 << 20 };
	sound_file file;
	rig *r = open_plainly();
	uint8_t *silence = calloc(1, MEGABYTE);
	struct player_audio wav = wav_of(&file, 400), audio = raw(silence, MEGABYTE);
	player_play(r->player, &wav, NULL);
	for (int i = 0; i < 15; i++) {
		player_play(r->player, &audio, NULL);
	}
	assert_int_equal(r->complaints, 0);
	player_play(r->player, &audio, "refused");
	assert_string_equal(r->complaint, "audio refused: more than 16 MB waits to be decoded");
	run_post(r);
	player_clear(r->player, "server", 0);
	assert_string_equal(r->reached, "-refused");
	free(silence);
	free(file.data);
	close_rig(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strict_refuses_what_goes_beyond_the_bound),
		cmocka_unit_test(test_otherwise_the_bound_is_only_reported),
		cmocka_unit_test(test_no_more_than_20000_plays_are_kept),
		cmocka_unit_test(test_a_file_and_what_came_after_it_are_heard_in_order),
		cmocka_unit_test(test_a_broken_file_is_complained_of_and_loses_nothing_else),
		cmocka_unit_test(test_a_file_that_is_not_allowed_is_complained_of),
		cmocka_unit_test(test_a_file_that_is_being_decoded_can_be_cleared),
		cmocka_unit_test(test_a_decoder_may_outlive_everything_that_its_owner_runs),
		cmocka_unit_test(test_audio_that_waits_for_a_decoder_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
