/* What uuid_audio_stream makes of a line as such: names, lengths, usage, blanks. */
#define _GNU_SOURCE
#include "command_test.h"

/* ---- Names and lengths ------------------------------------------------------------------------------------------- */

/* An api_on_answer set on one leg runs on the other: ${uuid} in it is not the name of a stream there. */
static void test_a_uuid_alone_is_a_call(void **state)
{
	(void)state;
	static const char other[] = "6E2F9C3a-0b1d-4e5f-8a7b-123456789abc";
	understood("6E2F9C3a-0b1d-4e5f-8a7b-123456789abc status", OWN, AS_VERB_STATUS, other, "main");
	understood("6E2F9C3a-0b1d-4e5f-8a7b-123456789abc ai status", OWN, AS_VERB_STATUS, other, "ai");
	understood("6E2F9C3a-0b1d-4e5f-8a7b-123456789abcd status", OWN, AS_VERB_STATUS, OWN,
			   "6E2F9C3a-0b1d-4e5f-8a7b-123456789abcd");
	understood("6E2F9C3a-0b1d-4e5f-8a7b-123456789ab status", OWN, AS_VERB_STATUS, OWN,
			   "6E2F9C3a-0b1d-4e5f-8a7b-123456789ab");
}

static void test_a_verb_names_no_stream(void **state)
{
	(void)state;
	refused("u \"stop\" stop", NULL, "'stop' is a command and cannot name a call or a stream");
	refused("'start' s stop", NULL, "'start' is a command and cannot name a call or a stream");
	refused("u start start embedded", NULL, "'start' is a command and cannot name a stream");
	refused("u stop start ws://h", NULL, "'stop' is a command and cannot name a stream");
	refused("u graceful-shutdown openai_start voice=x", NULL, "is a command and cannot name a stream");
	refused("u status status", NULL, "'status' is a command and cannot name a stream");
	refused("pause stop", OWN, "'pause' is a command and cannot name a stream");
}

static void test_names_have_no_blanks_or_control_characters(void **state)
{
	(void)state;
	refused("u a\x01 status", NULL, "must not have blanks or control characters");
	refused("u\x7f status", NULL, "must not have blanks or control characters");
	refused("u 'a b' status", NULL, "must not have blanks or control characters");
	refused("u '' status", NULL, "a uuid or stream id is empty");
	understood("u caf\xc3\xa9 status", NULL, AS_VERB_STATUS, "u", "caf\xc3\xa9");
}

/* A line whose argument is n bytes long. */
static char *long_line(const char *head, size_t n, const char *tail)
{
	char *line = malloc(strlen(head) + n + strlen(tail) + 1);
	strcpy(line, head);
	memset(line + strlen(head), 'x', n);
	strcpy(line + strlen(head) + n, tail);
	return line;
}

static void test_how_long_texts_may_be(void **state)
{
	(void)state;
	static const struct {
		const char *head, *tail;
		size_t most;
	} limits[] = {{"u stop ", "", AS_TEXT_MAX},
				  {"u send_text '", "'", AS_TEXT_MAX},
				  {"u start ws://h mono 8000 ", "", AS_TEXT_MAX},
				  {"u start ws://h both 8000 0 1 ", "", AS_TEXT_MAX},
				  {"u openai_start instructions=\"", "\"", AS_TEXT_MAX},
				  {"u openai_start voice=", "", AS_WORD_MAX},
				  {"u start ws://", " mono 8000", AS_URL_MAX - 5}};
	for (size_t i = 0; i < COUNT(limits); i++) {
		char *fits = long_line(limits[i].head, limits[i].most, limits[i].tail);
		char *too_long = long_line(limits[i].head, limits[i].most + 1, limits[i].tail);
		assert_int_equal(parse_as(fits, NULL), 0);
		refused(too_long, NULL, "is longer than");
		free(fits);
		free(too_long);
	}
	char *line = long_line("u stop ", 1 << 20, "");
	refused(line, NULL, "the command is longer than 262144 bytes");
	free(line);
}

static void test_what_it_holds_is_its_own(void **state)
{
	(void)state;
	char line[] = "u start ws://h mono 8000 metadata";
	assert_int_equal(parse_as(line, NULL), 0);
	memset(line, 'x', strlen(line));
	assert_string_equal(command.url, "ws://h");
	assert_string_equal(command.metadata, "metadata");
	as_command_free(&command);
	assert_string_equal(command.url, "");
	as_command_free(&command);
}

/* ---- Usage ------------------------------------------------------------------------------------------------------- */

static void test_usage_follows_the_verb(void **state)
{
	(void)state;
	refused("u start tcp", NULL, "");
	assert_string_equal(as_command_usage(command.verb), AS_SYNTAX_START);
	refused("u openai_start x", NULL, "");
	assert_string_equal(as_command_usage(command.verb), AS_SYNTAX_OPENAI);
	refused("u jump", NULL, "");
	assert_string_equal(as_command_usage(command.verb), AS_COMMAND_SYNTAX);
	assert_string_equal(as_command_usage((as_verb)99), AS_COMMAND_SYNTAX);
	for (as_verb verb = AS_VERB_START; verb <= AS_VERB_OPENAI_START; verb++) {
		assert_non_null(strstr(AS_COMMAND_SYNTAX, as_command_usage(verb)));
	}
}

/* Whatever completion offers is a command once the missing part of it is there. */
static void test_completions_are_understood(void **state)
{
	(void)state;
	const char *const *lines = as_command_completions();
	char line[128];
	unsigned verbs = 0;
	for (; *lines; lines++) {
		const char *missing = strstr(*lines, "//") ? "host" : strstr(*lines, "text") ? " x" : "";
		snprintf(line, sizeof(line), "u %s%s", *lines, missing);
		assert_int_equal(parse_as(line, NULL), 0);
		verbs |= 1u << command.verb;
	}
	assert_int_equal(verbs, (1u << (AS_VERB_OPENAI_START + 1)) - (1u << AS_VERB_START));
}

/* ---- The line ---------------------------------------------------------------------------------------------------- */

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
	refused("u", NULL, "'u' is not followed by start, stop, pause, resume, status, send_text");
	refused("u s", NULL, "'s' is not followed by");
	refused("u s t", NULL, "'t' is not a command");
	refused("u s t start", NULL, "'t' is not a command");
	refused("u START embedded", NULL, "is not a command");
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
	as_command_parse("", NULL, &command, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_uuid_alone_is_a_call),
		cmocka_unit_test(test_a_verb_names_no_stream),
		cmocka_unit_test(test_names_have_no_blanks_or_control_characters),
		cmocka_unit_test(test_how_long_texts_may_be),
		cmocka_unit_test(test_what_it_holds_is_its_own),
		cmocka_unit_test(test_usage_follows_the_verb),
		cmocka_unit_test(test_completions_are_understood),
		cmocka_unit_test(test_blanks_do_not_matter),
		cmocka_unit_test(test_what_is_refused_and_why),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_a_small_buffer_for_the_reason),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	as_command_free(&command);
	return failed;
}
