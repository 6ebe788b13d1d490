#include "kms-net/routes_sync.h"

#include "kms-net/answer.h"
#include "kms-net/net.h"

void
routes_sync_request(struct conn *conn)
{
	struct request *request = &conn->request;
	const char *reason;

	if (conn->flight == NULL) {
		keeper_submit(conn);
	} else if (json_strings_envelope(request->data, request->data_len,
		       &request->envelope, &reason) == 0) {
		keeper_envelope(conn);
	} else {
		keeper_abandon(conn);
		answer_error(conn, 400, reason);
	}
}
