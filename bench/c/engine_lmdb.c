/* LMDB, three ways. All leave syncing to the caller (MDB_NOSYNC), so a put costs no disk wait and
 * survives kill -9:
 *
 *   lmdb        pages are written with write(2)
 *   lmdb-map    pages are changed in the writable map (MDB_WRITEMAP), usually the faster one
 *   lmdb-fresh  as lmdb; every get renews its read transaction, as a reader must who wants to see
 *               the commits of others. The first two renew only after a put of their own. */
#include "engine.h"

#include <lmdb.h>

#define MAP_BYTES ((size_t)64 << 30)

struct lmdb_store {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *reader;
    int stale;  /* the reader does not see the last put */
    int always; /* renew for every get */
};

static void must(int rc)
{
    if (rc != MDB_SUCCESS)
        die("lmdb", mdb_strerror(rc));
}

static void *open_with(const char *dir, unsigned flags, int always)
{
    struct lmdb_store *s = calloc(1, sizeof *s);
    if (!s)
        die("lmdb", "out of memory");
    s->always = always;
    must(mdb_env_create(&s->env));
    must(mdb_env_set_mapsize(s->env, MAP_BYTES));
    must(mdb_env_open(s->env, dir, MDB_NOSYNC | MDB_NOTLS | flags, 0644));
    MDB_txn *txn;
    must(mdb_txn_begin(s->env, NULL, 0, &txn));
    must(mdb_dbi_open(txn, NULL, 0, &s->dbi));
    must(mdb_txn_commit(txn));
    must(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader));
    return s;
}

static void *open_plain(const char *dir)
{
    return open_with(dir, 0, 0);
}

static void *open_map(const char *dir)
{
    return open_with(dir, MDB_WRITEMAP | MDB_MAPASYNC, 0);
}

static void *open_fresh(const char *dir)
{
    return open_with(dir, 0, 1);
}

static void renew(struct lmdb_store *s)
{
    if (!s->stale && !s->always)
        return;
    mdb_txn_reset(s->reader);
    must(mdb_txn_renew(s->reader));
    s->stale = 0;
}

/* The value is copied out, as it is for every peer: it is valid only as long as the transaction. */
static long store_get(void *store, const char *key, char *buf, size_t cap)
{
    struct lmdb_store *s = store;
    renew(s);
    MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key}, v;
    if (mdb_get(s->reader, s->dbi, &k, &v) != MDB_SUCCESS)
        return -1;
    memcpy(buf, v.mv_data, v.mv_size < cap ? v.mv_size : cap);
    return (long)v.mv_size;
}

static int store_batch(void *store, const struct pair *pairs, size_t count)
{
    struct lmdb_store *s = store;
    MDB_txn *txn;
    if (!s->stale) { /* an old reader would keep every freed page from being used again */
        mdb_txn_reset(s->reader);
        s->stale = 1;
    }
    must(mdb_txn_begin(s->env, NULL, 0, &txn));
    for (size_t i = 0; i < count; i++) {
        MDB_val k = {KEY_BYTES, (void *)(uintptr_t)pairs[i].key};
        MDB_val v = {pairs[i].len, (void *)(uintptr_t)pairs[i].value};
        must(mdb_put(txn, s->dbi, &k, &v, 0));
    }
    return mdb_txn_commit(txn) == MDB_SUCCESS;
}

static int store_put(void *store, const struct pair *p)
{
    return store_batch(store, p, 1);
}

static long store_scan(void *store, const char *key, size_t count, char *buf, size_t cap)
{
    struct lmdb_store *s = store;
    renew(s);
    MDB_cursor *cursor;
    if (mdb_cursor_open(s->reader, s->dbi, &cursor) != MDB_SUCCESS)
        return -1;
    MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key}, v;
    long found = 0;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS && (size_t)found < count) {
        memcpy(buf, v.mv_data, v.mv_size < cap ? v.mv_size : cap);
        found++;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return found;
}

static void store_close(void *store)
{
    struct lmdb_store *s = store;
    mdb_txn_abort(s->reader);
    mdb_env_sync(s->env, 1);
    mdb_env_close(s->env);
    free(s);
}

const struct engine engine_lmdb = {"lmdb",      open_plain, store_get,  store_put,
                                   store_batch, store_scan, store_close};
const struct engine engine_lmdb_map = {"lmdb-map",  open_map,   store_get,  store_put,
                                       store_batch, store_scan, store_close};
const struct engine engine_lmdb_fresh = {"lmdb-fresh", open_fresh, store_get,  store_put,
                                         store_batch,  store_scan, store_close};
