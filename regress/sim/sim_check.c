/* The rules that must hold whatever happens. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "regress/sim/sim.h"

#define SYNC_MEMORY_MAX (8u << 20)
#define EVICTING_MAX 6000

/* The node whose member of clocks this is; NODES_MAX: of none. Their names end
 * in their numbers. */
static unsigned int
node_of_member(const struct world *world, const char *name, size_t len)
{
	unsigned int node = 0;

	if (len != SYNC_WALLET_LEN)
		return NODES_MAX;
	for (size_t i = len - 2; i < len; i++) {
		char c = name[i];

		node = node << 4 |
		    (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	if (node >= world->profile.nodes ||
	    memcmp(name, world->nodes[node].member_name, len) != 0)
		return NODES_MAX;
	return node;
}

/* All of a clock's counters. */
static void
counters_of(const struct world *world, const struct store_record *record,
    uint64_t counters[NODES_MAX])
{
	const struct clock_entry *entry = vector_clock_entries(record->clock);
	size_t count = vector_clock_count(record->clock), len;

	memset(counters, 0, world->profile.nodes * sizeof(*counters));
	for (size_t i = 0; i < count; i++) {
		const char *name = clock_member_name(entry[i].member, &len);
		unsigned int node = node_of_member(world, name, len);

		if (node < NODES_MAX)
			counters[node] = entry[i].counter;
	}
}

uint64_t
sim_counter(const struct world *world, const struct store_record *record,
    unsigned int node)
{
	const struct clock_entry *entry = vector_clock_entries(record->clock);
	size_t count = vector_clock_count(record->clock), len;

	for (size_t i = 0; i < count; i++) {
		const char *name = clock_member_name(entry[i].member, &len);

		if (node_of_member(world, name, len) == node)
			return entry[i].counter;
	}
	return 0;
}

static bool
look(const struct world *world, unsigned int node, uint64_t app,
    unsigned int key, struct store_record *record)
{
	char text[16];

	sim_key(key, text);
	return store_peek(world->nodes[node].store, app, text, strlen(text),
	    sim_time(world, node), record);
}

/* May a record have gone from a node for a good reason? */
static bool
may_be_gone(const struct world *world, uint64_t app, unsigned int key)
{
	return world->profile.away && world->forgot[app - 1][key];
}

/* ---- after each event of a node ------------------------------------------ */

/* A causally later write never loses: a record's clock never goes back. */
static void
check_monotony(
    struct world *world, unsigned int i, uint64_t app, unsigned int key)
{
	uint64_t *shadow = world->nodes[i].shadow[app - 1][key], counter;
	uint64_t counters[NODES_MAX];
	struct store_record record;

	if (!look(world, i, app, key, &record)) {
		for (unsigned int n = 0; n < world->profile.nodes; n++) {
			if (shadow[n] != 0 && !may_be_gone(world, app, key))
				sim_fail(world,
				    "node %u lost key %u of app %" PRIu64, i,
				    key, app);
			shadow[n] = 0;
		}
		return;
	}
	counters_of(world, &record, counters);
	for (unsigned int n = 0; n < world->profile.nodes; n++) {
		counter = counters[n];
		if (counter < shadow[n] && !may_be_gone(world, app, key))
			sim_fail(world,
			    "node %u: key %u of app %" PRIu64
			    " went back, member %u from %" PRIu64
			    " to %" PRIu64,
			    i, key, app, n, shadow[n], counter);
		shadow[n] = counter;
	}
}

/* Did the record happen before the write, so that it may not stand where the
 * write was seen? */
static bool
is_before(const struct world *world, const struct store_record *record,
    const struct told *told)
{
	uint64_t counters[NODES_MAX];
	size_t known = 0;

	if (sim_counter(world, record, told->node) >= told->counter)
		return false;
	counters_of(world, record, counters);
	for (unsigned int n = 0; n < world->profile.nodes; n++) {
		uint64_t counter = counters[n];

		if (counter > told->clock[n])
			return false;
		known += counter > 0;
	}
	return known == vector_clock_count(record->clock);
}

static void
check_deletions(struct world *world, unsigned int i)
{
	struct store_record record;

	for (size_t t = 0; t < world->told_count; t++) {
		struct told *told = &world->told[t];

		if (!told->deletion || !told->met ||
		    !look(world, i, told->app, told->key, &record))
			continue;
		if (sim_counter(world, &record, told->node) >= told->counter)
			told->holder[i] = true;
		else if (told->holder[i] && record.state == STORE_LIVE &&
		    is_before(world, &record, told))
			sim_fail(world,
			    "deletion undone on node %u: key %u of app "
			    "%" PRIu64,
			    i, told->key, told->app);
	}
}

static void
check_memory(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	size_t bytes = sync_memory(node->sync);

	if (bytes > SYNC_MEMORY_MAX)
		sim_fail(world, "memory: node %u holds %zu bytes", i, bytes);
	if (!world->profile.evicting)
		return;
	for (uint64_t app = 1; app <= APPS; app++)
		if (store_app_charged(node->store, app) > EVICTING_MAX)
			sim_fail(world,
			    "memory: app %" PRIu64 " of node %u has %" PRIu64
			    " bytes",
			    app, i, store_app_charged(node->store, app));
}

void
sim_check_step(struct world *world, unsigned int i)
{
	uint64_t step = world->events;

	/* A part of the keys each time: all of them soon. */
	for (uint64_t app = 1; app <= APPS; app++)
		for (unsigned int k = step % 4; k < KEYS; k += 4)
			check_monotony(world, i, app, k);
	check_deletions(world, i);
	if (step % 16 == 0)
		check_memory(world, i);
}

/* ---- writes that were told to be safe ------------------------------------ */

static bool
holds(const struct world *world, unsigned int i, const struct told *told)
{
	struct store_record record;

	if (!world->nodes[i].alive || world->nodes[i].store == NULL)
		return false;
	return look(world, i, told->app, told->key, &record) &&
	    sim_counter(world, &record, told->node) >= told->counter;
}

void
sim_check_told(struct world *world, struct told *told, unsigned int k)
{
	unsigned int count = told->died;

	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		told->holder[i] = holds(world, i, told);
		if (i == told->node)
			continue;
		/* A liar's word is a word. */
		if (told->holder[i] || world->nodes[i].role == ROLE_HOSTILE ||
		    may_be_gone(world, told->app, told->key))
			count++;
	}
	if (count < k)
		sim_fail(world,
		    "acknowledged by %u but held by %u: key %u of app "
		    "%" PRIu64 " of node %u",
		    k, count, told->key, told->app, told->node);
}

/* Would it hand the write on? A deployed node drops what expires. */
static bool
keeps(const struct world *world, unsigned int i, const struct told *told)
{
	struct store_record record;

	return holds(world, i, told) &&
	    look(world, i, told->app, told->key, &record) &&
	    (world->nodes[i].role != ROLE_DEPLOYED || record.ttl_ms == 0);
}

void
sim_check_crash(struct world *world, unsigned int node)
{
	for (size_t t = 0; t < world->told_count; t++) {
		struct told *told = &world->told[t];
		bool any = false;

		if (!told->done) {
			told->died++;
			continue;
		}
		told->holder[node] = false;
		for (unsigned int i = 0; i < world->profile.nodes; i++) {
			told->holder[i] |= holds(world, i, told);
			any |= keeps(world, i, told) ||
			    (told->holder[i] &&
				world->nodes[i].role == ROLE_OURS);
		}
		told->exempt |= !any;
	}
}

/* Does every node of ours stand behind the write? */
static bool
told_stands(struct world *world, const struct told *told, bool complain)
{
	struct store_record record;

	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		const struct node *node = &world->nodes[i];
		bool gone = may_be_gone(world, told->app, told->key);

		if (!node->alive || node->role != ROLE_OURS || !node->member)
			continue;
		if (!look(world, i, told->app, told->key, &record)) {
			if (gone)
				continue;
			if (complain)
				sim_fail(world,
				    "acknowledged write lost: node %u has "
				    "nothing of key %u of app %" PRIu64,
				    i, told->key, told->app);
			return false;
		}
		if (is_before(world, &record, told) ||
		    (!gone &&
			sim_counter(world, &record, told->node) <
			    told->counter)) {
			if (complain)
				sim_fail(world,
				    "%s: key %u of app %" PRIu64
				    " of node %u on node %u",
				    told->deletion ? "deletion undone"
						   : "acknowledged write lost",
				    told->key, told->app, told->node, i);
			return false;
		}
	}
	return true;
}

bool
sim_told_stand(struct world *world, bool complain)
{
	for (size_t t = 0; t < world->told_count; t++) {
		const struct told *told = &world->told[t];

		if (told->met && !told->exempt &&
		    !told_stands(world, told, complain))
			return false;
	}
	return true;
}

/* ---- convergence --------------------------------------------------------- */

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

/* key, clock, updated_at_ms, tombstone, ttl_ms, first 32 stored bytes */
static bool
same_record(const struct store_record *a, const struct store_record *b)
{
	size_t a_len = a->value_len < 32 ? a->value_len : 32;
	size_t b_len = b->value_len < 32 ? b->value_len : 32;

	return same_clock(a->clock, b->clock) &&
	    a->updated_at_ms == b->updated_at_ms &&
	    (a->state == STORE_TOMBSTONE) == (b->state == STORE_TOMBSTONE) &&
	    a->ttl_ms == b->ttl_ms && a_len == b_len &&
	    (a_len == 0 || memcmp(a->value, b->value, a_len) == 0);
}

struct comparing {
	struct world *world;
	unsigned int a, b;
	bool same, complain;
};

static bool
is_old(const struct world *world, const struct store_record *record)
{
	int64_t died = record->state == STORE_TOMBSTONE ? record->updated_at_ms
	    : record->ttl_ms > 0 ? record->updated_at_ms + record->ttl_ms
				 : INT64_MAX;

	int64_t retention = world->profile.away ? 25000 : 86000000;

	return died < WALL0 + world->now_ms - retention;
}

static bool
compare_one(const struct store_record *record, void *arg)
{
	struct comparing *c = arg;
	const struct world *world = c->world;
	bool deployed = world->nodes[c->a].role == ROLE_DEPLOYED ||
	    world->nodes[c->b].role == ROLE_DEPLOYED;
	struct store_record other;
	bool found;

	/* What is as old as that is forgotten, here sooner, there later. */
	if (is_old(world, record))
		return true;
	found = store_peek(world->nodes[c->b].store, record->app_id,
	    record->key, record->key_len, sim_time(world, c->b), &other);
	/* A deployed node is not told of what was evicted. */
	if (world->profile.evicting && deployed)
		return true;
	/* A stub is a tombstone there, and nothing when it was its own. */
	if (deployed &&
	    (record->ttl_ms > 0 ||
		(found && (other.ttl_ms > 0 || other.state == STORE_EXPIRED))))
		return true;
	if (found && (same_record(record, &other) || is_old(world, &other)))
		return true;
	c->same = false;
	if (c->complain)
		sim_fail(c->world,
		    "not level: app %" PRIu64 " %.*s on node %u (state %d, "
		    "%" PRId64 ", ttl %" PRId64 ", origin %u) and %u (%s, "
		    "state %d, %" PRId64 ", ttl %" PRId64 ")",
		    record->app_id, (int)record->key_len, record->key, c->a,
		    (int)record->state, record->updated_at_ms - WALL0,
		    record->ttl_ms, record->origin, c->b,
		    found ? "other" : "absent", found ? (int)other.state : -1,
		    found ? other.updated_at_ms - WALL0 : 0,
		    found ? other.ttl_ms : 0);
	return false;
}

bool
sim_is_converged(struct world *world, bool complain)
{
	struct comparing c = { world, 0, 0, true, complain };

	for (c.a = 0; c.a < world->profile.nodes; c.a++) {
		if (!world->nodes[c.a].alive ||
		    world->nodes[c.a].role == ROLE_HOSTILE)
			continue;
		for (c.b = 0; c.b < world->profile.nodes && c.same; c.b++)
			if (c.b != c.a && world->nodes[c.b].alive &&
			    world->nodes[c.b].role != ROLE_HOSTILE)
				store_each(world->nodes[c.a].store, 0,
				    compare_one, &c);
	}
	return c.same;
}
