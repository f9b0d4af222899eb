/* wipe.h - memory that held a key, a password or an address with a token in it: cleared before it is given back. */
#ifndef CORE_WIPE_H
#define CORE_WIPE_H

#include <stdlib.h>
#include <string.h>

/* NULL is allowed. explicit_bzero() is not left out by the compiler; it needs _GNU_SOURCE. */
static inline void as_wipe_free(char *text)
{
	if (text) {
		explicit_bzero(text, strlen(text));
		free(text);
	}
}

#endif
