/*
 * Error codes shared by every room. Low layers return 0 or one of these
 * (always negative); only process code decides to exit.
 */
#ifndef KMS_COMMON_ERR_H
#define KMS_COMMON_ERR_H

/* One row per code: name, value, text an operator can read. */
#define KMS_ERRORS(X)                                                          \
	X(KMS_EINVAL, -1, "invalid argument or malformed input")               \
	X(KMS_ENOMEM, -2, "out of memory")                                     \
	X(KMS_ETOOBIG, -3, "larger than its limit")                            \
	X(KMS_EAGAIN, -4, "not complete yet")                                  \
	X(KMS_ENOENT, -5, "not found")                                         \
	X(KMS_EEXIST, -6, "exists already")                                    \
	X(KMS_EAUTH, -7, "authentication failed")                              \
	X(KMS_ECRYPTO, -8, "cryptographic operation failed")                   \
	X(KMS_ESYS, -9, "system call failed")                                  \
	X(KMS_ECLOSED, -10, "closed by the other side")                        \
	X(KMS_ETIMEOUT, -11, "timed out")                                      \
	X(KMS_EPROTO, -12, "protocol violation")                               \
	X(KMS_EBUSY, -13, "busy, at its bound")                                \
	X(KMS_ERANGE, -14, "number out of range")                              \
	X(KMS_EUNAVAIL, -15, "unavailable")                                    \
	X(KMS_EREPLAY, -16, "already used")

enum kms_error {
#define KMS_ERROR_ENUM(name, value, text) name = value,
	KMS_ERRORS(KMS_ERROR_ENUM)
#undef KMS_ERROR_ENUM
};

/*
 * The text of a KMS_E* code ("success" for 0, "unknown error" for a value
 * that is none). Static storage, never NULL.
 */
const char *kms_strerror(int error);

#endif
