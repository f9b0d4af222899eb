/* dialect_binary.c - binary frames both ways, and streamAudio. Service thread, but for reach. */
#define _GNU_SOURCE
#include "dialect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_MAX 256

static int binary_reach(const struct dialect_host *h, const as_streamer_start *start, struct dialect_target *out,
						char *error, size_t bytes)
{
	(void)h;
	(void)error;
	(void)bytes;
	out->url = strdup(start->url ? start->url : "");
	return out->url ? 0 : AS_ENOMEM;
}

static void binary_on_open(struct dialect_host *h, uint64_t reopened)
{
	char text[64];
	if (h->metadata && *h->metadata) {
		report_json(h->report, "sent", h->metadata, strlen(h->metadata));
		h->send(h->arg, 0, h->metadata, strlen(h->metadata));
	}
	if (reopened) {
		int n = snprintf(text, sizeof(text), "{\"type\":\"stream.resumed\",\"attempt\":%llu}",
						 (unsigned long long)reopened);
		h->send(h->arg, 0, text, (size_t)n);
	}
}

static void binary_on_message(struct dialect_host *h, int binary, char *data, size_t n)
{
	char error[ERROR_MAX];
	wire_message message;
	if (binary) {
		const struct player_audio audio = {WIRE_RAW_L16, sender_format(h->sender).rate_hz, 1, (uint8_t *)data, n, NULL};
		if (n && !dialect_refuses(h, WIRE_PLAY)) {
			player_append(h->player, &audio);
		}
		return;
	}
	if (wire_binary_parse(data, n, (size_t)h->options->max_base64, &message, error, sizeof(error))) {
		report_invalid(h->report, "%s", error);
		return;
	}
	dialect_log_received(h, &message);
	if (message.kind == WIRE_OTHER || message.kind == WIRE_WORDS) {
		report_event_text(h->report, "json", message.text);
	} else if (!dialect_refuses(h, message.kind)) {
		dialect_apply(h, &message, 1);
	}
	wire_message_free(&message);
}

static void binary_send_audio(struct dialect_host *h, const void *audio, size_t bytes)
{
	h->send(h->arg, 1, audio, bytes);
}

static void binary_on_stop(struct dialect_host *h, const char *reason, const char *text)
{
	(void)reason;
	if (text) {
		h->send(h->arg, 0, text, strlen(text));
	}
}

const struct dialect dialect_binary = {
	.name = "binary",
	.opened = "connect",
	.failed = "error",
	.timed_out = "error",
	.closed = "disconnect",
	.queued = "play",
	.reach = binary_reach,
	.on_open = binary_on_open,
	.on_message = binary_on_message,
	.send_audio = binary_send_audio,
	.on_stop = binary_on_stop,
};
