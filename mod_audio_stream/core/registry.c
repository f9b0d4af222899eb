/*
 * registry.c - every open stream of the process, by (uuid, id). One lock, never taken by the media thread.
 *
 * The registry holds no reference: a stream leaves it when it is closed, at the latest by its last unref.
 */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "stream.h"

#define BUCKETS 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t added;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static as_stream *buckets[BUCKETS];

static void init_cond(void)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&added, &attr);
	pthread_condattr_destroy(&attr);
}

/* FNV-1a over the uuid: a call's streams share a bucket, so listing a call looks in one place. */
static as_stream **bucket_of(const char *uuid)
{
	uint32_t hash = 2166136261u;
	for (const char *p = uuid; *p; p++) {
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	}
	return &buckets[hash % BUCKETS];
}

static as_stream *lookup(const char *uuid, const char *id)
{
	as_stream *stream = *bucket_of(uuid);
	while (stream && (strcmp(stream->uuid, uuid) || strcmp(stream->id, id))) {
		stream = stream->next;
	}
	return stream;
}

int as_registry_add(as_stream *stream)
{
	int error = AS_EEXIST;
	pthread_once(&once, init_cond);
	pthread_mutex_lock(&lock);
	if (!lookup(stream->uuid, stream->id)) {
		as_stream **bucket = bucket_of(stream->uuid);
		stream->next = *bucket;
		*bucket = stream;
		stream->registered = 1;
		pthread_cond_broadcast(&added);
		error = 0;
	}
	pthread_mutex_unlock(&lock);
	return error;
}

void as_registry_remove(as_stream *stream)
{
	pthread_mutex_lock(&lock);
	if (stream->registered) {
		as_stream **link = bucket_of(stream->uuid);
		while (*link != stream) {
			link = &(*link)->next;
		}
		*link = stream->next;
		stream->registered = 0;
	}
	pthread_mutex_unlock(&lock);
}

/* Takes a reference unless the last one is just being given back. */
static int ref_if_alive(as_stream *stream)
{
	int refs = atomic_load(&stream->refs);
	while (refs > 0 && !atomic_compare_exchange_weak(&stream->refs, &refs, refs + 1)) {
	}
	return refs > 0;
}

int as_stream_find(const char *uuid, const char *id, int timeout_ms, as_stream **out)
{
	if (!uuid || !id || !out) {
		return AS_EINVAL;
	}
	int64_t deadline = as_now_ns() + (int64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	struct timespec until = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
	int error = AS_ENOENT, expired = timeout_ms <= 0;
	pthread_once(&once, init_cond);
	pthread_mutex_lock(&lock);
	for (;;) {
		as_stream *stream = lookup(uuid, id);
		if (stream && ref_if_alive(stream)) {
			*out = stream;
			error = 0;
			break;
		}
		if (expired) {
			break;
		}
		expired = pthread_cond_timedwait(&added, &lock, &until) != 0;
	}
	pthread_mutex_unlock(&lock);
	return error;
}

int as_call_tell(const char *uuid, const char *json)
{
	int count = 0;
	pthread_mutex_lock(&lock);
	for (as_stream *stream = *bucket_of(uuid); stream; stream = stream->next) {
		count += !strcmp(stream->uuid, uuid) && as_stream_tell(stream, json) == 0;
	}
	pthread_mutex_unlock(&lock);
	return count;
}

int as_stream_list(const char *uuid, as_info *out, int max)
{
	int count = 0;
	pthread_mutex_lock(&lock);
	as_stream **first = uuid ? bucket_of(uuid) : buckets, **last = uuid ? first : buckets + BUCKETS - 1;
	for (as_stream **bucket = first; bucket <= last; bucket++) {
		for (as_stream *stream = *bucket; stream; stream = stream->next) {
			if (uuid && strcmp(stream->uuid, uuid)) {
				continue;
			}
			if (count < max) {
				as_stream_info(stream, &out[count]);
			}
			count++;
		}
	}
	pthread_mutex_unlock(&lock);
	return count;
}
