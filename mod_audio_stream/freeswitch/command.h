/*
 * command.h - what `uuid_audio_stream` was asked to do. Text in, a struct or a reason out; no FreeSWITCH.
 *
 *     [<uuid>] [<stream_id>] start embedded [track] [rate]
 *     [<uuid>] [<stream_id>] start <ws-url> [mono|mixed|stereo] [rate] [metadata]
 *     [<uuid>] [<stream_id>] start <ws-url> inbound|outbound|both <rate> <timeout_s> <0|1> [metadata]
 *     [<uuid>] [<stream_id>] openai_start [key=value ...]
 *     [<uuid>] [<stream_id>] stop|graceful-shutdown [reason]
 *     [<uuid>] [<stream_id>] send_text <text>
 *     [<uuid>] [<stream_id>] pause|resume [capture|inject] [reason]    a reason only after a stream's id
 *     [<uuid>] [<stream_id>] status
 *
 * The word after a URL tells the two forms apart. Only the dialplan may leave the uuid out: it is the call's own.
 *
 * Quotes. A word, a value or a text may stand in ' or ": a quote ends at the same quote before a blank or the line's
 * end, so an apostrophe inside a word ends nothing. In "..." \" \\ and \n mean what they do in C; in '...' only \' is
 * special, which leaves JSON as it is. A text (reason, metadata, send_text) is the rest of the line, spaces kept; its
 * quotes come off when they enclose all of it.
 */
#ifndef FREESWITCH_COMMAND_H
#define FREESWITCH_COMMAND_H

#include <stddef.h>

#include "audio_stream.h"
#include "audio_stream_ws.h"

#define AS_DEFAULT_STREAM "main"
#define AS_TEXT_MAX 65536 /* bytes in a text, final NUL not included */
#define AS_URL_MAX 2048   /* in a URL */
#define AS_WORD_MAX 512   /* in any other word but names, which have AS_NAME_MAX */

#define AS_SYNTAX_START                                                                                                \
	"<uuid> [<stream_id>] start <ws-url> [mono|mixed|stereo] [8000|16000|24000|32000|44100|48000] "                    \
	"[metadata|metadata_var=<name>|metadata_vars=<name>,...] | "                                                       \
	"<uuid> [<stream_id>] start <ws-url> inbound|outbound|both <rate> <timeout_s> <0|1> "                              \
	"[metadata|metadata_var=<name>|metadata_vars=<name>,...] | "                                                       \
	"<uuid> [<stream_id>] start embedded [inbound|outbound|both|mono|mixed|stereo] [rate]"
#define AS_SYNTAX_OPENAI                                                                                               \
	"<uuid> [<stream_id>] openai_start [voice=] [track=] [rate=] [timeout=] [api_key=] [instructions=\"...\"] "        \
	"[instructions_var=<name>] [model=] [url=]"
#define AS_SYNTAX_STOP "<uuid> [<stream_id>] stop [reason]"
#define AS_SYNTAX_GRACEFUL "<uuid> [<stream_id>] graceful-shutdown [reason]"
#define AS_SYNTAX_PAUSE "<uuid> [<stream_id>] pause [capture|inject] [reason]"
#define AS_SYNTAX_RESUME "<uuid> [<stream_id>] resume [capture|inject] [reason]"
#define AS_SYNTAX_SEND_TEXT "<uuid> [<stream_id>] send_text <text>"
#define AS_SYNTAX_STATUS "<uuid> [<stream_id>] status"
#define AS_COMMAND_SYNTAX                                                                                              \
	AS_SYNTAX_START " | " AS_SYNTAX_OPENAI " | " AS_SYNTAX_STOP " | " AS_SYNTAX_GRACEFUL " | " AS_SYNTAX_PAUSE         \
					" | " AS_SYNTAX_RESUME " | " AS_SYNTAX_SEND_TEXT " | " AS_SYNTAX_STATUS

typedef enum as_verb {
	AS_VERB_START = 1,
	AS_VERB_STOP,
	AS_VERB_PAUSE,
	AS_VERB_RESUME,
	AS_VERB_STATUS,
	AS_VERB_SEND_TEXT,
	AS_VERB_GRACEFUL,
	AS_VERB_OPENAI_START,
} as_verb;

/* Whom the stream hears. */
typedef enum as_command_track {
	AS_COMMAND_INBOUND = 1, /* the caller: inbound, mono */
	AS_COMMAND_OUTBOUND,    /* what the caller hears: outbound */
	AS_COMMAND_MIXED,       /* both in one channel: both, mixed */
	AS_COMMAND_STEREO,      /* the caller left, the other end right */
} as_command_track;

/* Strings are never NULL: "" when there is none. They last until as_command_free(). */
typedef struct as_command {
	as_verb verb; /* of a line that was refused, too, as far as it could be told; else 0 */
	char uuid[AS_NAME_MAX];
	char stream_id[AS_NAME_MAX]; /* AS_DEFAULT_STREAM when none was named */
	int has_stream_id;
	/* start, openai_start */
	int dialect; /* AS_DIALECT_*; 0: embedded */
	const char *url;
	const char *track;       /* as it was said; mono (AS_DIALECT_BINARY) or inbound when nothing was */
	as_command_track tracks; /* what that means */
	int rate_hz;             /* 0 = the call's */
	int timeout_s;           /* 0 = the option's, -1 = none */
	int bidirectional;       /* the server may play */
	const char *metadata;
	const char *metadata_var;  /* the channel variable that holds the metadata instead, */
	const char *metadata_vars; /* or those that a JSON object is made of: names with commas between them */
	const char *voice, *instructions, *api_key, *model;
	const char *instructions_var; /* the channel variable that holds the instructions instead */
	int directions;               /* pause, resume: AS_CAPTURE and/or AS_INJECT */
	const char *text;             /* send_text: the message; stop, graceful-shutdown, pause, resume: the reason */
	char *strings;                /* where those above lie, */
	size_t bytes;                 /* and how many they are */
} as_command;

/* Reads a command line. own_uuid: the call's uuid when it comes from the dialplan, else NULL (a uuid must be given).
 * Returns 0, or AS_EINVAL or AS_ENOMEM with the reason in error, which never holds an API key or a URL: nothing
 * then needs freeing, though it may be. */
int as_command_parse(const char *line, const char *own_uuid, as_command *out, char *error, size_t error_bytes);
void as_command_free(as_command *command);
/* How a verb is used; all of them for 0. */
const char *as_command_usage(as_verb verb);
/* What may follow the uuid, for tab completion; the last one is followed by NULL. */
const char *const *as_command_completions(void);

#endif
