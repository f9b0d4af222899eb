/*
 * report.h - what the application is told of one stream: events, complaints about a server, lines for its log.
 *
 * A leaf: a report knows names and a callback, and nothing of what is reported. One thread at a time; the strings go
 * to the callback and no further.
 */
#ifndef STREAM_REPORT_H
#define STREAM_REPORT_H

#include <jansson.h>

#include "audio_stream_ws.h"

/* Zeroed, then filled in by its owner; the strings are the owner's and stay. */
struct report {
	as_streamer_event on_event; /* NULL: nobody is told */
	void *arg;
	const char *uuid, *stream_id; /* go into every event */
	int suppress_log;             /* STREAM_SUPPRESS_LOG */
	int debug_json;               /* STREAM_DEBUG_JSON */
	/* report_invalid()'s. */
	int64_t invalid_ns;          /* when stream_invalid_input was fired last */
	uint64_t invalid;            /* complaints in all, */
	uint64_t invalid_unreported; /* and since that event */
};

/* Fires an event; body (taken over; NULL: empty) gets uuid, streamId and at. */
void report_event(const struct report *r, const char *name, json_t *body);
/* The same with "at" the time of something in the past; 0: now. */
void report_event_at(const struct report *r, const char *name, json_t *body, int64_t at_ns);
/* A body that is passed on as it is. */
void report_event_text(const struct report *r, const char *name, const char *body);
/* stream_invalid_input, at most once a second. */
void report_invalid(struct report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "log" for the application's log. level: "debug", "info", "warning", "error". */
void report_log(const struct report *r, const char *level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* STREAM_DEBUG_JSON: a text message, without secrets. direction: "sent", "received". */
void report_json(const struct report *r, const char *direction, const char *text, size_t n);
/* A JSON string of any bytes: what is not UTF-8 is replaced. */
json_t *report_string(const char *text);
/* Samples as milliseconds. */
static inline json_int_t report_ms(uint64_t samples, int rate_hz)
{
	return (json_int_t)(samples * 1000 / (uint64_t)rate_hz);
}

#endif
