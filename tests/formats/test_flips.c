/* T4: every bit flip and every truncation of the golden files, and random damage in a larger one.
 * Whatever is done to a file (P4, P5, P14): an error that names file and offset, or data that was
 * right at its time; never a wrong value. A flip before the last durable mark is reported by every
 * open for writing, which then changes nothing, and by verify. */
#include "check.h"

#include "base/rng.h"
#include "golden.h"
#include "store/frame.h"

struct subject {
    struct mem_fs *good; /* the file as it should be */
    struct mem_fs *fs;   /* the damaged one */
    struct script_state states[SCRIPT_OPS + 1];
    size_t count;
    uint8_t bytes[16384];
    size_t size;
    size_t durable; /* bytes before here were proved durable by what stands behind them */
    bool compacted;
    size_t close_start; /* where a last CLOSE frame begins; size when there is none */
};

static void find_marks(struct subject *s)
{
    struct header h;
    struct frame f;
    CHECK_OK(header_decode(s->bytes, s->size, KIND_LOG, "golden", &h));
    s->close_start = s->size;
    for (size_t at = HEADER_BYTES; at < s->size; at += (size_t)f.len) {
        CHECK_EQ(frame_parse(s->bytes + at, s->size - at, at, frame_seed(h.uuid), &f), FRAME_GOOD);
        if (f.flags & FRAME_PRIOR_DURABLE)
            s->durable = at;
        if (f.key_len == 0 && f.value[0] == ENGINE_CLOSE)
            s->close_start = at;
    }
    CHECK(s->durable > HEADER_BYTES);
    CHECK(s->close_start == s->size || s->durable == s->close_start);
}

static void load(struct subject *s, const struct golden *g)
{
    char path[600];
    memset(s, 0, sizeof *s);
    s->good = mem_fs_new(42);
    s->fs = mem_fs_new(0);
    s->count = golden_make(g, s->good, s->states);
    s->compacted = strstr(g->script, "compact") != NULL;
    s->size =
        golden_read(golden_file(g->name, ".db", path, sizeof path), s->bytes, sizeof s->bytes);
    mem_fs_free(s->good);
    s->good = mem_fs_new(1);
    mem_fs_write(s->good, mem_fs_create(s->good, GOLDEN_PATH), 0, s->bytes, s->size);
    mem_fs_set_clock(s->good, SCRIPT_PROBE_US + 1000000, 1);
    find_marks(s);
}

static void unload(struct subject *s)
{
    syna_test_set_vfs(NULL);
    mem_fs_free(s->good);
    mem_fs_free(s->fs);
}

static void damage_begin(struct subject *s)
{
    mem_fs_copy(s->fs, s->good);
    mem_fs_use(s->fs);
    syna_test_set_vfs(&vfs_mem);
}

/* ---------------------------------------------------------------- the outcomes */

static void check_typed(syna_rc rc)
{
    const struct status_record *r = status_get();
    CHECK_EQ(rc, SYNA_ERR_SERIALIZATION);
    CHECK_EQ(r->code, rc);
    CHECK(r->reason == SYNA_WHY_CORRUPT || r->reason == SYNA_WHY_WRONG_KIND ||
          r->reason == SYNA_WHY_NEWER_FORMAT);
    CHECK_STR(r->path, GOLDEN_PATH);
    CHECK(r->offset >= 0);
}

static bool key_was_once(const struct subject *s, const struct script_state *got, uint32_t key)
{
    for (size_t n = 0; n <= s->count; n++)
        if (got->key[key].newest == s->states[n].key[key].newest)
            return true;
    return false;
}

/* Compaction writes a file key by key, so that a part of it is no state of the past, only values of
 * the past; a crash cannot leave a part of it, but whoever truncates it can. */
static bool was_once(const struct subject *s, const struct script_state *got)
{
    bool keys = s->compacted;
    for (size_t n = 0; n <= s->count; n++)
        if (script_same(got, &s->states[n]))
            return true;
    for (uint32_t key = 0; key < SCRIPT_KEYS; key++)
        keys = keys && key_was_once(s, got, key);
    return keys;
}

/* true: it opened; what it shows is right, or reading it gave a typed error. */
static bool try_open(struct subject *s, bool read_only, bool no_mmap)
{
    syna_db_options options = {.size = sizeof options, .read_only = read_only, .no_mmap = no_mmap};
    struct script_state got;
    syna_db *db;
    syna_rc rc = db_open(GOLDEN_PATH, &options, &db);
    if (rc != SYNA_SUCCESS) {
        check_typed(rc);
        CHECK_EQ(mem_fs_changes(s->fs), 0);
        return false;
    }
    rc = script_read(db, &got);
    if (rc != SYNA_SUCCESS)
        check_typed(rc);
    else
        CHECK(was_once(s, &got));
    db_close(db);
    if (read_only)
        CHECK_EQ(mem_fs_changes(s->fs), 0);
    return true;
}

static uint64_t verify_damage(void)
{
    syna_check found = {.size = sizeof found};
    syna_rc rc = db_verify(GOLDEN_PATH, NULL, NULL, NULL, &found);
    if (rc == SYNA_SUCCESS)
        return found.damaged;
    check_typed(rc);
    return 1;
}

/* ---------------------------------------------------------------- flips */

static void try_damaged(struct subject *s, bool must_report)
{
    int64_t blocks = syna_test_live_blocks();
    uint64_t damaged = verify_damage();
    bool reader = try_open(s, true, false);
    bool writer = try_open(s, false, false);
    CHECK_EQ(mem_fs_open_count(s->fs), 0);
    CHECK_STR(mem_fs_faults(s->fs), "");
    CHECK_EQ(syna_test_live_blocks(), blocks);
    if (must_report) {
        CHECK(damaged > 0);
        CHECK(!writer);
        CHECK(!reader);
    }
}

static void flip(struct subject *s, size_t bit)
{
    uint8_t byte = s->bytes[bit / 8] ^ (uint8_t)(1u << bit % 8);
    damage_begin(s);
    mem_fs_write(s->fs, mem_fs_find(s->fs, GOLDEN_PATH), bit / 8, &byte, 1);
    try_damaged(s, bit / 8 < s->durable);
}

TEST(P4_P5_every_bit_flip_of_every_golden_file)
{
    size_t flips = 0, durable = 0;
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        struct subject s;
        load(&s, &goldens[i]);
        for (size_t bit = 0; bit < s.size * 8; bit++) {
            check_note("%s, bit %zu of byte %zu (durable %zu of %zu)", goldens[i].name, bit % 8,
                       bit / 8, s.durable, s.size);
            flip(&s, bit);
        }
        flips += s.size * 8;
        durable += s.durable * 8;
        unload(&s);
    }
    printf("%zu flips, %zu of them in durable bytes: all of those reported, 0 wrong values\n",
           flips, durable);
}

/* After a flip in the CLOSE frame nothing is missing: only the proof of a clean close is. */
TEST(P4_a_damaged_close_frame_loses_nothing)
{
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        struct subject s;
        struct script_state got;
        syna_db *db;
        load(&s, &goldens[i]);
        for (size_t byte = s.close_start; byte < s.size; byte++) {
            check_note("%s, byte %zu", goldens[i].name, byte);
            damage_begin(&s);
            uint8_t wrong = (uint8_t)~s.bytes[byte];
            mem_fs_write(s.fs, mem_fs_find(s.fs, GOLDEN_PATH), byte, &wrong, 1);
            CHECK_OK(db_open(GOLDEN_PATH, NULL, &db));
            CHECK_OK(script_read(db, &got));
            CHECK(script_same(&got, &s.states[s.count]));
            CHECK_OK(db_close(db));
        }
        unload(&s);
    }
}

/* ---------------------------------------------------------------- truncations */

TEST(P4_P14_every_truncation_of_every_golden_file)
{
    size_t cuts = 0;
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        struct subject s;
        load(&s, &goldens[i]);
        for (size_t size = 0; size < s.size; size++, cuts++) {
            check_note("%s, %zu of %zu bytes", goldens[i].name, size, s.size);
            damage_begin(&s);
            mem_fs_resize(s.fs, mem_fs_find(s.fs, GOLDEN_PATH), size);
            try_damaged(&s, size > 0 && size < HEADER_BYTES);
        }
        unload(&s);
    }
    printf("%zu truncations\n", cuts);
}

/* ---------------------------------------------------------------- random damage */

/* Several bytes at once, runs of zeros and copied pieces: what disks and programs do to files. */
static void spoil(struct subject *s, uint64_t *random)
{
    uint64_t file = mem_fs_find(s->fs, GOLDEN_PATH);
    uint8_t piece[64] = {0};
    for (uint64_t n = rng_next(random) % 4 + 1; n > 0; n--) {
        uint64_t dice = rng_next(random);
        size_t at = (size_t)(dice >> 8) % s->size, from = (size_t)(dice >> 32) % s->size;
        size_t len = MIN((size_t)(dice % 64) + 1, s->size - MAX(at, from));
        memset(piece, (int)(dice >> 56), sizeof piece);
        if (dice & 0x80)
            memcpy(piece, s->bytes + from, len);
        mem_fs_write(s->fs, file, at, piece, len);
    }
}

TEST(P4_P14_random_damage)
{
    uint64_t random = check_random();
    for (int64_t round = 0; round < check_rounds(3000); round++) {
        struct subject s;
        load(&s, &goldens[(size_t)round % COUNT_OF(goldens)]);
        for (int i = 0; i < 8; i++) {
            check_note("round %lld.%d of seed %llu", (long long)round, i,
                       (unsigned long long)random);
            damage_begin(&s);
            spoil(&s, &random);
            try_damaged(&s, false);
        }
        unload(&s);
    }
}

TEST(P4_flips_are_found_without_mapping_too)
{
    for (size_t i = 0; i < COUNT_OF(goldens); i++) {
        struct subject s;
        load(&s, &goldens[i]);
        for (size_t bit = 0; bit < s.size * 8; bit += 5) {
            check_note("%s, bit %zu", goldens[i].name, bit);
            uint8_t byte = s.bytes[bit / 8] ^ (uint8_t)(1u << bit % 8);
            damage_begin(&s);
            mem_fs_write(s.fs, mem_fs_find(s.fs, GOLDEN_PATH), bit / 8, &byte, 1);
            CHECK(!try_open(&s, false, true) || bit / 8 >= s.durable);
        }
        unload(&s);
    }
}

/* P6: bytes that might have been acknowledged are not destroyed. A flip behind the last durable
 * mark cannot be told from a torn write, so the tail is cut; but where it looks like a whole frame,
 * a copy of it is kept, however the file is read. */
TEST(P6_a_tail_that_looks_like_a_whole_frame_is_saved_before_it_is_cut)
{
    for (uint8_t no_mmap = 0; no_mmap < 2; no_mmap++) {
        syna_db_options options = {.size = sizeof options, .no_mmap = no_mmap};
        syna_open_report report = {.size = sizeof report};
        struct subject s;
        syna_db *db;
        size_t size;
        load(&s, &goldens[COUNT_OF(goldens) - 1]);
        CHECK_EQ(s.close_start, s.size); /* the file that was not closed */
        check_note("no_mmap %d", no_mmap);
        damage_begin(&s);
        uint8_t wrong = (uint8_t)~s.bytes[s.size - 6];
        uint64_t file = mem_fs_find(s.fs, GOLDEN_PATH);
        mem_fs_write(s.fs, file, s.size - 6, &wrong, 1);
        CHECK_OK(db_open(GOLDEN_PATH, &options, &db));
        db_get_report(db, &report);
        CHECK_OK(db_close(db));
        CHECK(report.cut_bytes > 0 && report.cut_offset + report.cut_bytes == s.size);
        CHECK_EQ(report.cut_saved, 1);
        uint64_t saved = mem_fs_find(s.fs, GOLDEN_PATH ".cut");
        CHECK(saved != 0);
        const uint8_t *bytes = mem_fs_bytes(s.fs, saved, &size);
        CHECK_EQ(size, report.cut_bytes);
        s.bytes[s.size - 6] = wrong;
        CHECK_MEM(bytes, s.bytes + report.cut_offset, size);
        unload(&s);
    }
}

/* A process that dies loses the proof of a clean close; the next one that closes gives it back,
 * even when it wrote nothing, and trims the room made ahead. */
TEST(P5_a_close_after_a_recovery_is_a_clean_close)
{
    struct subject s;
    syna_open_report report = {.size = sizeof report};
    syna_db *db;
    size_t size;
    load(&s, &goldens[COUNT_OF(goldens) - 1]);
    damage_begin(&s);
    mem_fs_resize(s.fs, mem_fs_find(s.fs, GOLDEN_PATH), 65536);
    CHECK_OK(db_open(GOLDEN_PATH, NULL, &db));
    CHECK_OK(db_close(db));
    mem_fs_bytes(s.fs, mem_fs_find(s.fs, GOLDEN_PATH), &size);
    CHECK(size < 4096);
    CHECK_OK(db_open(GOLDEN_PATH, NULL, &db));
    db_get_report(db, &report);
    CHECK_OK(db_close(db));
    CHECK_EQ(report.clean, 1);
    unload(&s);
}
