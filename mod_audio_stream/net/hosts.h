/*
 * hosts.h - which servers may be connected to.
 *
 * A list of patterns with commas or blanks between them; an empty one allows all. A pattern is a host or an address, or
 * "*." and a domain, which stands for all hosts below it but not for itself; ":port" may follow, or any port will do.
 * IPv6 addresses stand in brackets. Names are compared as they are written: what they resolve to is not looked at.
 */
#ifndef NET_HOSTS_H
#define NET_HOSTS_H

#include <stddef.h>

/* A list that allows nothing; ws_hosts_check() does not take it. */
#define WS_HOSTS_NONE "!"

/* 0, or AS_EINVAL with the first pattern that is wrong in `wrong`, cut to fit. */
int ws_hosts_check(const char *list, char *wrong, size_t bytes);
/* Does a list allow a URL? 0 for a URL that is wrong. */
int ws_hosts_allow(const char *list, const char *url);

/* The list of the process, for all connections: set when the host's configuration is read. AS_ENOMEM: nothing is allowed. */
int ws_hosts_set(const char *list);
/* Does the process's list allow a URL? Any thread. */
int ws_hosts_allowed(const char *url);

#endif
