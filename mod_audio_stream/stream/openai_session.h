/*
 * openai_session.h - what an openai_talk asks of its session, and what the server makes of it. No I/O, no threads.
 *
 * What `session.updated` states decides. A server that refuses a field of the update is asked again without the field: a
 * call's G.711 becomes PCM at 24 kHz, a voice the model's default. A server whose `session.created` has the beta's shape,
 * or that refuses the GA one's, is asked in that shape.
 *
 * Source: OpenAI Realtime API reference, session.update, session.updated, error (GA); the same of the beta, which Azure
 * and self-hosted servers still speak.
 */
#ifndef STREAM_OPENAI_SESSION_H
#define STREAM_OPENAI_SESSION_H

#include <jansson.h>
#include <stddef.h>

#define OPENAI_PCM_HZ 24000 /* the only PCM rate of the GA interface */
#define OPENAI_G711_HZ 8000
#define OPENAI_REFUSALS_MAX 16 /* fields; as many updates are sent */
#define OPENAI_FIELD_MAX 96

/* What to ask of the model. Strings must outlive the session. */
typedef struct openai_request {
	const char *model, *voice, *instructions;
	double vad_threshold;
	int vad_silence_ms, vad_prefix_ms;
	int uplink_max_ms; /* caller audio waiting for a server that does not take it; the oldest beyond is dropped */
	int rate_hz; /* 24000 for PCM, 8000 for the call's own G.711; 0 = the latter where the call has it, else the former */
} openai_request;

typedef struct openai_format {
	int encoding; /* AS_S16, AS_PCMU, AS_PCMA */
	int rate_hz;
} openai_format;

typedef struct openai_session {
	openai_request request;
	openai_format format;                                /* to ask for, both ways */
	int beta;                                            /* in the beta's shape */
	int updates;                                         /* asked so far */
	char refused[OPENAI_REFUSALS_MAX][OPENAI_FIELD_MAX]; /* fields left out, "audio.output.voice" */
	int refusals;
} openai_session;

/* Both ways, as session.updated states them. */
typedef struct openai_stated {
	openai_format in, out;
	const char *voice;   /* inside the session; the one asked for where it states none */
	const char *warning; /* what will not work as asked for; NULL */
} openai_stated;

typedef enum openai_verdict {
	OPENAI_UNRELATED, /* not about the latest update */
	OPENAI_ASK_AGAIN, /* openai_session_update() leaves out what was refused */
	OPENAI_FATAL,     /* there is nothing left to leave out */
} openai_verdict;

/* Can this rate be, on a call that speaks G.711 or not? AS_EINVAL with the reason. */
int openai_rate_check(int rate_hz, int g711, char *error, size_t bytes);
/* wire_encoding: the call's, for its own G.711. AS_EINVAL with the reason. */
int openai_session_init(openai_session *session, const openai_request *request, int wire_encoding, char *error,
						size_t bytes);
/* "audio/pcm", "audio/pcmu", "audio/pcma". */
const char *openai_format_name(openai_format format);
/* A new connection's session.created: which shape does the server speak? */
void openai_session_created(openai_session *session, const json_t *created);
/* The next session.update; NULL without memory. */
json_t *openai_session_update(openai_session *session);
/* An `error` before the session was accepted. field: what it blames, "" for nothing. */
openai_verdict openai_session_error(openai_session *session, const json_t *error, char field[OPENAI_FIELD_MAX]);
/* How long to wait before a response that failed is asked for again, in ms: as the server says ("Please try again in 1.2s"), or
 * a second; -1 when the same again would fail the same way. error: the response's. */
int openai_retry_ms(const json_t *error);
/* What session.updated states; what it does not state is as asked for. AS_EINVAL with the reason, which names it, when that
 * cannot be spoken. */
int openai_session_stated(const openai_session *session, const json_t *updated, openai_stated *out, char *error,
						  size_t bytes);

#endif
