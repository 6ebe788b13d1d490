#include "kmsd/supply.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/conf.h"
#include "proto/msg.h"

/* A connection that is not there yet. */
struct attempt {
	uv_poll_t poll;
	int fd;
	struct supply *owner; /* NULL: given up */
};

struct supply {
	uv_loop_t *loop;
	char url[64]; /* the configuration may be read anew */
	struct sockaddr_storage address;
	socklen_t address_len;
	supply_give_fn give;
	void *arg;
	uv_timer_t timer; /* the next attempt, or the end of this one */
	struct attempt *attempt;
	uint64_t owed;
	uint64_t delay_ms; /* 0: the last attempt succeeded */
};

static void attempt_next(struct supply *s);

static void
on_timer(uv_timer_t *timer)
{
	attempt_next(timer->data);
}

static void
failed(struct supply *s, int error)
{
	if (s->delay_ms == 0)
		log_warn("identity service %s: %s; trying again", s->url,
		    strerror(error));
	s->delay_ms = s->delay_ms == 0 ? SUPPLY_FIRST_MS : s->delay_ms * 2;
	if (s->delay_ms > SUPPLY_LAST_MS)
		s->delay_ms = SUPPLY_LAST_MS;
	(void)uv_timer_start(&s->timer, on_timer, s->delay_ms, 0);
}

static void
succeeded(struct supply *s, int fd)
{
	int yes = 1;

	/* The keeper may not set options; its calls are small and many. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (s->delay_ms != 0)
		log_info("identity service %s: connected", s->url);
	if (s->give(s->arg, fd) != 0) {
		failed(s, EAGAIN);
		return;
	}
	s->delay_ms = 0;
	s->owed--;
}

static void
on_closed(uv_handle_t *handle)
{
	struct attempt *attempt = handle->data;

	if (attempt->fd >= 0)
		(void)close(attempt->fd);
	free(attempt);
}

/* The descriptor stays with the attempt unless it was taken out. */
static void
drop_attempt(struct supply *s)
{
	struct attempt *attempt = s->attempt;

	if (attempt == NULL)
		return;
	s->attempt = NULL;
	attempt->owner = NULL;
	uv_close((uv_handle_t *)&attempt->poll, on_closed);
}

static void
on_writable(uv_poll_t *poll, int status, int events)
{
	struct attempt *attempt = poll->data;
	struct supply *s = attempt->owner;
	int fd = attempt->fd, error = 0;
	socklen_t len = sizeof(error);

	(void)events;
	(void)uv_timer_stop(&s->timer);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error == 0 && status < 0)
		error = ECONNREFUSED;
	if (error == 0) {
		/* libuv must be done with it before it is given away. */
		(void)uv_poll_stop(&attempt->poll);
		attempt->fd = -1;
	}
	drop_attempt(s);
	if (error != 0) {
		failed(s, error);
		return;
	}
	succeeded(s, fd);
	attempt_next(s);
}

static void
on_late(uv_timer_t *timer)
{
	struct supply *s = timer->data;

	drop_attempt(s);
	failed(s, ETIMEDOUT);
}

static void
wait_for(struct supply *s, int fd)
{
	struct attempt *attempt = calloc(1, sizeof(*attempt));

	if (attempt == NULL || uv_poll_init(s->loop, &attempt->poll, fd) != 0) {
		free(attempt);
		(void)close(fd);
		failed(s, ENOMEM);
		return;
	}
	attempt->fd = fd;
	attempt->owner = s;
	attempt->poll.data = attempt;
	s->attempt = attempt;
	(void)uv_poll_start(&attempt->poll, UV_WRITABLE, on_writable);
	(void)uv_timer_start(&s->timer, on_late, SUPPLY_CONNECT_MS, 0);
}

/* Connect while connections are owed and nothing stands in the way. */
static void
attempt_next(struct supply *s)
{
	while (s->owed > 0 && s->attempt == NULL &&
	    !uv_is_active((uv_handle_t *)&s->timer)) {
		int fd = socket(s->address.ss_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd < 0) {
			failed(s, errno);
		} else if (connect(fd, (struct sockaddr *)&s->address,
			       s->address_len) == 0) {
			succeeded(s, fd);
		} else if (errno == EINPROGRESS) {
			wait_for(s, fd);
		} else {
			int error = errno;

			(void)close(fd);
			failed(s, error);
		}
	}
}

int
supply_new(uv_loop_t *loop, const char *url, supply_give_fn give, void *arg,
    struct supply **supply)
{
	struct supply *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return KMS_ENOMEM;
	if (conf_capsule_parse(url, &s->address, &s->address_len) != 0 ||
	    strlen(url) >= sizeof(s->url)) {
		free(s);
		return KMS_EINVAL;
	}
	s->loop = loop;
	memcpy(s->url, url, strlen(url) + 1);
	s->give = give;
	s->arg = arg;
	(void)uv_timer_init(loop, &s->timer);
	s->timer.data = s;
	*supply = s;
	return 0;
}

void
supply_free(struct supply *s)
{
	free(s);
}

int
supply_want(struct supply *s, uint64_t count)
{
	if (count > MSG_WANT_MAX || s->owed + count > MSG_WANT_MAX)
		return KMS_EPROTO;
	s->owed += count;
	attempt_next(s);
	return 0;
}

void
supply_reset(struct supply *s)
{
	if (s == NULL)
		return;
	s->owed = 0;
	s->delay_ms = 0;
	(void)uv_timer_stop(&s->timer);
	drop_attempt(s);
}
