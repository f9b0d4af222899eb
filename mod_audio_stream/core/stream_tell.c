/* stream_tell.c - what the host sees of a call (a key, a hold), told to whoever has subscribed to a stream. */
#include <string.h>

#include "stream.h"

static void release(as_listener *listener, int closed)
{
	if (listener) {
		listener->release(listener, closed);
	}
}

int as_stream_listener(as_stream *stream, as_listener *listener)
{
	as_listener *before = NULL;
	int error = 0;
	pthread_mutex_lock(&stream->telling);
	if (listener && as_stream_closed(stream)) {
		error = AS_ECLOSED;
	} else if (listener && stream->listener) {
		error = AS_EEXIST;
	} else {
		before = stream->listener;
		stream->listener = listener;
	}
	pthread_mutex_unlock(&stream->telling);
	release(before, 0);
	return error;
}

/* The stream is closed: nobody subscribes any more. */
void as_stream_forget_listener(as_stream *stream)
{
	pthread_mutex_lock(&stream->telling);
	as_listener *before = stream->listener;
	stream->listener = NULL;
	pthread_mutex_unlock(&stream->telling);
	release(before, 1);
}

/* Under the lock. */
static int tell(as_stream *stream, const char *json, size_t bytes)
{
	if (as_stream_closed(stream)) {
		return AS_ECLOSED;
	}
	if (!stream->listener) {
		return AS_ENOENT;
	}
	int error = stream->listener->put(stream->listener, json, bytes);
	stream->told += !error;
	stream->untold += error != 0;
	return error;
}

int as_stream_tell(as_stream *stream, const char *json)
{
	size_t bytes = json ? strlen(json) : 0;
	if (bytes < 2 || bytes > AS_TELL_MAX || json[0] != '{') {
		return AS_EINVAL;
	}
	pthread_mutex_lock(&stream->telling);
	int error = tell(stream, json, bytes);
	pthread_mutex_unlock(&stream->telling);
	return error;
}

void as_stream_told(as_stream *stream, as_stats *out)
{
	pthread_mutex_lock(&stream->telling);
	out->host_events = stream->told;
	out->host_events_dropped = stream->untold;
	pthread_mutex_unlock(&stream->telling);
}
