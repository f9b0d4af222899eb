/*
 * command_words.h - inside of command.c: a line, word by word. What quotes do is said in command.h.
 */
#ifndef FREESWITCH_COMMAND_WORDS_H
#define FREESWITCH_COMMAND_WORDS_H

#include "command.h"

#define BLANKS " \t\r\n"

typedef struct command_parser {
	char *rest; /* not yet read; words are ended and unquoted where they stand */
	as_command *out;
	char *error;
	size_t error_bytes;
} command_parser;

/* Says why the line is refused, without the secrets that may be in it. Returns AS_EINVAL. */
int command_fail(command_parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What has not been read, without the blanks before it. */
char *command_skip_blanks(command_parser *p);
/* Reads the word that begins right here: 1, or AS_EINVAL. what: its name in the reason. */
int command_take_word(command_parser *p, char **word, size_t most, const char *what);
/* Reads the next word: 1 when there was one, 0 at the end of the line, AS_EINVAL. */
int command_next_word(command_parser *p, char **word, size_t most, const char *what);
/* What is left of the line, without the blanks around it. 0, or AS_EINVAL. */
int command_take_text(command_parser *p, const char **text, const char *what);
/* Is the next word, unquoted, this one? */
int command_next_is(command_parser *p, const char *word);
/* Is the next word, with or without quotes, this one? */
int command_next_means(command_parser *p, const char *word);
int command_is_quote(char c);
int command_has_blank_or_control(const char *word);

#endif
