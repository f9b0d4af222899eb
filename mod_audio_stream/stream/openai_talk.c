#include "openai_talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

#define CHUNK_MS 20
#define QUIET_CHUNK_MS 100
#define HANG_MS 500
#define MARKS_MAX 16
#define REASON_MAX 256
#define RETRIES_MAX 3 /* of a response that fails for a reason that may pass */
#define COMPLAIN_EVERY_NS 1000000000
#define EVENT_MAX_BYTES (1 << 20) /* of an event that is read whole: more would keep other calls waiting */

struct openai_talk {
	openai_session session;
	openai_outlets outlets;
	rt_audio audio;
	int started;         /* the server has accepted the session, */
	int64_t deadline_ns; /* which it must have by then */
	int early;           /* it has spoken before that, and this has been told */
	int finished;
	int silent;            /* nothing is played, flushed or sent any more */
	int64_t retry_ns;      /* when the response that failed last is asked for again; 0: not */
	int retries;           /* of the caller's latest turn */
	int64_t complained_ns; /* when a complaint of our own was told last */
};

/* ---- Beginning and end ------------------------------------------------------------------------------------------- */

static int set_capture(as_stream *stream, openai_format format)
{
	return as_capture_setup(stream, format.encoding, format.rate_hz, CHUNK_MS, QUIET_CHUNK_MS, HANG_MS);
}

static int join(openai_talk *talk, as_stream *stream, char *error, size_t bytes)
{
	openai_format format = talk->session.format;
	const as_realtime_audio audio = {.in_encoding = format.encoding,
									 .in_rate_hz = format.rate_hz,
									 .out_encoding = format.encoding,
									 .out_rate_hz = format.rate_hz,
									 .chunk_ms = CHUNK_MS,
									 .quiet_chunk_ms = QUIET_CHUNK_MS,
									 .hang_ms = HANG_MS};
	int failed = set_capture(stream, format);
	if (!failed) {
		failed = rt_audio_attach(&talk->audio, stream, &audio, talk->session.request.uplink_max_ms);
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
	as_info info;
	if (!talk) {
		return AS_ENOMEM;
	}
	as_stream_info(stream, &info);
	talk->outlets = *outlets;
	rt_audio_init(&talk->audio);
	int failed = openai_session_init(&talk->session, request, info.wire_encoding, error, bytes);
	failed = failed ? failed : join(talk, stream, error, bytes);
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
	talk->started = talk->early = talk->retries = 0;
	talk->retry_ns = 0;
	talk->deadline_ns = deadline_ns;
	talk->audio.listening = 0;
	rt_audio_forget(&talk->audio);
}

void openai_talk_silence(openai_talk *talk)
{
	talk->silent = 1;
}

/* ---- To the server ----------------------------------------------------------------------------------------------- */

/* Takes over the object. */
static void say(openai_talk *talk, json_t *object)
{
	char *text = object && !talk->silent ? json_dumps(object, JSON_COMPACT) : NULL;
	if (text) {
		talk->outlets.send(talk->outlets.arg, text, strlen(text));
		free(text);
	}
	json_decref(object);
}

static void say_update(openai_talk *talk)
{
	say(talk, openai_session_update(&talk->session));
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

static void tell_error(openai_talk *talk, const char *code, const char *message, int fatal)
{
	tell(talk, "openai_error", json_pack("{s:s,s:s,s:b}", "code", code, "message", message, "fatal", fatal));
}

/* What is wrong with what the server sends, at most once a second. */
static void complain(openai_talk *talk, const char *code, const char *message)
{
	int64_t now_ns = as_now_ns();
	if (!talk->complained_ns || now_ns - talk->complained_ns >= COMPLAIN_EVERY_NS) {
		talk->complained_ns = now_ns;
		tell_error(talk, code, message, 0);
	}
}

/* Speaks in these formats from now on. Samples captured and not yet sent are converted to the new one. */
static int speak(openai_talk *talk, openai_format in, openai_format out)
{
	as_realtime_audio *now = &talk->audio.format;
	int64_t before = (int64_t)now->in_rate_hz * (int64_t)as_format_bytes_per_sample(now->in_encoding);
	int64_t after = (int64_t)in.rate_hz * (int64_t)as_format_bytes_per_sample(in.encoding);
	if (in.encoding != now->in_encoding || in.rate_hz != now->in_rate_hz) {
		int failed = set_capture(talk->audio.stream, in);
		if (failed) {
			return failed;
		}
		talk->audio.unsent_max_bytes = (size_t)((int64_t)talk->audio.unsent_max_bytes * after / before);
	}
	now->in_encoding = in.encoding;
	now->in_rate_hz = in.rate_hz;
	now->out_encoding = out.encoding;
	now->out_rate_hz = out.rate_hz;
	return 0;
}

static void tell_started(openai_talk *talk, const json_t *session, const openai_stated *stated)
{
	json_t *body = json_pack("{s:s,s:s,s:s,s:i}", "model", talk->session.request.model, "voice", stated->voice,
							 "format", openai_format_name(stated->out), "rate", stated->out.rate_hz);
	for (const char *const *name = (const char *const[]){"id", "expires_at", NULL}; body && *name; name++) {
		json_t *value = json_object_get(session, *name);
		if (value) {
			json_object_set(body, !strcmp(*name, "id") ? "sessionId" : "expiresAt", value);
		}
	}
	tell(talk, "openai_session_started", body);
}

/* The first one, or one that follows from an update of the application's own. */
static void on_updated(openai_talk *talk, const json_t *event)
{
	openai_stated stated;
	char reason[REASON_MAX];
	int failed = openai_session_stated(&talk->session, event, &stated, reason, sizeof(reason));
	if (!failed && (failed = speak(talk, stated.in, stated.out))) {
		snprintf(reason, sizeof(reason), "the format of the server's session cannot be spoken: %s",
				 as_strerror(failed));
	}
	if (failed) {
		tell_error(talk, "unsupported_format", reason, 1);
		finish(talk, reason);
		return;
	}
	if (!talk->started) {
		talk->started = 1;
		rt_audio_listen(&talk->audio);
		tell_started(talk, json_object_get(event, "session"), &stated);
		if (stated.warning) {
			tell_error(talk, "turn_detection", stated.warning, 0);
		}
	}
}

static const char *text_of(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : otherwise;
}

/* The session is not accepted yet. */
static void on_early_error(openai_talk *talk, const json_t *error, const char *code, const char *message)
{
	char field[OPENAI_FIELD_MAX];
	openai_verdict verdict = openai_session_error(&talk->session, error, field);
	json_t *body = json_pack("{s:s,s:s,s:b}", "code", code, "message", message, "fatal", verdict == OPENAI_FATAL);
	if (body && *field) {
		json_object_set_new(body, "field", json_string(field));
	}
	tell(talk, "openai_error", body);
	if (verdict == OPENAI_ASK_AGAIN) {
		say_update(talk);
	} else if (verdict == OPENAI_FATAL) {
		char reason[REASON_MAX];
		snprintf(reason, sizeof(reason), "the server does not accept the session%s%s", *field ? ": it refuses " : "",
				 field);
		finish(talk, reason);
	}
}

/* An error by itself ends nothing, unless the session never came about or is over. */
static void on_error(openai_talk *talk, const json_t *error)
{
	const char *code = text_of(error, "code", text_of(error, "type", "error")),
			   *message = text_of(error, "message", "");
	if (!strcmp(code, "session_expired")) {
		tell(talk, "openai_session_expired", json_pack("{s:s,s:s}", "code", code, "message", message));
		finish(talk, "the session has expired");
	} else if (!talk->started) {
		on_early_error(talk, error, code, message);
	} else {
		tell_error(talk, code, message, 0);
	}
}

/* The words of one part of a response, to be freed by nobody. */
static const char *words_of(const json_t *part)
{
	return text_of(part, "transcript", text_of(part, "text", ""));
}

/* Adds words to a text, a blank between; without `text` only counts. Returns the new length. */
static size_t add_words(char *text, size_t length, const char *words)
{
	size_t n = strlen(words), gap = length && n ? 1 : 0;
	if (text) {
		memcpy(text + length, " ", gap);
		memcpy(text + length + gap, words, n + 1);
	}
	return length + gap + n;
}

static size_t add_parts(char *text, const json_t *response)
{
	size_t i, j, length = 0;
	json_t *item, *part;
	json_array_foreach(json_object_get(response, "output"), i, item)
	{
		json_array_foreach(json_object_get(item, "content"), j, part)
		{
			length = add_words(text, length, words_of(part));
		}
	}
	return length;
}

/* What a response said, in words: the transcripts of its parts. NULL without memory. */
static json_t *transcript_of(const json_t *response)
{
	char *text = calloc(1, add_parts(NULL, response) + 1);
	if (text) {
		add_parts(text, response);
	}
	json_t *transcript = text ? json_string(text) : NULL;
	free(text);
	return transcript;
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
		const json_t *error = json_object_get(json_object_get(response, "status_details"), "error");
		int retry_ms = talk->retries < RETRIES_MAX ? openai_retry_ms(error) : -1;
		if (retry_ms >= 0) {
			talk->retries++;
			talk->retry_ns = as_now_ns() + (int64_t)retry_ms * 1000000;
		}
		on_error(talk, error);
	}
}

/* Messages whose content matters here, and not only their kind. */
static void on_event(openai_talk *talk, rt_kind kind, const char *text, size_t n)
{
	json_t *event = json_loadb(text, n, 0, NULL);
	switch (kind) {
	case RT_SESSION_CREATED:
		openai_session_created(&talk->session, event);
		say_update(talk);
		break;
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

/* A response that begins before the session is settled: its audio may be of any format, and all of it is dropped. */
static void drop_response(openai_talk *talk, const rt_message *message)
{
	rt_audio_response(&talk->audio, message->response_id, 1);
	rt_audio_route(&talk->audio, message->response_id, 0);
	if (!talk->early) {
		talk->early = 1;
		tell_error(talk, "early_audio", "the server spoke before it accepted the session: that is not played", 0);
	}
}

static void on_delta(openai_talk *talk, const rt_message *message)
{
	if (!talk->started) {
		drop_response(talk, message);
		return;
	}
	rt_outcome outcome = rt_audio_delta(&talk->audio, message, 0, as_now_ns());
	if (outcome.complaint) {
		complain(talk, outcome.about, outcome.complaint);
	}
}

void openai_talk_message(openai_talk *talk, char *text, size_t n)
{
	rt_message message;
	int error = rt_parse(text, n, &message);
	if (error || (message.kind != RT_AUDIO_DELTA && n > EVENT_MAX_BYTES)) {
		complain(talk, "malformed", rt_complaint(error));
		return;
	}
	if (talk->silent && (message.kind == RT_SPEECH_STARTED || message.kind == RT_RESPONSE_CREATED ||
						 message.kind == RT_AUDIO_DELTA || message.kind == RT_AUDIO_DONE)) {
		return;
	}
	switch (message.kind) {
	case RT_SPEECH_STARTED:
		talk->retries = 0; /* what they say now is answered */
		talk->retry_ns = 0;
		barge_in(talk);
		break;
	case RT_RESPONSE_CREATED:
		talk->retry_ns = 0;
		if (talk->started) {
			rt_audio_response(&talk->audio, message.response_id, 0);
		}
		break;
	case RT_AUDIO_DELTA:
		on_delta(talk, &message);
		break;
	case RT_AUDIO_DONE:
		rt_audio_done(&talk->audio, message.item_id);
		break;
	case RT_SESSION_CREATED:
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
	if (talk->retry_ns && now_ns >= talk->retry_ns) {
		talk->retry_ns = 0;
		say(talk, json_pack("{s:s,s:s}", "type", "response.create", "event_id", "retry"));
	}
	if (!talk->started && !talk->finished && now_ns >= talk->deadline_ns) {
		tell_error(talk, "session_timeout", "the server has not accepted the session in time", 1);
		finish(talk, "the server has not accepted the session in time");
	}
}

const rt_audio *openai_talk_audio(const openai_talk *talk)
{
	return &talk->audio;
}
