/* proto/openapi.json, as it was when the program was built. */
#ifndef KMS_NET_OPENAPI_H
#define KMS_NET_OPENAPI_H

extern const char openapi_json[];
extern const char openapi_json_end[]; /* one past its last byte */

#endif
