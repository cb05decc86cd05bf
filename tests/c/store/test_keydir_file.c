/* Checkpoints of the key index: saved, opened, damaged, refused by the disk. */
#include "store/keydir_model.h"

static void save(struct model *t, const char *path)
{
    CHECK_OK(keydir_save(t->dir, path, t->m.log.last_offset, t->m.log.end, t->m.log.last_crc));
}

/* Replace the index by the one in the checkpoint. */
static void reopen(struct model *t, const char *path)
{
    struct keydir *dir;
    uint64_t end = t->m.log.end;
    CHECK_OK(keydir_load(&t->m.log, path, &dir));
    CHECK(dir != NULL);
    CHECK_EQ(t->m.log.end, end);
    keydir_free(t->dir);
    t->dir = dir;
}

TEST(a_checkpoint_opens_to_the_same_index_at_every_size_and_can_be_written_to)
{
    const char *path = check_path("keys.idx");
    struct model t;
    bool moving = false;
    model_init(&t, ALL_BITS);
    put_any(&t, 500);
    for (int round = 0; round < 60; round++) {
        moving |= t.dir->old.groups != NULL;
        save(&t, path);
        reopen(&t, path);
        same_as_model(&t, t.dir);
        if (round % 7 == 0)
            same_order(&t);
        for (int n = 0; n < 25; n++)
            put_any(&t, 500);
        same_as_model(&t, t.dir);
    }
    CHECK(moving); /* at least one was taken while the table was growing */
    model_dispose(&t);
}

TEST(an_empty_log_has_a_checkpoint_only_when_something_is_covered)
{
    const char *path = check_path("keys.idx");
    struct model t;
    struct keydir *dir;
    model_init(&t, ALL_BITS);
    CHECK_OK(keydir_load(&t.m.log, path, &dir));
    CHECK(dir == NULL);
    struct frame f;
    CHECK(memlog_add_raw(&t.m, "", 0, 0, "\x03", 1, &f)); /* an engine frame and no key */
    save(&t, path);
    reopen(&t, path);
    same_as_model(&t, t.dir);
    put(&t, "a", 1, PUT_TEXT);
    same_as_model(&t, t.dir);
    model_dispose(&t);
}

TEST(long_histories_survive_a_checkpoint_with_their_restarts)
{
    const char *path = check_path("keys.idx");
    struct model t;
    struct history_cursor c;
    struct entry e;
    model_init(&t, ALL_BITS);
    for (int round = 0; round < 5; round++) {
        for (int n = 0; n < 500; n++) {
            put(&t, "long", 4, any_kind(&t));
            put(&t, "also", 4, PUT_INT);
            if (n % 5 == 0)
                put_any(&t, 40);
        }
        save(&t, path);
        reopen(&t, path);
        same_as_model(&t, t.dir);
        if (round == 2)
            put(&t, "long", 4, PUT_BLOCK); /* from here on one is copied, the other not */
        CHECK_OK(keydir_find(t.dir, "long", 4, &e));
        const struct model_key *k = model_key(&t, "long", 4);
        for (size_t i = 0; i < k->count; i += 1 + rng_next(&t.rng) % 7) {
            CHECK_OK(history_seek(t.dir, &e, i, &c));
            CHECK_EQ(c.offset, k->records[i].offset);
        }
        CHECK_RC(history_seek(t.dir, &e, k->count, &c), SYNA_ERR_KEY_NOT_FOUND);
    }
    model_dispose(&t);
}

TEST(a_history_larger_than_the_chunks_of_a_save_survives_it)
{
    const char *path = check_path("keys.idx");
    const uint64_t records = 300000;
    struct model t;
    struct entry e;
    struct history_cursor c;
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < records; n++) {
        struct frame f;
        CHECK(memlog_add_number(&t.m, "key", 3, SYNA_TYPE_INT, n, &f));
        CHECK_OK(keydir_apply(t.dir, &f));
    }
    CHECK_OK(keydir_find(t.dir, "key", 3, &e));
    struct history_view view;
    CHECK(history_get_view(t.dir, e.history, &view));
    CHECK(view.end - view.bytes > 256 << 10);
    save(&t, path);
    reopen(&t, path);
    CHECK_OK(keydir_find(t.dir, "key", 3, &e));
    for (uint64_t n = 0; n < records; n += 997) {
        CHECK_OK(history_seek(t.dir, &e, n, &c));
        CHECK_EQ(c.offset, HEADER_BYTES + n * (t.m.bytes.len - HEADER_BYTES) / records);
    }
    model_dispose(&t);
}

TEST(more_histories_than_an_entry_can_name_are_refused_before_anything_is_written)
{
    struct model t;
    model_init(&t, ALL_BITS);
    put(&t, "key", 3, PUT_INT);
    t.dir->history_count = t.dir->mapped_histories = HISTORY_MAX - 1; /* as if there were so many */
    CHECK_OK(keydir_reserve(t.dir, 1));
    CHECK_RC(keydir_reserve(t.dir, 2), SYNA_ERR_INTERNAL);
    put(&t, "key", 3, PUT_INT); /* the last one */
    struct frame f;
    CHECK(memlog_add_block(&t.m, "other", 5, SYNA_TYPE_INT, (uint64_t[8]){0}, 8, &f));
    CHECK_RC(keydir_apply(t.dir, &f), SYNA_ERR_INTERNAL);
    CHECK_RC(keydir_reserve(t.dir, 1), SYNA_ERR_INTERNAL);
    same_as_model(&t, t.dir);
    model_dispose(&t);
}

TEST(a_checkpoint_that_does_not_fit_the_log_is_ignored)
{
    const char *path = check_path("keys.idx");
    struct model t;
    struct keydir *dir;
    struct frame f;
    model_init(&t, ALL_BITS);
    for (int n = 0; n < 50; n++)
        put_any(&t, 20);
    save(&t, path);
    struct kvlog log = t.m.log;

    log.header.generation++;
    CHECK_OK(keydir_load(&log, path, &dir));
    CHECK(dir == NULL);
    log = t.m.log;
    log.header.uuid[3] ^= 1;
    CHECK_OK(keydir_load(&log, path, &dir));
    CHECK(dir == NULL);
    log = t.m.log;
    log.allocated = log.map.len = log.end - 1; /* the log lost its end */
    CHECK_OK(keydir_load(&log, path, &dir));
    CHECK(dir == NULL);

    keydir_test_hash_mask = 0xff; /* another hash function */
    CHECK_OK(keydir_load(&t.m.log, path, &dir));
    CHECK(dir == NULL);
    keydir_test_hash_mask = ALL_BITS;

    CHECK(memlog_add_number(&t.m, "more", 4, SYNA_TYPE_INT, 1, &f)); /* fits, and covers less */
    CHECK_OK(keydir_load(&t.m.log, path, &dir));
    CHECK(dir != NULL);
    CHECK_EQ(t.m.log.end, f.offset);
    same_as_model(&t, dir);
    keydir_free(dir);
    model_dispose(&t);
}

static size_t slurp(const char *path, uint8_t **bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    CHECK_EQ(fstat(fd, &st), 0);
    *bytes = malloc((size_t)st.st_size);
    CHECK_EQ(read(fd, *bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    return (size_t)st.st_size;
}

static void spew(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

/* Use everything of a keydir that may be damaged: right answers or KEYDIR_DAMAGED. Returns how often
 * the latter. */
static size_t right_or_damaged(const struct model *t, struct keydir *dir, size_t step)
{
    size_t damaged = 0;
    for (size_t i = 0; i < t->count; i += step) {
        struct entry e;
        struct history_cursor c;
        const struct model_key *k = &t->keys[i];
        syna_rc rc = keydir_find(dir, k->bytes, k->len, &e);
        if (rc == SYNA_SUCCESS) {
            same_record(&e, &k->records[k->count - 1]);
            rc = history_seek(dir, &e, k->count - 1, &c);
            if (rc == SYNA_SUCCESS)
                CHECK_EQ(c.offset, k->records[k->count - 1].offset);
        }
        if (rc != SYNA_SUCCESS) {
            CHECK_EQ(rc, KEYDIR_DAMAGED);
            damaged++;
        }
    }
    syna_rc rc = keydir_sort(dir);
    if (rc != SYNA_SUCCESS)
        CHECK_EQ(rc, KEYDIR_DAMAGED);
    return damaged + (rc != SYNA_SUCCESS);
}

TEST(a_damaged_page_of_a_checkpoint_is_reported_and_never_believed)
{
    const char *path = check_path("keys.idx");
    struct model t;
    struct keydir *dir;
    uint8_t *bytes;
    size_t met = 0, ignored = 0, unsaved = 0;
    char key[128];
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < 180000; n++) /* sections of more than 1 MiB are checked page by page */
        put_new(&t, key, shaped_key(n, 2, key));
    save(&t, path);
    size_t len = slurp(path, &bytes);
    for (size_t at = 100; at < len; at += 211003) {
        check_note("byte %zu of %zu", at, len);
        bytes[at] ^= 0x40;
        spew(path, bytes, len);
        bytes[at] ^= 0x40;
        CHECK_OK(keydir_load(&t.m.log, path, &dir));
        if (!dir) {
            ignored++;
            continue;
        }
        met += right_or_damaged(&t, dir, 23) > 0;
        struct frame f;
        CHECK(memlog_add_number(&t.m, "n", 1, SYNA_TYPE_INT, at, &f));
        syna_rc rc = keydir_reserve(dir, 1);
        if (rc == SYNA_SUCCESS)
            rc = keydir_apply(dir, &f);
        CHECK(rc == SYNA_SUCCESS || rc == KEYDIR_DAMAGED);
        rc = keydir_save(dir, check_path("again.idx"), t.m.log.last_offset, t.m.log.end,
                         t.m.log.last_crc);
        CHECK(rc == SYNA_SUCCESS || rc == KEYDIR_DAMAGED);
        unsaved += rc == KEYDIR_DAMAGED;
        keydir_free(dir);
    }
    CHECK(met > 20);
    CHECK(unsaved > 20); /* damage is not copied into the next checkpoint */
    free(bytes);
    model_dispose(&t);
}

TEST(opening_a_checkpoint_does_no_work_per_key)
{
    const char *path = check_path("keys.idx");
    struct model t;
    struct keydir *dir;
    struct keydir_stats stats;
    char key[128];
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < SEGMENT_ENTRIES + 5000; n++) /* one whole segment and some */
        put_new(&t, key, shaped_key(n, 2, key));
    save(&t, path);
    asked_for = 0;
    syna_test_set_alloc(count_bytes, NULL);
    CHECK_OK(keydir_load(&t.m.log, path, &dir));
    syna_test_set_alloc(NULL, NULL);
    CHECK(dir != NULL);
    keydir_get_stats(dir, &stats);
    CHECK(stats.index_bytes < 4096);
    CHECK(asked_for < 16384);
    CHECK_EQ(right_or_damaged(&t, dir, 1), 0);

    keydir_free(t.dir); /* and it goes on in segments of its own */
    t.dir = dir;
    put_new(&t, key, shaped_key(SEGMENT_ENTRIES + 5000, 2, key));
    CHECK_EQ(t.dir->mapped_entries, SEGMENT_ENTRIES);
    put(&t, t.keys[0].bytes, t.keys[0].len, PUT_TEXT);
    CHECK_EQ(right_or_damaged(&t, t.dir, 1), 0);
    same_key(t.dir, &t.keys[0], 0);
    model_dispose(&t);
}

TEST(saving_and_loading_without_memory_fail_cleanly)
{
    const char *path = check_path("keys.idx");
    struct failing failing = {.fired = true};
    struct model t;
    model_init(&t, ALL_BITS);
    build_for_failures(&t);
    save(&t, path);
    for (int64_t k = 1; failing.fired; k++) {
        failing = (struct failing){.left = k};
        fail_on(&failing);
        syna_rc rc = keydir_save(t.dir, path, t.m.log.last_offset, t.m.log.end, t.m.log.last_crc);
        fail_off();
        CHECK_RC(rc, failing.fired ? SYNA_ERR_INTERNAL : SYNA_SUCCESS);
        reopen(&t, path); /* the one before is still there */
        same_as_model(&t, t.dir);
    }
    failing.fired = true;
    for (int64_t k = 1; failing.fired; k++) {
        struct keydir *dir;
        failing = (struct failing){.left = k};
        fail_on(&failing);
        syna_rc rc = keydir_load(&t.m.log, path, &dir);
        fail_off();
        CHECK_RC(rc, failing.fired ? SYNA_ERR_INTERNAL : SYNA_SUCCESS);
        CHECK((dir != NULL) == !failing.fired);
        keydir_free(dir);
    }
    model_dispose(&t);
}

TEST(a_loaded_index_keeps_its_promise_when_memory_runs_out)
{
    const char *path = check_path("keys.idx");
    struct failing failing;
    struct model t;
    char key[32];
    model_init(&t, ALL_BITS);
    build_for_failures(&t);
    save(&t, path);
    reopen(&t, path);
    fail_all(&failing); /* the last entries have to move out of the checkpoint */
    CHECK_FAILS(keydir_reserve(t.dir, 300), SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    fail_off();
    same_as_model(&t, t.dir);
    CHECK_OK(keydir_reserve(t.dir, 300));
    for (int n = 0; n < 300; n++) {
        struct model_record r;
        struct frame f = append_record(&t, key, failing_key(n, key), any_kind(&t), &r);
        fail_all(&failing);
        CHECK_OK(keydir_apply(t.dir, &f));
        fail_off();
        model_note(&t, &f, r);
    }
    same_as_model(&t, t.dir);
    /* What is spilled is not in any section: no checkpoint now. */
    CHECK_FAILS(keydir_save(t.dir, path, t.m.log.last_offset, t.m.log.end, t.m.log.last_crc),
                SYNA_ERR_INTERNAL, SYNA_WHY_NO_MEMORY);
    CHECK_OK(keydir_reserve(t.dir, 1));
    save(&t, path);
    reopen(&t, path);
    same_as_model(&t, t.dir);
    model_dispose(&t);
}

/* Every write, sync and naming of a save fails once: the checkpoint before stays, whole. */
TEST(P7_a_save_that_the_disk_refuses_leaves_the_checkpoint_before)
{
    const char *path = check_path("keys.idx");
    struct model t;
    char key[128];
    int failures = 0;
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < 30000; n++) /* more than one chunk of entries, histories and records */
        put_new(&t, key, shaped_key(n, 0, key));
    for (uint64_t n = 0; n < 9000; n++)
        put(&t, t.keys[n / 9].bytes, t.keys[n / 9].len, PUT_INT);
    while (!t.dir->old.groups) /* and all sections */
        put_new(&t, key, shaped_key(t.count, 0, key));
    save(&t, path);
    fault_begin(&vfs_posix);
    syna_test_set_vfs(&vfs_fault);
    for (int64_t k = 1;; k++) {
        check_note("call %lld", (long long)k);
        fault_arm(&(struct fault){.at = k, .system = ENOSPC});
        syna_rc rc = keydir_save(t.dir, path, t.m.log.last_offset, t.m.log.end, t.m.log.last_crc);
        bool fired = fault_fired() > 0;
        fault_arm(NULL);
        if (!fired) {
            CHECK_OK(rc);
            break;
        }
        if (rc != SYNA_SUCCESS) /* a removal that fails does no harm */
            CHECK_RC(rc, SYNA_ERR_IO);
        failures += rc != SYNA_SUCCESS;
        struct keydir *dir;
        uint64_t end = t.m.log.end;
        CHECK_OK(keydir_load(&t.m.log, path, &dir));
        CHECK(dir != NULL);
        CHECK_EQ(t.m.log.end, end);
        CHECK_EQ(keydir_count(dir), t.count);
        same_key(dir, &t.keys[5], 5);
        keydir_free(dir);
    }
    syna_test_set_vfs(NULL);
    CHECK(failures > 8);
    model_dispose(&t);
}

/* After a failed sync the log ends earlier than the index knows, when there was no memory to build it
 * again: what leads behind the end is damage, not a key. */
TEST(P8_an_index_that_knows_more_than_the_log_has_is_damaged)
{
    struct model t;
    struct order_cursor c;
    struct entry e;
    char key[128];
    uint32_t id;
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < 1000; n++)
        put_new(&t, key, shaped_key(n, 1, key));
    CHECK_OK(keydir_sort(t.dir));
    for (uint64_t n = 1000; n < 1100; n++)
        put_new(&t, key, shaped_key(n, 1, key));
    CHECK_OK(keydir_sort(t.dir)); /* in the second run */
    CHECK(t.dir->late.count > 0);
    for (uint64_t n = 1100; n < 1200; n++)
        put_new(&t, key, shaped_key(n, 1, key));

    uint64_t end = t.m.log.end;
    t.m.log.end = t.keys[40].records[0].offset;
    const struct model_key *lost = &t.keys[600];
    CHECK_EQ(keydir_find(t.dir, lost->bytes, lost->len, &e), KEYDIR_DAMAGED);
    CHECK_EQ(keydir_entry(t.dir, 600, &e), KEYDIR_DAMAGED);
    CHECK_EQ(keydir_order_seek(t.dir, lost->bytes, lost->len, &c), KEYDIR_DAMAGED);
    CHECK_EQ(keydir_sort(t.dir), KEYDIR_DAMAGED);
    CHECK_OK(keydir_order_seek(t.dir, "", 0, &c));
    syna_rc rc = SYNA_SUCCESS;
    while (rc == SYNA_SUCCESS)
        rc = keydir_order_next(t.dir, &c, &id);
    CHECK_EQ(rc, KEYDIR_DAMAGED);
    for (size_t i = 0; i < 40; i++)
        CHECK_OK(keydir_find(t.dir, t.keys[i].bytes, t.keys[i].len, &e));

    t.m.log.end = end; /* nothing was changed by all that */
    same_as_model(&t, t.dir);
    same_order(&t);
    model_dispose(&t);
}

/* Put a key again whose first record is in the order already. */
static void overwrite(struct model *t, size_t n)
{
    put(t, t->keys[n].bytes, t->keys[n].len, PUT_INT);
}

/* The log is cut back behind what the keys in question were first put with, but before what was put
 * later: comparing with them fails, and both runs stay as they were. */
TEST(P8_keys_whose_newest_record_was_cut_off_cannot_be_compared_with)
{
    enum { WHERE_MAIN, WHERE_LATE, WHERE_WALK, WHERE_FULL, WHERE_FULL_LATE, CASES };
    for (int where = 0; where < CASES; where++) {
        struct model t;
        struct order_cursor c;
        char key[128];
        uint32_t id;
        uint64_t n = 0;
        check_note("case %d", where);
        model_init(&t, ALL_BITS);
        while (n < 100)
            put_new(&t, key, shaped_key(n++, 1, key)); /* all begin with the same eight bytes */
        CHECK_OK(keydir_sort(t.dir));
        while (n < 120)
            put_new(&t, key, shaped_key(n++, 1, key));
        CHECK_OK(keydir_sort(t.dir));
        for (int more = where >= WHERE_FULL ? 1100 : where == WHERE_WALK ? 0 : 20; more; more--)
            put_new(&t, key, shaped_key(n++, 1, key));
        uint64_t cut = t.m.log.end;
        bool late = where == WHERE_LATE || where == WHERE_FULL_LATE;
        for (size_t k = late ? 100 : 0; k < (late ? 120 : 100); k++)
            overwrite(&t, k);
        uint64_t end = t.m.log.end;
        t.m.log.end = cut;

        syna_rc rc = keydir_sort(t.dir);
        CHECK_EQ(rc, where == WHERE_MAIN || where == WHERE_WALK ? SYNA_SUCCESS : KEYDIR_DAMAGED);
        CHECK_OK(keydir_order_seek(t.dir, "", 0, &c));
        do
            rc = keydir_order_next(t.dir, &c, &id);
        while (rc == SYNA_SUCCESS);
        CHECK_EQ(rc, KEYDIR_DAMAGED);

        t.m.log.end = end;
        same_as_model(&t, t.dir);
        same_order(&t);
        model_dispose(&t);
    }
}

/* The k-th allocation of a save of several chunks fails. */
TEST(P7_a_large_save_without_memory_leaves_the_checkpoint_before)
{
    const char *path = check_path("keys.idx");
    static const char *const keys[] = {"long", "longer"};
    static const uint32_t records[] = {130000, 95000};
    struct failing failing = {.fired = true};
    struct model t;
    char key[128];
    int64_t k = 1;
    model_init(&t, ALL_BITS);
    for (uint64_t n = 0; n < 11500; n++)
        put_new(&t, key, shaped_key(n, 2, key));
    save(&t, path);
    uint64_t end = t.m.log.end;
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        for (uint32_t n = 0; n < records[i]; n++) {
            struct frame f;
            CHECK(memlog_add_number(&t.m, keys[i], strlen(keys[i]), SYNA_TYPE_INT, n, &f));
            CHECK_OK(keydir_apply(t.dir, &f));
        }
    for (; failing.fired; k++) {
        failing = (struct failing){.left = k};
        fail_on(&failing);
        syna_rc rc = keydir_save(t.dir, path, t.m.log.last_offset, t.m.log.end, t.m.log.last_crc);
        fail_off();
        check_note("allocation %lld", (long long)k);
        CHECK_RC(rc, failing.fired ? SYNA_ERR_INTERNAL : SYNA_SUCCESS);
        struct keydir *dir;
        struct kvlog log = t.m.log;
        CHECK_OK(keydir_load(&log, path, &dir));
        CHECK(dir != NULL);
        CHECK_EQ(log.end, failing.fired ? end : t.m.log.end);
        keydir_free(dir);
    }
    CHECK(k > 8);
    model_dispose(&t);
}
