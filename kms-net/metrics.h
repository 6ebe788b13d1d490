/* GET /metrics: the figures of all processes in Prometheus' text format. */
#ifndef KMS_NET_METRICS_H
#define KMS_NET_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/metrics.h"

#define METRICS_PEERS_MAX 64

struct buf;
struct conn;
struct msg;
struct net;

/* Replication with one peer, as the keeper pushed it last. */
struct metrics_peer {
	uint8_t wallet[20];
	bool level;
	uint64_t behind;     /* records that it may lack */
	uint64_t contact_ms; /* since it was heard; UINT64_MAX: never */
	uint64_t failures;   /* of pushes, in a row */
	uint64_t refused;
	uint64_t too_large;
	uint64_t lag_ms; /* since it had all */
};

struct metrics_peers {
	size_t count;
	struct metrics_peer rows[METRICS_PEERS_MAX];
	/* the push that is coming in */
	uint64_t push;
	size_t next;
	size_t next_count;
	struct metrics_peer next_rows[METRICS_PEERS_MAX];
};

void metrics_answer(struct conn *conn);

/* A request was answered: its route, status and duration. */
void metrics_count_request(const struct conn *conn, int status);

/* Append every row of metrics.def with its process's values, and the peers'.
 * A series with two labels and a histogram appear once they have counted
 * something. KMS_E*. */
int metrics_render(const struct net *net, struct buf *out);

/* KMSDNET_METRICS. KMS_EPROTO. */
int metrics_store(struct net *net, const struct msg *msg);

/* KEEPERNET_PEER. KMS_EPROTO for a row that does not follow the one before. */
int metrics_peer_store(struct metrics_peers *peers, const struct msg *msg);

#endif
