/* certs.c - certificates for tests, made on the spot with OpenSSL. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "certs.h"

static FILE *open_file(const char *file, const char *ending, const char *mode)
{
	char path[512];
	snprintf(path, sizeof(path), "%s.%s", file, ending);
	return fopen(path, mode);
}

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	int well = extension && X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	return well;
}

static int fill_in(X509 *cert, X509 *issuer, EVP_PKEY *key, const cert_spec *spec)
{
	static long serial = 1000;
	const char *name = strrchr(spec->file, '/');
	X509_NAME *subject = X509_get_subject_name(cert);
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert), spec->from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), spec->to_s);
	name = name ? name + 1 : spec->file;
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	return X509_set_pubkey(cert, key) && X509_set_issuer_name(cert, X509_get_subject_name(issuer)) &&
		   add_extension(cert, issuer, NID_basic_constraints, spec->names ? "CA:FALSE" : "critical,CA:TRUE") &&
		   (!spec->names || add_extension(cert, issuer, NID_subject_alt_name, spec->names));
}

static int load_issuer(const char *file, X509 **cert, EVP_PKEY **key)
{
	FILE *pem = open_file(file, "pem", "r"), *secret = open_file(file, "key", "r");
	*cert = pem ? PEM_read_X509(pem, NULL, NULL, NULL) : NULL;
	*key = secret ? PEM_read_PrivateKey(secret, NULL, NULL, NULL) : NULL;
	if (pem) {
		fclose(pem);
	}
	if (secret) {
		fclose(secret);
	}
	return *cert && *key;
}

static int save(const char *file, X509 *cert, EVP_PKEY *key)
{
	FILE *pem = open_file(file, "pem", "w"), *secret = open_file(file, "key", "w");
	int well =
		pem && secret && PEM_write_X509(pem, cert) && PEM_write_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL);
	if (pem) {
		well &= fclose(pem) == 0;
	}
	if (secret) {
		well &= fclose(secret) == 0;
	}
	return well;
}

int cert_make(const cert_spec *spec)
{
	X509 *cert = X509_new(), *issuer = NULL;
	EVP_PKEY *key = EVP_EC_gen("P-256"), *signer = NULL;
	int well = cert && key && (!spec->issuer || load_issuer(spec->issuer, &issuer, &signer)) &&
			   fill_in(cert, issuer ? issuer : cert, key, spec) &&
			   X509_sign(cert, signer ? signer : key, EVP_sha256()) && save(spec->file, cert, key);
	if (!well) {
		fprintf(stderr, "no certificate %s\n", spec->file);
		ERR_print_errors_fp(stderr);
	}
	X509_free(cert);
	X509_free(issuer);
	EVP_PKEY_free(key);
	EVP_PKEY_free(signer);
	return well ? 0 : -1;
}
