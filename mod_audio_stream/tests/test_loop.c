/* test_loop.c - service threads and actors: starting, posting, ticking, ending. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libwebsockets.h>

#include "audio_stream_ws.h"
#include "support.h"
#include "ws_client.h"
#include "ws_server.h"

static char *url_of(const ws_server *server)
{
	static char url[64];
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", server_port(server));
	return url;
}

static void nothing(client *c, void *arg)
{
	(void)c, (void)arg;
}

static int count_threads(const char *prefix)
{
	char path[300], name[32];
	int count = 0;
	DIR *tasks = opendir("/proc/self/task");
	for (struct dirent *task; (task = readdir(tasks));) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(path, "r");
		if (file && fgets(name, sizeof(name), file)) {
			count += !strncmp(name, prefix, strlen(prefix));
		}
		if (file) {
			fclose(file);
		}
	}
	closedir(tasks);
	return count;
}

static int count_descriptors(void)
{
	int count = 0;
	DIR *all = opendir("/proc/self/fd");
	while (readdir(all)) {
		count++;
	}
	closedir(all);
	return count;
}

static void test_threads_start_with_the_first_actor(void **state)
{
	(void)state;
	assert_int_equal(ws_loops_set(0), AS_EINVAL);
	assert_int_equal(as_ws_threads(WS_THREADS_MAX + 1), AS_EINVAL);
	assert_int_equal(as_ws_threads(3), 0);
	assert_int_equal(count_threads("as-ws-"), 0);
	client *c = client_new();
	client_call(c, nothing, NULL);
	assert_int_equal(count_threads("as-ws-"), 3);
	client_done(c);
	ws_loops_stop();
	assert_int_equal(count_threads("as-ws-"), 0);
	assert_int_equal(ws_loops_set(WS_THREADS_DEFAULT), 0);
}

static void note_thread(client *c, void *arg)
{
	(void)c;
	*(pthread_t *)arg = pthread_self();
}

static void test_actors_are_spread(void **state)
{
	(void)state;
	client *clients[6];
	pthread_t threads[6];
	int same = 0;
	for (int i = 0; i < 6; i++) {
		clients[i] = client_new();
		client_call(clients[i], note_thread, &threads[i]);
		same += pthread_equal(threads[i], threads[0]) != 0;
	}
	assert_int_equal(same, 3);
	for (int i = 0; i < 6; i++) {
		client_done(clients[i]);
	}
	ws_loops_stop();
}

/* ---- Posting ----------------------------------------------------------------------------------------------------- */

#define POSTERS 4
#define POSTS 2000

typedef struct posting {
	client *c;
	int last[POSTERS], ran;
} posting;

static void check_order(void *arg, void *message)
{
	(void)arg;
	int *numbers = message; /* sender, number */
	posting *all = *(posting **)(numbers + 2);
	assert_int_equal(numbers[1], all->last[numbers[0]] + 1);
	all->last[numbers[0]] = numbers[1];
	all->ran++;
	free(numbers);
}

typedef struct poster {
	posting *all;
	int sender;
} poster;

static void *post_in_order(void *arg)
{
	poster *p = arg;
	for (int i = 1; i <= POSTS; i++) {
		int *numbers = malloc(2 * sizeof(int) + sizeof(posting *));
		numbers[0] = p->sender;
		numbers[1] = i;
		memcpy(numbers + 2, &p->all, sizeof(p->all));
		assert_int_equal(ws_post(p->all->c->actor, check_order, numbers, NULL), 0);
	}
	return NULL;
}

static void test_posts_run_in_order(void **state)
{
	(void)state;
	posting all = {.c = client_new()};
	poster posters[POSTERS];
	pthread_t threads[POSTERS];
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (poster){&all, i};
		pthread_create(&threads[i], NULL, post_in_order, &posters[i]);
	}
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(threads[i], NULL);
	}
	client_call(all.c, nothing, NULL);
	assert_int_equal(all.ran, POSTERS * POSTS);
	client_done(all.c);
	ws_loops_stop();
}

static void count_run(void *arg, void *message)
{
	(void)arg;
	++*(int *)message;
}

static void count_drop(void *message)
{
	*(int *)message += 100;
}

static void do_finish(client *c, void *arg)
{
	(void)arg;
	ws_finish(c->actor);
	ws_finish(c->actor);
}

static void test_posts_to_the_finished_are_dropped(void **state)
{
	(void)state;
	int count = 0;
	client *c = client_new(), *other = client_new();
	client_call(c, do_finish, NULL);
	assert_int_equal(ws_post(c->actor, count_run, &count, count_drop), 0);
	assert_int_equal(ws_post(c->actor, count_run, &count, NULL), 0);
	sleep_ms(50);
	int ticks = c->ticks;
	assert_int_equal(c->frees, 0); /* there is a reference */
	sleep_ms(50);
	assert_int_equal(c->ticks, ticks);
	ws_actor_unref(ws_actor_ref(c->actor));
	ws_actor_unref(c->actor);
	client_wait_free(c);
	assert_int_equal(count, 100);
	client_done(other);
	ws_loops_stop();
}

static void test_after_the_threads_have_ended(void **state)
{
	(void)state;
	int count = 0;
	client *c = client_new();
	ws_loops_stop();
	assert_int_equal(c->starts, 1);
	assert_int_equal(c->frees, 0);
	assert_int_equal(ws_post(c->actor, count_run, &count, count_drop), 0);
	assert_int_equal(count, 100);
	ws_actor_unref(c->actor);
	assert_int_equal(c->frees, 1);
	client_wait_free(c);
	ws_loops_stop();
}

/* ---- Ticks ------------------------------------------------------------------------------------------------------- */

static int64_t cpu_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long voluntary_switches(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_nvcsw;
}

static void test_ticks_come_while_there_are_actors(void **state)
{
	(void)state;
	int64_t began_ns = as_now_ns();
	client *c = client_new();
	sleep_ms(500);
	pthread_mutex_lock(&c->lock);
	int ticks = c->ticks;
	pthread_mutex_unlock(&c->lock);
	int64_t most = (as_now_ns() - began_ns) / 1000000 / WS_TICK_MS + 1;
	assert_in_range(ticks, 200 / WS_TICK_MS, most); /* none is made up for on a machine that stalls */
	client_done(c);
	sleep_ms(50);
	long before = voluntary_switches();
	int64_t spent = cpu_ns();
	sleep_ms(300);
	assert_in_range(voluntary_switches() - before, 0, 10); /* they sleep: 2 threads would have ticked 120 times */
	assert_true(cpu_ns() - spent < 20000000);
	ws_loops_stop();
}

/* ---- Ending with everything under way ---------------------------------------------------------------------------- */

static void test_stop_with_connections(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	ws_options options = {.url = url_of(server)};
	client *clients[8];
	for (int i = 0; i < 8; i++) {
		clients[i] = i < 4 ? client_open(&options) : client_new();
		if (i >= 4) {
			client_connect(clients[i], &options);
		}
	}
	ws_loops_stop();
	for (int i = 0; i < 8; i++) {
		assert_int_equal(clients[i]->closes, 1);
		assert_int_equal(clients[i]->frees, 0);
		ws_actor_unref(clients[i]->actor);
		client_wait_free(clients[i]);
	}
	server_stop(server);
}

static void test_start_and_stop_again(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	ws_options options = {.url = url_of(server)};
	int descriptors = 0;
	for (int i = 0; i < 30; i++) {
		client *c = client_open(&options);
		assert_int_equal(client_send(c, 0, "hello", 5), 0);
		client_wait_messages(c, 1);
		if (i % 2) {
			client_done(c);
			as_ws_stop();
		} else {
			ws_loops_stop();
			ws_actor_unref(c->actor);
			client_wait_free(c);
		}
		while (i > 0 && count_descriptors() > descriptors) { /* the server closes its side when it likes */
			sleep_ms(1);
		}
		descriptors = i == 0 ? (sleep_ms(100), count_descriptors()) : descriptors;
	}
	server_stop(server);
}

static void test_a_finished_connection_is_dropped(void **state)
{
	(void)state;
	ws_server *server = server_start(&(ws_server_options){0});
	ws_options options = {.url = url_of(server)};
	client *c = client_open(&options);
	client_call(c, do_finish, NULL);
	client_wait_close(c, WS_WHY_CLOSED, WS_ABNORMAL);
	ws_actor_unref(c->actor);
	client_wait_free(c);
	ws_loops_stop();
	server_stop(server);
}

/* A process that just exits, with connections up and names being resolved, has nothing to crash with. */
static void test_exit_with_running_threads(void **state)
{
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		ws_server *server = server_start(&(ws_server_options){0});
		for (int i = 0; i < 4; i++) {
			client_open(&(ws_options){.url = url_of(server)});
			client_connect(client_new(), &(ws_options){.url = "wss://no-such-name.invalid/"});
		}
		exit(7); /* atexit handlers run, leaks are found by those who look */
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

/* ---- What belongs to the whole process --------------------------------------------------------------------------- */

/* Runs something in a process of its own. */
static void in_a_child(void (*run)(void))
{
	pid_t child = fork();
	if (child == 0) {
		run();
		_exit(0);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fail_msg("the child ended with status %x", status);
	}
}

static void open_one(void)
{
	ws_server *server = server_start(&(ws_server_options){0});
	client *c = client_open(&(ws_options){.url = url_of(server)});
	client_done(c);
	server_stop(server);
}

static void expect(int holds)
{
	if (!holds) {
		_exit(1);
	}
}

static void with_a_level_of_its_own(void)
{
	lws_set_log_level(LLL_WARN | LLL_THREAD, NULL);
	open_one();
	expect(lwsl_visible(LLL_WARN) && lwsl_visible(LLL_THREAD) && !lwsl_visible(LLL_ERR) && !lwsl_visible(LLL_NOTICE));
}

static void with_the_standard_level(void)
{
	expect(lwsl_visible(LLL_NOTICE));
	open_one();
	expect(lwsl_visible(LLL_ERR) && !lwsl_visible(LLL_WARN) && !lwsl_visible(LLL_NOTICE));
	lws_set_log_level(LLL_ERR | LLL_WARN, NULL);
	ws_loops_stop();
	open_one();
	expect(lwsl_visible(LLL_WARN) != 0);
}

static void with_stderr_watched(void)
{
	int ends[2];
	char said[300];
	expect(pipe(ends) == 0 && dup2(ends[1], 2) == 2 && close(ends[1]) == 0);
	setenv("http_proxy", "127.0.0.1:1", 1); /* nor does this count */
	open_one();
	close(2);
	expect(read(ends[0], said, sizeof(said)) == 0);
}

static void test_the_log_level_of_libwebsockets_is_its_users(void **state)
{
	(void)state;
	in_a_child(with_a_level_of_its_own);
	in_a_child(with_the_standard_level);
	in_a_child(with_stderr_watched);
}

static _Atomic int hold, held, is_child;

/* This program's eventfd(), which service threads are started with: on demand it does not return for a while. */
int eventfd(unsigned count, int flags)
{
	while (hold) {
		held = 1;
		sleep_ms(1);
	}
	return (int)syscall(SYS_eventfd2, count, flags);
}

/* Registered before the library's, so runs after that: sanitizers look for nothing in a child. */
static void leave_child(void)
{
	if (is_child) {
		_exit(0);
	}
}

static void *start_one(void *unused)
{
	client_done(client_new());
	return unused;
}

/* As FreeSWITCH's `system` may be: forked while another thread starts streams, it leaves by exit(). */
static void test_a_forked_process_exits_whatever_others_were_doing(void **state)
{
	(void)state;
	pthread_t thread;
	start_one(NULL); /* what is registered for the process's end now is */
	ws_loops_stop();
	hold = 1;
	assert_int_equal(pthread_create(&thread, NULL, start_one, NULL), 0);
	while (!held) {
		sleep_ms(1);
	}
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		is_child = 1;
		alarm(5); /* ends what hangs */
		exit(1);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	hold = 0;
	pthread_join(thread, NULL);
	ws_loops_stop();
	assert_true(WIFEXITED(status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_with_running_threads), /* first: forks of one thread */
		cmocka_unit_test(test_the_log_level_of_libwebsockets_is_its_users),
		cmocka_unit_test(test_threads_start_with_the_first_actor),
		cmocka_unit_test(test_actors_are_spread),
		cmocka_unit_test(test_posts_run_in_order),
		cmocka_unit_test(test_posts_to_the_finished_are_dropped),
		cmocka_unit_test(test_after_the_threads_have_ended),
		cmocka_unit_test(test_ticks_come_while_there_are_actors),
		cmocka_unit_test(test_stop_with_connections),
		cmocka_unit_test(test_start_and_stop_again),
		cmocka_unit_test(test_a_finished_connection_is_dropped),
		cmocka_unit_test(test_a_forked_process_exits_whatever_others_were_doing),
	};
	atexit(leave_child);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
