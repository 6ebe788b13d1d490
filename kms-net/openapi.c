#include "kms-net/openapi.h"

/* room.mk makes the object depend on the file. */
__asm__(".section .rodata\n"
	".global openapi_json\n"
	".type openapi_json, @object\n"
	".global openapi_json_end\n"
	".type openapi_json_end, @object\n"
	"openapi_json:\n"
	".incbin \"proto/openapi.json\"\n"
	"openapi_json_end:\n"
	".byte 0\n"
	".size openapi_json, openapi_json_end - openapi_json\n"
	".size openapi_json_end, 1\n"
	".previous\n");
