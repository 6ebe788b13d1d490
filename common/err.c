#include "common/err.h"

const char *
kms_strerror(int error)
{
	switch (error) {
	case 0:
		return "success";
#define KMS_ERROR_TEXT(name, value, text)                                      \
	case value:                                                            \
		return text;
		KMS_ERRORS(KMS_ERROR_TEXT)
#undef KMS_ERROR_TEXT
	default:
		return "unknown error";
	}
}
