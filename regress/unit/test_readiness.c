#include "regress/unit/keeper_rig.h"

#include "crypto/eip1559.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/readiness.h"

static struct rig rig;
static struct readiness *r;
static unsigned int wiped, changed;

static void
on_changed(void *arg)
{
	(void)arg;
	changed++;
}

static void
on_wiped(void *arg)
{
	(void)arg;
	wiped++;
}

static int
begin(void **state)
{
	struct readiness_hooks hooks = { .changed = on_changed,
		.wiped = on_wiped };

	(void)state;
	rig_init(&rig);
	wiped = changed = 0;
	rig.registry = registry_new(rig_ask, &rig);
	r = readiness_new(
	    &rig.config, rig.registry, rig.identity, rig_random, &rig, &hooks);
	if (r == NULL)
		return -1;
	readiness_kick(r);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	readiness_free(r);
	registry_free(rig.registry);
	identity_free(rig.identity);
	return 0;
}

/* Time goes by in steps of 100 ms, and with it a block every two seconds. */
static void
run(int64_t ms)
{
	for (int64_t t = 0; t < ms; t += 100) {
		rig_pass(&rig, 100);
		if (rig.now.boot_ms % 2000 == 0)
			rig.head++;
		registry_tick(rig.registry, rig.now);
		readiness_tick(r, rig.now);
		rig_pump(&rig);
	}
}

static const char *
reason(void)
{
	return readiness_view(r)->reason;
}

static void
unavailable_for(const char *part)
{
	assert_null(readiness_master(r));
	assert_false(readiness_view(r)->ready);
	if (strstr(reason(), part) == NULL)
		fail_msg("expected \"%s\", got \"%s\"", part, reason());
}

/* The transaction that was sent last, as the chain reads it. */
static struct eip1559
sent_transaction(struct eth_word *hash)
{
	uint8_t signature[SIGNATURE_LEN], digest[32];
	struct eip1559 tx;
	struct eth_address signer;

	assert_int_equal(
	    eip1559_decode(rig.raw, rig.raw_len, &tx, signature), 0);
	assert_int_equal(eip1559_digest(&tx, digest), 0);
	assert_int_equal(wallet_recover_digest(
			     rig.identity->wallets, digest, signature, &signer),
	    0);
	assert_true(eth_address_equal(&signer, &rig.identity->wallet));
	assert_int_equal(tx.chain_id, RIG_CHAIN_ID);
	assert_true(eth_address_equal(&tx.to, &rig.config.kms_registry));
	assert_int_equal(tx.data_len, 36);
	memcpy(hash->bytes, tx.data + 4, 32);
	return tx;
}

/* From zero to serving; the secret is copied to out. */
static void
become_ready(uint8_t out[MASTER_SECRET_LEN])
{
	struct eth_word hash;
	uint8_t check[32];

	run(3000);
	assert_int_equal(rig.sent, 1);
	(void)sent_transaction(&hash);
	rig.mined = true;
	rig.tx_status = 1;
	rig.mined_block = rig.head;
	rig.hash = hash;
	run(3000);
	assert_non_null(readiness_master(r));
	assert_string_equal(reason(), "");
	memcpy(out, readiness_master(r), MASTER_SECRET_LEN);
	master_secret_hash(out, check);
	assert_memory_equal(check, hash.bytes, 32);
}

static void
waits_for_channel(void **state)
{
	struct readiness_hooks hooks = { .changed = on_changed,
		.wiped = on_wiped };
	struct readiness *other = readiness_new(
	    &rig.config, rig.registry, rig.identity, rig_random, &rig, &hooks);

	(void)state;
	readiness_tick(other, rig.now);
	assert_int_equal(rig.queued, 0);
	assert_string_equal(readiness_view(other)->reason,
	    "starting: the chain has not been read yet");
	readiness_free(other);
	unavailable_for("starting");
}

static void
generates(void **state)
{
	const struct readiness_view *view = readiness_view(r);
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	run(500);
	unavailable_for("waiting for masterSecretHash");
	assert_int_equal(rig.asked_confirmations, 1);
	assert_false(view->master_initialized);
	become_ready(secret);
	assert_true(view->master_initialized);
	assert_int_equal(view->master_state, MASTER_GENERATED);
	assert_true(view->is_operator);
	assert_int_equal(view->peer_count, 1);
	assert_int_equal(readiness_peer_count(r), 0);
	assert_int_equal(view->registered_pubkey_len, P384_SPKI_LEN);
	assert_true(changed > 0);
	/* Once; and it is quiet now but for the node tick. */
	run(70000);
	assert_int_equal(rig.sent, 1);
	assert_int_equal(wiped, 0);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
}

/* Mined at the head, but the hash is read a block below: no second one. */
static void
mined_above_the_block_read(void **state)
{
	struct eth_word hash;

	(void)state;
	run(3000);
	(void)sent_transaction(&hash);
	rig.hash_block = rig.head;
	rig.mined = true;
	rig.tx_status = 1;
	rig.mined_block = rig.head + 1;
	run(80000);
	assert_int_equal(rig.sent, 1);
	unavailable_for("waiting for masterSecretHash");
	rig.hash_block = 0;
	rig.hash = hash;
	run(2000);
	assert_non_null(readiness_master(r));
}

/* One that reverts while the hash stays zero is not repeated at once. */
static void
reverted_in_vain(void **state)
{
	(void)state;
	run(3000);
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	rig.nonce_pending = rig.nonce_latest = 1;
	rig.revert_reason = "NotAuthorizedToSetHash";
	run(50000);
	assert_int_equal(rig.sent, 1);
	unavailable_for("setting masterSecretHash: reverted: "
			"NotAuthorizedToSetHash (this node's instance may not "
			"set it)");
	rig.revert_reason = NULL;
	run(30000);
	assert_int_equal(rig.sent, 2);
	unavailable_for("setting masterSecretHash: reverted: the hash was set "
			"before, or this node may not set it");
	/* The next one speaks for itself. */
	rig.mined = false;
	run(60000);
	assert_int_equal(rig.sent, 3);
	unavailable_for("waiting for masterSecretHash to be set");
	/* Another's hash was first, and stands below the confirmations. */
	rig.mined = true;
	rig.revert_reason = "MasterSecretHashAlreadySet";
	run(5000);
	unavailable_for("waiting for masterSecretHash to be set");
}

static void
race_lost(void **state)
{
	(void)state;
	run(3000);
	rig.hash.bytes[0] = 0xaa;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	run(5000);
	unavailable_for("no peer has handed it over");
	assert_false(readiness_view(r)->master_initialized);
	run(120000);
	assert_int_equal(rig.sent, 1);
	unavailable_for("no peer has handed it over");
	assert_int_equal(wiped, 0);
}

/* The last blocks change their order: ours was first after all. */
static void
race_lost_then_won(void **state)
{
	struct eth_word ours;
	uint8_t hash[32];

	(void)state;
	run(3000);
	(void)sent_transaction(&ours);
	rig.hash.bytes[0] = 0xaa;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	run(60000);
	unavailable_for("no peer has handed it over");
	rig.hash = ours;
	run(35000);
	assert_non_null(readiness_master(r));
	master_secret_hash(readiness_master(r), hash);
	assert_memory_equal(hash, ours.bytes, 32);
}

/* Once it is final that another's stands, the candidate is no more. */
static void
race_lost_for_good(void **state)
{
	struct eth_word ours;

	(void)state;
	run(3000);
	(void)sent_transaction(&ours);
	rig.hash.bytes[0] = 0xaa;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	run(5000);
	rig.final_block = rig.head + 10;
	rig.final_hash = rig.hash;
	run(40000);
	rig.hash = ours;
	run(40000);
	unavailable_for("no peer has handed it over");
}

/* Our transaction was reverted in a block that is not final yet: in another
 * order of those it may set the hash. */
static void
race_lost_not_for_good(void **state)
{
	struct eth_word ours;

	(void)state;
	run(3000);
	(void)sent_transaction(&ours);
	rig.hash.bytes[0] = 0xaa;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head + 20;
	run(5000);
	rig.final_block = rig.head + 10;
	rig.final_hash = rig.hash;
	run(40000);
	rig.hash = ours;
	run(40000);
	assert_non_null(readiness_master(r));
}

/* What was not sent yet is not sent when the hash is there. */
static void
race_lost_before_sending(void **state)
{
	(void)state;
	rig.poor = true;
	run(3000);
	rig.hash.bytes[0] = 0xaa;
	run(5000);
	rig.poor = false;
	run(40000);
	assert_int_equal(rig.sent, 0);
}

static void
no_funds(void **state)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	(void)state;
	rig.poor = true;
	run(3000);
	eth_address_format(&rig.identity->wallet, wallet);
	unavailable_for("no funds for gas");
	unavailable_for(wallet);
	/* (2 * 7 + 1) gwei * 300000 gas */
	unavailable_for("4500001 gwei");
	assert_int_equal(rig.sent, 0);
	rig.poor = false;
	run(10000);
	assert_int_equal(rig.sent, 1);
	unavailable_for("waiting for masterSecretHash");
}

static void
wrong_chain_for_the_transaction(void **state)
{
	(void)state;
	rig.stall = 1U << REGISTRY_TX_INPUTS;
	run(1000);
	rig.chain_id = 1;
	rig.stall = 0;
	run(200);
	assert_int_equal(rig.sent, 0);
	rig.chain_id = RIG_CHAIN_ID;
	run(1000);
	unavailable_for("expected chain ID 31337, got 1");
}

static void
stuck(void **state)
{
	struct eth_word first, second;
	struct eip1559 a, b;

	(void)state;
	rig.nonce_pending = rig.nonce_latest = 5;
	run(3000);
	a = sent_transaction(&first);
	assert_int_equal(a.nonce, 5);
	assert_int_equal(a.max_priority_fee, 1000000000);
	assert_int_equal(a.max_fee, 15000000000);
	rig.nonce_pending = 6;
	run(55000);
	assert_int_equal(rig.sent, 1);
	run(10000);
	assert_int_equal(rig.sent, 2);
	b = sent_transaction(&second);
	assert_memory_equal(first.bytes, second.bytes, 32);
	assert_int_equal(b.nonce, 5);
	assert_int_equal(b.max_priority_fee, 1125000000);
	assert_int_equal(b.max_fee, 16875000000);
	/* Another transaction takes its nonce: it starts over, same secret. */
	rig.nonce_pending = rig.nonce_latest = 6;
	run(70000);
	assert_int_equal(rig.sent, 3);
	b = sent_transaction(&second);
	assert_int_equal(b.nonce, 6);
	assert_memory_equal(first.bytes, second.bytes, 32);
}

/* One endpoint's word for the nonce was wrong: with a gap before it nothing is
 * ever mined. */
static void
nonce_too_high(void **state)
{
	struct eth_word hash;
	struct eip1559 a;

	(void)state;
	rig.nonce_pending = rig.nonce_latest = 7;
	run(3000);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 7);
	rig.nonce_pending = rig.nonce_latest = 5;
	run(65000);
	assert_int_equal(rig.sent, 2);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 5);
	/* That one waits, and the one behind it. */
	rig.nonce_pending = 8;
	run(65000);
	assert_int_equal(rig.sent, 3);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 5);
}

/* One endpoint is behind: the first transaction may be mined all the same, and
 * is the one to replace. */
static void
nonce_too_low(void **state)
{
	struct eth_word hash;
	struct eip1559 a, b;

	(void)state;
	rig.nonce_pending = rig.nonce_latest = 5;
	run(3000);
	rig.nonce_pending = rig.nonce_latest = 4;
	run(65000);
	assert_int_equal(rig.sent, 2);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 4);
	rig.nonce_pending = 6;
	rig.nonce_latest = 5;
	run(62000);
	assert_int_equal(rig.sent, 3);
	b = sent_transaction(&hash);
	assert_int_equal(b.nonce, 5);
	assert_true(b.max_fee > a.max_fee);
	/* The higher one is spent: none of them can be mined. */
	rig.nonce_pending = rig.nonce_latest = 6;
	run(70000);
	assert_int_equal(rig.sent, 4);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 6);
	assert_true(a.max_fee < b.max_fee);
}

/* No receipt is to be had: that its nonce is spent ends it as well. */
static void
receipt_unknown(void **state)
{
	struct eth_word hash;
	struct eip1559 a;

	(void)state;
	rig.nonce_pending = rig.nonce_latest = 5;
	rig.fail = 1U << REGISTRY_RECEIPT;
	run(50000);
	assert_int_equal(rig.sent, 1);
	rig.nonce_pending = rig.nonce_latest = 6;
	run(30000);
	assert_int_equal(rig.sent, 2);
	a = sent_transaction(&hash);
	assert_int_equal(a.nonce, 6);
}

static void
sending_fails(void **state)
{
	(void)state;
	rig.fail = 1U << REGISTRY_SEND;
	rig.failure_text = "mempool is full";
	run(3000);
	unavailable_for("not accepted: mempool is full");
	rig.fail = 0;
	run(70000);
	assert_int_equal(rig.sent, 1);
	rig.wrong_sent_hash = true;
	run(70000);
	assert_true(rig.sent >= 2);
	unavailable_for("reports another transaction's hash");
}

static void
others_hash(void **state)
{
	(void)state;
	rig.hash.bytes[31] = 1;
	run(1000);
	unavailable_for("not held here");
	assert_int_equal(rig.sent, 0);
	assert_int_equal(rig.asked[REGISTRY_TX_INPUTS], 0);
}

static void
configuration_mismatches(void **state)
{
	(void)state;
	rig.chain_id = 1;
	run(1000);
	unavailable_for("another chain");
	rig.chain_id = RIG_CHAIN_ID;
	rig.kms_app_id = 50;
	run(5000);
	unavailable_for("kmsAppId()");
	rig.kms_app_id = RIG_KMS_APP;
	rig.head_age_s = 121;
	run(10000);
	unavailable_for("max-head-age");
	rig.head_age_s = 0;
	rig.head -= 100;
	run(35000);
	unavailable_for("went back by more than 64 blocks");
	assert_int_equal(rig.asked[REGISTRY_TX_INPUTS], 0);
	run(100000);
	assert_true(rig.sent > 0);
}

static void
own_registration(void **state)
{
	(void)state;
	rig.member_count = 0;
	run(1000);
	unavailable_for("not a registered KMS instance");
	rig.member_count = 1;
	rig.instances[0].pubkey[119] ^= 1;
	run(31000);
	unavailable_for("local teePubkey does not match the registry");
	/* Registered as the bare point: clients would see other bytes. */
	memcpy(
	    rig.instances[0].pubkey, rig.identity->point.sec1, P384_SEC1_LEN);
	rig.instances[0].pubkey_len = P384_SEC1_LEN;
	run(31000);
	unavailable_for("local teePubkey does not match the registry");
	p384_public_spki(&rig.identity->point, rig.instances[0].pubkey);
	rig.instances[0].pubkey_len = P384_SPKI_LEN;
	rig.instances[0].app_id = rig.instances[0].app_id_answered = 50;
	run(31000);
	unavailable_for("not one of the KMS app");
	rig.instances[0].app_id = rig.instances[0].app_id_answered =
	    RIG_KMS_APP;
	rig.instances[0].zk_verified = false;
	run(31000);
	unavailable_for("zkVerified");
	assert_int_equal(rig.asked[REGISTRY_TX_INPUTS], 0);
}

/* Nobody has registered this node: it looks less and less often, and at once
 * less seldom when something changes. */
static void
unregistered_waits(void **state)
{
	unsigned int asked;

	(void)state;
	rig.member_count = 0;
	run(4000);
	assert_in_range(rig.asked[REGISTRY_HASH], 3, 4);
	run(300000);
	assert_in_range(rig.asked[REGISTRY_HASH], 13, 17);
	rig.member_count = 1;
	rig.instances[0].zk_verified = false;
	run(31000);
	unavailable_for("zkVerified");
	asked = rig.asked[REGISTRY_HASH];
	run(31000);
	assert_in_range(rig.asked[REGISTRY_HASH] - asked, 3, 6);
	/* Where a transaction is awaited it looks every second. */
	rig.instances[0].zk_verified = true;
	rig.stall = 1U << REGISTRY_RECEIPT;
	run(31000);
	unavailable_for("waiting for masterSecretHash");
	asked = rig.asked[REGISTRY_HASH];
	run(30000);
	assert_in_range(rig.asked[REGISTRY_HASH] - asked, 20, 31);
}

static void
fees_beyond_reason(void **state)
{
	(void)state;
	rig.base_fee = 999500000001; /* wei; doubled, and a tip of 1 gwei */
	run(3000);
	unavailable_for("fees beyond the limit of 2000 gwei");
	unavailable_for("base fee 999500000001 wei");
	assert_int_equal(rig.sent, 0);
	rig.base_fee--;
	run(10000);
	assert_int_equal(rig.sent, 1);
	/* Nor by raising them for ever. */
	run(200000);
	assert_int_equal(rig.sent, 1);
	unavailable_for("to replace a stuck transaction");
}

/* Of three endpoints, asked one at a time, two are unusable. */
static void
failover(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 1, 3), 0);
	rig.ahead = 1U << 0;
	rig.frozen = 1U << 1;
	run(1000);
	/* Once believed for what it said, and then never again. */
	rig.ahead = 0;
	become_ready(secret);
	for (int i = 0; i < 20; i++) {
		run(31000);
		assert_non_null(readiness_master(r));
	}
	assert_string_equal(reason(), "");
}

static void
quorum(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 2, 3), 0);
	rig.lies = 1U << 0;
	become_ready(secret);
	rig.ahead = 1U << 0;
	run(700000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
	rig.ahead = 0;
	/* Two that differ from each other. */
	rig.frozen = 1U << 1;
	run(570000);
	assert_non_null(readiness_master(r));
	run(100000);
	unavailable_for("rpc-quorum 2 is not reached: ");
	unavailable_for("rpc-url 1 answers at block");
	unavailable_for("rpc-url 2 reports another time of block");
	unavailable_for("rpc-url 3 reports another masterSecretHash");
	assert_int_equal(wiped, 0);
	rig.frozen = rig.lies = 0;
	run(31000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
}

/* A lie that stands at a finalized block for one endpoint alone. */
static void
one_liar_wipes_nothing(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 2, 3), 0);
	become_ready(secret);
	rig.final_hash = rig.hash;
	rig.final_block = rig.head;
	rig.lies = 1U << 2;
	run(7200000);
	assert_int_equal(wiped, 0);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
}

/* The hash goes and comes back: the same secret serves again. */
static void
short_reorganisation(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word hash;

	(void)state;
	become_ready(secret);
	hash = rig.hash;
	memset(&rig.hash, 0, sizeof(rig.hash));
	run(31000);
	unavailable_for("masterSecretHash was reset");
	assert_true(readiness_view(r)->master_initialized);
	run(60000);
	assert_int_equal(rig.sent, 1);
	rig.hash = hash;
	run(31000);
	assert_non_null(readiness_master(r));
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
	assert_int_equal(wiped, 0);
}

/* Another hash was read, and then not the rest of that block. */
static void
contrary_hash_alone(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word ours;

	(void)state;
	become_ready(secret);
	ours = rig.hash;
	rig.hash.bytes[0] ^= 1;
	rig.fail = 1U << REGISTRY_MEMBERS;
	run((int64_t)rig.config.node_tick + 1000);
	unavailable_for("cannot be read");
	assert_null(readiness_secret(r));
	/* Even if the hash is ours again: all facts of one block are wanted. */
	rig.hash = ours;
	run((int64_t)rig.config.node_tick + 1000);
	unavailable_for("cannot be read");
	rig.fail = 0;
	run((int64_t)rig.config.node_tick + 1000);
	assert_memory_equal(readiness_master(r), secret, MASTER_SECRET_LEN);
	assert_int_equal(wiped, 0);
}

/* Reset for good: wiped at a finalized block at or above the sighting. */
static void
reset_is_final(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word old, new;
	uint64_t seen;

	(void)state;
	become_ready(secret);
	old = rig.hash;
	rig.final_hash = old;
	memset(&rig.hash, 0, sizeof(rig.hash));
	while (readiness_view(r)->ready)
		run(100);
	seen = rig.head;
	rig.final_block = seen - 2;
	memset(&rig.final_hash, 0, sizeof(rig.final_hash));
	run(40000);
	assert_int_equal(wiped, 0);
	/* A finalized block that still shows our hash speaks for us. */
	rig.final_block = seen + 1;
	rig.final_hash = old;
	run(40000);
	assert_int_equal(wiped, 0);
	unavailable_for("masterSecretHash was reset");
	memset(&rig.final_hash, 0, sizeof(rig.final_hash));
	rig.mined = false;
	run(31000);
	assert_int_equal(wiped, 1);
	run(5000);
	/* A fresh secret, never the one that served. */
	assert_int_equal(rig.sent, 2);
	(void)sent_transaction(&new);
	assert_memory_not_equal(new.bytes, old.bytes, 32);
	assert_false(readiness_view(r)->master_initialized);
}

/* Our transaction may still be mined: its secret is kept for it. */
static void
reset_with_an_open_transaction(void **state)
{
	struct eth_word hash;

	(void)state;
	rig.stall = 1U << REGISTRY_RECEIPT;
	run(3000);
	(void)sent_transaction(&hash);
	rig.hash = hash;
	run(3000);
	assert_non_null(readiness_master(r));
	memset(&rig.hash, 0, sizeof(rig.hash));
	run(31000);
	rig.final_block = rig.head + 1;
	run(62000);
	assert_int_equal(wiped, 0);
	rig.queued = 0;
	rig.stall = 0;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	run(62000);
	/* In another order of the blocks since then it may be mined yet. */
	assert_int_equal(wiped, 0);
	rig.final_block = rig.head + 1;
	run(31000);
	assert_int_equal(wiped, 1);
}

static void
replaced_hash_is_final(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.hash.bytes[3] ^= 1;
	run(31000);
	unavailable_for("masterSecretHash is another one now");
	assert_int_equal(wiped, 0);
	rig.final_block = rig.head + 1;
	rig.final_hash = rig.hash;
	run(31000);
	assert_int_equal(wiped, 1);
	unavailable_for("not held here");
}

/* Without finalized blocks: after wipe-confirmations of a standing fact. */
static void
chain_without_finality(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.no_final = true;
	rig.hash.bytes[3] ^= 1;
	run(3500000);
	assert_int_equal(wiped, 0);
	rig.hash.bytes[3] ^= 1;
	run(31000);
	assert_non_null(readiness_master(r));
	/* The hour begins anew. */
	rig.hash.bytes[3] ^= 1;
	run(3500000);
	assert_int_equal(wiped, 0);
	run(200000);
	assert_int_equal(wiped, 1);
}

/* The hour is one in which the chain could be read. */
static void
outage_without_finality(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.no_final = true;
	rig.hash.bytes[3] ^= 1;
	run(31000);
	unavailable_for("masterSecretHash is another one now");
	rig.fail = 1U << REGISTRY_HASH;
	run(4000000);
	rig.fail = 0;
	run(3500000);
	assert_int_equal(wiped, 0);
	run(200000);
	assert_int_equal(wiped, 1);
}

static void
version_revoked(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.no_final = true;
	rig.instances[0].version_status = 2;
	run(31000);
	unavailable_for("neither ENROLLED nor DEPRECATED");
	run(4000000);
	rig.no_final = false;
	rig.final_block = rig.head + 1;
	run(100000);
	assert_int_equal(wiped, 0);
	rig.instances[0].version_status = 0;
	run(31000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
}

static void
registration_ended(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.final_hash = rig.hash;
	rig.instances[0].status = 1;
	run(31000);
	unavailable_for("instance is not ACTIVE");
	run(60000);
	assert_int_equal(wiped, 0);
	rig.instances[0].status = 0;
	run(31000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
	rig.member_count = 0;
	run(31000);
	unavailable_for("not a registered KMS instance");
	/* At the finalized block it is still ACTIVE. */
	rig.final_block = rig.head + 1;
	run(31000);
	assert_int_equal(wiped, 0);
	rig.final_without_instances = true;
	run(31000);
	assert_int_equal(wiped, 1);
}

static void
two_members(void)
{
	static const uint8_t scalar[P384_SCALAR_LEN] = { 9 };
	struct eth_address other = { { 3 } };
	struct p384_key *key;

	assert_int_equal(p384_key_new(scalar, &key), 0);
	(void)rig_add_instance(&rig, RIG_KMS_APP, &other, p384_key_point(key));
	p384_key_free(key);
	rig.members[1] = other;
	rig.member_count = 2;
	run(31000);
	assert_int_equal(readiness_peer_count(r), 1);
}

/* The registration ends, then comes back under another hash: what counts is
 * what is final since the first of them. */
static void
contrary_facts_take_turns(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word old;
	uint64_t seen;

	(void)state;
	become_ready(secret);
	old = rig.hash;
	rig.final_hash = old;
	rig.final_block = rig.head;
	rig.member_count = 0;
	while (readiness_view(r)->ready)
		run(100);
	seen = rig.head;
	run(31000);
	rig.head += 20;
	rig.member_count = 1;
	rig.hash.bytes[3] ^= 1;
	run(31000);
	unavailable_for("masterSecretHash is another one now");
	/* Before the first. */
	rig.final_block = seen - 1;
	rig.final_hash = rig.hash;
	run(62000);
	assert_int_equal(wiped, 0);
	/* Between them, with our hash. */
	rig.final_block = seen + 10;
	rig.final_hash = old;
	run(62000);
	assert_int_equal(wiped, 0);
	rig.final_hash = rig.hash;
	run(31000);
	assert_int_equal(wiped, 1);
}

static void
lose_registration(struct eth_word *ours)
{
	rig.stall = 1U << REGISTRY_RECEIPT;
	run(3000);
	(void)sent_transaction(ours);
	rig.member_count = 0;
	run(31000);
	unavailable_for("not a registered KMS instance");
	rig.final_block = rig.head + 1;
	rig.final_without_instances = true;
	run(62000);
}

/* A candidate is kept while its transaction is open, and no longer. */
static void
registration_ended_with_a_candidate(void **state)
{
	struct eth_word ours;

	(void)state;
	lose_registration(&ours);
	rig.member_count = 1;
	rig.hash = ours;
	run(31000);
	assert_non_null(readiness_master(r));
}

static void
registration_ended_for_good(void **state)
{
	struct eth_word ours;

	(void)state;
	lose_registration(&ours);
	rig.queued = 0;
	rig.stall = 0;
	rig.mined = true;
	rig.tx_status = 0;
	rig.mined_block = rig.head;
	run(62000);
	rig.final_block = rig.head + 1;
	run(62000);
	rig.member_count = 1;
	rig.hash = ours;
	run(62000);
	unavailable_for("no peer has handed it over");
}

/* One's own instance cannot be read for long: no reason to wipe either. */
static void
own_instance_unreadable(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	two_members();
	rig.fail_wallet = &rig.identity->wallet;
	run(540000);
	assert_non_null(readiness_master(r));
	assert_int_equal(readiness_view(r)->instances, 2);
	run(120000);
	unavailable_for("could not be read");
	rig.no_final = true;
	run(4000000);
	assert_int_equal(wiped, 0);
	rig.fail_wallet = NULL;
	run(31000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
}

/* Nor does it take back what was seen before. */
static void
unreadable_after_a_contrary_fact(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	uint64_t seen;

	(void)state;
	become_ready(secret);
	two_members();
	rig.hash.bytes[3] ^= 1;
	while (readiness_view(r)->ready)
		run(100);
	seen = rig.head;
	rig.final_block = seen - 1;
	rig.fail_wallet = &rig.identity->wallet;
	run(700000);
	unavailable_for("could not be read");
	rig.fail_wallet = NULL;
	rig.head = seen + 50;
	rig.no_final = true;
	run(3500000);
	assert_int_equal(wiped, 0);
	rig.no_final = false;
	rig.final_block = seen + 10;
	rig.final_hash = rig.hash;
	run(31000);
	assert_int_equal(wiped, 1);
}

static void
membership_age(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];

	(void)state;
	become_ready(secret);
	rig.stall = ~0U;
	run(550000);
	assert_non_null(readiness_master(r));
	run(60000);
	unavailable_for("membership-max-age");
	rig.stall = 0;
	run(31000);
	assert_memory_equal(readiness_master(r), secret, sizeof(secret));
	/* Right after a suspension, before any timer runs. */
	rig_pass(&rig, 600001);
	readiness_set_time(r, rig.now);
	assert_null(readiness_master(r));
	run(31000);
	assert_non_null(readiness_master(r));
	/* A head that stands still is no fresh membership. */
	rig.fail = 0;
	for (int64_t s = 0; s < 620; s++) {
		rig.head_age_s = 121 + s;
		run(1000);
	}
	unavailable_for("older than max-head-age");
	assert_int_equal(wiped, 0);
}

static void
chain_lost(void **state)
{
	(void)state;
	rig.down = true;
	run(1000);
	unavailable_for("cannot be read");
	rig.down = false;
	rig.stall = 1U << REGISTRY_INSTANCE;
	run(8000);
	rig.down = true;
	registry_lost(rig.registry);
	rig.queued = 0;
	run(1000);
	unavailable_for("cannot be read");
	rig.down = false;
	rig.stall = 0;
	run(35000);
	assert_int_equal(rig.sent, 1);
}

/* A remote text is cut between characters, or kms-net would not take it. */
static void
long_reasons(void **state)
{
	static char text[513];
	size_t cut = 0;

	(void)state;
	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		rig.fail = ~0U;
		rig.failure_text = text;
		run(31000);
		unavailable_for("cannot be read");
		assert_true(msg_text_valid(
		    (const uint8_t *)reason(), strlen(reason())));
		assert_true(strlen(reason()) > 500);
		cut += strlen(reason()) != 511;
	}
	assert_true(cut > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(waits_for_channel),
		TEST(generates),
		TEST(mined_above_the_block_read),
		TEST(reverted_in_vain),
		TEST(race_lost),
		TEST(race_lost_then_won),
		TEST(race_lost_for_good),
		TEST(race_lost_not_for_good),
		TEST(race_lost_before_sending),
		TEST(no_funds),
		TEST(wrong_chain_for_the_transaction),
		TEST(stuck),
		TEST(nonce_too_high),
		TEST(nonce_too_low),
		TEST(receipt_unknown),
		TEST(sending_fails),
		TEST(others_hash),
		TEST(configuration_mismatches),
		TEST(own_registration),
		TEST(unregistered_waits),
		TEST(fees_beyond_reason),
		TEST(failover),
		TEST(quorum),
		TEST(one_liar_wipes_nothing),
		TEST(short_reorganisation),
		TEST(contrary_hash_alone),
		TEST(reset_is_final),
		TEST(reset_with_an_open_transaction),
		TEST(replaced_hash_is_final),
		TEST(chain_without_finality),
		TEST(outage_without_finality),
		TEST(version_revoked),
		TEST(registration_ended),
		TEST(registration_ended_with_a_candidate),
		TEST(registration_ended_for_good),
		TEST(contrary_facts_take_turns),
		TEST(own_instance_unreadable),
		TEST(unreadable_after_a_contrary_fact),
		TEST(membership_age),
		TEST(chain_lost),
		TEST(long_reasons),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
