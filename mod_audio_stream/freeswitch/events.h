/* events.h - CUSTOM events mod_audio_stream::<name> with a JSON body. */
#ifndef FREESWITCH_EVENTS_H
#define FREESWITCH_EVENTS_H

#include <switch.h>

#define EVENT_STARTED "stream_started"
#define EVENT_STOPPED "stream_stopped"
#define EVENT_ERROR "stream_error"
switch_status_t events_reserve(switch_memory_pool_t *pool, const char *modname, switch_bool_t enable);
void events_free(void);
/* Has the worker fire it, with the channel's data of this moment, unless events are switched off. Takes over body. Of
 * what may come often, only whose it is is told: see terse[]. */
void events_fire(const char *name, switch_core_session_t *session, const char *stream_id, cJSON *body);
/* Fires: events lane. The call may be gone. */
void events_fire_now(const char *name, const char *uuid, const char *stream_id, const char *body);

#endif
