/* support.h - what the tests share. Include it first in each cmocka program. */
#ifndef AS_TESTS_SUPPORT_H
#define AS_TESTS_SUPPORT_H

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "audio_stream.h"
#include "fade.h"
#include "rng.h"

#define RATE 8000 /* of streams whose rate does not matter */
#define FRAME 160 /* samples in 20 ms of it */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline void sleep_ms(int ms)
{
	struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&wait, NULL);
}

/* A stream of its own name at RATE unless the configuration says otherwise. */
static inline as_stream *open_config(as_config config)
{
	static int number;
	char uuid[32];
	as_stream *stream = NULL;
	snprintf(uuid, sizeof(uuid), "test-%d", number++);
	if (!config.rate_hz) {
		config.rate_hz = RATE;
	}
	assert_int_equal(as_stream_create(uuid, "main", &config, &stream), 0);
	return stream;
}

static inline as_stream *open_plain(void)
{
	return open_config((as_config){.rate_hz = RATE});
}

static inline void done(as_stream *stream)
{
	as_stream_close(stream);
	as_stream_unref(stream);
}

static inline as_stats stats_of(as_stream *stream)
{
	as_stats stats;
	as_stream_stats(stream, &stats);
	return stats;
}

static inline as_mark mark_of(as_stream *stream, uint64_t id)
{
	as_mark mark = {0};
	assert_int_equal(as_inject_mark(stream, id, &mark), 0);
	return mark;
}

/* Sample number i of a test signal: never 0, never LEFT_ALONE, and its neighbours differ. */
static inline int16_t signal_at(uint64_t i)
{
	return (int16_t)(i * 7919 % 30000 + 1000);
}

static inline int16_t *signal_new(uint64_t first, size_t n)
{
	int16_t *samples = malloc((n + 1) * sizeof(int16_t));
	for (size_t i = 0; i < n; i++) {
		samples[i] = signal_at(first + i);
	}
	return samples;
}

/* Queues signal_at(first..first + n) at the host's rate under a mark of the present generation. */
static inline void inject_signal(as_stream *stream, uint64_t mark, uint64_t first, size_t n)
{
	as_info info;
	int16_t *samples = signal_new(first, n);
	as_stream_info(stream, &info);
	assert_int_equal(as_inject_write(stream, mark, 0, AS_S16, info.rate_hz, samples, n * 2), n * 2);
	free(samples);
}

#define LEFT_ALONE ((int16_t)-12345)

/* One host tick of n samples. Returns how many samples it played (the silence after them does not count), -1 when the
 * frame was left alone. */
static inline int tick(as_stream *stream, int16_t *frame, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		frame[i] = LEFT_ALONE;
	}
	size_t owned = as_host_inject(stream, frame, n);
	if (owned == 0) {
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(frame[i], LEFT_ALONE);
		}
		return -1;
	}
	assert_int_equal(owned, n);
	size_t played = n;
	while (played > 0 && frame[played - 1] == 0) {
		played--;
	}
	return (int)played;
}

/* Ticks once and expects signal_at(first..first + n), then silence, in a frame of `frame_samples`. */
static inline void tick_expect(as_stream *stream, size_t frame_samples, uint64_t first, size_t n)
{
	int16_t frame[4096];
	assert_int_equal(tick(stream, frame, frame_samples), n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(frame[i], signal_at(first + i));
	}
}

static inline void tick_left_alone(as_stream *stream, size_t frame_samples)
{
	int16_t frame[4096];
	assert_int_equal(tick(stream, frame, frame_samples), -1);
}

/* Ticks once and expects signal_at(first..first + length) fading out, then silence. */
static inline void tick_expect_fade(as_stream *stream, size_t frame_samples, uint64_t first, size_t length)
{
	int16_t frame[4096];
	assert_true(tick(stream, frame, frame_samples) >= 0);
	assert_int_equal(frame[0], signal_at(first));
	for (size_t i = 0; i < frame_samples; i++) {
		assert_true(is_faded(frame[i], i < length ? signal_at(first + i) : 0, i, length));
	}
}

/* Ticks until the stream has nothing more to say; what was heard goes to out (room for `most`). Returns samples. */
static inline size_t hear_all(as_stream *stream, size_t frame_samples, int16_t *out, size_t most)
{
	int16_t frame[4096];
	size_t heard = 0;
	for (int n; (n = tick(stream, frame, frame_samples)) >= 0;) {
		assert_true(heard + (size_t)n <= most);
		memcpy(out + heard, frame, (size_t)n * sizeof(int16_t));
		heard += (size_t)n;
	}
	return heard;
}

/* Samples of a sine of the given frequency. */
static inline int16_t *sine_new(double hz, int rate_hz, double amplitude, size_t n)
{
	int16_t *samples = malloc((n + 1) * sizeof(int16_t));
	for (size_t i = 0; i < n; i++) {
		samples[i] = (int16_t)lrint(amplitude * sin(2 * M_PI * hz * (double)i / rate_hz));
	}
	return samples;
}

#endif
