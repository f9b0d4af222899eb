/*
 * audio_pcm.h - mono samples as they come out of a decoder. Any thread; one buffer is one thread's.
 */
#ifndef STREAM_AUDIO_PCM_H
#define STREAM_AUDIO_PCM_H

#include <stddef.h>
#include <stdint.h>

#include "convert.h"

typedef struct audio_pcm {
	int16_t *samples; /* mono: the mean of all channels; free() it */
	size_t n;
	int rate_hz; /* 8000..48000 */
} audio_pcm;

typedef struct pcm_buffer {
	audio_pcm pcm;
	size_t room;
	size_t max_samples;  /* no more than that, whatever a header promises */
	as_convert *convert; /* from the rate of what comes now, where that is another one; NULL: none */
} pcm_buffer;

/* What comes is of this rate. The first one is the buffer's; audio of another is converted. AS_EINVAL, AS_ENOMEM. */
int pcm_buffer_rate(pcm_buffer *buffer, int rate_hz);
/* Adds frames of interleaved values, 1.0 being full scale; what is no number is silence. AS_EFULL, AS_ENOMEM. */
int pcm_buffer_add(pcm_buffer *buffer, const float *values, size_t frames, int channels);
/* Takes the last n samples off again, as far as there are so many. */
void pcm_buffer_cut(pcm_buffer *buffer, size_t n);
/* Nothing is added any more; AS_EFULL, AS_ENOMEM. The samples are the caller's. */
int pcm_buffer_end(pcm_buffer *buffer);
void pcm_buffer_free(pcm_buffer *buffer);

#endif
