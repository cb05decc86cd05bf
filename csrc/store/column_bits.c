/* Bit packing of column blocks: see column_bits.h for the layout. Written with the compilers'
 * vector types, so that the same source is AVX2 where the machine has it (picked per call), SSE2 or
 * NEON where not, and gives the same bits everywhere. */
#include "base/internal.h"

#include "store/column.h"
#include "store/column_bits.h"

/* One word of every lane. The packed side may lie at any address. */
typedef uint64_t lanes __attribute__((vector_size(8 * BITS_LANES), aligned(1), may_alias));

static int wide = -1; /* atomic; -1 until asked */

#ifdef __x86_64__
static bool machine_is_wide(void)
{
    const char *level = getenv("SYNADB_SIMD");
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
           !(level && strcmp(level, "scalar") == 0);
}
#else
static bool machine_is_wide(void)
{
    return false; /* what the compiler makes of the plain source is the best there is */
}
#endif

bool bits_wide(void)
{
    int known = __atomic_load_n(&wide, __ATOMIC_RELAXED);
    if (UNLIKELY(known < 0)) { /* threads that race find the same */
        known = machine_is_wide();
        __atomic_store_n(&wide, known, __ATOMIC_RELAXED);
    }
    return known;
}

#ifdef SYNA_TESTING
void bits_test_force(int choice)
{
    __atomic_store_n(&wide, choice, __ATOMIC_RELAXED);
}
#endif

static uint64_t low_mask(unsigned width)
{
    return width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
}

void bits_pack(const uint64_t *numbers, size_t count, unsigned width, uint8_t *to)
{
    memset(to, 0, bits_packed_size(count, width));
    if (width == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        size_t bit = i / BITS_LANES * width;
        uint8_t *word = to + (bit / 64 * BITS_LANES + i % BITS_LANES) * 8;
        unsigned shift = bit % 64;
        store_u64(word, load_u64(word) | numbers[i] << shift);
        if (shift + width > 64) {
            uint8_t *next = word + 8 * BITS_LANES;
            store_u64(next, numbers[i] >> (64 - shift));
        }
    }
}

/* Rows are read without a branch: the word after the one in which a row begins is always taken in,
 * and its bits fall to the mask when they are not needed. The last word has none after it and is
 * taken twice; what that adds is above the mask too. */
static inline __attribute__((always_inline)) void unpack_rows(const uint8_t *from, size_t rows,
                                                              unsigned width, uint64_t *numbers)
{
    const lanes *words = (const lanes *)from;
    lanes *to = (lanes *)numbers;
    size_t last = (rows * width + 63) / 64 - 1, bit = 0;
    uint64_t mask = low_mask(width);
    for (size_t row = 0; row < rows; row++, bit += width) {
        size_t word = bit / 64, next = word < last ? word + 1 : last;
        unsigned shift = bit % 64;
        to[row] = (words[word] >> shift | (words[next] << 1) << (63 - shift)) & mask;
    }
}

#ifdef __x86_64__
BITS_WIDE static void unpack_rows_avx2(const uint8_t *from, size_t rows, unsigned width,
                                       uint64_t *numbers)
{
    unpack_rows(from, rows, width, numbers);
}
#endif

void bits_unpack(const uint8_t *from, size_t count, unsigned width, uint64_t *numbers)
{
    size_t rows = (count + BITS_LANES - 1) / BITS_LANES;
    if (width == 0 || rows == 0) {
        memset(numbers, 0, rows * BITS_LANES * 8);
        return;
    }
#ifdef __x86_64__
    if (bits_wide()) {
        unpack_rows_avx2(from, rows, width, numbers);
        return;
    }
#endif
    unpack_rows(from, rows, width, numbers);
}

size_t bits_unary_words(const uint64_t *numbers, size_t count, unsigned shift, size_t limit)
{
    uint64_t most = (uint64_t)limit * 64, bits = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t q = numbers[i] >> shift;
        if (q > most || (bits += q) > most)
            return limit + 1;
    }
    return (size_t)((bits + 63) / 64);
}

void bits_pack_unary(const uint64_t *numbers, size_t count, unsigned shift, size_t words,
                     uint8_t *to)
{
    memset(to, 0, words * 8);
    size_t bit = 0;
    for (size_t i = 0; i < count; i++) {
        bit += (size_t)(numbers[i] >> shift);
        to[bit / 8] |= (uint8_t)(1u << bit % 8);
        bit++;
    }
}

/* Places of the ones, eight at a time whether there are eight or not, so that the branches are easy
 * to foresee; what is written too much the next word overwrites. `ones` has room for 8 more. */
static inline __attribute__((always_inline)) bool find_ones(const uint8_t *from, size_t words,
                                                            size_t count, uint32_t *ones)
{
    size_t found = 0;
    for (size_t w = 0; w < words; w++) {
        uint64_t word = load_u64(from + 8 * w);
        size_t here = (size_t)__builtin_popcountll(word);
        if (here > count - found)
            return false;
        for (size_t i = 0; i < here; i += 8)
            for (size_t j = 0; j < 8; j++) {
                unsigned bit = word ? (unsigned)__builtin_ctzll(word) : 64;
                ones[found + i + j] = (uint32_t)w * 64 + bit;
                word &= word - 1;
            }
        found += here;
    }
    return found == count;
}

/* The distance between two ones is the number between them. */
static inline __attribute__((always_inline)) bool
unpack_unary(const uint8_t *from, size_t words, size_t count, unsigned shift, uint64_t *numbers)
{
    uint32_t ones[COLUMN_MAX + 8];
    if (!find_ones(from, words, count, ones))
        return false;
    numbers[0] |= (uint64_t)ones[0] << shift;
    for (size_t i = 1; i < count; i++)
        numbers[i] |= (uint64_t)(ones[i] - ones[i - 1] - 1) << shift;
    return true;
}

#ifdef __x86_64__
BITS_WIDE static bool unpack_unary_avx2(const uint8_t *from, size_t words, size_t count,
                                        unsigned shift, uint64_t *numbers)
{
    return unpack_unary(from, words, count, shift, numbers);
}
#endif

bool bits_unpack_unary(const uint8_t *from, size_t words, size_t count, unsigned shift,
                       uint64_t *numbers)
{
#ifdef __x86_64__
    if (bits_wide())
        return unpack_unary_avx2(from, words, count, shift, numbers);
#endif
    return unpack_unary(from, words, count, shift, numbers);
}
