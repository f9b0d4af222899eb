#include "activity.h"

#define FLOOR_MIN 400.0f     /* rms 20, about -64 dBFS: below this a line is silent */
#define FLOOR_MAX 1000000.0f /* rms 1000: a floor above this would be somebody speaking */
#define SPEECH_RATIO 8.0f    /* 9 dB over the floor */
#define FALL 0.3f            /* share of the way to a quieter frame's level */
#define RISE 1.004f          /* growth per louder frame: it takes half a minute of noise to be taken for a floor */

void as_activity_init(as_activity *activity)
{
	activity->floor_energy = FLOOR_MIN;
}

static float mean_square(const int16_t *samples, size_t n)
{
	int64_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		sum += (int32_t)samples[i] * samples[i];
	}
	return n ? (float)sum / (float)n : 0.0f;
}

int as_activity_frame(as_activity *activity, const int16_t *samples, size_t n)
{
	float energy = mean_square(samples, n);
	float floor_energy = activity->floor_energy;
	int speech = energy > floor_energy * SPEECH_RATIO;
	if (energy < floor_energy) {
		floor_energy += (energy - floor_energy) * FALL;
	} else {
		floor_energy *= RISE;
	}
	if (floor_energy < FLOOR_MIN) {
		floor_energy = FLOOR_MIN;
	} else if (floor_energy > FLOOR_MAX) {
		floor_energy = FLOOR_MAX;
	}
	activity->floor_energy = floor_energy;
	return speech;
}
