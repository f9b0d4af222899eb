/*
 * openai_talk.h - an OpenAI Realtime conversation that needs no application: what `openai_start` holds.
 *
 * Messages in, messages and events out; the audio goes through realtime_audio.h. The caller is heard, and the model, from
 * session.updated on, in the formats that it states (openai_session.h): what the server says before is not played. The server decides whose turn it is and
 * cancels its own responses. When the caller begins to speak, what is queued is thrown away, and the server is told to the
 * millisecond what they heard of it.
 *
 * Everything here runs on the actor's service thread. Source: OpenAI Realtime API reference (GA).
 */
#ifndef STREAM_OPENAI_TALK_H
#define STREAM_OPENAI_TALK_H

#include <jansson.h>

#include "openai_session.h"
#include "realtime_audio.h"

typedef struct openai_talk openai_talk;

/* Where what it says goes. */
typedef struct openai_outlets {
	void *arg;
	void (*send)(void *arg, const char *text, size_t n);      /* to the server */
	void (*event)(void *arg, const char *name, json_t *body); /* openai_*; body is borrowed */
	void (*finish)(void *arg, const char *reason);            /* there is nothing more to be had from this server */
} openai_outlets;

/* Sets the stream's capture up. AS_EINVAL with the reason in error, AS_ENOMEM. Takes a reference to the stream. */
int openai_talk_new(as_stream *stream, const openai_request *request, const openai_outlets *outlets, char *error,
					size_t bytes, openai_talk **out);
void openai_talk_free(openai_talk *talk); /* NULL is allowed */
/* A new connection: the server knows nothing of what was said over the last one, and has until then to accept a session. */
void openai_talk_restart(openai_talk *talk, int64_t deadline_ns);
/* From now on nothing is played, flushed or sent; events go on. */
void openai_talk_silence(openai_talk *talk);
/* A text message from the server; text[n] must be 0. */
void openai_talk_message(openai_talk *talk, char *text, size_t n);
/* Sends what the caller says, once the server has accepted the session; finishes when it has not in time. */
void openai_talk_pump(openai_talk *talk, ws_actor *actor, int64_t now_ns);
/* For its counters. */
const rt_audio *openai_talk_audio(const openai_talk *talk);

#endif
