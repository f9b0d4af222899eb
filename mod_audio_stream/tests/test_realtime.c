/* test_realtime.c - native Realtime connections that share a stream: who is heard, and who hears. */
#define _GNU_SOURCE
#include "support.h"

#include "audio_stream_ws.h"
#include "base64.h"
#include "ws_server.h"

#define SAMPLES_MAX 32000 /* a sample's value is its position */
#define CHUNKS_MAX 4096

/* What a server has been sent of the caller's audio: runs of samples, each as its first one and its length. */
typedef struct ear {
	pthread_mutex_t lock;
	struct {
		int first, count;
	} chunks[CHUNKS_MAX];
	int count, samples;
} ear;

static void hear(ear *e, const char *text)
{
	static const char head[] = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";
	int16_t samples[32768];
	if (strncmp(text, head, sizeof(head) - 1)) {
		return;
	}
	const char *base64 = text + sizeof(head) - 1;
	long bytes = base64_decode(base64, strcspn(base64, "\""), (uint8_t *)samples);
	pthread_mutex_lock(&e->lock);
	e->chunks[e->count].first = samples[0];
	e->chunks[e->count++].count = (int)(bytes / 2);
	e->samples += (int)(bytes / 2);
	for (int i = 1; i < bytes / 2; i++) {
		if (samples[i] != samples[i - 1] + 1) {
			e->samples = -1000000; /* seen by who counts */
		}
	}
	pthread_mutex_unlock(&e->lock);
}

static int heard(ear *e)
{
	pthread_mutex_lock(&e->lock);
	int samples = e->samples;
	pthread_mutex_unlock(&e->lock);
	return samples;
}

static void listen_to(ws_peer *peer, void *arg)
{
	int opcode;
	size_t n;
	for (unsigned char *data; (data = peer_receive(peer, &opcode, &n));) {
		if (opcode == WS_OP_CLOSE) {
			peer_send(peer, opcode, data, n);
			return;
		}
		hear(arg, (char *)data);
	}
}

/* A connection, the server at its other end, and what that has heard. */
typedef struct side {
	ear ear;
	ws_server *server;
	as_realtime *realtime;
} side;

static const as_realtime_audio plain = {.in_encoding = AS_S16,
										.in_rate_hz = RATE,
										.out_encoding = AS_S16,
										.out_rate_hz = RATE,
										.chunk_ms = 20,
										.quiet_chunk_ms = 20};

static as_events *events;

static void wait_until(int (*is)(void *), void *arg, const char *what)
{
	for (int i = 0; i < 5000; i++) {
		if (is(arg)) {
			return;
		}
		sleep_ms(2);
	}
	fail_msg("waited in vain for %s", what);
}

static int is_open(void *arg)
{
	as_realtime_info info;
	as_realtime_get_info(arg, &info);
	return info.state == AS_RT_OPEN;
}

static int is_closed(void *arg)
{
	as_realtime_info info;
	as_realtime_get_info(arg, &info);
	return info.state == AS_RT_CLOSED;
}

static side *side_new(as_stream *stream)
{
	char url[64];
	side *s = calloc(1, sizeof(*s));
	pthread_mutex_init(&s->ear.lock, NULL);
	s->server = server_start(&(ws_server_options){.serve = listen_to, .arg = &s->ear});
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", server_port(s->server));
	const as_realtime_config config = {.url = url};
	assert_int_equal(as_realtime_new(&config, events, 1, &s->realtime), 0);
	wait_until(is_open, s->realtime, "the connection");
	assert_int_equal(as_realtime_attach(s->realtime, stream, &plain), 0);
	return s;
}

static void side_free(side *s)
{
	as_realtime_close(s->realtime, 1000, 0);
	wait_until(is_closed, s->realtime, "the end");
	as_realtime_unref(s->realtime);
	server_stop(s->server);
	pthread_mutex_destroy(&s->ear.lock);
	free(s);
}

static void capture(as_stream *stream, int first, int n)
{
	int16_t samples[4096];
	for (int i = 0; i < n; i++) {
		samples[i] = (int16_t)(first + i);
	}
	assert_int_equal(as_host_capture(stream, samples, (size_t)n), n);
}

static int all_heard_of[2];
static side *listeners[2];

static int is_all_heard(void *arg)
{
	return heard(&listeners[0]->ear) + heard(&listeners[1]->ear) >= *(int *)arg;
}

/* Every sample has been heard by one of the two, once. */
static void check_all_heard(int samples)
{
	static char seen[SAMPLES_MAX];
	memset(seen, 0, sizeof(seen));
	wait_until(is_all_heard, &samples, "the last sample");
	for (int i = 0; i < 2; i++) {
		ear *e = &listeners[i]->ear;
		for (int chunk = 0; chunk < e->count; chunk++) {
			for (int at = 0; at < e->chunks[chunk].count; at++) {
				assert_int_equal(seen[e->chunks[chunk].first + at]++, 0);
			}
		}
	}
	for (int i = 0; i < samples; i++) {
		assert_int_equal(seen[i], 1);
	}
}

static void test_another_connection_goes_on_with_the_next_sample(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	side *a = listeners[0] = side_new(stream), *b = listeners[1] = side_new(stream);
	assert_int_equal(as_realtime_listen(a->realtime), 0);
	capture(stream, 0, FRAME);
	all_heard_of[0] = FRAME;
	wait_until(is_all_heard, all_heard_of, "the first frame");
	as_realtime_unlisten(a->realtime);
	capture(stream, FRAME, FRAME);
	sleep_ms(20);
	assert_int_equal(heard(&a->ear), FRAME);
	assert_int_equal(as_realtime_listen(b->realtime), 0);
	capture(stream, 2 * FRAME, FRAME);
	check_all_heard(3 * FRAME);
	assert_int_equal(heard(&b->ear), 2 * FRAME);
	side_free(a); /* and the other one goes on */
	side *c = listeners[0] = side_new(stream);
	capture(stream, 3 * FRAME, FRAME);
	all_heard_of[0] = 3 * FRAME;
	wait_until(is_all_heard, all_heard_of, "the last frame");
	side_free(b);
	side_free(c);
	done(stream);
}

static _Atomic int captured;

static void *capture_all(void *arg)
{
	for (int at = 0; at < SAMPLES_MAX; at += FRAME) {
		capture(arg, at, FRAME);
		captured = at + FRAME;
		sleep_ms(1);
	}
	return NULL;
}

/* At any moment, while audio comes and is read. */
static void test_taking_turns(void **state)
{
	(void)state;
	pthread_t producer;
	uint32_t seed = 7;
	as_stream *stream = open_plain();
	int now = 0;
	captured = 0;
	listeners[0] = side_new(stream);
	listeners[1] = side_new(stream);
	assert_int_equal(as_realtime_listen(listeners[0]->realtime), 0);
	pthread_create(&producer, NULL, capture_all, stream);
	while (captured < SAMPLES_MAX) {
		const struct timespec moment = {.tv_nsec = 1000 * (long)(next_random(&seed) % 3000)};
		nanosleep(&moment, NULL);
		as_realtime_unlisten(listeners[now]->realtime);
		now = !now;
		assert_int_equal(as_realtime_listen(listeners[now]->realtime), 0);
	}
	pthread_join(producer, NULL);
	check_all_heard(SAMPLES_MAX);
	side_free(listeners[0]);
	side_free(listeners[1]);
	done(stream);
}

static void test_a_listen_on_its_way_is_void(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	side *a = listeners[0] = side_new(stream), *b = listeners[1] = side_new(stream);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(as_realtime_listen(a->realtime), 0);
		as_realtime_unlisten(a->realtime);
	}
	capture(stream, 0, FRAME);
	assert_int_equal(as_realtime_listen(b->realtime), 0);
	check_all_heard(FRAME);
	assert_int_equal(heard(&a->ear), 0);
	as_realtime_unlisten(b->realtime);
	assert_int_equal(as_realtime_listen(a->realtime), 0); /* it may listen again */
	capture(stream, FRAME, FRAME);
	check_all_heard(2 * FRAME);
	assert_int_equal(heard(&a->ear), FRAME);
	side_free(a);
	side_free(b);
	done(stream);
}

/* Not even to keep it short. */
static void test_one_that_has_been_told_not_to_listen_drops_nothing(void **state)
{
	(void)state;
	as_stream *stream = open_plain();
	side *a = side_new(stream);
	as_realtime_unlisten(a->realtime);
	for (int at = 0; at < 6 * RATE; at += FRAME) { /* more than uplink_max_ms */
		capture(stream, 0, FRAME);
	}
	sleep_ms(50);
	assert_int_equal(as_capture_ready(stream), 6 * RATE);
	side_free(a);
	done(stream);
}

static void test_what_cannot_be_joined(void **state)
{
	(void)state;
	as_stream *stream = open_plain(), *stereo = open_config((as_config){.rate_hz = RATE, .channels = 2});
	as_realtime_audio wrong = plain;
	side *a = side_new(stream);
	assert_int_equal(as_realtime_attach(a->realtime, stream, &plain), AS_EBUSY);
	wrong.quiet_chunk_ms = 10;
	assert_int_equal(as_realtime_attach(a->realtime, stream, &wrong), AS_EINVAL);
	assert_int_equal(as_realtime_attach(a->realtime, stereo, &plain), AS_EINVAL);
	side_free(a);
	done(stream);
	done(stereo);
}

/* ---- Servers that say too much ----------------------------------------------------------------------------------- */

#define FLOOD 200000

typedef struct flood {
	const char *format; /* of each message, which may have its number in it */
	int count;
	int pause_every; /* a millisecond's pause after so many; 0: none */
} flood;

/* Once the client has said something. */
static void send_flood(ws_peer *peer, void *arg)
{
	const flood *f = arg;
	char text[256];
	int opcode;
	size_t n;
	if (!peer_receive(peer, &opcode, &n)) {
		return;
	}
	for (int i = 0; i < f->count; i++) {
		int bytes = snprintf(text, sizeof(text), f->format, i, i);
		if (peer_send(peer, WS_OP_TEXT, text, (size_t)bytes)) {
			return;
		}
		if (f->pause_every && i % f->pause_every == 0) {
			peer_wait(peer, 1);
		}
	}
	peer_send(peer, WS_OP_TEXT, "{\"type\":\"done\"}", 15);
	peer_wait_gone(peer);
}

/* A connection of its own queue of events, to a server that floods it. */
typedef struct victim {
	as_events *events;
	as_realtime *realtime;
	as_stream *stream;
	ws_server *server;
} victim;

static victim victim_of(flood *f)
{
	victim v = {.stream = open_plain(), .server = server_start(&(ws_server_options){.serve = send_flood, .arg = f})};
	char url[64];
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", server_port(v.server));
	const as_realtime_config config = {.url = url};
	assert_int_equal(as_events_new(&v.events), 0);
	assert_int_equal(as_realtime_new(&config, v.events, 1, &v.realtime), 0);
	wait_until(is_open, v.realtime, "the connection");
	assert_int_equal(as_realtime_attach(v.realtime, v.stream, &plain), 0);
	assert_int_equal(as_realtime_send(v.realtime, "{}", 2), 0);
	return v;
}

static void victim_free(victim *v)
{
	as_realtime_close(v->realtime, 1000, 0);
	wait_until(is_closed, v->realtime, "the end");
	as_realtime_unref(v->realtime);
	server_stop(v->server);
	as_ws_stop();
	as_events_free(v->events);
	done(v->stream);
}

/* Takes what waits; returns its events, with their bytes in *bytes. */
static int take_all(victim *v, size_t *bytes)
{
	char text[1024];
	uint64_t tag;
	int count = 0;
	for (long n; (n = as_events_recv(v->events, text, sizeof(text), 0, &tag)) > 0; count++) {
		*bytes += (size_t)n;
	}
	return count;
}

/* An application that takes nothing: the connection ends for this reason, and this is the most that waits then. */
static void check_flood(const char *format, const char *reason, int most_events)
{
	flood f = {.format = format, .count = FLOOD};
	as_realtime_info info;
	size_t bytes = 0;
	victim v = victim_of(&f);
	wait_until(is_closed, v.realtime, "the end of a flood");
	as_realtime_get_info(v.realtime, &info);
	assert_non_null(strstr(info.reason, reason));
	assert_int_equal(info.why, AS_WHY_CLOSED);
	assert_in_range(take_all(&v, &bytes), 2, most_events);
	assert_true(bytes < 1 << 20);
	victim_free(&v);
}

static void test_a_flood_of_bad_base64_ends_the_connection(void **state)
{
	(void)state;
	check_flood("{\"type\":\"response.audio.delta\",\"response_id\":\"r\",\"item_id\":\"i\",\"delta\":\"?\"}",
				"could not be used: the server sent audio that is not base64", 20);
}

static void test_a_flood_of_what_is_no_event_ends_the_connection(void **state)
{
	(void)state;
	check_flood("nonsense %d", "could not be used: the server sent what is not an event", 20);
}

static void test_a_flood_of_new_items_ends_the_connection(void **state)
{
	(void)state;
	check_flood("{\"type\":\"response.audio.delta\",\"response_id\":\"r%d\",\"item_id\":\"i%d\",\"delta\":\"AAA=\"}",
				"faster than the application takes note", 10000);
}

/* One that is slow and takes its time, but takes them. */
static void test_an_application_that_is_slow_loses_nothing(void **state)
{
	(void)state;
	flood f = {.format = "{\"type\":\"response.audio.delta\",\"item_id\":\"i%d\",\"delta\":\"AAA=\"}",
			   .count = 2000,
			   .pause_every = 10};
	char text[1024], id[32];
	uint64_t tag;
	int items = 0;
	victim v = victim_of(&f);
	for (long n; (n = as_events_recv(v.events, text, sizeof(text) - 1, 10000, &tag)) > 0;) {
		text[n] = '\0';
		if (strstr(text, "\"done\"")) {
			break;
		}
		snprintf(id, sizeof(id), "\"i%d\"", items);
		items += strstr(text, "transport.audio") && strstr(text, id);
		const struct timespec moment = {.tv_nsec = 200000};
		nanosleep(&moment, NULL);
	}
	assert_int_equal(items, 2000);
	assert_true(is_open(v.realtime));
	victim_free(&v);
}

static void test_a_server_with_a_mistake_is_kept(void **state)
{
	(void)state;
	flood f = {.format = "{\"type\":\"response.audio.delta\",\"item_id\":\"i\",\"delta\":\"?\"}", .count = 900};
	size_t bytes = 0;
	as_realtime_info info;
	victim v = victim_of(&f);
	do {
		sleep_ms(2);
		as_realtime_get_info(v.realtime, &info);
	} while (info.deltas < 900);
	sleep_ms(10);
	assert_true(is_open(v.realtime));
	assert_in_range(take_all(&v, &bytes), 2, 10); /* open, a complaint or two, done */
	victim_free(&v);
}

static int make_events(void **state)
{
	(void)state;
	return as_events_new(&events);
}

static int free_events(void **state)
{
	(void)state;
	as_ws_stop();
	as_events_free(events);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_another_connection_goes_on_with_the_next_sample),
		cmocka_unit_test(test_taking_turns),
		cmocka_unit_test(test_a_listen_on_its_way_is_void),
		cmocka_unit_test(test_one_that_has_been_told_not_to_listen_drops_nothing),
		cmocka_unit_test(test_what_cannot_be_joined),
		cmocka_unit_test(test_a_flood_of_bad_base64_ends_the_connection),
		cmocka_unit_test(test_a_flood_of_what_is_no_event_ends_the_connection),
		cmocka_unit_test(test_a_flood_of_new_items_ends_the_connection),
		cmocka_unit_test(test_an_application_that_is_slow_loses_nothing),
		cmocka_unit_test(test_a_server_with_a_mistake_is_kept),
	};
	return cmocka_run_group_tests(tests, make_events, free_events);
}
