/*
 * Answering a peer that compares: digests. The work of a message: each app
 * that it names, and that has changed since it was last looked at, is walked
 * once (with the roots or lists of apps: each app that has changed), and two
 * binary searches for each child of at most MESSAGE_NODES nodes, and of the
 * root of each app that is listed or lies in a node listed: no node or app is
 * named twice.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define GIVE_WAY_MS 1000
#define APPS_LISTED_MAX (CHUNK_MAX + MESSAGE_APPS)

/* ---- what both share ----------------------------------------------------- */

/*
 * The peer compares with us, which serves both: what we had in mind to ask it
 * can wait, and finds nothing then. When both have begun, one of them goes on.
 */
void
sync_give_way(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair;

	if (peer == NULL || !peer->needs_repair || sync->stale)
		return;
	repair = &peer->repair;
	if (repair->step != REPAIR_IDLE) {
		if (strcmp(sync->config.wallet, peer->wallet) < 0)
			return;
		sync_repair_stop(peer);
	}
	if (repair->due_ms < now.boot_ms + GIVE_WAY_MS)
		repair->due_ms = now.boot_ms + GIVE_WAY_MS;
}

/* We were away too long: nobody may learn from us before we have. */
unsigned int
sync_answer_busy(struct sync *sync, struct kms_time now, struct buf *answer)
{
	int error = sync_answer_begin(sync, answer, false);

	if (error == 0)
		error = buf_printf(answer, ",\"touch_ms\":%" PRId64 "}",
		    now.boot_ms - sync->touch_ms);
	return error == 0 ? 200 : 503;
}

unsigned int
sync_status_of(int error)
{
	if (error == 0)
		return 200;
	return error == KMS_EINVAL ? 400 : 503;
}

/* ---- digests ------------------------------------------------------------- */

struct digests {
	struct sync *sync;
	struct sync_peer *peer;
	struct buf *answer;
	struct kms_time now;
	struct short_form form;
	struct tree of_apps;
	bool of_apps_made;
	size_t nodes; /* of the request */
	/* what is written: nodes, and whose the last was */
	size_t written;
	uint64_t app_id;
	uint64_t *listed; /* apps of one list, sorted */
	size_t listed_count;
};

static const struct tree *
tree_of(struct digests *d, uint64_t app_id)
{
	if (app_id != 0)
		return sync_tree(d->sync, app_id, d->now);
	if (!d->of_apps_made &&
	    sync_tree_of_apps(d->sync, &d->of_apps, d->now) != 0)
		return NULL;
	d->of_apps_made = true;
	return &d->of_apps;
}

/* Go on with a node that differs: our digests of its children, or nothing,
 * when we have so little in it that the peer had better list its own. */
static int
write_node(struct digests *d, uint64_t app_id, const struct tree *tree,
    struct tree_node node)
{
	struct tree_range range = tree_range(tree, node);
	uint64_t digests[TREE_FANOUT];
	size_t count = 0;
	int error = 0;

	if (range.end - range.first > LIST_MAX && node.depth < TREE_DEPTH_MAX) {
		tree_children(tree, node, d->form, digests);
		count = TREE_FANOUT;
	}
	if (d->written == 0 || d->app_id != app_id)
		error = buf_printf(d->answer, "%s\"%" PRIu64 "\":{",
		    d->written > 0 ? "}," : "", app_id);
	else
		error = buf_append_text(d->answer, ",");
	d->app_id = app_id;
	d->written++;
	if (error == 0)
		error = tree_node_write(d->answer, node);
	if (error == 0)
		error = buf_append_text(d->answer, ":");
	if (error == 0)
		error = shorts_write(d->answer, digests, count, d->form.width);
	return error;
}

/* The children of a node against the peer's digests of them. */
static int
compare_node(struct digests *d, uint64_t app_id, struct ascent *ascent,
    struct slice name, struct slice value)
{
	const struct tree *tree = tree_of(d, app_id);
	uint64_t ours[TREE_FANOUT], *theirs;
	struct tree_node node;
	size_t count;
	int error;

	if (ascent_node(ascent, name, &node) != 0 || ++d->nodes > MESSAGE_NODES)
		return KMS_EINVAL;
	if (tree == NULL)
		return KMS_ENOMEM;
	error = shorts_read(value, d->form.width, TREE_FANOUT, &theirs, &count);
	if (error != 0)
		return error;
	if (count != TREE_FANOUT || node.depth == TREE_DEPTH_MAX) {
		free(theirs);
		return KMS_EINVAL;
	}
	tree_children(tree, node, d->form, ours);
	for (unsigned int i = 0; i < TREE_FANOUT && error == 0; i++)
		if (ours[i] != theirs[i])
			error = write_node(
			    d, app_id, tree, tree_node_child(node, i));
	free(theirs);
	return error;
}

static int
compare_trees(struct digests *d, struct slice trees)
{
	struct slice name, nodes, digits, value;
	struct ascent ids = { 0 }, of_app;
	struct slice_walk walk, inner;
	uint64_t app_id;
	int error = 0;

	slice_walk_begin(&walk, trees);
	while (error == 0 && slice_walk_next(&walk, &name, &nodes)) {
		if (slice_kind(nodes) != SLICE_OBJECT ||
		    ascent_app(&ids, name, true, &app_id) != 0)
			return KMS_EINVAL;
		of_app = (struct ascent){ 0 };
		slice_walk_begin(&inner, nodes);
		while (error == 0 && slice_walk_next(&inner, &digits, &value))
			error = compare_node(d, app_id, &of_app, digits, value);
	}
	return error;
}

static int
write_root(struct digests *d, uint64_t app_id)
{
	const struct tree *tree = sync_tree(d->sync, app_id, d->now);

	if (tree == NULL)
		return KMS_ENOMEM;
	return write_node(d, app_id, tree, (struct tree_node){ 0, 0 });
}

/* Does the app's item look as the peer says? */
static int
compare_app(struct digests *d, struct tree_node node, struct slice name,
    struct slice value)
{
	const struct tree_item *found = NULL;
	uint64_t app_id, place, *theirs;
	size_t count;
	bool same;
	int error;

	if (slice_app_id(name, &app_id) != 0 ||
	    d->listed_count >= APPS_LISTED_MAX)
		return KMS_EINVAL;
	place = sync_app_place(d->sync, app_id);
	if (place < node.prefix || place > tree_node_last(node))
		return KMS_EINVAL;
	d->listed[d->listed_count++] = app_id;
	error = shorts_read(value, d->form.width, 1, &theirs, &count);
	if (error != 0)
		return error;
	found = sync_tree_find_app(d->sync, &d->of_apps, app_id);
	same = found != NULL && !found->fading && count == 1 &&
	    hash_shorten(d->form, found->hash) == theirs[0];
	free(theirs);
	if (count != 1)
		return KMS_EINVAL;
	return same ? 0 : write_root(d, app_id);
}

/* The apps of a node of tree 0, each once: those that differ, and those that
 * only we have. */
static int
compare_list(struct digests *d, struct tree_node node, struct slice apps)
{
	const struct tree *tree = &d->of_apps;
	struct tree_range range = tree_range(tree, node);
	struct slice name, value;
	struct slice_walk walk;
	size_t index;
	int error = 0;

	d->listed_count = 0;
	if (range.end - range.first > MESSAGE_APPS)
		return write_node(d, 0, tree, node);
	slice_walk_begin(&walk, apps);
	while (error == 0 && slice_walk_next(&walk, &name, &value))
		error = compare_app(d, node, name, value);
	if (d->listed_count > 1)
		qsort(d->listed, d->listed_count, sizeof(*d->listed),
		    sync_hash_compare);
	for (size_t i = 1; i < d->listed_count && error == 0; i++)
		if (d->listed[i] == d->listed[i - 1])
			error = KMS_EINVAL;
	for (size_t i = range.first; i < range.end && error == 0; i++)
		if (!tree->items[i].fading &&
		    !sync_hash_find(d->listed, d->listed_count,
			tree->items[i].app_id, &index))
			error = write_root(d, tree->items[i].app_id);
	return error;
}

static int
compare_lists(struct digests *d, struct slice apps)
{
	struct slice name, value;
	struct slice_walk walk;
	struct ascent ascent = { 0 };
	struct tree_node node;
	size_t total = 0;
	int error = 0;

	d->listed = malloc(APPS_LISTED_MAX * sizeof(*d->listed));
	if (d->listed == NULL || tree_of(d, 0) == NULL)
		return KMS_ENOMEM;
	slice_walk_begin(&walk, apps);
	while (error == 0 && slice_walk_next(&walk, &name, &value)) {
		if (slice_kind(value) != SLICE_OBJECT ||
		    ascent_node(&ascent, name, &node) != 0 ||
		    ++d->nodes > MESSAGE_NODES || total >= APPS_LISTED_MAX)
			return KMS_EINVAL;
		error = compare_list(d, node, value);
		total += d->listed_count;
	}
	return error;
}

/* Its tree of apps is ours: nothing is left to compare in either direction. */
static void
roots_are_equal(struct digests *d, struct slice boot, bool unfilled)
{
	struct sync *sync = d->sync;
	struct sync_peer *peer = d->peer;

	if (peer == NULL || peer->kind != SYNC_KIND_OURS ||
	    !slice_is(boot, peer->boot) || peer->repair.step != REPAIR_IDLE)
		return;
	sync_filled_from(sync, peer, !unfilled);
	if (!peer->needs_repair)
		return;
	peer->needs_repair = false;
	peer->repair.failures = 0;
	sync_push_from(sync, peer, store_stats(sync->store).sequence);
}

static int
compare_roots(struct digests *d, struct slice object, bool *differ)
{
	struct slice root, boot, unfilled;
	uint64_t *theirs;
	size_t count;
	int error;

	*differ = true;
	if (slice_member(object, "root", &root) != 0 ||
	    slice_member(object, "boot", &boot) != 0 ||
	    slice_member(object, "unfilled", &unfilled) != 0)
		return KMS_EINVAL;
	if (root.text == NULL)
		return 0;
	error = shorts_read(root, WHOLE_WIDTH, 1, &theirs, &count);
	if (error != 0)
		return error;
	if (count != 1)
		error = KMS_EINVAL;
	else if (tree_of(d, 0) == NULL)
		error = KMS_ENOMEM;
	else
		*differ = theirs[0] != d->of_apps.root;
	free(theirs);
	if (error == 0 && !*differ)
		roots_are_equal(d, boot, slice_kind(unfilled) == SLICE_TRUE);
	return error;
}

static int
write_digests(struct digests *d, struct slice object, struct slice trees,
    struct slice apps, bool stale)
{
	bool differ;
	int error = compare_roots(d, object, &differ);

	if (error == 0)
		error = sync_answer_begin(d->sync, d->answer, true);
	if (error == 0 && stale)
		error = buf_printf(d->answer, ",\"touch_ms\":%" PRId64,
		    d->now.boot_ms - d->sync->touch_ms);
	if (error == 0 && !d->sync->stats.filled)
		error = buf_append_text(d->answer, ",\"unfilled\":true");
	if (error == 0)
		error = buf_append_text(d->answer, ",\"trees\":{");
	if (error == 0 && differ && apps.text != NULL)
		error = compare_lists(d, apps);
	if (error == 0 && differ)
		error = compare_trees(d, trees);
	if (error == 0)
		error = buf_append_text(d->answer, d->written > 0 ? "}}" : "}");
	/* Two that differ look alike: the next time they will not. */
	if (error == 0 && differ && d->written == 0)
		error = buf_append_text(d->answer, ",\"differs\":true");
	return error == 0 ? buf_append_text(d->answer, "}") : error;
}

unsigned int
sync_answer_digest(struct sync *sync, struct sync_peer *peer,
    struct slice object, struct kms_time now, struct buf *answer)
{
	struct digests d = {
		.sync = sync, .peer = peer, .answer = answer, .now = now
	};
	struct slice apps, trees, stale;
	int error;

	if (slice_member(object, "apps", &apps) != 0 ||
	    slice_member(object, "trees", &trees) != 0 ||
	    slice_member(object, "stale", &stale) != 0 ||
	    (apps.text != NULL && slice_kind(apps) != SLICE_OBJECT) ||
	    (trees.text != NULL && slice_kind(trees) != SLICE_OBJECT))
		return 400;
	if (sync->stale)
		return sync_answer_busy(sync, now, answer);
	d.form =
	    (struct short_form){ member_number(object, "salt"), SHORT_WIDTH };
	sync_give_way(sync, peer, now);
	error = write_digests(
	    &d, object, trees, apps, slice_kind(stale) == SLICE_TRUE);
	sync_tree_clear(&d.of_apps);
	free(d.listed);
	return sync_status_of(error);
}
