#include "common/eth.h"

#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/keccak256.h"

int
eth_address_parse(const char *text, size_t len, struct eth_address *address)
{
	return hex_decode_exact(text, len, address->bytes, ETH_ADDRESS_LEN);
}

void
eth_address_format(
    const struct eth_address *address, char text[ETH_ADDRESS_TEXT_LEN + 1])
{
	text[0] = '0';
	text[1] = 'x';
	hex_encode(address->bytes, ETH_ADDRESS_LEN, text + 2);
}

void
eth_address_format_checksum(
    const struct eth_address *address, char text[ETH_ADDRESS_TEXT_LEN + 1])
{
	uint8_t digest[KECCAK256_LEN];

	eth_address_format(address, text);
	keccak256(text + 2, 40, digest);
	for (size_t i = 0; i < 40; i++) {
		unsigned int nibble =
		    i % 2 == 0 ? digest[i / 2] >> 4U : digest[i / 2] & 15U;

		if (text[2 + i] >= 'a' && nibble >= 8)
			text[2 + i] = (char)(text[2 + i] - 'a' + 'A');
	}
}

int
eth_address_equal(const struct eth_address *a, const struct eth_address *b)
{
	return memcmp(a->bytes, b->bytes, ETH_ADDRESS_LEN) == 0;
}

int
eth_word_is_zero(const struct eth_word *word)
{
	uint8_t all = 0;

	for (size_t i = 0; i < ETH_WORD_LEN; i++)
		all |= word->bytes[i];
	return all == 0;
}

int
eth_word_to_u64(const struct eth_word *word, uint64_t *value)
{
	uint64_t result = 0;

	for (size_t i = 0; i < ETH_WORD_LEN; i++) {
		if (i < ETH_WORD_LEN - 8 && word->bytes[i] != 0)
			return KMS_ERANGE;
		result = result << 8 | word->bytes[i];
	}
	*value = result;
	return 0;
}
