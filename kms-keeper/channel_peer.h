/*
 * Requests to other nodes through kms-chain peer: frames to typed calls and
 * back, bodies in both directions under their credit. What is asked, and
 * whether an answer is believed, is decided elsewhere: nothing here has been
 * verified. A struct peer_client of zeros is one without a channel.
 */
#ifndef KMS_KEEPER_CHANNEL_PEER_H
#define KMS_KEEPER_CHANNEL_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "proto/chan.h"

#define PEER_CALLS_MAX 512
#define PEER_SENDING_MAX (256U << 20)	/* bytes of all bodies to be sent */
#define PEER_COLLECTED_MAX (256U << 20) /* bytes of all answers collected */

enum peer_reply_kind {
	PEER_REPLY_ENVELOPE, /* PEER_SYNC, HTTP status 200 */
	PEER_REPLY_NONCE,    /* PEER_NONCE */
	PEER_REPLY_STATUS,   /* PEER_STATUS */
	PEER_REPLY_ERROR,    /* another HTTP status */
	PEER_REPLY_FAILED    /* no answer that is one */
};

/* Texts are "" where absent or of another kind. */
struct peer_reply {
	enum peer_reply_kind kind;
	uint64_t elapsed_ms;
	char signature[161];	/* X-KMS-Peer-Signature */
	char signature_v2[161]; /* X-KMS-Response-Signature-V2 */
	char next_nonce[65];	/* X-KMS-Next-Nonce */

	/* ENVELOPE: its three strings as sent */
	char sender[513];
	char nonce[65]; /* NONCE: the nonce */
	char *data;	/* data_len bytes until the callback returns, which
			   may change them; NULL where pieces are wanted */
	size_t data_len;

	/* ERROR */
	unsigned int status;
	unsigned int retry_after; /* seconds, 0: none */
	char code[65];		  /* as sent, also message */
	char message[513];

	/* STATUS: what the peer says of itself */
	char wallet[65];
	bool available;
	char unavailable[513];

	/* FAILED */
	enum peer_failure failure;
	char text[321]; /* for the log */
};

/* The reply; called once, never from within peer_client_post or _cancel. */
typedef void (*peer_done_fn)(
    void *arg, uint64_t id, const struct peer_reply *reply);

/* A piece of the answer's encrypted_data; say peer_client_consumed when it
 * has been dealt with. Void if the reply is then no ENVELOPE. */
typedef void (*peer_piece_fn)(
    void *arg, uint64_t id, const char *data, size_t len);

/* Texts are borrowed for the call; NULL is "". */
struct peer_call {
	enum peer_kind kind;
	const char *url; /* base, as registered; at most 2048 bytes */
	uint64_t timeout_ms;
	uint64_t answer_max; /* bytes of the answer's body */

	/* PEER_SYNC: headers, "" ones are not sent */
	const char *signature, *pop_nonce, *timestamp, *wallet, *auth;
	const char *content_hash, *sync_signature;
	/* and envelope; data (data_len bytes of malloc) is taken over */
	const char *sender, *nonce;
	char *data;
	size_t data_len;

	uint64_t request; /* the one behind it, for the log; 0: none */

	peer_piece_fn piece; /* NULL: the answer is collected */
	peer_done_fn done;
	void *arg;
};

struct peer_open_call;

struct peer_client {
	struct chan *chan;
	struct peer_open_call *calls; /* table by request number */
	uint64_t last_id;
	size_t count;
	size_t sending;		   /* bytes of bodies held here */
	size_t collected;	   /* bytes of answers held here */
	void (*before)(void *arg); /* called before every callback; or NULL */
	void *before_arg;
};

/*
 * Ask. *id (never 0) names it until done. KMS_EUNAVAIL without kms-chain,
 * KMS_EBUSY beyond the bounds above or with its channel full, KMS_ENOMEM,
 * KMS_EINVAL for a text that does not fit its field; data is then still the
 * caller's.
 */
int peer_client_post(
    struct peer_client *client, const struct peer_call *call, uint64_t *id);

/* The reply is not wanted any more; done will not be called. */
void peer_client_cancel(struct peer_client *client, uint64_t id);

/* So many bytes of pieces were dealt with. */
void peer_client_consumed(
    struct peer_client *client, uint64_t id, size_t bytes);

/*
 * A new channel to kms-chain peer; takes over fd. Calls that are open fail
 * (PEER_FAILURE_UNREACHABLE), also when it ends. KMS_E*.
 */
int peer_client_open(
    struct peer_client *client, uv_loop_t *loop, int fd, uint32_t generation);

/* Close it and forget every call, silently. */
void peer_client_close(struct peer_client *client);

#endif
