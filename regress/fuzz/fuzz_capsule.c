/*
 * What the identity service answers: HTTP by pieces and at once gives the
 * same, and of its body every reader makes something or refuses it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "crypto/crypto.h"
#include "kms-keeper/capsule_http.h"
#include "kms-keeper/capsule_json.h"

#define BODY_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_body(const struct buf *body)
{
	uint8_t raw[TRANSACTION_RAW_MAX], signature[SIGNATURE_LEN];
	uint8_t bytes[CAPSULE_RANDOM_LEN];
	struct eth_address wallet;
	struct p384_point point = { { 0 } };
	struct buf out;
	size_t len;

	buf_init(&out, BODY_MAX);
	(void)capsule_json_address(body, &wallet);
	(void)capsule_json_public_key(body, &point);
	(void)capsule_json_random(body, bytes);
	(void)capsule_json_signature(body, signature);
	if (capsule_json_raw_transaction(body, raw, &len) == 0 &&
	    len > sizeof(raw))
		abort();
	(void)capsule_json_sealed(body, &point, &out);
	buf_free(&out);
	if (capsule_json_plaintext(body, &out) == 0 && out.len > body->len)
		abort();
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct capsule_http whole, pieces;
	static int ready;
	struct buf body;
	int all, some = KMS_EAGAIN;

	if (!ready && crypto_init() != 0)
		abort();
	ready = 1;
	if (size > BODY_MAX)
		return 0;
	capsule_http_init(&whole, BODY_MAX);
	capsule_http_init(&pieces, BODY_MAX);
	all = capsule_http_feed(&whole, data, size);
	for (size_t i = 0; i < size && (some == KMS_EAGAIN || some == 0); i++)
		some = capsule_http_feed(&pieces, data + i, 1);
	if (all != some || whole.body.len != pieces.body.len)
		abort();
	if (all == 0)
		read_body(&whole.body);
	capsule_http_free(&whole);
	capsule_http_free(&pieces);
	/* And as a body that came well. */
	buf_init(&body, BODY_MAX);
	if (buf_append(&body, data, size) != 0)
		abort();
	read_body(&body);
	buf_free(&body);
	return 0;
}
