/* kmsctl audit verify: is this trail whole, and who signed it? */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "common/err.h"
#include "crypto/crypto.h"
#include "kmsctl/audit_verify.h"
#include "kmsctl/cmd.h"

static const char usage[] = "audit verify [--wallet ADDRESS] FILE ...";

/* Lines are bounded: what is longer is not read on. 1 a line, 0 the end,
 * -1 errno, -2 no newline at its end or too long. */
static int
next_line(FILE *file, char line[AUDIT_VERIFY_LINE_MAX + 2], size_t *len)
{
	int c;

	*len = 0;
	while ((c = getc(file)) != EOF && c != '\n') {
		if (*len > AUDIT_VERIFY_LINE_MAX)
			return -2;
		line[(*len)++] = (char)c;
	}
	if (c == '\n')
		return 1;
	if (ferror(file))
		return -1;
	return *len > 0 ? -2 : 0;
}

static int
verify_lines(const struct cmd *cmd, struct audit_verifier *verifier,
    const char *name, FILE *file)
{
	char line[AUDIT_VERIFY_LINE_MAX + 2], reason[AUDIT_VERIFY_REASON_LEN];
	unsigned long long number = 0;
	size_t len;
	int got, error;

	while ((got = next_line(file, line, &len)) == 1) {
		number++;
		error = audit_verifier_line(verifier, line, len, reason);
		if (error == KMS_EINVAL)
			return cmd_fail(cmd, KMS_CLIENT_UNVERIFIED,
			    "%s:%llu: %s", name, number, reason);
		if (error != 0)
			return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	}
	if (got == -1)
		return cmd_fail(
		    cmd, KMS_CLIENT_USAGE, "%s: %s", name, strerror(errno));
	if (got == -2)
		return cmd_fail(cmd, KMS_CLIENT_UNVERIFIED,
		    "%s:%llu: expected a line of at most %d bytes", name,
		    number + 1, AUDIT_VERIFY_LINE_MAX);
	return KMS_CLIENT_OK;
}

static int
verify_file(
    const struct cmd *cmd, struct audit_verifier *verifier, const char *name)
{
	FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	int rc;

	if (file == NULL)
		return cmd_fail(
		    cmd, KMS_CLIENT_USAGE, "%s: %s", name, strerror(errno));
	rc = verify_lines(cmd, verifier, name, file);
	if (file != stdin)
		(void)fclose(file);
	return rc;
}

static int
print_summary(const struct cmd *cmd, const struct audit_summary *s)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], line[160], when[32] = "";
	time_t seconds = (time_t)s->signed_time;
	struct tm tm;

	eth_address_format(&s->wallet, wallet);
	if (cmd->json)
		return cmd_print_json(cmd,
		    json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:I,s:I}", "lines",
			(json_int_t)s->lines, "first", (json_int_t)s->first,
			"last", (json_int_t)s->last, "lost",
			(json_int_t)s->lost, "starts", (json_int_t)s->starts,
			"heads", (json_int_t)s->heads, "wallet", wallet,
			"signed_seq", (json_int_t)s->signed_seq, "signed_time",
			(json_int_t)s->signed_time));
	if (gmtime_r(&seconds, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(line, sizeof(line),
	    "%" PRIu64 ", %" PRIu64 " to %" PRIu64 ", %" PRIu64 " starts",
	    s->lines, s->first, s->last, s->starts);
	cmd_print_row("lines", line);
	snprintf(line, sizeof(line),
	    "%" PRIu64 " decisions in %" PRIu64 " gaps", s->lost, s->gaps);
	cmd_print_row("lost", s->lost > 0 ? line : "none");
	snprintf(line, sizeof(line),
	    "%" PRIu64 " heads, the last over line %" PRIu64 " by %s at %s",
	    s->heads, s->signed_seq, wallet, when);
	cmd_print_row("signed", line);
	snprintf(line, sizeof(line), "%" PRIu64 " lines behind that",
	    s->last - s->signed_seq);
	cmd_print_row("unsigned", line);
	return KMS_CLIENT_OK;
}

static int
verify_files(struct cmd *cmd, const struct wallet_context *wallets,
    const struct eth_address *wallet, int count, char **names)
{
	struct audit_verifier *verifier = audit_verifier_new(wallets, wallet);
	const struct audit_summary *summary;
	int rc = KMS_CLIENT_OK;

	if (verifier == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	for (int i = 0; rc == KMS_CLIENT_OK && i < count; i++)
		rc = verify_file(cmd, verifier, names[i]);
	summary = audit_verifier_summary(verifier);
	if (rc == KMS_CLIENT_OK && summary->heads == 0)
		rc = cmd_fail(cmd, KMS_CLIENT_UNVERIFIED,
		    "the chain of %" PRIu64 " lines is whole, but nobody has "
		    "signed any of them",
		    summary->lines);
	if (rc == KMS_CLIENT_OK)
		rc = print_summary(cmd, summary);
	audit_verifier_free(verifier);
	return rc;
}

int
cmd_audit(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "wallet", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	struct eth_address address, *wallet = NULL;
	struct wallet_context *wallets;
	uint8_t seed[32];
	int c, rc;

	if (argc < 2 || strcmp(argv[1], "verify") != 0)
		return cmd_usage(cmd, usage);
	optind = 2;
	while ((c = getopt_long(argc, argv, "+w:", longs, NULL)) != -1) {
		if (c != 'w' ||
		    eth_address_parse(optarg, strlen(optarg), &address) != 0)
			return cmd_usage(cmd, usage);
		wallet = &address;
	}
	if (optind == argc)
		return cmd_usage(cmd, usage);
	if (crypto_init() != 0 || RAND_bytes(seed, sizeof(seed)) != 1)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "no cryptography");
	wallets = wallet_context_new(seed);
	if (wallets == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	rc = verify_files(cmd, wallets, wallet, argc - optind, argv + optind);
	wallet_context_free(wallets);
	return rc;
}
