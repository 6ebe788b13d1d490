/*
 * Messages: their table, and exact packing and parsing of one payload.
 * The rows are in msg.def.
 */
#ifndef KMS_PROTO_MSG_H
#define KMS_PROTO_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define MSG_FIELDS_MAX 24
#define MSG_PAYLOAD_MAX 77000 /* above every ceiling of msg.def */
#define MSG_CHUNK_MAX 65536   /* largest piece of a body in one frame */
#define MSG_WINDOW 262144     /* bytes of one body under way without credit */
#define MSG_ENDPOINT_ANY 255  /* kms-chain chooses the endpoint */
#define MSG_WANT_MAX 8	      /* connections asked of kmsd at once */

enum msg_type {
#define MSG(name, number, ...) MSG_##name = number,
#include "proto/msg.def"
#undef MSG
};

/* A direction of a socketpair, and so a sender. */
enum msg_channel {
	MSG_CHANNEL_KMSD_CHILD,
	MSG_CHANNEL_CHILD_KMSD,
	MSG_CHANNEL_NET_KEEPER,
	MSG_CHANNEL_KEEPER_NET,
	MSG_CHANNEL_KEEPER_RPC,
	MSG_CHANNEL_RPC_KEEPER,
	MSG_CHANNEL_KEEPER_PEER,
	MSG_CHANNEL_PEER_KEEPER
};

/* States of the receiving end of a channel, as a mask. */
enum msg_state { MSG_STATE_CONFIGURING = 1, MSG_STATE_RUNNING = 2 };

/* KMSDKEEPER_CHANNEL: what is at the other end of the passed descriptor. */
enum channel_kind { CHANNEL_NET, CHANNEL_RPC, CHANNEL_PEER, CHANNEL_KINDS };

/* NETKEEPER_REQUEST: the methods that reach the keeper. */
enum kms_method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_DELETE };

/*
 * NETKEEPER_REQUEST: what is wrong with a PoP header, as a mask. A header that
 * is absent is simply the empty text.
 */
enum auth_flag {
	AUTH_FLAG_REPEATED = 1, /* some PoP header stood there twice */
	AUTH_FLAG_OVERLONG = 2	/* some PoP header exceeded its field */
};

/* CHAINKEEPER_ERROR: why there is no answer. */
enum chain_error {
	CHAIN_ERROR_UNREACHABLE = 1, /* transport, after the retries */
	CHAIN_ERROR_TIMEOUT,
	CHAIN_ERROR_MALFORMED,	 /* the endpoint's answer makes no sense */
	CHAIN_ERROR_REFUSED,	 /* a JSON-RPC error; the text says which */
	CHAIN_ERROR_WRONG_CHAIN, /* eth_chainId is not the configured one */
	CHAIN_ERROR_BUSY	 /* too many requests wait already */
};

/* KMSDKEEPER_ASK: what the operator wants to know. */
enum control_question {
	CONTROL_CLUSTER, /* the peers as the keeper sees them */
	CONTROL_HOLDERS, /* who else holds the secret and the data, asked anew
			  */
	CONTROL_FLUSH	 /* tell when a peer has every change, if one can */
};

/* KEEPERPEER_REQUEST: what is asked of a peer. */
enum peer_kind {
	PEER_SYNC,   /* POST /sync, an envelope */
	PEER_NONCE,  /* GET /nonce */
	PEER_STATUS, /* GET /status */
	PEER_KINDS
};

/* PEERKEEPER_FAILED: why there is no answer. */
enum peer_failure {
	PEER_FAILURE_REFUSED = 1, /* the URL or its address is not allowed */
	PEER_FAILURE_UNREACHABLE,
	PEER_FAILURE_TLS, /* no certificate that is believed */
	PEER_FAILURE_TIMEOUT,
	PEER_FAILURE_MALFORMED, /* what came is no answer to this */
	PEER_FAILURE_TOO_BIG,
	PEER_FAILURE_BUSY /* too many requests wait already */
};

enum msg_kind { MSG_KIND_NONE, MSG_KIND_U, MSG_KIND_B, MSG_KIND_S, MSG_KIND_D };

struct msg_field {
	enum msg_kind kind;
	uint32_t min; /* D: fewest bytes */
	uint32_t max; /* S, D: most bytes */
};

struct msg_row {
	const char *name;
	enum msg_type type;
	enum msg_channel channel;
	unsigned int states; /* mask of enum msg_state */
	uint32_t ceiling;    /* payload bytes */
	int with_fd;	     /* 1: exactly one descriptor comes along */
	unsigned int field_count;
	struct msg_field fields[MSG_FIELDS_MAX];
};

/* The row of a type, NULL when there is none. */
const struct msg_row *msg_row(unsigned int type);

/* The largest ceiling among the messages of a channel; 0 if it has none. */
uint32_t msg_channel_ceiling(enum msg_channel channel);

/* One parsed field. data points into the payload that was parsed. */
struct msg_value {
	uint64_t u;	     /* U; B: 0 or 1 */
	const uint8_t *data; /* S, D; not NUL-terminated */
	size_t len;
};

struct msg {
	const struct msg_row *row;
	uint64_t id; /* request number, chosen by who asks; 0 for pushes */
	int fd;	     /* the descriptor that came along, or -1; owned by the
			handler, which sets it to -1 when it keeps it */
	struct msg_value v[MSG_FIELDS_MAX];
};

/*
 * Parse a payload exactly by its row: the flat shape, the field count, kinds
 * and lengths are checked before msgpack-c sees it; text must be UTF-8
 * without NUL; trailing bytes are an error. KMS_EPROTO, KMS_ENOMEM. The
 * values live as long as the payload does.
 */
int msg_parse(const struct msg_row *row, const uint8_t *payload, size_t len,
    struct msg *msg);

/*
 * A message being written. Fields are put in the order of the row; a field
 * that does not fit its row makes msg_writer_end fail, never a bad frame.
 */
struct msg_writer {
	const struct msg_row *row;
	struct buf *out;
	size_t start;	   /* where the frame begins in out */
	unsigned int next; /* field to come */
	int error;	   /* first error, 0 so far */
};

void msg_put_u(struct msg_writer *w, uint64_t value);
void msg_put_b(struct msg_writer *w, int value);
void msg_put_s(struct msg_writer *w, const char *text);
void msg_put_sn(struct msg_writer *w, const char *text, size_t len);
void msg_put_d(struct msg_writer *w, const void *data, size_t len);

/*
 * Begin a frame at the end of out (header and array head), and finish it.
 * On error msg_writer_end removes what was written and returns KMS_E*.
 */
void msg_writer_begin(struct msg_writer *w, struct buf *out, enum msg_type type,
    uint32_t generation, uint64_t id);
int msg_writer_end(struct msg_writer *w);

/*
 * The frame: all integers big endian
 *   4 length of all that follows, 2 type, 2 zero, 4 generation, 8 request
 *   number, then the payload
 */
#define FRAME_LENGTH_LEN 4
#define FRAME_HEADER_LEN 20 /* the length and the rest of the header */

struct frame_header {
	uint32_t payload_len;
	unsigned int type;
	uint32_t generation;
	uint64_t id;
};

/*
 * Read a header of FRAME_HEADER_LEN bytes. KMS_EPROTO when the length is
 * shorter than the header, above MSG_PAYLOAD_MAX, or the zero is not.
 */
int frame_header_parse(const uint8_t *bytes, struct frame_header *header);

/* Copy a text field into a NUL-terminated buffer of size bytes (which the
 * row's ceiling must fit; what does not is cut). */
void msg_copy_text(const struct msg_value *value, char *out, size_t size);

/* 1 when the bytes are well-formed UTF-8 without NUL. */
int msg_text_valid(const uint8_t *data, size_t len);

#endif
