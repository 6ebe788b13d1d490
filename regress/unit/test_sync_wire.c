/* Nodes, shortened hashes and places, as comparing messages write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kms-keeper/sync_wire.h"
#include "regress/unit/store_rig.h"

static struct slice
slice_of(const char *text, size_t len)
{
	struct slice value;

	assert_int_equal(slice_check(text, len, &value), 0);
	return value;
}

static void
test_nodes(void **state)
{
	struct tree_node root = { 0, 0 }, node = root, read;
	struct buf out;

	(void)state;
	assert_true(tree_node_last(root) == UINT64_MAX);
	for (unsigned int i = 0; i < TREE_DEPTH_MAX; i++) {
		node = tree_node_child(node, i);
		assert_true((node.prefix & ~tree_node_last(node)) == 0);
		assert_true(tree_node_compare(root, node) < 0);
		buf_init(&out, 100);
		assert_int_equal(tree_node_write(&out, node), 0);
		assert_int_equal(out.len, i + 3);
		assert_int_equal(
		    tree_node_read(
			slice_of((const char *)out.data, out.len), &read),
		    0);
		assert_int_equal(tree_node_compare(node, read), 0);
		buf_free(&out);
	}
	assert_true(node.prefix == 0x0123456789abcdef);
	assert_true(tree_node_last(node) == node.prefix);
	assert_int_equal(tree_node_read(slice_of("\"\"", 2), &read), 0);
	assert_int_equal(read.depth, 0);
	assert_int_equal(
	    tree_node_read(slice_of("\"0123456789abcdef0\"", 19), &read),
	    KMS_EINVAL);
	assert_int_equal(
	    tree_node_read(slice_of("\"A\"", 3), &read), KMS_EINVAL);
	assert_int_equal(tree_node_read(slice_of("7", 1), &read), KMS_EINVAL);
}

static void
test_shortened_hashes(void **state)
{
	struct short_form form = { 0, 3 }, other = { 1, 3 }, whole = { 0, 8 };
	unsigned int same = 0;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t a = hash_shorten(form, i);

		assert_true((a & UINT64_MAX >> 24) == 0);
		assert_true(hash_shorten(whole, i) >> 40 == a >> 40);
		same += a == hash_shorten(other, i);
		/* One bit more or less, and all are others. */
		assert_true(a != hash_shorten(form, i + (UINT64_C(1) << 63)));
	}
	assert_true(same <= 1);
}

static void
test_lists(void **state)
{
	static const size_t counts[] = { 0, 1, 16, 383, 384, 385, 1022, 1023,
		1024, 1025, 5000 };
	static const unsigned int widths[] = { 3, 8 };
	uint64_t *hashes = calloc(5000, sizeof(*hashes)), *read;
	struct rig_random random = { 5 };
	struct buf out;
	size_t n;

	(void)state;
	for (size_t w = 0; w < 2; w++) {
		for (size_t i = 0; i < 5000; i++)
			hashes[i] = rig_next(&random) &
			    UINT64_MAX << (64 - 8 * widths[w]);
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]);
		     c++) {
			struct slice value;

			buf_init(&out, 1 << 20);
			assert_int_equal(
			    shorts_write(&out, hashes, counts[c], widths[w]),
			    0);
			value = slice_of((const char *)out.data, out.len);
			assert_int_equal(
			    shorts_read(value, widths[w], counts[c], &read, &n),
			    0);
			assert_int_equal(n, counts[c]);
			assert_memory_equal(read, hashes, 8 * n);
			free(read);
			if (counts[c] > 0)
				assert_int_equal(shorts_read(value, widths[w],
						     counts[c] - 1, &read, &n),
				    KMS_EINVAL);
			buf_free(&out);
		}
	}
	free(hashes);
	assert_int_equal(
	    shorts_read(slice_of("\"AAA=\"", 6), 3, 9, &read, &n), KMS_EINVAL);
	assert_int_equal(
	    shorts_read(slice_of("\"AAAA\"", 6), 8, 9, &read, &n), KMS_EINVAL);
	assert_int_equal(
	    shorts_read(slice_of("\"AA\"", 4), 3, 9, &read, &n), KMS_EINVAL);
	assert_int_equal(
	    shorts_read(slice_of("[]", 2), 3, 9, &read, &n), KMS_EINVAL);
}

static void
test_places(void **state)
{
	uint64_t app, hash;

	(void)state;
	assert_int_equal(
	    sync_place_read(slice_of("{}", 2), "a", "b", &app, &hash), 0);
	assert_int_equal(app, 0);
#define PLACE(text)                                                            \
	sync_place_read(slice_of(text, sizeof(text) - 1), "a", "b", &app, &hash)
	assert_int_equal(PLACE("{\"a\":7,\"b\":\"0123456789abcdef\"}"), 0);
	assert_int_equal(app, 7);
	assert_true(hash == 0x0123456789abcdef);
	assert_int_equal(PLACE("{\"a\":7}"), KMS_EINVAL);
	assert_int_equal(
	    PLACE("{\"a\":0,\"b\":\"0123456789abcdef\"}"), KMS_EINVAL);
	assert_int_equal(
	    PLACE("{\"a\":7,\"b\":\"0123456789abcde\"}"), KMS_EINVAL);
	assert_int_equal(
	    PLACE("{\"a\":7,\"b\":\"0123456789abcdeg\"}"), KMS_EINVAL);
	assert_int_equal(
	    PLACE("{\"a\":7,\"a\":7,\"b\":\"0123456789abcdef\"}"), KMS_EINVAL);
#undef PLACE
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_shortened_hashes),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
