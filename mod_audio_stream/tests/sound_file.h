/* sound_file.h - audio files made in memory, as libsndfile writes them. */
#ifndef AS_TESTS_SOUND_FILE_H
#define AS_TESTS_SOUND_FILE_H

#include <sndfile.h>
#include <stdint.h>

#define MPEG_LAYER_III (0x230000 | 0x0082) /* libsndfile 1.1 */

typedef struct sound_file {
	uint8_t *data; /* free() it */
	sf_count_t n, at, room;
} sound_file;

/* A sine of 440 Hz at half of full scale, in all channels; channel 1 upside down where there are three. */
float sound_file_value(size_t frame, int channel, int channels, int rate_hz);
int sound_file_can(int format);
/* format: libsndfile's. Ends the test when there is no such encoder. */
sound_file sound_file_make(int format, int rate_hz, int channels, size_t frames);

#endif
