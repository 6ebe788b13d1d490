#include "crypto/envelope.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/json_text.h"
#include "crypto/kdf.h"

#define CANONICAL_PIECES 7

static const char key_info[] = "capsule-ecdh-aes256gcm-v1";

int
envelope_key(const uint8_t shared[P384_SHARED_LEN], const struct p384_point *a,
    const struct p384_point *b, const uint8_t nonce[AEAD_NONCE_LEN],
    uint8_t key[AEAD_KEY_LEN])
{
	uint8_t salt[2 * P384_SEC1_LEN + AEAD_NONCE_LEN];
	int swap = memcmp(a->sec1, b->sec1, P384_SEC1_LEN) > 0;

	memcpy(salt, (swap ? b : a)->sec1, P384_SEC1_LEN);
	memcpy(salt + P384_SEC1_LEN, (swap ? a : b)->sec1, P384_SEC1_LEN);
	memcpy(salt + 2 * P384_SEC1_LEN, nonce, AEAD_NONCE_LEN);
	return hkdf_sha256(shared, P384_SHARED_LEN, salt, sizeof(salt),
	    key_info, sizeof(key_info) - 1, key, AEAD_KEY_LEN);
}

int
envelope_seal(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const void *plaintext, size_t len,
    uint8_t *out)
{
	uint8_t key[AEAD_KEY_LEN];
	int error = envelope_key(shared, own, other, nonce, key);

	if (error == 0)
		error = aead_seal(key, nonce, plaintext, len, out);
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

int
envelope_open(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *sealed, size_t len,
    uint8_t *out)
{
	uint8_t key[AEAD_KEY_LEN];
	int error = envelope_key(shared, own, other, nonce, key);

	if (error == 0)
		error = aead_open(key, nonce, sealed, len, out);
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

int
envelope_decode(const struct envelope_text *text, struct p384_point *sender,
    uint8_t nonce[AEAD_NONCE_LEN], uint8_t *sealed, size_t sealed_size,
    size_t *sealed_len)
{
	int error;

	error = hex_decode_exact(
	    text->nonce, text->nonce_len, nonce, AEAD_NONCE_LEN);
	if (error != 0)
		return error;
	error = hex_decode(
	    text->data, text->data_len, sealed, sealed_size, sealed_len);
	if (error != 0)
		return error;
	if (*sealed_len < AEAD_TAG_LEN)
		return KMS_EINVAL;
	if (sender == NULL)
		return 0;
	return p384_public_parse_hex(text->sender, text->sender_len, sender);
}

#define LITERAL(text) ((struct piece){ (text), sizeof(text) - 1 })

static int
canonical_pieces(
    const struct envelope_text *text, struct piece pieces[CANONICAL_PIECES])
{
	if (!json_text_is_plain(text->data, text->data_len) ||
	    !json_text_is_plain(text->nonce, text->nonce_len) ||
	    !json_text_is_plain(text->sender, text->sender_len))
		return KMS_EINVAL;
	pieces[0] = LITERAL("{\"encrypted_data\":\"");
	pieces[1] = (struct piece){ text->data, text->data_len };
	pieces[2] = LITERAL("\",\"nonce\":\"");
	pieces[3] = (struct piece){ text->nonce, text->nonce_len };
	pieces[4] = LITERAL("\",\"sender_tee_pubkey\":\"");
	pieces[5] = (struct piece){ text->sender, text->sender_len };
	pieces[6] = LITERAL("\"}");
	return 0;
}

int
envelope_canonical_hash(
    const struct envelope_text *text, uint8_t digest[SHA256_LEN])
{
	struct piece pieces[CANONICAL_PIECES];
	int error = canonical_pieces(text, pieces);

	if (error != 0)
		return error;
	return sha256_pieces(pieces, CANONICAL_PIECES, digest);
}

int
envelope_canonical_hmac(const uint8_t *key, size_t key_len,
    const struct envelope_text *text, uint8_t mac[SHA256_LEN])
{
	struct piece pieces[CANONICAL_PIECES];
	int error = canonical_pieces(text, pieces);

	if (error != 0)
		return error;
	return hmac_sha256_pieces(key, key_len, pieces, CANONICAL_PIECES, mac);
}

int
envelope_canonical_append(const struct envelope_text *text, struct buf *out)
{
	struct piece pieces[CANONICAL_PIECES];
	size_t total = 0;
	uint8_t *space;
	int error = canonical_pieces(text, pieces);

	if (error != 0)
		return error;
	for (size_t i = 0; i < CANONICAL_PIECES; i++) {
		if (pieces[i].len > SIZE_MAX - total)
			return KMS_ETOOBIG;
		total += pieces[i].len;
	}
	error = buf_reserve(out, total, &space);
	if (error != 0)
		return error;
	for (size_t i = 0; i < CANONICAL_PIECES; i++)
		(void)buf_append(out, pieces[i].data, pieces[i].len);
	return 0;
}
