/*
 * Comparing with one peer and exchanging what differs. One message at a time:
 *
 *   roots    one digest an app, a page of apps    -> which apps differ
 *   detail   256 digests of each large one        -> which buckets differ
 *   pull     the hashes of our records there      -> the records that we lack,
 *                                                    the hashes that it lacks
 *   push     those records, as a delta
 *
 * and pull and push again for the next group of apps, then the next page. A
 * deployed peer gives a snapshot instead.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "kms-keeper/sync_internal.h"

#define PULL_AGAIN_MS 30000
#define SNAPSHOT_TRIES 3

static void next_step(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);

/* ---- beginning and end --------------------------------------------------- */

static void
apps_free(struct repair *repair)
{
	for (size_t i = 0; i < repair->count; i++)
		free(repair->apps[i].want);
	free(repair->apps);
	repair->apps = NULL;
	repair->count = repair->next = repair->group = 0;
}

void
sync_repair_stop(struct sync_peer *peer)
{
	struct repair *repair = &peer->repair;

	apps_free(repair);
	free(repair->seen);
	repair->seen = NULL;
	repair->seen_count = repair->seen_size = 0;
	repair->id = 0;
	repair->step = REPAIR_IDLE;
	repair->dropping = false;
	repair->page_app = repair->page = 0;
}

/* It will not compare, or give no snapshot: send it everything instead. */
static void
repair_give_up(struct sync *sync, struct sync_peer *peer)
{
	peer->needs_repair = false;
	peer->owes_snapshot = true;
	sync_push_from(sync, peer, 0);
}

void
sync_repair_failed(struct sync *sync, struct sync_peer *peer, const char *why,
    struct kms_time now)
{
	struct repair *repair = &peer->repair;

	sync_repair_stop(peer);
	repair->failures++;
	repair->due_ms = now.boot_ms + sync_backoff(sync, repair->failures + 1);
	peer->last_error = why;
	if (peer->kind == SYNC_KIND_DEPLOYED && peer->needs_repair &&
	    repair->failures >= SNAPSHOT_TRIES)
		repair_give_up(sync, peer);
	sync_stale_tried(sync, peer, false);
}

void
sync_repair_send(
    struct sync *sync, struct sync_peer *peer, int error, struct kms_time now)
{
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	if (error != 0) {
		sync_repair_failed(sync, peer, "out of memory", now);
		return;
	}
	peer->repair.sent_ms = now.boot_ms;
	peer->repair.id = sync_send(sync, peer);
}

static void
repair_finish(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	bool dropping = repair->dropping;

	if (repair->differed && repair->moved == 0)
		sync->fruitless++;
	else if (repair->moved > 0)
		sync->fruitless = 0;
	sync_repair_stop(peer);
	repair->failures = 0;
	peer->repairs++;
	sync->stats.filled = true;
	if (repair->left > 0) {
		peer->needs_repair = true;
		repair->due_ms = now.boot_ms + PULL_AGAIN_MS;
	} else if (peer->needs_repair) {
		/* What stood at the beginning it holds now, in this version or
		 * a newer one. */
		peer->needs_repair = false;
		sync_push_from(sync, peer, repair->base);
	}
	if (dropping)
		sync_stale_over(sync);
}

/* ---- roots --------------------------------------------------------------- */

static int
write_digest(struct sync *sync, uint64_t app_id, bool detail, bool first,
    struct kms_time now)
{
	const struct sync_digest *digest = sync_digest_app(sync, app_id, now);
	int error;

	if (digest == NULL)
		return KMS_ENOMEM;
	error = buf_printf(
	    &sync->body, "%s\"%" PRIu64 "\":", first ? "" : ",", app_id);
	if (error != 0)
		return error;
	if (detail)
		return sync_hashes_write(&sync->body, digest->bucket, BUCKETS);
	return sync_hashes_write(&sync->body, &digest->root, 1);
}

static void
roots_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	uint64_t *apps;
	size_t count;
	bool more;
	int error;

	repair->step = REPAIR_ROOTS;
	error = sync_apps_after(
	    sync, repair->after, PAGE_APPS, &apps, &count, &more);
	if (error != 0) {
		sync_repair_failed(sync, peer, "out of memory", now);
		return;
	}
	repair->through = more ? apps[count - 1] : STORE_APP_ID_MAX;
	error = sync_body_begin(sync, SYNC_DIGEST_REQUEST, true);
	if (error == 0)
		error = buf_printf(&sync->body,
		    ",\"after\":%" PRIu64 ",\"through\":%" PRIu64 ",\"apps\":{",
		    repair->after, repair->through);
	for (size_t i = 0; i < count && error == 0; i++)
		error = write_digest(sync, apps[i], false, i == 0, now);
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	free(apps);
	sync_repair_send(sync, peer, error, now);
}

void
sync_repair_begin(
    struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	sync_repair_stop(peer);
	repair->started_ms = sync->repair_started_ms = now.boot_ms;
	repair->base = store_stats(sync->store).sequence;
	repair->after = 0;
	repair->moved = repair->left = 0;
	repair->differed = repair->last_page = false;
	if (peer->kind != SYNC_KIND_DEPLOYED) {
		roots_send(sync, peer, now);
		return;
	}
	repair->step = REPAIR_SNAPSHOT;
	sync_repair_send(sync, peer,
	    sync_body_begin(sync, SYNC_SNAPSHOT_REQUEST, false), now);
}

/* The apps that an answer says differ. */
static int
read_differ(struct repair *repair, struct slice differ)
{
	struct slice name, value;
	struct slice_walk walk;
	struct repair_app *app;
	size_t count = 0;

	apps_free(repair);
	slice_walk_begin(&walk, differ);
	while (slice_walk_next(&walk, &name, &value))
		count++;
	if (slice_kind(differ) != SLICE_OBJECT || count > 2 * PAGE_APPS)
		return KMS_EINVAL;
	repair->apps = calloc(count > 0 ? count : 1, sizeof(*repair->apps));
	if (repair->apps == NULL)
		return KMS_ENOMEM;
	slice_walk_begin(&walk, differ);
	while (slice_walk_next(&walk, &name, &value)) {
		app = &repair->apps[repair->count];
		if (slice_app_id(name, &app->app_id) != 0)
			return KMS_EINVAL;
		memset(app->map, 0xff, BUCKET_MAP_LEN);
		repair->count++;
	}
	return 0;
}

static uint64_t
member_number(struct slice object, const char *name)
{
	struct slice value;
	int64_t number;

	if (slice_member(object, name, &value) != 0 ||
	    slice_integer(value, &number) != 0 || number < 0)
		return 0;
	return (uint64_t)number;
}

/*
 * We were away too long. Was this peer in touch all the time? Then what is old
 * here and in no form there was deleted. Else it cannot say.
 */
static bool
may_judge(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now)
{
	uint64_t touch = member_number(object, "touch_ms");

	if (touch >= (uint64_t)(now.boot_ms - sync->stale_since_ms)) {
		peer->repair.dropping = true;
		return true;
	}
	sync_repair_stop(peer);
	peer->repair.due_ms = now.boot_ms + BACKOFF_MIN_MS;
	sync_stale_tried(sync, peer, true);
	return false;
}

static void
roots_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct slice differ;
	uint64_t through = member_number(reply->object, "through");

	if (sync->stale && !repair->dropping &&
	    !may_judge(sync, peer, reply->object, now))
		return;
	if (slice_member(reply->object, "differ", &differ) != 0 ||
	    through <= repair->after || through > repair->through ||
	    read_differ(repair, differ) != 0) {
		sync_repair_failed(sync, peer, "an answer that is none", now);
		return;
	}
	repair->through = through;
	repair->last_page = through == STORE_APP_ID_MAX;
	repair->differed |= repair->count > 0;
	next_step(sync, peer, now);
}

/* ---- detail -------------------------------------------------------------- */

static bool
wants_detail(const struct sync *sync, const struct repair_app *app)
{
	return !app->detailed &&
	    store_app_records(sync->store, app->app_id) > SMALL_APP;
}

/* False: no app needs it. */
static bool
detail_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct repair_app *app;
	size_t count = 0;
	int error;

	error = sync_body_begin(sync, SYNC_DIGEST_REQUEST, true);
	if (error == 0)
		error = buf_append_text(&sync->body, ",\"apps\":{");
	for (size_t i = repair->next;
	     i < repair->count && error == 0 && count < DETAIL_APPS; i++) {
		app = &repair->apps[i];
		if (!wants_detail(sync, app))
			continue;
		error =
		    write_digest(sync, app->app_id, true, count++ == 0, now);
		memset(app->map, 0, BUCKET_MAP_LEN);
		app->detailed = true;
	}
	if (count == 0)
		return false;
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	repair->step = REPAIR_DETAIL;
	sync_repair_send(sync, peer, error, now);
	return true;
}

/* Among the next count apps. */
static struct repair_app *
find_app(struct repair *repair, size_t count, uint64_t app_id)
{
	for (size_t i = repair->next; i < repair->next + count; i++)
		if (repair->apps[i].app_id == app_id)
			return &repair->apps[i];
	return NULL;
}

static void
detail_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct slice differ, name, value;
	struct slice_walk walk;
	struct repair_app *app;
	uint64_t app_id;

	if (slice_member(reply->object, "differ", &differ) != 0 ||
	    slice_kind(differ) != SLICE_OBJECT)
		goto failed;
	slice_walk_begin(&walk, differ);
	while (slice_walk_next(&walk, &name, &value)) {
		if (slice_app_id(name, &app_id) != 0 ||
		    slice_kind(value) != SLICE_STRING)
			goto failed;
		app = find_app(&peer->repair,
		    peer->repair.count - peer->repair.next, app_id);
		if (app == NULL || !app->detailed ||
		    hex_decode_exact(value.text + 1, value.len - 2, app->map,
			BUCKET_MAP_LEN) != 0)
			goto failed;
	}
	next_step(sync, peer, now);
	return;

failed:
	sync_repair_failed(sync, peer, "an answer that is none", now);
}

/* ---- pull ---------------------------------------------------------------- */

static bool
map_is_empty(const uint8_t map[BUCKET_MAP_LEN])
{
	static const uint8_t none[BUCKET_MAP_LEN];

	return memcmp(map, none, BUCKET_MAP_LEN) == 0;
}

/* How many buckets of an app go into one message. */
static void
choose_buckets(const struct sync *sync, struct repair_app *app)
{
	uint64_t each = store_app_records(sync->store, app->app_id) / BUCKETS;
	uint64_t room = GROUP_HASHES;

	memset(app->asked, 0, BUCKET_MAP_LEN);
	for (unsigned int b = 0; b < BUCKETS; b++) {
		if (!sync_map_has(app->map, b))
			continue;
		app->asked[b / 8] |= (uint8_t)(1u << b % 8);
		if (room <= each)
			return;
		room -= each;
	}
}

/* The next group: apps from repair->next on while there is room. */
static void
group_choose(struct sync *sync, struct repair *repair)
{
	uint64_t hashes = 0;

	repair->group = 0;
	for (size_t i = repair->next; i < repair->count; i++) {
		hashes +=
		    store_app_records(sync->store, repair->apps[i].app_id);
		if (repair->group > 0 &&
		    (hashes > GROUP_HASHES || repair->group >= GROUP_APPS))
			return;
		choose_buckets(sync, &repair->apps[i]);
		repair->group++;
	}
}

static void
pull_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	size_t first = 0;
	int error;

	repair->step = REPAIR_PULL;
	/* The apps before the one where the last answer ended are through. */
	while (repair->page_app != 0 && first < repair->group &&
	    repair->apps[repair->next + first].app_id != repair->page_app)
		first++;
	error = sync_body_begin(sync, SYNC_BUCKET_REQUEST, true);
	if (error == 0 && repair->page_app != 0)
		error = buf_printf(&sync->body,
		    ",\"after_app\":%" PRIu64 ",\"after\":\"%016" PRIx64 "\"",
		    repair->page_app, repair->page);
	if (error == 0 && repair->dropping)
		error = buf_append_text(&sync->body, ",\"stale\":true");
	if (error == 0)
		error = buf_append_text(&sync->body, ",\"apps\":{");
	for (size_t i = first; i < repair->group && error == 0; i++)
		error = sync_have_write(sync, repair,
		    &repair->apps[repair->next + i], i == first, now);
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	sync_repair_send(sync, peer, error, now);
}

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

/* The hashes that the peer wants, to the apps of the group. */
static int
read_want(struct repair *repair, struct slice want)
{
	struct slice name, value;
	struct slice_walk walk;
	struct repair_app *app;
	uint64_t app_id;
	int error;

	slice_walk_begin(&walk, want);
	while (slice_walk_next(&walk, &name, &value)) {
		if (slice_app_id(name, &app_id) != 0)
			return KMS_EINVAL;
		app = find_app(repair, repair->group, app_id);
		if (app == NULL || app->want != NULL)
			return KMS_EINVAL;
		error = sync_hashes_read(
		    value, WANT_MAX, &app->want, &app->want_count);
		if (error != 0)
			return error;
		if (app->want_count > 1)
			qsort(app->want, app->want_count, sizeof(*app->want),
			    sync_hash_compare);
	}
	return 0;
}

/* Where an answer ended must lie behind where the last one did, or it would
 * go on for ever. */
static bool
is_further(struct repair *repair, uint64_t app, uint64_t page)
{
	const struct repair_app *now =
	    find_app(repair, repair->group, repair->page_app);
	const struct repair_app *before = find_app(repair, repair->group, app);

	if (now == NULL)
		return false;
	return before == NULL || now > before ||
	    (now == before && repair->page > page);
}

static void
pull_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct taking taking = { sync, peer, now, 0 };
	bool first = repair->page_app == 0;
	uint64_t app = repair->page_app, page = repair->page;
	struct slice data, want;

	if (slice_member(reply->object, "data", &data) != 0 ||
	    slice_member(reply->object, "want", &want) != 0 ||
	    sync_place_read(reply->object, "next_app", "next",
		&repair->page_app, &repair->page) != 0 ||
	    record_json_each(&sync->reader, data, true, take_record, &taking) !=
		0 ||
	    (first && read_want(repair, want) != 0))
		goto failed;
	repair->moved += taking.merged;
	if (repair->page_app != 0) {
		if (!is_further(repair, app, page))
			goto failed;
		pull_send(sync, peer, now);
		return;
	}
	if (repair->seen_count > 1)
		qsort(repair->seen, repair->seen_count, sizeof(*repair->seen),
		    sync_hash_compare);
	repair->step = REPAIR_PUSH;
	next_step(sync, peer, now);
	return;

failed:
	sync_repair_failed(sync, peer, "an answer that is none", now);
}

/* ---- push ------------------------------------------------------------- */

static void
push_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (!sync_counts_are_whole(&reply->counts, repair->sent))
		repair->left++;
	if (reply->counts.merged > 0)
		repair->moved += (uint64_t)reply->counts.merged;
	next_step(sync, peer, now);
}

/* ---- one step after the other -------------------------------------------- */

static bool
any_wanted(const struct repair *repair)
{
	for (size_t i = 0; i < repair->group; i++)
		if (repair->apps[repair->next + i].want_count > 0)
			return true;
	return false;
}

/* The group is through: its buckets, and the apps that have none left. */
static void
group_done(struct repair *repair)
{
	for (size_t i = 0; i < repair->group; i++) {
		struct repair_app *app = &repair->apps[repair->next + i];

		for (size_t b = 0; b < BUCKET_MAP_LEN; b++)
			app->map[b] &= (uint8_t)~app->asked[b];
		free(app->want);
		app->want = NULL;
		app->want_count = 0;
	}
	repair->group = repair->seen_count = 0;
	repair->page_app = repair->page = 0;
	while (repair->next < repair->count &&
	    map_is_empty(repair->apps[repair->next].map))
		repair->next++;
}

static void
next_step(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (repair->step == REPAIR_PUSH) {
		while (any_wanted(repair))
			if (sync_want_send(sync, peer, now))
				return;
		if (repair->step == REPAIR_IDLE)
			return;
	}
	group_done(repair);
	if (repair->next < repair->count) {
		if (detail_send(sync, peer, now))
			return;
		/* Buckets found equal may have ended it. */
		group_done(repair);
	}
	if (repair->next < repair->count) {
		group_choose(sync, repair);
		pull_send(sync, peer, now);
		return;
	}
	if (repair->last_page) {
		repair_finish(sync, peer, now);
		return;
	}
	repair->after = repair->through;
	roots_send(sync, peer, now);
}

/* ---- answers ------------------------------------------------------------- */

static void
snapshot_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct taking taking = { sync, peer, now, 0 };
	struct slice data;

	if (slice_member(reply->object, "data", &data) != 0 ||
	    record_json_each(
		&sync->reader, data, false, take_record, &taking) != 0) {
		sync_repair_failed(sync, peer, "a snapshot that is none", now);
		return;
	}
	sync_repair_stop(peer);
	peer->repair.failures = 0;
	peer->repairs++;
	sync->stats.filled = true;
	if (peer->needs_repair) {
		peer->needs_repair = false;
		sync_push_from(sync, peer, 0);
	}
	peer->owes_snapshot = false;
}

/* It listed what it does not do: ask again what it does. */
static void
not_supported(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	sync_repair_failed(sync, peer, "it refuses an extension", now);
	peer->unsupported++;
	peer->kind = SYNC_KIND_UNKNOWN;
	peer->needs_repair = true;
	peer->push.greeted = false;
}

static void
repair_refused(struct sync *sync, struct sync_peer *peer, unsigned int status,
    struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (status == 413 && repair->step == REPAIR_PUSH) {
		if (repair->sent == 1) {
			peer->too_large++;
			sync->stats.too_large++;
			next_step(sync, peer, now);
			return;
		}
		peer->push.limit = repair->sent / 2;
	} else if ((status == 400 || status == 403 || status == 503) &&
	    (repair->step == REPAIR_ROOTS || repair->step == REPAIR_DETAIL ||
		repair->step == REPAIR_PULL)) {
		not_supported(sync, peer, now);
		return;
	}
	sync_repair_failed(sync, peer, "no verified answer", now);
}

void
sync_repair_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_outcome *outcome, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct sync_reply reply;

	repair->id = 0;
	if (outcome->error != 0 || outcome->status != 200) {
		repair_refused(sync, peer, outcome->status, now);
		return;
	}
	if (sync_reply_read(outcome->body, outcome->len, &reply) != 0) {
		sync_repair_failed(sync, peer, "an answer that is none", now);
		return;
	}
	sync_contact(sync, peer, now);
	sync_note_boot(sync, peer, reply.boot, now);
	if (repair->step == REPAIR_IDLE)
		return;
	if (!reply.ok) {
		/* It was away too long itself. */
		sync_repair_failed(sync, peer, "it is busy", now);
		sync_stale_tried(sync, peer, true);
		return;
	}
	switch (repair->step) {
	case REPAIR_ROOTS:
		roots_answer(sync, peer, &reply, now);
		return;
	case REPAIR_DETAIL:
		detail_answer(sync, peer, &reply, now);
		return;
	case REPAIR_PULL:
		pull_answer(sync, peer, &reply, now);
		return;
	case REPAIR_PUSH:
		push_answer(sync, peer, &reply, now);
		return;
	case REPAIR_SNAPSHOT:
		snapshot_answer(sync, peer, &reply, now);
		return;
	case REPAIR_IDLE:
		return;
	}
}
