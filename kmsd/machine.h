/*
 * What kmsd takes from the machine before it gives up its own rights:
 * programs, files, users, an empty directory, bound sockets.
 */
#ifndef KMS_KMSD_MACHINE_H
#define KMS_KMSD_MACHINE_H

#include "common/buf.h"
#include "kmsd/audit.h"
#include "kmsd/conf.h"

#define MACHINE_DNS_MAX 4

struct machine {
	const struct conf *conf;
	int root; /* started as root */
	int null_fd;
	char program_paths[ROLES][4096];
	int program_fds[ROLES]; /* executables: exec needs no path then */
	int listen_fd;		/* bound, not yet listening */
	int metrics_fd;		/* likewise, or -1 */
	int control_fd;		/* control-socket, listening, or -1 */
	int identity_fd;	/* or -1 */
	struct audit_file audit;
	uint64_t uids[ROLES]; /* 0 when not root */
	uint64_t gids[ROLES];
	char chroot[1024]; /* "" when not root */
	int chroot_made;   /* to be removed in the end */
	struct buf ca_bundle;
	size_t dns_count;
	char dns[MACHINE_DNS_MAX][64];
};

/* Gather all of it. KMS_ESYS (logged); machine_free in any case. */
int machine_open(
    struct machine *machine, const struct conf *conf, const char *libexec);

/* The same without the sockets, which another kmsd may have. */
int machine_prepare(
    struct machine *machine, const struct conf *conf, const char *libexec);
void machine_free(struct machine *machine);

/* Bind a stream socket to a SOCKET value. The descriptor, or -1 (logged). */
int listen_bind(const char *text);

/* Start listening. 0 or KMS_ESYS (logged). */
int listen_start(int fd);

/* The nameserver lines of a resolv.conf; at most MACHINE_DNS_MAX. */
void machine_parse_resolv(struct machine *machine, char *text);

#endif
