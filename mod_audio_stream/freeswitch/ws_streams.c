/*
 * ws_streams.c - a streamer on a call: a tap (tap.c) whose stream a streamer of libaudiostream talks about with a server.
 *
 *     start      options, tap_start(), as_streamer_new(), and only then stream_started: what fails on the way is undone
 *     events     service thread: on_event() leaves a job, unless the server causes too many ─▶ events lane: fires it
 *     the end    the server's doing, graceful-shutdown: on_finished() leaves a job ─▶ events lane: behind the stream's last
 *                event, passes it on ─▶ endings lane: stops the tap, whose stream_stopped goes through the events lane
 *                stop, hangup, unload: the tap closes the stream; the streamer says goodbye in its own time
 *
 * stream_started and stream_stopped are the tap's, as for embedded streams: once each, and at once when a call ends.
 *
 * Lifetime. A call_stream has two owners: the command that starts it, until that is done, and the streamer, until the
 * endings lane has done its last job. Commands that have found it in the list are owners for as long as they run. It refers
 * to its call by uuid only and may outlive it.
 */
#include "ws_streams.h"

#include <pthread.h>

#include "event_limit.h"
#include "events.h"
#include "status.h"
#include "worker.h"

#define DESCRIBE_BYTES 8192
#define REASON_BYTES 256
#define SHUTDOWN_TRIES 40 /* times 50 ms, for streamers to say goodbye */

typedef struct call_stream {
	job_t finished; /* first: the last job's call_stream; a place of its own, for it must not fail */
	char uuid[AS_NAME_MAX], id[AS_NAME_MAX];
	char reason[REASON_BYTES];        /* why it finished: written by the service thread before it leaves the last job */
	as_stream *stream;                /* set before it is listed */
	pthread_mutex_t starting;         /* held until stream_started is out; only the lanes wait for it */
	switch_bool_t announced;          /* it is out: written under starting */
	volatile switch_atomic_t dropped; /* events */
	event_limit limit;                /* of what the server causes; service thread */
	switch_bool_t limited;            /* it has been said that some are dropped; service thread */
	/* Under globals.mutex. */
	as_streamer *streamer; /* NULL until as_streamer_new() has returned */
	int owners;
	struct call_stream *next;
} call_stream_t;

typedef struct stream_event_job {
	job_t job; /* first */
	call_stream_t *owner;
	const char *body; /* behind name */
	char name[];
} stream_event_job_t;

static struct {
	switch_mutex_t *mutex; /* the list; held for a few instructions only */
	call_stream_t *list;
	module_config config;
} globals;

/* ---- The list ---------------------------------------------------------------------------------------------------- */

static void list_stream(call_stream_t *stream)
{
	switch_mutex_lock(globals.mutex);
	stream->next = globals.list;
	globals.list = stream;
	switch_mutex_unlock(globals.mutex);
}

static void unlist_stream(call_stream_t *gone)
{
	switch_mutex_lock(globals.mutex);
	for (call_stream_t **link = &globals.list; *link; link = &(*link)->next) {
		if (*link == gone) {
			*link = gone->next;
			break;
		}
	}
	switch_mutex_unlock(globals.mutex);
}

/* The caller becomes an owner; NULL when the stream has no streamer (yet, or any more). */
static call_stream_t *find_tapped(const as_stream *tapped)
{
	switch_mutex_lock(globals.mutex);
	call_stream_t *found = globals.list;
	while (found && (!found->streamer || found->stream != tapped)) {
		found = found->next;
	}
	if (found) {
		found->owners++;
	}
	switch_mutex_unlock(globals.mutex);
	return found;
}

/* An owner is done with it. */
static void release(call_stream_t *stream)
{
	switch_mutex_lock(globals.mutex);
	int owners = --stream->owners;
	switch_mutex_unlock(globals.mutex);
	if (!owners) {
		as_streamer_unref(stream->streamer);
		as_stream_unref(stream->stream);
		pthread_mutex_destroy(&stream->starting);
		free(stream);
	}
}

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

static void run_stream_event(job_t *job);
static void run_last_event(job_t *job);

static void leave_event(call_stream_t *stream, const char *name, const char *body)
{
	size_t name_bytes = strlen(name) + 1, body_bytes = strlen(body) + 1;
	stream_event_job_t *job = malloc(sizeof(*job) + name_bytes + body_bytes);
	if (!job) {
		switch_atomic_inc(&stream->dropped);
		return;
	}
	*job = (stream_event_job_t){.job = {.run = run_stream_event, .bytes = body_bytes}, .owner = stream};
	memcpy(job->name, name, name_bytes);
	job->body = memcpy(job->name + name_bytes, body, body_bytes);
	if (worker_add(WORKER_EVENTS, &job->job, 0)) {
		switch_atomic_inc(&stream->dropped);
		free(job);
	}
}

static void drop_event(call_stream_t *stream)
{
	switch_atomic_inc(&stream->dropped);
	if (!stream->limited) {
		stream->limited = SWITCH_TRUE;
		leave_event(stream, "log",
					"{\"level\":\"warning\",\"text\":\"the server causes more events than event-rate in "
					"audio_stream.conf.xml allows: the rest are dropped, and counted in eventsDropped of status\"}");
	}
}

static void on_event(void *arg, const char *name, const char *body)
{
	call_stream_t *stream = arg;
	if (!strcmp(name, EVENT_STARTED) || !strcmp(name, EVENT_STOPPED)) {
		return; /* the tap's */
	}
	if (event_limit_takes(&stream->limit, name, body, as_now_ns())) {
		leave_event(stream, name, body);
	} else {
		drop_event(stream);
	}
}

static void on_finished(void *arg, const char *reason)
{
	call_stream_t *stream = arg;
	switch_copy_string(stream->reason, switch_str_nil(reason), sizeof(stream->reason));
	stream->finished.run = run_last_event;
	worker_add(WORKER_EVENTS, &stream->finished, 1);
}

/* ---- The worker's lanes ------------------------------------------------------------------------------------------ */

/* So that stream_started comes first. */
static void wait_started(call_stream_t *stream)
{
	pthread_mutex_lock(&stream->starting);
	pthread_mutex_unlock(&stream->starting);
}

static switch_log_level_t level_of(const char *name)
{
	return !strcmp(name, "debug")     ? SWITCH_LOG_DEBUG
		   : !strcmp(name, "warning") ? SWITCH_LOG_WARNING
		   : !strcmp(name, "error")   ? SWITCH_LOG_ERROR
									  : SWITCH_LOG_INFO;
}

/* The streamer's "log": {"level": "debug" | "info" | "warning" | "error", "text": ...}. */
static void log_line(const call_stream_t *stream, const char *body)
{
	cJSON *json = cJSON_Parse(body);
	const char *text = cJSON_GetObjectCstr(json, "text"), *level = cJSON_GetObjectCstr(json, "level");
	if (text && level) {
		switch_log_printf(SWITCH_CHANNEL_UUID_LOG(stream->uuid), level_of(level), "stream %s: %s\n", stream->id, text);
	}
	cJSON_Delete(json);
}

/* Events lane. */
static void run_stream_event(job_t *arg)
{
	stream_event_job_t *job = (stream_event_job_t *)arg;
	wait_started(job->owner);
	if (!strcmp(job->name, "log")) {
		log_line(job->owner, job->body);
	} else if (job->owner->announced) { /* else nobody has heard of the stream */
		events_fire_now(job->name, job->owner->uuid, job->owner->id, job->body);
	}
	free(job);
}

/* Endings lane. The streamer has had its last word. Its tap is still there, unless a command or a hangup was first. */
static void run_finished(job_t *job)
{
	call_stream_t *stream = (call_stream_t *)job;
	wait_started(stream);
	unsigned dropped = switch_atomic_read(&stream->dropped);
	if (dropped) {
		switch_log_printf(SWITCH_CHANNEL_UUID_LOG(stream->uuid), SWITCH_LOG_WARNING,
						  "stream %s: %u events were dropped: they came faster than event-rate in "
						  "audio_stream.conf.xml allows, or than FreeSWITCH takes them\n",
						  stream->id, dropped);
	}
	if (!as_stream_closed(stream->stream)) {
		switch_core_session_t *session = switch_core_session_locate(stream->uuid);
		if (session) {
			tap_stop(session, stream->stream, stream->reason);
			switch_core_session_rwunlock(session);
		}
	}
	unlist_stream(stream); /* not before: what stream_stopped says of the connection is found in the list */
	release(stream);
}

/* Events lane. All events of the stream have been fired. */
static void run_last_event(job_t *job)
{
	job->run = run_finished;
	worker_add(WORKER_ENDINGS, job, 1);
}

/* ---- Commands ---------------------------------------------------------------------------------------------------- */

static call_stream_t *new_stream(const as_command *command, as_stream *tapped)
{
	call_stream_t *stream = calloc(1, sizeof(*stream));
	if (stream) {
		switch_copy_string(stream->uuid, command->uuid, sizeof(stream->uuid));
		switch_copy_string(stream->id, command->stream_id, sizeof(stream->id));
		pthread_mutex_init(&stream->starting, NULL);
		event_limit_init(&stream->limit, globals.config.event_rate);
		stream->stream = as_stream_ref(tapped);
		stream->owners = 2; /* the command and the streamer */
	}
	return stream;
}

static switch_status_t refuse(char *error, size_t bytes, const char *what)
{
	switch_snprintf(error, bytes, "%s", what);
	return SWITCH_STATUS_FALSE;
}

static as_streamer_start start_of(const as_command *command)
{
	return (as_streamer_start){
		.dialect = command->dialect,
		.url = command->url,
		.track = command->track,
		.rate_hz = command->rate_hz,
		.timeout_s = command->timeout_s,
		.bidirectional = command->bidirectional,
		.metadata = command->metadata,
		.voice = command->voice,
		.instructions = command->instructions,
		.api_key = command->api_key,
		.model = command->model,
	};
}

/* Talks about what has been tapped. On failure nobody has heard of the stream, and only the tap is left to undo. */
static switch_status_t talk(switch_core_session_t *session, const as_command *command, const as_options *options,
							as_stream *tapped, char *error, size_t bytes)
{
	const as_streamer_start start = start_of(command);
	as_streamer *streamer = NULL;
	call_stream_t *stream = new_stream(command, tapped);
	if (!stream) {
		refuse(error, bytes, as_strerror(AS_ENOMEM));
		return status_of(AS_ENOMEM);
	}
	list_stream(stream);
	pthread_mutex_lock(&stream->starting);
	int result = as_streamer_new(tapped, &start, options, on_event, on_finished, stream, error, bytes, &streamer);
	if (result == 0) {
		switch_mutex_lock(globals.mutex);
		stream->streamer = streamer;
		switch_mutex_unlock(globals.mutex);
		stream->announced = tap_announce(session, tapped) == SWITCH_STATUS_SUCCESS ? SWITCH_TRUE : SWITCH_FALSE;
	}
	switch_status_t status = !result && !stream->announced ? SWITCH_STATUS_NOTFOUND : status_of(result);
	pthread_mutex_unlock(&stream->starting);
	if (result) {
		unlist_stream(stream);
		release(stream); /* for the streamer that never was */
		if (zstr(error)) {
			refuse(error, bytes, as_strerror(result));
		}
	} else if (status != SWITCH_STATUS_SUCCESS) { /* the streamer finds its stream closed, and finishes */
		switch_snprintf(error, bytes, TAP_STOPPED_MEANWHILE, command->stream_id);
	}
	release(stream);
	return status;
}

tap_track ws_streams_track(as_command_track track)
{
	switch (track) {
	case AS_COMMAND_OUTBOUND:
		return TAP_OUTBOUND;
	case AS_COMMAND_MIXED:
		return TAP_MIXED;
	case AS_COMMAND_STEREO:
		return TAP_STEREO;
	case AS_COMMAND_INBOUND:
		break;
	}
	return TAP_INBOUND;
}

static switch_status_t start_with(switch_core_session_t *session, const as_command *command, const as_options *options,
								  char *error, size_t bytes)
{
	const tap_request request = {
		.stream_id = command->stream_id,
		.track_name = command->track,
		.track = ws_streams_track(command->tracks),
		.rate_hz = command->rate_hz,
		.inject = command->dialect != AS_DIALECT_JSON || command->bidirectional,
		.capture_ms = (int)as_options_number(options, "MOD_AUDIO_STREAM_BUFFER_SECS") * 1000,
		.inject_max_ms = globals.config.inject_max_ms,
		.one_leg_stereo = (int)as_options_number(options, "STREAM_ALLOW_ONE_LEG_STEREO"),
		.source = "websocket",
	};
	as_stream *tapped = NULL;
	switch_status_t status = tap_start(session, &request, &tapped, error, bytes);
	if (status != SWITCH_STATUS_SUCCESS) {
		return status;
	}
	status = talk(session, command, options, tapped, error, bytes);
	if (status != SWITCH_STATUS_SUCCESS) {
		tap_stop(session, tapped, "not started");
	}
	as_stream_unref(tapped);
	return status;
}

/* Of what as_streamer_new() refuses, the rest that can be known before there is media: OpenAI takes the call's own G.711
 * at 8000 Hz, and nothing else. */
static switch_status_t check_codec(switch_core_session_t *session, const as_command *command, char *error, size_t bytes)
{
	if (command->dialect != AS_DIALECT_OPENAI || command->rate_hz != 8000 || tap_encoding(session) != AS_S16) {
		return SWITCH_STATUS_SUCCESS;
	}
	return refuse(error, bytes, "rate=8000: OpenAI takes PCM at 24000 Hz, and G.711 at 8000 Hz on calls that speak it");
}

switch_status_t ws_streams_start(switch_core_session_t *session, const as_command *command, char *error, size_t bytes)
{
	as_options *options = NULL;
	switch_channel_t *channel = switch_core_session_get_channel(session);
	const as_streamer_start start = start_of(command);
	if (config_options(globals.config.options, channel, &options, error, bytes) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_GENERR;
	}
	/* Before the tap, which may bring early media up: that cannot be undone. */
	int result = as_streamer_check(&start, options, error, bytes);
	switch_status_t status = result ? status_of(result) : check_codec(session, command, error, bytes);
	if (status == SWITCH_STATUS_SUCCESS) {
		status = start_with(session, command, options, error, bytes);
	}
	if (result && zstr(error)) {
		refuse(error, bytes, as_strerror(result));
	}
	as_options_free(options);
	return status;
}

switch_status_t ws_streams_stop(const as_stream *tapped, const char *text, switch_bool_t graceful)
{
	call_stream_t *stream = find_tapped(tapped);
	if (!stream) {
		return SWITCH_STATUS_NOTFOUND;
	}
	as_streamer_stop(stream->streamer, zstr(text) ? NULL : text, graceful);
	release(stream);
	return SWITCH_STATUS_SUCCESS;
}

switch_status_t ws_streams_send_text(const as_stream *tapped, const char *text, int *result)
{
	call_stream_t *stream = find_tapped(tapped);
	if (!stream) {
		return SWITCH_STATUS_NOTFOUND;
	}
	*result = as_streamer_send_text(stream->streamer, text);
	release(stream);
	return SWITCH_STATUS_SUCCESS;
}

void ws_streams_describe(const as_stream *tapped, cJSON *body)
{
	call_stream_t *stream = find_tapped(tapped);
	char text[DESCRIBE_BYTES];
	if (stream) {
		cJSON_ReplaceItemInObject(body, "source", cJSON_CreateString("websocket"));
		as_streamer_describe(stream->streamer, text, sizeof(text));
		cJSON_AddItemToObject(body, "connection", cJSON_Parse(text));
		cJSON_AddItemToObject(body, "eventsDropped", cJSON_CreateNumber(switch_atomic_read(&stream->dropped)));
		release(stream);
	}
}

/* ---- The module -------------------------------------------------------------------------------------------------- */

switch_status_t ws_streams_init(switch_memory_pool_t *pool, const module_config *config)
{
	globals.config = *config;
	return globals.mutex ? SWITCH_STATUS_SUCCESS : switch_mutex_init(&globals.mutex, SWITCH_MUTEX_UNNESTED, pool);
}

static switch_bool_t any_listed(void)
{
	switch_mutex_lock(globals.mutex);
	switch_bool_t any = globals.list ? SWITCH_TRUE : SWITCH_FALSE;
	switch_mutex_unlock(globals.mutex);
	return any;
}

void ws_streams_stop_all(const char *reason)
{
	switch_mutex_lock(globals.mutex);
	for (call_stream_t *stream = globals.list; stream; stream = stream->next) {
		if (stream->streamer) {
			as_streamer_stop(stream->streamer, reason, 0);
		}
	}
	switch_mutex_unlock(globals.mutex);
}

void ws_streams_shutdown(void)
{
	/* Their streams are closed: they are on their way out, and the worker takes them off the list. */
	for (int i = 0; i < SHUTDOWN_TRIES && any_listed(); i++) {
		switch_yield(50000);
	}
	as_ws_stop(); /* no callback comes after this */
	worker_stop();
	while (globals.list) { /* nobody else is left */
		call_stream_t *stream = globals.list;
		unlist_stream(stream);
		release(stream);
	}
}
