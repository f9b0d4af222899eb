#include "sample_join.h"

#include <stdlib.h>

#define LOOK_FRAMES 2048 /* of what is not silent: 256 ms at 8 kHz */
#define LEAST_FRAMES 8   /* fewer tell nothing */
#define PLAINLY 2        /* times as rough: white noise is the same either way */

static int sample_at(const uint8_t *at)
{
	return (int16_t)(uint16_t)(at[0] | at[1] << 8);
}

/* The differences between neighbours of a channel, in `frames` frames, added up. */
static uint64_t roughness(const uint8_t *data, size_t frames, size_t channels)
{
	uint64_t sum = 0;
	for (size_t i = 0; i + channels < frames * channels; i++) {
		sum += (uint64_t)abs(sample_at(data + 2 * (i + channels)) - sample_at(data + 2 * i));
	}
	return sum;
}

int sample_join_begins_whole(const uint8_t *data, size_t n, size_t missing, int channels)
{
	size_t frame = 2 * (size_t)channels, silent = 0;
	while (silent < n && !data[silent]) {
		silent++;
	}
	silent -= silent % frame;
	size_t frames = n - silent < missing ? 0 : (n - silent - missing) / frame;
	frames = frames < LOOK_FRAMES ? frames : LOOK_FRAMES;
	if (frames < LEAST_FRAMES) {
		return 0;
	}
	uint64_t whole = roughness(data + silent, frames, (size_t)channels);
	uint64_t joined = roughness(data + silent + missing, frames, (size_t)channels);
	return joined > PLAINLY * whole;
}
