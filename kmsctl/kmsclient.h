/*
 * libkmsclient: an app's or operator's side of the KMS (PROTOCOL.md sections
 * 2, 3 and 5). Every app call carries a bound proof of possession (v2), and no
 * answer is believed before its two signatures and its envelope were checked
 * against the identity that the *registry on the chain* gives for the node.
 *
 *	struct kms_client_options options = { .identity_file = "app.json" };
 *	char reason[KMS_CLIENT_REASON_LEN];
 *	struct kms_client *client;
 *	uint8_t key[32];
 *
 *	if (kms_client_open(&options, &client, reason) != KMS_CLIENT_OK)
 *		errx(1, "%s", reason);
 *	if (kms_client_derive(client, "wallet/0", NULL, key, sizeof(key)) !=
 *	    KMS_CLIENT_OK)
 *		errx(1, "%s", kms_client_reason(client));
 *	kms_client_close(client);
 *
 * Calls block. A client is for one thread at a time; several clients may be
 * used by several threads once the first was opened. The process may call
 * curl_global_init itself first; otherwise the first open does.
 */
#ifndef KMS_CLIENT_H
#define KMS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What became of a call. kmsctl exits with the same numbers. */
enum kms_client_result {
	KMS_CLIENT_OK = 0,
	KMS_CLIENT_USAGE = 1,	    /* wrong arguments, files or memory here */
	KMS_CLIENT_NOT_FOUND = 2,   /* signed by the node: there is none */
	KMS_CLIENT_REFUSED = 3,	    /* signed by the node: another 4xx */
	KMS_CLIENT_UNAVAILABLE = 4, /* node or chain unreachable, or not
				       serving, or a limit: try again later */
	KMS_CLIENT_UNVERIFIED = 5,  /* an answer or a node that cannot be
				       believed; nothing of it was used */
	KMS_CLIENT_EVICTED = 6	    /* signed by the node: it was stored but had
				       to make room; do not replace it lightly */
};

#define KMS_CLIENT_REASON_LEN 512
#define KMS_CLIENT_DERIVE_MAX 1024	       /* bytes of a derived key */
#define KMS_CLIENT_TEXT_MAX 65536	       /* bytes of path, context */
#define KMS_CLIENT_KEY_MAX 1024		       /* bytes of a stored key */
#define KMS_CLIENT_VALUE_MAX ((size_t)3 << 19) /* bytes of a value sent */
#define KMS_CLIENT_TTL_MAX ((int64_t)1 << 53)  /* milliseconds */
#define KMS_CLIENT_LIMIT_MAX 10000	       /* keys of one page */
#define KMS_CLIENT_WALLET_LEN 42	       /* "0x" and 40 digits */
#define KMS_CLIENT_URL_MAX 2048

/* Where the simulation listens and what its registries are called. */
#define KMS_CLIENT_NODE_DEFAULT "http://127.0.0.1:4000"
#define KMS_CLIENT_RPC_DEFAULT "http://127.0.0.1:18545"

struct kms_client;

/* Texts are borrowed during kms_client_open only; NULL means the default. */
struct kms_client_options {
	const char *node_url;	       /* KMS_CLIENT_NODE_DEFAULT */
	const char *rpc_url;	       /* KMS_CLIENT_RPC_DEFAULT; never shown */
	const char *identity_file;     /* none: only unauthenticated calls */
	const char *nova_app_registry; /* contract address; the simulation's */
	const char *kms_registry;      /* contract address; the simulation's */
	bool any_url;	 /* the node's registered URL may differ from node_url;
			    it always may when node_url is loopback */
	long timeout_ms; /* of one HTTP request; 0: 30 s */
};

/*
 * Check the options, read the identity and get ready; nothing is dialled yet.
 * KMS_CLIENT_USAGE with the cause in reason; *client is NULL then. Close with
 * kms_client_close (NULL is fine), which wipes keys.
 */
int kms_client_open(const struct kms_client_options *options,
    struct kms_client **client, char reason[KMS_CLIENT_REASON_LEN]);
void kms_client_close(struct kms_client *client);

/*
 * Why the last call on this client did not return KMS_CLIENT_OK and what to do
 * about it: one line of printable text, "" after a success. Valid until the
 * next call.
 */
const char *kms_client_reason(const struct kms_client *client);

/*
 * What anybody can ask: nobody signs these answers, so they are claims. *json
 * is the node's JSON text, checked to be an object of bounded size; the caller
 * frees it with free(3). ready: KMS_CLIENT_UNAVAILABLE with *json set when the
 * node says that it does not serve, with NULL when it cannot be reached.
 */
int kms_client_status(struct kms_client *client, char **json);
int kms_client_nodes(struct kms_client *client, char **json);
int kms_client_ready(struct kms_client *client, char **json);
/* A nonce, base64; free(3). */
int kms_client_nonce(struct kms_client *client, char **nonce);

/* A node as the registry has it. */
struct kms_client_node {
	char wallet[KMS_CLIENT_WALLET_LEN + 1];
	uint64_t instance_id;
	uint64_t app_id;
	uint64_t version_id;
	char instance_url[KMS_CLIENT_URL_MAX + 1]; /* as registered */
};

/*
 * Ask the chain who the node is (PROTOCOL.md section 6): the wallet it claims
 * must belong to an ACTIVE, zkVerified instance of the KMS's app with an
 * ACTIVE app and a version that is not revoked, its P-384 key must be valid,
 * and its URL be the one that was dialled. Done once a client, by the first
 * app call at the latest. node may be NULL. KMS_CLIENT_UNVERIFIED,
 * KMS_CLIENT_UNAVAILABLE.
 */
int kms_client_confirm(struct kms_client *client, struct kms_client_node *node);

/*
 * Derive key_len (1..KMS_CLIENT_DERIVE_MAX) bytes into key, which the caller
 * wipes. context may be NULL. The same path, context and app give the same
 * key on every node and in every version of the app.
 */
int kms_client_derive(struct kms_client *client, const char *path,
    const char *context, uint8_t *key, size_t key_len);

struct kms_client_write {
	int64_t updated_at_ms; /* 0 after a delete */
	int64_t replicas;      /* other nodes that acknowledged */
	bool replicas_met;     /* min_replicas was reached in time */
};

/*
 * Store a value. key is UTF-8 without control characters, 1..1024 bytes.
 * ttl_ms: lifetime, 0 for ever, negative for the node's default. min_replicas:
 * wait for that many acknowledgements, 0 for none. result may be NULL.
 */
int kms_client_put(struct kms_client *client, const char *key,
    const void *value, size_t len, int64_t ttl_ms, unsigned int min_replicas,
    struct kms_client_write *result);

struct kms_client_value {
	uint8_t *data;
	size_t len;
	int64_t updated_at_ms;
};

/*
 * Read a value; the caller frees it, which wipes it. KMS_CLIENT_NOT_FOUND is
 * the node's signed word; KMS_CLIENT_EVICTED is not the same.
 */
int kms_client_get(
    struct kms_client *client, const char *key, struct kms_client_value *value);
void kms_client_value_free(struct kms_client_value *value);

struct kms_client_keys {
	char **keys; /* sorted by bytes */
	size_t count;
};

/*
 * One page of keys that start with prefix and come behind after (each may be
 * NULL), at most limit (1..KMS_CLIENT_LIMIT_MAX) of them. An empty page is the
 * end. The caller frees it.
 */
int kms_client_list(struct kms_client *client, const char *prefix,
    const char *after, unsigned int limit, struct kms_client_keys *keys);
void kms_client_keys_free(struct kms_client_keys *keys);

/* Delete a value; an absent one is KMS_CLIENT_NOT_FOUND. result may be NULL. */
int kms_client_delete(struct kms_client *client, const char *key,
    unsigned int min_replicas, struct kms_client_write *result);

/* The app that the last answered app call was made for; 0 before. */
uint64_t kms_client_app_id(const struct kms_client *client);

/*
 * Make a fresh identity and write it to a new file of mode 0600; an existing
 * file is left alone (KMS_CLIENT_USAGE). wallet receives its address.
 *
 * The file is a JSON object: wallet_private_key (64 hex digits),
 * tee_private_key (the P-384 scalar, 96 hex digits), wallet, tee_pubkey (hex
 * SPKI). The last two must fit the first two. A node's `identity local FILE`
 * has the same form.
 */
int kms_client_keygen(const char *file, char wallet[KMS_CLIENT_WALLET_LEN + 1],
    char reason[KMS_CLIENT_REASON_LEN]);

#endif
