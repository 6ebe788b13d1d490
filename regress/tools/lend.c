/*
 * Stands in for a child of kmsd and lends its place to a test: it passes its
 * descriptors (proto/fds.h) to whoever listens on the Unix socket that bears
 * its own path with ".sock" behind it. A path that comes back is the program
 * to become; the end of that connection, or of the control channel, is its
 * own end.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/fds.h"

static int
find_test(struct sockaddr_un *address)
{
	ssize_t len = readlink(
	    "/proc/self/exe", address->sun_path, sizeof(address->sun_path) - 6);

	if (len < 0)
		return -1;
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + len, ".sock", 6);
	return 0;
}

static int
lend_descriptors(int test)
{
	int fds[FD_CHILD_END - FD_LOG];
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };

	for (int i = FD_LOG; i < FD_CHILD_END; i++)
		fds[i - FD_LOG] = i;
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
	return sendmsg(test, &message, 0) == 1 ? 0 : -1;
}

/* The path to become, or none. */
static void
wait_for_word(int test, char *path, size_t size)
{
	struct pollfd fds[2] = { { .fd = test, .events = POLLIN },
		{ .fd = FD_CONTROL } };
	ssize_t got = 0;

	while (poll(fds, 2, -1) < 0)
		;
	if (fds[0].revents & POLLIN)
		got = read(test, path, size - 1);
	path[got > 0 ? got : 0] = '\0';
}

int
main(int argc, char **argv)
{
	int test = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { 0 };
	char path[4096];

	(void)argc;
	if (test < 0 || find_test(&address) != 0 ||
	    connect(test, (const struct sockaddr *)&address, sizeof(address)) !=
		0 ||
	    lend_descriptors(test) != 0) {
		perror("0 lend");
		return 1;
	}
	wait_for_word(test, path, sizeof(path));
	if (path[0] != '\0')
		(void)execv(path, argv);
	return 0;
}
