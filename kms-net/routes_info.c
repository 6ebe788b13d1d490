#include "kms-net/routes_info.h"

#include <string.h>

#include "kms-net/answer.h"
#include "kms-net/json_out.h"
#include "kms-net/net.h"
#include "kms-net/openapi.h"

#define OVERVIEW_MAX 16384

static void
answer_body(struct conn *conn, const void *data, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct answer answer = { .status = 200, .body = &iov, .body_count = 1 };

	answer_send(conn, &answer);
}

static void
put_routes(struct buf *out)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &route_table[i];

		(void)buf_printf(out, "%s{\"method\":\"%s\",\"path\":\"%s\",",
		    i > 0 ? "," : "", route_method_name(route->method),
		    route->path);
		(void)buf_printf(out, "\"auth\":\"%s\",\"summary\":\"%s\"}",
		    route->auth, route->summary);
	}
}

/* Rarely asked for, so composed each time. */
void
routes_info_overview(struct conn *conn)
{
	struct buf out;

	buf_init(&out, OVERVIEW_MAX);
	(void)buf_append_text(&out,
	    "{\"service\":\"nova-kms\",\"version\":\"1.0.0\",\"endpoints\":[");
	put_routes(&out);
	(void)buf_append_text(&out,
	    "],\"headers\":{\"request\":[\"X-App-Signature\",\"X-App-Nonce\","
	    "\"X-App-Timestamp\",\"X-App-Wallet\",\"X-App-Auth\","
	    "\"X-App-Content-SHA256\"],\"response\":["
	    "\"X-KMS-Response-Signature\",\"X-KMS-Response-Signature-V2\","
	    "\"X-KMS-Next-Nonce\",\"X-Request-Id\"]},\"extensions\":["
	    "\"auth-v2\",\"next-nonce\",\"min-replicas\"]}");
	answer_body(conn, out.data, out.len);
	buf_free(&out);
}

void
routes_info_health(struct conn *conn)
{
	static const char body[] = "{\"status\":\"healthy\"}";

	answer_body(conn, body, sizeof(body) - 1);
}

void
routes_info_ready(struct conn *conn)
{
	static const char body[] = "{\"status\":\"ready\"}";

	if (conn->net->state.ready)
		answer_body(conn, body, sizeof(body) - 1);
	else
		answer_error(conn, 503, conn->net->state.reason);
}

void
routes_info_status(struct conn *conn)
{
	const struct buf *body = &conn->net->state.status;

	answer_body(conn, body->data, body->len);
}

void
routes_info_nodes(struct conn *conn)
{
	const struct buf *body = &conn->net->state.nodes;

	answer_body(conn, body->data, body->len);
}

void
routes_info_openapi(struct conn *conn)
{
	/* One object of the assembler's with a symbol at either end. */
	answer_body(
	    /* cppcheck-suppress comparePointers */
	    conn, openapi_json, (size_t)(openapi_json_end - openapi_json));
}
