/* The handle face of the key-value store (synadb/kv.h): check pointers and structs, call the engine. The
 * path-keyed face is in api_kv_path.c. No policy. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"

/* ---------------------------------------------------------------- structs */

/* Structs that the library fills: the caller's `size` says how much of `full` it knows; 0 stands for
 * the layout of the first release. */
static syna_rc fill(void *out, const char *name, const void *full, size_t first, size_t now)
{
    uint32_t size;
    memcpy(&size, out, sizeof size);
    if (size == 0)
        size = (uint32_t)first;
    if (size < first)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%s.size is %u, expected sizeof(%s), which was never less than %zu", name, size,
                         name, first);
    size = (uint32_t)MIN((size_t)size, now);
    memcpy(out, full, size);
    memcpy(out, &size, sizeof size);
    return SYNA_SUCCESS;
}

/* The same check before a call that has effects. */
static syna_rc check_size(const char *name, uint32_t size, size_t first)
{
    if (size != 0 && size < first)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "%s.size is %u, expected sizeof(%s), which was never less than %zu", name, size,
                         name, first);
    return SYNA_SUCCESS;
}

/* What the first release had of each struct. A later one may only add. */
#define FIRST_PUT sizeof(syna_put)
#define FIRST_REPORT sizeof(syna_open_report)
#define FIRST_RECORD sizeof(syna_record)
#define FIRST_STATS sizeof(syna_db_stats)
#define FIRST_CHECK sizeof(syna_check)

/* ---------------------------------------------------------------- open, close, facts */

int32_t syna_db_open(const char *path, const syna_db_options *options, syna_db **out)
{
    REQUIRE(out);
    *out = NULL;
    SYNA_TRY(check_path(path));
    return handles_open(path, options, out);
}

int32_t syna_db_close(syna_db *db)
{
    REQUIRE(db);
    return handles_close(db);
}

int32_t syna_db_report(syna_db *db, syna_open_report *out)
{
    syna_open_report report;
    REQUIRE(db);
    REQUIRE(out);
    db_get_report(db, &report);
    return fill(out, "syna_open_report", &report, FIRST_REPORT, sizeof report);
}

const char *syna_db_path(syna_db *db)
{
    return db ? db_path(db) : NULL;
}

int32_t syna_db_get_stats(syna_db *db, syna_db_stats *out)
{
    syna_db_stats stats = {.size = sizeof stats};
    REQUIRE(db);
    REQUIRE(out);
    SYNA_TRY(check_size("syna_db_stats", out->size, FIRST_STATS));
    SYNA_TRY(db_get_stats(db, &stats));
    return fill(out, "syna_db_stats", &stats, FIRST_STATS, sizeof stats);
}

/* ---------------------------------------------------------------- writing */

/* A type that a caller may put, and how: what the struct lacks is taken as 0. */
static syna_rc check_put(int32_t type, const void *data, size_t len, const syna_put *how,
                         syna_put *copy)
{
    memset(copy, 0, sizeof *copy);
    if (len > 0)
        REQUIRE(data);
    if (type == SYNA_TYPE_BLOB)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "a value of type BLOB is written with syna_blob_create");
    if (!how)
        return SYNA_SUCCESS;
    if (how->size < FIRST_PUT)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_put.size is %u, expected sizeof(syna_put) = %zu", how->size,
                         sizeof *how);
    memcpy(copy, how, MIN((size_t)how->size, sizeof *copy));
    return SYNA_SUCCESS;
}

int32_t syna_db_put(syna_db *db, const char *key, size_t key_len, int32_t type, const void *data,
                    size_t len, const syna_put *how, uint64_t *offset)
{
    syna_put copy;
    REQUIRE(db);
    REQUIRE(key);
    SYNA_TRY(check_put(type, data, len, how, &copy));
    return db_put(db, key, key_len, type, data, len, how ? &copy : NULL, offset);
}

int32_t syna_db_put_float(syna_db *db, const char *key, size_t key_len, double value,
                          uint64_t *offset)
{
    REQUIRE(db);
    REQUIRE(key);
    return db_put(db, key, key_len, SYNA_TYPE_FLOAT, &value, sizeof value, NULL, offset);
}

int32_t syna_db_put_int(syna_db *db, const char *key, size_t key_len, int64_t value,
                        uint64_t *offset)
{
    REQUIRE(db);
    REQUIRE(key);
    return db_put(db, key, key_len, SYNA_TYPE_INT, &value, sizeof value, NULL, offset);
}

static int32_t append_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                              const void *values, const uint64_t *times_us, size_t count)
{
    REQUIRE(db);
    REQUIRE(key);
    if (count > 0)
        REQUIRE(values);
    return db_append_numbers(db, key, key_len, type, values, times_us, count);
}

int32_t syna_db_append_floats(syna_db *db, const char *key, size_t key_len, const double *values,
                              const uint64_t *times_us, size_t count)
{
    return append_numbers(db, key, key_len, SYNA_TYPE_FLOAT, values, times_us, count);
}

int32_t syna_db_append_ints(syna_db *db, const char *key, size_t key_len, const int64_t *values,
                            const uint64_t *times_us, size_t count)
{
    return append_numbers(db, key, key_len, SYNA_TYPE_INT, values, times_us, count);
}

int32_t syna_db_delete(syna_db *db, const char *key, size_t key_len, int32_t *deleted)
{
    REQUIRE(db);
    REQUIRE(key);
    return db_delete(db, key, key_len, deleted);
}

int32_t syna_db_flush(syna_db *db)
{
    REQUIRE(db);
    return db_flush(db);
}

/* ---------------------------------------------------------------- batches */

int32_t syna_batch_new(syna_db *db, syna_batch **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    return db_batch_new(db, out);
}

int32_t syna_batch_put(syna_batch *batch, const char *key, size_t key_len, int32_t type,
                       const void *data, size_t len, const syna_put *how)
{
    syna_put copy;
    REQUIRE(batch);
    REQUIRE(key);
    SYNA_TRY(check_put(type, data, len, how, &copy));
    return db_batch_put(batch, key, key_len, type, data, len, how ? &copy : NULL);
}

int32_t syna_batch_delete(syna_batch *batch, const char *key, size_t key_len)
{
    REQUIRE(batch);
    REQUIRE(key);
    return db_batch_delete(batch, key, key_len);
}

size_t syna_batch_count(const syna_batch *batch)
{
    return batch ? db_batch_count(batch) : 0;
}

int32_t syna_batch_commit(syna_batch *batch)
{
    REQUIRE(batch);
    return db_batch_commit(batch);
}

void syna_batch_free(syna_batch *batch)
{
    db_batch_free(batch);
}

/* ---------------------------------------------------------------- reading */

int32_t syna_db_get(syna_db *db, const char *key, size_t key_len, void *buf, size_t cap, size_t *len,
                    int32_t *type)
{
    REQUIRE(db);
    REQUIRE_KEY(key, key_len);
    REQUIRE(len);
    REQUIRE(type);
    if (cap > 0)
        REQUIRE(buf);
    return check_missing(db_get(db, key, key_len, buf, cap, len, type), key, key_len);
}

static int32_t get_number_of(syna_db *db, const char *key, size_t key_len, int32_t type, void *out)
{
    uint64_t bits;
    REQUIRE(db);
    REQUIRE_KEY(key, key_len);
    REQUIRE(out);
    SYNA_TRY(check_missing(db_get_number(db, key, key_len, type, &bits), key, key_len));
    memcpy(out, &bits, sizeof bits);
    return SYNA_SUCCESS;
}

int32_t syna_db_get_float(syna_db *db, const char *key, size_t key_len, double *out)
{
    return get_number_of(db, key, key_len, SYNA_TYPE_FLOAT, out);
}

int32_t syna_db_get_int(syna_db *db, const char *key, size_t key_len, int64_t *out)
{
    return get_number_of(db, key, key_len, SYNA_TYPE_INT, out);
}

int32_t syna_db_get_at(syna_db *db, const char *key, size_t key_len, uint64_t at_us, void *buf,
                       size_t cap, size_t *len, int32_t *type)
{
    REQUIRE(db);
    REQUIRE_KEY(key, key_len);
    REQUIRE(len);
    REQUIRE(type);
    if (cap > 0)
        REQUIRE(buf);
    return check_missing(db_get_at(db, key, key_len, at_us, buf, cap, len, type), key, key_len);
}

int32_t syna_db_exists(syna_db *db, const char *key, size_t key_len)
{
    bool exists = false;
    REQUIRE(db);
    REQUIRE(key);
    syna_rc rc = db_check_key(key, key_len);
    if (rc == SYNA_SUCCESS)
        rc = db_exists(db, key, key_len, &exists);
    return rc == SYNA_SUCCESS ? exists : not_zero(rc);
}

int64_t syna_db_count(syna_db *db)
{
    uint64_t count = 0;
    REQUIRE(db);
    syna_rc rc = db_count(db, &count);
    return rc == SYNA_SUCCESS ? (int64_t)count : not_zero(rc);
}

static int32_t history_numbers(syna_db *db, const char *key, size_t key_len, int32_t type,
                               void *values, uint64_t *times_us, size_t cap, size_t *count)
{
    REQUIRE(db);
    REQUIRE(key);
    REQUIRE(count);
    if (cap > 0)
        REQUIRE(values);
    SYNA_TRY(db_check_key(key, key_len));
    return db_history_numbers(db, key, key_len, type, values, times_us, cap, count);
}

int32_t syna_db_history_floats(syna_db *db, const char *key, size_t key_len, double *values,
                               uint64_t *times_us, size_t cap, size_t *count)
{
    return history_numbers(db, key, key_len, SYNA_TYPE_FLOAT, values, times_us, cap, count);
}

int32_t syna_db_history_ints(syna_db *db, const char *key, size_t key_len, int64_t *values,
                             uint64_t *times_us, size_t cap, size_t *count)
{
    return history_numbers(db, key, key_len, SYNA_TYPE_INT, values, times_us, cap, count);
}

int32_t syna_db_history(syna_db *db, const char *key, size_t key_len, syna_record_fn visit,
                        void *context)
{
    REQUIRE(db);
    REQUIRE(key);
    REQUIRE(visit);
    SYNA_TRY(db_check_key(key, key_len));
    return db_history(db, key, key_len, visit, context);
}

/* ---------------------------------------------------------------- scans */

int32_t syna_scan_new(syna_db *db, const char *prefix, size_t prefix_len, const char *start,
                      size_t start_len, const char *end, size_t end_len, int32_t mode,
                      syna_scan **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    if (mode != SYNA_SCAN_KEYS && mode != SYNA_SCAN_VALUES)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "scan mode %d, expected SYNA_SCAN_KEYS or SYNA_SCAN_VALUES", mode);
    return db_scan_new(db, prefix, prefix_len, start, start_len, end, end_len, mode, out);
}

int32_t syna_scan_next(syna_scan *scan, syna_record *record)
{
    syna_record full;
    REQUIRE(scan);
    REQUIRE(record);
    SYNA_TRY(check_size("syna_record", record->size, FIRST_RECORD));
    SYNA_TRY(db_scan_next(scan, &full));
    return fill(record, "syna_record", &full, FIRST_RECORD, sizeof full);
}

int32_t syna_scan_next_many(syna_scan *scan, syna_record *records, size_t cap, size_t *count)
{
    syna_record full;
    REQUIRE(count);
    *count = 0;
    REQUIRE(scan);
    REQUIRE(records);
    const uint32_t size = records->size;
    SYNA_TRY(check_size("syna_record", size, FIRST_RECORD));
    if (cap == 0)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "room for 0 records, expected 1 or more");
    SYNA_TRY(db_scan_next(scan, &full));
    uint8_t *to = (uint8_t *)records;
    do {
        memcpy(to, &size, sizeof size);
        SYNA_TRY(fill(to, "syna_record", &full, FIRST_RECORD, sizeof full));
        to += MAX(size, FIRST_RECORD);
    } while (++*count < cap && db_scan_next_beside(scan, &full, &full));
    return SYNA_SUCCESS;
}

void syna_scan_free(syna_scan *scan)
{
    db_scan_free(scan);
}

/* ---------------------------------------------------------------- blobs */

int32_t syna_blob_create(syna_db *db, const char *key, size_t key_len, syna_blob **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    REQUIRE(key);
    return db_blob_create(db, key, key_len, out);
}

int32_t syna_blob_write(syna_blob *blob, const void *data, size_t len)
{
    REQUIRE(blob);
    if (len > 0)
        REQUIRE(data);
    return db_blob_write(blob, data, len);
}

int32_t syna_blob_finish(syna_blob *blob)
{
    REQUIRE(blob);
    return db_blob_finish(blob);
}

int32_t syna_blob_open(syna_db *db, const char *key, size_t key_len, syna_blob **out)
{
    REQUIRE(out);
    *out = NULL;
    REQUIRE(db);
    REQUIRE_KEY(key, key_len);
    return check_missing(db_blob_open(db, key, key_len, out), key, key_len);
}

uint64_t syna_blob_size(const syna_blob *blob)
{
    return blob ? db_blob_size(blob) : 0;
}

int32_t syna_blob_read(syna_blob *blob, uint64_t offset, void *buf, size_t len, size_t *got)
{
    REQUIRE(blob);
    REQUIRE(got);
    if (len > 0)
        REQUIRE(buf);
    return db_blob_read(blob, offset, buf, len, got);
}

void syna_blob_free(syna_blob *blob)
{
    db_blob_free(blob);
}

/* ---------------------------------------------------------------- upkeep */

int32_t syna_db_compact(syna_db *db, int32_t mode, syna_progress_fn progress, void *context)
{
    REQUIRE(db);
    return db_compact(db, mode, progress, context);
}

int32_t syna_db_refresh(syna_db *db, int32_t *changed)
{
    bool is_changed = false;
    REQUIRE(db);
    SYNA_TRY(db_refresh(db, &is_changed));
    if (changed)
        *changed = is_changed;
    return SYNA_SUCCESS;
}

int32_t syna_db_backup(syna_db *db, const char *to, syna_progress_fn progress, void *context)
{
    REQUIRE(db);
    SYNA_TRY(check_path(to));
    return db_backup(db, to, progress, context);
}

int32_t syna_verify(const char *path, syna_finding_fn visit, void *context,
                    syna_progress_fn progress, syna_check *out)
{
    syna_check check;
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    SYNA_TRY(check_size("syna_check", out->size, FIRST_CHECK));
    SYNA_TRY(db_verify(path, visit, context, progress, &check));
    return fill(out, "syna_check", &check, FIRST_CHECK, sizeof check);
}

int32_t syna_salvage(const char *path, const char *to, syna_finding_fn visit, void *context,
                     syna_progress_fn progress, syna_check *out)
{
    syna_check check;
    REQUIRE(out);
    SYNA_TRY(check_path(path));
    SYNA_TRY(check_path(to));
    SYNA_TRY(check_size("syna_check", out->size, FIRST_CHECK));
    SYNA_TRY(db_salvage(path, to, visit, context, progress, &check));
    return fill(out, "syna_check", &check, FIRST_CHECK, sizeof check);
}
