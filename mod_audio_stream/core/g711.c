/*
 * g711.c - ITU-T G.711 (11/88), both laws, exact to its decision and quantised values.
 *
 * Samples are 16-bit: mu-law's 14-bit and A-law's 13-bit scale sit in the upper bits, as everywhere in telephony. Negative
 * inputs are folded with the ones' complement, which keeps the decision values symmetric. decode then encode gives back
 * every code but one: mu-law has two zeros, and the negative one (0x7f) comes back as the positive (0xff).
 */
#include "audio_stream.h"

#define ULAW_BIAS 33 /* 14-bit scale: moves the segment borders to powers of two */
#define ULAW_MAX 0x1fff

/* Position of the highest set bit of v > 0. */
static inline int top_bit(unsigned v)
{
	return 31 - __builtin_clz(v);
}

static inline uint8_t pcmu_encode_one(int16_t sample)
{
	unsigned sign = sample < 0 ? 0x00 : 0x80;
	unsigned magnitude = (unsigned)((sample < 0 ? ~sample : sample) >> 2) + ULAW_BIAS;
	if (magnitude > ULAW_MAX) {
		magnitude = ULAW_MAX;
	}
	int segment = top_bit(magnitude) - 5; /* bias makes bit 5 the lowest top bit */
	unsigned step = (magnitude >> (segment + 1)) & 0x0f;
	return (uint8_t)(sign | (~(((unsigned)segment << 4) | step) & 0x7f));
}

static inline int16_t pcmu_decode_one(uint8_t code)
{
	unsigned bits = ~code & 0x7fu;
	int magnitude = ((((bits & 0x0f) << 1) + ULAW_BIAS) << (bits >> 4)) - ULAW_BIAS;
	return (int16_t)((code & 0x80 ? magnitude : -magnitude) * 4);
}

static inline uint8_t pcma_encode_one(int16_t sample)
{
	unsigned sign = sample < 0 ? 0x00 : 0x80;
	unsigned magnitude = (unsigned)((sample < 0 ? ~sample : sample) >> 4);
	unsigned code = magnitude;
	if (magnitude >= 32) {
		int shift = top_bit(magnitude) - 4;
		code = (((unsigned)shift + 1) << 4) | ((magnitude >> shift) & 0x0f);
	}
	return (uint8_t)((sign | code) ^ 0x55);
}

static inline int16_t pcma_decode_one(uint8_t code)
{
	unsigned bits = code ^ 0x55u;
	int segment = (bits >> 4) & 0x07;
	int magnitude = (int)((bits & 0x0f) << 1) + 1; /* the middle of the step, on a 13-bit scale */
	if (segment > 0) {
		magnitude = (magnitude + 32) << (segment - 1);
	}
	return (int16_t)((bits & 0x80 ? magnitude : -magnitude) * 8);
}

void as_pcmu_encode(const int16_t *in, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = pcmu_encode_one(in[i]);
	}
}

void as_pcma_encode(const int16_t *in, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = pcma_encode_one(in[i]);
	}
}

void as_pcmu_decode(const uint8_t *in, int16_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = pcmu_decode_one(in[i]);
	}
}

void as_pcma_decode(const uint8_t *in, int16_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = pcma_decode_one(in[i]);
	}
}
