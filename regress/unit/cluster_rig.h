/* A node that is ready, and its peers as the chain lists them: what the tests
 * of cluster_{holders,peers}.c share. Nothing runs but what a test calls. */
#ifndef KMS_REGRESS_CLUSTER_RIG_H
#define KMS_REGRESS_CLUSTER_RIG_H

#include "kms-keeper/cluster_internal.h"
#include "kms-keeper/sync_internal.h"
#include "regress/unit/keeper_core.h"

#define BLACKLIST_MS 600000
#define FIRST_PEER 2 /* of rig.instances: behind this node's and the app's */
#define PEERS_MAX (RIG_INSTANCES_MAX - FIRST_PEER)

static struct cluster *c;

static inline struct eth_address
peer_wallet(size_t n)
{
	struct eth_address wallet = { { 0x77, [19] = (uint8_t)n } };

	return wallet;
}

/* Of peer n, to be changed; it must be one of those that are listed. */
static inline struct instance_facts *
peer_facts(size_t n)
{
	struct eth_address wallet = peer_wallet(n);
	struct instance_facts *facts = rig_instance(&rig, &wallet);

	assert_non_null(facts);
	return facts;
}

static inline struct cluster_peer *
peer(size_t n)
{
	struct eth_address wallet = peer_wallet(n);

	return cluster_peer_find(c, &wallet);
}

/* The same in the engine, which knows those that are dialled. */
static inline struct sync_peer *
engine_peer(size_t n)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];
	struct eth_address wallet = peer_wallet(n);

	eth_address_format(&wallet, text);
	return sync_peer_find(c->sync, text);
}

/* Read the chain as it is now. */
static inline void
read_chain(void)
{
	uint64_t version = readiness_view(k->readiness)->peers_version;

	readiness_kick(k->readiness);
	readiness_tick(k->readiness, rig.now);
	rig_pump(&rig);
	assert_int_equal(
	    readiness_view(k->readiness)->peers_version, version + 1);
}

static inline void
update(void)
{
	read_chain();
	cluster_peers_update(c);
}

static inline void
list_peer(size_t n)
{
	struct eth_address wallet = peer_wallet(n);

	if (rig_instance(&rig, &wallet) == NULL)
		(void)rig_add_instance(
		    &rig, RIG_KMS_APP, &wallet, p384_key_point(client.tee));
	(void)snprintf(peer_facts(n)->url, sizeof(peer_facts(n)->url),
	    "http://peer%zu", n);
	rig.members[rig.member_count++] = wallet;
}

/* The chain lists this node and these: peers of sound mind. */
static inline void
list_peers(size_t first, size_t count)
{
	assert_true(count <= PEERS_MAX);
	rig.instance_count = FIRST_PEER;
	rig.members[0] = rig.identity->wallet;
	rig.member_count = 1;
	for (size_t n = first; n < first + count; n++)
		list_peer(n);
	update();
}

static inline void
pass(int64_t ms)
{
	rig_pass(&rig, ms);
	cluster_set_time(c, rig.now);
}

/* A change of this node's own. */
static inline void
write_key(const char *key)
{
	assert_int_equal(store_put_local(k->store, APP, key, strlen(key), "v",
			     1, 0, rig.now, NULL),
	    0);
}

static inline uint64_t
last_sequence(void)
{
	return store_stats(k->store).sequence;
}

/* Peer n has all changes up to this one, and nothing is left to compare. */
static inline void
has_up_to(size_t n, uint64_t sequence)
{
	engine_peer(n)->needs_repair = false;
	sync_push_from(c->sync, engine_peer(n), sequence);
}

static inline int
begin_cluster(void **state)
{
	if (begin(state) != 0)
		return -1;
	rig.config.peer_blacklist = BLACKLIST_MS;
	c = k->cluster;
	cluster_set_time(c, rig.now);
	return c->sync == NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_cluster, end)

#endif
