/* Records and messages of /sync as JSON: what is sent comes back, and a bad
 * record never spoils its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kms-keeper/record_json.h"
#include "regress/unit/store_rig.h"

#define GOOD                                                                   \
	"{\"key\":\"k\",\"value\":\"0aFF\",\"version\":{\"0xAb\":5},"          \
	"\"updated_at_ms\":7,\"tombstone\":false,\"ttl_ms\":9}"

/* ---- reading one record -------------------------------------------------- */

static int
read_text(
    struct record_reader *reader, const char *text, struct store_incoming *in)
{
	struct slice record;

	if (slice_check(text, strlen(text), &record) != 0)
		return -100;
	return record_json_read(reader, record, true, in);
}

static void
assert_bad(const char *text)
{
	struct record_reader reader;
	struct store_incoming in;
	int error;

	record_reader_init(&reader);
	error = read_text(&reader, text, &in);
	record_reader_free(&reader);
	if (error != KMS_EINVAL)
		fail_msg("%d for %s", error, text);
}

static void
test_read_record(void **state)
{
	struct record_reader reader;
	struct store_incoming in;

	(void)state;
	record_reader_init(&reader);
	assert_int_equal(read_text(&reader, GOOD, &in), 0);
	assert_int_equal(in.key_len, 1);
	assert_memory_equal(in.key, "k", 1);
	assert_int_equal(in.value_len, 2);
	assert_memory_equal(in.value, "\x0a\xff", 2);
	assert_int_equal(in.clock_count, 1);
	assert_int_equal(in.clock[0].member_len, 4);
	assert_memory_equal(in.clock[0].member, "0xAb", 4);
	assert_int_equal(in.clock[0].counter, 5);
	assert_int_equal(in.updated_at_ms, 7);
	assert_int_equal(in.ttl_ms, 9);
	assert_false(in.tombstone || in.expired || in.revive);
	/* escapes, unknown members, an empty clock, reals that are integers */
	assert_int_equal(
	    read_text(&reader,
		" {\"x\":[{}],\"key\":\"a\\u00e9\\n\\ud83d\\ude00\",\"value\":"
		"null,\"version\":{},\"updated_at_ms\":1.5e1,\"tombstone\":"
		"true}",
		&in),
	    0);
	assert_int_equal(in.key_len, 8);
	assert_memory_equal(in.key, "a\xc3\xa9\n\xf0\x9f\x98\x80", 8);
	assert_true(in.tombstone);
	assert_int_equal(in.clock_count, 0);
	assert_int_equal(in.updated_at_ms, 15);
	record_reader_free(&reader);
}

static void
test_ttl_rules(void **state)
{
	static const struct {
		const char *text;
		int64_t ttl;
	} rows[] = { { "null", 0 }, { "-1", 0 }, { "0", 0 }, { "1.0", 1 },
		{ "2e3", 2000 }, { "9007199254740992", INT64_C(1) << 53 },
		{ "9007199254740993", 0 }, { "99999999999999999999", 0 },
		{ "1e300", 0 }, { "-9223372036854775808", 0 } };
	struct record_reader reader;
	struct store_incoming in;
	char text[256];

	(void)state;
	record_reader_init(&reader);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "{\"key\":\"k\",\"value\":\"00\",\"version\":{\"a\":1},"
		    "\"updated_at_ms\":7,\"tombstone\":false,\"ttl_ms\":%s}",
		    rows[i].text);
		assert_int_equal(read_text(&reader, text, &in), 0);
		assert_int_equal(in.ttl_ms, rows[i].ttl);
	}
	record_reader_free(&reader);
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":{},"
		   "\"updated_at_ms\":7,\"tombstone\":false,\"ttl_ms\":1.5}");
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":{},"
		   "\"updated_at_ms\":7,\"tombstone\":false,\"ttl_ms\":\"1\"}");
}

#define REST "\"updated_at_ms\":7,\"tombstone\":false}"

static void
test_bad_records(void **state)
{
	(void)state;
	assert_bad("7");
	assert_bad("{}");
	assert_bad("{\"value\":\"00\",\"version\":{\"a\":1}," REST);
	assert_bad("{\"key\":\"k\",\"version\":{\"a\":1}," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"00\"," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":{\"a\":1},"
		   "\"tombstone\":false}");
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":{\"a\":1},"
		   "\"updated_at_ms\":7}");
	assert_bad("{\"key\":1,\"value\":\"00\",\"version\":{\"a\":1}," REST);
	assert_bad("{\"key\":\"k\",\"key\":\"k\",\"value\":\"00\","
		   "\"version\":{\"a\":1}," REST);
	assert_bad(
	    "{\"key\":\"\\u0000\",\"value\":\"00\",\"version\":{}," REST);
	assert_bad(
	    "{\"key\":\"\\ud800\",\"value\":\"00\",\"version\":{}," REST);
	assert_bad(
	    "{\"key\":\"\\udc00\",\"value\":\"00\",\"version\":{}," REST);
	assert_bad(
	    "{\"key\":\"\xc0\x80\",\"value\":\"00\",\"version\":{}," REST);
	assert_bad(
	    "{\"key\":\"\xed\xa0\x80\",\"value\":\"0\",\"version\":{}," REST);
	assert_bad("{\"key\":\"\xf4\x90\x80\x80\",\"value\":\"\",\"version\":{}"
		   "," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"0\",\"version\":{}," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"0g\",\"version\":{}," REST);
	assert_bad("{\"key\":\"k\",\"value\":null,\"version\":{}," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":[]," REST);
	assert_bad(
	    "{\"key\":\"k\",\"value\":\"00\",\"version\":{\"a\":\"1\"}," REST);
	assert_bad("{\"key\":\"k\",\"value\":\"00\",\"version\":"
		   "{\"a\":9223372036854775808}," REST);
	assert_bad(
	    "{\"key\":\"k\",\"value\":\"00\",\"version\":{\"a\":0.5}," REST);
	assert_bad(
	    "{\"key\":\"k\",\"value\":null,\"version\":{},"
	    "\"updated_at_ms\":99999999999999999999,\"tombstone\":true}");
}

/* ---- messages ------------------------------------------------------------ */

struct seen {
	size_t good, bad;
	uint64_t last_app;
};

static int
count_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct seen *seen = arg;

	seen->last_app = app_id;
	if (in != NULL)
		seen->good++;
	else
		seen->bad++;
	return 0;
}

static int
read_data(const char *text, struct seen *seen)
{
	struct record_reader reader;
	struct slice data;
	int error;

	memset(seen, 0, sizeof(*seen));
	if (slice_check(text, strlen(text), &data) != 0)
		return -100;
	record_reader_init(&reader);
	error = record_json_each(&reader, data, true, count_record, seen);
	record_reader_free(&reader);
	return error;
}

static void
test_a_bad_record_spoils_nothing(void **state)
{
	struct seen seen;

	(void)state;
	assert_int_equal(
	    read_data("{\"1\":[" GOOD ",7," GOOD ",{\"key\":\"\\ud800\"},"
		      "{\"updated_at_ms\":123456789012345678901234567890},"
		      "\"\xff\"],\"2\":{},\"x\":[" GOOD "],\"0\":[" GOOD "],"
		      "\"01\":[" GOOD "],\"9223372036854775808\":[" GOOD "],"
		      "\"9223372036854775807\":[" GOOD "]}",
		&seen),
	    0);
	assert_int_equal(seen.good, 3);
	assert_int_equal(seen.bad, 9);
	assert_true(seen.last_app == STORE_APP_ID_MAX);
	assert_int_equal(read_data("{}", &seen), 0);
	assert_int_equal(read_data("[]", &seen), KMS_EINVAL);
}

static void
test_messages(void **state)
{
	struct sync_message message;
	struct sync_reply reply;
	static const char delta[] =
	    "{\"type\":\"delta\",\"sender_wallet\":\"0xAA\",\"data\":{}}";
	static const char answer[] =
	    "{\"status\":\"ok\",\"merged\":3,\"boot\":\"b\",\"extensions\":"
	    "[\"digest_request\",\"delta\",7]}";

	(void)state;
	assert_int_equal(
	    sync_message_read(delta, sizeof(delta) - 1, &message), 0);
	assert_int_equal(message.type, SYNC_DELTA);
	assert_true(slice_is(message.sender_wallet, "0xAA"));
	assert_int_equal(
	    sync_message_read("{\"type\":\"x\"}", 12, &message), KMS_ENOENT);
	assert_int_equal(
	    sync_message_read("{\"type\":7}", 10, &message), KMS_EINVAL);
	assert_int_equal(sync_message_read("[]", 2, &message), KMS_EINVAL);
	assert_int_equal(
	    sync_message_read("{\"type\":\"delta\"", 15, &message), KMS_EINVAL);
	assert_int_equal(
	    sync_reply_read(answer, sizeof(answer) - 1, &reply), 0);
	assert_true(reply.ok && slice_is(reply.boot, "b"));
	assert_int_equal(reply.counts.merged, 3);
	assert_int_equal(reply.counts.skipped, -1);
	assert_true(reply.extensions[SYNC_DIGEST_REQUEST]);
	assert_false(reply.extensions[SYNC_BUCKET_REQUEST]);
	assert_false(reply.extensions[SYNC_DELTA]);
	assert_int_equal(
	    sync_reply_read("{\"merged\":-1}", 13, &reply), KMS_EINVAL);
	assert_int_equal(sync_reply_read("{}", 2, &reply), 0);
	assert_false(reply.ok);
}

static void
test_depth(void **state)
{
	char text[200];
	struct slice value;

	(void)state;
	memset(text, '[', 100);
	memset(text + 100, ']', 100);
	assert_int_equal(slice_check(text + 68, 64, &value), 0);
	assert_int_equal(slice_check(text + 67, 66, &value), KMS_EINVAL);
}

/* ---- there and back ------------------------------------------------------ */

struct copying {
	struct store *to;
	struct kms_time now;
};

static int
copy_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct copying *copying = arg;

	assert_non_null(in);
	assert_int_equal(
	    store_merge(copying->to, app_id, in, copying->now).outcome,
	    STORE_MERGED);
	return 0;
}

/* A live record, one with a key to escape, a tombstone, an expired stub. */
static void
fill(struct store *store)
{
	assert_int_equal(rig_put(store, 1, "plain", "v:1", 0, 0), 0);
	assert_int_equal(
	    rig_put(store, 2, "od\"d\\\x01\xc3\xa9", "v:2", 99, 1), 0);
	assert_int_equal(rig_put(store, 1, "gone", "v:3", 0, 2), 0);
	assert_int_equal(
	    store_delete_local(store, 1, "gone", 4, rig_time(3)), 0);
	assert_int_equal(
	    rig_put(store, 1, "stub",
		"0123456789012345678901234567890123456789", 1000, 4),
	    0);
	assert_int_equal(store_tick(store, rig_time(1000), 10), 1);
	assert_int_equal(store_tick(store, rig_time(2000), 10), 1);
}

static void
copy_store(struct store *from, struct store *to, enum record_form form,
    struct kms_time now)
{
	struct copying copying = { to, now };
	struct record_list_item items[8];
	struct record_reader reader;
	struct store_cursor cursor;
	struct slice data;
	struct buf out;
	size_t count = 0, bound = 0;

	buf_init(&out, 1 << 20);
	store_cursor_open(from, &cursor, 0);
	while (store_cursor_next(&cursor, now, &items[count].record))
		bound += record_json_bound(&items[count++].record) + 32;
	store_cursor_close(&cursor);
	assert_int_equal(record_json_write_data(&out, items, count, form), 0);
	assert_true(out.len <= bound);
	assert_int_equal(
	    slice_check((const char *)out.data, out.len, &data), 0);
	record_reader_init(&reader);
	assert_int_equal(
	    record_json_each(&reader, data, true, copy_record, &copying), 0);
	record_reader_free(&reader);
	buf_free(&out);
}

static void
assert_same(struct store *a, struct store *b, uint64_t app, const char *key)
{
	char x[1000], y[1000];
	struct store_record record;

	assert_true(rig_peek(a, app, key, 2000, &record));
	rig_record_text(&record, x, sizeof(x));
	assert_true(rig_peek(b, app, key, 2000, &record));
	rig_record_text(&record, y, sizeof(y));
	assert_string_equal(x, y);
}

static void
test_there_and_back(void **state)
{
	struct store_config config;
	struct store *from, *to;
	struct store_record record;

	(void)state;
	store_config_init(&config);
	from = rig_store(&config, "a");
	to = rig_store(&config, "b");
	fill(from);
	copy_store(from, to, RECORD_OURS, rig_time(2000));
	assert_same(from, to, 1, "plain");
	assert_same(from, to, 2, "od\"d\\\x01\xc3\xa9");
	assert_same(from, to, 1, "gone");
	assert_same(from, to, 1, "stub");
	store_free(to);
	/* A deployed node is told of a tombstone, without the head. */
	to = rig_store(&config, "b");
	copy_store(from, to, RECORD_DEPLOYED, rig_time(2000));
	assert_true(rig_peek(to, 1, "stub", 2000, &record));
	assert_int_equal(record.state, STORE_TOMBSTONE);
	assert_int_equal(record.ttl_ms, 0);
	store_free(to);
	store_free(from);
}

/* An evicted record goes to our own nodes, with what merging needs. */
static void
test_evicted_stubs(void **state)
{
	static const char value[] =
	    "v:0123456789012345678901234567890123456789";
	struct store_config config;
	struct store *from, *to;
	struct store_record record;
	struct store_incoming in;
	struct record_reader reader;
	struct slice slice;
	struct buf out;

	(void)state;
	buf_init(&out, 10000);
	record_reader_init(&reader);
	store_config_init(&config);
	config.max_app_storage = 2 * (STORE_RECORD_OVERHEAD + 50);
	from = rig_store(&config, "from");
	to = rig_store(&config, "to");
	assert_int_equal(rig_put(from, 1, "a", value, 0, 0), 0);
	assert_int_equal(rig_put(from, 1, "b", value, 0, 0), 0);
	assert_int_equal(rig_put(from, 1, "c", value, 0, 0), 0);
	assert_true(rig_peek(from, 1, "a", 700, &record));
	assert_int_equal(record.state, STORE_EVICTED);
	assert_false(record_json_is_sendable(&record, RECORD_DEPLOYED));
	assert_true(record_json_is_sendable(&record, RECORD_OURS));
	assert_int_equal(record_json_write(&out, &record, RECORD_OURS), 0);
	assert_true(out.len <= record_json_bound(&record));
	assert_int_equal(
	    slice_check((const char *)out.data, out.len, &slice), 0);
	assert_int_equal(record_json_read(&reader, slice, true, &in), 0);
	assert_true(in.evicted && !in.expired && !in.tombstone);
	assert_int_equal(in.age_ms, 700);
	assert_int_equal(in.value_len, 32);
	/* Who does not know stubs sees a deletion: it is not sent to them. */
	assert_int_equal(
	    store_merge(to, 1, &in, rig_time(700)).outcome, STORE_MERGED);
	assert_same(from, to, 1, "a");
	assert_true(rig_peek(to, 1, "a", 800, &record));
	assert_int_equal(record.state, STORE_EVICTED);
	assert_int_equal(record.age_ms, 800);
	record_reader_free(&reader);
	buf_free(&out);
	store_free(from);
	store_free(to);
}

static void
test_bad_evicted_stubs(void **state)
{
	static const char *const stubs[] = {
		"{\"head\":\"00\",\"ttl_ms\":0,\"evicted\":null,\"age_ms\":1}",
		"{\"head\":\"00\",\"ttl_ms\":0,\"evicted\":false,\"age_ms\":1}",
		"{\"head\":\"00\",\"ttl_ms\":0,\"evicted\":true}",
		"{\"head\":\"00\",\"ttl_ms\":0,\"evicted\":true,\"age_ms\":-1}",
		"{\"head\":\"\",\"evicted\":true,\"age_ms\":1e99}",
	};
	struct record_reader reader;
	struct store_incoming in;
	struct slice slice;
	char text[400];

	(void)state;
	record_reader_init(&reader);
	for (size_t i = 0; i < sizeof(stubs) / sizeof(stubs[0]); i++) {
		int len = snprintf(text, sizeof(text),
		    "{\"key\":\"a\",\"value\":null,\"version\":{\"x\":1},"
		    "\"updated_at_ms\":1,\"tombstone\":true,\"stub\":%s}",
		    stubs[i]);

		assert_int_equal(slice_check(text, (size_t)len, &slice), 0);
		assert_int_equal(
		    record_json_read(&reader, slice, true, &in), KMS_EINVAL);
	}
	record_reader_free(&reader);
}

/* ---- mutations ----------------------------------------------------------- */

static int
ignore_record(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct store *store = arg;

	if (in != NULL)
		(void)store_merge(store, app_id, in, rig_time(0));
	return 0;
}

static void
test_mutated_messages(void **state)
{
	static const char text[] =
	    "{\"type\":\"delta\",\"data\":{\"1\":[" GOOD
	    ",{\"key\":\"\\u00e9\",\"value\":null,\"version\":{\"a\":1,\"b\":2}"
	    ","
	    "\"updated_at_ms\":-5,\"tombstone\":true,\"stub\":{\"head\":\"00\","
	    "\"ttl_ms\":4,\"evicted\":true,\"age_ms\":5}}],\"22\":[]}}";
	static const char bits[] = "{}[]\",:\\u0nte1.-\xff\x80";
	struct rig_random random = { 7 };
	struct record_reader reader;
	struct store_config config;
	struct sync_message message;
	struct sync_reply reply;
	struct slice data;
	struct store *store;
	size_t taken = 0;

	(void)state;
	store_config_init(&config);
	store = rig_store(&config, "a");
	record_reader_init(&reader);
	for (int i = 0; i < 50000; i++) {
		size_t len = sizeof(text) - 1;
		char *copy = malloc(len);

		memcpy(copy, text, len);
		for (uint64_t n = 1 + rig_below(&random, 4); n > 0; n--)
			copy[rig_below(&random, len)] =
			    bits[rig_below(&random, sizeof(bits) - 1)];
		if (rig_below(&random, 4) == 0)
			len = rig_below(&random, len);
		(void)sync_reply_read(copy, len, &reply);
		if (sync_message_read(copy, len, &message) == 0 &&
		    slice_member(message.object, "data", &data) == 0 &&
		    record_json_each(
			&reader, data, true, ignore_record, store) == 0)
			taken++;
		free(copy);
	}
	assert_true(taken > 1000);
	record_reader_free(&reader);
	store_free(store);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_record),
		cmocka_unit_test(test_ttl_rules),
		cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_a_bad_record_spoils_nothing),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_evicted_stubs),
		cmocka_unit_test(test_bad_evicted_stubs),
		cmocka_unit_test(test_mutated_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
