/* base.c - what everything else uses: the clock, the words for errors, where this library lies. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

#include "audio_stream.h"

int64_t as_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

const char *as_strerror(int error)
{
	static const char *const messages[] = {
		[0] = "success",
		[-AS_ECLOSED] = "the stream is closed",
		[-AS_EINVAL] = "invalid argument",
		[-AS_ENOMEM] = "out of memory",
		[-AS_EFULL] = "the inject queue is full",
		[-AS_ESTALE] = "the audio belongs to a flushed response",
		[-AS_EEXIST] = "a stream with this id is open on this call already",
		[-AS_ENOENT] = "no such stream or mark",
		[-AS_EBUSY] = "another thread is reading",
	};
	const int count = (int)(sizeof(messages) / sizeof(messages[0]));
	if (error >= 0) {
		return messages[0];
	}
	return error > -count ? messages[-error] : "unknown error";
}

const char *as_library_path(void)
{
	Dl_info info;
	return dladdr((void *)as_library_path, &info) && info.dli_fname ? info.dli_fname : "";
}
