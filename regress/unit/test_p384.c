#include "regress/unit/vector.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "common/err.h"
#include "crypto/p384.h"
#include "regress/unit/crypto_setup.h"

struct tally {
	size_t agreed, refused, stricter;
};

/* Wycheproof writes private keys as numbers: any number of leading zeros. */
static void
private_scalar(const json_t *test, uint8_t scalar[P384_SCALAR_LEN])
{
	size_t text_len, len, skip = 0;
	const char *text = vector_text(test, "private", &text_len);
	char padded[256] = "0";
	uint8_t bytes[128];

	assert_true(text_len + 2 < sizeof(padded));
	memcpy(padded + text_len % 2, text, text_len + 1);
	assert_int_equal(hex_decode(padded, text_len + text_len % 2, bytes,
			     sizeof(bytes), &len),
	    0);
	while (len - skip > P384_SCALAR_LEN)
		assert_int_equal(bytes[skip++], 0);
	memset(scalar, 0, P384_SCALAR_LEN);
	memcpy(
	    scalar + P384_SCALAR_LEN - (len - skip), bytes + skip, len - skip);
}

static void
agree_case(const json_t *test, const struct p384_point *point)
{
	uint8_t scalar[P384_SCALAR_LEN], shared[P384_SHARED_LEN];
	uint8_t expected[P384_SHARED_LEN];
	struct p384_key *key = NULL;

	private_scalar(test, scalar);
	vector_exact(test, "shared", expected, sizeof(expected));
	assert_int_equal(p384_key_new(scalar, &key), 0);
	assert_int_equal(p384_agree(key, point, shared), 0);
	assert_memory_equal(shared, expected, sizeof(shared));
	p384_key_free(key);
}

static void
ecdh_case(const json_t *test, const json_t *group, void *arg)
{
	struct tally *tally = arg;
	struct p384_point point;
	size_t len;
	uint8_t *public_key = vector_bytes(test, "public", &len);
	int error = p384_public_parse(public_key, len, &point);

	(void)group;
	if (vector_result_is(test, "valid")) {
		assert_int_equal(error, 0);
		agree_case(test, &point);
		tally->agreed++;
	} else {
		/* What Wycheproof finds acceptable is refused here, too. */
		assert_int_equal(error, KMS_EINVAL);
		if (vector_result_is(test, "acceptable"))
			tally->stricter++;
		else
			tally->refused++;
	}
	free(public_key);
}

static void
ecpoint_wycheproof(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	vector_wycheproof(
	    "regress/vectors/wycheproof/ecdh_secp384r1_ecpoint_test.json",
	    ecdh_case, &tally);
	assert_int_equal(tally.agreed, 771);
	assert_int_equal(tally.refused, 18);
	assert_int_equal(tally.stricter, 1);
}

static void
spki_wycheproof(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	vector_wycheproof("regress/vectors/wycheproof/ecdh_secp384r1_test.json",
	    ecdh_case, &tally);
	assert_int_equal(tally.agreed, 771);
	assert_int_equal(tally.refused, 46);
	assert_int_equal(tally.stricter, 230);
}

static struct p384_key *
key_of(uint8_t last)
{
	uint8_t scalar[P384_SCALAR_LEN] = { 0, [47] = last };
	struct p384_key *key = NULL;

	assert_int_equal(p384_key_new(scalar, &key), 0);
	return key;
}

/* The short cut of who expects a certain key: that key and no other text. */
static void
public_is_hex(void **state)
{
	struct p384_key *key = key_of(7), *other = key_of(8);
	const struct p384_point *point = p384_key_point(key);
	uint8_t spki[P384_SPKI_LEN];
	char text[2 * P384_SPKI_LEN + 3] = "0x";
	char raw[2 * P384_SEC1_LEN + 1];

	(void)state;
	p384_public_spki(point, spki);
	hex_encode(spki, sizeof(spki), text + 2);
	hex_encode(point->sec1, P384_SEC1_LEN, raw);
	assert_int_equal(p384_public_is_hex(text, strlen(text), point), 1);
	assert_int_equal(
	    p384_public_is_hex(text + 2, strlen(text) - 2, point), 1);
	assert_int_equal(p384_public_is_hex(raw, strlen(raw), point), 1);
	assert_int_equal(
	    p384_public_is_hex(text, strlen(text), p384_key_point(other)), 0);
	for (size_t len = 0; len < strlen(text); len++)
		assert_int_equal(p384_public_is_hex(text, len, point), 0);
	for (size_t i = 2; text[i] != '\0'; i++) {
		char was = text[i];

		text[i] = was == '0' ? '1' : '0';
		assert_int_equal(
		    p384_public_is_hex(text, strlen(text), point), 0);
		text[i] = was;
	}
	p384_key_free(key);
	p384_key_free(other);
}

static void
public_forms(void **state)
{
	struct p384_key *key = key_of(5);
	const struct p384_point *point = p384_key_point(key);
	uint8_t spki[P384_SPKI_LEN + 1] = { 0 };
	char text[2 * P384_SPKI_LEN + 3] = "0x";
	struct p384_point parsed;

	(void)state;
	p384_public_spki(point, spki);
	assert_int_equal(p384_public_parse(spki, P384_SPKI_LEN, &parsed), 0);
	assert_true(p384_point_equal(point, &parsed));
	assert_int_equal(
	    p384_public_parse(point->sec1, P384_SEC1_LEN, &parsed), 0);
	assert_true(p384_point_equal(point, &parsed));
	for (size_t len = 0; len <= sizeof(spki); len++) {
		if (len != P384_SPKI_LEN)
			assert_int_equal(
			    p384_public_parse(spki, len, &parsed), KMS_EINVAL);
	}
	/* Hybrid (6, 7), compressed (2, 3), infinity (0). */
	parsed = *point;
	for (unsigned int form = 0; form < 256; form++) {
		parsed.sec1[0] = (uint8_t)form;
		assert_int_equal(
		    p384_public_parse(parsed.sec1, P384_SEC1_LEN, &parsed),
		    form == 4 ? 0 : KMS_EINVAL);
	}
	hex_encode(spki, P384_SPKI_LEN, text + 2);
	assert_int_equal(
	    p384_public_parse_hex(text, sizeof(text) - 1, &parsed), 0);
	assert_int_equal(
	    p384_public_parse_hex(text + 2, sizeof(text) - 3, &parsed), 0);
	assert_int_equal(
	    p384_public_parse_hex(text, sizeof(text) - 2, &parsed), KMS_EINVAL);
	p384_key_free(key);
}

/* A coordinate of p or more names the same point twice: refused. */
static void
coordinates_below_p(void **state)
{
	static const uint8_t p_tail[] = { 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff,
		0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xff, 0xff, 0xff, 0xff };
	struct p384_point point = { { 4 } };

	(void)state;
	memset(point.sec1 + 1, 0xff, 48);
	memcpy(point.sec1 + 1 + 28, p_tail, sizeof(p_tail));
	assert_int_equal(
	    p384_public_parse(point.sec1, P384_SEC1_LEN, &point), KMS_EINVAL);
}

static void
scalar_range(void **state)
{
	uint8_t order[P384_SCALAR_LEN], got[P384_SCALAR_LEN];
	struct p384_key *key = NULL;

	(void)state;
	assert_int_equal(
	    hex_decode_exact("ffffffffffffffffffffffffffffffffffffffffffffffff"
			     "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
		96, order, sizeof(order)),
	    0);
	assert_int_equal(p384_key_new(order, &key), KMS_EINVAL);
	order[47]--;
	assert_int_equal(p384_key_new(order, &key), 0);
	p384_key_scalar(key, got);
	assert_memory_equal(got, order, sizeof(got));
	p384_key_free(key);
	memset(order, 0, sizeof(order));
	assert_int_equal(p384_key_new(order, &key), KMS_EINVAL);
	p384_key_free(NULL);
}

static void
off_curve_agreement(void **state)
{
	struct p384_key *key = key_of(7);
	struct p384_point point = *p384_key_point(key);
	uint8_t shared[P384_SHARED_LEN];

	(void)state;
	point.sec1[96] ^= 1;
	assert_int_equal(p384_agree(key, &point, shared), KMS_EINVAL);
	p384_key_free(key);
}

static void
check_der(const uint8_t *der, size_t len, const uint8_t *sec1)
{
	uint8_t copy[256];
	struct p384_key *key = NULL;

	assert_true(len < sizeof(copy));
	assert_int_equal(p384_key_parse(der, len, &key), 0);
	assert_memory_equal(p384_key_point(key)->sec1, sec1, P384_SEC1_LEN);
	p384_key_free(key);
	assert_int_equal(p384_key_parse(der, len - 1, &key), KMS_EINVAL);
	memcpy(copy, der, len);
	copy[len] = 0;
	assert_int_equal(p384_key_parse(copy, len + 1, &key), KMS_EINVAL);
	copy[len - 1] ^= 1; /* not the scalar's point */
	assert_int_equal(p384_key_parse(copy, len, &key), KMS_EINVAL);
	copy[len - 1] ^= 1;
	copy[5] ^= 1;
	assert_int_equal(p384_key_parse(copy, len, &key), KMS_EINVAL);
}

/* Keys as OpenSSL writes them, in both forms. */
static void
private_der(void **state)
{
	EVP_PKEY *generated = EVP_EC_gen("P-384");
	PKCS8_PRIV_KEY_INFO *info;
	uint8_t *sec1_der = NULL, *pkcs8_der = NULL, *spki_der = NULL;
	int sec1_len, pkcs8_len;
	struct p384_point point;

	(void)state;
	assert_non_null(generated);
	assert_int_equal(i2d_PUBKEY(generated, &spki_der), P384_SPKI_LEN);
	assert_int_equal(p384_public_parse(spki_der, P384_SPKI_LEN, &point), 0);
	sec1_len = i2d_PrivateKey(generated, &sec1_der);
	assert_int_equal(sec1_len, 167);
	info = EVP_PKEY2PKCS8(generated);
	assert_non_null(info);
	pkcs8_len = i2d_PKCS8_PRIV_KEY_INFO(info, &pkcs8_der);
	assert_int_equal(pkcs8_len, 185);
	check_der(sec1_der, (size_t)sec1_len, point.sec1);
	check_der(pkcs8_der, (size_t)pkcs8_len, point.sec1);
	PKCS8_PRIV_KEY_INFO_free(info);
	OPENSSL_free(pkcs8_der);
	OPENSSL_free(sec1_der);
	OPENSSL_free(spki_der);
	EVP_PKEY_free(generated);
}

/* A changed key is refused or another point, which parses to itself. */
static void
mutations(void **state)
{
	struct p384_key *key = key_of(11);
	uint8_t spki[P384_SPKI_LEN], again[P384_SPKI_LEN];
	struct p384_point point;
	uint64_t random = 0x9e3779b97f4a7c15;
	size_t refused = 0;

	(void)state;
	for (size_t i = 0; i < 20000; i++) {
		p384_public_spki(p384_key_point(key), spki);
		vector_mutate(&random, spki, sizeof(spki));
		if (p384_public_parse(spki, sizeof(spki), &point) != 0) {
			refused++;
			continue;
		}
		p384_public_spki(&point, again);
		assert_memory_equal(again, spki, sizeof(spki));
	}
	assert_true(refused > 19000);
	p384_key_free(key);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ecpoint_wycheproof),
		cmocka_unit_test(spki_wycheproof),
		cmocka_unit_test(public_is_hex),
		cmocka_unit_test(public_forms),
		cmocka_unit_test(coordinates_below_p),
		cmocka_unit_test(scalar_range),
		cmocka_unit_test(off_curve_agreement),
		cmocka_unit_test(private_der),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
