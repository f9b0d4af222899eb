/* deflate.c - permessage-deflate (RFC 7692), on zlib. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <zlib.h>

#include "audio_stream.h"
#include "deflate.h"

#define PACK_WINDOW_BITS 12 /* ours need not be as large as agreed: 4 KiB behind a message costs 40 KiB, 32 KiB 260 */
#define PACK_MEMORY 5
#define FIRST_ROOM 4096

struct ws_deflate {
	z_stream pack, unpack;
	int pack_bits, unpack_bits;   /* windows, as agreed */
	int pack_alone, unpack_alone; /* no context takeover: every message by itself */
	int can_pack, can_unpack;
};

static const unsigned char tail[4] = {0, 0, 0xff, 0xff}; /* of each message; does not travel */

/* ---- What has been agreed ---------------------------------------------------------------------------------------- */

static int is_name(const char *text, size_t n, const char *name)
{
	return n == strlen(name) && !strncasecmp(text, name, n);
}

/* A window's size, perhaps in quotes; 0 when it is none. */
static int bits_of(const char *text)
{
	char *end;
	long bits = strtol(text + (*text == '"'), &end, 10);
	return bits >= 8 && bits <= 15 && (*end == 0 || *end == '"' || *end == ' ' || *end == '\t') ? (int)bits : 0;
}

static int set_parameter(ws_deflate *d, char *text)
{
	size_t name = strcspn(text, "= \t");
	const char *value = text + name + strspn(text + name, "= \t");
	int bits = bits_of(value);
	if (is_name(text, name, "server_no_context_takeover")) {
		d->unpack_alone = 1;
	} else if (is_name(text, name, "client_no_context_takeover")) {
		d->pack_alone = 1;
	} else if (is_name(text, name, "server_max_window_bits") && bits) {
		d->unpack_bits = bits;
	} else if (is_name(text, name, "client_max_window_bits") && bits) {
		d->pack_bits = bits;
	} else {
		return AS_EINVAL;
	}
	return 0;
}

/* "permessage-deflate; parameter; parameter=value" */
static int parse(ws_deflate *d, char *agreed)
{
	char *rest = NULL, *part = strtok_r(agreed, ";", &rest);
	int first = 1;
	for (; part; part = strtok_r(NULL, ";", &rest), first = 0) {
		part += strspn(part, " \t");
		size_t n = strcspn(part, " \t");
		if (first ? !is_name(part, n, WS_DEFLATE_NAME) : set_parameter(d, part)) {
			return AS_EINVAL;
		}
	}
	return first ? AS_EINVAL : 0;
}

int ws_deflate_new(const char *agreed, ws_deflate **out)
{
	ws_deflate *d = calloc(1, sizeof(*d));
	char *copy = strdup(agreed);
	int result = d && copy ? 0 : AS_ENOMEM;
	if (!result) {
		d->pack_bits = d->unpack_bits = 15;
		result = parse(d, copy);
	}
	free(copy);
	if (result) {
		free(d);
		return result;
	}
	*out = d;
	return 0;
}

void ws_deflate_free(ws_deflate *d)
{
	if (!d) {
		return;
	}
	if (d->can_pack) {
		deflateEnd(&d->pack);
	}
	if (d->can_unpack) {
		inflateEnd(&d->unpack);
	}
	free(d);
}

/* ---- Packing ----------------------------------------------------------------------------------------------------- */

/* zlib has no raw window of 256 bytes to write: who insists on that gets everything as it is. */
static int prepare_pack(ws_deflate *d)
{
	int bits = d->pack_bits < PACK_WINDOW_BITS ? d->pack_bits : PACK_WINDOW_BITS;
	if (!d->can_pack && bits > 8) {
		d->can_pack = deflateInit2(&d->pack, Z_BEST_SPEED, Z_DEFLATED, -bits, PACK_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
	}
	return d->can_pack;
}

size_t ws_deflate_pack(ws_deflate *d, const void *data, size_t n, void *out, size_t room)
{
	if (n >= UINT32_MAX || room >= UINT32_MAX || n < WS_DEFLATE_LEAST || !prepare_pack(d)) {
		return 0;
	}
	d->pack.next_in = (unsigned char *)data;
	d->pack.avail_in = (uInt)n;
	d->pack.next_out = out;
	d->pack.avail_out = (uInt)room;
	int result = deflate(&d->pack, Z_SYNC_FLUSH);
	size_t bytes = room - d->pack.avail_out;
	/* Room left means that all of it, and the flush, is there. If not, the window has moved on without the server's. */
	int well = result == Z_OK && d->pack.avail_in == 0 && d->pack.avail_out > 0 && bytes > sizeof(tail);
	if (!well || d->pack_alone) {
		deflateReset(&d->pack);
	}
	return well ? bytes - sizeof(tail) : 0;
}

/* ---- Unpacking --------------------------------------------------------------------------------------------------- */

static int prepare_unpack(ws_deflate *d)
{
	if (!d->can_unpack) {
		d->can_unpack = inflateInit2(&d->unpack, -d->unpack_bits) == Z_OK;
	}
	return d->can_unpack ? 0 : AS_ENOMEM;
}

/* Room for more than there is, but not for more than `most` and a byte that says so, and a NUL. */
static int grow(char **out, size_t *room, size_t bytes, size_t most)
{
	if (*out && bytes + 2 <= *room) {
		return 0;
	}
	size_t larger = *room ? *room * 2 : FIRST_ROOM;
	larger = larger > most + 2 ? most + 2 : larger;
	char *bigger = realloc(*out, larger);
	if (!bigger) {
		return AS_ENOMEM;
	}
	*out = bigger;
	*room = larger;
	return 0;
}

/* Decompresses a piece; *bytes is where to go on. */
static int unpack_piece(ws_deflate *d, const void *data, size_t n, size_t most, char **out, size_t *room, size_t *bytes)
{
	d->unpack.next_in = (unsigned char *)data;
	d->unpack.avail_in = (uInt)n;
	for (;;) {
		if (grow(out, room, *bytes, most)) {
			return AS_ENOMEM;
		}
		size_t left = *room - 1 - *bytes;
		d->unpack.next_out = (unsigned char *)*out + *bytes;
		d->unpack.avail_out = (uInt)(left < UINT32_MAX ? left : UINT32_MAX - 1);
		uInt before = d->unpack.avail_out;
		int result = inflate(&d->unpack, Z_SYNC_FLUSH);
		*bytes += before - d->unpack.avail_out;
		if (*bytes > most) {
			return AS_EFULL;
		}
		if (result == Z_STREAM_END) { /* a last block: allowed, and another may follow */
			inflateReset(&d->unpack);
		} else if (result != Z_OK && result != Z_BUF_ERROR) {
			return AS_EINVAL;
		}
		if (d->unpack.avail_out > 0 && (d->unpack.avail_in == 0 || result == Z_BUF_ERROR)) {
			return d->unpack.avail_in ? AS_EINVAL : 0;
		}
	}
}

int ws_deflate_unpack(ws_deflate *d, const void *data, size_t n, size_t most, char **out, size_t *room, size_t *bytes)
{
	*bytes = 0;
	int result = n < UINT32_MAX ? prepare_unpack(d) : AS_EFULL;
	if (!result) {
		result = unpack_piece(d, data, n, most, out, room, bytes);
	}
	if (!result) {
		result = unpack_piece(d, tail, sizeof(tail), most, out, room, bytes);
	}
	if (result) {
		return result;
	}
	(*out)[*bytes] = 0;
	return d->unpack_alone && inflateReset(&d->unpack) != Z_OK ? AS_EINVAL : 0;
}
