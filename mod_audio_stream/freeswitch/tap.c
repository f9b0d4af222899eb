/*
 * tap.c - joins a call leg to a stream: a media bug per stream, and one read hook per call.
 *
 *     caller ──▶ READ callback ──▶ as_host_capture()            both on whatever thread reads or writes the
 *     caller ◀── WRITE_REPLACE ◀── as_host_inject()             call's frames at that moment: no lock, no malloc
 *
 * WRITE_REPLACE is only called when something writes a frame. Under `park` or `sleep` nothing does, and the caller would
 * hear nothing. So each call has a hook on frame reading that notices when nobody has written for a while and writes
 * silence itself, which then passes through WRITE_REPLACE. It is a read hook and not the READ callback because
 * FreeSWITCH calls the hook with no codec lock held: writing under the read lock could deadlock with a re-INVITE, which
 * takes the write lock first.
 *
 * A packet that comes a moment too late makes FreeSWITCH read a frame of its own in its place, and the packet after it.
 * Handed on as they come, that is a hole in a word, and everything after it 20 ms later; a model's VAD takes it for the
 * end of a turn. The hook sees the packets' sequence numbers, so a few such fillers are held back until the next packet
 * tells whether anything was lost: if so the frame before it is repeated, fading, in its place; if not they never were.
 *
 * Lifetime. A tap lies in its session's pool. It is alive from tap_start() until the bug's CLOSE, which FreeSWITCH
 * calls once, after the last READ or WRITE_REPLACE callback has returned.
 */
#include "mod_audio_stream.h"

#define PATIENCE_US 60000           /* nobody wrote for this long: we do */
#define MAX_FRAME_SAMPLES 4096      /* 40 ms of 48 kHz stereo, rounded up */
#define LAST_SAMPLES 960            /* 20 ms at 48 kHz */
#define FILLERS_HELD 3              /* frames; from the fourth on it is silence (DTX) or loss, and time has to pass */
#define SHUTDOWN_TRIES 100          /* times 50 ms */
#define CALL_PRIVATE "audio_stream" /* channel private: the call's leg */

/* A call leg with taps: what the read hook needs. In the session's pool; lives as long as the session. */
typedef struct call_leg {
	switch_core_session_t *session;
	volatile switch_atomic_t taps;  /* open ones */
	volatile switch_atomic_t wrote; /* set by WRITE_REPLACE, cleared by the hook */
	/* The thread that reads: the hook, then the taps' READ callbacks for the same frame. */
	switch_bool_t filler;   /* the frame is FreeSWITCH's, not the caller's */
	switch_bool_t has_seq;  /* seq is valid */
	uint16_t seq;           /* of the caller's last packet */
	uint32_t lost;          /* packets missing before it */
	uint32_t idle_us;  /* time read since anybody else wrote */
	uint32_t owed_us;  /* time read for which we have not written yet */
	switch_codec_t codec;
	uint32_t codec_rate, codec_us;
	int codec_channels;
	switch_bool_t codec_failed;
} call_leg_t;

typedef struct audio_tap {
	as_stream *stream;
	switch_media_bug_t *bug;
	call_leg_t *leg;
	int rate_hz;                 /* the stream's */
	/* The thread that reads. */
	uint32_t fillers; /* held back */
	uint32_t last_samples;
	int16_t last[LAST_SAMPLES]; /* the caller's last frame, or its beginning */
	const char *reason;          /* why it was stopped, when somebody said */
	/* The rest only after a re-INVITE has changed the call's rate under the stream. */
	switch_audio_resampler_t *capture; /* thread that reads */
	switch_audio_resampler_t *inject;  /* thread that writes */
	int16_t *left_over;          /* MAX_FRAME_SAMPLES: resampled, not yet played; thread that writes */
	uint32_t left_over_samples;
	struct audio_tap *next; /* under globals.mutex */
} audio_tap_t;

static struct {
	switch_mutex_t *mutex; /* the list, and the making of legs; no media thread takes it but at a tap's end */
	audio_tap_t *taps;
	int tap_count;
	volatile switch_atomic_t busy; /* hooks and closes running */
	switch_bool_t unloading;
	module_config config;
} globals;

/* ---- Media thread: capture --------------------------------------------------------------------------------------- */

/* Interleaved channels to mono, in place. */
static uint32_t downmix(int16_t *samples, uint32_t samples_per_channel, uint32_t channels)
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

/* The resampler between two rates, made when a call's rate first differs from its stream's. NULL without memory. */
static switch_audio_resampler_t *bridge(switch_audio_resampler_t **resampler, int from_hz, int to_hz)
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

/* Media thread that reads. Samples at the call's rate into the stream. */
static void store(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	if (rate == tap->rate_hz || rate <= 0) {
		as_host_capture(tap->stream, samples, n);
	} else if (bridge(&tap->capture, rate, tap->rate_hz)) {
		switch_resample_process(tap->capture, samples, n);
		as_host_capture(tap->stream, tap->capture->to, tap->capture->to_len);
	}
}

/* Media thread that reads. In place of a lost frame: the last one again, 2.5 dB down at first, then 6 dB a frame. */
static void store_repeat(audio_tap_t *tap, uint32_t nth, uint32_t n, int rate)
{
	int16_t samples[MAX_FRAME_SAMPLES] = {0};
	for (uint32_t i = 0; i < n && i < tap->last_samples; i++) {
		samples[i] = (int16_t)(tap->last[i] * 3 / (4 << nth));
	}
	store(tap, samples, n, rate);
}

/* Media thread that reads. Decides about fillers, as said above. */
static void store_in_order(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	if (tap->leg->filler) {
		if (tap->fillers < FILLERS_HELD) {
			tap->fillers++;
			return;
		}
		memset(samples, 0, n * sizeof(int16_t));
		tap->last_samples = 0;
	} else {
		for (uint32_t nth = 0; nth < tap->fillers && nth < tap->leg->lost; nth++) {
			store_repeat(tap, nth, n, rate);
		}
		tap->fillers = 0;
		tap->last_samples = n < LAST_SAMPLES ? n : LAST_SAMPLES;
		memcpy(tap->last, samples, tap->last_samples * sizeof(int16_t));
	}
	store(tap, samples, n, rate);
}

/* Media thread that reads. */
static void on_read(audio_tap_t *tap)
{
	int16_t data[SWITCH_RECOMMENDED_BUFFER_SIZE / sizeof(int16_t)];
	switch_frame_t frame = {.data = data, .buflen = sizeof(data)};
	switch_codec_implementation_t impl = {0};
	switch_core_session_get_read_impl(tap->leg->session, &impl);
	uint32_t channels = impl.number_of_channels ? impl.number_of_channels : 1;
	while (switch_core_media_bug_read(tap->bug, &frame, SWITCH_TRUE) == SWITCH_STATUS_SUCCESS && frame.datalen) {
		uint32_t n = downmix(data, frame.datalen / sizeof(int16_t) / channels, channels);
		store_in_order(tap, data, n, (int)impl.actual_samples_per_second);
	}
}

/* ---- Media thread: inject ---------------------------------------------------------------------------------------- */

/* As as_host_inject(), for a call whose rate is not the stream's any more. */
static size_t inject_resampled(audio_tap_t *tap, int16_t *samples, uint32_t n, int rate)
{
	int16_t pull[MAX_FRAME_SAMPLES];
	uint32_t step = (uint32_t)tap->rate_hz / 100;
	if (!tap->left_over) {
		tap->left_over = switch_core_session_alloc(tap->leg->session, MAX_FRAME_SAMPLES * sizeof(int16_t));
	}
	if (!tap->left_over || !bridge(&tap->inject, tap->rate_hz, rate)) {
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

/* Whether a frame written now goes out. While its far end holds the call (or wants no audio at all) FreeSWITCH drops
 * frames, but only after the media bugs have had them: what we put into one would be lost, and counted as heard. */
static switch_bool_t goes_out(switch_core_session_t *session)
{
	switch_media_flow_t flow = switch_core_session_media_flow(session, SWITCH_MEDIA_TYPE_AUDIO);
	switch_rtp_t *rtp = switch_core_media_get_rtp_session(session, SWITCH_MEDIA_TYPE_AUDIO);
	return (flow == SWITCH_MEDIA_FLOW_SENDRECV || flow == SWITCH_MEDIA_FLOW_SENDONLY) &&
		   !(rtp && switch_rtp_test_flag(rtp, SWITCH_RTP_FLAG_PAUSE));
}

/* Media thread that writes. */
static void on_write(audio_tap_t *tap)
{
	int16_t mono[MAX_FRAME_SAMPLES];
	switch_frame_t *frame = switch_core_media_bug_get_write_replace_frame(tap->bug);
	switch_codec_implementation_t impl = {0};
	switch_atomic_set(&tap->leg->wrote, 1);
	if (!frame || !frame->data || !frame->datalen || !goes_out(tap->leg->session)) {
		return;
	}
	switch_core_session_get_write_impl(tap->leg->session, &impl);
	uint32_t channels = impl.number_of_channels ? impl.number_of_channels : 1;
	uint32_t n = frame->datalen / sizeof(int16_t) / channels;
	int16_t *samples = channels == 1 ? frame->data : mono;
	int rate = (int)impl.actual_samples_per_second;
	if (n > MAX_FRAME_SAMPLES) {
		return;
	}
	size_t owned = rate == tap->rate_hz || rate <= 0 ? as_host_inject(tap->stream, samples, n)
													 : inject_resampled(tap, samples, n, rate);
	for (uint32_t i = 0; owned && channels > 1 && i < n; i++) {
		for (uint32_t c = 0; c < channels; c++) {
			((int16_t *)frame->data)[i * channels + c] = mono[i];
		}
	}
	if (owned) {
		switch_core_media_bug_set_write_replace_frame(tap->bug, frame);
	}
}

/* ---- Media thread: silence where nobody writes ------------------------------------------------------------------- */

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
	leg->codec_failed = switch_core_codec_init(&leg->codec, "L16", NULL, NULL, rate, us / 1000, impl->number_of_channels,
											   SWITCH_CODEC_FLAG_ENCODE | SWITCH_CODEC_FLAG_DECODE, NULL,
											   switch_core_session_get_pool(leg->session)) != SWITCH_STATUS_SUCCESS;
	if (!leg->codec_failed) {
		/* Nobody could destroy it safely at the call's end, and it owns nothing outside the session's pool but these
		 * references to a codec of the core, which stays loaded. */
		UNPROTECT_INTERFACE(leg->codec.codec_interface);
	}
	if (leg->codec_failed) {
		switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(leg->session), SWITCH_LOG_ERROR,
						  "no L16 codec at %u Hz, %u us: injected audio is heard only while something else plays\n", rate, us);
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

/* Media thread that reads, after each frame, with no lock held. */
static void fill_silence(call_leg_t *leg)
{
	switch_codec_implementation_t read = {0}, write = {0};
	switch_core_session_get_read_impl(leg->session, &read);
	uint32_t passed_us = read.microseconds_per_packet > 0 ? (uint32_t)read.microseconds_per_packet : 20000;
	if (switch_atomic_read(&leg->wrote)) {
		switch_atomic_set(&leg->wrote, 0);
		leg->idle_us = leg->owed_us = 0;
		return;
	}
	leg->idle_us += passed_us;
	if (leg->idle_us < PATIENCE_US) {
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

static switch_status_t on_read_hook(switch_core_session_t *session, switch_frame_t **frame, switch_io_flag_t flags,
									int stream_id)
{
	switch_atomic_inc(&globals.busy);
	call_leg_t *leg = switch_channel_get_private(switch_core_session_get_channel(session), CALL_PRIVATE);
	if (leg && switch_atomic_read(&leg->taps) > 0) {
		if (*frame) {
			note_frame(leg, *frame);
		}
		fill_silence(leg);
	}
	switch_atomic_dec(&globals.busy);
	(void)flags, (void)stream_id;
	return SWITCH_STATUS_SUCCESS;
}

/* ---- Beginning and end ------------------------------------------------------------------------------------------- */

static void list_tap(audio_tap_t *tap)
{
	switch_mutex_lock(globals.mutex);
	tap->next = globals.taps;
	globals.taps = tap;
	globals.tap_count++;
	switch_mutex_unlock(globals.mutex);
}

static void unlist_tap(audio_tap_t *gone)
{
	switch_mutex_lock(globals.mutex);
	for (audio_tap_t **link = &globals.taps; *link; link = &(*link)->next) {
		if (*link == gone) {
			*link = gone->next;
			globals.tap_count--;
			break;
		}
	}
	switch_mutex_unlock(globals.mutex);
}

/* The tap's end, once, on whatever thread removed the bug. */
static void on_close(audio_tap_t *tap)
{
	unlist_tap(tap); /* first: find_tap() looks into the streams of those in the list */
	as_stream_close(tap->stream);
	const char *reason = tap->reason ? tap->reason : globals.unloading ? "module unloaded" : "hangup";
	cJSON *body = events_describe(tap->stream);
	cJSON_AddItemToObject(body, "reason", cJSON_CreateString(reason));
	switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(tap->leg->session), SWITCH_LOG_DEBUG, "stream stopped: %s\n", reason);
	events_fire(EVENT_STOPPED, tap->leg->session, body);
	if (tap->capture) {
		switch_resample_destroy(&tap->capture);
	}
	if (tap->inject) {
		switch_resample_destroy(&tap->inject);
	}
	switch_atomic_dec(&tap->leg->taps);
	as_stream_unref(tap->stream);
}

static switch_bool_t on_bug(switch_media_bug_t *bug, void *user_data, switch_abc_type_t type)
{
	audio_tap_t *tap = user_data;
	switch (type) {
	case SWITCH_ABC_TYPE_INIT:
		tap->bug = bug; /* before any other callback, and before anybody can find the tap's bug missing */
		break;
	case SWITCH_ABC_TYPE_READ:
		on_read(tap);
		break;
	case SWITCH_ABC_TYPE_WRITE_REPLACE:
		on_write(tap);
		break;
	case SWITCH_ABC_TYPE_CLOSE:
		switch_atomic_inc(&globals.busy);
		on_close(tap);
		switch_atomic_dec(&globals.busy);
		break;
	default:
		break;
	}
	return SWITCH_TRUE;
}

static int wire_encoding(const switch_codec_implementation_t *impl)
{
	if (impl->iananame && !strcasecmp(impl->iananame, "PCMU")) {
		return AS_PCMU;
	}
	return impl->iananame && !strcasecmp(impl->iananame, "PCMA") ? AS_PCMA : AS_S16;
}

/* The call's leg, made with its first tap. It stays with the session: a hook once set costs next to nothing. */
static call_leg_t *leg_of(switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	switch_mutex_lock(globals.mutex);
	call_leg_t *found = switch_channel_get_private(channel, CALL_PRIVATE);
	if (!found && (found = switch_core_session_alloc(session, sizeof(*found)))) {
		found->session = session;
		switch_channel_set_private(channel, CALL_PRIVATE, found);
		switch_core_event_hook_add_read_frame(session, on_read_hook);
	}
	switch_mutex_unlock(globals.mutex);
	return found;
}

static switch_status_t refuse(char *error, size_t bytes, const char *format, const char *what)
{
	switch_snprintf(error, bytes, format, what);
	return SWITCH_STATUS_FALSE;
}

/* Media must be up before the call's rate is known; an unanswered call gets early media. */
static switch_bool_t media_up(switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	return switch_channel_up_nosig(channel) && !switch_channel_test_flag(channel, CF_PROXY_MODE) &&
		   !switch_channel_test_flag(channel, CF_PROXY_MEDIA) &&
		   (switch_channel_media_ready(channel) || switch_channel_pre_answer(channel) == SWITCH_STATUS_SUCCESS);
}

static int open_stream(switch_core_session_t *session, const char *stream_id, int rate_hz, as_stream **out)
{
	switch_codec_implementation_t read = {0};
	switch_core_session_get_read_impl(session, &read);
	as_config config = {
		.rate_hz = (int)read.actual_samples_per_second,
		.app_rate_hz = rate_hz,
		.wire_encoding = wire_encoding(&read),
		.frame_ms = read.microseconds_per_packet > 0 ? read.microseconds_per_packet / 1000 : 20,
		.capture_ms = globals.config.capture_buffer_ms,
		.inject_max_ms = globals.config.inject_max_ms,
		.prebuffer_ms = globals.config.prebuffer_ms,
		.fade_ms = globals.config.fade_ms,
	};
	return as_stream_create(switch_core_session_get_uuid(session), stream_id, &config, out);
}

static switch_status_t attach(switch_core_session_t *session, call_leg_t *leg, as_stream *stream, const char *stream_id)
{
	as_info info;
	audio_tap_t *tap = switch_core_session_alloc(session, sizeof(*tap));
	if (!tap) {
		return SWITCH_STATUS_MEMERR;
	}
	as_stream_info(stream, &info);
	tap->stream = stream;
	tap->leg = leg;
	tap->rate_hz = info.rate_hz;
	list_tap(tap);
	switch_atomic_inc(&leg->taps);
	/* First in the list: recordings and taps that come after see what the caller hears. */
	switch_status_t status =
		switch_core_media_bug_add(session, TAP_FUNCTION, stream_id, on_bug, tap, 0,
								  SMBF_READ_STREAM | SMBF_WRITE_REPLACE | SMBF_FIRST, &tap->bug);
	if (status != SWITCH_STATUS_SUCCESS) {
		switch_atomic_dec(&leg->taps);
		unlist_tap(tap);
	}
	return status;
}

switch_status_t tap_start(switch_core_session_t *session, const char *stream_id, int rate_hz, char *error, size_t bytes)
{
	as_stream *stream = NULL;
	if (globals.config.max_streams && globals.tap_count >= globals.config.max_streams) {
		return refuse(error, bytes, "max-streams in audio_stream.conf.xml is reached; stream '%s' not started", stream_id);
	}
	if (!media_up(session)) {
		return refuse(error, bytes, "call %s has no audio to stream (it is not up, or its media bypasses FreeSWITCH)",
					  switch_core_session_get_uuid(session));
	}
	call_leg_t *leg = leg_of(session);
	int result = leg ? open_stream(session, stream_id, rate_hz, &stream) : AS_ENOMEM;
	if (result) {
		return refuse(error, bytes, "%s", as_strerror(result));
	}
	as_stream_ref(stream); /* ours until the event is out; the bug may be gone by then */
	if (attach(session, leg, stream, stream_id) != SWITCH_STATUS_SUCCESS) {
		as_stream_close(stream);
		as_stream_unref(stream);
		as_stream_unref(stream);
		return refuse(error, bytes, "FreeSWITCH would not attach a media bug for stream '%s'", stream_id);
	}
	events_fire(EVENT_STARTED, session, events_describe(stream));
	as_stream_unref(stream);
	return SWITCH_STATUS_SUCCESS;
}

/* A tap of this call by name, with its bug; the session's read lock, which the caller holds, keeps both in memory. */
static audio_tap_t *find_tap(switch_core_session_t *session, const char *stream_id)
{
	switch_mutex_lock(globals.mutex);
	audio_tap_t *found = globals.taps;
	while (found) {
		as_info info;
		as_stream_info(found->stream, &info);
		if (found->leg->session == session && !strcmp(info.id, stream_id)) {
			break;
		}
		found = found->next;
	}
	switch_mutex_unlock(globals.mutex);
	return found;
}

switch_status_t tap_stop(switch_core_session_t *session, const char *stream_id, const char *reason)
{
	audio_tap_t *tap = find_tap(session, stream_id);
	if (!tap || !tap->bug) {
		return SWITCH_STATUS_NOTFOUND;
	}
	tap->reason = switch_core_session_strdup(session, zstr(reason) ? "stop" : reason);
	/* Of two stops at once, the second finds the bug gone from the session's list. */
	return switch_core_media_bug_remove(session, &tap->bug) == SWITCH_STATUS_SUCCESS ? SWITCH_STATUS_SUCCESS
																				   : SWITCH_STATUS_NOTFOUND;
}

switch_status_t taps_init(switch_memory_pool_t *pool, const module_config *config)
{
	globals.config = *config;
	globals.unloading = SWITCH_FALSE;
	if (globals.mutex) {
		return SWITCH_STATUS_SUCCESS; /* an unload had to leave us in memory, perhaps with taps */
	}
	return switch_mutex_init(&globals.mutex, SWITCH_MUTEX_NESTED, pool);
}

/* Removes what we left on one call. */
static void detach(switch_core_session_t *session)
{
	switch_core_media_bug_remove_all_function(session, TAP_FUNCTION);
	switch_core_event_hook_remove_read_frame(session, on_read_hook);
	switch_channel_set_private(switch_core_session_get_channel(session), CALL_PRIVATE, NULL);
}

switch_status_t taps_shutdown(void)
{
	switch_console_callback_match_t *calls = switch_core_session_findall();
	globals.unloading = SWITCH_TRUE;
	for (switch_console_callback_match_node_t *node = calls ? calls->head : NULL; node; node = node->next) {
		switch_core_session_t *session = switch_core_session_locate(node->val);
		if (session) {
			detach(session);
			switch_core_session_rwunlock(session);
		}
	}
	if (calls) {
		switch_console_free_matches(&calls);
	}
	/* Calls that were ending already close their taps themselves; a thread may be between the hook and its counter. */
	for (int i = 0; i < SHUTDOWN_TRIES; i++) {
		switch_yield(50000);
		if (!globals.tap_count && !switch_atomic_read(&globals.busy)) {
			switch_yield(50000); /* for a thread on its way out of a callback, past its counter */
			return SWITCH_STATUS_SUCCESS;
		}
	}
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_ERROR,
					  "%d streams would not stop: staying in memory, without commands until loaded again\n",
					  globals.tap_count);
	return SWITCH_STATUS_NOUNLOAD;
}
