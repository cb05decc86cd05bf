/* Snapshots: what is written is found again, whole or not at all; a stale, damaged or forged file
 * is none, never an error and never a crash; damage in a lazy section shows on the page that has
 * it. */
#include "check.h"

#include "base/crc32c.h"
#include "base/vec.h"
#include "store/frame.h"
#include "store/snapshot.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

#define PURPOSE SNAPSHOT_FOURCC('T', 'E', 'S', 'T')
#define LAZY_BYTES (SNAPSHOT_LAZY + 3 * SNAPSHOT_PAGE + 1234)

static const struct snapshot_cover cover = {
    .uuid = {1, 2, 3, 4, 5}, .generation = 3, .end = 9999, .end_crc = 0xabcd, .purpose = PURPOSE};

static uint8_t *pattern(size_t len, uint64_t seed)
{
    uint8_t *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)((i * 2654435761u + seed * 40503u) >> 13);
    return bytes;
}

static void add_section(struct snapshot_writer *w, const char *name, size_t len, size_t piece)
{
    uint8_t *bytes = pattern(len, (uint8_t)name[0]);
    CHECK_OK(snapshot_section(w, name));
    for (size_t at = 0; at < len; at += piece)
        CHECK_OK(snapshot_append(w, bytes + at, MIN(piece, len - at)));
    free(bytes);
}

static void check_section(struct snapshot *s, const char *name, size_t len)
{
    size_t found;
    uint8_t *bytes = snapshot_find(s, name, &found), *want = pattern(len, (uint8_t)name[0]);
    CHECK(bytes != NULL);
    CHECK_EQ(found, len);
    CHECK(snapshot_touch(s, bytes, len));
    CHECK_MEM(bytes, want, len);
    free(want);
}

static void write_small(const char *path)
{
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    add_section(w, "alpha", 100, 7);
    add_section(w, "b", 0, 1);
    add_section(w, "longname", 5000, 5000);
    CHECK_OK(snapshot_commit(w));
}

static struct snapshot *open_it(const char *path)
{
    struct snapshot *s;
    CHECK_OK(snapshot_open(path, &cover, &s));
    return s;
}

/* The file's bytes; *len their number. */
static uint8_t *load_file(const char *path, size_t *len)
{
    int fd = open(path, O_RDONLY);
    struct stat info;
    CHECK(fd >= 0 && fstat(fd, &info) == 0);
    *len = (size_t)info.st_size;
    uint8_t *bytes = malloc(*len);
    CHECK_EQ(read(fd, bytes, *len), *len);
    close(fd);
    return bytes;
}

static void store_file(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), len);
    close(fd);
}

TEST(sections_come_back_as_they_were)
{
    const char *path = check_path("x.idx");
    write_small(path);
    struct snapshot *s = open_it(path);
    CHECK(s != NULL);
    check_section(s, "alpha", 100);
    check_section(s, "b", 0);
    check_section(s, "longname", 5000);
    size_t len;
    CHECK(snapshot_find(s, "alph", &len) == NULL);
    CHECK(snapshot_find(s, "alphabeta", &len) == NULL);
    CHECK(snapshot_find(s, "", &len) == NULL);
    const struct snapshot_cover *found = snapshot_cover_of(s);
    CHECK_MEM(found->uuid, cover.uuid, 16);
    CHECK_EQ(found->generation, 3);
    CHECK_EQ(found->end, 9999);
    CHECK_EQ(found->end_crc, 0xabcd);
    CHECK_EQ(found->purpose, PURPOSE);
    snapshot_close(s);
}

TEST(sections_of_every_size_around_the_limits_come_back)
{
    static const size_t sizes[] = {1,
                                   4095,
                                   4096,
                                   4097,
                                   SNAPSHOT_LAZY - 1,
                                   SNAPSHOT_LAZY,
                                   SNAPSHOT_LAZY + 1,
                                   SNAPSHOT_LAZY + SNAPSHOT_PAGE,
                                   2 * SNAPSHOT_LAZY,
                                   2 * SNAPSHOT_LAZY + 1,
                                   LAZY_BYTES,
                                   5 * SNAPSHOT_LAZY + 77};
    const char *path = check_path("x.idx");
    static const size_t pieces[] = {4 << 20, 100003};
    for (size_t piece = 0; piece < COUNT_OF(pieces); piece++) {
        struct snapshot_writer *w;
        CHECK_OK(snapshot_begin(path, &cover, &w));
        char name[8];
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            snprintf(name, sizeof name, "%c%zu", (char)('a' + i), i);
            add_section(w, name, sizes[i], pieces[piece]);
        }
        CHECK_OK(snapshot_commit(w));
        struct snapshot *s = open_it(path);
        CHECK(s != NULL);
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            size_t len;
            snprintf(name, sizeof name, "%c%zu", (char)('a' + i), i);
            CHECK_EQ((uintptr_t)snapshot_find(s, name, &len) % 4096, 0);
            check_section(s, name, sizes[i]);
        }
        snapshot_close(s);
    }
}

#define HUGE_UNIT ((uint64_t)2 << 20)
static uint64_t whole_units;

static int64_t write_counting_units(vfs_fd fd, const void *buf, size_t len, uint64_t offset)
{
    whole_units += offset % HUGE_UNIT == 0 ? len / HUGE_UNIT : 0;
    return vfs_posix.write_at(fd, buf, len, offset);
}

/* What a file system maps as huge pages has to be written as such. */
TEST(long_sections_are_written_in_whole_units_of_huge_pages)
{
    struct vfs table = vfs_posix;
    table.write_at = write_counting_units;
    syna_test_set_vfs(&table);
    whole_units = 0;
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(check_path("x.idx"), &cover, &w));
    add_section(w, "small", 5000, 5000);
    add_section(w, "a", 9 * HUGE_UNIT, 100003); /* its first and last units are shared with others */
    add_section(w, "b", 5 * HUGE_UNIT, 3 * HUGE_UNIT);
    CHECK_OK(snapshot_commit(w));
    syna_test_set_vfs(NULL);
    CHECK_EQ(whole_units, 8 + 4);
}

TEST(an_empty_snapshot_and_the_most_sections_are_fine)
{
    const char *path = check_path("x.idx");
    for (unsigned count = 0; count <= SNAPSHOT_SECTIONS_MAX; count += SNAPSHOT_SECTIONS_MAX) {
        struct snapshot_writer *w;
        CHECK_OK(snapshot_begin(path, &cover, &w));
        char name[8];
        for (unsigned i = 0; i < count; i++) {
            snprintf(name, sizeof name, "%u", i);
            add_section(w, name, i, 10);
        }
        CHECK_OK(snapshot_commit(w));
        struct snapshot *s = open_it(path);
        CHECK(s != NULL);
        for (unsigned i = 0; i < count; i++) {
            snprintf(name, sizeof name, "%u", i);
            check_section(s, name, i);
        }
        snapshot_close(s);
    }
}

TEST(a_missing_or_stale_snapshot_is_none)
{
    const char *path = check_path("x.idx");
    CHECK(open_it(path) == NULL);
    CHECK(open_it(check_path("")) == NULL); /* a directory */
    write_small(path);
    struct snapshot *s;
    struct snapshot_cover other = cover;
    other.generation++;
    CHECK_OK(snapshot_open(path, &other, &s));
    CHECK(s == NULL);
    other = cover;
    other.uuid[15] = 1;
    CHECK_OK(snapshot_open(path, &other, &s));
    CHECK(s == NULL);
    other = cover;
    other.purpose++;
    CHECK_OK(snapshot_open(path, &other, &s));
    CHECK(s == NULL);
    other = cover; /* what it covers is for the caller to compare */
    other.end = other.end_crc = 0;
    CHECK_OK(snapshot_open(path, &other, &s));
    CHECK(s != NULL);
    snapshot_close(s);
}

TEST(P4_a_flipped_bit_in_a_small_snapshot_makes_it_none_or_hits_padding)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_small(path);
    size_t len;
    uint8_t *bytes = load_file(path, &len);
    struct snapshot *s = open_it(path);
    size_t sections[3][2];
    const char *names[3] = {"alpha", "b", "longname"};
    uint8_t *base = snapshot_find(s, "alpha", &sections[0][1]);
    base -= 4096; /* the first section follows the header block */
    for (int i = 0; i < 3; i++)
        sections[i][0] = (size_t)((uint8_t *)snapshot_find(s, names[i], &sections[i][1]) - base);
    snapshot_close(s);
    size_t content_end = sections[2][0] + sections[2][1];
    for (size_t at = 0; at < len; at += at % 64 == 0 && at > 300 && at + 300 < len ? 3 : 1) {
        check_note("byte %zu", at);
        uint8_t old = bytes[at];
        bytes[at] ^= (uint8_t)(1u << check_random() % 8);
        store_file(copy, bytes, len);
        s = open_it(copy);
        bool padding = at >= HEADER_BYTES && at < (content_end + 7) / 8 * 8;
        for (int i = 0; i < 3; i++)
            padding &= at < sections[i][0] || at >= sections[i][0] + sections[i][1];
        if (padding) {
            CHECK(s != NULL);
            check_section(s, "alpha", 100);
            check_section(s, "longname", 5000);
        } else {
            CHECK(s == NULL);
        }
        snapshot_close(s);
        bytes[at] = old;
    }
    free(bytes);
}

TEST(every_truncation_and_every_addition_makes_it_none)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_small(path);
    size_t len;
    uint8_t *bytes = load_file(path, &len);
    for (size_t cut = 0; cut < len; cut += cut < 200 || cut + 400 > len ? 1 : 61) {
        store_file(copy, bytes, cut);
        CHECK(open_it(copy) == NULL);
    }
    uint8_t *longer = calloc(1, len + 1);
    memcpy(longer, bytes, len);
    store_file(copy, longer, len + 1);
    CHECK(open_it(copy) == NULL);
    free(longer);
    free(bytes);
}

static void write_lazy(const char *path)
{
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    add_section(w, "small", 10, 10);
    add_section(w, "big", LAZY_BYTES, 1 << 20);
    add_section(w, "tail", 3000, 3000);
    CHECK_OK(snapshot_commit(w));
}

TEST(P4_damage_in_a_lazy_section_shows_on_its_page_only)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_lazy(path);
    size_t len, big;
    uint8_t *bytes = load_file(path, &len);
    struct snapshot *s = open_it(path);
    size_t small;
    uint8_t *base = (uint8_t *)snapshot_find(s, "small", &small) - 4096;
    size_t start = (size_t)((uint8_t *)snapshot_find(s, "big", &big) - base);
    snapshot_close(s);
    CHECK_EQ(start % SNAPSHOT_PAGE, 0);
    size_t pages = (big + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE;
    for (size_t page = 0; page < pages; page += 3) {
        size_t room = MIN((size_t)SNAPSHOT_PAGE, big - page * SNAPSHOT_PAGE);
        size_t at = start + page * SNAPSHOT_PAGE + check_random() % room;
        bytes[at] ^= 16;
        store_file(copy, bytes, len);
        s = open_it(copy);
        CHECK(s != NULL);
        uint8_t *section = snapshot_find(s, "big", &big);
        for (int twice = 0; twice < 2; twice++)
            for (size_t p = 0; p < pages; p++)
                CHECK_EQ(snapshot_touch(s, section + p * SNAPSHOT_PAGE, 1), p != page);
        CHECK(!snapshot_touch(s, section, big));
        check_section(s, "small", 10);
        snapshot_close(s);
        bytes[at] ^= 16;
    }
    free(bytes);
}

TEST(a_good_page_in_the_place_of_another_is_damage)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_lazy(path);
    size_t len, big;
    uint8_t *bytes = load_file(path, &len);
    struct snapshot *s = open_it(path);
    uint8_t *section = snapshot_find(s, "big", &big);
    CHECK(snapshot_touch(s, section, big));
    /* A page written in the place of another, as a disk might misplace it. */
    uint8_t *third = NULL;
    for (size_t at = 0; at + big <= len && !third; at += SNAPSHOT_PAGE)
        if (memcmp(bytes + at, section, SNAPSHOT_PAGE) == 0)
            third = bytes + at + 2 * SNAPSHOT_PAGE;
    CHECK(third != NULL);
    snapshot_close(s);
    memmove(third, third + SNAPSHOT_PAGE, SNAPSHOT_PAGE);
    store_file(copy, bytes, len);
    s = open_it(copy);
    section = snapshot_find(s, "big", &big);
    CHECK(snapshot_touch(s, section, 2 * SNAPSHOT_PAGE));
    CHECK(!snapshot_touch(s, section + 2 * SNAPSHOT_PAGE, 1));
    snapshot_close(s);
    free(bytes);
}

TEST(stores_into_the_map_stay_private)
{
    const char *path = check_path("x.idx");
    write_lazy(path);
    struct snapshot *s = open_it(path), *other = open_it(path);
    size_t len;
    uint8_t *bytes = snapshot_find(s, "big", &len);
    CHECK(snapshot_touch(s, bytes, len));
    memset(bytes, 0, len);
    CHECK(snapshot_touch(s, bytes, len));
    check_section(other, "big", LAZY_BYTES);
    snapshot_close(s);
    snapshot_close(other);
    s = open_it(path);
    check_section(s, "big", LAZY_BYTES);
    snapshot_close(s);
}

TEST(P3_an_abandoned_snapshot_leaves_the_old_one_and_no_temp_file)
{
    const char *path = check_path("x.idx");
    write_small(path);
    struct snapshot_writer *w;
    CHECK_OK(snapshot_begin(path, &cover, &w));
    add_section(w, "other", 3 << 20, 1 << 20);
    snapshot_abort(w);
    struct snapshot *s = open_it(path);
    CHECK(s != NULL);
    check_section(s, "alpha", 100);
    snapshot_close(s);
    CHECK_EQ(vfs_posix.remove_name(path), 0);
    CHECK_EQ(rmdir(check_path("")), 0); /* nothing else is in there */
    CHECK_EQ(mkdir(check_path(""), 0700), 0);
}

TEST(misuse_is_refused_and_nothing_half_written_is_published)
{
    const char *path = check_path("x.idx");
    struct snapshot_writer *w;
    static const char *const names[] = {"", "ninechars", "twice"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        CHECK_OK(snapshot_begin(path, &cover, &w));
        add_section(w, "twice", 10, 10);
        CHECK_RC(snapshot_section(w, names[i]), SYNA_ERR_INTERNAL);
        CHECK_RC(snapshot_commit(w), SYNA_ERR_INTERNAL);
        CHECK(open_it(path) == NULL);
    }
    CHECK_OK(snapshot_begin(path, &cover, &w));
    CHECK_RC(snapshot_append(w, "x", 1), SYNA_ERR_INTERNAL);
    CHECK_RC(snapshot_commit(w), SYNA_ERR_INTERNAL);
    CHECK(open_it(path) == NULL);
    CHECK_OK(snapshot_begin(path, &cover, &w));
    char name[8];
    for (unsigned i = 0; i < SNAPSHOT_SECTIONS_MAX; i++) {
        snprintf(name, sizeof name, "%u", i);
        CHECK_OK(snapshot_section(w, name));
    }
    CHECK_RC(snapshot_section(w, "more"), SYNA_ERR_INTERNAL);
    snapshot_abort(w);
}

/* ---- forged files: right checksums, wrong contents */

static uint32_t place_crc(const uint8_t *file, uint64_t offset, size_t len)
{
    uint8_t place[8];
    store_u64(place, offset);
    return crc32c(crc32c(load_u32(file + HEADER_AT_CRC), place, 8), file + offset, len);
}

/* Make the checksum of a footer that was tampered with right again. */
static void reseal(uint8_t *bytes, size_t len)
{
    uint8_t *trailer = bytes + len - 32;
    uint64_t footer = load_u64(trailer), footer_len = load_u64(trailer + 8);
    store_u32(trailer + 24, place_crc(bytes, footer, (size_t)footer_len + 24));
}

TEST(P14_forged_tables_with_good_checksums_are_none)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_lazy(path);
    size_t len;
    uint8_t *bytes = load_file(path, &len);
    uint64_t footer = load_u64(bytes + len - 32);
    uint8_t *table = bytes + footer;
    reseal(bytes, len);
    store_file(copy, bytes, len);
    struct snapshot *s = open_it(copy);
    CHECK(s != NULL); /* resealing alone changes nothing */
    snapshot_close(s);

    const struct {
        size_t at; /* in the footer */
        uint64_t value;
        int bytes;
    } forgeries[] = {
        {4, 0, 4},
        {4, 2, 4},
        {4, 4, 4},
        {4, 33, 4},
        {4, UINT32_MAX, 4},
        {20, 0, 4},
        {20, 1, 4},
        {20, UINT32_MAX, 4},
        {24 + 0, 0, 8},
        {24 + 8, 0, 8},
        {24 + 8, 64, 8},
        {24 + 8, len, 8},
        {24 + 8, 1u << 31, 8},
        {24 + 8, UINT64_MAX - 4095, 8},
        {24 + 16, UINT64_MAX, 8},
        {24 + 16, len, 8},
        {24 + 28, 1, 4},
        {56 + 8, 4096, 8},
        {56 + 8, 65536 + 4096, 8},
        {56 + 16, 1, 8},
        {56 + 16, UINT64_MAX, 8},
        {56 + 16, UINT64_MAX - 65536, 8},
        {56 + 28, 0, 4},
        {56 + 28, UINT32_MAX, 4},
        {88 + 8, 4096, 8},
    };
    uint8_t saved[8];
    for (size_t i = 0; i < COUNT_OF(forgeries); i++) {
        check_note("forgery %zu", i);
        uint8_t *p = table + forgeries[i].at;
        memcpy(saved, p, 8);
        memcpy(p, &forgeries[i].value, (size_t)forgeries[i].bytes);
        reseal(bytes, len);
        store_file(copy, bytes, len);
        CHECK(open_it(copy) == NULL);
        memcpy(p, saved, 8);
    }
    free(bytes);
}

TEST(P14_forged_trailers_are_none)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_small(path);
    size_t len;
    uint8_t *bytes = load_file(path, &len), *trailer = bytes + len - 32;
    uint64_t footer = load_u64(trailer), footer_len = load_u64(trailer + 8);
    const uint64_t lies[][2] = {
        {HEADER_BYTES - 1, len - 32 - (HEADER_BYTES - 1)}, /* begins inside the header */
        {0, len - 32},
        {len - 32 - 23, 23}, /* is shorter than its fixed part */
        {len - 32, 0},
        {len - 31, UINT64_MAX},
        {footer + 8, footer_len},
        {UINT64_MAX, footer_len},
    };
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        check_note("lie %zu", i);
        store_u64(trailer, lies[i][0]);
        store_u64(trailer + 8, lies[i][1]);
        if (lies[i][0] < len && lies[i][1] <= len - 32) /* with the checksum that belongs to it */
            store_u32(trailer + 24, place_crc(bytes, lies[i][0], (size_t)lies[i][1] + 24));
        store_file(copy, bytes, len);
        CHECK(open_it(copy) == NULL);
    }
    free(bytes);
}

TEST(P14_a_footer_with_fewer_page_checksums_than_its_sections_have_is_none)
{
    const char *path = check_path("x.idx"), *copy = check_path("copy.idx");
    write_lazy(path);
    size_t len;
    uint8_t *bytes = load_file(path, &len);
    uint64_t footer = load_u64(bytes + len - 32), footer_len = load_u64(bytes + len - 24);
    uint32_t pages = load_u32(bytes + footer + 20);
    CHECK(pages > 10);
    for (uint32_t fewer = 1; fewer < pages; fewer += 5) {
        uint8_t *shorter = malloc(len);
        size_t new_len = len - 4 * fewer;
        memcpy(shorter, bytes, len);
        store_u32(shorter + footer + 20, pages - fewer);
        uint8_t *trailer = shorter + new_len - 32;
        memmove(trailer, shorter + len - 32, 32);
        store_u64(trailer + 8, footer_len - 4 * fewer);
        store_u64(trailer + 16, new_len);
        reseal(shorter, new_len);
        store_file(copy, shorter, new_len);
        CHECK(open_it(copy) == NULL);
        free(shorter);
    }
    free(bytes);
}

/* ---- failures */

static int64_t allowed;

static bool ration(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return allowed-- > 0;
}

TEST(P7_without_memory_writing_and_opening_fail_cleanly)
{
    const char *path = check_path("x.idx");
    uint8_t *bytes = pattern(LAZY_BYTES, 1);
    int refused = 0;
    for (int64_t k = 0;; k++) {
        check_note("write, k = %lld", (long long)k);
        struct snapshot_writer *w = NULL;
        allowed = k;
        syna_test_set_alloc(ration, NULL);
        syna_rc rc = snapshot_begin(path, &cover, &w);
        if (rc == SYNA_SUCCESS) {
            (void)snapshot_section(w, "big");
            (void)snapshot_append(w, bytes, LAZY_BYTES);
            rc = snapshot_commit(w);
        }
        syna_test_set_alloc(NULL, NULL);
        struct snapshot *s = open_it(path);
        CHECK_EQ(s != NULL, rc == SYNA_SUCCESS);
        snapshot_close(s);
        if (rc == SYNA_SUCCESS)
            break;
        refused++;
        CHECK_EQ(rc, SYNA_ERR_INTERNAL);
    }
    CHECK(refused >= 4);
    refused = 0;
    for (int64_t k = 0;; k++) {
        struct snapshot *s;
        allowed = k;
        syna_test_set_alloc(ration, NULL);
        syna_rc rc = snapshot_open(path, &cover, &s);
        syna_test_set_alloc(NULL, NULL);
        if (rc == SYNA_SUCCESS) {
            CHECK(s != NULL);
            snapshot_close(s);
            break;
        }
        refused++;
        CHECK_EQ(rc, SYNA_ERR_INTERNAL);
        CHECK(s == NULL);
    }
    CHECK(refused >= 2);
    free(bytes);
}

TEST(P7_a_full_disk_leaves_the_old_snapshot)
{
    struct mem_fs *fs = mem_fs_new(1);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    const char *path = MEM_DIR "/x.idx";
    write_small(path);
    uint8_t *bytes = pattern(LAZY_BYTES, 1);
    int failures = 0;
    for (uint64_t room = 1 << 16; room < 3 << 20; room += 300000) {
        mem_fs_set_space(fs, room);
        struct snapshot_writer *w;
        syna_rc rc = snapshot_begin(path, &cover, &w);
        if (rc == SYNA_SUCCESS) {
            (void)snapshot_section(w, "big");
            (void)snapshot_append(w, bytes, LAZY_BYTES);
            rc = snapshot_commit(w);
        }
        mem_fs_set_space(fs, 0);
        struct snapshot *s = open_it(path);
        CHECK(s != NULL);
        if (rc != SYNA_SUCCESS)
            check_section(s, "alpha", 100);
        snapshot_close(s);
        if (rc == SYNA_SUCCESS)
            break;
        failures++;
    }
    CHECK(failures > 0);
    free(bytes);
    syna_test_set_vfs(NULL);
    mem_fs_use(NULL);
    mem_fs_free(fs);
}

/* ---- threads */

struct toucher {
    struct snapshot *s;
    uint8_t *bytes;
    size_t len;
    bool good;
};

static void *touch_all(void *context)
{
    struct toucher *t = context;
    t->good = true;
    for (size_t at = 0; at < t->len; at += 1000)
        t->good &= snapshot_touch(t->s, t->bytes + at, MIN((size_t)1000, t->len - at));
    return NULL;
}

TEST(P12_threads_may_touch_the_same_pages_at_once)
{
    const char *path = check_path("x.idx");
    write_lazy(path);
    for (int64_t round = check_rounds(20); round > 0; round--) {
        struct snapshot *s = open_it(path);
        size_t len;
        uint8_t *bytes = snapshot_find(s, "big", &len);
        pthread_t threads[4];
        struct toucher work[4];
        for (int i = 0; i < 4; i++) {
            work[i] = (struct toucher){s, bytes, len, false};
            CHECK_EQ(pthread_create(&threads[i], NULL, touch_all, &work[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(work[i].good);
        }
        snapshot_close(s);
    }
}

TEST(P7_a_snapshot_of_nothing_needs_memory_for_its_footer_only)
{
    const char *path = check_path("x.idx");
    int refused = 0;
    for (int64_t k = 0;; k++) {
        struct snapshot_writer *w;
        allowed = k;
        syna_test_set_alloc(ration, NULL);
        syna_rc rc = snapshot_begin(path, &cover, &w);
        if (rc == SYNA_SUCCESS)
            rc = snapshot_commit(w);
        syna_test_set_alloc(NULL, NULL);
        CHECK_EQ(access(path, F_OK) == 0, rc == SYNA_SUCCESS);
        if (rc == SYNA_SUCCESS)
            break;
        CHECK_EQ(rc, SYNA_ERR_INTERNAL);
        refused++;
    }
    CHECK(refused >= 4);
    struct snapshot *s = open_it(path);
    CHECK(s != NULL);
    snapshot_close(s);
}

TEST(P7_a_snapshot_that_cannot_be_looked_at_is_none_and_one_without_address_space_an_error)
{
    const struct {
        enum fault_call call;
        int system;
        syna_rc rc;
    } cases[] = {
        {FAULT_OPEN, EACCES, SYNA_SUCCESS},          {FAULT_STAT, EIO, SYNA_SUCCESS},
        {FAULT_MAP, EIO, SYNA_SUCCESS},              {FAULT_MAP, ENOMEM, SYNA_ERR_INTERNAL},
        {FAULT_RESERVE, ENOMEM, SYNA_ERR_INTERNAL},
    };
    const char *path = check_path("x.idx");
    write_small(path);
    fault_begin(&vfs_posix);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct snapshot *s;
        check_note("case %zu", i);
        syna_test_set_vfs(&vfs_fault);
        fault_arm(&(struct fault){.at = 1, .system = cases[i].system, .only = 1u << cases[i].call});
        syna_rc rc = snapshot_open(path, &cover, &s);
        bool fired = fault_fired() == 1;
        syna_test_set_vfs(NULL);
        CHECK(fired);
        CHECK_RC(rc, cases[i].rc);
        CHECK(s == NULL);
    }
}
