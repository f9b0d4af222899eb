/*
 * describe.c - a stream's description in JSON, as `status` and events have it.
 *
 * It stands above tap.c and ws_streams.c, of which neither knows the other: tap.c is given it by taps_init().
 */
#include "describe.h"

#include "ws_streams.h"

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

cJSON *describe_stream(as_stream *stream)
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
	ws_streams_describe(stream, body);
	return body;
}
