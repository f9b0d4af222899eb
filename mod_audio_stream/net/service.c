/*
 * service.c - what a service thread does: one iteration after the other.
 *
 * lws waits with poll(), for all sockets each time, which for 150 of them and 200 ticks a second would be most of the
 * work. So while all connections are just open the thread waits with epoll, and has lws serve the sockets that are
 * ready. While one is being opened or closed, and for a moment after, lws waits itself ("unsteady"); and every now and
 * then it gets a round to look after what it keeps to itself, such as pongs.
 *
 * lws's callbacks only note that something is due. Ticks, letters and whatever may end an actor are done between two
 * rounds, when none of its callbacks is running.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "loop_internal.h"

#define SPARE_BYTES ((size_t)262144) /* a larger buffer is not kept for the next message */
#define UNSTEADY_NS 100000000LL      /* how long lws waits by itself after the last sign of it being needed */
#define LWS_EVERY_NS 100000000LL     /* it has a round, whatever happens */
#define EVENTS 64

/* ---- For connections --------------------------------------------------------------------------------------------- */

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

void ws_loop_unsteady(ws_loop *loop)
{
	loop->unsteady_until_ns = as_now_ns() + UNSTEADY_NS;
}

static void watch(ws_conn *conn, int how)
{
	struct epoll_event wanted = {.events = EPOLLIN | (conn->choked ? EPOLLOUT : 0), .data.ptr = conn};
	if (epoll_ctl(conn->actor->loop->events_fd, how, conn->fd, &wanted) < 0 && how == EPOLL_CTL_ADD) {
		conn_end(conn, WS_WHY_LOST, WS_ABNORMAL, "out of memory to wait for the connection");
	}
}

void ws_loop_watch(ws_conn *conn)
{
	conn->fd = lws_get_socket_fd(conn->wsi);
	conn->watched = 1;
	watch(conn, EPOLL_CTL_ADD);
}

void ws_loop_unwatch(ws_conn *conn)
{
	if (conn->watched) {
		conn->watched = 0;
		watch(conn, EPOLL_CTL_DEL);
	}
}

void ws_loop_want_write(ws_conn *conn)
{
	ws_loop *loop = conn->actor->loop;
	lws_callback_on_writable(conn->wsi);
	if (!conn->is_writer) {
		conn->is_writer = 1;
		conn->next_writer = loop->writers;
		loop->writers = conn;
	}
}

void ws_loop_choked(ws_conn *conn, int choked)
{
	if (choked) {
		lws_callback_on_writable(conn->wsi);
	}
	if (conn->choked != choked) {
		conn->choked = choked;
		watch(conn, EPOLL_CTL_MOD);
	}
}

void ws_loop_tick_while_needed(ws_loop *loop)
{
	int on = loop->actors != NULL;
	const struct timespec period = {.tv_nsec = on ? WS_TICK_MS * 1000000L : 0};
	const struct itimerspec spec = {.it_interval = period, .it_value = period};
	if (loop->ticking != on) {
		timerfd_settime(loop->timer_fd, 0, &spec, NULL);
		loop->ticking = on;
	}
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */

static int is_steady(const ws_loop *loop, int64_t now_ns)
{
	return loop->ticking && now_ns >= loop->unsteady_until_ns;
}

/* Has lws serve one socket, as it would after its own poll(). */
static void serve_socket(ws_loop *loop, ws_conn *conn, short ready)
{
	struct lws_pollfd ours = {.fd = conn->fd, .events = POLLIN | POLLOUT, .revents = ready};
	if (ready & POLLERR) {
		ours.revents |= POLLIN; /* it is by reading that lws finds out */
	}
	if (conn->watched) { /* or it has gone while others were served */
		lws_service_fd(loop->context, &ours);
	}
}

/* One of our own two descriptors can be read. */
static void note(ws_loop *loop, int fd)
{
	uint64_t count;
	if (read(fd, &count, sizeof(count)) > 0 && fd == loop->timer_fd) {
		loop->tick_due = 1;
	}
}

static void wait_for_events(ws_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(loop->events_fd, events, EVENTS, timeout_ms);
	for (int i = 0; i < n; i++) {
		void *what = events[i].data.ptr;
		if (what == &loop->timer_fd || what == &loop->wake_fd) {
			note(loop, *(int *)what);
		} else {
			serve_socket(loop, what, (short)events[i].events); /* EPOLLIN is POLLIN, and so on */
		}
	}
}

static void wait(ws_loop *loop)
{
	int busy = loop->due || loop->writers || atomic_load(&loop->inbox);
	int64_t now = as_now_ns();
	if (!is_steady(loop, now)) {
		lws_service(loop->context, busy ? -1 : 0);
	} else if (now >= loop->lws_due_ns) {
		loop->lws_due_ns = now + LWS_EVERY_NS;
		lws_service(loop->context, -1);
	} else {
		wait_for_events(loop, busy ? 0 : -1);
	}
}

int ws_loop_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	if (reason != LWS_CALLBACK_RAW_RX_FILE) {
		return conn_callback(wsi, reason, user, in, n);
	}
	ws_loop *loop = ws_loop_current();
	note(loop, wsi == loop->timer_wsi ? loop->timer_fd : loop->wake_fd);
	return 0;
}

/* ---- Working ----------------------------------------------------------------------------------------------------- */

static void tick(ws_loop *loop)
{
	int64_t now = as_now_ns();
	for (ws_actor *actor = loop->actors; actor; actor = actor->next) {
		if (actor->conn && now >= actor->conn->alarm_ns) {
			conn_alarm(actor->conn, now);
		}
		if (actor->conn && actor->conn->stage != WS_STAGE_OPEN) {
			ws_loop_unsteady(loop);
		}
		if (actor->callbacks.on_tick && !actor->finished) {
			actor->callbacks.on_tick(actor->arg, now);
		}
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

/* What has been queued since the last round goes out in one go for each connection. */
static void write_all(ws_loop *loop)
{
	int steady = is_steady(loop, as_now_ns());
	while (loop->writers) {
		ws_conn *conn = loop->writers;
		loop->writers = conn->next_writer;
		conn->is_writer = 0;
		if (steady && !conn->choked) { /* otherwise it is waited for */
			serve_socket(loop, conn, POLLOUT);
		}
	}
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
			ws_actor_reap(actor);
		}
		actor = next;
	}
}

static void serve(ws_loop *loop)
{
	while (atomic_load(&loop->stop) == WS_STOP_NOT) {
		wait(loop);
		if (loop->tick_due) {
			loop->tick_due = 0;
			tick(loop);
		}
		deliver_all(atomic_exchange(&loop->inbox, NULL));
		write_all(loop); /* before settle(): it may free them */
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
	deliver_all(atomic_exchange(&loop->inbox, WS_INBOX_CLOSED));
	finish_all(loop);
}

void *ws_loop_run(void *arg)
{
	ws_loop *loop = arg;
	serve(loop);
	if (atomic_load(&loop->stop) == WS_STOP_POLITELY) {
		end(loop);
	}
	return NULL;
}
