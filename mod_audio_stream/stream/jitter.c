#include "jitter.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_US 1000000
#define PERIOD_US 2000000 /* clocks drift and routes change: the least delay is of the last two to four seconds */
#define PIECE_US 20000    /* a frame: the usual piece, which the watermarks take for granted */
#define PAUSE_US 500000   /* nothing for this long is no jitter, unless prebuffers may be as long */
#define ALARM_SECONDS 4
#define NEVER INT64_MAX

void as_jitter_init(as_jitter *jitter, const as_jitter_config *config)
{
	memset(jitter, 0, sizeof(*jitter));
	jitter->config = *config;
	jitter->prebuffer_ms = config->low_ms;
	jitter->piece_us = PIECE_US;
}

static int64_t high_us(const as_jitter *jitter)
{
	return (int64_t)jitter->config.high_ms * 1000;
}

static int64_t lesser(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int clamp(int value, int low, int high)
{
	return value < low ? low : value > high ? high : value;
}

/* The lateness to cover. */
static int64_t lateness(const as_jitter *jitter)
{
	int64_t first = 0, second = 0;
	for (int i = 0; i < AS_JITTER_SECONDS; i++) {
		int64_t late = jitter->late_us[i];
		if (late > first) {
			second = first;
			first = late;
		} else if (late > second) {
			second = late;
		}
	}
	return jitter->alarm > 0 ? first : second;
}

/* Playing begins with the piece that fills the prebuffer: what it holds is what came before that piece, and what a late
 * piece may cost. So the prebuffer is one piece more than the lateness. */
static int update(as_jitter *jitter)
{
	const as_jitter_config *config = &jitter->config;
	int64_t late_us = lesser(lateness(jitter), high_us(jitter));
	int wanted = clamp((int)((late_us + PIECE_US) / 1000) + config->target_ms, config->low_ms, config->high_ms);
	if (late_us > config->target_ms * 1000 && jitter->piece_us > PIECE_US) {
		wanted += (int)(lesser(jitter->piece_us - PIECE_US, high_us(jitter)) / 1000);
	}
	if (wanted == config->low_ms || abs(wanted - jitter->prebuffer_ms) > config->threshold * jitter->prebuffer_ms) {
		jitter->prebuffer_ms = wanted;
	}
	return jitter->prebuffer_ms;
}

static void begin(as_jitter *jitter, int64_t now_us)
{
	jitter->talking = 1;
	jitter->began_us = now_us;
	jitter->audio_us = 0;
	jitter->least_us[0] = jitter->least_us[1] = NEVER;
	jitter->least_until_us = now_us + PERIOD_US;
}

/* Arrival minus audio of the piece that has come. Being more than high_ms early counts as high_ms: how far ahead a fast
 * sender is says nothing of the network. */
static int64_t offset(as_jitter *jitter, int64_t now_us, int64_t queued_us)
{
	int64_t at = now_us - jitter->began_us - jitter->audio_us, surplus = queued_us - high_us(jitter);
	at += surplus > 0 ? surplus : 0;
	if (now_us >= jitter->least_until_us) {
		jitter->least_us[1] = jitter->least_us[0];
		jitter->least_us[0] = NEVER;
		jitter->least_until_us = now_us + PERIOD_US;
	}
	jitter->least_us[0] = lesser(jitter->least_us[0], at);
	return at;
}

/* What was taken for an underrun was the end of an utterance. */
static void forgive(as_jitter *jitter)
{
	if (jitter->dry) {
		jitter->alarm = jitter->alarm_before;
	}
	jitter->dry = 0;
}

static void remember(as_jitter *jitter, int64_t late_us, int64_t audio_us)
{
	if (late_us > jitter->late_us[jitter->at]) {
		jitter->late_us[jitter->at] = late_us;
	}
	jitter->second_us += audio_us;
	if (jitter->second_us >= SECOND_US) {
		jitter->second_us = 0;
		jitter->at = (jitter->at + 1) % AS_JITTER_SECONDS;
		jitter->late_us[jitter->at] = 0;
		jitter->alarm -= jitter->alarm > 0;
	}
}

int as_jitter_arrival(as_jitter *jitter, int64_t now_ns, int64_t audio_us, int64_t queued_us)
{
	int64_t now_us = now_ns / 1000, pause_us = 2 * high_us(jitter) > PAUSE_US ? 2 * high_us(jitter) : PAUSE_US;
	if (!jitter->talking || now_us - jitter->last_us > pause_us) {
		forgive(jitter);
		begin(jitter, now_us);
	}
	jitter->dry = 0;
	jitter->last_us = now_us;
	int64_t at = offset(jitter, now_us, queued_us);
	int64_t late_us = at - lesser(jitter->least_us[0], jitter->least_us[1]);
	jitter->audio_us += audio_us;
	jitter->piece_us += audio_us > jitter->piece_us ? audio_us - jitter->piece_us : (audio_us - jitter->piece_us) / 16;
	remember(jitter, late_us, audio_us);
	return update(jitter);
}

int as_jitter_underrun(as_jitter *jitter, int64_t now_ns)
{
	(void)now_ns;
	if (!jitter->dry) {
		jitter->alarm_before = jitter->alarm;
	}
	jitter->dry = 1;
	jitter->alarm = ALARM_SECONDS;
	return update(jitter);
}

void as_jitter_rest(as_jitter *jitter)
{
	forgive(jitter);
	jitter->talking = 0;
}

int as_jitter_prebuffer_ms(const as_jitter *jitter)
{
	return jitter->prebuffer_ms;
}
