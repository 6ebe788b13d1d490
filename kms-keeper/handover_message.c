/*
 * The messages of the hand-over (PROTOCOL.md section 7):
 *
 *   {"type":"master_secret_request","sender_wallet":…,"ecdh_pubkey":hex}
 *   {"type":"secret_offer","sender_wallet":…,"hash":hex,"sealed":SEALED}
 *   {"status":"ok","sealed":SEALED}
 *   SEALED: {"ephemeral_pubkey":hex,"nonce":hex,"encrypted_data":hex}
 */
#include "kms-keeper/handover_internal.h"

#include "common/err.h"
#include "common/hex.h"

static int
write_sealed(struct buf *out, const struct sealed_secret *sealed)
{
	uint8_t spki[P384_SPKI_LEN];
	char key[2 * P384_SPKI_LEN + 1], nonce[2 * AEAD_NONCE_LEN + 1];
	char data[2 * SEALED_DATA_LEN + 1];

	p384_public_spki(&sealed->ephemeral, spki);
	hex_encode(spki, sizeof(spki), key);
	hex_encode(sealed->nonce, sizeof(sealed->nonce), nonce);
	hex_encode(sealed->data, sizeof(sealed->data), data);
	return buf_printf(out,
	    "\"sealed\":{\"ephemeral_pubkey\":\"%s\",\"nonce\":\"%s\","
	    "\"encrypted_data\":\"%s\"}}",
	    key, nonce, data);
}

static int
write_head(
    struct buf *out, enum sync_type type, const struct eth_address *wallet)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(wallet, text);
	return buf_printf(out, "{\"type\":\"%s\",\"sender_wallet\":\"%s\",",
	    sync_type_name(type), text);
}

int
handover_write_request(struct buf *out, const struct eth_address *wallet,
    const struct p384_point *point)
{
	uint8_t spki[P384_SPKI_LEN];
	char key[2 * P384_SPKI_LEN + 1];
	int error = write_head(out, SYNC_MASTER_SECRET_REQUEST, wallet);

	p384_public_spki(point, spki);
	hex_encode(spki, sizeof(spki), key);
	if (error == 0)
		error = buf_printf(out, "\"ecdh_pubkey\":\"%s\"}", key);
	return error;
}

int
handover_write_offer(struct buf *out, const struct eth_address *wallet,
    const struct eth_word *hash, const struct sealed_secret *sealed)
{
	char text[2 * ETH_WORD_LEN + 1];
	int error = write_head(out, SYNC_SECRET_OFFER, wallet);

	hex_encode(hash->bytes, ETH_WORD_LEN, text);
	if (error == 0)
		error = buf_printf(out, "\"hash\":\"%s\",", text);
	if (error == 0)
		error = write_sealed(out, sealed);
	return error;
}

int
handover_write_answer(struct buf *out, const struct sealed_secret *sealed)
{
	int error = buf_append_text(out, "{\"status\":\"ok\",");

	return error == 0 ? write_sealed(out, sealed) : error;
}

/* A member that is a string, without its quotes. Its escapes are left: what
 * is read here is hex, which has none. */
static int
read_text(struct slice object, const char *name, struct slice *text)
{
	struct slice value;

	if (slice_member(object, name, &value) != 0 ||
	    slice_kind(value) != SLICE_STRING)
		return KMS_EINVAL;
	text->text = value.text + 1;
	text->len = value.len - 2;
	return 0;
}

static int
read_sealed(struct slice object, struct sealed_secret *sealed)
{
	struct slice value, key, nonce, data;

	if (slice_member(object, "sealed", &value) != 0 ||
	    read_text(value, "ephemeral_pubkey", &key) != 0 ||
	    read_text(value, "nonce", &nonce) != 0 ||
	    read_text(value, "encrypted_data", &data) != 0)
		return KMS_EINVAL;
	return sealed_secret_parse(key.text, key.len, nonce.text, nonce.len,
	    data.text, data.len, sealed);
}

bool
handover_sender_is(
    const struct sync_message *message, const struct eth_address *wallet)
{
	struct slice text = message->sender_wallet;
	struct eth_address sender;

	if (text.text == NULL)
		return true;
	return eth_address_parse(text.text + 1, text.len - 2, &sender) == 0 &&
	    eth_address_equal(&sender, wallet);
}

int
handover_read_request(
    const struct sync_message *message, struct p384_point *point)
{
	struct slice key;

	if (read_text(message->object, "ecdh_pubkey", &key) != 0)
		return KMS_EINVAL;
	return p384_public_parse_hex(key.text, key.len, point);
}

int
handover_read_offer(const struct sync_message *message, struct eth_word *hash,
    struct sealed_secret *sealed)
{
	struct slice text;

	if (read_text(message->object, "hash", &text) != 0 ||
	    hex_decode_exact(text.text, text.len, hash->bytes, ETH_WORD_LEN) !=
		0 ||
	    eth_word_is_zero(hash))
		return KMS_EINVAL;
	return read_sealed(message->object, sealed);
}

int
handover_read_answer(const char *text, size_t len, struct sealed_secret *sealed)
{
	struct sync_reply reply;

	if (len > HANDOVER_BODY_MAX ||
	    sync_reply_read(text, len, &reply) != 0 || !reply.ok)
		return KMS_EINVAL;
	return read_sealed(reply.object, sealed);
}
