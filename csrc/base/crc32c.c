/* CRC32C by the processor's instruction where it has one, else by table. Every put and get passes
 * here with some 60 to 100 bytes, every scan with megabytes.
 *
 * The instruction takes 8 bytes a cycle but its result comes three cycles later, so long inputs run as
 * three independent streams of one stripe each, joined by multiplying a stream's checksum with a power
 * of x modulo the polynomial. With the bit order of CRC32C, a carry-less product of two 32-bit
 * checksums fed through the 8-byte instruction is their product times x^33: to move a checksum past n
 * bytes its factor is therefore x^(8n - 33) mod P. tests/c/base/test_crc32c.c derives the factors
 * below again, and compares this path with the table at every length and alignment. */
#if defined(__x86_64__)
#include <immintrin.h> /* names heap calls, so it comes before internal.h poisons them */
#endif

#include "base/internal.h"

#include "base/bytes.h"
#include "base/crc32c.h"

/* ---------------------------------------------------------------- by table */

#define POLYNOMIAL 0x82f63b78u /* 0x1EDC6F41 with its bits reversed */

static uint32_t tables[8][256]; /* tables[k][b]: checksum of byte b followed by k zero bytes */
static pthread_once_t tables_made = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++)
            tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
}

uint32_t crc32c_table(uint32_t so_far, const void *bytes, size_t len)
{
    pthread_once(&tables_made, make_tables);
    const uint8_t *p = bytes;
    uint32_t crc = ~so_far;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t v = load_u64(p) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= tables[7 - k][(v >> (8 * k)) & 0xff];
    }
    for (; len > 0; len--, p++)
        crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xff];
    return ~crc;
}

/* ---------------------------------------------------------------- by instruction */

#if defined(__x86_64__)
#define TARGET __attribute__((target("sse4.2,pclmul")))

TARGET static inline uint32_t step8(uint32_t crc, uint64_t v)
{
    return (uint32_t)_mm_crc32_u64(crc, v);
}
TARGET static inline uint32_t step4(uint32_t crc, uint32_t v)
{
    return _mm_crc32_u32(crc, v);
}
TARGET static inline uint32_t step1(uint32_t crc, uint8_t v)
{
    return _mm_crc32_u8(crc, v);
}
TARGET static inline uint64_t multiply(uint32_t a, uint32_t b)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}
static bool machine_has_it(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

/* Clang before 16 has these intrinsics only where the whole file is compiled for them. */
#elif defined(__aarch64__) && \
    (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_CRC32))
#include <arm_acle.h>
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__clang__)
#define TARGET __attribute__((target("crc,aes")))
#else
#define TARGET __attribute__((target("+crc+crypto")))
#endif

TARGET static inline uint32_t step8(uint32_t crc, uint64_t v)
{
    return __crc32cd(crc, v);
}
TARGET static inline uint32_t step4(uint32_t crc, uint32_t v)
{
    return __crc32cw(crc, v);
}
TARGET static inline uint32_t step1(uint32_t crc, uint8_t v)
{
    return __crc32cb(crc, v);
}
TARGET static inline uint64_t multiply(uint32_t a, uint32_t b)
{
    return (uint64_t)vmull_p64(a, b);
}
static bool machine_has_it(void)
{
#if defined(__linux__)
    enum { CRC32_BIT = 1 << 7, PMULL_BIT = 1 << 4 };
    unsigned long has = getauxval(AT_HWCAP);
    return (has & CRC32_BIT) && (has & PMULL_BIT);
#else
    return true; /* every 64-bit Apple processor */
#endif
}
#endif

#if defined(TARGET)
/* Stripes of four sizes: the long one for throughput, the shorter ones so that a few hundred bytes, and
 * one frame of a hundred, profit too. The widest is for chunks that are not in the cache: its streams
 * lie far enough apart for the processor to fetch each of them ahead, which reads memory more than
 * twice as fast as three streams in neighbouring pages. FACTOR_n moves a checksum past n bytes. */
enum { TINY_STRIPE = 32, SHORT_STRIPE = 128, LONG_STRIPE = 2048, WIDE_STRIPE = 65536 };
#define FACTOR_32 0xba4fc28eu
#define FACTOR_64 0x9e4addf8u
#define FACTOR_128 0x0d3b6092u
#define FACTOR_256 0xb9e02b86u
#define FACTOR_2048 0xa51b6135u
#define FACTOR_4096 0x82f89c77u
#define FACTOR_65536 0xc5013a36u
#define FACTOR_131072 0xac2ac6ddu

TARGET __attribute__((always_inline)) static inline uint32_t
three_stripes(uint32_t crc, const uint8_t *p, size_t stripe, uint32_t past_two, uint32_t past_one)
{
    uint32_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < stripe; i += 8) {
        a = step8(a, load_u64(p + i));
        b = step8(b, load_u64(p + stripe + i));
        c = step8(c, load_u64(p + 2 * stripe + i));
    }
    return step8(0, multiply(a, past_two) ^ multiply(b, past_one)) ^ c;
}

TARGET static uint32_t by_instruction(uint32_t so_far, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint32_t crc = ~so_far;
    for (; len >= 3 * WIDE_STRIPE; len -= 3 * WIDE_STRIPE, p += 3 * WIDE_STRIPE)
        crc = three_stripes(crc, p, WIDE_STRIPE, FACTOR_131072, FACTOR_65536);
    for (; len >= 3 * LONG_STRIPE; len -= 3 * LONG_STRIPE, p += 3 * LONG_STRIPE)
        crc = three_stripes(crc, p, LONG_STRIPE, FACTOR_4096, FACTOR_2048);
    for (; len >= 3 * SHORT_STRIPE; len -= 3 * SHORT_STRIPE, p += 3 * SHORT_STRIPE)
        crc = three_stripes(crc, p, SHORT_STRIPE, FACTOR_256, FACTOR_128);
    for (; len >= 3 * TINY_STRIPE; len -= 3 * TINY_STRIPE, p += 3 * TINY_STRIPE)
        crc = three_stripes(crc, p, TINY_STRIPE, FACTOR_64, FACTOR_32);
    for (; len >= 8; len -= 8, p += 8)
        crc = step8(crc, load_u64(p));
    if (len & 4) {
        crc = step4(crc, load_u32(p));
        p += 4;
    }
    for (len &= 3; len > 0; len--, p++)
        crc = step1(crc, *p);
    return ~crc;
}
#endif

/* ---------------------------------------------------------------- the choice */

static uint32_t choose(uint32_t so_far, const void *bytes, size_t len);

/* Starts at the chooser, which puts the choice here. Threads that race choose the same. */
static uint32_t (*chosen)(uint32_t, const void *, size_t) = choose;

static uint32_t choose(uint32_t so_far, const void *bytes, size_t len)
{
    uint32_t (*best)(uint32_t, const void *, size_t) = crc32c_table;
#if defined(TARGET)
    const char *forced = getenv("SYNADB_SIMD");
    if (machine_has_it() && !(forced && strcmp(forced, "scalar") == 0))
        best = by_instruction;
#endif
    __atomic_store_n(&chosen, best, __ATOMIC_RELAXED);
    return best(so_far, bytes, len);
}

uint32_t crc32c(uint32_t so_far, const void *bytes, size_t len)
{
    return __atomic_load_n(&chosen, __ATOMIC_RELAXED)(so_far, bytes, len);
}

/* ---------------------------------------------------------------- joining */

/* The product of two polynomials modulo P; the highest bit is the coefficient of x^0. */
static uint32_t times(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

/* Bytes behind the first run multiply its checksum by x^8 each; the inversions at both ends cancel. */
uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t len)
{
    uint32_t power = 1u << 31, square = 1u << 23; /* x^0, x^8 */
    for (; len; len >>= 1) {
        if (len & 1)
            power = times(power, square);
        square = times(square, square);
    }
    return times(power, first) ^ second;
}
