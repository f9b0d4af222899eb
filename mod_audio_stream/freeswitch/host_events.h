/* host_events.h - tells streams what FreeSWITCH sees of their call. */
#ifndef FREESWITCH_HOST_EVENTS_H
#define FREESWITCH_HOST_EVENTS_H

#include <switch.h>

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

#endif
