/*
 * Finding what differs. A request has the digests of the children of nodes;
 * the answer goes on with the children that differ, one level further down,
 * and so does the next request. A node is a leaf as soon as either side has
 * few records in it: those are exchanged (sync_exchange.c).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define NODES_SPARE 16384 /* more than our own records need */

/* ---- lists of nodes ------------------------------------------------------ */

void
node_list_free(struct node_list *list)
{
	free(list->nodes);
	memset(list, 0, sizeof(*list));
}

static int
order(const struct repair_node *a, const struct repair_node *b)
{
	if (a->listed != b->listed)
		return a->listed ? -1 : 1;
	if (a->app_id != b->app_id)
		return a->app_id < b->app_id ? -1 : 1;
	return tree_node_compare(a->node, b->node);
}

static int
node_compare(const void *a, const void *b)
{
	return order(a, b);
}

void
node_list_sort(struct repair_node *nodes, size_t count)
{
	if (count > 1)
		qsort(nodes, count, sizeof(*nodes), node_compare);
}

/* Nobody may make us keep more nodes than our own records explain. */
static int
add(struct sync *sync, struct node_list *list, struct repair_node node)
{
	struct store_stats stats = store_stats(sync->store);
	struct repair_node *nodes;
	size_t size;

	if (list->count >= stats.live_keys + stats.dead_keys + NODES_SPARE)
		return KMS_EINVAL;
	if (list->count == list->size) {
		size = list->size > 0 ? list->size * 2 : 64;
		nodes = realloc(list->nodes, size * sizeof(*nodes));
		if (nodes == NULL)
			return KMS_ENOMEM;
		list->nodes = nodes;
		list->size = size;
	}
	list->nodes[list->count++] = node;
	return 0;
}

/* A node to be listed: in pieces when it is large. */
static int
add_leaf(struct sync *sync, struct repair *repair, const struct tree *tree,
    struct repair_node node)
{
	struct tree_range range = tree_range(tree, node.node);
	struct repair_node child = node;
	int error = 0;

	if (range.end - range.first <= CHUNK_MAX ||
	    node.node.depth == TREE_DEPTH_MAX)
		return add(
		    sync, node.listed ? &repair->open : &repair->leaves, node);
	for (unsigned int i = 0; i < TREE_FANOUT && error == 0; i++) {
		child.node = tree_node_child(node.node, i);
		error = add_leaf(sync, repair, tree, child);
	}
	return error;
}

/* A node that differs. */
static int
add_node(struct sync *sync, struct repair *repair, const struct tree *tree,
    struct repair_node node)
{
	struct tree_range range = tree_range(tree, node.node);

	if (range.end - range.first <= LIST_MAX ||
	    node.node.depth == TREE_DEPTH_MAX) {
		node.listed = node.app_id == 0;
		return add_leaf(sync, repair, tree, node);
	}
	return add(sync, &repair->open, node);
}

/* ---- trees --------------------------------------------------------------- */

/* The trees of one message: that of apps is made at most once. */
struct trees {
	struct sync *sync;
	struct kms_time now;
	struct tree of_apps;
	bool made;
};

static const struct tree *
tree_of(struct trees *trees, uint64_t app_id)
{
	if (app_id != 0)
		return sync_tree(trees->sync, app_id, trees->now);
	if (!trees->made &&
	    sync_tree_of_apps(trees->sync, &trees->of_apps, trees->now) != 0)
		return NULL;
	trees->made = true;
	return &trees->of_apps;
}

/* ---- asking -------------------------------------------------------------- */

static int
write_apps(struct sync *sync, struct repair *repair, const struct tree *tree,
    struct tree_node node, bool first)
{
	struct tree_range range = tree_range(tree, node);
	struct buf *out = &sync->body;
	const char *comma = "";
	int error;

	error = buf_append_text(out, first ? ",\"apps\":{" : ",");
	if (error == 0)
		error = tree_node_write(out, node);
	if (error == 0)
		error = buf_append_text(out, ":{");
	for (size_t i = range.first; i < range.end && error == 0; i++) {
		uint64_t hash = hash_shorten(repair->form, tree->items[i].hash);

		if (tree->items[i].fading)
			continue;
		error = buf_printf(
		    out, "%s\"%" PRIu64 "\":", comma, tree->items[i].app_id);
		if (error == 0)
			error = shorts_write(out, &hash, 1, repair->form.width);
		comma = ",";
	}
	return error == 0 ? buf_append_text(out, "}") : error;
}

static int
write_children(struct sync *sync, const struct repair *repair,
    const struct tree *tree, const struct repair_node *node, bool first_app,
    bool first_node)
{
	uint64_t digests[TREE_FANOUT];
	struct buf *out = &sync->body;
	int error = 0;

	tree_children(tree, node->node, repair->form, digests);
	if (first_node)
		error = buf_printf(out, "%s\"%" PRIu64 "\":{",
		    first_app ? ",\"trees\":{" : "},", node->app_id);
	else
		error = buf_append_text(out, ",");
	if (error == 0)
		error = tree_node_write(out, node->node);
	if (error == 0)
		error = buf_append_text(out, ":");
	if (error == 0)
		error =
		    shorts_write(out, digests, TREE_FANOUT, repair->form.width);
	return error;
}

/* The nodes [first, first + count), sorted. */
static int
write_nodes(struct sync *sync, struct repair *repair, struct trees *trees,
    const struct repair_node *nodes, size_t count)
{
	const struct tree *tree;
	size_t listed = 0;
	int error = 0;

	for (; listed < count && nodes[listed].listed && error == 0; listed++) {
		tree = tree_of(trees, 0);
		error = tree == NULL ? KMS_ENOMEM
				     : write_apps(sync, repair, tree,
					   nodes[listed].node, listed == 0);
	}
	if (listed > 0 && error == 0)
		error = buf_append_text(&sync->body, "}");
	for (size_t i = listed; i < count && error == 0; i++) {
		tree = tree_of(trees, nodes[i].app_id);
		error = tree == NULL
		    ? KMS_ENOMEM
		    : write_children(sync, repair, tree, &nodes[i], i == listed,
			  i == listed ||
			      nodes[i].app_id != nodes[i - 1].app_id);
	}
	if (listed < count && error == 0)
		error = buf_append_text(&sync->body, "}}");
	return error;
}

/* How many of the last nodes fit into a message. */
static size_t
choose(const struct repair *repair, struct trees *trees)
{
	const struct node_list *open = &repair->open;
	size_t count = 0, apps = 0;

	while (count < MESSAGE_NODES && count < open->count) {
		const struct repair_node *node =
		    &open->nodes[open->count - 1 - count];

		if (node->listed) {
			const struct tree *tree = tree_of(trees, 0);
			struct tree_range range;

			if (tree == NULL)
				return 0;
			range = tree_range(tree, node->node);
			apps += range.end - range.first;
			if (count > 0 && apps > MESSAGE_APPS)
				break;
		}
		count++;
	}
	return count;
}

static int
write_salt(struct sync *sync, const struct repair *repair)
{
	if (repair->form.salt == 0)
		return 0;
	return buf_printf(&sync->body, ",\"salt\":%" PRIu64, repair->form.salt);
}

static void
send_open(struct trees *trees, struct sync_peer *peer, bool root)
{
	struct sync *sync = trees->sync;
	struct repair *repair = &peer->repair;
	struct repair_node *nodes;
	int error;

	repair->step = REPAIR_DIGESTS;
	repair->asked = choose(repair, trees);
	nodes = repair->open.nodes + repair->open.count - repair->asked;
	node_list_sort(nodes, repair->asked);
	error = repair->asked > 0 ? 0 : KMS_ENOMEM;
	if (error == 0)
		error = sync_body_begin(sync, SYNC_DIGEST_REQUEST, root);
	if (error == 0 && root)
		error = buf_append_text(&sync->body, ",\"root\":");
	if (error == 0 && root)
		error = shorts_write(
		    &sync->body, &trees->of_apps.root, 1, WHOLE_WIDTH);
	if (error == 0 && root && sync->stale)
		error = buf_append_text(&sync->body, ",\"stale\":true");
	if (error == 0 && root && !sync->stats.filled)
		error = buf_append_text(&sync->body, ",\"unfilled\":true");
	if (error == 0)
		error = write_salt(sync, repair);
	if (error == 0)
		error = write_nodes(sync, repair, trees, nodes, repair->asked);
	sync_repair_send(sync, peer, error, trees->now);
}

void
sync_descend_begin(
    struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct trees trees = { .sync = sync, .now = now };
	const struct tree *tree = tree_of(&trees, 0);
	int error = KMS_ENOMEM;

	if (tree != NULL)
		error = add_node(
		    sync, &peer->repair, tree, (struct repair_node){ 0 });
	if (error == 0)
		send_open(&trees, peer, true);
	else
		sync_repair_failed(sync, peer, "out of memory", now);
	sync_tree_clear(&trees.of_apps);
}

void
sync_descend_send(
    struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct trees trees = { .sync = sync, .now = now };

	send_open(&trees, peer, false);
	sync_tree_clear(&trees.of_apps);
}

/* ---- answers ------------------------------------------------------------- */

static struct repair_node *
find(struct repair *repair, struct repair_node *asked,
    const struct repair_node *wanted)
{
	return bsearch(
	    wanted, asked, repair->asked, sizeof(*asked), node_compare);
}

/*
 * Is the answer's node one to go on with: a child of what was asked, and not
 * yet named? Where apps were listed it may name the roots of apps, or the
 * node, when there are too many of them.
 */
static bool
is_asked(struct repair *repair, struct repair_node *asked, uint64_t app_id,
    struct tree_node node)
{
	struct repair_node wanted = { .app_id = app_id }, *parent;
	unsigned int shift = 64 - 4 * node.depth, digit;

	if (node.depth == 0 && app_id != 0)
		return asked[0].listed;
	if (app_id == 0) {
		wanted.node = node;
		wanted.listed = true;
		parent = find(repair, asked, &wanted);
		if (parent != NULL && parent->answered++ == 0)
			return true;
		wanted.listed = false;
	}
	if (node.depth == 0)
		return false;
	digit = (unsigned int)(node.prefix >> shift & 15);
	wanted.node.depth = node.depth - 1;
	wanted.node.prefix = node.prefix & ~(UINT64_C(15) << shift);
	parent = find(repair, asked, &wanted);
	if (parent == NULL || (parent->answered >> digit & 1) != 0)
		return false;
	parent->answered |= (uint16_t)(1u << digit);
	return true;
}

/* The digests of a node that differs, or none: it is to be listed. */
static int
take_node(struct trees *trees, struct repair *repair, uint64_t app_id,
    struct tree_node node, struct slice value)
{
	const struct tree *tree = tree_of(trees, app_id);
	uint64_t ours[TREE_FANOUT], *theirs;
	struct repair_node child = { .app_id = app_id, .node = node };
	size_t count;
	int error;

	if (tree == NULL)
		return KMS_ENOMEM;
	error = shorts_read(
	    value, repair->form.width, TREE_FANOUT, &theirs, &count);
	if (error != 0)
		return error;
	if (count == 0) {
		child.listed = app_id == 0;
		error = add_leaf(trees->sync, repair, tree, child);
	} else if (count != TREE_FANOUT || node.depth == TREE_DEPTH_MAX) {
		error = KMS_EINVAL;
	} else {
		tree_children(tree, node, repair->form, ours);
		for (unsigned int i = 0; i < TREE_FANOUT && error == 0; i++) {
			child.node = tree_node_child(node, i);
			if (ours[i] != theirs[i])
				error =
				    add_node(trees->sync, repair, tree, child);
		}
	}
	free(theirs);
	return error;
}

static int
take_tree(struct trees *trees, struct repair *repair, struct repair_node *asked,
    struct slice name, struct slice nodes)
{
	struct slice digits, value;
	struct slice_walk walk;
	struct tree_node node;
	uint64_t app_id = 0;
	int error = 0;

	if (!slice_is(name, "0") && slice_app_id(name, &app_id) != 0)
		return KMS_EINVAL;
	slice_walk_begin(&walk, nodes);
	while (error == 0 && slice_walk_next(&walk, &digits, &value)) {
		if (!walk.object || tree_node_read(digits, &node) != 0 ||
		    !is_asked(repair, asked, app_id, node))
			return KMS_EINVAL;
		error = take_node(trees, repair, app_id, node, value);
	}
	return error;
}

int
sync_descend_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct trees trees = { .sync = sync, .now = now };
	struct slice object, name, nodes;
	struct repair_node *asked;
	struct slice_walk walk;
	int error = 0;

	if (slice_member(reply->object, "trees", &object) != 0 ||
	    slice_member(reply->object, "differs", &name) != 0 ||
	    slice_kind(object) != SLICE_OBJECT || repair->asked == 0)
		return KMS_EINVAL;
	repair->differed |= slice_kind(name) == SLICE_TRUE;
	/* What the answer adds takes their place. */
	repair->open.count -= repair->asked;
	asked = malloc(repair->asked * sizeof(*asked));
	if (asked == NULL)
		return KMS_ENOMEM;
	memcpy(asked, repair->open.nodes + repair->open.count,
	    repair->asked * sizeof(*asked));
	slice_walk_begin(&walk, object);
	while (error == 0 && slice_walk_next(&walk, &name, &nodes)) {
		repair->differed = true;
		error = take_tree(&trees, repair, asked, name, nodes);
	}
	repair->asked = 0;
	free(asked);
	sync_tree_clear(&trees.of_apps);
	return error;
}
