#include "budget.h"

#include <stdatomic.h>

#include "audio_stream.h"

#define MB ((size_t)1 << 20)

/* Counters by themselves: they publish nothing else. */
static _Atomic size_t limit = AS_BUDGET_MB * MB;
static _Atomic size_t used;

int as_memory_limit(int megabytes)
{
	if (megabytes < 1 || megabytes > 1048576) {
		return AS_EINVAL;
	}
	atomic_store_explicit(&limit, (size_t)megabytes * MB, memory_order_relaxed);
	return 0;
}

long as_memory_used(void)
{
	return (long)atomic_load_explicit(&used, memory_order_relaxed);
}

int as_budget_reserve(size_t held, size_t bytes)
{
	size_t most = atomic_load_explicit(&limit, memory_order_relaxed);
	size_t before = atomic_fetch_add_explicit(&used, bytes, memory_order_relaxed);
	if (held + bytes > AS_BUDGET_OWN_BYTES && (bytes > most || before > most - bytes)) {
		atomic_fetch_sub_explicit(&used, bytes, memory_order_relaxed);
		return AS_ENOMEM;
	}
	return 0;
}

void as_budget_release(size_t bytes)
{
	atomic_fetch_sub_explicit(&used, bytes, memory_order_relaxed);
}
