/* ws_client.h - an actor for tests that notes what it is told, and does on its service thread what a test asks for. */
#ifndef AS_TESTS_WS_CLIENT_H
#define AS_TESTS_WS_CLIENT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

typedef struct client {
	ws_actor *actor;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	int starts, ticks, opens, closes, frees, messages, binary;
	size_t bytes; /* of all messages */
	char *last;   /* the last message */
	size_t last_bytes;
	ws_end end;
	char reason[256];
	int64_t closed_ns;
	/* set before they matter */
	int finish_on_close, hash_only;
	void (*on_message)(struct client *client, int binary, char *data, size_t n); /* on the service thread */
	void (*on_open)(struct client *client);
	uint64_t hash; /* FNV-1a over all messages */
} client;

client *client_new(void);
/* A client connected to a server's port; options->url may be NULL: ws:// or, with tls, wss://. Fails the test
 * otherwise. */
client *client_open(const ws_options *options);
void client_connect(client *c, const ws_options *options); /* asserts 0 */
int client_try_connect(client *c, const ws_options *options);
/* Connects, and waits for it to fail. */
client *client_fail(const ws_options *options, ws_why why);
/* Runs something on the service thread and waits for it. */
void client_call(client *c, void (*run)(client *c, void *arg), void *arg);
int client_send(client *c, int binary, const void *data, size_t n);
size_t client_unsent(client *c);
void client_disconnect(client *c, int code, const char *reason, int timeout_ms);
/* Each waits up to 10 s, and fails the test. client_wait(): until *value, a counter of the client's, is at least
 * that. */
void client_wait(client *c, const int *value, int least, const char *what);
void client_wait_open(client *c);
void client_wait_close(client *c, ws_why why, int code);
void client_wait_messages(client *c, int count);
void client_wait_free(client *c);
/* Finishes, gives the reference back, waits for on_free. */
void client_done(client *c);

#endif
