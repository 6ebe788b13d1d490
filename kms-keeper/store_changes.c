#include "kms-keeper/store_internal.h"

static void
cursor_stand(struct store_cursor *cursor, struct record *record)
{
	cursor->at = record;
	if (record != NULL)
		record->pinned = true;
}

static void
cursor_link(struct store *store, struct store_cursor *cursor)
{
	cursor->store = store;
	cursor->prev = &store->cursors;
	cursor->next = store->cursors;
	if (cursor->next != NULL)
		cursor->next->prev = &cursor->next;
	store->cursors = cursor;
}

/* The first record changed after the cursor's last one: as many steps back
 * from the end as there are records left to visit. */
static struct record *
first_after(const struct store *store, uint64_t after)
{
	struct record *record, *found = NULL;

	if (after == 0)
		return TAILQ_FIRST(&store->changes);
	record = TAILQ_LAST(&store->changes, record_list);
	while (record != NULL && record->sequence > after) {
		found = record;
		record = TAILQ_PREV(record, record_list, change);
	}
	return found;
}

void
store_cursor_open(
    struct store *store, struct store_cursor *cursor, uint64_t after)
{
	cursor_link(store, cursor);
	cursor->after = after;
	cursor_stand(cursor, first_after(store, after));
}

void
store_cursor_copy(struct store_cursor *to, struct store_cursor *from)
{
	cursor_link(from->store, to);
	to->after = from->after;
	cursor_stand(to, from->at);
}

void
store_cursor_close(struct store_cursor *cursor)
{
	*cursor->prev = cursor->next;
	if (cursor->next != NULL)
		cursor->next->prev = cursor->prev;
	cursor->store = NULL;
}

/* From the end, where there was none, it is found once only: a peer that is
 * away has its cursor there while the changes grow. */
static struct record *
cursor_record(struct store_cursor *cursor)
{
	if (cursor->at == NULL)
		cursor_stand(cursor, first_after(cursor->store, cursor->after));
	return cursor->at;
}

bool
store_cursor_peek(
    struct store_cursor *cursor, struct kms_time now, struct store_record *view)
{
	const struct record *record = cursor_record(cursor);

	if (record == NULL)
		return false;
	record_view(record, now, view);
	return true;
}

bool
store_cursor_next(
    struct store_cursor *cursor, struct kms_time now, struct store_record *view)
{
	struct record *record = cursor_record(cursor);

	if (record == NULL)
		return false;
	record_view(record, now, view);
	cursor->after = record->sequence;
	cursor_stand(cursor, TAILQ_NEXT(record, change));
	return true;
}

void
cursors_step_over(struct store *store, struct record *record)
{
	struct store_cursor *cursor;

	if (!record->pinned)
		return;
	for (cursor = store->cursors; cursor != NULL; cursor = cursor->next)
		if (cursor->at == record)
			cursor_stand(cursor, TAILQ_NEXT(record, change));
	record->pinned = false;
}

void
store_set_low_mark(struct store *store, uint64_t sequence)
{
	store->low_mark = sequence;
}

uint64_t
store_lost_mark(const struct store *store)
{
	return store->lost_mark;
}
