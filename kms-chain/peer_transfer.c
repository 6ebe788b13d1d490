#include "kms-chain/peer_transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include "common/err.h"
#include "common/printable.h"
#include "kms-chain/peer_url.h"

#define IDLE_SECONDS 20L /* our nodes close after 30 */
#define FRAME_MAX 1024	 /* of the envelope around encrypted_data */
#define DOWN_MAX (MSG_CHUNK_MAX + 2U * CURL_MAX_WRITE_SIZE)

struct peer_transfer {
	struct curl_loop *curl;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *addresses;
	const struct peer_request *request;
	const struct peer_transfer_ops *ops;
	void *arg;
	bool running; /* libcurl has it */
	bool ended;   /* all of the answer has arrived */
	bool send_paused;
	bool receive_paused;
	bool address_refused;
	enum peer_failure failure; /* found in a callback */
	char text[PEER_TEXT_SIZE];
	char curl_text[CURL_ERROR_SIZE];

	/* the body that goes out: prefix, encrypted_data, suffix */
	struct buf up;
	size_t up_read;	     /* bytes of up that libcurl has */
	uint64_t up_dropped; /* bytes before up, gone for good */
	size_t prefix_len;
	uint64_t appended; /* bytes of encrypted_data so far */
	uint64_t told;	   /* of them, through ops->sent */

	struct peer_answer answer;
	uint64_t answer_len; /* bytes of body */
	struct buf down;     /* encrypted_data not yet handed on */
	uint64_t connect_ms;
	bool again; /* it goes out for the second time */
};

static const char *const header_names[PEER_HEADERS] = {
	[PEER_SIGNATURE] = "X-KMS-Signature",
	[PEER_POP_NONCE] = "X-KMS-Nonce",
	[PEER_TIMESTAMP] = "X-KMS-Timestamp",
	[PEER_WALLET] = "X-KMS-Wallet",
	[PEER_AUTH] = "X-KMS-Auth",
	[PEER_CONTENT_HASH] = "X-KMS-Content-SHA256",
	[PEER_SYNC_SIGNATURE] = "X-Sync-Signature",
};

static const char *const paths[PEER_KINDS] = {
	[PEER_SYNC] = "/sync",
	[PEER_NONCE] = "/nonce",
	[PEER_STATUS] = "/status",
};

static void
fail_with(struct peer_transfer *t, enum peer_failure failure, const char *text)
{
	if (t->failure != 0)
		return;
	t->failure = failure;
	(void)snprintf(t->text, sizeof(t->text), "%s", text);
}

/* ---- the connection ------------------------------------------------------ */

/* The address that connect() will be given, and no other, is what counts. */
static bool
address_allowed(struct peer_transfer *t, const struct sockaddr *address)
{
	struct ip_address ip = { .family = address->sa_family };
	char text[IP_ADDRESS_TEXT_SIZE];

	if (ip.family == AF_INET) {
		struct sockaddr_in sin;

		memcpy(&sin, address, sizeof(sin));
		memcpy(ip.bytes, &sin.sin_addr, 4);
	} else if (ip.family == AF_INET6) {
		struct sockaddr_in6 sin6;

		memcpy(&sin6, address, sizeof(sin6));
		memcpy(ip.bytes, &sin6.sin6_addr, 16);
	}
	if (ip_address_public(&ip))
		return true;
	ip_address_format(&ip, text);
	t->address_refused = true;
	(void)snprintf(t->curl_text, sizeof(t->curl_text),
	    "its address %s is not public", text);
	return false;
}

static curl_socket_t
on_socket_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct peer_transfer *t = arg;

	(void)purpose;
	/* A configured proxy may stand anywhere. */
	if (t->request->public_only && t->request->proxy == NULL &&
	    !address_allowed(t, &address->addr))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
	    address->protocol);
}

/* ---- sending ------------------------------------------------------------- */

/* How many bytes of encrypted_data libcurl has been given. */
static void
tell_sent(struct peer_transfer *t)
{
	uint64_t out = t->up_dropped + t->up_read;
	uint64_t data = out > t->prefix_len ? out - t->prefix_len : 0;

	if (data > t->appended)
		data = t->appended;
	if (data > t->told) {
		size_t more = (size_t)(data - t->told);

		t->told = data;
		t->ops->sent(t->arg, more);
	}
}

static size_t
on_send(char *out, size_t size, size_t count, void *arg)
{
	struct peer_transfer *t = arg;
	size_t left = t->up.len - t->up_read, room = size * count;

	if (left == 0) {
		if (peer_transfer_missing(t) == 0)
			return 0;
		t->send_paused = true;
		return CURL_READFUNC_PAUSE;
	}
	if (left > room)
		left = room;
	memcpy(out, t->up.data + t->up_read, left);
	t->up_read += left;
	tell_sent(t);
	return left;
}

static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	struct peer_transfer *t = arg;

	if (offset != 0 || origin != SEEK_SET || t->up_dropped != 0)
		return CURL_SEEKFUNC_CANTSEEK;
	t->up_read = 0;
	return CURL_SEEKFUNC_OK;
}

/* What came in one piece stays, to be sent again should the connection that
 * was kept alive turn out to be closed; of more, what has been sent goes. */
static void
drop_sent(struct peer_transfer *t)
{
	if (t->request->total <= MSG_CHUNK_MAX)
		return;
	t->up_dropped += t->up_read;
	buf_consume(&t->up, t->up_read);
	t->up_read = 0;
}

uint64_t
peer_transfer_missing(const struct peer_transfer *t)
{
	return t->request->total - t->appended;
}

static int
append_suffix(struct peer_transfer *t)
{
	return buf_printf(&t->up,
	    "\",\"nonce\":\"%s\",\"sender_tee_pubkey\":\"%s\"}",
	    t->request->nonce, t->request->sender);
}

static void unpause(struct peer_transfer *t);

int
peer_transfer_append(struct peer_transfer *t, const uint8_t *data, size_t len)
{
	int error;

	/* The window counts from what the keeper was told. */
	if (len > peer_transfer_missing(t) ||
	    t->appended + len - t->told > MSG_WINDOW)
		return KMS_EPROTO;
	drop_sent(t);
	error = buf_append(&t->up, data, len);
	if (error != 0)
		return error;
	t->appended += len;
	if (t->appended == t->request->total)
		error = append_suffix(t);
	if (error == 0 && t->send_paused) {
		t->send_paused = false;
		unpause(t);
	}
	return error;
}

/* ---- receiving ----------------------------------------------------------- */

/*
 * A peer may refuse a request before it has read all of it. libcurl then stops
 * sending, but sees the end of the answer only if it does not wait for us.
 */
static void
stop_waiting(struct peer_transfer *t)
{
	if (!t->send_paused || t->answer.status < 300)
		return;
	t->send_paused = false;
	(void)curl_easy_pause(
	    t->easy, t->receive_paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

static size_t
on_header(char *line, size_t size, size_t count, void *arg)
{
	struct peer_transfer *t = arg;
	int error = peer_answer_header(&t->answer, line, size * count);

	if (error == 0) {
		stop_waiting(t);
		return size * count;
	}
	fail_with(t,
	    error == KMS_ETOOBIG ? PEER_FAILURE_TOO_BIG
				 : PEER_FAILURE_MALFORMED,
	    t->answer.reason);
	return 0;
}

static int
take_data(void *arg, const char *piece, size_t len)
{
	struct peer_transfer *t = arg;

	return buf_append(&t->down, piece, len);
}

/* Hand on whole pieces, but never the last byte. KMS_EAGAIN, KMS_ECLOSED. */
static int
hand_on(struct peer_transfer *t)
{
	while (t->down.len > MSG_CHUNK_MAX) {
		int error = t->ops->piece(t->arg, t->down.data, MSG_CHUNK_MAX);

		if (error != 0)
			return error;
		buf_consume(&t->down, MSG_CHUNK_MAX);
	}
	return 0;
}

static void
fail_body(struct peer_transfer *t, int error)
{
	if (error == KMS_EPROTO)
		fail_with(t, PEER_FAILURE_MALFORMED, t->answer.reason);
	else if (error == KMS_ETOOBIG)
		fail_with(t, PEER_FAILURE_TOO_BIG,
		    "the answer is larger than its limit");
	else
		fail_with(t, PEER_FAILURE_BUSY, kms_strerror(error));
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	struct peer_transfer *t = arg;
	size_t len = size * count;
	int error = 0;

	/* Taken whole or not at all: libcurl offers it again. */
	if (t->down.len + len > DOWN_MAX)
		error = hand_on(t);
	if (error == KMS_EAGAIN) {
		t->receive_paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	t->answer_len += len;
	if (error == 0 && t->answer_len > t->request->answer_max)
		error = KMS_ETOOBIG;
	if (error == 0)
		error = peer_answer_body(&t->answer, data, len);
	if (error == 0)
		return len;
	fail_body(t, error);
	return 0;
}

/* ---- the end ------------------------------------------------------------- */

static enum peer_failure
failure_of(CURLcode code)
{
	if (code == CURLE_FILESIZE_EXCEEDED)
		return PEER_FAILURE_TOO_BIG;
	switch (curl_loop_error(code)) {
	case KMS_ETIMEOUT:
		return PEER_FAILURE_TIMEOUT;
	case KMS_EPROTO:
		return PEER_FAILURE_MALFORMED;
	case KMS_EAUTH:
		return PEER_FAILURE_TLS;
	case KMS_ENOMEM:
		return PEER_FAILURE_BUSY;
	default:
		return PEER_FAILURE_UNREACHABLE;
	}
}

static void
report_failure(struct peer_transfer *t)
{
	/* It may quote the other side. */
	printable_copy(t->text, strlen(t->text), t->text, sizeof(t->text));
	t->ops->failed(t->arg, t->failure, t->text);
}

static void
fail_transport(struct peer_transfer *t, CURLcode code)
{
	enum peer_failure failure = failure_of(code);

	if (t->address_refused && failure == PEER_FAILURE_UNREACHABLE)
		failure = PEER_FAILURE_REFUSED;
	fail_with(t, failure,
	    t->curl_text[0] != '\0' ? t->curl_text : curl_easy_strerror(code));
	report_failure(t);
}

static void
finish(struct peer_transfer *t)
{
	if (hand_on(t) == 0)
		(void)t->ops->answered(
		    t->arg, &t->answer, t->down.data, t->down.len);
}

/*
 * A connection that turns out to be closed while the body is sent: one that was
 * kept alive, where libcurl itself tries again only when it finds out before or
 * after, or one whose peer has answered what it did not read, which is lost
 * when it comes between libcurl's look and its sending. True when the request
 * goes out once more, on a new one.
 */
static bool
start_again(struct peer_transfer *t)
{
	if (t->again || t->failure != 0 || t->answer.status != 0 ||
	    t->up_dropped > 0 || t->send_paused ||
	    curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK)
		return false;
	t->again = true;
	t->up_read = 0;
	t->running = curl_loop_start(t->curl, t->easy, 0, t->connect_ms) == 0;
	return t->running;
}

void
peer_transfer_done(CURL *easy, CURLcode code, void *arg)
{
	struct peer_transfer *t = NULL;
	int error;

	(void)arg;
	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
	t->running = false;
	if (code == CURLE_SEND_ERROR && start_again(t))
		return;
	if (code != CURLE_OK || t->failure != 0) {
		fail_transport(t, code);
		return;
	}
	error = peer_answer_end(&t->answer);
	if (error != 0) {
		fail_body(t, error);
		report_failure(t);
		return;
	}
	t->ended = true;
	finish(t);
}

/* Callbacks run within: one of them may have found an end to it. */
static void
unpause(struct peer_transfer *t)
{
	int bits = (t->send_paused ? CURLPAUSE_SEND : 0) |
	    (t->receive_paused ? CURLPAUSE_RECV : 0);

	if (t->running && curl_easy_pause(t->easy, bits) != CURLE_OK) {
		curl_loop_stop(t->curl, t->easy);
		t->running = false;
		fail_transport(t, CURLE_WRITE_ERROR);
	}
}

void
peer_transfer_resume(struct peer_transfer *t)
{
	if (t->ended) {
		finish(t);
	} else if (t->receive_paused && hand_on(t) == 0) {
		t->receive_paused = false;
		unpause(t);
	}
}

/* ---- making one ---------------------------------------------------------- */

static int
add_header(struct peer_transfer *t, const char *name, const char *value)
{
	struct curl_slist *more;
	char line[320];

	for (const char *p = value; *p != '\0'; p++) {
		if (*p <= 0x20 || *p > 0x7e)
			return KMS_EPROTO;
	}
	(void)snprintf(line, sizeof(line), "%s:%s%s", name,
	    value[0] != '\0' ? " " : "", value);
	more = curl_slist_append(t->headers, line);
	if (more == NULL)
		return KMS_ENOMEM;
	t->headers = more;
	return 0;
}

/*
 * A peer that refuses a large body by its head alone closes the connection on
 * what is still being sent, and with it goes the refusal: such a body waits
 * until it is asked for, but for no longer than a second.
 */
static const char *
expectation(const struct peer_transfer *t)
{
	/* An empty value keeps libcurl from sending a header of its own. */
	return t->request->total > MSG_CHUNK_MAX ? "100-continue" : "";
}

static int
add_headers(struct peer_transfer *t)
{
	int error = add_header(t, "Accept", "application/json");

	if (t->request->kind != PEER_SYNC)
		return error;
	if (error == 0)
		error = add_header(t, "Content-Type", "application/json");
	if (error == 0)
		error = add_header(t, "Expect", expectation(t));
	for (size_t i = 0; error == 0 && i < PEER_HEADERS; i++) {
		if (t->request->headers[i][0] != '\0')
			error = add_header(
			    t, header_names[i], t->request->headers[i]);
	}
	return error;
}

static int
set_proxy(CURL *e, const struct destination *proxy)
{
	CURLcode code = CURLE_OK;

#define SET(option, value)                                                     \
	if (code == CURLE_OK)                                                  \
	code = curl_easy_setopt(e, option, value)
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_PROXY, proxy->url);
	SET(CURLOPT_PROXYPORT, (long)proxy->port);
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_PROXY_CAINFO, NULL);
	SET(CURLOPT_PROXY_CAPATH, NULL);
	return code == CURLE_OK ? 0 : KMS_EUNAVAIL;
}

static int
set_body(struct peer_transfer *t, CURL *e)
{
	CURLcode code = CURLE_OK;
	uint64_t len = t->prefix_len + t->request->total +
	    strlen("\",\"nonce\":\"\",\"sender_tee_pubkey\":\"\"}") +
	    strlen(t->request->nonce) + strlen(t->request->sender);

	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
	SET(CURLOPT_READFUNCTION, on_send);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, t);
	return code == CURLE_OK ? 0 : KMS_EUNAVAIL;
}

static int
set_options(struct peer_transfer *t, CURL *e)
{
	char url[DESTINATION_URL_MAX + 16];
	CURLcode code = CURLE_OK;

	(void)snprintf(url, sizeof(url), "%s%s", t->request->to.url,
	    paths[t->request->kind]);
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)t->request->answer_max);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_USERAGENT, "kms-chain");
	SET(CURLOPT_OPENSOCKETFUNCTION, on_socket_open);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_ERRORBUFFER, t->curl_text);
	SET(CURLOPT_PRIVATE, t);
#undef SET
	return code == CURLE_OK ? 0 : KMS_EUNAVAIL;
}

int
peer_transfer_new(struct curl_loop *curl, const struct peer_request *request,
    const struct peer_transfer_ops *ops, void *arg, struct peer_transfer **out)
{
	static const char prefix[] = "{\"encrypted_data\":\"";
	struct peer_transfer *t = calloc(1, sizeof(*t));
	int error = KMS_ENOMEM;

	if (t == NULL)
		return KMS_ENOMEM;
	t->curl = curl;
	t->request = request;
	t->ops = ops;
	t->arg = arg;
	buf_init(&t->up, MSG_WINDOW + FRAME_MAX);
	buf_init(&t->down, DOWN_MAX);
	peer_answer_init(&t->answer, request->kind, take_data, t);
	t->easy = curl_easy_init();
	/* First of all no signals: even freeing a handle asks for them. */
	if (t->easy != NULL)
		error = curl_loop_prepare(curl, t->easy);
	if (error == 0)
		error = add_headers(t);
	if (error == 0)
		error = set_options(t, t->easy);
	if (error == 0 && request->proxy != NULL)
		error = set_proxy(t->easy, request->proxy);
	if (error == 0 && request->kind == PEER_SYNC) {
		t->prefix_len = sizeof(prefix) - 1;
		error = buf_append(&t->up, prefix, t->prefix_len);
		if (error == 0)
			error = set_body(t, t->easy);
		if (error == 0 && request->total == 0)
			error = append_suffix(t);
	}
	if (error != 0) {
		peer_transfer_free(t);
		return error;
	}
	*out = t;
	return 0;
}

void
peer_transfer_free(struct peer_transfer *t)
{
	if (t == NULL)
		return;
	if (t->running)
		curl_loop_stop(t->curl, t->easy);
	if (t->easy != NULL)
		curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->headers);
	curl_slist_free_all(t->addresses);
	peer_answer_free(&t->answer);
	buf_free(&t->up);
	buf_free(&t->down);
	free(t);
}

/* Of the addresses those that may be connected to. */
static void
keep_public(const struct resolve_answer *from, struct resolve_answer *to)
{
	to->count = 0;
	for (size_t i = 0; i < from->count; i++) {
		if (ip_address_public(&from->addresses[i]))
			to->addresses[to->count++] = from->addresses[i];
	}
}

int
peer_transfer_start(struct peer_transfer *t,
    const struct resolve_answer *addresses, uint64_t connect_ms)
{
	const struct peer_request *request = t->request;
	const struct destination *host =
	    request->proxy != NULL ? request->proxy : &request->to;
	struct resolve_answer allowed = *addresses;
	int error;

	if (request->public_only && request->proxy == NULL)
		keep_public(addresses, &allowed);
	if (allowed.count == 0)
		return KMS_EAUTH;
	if (host->literal.family == 0) {
		t->addresses = curl_loop_addresses(host, &allowed);
		if (t->addresses == NULL ||
		    curl_easy_setopt(t->easy, CURLOPT_RESOLVE, t->addresses) !=
			CURLE_OK)
			return KMS_ENOMEM;
	}
	t->connect_ms = connect_ms;
	error = curl_loop_start(t->curl, t->easy, 0, connect_ms);
	t->running = error == 0;
	return error;
}
