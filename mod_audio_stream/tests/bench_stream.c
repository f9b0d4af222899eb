/*
 * bench_stream.c - what a 20 ms frame costs, as multiples of copying one: the machine's speed cancels out.
 *
 *     make bench
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"

#define FRAME 160 /* 20 ms at 8 kHz */
#define ROUNDS 200000

static int16_t frame[FRAME];
static uint8_t buffer[FRAME * 8];
static as_stream *stream;

static void copy_frame(void)
{
	static int16_t copy[FRAME];
	memcpy(copy, frame, sizeof(frame));
	__asm__ volatile("" ::"r"(copy) : "memory");
}

static void capture_frame(void)
{
	as_host_capture(stream, frame, FRAME);
	as_capture_read(stream, buffer, sizeof(buffer), 0);
}

static void inject_frame(void)
{
	as_inject_write(stream, 1, 0, AS_S16, 8000, frame, sizeof(frame));
	as_host_inject(stream, (int16_t *)buffer, FRAME);
}

static void inject_nothing(void)
{
	as_host_inject(stream, (int16_t *)buffer, FRAME);
}

static void encode_pcmu(void)
{
	as_pcmu_encode(frame, buffer, FRAME);
}

static void inject_24k(void)
{
	static int16_t wide[FRAME * 3];
	as_inject_write(stream, 2, 0, AS_S16, 24000, wide, sizeof(wide));
	as_host_inject(stream, (int16_t *)buffer, FRAME);
}

static double ns_each(void (*what)(void), int rounds)
{
	int64_t best = INT64_MAX;
	for (int repeat = 0; repeat < 5; repeat++) {
		int64_t start = as_now_ns();
		for (int i = 0; i < rounds; i++) {
			what();
		}
		int64_t took = as_now_ns() - start;
		best = took < best ? took : best;
	}
	return (double)best / rounds;
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
		int rounds;
	} rows[] = {
		{"capture a frame and read it", capture_frame, ROUNDS},
		{"inject a frame and play it", inject_frame, ROUNDS},
		{"inject: nothing to say", inject_nothing, ROUNDS},
		{"encode a frame to PCMU", encode_pcmu, ROUNDS},
		{"inject a frame of 24 kHz and play it", inject_24k, ROUNDS / 20},
	};
	as_config config = {.rate_hz = 8000};
	if (as_stream_create("bench", "main", &config, &stream) || as_capture_setup(stream, AS_S16, 8000, 20, 20, 0)) {
		return 1;
	}
	for (int i = 0; i < FRAME; i++) {
		frame[i] = (int16_t)(rand() % 16000 - 8000);
	}
	double copy = ns_each(copy_frame, ROUNDS * 10);
	printf("%-40s %10s %10s %14s\n", "a 20 ms frame", "ns", "x copying", "of real time");
	printf("%-40s %10.1f %10.1f\n", "copy it", copy, 1.0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double ns = ns_each(rows[i].run, rows[i].rounds);
		printf("%-40s %10.1f %10.1f %13.5f%%\n", rows[i].name, ns, ns / copy, ns / 20e6 * 100);
	}
	as_stream_close(stream);
	as_stream_unref(stream);
	return 0;
}
