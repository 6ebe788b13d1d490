# What every room may use; knows no process and no message.
common_SRC := common/err.c common/hex.c common/base64.c common/buf.c \
	common/clock.c common/log.c common/eth.c common/keccak256.c \
	common/http_char.c common/http_field.c common/http_head.c \
	common/http_body.c common/fdpass.c common/secmem.c common/sandbox.c \
	common/sandbox_landlock.c common/json_guard.c common/json_strings.c \
	common/abi.c common/printable.c
# Calls that only sanitizer run times make; never in a release object.
common_SRC_SAN := common/sandbox_sanitizer.c
common_USES :=
common_LIBS := -lcrypto
