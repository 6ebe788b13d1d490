#include "kms-chain/peer_post.h"

/* Request numbers are the keeper's: in sequence, chosen by nobody else. */
#define HASH_NONFATAL_OOM 1

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uthash.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-chain/curl_loop.h"
#include "kms-chain/peer_transfer.h"
#include "proto/metrics.h"

#define CONNECTIONS_KEPT 256L
#define CONNECT_MS 5000U
#define CREDIT_STEP 32768U /* smaller debts to the keeper wait */

struct peer;

struct post {
	UT_hash_handle hh;
	TAILQ_ENTRY(post) link; /* in its peer's queue, while it waits */
	uint64_t id;
	struct peer_posts *posts;
	struct peer *peer;
	struct peer_request request;
	struct peer_transfer *transfer;
	uv_timer_t deadline;
	uint64_t began; /* loop time */
	uint64_t timeout_ms;
	bool waiting;	/* in its peer's queue */
	bool resolving; /* the resolver will call */
	bool closed;	/* forgotten, and the timer is no more */
	size_t window;	/* bytes of answer the keeper will take */
	uint64_t total; /* bytes of answer handed over */
	size_t owed;	/* credit not yet given */
};
TAILQ_HEAD(post_list, post);

/* Lives while it has a request. */
struct peer {
	TAILQ_ENTRY(peer) link;
	char host[DESTINATION_HOST_MAX + 1];
	uint16_t port;
	bool tls;
	size_t posts;
	size_t queued;
	size_t in_flight;
	struct post_list waiting;
};
TAILQ_HEAD(peer_list, peer);

struct peer_posts {
	uv_loop_t *loop;
	struct resolver *resolver;
	struct curl_loop *curl;
	struct chan *keeper;
	struct peer_posts_config config;
	struct post *table; /* by request number */
	struct peer_list peers;
	size_t count;
	size_t in_flight;
	bool running; /* the queues are being seen to */
};

static void run_queues(struct peer_posts *posts);

/* ---- peers --------------------------------------------------------------- */

static struct peer *
peer_get(struct peer_posts *posts, const struct destination *to)
{
	struct peer *peer;

	TAILQ_FOREACH (peer, &posts->peers, link) {
		if (peer->port == to->port && peer->tls == to->tls &&
		    strcmp(peer->host, to->host) == 0)
			return peer;
	}
	peer = calloc(1, sizeof(*peer));
	if (peer == NULL)
		return NULL;
	memcpy(peer->host, to->host, sizeof(peer->host));
	peer->port = to->port;
	peer->tls = to->tls;
	TAILQ_INIT(&peer->waiting);
	TAILQ_INSERT_TAIL(&posts->peers, peer, link);
	return peer;
}

static void
peer_release(struct peer_posts *posts, struct peer *peer)
{
	if (peer->posts > 0)
		return;
	TAILQ_REMOVE(&posts->peers, peer, link);
	free(peer);
}

/* ---- what the keeper is told --------------------------------------------- */

static uint64_t
elapsed(const struct post *post)
{
	return uv_now(post->posts->loop) - post->began;
}

static void
say_failed(struct chan *keeper, uint64_t id, enum peer_failure failure,
    const char *text)
{
	struct msg_writer w;

	log_debug(LOG_REQUEST "%s", (unsigned long long)id, text);
	metrics[METRIC_PEER_FAILURES + (int)failure - 1]++;
	chan_begin(keeper, &w, MSG_PEERKEEPER_FAILED, id);
	msg_put_u(&w, failure);
	msg_put_s(&w, text);
	(void)chan_end(keeper, &w);
}

/* What is left beyond is for the small messages, which do not wait. */
static bool
has_room(const struct post *post)
{
	return chan_send_room(post->posts->keeper) >= MSG_WINDOW;
}

static void
put_signatures(struct msg_writer *w, const struct peer_answer *answer)
{
	msg_put_s(w, answer->signature);
	msg_put_s(w, answer->signature_v2);
	msg_put_s(w, answer->next_nonce);
}

static int
say_envelope(struct post *post, const struct peer_answer *answer,
    const uint8_t *data, size_t len)
{
	struct msg_writer w;

	if (len > post->window || !has_room(post))
		return KMS_EAGAIN;
	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_ANSWER, post->id);
	msg_put_u(&w, elapsed(post));
	put_signatures(&w, answer);
	msg_put_s(&w, answer->sender);
	msg_put_s(&w, answer->nonce);
	msg_put_u(&w, answer->data_len);
	msg_put_d(&w, data, len);
	return chan_end(post->posts->keeper, &w);
}

static int
say_error(struct post *post, const struct peer_answer *answer)
{
	struct msg_writer w;

	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_ERROR, post->id);
	msg_put_u(&w, answer->status);
	msg_put_u(&w, elapsed(post));
	msg_put_u(&w, answer->retry_after);
	put_signatures(&w, answer);
	msg_put_s(&w, answer->code);
	msg_put_s(&w, answer->message);
	return chan_end(post->posts->keeper, &w);
}

static int
say_nonce(struct post *post, const struct peer_answer *answer)
{
	struct msg_writer w;

	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_NONCE, post->id);
	msg_put_u(&w, elapsed(post));
	msg_put_s(&w, answer->nonce);
	return chan_end(post->posts->keeper, &w);
}

static int
say_status(struct post *post, const struct peer_answer *answer)
{
	struct msg_writer w;

	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_STATUS, post->id);
	msg_put_u(&w, elapsed(post));
	msg_put_s(&w, answer->wallet);
	msg_put_b(&w, answer->available);
	msg_put_s(&w, answer->unavailable);
	return chan_end(post->posts->keeper, &w);
}

/* ---- the end of a request ------------------------------------------------ */

static void
post_free(struct post *post)
{
	if (post->closed && !post->resolving)
		free(post);
}

static void
on_deadline_closed(uv_handle_t *handle)
{
	struct post *post = handle->data;

	post->closed = true;
	post_free(post);
}

/* Forget it, whatever it waits for. */
static void
post_end(struct post *post)
{
	struct peer_posts *posts = post->posts;
	struct peer *peer = post->peer;

	HASH_DEL(posts->table, post);
	posts->count--;
	peer->posts--;
	if (post->waiting) {
		TAILQ_REMOVE(&peer->waiting, post, link);
		peer->queued--;
	} else {
		peer->in_flight--;
		metrics[METRIC_PEER_IN_FLIGHT] = --posts->in_flight;
	}
	peer_transfer_free(post->transfer);
	post->transfer = NULL;
	peer_release(posts, peer);
	uv_close((uv_handle_t *)&post->deadline, on_deadline_closed);
	run_queues(posts);
}

static void
post_fail(struct post *post, enum peer_failure failure, const char *text)
{
	say_failed(post->posts->keeper, post->id, failure, text);
	post_end(post);
}

static void
on_deadline(uv_timer_t *timer)
{
	struct post *post = timer->data;
	char text[96];

	(void)snprintf(text, sizeof(text), "no whole answer in %llu ms%s",
	    (unsigned long long)post->timeout_ms,
	    post->waiting	  ? ": others to this peer go first"
		: post->resolving ? ": its name is not resolved"
				  : "");
	post_fail(post, PEER_FAILURE_TIMEOUT, text);
}

/* ---- what a transfer tells ----------------------------------------------- */

static void
on_sent(void *arg, size_t len)
{
	struct post *post = arg;
	struct msg_writer w;

	post->owed += len;
	if (post->owed < CREDIT_STEP ||
	    peer_transfer_missing(post->transfer) == 0)
		return;
	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_CREDIT, post->id);
	msg_put_u(&w, post->owed);
	if (chan_end(post->posts->keeper, &w) == 0)
		post->owed = 0;
}

static int
on_piece(void *arg, const uint8_t *data, size_t len)
{
	struct post *post = arg;
	struct msg_writer w;
	int error;

	if (len > post->window || !has_room(post))
		return KMS_EAGAIN;
	chan_begin(post->posts->keeper, &w, MSG_PEERKEEPER_BODY, post->id);
	msg_put_d(&w, data, len);
	error = chan_end(post->posts->keeper, &w);
	if (error != 0)
		return KMS_EAGAIN;
	post->window -= len;
	post->total += len;
	return 0;
}

static int
on_answered(void *arg, const struct peer_answer *answer, const uint8_t *data,
    size_t len)
{
	struct post *post = arg;
	int error;

	if (!has_room(post))
		return KMS_EAGAIN;
	if (answer->status != 200)
		error = say_error(post, answer);
	else if (answer->kind == PEER_SYNC)
		error = say_envelope(post, answer, data, len);
	else if (answer->kind == PEER_NONCE)
		error = say_nonce(post, answer);
	else
		error = say_status(post, answer);
	/* A channel that is full has room again later, or is no more. */
	if (error != 0)
		return KMS_EAGAIN;
	log_debug(LOG_REQUEST "%u from %s in %llu ms",
	    (unsigned long long)post->id, answer->status, post->peer->host,
	    (unsigned long long)elapsed(post));
	metrics_observe(
	    METRIC_PEER_LATENCY + (size_t)answer->kind * METRICS_BUCKETS,
	    elapsed(post) * 1000);
	post_end(post);
	return 0;
}

static void
on_failed(void *arg, enum peer_failure failure, const char *text)
{
	post_fail(arg, failure, text);
}

static const struct peer_transfer_ops transfer_ops = {
	.sent = on_sent,
	.piece = on_piece,
	.answered = on_answered,
	.failed = on_failed,
};

/* ---- starting ------------------------------------------------------------ */

static void
launch(struct post *post, const struct resolve_answer *addresses)
{
	uint64_t spent = elapsed(post);
	uint64_t left = post->timeout_ms > spent ? post->timeout_ms - spent : 1;
	int error = peer_transfer_start(
	    post->transfer, addresses, left < CONNECT_MS ? left : CONNECT_MS);

	if (error == KMS_EAUTH)
		post_fail(post, PEER_FAILURE_REFUSED,
		    "its name has no address that is public");
	else if (error != 0)
		post_fail(post, PEER_FAILURE_UNREACHABLE, kms_strerror(error));
}

static void
on_resolved(const struct resolve_answer *answer, const char *text, void *arg)
{
	struct post *post = arg;

	post->resolving = false;
	if (post->transfer == NULL)
		post_free(post); /* it was given up meanwhile */
	else if (answer == NULL)
		post_fail(post, PEER_FAILURE_UNREACHABLE, text);
	else
		launch(post, answer);
}

static void
post_start(struct post *post)
{
	const struct destination *host = post->request.proxy != NULL
	    ? post->request.proxy
	    : &post->request.to;
	struct resolve_answer answer;
	int error;

	metrics[METRIC_PEER_REQUESTS + (int)post->request.kind]++;
	error = resolve_name(
	    post->posts->resolver, host, &answer, on_resolved, post);
	if (error == 0)
		post->resolving = true;
	else if (error == 1)
		launch(post, &answer);
	else
		post_fail(post,
		    error == KMS_EBUSY ? PEER_FAILURE_BUSY
				       : PEER_FAILURE_UNREACHABLE,
		    "its name cannot be resolved");
}

/* With half of the places taken, a place for one request each. */
static size_t
share(const struct peer_posts *posts)
{
	return posts->in_flight < PEER_IN_FLIGHT_MAX / 2 ? PEER_SHARE
							 : PEER_SHARE_LOADED;
}

/* The next peer whose turn it is; it then goes to the end of the row. */
static struct post *
next_post(struct peer_posts *posts)
{
	struct post *post;
	struct peer *peer;

	if (posts->in_flight == PEER_IN_FLIGHT_MAX)
		return NULL;
	TAILQ_FOREACH (peer, &posts->peers, link) {
		post = TAILQ_FIRST(&peer->waiting);
		if (post == NULL || peer->in_flight >= share(posts))
			continue;
		TAILQ_REMOVE(&posts->peers, peer, link);
		TAILQ_INSERT_TAIL(&posts->peers, peer, link);
		return post;
	}
	return NULL;
}

static void
run_queues(struct peer_posts *posts)
{
	struct post *post;

	if (posts->running)
		return;
	posts->running = true;
	while ((post = next_post(posts)) != NULL) {
		TAILQ_REMOVE(&post->peer->waiting, post, link);
		post->waiting = false;
		post->peer->queued--;
		post->peer->in_flight++;
		metrics[METRIC_PEER_IN_FLIGHT] = ++posts->in_flight;
		post_start(post);
	}
	posts->running = false;
}

/* ---- the keeper's messages ----------------------------------------------- */

static int
read_texts(const struct msg_value *v, struct peer_request *request)
{
	for (size_t i = 0; i < PEER_HEADERS; i++)
		msg_copy_text(&v[4 + i], request->headers[i],
		    sizeof(request->headers[i]));
	msg_copy_text(&v[11], request->sender, sizeof(request->sender));
	msg_copy_text(&v[12], request->nonce, sizeof(request->nonce));
	request->total = v[13].u;
	if (v[13].u < v[14].len || v[13].u > PEER_BODY_MAX)
		return KMS_EPROTO;
	/* What the GETs do not have. */
	if (request->kind != PEER_SYNC && v[13].u != 0)
		return KMS_EPROTO;
	return 0;
}

static struct post *
post_new(struct peer_posts *posts, uint64_t id)
{
	struct post *post = calloc(1, sizeof(*post));

	if (post == NULL)
		return NULL;
	post->id = id;
	post->posts = posts;
	post->began = uv_now(posts->loop);
	post->window = MSG_WINDOW;
	return post;
}

/* Into the table and its peer's queue. */
static int
post_admit(struct post *post, const char **why)
{
	struct peer_posts *posts = post->posts;

	*why = "too many requests wait already";
	if (posts->count == PEER_POSTS_MAX)
		return KMS_EBUSY;
	post->peer = peer_get(posts, &post->request.to);
	if (post->peer == NULL)
		return KMS_EBUSY;
	if (post->peer->queued == PEER_QUEUE_MAX)
		return KMS_EBUSY;
	HASH_ADD(hh, posts->table, id, sizeof(post->id), post);
	if (post->hh.tbl == NULL) {
		peer_release(posts, post->peer);
		return KMS_EBUSY;
	}
	posts->count++;
	post->peer->posts++;
	post->peer->queued++;
	post->waiting = true;
	TAILQ_INSERT_TAIL(&post->peer->waiting, post, link);
	(void)uv_timer_init(posts->loop, &post->deadline);
	post->deadline.data = post;
	(void)uv_timer_start(&post->deadline, on_deadline, post->timeout_ms, 0);
	return 0;
}

static enum peer_failure
take_url(struct post *post, const struct msg_value *url, const char **why)
{
	const struct peer_posts_config *config = &post->posts->config;
	struct destination *to = &post->request.to;

	if (peer_url_parse((const char *)url->data, url->len, &config->rules,
		to, why) != 0)
		return PEER_FAILURE_REFUSED;
	post->request.public_only = config->rules.enclave;
	if (config->proxy != NULL && peer_url_through_proxy(to, &config->rules))
		post->request.proxy = config->proxy;
	return 0;
}

static struct post *
find(struct peer_posts *posts, uint64_t id)
{
	struct post *post;

	HASH_FIND(hh, posts->table, &id, sizeof(id), post);
	return post;
}

int
peer_post_request(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_posts *posts = arg;
	const struct msg_value *v = msg->v;
	const char *why = kms_strerror(KMS_ENOMEM);
	enum peer_failure failure;
	struct post *post;
	int error;

	if (v[0].u >= PEER_KINDS || v[2].u == 0 || v[2].u > PEER_TIMEOUT_MAX ||
	    v[3].u > PEER_ANSWER_MAX || find(posts, msg->id) != NULL)
		return KMS_EPROTO;
	post = post_new(posts, msg->id);
	if (post == NULL) {
		say_failed(chan, msg->id, PEER_FAILURE_BUSY, why);
		return 0;
	}
	post->request.kind = (enum peer_kind)v[0].u;
	post->timeout_ms = v[2].u;
	post->request.answer_max = v[3].u;
	error = read_texts(v, &post->request);
	failure = take_url(post, &v[1], &why);
	if (error == 0 && failure == 0)
		error = peer_transfer_new(posts->curl, &post->request,
		    &transfer_ops, post, &post->transfer);
	if (error == 0 && failure == 0 && v[14].len > 0)
		error =
		    peer_transfer_append(post->transfer, v[14].data, v[14].len);
	if (error == 0 && failure == 0 && post_admit(post, &why) == 0) {
		run_queues(posts);
		return 0;
	}
	if (error != KMS_EPROTO)
		say_failed(chan, msg->id,
		    failure != 0 ? failure : PEER_FAILURE_BUSY, why);
	peer_transfer_free(post->transfer);
	free(post);
	return error == KMS_EPROTO ? error : 0;
}

int
peer_post_body(struct chan *chan, struct msg *msg, void *arg)
{
	struct post *post = find(arg, msg->id);
	int error;

	(void)chan;
	if (post == NULL)
		return 0; /* it crossed our reply */
	error =
	    peer_transfer_append(post->transfer, msg->v[0].data, msg->v[0].len);
	if (error == 0 || error == KMS_EPROTO)
		return error;
	/* It may have ended in there. */
	post = find(arg, msg->id);
	if (post != NULL)
		post_fail(post, PEER_FAILURE_BUSY, kms_strerror(error));
	return 0;
}

int
peer_post_cancel(struct chan *chan, struct msg *msg, void *arg)
{
	struct post *post = find(arg, msg->id);

	(void)chan;
	if (post != NULL)
		post_end(post);
	return 0;
}

int
peer_post_credit(struct chan *chan, struct msg *msg, void *arg)
{
	struct post *post = find(arg, msg->id);

	(void)chan;
	if (post == NULL)
		return 0;
	if (msg->v[0].u > MSG_WINDOW - post->window)
		return KMS_EPROTO;
	post->window += (size_t)msg->v[0].u;
	peer_transfer_resume(post->transfer);
	return 0;
}

void
peer_posts_drained(struct chan *chan, void *arg)
{
	struct peer_posts *posts = arg;
	struct post *post, *next;

	(void)chan;
	/* The next one must stay where it is meanwhile. */
	posts->running = true;
	HASH_ITER (hh, posts->table, post, next) {
		if (!post->waiting)
			peer_transfer_resume(post->transfer);
	}
	posts->running = false;
	run_queues(posts);
}

/* ---- opening ------------------------------------------------------------- */

void
peer_posts_attach(struct peer_posts *posts, struct chan *keeper)
{
	posts->keeper = keeper;
}

int
peer_posts_open(uv_loop_t *loop, struct resolver *resolver,
    const struct peer_posts_config *config, struct peer_posts **out)
{
	struct peer_posts *posts = calloc(1, sizeof(*posts));
	int error;

	if (posts == NULL)
		return KMS_ENOMEM;
	posts->loop = loop;
	posts->resolver = resolver;
	posts->config = *config;
	TAILQ_INIT(&posts->peers);
	error = curl_loop_open(loop, CONNECTIONS_KEPT, config->ca_bundle,
	    config->ca_len, peer_transfer_done, NULL, &posts->curl);
	if (error != 0) {
		free(posts);
		return error;
	}
	*out = posts;
	return 0;
}
