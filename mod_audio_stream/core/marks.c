#include "marks.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 64 /* entries of either table; a power of two */

void as_marks_destroy(as_marks *marks)
{
	free(marks->marks);
	free(marks->slots);
	free(marks->segments);
}

/* ---- Finding ----------------------------------------------------------------------------------------------------- */

/* The slot that holds the mark, or the free one where it belongs. Half of the slots are free. */
static size_t slot_of(const as_marks *marks, uint64_t id)
{
	size_t mask = 2 * marks->room - 1;
	size_t slot = (size_t)(id * 0x9e3779b97f4a7c15u >> 32) & mask;
	while (marks->slots[slot] && marks->marks[marks->slots[slot] - 1].id != id) {
		slot = (slot + 1) & mask;
	}
	return slot;
}

as_mark *as_marks_find(const as_marks *marks, uint64_t id)
{
	uint32_t at = marks->room ? marks->slots[slot_of(marks, id)] : 0;
	return at ? &marks->marks[at - 1] : NULL;
}

static void index_all(as_marks *marks)
{
	memset(marks->slots, 0, 2 * marks->room * sizeof(*marks->slots));
	for (size_t i = 0; i < marks->count; i++) {
		marks->slots[slot_of(marks, marks->marks[i].id)] = (uint32_t)i + 1;
	}
}

/* The smallest power of two that leaves a quarter of the table free. */
static size_t room_for(size_t count)
{
	size_t room = ROOM_LEAST;
	while (room - room / 4 < count) {
		room *= 2;
	}
	return room;
}

/* Gives the table of marks this room. Without memory it stays as it is. */
static int resize_marks(as_marks *marks, size_t room)
{
	uint32_t *slots = malloc(2 * room * sizeof(*slots));
	as_mark *moved = slots ? realloc(marks->marks, room * sizeof(*moved)) : NULL;
	if (!moved) {
		free(slots);
		return AS_ENOMEM;
	}
	free(marks->slots);
	marks->slots = slots;
	marks->marks = moved;
	marks->room = room;
	index_all(marks);
	return 0;
}

as_mark as_marks_view(const as_mark *entry)
{
	as_mark view = *entry;
	if (!(view.flags & AS_MARK_FINISHED)) {
		view.finished_ns = 0;
	}
	return view;
}

static int is_over(const as_mark *mark)
{
	return mark->flags & (AS_MARK_FINISHED | AS_MARK_FLUSHED);
}

/* ---- Forgetting -------------------------------------------------------------------------------------------------- */

/* Forgets all marks that are over but the last AS_MARKS_KEPT of them. */
static void sweep(as_marks *marks)
{
	size_t over = 0, kept = 0;
	for (size_t i = 0; i < marks->count; i++) {
		over += is_over(&marks->marks[i]) != 0;
	}
	for (size_t i = 0; i < marks->count; i++) {
		if (!is_over(&marks->marks[i]) || over-- <= AS_MARKS_KEPT) {
			marks->marks[kept++] = marks->marks[i];
		}
	}
	marks->count = kept;
	marks->over = 0;
	marks->sweep_at =
		kept + kept / 2 + AS_MARKS_KEPT; /* so that a sweep costs each mark opened since the last one little */
	size_t room = room_for(marks->sweep_at + 1);
	if (room >= marks->room || resize_marks(marks, room)) {
		index_all(marks);
	}
}

int as_marks_reserve_entry(as_marks *marks, uint64_t id)
{
	if (as_marks_find(marks, id)) {
		return 0;
	}
	if (marks->room && marks->count >= marks->sweep_at) {
		sweep(marks);
	}
	if (marks->count >= AS_MARKS_MAX) {
		marks->sweep_at--; /* until some of them may be worth forgetting */
		return AS_EFULL;
	}
	return marks->count < marks->room ? 0 : resize_marks(marks, room_for(marks->count + 1));
}

/* Gives the table of segments this room, and drops those that are played. Without memory it stays as it is. */
static int resize_segments(as_marks *marks, size_t room)
{
	size_t count = marks->segment_end - marks->segment_first;
	as_segment *segments = malloc(room * sizeof(*segments));
	if (!segments) {
		return AS_ENOMEM;
	}
	if (count) {
		memcpy(segments, marks->segments + marks->segment_first, count * sizeof(*segments));
	}
	free(marks->segments);
	marks->segments = segments;
	marks->segment_first = 0;
	marks->segment_end = count;
	marks->segment_room = room;
	return 0;
}

/* The table is full: what is played makes room, or the table grows, or shrinks. */
static int reserve_segment(as_marks *marks)
{
	size_t count = marks->segment_end - marks->segment_first;
	if (marks->segment_end < marks->segment_room) {
		return 0;
	}
	return count >= AS_MARKS_MAX ? AS_EFULL : resize_segments(marks, room_for(count + count / 2 + 1));
}

int as_marks_reserve(as_marks *marks, uint64_t id)
{
	int error = as_marks_reserve_entry(marks, id);
	return error ? error : reserve_segment(marks);
}

/* ---- Accounts ---------------------------------------------------------------------------------------------------- */

as_mark *as_marks_open(as_marks *marks, uint64_t id)
{
	size_t slot = slot_of(marks, id);
	if (!marks->slots[slot]) {
		marks->marks[marks->count++] = (as_mark){.id = id};
		marks->slots[slot] = (uint32_t)marks->count;
	}
	return &marks->marks[marks->slots[slot] - 1];
}

/* A mark that had finished goes on. */
static void reopen(as_marks *marks, as_mark *mark)
{
	size_t at = (size_t)(mark - marks->marks);
	mark->flags &= ~AS_MARK_FINISHED;
	marks->over = at < marks->over && !is_over(mark) ? at : marks->over;
}

void as_marks_extend(as_marks *marks, uint64_t id, uint64_t start, uint64_t end)
{
	as_mark *mark = as_marks_find(marks, id);
	if (!mark || start == end) {
		return;
	}
	mark->written += end - start;
	reopen(marks, mark); /* it had ended: not yet, it turns out */
	int any = marks->segment_end > marks->segment_first;
	as_segment *last = any ? &marks->segments[marks->segment_end - 1] : NULL;
	if (last && last->mark == id && last->end == start) {
		last->end = end;
		return;
	}
	marks->segments[marks->segment_end++] = (as_segment){id, start, end, 0};
}

static void collect_spurts(as_marks *marks, as_inject *queue)
{
	as_spurt spurt;
	while (as_inject_spurt(queue, &spurt)) {
		if (marks->spurt_count == AS_SPURTS) {
			memmove(&marks->spurts[0], &marks->spurts[1], (AS_SPURTS - 1) * sizeof(as_spurt));
			marks->spurt_count--;
		}
		marks->spurts[marks->spurt_count++] = spurt;
	}
}

/* When the sample at `position` was taken, and `more` samples after it: counted from the spurt that sample belongs to. */
static int64_t time_of(const as_marks *marks, uint64_t position, uint64_t more)
{
	for (size_t i = marks->spurt_count; i-- > 0;) {
		const as_spurt *spurt = &marks->spurts[i];
		if (spurt->position <= position) {
			return spurt->ns + (int64_t)((position - spurt->position + more) * 1000000000u / (uint64_t)marks->rate_hz);
		}
	}
	return as_now_ns();
}

/* Counts what of the segment lies before `heard`. */
static void count_heard(as_marks *marks, as_segment *segment, uint64_t heard)
{
	if (heard <= segment->start) {
		return;
	}
	uint64_t played = (heard < segment->end ? heard : segment->end) - segment->start;
	as_mark *mark = as_marks_find(marks, segment->mark);
	if (!mark) {
		return;
	}
	if (mark->played == 0 && played > 0) {
		mark->started_ns = time_of(marks, segment->start, 0);
	}
	mark->played += played - segment->counted;
	segment->counted = played;
	if (mark->played == mark->written) {
		mark->finished_ns = time_of(marks, segment->end - 1, 1);
		mark->flags |= mark->flags & AS_MARK_ENDED ? AS_MARK_FINISHED : 0;
	}
}

/* No segment is left. */
static void drop_segments(as_marks *marks)
{
	marks->segment_first = marks->segment_end = 0;
	if (marks->segment_room > ROOM_LEAST) {
		free(marks->segments);
		marks->segments = NULL;
		marks->segment_room = 0;
	}
}

/* A segment that is played is passed for good, so that all calls together look at each one once, and at the first one. */
void as_marks_settle(as_marks *marks, as_inject *queue)
{
	uint64_t read = AS_OBSERVE(queue->read);
	collect_spurts(marks, queue); /* after `read`: a spurt is reported before its samples are */
	while (marks->segment_first < marks->segment_end) {
		as_segment *first = &marks->segments[marks->segment_first];
		count_heard(marks, first, read);
		if (first->end > read) {
			return;
		}
		marks->segment_first++;
	}
	drop_segments(marks);
}

int as_marks_cut(as_marks *marks, as_inject *queue, uint64_t heard, as_mark *out, int max)
{
	int cut = 0;
	collect_spurts(marks, queue);
	for (size_t i = marks->segment_first; i < marks->segment_end; i++) {
		count_heard(marks, &marks->segments[i], heard);
	}
	drop_segments(marks);
	for (size_t i = marks->over; i < marks->count; i++) {
		as_mark *mark = &marks->marks[i];
		if (is_over(mark)) {
			continue;
		}
		mark->flags |= AS_MARK_ENDED | AS_MARK_FLUSHED;
		if (cut < max) {
			out[cut] = as_marks_view(mark);
		}
		cut++;
	}
	marks->over = marks->count;
	marks->sweep_at = 0;
	return cut;
}
