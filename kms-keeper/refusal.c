#include "kms-keeper/refusal.h"

#include <stddef.h>
#include <string.h>

static const enum label_reason reasons[REFUSAL_COUNT] = {
#define REFUSAL(id, reason, text) LABEL_reason_##reason,
#include "kms-keeper/refusal.def"
#undef REFUSAL
};

#define REFUSAL(id, reason, text) text,

static const char *const texts[REFUSAL_COUNT] = {
#define H "X-App"
#include "kms-keeper/refusal.def"
#undef H
};

static const char *const peer_texts[REFUSAL_COUNT] = {
#define H "X-KMS"
#include "kms-keeper/refusal.def"
#undef H
};

const char *
refusal_text(enum refusal refusal)
{
	return texts[refusal];
}

const char *
refusal_text_peer(enum refusal refusal)
{
	return peer_texts[refusal];
}

enum label_reason
refusal_reason(const char *text)
{
	for (size_t i = 0; i < REFUSAL_COUNT; i++) {
		if (strcmp(texts[i], text) == 0 ||
		    strcmp(peer_texts[i], text) == 0)
			return reasons[i];
	}
	return LABEL_reason_OTHER;
}
