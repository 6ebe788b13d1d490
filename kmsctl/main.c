/* kmsctl: the operator's and apps' client on libkmsclient. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/secmem.h"
#include "kmsctl/cmd.h"

static const struct command {
	const char *name;
	cmd_fn run;
	enum { NO_CLIENT, NO_IDENTITY, IDENTITY } needs;
	const char *help;
} commands[] = {
	{ "status", cmd_status, NO_IDENTITY, "what a node says of itself" },
	{ "nodes", cmd_nodes, NO_IDENTITY, "the nodes that it knows" },
	{ "ready", cmd_ready, NO_IDENTITY, "exit 0 when it serves, else 1" },
	{ "nonce", cmd_nonce, NO_IDENTITY, "a nonce" },
	{ "chain", cmd_chain, NO_IDENTITY, "what the chain says of it" },
	{ "cluster", cmd_cluster, NO_CLIENT, "its peers, by control-socket" },
	{ "processes", cmd_processes, NO_CLIENT,
	    "its processes, by control-socket" },
	{ "drain", cmd_drain, NO_CLIENT, "stop it, by control-socket" },
	{ "keygen", cmd_keygen, NO_CLIENT, "make an identity file" },
	{ "sim", cmd_sim, IDENTITY, "register with the simulated chain" },
	{ "derive", cmd_derive, IDENTITY, "derive a key" },
	{ "top", cmd_top, NO_CLIENT, "a node, live" },
	{ "audit", cmd_audit, NO_CLIENT, "verify an audit trail" },
	{ "kv", cmd_kv, IDENTITY, "put, get, ls and rm values" },
};

static void
help(FILE *out)
{
	size_t i;

	fputs("usage: kmsctl [--node URL] [--rpc URL] [--identity FILE] "
	      "[--control SOCKET]\n              [--json] COMMAND ...\n\n",
	    out);
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
	fputs("\nkmsctl(1) has the rest.\n", out);
}

/* Derived keys and values pass through: no dump, no debugger, wiped heaps. */
static int
harden(void)
{
	const struct rlimit none = { 0, 0 };

	if (secmem_wipe_heaps() != 0)
		return -1;
	json_set_alloc_funcs(secmem_wiping_malloc, secmem_wiping_free);
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* Only what is set and not empty. */
static const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* ./kms-identity.json, else ~/.config/kms/identity.json, else none. */
static const char *
identity_find(char path[4096])
{
	const char *home = environment("HOME");

	if (access("kms-identity.json", F_OK) == 0)
		return "kms-identity.json";
	if (home == NULL ||
	    snprintf(path, 4096, "%s/.config/kms/identity.json", home) >= 4096)
		return NULL;
	return access(path, F_OK) == 0 ? path : NULL;
}

static void
options_default(struct kms_client_options *options)
{
	options->node_url = environment("KMS_NODE");
	options->rpc_url = environment("KMS_RPC");
	options->identity_file = environment("KMS_IDENTITY");
	options->nova_app_registry = environment("KMS_NOVA_APP_REGISTRY");
	options->kms_registry = environment("KMS_REGISTRY");
}

/* Options in front of the command. 0, or 1 after help was printed, or -1. */
static int
options_parse(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "node", required_argument, NULL, 'n' },
		{ "rpc", required_argument, NULL, 'r' },
		{ "identity", required_argument, NULL, 'i' },
		{ "nova-app-registry", required_argument, NULL, 'A' },
		{ "kms-registry", required_argument, NULL, 'K' },
		{ "control", required_argument, NULL, 'S' },
		{ "any-url", no_argument, NULL, 'U' },
		{ "timeout", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct kms_client_options *options = &cmd->options;
	int64_t ms;
	int c;

	while (
	    (c = getopt_long(argc, argv, "+n:r:i:S:jh", longs, NULL)) != -1) {
		if (c == 'n')
			options->node_url = optarg;
		else if (c == 'r')
			options->rpc_url = optarg;
		else if (c == 'i')
			options->identity_file = optarg;
		else if (c == 'A')
			options->nova_app_registry = optarg;
		else if (c == 'K')
			options->kms_registry = optarg;
		else if (c == 'U')
			options->any_url = true;
		else if (c == 'S')
			cmd->control = optarg;
		else if (c == 'j')
			cmd->json = true;
		else if (c == 't' && cmd_duration_parse(optarg, &ms) == 0 &&
		    ms > 0 && ms <= 3600000)
			options->timeout_ms = (long)ms;
		else
			return c == 'h' ? 1 : -1;
	}
	return optind < argc ? 0 : -1;
}

static const struct command *
command_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int
command_run(
    struct cmd *cmd, const struct command *command, int argc, char **argv)
{
	char reason[KMS_CLIENT_REASON_LEN], path[4096];
	int rc;

	optind = 0; /* each command has options of its own */
	if (command->needs == NO_CLIENT)
		return command->run(cmd, argc, argv);
	if (command->needs == NO_IDENTITY)
		cmd->options.identity_file = NULL;
	else if (cmd->options.identity_file == NULL)
		cmd->options.identity_file = identity_find(path);
	rc = kms_client_open(&cmd->options, &cmd->client, reason);
	if (rc != 0)
		return cmd_fail(cmd, rc, "%s", reason);
	rc = command->run(cmd, argc, argv);
	kms_client_close(cmd->client);
	return rc;
}

int
main(int argc, char **argv)
{
	const struct command *command;
	struct cmd cmd = { 0 };
	int rc;

	if (harden() != 0) {
		fputs("kmsctl: memory cannot be protected\n", stderr);
		return KMS_CLIENT_USAGE;
	}
	options_default(&cmd.options);
	cmd.control = environment("KMS_CONTROL");
	rc = options_parse(&cmd, argc, argv);
	if (rc != 0) {
		help(rc > 0 ? stdout : stderr);
		return rc > 0 ? KMS_CLIENT_OK : KMS_CLIENT_USAGE;
	}
	command = command_find(argv[optind]);
	if (command == NULL) {
		rc = cmd_fail(&cmd, KMS_CLIENT_USAGE,
		    "there is no command %s; kmsctl --help lists them",
		    argv[optind]);
		return rc;
	}
	rc = command_run(&cmd, command, argc - optind, argv + optind);
	if (fflush(stdout) != 0 && rc == 0)
		rc = KMS_CLIENT_USAGE;
	return rc;
}
