/*
 * Envelopes (PROTOCOL.md section 3): AES-256-GCM under a key that both ends
 * derive from their shared P-384 secret, their two points and the nonce.
 */
#ifndef KMS_CRYPTO_ENVELOPE_H
#define KMS_CRYPTO_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "crypto/aead.h"
#include "crypto/p384.h"
#include "crypto/sha256.h"

/* The three strings of an envelope as they are on the wire; borrowed. */
struct envelope_text {
	const char *sender; /* sender_tee_pubkey */
	size_t sender_len;
	const char *nonce;
	size_t nonce_len;
	const char *data; /* encrypted_data */
	size_t data_len;
};

/*
 * The key of one envelope. a and b are the two ends' points in any order. The
 * caller wipes key. KMS_ECRYPTO.
 */
int envelope_key(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *a, const struct p384_point *b,
    const uint8_t nonce[AEAD_NONCE_LEN], uint8_t key[AEAD_KEY_LEN]);

/*
 * Seal len bytes: ciphertext || tag, len + AEAD_TAG_LEN bytes, to out (may be
 * plaintext itself). nonce: 12 fresh random bytes. KMS_ETOOBIG, KMS_ECRYPTO.
 */
int envelope_seal(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const void *plaintext, size_t len,
    uint8_t *out);

/*
 * Open what the other end sealed: len - AEAD_TAG_LEN bytes to out (may be
 * sealed itself). KMS_EAUTH when it does not authenticate (out is zeroed) or
 * is shorter than a tag, KMS_ETOOBIG, KMS_ECRYPTO.
 */
int envelope_open(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *sealed, size_t len,
    uint8_t *out);

/*
 * Decode the three strings (hex in any case, "0x" optional) to the sender's
 * point, the nonce and the sealed bytes (room for sealed_size; *sealed_len at
 * least AEAD_TAG_LEN). With sender NULL the sender's text is not looked at.
 * KMS_EINVAL when one is malformed, KMS_ETOOBIG when the data does not fit.
 */
int envelope_decode(const struct envelope_text *text, struct p384_point *sender,
    uint8_t nonce[AEAD_NONCE_LEN], uint8_t *sealed, size_t sealed_size,
    size_t *sealed_len);

/*
 * The canonical form
 *   {"encrypted_data":"...","nonce":"...","sender_tee_pubkey":"..."}
 * (sections 2 and 7) with the strings as sent: its SHA-256, its HMAC-SHA256
 * (X-Sync-Signature), or the text itself appended to out. The strings hold no
 * character that JSON escapes: KMS_EINVAL. KMS_ECRYPTO; append also gives
 * KMS_ETOOBIG and KMS_ENOMEM and leaves out unchanged then.
 */
int envelope_canonical_hash(
    const struct envelope_text *text, uint8_t digest[SHA256_LEN]);
int envelope_canonical_hmac(const uint8_t *key, size_t key_len,
    const struct envelope_text *text, uint8_t mac[SHA256_LEN]);
int envelope_canonical_append(
    const struct envelope_text *text, struct buf *out);

#endif
