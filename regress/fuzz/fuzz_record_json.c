/* Bytes as an inner message or an answer of /sync, records and all. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/err.h"
#include "kms-keeper/record_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
write_again(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct store *store = arg;
	struct kms_time now = { INT64_C(1767225600000), 1 };
	struct store_record record;
	struct buf out;

	if (in == NULL)
		return 0;
	(void)store_merge(store, app_id, in, now);
	if (!store_peek(store, app_id, in->key, in->key_len, now, &record))
		return 0;
	buf_init(&out, SIZE_MAX / 2);
	if (record_json_is_sendable(&record, RECORD_OURS)) {
		struct slice value;

		if (record_json_write(&out, &record, RECORD_OURS) != 0 ||
		    out.len > record_json_bound(&record) ||
		    slice_check((const char *)out.data, out.len, &value) != 0)
			abort();
	}
	buf_free(&out);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_config config;
	struct record_reader reader;
	struct sync_message message;
	struct sync_reply reply;
	struct slice records;
	struct store *store;

	(void)sync_reply_read((const char *)data, size, &reply);
	if (sync_message_read((const char *)data, size, &message) != 0 ||
	    slice_member(message.object, "data", &records) != 0)
		return 0;
	store_config_init(&config);
	store = store_new(&config);
	if (store == NULL)
		abort();
	record_reader_init(&reader);
	(void)record_json_each(&reader, records, true, write_again, store);
	record_reader_free(&reader);
	store_free(store);
	return 0;
}
