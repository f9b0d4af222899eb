/* certs.h - certificates for tests, made on the spot with OpenSSL. */
#ifndef AS_TESTS_CERTS_H
#define AS_TESTS_CERTS_H

typedef struct cert_spec {
	const char *file;   /* where to: FILE.pem and FILE.key */
	const char *issuer; /* FILE of the one that signs it; NULL: itself */
	const char *names;  /* "DNS:localhost,IP:127.0.0.1"; NULL: an authority */
	long from_s, to_s;  /* validity, from now */
} cert_spec;

/* 0, or -1 with the reason on stderr. */
int cert_make(const cert_spec *spec);

#endif
