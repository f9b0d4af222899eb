/*
 * worker.c - threads for what must not be done where it is noticed.
 *
 * Service threads notice events, and that a streamer has finished; firing an event or removing a media bug may wait for
 * locks of FreeSWITCH, and a service thread has other connections to look after. So they leave a job here. Removing a bug
 * may take as long as another module's callback, such as a recording to a disk that hangs. That holds up other endings, so
 * it has a lane of its own, and nobody's events wait behind it.
 */
#include "worker.h"

#include <pthread.h>

#include "audio_stream.h"
#include "thread.h"

#define JOBS_MAX 20000 /* waiting in a lane; more means that nobody takes events off FreeSWITCH's hands */
#define BYTES_MAX ((size_t)32 * 1024 * 1024)
#define STACK_BYTES ((size_t)1024 * 1024)

typedef struct lane {
	const char *name;
	pthread_mutex_t mutex; /* guards all below; held for a few instructions only */
	pthread_cond_t more;
	job_t *first, **last;
	size_t jobs, bytes;
	int stopping;
	int running;      /* the thread is there; worker_start() and worker_stop() */
	pthread_t thread; /* the same */
} lane_t;

#define LANE(lane, title)                                                                                              \
	{                                                                                                                  \
		.name = (title), .mutex = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER,                         \
		.last = &lanes[lane].first                                                                                     \
	}

static lane_t lanes[WORKER_LANES] = {
	[WORKER_EVENTS] = LANE(WORKER_EVENTS, "as-events"),
	[WORKER_ENDINGS] = LANE(WORKER_ENDINGS, "as-endings"),
};

/* The next job, or NULL when there will be none. */
static job_t *worker_take(lane_t *lane)
{
	pthread_mutex_lock(&lane->mutex);
	while (!lane->first && !lane->stopping) {
		pthread_cond_wait(&lane->more, &lane->mutex);
	}
	job_t *job = lane->first;
	if (job) {
		lane->first = job->next;
		lane->last = lane->first ? lane->last : &lane->first;
		lane->jobs--;
		lane->bytes -= job->bytes;
	}
	pthread_mutex_unlock(&lane->mutex);
	return job;
}

/* Returns how many jobs there were. */
static size_t worker_run_all(lane_t *lane)
{
	size_t count = 0;
	for (job_t *job; (job = worker_take(lane)); count++) {
		job->run(job);
	}
	return count;
}

static void *worker_thread(void *lane)
{
	worker_run_all(lane);
	return NULL;
}

int worker_add(worker_lane number, job_t *job, int always)
{
	lane_t *lane = &lanes[number];
	pthread_mutex_lock(&lane->mutex);
	int room = always || (lane->jobs < JOBS_MAX && lane->bytes + job->bytes <= BYTES_MAX);
	if (room) {
		job->next = NULL;
		*lane->last = job;
		lane->last = &job->next;
		lane->jobs++;
		lane->bytes += job->bytes;
		pthread_cond_signal(&lane->more);
	}
	pthread_mutex_unlock(&lane->mutex);
	return room ? 0 : AS_EFULL;
}

int worker_start(void)
{
	for (int i = 0; i < WORKER_LANES; i++) {
		lane_t *lane = &lanes[i];
		if (lane->running) {
			continue; /* an unload had to leave us in memory */
		}
		lane->stopping = 0;
		if (as_thread_start(&lane->thread, lane->name, STACK_BYTES, worker_thread, lane)) {
			worker_stop();
			return AS_ENOMEM;
		}
		lane->running = 1;
	}
	return 0;
}

static void worker_join(lane_t *lane)
{
	pthread_mutex_lock(&lane->mutex);
	lane->stopping = 1;
	pthread_cond_signal(&lane->more);
	pthread_mutex_unlock(&lane->mutex);
	if (lane->running) {
		pthread_join(lane->thread, NULL);
		lane->running = 0;
	}
}

void worker_stop(void)
{
	for (int i = 0; i < WORKER_LANES; i++) {
		worker_join(&lanes[i]);
	}
	/* A lane's last jobs may have left some in a lane that had ended before. */
	while (worker_run_all(&lanes[WORKER_EVENTS]) + worker_run_all(&lanes[WORKER_ENDINGS]) > 0) {
	}
}
