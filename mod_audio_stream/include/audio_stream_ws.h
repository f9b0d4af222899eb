/*
 * audio_stream_ws.h - streams that talk to WebSocket servers, without their audio passing through the application.
 *
 *     a streamer    sends a stream's capture to a server and plays what it sends, in one of two wire dialects
 *     a realtime    the audio half of an OpenAI Realtime conversation; events go to and come from the application
 *
 * Both run on the library's few service threads (net/loop.h); the functions here may be called from any other thread and
 * never wait for the network, as_events_recv() excepted. Callbacks come on a service thread and must be quick.
 *
 * The part between the two "cffi" lines is read as it stands by the Python binding: declarations and integer #defines only.
 */
#ifndef AUDIO_STREAM_WS_H
#define AUDIO_STREAM_WS_H

#include "audio_stream.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* cffi: begin */

/* ---- Options: everything a channel variable, an environment variable or audio_stream.conf.xml can set --------------- */

typedef struct as_options as_options;

/* All at their defaults. AS_ENOMEM. */
int as_options_new(as_options **out);
int as_options_copy(const as_options *options, as_options **out);
void as_options_free(as_options *options); /* NULL is allowed */
/* Sets one by any of its names, whatever the case. AS_ENOENT: no such option; AS_EINVAL: not a value for it; error says
 * what is wrong and what would be right, and the option keeps its value (but allow-hosts, which then allows no host). */
int as_options_set(as_options *options, const char *name, const char *value, char *error, size_t bytes);
/* The value of an option that is a whole number (0 or 1 for false and true), by any of its names; 0 for others. */
long as_options_number(const as_options *options, const char *name);
/* The i-th option's names as a channel variable, in the environment, in audio_stream.conf.xml; "" where it has none,
 * NULL past the end. */
const char *as_option_variable(int i);
const char *as_option_env(int i);
const char *as_option_param(int i);
/* Is it any option's name, of one whose value is never shown: a key, a password, a URL, headers? */
int as_option_is_secret(const char *name);
/* Is this the option's name? Whatever the case; - and _ are the same. */
int as_option_is(const char *option, const char *name);

/* ---- Streamers ------------------------------------------------------------------------------------------------- */

#define AS_DIALECT_BINARY 1 /* binary frames and streamAudio (`start <ws-uri> mono|mixed|stereo ...`) */
#define AS_DIALECT_JSON 2   /* start/media/stop and media.* (`<stream_id> start <wss_url> inbound|outbound|both ...`) */
#define AS_DIALECT_OPENAI 3 /* an OpenAI Realtime conversation of its own (`openai_start`) */

typedef struct as_streamer as_streamer;

/* What one start command asks for. Strings may be NULL; in what servers are told, bytes that are not UTF-8 are replaced by
 * U+FFFD. */
typedef struct as_streamer_start {
	int dialect; /* AS_DIALECT_* */
	const char *url;
	const char *track;    /* as it was said: inbound, outbound, both, mono, mixed, stereo; told to the server */
	int rate_hz;          /* of what is sent; 0 = the call's */
	int timeout_s;        /* AS_DIALECT_JSON: to connect; 0 = the option's, -1 = none */
	int bidirectional;    /* the server may play; else its audio is refused. AS_DIALECT_OPENAI always may */
	const char *metadata; /* AS_DIALECT_BINARY: the first text message; AS_DIALECT_JSON: in "start" */
	const char *voice, *instructions, *api_key, *model; /* AS_DIALECT_OPENAI; NULL = the option's */
} as_streamer_start;

/* name: without "mod_audio_stream::"; body: JSON, but for "json", which is the server's text as it came and may be none; UTF-8
 * in any case. The strings are gone after the callback. */
typedef void (*as_streamer_event)(void *arg, const char *name, const char *body);
/* The streamer's last word: it has finished, nothing of it will be heard again, and the stream may be closed. */
typedef void (*as_streamer_finished)(void *arg, const char *reason);

/* Everything as_streamer_new() would refuse this for that can be known without a stream: AS_EINVAL with the reason in error,
 * AS_ENOMEM. Does nothing else. options may be NULL: all at their defaults. */
int as_streamer_check(const as_streamer_start *start, const as_options *options, char *error, size_t bytes);
/* Starts talking about a stream, which the streamer keeps a reference to and does not close. Returns before it is
 * connected. AS_EINVAL with the reason in error, AS_ENOMEM. The caller gets one reference. */
int as_streamer_new(as_stream *stream, const as_streamer_start *start, const as_options *options,
					as_streamer_event on_event, as_streamer_finished on_finished, void *arg, char *error, size_t bytes,
					as_streamer **out);
as_streamer *as_streamer_ref(as_streamer *streamer);
void as_streamer_unref(as_streamer *streamer);
/* Sends a text message as it is, bytes that are not UTF-8 replaced by U+FFFD; kept until the connection is open. AS_ECLOSED
 * when nothing is sent any more, AS_EFULL. */
int as_streamer_send_text(as_streamer *streamer, const char *text);
/* Ends it: tells the server, closes, finishes. graceful: what has been captured is sent, and what is queued for the caller
 * is played, first. text: the reason (AS_DIALECT_BINARY also sends it as a last text message). Idempotent. */
void as_streamer_stop(as_streamer *streamer, const char *text, int graceful);
/* Connection and counters as one JSON object, cut to fit (bytes >= 64). Returns its length. */
size_t as_streamer_describe(as_streamer *streamer, char *json, size_t bytes);

/* ---- Realtime: the native transport ------------------------------------------------------------------------------ */

typedef struct as_realtime as_realtime;
typedef struct as_events as_events;

#define AS_RT_CONNECTING 0
#define AS_RT_OPEN 1
#define AS_RT_CLOSED 2

/* Why a connection has ended, or never was. */
#define AS_WHY_CLOSED 1   /* the server sent CLOSE, or we did */
#define AS_WHY_LOST 2     /* the connection broke */
#define AS_WHY_SILENT 3   /* no answer to a ping */
#define AS_WHY_TOO_BIG 4  /* a message was longer than allowed */
#define AS_WHY_RESOLVE 5  /* never opened: no address */
#define AS_WHY_CONNECT 6  /* never opened: refused, unreachable */
#define AS_WHY_TLS 7      /* never opened: the certificate, or TLS itself */
#define AS_WHY_HTTP 8     /* never opened: the server answered HTTP with another status than 101 */
#define AS_WHY_TIMEOUT 9  /* never opened: not in time */
#define AS_WHY_OPTIONS 10 /* never opened: an unreadable file, a bad header */

/* How to reach the server. Strings may be NULL; headers: "Name: value" lines, each followed by "\n". events: the types
 * that the application wants to have, each followed by "\n", in the server's own words; NULL = all. 0 = the default. */
typedef struct as_realtime_config {
	const char *url;
	const char *headers;
	const char *ca_file;
	const char *events;
	int connect_timeout_ms; /* 5000 */
	int ping_interval_ms;   /* 0 = never */
	int ping_timeout_ms;    /* 5000 */
	long max_message_bytes; /* 16 MiB */
	int uplink_max_ms; /* caller audio waiting for a server that does not read; the oldest beyond is dropped: 5000 */
} as_realtime_config;

/* The audio's formats, and how it is cut: as in as_capture_setup(). */
typedef struct as_realtime_audio {
	int in_encoding, in_rate_hz;   /* caller to model */
	int out_encoding, out_rate_hz; /* model to caller */
	int chunk_ms, quiet_chunk_ms, hang_ms;
} as_realtime_audio;

typedef struct as_realtime_info {
	int state;       /* AS_RT_* */
	int close_code;  /* once closed: RFC 6455, 1006 when there was none */
	int why;         /* once closed: AS_WHY_* */
	int http_status; /* of a refused handshake; else 0 */
	char reason[256];
	int64_t last_received_ns;
	uint64_t dropped_samples; /* uplink audio thrown away because the server did not read */
	uint64_t appends;         /* input_audio_buffer.append messages sent */
	uint64_t deltas;          /* audio deltas received */
	uint64_t bad_messages;    /* neither audio nor a JSON object, or an event of more than 1 MiB */
	uint64_t full_deltas;     /* audio deltas the inject queue had no room for */
	uint64_t repeated_deltas; /* audio deltas that had come before, with the same event_id: not heard again */
	int passing; /* never opened, and trying again in a moment may help: lost, 408, 429, 5xx, not in time */
	int refused; /* never opened: an address said that nobody listens there */
} as_realtime_info;

/* Where the events of any number of connections come together, for one thread. AS_ENOMEM. */
int as_events_new(as_events **out);
/* After as_events_end(), when nobody waits any more, and all its connections and streams are closed. NULL is allowed. */
void as_events_free(as_events *events);
/* Wakes who waits; as_events_recv() gives AS_ECLOSED once everything has been taken. Idempotent. */
void as_events_end(as_events *events);
/* Waits for the next event and copies its JSON text; *tag says which connection's. Returns its bytes; when that is more
 * than `bytes` nothing was copied and the event waits. 0 after timeout_ms. One thread at a time, which has dealt with an
 * event by the time it asks for the next one: a flush for a speech_started, above all. Events are the server's but audio,
 * those of more than 1 MiB and those that are not wanted, and
 *   {"type":"transport.open"}        the first of a connection
 *   {"type":"transport.closed"}      the last of it, also when it never opened: see as_realtime_get_info()
 *   {"type":"transport.audio","response_id","item_id","mark","generation","first"}
 *       an item's audio is being queued: at its first delta, then at most once a second. generation is what it is queued
 *       under; 0 while it is held back for as_realtime_route(), because the caller was speaking when the response began
 *   {"type":"transport.complaint","about","message"}   what was wrong with the server's audio; of each kind one a second
 * A connection is ended, as_realtime_get_info() says why, when 32 MB of the server's events wait, or 1 MB of
 * transport.audio (some 3,000 items), or when more than 1,000 messages within 10 s could not be used.
 * and what as_stream_subscribe() adds. */
long as_events_recv(as_events *events, char *text, size_t bytes, int timeout_ms, uint64_t *tag);

/* Has what the host sees of the stream's call (as_stream_tell()) among the events, with this tag, in order with those of
 * connections. Once for each stream, AS_EEXIST after that; events NULL: no more. When the stream is closed, by either end,
 * the last one is {"type":"host.closed"}; `events` must live until then. AS_ECLOSED, AS_ENOMEM. */
int as_stream_subscribe(as_stream *stream, as_events *events, uint64_t tag);

/* Starts to connect; events get this tag. AS_EINVAL, AS_ENOMEM. The caller gets one reference. */
int as_realtime_new(const as_realtime_config *config, as_events *events, uint64_t tag, as_realtime **out);
as_realtime *as_realtime_ref(as_realtime *realtime);
void as_realtime_unref(as_realtime *realtime);
/* Joins it to a stream: from now on the model's audio is queued there. Takes a reference. Once; AS_EBUSY after that,
 * AS_EINVAL for a format or a stream of two channels, AS_ECLOSED. Any number of connections may be joined to a stream; one
 * of them listens at a time. */
int as_realtime_attach(as_realtime *realtime, as_stream *stream, const as_realtime_audio *audio);
/* From now on the caller is heard, beginning with what has been captured already and nobody has read. After
 * as_realtime_attach(), and after the events that must reach the server before any audio. The stream's capture is set up
 * as attach said, see as_capture_setup(). AS_EINVAL, AS_ECLOSED, AS_ENOMEM. */
int as_realtime_listen(as_realtime *realtime);
/* Sends what the caller has said to another connection, open or closed, since their last turn began, when no answer to
 * that has begun: up to 30 s, and half a second before it. In the same format only. After as_realtime_attach() and before
 * as_realtime_listen(). AS_ECLOSED, AS_ENOMEM. */
int as_realtime_resend(as_realtime *realtime, as_realtime *from);
/* Ends that, while the connection stays and its audio is still queued. Once it has returned this connection neither reads
 * nor drops anything of the stream's capture: another one that listens goes on with the next sample. What was read before
 * is on its way to this server. Waits for a read that is under way, well under a millisecond. as_realtime_listen() may follow. */
void as_realtime_unlisten(as_realtime *realtime);
/* Queues an event for the server. AS_ECLOSED, AS_ENOMEM. */
int as_realtime_send(as_realtime *realtime, const char *text, size_t bytes);
/* What becomes of a response's audio: queued under this generation, or dropped (0). */
int as_realtime_route(as_realtime *realtime, const char *response_id, uint32_t generation);
/* Says goodbye, waiting up to timeout_ms for the server's answer (not here: transport.closed says when). 0: at once. */
void as_realtime_close(as_realtime *realtime, int code, int timeout_ms);
void as_realtime_get_info(as_realtime *realtime, as_realtime_info *out);

/* ---- The service threads ----------------------------------------------------------------------------------------- */

/* How many from the next start on, 1..16. AS_EINVAL. */
int as_ws_threads(int threads);
/* From now on all connections of the process, whoever makes them, go only where the option allow-hosts says. AS_ENOMEM:
 * nowhere. */
int as_ws_allow_hosts(const as_options *options);
/* Ends them, dropping what is still connected. Waits. They start again when they are needed. */
void as_ws_stop(void);

/* cffi: end */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
