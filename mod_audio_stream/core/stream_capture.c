/* stream_capture.c - the public interface over the capture ring: the application's side. */
#define _GNU_SOURCE
#include <string.h>

#include "stream.h"

/* Never more than half the ring: a reader waiting for what does not fit would wait for ever. */
static uint32_t chunk_samples(const as_stream *stream, int ms)
{
	uint32_t most = (uint32_t)(stream->capture.capacity / 2), samples = as_samples_of(&stream->config, ms);
	return samples < most ? samples : most;
}

int as_capture_check(int encoding, int rate_hz, int chunk_ms, int quiet_chunk_ms, int hang_ms)
{
	int ok = !as_format_check(encoding, rate_hz) && as_in_range(chunk_ms, 5, 1000) &&
			 as_in_range(quiet_chunk_ms, chunk_ms, 1000) && as_in_range(hang_ms, 0, 10000);
	return ok ? 0 : AS_EINVAL;
}

/* Under the reader's lock. The resampler stays when the rate does: there is audio in it. */
static int set_rate(as_stream *stream, int rate_hz)
{
	as_convert *convert = NULL;
	if (stream->reader_convert && stream->reader_rate_hz == rate_hz) {
		return 0;
	}
	int error = as_convert_new(stream->config.rate_hz, rate_hz, stream->config.channels, &convert);
	if (!error) {
		as_convert_free(stream->reader_convert);
		stream->reader_convert = convert;
		stream->reader_rate_hz = rate_hz;
	}
	return error;
}

int as_capture_setup(as_stream *stream, int encoding, int rate_hz, int chunk_ms, int quiet_chunk_ms, int hang_ms)
{
	if (as_capture_check(encoding, rate_hz, chunk_ms, quiet_chunk_ms, hang_ms)) {
		return AS_EINVAL;
	}
	if (pthread_mutex_trylock(&stream->reader)) {
		return AS_EBUSY;
	}
	int error = set_rate(stream, rate_hz);
	if (!error) {
		stream->reader_encoding = encoding;
		AS_PUBLISH(stream->capture.chunk, chunk_samples(stream, chunk_ms));
		AS_PUBLISH(stream->capture.quiet_chunk, chunk_samples(stream, quiet_chunk_ms));
		AS_PUBLISH(stream->capture.hang, as_samples_of(&stream->config, hang_ms));
	}
	pthread_mutex_unlock(&stream->reader);
	return error;
}

/* Where converted captured audio goes: the reader's buffer. */
typedef struct read_sink {
	uint8_t *at;
	int encoding;
	size_t channels;
} read_sink;

static read_sink sink_of(const as_stream *stream, void *buf)
{
	return (read_sink){buf, stream->reader_encoding, (size_t)stream->config.channels};
}

static int read_into(void *arg, const int16_t *samples, size_t n)
{
	read_sink *sink = arg;
	n *= sink->channels;
	switch (sink->encoding) {
	case AS_PCMU:
		as_pcmu_encode(samples, sink->at, n);
		break;
	case AS_PCMA:
		as_pcma_encode(samples, sink->at, n);
		break;
	default:
		memcpy(sink->at, samples, n * sizeof(int16_t));
	}
	sink->at += n * as_format_bytes_per_sample(sink->encoding);
	return 0;
}

/* Input samples (per channel) that surely fit the buffer once converted. */
static size_t fitting(as_stream *stream, size_t bytes)
{
	uint64_t host_hz = (uint64_t)stream->config.rate_hz, reader_hz = (uint64_t)stream->reader_rate_hz;
	size_t out = bytes / as_format_bytes_per_sample(stream->reader_encoding) / (size_t)stream->config.channels;
	if (!stream->reader_convert || host_hz == reader_hz) {
		return out;
	}
	size_t spare = as_convert_held(stream->reader_convert) + 2;
	return out <= spare ? 0 : (size_t)((uint64_t)(out - spare) * host_hz / reader_hz);
}

/* Under the reader's lock. */
static long read_ready(as_stream *stream, void *buf, size_t room)
{
	read_sink sink = sink_of(stream, buf);
	const int16_t *samples;
	size_t n;
	while (room > 0 && (n = as_capture_peek(&stream->capture, &samples)) > 0) {
		n = n < room ? n : room;
		if (stream->reader_convert) {
			as_convert_push(stream->reader_convert, samples, n, read_into, &sink);
		} else {
			read_into(&sink, samples, n);
		}
		as_capture_take(&stream->capture, n);
		room -= n;
	}
	return (long)(sink.at - (uint8_t *)buf);
}

/* Under the reader's lock, with nothing left to read: the resampler's tail, for which fitting() has left room. */
static long read_tail(as_stream *stream, void *buf)
{
	read_sink sink = sink_of(stream, buf);
	if (stream->reader_convert) {
		as_convert_drain(stream->reader_convert, read_into, &sink);
	}
	return sink.at == buf ? AS_ECLOSED : (long)(sink.at - (uint8_t *)buf);
}

/* Under the reader's lock. A resampler may keep a first short chunk to itself: the next one is waited for, too. */
static long read_chunk(as_stream *stream, void *buf, size_t room, int timeout_ms)
{
	as_capture *ring = &stream->capture;
	int64_t deadline = timeout_ms > 0 ? as_now_ns() + (int64_t)timeout_ms * 1000000 : 0;
	long result;
	do {
		result = timeout_ms > 0 ? as_capture_await(ring, deadline) : as_capture_poll(ring);
		if (result <= 0) {
			return result == AS_ECLOSED ? read_tail(stream, buf) : result;
		}
		result = read_ready(stream, buf, room);
	} while (result == 0);
	return result;
}

long as_capture_read(as_stream *stream, void *buf, size_t bytes, int timeout_ms)
{
	if (!buf) {
		return AS_EINVAL;
	}
	if (pthread_mutex_trylock(&stream->reader)) {
		return AS_EBUSY;
	}
	size_t room = fitting(stream, bytes);
	long result = room ? read_chunk(stream, buf, room, timeout_ms) : AS_EINVAL;
	pthread_mutex_unlock(&stream->reader);
	return result;
}

long as_capture_ready(as_stream *stream)
{
	return as_capture_waiting(&stream->capture);
}

size_t as_capture_discard(as_stream *stream, size_t keep)
{
	if (pthread_mutex_trylock(&stream->reader)) {
		return 0;
	}
	size_t dropped = as_capture_drop(&stream->capture, keep);
	pthread_mutex_unlock(&stream->reader);
	return dropped;
}
