/* ws_streams.h - streams that a streamer takes to a WebSocket server. */
#ifndef FREESWITCH_WS_STREAMS_H
#define FREESWITCH_WS_STREAMS_H

#include <switch.h>

#include "command.h"
#include "tap.h"

switch_status_t ws_streams_init(switch_memory_pool_t *pool, const module_config *config);
/* Opens a stream on the call and starts to connect. On failure error has the reason, and nothing has changed. */
switch_status_t ws_streams_start(switch_core_session_t *session, const as_command *command, char *error, size_t bytes);
/* What a command's track is to a tap. */
tap_track ws_streams_track(as_command_track track);
/* Ends a stream's streamer. Unless graceful, the caller stops the tap next. SWITCH_STATUS_NOTFOUND: it has none. */
switch_status_t ws_streams_stop(const as_stream *tapped, const char *text, switch_bool_t graceful);
/* result: what as_streamer_send_text() said. SWITCH_STATUS_NOTFOUND. */
switch_status_t ws_streams_send_text(const as_stream *tapped, const char *text, int *result);
/* Adds what a streamer says of itself to its stream's description. */
void ws_streams_describe(const as_stream *tapped, cJSON *body);
/* Ends all streamers; the taps are for the caller to stop. */
void ws_streams_stop_all(const char *reason);
/* Waits for streamers, whose taps must be gone, to finish; ends the service threads and the worker. */
void ws_streams_shutdown(void);

#endif
