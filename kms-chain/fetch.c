#include "kms-chain/fetch.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/err.h"
#include "kms-chain/trust.h"

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
	uv_timer_t timeout; /* libcurl's */
	uv_timer_t deliver; /* failures that libcurl never saw */
	struct resolver *resolver;
	CURLM *multi;
	X509_STORE *authorities; /* who may sign an endpoint's certificate */
	size_t buffered;	 /* bytes of answers under way */
	size_t idle_count;
	struct transfer_list idle;
	struct transfer_list failed;
};

/* One socket of libcurl. */
struct curl_socket {
	uv_poll_t poll;
	struct fetch *fetch;
	curl_socket_t fd;
};

static void check_done(struct fetch *fetch);

/* ---- libcurl on the loop ------------------------------------------------- */

static void
on_timeout(uv_timer_t *timer)
{
	struct fetch *fetch = timer->data;
	int running;

	(void)curl_multi_socket_action(
	    fetch->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	check_done(fetch);
}

static int
on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
	struct fetch *fetch = arg;

	(void)multi;
	if (timeout_ms < 0)
		(void)uv_timer_stop(&fetch->timeout);
	else
		(void)uv_timer_start(
		    &fetch->timeout, on_timeout, (uint64_t)timeout_ms, 0);
	return 0;
}

static void
on_socket_poll(uv_poll_t *poll, int status, int events)
{
	struct curl_socket *s = poll->data;
	struct fetch *fetch = s->fetch;
	int flags = 0, running;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	/* s may be gone after this. */
	(void)curl_multi_socket_action(fetch->multi, s->fd, flags, &running);
	check_done(fetch);
}

static void
on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct curl_socket *
socket_new(struct fetch *fetch, curl_socket_t fd)
{
	struct curl_socket *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	if (uv_poll_init(fetch->loop, &s->poll, fd) != 0) {
		free(s);
		return NULL;
	}
	s->poll.data = s;
	s->fetch = fetch;
	s->fd = fd;
	(void)curl_multi_assign(fetch->multi, fd, s);
	return s;
}

static int
on_socket_wanted(
    CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct curl_socket *s = socket_arg;
	struct fetch *fetch = arg;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL)
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
		(void)curl_multi_assign(fetch->multi, fd, NULL);
		return 0;
	}
	if (s == NULL)
		s = socket_new(fetch, fd);
	if (s == NULL)
		return 0; /* the transfer runs into its timeout */
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	(void)uv_poll_start(&s->poll, events, on_socket_poll);
	return 0;
}

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

static int
error_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return KMS_ETIMEOUT;
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, or not HTTP at all */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
		return KMS_EPROTO;
	case CURLE_OUT_OF_MEMORY:
		return KMS_ENOMEM;
	default:
		return KMS_EUNAVAIL;
	}
}

/* libcurl's text may quote a header line of the endpoint. */
static void
make_printable(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
	}
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

/*
 * libcurl would read the bundle's text anew for each connection, which takes
 * longer than all the rest of it: 64 at once would stand still for seconds.
 */
static CURLcode
on_tls(CURL *easy, void *context, void *arg)
{
	struct fetch *fetch = arg;

	(void)easy;
	SSL_CTX_set1_cert_store(context, fetch->authorities);
	return CURLE_OK;
}

/* What is alike for every transfer. 0 or KMS_EUNAVAIL. */
static int
set_common(struct transfer *t)
{
	CURL *e = t->easy;
	CURLcode code = CURLE_OK;

#define SET(option, value)                                                     \
	if (code == CURLE_OK)                                                  \
	code = curl_easy_setopt(e, option, value)
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOPROXY, "*");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_CAINFO, NULL);
	SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_SSL_CTX_FUNCTION, on_tls);
	SET(CURLOPT_SSL_CTX_DATA, t->fetch);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
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
	make_printable(t->text);
	t->done(&result, t->arg);
	transfer_rest(t);
}

static void
check_done(struct fetch *fetch)
{
	struct CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(fetch->multi, &left)) != NULL) {
		CURL *easy = msg->easy_handle;
		CURLcode code = msg->data.result;
		struct transfer *t = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
		(void)curl_multi_remove_handle(fetch->multi, easy);
		if (t->text[0] == '\0' && code != CURLE_OK)
			(void)snprintf(t->text, sizeof(t->text), "%s",
			    curl_easy_strerror(code));
		finish(t, t->error != 0 ? t->error : error_of(code));
	}
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

/* "host:port:address,address": what libcurl would otherwise ask a resolver
 * with threads and files. An address in the URL needs none. */
static int
give_addresses(struct transfer *t, const struct resolve_answer *answer)
{
	char text[IP_ADDRESS_TEXT_SIZE];
	struct buf row;
	int error;

	if (t->to->literal.family != 0)
		return 0;
	buf_init(&row, 4096);
	error = buf_printf(&row, "%s:%u:", t->to->host, t->to->port);
	for (size_t i = 0; error == 0 && i < answer->count; i++) {
		ip_address_format(&answer->addresses[i], text);
		error = buf_printf(&row,
		    answer->addresses[i].family == AF_INET6 ? "%s[%s]" : "%s%s",
		    i > 0 ? "," : "", text);
	}
	if (error == 0)
		error = buf_append(&row, "", 1);
	if (error == 0)
		t->addresses = curl_slist_append(NULL, (char *)row.data);
	buf_free(&row);
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
	if (curl_easy_setopt(t->easy, CURLOPT_TIMEOUT_MS, (long)left) !=
		CURLE_OK ||
	    curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS,
		(long)(connect > 0 ? connect : 1)) != CURLE_OK ||
	    curl_multi_add_handle(t->fetch->multi, t->easy) != CURLM_OK)
		return KMS_EUNAVAIL;
	return 0;
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

static int
open_multi(struct fetch *fetch)
{
	CURLM *m = curl_multi_init();
	CURLMcode code = CURLM_OK;

	if (m == NULL)
		return KMS_ENOMEM;
	fetch->multi = m;
#define SET(option, value)                                                     \
	if (code == CURLM_OK)                                                  \
	code = curl_multi_setopt(m, option, value)
	SET(CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
	SET(CURLMOPT_SOCKETDATA, fetch);
	SET(CURLMOPT_TIMERFUNCTION, on_timer_wanted);
	SET(CURLMOPT_TIMERDATA, fetch);
	SET(CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	SET(CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
#undef SET
	return code == CURLM_OK ? 0 : KMS_EUNAVAIL;
}

int
fetch_open(uv_loop_t *loop, struct resolver *resolver, const uint8_t *ca_bundle,
    size_t ca_len, struct fetch **out)
{
	struct fetch *fetch;
	struct transfer *first;
	int error = KMS_ENOMEM;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return KMS_EUNAVAIL;
	fetch = calloc(1, sizeof(*fetch));
	if (fetch == NULL)
		return KMS_ENOMEM;
	fetch->loop = loop;
	fetch->resolver = resolver;
	TAILQ_INIT(&fetch->idle);
	TAILQ_INIT(&fetch->failed);
	(void)uv_timer_init(loop, &fetch->timeout);
	(void)uv_timer_init(loop, &fetch->deliver);
	fetch->timeout.data = fetch->deliver.data = fetch;
	error = trust_read(ca_bundle, ca_len, &fetch->authorities);
	if (error == 0)
		error = open_multi(fetch);
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
	if (fetch->multi != NULL)
		(void)curl_multi_cleanup(fetch->multi);
	X509_STORE_free(fetch->authorities);
	free(fetch);
	return error;
}
