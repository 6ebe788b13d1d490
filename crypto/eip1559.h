/* EIP-1559 transactions (type 2), with an empty access list. */
#ifndef KMS_CRYPTO_EIP1559_H
#define KMS_CRYPTO_EIP1559_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "crypto/signature.h"

#define EIP1559_DATA_MAX 131072 /* bytes of call data in or out */

struct eip1559 {
	uint64_t chain_id;
	uint64_t nonce;
	uint64_t max_priority_fee; /* wei per gas */
	uint64_t max_fee;	   /* wei per gas */
	uint64_t gas_limit;
	struct eth_address to; /* never absent: no contract creation */
	struct eth_word value; /* wei */
	const uint8_t *data;   /* borrowed; after decode, within raw */
	size_t data_len;
};

/*
 * What the sender signs: keccak256(0x02 || rlp([chain_id, nonce,
 * max_priority_fee, max_fee, gas_limit, to, value, data, []])). KMS_ENOMEM,
 * KMS_ETOOBIG (call data above EIP1559_DATA_MAX).
 */
int eip1559_digest(const struct eip1559 *transaction, uint8_t digest[32]);

/*
 * Append the signed transaction to raw; its hash is keccak256 of it. The
 * signature is canonical (signature.h). KMS_EINVAL when it is not.
 * KMS_ENOMEM, KMS_ETOOBIG.
 */
int eip1559_assemble(const struct eip1559 *transaction,
    const uint8_t signature[SIGNATURE_LEN], struct buf *raw);

/*
 * Read a signed transaction, strictly: shortest encodings, no trailing bytes,
 * an address in to, no access list, a canonical signature with low s.
 * KMS_EINVAL, KMS_ERANGE when a number does not fit its field, KMS_ETOOBIG.
 */
int eip1559_decode(const uint8_t *raw, size_t len, struct eip1559 *transaction,
    uint8_t signature[SIGNATURE_LEN]);

#endif
