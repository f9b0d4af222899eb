#define _GNU_SOURCE
#include "sound_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sf_count_t length_of(void *arg)
{
	return ((sound_file *)arg)->n;
}

static sf_count_t tell(void *arg)
{
	return ((sound_file *)arg)->at;
}

static sf_count_t seek(sf_count_t offset, int whence, void *arg)
{
	sound_file *file = arg;
	file->at = offset + (whence == SEEK_CUR ? file->at : whence == SEEK_END ? file->n : 0);
	return file->at;
}

static sf_count_t take(void *to, sf_count_t n, void *arg)
{
	sound_file *file = arg;
	n = n < file->n - file->at ? n : file->n - file->at;
	memcpy(to, file->data + file->at, (size_t)n);
	file->at += n;
	return n;
}

static sf_count_t add(const void *from, sf_count_t n, void *arg)
{
	sound_file *file = arg;
	if (file->at + n > file->room) {
		file->room = 2 * (file->at + n);
		file->data = realloc(file->data, (size_t)file->room);
	}
	memcpy(file->data + file->at, from, (size_t)n);
	file->at += n;
	file->n = file->at > file->n ? file->at : file->n;
	return n;
}

float sound_file_value(size_t frame, int channel, int channels, int rate_hz)
{
	double value = 0.5 * sin(2 * M_PI * 440 * (double)frame / rate_hz);
	return (float)(channels == 3 && channel == 1 ? -value : value);
}

int sound_file_can(int format)
{
	SF_INFO info = {.samplerate = 8000, .channels = 1, .format = format};
	return sf_format_check(&info);
}

sound_file sound_file_make(int format, int rate_hz, int channels, size_t frames)
{
	static SF_VIRTUAL_IO io = {length_of, seek, take, add, tell};
	sound_file file = {0};
	SF_INFO info = {.samplerate = rate_hz, .channels = channels, .format = format};
	SNDFILE *out = sf_open_virtual(&io, SFM_WRITE, &info, &file);
	if (!out) {
		fprintf(stderr, "libsndfile makes no files of kind %x\n", (unsigned)format);
		abort();
	}
	float *values = malloc(frames * (size_t)channels * sizeof(float) + 1);
	for (size_t i = 0; i < frames * (size_t)channels; i++) {
		values[i] = sound_file_value(i / (size_t)channels, (int)(i % (size_t)channels), channels, rate_hz);
	}
	sf_writef_float(out, values, (sf_count_t)frames);
	free(values);
	sf_close(out);
	return file;
}
