/* realtime_api.c - the native transport, any thread: what the application asks of the service thread. */
#include "realtime.h"

#include <stdlib.h>
#include <string.h>

#include "convert.h"

typedef struct attach_request {
	as_stream *stream;
	as_realtime_audio format;
} attach_request;

static void drop_attach(void *message)
{
	attach_request *request = message;
	as_stream_unref(request->stream);
	free(request);
}

static void do_attach(void *arg, void *message)
{
	as_realtime *rt = arg;
	attach_request *request = message;
	pthread_mutex_lock(&rt->audio_lock);
	rt_audio_attach(&rt->audio, request->stream, &request->format, rt->uplink_max_ms);
	rt_audio_recall(&rt->audio);
	pthread_mutex_unlock(&rt->audio_lock);
	drop_attach(request);
}

static int is_closed(as_realtime *rt)
{
	pthread_mutex_lock(&rt->lock);
	int closed = rt->info.state == AS_RT_CLOSED;
	pthread_mutex_unlock(&rt->lock);
	return closed;
}

static int check_formats(const as_stream *stream, const as_realtime_audio *audio)
{
	as_info info;
	as_stream_info(stream, &info);
	if (info.channels != 1) { /* what the model hears is mono */
		return AS_EINVAL;
	}
	int error = as_format_check(audio->out_encoding, audio->out_rate_hz);
	return error ? error
				 : as_capture_check(audio->in_encoding, audio->in_rate_hz, audio->chunk_ms, audio->quiet_chunk_ms,
									audio->hang_ms);
}

/* Of two that attach, the first does. */
static int claim(as_realtime *rt)
{
	pthread_mutex_lock(&rt->lock);
	int error = rt->info.state == AS_RT_CLOSED ? AS_ECLOSED : rt->attached ? AS_EBUSY : 0;
	rt->attached = 1;
	pthread_mutex_unlock(&rt->lock);
	return error;
}

int as_realtime_attach(as_realtime *rt, as_stream *stream, const as_realtime_audio *audio)
{
	int error = check_formats(stream, audio);
	if (!error) {
		error = claim(rt);
	}
	if (error) {
		return error;
	}
	attach_request *request = malloc(sizeof(*request));
	if (!request) {
		return AS_ENOMEM;
	}
	request->stream = as_stream_ref(stream);
	request->format = *audio;
	error = ws_post(rt->actor, do_attach, request, drop_attach);
	if (error) {
		drop_attach(request);
	}
	return error;
}

/* message: how often as_realtime_unlisten() had been called when this was asked for. */
static void do_listen(void *arg, void *message)
{
	as_realtime *rt = arg;
	pthread_mutex_lock(&rt->uplink_lock);
	if (rt->unlistens == (uintptr_t)message) {
		rt_audio_listen(&rt->audio);
	}
	pthread_mutex_unlock(&rt->uplink_lock);
}

int as_realtime_listen(as_realtime *rt)
{
	pthread_mutex_lock(&rt->lock);
	int attached = rt->attached;
	pthread_mutex_unlock(&rt->lock);
	if (!attached || is_closed(rt)) {
		return attached ? AS_ECLOSED : AS_EINVAL;
	}
	pthread_mutex_lock(&rt->uplink_lock);
	uintptr_t unlistens = rt->unlistens;
	pthread_mutex_unlock(&rt->uplink_lock);
	return ws_post(rt->actor, do_listen, (void *)unlistens, NULL);
}

/* At once: another connection may be about to listen. */
void as_realtime_unlisten(as_realtime *rt)
{
	pthread_mutex_lock(&rt->uplink_lock);
	rt->unlistens++;
	rt_audio_unlisten(&rt->audio);
	pthread_mutex_unlock(&rt->uplink_lock);
}

typedef struct recalled {
	as_realtime_audio format;
	size_t bytes;
	uint8_t data[];
} recalled;

static void do_resend(void *arg, void *message)
{
	as_realtime *rt = arg;
	recalled *turn = message;
	pthread_mutex_lock(&rt->uplink_lock);
	rt_audio_resend(&rt->audio, rt->actor, &turn->format, turn->data, turn->bytes);
	pthread_mutex_unlock(&rt->uplink_lock);
	free(turn);
}

int as_realtime_resend(as_realtime *rt, as_realtime *from)
{
	const uint8_t *data;
	pthread_mutex_lock(&from->uplink_lock);
	size_t bytes = rt_recall_data(&from->audio.recall, &data);
	recalled *turn = bytes ? malloc(sizeof(*turn) + bytes) : NULL;
	if (turn) {
		turn->format = from->audio.format;
		turn->bytes = bytes;
		memcpy(turn->data, data, bytes);
	}
	pthread_mutex_unlock(&from->uplink_lock);
	if (!turn) {
		return bytes ? AS_ENOMEM : 0;
	}
	int error = ws_post(rt->actor, do_resend, turn, free);
	if (error) {
		free(turn);
	}
	return error;
}

typedef struct text_message {
	size_t bytes;
	char text[];
} text_message;

static void do_send(void *arg, void *message)
{
	as_realtime *rt = arg;
	text_message *text = message;
	if (ws_send(rt->actor, 0, text->text, text->bytes) == AS_EFULL) {
		ws_disconnect(rt->actor, WS_ABNORMAL, "the server does not read", 0);
	}
	free(text);
}

int as_realtime_send(as_realtime *rt, const char *text, size_t bytes)
{
	if (is_closed(rt)) {
		return AS_ECLOSED;
	}
	text_message *message = malloc(sizeof(*message) + bytes);
	if (!message) {
		return AS_ENOMEM;
	}
	message->bytes = bytes;
	memcpy(message->text, text, bytes);
	int error = ws_post(rt->actor, do_send, message, free);
	if (error) {
		free(message);
	}
	return error;
}

/* At once: what the application does next may be about this audio. */
int as_realtime_route(as_realtime *rt, const char *response_id, uint32_t generation)
{
	pthread_mutex_lock(&rt->audio_lock);
	rt_audio_route(&rt->audio, response_id, generation);
	pthread_mutex_unlock(&rt->audio_lock);
	return 0;
}

typedef struct close_message {
	int code, timeout_ms;
} close_message;

static void do_close(void *arg, void *message)
{
	as_realtime *rt = arg;
	close_message *closing = message;
	rt->closing = 1;
	ws_disconnect(rt->actor, closing->code, "", closing->timeout_ms);
	free(closing);
}

void as_realtime_close(as_realtime *rt, int code, int timeout_ms)
{
	close_message *closing = malloc(sizeof(*closing));
	if (closing) {
		*closing = (close_message){code, timeout_ms};
		if (ws_post(rt->actor, do_close, closing, free)) {
			free(closing);
		}
	}
}

void as_realtime_get_info(as_realtime *rt, as_realtime_info *out)
{
	pthread_mutex_lock(&rt->lock);
	*out = rt->info;
	pthread_mutex_unlock(&rt->lock);
	out->dropped_samples = rt->audio.dropped_samples;
	out->appends = rt->audio.appends;
	out->deltas = rt->audio.deltas;
	out->full_deltas = rt->audio.full_deltas;
	out->repeated_deltas = rt->audio.repeated_deltas;
	out->last_received_ns = ws_last_received_ns(rt->actor);
}
