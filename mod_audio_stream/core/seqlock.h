/*
 * seqlock.h - consistent snapshots of counters that one thread keeps and others read, without a lock.
 *
 * One writer, any number of readers. The writer stores `seq` odd, the fields, then `seq` even; a reader that saw the same
 * even `seq` before and after saw one update's fields. Every field is stored with release and loaded with acquire: a field
 * from a later update therefore brings that update's odd `seq` along, and the second look notices.
 */
#ifndef AS_SEQLOCK_H
#define AS_SEQLOCK_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint32_t as_seq;

#define AS_PUBLISH(field, value) atomic_store_explicit(&(field), (value), memory_order_release)
#define AS_OBSERVE(field) atomic_load_explicit(&(field), memory_order_acquire)
/* For the field's own writer, which needs no ordering to see what it wrote. */
#define AS_OWN(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define AS_ADD(field, amount) AS_PUBLISH(field, AS_OWN(field) + (amount))

static inline void as_seq_begin(as_seq *seq)
{
	atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) + 1, memory_order_release);
}

static inline void as_seq_end(as_seq *seq)
{
	atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) + 1, memory_order_release);
}

/* Reader: the even value a snapshot begins with. Updates last microseconds; the yield is for a descheduled writer. */
static inline uint32_t as_seq_read_begin(as_seq *seq)
{
	uint32_t value;
	while ((value = atomic_load_explicit(seq, memory_order_acquire)) & 1u) {
		sched_yield();
	}
	return value;
}

static inline int as_seq_read_retry(as_seq *seq, uint32_t begin)
{
	return atomic_load_explicit(seq, memory_order_acquire) != begin;
}

#endif
