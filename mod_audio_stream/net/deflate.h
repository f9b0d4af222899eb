/*
 * deflate.h - permessage-deflate (RFC 7692): messages compressed and decompressed as a whole. No I/O, no threads.
 *
 * lws has an extension of its own for it, and it is not used: in 4.1 data from the network can make it fail an
 * assertion, or loop for ever on a message that is not compressed.
 */
#ifndef NET_DEFLATE_H
#define NET_DEFLATE_H

#include <stddef.h>

#define WS_DEFLATE_NAME "permessage-deflate"
#define WS_DEFLATE_OFFER "permessage-deflate; client_max_window_bits"
#define WS_DEFLATE_LEAST 64 /* bytes of a message that is worth it */

typedef struct ws_deflate ws_deflate;

/* What the server has agreed to (its Sec-WebSocket-Extensions). AS_EINVAL when that is not what can be done,
 * AS_ENOMEM. */
int ws_deflate_new(const char *agreed, ws_deflate **out);
void ws_deflate_free(ws_deflate *deflate); /* NULL is allowed */
/* n bytes into at most room; returns how many, or 0 when it cannot be done: it may then be sent as it is. */
size_t ws_deflate_pack(ws_deflate *deflate, const void *data, size_t n, void *out, size_t room);
/* Decompresses n bytes into *out, which is made to hold them and a NUL (realloc()), and has *room. AS_EFULL when
 * there are more than `most`, AS_EINVAL when it is not deflate, AS_ENOMEM. Nothing can be decompressed after an
 * error. */
int ws_deflate_unpack(ws_deflate *deflate, const void *data, size_t n, size_t most, char **out, size_t *room,
					  size_t *bytes);

#endif
