/* thread.c - makes threads: see thread.h. */
#define _GNU_SOURCE
#include "thread.h"

#include <sched.h>
#include <signal.h>

#include "audio_stream.h"

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

int as_thread_start(pthread_t *out, const char *name, size_t stack_bytes, void *(*run)(void *), void *arg)
{
	pthread_t thread;
	pthread_attr_t attributes;
	sigset_t all, before;
	if (as_thread_attributes(&attributes, stack_bytes, !out)) {
		return AS_ENOMEM;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&thread, &attributes, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error) {
		return AS_ENOMEM;
	}
	if (out) {
		pthread_setname_np(thread, name);
		*out = thread;
	}
	return 0;
}
