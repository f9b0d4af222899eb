/*
 * loop.c - the service threads: how they start, what wakes them, how they end; and the actors that live on them.
 *
 * A thread serves one lws context. Two descriptors in it are ours: an eventfd, by which other threads say that there is
 * something in the inbox, and a timer that ticks while there are actors. lws's callbacks only note that something is due;
 * ticks, letters and whatever may end an actor are done between two rounds of lws, when none of its callbacks is running.
 *
 * The inbox is a stack that others push to and the thread takes as a whole. Whoever finds it empty wakes the thread. When
 * the thread ends it leaves CLOSED in its place: a letter is either taken or comes back to its sender.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "audio_stream_ws.h"
#include "loop_internal.h"

#define STACK_BYTES (2 * 1024 * 1024) /* FreeSWITCH's default for threads is too small for OpenSSL and callbacks */
#define SPARE_BYTES ((size_t)262144)  /* a larger buffer is not kept for the next message */
#define DESCRIPTORS_MAX 4096          /* of one thread; lws would take memory for all that the process may open */
#define NO_TIMEOUT_S 86400            /* lws is not to give up by itself: connection.c does that */
#define EXIT_WAIT_S 1

typedef struct ws_post_letter {
	ws_letter letter;
	ws_actor *actor; /* a reference */
	void (*run)(void *arg, void *message);
	void (*drop)(void *message);
	void *message;
} ws_post_letter;

struct ws_loop {
	atomic_int refs;
	_Atomic(ws_letter *) inbox; /* publishes letters, newest first; CLOSED: the thread has ended */
	atomic_int stop;            /* STOP_* below; publishes nothing else */
	atomic_int load;            /* actors that have been given to it */
	int wake_fd;
	pthread_t thread;
	struct lws_context *context; /* the thread's, while it runs */
	struct lws_vhost *vhost;

	/* the service thread's */
	struct lws *timer;
	int timer_fd, ticking, tick_due;
	ws_actor *actors, *due;
	char *spare;
	size_t spare_room;
};

enum { STOP_NOT, STOP_POLITELY, STOP_EXITING };

static ws_letter closed_inbox;
#define CLOSED (&closed_inbox)

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;  /* what follows */
static pthread_mutex_t stopping = PTHREAD_MUTEX_INITIALIZER; /* one ws_loops_stop() at a time; before control */
static ws_loop *loops[WS_THREADS_MAX];
static int loop_count, thread_setting = WS_THREADS_DEFAULT, exit_handled;
static pid_t owner; /* the process that has the threads: a forked one has not */

static _Thread_local ws_loop *current; /* on a service thread: its loop */

/* ---- Any thread: letters ----------------------------------------------------------------------------------------- */

ws_loop *ws_loop_ref(ws_loop *loop)
{
	atomic_fetch_add(&loop->refs, 1);
	return loop;
}

void ws_loop_unref(ws_loop *loop)
{
	if (loop && atomic_fetch_sub(&loop->refs, 1) == 1) {
		if (loop->wake_fd >= 0) {
			close(loop->wake_fd);
		}
		free(loop->spare);
		free(loop);
	}
}

static void wake(ws_loop *loop)
{
	const uint64_t one = 1;
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

int ws_loop_push(ws_loop *loop, ws_letter *letter)
{
	ws_letter *top = atomic_load(&loop->inbox);
	ws_loop_ref(loop); /* what the letter is about may have held the last one, and may be gone before we wake */
	do {
		letter->next = top;
	} while (top != CLOSED && !atomic_compare_exchange_weak(&loop->inbox, &top, letter));
	if (!top && loop != current) {
		wake(loop);
	}
	ws_loop_unref(loop);
	return top == CLOSED ? AS_ECLOSED : 0;
}

/* ---- Service thread: its rounds ---------------------------------------------------------------------------------- */

struct lws_context *ws_loop_context(ws_loop *loop)
{
	return loop->context;
}

struct lws_vhost *ws_loop_vhost(ws_loop *loop)
{
	return loop->vhost;
}

char *ws_loop_take_buffer(ws_loop *loop, size_t *room)
{
	char *buffer = loop->spare;
	*room = buffer ? loop->spare_room : 0;
	loop->spare = NULL;
	return buffer;
}

void ws_loop_give_buffer(ws_loop *loop, char *buffer, size_t room)
{
	if (loop->spare || room > SPARE_BYTES) {
		free(buffer);
		return;
	}
	loop->spare = buffer;
	loop->spare_room = room;
}

void ws_actor_due(ws_actor *actor)
{
	if (!actor->due) {
		actor->due = 1;
		actor->next_due = actor->loop->due;
		actor->loop->due = actor;
	}
}

/* The timer runs while there is somebody to tick for. */
static void set_timer(ws_loop *loop, int on)
{
	const struct timespec period = {.tv_nsec = on ? WS_TICK_MS * 1000000L : 0};
	const struct itimerspec spec = {.it_interval = period, .it_value = period};
	if (loop->ticking != on) {
		timerfd_settime(loop->timer_fd, 0, &spec, NULL);
		loop->ticking = on;
	}
}

/* Delivers letters in the order of their posting. */
static void deliver_all(ws_letter *newest)
{
	ws_letter *oldest = NULL;
	while (newest) {
		ws_letter *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		ws_letter *next = oldest->next;
		oldest->deliver(oldest);
		oldest = next;
	}
}

static void reap(ws_actor *actor)
{
	ws_loop *loop = actor->loop;
	*(actor->previous ? &actor->previous->next : &loop->actors) = actor->next;
	if (actor->next) {
		actor->next->previous = actor->previous;
	}
	atomic_fetch_sub(&loop->load, 1);
	set_timer(loop, loop->actors != NULL);
	ws_actor_unref(actor);
}

/* One thing for each actor that has something due; what comes up meanwhile is for the next round. */
static void settle(ws_loop *loop)
{
	ws_actor *actor = loop->due;
	loop->due = NULL;
	while (actor) {
		ws_actor *next = actor->next_due;
		actor->due = 0;
		conn_settle(actor);
		if (actor->finished && !actor->conn && !actor->due) {
			reap(actor);
		}
		actor = next;
	}
}

static void tick(ws_loop *loop)
{
	int64_t now = as_now_ns();
	for (ws_actor *actor = loop->actors; actor; actor = actor->next) {
		if (actor->conn && now >= actor->conn->alarm_ns) {
			conn_alarm(actor->conn, now);
		}
		if (actor->callbacks.on_tick && !actor->finished) {
			actor->callbacks.on_tick(actor->arg, now);
		}
	}
}

/* lws's callback for our two descriptors and for everybody's connections. */
static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	uint64_t count;
	if (reason != LWS_CALLBACK_RAW_RX_FILE) {
		return conn_callback(wsi, reason, user, in, n);
	}
	if (read(lws_get_socket_fd(wsi), &count, sizeof(count)) > 0 && wsi == current->timer) {
		current->tick_due = 1;
	}
	return 0;
}

static void serve(ws_loop *loop)
{
	while (atomic_load(&loop->stop) == STOP_NOT) {
		lws_service(loop->context, loop->due || atomic_load(&loop->inbox) ? -1 : 0);
		if (loop->tick_due) {
			loop->tick_due = 0;
			tick(loop);
		}
		deliver_all(atomic_exchange(&loop->inbox, NULL));
		settle(loop);
	}
}

static void finish_all(ws_loop *loop)
{
	for (ws_actor *actor = loop->actors; actor; actor = actor->next) {
		ws_finish(actor);
	}
	while (loop->due) {
		settle(loop);
	}
}

/* Whoever comes in time is still served, if only to be told that it is over. */
static void end(ws_loop *loop)
{
	finish_all(loop);
	deliver_all(atomic_exchange(&loop->inbox, CLOSED));
	finish_all(loop);
}

static void *run(void *arg)
{
	ws_loop *loop = arg;
	current = loop;
	serve(loop);
	if (atomic_load(&loop->stop) == STOP_POLITELY) {
		end(loop);
	}
	return NULL;
}

/* ---- Starting: under control ------------------------------------------------------------------------------------- */

static const struct lws_protocols protocols[] = {
	{.name = WS_PROTOCOL_NAME, .callback = callback, .rx_buffer_size = WS_RECEIVE_BUFFER, .tx_packet_size = 65536},
	{0},
};

static const struct lws_extension extensions[] = {
	{WS_DEFLATE_NAME, conn_extension, WS_DEFLATE_OFFER},
	{0},
};

/* lws is to have OpenSSL's context from us, and not to touch OpenSSL otherwise: with the option for the lws context too it
 * would number its data in SSL objects anew for each thread, under the hands of the others. */
static struct lws_vhost *make_vhost(struct lws_context *context)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.protocols = protocols,
		.extensions = extensions,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
		.provided_client_ssl_ctx = ws_tls_context(),
		.http_proxy_address = "", /* not what the environment says */
		.timeout_secs = NO_TIMEOUT_S,
		.connect_timeout_secs = NO_TIMEOUT_S,
	};
	return info.provided_client_ssl_ctx ? lws_create_vhost(context, &info) : NULL;
}

static struct lws_context *make_lws_context(void)
{
	const struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.fd_limit_per_thread = DESCRIPTORS_MAX,
		.pt_serv_buf_size = WS_SERVICE_BUFFER,
		.max_http_header_data = 16384,
		.timeout_secs = NO_TIMEOUT_S,
		.connect_timeout_secs = NO_TIMEOUT_S,
	};
	lws_set_log_level(0, NULL); /* reasons are told in ws_end; lines of lws might quote headers */
	return lws_create_context(&info);
}

/* lws closes the descriptor with the context. */
static struct lws *adopt(ws_loop *loop, int fd)
{
	lws_sock_file_fd_type descriptor = {.filefd = fd};
	struct lws *wsi = NULL;
	if (fd >= 0 && loop->vhost) {
		wsi = lws_adopt_descriptor_vhost(loop->vhost, LWS_ADOPT_RAW_FILE_DESC, descriptor, WS_PROTOCOL_NAME, NULL);
	}
	if (fd >= 0 && !wsi) {
		close(fd);
	}
	return wsi;
}

static int start_thread(ws_loop *loop, int number)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	char name[16];
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&loop->thread, &attributes, run, loop);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (!error) {
		snprintf(name, sizeof(name), "as-ws-%d", number);
		pthread_setname_np(loop->thread, name);
	}
	return !error;
}

static ws_loop *start_loop(int number)
{
	ws_loop *loop = calloc(1, sizeof(*loop));
	if (!loop) {
		return NULL;
	}
	atomic_init(&loop->refs, 1);
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop->context = make_lws_context();
	loop->vhost = loop->context ? make_vhost(loop->context) : NULL;
	loop->timer = adopt(loop, loop->timer_fd);
	if (loop->timer && adopt(loop, fcntl(loop->wake_fd, F_DUPFD_CLOEXEC, 0)) && start_thread(loop, number)) {
		return loop;
	}
	lws_context_destroy(loop->context);
	ws_loop_unref(loop);
	return NULL;
}

static void exit_loops(void);

/* OpenSSL takes itself down at the process's end; what is registered after it has been set up runs before that. */
static void handle_exit(void)
{
	if (!exit_handled) {
		OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL);
		exit_handled = atexit(exit_loops) == 0;
	}
}

static int start_all(void)
{
	handle_exit();
	if (owner != getpid()) {
		loop_count = 0;
		owner = getpid();
	}
	while (loop_count < thread_setting) {
		loops[loop_count] = start_loop(loop_count);
		if (!loops[loop_count]) {
			break; /* fewer will do */
		}
		loop_count++;
	}
	return loop_count;
}

/* ---- Stopping ---------------------------------------------------------------------------------------------------- */

static int take_all(ws_loop **taken)
{
	pthread_mutex_lock(&control);
	int count = getpid() == owner ? loop_count : 0;
	memcpy(taken, loops, sizeof(loops));
	loop_count = 0;
	pthread_mutex_unlock(&control);
	return count;
}

static void order_stop(ws_loop **stopped, int count, int how)
{
	for (int i = 0; i < count; i++) {
		atomic_store(&stopped[i]->stop, how);
		wake(stopped[i]);
	}
}

void ws_loops_stop(void)
{
	ws_loop *taken[WS_THREADS_MAX];
	if (current) {
		return; /* a thread cannot wait for itself */
	}
	pthread_mutex_lock(&stopping);
	int count = take_all(taken);
	order_stop(taken, count, STOP_POLITELY);
	for (int i = 0; i < count; i++) {
		pthread_join(taken[i]->thread, NULL);
		lws_context_destroy(taken[i]->context);
		ws_loop_unref(taken[i]);
	}
	pthread_mutex_unlock(&stopping);
}

/* At the process's end nobody is called back any more: the threads just leave OpenSSL alone. Not for long, and not in a
 * forked process, which has none. */
static void exit_loops(void)
{
	static ws_loop *taken[WS_THREADS_MAX]; /* found by leak checkers */
	struct timespec until;
	int count = take_all(taken);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += EXIT_WAIT_S;
	order_stop(taken, count, STOP_EXITING);
	for (int i = 0; i < count; i++) {
		if (taken[i] != current) {
			pthread_timedjoin_np(taken[i]->thread, NULL, &until);
		}
	}
	ws_tls_exit();
}

int ws_loops_set(int threads)
{
	if (threads < 1 || threads > WS_THREADS_MAX) {
		return AS_EINVAL;
	}
	pthread_mutex_lock(&control);
	thread_setting = threads;
	pthread_mutex_unlock(&control);
	return 0;
}

/* ---- Actors ------------------------------------------------------------------------------------------------------ */

/* Service thread: safe from anywhere, for who has no references is on no list either. */
static void release(ws_letter *letter)
{
	ws_actor *actor = (ws_actor *)((char *)letter - offsetof(ws_actor, release));
	ws_loop *loop = actor->loop;
	actor->callbacks.on_free(actor->arg);
	free(actor);
	ws_loop_unref(loop);
}

static void start(ws_letter *letter)
{
	ws_actor *actor = (ws_actor *)((char *)letter - offsetof(ws_actor, start));
	ws_loop *loop = actor->loop;
	actor->next = loop->actors;
	if (actor->next) {
		actor->next->previous = actor;
	}
	loop->actors = actor;
	set_timer(loop, 1);
	if (actor->callbacks.on_start) {
		actor->callbacks.on_start(actor->arg);
	}
}

/* Under control. */
static ws_loop *least_loaded(void)
{
	ws_loop *least = NULL;
	int count = start_all();
	for (int i = 0; i < count; i++) {
		if (!least || atomic_load(&loops[i]->load) < atomic_load(&least->load)) {
			least = loops[i];
		}
	}
	return least;
}

int ws_actor_new(const ws_callbacks *callbacks, void *arg, ws_actor **out)
{
	int result = AS_EINVAL;
	ws_actor *actor = calloc(1, sizeof(*actor));
	if (!actor) {
		return AS_ENOMEM;
	}
	actor->callbacks = *callbacks;
	actor->arg = arg;
	actor->start.deliver = start;
	actor->release.deliver = release;
	atomic_init(&actor->refs, 2);
	pthread_mutex_lock(&control);
	ws_loop *loop = least_loaded();
	if (loop) {
		actor->loop = ws_loop_ref(loop);
		atomic_fetch_add(&loop->load, 1);
		*out = actor;
		result = ws_loop_push(loop, &actor->start); /* a loop under control takes letters: it has not been stopped */
	}
	pthread_mutex_unlock(&control);
	if (result) {
		free(actor);
	}
	return result;
}

ws_actor *ws_actor_ref(ws_actor *actor)
{
	atomic_fetch_add(&actor->refs, 1);
	return actor;
}

void ws_actor_unref(ws_actor *actor)
{
	if (!actor || atomic_fetch_sub(&actor->refs, 1) != 1) {
		return;
	}
	if (current == actor->loop || ws_loop_push(actor->loop, &actor->release)) {
		release(&actor->release);
	}
}

void ws_finish(ws_actor *actor)
{
	if (!actor->finished) {
		actor->finished = 1;
		if (actor->conn) {
			conn_end(actor->conn, WS_WHY_CLOSED, WS_ABNORMAL, "dropped by us");
		}
		ws_actor_due(actor);
	}
}

/* Service thread, or any once that has ended. */
static void drop_post(ws_post_letter *post)
{
	if (post->drop) {
		post->drop(post->message);
	}
	ws_actor_unref(post->actor);
	free(post);
}

static void deliver_post(ws_letter *letter)
{
	ws_post_letter *post = (ws_post_letter *)letter;
	if (post->actor->finished) {
		drop_post(post);
		return;
	}
	post->run(post->actor->arg, post->message);
	ws_actor_unref(post->actor);
	free(post);
}

int ws_post(ws_actor *actor, void (*run_it)(void *arg, void *message), void *message, void (*drop)(void *message))
{
	ws_post_letter *post = malloc(sizeof(*post));
	if (!post) {
		return AS_ENOMEM;
	}
	*post = (ws_post_letter){.letter.deliver = deliver_post, .run = run_it, .drop = drop, .message = message};
	post->actor = ws_actor_ref(actor);
	if (ws_loop_push(actor->loop, &post->letter)) {
		drop_post(post); /* the thread has ended, so the actor has finished */
	}
	return 0;
}

int as_ws_threads(int threads)
{
	return ws_loops_set(threads);
}

void as_ws_stop(void)
{
	ws_loops_stop();
}
