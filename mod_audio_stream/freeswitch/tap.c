/*
 * tap.c - joins a call leg to a stream: one or two media bugs per stream, and one read hook per call.
 *
 *     caller ──▶ READ of the head bug ────────────▶ as_host_capture()      on whatever thread reads or writes the call's
 *     caller ◀── WRITE_REPLACE of the head bug ◀─── as_host_inject()       frames at that moment: no mutex of ours, no malloc
 *            ◀── WRITE of the tail bug ───────────▶ as_host_capture()
 *
 * A stream has the bugs that it needs. The head bug reads what the caller says and injects; one that injects stands before
 * all others, so that recordings and taps that come later have what the caller hears. The tail bug stands behind them and
 * hears everything that is written, whoever it comes from. tap_read.c and tap_write.c are the media threads' part;
 * tap_media.c knows whether a call has audio.
 *
 * Lifetime. A tap lies in its session's pool. Its bugs own it, and commands while they work on it. FreeSWITCH calls CLOSE
 * once for each bug, after the last of its other callbacks has returned; the last owner to leave ends the tap.
 */
#include "tap_internal.h"

#include "events.h"
#include "host_events.h"

#define DELAY_MS 40        /* and a packet: how far a stream of both directions is behind, and a packet may be late */
#define SHUTDOWN_TRIES 100 /* times 50 ms */
#define CALL_PRIVATE "audio_stream" /* channel private: the call's leg */

/* A start on its way: it counts until its tap does, or it has failed. On the stack of tap_start(). */
typedef struct place {
	const switch_core_session_t *session;
	struct place *next;
} place_t;

static struct {
	switch_mutex_t *mutex; /* the lists, and the making of legs; no media thread takes it but at a tap's end */
	audio_tap_t *taps;
	int tap_count;
	place_t *places;
	volatile switch_atomic_t busy; /* hooks and closes running */
	switch_bool_t unloading;
	module_config config;
	tap_describe describe;
} globals;

/* ---- The end ----------------------------------------------------------------------------------------------------- */

static void give_back(place_t *place)
{
	switch_mutex_lock(globals.mutex);
	for (place_t **link = &globals.places; *link; link = &(*link)->next) {
		if (*link == place) {
			*link = place->next;
			break;
		}
	}
	switch_mutex_unlock(globals.mutex);
}

/* In its place. */
static void list_tap(audio_tap_t *tap, place_t *place)
{
	switch_mutex_lock(globals.mutex);
	give_back(place);
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

static cJSON *describe_tap(const audio_tap_t *tap)
{
	cJSON *body = globals.describe(tap->stream);
	if (tap->source) {
		cJSON_ReplaceItemInObject(body, "source", cJSON_CreateString(tap->source));
	}
	return body;
}

/* Tells the world, if it has been told of the beginning. */
static void announce_end(const audio_tap_t *tap)
{
	const char *reason = tap->reason ? tap->reason : globals.unloading ? "module unloaded" : "hangup";
	switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(tap->leg->session), SWITCH_LOG_DEBUG, "stream stopped: %s\n", reason);
	if (tap->announced) {
		cJSON *body = describe_tap(tap);
		cJSON_AddItemToObject(body, "reason", cJSON_CreateString(reason));
		events_fire(EVENT_STOPPED, tap->leg->session, tap->id, body);
	}
}

/* The tap's end, once, on the thread of its last owner. */
static void end(audio_tap_t *tap)
{
	tap_drain(tap);
	/* The id is free once the stream is closed. Whoever takes it has to find its tap, under the mutex, before it tells of
	 * it: stream_stopped comes first. */
	switch_mutex_lock(globals.mutex);
	unlist_tap(tap); /* first: find_tap() looks into the streams of those in the list */
	as_stream_close(tap->stream);
	announce_end(tap);
	switch_mutex_unlock(globals.mutex);
	switch_audio_resampler_t **resamplers[] = {&tap->said, &tap->heard, &tap->inject};
	for (size_t i = 0; i < sizeof(resamplers) / sizeof(resamplers[0]); i++) {
		if (*resamplers[i]) {
			switch_resample_destroy(resamplers[i]);
		}
	}
	as_align_free(tap->line);
	if (tap->calls) {
		switch_atomic_dec(&tap->leg->callers);
	}
	if (tap->waits) {
		switch_atomic_dec(&tap->leg->waiting);
	}
	switch_atomic_dec(&tap->leg->taps);
	as_stream_unref(tap->stream);
}

static void leave(audio_tap_t *tap)
{
	if (atomic_fetch_sub(&tap->owners, 1) == 1) {
		end(tap);
	}
}

/* ---- Callbacks --------------------------------------------------------------------------------------------------- */

/* FreeSWITCH gives a hook the session only. switch_channel_get_private() takes the channel's profile_mutex for a look-up in
 * a small hash table; others hold that for a millisecond at most, while they copy the call's variables into an event. */
static switch_status_t on_read_hook(switch_core_session_t *session, switch_frame_t **frame, switch_io_flag_t flags,
									int stream_id)
{
	switch_atomic_inc(&globals.busy);
	call_leg_t *leg = switch_channel_get_private(switch_core_session_get_channel(session), CALL_PRIVATE);
	if (leg && switch_atomic_read(&leg->taps) > 0) {
		tap_hook(leg, *frame);
	}
	switch_atomic_dec(&globals.busy);
	(void)flags, (void)stream_id;
	return SWITCH_STATUS_SUCCESS;
}

static switch_bool_t on_bug(switch_media_bug_t *bug, void *user_data, switch_abc_type_t type)
{
	tap_bug_t *at = user_data;
	audio_tap_t *tap = at->tap;
	switch (type) {
	case SWITCH_ABC_TYPE_INIT:
		at->bug = bug; /* before any other callback */
		break;
	case SWITCH_ABC_TYPE_READ:
		tap_on_read(tap);
		break;
	case SWITCH_ABC_TYPE_WRITE_REPLACE:
		if (at == &tap->head) {
			tap_on_inject(tap);
		} else {
			tap_on_heard_frame(tap);
		}
		break;
	case SWITCH_ABC_TYPE_WRITE:
		tap_on_heard(tap);
		break;
	case SWITCH_ABC_TYPE_CLOSE:
		switch_atomic_inc(&globals.busy);
		leave(tap);
		switch_atomic_dec(&globals.busy);
		break;
	default:
		break;
	}
	return SWITCH_TRUE;
}

/* ---- The beginning ----------------------------------------------------------------------------------------------- */

/* The call's leg, made with its first tap. It stays with the session: a hook once set costs next to nothing. */
static call_leg_t *leg_of(switch_core_session_t *session)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	switch_mutex_lock(globals.mutex);
	call_leg_t *found = switch_channel_get_private(channel, CALL_PRIVATE);
	if (!found && (found = switch_core_session_alloc(session, sizeof(*found)))) {
		found->session = session;
		switch_mutex_init(&found->starting, SWITCH_MUTEX_NESTED, switch_core_session_get_pool(session));
		switch_channel_set_private(channel, CALL_PRIVATE, found);
		switch_core_event_hook_add_read_frame(session, on_read_hook);
		host_events_watch(session);
	}
	switch_mutex_unlock(globals.mutex);
	return found;
}

/* Packets' lengths differ between the directions at most while somebody changes them. */
static int packet_ms(switch_core_session_t *session)
{
	switch_codec_implementation_t read = {0}, write = {0};
	switch_core_session_get_read_impl(session, &read);
	switch_core_session_get_write_impl(session, &write);
	int us = read.microseconds_per_packet;
	us = write.microseconds_per_packet > us ? write.microseconds_per_packet : us;
	return us > 0 ? us / 1000 : 20;
}

static switch_bool_t both_ways(tap_track track)
{
	return track == TAP_MIXED || track == TAP_STEREO;
}

/* How long a time line waits for late packets. */
static int delay_ms(switch_core_session_t *session)
{
	return DELAY_MS + packet_ms(session);
}

/* On AS_EINVAL error has the reason. */
static int open_stream(switch_core_session_t *session, const tap_request *request, as_stream **out, char *error,
					   size_t bytes)
{
	const module_config *defaults = &globals.config;
	switch_codec_implementation_t read = {0};
	int encoding = tap_encoding(session);
	switch_core_session_get_read_impl(session, &read);
	as_config config = {
		.rate_hz = (int)read.actual_samples_per_second,
		.channels = request->track == TAP_STEREO ? 2 : 1,
		.app_rate_hz = request->rate_hz,
		.wire_encoding = encoding ? encoding : AS_S16,
		.frame_ms = read.microseconds_per_packet > 0 ? read.microseconds_per_packet / 1000 : 20,
		.capture_ms = request->capture_ms ? request->capture_ms : defaults->capture_buffer_ms,
		.inject_max_ms = request->inject_max_ms ? request->inject_max_ms : defaults->inject_max_ms,
		.prebuffer_ms = request->prebuffer_ms ? request->prebuffer_ms : defaults->prebuffer_ms,
		.fade_ms = defaults->fade_ms,
		.behind_ms = both_ways(request->track) ? delay_ms(session) + AS_ALIGN_FRAME_MS : 0,
	};
	int wrong = as_config_check(&config, error, bytes);
	return wrong ? wrong : as_stream_create(switch_core_session_get_uuid(session), request->stream_id, &config, out);
}

/* FreeSWITCH looks at it when a bug is added. */
static switch_bool_t waits_for_answer(switch_core_session_t *session)
{
	return switch_true(switch_channel_get_variable(switch_core_session_get_channel(session), "media_bug_answer_req"));
}

/* A tap that takes over the stream, in the list; it is the caller's until leave(). NULL without memory. */
static audio_tap_t *new_tap(call_leg_t *leg, as_stream *stream, const tap_request *request, place_t *place)
{
	as_info info;
	audio_tap_t *tap = switch_core_session_alloc(leg->session, sizeof(*tap));
	as_stream_info(stream, &info);
	if (!tap ||
		(both_ways(request->track) && !(tap->line = as_align_new(info.rate_hz, delay_ms(leg->session), as_now_ns())))) {
		return NULL;
	}
	tap->stream = stream;
	tap->leg = leg;
	tap->head.tap = tap->tail.tap = tap;
	tap->id = switch_core_session_strdup(leg->session, request->stream_id);
	tap->source = request->source ? switch_core_session_strdup(leg->session, request->source) : NULL;
	tap->rate_hz = info.rate_hz;
	tap->track = request->track;
	tap->calls = request->inject || request->track == TAP_OUTBOUND ? SWITCH_TRUE : SWITCH_FALSE;
	tap->waits = tap->calls && waits_for_answer(leg->session) ? SWITCH_TRUE : SWITCH_FALSE;
	atomic_init(&tap->owners, 1);
	list_tap(tap, place);
	switch_atomic_inc(&leg->taps);
	if (tap->waits) {
		switch_atomic_inc(&leg->waiting);
	}
	if (tap->calls) {
		switch_atomic_inc(&leg->callers);
	}
	return tap;
}

static switch_status_t add_bug(tap_bug_t *at, const char *stream_id, switch_media_bug_flag_t flags)
{
	audio_tap_t *tap = at->tap;
	if (!flags) {
		return SWITCH_STATUS_SUCCESS;
	}
	atomic_fetch_add(&tap->owners, 1);
	switch_status_t status =
		switch_core_media_bug_add(tap->leg->session, TAP_FUNCTION, stream_id, on_bug, at, 0, flags, &at->bug);
	if (status != SWITCH_STATUS_SUCCESS) {
		at->bug = NULL;
		leave(tap);
	}
	return status;
}

/* One that a hangup has removed already is not in the session's list any more. */
static void remove_bug(tap_bug_t *at)
{
	switch_media_bug_t *bug = at->bug;
	if (bug) {
		switch_core_media_bug_remove(at->tap->leg->session, &bug);
	}
}

/* A stop finds both bugs or none, and then there will be none: SWITCH_STATUS_NOTFOUND. */
static switch_status_t attach(audio_tap_t *tap, const tap_request *request)
{
	call_leg_t *leg = tap->leg;
	switch_media_bug_flag_t head = request->inject ? SMBF_WRITE_REPLACE | SMBF_FIRST : 0;
	head |= request->track != TAP_OUTBOUND ? SMBF_READ_STREAM : 0;
	switch_mutex_lock(leg->starting);
	tap->serial = ++leg->serials;
	switch_status_t status = tap->stopping ? SWITCH_STATUS_NOTFOUND : add_bug(&tap->head, request->stream_id, head);
	if (status == SWITCH_STATUS_SUCCESS) {
		status = add_bug(&tap->tail, request->stream_id, request->track != TAP_INBOUND ? SMBF_WRITE_STREAM : 0);
	}
	switch_mutex_unlock(leg->starting);
	if (status != SWITCH_STATUS_SUCCESS) {
		remove_bug(&tap->head);
	}
	return status;
}

/* Streams of a call, or of all for NULL, and those on their way; under the mutex. */
static int count_streams(const switch_core_session_t *session)
{
	int count = 0;
	for (const audio_tap_t *tap = globals.taps; tap; tap = tap->next) {
		count += !session || tap->leg->session == session;
	}
	for (const place_t *place = globals.places; place; place = place->next) {
		count += !session || place->session == session;
	}
	return count;
}

/* Takes a place, unless there are as many streams as there may be. */
static switch_status_t take_place(place_t *place, const char *stream_id, char *error, size_t bytes)
{
	const int per_call = globals.config.max_streams_per_call, in_all = globals.config.max_streams;
	switch_mutex_lock(globals.mutex);
	const char *reached = per_call && count_streams(place->session) >= per_call ? "max-streams-per-call"
						  : in_all && count_streams(NULL) >= in_all             ? "max-streams"
																				: NULL;
	if (!reached) {
		place->next = globals.places;
		globals.places = place;
	}
	switch_mutex_unlock(globals.mutex);
	if (reached) {
		switch_snprintf(error, bytes, "%s in audio_stream.conf.xml is reached; stream '%s' not started", reached,
						stream_id);
	}
	return reached ? SWITCH_STATUS_GENERR : SWITCH_STATUS_SUCCESS;
}

static switch_bool_t id_taken(const char *uuid, const char *stream_id)
{
	as_stream *taken = NULL;
	if (as_stream_find(uuid, stream_id, 0, &taken)) {
		return SWITCH_FALSE;
	}
	as_stream_unref(taken);
	return SWITCH_TRUE;
}

/* Whether the call can have such a stream. Early media is last: a start that is refused leaves the call as it was. */
static switch_status_t check(switch_core_session_t *session, const tap_request *request, char *error, size_t bytes)
{
	const char *uuid = switch_core_session_get_uuid(session);
	if (id_taken(uuid, request->stream_id)) {
		return tap_refuse(error, bytes, SWITCH_STATUS_FALSE, "%s", as_strerror(AS_EEXIST));
	}
	if (request->track == TAP_STEREO && !request->one_leg_stereo &&
		!switch_channel_test_flag(switch_core_session_get_channel(session), CF_BRIDGED)) {
		switch_snprintf(
			error, bytes,
			"%s needs the other leg: call %s is not bridged; bridge it first, or use mixed, or allow it for all "
			"calls: allow-one-leg-stereo in audio_stream.conf.xml, or STREAM_ALLOW_ONE_LEG_STEREO=true in "
			"FreeSWITCH's environment",
			request->track_name ? request->track_name : "stereo", uuid);
		return SWITCH_STATUS_FALSE;
	}
	return tap_ask_for_media(session, error, bytes);
}

static switch_status_t start_in(place_t *place, switch_core_session_t *session, const tap_request *request,
								as_stream **out, char *error, size_t bytes)
{
	as_stream *stream = NULL;
	switch_status_t status = check(session, request, error, bytes);
	if (status != SWITCH_STATUS_SUCCESS) {
		return status;
	}
	call_leg_t *leg = leg_of(session);
	*error = '\0';
	int result = leg ? open_stream(session, request, &stream, error, bytes) : AS_ENOMEM;
	if (result == AS_EINVAL && *error) {
		return SWITCH_STATUS_GENERR; /* the call's codec, not the command */
	}
	if (result) {
		return tap_not_opened(session, result, error, bytes);
	}
	audio_tap_t *tap = new_tap(leg, stream, request, place);
	if (!tap) {
		as_stream_close(stream);
		as_stream_unref(stream);
		return tap_refuse(error, bytes, SWITCH_STATUS_MEMERR, "%s", as_strerror(AS_ENOMEM));
	}
	status = attach(tap, request);
	if (status == SWITCH_STATUS_SUCCESS) {
		*out = as_stream_ref(stream);
	} else if (status == SWITCH_STATUS_NOTFOUND) {
		tap_refuse(error, bytes, status, TAP_STOPPED_MEANWHILE, request->stream_id);
	} else {
		status = tap_refuse(error, bytes, SWITCH_STATUS_GENERR,
							"FreeSWITCH would not attach a media bug for stream '%s'", request->stream_id);
	}
	leave(tap);
	return status;
}

switch_status_t tap_start(switch_core_session_t *session, const tap_request *request, as_stream **out, char *error,
						  size_t bytes)
{
	place_t place = {.session = session};
	switch_status_t status = take_place(&place, request->stream_id, error, bytes);
	if (status == SWITCH_STATUS_SUCCESS) {
		status = start_in(&place, session, request, out, error, bytes);
		give_back(&place);
	}
	return status;
}

/* ---- Commands ---------------------------------------------------------------------------------------------------- */

/* Makes the caller an owner, unless the tap is at its end. */
static switch_bool_t join(audio_tap_t *tap)
{
	int owners = atomic_load(&tap->owners);
	while (owners > 0 && !atomic_compare_exchange_weak(&tap->owners, &owners, owners + 1)) {
	}
	return owners > 0 ? SWITCH_TRUE : SWITCH_FALSE;
}

/* A stream's tap, for the caller to leave() again. The call may have another stream of the same id by now. */
static audio_tap_t *find_tap(const as_stream *stream)
{
	switch_mutex_lock(globals.mutex);
	audio_tap_t *found = globals.taps;
	while (found && (found->stream != stream || !join(found))) {
		found = found->next;
	}
	switch_mutex_unlock(globals.mutex);
	return found;
}

switch_status_t tap_announce(switch_core_session_t *session, const as_stream *stream)
{
	audio_tap_t *tap = find_tap(stream);
	if (!tap) {
		return SWITCH_STATUS_NOTFOUND;
	}
	tap->announced = SWITCH_TRUE;
	events_fire(EVENT_STARTED, session, tap->id, describe_tap(tap));
	leave(tap);
	return SWITCH_STATUS_SUCCESS;
}

switch_bool_t tap_embedded(const as_stream *stream)
{
	audio_tap_t *tap = find_tap(stream);
	if (!tap) {
		return SWITCH_FALSE;
	}
	switch_bool_t embedded = !tap->source || !strcmp(tap->source, "embedded");
	leave(tap);
	return embedded;
}

switch_status_t tap_stop(switch_core_session_t *session, const as_stream *stream, const char *reason)
{
	audio_tap_t *tap = find_tap(stream);
	if (!tap) {
		return SWITCH_STATUS_NOTFOUND;
	}
	switch_mutex_lock(tap->leg->starting); /* attach() is through with both bugs, or will not begin */
	switch_bool_t first = !tap->stopping;
	if (first) {
		tap->reason = switch_core_session_strdup(session, zstr(reason) ? "stop" : reason);
		tap->stopping = SWITCH_TRUE;
	}
	switch_mutex_unlock(tap->leg->starting);
	if (first) {
		remove_bug(&tap->head);
		remove_bug(&tap->tail);
	}
	leave(tap);
	return first ? SWITCH_STATUS_SUCCESS : SWITCH_STATUS_NOTFOUND;
}

/* ---- The module -------------------------------------------------------------------------------------------------- */

switch_status_t taps_init(switch_memory_pool_t *pool, const module_config *config, tap_describe describe)
{
	globals.describe = describe;
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
	host_events_unloaded(session);
	switch_core_media_bug_remove_all_function(session, TAP_FUNCTION);
	switch_core_event_hook_remove_read_frame(session, on_read_hook);
	host_events_unwatch(session);
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
		if (!globals.tap_count && !switch_atomic_read(&globals.busy) && host_events_idle()) {
			switch_yield(50000); /* for a thread on its way out of a callback, past its counter */
			return SWITCH_STATUS_SUCCESS;
		}
	}
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_ERROR,
					  "%d streams would not stop: staying in memory, without commands until loaded again\n",
					  globals.tap_count);
	return SWITCH_STATUS_NOUNLOAD;
}
