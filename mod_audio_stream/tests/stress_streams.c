/*
 * stress_streams.c - calls that come and go with what talks on them: streamers of every dialect and native Realtime
 * connections, whose servers play, reset, close and stall, and which are told to do anything at any moment by threads
 * that know nothing of each other.
 *
 * A round is one call: its thread opens a stream, starts what talks on it, is its host for a while, and ends it somehow,
 * most often with everything still going on. STRESS_ROUNDS says how many there are; each thread's random numbers begin the
 * same every time. At the end every streamer has said that it stopped, once, and every Realtime connection that it closed.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "audio_stream_ws.h"
#include "base64.h"
#include "sound_file.h"
#include "stress.h"
#include "ws_server.h"

#define THREADS 6
#define TALKERS_MAX 3 /* on one call */
#define FRAME 160
#define SLOTS 16
#define TAGS 65536     /* of Realtime connections: a tag's low bits */
#define STOP_EVERY 300 /* rounds of one thread */

/* What talks on a call, and is known to everybody. A reference of each object is the talker's. */
typedef struct talker {
	_Atomic int refs, open, finished;
	as_stream *stream;
	as_streamer *streamer;
	as_realtime *_Atomic realtime;
	int stopped; /* the service thread's */
} talker;

static _Atomic long rounds_left, streamers, stopped, finished, refused, realtimes, opened, closed, events, heard,
	routed, played;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static talker *slots[SLOTS]; /* a reference each */
static struct {
	uint64_t tag;
	talker *owner;
} conversations[TAGS]; /* under the lock; a reference each */
static _Atomic uint64_t last_tag;
static as_events *queue;
static char urls[2][64];

/* ---- Servers: everything a server may say, and what it must not ---------------------------------------------------- */

static const char *const messages[] = {
	"{\"type\":\"streamAudio\",\"data\":{\"audioDataType\":\"raw\",\"sampleRate\":24000,\"audioData\":\"%s\"}}",
	"{\"type\":\"streamAudio\",\"data\":{\"audioData\":\"%s\",\"clear\":true}}",
	"{\"type\":\"streamAudio\",\"data\":{\"audioDataType\":\"wav\",\"audioData\":\"%s\"}}",
	"{\"event\":\"media.play\",\"payload\":{\"audioData\":\"%s\",\"sampleRate\":8000,\"checkpoint\":\"here\"}}",
	"{\"event\":\"media.clear\",\"ignored\":\"%s\"}",
	"{\"event\":\"media.checkpoint\",\"payload\":{\"name\":\"there\"},\"ignored\":\"%s\"}",
	"{\"event\":\"transcription.send\",\"payload\":{\"text\":\"%s\"}}",
	"{\"type\":\"session.updated\",\"session\":{\"id\":\"sess_1\"},\"ignored\":\"%s\"}",
	"{\"type\":\"input_audio_buffer.speech_started\",\"ignored\":\"%s\"}",
	"{\"type\":\"input_audio_buffer.speech_stopped\",\"ignored\":\"%s\"}",
	"{\"type\":\"response.created\",\"response\":{\"id\":\"resp_%u\"},\"ignored\":\"%s\"}",
	"{\"type\":\"response.output_audio.delta\",\"response_id\":\"resp_%u\",\"item_id\":\"item_%u\",\"delta\":\"%s\"}",
	"{\"type\":\"response.audio.delta\",\"response_id\":\"resp_%u\",\"item_id\":\"item_%u\",\"delta\":\"%s\"}",
	"{\"type\":\"response.output_audio.done\",\"response_id\":\"resp_%u\",\"item_id\":\"item_%u\",\"ignored\":\"%s\"}",
	"{\"type\":\"response.done\",\"response\":{\"id\":\"resp_%u\",\"status\":\"completed\"},\"ignored\":\"%s\"}",
	"{\"type\":\"error\",\"error\":{\"message\":\"no\"},\"ignored\":\"%s\"}",
	"{\"type\":\"session.created\",\"session\":{\"id\":\"sess_1\"},\"ignored\":\"%s\"}",
	"{\"type\":\"session.updated\",\"session\":{\"audio\":{\"output\":{\"format\":{\"type\":\"audio/pcma\"}},"
	"\"input\":{\"format\":{\"type\":\"audio/pcm\"}}}},\"ignored\":\"%s\"}",
	"{\"type\":\"error\",\"error\":{\"param\":\"session.audio.input.format\"},\"ignored\":\"%s\"}",
	"words, and no JSON: %s",
	"{\"type\":\"what\",\"is\":\"%s",
};

#define LONG_BYTES 200000 /* more than is queued at once */

static int say_something(ws_peer *peer, uint32_t *seed)
{
	static const uint8_t audio[LONG_BYTES];
	size_t n = random_upto(seed, random_upto(seed, 32) ? 640 : LONG_BYTES), room = BASE64_BYTES(n) + 256;
	uint32_t which = next_random(seed) % (sizeof(messages) / sizeof(messages[0]) + 3), id = next_random(seed) % 4;
	if (which >= sizeof(messages) / sizeof(messages[0])) {
		return peer_send(peer, WS_OP_BINARY, audio, n);
	}
	char *base64 = malloc(room), *text = malloc(room);
	base64[base64_encode(audio, n, base64)] = '\0';
	const char *form = messages[which], *arguments = strstr(form, "%u");
	int ids = arguments ? strstr(arguments + 1, "%u") ? 2 : 1 : 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int bytes = ids == 2   ? snprintf(text, room, form, id, id + next_random(seed) % 2, base64)
				: ids == 1 ? snprintf(text, room, form, id, base64)
						   : snprintf(text, room, form, base64);
#pragma GCC diagnostic pop
	int error = peer_send(peer, WS_OP_TEXT, text, (size_t)bytes);
	free(base64);
	free(text);
	return error;
}

static sound_file packed[2]; /* MP3 and Ogg; set before any server */

/* A few slices of a file, one behind the other unless the form is no play. */
static int say_slices(ws_peer *peer, uint32_t *seed)
{
	static const char *const forms[] = {
		"{\"type\":\"streamAudio\",\"data\":{\"audioDataType\":\"%s\",\"audioData\":\"%s\"}}",
		"{\"event\":\"media.play\",\"payload\":{\"format\":\"%s\",\"audioData\":\"%s\"}}"};
	uint32_t which = next_random(seed) % 2, dialect = next_random(seed) % 2;
	size_t n = (size_t)packed[which].n, at = next_random(seed) % 4 ? 0 : random_upto(seed, n) - 1;
	int error = 0;
	for (uint32_t left = next_random(seed) % 8; left > 0 && at < n && !error; left--) {
		char base64[BASE64_BYTES(1500) + 1], text[sizeof(base64) + 128];
		size_t part = random_upto(seed, n - at < 1500 ? n - at : 1500);
		base64[base64_encode(packed[which].data + at, part, base64)] = '\0';
		at += part;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		int bytes = snprintf(text, sizeof(text), forms[dialect], which ? "ogg" : "mp3", base64);
#pragma GCC diagnostic pop
		error = peer_send(peer, WS_OP_TEXT, text, (size_t)bytes);
	}
	return error;
}

static void serve(ws_peer *peer, void *arg)
{
	static _Atomic uint32_t next = 77;
	uint32_t seed = atomic_fetch_add(&next, 7919) | 1;
	(void)arg;
	for (uint32_t left = next_random(&seed) % 24; left > 0 && !peer_stopping(peer); left--) {
		if (next_random(&seed) % 6 ? say_something(peer, &seed) : say_slices(peer, &seed)) {
			return;
		}
		if (next_random(&seed) % 4 == 0) {
			peer_wait(peer, 5);
		}
	}
	switch (next_random(&seed) % 6) {
	case 0:
	case 1:
		peer_reset(peer);
		break;
	case 2:
		peer_send_close(peer, 1000 + (int)(next_random(&seed) % 15), "so long");
		break;
	case 3:
		break;
	default:
		server_echo(peer, NULL); /* what we say is audio to some: it is played */
	}
}

/* ---- Talkers: any thread ------------------------------------------------------------------------------------------- */

static talker *talker_ref(talker *t)
{
	atomic_fetch_add(&t->refs, 1);
	return t;
}

static void talker_unref(talker *t)
{
	if (t && atomic_fetch_sub(&t->refs, 1) == 1) {
		as_streamer_unref(t->streamer);
		as_realtime_unref(t->realtime);
		as_stream_unref(t->stream);
		free(t);
	}
}

static void on_event(void *arg, const char *name, const char *body)
{
	talker *t = arg;
	CHECK(body[0] == '{' || !strcmp(name, "json"), "%s: %s", name, body);
	CHECK(!atomic_load(&t->finished), "%s after the last word", name);
	if (!strcmp(name, "stream_started")) {
		atomic_store(&t->open, 1);
		atomic_fetch_add(&opened, 1);
	}
	if (!strcmp(name, "stream_stopped")) {
		CHECK(!t->stopped++, "stopped again");
		atomic_fetch_add(&stopped, 1);
	}
	atomic_fetch_add(&events, 1);
}

static void on_finished(void *arg, const char *reason)
{
	talker *t = arg;
	CHECK(reason && !atomic_exchange(&t->finished, 1), "finished again");
	atomic_fetch_add(&finished, 1);
	talker_unref(t);
}

static void start_streamer(talker *t, const char *url, uint32_t *seed)
{
	char error[256];
	as_options *options = NULL;
	const as_streamer_start start = {
		.dialect = 1 + (int)(next_random(seed) % 3),
		.url = url,
		.track = "inbound",
		.rate_hz = next_random(seed) % 3 ? 0 : 16000,
		.bidirectional = next_random(seed) % 4 != 0,
		.api_key = "sk-none",
		.instructions = "Be brief.",
	};
	CHECK(as_options_new(&options) == 0, "options");
	as_options_set(options, "STREAM_RECONNECT_MAX", next_random(seed) % 3 ? "0" : "3", error, sizeof(error));
	as_options_set(options, "STREAM_RECONNECT_DELAY_MS", "10", error, sizeof(error));
	as_options_set(options, "STREAM_MESSAGE_DEFLATE", next_random(seed) % 4 ? "0" : "1", error, sizeof(error));
	atomic_fetch_add(&streamers, 1);
	talker_ref(t); /* until it has finished */
	int result =
		as_streamer_new(t->stream, &start, options, on_event, on_finished, t, error, sizeof(error), &t->streamer);
	if (result) { /* somebody has closed the stream, or reads it */
		t->streamer = NULL;
		atomic_fetch_add(&refused, 1);
		talker_unref(t);
	}
	as_options_free(options);
}

static void start_realtime(talker *t, const char *url, uint32_t *seed)
{
	static const as_realtime_audio formats[] = {
		{AS_PCMU, 8000, AS_PCMU, 8000, 20, 100, 500},
		{AS_S16, 24000, AS_S16, 24000, 20, 100, 500},
	};
	const as_realtime_config config = {.url = url, .headers = "Authorization: Bearer sk-none\n", .uplink_max_ms = 500};
	uint64_t tag = atomic_fetch_add(&last_tag, 1);
	pthread_mutex_lock(&lock);
	CHECK(!conversations[tag % TAGS].owner, "too many conversations at a time");
	conversations[tag % TAGS].tag = tag;
	conversations[tag % TAGS].owner = talker_ref(t);
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&realtimes, 1);
	as_realtime *realtime = NULL;
	CHECK(as_realtime_new(&config, queue, tag, &realtime) == 0, "realtime");
	atomic_store(&t->realtime, realtime);
	int result = as_realtime_attach(realtime, t->stream, &formats[next_random(seed) % 2]);
	CHECK(result == 0 || result == AS_ECLOSED || result == AS_EBUSY, "attach: %s", as_strerror(result));
	result = as_realtime_listen(realtime);
	CHECK(result == 0 || result == AS_ECLOSED || result == AS_EINVAL, "listen: %s", as_strerror(result));
}

/* Makes what talks on a stream; from the moment it is in a slot anybody may do anything with it. */
static talker *start_talker(as_stream *stream, uint32_t *seed)
{
	talker *t = allocate(sizeof(*t)), *old;
	atomic_init(&t->refs, 1);
	t->stream = as_stream_ref(stream);
	const char *url = urls[next_random(seed) % 16 == 0];
	(next_random(seed) % 3 ? start_streamer : start_realtime)(t, url, seed);
	pthread_mutex_lock(&lock);
	talker **slot = &slots[next_random(seed) % SLOTS];
	old = *slot;
	*slot = talker_ref(t);
	pthread_mutex_unlock(&lock);
	talker_unref(old);
	return t;
}

static void disturb_streamer(as_streamer *streamer, uint32_t *seed)
{
	char json[4096];
	int result = 0;
	switch (next_random(seed) % 6) {
	case 0:
		as_streamer_stop(streamer, next_random(seed) % 2 ? "enough" : NULL, (int)(next_random(seed) % 2));
		break;
	case 1:
		CHECK(as_streamer_describe(streamer, json, 64 + next_random(seed) % (sizeof(json) - 64)) > 1, "describe");
		break;
	default:
		result = as_streamer_send_text(streamer, "{\"say\":\"something\"}");
		CHECK(result == 0 || result == AS_ECLOSED, "text: %s", as_strerror(result));
	}
}

static void disturb_realtime(as_realtime *realtime, uint32_t *seed)
{
	as_realtime_info info;
	int result;
	switch (next_random(seed) % 6) {
	case 0:
		as_realtime_close(realtime, 1000, (int)(next_random(seed) % 3) * 10);
		break;
	case 1:
		as_realtime_get_info(realtime, &info);
		as_realtime_unlisten(realtime);
		result = as_realtime_listen(realtime);
		CHECK(result == 0 || result == AS_ECLOSED || result == AS_EINVAL, "listen: %s", as_strerror(result));
		CHECK(info.state >= AS_RT_CONNECTING && info.state <= AS_RT_CLOSED, "state %d", info.state);
		break;
	case 2:
		as_realtime_route(realtime, "resp_1", next_random(seed) % 2);
		break;
	default:
		result = as_realtime_send(realtime, "{\"type\":\"response.create\"}", 26);
		CHECK(result == 0 || result == AS_ECLOSED, "send: %s", as_strerror(result));
	}
}

static void disturb_stream(as_stream *stream, uint32_t *seed)
{
	as_mark marks[4];
	int count = 0;
	switch (next_random(seed) % 4) {
	case 0:
		as_inject_flush(stream, marks, 4, &count);
		break;
	case 1:
		as_stream_pause(stream, (int)random_upto(seed, 3));
		break;
	default:
		as_stream_resume(stream, AS_CAPTURE | AS_INJECT);
	}
}

static void disturb(talker *t, uint32_t *seed)
{
	if (next_random(seed) % 4 == 0) {
		disturb_stream(t->stream, seed);
	} else if (t->streamer) {
		disturb_streamer(t->streamer, seed);
	} else if (t->realtime) {
		disturb_realtime(t->realtime, seed);
	}
}

static void disturb_somebody(uint32_t *seed)
{
	pthread_mutex_lock(&lock);
	talker *t = slots[next_random(seed) % SLOTS];
	t = t ? talker_ref(t) : NULL;
	pthread_mutex_unlock(&lock);
	if (t) {
		disturb(t, seed);
		talker_unref(t);
	}
}

/* ---- The application's thread: events of all Realtime connections -------------------------------------------------- */

static talker *owner_of(uint64_t tag, int over)
{
	pthread_mutex_lock(&lock);
	talker *t = conversations[tag % TAGS].owner;
	CHECK(t && conversations[tag % TAGS].tag == tag, "an event of nobody's");
	if (over) {
		conversations[tag % TAGS].owner = NULL;
	} else {
		talker_ref(t);
	}
	pthread_mutex_unlock(&lock);
	return t;
}

/* What the conversation would do, but for what it decides. */
static void deal_with(talker *t, const char *text)
{
	const char *id = strstr(text, "\"response_id\":\"");
	as_mark marks[4];
	int count = 0;
	if (strstr(text, "speech_started")) {
		CHECK(as_inject_flush(t->stream, marks, 4, &count) > 1, "flush");
	} else if (strstr(text, "transport.audio") && id && t->realtime) {
		char response[16] = "";
		sscanf(id + 15, "%15[^\"]", response);
		as_realtime_route(t->realtime, response, as_inject_generation(t->stream));
		atomic_fetch_add(&routed, 1);
	}
}

static void *deliver(void *arg)
{
	char text[65536];
	uint64_t tag;
	(void)arg;
	for (long n; (n = as_events_recv(queue, text, sizeof(text) - 1, 1000, &tag)) != AS_ECLOSED;) {
		if (n == 0) {
			continue;
		}
		CHECK(n > 0 && n < (long)sizeof(text), "an event of %ld bytes", n);
		text[n] = '\0';
		int over = strstr(text, "\"transport.closed\"") != NULL;
		talker *t = owner_of(tag, over);
		if (strstr(text, "\"transport.open\"")) {
			atomic_store(&t->open, 1);
			atomic_fetch_add(&opened, 1);
		}
		atomic_fetch_add(&closed, over);
		deal_with(t, text);
		talker_unref(t);
	}
	return NULL;
}

/* ---- Calls --------------------------------------------------------------------------------------------------------- */

static int any_open(talker **talkers, int count)
{
	int open = 0;
	for (int i = 0; i < count; i++) {
		open |= atomic_load(&talkers[i]->open);
	}
	return open;
}

/* However fast the machine is, on about every other call something comes as far as being open. */
static void host(as_stream *stream, talker **talkers, int count, uint32_t *seed)
{
	int16_t frame[FRAME];
	size_t patience = next_random(seed) % 2 ? 200 : 0;
	for (size_t ticks = random_upto(seed, 24); ticks > 0; ticks -= !patience || any_open(talkers, count)) {
		patience -= patience > 0;
		memset(frame, (int)next_random(seed), sizeof(frame));
		atomic_fetch_add(&heard, (long)as_host_capture(stream, frame, FRAME));
		atomic_fetch_add(&played, as_host_inject(stream, frame, FRAME) > 0);
		if (next_random(seed) % 3 == 0) {
			disturb_somebody(seed);
		}
		usleep(next_random(seed) % 2 ? 1000 : 100);
	}
}

static void end_call(as_stream *stream, talker **talkers, int count, uint32_t *seed)
{
	for (int i = 0; i < count; i++) {
		if (next_random(seed) % 3 == 0) {
			disturb(talkers[i], seed);
		}
	}
	if (next_random(seed) % 4 == 0) {
		usleep(3000);
	}
	as_stream_close(stream); /* a hangup: everything on it comes to its end by itself */
	for (int i = 0; i < count; i++) {
		if (talkers[i]->realtime) { /* as the application does once a call is over */
			as_realtime_close(talkers[i]->realtime, 1000, (int)(next_random(seed) % 2) * 20);
		}
		talker_unref(talkers[i]);
	}
	as_stream_unref(stream);
}

static void call(long number, uint32_t *seed)
{
	char uuid[32];
	const as_config config = {.rate_hz = 8000, .capture_ms = 500, .inject_max_ms = 5000};
	as_stream *stream = NULL;
	talker *talkers[TALKERS_MAX];
	int count = (int)random_upto(seed, TALKERS_MAX);
	snprintf(uuid, sizeof(uuid), "call-%ld", number);
	CHECK(as_stream_create(uuid, "main", &config, &stream) == 0, "stream");
	for (int i = 0; i < count; i++) {
		talkers[i] = start_talker(stream, seed);
	}
	host(stream, talkers, count, seed);
	end_call(stream, talkers, count, seed);
}

static void *work(void *arg)
{
	uint32_t seed = *(uint32_t *)arg;
	int mine = 0;
	for (long number; (number = atomic_fetch_sub(&rounds_left, 1)) > 0;) {
		call(number, &seed);
		if (++mine % STOP_EVERY == 0) {
			as_ws_stop();
		}
	}
	return NULL;
}

static void finish(pthread_t delivery)
{
	for (int i = 0; i < SLOTS; i++) {
		talker_unref(slots[i]);
	}
	as_ws_stop();
	for (int ms = 0; ms < 5000 && closed < realtimes; ms++) {
		usleep(1000);
	}
	as_events_end(queue);
	pthread_join(delivery, NULL);
	as_events_free(queue);
}

int main(void)
{
	const char *asked = getenv("STRESS_ROUNDS");
	pthread_t threads[THREADS];
	uint32_t seeds[THREADS];
	long rounds = asked ? atol(asked) : 3000 / SLOWED;
	CHECK(rounds > 0, "STRESS_ROUNDS=%s is no number of rounds", asked);
	atomic_store(&rounds_left, rounds);
	CHECK(as_events_new(&queue) == 0, "events");
	packed[0] = sound_file_make(sound_file_can(MPEG_LAYER_III) ? MPEG_LAYER_III : SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
								8000, 1, 8000);
	packed[1] = sound_file_make(SF_FORMAT_OGG | SF_FORMAT_OPUS, 16000, 1, 16000);
	ws_server *server = server_start(&(ws_server_options){.serve = serve});
	snprintf(urls[0], sizeof(urls[0]), "ws://127.0.0.1:%d/", server_port(server));
	snprintf(urls[1], sizeof(urls[1]), "ws://127.0.0.1:1/");
	pthread_t delivery = start(deliver, NULL);
	for (uint32_t i = 0; i < THREADS; i++) {
		seeds[i] = i + 1;
		threads[i] = start(work, &seeds[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	finish(delivery);
	server_stop(server);
	free(packed[0].data);
	free(packed[1].data);
	printf("%ld calls: %ld streamers (%ld refused), %ld events; %ld conversations; %ld opened, %ld responses routed; "
		   "%ld samples heard, %ld frames played\n",
		   rounds, streamers, refused, events, realtimes, opened, routed, heard, played);
	CHECK(finished == streamers - refused && stopped == finished,
		  "%ld streamers, %ld refused, %ld stopped, %ld finished", streamers, refused, stopped, finished);
	CHECK(closed == realtimes, "%ld conversations, %ld closed", realtimes, closed);
	CHECK(as_stream_list(NULL, NULL, 0) == 0, "streams are left");
	CHECK(opened > rounds / 4 && routed > 0 && played > 0 && heard > 0, "nothing has happened");
	return 0;
}
