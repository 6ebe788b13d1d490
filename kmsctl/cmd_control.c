/* What the operator asks of a kmsd on this machine, by its control socket. */
#include <errno.h>
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

static int
control_connect(const struct cmd *cmd, int *fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = TIMEOUT_S };
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
control_ask(struct cmd *cmd, const char *question, json_t **json)
{
	char line[64];
	struct buf answer;
	int fd = -1, rc, len;

	rc = control_connect(cmd, &fd);
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
	rc = control_ask(cmd, "cluster", &json);
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
	peers = json_object_get(json, "peers");
	if (json_array_size(peers) == 0)
		cmd_print_row("peers", "none");
	for (size_t i = 0; i < json_array_size(peers); i++)
		print_peer(json_array_get(peers, i));
	client_json_free(json);
	return KMS_CLIENT_OK;
}
