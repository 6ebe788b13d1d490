#include "common/printable.h"

void
printable_copy(const char *from, size_t len, char *to, size_t size)
{
	size_t n = len < size ? len : size - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = from[i] >= 0x20 && from[i] <= 0x7e ? from[i] : '?';
	to[n] = '\0';
}
