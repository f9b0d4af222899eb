#define _GNU_SOURCE
#include "activity.h"

#include "support.h"

static uint32_t seed = 7;

static void noise_frame(int16_t *frame, int peak)
{
	for (int i = 0; i < FRAME; i++) {
		frame[i] = (int16_t)((int)(next_random(&seed) % (uint32_t)(2 * peak + 1)) - peak);
	}
}

/* Share of n noise frames taken for speech. */
static double share_of_speech(as_activity *activity, int peak, int n)
{
	int16_t frame[FRAME];
	int speech = 0;
	for (int i = 0; i < n; i++) {
		noise_frame(frame, peak);
		speech += as_activity_frame(activity, frame, FRAME);
	}
	return (double)speech / n;
}

static as_activity fresh(void)
{
	as_activity activity;
	as_activity_init(&activity);
	return activity;
}

static void test_silence_is_none(void **state)
{
	(void)state;
	int16_t zeros[FRAME] = {0};
	as_activity activity = fresh();
	for (int i = 0; i < 500; i++) {
		assert_int_equal(as_activity_frame(&activity, zeros, FRAME), 0);
	}
	assert_int_equal(as_activity_frame(&activity, zeros, 0), 0);
	assert_true(share_of_speech(&activity, 60, 500) == 0); /* the hiss of a quiet line */
}

static void test_speech_is_seen_in_its_first_frame(void **state)
{
	(void)state;
	as_activity activity = fresh();
	assert_true(share_of_speech(&activity, 60, 100) == 0);
	assert_true(share_of_speech(&activity, 3000, 1) == 1);
	assert_true(share_of_speech(&activity, 60, 10) == 0);
}

/* A whole sentence of quiet speech stays speech: the floor must not catch up with it. */
static void test_a_sentence_is_not_a_floor(void **state)
{
	(void)state;
	as_activity activity = fresh();
	assert_true(share_of_speech(&activity, 1000, 250) == 1);
}

static void test_steady_noise_becomes_the_floor(void **state)
{
	(void)state;
	as_activity activity = fresh();
	share_of_speech(&activity, 1000, 3000); /* a minute in a car */
	assert_true(share_of_speech(&activity, 1000, 200) == 0);
	assert_true(share_of_speech(&activity, 8000, 10) == 1); /* who speaks over it is still seen */
	assert_true(share_of_speech(&activity, 60, 20) == 0);   /* and when the car stops the floor comes down at once */
	assert_true(share_of_speech(&activity, 1000, 1) == 1);
}

static void test_loud_is_always_speech(void **state)
{
	(void)state;
	as_activity activity = fresh();
	int16_t loudest[FRAME];
	for (int i = 0; i < FRAME; i++) {
		loudest[i] = INT16_MIN;
	}
	assert_true(share_of_speech(&activity, 12000, 20000) == 1);
	assert_int_equal(as_activity_frame(&activity, loudest, FRAME), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silence_is_none),           cmocka_unit_test(test_speech_is_seen_in_its_first_frame),
		cmocka_unit_test(test_a_sentence_is_not_a_floor), cmocka_unit_test(test_steady_noise_becomes_the_floor),
		cmocka_unit_test(test_loud_is_always_speech),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
