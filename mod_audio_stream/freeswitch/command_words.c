#define _GNU_SOURCE
#include "command_words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int is_blank(char c)
{
	return c == '\0' || strchr(BLANKS, c) != NULL;
}

/* Puts dots in the place of what follows a word: up to the reason's last quote, or a blank where there is none. */
static void mask_after(char *reason, const char *word)
{
	for (char *c = reason; (c = strcasestr(c, word));) {
		c += strlen(word);
		const char *quote = strrchr(c, '\'');
		size_t n = quote ? (size_t)(quote - c) : strcspn(c, BLANKS), dots = 0;
		for (; dots < n && dots < 3; dots++) {
			*c++ = '.';
		}
		memmove(c, c + n - dots, strlen(c + n - dots) + 1);
	}
}

/* An API key may be in any line, if only by mistake, and a password in any URL: a reason that shows a wrong argument
 * shows neither. */
static void mask_secrets(char *reason)
{
	mask_after(reason, "api_key=");
	mask_after(reason, "://");
}

int command_fail(command_parser *p, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (vsnprintf(p->error, p->error_bytes, format, args) > 0 && p->error_bytes > 0) {
		mask_secrets(p->error);
	}
	va_end(args);
	return AS_EINVAL;
}

/* What has not been read, without the blanks before it. */
char *command_skip_blanks(command_parser *p)
{
	p->rest += strspn(p->rest, BLANKS);
	return p->rest;
}

int command_is_quote(char c)
{
	return c == '\'' || c == '"';
}

/* Does a backslash before `next` mean something between these quotes? */
static int is_escape(char quote, char next)
{
	return quote == '\'' ? next == '\'' : next == '"' || next == '\\' || next == 'n';
}

/* The quote that ends what begins with the one at `open`: NULL when it is missing. */
static char *closing_quote(char *open)
{
	for (char *c = open + 1; *c; c++) {
		if (*c == '\\' && is_escape(*open, c[1])) {
			c++;
		} else if (*c == *open && is_blank(c[1])) {
			return c;
		}
	}
	return NULL;
}

/* Takes the quotes and escapes out of [open, close], which gets shorter. Returns what was inside. */
static char *unquote(char *open, char *close)
{
	char *out = open + 1;
	for (char *in = open + 1; in < close; in++) {
		if (*in == '\\' && is_escape(*open, in[1])) {
			in++;
			*out++ = *in == 'n' ? '\n' : *in;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return open + 1;
}

/* Reads the word that begins right here. */
int command_take_word(command_parser *p, char **word, size_t most, const char *what)
{
	char *end = p->rest + strcspn(p->rest, BLANKS);
	*word = p->rest;
	if (command_is_quote(*p->rest)) {
		char *close = closing_quote(p->rest);
		if (!close) {
			return command_fail(p, "the quote (%c) around the %s is not closed", *p->rest, what);
		}
		end = close + 1;
		p->rest = end + (*end != '\0');
		*word = unquote(*word, close);
	} else {
		p->rest = end + (*end != '\0');
		*end = '\0';
	}
	return strlen(*word) > most ? command_fail(p, "the %s is longer than %zu characters", what, most) : 1;
}

/* Reads the next word: 1 when there was one, 0 at the end of the line. */
int command_next_word(command_parser *p, char **word, size_t most, const char *what)
{
	return *command_skip_blanks(p) ? command_take_word(p, word, most, what) : 0;
}

/* What is left of the line, without the blanks around it. */
int command_take_text(command_parser *p, const char **text, const char *what)
{
	char *begin = command_skip_blanks(p), *end = begin + strlen(begin);
	while (end > begin && is_blank(end[-1])) {
		end--;
	}
	*end = '\0';
	p->rest = end;
	if (command_is_quote(*begin) && closing_quote(begin) == end - 1) {
		begin = unquote(begin, end - 1);
	}
	*text = begin;
	return strlen(begin) > AS_TEXT_MAX ? command_fail(p, "the %s is longer than %d bytes", what, AS_TEXT_MAX) : 0;
}

/* Is the next word, unquoted, this one? */
int command_next_is(command_parser *p, const char *word)
{
	size_t length = strlen(word);
	return !strncmp(command_skip_blanks(p), word, length) && is_blank(p->rest[length]);
}

/* Is the next word, with or without quotes, this one? */
int command_next_means(command_parser *p, const char *word)
{
	size_t length = strlen(word);
	const char *next = command_skip_blanks(p);
	return command_next_is(p, word) || (command_is_quote(*next) && !strncmp(next + 1, word, length) &&
										next[length + 1] == *next && is_blank(next[length + 2]));
}

int command_has_blank_or_control(const char *word)
{
	while ((unsigned char)*word > ' ' && *word != 0x7f) {
		word++;
	}
	return *word != '\0';
}
