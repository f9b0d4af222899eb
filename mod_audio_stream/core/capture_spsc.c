#define _GNU_SOURCE
#include "capture_spsc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t round_up_pow2(uint64_t n)
{
	uint64_t p = 1;
	while (p < n) {
		p <<= 1;
	}
	return p;
}

int as_capture_init(as_capture *ring, int rate_hz, int channels, int capacity_ms)
{
	memset(ring, 0, sizeof(*ring));
	ring->channels = (uint32_t)channels;
	ring->capacity = round_up_pow2((uint64_t)rate_hz * (uint64_t)capacity_ms / 1000);
	ring->mask = ring->capacity - 1;
	ring->map_bytes = ring->capacity * ring->channels * sizeof(int16_t);
	ring->data = mmap(NULL, ring->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring->data == MAP_FAILED) {
		ring->data = NULL;
		return AS_ENOMEM;
	}
	as_activity_init(&ring->activity);
	uint32_t chunk = (uint32_t)rate_hz / 50;
	atomic_init(&ring->chunk, chunk);
	atomic_init(&ring->quiet_chunk, chunk);
	atomic_init(&ring->hang, chunk * 25);
	sem_init(&ring->wake, 0, 0);
	return 0;
}

void as_capture_destroy(as_capture *ring)
{
	if (ring->data) {
		munmap(ring->data, ring->map_bytes);
		sem_destroy(&ring->wake);
	}
}

/* Wakes a sleeping reader. sem_post neither blocks nor allocates. Any thread. */
static void wake_reader(as_capture *ring)
{
	if (atomic_exchange(&ring->waiting, 0)) {
		sem_post(&ring->wake);
	}
}

/* Samples the reader waits for: few while the caller speaks and for the hang-over, more in silence. Any thread. */
static uint64_t chunk_wanted(as_capture *ring, uint64_t written)
{
	uint64_t active_end = AS_OBSERVE(ring->active_end);
	int speaking = active_end > 0 && written <= active_end + AS_OBSERVE(ring->hang);
	return speaking ? AS_OBSERVE(ring->chunk) : AS_OBSERVE(ring->quiet_chunk);
}

/* Media thread. */
static void store(as_capture *ring, uint64_t at, const int16_t *samples, size_t n)
{
	uint64_t offset = (at + ring->shift) & ring->mask;
	size_t first = ring->capacity - offset < n ? (size_t)(ring->capacity - offset) : n;
	uint32_t channels = ring->channels;
	memcpy(ring->data + offset * channels, samples, first * channels * sizeof(int16_t));
	memcpy(ring->data, samples + first * channels, (n - first) * channels * sizeof(int16_t));
}

/* Media thread. */
size_t as_capture_put(as_capture *ring, const int16_t *samples, size_t n, int64_t now_ns)
{
	uint64_t written = AS_OWN(ring->written);
	uint64_t read = AS_OBSERVE(ring->read); /* acquire: the reader is done with everything before it */
	uint64_t space = ring->capacity - (written - read);
	size_t stored = n < space ? n : (size_t)space;
	if (read == written) {
		ring->shift = (0 - written) & ring->mask;
	}
	store(ring, written, samples, stored);
	int speech = as_activity_frame(&ring->activity, samples, n * ring->channels);
	written += stored;

	as_seq_begin(&ring->seq);
	AS_ADD(ring->ticks, 1);
	AS_PUBLISH(ring->last_ns, now_ns);
	if (speech) {
		AS_PUBLISH(ring->active_end, written);
	}
	if (stored < n) {
		AS_ADD(ring->dropped, n - stored);
		AS_ADD(ring->overruns, 1);
	}
	/* seq_cst: this store must be ordered before the look at `waiting`, as the reader's are the other way round. */
	atomic_store(&ring->written, written);
	as_seq_end(&ring->seq);

	if (atomic_load(&ring->waiting) && written - read >= chunk_wanted(ring, written)) {
		wake_reader(ring);
	}
	return stored;
}

/* Media thread. */
void as_capture_skip(as_capture *ring, size_t n, int64_t now_ns)
{
	as_seq_begin(&ring->seq);
	AS_ADD(ring->ticks, 1);
	AS_ADD(ring->paused_samples, n);
	AS_PUBLISH(ring->last_ns, now_ns);
	as_seq_end(&ring->seq);
}

/* Reader. */
long as_capture_poll(as_capture *ring)
{
	/* `closed` before `written`: if it was closed, nothing comes after what we see. */
	int closed = atomic_load(&ring->closed);
	uint64_t written = atomic_load(&ring->written);
	uint64_t count = written - AS_OWN(ring->read);
	if (count >= chunk_wanted(ring, written) || (closed && count > 0)) {
		return (long)count;
	}
	return closed ? AS_ECLOSED : 0;
}

/* Reader. Sleeps until posted or the deadline; 0 when the deadline has passed. */
static int sleep_until(as_capture *ring, int64_t deadline_ns)
{
	struct timespec until = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
	return sem_clockwait(&ring->wake, CLOCK_MONOTONIC, &until) == 0 || errno != ETIMEDOUT;
}

/* Reader. */
long as_capture_await(as_capture *ring, int64_t deadline_ns)
{
	for (;;) {
		/* seq_cst: announce the wait, then look again, so that no sample slips in between unseen. */
		atomic_store(&ring->waiting, 1);
		long count = as_capture_poll(ring);
		if (count != 0 || !sleep_until(ring, deadline_ns)) {
			atomic_store(&ring->waiting, 0);
			return count;
		}
	}
}

/* Reader. */
size_t as_capture_peek(as_capture *ring, const int16_t **samples)
{
	uint64_t read = AS_OWN(ring->read);
	uint64_t count = atomic_load(&ring->written) - read; /* acquire: data and shift up to here */
	if (count == 0) {
		return 0;
	}
	uint64_t offset = (read + ring->shift) & ring->mask;
	*samples = ring->data + offset * ring->channels;
	return (size_t)(count < ring->capacity - offset ? count : ring->capacity - offset);
}

/* Reader. */
void as_capture_take(as_capture *ring, size_t n)
{
	AS_ADD(ring->taken, n);
	AS_ADD(ring->read, n); /* release: the producer may overwrite what lies before */
}

/* Reader. */
size_t as_capture_drop(as_capture *ring, size_t keep)
{
	uint64_t waiting = atomic_load(&ring->written) - AS_OWN(ring->read);
	size_t n = waiting > keep ? (size_t)(waiting - keep) : 0;
	if (n > 0) {
		AS_ADD(ring->discarded, n);
		AS_ADD(ring->read, n); /* release, as in as_capture_take() */
	}
	return n;
}

/* Any thread. */
long as_capture_waiting(as_capture *ring)
{
	int closed = atomic_load(&ring->closed);
	uint64_t read = AS_OBSERVE(ring->read); /* before `written`, which never falls behind it */
	uint64_t count = atomic_load(&ring->written) - read;
	return count > 0 || !closed ? (long)count : AS_ECLOSED;
}

/* Any thread. */
void as_capture_close(as_capture *ring)
{
	atomic_store(&ring->closed, 1);
	wake_reader(ring);
}

/* Any thread. */
void as_capture_counters(as_capture *ring, as_stats *out)
{
	uint32_t begin;
	do {
		begin = as_seq_read_begin(&ring->seq);
		out->capture_samples = AS_OBSERVE(ring->written);
		out->capture_dropped_samples = AS_OBSERVE(ring->dropped);
		out->capture_overruns = AS_OBSERVE(ring->overruns);
		out->capture_paused_samples = AS_OBSERVE(ring->paused_samples);
		out->capture_ticks = AS_OBSERVE(ring->ticks);
		out->capture_active_samples = AS_OBSERVE(ring->active_end);
		out->capture_last_ns = AS_OBSERVE(ring->last_ns);
	} while (as_seq_read_retry(&ring->seq, begin));
	out->capture_read_samples = AS_OBSERVE(ring->taken);
	out->capture_discarded_samples = AS_OBSERVE(ring->discarded);
	out->capture_active =
		out->capture_active_samples > 0 && out->capture_samples <= out->capture_active_samples + AS_OBSERVE(ring->hang);
}
