#include "regress/sim/schedule.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

uint64_t
chance_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool
before(const struct schedule_entry *a, const struct schedule_entry *b)
{
	if (a->at_ms != b->at_ms)
		return a->at_ms < b->at_ms;
	return a->order < b->order;
}

void
schedule_put(struct schedule *s, int64_t at_ms, void *item)
{
	const struct schedule_entry entry = { at_ms, ++s->order, item };
	size_t at = s->count;

	if (s->count == s->size) {
		s->size = s->size > 0 ? s->size * 2 : 1024;
		s->heap = realloc(s->heap, s->size * sizeof(*s->heap));
		if (s->heap == NULL)
			abort();
	}
	s->count++;
	while (at > 0 && before(&entry, &s->heap[(at - 1) / 2])) {
		s->heap[at] = s->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	s->heap[at] = entry;
}

int64_t
schedule_next_ms(const struct schedule *s)
{
	return s->count > 0 ? s->heap[0].at_ms : INT64_MAX;
}

void *
schedule_take(struct schedule *s)
{
	struct schedule_entry last;
	size_t at = 0, child;
	void *item;

	if (s->count == 0)
		return NULL;
	item = s->heap[0].item;
	last = s->heap[--s->count];
	while ((child = 2 * at + 1) < s->count) {
		if (child + 1 < s->count &&
		    before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!before(&s->heap[child], &last))
			break;
		s->heap[at] = s->heap[child];
		at = child;
	}
	if (s->count > 0)
		s->heap[at] = last;
	return item;
}

void
schedule_free(struct schedule *s)
{
	free(s->heap);
	memset(s, 0, sizeof(*s));
}
