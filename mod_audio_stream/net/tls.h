/*
 * tls.h - whom TLS connections trust, who they are, and what was wrong with a certificate.
 *
 * lws makes the SSL objects and drives them; what it would decide about certificates is decided here instead, because
 * it tells neither a name from another nor what the matter was.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stddef.h>

#include <openssl/ssl.h>

typedef struct ws_tls ws_tls; /* certificates, loaded; shared by all connections that name the same files */

/* One connection's handshake. Lives as long as its SSL object, or until ws_tls_forget(). */
typedef struct ws_handshake {
	ws_tls *tls;      /* a reference */
	const char *host; /* to be named by the certificate, and asked for by SNI */
	int allow_selfsigned, allow_expired, skip_hostname_check;
	int done;
	int cut;         /* the connection ended in the middle of it: nothing has been said against us or the server */
	char error[200]; /* "" or what was wrong */
} ws_handshake;

/* ---- Any thread -------------------------------------------------------------------------------------------------- */

/* The one SSL_CTX of all connections; NULL without memory. */
SSL_CTX *ws_tls_context(void);
/* What these files hold: from the cache, if they have not changed since they were loaded, else loaded. Either looks at the
 * files, and may take a while: not for a service thread. NULL: no such file; without ca_file the system's authorities are
 * trusted. Returns NULL with the reason, which names the file. */
ws_tls *ws_tls_load(const char *ca_file, const char *cert_file, const char *key_file, char *error, size_t bytes);
ws_tls *ws_tls_ref(ws_tls *tls); /* NULL is allowed, here and there */
void ws_tls_unref(ws_tls *tls);
/* At the process's end: waits for loading to finish and lets nobody begin again. */
void ws_tls_exit(void);

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

/* The next handshake to begin on this thread is this one; NULL: none of ours. */
void ws_tls_expect(ws_handshake *handshake);
/* A server that dislikes our certificate may say so when we are about to send already, and then hang up: this reads
 * it. */
void ws_tls_read_alert(SSL *ssl);
/* The handshake's memory will not be there any more. */
void ws_tls_forget(SSL *ssl);

#endif
