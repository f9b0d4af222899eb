/*
 * fuzz_json_audio.c - libFuzzer target: cutting the audio out of JSON. The first byte chooses the key.
 *
 * Whatever the text: what is cut out and what is left make up the text. When it is JSON, it is what jansson finds, and
 * what is left is the same JSON with an empty string there.
 */
#define _GNU_SOURCE
#include "json_audio.h"
#include "oracle.h"

#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES)

/* The text with the string back in its place. */
static void check_parts(const char *text, size_t n, const json_audio *audio, const char *rest, size_t length)
{
	size_t before = audio->base64 ? (size_t)(audio->base64 - text) : n;
	expect(rest[length] == '\0', "the rest is not ended");
	expect(length + audio->length == n && before + audio->length <= n, "lengths");
	expect(!memcmp(rest, text, before), "before the string");
	expect(!memcmp(rest + before, text + before + audio->length, n - before - audio->length), "after the string");
}

static json_t *load_inside(const char *inside, size_t n)
{
	char *quoted = NULL;
	int length = asprintf(&quoted, "\"%.*s\"", (int)n, inside);
	json_t *string = json_loadb(quoted, (size_t)length, FLAGS, NULL);
	free(quoted);
	return string;
}

/* Keys that are spelt with escapes are other keys here, and the same ones to jansson. */
static void check_json(const char *text, size_t n, const char *key, const json_audio *audio, const char *rest,
					   size_t length)
{
	json_t *whole = memmem(text, n, "\\u", 2) ? NULL : json_loadb(text, n, FLAGS, NULL);
	if (!whole) {
		return;
	}
	json_t *wanted = oracle_find_in(whole, key);
	expect(!wanted == !audio->base64, "found by one only");
	if (wanted) {
		json_t *found = load_inside(audio->base64, audio->length), *left = json_loadb(rest, length, FLAGS, NULL);
		expect(json_equal(found, wanted), "another string");
		json_string_set(wanted, "");
		expect(json_equal(whole, left), "not the rest");
		json_decref(found);
		json_decref(left);
	}
	json_decref(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const keys[] = {"delta", "audioData", "a", ""};
	json_audio audio;
	if (n == 0) {
		return 0;
	}
	const char *key = keys[data[0] & 3];
	char *text = copy_text(data + 1, --n), *rest = malloc(n + 1);
	size_t length = json_audio_cut(text, n, key, &audio, rest);
	check_parts(text, n, &audio, rest, length);
	check_json(text, n, key, &audio, rest, length);
	free(text);
	free(rest);
	return 0;
}
