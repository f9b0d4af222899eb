/*
 * host_events.c - tells the streams of a call what FreeSWITCH sees of it: keys, hold, bridges.
 *
 * A key comes by a hook on the thread that received it, the session's for RFC 2833, and everybody else gets it as well: the
 * hook never keeps one. The rest comes as events, on FreeSWITCH's threads for them. Only those streams hear of it that
 * somebody has subscribed to, which no streamer does; for the others this costs a look into the registry.
 */
#include "host_events.h"

#include "audio_stream.h"

#define SAMPLES_PER_MS 8 /* FreeSWITCH counts a key's duration in samples at 8 kHz, whatever the codec */

static const switch_event_types_t types[] = {SWITCH_EVENT_CHANNEL_HOLD, SWITCH_EVENT_CHANNEL_UNHOLD,
											 SWITCH_EVENT_CHANNEL_BRIDGE, SWITCH_EVENT_CHANNEL_UNBRIDGE};

static struct {
	switch_event_node_t *bindings[sizeof(types) / sizeof(types[0])];
	volatile switch_atomic_t busy; /* hooks running */
} host_events;

static switch_bool_t is_key(char digit)
{
	return digit && strchr("0123456789*#ABCDF", digit) ? SWITCH_TRUE : SWITCH_FALSE; /* not w and W, which are pauses */
}

static switch_status_t on_dtmf(switch_core_session_t *session, const switch_dtmf_t *dtmf,
							   switch_dtmf_direction_t direction)
{
	char json[96];
	char digit = (char)switch_toupper(dtmf->digit);
	switch_atomic_inc(&host_events.busy);
	if (direction == SWITCH_DTMF_RECV && is_key(digit)) {
		switch_snprintf(json, sizeof(json), "{\"type\":\"host.dtmf\",\"digit\":\"%c\",\"duration_ms\":%u}", digit,
						(unsigned)(dtmf->duration / SAMPLES_PER_MS));
		as_call_tell(switch_core_session_get_uuid(session), json);
	}
	switch_atomic_dec(&host_events.busy);
	return SWITCH_STATUS_SUCCESS;
}

static void tell(const char *uuid, const char *json)
{
	if (!zstr(uuid)) {
		as_call_tell(uuid, json);
	}
}

/* other: a uuid, which may be chosen by whoever places the call; what does not belong into JSON makes it unknown. */
static void tell_bridged(const char *uuid, const char *other)
{
	char json[256] = "{\"type\":\"host.bridged\",\"other_uuid\":\"\"}";
	if (!zstr(other) && strlen(other) < AS_NAME_MAX && !strpbrk(other, "\"\\")) {
		switch_snprintf(json, sizeof(json), "{\"type\":\"host.bridged\",\"other_uuid\":\"%s\"}", other);
	}
	tell(uuid, json);
}

/* A bridge is one event, of the leg that asked for it. */
static void tell_both(switch_event_t *event, switch_bool_t bridged)
{
	const char *uuid = switch_event_get_header(event, "Unique-ID"),
			   *other = switch_event_get_header(event, "Bridge-B-Unique-ID");
	other = other ? other : switch_event_get_header(event, "Other-Leg-Unique-ID");
	if (bridged) {
		tell_bridged(uuid, other);
		tell_bridged(other, uuid);
	} else {
		tell(uuid, "{\"type\":\"host.unbridged\"}");
		tell(other, "{\"type\":\"host.unbridged\"}");
	}
}

static void on_event(switch_event_t *event)
{
	switch (event->event_id) {
	case SWITCH_EVENT_CHANNEL_HOLD:
		tell(switch_event_get_header(event, "Unique-ID"), "{\"type\":\"host.hold\"}");
		break;
	case SWITCH_EVENT_CHANNEL_UNHOLD:
		tell(switch_event_get_header(event, "Unique-ID"), "{\"type\":\"host.unhold\"}");
		break;
	case SWITCH_EVENT_CHANNEL_BRIDGE:
		tell_both(event, SWITCH_TRUE);
		break;
	default:
		tell_both(event, SWITCH_FALSE);
		break;
	}
}

switch_status_t host_events_start(const char *modname)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (!host_events.bindings[i] &&
			switch_event_bind_removable(modname, types[i], SWITCH_EVENT_SUBCLASS_ANY, on_event, NULL,
										&host_events.bindings[i]) != SWITCH_STATUS_SUCCESS) {
			host_events_stop();
			return SWITCH_STATUS_MEMERR;
		}
	}
	return SWITCH_STATUS_SUCCESS;
}

void host_events_stop(void)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		switch_event_unbind(&host_events.bindings[i]); /* waits for callbacks that are running */
	}
}

void host_events_watch(switch_core_session_t *session)
{
	switch_core_event_hook_add_recv_dtmf(session, on_dtmf);
}

void host_events_unwatch(switch_core_session_t *session)
{
	switch_core_event_hook_remove_recv_dtmf(session, on_dtmf);
}

/* Told before the streams are closed: an application sees that nobody has stopped them. */
void host_events_unloaded(switch_core_session_t *session)
{
	tell(switch_core_session_get_uuid(session), "{\"type\":\"host.unloaded\"}");
}

switch_bool_t host_events_idle(void)
{
	return switch_atomic_read(&host_events.busy) ? SWITCH_FALSE : SWITCH_TRUE;
}
