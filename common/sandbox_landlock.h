/* Landlock (landlock(7)) by system call; used by sandbox.c alone. */
#ifndef KMS_COMMON_SANDBOX_LANDLOCK_H
#define KMS_COMMON_SANDBOX_LANDLOCK_H

/*
 * Deny this thread, and what it starts, every file system right the running
 * kernel knows, TCP bind (and connect unless connects), abstract sockets and
 * signals to processes outside. What the kernel is too old for is left to
 * seccomp. Needs no_new_privs. 0, or -1 and errno: ENOSYS or EOPNOTSUPP
 * where the kernel has no Landlock.
 */
int sandbox_landlock(int connects);

#endif
