/*
 * The trees that two nodes compare: of each app one whose leaves are its
 * records, in order of their keys' hashes, and tree 0, whose leaves are the
 * apps. A tree is an array in that order with running sums, so that the digest
 * of any node is the difference of two sums.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

/* ---- the apps' cache ----------------------------------------------------- */

static unsigned int
app_slot(const struct sync *sync, uint64_t app_id)
{
	return (unsigned int)siphash(sync->bucket_key, &app_id, sizeof(app_id));
}

static struct tree *
cache_find(struct sync *sync, uint64_t app_id)
{
	struct tree *tree = NULL;

	HASH_FIND_BYHASHVALUE(hh, sync->trees, &app_id, sizeof(app_id),
	    app_slot(sync, app_id), tree);
	return tree;
}

static void
cache_remove(struct sync *sync, struct tree *tree)
{
	HASH_DELETE(hh, sync->trees, tree);
	free(tree->items);
	free(tree);
}

static struct tree *
cache_new(struct sync *sync, uint64_t app_id)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (tree == NULL)
		return NULL;
	tree->app_id = app_id;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, sync->trees, &tree->app_id,
	    sizeof(tree->app_id), app_slot(sync, app_id), tree);
	if (tree->hh.tbl == NULL) {
		free(tree);
		return NULL;
	}
	return tree;
}

void
sync_trees_free(struct sync *sync)
{
	while (sync->trees != NULL)
		cache_remove(sync, sync->trees);
}

void
sync_trees_tick(struct sync *sync, struct kms_time now)
{
	struct tree *tree, *next;

	if (now.boot_ms - sync->trees_ms < TREE_MS)
		return;
	sync->trees_ms = now.boot_ms;
	HASH_ITER (hh, sync->trees, tree, next) {
		if (now.boot_ms - tree->made_ms >= TREE_MS)
			cache_remove(sync, tree);
	}
}

size_t
sync_trees_memory(const struct sync *sync)
{
	const struct tree *tree;
	size_t bytes = 0;

	for (tree = sync->trees; tree != NULL; tree = tree->hh.next)
		bytes += sizeof(*tree) + tree->count * sizeof(*tree->items);
	return bytes;
}

/* ---- making one ---------------------------------------------------------- */

struct tree_walk {
	struct sync *sync;
	struct tree *tree;
	size_t size;
	struct kms_time now;
};

static bool
tree_record(const struct store_record *record, void *arg)
{
	struct tree_walk *walk = arg;
	struct tree *tree = walk->tree;
	bool fading = sync_is_fading(walk->sync, record, walk->now);
	uint64_t hash = 0;

	if (!fading || walk->size > 0)
		hash = sync_item_hash(walk->sync, record);
	if (!fading) {
		tree->root += hash;
		tree->records++;
	}
	if (walk->size == 0)
		return true;
	tree->items[tree->count++] = (struct tree_item){
		.key = sync_key_hash(
		    walk->sync, record->app_id, record->key, record->key_len),
		.hash = hash,
		.bytes = record->key,
		.len = (uint32_t)record->key_len,
		.fading = fading,
	};
	return tree->count < walk->size;
}

static int
item_compare(const void *a, const void *b)
{
	const struct tree_item *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static void
items_sum(struct tree *tree)
{
	uint64_t sum = 0;

	if (tree->count > 1)
		qsort(tree->items, tree->count, sizeof(*tree->items),
		    item_compare);
	for (size_t i = 0; i < tree->count; i++) {
		tree->items[i].sum = sum;
		if (!tree->items[i].fading)
			sum += tree->items[i].hash;
	}
	tree->root = sum;
}

/* items: its leaves, too, not the root alone. */
static struct tree *
tree_make(struct sync *sync, uint64_t app_id, bool items, struct kms_time now)
{
	struct tree *tree = cache_find(sync, app_id);
	uint64_t version = store_app_version(sync->store, app_id);
	struct tree_walk walk = { .sync = sync, .now = now };

	if (tree != NULL && tree->version == version &&
	    (tree->items != NULL || !items) &&
	    now.boot_ms - tree->made_ms < TREE_MS)
		return tree;
	if (tree == NULL)
		tree = cache_new(sync, app_id);
	if (tree == NULL)
		return NULL;
	free(tree->items);
	tree->items = NULL;
	tree->count = 0;
	tree->version = version - 1; /* not whole yet */
	tree->root = tree->records = 0;
	walk.tree = tree;
	walk.size = items ? (size_t)store_app_records(sync->store, app_id) : 0;
	if (walk.size > 0) {
		tree->items = calloc(walk.size, sizeof(*tree->items));
		if (tree->items == NULL)
			return NULL;
	}
	store_each(sync->store, app_id, tree_record, &walk);
	if (items)
		items_sum(tree);
	tree->version = version;
	tree->made_ms = now.boot_ms;
	return tree;
}

const struct tree *
sync_tree(struct sync *sync, uint64_t app_id, struct kms_time now)
{
	static const struct tree nothing;

	/* Whoever asks for apps that are not there leaves nothing behind. */
	if (store_app_version(sync->store, app_id) == 0)
		return &nothing;
	return tree_make(sync, app_id, true, now);
}

/* ---- the tree of apps ---------------------------------------------------- */

struct apps_walk {
	struct tree *tree;
	size_t size;
};

static void
collect_app(uint64_t app_id, void *arg)
{
	struct apps_walk *walk = arg;

	if (walk->tree->count < walk->size)
		walk->tree->items[walk->tree->count++].app_id = app_id;
}

uint64_t
sync_app_place(const struct sync *sync, uint64_t app_id)
{
	app_id = htole64(app_id);
	return siphash(sync->bucket_key, &app_id, sizeof(app_id));
}

/* The hash of an app's ID is its place, its ID and root its contents. */
static int
app_item(struct sync *sync, struct tree_item *item, struct kms_time now)
{
	struct tree *tree = tree_make(sync, item->app_id, false, now);
	uint64_t words[2] = { htole64(item->app_id), 0 };

	if (tree == NULL)
		return KMS_ENOMEM;
	words[1] = htole64(tree->root);
	item->key = sync_app_place(sync, item->app_id);
	item->hash = siphash(sync->item_key, words, sizeof(words));
	/* Of nothing but what others forget now: left out. */
	item->fading = tree->records == 0;
	return 0;
}

int
sync_tree_of_apps(struct sync *sync, struct tree *tree, struct kms_time now)
{
	struct apps_walk walk = { .tree = tree };
	int error = 0;

	memset(tree, 0, sizeof(*tree));
	walk.size = (size_t)store_stats(sync->store).namespaces;
	tree->items =
	    calloc(walk.size > 0 ? walk.size : 1, sizeof(*tree->items));
	if (tree->items == NULL)
		return KMS_ENOMEM;
	store_each_app(sync->store, collect_app, &walk);
	for (size_t i = 0; i < tree->count && error == 0; i++)
		error = app_item(sync, &tree->items[i], now);
	if (error != 0) {
		sync_tree_clear(tree);
		return error;
	}
	items_sum(tree);
	return 0;
}

void
sync_tree_clear(struct tree *tree)
{
	free(tree->items);
	tree->items = NULL;
	tree->count = 0;
}

/* ---- nodes --------------------------------------------------------------- */

/* The first item whose key is not below this one. */
static size_t
lower_bound(const struct tree *tree, uint64_t key)
{
	size_t low = 0, high = tree->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tree->items[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct tree_range
tree_range(const struct tree *tree, struct tree_node node)
{
	uint64_t last = tree_node_last(node);

	return (struct tree_range){
		lower_bound(tree, node.prefix),
		last == UINT64_MAX ? tree->count : lower_bound(tree, last + 1),
	};
}

static uint64_t
sum_before(const struct tree *tree, size_t index)
{
	return index < tree->count ? tree->items[index].sum : tree->root;
}

uint64_t
tree_digest(const struct tree *tree, struct tree_range range)
{
	return sum_before(tree, range.end) - sum_before(tree, range.first);
}

void
tree_children(const struct tree *tree, struct tree_node node,
    struct short_form form, uint64_t digests[TREE_FANOUT])
{
	for (unsigned int i = 0; i < TREE_FANOUT; i++)
		digests[i] = hash_shorten(form,
		    tree_digest(
			tree, tree_range(tree, tree_node_child(node, i))));
}

const struct tree_item *
sync_tree_find_app(
    const struct sync *sync, const struct tree *tree, uint64_t app_id)
{
	uint64_t key = sync_app_place(sync, app_id);

	for (size_t i = lower_bound(tree, key);
	     i < tree->count && tree->items[i].key == key; i++)
		if (tree->items[i].app_id == app_id)
			return &tree->items[i];
	return NULL;
}
