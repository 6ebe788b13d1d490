/* GET /metrics: the counters of all processes in Prometheus' text format. */
#ifndef KMS_NET_METRICS_H
#define KMS_NET_METRICS_H

#include <stdint.h>

struct buf;
struct conn;
struct msg;
struct net;

void metrics_answer(struct conn *conn);

/* Append every row of metrics.def with its process's value. KMS_E*. */
int metrics_render(const struct net *net, struct buf *out);

/* KMSDNET_METRICS. KMS_EPROTO. */
int metrics_store(struct net *net, const struct msg *msg);

#endif
