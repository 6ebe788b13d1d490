/* One question to the identity service on this machine. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/printable.h"
#include "kmsd/check_internal.h"

#define ANSWER_MAX 16384

struct service {
	char host[280]; /* with its port, as in the URL */
	char path[1024];
	char address[300]; /* host:port for conf_socket_parse */
};

static int
take_apart(const char *url, struct service *service)
{
	const char *rest = url + 7;
	size_t len = strcspn(rest, "/?");
	const char *colon;
	int named;

	if (strncmp(url, "http://", 7) != 0 || len >= sizeof(service->host))
		return KMS_EINVAL;
	(void)snprintf(
	    service->host, sizeof(service->host), "%.*s", (int)len, rest);
	(void)snprintf(service->path, sizeof(service->path), "%s", rest + len);
	len = strlen(service->path);
	if (len > 0 && service->path[len - 1] == '/')
		service->path[len - 1] = '\0';
	colon = strrchr(service->host, ':');
	if (colon != NULL && strchr(colon, ']') != NULL)
		colon = NULL;
	named = strncmp(service->host, "localhost", 9) == 0;
	if (named)
		(void)snprintf(service->address, sizeof(service->address),
		    "127.0.0.1%s", colon != NULL ? colon : ":80");
	else
		(void)snprintf(service->address, sizeof(service->address),
		    "%s%s", service->host, colon != NULL ? "" : ":80");
	return 0;
}

static int
wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int64_t left = deadline_ms - clock_now().boot_ms;

	if (left <= 0 || poll(&pfd, 1, (int)left) != 1) {
		errno = ETIMEDOUT;
		return KMS_ESYS;
	}
	return 0;
}

static int
dial(const struct service *service, int64_t deadline_ms)
{
	struct sockaddr_storage address;
	int fd, error = 0;
	socklen_t len;

	if (conf_socket_parse(service->address, &address, &len) != 0) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	fd = socket(
	    address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)&address, len) == 0)
		return fd;
	len = sizeof(error);
	if (errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms) == 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 &&
	    error == 0)
		return fd;
	if (error != 0)
		errno = error;
	error = errno;
	(void)close(fd);
	errno = error;
	return -1;
}

/* The bytes of the answer with a NUL behind them, or -1. */
static ssize_t
converse(
    int fd, const struct service *service, int64_t deadline_ms, char *answer)
{
	char request[2048];
	int len = snprintf(request, sizeof(request),
	    "GET %s/v1/eth/address HTTP/1.1\r\nHost: %s\r\n"
	    "Accept: application/json\r\nConnection: close\r\n\r\n",
	    service->path, service->host);
	size_t used = 0;
	ssize_t got = 1;

	if (write(fd, request, (size_t)len) != len)
		return -1;
	while (got > 0 && used < ANSWER_MAX - 1) {
		if (wait_for(fd, POLLIN, deadline_ms) != 0)
			return -1;
		got = read(fd, answer + used, ANSWER_MAX - 1 - used);
		if (got > 0)
			used += (size_t)got;
	}
	answer[used] = '\0';
	return got < 0 ? -1 : (ssize_t)used;
}

/* The member "address": text, up to a quote, in the body. */
static int
find_address(const char *answer, struct eth_address *wallet)
{
	static const char name[] = "\"address\"";
	const char *at = strstr(answer, "\r\n\r\n");

	at = at != NULL ? strstr(at, name) : NULL;
	if (at == NULL)
		return KMS_EPROTO;
	at += sizeof(name) - 1;
	at += strspn(at, " \t\r\n");
	if (*at++ != ':')
		return KMS_EPROTO;
	at += strspn(at, " \t\r\n");
	if (*at++ != '"')
		return KMS_EPROTO;
	return eth_address_parse(at, strcspn(at, "\""), wallet);
}

int
check_capsule(
    const char *url, int timeout_ms, struct eth_address *wallet, char *why)
{
	int64_t deadline_ms = clock_now().boot_ms + timeout_ms;
	struct service service;
	char answer[ANSWER_MAX], line[61];
	ssize_t got = -1;
	int fd;

	if (take_apart(url, &service) != 0) {
		(void)snprintf(why, CHECK_TEXT_LEN, "a URL that is not http");
		return KMS_EINVAL;
	}
	fd = dial(&service, deadline_ms);
	if (fd >= 0)
		got = converse(fd, &service, deadline_ms, answer);
	if (got < 0)
		(void)snprintf(why, CHECK_TEXT_LEN, "%s", strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	if (got < 0)
		return KMS_ESYS;
	if (got < 12 || strncmp(answer, "HTTP/1.", 7) != 0 ||
	    strncmp(answer + 8, " 200", 4) != 0) {
		printable_copy(
		    answer, strcspn(answer, "\r\n"), line, sizeof(line));
		(void)snprintf(why, CHECK_TEXT_LEN, "\"%s\"", line);
		return KMS_EPROTO;
	}
	if (find_address(answer, wallet) == 0)
		return 0;
	(void)snprintf(why, CHECK_TEXT_LEN, "an answer without address");
	return KMS_EPROTO;
}
