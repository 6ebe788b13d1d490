#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/machine.h"

int
listen_bind(const char *text)
{
	struct sockaddr_storage address;
	socklen_t len;
	int fd, one = 1;

	if (conf_socket_parse(text, &address, &len) != 0) {
		log_error("%s is no address", text);
		return -1;
	}
	fd = socket(
	    address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    /* For the connections, which inherit it: pieces of long answers
	     * shall not wait for acknowledgements. */
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, len) != 0) {
		log_error("bind to %s: %s", text, strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		return -1;
	}
	return fd;
}

int
listen_start(int fd)
{
	if (listen(fd, SOMAXCONN) == 0)
		return 0;
	log_error("listen: %s", strerror(errno));
	return KMS_ESYS;
}
