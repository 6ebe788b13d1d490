/* Private to kmsctl, the program: its commands and what they share. */
#ifndef KMSCTL_CMD_H
#define KMSCTL_CMD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kmsctl/kmsclient.h"

struct cmd {
	struct kms_client_options options;
	struct kms_client *client; /* open, unless the command needs none */
	const char *control;	   /* path of kmsd's control-socket, or NULL */
	bool json;
};

/*
 * A command: argv[0] is its name. It returns the exit status (enum
 * kms_client_result) after it has said on stderr what went wrong.
 */
typedef int (*cmd_fn)(struct cmd *cmd, int argc, char **argv);

int cmd_status(struct cmd *cmd, int argc, char **argv);
int cmd_nodes(struct cmd *cmd, int argc, char **argv);
int cmd_ready(struct cmd *cmd, int argc, char **argv);
int cmd_nonce(struct cmd *cmd, int argc, char **argv);
int cmd_chain(struct cmd *cmd, int argc, char **argv);
int cmd_cluster(struct cmd *cmd, int argc, char **argv);
int cmd_processes(struct cmd *cmd, int argc, char **argv);
int cmd_drain(struct cmd *cmd, int argc, char **argv);
int cmd_keygen(struct cmd *cmd, int argc, char **argv);
int cmd_sim(struct cmd *cmd, int argc, char **argv);
int cmd_derive(struct cmd *cmd, int argc, char **argv);
int cmd_kv(struct cmd *cmd, int argc, char **argv);
int cmd_top(struct cmd *cmd, int argc, char **argv);
int cmd_audit(struct cmd *cmd, int argc, char **argv);

/* ---- cmd_parse.c (pure) ---- */

/* Decimal digits, min..max. KMS_EINVAL. */
int cmd_number_parse(
    const char *text, uint64_t min, uint64_t max, uint64_t *value);

/*
 * A duration in milliseconds: digits and ms, s, m, h or d ("10m"), or "0".
 * KMS_EINVAL, also beyond KMS_CLIENT_TTL_MAX.
 */
int cmd_duration_parse(const char *text, int64_t *ms);

/* 1 when data is UTF-8 text without control characters but TAB and LF. */
int cmd_is_text(const uint8_t *data, size_t len);

/* How bytes are shown. */
enum cmd_form { CMD_FORM_NONE, CMD_FORM_HEX, CMD_FORM_BASE64, CMD_FORM_RAW };

/* The form that an option's letter names. */
enum cmd_form cmd_form(int option);

/* Bytes as NUL-terminated hex or base64; wiped and freed by cmd_text_free. */
char *cmd_text(const uint8_t *data, size_t len, enum cmd_form form);
void cmd_text_free(char *text);

/* ---- cmd_print.c ---- */

/* Say what is wrong (with --json as an object) and return status. */
int cmd_fail(const struct cmd *cmd, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with what the client says about its last call. */
int cmd_client_fail(const struct cmd *cmd, int status);

/* A usage error: what is expected. */
int cmd_usage(const struct cmd *cmd, const char *usage);

/* One JSON object on a line of stdout; json is wiped and dropped. */
int cmd_print_json(const struct cmd *cmd, json_t *json);

/* "name        text", with everything unprintable in text as '?'. */
void cmd_print_row(const char *name, const char *text);

/* Warn when a node says {"secret":…,"data":…}, of which it is the last holder;
 * NULL: an older node, which says nothing. */
void cmd_print_last_holder(const json_t *last_holder);

/* All bytes to stdout, flushed. */
int cmd_print_bytes(const struct cmd *cmd, const void *data, size_t len);

#endif
