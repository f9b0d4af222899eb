/* command_check.h - what holds for every command that was understood. Each check returns NULL or what is wrong. */
#ifndef AS_TESTS_COMMAND_CHECK_H
#define AS_TESTS_COMMAND_CHECK_H

#include <string.h>

#include "command.h"

static inline const char *check_name(const char *name)
{
	size_t length = strnlen(name, AS_NAME_MAX);
	if (length == 0 || length == AS_NAME_MAX) {
		return "a name is empty or not ended";
	}
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f) {
			return "a blank or control character in a name";
		}
	}
	return NULL;
}

static inline const char *check_rate(const as_command *command)
{
	static const int rates[] = {0, 8000, 16000, 24000, 32000, 44100, 48000};
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		if (command->rate_hz == rates[i]) {
			return NULL;
		}
	}
	return "no sample rate";
}

static inline const char *check_track(const as_command *command)
{
	static const struct {
		const char *name;
		as_command_track tracks;
	} known[] = {{"inbound", AS_COMMAND_INBOUND}, {"outbound", AS_COMMAND_OUTBOUND}, {"both", AS_COMMAND_MIXED},
				 {"mono", AS_COMMAND_INBOUND},    {"mixed", AS_COMMAND_MIXED},       {"stereo", AS_COMMAND_STEREO}};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(command->track, known[i].name)) {
			return command->tracks == known[i].tracks ? NULL : "the track's name and meaning differ";
		}
	}
	return "no track";
}

static inline const char *check_url(const as_command *command)
{
	const char *url = command->url;
	int needed = command->dialect == AS_DIALECT_BINARY || command->dialect == AS_DIALECT_JSON;
	if (!*url) {
		return needed ? "no URL" : NULL;
	}
	if (!command->dialect || (strncmp(url, "ws://", 5) && strncmp(url, "wss://", 6)) || strlen(url) > AS_URL_MAX) {
		return "an impossible URL";
	}
	return strpbrk(url, " \t\r\n\x7f\x01\x1b") ? "a blank or control character in the URL" : NULL;
}

/* Names of channel variables, one or several with commas between them: never both a text and where to find it. */
static inline const char *check_variables(const as_command *command)
{
	static const char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	const char *list = command->metadata_vars;
	if (command->metadata_var[strspn(command->metadata_var, names)] ||
		command->instructions_var[strspn(command->instructions_var, names)]) {
		return "no name of a variable";
	}
	for (const char *at = *list ? list : NULL, *comma; at; at = comma ? comma + 1 : NULL) {
		comma = strchr(at, ',');
		size_t length = strspn(at, names);
		if (!length || (at[length] && at[length] != ',')) {
			return "no list of variables";
		}
	}
	if (command->verb != AS_VERB_START && (*command->metadata_var || *list)) {
		return "start's variables without it";
	}
	if (command->verb != AS_VERB_OPENAI_START && *command->instructions_var) {
		return "openai_start's variable without it";
	}
	int metadata = (*command->metadata != 0) + (*command->metadata_var != 0) + (*list != 0);
	return metadata > 1 || (*command->instructions && *command->instructions_var) ? "a text and a variable for it"
																				  : NULL;
}

/* What only some verbs have. */
static inline const char *check_belongings(const as_command *command)
{
	as_verb verb = command->verb;
	int starts = verb == AS_VERB_START || verb == AS_VERB_OPENAI_START;
	int directed = verb == AS_VERB_PAUSE || verb == AS_VERB_RESUME;
	int texts = verb == AS_VERB_STOP || verb == AS_VERB_GRACEFUL || verb == AS_VERB_SEND_TEXT ||
				(directed && command->has_stream_id);
	if (!starts && (command->dialect || command->rate_hz || command->timeout_s || *command->metadata)) {
		return "a start's arguments without one";
	}
	if (directed != (command->directions != 0) || (command->directions & ~(AS_CAPTURE | AS_INJECT))) {
		return "directions";
	}
	if ((*command->text && !texts) || (!*command->text && verb == AS_VERB_SEND_TEXT)) {
		return "a text where none belongs, or none where one does";
	}
	if ((command->dialect == AS_DIALECT_OPENAI) != (verb == AS_VERB_OPENAI_START)) {
		return "the dialect of openai_start";
	}
	if (verb != AS_VERB_OPENAI_START &&
		(*command->voice || *command->instructions || *command->api_key || *command->model)) {
		return "openai_start's arguments without it";
	}
	return strlen(command->text) > AS_TEXT_MAX || strlen(command->metadata) > AS_TEXT_MAX ||
				   strlen(command->instructions) > AS_TEXT_MAX
			   ? "a text is too long"
			   : NULL;
}

static inline const char *check_command(const as_command *command)
{
	const char *(*const checks[])(const as_command *) = {check_rate, check_track, check_url, check_variables,
														 check_belongings};
	const char *wrong = check_name(command->uuid);
	wrong = wrong ? wrong : check_name(command->stream_id);
	if (command->verb < AS_VERB_START || command->verb > AS_VERB_OPENAI_START) {
		return "no verb";
	}
	if (!command->has_stream_id && strcmp(command->stream_id, AS_DEFAULT_STREAM)) {
		return "not the default stream";
	}
	int least_s = command->dialect == AS_DIALECT_JSON ? -1 : 0;
	if (command->timeout_s < least_s || command->timeout_s > 3600 || (command->bidirectional | 1) != 1) {
		return "timeout or bidirectional";
	}
	for (size_t i = 0; !wrong && i < sizeof(checks) / sizeof(checks[0]); i++) {
		wrong = checks[i](command);
	}
	return wrong;
}

#endif
