/*
 * streamer_downlink.c - the server's audio on its way into the inject queue: formats, order, utterances.
 *
 * Messages that follow each other within UTTERANCE_GAP_MS of what the caller last heard are one utterance, whether they
 * are one sentence in one message or a word in fifty. Within it
 *
 * - one resampler runs through: messages may be cut anywhere. What it holds back of a message comes out with the next
 *   one, or, when none comes in time, as the tail (drain()). So does half a sample that a message ends in, unless the
 *   next one plainly begins with a whole one (join()); it ends with a checkpoint, a clear, a file, another format;
 * - running dry is an underrun, and known to be one when audio comes after all: it is the gap between two marks.
 *
 * The stream itself is told of an end (as_inject_end()) for every message as soon as it plays. It would otherwise take
 * the end of every sentence for an underrun, for nobody says which message is the last. Until something plays it is not
 * told, or it would not wait for the prebuffer.
 *
 * Everything here runs on the service thread.
 */
#define _GNU_SOURCE
#include "streamer.h"

#include <stdlib.h>
#include <string.h>

#include "sample_join.h"

#define UTTERANCE_GAP_MS 200
#define PLAYS_MAX 20000
#define TELL_EVERY_NS 1000000000 /* of one play, that more of it has been queued */
#define SLICES_NS 1000000000 /* no slice for so long: the file is over, for who asks whether there was audio in it */
#define CHUNK 1024
#define TAIL_QUEUED_MS 30       /* less than this left to play: the resampler's tail is needed now */
#define MARKS_FROM (1ull << 48) /* nobody else who injects is to have our numbers */
#define NS_PER_MS 1000000

static int64_t ms_of(const as_streamer *s, uint64_t samples)
{
	return (int64_t)(samples * 1000 / (uint64_t)s->info.rate_hz);
}

/* ---- Prebuffer and utterances ------------------------------------------------------------------------------------ */

static void set_prebuffer(as_streamer *s, int prebuffer_ms)
{
	if (prebuffer_ms != s->downlink.prebuffer_ms && !as_inject_prebuffer(s->stream, prebuffer_ms)) {
		s->downlink.prebuffer_ms = prebuffer_ms;
	}
}

void streamer_downlink_init(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	down->next_mark = MARKS_FROM;
	down->ended = MARKS_FROM - 1;
	down->prebuffer_ms = -1;
	int fed_ahead = s->dialect == &streamer_openai; /* a model sends faster than real time */
	down->adaptive = !fed_ahead && s->options->adaptive && s->options->inject_min_ms == 0;
	if (down->adaptive) {
		as_jitter_config config = as_options_jitter(s->options, s->uplink.rate_hz, s->bidirectional);
		as_jitter_init(&down->jitter, &config);
		set_prebuffer(s, as_jitter_prebuffer_ms(&down->jitter));
	} else {
		set_prebuffer(s, fed_ahead ? 0 : s->options->inject_min_ms);
	}
}

void streamer_downlink_free(as_streamer *s)
{
	streamer_plays_free(s);
	audio_slices_free(s->downlink.slices);
	as_convert_free(s->downlink.convert);
}

int streamer_talking(const as_streamer *s)
{
	return s->downlink.talking || s->downlink.first || s->downlink.decoding;
}

void streamer_close_spurt(as_streamer *s)
{
	if (s->downlink.spurt) {
		streamer_tell_queued(s, s->downlink.spurt);
		s->downlink.spurt->closed = 1;
		s->downlink.spurt = NULL;
	}
}

static void utterance_over(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	down->talking = 0;
	down->dry = 0;
	down->heard_ns = 0;
	down->carried = 0;
	streamer_close_spurt(s);
	as_jitter_rest(&down->jitter);
}

/* A message's audio is about to be queued: what does its coming now, and not before, say? */
static void arrived(as_streamer *s, const as_stats *stats, int64_t audio_us, int64_t now_ns)
{
	streamer_downlink *down = &s->downlink;
	int silent = down->heard_ns && !stats->inject_queued_samples && !down->tail;
	if (silent && now_ns - down->heard_ns >= (int64_t)UTTERANCE_GAP_MS * NS_PER_MS) {
		utterance_over(s);
	} else if (silent && !stats->inject_playing && !stats->inject_paused) {
		down->dry = 1;
		if (down->adaptive) {
			set_prebuffer(s, as_jitter_underrun(&down->jitter, now_ns));
		}
	}
	if (down->adaptive) {
		int64_t queued_us = ms_of(s, stats->inject_queued_samples) * 1000;
		set_prebuffer(s, as_jitter_arrival(&down->jitter, now_ns, audio_us, queued_us));
	}
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

void streamer_let_run_dry(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	for (; down->ended + 1 < down->next_mark; down->ended++) {
		as_inject_end(s->stream, down->ended + 1);
	}
}

/* Queues samples of a play: under its latest mark, or, when that has been ended or is another's by now, a new one. */
static int write_piece(as_streamer *s, streamer_play *play, const int16_t *samples, size_t n)
{
	streamer_downlink *down = &s->downlink;
	int goes_on = play->last_mark && play->last_mark + 1 == down->next_mark && down->ended < play->last_mark &&
				  play->mark <= play->last_mark;
	uint64_t mark = goes_on ? play->last_mark : down->next_mark;
	long written = as_inject_write(s->stream, mark, 0, AS_S16, s->info.rate_hz, samples, n * sizeof(*samples));
	if (written < 0) {
		return (int)written;
	}
	if (!goes_on) {
		play->mark = play->mark <= play->last_mark ? play->mark : mark;
		play->last_mark = mark;
		down->next_mark++;
	}
	play->written += n;
	return 0;
}

/* as_convert_sink. What comes out first is the tail of the play before. */
static int into_queue(void *arg, const int16_t *samples, size_t n)
{
	as_streamer *s = arg;
	streamer_downlink *down = &s->downlink;
	size_t tail = down->tail < n ? down->tail : n;
	int error = tail ? write_piece(s, down->tail_play, samples, tail) : 0;
	down->tail -= tail;
	if (tail && !down->tail) {
		down->tail_play = NULL;
	}
	if (!error && n > tail) {
		error = write_piece(s, down->target, samples + tail, n - tail);
	}
	down->write_error = error ? error : down->write_error;
	return error;
}

/* Lets out what the resampler still holds: nothing is to follow it closely. */
static void drain(as_streamer *s)
{
	streamer_downlink *down = &s->downlink;
	if (down->tail_play) {
		down->target = down->tail_play;
		as_convert_drain(down->convert, into_queue, s);
		down->tail = 0;
		down->tail_play = NULL;
	}
}

static int turn_to(as_streamer *s, int rate_hz)
{
	streamer_downlink *down = &s->downlink;
	if (down->convert && as_convert_from_rate(down->convert) == rate_hz) {
		return 0;
	}
	drain(s);
	as_convert_free(down->convert);
	down->convert = NULL;
	return as_convert_new(rate_hz, s->info.rate_hz, 1, &down->convert);
}

static int16_t sample_at(const uint8_t *at)
{
	return (int16_t)(uint16_t)(at[0] | at[1] << 8);
}

static int16_t mixed(const uint8_t *frame, int channels)
{
	int32_t sum = 0;
	for (int i = 0; i < channels; i++) {
		sum += sample_at(frame + 2 * i);
	}
	return (int16_t)(sum / channels);
}

static void push(as_streamer *s, const int16_t *samples, size_t n)
{
	if (!s->downlink.write_error) {
		as_convert_push(s->downlink.convert, samples, n, into_queue, s);
	}
}

static void push_g711(as_streamer *s, const streamer_audio *audio)
{
	int16_t samples[CHUNK];
	s->downlink.carried = 0;
	for (size_t at = 0; at < audio->bytes; at += CHUNK) {
		size_t n = audio->bytes - at < CHUNK ? audio->bytes - at : CHUNK;
		if (audio->format == WIRE_RAW_ULAW) {
			as_pcmu_decode(audio->data + at, samples, n);
		} else {
			as_pcma_decode(audio->data + at, samples, n);
		}
		push(s, samples, n);
	}
}

/* Before the first audio of a play. What it goes on with may have been refused meanwhile: then silence stands for it, and all
 * that follows is still read where its samples begin. */
static void align(as_streamer *s, streamer_play *play, const streamer_audio *audio)
{
	streamer_downlink *down = &s->downlink;
	if (!play->aligned && down->carried != play->joins) {
		memset(down->carry, 0, sizeof(down->carry));
		down->carried = play->joins;
		down->carry_frame = streamer_frame_bytes(audio);
		down->carry_rate_hz = audio->rate_hz;
	}
	play->aligned = 1;
}

/* Completes the sample that the message before ended in. Returns the bytes it took. */
static size_t push_carried(as_streamer *s, const streamer_audio *audio, size_t frame)
{
	streamer_downlink *down = &s->downlink;
	size_t taken = 0;
	if (down->carry_frame != frame || down->carry_rate_hz != audio->rate_hz) {
		down->carried = 0;
	}
	down->carry_frame = frame;
	down->carry_rate_hz = audio->rate_hz;
	if (!down->carried) {
		return 0;
	}
	for (; down->carried < frame && taken < audio->bytes; taken++) {
		down->carry[down->carried++] = audio->data[taken];
	}
	if (down->carried == frame) {
		int16_t sample = mixed(down->carry, audio->channels);
		down->carried = 0;
		push(s, &sample, 1);
	}
	return taken;
}

static void push_l16(as_streamer *s, const streamer_audio *audio)
{
	int16_t samples[CHUNK];
	size_t frame = (size_t)audio->channels * sizeof(int16_t);
	size_t at = push_carried(s, audio, frame);
	while (audio->bytes - at >= frame) {
		size_t n = 0;
		for (; n < CHUNK && audio->bytes - at >= frame; at += frame) {
			samples[n++] = mixed(audio->data + at, audio->channels);
		}
		push(s, samples, n);
	}
	if (at < audio->bytes) {
		s->downlink.carried = audio->bytes - at;
		memcpy(s->downlink.carry, audio->data + at, s->downlink.carried);
	}
}

/* ---- One piece of audio ------------------------------------------------------------------------------------------ */

/* Bytes of one sample of all channels. */
size_t streamer_frame_bytes(const streamer_audio *audio)
{
	return audio->format == WIRE_RAW_L16 ? (size_t)audio->channels * sizeof(int16_t) : 1;
}

int64_t streamer_length_us(const streamer_audio *audio)
{
	return (int64_t)(audio->bytes / streamer_frame_bytes(audio)) * 1000000 / audio->rate_hz;
}

static void note_overrun(as_streamer *s, int64_t queued_ms)
{
	if (!s->downlink.over) {
		s->downlink.over = 1;
		report_event(&s->report, "stream_buffer_overrun",
					 json_pack("{s:s,s:I,s:i,s:I}", "direction", "inject", "queuedMs", (json_int_t)queued_ms, "limitMs",
							   s->options->inject_buffer_ms, "refusedMs", (json_int_t)s->downlink.refused_ms));
	}
}

/* May this much be queued? */
static int admitted(as_streamer *s, const as_stats *stats, int64_t audio_us)
{
	int64_t queued_ms = ms_of(s, stats->inject_queued_samples), limit_ms = s->options->inject_buffer_ms;
	s->downlink.over = s->downlink.over && queued_ms > limit_ms;
	if (queued_ms + audio_us / 1000 <= limit_ms) {
		return 1;
	}
	if (s->options->inject_strict) {
		s->downlink.refused_ms += (uint64_t)(audio_us / 1000);
		note_overrun(s, queued_ms);
		return 0;
	}
	note_overrun(s, queued_ms + audio_us / 1000);
	return 1;
}

static void write_failed(as_streamer *s, int64_t audio_us)
{
	int error = s->downlink.write_error;
	if (error == AS_EFULL) {
		s->downlink.refused_ms += (uint64_t)(audio_us / 1000);
	}
	if (error != AS_ECLOSED) {
		report_invalid(&s->report, "audio of %lld ms loses its end: %s", (long long)(audio_us / 1000),
					   as_strerror(error));
	}
}

void streamer_tell_queued(as_streamer *s, streamer_play *play)
{
	if (s->dialect->queued && play->untold_bytes) {
		report_event(&s->report, s->dialect->queued,
					 json_pack("{s:I,s:I,s:I,s:i}", "playId", (json_int_t)play->number, "bytes",
							   (json_int_t)play->untold_bytes, "ms", (json_int_t)(play->untold_us / 1000), "rate",
							   play->rate_hz));
		play->untold_bytes = 0;
		play->untold_us %= 1000;
		play->told_ns = as_now_ns();
	}
}

/* Tells at once of the first audio of a play, then of what comes within a second together. */
static void note_queued(as_streamer *s, streamer_play *play, const streamer_audio *audio, int64_t audio_us)
{
	if (play->rate_hz != audio->rate_hz) {
		streamer_tell_queued(s, play);
		play->rate_hz = audio->rate_hz;
	}
	play->untold_bytes += audio->bytes;
	play->untold_us += audio_us;
	if (!play->told_ns || as_now_ns() - play->told_ns >= TELL_EVERY_NS) {
		streamer_tell_queued(s, play);
	}
}

int streamer_write(as_streamer *s, streamer_play *play, const streamer_audio *audio, int is_first, int64_t rest_us)
{
	streamer_downlink *down = &s->downlink;
	as_stats stats;
	int64_t now_ns = as_now_ns(), audio_us = streamer_length_us(audio);
	if (is_first) {
		as_stream_stats(s->stream, &stats);
		arrived(s, &stats, audio_us + rest_us, now_ns);
	}
	down->talking = 1;
	down->arrival_ns = now_ns;
	down->write_error = turn_to(s, audio->rate_hz);
	down->target = play; /* not before: it may let out the tail of another one */
	align(s, play, audio);
	if (audio->format == WIRE_RAW_L16) {
		push_l16(s, audio);
	} else {
		push_g711(s, audio);
	}
	if (down->convert && as_convert_held(down->convert)) {
		down->tail = as_convert_held(down->convert);
		down->tail_play = play;
	}
	if (rest_us == 0 && (!down->prebuffer_ms || down->sounding)) {
		streamer_let_run_dry(s);
	}
	if (down->write_error) {
		play->failed = 1;
		write_failed(s, audio_us + rest_us);
	} else {
		note_queued(s, play, audio, audio_us);
	}
	return down->write_error;
}

/* May all of this audio be queued? Says so when not. */
int streamer_admit(as_streamer *s, streamer_play *play, const streamer_audio *audio)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	int yes = admitted(s, &stats, streamer_length_us(audio));
	play->failed |= !yes;
	return yes;
}

/* ---- What dialects call ------------------------------------------------------------------------------------------ */

static streamer_play *begin_play(as_streamer *s, const char *checkpoint)
{
	streamer_plays_settle(s, as_now_ns());
	streamer_play *play = NULL;
	if (s->downlink.count < PLAYS_MAX) {
		play = streamer_play_new(s, checkpoint);
	}
	if (!play) {
		s->downlink.missed = 1;
		report_invalid(&s->report, "audio refused: %zu pieces are queued already", s->downlink.count);
	}
	return play;
}

/* A message has come: the bytes that its first sample has in the one before. */
static size_t join(streamer_downlink *down, const streamer_audio *audio)
{
	size_t part = down->part_bytes, frame = audio->path ? 1 : streamer_frame_bytes(audio);
	if (frame != down->part_frame_bytes || audio->rate_hz != down->part_rate_hz ||
		(part && sample_join_begins_whole(audio->data, audio->bytes, frame - part, audio->channels))) {
		part = 0;
	}
	down->part_frame_bytes = frame;
	down->part_rate_hz = audio->rate_hz;
	down->part_bytes = (part + audio->bytes) % frame;
	return part;
}

/* A message of packed audio has come: is it a slice of what the one before had of the same kind? A checkpoint ends it. */
static int goes_on(streamer_downlink *down, const streamer_audio *audio, int is_last)
{
	int packed = !audio->path && streamer_is_packed(audio->format);
	int slice = packed && down->slicing == audio->format;
	down->slicing = packed && !is_last ? audio->format : 0;
	return slice;
}

void streamer_play_message(as_streamer *s, const streamer_audio *audio, const char *checkpoint)
{
	streamer_close_spurt(s);
	streamer_play *play = begin_play(s, checkpoint);
	size_t joins = join(&s->downlink, audio);
	int is_last = checkpoint && *checkpoint, slice = goes_on(&s->downlink, audio, is_last);
	if (is_last) {
		s->downlink.part_bytes = 0;
	}
	if (play) {
		play->closed = 1;
		play->joins = joins;
		play->goes_on = slice;
		play->is_last = is_last;
		streamer_take(s, play, audio);
	} else {
		free(audio->path);
	}
}

/* What waits of a play is of one format, and has been admitted together. */
static int can_join(const as_streamer *s, const streamer_play *play, const streamer_audio *audio)
{
	const streamer_audio *kept = &play->audio;
	return !play->waiting || (kept->format == audio->format && kept->rate_hz == audio->rate_hz &&
							  kept->channels == audio->channels && !(s->options->inject_strict && play->taken));
}

void streamer_play_more(as_streamer *s, const streamer_audio *audio)
{
	streamer_downlink *down = &s->downlink;
	size_t part = down->part_bytes, joins = join(down, audio);
	down->slicing = 0;
	if (down->spurt && (!can_join(s, down->spurt, audio) || (part && !joins))) {
		streamer_close_spurt(s);
	}
	if (down->spurt) {
		streamer_plays_settle(s, as_now_ns());
	} else if ((down->spurt = begin_play(s, NULL))) {
		down->spurt->joins = joins;
	}
	if (down->spurt) {
		down->talking = 1; /* until it is over, even if none of it is accepted */
		streamer_take(s, down->spurt, audio);
	}
}

void streamer_checkpoint(as_streamer *s, const char *name)
{
	streamer_close_spurt(s);
	s->downlink.part_bytes = 0;
	s->downlink.slicing = 0;
	streamer_play *play = begin_play(s, name);
	if (play) {
		play->closed = 1;
		streamer_plays_settle(s, as_now_ns());
	}
}

void streamer_clear(as_streamer *s, const char *why, int quiet)
{
	streamer_downlink *down = &s->downlink;
	streamer_plays_settle(s, as_now_ns());
	uint64_t from = down->first && down->first->last_mark ? down->first->mark : down->next_mark;
	int most = (int)(down->next_mark - from) + 1;
	as_mark *marks = malloc((size_t)most * sizeof(*marks)); /* without it, each is asked about */
	int count = 0;
	as_inject_flush(s->stream, marks, marks ? most : 0, &count);
	streamer_plays_cut(s, marks, !marks ? 0 : count < most ? count : most, why, quiet);
	free(marks);
	if (down->decoding) {
		streamer_decode_abandon(down->decoding);
	}
	down->waiting = NULL;
	down->waiting_bytes = 0;
	as_convert_free(down->convert);
	down->convert = NULL;
	down->tail = 0;
	down->tail_play = NULL;
	down->ended = down->next_mark - 1;
	down->part_bytes = 0;
	down->slicing = 0;
	audio_slices_free(down->slices);
	down->slices = NULL;
	utterance_over(s);
}

/* ---- Time passes ------------------------------------------------------------------------------------------------- */

/* The tail comes out as late as it may: what comes after it should have had a chance to join it. */
static void tail_in_time(as_streamer *s, int64_t now_ns)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	int64_t idle_ms = (now_ns - s->downlink.arrival_ns) / NS_PER_MS;
	int patience_ms = s->downlink.prebuffer_ms / 2 > TAIL_QUEUED_MS ? s->downlink.prebuffer_ms / 2 : TAIL_QUEUED_MS;
	int due = stats.inject_playing || idle_ms >= patience_ms;
	if (due && ms_of(s, stats.inject_queued_samples) < TAIL_QUEUED_MS) {
		drain(s);
		if (!s->downlink.prebuffer_ms || s->downlink.sounding) {
			streamer_let_run_dry(s);
		}
	}
}

/* A file of which nothing could be played, and nothing more comes. */
static void check_slices(as_streamer *s, int64_t now_ns)
{
	const streamer_downlink *down = &s->downlink;
	if (!audio_slices_heard(down->slices) && !down->waiting && now_ns - down->sliced_ns >= SLICES_NS) {
		streamer_end_slices(s);
	}
}

void streamer_downlink_tick(as_streamer *s, int64_t now_ns)
{
	streamer_downlink *down = &s->downlink;
	streamer_next_turn(s);
	if (down->slices) {
		check_slices(s, now_ns);
	}
	if (down->tail_play) {
		tail_in_time(s, now_ns);
	}
	if (down->first && now_ns >= down->look_ns) {
		streamer_plays_settle(s, now_ns);
	}
	int64_t last_ns = down->heard_ns > down->arrival_ns ? down->heard_ns : down->arrival_ns;
	if (down->talking && !streamer_plays_pending(s) && now_ns - last_ns >= (int64_t)UTTERANCE_GAP_MS * NS_PER_MS) {
		down->part_bytes = 0;
		utterance_over(s);
		streamer_plays_settle(s, now_ns);
	}
}
