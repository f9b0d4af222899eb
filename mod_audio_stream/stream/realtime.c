/*
 * realtime.c - the native transport: a Realtime connection whose audio stays here, and whose events are the application's.
 *
 *     service thread       on_message(): audio to the stream, everything else into the queue of events
 *     application's        as_events_recv() takes events; what realtime_api.c offers posts to the service thread
 *
 * Whether a flush may still be coming. The application flushes when it deals with a speech_started. It has dealt with
 * what it took once it asks for more. So a response that is first heard of while a speech_started is in the queue, or
 * being dealt with, or not yet followed by speech_stopped, waits for the application's word.
 */
#define _GNU_SOURCE
#include "realtime.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPLINK_MAX_MS 5000
#define EVENTS_MAX_BYTES (32 << 20) /* that the application does not take: then it has gone, and so do we */
#define OURS_MAX_BYTES (1 << 20)    /* of our own, beside them: some 3,000 items that begin */
#define EVENT_MAX_BYTES (1 << 20)   /* of one: reading more would keep the events of other calls waiting */
#define COMPLAIN_NS INT64_C(1000000000)
#define NONSENSE_NS INT64_C(10000000000)
#define NONSENSE_MAX                                                                                                   \
	1000 /* messages in NONSENSE_NS that cannot be used: 100 a second, which no mistake of a server's is */
#define CODE_AWAY 1001

_Static_assert((int)WS_WHY_CLOSED == AS_WHY_CLOSED && (int)WS_WHY_OPTIONS == AS_WHY_OPTIONS, "one list, two headers");

/* ---- Service thread: events for the application ------------------------------------------------------------------- */

/* A server that says more than the application takes is left; with its events, not one of them. */
static void put(as_realtime *rt, const char *text, size_t n, int flags)
{
	switch (event_queue_put(rt->queue, &rt->source, text, n, flags)) {
	case 0:
		break;
	case AS_EFULL:
		ws_disconnect(rt->actor, CODE_AWAY,
					  flags & EVENT_OURS
						  ? "the server begins items of audio faster than the application takes note of them"
						  : "events are not taken: 32 MB of them wait for the application",
					  0);
		break;
	default:
		ws_disconnect(rt->actor, CODE_AWAY,
					  "no memory for the server's events: all streams together have used up MOD_AUDIO_STREAM_MEMORY_MB",
					  0);
	}
}

/* Takes over the object. */
static void put_json(as_realtime *rt, json_t *object, int flags)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text) {
		put(rt, text, strlen(text), flags);
	}
	free(text);
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
		put_json(rt, json_pack("{s:s}", "type", state == AS_RT_OPEN ? "transport.open" : "transport.closed"),
				 EVENT_LAST);
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
	put_json(rt,
			 json_pack("{s:s,s:s,s:s,s:I,s:I,s:b}", "type", "transport.audio", "response_id", item->response->id,
					   "item_id", item->id, "mark", (json_int_t)item->mark, "generation",
					   (json_int_t)item->response->generation, "first", first),
			 EVENT_OURS);
}

/* At most once a second for each kind: a server may send nonsense faster than anybody reads about it. */
static void complain(as_realtime *rt, const char *about, const char *message)
{
	int64_t now = as_now_ns();
	int kind = 0;
	while (kind < RT_COMPLAINTS - 1 && rt->complaints[kind].about && strcmp(rt->complaints[kind].about, about)) {
		kind++;
	}
	if (!rt->complaints[kind].about || now - rt->complaints[kind].last_ns >= COMPLAIN_NS) {
		rt->complaints[kind].about = about;
		rt->complaints[kind].last_ns = now;
		put_json(rt, json_pack("{s:s,s:s,s:s}", "type", "transport.complaint", "about", about, "message", message),
				 EVENT_OURS);
	}
}

/* What cannot be used costs time all the same: a server that sends hardly anything else is left. */
static void bear(as_realtime *rt, const char *what)
{
	char reason[256];
	int64_t now_ns = as_now_ns();
	if (now_ns - rt->nonsense_ns > NONSENSE_NS) {
		rt->nonsense_ns = now_ns;
		rt->nonsense = 0;
	}
	if (++rt->nonsense > NONSENSE_MAX) {
		snprintf(reason, sizeof(reason), "more than %d messages within 10 s could not be used: %s", NONSENSE_MAX, what);
		ws_disconnect(rt->actor, CODE_AWAY, reason, 0);
	}
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
	bear(rt, what);
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
		on_nonsense(rt, "the server sent an event of more than 1 MiB");
	} else {
		put(rt, data, n, message->kind == RT_SPEECH_STARTED ? EVENT_DECISIVE : 0);
	}
}

static void on_delta(as_realtime *rt, const rt_message *message)
{
	pthread_mutex_lock(&rt->audio_lock);
	rt_outcome outcome = rt_audio_delta(&rt->audio, message, undecided(rt), as_now_ns());
	if (outcome.announce) {
		announce(rt, outcome.announce, outcome.first);
	}
	rt_recall_close(&rt->audio.recall);
	pthread_mutex_unlock(&rt->audio_lock);
	if (outcome.complaint) {
		complain(rt, outcome.about, outcome.complaint);
	}
	if (outcome.useless) {
		bear(rt, outcome.complaint);
	}
}

/* Notes what a message means for audio; the application gets it in any case. */
static void note(as_realtime *rt, const rt_message *message)
{
	switch (message->kind) {
	case RT_SPEECH_STARTED:
		rt->hearing = 1;
		rt_recall_open(&rt->audio.recall);
		break;
	case RT_SPEECH_STOPPED:
		rt->hearing = 0;
		break;
	case RT_RESPONSE_CREATED:
		if (!rt->hearing) {
			rt_recall_answer(&rt->audio.recall);
		}
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
		on_nonsense(rt, rt_complaint(error));
	} else if (message.kind == RT_AUDIO_DELTA) {
		on_delta(rt, &message);
	} else {
		pthread_mutex_lock(&rt->audio_lock);
		rt_audio_event(&rt->audio, &message);
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
		if (count == RT_HEADERS_MAX) {
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
	rt->source = (event_source){.tag = tag,
								.max_bytes = EVENTS_MAX_BYTES,
								.max_ours_bytes = OURS_MAX_BYTES,
								.retain = retain,
								.release = drop,
								.owner = rt};
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
