#define _GNU_SOURCE
#include "inject_spsc.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "budget.h"

#define TICK_SPINS 200 /* a tick lasts microseconds: yields before we take it that its thread has been descheduled */
#define TICK_SLEEP_NS 50000 /* and how often we look from then on */
#define STALL_NS 250000000  /* longer than any tick: the host has stood still, and time is counted afresh */

/* ---- Producer ---------------------------------------------------------------------------------------------------- */

/* NULL without memory, or beyond what all streams together may have. */
static as_block *block_alloc(as_inject *queue)
{
	if (as_budget_reserve(queue->blocks * sizeof(as_block), sizeof(as_block))) {
		return NULL;
	}
	as_block *block = malloc(sizeof(*block));
	if (!block) {
		as_budget_release(sizeof(*block));
		return NULL;
	}
	queue->blocks++;
	return block;
}

static as_block *block_new(as_inject *queue)
{
	as_block *block = queue->spare ? queue->spare : block_alloc(queue);
	queue->spare = NULL;
	if (block) {
		atomic_init(&block->next, NULL);
	}
	return block;
}

static void block_free(as_inject *queue, as_block *block)
{
	if (queue->spare) {
		free(block);
		queue->blocks--;
		as_budget_release(sizeof(*block));
	} else {
		queue->spare = block;
	}
}

int as_inject_init(as_inject *queue, uint64_t max_samples, uint32_t prebuffer, uint32_t fade)
{
	memset(queue, 0, sizeof(*queue));
	queue->oldest = queue->newest = queue->block = block_new(queue);
	queue->fading = malloc(fade * sizeof(*queue->fading));
	if (!queue->oldest || !queue->fading) {
		return AS_ENOMEM; /* as_inject_destroy() frees what there is */
	}
	queue->max_samples = max_samples;
	queue->fade = fade;
	atomic_init(&queue->prebuffer, prebuffer);
	return 0;
}

void as_inject_destroy(as_inject *queue)
{
	for (as_block *block = queue->oldest, *next; block; block = next) {
		next = atomic_load(&block->next);
		free(block);
	}
	free(queue->spare);
	free(queue->fading);
	as_budget_release(queue->blocks * sizeof(as_block));
}

uint64_t as_inject_queued(as_inject *queue)
{
	uint64_t read = AS_OBSERVE(queue->read), flush_to = AS_OWN(queue->flush_to);
	return queue->queued_end - (read > flush_to ? read : flush_to);
}

/* Frees blocks the consumer has left for good. One it has only just finished it may still point to. */
static void reclaim(as_inject *queue)
{
	uint64_t read = AS_OBSERVE(queue->read); /* acquire: the consumer reads nothing before it any more */
	while (queue->oldest != queue->newest && queue->oldest_position + AS_BLOCK_SAMPLES < read) {
		as_block *next = atomic_load_explicit(&queue->oldest->next, memory_order_relaxed);
		block_free(queue, queue->oldest);
		queue->oldest = next;
		queue->oldest_position += AS_BLOCK_SAMPLES;
	}
}

int as_inject_reserve_tail(as_inject *queue, size_t n)
{
	reclaim(queue);
	as_block *tail = queue->newest;
	uint64_t end = queue->newest_position + AS_BLOCK_SAMPLES;
	for (as_block *next; (next = atomic_load_explicit(&tail->next, memory_order_relaxed)); tail = next) {
		end += AS_BLOCK_SAMPLES;
	}
	while (end < queue->queued_end + n) {
		as_block *block = block_new(queue);
		if (!block) {
			return AS_ENOMEM;
		}
		/* release: the consumer follows this pointer once `written` passes the block's end */
		atomic_store_explicit(&tail->next, block, memory_order_release);
		tail = block;
		end += AS_BLOCK_SAMPLES;
	}
	return 0;
}

int as_inject_reserve(as_inject *queue, size_t n)
{
	if (as_inject_queued(queue) + n > queue->max_samples) {
		return AS_EFULL;
	}
	return as_inject_reserve_tail(queue, n);
}

void as_inject_append(as_inject *queue, const int16_t *samples, size_t n)
{
	while (n > 0) {
		size_t offset = (size_t)(queue->queued_end - queue->newest_position);
		if (offset == AS_BLOCK_SAMPLES) {
			queue->newest = atomic_load_explicit(&queue->newest->next, memory_order_relaxed);
			queue->newest_position += AS_BLOCK_SAMPLES;
			offset = 0;
		}
		size_t part = n < AS_BLOCK_SAMPLES - offset ? n : AS_BLOCK_SAMPLES - offset;
		memcpy(queue->newest->samples + offset, samples, part * sizeof(int16_t));
		queue->queued_end += part;
		samples += part;
		n -= part;
	}
}

void as_inject_publish(as_inject *queue, uint32_t held)
{
	uint64_t written = AS_OWN(queue->written);
	if (queue->queued_end > written && AS_OWN(queue->ended) == written) {
		AS_PUBLISH(queue->began, written);
	}
	AS_PUBLISH(queue->held, held);
	AS_PUBLISH(queue->written, queue->queued_end);
}

void as_inject_complete(as_inject *queue)
{
	AS_PUBLISH(queue->held, 0);
	AS_PUBLISH(queue->written, queue->queued_end);
	AS_PUBLISH(queue->ended, queue->queued_end);
}

/* Until the tick in progress is over. Its thread may be descheduled in it: going on without knowing what it plays would
 * make the counts wrong, so we wait for as long as that takes. */
static void wait_out_tick(as_inject *queue)
{
	const struct timespec pause = {.tv_nsec = TICK_SLEEP_NS};
	uint32_t tick = atomic_load(&queue->tick);
	for (int i = 0; (tick & 1u) && atomic_load(&queue->tick) == tick; i++) {
		if (i < TICK_SPINS) {
			sched_yield();
		} else {
			nanosleep(&pause, NULL);
		}
	}
}

uint64_t as_inject_cut(as_inject *queue, int closed)
{
	uint64_t target = queue->queued_end;
	AS_PUBLISH(queue->held, 0);
	AS_PUBLISH(queue->written, target);
	AS_PUBLISH(queue->ended, target);
	/* seq_cst on both sides: either the tick in progress sees flush_to, or we see that tick and wait it out. */
	atomic_store(&queue->flush_to, target);
	wait_out_tick(queue);
	/* Both before cut_to: a tick that takes this flush stores cut_heard and cut_to before it changes either. */
	uint64_t read = AS_OBSERVE(queue->read);
	int playing = AS_OBSERVE(queue->playing);
	if (AS_OBSERVE(queue->cut_to) == target) {
		return read > target ? target : AS_OBSERVE(queue->cut_heard);
	}
	uint64_t left = target - read;
	return playing && !closed ? read + (left < queue->fade ? left : queue->fade) : read;
}

int as_inject_spurt(as_inject *queue, as_spurt *out)
{
	uint32_t at = AS_OWN(queue->spurts_out);
	if (at == AS_OBSERVE(queue->spurts_in)) {
		return 0;
	}
	*out = queue->spurts[at % AS_SPURTS];
	AS_PUBLISH(queue->spurts_out, at + 1);
	return 1;
}

/* ---- Consumer: the media thread ---------------------------------------------------------------------------------- */

static void report_spurt(as_inject *queue, uint64_t position, int64_t ns)
{
	uint32_t at = AS_OWN(queue->spurts_in);
	if (at - AS_OBSERVE(queue->spurts_out) < AS_SPURTS) {
		queue->spurts[at % AS_SPURTS] = (as_spurt){position, ns};
		AS_PUBLISH(queue->spurts_in, at + 1);
	}
}

/* Moves to the block that holds `position`. */
static void seek(as_inject *queue, uint64_t position)
{
	while (position >= queue->block_position + AS_BLOCK_SAMPLES) {
		as_block *next = atomic_load_explicit(&queue->block->next, memory_order_acquire);
		if (!next) {
			return; /* position is this block's end: the next one comes with the next write */
		}
		queue->block = next;
		queue->block_position += AS_BLOCK_SAMPLES;
	}
}

static void copy_out(as_inject *queue, uint64_t from, int16_t *out, size_t n)
{
	while (n > 0) {
		seek(queue, from);
		size_t offset = (size_t)(from - queue->block_position);
		size_t part = n < AS_BLOCK_SAMPLES - offset ? n : AS_BLOCK_SAMPLES - offset;
		memcpy(out, queue->block->samples + offset, part * sizeof(int16_t));
		out += part;
		from += part;
		n -= part;
	}
}

/* To silence along (1 - x)^4: near enough to linear in decibels, so most of the voice is gone in the first 3 ms of 10 and
 * no edge clicks. */
static void fade_out(int16_t *samples, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		float left = (float)(n - i) / (float)n;
		samples[i] = (int16_t)((float)samples[i] * left * left * left * left);
	}
}

static void silence(int16_t *samples, size_t n)
{
	memset(samples, 0, n * sizeof(int16_t));
}

/* Whether a fade is still being played. */
static int is_fading(const as_inject *queue)
{
	return queue->fading_at < queue->fading_end;
}

/* Begins to fade out what is playing, up to limit at the most. Returns how many samples will have been heard by the end of
 * the fade: it is played to the end, over as many ticks as that takes, whatever comes meanwhile. The samples are copied,
 * because the producer frees their block once `read` has passed it. */
static size_t begin_fade(as_inject *queue, uint64_t read, uint64_t limit)
{
	size_t length = limit - read < queue->fade ? (size_t)(limit - read) : queue->fade;
	copy_out(queue, read, queue->fading, length);
	fade_out(queue->fading, length);
	queue->fading_at = 0;
	queue->fading_end = (uint32_t)length;
	AS_ADD(queue->played, length);
	return length;
}

/* The next n samples of a fade, silence after its end. */
static size_t play_fade(as_inject *queue, int16_t *samples, size_t n)
{
	size_t left = queue->fading_end - queue->fading_at, part = left < n ? left : n;
	memcpy(samples, queue->fading + queue->fading_at, part * sizeof(int16_t));
	silence(samples + part, n - part);
	queue->fading_at += (uint32_t)part;
	return n;
}

/* Returns n where something was playing: its fade begins, and the rest of the tick is silent. */
static size_t take_flush(as_inject *queue, uint64_t read, uint64_t flush_to, int16_t *samples, size_t n)
{
	int playing = AS_OWN(queue->playing);
	size_t faded = playing ? begin_fade(queue, read, flush_to) : 0;
	seek(queue, flush_to);
	queue->waited = 0;
	queue->dry = 0;
	AS_ADD(queue->flushed, flush_to - read - faded);
	AS_PUBLISH(queue->cut_heard, read + faded);
	AS_PUBLISH(queue->cut_to, flush_to);
	AS_PUBLISH(queue->playing, 0); /* not before cut_to, and `read` last: see as_inject_cut() */
	AS_PUBLISH(queue->read, flush_to);
	return playing || is_fading(queue) ? play_fade(queue, samples, n) : 0;
}

static size_t take_pause(as_inject *queue, uint64_t read, uint64_t written, int16_t *samples, size_t n)
{
	if (!AS_OWN(queue->playing)) {
		return 0;
	}
	size_t faded = begin_fade(queue, read, written);
	AS_PUBLISH(queue->playing, 0);
	AS_PUBLISH(queue->read, read + faded);
	return play_fade(queue, samples, n);
}

/* Is there enough to begin with? An ended utterance is as long as it gets; a slow one is not waited for for ever. */
static int primed(as_inject *queue, uint64_t available, int ended, size_t n)
{
	uint32_t prebuffer = AS_OBSERVE(queue->prebuffer);
	if (ended || available + AS_OBSERVE(queue->held) >= prebuffer || queue->waited >= prebuffer) {
		return 1;
	}
	queue->waited += (uint32_t)n;
	return 0;
}

/* An unfinished utterance has nothing for us: silence in its place, so that nothing else is heard through the gap. Whether
 * the utterance ran dry or was over is known when audio comes again: see went_on(). */
static size_t run_dry(as_inject *queue, int16_t *samples, size_t n, size_t missing)
{
	silence(samples + (n - missing), missing);
	queue->dry = 1;
	AS_ADD(queue->underrun_samples, missing);
	return n;
}

/* Audio after a gap: an underrun, unless the utterance before the gap has ended there. */
static void went_on(as_inject *queue, uint64_t read, uint64_t ended)
{
	if (queue->dry && ended != read && AS_OBSERVE(queue->began) != read) {
		AS_ADD(queue->underruns, 1);
	}
	queue->dry = 0;
}

static size_t play(as_inject *queue, uint64_t read, uint64_t written, uint64_t ended, int16_t *samples, size_t n,
				   int64_t ns)
{
	uint64_t available = written - read;
	int playing = AS_OWN(queue->playing);
	if (!playing) {
		if (available == 0 || !primed(queue, available, ended == written, n)) {
			if (ended == read) {
				queue->dry = 0; /* what ran dry turned out to be over */
			}
			return queue->dry ? run_dry(queue, samples, n, n) : 0;
		}
		queue->waited = 0;
		went_on(queue, read, ended);
		report_spurt(queue, read, ns);
		AS_PUBLISH(queue->playing, 1);
	} else if (ns - AS_OWN(queue->last_ns) > STALL_NS) {
		report_spurt(queue, read, ns);
	}
	size_t part = available < n ? (size_t)available : n;
	copy_out(queue, read, samples, part);
	AS_ADD(queue->played, part);
	AS_PUBLISH(queue->read, read + part);
	if (part == n) {
		return n;
	}
	AS_PUBLISH(queue->playing, 0);
	if (ended != written) {
		return run_dry(queue, samples, n, n - part);
	}
	silence(samples + part, part ? n - part : 0);
	return part ? n : 0;
}

static size_t tick(as_inject *queue, int16_t *samples, size_t n, int64_t ns)
{
	uint64_t read = AS_OWN(queue->read);
	uint64_t flush_to = atomic_load(&queue->flush_to);
	if (flush_to > read) {
		return take_flush(queue, read, flush_to, samples, n);
	}
	if (is_fading(queue)) {
		return play_fade(queue, samples, n);
	}
	/* `ended` before `written`: if more was written after the end, we see that there is more and do not stop there. */
	uint64_t ended = AS_OBSERVE(queue->ended);
	uint64_t written = AS_OBSERVE(queue->written);
	if (AS_OBSERVE(queue->paused)) {
		return take_pause(queue, read, written, samples, n);
	}
	return play(queue, read, written, ended, samples, n, ns);
}

size_t as_inject_tick(as_inject *queue, int16_t *samples, size_t n, int64_t now_ns)
{
	if (atomic_exchange_explicit(&queue->busy, 1, memory_order_acquire)) {
		return 0; /* a second host thread: the first one is at it */
	}
	atomic_store(&queue->tick, AS_OWN(queue->tick) + 1);
	as_seq_begin(&queue->seq);
	size_t owned = tick(queue, samples, n, now_ns);
	AS_ADD(queue->ticks, 1);
	AS_PUBLISH(queue->last_ns, now_ns);
	as_seq_end(&queue->seq);
	atomic_store(&queue->tick, AS_OWN(queue->tick) + 1);
	atomic_store_explicit(&queue->busy, 0, memory_order_release);
	return owned;
}

/* ---- Any thread -------------------------------------------------------------------------------------------------- */

void as_inject_counters(as_inject *queue, as_stats *out)
{
	uint32_t begin;
	do {
		begin = as_seq_read_begin(&queue->seq);
		out->inject_played_samples = AS_OBSERVE(queue->played);
		out->inject_flushed_samples = AS_OBSERVE(queue->flushed);
		out->inject_underruns = AS_OBSERVE(queue->underruns);
		out->inject_underrun_samples = AS_OBSERVE(queue->underrun_samples);
		out->inject_ticks = AS_OBSERVE(queue->ticks);
		out->inject_last_ns = AS_OBSERVE(queue->last_ns);
		out->inject_playing = AS_OBSERVE(queue->playing);
	} while (as_seq_read_retry(&queue->seq, begin));
	out->inject_paused = AS_OBSERVE(queue->paused);
}
