/*
 * The calls: what anybody may ask, and the authenticated ones, each with a
 * nonce, a bound signature (PROTOCOL.md section 2) and a checked answer.
 */
#include "kmsctl/client.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/hex.h"
#include "crypto/pop.h"
#include "crypto/sha256.h"

#define SIGNED_TEXT_MAX (CLIENT_TARGET_MAX + 1024)
#define TIMESTAMP_TEXT_MAX 24

/* ---- unauthenticated ---- */

static int
http_fail(struct kms_client *client, int error)
{
	if (error == KMS_ETOOBIG)
		return client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "%s sent more than %zu bytes", client->node_url,
		    CLIENT_ANSWER_MAX);
	return client_fail(client, KMS_CLIENT_UNAVAILABLE,
	    "no answer from %s: %.150s; is the node running, and is --node "
	    "right?",
	    client->node_url,
	    client->node_http.error[0] != '\0' ? client->node_http.error
					       : kms_strerror(error));
}

static int
node_request(struct kms_client *client, const char *method, const char *target,
    const struct buf *body, struct curl_slist *headers,
    struct client_answer *answer)
{
	struct client_http_request request = { method, NULL, body, headers,
		client_origin_is_loopback(&client->node) != 0,
		client->timeout_ms };
	struct buf url;
	int rc;

	buf_init(&url, CLIENT_TARGET_MAX + sizeof(client->node_url));
	rc = buf_printf(&url, "%s%s", client->node_url, target);
	if (rc == 0)
		rc = buf_append(&url, "", 1);
	request.url = (const char *)url.data;
	if (rc == 0)
		rc = client_http_perform(&client->node_http, &request, answer);
	buf_free(&url);
	return rc == 0 ? 0 : http_fail(client, rc);
}

int
client_get(
    struct kms_client *client, const char *target, struct client_answer *answer)
{
	client->reason[0] = '\0';
	return node_request(client, "GET", target, NULL, NULL, answer);
}

static int
status_fail(struct kms_client *client, const char *target, unsigned int status)
{
	if (status == 429)
		return client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the node limits the rate of GET %s; wait a minute",
		    target);
	return client_fail(client, KMS_CLIENT_UNAVAILABLE,
	    "GET %s was answered with HTTP %u; is --node a KMS node?", target,
	    status);
}

/* The answer's text, once it is known to be a JSON object. */
static int
json_text(
    struct kms_client *client, const struct client_answer *answer, char **text)
{
	json_t *json;

	*text = NULL;
	if (client_json_parse(answer->body.data, answer->body.len, &json) != 0)
		return client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the answer is not a JSON object; is --node a KMS node?");
	client_json_free(json);
	*text = strndup((const char *)answer->body.data, answer->body.len);
	if (*text == NULL)
		return client_fail(client, KMS_CLIENT_USAGE, "out of memory");
	return 0;
}

static int
claim_read(struct kms_client *client, const char *target, char **json)
{
	struct client_answer answer;
	int rc;

	*json = NULL;
	client_answer_init(&answer);
	rc = client_get(client, target, &answer);
	if (rc == 0 && answer.status != 200)
		rc = status_fail(client, target, answer.status);
	if (rc == 0)
		rc = json_text(client, &answer, json);
	client_answer_free(&answer);
	return rc;
}

int
kms_client_status(struct kms_client *client, char **json)
{
	return claim_read(client, "/status", json);
}

int
kms_client_nodes(struct kms_client *client, char **json)
{
	return claim_read(client, "/nodes", json);
}

int
kms_client_ready(struct kms_client *client, char **json)
{
	struct client_answer answer;
	int rc;

	*json = NULL;
	client_answer_init(&answer);
	rc = client_get(client, "/ready", &answer);
	if (rc == 0 && answer.status != 200 && answer.status != 503)
		rc = status_fail(client, "/ready", answer.status);
	if (rc == 0)
		rc = json_text(client, &answer, json);
	if (rc == 0 && answer.status == 503)
		rc = client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the node does not serve yet; kmsctl status says why");
	client_answer_free(&answer);
	return rc;
}

int
kms_client_nonce(struct kms_client *client, char **nonce)
{
	struct client_answer answer;
	const char *text = NULL;
	json_t *json = NULL;
	int rc;

	*nonce = NULL;
	client_answer_init(&answer);
	rc = client_get(client, "/nonce", &answer);
	if (rc == 0 && answer.status != 200)
		rc = status_fail(client, "/nonce", answer.status);
	if (rc == 0 &&
	    (client_json_parse(answer.body.data, answer.body.len, &json) != 0 ||
		(text = client_json_string(json, "nonce")) == NULL ||
		pop_nonce_check(text, strlen(text)) != 0))
		rc = client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the node's nonce is not 16 to 64 base64 characters");
	if (rc == 0 && (*nonce = strdup(text)) == NULL)
		rc = client_fail(client, KMS_CLIENT_USAGE, "out of memory");
	client_json_free(json);
	client_answer_free(&answer);
	return rc;
}

/* ---- who the node is ---- */

/* What /status claims; only a name to ask the registry about. */
static int
wallet_claimed(struct kms_client *client, struct eth_address *wallet)
{
	const char *text;
	json_t *json = NULL;
	char *status;
	int rc;

	if ((rc = kms_client_status(client, &status)) != 0)
		return rc;
	if (client_json_parse(status, strlen(status), &json) != 0 ||
	    (text = client_json_string(
		 json_object_get(json, "node"), "tee_wallet")) == NULL ||
	    eth_address_parse(text, strlen(text), wallet) != 0)
		rc = client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the node's /status does not name its wallet; is --node a "
		    "KMS node?");
	client_json_free(json);
	free(status);
	return rc;
}

int
kms_client_confirm(struct kms_client *client, struct kms_client_node *node)
{
	struct eth_address claimed;
	int rc;

	client->reason[0] = '\0';
	if (!client->confirmed) {
		if ((rc = wallet_claimed(client, &claimed)) != 0)
			return rc;
		rc = client_registry_confirm(client, &claimed);
		if (rc == KMS_CLIENT_REFUSED)
			rc = KMS_CLIENT_UNAVAILABLE;
		if (rc != 0)
			return rc;
	}
	if (node == NULL)
		return KMS_CLIENT_OK;
	eth_address_format(&client->peer.wallet, node->wallet);
	node->instance_id = client->instance.instance_id;
	node->app_id = client->instance.app_id;
	node->version_id = client->instance.version_id;
	snprintf(node->instance_url, sizeof(node->instance_url), "%s",
	    client->instance.url);
	return KMS_CLIENT_OK;
}

/* ---- authenticated ---- */

/* What one request is signed with and answered to. */
struct exchange {
	const char *method;
	const char *target;
	struct buf body; /* the envelope, or empty */
	bool has_body;
	uint8_t hash[SHA256_LEN];
	bool reused; /* the nonce came with an earlier answer */
	char nonce[POP_NONCE_TEXT_MAX + 1];
	char timestamp[TIMESTAMP_TEXT_MAX];
	char signature[SIGNATURE_TEXT_LEN + 1];
};

static int
agree(struct kms_client *client)
{
	if (client->agreed)
		return 0;
	if (p384_agree(client->identity.tee_key, &client->peer.tee_point,
		client->shared) != 0)
		return client_fail(client, KMS_CLIENT_USAGE,
		    "the key agreement with the node failed");
	client->agreed = true;
	return 0;
}

static int
content_seal(struct kms_client *client, const struct buf *plaintext,
    struct exchange *exchange)
{
	uint8_t nonce[AEAD_NONCE_LEN];
	int rc;

	if (plaintext == NULL) {
		rc = sha256("", 0, exchange->hash);
	} else {
		exchange->has_body = true;
		rc = RAND_bytes(nonce, sizeof(nonce)) == 1 ? 0 : KMS_ECRYPTO;
		if (rc == 0)
			rc = client_envelope_seal(client->shared,
			    p384_key_point(client->identity.tee_key),
			    &client->peer.tee_point, nonce, plaintext,
			    &exchange->body, exchange->hash);
	}
	if (rc != 0)
		return client_fail(client, KMS_CLIENT_USAGE,
		    "the request cannot be sealed: %s", kms_strerror(rc));
	return 0;
}

/* The one that came with the last answer while it is fresh, else a new one. */
static int
nonce_take(struct kms_client *client, struct exchange *exchange)
{
	char *nonce;
	int rc;

	exchange->reused = client->next_nonce[0] != '\0' &&
	    clock_now().boot_ms - client->next_nonce_at < CLIENT_NONCE_REUSE_MS;
	if (exchange->reused) {
		snprintf(exchange->nonce, sizeof(exchange->nonce), "%.*s",
		    POP_NONCE_TEXT_MAX, client->next_nonce);
		client->next_nonce[0] = '\0';
		return 0;
	}
	if ((rc = kms_client_nonce(client, &nonce)) != 0)
		return rc;
	snprintf(exchange->nonce, sizeof(exchange->nonce), "%s", nonce);
	free(nonce);
	return 0;
}

static int
request_sign(struct kms_client *client, struct exchange *exchange)
{
	struct pop_request request = { POP_APP, exchange->nonce,
		strlen(exchange->nonce), client->peer.wallet,
		(int64_t)time(NULL) };
	struct pop_binding binding = { exchange->method,
		strlen(exchange->method), exchange->target,
		strlen(exchange->target), { 0 } };
	uint8_t signature[SIGNATURE_LEN];
	struct buf text;
	int rc;

	memcpy(binding.content_hash, exchange->hash, SHA256_LEN);
	buf_init(&text, SIGNED_TEXT_MAX);
	rc = pop_request_v2_append(&request, &binding, &text);
	if (rc == 0)
		rc = wallet_sign_message(client->wallets,
		    client->identity.wallet_key, text.data, text.len,
		    signature);
	buf_free(&text);
	if (rc != 0)
		return client_fail(client, KMS_CLIENT_USAGE,
		    "the request cannot be signed: %s", kms_strerror(rc));
	signature_format(signature, exchange->signature);
	snprintf(exchange->timestamp, sizeof(exchange->timestamp), "%lld",
	    (long long)request.timestamp);
	return 0;
}

static int
header_add(struct curl_slist **list, const char *name, const char *value)
{
	char line[CLIENT_HEADER_MAX + 64];
	struct curl_slist *longer;

	snprintf(line, sizeof(line), "%s: %s", name, value);
	longer = curl_slist_append(*list, line);
	if (longer == NULL)
		return KMS_ENOMEM;
	*list = longer;
	return 0;
}

static int
headers_make(struct kms_client *client, const struct exchange *exchange,
    struct curl_slist **list)
{
	char hash[2 * SHA256_LEN + 1], wallet[ETH_ADDRESS_TEXT_LEN + 1];
	int bad;

	hex_encode(exchange->hash, SHA256_LEN, hash);
	eth_address_format(&client->identity.wallet, wallet);
	bad = header_add(list, "X-App-Auth", "v2") |
	    header_add(list, "X-App-Signature", exchange->signature) |
	    header_add(list, "X-App-Nonce", exchange->nonce) |
	    header_add(list, "X-App-Timestamp", exchange->timestamp) |
	    header_add(list, "X-App-Wallet", wallet) |
	    header_add(list, "X-App-Content-SHA256", hash);
	if (exchange->has_body)
		bad |= header_add(list, "Content-Type", "application/json") |
		    header_add(list, "Expect", "");
	return bad != 0 ? KMS_ENOMEM : 0;
}

static int
exchange_send(struct kms_client *client, struct exchange *exchange,
    struct client_answer *answer)
{
	struct curl_slist *headers = NULL;
	int rc;

	if ((rc = nonce_take(client, exchange)) != 0 ||
	    (rc = request_sign(client, exchange)) != 0)
		return rc;
	if (headers_make(client, exchange, &headers) != 0)
		rc = client_fail(client, KMS_CLIENT_USAGE, "out of memory");
	else
		rc = node_request(client, exchange->method, exchange->target,
		    exchange->has_body ? &exchange->body : NULL, headers,
		    answer);
	curl_slist_free_all(headers);
	return rc;
}

/*
 * Nobody signed it, so it says nothing about keys or values. That a node is
 * unavailable needs no proof: whoever can forge that can also cut the line.
 */
static int
unsigned_fail(struct kms_client *client, unsigned int status)
{
	if (status == 429)
		return client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the node limits the rate of requests (HTTP 429); wait a "
		    "minute");
	if (status >= 500)
		return client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the node does not serve now (HTTP %u); kmsctl status says "
		    "why",
		    status);
	return client_fail(client, KMS_CLIENT_UNVERIFIED,
	    "HTTP %u without the node's signature, so not believed: it did not "
	    "authenticate this request (is this machine's clock right?) or "
	    "something in between answered",
	    status);
}

/* A signed error: its message may be shown. */
static int
signed_fail(struct kms_client *client, unsigned int status, const json_t *json)
{
	const char *message = client_json_string(json, "message");
	enum kms_client_result result = KMS_CLIENT_REFUSED;
	const char *hint = "";

	if (status == 404)
		result = KMS_CLIENT_NOT_FOUND;
	else if (status == 410)
		result = KMS_CLIENT_EVICTED;
	else if (status == 429 || status >= 500)
		result = KMS_CLIENT_UNAVAILABLE;
	if (status == 403)
		hint = " (is this identity registered on this chain and "
		       "ACTIVE? in the simulation: kmsctl sim register)";
	return client_fail(
	    client, result, "HTTP %u: %.250s%s", status, message, hint);
}

static int
answer_open(struct kms_client *client, const json_t *envelope, json_t **json)
{
	struct buf plaintext;
	int64_t app_id;
	int rc;

	buf_init(&plaintext, CLIENT_ANSWER_MAX);
	rc = client_envelope_open(envelope, client->shared,
	    p384_key_point(client->identity.tee_key), &client->peer.tee_point,
	    &plaintext);
	if (rc == 0)
		rc = client_json_parse(plaintext.data, plaintext.len, json);
	buf_free(&plaintext);
	if (rc == 0)
		rc =
		    client_json_integer(*json, "app_id", 1, INT64_MAX, &app_id);
	if (rc != 0) {
		client_json_free(*json);
		*json = NULL;
		return client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the answer's envelope cannot be opened (%s); is the "
		    "identity's tee_pubkey the one on the chain?",
		    kms_strerror(rc));
	}
	client->app_id = (uint64_t)app_id;
	return 0;
}

static int
answer_judge(struct kms_client *client, const struct exchange *exchange,
    const struct client_answer *answer, json_t **json)
{
	const char *why;
	json_t *body;
	int rc;

	rc = client_answer_verify(client->wallets, &client->peer,
	    exchange->signature, answer, &body, &why);
	if (rc == KMS_ENOENT)
		return unsigned_fail(client, answer->status);
	if (rc != 0)
		return client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the answer (HTTP %u) is not believed: %s", answer->status,
		    rc == KMS_EAUTH ? why : kms_strerror(rc));
	if (pop_nonce_check(answer->next_nonce, strlen(answer->next_nonce)) ==
	    0) {
		memcpy(
		    client->next_nonce, answer->next_nonce, CLIENT_HEADER_MAX);
		client->next_nonce_at = clock_now().boot_ms;
	}
	rc = answer->status < 300 ? answer_open(client, body, json)
				  : signed_fail(client, answer->status, body);
	client_json_free(body);
	return rc;
}

int
client_call(struct kms_client *client, const char *method, const char *target,
    const struct buf *plaintext, json_t **json)
{
	struct exchange exchange = { .method = method, .target = target };
	struct client_answer answer;
	int rc;

	*json = NULL;
	if (!client->has_identity)
		return client_fail(client, KMS_CLIENT_USAGE,
		    "this needs an identity; make one with kmsctl keygen");
	client_answer_init(&answer);
	buf_init(&exchange.body, CLIENT_ANSWER_MAX);
	if ((rc = kms_client_confirm(client, NULL)) != 0 ||
	    (rc = agree(client)) != 0 ||
	    (rc = content_seal(client, plaintext, &exchange)) != 0 ||
	    (rc = exchange_send(client, &exchange, &answer)) != 0)
		goto done;
	/* A nonce of before may be lost, with the process that gave it. */
	if (exchange.reused && answer.status == 403 &&
	    answer.signature_v2[0] == '\0' &&
	    (rc = exchange_send(client, &exchange, &answer)) != 0)
		goto done;
	rc = answer_judge(client, &exchange, &answer, json);
done:
	client_answer_free(&answer);
	buf_free(&exchange.body);
	return rc;
}
