/*
 * audio_file.h - whole audio files (WAV, MP3, Ogg with Vorbis or Opus, FLAC) as mono samples. Slices of one: audio_slices.h.
 *
 * What is in them comes from the network or from a directory that others may write to: anything may be in it. Memory is
 * bounded by what the caller allows, whatever a header promises.
 *
 * Decoding takes milliseconds (10 s of MP3: 6, of Opus: 25), and a disk can take longer: not on a service thread, never
 * on the media thread. Safe on several threads at once.
 */
#ifndef STREAM_AUDIO_FILE_H
#define STREAM_AUDIO_FILE_H

#include "audio_pcm.h"
#include "wire.h"

#define AUDIO_FILE_MAX_BYTES (64u << 20)

/* Decodes a whole file. What it is, its content decides; format (WIRE_FILE_*) only says what it was called. 0, or, with
 * the reason in error: AS_EINVAL (no such file, a broken one, a rate that cannot be played, nothing in it), AS_EFULL
 * (more than max_samples), AS_ENOMEM. out is set on success only. */
int audio_file_decode(const void *data, size_t n, wire_format format, size_t max_samples, audio_pcm *out, char *error,
					  size_t error_bytes);

/* Reads a file for "file": path must name a regular file of at most AUDIO_FILE_MAX_BYTES below directory, with all
 * symbolic links and ".." followed; a relative path begins there. directory: file-injection-dir; "" allows none. 0 with
 * *data to be freed, or, with the reason in error, AS_EINVAL, AS_EFULL (too long), AS_ENOMEM. */
int audio_file_read(const char *directory, const char *path, void **data, size_t *n, char *error, size_t error_bytes);

#endif
