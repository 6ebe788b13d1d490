/*
 * What libkmsclient reads from others: URLs, the registry's results, a node's
 * answers. The first byte chooses the reader.
 */
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"
#include "kmsctl/client.h"
#include "kmsctl/cmd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct wallet_context *wallets;
static struct client_peer peer;

static void
start(void)
{
	static const uint8_t seed[32] = { 1 }, key[WALLET_KEY_LEN] = { 2 };
	static const uint8_t scalar[P384_SCALAR_LEN] = { 3 };
	struct p384_key *tee;

	if (crypto_init() != 0 || p384_key_new(scalar, &tee) != 0)
		abort();
	wallets = wallet_context_new(seed);
	if (wallets == NULL ||
	    wallet_key_address(wallets, key, &peer.wallet) != 0)
		abort();
	peer.tee_point = *p384_key_point(tee);
	p384_key_free(tee);
}

/* Two signatures of 132 characters, then the body. */
static void
answer(const uint8_t *data, size_t size)
{
	static const char caller[] =
	    "0x11111111111111111111111111111111111111111111111111111111111111"
	    "1111111111111111111111111111111111111111111111111111111111111111"
	    "1100";
	struct client_answer made;
	const char *why;
	json_t *json;

	client_answer_init(&made);
	made.status = size % 2 == 0 ? 200 : 404;
	if (size >= 2 * SIGNATURE_TEXT_LEN) {
		memcpy(made.signature, data, SIGNATURE_TEXT_LEN);
		memcpy(made.signature_v2, data + SIGNATURE_TEXT_LEN,
		    SIGNATURE_TEXT_LEN);
		data += 2 * SIGNATURE_TEXT_LEN;
		size -= 2 * SIGNATURE_TEXT_LEN;
	}
	if (buf_append(&made.body, data, size) == 0 &&
	    client_answer_verify(wallets, &peer, caller, &made, &json, &why) ==
		0)
		abort(); /* nobody can sign that */
	client_answer_free(&made);
}

static void
text(const uint8_t *data, size_t size)
{
	struct client_origin origin;
	struct buf out;
	int64_t ms;
	char *copy = strndup((const char *)data, size);

	if (copy == NULL)
		return;
	if (client_origin_parse(copy, &origin) == 0 &&
	    (origin.host[0] == '\0' || origin.port == 0))
		abort();
	(void)cmd_duration_parse(copy, &ms);
	buf_init(&out, CLIENT_TARGET_MAX);
	(void)client_percent_append(&out, copy);
	(void)client_json_append_string(&out, copy);
	buf_free(&out);
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client_instance instance;
	json_t *json;

	if (wallets == NULL)
		start();
	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
		(void)client_instance_decode(data + 1, size - 1, &instance);
		break;
	case 1:
		answer(data + 1, size - 1);
		break;
	case 2:
		text(data + 1, size - 1);
		break;
	default:
		if (client_json_parse(data + 1, size - 1, &json) == 0)
			client_json_free(json);
	}
	return 0;
}
