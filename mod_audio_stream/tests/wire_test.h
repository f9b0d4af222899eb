/* wire_test.h - what the tests of both dialects' parsers share. Include it after support.h. */
#ifndef AS_TESTS_WIRE_TEST_H
#define AS_TESTS_WIRE_TEST_H

#include "oracle.h"
#include "wire.h"

#define PCM "AAECAwQFBgc=" /* bytes 0 to 7 */
#define ALLOWED 1000       /* characters of base64 */

static wire_message message;
static char error[512];
static char *text; /* the message's, until the next one */

typedef int (*wire_parser)(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes);

static inline int parse_bytes(wire_parser parse, const char *json, size_t n)
{
	wire_message_free(&message);
	free(text);
	text = copy_text(json, n);
	memset(&message, 0xAA, sizeof(message)); /* whatever was there before does not count */
	error[0] = '\0';
	return parse(text, n, ALLOWED, &message, error, sizeof(error));
}

static inline void is_read(wire_parser parse, const char *json, wire_kind kind)
{
	int failed = parse_bytes(parse, json, strlen(json));
	assert_string_equal(error, "");
	assert_int_equal(failed, 0);
	assert_int_equal(message.kind, kind);
	assert_non_null(message.text);
}

/* reason: what the error says; it names the field. */
static inline void is_refused(wire_parser parse, const char *json, int code, const char *reason)
{
	assert_int_equal(parse_bytes(parse, json, strlen(json)), code);
	assert_null(message.text);
	if (!strstr(error, reason)) {
		assert_string_equal(error, reason); /* shows both */
	}
}

static inline void has_format(wire_format format, int rate_hz, int channels)
{
	assert_int_equal(message.format, format);
	assert_int_equal(message.rate_hz, rate_hz);
	assert_int_equal(message.channels, channels);
}

static inline void has_audio(const char *bytes, size_t n)
{
	assert_int_equal(message.audio_bytes, n);
	assert_non_null(message.audio);
	assert_memory_equal(message.audio, bytes, n);
	assert_true((char *)message.audio >= text);
}

/* It was decoded where it stood in the text: nothing has been copied. */
static inline void was_in_place(const char *json)
{
	assert_ptr_equal(message.audio, text + (strstr(json, PCM) - json));
}

static inline void has_pcm(void)
{
	has_audio("\0\1\2\3\4\5\6\7", 8);
}

static int forget(void **state)
{
	(void)state;
	wire_message_free(&message);
	free(text);
	text = NULL;
	return 0;
}

#endif
