/*
 * test_command_random.c - the command parser against lines nobody thought of.
 *
 * Each line lies in memory of exactly its size, so that the sanitizer sees a read beyond it. Whatever the line, the answer
 * is a command that makes sense or a reason; and a command written down at random comes back as it was.
 */
#define _GNU_SOURCE
#include "support.h"

#include "command.h"

#define LINES 100000
#define LINE_MAX 2048
#define UNTOUCHED 0x5A

static uint32_t seed = 20240607;

static const char *const verbs[] = {"start", "stop", "pause", "resume", "status"};
static const char *const blanks[] = {" ", "\t", "  ", "\r\n", " \t \n"};
static const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};

static size_t below(size_t bound)
{
	return random_upto(&seed, bound) - 1;
}

/* Any bytes but NUL, and now and then one that means something to printf or to a terminal. */
static size_t random_bytes(char *out, size_t most)
{
	static const char special[] = "%%%sn\\\"'{}$\x1b\xc3\xa9\xff \t";
	size_t length = below(most);
	for (size_t i = 0; i < length; i++) {
		out[i] = below(3) ? (char)random_upto(&seed, 255) : special[below(sizeof(special) - 1)];
	}
	return length;
}

static size_t random_word(char *out)
{
	static const char *const words[] = {
		"start", "stop", "pause", "resume", "status", "embedded", "capture", "inject", "main", "8000", "16k", "44.1k", "8001",
		"0x1f40", "nan", "1e300k", "ws://127.0.0.1:1/%s?x=%n", "START", "-", "5c7a4b0e-8d1f-4a53-9f2e-0123456789ab", "own", "\xc3\xa9"};
	switch (below(8)) {
	case 0:
		return random_bytes(out, 40);
	case 1: { /* about as long as a name or a text may be */
		size_t length = (below(2) ? AS_NAME_MAX : AS_TEXT_MAX) - 3 + below(6);
		memset(out, "nvs"[below(3)], length);
		return length;
	}
	default: {
		const char *word = words[below(COUNT(words))];
		memcpy(out, word, strlen(word));
		return strlen(word);
	}
	}
}

static size_t random_words(char *out)
{
	size_t length = 0;
	for (size_t words = below(7); words > 0 && length < LINE_MAX - 400; words--) {
		length += random_word(out + length);
		const char *blank = blanks[below(COUNT(blanks))];
		memcpy(out + length, blank, strlen(blank));
		length += strlen(blank);
	}
	return length;
}

static int is_blank(char c)
{
	return c != '\0' && strchr(" \t\r\n", c) != NULL;
}

static void check_name(const char *name)
{
	size_t length = strnlen(name, AS_NAME_MAX);
	assert_in_range(length, 1, AS_NAME_MAX - 1);
	for (size_t i = 0; i < length; i++) {
		assert_false(is_blank(name[i]));
	}
}

static void check_command(const as_command *command)
{
	int directed = command->verb == AS_VERB_PAUSE || command->verb == AS_VERB_RESUME, known = command->rate_hz == 0;
	assert_in_range(command->verb, AS_VERB_START, AS_VERB_STATUS);
	check_name(command->uuid);
	check_name(command->stream_id);
	if (!command->has_stream_id) {
		assert_string_equal(command->stream_id, AS_DEFAULT_STREAM);
	}
	for (size_t i = 0; i < COUNT(rates); i++) {
		known |= command->rate_hz == rates[i];
	}
	assert_true(known && (command->rate_hz == 0 || command->verb == AS_VERB_START));
	assert_int_equal(directed, command->directions != 0);
	assert_int_equal(command->directions & ~(AS_CAPTURE | AS_INJECT), 0);
	size_t length = strnlen(command->text, AS_TEXT_MAX);
	assert_true(length < AS_TEXT_MAX && (length == 0 || command->verb == AS_VERB_STOP));
	assert_false(length > 0 && (is_blank(command->text[0]) || is_blank(command->text[length - 1])));
}

/* Parses one line as the API or the dialplan would, and checks whatever came out. */
static void try(const char *text, size_t length)
{
	as_command command;
	char error[300], *line = malloc(length + 1);
	size_t room = below(4) ? 256 : below(40);
	memcpy(line, text, length);
	line[length] = '\0';
	memset(error, UNTOUCHED, sizeof(error));
	memset(&command, UNTOUCHED, sizeof(command));
	int result = as_command_parse(line, below(2) ? "own" : NULL, &command, error, room);
	if (result == 0) {
		check_command(&command);
	} else {
		assert_int_equal(result, AS_EINVAL);
		assert_true(room == 0 || strnlen(error, room) < room);
		assert_true(room < 2 || error[0] != '\0');
	}
	for (size_t i = result ? room : 0; i < sizeof(error); i++) {
		assert_int_equal(error[i], UNTOUCHED);
	}
	free(line);
}

static void test_random_words(void **state)
{
	(void)state;
	static char line[LINE_MAX];
	for (int i = 0; i < LINES; i++) {
		try(line, random_words(line));
	}
}

static void test_random_bytes(void **state)
{
	(void)state;
	static char line[LINE_MAX];
	for (int i = 0; i < LINES; i++) {
		try(line, random_bytes(line, 200));
	}
}

/* A name that cannot be taken for a verb. */
static void random_name(char *out)
{
	size_t length = random_upto(&seed, AS_NAME_MAX - 1);
	for (size_t i = 0; i < length; i++) {
		out[i] = "ABCXYZ0123456789-_.:/%"[below(22)];
	}
	out[length] = '\0';
}

static size_t write_arguments(const as_command *command, char *out, size_t bytes)
{
	switch (command->verb) {
	case AS_VERB_START:
		return (size_t)snprintf(out, bytes, command->rate_hz ? "embedded %d" : "embedded", command->rate_hz);
	case AS_VERB_STOP:
		return (size_t)snprintf(out, bytes, "%s", command->text);
	case AS_VERB_STATUS:
		return 0;
	default:
		return (size_t)snprintf(out, bytes, "%s",
								command->directions == AS_CAPTURE ? "capture" : command->directions == AS_INJECT ? "inject" : "");
	}
}

static as_command random_command(void)
{
	as_command command = {.verb = (as_verb)random_upto(&seed, AS_VERB_STATUS), .has_stream_id = (int)below(2)};
	random_name(command.uuid);
	strcpy(command.stream_id, AS_DEFAULT_STREAM);
	if (command.has_stream_id) {
		random_name(command.stream_id);
	}
	if (command.verb == AS_VERB_START) {
		command.rate_hz = below(2) ? rates[below(COUNT(rates))] : 0;
	} else if (command.verb == AS_VERB_STOP && below(2)) {
		random_name(command.text);
	} else if (command.verb == AS_VERB_PAUSE || command.verb == AS_VERB_RESUME) {
		command.directions = (int)random_upto(&seed, AS_CAPTURE | AS_INJECT);
	}
	return command;
}

static void test_what_is_written_down_comes_back(void **state)
{
	(void)state;
	for (int i = 0; i < LINES; i++) {
		as_command wanted = random_command(), command;
		char line[LINE_MAX], error[64] = "";
		const char *blank = blanks[below(COUNT(blanks))], *verb = verbs[wanted.verb - AS_VERB_START];
		size_t length = (size_t)snprintf(line, sizeof(line), "%s%s%s%s%s%s", wanted.uuid, blank,
										 wanted.has_stream_id ? wanted.stream_id : "", blank, verb, blank);
		write_arguments(&wanted, line + length, sizeof(line) - length);
		assert_int_equal(as_command_parse(line, NULL, &command, error, sizeof(error)), 0);
		assert_string_equal(error, "");
		assert_int_equal(command.verb, wanted.verb);
		assert_string_equal(command.uuid, wanted.uuid);
		assert_string_equal(command.stream_id, wanted.stream_id);
		assert_int_equal(command.has_stream_id, wanted.has_stream_id);
		assert_int_equal(command.rate_hz, wanted.rate_hz);
		assert_int_equal(command.directions, wanted.directions);
		assert_string_equal(command.text, wanted.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_words),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_what_is_written_down_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
