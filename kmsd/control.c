#include "kmsd/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"

struct session {
	TAILQ_ENTRY(session) link;
	struct control *owner;
	uv_pipe_t pipe;
	uv_timer_t timer;
	uv_write_t write;
	int handles; /* open: memory goes with the last */
	char line[CONTROL_LINE_MAX];
	size_t len;
	uint64_t id; /* of the question under way, 0: none yet */
	struct buf answer;
};

TAILQ_HEAD(session_list, session);

struct control {
	struct control_ops ops;
	uv_pipe_t listener;
	struct session_list sessions;
	size_t count;
	uint64_t last_id;
	int closed;
};

static const struct {
	const char *name;
	enum { OF_KEEPER, OF_KMSD, ORDER_DRAIN } kind;
	enum control_question question;
} lines[] = {
	{ "cluster", OF_KEEPER, CONTROL_CLUSTER },
	{ "holders", OF_KEEPER, CONTROL_HOLDERS },
	{ "processes", OF_KMSD, 0 },
	{ "drain", ORDER_DRAIN, 0 },
};

/* ---- the socket ---------------------------------------------------------- */

/* One that nobody listens on is left over from a kmsd that was killed. */
static int
remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, live;

	if (lstat(address->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : KMS_ESYS;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return KMS_ESYS;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	live = fd < 0 ||
	    connect(fd, (const struct sockaddr *)address, sizeof(*address)) ==
		0;
	if (fd >= 0)
		(void)close(fd);
	if (live) {
		errno = EADDRINUSE;
		return KMS_ESYS;
	}
	return unlink(address->sun_path) == 0 ? 0 : KMS_ESYS;
}

int
control_bind(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = -1, error = 0;
	mode_t mask;

	if (strlen(path) >= sizeof(address.sun_path)) {
		log_error("control-socket: expected a path of at most %zu "
			  "bytes",
		    sizeof(address.sun_path) - 1);
		return -1;
	}
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	error = remove_stale(&address);
	if (error == 0) {
		fd = socket(
		    AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		mask = umask(0177);
		if (fd < 0 ||
		    bind(fd, (const struct sockaddr *)&address,
			sizeof(address)) != 0 ||
		    listen(fd, SOMAXCONN) != 0)
			error = KMS_ESYS;
		(void)umask(mask);
	}
	if (error == 0)
		return fd;
	log_error("control-socket %s: %s", path, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

/* ---- sessions ------------------------------------------------------------ */

static void
on_handle_closed(uv_handle_t *handle)
{
	struct session *session = handle->data;

	if (--session->handles > 0)
		return;
	buf_free(&session->answer);
	free(session);
}

static void
session_end(struct session *session)
{
	if (uv_is_closing((uv_handle_t *)&session->pipe))
		return;
	TAILQ_REMOVE(&session->owner->sessions, session, link);
	session->owner->count--;
	uv_close((uv_handle_t *)&session->pipe, on_handle_closed);
	uv_close((uv_handle_t *)&session->timer, on_handle_closed);
}

static void
on_written(uv_write_t *request, int status)
{
	(void)status;
	session_end(request->data);
}

/* The answer is whole: send it and end. */
static void
session_answer(struct session *session)
{
	uv_buf_t bytes = uv_buf_init(
	    (char *)session->answer.data, (unsigned int)session->answer.len);

	session->write.data = session;
	if (uv_write(&session->write, (uv_stream_t *)&session->pipe, &bytes, 1,
		on_written) != 0)
		session_end(session);
}

static void
session_refuse(struct session *session, const char *why)
{
	buf_clear(&session->answer);
	(void)buf_printf(&session->answer, "{\"error\":\"%s\"}\n", why);
	session_answer(session);
}

static void
session_describe(struct session *session)
{
	const struct control_ops *ops = &session->owner->ops;

	if (ops->processes(ops->arg, &session->answer) != 0 ||
	    buf_append(&session->answer, "\n", 1) != 0)
		session_refuse(session, "out of memory");
	else
		session_answer(session);
}

static void
session_ask(struct session *session, enum control_question question)
{
	struct control *control = session->owner;

	session->id = ++control->last_id;
	if (control->ops.ask(control->ops.arg, session->id, question) == 0)
		return;
	session->id = 0;
	session_refuse(session, "the keeper is not running");
}

static void
session_drain(struct session *session)
{
	struct control *control = session->owner;

	(void)uv_timer_stop(&session->timer);
	session->id = ++control->last_id;
	if (control->ops.drain(control->ops.arg, session->id) == 0)
		return;
	session->id = 0;
	session_refuse(session, "the node is stopping already");
}

static void
session_line(struct session *session)
{
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (strcmp(session->line, lines[i].name) != 0)
			continue;
		if (lines[i].kind == OF_KEEPER)
			session_ask(session, lines[i].question);
		else if (lines[i].kind == OF_KMSD)
			session_describe(session);
		else
			session_drain(session);
		return;
	}
	session_refuse(
	    session, "expected one of: cluster, holders, processes, drain");
}

static void
on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *space)
{
	struct session *session = handle->data;

	(void)wanted;
	*space = uv_buf_init(session->line + session->len,
	    (unsigned int)(sizeof(session->line) - session->len));
}

static void
on_line(uv_stream_t *stream, ssize_t got, const uv_buf_t *space)
{
	struct session *session = stream->data;
	char *end;

	(void)space;
	if (got < 0) {
		/* Nobody is there to read an answer. */
		session_end(session);
		return;
	}
	session->len += (size_t)got;
	end = memchr(session->line, '\n', session->len);
	if (end == NULL && session->len < sizeof(session->line))
		return;
	(void)uv_read_stop(stream);
	if (end == NULL) {
		session_refuse(session, "expected one line");
		return;
	}
	*end = '\0';
	session_line(session);
}

static void
on_deadline(uv_timer_t *timer)
{
	session_end(timer->data);
}

static void
on_connection(uv_stream_t *stream, int status)
{
	struct control *control = stream->data;
	struct session *session = calloc(1, sizeof(*session));

	if (status != 0 || session == NULL) {
		free(session);
		return;
	}
	session->owner = control;
	buf_init(&session->answer, CONTROL_ANSWER_MAX);
	(void)uv_pipe_init(stream->loop, &session->pipe, 0);
	(void)uv_timer_init(stream->loop, &session->timer);
	session->pipe.data = session->timer.data = session;
	session->handles = 2;
	TAILQ_INSERT_TAIL(&control->sessions, session, link);
	control->count++;
	if (uv_accept(stream, (uv_stream_t *)&session->pipe) != 0 ||
	    control->count > CONTROL_SESSIONS_MAX ||
	    uv_read_start((uv_stream_t *)&session->pipe, on_alloc, on_line) !=
		0) {
		session_end(session);
		return;
	}
	(void)uv_timer_start(
	    &session->timer, on_deadline, CONTROL_TIMEOUT_MS, 0);
}

/* ---- what the keeper says ------------------------------------------------ */

/* Who waits for this; 0 is the number of those who wait for nothing. */
static struct session *
session_find(struct control *control, uint64_t id)
{
	struct session *session;

	if (id == 0)
		return NULL;
	TAILQ_FOREACH (session, &control->sessions, link) {
		if (session->id == id)
			return session;
	}
	return NULL;
}

void
control_told(struct control *control, uint64_t id, const void *piece,
    size_t len, int last)
{
	struct session *session = session_find(control, id);

	if (session == NULL)
		return;
	if (buf_append(&session->answer, piece, len) != 0 ||
	    (last && buf_append(&session->answer, "\n", 1) != 0)) {
		session->id = 0;
		session_refuse(session, "the answer is too large");
		return;
	}
	if (!last)
		return;
	session->id = 0;
	session_answer(session);
}

void
control_refused(struct control *control, uint64_t id, const char *why)
{
	struct session *session = session_find(control, id);

	if (session == NULL)
		return;
	session->id = 0;
	session_refuse(session, why);
}

void
control_lost(struct control *control)
{
	struct session *session, *next;

	for (session = TAILQ_FIRST(&control->sessions); session != NULL;
	     session = next) {
		next = TAILQ_NEXT(session, link);
		if (session->id == 0)
			continue;
		session->id = 0;
		session_refuse(session, "the keeper is gone");
	}
}

/* ---- life ---------------------------------------------------------------- */

struct control *
control_new(uv_loop_t *loop, int fd, const struct control_ops *ops)
{
	struct control *control = calloc(1, sizeof(*control));

	if (control == NULL)
		return NULL;
	control->ops = *ops;
	TAILQ_INIT(&control->sessions);
	(void)uv_pipe_init(loop, &control->listener, 0);
	control->listener.data = control;
	if (uv_pipe_open(&control->listener, fd) != 0 ||
	    uv_listen((uv_stream_t *)&control->listener, SOMAXCONN,
		on_connection) != 0) {
		control_close(control);
		return NULL;
	}
	return control;
}

static void
on_listener_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void
control_close(struct control *control)
{
	struct session *session, *next;

	if (control == NULL || control->closed)
		return;
	control->closed = 1;
	for (session = TAILQ_FIRST(&control->sessions); session != NULL;
	     session = next) {
		next = TAILQ_NEXT(session, link);
		session_end(session);
	}
	uv_close((uv_handle_t *)&control->listener, on_listener_closed);
}
