/* The path-keyed face of the key-value store (synadb/kv.h): find the handle that a path names, pin it
 * for the call, turn its codes into what each kind of function may return. No policy. */
#include "base/internal.h"

#include "api/api_args.h"
#include "api/handles.h"

/* ---------------------------------------------------------------- open, close */

int32_t syna_open(const char *path)
{
    return syna_open_with_config(path, 1);
}

int32_t syna_open_with_config(const char *path, int32_t sync_on_write)
{
    syna_db *db;
    SYNA_TRY(check_path(path));
    if (sync_on_write != 0 && sync_on_write != 1)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "sync_on_write is %d, expected 0 or 1",
                         sync_on_write);
    syna_db_options options = {.size = sizeof options, .no_sync = !sync_on_write};
    return handles_open(path, &options, &db);
}

int32_t syna_close(const char *path)
{
    return handles_close_path(path);
}

/* ---------------------------------------------------------------- writing */

static int64_t put(const char *path, const char *key, int32_t type, const void *data, size_t len)
{
    uint64_t offset = 0;
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = db_put(db, key, strlen(key), type, data, len, NULL, &offset);
    handles_leave(db);
    return rc == SYNA_SUCCESS ? (int64_t)offset : not_zero(rc);
}

int64_t syna_put_float(const char *path, const char *key, double value)
{
    return put(path, key, SYNA_TYPE_FLOAT, &value, sizeof value);
}

int64_t syna_put_int(const char *path, const char *key, int64_t value)
{
    return put(path, key, SYNA_TYPE_INT, &value, sizeof value);
}

int64_t syna_put_text(const char *path, const char *key, const char *value)
{
    REQUIRE(value);
    return put(path, key, SYNA_TYPE_TEXT, value, strlen(value));
}

int64_t syna_put_bytes(const char *path, const char *key, const uint8_t *data, size_t len)
{
    if (len > 0)
        REQUIRE(data);
    return put(path, key, SYNA_TYPE_BYTES, data, len);
}

int64_t syna_put_floats_batch(const char *path, const char *key, const double *values, size_t count)
{
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    if (count > 0)
        REQUIRE(values);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = db_append_numbers(db, key, strlen(key), SYNA_TYPE_FLOAT, (const uint64_t *)(const void *)values,
                           NULL, count);
    handles_leave(db);
    return rc == SYNA_SUCCESS ? (int64_t)count : not_zero(rc);
}

int64_t syna_put_vector(const char *path, const char *key, const float *data, uint16_t dimensions)
{
    REQUIRE(data);
    return put(path, key, SYNA_TYPE_VECTOR, data, (size_t)dimensions * sizeof *data);
}

int32_t syna_delete(const char *path, const char *key)
{
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = db_delete(db, key, strlen(key), NULL);
    handles_leave(db);
    return rc;
}

/* ---------------------------------------------------------------- reading */

static int32_t get_number(const char *path, const char *key, int32_t type, void *out)
{
    uint64_t bits;
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    REQUIRE(out);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = check_missing(db_get_number(db, key, strlen(key), type, &bits), key, strlen(key));
    handles_leave(db);
    if (rc == SYNA_SUCCESS)
        memcpy(out, &bits, sizeof bits);
    return rc;
}

int32_t syna_get_float(const char *path, const char *key, double *out)
{
    return get_number(path, key, SYNA_TYPE_FLOAT, out);
}

int32_t syna_get_int(const char *path, const char *key, int64_t *out)
{
    return get_number(path, key, SYNA_TYPE_INT, out);
}

static syna_rc get_copy(const char *path, const char *key, int32_t type, void **out, size_t *len)
{
    int32_t found;
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = check_missing(db_get_copy(db, key, strlen(key), type, out, len, &found), key, strlen(key));
    handles_leave(db);
    return rc;
}

/* NULL on failure; *out_len (may be NULL) is the length, 0 on failure. */
static void *get_block(const char *path, const char *key, int32_t type, size_t *out_len)
{
    void *block = NULL;
    size_t len = 0;
    syna_rc rc = get_copy(path, key, type, &block, &len);
    if (out_len)
        *out_len = rc == SYNA_SUCCESS ? len : 0;
    return rc == SYNA_SUCCESS ? block : NULL;
}

char *syna_get_text(const char *path, const char *key, size_t *out_len)
{
    return get_block(path, key, SYNA_TYPE_TEXT, out_len);
}

uint8_t *syna_get_bytes(const char *path, const char *key, size_t *out_len)
{
    return get_block(path, key, SYNA_TYPE_BYTES, out_len);
}

int32_t syna_get_vector(const char *path, const char *key, float **out_data, uint16_t *out_dimensions)
{
    void *block = NULL;
    size_t len = 0;
    REQUIRE(out_data);
    REQUIRE(out_dimensions);
    *out_data = NULL;
    *out_dimensions = 0;
    SYNA_TRY(get_copy(path, key, SYNA_TYPE_VECTOR, &block, &len));
    *out_data = block;
    *out_dimensions = (uint16_t)(len / sizeof(float));
    return SYNA_SUCCESS;
}

/* The whole numeric history in a block of its own; *out NULL when there is none. */
static syna_rc get_history(syna_db *db, const char *key, uint64_t **out, size_t *out_len)
{
    size_t key_len = strlen(key), count, now;
    *out = NULL;
    *out_len = 0;
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(db_history_numbers(db, key, key_len, SYNA_TYPE_FLOAT, NULL, NULL, 0, &count));
    if (count == 0)
        return SYNA_SUCCESS;
    uint64_t *bits = mem_alloc(count * sizeof *bits);
    if (!bits)
        return syna_no_memory(count * sizeof *bits);
    syna_rc rc = db_history_numbers(db, key, key_len, SYNA_TYPE_FLOAT, bits, NULL, count, &now);
    if (rc != SYNA_SUCCESS || now == 0) { /* compacted meanwhile */
        mem_free(bits);
        return rc;
    }
    *out = bits;
    *out_len = MIN(count, now);
    return SYNA_SUCCESS;
}

double *syna_get_history_tensor(const char *path, const char *key, size_t *out_len)
{
    uint64_t *bits = NULL;
    size_t len = 0;
    syna_rc rc = SYNA_SUCCESS;
    if (out_len)
        *out_len = 0;
    if (!path || !key || !out_len) {
        null_pointer(!path ? "path" : !key ? "key" : "out_len");
        return NULL;
    }
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return NULL;
    rc = get_history(db, key, &bits, &len);
    handles_leave(db);
    *out_len = rc == SYNA_SUCCESS ? len : 0;
    return (double *)(void *)bits;
}

int32_t syna_exists(const char *path, const char *key)
{
    syna_rc rc = SYNA_SUCCESS;
    REQUIRE(path);
    REQUIRE(key);
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = syna_db_exists(db, key, strlen(key)); /* has its kind of return value already */
    handles_leave(db);
    return rc;
}

/* ---- keys: one block holds the pointers and behind them the text, so that freeing needs no length */

static syna_rc collect_keys(syna_db *db, struct buf *text, size_t *count)
{
    syna_scan *scan;
    syna_record record;
    SYNA_TRY(db_scan_new(db, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan));
    syna_rc rc;
    *count = 0;
    while ((rc = db_scan_next(scan, &record)) == SYNA_SUCCESS) {
        if (!buf_append(text, record.key, record.key_len) || !buf_append(text, "", 1)) {
            rc = syna_no_memory(text->len);
            break;
        }
        ++*count;
    }
    db_scan_free(scan);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

static char **pack_keys(const struct buf *text, size_t count)
{
    char **keys = mem_alloc(count * sizeof *keys + text->len);
    if (!keys) {
        syna_no_memory(count * sizeof *keys + text->len);
        return NULL;
    }
    char *at = (char *)(keys + count);
    memcpy(at, text->bytes, text->len);
    for (size_t i = 0; i < count; i++) {
        keys[i] = at;
        at += strlen(at) + 1;
    }
    return keys;
}

char **syna_keys(const char *path, size_t *out_len)
{
    syna_rc rc = SYNA_SUCCESS;
    struct buf text = {0};
    char **keys = NULL;
    size_t count = 0;
    if (out_len)
        *out_len = 0;
    if (!path || !out_len) {
        null_pointer(!path ? "path" : "out_len");
        return NULL;
    }
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return NULL;
    rc = collect_keys(db, &text, &count);
    handles_leave(db);
    if (rc == SYNA_SUCCESS && count > 0)
        keys = pack_keys(&text, count);
    if (keys)
        *out_len = count;
    buf_dispose(&text);
    return keys;
}

int32_t syna_compact(const char *path)
{
    syna_rc rc = SYNA_SUCCESS;
    syna_db *db = handles_enter(path, &rc);
    if (!db)
        return rc;
    rc = db_compact(db, SYNA_COMPACT_LATEST, NULL, NULL);
    handles_leave(db);
    return rc;
}

/* ---------------------------------------------------------------- freeing: lengths are not needed */

void syna_free_text(char *text, size_t len)
{
    (void)len;
    mem_free(text);
}

void syna_free_bytes(uint8_t *data, size_t len)
{
    (void)len;
    mem_free(data);
}

void syna_free_vector(float *data, uint16_t dimensions)
{
    (void)dimensions;
    mem_free(data);
}

void syna_free_tensor(double *data, size_t len)
{
    (void)len;
    mem_free(data);
}

void syna_free_keys(char **keys, size_t len)
{
    (void)len;
    mem_free(keys);
}
