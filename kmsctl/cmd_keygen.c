#include "kmsctl/cmd.h"

#include <getopt.h>
#include <stdio.h>

int
cmd_keygen(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "out", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "keygen [--out FILE]";
	char wallet[KMS_CLIENT_WALLET_LEN + 1], reason[KMS_CLIENT_REASON_LEN];
	const char *file = "kms-identity.json";
	int c, rc;

	while ((c = getopt_long(argc, argv, "+o:", longs, NULL)) != -1) {
		if (c != 'o')
			return cmd_usage(cmd, usage);
		file = optarg;
	}
	if (optind != argc)
		return cmd_usage(cmd, usage);
	if ((rc = kms_client_keygen(file, wallet, reason)) != 0)
		return cmd_fail(cmd, rc, "%s", reason);
	if (cmd->json)
		return cmd_print_json(cmd,
		    json_pack("{s:s, s:s}", "wallet", wallet, "file", file));
	printf("%s  %s\n", wallet, file);
	return KMS_CLIENT_OK;
}
