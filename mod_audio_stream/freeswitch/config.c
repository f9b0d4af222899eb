/*
 * config.c - what the module and its streamers are told: audio_stream.conf.xml, the environment, channel variables.
 *
 * The module's own settings are the table below. Everything else is an option of libaudiostream, which knows the names,
 * what is allowed and the defaults; a channel variable goes over the environment, and that over the file.
 */
#include "config.h"

#include <limits.h>

#define CONFIG_FILE "audio_stream.conf"
#define ERROR_BYTES 512

typedef struct int_param {
	const char *name;
	int *value;
	int least, most;
} int_param;

static void set_int(const int_param *param, const char *text)
{
	char *end = NULL;
	long value = strtol(text, &end, 10);
	if (zstr(text) || *end || value < param->least || value > param->most) {
		switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING,
						  CONFIG_FILE ".xml: %s is '%s' but must be a whole number from %d to %d; using %d\n",
						  param->name, text, param->least, param->most, *param->value);
		return;
	}
	*param->value = (int)value;
}

static void set_flag(const char *name, switch_bool_t *value, const char *text)
{
	static const char *const words[2][4] = {{"false", "no", "off", "0"}, {"true", "yes", "on", "1"}};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0][0]); i++) {
		if (!strcasecmp(text, words[i / 4][i % 4])) {
			*value = i / 4 ? SWITCH_TRUE : SWITCH_FALSE;
			return;
		}
	}
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING,
					  CONFIG_FILE ".xml: %s is '%s' but must be true or false; using %s\n", name, text,
					  *value ? "true" : "false");
}

static void set_option(as_options *options, const char *name, const char *text)
{
	char error[ERROR_BYTES] = "";
	int result = as_options_set(options, name, text, error, sizeof(error));
	if (result == AS_ENOENT) {
		switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING, CONFIG_FILE ".xml: unknown parameter '%s' ignored\n",
						  name);
	} else if (result) {
		const char *then = as_option_is("allow-hosts", name) ? "" : "; ignored"; /* that holds, and allows nothing */
		switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING, CONFIG_FILE ".xml: %s%s\n", error, then);
	}
}

static void set_param(module_config *config, const char *name, const char *text)
{
	const int_param params[] = {
		{"capture-buffer-ms", &config->capture_buffer_ms, 100, 600000},
		{"inject-max-ms", &config->inject_max_ms, 100, 7200000},
		{"prebuffer-ms", &config->prebuffer_ms, 0, 10000},
		{"fade-ms", &config->fade_ms, 1, 100},
		{"max-streams", &config->max_streams, 0, INT_MAX},
		{"max-streams-per-call", &config->max_streams_per_call, 0, INT_MAX},
		{"event-rate", &config->event_rate, 0, 10000},
	};
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		if (as_option_is(params[i].name, name)) {
			set_int(&params[i], text);
			return;
		}
	}
	if (as_option_is("events", name)) {
		set_flag("events", &config->events, text);
	} else {
		set_option(config->options, name, text);
	}
}

static void load_file(module_config *config)
{
	switch_xml_t cfg, xml, settings;
	if (!(xml = switch_xml_open_cfg(CONFIG_FILE, &cfg, NULL))) {
		switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_NOTICE, "no " CONFIG_FILE ".xml: using the defaults\n");
		return;
	}
	if ((settings = switch_xml_child(cfg, "settings"))) {
		for (switch_xml_t param = switch_xml_child(settings, "param"); param; param = param->next) {
			set_param(config, switch_xml_attr_soft(param, "name"), switch_xml_attr_soft(param, "value"));
		}
	}
	switch_xml_free(xml);
}

static void load_environment(as_options *options)
{
	for (int i = 0; as_option_env(i); i++) {
		const char *name = as_option_env(i), *value = *name ? getenv(name) : NULL;
		char error[ERROR_BYTES] = "";
		if (!zstr(value) && as_options_set(options, name, value, error, sizeof(error))) {
			switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING, "environment: %s; ignored\n", error);
		}
	}
}

switch_status_t config_load(module_config *config)
{
	*config = (module_config){
		.capture_buffer_ms = 30000, .inject_max_ms = 600000, .fade_ms = 10, .event_rate = 100, .events = SWITCH_TRUE};
	if (as_options_new(&config->options)) {
		return SWITCH_STATUS_MEMERR;
	}
	load_file(config);
	load_environment(config->options);
	return SWITCH_STATUS_SUCCESS;
}

void config_free(module_config *config)
{
	as_options_free(config->options);
	config->options = NULL;
}

switch_status_t config_options(const as_options *base, switch_channel_t *channel, as_options **out, char *error,
							   size_t bytes)
{
	int result = as_options_copy(base, out);
	if (result) {
		switch_snprintf(error, bytes, "%s", as_strerror(result));
		return SWITCH_STATUS_FALSE;
	}
	for (int i = 0; as_option_variable(i); i++) {
		const char *name = as_option_variable(i);
		const char *value = *name ? switch_channel_get_variable_dup(channel, name, SWITCH_TRUE, -1) : NULL;
		char reason[ERROR_BYTES] = "";
		if (!zstr(value) && as_options_set(*out, name, value, reason, sizeof(reason))) {
			switch_snprintf(error, bytes, "channel variable %s", reason);
			as_options_free(*out);
			*out = NULL;
			return SWITCH_STATUS_FALSE;
		}
	}
	return SWITCH_STATUS_SUCCESS;
}

/* ---- Texts that channel variables hold --------------------------------------------------------------------------- */

/* A variable's value; NULL where the call has none. */
static const char *variable(switch_channel_t *channel, const char *name)
{
	return switch_channel_get_variable_dup(channel, name, SWITCH_TRUE, -1);
}

/* No command makes a server hear what a setting keeps secret. */
static switch_status_t refuse_secret(const char *key, const char *name, char *error, size_t bytes)
{
	switch_snprintf(error, bytes, "%s%s: that setting is secret, and no server is told it", key, name);
	return SWITCH_STATUS_FALSE;
}

/* The text that key=name stands for; without a name, the text that the command has. */
static switch_status_t take_text(switch_channel_t *channel, const char *key, const char *name, const char **text,
								 char *error, size_t bytes)
{
	if (zstr(name)) {
		return SWITCH_STATUS_SUCCESS;
	}
	if (as_option_is_secret(name)) {
		return refuse_secret(key, name, error, bytes);
	}
	const char *value = variable(channel, name);
	if (!value) {
		switch_snprintf(error, bytes, "%s%s: the call has no such variable", key, name);
		return SWITCH_STATUS_FALSE;
	}
	if (strlen(value) > AS_TEXT_MAX) {
		switch_snprintf(error, bytes, "%s%s: the value is longer than %d bytes", key, name, AS_TEXT_MAX);
		return SWITCH_STATUS_FALSE;
	}
	*text = value;
	return SWITCH_STATUS_SUCCESS;
}

/* A JSON object with the values of variables as strings, null for those that the call has not. */
static switch_status_t take_object(switch_channel_t *channel, const char *key, const char *names, const char **text,
								   char *error, size_t bytes)
{
	switch_core_session_t *session = switch_channel_get_session(channel);
	switch_status_t status = SWITCH_STATUS_SUCCESS;
	char *list = switch_core_session_strdup(session, names), *rest = list;
	cJSON *object = cJSON_CreateObject();
	for (char *name; status == SWITCH_STATUS_SUCCESS && (name = strsep(&rest, ","));) {
		if (as_option_is_secret(name)) {
			status = refuse_secret(key, name, error, bytes);
		} else {
			const char *value = variable(channel, name);
			cJSON_AddItemToObject(object, name, value ? cJSON_CreateString(value) : cJSON_CreateNull());
		}
	}
	char *json = cJSON_PrintUnformatted(object);
	if (status == SWITCH_STATUS_SUCCESS && strlen(json) > AS_TEXT_MAX) {
		switch_snprintf(error, bytes, "%s: the values are longer than %d bytes", key, AS_TEXT_MAX);
		status = SWITCH_STATUS_FALSE;
	} else if (status == SWITCH_STATUS_SUCCESS) {
		*text = switch_core_session_strdup(session, json);
	}
	switch_safe_free(json);
	cJSON_Delete(object);
	return status;
}

switch_status_t config_texts(switch_channel_t *channel, as_command *command, char *error, size_t bytes)
{
	switch_status_t status =
		take_text(channel, "instructions_var=", command->instructions_var, &command->instructions, error, bytes);
	if (status == SWITCH_STATUS_SUCCESS) {
		status = take_text(channel, "metadata_var=", command->metadata_var, &command->metadata, error, bytes);
	}
	if (status == SWITCH_STATUS_SUCCESS && !zstr(command->metadata_vars)) {
		status = take_object(channel, "metadata_vars=", command->metadata_vars, &command->metadata, error, bytes);
	}
	return status;
}
