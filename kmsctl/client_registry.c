/*
 * The registry's word about a node (PROTOCOL.md section 6), read through
 * JSON-RPC. The endpoint is the caller's and is believed.
 */
#include "kmsctl/client.h"

#include <stdio.h>
#include <string.h>

#include "common/abi.h"
#include "common/err.h"
#include "common/hex.h"

int
client_instance_decode(
    const uint8_t *data, size_t len, struct client_instance *instance)
{
	struct abi_instance facts;

	memset(instance, 0, sizeof(*instance));
	if (abi_decode_instance(data, len, &facts) != 0 || facts.oversize ||
	    facts.instance_id == ABI_UINT_HUGE ||
	    facts.app_id == ABI_UINT_HUGE ||
	    facts.version_id == ABI_UINT_HUGE ||
	    facts.tee_pubkey_len > sizeof(instance->tee_pubkey) ||
	    facts.instance_url_len >= sizeof(instance->url) ||
	    memchr(facts.instance_url, '\0', facts.instance_url_len) != NULL)
		return KMS_EPROTO;
	instance->instance_id = facts.instance_id;
	instance->app_id = facts.app_id;
	instance->version_id = facts.version_id;
	instance->wallet = facts.tee_wallet;
	instance->zk_verified = facts.zk_verified;
	instance->status = facts.status;
	memcpy(instance->url, facts.instance_url, facts.instance_url_len);
	memcpy(instance->tee_pubkey, facts.tee_pubkey, facts.tee_pubkey_len);
	instance->tee_pubkey_len = facts.tee_pubkey_len;
	return 0;
}

/* ---- JSON-RPC ---- */

static int
rpc_post(struct kms_client *client, json_t *call, struct client_answer *answer)
{
	struct client_http_request request = { "POST", client->rpc_url, NULL,
		NULL, client->rpc_direct, client->timeout_ms };
	struct buf body;
	char *text;
	int rc;

	buf_init(&body, CLIENT_ANSWER_MAX);
	request.body = &body;
	request.headers =
	    curl_slist_append(NULL, "Content-Type: application/json");
	text = json_dumps(call, JSON_COMPACT);
	rc = text == NULL || request.headers == NULL
	    ? KMS_ENOMEM
	    : buf_append_text(&body, text);
	if (rc == 0)
		rc = client_http_perform(&client->rpc_http, &request, answer);
	free(text);
	curl_slist_free_all(request.headers);
	buf_free(&body);
	return rc;
}

/* The error object's text, or that of a revert, for people. */
static int
rpc_refused(struct kms_client *client, const char *method, const json_t *error)
{
	const char *message = client_json_string(error, "message");

	return client_fail(client, KMS_CLIENT_REFUSED,
	    "the chain's RPC endpoint refused %s: %.200s", method,
	    message != NULL ? message : "no reason given");
}

int
client_rpc(struct kms_client *client, const char *method, json_t *params,
    json_t **result)
{
	struct client_answer answer;
	json_t *call, *json = NULL, *value;
	int64_t id;
	int rc;

	*result = NULL;
	client_answer_init(&answer);
	call = json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id",
	    (json_int_t)++client->rpc_id, "method", method, "params", params);
	rc = call != NULL ? rpc_post(client, call, &answer) : KMS_ENOMEM;
	json_decref(call);
	/* The URL may be a credential and libcurl's text may quote it. */
	if (rc != 0) {
		rc = client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the chain's RPC endpoint cannot be reached (%s); is it "
		    "running, and is --rpc right?",
		    kms_strerror(rc));
	} else if (client_json_parse(
		       answer.body.data, answer.body.len, &json) != 0 ||
	    client_json_integer(json, "id", 1, INT64_MAX, &id) != 0 ||
	    (uint64_t)id != client->rpc_id) {
		rc = client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the chain's RPC endpoint answered HTTP %u without a "
		    "JSON-RPC answer; is --rpc right?",
		    answer.status);
	} else if (json_is_object(json_object_get(json, "error"))) {
		rc =
		    rpc_refused(client, method, json_object_get(json, "error"));
	} else if ((value = json_object_get(json, "result")) == NULL) {
		rc = client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the chain's RPC endpoint gave no result for %s", method);
	} else {
		*result = json_incref(value);
	}
	json_decref(json);
	client_answer_free(&answer);
	return rc;
}

int
client_rpc_call(struct kms_client *client, const struct eth_address *contract,
    const struct abi_calldata *call, const char *block, struct buf *out)
{
	char to[ETH_ADDRESS_TEXT_LEN + 1], data[2 * ABI_CALLDATA_MAX + 1];
	json_t *result;
	const char *text;
	uint8_t *space;
	size_t size, len;
	int rc;

	eth_address_format(contract, to);
	hex_encode(call->data, call->len, data);
	rc = client_rpc(client, "eth_call",
	    json_pack("[{s:s, s:s+}, s]", "to", to, "data", "0x", data, block),
	    &result);
	if (rc != 0)
		return rc;
	text = json_string_value(result);
	size = text != NULL ? strlen(text) / 2 + 1 : 0;
	rc = KMS_EPROTO;
	if (size > 2 && buf_reserve(out, size, &space) == 0 &&
	    hex_decode(text, strlen(text), space, size, &len) == 0) {
		buf_commit(out, len);
		rc = 0;
	}
	json_decref(result);
	if (rc != 0)
		rc = client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "there is no registry at %s on this chain; set "
		    "KMS_NOVA_APP_REGISTRY and KMS_REGISTRY",
		    to);
	return rc;
}

int
client_rpc_not_a_registry(struct kms_client *client)
{
	return client_fail(client, KMS_CLIENT_UNVERIFIED,
	    "the registry's answer is not of the expected form; are "
	    "KMS_NOVA_APP_REGISTRY and KMS_REGISTRY right?");
}

int
client_rpc_instance(struct kms_client *client, const struct eth_address *wallet,
    const char *block, struct client_instance *instance)
{
	struct abi_calldata call;
	struct buf out;
	int rc;

	abi_encode_get_instance_by_wallet(wallet, &call);
	buf_init(&out, CLIENT_ANSWER_MAX);
	rc = client_rpc_call(
	    client, &client->nova_app_registry, &call, block, &out);
	if (rc == 0 && client_instance_decode(out.data, out.len, instance) != 0)
		rc = client_rpc_not_a_registry(client);
	buf_free(&out);
	return rc;
}

int
client_rpc_app(struct kms_client *client, uint64_t app_id, const char *block,
    uint64_t *id, uint64_t *status)
{
	struct abi_calldata call;
	struct abi_app app;
	struct buf out;
	int rc;

	if (abi_encode_get_app(app_id, &call) != 0)
		return client_rpc_not_a_registry(client);
	buf_init(&out, CLIENT_ANSWER_MAX);
	rc = client_rpc_call(
	    client, &client->nova_app_registry, &call, block, &out);
	if (rc == 0 && abi_decode_app(out.data, out.len, &app) != 0)
		rc = client_rpc_not_a_registry(client);
	if (rc == 0) {
		*id = app.app_id;
		*status = app.status;
	}
	buf_free(&out);
	return rc;
}

int
client_rpc_version(struct kms_client *client, uint64_t app_id,
    uint64_t version_id, const char *block, uint64_t *id, uint64_t *status)
{
	struct abi_calldata call;
	struct abi_version version;
	struct buf out;
	int rc;

	if (abi_encode_get_version(app_id, version_id, &call) != 0)
		return client_rpc_not_a_registry(client);
	buf_init(&out, CLIENT_ANSWER_MAX);
	rc = client_rpc_call(
	    client, &client->nova_app_registry, &call, block, &out);
	if (rc == 0 && abi_decode_version(out.data, out.len, &version) != 0)
		rc = client_rpc_not_a_registry(client);
	if (rc == 0) {
		*id = version.version_id;
		*status = version.status;
	}
	buf_free(&out);
	return rc;
}

int
client_rpc_kms_app_id(
    struct kms_client *client, const char *block, uint64_t *app_id)
{
	struct abi_calldata call;
	struct buf out;
	int rc;

	abi_encode_kms_app_id(&call);
	buf_init(&out, CLIENT_ANSWER_MAX);
	rc = client_rpc_call(client, &client->kms_registry, &call, block, &out);
	if (rc == 0 && abi_decode_uint(out.data, out.len, app_id) != 0)
		rc = client_rpc_not_a_registry(client);
	buf_free(&out);
	return rc;
}

int
client_rpc_head(struct kms_client *client, char block[24])
{
	json_t *result;
	const char *text;
	int rc;

	rc = client_rpc(client, "eth_blockNumber", json_array(), &result);
	if (rc != 0)
		return rc;
	text = json_string_value(result);
	if (text == NULL || strlen(text) < 3 || strlen(text) > 18 ||
	    strncmp(text, "0x", 2) != 0 ||
	    strspn(text + 2, "0123456789abcdefABCDEF") != strlen(text) - 2)
		rc = client_fail(client, KMS_CLIENT_UNAVAILABLE,
		    "the chain's RPC endpoint gave no block number");
	else
		snprintf(block, 24, "%s", text);
	json_decref(result);
	return rc;
}

/* Why these facts do not make a node, NULL when they do. */
static const char *
instance_judge(const struct client_instance *instance,
    const struct eth_address *claimed, uint64_t kms_app_id,
    struct p384_point *point)
{
	if (instance->instance_id == 0 ||
	    !eth_address_equal(&instance->wallet, claimed))
		return "is not registered";
	if (instance->app_id == 0 || instance->app_id != kms_app_id)
		return "belongs to another app than the KMS";
	if (instance->status != 0)
		return "is not ACTIVE";
	if (!instance->zk_verified)
		return "has no verified proof of its enclave";
	if (p384_public_parse(
		instance->tee_pubkey, instance->tee_pubkey_len, point) != 0)
		return "has no valid P-384 key";
	return NULL;
}

static int
node_fail(struct kms_client *client, const struct eth_address *wallet,
    const char *what)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(wallet, text);
	return client_fail(client, KMS_CLIENT_UNVERIFIED,
	    "the node says that it is %s, which on this chain %s; is this the "
	    "right node, chain and registry?",
	    text, what);
}

/* The node that was dialled is the one that was registered. */
static int
url_check(struct kms_client *client, const struct client_instance *instance)
{
	struct client_origin registered;

	if (client->any_url || client_origin_is_loopback(&client->node))
		return 0;
	if (client_origin_parse(instance->url, &registered) == 0 &&
	    client_origin_equal(&registered, &client->node))
		return 0;
	return client_fail(client, KMS_CLIENT_UNVERIFIED,
	    "this node is registered under another URL (%.200s); dial that "
	    "one, or say --any-url",
	    instance->url);
}

int
client_registry_confirm(
    struct kms_client *client, const struct eth_address *claimed)
{
	struct client_instance instance;
	uint64_t kms_app_id, id, status;
	struct p384_point point;
	const char *wrong;
	char block[24];
	int rc;

	if ((rc = client_rpc_head(client, block)) != 0 ||
	    (rc = client_rpc_kms_app_id(client, block, &kms_app_id)) != 0 ||
	    (rc = client_rpc_instance(client, claimed, block, &instance)) != 0)
		return rc;
	wrong = instance_judge(&instance, claimed, kms_app_id, &point);
	if (wrong != NULL)
		return node_fail(client, claimed, wrong);
	rc = client_rpc_app(client, instance.app_id, block, &id, &status);
	if (rc != 0)
		return rc;
	if (id != instance.app_id || status != 0)
		return node_fail(
		    client, claimed, "belongs to an app that is not ACTIVE");
	rc = client_rpc_version(
	    client, instance.app_id, instance.version_id, block, &id, &status);
	if (rc != 0)
		return rc;
	if (id == 0 || id != instance.version_id || status > 1)
		return node_fail(
		    client, claimed, "runs a version that is revoked");
	if ((rc = url_check(client, &instance)) != 0)
		return rc;
	client->peer.wallet = *claimed;
	client->peer.tee_point = point;
	client->instance = instance;
	client->confirmed = true;
	return 0;
}
