/*
 * Nonces of proofs of possession (PROTOCOL.md section 2): single use, bounded,
 * forgotten when they expire.
 *
 * A nonce is one AES-256 block over (expiry, counter) under a key made at
 * start. An unused one takes no memory beyond its bit: each second of issue
 * has a bitmap of its counters, and a bit is set when its nonce is used. So
 * check and use are O(1), and a nonce that was issued stays good until it is
 * used or expires: nothing ever pushes it out. When max_nonces are
 * outstanding (issued, unexpired, unused) further ones are refused; keeping one
 * client from taking them all is the work of the rate limits in front.
 */
#ifndef KMS_KEEPER_NONCE_H
#define KMS_KEEPER_NONCE_H

#include <stddef.h>
#include <stdint.h>

#define NONCE_LEN 16
#define NONCE_KEY_LEN 32
#define NONCE_LIFE_MS 120000

struct nonce_table;

/*
 * key: 32 random bytes made at this start. max_nonces: outstanding at most
 * (1..2^24). At most 64 times as many are issued in 120 s, used or not.
 * KMS_EINVAL, KMS_ENOMEM, KMS_ECRYPTO. The caller frees *table.
 */
int nonce_table_new(const uint8_t key[NONCE_KEY_LEN], size_t max_nonces,
    struct nonce_table **table);

/* Wipe and free; NULL is fine. */
void nonce_table_free(struct nonce_table *table);

/*
 * Make a nonce that lives NONCE_LIFE_MS from boot_ms (struct kms_time; a step
 * back counts as standing still). KMS_EBUSY at the bounds above, KMS_ENOMEM,
 * KMS_ECRYPTO.
 */
int nonce_issue(
    struct nonce_table *table, int64_t boot_ms, uint8_t nonce[NONCE_LEN]);

/*
 * The same for X-KMS-Next-Nonce, outside max_nonces: the caller keeps one per
 * wallet and consumes the older when it issues a newer.
 */
int nonce_issue_next(
    struct nonce_table *table, int64_t boot_ms, uint8_t nonce[NONCE_LEN]);

/*
 * Use a nonce. 0: it was good until now. KMS_EREPLAY: it was used before.
 * KMS_ETIMEOUT: it is one of ours and has expired. KMS_ENOENT: not ours.
 * KMS_ECRYPTO.
 */
int nonce_consume(
    struct nonce_table *table, const uint8_t nonce[NONCE_LEN], int64_t boot_ms);

/* Outstanding now (without those of nonce_issue_next). */
size_t nonce_outstanding(struct nonce_table *table, int64_t boot_ms);

#endif
