/*
 * player_decode.c - files on their way to the queue, decoded on threads of a pool (decode_pool.h).
 *
 * MP3 and Ogg in messages are decoded slice by slice: a decoder (audio_slices.h) goes from one thread to the next by
 * way of the player. Everything else, and what is read from the disk, is decoded as a whole.
 *
 * A player has at most one decode at a time, so that audio stays in order, and its own thread never waits: the pool's
 * thread posts the result as the last thing it does with the decode, which holds the player's owner until then.
 */
#define _GNU_SOURCE
#include "player_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audio_file.h"
#include "decode_pool.h"

#define ERROR_MAX 256
#define POST_AGAIN_US 10000                                /* without memory */
#define DECODED_MAX_SAMPLES (600 * (size_t)AS_RATE_MAX_HZ) /* longer than the inject queue is no use */

struct player_decode {
	struct player *player; /* stays until out.release() */
	struct player_outlets out;
	void (*done)(struct player *p, struct player_decoded *decoded);
	int abandoned;         /* the player's thread */
	const char *directory; /* stays as the player does */
	/* What there is to decode, then the result: the decoding thread's until it posts. */
	struct player_audio audio;
	audio_slices *slices; /* of the message before, then for the next one */
	int is_last;
	int failed;
	char error[ERROR_MAX];
};

/* The player's thread, or the decoding thread when the owner runs nothing any more. */
static void decode_free(struct player_decode *decode)
{
	struct player_outlets out = decode->out;
	free(decode->audio.data);
	free(decode->audio.path);
	audio_slices_free(decode->slices);
	free(decode);
	out.release(out.arg);
}

/* The player's thread. */
static void decode_done(void *arg, void *message)
{
	(void)arg;
	struct player_decode *decode = message;
	struct player_decoded decoded = {
		decode->audio,
		decode->slices,
		decode->failed ? decode->error : NULL,
		decode->abandoned,
	};
	decode->slices = NULL;
	decode->done(decode->player, &decoded);
	decode->audio = decoded.audio;
	decode_free(decode);
}

/* The owner has finished meanwhile, or the service threads have been stopped under it: then the owner is still to
 * conclude. */
static void decode_dropped(void *message)
{
	struct player_decode *decode = message;
	decode->done(decode->player, NULL);
	decode_free(decode);
}

/* Decoding thread. */
static int decode_read_file(struct player_decode *decode)
{
	struct player_audio *audio = &decode->audio;
	void *data = NULL;
	int error = audio_file_read(decode->directory, audio->path, &data, &audio->bytes, decode->error, ERROR_MAX);
	free(audio->data);
	audio->data = data;
	return error;
}

/* Decoding thread. With decode->slices, if the message is one. */
static int find_slices(struct player_decode *decode)
{
	const struct player_audio *audio = &decode->audio;
	if (audio->path || (decode->slices && audio_slices_ends_before(audio->data, audio->bytes))) {
		audio_slices_free(decode->slices);
		decode->slices = NULL;
	}
	if (audio->path || decode->slices) {
		return 0;
	}
	int error = audio_slices_new(audio->data, audio->bytes, &decode->slices);
	if (error == AS_ENOMEM) {
		snprintf(decode->error, ERROR_MAX, "%s", as_strerror(error));
		return error;
	}
	return 0;
}

/* Decoding thread. */
static int decode_audio(struct player_decode *decode, audio_pcm *pcm)
{
	const struct player_audio *audio = &decode->audio;
	int error = find_slices(decode);
	if (error) {
		return error;
	}
	return decode->slices ? audio_slices_decode(decode->slices, audio->data, audio->bytes, decode->is_last,
												DECODED_MAX_SAMPLES, pcm, decode->error, ERROR_MAX)
						  : audio_file_decode(audio->data, audio->bytes, audio->format, DECODED_MAX_SAMPLES, pcm,
											  decode->error, ERROR_MAX);
}

/* Decoding thread. */
static int decode_unpack(struct player_decode *decode)
{
	struct player_audio *audio = &decode->audio;
	audio_pcm pcm;
	int error = decode_audio(decode, &pcm);
	if (!error) {
		free(audio->data);
		audio->format = WIRE_RAW_L16;
		audio->rate_hz = pcm.rate_hz;
		audio->channels = 1;
		audio->data = (uint8_t *)pcm.samples;
		audio->bytes = pcm.n * sizeof(*pcm.samples);
	}
	return error;
}

/* Decoding thread. */
static void decode_run(void *arg)
{
	struct player_decode *decode = arg;
	int packed = player_is_packed(decode->audio.format);
	decode->failed = (decode->audio.path && decode_read_file(decode)) || (packed && decode_unpack(decode));
	while (decode->out.post(decode->out.arg, decode_done, decode, decode_dropped)) {
		usleep(POST_AGAIN_US); /* what came after this audio waits for it */
	}
}

/* What was to be decoded is lost. */
static struct player_decode *decode_failed(struct player_decode *decode, struct player_audio *audio,
										   audio_slices *slices)
{
	free(audio->data);
	free(audio->path);
	audio_slices_free(slices);
	free(decode);
	return NULL;
}

struct player_decode *player_decode_start(struct player *p, struct player_audio *audio, audio_slices *slices,
										  int is_last, void (*done)(struct player *p, struct player_decoded *decoded))
{
	struct player_decode *decode = calloc(1, sizeof(*decode));
	if (!decode) {
		return decode_failed(decode, audio, slices);
	}
	decode->slices = slices;
	decode->is_last = is_last;
	decode->player = p;
	decode->out = p->out;
	decode->done = done;
	decode->audio = *audio;
	decode->directory = p->config.file_dir;
	decode->out.hold(decode->out.arg);
	if (decode_pool_run(decode_run, decode)) {
		decode->out.release(decode->out.arg);
		return decode_failed(decode, audio, slices);
	}
	return decode;
}

void player_decode_abandon(struct player_decode *decode)
{
	decode->abandoned = 1;
}

int player_decode_abandoned(const struct player_decode *decode)
{
	return decode->abandoned;
}
