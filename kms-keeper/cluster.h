/*
 * This node among its peers: what connects readiness (who they are, which
 * secret), calls to them (peer_call.h), their calls (request_sync.h), and the
 * replication engine (sync.h). PROTOCOL.md sections 7 and 8.
 */
#ifndef KMS_KEEPER_CLUSTER_H
#define KMS_KEEPER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/eth.h"

struct keeper;
struct cluster;

/* NULL without memory. */
struct cluster *cluster_new(struct keeper *keeper);
void cluster_free(struct cluster *cluster);

void cluster_set_time(struct cluster *cluster, struct kms_time now);
void cluster_tick(struct cluster *cluster);

/* The HMAC key of /sync, SYNC_KEY_LEN bytes, while our secret's hash is the
 * one on chain; else NULL. Borrowed until the next input. */
const uint8_t *cluster_sync_key(const struct cluster *cluster);

/* Must this node's requests be bound (v2)? */
bool cluster_is_ours(
    const struct cluster *cluster, const struct eth_address *wallet);

/*
 * Serve the plaintext of an authenticated peer's envelope: the answer's
 * plaintext is appended, and its HTTP status returned. On another than 200
 * nothing is appended and *message says why (static, needs no JSON escape).
 * hmac_holds: X-Sync-Signature was there and right; what needs it is refused
 * without (403). The answer may hold sealed secrets: not for a log.
 */
unsigned int cluster_serve(struct cluster *cluster,
    const struct eth_address *wallet, bool hmac_holds, const char *body,
    size_t len, struct buf *answer, const char **message);

#endif
