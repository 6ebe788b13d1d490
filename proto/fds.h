/*
 * The descriptors a child of kmsd starts with; it closes everything else.
 * 0 and 1 are /dev/null, 2 is the log pipe.
 */
#ifndef KMS_PROTO_FDS_H
#define KMS_PROTO_FDS_H

enum kms_fd {
	FD_LOG = 2,	 /* non-blocking pipe to kmsd, one line a write */
	FD_CONTROL = 3,	 /* socketpair to kmsd */
	FD_KEEPER = 4,	 /* kms-net, kms-chain: socketpair to the keeper */
	FD_IDENTITY = 4, /* kms-keeper: identity file, or /dev/null */
	FD_LISTEN = 5,	 /* kms-net: the bound API socket */
	FD_METRICS = 6,	 /* kms-net: the bound metrics socket, or /dev/null */
	FD_CHILD_END = 7 /* one past the last */
};

#endif
