/* The rules that must hold whatever happens. */
#include <inttypes.h>
#include <string.h>

#include "kms-keeper/authz.h"
#include "kms-keeper/handover_internal.h"
#include "kms-keeper/readiness_internal.h"
#include "regress/sim/simk.h"

/* How old a fact of the chain may be that a node still goes by: the age of its
 * membership, and how long reading one may take. */
#define BELIEVED_MS (MEMBERSHIP_MS + 32000)
#define KEPT_MS 90000
#define MOMENT_MS 20000
#define FINAL_RECENT 12 /* blocks */
#define SYNC_MEMORY_MAX (8u << 20)

static const struct readiness *
readiness_of(const struct world *world, unsigned int node)
{
	return world->nodes[node].keeper->readiness;
}

static bool
same(const struct eth_word *a, const struct eth_word *b)
{
	return memcmp(a->bytes, b->bytes, ETH_WORD_LEN) == 0;
}

/* ---- secrets ------------------------------------------------------------- */

/* Is it a fact of this block that the node is to lose that secret? */
static bool
is_contrary(
    const struct block *block, unsigned int node, const struct eth_word *hash)
{
	return !same(&block->hash, hash) ||
	    block->status[node] != INSTANCE_ACTIVE;
}

/* For as long as wipe-confirmations, but for what it takes to notice? What the
 * chain shows for a moment nobody need see. */
static bool
stood_long(const struct world *world, const struct node *node)
{
	return node->contrary_ms != 0 &&
	    world->now_ms - node->contrary_ms >= WIPE_MS - MOMENT_MS;
}

static void
note_contrary(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	const struct block *head = simk_block(world, world->chain.head);

	if (node->installed && is_contrary(head, i, &node->master_hash)) {
		if (node->contrary_ms == 0)
			node->contrary_ms = world->now_ms;
		node->contrary_seen_ms = world->now_ms;
	} else if (!node->installed ||
	    world->now_ms - node->contrary_seen_ms > MOMENT_MS) {
		node->contrary_ms = 0;
	}
}

static bool
may_wipe(struct world *world, unsigned int i)
{
	const struct node *node = &world->nodes[i];
	uint64_t final = world->chain.final;

	if (world->profile.no_final)
		return stood_long(world, node);
	for (uint64_t n = final;
	     n > node->installed_block && n + FINAL_RECENT > final; n--)
		if (is_contrary(simk_block(world, n), i, &node->master_hash))
			return true;
	return false;
}

/* The last block that has nothing against it: the facts may be older than the
 * head. */
static uint64_t
last_shown(struct world *world, unsigned int node, const struct eth_word *hash)
{
	uint64_t n = world->chain.head;

	while (n > BLOCK0 && is_contrary(simk_block(world, n), node, hash))
		n--;
	return n;
}

static void
check_master(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	const struct readiness *r = node->keeper->readiness;
	struct eth_word hash;
	struct era *era;

	if (node->installed &&
	    (!r->installed ||
		memcmp(r->master, node->master, MASTER_SECRET_LEN) != 0)) {
		simk_note(world, "node %u wipes secret %02x%02x", i,
		    node->master_hash.bytes[0], node->master_hash.bytes[1]);
		if (!may_wipe(world, i))
			simk_fail(world,
			    "wiped: node %u destroyed a secret and nothing "
			    "final said so",
			    i);
		node->installed = false;
		node->lost_ms = world->now_ms;
		simk_check_holders(world);
	}
	if (!r->installed || node->installed)
		return;
	node->installed = true;
	node->installed_block = last_shown(world, i, &r->master_hash);
	memcpy(node->master, r->master, MASTER_SECRET_LEN);
	node->master_hash = r->master_hash;
	master_secret_hash(r->master, hash.bytes);
	simk_note(world, "node %u installs secret %02x%02x (%s)", i,
	    hash.bytes[0], hash.bytes[1],
	    r->master_state == MASTER_GENERATED ? "its own" : r->synced_from);
	era = simk_era(world, &hash);
	era->known = true;
	memcpy(era->secret, r->master, MASTER_SECRET_LEN);
	if (node->stranger)
		simk_fail(world, "handed out: the stranger has a secret");
	if (!same(&hash, &r->master_hash) || !era->on_chain)
		simk_fail(world,
		    "split: node %u took a secret whose hash was never on "
		    "chain",
		    i);
}

/* Was the node's registration over at a block that is final since lately? */
static bool
has_ended(struct world *world, unsigned int i)
{
	uint64_t final = world->chain.final;

	for (uint64_t n = final; n > BLOCK0 && n + FINAL_RECENT > final; n--)
		if (simk_block(world, n)->status[i] != INSTANCE_ACTIVE)
			return true;
	return false;
}

static void
check_dropped(struct world *world, unsigned int i)
{
	const struct eth_word *hash = &world->nodes[i].candidate_hash;
	const struct block *head = simk_block(world, world->chain.head);
	const struct block *final = simk_block(world, world->chain.final);
	const struct readiness *r = readiness_of(world, i);

	if (r->installed && same(&r->master_hash, hash))
		return;
	simk_note(world, "node %u drops candidate %02x%02x", i, hash->bytes[0],
	    hash->bytes[1]);
	if ((same(&head->hash, hash) || same(&final->hash, hash)) &&
	    !is_contrary(head, i, hash) && !has_ended(world, i))
		simk_fail(world,
		    "wiped: node %u dropped a candidate that stands on chain",
		    i);
	for (size_t t = 0; t < world->chain.tx_count; t++) {
		const struct tx *tx = &world->chain.txs[t];

		if (tx->kind == TX_SET_HASH && same(&tx->hash, hash) &&
		    !tx->dead && tx->block == 0 &&
		    eth_word_is_zero(&final->hash) &&
		    final->status[i] == INSTANCE_ACTIVE)
			simk_fail(world,
			    "wiped: node %u dropped a candidate that may be "
			    "mined",
			    i);
	}
}

static void
check_candidate(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	const struct readiness *r = node->keeper->readiness;
	struct era *era;

	if (node->has_candidate &&
	    (!r->has_candidate ||
		!same(&r->candidate_hash, &node->candidate_hash))) {
		node->has_candidate = false;
		if (!node->stranger)
			check_dropped(world, i);
	}
	if (!r->has_candidate || node->has_candidate)
		return;
	node->has_candidate = true;
	node->candidate_hash = r->candidate_hash;
	era = simk_era(world, &r->candidate_hash);
	era->known = true;
	memcpy(era->secret, r->candidate, MASTER_SECRET_LEN);
}

/* Who serves does so under a hash, and as a member, that the chain shows or
 * has shown just now. So no two serve with different secrets for long. */
static void
check_serving(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	int64_t since;

	if (readiness_master(node->keeper->readiness) == NULL)
		return;
	since = world->now_ms - simk_era(world, &node->master_hash)->seen_ms;
	if (since > BELIEVED_MS)
		simk_fail(world,
		    "split: node %u serves under a hash that is gone since "
		    "%" PRId64 " ms",
		    i, since);
	since = world->now_ms - world->chain.active_ms[i];
	if (since > BELIEVED_MS)
		simk_fail(world,
		    "split: node %u serves, but is no member since %" PRId64
		    " ms",
		    i, since);
}

/* What is final takes its secret from a node soon, if it can read the chain;
 * but nothing while only its version is revoked, which may be a mistake. */
static void
check_kept(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	const struct block *head = simk_block(world, world->chain.head);

	if (!node->installed || !is_contrary(head, i, &node->master_hash))
		node->contrary_block = 0;
	else if (node->contrary_block == 0)
		node->contrary_block = world->chain.head + 2;
	if (node->contrary_block == 0 || world->profile.no_final ||
	    node->chain_down_ms > world->now_ms ||
	    world->chain.final <= node->contrary_block ||
	    head->version[i % 2] == VERSION_REVOKED)
		node->kept_ms = world->now_ms;
	if (world->now_ms - node->kept_ms > KEPT_MS)
		simk_fail(world,
		    "kept: node %u holds a secret that a final block takes "
		    "from it",
		    i);
}

void
simk_check_given(struct world *world, unsigned int i,
    const struct p384_point *other, bool offer)
{
	const struct readiness *r = readiness_of(world, i);
	struct node *node = &world->nodes[i];
	unsigned int to = PLACES_MAX;

	if (node->stranger)
		return;
	for (unsigned int n = 0; n < PLACES_MAX; n++)
		if (p384_point_equal(&world->nodes[n].point, other))
			to = n;
	if (to == PLACES_MAX ||
	    world->now_ms - world->chain.active_ms[to] > BELIEVED_MS)
		simk_fail(world,
		    "handed out: node %u seals a secret to node %u, which is "
		    "no member",
		    i, to);
	if (!offer &&
	    (!r->installed || !r->stands ||
		!simk_era(world, &r->master_hash)->on_chain))
		simk_fail(world,
		    "handed out: node %u answers with a secret that is not "
		    "the chain's",
		    i);
}

/* ---- bounds -------------------------------------------------------------- */

static void
check_bound(struct world *world, unsigned int i, const char *what,
    uint64_t value, uint64_t most)
{
	if (value > most)
		simk_fail(world,
		    "memory: node %u: %s: %" PRIu64 " where %" PRIu64
		    " are allowed",
		    i, what, value, most);
}

static void
check_memory(struct world *world, unsigned int i)
{
	const struct node *node = &world->nodes[i];
	struct keeper *k = node->keeper;
	const struct sync *engine = cluster_engine(k->cluster);

	check_bound(
	    world, i, "requests", requests_count(k->requests), REQUESTS_MAX);
	check_bound(world, i, "requests of peers",
	    sync_requests_count(k->syncs), SYNC_REQUESTS_MAX);
	check_bound(world, i, "bytes of bodies", sync_requests_bytes(k->syncs),
	    SYNC_BODY_MAX);
	check_bound(world, i, "calls", node->posts,
	    (uint64_t)(world->profile.nodes + 1) * (PEER_CALLS_A_PEER + 1));
	check_bound(world, i, "offers", k->readiness->handover->offer_count,
	    HANDOVER_OFFERS_MAX);
	check_bound(world, i, "nonces",
	    nonce_outstanding(k->nonces, k->now.boot_ms), MAX_NONCES);
	check_bound(world, i, "replay windows",
	    counterparts_replay_count(k->counterparts), 100000);
	if (engine != NULL)
		check_bound(world, i, "bytes of replication",
		    sync_memory(engine), SYNC_MEMORY_MAX);
}

void
simk_check_node(struct world *world, unsigned int node)
{
	/* One that has turned has none but the chain's to lose. */
	if (!world->nodes[node].hostile) {
		note_contrary(world, node);
		check_candidate(world, node);
		check_master(world, node);
		if (!world->nodes[node].stranger)
			check_serving(world, node);
		check_kept(world, node);
	}
	if (world->events % 8 == 0)
		check_memory(world, node);
}

/* ---- writes that were told to be safe ------------------------------------ */

uint64_t
simk_counter(const struct world *world, const struct store_record *record,
    unsigned int node)
{
	const struct clock_entry *entry = vector_clock_entries(record->clock);
	size_t count = vector_clock_count(record->clock), len;
	struct eth_address wallet;
	const char *name;

	for (size_t i = 0; i < count; i++) {
		name = clock_member_name(entry[i].member, &len);
		if (eth_address_parse(name, len, &wallet) == 0 &&
		    eth_address_equal(&wallet, &world->nodes[node].wallet))
			return entry[i].counter;
	}
	return 0;
}

bool
simk_look(const struct world *world, unsigned int node, unsigned int app,
    unsigned int key, struct store_record *record)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "key-%u", key);
	return store_peek(world->nodes[node].keeper->store, APP0 + app, text,
	    strlen(text), simk_time(world, node), record);
}

static bool
holds(const struct world *world, unsigned int i, const struct write *write)
{
	const struct node *node = &world->nodes[i];
	struct store_record record;

	return node->alive && node->installed &&
	    same(&node->master_hash, &write->era) &&
	    simk_look(world, i, write->app, write->key, &record) &&
	    simk_counter(world, &record, write->node) >=
	    write->clock[write->node];
}

/* Those that have lost their store since may have held it. */
void
simk_check_told(struct world *world, struct write *write, unsigned int k)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		const struct node *node = &world->nodes[i];

		if (i != write->node &&
		    (holds(world, i, write) || node->hostile || !node->alive ||
			node->lost_ms >= write->begun_ms))
			count++;
	}
	if (count < k)
		simk_fail(world,
		    "acknowledged by %u but held by %u: key %u of app %u of "
		    "node %u",
		    k, count, write->key, write->app, write->node);
}

/* Somebody has lost what it held: what nobody holds any more is lost for a
 * good reason. */
void
simk_check_holders(struct world *world)
{
	for (size_t w = 0; w < world->write_count; w++) {
		struct write *write = &world->writes[w];
		bool any = false;

		if (!write->told || write->exempt)
			continue;
		for (unsigned int i = 0; i < world->profile.nodes; i++)
			any |=
			    !world->nodes[i].hostile && holds(world, i, write);
		write->exempt = !any;
	}
}

static void
check_told_end(struct world *world, const struct write *write)
{
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (world->nodes[i].alive && !world->nodes[i].hostile &&
		    !holds(world, i, write))
			simk_fail(world,
			    "%s: key %u of app %u of node %u on node %u",
			    write->deletion ? "deletion undone"
					    : "acknowledged write lost",
			    write->key, write->app, write->node, i);
}

void
simk_check_end(struct world *world)
{
	const struct block *head = simk_block(world, world->chain.head);

	/* Who has turned may overwrite what it likes: it has the secret. */
	for (size_t w = 0; w < world->write_count; w++)
		if (world->writes[w].told && !world->writes[w].exempt &&
		    same(&world->writes[w].era, &head->hash) &&
		    !world->profile.hostile)
			check_told_end(world, &world->writes[w]);
}

/* ---- convergence --------------------------------------------------------- */

/* Does anybody have the secret behind the hash on chain? */
bool
simk_is_held(struct world *world)
{
	const struct eth_word *hash =
	    &simk_block(world, world->chain.head)->hash;

	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		const struct node *node = &world->nodes[i];
		const struct readiness *r;

		if (!node->alive || node->hostile)
			continue;
		r = node->keeper->readiness;
		if ((r->installed && same(&r->master_hash, hash)) ||
		    (r->has_candidate && same(&r->candidate_hash, hash)))
			return true;
		for (size_t n = 0; n < r->handover->offer_count; n++) {
			const struct offer *offer = &r->handover->offers[n];

			if (same(&offer->hash, hash) &&
			    !eth_address_equal(
				&offer->wallet, &world->nodes[0].wallet))
				return true;
			if (same(&offer->hash, hash) && !world->profile.hostile)
				return true;
		}
	}
	return false;
}

static bool
same_clock(const struct vector_clock *a, const struct vector_clock *b)
{
	const struct clock_entry *x = vector_clock_entries(a);
	const struct clock_entry *y = vector_clock_entries(b);
	size_t count = vector_clock_count(a), x_len, y_len;

	if (count != vector_clock_count(b))
		return false;
	for (size_t i = 0; i < count; i++) {
		const char *m = clock_member_name(x[i].member, &x_len);
		const char *n = clock_member_name(y[i].member, &y_len);

		if (x_len != y_len || memcmp(m, n, x_len) != 0 ||
		    x[i].counter != y[i].counter)
			return false;
	}
	return true;
}

struct comparing {
	struct world *world;
	unsigned int a, b;
	bool same, complain;
};

static bool
compare_one(const struct store_record *record, void *arg)
{
	struct comparing *c = arg;
	struct store_record other;
	bool found = store_peek(c->world->nodes[c->b].keeper->store,
	    record->app_id, record->key, record->key_len,
	    simk_time(c->world, c->b), &other);

	if (found && record->state == other.state &&
	    same_clock(record->clock, other.clock) &&
	    record->updated_at_ms == other.updated_at_ms &&
	    record->value_len == other.value_len &&
	    (record->value_len == 0 ||
		memcmp(record->value, other.value, record->value_len) == 0))
		return true;
	c->same = false;
	if (c->complain)
		simk_fail(c->world,
		    "not level: app %" PRIu64 " %.*s on node %u (state %d, "
		    "%" PRId64 ") and %u (%s, state %d, %" PRId64 ")",
		    record->app_id, (int)record->key_len, record->key, c->a,
		    (int)record->state, record->updated_at_ms - WALL0, c->b,
		    found ? "other" : "absent", found ? (int)other.state : -1,
		    found ? other.updated_at_ms - WALL0 : 0);
	return false;
}

static bool
is_ready(struct world *world, unsigned int i, bool complain)
{
	const struct node *node = &world->nodes[i];
	const struct block *head = simk_block(world, world->chain.head);
	const struct readiness_view *view =
	    readiness_view(node->keeper->readiness);
	bool ready = view->ready && same(&node->master_hash, &head->hash);

	if (!ready && complain)
		simk_fail(world, "not level: node %u is not ready: %s", i,
		    view->ready ? "under another hash" : view->reason);
	return ready;
}

bool
simk_is_level(struct world *world, bool complain)
{
	struct comparing c = { world, 0, 0, true, complain };

	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (world->nodes[i].alive && !is_ready(world, i, complain))
			return false;
	if (!TAILQ_EMPTY(&world->ops)) {
		if (complain)
			simk_fail(world, "not level: a request is under way");
		return false;
	}
	for (c.a = 0; c.a < world->profile.nodes; c.a++) {
		if (!world->nodes[c.a].alive)
			continue;
		for (c.b = 0; c.b < world->profile.nodes && c.same; c.b++)
			if (c.b != c.a && world->nodes[c.b].alive)
				store_each(world->nodes[c.a].keeper->store, 0,
				    compare_one, &c);
	}
	return c.same;
}
