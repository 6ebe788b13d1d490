/*
 * What the chain says that a node should see: head, hash, members, its own
 * registration; and whether the node says the same. The endpoint is the
 * caller's and is believed, the node's word is only compared.
 */
#include "kmsctl/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/abi.h"
#include "common/err.h"
#include "common/hex.h"
#include "kmsctl/client.h"

#define MEMBERS_MAX 1024
#define DIFFERENCES_MAX 8
#define LINE_LEN 512

struct member {
	struct eth_address wallet;
	struct client_instance instance;
	uint64_t version_id; /* as answered; 0: there is none */
	uint64_t version_status;
	bool is_node; /* the one that was asked */
};

struct chain {
	char block[24]; /* everything is read at it */
	uint64_t chain_id;
	uint64_t number;
	int64_t age_s;
	struct eth_word hash;
	uint64_t app_id;
	uint64_t app_status;
	bool app_found;
	struct member *members;
	size_t member_count;
	json_t *status; /* the node's /status; NULL: not reached */
	char silent[LINE_LEN];
	bool has_own;
	struct member own; /* its registration, whatever the members are */
	char differences[DIFFERENCES_MAX][LINE_LEN];
	size_t difference_count;
};

/* ---- reading ---- */

static int
quantity(const json_t *value, uint64_t *number)
{
	const char *text = json_string_value(value);
	char *end;

	if (text == NULL || strncmp(text, "0x", 2) != 0 ||
	    strspn(text + 2, "0123456789abcdefABCDEF") == 0 ||
	    strlen(text) > 18)
		return KMS_EPROTO;
	*number = strtoull(text + 2, &end, 16);
	return *end == '\0' ? 0 : KMS_EPROTO;
}

static int
malformed(struct kms_client *client, const char *method)
{
	return client_fail(client, KMS_CLIENT_UNAVAILABLE,
	    "the chain's RPC endpoint gave no sensible answer to %s", method);
}

static int
read_head(struct kms_client *client, struct chain *chain)
{
	uint64_t timestamp;
	json_t *result;
	int rc;

	rc = client_rpc(client, "eth_chainId", json_array(), &result);
	if (rc != 0)
		return rc;
	rc = quantity(result, &chain->chain_id);
	json_decref(result);
	if (rc != 0)
		return malformed(client, "eth_chainId");
	if ((rc = client_rpc_head(client, chain->block)) != 0 ||
	    (rc = client_rpc(client, "eth_getBlockByNumber",
		 json_pack("[s, b]", chain->block, 0), &result)) != 0)
		return rc;
	if (quantity(json_object_get(result, "number"), &chain->number) != 0 ||
	    quantity(json_object_get(result, "timestamp"), &timestamp) != 0 ||
	    timestamp > INT64_MAX)
		rc = malformed(client, "eth_getBlockByNumber");
	else
		chain->age_s = (int64_t)time(NULL) - (int64_t)timestamp;
	json_decref(result);
	return rc;
}

static int
read_hash(struct kms_client *client, struct chain *chain)
{
	struct abi_calldata call;
	struct buf out;
	int rc;

	abi_encode_master_secret_hash(&call);
	buf_init(&out, CLIENT_ANSWER_MAX);
	rc = client_rpc_call(
	    client, &client->kms_registry, &call, chain->block, &out);
	if (rc == 0 && abi_decode_word(out.data, out.len, &chain->hash) != 0)
		rc = client_rpc_not_a_registry(client);
	buf_free(&out);
	return rc;
}

static int
read_app(struct kms_client *client, struct chain *chain)
{
	uint64_t id;
	int rc;

	rc = client_rpc_kms_app_id(client, chain->block, &chain->app_id);
	if (rc == 0)
		rc = client_rpc_app(client, chain->app_id, chain->block, &id,
		    &chain->app_status);
	if (rc == 0)
		chain->app_found = id != 0 && id == chain->app_id;
	return rc;
}

static int
read_member(struct kms_client *client, const struct chain *chain,
    const struct eth_address *wallet, struct member *member)
{
	int rc;

	member->wallet = *wallet;
	rc = client_rpc_instance(
	    client, wallet, chain->block, &member->instance);
	if (rc != 0 || member->instance.instance_id == 0)
		return rc;
	return client_rpc_version(client, member->instance.app_id,
	    member->instance.version_id, chain->block, &member->version_id,
	    &member->version_status);
}

static int
read_members(struct kms_client *client, struct chain *chain)
{
	struct eth_address *wallets;
	struct abi_calldata call;
	struct buf out;
	int rc;

	buf_init(&out, CLIENT_ANSWER_MAX);
	wallets = calloc(MEMBERS_MAX, sizeof(*wallets));
	if (wallets == NULL ||
	    abi_encode_get_active_instances(chain->app_id, &call) != 0) {
		rc = client_rpc_not_a_registry(client);
		goto done;
	}
	rc = client_rpc_call(
	    client, &client->nova_app_registry, &call, chain->block, &out);
	if (rc != 0)
		goto done;
	if (abi_decode_addresses(out.data, out.len, wallets, MEMBERS_MAX,
		&chain->member_count) != 0) {
		rc = client_rpc_not_a_registry(client);
		goto done;
	}
	chain->members =
	    calloc(chain->member_count + 1, sizeof(*chain->members));
	if (chain->members == NULL) {
		chain->member_count = 0;
		rc = client_fail(client, KMS_CLIENT_USAGE, "out of memory");
	}
	for (size_t i = 0; rc == 0 && i < chain->member_count; i++)
		rc =
		    read_member(client, chain, &wallets[i], &chain->members[i]);
done:
	free(wallets);
	buf_free(&out);
	return rc;
}

/* The node may be away: the chain is shown all the same. */
static int
read_node(struct kms_client *client, struct chain *chain)
{
	struct eth_address wallet;
	const char *text;
	char *status;
	int rc;

	rc = kms_client_status(client, &status);
	if (rc != 0) {
		snprintf(chain->silent, sizeof(chain->silent), "%s",
		    kms_client_reason(client));
		return 0;
	}
	rc = client_json_parse(status, strlen(status), &chain->status);
	free(status);
	text = rc == 0
	    ? client_json_string(
		  json_object_get(chain->status, "node"), "tee_wallet")
	    : NULL;
	if (text == NULL || eth_address_parse(text, strlen(text), &wallet) != 0)
		return client_fail(client, KMS_CLIENT_UNVERIFIED,
		    "the node's /status names no wallet");
	for (size_t i = 0; i < chain->member_count; i++)
		chain->members[i].is_node =
		    eth_address_equal(&chain->members[i].wallet, &wallet);
	chain->has_own = true;
	chain->own.is_node = true;
	return read_member(client, chain, &wallet, &chain->own);
}

/* ---- comparing ---- */

static void __attribute__((format(printf, 2, 3)))
differs(struct chain *chain, const char *format, ...)
{
	va_list args;

	if (chain->difference_count == DIFFERENCES_MAX)
		return;
	va_start(args, format);
	vsnprintf(chain->differences[chain->difference_count++], LINE_LEN,
	    format, args);
	va_end(args);
}

static bool
pubkey_equal(const char *claimed, const struct client_instance *instance)
{
	uint8_t key[sizeof(instance->tee_pubkey)];
	size_t len;

	return claimed != NULL &&
	    hex_decode(claimed, strlen(claimed), key, sizeof(key), &len) == 0 &&
	    len == instance->tee_pubkey_len &&
	    memcmp(key, instance->tee_pubkey, len) == 0;
}

static void
compare(struct kms_client *client, struct chain *chain)
{
	const json_t *node = json_object_get(chain->status, "node"),
		     *cluster = json_object_get(chain->status, "cluster");
	bool serves = json_is_true(json_object_get(node, "service_available"));
	bool member = false;
	char registry[ETH_ADDRESS_TEXT_LEN + 1];
	const char *claimed;
	int64_t number;

	for (size_t i = 0; i < chain->member_count; i++)
		member = member || chain->members[i].is_node;
	eth_address_format(&client->kms_registry, registry);
	claimed = client_json_string(cluster, "registry_address");
	if (claimed == NULL || strcmp(claimed, registry) != 0)
		differs(chain, "the node's registry is %.42s, not %s",
		    claimed != NULL ? claimed : "none", registry);
	if (client_json_integer(cluster, "kms_app_id", 0, INT64_MAX, &number) !=
		0 ||
	    (uint64_t)number != chain->app_id)
		differs(chain, "the node's app is another one than kmsAppId");
	if (client_json_integer(
		cluster, "total_instances", 0, INT64_MAX, &number) != 0 ||
	    (uint64_t)number != chain->member_count)
		differs(chain, "the node counts other members than the chain");
	if (json_is_true(json_object_get(node, "is_operator")) != member)
		differs(chain, "the node says that it is %s member",
		    member ? "no" : "a");
	if (chain->own.instance.instance_id != 0 &&
	    !pubkey_equal(
		client_json_string(node, "tee_pubkey"), &chain->own.instance))
		differs(chain,
		    "the node's teePubkey is not the one that is registered");
	if (serves && eth_word_is_zero(&chain->hash))
		differs(chain, "the node serves, but there is no hash");
	if (serves && !member)
		differs(chain, "the node serves, but is no member");
}

/* ---- showing ---- */

static const char *
name_of(uint64_t status, const char *const names[3])
{
	return status < 3 ? names[status] : "UNKNOWN";
}

static const char *const instance_names[] = { "ACTIVE", "STOPPED", "FAILED" };
static const char *const app_names[] = { "ACTIVE", "INACTIVE", "REVOKED" };
static const char *const version_names[] = { "ENROLLED", "DEPRECATED",
	"REVOKED" };

static const char *
version_name(const struct member *member)
{
	return member->version_id == 0 ||
		member->version_id != member->instance.version_id
	    ? "absent"
	    : name_of(member->version_status, version_names);
}

static void
member_line(const struct member *member, char line[LINE_LEN])
{
	const struct client_instance *instance = &member->instance;

	if (instance->instance_id == 0) {
		snprintf(line, LINE_LEN, "not registered");
		return;
	}
	snprintf(line, LINE_LEN,
	    "instance %llu of app %llu, %s, %s; version %llu %s; %.256s",
	    (unsigned long long)instance->instance_id,
	    (unsigned long long)instance->app_id,
	    name_of(instance->status, instance_names),
	    instance->zk_verified ? "verified" : "not verified",
	    (unsigned long long)instance->version_id, version_name(member),
	    instance->url);
}

static void
print_member(const struct member *member)
{
	char line[LINE_LEN], wallet[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(&member->wallet, wallet);
	snprintf(line, sizeof(line), "%s%s", wallet,
	    member->is_node ? " (this node)" : "");
	cmd_print_row("", line);
	member_line(member, line);
	cmd_print_row("", line);
}

static void
print_node(struct kms_client *client, const struct chain *chain)
{
	char line[LINE_LEN], wallet[ETH_ADDRESS_TEXT_LEN + 1];

	cmd_print_row("node", client->node_url);
	if (!chain->has_own) {
		cmd_print_row("", chain->silent);
		return;
	}
	eth_address_format(&chain->own.wallet, wallet);
	cmd_print_row("wallet", wallet);
	member_line(&chain->own, line);
	cmd_print_row("registered", line);
	if (chain->difference_count == 0)
		cmd_print_row("status", "says the same");
	for (size_t i = 0; i < chain->difference_count; i++)
		cmd_print_row("status", chain->differences[i]);
}

static void
print_chain(struct kms_client *client, const struct chain *chain)
{
	char line[LINE_LEN], hash[2 * ETH_WORD_LEN + 1];

	snprintf(
	    line, sizeof(line), "%llu", (unsigned long long)chain->chain_id);
	cmd_print_row("chain", line);
	snprintf(line, sizeof(line), "%llu, %lld s old",
	    (unsigned long long)chain->number, (long long)chain->age_s);
	cmd_print_row("head", line);
	hex_encode(chain->hash.bytes, ETH_WORD_LEN, hash);
	snprintf(line, sizeof(line), "0x%s", hash);
	cmd_print_row("hash",
	    eth_word_is_zero(&chain->hash) ? "zero: no secret yet" : line);
	snprintf(line, sizeof(line), "%llu %s",
	    (unsigned long long)chain->app_id,
	    chain->app_found ? name_of(chain->app_status, app_names)
			     : "absent");
	cmd_print_row("app", line);
	snprintf(line, sizeof(line), "%zu", chain->member_count);
	cmd_print_row("members", line);
	for (size_t i = 0; i < chain->member_count; i++)
		print_member(&chain->members[i]);
	print_node(client, chain);
}

static json_t *
member_json(const struct member *member)
{
	const struct client_instance *instance = &member->instance;
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(&member->wallet, wallet);
	if (instance->instance_id == 0)
		return json_pack(
		    "{s:s, s:b}", "wallet", wallet, "registered", 0);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:s, s:b, s:s, s:s}",
	    "wallet", wallet, "registered", 1, "instance_id",
	    (json_int_t)instance->instance_id, "app_id",
	    (json_int_t)instance->app_id, "version_id",
	    (json_int_t)instance->version_id, "status",
	    name_of(instance->status, instance_names), "zk_verified",
	    instance->zk_verified, "version_status", version_name(member),
	    "instance_url", instance->url);
}

static json_t *
node_json(const struct chain *chain)
{
	json_t *differences = json_array();

	if (!chain->has_own) {
		json_decref(differences);
		return json_pack(
		    "{s:b, s:s}", "reached", 0, "reason", chain->silent);
	}
	for (size_t i = 0; i < chain->difference_count; i++)
		json_array_append_new(
		    differences, json_string(chain->differences[i]));
	return json_pack("{s:b, s:o, s:o}", "reached", 1, "registration",
	    member_json(&chain->own), "differences", differences);
}

static json_t *
chain_json(const struct chain *chain)
{
	char hash[2 * ETH_WORD_LEN + 1];
	json_t *members = json_array();

	for (size_t i = 0; i < chain->member_count; i++)
		json_array_append_new(members, member_json(&chain->members[i]));
	hex_encode(chain->hash.bytes, ETH_WORD_LEN, hash);
	return json_pack("{s:I, s:I, s:I, s:s+, s:I, s:s, s:o, s:o}",
	    "chain_id", (json_int_t)chain->chain_id, "head",
	    (json_int_t)chain->number, "head_age_s", (json_int_t)chain->age_s,
	    "master_secret_hash", "0x", hash, "kms_app_id",
	    (json_int_t)chain->app_id, "app_status",
	    chain->app_found ? name_of(chain->app_status, app_names) : "absent",
	    "members", members, "node", node_json(chain));
}

int
cmd_chain(struct cmd *cmd, int argc, char **argv)
{
	struct kms_client *client = cmd->client;
	struct chain chain;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "chain");
	memset(&chain, 0, sizeof(chain));
	if ((rc = read_head(client, &chain)) != 0 ||
	    (rc = read_hash(client, &chain)) != 0 ||
	    (rc = read_app(client, &chain)) != 0 ||
	    (rc = read_members(client, &chain)) != 0 ||
	    (rc = read_node(client, &chain)) != 0) {
		rc = cmd_client_fail(cmd, rc);
	} else {
		if (chain.has_own)
			compare(client, &chain);
		if (cmd->json)
			rc = cmd_print_json(cmd, chain_json(&chain));
		else
			print_chain(client, &chain);
	}
	client_json_free(chain.status);
	free(chain.members);
	return rc;
}
