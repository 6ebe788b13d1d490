/* derive and kv: what an app does. */
#include "kmsctl/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"

#define PAGE_KEYS 500 /* of a listing; a page fits an answer in any case */

static json_t *
bytes_json(const uint8_t *data, size_t len, enum cmd_form form)
{
	char *text = cmd_text(data, len, form);
	json_t *json = text != NULL ? json_string(text) : NULL;

	cmd_text_free(text);
	return json;
}

static int
print_form(struct cmd *cmd, const uint8_t *data, size_t len, enum cmd_form form)
{
	char *text;
	int rc;

	if (form == CMD_FORM_RAW)
		return cmd_print_bytes(cmd, data, len);
	text = cmd_text(data, len, form);
	if (text == NULL)
		return cmd_fail(cmd, KMS_CLIENT_USAGE, "out of memory");
	rc = cmd_print_bytes(cmd, text, strlen(text));
	if (rc == 0)
		rc = cmd_print_bytes(cmd, "\n", 1);
	cmd_text_free(text);
	return rc;
}

/* ---- derive ---- */

static int
derive_print(struct cmd *cmd, const char *path, const char *context,
    const uint8_t *key, size_t length, enum cmd_form form)
{
	if (!cmd->json)
		return print_form(
		    cmd, key, length, form != 0 ? form : CMD_FORM_HEX);
	return cmd_print_json(cmd,
	    json_pack("{s:I, s:s, s:s, s:i, s:o}", "app_id",
		(json_int_t)kms_client_app_id(cmd->client), "path", path,
		"context", context != NULL ? context : "", "length",
		(int)length, "key",
		bytes_json(key, length,
		    form == CMD_FORM_HEX ? CMD_FORM_HEX : CMD_FORM_BASE64)));
}

int
cmd_derive(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "context", required_argument, NULL, 'c' },
		{ "length", required_argument, NULL, 'l' },
		{ "hex", no_argument, NULL, 'x' },
		{ "base64", no_argument, NULL, 'b' },
		{ "raw", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "derive [--context C] [--length 1..1024] "
				    "[--hex | --base64 | --raw] PATH";
	uint8_t key[KMS_CLIENT_DERIVE_MAX];
	const char *context = NULL;
	enum cmd_form form = CMD_FORM_NONE;
	uint64_t length = 32;
	int c, rc;

	while ((c = getopt_long(argc, argv, "c:l:", longs, NULL)) != -1) {
		if (c == 'c')
			context = optarg;
		else if (c == 'l' &&
		    cmd_number_parse(optarg, 1, sizeof(key), &length) == 0)
			continue;
		else if (cmd_form(c) != CMD_FORM_NONE)
			form = cmd_form(c);
		else
			return cmd_usage(cmd, usage);
	}
	if (optind + 1 != argc)
		return cmd_usage(cmd, usage);
	rc = kms_client_derive(
	    cmd->client, argv[optind], context, key, (size_t)length);
	if (rc != 0)
		return cmd_client_fail(cmd, rc);
	rc =
	    derive_print(cmd, argv[optind], context, key, (size_t)length, form);
	OPENSSL_cleanse(key, sizeof(key));
	return rc;
}

/* ---- kv put ---- */

/* A file's bytes ("-": stdin), at most what a value may be. */
static int
value_read(const struct cmd *cmd, const char *file, struct buf *value)
{
	bool is_stdin = strcmp(file, "-") == 0;
	uint8_t *space;
	ssize_t n = -1;
	int fd;

	fd = is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && buf_reserve(value, 65536, &space) == 0) {
		n = read(fd, space, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_commit(value, (size_t)n);
	}
	if (fd >= 0 && !is_stdin)
		close(fd);
	if (n < 0)
		return cmd_fail(
		    cmd, KMS_CLIENT_USAGE, "%s: %s", file, strerror(errno));
	if (n > 0)
		return cmd_fail(cmd, KMS_CLIENT_USAGE,
		    "%s: larger than a value may be (1572864 bytes)", file);
	return 0;
}

static int
write_print(
    struct cmd *cmd, const char *key, const struct kms_client_write *result)
{
	if (!result->replicas_met)
		fprintf(stderr, "kmsctl: kept, but only %lld replicas so far\n",
		    (long long)result->replicas);
	if (!cmd->json)
		return KMS_CLIENT_OK;
	return cmd_print_json(cmd,
	    json_pack("{s:I, s:s, s:I, s:I, s:b}", "app_id",
		(json_int_t)kms_client_app_id(cmd->client), "key", key,
		"updated_at_ms", (json_int_t)result->updated_at_ms, "replicas",
		(json_int_t)result->replicas, "replicas_met",
		(int)result->replicas_met));
}

static int
kv_put(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "ttl", required_argument, NULL, 't' },
		{ "min-replicas", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "kv put [--ttl 10m] [--min-replicas N] KEY "
				    "[VALUE | --file FILE]";
	struct kms_client_write result;
	const char *file = NULL;
	uint64_t replicas = 0;
	int64_t ttl = -1;
	struct buf value;
	int c, rc;

	while ((c = getopt_long(argc, argv, "f:t:n:", longs, NULL)) != -1) {
		if (c == 'f')
			file = optarg;
		else if ((c != 't' || cmd_duration_parse(optarg, &ttl) != 0) &&
		    (c != 'n' ||
			cmd_number_parse(optarg, 0, 1000000, &replicas) != 0))
			return cmd_usage(cmd, usage);
	}
	if (argc - optind < 1 || argc - optind > (file != NULL ? 1 : 2))
		return cmd_usage(cmd, usage);
	/* reads come in whole blocks: room for the last one's end */
	buf_init(&value, KMS_CLIENT_VALUE_MAX + 65536);
	if (argc - optind == 2)
		rc = buf_append_text(&value, argv[optind + 1]) == 0
		    ? 0
		    : cmd_fail(cmd, KMS_CLIENT_USAGE, "the value is too long");
	else
		rc = value_read(cmd, file != NULL ? file : "-", &value);
	if (rc == 0) {
		rc = kms_client_put(cmd->client, argv[optind], value.data,
		    value.len, ttl, (unsigned int)replicas, &result);
		rc = rc == 0 ? write_print(cmd, argv[optind], &result)
			     : cmd_client_fail(cmd, rc);
	}
	buf_free(&value);
	return rc;
}

/* ---- kv get, ls, rm ---- */

static int
value_print(struct cmd *cmd, const char *key,
    const struct kms_client_value *value, enum cmd_form form)
{
	int rc;

	if (cmd->json)
		return cmd_print_json(cmd,
		    json_pack("{s:I, s:s, s:o, s:I}", "app_id",
			(json_int_t)kms_client_app_id(cmd->client), "key", key,
			"value",
			bytes_json(value->data, value->len,
			    form == CMD_FORM_HEX ? form : CMD_FORM_BASE64),
			"updated_at_ms", (json_int_t)value->updated_at_ms));
	if (form != CMD_FORM_NONE || !isatty(STDOUT_FILENO))
		return print_form(cmd, value->data, value->len,
		    form != 0 ? form : CMD_FORM_RAW);
	if (!cmd_is_text(value->data, value->len))
		return cmd_fail(cmd, KMS_CLIENT_USAGE,
		    "the value is %zu bytes that are no text for a terminal: "
		    "say --hex or --base64, or redirect",
		    value->len);
	rc = cmd_print_bytes(cmd, value->data, value->len);
	return rc == 0 ? cmd_print_bytes(cmd, "\n", 1) : rc;
}

static int
kv_get(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "hex", no_argument, NULL, 'x' },
		{ "base64", no_argument, NULL, 'b' },
		{ "raw", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "kv get [--hex | --base64 | --raw] KEY";
	struct kms_client_value value;
	enum cmd_form form = CMD_FORM_NONE;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		form = cmd_form(c);
		if (form == CMD_FORM_NONE)
			return cmd_usage(cmd, usage);
	}
	if (optind + 1 != argc)
		return cmd_usage(cmd, usage);
	rc = kms_client_get(cmd->client, argv[optind], &value);
	if (rc == 0)
		rc = value_print(cmd, argv[optind], &value, form);
	else
		cmd_client_fail(cmd, rc);
	kms_client_value_free(&value);
	return rc;
}

/* A key is whoever's words; what a terminal might obey is shown as JSON. */
static void
key_print(const char *key)
{
	json_t *json;
	char *text;

	if (strpbrk(key, "\t\n") == NULL &&
	    cmd_is_text((const uint8_t *)key, strlen(key))) {
		puts(key);
		return;
	}
	json = json_string(key);
	text = json_dumps(json, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
	puts(text != NULL ? text : "(a key that is no text)");
	json_decref(json);
	free(text);
}

/* A page of keys, printed or gathered. */
static void
keys_show(const struct kms_client_keys *keys, json_t *gathered)
{
	size_t i;

	for (i = 0; i < keys->count; i++) {
		if (gathered != NULL)
			json_array_append_new(
			    gathered, json_string(keys->keys[i]));
		else
			key_print(keys->keys[i]);
	}
}

/* Pages until one is empty, since a node may give fewer than it was asked. */
static int
keys_walk(struct cmd *cmd, const char *prefix, const char *after,
    uint64_t limit, json_t *gathered)
{
	struct kms_client_keys keys = { 0 }, last = { 0 };
	unsigned int page;
	int rc = 0;

	while (limit > 0) {
		page = limit < PAGE_KEYS ? (unsigned int)limit : PAGE_KEYS;
		rc = kms_client_list(cmd->client, prefix, after, page, &keys);
		kms_client_keys_free(&last);
		if (rc != 0 || keys.count == 0)
			break;
		keys_show(&keys, gathered);
		limit -= keys.count;
		after = keys.keys[keys.count - 1];
		last = keys;
	}
	kms_client_keys_free(&last);
	return rc == 0 ? 0 : cmd_client_fail(cmd, rc);
}

static int
kv_ls(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "limit", required_argument, NULL, 'l' },
		{ "after", required_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "kv ls [--limit N] [--after KEY] [PREFIX]";
	const char *after = NULL, *prefix = NULL;
	uint64_t limit = UINT64_MAX;
	json_t *gathered = NULL;
	int c, rc;

	while ((c = getopt_long(argc, argv, "l:a:", longs, NULL)) != -1) {
		if (c == 'a')
			after = optarg;
		else if (c != 'l' ||
		    cmd_number_parse(optarg, 1, UINT64_MAX, &limit) != 0)
			return cmd_usage(cmd, usage);
	}
	if (argc - optind > 1)
		return cmd_usage(cmd, usage);
	if (argc - optind == 1)
		prefix = argv[optind];
	if (cmd->json)
		gathered = json_array();
	rc = keys_walk(cmd, prefix, after, limit, gathered);
	if (rc != 0 || gathered == NULL) {
		json_decref(gathered);
		return rc;
	}
	return cmd_print_json(cmd,
	    json_pack("{s:I, s:i, s:o}", "app_id",
		(json_int_t)kms_client_app_id(cmd->client), "count",
		(int)json_array_size(gathered), "keys", gathered));
}

static int
kv_rm(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "min-replicas", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	static const char usage[] = "kv rm [--min-replicas N] KEY";
	struct kms_client_write result;
	uint64_t replicas = 0;
	int c, rc;

	while ((c = getopt_long(argc, argv, "n:", longs, NULL)) != -1)
		if (c != 'n' ||
		    cmd_number_parse(optarg, 0, 1000000, &replicas) != 0)
			return cmd_usage(cmd, usage);
	if (optind + 1 != argc)
		return cmd_usage(cmd, usage);
	rc = kms_client_delete(
	    cmd->client, argv[optind], (unsigned int)replicas, &result);
	return rc == 0 ? write_print(cmd, argv[optind], &result)
		       : cmd_client_fail(cmd, rc);
}

int
cmd_kv(struct cmd *cmd, int argc, char **argv)
{
	static const struct {
		const char *name;
		cmd_fn run;
	} rows[] = { { "put", kv_put }, { "get", kv_get }, { "ls", kv_ls },
		{ "rm", kv_rm } };
	size_t i;

	for (i = 0; argc > 1 && i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(argv[1], rows[i].name) == 0)
			return rows[i].run(cmd, argc - 1, argv + 1);
	return cmd_usage(cmd, "kv put|get|ls|rm ...");
}
