/* A player without a server: what it is told to play, what the host takes of that, and what it reports. The clock
 * is ours. */
#define _GNU_SOURCE
#include "support.h"

#include "player.h"
#include "sound_file.h"

#define MS 1000000
#define LOG_MAX 64
#define HEARD_MAX 200000

/* ---- The clock --------------------------------------------------------------------------------------------------- */

static _Atomic int64_t clock_ns = 1000000000000;

int clock_gettime(clockid_t id, struct timespec *now)
{
	(void)id;
	now->tv_sec = clock_ns / 1000000000;
	now->tv_nsec = clock_ns % 1000000000;
	return 0;
}

/* ---- A player and everything around it --------------------------------------------------------------------------- */

typedef struct posted {
	void (*run)(void *arg, void *message);
	void *message;
	void (*drop)(void *message);
} posted;

typedef struct fired {
	char name[32];
	json_t *body;
	int64_t at_ns;
} fired;

typedef struct rig {
	as_stream *stream;
	struct player *player;
	fired log[LOG_MAX];
	int events;
	char complaint[256]; /* the latest */
	int complaints, moved;
	char reached[256]; /* checkpoints: "+name" or "-name", in order */
	int16_t heard[HEARD_MAX];
	size_t heard_samples;
	/* Any thread, under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t news;
	posted posts[8];
	int post_count, held;
} rig;

static void on_event(void *arg, const char *name, json_t *body, int64_t at_ns)
{
	rig *r = arg;
	assert_true(r->events < LOG_MAX);
	snprintf(r->log[r->events].name, sizeof(r->log[0].name), "%s", name);
	r->log[r->events].body = body;
	r->log[r->events++].at_ns = at_ns;
}

static void on_invalid(void *arg, const char *text)
{
	rig *r = arg;
	snprintf(r->complaint, sizeof(r->complaint), "%s", text);
	r->complaints++;
}

static void on_checkpoint(void *arg, const char *name, int reached)
{
	rig *r = arg;
	size_t n = strlen(r->reached);
	snprintf(r->reached + n, sizeof(r->reached) - n, "%c%s", reached ? '+' : '-', name);
}

static void on_queued(void *arg)
{
	((rig *)arg)->moved++;
}

static int on_post(void *arg, void (*run)(void *arg, void *message), void *message, void (*drop)(void *message))
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	assert_true(r->post_count < (int)COUNT(r->posts));
	r->posts[r->post_count++] = (posted){run, message, drop};
	pthread_cond_signal(&r->news);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static void on_hold(void *arg)
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	r->held++;
	pthread_mutex_unlock(&r->lock);
}

static void on_release(void *arg)
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	r->held--;
	pthread_mutex_unlock(&r->lock);
}

static rig *open_rig(struct player_config config)
{
	rig *r = calloc(1, sizeof(*r));
	const struct player_outlets outlets = {
		r, on_event, on_invalid, on_checkpoint, on_queued, on_post, on_hold, on_release,
	};
	config.limit_ms = config.limit_ms ? config.limit_ms : 600000;
	config.file_dir = "";
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->news, NULL);
	r->stream = open_plain();
	assert_int_equal(player_alloc(&r->player, r->stream, &config, &outlets), 0);
	return r;
}

static rig *open_plainly(void)
{
	return open_rig((struct player_config){0});
}

static void close_rig(rig *r)
{
	assert_int_equal(r->held, 0);
	player_free(r->player);
	for (int i = 0; i < r->events; i++) {
		json_decref(r->log[i].body);
	}
	done(r->stream);
	pthread_cond_destroy(&r->news);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* A decoder's message, once there is one. */
static posted next_post(rig *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->post_count) {
		pthread_cond_wait(&r->news, &r->lock);
	}
	posted first = r->posts[0];
	memmove(r->posts, r->posts + 1, (size_t)--r->post_count * sizeof(first));
	pthread_mutex_unlock(&r->lock);
	return first;
}

static void run_post(rig *r)
{
	posted one = next_post(r);
	one.run(NULL, one.message);
}

/* Time passes: the player is asked every 20 ms, before the host takes its frame. */
static void pass_ms(rig *r, int ms)
{
	int16_t frame[FRAME];
	for (int i = 0; i < ms; i += 20) {
		player_tick(r->player, clock_ns);
		int n = tick(r->stream, frame, FRAME);
		if (n > 0) {
			assert_true(r->heard_samples + (size_t)n <= HEARD_MAX);
			memcpy(r->heard + r->heard_samples, frame, (size_t)n * sizeof(*frame));
			r->heard_samples += (size_t)n;
		}
		clock_ns += 20 * MS;
		player_tick(r->player, clock_ns);
	}
}

static const fired *find(const rig *r, const char *name, int which)
{
	for (int i = 0; i < r->events; i++) {
		if (!strcmp(r->log[i].name, name) && which-- == 0) {
			return &r->log[i];
		}
	}
	fail_msg("no event %s", name);
	return NULL;
}

static int count_of(const rig *r, const char *name)
{
	int n = 0;
	for (int i = 0; i < r->events; i++) {
		n += !strcmp(r->log[i].name, name);
	}
	return n;
}

static long number_in(const fired *event, const char *member)
{
	json_t *value = json_object_get(event->body, member);
	assert_true(json_is_integer(value));
	return (long)json_integer_value(value);
}

static void expect_names(const rig *r, const char *expected)
{
	char names[LOG_MAX * 32] = "";
	for (int i = 0; i < r->events; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? " " : "", r->log[i].name);
	}
	assert_string_equal(names, expected);
}

/* ---- Audio ------------------------------------------------------------------------------------------------------- */

static struct player_audio raw(const void *data, size_t bytes)
{
	return (struct player_audio){WIRE_RAW_L16, RATE, 1, (uint8_t *)data, bytes, NULL};
}

/* signal_at(first...) for so many ms. */
static void append_ms(rig *r, uint64_t first, int ms)
{
	int16_t *samples = signal_new(first, (size_t)ms * RATE / 1000);
	struct player_audio audio = raw(samples, (size_t)ms * RATE / 1000 * 2);
	player_append(r->player, &audio);
	free(samples);
}

static void play_ms(rig *r, int ms, const char *checkpoint)
{
	int16_t *samples = signal_new(0, (size_t)ms * RATE / 1000);
	struct player_audio audio = raw(samples, (size_t)ms * RATE / 1000 * 2);
	player_play(r->player, &audio, checkpoint);
	free(samples);
}

static void expect_signal(const rig *r, size_t at, uint64_t first, size_t n)
{
	assert_true(at + n <= r->heard_samples);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(r->heard[at + i], signal_at(first + i));
	}
}

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
