/* Typed values in the value field of a frame: exact layout, round trips of every type, compression
 * only where it pays, and hostile bytes that end in a typed error without reading out of bounds or
 * asking for more memory than they can fill (P4, P7, P14). */
#include "check.h"

#include "store/value.h"

#define PATH "a.db"

struct coded {
    struct buf bytes;
    uint8_t flags;
    struct frame frame;
};

static void view(struct coded *c)
{
    c->frame = (struct frame){.offset = 77,
                              .value = c->bytes.bytes,
                              .value_len = (uint32_t)c->bytes.len,
                              .flags = c->flags,
                              .crc = 1};
}

static struct coded encode(const struct value *v, bool compress)
{
    struct coded c = {0};
    CHECK_OK(value_encode(v, compress, &c.bytes, &c.flags));
    view(&c);
    return c;
}

static void check_same(const struct value *got, const struct value *want)
{
    CHECK_EQ(got->type, want->type);
    CHECK_EQ(got->len, want->len);
    CHECK_EQ(got->expires_us, want->expires_us);
    CHECK_EQ(got->event_us, want->event_us);
    if (want->len)
        CHECK_MEM(got->data, want->data, want->len);
}

/* Encode, decode, peek: everything is as it was. */
static uint8_t check_round_trip(const struct value *v, bool compress)
{
    struct buf scratch = {0};
    struct value back, seen;
    CHECK_OK(value_check(v));
    struct coded c = encode(v, compress);
    CHECK_OK(value_decode(&c.frame, PATH, &scratch, &back));
    check_same(&back, v);
    CHECK_OK(value_peek(&c.frame, PATH, &seen));
    CHECK_EQ(seen.type, v->type);
    CHECK_EQ(seen.len, v->len);
    CHECK_EQ(seen.expires_us, v->expires_us);
    CHECK_EQ(seen.event_us, v->event_us);
    if (v->type == SYNA_TYPE_FLOAT || v->type == SYNA_TYPE_INT)
        CHECK_MEM(seen.data, v->data, 8);
    else
        CHECK(seen.data == NULL);
    buf_dispose(&scratch);
    buf_dispose(&c.bytes);
    return c.flags;
}

static void check_decodes_corrupt(const void *bytes, size_t len, uint8_t flags)
{
    struct buf scratch = {0};
    struct value v;
    struct frame f = {.value = bytes, .value_len = (uint32_t)len, .flags = flags, .crc = 1};
    CHECK_FAILS(value_decode(&f, PATH, &scratch, &v), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    buf_dispose(&scratch);
}

TEST(a_float_has_exactly_the_layout_of_the_seeds)
{
    double x = 23.5;
    struct value v = {.type = SYNA_TYPE_FLOAT, .data = &x, .len = 8};
    struct coded c = encode(&v, true);
    CHECK_EQ(c.flags, 0);
    CHECK_EQ(c.bytes.len, 12);
    CHECK_MEM(c.bytes.bytes, "\x01\0\0\0\0\0\0\0\0\x80\x37\x40", 12);
    buf_dispose(&c.bytes);
}

TEST(atoms_lie_as_documented)
{
    static const struct {
        int32_t type;
        const char *data;
        size_t len;
        const char *bytes;
        size_t bytes_len;
        uint8_t flags;
    } cases[] = {
        {SYNA_TYPE_NULL, "", 0, "\0\0\0\0", 4, 0},
        {SYNA_TYPE_INT, "\x2a\0\0\0\0\0\0\0", 8, "\2\0\0\0\x2a\0\0\0\0\0\0\0", 12, 0},
        {SYNA_TYPE_TEXT, "abc", 3, "\3\0\0\0\3\0\0\0\0\0\0\0abc", 15, 0},
        {SYNA_TYPE_BYTES, "", 0, "\4\0\0\0\0\0\0\0\0\0\0\0", 12, 0},
        {SYNA_TYPE_VECTOR, "\0\0\x80\x3f", 4, "\5\0\0\0\1\0\0\0\0\0\0\0\0\0\x80\x3f\1\0", 18, 0},
        {SYNA_TYPE_PACKED, "xy", 2, "\3\3\1\6\4\0\0\0\2\0\0\0\0\0\0\0xy", 18, FRAME_EXT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("case %zu", i);
        struct value v = {.type = cases[i].type, .data = cases[i].data, .len = cases[i].len};
        struct coded c = encode(&v, true);
        CHECK_EQ(c.flags, cases[i].flags);
        CHECK_EQ(c.bytes.len, cases[i].bytes_len);
        CHECK_MEM(c.bytes.bytes, cases[i].bytes, cases[i].bytes_len);
        buf_dispose(&c.bytes);
        check_round_trip(&v, true);
    }
}

TEST(extension_fields_lie_as_documented)
{
    struct value v = {.type = SYNA_TYPE_NULL, .expires_us = 0x0102, .event_us = 0x0304};
    struct coded c = encode(&v, true);
    CHECK_EQ(c.flags, FRAME_EXT);
    CHECK_EQ(c.bytes.len, 1 + 10 + 10 + 4);
    CHECK_MEM(c.bytes.bytes, "\x14\1\x08\2\1\0\0\0\0\0\0\2\x08\4\3\0\0\0\0\0\0\0\0\0\0", 25);
    buf_dispose(&c.bytes);
}

TEST(every_type_comes_back_with_and_without_times_and_compression)
{
    uint8_t data[20000];
    const struct {
        int32_t type;
        size_t len;
    } kinds[] = {{SYNA_TYPE_NULL, 0},    {SYNA_TYPE_FLOAT, 8},      {SYNA_TYPE_INT, 8},
                 {SYNA_TYPE_TEXT, 0},    {SYNA_TYPE_TEXT, 20000},   {SYNA_TYPE_BYTES, 1},
                 {SYNA_TYPE_BYTES, 64},  {SYNA_TYPE_BYTES, 65},     {SYNA_TYPE_BYTES, 20000},
                 {SYNA_TYPE_VECTOR, 4},  {SYNA_TYPE_VECTOR, 20000}, {SYNA_TYPE_PACKED, 0},
                 {SYNA_TYPE_PACKED, 300}};
    for (int round = 0; round < 2; round++)
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++)
            for (unsigned times = 0; times < 4; times++) {
                for (size_t i = 0; i < sizeof data; i++) /* finite as floats, text as bytes */
                    data[i] = round ? (uint8_t)('a' + i / 100 % 20)
                                    : (uint8_t)(check_random() % 0x5f + 0x20);
                struct value v = {.type = kinds[kind].type,
                                  .data = data,
                                  .len = kinds[kind].len,
                                  .expires_us = times & 1 ? check_random() | 1 : 0,
                                  .event_us = times & 2 ? check_random() | 1 : 0};
                CHECK_EQ(check_round_trip(&v, false) & FRAME_LZ4, 0);
                check_round_trip(&v, true);
            }
}

TEST(a_blob_manifest_comes_back)
{
    uint8_t manifest[12 + 2 * 12] = {0};
    store_u32(manifest + 8, 2);
    struct value v = {.type = SYNA_TYPE_BLOB, .data = manifest, .len = sizeof manifest};
    CHECK_EQ(check_round_trip(&v, true), FRAME_EXT);
    v.len--;
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    struct coded c = encode(&v, true);
    check_decodes_corrupt(c.bytes.bytes, c.bytes.len, c.flags);
    buf_dispose(&c.bytes);
}

static uint8_t flags_of(const void *data, size_t len, size_t *stored)
{
    struct value v = {.type = SYNA_TYPE_BYTES, .data = data, .len = len};
    struct coded c = encode(&v, true);
    *stored = c.bytes.len;
    buf_dispose(&c.bytes);
    return c.flags;
}

TEST(only_long_values_that_shrink_are_compressed)
{
    uint8_t same[1000], noise[1000];
    memset(same, 'x', sizeof same);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)check_random();
    size_t stored;
    CHECK_EQ(flags_of(same, 64, &stored), 0);
    CHECK_EQ(stored, 76);
    CHECK_EQ(flags_of(same, 65, &stored), FRAME_LZ4);
    CHECK(stored < 77 * 9 / 10);
    CHECK_EQ(flags_of(noise, 1000, &stored), 0);
    CHECK_EQ(stored, 1012);
    /* Growing the part that shrinks: the first length that is compressed saves a tenth. */
    for (size_t n = 0; n <= 1000; n += 10) {
        memcpy(noise + 1000 - n, same, n);
        if (flags_of(noise, 1000, &stored) & FRAME_LZ4)
            CHECK((double)stored < 0.9 * 1012);
        else
            CHECK_EQ(stored, 1012);
    }
}

TEST(a_long_value_is_judged_by_its_middle_too)
{
    static uint8_t data[1 << 20];
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < 8192; i++)
        data[i] = (uint8_t)check_random();
    size_t stored;
    CHECK_EQ(flags_of(data, sizeof data, &stored), FRAME_LZ4);
    CHECK(stored < 20000);
    struct value v = {.type = SYNA_TYPE_BYTES, .data = data, .len = sizeof data};
    check_round_trip(&v, true);
}

TEST(values_are_checked_before_they_are_stored)
{
    float vector[3] = {1, 2, 3};
    struct value v = {.type = SYNA_TYPE_VECTOR, .data = vector, .len = 12};
    CHECK_OK(value_check(&v));
    v.len = 0;
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v.len = 11;
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v.len = 12;
    static const uint32_t bad[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        memcpy(&vector[2], &bad[i], 4);
        CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
        CHECK(strstr(status_get()->message, "component 2") != NULL);
    }
    void *large = calloc(65536, 4);
    v = (struct value){.type = SYNA_TYPE_VECTOR, .data = large, .len = 65535 * 4};
    CHECK_OK(value_check(&v));
    check_round_trip(&v, true);
    v.len = 65536 * 4;
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    free(large);

    v = (struct value){.type = SYNA_TYPE_TEXT, .data = "caf\xe9", .len = 4};
    CHECK_FAILS(value_check(&v), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    v.data = "caf\xc3\xa9";
    v.len = 5;
    CHECK_OK(value_check(&v));
    v = (struct value){.type = SYNA_TYPE_FLOAT, .data = "1234", .len = 4};
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v = (struct value){.type = SYNA_TYPE_INT, .data = NULL, .len = 8};
    CHECK_FAILS(value_check(&v), SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT);
    v = (struct value){.type = SYNA_TYPE_NULL, .data = "x", .len = 1};
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v = (struct value){.type = SYNA_TYPE_BYTES, .data = "x", .len = (size_t)SYNA_VALUE_MAX + 1};
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v = (struct value){.type = 8, .data = "x", .len = 1};
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    v.type = -1;
    CHECK_FAILS(value_check(&v), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(unknown_fields_and_later_types_are_carried)
{
    /* Fields: tag 127 of two bytes, tag 9 of none, type 99. */
    static const char field[] = "\x09\x7f\2ab\x09\0\3\1\x63\4\0\0\0\1\0\0\0\0\0\0\0x";
    struct buf scratch = {0};
    struct value v;
    struct frame f = {.value = (const uint8_t *)field,
                      .value_len = sizeof field - 1,
                      .flags = FRAME_EXT,
                      .crc = 1};
    CHECK_OK(value_decode(&f, PATH, &scratch, &v));
    CHECK_EQ(v.type, 99);
    CHECK_EQ(v.len, 1);
    CHECK_MEM(v.data, "x", 1);
    CHECK_OK(value_peek(&f, PATH, &v));
    CHECK_EQ(v.type, 99);
    buf_dispose(&scratch);
}

TEST(inconsistent_fields_and_atoms_are_damage)
{
    static const struct {
        const char *bytes;
        size_t len;
        uint8_t flags;
    } cases[] = {
        {"", 0, 0},
        {"\0\0\0", 3, 0},
        {"\0\0\0\0\0", 5, 0},
        {"\1\0\0\0.......", 11, 0},
        {"\2\0\0\0.........", 13, 0},
        {"\3\0\0\0\4\0\0\0\0\0\0\0abc", 15, 0},
        {"\3\0\0\0\2\0\0\0\0\0\0\0abc", 15, 0},
        {"\4\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 12, 0},
        {"\4\0\0\0\xf4\xff\xff\xff\xff\xff\xff\xff", 12, 0},
        {"\5\0\0\0\1\0\0\0\0\0\0\0....\2\0", 18, 0},
        {"\5\0\0\0\1\0\0\0\0\0\0\0....\1", 17, 0},
        {"\5\0\0\0\0\0\0\0\0\0\0\0", 12, 0},
        {"\5\0\0\0\0\0\0\0\0\0\0\100\0\0", 14, 0},
        {"\6\0\0\0", 4, 0},
        {"", 0, FRAME_EXT},
        {"\1", 1, FRAME_EXT},
        {"\2\1\x08\0\0\0\0", 7, FRAME_EXT},
        {"\3\3\2\6\4\0\0\0\0\0\0\0\0\0\0\0", 16, FRAME_EXT},
        {"\1\3\4\0\0\0\0\0\0\0\0\0\0\0", 14, FRAME_EXT},
        {"\3\3\1\5\4\0\0\0\0\0\0\0\0\0\0\0", 16, FRAME_EXT}, /* types below 6 have atoms */
        {"\3\3\1\6\3\0\0\0\0\0\0\0\0\0\0\0", 16, FRAME_EXT}, /* over a Text atom */
        {"\x14\1\x08........\3\x08........\0\0\0\0", 25, FRAME_EXT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("case %zu", i);
        check_decodes_corrupt(cases[i].bytes, cases[i].len, cases[i].flags);
        struct frame f = {.value = (const uint8_t *)cases[i].bytes,
                          .value_len = (uint32_t)cases[i].len,
                          .flags = cases[i].flags};
        struct value v;
        if (cases[i].bytes[0] != 5 || cases[i].len != 18) /* dimensions stand at an atom's end */
            CHECK_FAILS(value_peek(&f, PATH, &v), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    }
}

TEST(a_column_block_is_no_value)
{
    struct buf scratch = {0};
    struct value v;
    struct frame f = {.value = (const uint8_t *)"\0\0\0\0", .value_len = 4, .flags = FRAME_BLOCK};
    CHECK_RC(value_decode(&f, PATH, &scratch, &v), SYNA_ERR_INTERNAL);
    CHECK_RC(value_peek(&f, PATH, &v), SYNA_ERR_INTERNAL);
}

/* ---- LZ4 */

static size_t largest_asked;

static bool watch(void *context, size_t bytes)
{
    (void)context;
    largest_asked = MAX(largest_asked, bytes);
    return true;
}

TEST(P14_a_forged_plain_length_cannot_make_us_reserve_it)
{
    uint8_t text[5000];
    memset(text, 'x', sizeof text);
    struct value v = {.type = SYNA_TYPE_TEXT, .data = text, .len = sizeof text};
    struct coded c = encode(&v, true);
    CHECK_EQ(c.flags, FRAME_LZ4);
    static const uint32_t lengths[] = {0,       3,          4,          5011,      5013,
                                       1 << 20, 0x40000400, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        store_u32(c.bytes.bytes, lengths[i]);
        largest_asked = 0;
        syna_test_set_alloc(watch, NULL);
        check_decodes_corrupt(c.bytes.bytes, c.bytes.len, FRAME_LZ4);
        syna_test_set_alloc(NULL, NULL);
        CHECK(largest_asked <= 255 * c.bytes.len);
    }
    buf_dispose(&c.bytes);
}

TEST(P14_no_flipped_bit_or_cut_of_a_compressed_value_harms)
{
    const char *words = "one two three four five six seven one two three four five six seven one "
                        "two three four five six seven";
    struct value v = {.type = SYNA_TYPE_TEXT,
                      .data = words,
                      .len = strlen(words),
                      .expires_us = 5,
                      .event_us = 6};
    struct coded c = encode(&v, true);
    CHECK_EQ(c.flags, FRAME_LZ4 | FRAME_EXT);
    struct buf scratch = {0};
    struct value got;
    for (size_t bit = 0; bit < 8 * c.bytes.len; bit++) {
        /* An exact copy on the heap, so that a sanitizer sees every byte read too much. */
        uint8_t *copy = malloc(c.bytes.len);
        memcpy(copy, c.bytes.bytes, c.bytes.len);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        c.frame.value = copy;
        for (c.frame.value_len = 0; c.frame.value_len < c.bytes.len; c.frame.value_len += 5) {
            (void)value_decode(&c.frame, PATH, &scratch, &got);
            (void)value_peek(&c.frame, PATH, &got);
        }
        c.frame.value_len = (uint32_t)c.bytes.len;
        if (value_decode(&c.frame, PATH, &scratch, &got) == SYNA_SUCCESS)
            CHECK(got.len <= 255 * c.bytes.len && got.type >= SYNA_TYPE_NULL);
        (void)value_peek(&c.frame, PATH, &got);
        free(copy);
    }
    buf_dispose(&scratch);
    buf_dispose(&c.bytes);
}

TEST(values_of_the_ancestor_decode_and_bad_text_is_damage)
{
    /* A compressed vector as the ancestor's writer stored it, and its DELTA flag left to others. */
    static const uint8_t vector[] = {0x0e, 0x04, 0,    0,    0x73, 5,    0,    0,    0,
                                     0,    1,    0,    1,    0,    0x23, 0xc0, 0x3f, 9,
                                     0,    0x0f, 2,    0,    0x24, 0x0f, 0x40, 0,    0xff,
                                     0xff, 0xff, 0xab, 0x50, 0,    0,    0,    0,    1};
    struct buf scratch = {0};
    struct value v;
    struct frame f = {.value = vector, .value_len = sizeof vector, .flags = FRAME_LZ4};
    CHECK_OK(value_decode(&f, PATH, &scratch, &v));
    CHECK_EQ(v.type, SYNA_TYPE_VECTOR);
    CHECK_EQ(v.len, 256 * 4);
    CHECK_OK(value_peek(&f, PATH, &v));
    CHECK_EQ(v.len, 256 * 4);

    f = (struct frame){.value = (const uint8_t *)"\3\0\0\0\1\0\0\0\0\0\0\0\xff", .value_len = 13};
    CHECK_FAILS(value_decode(&f, PATH, &scratch, &v), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    f = (struct frame){.value = (const uint8_t *)"\1\0\0\0\0\0\0\0\0\0\xf0\x3f",
                       .value_len = 12,
                       .flags = FRAME_DELTA};
    CHECK_OK(value_decode(&f, PATH, &scratch, &v));
    CHECK(load_f64(v.data) == 1.0);
    buf_dispose(&scratch);
}

TEST(a_compressed_number_can_be_peeked_at)
{
    /* Literals only: a token of 12, then the atom. */
    static const uint8_t packed[] = "\x0c\0\0\0\xc0\1\0\0\0\0\0\0\0\0\x80\x37\x40";
    struct value v;
    struct frame f = {.value = packed, .value_len = sizeof packed - 1, .flags = FRAME_LZ4};
    CHECK_OK(value_peek(&f, PATH, &v));
    CHECK_EQ(v.type, SYNA_TYPE_FLOAT);
    CHECK(load_f64(v.data) == 23.5);
    CHECK(v.data == &v.number);
    struct buf scratch = {0};
    CHECK_OK(value_decode(&f, PATH, &scratch, &v));
    CHECK(load_f64(v.data) == 23.5);
    buf_dispose(&scratch);
}

/* ---- memory */

static int64_t allowed;

static bool ration(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return allowed-- > 0;
}

TEST(P7_without_memory_nothing_is_added_and_nothing_leaks)
{
    uint8_t text[5000];
    memset(text, 'x', sizeof text);
    struct value v = {.type = SYNA_TYPE_PACKED, .data = text, .len = sizeof text, .expires_us = 5};
    int refused = 0;
    for (int64_t k = 0;; k++) {
        struct buf to = {0};
        uint8_t flags = 0;
        allowed = k;
        syna_test_set_alloc(ration, NULL);
        syna_rc rc = value_encode(&v, true, &to, &flags);
        syna_test_set_alloc(NULL, NULL);
        size_t len = to.len;
        buf_dispose(&to);
        if (rc == SYNA_SUCCESS)
            break;
        refused++;
        CHECK_EQ(rc, SYNA_ERR_INTERNAL);
        CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
        CHECK_EQ(len, 0);
        CHECK_EQ(flags, 0);
    }
    CHECK(refused >= 2);

    struct coded c = encode(&v, true);
    struct buf scratch = {0};
    allowed = 0;
    syna_test_set_alloc(ration, NULL);
    syna_rc rc = value_decode(&c.frame, PATH, &scratch, &v);
    syna_test_set_alloc(NULL, NULL);
    CHECK_EQ(rc, SYNA_ERR_INTERNAL);
    CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
    buf_dispose(&c.bytes);
}
