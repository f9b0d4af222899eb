/* rng.h - random numbers that are the same every time. */
#ifndef AS_TESTS_RNG_H
#define AS_TESTS_RNG_H

#include <stddef.h>
#include <stdint.h>

/* xorshift; the state is any number but 0. */
static inline uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* 1..most */
static inline size_t random_upto(uint32_t *state, size_t most)
{
	return 1 + next_random(state) % most;
}

#endif
