/*
 * jitter_traces.h - when 20 ms frames of speech arrive over networks of several kinds; the same every time.
 *
 * A dialogue: utterances of 2 to 8 s, pauses of 1 to 3 s, paced frames in order (TCP: a late frame holds up those after
 * it). Delays are beyond a constant BASE_MS.
 */
#ifndef AS_TESTS_JITTER_TRACES_H
#define AS_TESTS_JITTER_TRACES_H

#include <math.h>

#include "rng.h"

#define FRAME_MS 20
#define BASE_MS 30
#ifdef __SANITIZE_THREAD__
#define TRACE_MINUTES 6 /* of speech: one thread, sixteen times slower */
#else
#define TRACE_MINUTES 30
#endif
#define TRACE_FRAMES (TRACE_MINUTES * 60 * 1000 / FRAME_MS)

typedef struct frame {
	double sent_ms, at_ms;
	int last; /* of its utterance */
} frame;

typedef struct network {
	uint32_t seed;
	double now_ms, change_ms; /* the conditions change then */
	int bad;                  /* conditions */
	double stall_ms, next_ms; /* nothing gets through before stall_ms; the next stall begins at next_ms */
} network;

typedef double (*network_delay)(network *net);

static double uniform(uint32_t *seed, double low, double high)
{
	return low + (high - low) * (next_random(seed) >> 8) / 16777216.0;
}

static double exponential(uint32_t *seed, double mean)
{
	return -mean * log(1 - uniform(seed, 0, 1));
}

/* Good and bad conditions take turns. */
static void change_conditions(network *net, double good_ms, double bad_ms)
{
	if (net->now_ms >= net->change_ms) {
		net->bad = !net->bad;
		net->change_ms = net->now_ms + exponential(&net->seed, net->bad ? bad_ms : good_ms);
		net->next_ms = net->now_ms;
	}
}

/* What is left of a stall; each lasts length_ms, and every_ms of quiet follow on average. */
static double stalled(network *net, double every_ms, double length_ms)
{
	if (net->now_ms >= net->next_ms) {
		net->stall_ms = net->now_ms + length_ms;
		net->next_ms = net->stall_ms + exponential(&net->seed, every_ms);
	}
	return net->stall_ms > net->now_ms ? net->stall_ms - net->now_ms : 0;
}

/* A quiet wired network. */
static double calm_delay(network *net)
{
	return exponential(&net->seed, 2);
}

/* For half a minute in one and a half, another station keeps the air busy: stalls of 30 to 120 ms, 200 ms apart. */
static double wifi_delay(network *net)
{
	change_conditions(net, 60000, 30000);
	double length_ms = uniform(&net->seed, 30, 120);
	return exponential(&net->seed, 3) + (net->bad ? stalled(net, 200, length_ms) : 0);
}

/* A cell that is busy for one minute in three: spikes of 40 ms and more (Pareto, exponent 2.5, to 400 ms), 500 ms
 * apart; two minutes otherwise. */
static double lte_delay(network *net)
{
	change_conditions(net, 120000, 60000);
	double spike_ms = 40 * pow(1 - uniform(&net->seed, 0, 1), -1 / 2.5);
	spike_ms = spike_ms < 400 ? spike_ms : 400;
	return exponential(&net->seed, net->bad ? 8 : 3) + stalled(net, net->bad ? 500 : 120000, spike_ms);
}

/* Half-way, from a calm network to one with 40 ms more delay, and stalls of 30 to 110 ms. */
static double change_delay(network *net)
{
	double length_ms = uniform(&net->seed, 30, 110);
	int after = net->now_ms > TRACE_MINUTES * 60000 * 0.7; /* with the pauses, about half of the speech */
	return after ? 40 + exponential(&net->seed, 6) + stalled(net, 700, length_ms) : exponential(&net->seed, 2);
}

/* The same jitter all the time, each frame's its own. */
static double steady_delay(network *net)
{
	return exponential(&net->seed, 15);
}

static void make_trace(frame *frames, network_delay delay, uint32_t seed)
{
	network net = {.seed = seed};
	uint32_t talk = seed * 7 + 1;
	double now_ms = 0, before_ms = 0;
	for (int i = 0; i < TRACE_FRAMES;) {
		int length = (int)uniform(&talk, 100, 400);
		now_ms += uniform(&talk, 1000, 3000);
		for (int k = 0; k < length && i < TRACE_FRAMES; k++, i++, now_ms += FRAME_MS) {
			net.now_ms = now_ms;
			double at_ms = now_ms + BASE_MS + delay(&net);
			before_ms = at_ms > before_ms ? at_ms : before_ms;
			frames[i] = (frame){now_ms, before_ms, k == length - 1 || i == TRACE_FRAMES - 1};
		}
	}
}

#endif
