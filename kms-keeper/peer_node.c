#include "kms-keeper/peer_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/pop.h"
#include "kms-keeper/peer_call.h"

void
peer_nodes_init(struct peer_nodes *nodes, size_t max)
{
	TAILQ_INIT(&nodes->list);
	nodes->count = 0;
	nodes->max = max;
}

static void
node_free(struct peer_nodes *nodes, struct peer_node *node)
{
	TAILQ_REMOVE(&nodes->list, node, link);
	nodes->count--;
	free(node);
}

void
peer_nodes_free(struct peer_nodes *nodes)
{
	struct peer_node *node;

	while ((node = TAILQ_FIRST(&nodes->list)) != NULL)
		node_free(nodes, node);
}

struct peer_node *
peer_node_find(const struct peer_nodes *nodes, const struct eth_address *wallet)
{
	struct peer_node *node;

	TAILQ_FOREACH (node, &nodes->list, link) {
		if (eth_address_equal(&node->wallet, wallet))
			return node;
	}
	return NULL;
}

static bool
make_room(struct peer_nodes *nodes)
{
	struct peer_node *node;

	if (nodes->count < nodes->max)
		return true;
	TAILQ_FOREACH (node, &nodes->list, link) {
		if (node->calls == 0 && !node->ours) {
			node_free(nodes, node);
			return true;
		}
	}
	return false;
}

struct peer_node *
peer_node_get(struct peer_nodes *nodes, const struct eth_address *wallet)
{
	struct peer_node *node = peer_node_find(nodes, wallet);

	if (node != NULL)
		return node;
	if (!make_room(nodes))
		return NULL;
	node = calloc(1, sizeof(*node));
	if (node == NULL)
		return NULL;
	node->wallet = *wallet;
	TAILQ_INSERT_TAIL(&nodes->list, node, link);
	nodes->count++;
	return node;
}

void
peer_node_release(
    struct peer_nodes *nodes, struct peer_node *node, struct kms_time now)
{
	if (node->calls == 0 && !node->ours && node->deployed_ms <= now.boot_ms)
		node_free(nodes, node);
}

void
peer_node_note_ours(
    struct peer_node *node, const char *next_nonce, struct kms_time now)
{
	node->ours = true;
	node->deployed_ms = 0;
	if (pop_nonce_check(next_nonce, strlen(next_nonce)) != 0)
		return;
	(void)snprintf(
	    node->next_nonce, sizeof(node->next_nonce), "%s", next_nonce);
	node->nonce_ms = now.boot_ms;
}

bool
peer_node_take_nonce(
    struct peer_node *node, struct kms_time now, char nonce[65])
{
	if (node->next_nonce[0] == '\0')
		return false;
	memcpy(nonce, node->next_nonce, sizeof(node->next_nonce));
	node->next_nonce[0] = '\0';
	return now.boot_ms - node->nonce_ms < PEER_CALLS_NONCE_MS;
}

static bool
is_among(const struct eth_address *wallet, const struct eth_address *wallets,
    size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (eth_address_equal(wallet, &wallets[i]))
			return true;
	}
	return false;
}

void
peer_nodes_keep(struct peer_nodes *nodes, const struct eth_address *wallets,
    size_t count, struct kms_time now)
{
	struct peer_node *node, *next;

	for (node = TAILQ_FIRST(&nodes->list); node != NULL; node = next) {
		next = TAILQ_NEXT(node, link);
		if (is_among(&node->wallet, wallets, count))
			continue;
		node->ours = false;
		node->deployed_ms = 0;
		node->next_nonce[0] = '\0';
		peer_node_release(nodes, node, now);
	}
}
