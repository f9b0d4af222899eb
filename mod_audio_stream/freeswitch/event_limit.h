/*
 * event_limit.h - how many events a stream's server may cause to be fired.
 *
 * FreeSWITCH copies an event for each of its listeners, and makes whoever fires one wait when its queues are full. So what
 * a server can cause is limited for each stream: each kind of message and of playback report to a rate, complaints to one a
 * second. What tells of the stream's own life (connections, its beginning and end, fatal errors) is never limited.
 */
#ifndef FREESWITCH_EVENT_LIMIT_H
#define FREESWITCH_EVENT_LIMIT_H

#include <stdint.h>

#define EVENT_LIMIT_KINDS 13

/* One stream's; the thread that its events come from. */
typedef struct event_limit {
	int64_t interval_ns;                /* between two events of a kind in the long run; 0: no limit */
	int64_t full_ns[EVENT_LIMIT_KINDS]; /* when the kind's allowance is whole again */
} event_limit;

/* per_second: of each kind, and twice as many at once; 0 is no limit. Complaints are limited all the same. */
void event_limit_init(event_limit *limit, int per_second);
/* Whether an event may be fired at now_ns, which must not fall. name and body: as from a streamer. */
int event_limit_takes(event_limit *limit, const char *name, const char *body, int64_t now_ns);

#endif
