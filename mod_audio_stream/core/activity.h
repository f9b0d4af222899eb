/*
 * activity.h - does this frame sound like speech? A level detector over a tracked noise floor.
 *
 * It decides only how soon captured audio is handed on (small chunks while someone speaks), so it errs towards speech: a
 * miss would cost a chunk's delay, a false alarm costs a few wake-ups. The model's own VAD decides turns.
 */
#ifndef AS_ACTIVITY_H
#define AS_ACTIVITY_H

#include <stddef.h>
#include <stdint.h>

typedef struct as_activity {
	float floor_energy; /* mean square of the quiet parts */
} as_activity;

void as_activity_init(as_activity *activity);
/* Media thread. 1 when the frame is speech-like. */
int as_activity_frame(as_activity *activity, const int16_t *samples, size_t n);

#endif
