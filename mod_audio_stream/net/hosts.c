/* hosts.c - patterns of hosts, and the list that the whole process goes by. */
#define _GNU_SOURCE
#include "hosts.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "audio_stream.h"
#include "url.h"
#include "wipe.h"

#define BETWEEN ", \t\r\n"
#define PATTERN_MAX (WS_HOST_MAX + 10) /* characters, with brackets, "*." and a port */

typedef struct pattern {
	char host[WS_HOST_MAX + 1];
	int below; /* "*.": hosts below it */
	int port;  /* 0: any */
} pattern;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *process_list; /* under the lock; NULL: all are allowed */

/* One pattern of `length` characters. A host and a port are what they are in a URL. */
static int read_pattern(const char *text, size_t length, pattern *out)
{
	char url[PATTERN_MAX + 8], error[1];
	ws_url parsed;
	*out = (pattern){.below = length > 2 && !strncmp(text, "*.", 2)};
	text += out->below ? 2 : 0;
	length -= out->below ? 2 : 0;
	if (length > PATTERN_MAX || memchr(text, '/', length) || memchr(text, '?', length) || memchr(text, '#', length)) {
		return AS_EINVAL;
	}
	snprintf(url, sizeof(url), "ws://%.*s", (int)length, text);
	int wrong = ws_url_parse(url, &parsed, error, sizeof(error));
	as_wipe_free(parsed.path);
	if (wrong || *parsed.host == '.' || (out->below && *text == '[')) {
		return AS_EINVAL;
	}
	const char *host_end = *text == '[' ? memchr(text, ']', length) : text;
	out->port = memchr(host_end, ':', length - (size_t)(host_end - text)) ? parsed.port : 0;
	memcpy(out->host, parsed.host, sizeof(out->host));
	return 0;
}

/* Takes the next pattern off a list. 0 at its end. */
static int next(const char **list, const char **text, size_t *length)
{
	*text = *list + strspn(*list, BETWEEN);
	*length = strcspn(*text, BETWEEN);
	*list = *text + *length;
	return *length > 0;
}

static int is_same_host(const char *a, const char *b)
{
	struct in6_addr first, second;
	if (inet_pton(AF_INET6, a, &first) == 1 && inet_pton(AF_INET6, b, &second) == 1) {
		return !memcmp(&first, &second, sizeof(first));
	}
	return !strcasecmp(a, b);
}

static int is_below(const char *host, const char *domain)
{
	size_t length = strlen(host), tail = strlen(domain);
	return length > tail + 1 && host[length - tail - 1] == '.' && !strcasecmp(host + length - tail, domain);
}

static int matches(const pattern *wanted, const ws_url *url)
{
	return (!wanted->port || wanted->port == url->port) &&
		   (wanted->below ? is_below(url->host, wanted->host) : is_same_host(url->host, wanted->host));
}

int ws_hosts_check(const char *list, char *wrong, size_t bytes)
{
	const char *text;
	size_t length;
	pattern one;
	while (next(&list, &text, &length)) {
		if (read_pattern(text, length, &one)) {
			snprintf(wrong, bytes, "%.*s", (int)(length < bytes ? length : bytes), text);
			return AS_EINVAL;
		}
	}
	return 0;
}

int ws_hosts_allow(const char *list, const char *url)
{
	const char *text;
	size_t length;
	pattern one;
	ws_url parsed;
	char error[1];
	int wrong = ws_url_parse(url, &parsed, error, sizeof(error));
	int allowed = !wrong && !list[strspn(list, BETWEEN)];
	while (!wrong && !allowed && next(&list, &text, &length)) {
		allowed = !read_pattern(text, length, &one) && matches(&one, &parsed);
	}
	as_wipe_free(parsed.path);
	return allowed;
}

int ws_hosts_set(const char *list)
{
	static char none[] = WS_HOSTS_NONE;
	char *copy = strdup(list);
	pthread_mutex_lock(&lock);
	if (process_list != none) {
		free(process_list);
	}
	process_list = copy ? copy : none;
	pthread_mutex_unlock(&lock);
	return copy ? 0 : AS_ENOMEM;
}

int ws_hosts_allowed(const char *url)
{
	pthread_mutex_lock(&lock);
	int allowed = !process_list || ws_hosts_allow(process_list, url);
	pthread_mutex_unlock(&lock);
	return allowed;
}
