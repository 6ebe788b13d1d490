#include <stdlib.h>

#include "common/err.h"
#include "kms-keeper/store_internal.h"

#define ARITY 4
#define FIRST_SIZE 16

static void
place(struct ttl_heap *heap, size_t at, struct ttl_slot slot)
{
	heap->slots[at] = slot;
	slot.record->heap_index = (uint32_t)at;
}

static void
sift_up(struct ttl_heap *heap, size_t at, struct ttl_slot slot)
{
	while (at > 0) {
		size_t parent = (at - 1) / ARITY;

		if (heap->slots[parent].due_ms <= slot.due_ms)
			break;
		place(heap, at, heap->slots[parent]);
		at = parent;
	}
	place(heap, at, slot);
}

/* The child of at that is due first; heap->count when it has none. */
static size_t
first_child(const struct ttl_heap *heap, size_t at)
{
	size_t child = at * ARITY + 1, end = child + ARITY, best = child;

	if (child >= heap->count)
		return heap->count;
	if (end > heap->count)
		end = heap->count;
	for (; child < end; child++)
		if (heap->slots[child].due_ms < heap->slots[best].due_ms)
			best = child;
	return best;
}

static void
sift_down(struct ttl_heap *heap, size_t at, struct ttl_slot slot)
{
	for (;;) {
		size_t child = first_child(heap, at);

		if (child == heap->count ||
		    heap->slots[child].due_ms >= slot.due_ms)
			break;
		place(heap, at, heap->slots[child]);
		at = child;
	}
	place(heap, at, slot);
}

int
ttl_heap_reserve(struct ttl_heap *heap)
{
	struct ttl_slot *slots;
	size_t size;

	if (heap->count < heap->size)
		return 0;
	size = heap->size > 0 ? heap->size * 2 : FIRST_SIZE;
	if (size >= NOT_IN_HEAP)
		return KMS_EBUSY;
	slots = realloc(heap->slots, size * sizeof(*slots));
	if (slots == NULL)
		return KMS_ENOMEM;
	heap->slots = slots;
	heap->size = size;
	return 0;
}

void
ttl_heap_add(struct ttl_heap *heap, struct record *record)
{
	struct ttl_slot slot = { record_due_ms(record), record };

	sift_up(heap, heap->count++, slot);
}

/* Give memory back when three quarters are unused. */
static void
shrink(struct ttl_heap *heap)
{
	struct ttl_slot *slots;
	size_t size = heap->size / 2;

	if (size < FIRST_SIZE || heap->count > size / 2)
		return;
	slots = realloc(heap->slots, size * sizeof(*slots));
	if (slots == NULL)
		return;
	heap->slots = slots;
	heap->size = size;
}

void
ttl_heap_remove(struct ttl_heap *heap, struct record *record)
{
	size_t at = record->heap_index;
	struct ttl_slot last;

	if (record->heap_index == NOT_IN_HEAP)
		return;
	record->heap_index = NOT_IN_HEAP;
	last = heap->slots[--heap->count];
	if (last.record != record) {
		if (at > 0 &&
		    heap->slots[(at - 1) / ARITY].due_ms > last.due_ms)
			sift_up(heap, at, last);
		else
			sift_down(heap, at, last);
	}
	shrink(heap);
}

void
ttl_heap_free(struct ttl_heap *heap)
{
	free(heap->slots);
	heap->slots = NULL;
	heap->count = heap->size = 0;
}
