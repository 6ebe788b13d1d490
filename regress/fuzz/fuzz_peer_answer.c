/*
 * A peer's answer: the first byte says what was asked, then header lines up to
 * an empty one, then the body, which is read as a whole and in two pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kms-chain/peer_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
take(void *arg, const char *piece, size_t len)
{
	size_t *total = arg;

	for (size_t i = 0; i < len; i++) {
		if (piece[i] < 0x20 || piece[i] > 0x7e || piece[i] == '"')
			abort();
	}
	*total += len;
	return 0;
}

static int
read_head(struct peer_answer *answer, const char **text, size_t *len)
{
	int error = 0;

	while (error == 0 && *len > 0) {
		const char *end = memchr(*text, '\n', *len);
		size_t line = end != NULL ? (size_t)(end - *text) + 1 : *len;

		if (line == 1) {
			(*text)++, (*len)--;
			break;
		}
		error = peer_answer_header(answer, *text, line);
		*text += line;
		*len -= line;
	}
	return error;
}

static int
read_all(struct peer_answer *answer, enum peer_kind kind, const char *text,
    size_t len, int split, size_t *total)
{
	size_t half;
	int error;

	*total = 0;
	peer_answer_init(answer, kind, take, total);
	error = read_head(answer, &text, &len);
	half = split ? len / 2 : 0;
	if (error == 0 && half > 0)
		error = peer_answer_body(answer, text, half);
	if (error == 0 && len > half)
		error = peer_answer_body(answer, text + half, len - half);
	if (error == 0)
		error = peer_answer_end(answer);
	peer_answer_free(answer);
	return error;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer_answer whole, pieces;
	size_t whole_total, pieces_total;
	enum peer_kind kind;
	int error;

	if (size == 0)
		return 0;
	kind = (enum peer_kind)(data[0] % PEER_KINDS);
	error = read_all(
	    &whole, kind, (const char *)data + 1, size - 1, 0, &whole_total);
	if (error !=
	    read_all(&pieces, kind, (const char *)data + 1, size - 1, 1,
		&pieces_total))
		abort();
	if (error == 0 &&
	    (whole_total != pieces_total || whole.data_len != whole_total ||
		strcmp(whole.code, pieces.code) != 0 ||
		strcmp(whole.message, pieces.message) != 0))
		abort();
	return 0;
}
