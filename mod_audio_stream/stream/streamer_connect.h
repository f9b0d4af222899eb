/* streamer_connect.h - how a streamer's connection is made, and which ends it is reopened after. */
#ifndef STREAM_STREAMER_CONNECT_H
#define STREAM_STREAMER_CONNECT_H

#include "dialect.h"

#define STREAMER_URL_MAX 512

/* Everything ws_connect() needs, made once. */
typedef struct streamer_target {
	ws_options options;
	char *url, *subprotocol;
	char **headers;               /* "Name: value", the last one followed by NULL */
	char shown[STREAMER_URL_MAX]; /* scheme, host and port of the URL: the rest may be secret */
} streamer_target;

/* The caller's thread. to: as the dialect says; own_credentials: as struct dialect has it. timeout_s: 0 = the
 * options', -1 = none. AS_EINVAL with the reason, AS_ENOMEM. */
int streamer_target_init(streamer_target *target, const as_options *options, const struct dialect_target *to,
						 int own_credentials, int timeout_s, char *error, size_t bytes);
void streamer_target_free(streamer_target *target);
/* Is a connection that ended like this opened again? */
int streamer_reopens(const as_options *options, const ws_end *end);
/* How long to wait before the n-th attempt in a row (1...). random: any number. */
int streamer_backoff_ms(const as_options *options, int attempt, uint32_t random);
const char *streamer_why_name(ws_why why);

#endif
