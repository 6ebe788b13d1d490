/*
 * Keccak-f[1600] with rate 1088 and capacity 512 (FIPS 202 sections 3 and 4,
 * with the padding of the original submission). A request costs a node about
 * eight permutations.
 */
#include "common/keccak256.h"

#include <string.h>

#define RATE 136
#define ROUNDS 24

static const uint64_t round_constants[ROUNDS] = {
	0x0000000000000001,
	0x0000000000008082,
	0x800000000000808a,
	0x8000000080008000,
	0x000000000000808b,
	0x0000000080000001,
	0x8000000080008081,
	0x8000000000008009,
	0x000000000000008a,
	0x0000000000000088,
	0x0000000080008009,
	0x000000008000000a,
	0x000000008000808b,
	0x800000000000008b,
	0x8000000000008089,
	0x8000000000008003,
	0x8000000000008002,
	0x8000000000000080,
	0x000000000000800a,
	0x800000008000000a,
	0x8000000080008081,
	0x8000000000008080,
	0x0000000080000001,
	0x8000000080008008,
};

/* rho offsets and pi targets along the single cycle that starts at lane 1 */
static const uint8_t rotations[24] = { 1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2,
	14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44 };
static const uint8_t lanes[24] = { 10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4,
	15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1 };

static inline uint64_t
rotate_left(uint64_t x, unsigned int n)
{
	return x << n | x >> (64 - n);
}

/*
 * The loops below have constant bounds and indices: unrolled, the lanes stay in
 * registers and the tables become constants, which makes a permutation several
 * times as fast.
 */
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

static inline void
theta(uint64_t a[25])
{
	uint64_t c[5];

	UNROLL
	for (unsigned int x = 0; x < 5; x++)
		c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
	UNROLL
	for (unsigned int x = 0; x < 5; x++) {
		uint64_t d = c[(x + 4) % 5] ^ rotate_left(c[(x + 1) % 5], 1);

		UNROLL
		for (unsigned int y = 0; y < 25; y += 5)
			a[x + y] ^= d;
	}
}

static inline void
rho_pi(uint64_t a[25])
{
	uint64_t moving = a[1];

	UNROLL
	for (unsigned int i = 0; i < 24; i++) {
		uint64_t next = a[lanes[i]];

		a[lanes[i]] = rotate_left(moving, rotations[i]);
		moving = next;
	}
}

static inline void
chi(uint64_t a[25])
{
	UNROLL
	for (unsigned int y = 0; y < 25; y += 5) {
		uint64_t row[5];

		UNROLL
		for (unsigned int x = 0; x < 5; x++)
			row[x] = a[y + x];
		UNROLL
		for (unsigned int x = 0; x < 5; x++)
			a[y + x] =
			    row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
	}
}

static void
permute(uint64_t a[25])
{
	for (unsigned int round = 0; round < ROUNDS; round++) {
		theta(a);
		rho_pi(a);
		chi(a);
		a[0] ^= round_constants[round];
	}
}

static void
absorb(struct keccak256 *k, const uint8_t *block)
{
	for (size_t i = 0; i < RATE / 8; i++) {
		uint64_t lane = 0;

		for (size_t b = 8; b-- > 0;)
			lane = lane << 8 | block[8 * i + b];
		k->state[i] ^= lane;
	}
	permute(k->state);
}

void
keccak256_init(struct keccak256 *k)
{
	memset(k, 0, sizeof(*k));
}

void
keccak256_update(struct keccak256 *k, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	while (len > 0) {
		size_t take = RATE - k->used < len ? RATE - k->used : len;

		memcpy(k->block + k->used, bytes, take);
		k->used += take;
		bytes += take;
		len -= take;
		if (k->used == RATE) {
			absorb(k, k->block);
			k->used = 0;
		}
	}
}

void
keccak256_final(struct keccak256 *k, uint8_t digest[KECCAK256_LEN])
{
	memset(k->block + k->used, 0, RATE - k->used);
	k->block[k->used] ^= 0x01;
	k->block[RATE - 1] ^= 0x80;
	absorb(k, k->block);
	for (size_t i = 0; i < KECCAK256_LEN; i++)
		digest[i] = (uint8_t)(k->state[i / 8] >> (8 * (i % 8)));
	explicit_bzero(k, sizeof(*k));
}

void
keccak256(const void *data, size_t len, uint8_t digest[KECCAK256_LEN])
{
	struct keccak256 k;

	keccak256_init(&k);
	keccak256_update(&k, data, len);
	keccak256_final(&k, digest);
}
