#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"

#define REASONS_MAX 16

/* ---- what all share ------------------------------------------------------ */

int
sync_answer_begin(struct sync *sync, struct buf *answer, bool ok)
{
	return buf_printf(answer, "{\"status\":\"%s\",\"boot\":\"%s\"",
	    ok ? "ok" : "busy", sync->config.boot);
}

/* Is the slice the wallet, in any case, with or without 0x? */
static bool
is_wallet(struct slice text, const char *wallet)
{
	const char *p = text.text + 1;
	size_t len = text.len - 2;

	if (len > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		p += 2;
		len -= 2;
	}
	return len == SYNC_WALLET_LEN - 2 &&
	    strncasecmp(p, wallet + 2, len) == 0;
}

static bool
is_boot(struct slice boot, const struct sync_peer *peer)
{
	return peer->boot[0] != '\0' && slice_is(boot, peer->boot);
}

/*
 * A request names its sender's boot. One that we do not know is no proof (it
 * may be late, from before a restart): greet the peer, whose answer is.
 */
static void
note_request(struct sync_peer *peer, struct slice boot, struct kms_time now)
{
	if (peer == NULL || slice_kind(boot) != SLICE_STRING ||
	    is_boot(boot, peer))
		return;
	peer->push.greeted = false;
	sync_push_due(peer, now.boot_ms + SYNC_COALESCE_MS);
}

/* As whose records these count: a peer's that certainly holds them. */
static uint32_t
origin_of(const struct sync_peer *peer, struct slice boot)
{
	if (peer == NULL)
		return ORIGIN_UNKNOWN;
	if (slice_kind(boot) == SLICE_STRING ? is_boot(boot, peer)
					     : peer->kind == SYNC_KIND_DEPLOYED)
		return peer->incarnation;
	return ORIGIN_UNKNOWN;
}

/* ---- delta --------------------------------------------------------------- */

struct delta {
	struct sync *sync;
	uint32_t origin;
	struct kms_time now;
	size_t total, merged, skipped, rejected;
	const char *reasons[REASONS_MAX];
	size_t counts[REASONS_MAX];
};

static void
count_reason(struct delta *delta, const char *reason)
{
	for (size_t i = 0; i < REASONS_MAX; i++) {
		if (delta->reasons[i] == NULL)
			delta->reasons[i] = reason;
		if (strcmp(delta->reasons[i], reason) == 0) {
			delta->counts[i]++;
			return;
		}
	}
}

static int
delta_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct delta *delta = arg;
	struct store_incoming copy;
	struct store_merge_result result;

	if (in != NULL)
		copy = *in;
	result = sync_merge(delta->sync, app_id, in != NULL ? &copy : NULL,
	    delta->origin, delta->now);
	delta->total++;
	if (result.outcome == STORE_MERGED)
		delta->merged++;
	else if (result.outcome == STORE_SKIPPED)
		delta->skipped++;
	else
		delta->rejected++;
	if (result.reason != NULL)
		count_reason(delta, result.reason);
	return 0;
}

static int
write_extensions(struct buf *answer)
{
	const char *comma = "";
	int error = buf_append_text(answer, ",\"extensions\":[");

	for (int i = 0; i < SYNC_TYPES && error == 0; i++) {
		if (!sync_type_is_extension((enum sync_type)i))
			continue;
		error = buf_printf(answer, "%s\"%s\"", comma,
		    sync_type_name((enum sync_type)i));
		comma = ",";
	}
	return error == 0 ? buf_append_text(answer, "]") : error;
}

static int
write_reasons(const struct delta *delta, struct buf *answer)
{
	int error = buf_append_text(answer, ",\"skip_reasons\":{");

	for (size_t i = 0; i < REASONS_MAX && error == 0; i++)
		if (delta->reasons[i] != NULL)
			error =
			    buf_printf(answer, "%s\"%s\":%zu", i > 0 ? "," : "",
				delta->reasons[i], delta->counts[i]);
	return error == 0 ? buf_append_text(answer, "}") : error;
}

/* known: the peer has our boot, so that it knows what we can do. */
static int
delta_write(const struct delta *delta, bool known, struct buf *answer)
{
	int error;

	error = buf_printf(answer,
	    ",\"total\":%zu,\"merged\":%zu,\"skipped\":%zu,\"rejected\":%zu",
	    delta->total, delta->merged, delta->skipped, delta->rejected);
	if (error == 0 && (!known || delta->reasons[0] != NULL))
		error = write_reasons(delta, answer);
	if (error == 0 && !known)
		error = write_extensions(answer);
	return error == 0 ? buf_append_text(answer, "}") : error;
}

static unsigned int
answer_delta(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now, struct buf *answer)
{
	struct delta delta = { .sync = sync, .now = now };
	struct slice data, boot;
	int error;

	if (slice_member(object, "data", &data) != 0 ||
	    slice_member(object, "boot", &boot) != 0)
		return 400;
	delta.origin = origin_of(peer, boot);
	note_request(peer, boot, now);
	error =
	    record_json_each(&sync->reader, data, true, delta_record, &delta);
	if (error == KMS_EINVAL)
		return 400;
	if (error == 0)
		error = sync_answer_begin(sync, answer, true);
	if (error == 0)
		error = delta_write(
		    &delta, slice_kind(boot) == SLICE_STRING, answer);
	return error == 0 ? 200 : 503;
}

/* ---- one record ---------------------------------------------------------- */

static unsigned int
answer_record(struct sync *sync, struct slice object, struct kms_time now,
    struct buf *answer)
{
	struct slice app, key;
	struct store_record record;
	int64_t app_id;
	bool found;
	int error;

	if (slice_member(object, "app_id", &app) != 0 ||
	    slice_member(object, "key", &key) != 0 ||
	    slice_integer(app, &app_id) != 0 || app_id < 1)
		return 400;
	sync->scratch.len = 0;
	error = slice_string(key, &sync->scratch);
	if (error != 0)
		return error == KMS_ENOMEM ? 503 : 400;
	found = store_peek(sync->store, (uint64_t)app_id, sync->scratch.data,
		    sync->scratch.len, now, &record) &&
	    record.state != STORE_EVICTED && !sync->stale;
	error = sync_answer_begin(sync, answer, true);
	if (error == 0)
		error = buf_append_text(answer, ",\"record\":");
	if (error == 0)
		error = found ? record_json_write(answer, &record, RECORD_OURS)
			      : buf_append_text(answer, "null");
	if (error == 0)
		error = buf_append_text(answer, "}");
	return error == 0 ? 200 : 503;
}

/* ---- snapshot ------------------------------------------------------------ */

struct snapshot {
	struct sync *sync;
	struct buf *out;
	struct kms_time now;
	bool first_app, first_record;
	int error;
};

static bool
snapshot_record(const struct store_record *record, void *arg)
{
	struct snapshot *s = arg;
	struct store_record view = sync_view_now(record, s->now);

	if (!record_json_is_sendable(&view, RECORD_DEPLOYED))
		return true;
	if (!s->first_record)
		s->error = buf_append_text(s->out, ",");
	s->first_record = false;
	if (s->error == 0)
		s->error = record_json_write(s->out, &view, RECORD_DEPLOYED);
	return s->error == 0;
}

static void
snapshot_app(uint64_t app_id, void *arg)
{
	struct snapshot *s = arg;

	if (s->error != 0)
		return;
	s->error = buf_printf(
	    s->out, "%s\"%" PRIu64 "\":[", s->first_app ? "" : ",", app_id);
	s->first_app = false;
	s->first_record = true;
	if (s->error == 0)
		store_each(s->sync->store, app_id, snapshot_record, s);
	if (s->error == 0)
		s->error = buf_append_text(s->out, "]");
}

static unsigned int
answer_snapshot(struct sync *sync, struct sync_peer *peer, struct kms_time now,
    struct buf *answer)
{
	struct snapshot s = { sync, answer, now, true, true, 0 };

	if (sync->stale)
		return 503;
	s.error = buf_append_text(answer, "{\"status\":\"ok\",\"data\":{");
	if (s.error == 0)
		store_each_app(sync->store, snapshot_app, &s);
	if (s.error == 0)
		s.error = buf_append_text(answer, "}}");
	if (s.error != 0)
		return 503;
	/* A deployed node that asks has perhaps lost what it acknowledged. */
	if (peer != NULL && peer->kind == SYNC_KIND_DEPLOYED &&
	    now.boot_ms - peer->voided_ms >= REQUEST_VOID_MS) {
		peer->voided_ms = now.boot_ms;
		peer->incarnation = ++sync->last_incarnation;
		if (!peer->needs_repair)
			sync_push_from(sync, peer, 0);
	}
	return 200;
}

/* ---- all ----------------------------------------------------------------- */

static unsigned int
serve(struct sync *sync, struct sync_peer *peer,
    const struct sync_message *message, struct kms_time now, struct buf *answer)
{
	switch (message->type) {
	case SYNC_DELTA:
		return answer_delta(sync, peer, message->object, now, answer);
	case SYNC_SNAPSHOT_REQUEST:
		return answer_snapshot(sync, peer, now, answer);
	case SYNC_DIGEST_REQUEST:
		return sync_answer_digest(
		    sync, peer, message->object, now, answer);
	case SYNC_BUCKET_REQUEST:
		return sync_answer_bucket(
		    sync, peer, message->object, now, answer);
	case SYNC_RECORD_REQUEST:
		return answer_record(sync, message->object, now, answer);
	default:
		return 400;
	}
}

/* It lives: what waits for a retry need not wait long. */
static void
heard_of(struct sync_peer *peer, struct kms_time now)
{
	int64_t soon = now.boot_ms + BACKOFF_MIN_MS;

	if (peer->push.retry_ms > soon)
		peer->push.retry_ms = soon;
	if (peer->needs_repair && peer->repair.failures > 0 &&
	    peer->repair.due_ms > soon + BACKOFF_MIN_MS)
		peer->repair.due_ms = soon + BACKOFF_MIN_MS;
}

unsigned int
sync_request(struct sync *sync, const char *wallet, const char *body,
    size_t len, struct kms_time now, struct buf *answer)
{
	struct sync_peer *peer = sync_peer_find(sync, wallet);
	struct sync_message message;
	size_t before = answer->len;
	unsigned int status;

	if (sync_message_read(body, len, &message) != 0)
		return 400;
	if (message.sender_wallet.text != NULL &&
	    !is_wallet(message.sender_wallet, wallet))
		return 403;
	if (peer != NULL) {
		sync_contact(sync, peer, now);
		heard_of(peer, now);
	}
	status = serve(sync, peer, &message, now, answer);
	if (status != 200)
		answer->len = before;
	return status;
}
