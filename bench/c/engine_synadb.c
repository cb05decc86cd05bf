/* SynaDB through its handle interface. no_sync: puts are not synced one by one. */
#include "engine.h"

#include <synadb.h>

static void *store_open(const char *dir)
{
    char path[4096];
    store_path(path, sizeof path, dir, "bench.db");
    syna_db_options options = {.size = sizeof options, .no_sync = 1};
    syna_db *db = NULL;
    if (syna_db_open(path, &options, &db) != SYNA_SUCCESS)
        die("synadb", syna_last_error());
    return db;
}

static long store_get(void *store, const char *key, char *buf, size_t cap)
{
    size_t len;
    int32_t type;
    int32_t rc = syna_db_get(store, key, KEY_BYTES, buf, cap, &len, &type);
    return rc == SYNA_SUCCESS ? (long)len : -1;
}

static int store_put(void *store, const struct pair *p)
{
    return syna_db_put(store, p->key, KEY_BYTES, SYNA_TYPE_BYTES, p->value, p->len, NULL, NULL) ==
           SYNA_SUCCESS;
}

static int store_batch(void *store, const struct pair *pairs, size_t count)
{
    syna_batch *batch = NULL;
    if (syna_batch_new(store, &batch) != SYNA_SUCCESS)
        return 0;
    int32_t rc = SYNA_SUCCESS;
    for (size_t i = 0; i < count && rc == SYNA_SUCCESS; i++)
        rc = syna_batch_put(batch, pairs[i].key, KEY_BYTES, SYNA_TYPE_BYTES, pairs[i].value,
                            pairs[i].len, NULL);
    if (rc == SYNA_SUCCESS)
        rc = syna_batch_commit(batch);
    syna_batch_free(batch);
    return rc == SYNA_SUCCESS;
}

static long store_scan(void *store, const char *key, size_t count, char *buf, size_t cap)
{
    syna_scan *scan = NULL;
    if (syna_scan_new(store, NULL, 0, key, KEY_BYTES, NULL, 0, SYNA_SCAN_VALUES, &scan) !=
        SYNA_SUCCESS)
        return -1;
    long found = 0;
    syna_record record = {.size = sizeof record};
    while ((size_t)found < count && syna_scan_next(scan, &record) == SYNA_SUCCESS) {
        memcpy(buf, record.data, record.len < cap ? record.len : cap);
        found++;
    }
    syna_scan_free(scan);
    return found;
}

static void store_close(void *store)
{
    if (syna_db_close(store) != SYNA_SUCCESS)
        die("synadb", syna_last_error());
}

const struct engine engine_synadb = {"synadb",    store_open, store_get,  store_put,
                                     store_batch, store_scan, store_close};
