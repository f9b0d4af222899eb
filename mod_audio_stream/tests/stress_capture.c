/*
 * stress_capture.c - the capture ring between a producer at full speed and a reader with buffers of every size.
 *
 * Samples are numbered. The producer sends again what an overrun refused, so the reader must see every number in
 * order, many times round a ring of a tenth of a second. A third thread checks that each snapshot of the counters is
 * one moment's.
 */
#define _GNU_SOURCE
#include "stress.h"

#define FRAME 160
#define PER_LOOP 12000 /* samples */

typedef struct run {
	as_stream *stream;
	uint64_t total;
	uint64_t refused, paused, frames; /* the producer's own accounts */
	_Atomic int over;
} run;

/* The media thread. Every frame has FRAME samples, so that the counters of any moment add up to whole frames. */
static void *produce(void *arg)
{
	run *r = arg;
	uint32_t seed = 5;
	pin(1);
	for (uint64_t sent = 0; sent < r->total;) {
		int16_t frame[FRAME];
		for (int i = 0; i < FRAME; i++) {
			frame[i] = (int16_t)(uint16_t)(sent + (uint64_t)i);
		}
		int paused = next_random(&seed) % 100 == 0;
		(paused ? as_stream_pause : as_stream_resume)(r->stream, AS_CAPTURE);
		size_t stored = as_host_capture(r->stream, frame, FRAME);
		CHECK(stored <= (paused ? 0 : FRAME), "stored %zu", stored);
		*(paused ? &r->paused : &r->refused) += FRAME - stored;
		r->frames++;
		sent += stored;
		if (stored < FRAME) {
			sched_yield();
		}
	}
	as_stream_close(r->stream);
	return NULL;
}

static void *read_all(void *arg)
{
	run *r = arg;
	uint32_t seed = 6;
	uint64_t next = 0;
	pin(0);
	for (;;) {
		int16_t buffer[2000];
		size_t room = random_upto(&seed, sizeof(buffer) / 2);
		long got = as_capture_read(r->stream, buffer, room * 2, (int)(next_random(&seed) % 3));
		CHECK(got >= 0 || got == AS_ECLOSED, "%s", as_strerror((int)got));
		if (got < 0) {
			break;
		}
		CHECK(got <= (long)room * 2 && got % 2 == 0, "%ld bytes into %zu samples", got, room);
		for (long i = 0; i < got / 2; i++, next++) {
			CHECK((uint16_t)buffer[i] == (uint16_t)next, "%u in place of %u", (uint16_t)buffer[i], (uint16_t)next);
		}
		dawdle(&seed, 200);
	}
	CHECK(next >= r->total, "closed after %llu samples", (unsigned long long)next);
	CHECK(as_capture_read(r->stream, &seed, 2, 0) == AS_ECLOSED, "more after the end");
	return NULL;
}

static void *observe(void *arg)
{
	run *r = arg;
	as_stats before = {0}, now;
	while (!atomic_load(&r->over)) {
		as_stream_stats(r->stream, &now);
		uint64_t given = now.capture_samples + now.capture_dropped_samples + now.capture_paused_samples;
		CHECK(given == now.capture_ticks * FRAME, "%llu samples in %llu frames", (unsigned long long)given,
			  (unsigned long long)now.capture_ticks);
		CHECK(now.capture_last_ns >= before.capture_last_ns, "time went back");
		CHECK(now.capture_ticks >= before.capture_ticks, "the host went back");
		CHECK(now.capture_read_samples >= before.capture_read_samples, "the reader went back");
		before = now;
		rest();
	}
	return NULL;
}

/* ---- One chunk at a time: a wake-up that gets lost leaves both threads waiting ----------------------------------- */

typedef struct handshake {
	as_stream *stream;
	int rounds;
	_Atomic int read; /* chunks */
} handshake;

static void *read_each(void *arg)
{
	handshake *h = arg;
	pin(0);
	int16_t chunk[FRAME];
	uint32_t seed = 8;
	for (int i = 0; i < h->rounds; i++) {
		long got = as_capture_read(h->stream, chunk, sizeof(chunk), 10000);
		CHECK(got == sizeof(chunk), "chunk %d: %ld", i, got);
		atomic_store(&h->read, i + 1);
		dawdle(&seed, 1000);
	}
	CHECK(as_capture_read(h->stream, chunk, sizeof(chunk), 10000) == AS_ECLOSED, "close has not woken the reader");
	return NULL;
}

static void shake_hands(int rounds)
{
	const as_config config = {.rate_hz = 8000};
	const int16_t chunk[FRAME] = {0};
	handshake h = {.rounds = rounds};
	uint32_t seed = 9;
	CHECK(as_stream_create("stress", "handshake", &config, &h.stream) == 0, "no stream");
	pthread_t reader = start(read_each, &h);
	pin(1);
	for (int i = 0; i < rounds; i++) {
		as_host_capture(h.stream, chunk, FRAME);
		for (int spins = 1; atomic_load(&h.read) <= i; spins++) {
			if (spins % 10000 == 0) {
				sched_yield();
			}
		}
		dawdle(&seed, 1000);
	}
	int64_t closed_ns = as_now_ns();
	as_stream_close(h.stream);
	pthread_join(reader, NULL);
	CHECK(as_now_ns() - closed_ns < 2000000000, "close has not woken the reader");
	as_stream_unref(h.stream);
}

int main(int argc, char **argv)
{
	int loops = loops_from(argc, argv, 2000);
	shake_hands(loops * 2);
	run r = {.total = (uint64_t)loops * PER_LOOP};
	const as_config config = {.rate_hz = 8000, .capture_ms = 100};
	CHECK(as_stream_create("stress", "capture", &config, &r.stream) == 0, "no stream");
	pthread_t observer = start(observe, &r), reader = start(read_all, &r), producer = start(produce, &r);
	pthread_join(producer, NULL);
	pthread_join(reader, NULL);
	atomic_store(&r.over, 1);
	pthread_join(observer, NULL);
	as_stats stats;
	as_stream_stats(r.stream, &stats);
	CHECK(stats.capture_ticks == r.frames, "ticks");
	CHECK(stats.capture_dropped_samples == r.refused, "dropped");
	CHECK(stats.capture_paused_samples == r.paused, "paused");
	CHECK(stats.capture_read_samples == stats.capture_samples, "read");
	as_stream_unref(r.stream);
	return 0;
}
