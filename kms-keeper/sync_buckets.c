/*
 * Answering a peer that exchanges leaves: it lists what it holds in them. The
 * work of a message: each app that it names, and that has changed since it was
 * last looked at, is walked once; besides that the records in its nodes, no
 * two of which share any, what its lists are long, and the records of the
 * answer.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define ANSWER_BYTES 1000000

struct buckets {
	struct sync *sync;
	struct kms_time now;
	struct short_form form;
	bool fading;			/* these, too */
	bool chosen;			/* the hashes name rivals */
	struct record_list_item *items; /* of this answer */
	size_t count, size, bytes;
	uint64_t from_app, from;   /* where the last answer ended, or 0 */
	uint64_t after_app, after; /* where this one ends */
	bool more;
	size_t nodes;		 /* of the request */
	struct buf want, rivals; /* the members, as far as they are written */
	uint64_t rivals_app;
	const struct tree_item **ours; /* in the leaf, not the peer's */
	size_t ours_count, ours_size;
	uint64_t *lacking; /* hashes of the app that is being read */
	size_t lacking_count, lacking_size;
};

static int
items_grow(struct buckets *b)
{
	struct record_list_item *items;
	size_t size = b->size > 0 ? b->size * 2 : 128;

	if (b->count < b->size)
		return 0;
	items = realloc(b->items, size * sizeof(*items));
	if (items == NULL)
		return KMS_ENOMEM;
	b->items = items;
	b->size = size;
	return 0;
}

/* A record that is not among the peer's. */
static int
give(struct buckets *b, uint64_t app_id, const struct tree_item *item)
{
	struct store_record record;
	size_t bound;

	if (b->more ||
	    !store_peek(b->sync->store, app_id, item->bytes, item->len, b->now,
		&record))
		return 0;
	bound = record_json_bound(&record) + 32;
	b->more = b->count > 0 && b->bytes + bound > ANSWER_BYTES;
	if (b->more)
		return 0;
	if (items_grow(b) != 0)
		return KMS_ENOMEM;
	b->bytes += bound;
	b->items[b->count++].record = record;
	b->after_app = app_id;
	b->after = item->key;
	return 0;
}

/* Note the hashes of the peer that are not held here. */
static int
lack(struct buckets *b, const uint64_t *hashes, const bool *held, size_t count)
{
	uint64_t *lacking;
	size_t size = b->lacking_count + count;

	if (size > b->lacking_size) {
		size *= 2;
		lacking = realloc(b->lacking, size * sizeof(*lacking));
		if (lacking == NULL)
			return KMS_ENOMEM;
		b->lacking = lacking;
		b->lacking_size = size;
	}
	for (size_t i = 0; i < count; i++)
		if (!held[i])
			b->lacking[b->lacking_count++] = hashes[i];
	return 0;
}

static int
note_ours(struct buckets *b, const struct tree_item *item)
{
	const struct tree_item **ours;
	size_t size = b->ours_size > 0 ? b->ours_size * 2 : 128;

	if (b->ours_count == b->ours_size) {
		ours = realloc(b->ours, size * sizeof(*ours));
		if (ours == NULL)
			return KMS_ENOMEM;
		b->ours = ours;
		b->ours_size = size;
	}
	b->ours[b->ours_count++] = item;
	return 0;
}

/* Of a leaf's items those that are not among the peer's hashes, which are
 * sorted; and which of these are held. */
static int
match(struct buckets *b, uint64_t app_id, const struct tree *tree,
    struct tree_range range, const uint64_t *hashes, size_t count, bool *held)
{
	bool continued = b->from_app != 0 && app_id == b->from_app;
	size_t index;
	int error = 0;

	b->ours_count = 0;
	for (size_t i = range.first; i < range.end && error == 0; i++) {
		const struct tree_item *item = &tree->items[i];

		if ((item->fading && !b->fading) ||
		    (continued && item->key <= b->from))
			continue;
		if (sync_hash_find(hashes, count,
			hash_shorten(b->form, item->hash), &index))
			held[index] = true;
		else
			error = note_ours(b, item);
	}
	return error;
}

/* Name our versions, so that the peer can say which of them it wants. */
static int
write_rivals(struct buckets *b, uint64_t app_id, struct tree_node node)
{
	uint64_t rivals[LIST_MAX];
	struct store_record record;
	int error;

	for (size_t i = 0; i < b->ours_count; i++) {
		const struct tree_item *item = b->ours[i];

		if (!store_peek(b->sync->store, app_id, item->bytes, item->len,
			b->now, &record))
			return KMS_EINVAL;
		rivals[i] = sync_rival(item->key, record.updated_at_ms);
	}
	if (b->rivals_app == app_id)
		error = buf_append_text(&b->rivals, ",");
	else
		error = buf_printf(&b->rivals, "%s\"%" PRIu64 "\":{",
		    b->rivals_app != 0 ? "}," : "", app_id);
	b->rivals_app = app_id;
	if (error == 0)
		error = tree_node_write(&b->rivals, node);
	if (error == 0)
		error = buf_append_text(&b->rivals, ":");
	if (error == 0)
		error = shorts_write(
		    &b->rivals, rivals, b->ours_count, WHOLE_WIDTH);
	return error;
}

/*
 * A leaf. Where both have what the other has not, most likely these are two
 * versions of the same records, of which only one is worth sending: the first
 * time the peer is told of ours. The next time all of them go.
 */
static int
exchange(struct buckets *b, uint64_t app_id, const struct tree *tree,
    struct tree_node node, const uint64_t *hashes, size_t count, bool *held)
{
	size_t theirs = 0;
	bool rivals;
	int error =
	    match(b, app_id, tree, tree_range(tree, node), hashes, count, held);

	for (size_t i = 0; i < count; i++)
		theirs += !held[i];
	rivals = b->form.salt == 0 && !b->fading && theirs > 0 &&
	    count <= LIST_MAX && b->ours_count > 0 && b->ours_count <= LIST_MAX;
	if (rivals && b->from_app == 0 && error == 0)
		error = write_rivals(b, app_id, node);
	for (size_t i = 0; i < b->ours_count && !rivals && error == 0; i++)
		error = give(b, app_id, b->ours[i]);
	return error;
}

/* The rivals that the peer has chosen. */
static int
exchange_chosen(struct buckets *b, uint64_t app_id, const struct tree *tree,
    struct tree_node node, const uint64_t *chosen, size_t count)
{
	struct tree_range range = tree_range(tree, node);
	bool continued = b->from_app != 0 && app_id == b->from_app;
	size_t index;
	int error = 0;

	for (size_t i = range.first; i < range.end && error == 0; i++) {
		const struct tree_item *item = &tree->items[i];

		if (item->fading || (continued && item->key <= b->from))
			continue;
		if (sync_hash_find(
			chosen, count, sync_rival_key(item->key), &index))
			error = give(b, app_id, item);
	}
	return error;
}

static int
read_leaf(struct buckets *b, uint64_t app_id, const struct tree *tree,
    struct ascent *nodes, struct slice name, struct slice value)
{
	struct tree_node node;
	uint64_t *hashes;
	size_t count;
	bool *held;
	int error;

	if (ascent_node(nodes, name, &node) != 0 || ++b->nodes > GROUP_NODES)
		return KMS_EINVAL;
	error = shorts_read(value, b->form.width, LISTED_MAX, &hashes, &count);
	if (error != 0)
		return error;
	if (count > 1)
		qsort(hashes, count, sizeof(*hashes), sync_hash_compare);
	held = calloc(count + 1, sizeof(*held));
	if (held == NULL)
		error = KMS_ENOMEM;
	else if (b->chosen)
		error = exchange_chosen(b, app_id, tree, node, hashes, count);
	else
		error = exchange(b, app_id, tree, node, hashes, count, held);
	if (error == 0 && b->from_app == 0 && !b->chosen)
		error = lack(b, hashes, held, count);
	free(held);
	free(hashes);
	return error;
}

static int
write_lacking(struct buckets *b, uint64_t app_id)
{
	int error = 0;

	if (b->lacking_count == 0)
		return 0;
	error = buf_printf(
	    &b->want, "%s\"%" PRIu64 "\":", b->want.len > 0 ? "," : "", app_id);
	if (error == 0)
		error = shorts_write(
		    &b->want, b->lacking, b->lacking_count, b->form.width);
	b->lacking_count = 0;
	return error;
}

static int
read_leaves(struct buckets *b, struct slice apps)
{
	struct slice name, leaves, digits, value;
	struct ascent ids = { 0 }, nodes;
	struct slice_walk walk, inner;
	const struct tree *tree;
	uint64_t app_id;
	int error = 0;

	slice_walk_begin(&walk, apps);
	while (error == 0 && slice_walk_next(&walk, &name, &leaves)) {
		if (ascent_app(&ids, name, false, &app_id) != 0 ||
		    slice_kind(leaves) != SLICE_OBJECT)
			return KMS_EINVAL;
		tree = sync_tree(b->sync, app_id, b->now);
		if (tree == NULL)
			return KMS_ENOMEM;
		nodes = (struct ascent){ 0 };
		slice_walk_begin(&inner, leaves);
		while (error == 0 && slice_walk_next(&inner, &digits, &value))
			error =
			    read_leaf(b, app_id, tree, &nodes, digits, value);
		if (error == 0)
			error = write_lacking(b, app_id);
	}
	return error;
}

static int
write_buckets(struct buckets *b, struct buf *answer)
{
	int error = sync_answer_begin(b->sync, answer, true);

	if (error == 0)
		error = buf_append_text(answer, ",\"data\":");
	if (error == 0)
		error = record_json_write_data(
		    answer, b->items, b->count, RECORD_OURS);
	if (error == 0)
		error = buf_append_text(answer, ",\"want\":{");
	if (error == 0)
		error = buf_append(answer, b->want.data, b->want.len);
	if (error == 0)
		error = buf_append_text(answer, "}");
	if (error == 0 && b->rivals_app != 0)
		error = buf_append_text(answer, ",\"rivals\":{");
	if (error == 0 && b->rivals_app != 0)
		error = buf_append(answer, b->rivals.data, b->rivals.len);
	if (error == 0 && b->rivals_app != 0)
		error = buf_append_text(answer, "}}");
	if (error == 0 && b->more)
		error = buf_printf(answer,
		    ",\"next_app\":%" PRIu64 ",\"next\":\"%016" PRIx64 "\"",
		    b->after_app, b->after);
	return error == 0 ? buf_append_text(answer, "}") : error;
}

unsigned int
sync_answer_bucket(struct sync *sync, struct sync_peer *peer,
    struct slice object, struct kms_time now, struct buf *answer)
{
	struct buckets b = { .sync = sync, .now = now };
	struct slice apps, stale, chosen;
	int error;

	if (slice_member(object, "apps", &apps) != 0 ||
	    slice_member(object, "stale", &stale) != 0 ||
	    slice_member(object, "chosen", &chosen) != 0 ||
	    slice_kind(apps) != SLICE_OBJECT)
		return 400;
	if (sync->stale)
		return sync_answer_busy(sync, now, answer);
	sync_give_way(sync, peer, now);
	buf_init(&b.want, answer->max);
	buf_init(&b.rivals, answer->max);
	b.chosen = slice_kind(chosen) == SLICE_TRUE;
	b.fading = slice_kind(stale) == SLICE_TRUE;
	b.form = (struct short_form){ member_number(object, "salt"),
		b.fading ? WHOLE_WIDTH : SHORT_WIDTH };
	error =
	    sync_place_read(object, "after_app", "after", &b.from_app, &b.from);
	if (error == 0)
		error = read_leaves(&b, apps);
	if (error == 0)
		error = write_buckets(&b, answer);
	buf_free(&b.want);
	buf_free(&b.rivals);
	free(b.ours);
	free(b.lacking);
	free(b.items);
	return sync_status_of(error);
}
