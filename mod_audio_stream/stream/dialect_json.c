/* dialect_json.c - start, media, stop and media.*: text messages only. Service thread, but for reach, init and free. */
#define _GNU_SOURCE
#include "dialect.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_MAX 256
#define JSON_SUBPROTOCOL "audio.freeswitch.org"

struct json_own {
	uint64_t sequence; /* of the latest message */
	char *escaped_id;
	char *text; /* one "media" */
	size_t room;
};

static void json_free(struct dialect_host *h)
{
	struct json_own *own = h->own;
	if (own) {
		free(own->escaped_id);
		free(own->text);
		free(own);
	}
}

static int json_reach(const struct dialect_host *h, const as_streamer_start *start, struct dialect_target *out,
					  char *error, size_t bytes)
{
	(void)h;
	(void)error;
	(void)bytes;
	out->subprotocol = JSON_SUBPROTOCOL;
	out->url = strdup(start->url ? start->url : "");
	return out->url ? 0 : AS_ENOMEM;
}

static int json_init(struct dialect_host *h, const as_streamer_start *start, char *error, size_t bytes)
{
	(void)start;
	(void)error;
	(void)bytes;
	struct json_own *own = h->own = calloc(1, sizeof(*own));
	if (!own) {
		return AS_ENOMEM;
	}
	own->escaped_id = wire_escape(h->info->id);
	if (own->escaped_id) {
		own->room = wire_json_media_bytes(own->escaped_id, sender_message_bytes(h->sender));
		own->text = malloc(own->room);
	}
	return own->text ? 0 : AS_ENOMEM;
}

static const char *set_or_null(const char *text)
{
	return text && *text ? text : NULL;
}

static void json_on_open(struct dialect_host *h, uint64_t reopened)
{
	struct json_own *own = h->own;
	size_t n;
	struct sender_format format = sender_format(h->sender);
	wire_start start = {
		.uuid = h->info->uuid,
		.stream_id = h->info->id,
		.track = h->track,
		.codec = format.encoding == AS_PCMU ? "ULAW" : "L16",
		.rate_hz = format.rate_hz,
		.channels = format.channels,
		.metadata = set_or_null(h->metadata),
		.resumed = (int)reopened,
		.auth_id = set_or_null(h->options->auth_id),
		.account_id = set_or_null(h->options->account_id),
		.subaccount_id = set_or_null(h->options->subaccount_id),
		.rate = set_or_null(h->options->rate),
		.unit = set_or_null(h->options->unit),
	};
	char *text = wire_json_start(++own->sequence, &start, &n);
	dialect_send_text(h, text, n);
}

static void json_apply(struct dialect_host *h, wire_message *message)
{
	struct json_own *own = h->own;
	size_t n;
	if (*message->stream_id && strcmp(message->stream_id, h->info->id)) {
		report_invalid(h->report, "a message for stream \"%s\": this one is \"%s\"", message->stream_id, h->info->id);
	} else if (message->kind == WIRE_OTHER) {
		dialect_pass_on(h, "message_received", "message", message->text);
	} else if (message->kind == WIRE_WORDS) {
		report_event(h->report, "message_received", json_pack("{s:s}", "message", message->text));
	} else if (!dialect_refuses(h, message->kind)) {
		dialect_apply(h, message, 0);
		if (message->kind == WIRE_CLEAR) {
			char *text = wire_json_cleared(++own->sequence, h->info->id, &n);
			dialect_send_text(h, text, n);
		}
	}
}

static void json_on_message(struct dialect_host *h, int binary, char *data, size_t n)
{
	char error[ERROR_MAX];
	wire_message message;
	if (binary) {
		report_invalid(h->report, "a binary message of %zu bytes: this dialect is JSON only", n);
		return;
	}
	if (wire_json_parse(data, n, (size_t)h->options->max_base64, &message, error, sizeof(error))) {
		report_invalid(h->report, "%s", error);
		return;
	}
	dialect_log_received(h, &message);
	json_apply(h, &message);
	wire_message_free(&message);
}

static void json_send_audio(struct dialect_host *h, const void *audio, size_t bytes)
{
	struct json_own *own = h->own;
	size_t n = wire_json_media(own->text, own->room, own->sequence + 1, own->escaped_id, audio, bytes);
	if (n && !h->send(h->arg, 0, own->text, n)) {
		own->sequence++;
	}
}

static void json_on_stop(struct dialect_host *h, const char *reason, const char *text)
{
	struct json_own *own = h->own;
	size_t n;
	(void)text; /* it is the reason */
	char *stop = wire_json_stop(++own->sequence, h->info->id, reason, &n);
	dialect_send_text(h, stop, n);
}

static void json_on_checkpoint(struct dialect_host *h, const char *name, int reached)
{
	struct json_own *own = h->own;
	size_t n;
	char *text = wire_json_checkpoint(++own->sequence, h->info->id, name, reached, &n);
	dialect_send_text(h, text, n);
}

const struct dialect dialect_json = {
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
