/*
 * Exchanging the leaves that differ, a group of them at a time: our hashes go
 * out, the records that we lack and the hashes that the peer lacks come back.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

void
sync_exchange_done(struct repair *repair)
{
	for (size_t i = 0; i < repair->want_count; i++)
		free(repair->wants[i].hashes);
	free(repair->wants);
	repair->wants = NULL;
	repair->want_count = 0;
	sync_rivals_free(repair);
	repair->next += repair->group;
	repair->group = repair->seen_count = 0;
	repair->page_app = repair->page = 0;
	repair->push_app = repair->pushed = 0;
	repair->dropped = false;
}

void
sync_exchange_begin(struct sync *sync, struct repair *repair)
{
	uint64_t hashes = 0, each;

	/* On the average of the app, not counted: the records of a leaf are
	 * few, and its tree may not be at hand. */
	repair->group = 0;
	for (size_t i = repair->next; i < repair->leaves.count; i++) {
		const struct repair_node *leaf = &repair->leaves.nodes[i];
		unsigned int depth = leaf->node.depth;

		each = store_app_records(sync->store, leaf->app_id);
		each = depth < TREE_DEPTH_MAX ? each >> 4 * depth : 0;
		hashes += each + 1;
		if (repair->group > 0 &&
		    (hashes > GROUP_HASHES || repair->group >= GROUP_NODES))
			return;
		repair->group++;
	}
}

/* ---- pull ---------------------------------------------------------------- */

/* Lies all of the leaf before the place where the last answer ended? */
static bool
is_through(const struct repair *repair, const struct repair_node *leaf)
{
	if (leaf->app_id != repair->page_app)
		return leaf->app_id < repair->page_app;
	return tree_node_last(leaf->node) <= repair->page;
}

static int
write_leaf(struct sync *sync, const struct repair *repair,
    const struct repair_node *leaf, struct short_form form, struct kms_time now)
{
	const struct tree *tree = sync_tree(sync, leaf->app_id, now);
	struct tree_range range;
	uint64_t *hashes;
	size_t count = 0;
	int error;

	if (tree == NULL)
		return KMS_ENOMEM;
	range = tree_range(tree, leaf->node);
	hashes = malloc((range.end - range.first + 1) * sizeof(*hashes));
	if (hashes == NULL)
		return KMS_ENOMEM;
	for (size_t i = range.first; i < range.end; i++) {
		const struct tree_item *item = &tree->items[i];

		if ((item->fading && !repair->dropping) ||
		    (leaf->app_id == repair->page_app &&
			item->key <= repair->page))
			continue;
		hashes[count++] = hash_shorten(form, item->hash);
	}
	error = tree_node_write(&sync->body, leaf->node);
	if (error == 0)
		error = buf_append_text(&sync->body, ":");
	if (error == 0)
		error = shorts_write(&sync->body, hashes, count, form.width);
	free(hashes);
	return error;
}

/* What stands in the balance is decided by whole hashes. */
static struct short_form
form_of(const struct repair *repair)
{
	struct short_form form = repair->form;

	if (repair->dropping)
		form.width = WHOLE_WIDTH;
	return form;
}

static int
write_leaves(
    struct sync *sync, const struct repair *repair, struct kms_time now)
{
	const struct repair_node *leaf, *before = NULL;
	int error = buf_append_text(&sync->body, ",\"apps\":{");

	for (size_t i = 0; i < repair->group && error == 0; i++) {
		leaf = &repair->leaves.nodes[repair->next + i];
		if (is_through(repair, leaf))
			continue;
		if (before != NULL && before->app_id == leaf->app_id)
			error = buf_append_text(&sync->body, ",");
		else
			error = buf_printf(&sync->body, "%s\"%" PRIu64 "\":{",
			    before != NULL ? "}," : "", leaf->app_id);
		if (error == 0)
			error = write_leaf(
			    sync, repair, leaf, form_of(repair), now);
		before = leaf;
	}
	if (error == 0)
		error =
		    buf_append_text(&sync->body, before != NULL ? "}}" : "}");
	return error;
}

void
sync_exchange_pull(
    struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	int error;

	repair->step = REPAIR_PULL;
	error = sync_body_begin(sync, SYNC_BUCKET_REQUEST, false);
	if (error == 0 && repair->page_app != 0)
		error = buf_printf(&sync->body,
		    ",\"after_app\":%" PRIu64 ",\"after\":\"%016" PRIx64 "\"",
		    repair->page_app, repair->page);
	if (error == 0 && repair->dropping)
		error = buf_append_text(&sync->body, ",\"stale\":true");
	if (error == 0 && repair->form.salt != 0)
		error = buf_printf(
		    &sync->body, ",\"salt\":%" PRIu64, repair->form.salt);
	if (error == 0)
		error = repair->choosing ? sync_rivals_write(sync, repair)
					 : write_leaves(sync, repair, now);
	sync_repair_send(sync, peer, error, now);
}

/* ---- what comes ---------------------------------------------------------- */

struct taking {
	struct sync *sync;
	struct sync_peer *peer;
	struct kms_time now;
	size_t merged;
};

/* Note a key that the peer holds in some form. */
static int
note_seen(struct taking *taking, uint64_t app_id, const void *key, size_t len)
{
	struct repair *repair = &taking->peer->repair;
	uint64_t *seen;
	size_t size;

	if (repair->seen_count == repair->seen_size) {
		size = repair->seen_size > 0 ? repair->seen_size * 2 : 256;
		seen = realloc(repair->seen, size * sizeof(*seen));
		if (seen == NULL)
			return KMS_ENOMEM;
		repair->seen = seen;
		repair->seen_size = size;
	}
	repair->seen[repair->seen_count++] =
	    sync_key_hash(taking->sync, app_id, key, len);
	return 0;
}

static int
take_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct taking *taking = arg;
	struct store_incoming copy;
	struct store_merge_result result;

	if (in == NULL)
		return 0;
	copy = *in;
	if (taking->peer->repair.dropping &&
	    note_seen(taking, app_id, in->key, in->key_len) != 0)
		return KMS_ENOMEM;
	result = sync_merge(taking->sync, app_id, &copy,
	    taking->peer->incarnation, taking->now);
	if (result.outcome == STORE_MERGED)
		taking->merged++;
	return 0;
}

int
sync_exchange_take(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, bool stubs, struct kms_time now)
{
	struct taking taking = { sync, peer, now, 0 };
	struct slice data;
	int error;

	if (slice_member(reply->object, "data", &data) != 0)
		return KMS_EINVAL;
	error =
	    record_json_each(&sync->reader, data, stubs, take_record, &taking);
	peer->repair.moved += taking.merged;
	return error;
}

static bool
is_of_group(const struct repair *repair, uint64_t app_id)
{
	size_t low = repair->next, high = repair->next + repair->group;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (repair->leaves.nodes[middle].app_id == app_id)
			return true;
		if (repair->leaves.nodes[middle].app_id < app_id)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* The hashes that the peer wants, app by app. */
static int
read_want(struct repair *repair, struct slice object)
{
	struct slice name, value;
	struct slice_walk walk;
	struct repair_want *want;
	uint64_t last = 0;
	size_t count = 0;
	int error;

	slice_walk_begin(&walk, object);
	while (slice_walk_next(&walk, &name, &value))
		count++;
	if (slice_kind(object) != SLICE_OBJECT || count > repair->group)
		return KMS_EINVAL;
	repair->wants = calloc(count + 1, sizeof(*repair->wants));
	if (repair->wants == NULL)
		return KMS_ENOMEM;
	slice_walk_begin(&walk, object);
	while (slice_walk_next(&walk, &name, &value)) {
		want = &repair->wants[repair->want_count];
		if (slice_app_id(name, &want->app_id) != 0 ||
		    want->app_id <= last || !is_of_group(repair, want->app_id))
			return KMS_EINVAL;
		last = want->app_id;
		error = shorts_read(value, form_of(repair).width, SIZE_MAX / 64,
		    &want->hashes, &want->count);
		if (error != 0)
			return error;
		repair->want_count++;
		if (want->count > 1)
			qsort(want->hashes, want->count, sizeof(*want->hashes),
			    sync_hash_compare);
	}
	return 0;
}

int
sync_exchange_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	uint64_t app = repair->page_app, page = repair->page;
	struct slice want, rivals;
	int error;

	if (slice_member(reply->object, "want", &want) != 0 ||
	    slice_member(reply->object, "rivals", &rivals) != 0 ||
	    sync_place_read(reply->object, "next_app", "next",
		&repair->page_app, &repair->page) != 0)
		return KMS_EINVAL;
	/* Where an answer ended must lie behind where the last one did, or it
	 * would go on for ever. */
	if (repair->page_app != 0 &&
	    (repair->page_app < app ||
		(repair->page_app == app && repair->page <= page)))
		return KMS_EINVAL;
	error = sync_exchange_take(sync, peer, reply, true, now);
	if (error == 0 && app == 0 && !repair->choosing) {
		error = read_want(repair, want);
		if (error == 0)
			error = sync_rivals_read(
			    sync, repair, rivals, form_of(repair), now);
	}
	if (repair->seen_count > 1)
		qsort(repair->seen, repair->seen_count, sizeof(*repair->seen),
		    sync_hash_compare);
	return error;
}
