#include "kmsd/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"

/* A path, or with '@' an abstract name. */
static void
read_address(struct notify *notify, const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;

	if (len == 0)
		return;
	if ((*text != '/' && *text != '@') ||
	    len >= sizeof(notify->address.sun_path)) {
		log_warn("NOTIFY_SOCKET: expected a path, or a name after @, "
			 "of at most %zu bytes: nobody is told",
		    sizeof(notify->address.sun_path) - 1);
		return;
	}
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, text, len);
	if (*text == '@')
		notify->address.sun_path[0] = '\0';
	notify->address_len =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

int
notify_keep(struct notify *notify, int fd, int place)
{
	memset(notify, 0, sizeof(*notify));
	notify->fd = notify->socket = -1;
	read_address(notify, getenv("NOTIFY_SOCKET"));
	if (fd < 0)
		return 0;
	if ((fd != place && dup2(fd, place) < 0) ||
	    fcntl(place, F_SETFD, FD_CLOEXEC) != 0) {
		log_error("the descriptor of -n: %s", strerror(errno));
		return KMS_ESYS;
	}
	notify->fd = place;
	return 0;
}

void
notify_connect(struct notify *notify)
{
	if (notify->address_len == 0)
		return;
	notify->socket =
	    socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (notify->socket >= 0 &&
	    connect(notify->socket, (const struct sockaddr *)&notify->address,
		notify->address_len) == 0)
		return;
	log_warn("NOTIFY_SOCKET: %s", strerror(errno));
	if (notify->socket >= 0)
		(void)close(notify->socket);
	notify->socket = -1;
}

static void
say(struct notify *notify, const char *text)
{
	if (notify->socket >= 0 &&
	    send(notify->socket, text, strlen(text), MSG_NOSIGNAL) < 0)
		log_warn("NOTIFY_SOCKET: %s", strerror(errno));
}

void
notify_ready(struct notify *notify)
{
	if (notify->told)
		return;
	notify->told = 1;
	say(notify, "READY=1");
	if (notify->fd < 0)
		return;
	if (write(notify->fd, "\n", 1) != 1)
		log_warn("the descriptor of -n: %s", strerror(errno));
	(void)close(notify->fd);
	notify->fd = -1;
}

void
notify_stopping(struct notify *notify)
{
	say(notify, "STOPPING=1");
}
