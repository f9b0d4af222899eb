/*
 * wire_check.h - what holds of every message that was parsed, whatever was sent.
 */
#ifndef AS_TESTS_WIRE_CHECK_H
#define AS_TESTS_WIRE_CHECK_H

#include "audio_stream.h"
#include "oracle.h"
#include "utf8.h"
#include "wire.h"

#define WIRE_FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL)

typedef int (*wire_parser)(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes);

static inline void check_error(int failed, const char *error, size_t room)
{
	expect(failed == AS_EINVAL || failed == AS_EFULL, "the wrong error");
	expect(room == 0 || memchr(error, 0, room), "the reason is not ended");
	expect(room < 2 || error[0], "no reason");
	for (size_t i = 0; room && error[i]; i++) {
		expect(error[i] >= ' ' && error[i] <= '~', "the reason is not printable");
	}
}

static inline void check_format(const wire_message *message)
{
	int raw = message->format >= WIRE_RAW_L16 && message->format <= WIRE_RAW_ALAW;
	int file = message->format >= WIRE_FILE_WAV && message->format <= WIRE_FILE_OGG;
	expect(raw || file, "no format");
	if (message->format == WIRE_RAW_L16) {
		expect(message->rate_hz >= 8000 && message->rate_hz <= 48000, "the rate");
		expect(message->channels == 1 || message->channels == 2, "the channels");
	} else {
		expect(message->rate_hz == (raw ? 8000 : 0) && message->channels == raw, "rate or channels not left alone");
	}
}

static inline void check_names(const wire_message *message)
{
	expect(memchr(message->stream_id, 0, WIRE_NAME_MAX) && memchr(message->checkpoint, 0, WIRE_NAME_MAX),
		   "a name is not ended");
	expect(message->kind != WIRE_CHECKPOINT || message->checkpoint[0], "a checkpoint without a name");
}

static inline void check_text(const wire_message *message, const char *original, size_t n)
{
	expect(message->text && message->text[0], "no text");
	if (message->kind == WIRE_WORDS) {
		size_t first = strspn(original, " \t\r\n");
		expect(original[first] && original[first] != '{', "a message taken for words");
		expect(as_utf8_check(message->text), "words that are not UTF-8");
		expect(!as_utf8_check(original) || !strcmp(message->text, original), "other words than were sent");
	} else if (message->kind == WIRE_OTHER) {
		expect(strlen(message->text) == n && !memcmp(message->text, original, n), "not what was sent");
	} else if (message->kind != WIRE_PLAY_FILE) {
		json_t *value = json_loads(message->text, WIRE_FLAGS | JSON_DECODE_INT_AS_REAL, NULL);
		expect(value != NULL, "the text is not JSON");
		json_decref(value);
	}
}

/* Audio is where it belongs, and only where there may be some. */
static inline void check_audio(const wire_message *message, const char *text, size_t n)
{
	const char *audio = (const char *)message->audio;
	expect(audio == NULL || message->kind == WIRE_PLAY, "audio in another message");
	expect(audio ? audio >= text && audio + message->audio_bytes <= text + n : message->audio_bytes == 0,
		   "audio out of place");
}

/* What the audio should be: this member of the message's object, decoded slowly. */
static inline void check_decoded(const wire_message *message, const json_t *fields, const char *name)
{
	json_t *value = json_object_get(fields, name);
	size_t length = json_string_length(value);
	uint8_t *wanted = malloc(length + 1);
	long bytes = json_is_string(value) ? oracle_decode_plain(json_string_value(value), length, wanted) : 0;
	expect(bytes >= 0, "what is not base64 was taken");
	expect((size_t)bytes == message->audio_bytes, "more or less audio than was sent");
	expect(bytes == 0 || !memcmp(message->audio, wanted, (size_t)bytes), "other audio than was sent");
	free(wanted);
}

/* Whole numbers of any size are JSON, though not to jansson. */
static inline json_t *load_json(const char *text, size_t n)
{
	json_t *root = json_loadb(text, n, WIRE_FLAGS, NULL);
	return root ? root : json_loadb(text, n, WIRE_FLAGS | JSON_DECODE_INT_AS_REAL, NULL);
}

/* Parses a copy and checks what comes out; checks: more of it, with the message as jansson reads it. */
static inline void check_parse(wire_parser parse, const void *data, size_t n, size_t max_base64, size_t room,
							   void (*checks)(const wire_message *message, const json_t *root))
{
	wire_message message;
	char *text = copy_text(data, n), *original = copy_text(data, n), *error = malloc(room + 1);
	json_t *root = load_json(original, n);
	int failed = parse(text, n, max_base64, &message, room ? error : NULL, room);
	if (failed) {
		check_error(failed, error, room);
	} else {
		expect((root != NULL) != (message.kind == WIRE_WORDS), "what is not JSON was taken, or JSON for words");
		check_names(&message);
		check_text(&message, original, n);
		check_audio(&message, text, n);
		if (root) {
			checks(&message, root);
		}
		wire_message_free(&message);
	}
	json_decref(root);
	free(text);
	free(original);
	free(error);
}

#endif
