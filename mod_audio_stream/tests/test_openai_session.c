/* What is asked of a session, what of it is given up when a server refuses it, and which formats a server may state. */
#define _GNU_SOURCE
#include "support.h"

#include "openai_session.h"

static char reason[256];

static openai_session session_of(int wire_encoding, int rate_hz)
{
	const openai_request request = {.model = "m",
									.voice = "marin",
									.instructions = "Be brief.",
									.vad_threshold = 0.5,
									.vad_silence_ms = 300,
									.vad_prefix_ms = 200,
									.rate_hz = rate_hz};
	openai_session session;
	assert_int_equal(openai_session_init(&session, &request, wire_encoding, reason, sizeof(reason)), 0);
	return session;
}

/* The value at a path of the next update; NULL when there is none. Valid until the next call. */
static const json_t *asked(openai_session *session, const char *path)
{
	static json_t *update;
	char *copy = strdup(path), *state;
	json_decref(update);
	update = openai_session_update(session);
	const json_t *at = json_object_get(update, "session");
	for (char *step = strtok_r(copy, ".", &state); step; step = strtok_r(NULL, ".", &state)) {
		at = json_object_get(at, step);
	}
	free(copy);
	return at;
}

static const char *asked_text(openai_session *session, const char *path)
{
	const char *text = json_string_value(asked(session, path));
	return text ? text : "";
}

/* An error's fields, as JSON without the braces. */
static openai_verdict refuse(openai_session *session, const char *error)
{
	char *text = NULL, field[OPENAI_FIELD_MAX];
	assert_true(asprintf(&text, "{%s}", error) > 0);
	json_t *json = json_loads(text, 0, NULL);
	assert_non_null(json);
	openai_verdict verdict = openai_session_error(session, json, field);
	json_decref(json);
	free(text);
	return verdict;
}

static void test_what_is_asked_for(void **state)
{
	(void)state;
	openai_session session = session_of(AS_PCMU, 0);
	assert_string_equal(asked_text(&session, "type"), "realtime");
	assert_string_equal(asked_text(&session, "audio.input.format.type"), "audio/pcmu");
	assert_null(asked(&session, "audio.input.format.rate"));
	assert_string_equal(asked_text(&session, "audio.output.voice"), "marin");
	assert_string_equal(asked_text(&session, "instructions"), "Be brief.");
	assert_int_equal(json_integer_value(asked(&session, "audio.input.turn_detection.prefix_padding_ms")), 200);
	assert_int_equal(session.updates, 6);
	session = session_of(AS_PCMA, OPENAI_PCM_HZ);
	assert_string_equal(asked_text(&session, "audio.output.format.type"), "audio/pcm");
	assert_int_equal(json_integer_value(asked(&session, "audio.output.format.rate")), 24000);
	session = session_of(AS_S16, 0);
	assert_string_equal(asked_text(&session, "audio.output.format.type"), "audio/pcm");
}

static void test_the_beta_is_asked_in_its_shape(void **state)
{
	(void)state;
	openai_session session = session_of(AS_PCMA, 0);
	json_t *created = json_loads("{\"session\":{\"id\":\"s\",\"input_audio_format\":\"pcm16\"}}", 0, NULL);
	openai_session_created(&session, created);
	json_decref(created);
	assert_null(asked(&session, "type"));
	assert_string_equal(asked_text(&session, "input_audio_format"), "g711_alaw");
	assert_string_equal(asked_text(&session, "output_audio_format"), "g711_alaw");
	assert_string_equal(asked_text(&session, "voice"), "marin");
	assert_int_equal(json_array_size(asked(&session, "modalities")), 2);
	assert_string_equal(asked_text(&session, "turn_detection.type"), "server_vad");
	assert_int_equal(refuse(&session, "\"param\":\"session.output_audio_format\""), OPENAI_ASK_AGAIN);
	assert_string_equal(asked_text(&session, "input_audio_format"), "pcm16");
	session = session_of(AS_PCMA, 0);
	assert_int_equal(refuse(&session, "\"message\":\"Unknown parameter: 'session.type'.\""), OPENAI_ASK_AGAIN);
	assert_string_equal(asked_text(&session, "input_audio_format"), "g711_alaw");
	assert_int_equal(refuse(&session, "\"param\":\"session.modalities\""), OPENAI_FATAL);
}

static void test_a_refused_field_is_left_out_and_no_other(void **state)
{
	(void)state;
	static const struct {
		const char *error, *field, *kept;
	} cases[] = {
		{"\"param\":\"session.audio.output.voice\"", "audio.output.voice", "audio.output.format"},
		{"\"param\":\"audio.output.voice\"", "audio.output.voice", "instructions"},
		{"\"param\":\"session.audio.output.voice.id\"", "audio.output.voice", "instructions"},
		{"\"param\":null,\"message\":\"Unknown parameter: 'session.instructions'.\"", "instructions",
		 "audio.output.voice"},
		{"\"param\":\"session.audio.input.turn_detection.prefix_padding_ms\"",
		 "audio.input.turn_detection.prefix_padding_ms", "audio.input.turn_detection.threshold"},
		{"\"param\":\"session.audio.input.turn_detection.type\"", "audio.input.turn_detection", "audio.input.format"},
		{"\"event_id\":\"update_1\",\"param\":\"session.audio.output.voice\"", "audio.output.voice",
		 "audio.input.format"},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		openai_session session = session_of(AS_PCMU, 0);
		assert_non_null(asked(&session, cases[i].field));
		assert_int_equal(refuse(&session, cases[i].error), OPENAI_ASK_AGAIN);
		assert_null(asked(&session, cases[i].field));
		assert_non_null(asked(&session, cases[i].kept));
		assert_string_equal(asked_text(&session, "audio.input.format.type"), "audio/pcmu");
	}
}

static void test_instead_of_g711_there_is_pcm(void **state)
{
	(void)state;
	static const char *const errors[] = {"\"param\":\"session.audio.input.format.type\"",
										 "\"param\":\"session.audio.output.format\"",
										 "\"message\":\"Invalid value for 'session.audio.input.format'.\""};
	for (size_t i = 0; i < COUNT(errors); i++) {
		openai_session session = session_of(AS_PCMU, 0);
		asked(&session, "type");
		assert_int_equal(refuse(&session, errors[i]), OPENAI_ASK_AGAIN);
		assert_string_equal(asked_text(&session, "audio.input.format.type"), "audio/pcm");
		assert_int_equal(json_integer_value(asked(&session, "audio.output.format.rate")), 24000);
		assert_string_equal(asked_text(&session, "audio.output.voice"), "marin");
		assert_int_equal(refuse(&session, errors[i]), OPENAI_FATAL); /* nor that */
	}
}

static void test_what_cannot_be_given_up_is_fatal(void **state)
{
	(void)state;
	static const char *const errors[] = {"\"code\":\"invalid_api_key\"", "\"param\":\"session.tools\"",
										 "\"param\":\"\\u00e9\"",        "\"param\":7",
										 "\"param\":\"session.\"",       "\"param\":\"....\""};
	for (size_t i = 0; i < COUNT(errors); i++) {
		openai_session session = session_of(AS_PCMU, 0);
		asked(&session, "type");
		assert_int_equal(refuse(&session, errors[i]), OPENAI_FATAL);
	}
	openai_session session = session_of(AS_PCMU, 0);
	asked(&session, "type");
	assert_int_equal(refuse(&session, "\"param\":\"session.instructions\""), OPENAI_ASK_AGAIN);
	assert_int_equal(refuse(&session, "\"param\":\"session.instructions\""), OPENAI_FATAL);
}

static void test_errors_about_something_else_end_nothing(void **state)
{
	(void)state;
	openai_session session = session_of(AS_PCMU, 0);
	asked(&session, "type");
	asked(&session, "type");
	assert_int_equal(refuse(&session, "\"event_id\":\"update_1\",\"param\":\"session.instructions\""),
					 OPENAI_UNRELATED);
	assert_int_equal(refuse(&session, "\"event_id\":\"of a proxy\""), OPENAI_UNRELATED);
	assert_non_null(asked(&session, "instructions"));
}

/* A server never has us ask for ever. */
static void test_updates_are_bounded(void **state)
{
	(void)state;
	openai_session session = session_of(AS_PCMU, 0);
	int again = 0;
	for (int i = 0; i < 200; i++) {
		static const char *const errors[] = {"\"param\":\"session.audio.input.format\"",
											 "\"param\":\"session.type\"",
											 "\"param\":\"session.instructions\"",
											 "\"param\":\"session.voice\"",
											 "\"param\":\"session.turn_detection.threshold\"",
											 "\"param\":\"session.turn_detection\""};
		asked(&session, "type");
		again += refuse(&session, errors[i % 6]) == OPENAI_ASK_AGAIN;
	}
	assert_true(again >= 4 && again < OPENAI_REFUSALS_MAX);
}

typedef struct stated_case {
	const char *session;
	int in, in_hz, out, out_hz;
} stated_case;

static void test_what_is_stated_decides(void **state)
{
	(void)state;
	static const stated_case cases[] = {
		{"{}", AS_PCMU, 8000, AS_PCMU, 8000},
		{"{\"audio\":null}", AS_PCMU, 8000, AS_PCMU, 8000},
		{"{\"audio\":{\"output\":{\"voice\":\"marin\"}}}", AS_PCMU, 8000, AS_PCMU, 8000},
		{"{\"audio\":{\"input\":{\"format\":null},\"output\":{\"format\":{\"type\":\"audio/pcm\",\"rate\":24000}}}}",
		 AS_PCMU, 8000, AS_S16, 24000},
		{"{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcm\"}},\"output\":{\"format\":{\"type\":\"audio/"
		 "pcm\",\"rate\":"
		 "16000}}}}",
		 AS_S16, 24000, AS_S16, 16000},
		{"{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/pcma\",\"rate\":8000}}}}", AS_PCMU, 8000, AS_PCMA, 8000},
		{"{\"audio\":{\"output\":{\"format\":\"g711_alaw\"}}}", AS_PCMU, 8000, AS_PCMA, 8000},
		{"{\"audio\":null,\"input_audio_format\":\"pcm16\",\"output_audio_format\":\"g711_ulaw\"}", AS_S16, 24000,
		 AS_PCMU, 8000},
		{"{\"output_modalities\":[\"audio\"],\"modalities\":[]}", AS_PCMU, 8000, AS_PCMU, 8000},
	};
	const openai_session session = session_of(AS_PCMU, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		openai_stated stated;
		json_t *updated = json_pack("{s:o}", "session", json_loads(cases[i].session, 0, NULL));
		assert_int_equal(openai_session_stated(&session, updated, &stated, reason, sizeof(reason)), 0);
		assert_int_equal(stated.in.encoding, cases[i].in);
		assert_int_equal(stated.in.rate_hz, cases[i].in_hz);
		assert_int_equal(stated.out.encoding, cases[i].out);
		assert_int_equal(stated.out.rate_hz, cases[i].out_hz);
		assert_string_equal(stated.voice, "marin");
		assert_null(stated.warning);
		json_decref(updated);
	}
}

static void test_what_cannot_be_spoken_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *session, *says;
	} cases[] = {
		{"{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/opus\"}}}}", "has audio/opus as its output format"},
		{"{\"audio\":{\"input\":{\"format\":{\"type\":\"audio/pcm\",\"rate\":96000}}}}",
		 "has audio/pcm at 96000 Hz as its input format"},
		{"{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/pcmu\",\"rate\":16000}}}}", "audio/pcmu at 16000 Hz"},
		{"{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/pcm\",\"rate\":1e300}}}}", "audio/pcm at 1e+300 Hz"},
		{"{\"audio\":{\"output\":{\"format\":{}}}}", "has what has no name as its output format"},
		{"{\"audio\":{\"output\":{\"format\":7}}}", "has what has no name as its output format"},
		{"{\"output_audio_format\":\"caf\\u00e9\\n\"}", "has caf??? as its output format"},
		{"{\"output_modalities\":[\"text\"]}", "has no audio"},
		{"{\"modalities\":[\"text\"]}", "has no audio"},
	};
	const openai_session session = session_of(AS_PCMU, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		openai_stated stated;
		json_t *updated = json_pack("{s:o}", "session", json_loads(cases[i].session, 0, NULL));
		assert_int_equal(openai_session_stated(&session, updated, &stated, reason, sizeof(reason)), AS_EINVAL);
		if (!strstr(reason, cases[i].says)) {
			assert_string_equal(reason, cases[i].says); /* shows both */
		}
		json_decref(updated);
	}
}

static void test_a_server_that_answers_nobody_is_warned_of(void **state)
{
	(void)state;
	static const char *const sessions[] = {
		"{\"audio\":{\"input\":{\"turn_detection\":null}}}", "{\"turn_detection\":null}",
		"{\"audio\":{\"input\":{\"turn_detection\":{\"type\":\"server_vad\",\"create_response\":false}}}}"};
	const openai_session session = session_of(AS_PCMU, 0);
	for (size_t i = 0; i < COUNT(sessions); i++) {
		openai_stated stated;
		json_t *updated = json_pack("{s:o}", "session", json_loads(sessions[i], 0, NULL));
		assert_int_equal(openai_session_stated(&session, updated, &stated, reason, sizeof(reason)), 0);
		assert_non_null(stated.warning);
		json_decref(updated);
	}
}

static void test_when_a_failed_response_is_asked_for_again(void **state)
{
	(void)state;
	static const struct {
		const char *code, *message;
		int least_ms, most_ms;
	} cases[] = {
		{"rate_limit_exceeded", "Limit reached. Please try again in 1.2s. Visit ...", 1200, 1250},
		{"rate_limit_exceeded", "Please try again in 350ms.", 350, 400},
		{"rate_limit_exceeded", "Please try again in 0s", 0, 50},
		{"rate_limit_exceeded", "Please try again in 1m3.5s", -1, -1}, /* nobody waits for that */
		{"rate_limit_exceeded", "Please try again in 9999999999h", -1, -1},
		{"rate_limit_exceeded", "Please try again in a while", 1000, 1000},
		{"rate_limit_exceeded", "Please try again in 3 s", 1000, 1000},
		{"server_error", "", 1000, 1000},
		{"invalid_request", "try again in 1s", -1, -1},
		{"", "", -1, -1},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *error = json_pack("{s:s,s:s}", "code", cases[i].code, "message", cases[i].message);
		int ms = openai_retry_ms(error);
		json_decref(error);
		assert_true(ms >= cases[i].least_ms && ms <= cases[i].most_ms);
	}
	assert_int_equal(openai_retry_ms(NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_asked_for),
		cmocka_unit_test(test_the_beta_is_asked_in_its_shape),
		cmocka_unit_test(test_a_refused_field_is_left_out_and_no_other),
		cmocka_unit_test(test_instead_of_g711_there_is_pcm),
		cmocka_unit_test(test_what_cannot_be_given_up_is_fatal),
		cmocka_unit_test(test_errors_about_something_else_end_nothing),
		cmocka_unit_test(test_updates_are_bounded),
		cmocka_unit_test(test_what_is_stated_decides),
		cmocka_unit_test(test_what_cannot_be_spoken_is_named),
		cmocka_unit_test(test_a_server_that_answers_nobody_is_warned_of),
		cmocka_unit_test(test_when_a_failed_response_is_asked_for_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
