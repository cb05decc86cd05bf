/* Bad input to every function of synadb/kv.h: null pointers, keys that cannot be, text that is not
 * UTF-8, numbers out of range, closed databases. Each gets its code, never the 0 that some functions
 * return for success, and nothing changes. */
#include "check.h"

#include <synadb.h>

static const char *path;      /* an open database with "k" = 1 in it */
static syna_db *db;           /* the same, as a handle */
static char *long_key;        /* one byte too long */
static const char *bad_text = "\xff\xfe";
static size_t size;           /* sink for out parameters */

static void set_up(void)
{
    path = check_path("a.db");
    CHECK_OK(syna_open_with_config(path, 0));
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    CHECK_OK(syna_db_open(path, &options, &db));
    CHECK(syna_put_int(path, "k", 1) > 0);
    long_key = malloc(SYNA_KEY_MAX + 2);
    memset(long_key, 'x', SYNA_KEY_MAX + 1);
    long_key[SYNA_KEY_MAX + 1] = 0;
}

static void tear_down(void)
{
    free(long_key);
    CHECK_EQ(syna_db_count(db), 1);
    CHECK_OK(syna_db_close(db));
    CHECK_OK(syna_close(path));
}

/* One call for each way to spoil its path or key: the path-keyed functions. */
typedef int64_t (*call_with)(const char *p, const char *key);

static int64_t put_float(const char *p, const char *k) { return syna_put_float(p, k, 1); }
static int64_t put_int(const char *p, const char *k) { return syna_put_int(p, k, 1); }
static int64_t put_text(const char *p, const char *k) { return syna_put_text(p, k, "x"); }
static int64_t put_bytes(const char *p, const char *k) { return syna_put_bytes(p, k, (const uint8_t *)"x", 1); }
static int64_t put_floats(const char *p, const char *k) { return syna_put_floats_batch(p, k, (double[]){1}, 1); }
static int64_t put_vector(const char *p, const char *k) { return syna_put_vector(p, k, (float[]){1}, 1); }
static int64_t get_float(const char *p, const char *k) { return syna_get_float(p, k, &(double){0}); }
static int64_t get_int(const char *p, const char *k) { return syna_get_int(p, k, &(int64_t){0}); }
static int64_t get_vector(const char *p, const char *k)
{
    return syna_get_vector(p, k, &(float *){NULL}, &(uint16_t){0});
}
static int64_t delete_key(const char *p, const char *k) { return syna_delete(p, k); }
static int64_t exists(const char *p, const char *k) { return syna_exists(p, k); }

/* Functions that return a pointer report through the error record: the code is kept in it. */
static int64_t pointer(const void *got)
{
    CHECK(!got);
    CHECK_EQ(size, 0);
    return status_get()->code;
}
static int64_t get_text(const char *p, const char *k) { size = 9; return pointer(syna_get_text(p, k, &size)); }
static int64_t get_bytes(const char *p, const char *k) { size = 9; return pointer(syna_get_bytes(p, k, &size)); }
static int64_t get_history(const char *p, const char *k)
{
    size = 9;
    return pointer(syna_get_history_tensor(p, k, &size));
}

static const struct {
    const char *name;
    call_with call;
} with_key[] = {
    {"put_float", put_float}, {"put_int", put_int},       {"put_text", put_text},
    {"put_bytes", put_bytes}, {"put_floats", put_floats}, {"put_vector", put_vector},
    {"get_float", get_float}, {"get_int", get_int},       {"get_vector", get_vector},
    {"delete", delete_key},   {"exists", exists},         {"get_text", get_text},
    {"get_bytes", get_bytes}, {"get_history", get_history},
};

TEST(path_keyed_functions_refuse_bad_paths_and_keys)
{
    set_up();
    for (size_t i = 0; i < COUNT_OF(with_key); i++) {
        call_with call = with_key[i].call;
        check_note("%s", with_key[i].name);
        CHECK_EQ(call(NULL, "k"), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(path, NULL), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(bad_text, "k"), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(path, bad_text), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(path, "\xed\xa0\x80"), SYNA_ERR_INVALID_PATH); /* a surrogate */
        CHECK_EQ(call(path, ""), SYNA_ERR_EMPTY_KEY);
        CHECK_EQ(call(path, long_key), SYNA_ERR_KEY_TOO_LONG);
        CHECK_EQ(call(check_path("other.db"), "k"), SYNA_ERR_DB_NOT_FOUND);
        CHECK_EQ(call("", "k"), SYNA_ERR_DB_NOT_FOUND);
        CHECK(syna_last_error()[0]);
    }
    tear_down();
}

TEST(path_keyed_functions_refuse_bad_values_and_null_outputs)
{
    const float nan[1] = {__builtin_nanf("")}, infinite[1] = {__builtin_inff()};
    size_t len;
    uint16_t dims;
    float *vector;
    set_up();
    CHECK_EQ(syna_put_text(path, "k", NULL), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_text(path, "k", bad_text), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_bytes(path, "k", NULL, 1), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_bytes(path, "k", (const uint8_t *)"x", (size_t)SYNA_VALUE_MAX + 1),
             SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_floats_batch(path, "k", NULL, 1), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_vector(path, "k", NULL, 1), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_vector(path, "k", nan, 0), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_vector(path, "k", nan, 1), SYNA_ERR_INVALID_PATH);
    CHECK_EQ(syna_put_vector(path, "k", infinite, 1), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_get_float(path, "k", NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_get_int(path, "k", NULL), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_get_vector(path, "k", NULL, &dims), SYNA_ERR_INVALID_PATH);
    CHECK_RC(syna_get_vector(path, "k", &vector, NULL), SYNA_ERR_INVALID_PATH);
    CHECK(!syna_get_history_tensor(path, "k", NULL));
    CHECK_EQ(status_get()->code, SYNA_ERR_INVALID_PATH);
    CHECK(!syna_keys(path, NULL));
    CHECK_EQ(status_get()->code, SYNA_ERR_INVALID_PATH);
    CHECK(!syna_keys(NULL, &len) && !syna_keys(bad_text, &len));
    CHECK(!syna_keys(check_path("other.db"), &len));
    CHECK_EQ(status_get()->code, SYNA_ERR_DB_NOT_FOUND);

    const char *const paths[] = {NULL, bad_text};
    for (int i = 0; i < 2; i++) {
        CHECK_RC(syna_open(paths[i]), SYNA_ERR_INVALID_PATH);
        CHECK_RC(syna_open_with_config(paths[i], 1), SYNA_ERR_INVALID_PATH);
        CHECK_RC(syna_close(paths[i]), SYNA_ERR_INVALID_PATH);
        CHECK_RC(syna_compact(paths[i]), SYNA_ERR_INVALID_PATH);
    }
    CHECK_FAILS(syna_open_with_config(path, 2), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_open_with_config(path, -1), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_RC(syna_compact(check_path("other.db")), SYNA_ERR_DB_NOT_FOUND);
    tear_down();
}

/* ---------------------------------------------------------------- handles */

typedef int64_t (*handle_call)(syna_db *d, const char *key, size_t len);

static int64_t h_put(syna_db *d, const char *k, size_t n) { return syna_db_put(d, k, n, 3, "x", 1, NULL, NULL); }
static int64_t h_put_float(syna_db *d, const char *k, size_t n) { return syna_db_put_float(d, k, n, 1, NULL); }
static int64_t h_put_int(syna_db *d, const char *k, size_t n) { return syna_db_put_int(d, k, n, 1, NULL); }
static int64_t h_floats(syna_db *d, const char *k, size_t n)
{
    return syna_db_append_floats(d, k, n, (double[]){1}, NULL, 1);
}
static int64_t h_ints(syna_db *d, const char *k, size_t n)
{
    return syna_db_append_ints(d, k, n, (int64_t[]){1}, NULL, 1);
}
static int64_t h_delete(syna_db *d, const char *k, size_t n) { return syna_db_delete(d, k, n, NULL); }
static int64_t h_get(syna_db *d, const char *k, size_t n)
{
    return syna_db_get(d, k, n, NULL, 0, &size, &(int32_t){0});
}
static int64_t h_get_float(syna_db *d, const char *k, size_t n) { return syna_db_get_float(d, k, n, &(double){0}); }
static int64_t h_get_int(syna_db *d, const char *k, size_t n) { return syna_db_get_int(d, k, n, &(int64_t){0}); }
static int64_t h_get_at(syna_db *d, const char *k, size_t n)
{
    return syna_db_get_at(d, k, n, UINT64_MAX, NULL, 0, &size, &(int32_t){0});
}
static int64_t h_exists(syna_db *d, const char *k, size_t n) { return syna_db_exists(d, k, n); }
static int64_t h_history_floats(syna_db *d, const char *k, size_t n)
{
    return syna_db_history_floats(d, k, n, NULL, NULL, 0, &size);
}
static int64_t h_history_ints(syna_db *d, const char *k, size_t n)
{
    return syna_db_history_ints(d, k, n, NULL, NULL, 0, &size);
}
static int32_t visit(void *context, const syna_record *r)
{
    (void)context;
    (void)r;
    return 0;
}
static int64_t h_history(syna_db *d, const char *k, size_t n) { return syna_db_history(d, k, n, visit, NULL); }
static int64_t h_blob_create(syna_db *d, const char *k, size_t n)
{
    syna_blob *blob = (syna_blob *)&size;
    int64_t rc = syna_blob_create(d, k, n, &blob);
    CHECK(!blob);
    return rc;
}
static int64_t h_blob_open(syna_db *d, const char *k, size_t n)
{
    syna_blob *blob = (syna_blob *)&size;
    int64_t rc = syna_blob_open(d, k, n, &blob);
    CHECK(!blob);
    return rc;
}

static const struct {
    const char *name;
    handle_call call;
} with_handle[] = {
    {"put", h_put},
    {"put_float", h_put_float},
    {"put_int", h_put_int},
    {"append_floats", h_floats},
    {"append_ints", h_ints},
    {"delete", h_delete},
    {"get", h_get},
    {"get_float", h_get_float},
    {"get_int", h_get_int},
    {"get_at", h_get_at},
    {"exists", h_exists},
    {"history_floats", h_history_floats},
    {"history_ints", h_history_ints},
    {"history", h_history},
    {"blob_create", h_blob_create},
    {"blob_open", h_blob_open},
};

TEST(handle_functions_refuse_bad_keys)
{
    set_up();
    for (size_t i = 0; i < COUNT_OF(with_handle); i++) {
        handle_call call = with_handle[i].call;
        check_note("%s", with_handle[i].name);
        CHECK_EQ(call(NULL, "k", 1), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(db, NULL, 1), SYNA_ERR_INVALID_PATH);
        CHECK_EQ(call(db, "", 0), SYNA_ERR_EMPTY_KEY);
        CHECK_EQ(call(db, long_key, SYNA_KEY_MAX + 1), SYNA_ERR_KEY_TOO_LONG);
        CHECK_EQ(call(db, long_key, SIZE_MAX), SYNA_ERR_KEY_TOO_LONG);
        CHECK_EQ(call(db, bad_text, 2), SYNA_ERR_INVALID_PATH);
        int64_t nul = call(db, "a\0b", 3); /* 0 where success is 1, -2 where it can be 0 */
        CHECK_EQ(nul, call == h_exists ? SYNA_ERR_INVALID_PATH : SYNA_ERR_GENERIC);
        CHECK_EQ(syna_last_reason(), SYNA_WHY_ARGUMENT);
    }
    tear_down();
}

TEST(handle_functions_refuse_bad_values_types_and_times)
{
    syna_put how = {.size = 3};
    const float nan = __builtin_nanf("");
    int64_t n = 1;
    set_up();
    const struct {
        int32_t type;
        const void *data;
        size_t len;
        syna_rc code;
    } puts[] = {
        {SYNA_TYPE_NULL, "x", 1, SYNA_ERR_GENERIC},   {SYNA_TYPE_FLOAT, &n, 7, SYNA_ERR_GENERIC},
        {SYNA_TYPE_INT, &n, 9, SYNA_ERR_GENERIC},     {SYNA_TYPE_INT, NULL, 8, SYNA_ERR_INVALID_PATH},
        {SYNA_TYPE_TEXT, "\xff", 1, SYNA_ERR_INVALID_PATH}, {SYNA_TYPE_VECTOR, &n, 3, SYNA_ERR_GENERIC},
        {SYNA_TYPE_VECTOR, &nan, 4, SYNA_ERR_GENERIC}, {SYNA_TYPE_VECTOR, &n, 0, SYNA_ERR_GENERIC},
        {SYNA_TYPE_BLOB, &n, 8, SYNA_ERR_GENERIC},    {8, &n, 8, SYNA_ERR_GENERIC},
        {-1, &n, 8, SYNA_ERR_GENERIC},                {SYNA_TYPE_BYTES, &n, SYNA_VALUE_MAX + 1u, SYNA_ERR_GENERIC},
    };
    syna_batch *batch = NULL;
    CHECK_OK(syna_batch_new(db, &batch));
    for (size_t i = 0; i < COUNT_OF(puts); i++) {
        check_note("put %zu", i);
        CHECK_RC(syna_db_put(db, "k", 1, puts[i].type, puts[i].data, puts[i].len, NULL, NULL),
                 puts[i].code);
        CHECK_EQ(syna_last_reason(), SYNA_WHY_ARGUMENT);
        CHECK_RC(syna_batch_put(batch, "k", 1, puts[i].type, puts[i].data, puts[i].len, NULL),
                 puts[i].code);
    }
    CHECK_FAILS(syna_db_put(db, "k", 1, SYNA_TYPE_INT, &n, 8, &how, NULL), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_batch_put(batch, "k", 1, SYNA_TYPE_INT, &n, 8, &how), SYNA_ERR_GENERIC,
                SYNA_WHY_ARGUMENT);
    CHECK_EQ(syna_batch_count(batch), 0);
    syna_batch_free(batch);
    CHECK_FAILS(syna_db_append_floats(db, "k", 1, (double[]){1, 2}, (uint64_t[]){5, 4}, 2),
                SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    CHECK_FAILS(syna_db_compact(db, 7, NULL, NULL), SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT);
    tear_down();
}

TEST(handle_functions_refuse_null_pointers)
{
    int32_t type;
    char buf[8];
    set_up();
    syna_batch *batch = NULL;
    syna_scan *scan = NULL;
    syna_blob *blob = NULL;
    syna_check check = {.size = sizeof check};
    syna_open_report report = {.size = sizeof report};
    syna_db_stats stats = {.size = sizeof stats};
    syna_record record = {.size = sizeof record};
    size_t many = 0;
    CHECK_OK(syna_batch_new(db, &batch));
    CHECK_OK(syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, 0, &scan));
    CHECK_OK(syna_blob_create(db, "b", 1, &blob));
    const syna_rc codes[] = {
        syna_db_open(NULL, NULL, &(syna_db *){NULL}),
        syna_db_open(path, NULL, NULL),
        syna_db_open(bad_text, NULL, &(syna_db *){NULL}),
        syna_db_close(NULL),
        syna_db_report(NULL, &report),
        syna_db_report(db, NULL),
        syna_db_put(db, "k", 1, SYNA_TYPE_BYTES, NULL, 1, NULL, NULL),
        syna_db_append_floats(db, "k", 1, NULL, NULL, 1),
        syna_db_append_ints(db, "k", 1, NULL, NULL, 1),
        syna_db_flush(NULL),
        syna_batch_new(NULL, &(syna_batch *){NULL}),
        syna_batch_new(db, NULL),
        syna_batch_put(NULL, "k", 1, SYNA_TYPE_NULL, NULL, 0, NULL),
        syna_batch_put(batch, NULL, 1, SYNA_TYPE_NULL, NULL, 0, NULL),
        syna_batch_delete(NULL, "k", 1),
        syna_batch_delete(batch, NULL, 1),
        syna_batch_commit(NULL),
        syna_db_get(db, "k", 1, NULL, 8, &size, &type),
        syna_db_get(db, "k", 1, buf, 8, NULL, &type),
        syna_db_get(db, "k", 1, buf, 8, &size, NULL),
        syna_db_get_float(db, "k", 1, NULL),
        syna_db_get_int(db, "k", 1, NULL),
        syna_db_get_at(db, "k", 1, 1, NULL, 8, &size, &type),
        syna_db_get_at(db, "k", 1, 1, buf, 8, NULL, &type),
        syna_db_get_at(db, "k", 1, 1, buf, 8, &size, NULL),
        (syna_rc)syna_db_count(NULL),
        syna_db_history_floats(db, "k", 1, NULL, NULL, 1, &size),
        syna_db_history_floats(db, "k", 1, NULL, NULL, 0, NULL),
        syna_db_history_ints(db, "k", 1, NULL, NULL, 1, &size),
        syna_db_history_ints(db, "k", 1, NULL, NULL, 0, NULL),
        syna_db_history(db, "k", 1, NULL, NULL),
        syna_scan_new(NULL, NULL, 0, NULL, 0, NULL, 0, 0, &(syna_scan *){NULL}),
        syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, 0, NULL),
        syna_scan_next(NULL, &record),
        syna_scan_next(scan, NULL),
        syna_scan_next_many(NULL, &record, 1, &many),
        syna_scan_next_many(scan, NULL, 1, &many),
        syna_scan_next_many(scan, &record, 1, NULL),
        syna_blob_create(db, "b", 1, NULL),
        syna_blob_open(db, "b", 1, NULL),
        syna_blob_write(NULL, "x", 1),
        syna_blob_write(blob, NULL, 1),
        syna_blob_finish(NULL),
        syna_blob_read(NULL, 0, buf, 1, &size),
        syna_blob_read(blob, 0, NULL, 1, &size),
        syna_blob_read(blob, 0, buf, 1, NULL),
        syna_db_compact(NULL, 0, NULL, NULL),
        syna_db_refresh(NULL, NULL),
        syna_db_backup(NULL, path, NULL, NULL),
        syna_db_backup(db, NULL, NULL, NULL),
        syna_db_backup(db, bad_text, NULL, NULL),
        syna_db_get_stats(NULL, &stats),
        syna_db_get_stats(db, NULL),
        syna_verify(NULL, NULL, NULL, NULL, &check),
        syna_verify(bad_text, NULL, NULL, NULL, &check),
        syna_verify(path, NULL, NULL, NULL, NULL),
        syna_salvage(NULL, path, NULL, NULL, NULL, &check),
        syna_salvage(path, NULL, NULL, NULL, NULL, &check),
        syna_salvage(bad_text, path, NULL, NULL, NULL, &check),
        syna_salvage(path, bad_text, NULL, NULL, NULL, &check),
        syna_salvage(path, path, NULL, NULL, NULL, NULL),
    };
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        check_note("call %zu", i);
        CHECK_EQ(codes[i], SYNA_ERR_INVALID_PATH);
    }
    /* Functions with nothing to say, and those that free. */
    CHECK(!syna_db_path(NULL));
    CHECK_EQ(syna_batch_count(NULL), 0);
    CHECK_EQ(syna_blob_size(NULL), 0);
    syna_batch_free(NULL);
    syna_scan_free(NULL);
    syna_blob_free(NULL);
    syna_blob_free(blob);
    syna_scan_free(scan);
    syna_batch_free(batch);
    tear_down();
}

TEST(structs_with_an_impossible_size_are_refused_before_anything_happens)
{
    set_up();
    syna_db *other = NULL;
    syna_scan *scan = NULL;
    syna_db_options options = {.size = 3};
    syna_open_report report = {.size = 3};
    syna_db_stats stats = {.size = 3};
    syna_record record = {.size = 3}, good = {.size = sizeof good};
    syna_check check = {.size = 3};
    size_t many = 0;
    CHECK_OK(syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, 0, &scan));
    const syna_rc codes[] = {
        syna_db_open(check_path("b.db"), &options, &other),
        syna_db_report(db, &report),
        syna_db_get_stats(db, &stats),
        syna_scan_next(scan, &record),
        syna_scan_next_many(scan, &record, 1, &many),
        syna_scan_next_many(scan, &good, 0, &many),
        syna_verify(path, NULL, NULL, NULL, &check),
        syna_salvage(path, check_path("b.db"), NULL, NULL, NULL, &check),
        syna_scan_new(db, NULL, 0, NULL, 0, NULL, 0, 2, &(syna_scan *){NULL}),
    };
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        check_note("call %zu", i);
        CHECK_EQ(codes[i], SYNA_ERR_GENERIC);
    }
    CHECK(access(check_path("b.db"), F_OK) != 0);
    record.size = sizeof record;
    CHECK_OK(syna_scan_next(scan, &record)); /* the refused call took nothing away */
    syna_scan_free(scan);
    tear_down();
}
