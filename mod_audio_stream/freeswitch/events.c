/* events.c - CUSTOM events mod_audio_stream::*, and a stream's description in JSON. */
#include "mod_audio_stream.h"

static switch_bool_t enabled; /* written at load, read only after */

static const char *const subclasses[] = {EVENT_STARTED, EVENT_STOPPED, EVENT_ERROR};

#define SUBCLASSES (sizeof(subclasses) / sizeof(subclasses[0]))

switch_status_t events_reserve(const char *modname, switch_bool_t enable)
{
	enabled = enable;
	for (size_t i = 0; i < SUBCLASSES; i++) {
		if (switch_event_reserve_subclass_detailed(modname, subclasses[i]) != SWITCH_STATUS_SUCCESS) {
			switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_ERROR,
							  "the event %s belongs to another module: unload it first\n", subclasses[i]);
			while (i-- > 0) {
				switch_event_free_subclass(subclasses[i]);
			}
			return SWITCH_STATUS_FALSE;
		}
	}
	return SWITCH_STATUS_SUCCESS;
}

void events_free(void)
{
	for (size_t i = 0; i < SUBCLASSES; i++) {
		switch_event_free_subclass(subclasses[i]);
	}
}

void events_fire(const char *subclass, switch_core_session_t *session, cJSON *body)
{
	switch_event_t *event = NULL;
	if (enabled && switch_event_create_subclass(&event, SWITCH_EVENT_CUSTOM, subclass) == SWITCH_STATUS_SUCCESS) {
		if (session) {
			switch_channel_event_set_data(switch_core_session_get_channel(session), event);
		}
		if (body) {
			char *text = cJSON_PrintUnformatted(body);
			switch_event_add_body(event, "%s", text);
			switch_safe_free(text);
		}
		switch_event_fire(&event);
	}
	cJSON_Delete(body);
}

/* cJSON numbers are doubles: exact up to 2^53 samples, 6000 years at 48 kHz. */
static void number(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddItemToObject(object, name, cJSON_CreateNumber((double)value));
}

static cJSON *describe_capture(const as_stats *stats)
{
	cJSON *capture = cJSON_CreateObject();
	number(capture, "samples", stats->capture_samples);
	number(capture, "read", stats->capture_read_samples);
	number(capture, "dropped", stats->capture_dropped_samples);
	number(capture, "overruns", stats->capture_overruns);
	number(capture, "paused_samples", stats->capture_paused_samples);
	cJSON_AddItemToObject(capture, "paused", cJSON_CreateBool(stats->capture_paused));
	cJSON_AddItemToObject(capture, "speech", cJSON_CreateBool(stats->capture_active));
	return capture;
}

static cJSON *describe_inject(const as_stats *stats)
{
	cJSON *inject = cJSON_CreateObject();
	number(inject, "written", stats->inject_written_samples);
	number(inject, "queued", stats->inject_queued_samples);
	number(inject, "played", stats->inject_played_samples);
	number(inject, "flushed", stats->inject_flushed_samples);
	number(inject, "flushes", stats->inject_flushes);
	number(inject, "underruns", stats->inject_underruns);
	number(inject, "underrun_samples", stats->inject_underrun_samples);
	number(inject, "full_writes", stats->inject_full_writes);
	number(inject, "stale_writes", stats->inject_stale_writes);
	cJSON_AddItemToObject(inject, "paused", cJSON_CreateBool(stats->inject_paused));
	cJSON_AddItemToObject(inject, "playing", cJSON_CreateBool(stats->inject_playing));
	return inject;
}

cJSON *events_describe(as_stream *stream)
{
	static const char *const encodings[] = {[AS_S16] = "L16", [AS_PCMU] = "PCMU", [AS_PCMA] = "PCMA"};
	as_info info;
	as_stats stats;
	as_stream_info(stream, &info);
	as_stream_stats(stream, &stats);
	cJSON *body = cJSON_CreateObject();
	cJSON_AddItemToObject(body, "uuid", cJSON_CreateString(info.uuid));
	cJSON_AddItemToObject(body, "streamId", cJSON_CreateString(info.id));
	cJSON_AddItemToObject(body, "source", cJSON_CreateString("embedded"));
	number(body, "rate", (uint64_t)info.app_rate_hz);
	number(body, "callRate", (uint64_t)info.rate_hz);
	cJSON_AddItemToObject(body, "callCodec", cJSON_CreateString(encodings[info.wire_encoding]));
	cJSON_AddItemToObject(body, "capture", describe_capture(&stats));
	cJSON_AddItemToObject(body, "inject", describe_inject(&stats));
	return body;
}
