#include "kms-net/pop.h"

static const struct pop_row {
	const char *name; /* NULL: none */
	size_t name_len;
	size_t max; /* of the field in its message */
} rows[][POP_HEADERS] = {
#define ROW(name, max)                                                         \
	{                                                                      \
		name, sizeof(name) - 1, max                                    \
	}
#define PROOF(x)                                                               \
	[POP_SIGNATURE] = ROW(x "-signature", 256),                            \
	[POP_NONCE] = ROW(x "-nonce", 128),                                    \
	[POP_TIMESTAMP] = ROW(x "-timestamp", 32),                             \
	[POP_WALLET] = ROW(x "-wallet", 64), [POP_AUTH] = ROW(x "-auth", 16),  \
	[POP_CONTENT] = ROW(x "-content-sha256", 128)
	[POP_OF_APP] = { PROOF("x-app") },
	[POP_OF_PEER] = { PROOF("x-kms"),
	    [POP_SYNC] = ROW("x-sync-signature", 128) },
#undef PROOF
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
take(struct pop *pop, const struct pop_row *row, unsigned int *seen, size_t i,
    struct http_slice value)
{
	if (*seen & 1U << i) {
		pop->flags |= AUTH_FLAG_REPEATED;
		return;
	}
	*seen |= 1U << i;
	if (value.len > row->max || !is_printable(value))
		pop->flags |= AUTH_FLAG_OVERLONG;
	else
		pop->value[i] = value;
}

void
pop_read(const struct http_head *head, enum pop_caller caller, struct pop *pop)
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
			const struct pop_row *row = &rows[caller][i];

			if (name.len == row->name_len && row->name != NULL &&
			    http_slice_is_nocase(name, row->name))
				take(pop, row, &seen, i,
				    http_text(head, head->headers[h].value));
		}
	}
}
