/* url.h - ws:// and wss:// URLs, and the headers of a handshake. Pure. */
#ifndef NET_URL_H
#define NET_URL_H

#include <stddef.h>

#define WS_HOST_MAX 100 /* what lws's request has room for */
#define WS_PATH_MAX 2000
#define WS_HEADERS_MAX 16000 /* characters of all headers of ours */

typedef struct ws_url {
	int tls, port;
	char host[WS_HOST_MAX + 1];           /* a name or an address, without brackets */
	char authority[WS_HOST_MAX + 1 + 10]; /* for "Host:" */
	char *path;                           /* with the query; free() it */
} ws_url;

/* 0, AS_ENOMEM, or AS_EINVAL with the reason, which quotes nothing of the URL but its host. */
int ws_url_parse(const char *url, ws_url *out, char *error, size_t bytes);
/* Writes what of a URL may be shown: "wss://host" or "wss://host:port"; "" of a URL that is wrong. */
void ws_url_show(const char *url, char *out, size_t bytes);
/* Do both URLs name the same server: scheme, host and port? 0 when one of them is wrong, or without memory. */
int ws_url_same_server(const char *a, const char *b);
/* Checks "Name: value": 0, or AS_EINVAL with a reason that does not quote the value. */
int ws_header_check(const char *line, char *error, size_t bytes);
/* Makes one text of them (the last one is followed by NULL; NULL for none), each with its CR LF, and of what user and
 * password come to in HTTP's basic authentication. 0, AS_ENOMEM, or AS_EINVAL with such a reason. */
int ws_headers_join(const char *const *lines, const char *user, const char *password, char **out, char *error,
					size_t bytes);
int ws_subprotocol_check(const char *names, char *error, size_t bytes);

#endif
