/*
 * stress_inject.c - the inject queue between a writer that flushes when it likes and a host ticking as fast as it can.
 *
 * Every sample says which item it belongs to and which of its samples it is. The writer logs all it wrote (`truth`) and
 * for each flush where, going by the counts the flush reported, the caller stopped hearing and where the next
 * generation begins (`cuts`). The host logs all it played, frame by frame. When both are done the two must be the same:
 * every sample in order, faded only at a cut or a pause, nothing past a cut, and nothing of a flushed generation in the
 * second frame after its flush. Meanwhile an observer reads the counters.
 */
#define _GNU_SOURCE
#include "fade.h"
#include "stress.h"

#define RATE 8000
#define FRAME 160
#define FADE 80
#define OPERATIONS 1500 /* per loop */
#define SAMPLES ((size_t)1 << 22)
#define EVENTS ((size_t)1 << 18)
#define ITEMS 4096 /* of one generation */

typedef struct cut {
	size_t heard; /* the caller heard everything before this position of `truth` ... */
	size_t next;  /* ... and goes on from here */
} cut;

typedef struct frame {
	size_t first, count; /* in `heard`, without the silence at its end */
	size_t cuts_known;   /* flushes that had returned before the tick before this one began */
} frame;

typedef struct item {
	uint64_t mark;
	size_t written, bytes;
	int ended;
} item;

static as_stream *stream;
static _Atomic size_t cuts_done; /* publishes nothing but itself: the writer's flushes that have returned */
static _Atomic int writer_over, host_over;
static int pinned;             /* writer and host on a processor each, or wherever the scheduler puts them */
static uint64_t next_mark = 1; /* writer's; marks are never used twice */

/* Writer's log. */
static int16_t *truth;
static size_t truth_count, generation_start;
static cut *cuts;
static size_t cut_count, pauses;
static item *items; /* of this generation */
static size_t item_count;

/* Host's log. */
static int16_t *heard;
static size_t heard_count, heard_samples; /* with and without the silent ends of fades */
static frame *frames;
static size_t frame_count;

/* ---- Host -------------------------------------------------------------------------------------------------------- */

static void log_frame(const int16_t *samples, size_t cuts_known)
{
	size_t count = FRAME;
	while (count > 0 && samples[count - 1] == 0) {
		count--;
	}
	if (count > 0) {
		CHECK(frame_count < EVENTS && heard_count + count <= SAMPLES, "logs are full");
		frames[frame_count++] = (frame){heard_count, count, cuts_known};
		memcpy(heard + heard_count, samples, count * sizeof(int16_t));
		heard_count += count;
	}
}

static void *host(void *arg)
{
	uint32_t seed = 17;
	size_t known = 0, known_before;
	uint32_t most = 1;
	(void)arg;
	pin(pinned ? 1 : -1);
	while (!atomic_load(&host_over)) {
		int16_t samples[FRAME];
		memset(samples, 0x55, sizeof(samples));
		known_before = known;
		known = atomic_load(&cuts_done);
		size_t owned = as_host_inject(stream, samples, FRAME);
		if (owned) {
			CHECK(owned == FRAME, "%zu samples", owned);
			log_frame(samples, known_before);
		} else {
			CHECK(samples[0] == 0x5555 && !memcmp(samples, samples + 1, sizeof(samples) - 2), "not left alone");
		}
		if (next_random(&seed) % 256 == 0) {
			most = 1u << next_random(&seed) % 13; /* now and then slow enough for a backlog */
		}
		dawdle(&seed, most);
	}
	return NULL;
}

/* ---- Writer ------------------------------------------------------------------------------------------------------ */

static int16_t sample_of(uint64_t mark, size_t at)
{
	return (int16_t)(1000 + (mark % 7) * 4096 + at % 4096);
}

static item *open_item(void)
{
	if (item_count == 0 || items[item_count - 1].ended) {
		CHECK(item_count < ITEMS, "too many items");
		items[item_count++] = (item){.mark = next_mark++};
	}
	return &items[item_count - 1];
}

/* Writes the item's next bytes, from and to the middle of a sample if it so happens. */
static void write_bytes(uint32_t *seed, size_t most)
{
	static int16_t samples[40002];
	item *to = open_item();
	size_t bytes = random_upto(seed, most), first = to->bytes / 2, end = (to->bytes + bytes) / 2;
	for (size_t i = first; i <= end; i++) {
		samples[i - first] = sample_of(to->mark, i);
	}
	long result = as_inject_write(stream, to->mark, as_inject_generation(stream), AS_S16, RATE,
								  (uint8_t *)samples + to->bytes % 2, bytes);
	if (result == AS_EFULL) {
		sched_yield();
		return;
	}
	CHECK(result == (long)bytes, "%ld for %zu bytes", result, bytes);
	CHECK(truth_count + end - first <= SAMPLES, "log is full");
	memcpy(truth + truth_count, samples, (end - first) * sizeof(int16_t));
	truth_count += end - first;
	to->bytes += bytes;
	to->written = end;
}

static void end_item(void)
{
	if (item_count > 0) {
		items[item_count - 1].ended = 1;
		CHECK(as_inject_end(stream, items[item_count - 1].mark) == 0, "end");
	}
}

/* Adds up what the flush says was heard of this generation's items: all of one item before any of the next. */
static size_t sum_of_played(const as_mark *marks, int count)
{
	size_t sum = 0;
	int at = 0, cut_short = 0;
	for (size_t i = 0; i < item_count; i++) {
		size_t played = items[i].written;
		if (at < count && marks[at].id == items[i].mark) {
			CHECK(marks[at].written == items[i].written, "written");
			played = marks[at++].played;
		}
		CHECK(played <= items[i].written && !(cut_short && played), "%zu of item %llu", played,
			  (unsigned long long)items[i].mark);
		cut_short = played < items[i].written;
		sum += played;
	}
	CHECK(at == count, "a mark of another generation");
	return sum;
}

static void flush(void)
{
	static as_mark marks[ITEMS];
	int count = 0;
	uint32_t stale = as_inject_generation(stream);
	long generation = as_inject_flush(stream, marks, ITEMS, &count);
	atomic_store(&cuts_done, cut_count + 1);
	CHECK(generation == (long)stale + 1, "generation %ld", generation);
	CHECK(as_inject_write(stream, next_mark, stale, AS_S16, RATE, "late", 4) == AS_ESTALE, "late audio");
	CHECK(cut_count < EVENTS, "too many cuts");
	cuts[cut_count++] = (cut){generation_start + sum_of_played(marks, count), truth_count};
	generation_start = truth_count;
	item_count = 0;
}

static void look_at_a_mark(uint32_t *seed)
{
	as_mark mark;
	if (item_count > 0) {
		const item *one = &items[next_random(seed) % item_count];
		int error = as_inject_mark(stream, one->mark, &mark);
		CHECK(error == 0 || (error == AS_ENOENT && (one->bytes == 0 || item_count > 60)), "%s", as_strerror(error));
		CHECK(error || (mark.written == one->written && mark.played <= mark.written), "written %llu, played %llu",
			  (unsigned long long)mark.written, (unsigned long long)mark.played);
	}
}

static void operate(uint32_t *seed)
{
	uint32_t what = next_random(seed) % 100;
	if (what < 50) {
		write_bytes(seed, 1600);
	} else if (what < 58) {
		write_bytes(seed, 80000);
		dawdle(seed, 20000);
		flush();
	} else if (what < 64) {
		flush();
	} else if (what < 74) {
		end_item();
	} else if (what < 77) {
		pauses += what == 74;
		(what == 74 ? as_stream_pause : as_stream_resume)(stream, AS_INJECT);
	} else if (what < 90) {
		look_at_a_mark(seed);
	} else {
		dawdle(seed, 20000);
	}
}

/* ---- Comparison -------------------------------------------------------------------------------------------------- */

static int is_plain(const frame *f, size_t at)
{
	return !memcmp(heard + f->first, truth + at, f->count * sizeof(int16_t));
}

static int is_fade_of(const frame *f, size_t at, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (!is_faded(i < f->count ? heard[f->first + i] : 0, truth[at + i], i, length)) {
			return 0;
		}
	}
	return 1;
}

/* Samples of `truth` that the frame fades out, 0 when it is no fade. The end of a fade is too low to be heard. */
static size_t fade_length(const frame *f, size_t at)
{
	for (size_t length = FADE < truth_count - at ? FADE : truth_count - at; length >= f->count; length--) {
		if (is_fade_of(f, at, length)) {
			return length;
		}
	}
	return 0;
}

/* Past the cuts that the host has heard up to. */
static void pass_cuts(size_t *at, size_t *k)
{
	for (; *k < cut_count && *at == cuts[*k].heard; (*k)++) {
		*at = cuts[*k].next;
	}
}

/* Compares a frame that begins at `at`, and passes the cuts inside it: a fade goes on into the next generation when
 * that was flushed as well before the host ticked. Returns how many samples were heard. */
static size_t compare_frame(size_t i, size_t at, size_t *k, size_t *fades)
{
	const frame *f = &frames[i];
	int plain = is_plain(f, at);
	size_t count = plain ? f->count : fade_length(f, at);
	*fades += !plain;
	CHECK(count > 0, "frame %zu at %zu: %d instead of %d", i, at, heard[f->first], truth[at]);
	while (!plain && *k < cut_count && at + count > cuts[*k].heard && cuts[*k].heard == cuts[*k].next) {
		(*k)++;
	}
	size_t limit = *k < cut_count ? cuts[*k].heard : truth_count;
	CHECK(at + count <= limit, "frame %zu: %zu samples at %zu, cut %zu says %zu", i, count, at, *k, limit);
	CHECK(f->cuts_known == 0 || at >= cuts[f->cuts_known - 1].next, "frame %zu: flushed audio at %zu", i, at);
	return count;
}

static void compare(void)
{
	size_t at = 0, k = 0, fades = 0;
	for (size_t i = 0; i < frame_count; i++) {
		pass_cuts(&at, &k);
		at += compare_frame(i, at, &k, &fades);
	}
	pass_cuts(&at, &k);
	CHECK(at == truth_count, "heard up to %zu of %zu", at, truth_count);
	CHECK(k == cut_count, "%zu of %zu cuts", k, cut_count);
	CHECK(fades <= cut_count + pauses, "%zu fades", fades);
	heard_samples = truth_count;
	for (size_t i = 0; i < cut_count; i++) {
		heard_samples -= cuts[i].next - cuts[i].heard;
	}
}

static void reconcile(void)
{
	as_stats stats;
	as_stream_stats(stream, &stats);
	CHECK(stats.inject_written_samples == truth_count, "written");
	CHECK(stats.inject_played_samples == heard_samples, "played");
	CHECK(stats.inject_queued_samples == 0, "queued");
	CHECK(stats.inject_flushed_samples == truth_count - heard_samples, "flushed");
	CHECK(stats.inject_flushes == cut_count && stats.inject_stale_writes == cut_count, "flushes");
}

/* ---- Threads ----------------------------------------------------------------------------------------------------- */

static void *observe(void *arg)
{
	as_stats before = {0}, now;
	(void)arg;
	while (!atomic_load(&writer_over)) {
		as_stream_stats(stream, &now);
		CHECK(now.inject_played_samples + now.inject_flushed_samples <= now.inject_written_samples, "more than all");
		uint64_t played = now.inject_played_samples - before.inject_played_samples;
		CHECK(played <= (now.inject_ticks - before.inject_ticks) * FRAME, "more than the ticks can have played");
		CHECK(now.inject_underruns <= now.inject_underrun_samples, "underruns without silence");
		CHECK(now.inject_last_ns >= before.inject_last_ns, "time went back");
		before = now;
		rest();
	}
	return NULL;
}

static void drain(void)
{
	as_stats stats;
	end_item();
	as_stream_resume(stream, AS_INJECT);
	do {
		rest();
		as_stream_stats(stream, &stats);
	} while (stats.inject_queued_samples > 0 || stats.inject_playing ||
			 stats.inject_played_samples + stats.inject_flushed_samples < stats.inject_written_samples);
}

static void run(uint32_t seed)
{
	const as_config config = {.rate_hz = RATE, .inject_max_ms = 20000, .prebuffer_ms = (int)(seed % 3) * 20};
	CHECK(as_stream_create("stress", "inject", &config, &stream) == 0, "no stream");
	pinned = (int)(seed % 2);
	pin(pinned ? 0 : -1);
	truth_count = generation_start = cut_count = pauses = item_count = heard_count = frame_count = 0;
	atomic_store(&cuts_done, 0);
	atomic_store(&writer_over, 0);
	atomic_store(&host_over, 0);
	pthread_t observer = start(observe, NULL), media = start(host, NULL);
	for (int i = 0; i < OPERATIONS && truth_count < SAMPLES - 100000; i++) {
		operate(&seed);
	}
	drain();
	atomic_store(&writer_over, 1);
	atomic_store(&host_over, 1);
	pthread_join(observer, NULL);
	pthread_join(media, NULL);
	compare();
	reconcile();
	as_stream_close(stream);
	as_stream_unref(stream);
}

int main(int argc, char **argv)
{
	int loops = loops_from(argc, argv, 160);
	truth = allocate(SAMPLES * sizeof(*truth));
	heard = allocate(SAMPLES * sizeof(*heard));
	cuts = allocate(EVENTS * sizeof(*cuts));
	frames = allocate(EVENTS * sizeof(*frames));
	items = allocate(ITEMS * sizeof(*items));
	for (int i = 0; i < loops; i++) {
		run((uint32_t)i + 1);
	}
	free(truth);
	free(heard);
	free(cuts);
	free(frames);
	free(items);
	return 0;
}
