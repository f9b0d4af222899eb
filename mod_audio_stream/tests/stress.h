/* stress.h - what the stress programs share: `stress_x [LOOPS]`, silent and 0 when all is well. */
#ifndef AS_TESTS_STRESS_H
#define AS_TESTS_STRESS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audio_stream.h"
#include "rng.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWED 2 /* sanitizers cost several times the time: fewer loops by default */
#else
#define SLOWED 1
#endif

#define CHECK(condition, ...)                                                                                          \
	do {                                                                                                               \
		if (!(condition)) {                                                                                            \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                            \
			fprintf(stderr, __VA_ARGS__);                                                                              \
			fputc('\n', stderr);                                                                                       \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

static cpu_set_t usable_processors; /* main's before any thread is pinned: threads inherit */

/* Keeps the calling thread on the n-th processor, or with -1 on none in particular. The scheduler likes to put a thread
 * where it was woken from, and two that take turns on one processor never meet. */
static inline void pin(int n)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	n %= CPU_COUNT(&usable_processors);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &usable_processors) && n-- == 0) {
			CPU_SET(cpu, &one);
		}
	}
	pthread_setaffinity_np(pthread_self(), sizeof(one), CPU_COUNT(&one) ? &one : &usable_processors);
}

static inline int loops_from(int argc, char **argv, int usual)
{
	int loops = argc > 1 ? atoi(argv[1]) : usual / SLOWED;
	CHECK(loops > 0, "usage: %s [LOOPS]", argv[0]);
	CHECK(sched_getaffinity(0, sizeof(usable_processors), &usable_processors) == 0, "no processors");
	return loops;
}

static inline pthread_t start(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, run, arg) == 0, "no thread");
	return thread;
}

static inline void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);
	CHECK(memory, "out of memory");
	return memory;
}

/* Leaves the processors to the others for a moment. */
static inline void rest(void)
{
	const struct timespec moment = {.tv_nsec = 20000};
	nanosleep(&moment, NULL);
}

/* Keeps a thread busy for a moment of random length, now and then long enough for the others to catch up. */
static inline void dawdle(uint32_t *seed, uint32_t most)
{
	if (next_random(seed) % 64 == 0) {
		sched_yield();
	}
	for (volatile uint32_t i = next_random(seed) % most; i > 0; i--) {
	}
}

#endif
