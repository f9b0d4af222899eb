/*
 * stress_lifecycle.c - many threads opening, finding, using and closing the same few streams.
 *
 * Whoever opens a stream is its host for a while; everybody else finds it and does whatever an application may do, at
 * any time, also while it is being closed. Nothing may be answered that the header does not say; the sanitizers see the
 * rest.
 */
#define _GNU_SOURCE
#include "stress.h"

#define THREADS 6
#define NAMES 3
#define FRAME 160

static _Atomic long created, found;

static void name_of(int which, char *id, size_t bytes)
{
	snprintf(id, bytes, "stream-%d", which);
}

static void host(int which, uint32_t *seed)
{
	char id[32];
	int16_t frame[FRAME] = {0};
	const as_config config = {.rate_hz = 8000, .capture_ms = 200, .inject_max_ms = 500};
	as_stream *stream = NULL, *second = NULL;
	name_of(which, id, sizeof(id));
	int error = as_stream_create("stress", id, &config, &stream);
	if (error) {
		CHECK(error == AS_EEXIST && !stream, "%s", as_strerror(error));
		return;
	}
	atomic_fetch_add(&created, 1);
	for (size_t ticks = random_upto(seed, 50); ticks > 0; ticks--) {
		frame[0] = (int16_t)next_random(seed);
		as_host_capture(stream, frame, FRAME);
		as_host_inject(stream, frame, FRAME);
		dawdle(seed, 500);
	}
	error = as_stream_create("stress", id, &config, &second);
	CHECK(error == AS_EEXIST || (error == 0 && as_stream_closed(stream)), "%s", as_strerror(error));
	if (next_random(seed) % 2) {
		as_stream_close(stream); /* or leave it to the last reference */
	}
	as_stream_unref(stream);
	as_stream_unref(second);
}

static int one_of(long result, int a, int b, int c)
{
	return result >= 0 || result == AS_ECLOSED || result == a || result == b || result == c;
}

static void inject(as_stream *stream, uint32_t *seed)
{
	static const int rates[] = {8000, 16000, 24000};
	int16_t samples[480] = {0};
	uint64_t id = next_random(seed) % 8;
	uint32_t generation = next_random(seed) % 2 ? 0 : as_inject_generation(stream);
	size_t bytes = random_upto(seed, sizeof(samples));
	long result = as_inject_write(stream, id, generation, AS_S16, rates[id % 3], samples, bytes);
	CHECK(one_of(result, AS_EFULL, AS_ESTALE, 0), "write: %s", as_strerror((int)result));
	if (next_random(seed) % 3 == 0) {
		result = as_inject_end(stream, id);
		CHECK(one_of(result, AS_EFULL, 0, 0), "end: %s", as_strerror((int)result));
	}
}

static void look(as_stream *stream, uint32_t *seed)
{
	as_info infos[NAMES + 1];
	as_stats stats;
	as_mark mark;
	int count = as_stream_list("stress", infos, NAMES + 1);
	CHECK(count >= 0 && count <= NAMES, "%d streams", count);
	CHECK(as_stream_list(NULL, infos, 1) <= NAMES, "too many streams");
	as_stream_stats(stream, &stats);
	uint64_t given = stats.capture_samples + stats.capture_dropped_samples + stats.capture_paused_samples;
	uint64_t gone = stats.inject_played_samples + stats.inject_flushed_samples;
	CHECK(given == stats.capture_ticks * FRAME, "capture counters");
	CHECK(gone <= stats.inject_written_samples, "inject counters");
	long result = as_inject_mark(stream, next_random(seed) % 8, &mark);
	CHECK(one_of(result, AS_ENOENT, 0, 0) && (result || mark.played <= mark.written), "mark");
	as_stream_info(stream, &infos[0]);
	CHECK(!strcmp(infos[0].uuid, "stress") && infos[0].rate_hz == 8000, "info");
}

static void use(as_stream *stream, uint32_t *seed)
{
	as_mark marks[8];
	int16_t buffer[1000];
	int count = 0;
	long result;
	switch (next_random(seed) % 9) {
	case 0:
		result = as_capture_read(stream, buffer, sizeof(buffer), (int)(next_random(seed) % 3));
		CHECK(one_of(result, AS_EBUSY, 0, 0), "read: %s", as_strerror((int)result));
		break;
	case 1:
		result = as_capture_setup(stream, AS_S16, next_random(seed) % 2 ? 8000 : 16000, 20, 100, 200);
		CHECK(one_of(result, AS_EBUSY, 0, 0), "setup: %s", as_strerror((int)result));
		break;
	case 2:
		CHECK(as_inject_flush(stream, marks, 8, &count) > 1 && count >= 0, "flush");
		break;
	case 3:
		(next_random(seed) % 2 ? as_stream_pause : as_stream_resume)(stream, (int)random_upto(seed, 3));
		break;
	case 4:
		look(stream, seed);
		break;
	case 5:
		if (next_random(seed) % 4 == 0) {
			as_stream_close(stream);
		}
		break;
	default:
		inject(stream, seed);
	}
}

static void application(int which, uint32_t *seed)
{
	char id[32];
	as_stream *stream = NULL;
	name_of(which, id, sizeof(id));
	int error = as_stream_find("stress", id, (int)(next_random(seed) % 3), &stream);
	if (error) {
		CHECK(error == AS_ENOENT && !stream, "find: %s", as_strerror(error));
		return;
	}
	atomic_fetch_add(&found, 1);
	for (size_t steps = random_upto(seed, 20); steps > 0; steps--) {
		use(stream, seed);
	}
	as_stream_unref(as_stream_ref(stream));
	as_stream_unref(stream);
}

typedef struct worker {
	pthread_t thread;
	uint32_t seed;
	int loops;
} worker;

static void *work(void *arg)
{
	worker *w = arg;
	for (int i = 0; i < w->loops; i++) {
		int which = (int)(next_random(&w->seed) % NAMES);
		(next_random(&w->seed) % 3 ? application : host)(which, &w->seed);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int loops = loops_from(argc, argv, 8000);
	worker workers[THREADS];
	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i] = (worker){.seed = i + 1, .loops = loops};
		workers[i].thread = start(work, &workers[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
	}
	CHECK(as_stream_list(NULL, NULL, 0) == 0, "streams are left");
	CHECK(atomic_load(&created) > 0 && atomic_load(&found) > 0, "nothing has happened");
	return 0;
}
