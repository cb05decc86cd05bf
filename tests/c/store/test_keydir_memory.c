/* The key index: how much memory it takes, and what happens when there is none. */
#include "store/keydir_model.h"

TEST(a_million_keys_of_20_bytes_take_at_most_40_bytes_each_and_54_when_sorted)
{
    const uint32_t keys = 1000000;
    struct model t;
    struct keydir_stats stats;
    char key[32];
    model_init(&t, ALL_BITS);
    CHECK(buf_reserve(&t.m.bytes, (size_t)keys * 52));
    asked_for = 0;
    for (uint32_t n = 0; n < keys; n++) {
        struct frame f;
        uint8_t field[12] = {ATOM_INT};
        snprintf(key, sizeof key, "user:%015u", n * 2654435761u);
        store_u64(field + 4, n);
        CHECK(memlog_add_raw(&t.m, key, 20, 0, field, sizeof field, &f));
        syna_test_set_alloc(count_bytes, NULL);
        CHECK_OK(keydir_reserve(t.dir, 1));
        CHECK_OK(keydir_apply(t.dir, &f));
        syna_test_set_alloc(NULL, NULL);
    }
    keydir_get_stats(t.dir, &stats);
    uint64_t whole = stats.index_bytes + stats.history_bytes;
    CHECK(whole <= 40 * (uint64_t)keys);
    /* The numbers are not invented: what was asked for and is not in them are the smaller tables
     * that were outgrown, together less than the present one, the lists of segments, and what is
     * still empty of the last segments. */
    CHECK(asked_for + sizeof *t.dir >= whole);
    CHECK(asked_for - whole <= (t.dir->table.mask + 1) * sizeof(struct group) + (64 << 10) +
                                   SEGMENT_ENTRIES * sizeof(struct packed_entry) +
                                   HISTORY_SEGMENT * sizeof(struct history));

    CHECK_OK(keydir_sort(t.dir));
    keydir_get_stats(t.dir, &stats);
    CHECK_EQ(stats.order_bytes, 12 * (uint64_t)keys);
    CHECK(stats.index_bytes + stats.history_bytes + stats.order_bytes <= 54 * (uint64_t)keys);
    model_dispose(&t);
}

TEST(five_keys_take_a_few_hundred_bytes_and_not_the_segments_behind_them)
{
    struct model t;
    struct keydir_stats empty, stats;
    model_init(&t, ALL_BITS);
    keydir_get_stats(t.dir, &empty);
    for (int n = 0; n < 5; n++)
        put(&t, &"abcde"[n], 1, PUT_INT);
    keydir_get_stats(t.dir, &stats);
    CHECK_EQ(stats.history_bytes, empty.history_bytes);
    CHECK_EQ(stats.index_bytes - empty.index_bytes,
             5 * sizeof(struct packed_entry) + t.dir->segment_cap * sizeof *t.dir->segments);
    for (int n = 0; n < 5; n++)
        put(&t, &"abcde"[n], 1, PUT_INT);
    keydir_get_stats(t.dir, &stats);
    CHECK_EQ(stats.history_bytes - empty.history_bytes,
             5 * sizeof(struct history) +
                 t.dir->history_segment_cap * sizeof *t.dir->history_segments);
    CHECK(stats.index_bytes + stats.history_bytes < 2048);
    model_dispose(&t);
}

/* Apply 400 records with the k-th allocation failing. false = there was none. */
static bool apply_with_failure(int64_t k)
{
    struct failing failing = {.left = k};
    struct model t;
    char key[32];
    model_init(&t, ALL_BITS);
    build_for_failures(&t);
    for (int n = 0; n < 400; n++) {
        struct model_record r;
        struct frame f = append_record(&t, key, failing_key(n, key), any_kind(&t), &r);
        fail_on(&failing);
        syna_rc rc = keydir_apply(t.dir, &f);
        fail_off();
        if (rc != SYNA_SUCCESS) {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            CHECK(failing.fired);
            same_as_model(&t, t.dir);
            CHECK_OK(keydir_apply(t.dir, &f));
        }
        model_note(&t, &f, r);
    }
    same_as_model(&t, t.dir);
    model_dispose(&t);
    return failing.fired;
}

TEST(an_apply_without_memory_changes_nothing_and_can_be_repeated)
{
    int64_t k = 1;
    for (; apply_with_failure(k); k++)
        check_note("allocation %lld fails", (long long)k + 1);
    CHECK(k > 5);
}

TEST(after_a_reservation_no_apply_can_fail_and_readers_see_every_record)
{
    const int batch = 300;
    struct failing failing;
    struct model t;
    char key[32];
    model_init(&t, ALL_BITS);
    build_for_failures(&t);
    for (int round = 0; round < 4; round++) {
        CHECK_OK(keydir_reserve(t.dir, (size_t)batch));
        for (int n = 0; n < batch; n++) {
            struct model_record r;
            struct frame f = append_record(&t, key, failing_key(n + round * batch, key),
                                           any_kind(&t), &r);
            fail_all(&failing);
            CHECK_OK(keydir_apply(t.dir, &f));
            fail_off();
            model_note(&t, &f, r);
        }
        CHECK(t.dir->spilled_count > 0);
        same_as_model(&t, t.dir);

        /* Nothing more can be promised before the spilled records have found memory. */
        fail_all(&failing);
        CHECK_FAILS(keydir_reserve(t.dir, 1), SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
        fail_off();
        same_as_model(&t, t.dir);
        CHECK_OK(keydir_reserve(t.dir, 1));
        CHECK_EQ(t.dir->spilled_count, 0);
        same_as_model(&t, t.dir);
    }
    model_dispose(&t);
}

TEST(a_reservation_without_memory_fails_cleanly)
{
    struct failing failing = {.fired = true};
    struct model t;
    model_init(&t, ALL_BITS);
    build_for_failures(&t);
    for (int64_t k = 1; failing.fired; k++) {
        failing = (struct failing){.left = k};
        fail_on(&failing);
        syna_rc rc = keydir_reserve(t.dir, (size_t)200000 * (size_t)k);
        fail_off();
        CHECK_RC(rc, failing.fired ? SYNA_ERR_INTERNAL : SYNA_SUCCESS);
        CHECK(k > 1 || failing.fired);
        same_as_model(&t, t.dir);
    }
    put_any(&t, 50);
    same_as_model(&t, t.dir);
    CHECK_RC(keydir_reserve(t.dir, ENTRIES_MAX), SYNA_ERR_INTERNAL);
    model_dispose(&t);
}
