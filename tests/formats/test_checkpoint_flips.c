/* T4 with a key checkpoint: a log over 1 MiB has one beside it, and opening believes it instead of
 * reading the whole log. The checkpoint is derived: whatever happens to it, the contents are right.
 * Damage in the log before its end is met by reads, verify and compaction instead of by open
 * (ARCHITECTURE 2.4): a typed error and never a wrong value, and from then on no more writes. */
#include "check.h"

#include "base/rng.h"
#include "script.h"
#include "vfs_mem.h"

#define PATH MEM_DIR "/a.db"
#define IDX PATH ".idx"

static const char filled[] = "open 0 0 null 0 0 0\n"
                             "put 0 0 int 0 1 0\n"
                             "put 0 1 text 30 2 0\n"
                             "append 0 2 float 50 3 0\n"
                             "put 0 0 float 0 4 0\n"
                             "blob 0 3 blob 100 5 0\n"
                             "put 0 4 text 40 6 2\n"
                             "delete 0 1 null 0 0 0\n"
                             "put 0 5 bytes 1100000 7 0\n"
                             "put 0 1 int 0 8 0\n"
                             "close 0 0 null 0 0 0\n";

struct subject {
    struct mem_fs *good, *fs;
    struct script_state state; /* what is in it */
    size_t idx_size;
    uint64_t small_end; /* small frames lie before here */
};

static void begin(struct subject *s)
{
    struct script_run run = {.path = PATH};
    struct script script;
    memset(s, 0, sizeof *s);
    s->good = mem_fs_new(1);
    s->fs = mem_fs_new(2);
    mem_fs_set_clock(s->good, SCRIPT_PROBE_US, 1);
    mem_fs_use(s->good);
    syna_test_set_vfs(&vfs_mem);
    CHECK(script_parse(&script, filled));
    for (size_t i = 0; i < script.count; i++) {
        syna_db_stats stats = {.size = sizeof stats};
        CHECK_OK(script_step(&run, &script.ops[i]));
        if (script.ops[i].kind == DO_CLOSE)
            continue;
        CHECK_OK(script_read(run.db[0], &s->state));
        CHECK_OK(db_get_stats(run.db[0], &stats));
        if (stats.file_bytes < 100000)
            s->small_end = stats.file_bytes;
    }
    CHECK(mem_fs_find(s->good, IDX) != 0);
    mem_fs_bytes(s->good, mem_fs_find(s->good, IDX), &s->idx_size);
    mem_fs_copy(s->fs, s->good);
    mem_fs_use(s->fs);
}

static void end(struct subject *s)
{
    syna_test_set_vfs(NULL);
    mem_fs_free(s->good);
    mem_fs_free(s->fs);
}

static void flip(struct subject *s, const char *path, size_t byte, unsigned bit)
{
    size_t size;
    uint64_t file = mem_fs_find(s->fs, path);
    uint8_t wrong = mem_fs_bytes(s->fs, file, &size)[byte] ^ (uint8_t)(1u << bit);
    CHECK(byte < size);
    mem_fs_write(s->fs, file, byte, &wrong, 1);
}

/* ---------------------------------------------------------------- the checkpoint */

static void check_right(struct subject *s, bool read_only)
{
    syna_db_options options = {.size = sizeof options, .read_only = read_only};
    struct script_state got;
    syna_scan *scan;
    syna_record r = {.size = sizeof r};
    uint64_t count = 0;
    syna_db *db;
    CHECK_OK(db_open(PATH, &options, &db));
    CHECK_OK(script_read(db, &got));
    CHECK(script_same(&got, &s->state));
    CHECK_OK(db_scan_new(db, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    while (db_scan_next(scan, &r) == SYNA_SUCCESS)
        count++;
    db_scan_free(scan);
    CHECK_EQ(count, got.live);
    CHECK_OK(db_close(db));
}

TEST(P4_a_checkpoint_with_any_bit_flipped_changes_nothing)
{
    struct subject s;
    uint64_t random = check_random();
    begin(&s);
    for (int64_t i = 0; i < check_rounds(4000); i++) {
        size_t byte = (size_t)(rng_next(&random) % s.idx_size);
        check_note("byte %zu of %zu", byte, s.idx_size);
        flip(&s, IDX, byte, (unsigned)i % 8);
        check_right(&s, true);
        flip(&s, IDX, byte, (unsigned)i % 8);
    }
    CHECK_EQ(mem_fs_changes(s.fs), 0);
    end(&s);
}

TEST(P4_a_truncated_foreign_or_missing_checkpoint_changes_nothing)
{
    struct subject s;
    begin(&s);
    for (size_t size = 0; size <= s.idx_size; size += 1 + s.idx_size / 97) {
        check_note("%zu of %zu bytes", size, s.idx_size);
        mem_fs_copy(s.fs, s.good);
        mem_fs_resize(s.fs, mem_fs_find(s.fs, IDX), size);
        check_right(&s, size % 2 == 0);
    }
    mem_fs_copy(s.fs, s.good);
    mem_fs_set_name(s.fs, IDX, mem_fs_find(s.fs, PATH));
    check_right(&s, true);
    mem_fs_remove_name(s.fs, IDX);
    check_right(&s, false);
    end(&s);
}

/* ---------------------------------------------------------------- the log behind it */

static uint64_t damage_found(void)
{
    syna_check found = {.size = sizeof found};
    syna_rc rc = db_verify(PATH, NULL, NULL, NULL, &found);
    CHECK(rc == SYNA_SUCCESS || rc == SYNA_ERR_SERIALIZATION);
    return rc == SYNA_SUCCESS ? found.damaged : 1;
}

static bool same_or_typed(const struct script_key_state *got, const struct script_key_state *want,
                          syna_rc rc)
{
    return rc == SYNA_ERR_SERIALIZATION || memcmp(got, want, sizeof *got) == 0;
}

static void check_damaged(struct subject *s)
{
    struct script_state got;
    syna_db *db;
    CHECK(damage_found() > 0);
    syna_rc rc = db_open(PATH, NULL, &db);
    if (rc != SYNA_SUCCESS) {
        CHECK_EQ(rc, SYNA_ERR_SERIALIZATION);
        return;
    }
    rc = script_read(db, &got);
    for (uint32_t k = 0; k < SCRIPT_KEYS; k++)
        CHECK(same_or_typed(&got.key[k], &s->state.key[k], rc));
    if (rc != SYNA_SUCCESS) {
        CHECK_EQ(status_get()->reason, SYNA_WHY_CORRUPT);
        CHECK_STR(status_get()->path, PATH);
        CHECK_FAILS(db_put(db, "k0", 2, SYNA_TYPE_NULL, NULL, 0, NULL, NULL),
                    SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    }
    CHECK(db_compact(db, SYNA_COMPACT_HISTORY, NULL, NULL) == SYNA_ERR_SERIALIZATION);
    db_close(db);
}

TEST(P4_P5_flips_before_the_end_of_the_checkpoint_are_met_and_never_believed)
{
    struct subject s;
    begin(&s);
    for (size_t byte = 0; byte < s.small_end; byte++) {
        check_note("byte %zu of %zu", byte, (size_t)s.small_end);
        mem_fs_copy(s.fs, s.good);
        flip(&s, PATH, byte, (unsigned)byte % 8);
        check_damaged(&s);
        CHECK_EQ(mem_fs_open_count(s.fs), 0);
    }
    end(&s);
}
