#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/sync_internal.h"

#define REFUSED_RETRY_MS 30000
#define REFUSED_RETRY_SHIFT 7 /* up to an hour */
#define REJECTED_WHOLE_TRIES 3
#define REJECTED_GAP_MS 50
#define HEARD_GAP_MS 1000
#define UNSUPPORTED_TRIES 3
#define MEET_DELAY_MS 200
#define VISITS_A_STEP 8 /* times batch_records, to pass over held ones */

/* ---- life ---------------------------------------------------------------- */

struct sync_peer *
sync_peer_new(struct sync *sync, const char *wallet, struct kms_time now)
{
	struct sync_peer *peer = calloc(1, sizeof(*peer));
	uint64_t sequence = store_stats(sync->store).sequence;

	if (peer == NULL)
		return NULL;
	memcpy(peer->wallet, wallet, SYNC_WALLET_LEN);
	peer->number = peer->incarnation = ++sync->last_incarnation;
	peer->needs_repair = true;
	peer->contact_ms = -1;
	peer->voided_ms = now.boot_ms - REQUEST_VOID_MS;
	peer->last_error = "";
	peer->repair.due_ms = now.boot_ms;
	peer->push.due_ms = now.boot_ms;
	TAILQ_INIT(&peer->push.refused);
	/* What is older is compared, or sent when it turns out that this peer
	 * cannot compare. */
	store_cursor_open(sync->store, &peer->push.cursor[0], sequence);
	store_cursor_open(sync->store, &peer->push.cursor[1], sequence);
	TAILQ_INSERT_TAIL(&sync->peers, peer, link);
	sync->peer_count++;
	return peer;
}

static void
refused_free(struct push *push, struct refused *refused)
{
	TAILQ_REMOVE(&push->refused, refused, link);
	push->refused_count--;
	free(refused);
}

void
sync_peer_free(struct sync *sync, struct sync_peer *peer)
{
	struct refused *refused;

	sync_repair_stop(peer);
	while ((refused = TAILQ_FIRST(&peer->push.refused)) != NULL)
		refused_free(&peer->push, refused);
	store_cursor_close(&peer->push.cursor[0]);
	store_cursor_close(&peer->push.cursor[1]);
	free(peer->push.entries);
	TAILQ_REMOVE(&sync->peers, peer, link);
	sync->peer_count--;
	free(peer);
}

/* ---- marks --------------------------------------------------------------- */

static struct store_cursor *
acknowledged(struct push *push)
{
	return &push->cursor[push->at];
}

static struct store_cursor *
ahead(struct push *push)
{
	return &push->cursor[!push->at];
}

uint64_t
sync_push_mark(const struct sync_peer *peer)
{
	return peer->push.cursor[peer->push.at].after;
}

/* The end of the batch becomes the mark. */
static void
mark_advance(struct sync *sync, struct sync_peer *peer)
{
	struct push *push = &peer->push;

	push->at = !push->at;
	if (sync_push_mark(peer) > sync->acked_sequence)
		sync->acked_sequence = sync_push_mark(peer);
}

void
sync_push_from(struct sync *sync, struct sync_peer *peer, uint64_t sequence)
{
	struct push *push = &peer->push;
	uint64_t first = sync_waits_first(sync);

	/* What a write waits for must be acknowledged, whether a comparison has
	 * shown meanwhile that it is there or not. */
	if (sequence >= first)
		sequence = first - 1;
	/* A batch under way, should its answer come, is not what was asked. */
	push->id = 0;
	push->retried = NULL;
	for (int i = 0; i < 2; i++) {
		store_cursor_close(&push->cursor[i]);
		store_cursor_open(sync->store, &push->cursor[i], sequence);
	}
}

void
sync_push_due(struct sync_peer *peer, int64_t at_ms)
{
	if (at_ms < peer->push.due_ms)
		peer->push.due_ms = at_ms;
}

/* ---- making a batch ------------------------------------------------------ */

static enum record_form
form_of(const struct sync_peer *peer)
{
	return peer->kind == SYNC_KIND_OURS ? RECORD_OURS : RECORD_DEPLOYED;
}

/* Until a comparison is through, only what was written here goes out: the
 * rest is what the comparison is for. */
static bool
is_for(const struct sync_peer *peer, const struct store_record *record)
{
	if (!record_json_is_sendable(record, form_of(peer)) ||
	    record->origin == peer->incarnation)
		return false;
	return !peer->needs_repair || record->origin == 0;
}

static void
entry_add(
    struct sync *sync, struct push *push, const struct store_record *record)
{
	struct push_entry *entries;
	size_t size;

	/* A stub is no replica. */
	if (TAILQ_EMPTY(&sync->waits) || record->state == STORE_EVICTED)
		return;
	if (push->entry_count == push->entry_size) {
		size = push->entry_size > 0 ? push->entry_size * 2 : 64;
		entries = realloc(push->entries, size * sizeof(*entries));
		/* Without memory a waiting write is told less than is true. */
		if (entries == NULL)
			return;
		push->entries = entries;
		push->entry_size = size;
	}
	push->entries[push->entry_count++] = (struct push_entry){
		sync_key_hash(
		    sync, record->app_id, record->key, record->key_len),
		record->sequence,
	};
}

static int
body_finish(struct sync *sync, struct sync_peer *peer, size_t count)
{
	int error;

	error = sync_body_begin(sync, SYNC_DELTA, peer->kind == SYNC_KIND_OURS);
	if (error == 0)
		error = buf_append_text(&sync->body, ",\"data\":");
	if (error == 0)
		error = record_json_write_data(
		    &sync->body, sync->items, count, form_of(peer));
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	return error;
}

/*
 * How many records a batch may have that is not being halved. One of ours that
 * is far behind gets more at once: what a message costs besides its records,
 * cryptography and a round trip, is paid less often.
 */
static size_t
batch_most(const struct sync *sync, const struct sync_peer *peer)
{
	size_t most = sync->config.batch_records;
	uint64_t behind =
	    store_stats(sync->store).sequence - sync_push_mark(peer);

	if (peer->kind == SYNC_KIND_OURS && behind > 2 * most)
		most = sync_items_max(sync);
	return most;
}

/* Collect what is next for this peer into sync->items; the cursor ahead ends
 * behind it. Returns how many. */
static size_t
collect(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct push *push = &peer->push;
	size_t visits = sync->config.batch_records * VISITS_A_STEP;
	size_t most = push->limit > 0 ? push->limit : batch_most(sync, peer);
	size_t count = 0, bytes = 256, bound;
	struct store_record record;

	push->entry_count = 0;
	store_cursor_close(ahead(push));
	store_cursor_copy(ahead(push), acknowledged(push));
	while (count < most && visits-- > 0 &&
	    store_cursor_peek(ahead(push), now, &record)) {
		if (is_for(peer, &record)) {
			bound = record_json_bound(&record) + 32;
			if (count > 0 && bytes + bound > SYNC_BATCH_BYTES)
				break;
			bytes += bound;
			sync->items[count++].record = record;
			entry_add(sync, push, &record);
		} else if (record.origin == peer->incarnation) {
			entry_add(sync, push, &record);
		}
		(void)store_cursor_next(ahead(push), now, &record);
	}
	return count;
}

static void
batch_send(struct sync *sync, struct sync_peer *peer, size_t count,
    struct kms_time now)
{
	struct push *push = &peer->push;
	struct store_record record;

	push->again = push->retried != NULL;
	push->sent = count;
	push->bytes = sync->body.len;
	push->more = push->retried == NULL &&
	    store_cursor_peek(ahead(push), now, &record);
	push->sent_ms = now.boot_ms;
	sync->stats.records_pushed += count;
	push->id = sync_send(sync, peer);
}

static void
push_failed(struct sync *sync, struct sync_peer *peer, const char *why,
    struct kms_time now)
{
	struct push *push = &peer->push;

	push->id = 0;
	push->retried = NULL;
	push->failures++;
	push->retry_ms = now.boot_ms + sync_backoff(sync, push->failures);
	peer->last_error = why;
	sync_fill_failed(peer);
	sync_stale_tried(sync, peer, false);
}

/* ---- what a peer rejected ------------------------------------------------ */

static void
refused_place(struct push *push, struct refused *refused)
{
	struct refused *behind;

	TAILQ_FOREACH_REVERSE(behind, &push->refused, refused_list, link)
	{
		if (behind->retry_ms <= refused->retry_ms) {
			TAILQ_INSERT_AFTER(
			    &push->refused, behind, refused, link);
			return;
		}
	}
	TAILQ_INSERT_HEAD(&push->refused, refused, link);
}

static void
refused_again(struct push *push, struct refused *refused, struct kms_time now)
{
	unsigned int shift = refused->tries++;

	if (shift > REFUSED_RETRY_SHIFT)
		shift = REFUSED_RETRY_SHIFT;
	refused->retry_ms = now.boot_ms + ((int64_t)REFUSED_RETRY_MS << shift);
	TAILQ_REMOVE(&push->refused, refused, link);
	refused_place(push, refused);
}

/* The one record of the batch: the first behind the mark that is for the
 * peer. */
static bool
batch_record(
    struct sync_peer *peer, struct kms_time now, struct store_record *record)
{
	struct store_cursor cursor;
	bool found;

	store_cursor_copy(&cursor, acknowledged(&peer->push));
	do
		found = cursor.after < ahead(&peer->push)->after &&
		    store_cursor_next(&cursor, now, record);
	while (found && !is_for(peer, record));
	store_cursor_close(&cursor);
	return found;
}

static bool
refused_is_kept(
    const struct push *push, uint64_t app_id, const void *key, size_t key_len)
{
	const struct refused *refused;

	TAILQ_FOREACH (refused, &push->refused, link) {
		if (refused->app_id == app_id && refused->key_len == key_len &&
		    memcmp(refused->key, key, key_len) == 0)
			return true;
	}
	return false;
}

bool
sync_refused_keep(struct sync_peer *peer, uint64_t app_id, const void *key,
    size_t key_len, const char *why, struct kms_time now)
{
	struct push *push = &peer->push;
	struct refused *refused = NULL;

	if (refused_is_kept(push, app_id, key, key_len))
		return true;
	log_warn("sync: %s %s a record of app %llu (%zu bytes of key), "
		 "to be tried again",
	    peer->wallet, why, (unsigned long long)app_id, key_len);
	if (push->refused_count < REFUSED_MAX && key_len <= REFUSED_KEY_MAX)
		refused = calloc(1, sizeof(*refused) + key_len);
	if (refused == NULL)
		return false;
	refused->app_id = app_id;
	refused->key_len = (uint32_t)key_len;
	memcpy(refused->key, key, key_len);
	refused->retry_ms = now.boot_ms + REFUSED_RETRY_MS;
	refused_place(push, refused);
	push->refused_count++;
	return true;
}

/* The one record of the batch. */
static bool
batch_keep(struct sync_peer *peer, const char *why, struct kms_time now)
{
	struct store_record record;

	return !batch_record(peer, now, &record) ||
	    sync_refused_keep(
		peer, record.app_id, record.key, record.key_len, why, now);
}

bool
sync_may_be_too_large(const struct sync_peer *peer, size_t bytes)
{
	return bytes > ALWAYS_TAKEN && bytes > peer->push.taken;
}

static bool
has_work(struct sync_peer *peer)
{
	/* The time does not matter: whether there is a record does. */
	static const struct kms_time any;
	struct store_record record;

	return !peer->push.greeted ||
	    store_cursor_peek(&peer->push.cursor[peer->push.at], any, &record);
}

/* Send the first that is due once more; false: there is none. */
static bool
refused_send(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct push *push = &peer->push;
	struct refused *refused = TAILQ_FIRST(&push->refused);
	struct store_record record;

	/* In turns with what is new. */
	if (refused == NULL || refused->retry_ms > now.boot_ms ||
	    (push->again && has_work(peer)))
		return false;
	if (!store_peek(sync->store, refused->app_id, refused->key,
		refused->key_len, now, &record) ||
	    !record_json_is_sendable(&record, form_of(peer))) {
		refused_free(push, refused);
		return false;
	}
	push->entry_count = 0;
	sync->items[0].record = record;
	entry_add(sync, push, &record);
	if (body_finish(sync, peer, 1) != 0)
		return false;
	push->retried = refused;
	batch_send(sync, peer, 1, now);
	return true;
}

/* ---- when ---------------------------------------------------------------- */

/* Before it nothing goes to this peer. */
static int64_t
quiet_ms(const struct sync_peer *peer)
{
	const struct push *push = &peer->push;
	int64_t quiet = push->retry_ms;

	if (peer->kind != SYNC_KIND_OURS && push->greeted &&
	    push->sent_ms + SYNC_DEPLOYED_GAP_MS > quiet)
		quiet = push->sent_ms + SYNC_DEPLOYED_GAP_MS;
	return quiet;
}

void
sync_heard(struct sync *sync, const char *wallet, struct kms_time now)
{
	struct sync_peer *peer = sync_peer_find(sync, wallet);

	if (peer == NULL || peer->push.failures == 0 || peer->push.id != 0 ||
	    peer->push.rejections > 0 ||
	    now.boot_ms - peer->push.sent_ms < HEARD_GAP_MS)
		return;
	if (peer->push.retry_ms > now.boot_ms)
		peer->push.retry_ms = now.boot_ms;
}

/* When the next batch may go, given that there is something to send. */
static int64_t
ready_ms(const struct sync_peer *peer)
{
	int64_t quiet = quiet_ms(peer);

	return peer->push.due_ms > quiet ? peer->push.due_ms : quiet;
}

int64_t
sync_push_next(
    const struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	const struct push *push = &peer->push;
	const struct refused *refused = TAILQ_FIRST(&push->refused);
	int64_t next = INT64_MAX;
	bool work;

	if (push->id != 0)
		return push->sent_ms + sync->config.request_timeout_ms -
		    now.boot_ms;
	work = has_work(peer);
	if (work)
		next = push->due_ms == INT64_MAX ? now.boot_ms : ready_ms(peer);
	/* As refused_send: what is new may have to go first. */
	if (refused != NULL && !(work && push->again) &&
	    refused->retry_ms < next)
		next = refused->retry_ms;
	if (next < quiet_ms(peer))
		next = quiet_ms(peer);
	return next - now.boot_ms;
}

void
sync_push_tick(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct push *push = &peer->push;
	size_t count;

	if (push->id != 0) {
		if (now.boot_ms - push->sent_ms >=
		    sync->config.request_timeout_ms)
			push_failed(sync, peer, "no answer in time", now);
		return;
	}
	if (quiet_ms(peer) > now.boot_ms || refused_send(sync, peer, now))
		return;
	if (!has_work(peer)) {
		push->due_ms = INT64_MAX;
		return;
	}
	if (push->due_ms == INT64_MAX)
		push->due_ms = now.boot_ms + SYNC_COALESCE_MS;
	if (ready_ms(peer) > now.boot_ms)
		return;
	count = collect(sync, peer, now);
	if (count == 0 && push->greeted) {
		/* Nothing of it is for this peer. */
		sync_waits_acknowledged(sync, peer);
		mark_advance(sync, peer);
		return;
	}
	push->due_ms = INT64_MAX;
	if (body_finish(sync, peer, count) != 0) {
		push_failed(sync, peer, "out of memory", now);
		return;
	}
	batch_send(sync, peer, count, now);
}

/* ---- answers ------------------------------------------------------------- */

/*
 * Did every record arrive? Deployed peers may say "merged" alone, which does
 * not count what they had already: then nothing speaks against it.
 */
bool
sync_counts_are_whole(const struct sync_counts *counts, size_t sent)
{
	int64_t n = (int64_t)sent;
	int64_t merged = counts->merged < 0 ? 0 : counts->merged;

	if (counts->total >= 0 && counts->total != n)
		return false;
	if (counts->skipped >= 0)
		return counts->skipped <= n && merged == n - counts->skipped;
	return counts->rejected <= 0 && merged <= n;
}

static void
note_kind(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	enum sync_kind kind = SYNC_KIND_DEPLOYED;

	/* What it can do it says only to who does not know it is ours. */
	if (peer->kind == SYNC_KIND_OURS && reply->boot.text != NULL &&
	    !reply->listed)
		return;
	if (peer->unsupported < UNSUPPORTED_TRIES &&
	    reply->extensions[SYNC_DIGEST_REQUEST] &&
	    reply->extensions[SYNC_BUCKET_REQUEST])
		kind = SYNC_KIND_OURS;
	if (peer->kind == kind)
		return;
	peer->kind = kind;
	peer->needs_repair = true;
	sync_repair_stop(peer);
	/* Two that meet need not both begin. */
	peer->repair.due_ms = now.boot_ms;
	if (kind == SYNC_KIND_OURS &&
	    strcmp(sync->config.wallet, peer->wallet) > 0)
		peer->repair.due_ms += MEET_DELAY_MS;
}

/* It says of each record that it is there, not only that nothing is wrong:
 * what a waiting write needs to hear. */
static bool
counts_are_certain(const struct sync_counts *counts, size_t sent)
{
	return counts->skipped >= 0 || counts->merged == (int64_t)sent;
}

static void
batch_done(struct sync *sync, struct sync_peer *peer, bool certain,
    struct kms_time now)
{
	struct push *push = &peer->push;

	push->failures = push->rejections = 0;
	if (certain)
		sync_waits_acknowledged(sync, peer);
	if (push->retried != NULL)
		refused_free(push, push->retried);
	else
		mark_advance(sync, peer);
	push->retried = NULL;
	push->limit *= 2;
	if (push->limit >= sync->config.batch_records)
		push->limit = 0;
	/* What is left does not wait for more: it has waited. */
	if (push->more) {
		push->due_ms = 0;
		push->retry_ms =
		    now.boot_ms + sync_rest_ms(push->bytes, push->sent_ms, now);
	}
}

/* Some did not arrive: find out which, by halves. */
static void
batch_split(struct sync *sync, struct sync_peer *peer,
    const struct sync_counts *counts, struct kms_time now)
{
	struct push *push = &peer->push;

	if (push->retried != NULL) {
		refused_again(push, push->retried, now);
		push->retried = NULL;
		return;
	}
	if (push->sent <= 1) {
		if (!batch_keep(peer, "rejects", now)) {
			/* Comparing finds it. */
			peer->needs_repair = true;
			peer->repair.due_ms = now.boot_ms + REFUSED_RETRY_MS;
		}
		mark_advance(sync, peer);
		return;
	}
	/* All of them: more likely the peer is not well, its clock perhaps. */
	if (counts->merged <= 0 && counts->skipped <= 0 &&
	    ++push->rejections < REJECTED_WHOLE_TRIES) {
		push_failed(sync, peer, "it rejected every record", now);
		return;
	}
	push->limit = push->sent / 2;
	push->retry_ms = now.boot_ms + REJECTED_GAP_MS;
}

/*
 * 413, which nobody signs: whoever stands between can say it of anything. A
 * batch is halved, which harms nobody. That a single record is too large is
 * believed when a node could mean it, and then not for ever: it is tried again
 * later, and holds up nothing meanwhile.
 */
static void
batch_too_large(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct push *push = &peer->push;

	if (push->retried != NULL) {
		refused_again(push, push->retried, now);
		push->retried = NULL;
		return;
	}
	if (push->sent > 1) {
		push->failures = 0;
		push->limit = push->sent / 2;
		push->retry_ms = now.boot_ms + REJECTED_GAP_MS;
		return;
	}
	if (!sync_may_be_too_large(peer, push->bytes)) {
		push_failed(sync, peer,
		    "413 (too large) to less than a node takes", now);
		return;
	}
	push->failures = 0;
	peer->too_large++;
	sync->stats.too_large++;
	if (!batch_keep(peer, "refuses as too large", now))
		log_warn("sync: %s refuses too many as too large: skipped",
		    peer->wallet);
	mark_advance(sync, peer);
}

void
sync_push_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_outcome *outcome, struct kms_time now)
{
	struct push *push = &peer->push;
	struct sync_reply reply;

	push->id = 0;
	if (outcome->status == 413) {
		batch_too_large(sync, peer, now);
		return;
	}
	if (outcome->error != 0 || outcome->status != 200) {
		push_failed(sync, peer, "no verified answer", now);
		return;
	}
	if (sync_reply_read(outcome->body, outcome->len, &reply) != 0 ||
	    !reply.ok ||
	    (reply.counts.total >= 0 &&
		reply.counts.total != (int64_t)push->sent)) {
		push_failed(sync, peer, "an answer that is none", now);
		return;
	}
	peer->last_error = "";
	push->greeted = true;
	if (push->bytes > push->taken)
		push->taken = push->bytes;
	/* First who answered, and after how long: a peer that began anew, or
	 * our own long absence, makes the same answer mean less. */
	sync_contact(sync, peer, now);
	sync_note_boot(sync, peer, reply.boot, now);
	if (sync_counts_are_whole(&reply.counts, push->sent))
		batch_done(sync, peer,
		    counts_are_certain(&reply.counts, push->sent), now);
	else
		batch_split(sync, peer, &reply.counts, now);
	note_kind(sync, peer, &reply, now);
	if (peer->kind == SYNC_KIND_DEPLOYED)
		sync_stale_tried(sync, peer, true);
}
