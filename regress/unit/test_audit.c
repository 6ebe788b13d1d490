/* The audit trail: made by the keeper's side, followed by kmsd's, and judged by
 * kmsctl's, which share no code for it. */
#include "keeper_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "common/hex.h"
#include "crypto/sha256.h"
#include "kms-keeper/audit.h"
#include "kmsctl/audit_verify.h"
#include "kmsd/audit.h"

struct sink {
	struct audit_verifier *verifier;
	bool full; /* takes nothing */
	unsigned int lines, heads;
	uint64_t seq;
	uint8_t hash[SHA256_LEN];
	char last[AUDIT_LINE_MAX + 1];
};

static const uint8_t nothing[SHA256_LEN];
static struct rig rig;
static struct sink sink;
static struct audit *audit;

static int
take(void *arg, const struct audit_line *line)
{
	char reason[AUDIT_VERIFY_REASON_LEN];
	uint8_t hash[SHA256_LEN];
	uint64_t seq;

	(void)arg;
	if (sink.full)
		return KMS_EBUSY;
	if (audit_verifier_line(sink.verifier, line->text, line->len, reason) !=
	    0)
		fail_msg("%s: %.*s", reason, (int)line->len, line->text);
	assert_int_equal(
	    audit_line_parse(line->text, line->len, &seq, hash), 0);
	assert_int_equal(seq, line->seq);
	assert_memory_equal(hash, line->hash, SHA256_LEN);
	sink.lines++;
	sink.heads += line->head;
	sink.seq = seq;
	memcpy(sink.hash, hash, SHA256_LEN);
	memcpy(sink.last, line->text, line->len);
	sink.last[line->len] = '\0';
	return 0;
}

static int
set_up(void **state)
{
	(void)state;
	rig_init(&rig);
	memset(&sink, 0, sizeof(sink));
	memset(metrics, 0, sizeof(uint64_t) * METRIC_COUNT);
	sink.verifier =
	    audit_verifier_new(rig.identity->wallets, &rig.identity->wallet);
	audit = audit_new(take, NULL, rig.identity);
	assert_non_null(audit);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	audit_free(audit);
	audit_verifier_free(sink.verifier);
	identity_free(rig.identity);
	return 0;
}

static void
decide(unsigned int status)
{
	struct audit_event event = { .kind = AUDIT_DERIVE,
		.wallet = &rig.identity->wallet,
		.app_id = UINT64_MAX >> 1,
		.status = status,
		.reason = "ok",
		.request = UINT64_MAX };

	audit_write(audit, &event, rig.now);
}

static void
is_off_before_it_is_opened(void **state)
{
	(void)state;
	decide(200);
	audit_sign(audit, rig.now);
	assert_false(audit_is_open(audit));
	assert_int_equal(sink.lines, 0);
	assert_null(audit_path_key(audit, nothing));
}

static void
chains_and_signs(void **state)
{
	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	assert_int_equal(sink.seq, 1);
	for (int i = 0; i < 50; i++)
		decide(i % 3 == 0 ? 403 : 200);
	audit_sign(audit, rig.now);
	assert_int_equal(sink.heads, 1);
	assert_int_equal(sink.seq, 52);
	assert_int_equal(audit_verifier_summary(sink.verifier)->signed_seq, 51);
	assert_non_null(strstr(sink.last, "\"kind\":\"head\""));
}

static void
the_line_is_as_the_header_says(void **state)
{
	static const uint8_t path[AUDIT_PATH_LEN] = { 0xab, 1 };
	struct audit_event event = { .kind = AUDIT_PUT,
		.app_id = 7,
		.path = path,
		.status = 404,
		.reason = "not_found",
		.request = 0x1f };
	char expected[AUDIT_LINE_MAX], prev[2 * SHA256_LEN + 1];

	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	hex_encode(sink.hash, SHA256_LEN, prev);
	/* a leap day */
	audit_write(
	    audit, &event, (struct kms_time){ .wall_ms = 1709251199007 });
	(void)snprintf(expected, sizeof(expected),
	    "{\"seq\":2,\"time\":\"2024-02-29T23:59:59.007Z\",\"kind\":\"put\","
	    "\"wallet\":\"\",\"app\":7,"
	    "\"path\":\"ab010000000000000000000000000000\","
	    "\"verdict\":\"allow\",\"reason\":\"not_found\",\"status\":404,"
	    "\"request\":\"000000000000001f\",\"lost\":0,\"prev\":\"%s\"",
	    prev);
	assert_memory_equal(sink.last, expected, strlen(expected));
}

static void
times_are_those_of_the_calendar(void **state)
{
	static const int64_t days[] = { 0, 1, 58, 59, 60, 364, 365, 789, 790,
		10956, 10957, 11015, 11016, 20000, 47540, 47541, 200000 };
	struct audit_event event = { .kind = AUDIT_SYNC, .reason = "" };

	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
		time_t seconds = (time_t)(days[i] * 86400 + 3723);
		char text[64], expected[96];
		struct tm tm;

		(void)gmtime_r(&seconds, &tm);
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		(void)snprintf(
		    expected, sizeof(expected), "\"time\":\"%s.009Z\"", text);
		audit_write(audit, &event,
		    (struct kms_time){ .wall_ms = seconds * 1000 + 9 });
		assert_non_null(strstr(sink.last, expected));
	}
}

static void
says_what_was_lost(void **state)
{
	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	decide(200);
	sink.full = true;
	for (int i = 0; i < 4; i++)
		decide(200);
	audit_sign(audit, rig.now); /* its line is lost, too */
	assert_int_equal(metrics[METRIC_KEEPER_AUDIT_LOST], 5);
	sink.full = false;
	decide(200);
	assert_non_null(strstr(sink.last, "{\"seq\":8,"));
	assert_non_null(strstr(sink.last, "\"lost\":5,"));
	decide(200);
	assert_non_null(strstr(sink.last, "\"lost\":0,"));
	assert_int_equal(audit_verifier_summary(sink.verifier)->lost, 5);
	audit_sign(audit, rig.now);
	assert_int_equal(audit_verifier_summary(sink.verifier)->heads, 1);
}

static void
goes_on_where_the_file_ends(void **state)
{
	uint8_t hash[SHA256_LEN];
	uint64_t seq;

	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	decide(200);
	seq = sink.seq;
	memcpy(hash, sink.hash, sizeof(hash));
	/* Taken, but then they could not be written; the verifier is not
	 * told of them. */
	audit_verifier_free(sink.verifier);
	sink.verifier = audit_verifier_new(rig.identity->wallets, NULL);
	decide(200);
	decide(200);
	audit_verifier_free(sink.verifier);
	sink.verifier = audit_verifier_new(rig.identity->wallets, NULL);
	audit_open(audit, seq, hash, rig.now);
	assert_non_null(strstr(sink.last, "\"kind\":\"resume\""));
	assert_non_null(strstr(sink.last, "{\"seq\":5,"));
	assert_non_null(strstr(sink.last, "\"lost\":2,"));
	assert_int_equal(metrics[METRIC_KEEPER_AUDIT_LOST], 2);
	decide(200);
	/* A start behind the lines of an earlier keeper. */
	audit_free(audit);
	audit = audit_new(take, NULL, rig.identity);
	audit_open(audit, sink.seq, sink.hash, rig.now);
	assert_non_null(strstr(sink.last, "\"kind\":\"start\""));
	assert_int_equal(sink.seq, 7);
}

/* The first line behind those of an earlier keeper is lost: what is signed
 * then is the file's last one. */
static void
signs_what_the_file_has(void **state)
{
	static const uint8_t hash[SHA256_LEN] = { 7 };

	(void)state;
	audit_verifier_free(sink.verifier);
	sink.verifier = audit_verifier_new(rig.identity->wallets, NULL);
	sink.full = true;
	audit_open(audit, 41, hash, rig.now);
	sink.full = false;
	audit_sign(audit, rig.now);
	assert_int_equal(sink.heads, 1);
	assert_non_null(strstr(sink.last, "\"signed_seq\":41,"));
	assert_non_null(strstr(sink.last, "\"signed_hash\":\"07000000"));
}

static void
signs_when_it_is_time(void **state)
{
	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	audit_tick(audit, 1000, rig.now);
	assert_int_equal(sink.heads, 0);
	rig.now.boot_ms += 1000;
	audit_tick(audit, 0, rig.now);
	assert_int_equal(sink.heads, 0);
	audit_tick(audit, 1000, rig.now);
	assert_int_equal(sink.heads, 1);
	/* Nothing new: a signature of a signature says nothing. */
	rig.now.boot_ms += 1000;
	audit_tick(audit, 1000, rig.now);
	assert_int_equal(sink.heads, 1);
	decide(200);
	audit_tick(audit, 1000, rig.now);
	assert_int_equal(sink.heads, 2);
}

static void
paths_are_kept_apart(void **state)
{
	uint8_t master[32] = { 1 }, other[32] = { 2 }, key[SHA256_LEN];
	uint8_t a[AUDIT_PATH_LEN], b[AUDIT_PATH_LEN];

	(void)state;
	audit_open(audit, 0, nothing, rig.now);
	memcpy(key, audit_path_key(audit, master), sizeof(key));
	audit_path(key, 1, AUDIT_TEXT_PATH, "p", 1, a);
	audit_path(key, 1, AUDIT_TEXT_PATH, "p", 1, b);
	assert_memory_equal(a, b, sizeof(a));
	audit_path(key, 2, AUDIT_TEXT_PATH, "p", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	audit_path(key, 1, AUDIT_TEXT_KEY, "p", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	audit_path(key, 1, AUDIT_TEXT_PATH, "q", 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	audit_path(NULL, 1, AUDIT_TEXT_PATH, "p", 1, b);
	assert_memory_equal(b, nothing, sizeof(b));
	audit_forget(audit);
	assert_memory_not_equal(audit_path_key(audit, other), key, sizeof(key));
}

static void
verdicts(void **state)
{
	(void)state;
	assert_string_equal(audit_verdict(200), "allow");
	assert_string_equal(audit_verdict(404), "allow");
	assert_string_equal(audit_verdict(410), "allow");
	assert_string_equal(audit_verdict(400), "deny");
	assert_string_equal(audit_verdict(403), "deny");
	assert_string_equal(audit_verdict(429), "deny");
	assert_string_equal(audit_verdict(500), "fail");
	assert_string_equal(audit_verdict(503), "fail");
}

/* ---- kmsd's side ---- */

static char directory[] = "/tmp/kms-audit.XXXXXX";
static char path[64];

static int
make_directory(void **state)
{
	if (rig_setup(state) != 0)
		return -1;
	if (mkdtemp(directory) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/audit", directory);
	return 0;
}

static int
remove_directory(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(directory);
}

static void
line_of(char line[512], uint64_t seq, const uint8_t hash[SHA256_LEN])
{
	char hex[2 * SHA256_LEN + 1];

	hex_encode(hash, SHA256_LEN, hex);
	(void)snprintf(line, 512, "{\"seq\":%llu,\"a\":1,\"hash\":\"%s\"}",
	    (unsigned long long)seq, hex);
}

static int
put_behind(struct audit_file *file, uint64_t seq, const uint8_t *behind)
{
	uint8_t hash[SHA256_LEN], prev[SHA256_LEN];
	char line[512];

	memcpy(prev, behind, sizeof(prev));
	memset(hash, (int)seq, sizeof(hash));
	line_of(line, seq, hash);
	return audit_file_append(
	    file, seq, prev, hash, (const uint8_t *)line, strlen(line));
}

static void
put(struct audit_file *file, uint64_t seq)
{
	(void)put_behind(file, seq, file->head);
}

static off_t
size_of(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void
the_file_keeps_the_chain(void **state)
{
	static const uint8_t other[SHA256_LEN] = { 9 };
	struct audit_file file, again;
	char line[512];
	off_t size;

	(void)state;
	assert_int_equal(audit_file_open(&file, path), 0);
	assert_int_equal(file.seq, 0);
	for (uint64_t seq = 1; seq <= 40; seq++)
		put(&file, seq);
	assert_int_equal(file.seq, 40);
	size = size_of();
	/* What does not follow is dropped. */
	assert_int_equal(put_behind(&file, 41, other), 0);
	assert_int_equal(put_behind(&file, 40, file.head), 0);
	assert_int_equal(size_of(), size);
	/* What could not be read again is refused. */
	assert_int_equal(audit_file_append(&file, 41, file.head, other,
			     (const uint8_t *)"x", 1),
	    KMS_EPROTO);
	assert_int_equal(put_behind(&file, UINT64_MAX, file.head), KMS_EPROTO);
	line_of(line, 42, other);
	assert_int_equal(audit_file_append(&file, 41, file.head, other,
			     (const uint8_t *)line, strlen(line)),
	    KMS_EPROTO);
	line_of(line, 41, file.head);
	assert_int_equal(audit_file_append(&file, 41, file.head, other,
			     (const uint8_t *)line, strlen(line)),
	    KMS_EPROTO);
	line_of(line, 41, other);
	line[12] = '\n';
	assert_int_equal(audit_file_append(&file, 41, file.head, other,
			     (const uint8_t *)line, strlen(line)),
	    KMS_EPROTO);
	assert_int_equal(size_of(), size);
	assert_int_equal(file.seq, 40);
	assert_int_equal(audit_file_open(&again, path), 0);
	assert_int_equal(again.seq, 40);
	assert_memory_equal(again.head, file.head, SHA256_LEN);
	/* It grew behind our back: not ours to go on with. */
	put(&again, 41);
	assert_int_equal(audit_file_reopen(&file), KMS_EINVAL);
	assert_int_equal(audit_file_reopen(&again), 0);
	audit_file_close(&again);
	audit_file_close(&file);
}

static void
a_write_that_fails_leaves_nothing(void **state)
{
	struct rlimit limit, old;
	struct audit_file file;
	off_t size;

	(void)state;
	assert_int_equal(audit_file_open(&file, path), 0);
	put(&file, 50);
	size = size_of();
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)size + 10;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	put(&file, 51);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(file.broken, 1);
	assert_int_equal(file.seq, 50);
	assert_int_equal(size_of(), size);
	/* Until it is opened anew. */
	put(&file, 52);
	assert_int_equal(size_of(), size);
	assert_int_equal(audit_file_reopen(&file), 0);
	put(&file, 53);
	assert_int_equal(file.seq, 53);
	audit_file_close(&file);
}

static void
lines_of_all_shapes(void **state)
{
	char line[1200], good[300], hex[2 * SHA256_LEN + 1];
	uint8_t hash[SHA256_LEN];
	uint64_t seq;
	uint32_t seed = 7;
	int len;

	(void)state;
	memset(hash, 0x5a, sizeof(hash));
	hex_encode(hash, sizeof(hash), hex);
	len = snprintf(
	    good, sizeof(good), "{\"seq\":12,\"a\":1,\"hash\":\"%s\"}", hex);
	assert_int_equal(audit_line_parse(good, (size_t)len, &seq, hash), 0);
	assert_int_equal(seq, 12);
	for (int cut = 0; cut < len; cut++)
		assert_int_equal(
		    audit_line_parse(good, (size_t)cut, &seq, hash),
		    KMS_EINVAL);
	len = snprintf(line, sizeof(line),
	    "{\"seq\":99999999999999999999,\"hash\":\"%s\"}", hex);
	assert_int_equal(
	    audit_line_parse(line, (size_t)len, &seq, hash), KMS_EINVAL);
	len = snprintf(line, sizeof(line), "{\"seq\":0,\"hash\":\"%s\"}", hex);
	assert_int_equal(
	    audit_line_parse(line, (size_t)len, &seq, hash), KMS_EINVAL);
	len = snprintf(
	    line, sizeof(line), "{\"seq\":1,%900s,\"hash\":\"%s\"}", "", hex);
	assert_int_equal(audit_line_parse(line, (size_t)len, &seq, hash),
	    len <= 1000 ? 0 : KMS_EINVAL);
	for (int i = 0; i < 200000; i++) {
		memcpy(line, good, sizeof(good));
		for (int k = 0; k < 2; k++) {
			seed = seed * 1664525 + 1013904223;
			line[(seed >> 8) % strlen(good)] = (char)(seed >> 24);
		}
		(void)audit_line_parse(line, strlen(good), &seq, hash);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TRAIL(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TRAIL(is_off_before_it_is_opened),
		TRAIL(chains_and_signs),
		TRAIL(the_line_is_as_the_header_says),
		TRAIL(times_are_those_of_the_calendar),
		TRAIL(says_what_was_lost),
		TRAIL(goes_on_where_the_file_ends),
		TRAIL(signs_what_the_file_has),
		TRAIL(signs_when_it_is_time),
		TRAIL(paths_are_kept_apart),
		TRAIL(verdicts),
		cmocka_unit_test(the_file_keeps_the_chain),
		cmocka_unit_test(a_write_that_fails_leaves_nothing),
		cmocka_unit_test(lines_of_all_shapes),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
