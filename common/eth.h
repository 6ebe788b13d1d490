/* Ethereum addresses and 256-bit words, as text and bytes. */
#ifndef KMS_COMMON_ETH_H
#define KMS_COMMON_ETH_H

#include <stddef.h>
#include <stdint.h>

#define ETH_ADDRESS_LEN 20
#define ETH_ADDRESS_TEXT_LEN 42 /* "0x" and 40 digits, without the NUL */
#define ETH_WORD_LEN 32

struct eth_address {
	uint8_t bytes[ETH_ADDRESS_LEN];
};

struct eth_word {
	uint8_t bytes[ETH_WORD_LEN]; /* big endian, or a hash */
};

/*
 * Parse a wallet (PROTOCOL.md, Notation): 40 hex digits in any case, with or
 * without "0x"; KMS_EINVAL on anything else. No checksum is demanded.
 */
int eth_address_parse(
    const char *text, size_t len, struct eth_address *address);

/* Canonical text: "0x" and 40 lower-case digits, NUL-terminated. */
void eth_address_format(
    const struct eth_address *address, char text[ETH_ADDRESS_TEXT_LEN + 1]);

/* EIP-55 mixed-case text, NUL-terminated, for people's eyes. */
void eth_address_format_checksum(
    const struct eth_address *address, char text[ETH_ADDRESS_TEXT_LEN + 1]);

/* 1 when equal, else 0. Addresses are public: not constant time. */
int eth_address_equal(const struct eth_address *a, const struct eth_address *b);

/* 1 when all bytes are zero. */
int eth_word_is_zero(const struct eth_word *word);

/* The word as an unsigned 64-bit integer; KMS_ERANGE when it is larger. */
int eth_word_to_u64(const struct eth_word *word, uint64_t *value);

#endif
