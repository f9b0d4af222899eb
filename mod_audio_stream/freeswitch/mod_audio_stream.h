/*
 * mod_audio_stream.h - what the module's files share. See mod_audio_stream.c for the whole picture.
 */
#ifndef MOD_AUDIO_STREAM_H
#define MOD_AUDIO_STREAM_H

#include <switch.h>

#include "audio_stream.h"

#define TAP_FUNCTION "audio_stream" /* our media bugs' name in `uuid_buglist` */

/* Settings of audio_stream.conf.xml. Written at load, read only after. */
typedef struct module_config {
	int capture_buffer_ms;
	int inject_max_ms;
	int prebuffer_ms;
	int fade_ms;
	int max_streams; /* 0 = no limit */
	switch_bool_t events;
} module_config;

/* config.c: reads audio_stream.conf.xml. A missing file or a bad value means the defaults and a line in the log. */
void config_load(module_config *config);

/* events.c: CUSTOM events mod_audio_stream::<name> with a JSON body. */
#define EVENT_STARTED "mod_audio_stream::stream_started"
#define EVENT_STOPPED "mod_audio_stream::stream_stopped"
#define EVENT_ERROR "mod_audio_stream::stream_error"
switch_status_t events_reserve(const char *modname, switch_bool_t enable);
void events_free(void);
/* Fires, unless events are switched off, and takes over body (NULL is allowed). session may be NULL. */
void events_fire(const char *subclass, switch_core_session_t *session, cJSON *body);
/* A stream's description and counters. */
cJSON *events_describe(as_stream *stream);

/* tap.c: the media bug that joins a call leg to a stream. */
switch_status_t taps_init(switch_memory_pool_t *pool, const module_config *config);
/* Opens a stream on the call; error gets the reason on failure. Any thread but the media thread. */
switch_status_t tap_start(switch_core_session_t *session, const char *stream_id, int rate_hz, char *error, size_t bytes);
/* Stops one stream. SWITCH_STATUS_NOTFOUND when there is none of this name. */
switch_status_t tap_stop(switch_core_session_t *session, const char *stream_id, const char *reason);
/* Takes our bugs and hooks off every call, and waits until no callback is running: the module may go. */
switch_status_t taps_shutdown(void);

#endif
