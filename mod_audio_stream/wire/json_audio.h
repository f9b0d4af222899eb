/*
 * json_audio.h - takes the audio out of a JSON message, so that what is left is small enough for a JSON library.
 *
 * A message with audio is a long base64 string in a little JSON. A library would check and copy every byte of it; here
 * the string is found, and cut out, by looking for quotes only. Whether the rest is JSON is for the library to say.
 */
#ifndef WIRE_JSON_AUDIO_H
#define WIRE_JSON_AUDIO_H

#include <stddef.h>
#include <stdint.h>

typedef struct json_audio {
	char *base64;  /* inside text: what stood between the quotes; NULL when there is no such member */
	size_t length; /* characters; escapes are still in it */
} json_audio;

/* Finds the first member `key` (at any depth) whose value is a string, copies everything but that string's inside to
 * rest (which must have n + 1 bytes), terminates it, and returns rest's length. text is not changed. A key is found as
 * it stands: one spelt with escapes ("\u0064elta") is another key here. Linear in n, at memchr()'s speed on the audio.
 */
size_t json_audio_cut(const char *text, size_t n, const char *key, json_audio *out, char *rest);

#endif
