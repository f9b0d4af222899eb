/* What `uuid_audio_stream` understands, and what it says about the rest. Random lines are in test_command_random.c. */
#define _GNU_SOURCE
#include "support.h"

#include "command.h"

#define OWN "own-uuid"

static as_command command;
static char error[512];

static int parse_as(const char *line, const char *own_uuid)
{
	memset(&command, 0xAA, sizeof(command)); /* whatever was there before does not count */
	error[0] = '\0';
	return as_command_parse(line, own_uuid, &command, error, sizeof(error));
}

static void understood(const char *line, const char *own_uuid, as_verb verb, const char *uuid, const char *stream_id)
{
	assert_int_equal(parse_as(line, own_uuid), 0);
	assert_string_equal(error, "");
	assert_int_equal(command.verb, verb);
	assert_string_equal(command.uuid, uuid);
	assert_string_equal(command.stream_id, stream_id);
	assert_int_equal(command.has_stream_id, strcmp(stream_id, AS_DEFAULT_STREAM) != 0);
}

static void refused(const char *line, const char *own_uuid, const char *reason)
{
	assert_int_equal(parse_as(line, own_uuid), AS_EINVAL);
	assert_non_null(strstr(error, reason));
}

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
	} rates[] = {{"8000", 8000},   {"16000", 16000}, {"24000", 24000}, {"32000", 32000}, {"44100", 44100}, {"48000", 48000},
				 {"8k", 8000},     {"16K", 16000},   {"24k", 24000},   {"32k", 32000},   {"44.1k", 44100}, {"48k", 48000}};
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
	static const char *const words[] = {"0",   "8001",  "-8000", "8000.5", "8kHz", "8kk",  "k",       "fast",  "nan",   "inf",
										"-inf", "1e999", "8e3",   "0x1f40", "+8k",  "8 k",  "99999999999999999999k", ".", "8000.0.0"};
	char line[96];
	for (size_t i = 0; i < COUNT(words); i++) {
		snprintf(line, sizeof(line), "u start embedded %s", words[i]);
		assert_int_equal(parse_as(line, NULL), AS_EINVAL);
		assert_string_not_equal(error, "");
	}
	refused("u start embedded 8001", NULL, "'8001' is not a sample rate; use 8000");
}

static void test_directions(void **state)
{
	(void)state;
	understood("u pause capture", NULL, AS_VERB_PAUSE, "u", "main");
	assert_int_equal(command.directions, AS_CAPTURE);
	understood("u resume inject", NULL, AS_VERB_RESUME, "u", "main");
	assert_int_equal(command.directions, AS_INJECT);
	refused("u pause both", NULL, "'both' is not a direction");
	refused("u pause capture inject", NULL, "'inject' is one argument too many");
}

static void test_the_reason_of_a_stop_is_the_rest_of_the_line(void **state)
{
	(void)state;
	understood("u stop  the caller   has  left \t\n", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "the caller   has  left");
	understood("u stop stop", NULL, AS_VERB_STOP, "u", "main");
	assert_string_equal(command.text, "stop");
	char line[2000] = "u stop ";
	memset(line + 7, 'x', sizeof(line) - 8);
	line[sizeof(line) - 1] = '\0';
	understood(line, NULL, AS_VERB_STOP, "u", "main");
	assert_int_equal(strlen(command.text), AS_TEXT_MAX - 1);
}

static void test_blanks_do_not_matter(void **state)
{
	(void)state;
	understood("  u\ts \r\n start   embedded\t16000  \n", NULL, AS_VERB_START, "u", "s");
	assert_int_equal(command.rate_hz, 16000);
	understood("\tstatus\n", OWN, AS_VERB_STATUS, OWN, "main");
}

static void test_what_is_refused_and_why(void **state)
{
	(void)state;
	refused("", NULL, "no arguments");
	refused("", OWN, "no arguments");
	refused(NULL, NULL, "no arguments");
	refused("  \t\n ", NULL, "no arguments");
	refused("u", NULL, "'u' is not followed by start, stop, pause, resume or status");
	refused("u s", NULL, "'s' is not followed by");
	refused("u s t", NULL, "'t' is not a command");
	refused("u s t start", NULL, "'t' is not a command");
	refused("u START embedded", NULL, "is not a command");
	refused("u start", NULL, "start needs to know what takes the audio");
	refused("u start ws://host", NULL, "'ws://host' cannot take the audio");
	refused("u start embedded 8000 mono", NULL, "'mono' is one argument too many");
	refused("u status please", NULL, "'please' is one argument too many");
}

/* A name of AS_NAME_MAX - 1 bytes fits, one more does not. */
static void test_long_names(void **state)
{
	(void)state;
	char name[AS_NAME_MAX + 1], line[3 * AS_NAME_MAX];
	memset(name, 'n', sizeof(name));
	name[AS_NAME_MAX - 1] = '\0';
	snprintf(line, sizeof(line), "%s %s status", name, name);
	understood(line, NULL, AS_VERB_STATUS, name, name);
	name[AS_NAME_MAX - 1] = 'n';
	name[AS_NAME_MAX] = '\0';
	snprintf(line, sizeof(line), "%s status", name);
	refused(line, NULL, "is longer than 127 characters");
	snprintf(line, sizeof(line), "u %s status", name);
	refused(line, NULL, "is longer than 127 characters");
}

static void test_a_small_buffer_for_the_reason(void **state)
{
	(void)state;
	char small[8] = "1234567";
	assert_int_equal(as_command_parse("u jump", NULL, &command, small, 4), AS_EINVAL);
	assert_int_equal(strlen(small), 3);
	assert_int_equal(small[4], '5');
	assert_int_equal(as_command_parse("u jump", NULL, &command, NULL, 0), AS_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_verb),
		cmocka_unit_test(test_a_stream_by_name),
		cmocka_unit_test(test_the_dialplan_may_leave_the_uuid_out),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_what_is_no_rate),
		cmocka_unit_test(test_directions),
		cmocka_unit_test(test_the_reason_of_a_stop_is_the_rest_of_the_line),
		cmocka_unit_test(test_blanks_do_not_matter),
		cmocka_unit_test(test_what_is_refused_and_why),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_a_small_buffer_for_the_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
