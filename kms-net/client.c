#include "kms-net/client.h"

#include <stdlib.h>
#include <string.h>

void
client_init(struct client_table *table, struct budget *memory, uint64_t share,
    const uint64_t key[2])
{
	table->memory = memory;
	table->share = share;
	memcpy(table->key, key, sizeof(table->key));
	for (size_t i = 0; i < CLIENT_BUCKETS; i++)
		LIST_INIT(&table->buckets[i]);
}

static struct client_bucket *
bucket_of(struct client_table *table, const struct address *address)
{
	uint64_t half[2];
	unsigned __int128 product;

	memcpy(half, address->bytes, sizeof(half));
	product = (unsigned __int128)(table->key[0] + half[0]) *
	    (table->key[1] + half[1]);
	return &table
		    ->buckets[(uint64_t)(product >> 54) & (CLIENT_BUCKETS - 1)];
}

struct client *
client_of(struct client_table *table, const struct address *address)
{
	struct client_bucket *bucket = bucket_of(table, address);
	struct client *client;

	LIST_FOREACH (client, bucket, in_bucket) {
		if (memcmp(&client->address, address, sizeof(*address)) == 0)
			return client;
	}
	client = calloc(1, sizeof(*client));
	if (client == NULL)
		return NULL;
	client->address = *address;
	client->memory =
	    (struct budget){ .max = table->share, .whole = table->memory };
	TAILQ_INIT(&client->idle);
	LIST_INSERT_HEAD(bucket, client, in_bucket);
	return client;
}

void
client_release(struct client *client)
{
	if (client == NULL)
		return;
	if (client->connections > 0)
		client->connections--;
	if (client->connections == 0) {
		LIST_REMOVE(client, in_bucket);
		free(client);
	}
}
