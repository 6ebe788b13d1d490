/* A signed transaction: what decodes encodes to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "crypto/eip1559.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t signature[SIGNATURE_LEN];
	struct eip1559 transaction;
	struct buf raw;

	if (eip1559_decode(data, size, &transaction, signature) != 0)
		return 0;
	buf_init(&raw, size);
	if (eip1559_assemble(&transaction, signature, &raw) != 0 ||
	    raw.len != size || memcmp(raw.data, data, size) != 0)
		abort();
	buf_free(&raw);
	return 0;
}
