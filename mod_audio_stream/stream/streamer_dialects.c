/*
 * streamer_dialects.c - what is said to the server, and what is made of what it says, in the two dialects. The bytes of
 * it are wire.h's. Service thread, but for init and free.
 */

#define _GNU_SOURCE
#include "streamer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_MAX 256
#define JSON_SUBPROTOCOL "audio.freeswitch.org"

/* ---- Both -------------------------------------------------------------------------------------------------------- */

static void send_text(as_streamer *s, char *text, size_t n)
{
	if (text) {
		report_json(&s->report, "sent", text, n);
		streamer_send(s, 0, text, n);
	}
	free(text);
}

/* What the server may not do to a stream in one direction. */
static int refused(as_streamer *s, wire_kind kind)
{
	if (s->bidirectional || kind == WIRE_OTHER || kind == WIRE_WORDS || kind == WIRE_TRANSCRIPTION) {
		return 0;
	}
	if (!s->refused_media) {
		s->refused_media = 1;
		report_invalid(&s->report, "media from the server is refused: the stream was not started as bidirectional");
	}
	return 1;
}

static void play(as_streamer *s, wire_message *message)
{
	struct player_audio audio = {
		message->format, message->rate_hz, message->channels, message->audio, message->audio_bytes, NULL,
	};
	if (message->clear) {
		player_clear(s->player, "server", 0);
	}
	if (audio.bytes && s->dialect->joins && !player_is_packed(audio.format) && !*message->checkpoint) {
		player_append(s->player, &audio);
	} else if (audio.bytes) {
		player_play(s->player, &audio, message->checkpoint);
	} else if (*message->checkpoint) {
		player_checkpoint(s->player, message->checkpoint);
	}
}

static void play_file(as_streamer *s, const wire_message *message)
{
	if (!s->options->allow_file) {
		report_invalid(&s->report, "a file was to be played: set STREAM_ALLOW_FILE_INJECTION to allow it");
		return;
	}
	if (!s->options->file_dir || !*s->options->file_dir) {
		report_invalid(&s->report, "a file was to be played: set file-injection-dir to the directory they are in");
		return;
	}
	struct player_audio audio = {message->format, message->rate_hz, message->channels, NULL, 0, strdup(message->text)};
	if (message->clear) {
		player_clear(s->player, "server", 0);
	}
	if (audio.path) {
		player_play(s->player, &audio, message->checkpoint);
	}
}

/* An event whose body has one JSON value in it. */
static void pass_on(as_streamer *s, const char *event, const char *name, const char *json)
{
	json_t *body = json_object();
	json_object_set_new(body, name, json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
	report_event(&s->report, event, body);
}

static void obey(as_streamer *s, wire_message *message)
{
	switch (message->kind) {
	case WIRE_PLAY:
		play(s, message);
		break;
	case WIRE_PLAY_FILE:
		play_file(s, message);
		break;
	case WIRE_CLEAR:
		player_clear(s->player, "server", 0);
		break;
	case WIRE_CHECKPOINT:
		player_checkpoint(s->player, message->checkpoint);
		break;
	case WIRE_TRANSCRIPTION:
		pass_on(s, "transcription_received", "payload", message->text);
		break;
	case WIRE_OTHER:
	case WIRE_WORDS:
		break;
	}
}

static void log_received(as_streamer *s, const wire_message *message)
{
	if (message->text && message->kind != WIRE_PLAY_FILE) {
		report_json(&s->report, "received", message->text, strlen(message->text));
	}
}

/* ---- Binary frames and streamAudio ------------------------------------------------------------------------------- */

static int binary_reach(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	return streamer_target_init(s, start->url, NULL, NULL, start->timeout_s, error, bytes);
}

static void binary_on_open(as_streamer *s)
{
	char text[64];
	if (s->metadata && *s->metadata) {
		report_json(&s->report, "sent", s->metadata, strlen(s->metadata));
		streamer_send(s, 0, s->metadata, strlen(s->metadata));
	}
	if (s->reopened) {
		int n = snprintf(text, sizeof(text), "{\"type\":\"stream.resumed\",\"attempt\":%llu}",
						 (unsigned long long)s->reopened);
		streamer_send(s, 0, text, (size_t)n);
	}
}

static void binary_on_message(as_streamer *s, int binary, char *data, size_t n)
{
	char error[ERROR_MAX];
	wire_message message;
	if (binary) {
		const struct player_audio audio = {WIRE_RAW_L16, sender_format(s->sender).rate_hz, 1, (uint8_t *)data, n, NULL};
		if (n && !refused(s, WIRE_PLAY)) {
			player_append(s->player, &audio);
		}
		return;
	}
	if (wire_binary_parse(data, n, (size_t)s->options->max_base64, &message, error, sizeof(error))) {
		report_invalid(&s->report, "%s", error);
		return;
	}
	log_received(s, &message);
	if (message.kind == WIRE_OTHER || message.kind == WIRE_WORDS) {
		report_event_text(&s->report, "json", message.text);
	} else if (!refused(s, message.kind)) {
		obey(s, &message);
	}
	wire_message_free(&message);
}

static void binary_send_audio(as_streamer *s, const void *audio, size_t bytes)
{
	streamer_send(s, 1, audio, bytes);
}

static void binary_on_stop(as_streamer *s, const char *text)
{
	if (text) {
		streamer_send(s, 0, text, strlen(text));
	}
}

const streamer_dialect streamer_binary = {
	.name = "binary",
	.opened = "connect",
	.failed = "error",
	.timed_out = "error",
	.closed = "disconnect",
	.queued = "play",
	.joins = 1,
	.reach = binary_reach,
	.on_open = binary_on_open,
	.on_message = binary_on_message,
	.send_audio = binary_send_audio,
	.on_stop = binary_on_stop,
};

/* ---- start, media, stop ------------------------------------------------------------------------------------------ */

typedef struct json_own {
	uint64_t sequence; /* of the latest message */
	char *escaped_id;
	char *text; /* one "media" */
	size_t room;
} json_own;

static void json_free(as_streamer *s)
{
	json_own *own = s->own;
	if (own) {
		free(own->escaped_id);
		free(own->text);
		free(own);
	}
}

static int json_reach(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	return streamer_target_init(s, start->url, JSON_SUBPROTOCOL, NULL, start->timeout_s, error, bytes);
}

static int json_init(as_streamer *s, const as_streamer_start *start, char *error, size_t bytes)
{
	(void)start;
	(void)error;
	(void)bytes;
	json_own *own = s->own = calloc(1, sizeof(*own));
	if (!own) {
		return AS_ENOMEM;
	}
	own->escaped_id = wire_escape(s->info.id);
	if (own->escaped_id) {
		own->room = wire_json_media_bytes(own->escaped_id, sender_message_bytes(s->sender));
		own->text = malloc(own->room);
	}
	return own->text ? 0 : AS_ENOMEM;
}

static const char *or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void json_on_open(as_streamer *s)
{
	json_own *own = s->own;
	size_t n;
	struct sender_format format = sender_format(s->sender);
	wire_start start = {
		.uuid = s->info.uuid,
		.stream_id = s->info.id,
		.track = s->track,
		.codec = format.encoding == AS_PCMU ? "ULAW" : "L16",
		.rate_hz = format.rate_hz,
		.channels = format.channels,
		.metadata = or_null(s->metadata),
		.resumed = (int)s->reopened,
		.auth_id = or_null(s->options->auth_id),
		.account_id = or_null(s->options->account_id),
		.subaccount_id = or_null(s->options->subaccount_id),
		.rate = or_null(s->options->rate),
		.unit = or_null(s->options->unit),
	};
	char *text = wire_json_start(++own->sequence, &start, &n);
	send_text(s, text, n);
}

static void json_obey(as_streamer *s, wire_message *message)
{
	json_own *own = s->own;
	size_t n;
	if (*message->stream_id && strcmp(message->stream_id, s->info.id)) {
		report_invalid(&s->report, "a message for stream \"%s\": this one is \"%s\"", message->stream_id, s->info.id);
	} else if (message->kind == WIRE_OTHER) {
		pass_on(s, "message_received", "message", message->text);
	} else if (message->kind == WIRE_WORDS) {
		report_event(&s->report, "message_received", json_pack("{s:s}", "message", message->text));
	} else if (!refused(s, message->kind)) {
		obey(s, message);
		if (message->kind == WIRE_CLEAR) {
			char *text = wire_json_cleared(++own->sequence, s->info.id, &n);
			send_text(s, text, n);
		}
	}
}

static void json_on_message(as_streamer *s, int binary, char *data, size_t n)
{
	char error[ERROR_MAX];
	wire_message message;
	if (binary) {
		report_invalid(&s->report, "a binary message of %zu bytes: this dialect is JSON only", n);
		return;
	}
	if (wire_json_parse(data, n, (size_t)s->options->max_base64, &message, error, sizeof(error))) {
		report_invalid(&s->report, "%s", error);
		return;
	}
	log_received(s, &message);
	json_obey(s, &message);
	wire_message_free(&message);
}

static void json_send_audio(as_streamer *s, const void *audio, size_t bytes)
{
	json_own *own = s->own;
	size_t n = wire_json_media(own->text, own->room, own->sequence + 1, own->escaped_id, audio, bytes);
	if (n && !streamer_send(s, 0, own->text, n)) {
		own->sequence++;
	}
}

static void json_on_stop(as_streamer *s, const char *text)
{
	json_own *own = s->own;
	size_t n;
	(void)text; /* it is the reason */
	char *stop = wire_json_stop(++own->sequence, s->info.id, s->reason, &n);
	send_text(s, stop, n);
}

static void json_on_checkpoint(as_streamer *s, const char *name, int reached)
{
	json_own *own = s->own;
	size_t n;
	if (s->state == STREAMER_OPEN) {
		char *text = wire_json_checkpoint(++own->sequence, s->info.id, name, reached, &n);
		send_text(s, text, n);
	}
}

const streamer_dialect streamer_json = {
	.name = "json",
	.opened = "connection_established",
	.failed = "connection_failed",
	.timed_out = "connection_timeout",
	.closed = "connection_closed",
	.has_codec = 1,
	.split = 1,
	.reach = json_reach,
	.init = json_init,
	.free = json_free,
	.on_open = json_on_open,
	.on_message = json_on_message,
	.send_audio = json_send_audio,
	.on_stop = json_on_stop,
	.on_checkpoint = json_on_checkpoint,
};
