/* describe.h - a stream's description in JSON. */
#ifndef FREESWITCH_DESCRIBE_H
#define FREESWITCH_DESCRIBE_H

#include <switch.h>

#include "audio_stream.h"

/* A stream's description and counters; the caller's to delete. */
cJSON *describe_stream(as_stream *stream);

#endif
