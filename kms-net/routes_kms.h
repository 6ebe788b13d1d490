/* Routes that the keeper answers. */
#ifndef KMS_NET_ROUTES_KMS_H
#define KMS_NET_ROUTES_KMS_H

struct conn;

/* GET /nonce */
void routes_kms_nonce(struct conn *conn);

/* Everything below /kms/: hand over the target and the envelope's strings. */
void routes_kms_request(struct conn *conn);

#endif
