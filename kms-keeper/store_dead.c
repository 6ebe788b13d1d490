/*
 * How much the dead may take: of an app, and of all apps together.
 *
 * Anybody may say that something was deleted: a tombstone needs no data key,
 * and its app need not exist. So the dead of all apps have one bound in bytes,
 * in which what an app's table and a clock's names cost is counted, and within
 * it a *foundling*, which a peer brought dead where there was nothing, has a
 * share only. Over its share it is not taken, instead of another being dropped:
 * whatever fills the share pushes nothing out, is told to nobody, and costs no
 * peer a comparison. Where there is nothing it would hide nothing either;
 * should an older version come, the tombstone is no foundling any more and
 * taken from whoever has it. What died here was live here, for which a peer
 * needs the app's key; for it room is made, and foundlings go first.
 */
#include "common/err.h"
#include "kms-keeper/store_internal.h"

/* The bound: so many apps with max_tombstones, each dead record of so many
 * bytes. */
#define DEAD_APPS 64
#define DEAD_BYTES 512

/* Shares of the bound: of all foundlings, of those in apps of which nothing was
 * ever live here, of those that are held back beyond their retention, and of
 * all the dead while clocks longer than CLOCK_MEMBERS_KEPT are still taken. */
#define SHARE_FOUND(bound) ((bound) / 2)
#define SHARE_STRANGE(bound) ((bound) / 4)
#define SHARE_HELD(bound) ((bound) / 8)
#define SHARE_LONG(bound) ((bound) / 2)

/* A namespace with its table of records. */
#define NAMESPACE_COST 1024

uint64_t
store_dead_bound(const struct store *store)
{
	uint64_t bound;

	if (__builtin_mul_overflow(store->config.max_tombstones,
		(uint64_t)(DEAD_APPS * DEAD_BYTES), &bound))
		return UINT64_MAX;
	return bound;
}

static uint32_t
dead_cost(size_t key_len, size_t value_len, size_t members)
{
	return (uint32_t)(key_len + value_len + members * CLOCK_MEMBER_COST +
	    STORE_RECORD_OVERHEAD);
}

/* ---- the account --------------------------------------------------------- */

/* A namespace gets its first dead record, or has lost its last. */
static void
account_namespace(struct store *store, const struct namespace *ns, bool add)
{
	uint64_t cost = add ? NAMESPACE_COST : -(uint64_t)NAMESPACE_COST;

	store->stats.dead_bytes += cost;
	if (!ns->known) {
		store->found_bytes += cost;
		store->strange_bytes += cost;
	}
}

static void
account(struct store *store, const struct record *record, uint64_t cost)
{
	struct namespace *ns = record->ns;

	store->stats.dead_bytes += cost;
	if (!record->found)
		return;
	store->found_bytes += cost;
	ns->found_bytes += cost;
	if (!ns->known)
		store->strange_bytes += cost;
}

struct record_list *
dead_list(struct store *store, const struct record *record)
{
	return record->found ? &store->found : &store->dead;
}

void
dead_add(struct store *store, struct record *record)
{
	struct namespace *ns = record->ns;

	TAILQ_INSERT_TAIL(&ns->dead, record, order);
	TAILQ_INSERT_TAIL(dead_list(store, record), record, death);
	if (ns->dead_count++ == 0)
		account_namespace(store, ns, true);
	record->dead_cost = dead_cost(record->key_len, record->value_len,
	    vector_clock_count(&record->clock));
	account(store, record, record->dead_cost);
	store->stats.dead_keys++;
}

void
dead_remove(struct store *store, struct record *record)
{
	struct namespace *ns = record->ns;

	TAILQ_REMOVE(&ns->dead, record, order);
	TAILQ_REMOVE(dead_list(store, record), record, death);
	if (--ns->dead_count == 0)
		account_namespace(store, ns, false);
	account(store, record, -(uint64_t)record->dead_cost);
	store->stats.dead_keys--;
}

void
dead_clock_changed(struct store *store, struct record *record)
{
	uint32_t cost = dead_cost(record->key_len, record->value_len,
	    vector_clock_count(&record->clock));

	account(store, record, (uint64_t)cost - record->dead_cost);
	record->dead_cost = cost;
	dead_enforce_all(store);
}

void
namespace_known(struct store *store, struct namespace *ns)
{
	if (ns->known)
		return;
	ns->known = true;
	store->strange_bytes -= ns->found_bytes;
	if (ns->dead_count > 0) {
		store->found_bytes -= NAMESPACE_COST;
		store->strange_bytes -= NAMESPACE_COST;
	}
}

/* ---- the rules ----------------------------------------------------------- */

bool
record_is_past_retention(
    const struct store *store, const struct record *record, struct kms_time now)
{
	return now.boot_ms - record->dead_since_ms >=
	    store->config.tombstone_retention_ms;
}

bool
record_may_die(
    const struct store *store, const struct namespace *ns, uint64_t cost)
{
	return ns == NULL ||
	    (ns->dead_count < store->config.max_tombstones &&
		ns->dead_bytes + cost <= store->config.max_app_storage);
}

bool
dead_is_welcome(const struct store *store, const struct slot *slot,
    size_t value_len, size_t members)
{
	const struct record *record = slot->record;
	bool dead = record != NULL && record->state != STORE_LIVE;
	uint64_t bound = store_dead_bound(store), more;

	more = dead_cost(slot->key_len, value_len, members);
	if (slot->ns == NULL || slot->ns->dead_count == 0)
		more += NAMESPACE_COST;
	if (dead && more <= record->dead_cost)
		return true;
	if (dead)
		more -= record->dead_cost;
	if (members > CLOCK_MEMBERS_KEPT &&
	    store->stats.dead_bytes + more > SHARE_LONG(bound))
		return false;
	if (record != NULL && !(dead && record->found))
		return true;
	if ((slot->ns == NULL || !slot->ns->known) &&
	    store->strange_bytes + more > SHARE_STRANGE(bound))
		return false;
	return store->found_bytes + more <= SHARE_FOUND(bound);
}

bool
dead_may_be_held_back(const struct store *store, const struct record *record)
{
	return !record->found ||
	    store->found_bytes <= SHARE_HELD(store_dead_bound(store));
}

void
record_forget(struct store *store, struct record *record)
{
	if (record->sequence > store->low_mark &&
	    record->sequence > store->lost_mark)
		store->lost_mark = record->sequence;
	store->stats.forgotten++;
	record_free(store, record);
}

void
dead_enforce_all(struct store *store)
{
	uint64_t bound = store_dead_bound(store);

	while (store->stats.dead_bytes > bound) {
		struct record *record = TAILQ_FIRST(&store->found);

		if (record == NULL)
			record = TAILQ_FIRST(&store->dead);
		record_forget(store, record);
	}
}

void
dead_enforce(struct store *store, struct namespace *ns)
{
	const struct store_config *config = &store->config;
	bool last = false;

	while (!last &&
	    (ns->dead_count > config->max_tombstones ||
		ns->dead_bytes > config->max_app_storage)) {
		last = ns->dead_count == 1 && ns->records->hh.next == NULL;
		record_forget(store, TAILQ_FIRST(&ns->dead));
	}
	dead_enforce_all(store);
}
