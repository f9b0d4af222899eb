/* tap.h - the media bugs that join a call leg to a stream. */
#ifndef FREESWITCH_TAP_H
#define FREESWITCH_TAP_H

#include <switch.h>

#include "audio_stream.h"
#include "config.h"

#define TAP_FUNCTION "audio_stream" /* the name of this module's media bugs in `uuid_buglist` */
#define TAP_STOPPED_MEANWHILE "stream '%s' was stopped meanwhile, or its call ended" /* in reply to a start */

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

/* A stream's description, for events; set by taps_init(). */
typedef cJSON *(*tap_describe)(as_stream *stream);

switch_status_t taps_init(switch_memory_pool_t *pool, const module_config *config, tap_describe describe);
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

#endif
