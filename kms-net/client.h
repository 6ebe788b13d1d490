/*
 * The clients that have connections: how many, and how much memory for their
 * bodies. A client is what
 * address_client says.
 */
#ifndef KMS_NET_CLIENT_H
#define KMS_NET_CLIENT_H

#include <stdint.h>
#include <sys/queue.h>

#include "kms-net/address.h"
#include "kms-net/bytes.h"

#define CLIENT_BUCKETS 1024 /* a power of two */

struct conn;
TAILQ_HEAD(conn_queue, conn);

struct client {
	struct address address;
	uint32_t connections;
	struct budget memory;	/* its share of the bodies' memory */
	struct conn_queue idle; /* its idle connections, oldest first */
	LIST_ENTRY(client) in_bucket;
};

LIST_HEAD(client_bucket, client);

struct client_table {
	struct budget *memory; /* of all clients */
	uint64_t share;	       /* bytes of it for one client */
	uint64_t key[2];       /* random, of the hash */
	struct client_bucket buckets[CLIENT_BUCKETS];
};

void client_init(struct client_table *table, struct budget *memory,
    uint64_t share, const uint64_t key[2]);

/*
 * The client of an address, made when it had no connection so far; its count
 * is not touched. Lives until client_release brings the count to 0. NULL when
 * memory is out.
 */
struct client *client_of(
    struct client_table *table, const struct address *address);

/* Count one connection less (0 stays 0); at 0 the client is freed, and
 * must have no memory then. NULL is fine. */
void client_release(struct client *client);

#endif
