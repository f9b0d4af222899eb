/* config.h - the settings of audio_stream.conf.xml, the environment and channel variables. */
#ifndef FREESWITCH_CONFIG_H
#define FREESWITCH_CONFIG_H

#include <switch.h>

#include "audio_stream_ws.h"
#include "command.h"

/* Settings of audio_stream.conf.xml. Written at load, read only after. */
typedef struct module_config {
	int capture_buffer_ms;
	int inject_max_ms;
	int prebuffer_ms;
	int fade_ms;
	int max_streams;          /* 0 = no limit */
	int max_streams_per_call; /* 0 = no limit */
	int event_rate;           /* a stream's server may cause of each kind a second; 0 = no limit */
	switch_bool_t events;
	as_options
		*options; /* of streamers, owned by mod_audio_stream.c: what the file and, over it, the environment say */
} module_config;

/* Reads audio_stream.conf.xml and the environment. A missing file or a bad value means the default and a line
 * in the log. SWITCH_STATUS_MEMERR. */
switch_status_t config_load(module_config *config);
void config_free(module_config *config);
/* A streamer's options: those of the module, and over them the channel's variables. On failure error names the variable
 * and what it may be. */
switch_status_t config_options(const as_options *base, switch_channel_t *channel, as_options **out, char *error,
							   size_t bytes);
/* Puts what instructions_var=, metadata_var= and metadata_vars= name into a command; it lasts as long as the session. On
 * failure error says which of them, and why. */
switch_status_t config_texts(switch_channel_t *channel, as_command *command, char *error, size_t bytes);

#endif
