/*
 * marks.h - what was heard of each utterance. The producer's accounts, kept under the stream's lock.
 *
 * A mark's audio is a list of segments [start, end) of queue positions. The consumer publishes only how far it has read;
 * everything else is arithmetic done here, whenever somebody asks.
 *
 * A server decides how many marks and segments there are, so each call costs the same however many there are, counted over
 * all calls: marks are found through a hash table, finished ones are forgotten many at a time, and both tables shrink again.
 */
#ifndef AS_MARKS_H
#define AS_MARKS_H

#include <stddef.h>
#include <stdint.h>

#include "audio_stream.h"
#include "inject_spsc.h"

#define AS_MARKS_KEPT 64   /* finished marks that can still be asked about */
#define AS_MARKS_MAX 65536 /* marks, and segments, of one stream: some 8 MB */

typedef struct as_segment {
	uint64_t mark, start, end;
	uint64_t counted; /* samples of it already added to the mark's `played` */
} as_segment;

typedef struct as_marks {
	as_mark *marks; /* oldest first */
	size_t count, room;
	size_t over;          /* all marks before this index are finished or flushed */
	size_t sweep_at;      /* finished marks are forgotten when there are so many marks */
	uint32_t *slots;      /* hash table of 2 * room entries: index into marks + 1; 0 = free */
	as_segment *segments; /* oldest first; those before segment_first are fully played */
	size_t segment_first, segment_end, segment_room;
	as_spurt spurts[AS_SPURTS]; /* the latest, newest last */
	size_t spurt_count;
	int rate_hz;
} as_marks;

void as_marks_destroy(as_marks *marks);
/* Makes sure that as_marks_open() and as_marks_extend() of this mark cannot fail. Entries found before are void. AS_ENOMEM,
 * AS_EFULL beyond AS_MARKS_MAX. */
int as_marks_reserve(as_marks *marks, uint64_t id);
/* The same without as_marks_extend(). */
int as_marks_reserve_entry(as_marks *marks, uint64_t id);
/* The mark's entry, made if need be. After as_marks_reserve(). */
as_mark *as_marks_open(as_marks *marks, uint64_t id);
as_mark *as_marks_find(const as_marks *marks, uint64_t id);
/* What the application gets to see of an entry. The accounts note when all of it so far had been heard: that is when it
 * finished, once it is known that there is no more. */
as_mark as_marks_view(const as_mark *entry);
/* Notes that [start, end) belongs to a mark. */
void as_marks_extend(as_marks *marks, uint64_t id, uint64_t start, uint64_t end);
/* Brings the accounts up to date with what the consumer has read. */
void as_marks_settle(as_marks *marks, as_inject *queue);
/* Closes the accounts at a flush: heard is where the caller stops hearing. Copies the marks cut short. */
int as_marks_cut(as_marks *marks, as_inject *queue, uint64_t heard, as_mark *out, int max);

#endif
