/*
 * realtime_wire.h - OpenAI Realtime messages, as far as audio needs them. No I/O, no state, no threads.
 *
 * A message is looked at once, for its type and its ids (json_members.h); whether the rest is JSON is for the reader of
 * an event to say. GA names and the beta ones that Azure and self-hosted servers still use are the same here.
 *
 * Source: OpenAI Realtime API reference, server events and input_audio_buffer.append.
 */
#ifndef WIRE_REALTIME_WIRE_H
#define WIRE_REALTIME_WIRE_H

#include <stddef.h>

#define RT_TYPE_MAX 128
#define RT_ID_MAX 1024 /* OpenAI's are 20 to 30 characters long; some gateways put several into one */

typedef enum rt_kind {
	RT_OTHER,       /* a JSON object of no interest here */
	RT_AUDIO_DELTA, /* response.output_audio.delta */
	RT_AUDIO_DONE,  /* response.output_audio.done */
	RT_RESPONSE_CREATED,
	RT_RESPONSE_DONE,
	RT_SPEECH_STARTED,
	RT_SPEECH_STOPPED,
	RT_SESSION_CREATED,
	RT_SESSION_UPDATED,
	RT_ERROR,
} rt_kind;

typedef struct rt_message {
	rt_kind kind;
	char type[RT_TYPE_MAX];
	char response_id[RT_ID_MAX]; /* "" when there is none, or it is too long to be one */
	char item_id[RT_ID_MAX];
	char event_id[RT_ID_MAX];
	char *base64; /* RT_AUDIO_DELTA: inside the text; may be empty */
	size_t base64_length;
} rt_message;

/* Reads a message of n bytes. The text is not changed. 0; AS_EINVAL when it cannot be a JSON object with a type, has a
 * name spelt with escapes, or is audio without its ids; AS_EFULL for audio with an id of RT_ID_MAX characters or more. */
int rt_parse(char *text, size_t n, rt_message *out);
/* What to say of a message that rt_parse() returned an error for. */
const char *rt_complaint(int error);

/* input_audio_buffer.append around n bytes of audio; buf needs rt_append_bytes(n). Returns its length. */
size_t rt_append_bytes(size_t n);
size_t rt_append(char *buf, const void *audio, size_t n);

#endif
