#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/hex.h"
#include "kms-keeper/sync_internal.h"

#define REASONS_MAX 16
#define ANSWER_BYTES 1000000
#define GIVE_WAY_MS 1000

/* ---- what all share ------------------------------------------------------ */

static int
answer_begin(struct sync *sync, struct buf *answer, bool ok)
{
	return buf_printf(answer, "{\"status\":\"%s\",\"boot\":\"%s\"",
	    ok ? "ok" : "busy", sync->config.boot);
}

/* Is the slice the wallet, in any case, with or without 0x? */
static bool
is_wallet(struct slice text, const char *wallet)
{
	const char *p = text.text + 1;
	size_t len = text.len - 2;

	if (len > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		p += 2;
		len -= 2;
	}
	return len == SYNC_WALLET_LEN - 2 &&
	    strncasecmp(p, wallet + 2, len) == 0;
}

static bool
is_boot(struct slice boot, const struct sync_peer *peer)
{
	return peer->boot[0] != '\0' && slice_is(boot, peer->boot);
}

/*
 * A request names its sender's boot. One that we do not know is no proof (it
 * may be late, from before a restart): greet the peer, whose answer is.
 */
static void
note_request(struct sync_peer *peer, struct slice boot, struct kms_time now)
{
	if (peer == NULL || slice_kind(boot) != SLICE_STRING ||
	    is_boot(boot, peer))
		return;
	peer->push.greeted = false;
	sync_push_due(peer, now.boot_ms + SYNC_COALESCE_MS);
}

/*
 * The peer compares with us, which serves both: what we had in mind to ask it
 * can wait, and finds nothing then. When both have begun, one of them goes on.
 */
static void
give_way(struct sync *sync, struct sync_peer *peer, struct kms_time now)
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

/* As whose records these count: a peer's that certainly holds them. */
static uint32_t
origin_of(const struct sync_peer *peer, struct slice boot)
{
	if (peer == NULL)
		return ORIGIN_UNKNOWN;
	if (slice_kind(boot) == SLICE_STRING ? is_boot(boot, peer)
					     : peer->kind == SYNC_KIND_DEPLOYED)
		return peer->incarnation;
	return ORIGIN_UNKNOWN;
}

/* ---- delta --------------------------------------------------------------- */

struct delta {
	struct sync *sync;
	uint32_t origin;
	struct kms_time now;
	size_t total, merged, skipped, rejected;
	const char *reasons[REASONS_MAX];
	size_t counts[REASONS_MAX];
};

static void
count_reason(struct delta *delta, const char *reason)
{
	for (size_t i = 0; i < REASONS_MAX; i++) {
		if (delta->reasons[i] == NULL)
			delta->reasons[i] = reason;
		if (strcmp(delta->reasons[i], reason) == 0) {
			delta->counts[i]++;
			return;
		}
	}
}

static int
delta_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct delta *delta = arg;
	struct store_incoming copy;
	struct store_merge_result result;

	if (in != NULL)
		copy = *in;
	result = sync_merge(delta->sync, app_id, in != NULL ? &copy : NULL,
	    delta->origin, delta->now);
	delta->total++;
	if (result.outcome == STORE_MERGED)
		delta->merged++;
	else if (result.outcome == STORE_SKIPPED)
		delta->skipped++;
	else
		delta->rejected++;
	if (result.reason != NULL)
		count_reason(delta, result.reason);
	return 0;
}

static int
delta_write(const struct delta *delta, struct buf *answer)
{
	const char *comma = "";
	int error;

	error = buf_printf(answer,
	    ",\"total\":%zu,\"merged\":%zu,\"skipped\":%zu,\"rejected\":%zu"
	    ",\"skip_reasons\":{",
	    delta->total, delta->merged, delta->skipped, delta->rejected);
	for (size_t i = 0; i < REASONS_MAX && error == 0; i++)
		if (delta->reasons[i] != NULL)
			error =
			    buf_printf(answer, "%s\"%s\":%zu", i > 0 ? "," : "",
				delta->reasons[i], delta->counts[i]);
	if (error == 0)
		error = buf_append_text(answer, "},\"extensions\":[");
	for (int i = 0; i < SYNC_TYPES && error == 0; i++) {
		if (!sync_type_is_extension((enum sync_type)i))
			continue;
		error = buf_printf(answer, "%s\"%s\"", comma,
		    sync_type_name((enum sync_type)i));
		comma = ",";
	}
	if (error == 0)
		error = buf_append_text(answer, "]}");
	return error;
}

static unsigned int
answer_delta(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now, struct buf *answer)
{
	struct delta delta = { .sync = sync, .now = now };
	struct slice data, boot;
	int error;

	if (slice_member(object, "data", &data) != 0 ||
	    slice_member(object, "boot", &boot) != 0)
		return 400;
	delta.origin = origin_of(peer, boot);
	note_request(peer, boot, now);
	error =
	    record_json_each(&sync->reader, data, true, delta_record, &delta);
	if (error == KMS_EINVAL)
		return 400;
	if (error == 0)
		error = answer_begin(sync, answer, true);
	if (error == 0)
		error = delta_write(&delta, answer);
	return error == 0 ? 200 : 503;
}

/* ---- digests ------------------------------------------------------------- */

struct digests {
	struct sync *sync;
	struct buf *answer;
	struct kms_time now;
	uint64_t *listed; /* apps of the request, sorted */
	size_t listed_count;
	size_t written;
	uint64_t through;
};

static int
write_differ(struct digests *d, uint64_t app_id, const char *map)
{
	return buf_printf(d->answer, "%s\"%" PRIu64 "\":\"%s\"",
	    d->written++ > 0 ? "," : "", app_id, map);
}

static int
compare_app(struct digests *d, uint64_t app_id, struct slice value)
{
	const struct sync_digest *digest;
	char text[2 * BUCKET_MAP_LEN + 1];
	uint8_t map[BUCKET_MAP_LEN] = { 0 };
	uint64_t *theirs;
	size_t count;
	int error = sync_hashes_read(value, BUCKETS, &theirs, &count);

	if (error != 0)
		return error;
	digest = sync_digest_app(d->sync, app_id, d->now);
	if (digest == NULL) {
		error = KMS_ENOMEM;
	} else if (count == 1) {
		if (theirs[0] != digest->root)
			error = write_differ(d, app_id, "");
	} else if (count != BUCKETS) {
		error = KMS_EINVAL;
	} else if (memcmp(theirs, digest->bucket, sizeof(digest->bucket)) !=
	    0) {
		for (size_t b = 0; b < BUCKETS; b++)
			if (theirs[b] != digest->bucket[b])
				map[b / 8] |= (uint8_t)(1u << b % 8);
		hex_encode(map, BUCKET_MAP_LEN, text);
		error = write_differ(d, app_id, text);
	}
	free(theirs);
	return error;
}

static int
compare_listed(struct digests *d, struct slice apps)
{
	struct slice name, value;
	struct slice_walk walk;
	uint64_t app_id;
	int error = 0;

	slice_walk_begin(&walk, apps);
	while (error == 0 && slice_walk_next(&walk, &name, &value)) {
		if (slice_app_id(name, &app_id) != 0 ||
		    d->listed_count >= PAGE_APPS)
			return KMS_EINVAL;
		d->listed[d->listed_count++] = app_id;
		if (app_id <= d->through)
			error = compare_app(d, app_id, value);
	}
	return error;
}

/* The apps that stand here and are not in the request. */
static int
write_unlisted(struct digests *d, const uint64_t *apps, size_t count)
{
	size_t index;
	int error = 0;

	if (d->listed_count > 1)
		qsort(d->listed, d->listed_count, sizeof(*d->listed),
		    sync_hash_compare);
	for (size_t i = 0; i < count && error == 0; i++) {
		if (apps[i] > d->through ||
		    sync_hash_find(d->listed, d->listed_count, apps[i], &index))
			continue;
		/* Of nothing but what the others forget now: leave it. */
		if (sync_digest_app(d->sync, apps[i], d->now) == NULL)
			return KMS_ENOMEM;
		if (sync_digest_app(d->sync, apps[i], d->now)->records > 0)
			error = write_differ(d, apps[i], "");
	}
	return error;
}

static int
write_digest_answer(struct digests *d, struct slice apps,
    const struct slice *after, struct slice through)
{
	uint64_t *ours = NULL;
	size_t count = 0;
	bool more = false, roots = through.text != NULL;
	int64_t from = 0, to = INT64_MAX;
	int error;

	if (roots &&
	    (slice_integer(*after, &from) != 0 ||
		slice_integer(through, &to) != 0 || from < 0 || to <= from))
		return KMS_EINVAL;
	d->through = (uint64_t)to;
	error = answer_begin(d->sync, d->answer, true);
	if (error == 0)
		error = buf_printf(d->answer,
		    ",\"touch_ms\":%" PRId64 ",\"differ\":{",
		    d->now.boot_ms - d->sync->touch_ms);
	if (error == 0 && roots) {
		error = sync_apps_after(
		    d->sync, (uint64_t)from, PAGE_APPS, &ours, &count, &more);
		if (error == 0 && more && ours[count - 1] < d->through)
			d->through = ours[count - 1];
	}
	if (error == 0)
		error = compare_listed(d, apps);
	if (error == 0 && roots)
		error = write_unlisted(d, ours, count);
	if (error == 0)
		error = buf_printf(
		    d->answer, "},\"through\":%" PRIu64 "}", d->through);
	free(ours);
	return error;
}

/* We were away too long: nobody may learn from us before we have. */
static unsigned int
answer_busy(struct sync *sync, struct kms_time now, struct buf *answer)
{
	int error = answer_begin(sync, answer, false);

	if (error == 0)
		error = buf_printf(answer, ",\"touch_ms\":%" PRId64 "}",
		    now.boot_ms - sync->touch_ms);
	return error == 0 ? 200 : 503;
}

static unsigned int
answer_digest(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now, struct buf *answer)
{
	struct digests d = { .sync = sync, .answer = answer, .now = now };
	struct slice apps, after, through, boot;
	int error;

	if (slice_member(object, "apps", &apps) != 0 ||
	    slice_member(object, "after", &after) != 0 ||
	    slice_member(object, "through", &through) != 0 ||
	    slice_member(object, "boot", &boot) != 0 ||
	    slice_kind(apps) != SLICE_OBJECT)
		return 400;
	note_request(peer, boot, now);
	if (sync->stale)
		return answer_busy(sync, now, answer);
	give_way(sync, peer, now);
	d.listed = malloc(PAGE_APPS * sizeof(*d.listed));
	if (d.listed == NULL)
		return 503;
	error = write_digest_answer(&d, apps, &after, through);
	free(d.listed);
	if (error == 0)
		return 200;
	return error == KMS_EINVAL ? 400 : 503;
}

/* ---- buckets ------------------------------------------------------------- */

/* One app of a bucket_request. */
struct exchange {
	uint64_t app_id;
	uint8_t map[BUCKET_MAP_LEN];
	uint64_t *have; /* sorted */
	size_t have_count;
	uint8_t *held; /* of have: found here */
};

struct buckets {
	struct sync *sync;
	struct kms_time now;
	bool fading;
	struct exchange *apps;
	size_t app_count;
	struct exchange *app;		/* being walked */
	struct record_list_item *items; /* of this answer, behind them the
					   candidates of the app; order holds
					   the key's hash */
	size_t taken, count, size, bytes;
	uint64_t after_app, after; /* where the last answer ended */
	bool later, more, failed;
};

static bool
items_grow(struct buckets *b)
{
	struct record_list_item *items;
	size_t size = b->size > 0 ? b->size * 2 : 128;

	if (b->count < b->size)
		return true;
	items = realloc(b->items, size * sizeof(*items));
	if (items == NULL)
		return false;
	b->items = items;
	b->size = size;
	return true;
}

static bool
exchange_record(const struct store_record *record, void *arg)
{
	struct buckets *b = arg;
	struct store_record view = sync_view_now(record, b->now);
	uint64_t key = sync_key_hash(
	    b->sync, record->app_id, record->key, record->key_len);
	unsigned int bucket = (unsigned int)(key >> 56);
	size_t index;

	if ((b->app->map[bucket / 8] >> bucket % 8 & 1) == 0 ||
	    (b->app->app_id == b->after_app && key <= b->after) ||
	    (!b->fading && sync_is_fading(b->sync, record, b->now)))
		return true;
	if (sync_hash_find(b->app->have, b->app->have_count,
		sync_item_hash(b->sync, record), &index)) {
		b->app->held[index] = 1;
		return true;
	}
	if (b->more || !record_json_is_sendable(&view))
		return true;
	if (!items_grow(b)) {
		b->failed = true;
		return false;
	}
	b->items[b->count].order = key;
	b->items[b->count++].record = view;
	return true;
}

static int
by_order(const void *a, const void *b)
{
	const struct record_list_item *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

/* Of the app's candidates those that fit, in the order of their keys' hashes,
 * so that the next answer can go on from there. */
static void
take_candidates(struct buckets *b)
{
	size_t bound;

	if (b->more)
		return;
	if (b->count - b->taken > 1)
		qsort(b->items + b->taken, b->count - b->taken,
		    sizeof(*b->items), by_order);
	for (; b->taken < b->count; b->taken++) {
		bound = record_json_bound(&b->items[b->taken].record) + 32;
		b->more = b->taken > 0 && b->bytes + bound > ANSWER_BYTES;
		if (b->more)
			break;
		b->bytes += bound;
		b->after_app = b->app->app_id;
		b->after = b->items[b->taken].order;
	}
	b->count = b->taken;
}

static int
read_exchange(struct exchange *app, struct slice name, struct slice value)
{
	struct slice map, have;
	int error;

	if (slice_app_id(name, &app->app_id) != 0 ||
	    slice_member(value, "buckets", &map) != 0 ||
	    slice_member(value, "have", &have) != 0 ||
	    slice_kind(map) != SLICE_STRING ||
	    hex_decode_exact(
		map.text + 1, map.len - 2, app->map, BUCKET_MAP_LEN) != 0)
		return KMS_EINVAL;
	error = sync_hashes_read(have, SIZE_MAX, &app->have, &app->have_count);
	if (error != 0)
		return error;
	if (app->have_count > 1)
		qsort(app->have, app->have_count, sizeof(*app->have),
		    sync_hash_compare);
	app->held = calloc(app->have_count > 0 ? app->have_count : 1, 1);
	return app->held != NULL ? 0 : KMS_ENOMEM;
}

static int
read_exchanges(struct buckets *b, struct slice apps)
{
	struct slice name, value;
	struct slice_walk walk;
	size_t count = 0;
	int error = 0;

	slice_walk_begin(&walk, apps);
	while (slice_walk_next(&walk, &name, &value))
		count++;
	if (slice_kind(apps) != SLICE_OBJECT || count > GROUP_APPS)
		return KMS_EINVAL;
	b->apps = calloc(count > 0 ? count : 1, sizeof(*b->apps));
	if (b->apps == NULL)
		return KMS_ENOMEM;
	b->app_count = count;
	count = 0;
	slice_walk_begin(&walk, apps);
	while (error == 0 && slice_walk_next(&walk, &name, &value))
		error = read_exchange(&b->apps[count++], name, value);
	return error;
}

/* What of an app's hashes is not here: the peer shall send it. */
static int
write_want(struct exchange *app, bool first, struct buf *answer)
{
	size_t count = 0;
	int error;

	for (size_t i = 0; i < app->have_count; i++)
		if (!app->held[i])
			app->have[count++] = app->have[i];
	if (count > WANT_MAX)
		count = WANT_MAX;
	error = buf_printf(
	    answer, "%s\"%" PRIu64 "\":", first ? "" : ",", app->app_id);
	return error == 0 ? sync_hashes_write(answer, app->have, count) : error;
}

static int
write_exchanges(struct buckets *b, struct buf *answer)
{
	int error = answer_begin(b->sync, answer, true);

	if (error == 0)
		error = buf_append_text(answer, ",\"data\":");
	if (error == 0)
		error = record_json_write_data(
		    answer, b->items, b->count, RECORD_OURS);
	if (error == 0)
		error = buf_append_text(answer, ",\"want\":{");
	for (size_t i = 0; i < b->app_count && error == 0 && !b->later; i++)
		error = write_want(&b->apps[i], i == 0, answer);
	if (error == 0)
		error = buf_append_text(answer, "}");
	if (error == 0 && b->more)
		error = buf_printf(answer,
		    ",\"next_app\":%" PRIu64 ",\"next\":\"%016" PRIx64 "\"",
		    b->after_app, b->after);
	if (error == 0)
		error = buf_append_text(answer, "}");
	return error;
}

static unsigned int
answer_bucket(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now, struct buf *answer)
{
	struct buckets b = { .sync = sync, .now = now };
	struct slice apps, stale, boot;
	int error;

	if (slice_member(object, "apps", &apps) != 0 ||
	    slice_member(object, "stale", &stale) != 0 ||
	    slice_member(object, "boot", &boot) != 0)
		return 400;
	note_request(peer, boot, now);
	if (sync->stale)
		return answer_busy(sync, now, answer);
	give_way(sync, peer, now);
	b.fading = slice_kind(stale) == SLICE_TRUE;
	error = sync_place_read(
	    object, "after_app", "after", &b.after_app, &b.after);
	b.later = b.after_app != 0;
	if (error == 0)
		error = read_exchanges(&b, apps);
	for (size_t i = 0; error == 0 && i < b.app_count; i++) {
		b.app = &b.apps[i];
		store_each(sync->store, b.app->app_id, exchange_record, &b);
		error = b.failed ? KMS_ENOMEM : 0;
		if (error == 0)
			take_candidates(&b);
	}
	if (error == 0)
		error = write_exchanges(&b, answer);
	for (size_t i = 0; i < b.app_count; i++) {
		free(b.apps[i].have);
		free(b.apps[i].held);
	}
	free(b.apps);
	free(b.items);
	if (error == 0)
		return 200;
	return error == KMS_EINVAL ? 400 : 503;
}

/* ---- one record ---------------------------------------------------------- */

static unsigned int
answer_record(struct sync *sync, struct slice object, struct kms_time now,
    struct buf *answer)
{
	struct slice app, key;
	struct store_record record;
	int64_t app_id;
	bool found;
	int error;

	if (slice_member(object, "app_id", &app) != 0 ||
	    slice_member(object, "key", &key) != 0 ||
	    slice_integer(app, &app_id) != 0 || app_id < 1)
		return 400;
	sync->scratch.len = 0;
	error = slice_string(key, &sync->scratch);
	if (error != 0)
		return error == KMS_ENOMEM ? 503 : 400;
	found = store_peek(sync->store, (uint64_t)app_id, sync->scratch.data,
		    sync->scratch.len, now, &record) &&
	    record_json_is_sendable(&record) && !sync->stale;
	error = answer_begin(sync, answer, true);
	if (error == 0)
		error = buf_append_text(answer, ",\"record\":");
	if (error == 0)
		error = found ? record_json_write(answer, &record, RECORD_OURS)
			      : buf_append_text(answer, "null");
	if (error == 0)
		error = buf_append_text(answer, "}");
	return error == 0 ? 200 : 503;
}

/* ---- snapshot ------------------------------------------------------------ */

struct snapshot {
	struct sync *sync;
	struct buf *out;
	struct kms_time now;
	bool first_app, first_record;
	int error;
};

static bool
snapshot_record(const struct store_record *record, void *arg)
{
	struct snapshot *s = arg;
	struct store_record view = sync_view_now(record, s->now);

	if (!record_json_is_sendable(&view))
		return true;
	if (!s->first_record)
		s->error = buf_append_text(s->out, ",");
	s->first_record = false;
	if (s->error == 0)
		s->error = record_json_write(s->out, &view, RECORD_DEPLOYED);
	return s->error == 0;
}

static void
snapshot_app(uint64_t app_id, void *arg)
{
	struct snapshot *s = arg;

	if (s->error != 0)
		return;
	s->error = buf_printf(
	    s->out, "%s\"%" PRIu64 "\":[", s->first_app ? "" : ",", app_id);
	s->first_app = false;
	s->first_record = true;
	if (s->error == 0)
		store_each(s->sync->store, app_id, snapshot_record, s);
	if (s->error == 0)
		s->error = buf_append_text(s->out, "]");
}

static unsigned int
answer_snapshot(struct sync *sync, struct sync_peer *peer, struct kms_time now,
    struct buf *answer)
{
	struct snapshot s = { sync, answer, now, true, true, 0 };

	if (sync->stale)
		return 503;
	s.error = buf_append_text(answer, "{\"status\":\"ok\",\"data\":{");
	if (s.error == 0)
		store_each_app(sync->store, snapshot_app, &s);
	if (s.error == 0)
		s.error = buf_append_text(answer, "}}");
	if (s.error != 0)
		return 503;
	/* A deployed node that asks has perhaps lost what it acknowledged. */
	if (peer != NULL && peer->kind == SYNC_KIND_DEPLOYED &&
	    now.boot_ms - peer->voided_ms >= REQUEST_VOID_MS) {
		peer->voided_ms = now.boot_ms;
		peer->incarnation = ++sync->last_incarnation;
		if (!peer->needs_repair)
			sync_push_from(sync, peer, 0);
	}
	return 200;
}

/* ---- all ----------------------------------------------------------------- */

static unsigned int
serve(struct sync *sync, struct sync_peer *peer,
    const struct sync_message *message, struct kms_time now, struct buf *answer)
{
	switch (message->type) {
	case SYNC_DELTA:
		return answer_delta(sync, peer, message->object, now, answer);
	case SYNC_SNAPSHOT_REQUEST:
		return answer_snapshot(sync, peer, now, answer);
	case SYNC_DIGEST_REQUEST:
		return answer_digest(sync, peer, message->object, now, answer);
	case SYNC_BUCKET_REQUEST:
		return answer_bucket(sync, peer, message->object, now, answer);
	case SYNC_RECORD_REQUEST:
		return answer_record(sync, message->object, now, answer);
	default:
		return 400;
	}
}

/* It lives: what waits for a retry need not wait long. */
static void
heard_of(struct sync_peer *peer, struct kms_time now)
{
	int64_t soon = now.boot_ms + BACKOFF_MIN_MS;

	if (peer->push.retry_ms > soon)
		peer->push.retry_ms = soon;
	if (peer->needs_repair && peer->repair.failures > 0 &&
	    peer->repair.due_ms > soon + BACKOFF_MIN_MS)
		peer->repair.due_ms = soon + BACKOFF_MIN_MS;
}

unsigned int
sync_request(struct sync *sync, const char *wallet, const char *body,
    size_t len, struct kms_time now, struct buf *answer)
{
	struct sync_peer *peer = sync_peer_find(sync, wallet);
	struct sync_message message;
	size_t before = answer->len;
	unsigned int status;

	if (sync_message_read(body, len, &message) != 0)
		return 400;
	if (message.sender_wallet.text != NULL &&
	    !is_wallet(message.sender_wallet, wallet))
		return 403;
	if (peer != NULL) {
		sync_contact(sync, peer, now);
		heard_of(peer, now);
	}
	status = serve(sync, peer, &message, now, answer);
	if (status != 200)
		answer->len = before;
	return status;
}
