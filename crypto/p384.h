/*
 * NIST P-384: public keys as the wire has them and the agreement
 * (PROTOCOL.md section 1, SEC 1, RFC 5480). crypto_init must have been called.
 */
#ifndef KMS_CRYPTO_P384_H
#define KMS_CRYPTO_P384_H

#include <stddef.h>
#include <stdint.h>

#define P384_SCALAR_LEN 48
#define P384_SHARED_LEN 48
#define P384_SEC1_LEN 97  /* 0x04 || x || y */
#define P384_SPKI_LEN 120 /* DER SubjectPublicKeyInfo around it */

/* A point that was checked to be on the curve; equal points, equal bytes. */
struct p384_point {
	uint8_t sec1[P384_SEC1_LEN];
};

/*
 * Accept exactly the 120-byte DER SubjectPublicKeyInfo (named curve,
 * uncompressed) or the 97-byte uncompressed SEC1 point. Everything else, a
 * compressed key, another curve, trailing bytes, a point off the curve or at
 * infinity, is KMS_EINVAL. KMS_ENOMEM.
 */
int p384_public_parse(
    const uint8_t *bytes, size_t len, struct p384_point *point);

/* As p384_public_parse from hex, any case, "0x" optional (section 3). */
int p384_public_parse_hex(
    const char *text, size_t len, struct p384_point *point);

/*
 * 1 when text is hex, as p384_public_parse_hex takes it, of that point, which
 * was checked when it was made: whoever expects a certain key need not check
 * the curve again. Else 0.
 */
int p384_public_is_hex(
    const char *text, size_t len, const struct p384_point *point);

/* The DER SubjectPublicKeyInfo of a point. */
void p384_public_spki(
    const struct p384_point *point, uint8_t spki[P384_SPKI_LEN]);

/* 1 when equal, else 0. Points are public: not constant time. */
int p384_point_equal(const struct p384_point *a, const struct p384_point *b);

/* A private key with its point. Opaque; wiped by p384_key_free. */
struct p384_key;

/*
 * The key with the given scalar, big endian. A fresh key is made from 48
 * bytes of the caller's randomness; KMS_EINVAL when they are zero or not below
 * the group's order (one in 2^189: draw again). KMS_ENOMEM, KMS_ECRYPTO. The
 * caller frees *key.
 */
int p384_key_new(const uint8_t scalar[P384_SCALAR_LEN], struct p384_key **key);

/*
 * A key from DER as `openssl genpkey` and `openssl ec` write it: PKCS #8 (185
 * bytes) or SEC1 (167 bytes), with the named curve and the public point, which
 * must be the scalar's (KMS_EINVAL). Otherwise as p384_key_new.
 */
int p384_key_parse(const uint8_t *der, size_t len, struct p384_key **key);

/* The scalar, for a caller that stores it; the caller wipes it. */
void p384_key_scalar(
    const struct p384_key *key, uint8_t scalar[P384_SCALAR_LEN]);

/* The key's own point; lives as long as the key. */
const struct p384_point *p384_key_point(const struct p384_key *key);

/* Wipe and free; NULL is fine. */
void p384_key_free(struct p384_key *key);

/*
 * ECDH: the 48-byte x coordinate of key times point, which the caller wipes.
 * About 0.8 ms: once per counterpart. KMS_EINVAL when point is not
 * on the curve, KMS_ECRYPTO, KMS_ENOMEM.
 */
int p384_agree(const struct p384_key *key, const struct p384_point *point,
    uint8_t shared[P384_SHARED_LEN]);

#endif
