/* The certificate authorities that https endpoints are checked against. */
#ifndef KMS_CHAIN_TRUST_H
#define KMS_CHAIN_TRUST_H

#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Read every certificate of a PEM text of len bytes into a store of its own
 * (X509_STORE_free); an empty text makes an empty store, which trusts nobody.
 * KMS_EINVAL when one cannot be read, KMS_ENOMEM.
 */
int trust_read(const uint8_t *text, size_t len, X509_STORE **out);

#endif
