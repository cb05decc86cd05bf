/* SHA-256, FIPS 180-4: the schedule and round functions as in its section 6.2, and the same by the
 * instructions of x86 (SHA-NI) and ARMv8, which take four or two rounds each. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#include "base/bytes.h"
#include "base/sha256.h"

#define BLOCK 64u

/* Fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* ---------------------------------------------------------------- scalar */

static inline uint32_t rotate(uint32_t v, int by)
{
    return v >> by | v << (32 - by);
}

static void make_schedule(const uint8_t *block, uint32_t w[64])
{
    for (int i = 0; i < 16; i++)
        w[i] = __builtin_bswap32(load_u32(block + 4 * i));
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

static void add_blocks_scalar(uint32_t state[8], const uint8_t *p, size_t count)
{
    for (; count > 0; count--, p += BLOCK) {
        uint32_t words[64];
        make_schedule(p, words);
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i++) {
            uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + words[i];
            uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        const uint32_t added[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++)
            state[i] += added[i];
    }
}

/* ---------------------------------------------------------------- by instruction */

#if defined(__x86_64__)
#define TARGET __attribute__((target("sha,ssse3,sse4.1")))

/* The instructions want the state as two vectors, {f e b a} and {h g d c} from low to high. */
TARGET static void add_blocks_fast(uint32_t state[8], const uint8_t *p, size_t count)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef = _mm_set_epi32((int)state[0], (int)state[1], (int)state[4], (int)state[5]);
    __m128i cdgh = _mm_set_epi32((int)state[2], (int)state[3], (int)state[6], (int)state[7]);
    for (; count > 0; count--, p += BLOCK) {
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];
        for (int i = 0; i < 16; i++) { /* four rounds each; w is a ring of the last 16 words */
            __m128i *now = &w[i & 3];
            if (i < 4) {
                *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
            } else {
                __m128i last = w[(i + 3) & 3];
                __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) & 3]),
                                            _mm_alignr_epi8(last, w[(i + 2) & 3], 4));
                *now = _mm_sha256msg2_epu32(sum, last);
            }
            __m128i k = _mm_loadu_si128((const __m128i *)(round_constants + 4 * i));
            __m128i wk = _mm_add_epi32(*now, k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    uint32_t low[4], high[4];
    _mm_storeu_si128((__m128i *)low, abef);
    _mm_storeu_si128((__m128i *)high, cdgh);
    const uint32_t out[8] = {low[3], low[2], high[3], high[2], low[1], low[0], high[1], high[0]};
    memcpy(state, out, sizeof out);
}
static bool machine_has_it(void)
{
    /* Leaf 7, EBX bit 29; older compilers' __builtin_cpu_supports does not know "sha". */
    uint32_t a = 7, b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.1") && (b >> 29 & 1);
}

/* Clang before 16 has these intrinsics only where the whole file is compiled for them. */
#elif defined(__aarch64__) && \
    (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_SHA2))
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__clang__)
#define TARGET __attribute__((target("sha2")))
#else
#define TARGET __attribute__((target("+crypto")))
#endif

TARGET static void add_blocks_fast(uint32_t state[8], const uint8_t *p, size_t count)
{
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; count > 0; count--, p += BLOCK) {
        uint32x4_t abcd_before = abcd, efgh_before = efgh, w[4];
        for (int i = 0; i < 16; i++) { /* four rounds each; w is a ring of the last 16 words */
            uint32x4_t *now = &w[i & 3];
            if (i < 4)
                *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
            else
                *now = vsha256su1q_u32(vsha256su0q_u32(*now, w[(i + 1) & 3]), w[(i + 2) & 3],
                                       w[(i + 3) & 3]);
            uint32x4_t wk = vaddq_u32(*now, vld1q_u32(round_constants + 4 * i));
            uint32x4_t abcd_then = abcd;
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, abcd_then, wk);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}
static bool machine_has_it(void)
{
#if defined(__linux__)
    enum { SHA2_BIT = 1 << 6 };
    return (getauxval(AT_HWCAP) & SHA2_BIT) != 0;
#else
    return true; /* every 64-bit Apple processor */
#endif
}
#endif

/* ---------------------------------------------------------------- the choice */

typedef void add_blocks_fn(uint32_t state[8], const uint8_t *p, size_t count);

/* Threads that race choose the same. */
static add_blocks_fn *chosen;

static void add_blocks(uint32_t state[8], const uint8_t *p, size_t count)
{
    add_blocks_fn *best = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (!best) {
        best = add_blocks_scalar;
#if defined(TARGET)
        const char *forced = getenv("SYNADB_SIMD");
        if (machine_has_it() && !(forced && strcmp(forced, "scalar") == 0))
            best = add_blocks_fast;
#endif
        __atomic_store_n(&chosen, best, __ATOMIC_RELAXED);
    }
    best(state, p, count);
}

void sha256_init(struct sha256 *s)
{
    /* Fractional parts of the square roots of the first 8 primes. */
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, start, sizeof start);
    s->bytes = 0;
}

void sha256_add(struct sha256 *s, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    size_t held = s->bytes % BLOCK;
    s->bytes += len;
    if (held > 0) {
        size_t take = MIN(len, BLOCK - held);
        memcpy(s->block + held, p, take);
        p += take;
        len -= take;
        if (held + take < BLOCK)
            return;
        add_blocks(s->state, s->block, 1);
    }
    add_blocks(s->state, p, len / BLOCK);
    if (len % BLOCK)
        memcpy(s->block, p + len - len % BLOCK, len % BLOCK);
}

void sha256_finish(struct sha256 *s, uint8_t digest[32])
{
    uint64_t bits = s->bytes * 8;
    static const uint8_t padding[BLOCK] = {0x80};
    size_t held = s->bytes % BLOCK;
    sha256_add(s, padding, held < 56 ? 56 - held : 120 - held);
    uint8_t length[8];
    store_u64(length, __builtin_bswap64(bits));
    sha256_add(s, length, sizeof length);
    for (size_t i = 0; i < 8; i++)
        store_u32(digest + 4 * i, __builtin_bswap32(s->state[i]));
}
