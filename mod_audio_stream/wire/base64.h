/* base64.h - RFC 4648 base64, for audio: fast, and in place. */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include <stddef.h>
#include <stdint.h>

#define BASE64_BYTES(n) (((n) + 2) / 3 * 4) /* characters for n bytes */

/* Writes BASE64_BYTES(n) characters, no NUL; returns how many. The buffers must not overlap. */
size_t base64_encode(const void *data, size_t n, char *out);
/* Decodes the inside of a JSON string, whose escapes for base64's characters are understood ("\/", and "\u002B" and the
 * like, as some encoders write + / =). Padding may be left out. out may be text itself; else it needs n / 4 * 3 + 3
 * bytes. Returns bytes, or -1 when it is not base64 (any other character, a lone one at the end, data after the
 * padding, padding that does not complete a group of four). What has been written to out then means nothing. */
long base64_decode(const char *text, size_t n, uint8_t *out);

#endif
