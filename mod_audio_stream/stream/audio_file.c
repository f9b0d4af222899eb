#define _GNU_SOURCE
#include "audio_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sndfile.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audio_stream.h"

#define CHUNK 4096           /* values decoded at a time, all channels together */
#define FORMAT_MPEG 0x230000 /* libsndfile 1.1's SF_FORMAT_MPEG, which older headers lack */

static int complain(char *error, size_t bytes, int code, const char *format, ...) __attribute__((format(printf, 4, 5)));

static int complain(char *error, size_t bytes, int code, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	if (bytes) {
		vsnprintf(error, bytes, format, arguments);
		for (char *at = error; *at; at++) {
			if ((unsigned char)*at < ' ' || *at == 0x7f) {
				*at = '?'; /* a path from the network, on its way to a log */
			}
		}
	}
	va_end(arguments);
	return code;
}

static int no_memory(char *error, size_t bytes)
{
	return complain(error, bytes, AS_ENOMEM, "%s", as_strerror(AS_ENOMEM));
}

/* ---- What it is -------------------------------------------------------------------------------------------------- */

typedef struct container {
	const char *name;
	int format; /* libsndfile's */
} container;

static const container wav = {"WAV", SF_FORMAT_WAV}, mp3 = {"MP3", FORMAT_MPEG}, ogg = {"Ogg", SF_FORMAT_OGG},
					   flac = {"FLAC", SF_FORMAT_FLAC};

/* By its first bytes: libsndfile would try two dozen formats, and most of them only ever come from somebody who looks
 * for a bug in them. NULL for those. */
static const container *recognise(const uint8_t *data, size_t n)
{
	if (n >= 12 && (!memcmp(data, "RIFF", 4) || !memcmp(data, "RIFX", 4) || !memcmp(data, "RF64", 4)) &&
		!memcmp(data + 8, "WAVE", 4)) {
		return &wav;
	}
	if (n >= 4 && !memcmp(data, "OggS", 4)) {
		return &ogg;
	}
	if (n >= 4 && !memcmp(data, "fLaC", 4)) {
		return &flac;
	}
	return n >= 4 && (!memcmp(data, "ID3", 3) || (data[0] == 0xff && (data[1] & 0xe0) == 0xe0)) ? &mp3 : NULL;
}

static uint32_t little_endian(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* RFC 3533's CRC-32 of a page, its own place in it taken for 0. */
static uint32_t checksum(const uint8_t *page, size_t n)
{
	uint32_t crc = 0;
	for (size_t i = 0; i < n; i++) {
		crc ^= (uint32_t)(i < 22 || i >= 26 ? page[i] : 0) << 24;
		for (int bit = 0; bit < 8; bit++) {
			crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7 : 0);
		}
	}
	return crc;
}

/* The length of the Ogg page that begins here, 0 when it is not whole. *packets: how many end in it. */
static size_t page_bytes(const uint8_t *page, size_t n, int *packets)
{
	size_t bytes = n < 27 || memcmp(page, "OggS", 4) ? SIZE_MAX : 27 + (size_t)page[26];
	if (n < bytes) {
		return 0;
	}
	for (size_t i = 27; i < 27 + (size_t)page[26]; i++) {
		bytes += page[i];
		*packets += page[i] < 255; /* a packet's last segment */
	}
	return n < bytes || checksum(page, bytes) != little_endian(page + 22) ? 0 : bytes;
}

/* Does an Ogg file have its first three packets: Vorbis's headers? libsndfile (1.2.2 at least) loses memory when they
 * are not all there, as in the first piece of a file that a server cut into messages. */
static int has_headers(const uint8_t *data, size_t n)
{
	int packets = 0;
	for (size_t at = 0, bytes; packets < 3; at += bytes) {
		bytes = page_bytes(data + at, n - at, &packets);
		if (!bytes) {
			return 0;
		}
	}
	return 1;
}

static const char *name_of(wire_format format)
{
	return format == WIRE_FILE_MP3 ? mp3.name : format == WIRE_FILE_OGG ? ogg.name : wav.name;
}

static int can_decode(const container *is)
{
	SF_FORMAT_INFO info = {.format = is->format};
	return sf_command(NULL, SFC_GET_FORMAT_INFO, &info, sizeof(info)) == 0;
}

/* ---- Memory as a file -------------------------------------------------------------------------------------------- */

typedef struct memory_file {
	const uint8_t *data;
	sf_count_t n, at;
	sf_count_t unknown; /* where a WAV file's length stands when it is 0 and should be "unknown"; 0: nowhere */
} memory_file;

/* Speech servers send a WAV file's header before they know how much will follow. Most say 0xffffffff then, which
 * libsndfile understands, and some 0, which it believes. Where that 0 stands; 0 when there is none. */
static sf_count_t find_unknown_length(const uint8_t *data, size_t n)
{
	size_t at = 12;
	while (n > 8 && at < n - 8 && !memcmp(data, "RIFF", 4)) {
		uint32_t length = little_endian(data + at + 4);
		if (!memcmp(data + at, "data", 4)) {
			return length ? 0 : (sf_count_t)at + 4;
		}
		at += 8 + (size_t)length + (length & 1);
	}
	return 0;
}

static sf_count_t memory_length(void *arg)
{
	return ((memory_file *)arg)->n;
}

static sf_count_t memory_tell(void *arg)
{
	return ((memory_file *)arg)->at;
}

static sf_count_t memory_seek(sf_count_t offset, int whence, void *arg)
{
	memory_file *file = arg;
	sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file->at : file->n, to;
	if (__builtin_add_overflow(from, offset, &to) || to < 0) {
		return -1;
	}
	return file->at = to; /* as in any file, perhaps behind its end */
}

static sf_count_t memory_read(void *to, sf_count_t n, void *arg)
{
	memory_file *file = arg;
	n = n < file->n - file->at ? n : file->n - file->at;
	if (n <= 0) {
		return 0;
	}
	memcpy(to, file->data + file->at, (size_t)n);
	for (sf_count_t i = file->unknown; file->unknown && i < file->unknown + 4; i++) {
		if (i >= file->at && i < file->at + n) {
			((uint8_t *)to)[i - file->at] = 0xff;
		}
	}
	file->at += n;
	return n;
}

static SNDFILE *open_memory(memory_file *file, SF_INFO *info)
{
	SF_VIRTUAL_IO io = {.get_filelen = memory_length, .seek = memory_seek, .read = memory_read, .tell = memory_tell};
	memset(info, 0, sizeof(*info));
	return sf_open_virtual(&io, SFM_READ, info, file);
}

/* ---- Decoding ---------------------------------------------------------------------------------------------------- */

typedef struct decoding {
	const container *is;
	SNDFILE *file;
	SF_INFO info;
	pcm_buffer out;
	char *error;
	size_t error_bytes;
} decoding;

static int add(decoding *d, const float *values, size_t frames)
{
	int error = pcm_buffer_add(&d->out, values, frames, d->info.channels);
	if (error == AS_EFULL) {
		return complain(d->error, d->error_bytes, AS_EFULL,
						"the %s file is longer than %.1f s, which is more than can be held", d->is->name,
						(double)d->out.max_samples / d->out.pcm.rate_hz);
	}
	return error ? no_memory(d->error, d->error_bytes) : 0;
}

static int decode_all(decoding *d)
{
	float values[CHUNK];
	sf_count_t frames, most = CHUNK / d->info.channels;
	while ((frames = sf_readf_float(d->file, values, most)) > 0) {
		int error = add(d, values, (size_t)frames);
		if (error) {
			return error;
		}
	}
	return d->out.pcm.n ? 0
						: complain(d->error, d->error_bytes, AS_EINVAL, "the %s file has no audio in it", d->is->name);
}

static int check_info(decoding *d)
{
	if (d->is == &mp3 && (d->info.format & SF_FORMAT_TYPEMASK) != FORMAT_MPEG) { /* behind an ID3 tag may be anything */
		return complain(d->error, d->error_bytes, AS_EINVAL, "the MP3 file is something else inside");
	}
	if (d->info.channels < 1 || d->info.channels > CHUNK) {
		return complain(d->error, d->error_bytes, AS_EINVAL, "the %s file has %d channels", d->is->name,
						d->info.channels);
	}
	return pcm_buffer_rate(&d->out, d->info.samplerate)
			   ? complain(d->error, d->error_bytes, AS_EINVAL,
						  "the %s file has %d samples a second; %d to %d can be played", d->is->name,
						  d->info.samplerate, AS_RATE_MIN_HZ, AS_RATE_MAX_HZ)
			   : 0;
}

static int open_file(decoding *d, memory_file *file)
{
	if (!can_decode(d->is)) {
		return complain(d->error, d->error_bytes, AS_EINVAL, "%s cannot be decoded with %s; MP3 needs 1.1 or later",
						d->is->name, sf_version_string());
	}
	d->file = open_memory(file, &d->info);
	return d->file ? 0
				   : complain(d->error, d->error_bytes, AS_EINVAL,
							  "the %s file is broken, or of a kind that cannot be decoded", d->is->name);
}

int audio_file_decode(const void *data, size_t n, wire_format format, size_t max_samples, audio_pcm *out, char *error,
					  size_t error_bytes)
{
	memory_file file = {.data = data, .n = (sf_count_t)n, .unknown = find_unknown_length(data, n)};
	decoding d = {.is = recognise(data, n), .out.max_samples = max_samples, .error = error, .error_bytes = error_bytes};
	if (!d.is) {
		return complain(error, error_bytes, AS_EINVAL, "this is no %s file (nor WAV, MP3, Ogg or FLAC)",
						name_of(format));
	}
	if (d.is == &ogg && !has_headers(data, n)) {
		return complain(error, error_bytes, AS_EINVAL, "the Ogg file is cut off, or broken; send it whole");
	}
	int failed = open_file(&d, &file);
	failed = failed ? failed : check_info(&d);
	failed = failed ? failed : decode_all(&d);
	if (d.file) {
		sf_close(d.file);
	}
	if (failed) {
		pcm_buffer_free(&d.out);
	} else {
		*out = d.out.pcm;
	}
	return failed;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

/* Opens one directory or file of a path that has no links in it: one that has turned up since is not followed. A pipe's
 * writer is not waited for. */
static int open_step(int directory, const char *name, int is_last)
{
	int flags = is_last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY;
	return openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens directory/relative, neither of which has links in it. -1 and errno. Spoils relative. */
static int open_below(const char *directory, char *relative)
{
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *state, *name = strtok_r(relative, "/", &state);
	while (fd >= 0 && name) {
		char *after = strtok_r(NULL, "/", &state);
		int next = open_step(fd, name, !after), reason = errno;
		close(fd);
		errno = reason;
		fd = next;
		name = after;
	}
	return fd;
}

/* The path with all links followed; directory is so already. Free it. NULL and errno. */
static char *resolve(const char *directory, const char *path)
{
	char *joined = NULL;
	if (asprintf(&joined, "%s/%s", path[0] == '/' ? "" : directory, path) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	char *real = realpath(joined, NULL);
	int reason = errno;
	free(joined);
	errno = reason;
	return real;
}

/* What of the path is below the directory; NULL when it is not below it. Both have no links in them. */
static char *part_below(const char *directory, char *path)
{
	size_t length = directory[1] ? strlen(directory) : 0; /* the root is no prefix of its own */
	return strncmp(path, directory, length) || path[length] != '/' ? NULL : path + length + 1;
}

static int read_all(int fd, const char *path, void **data, size_t *n, char *error, size_t bytes)
{
	struct stat is;
	if (fstat(fd, &is) || !S_ISREG(is.st_mode)) {
		return complain(error, bytes, AS_EINVAL, "%s is no regular file", path);
	}
	if (is.st_size > (off_t)AUDIO_FILE_MAX_BYTES) {
		return complain(error, bytes, AS_EFULL, "%s is longer than %u MiB", path, AUDIO_FILE_MAX_BYTES >> 20);
	}
	uint8_t *memory = malloc((size_t)is.st_size + 1);
	size_t have = 0;
	ssize_t more = 1;
	if (!memory) {
		return no_memory(error, bytes);
	}
	while (have < (size_t)is.st_size && more > 0) {
		do {
			more = read(fd, memory + have, (size_t)is.st_size - have);
		} while (more < 0 && errno == EINTR);
		have += more > 0 ? (size_t)more : 0;
	}
	if (more < 0) {
		int reason = errno;
		free(memory);
		return complain(error, bytes, AS_EINVAL, "%s cannot be read: %s", path, strerror(reason));
	}
	*data = memory;
	*n = have;
	return 0;
}

/* directory has no links in it. */
static int read_below(const char *directory, const char *path, void **data, size_t *n, char *error, size_t bytes)
{
	char *real = resolve(directory, path), *relative = real ? part_below(directory, real) : NULL;
	if (real && !relative) {
		free(real);
		return complain(error, bytes, AS_EINVAL, "%s is not below file-injection-dir, %s", path, directory);
	}
	int fd = real ? open_below(directory, relative) : -1, reason = errno;
	free(real);
	if (fd < 0) {
		return complain(error, bytes, AS_EINVAL, "%s cannot be opened: %s", path, strerror(reason));
	}
	int failed = read_all(fd, path, data, n, error, bytes);
	close(fd);
	return failed;
}

int audio_file_read(const char *directory, const char *path, void **data, size_t *n, char *error, size_t error_bytes)
{
	if (!directory[0]) {
		return complain(error, error_bytes, AS_EINVAL,
						"no file may be played: set file-injection-dir to the directory they are in");
	}
	char *real = realpath(directory, NULL);
	if (!real) {
		return complain(error, error_bytes, AS_EINVAL, "file-injection-dir, %s, cannot be used: %s", directory,
						strerror(errno));
	}
	int failed = read_below(real, path, data, n, error, error_bytes);
	free(real);
	return failed;
}
