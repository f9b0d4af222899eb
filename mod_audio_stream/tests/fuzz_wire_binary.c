/*
 * fuzz_wire_binary.c - libFuzzer target: messages from servers that speak AS_DIALECT_BINARY. The first byte says how
 * much room there is for the reason, and whether much audio is allowed.
 */
#include "wire_check.h"

static void checks(const wire_message *message, const json_t *root)
{
	const char *type = json_string_value(json_object_get(root, "type"));
	int stream_audio = type && !strcmp(type, "streamAudio");
	const json_t *fields = stream_audio ? json_object_get(root, "data") : root;
	expect(message->kind == WIRE_PLAY || message->kind == WIRE_PLAY_FILE || message->kind == WIRE_OTHER, "the kind");
	expect(!stream_audio || message->kind != WIRE_OTHER, "streamAudio is for us");
	expect(!message->stream_id[0] && !message->checkpoint[0], "a name");
	if (message->kind == WIRE_OTHER) {
		expect(!message->clear && !message->format, "fields that are not there");
		return;
	}
	check_format(message);
	expect(message->clear == json_is_true(json_object_get(fields, "clear")), "clear");
	check_decoded(message, fields, "audioData");
	const char *file = json_string_value(json_object_get(fields, "file"));
	expect(message->kind == WIRE_PLAY || !strcmp(message->text, file), "another path");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n) {
		check_parse(wire_binary_parse, data + 1, n - 1, data[0] & 1 ? 1 << 20 : 40, data[0] & 2 ? 256 : data[0] >> 2,
					checks);
	}
	return 0;
}
