/* Tests of the model registry on the engine: what a save leaves after failures of memory and disk at
 * every call, what a crash leaves, records that nobody wrote, keys. */
#include "db_fixture.h"

#include "engine/db_update.h"
#include "engine/models.h"
#include "engine/models_json.h"
#include "engine/models_keys.h"
#include "vfs_mem.h"

#define LARGE ((size_t)9 << 20)

static uint8_t *noise(size_t len)
{
    uint8_t *bytes = malloc(len ? len : 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    return bytes;
}

static syna_rc try_save(syna_db *db, const char *name, const void *data, size_t len,
                        uint32_t *version)
{
    syna_model_writer *w;
    syna_model_facts facts = {sizeof facts, "{\"a\": \"1\"}", "run", "npy"};
    syna_model_saved saved = {.size = sizeof saved};
    SYNA_TRY(models_create(db, name, &facts, &w));
    syna_rc rc = models_write(w, data, len / 3);
    if (rc == SYNA_SUCCESS)
        rc = models_write(w, (const uint8_t *)data + len / 3, len - len / 3);
    if (rc == SYNA_SUCCESS)
        rc = models_commit(w, &saved);
    models_writer_free(w);
    *version = rc == SYNA_SUCCESS ? saved.version : 0;
    return rc;
}

static uint32_t save(syna_db *db, const char *name, const void *data, size_t len)
{
    uint32_t version;
    CHECK_OK(try_save(db, name, data, len, &version));
    return version;
}

static syna_rc try_load(syna_db *db, const char *name, uint32_t version, uint8_t *to, size_t cap,
                        size_t *got)
{
    syna_model_reader *r;
    SYNA_TRY(models_open(db, name, version, &r));
    syna_rc rc = models_read(r, 0, to, cap, got);
    models_reader_free(r);
    return rc;
}

static void loads(syna_db *db, const char *name, uint32_t version, const void *data, size_t len)
{
    size_t got = 0;
    uint8_t *room = malloc(len + 1);
    CHECK_OK(try_load(db, name, version, room, len + 1, &got));
    CHECK_EQ(got, len);
    CHECK_MEM(room, data, len);
    free(room);
}

static int32_t count_version(void *context, const char *name, uint32_t version, const char *json,
                             size_t len)
{
    struct model_record record;
    CHECK(strlen(name) > 0);
    CHECK_EQ(strlen(json), len);
    CHECK(model_json_read(json, len, &record));
    *(uint64_t *)context = *(uint64_t *)context * 10 + version;
    return 0;
}

/* The versions as decimal digits. */
static uint64_t versions(syna_db *db, const char *name)
{
    uint64_t digits = 0;
    CHECK_OK(models_list(db, name, count_version, &digits, NULL));
    return digits;
}

/* check_path keeps what it gave out, so loops ask once. */
static syna_db *open_at(const char *path)
{
    syna_db *db = NULL;
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    CHECK_OK(db_open(path, &options, &db));
    return db;
}

/* ---------------------------------------------------------------- keys and records */

TEST(a_key_is_understood_from_its_right_end)
{
    static const char *const names[] = {"a", "a/v1", "/", "v1", "a/v1/meta", "a/@b", "a/stage/1"};
    struct buf key = {0};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *name;
        size_t len;
        uint32_t version;
        CHECK_OK(models_version_key(&key, names[i], UINT32_MAX, "meta"));
        CHECK(models_parse((char *)key.bytes, key.len, "meta", &name, &len, &version));
        CHECK_EQ(version, UINT32_MAX);
        CHECK_EQ(len, strlen(names[i]));
        CHECK_MEM(name, names[i], len);
        CHECK(!models_parse((char *)key.bytes, key.len, "data", &name, &len, &version));
    }
    static const char *const others[] = {"model/a/v0/meta",  "model/a/v01/meta", "model//v1/meta",
                                         "model/a/v/meta",   "model/v1/meta",    "model/a/1/meta",
                                         "model/a/v4294967296/meta", "model/a/v99999999999/meta",
                                         "model/a/v1/metal", "models/a/v1/meta", "meta", ""};
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        const char *name;
        size_t len;
        uint32_t version;
        check_note("%s", others[i]);
        CHECK(!models_parse(others[i], strlen(others[i]), "meta", &name, &len, &version));
    }
    buf_dispose(&key);
}

TEST(metadata_is_an_object_of_strings)
{
    static const char *const good[] = {"{}", " { } ", "{\"a\":\"b\"}",
                                       " {\"a\" : \"\\\"}\" , \"b\\\"\" : \"\" } "};
    static const char *const bad[] = {"",  "[]", "null", "{\"a\":1}", "{\"a\":{}}", "{\"a\":null}",
                                      "{", "{\"a\"}", "{\"a\":\"b\",}", "{\"a\":\"b\"} x",
                                      "{\"a\":\"b\",\"c\":[\"d\"]}", "{\"a\":\"\xff\"}"};
    for (size_t i = 0; i < COUNT_OF(good); i++)
        CHECK(model_json_is_metadata(good[i], strlen(good[i])));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK(!model_json_is_metadata(bad[i], strlen(bad[i])));
}

TEST(a_record_survives_being_written)
{
    struct buf json = {0};
    struct model_record before = {.size_bytes = UINT64_MAX, .stage_us = 7, .stage = 2}, after;
    memset(before.checksum, 'a', 64);
    before.metadata = (struct json_span){"{\"x\": \"y\"}", 10};
    CHECK(model_json_write(&json, "na\"me", 3, &before));
    CHECK(model_json_read((char *)json.bytes, json.len, &after));
    CHECK_EQ(after.size_bytes, UINT64_MAX);
    CHECK_EQ(after.stage_us, 7);
    CHECK_EQ(after.stage, 2);
    CHECK_STR(after.checksum, before.checksum);
    CHECK_EQ(after.metadata.len, 10);
    /* Any cut is not a record. */
    for (size_t len = 0; len < json.len; len++)
        CHECK(!model_json_read((char *)json.bytes, len, &after));
    buf_dispose(&json);
}

/* ---------------------------------------------------------------- versions */

TEST(versions_count_up_and_bytes_come_back)
{
    static const size_t sizes[] = {0, 1, (1u << 20) - 1, 1u << 20, (1u << 20) + 1, LARGE};
    uint8_t *data = noise(LARGE);
    syna_db *db = fast("m.db");
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        CHECK_EQ(save(db, "m", data, sizes[i]), i + 1);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
            loads(db, "m", (uint32_t)i + 1, data, sizes[i]);
        loads(db, "m", 0, data, LARGE);
        compact(db, SYNA_COMPACT_LATEST);
    }
    CHECK_OK(db_close(db));
    db = reader("m.db");
    CHECK_EQ(versions(db, "m"), 123456);
    loads(db, "m", 6, data, LARGE);
    CHECK_OK(db_close(db));
    free(data);
}

TEST(the_last_number_is_the_last)
{
    uint32_t version;
    syna_db *db = fast("m.db");
    put_text(db, "model/m/registry", "{\"next\": 4294967295, \"last_us\": 0}");
    CHECK_EQ(save(db, "m", "x", 1), UINT32_MAX);
    CHECK_FAILS(try_save(db, "m", "x", 1, &version), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    loads(db, "m", 0, "x", 1);
    CHECK_OK(db_close(db));
}

TEST(times_of_changes_grow_though_the_clock_does_not)
{
    char *json;
    size_t len;
    syna_db *db = fast("m.db");
    put_text(db, "model/m/registry", "{\"next\": 1, \"last_us\": 9000000000000000}");
    save(db, "m", "x", 1);
    CHECK_OK(models_set_stage(db, "m", 1, SYNA_STAGE_PRODUCTION));
    CHECK_OK(models_stages(db, "m", &json, &len));
    CHECK_STR(json, "[{\"version\": 1, \"stage\": \"development\", \"at\": 9000000000000001}, "
                    "{\"version\": 1, \"stage\": \"production\", \"at\": 9000000000000002}]");
    mem_free(json);
    CHECK_OK(db_close(db));
}

TEST(reads_in_any_order_compare_what_they_can)
{
    uint8_t *data = noise(LARGE), *room = malloc(LARGE);
    size_t got;
    syna_model_reader *r;
    syna_db *db = fast("m.db");
    save(db, "m", data, LARGE);
    CHECK_OK(models_open(db, "m", 1, &r));
    CHECK_EQ(models_size(r), LARGE);
    for (size_t at = 0; at < LARGE; at += 700001) { /* each piece twice, overlapping */
        CHECK_OK(models_read(r, at, room, 900000, &got));
        CHECK_MEM(room, data + at, got);
        CHECK_OK(models_read(r, at / 2, room, 10, &got));
        CHECK_MEM(room, data + at / 2, got);
    }
    CHECK_OK(models_read(r, LARGE, room, 1, &got));
    CHECK_EQ(got, 0);
    CHECK_OK(models_read(r, UINT64_MAX, room, 1, &got));
    CHECK_EQ(got, 0);
    models_reader_free(r);
    CHECK_OK(db_close(db));
    free(data);
    free(room);
}

TEST(other_bytes_than_were_hashed_are_refused)
{
    uint8_t room[8];
    size_t got;
    syna_model_reader *r;
    syna_db *db = fast("m.db");
    save(db, "m", "abc", 3);
    put(db, "model/m/v1/data", SYNA_TYPE_BYTES, "abd", 3);
    CHECK_FAILS(try_load(db, "m", 1, room, 8, &got), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(got, 0);
    CHECK_OK(models_open(db, "m", 1, &r)); /* and again, however it is read */
    CHECK_OK(models_read(r, 0, room, 2, &got));
    CHECK_FAILS(models_read(r, 2, room, 1, &got), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(models_read(r, 2, room, 1, &got), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    models_reader_free(r);
    put(db, "model/m/v1/data", SYNA_TYPE_BYTES, "abcd", 4);
    CHECK_FAILS(try_load(db, "m", 1, room, 8, &got), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    put_float(db, "model/m/v1/data", 1);
    CHECK_RC(try_load(db, "m", 1, room, 8, &got), SYNA_ERR_TYPE_MISMATCH);
    del(db, "model/m/v1/data");
    CHECK_RC(try_load(db, "m", 1, room, 8, &got), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- changes */

TEST(promotion_and_deletion)
{
    uint32_t version = 0, deleted;
    syna_db *db = fast("m.db");
    for (int i = 0; i < 3; i++)
        save(db, "m", "x", 1);
    save(db, "m/v1", "y", 1);
    CHECK_RC(models_production(db, "m", &version), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_OK(models_set_stage(db, "m", 3, SYNA_STAGE_PRODUCTION));
    CHECK_OK(models_set_stage(db, "m", 1, SYNA_STAGE_PRODUCTION));
    CHECK_OK(models_production(db, "m", &version));
    CHECK_EQ(version, 1);
    CHECK_OK(models_set_alias(db, "m", "best", 1));
    CHECK_RC(models_set_stage(db, "m", 4, 0), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_FAILS(models_set_stage(db, "m", 1, 4), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(models_set_stage(db, "m", 1, -1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_OK(models_delete(db, "m", 1, &deleted));
    CHECK_EQ(deleted, 1);
    CHECK_OK(models_production(db, "m", &version));
    CHECK_EQ(version, 3);
    CHECK_RC(models_alias(db, "m", "best", &version), SYNA_ERR_KEY_NOT_FOUND);
    uint64_t count = count_of(db);
    CHECK_OK(models_delete(db, "m", 1, &deleted));
    CHECK_EQ(deleted, 0);
    CHECK_OK(models_delete(db, "nobody", 0, &deleted));
    CHECK_EQ(deleted, 0);
    CHECK_EQ(count_of(db), count); /* nothing was written */
    CHECK_OK(models_delete(db, "m", 0, &deleted));
    CHECK_EQ(deleted, 2);
    CHECK_EQ(versions(db, "m"), 0);
    CHECK_EQ(versions(db, "m/v1"), 1);
    CHECK_EQ(save(db, "m", "x", 1), 4);
    CHECK_OK(db_close(db));
}

TEST(a_blob_that_compaction_moves_meanwhile_is_saved_whole)
{
    uint8_t *data = noise(LARGE);
    syna_model_writer *w;
    syna_model_saved saved = {.size = sizeof saved};
    syna_db *db = fast("m.db");
    CHECK_OK(models_create(db, "m", NULL, &w));
    for (size_t at = 0; at < LARGE; at += LARGE / 9) {
        CHECK_OK(models_write(w, data + at, LARGE / 9));
        compact(db, SYNA_COMPACT_LATEST);
    }
    CHECK_EQ(count_of(db), 0);
    CHECK_OK(models_commit(w, &saved));
    CHECK_FAILS(models_commit(w, &saved), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(models_write(w, "x", 1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    models_writer_free(w);
    CHECK(!has(db, "model")); /* the place holder was never a key */
    loads(db, "m", 1, data, LARGE / 9 * 9);
    CHECK_OK(db_close(db));
    free(data);
}

/* ---------------------------------------------------------------- failures */

/* One round of everything; returns the first failure. */
static syna_rc everything(syna_db *db, const uint8_t *data, size_t len)
{
    uint32_t version, deleted;
    uint64_t digits = 0;
    char *json = NULL;
    size_t json_len, got;
    uint8_t room[64];
    SYNA_TRY(try_save(db, "m", data, len, &version));
    SYNA_TRY(try_load(db, "m", version, room, sizeof room, &got));
    SYNA_TRY(models_set_stage(db, "m", version, SYNA_STAGE_PRODUCTION));
    SYNA_TRY(models_set_alias(db, "m", "best", version));
    SYNA_TRY(models_production(db, "m", &version));
    SYNA_TRY(models_list(db, NULL, count_version, &digits, NULL));
    SYNA_TRY(models_stages(db, "m", &json, &json_len));
    mem_free(json);
    return models_delete(db, "m", version, &deleted);
}

/* Every version that is listed is whole and holds `data`, and nothing lies there beside them. */
static void check_sound(syna_db *db, const uint8_t *data, size_t len)
{
    static const char *const parts[] = {"data", "format", "meta"};
    uint64_t digits = versions(db, "m");
    int whole = 0, found = 0;
    for (uint64_t d = digits; d > 0; d /= 10, whole++)
        loads(db, "m", (uint32_t)(d % 10), data, len);
    for (uint32_t v = 1; v < 10; v++)
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
            char key[64];
            snprintf(key, sizeof key, "model/m/v%u/%s", v, parts[i]);
            found += has(db, key);
        }
    CHECK_EQ(found, 3 * whole);
}

/* Files in memory, whose calls can be made to fail. */
static struct mem_fs *memory_files(void)
{
    struct mem_fs *fs = mem_fs_new(1);
    mem_fs_use(fs);
    fault_begin(&vfs_mem);
    syna_test_set_vfs(&vfs_fault);
    return fs;
}

static void end_files(struct mem_fs *fs)
{
    CHECK_STR(mem_fs_faults(fs), "");
    mem_fs_use(NULL);
    mem_fs_free(fs);
    syna_test_set_vfs(NULL);
}

static void fail_each_allocation(size_t len, int64_t step)
{
    uint8_t *data = noise(len);
    bool fired = true;
    for (int64_t k = 1; fired; k += step) {
        struct mem_fs *fs = memory_files();
        syna_db *db = open_at(MEM_DIR "/m.db");
        check_note("allocation %lld", (long long)k);
        fault_alloc(k, false);
        syna_rc rc = everything(db, data, len);
        fired = fault_alloc_fired() > 0;
        fault_alloc(0, false);
        if (rc != SYNA_SUCCESS)
            CHECK_EQ(status_get()->reason, SYNA_WHY_NO_MEMORY);
        CHECK(fired || rc == SYNA_SUCCESS);
        check_sound(db, data, len);
        uint32_t version = save(db, "m", data, len);
        loads(db, "m", version, data, len);
        CHECK_OK(db_close(db));
        end_files(fs);
    }
    free(data);
}

TEST(memory_that_fails_at_any_call_leaves_a_sound_registry)
{
    fail_each_allocation(100, 1);
}

TEST(memory_that_fails_in_a_large_save_leaves_a_sound_registry)
{
    fail_each_allocation((1u << 20) + 100, 1);
}

/* A call of the file system fails: the change is there whole or not at all, now and after opening again. */
static void fail_each_call(size_t len, struct fault fault)
{
    uint8_t *data = noise(len);
    syna_db_options synced = {.size = sizeof synced};
    for (bool fired = true; fired; fault.at++) {
        struct mem_fs *fs = memory_files();
        syna_db *db = NULL;
        uint32_t deleted;
        CHECK_OK(db_open(MEM_DIR "/m.db", &synced, &db));
        save(db, "m", data, len);
        check_note("call %lld", (long long)fault.at);
        fault_arm(&fault);
        syna_rc rc = everything(db, data, len);
        fired = fault_fired() > 0;
        fault_arm(NULL);
        CHECK(fired || rc == SYNA_SUCCESS);
        check_sound(db, data, len);
        db_close(db); /* fails where a sync has failed */
        CHECK_OK(db_open(MEM_DIR "/m.db", &synced, &db));
        check_sound(db, data, len);
        loads(db, "m", 1, data, len);
        CHECK(save(db, "m", data, len) >= 2);
        CHECK_OK(models_delete(db, "m", 0, &deleted));
        CHECK_OK(db_close(db));
        end_files(fs);
    }
    free(data);
}

TEST(a_disk_that_fails_at_any_call_leaves_a_sound_registry)
{
    fail_each_call(100, (struct fault){.at = 1, .system = EIO});
    fail_each_call(100, (struct fault){.at = 1, .system = ENOSPC, .short_io = true});
}

TEST(a_disk_that_fails_in_a_large_save_leaves_a_sound_registry)
{
    fail_each_call((1u << 20) + 100, (struct fault){.at = 1, .system = EIO, .forever = true});
}

TEST(a_build_that_fails_writes_nothing)
{
    uint32_t version;
    syna_db *db = fast("m.db");
    uint8_t *data = noise(LARGE);
    put_text(db, "model/m/registry", "damaged");
    uint64_t count = count_of(db);
    CHECK_FAILS(try_save(db, "m", "x", 1, &version), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_FAILS(try_save(db, "m", data, LARGE, &version), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
    CHECK_EQ(count_of(db), count);
    put_text(db, "model/m/registry", "{\"next\": 3, \"last_us\": 1}");
    CHECK_EQ(save(db, "m", data, LARGE), 3);
    CHECK_OK(db_close(db));
    free(data);
}

TEST(a_read_only_registry_refuses_changes)
{
    uint32_t version, deleted;
    syna_db *db = fast("m.db");
    save(db, "m", "x", 1);
    CHECK_OK(db_close(db));
    db = reader("m.db");
    CHECK_FAILS(try_save(db, "m", "x", 1, &version), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(models_set_stage(db, "m", 1, 1), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    CHECK_FAILS(models_delete(db, "m", 1, &deleted), SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY);
    loads(db, "m", 1, "x", 1);
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- crashes */

/* Cut the file of a synced registry at every byte of its last save: the save is there whole or not. */
TEST(a_cut_at_any_byte_leaves_whole_versions)
{
    struct mem_fs *fs = memory_files(), *cut_fs = mem_fs_new(1);
    syna_db_options synced = {.size = sizeof synced};
    syna_db_stats stats = {.size = sizeof stats};
    syna_db *db = NULL;
    CHECK_OK(db_open(MEM_DIR "/m.db", &synced, &db));
    save(db, "m", "first", 5);
    CHECK_OK(db_get_stats(db, &stats));
    uint64_t start = stats.file_bytes;
    save(db, "m", "second", 6);
    CHECK_OK(db_get_stats(db, &stats));
    for (uint64_t cut = start; cut <= stats.file_bytes; cut++) {
        bool whole = cut == stats.file_bytes;
        check_note("cut at %llu", (unsigned long long)cut);
        mem_fs_copy(cut_fs, fs);
        mem_fs_resize(cut_fs, mem_fs_find(cut_fs, MEM_DIR "/m.db"), cut);
        mem_fs_use(cut_fs);
        syna_db *after = open_at(MEM_DIR "/m.db");
        CHECK_EQ(versions(after, "m"), whole ? 12 : 1);
        loads(after, "m", 0, whole ? "second" : "first", whole ? 6 : 5);
        CHECK_EQ(save(after, "m", "third", 5), whole ? 3 : 2);
        CHECK_OK(db_close(after));
        mem_fs_use(fs);
    }
    CHECK_OK(db_close(db));
    mem_fs_free(cut_fs);
    end_files(fs);
}
