/* Plaintexts of app requests: operation in the first byte, then the body. */
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"
#include "crypto/pop.h"
#include "kms-keeper/answer_app.h"
#include "kms-keeper/derive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
no_random(void *arg, uint8_t *out, size_t len)
{
	(void)arg;
	memset(out, 7, len);
}

static struct store *
new_store(void)
{
	struct store_config config;
	struct store *store;

	store_config_init(&config);
	store = store_new(&config);
	if (store == NULL || store_set_member(store, "0xaa", 4) != 0)
		abort();
	return store;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t master[MASTER_SECRET_LEN] = { 1 };
	static const enum operation operations[] = { OPERATION_DERIVE,
		OPERATION_PUT, OPERATION_DELETE };
	static struct store *store;
	static struct target target;
	struct app_context context = { .master = master,
		.app_id = 7,
		.max_value_size = 65536,
		.now = { 1767225600000, 1000 },
		.random = no_random };
	struct app_answer answer;
	struct buf plaintext;
	uint8_t digest[SHA256_LEN];
	uint64_t before;

	if (size == 0)
		return 0;
	if (store == NULL) {
		if (crypto_init() != 0)
			abort();
		store = new_store();
	}
	context.store = store;
	context.bound = (data[0] & 4) != 0;
	target.operation = operations[(data[0] & 3) % 3];
	before = store_stats(store).sequence;
	buf_init(&plaintext, ANSWER_MAX);
	answer_app(&context, &target, data + 1, size - 1, &plaintext, &answer);
	if (answer.status == 200) {
		if (plaintext.len == 0)
			abort();
	} else if (plaintext.len != 0 ||
	    store_stats(store).sequence != before ||
	    pop_error_hash(
		answer_app_code(answer.status), answer.message, digest) != 0) {
		abort();
	}
	buf_free(&plaintext);
	return 0;
}
