#include "regress/unit/vector.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "common/base64.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/eth.h"
#include "common/printable.h"

static void
hex_forms(void **state)
{
	static const char text[] = "0x00fFaB10";
	uint8_t bytes[4];
	char again[9];
	size_t len;

	(void)state;
	assert_int_equal(hex_decode(text, 10, bytes, sizeof(bytes), &len), 0);
	assert_int_equal(len, 4);
	hex_encode(bytes, 4, again);
	assert_string_equal(again, "00ffab10");
	assert_int_equal(
	    hex_decode("0X00ffab10", 10, bytes, sizeof(bytes), &len), 0);
	assert_int_equal(hex_decode("", 0, bytes, 0, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(hex_decode("0x", 2, bytes, 0, &len), 0);
	assert_int_equal(len, 0);
	hex_encode(bytes, 0, again);
	assert_string_equal(again, "");
}

static void
hex_refusals(void **state)
{
	static const char *const bad[] = { "0", "0x0", "0g", "g0", " 00", "00 ",
		"0x0x", "x0", "-1", "0\n", "/:", "@G", "`g" };
	uint8_t bytes[4];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(hex_decode(bad[i], strlen(bad[i]), bytes,
				     sizeof(bytes), &len),
		    KMS_EINVAL);
	assert_int_equal(
	    hex_decode("0011223344", 10, bytes, 4, &len), KMS_ETOOBIG);
	assert_int_equal(hex_decode_exact("00112233", 8, bytes, 4), 0);
	assert_int_equal(hex_decode_exact("001122", 6, bytes, 4), KMS_EINVAL);
	assert_int_equal(
	    hex_decode_exact("0011223344", 10, bytes, 4), KMS_EINVAL);
}

/* Each byte value, and decoding in place. */
/* Every character at every place of a text that is decoded in groups. */
static void
hex_every_character(void **state)
{
	uint8_t bytes[9];
	size_t len;

	(void)state;
	for (int c = 0; c < 256; c++) {
		for (size_t at = 0; at < 18; at++) {
			char text[] = "0123456789abcdefAF";
			int error;

			text[at] = (char)c;
			if (at < 2 && (c == 'x' || c == 'X'))
				continue; /* a prefix */
			error = hex_decode(text, 18, bytes, 9, &len);
			if (!isxdigit(c)) {
				assert_int_equal(error, KMS_EINVAL);
				continue;
			}
			assert_int_equal(error, 0);
			assert_int_equal(at % 2 == 0 ? bytes[at / 2] >> 4
						     : bytes[at / 2] & 15,
			    isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
		}
	}
}

static void
hex_every_byte(void **state)
{
	uint8_t bytes[256];
	char text[513];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	hex_encode(bytes, sizeof(bytes), text);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		char expected[3];

		(void)snprintf(expected, sizeof(expected), "%02zx", i);
		assert_memory_equal(text + 2 * i, expected, 2);
	}
	assert_int_equal(
	    hex_decode(text, 512, (uint8_t *)text, sizeof(text), &len), 0);
	assert_int_equal(len, 256);
	assert_memory_equal(text, bytes, sizeof(bytes));
}

static void
base64_known(void **state)
{
	static const char *const texts[] = { "", "Zg==", "Zm8=", "Zm9v",
		"Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" }; /* RFC 4648 section 10 */
	uint8_t out[8];
	char text[12];
	size_t len;

	(void)state;
	for (size_t i = 0; i < 7; i++) {
		base64_encode((const uint8_t *)"foobar", i, text);
		assert_string_equal(text, texts[i]);
		assert_int_equal(strlen(text), BASE64_LEN(i));
		assert_int_equal(
		    base64_decode(text, strlen(text), out, i, &len), 0);
		assert_int_equal(len, i);
		assert_memory_equal(out, "foobar", i);
		if (i > 0)
			assert_int_equal(
			    base64_decode(text, strlen(text), out, i - 1, &len),
			    KMS_ETOOBIG);
	}
}

static void
base64_refusals(void **state)
{
	static const char *const bad[] = { "Z", "Zg", "Zg=", "====", "=Zg=",
		"Z===", "Zh==", "Zm9=", "Zg==Zg==", "Zm9v\n", "Zm-v", "Zm_v",
		" Zm9", "Zg=a", "Zm9vZ===", "Z\x80==" };
	uint8_t out[16];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base64_decode(bad[i], strlen(bad[i]), out,
				     sizeof(out), &len),
		    KMS_EINVAL);
}

/* Same text as OpenSSL's, and what decodes encodes to itself. */
static void
base64_random(void **state)
{
	uint64_t random = 0xc0ac29b7c97c50dd;
	uint8_t bytes[100], out[100], theirs[140];
	char text[140];
	size_t len;

	(void)state;
	for (size_t i = 0; i < 20000; i++) {
		size_t size = vector_random(&random) % sizeof(bytes);

		for (size_t k = 0; k < size; k++)
			bytes[k] = (uint8_t)vector_random(&random);
		base64_encode(bytes, size, text);
		(void)EVP_EncodeBlock(theirs, bytes, (int)size);
		assert_string_equal(text, (const char *)theirs);
		if (size == 0)
			continue;
		vector_mutate(&random, (uint8_t *)text, BASE64_LEN(size));
		if (base64_decode(
			text, BASE64_LEN(size), out, sizeof(out), &len) != 0)
			continue;
		base64_encode(out, len, (char *)theirs);
		assert_memory_equal(theirs, text, BASE64_LEN(size));
	}
}

static void
buf_ceiling(void **state)
{
	struct buf buf;
	uint8_t *space;

	(void)state;
	buf_init(&buf, 10);
	assert_null(buf.data);
	assert_int_equal(buf_append(&buf, NULL, 0), 0);
	assert_int_equal(buf_append_text(&buf, "12345"), 0);
	assert_int_equal(buf_append_text(&buf, "123456"), KMS_ETOOBIG);
	assert_int_equal(buf.len, 5);
	assert_int_equal(buf_printf(&buf, "%d", 12345), 0);
	assert_int_equal(buf.len, 10);
	assert_memory_equal(buf.data, "1234512345", 10);
	assert_int_equal(buf_printf(&buf, "%d", 1), KMS_ETOOBIG);
	assert_int_equal(buf_append(&buf, "", 0), 0);
	assert_int_equal(buf_reserve(&buf, 1, &space), KMS_ETOOBIG);
	assert_int_equal(buf_reserve(&buf, SIZE_MAX, &space), KMS_ETOOBIG);
	assert_int_equal(buf.max, 10);
	buf_free(&buf);
	assert_int_equal(buf.max, 10);
	assert_null(buf.data);
	buf_free(&buf);
	buf_init(&buf, 0);
	assert_int_equal(buf_append(&buf, "", 0), 0);
	assert_int_equal(buf_append(&buf, "x", 1), KMS_ETOOBIG);
	buf_free(&buf);
}

static void
buf_growth(void **state)
{
	struct buf buf;

	(void)state;
	buf_init(&buf, 100000);
	for (size_t i = 0; i < 100000; i++) {
		uint8_t byte = (uint8_t)(i * 31);

		assert_int_equal(buf_append(&buf, &byte, 1), 0);
	}
	for (size_t i = 0; i < buf.len; i++)
		assert_int_equal(buf.data[i], (uint8_t)(i * 31));
	buf_consume(&buf, 99990);
	assert_int_equal(buf.len, 10);
	for (size_t i = 0; i < buf.len; i++)
		assert_int_equal(buf.data[i], (uint8_t)((i + 99990) * 31));
	/* What was consumed is wiped. */
	for (size_t i = buf.len; i < 99990; i++)
		assert_int_equal(buf.data[i], i < 10 ? buf.data[i] : 0);
	buf_consume(&buf, 11);
	assert_int_equal(buf.len, 0);
	buf_free(&buf);
}

/* Texts of EIP-55's own examples. */
static void
eth_addresses(void **state)
{
	static const char *const checksummed[] = {
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
		"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	};
	struct eth_address address, other;
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
		    eth_address_parse(checksummed[i], 42, &address), 0);
		eth_address_format_checksum(&address, text);
		assert_string_equal(text, checksummed[i]);
		eth_address_format(&address, text);
		assert_int_equal(eth_address_parse(text + 2, 40, &other), 0);
		assert_true(eth_address_equal(&address, &other));
		other.bytes[19] ^= 1;
		assert_false(eth_address_equal(&address, &other));
		assert_int_equal(
		    eth_address_parse(text, 41, &other), KMS_EINVAL);
		assert_int_equal(
		    eth_address_parse(text, 40, &other), KMS_EINVAL);
		assert_int_equal(
		    eth_address_parse(text + 1, 41, &other), KMS_EINVAL);
	}
	assert_int_equal(eth_address_parse("", 0, &other), KMS_EINVAL);
}

static void
eth_words(void **state)
{
	struct eth_word word = { { 0 } };
	uint64_t value = 1;

	(void)state;
	assert_true(eth_word_is_zero(&word));
	assert_int_equal(eth_word_to_u64(&word, &value), 0);
	assert_int_equal(value, 0);
	memset(word.bytes + 24, 0xff, 8);
	assert_false(eth_word_is_zero(&word));
	assert_int_equal(eth_word_to_u64(&word, &value), 0);
	assert_true(value == UINT64_MAX);
	for (size_t i = 0; i < 24; i++) {
		word.bytes[i] = 1;
		assert_int_equal(eth_word_to_u64(&word, &value), KMS_ERANGE);
		word.bytes[i] = 0;
	}
}

static void
printable_text(void **state)
{
	char text[8];

	(void)state;
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;

		printable_copy(&byte, 1, text, sizeof(text));
		assert_int_equal(text[0], c >= ' ' && c <= '~' ? c : '?');
		assert_int_equal(text[1], '\0');
	}
	printable_copy("", 0, text, sizeof(text));
	assert_string_equal(text, "");
	printable_copy("1234567", 7, text, sizeof(text));
	assert_string_equal(text, "1234567");
	printable_copy("12345678", 8, text, sizeof(text));
	assert_string_equal(text, "1234567");
	printable_copy("a", 1, text, 1);
	assert_string_equal(text, "");
	/* In place. */
	memcpy(text, "a\nb\x1b", 5);
	printable_copy(text, 4, text, sizeof(text));
	assert_string_equal(text, "a?b?");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hex_forms),
		cmocka_unit_test(hex_refusals),
		cmocka_unit_test(hex_every_character),
		cmocka_unit_test(hex_every_byte),
		cmocka_unit_test(base64_known),
		cmocka_unit_test(base64_refusals),
		cmocka_unit_test(base64_random),
		cmocka_unit_test(buf_ceiling),
		cmocka_unit_test(buf_growth),
		cmocka_unit_test(eth_addresses),
		cmocka_unit_test(eth_words),
		cmocka_unit_test(printable_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
