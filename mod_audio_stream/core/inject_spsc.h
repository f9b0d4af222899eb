/*
 * inject_spsc.h - the inject queue's two ends: one producer (the application, serialised by the stream's lock), one
 * consumer (the media thread that writes to the caller). marks.h keeps the accounts on the producer's side.
 *
 * Samples lie in a chain of blocks that the producer allocates, links and, once the consumer has left them, frees; the
 * consumer only follows pointers. Positions count samples from the start of the stream and only grow.
 *
 * A flush is one number: `flush_to`, the position before which nothing more is to be heard. The consumer notices it at its
 * next tick, begins to fade out what is playing and jumps there. The producer must know exactly how much will have been
 * heard, so it waits out a tick in progress (microseconds) and then knows what the next one will do: see as_inject_cut().
 * For that a fade does not depend on how long a tick is: one that does not fit goes on in the next.
 */
#ifndef AS_INJECT_SPSC_H
#define AS_INJECT_SPSC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "audio_stream.h"
#include "seqlock.h"

#define AS_BLOCK_SAMPLES 4000 /* 8 KB; half a second at 8 kHz */
#define AS_SPURTS 32

typedef struct as_block {
	_Atomic(struct as_block *) next; /* publishes the next block; stored before `written` passes this one's end */
	int16_t samples[AS_BLOCK_SAMPLES];
} as_block;

/* Playing began at `position` at time `ns`, and went on without a break until the next spurt. */
typedef struct as_spurt {
	uint64_t position;
	int64_t ns;
} as_spurt;

typedef struct as_inject {
	/* Producer (under the stream's lock). */
	as_block *oldest; /* first block not yet freed */
	uint64_t oldest_position;
	as_block *newest;
	uint64_t newest_position;
	as_block *spare; /* one freed block, kept to spare malloc the common case */
	size_t blocks;   /* allocated; each is counted in the budget */
	uint64_t queued_end;
	uint64_t max_samples;

	/* Producer to consumer. */
	_Alignas(64) _Atomic uint64_t written; /* publishes samples up to here and the blocks that hold them */
	_Atomic uint64_t ended; /* position where an ended utterance stops; running dry there is no underrun */
	_Atomic uint64_t began; /* position of the last utterance that was written after an ended one; before `written` */
	_Atomic uint64_t flush_to;
	_Atomic uint32_t prebuffer;
	_Atomic uint32_t held; /* samples still in the producer's resampler: they count towards the prebuffer */
	_Atomic int paused;

	/* Consumer's own. */
	_Alignas(64) as_block *block;
	uint64_t block_position;
	uint32_t waited; /* samples of ticks spent waiting for the prebuffer */
	int dry;         /* an unfinished utterance has run dry */
	uint32_t fade;   /* samples */
	int16_t *fading; /* fading[fading_at..fading_end) has still to be played; as large as a fade */
	uint32_t fading_at, fading_end;
	_Atomic int busy; /* set inside a tick: turns a second host thread away */

	/* Consumer to producer. */
	_Alignas(64) _Atomic uint32_t tick; /* odd inside a tick */
	_Atomic uint64_t read;              /* publishes that the consumer has left everything before */
	_Atomic int playing;
	_Atomic uint64_t cut_to, cut_heard; /* the last flush taken: its flush_to, and where the caller stopped hearing */
	as_seq seq;                         /* guards the counters below */
	_Atomic uint64_t played, flushed, underruns, underrun_samples, ticks;
	_Atomic int64_t last_ns;
	as_spurt spurts[AS_SPURTS]; /* one producer: the consumer of samples; full means dropped */
	_Atomic uint32_t spurts_in; /* publishes spurts[..spurts_in) */
	_Atomic uint32_t spurts_out;
} as_inject;

int as_inject_init(as_inject *queue, uint64_t max_samples, uint32_t prebuffer, uint32_t fade);
void as_inject_destroy(as_inject *queue);

/* Producer. Samples written and neither heard nor flushed. */
uint64_t as_inject_queued(as_inject *queue);
/* Producer. Makes room for n samples, or AS_EFULL, AS_ENOMEM and nothing has changed. */
int as_inject_reserve(as_inject *queue, size_t n);
/* Producer. The same for the few milliseconds at the end of an utterance, which may go beyond the queue's bound. */
int as_inject_reserve_tail(as_inject *queue, size_t n);
/* Producer. Copies into reserved room; heard only after as_inject_publish(). */
void as_inject_append(as_inject *queue, const int16_t *samples, size_t n);
void as_inject_publish(as_inject *queue, uint32_t held);
/* Producer. Everything so far is complete. */
void as_inject_complete(as_inject *queue);
/* Producer. Flushes; returns the position up to which the caller hears what was queued. A closed stream's host ticks no
 * more: there will be no fade. */
uint64_t as_inject_cut(as_inject *queue, int closed);
/* Producer. Next spurt the consumer reported, 0 when there is none. */
int as_inject_spurt(as_inject *queue, as_spurt *out);

/* Consumer. As as_host_inject(). */
size_t as_inject_tick(as_inject *queue, int16_t *samples, size_t n, int64_t now_ns);

/* Any thread. */
void as_inject_counters(as_inject *queue, as_stats *out);

#endif
