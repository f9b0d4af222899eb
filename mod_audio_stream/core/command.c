#include "command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct parser {
	const char *rest; /* not yet read */
	as_command *out;
	char *error;
	size_t error_bytes;
} parser;

static int fail(parser *p, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(p->error, p->error_bytes, format, args);
	va_end(args);
	return AS_EINVAL;
}

static int verb_of(const char *word)
{
	static const char *const verbs[] = {
		[AS_VERB_START] = "start",	 [AS_VERB_STOP] = "stop",	  [AS_VERB_PAUSE] = "pause",
		[AS_VERB_RESUME] = "resume", [AS_VERB_STATUS] = "status",
	};
	for (int i = 1; i < (int)(sizeof(verbs) / sizeof(verbs[0])); i++) {
		if (!strcmp(word, verbs[i])) {
			return i;
		}
	}
	return 0;
}

/* Copies the next word; 1 when there was one, 0 at the end, AS_EINVAL when it is too long. */
static int next_word(parser *p, char *word, size_t bytes)
{
	p->rest += strspn(p->rest, " \t\r\n");
	size_t length = strcspn(p->rest, " \t\r\n");
	if (length >= bytes) {
		return fail(p, "'%.32s...' is longer than %zu characters", p->rest, bytes - 1);
	}
	memcpy(word, p->rest, length);
	word[length] = '\0';
	p->rest += length;
	return length > 0;
}

/* What is left of the line, without blanks around it, cut to fit. */
static void take_text(parser *p)
{
	p->rest += strspn(p->rest, " \t\r\n");
	snprintf(p->out->text, sizeof(p->out->text), "%s", p->rest);
	size_t length = strlen(p->out->text);
	while (length > 0 && strchr(" \t\r\n", p->out->text[length - 1])) {
		p->out->text[--length] = '\0';
	}
	p->rest += strlen(p->rest);
}

static int parse_rate(parser *p, const char *word)
{
	static const int rates[] = {8000, 16000, 24000, 32000, 44100, 48000};
	char *end;
	double value = strtod(word, &end);
	int plain = end > word && end == word + strspn(word, "0123456789."); /* no sign, exponent, "0x", "inf" or "nan" */
	if (*end == 'k' || *end == 'K') {
		value *= 1000;
		end++;
	}
	for (size_t i = 0; plain && !*end && i < sizeof(rates) / sizeof(rates[0]); i++) {
		if (value == rates[i]) {
			p->out->rate_hz = rates[i];
			return 0;
		}
	}
	return fail(p, "'%s' is not a sample rate; use 8000, 16000, 24000, 32000, 44100 or 48000", word);
}

static int parse_start(parser *p)
{
	char word[AS_TEXT_MAX];
	int found = next_word(p, word, sizeof(word));
	if (found <= 0) {
		return found ? found : fail(p, "start needs to know what takes the audio: start embedded [rate]");
	}
	if (strcmp(word, "embedded")) {
		return fail(p, "'%s' cannot take the audio; this module knows: embedded (an application in this process)", word);
	}
	found = next_word(p, word, sizeof(word));
	return found <= 0 ? found : parse_rate(p, word);
}

static int parse_directions(parser *p)
{
	char word[AS_TEXT_MAX];
	int found = next_word(p, word, sizeof(word));
	p->out->directions = AS_CAPTURE | AS_INJECT;
	if (found <= 0) {
		return found;
	}
	if (!strcmp(word, "capture")) {
		p->out->directions = AS_CAPTURE;
	} else if (!strcmp(word, "inject")) {
		p->out->directions = AS_INJECT;
	} else {
		return fail(p, "'%s' is not a direction; use capture or inject, or neither for both", word);
	}
	return 0;
}

static int parse_arguments(parser *p)
{
	int error = 0;
	switch (p->out->verb) {
	case AS_VERB_START:
		error = parse_start(p);
		break;
	case AS_VERB_STOP:
		take_text(p);
		break;
	case AS_VERB_PAUSE:
	case AS_VERB_RESUME:
		error = parse_directions(p);
		break;
	case AS_VERB_STATUS:
		break;
	}
	p->rest += strspn(p->rest, " \t\r\n");
	return error ? error : *p->rest ? fail(p, "'%.64s' is one argument too many", p->rest) : 0;
}

/* Up to two names, then the verb: what the names mean depends on how many there are and where we were called from. */
static int parse_names(parser *p, const char *own_uuid)
{
	char words[3][AS_NAME_MAX];
	int names = 0, found = 0;
	for (;;) {
		found = next_word(p, words[names], sizeof(words[names]));
		if (found <= 0) {
			return found ? found
						 : fail(p, names ? "'%s' is not followed by start, stop, pause, resume or status" : "no arguments",
								names ? words[names - 1] : "");
		}
		if ((p->out->verb = verb_of(words[names]))) {
			break;
		}
		if (++names == 3) {
			return fail(p, "'%s' is not a command; use start, stop, pause, resume or status", words[2]);
		}
	}
	int has_uuid = names == 2 || (names == 1 && (!own_uuid || !strcmp(words[0], own_uuid)));
	if (!has_uuid && !own_uuid) {
		return fail(p, "no call: give its uuid first");
	}
	snprintf(p->out->uuid, sizeof(p->out->uuid), "%s", has_uuid ? words[0] : own_uuid);
	p->out->has_stream_id = names > has_uuid;
	snprintf(p->out->stream_id, sizeof(p->out->stream_id), "%s",
			 p->out->has_stream_id ? words[names - 1] : AS_DEFAULT_STREAM);
	return 0;
}

int as_command_parse(const char *line, const char *own_uuid, as_command *out, char *error, size_t error_bytes)
{
	parser p = {line ? line : "", out, error, error_bytes};
	memset(out, 0, sizeof(*out));
	int failed = parse_names(&p, own_uuid);
	return failed ? failed : parse_arguments(&p);
}
