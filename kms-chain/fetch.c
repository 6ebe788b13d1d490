#include "kms-chain/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/printable.h"
#include "kms-chain/curl_loop.h"

#define CONNECTIONS_KEPT 64L
#define CONNECT_MS 2500U
#define TEXT_SIZE (CURL_ERROR_SIZE + 16)
#define IDLE_KEPT 64 /* transfers whose handle is kept for reuse */

/* One POST under way, or resting in the idle list. */
struct transfer {
	TAILQ_ENTRY(transfer) link;
	struct fetch *fetch;
	const struct destination *to;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *addresses; /* CURLOPT_RESOLVE */
	struct buf answer;
	size_t head_len;
	int error; /* found while receiving, 0 so far */
	uint64_t deadline;
	fetch_done_fn done;
	void *arg;
	char text[TEXT_SIZE];
};
TAILQ_HEAD(transfer_list, transfer);

struct fetch {
	uv_loop_t *loop;
	uv_timer_t deliver; /* failures that libcurl never saw */
	struct resolver *resolver;
	struct curl_loop *curl;
	size_t buffered; /* bytes of answers under way */
	size_t idle_count;
	struct transfer_list idle;
	struct transfer_list failed;
};

/* ---- receiving ----------------------------------------------------------- */

/* Fewer bytes taken than were offered end the transfer. */
static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;

	if (t->fetch->buffered + len > FETCH_BUFFERED_MAX) {
		t->error = KMS_EBUSY;
		return 0;
	}
	t->error = buf_append(&t->answer, data, len);
	if (t->error != 0)
		return 0;
	t->fetch->buffered += len;
	return len;
}

static size_t
on_header(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;

	(void)data;
	t->head_len += size * count;
	if (t->head_len > FETCH_HEAD_MAX) {
		t->error = KMS_ETOOBIG;
		return 0;
	}
	return size * count;
}

/* ---- the handles --------------------------------------------------------- */

static void
transfer_free(struct transfer *t)
{
	if (t == NULL)
		return;
	if (t->easy != NULL)
		curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	curl_slist_free_all(t->addresses);
	buf_free(&t->answer);
	free(t);
}

/* What is alike for every transfer. 0 or KMS_EUNAVAIL. */
static int
set_common(struct transfer *t)
{
	CURL *e = t->easy;
	CURLcode code = CURLE_OK;
	int error = curl_loop_prepare(t->fetch->curl, e);

	if (error != 0)
		return error;
#define SET(option, value)                                                     \
	if (code == CURLE_OK)                                                  \
	code = curl_easy_setopt(e, option, value)
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_USERAGENT, "kms-chain");
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_ERRORBUFFER, t->text);
	SET(CURLOPT_PRIVATE, t);
#undef SET
	return code == CURLE_OK ? 0 : KMS_EUNAVAIL;
}

static struct transfer *
transfer_new(struct fetch *fetch)
{
	struct transfer *t = calloc(1, sizeof(*t));
	struct curl_slist *more;

	if (t == NULL)
		return NULL;
	t->fetch = fetch;
	t->easy = curl_easy_init();
	t->headers = curl_slist_append(NULL, "Content-Type: application/json");
	more = curl_slist_append(t->headers, "Expect:");
	if (t->easy == NULL || more == NULL || set_common(t) != 0) {
		transfer_free(t);
		return NULL;
	}
	return t;
}

static struct transfer *
transfer_take(struct fetch *fetch)
{
	struct transfer *t = TAILQ_FIRST(&fetch->idle);

	if (t == NULL)
		return transfer_new(fetch);
	TAILQ_REMOVE(&fetch->idle, t, link);
	fetch->idle_count--;
	return t;
}

/* The handle stays with its options; what belonged to one request goes. */
static void
transfer_rest(struct transfer *t)
{
	struct fetch *fetch = t->fetch;

	fetch->buffered -= t->answer.len;
	buf_free(&t->answer);
	(void)curl_easy_setopt(t->easy, CURLOPT_RESOLVE, NULL);
	(void)curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, NULL);
	curl_slist_free_all(t->addresses);
	t->addresses = NULL;
	if (fetch->idle_count == IDLE_KEPT) {
		transfer_free(t);
		return;
	}
	TAILQ_INSERT_HEAD(&fetch->idle, t, link);
	fetch->idle_count++;
}

/* ---- ending -------------------------------------------------------------- */

static void
finish(struct transfer *t, int error)
{
	struct fetch_result result = { .error = error,
		.body = (const char *)t->answer.data,
		.len = t->answer.len,
		.text = t->text };

	if (error == 0)
		(void)curl_easy_getinfo(
		    t->easy, CURLINFO_RESPONSE_CODE, &result.status);
	else if (error == KMS_ETOOBIG)
		(void)snprintf(t->text, sizeof(t->text),
		    "answer larger than %zu bytes", t->answer.max);
	else if (error == KMS_EBUSY)
		(void)snprintf(t->text, sizeof(t->text),
		    "no memory left for answers under way");
	else if (t->text[0] == '\0')
		(void)snprintf(
		    t->text, sizeof(t->text), "%s", kms_strerror(error));
	/* It may quote the other side. */
	printable_copy(t->text, strlen(t->text), t->text, sizeof(t->text));
	t->done(&result, t->arg);
	transfer_rest(t);
}

static void
on_done(CURL *easy, CURLcode code, void *arg)
{
	struct transfer *t = NULL;
	int error = curl_loop_error(code);

	(void)arg;
	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
	if (t->text[0] == '\0' && code != CURLE_OK)
		(void)snprintf(
		    t->text, sizeof(t->text), "%s", curl_easy_strerror(code));
	if (error == KMS_EAUTH)
		error = KMS_EUNAVAIL;
	finish(t, t->error != 0 ? t->error : error);
}

static void
on_deliver(uv_timer_t *timer)
{
	struct fetch *fetch = timer->data;
	struct transfer *t;

	while ((t = TAILQ_FIRST(&fetch->failed)) != NULL) {
		TAILQ_REMOVE(&fetch->failed, t, link);
		finish(t, t->error);
	}
}

/* ---- starting ------------------------------------------------------------ */

/* An address in the URL needs none. */
static int
give_addresses(struct transfer *t, const struct resolve_answer *answer)
{
	if (t->to->literal.family != 0)
		return 0;
	t->addresses = curl_loop_addresses(t->to, answer);
	if (t->addresses == NULL ||
	    curl_easy_setopt(t->easy, CURLOPT_RESOLVE, t->addresses) !=
		CURLE_OK)
		return KMS_ENOMEM;
	return 0;
}

static int
launch(struct transfer *t, const struct resolve_answer *answer)
{
	uint64_t now = uv_now(t->fetch->loop);
	uint64_t left = t->deadline > now ? t->deadline - now : 0;
	uint64_t connect = left / 2 < CONNECT_MS ? left / 2 : CONNECT_MS;
	int error;

	if (left == 0)
		return KMS_ETIMEOUT;
	error = give_addresses(t, answer);
	if (error != 0)
		return error;
	return curl_loop_start(
	    t->fetch->curl, t->easy, left, connect > 0 ? connect : 1);
}

static void
fail_later(struct transfer *t, int error)
{
	t->error = error;
	TAILQ_INSERT_TAIL(&t->fetch->failed, t, link);
	(void)uv_timer_start(&t->fetch->deliver, on_deliver, 0, 0);
}

static void
on_resolved(const struct resolve_answer *answer, const char *text, void *arg)
{
	struct transfer *t = arg;
	int error = KMS_EUNAVAIL;

	if (answer != NULL)
		error = launch(t, answer);
	else
		(void)snprintf(t->text, sizeof(t->text), "%s", text);
	if (error != 0)
		fail_later(t, error);
}

int
fetch_post(struct fetch *fetch, const struct destination *to, const void *body,
    size_t len, size_t answer_max, uint64_t timeout_ms, fetch_done_fn done,
    void *arg)
{
	struct transfer *t = transfer_take(fetch);
	struct resolve_answer answer;
	int error = KMS_ENOMEM;

	if (t == NULL)
		return KMS_ENOMEM;
	t->to = to;
	t->done = done;
	t->arg = arg;
	t->error = 0;
	t->head_len = 0;
	t->text[0] = '\0';
	t->deadline = uv_now(fetch->loop) + timeout_ms;
	buf_init(&t->answer, answer_max);
	if (curl_easy_setopt(t->easy, CURLOPT_URL, to->url) != CURLE_OK ||
	    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long)len) !=
		CURLE_OK ||
	    curl_easy_setopt(t->easy, CURLOPT_COPYPOSTFIELDS, body) != CURLE_OK)
		goto fail;
	error = resolve_name(fetch->resolver, to, &answer, on_resolved, t);
	if (error == 1)
		error = launch(t, &answer);
	if (error == 0)
		return 0;
fail:
	transfer_rest(t);
	return error;
}

/* ---- opening ------------------------------------------------------------- */

int
fetch_open(uv_loop_t *loop, struct resolver *resolver, const uint8_t *ca_bundle,
    size_t ca_len, struct fetch **out)
{
	struct fetch *fetch;
	struct transfer *first;
	int error = KMS_ENOMEM;

	fetch = calloc(1, sizeof(*fetch));
	if (fetch == NULL)
		return KMS_ENOMEM;
	fetch->loop = loop;
	fetch->resolver = resolver;
	TAILQ_INIT(&fetch->idle);
	TAILQ_INIT(&fetch->failed);
	(void)uv_timer_init(loop, &fetch->deliver);
	fetch->deliver.data = fetch;
	error = curl_loop_open(loop, CONNECTIONS_KEPT, ca_bundle, ca_len,
	    on_done, fetch, &fetch->curl);
	if (error != 0)
		goto fail;
	/* The first handle shows now whether every option is understood. */
	error = KMS_EUNAVAIL;
	first = transfer_new(fetch);
	if (first == NULL)
		goto fail;
	transfer_rest(first);
	*out = fetch;
	return 0;

fail:
	curl_loop_close(fetch->curl);
	free(fetch);
	return error;
}
