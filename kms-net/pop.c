#include "kms-net/pop.h"

static const struct pop_row {
	const char *name;
	size_t name_len;
	size_t max; /* of the field in NETKEEPER_REQUEST */
} rows[POP_HEADERS] = {
#define ROW(name, max)                                                         \
	{                                                                      \
		name, sizeof(name) - 1, max                                    \
	}
	[POP_SIGNATURE] = ROW("x-app-signature", 256),
	[POP_NONCE] = ROW("x-app-nonce", 128),
	[POP_TIMESTAMP] = ROW("x-app-timestamp", 32),
	[POP_WALLET] = ROW("x-app-wallet", 64),
	[POP_AUTH] = ROW("x-app-auth", 16),
	[POP_CONTENT] = ROW("x-app-content-sha256", 128),
#undef ROW
};

static int
is_printable(struct http_slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		if (value.data[i] < 0x20 || value.data[i] > 0x7e)
			return 0;
	}
	return 1;
}

static void
take(struct pop *pop, unsigned int *seen, size_t i, struct http_slice value)
{
	if (*seen & 1U << i) {
		pop->flags |= AUTH_FLAG_REPEATED;
		return;
	}
	*seen |= 1U << i;
	if (value.len > rows[i].max || !is_printable(value))
		pop->flags |= AUTH_FLAG_OVERLONG;
	else
		pop->value[i] = value;
}

void
pop_read(const struct http_head *head, struct pop *pop)
{
	unsigned int seen = 0;

	*pop = (struct pop){ 0 };
	for (size_t i = 0; i < POP_HEADERS; i++)
		pop->value[i].data = "";
	for (size_t h = 0; h < head->header_count; h++) {
		struct http_slice name = http_text(head, head->headers[h].name);

		if (name.data[0] != 'x' && name.data[0] != 'X')
			continue;
		for (size_t i = 0; i < POP_HEADERS; i++) {
			if (name.len == rows[i].name_len &&
			    http_slice_is_nocase(name, rows[i].name))
				take(pop, &seen, i,
				    http_text(head, head->headers[h].value));
		}
	}
}
