/*
 * loop.c - the service threads: how they start, how they are reached, how they end.
 *
 * A thread serves one lws context. Two descriptors in it are ours: an eventfd, by which other threads say that there is
 * something in the inbox, and a timer that ticks while there are actors.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "audio_stream_ws.h"
#include "loop_internal.h"
#include "thread.h"

#define STACK_BYTES (2 * 1024 * 1024) /* FreeSWITCH's default for threads is too small for OpenSSL and callbacks */
#define DESCRIPTORS_MAX 4096          /* of one thread; lws would take memory for all that the process may open */
#define NO_TIMEOUT_S 86400            /* lws is not to give up by itself: connection.c does that */
#define EXIT_WAIT_S 5

ws_letter ws_inbox_closed;

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;  /* what follows */
static pthread_mutex_t stopping = PTHREAD_MUTEX_INITIALIZER; /* one ws_loops_stop() at a time; before control */
static ws_loop *loops[WS_THREADS_MAX];
static int loop_count, thread_setting = WS_THREADS_DEFAULT, exit_handled;
static _Atomic pid_t owner; /* the process that has the threads: a forked one has not. Written under control */

static _Thread_local ws_loop *current;

/* ---- Any thread: letters ----------------------------------------------------------------------------------------- */

ws_loop *ws_loop_ref(ws_loop *loop)
{
	atomic_fetch_add(&loop->refs, 1);
	return loop;
}

static void close_one(int fd)
{
	if (fd >= 0) {
		close(fd);
	}
}

void ws_loop_unref(ws_loop *loop)
{
	if (loop && atomic_fetch_sub(&loop->refs, 1) == 1) {
		close_one(loop->wake_fd);
		close_one(loop->events_fd);
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
	} while (top != WS_INBOX_CLOSED && !atomic_compare_exchange_weak(&loop->inbox, &top, letter));
	if (!top && loop != current) {
		wake(loop);
	}
	ws_loop_unref(loop);
	return top == WS_INBOX_CLOSED ? AS_ECLOSED : 0;
}

ws_loop *ws_loop_current(void)
{
	return current;
}

/* ---- Starting: under control ------------------------------------------------------------------------------------- */

static const struct lws_protocols protocols[] = {
	{.name = WS_PROTOCOL_NAME,
	 .callback = ws_loop_callback,
	 .rx_buffer_size = WS_RECEIVE_BUFFER,
	 .tx_packet_size = 65536},
	{0},
};

static const struct lws_extension extensions[] = {
	{WS_DEFLATE_NAME, conn_extension, WS_DEFLATE_OFFER},
	{0},
};

/* lws is to have OpenSSL's context from us, and not to touch OpenSSL otherwise: with the option for the lws context
 * too it would number its data in SSL objects anew for each thread, under the hands of the others. */
static struct lws_vhost *make_vhost(struct lws_context *context)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.protocols = protocols,
		.extensions = extensions,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
		.provided_client_ssl_ctx = ws_tls_context(),
		.http_proxy_address = ":0", /* none, not what the environment says; lws would complain of "" */
		.timeout_secs = NO_TIMEOUT_S,
		.connect_timeout_secs = NO_TIMEOUT_S,
	};
	return info.provided_client_ssl_ctx ? lws_create_vhost(context, &info) : NULL;
}

static int visible_levels(int all)
{
	int level = 0;
	for (int bit = 1; bit <= all; bit <<= 1) {
		level |= lwsl_visible(bit) ? bit : 0;
	}
	return level;
}

/* Reasons are told in ws_end, and lines of lws on the process's stderr help nobody. Its level is the whole process's, though:
 * whoever has set it is left with that, and errors are always told. */
static void quieten(void)
{
	const int standard = LLL_ERR | LLL_WARN | LLL_NOTICE | LLL_USER, all = (1 << LLL_COUNT) - 1;
	int level = visible_levels(all);
	if ((level | LLL_USER) == standard) {
		lws_set_log_level(level & ~(LLL_WARN | LLL_NOTICE), NULL);
	}
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
	quieten();
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

/* Our two descriptors are known by where they are kept, connections by themselves. */
static int watch_ours(ws_loop *loop)
{
	struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &loop->timer_fd};
	struct epoll_event woken = {.events = EPOLLIN, .data.ptr = &loop->wake_fd};
	return epoll_ctl(loop->events_fd, EPOLL_CTL_ADD, loop->timer_fd, &timer) == 0 &&
		   epoll_ctl(loop->events_fd, EPOLL_CTL_ADD, loop->wake_fd, &woken) == 0;
}

static void *run(void *loop)
{
	current = loop;
	return ws_loop_run(loop);
}

static int start_thread(ws_loop *loop, int number)
{
	char name[24];
	snprintf(name, sizeof(name), "as-ws-%d", number);
	return !as_thread_start(&loop->thread, name, STACK_BYTES, run, loop);
}

static ws_loop *start_loop(int number)
{
	ws_loop *loop = calloc(1, sizeof(*loop));
	if (!loop) {
		return NULL;
	}
	atomic_init(&loop->refs, 1);
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop->events_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop->context = make_lws_context();
	loop->vhost = loop->context ? make_vhost(loop->context) : NULL;
	loop->timer_wsi = adopt(loop, loop->timer_fd);
	if (loop->timer_wsi && adopt(loop, fcntl(loop->wake_fd, F_DUPFD_CLOEXEC, 0)) && watch_ours(loop) &&
		start_thread(loop, number)) {
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
	order_stop(taken, count, WS_STOP_POLITELY);
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
	if (atomic_load(&owner) != getpid()) {
		return; /* before any lock: another thread may have held it when we were forked, and is not here to let go */
	}
	int count = take_all(taken);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += EXIT_WAIT_S;
	order_stop(taken, count, WS_STOP_EXITING);
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

int ws_loop_admit(ws_actor *actor)
{
	int result = AS_EINVAL;
	pthread_mutex_lock(&control);
	ws_loop *loop = least_loaded();
	if (loop) {
		actor->loop = ws_loop_ref(loop);
		atomic_fetch_add(&loop->load, 1);
		result = ws_loop_push(loop, &actor->start); /* which it takes: nobody stops it while we have control */
	}
	pthread_mutex_unlock(&control);
	return result;
}

int as_ws_threads(int threads)
{
	return ws_loops_set(threads);
}

void as_ws_stop(void)
{
	ws_loops_stop();
}
