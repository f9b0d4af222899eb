#include "realtime_recall.h"

#include <stdlib.h>
#include <string.h>

#define PADDING_MS 500 /* before the server says that the caller speaks: its own padding, and the way there and back */
#define MAX_S 30       /* of one turn; the oldest beyond is dropped */

void rt_recall_init(rt_recall *recall, size_t bytes_per_s, size_t bytes_per_sample)
{
	recall->padding_bytes = bytes_per_s * PADDING_MS / 1000 / bytes_per_sample * bytes_per_sample;
	recall->max_bytes = bytes_per_s * MAX_S;
}

void rt_recall_free(rt_recall *recall)
{
	free(recall->data);
	recall->data = NULL;
	recall->bytes = recall->room = 0;
}

void rt_recall_open(rt_recall *recall)
{
	recall->answering = 0;
	atomic_store(&recall->open, 1);
}

void rt_recall_answer(rt_recall *recall)
{
	recall->answering = 1;
}

void rt_recall_close(rt_recall *recall)
{
	if (recall->answering) {
		recall->answering = 0;
		atomic_store(&recall->open, 0);
	}
}

/* All but the last `kept` bytes go. */
static void drop_oldest(rt_recall *recall, size_t kept)
{
	memmove(recall->data, recall->data + (recall->bytes - kept), kept);
	recall->bytes = kept;
}

static int make_room(rt_recall *recall, size_t n)
{
	if (recall->bytes + n <= recall->room) {
		return 0;
	}
	/* A second at a time: the room that doubling leaves empty is memory of every call. */
	size_t step = 2 * recall->padding_bytes;
	size_t room = (recall->bytes + n + step - 1) / step * step;
	uint8_t *data = realloc(recall->data, room);
	if (!data) {
		return -1;
	}
	recall->data = data;
	recall->room = room;
	return 0;
}

void rt_recall_add(rt_recall *recall, const void *data, size_t n)
{
	if (n > recall->max_bytes / 2) {
		return; /* also where nothing is kept at all */
	}
	int open = atomic_load(&recall->open);
	if (!open && recall->room > 4 * recall->padding_bytes) {
		rt_recall_free(recall); /* a long turn has been answered: its memory is given back with what it held */
	}
	/* A part at a time, so that not every chunk moves all that is kept. */
	if (!open && recall->bytes + n > 2 * recall->padding_bytes && recall->bytes > recall->padding_bytes) {
		drop_oldest(recall, recall->padding_bytes);
	} else if (recall->bytes + n > recall->max_bytes) {
		drop_oldest(recall, recall->max_bytes / 2);
	}
	if (make_room(recall, n)) {
		return;
	}
	memcpy(recall->data + recall->bytes, data, n);
	recall->bytes += n;
}

size_t rt_recall_data(const rt_recall *recall, const uint8_t **data)
{
	*data = recall->data;
	return atomic_load(&recall->open) ? recall->bytes : 0;
}
