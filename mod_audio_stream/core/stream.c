/* stream.c - the public interface: lifecycle, host side, inject. See stream_capture.c for the reader's side. */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_FRAME_MS 20
#define DEFAULT_CAPTURE_MS 30000
#define DEFAULT_INJECT_MAX_MS 600000
#define DEFAULT_FADE_MS 10

/* ---- Lifecycle --------------------------------------------------------------------------------------------------- */

static int fill(int value, int otherwise)
{
	return value ? value : otherwise;
}

static void config_complete(as_config *config)
{
	config->app_rate_hz = fill(config->app_rate_hz, config->rate_hz);
	config->wire_encoding = fill(config->wire_encoding, AS_S16);
	config->channels = fill(config->channels, 1);
	config->frame_ms = fill(config->frame_ms, DEFAULT_FRAME_MS);
	config->capture_ms = fill(config->capture_ms, DEFAULT_CAPTURE_MS);
	config->inject_max_ms = fill(config->inject_max_ms, DEFAULT_INJECT_MAX_MS);
	config->fade_ms = fill(config->fade_ms, DEFAULT_FADE_MS);
}

int as_config_check(const as_config *config, char *error, size_t bytes)
{
	as_config complete = *config;
	config_complete(&complete);
	if (!complete.rate_hz) {
		snprintf(error, bytes, "the call's audio has no sample rate: no codec has been agreed on yet");
		return AS_EINVAL;
	}
	const struct {
		const char *what;
		int value, least, most;
	} limits[] = {
		{"the sample rate of the call's codec, in Hz,", complete.rate_hz, AS_RATE_MIN_HZ, AS_RATE_MAX_HZ},
		{"the sample rate asked for, in Hz,", complete.app_rate_hz, AS_RATE_MIN_HZ, AS_RATE_MAX_HZ},
		{"the call's encoding", complete.wire_encoding, AS_S16, AS_PCMA},
		{"the number of channels", complete.channels, 1, 2},
		{"the length of the call's packets (ptime), in ms,", complete.frame_ms, 5, 120},
		{"the capture buffer, in ms,", complete.capture_ms, 100, 600000},
		{"the bound of the inject queue, in ms,", complete.inject_max_ms, 100, 7200000},
		{"the prebuffer, in ms,", complete.prebuffer_ms, 0, 10000},
		{"the fade, in ms,", complete.fade_ms, 1, 100},
		{"the delay of the time line, in ms,", complete.behind_ms, 0, 1000},
	};
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (!as_in_range(limits[i].value, limits[i].least, limits[i].most)) {
			snprintf(error, bytes, "%s is %d but must be %d to %d", limits[i].what, limits[i].value, limits[i].least,
					 limits[i].most);
			return AS_EINVAL;
		}
	}
	return 0;
}

static int name_ok(const char *name)
{
	return name && *name && strlen(name) < AS_NAME_MAX;
}

static void stream_free(as_stream *stream)
{
	as_capture_destroy(&stream->capture);
	as_inject_destroy(&stream->inject);
	as_marks_destroy(&stream->marks);
	as_convert_free(stream->reader_convert);
	as_convert_free(stream->writer_convert);
	pthread_mutex_destroy(&stream->reader);
	pthread_mutex_destroy(&stream->writer);
	pthread_mutex_destroy(&stream->telling);
	free(stream);
}

static int stream_init(as_stream *stream, const char *uuid, const char *id, const as_config *config)
{
	strcpy(stream->uuid, uuid);
	strcpy(stream->id, id);
	stream->config = *config;
	atomic_init(&stream->refs, 1);
	atomic_init(&stream->generation, 1);
	stream->marks.rate_hz = config->rate_hz;
	stream->reader_encoding = AS_S16;
	stream->reader_rate_hz = config->rate_hz;
	pthread_mutex_init(&stream->reader, NULL);
	pthread_mutex_init(&stream->writer, NULL);
	pthread_mutex_init(&stream->telling, NULL);
	/* What is cut is to be over with the frame, while frames are as long as they are now. */
	int fade_ms = config->fade_ms < config->frame_ms ? config->fade_ms : config->frame_ms;
	int error = as_capture_init(&stream->capture, config->rate_hz, config->channels, config->capture_ms);
	return error ? error
				 : as_inject_init(&stream->inject, as_samples_of(config, config->inject_max_ms),
								  as_samples_of(config, config->prebuffer_ms), as_samples_of(config, fade_ms));
}

int as_stream_create(const char *uuid, const char *id, const as_config *config, as_stream **out)
{
	if (!name_ok(uuid) || !name_ok(id) || !config || !out || as_config_check(config, NULL, 0)) {
		return AS_EINVAL;
	}
	as_config complete = *config;
	config_complete(&complete);
	as_stream *stream = aligned_alloc(64, (sizeof(*stream) + 63) / 64 * 64);
	if (!stream) {
		return AS_ENOMEM;
	}
	memset(stream, 0, sizeof(*stream));
	int error = stream_init(stream, uuid, id, &complete);
	if (!error) {
		error = as_registry_add(stream);
	}
	if (error) {
		stream_free(stream);
		return error;
	}
	*out = stream;
	return 0;
}

as_stream *as_stream_ref(as_stream *stream)
{
	atomic_fetch_add(&stream->refs, 1);
	return stream;
}

void as_stream_unref(as_stream *stream)
{
	if (stream && atomic_fetch_sub(&stream->refs, 1) == 1) {
		as_registry_remove(stream);
		as_stream_forget_listener(stream);
		stream_free(stream);
	}
}

void as_stream_close(as_stream *stream)
{
	if (!atomic_exchange(&stream->closed, 1)) {
		as_registry_remove(stream);
		as_capture_close(&stream->capture);
		as_stream_forget_listener(stream);
	}
}

int as_stream_closed(const as_stream *stream)
{
	return atomic_load(&((as_stream *)stream)->closed);
}

void as_stream_info(const as_stream *stream, as_info *out)
{
	memset(out, 0, sizeof(*out));
	strcpy(out->uuid, stream->uuid);
	strcpy(out->id, stream->id);
	out->rate_hz = stream->config.rate_hz;
	out->app_rate_hz = stream->config.app_rate_hz;
	out->wire_encoding = stream->config.wire_encoding;
	out->channels = stream->config.channels;
	out->frame_ms = stream->config.frame_ms;
	out->behind_ms = stream->config.behind_ms;
	out->closed = as_stream_closed(stream);
}

void as_stream_stats(as_stream *stream, as_stats *out)
{
	memset(out, 0, sizeof(*out));
	as_capture_counters(&stream->capture, out);
	out->capture_paused = atomic_load(&stream->capture_paused);
	pthread_mutex_lock(&stream->writer);
	as_inject_counters(&stream->inject, out);
	out->inject_written_samples = stream->inject.queued_end;
	out->inject_queued_samples = as_inject_queued(&stream->inject);
	out->inject_full_writes = stream->full_writes;
	out->inject_full_bytes = stream->full_bytes;
	out->inject_stale_writes = stream->stale_writes;
	out->inject_stale_bytes = stream->stale_bytes;
	out->inject_flushes = stream->flushes;
	out->inject_generation = atomic_load(&stream->generation);
	pthread_mutex_unlock(&stream->writer);
	as_stream_told(stream, out);
}

static int set_paused(as_stream *stream, int directions, int paused)
{
	if (!directions || (directions & ~(AS_CAPTURE | AS_INJECT))) {
		return AS_EINVAL;
	}
	if (directions & AS_CAPTURE) {
		atomic_store(&stream->capture_paused, paused);
	}
	if (directions & AS_INJECT) {
		AS_PUBLISH(stream->inject.paused, paused);
	}
	return 0;
}

int as_stream_pause(as_stream *stream, int directions)
{
	return set_paused(stream, directions, 1);
}

int as_stream_resume(as_stream *stream, int directions)
{
	return set_paused(stream, directions, 0);
}

/* ---- Host side: the media thread --------------------------------------------------------------------------------- */

size_t as_host_capture(as_stream *stream, const int16_t *samples, size_t n)
{
	if (atomic_load_explicit(&stream->closed, memory_order_relaxed)) {
		return 0;
	}
	if (atomic_load_explicit(&stream->capture_paused, memory_order_relaxed)) {
		as_capture_skip(&stream->capture, n, as_now_ns());
		return 0;
	}
	return as_capture_put(&stream->capture, samples, n, as_now_ns());
}

size_t as_host_inject(as_stream *stream, int16_t *samples, size_t n)
{
	if (atomic_load_explicit(&stream->closed, memory_order_relaxed)) {
		return 0;
	}
	return as_inject_tick(&stream->inject, samples, n, as_now_ns());
}

/* ---- Application side: inject ------------------------------------------------------------------------------------ */

/* Where converted injected audio goes: the queue, into room already reserved. */
static int append(void *arg, const int16_t *samples, size_t n)
{
	as_inject_append(arg, samples, n);
	return 0;
}

/* Under the writer's lock. Gives the queue what the resampler still holds of the mark being written. */
static int finish_tail(as_stream *stream)
{
	if (!stream->writer_open) {
		return 0;
	}
	as_convert *convert = stream->writer_convert;
	int error = as_marks_reserve(&stream->marks, stream->writer_mark);
	if (!error && convert) {
		error = as_inject_reserve_tail(&stream->inject, as_convert_held(convert));
	}
	if (!error && convert) {
		uint64_t start = stream->inject.queued_end;
		as_convert_drain(convert, append, &stream->inject);
		as_marks_extend(&stream->marks, stream->writer_mark, start, stream->inject.queued_end);
	}
	if (!error) {
		stream->writer_open = 0;
		stream->writer_has_odd = 0;
	}
	return error;
}

/* Under the writer's lock. Throws away what the resampler still holds. */
static void drop_tail(as_stream *stream)
{
	as_convert_free(stream->writer_convert);
	stream->writer_convert = NULL;
	stream->writer_open = 0;
	stream->writer_has_odd = 0;
}

/* Under the writer's lock. Turns the writer to a mark and a rate. */
static int writer_turn(as_stream *stream, uint64_t mark, int rate_hz)
{
	int same_rate = stream->writer_convert && as_convert_from_rate(stream->writer_convert) == rate_hz;
	int error = 0;
	if (stream->writer_open && (stream->writer_mark != mark || !same_rate)) {
		error = finish_tail(stream);
	}
	if (!error && !same_rate) {
		as_convert *convert = NULL;
		error = as_convert_new(rate_hz, stream->config.rate_hz, 1, &convert);
		if (!error) {
			as_convert_free(stream->writer_convert);
			stream->writer_convert = convert;
		}
	}
	return error;
}

static void push_g711(as_stream *stream, int encoding, const uint8_t *data, size_t bytes)
{
	int16_t samples[AS_CONVERT_CHUNK];
	while (bytes > 0) {
		size_t n = bytes < AS_CONVERT_CHUNK ? bytes : AS_CONVERT_CHUNK;
		if (encoding == AS_PCMU) {
			as_pcmu_decode(data, samples, n);
		} else {
			as_pcma_decode(data, samples, n);
		}
		as_convert_push(stream->writer_convert, samples, n, append, &stream->inject);
		data += n;
		bytes -= n;
	}
}

/* The data may start in the middle of a sample, end in one, and lie at an odd address. */
static void push_s16(as_stream *stream, const uint8_t *data, size_t bytes)
{
	int16_t samples[AS_CONVERT_CHUNK];
	while (bytes + (size_t)stream->writer_has_odd >= sizeof(int16_t)) {
		uint8_t *at = (uint8_t *)samples;
		size_t room = sizeof(samples);
		if (stream->writer_has_odd) {
			*at++ = stream->writer_odd;
			room--;
			stream->writer_has_odd = 0;
		}
		size_t part = bytes < room ? bytes : room;
		part -= (part + (sizeof(samples) - room)) % sizeof(int16_t);
		memcpy(at, data, part);
		data += part;
		bytes -= part;
		size_t n = (size_t)(at + part - (uint8_t *)samples) / sizeof(int16_t);
		as_convert_push(stream->writer_convert, samples, n, append, &stream->inject);
	}
	if (bytes > 0) {
		stream->writer_odd = *data;
		stream->writer_has_odd = 1;
	}
}

/* Under the writer's lock. Nothing more of the mark is expected: its tail comes out, and running dry is no underrun. Without
 * memory for a tail it is lost: a mark that never ended would be silence over all that is played to the caller. */
static void complete(as_stream *stream, uint64_t mark)
{
	if (stream->writer_open && stream->writer_mark == mark && finish_tail(stream)) {
		drop_tail(stream);
	}
	if (!stream->writer_open) {
		as_inject_complete(&stream->inject);
	}
}

/* Under the writer's lock. */
static int write_all(as_stream *stream, uint64_t mark, int encoding, int rate_hz, const void *data, size_t bytes)
{
	int error = writer_turn(stream, mark, rate_hz);
	if (error) {
		return error;
	}
	size_t samples = bytes / as_format_bytes_per_sample(encoding) + 1;
	error = as_marks_reserve(&stream->marks, mark);
	if (!error) {
		error = as_inject_reserve(&stream->inject, as_convert_bound(stream->writer_convert, samples));
	}
	if (error) {
		return error;
	}
	as_marks_open(&stream->marks, mark);
	uint64_t start = stream->inject.queued_end;
	stream->writer_mark = mark;
	stream->writer_open = 1;
	if (encoding == AS_S16) {
		push_s16(stream, data, bytes);
	} else {
		push_g711(stream, encoding, data, bytes);
	}
	as_marks_extend(&stream->marks, mark, start, stream->inject.queued_end);
	as_inject_publish(&stream->inject, (uint32_t)as_convert_held(stream->writer_convert));
	if (as_marks_find(&stream->marks, mark)->flags & AS_MARK_ENDED) { /* late audio */
		complete(stream, mark);
	}
	return 0;
}

long as_inject_write(as_stream *stream, uint64_t mark, uint32_t generation, int encoding, int rate_hz, const void *data,
					 size_t bytes)
{
	int error;
	if (as_format_check(encoding, rate_hz) || (!data && bytes) || bytes > (size_t)1 << 30) {
		return AS_EINVAL;
	}
	pthread_mutex_lock(&stream->writer);
	as_marks_settle(&stream->marks, &stream->inject);
	if (as_stream_closed(stream)) {
		error = AS_ECLOSED;
	} else if (generation && generation != atomic_load(&stream->generation)) {
		error = AS_ESTALE;
		stream->stale_writes++;
		stream->stale_bytes += bytes;
	} else {
		error = write_all(stream, mark, encoding, rate_hz, data, bytes);
		if (error == AS_EFULL) {
			stream->full_writes++;
			stream->full_bytes += bytes;
		}
	}
	pthread_mutex_unlock(&stream->writer);
	return error ? error : (long)bytes;
}

int as_inject_end(as_stream *stream, uint64_t mark)
{
	pthread_mutex_lock(&stream->writer);
	as_marks_settle(&stream->marks, &stream->inject);
	int error = as_stream_closed(stream) ? AS_ECLOSED : as_marks_reserve_entry(&stream->marks, mark);
	if (!error) {
		complete(stream, mark);
		as_mark *entry = as_marks_open(&stream->marks, mark);
		entry->flags |= AS_MARK_ENDED;
		if (entry->played == entry->written && !(entry->flags & (AS_MARK_FINISHED | AS_MARK_FLUSHED))) {
			entry->flags |= AS_MARK_FINISHED;
			entry->finished_ns = entry->written ? entry->finished_ns : as_now_ns();
		}
	}
	pthread_mutex_unlock(&stream->writer);
	return error;
}

long as_inject_flush(as_stream *stream, as_mark *marks, int max, int *count)
{
	pthread_mutex_lock(&stream->writer);
	as_marks_settle(&stream->marks, &stream->inject);
	uint64_t heard = as_inject_cut(&stream->inject, as_stream_closed(stream));
	int cut = as_marks_cut(&stream->marks, &stream->inject, heard, marks, marks ? max : 0);
	drop_tail(stream);
	stream->flushes++;
	uint32_t generation = atomic_fetch_add(&stream->generation, 1) + 1;
	pthread_mutex_unlock(&stream->writer);
	if (count) {
		*count = cut;
	}
	return generation;
}

uint32_t as_inject_generation(const as_stream *stream)
{
	return atomic_load(&((as_stream *)stream)->generation);
}

int as_inject_mark(as_stream *stream, uint64_t mark, as_mark *out)
{
	pthread_mutex_lock(&stream->writer);
	as_marks_settle(&stream->marks, &stream->inject);
	as_mark *entry = as_marks_find(&stream->marks, mark);
	if (entry) {
		*out = as_marks_view(entry);
	}
	pthread_mutex_unlock(&stream->writer);
	return entry ? 0 : AS_ENOENT;
}

int as_inject_prebuffer(as_stream *stream, int prebuffer_ms)
{
	if (!as_in_range(prebuffer_ms, 0, 10000)) {
		return AS_EINVAL;
	}
	AS_PUBLISH(stream->inject.prebuffer, as_samples_of(&stream->config, prebuffer_ms));
	return 0;
}
