/*
 * streamer.c - a streamer's life.
 *
 *     CONNECTING ──▶ OPEN ──▶ (the connection ends) ──▶ WAITING ──▶ CONNECTING ...
 *         │            │              │ not to be reopened
 *         │            │              └──▶ PLAYING_OUT ──▶ FINISHED      what is queued is heard first
 *         └────────────┴──▶ ENDING ──▶ FINISHED                          stop, hangup: the last messages, then CLOSE
 *
 * The application's requests (stop, text) are left under the lock, and the next tick, at most 2 ms later, takes them
 * up. So a request cannot fail for want of memory, and callbacks may make one, too.
 */
#define _GNU_SOURCE
#include "streamer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOSE_TIMEOUT_MS 1500 /* for the server's CLOSE */
#define END_TIMEOUT_MS 1900   /* for everything once the call is over */
#define STEADY_NS 30000000000 /* open for so long: the attempts before are forgotten */
#define SLOW_NS 100000000
#define PLAY_OUT_SPARE_MS 5000 /* beyond what is queued: for a prebuffer, decoding, a host that is late */
#define NS_PER_MS 1000000
#define CLOSE_NORMAL 1000
#define CLOSE_REASON_MAX 120 /* bytes; RFC 6455 has room for 123 */

/* ---- Service thread: small things -------------------------------------------------------------------------------- */

static void publish(as_streamer *s)
{
	as_stats stats;
	streamer_view view;
	as_stream_stats(s->stream, &stats);
	streamer_take_view(s, &stats, &view);
	pthread_mutex_lock(&s->lock);
	s->view = view;
	pthread_mutex_unlock(&s->lock);
}

static void enter(as_streamer *s, streamer_state state)
{
	s->state = state;
	publish(s);
}

static json_t *describe_now(as_streamer *s)
{
	publish(s);
	return streamer_describe_json(s, &s->view); /* written by this thread only */
}

int streamer_send(as_streamer *s, int binary, const void *data, size_t n)
{
	int error = ws_send(s->actor, binary, data, n);
	if (!error) {
		s->sent_messages++;
		s->sent_bytes += n;
	}
	return error;
}

static void pump(as_streamer *s)
{
	if (s->dialect->pump) {
		s->dialect->pump(&s->host, s->actor, as_now_ns());
	} else {
		sender_pump(s->sender, s->state == STREAMER_ENDING);
	}
}

/* ---- Service thread: the end ------------------------------------------------------------------------------------- */

/* Is the caller being played something, or about to be? */
static int is_busy(as_streamer *s)
{
	return s->dialect->busy ? s->dialect->busy(&s->host) : player_busy(s->player);
}

/* No event follows stream_stopped. */
static void conclude(as_streamer *s)
{
	s->state = STREAMER_FINISHED;
	player_clear(s->player, s->reason, 1);
	pthread_mutex_lock(&s->lock);
	s->finished = 1;
	streamer_free_texts(s);
	pthread_mutex_unlock(&s->lock);
	json_t *body = describe_now(s);
	json_object_set_new(body, "reason", report_string(s->reason));
	report_event(&s->report, "stream_stopped", body);
	if (s->on_finished) {
		s->on_finished(s->arg, s->reason);
	}
}

static void streamer_finish(as_streamer *s)
{
	conclude(s);
	ws_finish(s->actor);
}

static void set_reason(as_streamer *s, const char *reason)
{
	if (!*s->reason) {
		snprintf(s->reason, sizeof(s->reason), "%s", reason);
	}
}

/* A graceful shutdown has its own limit. */
void streamer_allow_queued(as_streamer *s)
{
	as_stats stats;
	as_stream_stats(s->stream, &stats);
	if (!s->graceful) {
		int64_t queued_ms = (int64_t)(stats.inject_queued_samples * 1000 / (uint64_t)s->info.rate_hz);
		struct player_stats played;
		player_stats(s->player, &played);
		int64_t prebuffer_ms = played.prebuffer_ms > 0 ? played.prebuffer_ms : 0;
		s->give_up_ns = as_now_ns() + (queued_ms + prebuffer_ms + PLAY_OUT_SPARE_MS) * NS_PER_MS;
	}
}

/* The connection is gone for good; what is queued is still to be heard. */
static void play_out(as_streamer *s)
{
	sender_stop(s->sender);
	streamer_allow_queued(s);
	if (is_busy(s) && !as_stream_closed(s->stream)) {
		enter(s, STREAMER_PLAYING_OUT);
	} else {
		streamer_finish(s);
	}
}

/* Cuts a reason where a character ends. */
static void close_reason(const char *reason, char *out)
{
	size_t n = strlen(reason);
	if (n > CLOSE_REASON_MAX) {
		for (n = CLOSE_REASON_MAX; n > 0 && ((unsigned char)reason[n] & 0xc0) == 0x80; n--) {
		}
	}
	memcpy(out, reason, n);
	out[n] = '\0';
}

static void send_texts(as_streamer *s);

static void send_close(as_streamer *s)
{
	char reason[CLOSE_REASON_MAX + 1];
	close_reason(s->reason, reason);
	s->close_ns = 0;
	ws_disconnect(s->actor, CLOSE_NORMAL, reason, CLOSE_TIMEOUT_MS);
}

/* What the server says until its CLOSE is still told; what it wants played or done to the audio is not. */
static void hear_last_words(as_streamer *s)
{
	int64_t wait_ns = s->dialect->on_stop ? (int64_t)s->options->last_words_ms * NS_PER_MS : 0, now_ns = as_now_ns();
	s->host.ending = 1;
	s->give_up_ns = now_ns + wait_ns + (int64_t)END_TIMEOUT_MS * NS_PER_MS;
	s->close_ns = now_ns + wait_ns;
	if (!wait_ns) {
		send_close(s);
	}
}

static void send_last(as_streamer *s)
{
	enter(s, STREAMER_ENDING); /* from now on no text is taken, and those that have been are sent */
	send_texts(s);
	if (as_stream_closed(s->stream)) {
		pump(s); /* what was captured before the call was over */
		sender_flush(s->sender);
	} else if (s->graceful) {
		sender_flush(s->sender);
	}
	sender_stop(s->sender);
	if (s->dialect->on_stop) {
		s->dialect->on_stop(&s->host, s->reason, s->stop_reason);
	}
	player_clear(s->player, s->reason, 1);
	hear_last_words(s);
}

void streamer_end(as_streamer *s, const char *reason)
{
	streamer_state state = s->state;
	set_reason(s, reason);
	if (state == STREAMER_OPEN) {
		send_last(s);
	} else if (state == STREAMER_CONNECTING) {
		enter(s, STREAMER_ENDING);
		ws_disconnect(s->actor, CLOSE_NORMAL, "", 0);
	} else if (state == STREAMER_WAITING || state == STREAMER_PLAYING_OUT) {
		streamer_finish(s);
	}
}

/* ---- Service thread: the connection ------------------------------------------------------------------------------ */

static json_t *about_end(const as_streamer *s, const ws_end *end)
{
	json_t *body = json_object();
	json_object_set_new(body, "serverUrl", report_string(s->target.shown));
	json_object_set_new(body, "why", json_string(streamer_why_name(end->why)));
	if (end->opened) {
		json_object_set_new(body, "code", json_integer(end->code));
		json_object_set_new(body, "reason", report_string(end->reason));
	} else {
		json_object_set_new(body, "error", report_string(end->reason));
		json_object_set_new(body, "httpStatus", json_integer(end->http_status));
	}
	return body;
}

/* What listeners of other modules look for beside our own members: {"status", "message": {...}}. */
static void add_status(json_t *body, const as_streamer *s, const ws_end *end, int retry_ms)
{
	json_object_set_new(body, "status", json_string(end->opened ? "disconnected" : "error"));
	json_t *message = json_object();
	if (end->opened) {
		json_object_set_new(message, "code", json_integer(end->code));
		json_object_set_new(message, "reason", report_string(end->reason));
	} else {
		json_object_set_new(message, "retries", json_integer(s->attempt));
		json_object_set_new(message, "error", report_string(end->reason));
		json_object_set_new(message, "wait_time", json_integer(retry_ms > 0 ? retry_ms : 0));
		json_object_set_new(message, "http_status", json_integer(end->http_status));
	}
	json_object_set_new(body, "message", message);
}

/* retry_ms: -1 when it is not opened again. */
static void announce_closed(as_streamer *s, const ws_end *end, int retry_ms)
{
	json_t *body = about_end(s, end);
	if (retry_ms >= 0) {
		json_object_set_new(body, "attempt", json_integer(s->attempt));
		json_object_set_new(body, "retryInMs", json_integer(retry_ms));
	}
	if (s->dialect == &dialect_binary) {
		add_status(body, s, end, retry_ms);
	}
	const char *failed = end->why == WS_WHY_TIMEOUT ? s->dialect->timed_out : s->dialect->failed;
	report_event(&s->report, end->opened ? s->dialect->closed : failed, body);
	report_log(&s->report, s->state == STREAMER_ENDING ? "info" : "warning", "%s: %s%s", s->target.shown, end->reason,
			   retry_ms >= 0 ? "; will be tried again" : "");
	if (end->why == WS_WHY_SILENT) {
		report_event(&s->report, "stream_timeout",
					 json_pack("{s:s,s:s}", "what", "ping", "error", "the server did not answer a ping"));
	}
}

static int next_random(as_streamer *s)
{
	s->random = s->random * 1664525u + 1013904223u;
	return (int)(s->random >> 8);
}

static void lost_for_good(as_streamer *s, const ws_end *end)
{
	char reason[STREAMER_REASON_MAX];
	if (end->why == WS_WHY_CLOSED && end->opened && end->code != WS_ABNORMAL) {
		const char *gap = *end->reason ? " " : "";
		snprintf(reason, sizeof(reason), "closed by the server: %d%s%.160s", end->code, gap, end->reason);
	} else {
		const char *what = end->opened ? "connection lost" : "connection failed";
		snprintf(reason, sizeof(reason), "%s: %.200s", what, end->reason);
		json_t *body = about_end(s, end);
		json_object_set_new(body, "error", report_string(reason));
		report_event(&s->report, "stream_error", body);
	}
	set_reason(s, reason);
	play_out(s);
}

/* A connection has ended, or did not come about. */
static void connection_over(as_streamer *s, const ws_end *end)
{
	int64_t now_ns = as_now_ns();
	int ending = s->state == STREAMER_ENDING;
	s->failed += !end->opened;
	if (s->opened_ns && now_ns - s->opened_ns >= STEADY_NS) {
		s->attempt = 0;
	}
	s->opened_ns = 0;
	int again = !ending && !s->graceful && s->attempt < s->options->reconnect_max && streamer_reopens(s->options, end);
	int retry_ms = -1;
	if (again) {
		retry_ms = streamer_backoff_ms(s->options, ++s->attempt, (uint32_t)next_random(s));
		s->next_ns = now_ns + (int64_t)retry_ms * NS_PER_MS;
		enter(s, STREAMER_WAITING);
	}
	if (!ending || end->opened) {
		announce_closed(s, end, retry_ms);
	}
	if (ending) {
		streamer_finish(s);
	} else if (!again) {
		lost_for_good(s, end);
	}
}

static void connect(as_streamer *s)
{
	enter(s, STREAMER_CONNECTING);
	int error = ws_connect(s->actor, &s->target.options);
	if (error) {
		connection_over(s, &(ws_end){.why = WS_WHY_OPTIONS, .code = WS_ABNORMAL, .reason = as_strerror(error)});
	}
}

static void streamer_on_start(void *arg)
{
	connect(arg);
}

/* "connectionTime": the time of day in UTC, as 2026-01-31T09:00:00Z. */
static void add_time(json_t *body)
{
	char text[32];
	time_t now = time(NULL);
	struct tm utc;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	json_object_set_new(body, "connectionTime", json_string(text));
}

static void streamer_on_open(void *arg)
{
	as_streamer *s = arg;
	s->opened_ns = as_now_ns();
	if (s->state == STREAMER_ENDING) {
		return; /* asked to end a moment ago */
	}
	s->reopened += (uint64_t)s->started;
	enter(s, STREAMER_OPEN);
	json_t *body = json_object();
	json_object_set_new(body, "serverUrl", report_string(s->target.shown));
	json_object_set_new(body, "reconnects", json_integer((json_int_t)s->reopened));
	if (s->dialect == &dialect_binary) {
		json_object_set_new(body, "status", json_string("connected"));
	} else {
		add_time(body);
	}
	report_event(&s->report, s->dialect->opened, body);
	report_log(&s->report, "info", "connected to %s", s->target.shown);
	if (s->dialect->on_open) {
		s->dialect->on_open(&s->host, s->reopened);
	}
	if (!s->started) {
		s->started = 1;
		report_event(&s->report, "stream_started", describe_now(s));
	}
	send_texts(s);
}

static void streamer_on_message(void *arg, int binary, char *data, size_t n)
{
	as_streamer *s = arg;
	s->received_messages++;
	s->received_bytes += n;
	if ((s->state == STREAMER_OPEN || s->state == STREAMER_ENDING) && s->dialect->on_message) {
		s->dialect->on_message(&s->host, binary, data, n);
	}
}

static void streamer_on_close(void *arg, const ws_end *end)
{
	connection_over(arg, end);
}

/* ---- Service thread: time passes --------------------------------------------------------------------------------- */

static void send_texts(as_streamer *s)
{
	pthread_mutex_lock(&s->lock);
	streamer_text *text = s->texts;
	while (text && !streamer_send(s, 0, text->text, text->bytes)) {
		s->texts = text->next;
		s->texts_end = s->texts ? s->texts_end : &s->texts;
		s->text_bytes -= text->bytes;
		pthread_mutex_unlock(&s->lock);
		report_json(&s->report, "sent", text->text, text->bytes);
		free(text);
		pthread_mutex_lock(&s->lock);
		text = s->texts;
	}
	pthread_mutex_unlock(&s->lock);
}

static void begin_graceful(as_streamer *s)
{
	s->graceful = 1;
	s->give_up_ns = as_now_ns() + (int64_t)s->options->graceful_timeout_ms * NS_PER_MS;
	sender_finish(s->sender);
	if (s->state == STREAMER_WAITING) {
		play_out(s);
	}
}

/* What the application has asked for. */
static void take_requests(as_streamer *s)
{
	pthread_mutex_lock(&s->lock);
	int stop = s->stop;
	if (stop != s->stop_taken && !s->stop_reason) {
		s->stop_reason = s->stop_text;
		s->stop_text = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (stop == s->stop_taken) {
		return;
	}
	s->stop_taken = stop;
	const char *reason = s->stop_reason ? s->stop_reason : "stop";
	if (stop == STREAMER_STOP_NOW) {
		streamer_end(s, reason);
	} else if (s->state <= STREAMER_PLAYING_OUT) {
		set_reason(s, reason);
		begin_graceful(s);
	}
}

static int is_done(as_streamer *s)
{
	return sender_is_over(s->sender) && !is_busy(s) && ws_unsent(s->actor) == 0;
}

static void report_too_late(as_streamer *s)
{
	report_event(&s->report, "stream_timeout",
				 json_pack("{s:s,s:s,s:i}", "what", "graceful-shutdown", "error",
						   "not everything could be sent and played in time", "timeoutMs",
						   s->options->graceful_timeout_ms));
}

/* What is going on for a limited time only. */
static void check_ends(as_streamer *s, int64_t now_ns)
{
	int late = s->give_up_ns && now_ns >= s->give_up_ns;
	if (s->state == STREAMER_ENDING && s->close_ns && now_ns >= s->close_ns) {
		send_close(s);
	} else if (s->state == STREAMER_ENDING && late) {
		s->give_up_ns = 0;
		ws_disconnect(s->actor, CLOSE_NORMAL, "", 0);
	} else if (s->state == STREAMER_PLAYING_OUT && (late || !is_busy(s))) {
		if (late && s->graceful) {
			report_too_late(s);
		}
		streamer_finish(s);
	} else if (s->graceful && s->state <= STREAMER_OPEN && (late || (s->state == STREAMER_OPEN && is_done(s)))) {
		if (late) {
			report_too_late(s);
		}
		streamer_end(s, s->reason);
	}
}

static void check_paused(as_streamer *s, const as_stats *stats)
{
	int paused = (stats->capture_paused ? AS_CAPTURE : 0) | (stats->inject_paused ? AS_INJECT : 0);
	int changed = paused ^ s->paused;
	if (changed & paused) {
		report_event(
			&s->report, "stream_paused",
			json_pack("{s:b,s:b}", "capture", changed & paused & AS_CAPTURE, "inject", changed & paused & AS_INJECT));
	}
	if (changed & ~paused) {
		report_event(
			&s->report, "stream_resumed",
			json_pack("{s:b,s:b}", "capture", changed & ~paused & AS_CAPTURE, "inject", changed & ~paused & AS_INJECT));
	}
	s->paused = paused;
}

static void heart_beat(as_streamer *s, int64_t now_ns)
{
	int64_t every_ns = (int64_t)s->options->heart_beat_s * 1000 * NS_PER_MS;
	if (!every_ns || s->state != STREAMER_OPEN || now_ns < s->heart_ns) {
		return;
	}
	if (s->heart_ns) {
		json_t *body = describe_now(s);
		int64_t silent_ms = (now_ns - ws_last_received_ns(s->actor)) / NS_PER_MS;
		json_object_set_new(body, "silentMs", json_integer(silent_ms));
		report_event(&s->report, "stream_heartbeat", body);
	}
	s->heart_ns = now_ns + every_ns;
}

/* STREAM_INJECT_LOG_EVERY_MS; nothing where nothing has changed. */
static void log_stats(as_streamer *s, const as_stats *stats, int64_t now_ns)
{
	uint64_t played = stats->inject_played_samples, queued = stats->inject_queued_samples;
	uint64_t progress = 2 * played + queued; /* by playing as well as by writing */
	if (!s->options->inject_log_every_ms || now_ns < s->stats_ns || s->logged == progress) {
		return;
	}
	s->stats_ns = now_ns + (int64_t)s->options->inject_log_every_ms * NS_PER_MS;
	s->logged = progress;
	uint64_t rate = (uint64_t)s->info.rate_hz;
	struct player_stats player;
	player_stats(s->player, &player);
	report_log(&s->report, "debug", "inject: %llu ms queued, %llu ms played, %llu underruns (%llu ms), prebuffer %d ms",
			   (unsigned long long)(queued * 1000 / rate), (unsigned long long)(played * 1000 / rate),
			   (unsigned long long)player.underruns, (unsigned long long)player.underrun_ms, player.prebuffer_ms);
}

static void slow_tick(as_streamer *s, int64_t now_ns)
{
	as_stats stats;
	s->slow_ns = now_ns + SLOW_NS;
	as_stream_stats(s->stream, &stats);
	check_paused(s, &stats);
	sender_bound(s->sender, &stats, now_ns);
	if (s->state == STREAMER_PLAYING_OUT && stats.inject_paused) {
		streamer_allow_queued(s); /* counted from when it goes on */
	}
	log_stats(s, &stats, now_ns);
	heart_beat(s, now_ns);
	publish(s);
}

static void streamer_on_tick(void *arg, int64_t now_ns)
{
	as_streamer *s = arg;
	int closed = as_stream_closed(s->stream); /* looked at first: who asked us to stop before that is to be heard */
	take_requests(s);
	if (s->state < STREAMER_ENDING && closed) {
		streamer_end(s, "hangup");
	}
	if (s->state == STREAMER_WAITING && now_ns >= s->next_ns) {
		connect(s);
	}
	if (s->state == STREAMER_OPEN) {
		send_texts(s);
		pump(s);
	}
	if (s->state < STREAMER_ENDING) {
		player_tick(s->player, now_ns);
	}
	check_ends(s, now_ns);
	if (s->state < STREAMER_ENDING && now_ns >= s->slow_ns) {
		slow_tick(s, now_ns);
	}
}

static void streamer_on_free(void *arg)
{
	as_streamer *s = arg;
	if (s->state != STREAMER_FINISHED) { /* the service threads were stopped under it */
		set_reason(s, "service stopped");
		conclude(s);
	}
	as_streamer_unref(s);
}

const ws_callbacks streamer_callbacks = {
	.on_start = streamer_on_start,
	.on_tick = streamer_on_tick,
	.on_open = streamer_on_open,
	.on_message = streamer_on_message,
	.on_close = streamer_on_close,
	.on_free = streamer_on_free,
};
