/* dialect.c - what the binary and the JSON dialect have in common. Their bytes are wire.h's. Service thread. */
#define _GNU_SOURCE
#include "dialect.h"

#include <stdlib.h>
#include <string.h>

void dialect_send_text(struct dialect_host *h, char *text, size_t n)
{
	if (text) {
		report_json(h->report, "sent", text, n);
		h->send(h->arg, 0, text, n);
	}
	free(text);
}

int dialect_refuses(struct dialect_host *h, wire_kind kind)
{
	if (kind == WIRE_OTHER || kind == WIRE_WORDS || kind == WIRE_TRANSCRIPTION) {
		return 0;
	}
	if (h->bidirectional || h->ending) {
		return h->ending;
	}
	if (!h->refused_media) {
		h->refused_media = 1;
		report_invalid(h->report, "media from the server is refused: the stream was not started as bidirectional");
	}
	return 1;
}

static void play_audio(struct dialect_host *h, wire_message *message, int joins)
{
	struct player_audio audio = {
		message->format, message->rate_hz, message->channels, message->audio, message->audio_bytes, NULL,
	};
	if (message->clear) {
		player_clear(h->player, "server", 0);
	}
	if (audio.bytes && joins && !player_is_packed(audio.format) && !*message->checkpoint) {
		player_append(h->player, &audio);
	} else if (audio.bytes) {
		player_play(h->player, &audio, message->checkpoint);
	} else if (*message->checkpoint) {
		player_checkpoint(h->player, message->checkpoint);
	}
}

static void play_file(struct dialect_host *h, const wire_message *message)
{
	if (!h->options->allow_file) {
		report_invalid(h->report, "a file was to be played: set STREAM_ALLOW_FILE_INJECTION to allow it");
		return;
	}
	if (!h->options->file_dir || !*h->options->file_dir) {
		report_invalid(h->report, "a file was to be played: set file-injection-dir to the directory they are in");
		return;
	}
	struct player_audio audio = {message->format, message->rate_hz, message->channels, NULL, 0, strdup(message->text)};
	if (message->clear) {
		player_clear(h->player, "server", 0);
	}
	if (audio.path) {
		player_play(h->player, &audio, message->checkpoint);
	}
}

void dialect_pass_on(struct dialect_host *h, const char *event, const char *name, const char *json)
{
	json_t *body = json_object();
	json_object_set_new(body, name, json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
	report_event(h->report, event, body);
}

void dialect_apply(struct dialect_host *h, wire_message *message, int joins)
{
	switch (message->kind) {
	case WIRE_PLAY:
		play_audio(h, message, joins);
		break;
	case WIRE_PLAY_FILE:
		play_file(h, message);
		break;
	case WIRE_CLEAR:
		player_clear(h->player, "server", 0);
		break;
	case WIRE_CHECKPOINT:
		player_checkpoint(h->player, message->checkpoint);
		break;
	case WIRE_TRANSCRIPTION:
		dialect_pass_on(h, "transcription_received", "payload", message->text);
		break;
	case WIRE_OTHER:
	case WIRE_WORDS:
		break;
	}
}

void dialect_log_received(struct dialect_host *h, const wire_message *message)
{
	if (message->text && message->kind != WIRE_PLAY_FILE) {
		report_json(h->report, "received", message->text, strlen(message->text));
	}
}
