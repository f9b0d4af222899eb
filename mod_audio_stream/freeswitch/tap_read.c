/*
 * tap_read.c - the thread that reads a call's frames: what the caller says goes into the streams, and silence to the caller
 * where nobody writes.
 *
 * WRITE_REPLACE is only called when something writes a frame. Under `park` or `sleep` nothing does, and the caller would
 * hear nothing of what is injected. So each call has a hook on frame reading that notices when nobody has written for a
 * while and writes silence itself, which then passes through WRITE_REPLACE. It is a read hook and not the READ callback
 * because FreeSWITCH calls the hook with no codec lock held: writing under the read lock could deadlock with a re-INVITE,
 * which takes the write lock first.
 *
 * A packet that comes a moment too late makes FreeSWITCH read a frame of its own in its place, and the packet after it.
 * Handed on as they come, that is a hole in a word, and everything after it 20 ms later; a model's VAD takes it for the
 * end of a turn. The hook sees the packets' sequence numbers, so a few such fillers are held back until the next packet
 * tells whether anything was lost: if so the frame before it is repeated, fading, in its place; if not they never were.
 * A track with both directions goes by the clock (audio_stream_align.h): there a filler is just time that passes.
 */
#include "tap_internal.h"

#define PATIENCE_US 60000 /* nobody wrote for this long: we do */
#define FILLERS_HELD 3    /* frames; from the fourth on it is silence (DTX) or loss, and time has to pass */

/* ---- Into the stream --------------------------------------------------------------------------------------------- */

uint32_t tap_downmix(int16_t *samples, uint32_t samples_per_channel, uint32_t channels)
{
	for (uint32_t i = 0; channels > 1 && i < samples_per_channel; i++) {
		int32_t sum = 0;
		for (uint32_t c = 0; c < channels; c++) {
			sum += samples[i * channels + c];
		}
		samples[i] = (int16_t)(sum / (int32_t)channels);
	}
	return samples_per_channel;
}

switch_audio_resampler_t *tap_resampler(switch_audio_resampler_t **resampler, int from_hz, int to_hz)
{
	if (*resampler && ((*resampler)->from_rate != from_hz || (*resampler)->to_rate != to_hz)) {
		switch_resample_destroy(resampler);
	}
	if (!*resampler &&
		switch_resample_create(resampler, from_hz, to_hz, MAX_FRAME_SAMPLES * 2, 7, 1) != SWITCH_STATUS_SUCCESS) {
		return NULL;
	}
	return *resampler;
}

/* Either media thread: whoever is first. Both directions, as far as it is time for them, into the stream. */
static void capture_both(audio_tap_t *tap, int64_t now_ns)
{
	int16_t near[AS_ALIGN_FRAME_MAX], far[AS_ALIGN_FRAME_MAX], pairs[2 * AS_ALIGN_FRAME_MAX];
	size_t n;
	if (atomic_exchange_explicit(&tap->taking, 1, memory_order_acquire)) {
		return; /* the other thread is at it */
	}
	while ((n = as_align_take(tap->line, near, far, now_ns)) > 0) {
		for (size_t i = 0; i < n; i++) {
			if (tap->track == TAP_STEREO) {
				pairs[2 * i] = near[i];
				pairs[2 * i + 1] = far[i];
			} else {
				pairs[i] = tap_mixed(near[i], far[i]);
			}
		}
		as_host_capture(tap->stream, pairs, n);
	}
	atomic_store_explicit(&tap->taking, 0, memory_order_release);
}

void tap_drain(audio_tap_t *tap)
{
	if (tap->line) {
		capture_both(tap, as_now_ns() + as_align_held_ns(tap->line));
	}
}

void tap_store(audio_tap_t *tap, int side, int16_t *samples, uint32_t n, int rate)
{
	if (rate != tap->rate_hz && rate > 0) {
		switch_audio_resampler_t *resampler =
			tap_resampler(side == AS_ALIGN_NEAR ? &tap->said : &tap->heard, rate, tap->rate_hz);
		if (!resampler) {
			return;
		}
		switch_resample_process(resampler, samples, n);
		samples = resampler->to;
		n = resampler->to_len;
	}
	if (tap->line) {
		int64_t now_ns = as_now_ns();
		capture_both(tap, now_ns);
		as_align_put(tap->line, side, samples, n, now_ns);
	} else {
		as_host_capture(tap->stream, samples, n);
	}
}

/* ---- What the caller says ---------------------------------------------------------------------------------------- */

/* In place of a lost frame: the last one again, 2.5 dB down at first, then 6 dB a frame. */
static void store_repeat(audio_tap_t *tap, uint32_t nth, uint32_t n, int rate)
{
	int16_t samples[MAX_FRAME_SAMPLES] = {0};
	for (uint32_t i = 0; i < n && i < tap->last_samples; i++) {
		samples[i] = (int16_t)(tap->last[i] * 3 / (4 << nth));
	}
	tap_store(tap, AS_ALIGN_NEAR, samples, n, rate);
}

/* Decides about a filler, as said above. */
static void store_filler(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	if (tap->fillers < FILLERS_HELD) {
		tap->fillers++;
	} else {
		tap->last_samples = 0;
		if (!tap->line) {
			memset(samples, 0, n * sizeof(int16_t));
			tap_store(tap, AS_ALIGN_NEAR, samples, n, rate);
		}
	}
	if (tap->line) {
		capture_both(tap, as_now_ns());
	}
}

/* How many of the fillers held back are lost frames. On a time line no more than it has room for: a stream that has just
 * begun, or that was silent for long, is placed by the clock, and what is said next would be pushed behind it. */
static uint32_t count_lost(audio_tap_t *tap, uint32_t n, int rate)
{
	uint32_t lost = tap->fillers < tap->leg->lost ? tap->fillers : tap->leg->lost;
	if (lost && tap->line && rate > 0) {
		int64_t now_ns = as_now_ns();
		size_t frame = (size_t)n * (size_t)tap->rate_hz / (size_t)rate;
		capture_both(tap, now_ns);
		uint32_t room =
			frame ? (uint32_t)((as_align_missing(tap->line, AS_ALIGN_NEAR, frame, now_ns) + frame / 2) / frame) : 0;
		lost = room < lost ? room : lost;
	}
	return lost;
}

static void store_in_order(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	if (tap->leg->filler) {
		store_filler(tap, samples, n, rate);
		return;
	}
	uint32_t lost = count_lost(tap, n, rate);
	for (uint32_t nth = 0; nth < lost; nth++) {
		store_repeat(tap, nth, n, rate);
	}
	tap->fillers = 0;
	tap->last_samples = n < LAST_SAMPLES ? n : LAST_SAMPLES;
	memcpy(tap->last, samples, tap->last_samples * sizeof(int16_t));
	tap_store(tap, AS_ALIGN_NEAR, samples, n, rate);
}

void tap_on_read(audio_tap_t *tap)
{
	int16_t data[SWITCH_RECOMMENDED_BUFFER_SIZE / sizeof(int16_t)];
	switch_frame_t frame = {.data = data, .buflen = sizeof(data)};
	switch_codec_implementation_t impl = {0};
	switch_core_session_get_read_impl(tap->leg->session, &impl);
	uint32_t channels = impl.number_of_channels ? impl.number_of_channels : 1;
	while (switch_core_media_bug_read(tap->head.bug, &frame, SWITCH_TRUE) == SWITCH_STATUS_SUCCESS && frame.datalen) {
		uint32_t n = tap_downmix(data, frame.datalen / sizeof(int16_t) / channels, channels);
		store_in_order(tap, data, n, (int)impl.actual_samples_per_second);
	}
}

/* ---- Silence where nobody writes --------------------------------------------------------------------------------- */

/* An L16 codec like the one the call writes with; made again when that changes. Media thread, once per (re-)INVITE. */
static switch_bool_t codec_ready(call_leg_t *leg, const switch_codec_implementation_t *impl)
{
	uint32_t rate = impl->actual_samples_per_second, us = (uint32_t)impl->microseconds_per_packet;
	if (leg->codec_rate == rate && leg->codec_us == us && leg->codec_channels == impl->number_of_channels) {
		return !leg->codec_failed;
	}
	memset(&leg->codec, 0, sizeof(leg->codec));
	leg->codec_rate = rate;
	leg->codec_us = us;
	leg->codec_channels = impl->number_of_channels;
	leg->codec_failed =
		switch_core_codec_init(&leg->codec, "L16", NULL, NULL, rate, us / 1000, impl->number_of_channels,
							   SWITCH_CODEC_FLAG_ENCODE | SWITCH_CODEC_FLAG_DECODE, NULL,
							   switch_core_session_get_pool(leg->session)) != SWITCH_STATUS_SUCCESS;
	if (!leg->codec_failed) {
		/* Nobody could destroy it safely at the call's end, and it owns nothing outside the session's pool but these
		 * references to a codec of the core, which stays loaded. */
		UNPROTECT_INTERFACE(leg->codec.codec_interface);
	}
	if (leg->codec_failed) {
		switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(leg->session), SWITCH_LOG_ERROR,
						  "no L16 codec at %u Hz, %u us: injected audio is heard only while something else plays\n",
						  rate, us);
	}
	return !leg->codec_failed;
}

static void write_silence(call_leg_t *leg, const switch_codec_implementation_t *impl)
{
	/* Fresh zeros each time: WRITE_REPLACE edits the frame in place. */
	int16_t data[SWITCH_RECOMMENDED_BUFFER_SIZE / sizeof(int16_t)] = {0};
	switch_frame_t frame = {.codec = &leg->codec, .data = data, .buflen = sizeof(data)};
	frame.datalen = impl->decoded_bytes_per_packet;
	if (!frame.datalen || frame.datalen > sizeof(data)) {
		return;
	}
	frame.samples = frame.datalen / sizeof(int16_t) / (impl->number_of_channels ? impl->number_of_channels : 1);
	frame.rate = impl->actual_samples_per_second;
	frame.channels = impl->number_of_channels;
	switch_core_session_write_frame(leg->session, &frame, SWITCH_IO_FLAG_NONE, 0);
}

/* Whether FreeSWITCH leaves our bugs out: nobody tells us then that a frame is written, and none has room for us. */
static switch_bool_t left_out(call_leg_t *leg)
{
	switch_channel_t *channel = switch_core_session_get_channel(leg->session);
	return switch_channel_test_flag(channel, CF_PAUSE_BUGS) ||
		   (!switch_channel_test_flag(channel, CF_ANSWERED) &&
			switch_atomic_read(&leg->waiting) >= switch_atomic_read(&leg->callers));
}

/* Media thread that reads, after each frame, with no lock held. */
static void fill_silence(call_leg_t *leg)
{
	switch_codec_implementation_t read = {0}, write = {0};
	switch_core_session_get_read_impl(leg->session, &read);
	uint32_t passed_us = read.microseconds_per_packet > 0 ? (uint32_t)read.microseconds_per_packet : 20000;
	if (switch_atomic_read(&leg->wrote) || left_out(leg)) {
		switch_atomic_set(&leg->wrote, 0);
		leg->idle_us = leg->owed_us = 0;
		return;
	}
	leg->idle_us += passed_us;
	if (leg->idle_us < PATIENCE_US || !tap_has_audio(leg->session)) {
		return;
	}
	switch_core_session_get_write_impl(leg->session, &write);
	if (write.microseconds_per_packet <= 0 || !codec_ready(leg, &write)) {
		return;
	}
	/* The two directions may have different ptimes: write as much time as was read. */
	leg->owed_us += passed_us;
	while (leg->owed_us >= (uint32_t)write.microseconds_per_packet) {
		leg->owed_us -= (uint32_t)write.microseconds_per_packet;
		write_silence(leg, &write);
	}
	switch_atomic_set(&leg->wrote, 0); /* that was us */
}

/* Media thread that reads. Notes whose frame this is, and what is missing before it. */
static void note_frame(call_leg_t *leg, const switch_frame_t *frame)
{
	leg->filler = switch_test_flag(frame, SFF_CNG) ? SWITCH_TRUE : SWITCH_FALSE;
	if (!leg->filler) {
		int16_t step = (int16_t)(frame->seq - leg->seq);
		leg->lost = leg->has_seq && step > 1 ? (uint32_t)step - 1 : 0;
		leg->seq = frame->seq;
		leg->has_seq = SWITCH_TRUE;
	}
}

void tap_hook(call_leg_t *leg, const switch_frame_t *frame)
{
	if (frame) {
		note_frame(leg, frame);
	}
	if (switch_atomic_read(&leg->callers) > 0) {
		fill_silence(leg);
	}
}
