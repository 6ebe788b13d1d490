/* Chance and time of a simulated world: both simulators'. */
#ifndef KMS_REGRESS_SIM_SCHEDULE_H
#define KMS_REGRESS_SIM_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64 */
uint64_t chance_next(uint64_t *state);

struct schedule_entry {
	int64_t at_ms;
	uint64_t order;
	void *item;
};

/* What is to happen when; of two at one time the one that was put in first.
 * All zero: nothing. */
struct schedule {
	struct schedule_entry *heap;
	size_t count, size;
	uint64_t order;
};

/* item: a pointer that is the caller's. Without memory the program aborts. */
void schedule_put(struct schedule *schedule, int64_t at_ms, void *item);

/* The time of what is next; INT64_MAX: nothing is. */
int64_t schedule_next_ms(const struct schedule *schedule);

/* What is next; NULL: nothing is. */
void *schedule_take(struct schedule *schedule);

/* When all is taken. */
void schedule_free(struct schedule *schedule);

#endif
