/*
 * A load generator: keep-alive connections, one request at a time on each,
 * every answer's status checked and one in 64 verified and decrypted.
 *
 *   load [options] STEP…            STEP: MODE:REQUESTS[:KEYS], or - for
 *                                   steps from standard input, one a line
 *
 * MODE: nonce (any server that answers GET /nonce with 200), derive-v1 (nonces
 * and signatures are made ahead), derive-v2, fill, put, get (bound requests
 * with X-KMS-Next-Nonce). KEYS (1000) are spread over all apps; values have
 * --value bytes (100). --replicas N: writes wait for so many peers; --rate R:
 * so many requests a second, else each connection sends when it was answered.
 * All but nonce need --rpc, a simchain in which the apps are
 * registered first. A line per step:
 *   MODE KEYS requests N cpu_ns A net_ns B keeper_ns C other_ns D rate R
 *   p50_us P p99_us Q unmet U
 * the CPU time being that of the processes in --pids, per request; unmet
 * counts the writes that fewer peers than asked for acknowledged in time.
 * Latencies at a rate count from when a request was due.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/eth.h"
#include "common/hex.h"
#include "common/http.h"
#include "crypto/crypto.h"
#include "crypto/envelope.h"
#include "crypto/pop.h"
#include "crypto/wallet.h"

#define TEXT_MAX 8192 /* of a request, and of an answer */
#define NONCE_TEXT 24 /* base64 of 16 bytes */
#define VALUE_MAX 1024
#define SAMPLE 64
#define PIDS_MAX 16
#define NONCE_LIFE_NS INT64_C(90000000000)

struct app {
	uint64_t id;
	uint8_t wallet_key[WALLET_KEY_LEN];
	struct eth_address wallet;
	struct p384_key *tee;
	char spki[2 * P384_SPKI_LEN + 1];
	uint8_t shared[P384_SHARED_LEN];
	char nonce[NONCE_TEXT + 1]; /* the next one, "" when there is none */
	int64_t nonce_at;
};

/* A request made ahead. */
struct ready {
	struct app *app;
	char nonce[NONCE_TEXT + 1];
	char signature[SIGNATURE_TEXT_LEN + 1];
	char *text;
	size_t len;
};

struct conn {
	int fd;
	size_t number;
	uint64_t turn; /* requests of this step so far */
	struct app *app;
	struct ready *ready; /* being sent, when made ahead */
	bool asks_nonce;     /* a GET /nonce that precedes the request */
	uint64_t key;
	char signature[SIGNATURE_TEXT_LEN + 1];
	int64_t sent_at;
	char out[TEXT_MAX];
	size_t out_len, out_sent;
	char in[TEXT_MAX];
	size_t in_len;
};

enum mode { NONCE, FETCH, DERIVE_V1, DERIVE_V2, FILL, PUT, GET };

static const char *const mode_names[] = { "nonce", "fetch", "derive-v1",
	"derive-v2", "fill", "put", "get" };

static struct sockaddr_in node_addr, rpc_addr;
static bool has_rpc;
static struct app *apps;
static size_t app_count, conn_count = 16;
static struct conn *conns;
static struct wallet_context *wallets;
static struct eth_address node_wallet;
static struct p384_point node_point;
static char node_text[ETH_ADDRESS_TEXT_LEN + 1];
static size_t value_len = 100, replicas;
static double rate; /* requests a second, 0: as they are answered */
static long pids[PIDS_MAX];
static size_t pid_count;

/* the step being run */
static enum mode mode;
static uint64_t requests, started, finished, keys = 1000;
static uint64_t unmet;
static struct conn **idle; /* waiting for their time, at a rate */
static size_t idle_count;
static int64_t step_start;
static uint32_t *latencies; /* microseconds */
static struct ready *readies;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fprintf(stderr, "load: ");
	(void)vfprintf(stderr, format, args);
	(void)fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void *
need(void *memory)
{
	if (memory == NULL)
		die("out of memory");
	return memory;
}

/* ---- CPU time of the node's processes ---- */

struct cpu {
	uint64_t net, keeper, other; /* nanoseconds */
};

static uint64_t
task_ns(long pid, const char *task)
{
	char path[512];
	unsigned long long ns = 0;
	FILE *f;

	(void)snprintf(
	    path, sizeof(path), "/proc/%ld/task/%s/schedstat", pid, task);
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%llu", &ns) != 1)
		die("%s: %s", path, strerror(errno));
	(void)fclose(f);
	return ns;
}

static uint64_t
process_ns(long pid)
{
	char path[64];
	struct dirent *entry;
	uint64_t ns = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%ld/task", pid);
	dir = opendir(path);
	if (dir == NULL)
		die("%s: %s", path, strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			ns += task_ns(pid, entry->d_name);
	}
	(void)closedir(dir);
	return ns;
}

static struct cpu
cpu_now(void)
{
	struct cpu cpu = { 0 };

	for (size_t i = 0; i < pid_count; i++) {
		char path[64], name[32] = "";
		uint64_t ns = process_ns(pids[i]);
		FILE *f;

		(void)snprintf(path, sizeof(path), "/proc/%ld/comm", pids[i]);
		f = fopen(path, "r");
		if (f == NULL || fgets(name, sizeof(name), f) == NULL)
			die("%s: %s", path, strerror(errno));
		(void)fclose(f);
		if (strncmp(name, "kms-keeper", 10) == 0)
			cpu.keeper += ns;
		else if (strncmp(name, "kms-net", 7) == 0)
			cpu.net += ns;
		else
			cpu.other += ns;
	}
	return cpu;
}

/* ---- blocking calls, before anything is measured ---- */

static struct sockaddr_in
address_of(const char *text)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	char host[64];
	unsigned int port;

	if (sscanf(text, "http://%63[0-9.]:%5u", host, &port) != 2 ||
	    port > 65535 || inet_pton(AF_INET, host, &sin.sin_addr) != 1)
		die("%s: expected http://ADDRESS:PORT", text);
	sin.sin_port = htons((uint16_t)port);
	return sin;
}

static int
dial(const struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 ||
	    connect(fd, (const struct sockaddr *)sin, sizeof(*sin)) != 0)
		die("connecting: %s", strerror(errno));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

/* One request on a connection of its own; the answer's JSON. */
static json_t *
call(const struct sockaddr_in *to, const char *method, const char *target,
    const char *body)
{
	static char answer[1 << 20];
	char head[512];
	size_t len = 0, head_len;
	json_t *json;
	ssize_t got;
	char *start;
	int fd = dial(to);

	head_len = (size_t)snprintf(head, sizeof(head),
	    "%s %s HTTP/1.1\r\nHost: load\r\nConnection: close\r\n"
	    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	    method, target, strlen(body));
	if (write(fd, head, head_len) != (ssize_t)head_len ||
	    write(fd, body, strlen(body)) != (ssize_t)strlen(body))
		die("%s %s: %s", method, target, strerror(errno));
	while ((got = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0)
		len += (size_t)got;
	(void)close(fd);
	answer[len] = '\0';
	start = strstr(answer, "\r\n\r\n");
	json = start == NULL ? NULL : json_loads(start + 4, 0, NULL);
	if (json == NULL)
		die("%s %s: no JSON in the answer", method, target);
	return json;
}

static void
rpc_batch(json_t *batch)
{
	char *text = need(json_dumps(batch, JSON_COMPACT));
	json_t *answers = call(&rpc_addr, "POST", "/", text), *answer;
	size_t i;

	json_array_foreach(answers, i, answer)
	{
		if (json_object_get(answer, "result") == NULL)
			die("simchain: %s", json_dumps(answer, 0));
	}
	if (json_array_size(answers) != json_array_size(batch))
		die("simchain answers a part of a batch");
	json_decref(answers);
	json_decref(batch);
	free(text);
}

static void
add_call(json_t *batch, const char *method, json_t *argument)
{
	json_array_append_new(batch,
	    json_pack("{s:s,s:i,s:s,s:[o]}", "jsonrpc", "2.0", "id", 1,
		"method", method, "params", need(argument)));
}

static void
add_app(json_t *batch, const struct app *app)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(&app->wallet, wallet);
	add_call(batch, "sim_setApp",
	    json_pack("{s:I,s:s,s:i}", "app_id", (json_int_t)app->id, "status",
		"ACTIVE", "latest_version_id", 1));
	add_call(batch, "sim_setVersion",
	    json_pack("{s:I,s:i,s:s}", "app_id", (json_int_t)app->id,
		"version_id", 1, "status", "ENROLLED"));
	add_call(batch, "sim_setInstance",
	    json_pack("{s:I,s:I,s:i,s:s,s:s,s:s,s:s,s:b,s:s,s:I}",
		"instance_id", (json_int_t)app->id, "app_id",
		(json_int_t)app->id, "version_id", 1, "operator", wallet,
		"instance_url", "http://127.0.0.1", "tee_wallet", wallet,
		"tee_pubkey", app->spki, "zk_verified", 1, "status", "ACTIVE",
		"registered_at", (json_int_t)time(NULL)));
}

static void
make_app(struct app *app, uint64_t id)
{
	uint8_t scalar[P384_SCALAR_LEN], spki[P384_SPKI_LEN];

	app->id = id;
	if (RAND_bytes(app->wallet_key, WALLET_KEY_LEN) != 1 ||
	    RAND_bytes(scalar, sizeof(scalar)) != 1 ||
	    wallet_key_address(wallets, app->wallet_key, &app->wallet) != 0 ||
	    p384_key_new(scalar, &app->tee) != 0 ||
	    p384_agree(app->tee, &node_point, app->shared) != 0)
		die("making an identity failed");
	p384_public_spki(p384_key_point(app->tee), spki);
	hex_encode(spki, sizeof(spki), app->spki);
}

static void
make_apps(void)
{
	json_t *status = call(&node_addr, "GET", "/status", "");
	json_t *batch = json_array();
	const char *wallet = "", *pubkey = "";

	if (json_unpack(status, "{s:{s:s,s:s}}", "node", "tee_wallet", &wallet,
		"tee_pubkey", &pubkey) != 0 ||
	    eth_address_parse(wallet, strlen(wallet), &node_wallet) != 0 ||
	    p384_public_parse_hex(pubkey, strlen(pubkey), &node_point) != 0)
		die("/status names no node");
	eth_address_format(&node_wallet, node_text);
	json_decref(status);
	apps = need(calloc(app_count, sizeof(*apps)));
	for (size_t i = 0; i < app_count; i++) {
		make_app(&apps[i], 1000 + i);
		add_app(batch, &apps[i]);
		if (json_array_size(batch) > 90) {
			rpc_batch(batch);
			batch = json_array();
		}
	}
	add_call(batch, "sim_mine", json_integer(2));
	rpc_batch(batch);
}

/* ---- requests ---- */

/* Every app belongs to one connection: it has one next nonce. */
static uint64_t
own_apps(const struct conn *c)
{
	return (app_count - c->number + conn_count - 1) / conn_count;
}

static struct app *
app_of(const struct conn *c, uint64_t turn)
{
	return &apps[c->number + turn % own_apps(c) * conn_count];
}

static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void
value_of(uint64_t app, uint64_t key, char text[BASE64_LEN(VALUE_MAX) + 1])
{
	uint8_t value[VALUE_MAX];

	for (size_t i = 0; i < value_len; i++)
		value[i] = (uint8_t)(app * 31 + key * 7 + i);
	base64_encode(value, value_len, text);
}

/* A call's plaintext; 0 for one without a body. */
static size_t
plaintext_of(
    enum mode m, const struct app *app, uint64_t key, char out[TEXT_MAX])
{
	char value[BASE64_LEN(VALUE_MAX) + 1], wait[48] = "";

	if (m == DERIVE_V1 || m == DERIVE_V2)
		return (size_t)snprintf(
		    out, TEXT_MAX, "{\"path\":\"wallet/root\"}");
	if (m == GET)
		return 0;
	value_of(app->id, key, value);
	if (replicas > 0)
		(void)snprintf(
		    wait, sizeof(wait), ",\"min_replicas\":%zu", replicas);
	return (size_t)snprintf(out, TEXT_MAX,
	    "{\"key\":\"users/%08" PRIu64 "/token\",\"value\":\"%s\"%s}", key,
	    value, wait);
}

static void
target_of(
    enum mode m, uint64_t key, const char **method, char *target, size_t size)
{
	*method = m == GET ? "GET" : m == PUT || m == FILL ? "PUT" : "POST";
	if (m == GET)
		(void)snprintf(
		    target, size, "/kms/data/users/%08" PRIu64 "/token", key);
	else
		(void)snprintf(target, size, "%s",
		    m == PUT || m == FILL ? "/kms/data" : "/kms/derive");
}

/* The sealed body as JSON; its canonical hash. */
static size_t
body_of(const struct app *app, const char *plaintext, size_t len,
    char out[TEXT_MAX], uint8_t hash[SHA256_LEN])
{
	uint8_t nonce[AEAD_NONCE_LEN], sealed[TEXT_MAX / 4];
	char nonce_hex[2 * AEAD_NONCE_LEN + 1], hex[TEXT_MAX / 2 + 1];
	struct envelope_text text = { app->spki, 2 * P384_SPKI_LEN, nonce_hex,
		2 * AEAD_NONCE_LEN, hex, 2 * (len + AEAD_TAG_LEN) };

	if (len == 0) {
		if (sha256("", 0, hash) != 0)
			die("hashing");
		return 0;
	}
	if (RAND_bytes(nonce, sizeof(nonce)) != 1 ||
	    envelope_seal(app->shared, p384_key_point(app->tee), &node_point,
		nonce, plaintext, len, sealed) != 0)
		die("sealing");
	hex_encode(nonce, sizeof(nonce), nonce_hex);
	hex_encode(sealed, len + AEAD_TAG_LEN, hex);
	if (envelope_canonical_hash(&text, hash) != 0)
		die("hashing");
	return (size_t)snprintf(out, TEXT_MAX,
	    "{\"sender_tee_pubkey\":\"%s\",\"nonce\":\"%s\","
	    "\"encrypted_data\":\"%s\"}",
	    app->spki, nonce_hex, hex);
}

static void
sign(const struct app *app, const struct pop_request *request,
    const struct pop_binding *binding, char signature[SIGNATURE_TEXT_LEN + 1])
{
	uint8_t bytes[SIGNATURE_LEN];
	struct buf text;

	buf_init(&text, TEXT_MAX);
	if ((binding != NULL ? pop_request_v2_append(request, binding, &text)
			     : pop_request_append(request, &text)) != 0 ||
	    wallet_sign_message(
		wallets, app->wallet_key, text.data, text.len, bytes) != 0)
		die("signing");
	buf_free(&text);
	signature_format(bytes, signature);
}

/* A whole authenticated request. */
static size_t
compose(enum mode m, const struct app *app, const char *nonce, uint64_t key,
    char signature[SIGNATURE_TEXT_LEN + 1], char out[TEXT_MAX])
{
	char plaintext[TEXT_MAX], body[TEXT_MAX], target[64], extra[160] = "";
	char hash_hex[2 * SHA256_LEN + 1];
	const char *method;
	struct pop_request request = { POP_APP, nonce, NONCE_TEXT, node_wallet,
		(int64_t)time(NULL) };
	struct pop_binding binding = { 0 };
	size_t len = plaintext_of(m, app, key, plaintext);

	target_of(m, key, &method, target, sizeof(target));
	len = body_of(app, plaintext, len, body, binding.content_hash);
	binding.method = method;
	binding.method_len = strlen(method);
	binding.target = target;
	binding.target_len = strlen(target);
	sign(app, &request, m == DERIVE_V1 ? NULL : &binding, signature);
	hex_encode(binding.content_hash, SHA256_LEN, hash_hex);
	if (m != DERIVE_V1)
		(void)snprintf(extra, sizeof(extra),
		    "X-App-Auth: v2\r\nX-App-Content-SHA256: %s\r\n", hash_hex);
	if (len > 0)
		(void)snprintf(extra + strlen(extra),
		    sizeof(extra) - strlen(extra), "Content-Length: %zu\r\n",
		    len);
	return (size_t)snprintf(out, TEXT_MAX,
	    "%s %s HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n"
	    "X-App-Signature: %s\r\nX-App-Nonce: %s\r\n"
	    "X-App-Timestamp: %lld\r\n%s\r\n%.*s",
	    method, target, signature, nonce, (long long)request.timestamp,
	    extra, (int)len, body);
}

/* ---- answers ---- */

static const char *
member(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	if (text == NULL)
		die("an answer without %s", name);
	return text;
}

static void
verify_signature(const struct conn *c, struct http_slice signature)
{
	uint8_t bytes[SIGNATURE_LEN];
	struct eth_address signer;
	struct buf text;

	buf_init(&text, TEXT_MAX);
	if (signature_parse(signature.data, signature.len, bytes) != 0 ||
	    pop_response_append(
		c->signature, strlen(c->signature), &node_wallet, &text) != 0 ||
	    wallet_recover_message(
		wallets, text.data, text.len, bytes, &signer) != 0 ||
	    !eth_address_equal(&signer, &node_wallet))
		die("an answer is not signed by the node");
	buf_free(&text);
}

/* What the answer says is what was asked for. */
static void
verify_content(const struct conn *c, const char *text)
{
	char value[BASE64_LEN(VALUE_MAX) + 1];
	json_t *json = json_loads(text, 0, NULL);

	if (json == NULL ||
	    json_integer_value(json_object_get(json, "app_id")) !=
		(json_int_t)c->app->id)
		die("an answer is not for its app");
	if (mode == DERIVE_V1 || mode == DERIVE_V2) {
		if (strlen(member(json, "key")) != BASE64_LEN(32))
			die("a derived key has not 32 bytes");
	} else if (mode == GET) {
		value_of(c->app->id, c->key, value);
		if (strcmp(member(json, "value"), value) != 0)
			die("a value is not the one that was put");
	} else if (json_object_get(json, "updated_at_ms") == NULL) {
		die("a put without updated_at_ms");
	} else if (replicas > 0 &&
	    !json_is_true(json_object_get(json, "replicas_met"))) {
		unmet++;
	}
	json_decref(json);
}

static void
verify_envelope(const struct conn *c, const char *body, size_t len)
{
	json_t *json = json_loadb(body, len, 0, NULL);
	struct envelope_text text;
	struct p384_point sender;
	uint8_t nonce[AEAD_NONCE_LEN], bytes[TEXT_MAX];
	size_t sealed_len;

	if (json == NULL)
		die("an answer is no JSON");
	text.sender = member(json, "sender_tee_pubkey");
	text.nonce = member(json, "nonce");
	text.data = member(json, "encrypted_data");
	text.sender_len = strlen(text.sender);
	text.nonce_len = strlen(text.nonce);
	text.data_len = strlen(text.data);
	if (envelope_decode(&text, &sender, nonce, bytes, sizeof(bytes),
		&sealed_len) != 0 ||
	    !p384_point_equal(&sender, &node_point) ||
	    envelope_open(c->app->shared, p384_key_point(c->app->tee),
		&node_point, nonce, bytes, sealed_len, bytes) != 0)
		die("an answer's envelope does not open");
	bytes[sealed_len - AEAD_TAG_LEN] = '\0';
	verify_content(c, (const char *)bytes);
	json_decref(json);
}

/* {"nonce":"…"} */
static void
take_nonce(const char *body, size_t len, char nonce[NONCE_TEXT + 1])
{
	static const char start[] = "{\"nonce\":\"";

	if (len < sizeof(start) - 1 + NONCE_TEXT ||
	    memcmp(body, start, sizeof(start) - 1) != 0)
		die("an answer that is no nonce");
	memcpy(nonce, body + sizeof(start) - 1, NONCE_TEXT);
	nonce[NONCE_TEXT] = '\0';
}

static void
take_answer(
    struct conn *c, struct http_response *answer, const char *body, size_t len)
{
	struct http_slice next = { NULL, 0 }, signature = { "", 0 };
	uint64_t number = finished;

	if (answer->code != 200)
		die("%s was answered with %u: %.*s", mode_names[mode],
		    answer->code, (int)len, body);
	if (c->asks_nonce) {
		take_nonce(body, len, c->app->nonce);
		c->app->nonce_at = now_ns();
		return;
	}
	latencies[finished++] = (uint32_t)((now_ns() - c->sent_at) / 1000);
	if (mode == FETCH)
		take_nonce(body, len, c->ready->nonce);
	if (mode == NONCE || mode == FETCH)
		return;
	if (mode != DERIVE_V1) {
		if (http_header_find(
			&answer->head, "x-kms-next-nonce", &next) != 1 ||
		    next.len != NONCE_TEXT)
			die("an answer without the next nonce");
		memcpy(c->app->nonce, next.data, NONCE_TEXT);
		c->app->nonce_at = now_ns();
	}
	(void)http_header_find(
	    &answer->head, "x-kms-response-signature", &signature);
	if (signature.len == 0)
		die("an answer without a signature");
	if (number % SAMPLE == 0)
		verify_signature(c, signature);
	if (number % SAMPLE == 0 || replicas > 0)
		verify_envelope(c, body, len);
}

/* ---- connections ---- */

static void
push(struct conn *c)
{
	while (c->out_sent < c->out_len) {
		ssize_t sent = write(
		    c->fd, c->out + c->out_sent, c->out_len - c->out_sent);

		if (sent < 0)
			die("sending: %s", strerror(errno));
		c->out_sent += (size_t)sent;
	}
}

static void
put_get_nonce(struct conn *c)
{
	c->out_len = (size_t)snprintf(c->out, sizeof(c->out),
	    "GET /nonce HTTP/1.1\r\nHost: load\r\n\r\n");
}

static void
compose_next(struct conn *c)
{
	uint64_t per_app = keys / app_count, turn = c->turn;

	c->app = app_of(c, turn);
	if (mode != DERIVE_V2)
		c->key = mode == FILL
		    ? turn / own_apps(c)
		    : mix(turn * conn_count + c->number) % per_app;
	if (c->app->nonce[0] == '\0' ||
	    now_ns() - c->app->nonce_at > NONCE_LIFE_NS) {
		c->asks_nonce = true;
		put_get_nonce(c);
		return;
	}
	c->turn++;
	c->out_len =
	    compose(mode, c->app, c->app->nonce, c->key, c->signature, c->out);
	c->app->nonce[0] = '\0';
}

/* When the next request is to be sent, at a rate. */
static int64_t
due(void)
{
	return step_start + (int64_t)((double)started * 1e9 / rate);
}

/* Send the next request if there is one, and it is time. */
static void
next(struct conn *c)
{
	if (started == requests ||
	    (mode == FILL && c->turn >= own_apps(c) * (keys / app_count)))
		return;
	if (rate > 0 && now_ns() < due()) {
		idle[idle_count++] = c;
		return;
	}
	c->out_sent = c->in_len = 0;
	c->asks_nonce = false;
	if (mode == NONCE) {
		put_get_nonce(c);
	} else if (mode == FETCH) {
		c->ready = &readies[started];
		put_get_nonce(c);
	} else if (mode == DERIVE_V1) {
		c->ready = &readies[started];
		c->app = c->ready->app;
		memcpy(c->signature, c->ready->signature, sizeof(c->signature));
		memcpy(c->out, c->ready->text, c->ready->len);
		c->out_len = c->ready->len;
	} else {
		compose_next(c);
	}
	c->sent_at = rate > 0 ? due() : now_ns();
	if (!c->asks_nonce)
		started++;
	push(c);
}

static void
receive(struct conn *c)
{
	struct http_response answer;
	size_t head_len;
	ssize_t got = read(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len);
	int error;

	if (got <= 0)
		die("a connection ended: %s", strerror(errno));
	c->in_len += (size_t)got;
	http_response_init(&answer);
	error = http_response_parse(
	    &answer, c->in, c->in_len, &http_limits_default, &head_len);
	if (error != 0 && c->in_len == sizeof(c->in))
		die("an answer is no HTTP, or too long");
	if (error != 0 || c->in_len - head_len < answer.head.content_length)
		return;
	take_answer(
	    c, &answer, c->in + head_len, (size_t)answer.head.content_length);
	next(c);
}

static void
run(int epoll, enum mode m, uint64_t count)
{
	struct epoll_event events[256];

	mode = m;
	requests = count;
	started = finished = unmet = idle_count = 0;
	step_start = now_ns();
	for (size_t i = 0; i < conn_count; i++) {
		conns[i].turn = 0;
		next(&conns[i]);
	}
	while (finished < requests) {
		int n = epoll_wait(epoll, events, 256, idle_count ? 1 : 10000);

		if (n < 0 || (n == 0 && idle_count == 0))
			die("no answer within 10 s");
		while (idle_count > 0 && now_ns() >= due())
			next(idle[--idle_count]);
		for (int i = 0; i < n; i++)
			receive(events[i].data.ptr);
	}
}

/* ---- steps ---- */

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void
measure(int epoll, enum mode m, uint64_t count)
{
	struct cpu before = cpu_now(), after;
	int64_t start = now_ns();
	double n = (double)count, seconds;

	run(epoll, m, count);
	seconds = (double)(now_ns() - start) / 1e9;
	after = cpu_now();
	after.net -= before.net;
	after.keeper -= before.keeper;
	after.other -= before.other;
	qsort(latencies, count, sizeof(*latencies), compare);
	(void)printf("%s %" PRIu64 " requests %" PRIu64
		     " cpu_ns %.0f net_ns %.0f keeper_ns %.0f other_ns %.0f "
		     "rate %.0f p50_us %u p99_us %u unmet %" PRIu64 "\n",
	    mode_names[m], keys, count,
	    (double)(after.net + after.keeper + after.other) / n,
	    (double)after.net / n, (double)after.keeper / n,
	    (double)after.other / n, n / seconds, latencies[count / 2],
	    latencies[count * 99 / 100], unmet);
	(void)fflush(stdout);
}

static void
make_ready(uint64_t count)
{
	char text[TEXT_MAX];

	for (uint64_t i = 0; i < count; i++) {
		struct ready *r = &readies[i];

		r->app = &apps[i % app_count];
		r->len =
		    compose(DERIVE_V1, r->app, r->nonce, 0, r->signature, text);
		r->text = need(malloc(r->len));
		memcpy(r->text, text, r->len);
	}
}

static void
step(int epoll, const char *text)
{
	char name[16] = "";
	unsigned long long count = 0, count_keys = 1000;
	enum mode m = NONCE;

	if (sscanf(text, "%15[a-z0-9-]:%llu:%llu", name, &count, &count_keys) <
		2 ||
	    count == 0)
		die("%s: expected MODE:REQUESTS[:KEYS]", text);
	while (m <= GET && strcmp(mode_names[m], name) != 0)
		m++;
	if (m > GET || m == FETCH || (m != NONCE && apps == NULL))
		die("%s: no such mode, or without --rpc", name);
	keys = count_keys;
	if (m >= FILL && (keys < app_count || keys % app_count != 0))
		die("%s: expected a multiple of the apps as keys", text);
	if (m == FILL)
		count = keys;
	latencies = need(calloc(count, sizeof(*latencies)));
	if (m == DERIVE_V1) {
		readies = need(calloc(count, sizeof(*readies)));
		run(epoll, FETCH, count);
		make_ready(count);
	}
	measure(epoll, m, count);
	for (uint64_t i = 0; m == DERIVE_V1 && i < count; i++)
		free(readies[i].text);
	free(readies);
	readies = NULL;
	free(latencies);
}

static void
steps_of_input(int epoll)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		step(epoll, line);
	}
}

static void
options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "node", required_argument, NULL, 'n' },
		{ "rpc", required_argument, NULL, 'r' },
		{ "apps", required_argument, NULL, 'a' },
		{ "connections", required_argument, NULL, 'c' },
		{ "pid", required_argument, NULL, 'p' },
		{ "value", required_argument, NULL, 'v' },
		{ "replicas", required_argument, NULL, 'm' },
		{ "rate", required_argument, NULL, 'R' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'n')
			node_addr = address_of(optarg);
		else if (c == 'r')
			rpc_addr = address_of(optarg), has_rpc = true;
		else if (c == 'a')
			app_count = strtoul(optarg, NULL, 10);
		else if (c == 'c')
			conn_count = strtoul(optarg, NULL, 10);
		else if (c == 'v')
			value_len = strtoul(optarg, NULL, 10);
		else if (c == 'm')
			replicas = strtoul(optarg, NULL, 10);
		else if (c == 'R')
			rate = strtod(optarg, NULL);
		else if (c == 'p' && pid_count < PIDS_MAX)
			pids[pid_count++] = strtol(optarg, NULL, 10);
		else
			exit(1);
	}
	if (node_addr.sin_port == 0 || conn_count == 0 || conn_count > 1000 ||
	    (has_rpc && app_count < conn_count) || app_count > 100000 ||
	    value_len > VALUE_MAX || rate < 0 || optind == argc)
		die("usage: load --node URL [--rpc URL] [--apps N] "
		    "[--connections N] [--value BYTES] [--replicas N] "
		    "[--rate R] [--pid PID]… MODE:REQUESTS[:KEYS]…");
}

int
main(int argc, char **argv)
{
	uint8_t seed[32];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	options(argc, argv);
	if (epoll < 0 || crypto_init() != 0 || RAND_bytes(seed, 32) != 1)
		die("starting failed");
	wallets = need(wallet_context_new(seed));
	if (has_rpc)
		make_apps();
	conns = need(calloc(conn_count, sizeof(*conns)));
	idle = need(calloc(conn_count, sizeof(*idle)));
	for (size_t i = 0; i < conn_count; i++) {
		struct epoll_event event = { .events = EPOLLIN,
			.data.ptr = &conns[i] };

		conns[i].number = i;
		conns[i].fd = dial(&node_addr);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &event) != 0)
			die("epoll: %s", strerror(errno));
	}
	for (int i = optind; i < argc; i++) {
		if (strcmp(argv[i], "-") == 0)
			steps_of_input(epoll);
		else
			step(epoll, argv[i]);
	}
	for (size_t i = 0; apps != NULL && i < app_count; i++)
		p384_key_free(apps[i].tee);
	return 0;
}
