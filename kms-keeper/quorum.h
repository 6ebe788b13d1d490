/*
 * One question put to several endpoints, and what they agree on (PROTOCOL.md
 * sections 6 and 8, rpc-quorum): a layer of registry.c. Each endpoint is
 * asked by number; an answer is kept as a vote, its block and a fingerprint
 * of the facts. As soon as enough endpoints have the same vote, the answer in
 * hand is delivered. Endpoints whose heads differ are asked again at a block
 * that all of them have. Pure: the time is passed in.
 *
 * In texts an endpoint is named as kms-chain names it: rpc-url 1 is the first.
 */
#ifndef KMS_KEEPER_QUORUM_H
#define KMS_KEEPER_QUORUM_H

#include "kms-keeper/registry.h"

#define QUORUM_OPEN_MAX 256    /* questions at kms-chain, of its 320 */
#define QUORUM_GROUPS_MAX 512  /* open, those included that still wait */
#define QUORUM_PATIENCE_MS 300 /* with those who keep the others waiting */
#define QUORUM_LAG_MAX 64      /* blocks between heads that may still meet */
#define QUORUM_WARN_MS 60000   /* between two warnings about one endpoint */

struct quorum;

/* NULL without memory. endpoints: 1..REGISTRY_ENDPOINTS_MAX. */
struct quorum *quorum_new(struct registry *registry, size_t endpoints);
void quorum_free(struct quorum *quorum); /* done is not called */

/*
 * Ask the endpoints in mask (bit i: endpoint i) and deliver what need of them
 * agree on; with need 1 the first answer. done as in registry_ask: its answer
 * names MSG_ENDPOINT_ANY when need is above 1, and the head of a HASH is then
 * the agreed block. Failing, KMS_EUNAVAIL or KMS_ETIMEOUT with a text that
 * names who differed, failed or was silent; failure is CHAIN_ERROR_REFUSED
 * only when need of them refused. KMS_EBUSY, KMS_ENOMEM, or what sending said
 * when no endpoint could be asked.
 */
int quorum_ask(struct quorum *quorum, const struct registry_question *question,
    unsigned int mask, unsigned int need, struct kms_time now,
    registry_done_fn done, void *arg);

/* From registry_tick, after its own time-outs. */
void quorum_tick(struct quorum *quorum, struct kms_time now);

#endif
