#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"
#include "wire_fields.h"

static const wire_format_name formats[] = {
	{"raw", WIRE_RAW_L16},
	{"pcmu", WIRE_RAW_ULAW},
	{"pcma", WIRE_RAW_ALAW},
	{"wav", WIRE_FILE_WAV},
	{"mp3", WIRE_FILE_MP3},
	{"ogg", WIRE_FILE_OGG},
	{NULL, 0},
};

/* The object with the audio's fields; NULL when this is no streamAudio. */
static json_t *stream_audio(const json_t *root, int *is_one)
{
	const char *type = json_string_value(json_object_get(root, "type"));
	if (type && !strcmp(type, "streamAudio")) {
		*is_one = 1;
		return wire_field(root, "data");
	}
	*is_one = wire_field(root, "audioDataType") != NULL;
	return *is_one ? (json_t *)root : NULL;
}

/* What a file's name ends in says what it is. */
static wire_format format_of_file(const char *path)
{
	const char *dot = path ? strrchr(path, '.') : NULL;
	wire_format format = dot ? wire_format_find(formats, dot + 1) : 0;
	return format >= WIRE_FILE_WAV ? format : WIRE_RAW_L16;
}

static int read_format(wire_reading *r, const json_t *data)
{
	json_t *name = wire_field(data, "audioDataType");
	if (!name) {
		r->out->format = format_of_file(json_string_value(wire_field(data, "file")));
	} else {
		r->out->format = json_is_string(name) ? wire_format_find(formats, json_string_value(name)) : 0;
	}
	return r->out->format ? wire_rate_and_channels(r, data)
						  : wire_wrong(r, "audioDataType", name, "use raw, pcmu, pcma, wav, mp3 or ogg");
}

static int read_clear(wire_reading *r, const json_t *data)
{
	json_t *clear = wire_field(data, "clear");
	r->out->clear = json_is_true(clear);
	return !clear || json_is_boolean(clear) ? 0 : wire_wrong(r, "clear", clear, "it must be true or false");
}

static int read_file(wire_reading *r, const json_t *data, const json_t *file)
{
	const char *path = json_string_value(file);
	if (wire_field(data, "audioData")) {
		return wire_complain(r, AS_EINVAL, "%s: \"file\" and \"audioData\" are given; send one of them", r->what);
	}
	if (!path || !path[0] || strlen(path) != json_string_length(file)) {
		return wire_wrong(r, "file", file, "it must be a path");
	}
	r->out->kind = WIRE_PLAY_FILE;
	r->out->text = strdup(path);
	return r->out->text ? 0 : wire_complain(r, AS_ENOMEM, "%s", as_strerror(AS_ENOMEM));
}

static int read_play(wire_reading *r, json_t *data)
{
	r->out->kind = WIRE_PLAY;
	if (wire_field(data, "audioData")) {
		int error = wire_audio(r, data, "audioData");
		return error ? error : wire_keep_rest(r);
	}
	return r->out->clear ? wire_keep_rest(r)
						 : wire_complain(r, AS_EINVAL, "%s: neither \"audioData\" nor \"file\" is given", r->what);
}

static int read_stream_audio(wire_reading *r, json_t *data)
{
	if (!json_is_object(data)) {
		return data ? wire_wrong(r, "data", data, "it must be an object")
					: wire_complain(r, AS_EINVAL, "%s: \"data\" is missing", r->what);
	}
	json_t *file = wire_field(data, "file");
	int error = read_format(r, data);
	if (!error) {
		error = read_clear(r, data);
	}
	if (!error) {
		error = file ? read_file(r, data, file) : read_play(r, data);
	}
	return error;
}

int wire_binary_parse(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes)
{
	static const char *const audio_keys[] = {"audioData", NULL};
	wire_reading r = {.text = text,
					  .n = n,
					  .max_base64 = max_base64,
					  .what = "streamAudio",
					  .out = out,
					  .error = error,
					  .error_bytes = error_bytes};
	int is_one = 0, failed = wire_read(&r, audio_keys);
	if (failed) {
		return wire_read_end(&r, wire_words(&r, failed));
	}
	failed = wire_settle(&r, stream_audio(r.root, &is_one), "audioData");
	if (!failed) {
		json_t *data = stream_audio(r.root, &is_one);
		failed = is_one ? read_stream_audio(&r, data) : wire_keep_whole(&r);
	}
	return wire_read_end(&r, failed);
}
