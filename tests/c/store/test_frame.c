/* The header block and the frame, byte by byte: what is written is what FORMATS.md says, what is
 * read back is what was written, and nothing else is ever taken for a frame (P4, P5, P14). */
#include "check.h"

#include "base/crc32c.h"
#include "store/frame.h"

#define OFFSET 4242u
#define STAMP 1700000000123456u

static const uint8_t uuid[16] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12, 13, 14, 15, 16};

static struct header some_header(void)
{
    struct header h = {.major = FORMAT_MAJOR,
                       .minor = 3,
                       .kind = KIND_LOG,
                       .generation = 7,
                       .read_only = 4,
                       .compatible = 8,
                       .created_us = STAMP};
    memcpy(h.uuid, uuid, 16);
    return h;
}

/* One sealed frame at the end of `b`. */
static uint8_t *some_frame(struct buf *b, const char *key, uint8_t flags, const char *value,
                           size_t value_len)
{
    size_t at = b->len;
    CHECK(frame_append(b, key, strlen(key), flags, value, value_len));
    frame_seal(b->bytes + at, OFFSET, STAMP, FRAME_COMMIT, frame_seed(uuid));
    return b->bytes + at;
}

static enum frame_state parse(const uint8_t *bytes, size_t len)
{
    struct frame f;
    return frame_parse(bytes, len, OFFSET, frame_seed(uuid), &f);
}

/* Give bytes that claim to be a frame the checksum that they need. */
static void reseal(uint8_t *bytes)
{
    frame_seal(bytes, OFFSET, load_u64(bytes), 0, frame_seed(uuid));
}

TEST(a_header_block_comes_back_as_it_was)
{
    struct header h = some_header(), back;
    uint8_t bytes[HEADER_BYTES];
    header_encode(&h, bytes);
    CHECK_OK(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back));
    CHECK_EQ(back.major, h.major);
    CHECK_EQ(back.minor, h.minor);
    CHECK_EQ(back.kind, h.kind);
    CHECK_MEM(back.uuid, h.uuid, 16);
    CHECK_EQ(back.generation, 7);
    CHECK_EQ(back.incompatible, 0);
    CHECK_EQ(back.read_only, 4);
    CHECK_EQ(back.compatible, 8);
    CHECK_EQ(back.created_us, STAMP);
}

TEST(a_header_block_lies_as_documented)
{
    struct header h = some_header();
    uint8_t bytes[HEADER_BYTES];
    header_encode(&h, bytes);
    CHECK_MEM(bytes, "\x89SYNADB\n\xff\xff\xff\xff\xff\xff\xff\x1a", 16);
    CHECK_EQ(load_u16(bytes + 16), 1);
    CHECK_EQ(load_u16(bytes + 18), 3);
    CHECK_EQ(load_u32(bytes + 20), 1);
    CHECK_MEM(bytes + 24, uuid, 16);
    CHECK_EQ(load_u64(bytes + 40), 7);
    CHECK_EQ(load_u64(bytes + 72), STAMP);
    for (size_t i = 80; i < 124; i++)
        CHECK_EQ(bytes[i], 0);
    CHECK_EQ(load_u32(bytes + 124), crc32c_table(0, bytes, 124));
}

TEST(every_flipped_bit_of_a_header_block_is_an_error_of_its_own_kind)
{
    struct header h = some_header(), back;
    uint8_t bytes[HEADER_BYTES];
    header_encode(&h, bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        check_note("bit %zu", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_FAILS(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back),
                    SYNA_ERR_SERIALIZATION,
                    bit / 8 < HEADER_MAGIC_BYTES ? SYNA_WHY_WRONG_KIND : SYNA_WHY_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < sizeof bytes; len++)
        CHECK_FAILS(header_decode(bytes, len, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                    len < HEADER_MAGIC_BYTES ? SYNA_WHY_WRONG_KIND : SYNA_WHY_CORRUPT);
}

TEST(a_newer_format_and_an_unknown_feature_are_refused_by_name)
{
    struct header h = some_header(), back;
    uint8_t bytes[HEADER_BYTES];
    h.major = FORMAT_MAJOR + 1;
    header_encode(&h, bytes);
    CHECK_FAILS(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_NEWER_FORMAT);
    CHECK_STR(status_get()->path, "a.db");
    h = some_header();
    h.incompatible = (uint64_t)1 << 63;
    header_encode(&h, bytes);
    CHECK_FAILS(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_NEWER_FORMAT);
    h = some_header();
    h.major = 0;
    header_encode(&h, bytes);
    CHECK_FAILS(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
}

TEST(a_file_of_another_kind_is_named)
{
    struct header h = some_header(), back;
    uint8_t bytes[HEADER_BYTES];
    h.kind = KIND_SNAPSHOT;
    header_encode(&h, bytes);
    CHECK_FAILS(header_decode(bytes, sizeof bytes, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
    CHECK_STR(status_get()->message,
              "a.db: offset 20: a file of kind 3 (snapshot), expected 1 (log)");
    CHECK_OK(header_decode(bytes, sizeof bytes, KIND_SNAPSHOT, "a.db", &back));
}

TEST(a_header_block_is_no_frame_of_the_ancestor_and_the_reverse)
{
    struct header h = some_header(), back;
    struct frame f;
    uint8_t bytes[HEADER_BYTES];
    header_encode(&h, bytes);
    CHECK_EQ(frame_parse_legacy(bytes, sizeof bytes, 0, &f), FRAME_BAD);
    static const uint8_t old[] =
        "\xe7\xc2\x35\x37\xbe\x60\x06\x00\x01\x00\x04\x00\x00\x00\x00k\0\0\0";
    CHECK_FAILS(header_decode(old, sizeof old, KIND_LOG, "a.db", &back), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
}

TEST(a_frame_comes_back_as_it_was)
{
    struct buf b = {0};
    uint8_t *bytes = some_frame(&b, "temperature", FRAME_EXT, "content", 7);
    struct frame f;
    CHECK_EQ(frame_parse(bytes, b.len + 0, OFFSET, frame_seed(uuid), &f), FRAME_GOOD);
    CHECK_EQ(f.offset, OFFSET);
    CHECK_EQ(f.stamp, STAMP);
    CHECK_EQ(f.key_len, 11);
    CHECK_MEM(f.key, "temperature", 11);
    CHECK_EQ(f.value_len, 7);
    CHECK_MEM(f.value, "content", 7);
    CHECK_EQ(f.flags, FRAME_EXT | FRAME_COMMIT);
    CHECK_EQ(f.len, 15 + 11 + 7 + 4);
    CHECK_EQ(f.len, frame_length(bytes));
    CHECK_EQ(f.crc, load_u32(bytes + f.len - 4));
    struct frame view;
    frame_view(bytes, OFFSET, &view);
    CHECK(view.key == f.key && view.value == f.value && view.value_len == f.value_len);
    CHECK(view.crc == f.crc && view.len == f.len && view.flags == f.flags);
    buf_dispose(&b);
}

TEST(a_frame_lies_as_documented)
{
    struct buf b = {0};
    uint8_t *p = some_frame(&b, "ab", 0, "xyz", 3);
    CHECK_EQ(load_u64(p), STAMP);
    CHECK_EQ(load_u16(p + 8), 2);
    CHECK_EQ(load_u32(p + 10), 3 + 4);
    CHECK_EQ(p[14], 0x40);
    CHECK_MEM(p + 15, "abxyz", 5);
    uint8_t covered[16 + 8 + 20];
    memcpy(covered, uuid, 16);
    store_u64(covered + 16, OFFSET);
    memcpy(covered + 24, p, 20);
    CHECK_EQ(load_u32(p + 20), crc32c_table(0, covered, sizeof covered));
    buf_dispose(&b);
}

TEST(an_empty_value_and_the_longest_key_are_frames)
{
    struct buf b = {0};
    char *key = malloc(SYNA_KEY_MAX);
    memset(key, 'k', SYNA_KEY_MAX);
    CHECK(frame_append(&b, key, SYNA_KEY_MAX, 0, NULL, 0));
    reseal(b.bytes);
    CHECK_EQ(parse(b.bytes, b.len), FRAME_GOOD);
    free(key);
    buf_dispose(&b);
}

TEST(P4_no_flipped_bit_leaves_a_frame_good)
{
    struct buf b = {0};
    some_frame(&b, "key", 0, "some value or other", 19);
    size_t len = b.len;
    CHECK(buf_append(&b, "bytes that follow the frame", 27));
    for (size_t bit = 0; bit < 8 * len; bit++) {
        check_note("bit %zu", bit);
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum frame_state state = parse(b.bytes, b.len);
        CHECK(state == FRAME_BAD || state == FRAME_SHORT);
        b.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(parse(b.bytes, b.len), FRAME_GOOD);
    buf_dispose(&b);
}

TEST(every_beginning_of_a_frame_is_short)
{
    struct buf b = {0};
    some_frame(&b, "key", 0, "value", 5);
    CHECK_EQ(parse(b.bytes, 0), FRAME_ZERO);
    for (size_t len = 1; len < b.len; len++) {
        check_note("%zu bytes", len);
        CHECK_EQ(parse(b.bytes, len), FRAME_SHORT);
    }
    CHECK_EQ(parse(b.bytes, b.len), FRAME_GOOD);
    buf_dispose(&b);
}

TEST(a_frame_is_good_only_in_its_place_of_its_file)
{
    struct buf b = {0};
    some_frame(&b, "key", 0, "value", 5);
    struct frame f;
    uint8_t other[16] = {1};
    CHECK_EQ(frame_parse(b.bytes, b.len, OFFSET + 1, frame_seed(uuid), &f), FRAME_BAD);
    CHECK_EQ(frame_parse(b.bytes, b.len, OFFSET + ((uint64_t)1 << 32), frame_seed(uuid), &f),
             FRAME_BAD);
    CHECK_EQ(frame_parse(b.bytes, b.len, OFFSET, frame_seed(other), &f), FRAME_BAD);
    buf_dispose(&b);
}

TEST(zeros_are_the_end_of_the_log_and_never_a_frame)
{
    size_t size = 1 << 20;
    uint8_t *zeros = calloc(1, size);
    for (size_t len = 0; len < 200; len++)
        CHECK_EQ(parse(zeros, len), FRAME_ZERO);
    CHECK_EQ(parse(zeros, size), FRAME_ZERO);
    size_t places[] = {15, 16, 100, size / 2, size - 1};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        zeros[places[i]] = 1;
        CHECK_EQ(parse(zeros, size), FRAME_BAD);
        zeros[places[i]] = 0;
    }
    /* The checksum that a frame of zeros would need does not save it. */
    reseal(zeros);
    CHECK_EQ(parse(zeros, size), FRAME_BAD);
    free(zeros);
}

TEST(impossible_headers_are_bad_however_good_their_checksum)
{
    struct buf b = {0};
    uint8_t *p = some_frame(&b, "key", 0, "value", 5);
    uint8_t good[64];
    memcpy(good, p, b.len);
    static const uint8_t flags[] = {FRAME_DELTA, FRAME_RESERVED, 0xff};
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        p[14] = flags[i];
        reseal(p);
        CHECK_EQ(parse(p, b.len), FRAME_BAD);
    }
    memcpy(p, good, b.len);
    for (uint32_t val_len = 0; val_len < 4; val_len++) {
        store_u32(p + 10, val_len);
        CHECK_EQ(parse(p, b.len), FRAME_BAD);
        CHECK_EQ(parse(p, 14), FRAME_BAD);
    }
    store_u32(p + 10, UINT32_MAX);
    CHECK_EQ(parse(p, b.len), FRAME_BAD);
    store_u32(p + 10, FRAME_VAL_LEN_MAX + 1);
    CHECK_EQ(parse(p, b.len), FRAME_BAD);
    CHECK_EQ(parse(p, 14), FRAME_BAD);
    store_u32(p + 10, FRAME_VAL_LEN_MAX);
    CHECK_EQ(parse(p, b.len), FRAME_SHORT);
    memcpy(p, good, b.len);
    store_u16(p + 8, 65535);
    CHECK_EQ(parse(p, b.len), FRAME_BAD);
    CHECK_EQ(parse(p, 10), FRAME_BAD);
    CHECK_EQ(parse(p, 9), FRAME_SHORT);
    buf_dispose(&b);
}

TEST(engine_frames_need_a_kind_and_later_kinds_are_let_through)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        struct buf b = {0};
        char value[3] = {(char)kind, 0, 0};
        some_frame(&b, "", 0, value, sizeof value);
        CHECK_EQ(parse(b.bytes, b.len), kind == 0 ? FRAME_BAD : FRAME_GOOD);
        buf_dispose(&b);
    }
    struct buf b = {0};
    some_frame(&b, "", 0, "", 0);
    CHECK_EQ(parse(b.bytes, b.len), FRAME_BAD);
    buf_dispose(&b);
}

TEST(a_frame_built_in_place_is_the_same_frame)
{
    struct buf whole = {0}, steps = {0};
    size_t start;
    some_frame(&whole, "key", FRAME_EXT, "value", 5);
    CHECK(buf_append(&steps, "before", 6));
    CHECK(frame_begin(&steps, "key", 3, &start));
    CHECK_EQ(start, 6);
    CHECK(buf_append(&steps, "value", 5));
    CHECK(frame_finish(&steps, start, FRAME_EXT));
    frame_seal(steps.bytes + start, OFFSET, STAMP, FRAME_COMMIT, frame_seed(uuid));
    CHECK_EQ(steps.len - start, whole.len);
    CHECK_MEM(steps.bytes + start, whole.bytes, whole.len);
    buf_dispose(&whole);
    buf_dispose(&steps);
}

TEST(sealing_adds_flags_and_counts_for_the_checksum)
{
    struct buf b = {0};
    CHECK(frame_append(&b, "k", 1, FRAME_LZ4, "v", 1));
    uint32_t crc =
        frame_seal(b.bytes, OFFSET, STAMP, FRAME_COMMIT | FRAME_PRIOR_DURABLE, frame_seed(uuid));
    struct frame f;
    CHECK_EQ(frame_parse(b.bytes, b.len, OFFSET, frame_seed(uuid), &f), FRAME_GOOD);
    CHECK_EQ(f.flags, FRAME_LZ4 | FRAME_COMMIT | FRAME_PRIOR_DURABLE);
    CHECK_EQ(f.crc, crc);
    buf_dispose(&b);
}

static bool refuse(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return false;
}

TEST(P7_without_memory_nothing_is_appended)
{
    struct buf b = {0};
    syna_test_set_alloc(refuse, NULL);
    bool appended = frame_append(&b, "key", 3, 0, "value", 5);
    syna_test_set_alloc(NULL, NULL);
    CHECK(!appended);
    CHECK_EQ(b.len, 0);
}

/* ---- the ancestor's frames */

static size_t old_frame(uint8_t *p, uint8_t flags, const char *key, size_t key_len,
                        const void *value, size_t value_len)
{
    store_u64(p, STAMP);
    store_u16(p + 8, (uint16_t)key_len);
    store_u32(p + 10, (uint32_t)value_len);
    p[14] = flags;
    memcpy(p + 15, key, key_len);
    memcpy(p + 15 + key_len, value, value_len);
    return 15 + key_len + value_len;
}

static enum frame_state parse_old(const uint8_t *bytes, size_t len)
{
    struct frame f;
    return frame_parse_legacy(bytes, len, OFFSET, &f);
}

TEST(the_first_frame_of_the_seeds_example_is_read)
{
    static const uint8_t example[] =
        "\xe7\xc2\x35\x37\xbe\x60\x06\x00\x0b\x00\x0c\x00\x00\x00\x00temperature"
        "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x80\x37\x40";
    struct frame f;
    CHECK_EQ(frame_parse_legacy(example, sizeof example - 1, 0, &f), FRAME_GOOD);
    CHECK_EQ(f.stamp, 0x000660be3735c2e7);
    CHECK_EQ(f.key_len, 11);
    CHECK_EQ(f.value_len, 12);
    CHECK_EQ(f.len, 38);
    CHECK_EQ(f.crc, 0);
    CHECK(load_f64(f.value + 4) == 23.5);
    for (size_t len = 1; len < 38; len++)
        CHECK_EQ(parse_old(example, len), FRAME_SHORT);
}

TEST(an_old_frame_needs_a_consistent_atom)
{
    static const struct {
        const char *atom;
        size_t len;
        enum frame_state state;
    } cases[] = {
        {"\0\0\0\0", 4, FRAME_GOOD},
        {"\0\0\0\0\0", 5, FRAME_BAD},
        {"\0\0\0", 3, FRAME_BAD},
        {"\1\0\0\0........", 12, FRAME_GOOD},
        {"\1\0\0\0.........", 13, FRAME_BAD},
        {"\2\0\0\0........", 12, FRAME_GOOD},
        {"\2\0\0\0.......", 11, FRAME_BAD},
        {"\3\0\0\0\2\0\0\0\0\0\0\0ab", 14, FRAME_GOOD},
        {"\3\0\0\0\3\0\0\0\0\0\0\0ab", 14, FRAME_BAD},
        {"\3\0\0\0\2\0\0\0\0\0\0\1ab", 14, FRAME_BAD},
        {"\4\0\0\0\0\0\0\0\0\0\0\0", 12, FRAME_GOOD},
        {"\4\0\0\0\0\0\0\0\0\0\0", 11, FRAME_BAD},
        {"\5\0\0\0\1\0\0\0\0\0\0\0abcd\1\0", 18, FRAME_GOOD},
        {"\5\0\0\0\1\0\0\0\0\0\0\0abcd\2\0", 18, FRAME_BAD},
        {"\5\0\0\0\2\0\0\0\0\0\0\0abcd\2\0", 18, FRAME_BAD},
        {"\5\0\0\0\0\0\0\0\0\0\0\0\0\0", 14, FRAME_GOOD},
        {"\5\0\0\0\0\0\0\100\0\0\0\0\0\0", 14, FRAME_BAD},
        {"\6\0\0\0", 4, FRAME_BAD},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_note("case %zu", i);
        uint8_t bytes[64];
        size_t len = old_frame(bytes, 0, "k", 1, cases[i].atom, cases[i].len);
        CHECK_EQ(parse_old(bytes, len), cases[i].state);
    }
}

TEST(an_old_frame_needs_a_plausible_header)
{
    uint8_t bytes[64];
    size_t len = old_frame(bytes, 0, "k", 1, "\0\0\0\0", 4);
    for (unsigned flags = 0; flags < 256; flags++) {
        bytes[14] = (uint8_t)flags;
        CHECK_EQ(parse_old(bytes, len), flags < 8 ? FRAME_GOOD : FRAME_BAD);
    }
    len = old_frame(bytes, FRAME_LZ4, "k", 1, "????????", 8);
    CHECK_EQ(parse_old(bytes, len), FRAME_GOOD);
    len = old_frame(bytes, 0, "\xff", 1, "\0\0\0\0", 4);
    CHECK_EQ(parse_old(bytes, len), FRAME_BAD);
    len = old_frame(bytes, 0, "", 0, "\0\0\0\0", 4);
    CHECK_EQ(parse_old(bytes, len), FRAME_BAD);
    len = old_frame(bytes, 0, "k", 1, "\0\0\0\0", 4);
    store_u16(bytes + 8, 65535);
    CHECK_EQ(parse_old(bytes, len), FRAME_BAD);
    store_u16(bytes + 8, 1);
    store_u32(bytes + 10, 1000000000);
    CHECK_EQ(parse_old(bytes, len), FRAME_BAD);
    store_u32(bytes + 10, 999999999);
    CHECK_EQ(parse_old(bytes, len), FRAME_SHORT);
    memset(bytes, 0, sizeof bytes);
    for (len = 0; len < sizeof bytes; len++)
        CHECK_EQ(parse_old(bytes, len), FRAME_ZERO);
}
