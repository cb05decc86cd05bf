/* The key index: keys in the order of their bytes. */
#include "store/keydir_model.h"

TEST(keys_of_every_shape_come_in_bytewise_order)
{
    char key[128];
    for (int shape = 0; shape < 5; shape++) {
        static const int sizes[] = {1, 2, 24, 25, 100, 2500, 9000};
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            struct model t;
            check_note("shape %d, %d keys", shape, sizes[i]);
            model_init(&t, ALL_BITS);
            for (int n = 0; n < sizes[i]; n++)
                put_new(&t, key, shaped_key((uint64_t)n, shape, key));
            same_order(&t);
            model_dispose(&t);
        }
    }
}

TEST(keys_put_after_the_order_was_made_are_merged_in)
{
    char key[128];
    for (int shape = 0; shape < 5; shape += 2) {
        struct model t;
        uint64_t n = 0, late = 0, merged = 0;
        model_init(&t, ALL_BITS);
        same_order(&t); /* nothing in it yet */
        for (int round = 0; round < 40; round++) {
            uint32_t before = t.dir->main.count;
            uint64_t more = round == 0 ? 3000 : rng_next(&t.rng) % 150;
            for (; more; more--)
                put_new(&t, key, shaped_key(n++, shape, key));
            put(&t, t.keys[0].bytes, t.keys[0].len, PUT_TEXT); /* known: not in the order twice */
            same_order(&t);
            late = MAX(late, t.dir->late.count);
            merged += round > 0 && t.dir->main.count > before;
        }
        CHECK(late > 500);  /* both runs were in use */
        CHECK(merged > 0); /* and were merged */
        model_dispose(&t);
    }
}

TEST(keys_that_share_64_kib_or_hold_zero_bytes_are_sorted_too)
{
    struct model t;
    uint8_t *key = malloc(SYNA_KEY_MAX);
    model_init(&t, ALL_BITS);
    memset(key, 'k', SYNA_KEY_MAX);
    for (size_t n = 0; n < 60; n++) { /* one ends where the next goes on */
        key[SYNA_KEY_MAX - 1 - n] = 'a';
        put_new(&t, key, SYNA_KEY_MAX - n);
        key[SYNA_KEY_MAX - 1 - n] = 'k';
    }
    memset(key, 0, 64);
    for (size_t len = 1; len < 60; len++)
        put_new(&t, key, len);
    same_order(&t);
    free(key);
    model_dispose(&t);
}

/* Sort three times, the k-th allocation failing. false = there was none. */
static bool sort_with_failure(int64_t k)
{
    struct failing failing = {.left = k};
    struct model t;
    char key[128];
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0, round = 0; round < 3; round++) {
        for (uint64_t more = round == 2 ? 1200 : 400; more; more--)
            put_new(&t, key, shaped_key(n++, 1, key));
        fail_on(&failing);
        syna_rc rc = keydir_sort(t.dir);
        fail_off();
        if (rc != SYNA_SUCCESS) {
            CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
            CHECK(failing.fired);
        }
        same_order(&t);
    }
    model_dispose(&t);
    return failing.fired;
}

TEST(sorting_without_memory_fails_cleanly_or_leaves_two_runs)
{
    int64_t k = 1;
    for (; sort_with_failure(k); k++)
        check_note("allocation %lld fails", (long long)k + 1);
    CHECK(k > 15);
}

TEST(each_order_has_a_version_of_its_own)
{
    struct model t, u;
    model_init(&t, ALL_BITS);
    model_init(&u, ALL_BITS);
    put(&t, "a", 1, PUT_INT);
    put(&u, "a", 1, PUT_INT);
    CHECK_OK(keydir_sort(t.dir));
    CHECK_OK(keydir_sort(u.dir));
    CHECK(keydir_order_version(t.dir) != keydir_order_version(u.dir));
    uint64_t version = keydir_order_version(t.dir);
    put(&t, "a", 1, PUT_INT);
    CHECK_OK(keydir_sort(t.dir));
    CHECK_EQ(keydir_order_version(t.dir), version); /* no new key, the same order */
    put(&t, "b", 1, PUT_INT);
    CHECK(!keydir_sorted(t.dir));
    CHECK_EQ(keydir_order_version(t.dir), version);
    CHECK_OK(keydir_sort(t.dir));
    CHECK(keydir_order_version(t.dir) != version);
    model_dispose(&t);
    model_dispose(&u);
}
