/* Walks over records and Arrow streams: what comes, in which order, in arrays of which layout, and what
 * happens when memory, the data or the caller does not play along. */
#include "db_fixture.h"

#include "engine/arrow.h"
#include "engine/arrow_stream.h"
#include "io/map.h"

static const syna_records_options newest = {.size = sizeof newest, .type = SYNA_TYPE_ANY};

static syna_records_options history_of(const char *key)
{
    syna_records_options o = newest;
    o.history = 1;
    o.key = key;
    o.key_len = key ? strlen(key) : 0;
    return o;
}

static syna_records_options matching(const char *pattern, bool history)
{
    syna_records_options o = newest;
    o.history = history;
    o.pattern = pattern;
    o.pattern_len = strlen(pattern);
    return o;
}

static void put_time(syna_db *db, const char *key, int64_t value, uint64_t when)
{
    put_how(db, key, value, (syna_put){.when_us = when});
}

static void append(syna_db *db, const char *key, double first, size_t count)
{
    double *values = malloc(count * sizeof *values);
    uint64_t *times = malloc(count * sizeof *times);
    CHECK(values && times);
    for (size_t i = 0; i < count; i++) {
        values[i] = first + (double)i;
        times[i] = 1000000 + i;
    }
    CHECK_OK(db_append_numbers(db, key, strlen(key), SYNA_TYPE_FLOAT, (const uint64_t *)values, times,
                               count));
    free(values);
    free(times);
}

/* The keys and types of a walk: "key=type " each, `-` for a deletion. */
static void walk_is(syna_db *db, syna_records_options o, const char *want)
{
    char got[4096] = "";
    syna_records *r;
    syna_record record;
    syna_rc rc;
    CHECK_OK(records_new(db, &o, &r));
    while ((rc = records_next(r, &record)) == SYNA_SUCCESS) {
        strncat(got, record.key, record.key_len);
        snprintf(got + strlen(got), 8, record.deleted ? "=- " : "=%d ", record.type);
    }
    CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(records_next(r, &record), SYNA_ERR_KEY_NOT_FOUND);
    records_free(r);
    CHECK_STR(got, want);
}

static syna_db *mixed(void)
{
    static const float vector[3] = {1, 2, 3};
    syna_db *db = fast("a.db");
    put_text(db, "t", "text");
    put_float(db, "f", 1.5);
    put(db, "b", SYNA_TYPE_BYTES, "a\0b", 3);
    put(db, "v", SYNA_TYPE_VECTOR, vector, sizeof vector);
    put(db, "n", SYNA_TYPE_NULL, NULL, 0);
    put_int(db, "gone", 1);
    put_int(db, "gone", 2);
    del(db, "gone");
    put_int(db, "i", -7);
    syna_blob *blob;
    CHECK_OK(db_blob_create(db, "x", 1, &blob));
    CHECK_OK(db_blob_write(blob, "streamed", 8));
    CHECK_OK(db_blob_finish(blob));
    db_blob_free(blob);
    return db;
}

TEST(newest_values_come_in_key_order_and_histories_with_deletions_in_order_of_appearance)
{
    syna_db *db = mixed();
    walk_is(db, newest, "b=4 f=1 i=2 n=0 t=3 v=5 x=7 ");
    walk_is(db, history_of(NULL), "t=3 f=1 b=4 v=5 n=0 gone=2 gone=2 gone=- i=2 x=7 ");
    walk_is(db, history_of("gone"), "gone=2 gone=2 gone=- ");
    walk_is(db, history_of("absent"), "");
    walk_is(db, matching("[bft]", false), "b=4 f=1 t=3 ");
    walk_is(db, matching("[bft]", true), "t=3 f=1 b=4 ");
    walk_is(db, matching("gone", true), "gone=2 gone=2 gone=- ");
    walk_is(db, matching("", false), "");
    syna_records_options one = newest;
    one.key = "i";
    one.key_len = 1;
    walk_is(db, one, "i=2 ");
    one.key = "gone";
    one.key_len = 4;
    walk_is(db, one, "");
    CHECK_OK(db_close(db));
}

TEST(a_type_leaves_out_the_others_and_a_strict_one_refuses_them)
{
    syna_db *db = mixed();
    syna_records_options o = newest;
    o.type = SYNA_TYPE_INT;
    walk_is(db, o, "i=2 ");
    o.history = 1;
    walk_is(db, o, "gone=2 gone=2 i=2 ");
    o.strict = 1;
    syna_records *r;
    syna_record record;
    CHECK_OK(records_new(db, &o, &r));
    CHECK_RC(records_next(r, &record), SYNA_ERR_TYPE_MISMATCH);
    CHECK(strstr(status_get()->message, "'t'") != NULL);
    records_free(r);
    CHECK_OK(db_close(db));
}

TEST(blobs_come_with_their_content)
{
    syna_db *db = mixed();
    for (int history = 0; history < 2; history++) {
        syna_records_options o = matching("x", history);
        syna_records *r;
        syna_record record;
        CHECK_OK(records_new(db, &o, &r));
        CHECK_OK(records_next(r, &record));
        CHECK_EQ(record.len, 8);
        CHECK_MEM(record.data, "streamed", 8);
        records_free(r);
    }
    CHECK_OK(db_close(db));
}

TEST(a_long_history_of_blocks_and_records_comes_whole_while_it_is_written_to)
{
    syna_db *db = fast("a.db");
    append(db, "h", 0, 3000);
    for (int64_t i = 0; i < 700; i++)
        put_time(db, "h", i, 9000000 + (uint64_t)i);
    append(db, "h", 5000, 10);
    syna_records_options o = history_of("h");
    syna_records *r;
    syna_record record;
    CHECK_OK(records_new(db, &o, &r));
    uint64_t count = 0, last = 0;
    while (records_next(r, &record) == SYNA_SUCCESS) {
        if (count == 100)
            append(db, "h", 0, 2000); /* not seen */
        if (count == 200)
            compact(db, SYNA_COMPACT_LATEST); /* nor this */
        CHECK(count >= 3000 || record.time_us == 1000000 + count);
        if (count < 3000)
            CHECK(load_f64(record.data) == (double)count);
        last = record.time_us;
        count++;
    }
    CHECK_EQ(count, 3710);
    CHECK_EQ(last, 1000009);
    records_free(r);
    CHECK_OK(db_close(db));
}

TEST(thousands_of_unwanted_keys_are_passed_over)
{
    syna_db *db = fast("a.db");
    char key[16];
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "k%05d", i);
        put_int(db, key, i);
    }
    walk_is(db, matching("*9999", true), "k09999=2 ");
    walk_is(db, matching("k0000?", true),
            "k00000=2 k00001=2 k00002=2 k00003=2 k00004=2 k00005=2 k00006=2 k00007=2 k00008=2 k00009=2 ");
    CHECK_OK(db_close(db));
}

TEST(a_deletion_keeps_the_time_it_is_given_and_the_file_stays_sound)
{
    syna_db *db = fast("a.db");
    syna_batch *batch;
    CHECK_OK(db_batch_new(db, &batch));
    syna_put how = {.size = sizeof how, .when_us = 5000000};
    CHECK_OK(db_batch_put(batch, "k", 1, SYNA_TYPE_NULL, NULL, 0, &how));
    CHECK_OK(records_batch_delete(batch, "k", 1, 4000000));
    CHECK_RC(records_batch_delete(batch, "", 0, 4000000), SYNA_ERR_EMPTY_KEY);
    CHECK_OK(db_batch_commit(batch));
    CHECK_OK(records_batch_delete(batch, "k", 1, 0));
    CHECK_OK(db_batch_commit(batch));
    db_batch_free(batch);
    syna_records_options o = history_of("k");
    for (int round = 0; round < 2; round++) {
        syna_records *r;
        syna_record record;
        CHECK(!has(db, "k"));
        CHECK_OK(records_new(db, &o, &r));
        CHECK_OK(records_next(r, &record));
        CHECK_EQ(record.time_us, 5000000);
        CHECK_OK(records_next(r, &record));
        CHECK_EQ(record.deleted, 1);
        CHECK_EQ(record.time_us, 4000000);
        CHECK_OK(records_next(r, &record));
        CHECK(record.time_us > 5000000);
        records_free(r);
        CHECK_OK(db_close(db));
        sound("a.db");
        db = fast("a.db");
        compact(db, SYNA_COMPACT_HISTORY);
    }
    CHECK_OK(db_close(db));
}

/* ---------------------------------------------------------------- streams */

static const char *text_at(const struct ArrowArray *a, int64_t row, char *to)
{
    const int32_t *offsets = a->buffers[1];
    size_t len = (size_t)(offsets[row + 1] - offsets[row]);
    memcpy(to, (const char *)a->buffers[2] + offsets[row], len);
    to[len] = 0;
    return to;
}

static bool valid_at(const struct ArrowArray *a, int64_t row)
{
    const uint8_t *bits = a->buffers[0];
    return !bits || (bits[row / 8] >> (row % 8) & 1);
}

TEST(a_mixed_stream_sets_the_field_that_the_type_names)
{
    static const char *const types[] = {"bytes", "float", "int", "null", "text", "vector", "blob"};
    static const int fields[] = {3, 0, 1, -1, 2, 4, 3}; /* of the struct: float int text bytes vector packed */
    syna_db *db = mixed();
    struct ArrowArrayStream stream;
    struct ArrowArray batch, end;
    char text[64];
    CHECK_OK(arrow_stream(db, &newest, &stream));
    CHECK_EQ(stream.get_next(&stream, &batch), 0);
    CHECK_EQ(stream.get_next(&stream, &end), 0);
    CHECK(end.release == NULL);
    stream.release(&stream);
    CHECK(stream.release == NULL);
    CHECK_OK(db_close(db)); /* batches outlive both */

    CHECK_EQ(batch.length, 7);
    CHECK_EQ(batch.n_children, 5);
    const struct ArrowArray *value = batch.children[4];
    CHECK_EQ(value->n_children, 6);
    for (int64_t row = 0; row < 7; row++) {
        check_note("row %d", (int)row);
        CHECK_STR(text_at(batch.children[1], row, text), types[row]);
        CHECK(!valid_at(batch.children[3], row));
        for (int field = 0; field < 6; field++)
            CHECK_EQ(valid_at(value->children[field], row), field == fields[row]);
    }
    CHECK_EQ(((const int64_t *)value->children[1]->buffers[1])[2], -7);
    CHECK_STR(text_at(value->children[3], 6, text), "streamed");
    CHECK_EQ(value->children[4]->children[0]->length, 3);
    /* A consumer may move a child out and keep it. */
    struct ArrowArray kept = *batch.children[0];
    batch.children[0]->release = NULL;
    batch.release(&batch);
    CHECK_STR(text_at(&kept, 0, text), "b");
    kept.release(&kept);
}

TEST(the_schema_names_columns_in_their_order)
{
    struct ArrowSchema schema;
    syna_records_options o = newest;
    CHECK_OK(arrow_stream_schema(&o, &schema));
    CHECK_STR(schema.format, "+s");
    CHECK_EQ(schema.n_children, 5);
    CHECK_STR(schema.children[2]->format, "tsu:UTC");
    CHECK_STR(schema.children[4]->name, "value");
    CHECK_STR(schema.children[4]->children[4]->format, "+l");
    CHECK_EQ(schema.children[4]->children[0]->flags, ARROW_FLAG_NULLABLE);
    schema.release(&schema);
    o.type = SYNA_TYPE_VECTOR;
    o.dimensions = 3;
    o.columns = SYNA_COLUMN_VALUE;
    CHECK_OK(arrow_stream_schema(&o, &schema));
    CHECK_EQ(schema.n_children, 1);
    CHECK_STR(schema.children[0]->format, "+w:3");
    schema.release(&schema);
    o.type = SYNA_TYPE_ANY;
    CHECK_FAILS(arrow_stream_schema(&o, &schema), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    o = newest;
    o.columns = 64;
    CHECK_FAILS(arrow_stream_schema(&o, &schema), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
}

TEST(batches_of_any_size_hold_every_value_once)
{
    syna_db *db = fast("a.db");
    append(db, "h", 0, 2500);
    static const uint32_t sizes[] = {1, 7, 1000, 1024, 1025, 0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        syna_records_options o = history_of("h");
        o.type = SYNA_TYPE_FLOAT;
        o.batch_rows = sizes[i];
        o.columns = i % 2 ? SYNA_COLUMNS_ALL : SYNA_COLUMN_KEY | SYNA_COLUMN_VALUE;
        struct ArrowArrayStream stream;
        struct ArrowArray batch;
        int64_t count = 0;
        CHECK_OK(arrow_stream(db, &o, &stream));
        for (;;) {
            CHECK_EQ(stream.get_next(&stream, &batch), 0);
            if (!batch.release)
                break;
            CHECK(sizes[i] == 0 || batch.length <= sizes[i]);
            const struct ArrowArray *value = batch.children[batch.n_children - 1];
            const double *values = value->buffers[1];
            const int32_t *offsets = batch.children[0]->buffers[1];
            CHECK_EQ(value->null_count, 0);
            for (int64_t row = 0; row < batch.length; row++, count++) {
                CHECK(values[row] == (double)count);
                CHECK_EQ(offsets[row], row);
                if (i % 2)
                    CHECK_EQ(((const int64_t *)batch.children[2]->buffers[1])[row], 1000000 + count);
            }
            batch.release(&batch);
        }
        CHECK_EQ(count, 2500);
        stream.release(&stream);
    }
    CHECK_OK(db_close(db));
}

static struct vfs counted;
static size_t cold_calls;

static void count_cold(void *at, size_t len, enum vfs_advice advice)
{
    cold_calls += advice == VFS_COLD;
    vfs_posix.advise(at, len, advice);
}

TEST(a_walk_of_a_large_file_lets_go_of_its_pages_and_so_does_who_asks)
{
    counted = vfs_posix;
    counted.advise = count_cold;
    syna_test_set_vfs(&counted);
    syna_db *db = open_with("a.db", (syna_db_options){.no_sync = 1, .no_compression = 1});
    size_t size = MAP_KEEP_BYTES / 75; /* a hundred of them: more than what stays */
    char *bytes = calloc(1, size);
    CHECK(bytes);
    for (int i = 0; i < 100; i++) {
        char key[8];
        bytes[0] = (char)i;
        snprintf(key, sizeof key, "k%02d", i);
        put(db, key, SYNA_TYPE_BYTES, bytes, size);
    }
    for (int history = 0; history < 2; history++) {
        syna_records_options o = newest;
        syna_records *r;
        syna_record record;
        size_t seen = 0;
        o.history = (uint8_t)history;
        cold_calls = 0;
        CHECK_OK(records_new(db, &o, &r));
        while (records_next(r, &record) == SYNA_SUCCESS) {
            CHECK_EQ(record.len, size);
            CHECK_EQ(((const char *)record.data)[0], (char)seen++); /* whatever was let go */
        }
        CHECK_EQ(seen, 100);
        CHECK(cold_calls >= 2);
        records_free(r);
    }
    cold_calls = 0;
    records_let_go(db);
    CHECK_EQ(cold_calls, 1);
    CHECK_OK(db_close(db));
    syna_test_set_vfs(NULL);
    free(bytes);
}

TEST(large_values_make_short_batches)
{
    syna_db *db = fast("a.db");
    size_t len = (size_t)5 << 20;
    char *bytes = calloc(1, len);
    char key[8];
    CHECK(bytes);
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "k%d", i);
        put(db, key, SYNA_TYPE_BYTES, bytes, i == 2 ? 1 : len);
    }
    free(bytes);
    struct ArrowArrayStream stream;
    struct ArrowArray batch;
    int64_t rows[8] = {0};
    size_t batches = 0;
    CHECK_OK(arrow_stream(db, &newest, &stream));
    for (;; batches++) {
        CHECK_EQ(stream.get_next(&stream, &batch), 0);
        if (!batch.release)
            break;
        rows[batches] = batch.length;
        batch.release(&batch);
    }
    stream.release(&stream);
    CHECK_EQ(batches, 4);
    CHECK_EQ(rows[1], 2);
    CHECK_OK(db_close(db));
}

TEST(a_vector_of_another_length_ends_the_stream_with_its_key)
{
    static const float vector[4] = {1, 2, 3, 4};
    syna_db *db = fast("a.db");
    put(db, "a", SYNA_TYPE_VECTOR, vector, 12);
    put(db, "odd", SYNA_TYPE_VECTOR, vector, 16);
    syna_records_options o = newest;
    o.type = SYNA_TYPE_VECTOR;
    o.dimensions = 3;
    struct ArrowArrayStream stream;
    struct ArrowArray batch;
    CHECK_OK(arrow_stream(db, &o, &stream));
    CHECK_EQ(stream.get_next(&stream, &batch), EINVAL);
    CHECK(strstr(stream.get_last_error(&stream), "'odd'") != NULL);
    CHECK(batch.release == NULL);
    CHECK_EQ(stream.get_next(&stream, &batch), 0);
    CHECK(batch.release == NULL);
    stream.release(&stream);
    CHECK_OK(db_close(db));
}

TEST(damage_is_the_streams_error)
{
    syna_db *db = fast("a.db");
    put_text(db, "a", "first");
    put_text(db, "b", "findme-findme");
    put_text(db, "c", "last");
    CHECK_OK(db_flush(db));
    flip("a.db", find_bytes("a.db", "findme", 6, 0), 1);
    for (int history = 0; history < 2; history++) {
        syna_records_options o = newest;
        o.history = (uint8_t)history;
        struct ArrowArrayStream stream;
        struct ArrowArray batch;
        CHECK_OK(arrow_stream(db, &o, &stream));
        CHECK(stream.get_last_error(&stream) == NULL);
        CHECK_EQ(stream.get_next(&stream, &batch), EIO);
        CHECK(strstr(stream.get_last_error(&stream), "a.db") != NULL);
        stream.release(&stream);
        /* One by one, the records around it are there. */
        syna_records *r;
        syna_record record;
        CHECK_OK(records_new(db, &o, &r));
        CHECK_OK(records_next(r, &record));
        CHECK_FAILS(records_next(r, &record), SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT);
        CHECK_OK(records_next(r, &record));
        CHECK_MEM(record.data, "last", 4);
        records_free(r);
    }
    db_close(db);
}

/* ---------------------------------------------------------------- without memory */

struct countdown {
    int64_t left;
};

static bool until_then(void *context, size_t bytes)
{
    (void)bytes;
    struct countdown *c = context;
    return c->left-- > 0;
}

/* Everything once; false when memory ran out, which must be what every call then says. */
static bool drain(syna_db *db, const syna_records_options *o)
{
    struct ArrowArrayStream stream;
    struct ArrowSchema schema;
    struct ArrowArray batch;
    if (arrow_stream(db, o, &stream) != SYNA_SUCCESS)
        return false;
    int code = stream.get_schema(&stream, &schema);
    if (code == 0)
        schema.release(&schema);
    while (code == 0) {
        code = stream.get_next(&stream, &batch);
        if (code != 0 || !batch.release)
            break;
        batch.release(&batch);
    }
    stream.release(&stream);
    if (code != 0)
        CHECK_EQ(code, ENOMEM);
    return code == 0;
}

TEST(every_allocation_may_fail_and_nothing_is_lost_or_kept)
{
    syna_db *db = mixed();
    append(db, "h", 0, 1500);
    for (int kind = 0; kind < 3; kind++) {
        syna_records_options o = kind == 0 ? newest : kind == 1 ? history_of(NULL) : history_of("h");
        if (kind == 2)
            o.type = SYNA_TYPE_FLOAT;
        CHECK(drain(db, &o));
        bool done = false;
        for (int64_t k = 0; !done; k++) {
            CHECK(k < 2000);
            check_note("kind %d, allocation %d", kind, (int)k);
            int64_t before = syna_test_live_blocks();
            struct countdown c = {k};
            syna_test_set_alloc(until_then, &c);
            done = drain(db, &o);
            syna_test_set_alloc(NULL, NULL);
            CHECK_EQ(syna_test_live_blocks(), before);
        }
    }
    CHECK_OK(db_close(db));
}
