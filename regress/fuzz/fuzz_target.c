/* Targets of app requests: method in the first byte, then the target. */
#include <stdlib.h>

#include "kms-keeper/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target target;
	const char *message;
	unsigned int status;

	if (size == 0)
		return 0;
	status = target_parse((enum kms_method)(data[0] & 3),
	    (const char *)data + 1, size - 1, &target, &message);
	if ((status == 0) != (message == NULL))
		abort();
	if (status == 0 && target.operation == OPERATION_GET &&
	    key_check(target.key.text, target.key.len) != NULL)
		abort();
	return 0;
}
