/*
 * command.c - reads a command line from left to right, in a copy.
 */
#define _GNU_SOURCE
#include "command_words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES (4 * AS_TEXT_MAX)
#define TIMEOUT_MAX_S 3600
#define SHOWN 64 /* bytes of a wrong argument in the reason */
#define VERBS "start, stop, pause, resume, status, send_text, graceful-shutdown or openai_start"
#define TRACKS "inbound, outbound, both, mono, mixed or stereo"
#define RATES "8000, 16000, 24000, 32000, 44100 or 48000"
#define VARIABLE_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
#define METADATA_VAR "metadata_var="
#define METADATA_VARS "metadata_vars="
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Arguments --------------------------------------------------------------------------------------------------- */

static int take_rate(command_parser *p, const char *word)
{
	static const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};
	char *end;
	double value = strtod(word, &end);
	int plain = end > word && end == word + strspn(word, "0123456789."); /* no sign, exponent, "0x", "inf" or "nan" */
	if (*end == 'k' || *end == 'K') {
		value *= 1000;
		end++;
	}
	for (size_t i = 0; plain && !*end && i < COUNT(rates); i++) {
		if (value == rates[i]) {
			p->out->rate_hz = rates[i];
			return 0;
		}
	}
	return command_fail(p, "'%.*s' is not a sample rate; use " RATES, SHOWN, word);
}

static int take_timeout(command_parser *p, const char *word)
{
	size_t digits = strspn(word, "0123456789");
	long seconds = digits > 0 && digits < 6 && !word[digits] ? strtol(word, NULL, 10) : -1;
	if (seconds < 0 || seconds > TIMEOUT_MAX_S) {
		return command_fail(p, "'%.*s' is not a timeout; use whole seconds, 0 to %d", SHOWN, word, TIMEOUT_MAX_S);
	}
	p->out->timeout_s = (int)seconds;
	return 0;
}

static as_command_track track_of(const char *word)
{
	static const struct {
		const char *name;
		as_command_track tracks;
	} tracks[] = {{"inbound", AS_COMMAND_INBOUND}, {"outbound", AS_COMMAND_OUTBOUND}, {"both", AS_COMMAND_MIXED},
				  {"mono", AS_COMMAND_INBOUND},    {"mixed", AS_COMMAND_MIXED},       {"stereo", AS_COMMAND_STEREO}};
	for (size_t i = 0; i < COUNT(tracks); i++) {
		if (!strcmp(word, tracks[i].name)) {
			return tracks[i].tracks;
		}
	}
	return 0;
}

/* 1 when the word names a track. */
static int take_track(command_parser *p, const char *word)
{
	as_command_track tracks = track_of(word);
	if (tracks) {
		p->out->track = word;
		p->out->tracks = tracks;
	}
	return tracks != 0;
}

static int take_url(command_parser *p, const char *word, const char *what)
{
	size_t scheme = !strncmp(word, "ws://", 5) ? 5 : !strncmp(word, "wss://", 6) ? 6 : 0;
	if (!scheme) {
		return command_fail(p, "the %s must begin with ws:// or wss://", what);
	}
	if (!word[scheme] || strchr("/?#:", word[scheme])) {
		return command_fail(p, "the %s names no host", what);
	}
	if (command_has_blank_or_control(word)) {
		return command_fail(p, "the %s has a blank or a control character in it", what);
	}
	p->out->url = word;
	return 0;
}

/* Takes the name of a channel variable; its value is looked up when the command runs, so that nothing in it is read as part
 * of the line. list: names with commas between them. */
static int take_variable(command_parser *p, const char **out, const char *key, const char *name, int list)
{
	for (const char *at = name; *name; at++) {
		size_t length = strspn(at, VARIABLE_CHARACTERS);
		at += length;
		if (!length || (*at && (!list || *at != ','))) {
			return command_fail(p, "%s must be followed by %s; letters, digits, _, - and . may stand in a name", key,
								list ? "names of channel variables with commas between them"
									 : "the name of a channel variable");
		}
		if (!*at) {
			break;
		}
	}
	*out = name;
	return 0;
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

/* [track] [rate], in any order. */
static int parse_embedded(command_parser *p)
{
	char *word;
	int found, has_track = 0;
	p->out->bidirectional = 1;
	while ((found = command_next_word(p, &word, AS_WORD_MAX, "track or rate")) > 0) {
		if (!has_track && take_track(p, word)) {
			has_track = 1;
		} else if (has_track && p->out->rate_hz) {
			return command_fail(p, "'%.*s' is one argument too many", SHOWN, word);
		} else if (p->out->rate_hz || !isdigit((unsigned char)*word)) {
			return command_fail(p, "'%.*s' is neither a track (" TRACKS ") nor a sample rate (" RATES ")", SHOWN, word);
		} else if (take_rate(p, word)) {
			return AS_EINVAL;
		}
	}
	return found;
}

static int next_is_mix(command_parser *p)
{
	return command_next_means(p, "mono") || command_next_means(p, "mixed") || command_next_means(p, "stereo");
}

static int next_begins_with(command_parser *p, const char *key)
{
	return !strncmp(command_skip_blanks(p), key, strlen(key));
}

static int next_is_metadata_variable(command_parser *p)
{
	return next_begins_with(p, METADATA_VAR) || next_begins_with(p, METADATA_VARS);
}

/* The rest of the line, or where it is to be found. */
static int take_metadata(command_parser *p)
{
	char *name;
	int list = next_begins_with(p, METADATA_VARS);
	const char *key = list ? METADATA_VARS : METADATA_VAR;
	if (!next_is_metadata_variable(p)) {
		return command_take_text(p, &p->out->metadata, "metadata");
	}
	p->rest += strlen(key);
	if (command_take_word(p, &name, AS_WORD_MAX, key) < 0) {
		return AS_EINVAL;
	}
	return take_variable(p, list ? &p->out->metadata_vars : &p->out->metadata_var, key, name, list);
}

/* [mono|mixed|stereo] [rate] [metadata] */
static int parse_binary(command_parser *p)
{
	char *word;
	int has_mix = 0;
	p->out->dialect = AS_DIALECT_BINARY;
	p->out->bidirectional = 1;
	p->out->track = "mono";
	while (*command_skip_blanks(p)) {
		int error = 0;
		if (!has_mix && next_is_mix(p)) {
			error = command_next_word(p, &word, AS_WORD_MAX, "mix type") < 0;
			has_mix = take_track(p, word);
		} else if (!p->out->rate_hz && isdigit((unsigned char)*p->rest)) {
			error = command_next_word(p, &word, AS_WORD_MAX, "sample rate") < 0 || take_rate(p, word);
		} else if (p->out->rate_hz || strchr("{['\"", *p->rest) || next_is_metadata_variable(p)) {
			return take_metadata(p);
		} else {
			return command_fail(
				p,
				"'%.*s' cannot stand there; after the URL come mono, mixed or stereo, a sample rate (" RATES
				") and then the metadata, or else inbound, outbound or both",
				SHOWN, p->rest);
		}
		if (error) {
			return AS_EINVAL;
		}
	}
	return 0;
}

#define JSON_ARGUMENTS "inbound|outbound|both <rate> <timeout_s> <0|1> [metadata]"

static int parse_json(command_parser *p)
{
	static const char *const names[] = {"track", "sample rate", "timeout", "bidirectional flag"};
	char *words[COUNT(names)];
	p->out->dialect = AS_DIALECT_JSON;
	for (size_t i = 0; i < COUNT(names); i++) {
		int found = command_next_word(p, &words[i], AS_WORD_MAX, names[i]);
		if (found <= 0) {
			return found ? found : command_fail(p, "the %s is missing: start <ws-url> " JSON_ARGUMENTS, names[i]);
		}
	}
	take_track(p, words[0]);
	if (take_rate(p, words[1]) || take_timeout(p, words[2])) {
		return AS_EINVAL;
	}
	if (strcmp(words[3], "0") && strcmp(words[3], "1")) {
		return command_fail(p, "'%.*s' does not say whether the server may play; use 0 (no) or 1 (yes)", SHOWN,
							words[3]);
	}
	p->out->timeout_s = p->out->timeout_s > 0 ? p->out->timeout_s : -1; /* 0 is none here */
	p->out->bidirectional = *words[3] == '1';
	return take_metadata(p);
}

static int parse_start(command_parser *p)
{
	char *word;
	int found = command_next_word(p, &word, AS_URL_MAX, "URL");
	if (found <= 0) {
		return found ? found
					 : command_fail(p, "start needs to know what takes the audio: a ws:// or wss:// URL, or embedded");
	}
	if (!strcmp(word, "embedded")) {
		return parse_embedded(p);
	}
	if (strncmp(word, "ws://", 5) && strncmp(word, "wss://", 6)) {
		return command_fail(p, "'%.*s' cannot take the audio; use a ws:// or wss:// URL, or embedded", SHOWN, word);
	}
	if (take_url(p, word, "URL")) {
		return AS_EINVAL;
	}
	int json = command_next_means(p, "inbound") || command_next_means(p, "outbound") || command_next_means(p, "both");
	return json ? parse_json(p) : parse_binary(p);
}

/* ---- openai_start ------------------------------------------------------------------------------------------------ */

#define OPENAI_KEYS "voice, track, rate, timeout, api_key, instructions, instructions_var, model or url"

typedef enum openai_key {
	VOICE,
	TRACK,
	RATE,
	TIMEOUT,
	API_KEY,
	INSTRUCTIONS,
	INSTRUCTIONS_VAR,
	MODEL,
	URL,
	UNKNOWN_KEY
} openai_key;

static openai_key openai_key_of(const char *word)
{
	static const char *const keys[] = {
		"voice", "track", "rate", "timeout", "api_key", "instructions", "instructions_var", "model", "url"};
	int key = 0;
	while (key < UNKNOWN_KEY && strcmp(word, keys[key])) {
		key++;
	}
	return (openai_key)key;
}

static int take_openai_value(command_parser *p, openai_key key, const char *value)
{
	switch (key) {
	case VOICE:
		p->out->voice = value;
		return 0;
	case MODEL:
		p->out->model = value;
		return 0;
	case INSTRUCTIONS:
		p->out->instructions = value;
		return 0;
	case INSTRUCTIONS_VAR:
		return take_variable(p, &p->out->instructions_var, "instructions_var=", value, 0);
	case TRACK:
		return take_track(p, value) ? 0 : command_fail(p, "track is '%.*s'; use " TRACKS, SHOWN, value);
	case RATE:
		return take_rate(p, value);
	case TIMEOUT:
		return take_timeout(p, value);
	case API_KEY:
		p->out->api_key = value;
		return command_has_blank_or_control(value) ? command_fail(p, "api_key has a blank or a control character in it")
												   : 0;
	default:
		return take_url(p, value, "url");
	}
}

/* What stands before the "=" is shown only when it looks like a key, and not like part of a secret. */
static int fail_key(command_parser *p, const char *key, int number)
{
	if (key && *key && strlen(key) < 24 && key[strspn(key, "abcdefghijklmnopqrstuvwxyz_")] == '\0') {
		return command_fail(p, "'%s' is not known to openai_start; use " OPENAI_KEYS, key);
	}
	return command_fail(p, "argument %d of openai_start is not key=value; quote a value with blanks; use " OPENAI_KEYS,
						number);
}

static int parse_openai(command_parser *p)
{
	unsigned seen = 0;
	p->out->dialect = AS_DIALECT_OPENAI;
	p->out->bidirectional = 1;
	for (int number = 1; *command_skip_blanks(p); number++) {
		char *key = p->rest, *value, *equals = key + strcspn(key, "=" BLANKS);
		if (*equals != '=') {
			return fail_key(p, NULL, number);
		}
		*equals = '\0';
		p->rest = equals + 1;
		openai_key known = openai_key_of(key);
		if (known == UNKNOWN_KEY) {
			return fail_key(p, key, number);
		}
		if (seen & (1u << known)) {
			return command_fail(p, "%s is there twice", key);
		}
		seen |= 1u << known;
		size_t most = known == INSTRUCTIONS ? AS_TEXT_MAX : known == URL ? AS_URL_MAX : AS_WORD_MAX;
		if (command_take_word(p, &value, most, key) < 0 || (*value && take_openai_value(p, known, value))) {
			return AS_EINVAL;
		}
	}
	if (*p->out->instructions && *p->out->instructions_var) {
		return command_fail(p, "instructions= and instructions_var= are both there");
	}
	return 0;
}

/* ---- The line ---------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name, *usage;
} verbs[] = {
	[0] = {"", AS_COMMAND_SYNTAX},
	[AS_VERB_START] = {"start", AS_SYNTAX_START},
	[AS_VERB_STOP] = {"stop", AS_SYNTAX_STOP},
	[AS_VERB_PAUSE] = {"pause", AS_SYNTAX_PAUSE},
	[AS_VERB_RESUME] = {"resume", AS_SYNTAX_RESUME},
	[AS_VERB_STATUS] = {"status", AS_SYNTAX_STATUS},
	[AS_VERB_SEND_TEXT] = {"send_text", AS_SYNTAX_SEND_TEXT},
	[AS_VERB_GRACEFUL] = {"graceful-shutdown", AS_SYNTAX_GRACEFUL},
	[AS_VERB_OPENAI_START] = {"openai_start", AS_SYNTAX_OPENAI},
};

static as_verb verb_of(const char *word)
{
	for (size_t i = 1; i < COUNT(verbs); i++) {
		if (!strcmp(word, verbs[i].name)) {
			return (as_verb)i;
		}
	}
	return 0;
}

/* What follows a stream's id may also be a reason. */
static int parse_directions(command_parser *p)
{
	char *word = "";
	int capture = command_next_means(p, "capture"), inject = command_next_means(p, "inject");
	p->out->directions = capture ? AS_CAPTURE : inject ? AS_INJECT : AS_CAPTURE | AS_INJECT;
	int found = capture || inject || !p->out->has_stream_id ? command_next_word(p, &word, AS_WORD_MAX, "direction") : 0;
	if (found < 0 || p->out->has_stream_id) {
		return found < 0 ? found : command_take_text(p, &p->out->text, "reason");
	}
	if (found && !capture && !inject) {
		return command_fail(
			p, "'%.*s' is not a direction; use capture or inject, or neither for both; a reason needs the stream's id",
			SHOWN, word);
	}
	return 0;
}

static int parse_send_text(command_parser *p)
{
	int error = command_take_text(p, &p->out->text, "text");
	return error ? error : *p->out->text ? 0 : command_fail(p, "send_text needs the text to send");
}

static int parse_arguments(command_parser *p)
{
	int error = 0;
	switch (p->out->verb) {
	case AS_VERB_START:
		error = parse_start(p);
		break;
	case AS_VERB_OPENAI_START:
		error = parse_openai(p);
		break;
	case AS_VERB_STOP:
	case AS_VERB_GRACEFUL:
		error = command_take_text(p, &p->out->text, "reason");
		break;
	case AS_VERB_SEND_TEXT:
		error = parse_send_text(p);
		break;
	case AS_VERB_PAUSE:
	case AS_VERB_RESUME:
		error = parse_directions(p);
		break;
	case AS_VERB_STATUS:
		break;
	}
	return error                     ? error
		   : *command_skip_blanks(p) ? command_fail(p, "'%.*s' is one argument too many", SHOWN, p->rest)
									 : 0;
}

/* Was the verb meant to name a stream, as in `stop start embedded`? A reason may begin with most words. */
static int check_stream_id(command_parser *p)
{
	as_verb verb = p->out->verb, next = 0;
	for (size_t i = 1; !next && i < COUNT(verbs); i++) {
		next = command_next_is(p, verbs[i].name) ? (as_verb)i : 0;
	}
	const char *then = p->rest + strlen(verbs[next].name);
	then += strspn(then, BLANKS);
	int starts = next == AS_VERB_OPENAI_START ||
				 (next == AS_VERB_START && (strstr(then, "://") || !strncmp(then, "embedded", 8)));
	int free_text = verb == AS_VERB_SEND_TEXT || ((verb == AS_VERB_STOP || verb == AS_VERB_GRACEFUL) && !starts);
	return !next || free_text ? 0 : command_fail(p, "'%s' is a command and cannot name a stream", verbs[verb].name);
}

static int check_name(command_parser *p, const char *name)
{
	if (verb_of(name)) {
		return command_fail(p, "'%s' is a command and cannot name a call or a stream", name);
	}
	if (command_has_blank_or_control(name)) {
		return command_fail(p, "a uuid or stream id must not have blanks or control characters in it");
	}
	return *name ? 0 : command_fail(p, "a uuid or stream id is empty");
}

/* Reads up to two names and the verb. Returns how many names. */
static int take_names(command_parser *p, char *words[3])
{
	for (int names = 0;; names++) {
		int quoted = command_is_quote(*command_skip_blanks(p));
		int found = command_next_word(p, &words[names], AS_NAME_MAX - 1, "uuid or stream id");
		if (found <= 0) {
			return found ? found
						 : command_fail(p, names ? "'%s' is not followed by " VERBS : "no arguments%s",
										names ? words[names - 1] : "");
		}
		if (!quoted && (p->out->verb = verb_of(words[names]))) {
			return names;
		}
		if (names == 2) {
			return command_fail(p, "'%s' is not a command; use " VERBS, words[2]);
		}
		if (check_name(p, words[names])) {
			return AS_EINVAL;
		}
	}
}

/* 8-4-4-4-12 hexadecimal digits, as FreeSWITCH names its calls. */
static int is_uuid(const char *name)
{
	for (int i = 0; i < 36; i++) {
		int dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? name[i] != '-' : !isxdigit((unsigned char)name[i])) {
			return 0;
		}
	}
	return name[36] == '\0';
}

/* What the names mean depends on how many there are and where we were called from. One alone is a stream of our own call,
 * unless it is a uuid: another call's, then, as in an api_on_answer that was set on the other leg. */
static int parse_names(command_parser *p, const char *own_uuid)
{
	char *words[3];
	as_command *out = p->out;
	int names = take_names(p, words);
	if (names < 0) {
		return names;
	}
	int has_uuid = names == 2 || (names == 1 && (!own_uuid || !strcmp(words[0], own_uuid) || is_uuid(words[0])));
	if (!has_uuid && !own_uuid) {
		return command_fail(p, "no call: give its uuid first");
	}
	snprintf(out->uuid, sizeof(out->uuid), "%s", has_uuid ? words[0] : own_uuid);
	out->has_stream_id = names > has_uuid;
	snprintf(out->stream_id, sizeof(out->stream_id), "%s", out->has_stream_id ? words[names - 1] : AS_DEFAULT_STREAM);
	return out->has_stream_id ? 0 : check_stream_id(p);
}

/* ---- Public ------------------------------------------------------------------------------------------------------ */

int as_command_parse(const char *line, const char *own_uuid, as_command *out, char *error, size_t error_bytes)
{
	command_parser p = {NULL, out, error, error_bytes};
	*out = (as_command){.tracks = AS_COMMAND_INBOUND};
	as_command_free(out);
	if (line && strlen(line) > LINE_MAX_BYTES) {
		return command_fail(&p, "the command is longer than %d bytes", LINE_MAX_BYTES);
	}
	p.rest = out->strings = strdup(line ? line : "");
	if (!p.rest) {
		command_fail(&p, "out of memory");
		return AS_ENOMEM;
	}
	out->bytes = strlen(p.rest);
	int failed = parse_names(&p, own_uuid);
	failed = failed ? failed : parse_arguments(&p);
	if (failed) {
		as_command_free(out);
	}
	return failed;
}

void as_command_free(as_command *command)
{
	if (command->strings) { /* there may be a key in them */
		explicit_bzero(command->strings, command->bytes);
	}
	free(command->strings);
	command->strings = NULL;
	command->url = command->metadata = command->text = "";
	command->metadata_var = command->metadata_vars = command->instructions_var = "";
	command->voice = command->instructions = command->api_key = command->model = "";
	command->track = "inbound";
}

const char *as_command_usage(as_verb verb)
{
	return verbs[(size_t)verb < COUNT(verbs) ? verb : 0].usage;
}

const char *const *as_command_completions(void)
{
	static const char *const lines[] = {"start embedded inbound",
										"start embedded outbound",
										"start embedded both",
										"start embedded stereo",
										"start ws://",
										"start wss://",
										"stop",
										"graceful-shutdown",
										"pause capture",
										"pause inject",
										"resume capture",
										"resume inject",
										"send_text",
										"openai_start",
										"status",
										NULL};
	return lines;
}
