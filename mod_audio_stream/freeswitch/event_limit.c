/*
 * event_limit.c - token buckets, one for each kind of event: see event_limit.h.
 *
 * A bucket is one number, the time at which it will be full. An event moves that time by one interval, and is refused while
 * the time lies further ahead than the burst lasts.
 */
#include "event_limit.h"

#include <string.h>

#define SECOND_NS 1000000000
#define BURST_S 2            /* of the rate may come at once */
#define COMPLAINTS_AT_ONCE 5 /* then one a second */

typedef struct kind {
	const char *name;
	int complaint;
} kind;

static const kind kinds[EVENT_LIMIT_KINDS] = {
	{"json", 0},
	{"message_received", 0},
	{"transcription_received", 0},
	{"openai_response_generated", 0},
	{"play", 0},
	{"media_play_start", 0},
	{"media_play_complete", 0},
	{"media_cleared", 0},
	{"media_checkpoint", 0},
	{"stream_buffer_overrun", 0},
	{"stream_buffer_underrun", 0},
	{"stream_invalid_input", 1},
	{"openai_error", 1},
};

void event_limit_init(event_limit *limit, int per_second)
{
	memset(limit, 0, sizeof(*limit));
	limit->interval_ns = per_second > 0 ? SECOND_NS / per_second : 0;
}

/* -1: of none that is limited. An error that ends the stream comes once. In a string a quote has a backslash before it, so
 * that no text of the server's looks like the member. */
static int kind_of(const char *name, const char *body)
{
	for (int i = 0; i < EVENT_LIMIT_KINDS; i++) {
		if (!strcmp(kinds[i].name, name)) {
			return kinds[i].complaint && strstr(body, "\"fatal\":true") ? -1 : i;
		}
	}
	return -1;
}

int event_limit_takes(event_limit *limit, const char *name, const char *body, int64_t now_ns)
{
	int i = kind_of(name, body);
	if (i < 0) {
		return 1;
	}
	int64_t interval_ns = kinds[i].complaint ? SECOND_NS : limit->interval_ns;
	int64_t burst_ns = kinds[i].complaint ? COMPLAINTS_AT_ONCE * (int64_t)SECOND_NS : BURST_S * (int64_t)SECOND_NS;
	int64_t from_ns = limit->full_ns[i] > now_ns ? limit->full_ns[i] : now_ns;
	if (from_ns + interval_ns - now_ns > burst_ns) {
		return 0;
	}
	limit->full_ns[i] = from_ns + interval_ns;
	return 1;
}
