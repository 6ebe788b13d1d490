/* What the checks found, a line each. */
#include <stdarg.h>
#include <string.h>

#include "kmsd/check_internal.h"
#include "proto/msg.h"

#define GAS 300000 /* PROTOCOL.md section 8 */
#define GWEI 1000000000U
#define FUTURE_S 15 /* a head may be so far ahead of a right clock */

struct printer {
	const struct check *check;
	FILE *out;
	size_t failed;
	char endpoint[CONF_SHOWN_LEN + 32];
};

static void __attribute__((format(printf, 3, 4)))
line(struct printer *p, const char *verdict, const char *format, ...)
{
	char text[1400];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	}
	if (strcmp(verdict, "FAIL") == 0)
		p->failed++;
	(void)fprintf(p->out, "%-4s %s\n", verdict, text);
}

#define OK(p, ...) line(p, "ok", __VA_ARGS__)
#define FAIL(p, ...) line(p, "FAIL", __VA_ARGS__)
#define SKIP(p, ...) line(p, "skip", __VA_ARGS__)

static void
print_identity(struct printer *p)
{
	const struct check *check = p->check;
	const char *identity = conf_text(check->conf, CONF_IDENTITY);
	char shown[CONF_SHOWN_LEN];

	(void)conf_shown(&conf_rows[CONF_IDENTITY], identity, shown);
	if (check->wallet_state == CHECK_WALLET_KNOWN)
		OK(p, "identity: %s has wallet %s", shown, check->wallet_text);
	else if (check->wallet_state == CHECK_WALLET_NONE)
		SKIP(p,
		    "identity: its keys are made at each start, so their "
		    "registration and balance cannot be checked before");
	else if (conf_identity_file(check->conf) != NULL)
		FAIL(p,
		    "identity: expected a file of kmsctl keygen, got %s; see "
		    "the log above, or make one with kmsctl keygen --out",
		    check->wallet_why[0] != '\0' ? check->wallet_why
						 : "no wallet in time");
	else
		FAIL(p,
		    "identity: expected GET /v1/eth/address of %s to name a "
		    "wallet, got %s; is the identity service running, and its "
		    "URL right?",
		    shown, check->wallet_why);
}

/* ---- one endpoint ---- */

static int
answered(const struct check_endpoint *e, enum check_kind kind)
{
	return e->replies[kind].done && e->replies[kind].error == 0;
}

/* The endpoint itself is there, though a contract may not be. */
static int
has_answered(const struct check_reply *reply)
{
	return reply->done &&
	    (reply->error == 0 ||
		((reply->error == CHAIN_ERROR_REFUSED ||
		     reply->error == CHAIN_ERROR_MALFORMED) &&
		    strncmp(reply->text, "eth_call", 8) == 0));
}

static int
print_reach(struct printer *p, const struct check_endpoint *e)
{
	const struct check_reply *hash = &e->replies[CHECK_HASH];
	const struct check_reply *members = &e->replies[CHECK_MEMBERS];
	uint64_t chain_id = conf_number(p->check->conf, CONF_CHAIN_ID);

	if (hash->error == CHAIN_ERROR_WRONG_CHAIN ||
	    members->error == CHAIN_ERROR_WRONG_CHAIN) {
		FAIL(p,
		    "%s: expected chain-id %llu, got: %s; correct chain-id or "
		    "use an endpoint of that chain",
		    p->endpoint, (unsigned long long)chain_id,
		    hash->error == CHAIN_ERROR_WRONG_CHAIN ? hash->text
							   : members->text);
		return 0;
	}
	if (!has_answered(hash) && !has_answered(members)) {
		FAIL(p,
		    "%s: expected an answer of JSON-RPC, got: %s; is the URL "
		    "right and the endpoint up?",
		    p->endpoint,
		    hash->text[0] != '\0' ? hash->text : members->text);
		return 0;
	}
	OK(p, "%s: answers in %llu ms, chain-id %llu", p->endpoint,
	    (unsigned long long)(hash->error == 0 ? hash->took_ms
						  : members->took_ms),
	    (unsigned long long)chain_id);
	return 1;
}

static void
print_clock(struct printer *p, const struct check_endpoint *e)
{
	const struct conf *conf = p->check->conf;
	uint64_t most = conf_number(conf, CONF_MAX_HEAD_AGE) / 1000;
	long long age = p->check->wall_ms / 1000 - (long long)e->head_time;

	if (!answered(e, CHECK_HASH) && !answered(e, CHECK_MEMBERS))
		SKIP(p, "%s: clock: no block was read", p->endpoint);
	else if (most == 0)
		SKIP(p, "%s: clock: max-head-age is 0", p->endpoint);
	else if (age > (long long)most)
		FAIL(p,
		    "%s: clock: expected block %llu to be at most %s old, got "
		    "%lld s; is this machine's clock right (date -u), and does "
		    "the endpoint follow its chain?",
		    p->endpoint, (unsigned long long)e->head,
		    conf_text(conf, CONF_MAX_HEAD_AGE), age);
	else if (age < -FUTURE_S)
		FAIL(p,
		    "%s: clock: expected block %llu not to be in the future, "
		    "got %lld s; set this machine's clock (date -u)",
		    p->endpoint, (unsigned long long)e->head, -age);
	else
		OK(p, "%s: clock: block %llu is %lld s old", p->endpoint,
		    (unsigned long long)e->head, age);
}

static void
print_kms_registry(struct printer *p, const struct check_endpoint *e)
{
	const struct conf *conf = p->check->conf;
	const struct check_reply *reply = &e->replies[CHECK_HASH];
	const char *contract = conf_text(conf, CONF_KMS_REGISTRY);
	uint64_t app_id = conf_number(conf, CONF_KMS_APP_ID);

	if (reply->error != 0)
		FAIL(p,
		    "%s: kms-registry: expected a KMSRegistry at %s, got: %s; "
		    "correct the address",
		    p->endpoint, contract, reply->text);
	else if (e->kms_app_id != app_id)
		FAIL(p,
		    "%s: kms-registry: expected kmsAppId %llu, got %llu; "
		    "correct kms-app-id or the address",
		    p->endpoint, (unsigned long long)app_id,
		    (unsigned long long)e->kms_app_id);
	else
		OK(p, "%s: kms-registry: app %llu, master secret hash %s",
		    p->endpoint, (unsigned long long)app_id,
		    e->hash_is_zero ? "not set yet" : "set");
}

static void
print_app_registry(struct printer *p, const struct check_endpoint *e)
{
	const struct check_reply *reply = &e->replies[CHECK_MEMBERS];

	if (reply->error != 0)
		FAIL(p,
		    "%s: nova-app-registry: expected a NovaAppRegistry at %s, "
		    "got: %s; correct the address",
		    p->endpoint,
		    conf_text(p->check->conf, CONF_NOVA_APP_REGISTRY),
		    reply->text);
	else
		OK(p,
		    "%s: nova-app-registry: %zu active instance%s of app "
		    "%llu",
		    p->endpoint, e->members, e->members == 1 ? "" : "s",
		    (unsigned long long)conf_number(
			p->check->conf, CONF_KMS_APP_ID));
}

/* NULL, or what is wrong with the registration. */
static const char *
registration_fault(const struct check *check, const struct check_endpoint *e)
{
	if (!e->found)
		return "none; register the wallet";
	if (e->app_id != conf_number(check->conf, CONF_KMS_APP_ID))
		return "an instance of another app";
	if (e->status != 0)
		return "one that is not ACTIVE";
	if (!e->zk_verified)
		return "one whose proof of its enclave is not verified";
	if (e->app_status != 0)
		return "one of an app that is not ACTIVE";
	if (e->version_status > 1)
		return "one of a revoked version";
	if (check->pubkey[0] != '\0' && strcmp(check->pubkey, e->pubkey) != 0)
		return "one with another teePubkey; register this identity's";
	return NULL;
}

static void
print_registration(struct printer *p, const struct check_endpoint *e)
{
	const struct check *check = p->check;
	const char *fault = registration_fault(check, e);

	if (!e->replies[CHECK_INSTANCE].done)
		return;
	if (!answered(e, CHECK_INSTANCE))
		SKIP(p, "%s: registration: %s", p->endpoint,
		    e->replies[CHECK_INSTANCE].text);
	else if (fault != NULL)
		FAIL(p,
		    "%s: registration: expected an active instance of app %s "
		    "for %s, got %s",
		    p->endpoint, conf_text(check->conf, CONF_KMS_APP_ID),
		    check->wallet_text, fault);
	else
		OK(p, "%s: registration: %s is an active instance of app %s",
		    p->endpoint, check->wallet_text,
		    conf_text(check->conf, CONF_KMS_APP_ID));
}

static unsigned __int128
wei(const uint8_t balance[32])
{
	unsigned __int128 value = 0;

	for (size_t i = 0; i < 16; i++) {
		if (balance[i] != 0)
			return ~(unsigned __int128)0;
		value = value << 8 | balance[16 + i];
	}
	return value;
}

static unsigned long long
gwei(unsigned __int128 value, int up)
{
	value = (value + (up ? GWEI - 1 : 0)) / GWEI;
	return value > UINT64_MAX ? UINT64_MAX : (unsigned long long)value;
}

static void
print_gas(struct printer *p, const struct check_endpoint *e)
{
	unsigned __int128 needed =
	    ((unsigned __int128)e->base_fee * 2 + e->tip) * GAS;
	unsigned __int128 has = wei(e->balance);

	if (answered(e, CHECK_HASH) && !e->hash_is_zero) {
		OK(p, "%s: gas: none is needed, the hash is set", p->endpoint);
		return;
	}
	if (!e->replies[CHECK_TX].done)
		return;
	if (!answered(e, CHECK_TX))
		FAIL(p, "%s: gas: expected fees and a balance, got: %s",
		    p->endpoint, e->replies[CHECK_TX].text);
	else if (has < needed)
		FAIL(p,
		    "%s: gas: expected at least %llu gwei in %s for "
		    "setMasterSecretHash, got %llu; send it the difference, "
		    "or let another node set the hash",
		    p->endpoint, gwei(needed, 1), p->check->wallet_text,
		    gwei(has, 0));
	else
		OK(p, "%s: gas: %llu gwei, %llu are needed", p->endpoint,
		    gwei(has, 0), gwei(needed, 1));
}

/* Those of rpc-url-file are only numbered. */
static void
name_endpoint(struct printer *p, size_t i)
{
	const struct conf_value *urls = &p->check->conf->values[CONF_RPC_URL];
	char shown[CONF_SHOWN_LEN];

	if (i < urls->count)
		(void)snprintf(p->endpoint, sizeof(p->endpoint),
		    "rpc-url %zu (%s)", i + 1,
		    conf_shown(
			&conf_rows[CONF_RPC_URL], urls->items[i].text, shown));
	else
		(void)snprintf(p->endpoint, sizeof(p->endpoint),
		    "rpc-url %zu (rpc-url-file)", i + 1);
}

size_t
check_print(const struct check *check, FILE *out)
{
	struct printer printer = { .check = check, .out = out };
	struct printer *p = &printer;

	if (check->rpc == NULL)
		FAIL(p, "kms-chain: expected it to start, got: %s",
		    check->failed[ROLE_RPC]);
	print_identity(p);
	for (size_t i = 0; check->rpc != NULL && i < check->endpoint_count;
	     i++) {
		const struct check_endpoint *e = &check->endpoints[i];

		name_endpoint(p, i);
		if (!print_reach(p, e))
			continue;
		print_clock(p, e);
		print_kms_registry(p, e);
		print_app_registry(p, e);
		print_registration(p, e);
		print_gas(p, e);
	}
	(void)fflush(out);
	return p->failed;
}
