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
		switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING, CONFIG_FILE ".xml: %s; ignored\n", error);
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
