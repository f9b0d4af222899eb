/*
 * stress_loop.c - many threads starting, posting to, disconnecting and finishing actors, whose servers reset, refuse,
 * close and stall at any moment, while the service threads are stopped and started again.
 *
 * A round is one actor's life. STRESS_ROUNDS says how many there are; each thread's random numbers begin the same
 * every time. At the end everything that was begun must have ended, once.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "certs.h"
#include "loop.h"
#include "stress.h"
#include "ws_server.h"

#define THREADS 5
#define SLOTS 24
#define STOP_EVERY 400 /* rounds of one thread */

enum { CONNECT, SEND, DISCONNECT, DROP, FINISH, COMMANDS };

typedef struct subject {
	ws_actor *actor;
	uint32_t seed; /* the service thread's */
	int started, connected, finished;
} subject;

typedef struct command {
	int what;
	uint32_t random;
} command;

static _Atomic long created, freed, posted, ran, dropped, connects, closes, opens, messages, rounds_left;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ws_actor *slots[SLOTS]; /* a reference each */
static ws_server *servers[3];
static char urls[5][64];

/* ---- Servers: any misbehaviour, at random ------------------------------------------------------------------------ */

static uint32_t server_seed(void)
{
	static _Atomic uint32_t next = 77;
	return atomic_fetch_add(&next, 7919) | 1;
}

static void echo_some(ws_peer *peer, uint32_t *seed)
{
	int opcode;
	size_t n;
	for (uint32_t left = next_random(seed) % 6; left > 0; left--) {
		unsigned char *data = peer_receive(peer, &opcode, &n);
		if (!data || peer_send(peer, opcode, data, n)) {
			return;
		}
	}
}

static void misbehave(ws_peer *peer, void *arg)
{
	static char burst[40000];
	(void)arg;
	uint32_t seed = server_seed();
	switch (next_random(&seed) % 8) {
	case 0:
		peer_reset(peer);
		break;
	case 1:
		echo_some(peer, &seed);
		peer_reset(peer);
		break;
	case 2:
		peer_send_close(peer, 1000 + (int)(next_random(&seed) % 20), "so long");
		echo_some(peer, &seed);
		break;
	case 3:
		peer_write(peer, "\x82\x7e\x70\x00half of it", 14);
		break;
	case 4:
		peer_send(peer, WS_OP_BINARY, burst, next_random(&seed) % sizeof(burst));
		peer_send(peer, WS_OP_PING, "?", 1);
		echo_some(peer, &seed);
		break;
	case 5:
		peer_wait(peer, (int)(next_random(&seed) % 10));
		break;
	default:
		server_echo(peer, NULL);
	}
}

static void no_handshake(ws_peer *peer, void *arg)
{
	static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
	(void)arg;
	uint32_t seed = server_seed();
	char request[2048];
	switch (next_random(&seed) % 4) {
	case 0:
		peer_reset(peer);
		break;
	case 1:
		peer_read(peer, request, sizeof(request));
		peer_write(peer, answer, next_random(&seed) % sizeof(answer));
		break;
	case 2:
		peer_wait(peer, (int)(next_random(&seed) % 10));
		break;
	default:
		peer_read(peer, request, sizeof(request));
		peer_write(peer, answer, sizeof(answer) - 1);
	}
}

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

static void on_start(void *arg)
{
	subject *s = arg;
	CHECK(!s->started++, "started again");
}

static void on_tick(void *arg, int64_t now_ns)
{
	subject *s = arg;
	(void)now_ns;
	CHECK(s->started && !s->finished, "a tick for nobody");
	if (s->connected && next_random(&s->seed) % 4 == 0) {
		ws_send(s->actor, 1, "tick", 4);
	}
}

static void on_open(void *arg)
{
	subject *s = arg;
	CHECK(s->connected == 1 && !s->finished && ws_is_open(s->actor), "open");
	atomic_fetch_add(&opens, 1);
	if (next_random(&s->seed) % 8 == 0) {
		ws_disconnect(s->actor, 1000, "at once", (int)(next_random(&s->seed) % 20));
	}
}

static void on_message(void *arg, int binary, char *data, size_t n)
{
	subject *s = arg;
	(void)binary;
	CHECK(s->connected && !s->finished && data[n] == 0, "message");
	atomic_fetch_add(&messages, 1);
	switch (next_random(&s->seed) % 16) {
	case 0:
		ws_disconnect(s->actor, 1000, NULL, 0);
		break;
	case 1:
		s->finished = 1;
		ws_finish(s->actor);
		break;
	case 2:
		ws_send(s->actor, 0, data, n);
		break;
	}
}

static void connect_somewhere(subject *s)
{
	uint32_t choice = next_random(&s->seed) % 32;
	const ws_options options = {
		.url = urls[choice < 20   ? 0
					: choice < 26 ? 1
					: choice < 28 ? 2
					: choice < 30 ? 3
								  : 4],
		.allow_selfsigned = 1,
		.connect_timeout_ms = choice % 5 ? 1000 : 5,
		.ping_interval_ms = choice % 3 ? 0 : 1,
		.ping_timeout_ms = 20,
		.max_message_bytes = 30000,
		.max_unsent_bytes = 100000,
	};
	int result = ws_connect(s->actor, &options);
	CHECK(result == (s->connected ? AS_EBUSY : 0), "connect: %s", as_strerror(result));
	if (!result) {
		s->connected = 1;
		atomic_fetch_add(&connects, 1);
	}
}

static void on_close(void *arg, const ws_end *end)
{
	subject *s = arg;
	CHECK(s->connected == 1 && end->why >= WS_WHY_CLOSED && end->why <= WS_WHY_OPTIONS && end->reason, "close");
	CHECK(!ws_is_open(s->actor) && ws_unsent(s->actor) == 0, "closed, and yet open");
	s->connected = 0;
	atomic_fetch_add(&closes, 1);
	if (!s->finished && next_random(&s->seed) % 4 == 0) {
		int result = ws_connect(s->actor, &(ws_options){.url = urls[0]});
		s->connected = result == 0; /* not while the threads are being stopped */
		atomic_fetch_add(&connects, s->connected);
	}
}

static void on_free(void *arg)
{
	subject *s = arg;
	CHECK(s->started == 1 && !s->connected, "freed too soon");
	atomic_fetch_add(&freed, 1);
	free(s);
}

static void run_command(void *arg, void *message)
{
	static char data[20000];
	subject *s = arg;
	command *c = message;
	CHECK(s->started && !s->finished, "a post to nobody");
	atomic_fetch_add(&ran, 1);
	switch (c->what) {
	case CONNECT:
		connect_somewhere(s);
		break;
	case SEND:
		ws_send(s->actor, (int)c->random % 2, data, c->random % sizeof(data));
		break;
	case DISCONNECT:
		ws_disconnect(s->actor, 1000 + (int)(c->random % 10), "bye", (int)(c->random % 30));
		break;
	case DROP:
		ws_disconnect(s->actor, 1000, "", 0);
		break;
	default:
		s->finished = 1;
		ws_finish(s->actor);
	}
	free(c);
}

static void drop_command(void *message)
{
	atomic_fetch_add(&dropped, 1);
	free(message);
}

/* ---- Any thread -------------------------------------------------------------------------------------------------- */

static void order(ws_actor *actor, int what, uint32_t random)
{
	command *c = allocate(sizeof(*c));
	*c = (command){what, random};
	atomic_fetch_add(&posted, 1);
	CHECK(ws_post(actor, run_command, c, drop_command) == 0, "post");
}

static ws_actor *new_actor(uint32_t *seed)
{
	static const ws_callbacks callbacks = {on_start, on_tick, on_open, on_message, on_close, on_free};
	subject *s = allocate(sizeof(*s));
	s->seed = next_random(seed) | 1;
	/* on_start may run before ws_actor_new() returns, but nothing there needs the actor; what does is posted after. */
	CHECK(ws_actor_new(&callbacks, s, &s->actor) == 0, "actor");
	atomic_fetch_add(&created, 1);
	return s->actor;
}

/* Puts a new actor into a slot, and finishes, or just forgets, the one that was there. */
static void replace(uint32_t *seed)
{
	ws_actor *actor = new_actor(seed);
	order(actor, CONNECT, 0);
	pthread_mutex_lock(&lock);
	ws_actor **slot = &slots[next_random(seed) % SLOTS], *old = *slot;
	*slot = actor;
	pthread_mutex_unlock(&lock);
	if (old) {
		order(old, FINISH, 0);
		ws_actor_unref(old);
	}
}

static void disturb(uint32_t *seed)
{
	pthread_mutex_lock(&lock);
	ws_actor *actor = slots[next_random(seed) % SLOTS];
	actor = actor ? ws_actor_ref(actor) : NULL;
	pthread_mutex_unlock(&lock);
	if (actor) {
		order(actor, (int)(next_random(seed) % (COMMANDS + 4)) % COMMANDS, next_random(seed));
		ws_last_received_ns(actor);
		ws_actor_unref(actor);
	}
}

/* However fast the machine is, about as many connections as there are rounds come as far as being open. */
static void let_some_open(uint32_t *seed)
{
	long before = atomic_load(&opens);
	for (uint32_t moments = next_random(seed) % 64; moments > 0 && atomic_load(&opens) == before; moments--) {
		usleep(200);
	}
}

static void *work(void *arg)
{
	uint32_t seed = *(uint32_t *)arg;
	int mine = 0;
	while (atomic_fetch_sub(&rounds_left, 1) > 0) {
		replace(&seed);
		for (uint32_t i = next_random(&seed) % 4; i > 0; i--) {
			disturb(&seed);
		}
		let_some_open(&seed);
		if (++mine % STOP_EVERY == 0) {
			ws_loops_stop();
		}
	}
	return NULL;
}

static void start_servers(char *directory)
{
	char cert[64];
	snprintf(cert, sizeof(cert), "%s/self", directory);
	CHECK(mkdtemp(directory), "no directory");
	snprintf(cert, sizeof(cert), "%s/self", directory);
	CHECK(cert_make(&(cert_spec){cert, NULL, "DNS:localhost,IP:127.0.0.1", -1000, 100000}) == 0, "certificate");
	servers[0] = server_start(&(ws_server_options){.serve = misbehave});
	servers[1] = server_start(&(ws_server_options){.raw = 1, .serve = no_handshake});
	servers[2] = server_start(&(ws_server_options){.cert = cert, .serve = misbehave});
	snprintf(urls[0], sizeof(urls[0]), "ws://127.0.0.1:%d/", server_port(servers[0]));
	snprintf(urls[1], sizeof(urls[1]), "ws://127.0.0.1:%d/", server_port(servers[1]));
	snprintf(urls[2], sizeof(urls[2]), "wss://127.0.0.1:%d/", server_port(servers[2]));
	snprintf(urls[3], sizeof(urls[3]), "ws://localhost:%d/", server_port(servers[0]));
	snprintf(urls[4], sizeof(urls[4]), "ws://127.0.0.1:1/");
	snprintf(cert, sizeof(cert), "%s/self.pem", directory);
	unlink(cert);
	snprintf(cert, sizeof(cert), "%s/self.key", directory);
	unlink(cert);
	rmdir(directory);
}

int main(void)
{
	const char *asked = getenv("STRESS_ROUNDS");
	char directory[] = "/tmp/as-stress-XXXXXX";
	pthread_t threads[THREADS];
	uint32_t seeds[THREADS];
	long rounds = asked ? atol(asked) : 3000 / SLOWED;
	CHECK(rounds > 0, "STRESS_ROUNDS=%s is no number of rounds", asked);
	atomic_store(&rounds_left, rounds);
	start_servers(directory);
	for (uint32_t i = 0; i < THREADS; i++) {
		seeds[i] = i + 1;
		threads[i] = start(work, &seeds[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	ws_loops_stop();
	for (int i = 0; i < SLOTS; i++) {
		ws_actor_unref(slots[i]);
	}
	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++) {
		server_stop(servers[i]);
	}
	printf("%ld rounds: %ld connects, %ld opened, %ld messages, %ld posts ran, %ld dropped\n", rounds, connects, opens,
		   messages, ran, dropped);
	CHECK(created == rounds && freed == created, "%ld actors, %ld freed", created, freed);
	CHECK(connects == closes, "%ld connects, %ld closes", connects, closes);
	CHECK(posted == ran + dropped, "%ld posts, %ld ran, %ld dropped", posted, ran, dropped);
	CHECK(opens > rounds / 20 && messages > 0 && dropped > 0, "nothing has happened");
	return 0;
}
