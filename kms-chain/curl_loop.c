#include "kms-chain/curl_loop.h"

#include <openssl/ssl.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/err.h"
#include "kms-chain/trust.h"

struct curl_loop {
	uv_loop_t *loop;
	uv_timer_t timeout; /* libcurl's */
	CURLM *multi;
	X509_STORE *authorities; /* who may sign a certificate */
	curl_loop_done_fn done;
	void *arg;
};

/* One socket of libcurl. */
struct curl_socket {
	uv_poll_t poll;
	struct curl_loop *owner;
	curl_socket_t fd;
};

static void
check_done(struct curl_loop *l)
{
	struct CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(l->multi, &left)) != NULL) {
		CURL *easy = msg->easy_handle;
		CURLcode code = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void)curl_multi_remove_handle(l->multi, easy);
		l->done(easy, code, l->arg);
	}
}

/* ---- libcurl on the loop ------------------------------------------------- */

static void
on_timeout(uv_timer_t *timer)
{
	struct curl_loop *l = timer->data;
	int running;

	(void)curl_multi_socket_action(
	    l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	check_done(l);
}

static int
on_timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
	struct curl_loop *l = arg;

	(void)multi;
	if (timeout_ms < 0)
		(void)uv_timer_stop(&l->timeout);
	else
		(void)uv_timer_start(
		    &l->timeout, on_timeout, (uint64_t)timeout_ms, 0);
	return 0;
}

static void
on_socket_poll(uv_poll_t *poll, int status, int events)
{
	struct curl_socket *s = poll->data;
	struct curl_loop *l = s->owner;
	int flags = 0, running;

	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	/* A connection that was reset may hold an answer: it is read first. */
	if (status < 0)
		flags = CURL_CSELECT_IN;
	(void)curl_multi_socket_action(l->multi, s->fd, flags, &running);
	/* on_socket_closed has not been called yet: s is still there. */
	if (status < 0 && !uv_is_closing((uv_handle_t *)poll))
		(void)curl_multi_socket_action(
		    l->multi, s->fd, CURL_CSELECT_ERR, &running);
	check_done(l);
}

static void
on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct curl_socket *
socket_new(struct curl_loop *l, curl_socket_t fd)
{
	struct curl_socket *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	if (uv_poll_init(l->loop, &s->poll, fd) != 0) {
		free(s);
		return NULL;
	}
	s->poll.data = s;
	s->owner = l;
	s->fd = fd;
	(void)curl_multi_assign(l->multi, fd, s);
	return s;
}

static int
on_socket_wanted(
    CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct curl_socket *s = socket_arg;
	struct curl_loop *l = arg;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s != NULL)
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
		(void)curl_multi_assign(l->multi, fd, NULL);
		return 0;
	}
	if (s == NULL)
		s = socket_new(l, fd);
	if (s == NULL)
		return 0; /* the transfer runs into its timeout */
	if (what & CURL_POLL_IN)
		events |= UV_READABLE;
	if (what & CURL_POLL_OUT)
		events |= UV_WRITABLE;
	(void)uv_poll_start(&s->poll, events, on_socket_poll);
	return 0;
}

/* ---- transfers ----------------------------------------------------------- */

/*
 * libcurl would read the bundle's text anew for each connection, which takes
 * longer than all the rest of it: 64 at once would stand still for seconds.
 */
static CURLcode
on_tls(CURL *easy, void *context, void *arg)
{
	struct curl_loop *l = arg;

	(void)easy;
	SSL_CTX_set1_cert_store(context, l->authorities);
	return CURLE_OK;
}

int
curl_loop_prepare(struct curl_loop *l, CURL *e)
{
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
	SET(CURLOPT_SSL_CTX_DATA, l);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
#undef SET
	return code == CURLE_OK ? 0 : KMS_EUNAVAIL;
}

int
curl_loop_start(
    struct curl_loop *l, CURL *easy, uint64_t timeout_ms, uint64_t connect_ms)
{
	if (curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms) !=
		CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
		(long)connect_ms) != CURLE_OK ||
	    curl_multi_add_handle(l->multi, easy) != CURLM_OK)
		return KMS_EUNAVAIL;
	return 0;
}

void
curl_loop_stop(struct curl_loop *l, CURL *easy)
{
	(void)curl_multi_remove_handle(l->multi, easy);
}

/* "host:port:address,address" */
struct curl_slist *
curl_loop_addresses(
    const struct destination *to, const struct resolve_answer *answer)
{
	struct curl_slist *list = NULL;
	char text[IP_ADDRESS_TEXT_SIZE];
	struct buf row;
	int error;

	buf_init(&row, 4096);
	error = buf_printf(&row, "%s:%u:", to->host, to->port);
	for (size_t i = 0; error == 0 && i < answer->count; i++) {
		ip_address_format(&answer->addresses[i], text);
		error = buf_printf(&row,
		    answer->addresses[i].family == AF_INET6 ? "%s[%s]" : "%s%s",
		    i > 0 ? "," : "", text);
	}
	if (error == 0)
		error = buf_append(&row, "", 1);
	if (error == 0)
		list = curl_slist_append(NULL, (char *)row.data);
	buf_free(&row);
	return list;
}

int
curl_loop_error(CURLcode code)
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
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
		return KMS_EAUTH;
	case CURLE_OUT_OF_MEMORY:
		return KMS_ENOMEM;
	default:
		return KMS_EUNAVAIL;
	}
}

/* ---- opening ------------------------------------------------------------- */

static int
open_multi(struct curl_loop *l, long connections)
{
	CURLM *m = curl_multi_init();
	CURLMcode code = CURLM_OK;

	if (m == NULL)
		return KMS_ENOMEM;
	l->multi = m;
#define SET(option, value)                                                     \
	if (code == CURLM_OK)                                                  \
	code = curl_multi_setopt(m, option, value)
	SET(CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
	SET(CURLMOPT_SOCKETDATA, l);
	SET(CURLMOPT_TIMERFUNCTION, on_timer_wanted);
	SET(CURLMOPT_TIMERDATA, l);
	SET(CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	SET(CURLMOPT_MAXCONNECTS, connections);
#undef SET
	return code == CURLM_OK ? 0 : KMS_EUNAVAIL;
}

int
curl_loop_open(uv_loop_t *loop, long connections, const uint8_t *ca_bundle,
    size_t ca_len, curl_loop_done_fn done, void *arg, struct curl_loop **out)
{
	struct curl_loop *l;
	int error;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return KMS_EUNAVAIL;
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return KMS_ENOMEM;
	l->loop = loop;
	l->done = done;
	l->arg = arg;
	(void)uv_timer_init(loop, &l->timeout);
	l->timeout.data = l;
	error = trust_read(ca_bundle, ca_len, &l->authorities);
	if (error == 0)
		error = open_multi(l, connections);
	if (error != 0) {
		curl_loop_close(l);
		return error;
	}
	*out = l;
	return 0;
}

static void
on_loop_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void
curl_loop_close(struct curl_loop *l)
{
	if (l == NULL)
		return;
	if (l->multi != NULL)
		(void)curl_multi_cleanup(l->multi);
	X509_STORE_free(l->authorities);
	uv_close((uv_handle_t *)&l->timeout, on_loop_closed);
}
