/* SQLite in WAL mode with synchronous=OFF: one transaction a put, no sync, kill -9 loses nothing. */
#include "engine.h"

#include <sqlite3.h>

struct sqlite_store {
    sqlite3 *db;
    sqlite3_stmt *get, *put, *scan;
};

static void must(struct sqlite_store *s, int rc)
{
    if (rc != SQLITE_OK)
        die("sqlite", sqlite3_errmsg(s->db));
}

static void *store_open(const char *dir)
{
    char path[4096];
    store_path(path, sizeof path, dir, "bench.sqlite");
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        die("sqlite", "out of memory");
    must(s, sqlite3_open(path, &s->db));
    must(s, sqlite3_exec(s->db,
                         "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
                         "PRAGMA mmap_size=68719476736;"
                         "CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID",
                         NULL, NULL, NULL));
    must(s, sqlite3_prepare_v2(s->db, "SELECT v FROM kv WHERE k=?", -1, &s->get, NULL));
    must(s, sqlite3_prepare_v2(s->db, "INSERT OR REPLACE INTO kv VALUES(?,?)", -1, &s->put, NULL));
    must(s, sqlite3_prepare_v2(s->db, "SELECT v FROM kv WHERE k>=? ORDER BY k LIMIT ?", -1,
                               &s->scan, NULL));
    return s;
}

static void copy_column(sqlite3_stmt *stmt, char *buf, size_t cap, size_t *len)
{
    *len = (size_t)sqlite3_column_bytes(stmt, 0);
    memcpy(buf, sqlite3_column_blob(stmt, 0), *len < cap ? *len : cap);
}

static long store_get(void *store, const char *key, char *buf, size_t cap)
{
    struct sqlite_store *s = store;
    size_t len = 0;
    sqlite3_bind_blob(s->get, 1, key, KEY_BYTES, SQLITE_STATIC);
    int found = sqlite3_step(s->get) == SQLITE_ROW;
    if (found)
        copy_column(s->get, buf, cap, &len);
    sqlite3_reset(s->get);
    return found ? (long)len : -1;
}

static int store_put(void *store, const struct pair *p)
{
    struct sqlite_store *s = store;
    sqlite3_bind_blob(s->put, 1, p->key, KEY_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(s->put, 2, p->value, (int)p->len, SQLITE_STATIC);
    int done = sqlite3_step(s->put) == SQLITE_DONE;
    sqlite3_reset(s->put);
    return done;
}

static int store_batch(void *store, const struct pair *pairs, size_t count)
{
    struct sqlite_store *s = store;
    must(s, sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL));
    for (size_t i = 0; i < count; i++)
        if (!store_put(s, &pairs[i]))
            return 0;
    return sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
}

static long store_scan(void *store, const char *key, size_t count, char *buf, size_t cap)
{
    struct sqlite_store *s = store;
    size_t len;
    long found = 0;
    sqlite3_bind_blob(s->scan, 1, key, KEY_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(s->scan, 2, (sqlite3_int64)count);
    while (sqlite3_step(s->scan) == SQLITE_ROW) {
        copy_column(s->scan, buf, cap, &len);
        found++;
    }
    sqlite3_reset(s->scan);
    return found;
}

static void store_close(void *store)
{
    struct sqlite_store *s = store;
    sqlite3_finalize(s->get);
    sqlite3_finalize(s->put);
    sqlite3_finalize(s->scan);
    sqlite3_close(s->db);
    free(s);
}

const struct engine engine_sqlite = {"sqlite3",   store_open, store_get,  store_put,
                                     store_batch, store_scan, store_close};
