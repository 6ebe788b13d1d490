/*
 * What the keeper asks to send its one transaction (PROTOCOL.md section 8).
 * kms-chain sees it signed and cannot change it. chan_handler functions; arg
 * is the struct questions.
 */
#ifndef KMS_CHAIN_TRANSACTION_CALLS_H
#define KMS_CHAIN_TRANSACTION_CALLS_H

#include "proto/chan.h"

/* KEEPERCHAIN_TX_INPUTS; the chain ID is asked anew. */
int transaction_inputs(struct chan *chan, struct msg *msg, void *arg);

/* KEEPERCHAIN_SEND. A transaction that the endpoint has already is sent. */
int transaction_send(struct chan *chan, struct msg *msg, void *arg);

/* KEEPERCHAIN_RECEIPT; of a transaction that was mined in vain with the reason
 * that its call gives at the end of that block, where that can be learnt. */
int transaction_receipt(struct chan *chan, struct msg *msg, void *arg);

#endif
