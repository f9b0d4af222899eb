/* deaf.h - an address that answers nothing: connections to it are never made, and never refused. */
#ifndef AS_TESTS_DEAF_H
#define AS_TESTS_DEAF_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

/* Somebody who lets connections wait for ever: his queue is full. */
typedef struct deaf {
	int listener, fillers[64], port;
} deaf;

static inline deaf deaf_start(const char *address, int port)
{
	deaf d = {.listener = socket(AF_INET, SOCK_STREAM, 0)};
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	socklen_t bytes = sizeof(at);
	inet_pton(AF_INET, address, &at.sin_addr);
	assert_int_equal(bind(d.listener, (struct sockaddr *)&at, bytes), 0);
	assert_int_equal(listen(d.listener, 1), 0);
	getsockname(d.listener, (struct sockaddr *)&at, &bytes);
	d.port = ntohs(at.sin_port);
	for (size_t i = 0; i < COUNT(d.fillers); i++) {
		d.fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(d.fillers[i], (struct sockaddr *)&at, bytes);
	}
	sleep_ms(50);
	return d;
}

static inline void deaf_stop(deaf *d)
{
	for (size_t i = 0; i < COUNT(d->fillers); i++) {
		close(d->fillers[i]);
	}
	close(d->listener);
}

#endif
