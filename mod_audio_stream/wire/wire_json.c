#include <string.h>

#include "audio_stream.h"
#include "wire_fields.h"

static const wire_format_name formats[] = {
	{"LINEAR16", WIRE_RAW_L16},
	{"L16", WIRE_RAW_L16},
	{"raw", WIRE_RAW_L16},
	{"audio/x-l16", WIRE_RAW_L16},
	{"ULAW", WIRE_RAW_ULAW},
	{"MULAW", WIRE_RAW_ULAW},
	{"PCMU", WIRE_RAW_ULAW},
	{"audio/x-mulaw", WIRE_RAW_ULAW},
	{"ALAW", WIRE_RAW_ALAW},
	{"PCMA", WIRE_RAW_ALAW},
	{"audio/x-alaw", WIRE_RAW_ALAW},
	{"wav", WIRE_FILE_WAV},
	{"mp3", WIRE_FILE_MP3},
	{"ogg", WIRE_FILE_OGG},
	{NULL, 0},
};

/* Where media.play has its audio, and what it is called there. */
typedef struct play_shape {
	const char *object, *audio, *format;
} play_shape;

static const play_shape shapes[] = {{"payload", "audioData", "format"}, {"media", "payload", "contentType"}};

static int is_event(const json_t *root, const char *event)
{
	const char *name = json_string_value(json_object_get(root, "event"));
	return name && !strcmp(name, event);
}

/* The first shape that this message has; the first of all when it has none. */
static const play_shape *shape_of(const json_t *root)
{
	return !wire_field(root, "payload") && wire_field(root, "media") ? &shapes[1] : &shapes[0];
}

/* Is what was cut out of the message the audio of a media.play? */
static int settle(wire_reading *r)
{
	const play_shape *shape = shape_of(r->root);
	return wire_settle(r, is_event(r->root, "media.play") ? wire_field(r->root, shape->object) : NULL, shape->audio);
}

static int read_format(wire_reading *r, const json_t *fields, const char *name)
{
	json_t *value = wire_field(fields, name);
	const char *text = value ? json_string_value(value) : "LINEAR16";
	r->out->format = text ? wire_format_find(formats, text) : 0;
	return r->out->format ? 0 : wire_wrong(r, name, value, "use LINEAR16, ULAW, ALAW, wav, mp3 or ogg");
}

/* What has no header is no WAV file: there are servers that call their samples so. */
static int settle_format(wire_reading *r, const json_t *fields)
{
	const wire_message *out = r->out;
	if (out->format == WIRE_FILE_WAV &&
		(out->audio_bytes < 4 || (memcmp(out->audio, "RIF", 3) && memcmp(out->audio, "RF64", 4)))) {
		r->out->format = WIRE_RAW_L16;
	}
	return wire_rate_and_channels(r, fields);
}

/* The first of these members, of the object or of the message itself, that there is. */
static int read_checkpoint(wire_reading *r, const json_t *fields, const char *name)
{
	int error = wire_name(r, fields, name, r->out->checkpoint);
	return error || r->out->checkpoint[0] ? error : wire_name(r, r->root, name, r->out->checkpoint);
}

static int read_play(wire_reading *r)
{
	const play_shape *shape = shape_of(r->root);
	json_t *fields = wire_field(r->root, shape->object);
	if (!json_is_object(fields)) {
		return fields ? wire_wrong(r, shape->object, fields, "it must be an object")
					  : wire_complain(r, AS_EINVAL, "%s: \"%s\" is missing", r->what, shape->object);
	}
	r->out->kind = WIRE_PLAY;
	int error = read_format(r, fields, shape->format);
	error = error ? error : read_checkpoint(r, fields, "checkpoint");
	error = error ? error : wire_audio(r, fields, shape->audio);
	error = error ? error : settle_format(r, fields);
	return error ? error : wire_keep_rest(r);
}

static int read_clear(wire_reading *r)
{
	r->out->kind = WIRE_CLEAR;
	return wire_keep_rest(r);
}

static int read_mark(wire_reading *r)
{
	json_t *fields = wire_field(r->root, "payload");
	r->out->kind = WIRE_CHECKPOINT;
	int error = read_checkpoint(r, fields, "name");
	if (!error && !r->out->checkpoint[0]) {
		error = read_checkpoint(r, fields, "checkpoint");
	}
	if (!error && !r->out->checkpoint[0]) {
		error = wire_complain(r, AS_EINVAL, "%s: \"name\" is missing", r->what);
	}
	return error ? error : wire_keep_rest(r);
}

static int read_transcription(wire_reading *r)
{
	json_t *payload = wire_field(r->root, "payload");
	r->out->kind = WIRE_TRANSCRIPTION;
	return payload ? wire_keep_json(r, payload) : wire_complain(r, AS_EINVAL, "%s: \"payload\" is missing", r->what);
}

static int read_event(wire_reading *r)
{
	static const struct {
		const char *event;
		int (*read)(wire_reading *r);
	} events[] = {
		{"media.play", read_play},
		{"media.clear", read_clear},
		{"media.checkpoint", read_mark},
		{"transcription.send", read_transcription},
	};
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (is_event(r->root, events[i].event)) {
			r->what = events[i].event;
			int error = wire_name(r, r->root, "stream_id", r->out->stream_id);
			error = error ? error : wire_name(r, r->root, "streamId", r->out->stream_id);
			return error ? error : events[i].read(r);
		}
	}
	return wire_keep_whole(r);
}

int wire_json_parse(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes)
{
	static const char *const audio_keys[] = {"audioData", "payload", NULL};
	wire_reading r = {
		.text = text, .n = n, .max_base64 = max_base64, .out = out, .error = error, .error_bytes = error_bytes};
	int failed = wire_read(&r, audio_keys);
	if (failed) {
		return wire_read_end(&r, wire_words(&r, failed));
	}
	failed = settle(&r);
	if (!failed) {
		failed = read_event(&r);
	}
	return wire_read_end(&r, failed);
}
