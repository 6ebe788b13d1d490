/* The texts with which callers are refused, and their reasons (refusal.def). */
#ifndef KMS_KEEPER_REFUSAL_H
#define KMS_KEEPER_REFUSAL_H

#include "proto/metrics_labels.h"

enum refusal {
#define REFUSAL(id, reason, text) REFUSAL_##id,
#include "kms-keeper/refusal.def"
#undef REFUSAL
	REFUSAL_COUNT
};

/* The message of the 403, to an app and to a peer, which differ in the names
 * of headers. Static. */
const char *refusal_text(enum refusal refusal);
const char *refusal_text_peer(enum refusal refusal);

/* The reason that stands for a message; LABEL_reason_OTHER for one that is not
 * of the table. */
enum label_reason refusal_reason(const char *text);

#endif
