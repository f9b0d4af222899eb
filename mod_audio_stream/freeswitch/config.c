/* config.c - audio_stream.conf.xml */
#include <limits.h>

#include "mod_audio_stream.h"

#define CONFIG_FILE "audio_stream.conf"

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
						  CONFIG_FILE ".xml: %s is '%s' but must be a whole number from %d to %d; using %d\n", param->name,
						  text, param->least, param->most, *param->value);
		return;
	}
	*param->value = (int)value;
}

static void set_param(module_config *config, const char *name, const char *text)
{
	const int_param params[] = {
		{"capture-buffer-ms", &config->capture_buffer_ms, 100, 600000},
		{"inject-max-ms", &config->inject_max_ms, 100, 7200000},
		{"prebuffer-ms", &config->prebuffer_ms, 0, 10000},
		{"fade-ms", &config->fade_ms, 1, 100},
		{"max-streams", &config->max_streams, 0, INT_MAX},
	};
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
		if (!strcasecmp(name, params[i].name)) {
			set_int(&params[i], text);
			return;
		}
	}
	if (!strcasecmp(name, "events")) {
		config->events = switch_true(text);
		return;
	}
	switch_log_printf(SWITCH_CHANNEL_LOG, SWITCH_LOG_WARNING, CONFIG_FILE ".xml: unknown parameter '%s' ignored\n", name);
}

void config_load(module_config *config)
{
	switch_xml_t cfg, xml, settings;
	*config = (module_config){.capture_buffer_ms = 30000, .inject_max_ms = 600000, .fade_ms = 10, .events = SWITCH_TRUE};
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
