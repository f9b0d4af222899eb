#define _GNU_SOURCE
#include "event_queue.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audio_stream.h"
#include "budget.h"

struct queued_event {
	queued_event *next;
	event_source *source;
	int flags;
	size_t bytes;
	char text[];
};

void event_queue_init(event_queue *queue)
{
	pthread_condattr_t monotonic;
	memset(queue, 0, sizeof(*queue));
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->more, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&queue->lock, NULL);
	queue->last = &queue->first;
}

/* The memory that an event takes, malloc's header included. */
static size_t cost_of(const queued_event *event)
{
	return sizeof(*event) + event->bytes + 2 * sizeof(size_t);
}

/* Not under the lock: the release may be the owner's last. NULL is allowed. */
static void event_free(queued_event *event)
{
	if (event) {
		as_budget_release(cost_of(event));
		event->source->release(event->source->owner);
		free(event);
	}
}

void event_queue_destroy(event_queue *queue)
{
	event_free(queue->dealing);
	for (queued_event *event = queue->first, *next; event; event = next) {
		next = event->next;
		event_free(event);
	}
	pthread_cond_destroy(&queue->more);
	pthread_mutex_destroy(&queue->lock);
}

/* Under the lock. Where an event of this kind is counted. */
static size_t *account_of(const queued_event *event)
{
	return event->flags & EVENT_OURS ? &event->source->ours_bytes : &event->source->bytes;
}

/* Under the lock. 0, or AS_EFULL, AS_ENOMEM. */
static int append(event_queue *queue, queued_event *event)
{
	event_source *source = event->source;
	size_t most = event->flags & EVENT_OURS ? source->max_ours_bytes : source->max_bytes, *bytes = account_of(event);
	if (!(event->flags & EVENT_LAST) && *bytes + cost_of(event) > most) {
		return AS_EFULL;
	}
	/* A source's beginning and end are few: granted like the first of its others. */
	if (as_budget_reserve(event->flags & EVENT_LAST ? 0 : *bytes, cost_of(event))) {
		return AS_ENOMEM;
	}
	source->retain(source->owner);
	*bytes += cost_of(event);
	source->undecided += event->flags & EVENT_DECISIVE;
	*queue->last = event;
	queue->last = &event->next;
	pthread_cond_signal(&queue->more); /* here: who takes the last event may free the queue */
	return 0;
}

int event_queue_put(event_queue *queue, event_source *source, const char *text, size_t bytes, int flags)
{
	queued_event *event = malloc(sizeof(*event) + bytes);
	if (!event) {
		return AS_ENOMEM;
	}
	*event = (queued_event){.source = source, .flags = flags, .bytes = bytes};
	memcpy(event->text, text, bytes);
	pthread_mutex_lock(&queue->lock);
	int error = append(queue, event);
	pthread_mutex_unlock(&queue->lock);
	if (error) {
		free(event);
	}
	return error;
}

int event_queue_undecided(event_queue *queue, const event_source *source)
{
	pthread_mutex_lock(&queue->lock);
	int undecided = source->undecided;
	pthread_mutex_unlock(&queue->lock);
	return undecided;
}

void event_queue_end(event_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->ended = 1;
	pthread_cond_broadcast(&queue->more);
	pthread_mutex_unlock(&queue->lock);
}

static struct timespec deadline(int timeout_ms)
{
	int64_t ns = as_now_ns() + (timeout_ms > 0 ? timeout_ms * INT64_C(1000000) : 0);
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* Under the lock. What was taken last has been dealt with; the caller frees it, when the lock is off. */
static queued_event *settle(event_queue *queue)
{
	queued_event *dealt = queue->dealing;
	queue->dealing = NULL;
	if (dealt) {
		dealt->source->undecided -= dealt->flags & EVENT_DECISIVE;
	}
	return dealt;
}

/* Under the lock. Takes the first event off the queue. */
static void take(event_queue *queue, char *text, uint64_t *tag)
{
	queued_event *event = queue->first;
	queue->first = event->next;
	if (!queue->first) {
		queue->last = &queue->first;
	}
	*account_of(event) -= cost_of(event);
	memcpy(text, event->text, event->bytes);
	*tag = event->source->tag;
	queue->dealing = event;
}

long event_queue_take(event_queue *queue, char *text, size_t bytes, int timeout_ms, uint64_t *tag)
{
	const struct timespec until = deadline(timeout_ms);
	long result = 0;
	pthread_mutex_lock(&queue->lock);
	queued_event *dealt = settle(queue);
	while (!queue->first && !queue->ended && timeout_ms > 0) {
		if (dealt) { /* while nothing waits for us */
			pthread_mutex_unlock(&queue->lock);
			event_free(dealt);
			dealt = NULL;
			pthread_mutex_lock(&queue->lock);
		} else if (pthread_cond_timedwait(&queue->more, &queue->lock, &until)) {
			break;
		}
	}
	if (queue->first) {
		result = (long)queue->first->bytes;
		if (queue->first->bytes <= bytes) {
			take(queue, text, tag);
		}
	} else if (queue->ended) {
		result = AS_ECLOSED;
	}
	pthread_mutex_unlock(&queue->lock);
	event_free(dealt);
	return result;
}
