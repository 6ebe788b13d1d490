#include "kms-chain/resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/err.h"
#include "common/log.h"

#define SERVERS_MAX 4
#define NAMES_MAX 256	/* names remembered, the oldest goes first */
#define WAITERS_MAX 512 /* questions that may wait in all */
#define SOCKETS_MAX 64	/* c-ares sockets open at once */
#define TRY_MS 1000	/* of one query to one server, doubled per round */
#define TRIES 2
#define TTL_MIN_MS 5000
#define TTL_MAX_MS 300000
#define STALE_MS 3600000

struct waiter {
	TAILQ_ENTRY(waiter) link;
	resolve_done_fn done;
	void *arg;
};
TAILQ_HEAD(waiter_list, waiter);

struct name {
	struct resolver *resolver;
	char host[DESTINATION_HOST_MAX + 1]; /* "" : free */
	struct resolve_answer answer;
	uint64_t asked;	     /* loop time, also the order of eviction */
	uint64_t fresh_till; /* loop time */
	uint64_t stale_till;
	int asking;
	int settled; /* c-ares has answered; deliver it */
	char text[96];
	struct waiter_list waiters;
};

/* One socket of c-ares and what we poll it for. */
struct ares_socket {
	uv_poll_t poll;
	struct resolver *resolver;
	ares_socket_t fd;
};

struct resolver {
	uv_loop_t *loop;
	ares_channel channel;
	int has_servers;
	uv_timer_t timeout; /* c-ares' own timeouts */
	uv_timer_t deliver; /* callbacks are never called from resolve_name */
	size_t waiter_count;
	struct ares_socket *sockets[SOCKETS_MAX];
	struct name names[NAMES_MAX];
};

static void on_timeout(uv_timer_t *timer);
static void on_deliver(uv_timer_t *timer);

static void
arm_timeout(struct resolver *resolver)
{
	struct timeval most = { 5, 0 }, left;
	struct timeval *next = ares_timeout(resolver->channel, &most, &left);
	uint64_t ms =
	    (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1;
	int busy = 0;

	for (size_t i = 0; i < NAMES_MAX; i++)
		busy |= resolver->names[i].asking;
	if (!busy)
		(void)uv_timer_stop(&resolver->timeout);
	else
		(void)uv_timer_start(&resolver->timeout, on_timeout, ms, 0);
}

static void
on_timeout(uv_timer_t *timer)
{
	struct resolver *resolver = timer->data;

	ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm_timeout(resolver);
}

/* ---- sockets of c-ares --------------------------------------------------- */

static void
on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void
on_socket_poll(uv_poll_t *poll, int status, int events)
{
	struct ares_socket *s = poll->data;
	struct resolver *resolver = s->resolver;
	ares_socket_t fd = s->fd;
	int readable = status < 0 || (events & UV_READABLE);
	int writable = status < 0 || (events & UV_WRITABLE);

	/* s may be gone after this. */
	ares_process_fd(resolver->channel, readable ? fd : ARES_SOCKET_BAD,
	    writable ? fd : ARES_SOCKET_BAD);
	arm_timeout(resolver);
}

static struct ares_socket **
socket_slot(struct resolver *resolver, ares_socket_t fd)
{
	struct ares_socket **empty = NULL;

	for (size_t i = 0; i < SOCKETS_MAX; i++) {
		struct ares_socket **slot = &resolver->sockets[i];

		if (*slot != NULL && (*slot)->fd == fd)
			return slot;
		if (*slot == NULL && empty == NULL)
			empty = slot;
	}
	return empty;
}

static struct ares_socket *
socket_new(struct resolver *resolver, ares_socket_t fd)
{
	struct ares_socket *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	if (uv_poll_init(resolver->loop, &s->poll, fd) != 0) {
		free(s);
		return NULL;
	}
	s->poll.data = s;
	s->resolver = resolver;
	s->fd = fd;
	return s;
}

static void
on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct resolver *resolver = arg;
	struct ares_socket **slot = socket_slot(resolver, fd);
	int events =
	    (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);

	/* Without a slot the query simply runs into its timeout. */
	if (slot == NULL)
		return;
	if (events == 0) {
		if (*slot != NULL)
			uv_close(
			    (uv_handle_t *)&(*slot)->poll, on_socket_closed);
		*slot = NULL;
		return;
	}
	if (*slot == NULL)
		*slot = socket_new(resolver, fd);
	if (*slot != NULL)
		(void)uv_poll_start(&(*slot)->poll, events, on_socket_poll);
}

/* ---- answers ------------------------------------------------------------- */

static void
take_address(
    struct resolve_answer *answer, const struct ares_addrinfo_node *node)
{
	struct ip_address *out;

	if (answer->count == RESOLVE_ADDRESSES_MAX)
		return;
	out = &answer->addresses[answer->count];
	memset(out, 0, sizeof(*out));
	if (node->ai_family == AF_INET) {
		struct sockaddr_in sin;

		memcpy(&sin, node->ai_addr, sizeof(sin));
		memcpy(out->bytes, &sin.sin_addr, 4);
	} else if (node->ai_family == AF_INET6) {
		struct sockaddr_in6 sin6;

		memcpy(&sin6, node->ai_addr, sizeof(sin6));
		memcpy(out->bytes, &sin6.sin6_addr, 16);
	} else {
		return;
	}
	out->family = node->ai_family;
	answer->count++;
}

static void
on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct name *name = arg;
	uint64_t now = uv_now(name->resolver->loop), ttl = TTL_MAX_MS;
	struct resolve_answer answer = { 0 };

	(void)timeouts;
	if (status == ARES_SUCCESS && result != NULL) {
		for (struct ares_addrinfo_node *node = result->nodes;
		     node != NULL; node = node->ai_next) {
			uint64_t ms = node->ai_ttl > 0
			    ? (uint64_t)node->ai_ttl * 1000
			    : 0;

			ttl = ms < ttl ? ms : ttl;
			take_address(&answer, node);
		}
	}
	if (result != NULL)
		ares_freeaddrinfo(result);
	if (answer.count > 0) {
		name->answer = answer;
		name->fresh_till = now + (ttl < TTL_MIN_MS ? TTL_MIN_MS : ttl);
		name->stale_till = now + STALE_MS;
	}
	(void)snprintf(name->text, sizeof(name->text), "name server: %s",
	    status == ARES_SUCCESS ? "no address" : ares_strerror(status));
	name->asking = 0;
	name->settled = 1;
	(void)uv_timer_start(&name->resolver->deliver, on_deliver, 0, 0);
}

static void
deliver(struct name *name)
{
	int usable = name->answer.count > 0 &&
	    uv_now(name->resolver->loop) < name->stale_till;
	struct resolve_answer answer = name->answer;
	struct waiter_list waiters;
	struct waiter *waiter;
	char text[sizeof(name->text)];

	memcpy(text, name->text, sizeof(text));
	name->settled = 0;
	TAILQ_INIT(&waiters);
	TAILQ_CONCAT(&waiters, &name->waiters, link);
	while ((waiter = TAILQ_FIRST(&waiters)) != NULL) {
		TAILQ_REMOVE(&waiters, waiter, link);
		name->resolver->waiter_count--;
		waiter->done(usable ? &answer : NULL, text, waiter->arg);
		free(waiter);
	}
}

static void
on_deliver(uv_timer_t *timer)
{
	struct resolver *resolver = timer->data;

	for (size_t i = 0; i < NAMES_MAX; i++) {
		if (resolver->names[i].settled)
			deliver(&resolver->names[i]);
	}
}

/* ---- questions ----------------------------------------------------------- */

static struct name *
find_name(struct resolver *resolver, const char *host)
{
	struct name *oldest = NULL;

	for (size_t i = 0; i < NAMES_MAX; i++) {
		struct name *name = &resolver->names[i];

		if (strcmp(name->host, host) == 0)
			return name;
		if (!name->asking && !name->settled &&
		    (oldest == NULL || name->asked < oldest->asked))
			oldest = name;
	}
	if (oldest == NULL)
		return NULL;
	memset(oldest, 0, sizeof(*oldest));
	oldest->resolver = resolver;
	TAILQ_INIT(&oldest->waiters);
	(void)snprintf(oldest->host, sizeof(oldest->host), "%s", host);
	return oldest;
}

static void
ask(struct resolver *resolver, struct name *name)
{
	struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
		.ai_flags = ARES_AI_NOSORT };

	name->asking = 1;
	name->asked = uv_now(resolver->loop);
	ares_getaddrinfo(
	    resolver->channel, name->host, NULL, &hints, on_answer, name);
	arm_timeout(resolver);
}

static void
local_answer(struct resolve_answer *answer)
{
	answer->count = 2;
	(void)ip_address_parse("127.0.0.1", 9, &answer->addresses[0]);
	(void)ip_address_parse("::1", 3, &answer->addresses[1]);
}

int
resolve_name(struct resolver *resolver, const struct destination *to,
    struct resolve_answer *answer, resolve_done_fn done, void *arg)
{
	struct waiter *waiter;
	struct name *name;

	memset(answer, 0, sizeof(*answer));
	if (to->literal.family != 0) {
		answer->count = 1;
		answer->addresses[0] = to->literal;
		return 1;
	}
	if (to->is_local) {
		local_answer(answer);
		return 1;
	}
	if (!resolver->has_servers)
		return KMS_EUNAVAIL;
	name = find_name(resolver, to->host);
	if (name == NULL || resolver->waiter_count == WAITERS_MAX)
		return KMS_EBUSY;
	if (name->answer.count > 0 &&
	    uv_now(resolver->loop) < name->fresh_till) {
		*answer = name->answer;
		return 1;
	}
	waiter = calloc(1, sizeof(*waiter));
	if (waiter == NULL)
		return KMS_ENOMEM;
	waiter->done = done;
	waiter->arg = arg;
	TAILQ_INSERT_TAIL(&name->waiters, waiter, link);
	resolver->waiter_count++;
	if (!name->asking && !name->settled)
		ask(resolver, name);
	return 0;
}

/* ---- open and close ------------------------------------------------------ */

static int
set_servers(struct resolver *resolver, const char *const *servers, size_t count)
{
	struct ares_addr_port_node nodes[SERVERS_MAX];
	struct ip_address address;
	uint16_t port;

	memset(nodes, 0, sizeof(nodes));
	if (count > SERVERS_MAX)
		count = SERVERS_MAX;
	for (size_t i = 0; i < count; i++) {
		if (destination_parse_server(servers[i], &address, &port) !=
		    0) {
			log_error("dns-server \"%.64s\": expected an address",
			    servers[i]);
			return KMS_EINVAL;
		}
		nodes[i].family = address.family;
		nodes[i].udp_port = nodes[i].tcp_port = port;
		memcpy(&nodes[i].addr, address.bytes,
		    address.family == AF_INET ? 4 : 16);
		if (i > 0)
			nodes[i - 1].next = &nodes[i];
	}
	if (count > 0 &&
	    ares_set_servers_ports(resolver->channel, nodes) != ARES_SUCCESS)
		return KMS_ENOMEM;
	resolver->has_servers = count > 0;
	return 0;
}

static int
open_channel(struct resolver *resolver)
{
	struct in_addr unused = { 0 };
	struct ares_options options = { .flags = ARES_FLAG_NOALIASES |
		    ARES_FLAG_NOSEARCH,
		.timeout = TRY_MS,
		.tries = TRIES,
		.ndots = 1,
		.servers = &unused,
		.nservers = 1,
		.lookups = (char[]){ "b" }, /* the servers, never a file */
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = resolver };
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
	    ARES_OPT_NDOTS | ARES_OPT_SERVERS | ARES_OPT_DOMAINS |
	    ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST | ARES_OPT_SOCK_STATE_CB |
	    ARES_OPT_NOROTATE;

	return ares_init_options(&resolver->channel, &options, mask) ==
		ARES_SUCCESS
	    ? 0
	    : KMS_EUNAVAIL;
}

int
resolve_open(uv_loop_t *loop, const char *const *servers, size_t server_count,
    struct resolver **out)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));
	int error;

	if (resolver == NULL)
		return KMS_ENOMEM;
	resolver->loop = loop;
	for (size_t i = 0; i < NAMES_MAX; i++)
		TAILQ_INIT(&resolver->names[i].waiters);
	error = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS
	    ? open_channel(resolver)
	    : KMS_EUNAVAIL;
	if (error != 0)
		goto fail;
	error = set_servers(resolver, servers, server_count);
	if (error != 0)
		goto fail_channel;
	(void)uv_timer_init(loop, &resolver->timeout);
	(void)uv_timer_init(loop, &resolver->deliver);
	resolver->timeout.data = resolver->deliver.data = resolver;
	*out = resolver;
	return 0;

fail_channel:
	ares_destroy(resolver->channel);
fail:
	free(resolver);
	return error;
}
