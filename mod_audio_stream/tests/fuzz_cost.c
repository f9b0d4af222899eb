/*
 * fuzz_cost.c - libFuzzer target: nothing a server sends costs more than linear time.
 *
 *     input     a letter for who reads it (subjects, below), then HEAD ~ UNIT ~ TAIL
 *     fed       HEAD, UNIT n times, TAIL; each # of a unit is its number, so that units may differ
 *
 * n grows until reading takes a measurable time, and four times more, so that what a reader costs before it reads counts for
 * little. Then four times the units may take four times as long, with something to spare; a cost that grows with the square
 * takes sixteen times as long. What looks so is measured again several times, and the least counts: other programs only ever
 * make things slower.
 */
#define _GNU_SOURCE
#include <time.h>

#include "audio_stream.h"
#include "base64.h"
#include "openai_talk.h"
#include "oracle.h"
#include "realtime_audio.h"
#include "utf8.h"
#include "wire.h"

#define UNITS_LEAST 16
#define TEXT_MAX ((size_t)4 << 20) /* fed at most */
#define MEASURABLE_NS 1000000
#define QUICK_NS 16000000 /* for up to 4 MB is the memory's own speed, which falls where a text outgrows the caches */
#define TOO_MUCH 7        /* times the time for four times the units: half way, in factors, between 4 and 16 */
#define AGAIN 5
#define UNIT_MAX 4096

typedef void (*reader)(char *text, size_t n);

/* ---- Who reads --------------------------------------------------------------------------------------------------- */

static void read_wire_json(char *text, size_t n)
{
	wire_message message;
	char error[256];
	if (!wire_json_parse(text, n, 4 << 20, &message, error, sizeof(error))) {
		wire_message_free(&message);
	}
}

static void read_wire_binary(char *text, size_t n)
{
	wire_message message;
	char error[256];
	if (!wire_binary_parse(text, n, 4 << 20, &message, error, sizeof(error))) {
		wire_message_free(&message);
	}
}

static void read_base64(char *text, size_t n)
{
	base64_decode(text, n, (uint8_t *)text);
}

static void read_words(char *text, size_t n)
{
	(void)n;
	free(as_utf8_clean(text));
}

static as_stream *open_stream(void)
{
	static int number;
	as_config config = {.rate_hz = 8000, .wire_encoding = AS_PCMU};
	char uuid[32];
	as_stream *stream = NULL;
	snprintf(uuid, sizeof(uuid), "cost-%d", number++);
	expect(!as_stream_create(uuid, "main", &config, &stream), "no stream");
	return stream;
}

static void close_stream(as_stream *stream)
{
	as_stream_close(stream);
	as_stream_unref(stream);
}

/* Gives each line to a message handler; a line "tick" lets the caller hear 20 ms. */
static void each_line(char *text, size_t n, as_stream *stream, void (*message)(void *arg, char *text, size_t n),
					  void *arg)
{
	int16_t frame[160];
	for (char *line = text, *end; line < text + n; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + n - line));
		end = end ? end : text + n;
		*end = '\0';
		if (!strcmp(line, "tick")) {
			as_host_inject(stream, frame, 160);
		} else {
			message(arg, line, (size_t)(end - line));
		}
	}
}

static void nothing_sent(void *arg, const char *text, size_t n)
{
	(void)arg, (void)text, (void)n;
}

static void nothing_told(void *arg, const char *name, json_t *body)
{
	(void)arg, (void)name;
	free(json_dumps(body, JSON_COMPACT));
}

static void nothing_finished(void *arg, const char *reason)
{
	(void)arg, (void)reason;
}

static void talk_message(void *arg, char *text, size_t n)
{
	openai_talk_message(arg, text, n);
}

/* A conversation of `openai_start`: a message on each line. */
static void read_talk(char *text, size_t n)
{
	static const openai_outlets outlets = {NULL, nothing_sent, nothing_told, nothing_finished};
	static const openai_request request = {.model = "m", .voice = "v", .instructions = "i", .vad_threshold = 0.5};
	char error[256];
	openai_talk *talk = NULL;
	as_stream *stream = open_stream();
	expect(!openai_talk_new(stream, &request, &outlets, error, sizeof(error), &talk), "no conversation");
	each_line(text, n, stream, talk_message, talk);
	openai_talk_free(talk);
	close_stream(stream);
}

typedef struct native {
	rt_audio audio;
	int hearing;
} native;

/* As realtime.c does, and, for `route.drop` and `route.play`, as the application does. */
static void native_message(void *arg, char *text, size_t n)
{
	native *one = arg;
	rt_message message;
	if (rt_parse(text, n, &message)) {
		return;
	}
	rt_audio_event(&one->audio, &message);
	if (message.kind == RT_AUDIO_DELTA) {
		rt_audio_delta(&one->audio, &message, one->hearing, as_now_ns());
	} else if (message.kind == RT_AUDIO_DONE) {
		rt_audio_done(&one->audio, message.item_id);
	} else if (message.kind == RT_RESPONSE_CREATED) {
		rt_audio_response(&one->audio, message.response_id, one->hearing);
	} else if (message.kind == RT_SPEECH_STARTED || message.kind == RT_SPEECH_STOPPED) {
		one->hearing = message.kind == RT_SPEECH_STARTED;
	} else if (!strcmp(message.type, "route.play")) {
		rt_audio_route(&one->audio, message.response_id, as_inject_generation(one->audio.stream));
	} else if (!strcmp(message.type, "route.drop")) {
		rt_audio_route(&one->audio, message.response_id, 0);
	} else if (!strcmp(message.type, "flush")) {
		as_inject_flush(one->audio.stream, NULL, 0, NULL);
	}
}

/* A native conversation's audio: a message on each line. */
static void read_native(char *text, size_t n)
{
	static const as_realtime_audio plain = {AS_S16, 8000, AS_PCMU, 8000, 20, 20, 0};
	native *one = calloc(1, sizeof(*one));
	as_stream *stream = open_stream();
	rt_audio_init(&one->audio);
	expect(!rt_audio_attach(&one->audio, stream, &plain, 1000), "not attached");
	each_line(text, n, stream, native_message, one);
	rt_audio_free(&one->audio);
	free(one);
	close_stream(stream);
}

static const struct {
	char letter;
	reader read;
} subjects[] = {
	{'j', read_wire_json}, {'b', read_wire_binary}, {'t', read_talk},
	{'n', read_native},    {'6', read_base64},      {'w', read_words},
};

static reader reader_for(char letter)
{
	for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
		if (subjects[i].letter == letter) {
			return subjects[i].read;
		}
	}
	return NULL;
}

/* ---- What it costs ----------------------------------------------------------------------------------------------- */

typedef struct part {
	const char *at;
	size_t n;
} part;

typedef struct pattern {
	reader read;
	part head, unit, tail;
} pattern;

/* Up to the next "~", which is passed; or all the rest. */
static part take(const char **at, const char *end)
{
	const char *tilde = memchr(*at, '~', (size_t)(end - *at));
	part taken = {*at, (size_t)((tilde ? tilde : end) - *at)};
	*at = tilde ? tilde + 1 : end;
	return taken;
}

static char *add(char *at, part what, size_t number)
{
	char digits[16];
	for (size_t i = 0; i < what.n; i++) {
		if (what.at[i] == '#') {
			snprintf(digits, sizeof(digits), "%08zu", number);
			at = mempcpy(at, digits, 8);
		} else {
			*at++ = what.at[i];
		}
	}
	return at;
}

static size_t room_of(const pattern *p, size_t units)
{
	return 8 * (p->head.n + p->tail.n) +
		   units * (p->unit.n + 7 * (size_t)(memchr(p->unit.at, '#', p->unit.n) ? p->unit.n : 0)) + 1;
}

static int64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t cost_of(const pattern *p, size_t units)
{
	char *text = malloc(room_of(p, units)), *at = add(text, p->head, 0);
	for (size_t i = 0; i < units; i++) {
		at = add(at, p->unit, i);
	}
	at = add(at, p->tail, units);
	*at = '\0';
	int64_t begun_ns = cpu_ns();
	p->read(text, (size_t)(at - text));
	int64_t ns = cpu_ns() - begun_ns;
	free(text);
	return ns;
}

static int64_t least_cost_of(const pattern *p, size_t units, int times)
{
	int64_t least_ns = INT64_MAX;
	while (times-- > 0) {
		int64_t ns = cost_of(p, units);
		least_ns = ns < least_ns ? ns : least_ns;
	}
	return least_ns;
}

static int is_too_much(const pattern *p, size_t units, int times)
{
	int64_t ns = least_cost_of(p, units, times), more_ns = least_cost_of(p, 4 * units, times);
	if (more_ns <= TOO_MUCH * ns || more_ns < QUICK_NS) {
		return 0;
	}
	fprintf(stderr, "%zu units cost %.2f ms, four times as many %.2f ms\n", units, (double)ns / 1e6,
			(double)more_ns / 1e6);
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *at = (const char *)data + 1, *end = (const char *)data + n;
	pattern p = {.read = n ? reader_for((char)*data) : NULL};
	if (!p.read) {
		return 0;
	}
	p.head = take(&at, end);
	p.unit = take(&at, end);
	p.tail = take(&at, end);
	if (!p.unit.n || n > UNIT_MAX) {
		return 0;
	}
	size_t units = UNITS_LEAST;
	while (room_of(&p, 16 * units) < TEXT_MAX && least_cost_of(&p, units, 2) < MEASURABLE_NS) {
		units *= 2;
	}
	expect(!is_too_much(&p, 4 * units, 1) || !is_too_much(&p, 4 * units, AGAIN),
		   "the cost grows faster than what is sent");
	return 0;
}
