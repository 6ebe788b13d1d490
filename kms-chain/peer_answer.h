/*
 * A peer's HTTP answer reduced, while it arrives, to the few texts that the
 * keeper is handed: never JSON, never more of a body than its envelope. Pure.
 */
#ifndef KMS_CHAIN_PEER_ANSWER_H
#define KMS_CHAIN_PEER_ANSWER_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/json_strings.h"
#include "proto/msg.h"

#define PEER_HEAD_MAX 32768   /* bytes of all header lines */
#define PEER_OTHER_MAX 65536U /* bytes of a body that is no envelope */

/* A piece of encrypted_data; what it returns ends the reading. */
typedef int (*peer_answer_data_fn)(void *arg, const char *piece, size_t len);

struct peer_answer {
	enum peer_kind kind;
	const char *reason; /* when refused: static text */

	/* of the head, "" where absent */
	unsigned int status; /* HTTP status, 0 before there is one */
	unsigned int retry_after;
	char signature[161];
	char signature_v2[161];
	char next_nonce[65];

	/* of the body, after peer_answer_end */
	char sender[ENVELOPE_SENDER_MAX + 1]; /* PEER_SYNC with status 200 */
	char nonce[ENVELOPE_NONCE_MAX + 1];   /* that, or PEER_NONCE's */
	uint64_t data_len;
	char code[65]; /* another status than 200 */
	char message[513];
	char wallet[65]; /* PEER_STATUS */
	bool available;
	char unavailable[513];

	peer_answer_data_fn take; /* private, as are the rest */
	void *arg;
	struct json_strings strings;
	size_t head_len;
	uint64_t body_len;
	bool is_error_text; /* so far, code and message can be read */
	struct buf text;    /* PEER_STATUS */
};

/* take is called for PEER_SYNC only. */
void peer_answer_init(struct peer_answer *answer, enum peer_kind kind,
    peer_answer_data_fn take, void *arg);
void peer_answer_free(struct peer_answer *answer);

/*
 * A line of the head, with or without its line end; a status line begins a new
 * head (1xx came before). KMS_EPROTO when a header that counts is repeated,
 * too long or not visible ASCII, KMS_ETOOBIG beyond PEER_HEAD_MAX; reason is
 * set.
 */
int peer_answer_header(
    struct peer_answer *answer, const char *line, size_t len);

/*
 * The next bytes of the body. KMS_EPROTO (reason is set), KMS_ETOOBIG when a
 * body that is no envelope exceeds PEER_OTHER_MAX, KMS_ENOMEM, or what take
 * returned.
 */
int peer_answer_body(struct peer_answer *answer, const char *text, size_t len);

/* The body is complete. 0, or KMS_EPROTO (reason is set). */
int peer_answer_end(struct peer_answer *answer);

#endif
