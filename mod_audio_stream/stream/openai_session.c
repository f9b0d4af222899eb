#include "openai_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"
#include "convert.h"

#define RETRY_MS 1000      /* before a response is asked for again, unless the server says when, */
#define RETRY_SPARE_MS 20  /* and not a moment too early */
#define RETRY_MAX_MS 20000 /* nobody waits longer for an answer */

/* ---- Formats ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name; /* as a server may state it: the GA interface's, the beta's, and what is near to them */
	int encoding;
} formats[] = {
	{"audio/pcm", AS_S16},  {"audio/pcmu", AS_PCMU}, {"audio/pcma", AS_PCMA},    {"pcm16", AS_S16},
	{"g711_ulaw", AS_PCMU}, {"g711_alaw", AS_PCMA},  {"audio/x-mulaw", AS_PCMU}, {"audio/x-alaw", AS_PCMA},
};

#define FORMATS (sizeof(formats) / sizeof(formats[0]))

const char *openai_format_name(openai_format format)
{
	return format.encoding == AS_PCMU ? "audio/pcmu" : format.encoding == AS_PCMA ? "audio/pcma" : "audio/pcm";
}

static const char *beta_name(openai_format format)
{
	return format.encoding == AS_PCMU ? "g711_ulaw" : format.encoding == AS_PCMA ? "g711_alaw" : "pcm16";
}

int openai_rate_check(int rate_hz, int g711, char *error, size_t bytes)
{
	if (!rate_hz || rate_hz == OPENAI_PCM_HZ || (rate_hz == OPENAI_G711_HZ && g711)) {
		return 0;
	}
	snprintf(error, bytes, "rate=%d: OpenAI takes PCM at %d Hz, and G.711 at %d Hz on calls that speak it", rate_hz,
			 OPENAI_PCM_HZ, OPENAI_G711_HZ);
	return AS_EINVAL;
}

int openai_session_init(openai_session *session, const openai_request *request, int wire_encoding, char *error,
						size_t bytes)
{
	int g711 = wire_encoding == AS_PCMU || wire_encoding == AS_PCMA;
	*session = (openai_session){.request = *request};
	if (g711 && request->rate_hz != OPENAI_PCM_HZ) {
		session->format = (openai_format){wire_encoding, OPENAI_G711_HZ};
	} else {
		session->format = (openai_format){AS_S16, OPENAI_PCM_HZ};
	}
	return openai_rate_check(request->rate_hz, g711, error, bytes);
}

/* ---- Asking ------------------------------------------------------------------------------------------------------ */

static json_t *format_object(openai_format format)
{
	json_t *object = json_pack("{s:s}", "type", openai_format_name(format));
	if (format.encoding == AS_S16) {
		json_object_set_new(object, "rate", json_integer(format.rate_hz));
	}
	return object;
}

static json_t *turn_detection(const openai_request *request)
{
	return json_pack("{s:s,s:f,s:i,s:i,s:b,s:b}", "type", "server_vad", "threshold", request->vad_threshold,
					 "prefix_padding_ms", request->vad_prefix_ms, "silence_duration_ms", request->vad_silence_ms,
					 "create_response", 1, "interrupt_response", 1);
}

static json_t *ga_session(const openai_session *session)
{
	const openai_request *request = &session->request;
	json_t *input =
		json_pack("{s:o,s:o}", "format", format_object(session->format), "turn_detection", turn_detection(request));
	json_t *output = json_pack("{s:o,s:s}", "format", format_object(session->format), "voice", request->voice);
	return json_pack("{s:s,s:[s],s:{s:o,s:o}}", "type", "realtime", "output_modalities", "audio", "audio", "input",
					 input, "output", output);
}

static json_t *beta_session(const openai_session *session)
{
	const char *format = beta_name(session->format);
	return json_pack("{s:[s,s],s:s,s:s,s:s,s:o}", "modalities", "audio", "text", "input_audio_format", format,
					 "output_audio_format", format, "voice", session->request.voice, "turn_detection",
					 turn_detection(&session->request));
}

/* The object that has the last member of a path, and that member's name; NULL when there is none. */
static json_t *parent_of(json_t *object, const char *path, const char **name)
{
	for (const char *dot; object && (dot = strchr(path, '.')); path = dot + 1) {
		char step[OPENAI_FIELD_MAX];
		snprintf(step, sizeof(step), "%.*s", (int)(dot - path), path);
		object = json_object_get(object, step);
	}
	*name = path;
	return json_object_get(object, path) ? object : NULL;
}

/* The session object of the next update. NULL: no memory. */
static json_t *wanted(const openai_session *session)
{
	json_t *object = session->beta ? beta_session(session) : ga_session(session);
	const char *instructions = session->request.instructions, *name;
	if (object && instructions && *instructions) {
		json_object_set_new(object, "instructions", json_string(instructions));
	}
	for (int i = 0; i < session->refusals; i++) {
		json_t *parent = parent_of(object, session->refused[i], &name);
		if (parent) {
			json_object_del(parent, name);
		}
	}
	return object;
}

static void update_id(const openai_session *session, char id[32])
{
	snprintf(id, 32, "update_%d", session->updates);
}

json_t *openai_session_update(openai_session *session)
{
	char id[32];
	session->updates++;
	update_id(session, id);
	return json_pack("{s:s,s:s,s:o}", "type", "session.update", "event_id", id, "session", wanted(session));
}

/* ---- The server's answers ---------------------------------------------------------------------------------------- */

static const char *text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

static int has_beta_shape(const json_t *session)
{
	return !json_object_get(session, "audio") && json_is_string(json_object_get(session, "input_audio_format"));
}

void openai_session_created(openai_session *session, const json_t *created)
{
	session->beta = session->beta || has_beta_shape(json_object_get(created, "session"));
}

/* Copies the field that a text names, without "session."; 0 when there is none. */
static int copy_field(const char *text, char field[OPENAI_FIELD_MAX])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
	size_t n = strspn(text, letters);
	while (n && text[n - 1] == '.') {
		n--;
	}
	if (!n || n >= OPENAI_FIELD_MAX) {
		return 0;
	}
	memcpy(field, text, n);
	field[n] = '\0';
	return 1;
}

/* "param" names the field, or, where there is none, the message: "Unknown parameter: 'session.x'." */
static void blamed(const json_t *error, char field[OPENAI_FIELD_MAX])
{
	static const char prefix[] = "session.";
	const char *param = text_at(error, "param"), *message = strstr(text_at(error, "message"), prefix);
	field[0] = '\0';
	if (*param) {
		copy_field(strncmp(param, prefix, sizeof(prefix) - 1) ? param : param + sizeof(prefix) - 1, field);
	} else if (message) {
		copy_field(message + sizeof(prefix) - 1, field);
	}
}

static int is_format(const char *field)
{
	static const char *const paths[] = {"audio.input.format", "audio.output.format", "input_audio_format",
										"output_audio_format"};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		size_t length = strlen(paths[i]);
		if (!strncmp(field, paths[i], length) && (!field[length] || field[length] == '.')) {
			return 1;
		}
	}
	return 0;
}

/* Without these there is no session to ask for in this shape. */
static int is_shape(const char *field)
{
	static const char *const names[] = {"type",  "output_modalities", "modalities",
										"audio", "audio.input",       "audio.output"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(field, names[i])) {
			return 1;
		}
	}
	return 0;
}

/* A field of the update, or what it is part of: a detector's `type` is the detector. 0 when there is neither. */
static int is_asked_for(const openai_session *session, char field[OPENAI_FIELD_MAX])
{
	json_t *object = wanted(session);
	const char *name;
	char *dot = strrchr(field, '.');
	int found = parent_of(object, field, &name) != NULL;
	if (dot && (!found || !strcmp(dot, ".type"))) {
		*dot = '\0';
		found = parent_of(object, field, &name) != NULL;
	}
	json_decref(object);
	return found && !is_shape(field);
}

/* Is there anything else to ask for? */
static int give_way(openai_session *session, const char *blame)
{
	char field[OPENAI_FIELD_MAX];
	strcpy(field, blame);
	if (is_format(field)) {
		int g711 = session->format.encoding != AS_S16;
		session->format = (openai_format){AS_S16, OPENAI_PCM_HZ};
		return g711;
	}
	if (is_shape(field)) {
		int ga = !session->beta;
		session->beta = 1;
		return ga;
	}
	if (session->refusals == OPENAI_REFUSALS_MAX || !is_asked_for(session, field)) {
		return 0;
	}
	strcpy(session->refused[session->refusals++], field);
	return 1;
}

openai_verdict openai_session_error(openai_session *session, const json_t *error, char field[OPENAI_FIELD_MAX])
{
	char latest[32];
	const char *about = text_at(error, "event_id");
	update_id(session, latest);
	blamed(error, field);
	if (*about && strcmp(about, latest)) {
		return OPENAI_UNRELATED;
	}
	return *field && session->updates < OPENAI_REFUSALS_MAX && give_way(session, field) ? OPENAI_ASK_AGAIN
																						: OPENAI_FATAL;
}

/* "1.2s", "350ms", "1m3.5s", in ms; -1 for anything else. */
static double duration_ms(const char *text)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	double total = -1;
	while (strchr("0123456789", *text) && *text) {
		char *end;
		double number = strtod(text, &end);
		size_t i = 0;
		while (i < sizeof(units) / sizeof(units[0]) && strncmp(end, units[i].unit, strlen(units[i].unit))) {
			i++;
		}
		if (i == sizeof(units) / sizeof(units[0])) {
			return total;
		}
		total = (total < 0 ? 0 : total) + number * units[i].ms;
		text = end + strlen(units[i].unit);
	}
	return total;
}

int openai_retry_ms(const json_t *error)
{
	static const char again[] = "try again in ";
	const char *code = text_at(error, "code"), *told = strstr(text_at(error, "message"), again);
	if (strcmp(code, "rate_limit_exceeded") && strcmp(code, "server_error")) {
		return -1;
	}
	double ms = told ? duration_ms(told + sizeof(again) - 1) : -1;
	ms = ms < 0 ? RETRY_MS : ms + RETRY_SPARE_MS;
	return ms > RETRY_MAX_MS ? -1 : (int)ms;
}

/* The reason, in printable ASCII: a server's word is in it, and it goes to logs and back to the server. */
static int refuse_format(const char *name, double hz, const char *where, char *error, size_t bytes)
{
	char rate[32] = "";
	if (hz > 0) {
		snprintf(rate, sizeof(rate), " at %g Hz", hz);
	}
	snprintf(error, bytes, "the server's session has %.64s%s as its %s format, which cannot be spoken", name, rate,
			 where);
	for (char *at = error; *at; at++) {
		*at = *at < ' ' || *at > '~' ? '?' : *at;
	}
	return AS_EINVAL;
}

/* value: an object with a "type", or a name. */
static int read_format(const json_t *value, openai_format *out, const char *where, char *error, size_t bytes)
{
	const json_t *rate = json_object_get(value, "rate");
	const char *name = json_is_object(value) ? text_at(value, "type") : json_string_value(value);
	if (!value || json_is_null(value)) {
		return 0;
	}
	for (size_t i = 0; name && i < FORMATS; i++) {
		if (!strcmp(name, formats[i].name)) {
			int standard_hz = formats[i].encoding == AS_S16 ? OPENAI_PCM_HZ : OPENAI_G711_HZ;
			double hz = json_is_number(rate) ? json_number_value(rate) : standard_hz;
			*out = (openai_format){formats[i].encoding, (int)(hz >= 0 && hz < 1e6 ? hz : 0)};
			return as_format_check(out->encoding, out->rate_hz) ? refuse_format(name, hz, where, error, bytes) : 0;
		}
	}
	return refuse_format(name && *name ? name : "what has no name", 0, where, error, bytes);
}

/* Does a list of modalities leave out audio? */
static int is_mute(const json_t *modalities)
{
	size_t i;
	json_t *each;
	json_array_foreach(modalities, i, each)
	{
		if (!json_is_string(each) || !strcmp(json_string_value(each), "audio")) {
			return 0;
		}
	}
	return json_array_size(modalities) > 0;
}

/* What a server that states this will not do. */
static const char *warning_of(const json_t *detection)
{
	if (json_is_null(detection)) {
		return "the server's session detects no turns (turn_detection is null): what the caller says is not answered";
	}
	return json_is_false(json_object_get(detection, "create_response"))
			   ? "the server's session answers no turns (create_response is false): what the caller says is not "
				 "answered"
			   : NULL;
}

static const char *voice_of(const json_t *voice)
{
	return json_is_string(voice) ? json_string_value(voice) : text_at(voice, "id");
}

int openai_session_stated(const openai_session *session, const json_t *updated, openai_stated *out, char *error,
						  size_t bytes)
{
	const json_t *stated = json_object_get(updated, "session"), *audio = json_object_get(stated, "audio"),
				 *input = json_object_get(audio, "input"), *output = json_object_get(audio, "output");
	const char *voice = voice_of(json_object_get(output, "voice")),
			   *beta_voice = voice_of(json_object_get(stated, "voice"));
	const json_t *detection = json_object_get(input ? input : stated, "turn_detection");
	*out = (openai_stated){.in = session->format, .out = session->format, .warning = warning_of(detection)};
	out->voice = *voice ? voice : *beta_voice ? beta_voice : session->request.voice;
	if (is_mute(json_object_get(stated, "output_modalities")) || is_mute(json_object_get(stated, "modalities"))) {
		snprintf(error, bytes, "the server's session has no audio (output_modalities)");
		return AS_EINVAL;
	}
	int wrong = read_format(json_object_get(stated, "input_audio_format"), &out->in, "input", error, bytes);
	wrong =
		wrong ? wrong : read_format(json_object_get(stated, "output_audio_format"), &out->out, "output", error, bytes);
	wrong = wrong ? wrong : read_format(json_object_get(input, "format"), &out->in, "input", error, bytes);
	return wrong ? wrong : read_format(json_object_get(output, "format"), &out->out, "output", error, bytes);
}
