#include "crypto/signature.h"

#include <string.h>

#include "common/err.h"
#include "common/hex.h"

#define SCALAR_LEN 32

/* The order of secp256k1 (SEC 2 section 2.4.1), and its half rounded down. */
static const uint8_t order[SCALAR_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae,
	0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
	0x41, 0x41 };
static const uint8_t half_order[SCALAR_LEN] = { 0x7f, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
	0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68,
	0x1b, 0x20, 0xa0 };

/* 1..order-1. Signatures are public: not constant time. */
static int
scalar_in_range(const uint8_t scalar[SCALAR_LEN])
{
	static const uint8_t zero[SCALAR_LEN];

	return memcmp(scalar, zero, SCALAR_LEN) != 0 &&
	    memcmp(scalar, order, SCALAR_LEN) < 0;
}

/* v to 0 or 1 and the ranges of r and s. */
static int
check_ranges(uint8_t signature[SIGNATURE_LEN])
{
	uint8_t v = signature[64];

	if (v == 27 || v == 28)
		v = (uint8_t)(v - 27);
	if (v > 1)
		return KMS_EINVAL;
	if (!scalar_in_range(signature) ||
	    !scalar_in_range(signature + SCALAR_LEN))
		return KMS_EINVAL;
	signature[64] = v;
	return 0;
}

static int
has_high_s(const uint8_t signature[SIGNATURE_LEN])
{
	return memcmp(signature + SCALAR_LEN, half_order, SCALAR_LEN) > 0;
}

int
signature_check(uint8_t signature[SIGNATURE_LEN])
{
	int error = check_ranges(signature);

	if (error != 0)
		return error;
	return has_high_s(signature) ? KMS_EINVAL : 0;
}

int
signature_parse(const char *text, size_t len, uint8_t signature[SIGNATURE_LEN])
{
	int error = hex_decode_exact(text, len, signature, SIGNATURE_LEN);

	return error != 0 ? error : signature_check(signature);
}

void
signature_format(
    const uint8_t signature[SIGNATURE_LEN], char text[SIGNATURE_TEXT_LEN + 1])
{
	text[0] = '0';
	text[1] = 'x';
	hex_encode(signature, SIGNATURE_LEN, text + 2);
}

/* s = order - s */
static void
negate_s(uint8_t s[SCALAR_LEN])
{
	int borrow = 0;

	for (size_t i = SCALAR_LEN; i-- > 0;) {
		int difference = order[i] - s[i] - borrow;

		borrow = difference < 0;
		s[i] = (uint8_t)(difference & 0xff);
	}
}

int
signature_normalise(uint8_t signature[SIGNATURE_LEN])
{
	int error = check_ranges(signature);

	if (error != 0)
		return error;
	if (has_high_s(signature)) {
		negate_s(signature + SCALAR_LEN);
		signature[64] ^= 1;
	}
	return 0;
}
