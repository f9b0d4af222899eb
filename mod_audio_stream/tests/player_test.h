/*
 * player_test.h - what tests of a player share: a clock of their own, a player with everything around it, audio.
 */
#ifndef AS_TESTS_PLAYER_TEST_H
#define AS_TESTS_PLAYER_TEST_H

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

static inline void on_event(void *arg, const char *name, json_t *body, int64_t at_ns)
{
	rig *r = arg;
	assert_true(r->events < LOG_MAX);
	snprintf(r->log[r->events].name, sizeof(r->log[0].name), "%s", name);
	r->log[r->events].body = body;
	r->log[r->events++].at_ns = at_ns;
}

static inline void on_invalid(void *arg, const char *text)
{
	rig *r = arg;
	snprintf(r->complaint, sizeof(r->complaint), "%s", text);
	r->complaints++;
}

static inline void on_checkpoint(void *arg, const char *name, int reached)
{
	rig *r = arg;
	size_t n = strlen(r->reached);
	snprintf(r->reached + n, sizeof(r->reached) - n, "%c%s", reached ? '+' : '-', name);
}

static inline void on_queued(void *arg)
{
	((rig *)arg)->moved++;
}

static inline int on_post(void *arg, void (*run)(void *arg, void *message), void *message, void (*drop)(void *message))
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	assert_true(r->post_count < (int)COUNT(r->posts));
	r->posts[r->post_count++] = (posted){run, message, drop};
	pthread_cond_signal(&r->news);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static inline void on_hold(void *arg)
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	r->held++;
	pthread_mutex_unlock(&r->lock);
}

static inline void on_release(void *arg)
{
	rig *r = arg;
	pthread_mutex_lock(&r->lock);
	r->held--;
	pthread_mutex_unlock(&r->lock);
}

static inline rig *open_rig(struct player_config config)
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

static inline rig *open_plainly(void)
{
	return open_rig((struct player_config){0});
}

static inline void close_rig(rig *r)
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
static inline posted next_post(rig *r)
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

static inline void run_post(rig *r)
{
	posted one = next_post(r);
	one.run(NULL, one.message);
}

/* Time passes: the player is asked every 20 ms, before the host takes its frame. */
static inline void pass_ms(rig *r, int ms)
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

static inline const fired *find(const rig *r, const char *name, int which)
{
	for (int i = 0; i < r->events; i++) {
		if (!strcmp(r->log[i].name, name) && which-- == 0) {
			return &r->log[i];
		}
	}
	fail_msg("no event %s", name);
	return NULL;
}

static inline int count_of(const rig *r, const char *name)
{
	int n = 0;
	for (int i = 0; i < r->events; i++) {
		n += !strcmp(r->log[i].name, name);
	}
	return n;
}

static inline long number_in(const fired *event, const char *member)
{
	json_t *value = json_object_get(event->body, member);
	assert_true(json_is_integer(value));
	return (long)json_integer_value(value);
}

static inline void expect_names(const rig *r, const char *expected)
{
	char names[LOG_MAX * 32] = "";
	for (int i = 0; i < r->events; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? " " : "", r->log[i].name);
	}
	assert_string_equal(names, expected);
}

/* ---- Audio ------------------------------------------------------------------------------------------------------- */

static inline struct player_audio raw(const void *data, size_t bytes)
{
	return (struct player_audio){WIRE_RAW_L16, RATE, 1, (uint8_t *)data, bytes, NULL};
}

/* signal_at(first...) for so many ms. */
static inline void append_ms(rig *r, uint64_t first, int ms)
{
	int16_t *samples = signal_new(first, (size_t)ms * RATE / 1000);
	struct player_audio audio = raw(samples, (size_t)ms * RATE / 1000 * 2);
	player_append(r->player, &audio);
	free(samples);
}

static inline void play_ms(rig *r, int ms, const char *checkpoint)
{
	int16_t *samples = signal_new(0, (size_t)ms * RATE / 1000);
	struct player_audio audio = raw(samples, (size_t)ms * RATE / 1000 * 2);
	player_play(r->player, &audio, checkpoint);
	free(samples);
}

static inline void expect_signal(const rig *r, size_t at, uint64_t first, size_t n)
{
	assert_true(at + n <= r->heard_samples);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(r->heard[at + i], signal_at(first + i));
	}
}

#endif
