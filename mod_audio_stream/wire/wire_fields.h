/*
 * wire_fields.h - inside of the two parsers: a message without its audio, and reading its fields.
 *
 * A wire_reading lasts for one call. Functions that return an int return 0, or an AS_E* with the reason written to
 * where the parser's caller wants it.
 */
#ifndef WIRE_WIRE_FIELDS_H
#define WIRE_WIRE_FIELDS_H

#include <jansson.h>

#include "json_audio.h"
#include "wire.h"

typedef struct wire_reading {
	char *text; /* the message, until its audio has been decoded */
	size_t n;
	size_t max_base64;
	const char *what; /* the message's kind, for errors */
	json_t *root;     /* the message; its audio is "" in it when it has been cut out */
	json_audio audio; /* cut out of the text; base64 is NULL when there was none, or it is in root */
	const char *key;  /* of what was cut out */
	char *rest;       /* what root was read from, when audio was cut out; else NULL */
	wire_message *out;
	char *error;
	size_t error_bytes;
} wire_reading;

typedef struct wire_format_name {
	const char *name;
	wire_format format;
} wire_format_name;

/* Reads the message, whose audio may stand under one of the keys; the last one is followed by NULL. */
int wire_read(wire_reading *r, const char *const *audio_keys);
/* What wire_read() has refused: are these words for the application? Then out is WIRE_WORDS and 0 is returned; else failed. */
int wire_words(wire_reading *r, int failed);
/* Settles whether what was cut out is the audio of this message, member `name` of object. If it is not, it is put back,
 * whatever it is, and the whole message read: object is gone then. */
int wire_settle(wire_reading *r, const json_t *object, const char *name);
/* Frees what it holds, and what out holds when there was an error, which it returns. */
int wire_read_end(wire_reading *r, int error);

/* Writes the reason, in printable ASCII. Returns error. */
int wire_complain(wire_reading *r, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A field has a wrong value. should: what to do about it. AS_EINVAL. */
int wire_wrong(wire_reading *r, const char *name, const json_t *value, const char *should);

/* A member; NULL when object is none, has none of this name, or it is null. */
json_t *wire_field(const json_t *object, const char *name);
/* A string's member, fit to be a name; out stays as it is when there is none. */
int wire_name(wire_reading *r, const json_t *object, const char *name, char out[WIRE_NAME_MAX]);
/* The format of this name, whatever its case; the table ends with a NULL name. 0 when there is none. */
wire_format wire_format_find(const wire_format_name *table, const char *name);
/* out's rate and channels, as far as its format needs them to be told. */
int wire_rate_and_channels(wire_reading *r, const json_t *object);
/* Decodes this member's base64 to out's audio. Spoils r->text. */
int wire_audio(wire_reading *r, json_t *object, const char *name);

/* Makes the message, without its audio, out's text. */
int wire_keep_rest(wire_reading *r);
/* Makes JSON out's text. */
int wire_keep_json(wire_reading *r, const json_t *value);
/* The message is for the application, all of it. */
int wire_keep_whole(wire_reading *r);

#endif
