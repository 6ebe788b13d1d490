/*
 * What is remembered of the nodes that are called: whether they speak v2, and
 * the nonce that came with an answer (PROTOCOL.md section 2). Pure.
 */
#ifndef KMS_KEEPER_PEER_NODE_H
#define KMS_KEEPER_PEER_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "common/eth.h"

/* Lives while it has calls, or there is something to remember. */
struct peer_node {
	TAILQ_ENTRY(peer_node) link;
	struct eth_address wallet;
	size_t calls;	     /* under way or ending */
	bool ours;	     /* has answered v2 */
	int64_t deployed_ms; /* boot time until which v1 goes first */
	char next_nonce[65]; /* "": none; only of one of ours */
	int64_t nonce_ms;    /* boot time at which it came */
};

TAILQ_HEAD(peer_node_list, peer_node);

struct peer_nodes {
	struct peer_node_list list;
	size_t count;
	size_t max;
};

void peer_nodes_init(struct peer_nodes *nodes, size_t max);
void peer_nodes_free(struct peer_nodes *nodes);

/* NULL when nothing is remembered of it. */
struct peer_node *peer_node_find(
    const struct peer_nodes *nodes, const struct eth_address *wallet);

/* Find or make. NULL without memory, or when all are busy or ours: what makes
 * v1 unthinkable is never pushed out. peer_node_release it. */
struct peer_node *peer_node_get(
    struct peer_nodes *nodes, const struct eth_address *wallet);

/* Forget it if it has no calls and there is nothing to remember. */
void peer_node_release(
    struct peer_nodes *nodes, struct peer_node *node, struct kms_time now);

/* It has proved that it speaks v2, with this nonce for the next call ("" or
 * one that we do not sign: none). */
void peer_node_note_ours(
    struct peer_node *node, const char *next_nonce, struct kms_time now);

/* Use its nonce, once. False when there is none that is young enough. */
bool peer_node_take_nonce(
    struct peer_node *node, struct kms_time now, char nonce[65]);

/* Forget what is known of those that are not among these. */
void peer_nodes_keep(struct peer_nodes *nodes,
    const struct eth_address *wallets, size_t count, struct kms_time now);

#endif
