/*
 * jitter.h - how much audio to hold before playing, from how unevenly it arrives. One thread, no clock of its own.
 *
 * Each piece of an utterance is due when those before it have been played. So its lateness is its arrival minus the
 * audio before it, less the least of that lately. The greatest lateness of each second of speech is kept for eight
 * seconds of speech. The prebuffer covers the second greatest, so that one spike does not count; or the greatest, for a
 * few seconds after an underrun.
 *
 * A sender that is faster than real time is never late: its pieces come before they are due, and once more than high_ms
 * are queued it may pause for as long as that. A pause that no prebuffer could cover is the end of an utterance.
 */
#ifndef STREAM_JITTER_H
#define STREAM_JITTER_H

#include <stdint.h>

#define AS_JITTER_SECONDS 8

typedef struct as_jitter_config {
	int low_ms, high_ms; /* the prebuffer stays between these; what pieces longer than 20 ms need comes on top */
	int target_ms;       /* added to the jitter measured */
	double threshold;    /* a change smaller than this part of the present prebuffer is not made */
} as_jitter_config;

typedef struct as_jitter as_jitter; /* defined below: embed it */

void as_jitter_init(as_jitter *jitter, const as_jitter_config *config);
/* Audio worth audio_us arrived at now_ns; queued_us were waiting to be played before it. Returns the prebuffer to use
 * from now on, in ms. */
int as_jitter_arrival(as_jitter *jitter, int64_t now_ns, int64_t audio_us, int64_t queued_us);
/* Playing ran dry in the middle of an utterance. Returns the prebuffer. */
int as_jitter_underrun(as_jitter *jitter, int64_t now_ns);
/* The utterance is over, or was flushed: the pause until the next one is not jitter. */
void as_jitter_rest(as_jitter *jitter);
int as_jitter_prebuffer_ms(const as_jitter *jitter);

struct as_jitter {
	as_jitter_config config;
	int prebuffer_ms;
	/* The utterance. */
	int talking;
	int64_t began_us, last_us;           /* arrival of its first and its latest piece */
	int64_t audio_us;                    /* in all of its pieces */
	int64_t least_us[2], least_until_us; /* the least arrival minus audio: in this period and the one before */
	int64_t piece_us;                    /* how long its pieces are */
	/* The last seconds of speech. */
	int64_t late_us[AS_JITTER_SECONDS]; /* greatest lateness in each; late_us[at] is being filled */
	int at;
	int64_t second_us;     /* audio in the present one */
	int alarm;             /* seconds that the greatest lateness counts, after an underrun */
	int alarm_before, dry; /* to take that back, should the underrun turn out to be the end */
};

#endif
