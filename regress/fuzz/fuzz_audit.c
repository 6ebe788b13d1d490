/* A file that is given to kmsctl audit verify, and its last line to kmsd. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "crypto/crypto.h"
#include "kmsctl/audit_verify.h"
#include "kmsd/audit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t seed[32] = { 1 };
	static struct wallet_context *wallets;
	char reason[AUDIT_VERIFY_REASON_LEN];
	struct audit_verifier *verifier;
	uint8_t hash[AUDIT_HASH_LEN];
	uint64_t lines = 0, seq;

	if (wallets == NULL && crypto_init() == 0)
		wallets = wallet_context_new(seed);
	verifier = audit_verifier_new(wallets, NULL);
	if (wallets == NULL || verifier == NULL)
		abort();
	while (size > 0) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end != NULL ? (size_t)(end - data) : size;
		int error;

		error = audit_verifier_line(
		    verifier, (const char *)data, len, reason);
		(void)audit_line_parse((const char *)data, len, &seq, hash);
		if (error == KMS_EINVAL && reason[0] == '\0')
			abort();
		if (error != 0)
			break;
		lines++;
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	if (audit_verifier_summary(verifier)->lines != lines)
		abort();
	audit_verifier_free(verifier);
	return 0;
}
