/*
 * tap_internal.h - inside of a tap, for tap.c (beginning and end), tap_media.c, tap_read.c and tap_write.c (the media
 * threads).
 */
#ifndef FREESWITCH_TAP_INTERNAL_H
#define FREESWITCH_TAP_INTERNAL_H

#include <stdatomic.h>

#include "audio_stream_align.h"
#include "tap.h"

#define MAX_FRAME_SAMPLES 4096 /* 40 ms of 48 kHz stereo, rounded up */
#define LAST_SAMPLES 960       /* 20 ms at 48 kHz */

/* A call leg with taps: what is common to them. In the session's pool; lives as long as the session. */
typedef struct call_leg {
	switch_core_session_t *session;
	switch_mutex_t *starting;         /* taps are attached one after the other: their serials rise */
	uint32_t serials;                 /* given out; under `starting` */
	volatile switch_atomic_t taps;    /* open ones */
	volatile switch_atomic_t callers; /* of them, those that need frames to be written, see tap_read.c */
	volatile switch_atomic_t
		waiting;                    /* of those, the ones whose bugs FreeSWITCH leaves out until the call is answered */
	volatile switch_atomic_t wrote; /* set by whatever sees a frame written, cleared by the hook */
	/* The thread that reads: the hook, then the taps' READ callbacks for the same frame. */
	switch_bool_t filler;  /* the frame is FreeSWITCH's, not the caller's */
	switch_bool_t has_seq; /* seq is valid */
	uint16_t seq;          /* of the caller's last packet */
	uint32_t lost;         /* packets missing before it */
	uint32_t idle_us;      /* time read since anybody else wrote */
	uint32_t owed_us;      /* time read for which we have not written yet */
	switch_codec_t codec;
	uint32_t codec_rate, codec_us;
	int codec_channels;
	switch_bool_t codec_failed;
	/* The thread that writes. */
	uint32_t last_serial; /* of the tap that was last given a frame to inject into */
	switch_bool_t owned;  /* that frame has something injected in it */
} call_leg_t;

typedef struct audio_tap audio_tap_t;

/* One of a tap's media bugs. */
typedef struct tap_bug {
	audio_tap_t *tap;
	switch_media_bug_t *bug; /* NULL: the tap has none here, or not yet */
} tap_bug_t;

struct audio_tap {
	as_stream *stream;
	call_leg_t *leg;
	tap_bug_t head;     /* among the first in the call's list: reads what the caller says, injects */
	tap_bug_t tail;     /* behind all that inject: sees what is written in the end */
	_Atomic int owners; /* bugs that are attached, and commands at work on it; the last one to leave ends it */
	const char *id;     /* the stream's */
	const char *source;
	const char *reason;      /* why it was stopped, when somebody said; written with `stopping` */
	switch_bool_t stopping;  /* no bug is to be added any more; under the leg's `starting` */
	switch_bool_t announced; /* stream_started has been fired; written by an owner before it leaves */
	switch_bool_t calls;     /* counted in leg->callers */
	switch_bool_t waits;     /* counted in leg->waiting */
	int rate_hz;             /* the stream's */
	uint32_t serial;         /* of the call's taps, in the order in which they were started */
	tap_track track;
	as_align *line;     /* of a track with both directions */
	_Atomic int taking; /* a thread takes from the line: publishes what the last one has captured */
	/* The thread that reads. */
	uint32_t fillers; /* held back */
	uint32_t last_samples;
	int16_t last[LAST_SAMPLES]; /* the caller's last frame, or its beginning */
	/* The rest only where the call's rate is not the stream's. */
	switch_audio_resampler_t *said;   /* caller to stream; thread that reads */
	switch_audio_resampler_t *heard;  /* what is written, to stream; thread that writes */
	switch_audio_resampler_t *inject; /* stream to caller; thread that writes */
	int16_t *left_over;               /* MAX_FRAME_SAMPLES: resampled, not yet played; thread that writes */
	uint32_t left_over_samples;
	audio_tap_t *next; /* under the taps' mutex */
};

/* The sum of two samples, as far as a sample can hold it. */
static inline int16_t tap_mixed(int16_t a, int16_t b)
{
	int32_t sum = (int32_t)a + b;
	return (int16_t)(sum > INT16_MAX ? INT16_MAX : sum < INT16_MIN ? INT16_MIN : sum);
}

/* Why a start fails: into error, in what's words. Returns status. */
static inline switch_status_t tap_refuse(char *error, size_t bytes, switch_status_t status, const char *format,
										 const char *what)
{
	switch_snprintf(error, bytes, format, what);
	return status;
}

/* ---- tap_media.c ---------------------------------------------------------------------------------------------------- */

/* Any thread. Whether frames written now are audio to the far end: not where the call's media bypasses FreeSWITCH, is
 * proxied, or is T.38. */
switch_bool_t tap_has_audio(switch_core_session_t *session);

/* A command. SWITCH_STATUS_SUCCESS: the call has media, or early media was brought up. Else error has the reason, and nothing has
 * changed. */
switch_status_t tap_ask_for_media(switch_core_session_t *session, char *error, size_t bytes);
/* A command. Why as_stream_create() refused: of a request that has been checked, that is the call's codec. */
switch_status_t tap_not_opened(switch_core_session_t *session, int result, char *error, size_t bytes);

/* ---- tap_read.c: the thread that reads the call's frames ----------------------------------------------------------- */

/* The hook on frame reading, while the call has taps. */
void tap_hook(call_leg_t *leg, const switch_frame_t *frame);
/* READ: takes the caller's frames from the head bug. */
void tap_on_read(audio_tap_t *tap);
/* Either media thread. n samples of one direction, mono, at a rate, into the stream. */
void tap_store(audio_tap_t *tap, int side, int16_t *samples, uint32_t n, int rate);
/* The tap's end, when no media thread has it any more: what is still on its way goes into the stream. */
void tap_drain(audio_tap_t *tap);
/* Either media thread. Interleaved channels to mono, in place. Returns samples_per_channel. */
uint32_t tap_downmix(int16_t *samples, uint32_t samples_per_channel, uint32_t channels);
/* Either media thread. The resampler between two rates, made when it is first needed. NULL without memory. */
switch_audio_resampler_t *tap_resampler(switch_audio_resampler_t **resampler, int from_hz, int to_hz);

/* ---- tap_write.c: the thread that writes --------------------------------------------------------------------------- */

/* WRITE_REPLACE of the head bug: injects. */
void tap_on_inject(audio_tap_t *tap);
/* WRITE of the tail bug, and its WRITE_REPLACE. */
void tap_on_heard(audio_tap_t *tap);
void tap_on_heard_frame(audio_tap_t *tap);

#endif
