#include "kms-keeper/sync.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define BODY_MAX (64u << 20)
#define ENTROPY_SHIFT_MAX 6
#define TICK_MAX_MS 1000

void
sync_config_init(struct sync_config *config)
{
	memset(config, 0, sizeof(*config));
	config->batch_records = 500;
	config->interval_ms = 10000;
	config->retention_ms = 24 * INT64_C(3600000);
	config->replica_timeout_ms = 2000;
	config->request_timeout_ms = 60000;
}

struct sync *
sync_new(const struct sync_config *config, const struct sync_ops *ops,
    struct store *store, struct kms_time now)
{
	struct sync *sync = calloc(1, sizeof(*sync));

	if (sync == NULL)
		return NULL;
	sync->config = *config;
	if (sync->config.batch_records == 0)
		sync->config.batch_records = 1;
	sync->ops = *ops;
	sync->store = store;
	TAILQ_INIT(&sync->peers);
	TAILQ_INIT(&sync->waits);
	TAILQ_INIT(&sync->fetches);
	buf_init(&sync->scratch, BODY_MAX);
	buf_init(&sync->body, BODY_MAX);
	record_reader_init(&sync->reader);
	sync->contact_ms = sync->touch_ms = now.boot_ms;
	sync->entropy_ms = now.boot_ms + config->interval_ms;
	sync->items = calloc(sync_items_max(sync), sizeof(*sync->items));
	if (sync->items == NULL || sync_digest_keys(sync) != 0) {
		sync_free(sync);
		return NULL;
	}
	return sync;
}

size_t
sync_items_max(const struct sync *sync)
{
	return sync->config.batch_records * SYNC_BATCH_TIMES;
}

void
sync_free(struct sync *sync)
{
	struct sync_peer *peer;

	if (sync == NULL)
		return;
	while ((peer = TAILQ_FIRST(&sync->peers)) != NULL)
		sync_peer_free(sync, peer);
	sync_waits_free(sync);
	sync_trees_free(sync);
	buf_free(&sync->scratch);
	buf_free(&sync->body);
	record_reader_free(&sync->reader);
	free(sync->items);
	OPENSSL_cleanse(sync, sizeof(*sync));
	free(sync);
}

/* ---- peers --------------------------------------------------------------- */

struct sync_peer *
sync_peer_find(const struct sync *sync, const char *wallet)
{
	struct sync_peer *peer;

	TAILQ_FOREACH (peer, &sync->peers, link)
		if (strcmp(peer->wallet, wallet) == 0)
			return peer;
	return NULL;
}

static int
peer_keep_or_add(struct sync *sync, const char *wallet, struct kms_time now)
{
	struct sync_peer *peer;

	if (strlen(wallet) != SYNC_WALLET_LEN ||
	    strcmp(wallet, sync->config.wallet) == 0)
		return 0;
	peer = sync_peer_find(sync, wallet);
	if (peer == NULL)
		peer = sync_peer_new(sync, wallet, now);
	if (peer == NULL)
		return KMS_ENOMEM;
	peer->current = true;
	return 0;
}

int
sync_set_peers(struct sync *sync, const char *const *wallets, size_t count,
    struct kms_time now)
{
	struct sync_peer *peer, *next;
	int error = 0, result = 0;

	if (count > SYNC_PEERS_MAX)
		return KMS_ERANGE;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		peer->current = false;
	}
	for (size_t i = 0; i < count; i++) {
		error = peer_keep_or_add(sync, wallets[i], now);
		if (error != 0)
			result = error;
	}
	for (peer = TAILQ_FIRST(&sync->peers); peer != NULL; peer = next) {
		next = TAILQ_NEXT(peer, link);
		if (!peer->current)
			sync_peer_free(sync, peer);
	}
	return result;
}

void
sync_set_filled(struct sync *sync)
{
	sync->stats.filled = true;
}

void
sync_void(struct sync *sync, struct sync_peer *peer, int64_t at_ms)
{
	peer->needs_repair = true;
	peer->push.taken = 0; /* it may be another program now */
	peer->incarnation = ++sync->last_incarnation;
	sync_repair_stop(peer);
	peer->repair.due_ms = at_ms;
}

void
sync_note_boot(struct sync *sync, struct sync_peer *peer, struct slice boot,
    struct kms_time now)
{
	size_t len;

	if (boot.text == NULL)
		return;
	len = boot.len - 2;
	if (strlen(peer->boot) == len &&
	    memcmp(peer->boot, boot.text + 1, len) == 0)
		return;
	peer->unsupported = 0;
	if (peer->boot[0] != '\0')
		sync_void(sync, peer, now.boot_ms);
	memcpy(peer->boot, boot.text + 1, len);
	peer->boot[len] = '\0';
}

/* ---- away too long ------------------------------------------------------- */

static void
become_stale(struct sync *sync)
{
	struct sync_peer *peer;

	sync->stale = true;
	sync->stale_since_ms = sync->contact_ms;
	sync->doubt_sequence = sync->contact_sequence;
	sync->doubt_acked = sync->acked_sequence;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		peer->needs_repair = true;
		peer->tried = peer->answered = false;
		sync_repair_stop(peer);
		peer->repair.due_ms = 0;
		if (sync_push_mark(peer) < sync->acked_sequence)
			sync_push_from(sync, peer, sync->acked_sequence);
	}
}

void
sync_contact(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	if (peer != NULL)
		peer->contact_ms = now.boot_ms;
	if (now.boot_ms - sync->contact_ms > sync->config.retention_ms) {
		if (!sync->stale && store_stats(sync->store).sequence > 0)
			become_stale(sync);
		sync->touch_ms = now.boot_ms;
	}
	sync->contact_ms = now.boot_ms;
	if (!sync->stale)
		sync->contact_sequence = store_stats(sync->store).sequence;
}

void
sync_stale_over(struct sync *sync)
{
	struct sync_peer *peer;

	sync->stale = false;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		sync_repair_stop(peer);
		peer->repair.due_ms = 0;
	}
}

void
sync_stale_tried(struct sync *sync, struct sync_peer *peer, bool answered)
{
	bool any = false;

	if (!sync->stale)
		return;
	peer->tried = true;
	peer->answered |= answered;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (!peer->tried)
			return;
		any |= peer->answered;
	}
	if (any)
		sync_stale_over(sync);
}

/* ---- messages ------------------------------------------------------------ */

int
sync_body_begin(struct sync *sync, enum sync_type type, bool boot)
{
	int error;

	buf_clear(&sync->body);
	error =
	    buf_printf(&sync->body, "{\"type\":\"%s\"", sync_type_name(type));
	/* Comparing costs enough without what the envelope says already. */
	if (error == 0 && type != SYNC_DIGEST_REQUEST &&
	    type != SYNC_BUCKET_REQUEST)
		error = buf_printf(&sync->body, ",\"sender_wallet\":\"%s\"",
		    sync->config.wallet);
	if (error == 0 && boot)
		error = buf_printf(
		    &sync->body, ",\"boot\":\"%s\"", sync->config.boot);
	return error;
}

uint64_t
sync_send(struct sync *sync, struct sync_peer *peer)
{
	uint64_t id = ++sync->last_id;

	sync->stats.messages++;
	sync->stats.bytes += sync->body.len;
	sync->ops.send(
	    sync->ops.arg, peer->wallet, id, sync->body.data, sync->body.len);
	return id;
}

int64_t
sync_backoff(struct sync *sync, unsigned int failures)
{
	int64_t wait = BACKOFF_MIN_MS;

	while (failures-- > 1 && wait < BACKOFF_MAX_MS)
		wait *= 2;
	if (wait > BACKOFF_MAX_MS)
		wait = BACKOFF_MAX_MS;
	return wait / 2 +
	    (int64_t)(sync->ops.random(sync->ops.arg) % (uint64_t)wait);
}

/*
 * A stub of what is not here: before everybody was asked, somebody may have
 * the value, and would not send it once the stub stands.
 */
static bool
is_withheld(const struct sync *sync, uint64_t app_id,
    const struct store_incoming *in, struct kms_time now)
{
	struct store_record record;

	return !sync->all_tried &&
	    !store_peek(
		sync->store, app_id, in->key, in->key_len, now, &record);
}

static struct store_merge_result
withhold(struct sync *sync, uint32_t origin)
{
	struct sync_peer *peer;

	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (peer->incarnation == origin)
			peer->withheld = true;
	}
	return (struct store_merge_result){ STORE_SKIPPED, "evicted", false };
}

struct store_merge_result
sync_merge(struct sync *sync, uint64_t app_id, struct store_incoming *in,
    uint32_t origin, struct kms_time now)
{
	struct store_merge_result result = { STORE_REJECTED, "malformed",
		false };

	if (in != NULL) {
		in->origin = origin;
		if (in->evicted && is_withheld(sync, app_id, in, now))
			result = withhold(sync, origin);
		else if (!in->tombstone && !in->expired && !in->evicted &&
		    !sync->ops.value_ok(
			sync->ops.arg, app_id, in->value, in->value_len))
			result.reason = "value";
		else
			result = store_merge(sync->store, app_id, in, now);
	}
	if (result.outcome == STORE_MERGED)
		sync->stats.records_taken++;
	else if (result.outcome == STORE_REJECTED)
		sync->stats.records_rejected++;
	return result;
}

void
sync_answer(struct sync *sync, uint64_t id, const struct sync_outcome *outcome,
    struct kms_time now)
{
	struct sync_peer *peer;

	if (id == 0 || sync_fetch_answer(sync, id, outcome, now))
		return;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (peer->push.id == id) {
			sync_push_answer(sync, peer, outcome, now);
			return;
		}
		if (peer->repair.id == id) {
			sync_repair_answer(sync, peer, outcome, now);
			return;
		}
	}
}

/* ---- time ---------------------------------------------------------------- */

void
sync_local_change(struct sync *sync, struct kms_time now)
{
	struct sync_peer *peer;

	TAILQ_FOREACH (peer, &sync->peers, link) {
		sync_push_due(peer, now.boot_ms + SYNC_COALESCE_MS);
	}
}

void
sync_greet(struct sync *sync, const char *wallet, struct kms_time now)
{
	struct sync_peer *peer = sync_peer_find(sync, wallet);

	/* The answer to what is under way will do. */
	if (peer == NULL || peer->push.id != 0)
		return;
	peer->push.greeted = false;
	peer->push.retry_ms = now.boot_ms;
	sync_push_due(peer, now.boot_ms);
}

static void
update_low_mark(struct sync *sync)
{
	uint64_t low = UINT64_MAX, lost = store_lost_mark(sync->store), mark;
	struct sync_peer *peer;

	TAILQ_FOREACH (peer, &sync->peers, link) {
		mark = sync_push_mark(peer);
		if (lost > mark && lost > peer->lost_seen) {
			peer->lost_seen = lost;
			peer->needs_repair = true;
		}
		if (peer->needs_repair)
			mark = 0;
		if (mark < low)
			low = mark;
	}
	store_set_low_mark(sync->store, low);
}

/*
 * After a message that moved much, a rest three times as long as it took: two
 * nodes that have a store to exchange leave most of their processors to their
 * apps. A long way between them costs no processor, hence the limit.
 */
int64_t
sync_rest_ms(size_t bytes, int64_t sent_ms, struct kms_time now)
{
	int64_t rest = 3 * (now.boot_ms - sent_ms);

	if (bytes < SYNC_BULK_BYTES || rest < 0)
		return 0;
	return rest < SYNC_REST_MS ? rest : SYNC_REST_MS;
}

/* May this repair start now, with those that are under way? */
static bool
repair_may_start(const struct sync *sync, struct kms_time now)
{
	const struct sync_peer *peer;
	unsigned int running = 0;

	TAILQ_FOREACH (peer, &sync->peers, link)
		if (peer->repair.step != REPAIR_IDLE)
			running++;
	return running == 0 ||
	    (running < REPAIRS_MAX &&
		now.boot_ms - sync->repair_started_ms >= REPAIR_STAGGER_MS);
}

/* Of the peers that need a repair and are due, the one that waits longest:
 * one at a time, so that a newcomer is not sent everything by everybody. */
static void
repairs_tick(struct sync *sync, struct kms_time now)
{
	struct sync_peer *peer, *next = NULL;

	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (!(peer->needs_repair || peer->owes_snapshot) ||
		    peer->repair.step != REPAIR_IDLE ||
		    peer->kind == SYNC_KIND_UNKNOWN ||
		    peer->repair.due_ms > now.boot_ms)
			continue;
		if (next == NULL || peer->repair.due_ms < next->repair.due_ms)
			next = peer;
	}
	if (next != NULL && repair_may_start(sync, now))
		sync_repair_begin(sync, next, now);
}

static struct sync_peer *
random_level_peer(struct sync *sync)
{
	struct sync_peer *peer;
	uint64_t count = 0, pick;

	TAILQ_FOREACH (peer, &sync->peers, link)
		if (peer->kind == SYNC_KIND_OURS && !peer->needs_repair)
			count++;
	if (count == 0)
		return NULL;
	pick = sync->ops.random(sync->ops.arg) % count;
	TAILQ_FOREACH (peer, &sync->peers, link)
		if (peer->kind == SYNC_KIND_OURS && !peer->needs_repair &&
		    pick-- == 0)
			return peer;
	return NULL;
}

/* Compare with some peer that should be level: a belt for the braces. */
static void
entropy_tick(struct sync *sync, struct kms_time now)
{
	unsigned int shift = sync->fruitless;
	struct sync_peer *peer;

	if (now.boot_ms < sync->entropy_ms)
		return;
	if (shift > ENTROPY_SHIFT_MAX)
		shift = ENTROPY_SHIFT_MAX;
	/* Reading 100 000 records costs some 30 ms: at most 0.3 % of the
	 * time. */
	sync->entropy_ms = now.boot_ms + (sync->config.interval_ms << shift) +
	    (int64_t)(store_stats(sync->store).live_keys / 10);
	peer = random_level_peer(sync);
	if (peer != NULL && peer->repair.step == REPAIR_IDLE &&
	    repair_may_start(sync, now))
		sync_repair_begin(sync, peer, now);
}

static void
repair_timeouts(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (repair->step == REPAIR_IDLE)
		return;
	if (repair->id != 0 &&
	    now.boot_ms - repair->sent_ms >= sync->config.request_timeout_ms)
		sync_repair_failed(sync, peer, "no answer in time", now);
	else if (now.boot_ms - repair->started_ms >= REPAIR_LEASE_MS &&
	    repair->moved == 0)
		sync_repair_failed(sync, peer, "nothing came of it", now);
}

/* Has everybody been asked for what they have? */
static void
fill_tick(struct sync *sync, struct kms_time now)
{
	struct sync_peer *peer;
	bool compared = !TAILQ_EMPTY(&sync->peers);

	sync->all_tried = true;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		compared &= peer->compared;
		sync->all_tried &= peer->compared || sync_fill_is_vain(peer);
	}
	/* Of peers that lack as much as we do, all are needed. */
	if (compared)
		sync->stats.filled = true;
	if (!sync->all_tried)
		return;
	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (!peer->withheld)
			continue;
		peer->withheld = false;
		peer->needs_repair = true;
		peer->repair.due_ms = now.boot_ms;
	}
}

void
sync_tick(struct sync *sync, struct kms_time now)
{
	struct sync_peer *peer;

	/* Alone, a node is in touch with everybody. */
	if (TAILQ_EMPTY(&sync->peers))
		sync->contact_ms = now.boot_ms;
	update_low_mark(sync);
	TAILQ_FOREACH (peer, &sync->peers, link) {
		repair_timeouts(sync, peer, now);
		sync_repair_tick(sync, peer, now);
		sync_push_tick(sync, peer, now);
	}
	repairs_tick(sync, now);
	entropy_tick(sync, now);
	fill_tick(sync, now);
	sync_trees_tick(sync, now);
	sync_waits_tick(sync, now);
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t
sync_next(const struct sync *sync, struct kms_time now)
{
	struct sync_peer *peer;
	const struct sync_wait *wait;
	const struct sync_fetch *fetch;
	bool may_start = repair_may_start(sync, now);
	int64_t next = TICK_MAX_MS;

	TAILQ_FOREACH (peer, &sync->peers, link) {
		next = earlier(next, sync_push_next(sync, peer, now));
		if (sync_repair_rests(peer))
			next =
			    earlier(next, peer->repair.rest_ms - now.boot_ms);
		if (peer->needs_repair && peer->repair.step == REPAIR_IDLE &&
		    peer->kind != SYNC_KIND_UNKNOWN && may_start)
			next = earlier(next, peer->repair.due_ms - now.boot_ms);
	}
	wait = TAILQ_FIRST(&sync->waits);
	if (wait != NULL)
		next = earlier(next,
		    wait->got >= wait->wanted
			? 0
			: wait->deadline_ms - now.boot_ms);
	TAILQ_FOREACH (fetch, &sync->fetches, link)
		next = earlier(next,
		    fetch->over
			? 0
			: fetch->sent_ms + FETCH_TIMEOUT_MS - now.boot_ms);
	return next > 0 ? next : 0;
}

/* ---- figures ------------------------------------------------------------- */

bool
sync_peer_at(const struct sync *sync, size_t n, struct sync_peer_view *view)
{
	const struct sync_peer *peer = TAILQ_FIRST(&sync->peers);

	while (peer != NULL && n-- > 0)
		peer = TAILQ_NEXT(peer, link);
	if (peer == NULL)
		return false;
	view->wallet = peer->wallet;
	view->kind = peer->kind;
	view->level = !peer->needs_repair;
	view->mark = sync_push_mark(peer);
	view->last_contact_ms = peer->contact_ms;
	view->failures = peer->push.failures;
	view->refused = (unsigned int)peer->push.refused_count;
	view->too_large = peer->too_large;
	view->repairs = peer->repairs;
	view->last_error = peer->last_error;
	return true;
}

struct sync_stats
sync_stats(const struct sync *sync)
{
	struct sync_stats stats = sync->stats;
	const struct sync_peer *peer;

	stats.stale = sync->stale;
	stats.fill_failures = 0;
	stats.fill_tried = !TAILQ_EMPTY(&sync->peers);
	TAILQ_FOREACH (peer, &sync->peers, link) {
		if (!stats.filled && sync_fill_is_vain(peer))
			stats.fill_failures++;
		stats.fill_tried &= peer->compared || sync_fill_is_vain(peer);
	}
	return stats;
}

size_t
sync_memory(const struct sync *sync)
{
	const struct sync_peer *peer;
	const struct refused *refused;
	size_t bytes = sync->body.size + sync->scratch.size +
	    sync->reader.bytes.size +
	    sync->reader.size * sizeof(struct clock_item) +
	    sync_items_max(sync) * sizeof(*sync->items) +
	    sync_trees_memory(sync) +
	    sync->stats.waits * sizeof(struct sync_wait) +
	    sync->stats.fetches * sizeof(struct sync_fetch);

	TAILQ_FOREACH (peer, &sync->peers, link) {
		bytes += sizeof(*peer) +
		    peer->push.entry_size * sizeof(struct push_entry) +
		    (peer->repair.open.size + peer->repair.leaves.size) *
			sizeof(struct repair_node) +
		    peer->repair.seen_size * sizeof(uint64_t);
		for (size_t i = 0; i < peer->repair.want_count; i++)
			bytes += peer->repair.wants[i].count * 8;
		TAILQ_FOREACH (refused, &peer->push.refused, link)
			bytes += sizeof(*refused) + refused->key_len;
	}
	return bytes;
}
