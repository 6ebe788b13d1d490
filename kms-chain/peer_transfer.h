/*
 * One HTTP exchange with a peer: the request's body sent on as it comes in,
 * the answer reduced as it arrives (peer_answer.h), both held back when the
 * other side of them is not ready, so that a body of any length costs the same
 * memory. The address is checked in the moment it is connected to.
 */
#ifndef KMS_CHAIN_PEER_TRANSFER_H
#define KMS_CHAIN_PEER_TRANSFER_H

#include "kms-chain/curl_loop.h"
#include "kms-chain/peer_answer.h"

#define PEER_TEXT_SIZE 300

enum peer_header {
	PEER_SIGNATURE,
	PEER_POP_NONCE,
	PEER_TIMESTAMP,
	PEER_WALLET,
	PEER_AUTH,
	PEER_CONTENT_HASH,
	PEER_SYNC_SIGNATURE,
	PEER_HEADERS
};

struct peer_request {
	enum peer_kind kind;
	uint64_t answer_max;   /* bytes of the answer's body */
	struct destination to; /* its path a base without '/' at its end */
	const struct destination *proxy; /* NULL: directly */
	bool public_only;		 /* connect to public addresses only */
	/* PEER_SYNC: */
	char headers[PEER_HEADERS][257]; /* "": not sent */
	char sender[ENVELOPE_SENDER_MAX + 1];
	char nonce[ENVELOPE_NONCE_MAX + 1];
	uint64_t total; /* bytes of encrypted_data */
};

struct peer_transfer;

struct peer_transfer_ops {
	/* Bytes of the request's encrypted_data went out. */
	void (*sent)(void *arg, size_t len);
	/* A piece of the answer's encrypted_data, at most MSG_CHUNK_MAX bytes,
	 * that is not the last. KMS_EAGAIN: not now; resume then. */
	int (*piece)(void *arg, const uint8_t *data, size_t len);
	/* The answer is complete; data is the last piece. 0: the transfer may
	 * be freed, also here. KMS_EAGAIN as above. */
	int (*answered)(void *arg, const struct peer_answer *answer,
	    const uint8_t *data, size_t len);
	/* There is no answer. The transfer may be freed here. */
	void (*failed)(void *arg, enum peer_failure failure, const char *text);
};

/*
 * request is borrowed as long as the transfer lives. KMS_ENOMEM, KMS_EUNAVAIL,
 * KMS_EPROTO for header texts that are not visible ASCII.
 */
int peer_transfer_new(struct curl_loop *curl,
    const struct peer_request *request, const struct peer_transfer_ops *ops,
    void *arg, struct peer_transfer **out);

/* Also breaks it off. NULL is fine. */
void peer_transfer_free(struct peer_transfer *transfer);

/*
 * The next bytes of encrypted_data. KMS_EPROTO beyond its total or beyond
 * MSG_WINDOW bytes that wait, KMS_ENOMEM.
 */
int peer_transfer_append(
    struct peer_transfer *transfer, const uint8_t *data, size_t len);

/* Bytes of encrypted_data that are still to be appended. */
uint64_t peer_transfer_missing(const struct peer_transfer *transfer);

/*
 * Connect: to the addresses that the host of proxy or to has (not used when it
 * is an address itself). KMS_EUNAVAIL, KMS_ENOMEM; KMS_EAUTH when none of them
 * may be connected to. Afterwards the ops are called.
 */
int peer_transfer_start(struct peer_transfer *transfer,
    const struct resolve_answer *addresses, uint64_t connect_ms);

/* Pieces may be taken again. Calls the ops. */
void peer_transfer_resume(struct peer_transfer *transfer);

/* What curl_loop_open is to call. */
void peer_transfer_done(CURL *easy, CURLcode code, void *arg);

#endif
