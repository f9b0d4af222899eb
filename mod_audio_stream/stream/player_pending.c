/*
 * player_pending.c - audio that cannot be queued at once, and what waits behind it. The player's thread.
 *
 * - A file is decoded on a thread of its own (player_decode.c).
 * - Audio of more than a moment is queued bit by bit, a slice each tick: a thread that resamples a whole file at once
 *   would keep every other call on it waiting.
 *
 * Everything else is queued as it comes, unless something waits: order is kept.
 */
#define _GNU_SOURCE
#include "player_internal.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX_BYTES (16 << 20)
#define WHOLE_US 2000000 /* audio up to this long is queued at once: 9 ms of resampling, at 44.1 kHz */
#define SLICE_US 100000  /* and at a time, of what is longer: 0.5 ms for every tick of 2 */

/* Queues the next slice of the first pending audio and takes its length off *slice_us. 1 when that was the last of
 * it. */
static int write_slice(struct player *p, struct play *play, int64_t *slice_us)
{
	struct player_audio slice = play->audio;
	size_t most = (size_t)((int64_t)slice.rate_hz * *slice_us / 1000000 + 1) * player_frame_bytes(&slice);
	if (!play->taken && !player_admit(p, play, &slice)) {
		return 1;
	}
	int is_first = play->taken == 0;
	slice.data += play->taken;
	slice.bytes -= play->taken;
	int64_t left_us = player_length_us(&slice);
	slice.bytes = slice.bytes < most ? slice.bytes : most;
	play->taken += slice.bytes;
	int64_t written_us = player_length_us(&slice);
	*slice_us -= written_us;
	int is_last = play->taken == play->audio.bytes;
	int error = player_write(p, play, &slice, is_first, is_last ? 0 : left_us - written_us);
	if (is_last && !is_first) {
		player_report_queued(p, play);
	}
	return is_last || error;
}

/* Is there anything to wait for: a disk, a decoder? */
static int is_file(const struct player_audio *audio)
{
	return audio->path || player_is_packed(audio->format);
}

static void end_waiting(struct player *p, struct play *play)
{
	p->waiting = play->next;
	p->waiting_bytes -= play->kept_bytes;
	play->waiting = 0;
	play->taken = play->kept_bytes = 0;
	free(play->audio.data);
	play->audio = (struct player_audio){0};
}

/* Can the first pending audio be queued or decoded? Not while a decoder is at work, unless it has been abandoned. */
static int can_go_on(const struct player *p)
{
	return p->waiting && (!p->decoding || (player_decode_abandoned(p->decoding) && !is_file(&p->waiting->audio)));
}

static void finish_decoding(struct player *p, struct player_decoded *decoded);

/* Hands the play's packed audio to a decoder. 0 when there is none. */
static int start_decoder(struct player *p, struct play *play)
{
	if (!play->continues) {
		player_end_slices(p);
	}
	audio_slices *slices = p->slices;
	p->slices = NULL; /* the decoder's */
	p->decoding = player_decode_start(p, &play->audio, slices, play->is_last, finish_decoding);
	play->audio = (struct player_audio){0}; /* the decoder's */
	if (!p->decoding) {
		play->failed = 1;
		player_invalid(p, "audio could not be decoded: no memory or thread");
	}
	return p->decoding != NULL;
}

void player_next(struct player *p)
{
	int64_t slice_us = SLICE_US;
	while (can_go_on(p) && slice_us > 0) {
		struct play *play = p->waiting;
		if (is_file(&play->audio) ? !start_decoder(p, play) : !play->audio.bytes || write_slice(p, play, &slice_us)) {
			end_waiting(p, play);
		}
	}
	if (slice_us < SLICE_US) {
		p->out.queued(p->out.arg);
	}
}

void player_end_slices(struct player *p)
{
	audio_slices *slices = p->slices;
	p->slices = NULL;
	if (slices && !audio_slices_heard(slices)) {
		player_invalid(p, "the %s file has no audio in it", audio_slices_name(slices));
	}
	audio_slices_free(slices);
}

/* The decoder's audio, or its complaint, for the play that waits first. */
static void take_decoded(struct player *p, struct play *play, struct player_decoded *decoded)
{
	player_update(p, as_now_ns());
	p->sliced_ns = as_now_ns();
	if (play->is_last || (decoded->error && decoded->slices && !audio_slices_heard(decoded->slices))) {
		audio_slices_free(decoded->slices); /* what is wrong with the file is in decoded->error */
	} else {
		p->slices = decoded->slices;
	}
	if (decoded->error) {
		play->failed = 1;
		player_invalid(p, "%s", decoded->error);
	} else {
		play->audio = decoded->audio;
		play->audio.path = NULL;
		decoded->audio.data = NULL;
	}
}

static void finish_decoding(struct player *p, struct player_decoded *decoded)
{
	p->decoding = NULL;
	if (!decoded) {
		return;
	}
	if (decoded->abandoned) {
		audio_slices_free(decoded->slices);
	} else {
		take_decoded(p, p->waiting, decoded);
	}
	player_next(p);
}

void player_drop_pending(struct player *p)
{
	if (p->decoding) {
		player_decode_abandon(p->decoding);
	}
	p->waiting = NULL;
	p->waiting_bytes = 0;
	audio_slices_free(p->slices);
	p->slices = NULL;
}

/* Appends a copy of raw or packed audio to what a play has waiting. */
static int keep_waiting(struct player *p, struct play *play, const struct player_audio *audio)
{
	size_t have = play->audio.data ? play->audio.bytes : 0;
	if (p->waiting && p->waiting_bytes + audio->bytes > WAITING_MAX_BYTES) {
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
	p->waiting_bytes += audio->bytes;
	play->waiting = 1;
	p->waiting = p->waiting ? p->waiting : play;
	return 0;
}

/* Audio that only waits to be queued, not decoded, is queued at once when there is no room for more. */
void player_take(struct player *p, struct play *play, const struct player_audio *audio)
{
	play->audible = 1;
	if (!is_file(audio) && !p->waiting && player_length_us(audio) <= WHOLE_US) {
		if (player_admit(p, play, audio)) {
			player_write(p, play, audio, 1, 0);
		} else {
			player_close_play(p); /* what follows is no continuation of what was refused */
		}
		return;
	}
	while (can_go_on(p) && p->waiting_bytes + audio->bytes > WAITING_MAX_BYTES) {
		player_next(p);
	}
	int error = keep_waiting(p, play, audio);
	if (error) {
		play->failed = 1;
		free(audio->path);
		player_close_play(p);
		player_invalid(p, "audio refused: more than %d MB waits to be decoded", WAITING_MAX_BYTES >> 20);
	} else {
		player_next(p);
	}
}
