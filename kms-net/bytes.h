/*
 * Growable bytes whose memory counts against a budget that many of them
 * share, so that no number of clients makes the process grow without bound.
 */
#ifndef KMS_NET_BYTES_H
#define KMS_NET_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct budget {
	uint64_t used; /* bytes allocated by all that share it */
	uint64_t max;
	struct budget *whole; /* what this is a share of, or NULL */
};

struct bytes {
	uint8_t *data; /* NULL while size is 0 */
	size_t len;    /* in use */
	size_t size;   /* allocated */
};

/*
 * Make room for len further bytes behind data + len. most: the largest total
 * that will ever be needed, 0 when unknown; it only saves memory. budget may
 * be NULL: not counted. KMS_EBUSY when the budget does not allow it,
 * KMS_ENOMEM; the bytes are then unchanged.
 */
int bytes_reserve(
    struct bytes *bytes, struct budget *budget, size_t len, size_t most);

/* Reserve and copy; errors as above. */
int bytes_append(struct bytes *bytes, struct budget *budget, const void *data,
    size_t len, size_t most);

/* Drop the first len bytes (at most all); the memory stays. */
void bytes_consume(struct bytes *bytes, size_t len);

/* Free and give the memory back to the budget. */
void bytes_free(struct bytes *bytes, struct budget *budget);

#endif
