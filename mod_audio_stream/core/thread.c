/* thread.c - makes threads: see thread.h. */
#define _GNU_SOURCE
#include "thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "audio_stream.h"

/* What a new thread begins with; its own to free. */
typedef struct thread_start {
	void *(*run)(void *);
	void *arg;
	char name[16]; /* as many as the kernel keeps */
} thread_start;

int as_thread_attributes(pthread_attr_t *out, size_t stack_bytes, int detached)
{
	const struct sched_param ordinary = {.sched_priority = 0};
	if (pthread_attr_init(out)) {
		return AS_ENOMEM;
	}
	if (pthread_attr_setstacksize(out, stack_bytes) || pthread_attr_setinheritsched(out, PTHREAD_EXPLICIT_SCHED) ||
		pthread_attr_setschedpolicy(out, SCHED_OTHER) || pthread_attr_setschedparam(out, &ordinary) ||
		pthread_attr_setdetachstate(out, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE)) {
		pthread_attr_destroy(out);
		return AS_ENOMEM;
	}
	return 0;
}

/* A thread gives itself its name: a detached one may be gone by the time its maker could. */
static void *thread_begin(void *arg)
{
	const thread_start start = *(thread_start *)arg;
	free(arg);
	pthread_setname_np(pthread_self(), start.name);
	return start.run(start.arg);
}

static int thread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_start *start)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(thread, attributes, thread_begin, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? AS_ENOMEM : 0;
}

int as_thread_start(pthread_t *out, const char *name, size_t stack_bytes, void *(*run)(void *), void *arg)
{
	pthread_t thread;
	pthread_attr_t attributes;
	if (as_thread_attributes(&attributes, stack_bytes, !out)) {
		return AS_ENOMEM;
	}
	thread_start *start = malloc(sizeof(*start));
	int error = start ? 0 : AS_ENOMEM;
	if (!error) {
		*start = (thread_start){.run = run, .arg = arg};
		snprintf(start->name, sizeof(start->name), "%s", name);
		error = thread_create(&thread, &attributes, start);
	}
	pthread_attr_destroy(&attributes);
	if (error) {
		free(start);
	} else if (out) {
		*out = thread;
	}
	return error;
}
