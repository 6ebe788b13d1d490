/* Public keys from outside, as bytes and as hex. */
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"
#include "crypto/p384.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t spki[P384_SPKI_LEN];
	struct p384_point point, again;
	struct p384_key *key = NULL;

	if (crypto_init() != 0)
		abort();
	if (p384_public_parse(data, size, &point) == 0) {
		p384_public_spki(&point, spki);
		if (p384_public_parse(spki, sizeof(spki), &again) != 0 ||
		    !p384_point_equal(&point, &again) ||
		    (size == sizeof(spki) && memcmp(data, spki, size) != 0))
			abort();
	}
	(void)p384_public_parse_hex((const char *)data, size, &point);
	if (p384_key_parse(data, size, &key) == 0)
		p384_key_free(key);
	return 0;
}
