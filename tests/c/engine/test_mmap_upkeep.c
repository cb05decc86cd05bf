/* The mapped vector store beside others: readers, forked children, threads, compaction; damage, and a failure
 * at any call. */
#include "mmap_fixture.h"

#include "store/rowfile.h"
#include "vfs_fault.h"
#include "vfs_mem.h"

/* ---------------------------------------------------------------- processes */

TEST(P9_one_writer_and_P10_readers_see_the_last_checkpoint)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1), *other;
    bool changed;
    put(store, "a", 1);
    CHECK_FAILS(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &other), SYNA_ERR_IO,
                SYNA_WHY_LOCKED);
    syna_mmap *reader = open_reader(path, 1);
    check_rows(reader, "");
    CHECK_OK(mmap_vectors_checkpoint(store));
    check_rows(reader, "");
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK(changed);
    check_rows(reader, "a=1");
    for (int i = 0; i < 5000; i++) { /* new segments */
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        put(store, key, (float)i);
    }
    put(store, "a", 2);
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK(!changed);
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK_EQ(mmap_vectors_count(reader), 5001);
    float back;
    CHECK_OK(mmap_vectors_get(reader, "a", 1, &back, 1));
    CHECK(back == 2);
    const float x = 3;
    CHECK_FAILS(insert(reader, "b", &x, 1), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(mmap_vectors_checkpoint(reader), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(mmap_vectors_compact(reader, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    CHECK_OK(mmap_vectors_get(reader, "4999", 4, &back, 1)); /* the old file is still mapped */
    CHECK_OK(mmap_vectors_refresh(reader, &changed));
    CHECK(changed);
    CHECK_EQ(mmap_vectors_count(reader), 5001);
    CHECK_OK(mmap_vectors_close(reader));
    CHECK_OK(mmap_vectors_close(store));
}

static void forked(void *context)
{
    syna_mmap *store = context;
    const float x = 3;
    mmap_vectors_after_fork(store, true);
    check_rows(store, "a=1 b=2");
    CHECK_FAILS(insert(store, "c", &x, 1), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_FAILS(mmap_vectors_checkpoint(store), SYNA_ERR_GENERIC, SYNA_WHY_FORKED);
    CHECK_OK(mmap_vectors_close(store));
    _exit(0);
}

TEST(P11_a_forked_child_reads_and_does_not_write)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1), *other;
    put(store, "a", 1);
    CHECK_OK(mmap_vectors_checkpoint(store));
    put(store, "b", 2);
    mmap_vectors_before_fork(store);
    CHECK_EQ(check_child(forked, store), 0);
    mmap_vectors_after_fork(store, false);
    CHECK_FAILS(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &other), SYNA_ERR_IO,
                SYNA_WHY_LOCKED); /* the child did not unlock */
    put(store, "c", 3);
    CHECK_OK(mmap_vectors_close(store));
    store = open_store(path, 1);
    check_rows(store, "a=1 b=2 c=3");
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- compaction */

TEST(compaction_keeps_the_live_rows_in_their_order)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    syna_mmap_stats stats = {.size = sizeof stats};
    put(store, "a", 1);
    put(store, "b", 2);
    put(store, "c", 3);
    put(store, "a", 4);
    drop(store, "b");
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    check_rows(store, "c=3 a=4");
    CHECK_OK(mmap_vectors_get_stats(store, &stats));
    CHECK_EQ(stats.dead_rows, 0);
    CHECK_EQ(stats.generation, 2);
    put(store, "c", 5);
    check_rows(store, "a=4 c=5");
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
    store = open_store(path, 1);
    check_rows(store, "a=4 c=5");
    drop(store, "a");
    drop(store, "c");
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    check_rows(store, "");
    put(store, "z", 1);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}

struct meddler {
    syna_mmap *store;
    int calls;
};

/* Writes on while the rows are copied. */
static int32_t meddle(void *context, uint64_t done, uint64_t total)
{
    struct meddler *m = context;
    char key[16];
    (void)done;
    (void)total;
    if (m->calls++ < 5) {
        snprintf(key, sizeof key, "%d", m->calls);
        put(m->store, key, (float)(-m->calls));
        put(m->store, key, (float)(-100 - m->calls)); /* replaces a row written meanwhile */
        snprintf(key, sizeof key, "%d", m->calls + 100);
        drop(m->store, key);
        snprintf(key, sizeof key, "new%d", m->calls);
        put(m->store, key, 7);
        drop(m->store, key);
        put(m->store, key, 8);
    }
    return 0;
}

TEST(what_is_written_during_a_compaction_is_there_after_it)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    for (int i = 0; i < 3000; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        put(store, key, (float)i);
    }
    struct meddler m = {.store = store};
    char before[8192];
    CHECK_OK(mmap_vectors_compact(store, meddle, &m));
    CHECK(m.calls > 0);
    CHECK_EQ(mmap_vectors_count(store), 3000);
    float back;
    CHECK_OK(mmap_vectors_get(store, "1", 1, &back, 1));
    CHECK(back == -101);
    CHECK_RC(mmap_vectors_get(store, "101", 3, &back, 1), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(mmap_vectors_get(store, "new1", 4, &back, 1));
    CHECK(back == 8);
    snprintf(before, sizeof before, "%s", rows_of(store));
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
    store = open_store(path, 1);
    check_rows(store, before);
    CHECK_OK(mmap_vectors_close(store));
}

static int32_t cancel(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

TEST(P13_a_cancelled_compaction_leaves_everything_as_it_was)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    put(store, "a", 1);
    put(store, "a", 2);
    CHECK_FAILS(mmap_vectors_compact(store, cancel, NULL), SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED);
    check_rows(store, "a=2");
    put(store, "b", 3);
    CHECK_OK(mmap_vectors_compact(store, NULL, NULL));
    check_rows(store, "a=2 b=3");
    CHECK_OK(mmap_vectors_close(store));
}

/* ---------------------------------------------------------------- damage */

static void change_byte(const char *path, uint64_t offset)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
    byte ^= 4;
    CHECK(pwrite(fd, &byte, 1, (off_t)offset) == 1);
    close(fd);
}

static int32_t first_finding(void *context, uint64_t offset, const char *text)
{
    uint64_t *first = context;
    CHECK(strlen(text) > 10);
    if (*first == 0)
        *first = offset;
    return 0;
}

TEST(P4_a_changed_row_is_never_returned)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    for (int i = 0; i < 3000; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        put(store, key, (float)i);
    }
    CHECK_OK(mmap_vectors_close(store));
    change_byte(path, ROWFILE_BLOCK + 1); /* of row 0 */
    store = open_store(path, 1);
    syna_search how = {.size = sizeof how, .k = 1};
    syna_hit *hits;
    const float x = 2999, *view;
    float back;
    size_t count;
    syna_mmap_pin *pin;
    CHECK_OK(mmap_vectors_get(store, "2000", 4, &back, 1)); /* another block */
    CHECK(back == 2000);
    put(store, "more", 1);
    CHECK_FAILS(mmap_vectors_search(store, &x, 1, 1, &how, &hits, &count), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_CORRUPT);
    CHECK_EQ(status_get()->offset, ROWFILE_BLOCK);
    CHECK_RC(mmap_vectors_get(store, "5", 1, &back, 1), SYNA_ERR_SERIALIZATION);
    CHECK_RC(mmap_vectors_view(store, "5", 1, &view, &pin), SYNA_ERR_SERIALIZATION);
    CHECK_FAILS(insert(store, "x", &x, 1), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(mmap_vectors_compact(store, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_OK(mmap_vectors_close(store)); /* with the row that came before the damage was met */
    syna_check found = {.size = sizeof found};
    uint64_t first = 0;
    CHECK_OK(mmap_vectors_verify(path, first_finding, &first, NULL, &found));
    CHECK_EQ(found.damaged, 1);
    CHECK_EQ(first, ROWFILE_BLOCK);
    CHECK_EQ(found.frames, 3001);
}

/* Records whose checksums are right and which contradict each other: no crash, a typed error. */
static void forge(const char *path, const struct row_record *records, size_t count, uint64_t rows)
{
    uint8_t config[8] = {1, 0, 0, 0, 1, 0, 0, 0};
    struct rowfile_setup setup = {.component = 0x50414d4d, /* MMAP */
                                  .row_bytes = 64,
                                  .config = config,
                                  .config_len = sizeof config,
                                  .generation = 1};
    struct rowfile *rf;
    struct row_slot slot;
    bool exists;
    unlink(path);
    CHECK_OK(rowfile_create(path, &setup, &exists));
    CHECK_OK(rowfile_open(path, setup.component, true, &rf));
    CHECK_OK(rowfile_reserve(rf, rows, count * 64, 0));
    memset(rowfile_next_row(rf), 0, rows * 64);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        record_encode(&records[i], rowfile_next_record(rf) + bytes);
        bytes += record_bytes(records[i].key_len, 0);
    }
    rowfile_commit(rf, rows, bytes, count);
    rowfile_capture(rf, &slot);
    CHECK_OK(rowfile_checkpoint(rf, &slot));
    rowfile_unref(rf);
}

TEST(P14_records_that_contradict_each_other_are_refused)
{
    const char *path = check_path("a.mmap");
    const struct row_record first = {.sequence = 1, .row = 0, .replaces = ROWFILE_NONE,
                                     .kind = RECORD_ROW, .key_len = 1, .key = (const uint8_t *)"a"};
    struct row_record second[8];
    for (size_t i = 0; i < COUNT_OF(second); i++) {
        second[i] = first;
        second[i].sequence = 2;
        second[i].row = 1;
        second[i].replaces = 0;
    }
    second[0].row = 0;
    second[1].row = 5;
    second[2].replaces = 1; /* itself */
    second[3].replaces = 7;
    second[4].sequence = 1;
    second[5].sequence = 99; /* more than the slot knows of */
    second[6].kind = RECORD_DELETION, second[6].row = ROWFILE_NONE, second[6].replaces = 3;
    second[7].replaces = ROWFILE_NONE; /* a key with two live rows: met by the first look-up */
    syna_mmap *store;
    for (size_t i = 0; i < COUNT_OF(second); i++) {
        const struct row_record both[] = {first, second[i]};
        check_note("%zu", i);
        forge(path, both, 2, second[i].kind == RECORD_ROW ? 2 : 1);
        syna_check found = {.size = sizeof found};
        CHECK_OK(mmap_vectors_verify(path, NULL, NULL, NULL, &found));
        CHECK_EQ(found.damaged, 1);
        syna_rc rc = open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &store);
        if (i < 7) {
            CHECK_RC(rc, SYNA_ERR_SERIALIZATION);
            continue;
        }
        float x;
        CHECK_OK(rc);
        CHECK_RC(mmap_vectors_get(store, "a", 1, &x, 1), SYNA_ERR_SERIALIZATION);
        CHECK_FAILS(insert(store, "b", &x, 1), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
        CHECK_OK(mmap_vectors_close(store));
    }
    forge(path, &first, 1, 2); /* a row without a record */
    CHECK_RC(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &store), SYNA_ERR_SERIALIZATION);
    forge(path, &first, 0, 1);
    CHECK_RC(open_as(path, 1, SYNA_METRIC_EUCLIDEAN, false, &store), SYNA_ERR_SERIALIZATION);
}

TEST(verify_notices_what_checksums_cannot)
{
    const char *path = check_path("a.mmap");
    const float length = 5; /* of a row of zeros */
    struct row_record r = {.sequence = 1, .row = 0, .replaces = ROWFILE_NONE, .kind = RECORD_ROW,
                           .key_len = 1, .key = (const uint8_t *)"a"};
    memcpy(&r.word, &length, sizeof length);
    forge(path, &r, 1, 1);
    syna_check found = {.size = sizeof found};
    CHECK_OK(mmap_vectors_verify(path, NULL, NULL, NULL, &found));
    CHECK_EQ(found.damaged, 1);
}

TEST(foreign_and_missing_files_are_refused_by_name)
{
    syna_mmap *store;
    syna_check found = {.size = sizeof found};
    syna_db *db;
    CHECK_OK(db_open(check_path("log"), NULL, &db));
    CHECK_OK(db_close(db));
    CHECK_FAILS(open_as(check_path("log"), 1, 0, false, &store), SYNA_ERR_SERIALIZATION,
                SYNA_WHY_WRONG_KIND);
    CHECK_FAILS(mmap_vectors_verify(check_path("log"), NULL, NULL, NULL, &found),
                SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
    CHECK_FAILS(open_as(check_path("none"), 1, 0, true, &store), SYNA_ERR_IO, SYNA_WHY_NONE);
    CHECK_RC(open_as(check_path("no/such/folder"), 1, 0, false, &store), SYNA_ERR_INVALID_PATH);
    CHECK_RC(open_as(check_path(""), 1, 0, false, &store), SYNA_ERR_INVALID_PATH);
    CHECK_RC(open_as("", 1, 0, false, &store), SYNA_ERR_INVALID_PATH);
    syna_mmap *mine = open_store(check_path("m"), 1);
    CHECK_OK(mmap_vectors_close(mine));
    CHECK_FAILS(db_open(check_path("m"), NULL, &db), SYNA_ERR_SERIALIZATION, SYNA_WHY_WRONG_KIND);
}

/* ---------------------------------------------------------------- failures */

static syna_rc work(syna_mmap *store)
{
    const char *keys[] = {"a", "b", "c", "d"};
    const float rows[] = {1, 2, 3, 4};
    size_t added;
    SYNA_TRY(mmap_vectors_insert(store, keys, NULL, rows, 1, 4, &added));
    int32_t deleted;
    SYNA_TRY(mmap_vectors_delete(store, "b", 1, &deleted));
    SYNA_TRY(mmap_vectors_checkpoint(store));
    SYNA_TRY(mmap_vectors_compact(store, NULL, NULL));
    const float *view;
    syna_mmap_pin *pin;
    SYNA_TRY(mmap_vectors_view(store, "c", 1, &view, &pin));
    mmap_vectors_unpin(pin);
    syna_search how = {.size = sizeof how, .k = 2};
    syna_hit *hits;
    size_t count;
    SYNA_TRY(mmap_vectors_search(store, rows, 1, 1, &how, &hits, &count));
    syna_free_hits(hits);
    return SYNA_SUCCESS;
}

static void fail_each(bool memory, bool forever, int system)
{
    for (int64_t k = 1;; k++) {
        struct mem_fs *fs = mem_fs_new(5);
        mem_fs_use(fs);
        fault_begin(&vfs_mem);
        syna_test_set_vfs(&vfs_fault);
        check_note("%s %lld%s, errno %d", memory ? "allocation" : "call", (long long)k,
                   forever ? " and all after it" : "", system);
        syna_mmap *store = open_store(MEM_DIR "/a.mmap", 1);
        put(store, "a", 0);
        CHECK_OK(mmap_vectors_close(store));
        if (memory)
            fault_alloc(k, forever);
        else
            fault_arm(&(struct fault){.at = k, .system = system, .forever = forever});
        store = NULL;
        syna_rc rc = open_as(MEM_DIR "/a.mmap", 1, SYNA_METRIC_EUCLIDEAN, false, &store);
        if (rc == SYNA_SUCCESS)
            rc = work(store);
        if (store) {
            syna_rc closed = mmap_vectors_close(store);
            rc = rc == SYNA_SUCCESS ? closed : rc;
        }
        bool fired = memory ? fault_alloc_fired() > 0 : fault_fired() > 0;
        fault_alloc(0, false);
        fault_arm(NULL);
        if (!fired)
            CHECK_OK(rc);
        store = open_store(MEM_DIR "/a.mmap", 1);
        const char *rows = rows_of(store);
        CHECK(strcmp(rows, "a=0") == 0 || strcmp(rows, "a=1 b=2 c=3 d=4") == 0 ||
              strcmp(rows, "a=1 c=3 d=4") == 0);
        if (rc == SYNA_SUCCESS)
            CHECK_STR(rows, "a=1 c=3 d=4");
        CHECK_OK(mmap_vectors_close(store));
        check_sound(MEM_DIR "/a.mmap");
        CHECK_EQ(mem_fs_open_count(fs), 0);
        CHECK_STR(mem_fs_faults(fs), "");
        const char *name;
        uint64_t file;
        for (size_t i = 0; (name = mem_fs_name(fs, i, &file)); i++)
            CHECK_STR(name, MEM_DIR "/a.mmap"); /* no temp file is left */
        syna_test_set_vfs(NULL);
        mem_fs_free(fs);
        if (!fired)
            return;
    }
}

TEST(P7_every_allocation_may_fail)
{
    fail_each(true, false, 0);
    fail_each(true, true, 0);
}

TEST(P7_every_call_to_the_system_may_fail)
{
    fail_each(false, false, EIO);
    fail_each(false, true, EIO);
    fail_each(false, false, ENOSPC);
    fail_each(false, true, ENOSPC);
    fail_each(false, false, EINTR);
}

TEST(P7_P15_a_full_disk_refuses_rows_and_changes_nothing)
{
    struct mem_fs *fs = mem_fs_new(6);
    mem_fs_use(fs);
    mem_fs_set_strict(fs, true);
    syna_test_set_vfs(&vfs_mem);
    const char *path = MEM_DIR "/a.mmap";
    syna_mmap *store = open_store(path, 1);
    mem_fs_set_space(fs, 12 * ROWFILE_BLOCK);
    char key[16];
    float x = 0;
    syna_rc rc = SYNA_SUCCESS;
    uint64_t count = 0;
    for (; rc == SYNA_SUCCESS; count++, x++) {
        snprintf(key, sizeof key, "%llu", (unsigned long long)count);
        rc = insert(store, key, &x, 1);
    }
    count--;
    CHECK_FAILS(rc, SYNA_ERR_IO, SYNA_WHY_NO_SPACE);
    CHECK(count > 2000);
    CHECK_EQ(mmap_vectors_count(store), count);
    check_found(store, 5, 1, "5");
    CHECK_OK(mmap_vectors_checkpoint(store));
    CHECK_FAILS(mmap_vectors_compact(store, NULL, NULL), SYNA_ERR_IO, SYNA_WHY_NO_SPACE);
    mem_fs_set_space(fs, 0);
    put(store, "after", 1);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
    store = open_store(path, 1);
    CHECK_EQ(mmap_vectors_count(store), count + 1);
    CHECK_OK(mmap_vectors_close(store));
    CHECK_STR(mem_fs_faults(fs), "");
    syna_test_set_vfs(NULL);
    mem_fs_free(fs);
}

/* ---------------------------------------------------------------- threads */

struct shared {
    syna_mmap *store;
    int number;
    bool stop;
};

static void *writer_thread(void *context)
{
    struct shared *s = context;
    for (int i = 0; i < 300; i++) {
        const char *keys[8];
        char names[8][16];
        float rows[8];
        size_t added;
        for (int j = 0; j < 8; j++) {
            snprintf(names[j], sizeof names[j], "%d-%d", s->number, (i + j) % 50);
            keys[j] = names[j];
            rows[j] = (float)(s->number * 1000 + i);
        }
        CHECK_OK(mmap_vectors_insert(s->store, keys, NULL, rows, 1, 8, &added));
        if (i % 100 == 50)
            CHECK_OK(mmap_vectors_checkpoint(s->store));
        if (i % 150 == 75)
            CHECK_OK(mmap_vectors_compact(s->store, NULL, NULL));
    }
    return NULL;
}

/* A batch is seen whole: its rows have one value. */
static void *reader_thread(void *context)
{
    struct shared *s = context;
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        syna_search how = {.size = sizeof how, .k = 8, .flags = SYNA_SEARCH_VECTORS};
        syna_hit *hits;
        size_t count;
        const float x = 2000;
        CHECK_OK(mmap_vectors_search(s->store, &x, 1, 1, &how, &hits, &count));
        for (size_t i = 0; i < count; i++)
            CHECK(hits[i].vector[0] == hits[0].vector[0]);
        syna_free_hits(hits);
        syna_mmap_pin *pin;
        const float *view;
        if (mmap_vectors_view(s->store, "1-3", 3, &view, &pin) == SYNA_SUCCESS) {
            CHECK(*view >= 1000);
            mmap_vectors_unpin(pin);
        }
    }
    return NULL;
}

TEST(P12_writers_searches_checkpoints_and_compactions_at_once)
{
    const char *path = check_path("a.mmap");
    syna_mmap *store = open_store(path, 1);
    pthread_t writers[2], readers[2];
    struct shared w[2] = {{store, 0, false}, {store, 1, false}}, r = {store, 0, false};
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&writers[i], NULL, writer_thread, &w[i]), 0);
        CHECK_EQ(pthread_create(&readers[i], NULL, reader_thread, &r), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    CHECK_EQ(mmap_vectors_count(store), 100);
    CHECK_OK(mmap_vectors_close(store));
    check_sound(path);
}
