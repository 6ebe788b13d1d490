#include "common/http_char.h"

/* One letter a character: Control, Blank, Visible, Hash, Token, Name, Opaque.
 */
#define C 0
#define B HTTP_CHAR_FIELD
#define V (HTTP_CHAR_FIELD | HTTP_CHAR_TARGET)
#define H (HTTP_CHAR_FIELD | HTTP_CHAR_TOKEN)
#define T (HTTP_CHAR_FIELD | HTTP_CHAR_TARGET | HTTP_CHAR_TOKEN)
#define N (T | HTTP_CHAR_HOST)
#define O HTTP_CHAR_FIELD
/* clang-format off */
const uint8_t http_char_class[256] = {
	C, C, C, C, C, C, C, C, C, B, C, C, C, C, C, C,
	C, C, C, C, C, C, C, C, C, C, C, C, C, C, C, C,
	/*  !  "  #  $  %  &  '  (  )  *  +  ,  -  .  / */
	B, T, V, H, T, T, T, T, V, V, T, T, V, N, N, V,
	/* 0..9 : ; < = > ? */
	N, N, N, N, N, N, N, N, N, N, V, V, V, V, V, V,
	/* @ A.. */
	V, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	/* ..Z [ \ ] ^ _ */
	N, N, N, N, N, N, N, N, N, N, N, V, V, V, T, N,
	/* ` a.. */
	T, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	/* ..z { | } ~ DEL */
	N, N, N, N, N, N, N, N, N, N, N, V, T, V, T, C,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
	O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
};
/* clang-format on */
#undef C
#undef B
#undef V
#undef H
#undef T
#undef N
#undef O
