/*
 * tls.c - whom TLS connections trust, who they are, and what was wrong with a certificate.
 *
 * All connections share one SSL_CTX, which trusts nobody. As a handshake begins (OpenSSL's info callback says so,
 * before the first byte is put together) the SSL object is given the authorities, the identity and the name that its
 * connection asked for. So different certificates cost no vhosts in lws, and the chain is judged by the settings of
 * that one connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls.h"

#define EXIT_WAIT_S 5 /* loading takes milliseconds, unless a file system hangs */
#define CACHED_MAX 32 /* sets of files; more are loaded each time */

/* What must be the same for a file to be the same. */
typedef struct identity {
	char *path;
	struct timespec changed;
	off_t bytes;
	ino_t inode;
} identity;

struct ws_tls {
	atomic_int refs;
	SSL_CTX *holder; /* of the authorities and the identity; no connection is made from it */
	identity files[3];
	struct ws_tls *next; /* in the cache, the one used last first */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;      /* the cache; held for moments only */
static pthread_rwlock_t loading = PTHREAD_RWLOCK_INITIALIZER; /* read by who loads, written at the process's end */
static ws_tls *cache;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static SSL_CTX *context;
static int handshake_index; /* of the ws_handshake in an SSL object */
static _Thread_local ws_handshake *expected;

/* ---- Service thread: handshakes ---------------------------------------------------------------------------------- */

/* The first complaint is the cause, the others follow from it. */
__attribute__((format(printf, 2, 3))) static void complain(ws_handshake *handshake, const char *format, ...)
{
	va_list arguments;
	if (!handshake->error[0]) {
		va_start(arguments, format);
		vsnprintf(handshake->error, sizeof(handshake->error), format, arguments);
		va_end(arguments);
	}
}

static int is_address(const char *host)
{
	unsigned char address[16];
	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* Service thread: the SSL object is new, and lws has put into it what it could. */
static void prepare(SSL *ssl, ws_handshake *handshake)
{
	SSL_CTX *holder = handshake->tls->holder;
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	STACK_OF(X509) *chain = NULL;
	int by_address = is_address(handshake->host), well = 1;
	char *name = by_address ? NULL : (char *)handshake->host; /* RFC 6066: an address is none */
	SSL_set_ex_data(ssl, handshake_index, handshake);
	well &= SSL_set_tlsext_host_name(ssl, name) == 1;
	well &= SSL_set1_verify_cert_store(ssl, SSL_CTX_get_cert_store(holder)) == 1;
	if (SSL_CTX_get0_certificate(holder)) {
		SSL_CTX_get0_chain_certs(holder, &chain);
		well &= SSL_use_certificate(ssl, SSL_CTX_get0_certificate(holder)) == 1;
		well &= SSL_use_PrivateKey(ssl, SSL_CTX_get0_privatekey(holder)) == 1;
		well &= SSL_set1_chain(ssl, chain) == 1;
	}
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (!handshake->skip_hostname_check) {
		well &= (by_address ? X509_VERIFY_PARAM_set1_ip_asc(param, handshake->host)
							: X509_VERIFY_PARAM_set1_host(param, handshake->host, 0)) == 1;
	}
	if (!well) { /* nothing that is not checked may be connected to */
		complain(handshake, "TLS cannot be set up: %s", ERR_reason_error_string(ERR_peek_last_error()));
		SSL_set_ex_data(ssl, handshake_index, NULL);
	}
}

static const char *alert_text(int alert)
{
	if ((alert & 0xff) == TLS13_AD_CERTIFICATE_REQUIRED) {
		return "it wants a client certificate"; /* OpenSSL 3.0 says "unknown" */
	}
	return SSL_alert_desc_string_long(alert);
}

/* Does OpenSSL say no more than that the connection has gone? */
static int is_end(unsigned long error)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING /* OpenSSL 3 */
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		return 1;
	}
#endif
	return ERR_GET_LIB(error) == ERR_LIB_SYS;
}

/* Service thread: OpenSSL tells how an SSL object is getting on. */
static void informed(const SSL *watched, int where, int result)
{
	SSL *ssl = (SSL *)watched;
	ws_handshake *handshake = SSL_get_ex_data(ssl, handshake_index);
	if (where & SSL_CB_HANDSHAKE_START) {
		if (!handshake && expected) {
			prepare(ssl, expected);
			expected = NULL;
		}
	} else if (!handshake) {
		return;
	} else if (where & SSL_CB_HANDSHAKE_DONE) {
		handshake->done = 1;
	} else if (where == SSL_CB_READ_ALERT && result >> 8 == SSL3_AL_FATAL) {
		complain(handshake, "the server ended TLS: %s", alert_text(result));
	} else if (where == SSL_CB_CONNECT_EXIT && result <= 0 && ERR_peek_error()) {
		handshake->cut = !handshake->error[0] && is_end(ERR_peek_error());
		complain(handshake, "TLS failed: %s", ERR_reason_error_string(ERR_peek_error()));
	}
}

/* Service thread: OpenSSL has found something, good or bad, about one certificate of the chain. */
static int judge(int good, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	ws_handshake *handshake = SSL_get_ex_data(ssl, handshake_index);
	int error = X509_STORE_CTX_get_error(store);
	if (good || !handshake) {
		return good;
	}
	int is_selfsigned =
		error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT || error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
	if ((is_selfsigned && handshake->allow_selfsigned) ||
		(error == X509_V_ERR_CERT_HAS_EXPIRED && handshake->allow_expired)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	complain(handshake, "the certificate of %s was refused: %s", handshake->host, X509_verify_cert_error_string(error));
	return 0;
}

/* Service thread: instead of OpenSSL's own checking, whose callback is lws's. */
static int verify(X509_STORE_CTX *store, void *unused)
{
	(void)unused;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	if (!SSL_get_ex_data(ssl, handshake_index)) { /* nobody's: prepare() has failed, or its connection is gone */
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	X509_STORE_CTX_set_verify_cb(store, judge);
	return X509_verify_cert(store);
}

void ws_tls_expect(ws_handshake *handshake)
{
	expected = handshake;
}

void ws_tls_read_alert(SSL *ssl)
{
	char byte;
	SSL_peek(ssl, &byte, 1);
	ERR_clear_error();
}

void ws_tls_forget(SSL *ssl)
{
	SSL_set_ex_data(ssl, handshake_index, NULL);
}

/* ---- Any thread: what is shared ---------------------------------------------------------------------------------- */

static void make_context(void)
{
	handshake_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	context = SSL_CTX_new(TLS_client_method());
	if (!context || handshake_index < 0 || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)) {
		SSL_CTX_free(context);
		context = NULL;
		return;
	}
	SSL_CTX_set_mode(context,
					 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* a session resumed is a certificate not looked at */
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(context, verify, NULL);
	SSL_CTX_set_info_callback(context, informed);
}

SSL_CTX *ws_tls_context(void)
{
	pthread_once(&once, make_context);
	return context;
}

/* instead: what is looked at, when there is no path. */
static void identify(identity *out, char *path, const char *instead)
{
	struct stat status;
	const char *seen = path ? path : instead;
	*out = (identity){.path = path};
	if (seen && stat(seen, &status) == 0) {
		out->changed = status.st_mtim;
		out->bytes = status.st_size;
		out->inode = status.st_ino;
	}
}

/* The authorities' file, the certificate, the key. Where the system's authorities are trusted, their directory tells of
 * new ones. */
static void identify_all(identity files[3], const char *const *paths)
{
	for (int i = 0; i < 3; i++) {
		identify(&files[i], (char *)paths[i], i == 0 ? X509_get_default_cert_dir() : NULL);
	}
}

static int is_same(const identity *a, const identity *b)
{
	int same_path = a->path && b->path ? !strcmp(a->path, b->path) : a->path == b->path;
	return same_path && a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
		   a->bytes == b->bytes && a->inode == b->inode;
}

static void release(ws_tls *tls)
{
	SSL_CTX_free(tls->holder);
	for (int i = 0; i < 3; i++) {
		free(tls->files[i].path);
	}
	free(tls);
}

ws_tls *ws_tls_ref(ws_tls *tls)
{
	if (tls) {
		atomic_fetch_add(&tls->refs, 1);
	}
	return tls;
}

void ws_tls_unref(ws_tls *tls)
{
	if (tls && atomic_fetch_sub(&tls->refs, 1) == 1) {
		release(tls);
	}
}

/* Under the lock. */
static ws_tls *find(const identity *files)
{
	for (ws_tls **link = &cache; *link; link = &(*link)->next) {
		ws_tls *tls = *link;
		if (is_same(&files[0], &tls->files[0]) && is_same(&files[1], &tls->files[1]) &&
			is_same(&files[2], &tls->files[2])) {
			*link = tls->next;
			tls->next = cache;
			cache = tls;
			atomic_fetch_add(&tls->refs, 1);
			return tls;
		}
	}
	return NULL;
}

/* Under the lock. The cache has a reference of its own; what is used by connections lives on without it. */
static void remember(ws_tls *tls)
{
	int count = 1;
	atomic_fetch_add(&tls->refs, 1);
	tls->next = cache;
	cache = tls;
	for (ws_tls *t = cache; t; t = t->next) {
		if (count++ == CACHED_MAX && t->next) {
			ws_tls_unref(t->next); /* the last one, unused for longest */
			t->next = NULL;
		}
	}
}

/* ---- Any thread that may wait: loading --------------------------------------------------------------------------- */

/* A key with a password: nobody is there to type it. */
static int no_password(char *buffer, int bytes, int writing, void *unused)
{
	(void)buffer, (void)bytes, (void)writing, (void)unused;
	return -1;
}

static int check_readable(const char *path, const char *what, char *error, size_t bytes)
{
	FILE *file = fopen(path, "re");
	if (!file) {
		snprintf(error, bytes, "cannot read the %s file %s: %s", what, path, strerror(errno));
		return 0;
	}
	fclose(file);
	return 1;
}

static int complain_file(const char *path, const char *what, char *error, size_t bytes)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	snprintf(error, bytes, "the %s file %s cannot be used: %s", what, path, reason ? reason : "not in PEM format");
	ERR_clear_error();
	return 0;
}

static int load_authorities(SSL_CTX *holder, const char *ca_file, char *error, size_t bytes)
{
	if (!ca_file) {
		return SSL_CTX_set_default_verify_paths(holder) || complain_file("of the system", "CA", error, bytes);
	}
	/* Whatever is in the file is trusted, be it not a root. */
	X509_STORE_set_flags(SSL_CTX_get_cert_store(holder), X509_V_FLAG_PARTIAL_CHAIN);
	return check_readable(ca_file, "CA", error, bytes) &&
		   (SSL_CTX_load_verify_locations(holder, ca_file, NULL) == 1 || complain_file(ca_file, "CA", error, bytes));
}

static int load_identity(SSL_CTX *holder, const char *cert_file, const char *key_file, char *error, size_t bytes)
{
	const char *key = key_file ? key_file : cert_file;
	if (!cert_file) {
		if (key_file) {
			snprintf(error, bytes, "there is a key file, %s, without a certificate file", key_file);
		}
		return !key_file;
	}
	SSL_CTX_set_default_passwd_cb(holder, no_password);
	if (!check_readable(cert_file, "certificate", error, bytes) || !check_readable(key, "key", error, bytes)) {
		return 0;
	}
	if (SSL_CTX_use_certificate_chain_file(holder, cert_file) != 1) {
		return complain_file(cert_file, "certificate", error, bytes);
	}
	if (SSL_CTX_use_PrivateKey_file(holder, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(holder) != 1) {
		return complain_file(key, "key", error, bytes);
	}
	return 1;
}

static int copy_paths(ws_tls *tls, const char *const *paths)
{
	identify_all(tls->files, paths);
	for (int i = 0; i < 3; i++) {
		tls->files[i].path = paths[i] ? strdup(paths[i]) : NULL;
	}
	return (tls->files[0].path || !paths[0]) && (tls->files[1].path || !paths[1]) && (tls->files[2].path || !paths[2]);
}

/* The files' times are taken before they are read: changed in between, they are read again next time. */
static ws_tls *load(const char *const *paths, char *error, size_t bytes)
{
	ws_tls *tls = calloc(1, sizeof(*tls));
	snprintf(error, bytes, "out of memory");
	if (!tls) {
		return NULL;
	}
	atomic_init(&tls->refs, 1);
	ERR_clear_error();
	if (copy_paths(tls, paths) && (tls->holder = SSL_CTX_new(TLS_client_method())) &&
		load_authorities(tls->holder, paths[0], error, bytes) &&
		load_identity(tls->holder, paths[1], paths[2], error, bytes)) {
		return tls;
	}
	release(tls);
	return NULL;
}

/* Loads without the lock, so that files on a file system that hangs keep nobody from others. Two threads may load the same
 * at a time: the later one takes what the other has put into the cache. */
static ws_tls *load_and_remember(const char *const *paths, char *error, size_t bytes)
{
	pthread_rwlock_rdlock(&loading);
	ws_tls *loaded = load(paths, error, bytes), *tls = NULL;
	pthread_mutex_lock(&lock);
	if (loaded && !(tls = find(loaded->files))) {
		remember(loaded);
		tls = ws_tls_ref(loaded);
	}
	pthread_mutex_unlock(&lock);
	ws_tls_unref(loaded);
	pthread_rwlock_unlock(&loading);
	return tls;
}

ws_tls *ws_tls_load(const char *ca_file, const char *cert_file, const char *key_file, char *error, size_t bytes)
{
	const char *const paths[3] = {ca_file, cert_file, key_file};
	identity files[3];
	identify_all(files, paths);
	pthread_mutex_lock(&lock);
	ws_tls *tls = find(files);
	pthread_mutex_unlock(&lock);
	return tls ? tls : load_and_remember(paths, error, bytes);
}

void ws_tls_exit(void)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += EXIT_WAIT_S;
	pthread_rwlock_timedwrlock(&loading, &until); /* for good: OpenSSL is about to be taken down */
}
