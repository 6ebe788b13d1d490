/* A caller's signature text: what is accepted is canonical. */
#include <stdlib.h>
#include <string.h>

#include "crypto/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t signature[SIGNATURE_LEN], again[SIGNATURE_LEN];
	char text[SIGNATURE_TEXT_LEN + 1];

	if (signature_parse((const char *)data, size, signature) != 0)
		return 0;
	signature_format(signature, text);
	if (signature[64] > 1 ||
	    signature_parse(text, SIGNATURE_TEXT_LEN, again) != 0 ||
	    memcmp(signature, again, sizeof(again)) != 0 ||
	    signature_normalise(again) != 0 ||
	    memcmp(signature, again, sizeof(again)) != 0)
		abort();
	return 0;
}
