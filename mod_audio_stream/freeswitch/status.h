/* status.h - FreeSWITCH's status for what the library returned. */
#ifndef FREESWITCH_STATUS_H
#define FREESWITCH_STATUS_H

#include <switch.h>

#include "audio_stream.h"

/* What becomes of a command: SWITCH_STATUS_FALSE where its arguments are wrong, so that its usage helps, and any other
 * status but SWITCH_STATUS_SUCCESS where they are not to blame. result: the library's. */
static inline switch_status_t status_of(int result)
{
	return !result ? SWITCH_STATUS_SUCCESS : result == AS_ENOMEM ? SWITCH_STATUS_MEMERR : SWITCH_STATUS_FALSE;
}

#endif
