#include "kms-net/routes_sync.h"

#include "kms-net/answer.h"

void
routes_sync_request(struct conn *conn)
{
	answer_error(conn, 503, "this node does not replicate");
}
