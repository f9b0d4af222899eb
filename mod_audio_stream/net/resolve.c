/*
 * resolve.c - names and certificates, looked up on threads that may wait.
 *
 * getaddrinfo() may take half a minute, and nothing can be done about it. So a few detached threads do that; a
 * connection that has waited long enough forgets about its lookup, whose answer then finds nobody. Threads come when
 * there is work and none is idle, and go when there has been none for a while.
 *
 * Hundreds of calls ask for the same name at a time: the answer to one of them answers all that wait, and no name is
 * looked up by more than a few threads, so that one whose servers are silent does not hold up the others.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "loop_internal.h"
#include "thread.h"

#define WORKERS_MAX 8
#define PER_NAME_MAX 2 /* of them */
#define IDLE_S 10
#define STACK_BYTES (1024 * 1024)

/* All under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static ws_lookup *first, **last = &first;
static int waiting, idle, workers;              /* lookups in the queue; threads without one; threads */
static const ws_lookup *busy_with[WORKERS_MAX]; /* what threads are looking up; NULL: nothing */

static void free_lookup(ws_lookup *lookup)
{
	ws_tls_unref(lookup->tls);
	ws_loop_unref(lookup->loop);
	free(lookup->host);
	free(lookup->ca_file);
	free(lookup->cert_file);
	free(lookup->key_file);
	free(lookup);
}

/* ---- Worker ------------------------------------------------------------------------------------------------------ */

static void add_address(ws_lookup *lookup, const struct addrinfo *info)
{
	char *address = lookup->addresses[lookup->count];
	lookup->count +=
		getnameinfo(info->ai_addr, info->ai_addrlen, address, WS_ADDRESS_BYTES, NULL, 0, NI_NUMERICHOST) == 0;
}

/* From here on, the next address of the family, or of any other. */
static const struct addrinfo *next_of(const struct addrinfo *info, int family, int same)
{
	while (info && (info->ai_family == family) != same) {
		info = info->ai_next;
	}
	return info;
}

/* RFC 8305 section 4: the families take turns, beginning with that of the resolver's first choice. */
static void add_addresses(ws_lookup *lookup, const struct addrinfo *all)
{
	const int family = all->ai_family;
	const struct addrinfo *ours = all, *others = next_of(all, family, 0);
	while ((ours || others) && lookup->count < WS_ADDRESSES_MAX) {
		if (ours) {
			add_address(lookup, ours);
			ours = next_of(ours->ai_next, family, 1);
		}
		if (others && lookup->count < WS_ADDRESSES_MAX) {
			add_address(lookup, others);
			others = next_of(others->ai_next, family, 0);
		}
	}
}

static void resolve(ws_lookup *lookup)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *all = NULL;
	int error = getaddrinfo(lookup->host, NULL, &hints, &all);
	if (error) {
		lookup->why = WS_WHY_RESOLVE;
		lookup->passing = error == EAI_AGAIN || error == EAI_MEMORY || error == EAI_SYSTEM;
		snprintf(lookup->error, sizeof(lookup->error), "cannot resolve %s: %s", lookup->host, gai_strerror(error));
		return;
	}
	add_addresses(lookup, all);
	freeaddrinfo(all);
	if (lookup->count == 0) {
		lookup->why = WS_WHY_RESOLVE;
		snprintf(lookup->error, sizeof(lookup->error), "%s has no address", lookup->host);
	}
}

static void look_up(ws_lookup *lookup)
{
	if (lookup->wants_tls) {
		lookup->tls =
			ws_tls_load(lookup->ca_file, lookup->cert_file, lookup->key_file, lookup->error, sizeof(lookup->error));
		if (!lookup->tls) {
			lookup->why = WS_WHY_OPTIONS;
			return;
		}
	}
	if (lookup->host) {
		resolve(lookup);
	}
}

static int is_same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* Is the answer to one the answer to the other? */
static int is_same(const ws_lookup *a, const ws_lookup *b)
{
	return is_same_text(a->host, b->host) && a->wants_tls == b->wants_tls && is_same_text(a->ca_file, b->ca_file) &&
		   is_same_text(a->cert_file, b->cert_file) && is_same_text(a->key_file, b->key_file);
}

/* Under the lock. Takes a lookup out of the queue. */
static void unqueue(ws_lookup **link)
{
	ws_lookup *lookup = *link;
	*link = lookup->next;
	last = *link ? last : link;
	lookup->queued = 0;
	waiting--;
}

/* Under the lock. Threads that are looking this up. */
static int threads_on(const ws_lookup *lookup)
{
	int count = 0;
	for (int i = 0; i < WORKERS_MAX; i++) {
		count += busy_with[i] && is_same(busy_with[i], lookup);
	}
	return count;
}

/* Under the lock. The first lookup in the queue that may be begun. */
static ws_lookup *take(void)
{
	for (ws_lookup **link = &first; *link; link = &(*link)->next) {
		ws_lookup *lookup = *link;
		if (threads_on(lookup) < PER_NAME_MAX) {
			unqueue(link);
			return lookup;
		}
	}
	return NULL;
}

/* Under the lock. Waits for work; NULL when there has been none for a while. */
static ws_lookup *next_lookup(void)
{
	struct timespec until;
	ws_lookup *lookup;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_S;
	idle++;
	while (!(lookup = take()) && pthread_cond_timedwait(&more, &lock, &until) == 0) {
	}
	idle--;
	return lookup ? lookup : take(); /* it may have come in the last moment, and seen us idle */
}

/* Under the lock. Gives an answer to all in the queue that ask the same, and makes a list of them. */
static ws_lookup *answer_others(const ws_lookup *answer)
{
	ws_lookup *answered = NULL;
	for (ws_lookup **link = &first; *link;) {
		ws_lookup *other = *link;
		if (!is_same(other, answer)) {
			link = &other->next;
			continue;
		}
		unqueue(link);
		other->tls = ws_tls_ref(answer->tls);
		other->count = answer->count;
		other->why = answer->why;
		other->passing = answer->passing;
		memcpy(other->addresses, answer->addresses, sizeof(other->addresses));
		memcpy(other->error, answer->error, sizeof(other->error));
		other->next = answered;
		answered = other;
	}
	return answered;
}

static void send_off(ws_lookup *lookup)
{
	if (ws_loop_push(lookup->loop, &lookup->letter)) {
		free_lookup(lookup); /* the service thread has ended, and its connections with it */
	}
}

static void send_off_all(ws_lookup *lookup)
{
	for (ws_lookup *next; lookup; lookup = next) {
		next = lookup->next;
		send_off(lookup);
	}
}

static void *work(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	for (ws_lookup *lookup; (lookup = next_lookup());) {
		int place = 0;
		while (busy_with[place]) {
			place++; /* there are as many as threads */
		}
		busy_with[place] = lookup;
		pthread_mutex_unlock(&lock);
		look_up(lookup);
		pthread_mutex_lock(&lock);
		busy_with[place] = NULL;
		ws_lookup *others = answer_others(lookup);
		pthread_mutex_unlock(&lock);
		send_off_all(others);
		send_off(lookup);
		pthread_mutex_lock(&lock);
	}
	workers--;
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* ---- Service thread ---------------------------------------------------------------------------------------------- */

/* Under the lock. */
static int add_worker(void)
{
	int error = as_thread_start(NULL, "as-ws-resolve", STACK_BYTES, work, NULL);
	workers += !error;
	return !error;
}

static int enqueue(ws_lookup *lookup)
{
	pthread_mutex_lock(&lock);
	if (waiting >= idle && workers < WORKERS_MAX && !add_worker() && workers == 0) {
		pthread_mutex_unlock(&lock);
		return AS_ENOMEM;
	}
	lookup->next = NULL;
	lookup->queued = 1;
	*last = lookup;
	last = &lookup->next;
	waiting++;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
	return 0;
}

static void deliver(ws_letter *letter)
{
	ws_lookup *lookup = (ws_lookup *)letter;
	if (lookup->conn) {
		conn_resolved(lookup->conn, lookup);
	}
	free_lookup(lookup);
}

/* 0 when text is NULL, or has been copied. */
static int copy(char **out, const char *text)
{
	return text && !(*out = strdup(text));
}

int ws_lookup_start(ws_conn *conn, int wants_name, int wants_tls)
{
	ws_lookup *lookup = calloc(1, sizeof(*lookup));
	if (!lookup) {
		return AS_ENOMEM;
	}
	lookup->letter.deliver = deliver;
	lookup->conn = conn;
	lookup->loop = ws_loop_ref(conn->actor->loop);
	lookup->wants_tls = wants_tls;
	if (copy(&lookup->host, wants_name ? conn->url.host : NULL) || copy(&lookup->ca_file, conn->ca_file) ||
		copy(&lookup->cert_file, conn->cert_file) || copy(&lookup->key_file, conn->key_file) || enqueue(lookup)) {
		free_lookup(lookup);
		return AS_ENOMEM;
	}
	conn->lookup = lookup;
	return 0;
}

/* A lookup that nobody has begun is taken back; another one finds nobody. */
void ws_lookup_cancel(ws_lookup *lookup)
{
	pthread_mutex_lock(&lock);
	int queued = lookup->queued;
	if (queued) {
		ws_lookup **link = &first;
		while (*link != lookup) {
			link = &(*link)->next;
		}
		unqueue(link);
	}
	pthread_mutex_unlock(&lock);
	lookup->conn = NULL;
	if (queued) {
		free_lookup(lookup);
	}
}

int ws_address_numeric(const char *host, char *address, size_t bytes)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
	struct addrinfo *info = NULL;
	if (getaddrinfo(host, NULL, &hints, &info)) {
		return 0;
	}
	int error = getnameinfo(info->ai_addr, info->ai_addrlen, address, (socklen_t)bytes, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(info);
	return error == 0;
}
