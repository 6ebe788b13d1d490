#include "kms-keeper/record_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"

/* Names, punctuation and numbers of a record but for its clock. */
#define RECORD_FRAME 130
/* And of a stub besides. */
#define STUB_FRAME 110
/* Of a clock's member: quotes, colon, comma and the counter. */
#define MEMBER_FRAME 24

/* ---- writing ------------------------------------------------------------- */

bool
record_json_is_sendable(
    const struct store_record *record, enum record_form form)
{
	return form == RECORD_OURS || record->state != STORE_EVICTED;
}

static int
write_hex(struct buf *out, const uint8_t *data, size_t len)
{
	uint8_t *space;
	int error = buf_reserve(out, 2 * len + 3, &space);

	if (error != 0)
		return error;
	space[0] = '"';
	hex_encode(data, len, (char *)space + 1);
	space[2 * len + 1] = '"';
	buf_commit(out, 2 * len + 2);
	return 0;
}

static int
write_clock(struct buf *out, const struct vector_clock *clock)
{
	const struct clock_entry *entry = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock), len;
	int error = buf_append_text(out, "{");

	for (size_t i = 0; i < count && error == 0; i++) {
		const char *name = clock_member_name(entry[i].member, &len);

		if (i > 0)
			error = buf_append_text(out, ",");
		if (error == 0)
			error = slice_write_string(out, name, len);
		if (error == 0)
			error = buf_printf(out, ":%" PRIu64, entry[i].counter);
	}
	if (error == 0)
		error = buf_append_text(out, "}");
	return error;
}

static size_t
head_length(const struct store_record *record)
{
	return record->value_len < MERGE_HEAD_LEN ? record->value_len
						  : MERGE_HEAD_LEN;
}

static int
write_stub(struct buf *out, const struct store_record *record)
{
	int error = buf_append_text(out, ",\"stub\":{\"head\":");

	if (error == 0)
		error = write_hex(out, record->value, head_length(record));
	if (error == 0)
		error = buf_printf(out, ",\"ttl_ms\":%" PRId64, record->ttl_ms);
	if (error == 0 && record->state == STORE_EVICTED)
		error = buf_printf(out, ",\"evicted\":true,\"age_ms\":%" PRId64,
		    record->age_ms);
	return error == 0 ? buf_append_text(out, "}") : error;
}

static int
write_record(
    struct buf *out, const struct store_record *record, enum record_form form)
{
	bool live = record->state == STORE_LIVE;
	int error = buf_append_text(out, "{\"key\":");

	if (error == 0)
		error = slice_write_string(
		    out, (const char *)record->key, record->key_len);
	if (error == 0)
		error = buf_append_text(out, ",\"value\":");
	if (error == 0)
		error = live ? write_hex(out, record->value, record->value_len)
			     : buf_append_text(out, "null");
	if (error == 0)
		error = buf_append_text(out, ",\"version\":");
	if (error == 0)
		error = write_clock(out, record->clock);
	if (error == 0)
		error = buf_printf(out,
		    ",\"updated_at_ms\":%" PRId64 ",\"tombstone\":%s"
		    ",\"ttl_ms\":%" PRId64,
		    record->updated_at_ms, live ? "false" : "true",
		    live ? record->ttl_ms : 0);
	if (error == 0 && form == RECORD_OURS &&
	    (record->state == STORE_EXPIRED || record->state == STORE_EVICTED))
		error = write_stub(out, record);
	if (error == 0)
		error = buf_append_text(out, "}");
	return error;
}

int
record_json_write(
    struct buf *out, const struct store_record *record, enum record_form form)
{
	size_t before = out->len;
	int error = write_record(out, record, form);

	if (error != 0)
		out->len = before;
	return error;
}

size_t
record_json_bound(const struct store_record *record)
{
	const struct clock_entry *entry = vector_clock_entries(record->clock);
	size_t count = vector_clock_count(record->clock), len;
	size_t bound = RECORD_FRAME + 2 * record->value_len +
	    slice_string_length((const char *)record->key, record->key_len);

	if (record->state == STORE_EXPIRED || record->state == STORE_EVICTED)
		bound += STUB_FRAME;
	for (size_t i = 0; i < count; i++) {
		const char *name = clock_member_name(entry[i].member, &len);

		bound += slice_string_length(name, len) + MEMBER_FRAME;
	}
	return bound;
}

static int
item_compare(const void *a, const void *b)
{
	const struct record_list_item *x = a, *y = b;

	if (x->record.app_id != y->record.app_id)
		return x->record.app_id < y->record.app_id ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

static int
write_items(struct buf *out, const struct record_list_item *items, size_t count,
    enum record_form form)
{
	int error = buf_append_text(out, "{");

	for (size_t i = 0; i < count && error == 0; i++) {
		uint64_t app_id = items[i].record.app_id;

		if (i > 0 && items[i - 1].record.app_id == app_id)
			error = buf_append_text(out, ",");
		else
			error = buf_printf(out, "%s\"%" PRIu64 "\":[",
			    i > 0 ? "," : "", app_id);
		if (error == 0)
			error = write_record(out, &items[i].record, form);
		if (error == 0 &&
		    (i + 1 == count || items[i + 1].record.app_id != app_id))
			error = buf_append_text(out, "]");
	}
	if (error == 0)
		error = buf_append_text(out, "}");
	return error;
}

int
record_json_write_data(struct buf *out, struct record_list_item *items,
    size_t count, enum record_form form)
{
	size_t before = out->len;
	int error;

	for (size_t i = 0; i < count; i++)
		items[i].order = i;
	if (count > 1)
		qsort(items, count, sizeof(*items), item_compare);
	error = write_items(out, items, count, form);
	if (error != 0)
		out->len = before;
	return error;
}

/* ---- reading ------------------------------------------------------------- */

void
record_reader_init(struct record_reader *reader)
{
	memset(reader, 0, sizeof(*reader));
	buf_init(&reader->bytes, SIZE_MAX / 2);
}

void
record_reader_free(struct record_reader *reader)
{
	buf_free(&reader->bytes);
	free(reader->items);
	record_reader_init(reader);
}

/* Where the members of a record lie. */
struct members {
	struct slice key, value, version, updated, tombstone, ttl, stub;
};

static int
find_members(struct slice record, struct members *m)
{
	const struct {
		const char *name;
		struct slice *slice;
	} rows[] = {
		{ "key", &m->key },
		{ "value", &m->value },
		{ "version", &m->version },
		{ "updated_at_ms", &m->updated },
		{ "tombstone", &m->tombstone },
		{ "ttl_ms", &m->ttl },
		{ "stub", &m->stub },
	};
	struct slice name, value;
	struct slice_walk walk;

	memset(m, 0, sizeof(*m));
	if (slice_kind(record) != SLICE_OBJECT)
		return KMS_EINVAL;
	slice_walk_begin(&walk, record);
	while (slice_walk_next(&walk, &name, &value)) {
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			if (!slice_is(name, rows[i].name))
				continue;
			if (rows[i].slice->text != NULL)
				return KMS_EINVAL;
			*rows[i].slice = value;
		}
	}
	return 0;
}

/* ttl_ms: null, negative or absent, and above 2^53, is 0. */
static int
read_ttl(struct slice value, int64_t *ttl)
{
	int error;

	*ttl = 0;
	switch (slice_kind(value)) {
	case SLICE_ABSENT:
	case SLICE_NULL:
		return 0;
	default:
		error = slice_integer(value, ttl);
		if (error == KMS_ERANGE)
			*ttl = 0;
		if (error == KMS_EINVAL)
			return KMS_EINVAL;
		*ttl = merge_ttl(*ttl, false);
		return 0;
	}
}

/* A string as text in the reader, which has room: it never moves. */
static int
read_text(struct record_reader *reader, struct slice value, const char **text,
    size_t *len)
{
	size_t before = reader->bytes.len;
	int error = slice_string(value, &reader->bytes);

	if (error != 0)
		return error;
	*text = (const char *)reader->bytes.data + before;
	*len = reader->bytes.len - before;
	return 0;
}

/* Hex as bytes; decoded where the text was put. */
static int
read_bytes(struct record_reader *reader, struct slice value,
    const uint8_t **bytes, size_t *len)
{
	const char *text;
	size_t text_len, start;
	int error = read_text(reader, value, &text, &text_len);

	if (error != 0)
		return error;
	start = reader->bytes.len - text_len;
	error = hex_decode(
	    text, text_len, reader->bytes.data + start, text_len, len);
	if (error != 0)
		return error;
	*bytes = reader->bytes.data + start;
	return 0;
}

static int
grow_items(struct record_reader *reader)
{
	size_t size = reader->size > 0 ? reader->size * 2 : 16;
	struct clock_item *items;

	items = realloc(reader->items, size * sizeof(*items));
	if (items == NULL)
		return KMS_ENOMEM;
	reader->items = items;
	reader->size = size;
	return 0;
}

/* One more than the limit is read, so that the store sees that it is over. */
static int
read_clock(struct record_reader *reader, struct slice version,
    struct store_incoming *in)
{
	struct slice name, value;
	struct slice_walk walk;
	size_t count = 0;
	int error;

	if (slice_kind(version) != SLICE_OBJECT)
		return KMS_EINVAL;
	slice_walk_begin(&walk, version);
	while (count <= CLOCK_MEMBERS_MAX &&
	    slice_walk_next(&walk, &name, &value)) {
		struct clock_item item;

		if (count == reader->size && grow_items(reader) != 0)
			return KMS_ENOMEM;
		error = slice_integer(value, &item.counter);
		if (error == 0)
			error = read_text(
			    reader, name, &item.member, &item.member_len);
		if (error != 0)
			return error == KMS_ENOMEM ? error : KMS_EINVAL;
		reader->items[count++] = item;
	}
	in->clock = reader->items;
	in->clock_count = count;
	return 0;
}

static int
read_age(struct slice stub, int64_t *age_ms)
{
	struct slice age;

	if (slice_member(stub, "age_ms", &age) != 0 ||
	    slice_integer(age, age_ms) != 0 || *age_ms < 0)
		return KMS_EINVAL;
	return 0;
}

static int
read_stub(
    struct record_reader *reader, struct slice stub, struct store_incoming *in)
{
	struct slice head, ttl, evicted;
	const uint8_t *bytes;
	int error;

	if (slice_member(stub, "head", &head) != 0 ||
	    slice_member(stub, "ttl_ms", &ttl) != 0 ||
	    slice_member(stub, "evicted", &evicted) != 0)
		return KMS_EINVAL;
	in->evicted = slice_kind(evicted) == SLICE_TRUE;
	if (evicted.text != NULL &&
	    (!in->evicted || read_age(stub, &in->age_ms) != 0))
		return KMS_EINVAL;
	error = read_bytes(reader, head, &bytes, &in->value_len);
	if (error != 0)
		return error;
	if (in->value_len > MERGE_HEAD_LEN)
		return KMS_EINVAL;
	in->value = bytes;
	in->tombstone = false;
	in->expired = !in->evicted;
	return read_ttl(ttl, &in->ttl_ms);
}

static int
read_contents(struct record_reader *reader, const struct members *m, bool stubs,
    struct store_incoming *in)
{
	const uint8_t *bytes;
	int error;

	switch (slice_kind(m->tombstone)) {
	case SLICE_TRUE:
		in->tombstone = true;
		if (stubs && slice_kind(m->stub) == SLICE_OBJECT)
			return read_stub(reader, m->stub, in);
		return slice_kind(m->value) == SLICE_ABSENT ? KMS_EINVAL : 0;
	case SLICE_FALSE:
		error = read_bytes(reader, m->value, &bytes, &in->value_len);
		if (error != 0)
			return error;
		in->value = bytes;
		return read_ttl(m->ttl, &in->ttl_ms);
	default:
		return KMS_EINVAL;
	}
}

int
record_json_read(struct record_reader *reader, struct slice record, bool stubs,
    struct store_incoming *in)
{
	struct members m;
	const char *key;
	uint8_t *space;
	int error;

	memset(in, 0, sizeof(*in));
	error = find_members(record, &m);
	if (error != 0)
		return error;
	/* Nothing decoded is longer than its text: all of it fits, and
	 * pointers into it stay. */
	buf_clear(&reader->bytes);
	error = buf_reserve(&reader->bytes, record.len, &space);
	if (error != 0)
		return KMS_ENOMEM;
	error = slice_integer(m.updated, &in->updated_at_ms);
	if (error == 0)
		error = read_text(reader, m.key, &key, &in->key_len);
	if (error == 0) {
		in->key = key;
		error = read_clock(reader, m.version, in);
	}
	if (error == 0)
		error = read_contents(reader, &m, stubs, in);
	return error == 0 || error == KMS_ENOMEM ? error : KMS_EINVAL;
}

static int
each_of_app(struct record_reader *reader, uint64_t app_id, struct slice list,
    bool stubs, record_each_fn each, void *arg)
{
	struct store_incoming in;
	struct slice name, value;
	struct slice_walk walk;
	int error;

	if (slice_kind(list) != SLICE_ARRAY)
		return each(app_id, NULL, arg);
	slice_walk_begin(&walk, list);
	while (slice_walk_next(&walk, &name, &value)) {
		error = record_json_read(reader, value, stubs, &in);
		if (error == KMS_ENOMEM)
			return error;
		error =
		    each(app_id, error == 0 && app_id != 0 ? &in : NULL, arg);
		if (error != 0)
			return error;
	}
	return 0;
}

int
record_json_each(struct record_reader *reader, struct slice data, bool stubs,
    record_each_fn each, void *arg)
{
	struct slice name, value;
	struct slice_walk walk;
	uint64_t app_id;
	int error;

	switch (slice_kind(data)) {
	case SLICE_ABSENT:
		return 0;
	case SLICE_OBJECT:
		break;
	default:
		return KMS_EINVAL;
	}
	slice_walk_begin(&walk, data);
	while (slice_walk_next(&walk, &name, &value)) {
		if (slice_app_id(name, &app_id) != 0)
			app_id = 0;
		error = each_of_app(reader, app_id, value, stubs, each, arg);
		if (error != 0)
			return error;
	}
	return 0;
}

/* ---- messages ------------------------------------------------------------ */

static const struct {
	const char *name;
	bool extension;
} types[SYNC_TYPES] = {
	[SYNC_DELTA] = { "delta", false },
	[SYNC_SNAPSHOT_REQUEST] = { "snapshot_request", false },
	[SYNC_MASTER_SECRET_REQUEST] = { "master_secret_request", false },
	[SYNC_SECRET_OFFER] = { "secret_offer", true },
	[SYNC_DIGEST_REQUEST] = { "digest_request", true },
	[SYNC_BUCKET_REQUEST] = { "bucket_request", true },
	[SYNC_RECORD_REQUEST] = { "record_request", true },
};

const char *
sync_type_name(enum sync_type type)
{
	return types[type].name;
}

bool
sync_type_is_extension(enum sync_type type)
{
	return types[type].extension;
}

int
sync_message_read(const char *text, size_t len, struct sync_message *message)
{
	struct slice type;

	memset(message, 0, sizeof(*message));
	if (slice_check(text, len, &message->object) != 0 ||
	    slice_kind(message->object) != SLICE_OBJECT ||
	    slice_member(message->object, "type", &type) != 0 ||
	    slice_kind(type) != SLICE_STRING ||
	    slice_member(
		message->object, "sender_wallet", &message->sender_wallet) != 0)
		return KMS_EINVAL;
	if (message->sender_wallet.text != NULL &&
	    slice_kind(message->sender_wallet) != SLICE_STRING)
		return KMS_EINVAL;
	for (int i = 0; i < SYNC_TYPES; i++) {
		if (slice_is(type, types[i].name)) {
			message->type = (enum sync_type)i;
			return 0;
		}
	}
	return KMS_ENOENT;
}

/* A count that is not there is -1; one that is must be one. */
static int
read_count(struct slice object, const char *name, int64_t *count)
{
	struct slice value;

	*count = -1;
	if (slice_member(object, name, &value) != 0)
		return KMS_EINVAL;
	if (value.text == NULL)
		return 0;
	if (slice_integer(value, count) != 0 || *count < 0)
		return KMS_EINVAL;
	return 0;
}

static void
read_extensions(struct slice list, struct sync_reply *reply)
{
	struct slice name, value;
	struct slice_walk walk;

	if (slice_kind(list) != SLICE_ARRAY)
		return;
	reply->listed = true;
	slice_walk_begin(&walk, list);
	while (slice_walk_next(&walk, &name, &value))
		for (int i = 0; i < SYNC_TYPES; i++)
			if (types[i].extension &&
			    slice_is(value, types[i].name))
				reply->extensions[i] = true;
}

int
sync_reply_read(const char *text, size_t len, struct sync_reply *reply)
{
	struct slice status, extensions;

	memset(reply, 0, sizeof(*reply));
	if (slice_check(text, len, &reply->object) != 0 ||
	    slice_kind(reply->object) != SLICE_OBJECT ||
	    slice_member(reply->object, "status", &status) != 0 ||
	    slice_member(reply->object, "boot", &reply->boot) != 0 ||
	    slice_member(reply->object, "extensions", &extensions) != 0)
		return KMS_EINVAL;
	if (read_count(reply->object, "total", &reply->counts.total) != 0 ||
	    read_count(reply->object, "merged", &reply->counts.merged) != 0 ||
	    read_count(reply->object, "skipped", &reply->counts.skipped) != 0 ||
	    read_count(reply->object, "rejected", &reply->counts.rejected) != 0)
		return KMS_EINVAL;
	if (slice_kind(reply->boot) != SLICE_STRING || reply->boot.len < 3 ||
	    reply->boot.len > 2 + 64)
		memset(&reply->boot, 0, sizeof(reply->boot));
	reply->ok = slice_is(status, "ok");
	read_extensions(extensions, reply);
	return 0;
}
