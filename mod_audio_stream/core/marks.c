#include "marks.h"

#include <stdlib.h>
#include <string.h>

void as_marks_destroy(as_marks *marks)
{
	free(marks->marks);
	free(marks->segments);
}

static int grow(void **array, size_t *room, size_t count, size_t size)
{
	if (count < *room) {
		return 0;
	}
	size_t more = *room ? *room * 2 : 16;
	void *moved = realloc(*array, more * size);
	if (!moved) {
		return AS_ENOMEM;
	}
	*array = moved;
	*room = more;
	return 0;
}

as_mark *as_marks_find(as_marks *marks, uint64_t id)
{
	for (size_t i = marks->count; i-- > 0;) {
		if (marks->marks[i].id == id) {
			return &marks->marks[i];
		}
	}
	return NULL;
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

/* Forgets the oldest mark that is over, once more than AS_MARKS_KEPT are kept. */
static void forget_one(as_marks *marks)
{
	if (marks->count <= AS_MARKS_KEPT) {
		return;
	}
	for (size_t i = 0; i < marks->count; i++) {
		if (is_over(&marks->marks[i])) {
			memmove(&marks->marks[i], &marks->marks[i + 1], (marks->count - i - 1) * sizeof(as_mark));
			marks->count--;
			return;
		}
	}
}

as_mark *as_marks_open(as_marks *marks, uint64_t id)
{
	as_mark *mark = as_marks_find(marks, id);
	if (mark) {
		return mark;
	}
	forget_one(marks);
	if (grow((void **)&marks->marks, &marks->room, marks->count, sizeof(as_mark))) {
		return NULL;
	}
	mark = &marks->marks[marks->count++];
	*mark = (as_mark){.id = id};
	return mark;
}

int as_marks_reserve(as_marks *marks)
{
	return grow((void **)&marks->segments, &marks->segment_room, marks->segment_count, sizeof(as_segment));
}

void as_marks_extend(as_marks *marks, uint64_t id, uint64_t start, uint64_t end)
{
	as_mark *mark = as_marks_find(marks, id);
	if (!mark || start == end) {
		return;
	}
	mark->written += end - start;
	mark->flags &= ~AS_MARK_FINISHED; /* it had ended: not yet, it turns out */
	as_segment *last = marks->segment_count ? &marks->segments[marks->segment_count - 1] : NULL;
	if (last && last->mark == id && last->end == start) {
		last->end = end;
		return;
	}
	marks->segments[marks->segment_count++] = (as_segment){id, start, end, 0};
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

void as_marks_settle(as_marks *marks, as_inject *queue)
{
	uint64_t read = AS_OBSERVE(queue->read);
	size_t done = 0;
	collect_spurts(marks, queue); /* after `read`: a spurt is reported before its samples are */
	for (size_t i = 0; i < marks->segment_count && marks->segments[i].start < read; i++) {
		count_heard(marks, &marks->segments[i], read);
		done += marks->segments[i].end <= read;
	}
	if (done) {
		marks->segment_count -= done;
		memmove(marks->segments, marks->segments + done, marks->segment_count * sizeof(as_segment));
	}
}

int as_marks_cut(as_marks *marks, as_inject *queue, uint64_t heard, as_mark *out, int max)
{
	int cut = 0;
	collect_spurts(marks, queue);
	for (size_t i = 0; i < marks->segment_count; i++) {
		count_heard(marks, &marks->segments[i], heard);
	}
	marks->segment_count = 0;
	for (size_t i = 0; i < marks->count; i++) {
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
	return cut;
}
