/*
 * streamer_turns.c - audio that cannot be queued at once, and what waits behind it. Service thread.
 *
 * - A file is decoded on a thread of its own (streamer_decode.c).
 * - Audio of more than a moment is queued bit by bit, a slice each tick: a thread that resamples a whole file at once
 *   would keep every other call on it waiting.
 *
 * Everything else is queued as it comes, unless something waits: order is kept.
 */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX_BYTES (16 << 20)
#define WHOLE_US 2000000 /* audio up to this long is queued at once: 9 ms of resampling, at 44.1 kHz */
#define SLICE_US 100000  /* and at a time, of what is longer: 0.5 ms for every tick of 2 */

/* Queues the next slice of the audio whose turn it is, which its length is taken off. 1 when that was the last of it. */
static int write_slice(as_streamer *s, streamer_play *play, int64_t *slice_us)
{
	streamer_audio slice = play->audio;
	size_t most = (size_t)((int64_t)slice.rate_hz * *slice_us / 1000000 + 1) * streamer_frame_bytes(&slice);
	if (!play->taken && !streamer_admit(s, play, &slice)) {
		return 1;
	}
	int is_first = play->taken == 0;
	slice.data += play->taken;
	slice.bytes -= play->taken;
	int64_t left_us = streamer_length_us(&slice);
	slice.bytes = slice.bytes < most ? slice.bytes : most;
	play->taken += slice.bytes;
	int64_t written_us = streamer_length_us(&slice);
	*slice_us -= written_us;
	int is_last = play->taken == play->audio.bytes;
	int error = streamer_write(s, play, &slice, is_first, is_last ? 0 : left_us - written_us);
	if (is_last && !is_first) {
		streamer_tell_queued(s, play);
	}
	return is_last || error;
}

/* Is there anything to wait for: a disk, a decoder? */
static int is_file(const streamer_audio *audio)
{
	return audio->path || streamer_is_packed(audio->format);
}

static void turn_taken(as_streamer *s, streamer_play *play)
{
	s->downlink.waiting = play->next;
	s->downlink.waiting_bytes -= play->kept_bytes;
	play->waiting = 0;
	play->taken = play->kept_bytes = 0;
	free(play->audio.data);
	play->audio = (streamer_audio){0};
}

/* Can the next turn be taken? Not while something is being decoded, unless nobody waits for that any more. */
static int can_go_on(const streamer_downlink *down)
{
	return down->waiting &&
		   (!down->decoding || (streamer_decode_abandoned(down->decoding) && !is_file(&down->waiting->audio)));
}

/* Hands the play's packed audio to a decoder. 0 when there is none. */
static int decode(as_streamer *s, streamer_play *play)
{
	streamer_downlink *down = &s->downlink;
	if (!play->goes_on) {
		streamer_end_slices(s);
	}
	audio_slices *slices = down->slices;
	down->slices = NULL; /* the decoder's */
	down->decoding = streamer_decode_start(s, &play->audio, slices, play->is_last);
	play->audio = (streamer_audio){0}; /* the decoder's */
	if (!down->decoding) {
		play->failed = 1;
		report_invalid(&s->report, "audio could not be decoded: no memory or thread");
	}
	return down->decoding != NULL;
}

/* Goes on with what waits: a slice of it, or as far as the next one that has to be decoded. */
void streamer_next_turn(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	int64_t slice_us = SLICE_US;
	while (can_go_on(down) && slice_us > 0) {
		streamer_play *play = down->waiting;
		if (is_file(&play->audio) ? !decode(s, play) : !play->audio.bytes || write_slice(s, play, &slice_us)) {
			turn_taken(s, play);
		}
	}
	if (slice_us < SLICE_US && s->state == STREAMER_PLAYING_OUT) {
		streamer_allow_queued(s);
	}
}

void streamer_end_slices(as_streamer *s)
{
	audio_slices *slices = s->downlink.slices;
	s->downlink.slices = NULL;
	if (slices && !audio_slices_heard(slices)) {
		report_invalid(&s->report, "the %s file has no audio in it", audio_slices_name(slices));
	}
	audio_slices_free(slices);
}

void streamer_decoded(as_streamer *s, int abandoned, streamer_audio *audio, audio_slices *slices, const char *error)
{
	streamer_downlink *down = &s->downlink;
	down->decoding = NULL;
	if (abandoned) {
		audio_slices_free(slices);
	} else {
		streamer_play *play = down->waiting;
		streamer_plays_settle(s, as_now_ns());
		down->sliced_ns = as_now_ns();
		if (play->is_last || (error && slices && !audio_slices_heard(slices))) {
			audio_slices_free(slices); /* what is wrong with it has been said */
		} else {
			down->slices = slices;
		}
		if (error) {
			play->failed = 1;
			report_invalid(&s->report, "%s", error);
		} else {
			play->audio = *audio;
			play->audio.path = NULL;
			audio->data = NULL;
		}
	}
	streamer_next_turn(s);
}

/* Appends a copy of raw or packed audio to what a play has waiting. */
static int keep(as_streamer *s, streamer_play *play, const streamer_audio *audio)
{
	streamer_downlink *down = &s->downlink;
	size_t have = play->audio.data ? play->audio.bytes : 0;
	if (down->waiting && down->waiting_bytes + audio->bytes > WAITING_MAX_BYTES) {
		return AS_EFULL;
	}
	uint8_t *data = realloc(play->audio.data, have + audio->bytes + 1);
	if (!data) {
		return AS_ENOMEM;
	}
	if (audio->bytes) {
		memcpy(data + have, audio->data, audio->bytes);
	}
	play->audio = *audio;
	play->audio.data = data;
	play->audio.bytes = have + audio->bytes;
	play->kept_bytes += audio->bytes;
	down->waiting_bytes += audio->bytes;
	play->waiting = 1;
	down->waiting = down->waiting ? down->waiting : play;
	return 0;
}

/* Queues audio now, or keeps it until what came before it is there. What only waits to be queued makes room at once. */
void streamer_take(as_streamer *s, streamer_play *play, const streamer_audio *audio)
{
	streamer_downlink *down = &s->downlink;
	play->audible = 1;
	if (!is_file(audio) && !down->waiting && streamer_length_us(audio) <= WHOLE_US) {
		if (streamer_admit(s, play, audio)) {
			streamer_write(s, play, audio, 1, 0);
		} else {
			streamer_close_spurt(s); /* what follows is no continuation of what was refused */
		}
		return;
	}
	while (can_go_on(down) && down->waiting_bytes + audio->bytes > WAITING_MAX_BYTES) {
		streamer_next_turn(s);
	}
	int error = keep(s, play, audio);
	if (error) {
		play->failed = 1;
		free(audio->path);
		streamer_close_spurt(s);
		report_invalid(&s->report, "audio refused: more than %d MB waits to be decoded", WAITING_MAX_BYTES >> 20);
	} else {
		streamer_next_turn(s);
	}
}
