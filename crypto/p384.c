#include "crypto/p384.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/algorithms.h"

struct p384_key {
	BIGNUM *scalar;
	struct p384_point point;
};

/*
 * SEQUENCE { SEQUENCE { OID ecPublicKey, OID secp384r1 }, BIT STRING }, up to
 * the point: the only encoding of such a key in DER.
 */
static const uint8_t spki_prefix[P384_SPKI_LEN - P384_SEC1_LEN] = { 0x30, 0x76,
	0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00 };

/* PKCS #8 (RFC 5958) around an RFC 5915 key without its own parameters. */
static const uint8_t pkcs8_prefix[] = { 0x30, 0x81, 0xb6, 0x02, 0x01, 0x00,
	0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x04, 0x81, 0x9e, 0x30, 0x81, 0x9b,
	0x02, 0x01, 0x01, 0x04, 0x30 };
static const uint8_t pkcs8_middle[] = { 0xa1, 0x64, 0x03, 0x62, 0x00 };

/* RFC 5915 with the named curve. */
static const uint8_t sec1_prefix[] = { 0x30, 0x81, 0xa4, 0x02, 0x01, 0x01, 0x04,
	0x30 };
static const uint8_t sec1_middle[] = { 0xa0, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04,
	0x00, 0x22, 0xa1, 0x64, 0x03, 0x62, 0x00 };

/* The point as OpenSSL holds it, checked to be on the curve; or NULL. */
static EC_POINT *
point_load(const uint8_t sec1[P384_SEC1_LEN])
{
	const EC_GROUP *group = crypto_algorithms()->p384;
	EC_POINT *point;

	if (group == NULL || sec1[0] != POINT_CONVERSION_UNCOMPRESSED)
		return NULL;
	point = EC_POINT_new(group);
	if (point == NULL)
		return NULL;
	/* Refuses coordinates not below p and points off the curve. */
	if (EC_POINT_oct2point(group, point, sec1, P384_SEC1_LEN, NULL) != 1) {
		EC_POINT_free(point);
		return NULL;
	}
	return point;
}

int
p384_public_parse(const uint8_t *bytes, size_t len, struct p384_point *point)
{
	EC_POINT *loaded;

	if (len == P384_SPKI_LEN) {
		if (memcmp(bytes, spki_prefix, sizeof(spki_prefix)) != 0)
			return KMS_EINVAL;
		bytes += sizeof(spki_prefix);
		len -= sizeof(spki_prefix);
	}
	if (len != P384_SEC1_LEN)
		return KMS_EINVAL;
	loaded = point_load(bytes);
	if (loaded == NULL)
		return KMS_EINVAL;
	EC_POINT_free(loaded);
	memcpy(point->sec1, bytes, P384_SEC1_LEN);
	return 0;
}

int
p384_public_parse_hex(const char *text, size_t len, struct p384_point *point)
{
	uint8_t bytes[P384_SPKI_LEN];
	size_t bytes_len;

	if (hex_decode(text, len, bytes, sizeof(bytes), &bytes_len) != 0)
		return KMS_EINVAL;
	return p384_public_parse(bytes, bytes_len, point);
}

int
p384_public_is_hex(const char *text, size_t len, const struct p384_point *point)
{
	uint8_t bytes[P384_SPKI_LEN], spki[P384_SPKI_LEN];
	size_t bytes_len;

	if (hex_decode(text, len, bytes, sizeof(bytes), &bytes_len) != 0)
		return 0;
	if (bytes_len == P384_SEC1_LEN)
		return memcmp(bytes, point->sec1, P384_SEC1_LEN) == 0;
	p384_public_spki(point, spki);
	return bytes_len == P384_SPKI_LEN &&
	    memcmp(bytes, spki, P384_SPKI_LEN) == 0;
}

void
p384_public_spki(const struct p384_point *point, uint8_t spki[P384_SPKI_LEN])
{
	memcpy(spki, spki_prefix, sizeof(spki_prefix));
	memcpy(spki + sizeof(spki_prefix), point->sec1, P384_SEC1_LEN);
}

int
p384_point_equal(const struct p384_point *a, const struct p384_point *b)
{
	return memcmp(a->sec1, b->sec1, P384_SEC1_LEN) == 0;
}

/*
 * Set *out to scalar times point, or times the generator when point is NULL.
 * With one factor OpenSSL takes its ladder, whose time does not depend on the
 * scalar, on blinded coordinates.
 */
static int
multiply(const BIGNUM *scalar, const EC_POINT *point, EC_POINT *out)
{
	const EC_GROUP *group = crypto_algorithms()->p384;
	BN_CTX *scratch = BN_CTX_secure_new();
	int done;

	if (scratch == NULL)
		return KMS_ENOMEM;
	if (point == NULL)
		done = EC_POINT_mul(group, out, scalar, NULL, NULL, scratch);
	else
		done = EC_POINT_mul(group, out, NULL, point, scalar, scratch);
	BN_CTX_free(scratch);
	return done == 1 ? 0 : KMS_ECRYPTO;
}

static int
key_set_point(struct p384_key *key)
{
	const EC_GROUP *group = crypto_algorithms()->p384;
	EC_POINT *point = EC_POINT_new(group);
	int error;

	if (point == NULL)
		return KMS_ENOMEM;
	error = multiply(key->scalar, NULL, point);
	if (error == 0 &&
	    EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED,
		key->point.sec1, P384_SEC1_LEN, NULL) != P384_SEC1_LEN)
		error = KMS_ECRYPTO;
	EC_POINT_free(point);
	return error;
}

int
p384_key_new(const uint8_t scalar[P384_SCALAR_LEN], struct p384_key **key)
{
	const EC_GROUP *group = crypto_algorithms()->p384;
	struct p384_key *made;
	int error = KMS_ENOMEM;

	if (group == NULL)
		return KMS_ECRYPTO;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return KMS_ENOMEM;
	made->scalar = BN_secure_new();
	if (made->scalar == NULL ||
	    BN_bin2bn(scalar, P384_SCALAR_LEN, made->scalar) == NULL)
		goto free_key;
	BN_set_flags(made->scalar, BN_FLG_CONSTTIME);
	error = KMS_EINVAL;
	if (BN_is_zero(made->scalar) ||
	    BN_cmp(made->scalar, EC_GROUP_get0_order(group)) >= 0)
		goto free_key;
	error = key_set_point(made);
	if (error != 0)
		goto free_key;
	*key = made;
	return 0;
free_key:
	p384_key_free(made);
	return error;
}

/* prefix || scalar || middle || point, and nothing else. */
static int
parse_der(const uint8_t *der, const uint8_t *prefix, size_t prefix_len,
    const uint8_t *middle, size_t middle_len, struct p384_key **key)
{
	const uint8_t *scalar = der + prefix_len;
	struct p384_key *made = NULL;
	int error;

	if (memcmp(der, prefix, prefix_len) != 0 ||
	    memcmp(scalar + P384_SCALAR_LEN, middle, middle_len) != 0)
		return KMS_EINVAL;
	error = p384_key_new(scalar, &made);
	if (error != 0)
		return error;
	if (memcmp(made->point.sec1, scalar + P384_SCALAR_LEN + middle_len,
		P384_SEC1_LEN) != 0) {
		p384_key_free(made);
		return KMS_EINVAL;
	}
	*key = made;
	return 0;
}

int
p384_key_parse(const uint8_t *der, size_t len, struct p384_key **key)
{
	const size_t body = P384_SCALAR_LEN + P384_SEC1_LEN;

	if (len == sizeof(pkcs8_prefix) + sizeof(pkcs8_middle) + body)
		return parse_der(der, pkcs8_prefix, sizeof(pkcs8_prefix),
		    pkcs8_middle, sizeof(pkcs8_middle), key);
	if (len == sizeof(sec1_prefix) + sizeof(sec1_middle) + body)
		return parse_der(der, sec1_prefix, sizeof(sec1_prefix),
		    sec1_middle, sizeof(sec1_middle), key);
	return KMS_EINVAL;
}

void
p384_key_scalar(const struct p384_key *key, uint8_t scalar[P384_SCALAR_LEN])
{
	(void)BN_bn2binpad(key->scalar, scalar, P384_SCALAR_LEN);
}

const struct p384_point *
p384_key_point(const struct p384_key *key)
{
	return &key->point;
}

void
p384_key_free(struct p384_key *key)
{
	if (key == NULL)
		return;
	BN_clear_free(key->scalar);
	free(key);
}

/* The x coordinate, padded to 48 bytes. */
static int
point_x(const EC_POINT *point, uint8_t x[P384_SHARED_LEN])
{
	const EC_GROUP *group = crypto_algorithms()->p384;
	BIGNUM *number = BN_secure_new();
	int error = KMS_ECRYPTO;

	if (number == NULL)
		return KMS_ENOMEM;
	/* Fails at infinity, which a point of prime order cannot reach. */
	if (EC_POINT_get_affine_coordinates(group, point, number, NULL, NULL) ==
		1 &&
	    BN_bn2binpad(number, x, P384_SHARED_LEN) == P384_SHARED_LEN)
		error = 0;
	BN_clear_free(number);
	return error;
}

int
p384_agree(const struct p384_key *key, const struct p384_point *point,
    uint8_t shared[P384_SHARED_LEN])
{
	EC_POINT *other = point_load(point->sec1);
	EC_POINT *product = NULL;
	int error = KMS_EINVAL;

	if (other == NULL)
		goto free_points;
	error = KMS_ENOMEM;
	product = EC_POINT_new(crypto_algorithms()->p384);
	if (product == NULL)
		goto free_points;
	error = multiply(key->scalar, other, product);
	if (error == 0)
		error = point_x(product, shared);
free_points:
	EC_POINT_clear_free(product);
	EC_POINT_free(other);
	return error;
}
