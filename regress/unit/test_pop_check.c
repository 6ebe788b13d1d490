#include "regress/unit/keeper_client.h"

#include "kms-keeper/pop.h"

static struct rig rig;
static struct client client;
static struct nonce_table *nonces;
static struct message m;
static struct pop_result result;
static uint8_t nonce[NONCE_LEN];
static enum pop_kind kind;

static int
begin(void **state)
{
	static const uint8_t key[NONCE_KEY_LEN] = { 2 };

	(void)state;
	rig_init(&rig);
	client_init(&client, &rig, 1);
	client.kind = kind;
	return nonce_table_new(key, 100, &nonces);
}

static int
end(void **state)
{
	(void)state;
	message_free(&m);
	client_free(&client);
	nonce_table_free(nonces);
	identity_free(rig.identity);
	return 0;
}

static void
make(bool bound)
{
	assert_int_equal(nonce_issue(nonces, rig.now.boot_ms, nonce), 0);
	message_free(&m);
	message_make(
	    &client, &m, nonce, METHOD_POST, "/kms/derive?x", "{}", bound);
}

static const char *
check(void)
{
	struct pop_head head = message_pop(&m, kind);

	memset(&result, 0, sizeof(result));
	return pop_check(&head, &rig.identity->wallet, nonces,
	    rig.identity->wallets, rig.config.pop_max_age, rig.now, &result);
}

static void
refused(const char *part, bool consumed)
{
	const char *refusal = check();
	char named[64];

	/* A peer's headers have other names. */
	(void)snprintf(named, sizeof(named), "%s", part);
	if (kind == POP_NODE && strstr(named, "X-App") != NULL)
		memcpy(strstr(named, "X-App"), "X-KMS", 5);
	part = named;
	assert_non_null(refusal);
	if (strstr(refusal, part) == NULL)
		fail_msg("expected \"%s\", got \"%s\"", part, refusal);
	assert_int_equal(nonce_consume(nonces, nonce, rig.now.boot_ms),
	    consumed ? KMS_EREPLAY : 0);
}

static void
holds(void **state)
{
	uint8_t digest[SHA256_LEN];

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		make(bound);
		assert_null(check());
		assert_true(eth_address_equal(&result.wallet, &client.wallet));
		assert_int_equal(result.bound, bound);
		assert_non_null(strstr(check(), "used before"));
		make(bound);
		eth_address_format(&client.wallet, m.wallet);
		m.head.wallet = text_of(m.wallet);
		assert_null(check());
		make(bound);
		m.head.wallet = text_of(m.wallet + 2);
		assert_null(check());
	}
	make(true);
	message_hash(&m, digest);
	assert_null(check());
	assert_memory_equal(result.content_hash, digest, SHA256_LEN);
	/* What callers in the field send: v 27 or 28, no prefix, capitals. */
	make(false);
	m.signature[131] = m.signature[131] == '0' ? 'b' : 'c';
	m.signature[130] = '1';
	for (char *c = m.signature; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'f' ? *c - 32 : *c);
	m.head.signature = text_of(m.signature + 2);
	assert_null(check());
	assert_true(eth_address_equal(&result.wallet, &client.wallet));
}

/* All headers present, once, well formed: the nonce is not touched before. */
static void
headers(void **state)
{
	static const char *const times[] = { "", "x", "-1", "+1", "1.0", "01",
		" 1", "99999999999999" };
	static const char *const versions[] = { "v1", "V2", "v2 ", "v", "v22" };

	(void)state;
	make(false);
	m.head.flags = AUTH_FLAG_REPEATED;
	refused("repeated", false);
	make(false);
	m.head.flags = AUTH_FLAG_OVERLONG;
	refused("too long", false);
	make(false);
	m.head.signature = text_of("");
	refused("expected X-App-Signature", false);
	make(false);
	m.head.nonce = text_of("");
	refused("expected X-App-Signature", false);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		make(false);
		m.head.timestamp = text_of(times[i]);
		refused("X-App-Timestamp", false);
	}
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		make(true);
		m.head.version = text_of(versions[i]);
		refused("X-App-Auth", false);
	}
	make(false);
	m.head.signature.len--;
	refused("X-App-Signature", false);
	make(false);
	m.signature[50] = 'g';
	refused("X-App-Signature", false);
	make(false);
	m.signature[131] = '2';
	refused("X-App-Signature", false);
	make(false);
	m.head.nonce.len--;
	refused("X-App-Nonce", false);
	make(false);
	m.head.nonce = text_of("AAAA");
	refused("X-App-Nonce", false);
	make(false);
	m.head.wallet = text_of("0x12");
	refused("X-App-Wallet", false);
}

static void
content_hash(void **state)
{
	(void)state;
	make(true);
	m.head.content_hash = text_of("");
	refused("X-App-Content-SHA256", false);
	make(true);
	m.head.content_hash.len--;
	refused("X-App-Content-SHA256", false);
	make(true);
	m.content_hash[5] = 'x';
	refused("X-App-Content-SHA256", false);
	/* It goes with v2 alone: nobody may think that it binds v1. */
	make(false);
	m.head.content_hash =
	    text_of("00000000000000000000000000000000000000000000000000000000"
		    "00000000");
	refused("X-App-Content-SHA256", false);
}

static void
timestamps(void **state)
{
	(void)state;
	make(false);
	rig.now.wall_ms += 120000;
	assert_null(check());
	rig.now.wall_ms -= 120000;
	make(false);
	rig.now.wall_ms += 121000;
	refused("too far", false);
	rig.now.wall_ms -= 121000;
	make(false);
	rig.now.wall_ms -= 120000;
	assert_null(check());
	rig.now.wall_ms += 120000;
	make(false);
	rig.now.wall_ms -= 121000;
	refused("too far", false);
}

static void
nonces_used(void **state)
{
	static const uint8_t alien[NONCE_LEN] = { 1, 2, 3 };

	(void)state;
	make(false);
	assert_int_equal(nonce_consume(nonces, nonce, rig.now.boot_ms), 0);
	assert_non_null(strstr(check(), "used before"));
	make(false);
	rig.now.boot_ms += NONCE_LIFE_MS;
	assert_non_null(strstr(check(), "expired"));
	message_free(&m);
	message_make(&client, &m, alien, METHOD_GET, "/", NULL, false);
	assert_non_null(strstr(check(), "expected a nonce of this node"));
}

/* From here the nonce is spent, whatever comes out. */
static void
signatures(void **state)
{
	struct eth_address other = { { 0 } };
	struct client second;

	(void)state;
	make(false);
	m.signature[10] = m.signature[10] == '0' ? '1' : '0';
	eth_address_format(&client.wallet, m.wallet);
	m.head.wallet = text_of(m.wallet);
	refused("", true);
	make(false);
	eth_address_format(&other, m.wallet);
	m.head.wallet = text_of(m.wallet);
	refused("another wallet signed", true);
	/* Signed for another node, at another time: another wallet comes out.
	 */
	client_init(&second, &rig, 2);
	second.kind = kind;
	second.node.bytes[0] ^= 1;
	assert_int_equal(nonce_issue(nonces, rig.now.boot_ms, nonce), 0);
	message_free(&m);
	message_make(&second, &m, nonce, METHOD_GET, "/", NULL, false);
	if (check() == NULL)
		assert_false(eth_address_equal(&result.wallet, &second.wallet));
	client_free(&second);
}

/* With v2 a change of method, target or content is a change of the caller. */
static void
not_the_caller(void)
{
	if (check() == NULL)
		assert_false(eth_address_equal(&result.wallet, &client.wallet));
	assert_int_equal(
	    nonce_consume(nonces, nonce, rig.now.boot_ms), KMS_EREPLAY);
}

static void
binding(void **state)
{
	(void)state;
	make(true);
	m.head.method = METHOD_PUT;
	not_the_caller();
	make(true);
	m.head.target.len--;
	not_the_caller();
	make(true);
	m.head.target = text_of("/kms/derive?y");
	not_the_caller();
	make(true);
	m.content_hash[0] = m.content_hash[0] == '0' ? '1' : '0';
	not_the_caller();
	/* A bound proof is no unbound one, nor the other way round. */
	make(true);
	m.head.version = m.head.content_hash = text_of("");
	not_the_caller();
	make(false);
	m.head.version = text_of("v2");
	refused("X-App-Content-SHA256", false);
	/* A target that is not visible ASCII cannot have been signed. */
	make(true);
	m.head.target = text_of("/kms/data/\xe2\x82\xac");
	assert_non_null(strstr(check(), "does not verify"));
	/* v1 does not look at these. */
	make(false);
	m.head.method = METHOD_PUT;
	m.head.target = text_of("/other");
	assert_null(check());
	assert_true(eth_address_equal(&result.wallet, &client.wallet));
}

/* An app's proof is no peer's, nor the other way round. */
static void
kinds(void **state)
{
	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		client.kind = kind == POP_APP ? POP_NODE : POP_APP;
		make(bound);
		client.kind = kind;
		not_the_caller();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(holds),
		TEST(headers),
		TEST(content_hash),
		TEST(timestamps),
		TEST(nonces_used),
		TEST(signatures),
		TEST(binding),
		TEST(kinds),
	};

	for (; kind <= POP_NODE; kind++) {
		if (cmocka_run_group_tests(tests, rig_setup, rig_teardown) != 0)
			return 1;
	}
	return 0;
}
