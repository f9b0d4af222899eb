#include "audio_pcm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "audio_stream.h"

#define LEAST_SAMPLES 4096
#define CHUNK 1024

static int16_t to_s16(float value)
{
	float scaled = value * 32768.0f;
	if (scaled >= -32768.0f && scaled <= 32767.0f) {
		return (int16_t)lrintf(scaled);
	}
	return scaled > 0 ? INT16_MAX : scaled < 0 ? INT16_MIN : 0; /* neither: not a number */
}

static void mix(const float *values, size_t frames, int channels, int16_t *out)
{
	for (size_t i = 0; i < frames; i++, values += channels) {
		float sum = 0;
		for (int channel = 0; channel < channels; channel++) {
			sum += values[channel];
		}
		out[i] = to_s16(sum / (float)channels);
	}
}

/* Room for that many samples more; grows by doubling. */
static int make_room(pcm_buffer *buffer, size_t more)
{
	if (more > buffer->max_samples - buffer->pcm.n) {
		return AS_EFULL;
	}
	size_t room = buffer->room ? buffer->room : LEAST_SAMPLES;
	while (room < buffer->pcm.n + more) {
		room *= 2;
	}
	if (room > buffer->room) {
		int16_t *samples = realloc(buffer->pcm.samples, room * sizeof(*samples));
		if (!samples) {
			return AS_ENOMEM;
		}
		buffer->pcm.samples = samples;
		buffer->room = room;
	}
	return 0;
}

/* as_convert_sink. */
static int append(void *arg, const int16_t *samples, size_t n)
{
	pcm_buffer *buffer = arg;
	int error = make_room(buffer, n);
	if (!error) {
		memcpy(buffer->pcm.samples + buffer->pcm.n, samples, n * sizeof(*samples));
		buffer->pcm.n += n;
	}
	return error;
}

static int drain(pcm_buffer *buffer)
{
	int error = buffer->convert ? as_convert_drain(buffer->convert, append, buffer) : 0;
	as_convert_free(buffer->convert);
	buffer->convert = NULL;
	return error;
}

int pcm_buffer_rate(pcm_buffer *buffer, int rate_hz)
{
	int now_hz = buffer->convert ? as_convert_from_rate(buffer->convert) : buffer->pcm.rate_hz;
	if (rate_hz < AS_RATE_MIN_HZ || rate_hz > AS_RATE_MAX_HZ) {
		return AS_EINVAL;
	}
	if (!buffer->pcm.n && !buffer->convert) {
		buffer->pcm.rate_hz = rate_hz;
		return 0;
	}
	int error = rate_hz == now_hz ? 0 : drain(buffer);
	if (error || rate_hz == now_hz || rate_hz == buffer->pcm.rate_hz) {
		return error;
	}
	return as_convert_new(rate_hz, buffer->pcm.rate_hz, 1, &buffer->convert);
}

int pcm_buffer_add(pcm_buffer *buffer, const float *values, size_t frames, int channels)
{
	int error = 0;
	for (size_t n; frames && !error; frames -= n, values += n * (size_t)channels) {
		int16_t samples[CHUNK];
		n = frames < CHUNK ? frames : CHUNK;
		mix(values, n, channels, samples);
		error =
			buffer->convert ? as_convert_push(buffer->convert, samples, n, append, buffer) : append(buffer, samples, n);
	}
	return error;
}

void pcm_buffer_cut(pcm_buffer *buffer, size_t n)
{
	buffer->pcm.n -= n < buffer->pcm.n ? n : buffer->pcm.n;
}

int pcm_buffer_end(pcm_buffer *buffer)
{
	return drain(buffer);
}

void pcm_buffer_free(pcm_buffer *buffer)
{
	as_convert_free(buffer->convert);
	free(buffer->pcm.samples);
	*buffer = (pcm_buffer){0};
}
