#include "common/sandbox_landlock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Written out here because the kernel headers of the build host may be older
 * than the kernel that runs: struct landlock_ruleset_attr as of ABI 6. The
 * kernel takes the members that its ABI has, by size.
 */
struct ruleset {
	uint64_t fs;	 /* ABI 1 */
	uint64_t net;	 /* ABI 4 */
	uint64_t scoped; /* ABI 6 */
};

#define CREATE_RULESET_VERSION 1U
#define NET_BIND_TCP (UINT64_C(1) << 0)
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)
#define FS_RIGHTS(count) ((UINT64_C(1) << (count)) - 1)

/* Execute up to make_sym; then refer, truncate and ioctl_dev were added. */
static uint64_t
fs_rights(long abi)
{
	if (abi >= 5)
		return FS_RIGHTS(16);
	if (abi >= 3)
		return FS_RIGHTS(15);
	if (abi == 2)
		return FS_RIGHTS(14);
	return FS_RIGHTS(13);
}

int
sandbox_landlock(int connects)
{
	struct ruleset ruleset = { 0 };
	size_t size = sizeof(ruleset.fs);
	long abi, fd;
	int saved;

	abi = syscall(
	    SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
	if (abi < 1)
		return -1;
	ruleset.fs = fs_rights(abi);
	if (abi >= 4) {
		ruleset.net = NET_BIND_TCP | (connects ? 0 : NET_CONNECT_TCP);
		size = offsetof(struct ruleset, scoped);
	}
	if (abi >= 6) {
		ruleset.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
		size = sizeof(ruleset);
	}
	fd = syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
	if (fd < 0)
		return -1;
	/* No rule is added: what is handled is denied everywhere. */
	if (syscall(SYS_landlock_restrict_self, (int)fd, 0) != 0) {
		saved = errno;
		(void)close((int)fd);
		errno = saved;
		return -1;
	}
	return close((int)fd);
}
