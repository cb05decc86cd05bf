/* Doubles as integers: the three mappings of column_float.h. Every encoder compares what decoding
 * will give with the original bits, so NaN payloads, -0.0, infinities and denormals need no case of
 * their own: what does not come back as it was is stored as it is.
 *
 *   decimal  u8 scale (exponent, DECIMAL_TIMES), u16 exceptions, u16 position each, u64 bits each,
 *            then a stream of integers, in which an exception repeats its predecessor
 *   ordered  a stream of integers
 *   split    u8 cut (52 or 53), u8 trailing zeros, u8 entries, u16 each, a stream of their indexes,
 *            then the bits below the cut less the trailing zeros, packed at cut - zeros */
#include "base/internal.h"

#include <fenv.h>

#include "store/column.h"
#include "store/column_float.h"

/* ---- decimal */

#define EXPONENT_MAX 22u /* 10^22 is the last power of ten that is a double */
#define DECIMAL_TIMES 0x80u
#define DECIMAL_SAMPLE 32u
#define INTEGER_LIMIT 2251799813685248.0 /* 2^51: what ROUNDER can do */

/* Added to |x| < 2^51 it leaves no bits for a fraction; as bits plus an integer it is the double
 * ROUNDER + integer. Both ways need no instruction that only new machines have. */
#define ROUNDER 6755399441055744.0
#define ROUNDER_BITS 0x4338000000000000u

typedef uint64_t row_bits __attribute__((vector_size(8 * BITS_LANES), aligned(8), may_alias));
typedef double row_floats __attribute__((vector_size(8 * BITS_LANES), aligned(8), may_alias));

static const double power_of_ten[EXPONENT_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
static const double tenth_power[EXPONENT_MAX + 1] = {
    1e0,   1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8,  1e-9,  1e-10, 1e-11,
    1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22};

static double as_double(uint64_t bits)
{
    return load_f64(&bits);
}

static uint64_t as_bits(double number)
{
    return load_u64(&number);
}

/* The integer that this double is at this scale, if it is one. */
static inline bool to_integer(uint64_t bits, uint8_t scale, uint64_t *integer)
{
    unsigned exponent = scale & ~DECIMAL_TIMES;
    double scaled = as_double(bits) * power_of_ten[exponent];
    if (!(scaled > -INTEGER_LIMIT && scaled < INTEGER_LIMIT))
        return false;
    double rounded = (scaled + ROUNDER) - ROUNDER;
    double back =
        scale & DECIMAL_TIMES ? rounded * tenth_power[exponent] : rounded / power_of_ten[exponent];
    *integer = (uint64_t)(int64_t)rounded;
    return as_bits(back) == bits;
}

static unsigned sample_matches(const uint64_t *sample, unsigned count, uint8_t scale,
                               unsigned enough)
{
    unsigned matches = 0;
    uint64_t integer;
    for (unsigned i = 0; i < count && matches + (count - i) >= enough; i++)
        matches += to_integer(sample[i], scale, &integer);
    return matches;
}

/* The scale at which most of a sample are integers; false when fewer than half are at any. */
static bool find_scale(const uint64_t *bits, size_t count, uint8_t *scale)
{
    uint64_t sample[DECIMAL_SAMPLE];
    unsigned taken = (unsigned)MIN(count, (size_t)DECIMAL_SAMPLE), best = 0;
    for (unsigned i = 0; i < taken; i++)
        sample[i] = bits[i * count / taken];
    for (unsigned exponent = 0; exponent <= EXPONENT_MAX && best < taken; exponent++)
        for (unsigned times = 0; times <= DECIMAL_TIMES && best < taken; times += DECIMAL_TIMES) {
            uint8_t candidate = (uint8_t)(exponent | times);
            unsigned matches = sample_matches(sample, taken, candidate, MAX(best + 1, taken / 2));
            if (matches > best) {
                best = matches;
                *scale = candidate;
            }
        }
    return best > 0 && best >= taken / 2;
}

static size_t encode_decimal(const uint64_t *bits, size_t count, uint8_t *to, size_t cap)
{
    uint8_t scale = 0;
    if (!find_scale(bits, count, &scale))
        return 0;
    uint64_t integers[COLUMN_MAX], last = 0;
    uint16_t exceptions[COLUMN_MAX];
    size_t excepted = 0;
    for (size_t i = 0; i < count; i++) {
        if (!to_integer(bits[i], scale, &integers[i])) {
            integers[i] = last;
            exceptions[excepted++] = (uint16_t)i;
        }
        last = integers[i];
    }
    size_t head = 3 + 10 * excepted;
    if (head >= cap)
        return 0;
    size_t len = ints_encode(integers, count, to + head, cap - head);
    if (len == 0)
        return 0;
    to[0] = scale;
    store_u16(to + 1, (uint16_t)excepted);
    uint8_t *positions = to + 3, *originals = positions + 2 * excepted;
    for (size_t i = 0; i < excepted; i++) {
        store_u16(positions + 2 * i, exceptions[i]);
        store_u64(originals + 8 * i, bits[exceptions[i]]);
    }
    return head + len;
}

/* Integers to doubles in place. Integers beyond 2^51 (only a forged block has them) give some
 * double or other. */
static inline __attribute__((always_inline)) void scale_rows(uint64_t *numbers, size_t count,
                                                             uint8_t scale)
{
    unsigned exponent = scale & ~DECIMAL_TIMES;
    double divisor = power_of_ten[exponent], factor = tenth_power[exponent];
    for (size_t i = 0; i < count; i += BITS_LANES) {
        row_bits integers = *(const row_bits *)(numbers + i);
        row_floats row = (row_floats)(integers + ROUNDER_BITS) - ROUNDER;
        if (exponent == 0)
            *(row_floats *)(numbers + i) = row;
        else if (scale & DECIMAL_TIMES)
            *(row_floats *)(numbers + i) = row * factor;
        else
            *(row_floats *)(numbers + i) = row / divisor;
    }
}

#ifdef __x86_64__
BITS_WIDE static void scale_rows_avx2(uint64_t *numbers, size_t count, uint8_t scale)
{
    scale_rows(numbers, count, scale);
}
#endif

static void scale_numbers(uint64_t *numbers, size_t count, uint8_t scale)
{
    size_t whole = count / BITS_LANES * BITS_LANES;
    uint64_t rest[BITS_LANES] = {0};
    memcpy(rest, numbers + whole, (count - whole) * 8);
#ifdef __x86_64__
    if (bits_wide())
        scale_rows_avx2(numbers, whole, scale);
    else
#endif
        scale_rows(numbers, whole, scale);
    scale_rows(rest, BITS_LANES, scale);
    memcpy(numbers + whole, rest, (count - whole) * 8);
}

static bool decode_decimal(struct reader *from, size_t count, uint64_t *bits)
{
    uint8_t scale = reader_u8(from);
    size_t excepted = reader_u16(from);
    if ((scale & ~DECIMAL_TIMES) > EXPONENT_MAX || excepted > count)
        return false;
    const uint8_t *positions = reader_take(from, 2 * excepted);
    const uint8_t *originals = reader_take(from, 8 * excepted);
    if (!originals || !ints_decode(from, count, bits))
        return false;
    scale_numbers(bits, count, scale);
    for (size_t i = 0; i < excepted; i++) {
        size_t at = load_u16(positions + 2 * i);
        if (at >= count)
            return false;
        bits[at] = load_u64(originals + 8 * i);
    }
    return true;
}

/* Decimal arithmetic is exact to the bit only when the processor rounds to nearest. A program may
 * have set another mode on this thread; it gets it back. */
size_t floats_encode_decimal(const uint64_t *bits, size_t count, uint8_t *to, size_t cap)
{
    int mode = fegetround();
    if (LIKELY(mode == FE_TONEAREST))
        return encode_decimal(bits, count, to, cap);
    fesetround(FE_TONEAREST);
    size_t len = encode_decimal(bits, count, to, cap);
    fesetround(mode);
    return len;
}

bool floats_decode_decimal(struct reader *from, size_t count, uint64_t *bits)
{
    int mode = fegetround();
    if (LIKELY(mode == FE_TONEAREST))
        return decode_decimal(from, count, bits);
    fesetround(FE_TONEAREST);
    bool fine = decode_decimal(from, count, bits);
    fesetround(mode);
    return fine;
}

/* ---- ordered */

#define SIGN ((uint64_t)1 << 63)

/* Its own inverse: a negative double's bits below the sign are turned over. */
static inline uint64_t reorder(uint64_t bits)
{
    return bits ^ ((0 - (bits >> 63)) & ~SIGN);
}

size_t floats_encode_ordered(const uint64_t *bits, size_t count, uint8_t *to, size_t cap)
{
    uint64_t numbers[COLUMN_MAX];
    for (size_t i = 0; i < count; i++)
        numbers[i] = reorder(bits[i]);
    return ints_encode(numbers, count, to, cap);
}

bool floats_decode_ordered(struct reader *from, size_t count, uint64_t *bits)
{
    if (!ints_decode(from, count, bits))
        return false;
    for (size_t i = 0; i < count; i++)
        bits[i] = reorder(bits[i]);
    return true;
}

/* ---- split */

#define MANTISSA_BITS 52u
#define MANTISSA (((uint64_t)1 << MANTISSA_BITS) - 1)
#define TOP_VALUES 4096u /* sign and exponent */
#define ENTRIES_MAX 255u

struct split {
    unsigned cut;   /* 52: entries hold sign and exponent; 53: the sign goes with the mantissa */
    unsigned zeros; /* trailing, common to all mantissas */
    unsigned count;
    uint16_t entries[ENTRIES_MAX + 1]; /* most frequent first */
    uint8_t index[TOP_VALUES];         /* of an entry */
};

static inline unsigned top_of(uint64_t bits, unsigned cut)
{
    unsigned top = (unsigned)(bits >> MANTISSA_BITS);
    return cut == MANTISSA_BITS ? top : top & (TOP_VALUES / 2 - 1);
}

static inline uint64_t bottom_of(uint64_t bits, unsigned cut)
{
    uint64_t sign = cut == MANTISSA_BITS ? 0 : bits >> 63;
    return sign << MANTISSA_BITS | (bits & MANTISSA);
}

static void find_cut(const uint64_t *bits, size_t count, struct split *s)
{
    uint64_t mantissas = (uint64_t)1 << MANTISSA_BITS;
    bool one_sign = true;
    for (size_t i = 0; i < count; i++) {
        mantissas |= bits[i] & MANTISSA;
        one_sign &= bits[i] >> 63 == bits[0] >> 63;
    }
    s->zeros = (unsigned)__builtin_ctzll(mantissas);
    s->cut = one_sign ? MANTISSA_BITS : MANTISSA_BITS + 1;
}

/* Count the tops and sort them by frequency; false when there are too many for a dictionary. */
static bool find_entries(const uint64_t *bits, size_t count, struct split *s)
{
    uint16_t seen[TOP_VALUES] = {0};
    for (size_t i = 0; i < count; i++) {
        unsigned top = top_of(bits[i], s->cut);
        if (seen[top]++ == 0) {
            if (s->count == ENTRIES_MAX)
                return false;
            s->entries[s->count++] = (uint16_t)top;
        }
    }
    for (unsigned i = 1; i < s->count; i++) {
        uint16_t entry = s->entries[i];
        unsigned j = i;
        for (; j > 0 && seen[s->entries[j - 1]] < seen[entry]; j--)
            s->entries[j] = s->entries[j - 1];
        s->entries[j] = entry;
    }
    for (unsigned i = 0; i < s->count; i++)
        s->index[s->entries[i]] = (uint8_t)i;
    return true;
}

size_t floats_encode_split(const uint64_t *bits, size_t count, uint8_t *to, size_t cap)
{
    struct split s;
    s.count = 0;
    find_cut(bits, count, &s);
    if (!find_entries(bits, count, &s))
        return 0;
    unsigned width = s.cut - s.zeros;
    size_t head = 3 + 2 * s.count, tail = bits_packed_size(count, width);
    if (head + tail >= cap)
        return 0;
    uint64_t numbers[COLUMN_MAX];
    for (size_t i = 0; i < count; i++)
        numbers[i] = s.index[top_of(bits[i], s.cut)];
    size_t len = ints_encode(numbers, count, to + head, cap - head - tail);
    if (len == 0)
        return 0;
    to[0] = (uint8_t)s.cut;
    to[1] = (uint8_t)s.zeros;
    to[2] = (uint8_t)s.count;
    memcpy(to + 3, s.entries, 2 * s.count);
    for (size_t i = 0; i < count; i++)
        numbers[i] = bottom_of(bits[i], s.cut) >> s.zeros;
    bits_pack(numbers, count, width, to + head + len);
    return head + len + tail;
}

bool floats_decode_split(struct reader *from, size_t count, uint64_t *bits)
{
    unsigned cut = reader_u8(from), zeros = reader_u8(from), entries = reader_u8(from);
    const uint8_t *tops = reader_take(from, 2 * entries);
    if (!tops || entries == 0 || cut - MANTISSA_BITS > 1 || zeros > MANTISSA_BITS)
        return false;
    uint64_t top[ENTRIES_MAX + 1] = {0};
    for (unsigned i = 0; i < entries; i++)
        top[i] = (uint64_t)load_u16(tops + 2 * i) << MANTISSA_BITS;

    uint64_t bottoms[COLUMN_MAX], largest = 0;
    if (!ints_decode(from, count, bits))
        return false;
    const uint8_t *packed = reader_take(from, bits_packed_size(count, cut - zeros));
    if (!packed)
        return false;
    bits_unpack(packed, count, cut - zeros, bottoms);
    for (size_t i = 0; i < count; i++) {
        uint64_t bottom = bottoms[i] << zeros;
        largest |= bits[i];
        bits[i] =
            top[bits[i] & ENTRIES_MAX] | (bottom >> MANTISSA_BITS) << 63 | (bottom & MANTISSA);
    }
    return largest <= ENTRIES_MAX;
}
