/* An envelope that comes in piece by piece: bounds, credit, whose it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/p384.h"
#include "kms-keeper/arrival.h"
#include "proto/msg.h"
#include "regress/unit/crypto_setup.h"

static const char nonce_hex[] = "000102030405060708090a0b";

static struct text
text_of(const char *text)
{
	return (struct text){ text, strlen(text) };
}

static void
begin(struct arrival *arrival, const char *sender, const char *nonce,
    size_t total)
{
	struct text from = text_of(sender), with = text_of(nonce);

	assert_true(arrival_fits(&from, &with));
	assert_int_equal(arrival_begin(arrival, &from, &with, total), 0);
}

static void
bounds(void **state)
{
	char longest[ARRIVAL_SENDER_MAX + 2];
	struct text sender = { longest, ARRIVAL_SENDER_MAX };
	struct text nonce = { longest, ARRIVAL_NONCE_MAX };
	struct arrival arrival;

	(void)state;
	memset(longest, 'a', sizeof(longest));
	assert_true(arrival_fits(&sender, &nonce));
	assert_int_equal(arrival_begin(&arrival, &sender, &nonce, 0), 0);
	assert_int_equal(arrival.sender_len, ARRIVAL_SENDER_MAX);
	assert_int_equal(arrival.nonce_len, ARRIVAL_NONCE_MAX);
	assert_true(arrival_is_whole(&arrival));
	arrival_free(&arrival);
	arrival_free(&arrival);
	sender.len++;
	assert_false(arrival_fits(&sender, &nonce));
	sender.len--;
	nonce.len++;
	assert_false(arrival_fits(&sender, &nonce));
}

static void
pieces(void **state)
{
	struct arrival arrival;
	size_t credit;

	(void)state;
	begin(&arrival, "", "", 5);
	assert_int_equal(arrival_take(&arrival, "", 0, &credit), 0);
	assert_int_equal(arrival_take(&arrival, "ab", 2, &credit), 0);
	assert_int_equal(credit, 0);
	assert_int_equal(
	    arrival_take(&arrival, "cdef", 4, &credit), KMS_EPROTO);
	assert_false(arrival_is_whole(&arrival));
	assert_int_equal(arrival_take(&arrival, "cde", 3, &credit), 0);
	assert_true(arrival_is_whole(&arrival));
	assert_memory_equal(arrival_text(&arrival).data, "abcde", 5);
	assert_int_equal(arrival_take(&arrival, "f", 1, &credit), KMS_EPROTO);
	assert_int_equal(
	    arrival_take(&arrival, "f", SIZE_MAX, &credit), KMS_EPROTO);
	arrival_free(&arrival);
}

/* Beyond its window a sender sends what it has credit for: all of it, and no
 * more, is given while something is missing. */
static void
credit_for_what_is_missing(void **state)
{
	static char piece[MSG_CHUNK_MAX];
	static const size_t totals[] = { MSG_WINDOW, MSG_WINDOW + 1,
		3 * MSG_WINDOW };
	struct arrival arrival;
	size_t credit;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		size_t given = MSG_WINDOW, sent = 0;

		begin(&arrival, "", "", totals[i]);
		while (sent < totals[i]) {
			size_t len = totals[i] - sent;

			if (len > given - sent)
				len = given - sent;
			if (len > sizeof(piece))
				len = sizeof(piece);
			assert_int_not_equal(len, 0);
			assert_int_equal(
			    arrival_take(&arrival, piece, len, &credit), 0);
			sent += len;
			given += credit;
			assert_true(given - sent <= MSG_WINDOW);
		}
		assert_true(arrival_is_whole(&arrival));
		assert_int_equal(given > MSG_WINDOW, i > 0);
		arrival_free(&arrival);
	}
}

static struct p384_key *
key_of(uint8_t number, char hex[2 * P384_SPKI_LEN + 1])
{
	uint8_t scalar[P384_SCALAR_LEN] = { 0 }, spki[P384_SPKI_LEN];
	struct p384_key *key;

	scalar[P384_SCALAR_LEN - 1] = number;
	assert_int_equal(p384_key_new(scalar, &key), 0);
	p384_public_spki(p384_key_point(key), spki);
	hex_encode(spki, sizeof(spki), hex);
	return key;
}

static int
decode(const char *sender, const char *nonce, const char *data,
    const struct p384_point *expected, struct arrival *arrival, size_t *len)
{
	uint8_t bytes[AEAD_NONCE_LEN];
	size_t credit;

	begin(arrival, sender, nonce, strlen(data));
	assert_int_equal(arrival_take(arrival, data, strlen(data), &credit), 0);
	return arrival_decode(arrival, expected, bytes, len);
}

static void
whose(void **state)
{
	static const char data[] = "00112233445566778899aabbccddeeff01";
	char ours[2 * P384_SPKI_LEN + 1], theirs[2 * P384_SPKI_LEN + 1];
	struct p384_key *key = key_of(3, ours), *other = key_of(4, theirs);
	const struct p384_point *point = p384_key_point(key);
	struct arrival arrival;
	size_t len;

	(void)state;
	assert_int_equal(
	    decode(ours, nonce_hex, data, point, &arrival, &len), 0);
	assert_int_equal(len, 17);
	assert_memory_equal(arrival.data, "\x00\x11\x22\x33", 4);
	arrival_free(&arrival);
	assert_int_equal(
	    decode(theirs, nonce_hex, data, point, &arrival, &len), KMS_EAUTH);
	arrival_free(&arrival);
	assert_int_equal(
	    decode("ab", nonce_hex, data, point, &arrival, &len), KMS_EINVAL);
	arrival_free(&arrival);
	assert_int_equal(
	    decode(ours, "00", data, point, &arrival, &len), KMS_EINVAL);
	arrival_free(&arrival);
	/* Shorter than its tag. */
	assert_int_equal(
	    decode(ours, nonce_hex, data + 4, point, &arrival, &len),
	    KMS_EINVAL);
	arrival_free(&arrival);
	p384_key_free(key);
	p384_key_free(other);
}

static void
promised_hash(void **state)
{
	uint8_t hash[SHA256_LEN];
	struct envelope_text text;
	struct arrival arrival;
	size_t credit;

	(void)state;
	begin(&arrival, "aa", "bb", 2);
	assert_int_equal(arrival_take(&arrival, "cc", 2, &credit), 0);
	text = arrival_text(&arrival);
	assert_int_equal(envelope_canonical_hash(&text, hash), 0);
	assert_true(arrival_has_hash(&arrival, hash));
	hash[31] ^= 1;
	assert_false(arrival_has_hash(&arrival, hash));
	hash[31] ^= 1;
	/* What JSON would escape has no canonical form. */
	arrival.data[1] = '"';
	assert_false(arrival_has_hash(&arrival, hash));
	arrival_free(&arrival);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds),
		cmocka_unit_test(pieces),
		cmocka_unit_test(credit_for_what_is_missing),
		cmocka_unit_test(whose),
		cmocka_unit_test(promised_hash),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
