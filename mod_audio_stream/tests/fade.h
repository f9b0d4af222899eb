/* fade.h - the fade-out that a flush or a pause ends with: along (1 - x)^4. */
#ifndef AS_TESTS_FADE_H
#define AS_TESTS_FADE_H

#include <stdint.h>
#include <stdlib.h>

/* Is `heard` what a fade of `length` samples makes of its sample number i? Rounding may be either way. */
static inline int is_faded(int16_t heard, int16_t sample, size_t i, size_t length)
{
	double left = i < length ? (double)(length - i) / (double)length : 0;
	return abs(heard - (int)(sample * left * left * left * left)) <= 1;
}

#endif
