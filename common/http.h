/*
 * The strict HTTP/1.1 reader: a pure, incremental parser of requests (kms-net)
 * and answers (the keeper's identity client). It allocates nothing, reads no
 * clock and no socket. What is ambiguous to some other reader is refused here,
 * so that nobody in front of us can disagree about where a message ends.
 *
 *	http_request_init(&req);
 *	rc = http_request_parse(&req, data, len, &limits, &consumed);
 *	KMS_EAGAIN: append more to data and call again
 *	0: read the body of data + consumed with http_body_feed
 *	else: answer with req.head.status, close; nothing may follow
 *
 * Accepted (RFC 9112, narrowed): HTTP/1.1 and 1.0; origin-form targets of
 * visible ASCII without '#'; any method token of at most 16 bytes (routes
 * decide 405); header values of HTAB, SP, visible ASCII and bytes from 0x80,
 * which are opaque (proxies put such into headers of their own). Lines end in
 * CR LF; no empty line stands before a request.
 *
 * Refused with 400 unless said otherwise:
 *  - control characters (NUL, bare CR, bare LF, DEL) anywhere in a head; a
 *    folded line; white space around the name; a name that is no token;
 *  - 505 a version other than 1.0 and 1.1; 414 a target beyond its limit; 431
 *    a head or a number of headers beyond theirs; 501 a longer method;
 *  - Content-Length that is not 1..19 digits, is repeated (also when equal),
 *    or stands beside Transfer-Encoding; 413 when above the limit;
 *  - Transfer-Encoding that is not exactly "chunked" in any case, is repeated
 *    or in HTTP/1.0; 501 when it names a coding other than chunked;
 *  - a name whose letters, everything else left out, spell contentlength or
 *    transferencoding, and that is neither of the two: Content_Length,
 *    Content-Length0, Transfer.Encoding-;
 *  - no Host in 1.1, or two; a Host that is not a name of letters, digits,
 *    '-', '.', '_' or a bracketed IPv6 literal, with an optional port;
 *  - a Connection that is no list of tokens; a repeated Expect; 417 one other
 *    than 100-continue.
 *
 * A verdict does not depend on how the bytes were split.
 */
#ifndef KMS_COMMON_HTTP_H
#define KMS_COMMON_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_METHOD_MAX 16    /* bytes */
#define HTTP_HEADERS_MAX 100  /* most a limit can allow */
#define HTTP_HEAD_MAX 65535   /* bytes, most a limit can allow */
#define HTTP_CHUNK_DIGITS 16  /* of a chunk size, leading zeros included */
#define HTTP_LENGTH_DIGITS 19 /* of a Content-Length, likewise */

struct http_limits {
	size_t target;	  /* bytes of a request target; beyond: 414 */
	size_t head;	  /* bytes of a head with its empty line; 431 */
	size_t headers;	  /* header lines; 431 */
	uint64_t body;	  /* bytes of content; 413 */
	size_t extension; /* bytes of all chunk extensions of a body; 400 */
	size_t trailer;	  /* bytes of trailer lines, line ends included; 400 */
};

/* 8 KiB, 16 KiB, 100, 1 MiB, 256, 1024. Copy it to change one. */
extern const struct http_limits http_limits_default;

/* A piece of the head, counted from head->base. Read it with http_text. */
struct http_span {
	uint16_t at;
	uint16_t len;
};

/* Borrowed bytes, not NUL-terminated. */
struct http_slice {
	const char *data;
	size_t len;
};

struct http_header {
	struct http_span name;	/* as sent */
	struct http_span value; /* without white space at either end */
};

enum http_framing {
	HTTP_BODY_NONE,	  /* nothing follows the head */
	HTTP_BODY_LENGTH, /* content_length bytes follow, perhaps 0 */
	HTTP_BODY_CHUNKED
};

/* What requests and answers have in common. Fields hold after a parse of 0. */
struct http_head {
	/*
	 * The buffer of the last parse call. Everything else is counted from
	 * here, so a buffer that has moved is mended by setting base anew.
	 */
	const char *base;
	int status;	    /* when refused: what to answer, else 0 */
	const char *reason; /* when refused: what was expected, static text */
	uint64_t content_length;
	enum http_framing framing;
	uint8_t minor;	      /* HTTP/1.minor: 0 or 1 */
	bool keep_alive;      /* the connection may carry another message */
	bool expect_continue; /* HTTP/1.1, a body follows, and the client
				 waits for 100 Continue */

	uint8_t seen; /* private, as are the following */
	uint8_t state;
	int error;
	uint32_t scan; /* bytes looked at; no call looks at them again */
	uint32_t line; /* where the current line starts */

	uint16_t header_count;
	struct http_header headers[HTTP_HEADERS_MAX];
};

struct http_request {
	struct http_head head;
	struct http_span method;
	struct http_span target; /* starts with '/', not decoded */
};

struct http_response {
	struct http_head head;
	uint16_t code; /* 100..599 */
};

/* Start a message. Nothing is to be freed. */
void http_request_init(struct http_request *req);
void http_response_init(struct http_response *response);

/*
 * Read a request's head. data starts with the first byte of the request and
 * has len bytes, those of the calls before included (they are not looked at
 * again, but must be the same); it may lie elsewhere than last time.
 *
 * 0: the head is complete, it is the first *consumed bytes; what follows is
 * the body and perhaps the next request. KMS_EAGAIN: not complete yet.
 * KMS_EPROTO, KMS_ETOOBIG: refused, see req->head.status and reason; every
 * later call says the same.
 */
int http_request_parse(struct http_request *req, const void *data, size_t len,
    const struct http_limits *limits, size_t *consumed);

/*
 * Read the head of an answer to a request other than HEAD; as above, status
 * being 502 whenever it is refused. An answer needs Content-Length or
 * chunked: one that ends with its connection is refused. 1xx (framing none;
 * 101 is refused) precedes the final answer: init again and read on.
 * 204 and 304 have no body; 204 may say Content-Length: 0.
 */
int http_response_parse(struct http_response *response, const void *data,
    size_t len, const struct http_limits *limits, size_t *consumed);

/* The bytes of a span, valid as long as head->base. */
static inline struct http_slice
http_text(const struct http_head *head, struct http_span span)
{
	return (struct http_slice){ head->base + span.at, span.len };
}

/*
 * How often a header occurs; *value (may be NULL) is the first of them,
 * unchanged when there is none. name is in lower case.
 */
unsigned http_header_find(
    const struct http_head *head, const char *name, struct http_slice *value);

/* Whether the slice is that text; nocase: text is in lower case. */
bool http_slice_is(struct http_slice slice, const char *text);
bool http_slice_is_nocase(struct http_slice slice, const char *text);

/* A body being read. */
struct http_body {
	int status;	    /* when refused: what to answer, else 0 */
	const char *reason; /* when refused: what was expected, static text */
	uint64_t total;	    /* bytes of content handed out so far */

	uint8_t state; /* private, as are the following */
	uint8_t digits;
	int error;
	uint64_t left; /* bytes to come of this body or chunk */
	uint64_t limit;
	size_t extension_left;
	size_t trailer_left;
};

/*
 * Start reading the body that a complete head announces, with limits that
 * may be tighter than those of the head (a route knows its own).
 * KMS_ETOOBIG (413) when the declared length is above limits->body.
 */
int http_body_init(struct http_body *body, const struct http_head *head,
    const struct http_limits *limits);

/*
 * Decode from in (in_len bytes, from where the last call stopped). Takes *used
 * of them and sets *out, *out_len to the next piece of content: a part of in,
 * *out_len 0 when there was none.
 *
 * KMS_EAGAIN: call again with the rest, or when more has come (of in_len > 0,
 * *used is > 0). 0: the body is complete, this piece included; what follows
 * *used is the next message. KMS_ETOOBIG (413), KMS_EPROTO (400): refused, see
 * body->status and reason; *used counts the bytes before the offending one.
 *
 * Chunked (RFC 9112 section 7.1), narrowed: sizes of at most 16 digits
 * and nothing but CR LF or ';' behind them; extensions of visible ASCII, SP
 * and HTAB; trailers as header lines. Both are bounded and dropped unread.
 */
int http_body_feed(struct http_body *body, const void *in, size_t in_len,
    size_t *used, const uint8_t **out, size_t *out_len);

#endif
