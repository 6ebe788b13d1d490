#include "regress/unit/vector.h"

#include <secp256k1.h>
#include <stdio.h>

#include "common/err.h"
#include "crypto/sha256.h"
#include "crypto/wallet.h"
#include "regress/unit/crypto_setup.h"

#define ORDER "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
#define HALF "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0"
#define HALF1 "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1"
#define ONE "0000000000000000000000000000000000000000000000000000000000000001"
#define ZERO "0000000000000000000000000000000000000000000000000000000000000000"

static struct wallet_context *
context_new(void)
{
	static const uint8_t seed[32] = { 42 };
	struct wallet_context *context = wallet_context_new(seed);

	assert_non_null(context);
	return context;
}

static void
eip191_case(const struct wallet_context *context, const json_t *vector)
{
	uint8_t key[WALLET_KEY_LEN], signature[SIGNATURE_LEN];
	uint8_t parsed[SIGNATURE_LEN];
	char text[SIGNATURE_TEXT_LEN + 1], wallet[ETH_ADDRESS_TEXT_LEN + 1];
	struct eth_address address;
	size_t len, text_len;
	const char *message = vector_text(vector, "message", &len);
	const char *checksum =
	    vector_text(vector, "address_checksum", &text_len);

	vector_exact(vector, "private_key", key, sizeof(key));
	assert_int_equal(wallet_key_check(context, key), 0);
	assert_int_equal(wallet_key_address(context, key, &address), 0);
	eth_address_format(&address, wallet);
	assert_string_equal(wallet, vector_text(vector, "address", &text_len));
	eth_address_format_checksum(&address, wallet);
	assert_string_equal(wallet, checksum);
	assert_int_equal(
	    wallet_sign_message(context, key, message, len, signature), 0);
	signature_format(signature, text);
	assert_string_equal(
	    text, vector_text(vector, "signature_wire", &text_len));
	assert_int_equal(
	    signature_parse(vector_text(vector, "signature", &text_len),
		SIGNATURE_TEXT_LEN, parsed),
	    0);
	assert_memory_equal(parsed, signature, sizeof(parsed));
	memset(&address, 0, sizeof(address));
	assert_int_equal(
	    wallet_recover_message(context, message, len, parsed, &address), 0);
	eth_address_format_checksum(&address, wallet);
	assert_string_equal(wallet, checksum);
}

static void
eip191_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/eip191.json");
	struct wallet_context *context = context_new();
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector) eip191_case(context, vector);
	assert_int_equal(i, 20);
	wallet_context_free(context);
	json_decref(root);
}

struct wycheproof {
	struct wallet_context *context;
	secp256k1_context *curve;
	size_t recovered, wrapped, refused_form, refused_signature, high_s;
};

/* Whether a canonical r || s recovers to the key's address with some v. */
static int
recovers(const struct wycheproof *w, const uint8_t *compact,
    const uint8_t digest[32], const struct eth_address *expected)
{
	uint8_t signature[SIGNATURE_LEN];
	struct eth_address address;

	for (uint8_t v = 0; v < 2; v++) {
		memcpy(signature, compact, 64);
		signature[64] = v;
		if (wallet_recover_digest(
			w->context, digest, signature, &address) == 0 &&
		    eth_address_equal(&address, expected))
			return 1;
	}
	return 0;
}

static void
ecdsa_case(const json_t *test, const json_t *group, void *arg)
{
	struct wycheproof *w = arg;
	secp256k1_ecdsa_signature parsed;
	secp256k1_pubkey public_key;
	uint8_t digest[32], compact[65] = { 0 }, key[65];
	size_t message_len, der_len;
	uint8_t *message = vector_bytes(test, "msg", &message_len);
	uint8_t *der = vector_bytes(test, "sig", &der_len);
	int valid = vector_result_is(test, "valid"), verified;
	struct eth_address address;

	vector_exact(json_object_get(group, "publicKey"), "uncompressed", key,
	    sizeof(key));
	assert_int_equal(
	    wallet_public_address(w->context, key, sizeof(key), &address), 0);
	assert_int_equal(
	    secp256k1_ec_pubkey_parse(w->curve, &public_key, key, 65), 1);
	assert_int_equal(sha256(message, message_len, digest), 0);
	if (secp256k1_ecdsa_signature_parse_der(
		w->curve, &parsed, der, der_len) != 1) {
		assert_false(valid);
		w->refused_form++;
		goto free_bytes;
	}
	secp256k1_ecdsa_signature_serialize_compact(w->curve, compact, &parsed);
	verified =
	    secp256k1_ecdsa_verify(w->curve, &parsed, digest, &public_key);
	assert_int_equal(verified, valid);
	if (recovers(w, compact, digest, &address)) {
		assert_true(valid);
		w->recovered++;
	} else if (valid) {
		/* r wrapped around the order: v would be 2 or 3. */
		w->wrapped++;
	} else {
		if (signature_check(compact) != 0 &&
		    signature_normalise(compact) == 0)
			w->high_s++;
		w->refused_signature++;
	}
free_bytes:
	free(der);
	free(message);
}

static void
ecdsa_wycheproof(void **state)
{
	struct wycheproof w = { .context = context_new() };

	(void)state;
	w.curve = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
	vector_wycheproof("regress/vectors/wycheproof/"
			  "ecdsa_secp256k1_sha256_bitcoin_test.json",
	    ecdsa_case, &w);
	print_message("recovered %zu, wrapped %zu, form %zu, other %zu, high "
		      "s %zu\n",
	    w.recovered, w.wrapped, w.refused_form, w.refused_signature,
	    w.high_s);
	assert_int_equal(w.recovered + w.wrapped, 162);
	assert_int_equal(w.refused_form + w.refused_signature, 301);
	assert_true(w.wrapped <= 4);
	assert_true(w.high_s > 0);
	secp256k1_context_destroy(w.curve);
	wallet_context_free(w.context);
}

static int
parse_text(const char *prefix, const char *r, const char *s, const char *v,
    uint8_t signature[SIGNATURE_LEN])
{
	char text[160];
	int len = snprintf(text, sizeof(text), "%s%s%s%s", prefix, r, s, v);

	return signature_parse(text, (size_t)len, signature);
}

static void
signature_bounds(void **state)
{
	static const char *const good_v[] = { "00", "01", "1b", "1C" };
	static const char *const bad_v[] = { "02", "03", "1a", "1d", "ff", "" };
	uint8_t signature[SIGNATURE_LEN];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
		    parse_text("0x", ONE, HALF, good_v[i], signature), 0);
		assert_int_equal(signature[64], i % 2);
		assert_int_equal(
		    parse_text("", ONE, ONE, good_v[i], signature), 0);
	}
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(
		    parse_text("0x", ONE, ONE, bad_v[i], signature),
		    KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ONE, HALF1, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ORDER, ONE, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ONE, ORDER, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ZERO, ONE, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ONE, ZERO, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text(" ", ONE, ONE, "00", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ONE, ONE, "00 ", signature), KMS_EINVAL);
	assert_int_equal(
	    parse_text("0x", ONE, ONE, "0g", signature), KMS_EINVAL);
	assert_int_equal(signature_parse("", 0, signature), KMS_EINVAL);
}

/* The high twin of a signature comes back as the signature itself. */
static void
normalisation(void **state)
{
	static const char high[] =
	    "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
	uint8_t signature[SIGNATURE_LEN] = { [31] = 1 }, low[SIGNATURE_LEN];

	(void)state;
	assert_int_equal(hex_decode_exact(high, 64, signature + 32, 32), 0);
	signature[64] = 27;
	assert_int_equal(signature_normalise(signature), 0);
	assert_int_equal(parse_text("", ONE, ONE, "01", low), 0);
	assert_memory_equal(signature, low, sizeof(low));
	assert_int_equal(signature_normalise(signature), 0);
	assert_memory_equal(signature, low, sizeof(low));
	signature[64] = 2;
	assert_int_equal(signature_normalise(signature), KMS_EINVAL);
	signature[64] = 0;
	memset(signature, 0, 32);
	assert_int_equal(signature_normalise(signature), KMS_EINVAL);
}

static void
key_bounds(void **state)
{
	struct wallet_context *context = context_new();
	uint8_t key[WALLET_KEY_LEN], signature[SIGNATURE_LEN];
	struct eth_address address;

	(void)state;
	assert_int_equal(hex_decode_exact(ORDER, 64, key, sizeof(key)), 0);
	assert_int_equal(wallet_key_check(context, key), KMS_EINVAL);
	assert_int_equal(
	    wallet_key_address(context, key, &address), KMS_EINVAL);
	assert_int_equal(
	    wallet_sign_message(context, key, "", 0, signature), KMS_EINVAL);
	key[31]--;
	assert_int_equal(wallet_key_check(context, key), 0);
	memset(key, 0, sizeof(key));
	assert_int_equal(wallet_key_check(context, key), KMS_EINVAL);
	wallet_context_free(context);
	wallet_context_free(NULL);
}

/* The generator in its three forms; the hybrid form is refused. */
static void
public_forms(void **state)
{
	static const char text[] =
	    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
	    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
	struct wallet_context *context = context_new();
	struct eth_address expected, got;
	uint8_t key[32] = { [31] = 1 }, point[65];

	(void)state;
	assert_int_equal(wallet_key_address(context, key, &expected), 0);
	assert_int_equal(hex_decode_exact(text, 130, point, 65), 0);
	assert_int_equal(wallet_public_address(context, point, 65, &got), 0);
	assert_true(eth_address_equal(&got, &expected));
	assert_int_equal(
	    wallet_public_address(context, point + 1, 64, &got), 0);
	assert_true(eth_address_equal(&got, &expected));
	point[0] = 6;
	assert_int_equal(
	    wallet_public_address(context, point, 65, &got), KMS_EINVAL);
	point[0] = 2;
	assert_int_equal(wallet_public_address(context, point, 33, &got), 0);
	assert_true(eth_address_equal(&got, &expected));
	assert_int_equal(
	    wallet_public_address(context, point, 32, &got), KMS_EINVAL);
	assert_int_equal(
	    wallet_public_address(context, point, 0, &got), KMS_EINVAL);
	point[0] = 4;
	point[64] ^= 1;
	assert_int_equal(
	    wallet_public_address(context, point, 65, &got), KMS_EINVAL);
	wallet_context_free(context);
}

/* A changed signature text is refused or stands for other bytes. */
static void
mutations(void **state)
{
	struct wallet_context *context = context_new();
	uint8_t key[32] = { [31] = 9 }, signature[65], parsed[65];
	char good[SIGNATURE_TEXT_LEN + 1], text[SIGNATURE_TEXT_LEN + 1];
	char again[SIGNATURE_TEXT_LEN + 1];
	uint64_t random = 0x243f6a8885a308d3;
	size_t accepted = 0;

	(void)state;
	assert_int_equal(
	    wallet_sign_message(context, key, "x", 1, signature), 0);
	signature_format(signature, good);
	for (size_t i = 0; i < 50000; i++) {
		size_t len = SIGNATURE_TEXT_LEN;

		memcpy(text, good, sizeof(text));
		vector_mutate(&random, (uint8_t *)text, len);
		if (i % 8 == 0)
			len = vector_random(&random) % (len + 1);
		if (signature_parse(text, len, parsed) != 0)
			continue;
		accepted++;
		assert_true(parsed[64] <= 1);
		assert_int_equal(signature_check(parsed), 0);
		signature_format(parsed, again);
		assert_int_equal(
		    signature_parse(again, SIGNATURE_TEXT_LEN, parsed), 0);
	}
	assert_true(accepted > 100 && accepted < 40000);
	wallet_context_free(context);
}

/* Only canonical bytes recover. */
static void
recover_is_strict(void **state)
{
	struct wallet_context *context = context_new();
	uint8_t key[32] = { [31] = 9 }, signature[65];
	struct eth_address address, expected;

	(void)state;
	assert_int_equal(wallet_key_address(context, key, &expected), 0);
	assert_int_equal(
	    wallet_sign_message(context, key, "x", 1, signature), 0);
	assert_int_equal(
	    wallet_recover_message(context, "x", 1, signature, &address), 0);
	assert_true(eth_address_equal(&address, &expected));
	assert_int_equal(
	    wallet_recover_message(context, "y", 1, signature, &address), 0);
	assert_false(eth_address_equal(&address, &expected));
	signature[64] = (uint8_t)(signature[64] + 27);
	assert_int_equal(
	    wallet_recover_message(context, "x", 1, signature, &address),
	    KMS_EAUTH);
	wallet_context_free(context);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eip191_vectors),
		cmocka_unit_test(ecdsa_wycheproof),
		cmocka_unit_test(signature_bounds),
		cmocka_unit_test(normalisation),
		cmocka_unit_test(key_bounds),
		cmocka_unit_test(public_forms),
		cmocka_unit_test(mutations),
		cmocka_unit_test(recover_is_strict),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
