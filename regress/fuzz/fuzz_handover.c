/*
 * Bytes as a message of the hand-over, and as a peer's answer to a
 * master_secret_request. The node's keys are those of the first vector of
 * sealed_secret.json, so that what is in the corpus opens.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "common/secmem.h"
#include "crypto/crypto.h"
#include "kms-keeper/handover.h"

#define SCALAR                                                                 \
	"99ce74c7980a1ab250894a2961a4c00d887615a9142abdc8ea7405acbfc1e529"     \
	"532084d8a9439ed8cea6089a5731550b"
#define SECRET                                                                 \
	"d6811788cef20bead0f700e622bd35b2cbab8c01643b4d40e8fcdaf193c2551b"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct identity *identity;
static struct eth_word hash;
static uint8_t secret[MASTER_SECRET_LEN];
static peer_outcome_fn asked;
static void *asked_arg;

static void
must(int ok)
{
	if (!ok)
		abort();
}

static void
draw(void *arg, uint8_t *out, size_t len)
{
	(void)arg;
	memset(out, 1, len);
	if (len == P384_SCALAR_LEN)
		must(hex_decode_exact(SCALAR, strlen(SCALAR), out, len) == 0);
}

static void
no_log(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)text;
	(void)arg;
}

static void
set_up(void)
{
	static const char file[] =
	    "{\"wallet_private_key\":\"46464646464646464646464646464646"
	    "46464646464646464646464646464646\","
	    "\"tee_private_key\":\"" SCALAR "\"}";
	int ends[2];

	log_set_sink(no_log, NULL);
	must(secmem_init(1 << 16, NULL) == 0 && crypto_init() == 0);
	must(pipe(ends) == 0 &&
	    write(ends[1], file, sizeof(file) - 1) == sizeof(file) - 1);
	(void)close(ends[1]);
	must(identity_local_new(ends[0], draw, NULL, &identity) == 0);
	(void)close(ends[0]);
	must(hex_decode_exact(SECRET, strlen(SECRET), secret, sizeof(secret)) ==
	    0);
	master_secret_hash(secret, hash.bytes);
}

static int
ask(void *arg, const struct handover_peer *peer, const void *body, size_t len,
    peer_outcome_fn done, void *done_arg, uint64_t *id)
{
	struct slice value;

	(void)arg;
	(void)peer;
	must(slice_check(body, len, &value) == 0);
	asked = done;
	asked_arg = done_arg;
	*id = 1;
	return 0;
}

static void
cancel(void *arg, uint64_t id)
{
	(void)arg;
	(void)id;
}

/* What is found is the secret, or nothing is. */
static void
check_found(const struct handover *h)
{
	const char *url;
	const uint8_t *found = handover_found(h, &hash, &url);

	must(found == NULL || memcmp(found, secret, sizeof(secret)) == 0);
}

static void
serve(struct handover *h, const struct eth_address *wallet, const char *text,
    size_t len)
{
	struct sync_message message;
	struct slice value;
	struct buf answer;
	const char *why = NULL;

	if (sync_message_read(text, len, &message) != 0)
		return;
	buf_init(&answer, HANDOVER_BODY_MAX);
	if (handover_serve(h, wallet, &message, secret, &answer, &why) == 200)
		must(slice_check((char *)answer.data, answer.len, &value) == 0);
	else
		must(answer.len == 0 && why != NULL);
	buf_free(&answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct handover_ops ops = { .ask = ask, .cancel = cancel };
	struct handover_peer peer = { .wallet = { { 1 } }, .url = "http://a" };
	struct peer_outcome outcome = { .status = 200,
		.body = (const char *)data,
		.len = size,
		.text = "" };
	struct handover *h;

	if (identity == NULL)
		set_up();
	peer.point = identity->point;
	h = handover_new(&ops, identity, draw, NULL);
	must(h != NULL && handover_set_peers(h, &peer, 1) == 0);
	serve(h, &peer.wallet, (const char *)data, size);
	must(handover_offers(h) <= 1);
	asked = NULL;
	handover_seek(h, &hash);
	check_found(h);
	if (asked != NULL) {
		asked(asked_arg, 1, &outcome);
		check_found(h);
	}
	handover_free(h);
	return 0;
}
