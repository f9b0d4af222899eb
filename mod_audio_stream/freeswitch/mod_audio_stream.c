/*
 * mod_audio_stream - taps and feeds a call's audio.
 *
 *     fs_cli, ESL, ${uuid_audio_stream(...)}  ─┐                       ┌─▶ tap.c ───────────▶ libaudiostream
 *     dialplan application uuid_audio_stream  ─┴▶ command.c ─▶ run() ──┴─▶ ws_streams.c ─▶ tap.c, a streamer
 *
 * This file registers the module and turns commands into calls; tap.c does the audio, ws_streams.c gives it to a streamer
 * of the library, events.c says what happened, worker.c has the threads that say it, describe.c is what `status` says,
 * host_events.c tells streams of keys and holds. The stream itself lies in libaudiostream, which the Python extension
 * shares: one registry in the process.
 */
#include "command.h"
#include "config.h"
#include "describe.h"
#include "events.h"
#include "host_events.h"
#include "status.h"
#include "tap.h"
#include "worker.h"
#include "ws_streams.h"

SWITCH_MODULE_LOAD_FUNCTION(mod_audio_stream_load);
SWITCH_MODULE_SHUTDOWN_FUNCTION(mod_audio_stream_shutdown);
SWITCH_MODULE_DEFINITION(mod_audio_stream, mod_audio_stream_load, mod_audio_stream_shutdown, NULL);

#define COMMAND "uuid_audio_stream"
#define LIST_STREAMS "::audio_stream::list_streams"
#define ERROR_BYTES 512

static module_config config; /* written at load, read only after */

static switch_status_t no_stream(const as_command *command, char *error)
{
	switch_snprintf(error, ERROR_BYTES, "no stream '%s' on call %s", command->stream_id, command->uuid);
	return SWITCH_STATUS_FALSE;
}

/* The stream that a command names; as_stream_unref() it. NULL, and an error, without one. */
static as_stream *find_named(const as_command *command, char *error)
{
	as_stream *stream = NULL;
	if (as_stream_find(command->uuid, command->stream_id, 0, &stream)) {
		no_stream(command, error);
	}
	return stream;
}

/* ---- status ------------------------------------------------------------------------------------------------------ */

/* A call's streams as they are now; *count of them. NULL without any. free() it. */
static as_info *list_streams(const char *uuid, int *count)
{
	int room = as_stream_list(uuid, NULL, 0);
	as_info *infos = room > 0 ? calloc((size_t)room, sizeof(*infos)) : NULL;
	int found = infos ? as_stream_list(uuid, infos, room) : 0;
	*count = found < room ? found : room;
	return infos;
}

/* The call's streams, or the one named. */
static cJSON *describe_streams(const as_command *command)
{
	int count;
	as_info *infos = list_streams(command->uuid, &count);
	cJSON *streams = cJSON_CreateArray();
	for (int i = 0; i < count; i++) {
		as_stream *stream = NULL;
		int wanted = !command->has_stream_id || !strcmp(infos[i].id, command->stream_id);
		if (wanted && as_stream_find(command->uuid, infos[i].id, 0, &stream) == 0) {
			cJSON_AddItemToArray(streams, describe_stream(stream));
			as_stream_unref(stream);
		}
	}
	free(infos);
	return streams;
}

static switch_status_t run_status(const as_command *command, switch_stream_handle_t *out, char *error)
{
	cJSON *streams = describe_streams(command);
	if (command->has_stream_id && !cJSON_GetArraySize(streams)) {
		cJSON_Delete(streams);
		return no_stream(command, error);
	}
	cJSON *body = cJSON_CreateObject();
	cJSON_AddItemToObject(body, "uuid", cJSON_CreateString(command->uuid));
	cJSON_AddItemToObject(body, "streams", streams);
	char *text = cJSON_PrintUnformatted(body);
	out->write_function(out, "%s\n", text);
	switch_safe_free(text);
	cJSON_Delete(body);
	return SWITCH_STATUS_SUCCESS;
}

/* ---- The other verbs --------------------------------------------------------------------------------------------- */

static switch_status_t run_pause(const as_command *command, char *error)
{
	as_stream *stream = find_named(command, error);
	if (!stream) {
		return SWITCH_STATUS_FALSE;
	}
	if (command->verb == AS_VERB_PAUSE) {
		as_stream_pause(stream, command->directions);
	} else {
		as_stream_resume(stream, command->directions);
	}
	if (*command->text) {
		switch_log_printf(SWITCH_CHANNEL_UUID_LOG(command->uuid), SWITCH_LOG_INFO, "stream %s %s: %s\n",
						  command->stream_id, command->verb == AS_VERB_PAUSE ? "paused" : "resumed", command->text);
	}
	as_stream_unref(stream);
	return SWITCH_STATUS_SUCCESS;
}

static switch_status_t start_embedded(switch_core_session_t *session, const as_command *command, char *error)
{
	const tap_request request = {
		.stream_id = command->stream_id,
		.track_name = command->track,
		.track = ws_streams_track(command->tracks),
		.rate_hz = command->rate_hz,
		.inject = SWITCH_TRUE,
		.capture_ms = config.capture_buffer_ms,
		.inject_max_ms = config.inject_max_ms,
		.prebuffer_ms = config.prebuffer_ms,
		.one_leg_stereo = (int)as_options_number(config.options, "STREAM_ALLOW_ONE_LEG_STEREO"),
		.source = "embedded",
	};
	as_stream *stream = NULL;
	switch_status_t status = tap_start(session, &request, &stream, error, ERROR_BYTES);
	if (status != SWITCH_STATUS_SUCCESS) {
		return status;
	}
	status = tap_announce(session, stream);
	if (status != SWITCH_STATUS_SUCCESS) {
		switch_snprintf(error, ERROR_BYTES, TAP_STOPPED_MEANWHILE, command->stream_id);
	}
	as_stream_unref(stream);
	return status;
}

static switch_status_t start(switch_core_session_t *session, const as_command *command, char *error)
{
	as_command told = *command; /* with its strings, and those of the channel's variables */
	if (!command->dialect) {
		return start_embedded(session, command, error);
	}
	if (config_texts(switch_core_session_get_channel(session), &told, error, ERROR_BYTES) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_GENERR;
	}
	return ws_streams_start(session, &told, error, ERROR_BYTES);
}

/* What went wrong is an event, too: whoever waits for stream_started learns that it will not come. */
static switch_status_t run_start(switch_core_session_t *session, const as_command *command, char *error)
{
	switch_status_t status = start(session, command, error);
	if (status == SWITCH_STATUS_SUCCESS) {
		return status;
	}
	cJSON *body = cJSON_CreateObject();
	cJSON_AddItemToObject(body, "uuid", cJSON_CreateString(command->uuid));
	cJSON_AddItemToObject(body, "streamId", cJSON_CreateString(command->stream_id));
	cJSON_AddItemToObject(body, "error", cJSON_CreateString(error));
	events_fire(EVENT_ERROR, session, command->stream_id, body);
	return status;
}

static switch_status_t run_stop(switch_core_session_t *session, const as_command *command, char *error)
{
	as_stream *stream = find_named(command, error);
	if (!stream) {
		return SWITCH_STATUS_FALSE;
	}
	ws_streams_stop(stream, command->text, SWITCH_FALSE);
	switch_status_t status = tap_stop(session, stream, command->text);
	as_stream_unref(stream);
	return status == SWITCH_STATUS_SUCCESS ? status : no_stream(command, error);
}

/* For those verbs that only a stream with a server understands. */
static switch_status_t no_server(const as_command *command, const as_stream *stream, char *error)
{
	if (as_stream_closed(stream)) {
		return no_stream(command, error);
	}
	switch_bool_t embedded = tap_embedded(stream);
	switch_snprintf(error, ERROR_BYTES, "stream '%s' on call %s %s", command->stream_id, command->uuid,
					embedded ? "is embedded: it has no server" : "has no connection yet, or any more");
	return embedded ? SWITCH_STATUS_FALSE : SWITCH_STATUS_GENERR;
}

static switch_status_t run_graceful(const as_command *command, char *error)
{
	as_stream *stream = find_named(command, error);
	if (!stream) {
		return SWITCH_STATUS_FALSE;
	}
	switch_status_t status = ws_streams_stop(stream, command->text, SWITCH_TRUE);
	if (status != SWITCH_STATUS_SUCCESS) {
		status = no_server(command, stream, error);
	}
	as_stream_unref(stream);
	return status;
}

/* Why a text was not sent. */
static const char *text_refused(int result)
{
	switch (result) {
	case AS_EFULL:
		return "1 MB of text already waits for the server";
	case AS_EINVAL:
		return "not valid UTF-8";
	case AS_ECLOSED:
		return "the stream is at its end";
	default:
		return as_strerror(result);
	}
}

static switch_status_t run_send_text(const as_command *command, char *error)
{
	int result = 0;
	as_stream *stream = find_named(command, error);
	if (!stream) {
		return SWITCH_STATUS_FALSE;
	}
	switch_status_t status = ws_streams_send_text(stream, command->text, &result);
	if (status != SWITCH_STATUS_SUCCESS) {
		status = no_server(command, stream, error);
	} else if (result) {
		switch_snprintf(error, ERROR_BYTES, "text for stream '%s' was not sent: %s", command->stream_id,
						text_refused(result));
		status = result == AS_EINVAL ? SWITCH_STATUS_FALSE : SWITCH_STATUS_GENERR;
	}
	as_stream_unref(stream);
	return status;
}

static switch_status_t run_on(switch_core_session_t *session, const as_command *command, switch_stream_handle_t *out,
							  char *error)
{
	switch (command->verb) {
	case AS_VERB_START:
	case AS_VERB_OPENAI_START:
		return run_start(session, command, error);
	case AS_VERB_STOP:
		return run_stop(session, command, error);
	case AS_VERB_GRACEFUL:
		return run_graceful(command, error);
	case AS_VERB_SEND_TEXT:
		return run_send_text(command, error);
	case AS_VERB_PAUSE:
	case AS_VERB_RESUME:
		return run_pause(command, error);
	case AS_VERB_STATUS:
		return run_status(command, out, error);
	}
	return SWITCH_STATUS_FALSE;
}

/* Runs a parsed command on its call. */
static switch_status_t run(const as_command *command, switch_stream_handle_t *out, char *error)
{
	switch_core_session_t *session = switch_core_session_locate(command->uuid);
	if (!session) {
		switch_snprintf(error, ERROR_BYTES, "no call with uuid '%s'", command->uuid);
		return SWITCH_STATUS_FALSE;
	}
	switch_status_t status = run_on(session, command, out, error);
	switch_core_session_rwunlock(session);
	return status;
}

/* ---- FreeSWITCH's side ------------------------------------------------------------------------------------------- */

/* Whether a line begins with the uuid of a call other than the one it comes from. */
static switch_bool_t names_another_call(const char *line, const char *own_uuid)
{
	char word[AS_NAME_MAX] = "";
	if (sscanf(switch_str_nil(line), "%127s", word) != 1 || !strcmp(word, own_uuid)) {
		return SWITCH_FALSE;
	}
	switch_core_session_t *other = switch_core_session_locate(word);
	if (other) {
		switch_core_session_rwunlock(other);
	}
	return other ? SWITCH_TRUE : SWITCH_FALSE;
}

/* Reads and runs a line that comes from a call, or from none (NULL). A single name means a stream of that call, unless
 * it is the uuid of another. */
static switch_status_t read_and_run(const char *line, switch_core_session_t *session, as_command *command,
									switch_stream_handle_t *out, char *error)
{
	const char *own_uuid = session ? switch_core_session_get_uuid(session) : NULL;
	if (own_uuid && names_another_call(line, own_uuid)) {
		own_uuid = NULL;
	}
	int result = as_command_parse(line, own_uuid, command, error, ERROR_BYTES);
	return result ? status_of(result) : run(command, out, error);
}

SWITCH_STANDARD_API(audio_stream_api)
{
	as_command command;
	char error[ERROR_BYTES] = "";
	switch_status_t status = read_and_run(cmd, session, &command, stream, error);
	if (status != SWITCH_STATUS_SUCCESS) {
		stream->write_function(stream, "-ERR %s\n", error);
	} else if (command.verb != AS_VERB_STATUS) {
		stream->write_function(stream, "+OK\n");
	}
	if (status == SWITCH_STATUS_FALSE) {
		stream->write_function(stream, "-USAGE: " COMMAND " %s\n", as_command_usage(command.verb));
	}
	as_command_free(&command);
	return SWITCH_STATUS_SUCCESS;
}

/* For ${audio_stream_result}: what a command that went well has written, without the line's end. */
static const char *outcome(const as_command *command, char *written)
{
	if (command->verb != AS_VERB_STATUS || !written) {
		return "+OK";
	}
	written[strcspn(written, "\n")] = '\0';
	return written;
}

/* The dialplan reads the outcome in ${audio_stream_result}: +OK, -ERR reason, or the status. */
SWITCH_STANDARD_APP(audio_stream_app)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	switch_stream_handle_t out = {0};
	as_command command;
	char error[ERROR_BYTES] = "";
	SWITCH_STANDARD_STREAM(out);
	if (read_and_run(data, session, &command, &out, error) != SWITCH_STATUS_SUCCESS) {
		/* Without the command line: there may be a key in it. */
		switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(session), SWITCH_LOG_ERROR, COMMAND ": %s\n", error);
		switch_channel_set_variable_printf(channel, "audio_stream_result", "-ERR %s", error);
	} else {
		switch_channel_set_variable(channel, "audio_stream_result", outcome(&command, out.data));
	}
	as_command_free(&command);
	switch_safe_free(out.data);
}

/* For tab completion: the ids of the streams of the call that is the line's second word. */
static switch_status_t complete_streams(const char *line, const char *cursor, switch_console_callback_match_t **matches)
{
	char uuid[AS_NAME_MAX] = "";
	switch_console_callback_match_t *found = NULL;
	int count;
	(void)cursor;
	if (sscanf(line, "%*s %127s", uuid) != 1) {
		return SWITCH_STATUS_FALSE;
	}
	as_info *infos = list_streams(uuid, &count);
	for (int i = 0; i < count; i++) {
		switch_console_push_match(&found, infos[i].id);
	}
	free(infos);
	*matches = found;
	return found ? SWITCH_STATUS_SUCCESS : SWITCH_STATUS_FALSE;
}

static void add_completions(void)
{
	static const char *const ids[] = {"", LIST_STREAMS " "};
	char line[1024];
	switch_console_add_complete_func(LIST_STREAMS, complete_streams);
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		for (const char *const *words = as_command_completions(); *words; words++) {
			switch_snprintf(line, sizeof(line), "add " COMMAND " ::console::list_uuid %s%s", ids[i], *words);
			switch_console_set_complete(line);
		}
	}
}

static switch_status_t start_parts(switch_memory_pool_t *pool, const char *modname)
{
	if (config_load(&config) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_MEMERR;
	}
	as_ws_threads((int)as_options_number(config.options, "MOD_AUDIO_STREAM_SERVICE_THREADS"));
	if (as_ws_allow_hosts(config.options)) {
		return SWITCH_STATUS_MEMERR;
	}
	as_memory_limit((int)as_options_number(config.options, "MOD_AUDIO_STREAM_MEMORY_MB"));
	if (taps_init(pool, &config, describe_stream) != SWITCH_STATUS_SUCCESS ||
		ws_streams_init(pool, &config) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_MEMERR;
	}
	if (worker_start()) {
		return SWITCH_STATUS_MEMERR;
	}
	if (events_reserve(pool, modname, config.events) != SWITCH_STATUS_SUCCESS) {
		worker_stop();
		return SWITCH_STATUS_INUSE;
	}
	if (host_events_start(modname) != SWITCH_STATUS_SUCCESS) {
		events_free();
		worker_stop();
		return SWITCH_STATUS_MEMERR;
	}
	return SWITCH_STATUS_SUCCESS;
}

SWITCH_MODULE_LOAD_FUNCTION(mod_audio_stream_load)
{
	switch_api_interface_t *api_interface;
	switch_application_interface_t *app_interface;
	if (start_parts(pool, modname) != SWITCH_STATUS_SUCCESS) {
		config_free(&config);
		return SWITCH_STATUS_TERM;
	}
	*module_interface = switch_loadable_module_create_module_interface(pool, modname);
	SWITCH_ADD_API(api_interface, COMMAND, "Tap and feed a call's audio", audio_stream_api, AS_COMMAND_SYNTAX);
	/* Without SAF_SUPPORT_NOMEDIA FreeSWITCH would bring media up before a command is even read: tap_start() does, last. */
	SWITCH_ADD_APP(app_interface, COMMAND, "Tap and feed this call's audio", "Tap and feed this call's audio",
				   audio_stream_app, AS_COMMAND_SYNTAX, SAF_SUPPORT_NOMEDIA | SAF_SUPPORT_TEXT_ONLY);
	add_completions();
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_INFO, "streams live in %s\n", as_library_path());
	return SWITCH_STATUS_SUCCESS;
}

SWITCH_MODULE_SHUTDOWN_FUNCTION(mod_audio_stream_shutdown)
{
	ws_streams_stop_all("module unloaded");
	host_events_stop();
	switch_status_t status = taps_shutdown();
	if (status == SWITCH_STATUS_SUCCESS) {
		ws_streams_shutdown();
		events_free();
		switch_console_del_complete_func(LIST_STREAMS);
		switch_console_set_complete("del " COMMAND);
	}
	config_free(&config); /* no command runs any more, and streams that would not stop have options of their own */
	return status;
}
