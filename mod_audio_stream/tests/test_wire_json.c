/* Messages from servers that speak the JSON dialect: what is understood, and what each wrong field is told. */
#define _GNU_SOURCE
#include "support.h"

#include "wire_test.h"

#define PLAY(fields) "{\"event\":\"media.play\",\"streamId\":\"s1\",\"payload\":{" fields "}}"
#define MEDIA(fields) "{\"event\":\"media.play\",\"stream_id\":\"s2\",\"media\":{" fields "}}"
#define AUDIO "\"audioData\":\"" PCM "\""

static void reads(const char *json, wire_kind kind)
{
	is_read(wire_json_parse, json, kind);
}

static void refuses(const char *json, const char *reason)
{
	is_refused(wire_json_parse, json, AS_EINVAL, reason);
}

static void test_play(void **state)
{
	(void)state;
	const char *json = PLAY(AUDIO ",\"sampleRate\":16000,\"format\":\"LINEAR16\",\"checkpoint\":\"prompt_end\"");
	reads(json, WIRE_PLAY);
	has_format(WIRE_RAW_L16, 16000, 1);
	has_pcm();
	was_in_place(json);
	assert_string_equal(message.stream_id, "s1");
	assert_string_equal(message.checkpoint, "prompt_end");
	assert_int_equal(message.clear, 0);
	assert_string_equal(
		message.text,
		PLAY("\"audioData\":\"\",\"sampleRate\":16000,\"format\":\"LINEAR16\",\"checkpoint\":\"prompt_end\""));
}

static void test_play_by_other_names(void **state)
{
	(void)state;
	const char *json =
		MEDIA("\"payload\":\"" PCM "\",\"contentType\":\"audio/x-l16\",\"sampleRate\":16000,\"checkpoint\":\"c\"");
	reads(json, WIRE_PLAY);
	has_format(WIRE_RAW_L16, 16000, 1);
	has_pcm();
	was_in_place(json);
	assert_string_equal(message.checkpoint, "c");
}

static void test_play_defaults(void **state)
{
	(void)state;
	reads("{\"event\":\"media.play\",\"payload\":{" AUDIO "}}", WIRE_PLAY);
	has_format(WIRE_RAW_L16, 8000, 1);
	assert_string_equal(message.stream_id, "");
	assert_string_equal(message.checkpoint, "");
	reads(PLAY(AUDIO ",\"format\":null,\"sampleRate\":null,\"channels\":null,\"checkpoint\":null"), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 8000, 1);
	reads(PLAY(AUDIO ",\"sampleRate\":\"44100\",\"channels\":2"), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 44100, 2);
	reads(PLAY("\"audioData\":\"\",\"checkpoint\":\"c\""), WIRE_PLAY);
	assert_int_equal(message.audio_bytes, 0);
	assert_string_equal(message.checkpoint, "c");
	reads("{\"event\":\"media.play\",\"checkpoint\":\"beside\",\"payload\":{" AUDIO "}}", WIRE_PLAY);
	assert_string_equal(message.checkpoint, "beside");
}

static void test_formats(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		wire_format format;
	} formats[] = {
		{"LINEAR16", WIRE_RAW_L16}, {"L16", WIRE_RAW_L16},         {"linear16", WIRE_RAW_L16},
		{"raw", WIRE_RAW_L16},      {"audio/x-l16", WIRE_RAW_L16}, {"ULAW", WIRE_RAW_ULAW},
		{"MULAW", WIRE_RAW_ULAW},   {"PCMU", WIRE_RAW_ULAW},       {"audio/x-mulaw", WIRE_RAW_ULAW},
		{"ALAW", WIRE_RAW_ALAW},    {"PCMA", WIRE_RAW_ALAW},       {"audio/x-alaw", WIRE_RAW_ALAW},
		{"mp3", WIRE_FILE_MP3},     {"OGG", WIRE_FILE_OGG},
	};
	char json[256];
	for (size_t i = 0; i < COUNT(formats); i++) {
		int raw = formats[i].format <= WIRE_RAW_ALAW;
		snprintf(json, sizeof(json), PLAY(AUDIO ",\"format\":\"%s\",\"sampleRate\":8000"), formats[i].name);
		reads(json, WIRE_PLAY);
		has_format(formats[i].format, raw ? 8000 : 0, raw);
		has_pcm();
		snprintf(json, sizeof(json), MEDIA("\"payload\":\"" PCM "\",\"contentType\":\"%s\",\"sampleRate\":8000"),
				 formats[i].name);
		reads(json, WIRE_PLAY);
		has_format(formats[i].format, raw ? 8000 : 0, raw);
		has_pcm();
		assert_string_equal(message.stream_id, "s2");
	}
}

static void test_wav_with_and_without_a_header(void **state)
{
	(void)state;
	reads(PLAY("\"audioData\":\"UklGRiQAAAA=\",\"format\":\"wav\""), WIRE_PLAY);
	has_format(WIRE_FILE_WAV, 0, 0);
	reads(PLAY("\"audioData\":\"UkY2NCQAAAA=\",\"format\":\"WAV\""), WIRE_PLAY);
	has_format(WIRE_FILE_WAV, 0, 0);
	reads(MEDIA("\"payload\":\"" PCM "\",\"contentType\":\"wav\",\"sampleRate\":16000"), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 16000, 1);
	reads(PLAY("\"audioData\":\"Uklm\",\"format\":\"wav\""), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 8000, 1);
	reads(PLAY("\"audioData\":\"\",\"format\":\"wav\""), WIRE_PLAY);
	refuses(PLAY(AUDIO ",\"format\":\"wav\",\"sampleRate\":4000"), "\"sampleRate\" is 4000");
}

static void test_clear(void **state)
{
	(void)state;
	reads("{\"event\":\"media.clear\",\"streamId\":\"s\"}", WIRE_CLEAR);
	assert_string_equal(message.stream_id, "s");
	assert_string_equal(message.text, "{\"event\":\"media.clear\",\"streamId\":\"s\"}");
	reads("{\"event\":\"media.clear\",\"payload\":\"whatever\"}", WIRE_CLEAR);
	refuses("{\"event\":\"media.clear\",\"payload\":\"\xff\"}", "not JSON");
}

static void test_checkpoint(void **state)
{
	(void)state;
	static const char *const messages[] = {
		"{\"event\":\"media.checkpoint\",\"streamId\":\"s\",\"payload\":{\"name\":\"c\"}}",
		"{\"event\":\"media.checkpoint\",\"streamId\":\"s\",\"payload\":{\"checkpoint\":\"c\"}}",
		"{\"event\":\"media.checkpoint\",\"streamId\":\"s\",\"name\":\"c\"}",
		"{\"event\":\"media.checkpoint\",\"streamId\":\"s\",\"checkpoint\":\"c\"}",
		"{\"event\":\"media.checkpoint\",\"streamId\":\"s\",\"name\":\"c\",\"payload\":\"x\"}"};
	for (size_t i = 0; i < COUNT(messages); i++) {
		reads(messages[i], WIRE_CHECKPOINT);
		assert_string_equal(message.checkpoint, "c");
		assert_string_equal(message.stream_id, "s");
		assert_null(message.audio);
	}
}

static void test_transcription(void **state)
{
	(void)state;
	reads("{\"event\":\"transcription.send\",\"streamId\":\"s\",\"payload\":{ \"text\":\"h\\u00e9\", "
		  "\"confidence\":0.98, \"isFinal\":true, "
		  "\"timestamp\":1694712000000}}",
		  WIRE_TRANSCRIPTION);
	assert_string_equal(message.text,
						"{\"text\":\"h\xc3\xa9\",\"confidence\":0.98,\"isFinal\":true,\"timestamp\":1694712000000}");
	assert_string_equal(message.stream_id, "s");
	reads("{\"event\":\"transcription.send\",\"payload\":\"just words\"}", WIRE_TRANSCRIPTION);
	assert_string_equal(message.text, "\"just words\"");
	reads("{\"event\":\"transcription.send\",\"payload\":{\"audioData\":\"kept\"}}", WIRE_TRANSCRIPTION);
	assert_string_equal(message.text, "{\"audioData\":\"kept\"}");
	refuses("{\"event\":\"transcription.send\",\"text\":\"x\"}", "transcription.send: \"payload\" is missing");
}

static void test_other_messages_stay_as_they_are(void **state)
{
	(void)state;
	static const char *const others[] = {"{\"event\":\"media.stop\"}",
										 "{}",
										 "[{\"event\":\"media.play\"}]",
										 "7",
										 "{\"event\":5,\"payload\":\"x\"}",
										 "{\"type\":\"ack\"}",
										 "{\"event\":\"MEDIA.PLAY\"}",
										 "{\"event\":\"x\",\"payload\":\"no!\",\"streamId\":9}",
										 "{\"event\":null,\"audioData\":\"AAAA\"}"};
	for (size_t i = 0; i < COUNT(others); i++) {
		reads(others[i], WIRE_OTHER);
		assert_string_equal(message.text, others[i]);
		assert_string_equal(message.stream_id, "");
	}
	refuses("{\"event\":", "not JSON: ");
	reads("media.clear", WIRE_WORDS);
	assert_string_equal(message.text, "media.clear");
}

static void test_wrong_plays(void **state)
{
	(void)state;
	refuses("{\"event\":\"media.play\"}", "media.play: \"payload\" is missing");
	refuses("{\"event\":\"media.play\",\"payload\":\"" PCM "\"}", "\"payload\" is \"" PCM "\"; it must be an object");
	refuses("{\"event\":\"media.play\",\"media\":7}", "\"media\" is 7; it must be an object");
	refuses(PLAY(""), "\"audioData\" is missing");
	refuses(MEDIA("\"audioData\":\"" PCM "\""), "\"payload\" is missing");
	refuses(PLAY("\"audioData\":true"), "\"audioData\" is true; it must be a string of base64");
	refuses(PLAY("\"audioData\":\"*\""), "\"audioData\" is not base64");
	refuses(MEDIA("\"payload\":\"*\""), "\"payload\" is not base64");
	refuses(PLAY(AUDIO ",\"format\":\"OPUS\""), "\"format\" is \"OPUS\"; use LINEAR16, ULAW, ALAW, wav, mp3 or ogg");
	refuses(PLAY(AUDIO ",\"format\":16"), "\"format\" is 16");
	refuses(MEDIA("\"payload\":\"" PCM "\",\"contentType\":\"video/mp4\""), "\"contentType\" is \"video/mp4\"");
	refuses(PLAY(AUDIO ",\"sampleRate\":96000"), "\"sampleRate\" is 96000; it must be 8000 to 48000");
	refuses(PLAY(AUDIO ",\"sampleRate\":\"fast\""), "\"sampleRate\" is \"fast\"");
	refuses(PLAY(AUDIO ",\"format\":\"ULAW\",\"sampleRate\":16000"), "\"sampleRate\" is 16000; it must be 8000");
	refuses(PLAY(AUDIO ",\"channels\":0"), "\"channels\" is 0; it must be 1 to 2");
	refuses(PLAY(AUDIO ",\"checkpoint\":5"), "\"checkpoint\" is 5; it must be a string");
}

static void test_wrong_names(void **state)
{
	(void)state;
	char json[512], name[WIRE_NAME_MAX + 1];
	memset(name, 'n', sizeof(name));
	name[WIRE_NAME_MAX - 1] = '\0';
	snprintf(json, sizeof(json), "{\"event\":\"media.checkpoint\",\"streamId\":\"%s\",\"name\":\"%s\"}", name, name);
	reads(json, WIRE_CHECKPOINT);
	assert_string_equal(message.checkpoint, name);
	assert_string_equal(message.stream_id, name);
	name[WIRE_NAME_MAX - 1] = 'n';
	name[WIRE_NAME_MAX] = '\0';
	snprintf(json, sizeof(json), "{\"event\":\"media.checkpoint\",\"name\":\"%s\"}", name);
	refuses(json, "media.checkpoint: \"name\" is longer than 127 bytes");
	snprintf(json, sizeof(json), "{\"event\":\"media.clear\",\"streamId\":\"%s\"}", name);
	refuses(json, "media.clear: \"streamId\" is longer than 127 bytes");
	refuses("{\"event\":\"media.checkpoint\"}", "\"name\" is missing");
	refuses("{\"event\":\"media.checkpoint\",\"payload\":{\"name\":\"\"}}", "\"name\" is missing");
	refuses("{\"event\":\"media.checkpoint\",\"payload\":{\"name\":[]}}", "\"name\" is an array; it must be a string");
	refuses("{\"event\":\"media.checkpoint\",\"payload\":{\"checkpoint\":{}}}", "\"checkpoint\" is an object");
	refuses("{\"event\":\"media.checkpoint\",\"name\":\"a\\u0000b\"}", "\"name\" is ");
	refuses("{\"event\":\"media.clear\",\"streamId\":7}", "\"streamId\" is 7; it must be a string");
	refuses("{\"event\":\"media.clear\",\"stream_id\":[]}", "\"stream_id\" is an array");
}

static void test_too_much_audio(void **state)
{
	(void)state;
	char json[ALLOWED + 200], audio[ALLOWED + 5];
	memset(audio, 'A', sizeof(audio));
	audio[ALLOWED + 4] = '\0';
	snprintf(json, sizeof(json), PLAY("\"audioData\":\"%s\""), audio);
	is_refused(wire_json_parse, json, AS_EFULL, "media.play: \"audioData\" has 1004 characters");
	snprintf(json, sizeof(json), PLAY("\"\\u0061udioData\":\"%s\""), audio);
	is_refused(wire_json_parse, json, AS_EFULL, "\"audioData\" has 1004 characters");
}

static void test_audio_that_is_hard_to_find(void **state)
{
	(void)state;
	reads("{\"audioData\":\"!\",\"event\":\"media.play\",\"payload\":{" AUDIO "}}", WIRE_PLAY);
	has_pcm();
	reads("{\"event\":\"media.play\",\"audioData\":\"!\",\"media\":{\"payload\":\"" PCM "\"}}", WIRE_PLAY);
	has_pcm();
	reads(PLAY("\"a\":{\"payload\":\"x\"}," AUDIO), WIRE_PLAY);
	has_pcm();
	reads(PLAY("\"\\u0061udioData\":\"" PCM "\""), WIRE_PLAY);
	has_pcm();
	reads("{\"event\":\"media.play\",\"payload\":{" AUDIO "},\"media\":{\"payload\":\"AAAA\"}}", WIRE_PLAY);
	has_pcm();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_play),
		cmocka_unit_test(test_play_by_other_names),
		cmocka_unit_test(test_play_defaults),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_wav_with_and_without_a_header),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_checkpoint),
		cmocka_unit_test(test_transcription),
		cmocka_unit_test(test_other_messages_stay_as_they_are),
		cmocka_unit_test(test_wrong_plays),
		cmocka_unit_test(test_wrong_names),
		cmocka_unit_test(test_too_much_audio),
		cmocka_unit_test(test_audio_that_is_hard_to_find),
	};
	return cmocka_run_group_tests(tests, NULL, forget);
}
