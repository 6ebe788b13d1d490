#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

/* ---- writes that wait for replicas --------------------------------------- */

int
sync_can_wait(const struct sync *sync, uint64_t app_id, unsigned int n)
{
	const struct sync_wait *wait;
	size_t of_app = 0;

	if (n > sync->peer_count)
		return KMS_ERANGE;
	if (sync->stats.waits >= SYNC_WAITS_MAX)
		return KMS_EBUSY;
	TAILQ_FOREACH (wait, &sync->waits, link)
		if (wait->app_id == app_id && ++of_app >= SYNC_WAITS_APP_MAX)
			return KMS_EBUSY;
	return 0;
}

int
sync_wait(struct sync *sync, uint64_t app_id, const void *key, size_t key_len,
    unsigned int n, void *cookie, struct kms_time now)
{
	struct store_record record;
	struct sync_wait *wait;
	int error = sync_can_wait(sync, app_id, n);

	if (error != 0)
		return error;
	if (!store_peek(sync->store, app_id, key, key_len, now, &record))
		return KMS_ENOENT;
	wait = calloc(1, sizeof(*wait) + n * sizeof(wait->by[0]));
	if (wait == NULL)
		return KMS_ENOMEM;
	wait->cookie = cookie;
	wait->app_id = app_id;
	wait->key = sync_key_hash(sync, app_id, key, key_len);
	wait->sequence = record.sequence;
	wait->wanted = n;
	wait->deadline_ms = now.boot_ms + sync->config.replica_timeout_ms;
	TAILQ_INSERT_TAIL(&sync->waits, wait, link);
	sync->stats.waits++;
	sync_local_change(sync, now);
	return 0;
}

static void
wait_end(struct sync *sync, struct sync_wait *wait)
{
	TAILQ_REMOVE(&sync->waits, wait, link);
	sync->stats.waits--;
	free(wait);
}

void
sync_wait_cancel(struct sync *sync, const void *cookie)
{
	struct sync_wait *wait, *next;

	for (wait = TAILQ_FIRST(&sync->waits); wait != NULL; wait = next) {
		next = TAILQ_NEXT(wait, link);
		if (wait->cookie == cookie)
			wait_end(sync, wait);
	}
}

static int
entry_compare(const void *a, const void *b)
{
	const struct push_entry *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

/* Each peer counts once. */
static void
wait_count(struct sync_wait *wait, const struct sync_peer *peer)
{
	for (unsigned int i = 0; i < wait->got; i++)
		if (wait->by[i] == peer->number)
			return;
	if (wait->got < wait->wanted)
		wait->by[wait->got++] = peer->number;
}

/*
 * The batch of a peer is acknowledged. A later version of a record holds the
 * waiting write in its clock, so that it counts, too.
 */
void
sync_waits_acknowledged(struct sync *sync, struct sync_peer *peer)
{
	struct push *push = &peer->push;
	struct push_entry wanted, *entry;
	struct sync_wait *wait;

	if (TAILQ_EMPTY(&sync->waits) || push->entry_count == 0)
		return;
	qsort(push->entries, push->entry_count, sizeof(*push->entries),
	    entry_compare);
	TAILQ_FOREACH (wait, &sync->waits, link) {
		wanted.key = wait->key;
		entry = bsearch(&wanted, push->entries, push->entry_count,
		    sizeof(*push->entries), entry_compare);
		if (entry != NULL && entry->sequence >= wait->sequence)
			wait_count(wait, peer);
	}
}

uint64_t
sync_waits_first(const struct sync *sync)
{
	uint64_t first = UINT64_MAX;
	const struct sync_wait *wait;

	TAILQ_FOREACH (wait, &sync->waits, link) {
		if (wait->sequence < first)
			first = wait->sequence;
	}
	return first;
}

/* ---- values that were evicted -------------------------------------------- */

static struct sync_peer *
peer_number(const struct sync *sync, size_t n)
{
	struct sync_peer *peer;
	size_t at = 0;

	TAILQ_FOREACH (peer, &sync->peers, link)
		if (at++ == n)
			return peer;
	return NULL;
}

static int
fetch_write(struct sync *sync, const struct sync_fetch *fetch)
{
	int error = sync_body_begin(sync, SYNC_RECORD_REQUEST, false);

	if (error == 0)
		error = buf_printf(&sync->body, ",\"app_id\":%llu,\"key\":",
		    (unsigned long long)fetch->app_id);
	if (error == 0)
		error = slice_write_string(
		    &sync->body, (const char *)fetch->key, fetch->key_len);
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	return error;
}

/* Ask the next of our peers; none left: it is over. */
static void
fetch_ask(struct sync *sync, struct sync_fetch *fetch, struct kms_time now)
{
	struct sync_peer *peer;

	fetch->id = 0;
	while (fetch->asked < sync->peer_count && fetch->asked < FETCH_PEERS) {
		peer = peer_number(
		    sync, (fetch->first + fetch->asked++) % sync->peer_count);
		if (peer == NULL || peer->kind != SYNC_KIND_OURS)
			continue;
		if (fetch_write(sync, fetch) != 0)
			break;
		fetch->sent_ms = now.boot_ms;
		fetch->id = sync_send(sync, peer);
		return;
	}
	fetch->over = true;
}

int
sync_fetch(struct sync *sync, uint64_t app_id, const void *key, size_t key_len,
    void *cookie, struct kms_time now)
{
	struct store_record record;
	struct sync_fetch *fetch;

	if (sync->peer_count == 0 ||
	    !store_peek(sync->store, app_id, key, key_len, now, &record) ||
	    record.state != STORE_EVICTED)
		return KMS_ENOENT;
	if (sync->stats.fetches >= SYNC_FETCHES_MAX)
		return KMS_EBUSY;
	fetch = calloc(1, sizeof(*fetch) + key_len);
	if (fetch == NULL)
		return KMS_ENOMEM;
	fetch->cookie = cookie;
	fetch->app_id = app_id;
	fetch->key_len = (uint32_t)key_len;
	memcpy(fetch->key, key, key_len);
	fetch->first = sync->ops.random(sync->ops.arg) % sync->peer_count;
	TAILQ_INSERT_TAIL(&sync->fetches, fetch, link);
	sync->stats.fetches++;
	fetch_ask(sync, fetch, now);
	return 0;
}

/* Take the record of an answer; true when the value is here again. */
static bool
fetch_take(struct sync *sync, struct sync_fetch *fetch,
    const struct sync_outcome *outcome, struct kms_time now)
{
	struct store_record record;
	struct store_incoming in;
	struct sync_reply reply;
	struct slice value;

	if (outcome->error != 0 || outcome->status != 200 ||
	    sync_reply_read(outcome->body, outcome->len, &reply) != 0 ||
	    !reply.ok || slice_member(reply.object, "record", &value) != 0 ||
	    record_json_read(&sync->reader, value, true, &in) != 0)
		return false;
	if (in.key_len != fetch->key_len ||
	    memcmp(in.key, fetch->key, in.key_len) != 0)
		return false;
	in.revive = true;
	(void)sync_merge(sync, fetch->app_id, &in, ORIGIN_UNKNOWN, now);
	return store_peek(sync->store, fetch->app_id, fetch->key,
		   fetch->key_len, now, &record) &&
	    record.state != STORE_EVICTED;
}

static struct sync_fetch *
fetch_find(const struct sync *sync, uint64_t id)
{
	struct sync_fetch *fetch;

	TAILQ_FOREACH (fetch, &sync->fetches, link) {
		if (fetch->id == id)
			return fetch;
	}
	return NULL;
}

bool
sync_fetch_answer(struct sync *sync, uint64_t id,
    const struct sync_outcome *outcome, struct kms_time now)
{
	struct sync_fetch *fetch = fetch_find(sync, id);

	if (fetch == NULL)
		return false;
	if (fetch_take(sync, fetch, outcome, now)) {
		fetch->id = 0;
		fetch->over = fetch->found = true;
	} else {
		fetch_ask(sync, fetch, now);
	}
	return true;
}

/* ---- time ---------------------------------------------------------------- */

static void
fetches_tick(struct sync *sync, struct kms_time now)
{
	struct sync_fetch *fetch, *next;

	for (fetch = TAILQ_FIRST(&sync->fetches); fetch != NULL; fetch = next) {
		if (!fetch->over &&
		    now.boot_ms - fetch->sent_ms >= FETCH_TIMEOUT_MS)
			fetch_ask(sync, fetch, now);
		next = TAILQ_NEXT(fetch, link);
		if (!fetch->over)
			continue;
		TAILQ_REMOVE(&sync->fetches, fetch, link);
		sync->stats.fetches--;
		sync->ops.fetched(sync->ops.arg, fetch->cookie, fetch->found);
		free(fetch);
	}
}

void
sync_waits_tick(struct sync *sync, struct kms_time now)
{
	struct sync_wait_list done = TAILQ_HEAD_INITIALIZER(done);
	struct sync_wait *wait, *next;

	for (wait = TAILQ_FIRST(&sync->waits); wait != NULL; wait = next) {
		next = TAILQ_NEXT(wait, link);
		if (wait->got < wait->wanted && now.boot_ms < wait->deadline_ms)
			continue;
		TAILQ_REMOVE(&sync->waits, wait, link);
		sync->stats.waits--;
		TAILQ_INSERT_TAIL(&done, wait, link);
	}
	/* Told when the list is whole again: the callee may add to it. */
	while ((wait = TAILQ_FIRST(&done)) != NULL) {
		TAILQ_REMOVE(&done, wait, link);
		sync->ops.replicas_done(sync->ops.arg, wait->cookie, wait->got,
		    wait->got >= wait->wanted);
		free(wait);
	}
	fetches_tick(sync, now);
}

void
sync_waits_free(struct sync *sync)
{
	struct sync_wait *wait;
	struct sync_fetch *fetch;

	while ((wait = TAILQ_FIRST(&sync->waits)) != NULL)
		wait_end(sync, wait);
	while ((fetch = TAILQ_FIRST(&sync->fetches)) != NULL) {
		TAILQ_REMOVE(&sync->fetches, fetch, link);
		free(fetch);
	}
}
