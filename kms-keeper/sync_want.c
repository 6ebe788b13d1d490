/* What a comparison moves from here: the records that the peer lacks, and,
 * when we were away too long, what was deleted meanwhile. */
#include <stdlib.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

struct wanted {
	struct sync *sync;
	struct repair *repair;
	struct short_form form;
	struct kms_time now;
	size_t count, bytes, limit;
	bool drop; /* looking for what is to be dropped */
	bool full;
};

/* Old, and not from after our last contact: see "away too long". */
static bool
in_doubt(const struct sync *sync, const struct store_record *record)
{
	if (record->origin != 0)
		return record->sequence <= sync->doubt_sequence;
	return record->sequence <= sync->doubt_acked;
}

static bool
is_to_be_dropped(const struct wanted *wanted, const struct store_record *record,
    uint64_t key)
{
	const struct repair *repair = wanted->repair;
	size_t index;

	return repair->dropping && in_doubt(wanted->sync, record) &&
	    !sync_hash_find(repair->seen, repair->seen_count, key, &index);
}

/* Take one that the peer asked for; false: there is no more room. */
static bool
take(struct wanted *wanted, const struct tree_item *item, uint64_t app_id)
{
	struct sync *sync = wanted->sync;
	struct store_record record;
	size_t bound;

	if (!store_peek(sync->store, app_id, item->bytes, item->len,
		wanted->now, &record) ||
	    is_to_be_dropped(wanted, &record, item->key) != wanted->drop ||
	    sync_rivals_is_spared(wanted->repair, item->key))
		return true;
	bound = record_json_bound(&record) + 32;
	wanted->full = wanted->count > 0 &&
	    (wanted->count >= wanted->limit ||
		wanted->bytes + bound > SYNC_BATCH_BYTES);
	if (wanted->full)
		return false;
	wanted->bytes += bound;
	sync->items[wanted->count++].record = record;
	return true;
}

/* Of one leaf, what lies behind the place. KMS_ENOMEM. */
static int
take_leaf(struct wanted *wanted, const struct repair_node *leaf,
    const struct repair_want *want)
{
	struct repair *repair = wanted->repair;
	const struct tree *tree =
	    sync_tree(wanted->sync, leaf->app_id, wanted->now);
	struct tree_range range;
	size_t index;

	if (tree == NULL)
		return KMS_ENOMEM;
	range = tree_range(tree, leaf->node);
	for (size_t i = range.first; i < range.end && !wanted->full; i++) {
		const struct tree_item *item = &tree->items[i];
		bool behind = leaf->app_id > repair->push_app ||
		    item->key > repair->pushed;

		if (behind &&
		    sync_hash_find(want->hashes, want->count,
			hash_shorten(wanted->form, item->hash), &index) &&
		    take(wanted, item, leaf->app_id) && !wanted->drop) {
			repair->push_app = leaf->app_id;
			repair->pushed = item->key;
		}
	}
	return 0;
}

/* Fill sync->items from the leaves of the group. */
static int
take_group(struct wanted *wanted)
{
	struct repair *repair = wanted->repair;
	size_t at = 0;
	int error = 0;

	wanted->count = wanted->bytes = 0;
	wanted->full = false;
	for (size_t i = 0; i < repair->group && error == 0; i++) {
		const struct repair_node *leaf =
		    &repair->leaves.nodes[repair->next + i];

		while (at < repair->want_count &&
		    repair->wants[at].app_id < leaf->app_id)
			at++;
		if (at == repair->want_count || wanted->full)
			break;
		if (repair->wants[at].app_id == leaf->app_id &&
		    leaf->app_id >= repair->push_app)
			error = take_leaf(wanted, leaf, &repair->wants[at]);
	}
	return error;
}

/* Drop what was deleted while we were away, before anything is sent. */
static int
drop_group(struct wanted *wanted)
{
	struct sync *sync = wanted->sync;
	int error;

	wanted->drop = true;
	do {
		error = take_group(wanted);
		for (size_t i = 0; i < wanted->count; i++) {
			const struct store_record *r = &sync->items[i].record;

			(void)store_drop(
			    sync->store, r->app_id, r->key, r->key_len);
		}
		sync->stats.dropped += wanted->count;
		wanted->repair->moved += wanted->count;
	} while (error == 0 && wanted->full);
	wanted->drop = false;
	wanted->repair->dropped = true;
	return error;
}

/* The one that it is, should it be refused. */
static void
note_one(struct repair *repair, const struct store_record *record, size_t count)
{
	repair->one_len = 0;
	if (count != 1 || record->key_len > sizeof(repair->one))
		return;
	repair->one_app = record->app_id;
	repair->one_len = record->key_len;
	memcpy(repair->one, record->key, record->key_len);
}

static int
write_wanted(struct sync *sync, struct sync_peer *peer, size_t count)
{
	int error = sync_body_begin(sync, SYNC_DELTA, true);

	peer->repair.sent = count;
	note_one(&peer->repair, &sync->items[0].record, count);
	sync->stats.records_pushed += count;
	if (error == 0)
		error = buf_append_text(&sync->body, ",\"data\":");
	if (error == 0)
		error = record_json_write_data(
		    &sync->body, sync->items, count, RECORD_OURS);
	return error;
}

bool
sync_want_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct wanted wanted = { .sync = sync,
		.repair = repair,
		.form = repair->form,
		.now = now,
		.limit = peer->push.limit > 0 ? peer->push.limit
					      : sync_items_max(sync) };
	int error = 0;

	if (repair->dropping)
		wanted.form.width = WHOLE_WIDTH;
	if (repair->dropping && !repair->dropped)
		error = drop_group(&wanted);
	if (error == 0)
		error = take_group(&wanted);
	if (error == 0 && wanted.count == 0)
		return false;
	if (error == 0)
		error = write_wanted(sync, peer, wanted.count);
	sync_repair_send(sync, peer, error, now);
	return true;
}
