/* Routes that kms-net answers from its own memory. */
#ifndef KMS_NET_ROUTES_INFO_H
#define KMS_NET_ROUTES_INFO_H

struct conn;

void routes_info_overview(struct conn *conn);
void routes_info_health(struct conn *conn);
void routes_info_ready(struct conn *conn);
void routes_info_status(struct conn *conn);
void routes_info_nodes(struct conn *conn);
void routes_info_openapi(struct conn *conn);

#endif
