#include "convert.h"

#include <speex/speex_resampler.h>
#include <stdlib.h>

#include "audio_stream.h"

#define RESAMPLE_QUALITY 7 /* 8 ms held back at 8 kHz, no audible aliasing; 3 aliases, 10 doubles the delay */

struct as_convert {
	SpeexResamplerState *resampler; /* NULL where the rates agree */
	int from_hz, to_hz, channels;
	size_t in_total;  /* input samples since the last drain */
	size_t out_total; /* output samples since the last drain */
};

int as_format_check(int encoding, int rate_hz)
{
	switch (encoding) {
	case AS_S16:
		return rate_hz >= AS_RATE_MIN_HZ && rate_hz <= AS_RATE_MAX_HZ ? 0 : AS_EINVAL;
	case AS_PCMU:
	case AS_PCMA:
		return rate_hz == 8000 ? 0 : AS_EINVAL;
	default:
		return AS_EINVAL;
	}
}

size_t as_format_bytes_per_sample(int encoding)
{
	return encoding == AS_S16 ? sizeof(int16_t) : 1;
}

int as_convert_new(int from_rate_hz, int to_rate_hz, int channels, as_convert **out)
{
	if (channels < 1 || channels > AS_CONVERT_CHANNELS) {
		return AS_EINVAL;
	}
	as_convert *convert = calloc(1, sizeof(*convert));
	if (!convert) {
		return AS_ENOMEM;
	}
	convert->from_hz = from_rate_hz;
	convert->to_hz = to_rate_hz;
	convert->channels = channels;
	if (from_rate_hz != to_rate_hz) {
		int error = 0;
		convert->resampler = speex_resampler_init((spx_uint32_t)channels, (spx_uint32_t)from_rate_hz,
												  (spx_uint32_t)to_rate_hz, RESAMPLE_QUALITY, &error);
		if (!convert->resampler) {
			free(convert);
			return error == RESAMPLER_ERR_ALLOC_FAILED ? AS_ENOMEM : AS_EINVAL;
		}
		speex_resampler_skip_zeros(convert->resampler);
	}
	*out = convert;
	return 0;
}

void as_convert_free(as_convert *convert)
{
	if (convert) {
		if (convert->resampler) {
			speex_resampler_destroy(convert->resampler);
		}
		free(convert);
	}
}

int as_convert_from_rate(const as_convert *convert)
{
	return convert->from_hz;
}

/* Output samples that the input given so far is worth. */
static size_t worth(const as_convert *convert)
{
	return (size_t)(((uint64_t)convert->in_total * (uint64_t)convert->to_hz + (uint64_t)convert->from_hz / 2) /
					(uint64_t)convert->from_hz);
}

size_t as_convert_held(const as_convert *convert)
{
	size_t due = worth(convert);
	return due > convert->out_total ? due - convert->out_total : 0;
}

size_t as_convert_bound(const as_convert *convert, size_t n)
{
	return (size_t)((uint64_t)n * (uint64_t)convert->to_hz / (uint64_t)convert->from_hz) + as_convert_held(convert) + 2;
}

/* Resamples until the input is used up or `most` output samples are out. */
static int run(as_convert *convert, const int16_t *in, size_t n, size_t most, as_convert_sink sink, void *arg)
{
	int16_t out[AS_CONVERT_CHUNK * AS_CONVERT_CHANNELS];
	while (n > 0 && most > 0) {
		spx_uint32_t used = (spx_uint32_t)(n > AS_CONVERT_CHUNK ? AS_CONVERT_CHUNK : n);
		spx_uint32_t made = (spx_uint32_t)(most > AS_CONVERT_CHUNK ? AS_CONVERT_CHUNK : most);
		speex_resampler_process_interleaved_int(convert->resampler, in, &used, out, &made);
		if (used == 0 && made == 0) {
			break;
		}
		in += used * (size_t)convert->channels;
		n -= used;
		most -= made;
		convert->out_total += made;
		int error = made ? sink(arg, out, made) : 0;
		if (error) {
			return error;
		}
	}
	return 0;
}

int as_convert_push(as_convert *convert, const int16_t *in, size_t n, as_convert_sink sink, void *arg)
{
	if (!convert->resampler) {
		return n ? sink(arg, in, n) : 0;
	}
	convert->in_total += n;
	return run(convert, in, n, SIZE_MAX, sink, arg);
}

int as_convert_drain(as_convert *convert, as_convert_sink sink, void *arg)
{
	static const int16_t zeros[AS_CONVERT_CHUNK * AS_CONVERT_CHANNELS];
	int error = 0;
	if (!convert->resampler) {
		return 0;
	}
	size_t held = as_convert_held(convert);
	while (held > 0 && !error) {
		size_t before = convert->out_total;
		error = run(convert, zeros, AS_CONVERT_CHUNK, held, sink, arg);
		held -= convert->out_total - before;
	}
	speex_resampler_reset_mem(convert->resampler);
	speex_resampler_skip_zeros(convert->resampler);
	convert->in_total = convert->out_total = 0;
	return error;
}
