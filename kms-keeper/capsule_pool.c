#include "kms-keeper/capsule_pool.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/capsule_http.h"
#include "proto/metrics.h"

#define READ_SIZE 65536
#define READS_AT_ONCE 16
#define REQUEST_HEAD_MAX 512

struct call {
	TAILQ_ENTRY(call) link; /* while it waits */
	enum label_identity_call kind;
	struct buf request;
	size_t answer_max;
	bool repeatable, first;
	unsigned int tries;
	int64_t deadline_ms;
	uint64_t asked_ns;
	capsule_done_fn done;
	void *arg;
};

TAILQ_HEAD(calls, call);

struct connection {
	TAILQ_ENTRY(connection) link;
	struct capsule_pool *pool;
	uv_poll_t poll;
	int fd;
	int events;
	struct call *call; /* NULL: idle */
	size_t written;	   /* of its request */
	struct capsule_http http;
	bool served; /* it has carried an answer */
};

TAILQ_HEAD(connections, connection);

struct capsule_pool {
	uv_loop_t *loop;
	const char *host;
	struct capsule_pool_ops ops;
	struct connections connections;
	size_t count;
	size_t busy;
	size_t asked; /* connections wanted that have not come */
	struct calls queue;
	size_t queued;
	size_t calls; /* open ones */
	size_t bytes; /* of their requests */
	bool shut;
	bool pumping, pump_again;
	unsigned int barren; /* connections in a row that gave nothing */
	int64_t now_ms;	     /* 0: before the first tick */
	int64_t want_ms;     /* none is wanted before */
};

static void pump(struct capsule_pool *pool);
static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- calls ---- */

static void
finish(struct capsule_pool *pool, struct call *call, int error,
    unsigned int status, const struct buf *body)
{
	capsule_done_fn done = call->done;
	void *arg = call->arg;

	if (error != 0)
		metrics[METRIC_KEEPER_IDENTITY_FAILURES + call->kind]++;
	else
		metrics_observe(METRIC_KEEPER_IDENTITY_LATENCY +
			(size_t)call->kind * METRICS_BUCKETS,
		    (uv_hrtime() - call->asked_ns) / 1000);
	pool->calls--;
	pool->bytes -= call->request.len;
	buf_free(&call->request);
	free(call);
	done(arg, error, status, body);
}

static void
enqueue(struct capsule_pool *pool, struct call *call, bool at_head)
{
	if (at_head)
		TAILQ_INSERT_HEAD(&pool->queue, call, link);
	else
		TAILQ_INSERT_TAIL(&pool->queue, call, link);
	pool->queued++;
}

static void
dequeue(struct capsule_pool *pool, struct call *call)
{
	TAILQ_REMOVE(&pool->queue, call, link);
	pool->queued--;
}

/* ---- connections ---- */

static void
on_closed(uv_handle_t *handle)
{
	struct connection *c = handle->data;

	(void)close(c->fd);
	free(c);
}

/* Close it; whatever call it had was taken away before. */
static void
end_connection(struct connection *c, bool announced)
{
	struct capsule_pool *pool = c->pool;

	TAILQ_REMOVE(&pool->connections, c, link);
	pool->count--;
	capsule_http_free(&c->http);
	uv_close((uv_handle_t *)&c->poll, on_closed);
	if (announced)
		return;
	if (!c->served) {
		int64_t delay = CAPSULE_BARREN_FIRST_MS << pool->barren;

		if (delay < CAPSULE_BARREN_LAST_MS)
			pool->barren++;
		else
			delay = CAPSULE_BARREN_LAST_MS;
		pool->want_ms = pool->now_ms + delay;
	}
	if (pool->ops.lost != NULL)
		pool->ops.lost(pool->ops.arg);
}

static struct call *
take_call(struct connection *c)
{
	struct call *call = c->call;

	c->call = NULL;
	c->pool->busy--;
	return call;
}

/* The connection is of no use any more, and perhaps its call. */
static void
fail(struct connection *c, int error)
{
	struct capsule_pool *pool = c->pool;
	bool untouched = c->written == 0, begun = c->http.begun, again;
	struct call *call;

	if (c->call == NULL) {
		end_connection(c, false);
		return;
	}
	call = take_call(c);
	again = error == KMS_ECLOSED && ++call->tries < CAPSULE_TRIES &&
	    (untouched || (call->repeatable && !begun));
	if (again)
		enqueue(pool, call, true);
	end_connection(c, false);
	if (!again)
		finish(pool, call, error, 0, NULL);
}

static void
update_events(struct connection *c)
{
	int events = UV_READABLE;

	if (c->call != NULL && c->written < c->call->request.len)
		events |= UV_WRITABLE;
	if (events == c->events)
		return;
	c->events = events;
	(void)uv_poll_start(&c->poll, events, on_poll);
}

static void
write_more(struct connection *c)
{
	const struct buf *request = &c->call->request;

	while (c->written < request->len) {
		ssize_t put = write(c->fd, request->data + c->written,
		    request->len - c->written);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno != EAGAIN) {
			fail(c, KMS_ECLOSED);
			return;
		}
		if (put < 0)
			break;
		c->written += (size_t)put;
	}
	update_events(c);
}

static void
complete(struct connection *c)
{
	struct capsule_pool *pool = c->pool;
	struct call *call = take_call(c);
	struct buf body = c->http.body;
	unsigned int status = c->http.response.code;
	/* An answer that did not wait for its question ends the matter. */
	bool reusable =
	    capsule_http_reusable(&c->http) && c->written == call->request.len;

	buf_init(&c->http.body, 0);
	c->served = true;
	pool->barren = 0;
	if (reusable) {
		capsule_http_free(&c->http);
		update_events(c);
	} else {
		end_connection(c, true);
	}
	finish(pool, call, 0, status, &body);
	buf_free(&body);
}

static void
read_more(struct connection *c)
{
	static uint8_t space[READ_SIZE];
	int error = KMS_EAGAIN;

	for (int i = 0; error == KMS_EAGAIN && i < READS_AT_ONCE; i++) {
		ssize_t got = read(c->fd, space, sizeof(space));

		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (got <= 0) {
			fail(c, KMS_ECLOSED);
			return;
		}
		error = capsule_http_feed(&c->http, space, (size_t)got);
		OPENSSL_cleanse(space, (size_t)got);
	}
	if (error == 0) {
		complete(c);
	} else if (error != KMS_EAGAIN) {
		log_warn("identity service: an answer is refused: %s",
		    c->http.reason);
		fail(c, error);
	}
}

/* Is a connection that was idle still there, and silent? */
static bool
is_alive(const struct connection *c)
{
	uint8_t byte;

	return read(c->fd, &byte, 1) < 0 && (errno == EAGAIN || errno == EINTR);
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	struct connection *c = poll->data;
	struct capsule_pool *pool = c->pool;

	pool->pumping = true;
	if (c->call == NULL) {
		if (status < 0 || !is_alive(c))
			end_connection(c, false);
	} else if (status < 0) {
		fail(c, KMS_ECLOSED);
	} else if (events & UV_READABLE) {
		read_more(c);
	} else {
		write_more(c);
	}
	pool->pumping = false;
	pump(pool);
}

/* ---- which call goes where ---- */

static struct call *
next_call(struct capsule_pool *pool)
{
	struct call *call;

	TAILQ_FOREACH (call, &pool->queue, link) {
		if (!pool->shut || call->first)
			return call;
	}
	return NULL;
}

static struct connection *
idle_connection(struct capsule_pool *pool)
{
	struct connection *c, *next;

	for (c = TAILQ_FIRST(&pool->connections); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->call != NULL)
			continue;
		if (is_alive(c))
			return c;
		end_connection(c, false);
	}
	return NULL;
}

/* One connection at least; one for each call, up to the bound. */
static void
refill(struct capsule_pool *pool)
{
	size_t needed = pool->busy + pool->queued, missing;

	if (needed < 1)
		needed = 1;
	if (needed > CAPSULE_CONNECTIONS)
		needed = CAPSULE_CONNECTIONS;
	if (pool->count + pool->asked >= needed || pool->now_ms == 0 ||
	    pool->now_ms < pool->want_ms)
		return;
	missing = needed - pool->count - pool->asked;
	pool->asked += missing;
	pool->ops.want(pool->ops.arg, (unsigned int)missing);
}

static void
start(struct connection *c, struct call *call)
{
	dequeue(c->pool, call);
	c->call = call;
	c->pool->busy++;
	c->written = 0;
	capsule_http_init(&c->http, call->answer_max);
	write_more(c);
}

/* Callbacks may ask and end calls meanwhile: those wait for the next turn. */
static void
pump(struct capsule_pool *pool)
{
	struct connection *c;
	struct call *call;

	pool->pump_again = true;
	if (pool->pumping)
		return;
	pool->pumping = true;
	while (pool->pump_again) {
		pool->pump_again = false;
		while ((call = next_call(pool)) != NULL &&
		    (c = idle_connection(pool)) != NULL)
			start(c, call);
	}
	pool->pumping = false;
	refill(pool);
}

/* ---- life ---- */

struct capsule_pool *
capsule_pool_new(
    uv_loop_t *loop, const char *host, const struct capsule_pool_ops *ops)
{
	struct capsule_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->loop = loop;
	pool->host = host;
	pool->ops = *ops;
	TAILQ_INIT(&pool->connections);
	TAILQ_INIT(&pool->queue);
	return pool;
}

void
capsule_pool_free(struct capsule_pool *pool)
{
	struct connection *c;
	struct call *call;

	if (pool == NULL)
		return;
	pool->ops.lost = NULL;
	pool->pumping = true; /* nothing starts any more */
	while ((c = TAILQ_FIRST(&pool->connections)) != NULL) {
		call = c->call == NULL ? NULL : take_call(c);
		end_connection(c, false);
		if (call != NULL)
			finish(pool, call, KMS_ECLOSED, 0, NULL);
	}
	while ((call = TAILQ_FIRST(&pool->queue)) != NULL) {
		dequeue(pool, call);
		finish(pool, call, KMS_ECLOSED, 0, NULL);
	}
	free(pool);
}

int
capsule_pool_take(struct capsule_pool *pool, int fd)
{
	struct connection *c = NULL;
	int error = KMS_EPROTO;

	if (pool->asked == 0)
		goto fail;
	pool->asked--;
	error = KMS_ENOMEM;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		goto fail;
	c->pool = pool;
	c->fd = fd;
	error = KMS_ESYS;
	if (uv_poll_init(pool->loop, &c->poll, fd) != 0)
		goto fail;
	c->poll.data = c;
	TAILQ_INSERT_TAIL(&pool->connections, c, link);
	pool->count++;
	update_events(c);
	pump(pool);
	return 0;

fail:
	free(c);
	(void)close(fd);
	return error;
}

static int
compose(struct capsule_pool *pool, const struct capsule_question *question,
    struct buf *request)
{
	size_t body_len = question->body == NULL ? 0 : question->body->len;

	if (body_len > CAPSULE_REQUEST_MAX)
		return KMS_ETOOBIG;
	if (!question->first &&
	    (pool->calls >= CAPSULE_CALLS_MAX ||
		pool->bytes + body_len > CAPSULE_CALLS_BYTES))
		return KMS_EBUSY;
	buf_init(request, body_len + REQUEST_HEAD_MAX);
	return capsule_http_request(
	    request, pool->host, question->target, question->body);
}

int
capsule_pool_ask(struct capsule_pool *pool,
    const struct capsule_question *question, capsule_done_fn done, void *arg)
{
	struct call *call = calloc(1, sizeof(*call));
	int error;

	if (call == NULL)
		return KMS_ENOMEM;
	error = compose(pool, question, &call->request);
	if (error != 0) {
		buf_free(&call->request);
		free(call);
		return error;
	}
	call->kind = question->kind;
	call->answer_max = question->answer_max;
	call->repeatable = question->repeatable;
	call->first = question->first;
	call->deadline_ms = pool->now_ms + question->timeout_ms;
	call->asked_ns = uv_hrtime();
	call->done = done;
	call->arg = arg;
	pool->calls++;
	pool->bytes += call->request.len;
	enqueue(pool, call, question->first);
	pump(pool);
	return 0;
}

void
capsule_pool_shut(struct capsule_pool *pool, bool shut)
{
	struct call *call, *next;

	pool->shut = shut;
	for (call = TAILQ_FIRST(&pool->queue); shut && call != NULL;
	     call = next) {
		next = TAILQ_NEXT(call, link);
		if (call->first)
			continue;
		dequeue(pool, call);
		finish(pool, call, KMS_EUNAVAIL, 0, NULL);
		/* What was behind it may be gone by now. */
		next = TAILQ_FIRST(&pool->queue);
	}
	pump(pool);
}

/* The first call past its deadline ends; false when there is none. */
static bool
expire_one(struct capsule_pool *pool)
{
	struct connection *c;
	struct call *call;

	TAILQ_FOREACH (call, &pool->queue, link) {
		if (call->deadline_ms > pool->now_ms)
			continue;
		dequeue(pool, call);
		finish(pool, call, KMS_ETIMEOUT, 0, NULL);
		return true;
	}
	TAILQ_FOREACH (c, &pool->connections, link) {
		if (c->call == NULL || c->call->deadline_ms > pool->now_ms)
			continue;
		/* Its answer may still come: not to the next call. */
		fail(c, KMS_ETIMEOUT);
		return true;
	}
	return false;
}

void
capsule_pool_tick(struct capsule_pool *pool, int64_t now_ms)
{
	pool->now_ms = now_ms;
	while (expire_one(pool))
		continue;
	pump(pool);
}

size_t
capsule_pool_count(const struct capsule_pool *pool)
{
	return pool->count;
}
