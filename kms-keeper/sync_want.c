/* What comparing is about: the hashes of what we hold, the records that the
 * peer lacks, and, when we were away too long, what was deleted meanwhile. */
#include <inttypes.h>
#include <stdlib.h>

#include "common/err.h"
#include "common/hex.h"
#include "kms-keeper/sync_internal.h"

/* ---- what we hold ---------------------------------------------------------
 */

bool
sync_map_has(const uint8_t map[BUCKET_MAP_LEN], unsigned int bucket)
{
	return (map[bucket / 8] >> bucket % 8 & 1) != 0;
}

struct have {
	struct sync *sync;
	const uint8_t *map;
	uint64_t *hashes;
	size_t count, size;
	uint64_t after_app, after; /* what is up to there is through */
	bool fading;		   /* those, too */
	bool failed;
	struct kms_time now;
};

static bool
have_record(const struct store_record *record, void *arg)
{
	struct have *have = arg;
	uint64_t key = sync_key_hash(
	    have->sync, record->app_id, record->key, record->key_len);
	uint64_t *hashes;
	size_t size;

	if (record->app_id == have->after_app && key <= have->after)
		return true;
	if (!sync_map_has(have->map, (unsigned int)(key >> 56)) ||
	    (!have->fading && sync_is_fading(have->sync, record, have->now)))
		return true;
	if (have->count == have->size) {
		size = have->size > 0 ? have->size * 2 : 256;
		hashes = realloc(have->hashes, size * sizeof(*hashes));
		if (hashes == NULL) {
			have->failed = true;
			return false;
		}
		have->hashes = hashes;
		have->size = size;
	}
	have->hashes[have->count++] = sync_item_hash(have->sync, record);
	return true;
}

int
sync_have_write(struct sync *sync, const struct repair *repair,
    const struct repair_app *app, bool first, struct kms_time now)
{
	struct have have = { .sync = sync,
		.map = app->asked,
		.after_app = repair->page_app,
		.after = repair->page,
		.fading = repair->dropping,
		.now = now };
	char map[2 * BUCKET_MAP_LEN + 1];
	int error;

	store_each(sync->store, app->app_id, have_record, &have);
	hex_encode(app->asked, BUCKET_MAP_LEN, map);
	error = have.failed ? KMS_ENOMEM : 0;
	if (error == 0)
		error = buf_printf(&sync->body,
		    "%s\"%" PRIu64 "\":{\"buckets\":\"%s\",\"have\":",
		    first ? "" : ",", app->app_id, map);
	if (error == 0)
		error = sync_hashes_write(&sync->body, have.hashes, have.count);
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	free(have.hashes);
	return error;
}

/* ---- what it lacks --------------------------------------------------------
 */

struct wanted {
	struct sync *sync;
	struct repair *repair;
	struct repair_app *app;
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
is_to_be_dropped(const struct wanted *wanted, const struct store_record *record)
{
	const struct repair *repair = wanted->repair;
	size_t index;

	return repair->dropping && in_doubt(wanted->sync, record) &&
	    !sync_hash_find(repair->seen, repair->seen_count,
		sync_key_hash(
		    wanted->sync, record->app_id, record->key, record->key_len),
		&index);
}

static bool
wanted_record(const struct store_record *record, void *arg)
{
	struct wanted *wanted = arg;
	struct store_record view = sync_view_now(record, wanted->now);
	size_t index, bound;

	if (!sync_hash_find(wanted->app->want, wanted->app->want_count,
		sync_item_hash(wanted->sync, record), &index))
		return true;
	if (is_to_be_dropped(wanted, record) != wanted->drop ||
	    (!wanted->drop && !record_json_is_sendable(&view)))
		return true;
	bound = record_json_bound(&view) + 32;
	wanted->full = wanted->count > 0 &&
	    (wanted->count >= wanted->limit ||
		wanted->bytes + bound > SYNC_BATCH_BYTES);
	if (wanted->full)
		return false;
	wanted->bytes += bound;
	wanted->sync->items[wanted->count++].record = view;
	return true;
}

/* Drop what was deleted while we were away. */
static void
drop_wanted(struct wanted *wanted)
{
	struct sync *sync = wanted->sync;

	wanted->drop = true;
	do {
		wanted->count = wanted->bytes = 0;
		wanted->full = false;
		store_each(
		    sync->store, wanted->app->app_id, wanted_record, wanted);
		for (size_t i = 0; i < wanted->count; i++) {
			const struct store_record *r = &sync->items[i].record;

			(void)store_drop(
			    sync->store, r->app_id, r->key, r->key_len);
		}
		sync->stats.dropped += wanted->count;
		wanted->repair->moved += wanted->count;
	} while (wanted->full);
	wanted->drop = false;
	wanted->count = wanted->bytes = 0;
}

/* Those that are in the message are wanted no more; a walk to the end found
 * all that there are. */
static void
want_forget(struct wanted *wanted, size_t first)
{
	struct repair_app *app = wanted->app;
	size_t kept = 0, index;
	uint64_t *sent;

	sent = wanted->full ? calloc(wanted->count - first + 1, sizeof(*sent))
			    : NULL;
	if (sent == NULL) {
		free(app->want);
		app->want = NULL;
		app->want_count = 0;
		return;
	}
	for (size_t i = first; i < wanted->count; i++)
		sent[i - first] = sync_item_hash(
		    wanted->sync, &wanted->sync->items[i].record);
	qsort(sent, wanted->count - first, sizeof(*sent), sync_hash_compare);
	for (size_t i = 0; i < app->want_count; i++)
		if (!sync_hash_find(
			sent, wanted->count - first, app->want[i], &index))
			app->want[kept++] = app->want[i];
	app->want_count = kept;
	free(sent);
}

/* Fill sync->items with what the group's apps are asked for. */
static size_t
collect_wanted(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct wanted wanted = { .sync = sync,
		.repair = repair,
		.now = now,
		.limit = peer->push.limit };

	for (size_t i = 0; i < repair->group && !wanted.full; i++) {
		size_t first = wanted.count;

		wanted.app = &repair->apps[repair->next + i];
		if (wanted.app->want_count == 0)
			continue;
		if (repair->dropping && first == 0)
			drop_wanted(&wanted);
		else if (repair->dropping)
			break; /* its droppings come first: next message */
		store_each(
		    sync->store, wanted.app->app_id, wanted_record, &wanted);
		want_forget(&wanted, first);
	}
	return wanted.count;
}

bool
sync_want_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	size_t count = collect_wanted(sync, peer, now);
	int error;

	if (count == 0)
		return false;
	repair->sent = count;
	sync->stats.records_pushed += count;
	error = sync_body_begin(sync, SYNC_DELTA, true);
	if (error == 0)
		error = buf_append_text(&sync->body, ",\"data\":");
	if (error == 0)
		error = record_json_write_data(
		    &sync->body, sync->items, count, RECORD_OURS);
	sync_repair_send(sync, peer, error, now);
	return true;
}
