/*
 * realtime_recall.h - what the caller has said and no answer has begun to, for a connection that takes over from one that
 * was lost: the audio of the turn under way, and a little before it.
 *
 *     speech_started        rt_recall_open(): from here on everything is kept, up to a bound
 *     an answer is heard    rt_recall_close(): of what was kept only the padding stays
 *
 * rt_recall_add() and rt_recall_data() belong to whoever holds the connection's uplink lock; the others are the service
 * thread's and need none.
 */
#ifndef STREAM_REALTIME_RECALL_H
#define STREAM_REALTIME_RECALL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rt_recall {
	uint8_t *data;
	size_t bytes, room;
	size_t padding_bytes, max_bytes; /* kept between turns; kept at most. 0: nothing is kept at all */
	_Atomic int open;                /* a turn is under way, or over and not answered yet */
	int answering;                   /* a response has begun since the turn was over */
} rt_recall;

/* Begins to keep audio of so many bytes a second. */
void rt_recall_init(rt_recall *recall, size_t bytes_per_s, size_t bytes_per_sample);
void rt_recall_free(rt_recall *recall);
/* The caller speaks. */
void rt_recall_open(rt_recall *recall);
/* A response has begun, after the caller's turn. */
void rt_recall_answer(rt_recall *recall);
/* Audio of a response has come. */
void rt_recall_close(rt_recall *recall);
/* Keeps what has been sent. Without memory it is not kept. */
void rt_recall_add(rt_recall *recall, const void *data, size_t n);
/* What is kept of an unanswered turn; 0 bytes when there is none. */
size_t rt_recall_data(const rt_recall *recall, const uint8_t **data);

#endif
