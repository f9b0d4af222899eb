/*
 * tap_write.c - the thread that writes a call's frames: what streams inject, and what the caller hears in the end.
 *
 *     a frame ──▶ head bugs, the one started last first: each injects ──▶ others' bugs ──▶ tail bugs: listen ──▶ the caller
 *
 * FreeSWITCH goes through the call's bugs once for each frame, with the write codec locked: one thread at a time.
 *
 * Of several streams that inject, all are heard. The first with something to say overwrites the frame, the others add to
 * it. Serials tell where one frame ends and the next begins: within a frame they fall, because bugs attached with
 * SMBF_FIRST stand in the list the newest first.
 */
#include "tap_internal.h"

/* ---- Injecting --------------------------------------------------------------------------------------------------- */

/* As as_host_inject(), for a call whose rate is not the stream's any more. */
static size_t inject_resampled(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	int16_t pull[MAX_FRAME_SAMPLES];
	uint32_t step = (uint32_t)tap->rate_hz / 100;
	if (!tap->left_over) {
		tap->left_over = switch_core_session_alloc(tap->leg->session, MAX_FRAME_SAMPLES * sizeof(int16_t));
	}
	if (!tap->left_over || !tap_resampler(&tap->inject, tap->rate_hz, rate)) {
		return 0;
	}
	while (tap->left_over_samples < n) {
		memset(pull, 0, step * sizeof(int16_t));
		if (!as_host_inject(tap->stream, pull, step) && !tap->left_over_samples) {
			return 0;
		}
		switch_resample_process(tap->inject, pull, step);
		uint32_t made = tap->inject->to_len;
		if (!made || tap->left_over_samples + made > MAX_FRAME_SAMPLES) {
			return 0;
		}
		memcpy(tap->left_over + tap->left_over_samples, tap->inject->to, made * sizeof(int16_t));
		tap->left_over_samples += made;
	}
	memcpy(samples, tap->left_over, n * sizeof(int16_t));
	tap->left_over_samples -= n;
	memmove(tap->left_over, tap->left_over + n, tap->left_over_samples * sizeof(int16_t));
	return n;
}

/* Overwrites samples[0..n) with what the stream says, or returns 0. */
static size_t say(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	return rate == tap->rate_hz || rate <= 0 ? as_host_inject(tap->stream, samples, n)
											 : inject_resampled(tap, samples, n, rate);
}

/* Puts mono samples on all channels of a frame: over what is there, or in addition to it. */
static void place(int16_t *frame, const int16_t *mono, uint32_t n, uint32_t channels, switch_bool_t add)
{
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t c = 0; c < channels; c++) {
			int16_t *at = &frame[i * channels + c];
			*at = add ? tap_mixed(*at, mono[i]) : mono[i];
		}
	}
}

/* Whether a frame written now goes out. While its far end holds the call, or wants no audio at all, and while its media is
 * not RTP audio, FreeSWITCH drops frames, but only after the media bugs have had them: what is injected into one would be
 * lost, and counted as heard. */
static switch_bool_t goes_out(switch_core_session_t *session)
{
	switch_media_flow_t flow = switch_core_session_media_flow(session, SWITCH_MEDIA_TYPE_AUDIO);
	switch_rtp_t *rtp = switch_core_media_get_rtp_session(session, SWITCH_MEDIA_TYPE_AUDIO);
	return (flow == SWITCH_MEDIA_FLOW_SENDRECV || flow == SWITCH_MEDIA_FLOW_SENDONLY) &&
		   !(rtp && switch_rtp_test_flag(rtp, SWITCH_RTP_FLAG_PAUSE)) && tap_has_audio(session);
}

static uint32_t channels_of(const switch_codec_implementation_t *impl)
{
	return impl->number_of_channels ? impl->number_of_channels : 1;
}

/* The first tap to be given a new frame finds it without anything of ours. */
static void note_turn(call_leg_t *leg, const audio_tap_t *tap)
{
	if (tap->serial >= leg->last_serial) {
		leg->owned = SWITCH_FALSE;
	}
	leg->last_serial = tap->serial;
}

void tap_on_inject(audio_tap_t *tap)
{
	int16_t mono[MAX_FRAME_SAMPLES];
	call_leg_t *leg = tap->leg;
	switch_frame_t *frame = switch_core_media_bug_get_write_replace_frame(tap->head.bug);
	switch_codec_implementation_t impl = {0};
	switch_atomic_set(&leg->wrote, 1);
	note_turn(leg, tap);
	if (!frame || !frame->data || !frame->datalen || !goes_out(leg->session)) {
		return;
	}
	switch_core_session_get_write_impl(leg->session, &impl);
	uint32_t channels = channels_of(&impl), n = frame->datalen / sizeof(int16_t) / channels;
	if (n > MAX_FRAME_SAMPLES) {
		return;
	}
	switch_bool_t direct = channels == 1 && !leg->owned;
	if (!say(tap, direct ? frame->data : mono, n, (int)impl.actual_samples_per_second)) {
		return;
	}
	if (!direct) {
		place(frame->data, mono, n, channels, leg->owned);
	}
	leg->owned = SWITCH_TRUE;
	switch_core_media_bug_set_write_replace_frame(tap->head.bug, frame);
}

/* ---- Listening --------------------------------------------------------------------------------------------------- */

/* Interleaved samples on their way to the caller; changes them. */
static void hear(audio_tap_t *tap, int16_t *data, uint32_t bytes)
{
	switch_codec_implementation_t impl = {0};
	switch_core_session_get_write_impl(tap->leg->session, &impl);
	if (!goes_out(tap->leg->session)) {
		memset(data, 0, bytes);
	}
	uint32_t n = tap_downmix(data, bytes / sizeof(int16_t) / channels_of(&impl), channels_of(&impl));
	tap_store(tap, AS_ALIGN_FAR, data, n, (int)impl.actual_samples_per_second);
}

/* switch_core_media_bug_read() gives what is written in pieces of the size of what is read, and throws some away when there
 * are more than two of them. */
static switch_bool_t too_large(audio_tap_t *tap, switch_size_t bytes)
{
	switch_codec_implementation_t read = {0};
	switch_core_session_get_read_impl(tap->leg->session, &read);
	return bytes > 2 * read.decoded_bytes_per_packet;
}

void tap_on_heard(audio_tap_t *tap)
{
	int16_t data[SWITCH_RECOMMENDED_BUFFER_SIZE / sizeof(int16_t)];
	switch_frame_t frame = {.data = data, .buflen = sizeof(data)};
	switch_size_t read_bytes = 0, bytes = 0;
	switch_media_bug_t *bug = tap->tail.bug;
	switch_atomic_set(&tap->leg->wrote, 1);
	switch_core_media_bug_inuse(bug, &read_bytes, &bytes);
	if (too_large(tap, bytes)) {
		/* The flag is looked at next, for this very frame: it comes to tap_on_heard_frame(). That makes FreeSWITCH encode
		 * the frame again, so the flag is taken away as soon as it can be. */
		switch_core_media_bug_set_flag(bug, SMBF_WRITE_REPLACE);
	}
	if (switch_core_media_bug_test_flag(bug, SMBF_WRITE_REPLACE)) {
		switch_core_media_bug_flush(bug);
		return;
	}
	while (switch_core_media_bug_read(bug, &frame, SWITCH_TRUE) == SWITCH_STATUS_SUCCESS && frame.datalen) {
		hear(tap, data, frame.datalen);
	}
}

void tap_on_heard_frame(audio_tap_t *tap)
{
	int16_t data[SWITCH_RECOMMENDED_BUFFER_SIZE / sizeof(int16_t)];
	switch_media_bug_t *bug = tap->tail.bug;
	const switch_frame_t *frame = switch_core_media_bug_get_write_replace_frame(bug);
	if (!frame || !frame->data || frame->datalen > sizeof(data)) {
		return;
	}
	memcpy(data, frame->data, frame->datalen); /* hear() changes it, and the caller is to get it as it is */
	hear(tap, data, frame->datalen);
	if (!too_large(tap, frame->datalen)) {
		switch_core_media_bug_clear_flag(bug, SMBF_WRITE_REPLACE);
	}
}
