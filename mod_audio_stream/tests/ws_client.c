/* ws_client.c - an actor for tests. */
#define _GNU_SOURCE
#include "ws_client.h"
#include "support.h"

#define WAIT_S 10

static void changed(client *c)
{
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

static void on_start(void *arg)
{
	client *c = arg;
	pthread_mutex_lock(&c->lock);
	c->starts++;
	changed(c);
}

static void on_tick(void *arg, int64_t now_ns)
{
	client *c = arg;
	(void)now_ns;
	pthread_mutex_lock(&c->lock);
	c->ticks++;
	pthread_mutex_unlock(&c->lock);
}

static void on_open(void *arg)
{
	client *c = arg;
	pthread_mutex_lock(&c->lock);
	c->opens++;
	changed(c);
	if (c->on_open) {
		c->on_open(c);
	}
}

static void on_message(void *arg, int binary, char *data, size_t n)
{
	client *c = arg;
	pthread_mutex_lock(&c->lock);
	assert_int_equal(data[n], 0);
	for (size_t i = 0; i < n; i++) {
		c->hash = (c->hash ^ (uint8_t)data[i]) * 1099511628211u;
	}
	c->messages++;
	c->binary = binary;
	c->bytes += n;
	if (!c->hash_only) {
		free(c->last);
		c->last = malloc(n + 1);
		memcpy(c->last, data, n + 1);
		c->last_bytes = n;
	}
	changed(c);
	if (c->on_message) {
		c->on_message(c, binary, data, n);
	}
}

static void on_close(void *arg, const ws_end *end)
{
	client *c = arg;
	pthread_mutex_lock(&c->lock);
	c->closes++;
	c->end = *end;
	c->closed_ns = as_now_ns();
	snprintf(c->reason, sizeof(c->reason), "%s", end->reason);
	c->end.reason = c->reason;
	int finish = c->finish_on_close;
	changed(c);
	if (finish) {
		ws_finish(c->actor);
	}
}

static void on_free(void *arg)
{
	client *c = arg;
	pthread_mutex_lock(&c->lock);
	c->frees++;
	changed(c);
}

/* ---- The test's thread ------------------------------------------------------------------------------------------- */

client *client_new(void)
{
	static const ws_callbacks callbacks = {on_start, on_tick, on_open, on_message, on_close, on_free};
	client *c = calloc(1, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->hash = 14695981039346656037u;
	assert_int_equal(ws_actor_new(&callbacks, c, &c->actor), 0);
	return c;
}

typedef struct call {
	client *c;
	void (*run)(client *c, void *arg);
	void *arg;
	int done;
} call;

static void run_call(void *arg, void *message)
{
	client *c = arg;
	call *asked = message;
	asked->run(c, asked->arg);
	pthread_mutex_lock(&c->lock);
	asked->done = 1;
	changed(c);
}

void client_wait(client *c, const int *value, int least, const char *what)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&c->lock);
	while (*value < least && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0) {
	}
	int enough = *value >= least;
	if (!enough) {
		fprintf(stderr, "waited in vain for %s: opened %d, messages %d, closed %d (%s)\n", what, c->opens, c->messages,
				c->closes, c->reason);
	}
	pthread_mutex_unlock(&c->lock);
	assert_true(enough);
}

void client_call(client *c, void (*run)(client *c, void *arg), void *arg)
{
	call asked = {c, run, arg, 0};
	assert_int_equal(ws_post(c->actor, run_call, &asked, NULL), 0);
	client_wait(c, &asked.done, 1, "a call");
}

typedef struct connecting {
	const ws_options *options;
	int result;
} connecting;

static void do_connect(client *c, void *arg)
{
	connecting *asked = arg;
	asked->result = ws_connect(c->actor, asked->options);
}

int client_try_connect(client *c, const ws_options *options)
{
	connecting asked = {options, 0};
	client_call(c, do_connect, &asked);
	return asked.result;
}

void client_connect(client *c, const ws_options *options)
{
	assert_int_equal(client_try_connect(c, options), 0);
}

client *client_open(const ws_options *options)
{
	client *c = client_new();
	client_connect(c, options);
	client_wait_open(c);
	return c;
}

client *client_fail(const ws_options *options, ws_why why)
{
	client *c = client_new();
	client_connect(c, options);
	client_wait_close(c, why, WS_ABNORMAL);
	assert_int_equal(c->opens, 0);
	assert_int_equal(c->end.opened, 0);
	return c;
}

typedef struct sending {
	int binary, result;
	const void *data;
	size_t n;
} sending;

static void do_send(client *c, void *arg)
{
	sending *asked = arg;
	asked->result = ws_send(c->actor, asked->binary, asked->data, asked->n);
}

int client_send(client *c, int binary, const void *data, size_t n)
{
	sending asked = {binary, 0, data, n};
	client_call(c, do_send, &asked);
	return asked.result;
}

static void do_unsent(client *c, void *arg)
{
	*(size_t *)arg = ws_unsent(c->actor);
}

size_t client_unsent(client *c)
{
	size_t unsent;
	client_call(c, do_unsent, &unsent);
	return unsent;
}

typedef struct leaving {
	int code, timeout_ms;
	const char *reason;
} leaving;

static void do_disconnect(client *c, void *arg)
{
	leaving *asked = arg;
	int closes = c->closes;
	ws_disconnect(c->actor, asked->code, asked->reason, asked->timeout_ms);
	assert_int_equal(c->closes, closes); /* never from inside */
	assert_false(ws_is_open(c->actor));
}

void client_disconnect(client *c, int code, const char *reason, int timeout_ms)
{
	leaving asked = {code, timeout_ms, reason};
	client_call(c, do_disconnect, &asked);
}

void client_wait_open(client *c)
{
	client_wait(c, &c->opens, 1, "on_open");
}

void client_wait_close(client *c, ws_why why, int code)
{
	client_wait(c, &c->closes, 1, "on_close");
	if (c->end.why != why || c->end.code != code) {
		fprintf(stderr, "closed with why %d, code %d, HTTP %d: %s\n", c->end.why, c->end.code, c->end.http_status,
				c->reason);
	}
	assert_int_equal(c->end.why, why);
	assert_int_equal(c->end.code, code);
}

void client_wait_messages(client *c, int count)
{
	client_wait(c, &c->messages, count, "messages");
}

void client_wait_free(client *c)
{
	client_wait(c, &c->frees, 1, "on_free");
	pthread_mutex_lock(&c->lock); /* on_free has let go of it */
	pthread_mutex_unlock(&c->lock);
	free(c->last);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	free(c);
}

static void do_finish(void *arg, void *message)
{
	(void)message;
	client *c = arg;
	ws_finish(c->actor);
}

void client_done(client *c)
{
	ws_post(c->actor, do_finish, NULL, NULL);
	ws_actor_unref(c->actor);
	client_wait_free(c);
}
