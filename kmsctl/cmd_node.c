/* What anybody may ask a node. It is shown as the node's claim. */
#include "kmsctl/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmsctl/client.h"

static json_t *
object_of(const char *text)
{
	json_t *json;

	return client_json_parse(text, strlen(text), &json) == 0 ? json : NULL;
}

static long long
integer_of(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static void
print_status(const struct cmd *cmd, const json_t *json)
{
	const json_t *node = json_object_get(json, "node");
	const json_t *store = json_object_get(json, "data_store");
	const char *reason = client_json_string(node, "unavailable_reason");
	char line[256];

	cmd_print_row("node", cmd->client->node_url);
	cmd_print_row("wallet", client_json_string(node, "tee_wallet"));
	if (json_is_true(json_object_get(node, "service_available")))
		snprintf(line, sizeof(line), "yes");
	else
		snprintf(line, sizeof(line), "no: %s",
		    reason != NULL ? reason : "no reason given");
	cmd_print_row("serves", line);
	cmd_print_row("secret",
	    client_json_string(
		json_object_get(node, "master_secret"), "state"));
	snprintf(line, sizeof(line), "%lld keys of %lld apps, %lld bytes%s",
	    integer_of(store, "total_keys"), integer_of(store, "namespaces"),
	    integer_of(store, "total_bytes"),
	    json_is_false(json_object_get(store, "complete"))
		? ", still filling"
		: "");
	cmd_print_row("store", line);
	cmd_print_last_holder(json_object_get(json, "last_holder"));
}

static void
print_registry(const struct kms_client_node *node, const char *reason)
{
	char line[128];

	if (reason != NULL) {
		cmd_print_row("registry", reason);
		return;
	}
	snprintf(line, sizeof(line),
	    "confirmed: instance %llu of app %llu, version %llu",
	    (unsigned long long)node->instance_id,
	    (unsigned long long)node->app_id,
	    (unsigned long long)node->version_id);
	cmd_print_row("registry", line);
}

static json_t *
registry_json(const struct kms_client_node *node, const char *reason)
{
	if (reason != NULL)
		return json_pack(
		    "{s:b, s:s}", "confirmed", 0, "reason", reason);
	return json_pack("{s:b, s:s, s:I, s:I, s:I}", "confirmed", 1, "wallet",
	    node->wallet, "instance_id", (json_int_t)node->instance_id,
	    "app_id", (json_int_t)node->app_id, "version_id",
	    (json_int_t)node->version_id);
}

int
cmd_status(struct cmd *cmd, int argc, char **argv)
{
	struct kms_client_node node;
	const char *reason;
	json_t *json;
	char *text;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "status");
	if ((rc = kms_client_status(cmd->client, &text)) != 0)
		return cmd_client_fail(cmd, rc);
	json = object_of(text);
	free(text);
	if (json == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	rc = kms_client_confirm(cmd->client, &node);
	reason = rc == 0 ? NULL : kms_client_reason(cmd->client);
	if (cmd->json) {
		json_object_set_new(
		    json, "registry", registry_json(&node, reason));
		return cmd_print_json(cmd, json);
	}
	print_status(cmd, json);
	print_registry(&node, reason);
	client_json_free(json);
	return KMS_CLIENT_OK;
}

static void
print_operator(const json_t *row)
{
	const json_t *instance = json_object_get(row, "instance");
	const json_t *connection = json_object_get(row, "connection");
	const char *status = client_json_string(
	    json_object_get(instance, "instance_status"), "name");
	const char *url = client_json_string(instance, "instance_url");
	char line[512];

	snprintf(line, sizeof(line), "%s  %s  %s",
	    status != NULL ? status : "?",
	    json_is_true(
		json_object_get(connection, "status_endpoint_reachable"))
		? "reachable"
		: "not seen",
	    url != NULL ? url : "?");
	cmd_print_row(client_json_string(row, "operator") != NULL
		? client_json_string(row, "operator")
		: "?",
	    "");
	cmd_print_row("", line);
}

int
cmd_nodes(struct cmd *cmd, int argc, char **argv)
{
	const json_t *rows;
	json_t *json;
	char *text;
	size_t i;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "nodes");
	if ((rc = kms_client_nodes(cmd->client, &text)) != 0)
		return cmd_client_fail(cmd, rc);
	json = object_of(text);
	free(text);
	if (json == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	if (cmd->json)
		return cmd_print_json(cmd, json);
	rows = json_object_get(json, "operators");
	for (i = 0; i < json_array_size(rows); i++)
		print_operator(json_array_get(rows, i));
	client_json_free(json);
	return KMS_CLIENT_OK;
}

/* 0 or 1, as a shell's condition wants it; 4 when nobody answers. */
int
cmd_ready(struct cmd *cmd, int argc, char **argv)
{
	char *text;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "ready");
	rc = kms_client_ready(cmd->client, &text);
	if (text == NULL)
		return cmd_client_fail(cmd, rc);
	if (cmd->json)
		cmd_print_json(cmd, object_of(text));
	else if (rc == 0)
		puts("ready");
	free(text);
	return rc == 0 ? 0 : cmd_client_fail(cmd, 1);
}

int
cmd_nonce(struct cmd *cmd, int argc, char **argv)
{
	char *nonce;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "nonce");
	if ((rc = kms_client_nonce(cmd->client, &nonce)) != 0)
		return cmd_client_fail(cmd, rc);
	if (cmd->json)
		rc = cmd_print_json(cmd, json_pack("{s:s}", "nonce", nonce));
	else
		puts(nonce);
	free(nonce);
	return rc;
}
