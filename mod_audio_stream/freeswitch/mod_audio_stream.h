/*
 * mod_audio_stream.h - what the module's files share. See mod_audio_stream.c for the whole picture.
 */
#ifndef MOD_AUDIO_STREAM_H
#define MOD_AUDIO_STREAM_H

#include <switch.h>

#include "audio_stream.h"
#include "audio_stream_ws.h"
#include "command.h"

#define TAP_STOPPED_MEANWHILE "stream '%s' was stopped meanwhile, or its call ended" /* in reply to a start */
#define TAP_FUNCTION "audio_stream" /* our media bugs' name in `uuid_buglist` */

/* What becomes of a command: SWITCH_STATUS_FALSE where its arguments are wrong, so that its usage helps, and any other
 * status but SWITCH_STATUS_SUCCESS where they are not to blame. result: the library's. */
static inline switch_status_t status_of(int result)
{
	return !result ? SWITCH_STATUS_SUCCESS : result == AS_ENOMEM ? SWITCH_STATUS_MEMERR : SWITCH_STATUS_FALSE;
}

/* Settings of audio_stream.conf.xml. Written at load, read only after. */
typedef struct module_config {
	int capture_buffer_ms;
	int inject_max_ms;
	int prebuffer_ms;
	int fade_ms;
	int max_streams;          /* 0 = no limit */
	int max_streams_per_call; /* 0 = no limit */
	switch_bool_t events;
	as_options *options; /* mod_audio_stream.c's; of streamers: what the file and, over it, the environment say */
} module_config;

/* config.c: reads audio_stream.conf.xml and the environment. A missing file or a bad value means the default and a line
 * in the log. SWITCH_STATUS_MEMERR. */
switch_status_t config_load(module_config *config);
void config_free(module_config *config);
/* A streamer's options: those of the module, and over them the channel's variables. On failure error names the variable
 * and what it may be. */
switch_status_t config_options(const as_options *base, switch_channel_t *channel, as_options **out, char *error,
							   size_t bytes);

/* worker.c: runs jobs on a thread of the module's, in the order in which they were added. Adding one never waits. */
typedef struct job job_t;
struct job {
	job_t *next;
	void (*run)(job_t *job); /* the worker thread; takes the job over */
	size_t bytes;            /* what it counts for */
};
switch_status_t worker_start(switch_memory_pool_t *pool);
/* SWITCH_FALSE: too much is waiting, and the job is still the caller's. always: there is room all the same. */
switch_bool_t worker_add(job_t *job, switch_bool_t always);
/* Runs what is left, and ends. */
void worker_stop(void);

/* events.c: CUSTOM events mod_audio_stream::<name> with a JSON body. */
#define EVENT_STARTED "stream_started"
#define EVENT_STOPPED "stream_stopped"
#define EVENT_ERROR "stream_error"
switch_status_t events_reserve(switch_memory_pool_t *pool, const char *modname, switch_bool_t enable);
void events_free(void);
/* Has the worker fire it, with the channel's data of this moment, unless events are switched off. Takes over body. Of
 * what may come often, only whose it is is told: see terse[]. */
void events_fire(const char *name, switch_core_session_t *session, const char *stream_id, cJSON *body);
/* Fires: the worker thread. The call may be gone. */
void events_fire_now(const char *name, const char *uuid, const char *stream_id, const char *body);
/* A stream's description and counters. */
cJSON *events_describe(as_stream *stream);

/* host_events.c: tells streams what FreeSWITCH sees of their call. */
switch_status_t host_events_start(const char *modname);
/* No event is told any more, and none is being told. */
void host_events_stop(void);
/* The call's keys, from now on; until unwatch, or its end. */
void host_events_watch(switch_core_session_t *session);
void host_events_unwatch(switch_core_session_t *session);
/* The module goes, and with it the call's streams. */
void host_events_unloaded(switch_core_session_t *session);
/* No hook of ours is running. */
switch_bool_t host_events_idle(void);

/* tap.c: the media bugs that join a call leg to a stream. */
switch_status_t taps_init(switch_memory_pool_t *pool, const module_config *config);

/* What a stream captures. */
typedef enum tap_track {
	TAP_INBOUND = 1, /* what the caller says */
	TAP_OUTBOUND,    /* what the caller hears: the dialplan, the other leg, all that is injected */
	TAP_MIXED,       /* both in one channel */
	TAP_STEREO,      /* the caller left, what the caller hears right */
} tap_track;

typedef struct tap_request {
	const char *stream_id;
	const char *track_name; /* what the command called the track, for errors; NULL: stereo */
	tap_track track;
	int rate_hz;                                 /* the application's wish; 0 = the call's */
	int inject;                                  /* it may be written to */
	int capture_ms, inject_max_ms, prebuffer_ms; /* 0 = audio_stream.conf.xml's */
	int one_leg_stereo;                          /* stereo although the call is not bridged */
	const char *source;                          /* in events; NULL: embedded */
} tap_request;

/* Opens a stream on the call, to which the caller gets a reference; error gets the reason on failure, and then nothing has
 * changed but for early media where FreeSWITCH would not attach. Nobody is told of it before tap_announce(). Any thread
 * but the media thread. */
switch_status_t tap_start(switch_core_session_t *session, const tap_request *request, as_stream **out, char *error,
						  size_t bytes);
/* The call's own encoding, AS_*: AS_S16 but for G.711. 0 while its codec has not been settled. */
int tap_encoding(switch_core_session_t *session);
/* Fires stream_started, and so stream_stopped when it ends. SWITCH_STATUS_NOTFOUND: it has ended already. */
switch_status_t tap_announce(switch_core_session_t *session, const as_stream *stream);
/* Whether the stream is for an application in this process. */
switch_bool_t tap_embedded(const as_stream *stream);
/* Stops one stream of the call. SWITCH_STATUS_NOTFOUND when it has ended already. */
switch_status_t tap_stop(switch_core_session_t *session, const as_stream *stream, const char *reason);
/* Takes our bugs and hooks off every call, and waits until no callback is running: the module may go. */
switch_status_t taps_shutdown(void);

/* streams.c: streams that a streamer takes to a WebSocket server. */
switch_status_t streams_init(switch_memory_pool_t *pool, const module_config *config);
/* Opens a stream on the call and starts to connect. On failure error has the reason, and nothing has changed. */
switch_status_t streams_start(switch_core_session_t *session, const as_command *command, char *error, size_t bytes);
/* What a command's track is to a tap. */
tap_track streams_track(as_command_track track);
/* Ends a stream's streamer. Unless graceful, the caller stops the tap next. SWITCH_STATUS_NOTFOUND: it has none. */
switch_status_t streams_stop(const as_stream *tapped, const char *text, switch_bool_t graceful);
/* result: what as_streamer_send_text() said. SWITCH_STATUS_NOTFOUND. */
switch_status_t streams_send_text(const as_stream *tapped, const char *text, int *result);
/* Adds what a streamer says of itself to its stream's description. */
void streams_describe(const as_stream *tapped, cJSON *body);
/* Ends all streamers; the taps are for the caller to stop. */
void streams_stop_all(const char *reason);
/* Waits for streamers, whose taps must be gone, to finish; ends the service threads and the worker. */
void streams_shutdown(void);

#endif
