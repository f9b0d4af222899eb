/*
 * events.c - CUSTOM events mod_audio_stream::*.
 *
 * An event is fired by the worker's lane for them, so that those of a stream come in the order in which they happened, on whichever
 * threads that was, and nobody waits for FreeSWITCH's event queues.
 */
#include "events.h"

#include "audio_stream_ws.h"
#include "worker.h"

#define SUBCLASS_BYTES 128

static struct {
	switch_bool_t enabled;  /* written at load, read only after */
	switch_bool_t reserved; /* the names are ours: still, when an unload had to leave us in memory */
	char *owner;            /* the module's name */
} events;

/* One name a line would hide the groups. */
/* clang-format off */
static const char *const names[] = {
	/* the module's */
	"stream_started", "stream_stopped", "stream_error",
	/* streamers' */
	"connect", "disconnect", "error", "json", "play",
	"connection_established", "connection_failed", "connection_timeout", "connection_closed",
	"media_play_start", "media_play_complete", "media_cleared", "media_checkpoint", "transcription_received",
	"message_received", "stream_buffer_overrun", "stream_buffer_underrun", "stream_heartbeat", "stream_timeout",
	"stream_invalid_input", "stream_paused", "stream_resumed",
	"openai_session_started", "openai_response_generated", "openai_error", "openai_session_expired",
};

/* What a server may have fired many times a second: a channel's data would be most of what FreeSWITCH passes on. */
static const char *const terse[] = {
	"json", "play", "media_play_start", "media_play_complete", "media_cleared", "media_checkpoint",
	"transcription_received", "message_received", "stream_invalid_input", "stream_buffer_overrun",
	"stream_buffer_underrun", "openai_error", "openai_response_generated",
};
/* clang-format on */

#define NAMES (sizeof(names) / sizeof(names[0]))

static const char *subclass(const char *name, char *text)
{
	switch_snprintf(text, SUBCLASS_BYTES, "mod_audio_stream::%s", name);
	return text;
}

static void free_first(size_t count)
{
	char text[SUBCLASS_BYTES];
	while (count-- > 0) {
		switch_event_free_subclass_detailed(events.owner, subclass(names[count], text));
	}
}

switch_status_t events_reserve(switch_memory_pool_t *pool, const char *modname, switch_bool_t enable)
{
	char text[SUBCLASS_BYTES];
	events.enabled = enable;
	if (events.reserved) {
		return SWITCH_STATUS_SUCCESS;
	}
	events.owner = switch_core_strdup(pool, modname);
	for (size_t i = 0; i < NAMES; i++) {
		if (switch_event_reserve_subclass_detailed(modname, subclass(names[i], text)) != SWITCH_STATUS_SUCCESS) {
			switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_ERROR,
							  "the event %s belongs to another module: unload it first\n", text);
			free_first(i);
			return SWITCH_STATUS_FALSE;
		}
	}
	events.reserved = SWITCH_TRUE;
	return SWITCH_STATUS_SUCCESS;
}

void events_free(void)
{
	free_first(NAMES);
	events.reserved = SWITCH_FALSE;
}

/* ---- Firing ------------------------------------------------------------------------------------------------------ */

/* Whether there is more in a text's WebSocket URL than scheme, host and port: a user, a path or a query may be secret. */
static switch_bool_t has_secret_url(const char *text)
{
	for (const char *at = text; (at = switch_stristr("://", at)); at += 3) {
		switch_bool_t ours =
			(at - text >= 2 && !strncasecmp(at - 2, "ws", 2)) || (at - text >= 3 && !strncasecmp(at - 3, "wss", 3));
		const char *host = at + 3;
		const char *rest = host + strcspn(host, "/?# \t\r\n'\"");
		switch_bool_t more =
			*rest == '?' || *rest == '#' || (*rest == '/' && rest[1] && !strchr(" \t\r\n'\"", rest[1]));
		if (ours && (more || memchr(host, '@', (size_t)(rest - host)))) {
			return SWITCH_TRUE;
		}
	}
	return SWITCH_FALSE;
}

#define VARIABLE "variable_"

/* The name of a header that shows a secret: a setting that is one, or the arguments of our application; NULL without one. */
static const char *header_with_secret(const switch_event_t *event)
{
	for (const switch_event_header_t *header = event->headers; header; header = header->next) {
		const char *variable =
			strncasecmp(header->name, VARIABLE, strlen(VARIABLE)) ? "" : header->name + strlen(VARIABLE);
		if (as_option_is_secret(variable) ||
			(header->value && (switch_stristr("api_key=", header->value) || has_secret_url(header->value)))) {
			return header->name;
		}
	}
	return NULL;
}

/* Channel variables are part of a channel's data, and some are nobody's business. */
static void hide_secrets(switch_event_t *event)
{
	for (const char *name; (name = header_with_secret(event));) {
		char *own = strdup(name); /* the header's goes with it */
		switch_assert(own);
		switch_event_del_header(event, own);
		free(own);
	}
}

static void add_header(switch_event_t *event, const char *name, const char *value)
{
	if (!zstr(value)) {
		switch_event_add_header_string(event, SWITCH_STACK_BOTTOM, name, value);
	}
}

/* Whose event it is, and no more. */
static void add_identity(switch_event_t *event, switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	const switch_caller_profile_t *profile = switch_channel_get_caller_profile(channel);
	add_header(event, "Unique-ID", switch_core_session_get_uuid(session));
	add_header(event, "Channel-Name", switch_channel_get_name(channel));
	if (profile) {
		add_header(event, "Caller-Caller-ID-Number", profile->caller_id_number);
		add_header(event, "Caller-Destination-Number", profile->destination_number);
	}
}

static switch_bool_t is_terse(const char *name)
{
	for (size_t i = 0; i < sizeof(terse) / sizeof(terse[0]); i++) {
		if (!strcmp(name, terse[i])) {
			return SWITCH_TRUE;
		}
	}
	return SWITCH_FALSE;
}

/* An event with the channel's data, or identity, while there is a channel. NULL when events are switched off. */
static switch_event_t *new_event(const char *name, const char *uuid, switch_core_session_t *session,
								 const char *stream_id, const char *body)
{
	switch_event_t *event = NULL;
	char text[SUBCLASS_BYTES];
	if (!events.enabled ||
		switch_event_create_subclass(&event, SWITCH_EVENT_CUSTOM, subclass(name, text)) != SWITCH_STATUS_SUCCESS) {
		return NULL;
	}
	if (session && is_terse(name)) {
		add_identity(event, session);
	} else if (session) {
		switch_channel_event_set_data(switch_core_session_get_channel(session), event);
		hide_secrets(event);
	} else {
		switch_event_add_header_string(event, SWITCH_STACK_BOTTOM, "Unique-ID", uuid);
	}
	add_header(event, "Stream-ID", stream_id);
	if (!zstr(body)) {
		switch_event_add_body(event, "%s", body);
	}
	return event;
}

typedef struct event_job {
	job_t job; /* first: a job is its event_job */
	switch_event_t *event;
} event_job_t;

/* Events lane. */
static void run_event(job_t *job)
{
	switch_event_fire(&((event_job_t *)job)->event);
	free(job);
}

void events_fire(const char *name, switch_core_session_t *session, const char *stream_id, cJSON *body)
{
	cJSON_AddNumberToObject(body, "at", (double)(switch_micro_time_now() / 1000));
	char *text = cJSON_PrintUnformatted(body);
	switch_event_t *event = new_event(name, switch_core_session_get_uuid(session), session, stream_id, text);
	event_job_t *job = event ? calloc(1, sizeof(*job)) : NULL;
	if (job) {
		job->job.run = run_event;
		job->event = event;
		worker_add(WORKER_EVENTS, &job->job, 1); /* as many as there are commands and streams: no need of a bound */
	} else if (event) {
		switch_event_destroy(&event);
	}
	switch_safe_free(text);
	cJSON_Delete(body);
}

void events_fire_now(const char *name, const char *uuid, const char *stream_id, const char *body)
{
	switch_core_session_t *session = switch_core_session_locate(uuid);
	switch_event_t *event = new_event(name, uuid, session, stream_id, body);
	if (session) {
		switch_core_session_rwunlock(session);
	}
	if (event) {
		switch_event_fire(&event);
	}
}
