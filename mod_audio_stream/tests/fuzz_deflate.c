/* fuzz_deflate.c - what a server agrees to, and what it sends compressed: "AGREED\nMESSAGE". */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "deflate.h"

#define MOST 100000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void receive(ws_deflate *d, const uint8_t *data, size_t n)
{
	char *out = NULL;
	size_t room = 0, bytes = 0;
	for (int i = 0; i < 2; i++) { /* and once more, with what the first has left in the window */
		if (ws_deflate_unpack(d, data, n, MOST, &out, &room, &bytes)) {
			break;
		}
		if (bytes > MOST || out[bytes]) {
			abort();
		}
	}
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *end = memchr(data, '\n', n);
	char *agreed = end ? strndup((const char *)data, (size_t)(end - data)) : NULL;
	ws_deflate *d = NULL;
	if (agreed && ws_deflate_new(agreed, &d) == 0) {
		receive(d, end + 1, n - (size_t)(end + 1 - data));
		ws_deflate_free(d);
	}
	free(agreed);
	return 0;
}
