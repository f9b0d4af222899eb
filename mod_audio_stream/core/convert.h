/*
 * convert.h - between an application's format and the host's s16 samples, on the application's thread.
 *
 * Nothing is converted where nothing differs: equal rates skip the resampler, s16 skips G.711. Resampling is speexdsp
 * quality 7, with its leading silence skipped on the way in and its tail drained at the end of an utterance, so that an
 * utterance keeps its length. A converter belongs to one thread at a time. All counts are samples per channel; channels
 * are interleaved.
 */
#ifndef AS_CONVERT_H
#define AS_CONVERT_H

#include <stddef.h>
#include <stdint.h>

typedef struct as_convert as_convert;

/* Where converted samples or bytes go; called with at most AS_CONVERT_CHUNK samples at a time. 0 or an AS_E* to stop. */
typedef int (*as_convert_sink)(void *arg, const int16_t *samples, size_t n);

#define AS_CONVERT_CHUNK 1024

/* 0 when an application may use this format. */
int as_format_check(int encoding, int rate_hz);
size_t as_format_bytes_per_sample(int encoding);

#define AS_CONVERT_CHANNELS 2 /* at most */

/* AS_EINVAL, AS_ENOMEM. */
int as_convert_new(int from_rate_hz, int to_rate_hz, int channels, as_convert **out);
void as_convert_free(as_convert *convert);
int as_convert_from_rate(const as_convert *convert);
/* Input samples whose output is still inside the resampler, in output samples. */
size_t as_convert_held(const as_convert *convert);
/* The most output samples that n input samples and the tail can give. */
size_t as_convert_bound(const as_convert *convert, size_t n);
/* Resamples n samples into the sink. */
int as_convert_push(as_convert *convert, const int16_t *in, size_t n, as_convert_sink sink, void *arg);
/* Gives the sink what is still held, then starts afresh. */
int as_convert_drain(as_convert *convert, as_convert_sink sink, void *arg);

#endif
