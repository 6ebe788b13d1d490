#include "kmsctl/cmd.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmsctl/client.h"

static void
say(const struct cmd *cmd, int status, const char *text)
{
	json_t *json;
	char *line;

	if (!cmd->json) {
		fprintf(stderr, "kmsctl: %s\n", text);
		return;
	}
	json = json_pack("{s:s, s:i}", "error", text, "exit", status);
	line = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	fprintf(stderr, "%s\n", line != NULL ? line : "{}");
	free(line);
	json_decref(json);
}

int
cmd_fail(const struct cmd *cmd, int status, const char *format, ...)
{
	char text[KMS_CLIENT_REASON_LEN];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(cmd, status, text);
	return status;
}

int
cmd_client_fail(const struct cmd *cmd, int status)
{
	say(cmd, status, kms_client_reason(cmd->client));
	return status;
}

int
cmd_usage(const struct cmd *cmd, const char *usage)
{
	return cmd_fail(cmd, KMS_CLIENT_USAGE, "usage: kmsctl %s", usage);
}

int
cmd_print_bytes(const struct cmd *cmd, const void *data, size_t len)
{
	if ((len > 0 && fwrite(data, 1, len, stdout) != len) ||
	    fflush(stdout) != 0)
		return cmd_fail(
		    cmd, KMS_CLIENT_USAGE, "stdout: %s", strerror(errno));
	return KMS_CLIENT_OK;
}

int
cmd_print_json(const struct cmd *cmd, json_t *json)
{
	size_t len;
	char *text;
	int rc;

	text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	client_json_free(json);
	if (text == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	len = strlen(text);
	text[len] = '\n'; /* the place of the NUL, which fwrite needs not */
	rc = cmd_print_bytes(cmd, text, len + 1);
	OPENSSL_cleanse(text, len);
	free(text);
	return rc;
}

void
cmd_print_row(const char *name, const char *text)
{
	printf("%-12s", name);
	for (; text != NULL && *text != '\0'; text++)
		putchar(*text < 0x20 || *text > 0x7e ? '?' : *text);
	putchar('\n');
}

void
cmd_print_last_holder(const json_t *last_holder)
{
	if (json_is_true(json_object_get(last_holder, "secret")))
		cmd_print_row("WARNING",
		    "no peer shows that it holds the master secret: it would "
		    "be lost with this node");
	if (json_is_true(json_object_get(last_holder, "data")))
		cmd_print_row("WARNING",
		    "no peer has everything that is stored here: it would be "
		    "lost with this node");
}
