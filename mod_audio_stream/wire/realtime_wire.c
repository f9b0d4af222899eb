#include "realtime_wire.h"

#include <jansson.h>
#include <string.h>

#include "audio_stream.h"
#include "base64.h"
#include "json_members.h"

#define NO_RESPONSE "None"      /* what the conversation calls a response that has no id */
#define OWN_EVENTS "transport." /* what the application hears from us: no server may say it */

#define APPEND_HEAD "{\"type\":\"input_audio_buffer.append\",\"audio\":\""
#define APPEND_TAIL "\"}"

static rt_kind kind_of(const char *type)
{
	static const struct {
		const char *type;
		rt_kind kind;
	} kinds[] = {
		{"response.output_audio.delta", RT_AUDIO_DELTA},
		{"response.audio.delta", RT_AUDIO_DELTA},
		{"response.output_audio.done", RT_AUDIO_DONE},
		{"response.audio.done", RT_AUDIO_DONE},
		{"response.created", RT_RESPONSE_CREATED},
		{"response.done", RT_RESPONSE_DONE},
		{"input_audio_buffer.speech_started", RT_SPEECH_STARTED},
		{"input_audio_buffer.speech_stopped", RT_SPEECH_STOPPED},
		{"session.created", RT_SESSION_CREATED},
		{"session.updated", RT_SESSION_UPDATED},
		{"error", RT_ERROR},
	};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!strcmp(type, kinds[i].type)) {
			return kinds[i].kind;
		}
	}
	return RT_OTHER;
}

/* What there is of a message, as it stands. kind 0: not there, or no string. */
typedef struct fields {
	json_member type, event_id, response_id, item_id, delta, nested_id;
	int has_response, has_response_id;
	int disguised; /* a name is spelt with escapes: it may be one of these to who reads the event */
} fields;

static void read_nested(void *arg, const json_member *member)
{
	fields *f = arg;
	if (json_member_is(member, "id")) {
		f->nested_id = *member;
	}
}

static void read_member(void *arg, const json_member *member)
{
	fields *f = arg;
	f->disguised |= memchr(member->name, '\\', member->name_bytes) != NULL;
	if (json_member_is(member, "type")) {
		f->type = *member;
	} else if (json_member_is(member, "event_id")) {
		f->event_id = *member;
	} else if (json_member_is(member, "response_id")) {
		f->response_id = *member;
		f->has_response_id = 1;
	} else if (json_member_is(member, "item_id")) {
		f->item_id = *member;
	} else if (json_member_is(member, "delta")) {
		f->delta = *member;
	} else if (json_member_is(member, "response")) {
		f->has_response = 1;
		f->nested_id = (json_member){0};
		if (member->kind == '{') {
			json_members(member->value, member->bytes, read_nested, f);
		}
	}
}

/* The string as it is meant. Escapes are allowed, though nobody needs them in a
 * type or an id. 0 when it does not fit. */
static int read_string(const json_member *string, char *out, size_t room)
{
	if (!memchr(string->value, '\\', string->bytes)) {
		memcpy(out, string->value, string->bytes);
		out[string->bytes] = '\0';
		return 1;
	}
	json_t *text = json_loadb(string->value - 1, string->bytes + 2, JSON_DECODE_ANY, NULL);
	size_t bytes = json_string_length(text);
	int fits = text && bytes < room;
	if (fits) {
		memcpy(out, json_string_value(text), bytes + 1);
	}
	json_decref(text);
	return fits;
}

/* 1 when it is a short string of printable ASCII, which types and ids are, else
 * 0 and "". One too long to be kept whole is none: cut short it could be
 * another one's. */
static int copy_word(char *out, const json_member *string, size_t room)
{
	int good = string->kind == '"' && string->bytes < room && read_string(string, out, room);
	for (const char *c = out; good && *c; c++) {
		good = *c >= ' ' && *c <= '~';
	}
	if (!good) {
		out[0] = '\0';
	}
	return good;
}

static const json_member *response_id(const fields *f)
{
	return f->has_response ? &f->nested_id : &f->response_id;
}

static int is_too_long(const json_member *id)
{
	return id->kind == '"' && id->bytes >= RT_ID_MAX;
}

static int read_audio(const fields *f, rt_message *out)
{
	if (!f->has_response && !f->has_response_id) {
		strcpy(out->response_id, NO_RESPONSE);
	}
	if (f->delta.kind != '"' || !out->response_id[0] || !out->item_id[0]) {
		return is_too_long(&f->item_id) || is_too_long(response_id(f)) ? AS_EFULL : AS_EINVAL;
	}
	out->base64 = (char *)f->delta.value;
	out->base64_length = f->delta.bytes;
	return 0;
}

int rt_parse(char *text, size_t n, rt_message *out)
{
	fields f = {0};
	memset(out, 0, sizeof(*out));
	if (json_members(text, n, read_member, &f) || f.disguised || !copy_word(out->type, &f.type, RT_TYPE_MAX) ||
		!out->type[0] || !strncmp(out->type, OWN_EVENTS, sizeof(OWN_EVENTS) - 1)) {
		return AS_EINVAL;
	}
	out->kind = kind_of(out->type);
	copy_word(out->response_id, response_id(&f), RT_ID_MAX);
	copy_word(out->item_id, &f.item_id, RT_ID_MAX);
	copy_word(out->event_id, &f.event_id, RT_ID_MAX);
	return out->kind == RT_AUDIO_DELTA ? read_audio(&f, out) : 0;
}

const char *rt_complaint(int error)
{
	return error == AS_EFULL
			   ? "the server sent audio whose item or response has an id of more than 1023 characters: it "
				 "is not played"
			   : "the server sent what is not an event";
}

size_t rt_append_bytes(size_t n)
{
	return sizeof(APPEND_HEAD) - 1 + BASE64_BYTES(n) + sizeof(APPEND_TAIL) - 1;
}

size_t rt_append(char *buf, const void *audio, size_t n)
{
	char *at = buf + sizeof(APPEND_HEAD) - 1;
	memcpy(buf, APPEND_HEAD, sizeof(APPEND_HEAD) - 1);
	at += base64_encode(audio, n, at);
	memcpy(at, APPEND_TAIL, sizeof(APPEND_TAIL) - 1);
	return (size_t)(at - buf) + sizeof(APPEND_TAIL) - 1;
}
