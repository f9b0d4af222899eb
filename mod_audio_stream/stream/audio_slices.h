/*
 * audio_slices.h - an MP3 or Ogg stream (Vorbis, Opus) that comes in slices, cut anywhere, as speech services send it.
 *
 * One decoder runs through all slices of a stream, and through several files one behind the other. Each slice gives what
 * audio it completes, which may be none. Time is linear in the bytes given and the audio made; memory is bounded
 * whatever comes: what belongs together and does not end within SLICES_HELD_MAX_BYTES is given up.
 *
 *     audio_slices.c   which kind it is, where a file begins
 *     mp3_slices.c     libmpg123's feeding interface
 *     ogg_slices.c     libogg, and libvorbis or libopus
 *
 * Decoding takes milliseconds for a second of audio: not on a service thread. Any thread, one at a time.
 */
#ifndef STREAM_AUDIO_SLICES_H
#define STREAM_AUDIO_SLICES_H

#include "audio_pcm.h"

#define SLICES_HELD_MAX_BYTES (4u << 20)

typedef struct audio_slices audio_slices;

/* A decoder for a stream that begins like this. AS_EINVAL: with anything else, which audio_file_decode() may know; AS_ENOMEM. */
int audio_slices_new(const void *data, size_t n, audio_slices **out);
void audio_slices_free(audio_slices *slices); /* NULL is allowed */
/* Is this message the beginning of something that such a stream does not go on with: a WAV or FLAC file? */
int audio_slices_ends_before(const void *data, size_t n);
/* The next slice. last: nothing follows. 0 with *out to be freed (n may be 0, samples NULL), or, with the reason in error,
 * AS_EINVAL (broken; after the last slice: there was no audio), AS_EFULL (more than max_samples), AS_ENOMEM. After an error
 * the stream may go on: what can be decoded of it is. */
int audio_slices_decode(audio_slices *slices, const void *data, size_t n, int last, size_t max_samples, audio_pcm *out,
						char *error, size_t error_bytes);
/* Has it given any audio yet? */
int audio_slices_heard(const audio_slices *slices);
/* "MP3", "Ogg". */
const char *audio_slices_name(const audio_slices *slices);

/* ---- The two kinds ----------------------------------------------------------------------------------------------- */

/* A kind of stream. Functions that return an int return 0 or an AS_E*; AS_EINVAL when something was broken and has been
 * skipped. */
typedef struct slices_kind {
	const char *name;
	int (*new)(void **decoder);
	void (*free)(void *decoder);
	/* Does this message begin a file, so that what is incomplete of the one before is dropped? */
	int (*begins)(void *decoder, const uint8_t *data, size_t n);
	void (*reset)(void *decoder);
	int (*decode)(void *decoder, const uint8_t *data, size_t n, pcm_buffer *out);
} slices_kind;

extern const slices_kind mp3_slices, ogg_slices;

#endif
