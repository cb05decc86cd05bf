/* The limit: a hash table in memory and a file to which every put is written with one write(2). It
 * has no order, no checksums, no history and no recovery; nothing that keeps promises can be expected
 * to reach it. Values are as long as the first one put. */
#include "engine.h"

#include <fcntl.h>
#include <unistd.h>

struct slot {
    char key[KEY_BYTES];
    char *value; /* NULL: the slot is free */
};

struct table {
    int fd;
    size_t value_len, used, cap; /* cap is a power of two */
    struct slot *slots;
    char *log; /* scratch for one batch of records */
    size_t log_cap;
};

static uint64_t hash(const char *key)
{
    uint64_t a, b;
    memcpy(&a, key, 8);
    memcpy(&b, key + 8, 8);
    a = (a ^ 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    b = (b ^ (a >> 29)) * 0x94d049bb133111ebu;
    return b ^ (b >> 31);
}

static struct slot *find(struct table *t, const char *key)
{
    size_t i = (size_t)hash(key) & (t->cap - 1);
    while (t->slots[i].value && memcmp(t->slots[i].key, key, KEY_BYTES) != 0)
        i = (i + 1) & (t->cap - 1);
    return &t->slots[i];
}

static void *must_have(void *memory)
{
    if (!memory)
        die("dict+file", "out of memory");
    return memory;
}

static void grow(struct table *t)
{
    struct slot *old = t->slots;
    size_t old_cap = t->cap;
    t->cap = old_cap ? old_cap * 2 : 1024;
    t->slots = must_have(calloc(t->cap, sizeof *t->slots));
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].value)
            *find(t, old[i].key) = old[i];
    free(old);
}

static void remember(struct table *t, const char *key, const char *value)
{
    if (t->used * 2 >= t->cap)
        grow(t);
    struct slot *slot = find(t, key);
    if (!slot->value) {
        memcpy(slot->key, key, KEY_BYTES);
        slot->value = must_have(malloc(t->value_len));
        t->used++;
    }
    memcpy(slot->value, value, t->value_len);
}

/* The file is a u64 value length, then records of key and value. */
static void read_back(struct table *t)
{
    uint64_t len;
    if (read(t->fd, &len, sizeof len) != (ssize_t)sizeof len)
        return;
    t->value_len = (size_t)len;
    size_t record = KEY_BYTES + t->value_len;
    char *buf = must_have(malloc(record * 1024));
    ssize_t got;
    while ((got = read(t->fd, buf, record * 1024)) > 0)
        for (size_t at = 0; at + record <= (size_t)got; at += record)
            remember(t, buf + at, buf + at + KEY_BYTES);
    free(buf);
}

static void *store_open(const char *dir)
{
    char path[4096];
    store_path(path, sizeof path, dir, "bench.table");
    struct table *t = must_have(calloc(1, sizeof *t));
    t->fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0644);
    if (t->fd < 0)
        die("dict+file", "cannot open");
    grow(t);
    read_back(t);
    return t;
}

static long store_get(void *store, const char *key, char *buf, size_t cap)
{
    struct table *t = store;
    struct slot *slot = find(t, key);
    if (!slot->value)
        return -1;
    memcpy(buf, slot->value, t->value_len < cap ? t->value_len : cap);
    return (long)t->value_len;
}

static int store_batch(void *store, const struct pair *pairs, size_t count)
{
    struct table *t = store;
    size_t len = 0;
    if (!t->value_len) {
        uint64_t first = t->value_len = pairs[0].len;
        if (write(t->fd, &first, sizeof first) != (ssize_t)sizeof first)
            return 0;
    }
    if (t->log_cap < count * (KEY_BYTES + t->value_len)) {
        t->log_cap = count * (KEY_BYTES + t->value_len);
        t->log = must_have(realloc(t->log, t->log_cap));
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(t->log + len, pairs[i].key, KEY_BYTES);
        memcpy(t->log + len + KEY_BYTES, pairs[i].value, t->value_len);
        len += KEY_BYTES + t->value_len;
        remember(t, pairs[i].key, pairs[i].value);
    }
    return write(t->fd, t->log, len) == (ssize_t)len;
}

static int store_put(void *store, const struct pair *p)
{
    return store_batch(store, p, 1);
}

/* A hash table has no order. */
static long store_scan(void *store, const char *key, size_t count, char *buf, size_t cap)
{
    (void)store, (void)key, (void)count, (void)buf, (void)cap;
    return -1;
}

static void store_close(void *store)
{
    struct table *t = store;
    for (size_t i = 0; i < t->cap; i++)
        free(t->slots[i].value);
    free(t->slots);
    free(t->log);
    close(t->fd);
    free(t);
}

const struct engine engine_table = {"dict+file", store_open, store_get,  store_put,
                                    store_batch, store_scan, store_close};
