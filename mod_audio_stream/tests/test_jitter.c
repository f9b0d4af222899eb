/*
 * test_jitter.c - the adaptive prebuffer: on made-up arrivals, and on traces of networks with the real inject queue,
 * against fixed prebuffers. Prints the table of docs/streaming.md.
 */
#define _GNU_SOURCE
#include "support.h"

#include "inject_spsc.h"
#include "jitter.h"
#include "jitter_traces.h"
#include "options.h"

#define US 1000 /* in ms */

static const as_jitter_config plain = {.low_ms = 40, .high_ms = 160, .target_ms = 10, .threshold = 0.1};

/* ---- Made-up arrivals -------------------------------------------------------------------------------------------- */

static as_jitter jitter;
static double clock_ms; /* when the next piece is sent */

static void start(void)
{
	as_jitter_init(&jitter, &plain);
	clock_ms = 1e9; /* days after the machine came up */
}

/* Sends pieces of piece_ms in real time, every `each`-th late_ms late. */
static int send(int pieces, int piece_ms, int each, int late_ms)
{
	for (int i = 1; i <= pieces; i++, clock_ms += piece_ms) {
		double at_ms = clock_ms + (i % each ? 0 : late_ms);
		as_jitter_arrival(&jitter, (int64_t)(at_ms * 1e6), piece_ms * US, 0);
	}
	return as_jitter_prebuffer_ms(&jitter);
}

static void test_no_jitter_no_more_than_the_low_watermark(void **state)
{
	(void)state;
	start();
	assert_int_equal(as_jitter_prebuffer_ms(&jitter), plain.low_ms);
	assert_int_equal(send(1000, 20, 1, 0), plain.low_ms);
	assert_int_equal(send(200, 100, 1, 0), plain.low_ms);
}

static void test_it_covers_the_lateness(void **state)
{
	(void)state;
	start();
	assert_in_range(send(500, 20, 10, 60), 60 + 20, 60 + 20 + 10);
	assert_int_equal(send(500, 20, 10, 400), plain.high_ms); /* but no more than the high watermark */
}

static void test_one_spike_does_not_count(void **state)
{
	(void)state;
	start();
	send(100, 20, 1, 0);
	send(1, 20, 1, 100);
	assert_int_equal(send(400, 20, 1, 0), plain.low_ms);
}

static void test_it_forgets_in_seconds(void **state)
{
	(void)state;
	start();
	assert_true(send(500, 20, 10, 60) > plain.low_ms);
	assert_true(send(250, 20, 1, 0) > plain.low_ms); /* not in five */
	assert_int_equal(send(250, 20, 1, 0), plain.low_ms);
}

static void test_an_underrun_counts_at_once(void **state)
{
	(void)state;
	start();
	send(100, 20, 1, 0);
	as_jitter_underrun(&jitter, (int64_t)(clock_ms * 1e6));
	assert_in_range(send(1, 20, 1, 90), 90 + 20, 90 + 20 + 10);
	assert_in_range(send(100, 20, 1, 0), 90 + 20, 90 + 20 + 10);
	assert_int_equal(send(300, 20, 1, 0), plain.low_ms);
}

/* Some senders do not say that an utterance is over: the queue runs dry, and nothing comes for a while. */
static void test_the_end_of_an_utterance_is_no_underrun(void **state)
{
	(void)state;
	start();
	send(100, 20, 1, 0);
	send(1, 20, 1, 90);
	as_jitter_underrun(&jitter, (int64_t)(clock_ms * 1e6));
	clock_ms += 2000;
	assert_int_equal(send(20, 20, 1, 0), plain.low_ms);
	as_jitter_underrun(&jitter, (int64_t)(clock_ms * 1e6));
	as_jitter_rest(&jitter); /* and some say it a little late */
	clock_ms += 100;
	assert_int_equal(send(20, 20, 1, 0), plain.low_ms);
}

static void test_a_pause_is_not_jitter(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 20; i++) {
		send(50, 20, 1, 0);
		as_jitter_rest(&jitter);
		clock_ms += 100;
	}
	assert_int_equal(as_jitter_prebuffer_ms(&jitter), plain.low_ms);
}

/* A reply of `seconds` at ten times real time, which stalls now and then, too briefly to be over. */
static void send_fast(int seconds)
{
	double queued_until_ms = clock_ms;
	for (int i = 0; i < seconds * 10; i++, clock_ms += i % 25 ? 10 : 400) {
		double queued_ms = queued_until_ms > clock_ms ? queued_until_ms - clock_ms : 0;
		as_jitter_arrival(&jitter, (int64_t)(clock_ms * 1e6), 100 * US, (int64_t)(queued_ms * US));
		queued_until_ms = clock_ms + queued_ms + 100;
	}
}

static void test_faster_than_real_time_needs_no_prebuffer(void **state)
{
	(void)state;
	start();
	for (int reply = 0; reply < 10; reply++) {
		send_fast(8);
		assert_int_equal(as_jitter_prebuffer_ms(&jitter), plain.low_ms);
		as_jitter_rest(&jitter);
		clock_ms += 9000;
	}
}

/* To have 40 ms in hand when a piece of 100 ms comes late, playing must begin with the second one. */
static void test_long_pieces_need_more(void **state)
{
	(void)state;
	start();
	int prebuffer_ms = send(200, 100, 5, 40);
	assert_in_range(prebuffer_ms, 100 + 40, 100 + 40 + 10);
}

/* A sender whose clock is 0.1 % slow: after ten minutes without a pause it is 600 ms behind. */
static void test_clocks_that_drift(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 30000; i++, clock_ms += 20.02) {
		as_jitter_arrival(&jitter, (int64_t)(clock_ms * 1e6), 20 * US, 0);
	}
	assert_int_equal(as_jitter_prebuffer_ms(&jitter), plain.low_ms);
}

static void test_small_changes_are_not_made(void **state)
{
	(void)state;
	start();
	int before_ms = send(500, 20, 10, 60);
	assert_int_equal(send(500, 20, 10, 64), before_ms);
	assert_int_not_equal(send(500, 20, 10, 80), before_ms);
}

/* ---- Networks ---------------------------------------------------------------------------------------------------- */

#define SAMPLES (FRAME_MS * RATE / 1000)
#define SEEDS 3

typedef struct outcome {
	double latency_ms; /* mean from sending to hearing, without BASE_MS */
	double underruns;  /* in an hour of speech */
} outcome;

typedef struct player {
	as_inject queue;
	as_jitter *adaptive; /* NULL: the prebuffer is fixed */
	uint64_t underruns, heard;
	double latency_ms;
} player;

static void set_prebuffer(player *p, int prebuffer_ms)
{
	AS_PUBLISH(p->queue.prebuffer, (uint32_t)(prebuffer_ms * RATE / 1000));
}

static void arrive(player *p, const frame *f)
{
	static const int16_t samples[SAMPLES];
	if (p->adaptive) {
		int64_t queued_us = (int64_t)as_inject_queued(&p->queue) * 1000000 / RATE;
		set_prebuffer(p, as_jitter_arrival(p->adaptive, (int64_t)(f->at_ms * 1e6), FRAME_MS * US, queued_us));
	}
	assert_int_equal(as_inject_reserve(&p->queue, SAMPLES), 0);
	as_inject_append(&p->queue, samples, SAMPLES);
	if (!f->last) {
		as_inject_publish(&p->queue, 0);
		return;
	}
	as_inject_complete(&p->queue);
	if (p->adaptive) {
		as_jitter_rest(p->adaptive);
	}
}

static void hear(player *p, const frame *frames, double now_ms)
{
	int16_t samples[SAMPLES] = {0};
	as_stats stats;
	as_inject_tick(&p->queue, samples, SAMPLES, (int64_t)(now_ms * 1e6));
	for (uint64_t read = AS_OBSERVE(p->queue.read) / SAMPLES; p->heard < read; p->heard++) {
		p->latency_ms += now_ms - frames[p->heard].sent_ms - BASE_MS;
	}
	for (as_spurt spurt; as_inject_spurt(&p->queue, &spurt);) {
	}
	as_inject_counters(&p->queue, &stats);
	if (stats.inject_underruns > p->underruns && p->adaptive) {
		set_prebuffer(p, as_jitter_underrun(p->adaptive, (int64_t)(now_ms * 1e6)));
	}
	p->underruns = stats.inject_underruns;
}

/* Plays a trace through the inject queue, 20 ms at a time. */
static outcome play_trace(const frame *frames, int fixed_ms, const as_jitter_config *adaptive)
{
	player p = {0};
	assert_int_equal(as_inject_init(&p.queue, 1 << 20, 0, SAMPLES / 2), 0);
	if (adaptive) {
		as_jitter_init(&jitter, adaptive);
		p.adaptive = &jitter;
		fixed_ms = as_jitter_prebuffer_ms(&jitter);
	}
	set_prebuffer(&p, fixed_ms);
	double now_ms = 7;
	for (int i = 0; p.heard < TRACE_FRAMES; now_ms += FRAME_MS) {
		while (i < TRACE_FRAMES && frames[i].at_ms <= now_ms) {
			arrive(&p, &frames[i++]);
		}
		hear(&p, frames, now_ms);
	}
	as_inject_destroy(&p.queue);
	return (outcome){p.latency_ms / TRACE_FRAMES, (double)p.underruns * 60 / TRACE_MINUTES};
}

static frame traces[SEEDS][TRACE_FRAMES];

/* The mean over the seeds. */
static outcome play_traces(int fixed_ms, const as_jitter_config *adaptive)
{
	outcome sum = {0, 0};
	for (int i = 0; i < SEEDS; i++) {
		outcome one = play_trace(traces[i], fixed_ms, adaptive);
		sum.latency_ms += one.latency_ms / SEEDS;
		sum.underruns += one.underruns / SEEDS;
	}
	return sum;
}

/* Underruns of a fixed prebuffer of just this mean latency: between those of the two nearest settings that 20 ms frames
 * allow. `longer` is the first one that is no faster. */
static double fixed_underruns(double latency_ms, int *longer_ms, outcome *longer)
{
	outcome shorter = {0, 0};
	for (*longer_ms = FRAME_MS;; *longer_ms += FRAME_MS) {
		*longer = play_traces(*longer_ms, NULL);
		if (longer->latency_ms >= latency_ms) {
			break;
		}
		shorter = *longer;
	}
	if (*longer_ms == FRAME_MS) {
		return longer->underruns;
	}
	double share = (longer->latency_ms - latency_ms) / (longer->latency_ms - shorter.latency_ms);
	return longer->underruns + share * (shorter.underruns - longer->underruns);
}

typedef struct comparison {
	outcome adaptive, standard; /* standard: fixed at the balanced preset's min, 320 samples at 8 kHz */
	double equal_underruns;     /* fixed, of the adaptive one's latency */
} comparison;

static comparison compare(const char *name, network_delay delay)
{
	comparison c;
	as_options *options;
	outcome longer;
	int longer_ms;
	assert_int_equal(as_options_new(&options), 0);
	as_jitter_config config = as_options_jitter(options, RATE, 1);
	for (uint32_t i = 0; i < SEEDS; i++) {
		make_trace(traces[i], delay, (i + 1) * 12345);
	}
	c.adaptive = play_traces(0, &config);
	c.standard = play_traces(as_options_watermark_ms(options->balanced.min_frames), NULL);
	c.equal_underruns = fixed_underruns(c.adaptive.latency_ms, &longer_ms, &longer);
	assert_true(longer.latency_ms >= c.adaptive.latency_ms);
	print_message("| %s | %.0f | %.0f | %.0f | %.0f (%d ms: %.0f) | %.0f | %.0f |\n", name, c.adaptive.latency_ms,
				  c.adaptive.underruns, c.equal_underruns, longer.underruns, longer_ms, longer.latency_ms,
				  c.standard.latency_ms, c.standard.underruns);
	as_options_free(options);
	return c;
}

static void test_wifi(void **state)
{
	(void)state;
	comparison c = compare("Wi-Fi", wifi_delay);
	assert_true(c.adaptive.underruns < 0.4 * c.equal_underruns);
	assert_true(c.adaptive.underruns < 0.4 * c.standard.underruns);
}

static void test_lte(void **state)
{
	(void)state;
	comparison c = compare("LTE", lte_delay);
	assert_true(c.adaptive.underruns < 0.65 * c.equal_underruns);
	assert_true(c.adaptive.underruns < 0.5 * c.standard.underruns);
}

static void test_a_change_of_network(void **state)
{
	(void)state;
	comparison c = compare("change of network", change_delay);
	assert_true(c.adaptive.underruns < 0.3 * c.equal_underruns);
	assert_true(c.adaptive.underruns < 0.3 * c.standard.underruns);
}

/* Nothing to gain: it must not cost anything either. */
static void test_a_calm_network(void **state)
{
	(void)state;
	comparison c = compare("calm", calm_delay);
	assert_true(c.adaptive.underruns <= c.standard.underruns);
	assert_true(c.adaptive.latency_ms < c.standard.latency_ms + 2);
}

/* Where nothing ever changes a fixed prebuffer of the right size is better, if anybody knew it; the standard one is not
 * of that size. */
static void test_steady_jitter(void **state)
{
	(void)state;
	comparison c = compare("steady", steady_delay);
	assert_true(c.adaptive.underruns < 0.2 * c.standard.underruns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_jitter_no_more_than_the_low_watermark),
		cmocka_unit_test(test_it_covers_the_lateness),
		cmocka_unit_test(test_one_spike_does_not_count),
		cmocka_unit_test(test_it_forgets_in_seconds),
		cmocka_unit_test(test_an_underrun_counts_at_once),
		cmocka_unit_test(test_the_end_of_an_utterance_is_no_underrun),
		cmocka_unit_test(test_a_pause_is_not_jitter),
		cmocka_unit_test(test_faster_than_real_time_needs_no_prebuffer),
		cmocka_unit_test(test_long_pieces_need_more),
		cmocka_unit_test(test_clocks_that_drift),
		cmocka_unit_test(test_small_changes_are_not_made),
		cmocka_unit_test(test_wifi),
		cmocka_unit_test(test_lte),
		cmocka_unit_test(test_a_change_of_network),
		cmocka_unit_test(test_a_calm_network),
		cmocka_unit_test(test_steady_jitter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
