#include "kms-net/state.h"

#include <inttypes.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "kms-net/json_out.h"

#define STATUS_MAX 65536
/* STATE_NODES_MAX rows of the longest kind: every byte of a URL escaped. */
#define NODES_MAX (STATE_NODES_MAX * (6U * (2048 + 64) + 1024))
#define WALLET_LEN 20

/* The fields of KEEPERNET_STATE. */
enum {
	STATE_READY,
	STATE_REASON,
	STATE_WALLET,
	STATE_PUBKEY,
	STATE_URL,
	STATE_OPERATOR,
	STATE_SECRET,
	STATE_SYNCED_FROM,
	STATE_SECRET_SET,
	STATE_APP_ID,
	STATE_REGISTRY,
	STATE_INSTANCES,
	STATE_NAMESPACES,
	STATE_KEYS,
	STATE_BYTES,
	STATE_COMPLETE,
	STATE_LAST_OF_SECRET,
	STATE_LAST_OF_DATA,
	STATE_FIELDS
};

_Static_assert(STATE_FIELDS == STATE_VALUES, "struct state keeps them all");

static int
put_name(struct buf *out, const char *name)
{
	return buf_printf(out, "\"%s\":", name);
}

static int
put_value(struct buf *out, const char *name, const struct msg_value *value)
{
	int error = put_name(out, name);

	return error != 0
	    ? error
	    : json_out_string(out, (const char *)value->data, value->len);
}

static int
put_flag(struct buf *out, const char *name, const struct msg_value *value)
{
	int error = put_name(out, name);

	return error != 0 ? error : json_out_bool(out, value->u != 0);
}

#define TRY(call)                                                              \
	do {                                                                   \
		int error_ = (call);                                           \
		if (error_ != 0)                                               \
			return error_;                                         \
	} while (0)

static int
put_node(struct buf *out, const struct msg_value *v)
{
	TRY(buf_append_text(out, "{\"node\":{"));
	TRY(put_value(out, "tee_wallet", &v[STATE_WALLET]));
	TRY(buf_append_text(out, ","));
	TRY(put_value(out, "tee_pubkey", &v[STATE_PUBKEY]));
	TRY(buf_append_text(out, ","));
	TRY(put_value(out, "node_url", &v[STATE_URL]));
	TRY(buf_append_text(out, ","));
	TRY(put_flag(out, "is_operator", &v[STATE_OPERATOR]));
	TRY(buf_append_text(out, ","));
	TRY(put_flag(out, "service_available", &v[STATE_READY]));
	TRY(buf_append_text(out, ","));
	TRY(put_value(out, "unavailable_reason", &v[STATE_REASON]));
	TRY(buf_append_text(out, ",\"master_secret\":{"));
	TRY(put_value(out, "state", &v[STATE_SECRET]));
	TRY(buf_append_text(out, ","));
	if (v[STATE_SYNCED_FROM].len > 0)
		TRY(put_value(out, "synced_from", &v[STATE_SYNCED_FROM]));
	else
		TRY(buf_append_text(out, "\"synced_from\":null"));
	TRY(buf_append_text(out, "},"));
	TRY(put_flag(out, "master_secret_initialized", &v[STATE_SECRET_SET]));
	return buf_append_text(out, "}");
}

static int
put_status(struct buf *out, const struct msg_value *v)
{
	TRY(put_node(out, v));
	TRY(buf_printf(out, ",\"cluster\":{\"kms_app_id\":%" PRIu64 ",",
	    v[STATE_APP_ID].u));
	TRY(put_value(out, "registry_address", &v[STATE_REGISTRY]));
	TRY(buf_printf(out,
	    ",\"total_instances\":%" PRIu64
	    "},\"data_store\":{\"namespaces\":%" PRIu64
	    ",\"total_keys\":%" PRIu64 ",\"total_bytes\":%" PRIu64 ",",
	    v[STATE_INSTANCES].u, v[STATE_NAMESPACES].u, v[STATE_KEYS].u,
	    v[STATE_BYTES].u));
	TRY(put_flag(out, "complete", &v[STATE_COMPLETE]));
	TRY(buf_append_text(out, "},\"last_holder\":{"));
	TRY(put_flag(out, "secret", &v[STATE_LAST_OF_SECRET]));
	TRY(buf_append_text(out, ","));
	TRY(put_flag(out, "data", &v[STATE_LAST_OF_DATA]));
	return buf_append_text(out, "}}");
}

static struct msg_value
text_value(const char *text)
{
	return (struct msg_value){ .data = (const uint8_t *)text,
		.len = strlen(text) };
}

static int
apply(struct state *state, struct msg_value v[STATE_FIELDS])
{
	if (state->draining) {
		v[STATE_READY].u = 0;
		v[STATE_REASON] = text_value("draining");
	}
	buf_clear(&state->status);
	TRY(put_status(&state->status, v));
	state->ready = v[STATE_READY].u != 0;
	msg_copy_text(&v[STATE_REASON], state->reason, sizeof(state->reason));
	if (!state->ready && state->reason[0] == '\0')
		memcpy(state->reason, "unavailable", sizeof("unavailable"));
	return 0;
}

/* Keep what came, for the day when it is shown as that of a node that ends. */
static int
keep(struct state *state, const struct msg_value *v)
{
	size_t at = 0;

	buf_clear(&state->texts);
	for (size_t i = 0; i < STATE_FIELDS; i++) {
		if (v[i].len > 0)
			TRY(buf_append(&state->texts, v[i].data, v[i].len));
	}
	for (size_t i = 0; i < STATE_FIELDS; i++) {
		state->values[i] = v[i];
		state->values[i].data = state->texts.data + at;
		at += v[i].len;
	}
	return 0;
}

int
state_init(struct state *state)
{
	struct msg_value v[STATE_FIELDS] = { 0 };

	buf_init(&state->texts, STATUS_MAX);
	buf_init(&state->status, STATUS_MAX);
	buf_init(&state->nodes, NODES_MAX);
	buf_init(&state->rows, NODES_MAX);
	v[STATE_REASON] = text_value("keeper not reachable");
	v[STATE_SECRET] = text_value("uninitialized");
	v[STATE_WALLET] = v[STATE_PUBKEY] = v[STATE_URL] = text_value("");
	v[STATE_SYNCED_FROM] = v[STATE_REGISTRY] = text_value("");
	TRY(keep(state, v));
	TRY(apply(state, state->values));
	return buf_append_text(&state->nodes, "{\"operators\":[],\"count\":0}");
}

int
state_update(struct state *state, const struct msg *msg)
{
	TRY(keep(state, msg->v));
	TRY(apply(state, state->values));
	state->known = true;
	return 0;
}

int
state_drain(struct state *state)
{
	state->draining = true;
	return apply(state, state->values);
}

/* The fields of KEEPERNET_NODE. */
enum {
	NODE_PUSH,
	NODE_INDEX,
	NODE_COUNT,
	NODE_INSTANCE,
	NODE_APP,
	NODE_VERSION,
	NODE_OPERATOR,
	NODE_URL,
	NODE_WALLET,
	NODE_VERIFIED,
	NODE_STATUS,
	NODE_REGISTERED,
	NODE_CACHED,
	NODE_CACHED_STATUS,
	NODE_PROBED_AT,
	NODE_REACHABLE,
	NODE_HTTP_CODE,
	NODE_PROBE_MS
};

static const char *
status_name(uint64_t status)
{
	static const char *const names[] = { "ACTIVE", "STOPPED", "FAILED" };

	return status < sizeof(names) / sizeof(names[0]) ? names[status]
							 : "UNKNOWN";
}

static void
wallet_text(const struct msg_value *value, char text[2 * WALLET_LEN + 3])
{
	text[0] = '0';
	text[1] = 'x';
	hex_encode(value->data, WALLET_LEN, text + 2);
}

static int
put_instance(struct buf *out, const struct msg_value *v, const char *wallet)
{
	char operator[2 * WALLET_LEN + 3];

	wallet_text(&v[NODE_OPERATOR], operator);
	TRY(buf_printf(out,
	    "\"instance\":{\"instance_id\":%" PRIu64 ",\"app_id\":%" PRIu64
	    ",\"version_id\":%" PRIu64 ",\"operator\":\"%s\",",
	    v[NODE_INSTANCE].u, v[NODE_APP].u, v[NODE_VERSION].u, operator));
	TRY(put_value(out, "instance_url", &v[NODE_URL]));
	TRY(buf_printf(out, ",\"tee_wallet\":\"%s\",", wallet));
	TRY(put_flag(out, "zk_verified", &v[NODE_VERIFIED]));
	return buf_printf(out,
	    ",\"instance_status\":{\"value\":%" PRIu64
	    ",\"name\":\"%s\"},\"registered_at\":%" PRIu64 "},",
	    v[NODE_STATUS].u, status_name(v[NODE_STATUS].u),
	    v[NODE_REGISTERED].u);
}

/* What the last look at its /status found. */
static int
put_probe(struct buf *out, const struct msg_value *v)
{
	if (v[NODE_PROBED_AT].u == 0)
		return buf_append_text(out,
		    "\"status_endpoint_reachable\":null,"
		    "\"status_endpoint_http_code\":null,"
		    "\"status_probe_ms\":null,"
		    "\"status_checked_at_ms\":null");
	TRY(put_flag(out, "status_endpoint_reachable", &v[NODE_REACHABLE]));
	if (v[NODE_HTTP_CODE].u == 0)
		TRY(buf_append_text(
		    out, ",\"status_endpoint_http_code\":null"));
	else
		TRY(buf_printf(out, ",\"status_endpoint_http_code\":%" PRIu64,
		    v[NODE_HTTP_CODE].u));
	return buf_printf(out,
	    ",\"status_probe_ms\":%" PRIu64
	    ",\"status_checked_at_ms\":%" PRIu64,
	    v[NODE_PROBE_MS].u, v[NODE_PROBED_AT].u);
}

static int
put_row(struct buf *out, const struct msg_value *v)
{
	char wallet[2 * WALLET_LEN + 3];

	wallet_text(&v[NODE_WALLET], wallet);
	TRY(buf_printf(out, "%s{\"operator\":\"%s\",",
	    v[NODE_INDEX].u > 0 ? "," : "", wallet));
	TRY(put_instance(out, v, wallet));
	TRY(buf_append_text(out, "\"connection\":{"));
	TRY(put_flag(out, "in_peer_cache", &v[NODE_CACHED]));
	TRY(buf_append_text(out, ","));
	if (v[NODE_CACHED_STATUS].len > 0)
		TRY(put_value(out, "cached_status", &v[NODE_CACHED_STATUS]));
	else
		TRY(buf_append_text(out, "\"cached_status\":null"));
	TRY(buf_append_text(out, ","));
	TRY(put_probe(out, v));
	return buf_append_text(out, "}}");
}

static int
check_order(const struct state *state, const struct msg_value *v)
{
	uint64_t count = v[NODE_COUNT].u, index = v[NODE_INDEX].u;

	if (count > STATE_NODES_MAX || (count > 0 && index >= count) ||
	    (count == 0 && index != 0))
		return KMS_EPROTO;
	if (index == 0)
		return 0;
	return v[NODE_PUSH].u == state->push && index == state->row_next &&
		count == state->row_count
	    ? 0
	    : KMS_EPROTO;
}

/* All rows are there: they become the answer. */
static int
publish(struct state *state)
{
	struct buf old = state->nodes;

	TRY(buf_printf(
	    &state->rows, "],\"count\":%" PRIu64 "}", state->row_count));
	state->nodes = state->rows;
	buf_free(&old);
	buf_init(&state->rows, NODES_MAX);
	return 0;
}

int
state_node(struct state *state, const struct msg *msg)
{
	const struct msg_value *v = msg->v;

	TRY(check_order(state, v));
	if (v[NODE_INDEX].u == 0) {
		buf_clear(&state->rows);
		TRY(buf_append_text(&state->rows, "{\"operators\":["));
		state->push = v[NODE_PUSH].u;
		state->row_count = v[NODE_COUNT].u;
		state->row_next = 0;
	}
	if (state->row_count > 0)
		TRY(put_row(&state->rows, v));
	state->row_next++;
	return state->row_next >= state->row_count ? publish(state) : 0;
}
