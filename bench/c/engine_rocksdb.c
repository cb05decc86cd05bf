/* RocksDB with its write-ahead log on and not synced: every put is written to the log file before it
 * returns, so kill -9 loses nothing. Otherwise its defaults, with a bloom filter of 10 bits. */
#include "engine.h"

#include <rocksdb/c.h>

struct rocksdb_store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
};

static void must(char *error)
{
    if (error)
        die("rocksdb", error);
}

static void *store_open(const char *dir)
{
    char path[4096];
    store_path(path, sizeof path, dir, "rocksdb");
    struct rocksdb_store *s = calloc(1, sizeof *s);
    if (!s)
        die("rocksdb", "out of memory");
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10));
    s->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(s->options, 1);
    rocksdb_options_set_block_based_table_factory(s->options, table);
    s->read = rocksdb_readoptions_create();
    s->write = rocksdb_writeoptions_create();
    char *error = NULL;
    s->db = rocksdb_open(s->options, path, &error);
    must(error);
    rocksdb_block_based_options_destroy(table);
    return s;
}

static long store_get(void *store, const char *key, char *buf, size_t cap)
{
    struct rocksdb_store *s = store;
    char *error = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(s->db, s->read, key, KEY_BYTES, &error);
    must(error);
    if (!slice)
        return -1;
    size_t len;
    const char *value = rocksdb_pinnableslice_value(slice, &len);
    memcpy(buf, value, len < cap ? len : cap);
    rocksdb_pinnableslice_destroy(slice);
    return (long)len;
}

static int store_put(void *store, const struct pair *p)
{
    struct rocksdb_store *s = store;
    char *error = NULL;
    rocksdb_put(s->db, s->write, p->key, KEY_BYTES, p->value, p->len, &error);
    return error == NULL;
}

static int store_batch(void *store, const struct pair *pairs, size_t count)
{
    struct rocksdb_store *s = store;
    char *error = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_put(batch, pairs[i].key, KEY_BYTES, pairs[i].value, pairs[i].len);
    rocksdb_write(s->db, s->write, batch, &error);
    rocksdb_writebatch_destroy(batch);
    return error == NULL;
}

static long store_scan(void *store, const char *key, size_t count, char *buf, size_t cap)
{
    struct rocksdb_store *s = store;
    rocksdb_iterator_t *at = rocksdb_create_iterator(s->db, s->read);
    long found = 0;
    for (rocksdb_iter_seek(at, key, KEY_BYTES); rocksdb_iter_valid(at) && (size_t)found < count;
         rocksdb_iter_next(at)) {
        size_t len;
        const char *value = rocksdb_iter_value(at, &len);
        memcpy(buf, value, len < cap ? len : cap);
        found++;
    }
    rocksdb_iter_destroy(at);
    return found;
}

static void store_close(void *store)
{
    struct rocksdb_store *s = store;
    rocksdb_close(s->db);
    rocksdb_readoptions_destroy(s->read);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_options_destroy(s->options);
    free(s);
}

const struct engine engine_rocksdb = {"rocksdb",   store_open, store_get,  store_put,
                                      store_batch, store_scan, store_close};
