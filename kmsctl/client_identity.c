#include "kmsctl/client.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/crypto.h"

#define IDENTITY_FILE_MAX 16384

static int
complain(char *reason, const char *file, const char *text)
{
	snprintf(reason, KMS_CLIENT_REASON_LEN, "%s: %s", file, text);
	return KMS_CLIENT_USAGE;
}

static int
read_all(int fd, struct buf *out)
{
	uint8_t *space;
	ssize_t n;
	int rc;

	do {
		if ((rc = buf_reserve(out, 4096, &space)) != 0)
			return rc;
		n = read(fd, space, 4096);
		if (n > 0)
			buf_commit(out, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 ? 0 : KMS_ESYS;
}

/* Open, look at who else may read it, read. */
static int
file_read(const char *file, struct buf *out, char *reason)
{
	struct stat st;
	int fd, rc;

	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return complain(reason, file,
		    errno == ENOENT
			? "there is no such identity file; make one with "
			  "kmsctl keygen"
			: strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		rc = complain(reason, file, "not a regular file");
	} else if ((st.st_mode & 077) != 0) {
		rc = complain(reason, file,
		    "others may read or write this identity; chmod 600 it");
	} else {
		rc = read_all(fd, out);
		if (rc != 0)
			rc = complain(reason, file,
			    rc == KMS_ETOOBIG ? "too large for an identity"
					      : "cannot be read");
	}
	close(fd);
	return rc;
}

/* The member's hex as exactly len bytes. */
static int
hex_member(const json_t *json, const char *name, uint8_t *out, size_t len)
{
	const char *text = client_json_string(json, name);

	if (text == NULL)
		return KMS_EINVAL;
	return hex_decode_exact(text, strlen(text), out, len);
}

/* The public members are there for people; they must not mislead them. */
static int
public_members_fit(const json_t *json, const struct client_identity *identity)
{
	const char *wallet = client_json_string(json, "wallet");
	const char *pubkey = client_json_string(json, "tee_pubkey");
	struct eth_address address;
	struct p384_point point;

	if (wallet == NULL || pubkey == NULL)
		return 0;
	return eth_address_parse(wallet, strlen(wallet), &address) == 0 &&
	    eth_address_equal(&address, &identity->wallet) &&
	    p384_public_parse_hex(pubkey, strlen(pubkey), &point) == 0 &&
	    p384_point_equal(&point, p384_key_point(identity->tee_key));
}

static const char *
identity_parse(const json_t *json, const struct wallet_context *wallets,
    struct client_identity *identity)
{
	uint8_t scalar[P384_SCALAR_LEN];
	int rc;

	if (hex_member(json, "wallet_private_key", identity->wallet_key,
		WALLET_KEY_LEN) != 0 ||
	    wallet_key_address(
		wallets, identity->wallet_key, &identity->wallet) != 0)
		return "wallet_private_key is not a secp256k1 key of 64 hex "
		       "digits";
	rc = hex_member(json, "tee_private_key", scalar, sizeof(scalar));
	if (rc == 0)
		rc = p384_key_new(scalar, &identity->tee_key);
	OPENSSL_cleanse(scalar, sizeof(scalar));
	if (rc != 0)
		return "tee_private_key is not a P-384 key of 96 hex digits";
	if (!public_members_fit(json, identity))
		return "wallet or tee_pubkey is missing or does not belong to "
		       "the private keys";
	return NULL;
}

int
client_identity_load(const char *file, const struct wallet_context *wallets,
    struct client_identity *identity, char reason[KMS_CLIENT_REASON_LEN])
{
	const char *wrong;
	struct buf text;
	json_t *json;
	int rc;

	memset(identity, 0, sizeof(*identity));
	buf_init(&text, IDENTITY_FILE_MAX);
	rc = file_read(file, &text, reason);
	if (rc == 0 && client_json_parse(text.data, text.len, &json) != 0)
		rc = complain(reason, file, "not a JSON object");
	buf_free(&text);
	if (rc != 0)
		return rc;
	wrong = identity_parse(json, wallets, identity);
	client_json_free(json);
	if (wrong == NULL)
		return 0;
	client_identity_free(identity);
	return complain(reason, file, wrong);
}

void
client_identity_free(struct client_identity *identity)
{
	p384_key_free(identity->tee_key);
	OPENSSL_cleanse(identity, sizeof(*identity));
}

void
client_identity_spki(
    const struct client_identity *identity, char hex[2 * P384_SPKI_LEN + 1])
{
	uint8_t spki[P384_SPKI_LEN];

	p384_public_spki(p384_key_point(identity->tee_key), spki);
	hex_encode(spki, sizeof(spki), hex);
}

/* Fresh keys; the chance of drawing again is negligible but not nil. */
static int
identity_make(
    const struct wallet_context *wallets, struct client_identity *identity)
{
	uint8_t scalar[P384_SCALAR_LEN];
	int rc, tries;

	memset(identity, 0, sizeof(*identity));
	for (tries = 0, rc = KMS_EINVAL; rc == KMS_EINVAL && tries < 8; tries++)
		rc = RAND_priv_bytes(identity->wallet_key, WALLET_KEY_LEN) == 1
		    ? wallet_key_address(
			  wallets, identity->wallet_key, &identity->wallet)
		    : KMS_ECRYPTO;
	if (rc != 0)
		return rc;
	for (tries = 0, rc = KMS_EINVAL; rc == KMS_EINVAL && tries < 8; tries++)
		rc = RAND_priv_bytes(scalar, sizeof(scalar)) == 1
		    ? p384_key_new(scalar, &identity->tee_key)
		    : KMS_ECRYPTO;
	OPENSSL_cleanse(scalar, sizeof(scalar));
	return rc;
}

static int
identity_print(const struct client_identity *identity, struct buf *out)
{
	char wallet_key[2 * WALLET_KEY_LEN + 1];
	char scalar_text[2 * P384_SCALAR_LEN + 1];
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], spki[2 * P384_SPKI_LEN + 1];
	uint8_t scalar[P384_SCALAR_LEN];
	int rc;

	hex_encode(identity->wallet_key, WALLET_KEY_LEN, wallet_key);
	p384_key_scalar(identity->tee_key, scalar);
	hex_encode(scalar, sizeof(scalar), scalar_text);
	eth_address_format(&identity->wallet, wallet);
	client_identity_spki(identity, spki);
	rc = buf_printf(out,
	    "{\n  \"wallet_private_key\": \"%s\",\n"
	    "  \"tee_private_key\": \"%s\",\n"
	    "  \"wallet\": \"%s\",\n  \"tee_pubkey\": \"%s\"\n}\n",
	    wallet_key, scalar_text, wallet, spki);
	OPENSSL_cleanse(scalar, sizeof(scalar));
	OPENSSL_cleanse(scalar_text, sizeof(scalar_text));
	OPENSSL_cleanse(wallet_key, sizeof(wallet_key));
	return rc;
}

/* A new file or none: what could not be written whole is taken away again. */
static int
file_create(const char *file, const struct buf *text, char *reason)
{
	size_t done = 0;
	ssize_t n;
	int fd;

	fd = open(
	    file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return complain(reason, file,
		    errno == EEXIST ? "exists already and is left as it is; "
				      "name another file"
				    : strerror(errno));
	while (done < text->len) {
		n = write(fd, text->data + done, text->len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done < text->len || fchmod(fd, 0600) != 0 || fsync(fd) != 0) {
		complain(reason, file, strerror(errno));
		close(fd);
		unlink(file);
		return KMS_CLIENT_USAGE;
	}
	close(fd);
	return 0;
}

int
kms_client_keygen(const char *file, char wallet[KMS_CLIENT_WALLET_LEN + 1],
    char reason[KMS_CLIENT_REASON_LEN])
{
	struct wallet_context *wallets = NULL;
	struct client_identity identity = { 0 };
	uint8_t seed[32];
	struct buf text;
	int rc;

	reason[0] = '\0';
	buf_init(&text, IDENTITY_FILE_MAX);
	if (crypto_init() != 0 || RAND_priv_bytes(seed, sizeof(seed)) != 1 ||
	    (wallets = wallet_context_new(seed)) == NULL ||
	    identity_make(wallets, &identity) != 0 ||
	    identity_print(&identity, &text) != 0)
		rc = complain(reason, file, "keys cannot be made");
	else
		rc = file_create(file, &text, reason);
	eth_address_format(&identity.wallet, wallet);
	buf_free(&text);
	client_identity_free(&identity);
	wallet_context_free(wallets);
	OPENSSL_cleanse(seed, sizeof(seed));
	return rc;
}
