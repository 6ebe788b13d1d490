/*
 * Rate limits by client: token buckets in a table of fixed size. A client
 * that fell out of the table comes back with full buckets, so a flood of
 * addresses can loosen limits but harm nobody. Pure: time is passed in.
 */
#ifndef KMS_NET_LIMIT_H
#define KMS_NET_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "kms-net/address.h"

enum limit_kind { LIMIT_NONCE, LIMIT_REQUEST, LIMIT_KINDS };

#define LIMIT_SETS 1024 /* a power of two */
#define LIMIT_WAYS 8	/* clients in one set */
#define LIMIT_RATE_MAX 1000000

struct limit_entry {
	struct address client;
	bool used;
	uint64_t seen_ms;	     /* when the buckets were last filled up */
	uint64_t level[LIMIT_KINDS]; /* in 1/60000 of a token */
};

struct limit {
	uint64_t rate[LIMIT_KINDS]; /* tokens a minute, and at most; 0: off */
	uint64_t key[3];	    /* random, of the hash */
	struct limit_entry entries[LIMIT_SETS][LIMIT_WAYS];
};

/* rates above LIMIT_RATE_MAX count as that. key: random. */
void limit_init(struct limit *limit, uint64_t nonce_rate, uint64_t request_rate,
    const uint64_t key[3]);

/* Other rates from now on; a bucket whose rate changes is full. */
void limit_set_rates(
    struct limit *limit, uint64_t nonce_rate, uint64_t request_rate);

/*
 * Take a token of the client (as address_client gives it) at now_ms, which
 * never goes back. 0, or the seconds (1..60) after which to try again.
 */
unsigned int limit_take(struct limit *limit, const struct address *client,
    enum limit_kind kind, uint64_t now_ms);

/* Give a token back: the request turned out to be authenticated. */
void limit_give(
    struct limit *limit, const struct address *client, enum limit_kind kind);

#endif
