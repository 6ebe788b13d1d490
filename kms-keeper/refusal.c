#include "kms-keeper/refusal.h"

#include <stddef.h>
#include <string.h>

static const struct {
	enum label_reason reason;
	const char *text;
} rows[REFUSAL_COUNT] = {
#define REFUSAL(id, reason, text) { LABEL_reason_##reason, text },
#include "kms-keeper/refusal.def"
#undef REFUSAL
};

const char *
refusal_text(enum refusal refusal)
{
	return rows[refusal].text;
}

enum label_reason
refusal_reason(const char *text)
{
	for (size_t i = 0; i < REFUSAL_COUNT; i++) {
		if (strcmp(rows[i].text, text) == 0)
			return rows[i].reason;
	}
	return LABEL_reason_OTHER;
}
