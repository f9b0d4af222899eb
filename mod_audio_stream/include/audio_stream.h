/*
 * audio_stream.h - one call leg's audio between whoever owns the clock and whoever talks.
 *
 *     host (owns the 20 ms clock)            stream                 application (owns the talk)
 *     as_host_capture() ── capture ring, 1 producer 1 consumer ──▶  as_capture_read()
 *     as_host_inject()  ◀─ inject queue, 1 producer 1 consumer ──   as_inject_write()
 *
 * Threads. Host functions belong to the media thread(s): they never lock, allocate or wait. At most one thread captures
 * and one injects at a time (they may be two threads). Application functions may be called from any thread but the media
 * thread: as_inject_* serialise themselves on a lock that no host function takes; as_capture_read() admits one reader at
 * a time. Lifecycle functions are safe from any thread but the media thread.
 *
 * Units. A sample is one s16 sample at the host's rate unless a name says otherwise; samples are counted per channel.
 * Captured audio may be stereo, interleaved (as_config.channels); injected audio is mono. Times are CLOCK_MONOTONIC
 * nanoseconds. Errors are negative (AS_E*); as_strerror() says what they mean.
 *
 * The part between the two "cffi" lines is read as it stands by the Python binding: declarations and integer #defines only.
 */
#ifndef AUDIO_STREAM_H
#define AUDIO_STREAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* cffi: begin */

/* Version of this interface; the shared library's soname carries the major number. */
#define AS_VERSION_MAJOR 1
#define AS_VERSION_MINOR 0

#define AS_ECLOSED -1 /* the stream has been closed by either end */
#define AS_EINVAL -2  /* an argument is out of range */
#define AS_ENOMEM -3  /* out of memory */
#define AS_EFULL -4   /* the inject queue is at its bound: nothing was written */
#define AS_ESTALE -5  /* the audio belongs to a flushed generation: dropped and counted */
#define AS_EEXIST -6  /* a stream with this (uuid, id) is open already */
#define AS_ENOENT -7  /* no such stream, or no such mark */
#define AS_EBUSY -8   /* another thread is reading */

#define AS_S16 1  /* signed 16-bit, host byte order, 8000/16000/24000/32000/44100/48000 Hz and any rate in between */
#define AS_PCMU 2 /* ITU-T G.711 mu-law, 8000 Hz */
#define AS_PCMA 3 /* ITU-T G.711 A-law, 8000 Hz */

#define AS_RATE_MIN_HZ 8000
#define AS_RATE_MAX_HZ 48000
#define AS_TELL_MAX 4096 /* bytes in what as_stream_tell() takes */
#define AS_NAME_MAX 128  /* bytes in a uuid or a stream id, final NUL included */

#define AS_CAPTURE 1 /* host to application: what the caller says, unless the host captures something else */
#define AS_INJECT 2  /* application to caller */

/* Mark flags. */
#define AS_MARK_ENDED 1    /* as_inject_end() has been called: nothing more will be written */
#define AS_MARK_FINISHED 2 /* ended, and the last sample has been played */
#define AS_MARK_FLUSHED 4  /* some of it was thrown away by a flush */

typedef struct as_stream as_stream;

/* What the host knows when it opens a stream. Zero means the default. */
typedef struct as_config {
	int rate_hz;       /* of the host's samples; required */
	int channels;      /* of what is captured: 1 (the default), or 2, interleaved */
	int app_rate_hz;   /* rate the application was asked to use; 0 = rate_hz */
	int wire_encoding; /* AS_PCMU or AS_PCMA when the call's codec is G.711, else AS_S16 (the default) */
	int frame_ms;      /* the host's tick, 5..120; default 20 */
	int capture_ms;    /* capture ring, default 30000; memory is only touched as far as the reader lags */
	int inject_max_ms; /* bound of the inject queue, default 600000 (10 minutes) */
	int prebuffer_ms;  /* audio to hold before an utterance starts to play; default 0 */
	int fade_ms;       /* fade-out of a flush or pause, 1..100; default 10 */
	int behind_ms;     /* how long the host holds audio before it captures it, 0..1000; default 0 */
} as_config;

typedef struct as_info {
	char uuid[AS_NAME_MAX];
	char id[AS_NAME_MAX];
	int rate_hz;
	int channels; /* of what is captured */
	int app_rate_hz;
	int wire_encoding;
	int frame_ms;
	int behind_ms;
	int closed; /* 0 while open */
} as_info;

/* One utterance (response item) in the inject queue. Counts are samples at the host's rate. */
typedef struct as_mark {
	uint64_t id;
	uint64_t written;    /* samples queued under this mark */
	uint64_t played;     /* samples the host has taken */
	int64_t started_ns;  /* when the first sample was taken; 0 = not yet */
	int64_t finished_ns; /* when the last sample was taken, once AS_MARK_FINISHED; else 0 */
	int flags;           /* AS_MARK_* */
} as_mark;

typedef struct as_stats {
	/* capture: a consistent snapshot of the media thread's counters */
	uint64_t capture_samples;           /* stored for the reader */
	uint64_t capture_dropped_samples;   /* lost because the ring was full */
	uint64_t capture_overruns;          /* times that happened */
	uint64_t capture_paused_samples;    /* not stored because capture was paused */
	uint64_t capture_ticks;             /* host calls */
	uint64_t capture_read_samples;      /* taken by the reader */
	uint64_t capture_discarded_samples; /* thrown away by as_capture_discard() */
	uint64_t capture_active_samples;    /* position just after the last frame that sounded like speech */
	int64_t capture_last_ns;            /* time of the last host call */
	int capture_active;                 /* speech now or within the hang-over */
	/* inject: a consistent snapshot of the media thread's counters */
	uint64_t inject_played_samples;   /* heard, fades included */
	uint64_t inject_flushed_samples;  /* thrown away by flushes */
	uint64_t inject_underruns;        /* times an unfinished utterance ran dry and went on */
	uint64_t inject_underrun_samples; /* silence played in its place */
	uint64_t inject_ticks;            /* host calls */
	int64_t inject_last_ns;
	int inject_playing;
	/* inject: the application's side */
	uint64_t inject_written_samples;
	uint64_t inject_queued_samples; /* written, not yet played or flushed */
	uint64_t inject_full_writes;    /* writes refused with AS_EFULL */
	uint64_t inject_full_bytes;
	uint64_t inject_stale_writes; /* writes dropped with AS_ESTALE */
	uint64_t inject_stale_bytes;
	uint64_t inject_flushes;
	uint32_t inject_generation;
	int capture_paused;
	int inject_paused;
	/* as_stream_tell() */
	uint64_t host_events;         /* told to who has subscribed */
	uint64_t host_events_dropped; /* not told: too many waited already, or out of memory */
} as_stats;

/* ---- Lifecycle: any thread but the media thread ---------------------------------------------------------------- */

/* What as_stream_create() refuses a configuration for: 0, or AS_EINVAL with the reason in words for a call's owner. */
int as_config_check(const as_config *config, char *error, size_t bytes);
/* Opens a stream under (uuid, id) and gives the caller one reference. AS_EINVAL, AS_EEXIST, AS_ENOMEM. */
int as_stream_create(const char *uuid, const char *id, const as_config *config, as_stream **out);
/* Finds an open stream and takes a reference; waits up to timeout_ms for it to appear. AS_ENOENT. */
int as_stream_find(const char *uuid, const char *id, int timeout_ms, as_stream **out);
as_stream *as_stream_ref(as_stream *stream);
/* Gives a reference back; the last one frees. NULL is allowed. */
void as_stream_unref(as_stream *stream);
/* Closes: leaves the registry, wakes readers, makes every later write fail with AS_ECLOSED. Idempotent. */
void as_stream_close(as_stream *stream);
int as_stream_closed(const as_stream *stream);
void as_stream_info(const as_stream *stream, as_info *out);
/* Copies up to max descriptions of open streams (those of uuid, or all when NULL); returns how many there are. */
int as_stream_list(const char *uuid, as_info *out, int max);
/* A snapshot; the capture and the inject group are each consistent in themselves. */
void as_stream_stats(as_stream *stream, as_stats *out);
/* directions: AS_CAPTURE, AS_INJECT or both. Paused capture is dropped (and counted); paused inject keeps its place. */
int as_stream_pause(as_stream *stream, int directions);
int as_stream_resume(as_stream *stream, int directions);

/* ---- Host side: the media thread ------------------------------------------------------------------------------- */

/* Gives n samples per channel, interleaved when there are two. Returns how many were stored, also per channel (fewer: the
 * ring was full, or capture is paused). */
size_t as_host_capture(as_stream *stream, const int16_t *samples, size_t n);
/* Overwrites samples[0..n) with what the application says. Returns n when the frame now belongs to the application,
 * 0 when it has nothing to say and the frame was left as it was. */
size_t as_host_inject(as_stream *stream, int16_t *samples, size_t n);

/* Any thread: tells whoever has subscribed to the stream (as_stream_subscribe()) what the host has seen, as a JSON object of
 * at most AS_TELL_MAX bytes. It is copied, under locks that are held for moments and never while somebody waits; so once
 * in a while the media thread may do it, too. 0; AS_ENOENT: nobody has subscribed; AS_EFULL: 64 KiB wait already, and it is
 * dropped and counted; AS_ECLOSED, AS_EINVAL, AS_ENOMEM. The host's events:
 *   {"type":"host.dtmf","digit":"5","duration_ms":100}     a key, 0-9 * # A-D (F: hook flash)
 *   {"type":"host.hold"}, {"type":"host.unhold"}           the far end holds the call, and takes it back
 *   {"type":"host.bridged","other_uuid":"..."}, {"type":"host.unbridged"}     with another leg
 *   {"type":"host.unloaded"}                               mod_audio_stream is unloaded: the stream is closed next */
int as_stream_tell(as_stream *stream, const char *json);
/* The same, for all streams of a call. Returns how many were told. */
int as_call_tell(const char *uuid, const char *json);

/* ---- Application side: capture --------------------------------------------------------------------------------- */

/* How the reader wants its audio: format, and how much at a time while the caller speaks (and for hang_ms after) and in
 * silence. Larger chunks in silence cost less; speech cuts a long wait short. AS_EINVAL, AS_ENOMEM, or AS_EBUSY while
 * another thread reads. May be called again, for the same reader or the next one: what has been captured and not read
 * comes in the new format, nothing lost or twice. Only a change of rate_hz loses what the resampler holds, up to 10 ms. */
int as_capture_setup(as_stream *stream, int encoding, int rate_hz, int chunk_ms, int quiet_chunk_ms, int hang_ms);
/* Whether as_capture_setup() takes these: 0 or AS_EINVAL. */
int as_capture_check(int encoding, int rate_hz, int chunk_ms, int quiet_chunk_ms, int hang_ms);
/* Waits for the next chunk and converts it into buf. Returns bytes (whole samples of all channels), 0 after timeout_ms
 * without a chunk, AS_ECLOSED once the stream is closed and everything captured has been read, AS_EBUSY beside another
 * reader, AS_EINVAL for a buffer too small to convert into (10 ms is enough). With timeout_ms 0 it only looks: chunks are
 * as large as otherwise, and neither this nor the media thread makes a system call. */
long as_capture_read(as_stream *stream, void *buf, size_t bytes, int timeout_ms);
/* Samples waiting to be read, a whole chunk or not. AS_ECLOSED once the stream is closed and there are none; what
 * as_capture_read() still holds in its resampler does not count. */
long as_capture_ready(as_stream *stream);
/* For a reader that must not fall behind: throws away the oldest waiting samples until at most `keep` are left. Returns
 * how many; 0 beside another reader. */
size_t as_capture_discard(as_stream *stream, size_t keep);

/* ---- Application side: inject ---------------------------------------------------------------------------------- */

/* Queues audio under a mark (any number the application likes; one per response item). All of it or none.
 * generation: what as_inject_generation() said when the response began; 0 means now. Splits anywhere, even inside a
 * sample: the odd byte is kept for the mark's next write. Returns bytes, or AS_ECLOSED, AS_EFULL (inject_max_ms; 65,536
 * marks that are not over, or as many changes from one to another), AS_ESTALE, AS_EINVAL, AS_ENOMEM. */
long as_inject_write(as_stream *stream, uint64_t mark, uint32_t generation, int encoding, int rate_hz, const void *data,
					 size_t bytes);
/* Says that a mark is complete: its tail leaves the resampler, also where the queue is full, and running dry is no longer an
 * underrun. AS_ECLOSED; AS_EFULL, AS_ENOMEM for a mark that nothing was ever written of. */
int as_inject_end(as_stream *stream, uint64_t mark);
/* Throws away everything queued (what is playing fades out) and starts a new generation, which it returns (> 0).
 * The marks that were cut short, oldest first, go to marks[0..max) with exactly what was and will have been played of
 * them; *count says how many there were. */
long as_inject_flush(as_stream *stream, as_mark *marks, int max, int *count);
uint32_t as_inject_generation(const as_stream *stream);
/* Where a mark stands. AS_ENOENT for one never written, or finished more than 64 marks ago. */
int as_inject_mark(as_stream *stream, uint64_t mark, as_mark *out);
int as_inject_prebuffer(as_stream *stream, int prebuffer_ms);

/* ---- Tools ----------------------------------------------------------------------------------------------------- */

/* ITU-T G.711, one byte per sample. Buffers must not overlap. */
void as_pcmu_encode(const int16_t *in, uint8_t *out, size_t n);
void as_pcma_encode(const int16_t *in, uint8_t *out, size_t n);
void as_pcmu_decode(const uint8_t *in, int16_t *out, size_t n);
void as_pcma_decode(const uint8_t *in, int16_t *out, size_t n);
const char *as_strerror(int error);
/* The file this library was loaded from; two different answers in one process mean two registries. */
const char *as_library_path(void);
int64_t as_now_ns(void);
/* What servers can make this process hold, over all streams and connections: audio queued or held back, and events that wait.
 * What would go beyond it is refused with AS_ENOMEM, but for the first 64 KB of each. 512 MB unless it has been set. AS_EINVAL
 * outside 1..1048576. */
int as_memory_limit(int megabytes);
long as_memory_used(void); /* bytes */

/* cffi: end */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
