/*
 * fuzz_wire_json.c - libFuzzer target: messages from servers that speak AS_DIALECT_JSON. The first byte says how much
 * room there is for the reason, and whether much audio is allowed.
 */
#include "wire_check.h"

/* The kind that belongs to an event's name. */
static wire_kind kind_of(const char *event)
{
	static const char *const events[] = {"media.play", "media.clear", "media.checkpoint", "transcription.send"};
	static const wire_kind kinds[] = {WIRE_PLAY, WIRE_CLEAR, WIRE_CHECKPOINT, WIRE_TRANSCRIPTION};
	for (int i = 0; event && i < 4; i++) {
		if (!strcmp(event, events[i])) {
			return kinds[i];
		}
	}
	return WIRE_OTHER;
}

static void check_play(const wire_message *message, const json_t *root)
{
	json_t *payload = json_object_get(root, "payload");
	int by_media = !payload || json_is_null(payload);
	check_format(message);
	check_decoded(message, by_media ? json_object_get(root, "media") : payload, by_media ? "payload" : "audioData");
}

static void checks(const wire_message *message, const json_t *root)
{
	expect(message->kind == kind_of(json_string_value(json_object_get(root, "event"))), "the kind");
	expect(!message->clear, "clear is of the other dialect");
	if (message->kind == WIRE_PLAY) {
		check_play(message, root);
	} else if (message->kind == WIRE_TRANSCRIPTION) {
		json_t *payload = json_loads(message->text, WIRE_FLAGS, NULL);
		expect(json_typeof(payload) == json_typeof(json_object_get(root, "payload")), "another payload");
		json_decref(payload);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n) {
		check_parse(wire_json_parse, data + 1, n - 1, data[0] & 1 ? 1 << 20 : 40, data[0] & 2 ? 256 : data[0] >> 2,
					checks);
	}
	return 0;
}
