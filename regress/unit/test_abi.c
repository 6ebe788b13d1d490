/* common/abi against regress/vectors/abi.json, cuts and mutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/abi.h"
#include "common/err.h"
#include "common/hex.h"
#include "common/keccak256.h"

#define DATA_MAX 4096
#define WALLETS_MAX 4

static json_t *vectors;

static int
load(void **state)
{
	(void)state;
	vectors = json_load_file("regress/vectors/abi.json", 0, NULL);
	return vectors != NULL ? 0 : -1;
}

static int
unload(void **state)
{
	(void)state;
	json_decref(vectors);
	return 0;
}

static const char *
text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));

	assert_non_null(text);
	return text;
}

static size_t
bytes_of(const char *text, uint8_t *out, size_t size)
{
	size_t len;

	assert_int_equal(hex_decode(text, strlen(text), out, size, &len), 0);
	return len;
}

/* A copy that ends where its allocation ends, so that ASan sees a read past
 * it. Freed by the caller. */
static uint8_t *
exact_copy(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	return copy;
}

/* ---- calls ------------------------------------------------------------- */

static const char *
argument(const json_t *row, size_t i)
{
	const json_t *args = json_object_get(row, "args");

	return json_string_value(json_array_get(args, i));
}

static uint64_t
argument_uint(const json_t *row, size_t i)
{
	return strtoull(argument(row, i), NULL, 10);
}

static void
argument_bytes(const json_t *row, size_t i, uint8_t *out, size_t len)
{
	const char *text = argument(row, i);

	assert_int_equal(hex_decode_exact(text, strlen(text), out, len), 0);
}

static void
encode_row(enum abi_call call, const json_t *row, struct abi_calldata *out)
{
	struct eth_address wallet;
	struct eth_word hash;

	switch (call) {
	case ABI_GET_ACTIVE_INSTANCES:
		assert_int_equal(
		    abi_encode_get_active_instances(argument_uint(row, 0), out),
		    0);
		break;
	case ABI_GET_APP:
		assert_int_equal(
		    abi_encode_get_app(argument_uint(row, 0), out), 0);
		break;
	case ABI_GET_VERSION:
		assert_int_equal(abi_encode_get_version(argument_uint(row, 0),
				     argument_uint(row, 1), out),
		    0);
		break;
	case ABI_GET_INSTANCE_BY_WALLET:
		argument_bytes(row, 0, wallet.bytes, sizeof(wallet.bytes));
		abi_encode_get_instance_by_wallet(&wallet, out);
		break;
	case ABI_IS_OPERATOR:
		argument_bytes(row, 0, wallet.bytes, sizeof(wallet.bytes));
		abi_encode_is_operator(&wallet, out);
		break;
	case ABI_SET_MASTER_SECRET_HASH:
		argument_bytes(row, 0, hash.bytes, sizeof(hash.bytes));
		abi_encode_set_master_secret_hash(&hash, out);
		break;
	case ABI_MASTER_SECRET_HASH:
		abi_encode_master_secret_hash(out);
		break;
	case ABI_KMS_APP_ID:
		abi_encode_kms_app_id(out);
		break;
	case ABI_GET_OPERATORS:
		abi_encode_get_operators(out);
		break;
	default:
		fail();
	}
}

static void
test_calldata(void **state)
{
	unsigned int seen = 0;
	json_t *row;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(vectors, "calls"), i, row)
	{
		uint8_t want[ABI_CALLDATA_MAX];
		size_t len =
		    bytes_of(text_of(row, "calldata"), want, sizeof(want));
		struct abi_calldata got;

		for (enum abi_call c = 0; c < ABI_CALL_COUNT; c++) {
			if (strcmp(abi_function(c)->signature,
				text_of(row, "call")) != 0)
				continue;
			encode_row(c, row, &got);
			assert_int_equal(got.len, len);
			assert_memory_equal(got.data, want, len);
			assert_int_equal(len,
			    ABI_SELECTOR_LEN +
				abi_function(c)->argument_words * ETH_WORD_LEN);
			seen |= 1U << c;
		}
	}
	assert_int_equal(seen, (1U << ABI_CALL_COUNT) - 1);
	assert_null(abi_function(ABI_CALL_COUNT));
}

static void
test_calldata_bounds(void **state)
{
	struct abi_calldata out;

	(void)state;
	assert_int_equal(abi_encode_get_app(ABI_UINT_HUGE, &out), KMS_ERANGE);
	assert_int_equal(out.len, 0);
	assert_int_equal(
	    abi_encode_get_active_instances(ABI_UINT_HUGE, &out), KMS_ERANGE);
	assert_int_equal(
	    abi_encode_get_version(1, ABI_UINT_HUGE, &out), KMS_ERANGE);
	assert_int_equal(
	    abi_encode_get_version(ABI_UINT_HUGE, 1, &out), KMS_ERANGE);
	assert_int_equal(out.len, 0);
	assert_int_equal(abi_encode_get_app(ABI_UINT_HUGE - 1, &out), 0);
	assert_int_equal(out.data[ABI_SELECTOR_LEN + 23], 0);
	assert_int_equal(out.data[ABI_SELECTOR_LEN + 24], 0xff);
	assert_int_equal(out.data[ABI_SELECTOR_LEN + 31], 0xfe);
	assert_false(abi_id_usable(0));
	assert_true(abi_id_usable(1));
	assert_true(abi_id_usable(INT64_MAX));
	assert_false(abi_id_usable((uint64_t)INT64_MAX + 1));
	assert_false(abi_id_usable(ABI_UINT_HUGE));
}

static void
check_selector(const char *signature, const uint8_t *selector)
{
	uint8_t digest[KECCAK256_LEN];

	keccak256(signature, strlen(signature), digest);
	assert_memory_equal(selector, digest, ABI_SELECTOR_LEN);
}

static void
test_selectors(void **state)
{
	const json_t *known = json_object_get(vectors, "error_selectors");
	const struct abi_error *row;
	size_t i;

	(void)state;
	for (enum abi_call c = 0; c < ABI_CALL_COUNT; c++)
		check_selector(
		    abi_function(c)->signature, abi_function(c)->selector);
	for (i = 0; (row = abi_error(i)) != NULL; i++) {
		struct abi_revert revert;
		uint8_t want[ABI_SELECTOR_LEN];

		check_selector(row->signature, row->selector);
		abi_decode_revert(row->selector, ABI_SELECTOR_LEN, &revert);
		assert_int_equal(revert.kind, ABI_REVERT_CUSTOM);
		assert_int_equal(
		    bytes_of(text_of(known, revert.text), want, sizeof(want)),
		    sizeof(want));
		assert_memory_equal(want, row->selector, sizeof(want));
	}
	assert_int_equal(i, json_object_size(known));
}

/* ---- results ----------------------------------------------------------- */

union result {
	struct abi_instance instance;
	struct abi_app app;
	struct abi_version version;
	struct eth_word word;
	uint64_t number;
	bool boolean;
	struct {
		struct eth_address wallets[WALLETS_MAX];
		size_t count;
	} list;
};

static int
decode_instance(const uint8_t *data, size_t len, union result *out)
{
	return abi_decode_instance(data, len, &out->instance);
}

static int
decode_app(const uint8_t *data, size_t len, union result *out)
{
	return abi_decode_app(data, len, &out->app);
}

static int
decode_version(const uint8_t *data, size_t len, union result *out)
{
	return abi_decode_version(data, len, &out->version);
}

static int
decode_addresses(const uint8_t *data, size_t len, union result *out)
{
	return abi_decode_addresses(
	    data, len, out->list.wallets, WALLETS_MAX, &out->list.count);
}

static int
decode_word(const uint8_t *data, size_t len, union result *out)
{
	return abi_decode_word(data, len, &out->word);
}

static void
check_uint(const json_t *fields, const char *member, uint64_t got)
{
	if (json_object_get(fields, member) != NULL)
		assert_int_equal(
		    strtoull(text_of(fields, member), NULL, 10), got);
}

static void
check_bytes(
    const json_t *fields, const char *member, const void *got, size_t len)
{
	uint8_t want[DATA_MAX];

	if (json_object_get(fields, member) == NULL)
		return;
	assert_int_equal(
	    bytes_of(text_of(fields, member), want, sizeof(want)), len);
	assert_memory_equal(want, got, len);
}

static void
check_status(const json_t *fields, const char *const names[3], uint8_t status)
{
	assert_in_range(status, 0, 2);
	assert_string_equal(text_of(fields, "status"), names[status]);
}

static void
check_instance(const json_t *fields, const char *shape, const union result *got)
{
	static const char *const names[] = { "ACTIVE", "STOPPED", "FAILED" };
	const struct abi_instance *in = &got->instance;
	const char *url = text_of(fields, "instance_url");

	(void)shape;
	check_uint(fields, "instance_id", in->instance_id);
	check_uint(fields, "app_id", in->app_id);
	check_uint(fields, "version_id", in->version_id);
	check_uint(fields, "registered_at", in->registered_at);
	check_bytes(fields, "operator", in->operator_address.bytes, 20);
	check_bytes(fields, "tee_wallet", in->tee_wallet.bytes, 20);
	check_bytes(fields, "tee_pubkey", in->tee_pubkey, in->tee_pubkey_len);
	assert_string_equal(url, in->instance_url);
	assert_int_equal(strlen(url), in->instance_url_len);
	assert_int_equal(json_is_true(json_object_get(fields, "zk_verified")),
	    in->zk_verified);
	check_status(fields, names, in->status);
	assert_false(in->oversize);
}

static void
check_app(const json_t *fields, const char *shape, const union result *got)
{
	static const char *const names[] = { "ACTIVE", "INACTIVE", "REVOKED" };

	check_uint(fields, "app_id", got->app.app_id);
	check_uint(fields, "latest_version_id", got->app.latest_version_id);
	check_status(fields, names, got->app.status);
	assert_int_equal(
	    got->app.has_app_wallet, strstr(shape, "uint8,address") != NULL);
	assert_int_equal(got->app.created_at, 1);
	assert_int_equal(got->app.owner.bytes[0], 0x41);
}

static void
check_version(const json_t *fields, const char *shape, const union result *got)
{
	static const char *const names[] = { "ENROLLED", "DEPRECATED",
		"REVOKED" };

	(void)shape;
	check_uint(fields, "version_id", got->version.version_id);
	check_status(fields, names, got->version.status);
	assert_int_equal(got->version.enrolled_at, 1767225600);
	assert_int_equal(got->version.enrolled_by.bytes[0], 0x41);
}

static void
check_addresses(
    const json_t *fields, const char *shape, const union result *got)
{
	const json_t *wallets = json_object_get(fields, "wallets");

	(void)shape;
	assert_int_equal(json_array_size(wallets), got->list.count);
	for (size_t i = 0; i < got->list.count; i++) {
		struct eth_address want;
		const char *text =
		    json_string_value(json_array_get(wallets, i));

		assert_int_equal(
		    eth_address_parse(text, strlen(text), &want), 0);
		assert_true(eth_address_equal(&want, &got->list.wallets[i]));
	}
}

static void
check_word(const json_t *fields, const char *shape, const union result *got)
{
	(void)shape;
	check_bytes(fields, "hash", got->word.bytes, ETH_WORD_LEN);
}

static const struct decoder {
	const char *function;
	int (*decode)(const uint8_t *, size_t, union result *);
	void (*check)(const json_t *, const char *, const union result *);
} decoders[] = {
	{ "getInstanceByWallet", decode_instance, check_instance },
	{ "getApp", decode_app, check_app },
	{ "getVersion", decode_version, check_version },
	{ "getActiveInstances", decode_addresses, check_addresses },
	{ "getOperators", decode_addresses, check_addresses },
	{ "masterSecretHash", decode_word, check_word },
};

static const struct decoder *
decoder_of(const json_t *row)
{
	for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++)
		if (strcmp(decoders[i].function, text_of(row, "function")) == 0)
			return &decoders[i];
	fail_msg("no decoder for %s", text_of(row, "function"));
	return NULL;
}

static void
test_results(void **state)
{
	json_t *row;
	size_t i;

	(void)state;
	assert_int_not_equal(
	    json_array_size(json_object_get(vectors, "returns")), 0);
	json_array_foreach(json_object_get(vectors, "returns"), i, row)
	{
		const struct decoder *d = decoder_of(row);
		uint8_t data[DATA_MAX];
		size_t len = bytes_of(text_of(row, "data"), data, DATA_MAX);
		union result got;

		assert_int_equal(d->decode(data, len, &got), 0);
		d->check(json_object_get(row, "fields"),
		    text_of(row, "returns"), &got);
	}
}

/* Whatever is cut off is missed: the vectors have no idle bytes. */
static void
test_truncated(void **state)
{
	json_t *row;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(vectors, "returns"), i, row)
	{
		const struct decoder *d = decoder_of(row);
		uint8_t data[DATA_MAX];
		size_t len = bytes_of(text_of(row, "data"), data, DATA_MAX);
		static const union result zero;
		union result got;

		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *copy = exact_copy(data, cut);

			memset(&got, 0, sizeof(got));
			assert_int_equal(
			    d->decode(copy, cut, &got), KMS_EINVAL);
			assert_memory_equal(&got, &zero, sizeof(got));
			free(copy);
		}
	}
}

/* Further whole words are ignored behind a tuple, never behind one word; a
 * broken word is refused. */
static void
test_trailing(void **state)
{
	json_t *row;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(vectors, "returns"), i, row)
	{
		const struct decoder *d = decoder_of(row);
		uint8_t data[DATA_MAX + ETH_WORD_LEN];
		size_t len = bytes_of(text_of(row, "data"), data, DATA_MAX);
		int want = d->decode == decode_word ? KMS_EINVAL : 0;
		union result got;

		memset(data + len, 0x5a, ETH_WORD_LEN);
		assert_int_equal(
		    d->decode(data, len + ETH_WORD_LEN, &got), want);
		assert_int_equal(d->decode(data, len + 1, &got), KMS_EINVAL);
		if (want == 0) {
			assert_int_equal(
			    d->decode(data, len + ETH_WORD_LEN, &got), 0);
			d->check(json_object_get(row, "fields"),
			    text_of(row, "returns"), &got);
		}
	}
}

/* ---- members at their bounds ------------------------------------------- */

/* The first vector of a function, as bytes. */
static size_t
vector(const char *function, uint8_t *data, size_t skip)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(vectors, "returns"), i, row)
	{
		if (strcmp(text_of(row, "function"), function) == 0 &&
		    skip-- == 0)
			return bytes_of(text_of(row, "data"), data, DATA_MAX);
	}
	fail();
	return 0;
}

/* Member i of the tuple behind the leading offset. */
static uint8_t *
member(uint8_t *data, size_t i)
{
	return data + (1 + i) * ETH_WORD_LEN;
}

static void
set_word(uint8_t *word, uint64_t value)
{
	memset(word, 0, ETH_WORD_LEN);
	for (size_t i = 0; i < 8; i++)
		word[ETH_WORD_LEN - 1 - i] = (uint8_t)(value >> 8 * i);
}

static void
test_instance_members(void **state)
{
	static const struct {
		size_t index;
		size_t byte;
		uint8_t value;
		int error;
	} cases[] = {
		{ 3, 11, 1, KMS_EINVAL },    /* operator: above 160 bits */
		{ 3, 0, 1, KMS_EINVAL },     /* the same */
		{ 3, 12, 1, 0 },	     /* its first byte */
		{ 6, 11, 0x80, KMS_EINVAL }, /* teeWalletAddress */
		{ 7, 31, 2, KMS_EINVAL },    /* bool 2 */
		{ 7, 30, 1, KMS_EINVAL },    /* bool 0x101 */
		{ 7, 0, 1, KMS_EINVAL },     /* bool above 64 bits */
		{ 7, 31, 0, 0 },	     /* false */
		{ 8, 31, 3, 0 },	    /* an unknown status is passed on */
		{ 8, 31, 255, 0 },	    /* the largest uint8 */
		{ 8, 30, 1, KMS_EINVAL },   /* 0x100 is none */
		{ 8, 0, 0x80, KMS_EINVAL }, /* nor is this */
		{ 4, 31, 0x41, KMS_EINVAL }, /* offset not a multiple of 32 */
		{ 4, 30, 0xff, KMS_EINVAL }, /* offset beyond the data */
		{ 4, 0, 1, KMS_EINVAL },     /* offset above 64 bits */
		{ 4, 24, 0x80, KMS_EINVAL }, /* offset above 2^63 */
		{ 10, 31, 33, 0 },	   /* url length: eats into the next */
		{ 10, 30, 1, KMS_EINVAL }, /* longer than the data */
		{ 10, 24, 0xff, KMS_EINVAL }, /* above 2^63 */
		{ 10, 0, 1, KMS_EINVAL },     /* above 64 bits */
	};
	uint8_t data[DATA_MAX];
	struct abi_instance got;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = vector("getInstanceByWallet", data, 0);

		member(data, cases[i].index)[cases[i].byte] = cases[i].value;
		assert_int_equal(
		    abi_decode_instance(data, len, &got), cases[i].error);
	}
}

/* Offsets into the head, at its end, at the end of the data, the leading
 * offset of the result. */
static void
test_offsets(void **state)
{
	uint8_t data[DATA_MAX];
	struct abi_instance got;
	size_t len;

	(void)state;
	for (uint64_t offset = 0; offset < 0x140; offset += ETH_WORD_LEN) {
		len = vector("getInstanceByWallet", data, 0);
		set_word(member(data, 4), offset);
		assert_int_equal(
		    abi_decode_instance(data, len, &got), KMS_EINVAL);
	}
	len = vector("getInstanceByWallet", data, 0);
	set_word(member(data, 4), len - ETH_WORD_LEN); /* just outside */
	assert_int_equal(abi_decode_instance(data, len, &got), KMS_EINVAL);
	/* The last word, all zero here but for the key's end, as a length. */
	memset(data + len - ETH_WORD_LEN, 0, ETH_WORD_LEN);
	set_word(member(data, 4), len - 2 * ETH_WORD_LEN);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_int_equal(got.instance_url_len, 0);
	set_word(data + len - ETH_WORD_LEN, 1);
	assert_int_equal(abi_decode_instance(data, len, &got), KMS_EINVAL);

	len = vector("getInstanceByWallet", data, 0);
	for (uint64_t lead = 0; lead < len + 64; lead++) {
		set_word(data, lead);
		assert_int_equal(abi_decode_instance(data, len, &got),
		    lead == ETH_WORD_LEN ? 0 : KMS_EINVAL);
	}
}

static void
test_saturation(void **state)
{
	uint8_t data[DATA_MAX];
	struct abi_instance got;
	uint8_t word[ETH_WORD_LEN];
	uint64_t number;
	size_t len = vector("getInstanceByWallet", data, 0);

	(void)state;
	set_word(member(data, 1), INT64_MAX);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_int_equal(got.app_id, INT64_MAX);
	member(data, 1)[23] = 1; /* 2^64 and more */
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_true(got.app_id == ABI_UINT_HUGE);
	memset(member(data, 1), 0xff, ETH_WORD_LEN);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_true(got.app_id == ABI_UINT_HUGE);
	assert_int_equal(got.instance_id, 17);

	set_word(word, 49);
	assert_int_equal(abi_decode_uint(word, sizeof(word), &number), 0);
	assert_int_equal(number, 49);
	assert_int_equal(abi_decode_uint(word, 31, &number), KMS_EINVAL);
	word[0] = 1;
	assert_int_equal(abi_decode_uint(word, sizeof(word), &number), 0);
	assert_true(number == ABI_UINT_HUGE);
}

static void
test_bool(void **state)
{
	uint8_t word[2 * ETH_WORD_LEN] = { 0 };
	bool got = true;

	(void)state;
	assert_int_equal(abi_decode_bool(word, ETH_WORD_LEN, &got), 0);
	assert_false(got);
	word[31] = 1;
	assert_int_equal(abi_decode_bool(word, ETH_WORD_LEN, &got), 0);
	assert_true(got);
	assert_int_equal(
	    abi_decode_bool(word, 2 * ETH_WORD_LEN, &got), KMS_EINVAL);
	assert_false(got);
	assert_int_equal(abi_decode_bool(word, 0, &got), KMS_EINVAL);
	word[31] = 2;
	assert_int_equal(abi_decode_bool(word, ETH_WORD_LEN, &got), KMS_EINVAL);
	word[31] = 1;
	word[23] = 1;
	assert_int_equal(abi_decode_bool(word, ETH_WORD_LEN, &got), KMS_EINVAL);
}

/* An instance whose URL and key have the given lengths. */
static size_t
build_instance(uint8_t *data, size_t url, size_t key)
{
	size_t url_room = (url + 31) / 32 * 32, key_room = (key + 31) / 32 * 32;
	size_t len = 32 * 11 + 32 + url_room + 32 + key_room;

	memset(data, 0, len);
	set_word(data, 32);
	set_word(member(data, 0), 1);
	set_word(member(data, 4), 320);
	set_word(member(data, 5), 320 + 32 + url_room);
	set_word(data + 32 + 320, url);
	memset(data + 64 + 320, 'u', url);
	set_word(data + 64 + 320 + url_room, key);
	memset(data + 96 + 320 + url_room, 'k', key);
	return len;
}

static void
test_sizes(void **state)
{
	uint8_t data[DATA_MAX];
	struct abi_instance got;
	size_t len;

	(void)state;
	len = build_instance(data, ABI_INSTANCE_URL_MAX, ABI_TEE_PUBKEY_MAX);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_int_equal(got.instance_url_len, ABI_INSTANCE_URL_MAX);
	assert_int_equal(strlen(got.instance_url), ABI_INSTANCE_URL_MAX);
	assert_int_equal(got.tee_pubkey_len, ABI_TEE_PUBKEY_MAX);
	assert_false(got.oversize);

	len = build_instance(data, ABI_INSTANCE_URL_MAX + 1, 120);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_true(got.oversize);
	assert_int_equal(got.instance_url_len, 0);
	assert_int_equal(got.instance_url[0], '\0');
	assert_int_equal(got.tee_pubkey_len, 120);

	len = build_instance(data, 10, ABI_TEE_PUBKEY_MAX + 1);
	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	assert_true(got.oversize);
	assert_int_equal(got.tee_pubkey_len, 0);
	assert_int_equal(got.tee_pubkey[0], 0);
	assert_int_equal(got.instance_url_len, 10);
}

static void
test_app_wallet(void **state)
{
	uint8_t data[DATA_MAX];
	struct abi_app got;
	size_t len = vector("getApp", data, 0);

	(void)state;
	assert_int_equal(abi_decode_app(data, len, &got), 0);
	assert_true(got.has_app_wallet);
	member(data, 8)[31] = 7;
	assert_int_equal(abi_decode_app(data, len, &got), 0);
	assert_int_equal(got.app_wallet.bytes[19], 7);
	member(data, 8)[11] = 1;
	assert_int_equal(abi_decode_app(data, len, &got), KMS_EINVAL);
	/* The string begins where the wallet would be: there is none. */
	len = vector("getApp", data, 1);
	assert_int_equal(abi_decode_app(data, len, &got), 0);
	assert_false(got.has_app_wallet);
}

static void
test_address_list(void **state)
{
	uint8_t data[(2 + 6) * ETH_WORD_LEN] = { 0 };
	struct eth_address out[WALLETS_MAX];
	size_t count;

	(void)state;
	set_word(data, 32);
	for (uint64_t i = 0; i < 6; i++)
		set_word(data + (2 + i) * ETH_WORD_LEN, i + 1);
	set_word(data + 32, 4);
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count), 0);
	assert_int_equal(count, 4);
	assert_int_equal(out[3].bytes[19], 4);
	set_word(data + 32, 6);
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count),
	    KMS_ETOOBIG);
	assert_int_equal(count, 0);
	assert_int_equal(out[0].bytes[19], 0);
	set_word(data + 32, 7);
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count),
	    KMS_EINVAL);
	data[32] = 1; /* 2^248 entries */
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count),
	    KMS_EINVAL);
	memset(data + 32, 0, ETH_WORD_LEN);
	set_word(data + 32, (uint64_t)1 << 59); /* times 32 is 2^64 */
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count),
	    KMS_EINVAL);
	set_word(data + 32, 6);
	data[7 * ETH_WORD_LEN] = 1; /* malformed beyond max counts too */
	assert_int_equal(
	    abi_decode_addresses(data, sizeof(data), out, 4, &count),
	    KMS_EINVAL);
}

/* ---- reverts ----------------------------------------------------------- */

static void
test_revert(void **state)
{
	uint8_t data[4 + 3 * 32 + 256] = { 0x08, 0xc3, 0x79, 0xa0 };
	struct abi_revert got;

	(void)state;
	abi_decode_revert(NULL, 0, &got);
	assert_int_equal(got.kind, ABI_REVERT_EMPTY);
	abi_decode_revert(data, 3, &got);
	assert_int_equal(got.kind, ABI_REVERT_UNKNOWN);
	assert_string_equal(got.text, "");

	set_word(data + 4, 32);
	set_word(data + 36, 9);
	memcpy(data + 68, "no\nentry\x80", 9);
	abi_decode_revert(data, 100, &got);
	assert_int_equal(got.kind, ABI_REVERT_ERROR);
	assert_string_equal(got.text, "no?entry?");
	for (size_t cut = 4; cut < 100; cut++) {
		abi_decode_revert(data, cut, &got);
		assert_int_equal(got.kind, ABI_REVERT_UNKNOWN);
		assert_string_equal(got.text, "0x08c379a0");
	}
	set_word(data + 36, 256);
	memset(data + 68, 'x', 256);
	abi_decode_revert(data, 68 + 256, &got);
	assert_int_equal(got.kind, ABI_REVERT_ERROR);
	assert_int_equal(strlen(got.text), ABI_REVERT_TEXT_MAX);

	check_selector("Error(string)", data);
	memcpy(data, "\x4e\x48\x7b\x71", 4);
	check_selector("Panic(uint256)", data);
	set_word(data + 4, 0x11);
	abi_decode_revert(data, 36, &got);
	assert_int_equal(got.kind, ABI_REVERT_PANIC);
	assert_string_equal(got.text, "panic 0x11");
}

/* ---- mutations --------------------------------------------------------- */

static uint64_t seed = 0x6b6d732d61626931;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33);
}

/* Bytes, whole words of interesting values, and the length. */
static size_t
mutate(uint8_t *data, size_t len)
{
	static const uint64_t values[] = { 0, 1, 2, 31, 32, 33, 64, 255, 256,
		320, 2048, 2049, UINT32_MAX, INT64_MAX, UINT64_MAX - 31,
		UINT64_MAX };

	for (uint32_t n = rnd() % 4; n > 0; n--)
		data[rnd() % len] = (uint8_t)rnd();
	for (uint32_t n = rnd() % 3; n > 0; n--)
		set_word(data + rnd() % (len / 32) * 32,
		    rnd() % 2 == 0 ? values[rnd() % 16] : rnd() % (len + 64));
	return rnd() % 8 == 0 ? rnd() % (len + 1) : len;
}

static void
test_mutations(void **state)
{
	const json_t *rows = json_object_get(vectors, "returns");
	uint8_t data[DATA_MAX];
	union result got;
	size_t accepted = 0;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		const json_t *row =
		    json_array_get(rows, rnd() % json_array_size(rows));
		const struct decoder *d = decoder_of(row);
		size_t len = mutate(
		    data, bytes_of(text_of(row, "data"), data, DATA_MAX));
		uint8_t *copy = exact_copy(data, len);
		int error = d->decode(copy, len, &got);

		assert_true(error == 0 || error == KMS_EINVAL ||
		    (error == KMS_ETOOBIG && d->decode == decode_addresses));
		if (error == 0 && d->decode == decode_instance) {
			assert_in_range(got.instance.instance_url_len, 0,
			    ABI_INSTANCE_URL_MAX);
			assert_in_range(
			    got.instance.tee_pubkey_len, 0, ABI_TEE_PUBKEY_MAX);
		}
		accepted += error == 0;
		free(copy);
	}
	assert_in_range(accepted, 1000, 29000); /* both ways were taken */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calldata),
		cmocka_unit_test(test_calldata_bounds),
		cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_instance_members),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_saturation),
		cmocka_unit_test(test_bool),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_app_wallet),
		cmocka_unit_test(test_address_list),
		cmocka_unit_test(test_revert),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
