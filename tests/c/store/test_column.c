/* Column blocks: every 64-bit pattern comes back bit for bit from every encoding, on the wide and
 * on the plain path; blocks written by hand from FORMATS.md decode; damaged ones end in a typed
 * error; sizes keep what the format promises. */
#include "check.h"

#include <fenv.h>
#include <math.h>

#include "store/column.h"
#include "store/column_float.h"
#include "store/column_int.h"
#include <synadb/kv.h>

#define FRAME_STAMP 1700000000000000u
#define HEAD 14u
#define HEAD_WITH_STAMPS 32u

enum { RAW, INTS, ORDERED, DECIMAL, SPLIT };

static struct column_source source(const struct buf *b)
{
    return (struct column_source){b->bytes, b->len, FRAME_STAMP, "a.db", 4711};
}

/* Encode, decode on both paths, compare everything; returns the block's first value byte. */
static unsigned check_block(int32_t type, const uint64_t *bits, const uint64_t *stamps,
                            const uint64_t *events, size_t count, size_t *len)
{
    struct buf b = {0};
    CHECK(buf_append(&b, "before", 6));
    CHECK(column_encode(type, bits, stamps, events, count, &b));
    CHECK_MEM(b.bytes, "before", 6);
    /* An exact copy, at an odd address, so that a sanitizer sees every byte read too much. */
    uint8_t *copy = malloc(b.len - 5);
    memcpy(copy + 1, b.bytes + 6, b.len - 6);
    struct column_source from = {copy + 1, b.len - 6, FRAME_STAMP, "a.db", 4711};
    struct column_info info;
    CHECK_OK(column_peek(&from, &info));
    CHECK_EQ(info.type, type);
    CHECK_EQ(info.count, count);
    CHECK_EQ(info.last_bits, bits[count - 1]);
    CHECK_EQ(info.first_stamp, stamps ? stamps[0] : FRAME_STAMP);
    CHECK_EQ(info.last_stamp, stamps ? stamps[count - 1] : FRAME_STAMP);
    CHECK_EQ(info.has_events, events != NULL);
    for (int wide = 0; wide <= 1; wide++) {
        uint64_t *got = malloc(3 * 8 * count); /* no room to spare */
        bits_test_force(wide ? -1 : 0);
        CHECK_OK(column_decode(&from, got, got + count, got + 2 * count));
        bits_test_force(-1);
        CHECK_MEM(got, bits, 8 * count);
        for (size_t i = 0; i < count; i++) {
            CHECK_EQ(got[count + i], stamps ? stamps[i] : FRAME_STAMP);
            CHECK_EQ(got[2 * count + i], events ? events[i] : 0);
        }
        CHECK_OK(column_decode(&from, got, NULL, NULL));
        CHECK_MEM(got, bits, 8 * count);
        CHECK_OK(column_decode(&from, NULL, got, NULL));
        CHECK_EQ(got[count - 1], stamps ? stamps[count - 1] : FRAME_STAMP);
        free(got);
    }
    unsigned encoding = from.block[stamps ? HEAD_WITH_STAMPS : HEAD];
    size_t raw =
        HEAD + 1 + 8 * count + (stamps ? 18 + 8 * count + 52 : 0) + (events ? 8 * count + 52 : 0);
    CHECK(from.len <= raw);
    *len = from.len;
    free(copy);
    buf_dispose(&b);
    return encoding;
}

/* ---- values that are hard to keep */

static uint64_t bits_of(double x)
{
    return load_u64(&x);
}

static double uniform(void)
{
    return ((double)(check_random() >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static const double special[] = {0.0,
                                 -0.0,
                                 INFINITY,
                                 -INFINITY,
                                 5e-324,
                                 -5e-324,
                                 2.2250738585072014e-308,
                                 1.7e308,
                                 -1.7e308,
                                 0.1,
                                 0.01,
                                 1e22,
                                 1e23,
                                 4503599627370496.5,
                                 0x1p51,
                                 -0x1p51,
                                 0x1p52,
                                 0x1p53 + 2,
                                 1e15,
                                 123456789012345.6,
                                 1.0 / 3,
                                 0.3,
                                 0.1 + 0.2,
                                 1e-22,
                                 9.87e-5,
                                 65536.0};

static uint64_t random_nan(void)
{
    return (check_random() & 0x800fffffffffffffu) | 0x7ff0000000000001u;
}

enum shape {
    ANY_BITS,
    SPECIALS,
    NANS,
    WALK_2,     /* random walk, two decimals */
    WALK_2_BAD, /* the same with outliers, NaN and -0.0 in between */
    WALK_FULL,
    NOISE,
    NOISE_POSITIVE,
    SINGLES,    /* float32 values */
    TIMES_STEP, /* i * 0.01 */
    WHOLE,
    DENORMAL,
    COUNTER,
    COUNTER_MS, /* multiples of 1000 */
    CONSTANT,
    EXTREMES, /* integers at both ends */
    SMALL,
    LINE,
    SKEWED,
    OUTLIERS, /* small numbers, one in twenty large */
    SHAPES
};

static void fill(enum shape shape, uint64_t *bits, size_t count)
{
    double walk = normal() * 100, scale = pow(10, (double)(check_random() % 12) - 6);
    uint64_t n = check_random();
    for (size_t i = 0; i < count; i++) {
        uint64_t r = check_random();
        walk += normal() * 0.15;
        switch (shape) {
        case ANY_BITS:
            bits[i] = r >> n % 64;
            break;
        case SPECIALS:
            bits[i] = bits_of(special[r % COUNT_OF(special)]);
            break;
        case NANS:
            bits[i] = r % 2 ? random_nan() : bits_of(walk);
            break;
        case WALK_2:
            bits[i] = bits_of(rint(walk * 100) / 100);
            break;
        case WALK_2_BAD:
            bits[i] = r % 16 == 0   ? bits_of(special[r / 16 % COUNT_OF(special)])
                      : r % 16 == 1 ? random_nan()
                                    : bits_of(rint(walk * 100) / 100);
            break;
        case WALK_FULL:
            bits[i] = bits_of(walk * scale);
            break;
        case NOISE:
            bits[i] = bits_of(normal() * scale);
            break;
        case NOISE_POSITIVE:
            bits[i] = bits_of(uniform() * scale);
            break;
        case SINGLES:
            bits[i] = bits_of((double)(float)normal());
            break;
        case TIMES_STEP:
            bits[i] = bits_of((double)(i + n % 1000) * 0.01);
            break;
        case WHOLE:
            bits[i] = bits_of(rint(walk * 1000));
            break;
        case DENORMAL:
            bits[i] = r >> 12 >> n % 52;
            break;
        case COUNTER:
            bits[i] = n += 1 + r % 300;
            break;
        case COUNTER_MS:
            bits[i] = 1700000000000000u + i * 100000 + r % 50 * 1000;
            break;
        case CONSTANT:
            bits[i] = n;
            break;
        case EXTREMES:
            bits[i] = r % 3 == 0 ? (uint64_t)INT64_MIN : r % 3 == 1 ? INT64_MAX : r;
            break;
        case SMALL:
            bits[i] = r % 8;
            break;
        case LINE:
            bits[i] = n + i * (n >> 20);
            break;
        case SKEWED:
            bits[i] = (uint64_t)(-log(uniform()) * 100);
            break;
        default:
            bits[i] = r % 20 ? r % 64 : r >> n % 40;
            break;
        }
    }
}

static const size_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 255, 1000, 1023, 1024};

TEST(P4_every_shape_of_values_comes_back_bit_for_bit)
{
    uint64_t bits[COLUMN_MAX];
    size_t len;
    for (int64_t round = check_rounds(4); round > 0; round--)
        for (unsigned shape = 0; shape < SHAPES; shape++)
            for (size_t i = 0; i < COUNT_OF(counts); i++) {
                check_note("shape %u, %zu values", shape, counts[i]);
                fill(shape, bits, counts[i]);
                check_block(SYNA_TYPE_FLOAT, bits, NULL, NULL, counts[i], &len);
                check_block(SYNA_TYPE_INT, bits, NULL, NULL, counts[i], &len);
            }
}

TEST(each_encoding_is_used_where_it_belongs)
{
    static const struct {
        enum shape shape;
        int32_t type;
        unsigned encoding;
    } expected[] = {
        {ANY_BITS, SYNA_TYPE_INT, INTS},        {WALK_2, SYNA_TYPE_FLOAT, DECIMAL},
        {WALK_2_BAD, SYNA_TYPE_FLOAT, DECIMAL}, {WALK_FULL, SYNA_TYPE_FLOAT, ORDERED},
        {NOISE, SYNA_TYPE_FLOAT, SPLIT},        {SINGLES, SYNA_TYPE_FLOAT, SPLIT},
        {TIMES_STEP, SYNA_TYPE_FLOAT, DECIMAL}, {WHOLE, SYNA_TYPE_FLOAT, DECIMAL},
        {COUNTER, SYNA_TYPE_INT, INTS},
    };
    uint64_t bits[COLUMN_MAX];
    size_t len;
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        check_note("case %zu", i);
        do
            fill(expected[i].shape, bits, COLUMN_MAX);
        while (expected[i].shape == ANY_BITS && (bits[0] | bits[1] | bits[2]) >> 60);
        CHECK_EQ(check_block(expected[i].type, bits, NULL, NULL, COLUMN_MAX, &len),
                 expected[i].encoding);
    }
    for (size_t i = 0; i < COLUMN_MAX; i++)
        bits[i] = check_random();
    CHECK_EQ(check_block(SYNA_TYPE_INT, bits, NULL, NULL, COLUMN_MAX, &len), RAW);
    CHECK_EQ(len, HEAD + 1 + 8 * COLUMN_MAX);
}

/* ---- the parts by themselves, so that each is used whether it wins or not */

typedef size_t (*encoder)(const uint64_t *, size_t, uint8_t *, size_t);
typedef bool (*decoder)(struct reader *, size_t, uint64_t *);

static void check_part(encoder encode, decoder decode, const uint64_t *bits, size_t count,
                       unsigned *used)
{
    uint8_t to[8 * COLUMN_MAX + 4096];
    uint64_t back[COLUMN_MAX];
    size_t len = encode(bits, count, to, sizeof to);
    if (len == 0)
        return;
    ++*used;
    CHECK(encode(bits, count, to, len - 1) < len);
    CHECK_EQ(encode(bits, count, to, len), len);
    for (int wide = 0; wide <= 1; wide++) {
        uint8_t *copy = malloc(len);
        memcpy(copy, to, len);
        struct reader r = reader_of(copy, len);
        bits_test_force(wide ? -1 : 0);
        CHECK(decode(&r, count, back));
        bits_test_force(-1);
        CHECK_EQ(reader_left(&r), 0);
        CHECK_MEM(back, bits, 8 * count);
        free(copy);
    }
}

TEST(every_mapping_of_doubles_is_reversible_on_every_shape)
{
    uint64_t bits[COLUMN_MAX];
    unsigned decimal = 0, ordered = 0, split = 0;
    for (unsigned shape = 0; shape < SHAPES; shape++)
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            check_note("shape %u, %zu values", shape, counts[i]);
            fill(shape, bits, counts[i]);
            check_part(floats_encode_decimal, floats_decode_decimal, bits, counts[i], &decimal);
            check_part(floats_encode_ordered, floats_decode_ordered, bits, counts[i], &ordered);
            check_part(floats_encode_split, floats_decode_split, bits, counts[i], &split);
        }
    CHECK_EQ(ordered, SHAPES * COUNT_OF(counts));
    CHECK(decimal > 3 * COUNT_OF(counts));
    CHECK(split > 10 * COUNT_OF(counts));
}

TEST(every_mode_of_integers_is_used_and_reversible)
{
    uint64_t bits[COLUMN_MAX];
    unsigned used = 0, modes[64] = {0};
    for (int64_t round = check_rounds(5); round > 0; round--)
        for (unsigned shape = 0; shape < SHAPES; shape++)
            for (size_t i = 0; i < COUNT_OF(counts); i++) {
                check_note("shape %u, %zu values", shape, counts[i]);
                uint8_t to[8 * COLUMN_MAX + 64];
                fill(shape, bits, counts[i]);
                check_part(ints_encode, ints_decode, bits, counts[i], &used);
                CHECK(ints_encode(bits, counts[i], to, sizeof to) > 0);
                modes[to[0]]++;
            }
    unsigned predictors[3] = {0}, packings[3] = {0}, zigzags = 0, units = 0;
    for (unsigned mode = 0; mode < 64; mode++) {
        predictors[(mode & INTS_PREDICTOR) % 3] += modes[mode];
        packings[(mode & INTS_PACKING) / INTS_PATCHED % 3] += modes[mode];
        zigzags += mode & INTS_ZIGZAG ? modes[mode] : 0;
        units += mode & INTS_UNIT ? modes[mode] : 0;
    }
    for (int i = 0; i < 3; i++) {
        CHECK(predictors[i] > 0);
        CHECK(packings[i] > 0);
    }
    CHECK(zigzags > 0 && units > 0);
}

TEST(packing_is_reversible_at_every_width_and_count)
{
    uint64_t numbers[COLUMN_MAX], plain[COLUMN_MAX], wide[COLUMN_MAX];
    for (unsigned width = 0; width <= 64; width++)
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            size_t count = counts[i], size = bits_packed_size(count, width);
            for (size_t j = 0; j < count; j++)
                numbers[j] = width ? check_random() >> (64 - width) : 0;
            uint8_t *packed = malloc(size + 1);
            bits_pack(numbers, count, width, packed);
            bits_test_force(0);
            bits_unpack(packed, count, width, plain);
            bits_test_force(-1);
            bits_unpack(packed, count, width, wide);
            CHECK_MEM(plain, numbers, 8 * count);
            CHECK_MEM(wide, numbers, 8 * count);
            free(packed);
        }
}

TEST(unary_is_reversible_and_exact_about_its_count)
{
    uint64_t numbers[COLUMN_MAX], back[COLUMN_MAX];
    for (unsigned shift = 0; shift < 64; shift += 7)
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            size_t count = counts[i];
            uint64_t low = ((uint64_t)1 << shift) - 1;
            for (size_t j = 0; j < count; j++)
                numbers[j] = (check_random() % (j % 50 ? 3 : 200)) << shift >> shift << shift |
                             (check_random() & low);
            size_t words = bits_unary_words(numbers, count, shift, 100000);
            uint8_t *unary = malloc(8 * words + 8);
            memset(unary, 0xff, 8 * words + 8);
            bits_pack_unary(numbers, count, shift, words, unary);
            for (int wide = 0; wide <= 1; wide++) {
                bits_test_force(wide ? -1 : 0);
                for (size_t j = 0; j < count; j++)
                    back[j] = numbers[j] & low;
                CHECK(bits_unpack_unary(unary, words, count, shift, back));
                CHECK_MEM(back, numbers, 8 * count);
                memset(back, 0, sizeof back);
                CHECK(!bits_unpack_unary(unary, words + 1, count, shift, back));
                CHECK(!bits_unpack_unary(unary, words - 1, count, shift, back));
                if (count > 1)
                    CHECK(!bits_unpack_unary(unary, words, count - 1, shift, back));
            }
            CHECK_EQ(bits_unary_words(numbers, count, shift, words - 1), words);
            bits_test_force(-1);
            free(unary);
        }
}

/* ---- stamps and events */

TEST(stamps_and_events_of_every_kind_come_back)
{
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX], events[COLUMN_MAX];
    size_t len;
    for (unsigned kind = 0; kind < 6; kind++)
        for (size_t i = 0; i < COUNT_OF(counts); i++) {
            size_t count = counts[i];
            uint64_t at = FRAME_STAMP;
            fill(WALK_2, bits, count);
            for (size_t j = 0; j < count; j++) {
                uint64_t r = check_random();
                at += kind == 0   ? 0
                      : kind == 1 ? 1000
                      : kind == 2 ? 100000 + r % 300
                      : kind == 3 ? (r % 10 ? 0 : r % 1000000)
                      : kind == 4 ? r >> 16
                                  : 1000 * (r % 60);
                stamps[j] = kind == 4 && j == 0 ? 0 : at;
                events[j] = kind % 2 ? (r % 5 ? 0 : at - r % 99) : r;
            }
            check_note("kind %u, %zu values", kind, count);
            check_block(SYNA_TYPE_FLOAT, bits, stamps, NULL, count, &len);
            check_block(SYNA_TYPE_FLOAT, bits, NULL, events, count, &len);
            check_block(SYNA_TYPE_INT, bits, stamps, events, count, &len);
        }
}

TEST(regular_stamps_cost_next_to_nothing)
{
    uint64_t bits[COLUMN_MAX] = {0}, stamps[COLUMN_MAX];
    size_t without, with;
    for (size_t i = 0; i < COLUMN_MAX; i++)
        stamps[i] = FRAME_STAMP + 250000 * i;
    check_block(SYNA_TYPE_INT, bits, NULL, NULL, COLUMN_MAX, &without);
    check_block(SYNA_TYPE_INT, bits, stamps, NULL, COLUMN_MAX, &with);
    CHECK(without <= HEAD + 8);
    CHECK(with - without <= 40);
}

/* ---- sizes */

static double bytes_per_value(enum shape shape)
{
    uint64_t bits[COLUMN_MAX];
    size_t total = 0, len;
    for (int block = 0; block < 20; block++) {
        fill(shape, bits, COLUMN_MAX);
        if (shape == NOISE)
            for (size_t i = 0; i < COLUMN_MAX; i++)
                bits[i] = bits_of(normal());
        check_block(SYNA_TYPE_FLOAT, bits, NULL, NULL, COLUMN_MAX, &len);
        total += len;
    }
    return (double)total / (20 * COLUMN_MAX);
}

TEST(sensor_data_and_noise_stay_within_their_sizes)
{
    CHECK(bytes_per_value(WALK_2) < 0.82); /* steps of 0.15: entropy 0.74 */
    CHECK(bytes_per_value(NOISE) < 7.05);
    CHECK(bytes_per_value(SINGLES) < 3.45);
    CHECK(bytes_per_value(CONSTANT) < 0.03);
}

/* ---- blocks written by hand from FORMATS.md */

static void check_by_hand(const uint8_t *block, size_t len, int32_t type, const uint64_t *want,
                          size_t count)
{
    uint64_t got[COLUMN_MAX];
    struct column_source from = {block, len, FRAME_STAMP, "a.db", 0};
    struct column_info info;
    CHECK_OK(column_peek(&from, &info));
    CHECK_EQ(info.type, type);
    CHECK_EQ(info.count, count);
    CHECK_OK(column_decode(&from, got, NULL, NULL));
    CHECK_MEM(got, want, 8 * count);
}

static size_t head(uint8_t *p, uint8_t type, uint16_t count, uint64_t last, uint16_t len)
{
    p[0] = 1;
    p[1] = type;
    store_u16(p + 2, count);
    store_u64(p + 4, last);
    store_u16(p + 12, len);
    return HEAD + len;
}

TEST(P16_raw_packed_rice_and_patched_integers_written_by_hand_decode)
{
    uint8_t b[256] = {0};
    uint64_t raw[2] = {7, UINT64_MAX};
    size_t len = head(b, 2, 2, UINT64_MAX, 17);
    memcpy(b + 15, raw, 16);
    check_by_hand(b, len, SYNA_TYPE_INT, raw, 2);

    memset(b, 0, sizeof b);
    uint64_t packed[5] = {1, 2, 3, 4, 5};
    len = head(b, 2, 5, 5, 1 + 3 + 32);
    memcpy(b + 14, "\1\0\4\0", 4); /* integers, no predictor, 4 bits, base 0 */
    b[18] = 0x51;                  /* lane 0: 1, then 5 */
    b[26] = 2;
    b[34] = 3;
    b[42] = 4;
    check_by_hand(b, len, SYNA_TYPE_INT, packed, 5);

    memset(b, 0, sizeof b);
    uint64_t rice[4] = {0, 1, 2, 0};
    len = head(b, 2, 4, 0, 1 + 3 + 2 + 8);
    memcpy(b + 14, "\1\x20\0\0\1\0\x65", 7); /* one word: 1, 01, 001, 1 from the low bit */
    check_by_hand(b, len, SYNA_TYPE_INT, rice, 4);

    memset(b, 0, sizeof b);
    uint64_t patched[4] = {1, 0, 9, 1};
    len = head(b, 2, 4, 1, 1 + 3 + 3 + 2 + 32 + 32);
    memcpy(b + 14, "\1\x10\1\0", 4); /* 1 bit */
    memcpy(b + 18, "\3\1\0\2\0", 5); /* one patch of 3 bits, at 2 */
    b[23] = 4;                       /* 9 >> 1 */
    b[55] = 1, b[63] = 0, b[71] = 1, b[79] = 1;
    check_by_hand(b, len, SYNA_TYPE_INT, patched, 4);
}

TEST(P16_predicted_zigzag_and_unit_integers_written_by_hand_decode)
{
    uint8_t b[256] = {0};
    /* Differences 10 + 5 * (-1, +1, 0): zigzag 1, 2, 0 in 2 bits; first 100, base 10, unit 5. */
    uint64_t want[4] = {100, 105, 120, 130};
    size_t len = head(b, 2, 4, 130, 1 + 2 + 2 + 1 + 1 + 32);
    memcpy(b + 14, "\1\x0d\2\xc8\1\x14\5", 7);
    b[29] = 1, b[37] = 2;
    check_by_hand(b, len, SYNA_TYPE_INT, want, 4);

    memset(b, 0, sizeof b);
    /* A line of slope 3 that bends by 1 at the end: left over 0, 0 and, from the third, 0, 1. */
    uint64_t line[4] = {50, 53, 56, 60};
    len = head(b, 2, 4, 60, 1 + 2 + 1 + 1 + 1 + 32);
    memcpy(b + 14, "\1\2\1\x64\x6a\0", 6);
    b[20 + 24] = 1;
    check_by_hand(b, len, SYNA_TYPE_INT, line, 4);
}

TEST(P16_decimal_ordered_and_split_doubles_written_by_hand_decode)
{
    uint8_t b[256] = {0};
    /* 235 and 241 tenths, and pi as an exception in between. */
    uint64_t tenths[3] = {bits_of(23.5), bits_of(3.141592653589793), bits_of(24.1)};
    size_t len = head(b, 1, 3, tenths[2], 1 + 3 + 2 + 8 + 2 + 2 + 32);
    memcpy(b + 14, "\3\1\1\0\1\0", 6);
    store_u64(b + 20, tenths[1]);
    memcpy(b + 28, "\0\3\xd6\3", 4); /* 3 bits over 235 */
    b[32 + 16] = 6;
    check_by_hand(b, len, SYNA_TYPE_FLOAT, tenths, 3);

    memset(b, 0, sizeof b);
    uint64_t hundredths[1] = {bits_of(7 * 0.01)};
    len = head(b, 1, 1, hundredths[0], 1 + 3 + 3);
    memcpy(b + 14, "\3\x82\0\0\0\0\x0e", 7); /* 7 times 10^-2 */
    check_by_hand(b, len, SYNA_TYPE_FLOAT, hundredths, 1);

    memset(b, 0, sizeof b);
    uint64_t ordered[2] = {bits_of(-0.0), bits_of(0.0)}; /* -1 and 0 */
    len = head(b, 1, 2, 0, 1 + 3 + 32);
    memcpy(b + 14, "\2\0\1\1", 4);
    b[18 + 8] = 1;
    check_by_hand(b, len, SYNA_TYPE_FLOAT, ordered, 2);

    memset(b, 0, sizeof b);
    /* 1.5, -1.5, 3.0: exponents 3ff, 3ff, 400; mantissa and sign in the top 2 of 53 bits. */
    uint64_t split[3] = {bits_of(1.5), bits_of(-1.5), bits_of(3.0)};
    len = head(b, 1, 3, split[2], 1 + 3 + 4 + 3 + 32 + 32);
    memcpy(b + 14, "\4\x35\x33\2\xff\3\0\4", 8);
    memcpy(b + 22, "\0\1\0", 3);
    b[25 + 16] = 1;                           /* indexes 0, 0, 1 */
    b[57] = 1, b[57 + 8] = 3, b[57 + 16] = 1; /* sign and first mantissa bit */
    check_by_hand(b, len, SYNA_TYPE_FLOAT, split, 3);
}

/* ---- damage */

TEST(P14_no_flipped_bit_or_cut_of_a_block_harms)
{
    static const enum shape shapes[] = {WALK_2_BAD, NOISE, WALK_FULL, COUNTER, OUTLIERS, CONSTANT};
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX], got[3 * COLUMN_MAX];
    fill(COUNTER_MS, stamps, COLUMN_MAX);
    for (size_t i = 1; i < COLUMN_MAX; i++)
        stamps[i] = MAX(stamps[i], stamps[i - 1]);
    for (size_t s = 0; s < COUNT_OF(shapes); s++) {
        struct buf b = {0};
        size_t count = 40;
        fill(shapes[s], bits, count);
        CHECK(column_encode(SYNA_TYPE_FLOAT, bits, stamps, bits, count, &b));
        for (size_t bit = 0; bit < 8 * b.len; bit++) {
            uint8_t *copy = malloc(b.len);
            memcpy(copy, b.bytes, b.len);
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
            struct column_source from = {copy, b.len, 0, "a.db", 4711};
            struct column_info info;
            if (column_peek(&from, &info) == SYNA_SUCCESS) {
                CHECK(info.count >= 1 && info.count <= COLUMN_MAX);
                syna_rc rc = column_decode(&from, got, got + COLUMN_MAX, got + 2 * COLUMN_MAX);
                if (rc == SYNA_SUCCESS)
                    CHECK_EQ(got[info.count - 1], info.last_bits);
                else
                    CHECK_FAILS(rc, SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
            }
            free(copy);
        }
        for (size_t len = 0; len < b.len; len++) {
            uint8_t *copy = malloc(len + 1);
            memcpy(copy, b.bytes, len);
            struct column_source from = {copy, len, 0, "a.db", 4711};
            CHECK_FAILS(column_decode(&from, got, got + COLUMN_MAX, got + 2 * COLUMN_MAX),
                        SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
            free(copy);
        }
        buf_dispose(&b);
    }
}

TEST(heads_that_make_no_sense_are_damage)
{
    uint64_t bits[8] = {1, 2, 3, 4, 5, 6, 7, 8}, got[COLUMN_MAX];
    struct buf b = {0};
    CHECK(column_encode(SYNA_TYPE_INT, bits, bits, NULL, 8, &b));
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 0}, {0, 2},  {1, 0x13}, {1, 0x10}, {1, 0x52}, {2, 0},  {2, 7}, {3, 5},
                   {4, 9}, {12, 0}, {13, 255}, {14, 0},   {22, 9},   {30, 0}, {32, 9}};
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        check_note("change %zu", i);
        uint8_t old = b.bytes[changes[i].at];
        b.bytes[changes[i].at] = changes[i].value;
        struct column_source from = source(&b);
        CHECK_FAILS(column_decode(&from, got, got + 8, NULL), SYNA_ERR_SERIALIZATION,
                    SYNA_WHY_CORRUPT);
        CHECK_EQ(status_get()->offset, 4711);
        b.bytes[changes[i].at] = old;
    }
    CHECK(buf_append(&b, "", 1));
    struct column_source from = source(&b);
    CHECK_FAILS(column_decode(&from, got, NULL, NULL), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    buf_dispose(&b);
}

TEST(stamps_that_go_back_are_damage)
{
    uint64_t bits[3] = {0}, stamps[3] = {5, 4, 6}, got[3];
    struct buf b = {0};
    CHECK(column_encode(SYNA_TYPE_INT, bits, stamps, NULL, 3, &b));
    struct column_source from = source(&b);
    CHECK_FAILS(column_decode(&from, NULL, got, NULL), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    buf_dispose(&b);
}

/* ---- the machine around it */

TEST(P4_another_rounding_mode_changes_nothing)
{
    uint64_t bits[COLUMN_MAX];
    size_t len;
    fill(WALK_2, bits, COLUMN_MAX);
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct buf nearest = {0}, other = {0};
        uint64_t got[COLUMN_MAX];
        CHECK(column_encode(SYNA_TYPE_FLOAT, bits, NULL, NULL, COLUMN_MAX, &nearest));
        fesetround(modes[i]);
        CHECK(column_encode(SYNA_TYPE_FLOAT, bits, NULL, NULL, COLUMN_MAX, &other));
        struct column_source from = source(&nearest);
        syna_rc rc = column_decode(&from, got, NULL, NULL);
        int after = fegetround();
        fesetround(FE_TONEAREST);
        CHECK_OK(rc);
        CHECK_EQ(after, modes[i]);
        CHECK_MEM(got, bits, sizeof bits);
        CHECK_EQ(other.len, nearest.len);
        CHECK_MEM(other.bytes, nearest.bytes, nearest.len);
        buf_dispose(&nearest);
        buf_dispose(&other);
    }
    CHECK_EQ(check_block(SYNA_TYPE_FLOAT, bits, NULL, NULL, COLUMN_MAX, &len), DECIMAL);
}

static int64_t allowed;

static bool ration(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return allowed-- > 0;
}

TEST(P7_without_memory_nothing_is_added)
{
    uint64_t bits[COLUMN_MAX], stamps[COLUMN_MAX];
    fill(NOISE, bits, COLUMN_MAX);
    fill(LINE, stamps, COLUMN_MAX);
    for (int64_t k = 0;; k++) {
        struct buf b = {0};
        allowed = k;
        syna_test_set_alloc(ration, NULL);
        bool made = column_encode(SYNA_TYPE_FLOAT, bits, stamps, bits, COLUMN_MAX, &b);
        syna_test_set_alloc(NULL, NULL);
        CHECK(made || b.len == 0);
        buf_dispose(&b);
        if (made) {
            CHECK(k >= 3);
            break;
        }
    }
}

/* The choice is made when it is first needed, so it takes a process in which there was none. */
TEST(the_plain_source_can_be_forced)
{
    static const char *const settings[] = {"SYNADB_SIMD=scalar", "SYNADB_SIMD=any"};
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        FILE *out = check_run_self(settings[i], "chosen_by_the_environment");
        while (fgetc(out) != EOF)
            continue;
        CHECK_EQ(pclose(out), 0);
    }
}

TEST(chosen_by_the_environment)
{
    const char *level = getenv("SYNADB_SIMD");
    uint64_t numbers[64], back[64 + BITS_LANES];
    uint8_t packed[8 * 64];
    if (level && strcmp(level, "scalar") == 0)
        CHECK(!bits_wide());
    for (size_t i = 0; i < 64; i++)
        numbers[i] = check_random() >> 51;
    CHECK(bits_packed_size(64, 13) <= sizeof packed);
    bits_pack(numbers, 64, 13, packed);
    bits_unpack(packed, 64, 13, back);
    CHECK_MEM(back, numbers, sizeof numbers);
}
