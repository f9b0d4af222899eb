#define _GNU_SOURCE
#include "realtime_audio.h"

#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "budget.h"
#include "convert.h"

#define READ_BYTES 19200          /* 200 ms of 48 kHz: one append at most */
#define UNSENT_MS 1000            /* with more unsent the server is not reading: audio stays in the ring */
#define SPARE_MS 100              /* may wait in the ring beside a chunk */
#define HELD_MAX_BYTES (16 << 20) /* of one conversation, headers included: half an hour of G.711 */
#define ANNOUNCE_NS 1000000000    /* an item whose audio goes on is announced this often */
#define ENDS_BYTES ((size_t)256)  /* of a delta's beginning and end: enough to tell it from others with its event_id */
#define FIRST_MARK (1ull << 32)   /* below it are those that applications choose */

/* Audio held back, or the end of an item (bytes = 0). */
struct rt_held {
	rt_held *next;
	uint64_t mark;
	size_t bytes;
	uint8_t data[];
};

/* Of the process: two conversations on one stream must not share a mark. */
static _Atomic uint64_t last_mark = FIRST_MARK;

void rt_audio_init(rt_audio *audio)
{
	memset(audio, 0, sizeof(*audio));
}

static void forget_item(rt_item *item)
{
	free(item->id);
	memset(item, 0, sizeof(*item));
}

static void forget_response(rt_response *response)
{
	free(response->id);
	memset(response, 0, sizeof(*response));
}

static void forget_all(rt_audio *audio)
{
	for (int i = 0; i < RT_ITEMS; i++) {
		forget_item(&audio->items[i]);
	}
	for (int i = 0; i < RT_RESPONSES; i++) {
		forget_response(&audio->responses[i]);
	}
}

void rt_audio_free(rt_audio *audio)
{
	rt_audio_forget(audio);
	rt_recall_free(&audio->recall);
	as_stream_unref(audio->stream);
}

int rt_audio_attach(rt_audio *audio, as_stream *stream, const as_realtime_audio *format, int uplink_max_ms)
{
	as_info info;
	if (audio->stream) {
		return AS_EBUSY;
	}
	as_stream_info(stream, &info);
	audio->stream = as_stream_ref(stream);
	audio->format = *format;
	int least_ms = SPARE_MS + (format->quiet_chunk_ms > format->chunk_ms ? format->quiet_chunk_ms : format->chunk_ms);
	uplink_max_ms = uplink_max_ms > least_ms ? uplink_max_ms : least_ms; /* less, and no chunk would ever be complete */
	audio->uplink_max_samples = (size_t)((int64_t)info.rate_hz * uplink_max_ms / 1000);
	int64_t samples = (int64_t)format->in_rate_hz * (uplink_max_ms < UNSENT_MS ? uplink_max_ms : UNSENT_MS) / 1000;
	audio->unsent_max_bytes = BASE64_BYTES((size_t)samples * as_format_bytes_per_sample(format->in_encoding));
	return 0;
}

int rt_audio_listen(rt_audio *audio)
{
	if (!audio->stream) {
		return AS_EINVAL;
	}
	audio->listening = 1;
	audio->unlistened = audio->set_up = 0;
	return 0;
}

void rt_audio_unlisten(rt_audio *audio)
{
	audio->listening = 0;
	audio->unlistened = 1;
}

/* ---- Caller to model --------------------------------------------------------------------------------------------- */

static void append(rt_audio *audio, ws_actor *actor, const char *chunk, size_t n)
{
	char message[READ_BYTES / 3 * 4 + 128];
	size_t bytes = rt_append(message, chunk, n);
	rt_recall_add(&audio->recall, chunk, n);
	if (ws_send(actor, 0, message, bytes) == 0) {
		audio->appends++;
		audio->appended_bytes += bytes;
	} else {
		audio->dropped_samples += n / as_format_bytes_per_sample(audio->format.in_encoding);
	}
}

void rt_audio_recall(rt_audio *audio)
{
	size_t bytes_per_sample = as_format_bytes_per_sample(audio->format.in_encoding);
	rt_recall_init(&audio->recall, (size_t)audio->format.in_rate_hz * bytes_per_sample, bytes_per_sample);
}

void rt_audio_resend(rt_audio *audio, ws_actor *actor, const as_realtime_audio *format, const uint8_t *data, size_t n)
{
	if (!audio->stream || audio->format.in_encoding != format->in_encoding ||
		audio->format.in_rate_hz != format->in_rate_hz) {
		return;
	}
	rt_recall_open(&audio->recall);
	for (size_t at = 0, part; at < n; at += part) {
		part = n - at < READ_BYTES ? n - at : READ_BYTES;
		append(audio, actor, (const char *)data + at, part);
	}
}

/* 0 while another thread reads. */
static int set_up(rt_audio *audio)
{
	const as_realtime_audio *format = &audio->format;
	if (!audio->set_up) {
		audio->set_up = !as_capture_setup(audio->stream, format->in_encoding, format->in_rate_hz, format->chunk_ms,
										  format->quiet_chunk_ms, format->hang_ms);
	}
	return audio->set_up;
}

void rt_audio_pump(rt_audio *audio, ws_actor *actor)
{
	char chunk[READ_BYTES];
	long n = 1;
	if (!audio->stream || audio->unlistened) {
		return;
	}
	/* Before anything is read: what is dropped is the oldest, and nothing older goes out ahead of the gap. */
	audio->dropped_samples += as_capture_discard(audio->stream, audio->uplink_max_samples);
	while (audio->listening && n > 0 && set_up(audio) && ws_unsent(actor) < audio->unsent_max_bytes) {
		n = as_capture_read(audio->stream, chunk, sizeof(chunk), 0);
		if (n > 0) {
			append(audio, actor, chunk, (size_t)n);
		}
	}
}

/* ---- Model to caller --------------------------------------------------------------------------------------------- */

static rt_response *find_response(rt_audio *audio, const char *id)
{
	for (int i = 0; i < RT_RESPONSES; i++) {
		if (audio->responses[i].id && !strcmp(audio->responses[i].id, id)) {
			return &audio->responses[i];
		}
	}
	return NULL;
}

static rt_item *find_item(rt_audio *audio, const char *id)
{
	for (int i = 0; i < RT_ITEMS; i++) {
		if (audio->items[i].id && !strcmp(audio->items[i].id, id)) {
			return &audio->items[i];
		}
	}
	return NULL;
}

/* What one entry of the list takes, with its header and malloc's. */
static size_t held_cost(const rt_held *held)
{
	return sizeof(*held) + held->bytes + 2 * sizeof(size_t);
}

/* Takes a response's audio, and its items' ends, out of what is held: queued under a generation, or thrown away (0). */
static void release(rt_audio *audio, rt_response *response, uint32_t generation)
{
	for (rt_held *held = response->first, *next; held; held = next) {
		next = held->next;
		if (generation && held->bytes) {
			as_inject_write(audio->stream, held->mark, generation, audio->format.out_encoding,
							audio->format.out_rate_hz, held->data, held->bytes);
		} else if (generation) {
			as_inject_end(audio->stream, held->mark);
		}
		audio->held_bytes -= held_cost(held);
		as_budget_release(held_cost(held));
		free(held);
	}
	response->first = response->last = NULL;
}

/* The response's entry, made when it is first heard of; NULL without memory. The oldest one makes room. */
static rt_response *response_of(rt_audio *audio, const char *id, int hold)
{
	rt_response *response = find_response(audio, id);
	char *kept_id = response ? NULL : strdup(id);
	if (!kept_id) {
		return response;
	}
	response = &audio->responses[audio->next_response++ % RT_RESPONSES];
	release(audio, response, 0);
	for (int i = 0; i < RT_ITEMS; i++) {
		if (audio->items[i].response == response) {
			forget_item(&audio->items[i]);
		}
	}
	forget_response(response);
	response->id = kept_id;
	response->held = hold;
	response->generation = hold ? 0 : as_inject_generation(audio->stream);
	return response;
}

static int hold_back(rt_audio *audio, const rt_item *item, const void *data, size_t bytes);

/* No more audio comes for an item. */
static void end_item(rt_audio *audio, const rt_item *item)
{
	if (item->response->held) {
		hold_back(audio, item, "", 0);
	} else if (item->response->generation == as_inject_generation(audio->stream)) {
		as_inject_end(audio->stream, item->mark);
	}
}

/* Deltas come in playback order: with the first one of an item, the response's item before it is complete, whenever its
 * end is told. */
static void end_item_before(rt_audio *audio, const rt_response *response)
{
	rt_item *before = &audio->items[(audio->next_item + RT_ITEMS - 1) % RT_ITEMS];
	if (before->response == response) {
		end_item(audio, before);
	}
}

/* The item's entry, made with its first audio; NULL without memory. */
static rt_item *item_of(rt_audio *audio, const rt_message *message, int hold)
{
	rt_item *item = find_item(audio, message->item_id);
	rt_response *response = item ? NULL : response_of(audio, message->response_id, hold);
	char *id = response ? strdup(message->item_id) : NULL;
	if (!id) {
		return item;
	}
	if (hold && response->generation) { /* of before the caller spoke, and nobody knows yet that it speaks */
		response->held = 1;
		response->generation = 0;
	}
	end_item_before(audio, response);
	item = &audio->items[audio->next_item++ % RT_ITEMS];
	forget_item(item);
	*item = (rt_item){.id = id, .mark = atomic_fetch_add(&last_mark, 1) + 1, .response = response};
	return item;
}

/* 0, or AS_EFULL, AS_ENOMEM. */
static int hold_back(rt_audio *audio, const rt_item *item, const void *data, size_t bytes)
{
	rt_response *response = item->response;
	const rt_held header = {.mark = item->mark, .bytes = bytes};
	if (audio->held_bytes + held_cost(&header) > HELD_MAX_BYTES) {
		return AS_EFULL;
	}
	if (as_budget_reserve(audio->held_bytes, held_cost(&header))) {
		return AS_ENOMEM;
	}
	rt_held *held = malloc(sizeof(*held) + bytes);
	if (!held) {
		as_budget_release(held_cost(&header));
		return AS_ENOMEM;
	}
	*held = header;
	memcpy(held->data, data, bytes);
	if (response->last) {
		response->last->next = held;
	} else {
		response->first = held;
	}
	response->last = held;
	audio->held_bytes += held_cost(held);
	return 0;
}

static long queue(rt_audio *audio, const rt_item *item, const void *data, size_t bytes)
{
	const rt_response *response = item->response;
	if (response->held) {
		return hold_back(audio, item, data, bytes);
	}
	if (!response->generation) {
		return AS_ESTALE;
	}
	return as_inject_write(audio->stream, item->mark, response->generation, audio->format.out_encoding,
						   audio->format.out_rate_hz, data, bytes);
}

void rt_audio_response(rt_audio *audio, const char *response_id, int hold)
{
	if (audio->stream && response_id[0]) {
		response_of(audio, response_id, hold);
	}
}

static rt_outcome complain(const char *about, const char *complaint, int useless)
{
	return (rt_outcome){.about = about, .complaint = complaint, .useless = useless};
}

static uint64_t mix(uint64_t hash, const char *data, size_t n)
{
	uint64_t word;
	for (; n >= sizeof(word); data += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 32;
	}
	word = n;
	memcpy(&word, data, n);
	hash = (hash ^ word ^ ((uint64_t)n << 56)) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 32;
}

void rt_audio_event(rt_audio *audio, const rt_message *message)
{
	if (!message->event_id[0]) {
		return;
	}
	uint64_t id = mix(1, message->event_id, strlen(message->event_id));
	uint64_t type = mix(1, message->type, strlen(message->type));
	if (id == audio->last_id && type != audio->last_type) {
		audio->ids_are_shared = 1;
	}
	audio->last_id = id;
	audio->last_type = type;
}

/* Whether this delta has come before; it has now. */
static int is_repeated(rt_audio *audio, const rt_message *message)
{
	if (!message->event_id[0] || audio->ids_are_shared) {
		return 0;
	}
	size_t n = message->base64_length, end = n < ENDS_BYTES ? n : ENDS_BYTES;
	uint64_t hash = mix(1, message->event_id, strlen(message->event_id));
	hash = mix(hash, (const char *)&n, sizeof(n));
	hash = mix(hash, message->base64, end);
	hash = mix(hash, message->base64 + n - end, end);
	for (int i = 0; i < RT_DELTAS; i++) {
		if (audio->heard[i] == hash) {
			return 1;
		}
	}
	audio->heard[audio->next_heard++ % RT_DELTAS] = hash;
	return 0;
}

rt_outcome rt_audio_delta(rt_audio *audio, const rt_message *message, int hold, int64_t now_ns)
{
	if (!audio->stream) {
		return complain("malformed", "the server sent audio before it was asked to", 1);
	}
	if (is_repeated(audio, message)) {
		audio->repeated_deltas++;
		return (rt_outcome){0};
	}
	audio->deltas++;
	long bytes = base64_decode(message->base64, message->base64_length, (uint8_t *)message->base64);
	if (bytes < 0) {
		return complain("base64", "the server sent audio that is not base64", 1);
	}
	rt_item *item = item_of(audio, message, hold); /* not before: who is held back has to be announced */
	long result = !item ? AS_ENOMEM : bytes ? queue(audio, item, message->base64, (size_t)bytes) : 0;
	if (result == AS_ENOMEM) {
		audio->full_deltas++;
		return complain("memory",
						"no memory for a reply, which loses audio: all streams together have used up "
						"MOD_AUDIO_STREAM_MEMORY_MB",
						0);
	}
	if (result == AS_EFULL) {
		audio->full_deltas++;
		return complain("full", "a reply is too long to hold and loses its end", 0);
	}
	if (result == AS_ESTALE || result == AS_ECLOSED || now_ns - item->announced_ns < ANNOUNCE_NS) {
		return (rt_outcome){0};
	}
	int first = item->announced_ns == 0;
	item->announced_ns = now_ns;
	return (rt_outcome){.announce = item, .first = first};
}

void rt_audio_done(rt_audio *audio, const char *item_id)
{
	rt_item *item = item_id[0] ? find_item(audio, item_id) : NULL;
	if (item && item->response) {
		end_item(audio, item);
	}
}

const rt_item *rt_audio_item(const rt_audio *audio, uint64_t mark)
{
	for (int i = 0; i < RT_ITEMS; i++) {
		if (mark && audio->items[i].mark == mark) {
			return &audio->items[i];
		}
	}
	return NULL;
}

void rt_audio_forget(rt_audio *audio)
{
	for (int i = 0; i < RT_RESPONSES; i++) {
		release(audio, &audio->responses[i], 0);
	}
	forget_all(audio);
	memset(audio->heard, 0, sizeof(audio->heard));
}

void rt_audio_route(rt_audio *audio, const char *response_id, uint32_t generation)
{
	rt_response *response = response_id[0] ? find_response(audio, response_id) : NULL;
	if (response && response->held) {
		response->held = 0;
		response->generation = generation;
		release(audio, response, generation);
	}
}
