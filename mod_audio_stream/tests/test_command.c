/* What `uuid_audio_stream` understands, and what it says about the rest. Random lines are in test_command_random.c. */
#define _GNU_SOURCE
#include "command_test.h"

static void test_every_verb(void **state)
{
	(void)state;
	understood("u start embedded", NULL, AS_VERB_START, "u", "main");
	assert_int_equal(command.rate_hz, 0);
	understood("u stop", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "");
	understood("u pause", NULL, AS_VERB_PAUSE, "u", "main");
	assert_int_equal(command.directions, AS_CAPTURE | AS_INJECT);
	understood("u resume", NULL, AS_VERB_RESUME, "u", "main");
	assert_int_equal(command.directions, AS_CAPTURE | AS_INJECT);
	understood("u status", NULL, AS_VERB_STATUS, "u", "main");
}

static void test_a_stream_by_name(void **state)
{
	(void)state;
	understood("u s start embedded", NULL, AS_VERB_START, "u", "s");
	understood("u s stop", NULL, AS_VERB_STOP, "u", "s");
	understood("u s status", NULL, AS_VERB_STATUS, "u", "s");
	understood("u s resume inject", NULL, AS_VERB_RESUME, "u", "s");
	assert_int_equal(parse_as("u main stop", NULL), 0);
	assert_int_equal(command.has_stream_id, 1); /* named, though it is the default */
}

/* In the dialplan, a single name is a stream's, unless it is the call's own uuid. */
static void test_the_dialplan_may_leave_the_uuid_out(void **state)
{
	(void)state;
	understood("start embedded", OWN, AS_VERB_START, OWN, "main");
	understood("status", OWN, AS_VERB_STATUS, OWN, "main");
	understood("s stop", OWN, AS_VERB_STOP, OWN, "s");
	understood(OWN " stop", OWN, AS_VERB_STOP, OWN, "main");
	understood(OWN " s stop", OWN, AS_VERB_STOP, OWN, "s");
	understood("other s stop", OWN, AS_VERB_STOP, "other", "s");
	understood("s stop", NULL, AS_VERB_STOP, "s", "main");
	refused("stop", NULL, "no call");
	refused("start embedded", NULL, "no call");
}

static void test_rates(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		int rate_hz;
	} rates[] = {{"8000", 8000},   {"16000", 16000}, {"24000", 24000}, {"32000", 32000},
				 {"44100", 44100}, {"48000", 48000}, {"8k", 8000},     {"16K", 16000},
				 {"24k", 24000},   {"32k", 32000},   {"44.1k", 44100}, {"48k", 48000}};
	char line[64];
	for (size_t i = 0; i < COUNT(rates); i++) {
		snprintf(line, sizeof(line), "u start embedded %s", rates[i].word);
		understood(line, NULL, AS_VERB_START, "u", "main");
		assert_int_equal(command.rate_hz, rates[i].rate_hz);
	}
}

static void test_what_is_no_rate(void **state)
{
	(void)state;
	static const char *const words[] = {"0",
										"8001",
										"-8000",
										"8000.5",
										"8kHz",
										"8kk",
										"k",
										"fast",
										"nan",
										"inf",
										"-inf",
										"1e999",
										"8e3",
										"0x1f40",
										"+8k",
										"8 k",
										"99999999999999999999k",
										".",
										"8000.0.0"};
	static const char *const forms[] = {"u start embedded %s", "u start ws://h both %s 0 1", "u openai_start rate=%s"};
	char line[96];
	for (size_t form = 0; form < COUNT(forms); form++) {
		for (size_t i = 0; i < COUNT(words); i++) {
			snprintf(line, sizeof(line), forms[form], words[i]);
			assert_int_equal(parse_as(line, NULL), AS_EINVAL);
			assert_string_not_equal(error, "");
		}
	}
	refused("u start embedded 8001", NULL, "'8001' is not a sample rate; use 8000");
	refused("u start ws://h 8001", NULL, "'8001' is not a sample rate; use 8000");
}

static void test_directions(void **state)
{
	(void)state;
	understood("u pause capture", NULL, AS_VERB_PAUSE, "u", "main");
	assert_int_equal(command.directions, AS_CAPTURE);
	understood("u resume inject", NULL, AS_VERB_RESUME, "u", "main");
	assert_int_equal(command.directions, AS_INJECT);
	refused("u pause both", NULL, "'both' is not a direction; use capture or inject");
	refused("u pause a break", NULL, "a reason needs the stream's id");
	understood("u s pause", NULL, AS_VERB_PAUSE, "u", "s");
	assert_int_equal(command.directions, AS_CAPTURE | AS_INJECT);
	assert_string_equal(command.text, "");
	understood("u s pause on hold", NULL, AS_VERB_PAUSE, "u", "s");
	assert_int_equal(command.directions, AS_CAPTURE | AS_INJECT);
	assert_string_equal(command.text, "on hold");
	understood("s resume inject 'back again'", "u", AS_VERB_RESUME, "u", "s");
	assert_int_equal(command.directions, AS_INJECT);
	assert_string_equal(command.text, "back again");
	refused("u pause capture inject", NULL, "'inject' is one argument too many");
}

static void test_the_reason_of_a_stop_is_the_rest_of_the_line(void **state)
{
	(void)state;
	understood("u stop  the caller   has  left \t\n", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "the caller   has  left");
	understood("u stop stop", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "stop");
	understood("u stop start of maintenance", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "start of maintenance");
	understood("u s graceful-shutdown 'the caller  has left'", NULL, AS_VERB_GRACEFUL, "u", "s");
	assert_string_equal(command.text, "the caller  has left");
}

static void test_text_to_send(void **state)
{
	(void)state;
	understood("u send_text {\"event\":\"x\",  \"n\": 1} ", NULL, AS_VERB_SEND_TEXT, "u", "main");
	assert_string_equal(command.text, "{\"event\":\"x\",  \"n\": 1}");
	understood("u s send_text start", NULL, AS_VERB_SEND_TEXT, "u", "s");
	assert_string_equal(command.text, "start");
	understood("u send_text start embedded", NULL, AS_VERB_SEND_TEXT, "u", "main");
	assert_string_equal(command.text, "start embedded");
	refused("u send_text", NULL, "send_text needs the text");
	refused("u send_text ''", NULL, "send_text needs the text");
}

static void test_quotes(void **state)
{
	(void)state;
	static const struct {
		const char *written, *meant;
	} texts[] = {
		{"'{\"mode\":\"x\"}'", "{\"mode\":\"x\"}"},
		{"\"{\\\"mode\\\":\\\"x\\\"}\"", "{\"mode\":\"x\"}"},
		{"'{\"line\":\"a\\n\\\\\"}'", "{\"line\":\"a\\n\\\\\"}"}, /* '...' leaves JSON's escapes alone */
		{"'it's over'", "it's over"},                             /* an apostrophe ends nothing */
		{"'it\\'s over'", "it's over"},
		{"'one' and 'two'", "'one' and 'two'"}, /* they do not enclose all of it */
		{"'tis over", "'tis over"},
		{"\"two\\nlines\"", "two\nlines"},
		{"\"a \\b\"", "a \\b"}, /* no escape */
		{"'  kept  '", "  kept  "},
		{"''", ""},
		{"'", "'"},
	};
	char line[128];
	for (size_t i = 0; i < COUNT(texts); i++) {
		snprintf(line, sizeof(line), "u stop %s ", texts[i].written);
		understood(line, NULL, AS_VERB_STOP, "u", "main");
		assert_string_equal(command.text, texts[i].meant);
	}
	understood("\"u\" 's' start \"ws://h\" both '8000' \"5\" '1'", NULL, AS_VERB_START, "u", "s");
	assert_string_equal(command.url, "ws://h");
	refused("u 's status", NULL, "the quote (') around the uuid or stream id is not closed");
	refused("u start 'ws://h", NULL, "around the URL is not closed");
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

static void started(int dialect, const char *track, as_command_track tracks, int rate_hz, const char *metadata)
{
	assert_int_equal(command.dialect, dialect);
	assert_string_equal(command.track, track);
	assert_int_equal(command.tracks, tracks);
	assert_int_equal(command.rate_hz, rate_hz);
	assert_string_equal(command.metadata, metadata);
}

static void test_start_embedded(void **state)
{
	(void)state;
	understood("u start embedded", NULL, AS_VERB_START, "u", "main");
	started(0, "inbound", AS_COMMAND_INBOUND, 0, "");
	assert_int_equal(command.bidirectional, 1);
	understood("u start embedded both 16k", NULL, AS_VERB_START, "u", "main");
	started(0, "both", AS_COMMAND_MIXED, 16000, "");
	understood("u start embedded 16k stereo", NULL, AS_VERB_START, "u", "main");
	started(0, "stereo", AS_COMMAND_STEREO, 16000, "");
	understood("u start embedded outbound", NULL, AS_VERB_START, "u", "main");
	started(0, "outbound", AS_COMMAND_OUTBOUND, 0, "");
	refused("u start embedded both mono", NULL, "'mono' is neither a track");
	refused("u start embedded 8000 16000", NULL, "'16000' is neither a track");
	refused("u start embedded mono 8000 x", NULL, "'x' is one argument too many");
	refused("u start embedded fast", NULL, "'fast' is neither a track (inbound, outbound, both, mono, mixed or stereo");
}

static void test_start_with_a_mix_type(void **state)
{
	(void)state;
	understood("u start ws://127.0.0.1:8765 mono 8000", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 8000, "");
	assert_string_equal(command.url, "ws://127.0.0.1:8765");
	assert_int_equal(command.bidirectional, 1);
	understood("u start wss://h/path?x=1", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 0, "");
	understood("u s start ws://h mixed 8k {\"a\":  1} ", NULL, AS_VERB_START, "u", "s");
	started(AS_DIALECT_BINARY, "mixed", AS_COMMAND_MIXED, 8000, "{\"a\":  1}");
	understood("u start ws://h 16000 stereo any words", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "stereo", AS_COMMAND_STEREO, 16000, "any words");
	understood("u start ws://h stereo '{\"a\":\"it's\"}'", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "stereo", AS_COMMAND_STEREO, 0, "{\"a\":\"it's\"}");
	understood("u start ws://h {\"a\":1}", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 0, "{\"a\":1}");
	understood("start ws://h mono 8000 x", OWN, AS_VERB_START, OWN, "main");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 8000, "x");
	refused("u start ws://h monno 8000", NULL, "'monno 8000' cannot stand there; after the URL come mono,");
	refused("u start ws://h mono fast", NULL, "'fast' cannot stand there");
}

static void test_start_with_a_track(void **state)
{
	(void)state;
	understood("u my_id start wss://api.example.com/x inbound 16000 30 0", NULL, AS_VERB_START, "u", "my_id");
	started(AS_DIALECT_JSON, "inbound", AS_COMMAND_INBOUND, 16000, "");
	assert_int_equal(command.timeout_s, 30);
	assert_int_equal(command.bidirectional, 0);
	understood("u s start ws://h both 44100 0 1 '{\"mode\":\"x  y\"}'", NULL, AS_VERB_START, "u", "s");
	started(AS_DIALECT_JSON, "both", AS_COMMAND_MIXED, 44100, "{\"mode\":\"x  y\"}");
	assert_int_equal(command.timeout_s, -1);
	assert_int_equal(command.bidirectional, 1);
	understood("u start ws://h outbound 8k 3600 1 some words", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_JSON, "outbound", AS_COMMAND_OUTBOUND, 8000, "some words");
	understood("u s start ws://h \"inbound\" '16000' 5 1", NULL, AS_VERB_START, "u", "s"); /* quotes change nothing */
	started(AS_DIALECT_JSON, "inbound", AS_COMMAND_INBOUND, 16000, "");
	understood("u s start ws://h 'stereo' 16000", NULL, AS_VERB_START, "u", "s");
	started(AS_DIALECT_BINARY, "stereo", AS_COMMAND_STEREO, 16000, "");
	understood("u s start ws://h \"both of us\"", NULL, AS_VERB_START, "u", "s");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 0, "both of us");
	refused("u s start ws://h both", NULL, "the sample rate is missing: start <ws-url> inbound|outbound|both <rate>");
	refused("u s start ws://h both 8000", NULL, "the timeout is missing");
	refused("u s start ws://h both 8000 5", NULL, "the bidirectional flag is missing");
	refused("u s start ws://h both 8000 5s 1", NULL, "'5s' is not a timeout; use whole seconds, 0 to 3600");
	refused("u s start ws://h both 8000 3601 1", NULL, "'3601' is not a timeout");
	refused("u s start ws://h both 8000 -1 1", NULL, "'-1' is not a timeout");
	refused("u s start ws://h both 8000 5 2", NULL, "'2' does not say whether the server may play; use 0");
	refused("u s start ws://h both 8000 5 yes {}", NULL, "'yes' does not say");
}

static void test_urls(void **state)
{
	(void)state;
	refused("u start", NULL, "start needs to know what takes the audio");
	refused("u start tcp", NULL, "'tcp' cannot take the audio; use a ws:// or wss:// URL, or embedded");
	refused("u start https://user:password@host/x", NULL, "'https://...' cannot take the audio");
	assert_null(strstr(error, "password"));
	refused("u start ws://", NULL, "the URL names no host");
	static const char *const wrong[] = {
		"u strt wss://h/x?token=SECRET mono",
		"u wss://h?token=SECRET",
		"wss://h?token=SECRET",
		"u start embedded wss://u:SECRET@h/",
		"u start ws://h mono 8k2 ws://SECRET",
		"u status wss://h/SECRET",
		"u start embedded 'wss://u:it's SECRET@h'",
		"u start 'https://u:a SECRET@h/'",
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		refused(wrong[i], NULL, "");
		assert_string_not_equal(error, "");
		assert_null(strstr(error, "SECRET"));
	}
	refused("u strt wss://h/x mono", NULL, "'wss://...' is not a command; use start");
	refused("u start wss:///path", NULL, "the URL names no host");
	refused("u start 'ws://h/a b'", NULL, "the URL has a blank or a control character in it");
	refused("u start ws://h/\x01", NULL, "the URL has a blank or a control character in it");
}

/* What a caller has chosen stays out of the line: the line names the variable that has it. */
static void test_metadata_that_a_variable_has(void **state)
{
	(void)state;
	understood("u start ws://h mono 8000 metadata_var=call_data", NULL, AS_VERB_START, "u", "main");
	started(AS_DIALECT_BINARY, "mono", AS_COMMAND_INBOUND, 8000, "");
	assert_string_equal(command.metadata_var, "call_data");
	understood("u start ws://h metadata_vars=caller_id_name,sip_h_X-Y ", NULL, AS_VERB_START, "u", "main");
	assert_string_equal(command.metadata_vars, "caller_id_name,sip_h_X-Y");
	assert_string_equal(command.metadata_var, "");
	understood("u s start ws://h both 8k 0 1 metadata_var='call_data'", NULL, AS_VERB_START, "u", "s");
	assert_string_equal(command.metadata_var, "call_data");
	understood("u s start ws://h both 8k 0 1 metadata_var=", NULL, AS_VERB_START, "u", "s");
	assert_string_equal(command.metadata_var, "");
	understood("u start ws://h mono 8000 'metadata_var=x'", NULL, AS_VERB_START, "u", "main"); /* a text */
	assert_string_equal(command.metadata, "metadata_var=x");
	understood("u start ws://h mono 8000 the metadata_var=x", NULL, AS_VERB_START, "u", "main");
	assert_string_equal(command.metadata, "the metadata_var=x");
	refused("u start ws://h mono 8000 metadata_var=a b", NULL, "'b' is one argument too many");
	refused("u start ws://h mono 8000 metadata_var=a,b", NULL,
			"metadata_var= must be followed by the name of a channel");
	refused("u start ws://h mono 8000 metadata_var=${a}", NULL, "metadata_var= must be followed by");
	refused("u start ws://h mono 8000 metadata_vars=a,,b", NULL, "metadata_vars= must be followed by names of channel");
	refused("u start ws://h mono 8000 metadata_vars=a,", NULL, "metadata_vars= must be followed by");
	refused("u start embedded metadata_var=a", NULL, "'metadata_var=a' is neither a track");
}

/* ---- openai_start ------------------------------------------------------------------------------------------------ */

static void test_openai_start(void **state)
{
	(void)state;
	understood("u openai_start", NULL, AS_VERB_OPENAI_START, "u", "main");
	started(AS_DIALECT_OPENAI, "inbound", AS_COMMAND_INBOUND, 0, "");
	assert_string_equal(command.voice, "");
	understood("u ai openai_start voice=marin track=both rate=24000 timeout=10 api_key=sk-1 "
			   "instructions=\"Say \\\"hi\\\".\\nBe nice.\" model=gpt-realtime url=wss://h/v1",
			   NULL, AS_VERB_OPENAI_START, "u", "ai");
	started(AS_DIALECT_OPENAI, "both", AS_COMMAND_MIXED, 24000, "");
	assert_string_equal(command.voice, "marin");
	assert_string_equal(command.api_key, "sk-1");
	assert_string_equal(command.instructions, "Say \"hi\".\nBe nice.");
	assert_string_equal(command.model, "gpt-realtime");
	assert_string_equal(command.url, "wss://h/v1");
	assert_int_equal(command.timeout_s, 10);
	understood("openai_start instructions='don't shout' voice= rate=", OWN, AS_VERB_OPENAI_START, OWN, "main");
	assert_string_equal(command.instructions, "don't shout"); /* and a value left empty is none */
	assert_int_equal(command.rate_hz, 0);
}

static void test_instructions_that_a_variable_has(void **state)
{
	(void)state;
	understood("u openai_start instructions_var=prompt voice=marin", NULL, AS_VERB_OPENAI_START, "u", "main");
	assert_string_equal(command.instructions_var, "prompt");
	assert_string_equal(command.instructions, "");
	understood("u openai_start instructions_var= instructions=x", NULL, AS_VERB_OPENAI_START, "u", "main");
	assert_string_equal(command.instructions, "x");
	refused("u openai_start instructions_var=a instructions=b", NULL, "instructions= and instructions_var= are both");
	refused("u openai_start instructions=b instructions_var=a", NULL, "instructions= and instructions_var= are both");
	refused("u openai_start instructions_var=a,b", NULL, "instructions_var= must be followed by the name of a channel");
	refused("u openai_start instructions_var='a b'", NULL, "instructions_var= must be followed by");
	refused("u openai_start instructions_var=a instructions_var=b", NULL, "instructions_var is there twice");
}

static void test_what_openai_start_refuses(void **state)
{
	(void)state;
	refused("u openai_start vioce=marin", NULL, "'vioce' is not known to openai_start; use voice, track,");
	refused("u openai_start voice=a b", NULL, "argument 2 of openai_start is not key=value");
	refused("u openai_start voice=a voice=b", NULL, "voice is there twice");
	refused("u openai_start track=left", NULL, "track is 'left'; use inbound");
	refused("u openai_start timeout=x", NULL, "'x' is not a timeout");
	refused("u openai_start url=http://h", NULL, "the url must begin with ws:// or wss://");
	refused("u openai_start instructions=\"never closed", NULL, "the quote (\") around the instructions is not closed");
}

static void test_an_api_key_is_never_shown(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"u openai_start api_key= sk-SECRET",    "u openai_start sk-SECRET",
		"u openai_start sk-SECRET=1",           "u openai_start api_key=sk-SECRET rate=1",
		"u openai_start api_key=sk-SECRET\x01", "u openai_start apikey=sk-SECRET",
		"u openai_start api_key=\"sk-SECRET",   "u openai_start api_key=a sk-SECRET",
		"u openai_start api_key='sk SECRET'",   "u openai_start api_key=a api_key=sk-SECRET",
		"u opnai_start api_key=sk-SECRET",      "u api_key=sk-SECRET",
		"u status x api_key=sk-SECRET",         "u start ws://h x API_KEY=sk-SECRET y",
	};
	for (size_t i = 0; i < COUNT(lines); i++) {
		refused(lines[i], NULL, "");
		assert_string_not_equal(error, "");
		assert_null(strstr(error, "SECRET"));
	}
}

int main(void)
{
	as_command_parse("", NULL, &command, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_verb),
		cmocka_unit_test(test_a_stream_by_name),
		cmocka_unit_test(test_the_dialplan_may_leave_the_uuid_out),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_what_is_no_rate),
		cmocka_unit_test(test_directions),
		cmocka_unit_test(test_the_reason_of_a_stop_is_the_rest_of_the_line),
		cmocka_unit_test(test_text_to_send),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_start_embedded),
		cmocka_unit_test(test_start_with_a_mix_type),
		cmocka_unit_test(test_start_with_a_track),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_metadata_that_a_variable_has),
		cmocka_unit_test(test_openai_start),
		cmocka_unit_test(test_instructions_that_a_variable_has),
		cmocka_unit_test(test_what_openai_start_refuses),
		cmocka_unit_test(test_an_api_key_is_never_shown),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	as_command_free(&command);
	return failed;
}
