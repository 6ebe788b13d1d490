/*
 * The orderly end of a node: kms-net is told to take no new requests, those
 * under way are answered, the keeper's changes reach a peer, all stop. What
 * takes longer than drain-timeout is not waited for, nor are requests for more
 * than half of it.
 */
#ifndef KMS_KMSD_DRAIN_H
#define KMS_KMSD_DRAIN_H

#include "kmsd/topology.h"
#include "proto/chan.h"

struct supervisor;

/*
 * Begin, in PHASE_SERVING. asker: the operator's question that is answered in
 * the end, or 0. KMS_EUNAVAIL when there is nothing to wait for: drain-timeout
 * is 0, or nothing was served since the keeper's start.
 */
int drain_begin(struct supervisor *s, uint64_t asker);

/* NETKMSD_DRAINED */
int drain_on_drained(struct chan *chan, struct msg *msg, void *arg);

/* The keeper's answer to the question under DRAIN_QUESTION, or a piece of it */
#define DRAIN_QUESTION UINT64_MAX
void drain_told(struct supervisor *s, const struct msg *msg);

/* A child died meanwhile; 1: it is not to be started again. */
int drain_child_died(struct supervisor *s, enum role role);

#endif
