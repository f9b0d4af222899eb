/*
 * wire.h - the two public wire dialects: bytes and JSON on one side, structs on the other. No I/O, state or threads.
 *
 * What is parsed comes from the network: anything may be in it. Audio is the bulk of it, and is taken out of the text
 * in place before the rest goes to a JSON library (json_audio.h).
 *
 * What servers may send. A field that is null is as good as left out; unknown ones do not matter. A number may also be
 * a string of digits.
 *
 * A text whose first character is no "{" and that is not JSON is WIRE_WORDS in both dialects: servers greet, or log. One
 * that begins with "{" is meant as a message, and refused when it is none.
 *
 *     AS_DIALECT_BINARY   {"type":"streamAudio","data":{...}}, or those fields in the message itself, which is told by
 *                         "audioDataType". Anything else is WIRE_OTHER.
 *       audioDataType     raw (16 bit, little-endian), pcmu, pcma, wav, mp3, ogg; default raw; for a file, what its
 *                         name ends in
 *       audioData         base64
 *       file              a path, instead of audioData
 *       sampleRate        raw: 8000..48000, default 8000; pcmu, pcma: 8000
 *       channels          raw: 1 or 2, default 1
 *       clear             true: throw away what is queued, first; needs no audio
 *
 *     AS_DIALECT_JSON     {"event":"...","streamId":"...",...}; "stream_id" is the same. Anything else is WIRE_OTHER.
 *       media.play        "payload":{"audioData","format","sampleRate","channels","checkpoint"}, or the same by other
 *                         names: "media":{"payload","contentType","sampleRate","channels","checkpoint"}
 *         audioData       base64
 *         format          LINEAR16, L16, raw, audio/x-l16; ULAW, MULAW, PCMU, audio/x-mulaw; ALAW, PCMA, audio/x-alaw;
 *                         wav (without a header it is LINEAR16), mp3, ogg; whatever the case; default LINEAR16
 *         sampleRate      LINEAR16: 8000..48000, default 8000; the other raw ones: 8000
 *         channels        LINEAR16: 1 or 2, default 1
 *         checkpoint      a name, also beside "payload": to be told when this has been heard
 *       media.clear
 *       media.checkpoint  "payload":{"name"}; also "checkpoint", and both beside "payload"
 *       transcription.send  "payload": any JSON
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stddef.h>
#include <stdint.h>

typedef enum wire_kind {
	WIRE_PLAY = 1,      /* audio to play, perhaps none, perhaps after a clear */
	WIRE_PLAY_FILE,     /* streamAudio with "file" */
	WIRE_CLEAR,         /* media.clear */
	WIRE_CHECKPOINT,    /* media.checkpoint */
	WIRE_TRANSCRIPTION, /* transcription.send */
	WIRE_OTHER,         /* a JSON message of none of these kinds: for the application */
	WIRE_WORDS,         /* no JSON, and not meant as such: for the application as it came */
} wire_kind;

typedef enum wire_format {
	WIRE_RAW_L16 = 1, /* little-endian, as told by rate_hz and channels */
	WIRE_RAW_ULAW,
	WIRE_RAW_ALAW,
	WIRE_FILE_WAV,
	WIRE_FILE_MP3,
	WIRE_FILE_OGG, /* a whole file; rate and channels are in it */
} wire_format;

#define WIRE_NAME_MAX 128

typedef struct wire_message {
	wire_kind kind;
	char stream_id[WIRE_NAME_MAX];  /* AS_DIALECT_JSON: as the server said; "" when it did not */
	char checkpoint[WIRE_NAME_MAX]; /* WIRE_CHECKPOINT; WIRE_PLAY: to be reached when it has been heard; "" for none */
	wire_format format;             /* WIRE_PLAY, WIRE_PLAY_FILE */
	int rate_hz, channels;          /* raw formats; else 0 */
	int clear;                      /* WIRE_PLAY, WIRE_PLAY_FILE: throw away what is queued, first */
	uint8_t *audio;                 /* WIRE_PLAY: decoded base64, inside the text that was parsed; NULL for none */
	size_t audio_bytes;             /* as they came: the last sample may be half of one */
	char *text;                     /* the message without its audio; WIRE_PLAY_FILE: the path; WIRE_TRANSCRIPTION: its
									   payload as JSON; WIRE_WORDS: UTF-8 for certain. free() it */
} wire_message;

/* Reads a text message, in place: text[n] must be 0, and text is spoilt afterwards. max_base64: characters of audio
 * allowed. 0, or AS_EINVAL / AS_ENOMEM / AS_EFULL (audio too long) with the reason in error, in printable ASCII; out
 * then needs no freeing. */
int wire_binary_parse(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes);
int wire_json_parse(char *text, size_t n, size_t max_base64, wire_message *out, char *error, size_t error_bytes);
void wire_message_free(wire_message *message);

/* What AS_DIALECT_JSON sends. All return malloc'ed text (and its length in *n), or NULL without memory. Strings may be
 * anything: what is not UTF-8 becomes U+FFFD. */
typedef struct wire_start {
	const char *uuid, *stream_id, *track, *codec; /* codec: "L16" or "ULAW" */
	int rate_hz, channels;
	const char *metadata; /* a JSON object or array goes in as it is, anything else as a string; NULL: left out */
	int resumed;          /* how many times the connection was reopened; 0: left out */
	const char *auth_id, *account_id, *subaccount_id, *rate, *unit; /* stream_auth_id and friends; NULL: left out */
} wire_start;
/* {"event":"start","sequence","uuid","streamId","track","codec","rate","channels","resumed","authId","accountId",
 * "subaccountId","streamRate","streamUnit","metadata"} */
char *wire_json_start(uint64_t sequence, const wire_start *start, size_t *n);
/* {"event":"stop","sequence","streamId","reason"} */
char *wire_json_stop(uint64_t sequence, const char *stream_id, const char *reason, size_t *n);
/* {"event":"media.checkpoint","sequence","streamId","name","reached":true|false} */
char *wire_json_checkpoint(uint64_t sequence, const char *stream_id, const char *name, int reached, size_t *n);
/* {"event":"media.cleared","sequence","streamId"}: the answer to media.clear. */
char *wire_json_cleared(uint64_t sequence, const char *stream_id, size_t *n);
/* {"event":"media","sequence","streamId","audio"} into buf, no malloc, no final 0: returns its length, or 0 when it
 * does not fit (wire_json_media_bytes() always does). escaped_id: the stream id as wire_escape() gave it. */
size_t wire_json_media(char *buf, size_t bytes, uint64_t sequence, const char *escaped_id, const void *audio, size_t n);
size_t wire_json_media_bytes(const char *escaped_id, size_t n);
/* A string as the inside of a JSON string, quotes not included; malloc'ed, NULL without memory. Invalid UTF-8 becomes
 * U+FFFD. */
char *wire_escape(const char *text);

#endif
