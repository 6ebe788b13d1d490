/* Between the files of check. */
#ifndef KMS_KMSD_CHECK_INTERNAL_H
#define KMS_KMSD_CHECK_INTERNAL_H

#include "common/eth.h"
#include "kmsd/check.h"
#include "kmsd/child.h"

#define CHECK_TEXT_LEN 520

/* One question to one endpoint, and what came of it. */
enum check_kind {
	CHECK_HASH,	/* head, KMSRegistry */
	CHECK_MEMBERS,	/* head, NovaAppRegistry */
	CHECK_INSTANCE, /* this node's registration */
	CHECK_TX,	/* what a transaction would cost */
	CHECK_KINDS
};

struct check_reply {
	int asked;
	int done;
	uint64_t asked_ms;
	uint64_t took_ms;
	unsigned int error; /* enum chain_error, 0: answered */
	char text[CHECK_TEXT_LEN];
};

struct check_endpoint {
	struct check_reply replies[CHECK_KINDS];
	uint64_t head, head_time; /* of whichever answer came last */
	/* CHECK_HASH */
	int hash_is_zero;
	uint64_t kms_app_id;
	/* CHECK_MEMBERS */
	size_t members;
	/* CHECK_INSTANCE */
	int found;
	uint64_t app_id, status, app_status, version_status;
	int zk_verified;
	char pubkey[2 * 256 + 1];
	/* CHECK_TX */
	uint64_t tip, base_fee;
	uint8_t balance[32]; /* wei, big endian */
};

enum check_wallet {
	CHECK_WALLET_NONE, /* keys are made at each start */
	CHECK_WALLET_WAIT,
	CHECK_WALLET_KNOWN,
	CHECK_WALLET_FAILED
};

struct check {
	uv_loop_t *loop;
	struct machine *machine;
	const struct conf *conf;
	struct child children[ROLES];	    /* rpc and keeper only */
	char failed[ROLES][CHECK_TEXT_LEN]; /* why a child is gone */
	struct chan *rpc; /* our end of what is the keeper's */
	struct chan *net; /* and of what is kms-net's */
	uv_signal_t on_child;
	uv_timer_t deadline;
	enum check_wallet wallet_state;
	struct eth_address wallet;
	char wallet_text[ETH_ADDRESS_TEXT_LEN + 1];
	char wallet_why[CHECK_TEXT_LEN]; /* CHECK_WALLET_FAILED */
	char pubkey[2 * 256 + 1];	 /* hex, "" when not known */
	int64_t wall_ms;
	size_t endpoint_count;
	struct check_endpoint endpoints[CONF_LIST_MAX];
};

/* Write all lines. How many failed. */
size_t check_print(const struct check *check, FILE *out);

/*
 * Ask an identity service for its wallet: GET /v1/eth/address (PROTOCOL.md
 * section 10), within timeout_ms. url is "http://address[:port][/path]". 0, or
 * KMS_E* with what came instead in why (CHECK_TEXT_LEN bytes).
 */
int check_capsule(
    const char *url, int timeout_ms, struct eth_address *wallet, char *why);

#endif
