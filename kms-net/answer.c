#include "kms-net/answer.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "kms-net/json_out.h"
#include "kms-net/net.h"

#define HEAD_MAX 1536 /* above the sum of all that can stand in a head */
#define ERROR_BODY_MAX                                                         \
	4096 /* a message of 512 bytes, all escaped, and more                  \
	      */

static const struct status_row {
	int status;
	const char *line; /* the status line and what every answer has */
	const char *code;
} rows[] = {
#define ROW(status, phrase, code)                                              \
	{                                                                      \
		status, "HTTP/1.1 " #status " " phrase "\r\n", code            \
	}
	ROW(200, "OK", ""),
	ROW(400, "Bad Request", "bad_request"),
	ROW(403, "Forbidden", "unauthorized"),
	ROW(404, "Not Found", "not_found"),
	ROW(405, "Method Not Allowed", "method_not_allowed"),
	ROW(410, "Gone", "evicted"),
	ROW(413, "Content Too Large", "too_large"),
	ROW(414, "URI Too Long", "bad_request"),
	ROW(417, "Expectation Failed", "bad_request"),
	ROW(429, "Too Many Requests", "rate_limited"),
	ROW(431, "Request Header Fields Too Large", "bad_request"),
	ROW(501, "Not Implemented", "bad_request"),
	ROW(503, "Service Unavailable", "service_unavailable"),
	ROW(505, "HTTP Version Not Supported", "bad_request"),
	ROW(500, "Internal Server Error", "internal_error"),
#undef ROW
};

/* An unknown status is an internal error: the last row. */
static const struct status_row *
row_of(int status)
{
	size_t last = sizeof(rows) / sizeof(rows[0]) - 1;

	for (size_t i = 0; i < last; i++) {
		if (rows[i].status == status)
			return &rows[i];
	}
	return &rows[last];
}

const char *
answer_code(int status)
{
	return row_of(status)->code;
}

_Static_assert(sizeof(rows) / sizeof(rows[0]) <= METRICS_STATUSES,
    "/metrics has no room for so many statuses");

size_t
answer_status_index(int status)
{
	return (size_t)(row_of(status) - rows);
}

int
answer_status_at(size_t index)
{
	return index < sizeof(rows) / sizeof(rows[0]) ? rows[index].status : 0;
}

static char *
put(char *at, const char *text, size_t len)
{
	memcpy(at, text, len);
	return at + len;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

static char *
put_text(char *at, const char *text)
{
	return put(at, text, strlen(text));
}

static char *
put_number(char *at, uint64_t value)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	return put(at, digits + i, sizeof(digits) - i);
}

void
answer_put_id(uint64_t id, char text[ANSWER_ID_LEN])
{
	static const char digits[] = "0123456789abcdef";

	for (int shift = 60; shift >= 0; shift -= 4)
		*text++ = digits[id >> shift & 15];
}

static char *
put_slice(char *at, const char *name, struct http_slice value)
{
	if (value.len == 0)
		return at;
	at = put_text(at, name);
	at = put(at, value.data, value.len);
	return PUT(at, "\r\n");
}

static size_t
compose_head(struct conn *conn, const struct answer *answer, uint64_t length,
    char head[HEAD_MAX])
{
	char *at = put_text(head, row_of(answer->status)->line);

	at = PUT(at, "Content-Type: ");
	at = answer->type != NULL ? put_text(at, answer->type)
				  : PUT(at, "application/json");
	at = PUT(at, "\r\nContent-Length: ");
	at = put_number(at, length);
	at = PUT(at, "\r\nCache-Control: no-store\r\nX-Request-Id: ");
	if (conn->request.id == 0)
		conn->request.id = keeper_new_id(&conn->net->keeper);
	answer_put_id(conn->request.id, at);
	at += ANSWER_ID_LEN;
	at = PUT(at, "\r\n");
	if (answer->allow != NULL) {
		at = PUT(at, "Allow: ");
		at = put_text(at, answer->allow);
		at = PUT(at, "\r\n");
	}
	if (answer->retry_after > 0) {
		at = PUT(at, "Retry-After: ");
		at = put_number(at, answer->retry_after);
		at = PUT(at, "\r\n");
	}
	at = put_slice(at,
	    answer->of_node ? "X-KMS-Peer-Signature: "
			    : "X-KMS-Response-Signature: ",
	    answer->signature);
	at = put_slice(
	    at, "X-KMS-Response-Signature-V2: ", answer->signature_v2);
	at = put_slice(at, "X-KMS-Next-Nonce: ", answer->next_nonce);
	if (conn->close_after)
		at = PUT(at, "Connection: close\r\n");
	else if (conn->request.http.head.minor == 0)
		at = PUT(at, "Connection: keep-alive\r\n");
	at = PUT(at, "\r\n");
	return (size_t)(at - head);
}

void
answer_send(struct conn *conn, const struct answer *answer)
{
	char head[HEAD_MAX];
	struct iovec iov[1 + ANSWER_PARTS];
	uint64_t length = answer->rest;

	for (int i = 0; i < answer->body_count; i++) {
		iov[1 + i] = answer->body[i];
		length += answer->body[i].iov_len;
	}
	if (conn->net->state.draining)
		conn->close_after = true;
	iov[0].iov_base = head;
	iov[0].iov_len = compose_head(conn, answer, length, head);
	metrics_count_request(conn, answer->status);
	log_debug(LOG_REQUEST "%d", (unsigned long long)conn->request.id,
	    answer->status);
	conn->state = CONN_ANSWER;
	if (http_write(conn, iov,
		conn->request.head_only ? 1 : 1 + answer->body_count)) {
		if (answer->rest == 0)
			http_answered(conn);
		else
			http_due(conn, DUE_ANSWER);
	}
}

void
answer_more(struct conn *conn, const struct iovec *iov, int iov_count, int last)
{
	if (http_write(conn, iov, iov_count) && last)
		http_answered(conn);
}

void
answer_send_error(struct conn *conn, struct answer *answer,
    struct http_slice code, struct http_slice message)
{
	uint8_t memory[ERROR_BODY_MAX];
	struct buf body = {
		.data = memory, .size = sizeof(memory), .max = sizeof(memory)
	};
	struct iovec iov;

	if (answer->retry_after == 0 &&
	    (answer->status == 429 || answer->status == 503))
		answer->retry_after = 1;
	(void)buf_append_text(&body, "{\"code\":");
	(void)json_out_string(&body, code.data, code.len);
	(void)buf_append_text(&body, ",\"message\":");
	(void)json_out_string(&body, message.data, message.len);
	(void)buf_append_text(&body, "}");
	iov = (struct iovec){ body.data, body.len };
	answer->body = &iov;
	answer->body_count = 1;
	answer_send(conn, answer);
	answer->body = NULL;
}

void
answer_error(struct conn *conn, int status, const char *message)
{
	struct answer answer = { .status = status };
	const char *code = answer_code(status);

	answer_send_error(conn, &answer,
	    (struct http_slice){ code, strlen(code) },
	    (struct http_slice){ message, strlen(message) });
}

void
answer_then_close(struct conn *conn)
{
	conn->close_after = true;
	conn->unread = true;
}
