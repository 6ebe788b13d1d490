/* What the operator asks of a kmsd on this machine, by its control socket. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "kmsctl/client.h"
#include "kmsctl/cmd.h"

#define ANSWER_MAX (4u << 20)
#define TIMEOUT_S 35
/* Above drain-timeout at its longest. */
#define DRAIN_TIMEOUT_S 310

static int
control_connect(const struct cmd *cmd, long timeout_s, int *fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = timeout_s };
	const char *path = cmd->control;

	if (path == NULL || strlen(path) >= sizeof(address.sun_path))
		return cmd_fail(cmd, KMS_CLIENT_USAGE,
		    "expected --control or KMS_CONTROL: the path that "
		    "control-socket names in kmsd.conf");
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd >= 0 &&
	    setsockopt(
		*fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
	    connect(*fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	(void)cmd_fail(cmd, KMS_CLIENT_UNAVAILABLE, "%s: %s%s", path,
	    strerror(errno),
	    errno == EACCES ? "; only root and kmsd's own user may open it"
			    : "");
	if (*fd >= 0)
		(void)close(*fd);
	return KMS_CLIENT_UNAVAILABLE;
}

static int
read_all(int fd, struct buf *out)
{
	uint8_t *space;
	ssize_t got;

	do {
		if (buf_reserve(out, 65536, &space) != 0)
			return -1;
		got = read(fd, space, 65536);
		if (got > 0)
			buf_commit(out, (size_t)got);
	} while (got > 0 || (got < 0 && errno == EINTR));
	return (int)got;
}

/* One question, its answer as an object. The exit status; 0: *json is set. */
static int
control_ask(
    struct cmd *cmd, const char *question, long timeout_s, json_t **json)
{
	char line[64];
	struct buf answer;
	int fd = -1, rc, len;

	rc = control_connect(cmd, timeout_s, &fd);
	if (rc != 0)
		return rc;
	buf_init(&answer, ANSWER_MAX + 65536);
	len = snprintf(line, sizeof(line), "%s\n", question);
	if (write(fd, line, (size_t)len) != len || read_all(fd, &answer) != 0)
		rc = cmd_fail(cmd, KMS_CLIENT_UNAVAILABLE,
		    "%s: expected an answer, got none: %s", cmd->control,
		    strerror(errno));
	else if (client_json_parse(answer.data, answer.len, json) != 0)
		rc = cmd_fail(cmd, KMS_CLIENT_UNAVAILABLE,
		    "%s: expected a JSON object, got something else",
		    cmd->control);
	(void)close(fd);
	buf_free(&answer);
	if (rc == 0 && client_json_string(*json, "error") != NULL) {
		rc = cmd_fail(cmd, KMS_CLIENT_UNAVAILABLE, "%s",
		    client_json_string(*json, "error"));
		client_json_free(*json);
	}
	return rc;
}

static long long
number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static const char *
text(const json_t *object, const char *name)
{
	const char *value = client_json_string(object, name);

	return value != NULL ? value : "?";
}

static void
print_peer(const json_t *peer)
{
	long long ago = number(peer, "contact_ago_ms");
	char line[512], contact[32] = "never";

	cmd_print_row("peer", text(peer, "wallet"));
	cmd_print_row("  url", text(peer, "url"));
	if (ago >= 0)
		snprintf(
		    contact, sizeof(contact), "%.1f s ago", (double)ago / 1000);
	snprintf(line, sizeof(line), "%s, %s, last contact %s",
	    text(peer, "kind"),
	    json_is_true(json_object_get(peer, "dialled"))
		? "replicated to"
		: "not dialled: the chain shows it as invalid",
	    contact);
	cmd_print_row("  state", line);
	snprintf(line, sizeof(line),
	    "mark %lld, behind by %lld records and %.1f s%s",
	    number(peer, "mark"), number(peer, "lag_records"),
	    (double)number(peer, "lag_ms") / 1000,
	    json_is_true(json_object_get(peer, "level")) ? "" : ", comparing");
	cmd_print_row("  has", line);
	if (*text(peer, "last_error") != '\0')
		cmd_print_row("  error", text(peer, "last_error"));
}

int
cmd_cluster(struct cmd *cmd, int argc, char **argv)
{
	const json_t *peers;
	json_t *json;
	char line[128];
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "--control SOCKET cluster");
	rc = control_ask(cmd, "cluster", TIMEOUT_S, &json);
	if (rc != 0)
		return rc;
	if (cmd->json)
		return cmd_print_json(cmd, json);
	cmd_print_row("node", text(json, "wallet"));
	cmd_print_row("serves",
	    json_is_true(json_object_get(json, "ready"))
		? "yes"
		: text(json, "reason"));
	snprintf(line, sizeof(line), "%lld keys, change %lld",
	    number(json, "keys"), number(json, "sequence"));
	cmd_print_row("store", line);
	cmd_print_last_holder(json_object_get(json, "last_holder"));
	peers = json_object_get(json, "peers");
	if (json_array_size(peers) == 0)
		cmd_print_row("peers", "none");
	for (size_t i = 0; i < json_array_size(peers); i++)
		print_peer(json_array_get(peers, i));
	client_json_free(json);
	return KMS_CLIENT_OK;
}

/* ---- processes ----------------------------------------------------------- */

static void
print_process(const json_t *process)
{
	long long next = number(process, "next_start_ms");
	char line[256];

	snprintf(line, sizeof(line), "%s for %.1f s, process %lld",
	    text(process, "state"), (double)number(process, "up_ms") / 1000,
	    number(process, "pid"));
	if (next >= 0)
		snprintf(line, sizeof(line), "down, starts in %.1f s",
		    (double)next / 1000);
	cmd_print_row(text(process, "name"), line);
	if (number(process, "restarts") == 0 &&
	    *text(process, "last_end") == '\0')
		return;
	snprintf(line, sizeof(line), "%lld times, lately after %.1f s",
	    number(process, "restarts"),
	    (double)number(process, "delay_ms") / 1000);
	cmd_print_row("  started again", line);
	cmd_print_row("  because", text(process, "last_end"));
}

int
cmd_processes(struct cmd *cmd, int argc, char **argv)
{
	const json_t *processes;
	json_t *json;
	int rc;

	(void)argv;
	if (argc != 1)
		return cmd_usage(cmd, "--control SOCKET processes");
	rc = control_ask(cmd, "processes", TIMEOUT_S, &json);
	if (rc != 0)
		return rc;
	if (cmd->json)
		return cmd_print_json(cmd, json);
	cmd_print_row("node",
	    json_is_true(json_object_get(json, "draining")) ? "draining"
		: json_is_true(json_object_get(json, "ready"))
		? "serves"
		: "does not serve");
	processes = json_object_get(json, "processes");
	for (size_t i = 0; i < json_array_size(processes); i++)
		print_process(json_array_get(processes, i));
	client_json_free(json);
	return KMS_CLIENT_OK;
}

/* ---- drain --------------------------------------------------------------- */

static bool
is_true(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

/* Is there another who holds what is here? The peers are asked anew. */
static int
check_holders(struct cmd *cmd)
{
	json_t *json;
	int rc = control_ask(cmd, "holders", TIMEOUT_S, &json);

	if (rc != 0)
		return rc;
	if (is_true(json, "secret"))
		rc = cmd_fail(cmd, KMS_CLIENT_REFUSED,
		    "no peer shows that it holds the master secret: with this "
		    "node every derived key and every value would be lost. "
		    "--force drains it all the same");
	else if (is_true(json, "data"))
		rc = cmd_fail(cmd, KMS_CLIENT_REFUSED,
		    "no peer has everything that is stored here: with this "
		    "node the newest values would be lost. --force drains it "
		    "all the same");
	client_json_free(json);
	return rc;
}

static int
report_drain(struct cmd *cmd, json_t *json)
{
	bool flushed = is_true(json, "flushed");
	long long behind = number(json, "behind");

	if (flushed && cmd->json)
		return cmd_print_json(cmd, json);
	client_json_free(json);
	if (!flushed)
		return cmd_fail(cmd, KMS_CLIENT_UNAVAILABLE,
		    "the node stops with %lld changes that no peer has",
		    behind);
	cmd_print_row("drained", "no change is here that no peer has");
	return KMS_CLIENT_OK;
}

int
cmd_drain(struct cmd *cmd, int argc, char **argv)
{
	bool force = argc == 2 && strcmp(argv[1], "--force") == 0;
	json_t *json;
	int rc = 0;

	if (argc != 1 && !force)
		return cmd_usage(cmd, "--control SOCKET drain [--force]");
	if (!force)
		rc = check_holders(cmd);
	if (rc == 0)
		rc = control_ask(cmd, "drain", DRAIN_TIMEOUT_S, &json);
	return rc == 0 ? report_drain(cmd, json) : rc;
}
