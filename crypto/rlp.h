/* Recursive length prefix (Ethereum yellow paper, appendix B), canonical. */
#ifndef KMS_CRYPTO_RLP_H
#define KMS_CRYPTO_RLP_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Append a byte string. KMS_ETOOBIG, KMS_ENOMEM. */
int rlp_append_bytes(struct buf *out, const void *data, size_t len);

/* Append an integer: big endian without leading zeros, 0 as "". */
int rlp_append_u64(struct buf *out, uint64_t value);
int rlp_append_uint(struct buf *out, const uint8_t *big_endian, size_t len);

/* Append the head of a list whose encoded items take len bytes. */
int rlp_append_list(struct buf *out, size_t len);

/* What is left to read. */
struct rlp_reader {
	const uint8_t *data;
	size_t len;
};

/*
 * Take the next item, a byte string or a list: *item is its contents within
 * the reader's bytes. KMS_EINVAL at the end, for the other kind, lengths
 * beyond the data and encodings that are not the shortest.
 */
int rlp_read_bytes(struct rlp_reader *reader, struct rlp_reader *item);
int rlp_read_list(struct rlp_reader *reader, struct rlp_reader *item);

/*
 * Take an integer: KMS_EINVAL with leading zeros, KMS_ERANGE above 64 bits, or
 * above size bytes, to which rlp_read_uint extends it with zeros in front.
 */
int rlp_read_u64(struct rlp_reader *reader, uint64_t *value);
int rlp_read_uint(struct rlp_reader *reader, uint8_t *big_endian, size_t size);

#endif
