/* streamer_api.c - the public functions: any thread. What they leave for the service thread is under the lock. */
#define _GNU_SOURCE
#include "streamer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"
#include "wipe.h"

#define TEXTS_MAX_BYTES (1 << 20)

static const struct dialect *const dialects[] = {
	[AS_DIALECT_BINARY] = &dialect_binary,
	[AS_DIALECT_JSON] = &dialect_json,
	[AS_DIALECT_OPENAI] = &dialect_openai,
};

/* ---- Beginning and end ------------------------------------------------------------------------------------------- */

/* A copy that is UTF-8 whatever the text was; NULL of NULL. */
static char *clean_copy(const char *text, int *error)
{
	char *out = text ? as_utf8_clean(text) : NULL;
	*error = text && !out ? AS_ENOMEM : *error;
	return out;
}

static int choose_dialect(as_streamer *s, int asked)
{
	const char *set = s->options->dialect;
	if (asked == AS_DIALECT_BINARY || asked == AS_DIALECT_JSON) {
		asked = !strcmp(set, "binary") ? AS_DIALECT_BINARY : !strcmp(set, "json") ? AS_DIALECT_JSON : asked;
	}
	if (asked > 0 && asked < (int)(sizeof(dialects) / sizeof(dialects[0]))) {
		s->dialect = dialects[asked];
	}
	return s->dialect ? 0 : AS_EINVAL;
}

/* How the streamer's sender sends, unless the dialect reads the capture itself. */
static struct sender_config sending(const as_streamer *s, const as_streamer_start *start)
{
	const as_options *options = s->options;
	return (struct sender_config){
		.encoding = s->dialect->has_codec && !strcmp(options->codec, "ULAW") ? AS_PCMU : AS_S16,
		.rate_hz = start->rate_hz ? start->rate_hz : s->info.rate_hz,
		.frame_ms = options->frame_ms,
		.batch_ms = options->buffer_size_ms,
		.split = s->dialect->split,
		.max_queue_ms = options->max_queue_ms,
		.ring_ms = options->buffer_secs * 1000,
	};
}

/* ---- What a dialect may ask for: the service thread -------------------------------------------------------------- */

static int host_sends(void *arg, int binary, const void *data, size_t n)
{
	return streamer_send(arg, binary, data, n);
}

static void host_counts(void *arg, uint64_t messages, uint64_t bytes)
{
	as_streamer *s = arg;
	s->sent_messages += messages;
	s->sent_bytes += bytes;
}

static void host_ends(void *arg, const char *reason)
{
	streamer_end(arg, reason);
}

static void make_host(as_streamer *s, int bidirectional)
{
	s->host = (struct dialect_host){
		.stream = s->stream,
		.info = &s->info,
		.options = s->options,
		.track = s->track,
		.metadata = s->metadata,
		.bidirectional = bidirectional,
		.report = &s->report,
		.arg = s,
		.send = host_sends,
		.count_sent = host_counts,
		.end = host_ends,
	};
}

/* ---- Beginning: what needs no stream ----------------------------------------------------------------------------- */

static int reach(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	struct dialect_target to = {0};
	int result = s->dialect->reach(&s->host, start, &to, error, bytes);
	if (!result) {
		result = streamer_target_init(&s->target, s->options, &to, s->dialect->own_credentials, start->timeout_s, error,
									  bytes);
	}
	s->host.connect_timeout_ms = s->target.options.connect_timeout_ms;
	as_wipe_free(to.url); /* both may hold a key */
	as_wipe_free(to.header);
	return result;
}

/* What needs no stream, in an order in which streamer_free() can take apart any beginning of it. */
static int prepare_streamer(as_streamer *s, const as_streamer_start *start, const as_options *options, char *error,
							size_t bytes)
{
	int result = options ? as_options_copy(options, &s->options) : as_options_new(&s->options);
	s->track = clean_copy(start->track ? start->track : "", &result);
	s->metadata = clean_copy(start->metadata, &result);
	if (result) {
		return result;
	}
	if (choose_dialect(s, start->dialect)) {
		snprintf(error, bytes, "dialect %d is none that is known", start->dialect);
		return AS_EINVAL;
	}
	s->report.uuid = s->info.uuid;
	s->report.stream_id = s->info.id;
	s->report.suppress_log = s->options->suppress_log;
	s->report.debug_json = s->options->debug_json;
	s->sending = sending(s, start);
	make_host(s, start->bidirectional);
	result = reach(s, start, error, bytes);
	return result || s->dialect->pump ? result : sender_check(&s->sending, error, bytes);
}

/* ---- The player's outlets: the service thread, unless player.h says otherwise ------------------------------------ */

static void player_fires(void *arg, const char *name, json_t *body, int64_t at_ns)
{
	as_streamer *s = arg;
	report_event_at(&s->report, name, body, at_ns);
}

static void player_complains(void *arg, const char *text)
{
	as_streamer *s = arg;
	report_invalid(&s->report, "%s", text);
}

static void player_reaches(void *arg, const char *name, int reached)
{
	as_streamer *s = arg;
	if (s->dialect->on_checkpoint && s->state == STREAMER_OPEN) {
		s->dialect->on_checkpoint(&s->host, name, reached);
	}
}

static void player_has_queued(void *arg)
{
	as_streamer *s = arg;
	if (s->state == STREAMER_PLAYING_OUT) {
		streamer_allow_queued(s);
	}
}

static int player_posts(void *arg, void (*run)(void *arg, void *message), void *message, void (*drop)(void *message))
{
	as_streamer *s = arg;
	return ws_post(s->actor, run, message, drop);
}

/* The actor keeps the streamer. */
static void player_holds(void *arg)
{
	as_streamer *s = arg;
	ws_actor_ref(s->actor);
}

static void player_releases(void *arg)
{
	as_streamer *s = arg;
	ws_actor_unref(s->actor);
}

static int make_player(as_streamer *s)
{
	const as_options *options = s->options;
	int fed_ahead = s->dialect->fed_ahead;
	const struct player_config config = {
		.adaptive = !fed_ahead && options->adaptive && options->inject_min_ms == 0,
		.jitter = as_options_jitter(options, s->sending.rate_hz, s->host.bidirectional),
		.prebuffer_ms = fed_ahead ? 0 : options->inject_min_ms,
		.limit_ms = options->inject_buffer_ms,
		.strict = options->inject_strict,
		.file_dir = options->file_dir,
		.queued = s->dialect->queued,
	};
	const struct player_outlets outlets = {
		s,
		player_fires,
		player_complains,
		player_reaches,
		player_has_queued,
		player_posts,
		player_holds,
		player_releases,
	};
	return player_alloc(&s->player, s->stream, &config, &outlets);
}

/* ---- The sender's outlets: the service thread -------------------------------------------------------------------- */

static void sender_sends(void *arg, const void *audio, size_t bytes)
{
	as_streamer *s = arg;
	s->dialect->send_audio(&s->host, audio, bytes);
}

static size_t sender_asks_unsent(void *arg)
{
	as_streamer *s = arg;
	return ws_unsent(s->actor);
}

static void sender_fires(void *arg, const char *name, json_t *body)
{
	as_streamer *s = arg;
	report_event(&s->report, name, body);
}

static int make_sender(as_streamer *s, char *error, size_t bytes)
{
	const struct sender_outlets outlets = {s, sender_sends, sender_asks_unsent, sender_fires};
	return s->dialect->pump ? sender_alloc_watcher(&s->sender, s->stream, &outlets)
							: sender_alloc(&s->sender, s->stream, &s->sending, &outlets, error, bytes);
}

/* ---- Beginning --------------------------------------------------------------------------------------------------- */

static int build(as_streamer *s, const as_streamer_start *start, const as_options *options, char *error, size_t bytes)
{
	int result = prepare_streamer(s, start, options, error, bytes);
	result = result ? result : make_sender(s, error, bytes);
	s->host.sender = s->sender;
	if (!result && s->dialect->init) {
		result = s->dialect->init(&s->host, start, error, bytes);
	}
	if (!result) {
		s->view.format = sender_format(s->sender);
		result = make_player(s);
		s->host.player = s->player;
	}
	return result;
}

/* stream: may be NULL, for what is only prepared. */
static as_streamer *allocate(as_stream *stream)
{
	as_streamer *s = calloc(1, sizeof(*s));
	if (s) {
		atomic_init(&s->refs, 2);
		pthread_mutex_init(&s->lock, NULL);
		s->texts_end = &s->texts;
		s->random = (uint32_t)as_now_ns() ^ (uint32_t)(uintptr_t)s;
	}
	if (s && stream) {
		s->stream = as_stream_ref(stream);
		as_stream_info(stream, &s->info);
	}
	return s;
}

/* Lets go of what has come to nothing. s may be NULL. */
static void abandon_streamer(as_streamer *s, int result, char *error, size_t bytes)
{
	if (result && bytes && !*error) {
		snprintf(error, bytes, "%s", as_strerror(result));
	}
	if (s) {
		streamer_free(s);
	}
}

int as_streamer_check(const as_streamer_start *start, const as_options *options, char *error, size_t bytes)
{
	as_streamer *s = allocate(NULL);
	if (bytes) {
		*error = '\0';
	}
	int result = s ? prepare_streamer(s, start, options, error, bytes) : AS_ENOMEM;
	abandon_streamer(s, result, error, bytes);
	return result;
}

int as_streamer_new(as_stream *stream, const as_streamer_start *start, const as_options *options,
					as_streamer_event on_event, as_streamer_finished on_finished, void *arg, char *error, size_t bytes,
					as_streamer **out)
{
	as_streamer *s = allocate(stream);
	if (bytes) {
		*error = '\0';
	}
	int result = s ? build(s, start, options, error, bytes) : AS_ENOMEM;
	if (!result) {
		s->report.on_event = on_event;
		s->report.arg = arg;
		s->on_finished = on_finished;
		s->arg = arg;
		*out = s; /* before the actor: it may be over before we return */
		result = ws_actor_new(&streamer_callbacks, s, &s->actor);
	}
	if (!result) {
		ws_actor_unref(s->actor); /* it holds itself until it has finished, or the service threads are stopped */
		return 0;
	}
	abandon_streamer(s, result, error, bytes);
	return result;
}

/* ---- In between -------------------------------------------------------------------------------------------------- */

/* Under the lock: may another text wait to be sent? */
static int admit_text(const as_streamer *s, size_t bytes)
{
	if (s->finished || s->view.state >= STREAMER_PLAYING_OUT) {
		return AS_ECLOSED;
	}
	return s->text_bytes + bytes > TEXTS_MAX_BYTES ? AS_EFULL : 0;
}

/* NULL without memory. */
static streamer_text *text_message(const char *text)
{
	char *clean = as_utf8_clean(text);
	size_t bytes = clean ? strlen(clean) : 0;
	streamer_text *message = clean ? malloc(sizeof(*message) + bytes + 1) : NULL;
	if (message) {
		message->next = NULL;
		message->bytes = bytes;
		memcpy(message->text, clean, bytes + 1);
	}
	free(clean);
	return message;
}

int as_streamer_send_text(as_streamer *s, const char *text)
{
	streamer_text *message = text_message(text);
	if (!message) {
		return AS_ENOMEM;
	}
	size_t bytes = message->bytes;
	pthread_mutex_lock(&s->lock);
	int error = admit_text(s, bytes);
	if (!error) {
		*s->texts_end = message;
		s->texts_end = &message->next;
		s->text_bytes += bytes;
	}
	pthread_mutex_unlock(&s->lock);
	if (error) {
		free(message);
	}
	return error;
}

void as_streamer_stop(as_streamer *s, const char *text, int graceful)
{
	int stop = graceful ? STREAMER_STOP_GRACEFUL : STREAMER_STOP_NOW;
	char *clean = text && *text ? as_utf8_clean(text) : NULL;
	pthread_mutex_lock(&s->lock);
	if (!s->stop_text) {
		s->stop_text = clean;
		clean = NULL;
	}
	s->stop = stop > s->stop ? stop : s->stop;
	pthread_mutex_unlock(&s->lock);
	free(clean);
}

size_t as_streamer_describe(as_streamer *s, char *json, size_t bytes)
{
	static const char *const order[] = {
		"url",         "track",    "failedAttempts", "sentMessages", "sentBytes", "receivedMessages", "receivedBytes",
		"unsentBytes", "unsentMs", "underrunMs",     "refusedMs",    "playedMs",  "queuedMs",         "underruns",
		"prebufferMs", "channels", "codec",          "droppedMs",    "rate",
	};
	pthread_mutex_lock(&s->lock);
	streamer_view view = s->view;
	pthread_mutex_unlock(&s->lock);
	json_t *body = streamer_describe_json(s, &view);
	size_t n = json_dumpb(body, json, bytes - 1, JSON_COMPACT);
	for (size_t i = 0; n >= bytes && i < sizeof(order) / sizeof(order[0]); i++) { /* what matters least goes first */
		json_object_del(body, order[i]);
		n = json_dumpb(body, json, bytes - 1, JSON_COMPACT);
	}
	json_decref(body);
	json[n] = '\0';
	return n;
}
