/* loop_test.h - one client of one server, for the tests of what goes through a connection and how it ends. */
#ifndef LOOP_TEST_H
#define LOOP_TEST_H

#include <stdio.h>

#include "support.h"
#include "ws_client.h"
#include "ws_server.h"

static inline char *url_of(const ws_server *server)
{
	static char url[64];
	snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", server_port(server));
	return url;
}

static inline client *open_to(const ws_server *server)
{
	return client_open(&(ws_options){.url = url_of(server)});
}

static inline client *serve_one(ws_server **server, void (*serve)(ws_peer *, void *), void *arg)
{
	*server = server_start(&(ws_server_options){.serve = serve, .arg = arg});
	return open_to(*server);
}

static inline void all_done(client *c, ws_server *server)
{
	client_done(c);
	server_stop(server);
}

static inline int stop_all(void **state)
{
	(void)state;
	ws_loops_stop();
	return 0;
}

#endif
