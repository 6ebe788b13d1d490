/*
 * kms-chain/peer_answer: heads and bodies of peers, as a whole and byte by
 * byte, and shaken ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "kms-chain/peer_answer.h"

#define MUTATIONS 30000
#define ENVELOPE                                                               \
	"{\"sender_tee_pubkey\":\"3076\",\"nonce\":\"00ff\","                  \
	"\"encrypted_data\":\"abcdef\"}"
#define STATUS "{\"node\":{\"tee_wallet\":\"0x11\",\"service_available\":true}}"
#define NONCE_LONG                                                             \
	"{\"nonce\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"  \
	"aaaaaaaaaaa\"}"
#define NONCE "{\"nonce\":\"bm9uY2Vub25jZW5v\"}"

struct reading {
	struct peer_answer answer;
	char data[256];
	size_t len;
	int refuse; /* what take returns */
};

static int
take(void *arg, const char *piece, size_t len)
{
	struct reading *r = arg;

	assert_true(len > 0 && r->len + len <= sizeof(r->data));
	memcpy(r->data + r->len, piece, len);
	r->len += len;
	return r->refuse;
}

static void
begin(struct reading *r, enum peer_kind kind)
{
	memset(r, 0, sizeof(*r));
	peer_answer_init(&r->answer, kind, take, r);
}

static int
head(struct reading *r, const char *line)
{
	return peer_answer_header(&r->answer, line, strlen(line));
}

static int
body(struct reading *r, const char *text, size_t len, size_t step)
{
	int error = 0;

	for (size_t at = 0; error == 0 && at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		char *copy = malloc(n);

		assert_non_null(copy);
		memcpy(copy, text + at, n);
		error = peer_answer_body(&r->answer, copy, n);
		free(copy);
	}
	if (error == 0)
		error = peer_answer_end(&r->answer);
	return error;
}

static int
read_all(struct reading *r, enum peer_kind kind, const char *status,
    const char *text, size_t step)
{
	int error;

	begin(r, kind);
	error = head(r, status);
	if (error == 0)
		error = body(r, text, strlen(text), step);
	peer_answer_free(&r->answer);
	return error;
}

static void
heads(void **state)
{
	char line[PEER_HEAD_MAX + 2];
	struct reading r;

	(void)state;
	begin(&r, PEER_SYNC);
	assert_int_equal(head(&r, "HTTP/1.1 103 Early\r\n"), 0);
	assert_int_equal(head(&r, "X-KMS-Peer-Signature: early\r\n"), 0);
	assert_int_equal(head(&r, "\r\n"), 0);
	assert_int_equal(head(&r, "HTTP/1.1 429 Slow down\r\n"), 0);
	assert_int_equal(r.answer.status, 429);
	assert_string_equal(r.answer.signature, "");
	assert_int_equal(head(&r, "x-kms-PEER-signature:\t 0xaa \t\r\n"), 0);
	assert_int_equal(head(&r, "X-KMS-Response-Signature-V2: 0xbb"), 0);
	assert_int_equal(head(&r, "X-KMS-Next-Nonce: bg==\n"), 0);
	assert_int_equal(head(&r, "Retry-After: 12\r\n"), 0);
	assert_int_equal(head(&r, "no colon\r\n"), 0);
	assert_int_equal(head(&r, ""), 0);
	assert_string_equal(r.answer.signature, "0xaa");
	assert_string_equal(r.answer.signature_v2, "0xbb");
	assert_string_equal(r.answer.next_nonce, "bg==");
	assert_int_equal(r.answer.retry_after, 12);
	assert_int_equal(head(&r, "Retry-After: 99999999999999999999"), 0);
	assert_int_equal(r.answer.retry_after, 86400);
	assert_int_equal(head(&r, "Retry-After: Fri, 31 Dec"), 0);
	assert_int_equal(head(&r, "X-KMS-Next-Nonce: b"), KMS_EPROTO);

	begin(&r, PEER_SYNC);
	assert_int_equal(head(&r, "X-KMS-Peer-Signature: a b"), KMS_EPROTO);
	assert_int_equal(head(&r, "X-KMS-Peer-Signature: \x80"), KMS_EPROTO);
	memset(line, 'a', sizeof(line));
	memcpy(line, "X-KMS-Peer-Signature:", 21);
	assert_int_equal(
	    peer_answer_header(&r.answer, line, 21 + 161), KMS_EPROTO);
	assert_int_equal(peer_answer_header(&r.answer, line, 21 + 160), 0);
	begin(&r, PEER_SYNC);
	memset(line, 'a', sizeof(line));
	assert_int_equal(peer_answer_header(&r.answer, line, PEER_HEAD_MAX), 0);
	assert_int_equal(peer_answer_header(&r.answer, line, 1), KMS_ETOOBIG);
}

static void
status_lines(void **state)
{
	static const char *const bad[] = { "HTTP/1.1", "HTTP/1.1 20",
		"HTTP/1.1 2x0 OK", "HTTP/1.1  200", "HTTP/1.10 200" };
	struct reading r;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(&r, PEER_SYNC);
		assert_int_equal(head(&r, bad[i]), KMS_EPROTO);
		assert_non_null(r.answer.reason);
	}
	begin(&r, PEER_SYNC);
	assert_int_equal(peer_answer_end(&r.answer), KMS_EPROTO);
}

static void
envelopes(void **state)
{
	struct reading r;

	(void)state;
	for (size_t step = 1; step < 100; step += 9) {
		assert_int_equal(
		    read_all(&r, PEER_SYNC, "HTTP/1.1 200 OK", ENVELOPE, step),
		    0);
		assert_string_equal(r.answer.sender, "3076");
		assert_string_equal(r.answer.nonce, "00ff");
		assert_int_equal(r.answer.data_len, 6);
		assert_int_equal(r.len, 6);
		assert_memory_equal(r.data, "abcdef", 6);
		assert_int_equal(read_all(&r, PEER_SYNC, "HTTP/1.1 200 OK",
				     "{\"status\":\"ok\"}", step),
		    KMS_EPROTO);
		assert_int_equal(r.len, 0);
	}
	/* Trailers are no headers. */
	begin(&r, PEER_SYNC);
	assert_int_equal(head(&r, "HTTP/1.1 200 OK"), 0);
	assert_int_equal(peer_answer_body(&r.answer, "{", 1), 0);
	assert_int_equal(head(&r, "X-KMS-Peer-Signature: 0xaa"), 0);
	assert_int_equal(head(&r, "HTTP/1.1 500 Oh"), 0);
	assert_int_equal(r.answer.status, 200);
	assert_string_equal(r.answer.signature, "");
	/* What the taker says is passed on. */
	begin(&r, PEER_SYNC);
	r.refuse = KMS_ENOMEM;
	assert_int_equal(head(&r, "HTTP/1.1 200 OK"), 0);
	assert_int_equal(
	    peer_answer_body(&r.answer, ENVELOPE, sizeof(ENVELOPE) - 1),
	    KMS_ENOMEM);
}

static void
nonces(void **state)
{
	static const char *const bad[] = { "", "{}", "{\"nonce\":\"\"}",
		"{\"nonce\":\"123456789012345\"}",
		"{\"nonce\":\"1234567890123456!\"}",
		"{\"nonce\":\"1234567890123456\",\"x\":\"\"}", NONCE_LONG };
	struct reading r;

	(void)state;
	assert_int_equal(
	    read_all(&r, PEER_NONCE, "HTTP/1.1 200 OK", NONCE, 3), 0);
	assert_string_equal(r.answer.nonce, "bm9uY2Vub25jZW5v");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (read_all(&r, PEER_NONCE, "HTTP/1.1 200 OK", bad[i], 5) !=
		    KMS_EPROTO)
			fail_msg("taken: %s", bad[i]);
		assert_non_null(r.answer.reason);
	}
}

static void
errors(void **state)
{
	static const struct {
		const char *text, *code, *message;
	} rows[] = {
		{ "{\"code\":\"bad_request\",\"message\":\"no, not so\"}",
		    "bad_request", "no, not so" },
		{ "{\"message\":\"\",\"code\":\"x\"}", "x", "" },
		{ "{\"code\":\"x\"}", "", "" },
		{ "{\"code\":\"x\",\"message\":\"y\"", "", "" },
		{ "{\"code\":\"x\",\"message\":\"y\",\"z\":\"\"}", "", "" },
		{ "{\"code\":\"x\",\"message\":1}", "", "" },
		{ "<html>", "", "" },
		{ "", "", "" },
	};
	struct reading r;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t k = 0; k < PEER_KINDS; k++) {
			assert_int_equal(
			    read_all(&r, (enum peer_kind)k, "HTTP/1.1 403 No",
				rows[i].text, 4),
			    0);
			assert_int_equal(r.answer.status, 403);
			assert_string_equal(r.answer.code, rows[i].code);
			assert_string_equal(r.answer.message, rows[i].message);
		}
	}
	/* 201 is not what was asked for either. */
	assert_int_equal(
	    read_all(&r, PEER_SYNC, "HTTP/1.1 201 X", ENVELOPE, 9), 0);
	assert_int_equal(r.len, 0);
}

static void
statuses(void **state)
{
	static const char *const bad[] = { "", "[]", "{}", "{\"node\":[]}",
		"{\"node\":{}", "{\"node\":{},\"node\":{}}",
		"{\"node\":{\"a\":[[[[[[[[]]]]]]]]}}" };
	struct reading r;

	(void)state;
	assert_int_equal(read_all(&r, PEER_STATUS, "HTTP/1.1 200 OK",
			     "{\"node\":{\"tee_wallet\":\"0x11\","
			     "\"service_available\":true,"
			     "\"unavailable_reason\":\"a\\nb\"},\"x\":[]}",
			     7),
	    0);
	assert_string_equal(r.answer.wallet, "0x11");
	assert_true(r.answer.available);
	assert_string_equal(r.answer.unavailable, "a?b");
	assert_int_equal(read_all(&r, PEER_STATUS, "HTTP/1.1 200 OK",
			     "{\"node\":{\"tee_wallet\":5,"
			     "\"service_available\":\"true\"}}",
			     7),
	    0);
	assert_string_equal(r.answer.wallet, "");
	assert_false(r.answer.available);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (read_all(&r, PEER_STATUS, "HTTP/1.1 200 OK", bad[i], 5) !=
		    KMS_EPROTO)
			fail_msg("taken: %s", bad[i]);
	}
}

static void
bounds(void **state)
{
	static char text[PEER_OTHER_MAX + 1];
	static const struct {
		enum peer_kind kind;
		const char *status;
	} rows[] = { { PEER_STATUS, "HTTP/1.1 200 OK" },
		{ PEER_SYNC, "HTTP/1.1 500 Oh" },
		{ PEER_NONCE, "HTTP/1.1 404 No" } };
	struct reading r;

	(void)state;
	memset(text, ' ', sizeof(text));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(&r, rows[i].kind);
		assert_int_equal(head(&r, rows[i].status), 0);
		assert_int_equal(
		    peer_answer_body(&r.answer, text, PEER_OTHER_MAX), 0);
		assert_int_equal(
		    peer_answer_body(&r.answer, text, 1), KMS_ETOOBIG);
		peer_answer_free(&r.answer);
	}
}

/* In any pieces the verdict is the same, and the texts stay in their arrays. */
static void
mutations(void **state)
{
	static const char *const seeds[] = { ENVELOPE, NONCE, STATUS,
		"{\"code\":\"bad_request\",\"message\":\"no\"}" };
	static const enum peer_kind kinds[] = { PEER_SYNC, PEER_NONCE,
		PEER_STATUS, PEER_SYNC };
	static const char letters[] = "{}[]\",:\\ \n\x01\x80 an0t";
	uint32_t seed = 20260102;
	unsigned int taken = 0;

	(void)state;
	for (size_t n = 0; n < MUTATIONS; n++) {
		const char *status =
		    n % 4 == 3 ? "HTTP/1.1 400 Bad" : "HTTP/1.1 200 OK";
		struct reading whole, pieces;
		char text[128];
		size_t len = strlen(seeds[n % 4]);

		memcpy(text, seeds[n % 4], len + 1);
		for (size_t k = 0; k < n % 4; k++) {
			seed = seed * 1664525u + 1013904223u;
			text[(seed >> 8) % len] =
			    letters[(seed >> 20) % (sizeof(letters) - 1)];
		}
		assert_int_equal(
		    read_all(&whole, kinds[n % 4], status, text, sizeof(text)),
		    read_all(&pieces, kinds[n % 4], status, text, 1 + n % 11));
		if (whole.answer.reason == NULL)
			taken++;
		assert_int_equal(whole.len, pieces.len);
		assert_string_equal(whole.answer.code, pieces.answer.code);
		assert_string_equal(whole.answer.nonce, pieces.answer.nonce);
	}
	assert_in_range(taken, MUTATIONS / 10, MUTATIONS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads),
		cmocka_unit_test(status_lines),
		cmocka_unit_test(envelopes),
		cmocka_unit_test(nonces),
		cmocka_unit_test(errors),
		cmocka_unit_test(statuses),
		cmocka_unit_test(bounds),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests_name("peer_answer", tests, NULL, NULL);
}
