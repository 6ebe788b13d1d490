/*
 * common/json_strings: what is an envelope, what is not, and shaken ones, as
 * a whole and in pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/json_strings.h"

#define GOOD                                                                   \
	"{\"sender_tee_pubkey\":\"3076\",\"nonce\":\"00\",\"encrypted_data\":" \
	"\"ab\"}"

static int
read_text(const char *text, struct json_envelope *envelope, const char **reason)
{
	/* An exact copy, so that the sanitizer sees a read beyond it. */
	size_t len = strlen(text);
	uint8_t *copy = malloc(len > 0 ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	rc = json_strings_envelope(copy, len, envelope, reason);
	free(copy);
	return rc;
}

static void
check_slice(struct http_slice slice, const char *text)
{
	assert_int_equal(slice.len, strlen(text));
	assert_memory_equal(slice.data, text, slice.len);
}

static void
test_accepted(void **state)
{
	static const char *const texts[] = {
		GOOD,
		" \t\r\n{ \"encrypted_data\" : \"ab\" ,\n\"nonce\":\"00\","
		"\"sender_tee_pubkey\" :\t\"3076\" }\r\n ",
	};
	struct json_envelope envelope;
	const char *reason;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(
		    json_strings_envelope((const uint8_t *)texts[i],
			strlen(texts[i]), &envelope, &reason),
		    0);
		check_slice(envelope.sender, "3076");
		check_slice(envelope.nonce, "00");
		check_slice(envelope.data, "ab");
	}
}

static void
test_empty_strings(void **state)
{
	static const char text[] = "{\"sender_tee_pubkey\":\"\",\"nonce\":\"\","
				   "\"encrypted_data\":\"\"}";
	struct json_envelope envelope;
	const char *reason;

	(void)state;
	assert_int_equal(json_strings_envelope((const uint8_t *)text,
			     sizeof(text) - 1, &envelope, &reason),
	    0);
	assert_int_equal(envelope.data.len, 0);
}

static void
test_refused(void **state)
{
	static const struct {
		const char *text, *word;
	} rows[] = {
		{ "", "JSON object" },
		{ " ", "JSON object" },
		{ "[]", "JSON object" },
		{ "null", "JSON object" },
		{ "{}", "sender_tee_pubkey: missing" },
		{ "{", "member's name" },
		{ "{,}", "member's name" },
		{ "{\"nonce\"}", "colon" },
		{ "{\"nonce\" \"00\"}", "colon" },
		{ "{\"nonce\":1}", "nonce: expected a string" },
		{ "{\"nonce\":null}", "nonce: expected a string" },
		{ "{\"nonce\":{}}", "nonce: expected a string" },
		{ "{\"encrypted_data\":[\"\"]}",
		    "encrypted_data: expected a string" },
		{ "{\"nonce\":\"0", "end of a string" },
		{ "{\"nonce\":\"0\"", "end of the object" },
		{ "{\"nonce\":\"0\",}", "member's name" },
		{ "{\"nonce\":\"0\",\"nonce\":\"0\"}", "nonce: repeated" },
		{ "{\"nonce\":\"\",\"nonce\":\"\"}", "nonce: repeated" },
		{ "{\"Nonce\":\"\"}", "no member but" },
		{ "{\"nonce \":\"\"}", "no member but" },
		{ "{\"\":\"\"}", "no member but" },
		{ "{\"n\\u006fnce\":\"\"}", "escapes" },
		{ "{\"nonce\":\"\\u0030\"}", "escapes" },
		{ "{\"nonce\":\"a\nb\"}", "visible ASCII" },
		{ "{\"nonce\":\"\xc3\xa4\"}", "visible ASCII" },
		{ "{\"nonce\":\"\x7f\"}", "visible ASCII" },
		{ GOOD "x", "behind" },
		{ GOOD GOOD, "behind" },
		{ GOOD ",", "behind" },
		{ "\xef\xbb\xbf" GOOD, "JSON object" },
		{ "{\"nonce\":\"\",\"encrypted_data\":\"\"}",
		    "sender_tee_pubkey: missing" },
		{ "{\"sender_tee_pubkey\":\"\",\"nonce\":\"\"}",
		    "encrypted_data: missing" },
	};
	struct json_envelope envelope;
	const char *reason;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(
		    read_text(rows[i].text, &envelope, &reason), KMS_EINVAL);
		if (strstr(reason, rows[i].word) == NULL)
			fail_msg("%s: %s", rows[i].text, reason);
	}
}

static void
test_every_cut(void **state)
{
	char text[sizeof(GOOD)] = GOOD;
	struct json_envelope envelope;
	const char *reason;

	(void)state;
	for (size_t len = sizeof(GOOD) - 2; len > 0; len--) {
		text[len] = '\0';
		assert_int_equal(
		    read_text(text, &envelope, &reason), KMS_EINVAL);
	}
}

static int
read_lengths(size_t sender, size_t nonce)
{
	char text[1024], *at = text;
	struct json_envelope envelope;
	const char *reason;

	at = stpcpy(at, "{\"encrypted_data\":\"\",\"sender_tee_pubkey\":\"");
	memset(at, 'a', sender);
	at = stpcpy(at + sender, "\",\"nonce\":\"");
	memset(at, 'b', nonce);
	at = stpcpy(at + nonce, "\"}");
	return read_text(text, &envelope, &reason);
}

static void
test_bounds(void **state)
{
	(void)state;
	assert_int_equal(read_lengths(ENVELOPE_SENDER_MAX, 0), 0);
	assert_int_equal(read_lengths(ENVELOPE_SENDER_MAX + 1, 0), KMS_EINVAL);
	assert_int_equal(read_lengths(0, ENVELOPE_NONCE_MAX), 0);
	assert_int_equal(read_lengths(0, ENVELOPE_NONCE_MAX + 1), KMS_EINVAL);
}

struct taken {
	char text[3][64];
	size_t len[3];
};

static int
take_piece(void *arg, size_t member, const char *piece, size_t len)
{
	struct taken *taken = arg;

	assert_true(len > 0 && member < 3);
	assert_true(taken->len[member] + len <= sizeof(taken->text[0]));
	memcpy(taken->text[member] + taken->len[member], piece, len);
	taken->len[member] += len;
	return 0;
}

static int
read_pieces(const uint8_t *text, size_t len, size_t step, struct taken *taken,
    const char **reason)
{
	struct json_strings strings;
	int error = 0;

	memset(taken, 0, sizeof(*taken));
	json_strings_init(&strings, &json_strings_envelope_shape);
	for (size_t at = 0; error == 0 && at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		char *copy = malloc(n);

		assert_non_null(copy);
		memcpy(copy, text + at, n);
		error = json_strings_feed(&strings, copy, n, take_piece, taken);
		free(copy);
	}
	if (error == 0)
		error = json_strings_end(&strings);
	else
		assert_int_equal(
		    json_strings_feed(&strings, "x", 1, NULL, NULL), error);
	*reason = strings.reason;
	return error;
}

/* The verdict does not depend on how the bytes were split. */
static void
check_pieces(const uint8_t *text, size_t len, int verdict,
    const struct json_envelope *whole)
{
	struct taken taken;
	const char *reason;

	for (size_t step = 1; step <= 7; step += 3) {
		assert_int_equal(
		    read_pieces(text, len, step, &taken, &reason), verdict);
		assert_true((reason == NULL) == (verdict == 0));
		if (verdict != 0)
			continue;
		assert_int_equal(taken.len[ENVELOPE_SENDER], whole->sender.len);
		assert_int_equal(taken.len[ENVELOPE_DATA], whole->data.len);
		assert_memory_equal(taken.text[ENVELOPE_DATA], whole->data.data,
		    whole->data.len);
		assert_memory_equal(taken.text[ENVELOPE_NONCE],
		    whole->nonce.data, whole->nonce.len);
	}
}

static int
refuse_piece(void *arg, size_t member, const char *piece, size_t len)
{
	(void)arg;
	(void)member;
	(void)piece;
	(void)len;
	return KMS_EBUSY;
}

static void
test_taker_refuses(void **state)
{
	struct json_strings strings;

	(void)state;
	json_strings_init(&strings, &json_strings_envelope_shape);
	assert_int_equal(json_strings_feed(&strings, GOOD, sizeof(GOOD) - 1,
			     refuse_piece, NULL),
	    KMS_EBUSY);
}

static void
test_other_shapes(void **state)
{
	static const struct json_strings_shape shape = { .unknown = "unknown",
		.count = 1,
		.members = { JSON_STRINGS_MEMBER("nonce", 4) } };
	static const struct {
		const char *text, *reason;
	} rows[] = { { "{\"nonce\":\"abcd\"}", NULL },
		{ "{\"nonce\":\"abcde\"}", "nonce: too long" },
		{ "{\"nonce\":\"ab\",\"x\":\"\"}", "unknown" },
		{ "{\"aaaaaaaaaaaaaaaaaaaaaaaaa\":\"\"}", "unknown" },
		{ "{}", "nonce: missing" } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct json_strings strings;
		int error;

		json_strings_init(&strings, &shape);
		error = json_strings_feed(
		    &strings, rows[i].text, strlen(rows[i].text), NULL, NULL);
		if (error == 0)
			error = json_strings_end(&strings);
		assert_int_equal(
		    error, rows[i].reason == NULL ? 0 : KMS_EINVAL);
		if (rows[i].reason != NULL)
			assert_string_equal(strings.reason, rows[i].reason);
	}
}

/* Whatever is accepted lies within the text and is what its rules say. */
static void
test_mutations(void **state)
{
	static const char bytes[] = "{}[]\",:\\ \n\x00\x80"
				    "an0";
	uint32_t seed = 20260101;
	unsigned int accepted = 0;

	(void)state;
	for (int round = 0; round < 50000; round++) {
		char text[sizeof(GOOD)] = GOOD;
		size_t len = sizeof(GOOD) - 1;
		struct json_envelope e;
		const char *reason;
		uint8_t *copy = malloc(len);

		assert_non_null(copy);
		for (int k = 0; k < 1 + round % 3; k++) {
			seed = seed * 1664525u + 1013904223u;
			text[(seed >> 8) % len] =
			    bytes[(seed >> 20) % (sizeof(bytes) - 1)];
		}
		memcpy(copy, text, len);
		if (json_strings_envelope(copy, len, &e, &reason) == 0) {
			accepted++;
			assert_true(e.data.data >= (char *)copy);
			assert_true(
			    e.data.data + e.data.len < (char *)copy + len);
			assert_null(memchr(e.data.data, '"', e.data.len));
			assert_null(memchr(e.nonce.data, '\\', e.nonce.len));
			assert_true(e.sender.data[e.sender.len] == '"');
			check_pieces(copy, len, 0, &e);
		} else {
			assert_non_null(reason);
			check_pieces(copy, len, KMS_EINVAL, NULL);
		}
		free(copy);
	}
	assert_true(accepted > 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted),
		cmocka_unit_test(test_empty_strings),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_taker_refuses),
		cmocka_unit_test(test_other_shapes),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
