/*
 * sample_join.h - where samples begin in a message of 16-bit audio that follows one which ended inside a sample.
 *
 * Servers cut audio anywhere, and servers send sentences with a byte too many. Read one byte off, speech is noise at full
 * scale, so the audio itself tells which it was: of the two readings the wrong one is many times as rough.
 */
#ifndef STREAM_SAMPLE_JOIN_H
#define STREAM_SAMPLE_JOIN_H

#include <stddef.h>
#include <stdint.h>

/* 1: the message plainly begins with a whole sample. 0: its first `missing` bytes complete the sample before, or there is
 * nothing to tell by (a few samples, silence, noise). Little-endian, interleaved; missing < 2 * channels. Linear in n. */
int sample_join_begins_whole(const uint8_t *data, size_t n, size_t missing, int channels);

#endif
