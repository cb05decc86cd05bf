/* T4 and T14 for row files. A golden file is kept as text, one line for each 16 bytes that are not all
 * zero; it was written by the release that introduced the format and is never written again.
 *
 *   - this release writes the same bytes, and shows the same rows (P16)
 *   - every bit of the header, of slots, rows, records and CRCs flipped, and every other place by a
 *     sample: an error that names file and offset, or rows that were right at a checkpoint (P4, P14)
 *   - the same for truncations
 *
 * GOLDEN_WRITE=1 writes the file if it does not exist. */
#include "check.h"

#include "engine/mmap_vectors.h"
#include "store/rowfile_format.h"
#include "vfs_mem.h"

#define PATH MEM_DIR "/golden.mmap"
#define GOLDEN SYNA_TESTS_FOLDER "/formats/v1/rows.hex"

enum { DIMS = 3, FILE_MAX = 16 * (int)ROWFILE_BLOCK };

/* ---------------------------------------------------------------- the file as text */

static void write_hex(const char *path, const uint8_t *bytes, size_t len)
{
    static const uint8_t zeros[16];
    FILE *f = fopen(path, "wx");
    if (!f)
        return;
    fprintf(f, "%zu bytes\n", len);
    for (size_t at = 0; at < len; at += 16) {
        if (memcmp(bytes + at, zeros, 16) == 0)
            continue;
        fprintf(f, "%08zx", at);
        for (size_t i = 0; i < 16; i++)
            fprintf(f, " %02x", bytes[at + i]);
        fprintf(f, "\n");
    }
    fclose(f);
    printf("wrote %s\n", path);
}

static size_t read_hex(const char *path, uint8_t *bytes, size_t cap)
{
    FILE *f = fopen(path, "r");
    size_t len, at;
    CHECK(f && fscanf(f, "%zu bytes", &len) == 1 && len <= cap);
    memset(bytes, 0, len);
    while (fscanf(f, "%zx", &at) == 1) {
        CHECK(at + 16 <= len);
        for (size_t i = 0; i < 16; i++) {
            unsigned byte;
            CHECK_EQ(fscanf(f, "%x", &byte), 1);
            bytes[at + i] = (uint8_t)byte;
        }
    }
    fclose(f);
    return len;
}

/* ---------------------------------------------------------------- what is in it */

static syna_rc open_store(bool read_only, syna_mmap **out)
{
    syna_mmap_options options = {.size = sizeof options,
                                 .dimensions = DIMS,
                                 .metric = SYNA_METRIC_DOT_PRODUCT,
                                 .read_only = read_only};
    return mmap_vectors_open(PATH, &options, out);
}

static void put(syna_mmap *store, const char *key, float x)
{
    const float v[DIMS] = {x, -x, x / 3};
    size_t added;
    CHECK_OK(mmap_vectors_insert(store, &key, NULL, v, DIMS, 1, &added));
}

/* Two checkpoints, and rows behind the last that a crash kept from being one. */
static const char *const states[] = {"", "one=1 two=2", "two=2 one=3 three=4"};

static void make(struct mem_fs *fs)
{
    syna_mmap *store;
    int32_t deleted;
    mem_fs_set_clock(fs, 1700000000000000u, 1000);
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(open_store(false, &store));
    put(store, "one", 1);
    put(store, "two", 2);
    CHECK_OK(mmap_vectors_checkpoint(store));
    put(store, "one", 3);
    put(store, "three", 4);
    put(store, "four", 5);
    CHECK_OK(mmap_vectors_delete(store, "four", 4, &deleted));
    CHECK_OK(mmap_vectors_checkpoint(store));
    put(store, "five", 6);
    struct mem_fs *copy = mem_fs_new(0);
    mem_fs_copy(copy, fs);
    CHECK_OK(mmap_vectors_close(store));
    mem_fs_copy(fs, copy);
    mem_fs_free(copy);
    syna_test_set_vfs(NULL);
}

/* NULL when reading ended in a typed error. */
static const char *rows_of(syna_mmap *store)
{
    static char text[512];
    syna_hit *hits;
    size_t count;
    syna_rc rc = mmap_vectors_rows(store, SYNA_SEARCH_VECTORS, &hits, &count);
    if (rc != SYNA_SUCCESS) {
        CHECK_EQ(rc, SYNA_ERR_SERIALIZATION);
        return NULL;
    }
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const float *v = hits[i].vector;
        CHECK(v[1] == -v[0] && v[2] == v[0] / 3);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%g", i ? " " : "",
                 hits[i].key, (double)v[0]);
    }
    syna_free_hits(hits);
    return text;
}

TEST(P16_this_release_writes_the_same_bytes)
{
    static uint8_t kept[FILE_MAX];
    struct mem_fs *fs = mem_fs_new(42);
    size_t size;
    make(fs);
    const uint8_t *bytes = mem_fs_bytes(fs, mem_fs_find(fs, PATH), &size);
    if (getenv("GOLDEN_WRITE"))
        write_hex(GOLDEN, bytes, size);
    CHECK_EQ(read_hex(GOLDEN, kept, sizeof kept), size);
    CHECK_MEM(bytes, kept, size);
    mem_fs_free(fs);
}

/* ---------------------------------------------------------------- damage */

struct subject {
    struct mem_fs *good, *fs;
    uint64_t file;
    const uint8_t *bytes;
    size_t size;
};

static void load(struct subject *s)
{
    static uint8_t kept[FILE_MAX];
    s->size = read_hex(GOLDEN, kept, sizeof kept);
    s->bytes = kept;
    s->good = mem_fs_new(1);
    s->fs = mem_fs_new(0);
    s->file = mem_fs_create(s->good, PATH);
    mem_fs_write(s->good, s->file, 0, kept, s->size);
    mem_fs_resize(s->good, s->file, s->size);
    mem_fs_copy(s->fs, s->good);
    mem_fs_use(s->fs);
    syna_test_set_vfs(&vfs_mem);
}

static void unload(struct subject *s)
{
    syna_test_set_vfs(NULL);
    mem_fs_free(s->good);
    mem_fs_free(s->fs);
}

static void check_typed(syna_rc rc)
{
    const struct status_record *r = status_get();
    CHECK_EQ(rc, SYNA_ERR_SERIALIZATION);
    CHECK(r->reason == SYNA_WHY_CORRUPT || r->reason == SYNA_WHY_WRONG_KIND ||
          r->reason == SYNA_WHY_NEWER_FORMAT);
    CHECK_STR(r->path, PATH);
    CHECK(r->offset >= 0);
}

/* 2: all rows; 1, 0: those of an earlier checkpoint; -1: a typed error. A writer changes nothing before
 * it writes. */
static int outcome(const struct subject *s, bool read_only)
{
    syna_mmap *store;
    syna_rc rc = open_store(read_only, &store);
    if (rc != SYNA_SUCCESS) {
        check_typed(rc);
        CHECK_EQ(mem_fs_changes(s->fs), 0);
        return -1;
    }
    const char *rows = rows_of(store);
    if (!rows)
        check_typed(status_get()->code);
    int state = rows ? (int)COUNT_OF(states) - 1 : -1;
    while (state >= 0 && strcmp(rows, states[state]) != 0)
        if (state-- == 0)
            check_fail(__FILE__, __LINE__, "rows that never were: %s", rows);
    CHECK_EQ(mem_fs_changes(s->fs), 0);
    CHECK_OK(mmap_vectors_close(store));
    return state;
}

static int verified(void)
{
    syna_check found = {.size = sizeof found};
    syna_rc rc = mmap_vectors_verify(PATH, NULL, NULL, NULL, &found);
    if (rc != SYNA_SUCCESS)
        check_typed(rc);
    return rc != SYNA_SUCCESS || found.damaged > 0;
}

static int damaged(struct subject *s)
{
    int reader = outcome(s, true), writer = outcome(s, false);
    CHECK_EQ(reader, writer);
    /* What is refused, and what is lost, verify reports; but a lost slot looks like a torn one. */
    CHECK_EQ(verified(), reader < 0);
    CHECK_EQ(mem_fs_open_count(s->fs), 0);
    return reader;
}

static int flip(struct subject *s, size_t at, int bit)
{
    uint8_t byte = (uint8_t)(s->bytes[at] ^ 1u << bit);
    check_note("bit %d of byte %zu", bit, at);
    mem_fs_write(s->fs, s->file, at, &byte, 1);
    int result = damaged(s);
    mem_fs_write(s->fs, s->file, at, &s->bytes[at], 1);
    return result;
}

TEST(P16_the_kept_file_shows_what_it_always_showed)
{
    struct subject s;
    load(&s);
    CHECK_EQ(damaged(&s), 2);
    unload(&s);
}

/* Where bytes mean something: up to the end of the slots, and the first 1 KiB of rows and records. */
TEST(P4_P14_every_bit_flip_is_an_error_or_changes_nothing)
{
    struct subject s;
    size_t refused = 0, harmless = 0;
    load(&s);
    for (size_t at = 0; at < 12288; at++) {
        /* The reserved zeros between header and slots are nobody's: every 16th is enough. */
        if (at >= HEADER_BYTES && at < SLOT_OFFSET && at % 16)
            continue;
        if (at >= SLOT_OFFSET && s.bytes[at] == 0 && at % 8)
            continue;
        int result = flip(&s, at, (int)(at % 8));
        CHECK(at >= HEADER_BYTES || result == -1);
        CHECK(at < SLOT_OFFSET || result == 2); /* one of four copies */
        refused += result < 0;
        harmless += result == 2;
    }
    for (int bit = 0; bit < 8; bit++)
        for (size_t at = 0; at < HEADER_BYTES; at++)
            CHECK_EQ(flip(&s, at, bit), -1);
    printf("%zu refused, %zu harmless\n", refused, harmless);
    unload(&s);
}

TEST(P4_every_bit_flip_in_rows_and_records_is_found)
{
    struct subject s;
    load(&s);
    /* Five rows of 64 bytes; six records of 32 bytes, one of them a little longer. */
    const size_t places[2][2] = {{ROWFILE_BLOCK, 5 * 64}, {3 * ROWFILE_BLOCK, 6 * 32 + 4}};
    for (int part = 0; part < 2; part++)
        for (size_t i = 0; i < places[part][1]; i++)
            for (int bit = 0; bit < 8; bit++)
                CHECK_EQ(flip(&s, places[part][0] + i, bit), -1);
    /* Behind them nothing counts. */
    CHECK_EQ(flip(&s, ROWFILE_BLOCK + 5 * 64, 0), 2);
    CHECK_EQ(flip(&s, 3 * ROWFILE_BLOCK + 300, 0), 2);
    for (int64_t i = 0; i < check_rounds(2000); i++) {
        size_t at = ROWFILE_BLOCK + (size_t)(check_random() % (s.size - ROWFILE_BLOCK));
        flip(&s, at, (int)(check_random() % 8));
    }
    unload(&s);
}

TEST(P4_P14_a_truncated_file_is_refused)
{
    struct subject s;
    load(&s);
    for (size_t len = s.size; len-- > 0;) {
        if (len > 16384 && len % 4096 && len != s.size - 1)
            continue;
        if (len < 16384 && len > 200 && len % 64)
            continue;
        check_note("%zu bytes left", len);
        mem_fs_resize(s.fs, s.file, len);
        CHECK_EQ(damaged(&s), -1);
    }
    unload(&s);
}

/* A slot that is wholly gone is one that a crash tore: the checkpoint before it counts. */
TEST(P4_without_the_newest_slot_the_one_before_it_counts)
{
    struct subject s;
    static const uint8_t zeros[SLOT_BYTES];
    load(&s);
    mem_fs_write(s.fs, s.file, SLOT_OFFSET + SLOT_BYTES, zeros, sizeof zeros); /* sequence 3 */
    CHECK_EQ(damaged(&s), 1);
    mem_fs_write(s.fs, s.file, SLOT_OFFSET, zeros, sizeof zeros); /* sequence 2 */
    CHECK_EQ(damaged(&s), -1);
    unload(&s);
}
