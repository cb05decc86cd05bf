/* Streams of 64-bit numbers: choosing, writing and reading their encoding.
 *
 *   u8 mode, u8 width, [predictor >= 1: varint first], [predictor 2: varint second],
 *   varint base, [INTS_UNIT: varint unit], then by packing
 *     PACKED   the left-overs, packed at `width`
 *     PATCHED  u8 high width, u16 patches, u16 position each, their bits from `width` up packed at
 * the high width, then all low bits packed at `width` RICE     u16 words, the low `width` bits
 * packed, then the rest in unary in that many words (first, second and base are zigzag varints.) A
 * left-over that needs no prediction, the first or second number itself, is stored as 0. */
#include "base/internal.h"

#include "store/column.h"
#include "store/column_int.h"

#define CENTRE_SAMPLE 31u

struct plan {
    uint64_t first, second; /* of the prediction */
    uint64_t base, unit;
    size_t size;   /* bytes, head included */
    uint8_t mode;  /* ints_mode */
    uint8_t width; /* of the packed part */
    uint8_t high_width;
    uint16_t patches, words;
};

static uint64_t zigzag(uint64_t n)
{
    return n << 1 ^ (0 - (n >> 63));
}

static inline uint64_t unzigzag(uint64_t n)
{
    return n >> 1 ^ (0 - (n & 1));
}

static unsigned bit_length(uint64_t n)
{
    return n ? 64 - (unsigned)__builtin_clzll(n) : 0;
}

static size_t varint_size(uint64_t n)
{
    return n ? (bit_length(n) + 6) / 7 : 1;
}

/* ---- from numbers to left-overs */

/* What the predictor leaves of each number; the first `predictor` places are not used. */
static void differences(const uint64_t *numbers, size_t count, unsigned predictor, uint64_t *to)
{
    switch (predictor) {
    case 0:
        memcpy(to, numbers, count * 8);
        break;
    case 1:
        for (size_t i = 1; i < count; i++)
            to[i] = numbers[i] - numbers[i - 1];
        break;
    default:
        for (size_t i = 2; i < count; i++)
            to[i] = numbers[i] - 2 * numbers[i - 1] + numbers[i - 2];
        break;
    }
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Greatest common divisor of all distances from `base`; 1 when all are 0. */
static uint64_t common_unit(const uint64_t *differences, size_t count, uint64_t base)
{
    uint64_t unit = 0;
    for (size_t i = 0; i < count && unit != 1; i++)
        unit = gcd(differences[i] - base, unit);
    return unit ? unit : 1;
}

/* About the median, from evenly spaced samples: it is one of the numbers, which keeps distances
 * from it multiples of the common unit. */
static uint64_t centre(const uint64_t *differences, size_t count)
{
    int64_t sample[CENTRE_SAMPLE];
    size_t taken = MIN(count, (size_t)CENTRE_SAMPLE);
    for (size_t i = 0; i < taken; i++) {
        int64_t n = (int64_t)differences[i * count / taken];
        size_t j = i;
        for (; j > 0 && sample[j - 1] > n; j--)
            sample[j] = sample[j - 1];
        sample[j] = n;
    }
    return (uint64_t)sample[taken / 2];
}

static inline uint64_t zigzag_units(uint64_t distance, uint64_t unit)
{
    uint64_t size = distance >> 63 ? 0 - distance : distance;
    size /= unit;
    return zigzag(distance >> 63 ? 0 - size : size);
}

static void leftovers(const uint64_t *differences, size_t count, const struct plan *p, uint64_t *to)
{
    uint64_t base = p->base, unit = p->unit;
    unsigned start = p->mode & INTS_PREDICTOR;
    memset(to, 0, start * sizeof *to);
    if (p->mode & INTS_ZIGZAG && unit == 1)
        for (size_t i = start; i < count; i++)
            to[i] = zigzag(differences[i] - base);
    else if (p->mode & INTS_ZIGZAG)
        for (size_t i = start; i < count; i++)
            to[i] = zigzag_units(differences[i] - base, unit);
    else if (unit == 1)
        for (size_t i = start; i < count; i++)
            to[i] = differences[i] - base;
    else
        for (size_t i = start; i < count; i++)
            to[i] = (differences[i] - base) / unit;
}

/* ---- weighing the packings; each leaves its choice in `p` when it is smaller than what is there
 */

static size_t head_size(const struct plan *p)
{
    unsigned predictor = p->mode & INTS_PREDICTOR;
    return 2 + (predictor > 0 ? varint_size(zigzag(p->first)) : 0) +
           (predictor > 1 ? varint_size(zigzag(p->second)) : 0) + varint_size(zigzag(p->base)) +
           (p->unit != 1 ? varint_size(p->unit) : 0);
}

static void take(struct plan *p, size_t size, uint8_t packing, unsigned width)
{
    p->size = size;
    p->mode = (uint8_t)((p->mode & ~INTS_PACKING) | packing);
    p->width = (uint8_t)width;
}

/* Plain packing at the widest number, or narrower with patches. */
static void weigh_packed(const uint64_t *left, size_t count, size_t head, struct plan *p)
{
    size_t with_length[65] = {0};
    for (size_t i = 0; i < count; i++)
        with_length[bit_length(left[i])]++;
    unsigned widest = 64;
    while (widest > 0 && with_length[widest] == 0)
        widest--;
    size_t size = head + bits_packed_size(count, widest);
    if (size < p->size)
        take(p, size, INTS_PACKED, widest);
    size_t patches = 0;
    for (unsigned width = widest; width-- > 0;) {
        patches += with_length[width + 1];
        size = head + 3 + 2 * patches + bits_packed_size(patches, widest - width) +
               bits_packed_size(count, width);
        if (size < p->size) {
            take(p, size, INTS_PATCHED, width);
            p->high_width = (uint8_t)(widest - width);
            p->patches = (uint16_t)patches;
        }
    }
}

/* A Rice code is shortest near a width of log2(mean * ln 2); its neighbours are tried too. */
static void weigh_rice(const uint64_t *left, size_t count, size_t head, struct plan *p)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)left[i];
    double mean = sum / (double)count * 0.69;
    unsigned guess = 0;
    while (guess < 62 && (double)((uint64_t)2 << guess) <= mean)
        guess++;
    for (unsigned width = guess ? guess - 1 : 0; width <= guess + 1; width++) {
        size_t low = head + 2 + bits_packed_size(count, width);
        if (low >= p->size)
            continue;
        size_t most = (p->size - low) / 8;
        size_t words = bits_unary_words(left, count, width, most);
        if (words <= most && low + 8 * words < p->size) {
            take(p, low + 8 * words, INTS_RICE, width);
            p->words = (uint16_t)words;
        }
    }
}

static void weigh(const uint64_t *differences, size_t count, const struct plan *start,
                  struct plan *best)
{
    uint64_t left[COLUMN_MAX];
    struct plan p = *start;
    p.size = best->size;
    leftovers(differences, count, &p, left);
    size_t head = head_size(&p);
    weigh_packed(left, count, head, &p);
    weigh_rice(left, count, head, &p);
    if (p.size < best->size)
        *best = p;
}

static void plan_predictor(const uint64_t *numbers, size_t count, unsigned predictor,
                           struct plan *best)
{
    uint64_t d[COLUMN_MAX];
    differences(numbers, count, predictor, d);
    int64_t least = INT64_MAX, most = INT64_MIN;
    for (size_t i = predictor; i < count; i++) {
        least = MIN(least, (int64_t)d[i]);
        most = MAX(most, (int64_t)d[i]);
    }
    struct plan p = {.first = numbers[0], .base = (uint64_t)least, .mode = (uint8_t)predictor};
    if (predictor > 1)
        p.second = numbers[1];
    p.unit = common_unit(d + predictor, count - predictor, p.base);
    if (p.unit != 1)
        p.mode |= INTS_UNIT;
    weigh(d, count, &p, best);
    /* Both sides of a centre: only where distances have a sign, and then only for a Rice code or
     * patches is it better than counting from the least. */
    if (((uint64_t)most - (uint64_t)least) >> 63 == 0 && most != least) {
        p.base = centre(d + predictor, count - predictor);
        p.mode |= INTS_ZIGZAG;
        weigh(d, count, &p, best);
    }
}

/* ---- writing */

static uint8_t *write_head(const struct plan *p, uint8_t *to)
{
    unsigned predictor = p->mode & INTS_PREDICTOR;
    *to++ = p->mode;
    *to++ = p->width;
    if (predictor > 0)
        to += varint_put(to, zigzag(p->first));
    if (predictor > 1)
        to += varint_put(to, zigzag(p->second));
    to += varint_put(to, zigzag(p->base));
    if (p->unit != 1)
        to += varint_put(to, p->unit);
    return to;
}

static uint8_t *write_packed(uint64_t *left, size_t count, unsigned width, uint8_t *to)
{
    uint64_t mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
    for (size_t i = 0; i < count; i++)
        left[i] &= mask;
    bits_pack(left, count, width, to);
    return to + bits_packed_size(count, width);
}

static uint8_t *write_patches(const struct plan *p, const uint64_t *left, size_t count, uint8_t *to)
{
    uint64_t high[COLUMN_MAX];
    *to++ = p->high_width;
    store_u16(to, p->patches);
    to += 2;
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (left[i] >> p->width) {
            high[found++] = left[i] >> p->width;
            store_u16(to, (uint16_t)i);
            to += 2;
        }
    bits_pack(high, found, p->high_width, to);
    return to + bits_packed_size(found, p->high_width);
}

static void write_stream(const struct plan *p, const uint64_t *numbers, size_t count, uint8_t *to)
{
    uint64_t d[COLUMN_MAX], left[COLUMN_MAX];
    differences(numbers, count, p->mode & INTS_PREDICTOR, d);
    leftovers(d, count, p, left);
    to = write_head(p, to);
    switch (p->mode & INTS_PACKING) {
    case INTS_PATCHED:
        to = write_patches(p, left, count, to);
        write_packed(left, count, p->width, to);
        break;
    case INTS_RICE:
        store_u16(to, p->words);
        to += 2;
        bits_pack_unary(left, count, p->width, p->words, to + bits_packed_size(count, p->width));
        write_packed(left, count, p->width, to);
        break;
    default:
        write_packed(left, count, p->width, to);
        break;
    }
}

size_t ints_encode(const uint64_t *numbers, size_t count, uint8_t *to, size_t cap)
{
    struct plan best = {.size = cap + 1};
    /* A predictor that did not help its turn ends the search: a line is not better than a step
     * then. Neither is anything when nothing is left over. */
    for (unsigned predictor = 0; predictor <= 2 && predictor < count; predictor++) {
        plan_predictor(numbers, count, predictor, &best);
        bool nothing_left = best.width == 0 && (best.mode & INTS_PACKING) == INTS_PACKED;
        bool no_help = predictor == 1 && (best.mode & INTS_PREDICTOR) == 0;
        if (best.size <= cap && (nothing_left || no_help))
            break;
    }
    if (best.size > cap)
        return 0;
    write_stream(&best, numbers, count, to);
    return best.size;
}

/* ---- reading */

static uint64_t read_varint(struct reader *r)
{
    uint64_t n = 0;
    size_t len = varint_get(r->at, r->end, &n);
    if (len == 0)
        r->short_read = true;
    r->at += len;
    return n;
}

static bool read_head(struct reader *r, struct plan *p)
{
    p->mode = reader_u8(r);
    p->width = reader_u8(r);
    unsigned predictor = p->mode & INTS_PREDICTOR;
    if (predictor > 0)
        p->first = unzigzag(read_varint(r));
    if (predictor > 1)
        p->second = unzigzag(read_varint(r));
    p->base = unzigzag(read_varint(r));
    p->unit = p->mode & INTS_UNIT ? read_varint(r) : 1;
    const unsigned known = INTS_PREDICTOR | INTS_ZIGZAG | INTS_UNIT | INTS_PACKING;
    return !r->short_read && predictor <= 2 && p->width <= 64 && !(p->mode & ~known);
}

static bool read_packed(struct reader *r, size_t count, unsigned width, uint64_t *numbers)
{
    const uint8_t *from = reader_take(r, bits_packed_size(count, width));
    if (!from)
        return false;
    bits_unpack(from, count, width, numbers);
    return true;
}

static bool read_patched(struct reader *r, size_t count, unsigned width, uint64_t *left)
{
    uint64_t high[COLUMN_MAX];
    unsigned high_width = reader_u8(r);
    size_t patches = reader_u16(r);
    if (patches > count || width + high_width > 64 || high_width == 0)
        return false;
    const uint8_t *positions = reader_take(r, 2 * patches);
    if (!positions || !read_packed(r, patches, high_width, high) ||
        !read_packed(r, count, width, left))
        return false;
    for (size_t i = 0; i < patches; i++) {
        size_t at = load_u16(positions + 2 * i);
        if (at >= count)
            return false;
        left[at] |= high[i] << width;
    }
    return true;
}

static bool read_rice(struct reader *r, size_t count, unsigned width, uint64_t *left)
{
    size_t words = reader_u16(r);
    if (width > 63 || !read_packed(r, count, width, left))
        return false;
    const uint8_t *unary = reader_take(r, 8 * words);
    return unary && bits_unpack_unary(unary, words, count, width, left);
}

static bool read_leftovers(struct reader *r, const struct plan *p, size_t count, uint64_t *left)
{
    switch (p->mode & INTS_PACKING) {
    case INTS_PACKED:
        return read_packed(r, count, p->width, left);
    case INTS_PATCHED:
        return read_patched(r, count, p->width, left);
    case INTS_RICE:
        return read_rice(r, count, p->width, left);
    default:
        return false;
    }
}

/* Left-overs back to numbers. Inlined with each mode as a constant: six tight loops whose only
 * dependency from number to number is an addition. */
static inline __attribute__((always_inline)) void restore_as(const struct plan *p,
                                                             unsigned predictor, bool zigzagged,
                                                             const uint64_t *left, size_t count,
                                                             uint64_t *numbers)
{
    uint64_t base = p->base, unit = p->unit;
    uint64_t last = predictor == 2 ? p->second : p->first, slope = p->second - p->first;
    if (predictor > 0)
        numbers[0] = p->first;
    if (predictor > 1 && count > 1)
        numbers[1] = p->second;
    for (size_t i = predictor; i < count; i++) {
        uint64_t n = (zigzagged ? unzigzag(left[i]) : left[i]) * unit + base;
        if (predictor == 0) {
            last = n;
        } else if (predictor == 1) {
            last += n;
        } else {
            slope += n;
            last += slope;
        }
        numbers[i] = last;
    }
}

static void restore(const struct plan *p, const uint64_t *left, size_t count, uint64_t *numbers)
{
    switch (p->mode & (INTS_PREDICTOR | INTS_ZIGZAG)) {
    case 0:
        restore_as(p, 0, false, left, count, numbers);
        break;
    case 0 | INTS_ZIGZAG:
        restore_as(p, 0, true, left, count, numbers);
        break;
    case 1:
        restore_as(p, 1, false, left, count, numbers);
        break;
    case 1 | INTS_ZIGZAG:
        restore_as(p, 1, true, left, count, numbers);
        break;
    case 2:
        restore_as(p, 2, false, left, count, numbers);
        break;
    default:
        restore_as(p, 2, true, left, count, numbers);
        break;
    }
}

bool ints_decode(struct reader *from, size_t count, uint64_t *numbers)
{
    uint64_t left[COLUMN_MAX];
    struct plan p = {0};
    if (!read_head(from, &p) || !read_leftovers(from, &p, count, left))
        return false;
    restore(&p, left, count, numbers);
    return true;
}
