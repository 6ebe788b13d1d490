/*
 * What the HTTP reader refuses, with limits of 64 (target), 512 (head), 8
 * (headers), 32 (body), 10 (extensions), 20 (trailers). A row: the test's
 * name, the status, words of the reason, the bytes.
 */
#ifndef KMS_REGRESS_HTTP_REFUSALS_H
#define KMS_REGRESS_HTTP_REFUSALS_H

#include "regress/unit/http_text.h"

#define REFUSALS(X)                                                            \
	/* framing headers */                                                  \
	X(length_and_chunked, 400, "not both",                                 \
	    POST "Content-Length: 3\r\nTransfer-Encoding: chunked" END)        \
	X(chunked_and_length, 400, "not both",                                 \
	    POST "Transfer-Encoding: chunked\r\nContent-Length: 3" END)        \
	X(length_repeated_equal, 400, "one Content-Length",                    \
	    POST "Content-Length: 3\r\nContent-Length: 3" END)                 \
	X(length_repeated_different, 400, "one Content-Length",                \
	    POST "Content-Length: 3\r\ncontent-length: 4" END)                 \
	X(length_list, 400, "only digits", POST "Content-Length: 3, 3" END)    \
	X(length_plus, 400, "only digits", POST "Content-Length: +3" END)      \
	X(length_minus, 400, "only digits", POST "Content-Length: -3" END)     \
	X(length_hex, 400, "only digits", POST "Content-Length: 0x3" END)      \
	X(length_real, 400, "only digits", POST "Content-Length: 3.0" END)     \
	X(length_space, 400, "only digits", POST "Content-Length: 3 3" END)    \
	X(length_empty, 400, "1 to 19 digits", POST "Content-Length:" END)     \
	X(length_blank, 400, "1 to 19 digits", POST "Content-Length: \t" END)  \
	X(length_20_digits, 400, "1 to 19 digits",                             \
	    POST "Content-Length: 00000000000000000003" END)                   \
	X(length_obs_text, 400, "only digits",                                 \
	    POST "Content-Length: 3\xa0" END)                                  \
	X(length_too_large, 413, "shorter body",                               \
	    POST "Content-Length: 33" END)                                     \
	X(length_largest, 413, "shorter body",                                 \
	    POST "Content-Length: 9999999999999999999" END)                    \
	X(coding_repeated, 400, "one Transfer-Encoding",                       \
	    POST "Transfer-Encoding: chunked\r\n"                              \
		 "Transfer-Encoding: chunked" END)                             \
	X(coding_chunked_twice, 400, "exactly",                                \
	    POST "Transfer-Encoding: chunked, chunked" END)                    \
	X(coding_empty, 400, "exactly", POST "Transfer-Encoding:" END)         \
	X(coding_comma, 400, "exactly",                                        \
	    POST "Transfer-Encoding: chunked," END)                            \
	X(coding_parameter, 400, "exactly",                                    \
	    POST "Transfer-Encoding: chunked;q=1" END)                         \
	X(coding_quoted, 400, "exactly",                                       \
	    POST "Transfer-Encoding: \"chunked\"" END)                         \
	X(coding_vertical_tab, 400, "control",                                 \
	    POST "Transfer-Encoding: \vchunked" END)                           \
	X(coding_gzip, 501, "chunked", POST "Transfer-Encoding: gzip" END)     \
	X(coding_identity, 501, "chunked",                                     \
	    POST "Transfer-Encoding: identity" END)                            \
	X(coding_gzip_chunked, 501, "chunked",                                 \
	    POST "Transfer-Encoding: gzip, chunked" END)                       \
	X(coding_xchunked, 501, "chunked",                                     \
	    POST "Transfer-Encoding: xchunked" END)                            \
	X(coding_in_1_0, 400, "HTTP/1.0",                                      \
	    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked" END)               \
	/* sizes */                                                            \
	X(target_65_bytes, 414, "shorter target",                              \
	    "GET /" TEXT64 R11 "Host: a" END)                                  \
	X(target_endless, 414, "shorter request line", "GET /" TEXT64 TEXT64)  \
	X(method_endless, 414, "shorter request line", TEXT64 TEXT64)          \
	X(head_513_bytes, 431, "shorter head",                                 \
	    GET TEXT64 ":" TEXT64 "\r\n" TEXT64 ":" TEXT64 "\r\n" TEXT64       \
		       ":" TEXT64 "\r\nA:" TEXT64                              \
		       "0123456789abcdef012345678" END)                        \
	X(headers_9, 431, "fewer headers",                                     \
	    GET "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:" END)            \
	X(version_major_colon, 400, "expected HTTP/1.1", "GET / HTTP/:.1" END) \
	X(version_minor_letter, 400, "expected HTTP/1.1",                      \
	    "GET / HTTP/1.x" END)                                              \
	X(version_minor_colon, 400, "expected HTTP/1.1", "GET / HTTP/1.:" END) \
	X(version_minor_slash, 400, "expected HTTP/1.1", "GET / HTTP/1./" END) \
	X(host_port_6_digits, 400, "as Host",                                  \
	    "GET /" R11 "Host: a:000080" END)                                  \
	X(host_port_sign, 400, "as Host", "GET /" R11 "Host: a:+80" END)       \
	X(host_bracket_wrong, 400, "as Host", "GET /" R11 "Host: [::1x" END)   \
	X(version_9_9, 505, "HTTP/1.1 or", "GET / HTTP/9.9" END)               \
	X(host_bracket_inner, 400, "as Host", "GET /" R11 "Host: [::1x]" END)  \
	X(chunk_extension_byte_0x80, 400, "printable", CHUNKED "1;a=\x80\r\n") \
	/* names that merely resemble a framing header */                      \
	X(like_length_underscore, 400, "resembles",                            \
	    POST "Content_Length: 3" END)                                      \
	X(like_length_digit, 400, "resembles", POST "Content-Length0: 3" END)  \
	X(like_length_joined, 400, "resembles", POST "ContentLength: 3" END)   \
	X(like_length_leading, 400, "resembles",                               \
	    POST "-Content-Length: 3" END)                                     \
	X(like_length_inner_digit, 400, "resembles",                           \
	    POST "Content1Length: 3" END)                                      \
	X(like_coding_underscore, 400, "resembles",                            \
	    POST "TRANSFER_ENCODING: chunked" END)                             \
	X(like_coding_dash, 400, "resembles",                                  \
	    POST "Transfer-Encoding-: chunked" END)                            \
	X(like_coding_dot, 400, "resembles",                                   \
	    POST "Transfer.Encoding: chunked" END)                             \
	/* lines */                                                            \
	X(folded_space, 400, "folded", GET "A: b\r\n c" END)                   \
	X(folded_tab, 400, "folded", GET "A: b\r\n\tc" END)                    \
	X(folded_first, 400, "folded", "GET / HTTP/1.1\r\n Host: a" END)       \
	X(bare_lf_in_header, 400, "CR LF", GET "A: b\nC: d" END)               \
	X(bare_lf_after_request_line, 400, "CR LF",                            \
	    "GET / HTTP/1.1\nHost: a" END)                                     \
	X(bare_lf_ends_head, 400, "CR LF", GET "\n")                           \
	X(bare_cr_in_value, 400, "LF behind CR", GET "A: b\rc" END)            \
	X(bare_cr_twice, 400, "LF behind CR", GET "A: b\r\r\n\r\n")            \
	X(bare_cr_in_target, 400, "LF behind CR",                              \
	    "GET /\ra" R11 "Host: a" END)                                      \
	X(nul_in_value, 400, "control", GET "A: b\0c" END)                     \
	X(nul_in_name, 400, "control", GET "A\0: b" END)                       \
	X(nul_in_target, 400, "control", "GET /\0" R11 "Host: a" END)          \
	X(nul_in_method, 400, "control", "GE\0T /" R11 "Host: a" END)          \
	X(escape_in_value, 400, "control", GET "A: \x1b[0m" END)               \
	X(delete_in_value, 400, "control", GET "A: \x7f" END)                  \
	X(form_feed_in_value, 400, "control", GET "A: b\f" END)                \
	X(empty_line_first, 400, "method", "\r\n" GET "\r\n")                  \
	X(tls_hello, 400, "control", "\x16\x03\x01\x02")                       \
	/* names */                                                            \
	X(space_before_colon, 400, "name", GET "A : b" END)                    \
	X(tab_before_colon, 400, "name", GET "A\t: b" END)                     \
	X(space_before_colon_of_length, 400, "name",                           \
	    POST "Content-Length : 3" END)                                     \
	X(space_in_name, 400, "name", GET "A B: c" END)                        \
	X(name_empty, 400, "name", GET ": b" END)                              \
	X(name_without_colon, 400, "name", GET "A" END)                        \
	X(name_bracket, 400, "name", GET "A(b): c" END)                        \
	X(name_slash, 400, "name", GET "A/b: c" END)                           \
	X(name_at, 400, "name", GET "A@b: c" END)                              \
	X(name_obs_text, 400, "name", GET "A\xc3\xa4: b" END)                  \
	/* Host */                                                             \
	X(host_missing, 400, "expected Host", "GET / HTTP/1.1\r\nA: b" END)    \
	X(host_repeated, 400, "one Host", GET "Host: a" END)                   \
	X(host_repeated_1_0, 400, "one Host",                                  \
	    "GET / HTTP/1.0\r\nHost: a\r\nHost: b" END)                        \
	X(host_empty, 400, "as Host", "GET /" R11 "Host:" END)                 \
	X(host_list, 400, "as Host", "GET /" R11 "Host: a, b" END)             \
	X(host_space, 400, "as Host", "GET /" R11 "Host: a b" END)             \
	X(host_user, 400, "as Host", "GET /" R11 "Host: u@a" END)              \
	X(host_path, 400, "as Host", "GET /" R11 "Host: a/b" END)              \
	X(host_percent, 400, "as Host", "GET /" R11 "Host: a%41" END)          \
	X(host_obs_text, 400, "as Host", "GET /" R11 "Host: \xc3\xa4" END)     \
	X(host_port_empty, 400, "as Host", "GET /" R11 "Host: a:" END)         \
	X(host_port_name, 400, "as Host", "GET /" R11 "Host: a:http" END)      \
	X(host_port_0, 400, "as Host", "GET /" R11 "Host: a:0" END)            \
	X(host_port_65536, 400, "as Host", "GET /" R11 "Host: a:65536" END)    \
	X(host_port_twice, 400, "as Host", "GET /" R11 "Host: a:1:2" END)      \
	X(host_only_port, 400, "as Host", "GET /" R11 "Host: :80" END)         \
	X(host_bracket_open, 400, "as Host", "GET /" R11 "Host: [::1" END)     \
	X(host_bracket_empty, 400, "as Host", "GET /" R11 "Host: []" END)      \
	X(host_bracket_name, 400, "as Host", "GET /" R11 "Host: [x]" END)      \
	X(host_bracket_tail, 400, "as Host", "GET /" R11 "Host: [::1]a" END)   \
	/* other headers */                                                    \
	X(expect_other, 417, "100-continue", GET "Expect: 200-ok" END)         \
	X(expect_empty, 417, "100-continue", GET "Expect:" END)                \
	X(expect_repeated, 400, "one Expect",                                  \
	    GET "Expect: 100-continue\r\nExpect: 100-continue" END)            \
	X(connection_no_list, 400, "Connection", GET "Connection: a b" END)    \
	X(connection_quoted, 400, "Connection",                                \
	    GET "Connection: \"close\"" END)                                   \
	/* request line */                                                     \
	X(version_2_0, 505, "HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM" END)        \
	X(version_0_9, 505, "HTTP/1.1", "GET / HTTP/0.9" END)                  \
	X(version_1_2, 505, "HTTP/1.1", "GET / HTTP/1.2" END)                  \
	X(version_3_1, 505, "HTTP/1.1", "GET / HTTP/3.1" END)                  \
	X(version_missing, 400, "version", "GET /\r\n")                        \
	X(version_long_missing, 400, "version", "GET /a/long/target\r\n")      \
	X(version_lower_case, 400, "HTTP/1.1", "GET / http/1.1" END)           \
	X(version_junk, 400, "HTTP/1.1", "GET / HTTP/1,1" END)                 \
	X(version_two_digits, 400, "version", "GET / HTTP/1.10" END)           \
	X(version_letter, 400, "HTTP/1.1", "GET / HTTP/x.1" END)               \
	X(version_space_behind, 400, "version", "GET / HTTP/1.1 \r\n")         \
	X(target_missing, 400, "version", "GET HTTP/1.1" END)                  \
	X(target_empty, 400, "starts with /", "GET  HTTP/1.1" END)             \
	X(target_two_spaces, 400, "starts with /", "GET  / HTTP/1.1" END)      \
	X(target_space_inside, 400, "visible", "GET /a b HTTP/1.1" END)        \
	X(target_space_behind, 400, "visible", "GET /  HTTP/1.1" END)          \
	X(target_tab, 400, "visible", "GET /a\tb HTTP/1.1" END)                \
	X(target_obs_text, 400, "visible", "GET /\xc3\xa4 HTTP/1.1" END)       \
	X(target_fragment, 400, "visible", "GET /a#b HTTP/1.1" END)            \
	X(target_asterisk, 400, "starts with /", "OPTIONS * HTTP/1.1" END)     \
	X(target_absolute, 400, "starts with /",                               \
	    "GET http://a/ HTTP/1.1\r\nHost: a" END)                           \
	X(target_authority, 400, "starts with /",                              \
	    "CONNECT a:443 HTTP/1.1\r\nHost: a" END)                           \
	X(target_relative, 400, "starts with /", "GET a HTTP/1.1" END)         \
	X(method_missing, 400, "method", " / HTTP/1.1" END)                    \
	X(method_bracket, 400, "method", "G(ET / HTTP/1.1" END)                \
	X(method_tab_behind, 400, "method", "GET\t/ HTTP/1.1" END)             \
	X(method_obs_text, 400, "method", "G\xc3\x84T / HTTP/1.1" END)         \
	X(method_alone, 400, "method", "GET\r\n")                              \
	X(method_17_bytes, 501, "method", "ABCDEFGHIJKLMNOPQ / HTTP/1.1" END)  \
	/* chunked bodies */                                                   \
	X(chunk_size_empty, 400, "in hex", CHUNKED "\r\n")                     \
	X(chunk_size_extension_alone, 400, "in hex", CHUNKED ";a\r\n")         \
	X(chunk_size_prefix, 400, "behind a chunk size", CHUNKED "0x1\r\na")   \
	X(chunk_size_minus, 400, "in hex", CHUNKED "-1\r\na")                  \
	X(chunk_size_space_before, 400, "in hex", CHUNKED " 1\r\na")           \
	X(chunk_size_space_behind, 400, "behind a chunk size",                 \
	    CHUNKED "1 \r\na")                                                 \
	X(chunk_size_tab_extension, 400, "behind a chunk size",                \
	    CHUNKED "1\t;a\r\na")                                              \
	X(chunk_size_bare_lf, 400, "behind a chunk size", CHUNKED "1\na\r\n")  \
	X(chunk_size_bare_cr, 400, "LF behind CR", CHUNKED "1\ra")             \
	X(chunk_size_17_digits, 400, "16",                                     \
	    CHUNKED "00000000000000001\r\na\r\n0" END)                         \
	X(chunk_size_overflow, 413, "body", CHUNKED "10000000000000001\r\n")   \
	X(chunk_size_too_large, 413, "body", CHUNKED "21\r\n")                 \
	X(chunks_too_large, 413, "body",                                       \
	    CHUNKED "1F\r\n0123456789012345678901234567890\r\n2\r\nab\r\n")    \
	X(chunk_extension_bare_lf, 400, "printable", CHUNKED "1;a\nb\r\n")     \
	X(chunk_extension_nul, 400, "printable", CHUNKED "1;a\0\r\n")          \
	X(chunk_extension_obs_text, 400, "printable", CHUNKED "1;a=\xa0\r\n")  \
	X(chunk_extension_empty, 400, "extension's name", CHUNKED "1;\r\na")   \
	X(chunk_extension_long, 400, "shorter chunk extensions",               \
	    CHUNKED "1;a=345678901\r\n")                                       \
	X(chunk_extensions_long, 400, "shorter chunk extensions",              \
	    CHUNKED "1;a=345\r\nx\r\n1;a=3456\r\n")                            \
	X(chunk_data_long, 400, "behind a chunk", CHUNKED "1\r\nab\r\n")       \
	X(chunk_data_bare_lf, 400, "behind a chunk", CHUNKED "1\r\na\n0" END)  \
	X(chunk_data_bare_cr, 400, "LF behind CR", CHUNKED "1\r\na\r0" END)    \
	X(chunk_last_bare_cr, 400, "LF behind CR", CHUNKED "0\r\n\rx")         \
	X(chunk_last_bare_lf, 400, "trailer's name", CHUNKED "0\r\n\n")        \
	X(trailer_name, 400, "trailer's name", CHUNKED "0\r\nA b: c" END)      \
	X(trailer_space_before_colon, 400, "trailer's name",                   \
	    CHUNKED "0\r\nA : b" END)                                          \
	X(trailer_name_empty, 400, "trailer's name", CHUNKED "0\r\n: b" END)   \
	X(trailer_folded, 400, "trailer's name",                               \
	    CHUNKED "0\r\nA: b\r\n c" END)                                     \
	X(trailer_without_colon, 400, "trailer's name", CHUNKED "0\r\nA" END)  \
	X(trailer_nul, 400, "control", CHUNKED "0\r\nA: \0" END)               \
	X(trailer_bare_lf, 400, "control", CHUNKED "0\r\nA: b\n\r\n")          \
	X(trailer_bare_cr, 400, "LF behind CR", CHUNKED "0\r\nA: b\rc" END)    \
	X(trailer_long, 400, "shorter trailers",                               \
	    CHUNKED "0\r\nA: 4567890123456789" END)                            \
	X(trailers_long, 400, "shorter trailers",                              \
	    CHUNKED "0\r\nA: 45678\r\nB: 456789" END)

#define ANSWER_REFUSALS(X)                                                     \
	X(answer_without_framing, 502, "Content-Length or chunked",            \
	    ANSWER "A: b" END)                                                 \
	X(answer_both_framings, 502, "not both",                               \
	    ANSWER "Content-Length: 1\r\nTransfer-Encoding: chunked" END)      \
	X(answer_length_repeated, 502, "one Content-Length",                   \
	    ANSWER "Content-Length: 1\r\nContent-Length: 1" END)               \
	X(answer_like_length, 502, "resembles",                                \
	    ANSWER "Content-Length: 1\r\nContent_Length: 1" END)               \
	X(answer_coding_gzip, 502, "chunked",                                  \
	    ANSWER "Transfer-Encoding: gzip" END)                              \
	X(answer_too_large, 502, "shorter body",                               \
	    ANSWER "Content-Length: 33" END)                                   \
	X(answer_chunk_too_large, 413, "shorter body",                         \
	    ANSWER "Transfer-Encoding: chunked\r\n\r\n21\r\n")                 \
	X(answer_folded, 502, "folded",                                        \
	    ANSWER "Content-Length: 0\r\nA: b\r\n c" END)                      \
	X(answer_bare_lf, 502, "CR LF", "HTTP/1.1 200 OK\n")                   \
	X(answer_version, 502, "HTTP/1.1 or", "HTTP/2.0 200 OK\r\n")           \
	X(answer_junk, 502, "HTTP/1.1", "HTTQ/1.1 200 OK\r\n")                 \
	X(answer_short, 502, "version, status", "HTTP/1.1 20\r\n")             \
	X(answer_no_reason_space, 502, "version, status", "HTTP/1.1 200\r\n")  \
	X(answer_code_600, 502, "100 to 599", "HTTP/1.1 600 A\r\n")            \
	X(answer_code_099, 502, "100 to 599", "HTTP/1.1 099 A\r\n")            \
	X(answer_code_letter, 502, "100 to 599", "HTTP/1.1 2x0 A\r\n")         \
	X(answer_code_long, 502, "version, status", "HTTP/1.1 2000 A\r\n")     \
	X(answer_code_colon, 502, "100 to 599", "HTTP/1.1 20: A\r\n")          \
	X(answer_code_tens, 502, "100 to 599", "HTTP/1.1 2:0 A\r\n")           \
	X(answer_no_space, 502, "version, status", "HTTP/1.1-200 A\r\n")       \
	X(answer_head_long, 502, "shorter head",                               \
	    ANSWER TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64)    \
	X(answer_101, 502, "protocol", "HTTP/1.1 101 Switching" END)           \
	X(answer_100_with_length, 502, "1xx",                                  \
	    "HTTP/1.1 100 Continue\r\nContent-Length: 0" END)                  \
	X(answer_204_with_length, 502, "204",                                  \
	    "HTTP/1.1 204 A\r\nContent-Length: 1" END)                         \
	X(answer_204_chunked, 502, "204",                                      \
	    "HTTP/1.1 204 A\r\nTransfer-Encoding: chunked" END)

#endif
