#include "kms-net/routes_kms.h"

#include "kms-net/answer.h"
#include "kms-net/net.h"

void
routes_kms_nonce(struct conn *conn)
{
	if (!conn->net->state.known || conn->net->state.draining)
		answer_error(conn, 503, conn->net->state.reason);
	else
		keeper_submit(conn);
}

void
routes_kms_request(struct conn *conn)
{
	struct request *request = &conn->request;
	const char *reason;

	if (request->route->flags & ROUTE_BODY &&
	    json_strings_envelope(request->data, request->data_len,
		&request->envelope, &reason) != 0)
		answer_error(conn, 400, reason);
	else
		keeper_submit(conn);
}
