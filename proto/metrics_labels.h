/*
 * The label sets of metrics.def: a list each of identifiers and texts. A
 * family with a set has one value for each of its members.
 */
#ifndef KMS_PROTO_METRICS_LABELS_H
#define KMS_PROTO_METRICS_LABELS_H

/* No label: one value. */
#define LABELS_none(LABEL) LABEL(none, ALL, "")

/* Whom a figure of kmsd is about. */
#define LABELS_process(LABEL)                                                  \
	LABEL(process, KMSD, "kmsd")                                           \
	LABEL(process, NET, "kms-net")                                         \
	LABEL(process, KEEPER, "kms-keeper")                                   \
	LABEL(process, RPC, "kms-chain-rpc")                                   \
	LABEL(process, PEER, "kms-chain-peer")

/* Why a caller was refused; also the reasons in the audit trail. */
#define LABELS_reason(LABEL)                                                   \
	LABEL(reason, OTHER, "other")                                          \
	LABEL(reason, HEADERS, "headers")                                      \
	LABEL(reason, TIMESTAMP, "timestamp")                                  \
	LABEL(reason, NONCE, "nonce_unknown")                                  \
	LABEL(reason, NONCE_USED, "nonce_used")                                \
	LABEL(reason, NONCE_EXPIRED, "nonce_expired")                          \
	LABEL(reason, SIGNATURE, "signature")                                  \
	LABEL(reason, WALLET, "wallet")                                        \
	LABEL(reason, UNBOUND, "unbound")                                      \
	LABEL(reason, CONTENT, "content_hash")                                 \
	LABEL(reason, SENDER, "sender_key")                                    \
	LABEL(reason, REPLAY, "replay")                                        \
	LABEL(reason, UNREGISTERED, "unregistered")                            \
	LABEL(reason, INSTANCE, "instance")                                    \
	LABEL(reason, UNVERIFIED, "unverified")                                \
	LABEL(reason, APP, "app")                                              \
	LABEL(reason, VERSION, "version")                                      \
	LABEL(reason, PUBKEY, "pubkey")                                        \
	LABEL(reason, MEMBER, "not_a_member")                                  \
	LABEL(reason, SYNC_HMAC, "sync_signature")

/* What became of the question whether a wallet is authorised. */
#define LABELS_cache(LABEL)                                                    \
	LABEL(cache, HIT, "hit")                                               \
	LABEL(cache, REFRESH, "refresh")                                       \
	LABEL(cache, MISS, "miss")                                             \
	LABEL(cache, BUSY, "busy")

/* enum chain_error, which begins with 1 */
#define LABELS_chain_error(LABEL)                                              \
	LABEL(chain_error, UNREACHABLE, "unreachable")                         \
	LABEL(chain_error, TIMEOUT, "timeout")                                 \
	LABEL(chain_error, MALFORMED, "malformed")                             \
	LABEL(chain_error, REFUSED, "refused")                                 \
	LABEL(chain_error, WRONG_CHAIN, "wrong_chain")                         \
	LABEL(chain_error, BUSY, "busy")

/* enum peer_failure, which begins with 1 */
#define LABELS_peer_failure(LABEL)                                             \
	LABEL(peer_failure, REFUSED, "refused")                                \
	LABEL(peer_failure, UNREACHABLE, "unreachable")                        \
	LABEL(peer_failure, TLS, "tls")                                        \
	LABEL(peer_failure, TIMEOUT, "timeout")                                \
	LABEL(peer_failure, MALFORMED, "malformed")                            \
	LABEL(peer_failure, TOO_BIG, "too_big")                                \
	LABEL(peer_failure, BUSY, "busy")

/* Calls to the identity service (PROTOCOL.md section 10) */
#define LABELS_identity_call(LABEL)                                            \
	LABEL(identity_call, ADDRESS, "address")                               \
	LABEL(identity_call, PUBLIC_KEY, "public_key")                         \
	LABEL(identity_call, RANDOM, "random")                                 \
	LABEL(identity_call, SIGN, "sign")                                     \
	LABEL(identity_call, SIGN_TX, "sign-tx")                               \
	LABEL(identity_call, DECRYPT, "decrypt")                               \
	LABEL(identity_call, ENCRYPT, "encrypt")

/* What became of a record that replication sent or was sent. */
#define LABELS_result(LABEL)                                                   \
	LABEL(result, PUSHED, "pushed")                                        \
	LABEL(result, TAKEN, "taken")                                          \
	LABEL(result, REJECTED, "rejected")                                    \
	LABEL(result, TOO_LARGE, "too_large")                                  \
	LABEL(result, DROPPED, "dropped")

/* What would be lost with this node. */
#define LABELS_held(LABEL)                                                     \
	LABEL(held, SECRET, "secret")                                          \
	LABEL(held, DATA, "data")

/* enum peer_kind */
#define LABELS_peer_kind(LABEL)                                                \
	LABEL(peer_kind, SYNC, "sync")                                         \
	LABEL(peer_kind, NONCE, "nonce")                                       \
	LABEL(peer_kind, STATUS, "status")

/*
 * Sets whose members only their process can name: rows of kms-net's tables of
 * routes (and one for requests of no route) and of statuses, endpoints of
 * rpc-url. A value for each, used or not.
 */
#define METRICS_ROUTES 16
#define METRICS_STATUSES 16
#define METRICS_ENDPOINTS 16

/* Buckets of a histogram, and what stands behind them: more, and the sum. */
#define METRICS_BOUNDS 14
#define METRICS_BUCKETS (METRICS_BOUNDS + 2)

#define LABEL_ENUM(set, id, text) LABEL_##set##_##id,
#define LABEL_SET_ENUM(set)                                                    \
	enum label_##set{ LABELS_##set(LABEL_ENUM) LABELS_##set##_COUNT };

LABEL_SET_ENUM(none)
LABEL_SET_ENUM(process)
LABEL_SET_ENUM(reason)
LABEL_SET_ENUM(cache)
LABEL_SET_ENUM(chain_error)
LABEL_SET_ENUM(peer_failure)
LABEL_SET_ENUM(peer_kind)
LABEL_SET_ENUM(identity_call)
LABEL_SET_ENUM(held)
LABEL_SET_ENUM(result)
enum {
	LABELS_route_COUNT = METRICS_ROUTES,
	LABELS_status_COUNT = METRICS_STATUSES,
	LABELS_endpoint_COUNT = METRICS_ENDPOINTS,
	LABELS_seconds_COUNT = METRICS_BUCKETS
};

#endif
