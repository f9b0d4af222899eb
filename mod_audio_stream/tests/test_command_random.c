/*
 * test_command_random.c - the command parser against lines nobody thought of.
 *
 * Each line lies in memory of exactly its size, so that the sanitizer sees a read beyond it. Whatever the line, the
 * answer is a command that makes sense or a reason; and a command written down at random comes back as it was.
 */
#define _GNU_SOURCE
#include "support.h"

#include "command_check.h"

#define LINES 100000
#define LINE_MAX 4096
#define TEXT_ROOM 300
#define UNTOUCHED 0x5A

static uint32_t seed = 20240607;

static const char *const blanks[] = {" ", "\t", "  ", "\r\n", " \t \n"};
static const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};
static const char *const tracks[] = {"inbound", "outbound", "both", "mono", "mixed", "stereo"};

static size_t below(size_t bound)
{
	return random_upto(&seed, bound) - 1;
}

/* Any bytes but NUL, and now and then one that means something to printf, to a terminal or to the parser. */
static size_t random_bytes(char *out, size_t most)
{
	static const char special[] = "%%%sn\\\\\"\"''={}$\x1b\xc3\xa9\xff \t";
	size_t length = below(most);
	for (size_t i = 0; i < length; i++) {
		out[i] = below(3) ? (char)random_upto(&seed, 255) : special[below(sizeof(special) - 1)];
	}
	return length;
}

static size_t random_word(char *out)
{
	static const char *const words[] = {"start",
										"stop",
										"pause",
										"resume",
										"status",
										"send_text",
										"graceful-shutdown",
										"openai_start",
										"start",
										"embedded",
										"capture",
										"inject",
										"main",
										"8000",
										"16k",
										"44.1k",
										"8001",
										"0x1f40",
										"nan",
										"1e300k",
										"0",
										"1",
										"30",
										"mono",
										"mixed",
										"stereo",
										"inbound",
										"outbound",
										"both",
										"ws://127.0.0.1:1/%s?x=%n",
										"wss://h",
										"'{\"a\":1}'",
										"voice=marin",
										"instructions=\"be %n nice\"",
										"api_key=sk-1",
										"rate=8k",
										"track=both",
										"timeout=5",
										"instructions_var=prompt",
										"metadata_var=sip_h_X-Data",
										"metadata_vars=caller_id_name,caller_id_number",
										"metadata_vars=",
										"metadata_vars=,a",
										"instructions_var=${x}",
										"url=ws://h",
										"START",
										"-",
										"5c7a4b0e-8d1f-4a53-9f2e-0123456789ab",
										"own",
										"\xc3\xa9",
										"'",
										"\"",
										"''"};
	switch (below(10)) {
	case 0:
		return random_bytes(out, 40);
	case 1: { /* about as long as a name may be */
		size_t length = AS_NAME_MAX - 3 + below(6);
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
	for (size_t words = below(9); words > 0 && length < LINE_MAX - 400; words--) {
		length += random_word(out + length);
		const char *blank = blanks[below(COUNT(blanks))];
		memcpy(out + length, blank, strlen(blank));
		length += strlen(blank);
	}
	return length;
}

/* Parses one line as the API or the dialplan would, and checks whatever came out. Returns whether it was understood. */
static int try(const char *text, size_t length)
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
		const char *wrong = check_command(&command);
		assert_string_equal(wrong ? wrong : "", "");
	} else {
		assert_int_equal(result, AS_EINVAL);
		assert_true(room == 0 || strnlen(error, room) < room);
		assert_true(room < 2 || error[0] != '\0');
	}
	for (size_t i = result ? room : 0; i < sizeof(error); i++) {
		assert_int_equal(error[i], UNTOUCHED);
	}
	as_command_free(&command);
	free(line);
	return result == 0;
}

static void test_random_words(void **state)
{
	(void)state;
	static char line[LINE_MAX];
	int understood = 0;
	for (int i = 0; i < LINES; i++) {
		understood += try(line, random_words(line));
	}
	assert_in_range(understood, LINES / 100, LINES - LINES / 100); /* or it has tried only one side */
}

static void test_random_bytes(void **state)
{
	(void)state;
	static char line[LINE_MAX];
	for (int i = 0; i < LINES; i++) {
		try(line, random_bytes(line, 200));
	}
}

/* ---- What is written down comes back ----------------------------------------------------------------------------- */

/* A name that cannot be taken for a verb, a track or a rate. */
static void random_name(char *out, size_t most)
{
	size_t length = random_upto(&seed, most);
	for (size_t i = 0; i < length; i++) {
		out[i] = "ABCXYZ0123456789-_.:/%"[below(i ? 22 : 6)];
	}
	out[length] = '\0';
}

/* Any text but one with NUL in it. */
static const char *random_text(char *out)
{
	size_t length = below(3) ? random_bytes(out, TEXT_ROOM / 2) : 0;
	out[length] = '\0';
	return out;
}

/* Writes a text so that it can be read back whatever is in it: in double quotes. */
static size_t write_quoted(char *out, const char *text)
{
	char *at = out;
	*at++ = '"';
	for (; *text; text++) {
		if (*text == '"' || *text == '\\') {
			*at++ = '\\';
		}
		*at++ = *text;
	}
	*at++ = '"';
	*at = '\0';
	return (size_t)(at - out);
}

static char texts[4][TEXT_ROOM], url[160];

/* Names of channel variables. */
static const char *random_variables(char *out, size_t most)
{
	char *at = out;
	for (size_t count = random_upto(&seed, most); count > 0; count--) {
		for (size_t length = random_upto(&seed, 30); length > 0; length--) {
			*at++ = "abzABZ019_-."[below(12)];
		}
		*at++ = count > 1 ? ',' : '\0';
	}
	return out;
}

static void random_start(as_command *command)
{
	snprintf(url, sizeof(url), "ws%s://", below(2) ? "s" : "");
	strcpy(url + strlen(url), "H");
	random_name(url + strlen(url), 100);
	command->dialect = (int[]){0, AS_DIALECT_BINARY, AS_DIALECT_JSON}[below(3)];
	size_t any = below(6); /* the first three go with one dialect, the others with the other */
	command->track = tracks[command->dialect == AS_DIALECT_JSON ? any % 3 : command->dialect ? 3 + any % 3 : any];
	command->rate_hz = below(2) || command->dialect == AS_DIALECT_JSON ? rates[below(COUNT(rates))] : 0;
	command->bidirectional = command->dialect == AS_DIALECT_JSON ? (int)below(2) : 1;
	command->timeout_s = command->dialect == AS_DIALECT_JSON ? (int)below(3601) : 0;
	if (command->dialect == AS_DIALECT_JSON && !command->timeout_s) {
		command->timeout_s = -1;
	}
	command->url = command->dialect ? url : "";
	size_t how = command->dialect ? below(4) : 4; /* the metadata, a variable that has it, several; none */
	command->metadata = how < 2 ? random_text(texts[0]) : "";
	command->metadata_var = how == 2 ? random_variables(texts[1], 1) : "";
	command->metadata_vars = how == 3 ? random_variables(texts[1], 4) : "";
}

static void random_openai(as_command *command)
{
	command->dialect = AS_DIALECT_OPENAI;
	command->track = tracks[below(COUNT(tracks))];
	command->rate_hz = below(2) ? rates[below(COUNT(rates))] : 0;
	command->timeout_s = (int)below(3601);
	command->instructions = below(2) ? random_text(texts[0]) : "";
	command->instructions_var = *command->instructions ? "" : random_variables(texts[3], 1);
	command->voice = random_text(texts[1]);
	random_name(texts[2], 100);
	command->api_key = texts[2];
}

static as_command random_command(void)
{
	as_command command = {.verb = (as_verb)random_upto(&seed, AS_VERB_OPENAI_START),
						  .has_stream_id = (int)below(2),
						  .track = "inbound",
						  .url = "",
						  .metadata = "",
						  .metadata_var = "",
						  .metadata_vars = "",
						  .instructions_var = "",
						  .text = "",
						  .voice = "",
						  .instructions = "",
						  .api_key = ""};
	random_name(command.uuid, AS_NAME_MAX - 1);
	strcpy(command.stream_id, AS_DEFAULT_STREAM);
	if (command.has_stream_id) {
		random_name(command.stream_id, AS_NAME_MAX - 1);
	}
	switch (command.verb) {
	case AS_VERB_START:
		random_start(&command);
		break;
	case AS_VERB_OPENAI_START:
		random_openai(&command);
		break;
	case AS_VERB_SEND_TEXT:
	case AS_VERB_STOP:
	case AS_VERB_GRACEFUL:
		command.text = random_text(texts[0]);
		command.text = *command.text || command.verb != AS_VERB_SEND_TEXT ? command.text : "x";
		break;
	case AS_VERB_STATUS:
		break;
	default:
		command.directions = (int)random_upto(&seed, AS_CAPTURE | AS_INJECT);
		command.text = command.has_stream_id ? random_text(texts[0]) : "";
	}
	return command;
}

static void write_start(const as_command *command, char *out)
{
	char rate[16] = "";
	if (command->rate_hz) {
		snprintf(rate, sizeof(rate), "%d", command->rate_hz);
	}
	switch (command->dialect) {
	case AS_DIALECT_BINARY:
		out += sprintf(out, "%s %s %s ", url, command->track, rate);
		break;
	case AS_DIALECT_JSON:
		out += sprintf(out, "%s %s %s %d %d ", url, command->track, rate,
					   command->timeout_s < 0 ? 0 : command->timeout_s, command->bidirectional);
		break;
	default:
		sprintf(out, below(2) ? "embedded %s %s" : "embedded %2$s %1$s", command->track, rate);
		return;
	}
	if (*command->metadata_var || *command->metadata_vars) {
		out += sprintf(out, *command->metadata_var ? "metadata_var=" : "metadata_vars=");
		write_quoted(out, *command->metadata_var ? command->metadata_var : command->metadata_vars);
	} else {
		write_quoted(out, command->metadata);
	}
}

static void write_arguments(const as_command *command, char *out)
{
	switch (command->verb) {
	case AS_VERB_START:
		write_start(command, out);
		break;
	case AS_VERB_OPENAI_START:
		out += sprintf(out, "track=%s timeout=%d api_key=%s instructions=", command->track, command->timeout_s,
					   command->api_key);
		out += write_quoted(out, command->instructions);
		out += sprintf(out, " instructions_var=%s", command->instructions_var);
		out += sprintf(out, " voice=");
		out += write_quoted(out, command->voice);
		sprintf(out, command->rate_hz ? " rate=%d" : " rate=", command->rate_hz);
		break;
	case AS_VERB_PAUSE:
	case AS_VERB_RESUME:
		out += sprintf(out, "%s ",
					   command->directions == AS_CAPTURE  ? "capture"
					   : command->directions == AS_INJECT ? "inject"
														  : "");
		if (*command->text) {
			write_quoted(out, command->text);
		}
		break;
	case AS_VERB_STATUS:
		break;
	default:
		write_quoted(out, command->text);
	}
}

static void expect_same(const as_command *command, const as_command *wanted)
{
	assert_int_equal(command->verb, wanted->verb);
	assert_string_equal(command->uuid, wanted->uuid);
	assert_string_equal(command->stream_id, wanted->stream_id);
	assert_int_equal(command->has_stream_id, wanted->has_stream_id);
	assert_int_equal(command->dialect, wanted->dialect);
	assert_int_equal(command->rate_hz, wanted->rate_hz);
	assert_int_equal(command->timeout_s, wanted->timeout_s);
	assert_int_equal(command->bidirectional, wanted->bidirectional || wanted->dialect == AS_DIALECT_OPENAI);
	assert_int_equal(command->directions, wanted->directions);
	assert_string_equal(command->track, wanted->track);
	assert_string_equal(command->url, wanted->url);
	assert_string_equal(command->metadata, wanted->metadata);
	assert_string_equal(command->metadata_var, wanted->metadata_var);
	assert_string_equal(command->metadata_vars, wanted->metadata_vars);
	assert_string_equal(command->instructions_var, wanted->instructions_var);
	assert_string_equal(command->text, wanted->text);
	assert_string_equal(command->voice, wanted->voice);
	assert_string_equal(command->instructions, wanted->instructions);
	assert_string_equal(command->api_key, wanted->api_key);
}

static void test_what_is_written_down_comes_back(void **state)
{
	(void)state;
	static const char *const verbs[] = {
		"start", "stop", "pause", "resume", "status", "send_text", "graceful-shutdown", "openai_start"};
	for (int i = 0; i < LINES; i++) {
		as_command wanted = random_command(), command;
		char line[LINE_MAX], error[512] = "";
		const char *blank = blanks[below(COUNT(blanks))], *verb = verbs[wanted.verb - AS_VERB_START];
		size_t length = (size_t)snprintf(line, sizeof(line), "%s%s%s%s%s%s", wanted.uuid, blank,
										 wanted.has_stream_id ? wanted.stream_id : "", blank, verb, blank);
		write_arguments(&wanted, line + length);
		int failed = as_command_parse(line, NULL, &command, error, sizeof(error));
		assert_string_equal(error, "");
		assert_int_equal(failed, 0);
		expect_same(&command, &wanted);
		as_command_free(&command);
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
