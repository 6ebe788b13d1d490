#include "common/abi.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/printable.h"

#define WORD ETH_WORD_LEN
#define ADDRESS_PADDING (ETH_WORD_LEN - ETH_ADDRESS_LEN)

/* ---- the calls --------------------------------------------------------- */

static const struct abi_function functions[ABI_CALL_COUNT] = {
	[ABI_GET_ACTIVE_INSTANCES] = { "getActiveInstances(uint256)",
	    { 0x8c, 0x22, 0x8c, 0xbf }, 1 },
	[ABI_GET_INSTANCE_BY_WALLET] = { "getInstanceByWallet(address)",
	    { 0x98, 0x63, 0xf8, 0xa2 }, 1 },
	[ABI_GET_APP] = { "getApp(uint256)", { 0x24, 0xf3, 0xa5, 0x1b }, 1 },
	[ABI_GET_VERSION] = { "getVersion(uint256,uint256)",
	    { 0x69, 0x87, 0xb0, 0x75 }, 2 },
	[ABI_MASTER_SECRET_HASH] = { "masterSecretHash()",
	    { 0x1e, 0xf9, 0x9d, 0x10 }, 0 },
	[ABI_SET_MASTER_SECRET_HASH] = { "setMasterSecretHash(bytes32)",
	    { 0x4d, 0xf7, 0xe3, 0x90 }, 1 },
	[ABI_KMS_APP_ID] = { "kmsAppId()", { 0xab, 0xd8, 0x51, 0xf1 }, 0 },
	[ABI_GET_OPERATORS] = { "getOperators()", { 0x27, 0xa0, 0x99, 0xd8 },
	    0 },
	[ABI_IS_OPERATOR] = { "isOperator(address)", { 0x6d, 0x70, 0xf7, 0xae },
	    1 },
};

static const struct abi_error errors[] = {
	{ "MasterSecretHashAlreadySet()", { 0xd7, 0xd8, 0x8f, 0xdf } },
	{ "NotAuthorizedToSetHash()", { 0xa7, 0x6d, 0x08, 0xc2 } },
	{ "NotOwner()", { 0x30, 0xcd, 0x74, 0x71 } },
	{ "OnlyNovaAppRegistry()", { 0xdd, 0x43, 0x4f, 0x23 } },
	{ "AppIdMismatch()", { 0x53, 0x56, 0x5d, 0xb5 } },
	{ "InvalidRegistryAddress()", { 0x7b, 0xfd, 0x2e, 0x83 } },
	{ "AppIdAlreadySet()", { 0x46, 0x35, 0x9b, 0x81 } },
};

static const uint8_t selector_error[ABI_SELECTOR_LEN] = { 0x08, 0xc3, 0x79,
	0xa0 }; /* Error(string) */
static const uint8_t selector_panic[ABI_SELECTOR_LEN] = { 0x4e, 0x48, 0x7b,
	0x71 }; /* Panic(uint256) */

const struct abi_function *
abi_function(enum abi_call call)
{
	return (unsigned int)call < ABI_CALL_COUNT ? &functions[call] : NULL;
}

const struct abi_error *
abi_error(size_t i)
{
	return i < sizeof(errors) / sizeof(errors[0]) ? &errors[i] : NULL;
}

/* ---- calldata ---------------------------------------------------------- */

static void
put_selector(struct abi_calldata *out, enum abi_call call)
{
	memset(out, 0, sizeof(*out));
	memcpy(out->data, functions[call].selector, ABI_SELECTOR_LEN);
	out->len = ABI_SELECTOR_LEN;
}

static void
put_uint(struct abi_calldata *out, uint64_t value)
{
	for (size_t i = 0; i < 8; i++)
		out->data[out->len + WORD - 1 - i] = (uint8_t)(value >> 8 * i);
	out->len += WORD;
}

static void
put_address(struct abi_calldata *out, const struct eth_address *address)
{
	memcpy(out->data + out->len + ADDRESS_PADDING, address->bytes,
	    ETH_ADDRESS_LEN);
	out->len += WORD;
}

static int
encode_uint(enum abi_call call, uint64_t value, struct abi_calldata *out)
{
	out->len = 0;
	if (value == ABI_UINT_HUGE)
		return KMS_ERANGE;
	put_selector(out, call);
	put_uint(out, value);
	return 0;
}

static void
encode_address(enum abi_call call, const struct eth_address *address,
    struct abi_calldata *out)
{
	put_selector(out, call);
	put_address(out, address);
}

int
abi_encode_get_active_instances(uint64_t app_id, struct abi_calldata *out)
{
	return encode_uint(ABI_GET_ACTIVE_INSTANCES, app_id, out);
}

void
abi_encode_get_instance_by_wallet(
    const struct eth_address *wallet, struct abi_calldata *out)
{
	encode_address(ABI_GET_INSTANCE_BY_WALLET, wallet, out);
}

int
abi_encode_get_app(uint64_t app_id, struct abi_calldata *out)
{
	return encode_uint(ABI_GET_APP, app_id, out);
}

int
abi_encode_get_version(
    uint64_t app_id, uint64_t version_id, struct abi_calldata *out)
{
	int error;

	out->len = 0;
	if (version_id == ABI_UINT_HUGE)
		return KMS_ERANGE;
	error = encode_uint(ABI_GET_VERSION, app_id, out);
	if (error == 0)
		put_uint(out, version_id);
	return error;
}

void
abi_encode_master_secret_hash(struct abi_calldata *out)
{
	put_selector(out, ABI_MASTER_SECRET_HASH);
}

void
abi_encode_set_master_secret_hash(
    const struct eth_word *hash, struct abi_calldata *out)
{
	put_selector(out, ABI_SET_MASTER_SECRET_HASH);
	memcpy(out->data + out->len, hash->bytes, WORD);
	out->len += WORD;
}

void
abi_encode_kms_app_id(struct abi_calldata *out)
{
	put_selector(out, ABI_KMS_APP_ID);
}

void
abi_encode_get_operators(struct abi_calldata *out)
{
	put_selector(out, ABI_GET_OPERATORS);
}

void
abi_encode_is_operator(
    const struct eth_address *wallet, struct abi_calldata *out)
{
	encode_address(ABI_IS_OPERATOR, wallet, out);
}

/* ---- words ------------------------------------------------------------- */

int
abi_id_usable(uint64_t id)
{
	return id >= 1 && id <= INT64_MAX;
}

static uint64_t
word_uint(const uint8_t *word)
{
	struct eth_word copy;
	uint64_t value;

	memcpy(copy.bytes, word, WORD);
	return eth_word_to_u64(&copy, &value) == 0 ? value : ABI_UINT_HUGE;
}

/* A word that must fit max, as a size, a uint8 or a boolean does. */
static int
word_bounded(const uint8_t *word, uint64_t max, uint64_t *value)
{
	*value = word_uint(word);
	return *value <= max ? 0 : KMS_EINVAL;
}

static int
word_address(const uint8_t *word, struct eth_address *address)
{
	for (size_t i = 0; i < ADDRESS_PADDING; i++)
		if (word[i] != 0)
			return KMS_EINVAL;
	memcpy(address->bytes, word + ADDRESS_PADDING, ETH_ADDRESS_LEN);
	return 0;
}

int
abi_decode_word(const uint8_t *data, size_t len, struct eth_word *out)
{
	memset(out, 0, sizeof(*out));
	if (len != WORD)
		return KMS_EINVAL;
	memcpy(out->bytes, data, WORD);
	return 0;
}

int
abi_decode_uint(const uint8_t *data, size_t len, uint64_t *out)
{
	*out = 0;
	if (len != WORD)
		return KMS_EINVAL;
	*out = word_uint(data);
	return 0;
}

int
abi_decode_bool(const uint8_t *data, size_t len, bool *out)
{
	uint64_t value;

	*out = false;
	if (len != WORD || word_bounded(data, 1, &value) != 0)
		return KMS_EINVAL;
	*out = value == 1;
	return 0;
}

/* ---- tuples ------------------------------------------------------------ */

/*
 * A tuple being read. The members of its head are taken in order; the first
 * mistake sticks, so that a decoder reads like the Solidity declaration and
 * checks once, at the end.
 */
struct reader {
	const uint8_t *data; /* offsets count from here */
	size_t len;	     /* bytes from data to the end of the result */
	size_t head;	     /* bytes of the head: no offset lies below it */
	size_t next;	     /* the next member of the head */
	size_t first_tail;   /* the lowest offset seen, len if none */
	int error;
};

/*
 * A result of dynamic type is one offset, to a tuple or array behind it. Make
 * r read what it points to: head_words of head and as many bytes as there are.
 */
static void
reader_init(
    struct reader *r, const uint8_t *data, size_t len, size_t head_words)
{
	uint64_t offset;

	memset(r, 0, sizeof(*r));
	r->head = head_words * WORD;
	if (len < WORD || len % WORD != 0 ||
	    word_bounded(data, len, &offset) != 0 || offset % WORD != 0 ||
	    offset < WORD || len - offset < r->head) {
		r->error = KMS_EINVAL;
		return;
	}
	r->data = data + offset;
	r->len = len - (size_t)offset;
	r->first_tail = r->len;
}

/* The next word of the head; NULL once anything was wrong. */
static const uint8_t *
reader_word(struct reader *r)
{
	const uint8_t *word;

	if (r->error != 0)
		return NULL;
	if (r->head - r->next < WORD) {
		r->error = KMS_EINVAL;
		return NULL;
	}
	word = r->data + r->next;
	r->next += WORD;
	return word;
}

static uint64_t
read_uint(struct reader *r)
{
	const uint8_t *word = reader_word(r);

	return word != NULL ? word_uint(word) : 0;
}

static uint64_t
read_bounded(struct reader *r, uint64_t max)
{
	const uint8_t *word = reader_word(r);
	uint64_t value = 0;

	if (word != NULL)
		r->error = word_bounded(word, max, &value);
	return r->error == 0 ? value : 0;
}

static void
read_address(struct reader *r, struct eth_address *address)
{
	const uint8_t *word = reader_word(r);

	if (word != NULL)
		r->error = word_address(word, address);
}

static void
read_word(struct reader *r, struct eth_word *out)
{
	const uint8_t *word = reader_word(r);

	if (word != NULL)
		memcpy(out->bytes, word, WORD);
}

/*
 * A string or bytes member: its offset, there its length, then the bytes,
 * padded to whole words. Returns where they are and their count; NULL and 0
 * once anything was wrong.
 */
static const uint8_t *
read_bytes(struct reader *r, size_t *count)
{
	uint64_t offset, bytes;
	size_t room;

	*count = 0;
	offset = read_bounded(r, r->len);
	if (r->error != 0)
		return NULL;
	if (offset % WORD != 0 || offset < r->head || r->len - offset < WORD)
		goto malformed;
	room = r->len - (size_t)offset - WORD; /* whole words, as len is */
	if (word_bounded(r->data + offset, room, &bytes) != 0)
		goto malformed;
	if (offset < r->first_tail)
		r->first_tail = (size_t)offset;
	*count = (size_t)bytes;
	return r->data + offset + WORD;

malformed:
	r->error = KMS_EINVAL;
	return NULL;
}

static void
skip_bytes(struct reader *r)
{
	size_t count;

	(void)read_bytes(r, &count);
}

/* As read_bytes, copied to out; longer than max sets *oversize instead. */
static void
copy_bytes(
    struct reader *r, void *out, size_t max, size_t *out_len, bool *oversize)
{
	size_t count;
	const uint8_t *bytes = read_bytes(r, &count);

	if (bytes == NULL)
		return;
	if (count > max) {
		*oversize = true;
		return;
	}
	memcpy(out, bytes, count);
	*out_len = count;
}

int
abi_decode_instance(const uint8_t *data, size_t len, struct abi_instance *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, data, len, 10);
	out->instance_id = read_uint(&r);
	out->app_id = read_uint(&r);
	out->version_id = read_uint(&r);
	read_address(&r, &out->operator_address);
	copy_bytes(&r, out->instance_url, ABI_INSTANCE_URL_MAX,
	    &out->instance_url_len, &out->oversize);
	copy_bytes(&r, out->tee_pubkey, ABI_TEE_PUBKEY_MAX,
	    &out->tee_pubkey_len, &out->oversize);
	read_address(&r, &out->tee_wallet);
	out->zk_verified = read_bounded(&r, 1) == 1;
	out->status = (uint8_t)read_bounded(&r, UINT8_MAX);
	out->registered_at = read_uint(&r);
	if (r.error != 0)
		memset(out, 0, sizeof(*out));
	return r.error;
}

int
abi_decode_app(const uint8_t *data, size_t len, struct abi_app *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, data, len, 8);
	out->app_id = read_uint(&r);
	read_address(&r, &out->owner);
	read_word(&r, &out->tee_arch);
	read_address(&r, &out->dapp_contract);
	skip_bytes(&r);
	out->latest_version_id = read_uint(&r);
	out->created_at = read_uint(&r);
	out->status = (uint8_t)read_bounded(&r, UINT8_MAX);
	/* The tuple does not name its length: a ninth member is there when
	 * the string begins behind it. */
	if (r.error == 0 && r.first_tail >= r.head + WORD) {
		r.head += WORD;
		read_address(&r, &out->app_wallet);
		out->has_app_wallet = true;
	}
	if (r.error != 0)
		memset(out, 0, sizeof(*out));
	return r.error;
}

int
abi_decode_version(const uint8_t *data, size_t len, struct abi_version *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, data, len, 10);
	out->version_id = read_uint(&r);
	skip_bytes(&r); /* versionName */
	read_word(&r, &out->code_measurement);
	skip_bytes(&r); /* imageUri */
	skip_bytes(&r); /* auditUrl */
	skip_bytes(&r); /* auditHash */
	skip_bytes(&r); /* githubRunId */
	out->status = (uint8_t)read_bounded(&r, UINT8_MAX);
	out->enrolled_at = read_uint(&r);
	read_address(&r, &out->enrolled_by);
	if (r.error != 0)
		memset(out, 0, sizeof(*out));
	return r.error;
}

int
abi_decode_addresses(const uint8_t *data, size_t len, struct eth_address *out,
    size_t max, size_t *count)
{
	struct eth_address address;
	struct reader r;
	uint64_t entries;

	*count = 0;
	reader_init(&r, data, len, 1);
	entries = read_uint(&r);
	if (r.error != 0 || entries > (r.len - WORD) / WORD)
		return KMS_EINVAL;
	r.head += (size_t)entries * WORD;
	for (uint64_t i = 0; i < entries && r.error == 0; i++)
		read_address(&r, i < max ? &out[i] : &address);
	if (r.error != 0) {
		memset(out, 0, max * sizeof(*out));
		return r.error;
	}
	if (entries > max) {
		memset(out, 0, max * sizeof(*out));
		return KMS_ETOOBIG;
	}
	*count = (size_t)entries;
	return 0;
}

/* ---- reverts ----------------------------------------------------------- */

/* The argument of Error(string) for a log line. */
static int
revert_reason(const uint8_t *data, size_t len, char *text)
{
	struct reader r;
	const uint8_t *reason;
	size_t count;

	/* The argument list is itself the tuple: no offset leads to it. */
	memset(&r, 0, sizeof(r));
	if (len < WORD || len % WORD != 0)
		return KMS_EINVAL;
	r.data = data;
	r.len = r.first_tail = len;
	r.head = WORD;
	reason = read_bytes(&r, &count);
	if (reason == NULL)
		return r.error;
	printable_copy(
	    (const char *)reason, count, text, ABI_REVERT_TEXT_MAX + 1);
	return 0;
}

static int
revert_custom(struct abi_revert *out)
{
	const struct abi_error *row;

	for (size_t i = 0; (row = abi_error(i)) != NULL; i++)
		if (memcmp(out->selector, row->selector, ABI_SELECTOR_LEN) ==
		    0) {
			(void)snprintf(out->text, sizeof(out->text), "%.*s",
			    (int)strcspn(row->signature, "("), row->signature);
			return 0;
		}
	return KMS_ENOENT;
}

void
abi_decode_revert(const uint8_t *data, size_t len, struct abi_revert *out)
{
	memset(out, 0, sizeof(*out));
	out->kind = ABI_REVERT_UNKNOWN;
	if (len == 0) {
		out->kind = ABI_REVERT_EMPTY;
		return;
	}
	if (len < ABI_SELECTOR_LEN)
		return;
	memcpy(out->selector, data, ABI_SELECTOR_LEN);
	data += ABI_SELECTOR_LEN;
	len -= ABI_SELECTOR_LEN;
	if (memcmp(out->selector, selector_error, ABI_SELECTOR_LEN) == 0 &&
	    revert_reason(data, len, out->text) == 0)
		out->kind = ABI_REVERT_ERROR;
	else if (memcmp(out->selector, selector_panic, ABI_SELECTOR_LEN) == 0 &&
	    len == WORD) {
		out->kind = ABI_REVERT_PANIC;
		(void)snprintf(out->text, sizeof(out->text), "panic 0x%llx",
		    (unsigned long long)word_uint(data));
	} else if (revert_custom(out) == 0)
		out->kind = ABI_REVERT_CUSTOM;
	else
		(void)snprintf(out->text, sizeof(out->text),
		    "0x%02x%02x%02x%02x", out->selector[0], out->selector[1],
		    out->selector[2], out->selector[3]);
}
