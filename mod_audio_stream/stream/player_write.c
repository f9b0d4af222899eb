/*
 * player_write.c - raw audio on its way into the inject queue: formats, prebuffer, underruns. The player's thread.
 *
 * Within an utterance one resampler runs through: messages may be cut anywhere. What it holds back of a message comes
 * out with the next one, or, when none comes in time, as the tail (drain_tail()). So does half a sample that a
 * message ends in, unless the next one plainly begins with a whole one (player_append()); it ends with a checkpoint,
 * a clear, a file, another format.
 */
#define _GNU_SOURCE
#include "player_internal.h"

#include <string.h>

#define REPORT_EVERY_NS 1000000000 /* that more of one play has been queued */
#define CHUNK 1024
#define TAIL_QUEUED_MS 30       /* less than this left to play: the resampler's tail is needed now */
#define MARKS_FROM (1ull << 48) /* no other writer to the stream uses these numbers */

/* ---- Prebuffer and utterances ------------------------------------------------------------------------------------ */

static void set_prebuffer(struct player *p, int prebuffer_ms)
{
	if (prebuffer_ms != p->prebuffer_ms && !as_inject_prebuffer(p->stream, prebuffer_ms)) {
		p->prebuffer_ms = prebuffer_ms;
	}
}

void player_write_init(struct player *p)
{
	p->next_mark = MARKS_FROM;
	p->ended = MARKS_FROM - 1;
	p->prebuffer_ms = -1;
	if (p->config.adaptive) {
		as_jitter_init(&p->jitter, &p->config.jitter);
		set_prebuffer(p, as_jitter_prebuffer_ms(&p->jitter));
	} else {
		set_prebuffer(p, p->config.prebuffer_ms);
	}
}

void player_close_play(struct player *p)
{
	if (p->open) {
		player_report_queued(p, p->open);
		p->open->closed = 1;
		p->open = NULL;
	}
}

void player_end_utterance(struct player *p)
{
	p->talking = 0;
	p->dry = 0;
	p->heard_ns = 0;
	p->carried = 0;
	player_close_play(p);
	as_jitter_rest(&p->jitter);
}

/* Classifies an arrival: new utterance, late within one (an underrun), or on time; updates the jitter estimate. */
static void note_arrival(struct player *p, const as_stats *stats, int64_t audio_us, int64_t now_ns)
{
	int silent = p->heard_ns && !stats->inject_queued_samples && !p->tail;
	if (silent && now_ns - p->heard_ns >= (int64_t)PLAYER_GAP_MS * PLAYER_NS_PER_MS) {
		player_end_utterance(p);
	} else if (silent && !stats->inject_playing && !stats->inject_paused) {
		p->dry = 1;
		if (p->config.adaptive) {
			set_prebuffer(p, as_jitter_underrun(&p->jitter, now_ns));
		}
	}
	if (p->config.adaptive) {
		int64_t queued_us = player_ms(p, stats->inject_queued_samples) * 1000;
		set_prebuffer(p, as_jitter_arrival(&p->jitter, now_ns, audio_us, queued_us));
	}
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

/* Queues samples of a play: under its latest mark, or, when that has been ended or is another's by now, a new one. */
static int write_piece(struct player *p, struct play *play, const int16_t *samples, size_t n)
{
	int goes_on = play->last_mark && play->last_mark + 1 == p->next_mark && p->ended < play->last_mark &&
				  play->mark <= play->last_mark;
	uint64_t mark = goes_on ? play->last_mark : p->next_mark;
	long written = as_inject_write(p->stream, mark, 0, AS_S16, p->info.rate_hz, samples, n * sizeof(*samples));
	if (written < 0) {
		return (int)written;
	}
	if (!goes_on) {
		play->mark = play->mark <= play->last_mark ? play->mark : mark;
		play->last_mark = mark;
		p->next_mark++;
	}
	play->written += n;
	return 0;
}

/* as_convert_sink. The first p->tail samples belong to the play before. */
static int into_queue(void *arg, const int16_t *samples, size_t n)
{
	struct player *p = arg;
	size_t tail = p->tail < n ? p->tail : n;
	int error = tail ? write_piece(p, p->tail_play, samples, tail) : 0;
	p->tail -= tail;
	if (tail && !p->tail) {
		p->tail_play = NULL;
	}
	if (!error && n > tail) {
		error = write_piece(p, p->target, samples + tail, n - tail);
	}
	p->write_error = error ? error : p->write_error;
	return error;
}

/* Queues what the resampler still holds, as nothing follows it closely. */
static void drain_tail(struct player *p)
{
	if (p->tail_play) {
		p->target = p->tail_play;
		as_convert_drain(p->convert, into_queue, p);
		p->tail = 0;
		p->tail_play = NULL;
	}
}

static int set_source_rate(struct player *p, int rate_hz)
{
	if (p->convert && as_convert_from_rate(p->convert) == rate_hz) {
		return 0;
	}
	drain_tail(p);
	as_convert_free(p->convert);
	p->convert = NULL;
	return as_convert_new(rate_hz, p->info.rate_hz, 1, &p->convert);
}

static int16_t l16_sample(const uint8_t *at)
{
	return (int16_t)(uint16_t)(at[0] | at[1] << 8);
}

static int16_t mixed(const uint8_t *frame, int channels)
{
	int32_t sum = 0;
	for (int i = 0; i < channels; i++) {
		sum += l16_sample(frame + 2 * i);
	}
	return (int16_t)(sum / channels);
}

static void push_samples(struct player *p, const int16_t *samples, size_t n)
{
	if (!p->write_error) {
		as_convert_push(p->convert, samples, n, into_queue, p);
	}
}

static void write_g711(struct player *p, const struct player_audio *audio)
{
	int16_t samples[CHUNK];
	p->carried = 0;
	for (size_t at = 0; at < audio->bytes; at += CHUNK) {
		size_t n = audio->bytes - at < CHUNK ? audio->bytes - at : CHUNK;
		if (audio->format == WIRE_RAW_ULAW) {
			as_pcmu_decode(audio->data + at, samples, n);
		} else {
			as_pcma_decode(audio->data + at, samples, n);
		}
		push_samples(p, samples, n);
	}
}

/* Before the first audio of a play. The message that it continues may have been refused meanwhile: then silence
 * stands for that part of a sample, and all that follows is still read where its samples begin. */
static void align_carry(struct player *p, struct play *play, const struct player_audio *audio)
{
	if (!play->aligned && p->carried != play->joins) {
		memset(p->carry, 0, sizeof(p->carry));
		p->carried = play->joins;
		p->carry_frame = player_frame_bytes(audio);
		p->carry_rate_hz = audio->rate_hz;
	}
	play->aligned = 1;
}

/* Completes the sample that the message before ended in. Returns the bytes it took. */
static size_t write_carried(struct player *p, const struct player_audio *audio, size_t frame)
{
	size_t taken = 0;
	if (p->carry_frame != frame || p->carry_rate_hz != audio->rate_hz) {
		p->carried = 0;
	}
	p->carry_frame = frame;
	p->carry_rate_hz = audio->rate_hz;
	if (!p->carried) {
		return 0;
	}
	for (; p->carried < frame && taken < audio->bytes; taken++) {
		p->carry[p->carried++] = audio->data[taken];
	}
	if (p->carried == frame) {
		int16_t sample = mixed(p->carry, audio->channels);
		p->carried = 0;
		push_samples(p, &sample, 1);
	}
	return taken;
}

static void write_l16(struct player *p, const struct player_audio *audio)
{
	int16_t samples[CHUNK];
	size_t frame = (size_t)audio->channels * sizeof(int16_t);
	size_t at = write_carried(p, audio, frame);
	while (audio->bytes - at >= frame) {
		size_t n = 0;
		for (; n < CHUNK && audio->bytes - at >= frame; at += frame) {
			samples[n++] = mixed(audio->data + at, audio->channels);
		}
		push_samples(p, samples, n);
	}
	if (at < audio->bytes) {
		p->carried = audio->bytes - at;
		memcpy(p->carry, audio->data + at, p->carried);
	}
}

/* ---- One piece of audio ------------------------------------------------------------------------------------------ */

size_t player_frame_bytes(const struct player_audio *audio)
{
	return audio->format == WIRE_RAW_L16 ? (size_t)audio->channels * sizeof(int16_t) : 1;
}

int64_t player_length_us(const struct player_audio *audio)
{
	return (int64_t)(audio->bytes / player_frame_bytes(audio)) * 1000000 / audio->rate_hz;
}

static void note_overrun(struct player *p, int64_t queued_ms)
{
	if (!p->over) {
		p->over = 1;
		player_event(p, "stream_buffer_overrun",
					 json_pack("{s:s,s:I,s:i,s:I}", "direction", "inject", "queuedMs", (json_int_t)queued_ms, "limitMs",
							   p->config.limit_ms, "refusedMs", (json_int_t)p->refused_ms));
	}
}

/* May this much be queued? Reports an overrun. */
static int is_admitted(struct player *p, const as_stats *stats, int64_t audio_us)
{
	int64_t queued_ms = player_ms(p, stats->inject_queued_samples), limit_ms = p->config.limit_ms;
	p->over = p->over && queued_ms > limit_ms;
	if (queued_ms + audio_us / 1000 <= limit_ms) {
		return 1;
	}
	if (p->config.strict) {
		p->refused_ms += (uint64_t)(audio_us / 1000);
		note_overrun(p, queued_ms);
		return 0;
	}
	note_overrun(p, queued_ms + audio_us / 1000);
	return 1;
}

static void write_failed(struct player *p, int64_t audio_us)
{
	int error = p->write_error;
	if (error == AS_EFULL) {
		p->refused_ms += (uint64_t)(audio_us / 1000);
	}
	if (error != AS_ECLOSED) {
		player_invalid(p, "audio of %lld ms loses its end: %s", (long long)(audio_us / 1000), as_strerror(error));
	}
}

/* Reports the first audio of a play at once, and later audio once a second. */
static void note_queued(struct player *p, struct play *play, const struct player_audio *audio, int64_t audio_us)
{
	if (play->rate_hz != audio->rate_hz) {
		player_report_queued(p, play);
		play->rate_hz = audio->rate_hz;
	}
	play->unreported_bytes += audio->bytes;
	play->unreported_us += audio_us;
	if (!play->reported_ns || as_now_ns() - play->reported_ns >= REPORT_EVERY_NS) {
		player_report_queued(p, play);
	}
}

int player_write(struct player *p, struct play *play, const struct player_audio *audio, int is_first, int64_t rest_us)
{
	as_stats stats;
	int64_t now_ns = as_now_ns(), audio_us = player_length_us(audio);
	if (is_first) {
		as_stream_stats(p->stream, &stats);
		note_arrival(p, &stats, audio_us + rest_us, now_ns);
	}
	p->talking = 1;
	p->arrival_ns = now_ns;
	p->write_error = set_source_rate(p, audio->rate_hz);
	p->target = play; /* only now: set_source_rate() may queue the tail of another play */
	align_carry(p, play, audio);
	if (audio->format == WIRE_RAW_L16) {
		write_l16(p, audio);
	} else {
		write_g711(p, audio);
	}
	if (p->convert && as_convert_held(p->convert)) {
		p->tail = as_convert_held(p->convert);
		p->tail_play = play;
	}
	if (rest_us == 0 && (!p->prebuffer_ms || p->sounding)) {
		player_end_marks(p);
	}
	if (p->write_error) {
		play->failed = 1;
		write_failed(p, audio_us + rest_us);
	} else {
		note_queued(p, play, audio, audio_us);
	}
	return p->write_error;
}

int player_admit(struct player *p, struct play *play, const struct player_audio *audio)
{
	as_stats stats;
	as_stream_stats(p->stream, &stats);
	int yes = is_admitted(p, &stats, player_length_us(audio));
	play->failed |= !yes;
	return yes;
}

/* As late as possible: audio that comes before then joins the tail without a seam. */
void player_write_tail(struct player *p, int64_t now_ns)
{
	as_stats stats;
	as_stream_stats(p->stream, &stats);
	int64_t idle_ms = (now_ns - p->arrival_ns) / PLAYER_NS_PER_MS;
	int patience_ms = p->prebuffer_ms / 2 > TAIL_QUEUED_MS ? p->prebuffer_ms / 2 : TAIL_QUEUED_MS;
	int due = stats.inject_playing || idle_ms >= patience_ms;
	if (due && player_ms(p, stats.inject_queued_samples) < TAIL_QUEUED_MS) {
		drain_tail(p);
		if (!p->prebuffer_ms || p->sounding) {
			player_end_marks(p);
		}
	}
}

void player_write_reset(struct player *p)
{
	as_convert_free(p->convert);
	p->convert = NULL;
	p->tail = 0;
	p->tail_play = NULL;
	p->ended = p->next_mark - 1;
}
