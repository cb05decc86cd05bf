/* Arrays: items keep their addresses and their contents while the array grows, on top of a borrowed
 * beginning too, and running out of memory changes nothing. */
#include "check.h"

#include "index/array.h"

#include <unistd.h>

static void put(struct array *a, size_t i, uint64_t value)
{
    memcpy(array_at(a, i), &value, sizeof value);
}

static uint64_t get(const struct array *a, size_t i)
{
    uint64_t value;
    memcpy(&value, array_at(a, i), sizeof value);
    return value;
}

TEST(items_stay_where_they_are_and_begin_as_zeros)
{
    struct array a;
    CHECK_OK(array_init(&a, 24, (size_t)1 << 31));
    CHECK_EQ(array_bytes(&a), 0);
    void *first = NULL;
    for (size_t i = 0; i < 200000; i++) {
        CHECK_OK(array_reserve(&a, i + 1));
        first = first ? first : array_at(&a, 0);
        CHECK_EQ(get(&a, i), 0);
        put(&a, i, i * 3);
    }
    CHECK(array_at(&a, 0) == first);
    CHECK_EQ((uintptr_t)first % 4096, 0);
    for (size_t i = 0; i < 200000; i++)
        CHECK_EQ(get(&a, i), i * 3);
    CHECK(array_bytes(&a) >= 200000 * 24 && array_bytes(&a) < 200000 * 24 * 9 / 8 + 2 * MEM_PAGE);
    array_dispose(&a);
}

/* Of a small array what is touched, of a large one what huge pages may bring in; it does not get less. */
TEST(memory_is_what_was_reserved_in_pages)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), huge = (uint64_t)2 << 20;
    struct array a;
    CHECK_OK(array_init(&a, 8, (size_t)1 << 24));
    CHECK_OK(array_reserve(&a, 1));
    CHECK_EQ(array_bytes(&a), page);
    CHECK_OK(array_reserve(&a, MEM_PAGE / 8));
    CHECK_EQ(array_bytes(&a), MEM_PAGE);
    CHECK_OK(array_reserve(&a, 5));
    CHECK_EQ(array_bytes(&a), MEM_PAGE);
    CHECK_OK(array_reserve(&a, 8 * huge / 8));
    CHECK_EQ(array_bytes(&a), 8 * huge);
    CHECK_OK(array_reserve(&a, 8 * huge / 8 + 1)); /* there is room for an eighth more */
    CHECK_EQ(array_bytes(&a), 9 * huge);
    array_dispose(&a);
}

TEST(a_borrowed_beginning_is_used_in_place)
{
    uint64_t head[100];
    struct array a;
    for (size_t i = 0; i < 100; i++)
        head[i] = i;
    CHECK_OK(array_init_head(&a, 8, 5000, head, 100));
    CHECK_OK(array_reserve(&a, 100));
    CHECK_EQ(array_bytes(&a), 0);
    CHECK_OK(array_reserve(&a, 5000));
    for (size_t i = 100; i < 5000; i++)
        put(&a, i, i);
    put(&a, 7, 7777);
    CHECK_EQ(head[7], 7777);
    for (size_t i = 0; i < 5000; i++)
        CHECK_EQ(get(&a, i), i == 7 ? 7777 : i);
    CHECK_EQ((uintptr_t)array_at(&a, 100) % 4096, 0);
    array_dispose(&a);
}

TEST(large_items_grow_too)
{
    struct array a;
    CHECK_OK(array_init(&a, 65536 + 64, 1000));
    for (size_t i = 0; i < 40; i++) {
        CHECK_OK(array_reserve(&a, i + 1));
        put(&a, i, i);
        memset(array_at(&a, i), (int)i, a.item);
    }
    for (size_t i = 0; i < 40; i++)
        CHECK_EQ(((uint8_t *)array_at(&a, i))[a.item - 1], i);
    array_dispose(&a);
}

TEST(more_than_the_most_is_refused)
{
    struct array a;
    CHECK_OK(array_init(&a, 8, 10));
    CHECK_FAILS(array_reserve(&a, SIZE_MAX / 16), SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    CHECK_OK(array_reserve(&a, 10));
    array_dispose(&a);
    array_dispose(&a);
}

static bool fail_at(void *context, size_t bytes)
{
    int *left = context;
    (void)bytes;
    return --*left > 0;
}

TEST(without_memory_nothing_changes)
{
    struct array a;
    int left = 1;
    CHECK_OK(array_init(&a, 8, 1 << 24));
    CHECK_OK(array_reserve(&a, 10));
    put(&a, 9, 42);
    struct array before = a;
    syna_test_set_alloc(fail_at, &left);
    syna_rc rc = array_reserve(&a, 1 << 20);
    syna_test_set_alloc(NULL, NULL);
    CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    CHECK_MEM(&a, &before, sizeof a);
    CHECK_EQ(get(&a, 9), 42);
    CHECK_OK(array_reserve(&a, 1 << 20));
    array_dispose(&a);

    left = -1000;
    syna_test_set_alloc(fail_at, &left);
    rc = array_init(&a, 8, 1 << 24);
    syna_test_set_alloc(NULL, NULL);
    CHECK_FAILS(rc, SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    array_dispose(&a);
}
