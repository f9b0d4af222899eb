/*
 * budget.h - memory that servers can make this process hold, counted over all streams and connections.
 *
 * Each holder has a bound of its own; the budget bounds their sum. What a holder has up to AS_BUDGET_OWN_BYTES is granted
 * whatever the others hold, so that a flood on some calls takes nothing from the others that they need from moment to moment.
 * Any thread; nothing waits.
 */
#ifndef AS_BUDGET_H
#define AS_BUDGET_H

#include <stddef.h>

#define AS_BUDGET_MB 512                    /* as_memory_limit() has not been called */
#define AS_BUDGET_OWN_BYTES ((size_t)65536) /* of each holder */

/* held: what this holder has already. 0, or AS_ENOMEM and nothing is reserved. */
int as_budget_reserve(size_t held, size_t bytes);
/* What as_budget_reserve() has granted. */
void as_budget_release(size_t bytes);

#endif
