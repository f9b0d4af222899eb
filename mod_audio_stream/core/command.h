/*
 * command.h - what `uuid_audio_stream` was asked to do. Text in, a struct or a reason out; no FreeSWITCH, no side effects.
 *
 *     <uuid> [<stream_id>] start embedded [rate]        rate: 8000 16000 24000 32000 44100 48000, or 8k 16k ...
 *     <uuid> [<stream_id>] stop [reason]
 *     <uuid> [<stream_id>] pause|resume [capture|inject]
 *     <uuid> [<stream_id>] status
 *
 * From the dialplan the uuid may be left out: it is the call's own.
 */
#ifndef AS_COMMAND_H
#define AS_COMMAND_H

#include <stddef.h>

#include "audio_stream.h"

#define AS_DEFAULT_STREAM "main"
#define AS_TEXT_MAX 256
#define AS_COMMAND_SYNTAX                                                                                              \
	"<uuid> [<stream_id>] start embedded [8000|16000|24000|32000|44100|48000] | stop [reason] | "                      \
	"pause [capture|inject] | resume [capture|inject] | status"

typedef enum as_verb {
	AS_VERB_START = 1,
	AS_VERB_STOP,
	AS_VERB_PAUSE,
	AS_VERB_RESUME,
	AS_VERB_STATUS,
} as_verb;

typedef struct as_command {
	as_verb verb;
	char uuid[AS_NAME_MAX];
	char stream_id[AS_NAME_MAX]; /* AS_DEFAULT_STREAM when none was named */
	int has_stream_id;
	int rate_hz;           /* start: 0 = the call's */
	int directions;        /* pause, resume: AS_CAPTURE and/or AS_INJECT */
	char text[AS_TEXT_MAX]; /* stop: the reason */
} as_command;

/* Reads a command line. own_uuid: the call's uuid when it comes from the dialplan, else NULL (a uuid must be given).
 * Returns 0, or AS_EINVAL with the reason in error. */
int as_command_parse(const char *line, const char *own_uuid, as_command *out, char *error, size_t error_bytes);

#endif
