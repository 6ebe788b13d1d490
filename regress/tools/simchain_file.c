#include "regress/tools/simchain_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"

/* ---- members of an object ---------------------------------------------- */

/* An object being read; the first mistake sticks. */
struct members {
	json_t *object;
	int update;  /* absent members keep what the record has */
	size_t seen; /* members taken */
	int error;
	char *text; /* SIMCHAIN_ERROR_MAX bytes */
};

static void
complain(struct members *m, const char *name, const char *expected)
{
	if (m->error != 0)
		return;
	m->error = KMS_EINVAL;
	(void)snprintf(
	    m->text, SIMCHAIN_ERROR_MAX, "%s: expected %s", name, expected);
}

static int
members_open(struct members *m, json_t *object, int update, char *error)
{
	memset(m, 0, sizeof(*m));
	m->object = object;
	m->update = update;
	m->text = error;
	if (!json_is_object(object))
		complain(m, "argument", "one object");
	return m->error;
}

/* NULL: absent and not needed, or a mistake was made. */
static const json_t *
member(struct members *m, const char *name, int required)
{
	const json_t *value = json_object_get(m->object, name);

	if (m->error != 0)
		return NULL;
	if (value != NULL)
		m->seen++;
	else if (required && !m->update)
		complain(m, name, "to be given");
	return value;
}

/* Every member must have been asked for. */
static int
members_close(struct members *m)
{
	if (m->error == 0 && m->seen != json_object_size(m->object))
		complain(m, "argument", "no other members than documented");
	return m->error;
}

static int
parse_u64(const json_t *value, uint64_t *out)
{
	const char *text = json_string_value(value);
	char *end;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*out = (uint64_t)json_integer_value(value);
		return 0;
	}
	if (text == NULL || text[0] < '0' || text[0] > '9')
		return KMS_EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' ? 0 : KMS_EINVAL;
}

static void
member_u64(struct members *m, const char *name, int required, uint64_t *out)
{
	const json_t *value = member(m, name, required);

	if (value != NULL && parse_u64(value, out) != 0)
		complain(m, name, "a number from 0 to 2^64-1");
}

static void
member_address(
    struct members *m, const char *name, int required, struct eth_address *out)
{
	const json_t *value = member(m, name, required);

	if (value == NULL)
		return;
	if (!json_is_string(value) ||
	    eth_address_parse(
		json_string_value(value), json_string_length(value), out) != 0)
		complain(m, name, "an address, 0x and 40 hex digits");
}

static void
member_bool(struct members *m, const char *name, bool *out)
{
	const json_t *value = member(m, name, 0);

	if (value == NULL)
		return;
	if (!json_is_boolean(value))
		complain(m, name, "true or false");
	*out = json_is_true(value);
}

/* A status of one of the contracts: its names in the order of the values. */
static const char *const app_statuses[] = { "ACTIVE", "INACTIVE", "REVOKED" };
static const char *const version_statuses[] = { "ENROLLED", "DEPRECATED",
	"REVOKED" };
static const char *const instance_statuses[] = { "ACTIVE", "STOPPED",
	"FAILED" };

static void
member_status(struct members *m, const char *const names[3], uint8_t *out)
{
	const json_t *value = member(m, "status", 0);
	const char *text = json_string_value(value);
	uint64_t number = UINT64_MAX;

	if (value == NULL)
		return;
	for (uint8_t i = 0; text != NULL && i < 3; i++)
		if (strcmp(text, names[i]) == 0)
			number = i;
	if (text == NULL)
		(void)parse_u64(value, &number);
	if (number > UINT8_MAX)
		complain(m, "status", "a status name or 0 to 255");
	*out = (uint8_t)number;
}

static void
member_pubkey(struct members *m, struct sim_instance *instance)
{
	const json_t *value = member(m, "tee_pubkey", 1);
	size_t len = 0;

	if (value == NULL)
		return;
	if (!json_is_string(value) ||
	    hex_decode(json_string_value(value), json_string_length(value),
		instance->tee_pubkey, sizeof(instance->tee_pubkey), &len) != 0)
		complain(m, "tee_pubkey", "hex digits of at most 256 bytes");
	instance->tee_pubkey_len = (uint16_t)len;
}

static void
member_url(struct members *m, struct sim_instance *instance)
{
	const json_t *value = member(m, "instance_url", 0);

	if (value == NULL)
		return;
	if (!json_is_string(value) ||
	    json_string_length(value) > SIM_INSTANCE_URL_MAX ||
	    memchr(json_string_value(value), 0, json_string_length(value)) !=
		NULL) {
		complain(m, "instance_url", "a string of at most 512 bytes");
		return;
	}
	memset(instance->instance_url, 0, sizeof(instance->instance_url));
	memcpy(instance->instance_url, json_string_value(value),
	    json_string_length(value));
}

/* ---- records ----------------------------------------------------------- */

static int
outcome(int error, char *text)
{
	if (error == KMS_EEXIST)
		(void)snprintf(text, SIMCHAIN_ERROR_MAX,
		    "tee_wallet: expected one that no other instance has");
	else if (error != 0)
		(void)snprintf(
		    text, SIMCHAIN_ERROR_MAX, "%s", kms_strerror(error));
	return error;
}

/* To find the record that is to be replaced. An ID that cannot be read is
 * complained of by the reader of the whole object. */
static uint64_t
peek_id(json_t *object, const char *name)
{
	uint64_t id;

	return parse_u64(json_object_get(object, name), &id) == 0 ? id : 0;
}

int
simchain_file_app(struct sim_state *sim, json_t *object, char *error)
{
	const struct sim_app *before =
	    sim_app(sim, peek_id(object, "app_id"), sim_pending(sim));
	struct sim_app app = { 0 };
	struct members m;

	if (before != NULL)
		app = *before;
	if (members_open(&m, object, before != NULL, error) != 0)
		return m.error;
	member_u64(&m, "app_id", 1, &app.app_id);
	member_u64(&m, "latest_version_id", 0, &app.latest_version_id);
	member_status(&m, app_statuses, &app.status);
	if (members_close(&m) != 0)
		return m.error;
	return outcome(sim_set_app(sim, &app), error);
}

int
simchain_file_version(struct sim_state *sim, json_t *object, char *error)
{
	const struct sim_version *before =
	    sim_version(sim, peek_id(object, "app_id"),
		peek_id(object, "version_id"), sim_pending(sim));
	struct sim_version version = { 0 };
	struct members m;

	if (before != NULL)
		version = *before;
	if (members_open(&m, object, before != NULL, error) != 0)
		return m.error;
	member_u64(&m, "app_id", 1, &version.app_id);
	member_u64(&m, "version_id", 1, &version.version_id);
	member_status(&m, version_statuses, &version.status);
	if (members_close(&m) != 0)
		return m.error;
	return outcome(sim_set_version(sim, &version), error);
}

int
simchain_file_instance(struct sim_state *sim, json_t *object, char *error)
{
	const struct sim_instance *before =
	    sim_instance_by_id(sim, peek_id(object, "instance_id"));
	struct sim_instance in = { .zk_verified = true };
	struct members m;

	if (before != NULL)
		in = *before;
	if (members_open(&m, object, before != NULL, error) != 0)
		return m.error;
	member_u64(&m, "instance_id", 1, &in.instance_id);
	member_u64(&m, "app_id", 1, &in.app_id);
	member_u64(&m, "version_id", 1, &in.version_id);
	member_address(&m, "tee_wallet", 1, &in.tee_wallet);
	member_pubkey(&m, &in);
	if (before == NULL)
		in.operator_address = in.tee_wallet;
	member_address(&m, "operator", 0, &in.operator_address);
	member_url(&m, &in);
	member_bool(&m, "zk_verified", &in.zk_verified);
	member_status(&m, instance_statuses, &in.status);
	member_u64(&m, "registered_at", 0, &in.registered_at);
	if (m.error == 0 && in.instance_id == 0)
		complain(&m, "instance_id", "a number from 1 on");
	if (members_close(&m) != 0)
		return m.error;
	return outcome(sim_set_instance(sim, &in), error);
}

/* ---- the file ---------------------------------------------------------- */

int
simchain_file_hash(const json_t *text, struct eth_word *hash)
{
	if (!json_is_string(text))
		return KMS_EINVAL;
	return hex_decode_exact(json_string_value(text),
	    json_string_length(text), hash->bytes, sizeof(hash->bytes));
}

static void
member_hash(struct members *m, struct eth_word *hash)
{
	const json_t *value = member(m, "master_secret_hash", 0);

	if (value != NULL && simchain_file_hash(value, hash) != 0)
		complain(m, "master_secret_hash", "64 hex digits");
}

typedef int read_fn(struct sim_state *, json_t *, char *);

static void
member_records(
    struct members *m, const char *name, struct sim_state *sim, read_fn *read)
{
	const json_t *array = member(m, name, 0);
	char reason[SIMCHAIN_ERROR_MAX];

	if (array == NULL)
		return;
	if (!json_is_array(array))
		complain(m, name, "an array of objects");
	for (size_t i = 0; i < json_array_size(array) && m->error == 0; i++) {
		m->error = read(sim, json_array_get(array, i), reason);
		if (m->error != 0)
			(void)snprintf(m->text, SIMCHAIN_ERROR_MAX,
			    "%s[%zu]: %.100s", name, i, reason);
	}
}

int
simchain_file_load(json_t *root, struct sim_state **sim, char *error)
{
	struct sim_config config = { 0 };
	struct eth_word hash = { { 0 } };
	struct members m;

	*sim = NULL;
	if (members_open(&m, root, 0, error) != 0)
		return m.error;
	member_u64(&m, "chain_id", 1, &config.chain_id);
	member_address(&m, "nova_app_registry", 1, &config.nova_app_registry);
	member_address(&m, "kms_registry", 1, &config.kms_registry);
	member_u64(&m, "kms_app_id", 1, &config.kms_app_id);
	member_hash(&m, &hash);
	if (m.error == 0 &&
	    eth_address_equal(&config.nova_app_registry, &config.kms_registry))
		complain(&m, "kms_registry", "another address than the other");
	if (m.error != 0)
		return m.error;
	*sim = sim_new(&config);
	if (*sim == NULL)
		return outcome(KMS_ENOMEM, error);
	m.error = outcome(sim_set_hash(*sim, &hash), error);
	member_records(&m, "apps", *sim, simchain_file_app);
	member_records(&m, "versions", *sim, simchain_file_version);
	member_records(&m, "instances", *sim, simchain_file_instance);
	if (members_close(&m) != 0) {
		sim_free(*sim);
		*sim = NULL;
	}
	return m.error;
}

/* ---- the dump ---------------------------------------------------------- */

static json_t *
from_u64(uint64_t value)
{
	char text[24];

	if (value <= INT64_MAX)
		return json_integer((json_int_t)value);
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return json_string(text);
}

static json_t *
from_status(const char *const names[3], uint8_t status)
{
	return status < 3 ? json_string(names[status]) : json_integer(status);
}

static json_t *
from_address(const struct eth_address *address)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(address, text);
	return json_string(text);
}

static int
dump_app(const struct sim_app *app, void *arg)
{
	return json_array_append_new(arg,
	    json_pack("{s:o, s:o, s:o}", "app_id", from_u64(app->app_id),
		"status", from_status(app_statuses, app->status),
		"latest_version_id", from_u64(app->latest_version_id)));
}

static int
dump_version(const struct sim_version *version, void *arg)
{
	return json_array_append_new(arg,
	    json_pack("{s:o, s:o, s:o}", "app_id", from_u64(version->app_id),
		"version_id", from_u64(version->version_id), "status",
		from_status(version_statuses, version->status)));
}

static int
dump_instance(const struct sim_instance *in, void *arg)
{
	char key[2 * SIM_TEE_PUBKEY_MAX + 1];

	hex_encode(in->tee_pubkey, in->tee_pubkey_len, key);
	return json_array_append_new(arg,
	    json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:s, s:b, s:o, s:o}",
		"instance_id", from_u64(in->instance_id), "app_id",
		from_u64(in->app_id), "version_id", from_u64(in->version_id),
		"operator", from_address(&in->operator_address), "instance_url",
		in->instance_url, "tee_wallet", from_address(&in->tee_wallet),
		"tee_pubkey", key, "zk_verified", in->zk_verified, "status",
		from_status(instance_statuses, in->status), "registered_at",
		from_u64(in->registered_at)));
}

json_t *
simchain_file_dump(const struct sim_state *sim)
{
	const struct sim_config *config = sim_config(sim);
	uint64_t head = sim_head(sim);
	struct eth_word hash = sim_hash(sim, head);
	char hash_text[2 + 2 * ETH_WORD_LEN + 1] = "0x";
	json_t *apps = json_array(), *versions = json_array();
	json_t *instances = json_array();
	int error;

	hex_encode(hash.bytes, sizeof(hash.bytes), hash_text + 2);
	error = sim_each_app(sim, head, dump_app, apps);
	error |= sim_each_version(sim, head, dump_version, versions);
	error |= sim_each_instance(sim, head, dump_instance, instances);
	if (error != 0) {
		json_decref(apps);
		json_decref(versions);
		json_decref(instances);
		return NULL;
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "chain_id",
	    from_u64(config->chain_id), "nova_app_registry",
	    from_address(&config->nova_app_registry), "kms_registry",
	    from_address(&config->kms_registry), "kms_app_id",
	    from_u64(config->kms_app_id), "master_secret_hash", hash_text,
	    "apps", apps, "versions", versions, "instances", instances);
}
