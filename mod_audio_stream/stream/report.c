/* report.c - events, complaints and log lines of one stream, as JSON. */
#define _GNU_SOURCE
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "utf8.h"

#define INVALID_EVERY_NS 1000000000
#define TEXT_MAX 512

static int64_t epoch_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

json_t *report_string(const char *text)
{
	char *clean = as_utf8_clean(text);
	json_t *string = clean ? json_string(clean) : NULL;
	free(clean);
	return string;
}

void report_event_text(const struct report *r, const char *name, const char *body)
{
	if (r->on_event) {
		r->on_event(r->arg, name, body);
	}
}

static void fire(const struct report *r, const char *name, json_t *body, int64_t at_ms)
{
	json_t *event = body ? body : json_object();
	json_object_set_new(event, "uuid", report_string(r->uuid));
	json_object_set_new(event, "streamId", report_string(r->stream_id));
	json_object_set_new(event, "at", json_integer(at_ms));
	char *text = event ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL; /* 0.98 stays 0.98 */
	json_decref(event);
	if (text) {
		report_event_text(r, name, text);
	}
	free(text);
}

void report_event(const struct report *r, const char *name, json_t *body)
{
	fire(r, name, body, epoch_ms());
}

void report_event_at(const struct report *r, const char *name, json_t *body, int64_t at_ns)
{
	fire(r, name, body, epoch_ms() - (at_ns ? (as_now_ns() - at_ns) / 1000000 : 0));
}

void report_invalid(struct report *r, const char *format, ...)
{
	char text[TEXT_MAX];
	int64_t now_ns = as_now_ns();
	r->invalid++;
	if (r->invalid_ns && now_ns - r->invalid_ns < INVALID_EVERY_NS) {
		r->invalid_unreported++;
		return;
	}
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_t *body = json_object();
	json_object_set_new(body, "error", report_string(text));
	json_object_set_new(body, "count", json_integer((json_int_t)r->invalid));
	json_object_set_new(body, "unreported", json_integer((json_int_t)r->invalid_unreported));
	r->invalid_ns = now_ns;
	r->invalid_unreported = 0;
	report_event(r, "stream_invalid_input", body);
}

static void log_text(const struct report *r, const char *level, const char *text)
{
	json_t *body = json_object();
	json_object_set_new(body, "level", json_string(level));
	json_object_set_new(body, "text", report_string(text));
	report_event(r, "log", body);
}

/* Debug and info are what STREAM_SUPPRESS_LOG silences. */
static int is_logged(const struct report *r, const char *level)
{
	return !r->suppress_log || !strcmp(level, "warning") || !strcmp(level, "error");
}

void report_log(const struct report *r, const char *level, const char *format, ...)
{
	char text[TEXT_MAX];
	if (is_logged(r, level)) {
		va_list args;
		va_start(args, format);
		vsnprintf(text, sizeof(text), format, args);
		va_end(args);
		log_text(r, level, text);
	}
}

/* ---- STREAM_DEBUG_JSON ------------------------------------------------------------------------------------------- */

static int contains(const char *name, const char *part)
{
	size_t length = strlen(part);
	for (; *name; name++) {
		if (!strncasecmp(name, part, length)) {
			return 1;
		}
	}
	return 0;
}

static int is_secret(const char *name)
{
	static const char *const parts[] = {"key", "token", "secret", "passw", "authoriz", "credential", "cookie"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (contains(name, parts[i])) {
			return 1;
		}
	}
	return 0;
}

static int is_audio(const json_t *object, const char *name)
{
	const char *type = json_string_value(json_object_get(object, "type"));
	return !strcmp(name, "audio") || !strcmp(name, "audioData") ||
		   (!strcmp(name, "delta") && type && contains(type, "audio.delta"));
}

static void hide_json_secrets(json_t *value)
{
	const char *name;
	json_t *member;
	size_t i;
	void *next;
	json_array_foreach(value, i, member)
	{
		hide_json_secrets(member);
	}
	json_object_foreach_safe(value, next, name, member)
	{
		if (json_is_string(member) && (is_secret(name) || is_audio(value, name))) {
			json_object_set_new(value, name, json_string("..."));
		} else {
			hide_json_secrets(member);
		}
	}
}

void report_json(const struct report *r, const char *direction, const char *text, size_t n)
{
	if (!r->debug_json || r->suppress_log) {
		return;
	}
	json_t *message = json_loadb(text, n, 0, NULL);
	if (!message) {
		report_log(r, "debug", "%s %zu bytes that are not JSON", direction, n);
		return;
	}
	hide_json_secrets(message);
	char *shown = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	char *line = shown ? malloc(strlen(shown) + strlen(direction) + 2) : NULL;
	if (line) {
		sprintf(line, "%s %s", direction, shown);
		log_text(r, "debug", line);
	}
	free(line);
	free(shown);
}
