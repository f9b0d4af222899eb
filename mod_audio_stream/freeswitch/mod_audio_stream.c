/*
 * mod_audio_stream - taps and feeds a call's audio.
 *
 *     fs_cli, ESL, ${uuid_audio_stream(...)}  ─┐
 *     dialplan application uuid_audio_stream  ─┴▶ core/command.c ─▶ run() below ─▶ tap.c ─▶ libaudiostream
 *
 * This file registers the module and turns commands into calls; tap.c does the audio, events.c says what happened.
 * The stream itself lies in libaudiostream, which the Python extension shares: one registry in the process.
 */
#include "mod_audio_stream.h"

#include "command.h"

SWITCH_MODULE_LOAD_FUNCTION(mod_audio_stream_load);
SWITCH_MODULE_SHUTDOWN_FUNCTION(mod_audio_stream_shutdown);
SWITCH_MODULE_DEFINITION(mod_audio_stream, mod_audio_stream_load, mod_audio_stream_shutdown, NULL);

#define COMMAND "uuid_audio_stream"
#define ERROR_BYTES 512
#define STREAMS_MAX 64 /* of one call in `status` */

/* `status`: the call's streams, or the one named. */
static switch_status_t run_status(const as_command *command, switch_stream_handle_t *out, char *error)
{
	as_info infos[STREAMS_MAX];
	int count = as_stream_list(command->uuid, infos, STREAMS_MAX), found = 0;
	cJSON *streams = cJSON_CreateArray();
	for (int i = 0; i < count && i < STREAMS_MAX; i++) {
		as_stream *stream = NULL;
		int wanted = !command->has_stream_id || !strcmp(infos[i].id, command->stream_id);
		if (wanted && as_stream_find(command->uuid, infos[i].id, 0, &stream) == 0) {
			cJSON_AddItemToArray(streams, events_describe(stream));
			as_stream_unref(stream);
			found++;
		}
	}
	if (command->has_stream_id && !found) {
		cJSON_Delete(streams);
		switch_snprintf(error, ERROR_BYTES, "no stream '%s' on call %s", command->stream_id, command->uuid);
		return SWITCH_STATUS_FALSE;
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

static switch_status_t run_pause(const as_command *command, char *error)
{
	as_stream *stream = NULL;
	if (as_stream_find(command->uuid, command->stream_id, 0, &stream)) {
		switch_snprintf(error, ERROR_BYTES, "no stream '%s' on call %s", command->stream_id, command->uuid);
		return SWITCH_STATUS_FALSE;
	}
	if (command->verb == AS_VERB_PAUSE) {
		as_stream_pause(stream, command->directions);
	} else {
		as_stream_resume(stream, command->directions);
	}
	as_stream_unref(stream);
	return SWITCH_STATUS_SUCCESS;
}

/* `start`; what went wrong is an event, too: whoever waits for stream_started learns that it will not come. */
static switch_status_t run_start(switch_core_session_t *session, const as_command *command, char *error)
{
	if (tap_start(session, command->stream_id, command->rate_hz, error, ERROR_BYTES) == SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_SUCCESS;
	}
	cJSON *body = cJSON_CreateObject();
	cJSON_AddItemToObject(body, "uuid", cJSON_CreateString(command->uuid));
	cJSON_AddItemToObject(body, "streamId", cJSON_CreateString(command->stream_id));
	cJSON_AddItemToObject(body, "error", cJSON_CreateString(error));
	events_fire(EVENT_ERROR, session, body);
	return SWITCH_STATUS_FALSE;
}

static switch_status_t run_on(switch_core_session_t *session, const as_command *command, switch_stream_handle_t *out,
							  char *error)
{
	switch (command->verb) {
	case AS_VERB_START:
		return run_start(session, command, error);
	case AS_VERB_STOP:
		if (tap_stop(session, command->stream_id, command->text) == SWITCH_STATUS_SUCCESS) {
			return SWITCH_STATUS_SUCCESS;
		}
		switch_snprintf(error, ERROR_BYTES, "no stream '%s' on call %s", command->stream_id, command->uuid);
		return SWITCH_STATUS_FALSE;
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

#define SYNTAX AS_COMMAND_SYNTAX

SWITCH_STANDARD_API(audio_stream_api)
{
	as_command command;
	char error[ERROR_BYTES] = "";
	if (as_command_parse(cmd, session ? switch_core_session_get_uuid(session) : NULL, &command, error, sizeof(error))) {
		stream->write_function(stream, "-ERR %s\n-USAGE: " COMMAND " " SYNTAX "\n", error);
	} else if (run(&command, stream, error) != SWITCH_STATUS_SUCCESS) {
		stream->write_function(stream, "-ERR %s\n", error);
	} else if (command.verb != AS_VERB_STATUS) {
		stream->write_function(stream, "+OK\n");
	}
	return SWITCH_STATUS_SUCCESS;
}

/* The dialplan reads the outcome in ${audio_stream_result}: +OK, -ERR reason, or the status. */
SWITCH_STANDARD_APP(audio_stream_app)
{
	switch_channel_t *channel = switch_core_session_get_channel(session);
	switch_stream_handle_t out = {0};
	as_command command;
	char error[ERROR_BYTES] = "";
	SWITCH_STANDARD_STREAM(out);
	if (as_command_parse(data, switch_core_session_get_uuid(session), &command, error, sizeof(error)) ||
		run(&command, &out, error) != SWITCH_STATUS_SUCCESS) {
		switch_log_printf(SWITCH_CHANNEL_SESSION_LOG(session), SWITCH_LOG_ERROR, COMMAND " %s: %s\n", switch_str_nil(data),
						  error);
		switch_channel_set_variable_printf(channel, "audio_stream_result", "-ERR %s", error);
	} else {
		switch_channel_set_variable(channel, "audio_stream_result",
									command.verb == AS_VERB_STATUS ? (const char *)out.data : "+OK");
	}
	switch_safe_free(out.data);
}

static void add_completions(void)
{
	switch_console_set_complete("add " COMMAND " ::console::list_uuid start embedded");
	switch_console_set_complete("add " COMMAND " ::console::list_uuid stop");
	switch_console_set_complete("add " COMMAND " ::console::list_uuid pause");
	switch_console_set_complete("add " COMMAND " ::console::list_uuid resume");
	switch_console_set_complete("add " COMMAND " ::console::list_uuid status");
}

SWITCH_MODULE_LOAD_FUNCTION(mod_audio_stream_load)
{
	switch_api_interface_t *api_interface;
	switch_application_interface_t *app_interface;
	module_config config;
	config_load(&config);
	if (taps_init(pool, &config) != SWITCH_STATUS_SUCCESS || events_reserve(modname, config.events) != SWITCH_STATUS_SUCCESS) {
		return SWITCH_STATUS_TERM;
	}
	*module_interface = switch_loadable_module_create_module_interface(pool, modname);
	SWITCH_ADD_API(api_interface, COMMAND, "Tap and feed a call's audio", audio_stream_api, SYNTAX);
	SWITCH_ADD_APP(app_interface, COMMAND, "Tap and feed this call's audio", "Tap and feed this call's audio",
				   audio_stream_app, SYNTAX, SAF_NONE);
	add_completions();
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_INFO, "streams live in %s\n", as_library_path());
	return SWITCH_STATUS_SUCCESS;
}

SWITCH_MODULE_SHUTDOWN_FUNCTION(mod_audio_stream_shutdown)
{
	switch_status_t status = taps_shutdown();
	if (status == SWITCH_STATUS_SUCCESS) {
		events_free();
		switch_console_set_complete("del " COMMAND);
	}
	return status;
}
