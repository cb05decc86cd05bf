/* Allocation: sizes, the failure hook, the count of live blocks. */
#include "check.h"

#include "base/vec.h"

TEST(every_size_gives_a_block_and_zalloc_clears_it)
{
    const size_t sizes[] = {0, 1, 7, 64, 4096, 1u << 20};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *a = mem_alloc(sizes[i]);
        uint8_t *z = mem_zalloc(sizes[i]);
        CHECK(a && z);
        memset(a, 0xee, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            CHECK_EQ(z[k], 0);
        mem_free(a);
        mem_free(z);
    }
    mem_free(NULL);
}

TEST(resize_keeps_the_bytes)
{
    uint8_t *block = mem_resize(NULL, 10);
    CHECK(block);
    memcpy(block, "0123456789", 10);
    block = mem_resize(block, 100000);
    CHECK(block);
    CHECK_MEM(block, "0123456789", 10);
    block = mem_resize(block, 4);
    CHECK(block);
    CHECK_MEM(block, "0123", 4);
    block = mem_resize(block, 0);
    CHECK(block);
    mem_free(block);
}

TEST(dup_copies_and_ends_with_a_nul)
{
    char *copy = mem_dup("a\0bc", 4);
    CHECK(copy);
    CHECK_MEM(copy, "a\0bc\0", 5);
    mem_free(copy);
    copy = mem_dup(NULL, 0);
    CHECK(copy);
    CHECK_STR(copy, "");
    mem_free(copy);
    CHECK(mem_dup("x", SIZE_MAX) == NULL);
}

struct refusal {
    int countdown;
    size_t last;
};

static bool refuse_at_zero(void *context, size_t bytes)
{
    struct refusal *r = context;
    r->last = bytes;
    return r->countdown-- != 0;
}

TEST(the_hook_can_refuse_any_allocation)
{
    struct refusal r = {0, 0};
    syna_test_set_alloc(refuse_at_zero, &r);
    void *a = mem_alloc(11);
    size_t asked = r.last;
    r.countdown = 0;
    void *z = mem_zalloc(12);
    r.countdown = 0;
    void *d = mem_dup("abc", 3);
    r.countdown = 1;
    uint8_t *block = mem_alloc(1);
    uint8_t *larger = mem_resize(block, 13);
    syna_test_set_alloc(NULL, NULL);
    CHECK(a == NULL && z == NULL && d == NULL);
    CHECK_EQ(asked, 11);
    CHECK(block != NULL && larger == NULL);
    block[0] = 1; /* the old block stays */
    mem_free(block);
}

TEST(live_blocks_are_counted)
{
    int64_t before = syna_test_live_blocks();
    void *a = mem_alloc(1), *b = mem_zalloc(1), *c = mem_dup("", 0), *d = mem_resize(NULL, 1);
    CHECK_EQ(syna_test_live_blocks(), before + 4);
    d = mem_resize(d, 1000);
    CHECK_EQ(syna_test_live_blocks(), before + 4);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    CHECK_EQ(syna_test_live_blocks(), before);
}

TEST(a_buffer_grows_and_a_refused_growth_leaves_it_as_it_was)
{
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        CHECK(buf_append(&b, &i, sizeof i));
    CHECK_EQ(b.len, 4000);
    struct refusal r = {0, 0};
    syna_test_set_alloc(refuse_at_zero, &r);
    bool grew = buf_append(&b, "x", 1) && b.cap == 4000;
    uint8_t *at = buf_extend(&b, 1u << 20);
    syna_test_set_alloc(NULL, NULL);
    CHECK(!grew && at == NULL);
    for (int i = 0; i < 1000; i++)
        CHECK_MEM(b.bytes + 4 * i, &i, sizeof i);
    CHECK(!buf_reserve(&b, SIZE_MAX - 10));
    buf_dispose(&b);
    CHECK(b.bytes == NULL && b.len == 0 && b.cap == 0);
}
