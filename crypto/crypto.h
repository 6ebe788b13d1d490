/*
 * Start of the room: algorithms are fetched and curves are built once, so
 * that a process behind its sandbox needs no file and no provider look-up.
 * What is kept here is public and read-only afterwards: any thread may use
 * the room after crypto_init returned. No function here keeps a secret.
 */
#ifndef KMS_CRYPTO_CRYPTO_H
#define KMS_CRYPTO_CRYPTO_H

/*
 * Fetch every algorithm, build the P-384 group and perform one throw-away of
 * each operation (which also seeds OpenSSL's generator). Call it once, before
 * threads and before the sandbox; a second call does nothing. Every other
 * function of this room needs it. KMS_ECRYPTO, KMS_ENOMEM.
 */
int crypto_init(void);

/* Give back what crypto_init made; for tests and tools. */
void crypto_free(void);

#endif
