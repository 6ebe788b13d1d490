/*
 * What the keeper asks about the registries (PROTOCOL.md section 6): each
 * answer is read at one block of one endpoint. chan_handler functions; arg is
 * the struct questions.
 */
#ifndef KMS_CHAIN_REGISTRY_CALLS_H
#define KMS_CHAIN_REGISTRY_CALLS_H

#include "proto/chan.h"

/*
 * KEEPERCHAIN_INSTANCE. An instance that is not there answers found = no and
 * zeros. One whose app or version ID is unusable is answered without app and
 * version (IDs 0); one whose URL or key is longer than its bound without
 * both; a URL that is no UTF-8 as "". The keeper refuses all of these.
 */
int registry_instance(struct chan *chan, struct msg *msg, void *arg);

/* KEEPERCHAIN_MEMBERS */
int registry_members(struct chan *chan, struct msg *msg, void *arg);

/* KEEPERCHAIN_HASH. More confirmations than there are blocks read block 0. */
int registry_hash(struct chan *chan, struct msg *msg, void *arg);

#endif
