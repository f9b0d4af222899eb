/*
 * streamer_decode.c - files on their way to the downlink, decoded on a thread of their own.
 *
 * MP3 and Ogg in messages are decoded slice by slice: a decoder (audio_slices.h) goes from one thread to the next by way of
 * the streamer. Everything else, and what is read from the disk, is decoded as a whole.
 *
 * A streamer decodes one at a time, so that audio stays in order, and its service thread never waits: the thread posts
 * the result as the last thing it does. It holds a reference to the actor for that, and is joined by whoever gets the
 * message; when that is the thread itself, because there is no service thread any more, it is left to end alone.
 */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audio_file.h"

#define ERROR_MAX 256
#define POST_AGAIN_US 10000                                /* without memory */
#define DECODED_MAX_SAMPLES (600 * (size_t)AS_RATE_MAX_HZ) /* longer than the inject queue is no use */

struct streamer_decode {
	ws_actor *actor;
	as_streamer *streamer; /* lives as long as the actor does */
	pthread_t thread;      /* service thread */
	int abandoned;         /* service thread */
	const char *directory; /* the streamer's options' */
	/* What there is to decode, then the result; the decoding thread's until it posts. */
	pthread_t self;
	streamer_audio audio;
	audio_slices *slices; /* of the message before, then for the next one */
	int is_last;
	int failed;
	char error[ERROR_MAX];
};

/* Service thread, or the decoding thread when there is none. The decoding thread has nothing else left to do. */
static void decode_free(streamer_decode *decode)
{
	ws_actor *actor = decode->actor;
	if (pthread_equal(decode->self, pthread_self())) {
		pthread_detach(decode->self);
	} else {
		pthread_join(decode->thread, NULL);
	}
	free(decode->audio.data);
	free(decode->audio.path);
	audio_slices_free(decode->slices);
	free(decode);
	ws_actor_unref(actor);
}

/* Service thread. */
static void decode_report(void *arg, void *message)
{
	streamer_decode *decode = message;
	audio_slices *slices = decode->slices;
	decode->slices = NULL;
	streamer_decoded(arg, decode->abandoned, &decode->audio, slices, decode->failed ? decode->error : NULL);
	decode_free(decode);
}

/* The streamer has finished meanwhile, or the service threads have been stopped under it: then it has yet to be told. */
static void dropped(void *message)
{
	streamer_decode *decode = message;
	decode->streamer->downlink.decoding = NULL;
	decode_free(decode);
}

/* Decoding thread. */
static int read_file(streamer_decode *decode)
{
	streamer_audio *audio = &decode->audio;
	void *data = NULL;
	int error = audio_file_read(decode->directory, audio->path, &data, &audio->bytes, decode->error, ERROR_MAX);
	audio->data = data;
	return error;
}

/* Decoding thread. With decode->slices, if the message is one. */
static int find_slices(streamer_decode *decode)
{
	const streamer_audio *audio = &decode->audio;
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
static int decode_audio(streamer_decode *decode, audio_pcm *pcm)
{
	const streamer_audio *audio = &decode->audio;
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
static int unpack(streamer_decode *decode)
{
	streamer_audio *audio = &decode->audio;
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
static void *decode_thread(void *arg)
{
	streamer_decode *decode = arg;
	decode->self = pthread_self();
	int packed = streamer_is_packed(decode->audio.format);
	decode->failed = (decode->audio.path && read_file(decode)) || (packed && unpack(decode));
	while (ws_post(decode->actor, decode_report, decode, dropped)) {
		usleep(POST_AGAIN_US); /* what came after this audio waits for it */
	}
	return NULL;
}

streamer_decode *streamer_decode_start(as_streamer *s, streamer_audio *audio, audio_slices *slices, int is_last)
{
	streamer_decode *decode = calloc(1, sizeof(*decode));
	if (!decode) {
		free(audio->data);
		free(audio->path);
		audio_slices_free(slices);
		return NULL;
	}
	decode->slices = slices;
	decode->is_last = is_last;
	decode->actor = ws_actor_ref(s->actor);
	decode->streamer = s;
	decode->audio = *audio;
	decode->directory = s->options->file_dir;
	if (pthread_create(&decode->thread, NULL, decode_thread, decode)) {
		ws_actor_unref(decode->actor);
		free(decode->audio.data);
		free(decode->audio.path);
		audio_slices_free(slices);
		free(decode);
		return NULL;
	}
	return decode;
}

void streamer_decode_abandon(streamer_decode *decode)
{
	decode->abandoned = 1;
}

int streamer_decode_abandoned(const streamer_decode *decode)
{
	return decode->abandoned;
}
