/*
 * The identity behind a service, which the test plays at the other end of
 * socketpairs: what is asked, what is believed, and what happens when it is
 * wrong, slow, or gone.
 */
#include "regress/unit/keeper_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "common/hex.h"
#include "crypto/aead.h"
#include "crypto/eip1559.h"
#include "kms-keeper/capsule_http.h"
#include "kms-keeper/capsule_pool.h"
#include "kms-keeper/identity_capsule.h"

#define ENDS 64
#define ADDRESS "0x0000000000000000000000000000000000000001"
#define MEBIBYTE (1u << 20)

static struct rig rig;
static uv_loop_t loop;
static struct identity *identity;
static int64_t now;

/* the service */
static uint8_t wallet_key[WALLET_KEY_LEN] = { 9, 9 };
static uint8_t other_wallet_key[WALLET_KEY_LEN] = { 9, 8 };
static struct p384_key *tee_key, *other_tee, *client;
static struct eth_address wallet;
static struct wallet_context *wallets;
static int ends[ENDS];
static int count, used; /* connections made, the last one that was asked */
static unsigned int owed;
static struct buf question; /* head and body of the last one */

/* what the identity said */
static unsigned int changes, mixed;
static struct result {
	unsigned int calls;
	int error;
	uint8_t out[4096];
	size_t len;
} result;

/* ---- rig ---- */

static void
on_want(void *arg, unsigned int more)
{
	assert_ptr_equal(arg, &rig);
	owed += more;
	assert_true(owed <= CAPSULE_CONNECTIONS);
}

static void
on_changed(void *arg)
{
	(void)arg;
	changes++;
}

static void
on_before(void *arg)
{
	(void)arg;
}

static void
on_mix(void *arg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	assert_int_equal(len, 32);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(bytes[i], 0x5a);
	mixed++;
}

static void
on_result(void *arg, int error, const uint8_t *out, size_t len)
{
	struct result *r = arg;

	r->calls++;
	r->error = error;
	r->len = len;
	if (error != 0)
		assert_int_equal(len, 0);
	assert_true(len <= sizeof(r->out));
	if (len > 0)
		memcpy(r->out, out, len);
}

static void
spin(void)
{
	for (int i = 0; i < 4; i++)
		(void)uv_run(&loop, UV_RUN_NOWAIT);
}

static void
pass(int64_t ms)
{
	for (int64_t end = now + ms; now < end;) {
		now += 100;
		identity_capsule_tick(identity, now);
		spin();
	}
}

/* kmsd connects, as often as it was asked to. */
static void
supply(void)
{
	while (owed > 0) {
		int pair[2];

		assert_true(count < ENDS);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
		ends[count++] = pair[0];
		owed--;
		assert_int_equal(identity_capsule_take(identity, pair[1]), 0);
	}
	spin();
}

static void
hang_up(int which)
{
	if (ends[which] >= 0)
		(void)close(ends[which]);
	ends[which] = -1;
	spin();
}

/* The rest of a request on that connection: whether it is whole now. */
static bool
read_question(int which)
{
	const char *end, *length;
	uint8_t *space;
	ssize_t got = 1;

	while (got > 0) {
		assert_int_equal(buf_reserve(&question, 65536, &space), 0);
		got = ends[which] < 0 ? 0 : read(ends[which], space, 65536);
		if (got > 0)
			buf_commit(&question, (size_t)got);
		spin();
	}
	end = memmem(question.data, question.len, "\r\n\r\n", 4);
	if (question.len == 0 || end == NULL)
		return false;
	length = memmem(question.data, question.len, "Content-Length: ", 16);
	return (size_t)(end + 4 - (char *)question.data) +
	    (length == NULL ? 0 : strtoul(length + 16, NULL, 10)) ==
	    question.len;
}

/* The connection on which there is a request; it is in question. */
static int
asked(void)
{
	supply();
	for (int i = 0; i < count; i++) {
		buf_clear(&question);
		if (ends[i] >= 0 && read_question(i)) {
			used = i;
			return i;
		}
	}
	buf_clear(&question);
	return -1;
}

static void
expect_question(const char *line)
{
	assert_true(asked() >= 0);
	if (question.len < strlen(line) ||
	    memcmp(question.data, line, strlen(line)) != 0)
		fail_msg("expected %s, got %.*s", line, (int)question.len,
		    (char *)question.data);
}

static void
question_has(const char *text)
{
	assert_non_null(
	    memmem(question.data, question.len, text, strlen(text)));
}

static void
expect_no_question(void)
{
	int which = asked();

	if (which >= 0)
		fail_msg(
		    "asked: %.*s", (int)question.len, (char *)question.data);
}

/* The bytes of an answer, as far as the other side takes them. */
static void
put(int which, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t sent =
		    send(ends[which], data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		spin();
		if (sent < 0 && errno != EAGAIN)
			return;
		if (sent > 0) {
			data += sent;
			len -= (size_t)sent;
		}
	}
	spin();
}

static void
answer_status(int which, int status, const char *body, size_t len)
{
	char head[128];
	int head_len = snprintf(head, sizeof(head),
	    "HTTP/1.1 %d Some Words\r\nContent-Length: %zu\r\n\r\n", status,
	    len);

	put(which, head, (size_t)head_len);
	put(which, body, len);
}

static void __attribute__((format(printf, 1, 2)))
answer(const char *format, ...)
{
	static char body[16384];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(body, sizeof(body), format, args);
	va_end(args);
	answer_status(used, 200, body, strlen(body));
}

static char *
hex_of(const void *data, size_t len)
{
	static char text[4][8192];
	static int turn;

	turn = (turn + 1) % 4;
	assert_true(2 * len < sizeof(text[0]));
	hex_encode(data, len, text[turn]);
	return text[turn];
}

static void
answer_address(const uint8_t *key)
{
	struct eth_address address;

	assert_int_equal(wallet_key_address(wallets, key, &address), 0);
	expect_question("GET /v1/eth/address HTTP/1.1\r\n");
	answer("{\"address\":\"0x%s\",\"public_key\":\"0x04\"}",
	    hex_of(address.bytes, ETH_ADDRESS_LEN));
}

static void
answer_key(const struct p384_key *key)
{
	uint8_t spki[P384_SPKI_LEN];

	p384_public_spki(p384_key_point(key), spki);
	expect_question("GET /v1/encryption/public_key HTTP/1.1\r\n");
	answer("{\"public_key_der\":\"0x%s\",\"public_key_pem\":\"-\\n\"}",
	    hex_of(spki, sizeof(spki)));
}

static void
answer_random(void)
{
	uint8_t bytes[32];

	memset(bytes, 0x5a, sizeof(bytes));
	expect_question("GET /v1/random HTTP/1.1\r\n");
	answer("{\"random_bytes\":\"0x%s\"}", hex_of(bytes, sizeof(bytes)));
}

static void
pass_check(void)
{
	answer_address(wallet_key);
	answer_key(tee_key);
	answer_random();
	assert_null(identity->problem);
	assert_true(identity->known);
}

static int
begin(void **state)
{
	const struct identity_capsule_config config = { .host = "127.0.0.1:1",
		.loop = &loop,
		.want = on_want,
		.changed = on_changed,
		.before = on_before,
		.mix = on_mix,
		.random = rig_random,
		.arg = &rig };

	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.random = 5;
	now = RIG_BOOT;
	count = 0;
	owed = changes = mixed = 0;
	memset(&result, 0, sizeof(result));
	buf_init(&question, 16 * MEBIBYTE);
	return uv_loop_init(&loop) != 0 ||
	    identity_capsule_new(&config, &identity) != 0;
}

static int
begin_known(void **state)
{
	if (begin(state) != 0)
		return -1;
	pass(100);
	pass_check();
	return 0;
}

static int
end(void **state)
{
	(void)state;
	identity_free(identity);
	spin();
	for (int i = 0; i < count; i++)
		hang_up(i);
	buf_free(&question);
	return uv_loop_close(&loop);
}

static void
sign(const char *text)
{
	memset(&result, 0, sizeof(result));
	identity_sign(identity, text, strlen(text), on_result, &result);
	spin();
}

static void
expect_error(int error)
{
	assert_int_equal(result.calls, 1);
	if (result.error != error)
		fail_msg("expected %s, got %s", kms_strerror(error),
		    kms_strerror(result.error));
}

/* ---- wallet and key ---- */

static void
unknown_at_first(void **state)
{
	(void)state;
	assert_false(identity->known);
	assert_string_equal(
	    identity->problem, "identity service is not reachable");
	sign("early");
	expect_error(KMS_EUNAVAIL);
	assert_int_equal(owed, 0);
	pass(10000);
	assert_string_equal(
	    identity->problem, "identity service is not reachable");
	assert_int_equal(owed, 1);
	/* It comes at last. */
	supply();
	pass(100);
	pass_check();
	assert_true(eth_address_equal(&identity->wallet, &wallet));
	assert_true(
	    p384_point_equal(&identity->point, p384_key_point(tee_key)));
	assert_int_equal(mixed, 1);
	assert_int_equal(changes, 1);
	expect_no_question();
	/* More randomness from time to time. */
	pass(CAPSULE_MIX_MS + 100);
	answer_random();
	assert_int_equal(mixed, 2);
}

static void
unusable_answers(void **state)
{
	static const char *const bodies[] = { "", "{}", "[]", "{\"address\":1}",
		"{\"address\":\"0x12\"}",
		"{\"address\":\"0x00000000000000000000000000000000000000zz\"}",
		"{\"address\":\"" ADDRESS "\",\"address\":\"" ADDRESS "\"}",
		"<html>" };

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		pass(CAPSULE_RETRY_MS + 100);
		expect_question("GET /v1/eth/address");
		answer("%s", bodies[i]);
		assert_false(identity->known);
		assert_string_equal(identity->problem,
		    "identity service gives no usable answer");
	}
	pass(CAPSULE_RETRY_MS + 100);
	answer_address(wallet_key);
	expect_question("GET /v1/encryption/public_key");
	answer("{\"public_key_der\":\"0x3076\"}");
	assert_false(identity->known);
	pass(CAPSULE_RETRY_MS + 100);
	answer_address(wallet_key);
	answer_key(tee_key);
	expect_question("GET /v1/random");
	answer("{\"random_bytes\":\"0x5a\"}");
	assert_false(identity->known);
	assert_int_equal(mixed, 0);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
}

/* Another identity than before is none. */
static void
keeps_its_keys(void **state)
{
	(void)state;
	for (int turn = 0; turn < 2; turn++) {
		hang_up(used);
		pass(CAPSULE_RETRY_MS + 100);
		answer_address(turn == 0 ? other_wallet_key : wallet_key);
		if (turn == 1)
			answer_key(other_tee);
		assert_string_equal(identity->problem,
		    turn == 0
			? "identity service has another wallet than before"
			: "identity service has another teePubkey than "
			  "before");
		assert_true(eth_address_equal(&identity->wallet, &wallet));
		assert_true(p384_point_equal(
		    &identity->point, p384_key_point(tee_key)));
		sign("m");
		expect_error(KMS_EUNAVAIL);
		expect_no_question();
		pass(CAPSULE_RETRY_MS + 100);
		pass_check();
	}
}

/* What waits is told when the service is gone, and later calls at once. */
static void
gone_and_back(void **state)
{
	(void)state;
	hang_up(used);
	sign("m");
	assert_int_equal(result.calls, 0);
	pass(CAPSULE_RETRY_MS + CAPSULE_CHECK_MS + 200);
	expect_error(KMS_EUNAVAIL);
	assert_string_equal(
	    identity->problem, "identity service is not reachable");
	sign("n");
	expect_error(KMS_EUNAVAIL);
	pass(20000);
	supply();
	pass(100);
	pass_check();
	sign("o");
	expect_question("POST /v1/eth/sign HTTP/1.1");
}

/* A connection that is closed with notice is no reason to doubt. */
static void
announced_end(void **state)
{
	static const char last[] = "HTTP/1.1 500 No\r\nConnection: close\r\n"
				   "Content-Length: 0\r\n\r\n";

	(void)state;
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1");
	put(used, last, sizeof(last) - 1);
	expect_error(KMS_EUNAVAIL);
	hang_up(used);
	pass(5000);
	expect_no_question();
	assert_null(identity->problem);
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1");
}

/* ---- signatures ---- */

static void
sign_as(const uint8_t *key, const char *text, uint8_t v, bool high)
{
	/* The group's order, to mirror s. */
	static const char order[] = "fffffffffffffffffffffffffffffffe"
				    "baaedce6af48a03bbfd25e8cd0364141";
	uint8_t signature[SIGNATURE_LEN], n[32];
	int borrow = 0;

	assert_int_equal(
	    wallet_sign_message(wallets, key, text, strlen(text), signature),
	    0);
	if (high) {
		assert_int_equal(hex_decode_exact(order, 64, n, 32), 0);
		for (int i = 31; i >= 0; i--) {
			int digit = n[i] - signature[32 + i] - borrow;

			borrow = digit < 0;
			signature[32 + i] = (uint8_t)(digit & 255);
		}
		signature[64] ^= 1;
	}
	signature[64] = (uint8_t)(signature[64] + v);
	sign(text);
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	answer("{\"signature\":\"0x%s\",\"address\":\"0x\","
	       "\"attestation\":null}",
	    hex_of(signature, sizeof(signature)));
}

static void
signatures(void **state)
{
	static const char text[] = "NovaKMS:Response:a:b";
	uint8_t expected[SIGNATURE_LEN];

	(void)state;
	assert_int_equal(wallet_sign_message(
			     wallets, wallet_key, text, strlen(text), expected),
	    0);
	for (int v = 0; v <= 27; v += 27) {
		for (int high = 0; high < 2; high++) {
			sign_as(wallet_key, text, (uint8_t)v, high);
			expect_error(0);
			assert_int_equal(result.len, SIGNATURE_LEN);
			assert_memory_equal(
			    result.out, expected, SIGNATURE_LEN);
		}
	}
	/* What is asked is JSON. */
	sign("a \"q\" \\ \n \x01 \xc3\xbc");
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	question_has("\r\n\r\n{\"message\":\"a \\\"q\\\" \\\\ \\u000a \\u0001 "
		     "\xc3\xbc\","
		     "\"include_attestation\":false}");
	answer("{}");
	expect_error(KMS_EPROTO);
}

static void
bad_signatures(void **state)
{
	(void)state;
	sign_as(other_wallet_key, "m", 0, false);
	expect_error(KMS_ECRYPTO);
	/* It is asked who it is. */
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	sign_as(wallet_key, "m", 2, false);
	expect_error(KMS_EPROTO);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	answer("{\"signature\":\"0x%0130d\"}", 0);
	expect_error(KMS_EPROTO);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	answer_status(used, 400, "{}", 2);
	expect_error(KMS_EUNAVAIL);
	sign("\xff");
	expect_error(KMS_EINVAL);
}

/* ---- the transaction ---- */

static const struct transaction asked_for = { .chain_id = 31337,
	.nonce = 7,
	.max_priority_fee = 1000000000,
	.max_fee = 3000000000,
	.registry = { { 0xe7, 1, 2, 3 } },
	.secret_hash = { 0xab, 0xcd } };

static void
sign_transaction(void)
{
	memset(&result, 0, sizeof(result));
	identity_sign_transaction(identity, &asked_for, on_result, &result);
	spin();
}

/* Field number changed (0: none) is another one in what comes back. */
static void
answer_transaction(int changed, const uint8_t *key)
{
	uint8_t data[TRANSACTION_DATA_LEN + 1] = { 0 };
	uint8_t digest[32], signature[SIGNATURE_LEN];
	struct eip1559 tx = { .chain_id = asked_for.chain_id,
		.nonce = asked_for.nonce,
		.max_priority_fee = asked_for.max_priority_fee,
		.max_fee = asked_for.max_fee,
		.gas_limit = TRANSACTION_GAS,
		.to = asked_for.registry,
		.data = data,
		.data_len = TRANSACTION_DATA_LEN };
	uint64_t *const numbers[] = { &tx.chain_id, &tx.nonce,
		&tx.max_priority_fee, &tx.max_fee, &tx.gas_limit };
	struct buf raw;

	transaction_data(&asked_for, data);
	if (changed >= 1 && changed <= 5)
		(*numbers[changed - 1])++;
	if (changed == 6)
		tx.to.bytes[19] ^= 1;
	if (changed == 7)
		tx.value.bytes[31] = 1;
	if (changed == 8)
		data[TRANSACTION_DATA_LEN - 1] ^= 1;
	if (changed == 9)
		tx.data_len++;
	if (changed == 10)
		data[0] ^= 1;
	buf_init(&raw, 512);
	assert_int_equal(eip1559_digest(&tx, digest), 0);
	assert_int_equal(
	    wallet_sign_digest(wallets, key, digest, signature), 0);
	assert_int_equal(eip1559_assemble(&tx, signature, &raw), 0);
	expect_question("POST /v1/eth/sign-tx HTTP/1.1\r\n");
	answer("{\"raw_transaction\":\"0x%s%s\",\"transaction_hash\":\"0x\","
	       "\"signature\":\"0x\",\"address\":\"0x\"}",
	    hex_of(raw.data, raw.len), changed == 11 ? "00" : "");
	buf_free(&raw);
}

static void
transactions(void **state)
{
	(void)state;
	sign_transaction();
	expect_question("POST /v1/eth/sign-tx HTTP/1.1\r\n");
	question_has(
	    "{\"payload\":{\"kind\":\"structured\",\"chain_id\":\"0x7a69\","
	    "\"nonce\":\"0x7\",\"max_priority_fee_per_gas\":\"0x3b9aca00\","
	    "\"max_fee_per_gas\":\"0xb2d05e00\",\"gas_limit\":\"0x493e0\","
	    "\"value\":\"0x0\",\"to\":\"0xe7010203");
	answer("{\"raw_transaction\":\"0x02\"}");
	expect_error(KMS_EINVAL);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	for (int changed = 0; changed <= 12; changed++) {
		sign_transaction();
		answer_transaction(
		    changed, changed == 12 ? other_wallet_key : wallet_key);
		expect_error(changed == 0 ? 0
			: changed == 11	  ? KMS_EINVAL
			: changed == 12	  ? KMS_ECRYPTO
					  : KMS_EPROTO);
		if (changed == 0)
			continue;
		pass(CAPSULE_RETRY_MS + 100);
		pass_check();
	}
}

/* ---- envelopes ---- */

static const uint8_t nonce[AEAD_NONCE_LEN] = { 1, 2, 3 };
static struct agreement *agreement;

static void
open_sealed(size_t len)
{
	static uint8_t sealed[64];

	memset(&result, 0, sizeof(result));
	memset(sealed, 0xee, sizeof(sealed));
	identity_open(identity, &agreement, p384_key_point(client), nonce,
	    sealed, len, on_result, &result);
	assert_null(agreement);
	spin();
}

static void
opens(void **state)
{
	uint8_t spki[P384_SPKI_LEN];
	char expected[1024];

	(void)state;
	open_sealed(16 + 9);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	p384_public_spki(p384_key_point(client), spki);
	(void)snprintf(expected, sizeof(expected),
	    "\r\n\r\n{\"nonce\":\"0x010203000000000000000000\","
	    "\"client_public_key\":\"0x%s\",\"encrypted_data\":\"0xeeee",
	    hex_of(spki, sizeof(spki)));
	question_has(expected);
	answer("{\"plaintext\":\"{\\\"a\\\":\\\"\\u00fc\\\"}\"}");
	expect_error(KMS_EPROTO); /* ten bytes, not nine */
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	open_sealed(16 + 10);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	answer("{\"plaintext\":\"{\\\"a\\\":\\\"\\u00fc\\\"}\"}");
	expect_error(0);
	assert_int_equal(result.len, 10);
	assert_memory_equal(result.out, "{\"a\":\"\xc3\xbc\"}", 10);
	/* NUL is a character, too. */
	open_sealed(16 + 1);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	answer("{\"plaintext\":\"\\u0000\"}");
	expect_error(0);
	assert_int_equal(result.len, 1);
	open_sealed(16);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	answer("{\"plaintext\":\"\"}");
	expect_error(0);
	assert_int_equal(result.len, 0);
	open_sealed(15);
	expect_error(KMS_EAUTH);
	expect_no_question();
}

static void
does_not_open(void **state)
{
	static const struct {
		int status, error;
		const char *body;
	} cases[] = { { 400, KMS_EAUTH, "{\"error\":\"nonce\"}" },
		{ 422, KMS_EAUTH, "" }, { 413, KMS_ETOOBIG, "" },
		{ 404, KMS_EUNAVAIL, "" }, { 500, KMS_EUNAVAIL, "" },
		{ 302, KMS_EUNAVAIL, "" }, { 201, KMS_EUNAVAIL, "{}" } };
	static const char *const bodies[] = { "{\"plaintext\":\"\xff\"}",
		"{\"plaintext\":\"\xc0\xaf\"}", "{\"plaintext\":\"\\ud800\"}",
		"{\"plaintext\":1}", "{}", "",
		"{\"plaintext\":\"x\",\"plaintext\":\"x\"}",
		"{\"plaintext\":\"x\"} x", "{\"plaintext\":\"xy\"}" };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_sealed(17);
		expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
		answer_status(used, cases[i].status, cases[i].body,
		    strlen(cases[i].body));
		expect_error(cases[i].error);
	}
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		open_sealed(17);
		expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
		answer("%s", bodies[i]);
		expect_error(KMS_EPROTO);
		pass(CAPSULE_RETRY_MS + 100);
		pass_check();
	}
}

/* A decrypt of which a byte was sent is sent no more, whatever happens. */
static void
never_decrypts_twice(void **state)
{
	static const char half[] =
	    "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"plaint";

	(void)state;
	for (int turn = 0; turn < 4; turn++) {
		open_sealed(17);
		expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
		if (turn == 1)
			put(used, half, 10);
		if (turn == 2)
			put(used, half, sizeof(half) - 1);
		if (turn == 3)
			put(used, "HTTP/1.1 2OO", 12);
		hang_up(used);
		expect_error(KMS_ECLOSED);
		pass(CAPSULE_RETRY_MS + 100);
		pass_check();
		expect_no_question();
		assert_int_equal(result.calls, 1);
	}
	/* The connection was gone before: nothing was sent. */
	assert_int_equal(close(ends[used]), 0);
	ends[used] = -1;
	open_sealed(17);
	pass(100);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	answer("{\"plaintext\":\"x\"}");
	expect_error(0);
}

/* What does no harm twice is asked again when no answer began. */
static void
repeats_the_harmless(void **state)
{
	(void)state;
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	hang_up(used);
	assert_int_equal(result.calls, 0);
	pass(100);
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	put(used, "HTTP/1.1 ", 9);
	hang_up(used);
	expect_error(KMS_ECLOSED);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	sign("m");
	for (int i = 0; i < CAPSULE_TRIES; i++) {
		assert_int_equal(result.calls, 0);
		for (int wait = 0; asked() < 0 && wait < 50; wait++)
			pass(100);
		if (memcmp(question.data, "GET", 3) == 0) {
			/* in between it is asked who it is */
			hang_up(used);
			i--;
			continue;
		}
		hang_up(used);
	}
	pass(CAPSULE_CALL_MS);
	assert_int_equal(result.calls, 1);
	assert_true(
	    result.error == KMS_ECLOSED || result.error == KMS_EUNAVAIL);
}

static void
oversized(void **state)
{
	static const char head[] =
	    "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{";
	uint8_t *large;

	(void)state;
	open_sealed(17);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	put(used, head, sizeof(head) - 1);
	expect_error(KMS_ETOOBIG);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	/* A request that the service would not take is not sent. */
	large = calloc(1, 11 * MEBIBYTE);
	assert_non_null(large);
	memset(large, 'x', 11 * MEBIBYTE);
	memset(&result, 0, sizeof(result));
	identity_seal(identity, &agreement, p384_key_point(client), large,
	    11 * MEBIBYTE, on_result, &result);
	expect_error(KMS_ETOOBIG);
	memset(&result, 0, sizeof(result));
	identity_open(identity, &agreement, p384_key_point(client), nonce,
	    large, 6 * MEBIBYTE, on_result, &result);
	expect_error(KMS_ETOOBIG);
	expect_no_question();
	/* One that it takes is sent in pieces, and answered early. */
	memset(&result, 0, sizeof(result));
	identity_open(identity, &agreement, p384_key_point(client), nonce,
	    large, 5 * MEBIBYTE - 1024, on_result, &result);
	spin();
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	assert_true(question.len > 10 * MEBIBYTE - 4096);
	answer_status(used, 413, "", 0);
	expect_error(KMS_ETOOBIG);
	memset(&result, 0, sizeof(result));
	identity_open(identity, &agreement, p384_key_point(client), nonce,
	    large, 5 * MEBIBYTE - 1024, on_result, &result);
	answer_status(used, 413, "", 0);
	expect_error(KMS_ETOOBIG);
	free(large);
}

static void
seal(const char *text, size_t len)
{
	memset(&result, 0, sizeof(result));
	identity_seal(identity, &agreement, p384_key_point(client),
	    (const uint8_t *)text, len, on_result, &result);
	spin();
}

static void
answer_sealed(const struct p384_key *key, size_t len)
{
	uint8_t spki[P384_SPKI_LEN], data[64];

	memset(data, 0xdd, sizeof(data));
	p384_public_spki(p384_key_point(key), spki);
	expect_question("POST /v1/encryption/encrypt HTTP/1.1\r\n");
	answer("{\"encrypted_data\":\"%s\",\"enclave_public_key\":\"%s\","
	       "\"nonce\":\"%s\"}",
	    hex_of(data, len), hex_of(spki, sizeof(spki)),
	    hex_of(nonce, sizeof(nonce)));
}

static void
seals(void **state)
{
	(void)state;
	seal("{\"k\":\"\x7f\"}", 9);
	answer_sealed(tee_key, 9 + 16);
	expect_error(0);
	assert_int_equal(result.len, 12 + 9 + 16);
	assert_memory_equal(result.out, nonce, sizeof(nonce));
	assert_int_equal(result.out[12], 0xdd);
	seal("x", 1);
	answer_sealed(tee_key, 16);
	expect_error(KMS_EPROTO);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	seal("x", 1);
	answer_sealed(other_tee, 17);
	expect_error(KMS_ECRYPTO);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	for (int i = 0; i < 3; i++) {
		static const char *const bad[] = { "a\xff", "\xed\xa0\x80",
			"\xf4\x90\x80\x80" };

		seal(bad[i], strlen(bad[i]));
		expect_error(KMS_EINVAL);
	}
	expect_no_question();
}

/* ---- time and bounds ---- */

static void
late(void **state)
{
	(void)state;
	open_sealed(17);
	expect_question("POST /v1/encryption/decrypt HTTP/1.1\r\n");
	pass(CAPSULE_CALL_MS - 100);
	assert_int_equal(result.calls, 0);
	pass(100);
	expect_error(KMS_ETIMEOUT);
	/* What comes now comes to nobody. */
	put(used, "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n", 39);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	assert_int_equal(result.calls, 1);
}

static void
several_at_once(void **state)
{
	static struct result results[CAPSULE_CONNECTIONS + 2];
	int order[CAPSULE_CONNECTIONS], which;

	(void)state;
	memset(results, 0, sizeof(results));
	for (int i = 0; i < CAPSULE_CONNECTIONS + 2; i++)
		identity_sign(identity, "m", 1, on_result, &results[i]);
	for (int i = 0; i < CAPSULE_CONNECTIONS; i++) {
		which = asked();
		assert_true(which >= 0);
		order[i] = which;
	}
	assert_int_equal(count, CAPSULE_CONNECTIONS);
	assert_int_equal(owed, 0);
	expect_no_question(); /* two wait */
	for (int i = CAPSULE_CONNECTIONS - 1; i >= 0; i--) {
		answer_status(order[i], 500, "", 0);
		/* The one that is free takes the next call. */
		if (i >= CAPSULE_CONNECTIONS - 2)
			assert_int_equal(asked(), order[i]);
	}
	for (int i = 0; i < CAPSULE_CONNECTIONS; i++)
		assert_int_equal(results[i].calls, 1);
	assert_int_equal(results[CAPSULE_CONNECTIONS].calls, 0);
}

static void
bounds(void **state)
{
	struct result all = { 0 };

	(void)state;
	for (int i = 0; i < CAPSULE_CALLS_MAX; i++)
		identity_sign(identity, "m", 1, on_result, &all);
	assert_int_equal(all.calls, 0);
	sign("m");
	expect_error(KMS_EBUSY);
	pass(CAPSULE_CALL_MS);
	assert_int_equal(all.calls, CAPSULE_CALLS_MAX);
	assert_int_equal(all.error, KMS_ETIMEOUT);
}

static void
bytes_bound(void **state)
{
	struct result all = { 0 };
	size_t len = 9 * MEBIBYTE;
	uint8_t *large = malloc(len);

	(void)state;
	assert_non_null(large);
	memset(large, 'x', len);
	for (unsigned int i = 0; i < CAPSULE_CALLS_BYTES / (9 * MEBIBYTE); i++)
		identity_seal(identity, &agreement, p384_key_point(client),
		    large, len, on_result, &all);
	assert_int_equal(all.calls, 0);
	memset(&result, 0, sizeof(result));
	identity_seal(identity, &agreement, p384_key_point(client), large, len,
	    on_result, &result);
	expect_error(KMS_EBUSY);
	free(large);
}

/* Bytes that nobody asked for end their connection. */
static void
unasked(void **state)
{
	(void)state;
	put(used, "H", 1);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	assert_int_equal(count, 2);
	sign("m");
	expect_question("POST /v1/eth/sign HTTP/1.1\r\n");
	put(used, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\nH", 38);
	expect_error(KMS_EPROTO);
	pass(CAPSULE_RETRY_MS + 100);
	pass_check();
	/* A descriptor that nobody wants is refused. */
	assert_int_equal(
	    identity_capsule_take(identity, dup(STDERR_FILENO)), KMS_EPROTO);
}

/* Connections that give nothing are wanted less and less often. */
static void
barren(void **state)
{
	(void)state;
	pass(60000);
	while (owed > 0 && count < ENDS - 1) {
		supply();
		for (int i = 0; i < count; i++)
			hang_up(i);
		pass(CAPSULE_RETRY_MS + 100);
	}
	/* At first every second or so, at the end every five. */
	count = 0;
	for (int i = 0; i < 600; i++) {
		supply();
		for (int j = 0; j < count; j++)
			hang_up(j);
		pass(100);
	}
	assert_true(count >= 10 && count <= 15);
}

static void
freed_with_calls_open(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		identity_sign(identity, "m", 1, on_result, &result);
	open_sealed(17);
	assert_true(asked() >= 0);
	identity_free(identity);
	identity = NULL;
	spin();
	assert_int_equal(result.calls, 0);
}

static int
make_keys(void **state)
{
	uint8_t scalar[P384_SCALAR_LEN] = { 1, 1 }, seed[32] = { 1 };

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	log_init_tool("test", LOG_LEVEL_ERROR);
	wallets = wallet_context_new(seed);
	if (crypto_init() != 0 || secmem_init(1 << 16, NULL) != 0 ||
	    wallets == NULL ||
	    wallet_key_address(wallets, wallet_key, &wallet) != 0)
		return -1;
	if (p384_key_new(scalar, &tee_key) != 0)
		return -1;
	scalar[0]++;
	if (p384_key_new(scalar, &other_tee) != 0)
		return -1;
	scalar[0]++;
	return p384_key_new(scalar, &client);
}

static int
free_keys(void **state)
{
	(void)state;
	p384_key_free(tee_key);
	p384_key_free(other_tee);
	p384_key_free(client);
	wallet_context_free(wallets);
	return 0;
}

int
main(void)
{
#define KNOWN(test) cmocka_unit_test_setup_teardown(test, begin_known, end)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unknown_at_first, begin, end),
		cmocka_unit_test_setup_teardown(unusable_answers, begin, end),
		KNOWN(keeps_its_keys),
		KNOWN(gone_and_back),
		KNOWN(announced_end),
		KNOWN(signatures),
		KNOWN(bad_signatures),
		KNOWN(transactions),
		KNOWN(opens),
		KNOWN(does_not_open),
		KNOWN(never_decrypts_twice),
		KNOWN(repeats_the_harmless),
		KNOWN(oversized),
		KNOWN(seals),
		KNOWN(late),
		KNOWN(several_at_once),
		KNOWN(bounds),
		KNOWN(bytes_bound),
		KNOWN(unasked),
		cmocka_unit_test_setup_teardown(barren, begin, end),
		KNOWN(freed_with_calls_open),
	};

	return cmocka_run_group_tests(tests, make_keys, free_keys);
}
