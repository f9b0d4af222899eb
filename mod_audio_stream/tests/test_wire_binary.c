/* Messages from servers that speak the binary dialect: what is understood, and what each wrong field is told. */
#define _GNU_SOURCE
#include "support.h"

#include "wire_test.h"

#define DATA(fields) "{\"type\":\"streamAudio\",\"data\":{" fields "}}"

static void reads(const char *json, wire_kind kind)
{
	is_read(wire_binary_parse, json, kind);
}

static void refuses(const char *json, const char *reason)
{
	is_refused(wire_binary_parse, json, AS_EINVAL, reason);
}

static void test_raw_audio(void **state)
{
	(void)state;
	const char *json = DATA("\"audioDataType\":\"raw\",\"audioData\":\"" PCM "\",\"sampleRate\":24000,\"channels\":2");
	reads(json, WIRE_PLAY);
	has_format(WIRE_RAW_L16, 24000, 2);
	has_pcm();
	was_in_place(json);
	assert_int_equal(message.clear, 0);
	assert_string_equal(message.stream_id, "");
	assert_string_equal(message.checkpoint, "");
	assert_string_equal(message.text,
						DATA("\"audioDataType\":\"raw\",\"audioData\":\"\",\"sampleRate\":24000,\"channels\":2"));
}

static void test_defaults(void **state)
{
	(void)state;
	reads(DATA("\"audioData\":\"" PCM "\""), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 8000, 1);
	reads(DATA("\"audioData\":\"" PCM
			   "\",\"audioDataType\":null,\"sampleRate\":null,\"channels\":null,\"clear\":null,\"file\":null"),
		  WIRE_PLAY);
	has_format(WIRE_RAW_L16, 8000, 1);
	has_pcm();
}

static void test_rates(void **state)
{
	(void)state;
	static const char *const rates[] = {"8000", "11025", "16000", "22050", "24000", "32000", "44100", "48000"};
	char json[256];
	for (size_t i = 0; i < COUNT(rates); i++) {
		for (int quoted = 0; quoted < 2; quoted++) {
			const char *quote = quoted ? "\"" : "";
			snprintf(json, sizeof(json), DATA("\"audioData\":\"" PCM "\",\"sampleRate\":%s%s%s"), quote, rates[i],
					 quote);
			reads(json, WIRE_PLAY);
			has_format(WIRE_RAW_L16, atoi(rates[i]), 1);
		}
	}
	reads(DATA("\"audioData\":\"" PCM "\",\"sampleRate\":16000.0,\"channels\":\"2\""), WIRE_PLAY);
	has_format(WIRE_RAW_L16, 16000, 2);
}

static void test_formats(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		wire_format format;
		int rate_hz, channels;
	} formats[] = {{"raw", WIRE_RAW_L16, 16000, 1},
				   {"RAW", WIRE_RAW_L16, 16000, 1},
				   {"wav", WIRE_FILE_WAV, 0, 0},
				   {"mp3", WIRE_FILE_MP3, 0, 0},
				   {"ogg", WIRE_FILE_OGG, 0, 0}};
	char json[256];
	for (size_t i = 0; i < COUNT(formats); i++) {
		snprintf(json, sizeof(json), DATA("\"audioDataType\":\"%s\",\"audioData\":\"" PCM "\",\"sampleRate\":16000"),
				 formats[i].name);
		reads(json, WIRE_PLAY);
		has_format(formats[i].format, formats[i].rate_hz, formats[i].channels);
		has_pcm();
	}
	reads(DATA("\"audioDataType\":\"pcmu\",\"audioData\":\"" PCM "\""), WIRE_PLAY);
	has_format(WIRE_RAW_ULAW, 8000, 1);
	reads(DATA("\"audioDataType\":\"pcma\",\"audioData\":\"" PCM "\",\"sampleRate\":8000"), WIRE_PLAY);
	has_format(WIRE_RAW_ALAW, 8000, 1);
	reads(DATA("\"audioDataType\":\"mp3\",\"audioData\":\"" PCM "\",\"sampleRate\":0,\"channels\":6"),
		  WIRE_PLAY); /* the file knows */
}

static void test_clear(void **state)
{
	(void)state;
	reads(DATA("\"audioDataType\":\"raw\",\"audioData\":\"\",\"sampleRate\":24000,\"channels\":1,\"clear\":true"),
		  WIRE_PLAY);
	assert_int_equal(message.clear, 1);
	assert_int_equal(message.audio_bytes, 0);
	reads(DATA("\"clear\":true"), WIRE_PLAY);
	assert_int_equal(message.clear, 1);
	assert_null(message.audio);
	reads(DATA("\"clear\":true,\"audioData\":\"" PCM "\""), WIRE_PLAY);
	assert_int_equal(message.clear, 1);
	has_pcm();
	reads(DATA("\"clear\":false,\"audioData\":\"" PCM "\""), WIRE_PLAY);
	assert_int_equal(message.clear, 0);
}

static void test_file(void **state)
{
	(void)state;
	reads(DATA("\"file\":\"/sounds/h\\u00e9llo.wav\",\"clear\":true"), WIRE_PLAY_FILE);
	assert_string_equal(message.text, "/sounds/h\xc3\xa9llo.wav");
	has_format(WIRE_FILE_WAV, 0, 0);
	assert_int_equal(message.clear, 1);
	assert_null(message.audio);
	reads(DATA("\"file\":\"a.MP3\""), WIRE_PLAY_FILE);
	has_format(WIRE_FILE_MP3, 0, 0);
	reads(DATA("\"file\":\"a.b/pcmu\""), WIRE_PLAY_FILE);
	has_format(WIRE_RAW_L16, 8000, 1);
	reads(DATA("\"file\":\"a.pcmu\",\"sampleRate\":16000"), WIRE_PLAY_FILE);
	has_format(WIRE_RAW_L16, 16000, 1);
	reads(DATA("\"file\":\"a.wav\",\"audioDataType\":\"raw\",\"sampleRate\":\"24000\",\"channels\":2"), WIRE_PLAY_FILE);
	has_format(WIRE_RAW_L16, 24000, 2);
}

/* Some servers leave the envelope out. */
static void test_fields_in_the_message_itself(void **state)
{
	(void)state;
	reads("{\"audioDataType\":\"raw\",\"audioData\":\"" PCM "\",\"sampleRate\":16000}", WIRE_PLAY);
	has_format(WIRE_RAW_L16, 16000, 1);
	has_pcm();
	reads("{\"type\":\"audio\",\"audioDataType\":\"ogg\",\"file\":\"x\"}", WIRE_PLAY_FILE);
	reads("{\"audioData\":\"" PCM "\"}", WIRE_OTHER);
	reads("{\"file\":\"x\"}", WIRE_OTHER);
}

static void test_other_messages_stay_as_they_are(void **state)
{
	(void)state;
	static const char *const others[] = {"{\"type\":\"transcript\",\"text\":\"h\\u00e9\"}",
										 "{}",
										 "[]",
										 "[1, 2]",
										 "\"text\"",
										 "12.50",
										 "true",
										 "null",
										 " {\"type\" : 5} ",
										 "{\"type\":\"streamaudio\",\"data\":{}}",
										 "{\"data\":{\"clear\":true}}",
										 "{\"type\":\"x\",\"data\":{\"audioData\":\"not base64!\"}}",
										 "{\"type\":\"x\",\"nul\":\"a\\u0000b\"}",
										 "{\"type\":\"x\",\"audioData\":\"AAAA\",\"more\":{\"audioData\":\"BBBB\"}}"};
	for (size_t i = 0; i < COUNT(others); i++) {
		reads(others[i], WIRE_OTHER);
		assert_string_equal(message.text, others[i]);
		assert_null(message.audio);
	}
}

static void test_what_is_not_json(void **state)
{
	(void)state;
	static const char *const texts[] = {"",
										" ",
										"{",
										"\t{hello}",
										"{\"type\":\"streamAudio\",",
										"{'a':1}",
										"{\"a\":1}}",
										"{\"a\":1} x",
										"{\"a\":\"\xff\"}",
										"{\"a\":\"\n\"}",
										"{\"type\":\"x\",\"audioData\":\"\xff\"}",
										"{\"type\":\"x\",\"audioData\":\"\\x\"}"};
	for (size_t i = 0; i < COUNT(texts); i++) {
		refuses(texts[i], "not JSON: ");
	}
	assert_int_equal(parse_bytes(wire_binary_parse, "1\0", 2), AS_EINVAL);
	assert_non_null(strstr(error, "not JSON: "));
	char deep[5000];
	memset(deep, '{', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	refuses(deep, "not JSON: ");
}

static void test_words_are_for_the_application(void **state)
{
	(void)state;
	static const char *const words[] = {"hello", " line 7 is ready\n", "<say>hi</say>", "nan", "[12:00] {up}", "42 x",
										"\"a"};
	for (size_t i = 0; i < COUNT(words); i++) {
		reads(words[i], WIRE_WORDS);
		assert_string_equal(message.text, words[i]);
	}
	reads("Andr\xe9", WIRE_WORDS);
	assert_string_equal(message.text, "Andr\xef\xbf\xbd");
	char *many = malloc((1 << 20) + 2);
	memset(many, 'x', (1 << 20) + 1);
	many[(1 << 20) + 1] = '\0';
	refuses(many, "longer than 1048576 bytes");
	free(many);
}

static void test_wrong_fields(void **state)
{
	(void)state;
	refuses("{\"type\":\"streamAudio\"}", "streamAudio: \"data\" is missing");
	refuses("{\"type\":\"streamAudio\",\"data\":null}", "\"data\" is missing");
	refuses("{\"type\":\"streamAudio\",\"data\":[1]}", "\"data\" is an array; it must be an object");
	refuses(DATA(""), "neither \"audioData\" nor \"file\" is given");
	refuses(DATA("\"clear\":false"), "neither \"audioData\" nor \"file\" is given");
	refuses(DATA("\"audioData\":5"), "\"audioData\" is 5; it must be a string");
	refuses(DATA("\"audioData\":{\"a\":1}"), "\"audioData\" is an object");
	refuses(DATA("\"audioData\":\"QU!D\""), "\"audioData\" is not base64");
	refuses(DATA("\"audioData\":\"Q\""), "\"audioData\" is not base64");
	refuses(DATA("\"audioData\":\"" PCM "\",\"audioDataType\":\"aiff\""),
			"\"audioDataType\" is \"aiff\"; use raw, pcmu, pcma, wav, mp3 or ogg");
	refuses(DATA("\"audioData\":\"" PCM "\",\"audioDataType\":1.5"), "\"audioDataType\" is 1.5");
	refuses(DATA("\"audioData\":\"" PCM "\",\"clear\":\"true\""), "\"clear\" is \"true\"; it must be true or false");
	refuses(DATA("\"audioData\":\"" PCM "\",\"clear\":1"), "\"clear\" is 1");
	refuses(DATA("\"file\":\"a.wav\",\"audioData\":\"" PCM "\""), "\"file\" and \"audioData\" are given");
	refuses(DATA("\"file\":\"a.wav\",\"audioData\":\"\""), "\"file\" and \"audioData\" are given");
	refuses(DATA("\"file\":\"\""), "\"file\" is \"\"; it must be a path");
	refuses(DATA("\"file\":false"), "\"file\" is false; it must be a path");
	refuses(DATA("\"file\":\"a.wav\\u0000.mp3\""), "\"file\" is ");
}

static void test_wrong_numbers(void **state)
{
	(void)state;
	static const char *const rates[] = {"0",     "7999",      "48001",          "64000",
										"-8000", "8000.5",    "1e300",          "\"8k\"",
										"\"\"",  "\" 8000\"", "\"-8000\"",      "\"00000000008000\"",
										"true",  "[]",        "\"8000\\u0000\""};
	char json[256];
	for (size_t i = 0; i < COUNT(rates); i++) {
		snprintf(json, sizeof(json), DATA("\"audioData\":\"" PCM "\",\"sampleRate\":%s"), rates[i]);
		refuses(json, "\"sampleRate\" is ");
		refuses(json, "it must be 8000 to 48000");
	}
	static const char *const channels[] = {"0", "3", "1.5", "-1", "\"two\"", "{}"};
	for (size_t i = 0; i < COUNT(channels); i++) {
		snprintf(json, sizeof(json), DATA("\"audioData\":\"" PCM "\",\"channels\":%s"), channels[i]);
		refuses(json, "\"channels\" is ");
	}
	refuses(DATA("\"audioDataType\":\"pcmu\",\"audioData\":\"" PCM "\",\"sampleRate\":16000"),
			"\"sampleRate\" is 16000; it must be 8000");
	refuses(DATA("\"audioDataType\":\"pcma\",\"audioData\":\"" PCM "\",\"channels\":2"),
			"\"channels\" is 2; it must be 1");
}

static void test_too_much_audio(void **state)
{
	(void)state;
	char json[ALLOWED + 200], audio[ALLOWED + 5];
	memset(audio, 'A', sizeof(audio));
	audio[ALLOWED] = '\0';
	snprintf(json, sizeof(json), DATA("\"audioData\":\"%s\""), audio);
	reads(json, WIRE_PLAY);
	assert_int_equal(message.audio_bytes, ALLOWED / 4 * 3);
	audio[ALLOWED] = 'A';
	audio[ALLOWED + 4] = '\0';
	snprintf(json, sizeof(json), DATA("\"audioData\":\"%s\""), audio);
	is_refused(wire_binary_parse, json, AS_EFULL,
			   "\"audioData\" has 1004 characters, and 1000 are allowed; send less at a time, or set "
			   "STREAM_MAX_AUDIO_BASE64_LEN");
	snprintf(json, sizeof(json), "{\"type\":\"x\",\"audioData\":\"%s\"}", audio);
	reads(json, WIRE_OTHER); /* it is the application's */
}

/* Shapes in which the first "audioData" of the text is not the one that counts, or is not found by looking for it. */
static void test_audio_that_is_hard_to_find(void **state)
{
	(void)state;
	reads("{\"meta\":{\"audioData\":\"zzz\"},\"type\":\"streamAudio\",\"data\":{\"audioData\":\"" PCM "\"}}",
		  WIRE_PLAY);
	has_pcm();
	assert_string_equal(message.text,
						"{\"meta\":{\"audioData\":\"zzz\"},\"type\":\"streamAudio\",\"data\":{\"audioData\":\"\"}}");
	reads(DATA("\"\\u0061udioData\":\"" PCM "\""), WIRE_PLAY);
	has_pcm();
	reads(DATA("\"a\":\"audioData\",\"audioData\":\"" PCM "\""), WIRE_PLAY);
	has_pcm();
	reads(DATA("\"audioData\":\"AAAA\",\"audioData\":\"" PCM "\""), WIRE_PLAY); /* jansson: the last one */
	has_pcm();
	reads(DATA("\"audioData\":\"AAECAwQFBgc\\u003d\""), WIRE_PLAY);
	has_pcm();
	reads(DATA("\"t\":\"\\u00e9\",\"audioData\":\"AAECAwQFBgc\\u003d\",\"x\":0.98"), WIRE_PLAY);
	has_pcm();
	assert_string_equal(message.text, DATA("\"t\":\"\xc3\xa9\",\"audioData\":\"\",\"x\":0.98"));
	refuses(DATA("\"audioData\":\"QU\\\\u002B\",\"x\":\"\\u00e9\""), "\"audioData\" is not base64"); /* escaped twice */
	reads("{\"audioData\":\"zzz!\",\"type\":\"streamAudio\",\"data\":{\"clear\":true}}", WIRE_PLAY);
	assert_null(message.audio);
	refuses("{\"audioData\":\"\xff\",\"type\":\"streamAudio\",\"data\":{\"clear\":true}}", "not JSON");
}

static void test_reasons_are_printable_and_fit(void **state)
{
	(void)state;
	refuses(DATA("\"audioData\":\"" PCM "\",\"audioDataType\":\"a\\n\\u001b[31m\\u00e9\""), "is \"a??[31m??\"");
	refuses(DATA("\"audioData\":\"" PCM "\",\"audioDataType\":\"0123456789012345678901234567890123456789xyz\""),
			"6789\"...; use raw");
	char json[] = DATA("\"clear\":5"), small[12] = "12345678901";
	wire_message out;
	assert_int_equal(wire_binary_parse(json, strlen(json), 0, &out, small, 8), AS_EINVAL);
	assert_string_equal(small, "streamA");
	assert_int_equal(small[8], '9');
	char again[] = DATA("\"clear\":5");
	assert_int_equal(wire_binary_parse(again, strlen(again), 0, &out, NULL, 0), AS_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw_audio),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_clear),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_fields_in_the_message_itself),
		cmocka_unit_test(test_other_messages_stay_as_they_are),
		cmocka_unit_test(test_what_is_not_json),
		cmocka_unit_test(test_words_are_for_the_application),
		cmocka_unit_test(test_wrong_fields),
		cmocka_unit_test(test_wrong_numbers),
		cmocka_unit_test(test_too_much_audio),
		cmocka_unit_test(test_audio_that_is_hard_to_find),
		cmocka_unit_test(test_reasons_are_printable_and_fit),
	};
	return cmocka_run_group_tests(tests, NULL, forget);
}
