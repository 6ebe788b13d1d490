/*
 * Telling who started kmsd that the node serves: a newline on an inherited
 * descriptor (s6's notification-fd), and READY=1 to the datagram socket that
 * NOTIFY_SOCKET names (systemd's Type=notify). Both are opened before rights
 * are given up; that nobody listens harms nothing.
 */
#ifndef KMS_KMSD_NOTIFY_H
#define KMS_KMSD_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	int fd;	    /* -1: none, or told */
	int socket; /* -1: none */
	int told;
	struct sockaddr_un address; /* of NOTIFY_SOCKET, */
	socklen_t address_len;	    /* 0: not set */
};

/*
 * First of all: move fd (-1: none) to number place, which is to be kept open,
 * and read NOTIFY_SOCKET, before the environment is cleared. KMS_ESYS (logged).
 */
int notify_keep(struct notify *notify, int fd, int place);

/* When what was inherited is closed. Failures are logged. */
void notify_connect(struct notify *notify);

/* It serves; only the first time anybody is told. */
void notify_ready(struct notify *notify);

/* It drains. */
void notify_stopping(struct notify *notify);

#endif
