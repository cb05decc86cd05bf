/* Mapped regions: growth under pointers that are held, in every mode, and every failure of the system
 * on the way. */
#include "check.h"

#include "io/map.h"

enum { PAGE = 4096 };

static struct file file_of(const char *name, size_t len)
{
    struct file f;
    CHECK_OK(file_open(&f, check_path(name), VFS_WRITE | VFS_CREATE));
    uint8_t *bytes = malloc(len ? len : 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    CHECK_OK(file_write_all(&f, 0, bytes, len));
    free(bytes);
    return f;
}

static void extend(const struct file *f, size_t from, size_t to)
{
    for (size_t i = from; i < to; i += 1000) {
        uint8_t piece[1000];
        size_t len = MIN(to - i, sizeof piece);
        for (size_t k = 0; k < len; k++)
            piece[k] = (uint8_t)((i + k) * 31 + (i + k) / 251);
        CHECK_OK(file_write_all(f, i, piece, len));
    }
}

static void check_bytes(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != (uint8_t)(i * 31 + i / 251))
            check_fail(__FILE__, __LINE__, "byte %zu is %02x", i, p[i]);
}

static void grow_piece_by_piece(bool writable, bool copy)
{
    const size_t ends[] = {1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 70000, 70001, 300000};
    struct file f = file_of("a", 0);
    struct map m;
    map_init(&m, writable, copy);
    CHECK_OK(map_grow(&m, &f, 0));
    const uint8_t *held[COUNT_OF(ends)];
    size_t len = 0;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        extend(&f, len, ends[i]);
        len = ends[i];
        check_note("grown to %zu", len);
        CHECK_OK(map_grow(&m, &f, len));
        CHECK_EQ(m.len, len);
        CHECK_OK(map_grow(&m, &f, len / 2)); /* never shrinks */
        CHECK_EQ(m.len, len);
        held[i] = map_base(&m);
        for (size_t k = 0; k <= i; k++)
            check_bytes(held[k], ends[k]); /* every pointer ever given is still good */
    }
    map_dispose(&m);
    CHECK(m.base == NULL && m.len == 0);
    map_dispose(&m);
    file_close(&f);
}

TEST(P15_growing_keeps_every_pointer_when_reading)
{
    grow_piece_by_piece(false, false);
}
TEST(P15_growing_keeps_every_pointer_when_writing)
{
    grow_piece_by_piece(true, false);
}
TEST(P15_growing_keeps_every_pointer_when_copying)
{
    grow_piece_by_piece(false, true);
}

/* A table that gives small reservations only, so that outgrowing them happens. */
static size_t most_reserved, reserve_calls;
static int map_error;

static void *small_reserve(size_t len)
{
    reserve_calls++;
    return len <= most_reserved ? vfs_posix.reserve(len) : NULL;
}

static int failing_map(void *at, vfs_fd fd, uint64_t offset, size_t len, bool writable, bool shared)
{
    return map_error ? map_error : vfs_posix.map(at, fd, offset, len, writable, shared);
}

static struct vfs small;

static void use_small(size_t most)
{
    small = vfs_posix;
    small.reserve = small_reserve;
    small.map = failing_map;
    most_reserved = most;
    reserve_calls = 0;
    map_error = 0;
    syna_test_set_vfs(&small);
}

TEST(P15_an_outgrown_reservation_stays_mapped)
{
    struct file f = file_of("a", 10 * PAGE);
    struct map m;
    map_init(&m, true, false);
    use_small(16 * PAGE);
    syna_rc rc = map_grow(&m, &f, 10 * PAGE);
    syna_test_set_vfs(NULL);
    CHECK_OK(rc);
    CHECK(reserve_calls > 1); /* asked for much, took less */
    CHECK(m.reserved >= 10 * PAGE && m.reserved <= 16 * PAGE);
    const uint8_t *old = map_base(&m);

    extend(&f, 10 * PAGE, 40 * PAGE);
    CHECK_OK(map_grow(&m, &f, 40 * PAGE));
    CHECK(map_base(&m) != old);
    check_bytes(old, 10 * PAGE);
    check_bytes(map_base(&m), 40 * PAGE);
    uint8_t *through = (uint8_t *)(uintptr_t)map_base(&m);
    through[5] ^= 0xff; /* both are the same file */
    CHECK_EQ(old[5], through[5]);
    map_dispose(&m);
    file_close(&f);
}

TEST(P7_a_map_that_cannot_grow_stays_as_it_was)
{
    struct file f = file_of("a", 2 * PAGE);
    struct map m;
    map_init(&m, false, false);
    CHECK_OK(map_grow(&m, &f, PAGE));
    const uint8_t *before = map_base(&m);
    use_small(0);
    map_error = -EACCES;
    syna_rc rc = map_grow(&m, &f, 2 * PAGE);
    int system = syna_last_errno();
    map_error = -ENOMEM;
    syna_rc full = map_grow(&m, &f, 2 * PAGE);
    syna_test_set_vfs(NULL);
    CHECK_EQ(rc, SYNA_ERR_IO);
    CHECK_EQ(system, EACCES);
    CHECK_EQ(full, SYNA_ERR_INTERNAL);
    CHECK_EQ(syna_last_reason(), SYNA_WHY_NO_MEMORY);
    CHECK(map_base(&m) == before);
    CHECK_EQ(m.len, PAGE);
    CHECK_OK(map_grow(&m, &f, 2 * PAGE));
    check_bytes(map_base(&m), 2 * PAGE);
    map_dispose(&m);

    use_small(0); /* no address space at all */
    rc = map_grow(&m, &f, PAGE);
    map_error = -EIO; /* and space, but no mapping */
    most_reserved = SIZE_MAX;
    syna_rc unmapped = map_grow(&m, &f, PAGE);
    syna_test_set_vfs(NULL);
    CHECK_EQ(rc, SYNA_ERR_INTERNAL);
    CHECK_EQ(unmapped, SYNA_ERR_IO);
    CHECK(m.base == NULL);
    CHECK_RC(map_grow(&m, &f, UINT64_MAX), SYNA_ERR_INTERNAL);
    map_dispose(&m);
    file_close(&f);
}

static bool countdown(void *context, size_t bytes)
{
    (void)bytes;
    int *left = context;
    return (*left)-- != 0;
}

TEST(P7_every_refused_allocation_is_a_clean_failure)
{
    struct file f = file_of("a", 200000);
    for (int copy = 0; copy < 2; copy++) {
        for (int k = 0;; k++) {
            struct map m;
            map_init(&m, false, copy);
            int left = k;
            syna_test_set_alloc(countdown, &left);
            syna_rc small_rc = map_grow(&m, &f, 10);
            syna_rc rc = small_rc == SYNA_SUCCESS ? map_grow(&m, &f, 200000) : small_rc;
            syna_test_set_alloc(NULL, NULL);
            check_note("copy %d, allocation %d", copy, k);
            if (rc == SYNA_SUCCESS) {
                CHECK(left >= 0 && k > 0);
                map_dispose(&m);
                break;
            }
            CHECK_EQ(rc, SYNA_ERR_INTERNAL);
            CHECK_EQ(m.len, small_rc == SYNA_SUCCESS ? 10 : 0);
            map_dispose(&m);
        }
    }
    file_close(&f);
}

TEST(stores_through_a_writable_map_reach_the_file)
{
    struct file f = file_of("a", PAGE);
    struct map m;
    map_init(&m, true, false);
    CHECK_OK(map_grow(&m, &f, PAGE));
    memcpy((uint8_t *)(uintptr_t)map_base(&m) + 100, "stored", 6);
    char back[6];
    CHECK_OK(file_read_exactly(&f, 100, back, 6));
    CHECK_MEM(back, "stored", 6);
    map_fill(&m, 0, "x", 1); /* nothing to do outside copy mode */
    check_bytes(map_base(&m), 100);
    map_dispose(&m);
    file_close(&f);
}

static size_t cold_calls;
static const void *cold_at;

static void counting_advise(void *at, size_t len, enum vfs_advice advice)
{
    if (advice == VFS_COLD) {
        cold_calls++;
        cold_at = at;
    }
    vfs_posix.advise(at, len, advice);
}

static void use_counting(void)
{
    small = vfs_posix;
    small.advise = counting_advise;
    cold_calls = 0;
    syna_test_set_vfs(&small);
}

TEST(what_is_let_go_reads_the_same_again)
{
    struct file f = file_of("a", 3 * PAGE + 5);
    struct map m;
    use_counting();
    map_init(&m, true, false);
    map_let_go(&m); /* nothing is mapped yet */
    CHECK_EQ(cold_calls, 0);
    CHECK_OK(map_grow(&m, &f, 3 * PAGE + 5));
    memcpy((uint8_t *)(uintptr_t)map_base(&m) + PAGE, "stored", 6); /* and not in the file yet, perhaps */
    map_let_go(&m);
    CHECK_EQ(cold_calls, 1);
    check_bytes(map_base(&m), PAGE);
    CHECK_MEM(map_base(&m) + PAGE, "stored", 6);
    CHECK_EQ(map_base(&m)[3 * PAGE + 4], (uint8_t)((3 * PAGE + 4) * 31 + (3 * PAGE + 4) / 251));
    map_dispose(&m);
    syna_test_set_vfs(NULL);
    file_close(&f);
}

TEST(a_copy_is_never_let_go)
{
    struct file f = file_of("a", PAGE);
    struct map m;
    use_counting();
    map_init(&m, false, true);
    CHECK_OK(map_grow(&m, &f, PAGE));
    map_let_go(&m);
    CHECK_EQ(cold_calls, 0);
    check_bytes(map_base(&m), PAGE);
    map_dispose(&m);
    syna_test_set_vfs(NULL);
    file_close(&f);
}

TEST(a_walk_lets_go_once_for_every_32_MiB_that_it_touched)
{
    const size_t window = (size_t)1 << MAP_WINDOW_BITS, most = MAP_WALK_BYTES / window;
    struct file f = file_of("a", 0);
    struct map m;
    struct map_walk walk = {0};
    use_counting();
    map_init(&m, false, false);
    CHECK_OK(file_truncate(&f, 2 * MAP_KEEP_BYTES));
    CHECK_OK(map_grow(&m, &f, MAP_KEEP_BYTES));
    const uint8_t *base = map_base(&m);
    for (size_t i = 0; i < 3 * most; i++) /* addresses only; nothing is read */
        map_walked(&m, &walk, base + i % most * window, 10);
    CHECK_EQ(cold_calls, 0); /* a file as small as that */
    CHECK_OK(map_grow(&m, &f, 2 * MAP_KEEP_BYTES));
    for (size_t i = 0; i < 100000; i++) /* the same place again and again is one window */
        map_walked(&m, &walk, base + i % 1000, 10);
    CHECK_EQ(walk.windows, 1);
    for (size_t i = 1; i + 1 < most; i++)
        map_walked(&m, &walk, base + i * window, 10);
    CHECK_EQ(cold_calls, 0);
    map_walked(&m, &walk, base + (most - 1) * window, 10);
    CHECK_EQ(cold_calls, 1);
    CHECK(cold_at == base);
    map_walked(&m, &walk, base, MAP_WALK_BYTES); /* one large record */
    CHECK_EQ(cold_calls, 2);
    CHECK_EQ(walk.windows, 0);
    map_dispose(&m);
    syna_test_set_vfs(NULL);
    file_close(&f);
}

TEST(a_mapped_file_shows_what_others_write)
{
    struct file f = file_of("a", 100);
    struct map m;
    map_init(&m, false, false);
    CHECK_OK(map_grow(&m, &f, 100));
    CHECK_OK(file_write_all(&f, 50, "new", 3));
    CHECK_MEM(map_base(&m) + 50, "new", 3);
    map_dispose(&m);
    file_close(&f);
}

TEST(a_copy_is_private_and_is_filled_by_its_writer)
{
    struct file f = file_of("a", 300);
    struct map m;
    map_init(&m, true, true);
    CHECK_OK(map_grow(&m, &f, 200));
    CHECK_OK(file_write_all(&f, 50, "new", 3));
    check_bytes(map_base(&m), 200);
    map_fill(&m, 50, "new", 3);
    CHECK_MEM(map_base(&m) + 50, "new", 3);
    map_fill(&m, 10, NULL, 5);
    CHECK_MEM(map_base(&m) + 10, "\0\0\0\0\0", 5);
    map_fill(&m, 198, "abcdef", 6); /* only what is inside */
    map_fill(&m, 200, "abcdef", 6);
    map_fill(&m, UINT64_MAX, "abcdef", 6);
    CHECK_MEM(map_base(&m) + 198, "ab", 2);
    CHECK_OK(map_grow(&m, &f, 300));
    CHECK_EQ(map_base(&m)[299], (uint8_t)(299 * 31 + 1));
    CHECK_RC(map_grow(&m, &f, 301), SYNA_ERR_SERIALIZATION); /* the file is shorter */
    CHECK_EQ(m.len, 300);
    map_dispose(&m);
    file_close(&f);
}

static struct map shared_map;
static size_t published_len;

static void *read_on(void *done)
{
    while (!__atomic_load_n((int *)done, __ATOMIC_ACQUIRE)) {
        size_t len = __atomic_load_n(&published_len, __ATOMIC_ACQUIRE);
        const uint8_t *base = map_base(&shared_map);
        for (size_t i = 0; i < len; i += 509)
            CHECK_EQ(base[i], (uint8_t)(i * 31 + i / 251));
    }
    return NULL;
}

TEST(P12_readers_read_on_while_the_map_moves)
{
    for (int copy = 0; copy < 2; copy++) {
        struct file f = file_of("a", PAGE);
        map_init(&shared_map, false, copy);
        use_small(8 * PAGE);
        CHECK_OK(map_grow(&shared_map, &f, PAGE));
        published_len = PAGE;
        int done = 0;
        pthread_t threads[3];
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, read_on, &done), 0);
        for (size_t pages = 2; pages < 200; pages++) {
            most_reserved = (pages + 8) * PAGE;
            extend(&f, (pages - 1) * PAGE, pages * PAGE);
            CHECK_OK(map_grow(&shared_map, &f, pages * PAGE));
            __atomic_store_n(&published_len, pages * PAGE, __ATOMIC_RELEASE);
        }
        __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            pthread_join(threads[i], NULL);
        syna_test_set_vfs(NULL);
        map_dispose(&shared_map);
        file_close(&f);
    }
}

static void read_in_child(void *m)
{
    check_bytes(map_base(m), 10 * PAGE);
    map_dispose(m);
}

TEST(P11_a_child_reads_on_and_disposing_there_leaves_the_parents_map)
{
    struct file f = file_of("a", 10 * PAGE);
    struct map m;
    map_init(&m, false, false);
    CHECK_OK(map_grow(&m, &f, 10 * PAGE));
    CHECK_EQ(check_child(read_in_child, &m), 0);
    check_bytes(map_base(&m), 10 * PAGE);
    map_dispose(&m);
    file_close(&f);
}

TEST(P7_a_length_that_no_address_space_holds_is_refused)
{
    struct file f = file_of("a", PAGE);
    struct map m;
    map_init(&m, false, false);
    const uint64_t lengths[] = {SIZE_MAX / 4, SIZE_MAX / 2 + 1, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        CHECK_FAILS(map_grow(&m, &f, lengths[i]), SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    CHECK_OK(map_grow(&m, &f, PAGE));
    check_bytes(map_base(&m), PAGE);
    map_dispose(&m);
    file_close(&f);
}
