/*
 * marks.h - what was heard of each utterance. The producer's accounts, kept under the stream's lock.
 *
 * A mark's audio is a list of segments [start, end) of queue positions. The consumer publishes only how far it has read;
 * everything else is arithmetic done here, whenever somebody asks.
 */
#ifndef AS_MARKS_H
#define AS_MARKS_H

#include <stddef.h>
#include <stdint.h>

#include "audio_stream.h"
#include "inject_spsc.h"

#define AS_MARKS_KEPT 64 /* finished marks that can still be asked about */

typedef struct as_segment {
	uint64_t mark, start, end;
	uint64_t counted; /* samples of it already added to the mark's `played` */
} as_segment;

typedef struct as_marks {
	as_mark *marks; /* oldest first */
	size_t count, room;
	as_segment *segments; /* oldest first; none is fully played */
	size_t segment_count, segment_room;
	as_spurt spurts[AS_SPURTS]; /* the latest, newest last */
	size_t spurt_count;
	int rate_hz;
} as_marks;

void as_marks_destroy(as_marks *marks);
/* The mark's entry, made if need be; NULL without memory. */
as_mark *as_marks_open(as_marks *marks, uint64_t id);
as_mark *as_marks_find(as_marks *marks, uint64_t id);
/* What the application gets to see of an entry. The accounts note when all of it so far had been heard: that is when it
 * finished, once it is known that there is no more. */
as_mark as_marks_view(const as_mark *entry);
/* Makes sure that as_marks_extend() cannot fail. AS_ENOMEM. */
int as_marks_reserve(as_marks *marks);
/* Notes that [start, end) belongs to a mark. */
void as_marks_extend(as_marks *marks, uint64_t id, uint64_t start, uint64_t end);
/* Brings the accounts up to date with what the consumer has read. */
void as_marks_settle(as_marks *marks, as_inject *queue);
/* Closes the accounts at a flush: heard is where the caller stops hearing. Copies the marks cut short. */
int as_marks_cut(as_marks *marks, as_inject *queue, uint64_t heard, as_mark *out, int max);

#endif
