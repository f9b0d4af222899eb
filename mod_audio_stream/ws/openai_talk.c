#include "openai_talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCM_HZ 24000 /* the only PCM rate of the GA interface */
#define G711_HZ 8000
#define CHUNK_MS 20
#define QUIET_CHUNK_MS 100
#define HANG_MS 500
#define MARKS_MAX 16
#define EVENT_MAX_BYTES (1 << 20) /* of an event that is read whole: more would keep other calls waiting */

struct openai_talk {
	openai_request request;
	openai_outlets outlets;
	rt_audio audio;
	const char *format; /* audio/pcm, audio/pcmu, audio/pcma */
	int rate_hz;
	int started;         /* the server has accepted the session, */
	int64_t deadline_ns; /* which it must have by then */
	int finished;
};

/* ---- Beginning and end ------------------------------------------------------------------------------------------- */

int openai_rate_check(int rate_hz, int g711, char *error, size_t bytes)
{
	if (!rate_hz || rate_hz == PCM_HZ || (rate_hz == G711_HZ && g711)) {
		return 0;
	}
	snprintf(error, bytes, "rate=%d: OpenAI takes PCM at %d Hz, and G.711 at %d Hz on calls that speak it", rate_hz,
			 PCM_HZ, G711_HZ);
	return AS_EINVAL;
}

/* What to speak on the line: the call's own G.711, where it has one and nothing else was asked for, or PCM. */
static int choose_format(openai_talk *talk, int encoding, as_realtime_audio *audio, char *error, size_t bytes)
{
	int rate = talk->request.rate_hz, g711 = encoding == AS_PCMU || encoding == AS_PCMA;
	if (openai_rate_check(rate, g711, error, bytes)) {
		return AS_EINVAL;
	}
	int pcm = !g711 || rate == PCM_HZ;
	talk->format = pcm ? "audio/pcm" : encoding == AS_PCMU ? "audio/pcmu" : "audio/pcma";
	talk->rate_hz = pcm ? PCM_HZ : G711_HZ;
	*audio = (as_realtime_audio){.in_encoding = pcm ? AS_S16 : encoding,
								 .in_rate_hz = talk->rate_hz,
								 .out_encoding = pcm ? AS_S16 : encoding,
								 .out_rate_hz = talk->rate_hz,
								 .chunk_ms = CHUNK_MS,
								 .quiet_chunk_ms = QUIET_CHUNK_MS,
								 .hang_ms = HANG_MS};
	return 0;
}

static int join(openai_talk *talk, as_stream *stream, char *error, size_t bytes)
{
	as_info info;
	as_realtime_audio audio;
	as_stream_info(stream, &info);
	int failed = choose_format(talk, info.wire_encoding, &audio, error, bytes);
	if (failed) {
		return failed;
	}
	failed = as_capture_setup(stream, audio.in_encoding, audio.in_rate_hz, CHUNK_MS, QUIET_CHUNK_MS, HANG_MS);
	if (!failed) {
		failed = rt_audio_attach(&talk->audio, stream, &audio, talk->request.uplink_max_ms);
	}
	if (failed) {
		snprintf(error, bytes, "%s", as_strerror(failed));
	}
	return failed;
}

int openai_talk_new(as_stream *stream, const openai_request *request, const openai_outlets *outlets, char *error,
					size_t bytes, openai_talk **out)
{
	openai_talk *talk = calloc(1, sizeof(*talk));
	if (!talk) {
		return AS_ENOMEM;
	}
	json_t *voice = json_string(request->voice),
		   *words = json_string(request->instructions ? request->instructions : "");
	int utf8 = voice && words;
	json_decref(voice);
	json_decref(words);
	if (!utf8) {
		snprintf(error, bytes, "the voice or the instructions are not UTF-8");
		free(talk);
		return AS_EINVAL;
	}
	talk->request = *request;
	talk->outlets = *outlets;
	rt_audio_init(&talk->audio);
	int failed = join(talk, stream, error, bytes);
	if (failed) {
		openai_talk_free(talk);
		return failed;
	}
	*out = talk;
	return 0;
}

void openai_talk_free(openai_talk *talk)
{
	if (talk) {
		rt_audio_free(&talk->audio);
		free(talk);
	}
}

void openai_talk_restart(openai_talk *talk, int64_t deadline_ns)
{
	talk->started = 0;
	talk->deadline_ns = deadline_ns;
	talk->audio.listening = 0;
	rt_audio_forget(&talk->audio);
}

/* ---- To the server ----------------------------------------------------------------------------------------------- */

/* Takes over the object. */
static void say(openai_talk *talk, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text) {
		talk->outlets.send(talk->outlets.arg, text, strlen(text));
		free(text);
	}
	json_decref(object);
}

static json_t *format_object(const openai_talk *talk)
{
	json_t *format = json_pack("{s:s}", "type", talk->format);
	if (talk->rate_hz == PCM_HZ) {
		json_object_set_new(format, "rate", json_integer(PCM_HZ));
	}
	return format;
}

static void say_update(openai_talk *talk)
{
	const openai_request *request = &talk->request;
	json_t *vad = json_pack("{s:s,s:f,s:i,s:i,s:b,s:b}", "type", "server_vad", "threshold", request->vad_threshold,
							"prefix_padding_ms", request->vad_prefix_ms, "silence_duration_ms", request->vad_silence_ms,
							"create_response", 1, "interrupt_response", 1);
	json_t *input = json_pack("{s:o,s:o}", "format", format_object(talk), "turn_detection", vad);
	json_t *output = json_pack("{s:o,s:s}", "format", format_object(talk), "voice", request->voice);
	json_t *session = json_pack("{s:s,s:[s],s:{s:o,s:o}}", "type", "realtime", "output_modalities", "audio", "audio",
								"input", input, "output", output);
	if (session && request->instructions && *request->instructions) {
		json_object_set_new(session, "instructions", json_string(request->instructions));
	}
	say(talk, json_pack("{s:s,s:s,s:o}", "type", "session.update", "event_id", "update_1", "session", session));
}

/* The model forgets what of an item was not heard; all of it when nothing was. */
static void say_heard(openai_talk *talk, const char *item_id, uint64_t played, int rate_hz)
{
	json_int_t heard_ms = (json_int_t)(played * 1000 / (uint64_t)rate_hz);
	if (heard_ms > 0) {
		say(talk, json_pack("{s:s,s:s,s:i,s:I}", "type", "conversation.item.truncate", "item_id", item_id,
							"content_index", 0, "audio_end_ms", heard_ms));
	} else {
		say(talk, json_pack("{s:s,s:s}", "type", "conversation.item.delete", "item_id", item_id));
	}
}

/* The caller has begun to speak. */
static void barge_in(openai_talk *talk)
{
	as_mark cut[MARKS_MAX];
	as_info info;
	int count = 0;
	as_stream_info(talk->audio.stream, &info);
	as_inject_flush(talk->audio.stream, cut, MARKS_MAX, &count);
	for (int i = 0; i < count && i < MARKS_MAX; i++) {
		const rt_item *item = rt_audio_item(&talk->audio, cut[i].id);
		if (item) {
			say_heard(talk, item->id, cut[i].played, info.rate_hz);
		}
	}
}

/* ---- From the server --------------------------------------------------------------------------------------------- */

static void tell(openai_talk *talk, const char *name, json_t *body)
{
	if (body) {
		talk->outlets.event(talk->outlets.arg, name, body);
	}
	json_decref(body);
}

static void finish(openai_talk *talk, const char *reason)
{
	if (!talk->finished) {
		talk->finished = 1;
		talk->outlets.finish(talk->outlets.arg, reason);
	}
}

static void on_updated(openai_talk *talk, const json_t *event)
{
	const json_t *session = json_object_get(event, "session");
	if (talk->started) {
		return;
	}
	talk->started = 1;
	rt_audio_listen(&talk->audio);
	json_t *body = json_pack("{s:s,s:s,s:s,s:i}", "model", talk->request.model, "voice", talk->request.voice, "format",
							 talk->format, "rate", talk->rate_hz);
	for (const char *const *name = (const char *const[]){"id", "expires_at", NULL}; body && *name; name++) {
		json_t *value = json_object_get(session, *name);
		if (value) {
			json_object_set(body, !strcmp(*name, "id") ? "sessionId" : "expiresAt", value);
		}
	}
	tell(talk, "openai_session_started", body);
}

static const char *text_of(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : otherwise;
}

/* An error by itself ends nothing, unless the session never came about or is over. */
static void on_error(openai_talk *talk, const json_t *error)
{
	const char *code = text_of(error, "code", text_of(error, "type", "error")),
			   *message = text_of(error, "message", "");
	if (!strcmp(code, "session_expired")) {
		tell(talk, "openai_session_expired", json_pack("{s:s,s:s}", "code", code, "message", message));
		finish(talk, "the session has expired");
		return;
	}
	tell(talk, "openai_error", json_pack("{s:s,s:s,s:b}", "code", code, "message", message, "fatal", !talk->started));
	if (!talk->started) {
		finish(talk, "the server does not accept the session");
	}
}

/* What a response said, in words: the transcripts of its parts. */
static json_t *transcript_of(const json_t *response)
{
	size_t i, j;
	json_t *item, *part, *text = json_string("");
	json_array_foreach(json_object_get(response, "output"), i, item)
	{
		json_array_foreach(json_object_get(item, "content"), j, part)
		{
			const char *words = text_of(part, "transcript", text_of(part, "text", ""));
			json_t *longer =
				json_sprintf("%s%s%s", json_string_value(text), *json_string_value(text) && *words ? " " : "", words);
			json_decref(text);
			text = longer ? longer : json_string("");
		}
	}
	return text;
}

static void on_response(openai_talk *talk, const json_t *response)
{
	const char *status = text_of(response, "status", "");
	json_t *usage = json_object_get(response, "usage");
	json_t *body = json_pack("{s:s,s:s,s:o}", "responseId", text_of(response, "id", ""), "status", status, "transcript",
							 transcript_of(response));
	if (body && json_is_object(usage)) {
		json_object_set(body, "usage", usage);
	}
	tell(talk, "openai_response_generated", body);
	if (!strcmp(status, "failed")) {
		on_error(talk, json_object_get(json_object_get(response, "status_details"), "error"));
	}
}

/* Messages whose content matters here, and not only their kind. */
static void on_event(openai_talk *talk, rt_kind kind, const char *text, size_t n)
{
	json_t *event = json_loadb(text, n, 0, NULL);
	switch (kind) {
	case RT_SESSION_UPDATED:
		on_updated(talk, event);
		break;
	case RT_RESPONSE_DONE:
		on_response(talk, json_object_get(event, "response"));
		break;
	default:
		on_error(talk, json_object_get(event, "error"));
		break;
	}
	json_decref(event);
}

static void on_delta(openai_talk *talk, const rt_message *message)
{
	rt_outcome outcome = rt_audio_delta(&talk->audio, message, 0, as_now_ns());
	if (outcome.complaint) {
		tell(talk, "openai_error",
			 json_pack("{s:s,s:s,s:b}", "code", outcome.about, "message", outcome.complaint, "fatal", 0));
	}
}

void openai_talk_message(openai_talk *talk, char *text, size_t n)
{
	rt_message message;
	if (rt_parse(text, n, &message) || (message.kind != RT_AUDIO_DELTA && n > EVENT_MAX_BYTES)) {
		tell(talk, "openai_error",
			 json_pack("{s:s,s:s,s:b}", "code", "malformed", "message", "the server sent what is not an event", "fatal",
					   0));
		return;
	}
	switch (message.kind) {
	case RT_SESSION_CREATED:
		say_update(talk);
		break;
	case RT_SPEECH_STARTED:
		barge_in(talk);
		break;
	case RT_RESPONSE_CREATED:
		rt_audio_response(&talk->audio, message.response_id, 0);
		break;
	case RT_AUDIO_DELTA:
		on_delta(talk, &message);
		break;
	case RT_AUDIO_DONE:
		rt_audio_done(&talk->audio, message.item_id);
		break;
	case RT_SESSION_UPDATED:
	case RT_RESPONSE_DONE:
	case RT_ERROR:
		on_event(talk, message.kind, text, n);
		break;
	default:
		break;
	}
}

void openai_talk_pump(openai_talk *talk, ws_actor *actor, int64_t now_ns)
{
	rt_audio_pump(&talk->audio, actor);
	if (!talk->started && !talk->finished && now_ns >= talk->deadline_ns) {
		tell(talk, "openai_error",
			 json_pack("{s:s,s:s,s:b}", "code", "session_timeout", "message",
					   "the server has not accepted the session in time", "fatal", 1));
		finish(talk, "the server has not accepted the session in time");
	}
}

const rt_audio *openai_talk_audio(const openai_talk *talk)
{
	return &talk->audio;
}
