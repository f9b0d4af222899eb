/*
 * realtime.c - the native transport: a Realtime connection whose audio stays here, and whose events are the application's.
 *
 *     service thread       on_message(): audio to the stream, everything else into the queue of events
 *     application's        as_events_recv() takes events; as_realtime_send() and the rest post to the service thread
 *
 * Whether a flush may still be coming. The application flushes when it deals with a speech_started. It has dealt with
 * what it took once it asks for more. So a response that is first heard of while a speech_started is in the queue, or
 * being dealt with, or not yet followed by speech_stopped, waits for the application's word.
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream_ws.h"
#include "convert.h"
#include "events.h"
#include "loop.h"
#include "realtime_audio.h"

#define UPLINK_MAX_MS 5000
#define EVENTS_MAX_BYTES (32 << 20) /* that the application does not take: then it has gone, and so do we */
#define EVENT_MAX_BYTES (1 << 20)   /* of one: reading more would keep the events of other calls waiting */
#define HEADERS_MAX 32
#define CODE_AWAY 1001

_Static_assert((int)WS_WHY_CLOSED == AS_WHY_CLOSED && (int)WS_WHY_OPTIONS == AS_WHY_OPTIONS, "one list, two headers");

struct as_realtime {
	_Atomic int users; /* the application's references: with the last one the connection goes */
	_Atomic int refs;  /* keep the memory: one for all users, one of the actor's, one for each event that waits */
	ws_actor *actor;
	/* Set before the actor starts. */
	ws_options options;
	char *strings; /* what options and headers point into */
	size_t strings_bytes;
	const char *headers[HEADERS_MAX + 1];
	const char *events; /* in strings: wanted, each with "\n" before and after it; NULL: all */
	int uplink_max_ms;
	/* The lock around reading the stream's capture. */
	pthread_mutex_t uplink_lock;
	unsigned unlistens; /* as_realtime_unlisten() has been called so often: a listen() of before is void */
	/* The lock; held while audio is converted, so never by who must be quick. It comes before the queue's and the
	 * stream's. Counters, and what pump() uses, are the service thread's without it. */
	pthread_mutex_t audio_lock;
	rt_audio audio;
	/* Service thread. */
	int hearing; /* the server says that the caller speaks */
	int closing;
	event_queue *queue;  /* the application's */
	event_source source; /* us, in it */
	/* Everybody, under the lock. */
	pthread_mutex_t lock;
	int attached; /* as_realtime_attach() has been called */
	as_realtime_info info;
};

/* ---- Service thread: events of our own ---------------------------------------------------------------------------- */

/* Takes over the object. */
static void put_json(as_realtime *rt, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text) {
		event_queue_put(rt->queue, &rt->source, text, strlen(text), EVENT_OURS);
		free(text);
	}
	json_decref(object);
}

/* ---- Service thread: the connection ------------------------------------------------------------------------------ */

static void set_state(as_realtime *rt, int state)
{
	pthread_mutex_lock(&rt->lock);
	int changed = rt->info.state != state;
	rt->info.state = state;
	pthread_mutex_unlock(&rt->lock);
	if (changed) {
		put_json(rt, json_pack("{s:s}", "type", state == AS_RT_OPEN ? "transport.open" : "transport.closed"));
	}
}

static void on_start(void *arg)
{
	as_realtime *rt = arg;
	int error = rt->closing ? AS_ECLOSED : ws_connect(rt->actor, &rt->options);
	if (error && !rt->closing) {
		pthread_mutex_lock(&rt->lock);
		rt->info.why = WS_WHY_OPTIONS;
		rt->info.close_code = WS_ABNORMAL;
		snprintf(rt->info.reason, sizeof(rt->info.reason), "%s", as_strerror(error));
		pthread_mutex_unlock(&rt->lock);
	}
	if (error) {
		set_state(rt, AS_RT_CLOSED);
	}
}

static void on_open(void *arg)
{
	set_state(arg, AS_RT_OPEN);
}

static void on_tick(void *arg, int64_t now_ns)
{
	as_realtime *rt = arg;
	(void)now_ns;
	if (ws_is_open(rt->actor) && !rt->closing) {
		pthread_mutex_lock(&rt->uplink_lock);
		rt_audio_pump(&rt->audio, rt->actor);
		pthread_mutex_unlock(&rt->uplink_lock);
	}
}

static void on_close(void *arg, const ws_end *end)
{
	as_realtime *rt = arg;
	pthread_mutex_lock(&rt->lock);
	rt->info.close_code = end->code;
	rt->info.why = (int)end->why;
	rt->info.http_status = end->http_status;
	rt->info.passing = end->passing;
	rt->info.refused = end->refused;
	snprintf(rt->info.reason, sizeof(rt->info.reason), "%s", end->reason);
	pthread_mutex_unlock(&rt->lock);
	set_state(rt, AS_RT_CLOSED);
}

/* ---- Service thread: messages ------------------------------------------------------------------------------------ */

/* May a flush still be coming? */
static int undecided(as_realtime *rt)
{
	return rt->hearing || event_queue_undecided(rt->queue, &rt->source);
}

static void announce(as_realtime *rt, const rt_item *item, int first)
{
	put_json(rt, json_pack("{s:s,s:s,s:s,s:I,s:I,s:b}", "type", "transport.audio", "response_id", item->response->id,
						   "item_id", item->id, "mark", (json_int_t)item->mark, "generation",
						   (json_int_t)item->response->generation, "first", first));
}

static void complain(as_realtime *rt, const char *about, const char *message)
{
	put_json(rt, json_pack("{s:s,s:s,s:s}", "type", "transport.complaint", "about", about, "message", message));
}

/* Counted; the first one is worth a word. */
static void on_nonsense(as_realtime *rt, const char *what)
{
	pthread_mutex_lock(&rt->lock);
	int first = rt->info.bad_messages++ == 0;
	pthread_mutex_unlock(&rt->lock);
	if (first) {
		complain(rt, "malformed", what);
	}
}

static int is_wanted(const as_realtime *rt, const char *type)
{
	size_t n = strlen(type);
	if (!rt->events) {
		return 1;
	}
	for (const char *at = rt->events; (at = strstr(at, type)); at += n) {
		if (at[-1] == '\n' && at[n] == '\n') {
			return n > 0;
		}
	}
	return 0;
}

/* Hands an event over, unless it is none of the application's business. */
static void pass_on(as_realtime *rt, const rt_message *message, const char *data, size_t n)
{
	if (!is_wanted(rt, message->type)) {
		return;
	}
	if (n > EVENT_MAX_BYTES) {
		on_nonsense(rt, "the server sent an event of more than 1 MiB; from now on such messages are only counted");
	} else if (event_queue_put(rt->queue, &rt->source, data, n,
							   message->kind == RT_SPEECH_STARTED ? EVENT_DECISIVE : 0)) {
		ws_disconnect(rt->actor, CODE_AWAY, "events are not taken", 0);
	}
}

static void on_delta(as_realtime *rt, const rt_message *message)
{
	pthread_mutex_lock(&rt->audio_lock);
	rt_outcome outcome = rt_audio_delta(&rt->audio, message, undecided(rt), as_now_ns());
	if (outcome.announce) {
		announce(rt, outcome.announce, outcome.first);
	}
	pthread_mutex_unlock(&rt->audio_lock);
	if (outcome.complaint) {
		complain(rt, outcome.about, outcome.complaint);
	}
}

/* Notes what a message means for audio; the application gets it in any case. */
static void note(as_realtime *rt, const rt_message *message)
{
	switch (message->kind) {
	case RT_SPEECH_STARTED:
		rt->hearing = 1;
		break;
	case RT_SPEECH_STOPPED:
		rt->hearing = 0;
		break;
	case RT_RESPONSE_CREATED:
		rt_audio_response(&rt->audio, message->response_id, undecided(rt));
		break;
	case RT_AUDIO_DONE:
		rt_audio_done(&rt->audio, message->item_id);
		break;
	default:
		break;
	}
}

static void on_message(void *arg, int binary, char *data, size_t n)
{
	as_realtime *rt = arg;
	rt_message message;
	int error = binary ? AS_EINVAL : rt_parse(data, n, &message);
	if (error) {
		on_nonsense(rt, "the server sent what is not an event; from now on such messages are only counted");
	} else if (message.kind == RT_AUDIO_DELTA) {
		on_delta(rt, &message);
	} else {
		pthread_mutex_lock(&rt->audio_lock);
		note(rt, &message);
		pthread_mutex_unlock(&rt->audio_lock);
		pass_on(rt, &message, data, n);
	}
}

static void free_realtime(as_realtime *rt)
{
	rt_audio_free(&rt->audio);
	pthread_mutex_destroy(&rt->audio_lock);
	pthread_mutex_destroy(&rt->uplink_lock);
	pthread_mutex_destroy(&rt->lock);
	if (rt->strings) {
		explicit_bzero(rt->strings, rt->strings_bytes); /* the key is among them */
	}
	free(rt->strings);
	free(rt);
}

static void retain(void *owner)
{
	as_realtime *rt = owner;
	atomic_fetch_add(&rt->refs, 1);
}

static void drop(void *owner)
{
	as_realtime *rt = owner;
	if (atomic_fetch_sub(&rt->refs, 1) == 1) {
		free_realtime(rt);
	}
}

static void on_free(void *arg)
{
	set_state(arg, AS_RT_CLOSED); /* also when the service threads were stopped under it */
	drop(arg);
}

static const ws_callbacks callbacks = {
	.on_start = on_start,
	.on_tick = on_tick,
	.on_open = on_open,
	.on_message = on_message,
	.on_close = on_close,
	.on_free = on_free,
};

/* ---- Any thread: beginning and end ------------------------------------------------------------------------------- */

static const char *keep(char **at, const char *text)
{
	if (!text || !*text) {
		return NULL;
	}
	size_t bytes = strlen(text) + 1;
	const char *kept = memcpy(*at, text, bytes);
	*at += bytes;
	return kept;
}

static size_t room(const char *text)
{
	return text ? strlen(text) + 1 : 0;
}

/* AS_EINVAL for more headers than anybody needs. */
static int split_headers(as_realtime *rt, char *lines)
{
	int count = 0;
	char *state = NULL;
	for (char *line = lines ? strtok_r(lines, "\n", &state) : NULL; line; line = strtok_r(NULL, "\n", &state)) {
		if (count == HEADERS_MAX) {
			return AS_EINVAL;
		}
		rt->headers[count++] = line;
	}
	rt->options.headers = rt->headers;
	return 0;
}

static int configure(as_realtime *rt, const as_realtime_config *config)
{
	rt->strings_bytes = room(config->url) + room(config->headers) + room(config->ca_file) + room(config->events) + 2;
	rt->strings = malloc(rt->strings_bytes);
	if (!rt->strings) {
		return AS_ENOMEM;
	}
	char *at = rt->strings;
	rt->options = (ws_options){
		.url = keep(&at, config->url),
		.ca_file = keep(&at, config->ca_file),
		.connect_timeout_ms = config->connect_timeout_ms,
		.ping_interval_ms = config->ping_interval_ms,
		.ping_timeout_ms = config->ping_timeout_ms,
		.max_message_bytes = config->max_message_bytes > 0 ? (size_t)config->max_message_bytes : 0,
	};
	if (config->events && *config->events) {
		*at = '\n'; /* so that the first one, too, has one before it */
		rt->events = at++;
		keep(&at, config->events);
	}
	rt->uplink_max_ms = config->uplink_max_ms > 0 ? config->uplink_max_ms : UPLINK_MAX_MS;
	return split_headers(rt, (char *)keep(&at, config->headers));
}

static as_realtime *new_realtime(void)
{
	as_realtime *rt = calloc(1, sizeof(*rt));
	if (rt) {
		pthread_mutex_init(&rt->lock, NULL);
		pthread_mutex_init(&rt->audio_lock, NULL);
		pthread_mutex_init(&rt->uplink_lock, NULL);
		atomic_init(&rt->users, 1);
		atomic_init(&rt->refs, 2);
		rt_audio_init(&rt->audio);
	}
	return rt;
}

int as_realtime_new(const as_realtime_config *config, as_events *events, uint64_t tag, as_realtime **out)
{
	char why[256];
	if (!config || !config->url || ws_url_check(config->url, why, sizeof(why))) {
		return AS_EINVAL;
	}
	as_realtime *rt = new_realtime();
	if (!rt) {
		return AS_ENOMEM;
	}
	rt->queue = &events->queue;
	rt->source = (event_source){tag, EVENTS_MAX_BYTES, retain, drop, rt, 0, 0};
	int error = configure(rt, config);
	if (!error) {
		error = ws_actor_new(&callbacks, rt, &rt->actor);
	}
	if (error) {
		free_realtime(rt);
		return error;
	}
	*out = rt;
	return 0;
}

as_realtime *as_realtime_ref(as_realtime *rt)
{
	atomic_fetch_add(&rt->users, 1);
	return rt;
}

static void finish(void *arg, void *message)
{
	as_realtime *rt = arg;
	(void)message;
	rt->closing = 1;
	ws_finish(rt->actor);
}

void as_realtime_unref(as_realtime *rt)
{
	if (rt && atomic_fetch_sub(&rt->users, 1) == 1) {
		ws_post(rt->actor, finish, NULL, NULL);
		ws_actor_unref(rt->actor);
		drop(rt);
	}
}

/* ---- Any thread: what the application asks of the service thread --------------------------------------------------- */

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
