/* POST /sync: replication (PROTOCOL.md section 7). */
#ifndef KMS_NET_ROUTES_SYNC_H
#define KMS_NET_ROUTES_SYNC_H

struct conn;

/* A node that is a cluster by itself replicates nothing: 503. */
void routes_sync_request(struct conn *conn);

#endif
