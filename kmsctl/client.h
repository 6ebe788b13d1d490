/*
 * Private to libkmsclient: the parts behind kmsclient.h. What is marked pure
 * reads no clock, file or socket and is tested on its own.
 */
#ifndef KMSCTL_CLIENT_H
#define KMSCTL_CLIENT_H

#include <curl/curl.h>
#include <jansson.h>

#include "common/abi.h"
#include "common/buf.h"
#include "common/eth.h"
#include "crypto/envelope.h"
#include "crypto/p384.h"
#include "crypto/wallet.h"
#include "kmsctl/kmsclient.h"

#define CLIENT_ANSWER_MAX ((size_t)4 << 20) /* bytes of any HTTP answer */
#define CLIENT_TARGET_MAX 8192		    /* bytes of a request target */
#define CLIENT_HEADER_MAX 192		    /* bytes of a header we read */
#define CLIENT_NONCE_REUSE_MS 100000	    /* a node keeps one for 120 s */
#define CLIENT_JSON_DEPTH 16
#define CLIENT_JSON_TOKENS 65536

/* ---- client_url.c (pure) ---- */

#define CLIENT_HOST_MAX 255

/* The origin of an http or https URL; nothing else may be in it. */
struct client_origin {
	bool tls;
	uint16_t port;
	char host[CLIENT_HOST_MAX + 1]; /* lower case; IPv6 in brackets */
};

/*
 * Parse scheme://host[:port][/]. KMS_EINVAL when there is a path, a query, a
 * fragment, credentials, another scheme or a character that no host has.
 */
int client_origin_parse(const char *url, struct client_origin *origin);

/* "http://host:port" appended. */
int client_origin_append(const struct client_origin *origin, struct buf *out);

/* 1 when equal, else 0. */
int client_origin_equal(
    const struct client_origin *a, const struct client_origin *b);

/* 1 for localhost, 127.0.0.0/8 and ::1, else 0. */
int client_origin_is_loopback(const struct client_origin *origin);

/*
 * Append text percent-encoded: letters, digits and "-._~" as they are, every
 * other byte as %XX. So no proxy finds anything to normalise.
 */
int client_percent_append(struct buf *out, const char *text);

/*
 * A request target: path and those parameters whose value is not NULL, with a
 * NUL behind it that is not counted. KMS_ETOOBIG beyond CLIENT_TARGET_MAX.
 */
struct client_parameter {
	const char *name;
	const char *value;
};
int client_target_build(const char *path,
    const struct client_parameter *parameters, size_t count, struct buf *out);

/* ---- client_json.c (pure) ---- */

/*
 * Parse an object of at most CLIENT_JSON_DEPTH levels and CLIENT_JSON_TOKENS
 * tokens, counted before a tree is built; repeated members are refused.
 * KMS_EPROTO, KMS_ENOMEM. The caller calls client_json_free.
 */
int client_json_parse(const void *text, size_t len, json_t **json);

/* Wipe every string in the tree and drop it; NULL is fine. */
void client_json_free(json_t *json);

/* Append text as a JSON string with its quotes. */
int client_json_append_string(struct buf *out, const char *text);

/* 0 when text is UTF-8 of min..max bytes, else KMS_EINVAL. */
int client_text_check(const char *text, size_t min, size_t max);

/* A string or integer member; NULL, or KMS_EPROTO, when it is not there. */
const char *client_json_string(const json_t *object, const char *name);
int client_json_integer(const json_t *object, const char *name, int64_t min,
    int64_t max, int64_t *value);

/* ---- client_identity.c ---- */

struct client_identity {
	struct eth_address wallet;
	uint8_t wallet_key[WALLET_KEY_LEN];
	struct p384_key *tee_key;
};

/*
 * Read an identity file. KMS_CLIENT_USAGE with the cause in reason. Free with
 * client_identity_free, which wipes.
 */
int client_identity_load(const char *file, const struct wallet_context *wallets,
    struct client_identity *identity, char reason[KMS_CLIENT_REASON_LEN]);
void client_identity_free(struct client_identity *identity);

/* The hex of its SPKI, as the registry wants it. */
void client_identity_spki(
    const struct client_identity *identity, char hex[2 * P384_SPKI_LEN + 1]);

/* ---- client_answer.c (pure) ---- */

/* An HTTP answer with the headers that matter here ("" when absent). */
struct client_answer {
	unsigned int status; /* 0: none yet */
	bool repeated;	     /* one of the headers came twice or too long */
	char signature[CLIENT_HEADER_MAX];    /* X-KMS-Response-Signature */
	char signature_v2[CLIENT_HEADER_MAX]; /* …-V2 */
	char next_nonce[CLIENT_HEADER_MAX];   /* X-KMS-Next-Nonce */
	struct buf body;
};

void client_answer_init(struct client_answer *answer);
void client_answer_free(struct client_answer *answer);

/* The node that the registry vouches for. */
struct client_peer {
	struct eth_address wallet;
	struct p384_point tee_point;
};

/*
 * Check an answer to the request that carried caller_signature: both
 * signatures are the peer's over this request, this status and this content,
 * and a 2xx is an envelope under the peer's registered key.
 *
 * 0: *json is the checked body (the caller frees it): an envelope when 200 <=
 * status < 300, else an error of which only "code" and "message" are signed.
 * KMS_ENOENT: not a 2xx and it bears no signature at all. KMS_EAUTH: it cannot
 * be believed; *why says in static text what is wrong. KMS_ENOMEM and others.
 */
int client_answer_verify(const struct wallet_context *wallets,
    const struct client_peer *peer, const char *caller_signature,
    const struct client_answer *answer, json_t **json, const char **why);

/*
 * Open a verified envelope with the secret shared with the peer and append
 * its plaintext to out. KMS_EAUTH, KMS_EPROTO and others.
 */
int client_envelope_open(const json_t *envelope,
    const uint8_t shared[P384_SHARED_LEN], const struct p384_point *own,
    const struct p384_point *other, struct buf *out);

/*
 * Seal plaintext for the peer: the canonical envelope text is appended to
 * out, its hash set.
 */
int client_envelope_seal(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const struct buf *plaintext,
    struct buf *out, uint8_t hash[SHA256_LEN]);

/* ---- client_registry.c: decoders are pure ---- */

struct client_instance {
	uint64_t instance_id; /* 0: none */
	uint64_t app_id;
	uint64_t version_id;
	uint64_t status;
	bool zk_verified;
	struct eth_address wallet;
	size_t tee_pubkey_len;
	uint8_t tee_pubkey[256];
	char url[KMS_CLIENT_URL_MAX + 1];
};

/* The result of getInstanceByWallet, what does not fit refused. KMS_EPROTO. */
int client_instance_decode(
    const uint8_t *data, size_t len, struct client_instance *instance);

/*
 * One JSON-RPC call; params is stolen. *result is the caller's. Results of
 * kmsclient.h; KMS_CLIENT_REFUSED when the endpoint answered with an error.
 */
int client_rpc(struct kms_client *client, const char *method, json_t *params,
    json_t **result);

/* eth_call; the returned bytes are appended to out. */
int client_rpc_call(struct kms_client *client,
    const struct eth_address *contract, const struct abi_calldata *call,
    const char *block, struct buf *out);

/* Set the reason for a result that does not decode. */
int client_rpc_not_a_registry(struct kms_client *client);

/* The number of the latest block, as a 0x quantity: all facts of one decision
 * are read at one block. */
int client_rpc_head(struct kms_client *client, char block[24]);

int client_rpc_kms_app_id(
    struct kms_client *client, const char *block, uint64_t *app_id);

/* The facts about one wallet, all at one block (0x quantity; "latest"). */
int client_rpc_instance(struct kms_client *client,
    const struct eth_address *wallet, const char *block,
    struct client_instance *instance);
int client_rpc_app(struct kms_client *client, uint64_t app_id,
    const char *block, uint64_t *id, uint64_t *status);
int client_rpc_version(struct kms_client *client, uint64_t app_id,
    uint64_t version_id, const char *block, uint64_t *id, uint64_t *status);

/* Read, judge and keep the registry's word about the claimed wallet. */
int client_registry_confirm(
    struct kms_client *client, const struct eth_address *claimed);

/* ---- client_http.c ---- */

struct client_http {
	CURL *curl;
	char error[CURL_ERROR_SIZE];
};

int client_http_init(struct client_http *http);
void client_http_free(struct client_http *http);

/*
 * One request over a kept connection; body NULL for a GET. No redirect is
 * followed. KMS_EUNAVAIL (http->error says why), KMS_ETOOBIG beyond
 * CLIENT_ANSWER_MAX, KMS_ENOMEM.
 */
struct client_http_request {
	const char *method;
	const char *url;
	const struct buf *body;
	struct curl_slist *headers;
	bool direct; /* use no proxy */
	long timeout_ms;
};
int client_http_perform(struct client_http *http,
    const struct client_http_request *request, struct client_answer *answer);

/* ---- client.c, client_call.c ---- */

struct kms_client {
	struct client_origin node;
	char node_url[CLIENT_HOST_MAX + 32];
	char *rpc_url;
	bool rpc_direct;
	bool any_url;
	long timeout_ms;
	struct eth_address nova_app_registry;
	struct eth_address kms_registry;
	struct wallet_context *wallets;
	bool has_identity;
	struct client_identity identity;
	struct client_http node_http;
	struct client_http rpc_http;
	uint64_t rpc_id;

	bool confirmed;
	struct client_peer peer;
	struct client_instance instance;
	bool agreed;
	uint8_t shared[P384_SHARED_LEN];

	char next_nonce[CLIENT_HEADER_MAX]; /* "": none */
	int64_t next_nonce_at;		    /* boot clock, ms */
	uint64_t app_id;
	char reason[KMS_CLIENT_REASON_LEN];
};

/* Set the reason (made printable) and return result. */
int client_fail(struct kms_client *client, enum kms_client_result result,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* An unauthenticated GET on the node. Results of kmsclient.h. */
int client_get(struct kms_client *client, const char *target,
    struct client_answer *answer);

/*
 * One authenticated call. plaintext NULL for a request without a body. *json
 * is the opened, verified answer (client_json_free).
 */
int client_call(struct kms_client *client, const char *method,
    const char *target, const struct buf *plaintext, json_t **json);

/* Addresses of the simulation's registries. */
extern const char client_sim_nova_app_registry[];
extern const char client_sim_kms_registry[];

#endif
