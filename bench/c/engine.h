/* engine.h - what kvbench.c needs of a store, so that every peer runs the same loop.
 *
 * Keys are KEY_BYTES long. Every put is a commit of its own that survives kill -9 of the process
 * once it has returned (it is in the page cache), and survives power loss only after a sync: the
 * same level for every peer. A get sees every put made before it. */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 16u

struct pair {
    char key[KEY_BYTES];
    const char *value;
    size_t len;
};

struct engine {
    const char *name;
    /* Open or create the store in the existing folder `dir`. */
    void *(*open)(const char *dir);
    /* Copy the value to buf; its length, or -1 when the key is missing. */
    long (*get)(void *store, const char *key, char *buf, size_t cap);
    int (*put)(void *store, const struct pair *p);
    /* `count` puts in one commit. */
    int (*batch)(void *store, const struct pair *pairs, size_t count);
    /* Copy up to `count` values in key order, from `key` on; how many there were, or -1. */
    long (*scan)(void *store, const char *key, size_t count, char *buf, size_t cap);
    void (*close)(void *store);
};

extern const struct engine engine_synadb, engine_table;
#ifdef HAVE_LMDB
extern const struct engine engine_lmdb, engine_lmdb_map, engine_lmdb_fresh;
#endif
#ifdef HAVE_SQLITE
extern const struct engine engine_sqlite;
#endif
#ifdef HAVE_ROCKSDB
extern const struct engine engine_rocksdb;
#endif

/* Stop with a message: a benchmark that goes on after an error measures nothing. */
static inline void die(const char *engine, const char *what)
{
    fprintf(stderr, "%s: %s\n", engine, what);
    exit(1);
}

static inline void store_path(char *out, size_t cap, const char *dir, const char *file)
{
    if ((size_t)snprintf(out, cap, "%s/%s", dir, file) >= cap)
        die(file, "path too long");
}

#endif
