/*
 * Two versions of the same record: a peer names its own by key and time, so
 * that only the one that is likely to win is sent. When the guess was wrong,
 * or both are needed for the joined clock, the roots still differ, and the
 * next pass exchanges all.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define STAMP_BITS 40
#define STAMP_MASK ((UINT64_C(1) << STAMP_BITS) - 1)

uint64_t
sync_rival_key(uint64_t key)
{
	return key << STAMP_BITS;
}

uint64_t
sync_rival(uint64_t key, int64_t updated_at_ms)
{
	return sync_rival_key(key) | ((uint64_t)updated_at_ms & STAMP_MASK);
}

/* How a's time stands to b's, within half a turn of some 35 years. */
static int
stamp_compare(uint64_t a, uint64_t b)
{
	uint64_t ahead = (a - b) & STAMP_MASK;

	if (ahead == 0)
		return 0;
	return ahead <= STAMP_MASK / 2 ? 1 : -1;
}

static int
choose(struct repair *repair, uint64_t app_id, struct tree_node leaf,
    uint64_t rival)
{
	struct repair_rival *chosen;
	size_t size;

	if (repair->chosen_count == repair->chosen_size) {
		size = repair->chosen_size > 0 ? repair->chosen_size * 2 : 64;
		chosen = realloc(repair->chosen, size * sizeof(*chosen));
		if (chosen == NULL)
			return KMS_ENOMEM;
		repair->chosen = chosen;
		repair->chosen_size = size;
	}
	repair->chosen[repair->chosen_count++] =
	    (struct repair_rival){ app_id, leaf, rival & ~STAMP_MASK };
	return 0;
}

static int
spare(struct repair *repair, uint64_t key)
{
	uint64_t *spared;
	size_t size;

	if (repair->spared_count == repair->spared_size) {
		size = repair->spared_size > 0 ? repair->spared_size * 2 : 64;
		spared = realloc(repair->spared, size * sizeof(*spared));
		if (spared == NULL)
			return KMS_ENOMEM;
		repair->spared = spared;
		repair->spared_size = size;
	}
	repair->spared[repair->spared_count++] = key;
	return 0;
}

static const struct repair_want *
want_of(const struct repair *repair, uint64_t app_id)
{
	for (size_t i = 0; i < repair->want_count; i++)
		if (repair->wants[i].app_id == app_id)
			return &repair->wants[i];
	return NULL;
}

/* Our version of a rival's record among those that the peer lacks. */
static const struct tree_item *
find_ours(const struct tree *tree, struct tree_range range,
    const struct repair_want *want, struct short_form form, uint64_t rival)
{
	size_t index;

	for (size_t i = range.first; i < range.end; i++) {
		const struct tree_item *item = &tree->items[i];

		if (sync_rival_key(item->key) == (rival & ~STAMP_MASK) &&
		    sync_hash_find(want->hashes, want->count,
			hash_shorten(form, item->hash), &index))
			return item;
	}
	return NULL;
}

static int
decide(struct sync *sync, struct repair *repair, uint64_t app_id,
    struct tree_node leaf, const struct tree_item *ours, uint64_t rival,
    struct kms_time now)
{
	struct store_record record;
	int order = -1, error = 0;

	if (ours != NULL &&
	    store_peek(
		sync->store, app_id, ours->bytes, ours->len, now, &record))
		order = stamp_compare(
		    sync_rival(ours->key, record.updated_at_ms), rival);
	if (order <= 0)
		error = choose(repair, app_id, leaf, rival);
	if (error == 0 && order < 0 && ours != NULL)
		error = spare(repair, ours->key);
	return error;
}

static int
read_leaf(struct sync *sync, struct repair *repair, uint64_t app_id,
    struct ascent *ascent, struct slice name, struct slice value,
    struct short_form form, struct kms_time now)
{
	const struct repair_want *want = want_of(repair, app_id);
	const struct tree *tree = sync_tree(sync, app_id, now);
	struct tree_range range;
	struct tree_node leaf;
	uint64_t *rivals;
	size_t count;
	int error;

	if (ascent_node(ascent, name, &leaf) != 0 || want == NULL)
		return KMS_EINVAL;
	if (tree == NULL)
		return KMS_ENOMEM;
	range = tree_range(tree, leaf);
	if (range.end - range.first > 2 * LIST_MAX)
		return KMS_EINVAL;
	error = shorts_read(value, WHOLE_WIDTH, LIST_MAX, &rivals, &count);
	for (size_t i = 0; i < count && error == 0; i++)
		error = decide(sync, repair, app_id, leaf,
		    find_ours(tree, range, want, form, rivals[i]), rivals[i],
		    now);
	free(rivals);
	return error;
}

/* In the order in which the chosen are to be asked for. */
int
sync_rivals_read(struct sync *sync, struct repair *repair, struct slice rivals,
    struct short_form form, struct kms_time now)
{
	struct slice name, leaves, digits, value;
	struct ascent ids = { 0 }, nodes;
	struct slice_walk walk, inner;
	size_t total = 0;
	uint64_t app_id;
	int error = 0;

	slice_walk_begin(&walk, rivals);
	while (error == 0 && slice_walk_next(&walk, &name, &leaves)) {
		if (!walk.object || slice_kind(leaves) != SLICE_OBJECT ||
		    ascent_app(&ids, name, false, &app_id) != 0)
			return KMS_EINVAL;
		nodes = (struct ascent){ 0 };
		slice_walk_begin(&inner, leaves);
		while (error == 0 && slice_walk_next(&inner, &digits, &value)) {
			if (++total > repair->group)
				return KMS_EINVAL;
			error = read_leaf(sync, repair, app_id, &nodes, digits,
			    value, form, now);
		}
	}
	if (repair->spared_count > 1)
		qsort(repair->spared, repair->spared_count,
		    sizeof(*repair->spared), sync_hash_compare);
	return error;
}

/* ---- asking for the chosen ----------------------------------------------- */

static bool
same_leaf(const struct repair_rival *a, const struct repair_rival *b)
{
	return a->app_id == b->app_id &&
	    tree_node_compare(a->leaf, b->leaf) == 0;
}

/* The rivals of one leaf, from the first on; *count of them. */
static int
write_leaf(
    struct sync *sync, const struct repair *repair, size_t first, size_t *count)
{
	const struct repair_rival *chosen = &repair->chosen[first];
	uint64_t keys[LIST_MAX];
	size_t n = 0;
	int error;

	while (n < LIST_MAX && first + n < repair->chosen_count &&
	    same_leaf(chosen, &chosen[n])) {
		keys[n] = chosen[n].key;
		n++;
	}
	*count = n;
	error = tree_node_write(&sync->body, chosen->leaf);
	if (error == 0)
		error = buf_append_text(&sync->body, ":");
	if (error == 0)
		error = shorts_write(&sync->body, keys, n, SHORT_WIDTH);
	return error;
}

int
sync_rivals_write(struct sync *sync, const struct repair *repair)
{
	size_t count;
	int error = buf_append_text(&sync->body, ",\"chosen\":true,\"apps\":{");

	for (size_t i = 0; i < repair->chosen_count && error == 0; i += count) {
		if (i > 0 &&
		    repair->chosen[i - 1].app_id == repair->chosen[i].app_id)
			error = buf_append_text(&sync->body, ",");
		else
			error = buf_printf(&sync->body, "%s\"%" PRIu64 "\":{",
			    i > 0 ? "}," : "", repair->chosen[i].app_id);
		count = 1;
		if (error == 0)
			error = write_leaf(sync, repair, i, &count);
	}
	if (error == 0)
		error = buf_append_text(
		    &sync->body, repair->chosen_count > 0 ? "}}" : "}");
	return error;
}

/* ---- the end ------------------------------------------------------------- */

bool
sync_rivals_is_spared(const struct repair *repair, uint64_t key)
{
	size_t index;

	return sync_hash_find(
	    repair->spared, repair->spared_count, key, &index);
}

void
sync_rivals_free(struct repair *repair)
{
	free(repair->chosen);
	free(repair->spared);
	repair->chosen = NULL;
	repair->spared = NULL;
	repair->chosen_count = repair->chosen_size = 0;
	repair->spared_count = repair->spared_size = 0;
	repair->choosing = false;
}
