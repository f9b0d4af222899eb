/*
 * actor.c - actors: how they begin and end, and how other threads reach them.
 *
 * An actor has a reference of its own while it is on its loop's list, so nothing frees it under its callbacks.
 */
#include <stddef.h>
#include <stdlib.h>

#include "loop_internal.h"

typedef struct ws_post_letter {
	ws_letter letter;
	ws_actor *actor; /* a reference */
	void (*run)(void *arg, void *message);
	void (*drop)(void *message);
	void *message;
} ws_post_letter;

/* Service thread: safe from anywhere, for who has no references is on no list either. */
static void release(ws_letter *letter)
{
	ws_actor *actor = (ws_actor *)((char *)letter - offsetof(ws_actor, release));
	ws_loop *loop = actor->loop;
	actor->callbacks.on_free(actor->arg);
	free(actor);
	ws_loop_unref(loop);
}

static void start(ws_letter *letter)
{
	ws_actor *actor = (ws_actor *)((char *)letter - offsetof(ws_actor, start));
	ws_loop *loop = actor->loop;
	actor->next = loop->actors;
	if (actor->next) {
		actor->next->previous = actor;
	}
	loop->actors = actor;
	ws_loop_tick_while_needed(loop);
	if (actor->callbacks.on_start) {
		actor->callbacks.on_start(actor->arg);
	}
}

void ws_actor_reap(ws_actor *actor)
{
	ws_loop *loop = actor->loop;
	*(actor->previous ? &actor->previous->next : &loop->actors) = actor->next;
	if (actor->next) {
		actor->next->previous = actor->previous;
	}
	atomic_fetch_sub(&loop->load, 1);
	ws_loop_tick_while_needed(loop);
	ws_actor_unref(actor);
}

int ws_actor_new(const ws_callbacks *callbacks, void *arg, ws_actor **out)
{
	ws_actor *actor = calloc(1, sizeof(*actor));
	if (!actor) {
		return AS_ENOMEM;
	}
	actor->callbacks = *callbacks;
	actor->arg = arg;
	actor->start.deliver = start;
	actor->release.deliver = release;
	atomic_init(&actor->refs, 2);
	*out = actor; /* before it starts, on its thread */
	int result = ws_loop_admit(actor);
	if (result) {
		*out = NULL;
		free(actor);
	}
	return result;
}

ws_actor *ws_actor_ref(ws_actor *actor)
{
	atomic_fetch_add(&actor->refs, 1);
	return actor;
}

void ws_actor_unref(ws_actor *actor)
{
	if (!actor || atomic_fetch_sub(&actor->refs, 1) != 1) {
		return;
	}
	if (ws_loop_current() == actor->loop || ws_loop_push(actor->loop, &actor->release)) {
		release(&actor->release);
	}
}

void ws_finish(ws_actor *actor)
{
	if (!actor->finished) {
		actor->finished = 1;
		if (actor->conn) {
			conn_end(actor->conn, WS_WHY_CLOSED, WS_ABNORMAL, "dropped by us");
		}
		ws_actor_due(actor);
	}
}

/* Service thread, or any once that has ended. */
static void drop_post(ws_post_letter *post)
{
	if (post->drop) {
		post->drop(post->message);
	}
	ws_actor_unref(post->actor);
	free(post);
}

static void deliver_post(ws_letter *letter)
{
	ws_post_letter *post = (ws_post_letter *)letter;
	if (post->actor->finished) {
		drop_post(post);
		return;
	}
	post->run(post->actor->arg, post->message);
	ws_actor_unref(post->actor);
	free(post);
}

int ws_post(ws_actor *actor, void (*run_it)(void *arg, void *message), void *message, void (*drop)(void *message))
{
	ws_post_letter *post = malloc(sizeof(*post));
	if (!post) {
		return AS_ENOMEM;
	}
	*post = (ws_post_letter){.letter.deliver = deliver_post, .run = run_it, .drop = drop, .message = message};
	post->actor = ws_actor_ref(actor);
	if (ws_loop_push(actor->loop, &post->letter)) {
		drop_post(post); /* the thread has ended, so the actor has finished */
	}
	return 0;
}
