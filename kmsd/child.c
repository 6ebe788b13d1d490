#include "kmsd/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/spawn.h"

#define CONTROL_QUEUE_MAX (8 * 1024 * 1024) /* above the CA bundle */
#define BLOB_PIECE 65536

static void
close_pair(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
		fds[i] = -1;
	}
}

/* ---- configuration ---- */

static int
send_row(const char *name, const char *text, void *arg)
{
	struct chan *control = arg;
	struct msg_writer w;

	chan_begin(control, &w, MSG_KMSDCHILD_CONFIG, 0);
	msg_put_s(&w, name);
	msg_put_s(&w, text);
	return chan_end(control, &w);
}

static int
send_number(struct chan *control, const char *name, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return send_row(name, text, control);
}

static int
send_ca_bundle(struct chan *control, const struct buf *bundle)
{
	int error = 0;

	for (size_t at = 0; error == 0 && at < bundle->len;) {
		size_t len = bundle->len - at < BLOB_PIECE ? bundle->len - at
							   : BLOB_PIECE;
		struct msg_writer w;

		chan_begin(control, &w, MSG_KMSDCHILD_BLOB, 0);
		msg_put_s(&w, "ca-bundle");
		msg_put_d(&w, bundle->data + at, len);
		error = chan_end(control, &w);
		at += len;
	}
	return error;
}

static int
send_network(struct chan *control, const struct machine *machine)
{
	int error = send_ca_bundle(control, &machine->ca_bundle);

	for (size_t i = 0; error == 0 && i < machine->dns_count; i++)
		error = send_row("dns-server", machine->dns[i], control);
	return error;
}

static int
configure(struct child *child, const struct machine *machine)
{
	struct chan *control = child->control;
	struct msg_writer w;
	int error;

	error = conf_slice(machine->conf, child->role, send_row, control);
	if (error == 0)
		error = send_number(control, "generation", child->generation);
	if (error == 0)
		error = send_number(control, "uid", machine->uids[child->role]);
	if (error == 0)
		error = send_number(control, "gid", machine->gids[child->role]);
	if (error == 0)
		error = send_row("chroot", machine->chroot, control);
	if (error == 0 && (child->role == ROLE_RPC || child->role == ROLE_PEER))
		error = send_network(control, machine);
	if (error != 0)
		return error;
	chan_begin(control, &w, MSG_KMSDCHILD_START, 0);
	return chan_end(control, &w);
}

/* ---- process ---- */

static void
choose_fds(const struct child *child, const struct machine *machine, int log,
    int control, int keeper, int fds[FD_CHILD_END])
{
	for (int i = 0; i < FD_CHILD_END; i++)
		fds[i] = machine->null_fd;
	fds[FD_LOG] = log;
	fds[FD_CONTROL] = control;
	if (keeper >= 0)
		fds[FD_KEEPER] = keeper;
	if (child->role == ROLE_KEEPER && machine->identity_fd >= 0) {
		(void)lseek(machine->identity_fd, 0, SEEK_SET);
		fds[FD_IDENTITY] = machine->identity_fd;
	}
	if (child->role == ROLE_NET) {
		fds[FD_LISTEN] = machine->listen_fd;
		if (machine->metrics_fd >= 0)
			fds[FD_METRICS] = machine->metrics_fd;
	}
}

static int
make_channels(enum role role, int log[2], int control[2], int keeper[2])
{
	if (pipe2(log, O_CLOEXEC | O_NONBLOCK) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0)
		return KMS_ESYS;
	if (topology_channel(role) == NULL)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keeper) != 0)
		return KMS_ESYS;
	return 0;
}

static int
open_control(struct child *child, uv_loop_t *loop, int fd,
    const struct chan_handler *handlers, chan_closed_fn closed)
{
	struct chan_config config = { .name = roles[child->role].label,
		.in = MSG_CHANNEL_CHILD_KMSD,
		.out = MSG_CHANNEL_KMSD_CHILD,
		.handlers = handlers,
		.closed = closed,
		.arg = child,
		.queue_max = CONTROL_QUEUE_MAX };
	int error = chan_open(loop, fd, &config, &child->control);

	if (error == 0)
		chan_set_state(child->control, MSG_STATE_CONFIGURING);
	return error;
}

int
child_start(struct child *child, uv_loop_t *loop, const struct machine *machine,
    const struct chan_handler *handlers, chan_closed_fn closed)
{
	int log[2] = { -1, -1 }, control[2] = { -1, -1 };
	int keeper[2] = { -1, -1 };
	struct spawn_request request = { .program_fd =
					     machine->program_fds[child->role],
		.path = machine->program_paths[child->role],
		.name = roles[child->role].label };
	const char *what = "channels";

	if (make_channels(child->role, log, control, keeper) != 0)
		goto fail;
	choose_fds(child, machine, log[1], control[1], keeper[1], request.fds);
	what = "control channel";
	if (open_control(child, loop, control[0], handlers, closed) != 0)
		goto fail;
	control[0] = -1;
	what = "log pipe";
	child->log = logger_open(loop, roles[child->role].label, 0, log[0]);
	if (child->log == NULL)
		goto fail;
	log[0] = -1;
	what = "process";
	child->pid = spawn_child(&request);
	if (child->pid < 0)
		goto fail;
	logger_set_pid(child->log, (long)child->pid);
	child->generation++;
	child->keeper_end = keeper[0];
	keeper[0] = -1;
	child->state = CHILD_STARTING;
	child->started_ms = uv_now(loop);
	child->outdated = 0;
	child->most_connections =
	    conf_number(machine->conf, CONF_MAX_CONNECTIONS);
	close_pair(log);
	close_pair(control);
	close_pair(keeper);
	/* What fails here ends the channel, and with it the child. */
	if (configure(child, machine) != 0)
		log_error("%s: the configuration could not be sent",
		    roles[child->role].label);
	return 0;

fail:
	log_error("start of %s: %s: %s", roles[child->role].label, what,
	    strerror(errno));
	chan_free(child->control);
	child->control = NULL;
	logger_close(child->log);
	child->log = NULL;
	child->pid = 0;
	child->state = CHILD_DOWN;
	close_pair(log);
	close_pair(control);
	close_pair(keeper);
	return KMS_ESYS;
}

void
child_end(struct child *child)
{
	chan_free(child->control);
	child->control = NULL;
	if (child->pid > 0)
		child->state = CHILD_ENDING;
}

void
child_reaped(struct child *child)
{
	child_end(child);
	logger_close(child->log);
	child->log = NULL;
	child->pid = 0;
	child->state = CHILD_DOWN;
	child->has_metrics = 0;
	if (child->keeper_end >= 0)
		(void)close(child->keeper_end);
	child->keeper_end = -1;
}

void
child_describe_end(
    const struct child *child, int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		(void)snprintf(out, size, "%s[%ld] died of signal %d%s",
		    roles[child->role].label, (long)child->pid,
		    WTERMSIG(status),
		    WTERMSIG(status) == SIGSYS ? " (a forbidden system call)"
					       : "");
	else
		(void)snprintf(out, size, "%s[%ld] exited with status %d",
		    roles[child->role].label, (long)child->pid,
		    WEXITSTATUS(status));
}
