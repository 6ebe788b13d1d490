/* Bytes, and a descriptor with them, over a stream socketpair (unix(7)). */
#ifndef KMS_COMMON_FDPASS_H
#define KMS_COMMON_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Send up to len bytes, with fd attached to the first when fd is not -1 (it
 * stays the caller's). Like send(2) with MSG_NOSIGNAL and MSG_DONTWAIT:
 * bytes sent, or -1 and errno.
 */
ssize_t fdpass_send(int sock, const void *data, size_t len, int fd);

/*
 * Receive up to len bytes without waiting. *fd is a descriptor that came with
 * them (close-on-exec, the caller's), or -1. Further descriptors than one are
 * closed and the call fails with EPROTO.
 */
ssize_t fdpass_recv(int sock, void *data, size_t len, int *fd);

#endif
