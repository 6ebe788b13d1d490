#include "kms-keeper/arrival.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "proto/msg.h"

bool
arrival_fits(const struct text *sender, const struct text *nonce)
{
	return sender->len <= ARRIVAL_SENDER_MAX &&
	    nonce->len <= ARRIVAL_NONCE_MAX;
}

int
arrival_begin(struct arrival *arrival, const struct text *sender,
    const struct text *nonce, size_t total)
{
	memset(arrival, 0, sizeof(*arrival));
	arrival->data = malloc(total + 1);
	if (arrival->data == NULL)
		return KMS_ENOMEM;
	arrival->total = total;
	memcpy(arrival->sender, sender->text, sender->len);
	arrival->sender_len = sender->len;
	memcpy(arrival->nonce, nonce->text, nonce->len);
	arrival->nonce_len = nonce->len;
	return 0;
}

int
arrival_take(
    struct arrival *arrival, const char *data, size_t len, size_t *credit)
{
	*credit = 0;
	if (len > arrival->total - arrival->len)
		return KMS_EPROTO;
	if (len > 0)
		memcpy(arrival->data + arrival->len, data, len);
	arrival->len += len;
	if (arrival->total > MSG_WINDOW && arrival->len < arrival->total) {
		*credit = arrival->len - arrival->credited;
		arrival->credited = arrival->len;
	}
	return 0;
}

bool
arrival_is_whole(const struct arrival *arrival)
{
	return arrival->len == arrival->total;
}

struct envelope_text
arrival_text(const struct arrival *arrival)
{
	return (struct envelope_text){ arrival->sender, arrival->sender_len,
		arrival->nonce, arrival->nonce_len, arrival->data,
		arrival->total };
}

bool
arrival_has_hash(const struct arrival *arrival, const uint8_t hash[SHA256_LEN])
{
	struct envelope_text text = arrival_text(arrival);
	uint8_t digest[SHA256_LEN];

	return envelope_canonical_hash(&text, digest) == 0 &&
	    CRYPTO_memcmp(digest, hash, SHA256_LEN) == 0;
}

int
arrival_decode(struct arrival *arrival, const struct p384_point *expected,
    uint8_t nonce[AEAD_NONCE_LEN], size_t *sealed_len)
{
	struct envelope_text text = arrival_text(arrival);
	struct p384_point sender;
	bool same =
	    p384_public_is_hex(arrival->sender, arrival->sender_len, expected);

	/* Another's is parsed for the sake of its error. */
	if (envelope_decode(&text, same ? NULL : &sender, nonce,
		(uint8_t *)arrival->data, arrival->total, sealed_len) != 0)
		return KMS_EINVAL;
	return same ? 0 : KMS_EAUTH;
}

void
arrival_free(struct arrival *arrival)
{
	if (arrival->data != NULL)
		OPENSSL_cleanse(arrival->data, arrival->total);
	free(arrival->data);
	arrival->data = NULL;
}
