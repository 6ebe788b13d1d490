/* The decoders of what a chain endpoint returns; byte 0 chooses which. */
#include <stdint.h>
#include <stdlib.h>

#include "common/abi.h"

#define WALLETS_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
decode_instance(const uint8_t *data, size_t size)
{
	struct abi_instance instance;

	if (abi_decode_instance(data, size, &instance) != 0)
		return;
	if (instance.instance_url_len > ABI_INSTANCE_URL_MAX ||
	    instance.tee_pubkey_len > ABI_TEE_PUBKEY_MAX ||
	    instance.instance_url[instance.instance_url_len] != '\0')
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct eth_address wallets[WALLETS_MAX];
	struct abi_version version;
	struct abi_revert revert;
	struct eth_word word;
	struct abi_app app;
	uint64_t number;
	size_t count;
	bool flag;

	if (size == 0)
		return 0;
	switch (data[0] % 5) {
	case 0:
		decode_instance(data + 1, size - 1);
		break;
	case 1:
		(void)abi_decode_app(data + 1, size - 1, &app);
		break;
	case 2:
		(void)abi_decode_version(data + 1, size - 1, &version);
		break;
	case 3:
		if (abi_decode_addresses(data + 1, size - 1, wallets,
			WALLETS_MAX, &count) == 0 &&
		    count > WALLETS_MAX)
			abort();
		break;
	case 4:
		abi_decode_revert(data + 1, size - 1, &revert);
		(void)abi_decode_word(data + 1, size - 1, &word);
		(void)abi_decode_uint(data + 1, size - 1, &number);
		(void)abi_decode_bool(data + 1, size - 1, &flag);
		break;
	}
	return 0;
}
