/* The key index against a plain model: what is found, and what an apply changes. */
#include "store/keydir_model.h"

TEST(an_empty_index_finds_nothing)
{
    struct model t;
    model_init(&t, ALL_BITS);
    same_as_model(&t, t.dir);
    struct frame f;
    CHECK(memlog_add_raw(&t.m, "", 0, 0, "\x03", 1, &f));
    CHECK_OK(keydir_apply(t.dir, &f)); /* engine frames are ignored */
    same_as_model(&t, t.dir);
    model_dispose(&t);
}

/* Hashes that collide in all bits, in the position, in the tag, and not at all. */
static const uint64_t masks[] = {0, 3, 0xfff, UINT64_C(3) << 57, UINT32_MAX, ALL_BITS};

TEST(random_operations_agree_with_the_model_whatever_collides)
{
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        struct model t;
        model_init(&t, masks[i]);
        for (int64_t n = 0; n < check_rounds(1500); n++) {
            put_any(&t, 300);
            if (n % 100 == 99)
                same_as_model(&t, t.dir);
        }
        same_as_model(&t, t.dir);
        model_dispose(&t);
    }
}

TEST(every_key_is_found_at_every_size_while_the_table_grows)
{
    struct model t;
    struct entry e;
    uint32_t at[1200];
    model_init(&t, ALL_BITS);
    for (uint32_t n = 0; n < COUNT_OF(at); n++) {
        struct frame f;
        CHECK(memlog_add_number(&t.m, &n, 4, SYNA_TYPE_INT, n, &f));
        CHECK_OK(keydir_apply(t.dir, &f));
        at[n] = (uint32_t)f.offset;
        for (uint32_t k = 0; k <= n; k++) {
            CHECK_OK(keydir_find(t.dir, &k, 4, &e));
            CHECK_EQ(e.payload, k);
            CHECK_EQ(e.offset, at[k]);
        }
        uint32_t absent = n + 1;
        CHECK_RC(keydir_find(t.dir, &absent, 4, &e), SYNA_ERR_KEY_NOT_FOUND);
    }
    model_dispose(&t);
}

TEST(a_growing_table_is_moved_a_few_groups_at_a_time)
{
    struct model t;
    uint64_t most = 0, moves = 0;
    model_init(&t, ALL_BITS);
    for (uint32_t n = 0; n < 20000; n++) {
        struct frame f;
        uint64_t before = t.dir->old.groups ? t.dir->moved : 0;
        CHECK(memlog_add_number(&t.m, &n, 4, SYNA_TYPE_INT, n, &f));
        CHECK_OK(keydir_apply(t.dir, &f));
        if (t.dir->old.groups) {
            moves++;
            most = MAX(most, t.dir->moved - before);
        }
    }
    CHECK(moves > 100);
    CHECK(most <= GROUPS_PER_STEP);
    model_dispose(&t);
}

TEST(tags_are_matched_alike_with_and_without_simd)
{
    uint64_t rng = check_random();
    for (int round = 0; round < 20000; round++) {
        struct group g;
        memset(&g, 0xff, sizeof g);
        for (uint32_t i = 0; i < GROUP_SLOTS; i++)
            g.tags[i] = (uint8_t)(rng_next(&rng) % 3 ? 0x80 | rng_next(&rng) % 4 : 0);
        g.passed = (uint8_t)(0x80 | rng_next(&rng) % 4);
        for (uint32_t tag = 0; tag < 256; tag = tag ? tag + 1 : 0x80)
            CHECK_EQ(group_match(&g, (uint8_t)tag), group_match_portable(&g, (uint8_t)tag));
    }
}

TEST(damage_to_a_key_in_the_log_is_not_taken_for_absence)
{
    struct model t;
    struct entry e;
    model_init(&t, ALL_BITS);
    put(&t, "first", 5, PUT_TEXT);
    put(&t, "second", 6, PUT_FLOAT);
    uint64_t offset = t.keys[1].records[0].offset;
    t.m.bytes.bytes[offset + FRAME_HEADER_BYTES + 2] ^= 0x10;

    CHECK_FAILS(keydir_find(t.dir, "second", 6, &e), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, offset);
    CHECK_OK(keydir_find(t.dir, "first", 5, &e));
    CHECK_FAILS(keydir_sort(t.dir), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK(!keydir_sorted(t.dir));

    struct frame f;
    CHECK(memlog_add_number(&t.m, "second", 6, SYNA_TYPE_INT, 1, &f));
    CHECK_FAILS(keydir_apply(t.dir, &f), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(keydir_count(t.dir), 2);
    model_dispose(&t);
}

TEST(a_frame_that_makes_no_sense_changes_nothing)
{
    struct model t;
    struct frame f;
    model_init(&t, ALL_BITS);
    put(&t, "key", 3, PUT_FLOAT);
    CHECK(memlog_add_raw(&t.m, "key", 3, 0, "\x09\0\0\0", 4, &f)); /* no such atom */
    CHECK_FAILS(keydir_apply(t.dir, &f), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK(memlog_add_raw(&t.m, "other", 5, FRAME_BLOCK, "?", 1, &f));
    CHECK_FAILS(keydir_apply(t.dir, &f), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    same_as_model(&t, t.dir);
    model_dispose(&t);
}

TEST(a_frame_beyond_what_an_entry_can_address_is_refused)
{
    struct model t;
    struct frame f;
    model_init(&t, ALL_BITS);
    CHECK(memlog_add_number(&t.m, "key", 3, SYNA_TYPE_INT, 1, &f));
    f.offset = OFFSET_MAX + 1;
    CHECK_RC(keydir_apply(t.dir, &f), SYNA_ERR_INTERNAL);
    CHECK_EQ(keydir_count(t.dir), 0);
    model_dispose(&t);
}
