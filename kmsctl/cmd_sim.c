/*
 * The simulated chain: its state is changed by JSON-RPC methods that only
 * a development node has.
 */
#include "kmsctl/cmd.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/hex.h"
#include "kmsctl/client.h"

/* What reads at `confirmations` below the head must see at once. */
#define MINE_BLOCKS 2

struct registration {
	uint64_t app_id;
	uint64_t version_id;
	uint64_t instance_id; /* 0: choose */
	const char *url;
};

static int
sim_call(struct cmd *cmd, const char *method, json_t *argument)
{
	json_t *params, *result;
	int rc;

	params = json_array();
	if (params != NULL)
		json_array_append_new(params, argument);
	rc = client_rpc(cmd->client, method, params, &result);
	json_decref(result);
	return rc;
}

/* An app and a version that are there stay as they are. */
static int
app_create(struct cmd *cmd, const struct registration *registration)
{
	json_int_t app = (json_int_t)registration->app_id;
	json_int_t version = (json_int_t)registration->version_id;
	uint64_t id, status;
	int rc;

	rc = client_rpc_app(
	    cmd->client, registration->app_id, "latest", &id, &status);
	if (rc == 0 && id == 0)
		rc = sim_call(cmd, "sim_setApp",
		    json_pack("{s:I, s:s, s:I}", "app_id", app, "status",
			"ACTIVE", "latest_version_id", version));
	if (rc == 0)
		rc = client_rpc_version(cmd->client, registration->app_id,
		    registration->version_id, "latest", &id, &status);
	if (rc == 0 && id == 0)
		rc = sim_call(cmd, "sim_setVersion",
		    json_pack("{s:I, s:I, s:s}", "app_id", app, "version_id",
			version, "status", "ENROLLED"));
	return rc;
}

/* One above the highest that there is. */
static int
instance_choose(struct cmd *cmd, uint64_t *instance_id)
{
	const json_t *rows;
	json_t *state;
	int64_t id, highest = 0;
	size_t i;
	int rc;

	rc = client_rpc(cmd->client, "sim_state", json_array(), &state);
	if (rc != 0)
		return rc;
	rows = json_object_get(state, "instances");
	for (i = 0; i < json_array_size(rows); i++)
		if (client_json_integer(json_array_get(rows, i), "instance_id",
			1, INT64_MAX - 1, &id) == 0 &&
		    id > highest)
			highest = id;
	json_decref(state);
	*instance_id = (uint64_t)highest + 1;
	return 0;
}

static int
instance_set(struct cmd *cmd, struct registration *registration)
{
	const struct client_identity *identity = &cmd->client->identity;
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], spki[2 * P384_SPKI_LEN + 1];
	struct client_instance there;
	int rc;

	rc = client_rpc_instance(
	    cmd->client, &identity->wallet, "latest", &there);
	if (rc == 0 && registration->instance_id == 0)
		registration->instance_id = there.instance_id;
	if (rc == 0 && registration->instance_id == 0)
		rc = instance_choose(cmd, &registration->instance_id);
	if (rc != 0)
		return rc;
	eth_address_format(&identity->wallet, wallet);
	client_identity_spki(identity, spki);
	return sim_call(cmd, "sim_setInstance",
	    json_pack("{s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:s, s:I}",
		"instance_id", (json_int_t)registration->instance_id, "app_id",
		(json_int_t)registration->app_id, "version_id",
		(json_int_t)registration->version_id, "operator", wallet,
		"instance_url", registration->url, "tee_wallet", wallet,
		"tee_pubkey", spki, "zk_verified", 1, "status", "ACTIVE",
		"registered_at", (json_int_t)time(NULL)));
}

static int
registration_print(struct cmd *cmd, const struct registration *registration)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(&cmd->client->identity.wallet, wallet);
	if (cmd->json)
		return cmd_print_json(cmd,
		    json_pack("{s:s, s:I, s:I, s:I}", "wallet", wallet,
			"app_id", (json_int_t)registration->app_id,
			"version_id", (json_int_t)registration->version_id,
			"instance_id", (json_int_t)registration->instance_id));
	printf("%s is instance %llu of app %llu, version %llu\n", wallet,
	    (unsigned long long)registration->instance_id,
	    (unsigned long long)registration->app_id,
	    (unsigned long long)registration->version_id);
	return KMS_CLIENT_OK;
}

static int
sim_register(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "app", required_argument, NULL, 'a' },
		{ "version", required_argument, NULL, 'v' },
		{ "url", required_argument, NULL, 'u' },
		{ "instance", required_argument, NULL, 'i' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "sim register --app ID [--version N] "
				    "[--url URL] [--instance N]";
	struct registration registration = { 0, 1, 0, "http://127.0.0.1" };
	uint64_t *number;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		number = c == 'a' ? &registration.app_id
		    : c == 'v'	  ? &registration.version_id
		    : c == 'i'	  ? &registration.instance_id
				  : NULL;
		if (c == 'u')
			registration.url = optarg;
		else if (number == NULL ||
		    cmd_number_parse(optarg, 1, INT64_MAX, number) != 0)
			return cmd_usage(cmd, usage);
	}
	if (optind != argc || registration.app_id == 0)
		return cmd_usage(cmd, usage);
	if (!cmd->client->has_identity)
		return cmd_fail(cmd, KMS_CLIENT_USAGE,
		    "there is no identity to register; make one with kmsctl "
		    "keygen");
	if ((rc = app_create(cmd, &registration)) != 0 ||
	    (rc = instance_set(cmd, &registration)) != 0 ||
	    (rc = sim_call(cmd, "sim_mine", json_integer(MINE_BLOCKS))) != 0)
		return cmd_client_fail(cmd, rc);
	return registration_print(cmd, &registration);
}

static int
sim_hash(struct cmd *cmd, int argc, char **argv)
{
	uint8_t hash[ETH_WORD_LEN];
	char text[2 * ETH_WORD_LEN + 1];
	int rc;

	if (argc != 2 ||
	    hex_decode_exact(argv[1], strlen(argv[1]), hash, sizeof(hash)) != 0)
		return cmd_usage(cmd, "sim hash HEX (64 digits)");
	hex_encode(hash, sizeof(hash), text);
	rc = sim_call(
	    cmd, "sim_setMasterSecretHash", json_pack("s+", "0x", text));
	if (rc == 0)
		rc = sim_call(cmd, "sim_mine", json_integer(MINE_BLOCKS));
	return rc == 0 ? KMS_CLIENT_OK : cmd_client_fail(cmd, rc);
}

static int
sim_state(struct cmd *cmd, int argc, char **argv)
{
	json_t *state;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "sim state");
	rc = client_rpc(cmd->client, "sim_state", json_array(), &state);
	if (rc != 0)
		return cmd_client_fail(cmd, rc);
	return cmd_print_json(cmd, state);
}

int
cmd_sim(struct cmd *cmd, int argc, char **argv)
{
	static const struct {
		const char *name;
		cmd_fn run;
	} rows[] = { { "register", sim_register }, { "hash", sim_hash },
		{ "state", sim_state } };
	size_t i;

	for (i = 0; argc > 1 && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(argv[1], rows[i].name) == 0)
			return rows[i].run(cmd, argc - 1, argv + 1);
	return cmd_usage(cmd, "sim register|hash|state ...");
}
