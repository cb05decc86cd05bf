/* A plain model of the key index: an array of keys, each with the list of its records, written to a log in
 * memory and to the index alike, and the comparing of both. */
#ifndef SYNA_TESTS_KEYDIR_MODEL_H
#define SYNA_TESTS_KEYDIR_MODEL_H

#include "check.h"

#include "io/file.h"
#include "store/keydir_fixture.h"
#include "vfs_fault.h"

#define ALL_BITS UINT64_MAX

/* ---------------------------------------------------------------- the model */

struct model_record {
    uint64_t offset, payload;
    uint32_t count; /* values of a block, 0 = not one */
    uint8_t type, flags;
};

struct model_key {
    uint8_t *bytes;
    size_t len;
    struct model_record *records;
    size_t count, cap;
};

struct model {
    struct memlog m;
    struct keydir *dir;
    struct model_key *keys; /* in order of first appearance once applied */
    size_t count, cap;
    uint64_t rng;
};

static inline void model_init(struct model *t, uint64_t hash_mask)
{
    memset(t, 0, sizeof *t);
    keydir_test_hash_mask = hash_mask;
    t->rng = check_random();
    CHECK(memlog_init(&t->m, "memory"));
    CHECK_OK(keydir_new(&t->m.log, &t->dir));
}

static inline void model_dispose(struct model *t)
{
    keydir_free(t->dir);
    memlog_dispose(&t->m);
    for (size_t i = 0; i < t->count; i++) {
        free(t->keys[i].bytes);
        free(t->keys[i].records);
    }
    free(t->keys);
    keydir_test_hash_mask = ALL_BITS;
}

static inline struct model_key *model_key(struct model *t, const void *key, size_t len)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->keys[i].len == len && memcmp(t->keys[i].bytes, key, len) == 0)
            return &t->keys[i];
    if (t->count == t->cap) {
        t->cap = t->cap * 2 + 16;
        t->keys = realloc(t->keys, t->cap * sizeof *t->keys);
    }
    struct model_key *k = &t->keys[t->count++];
    *k = (struct model_key){.bytes = malloc(len), .len = len};
    memcpy(k->bytes, key, len);
    return k;
}

static inline void model_note(struct model *t, const struct frame *f, struct model_record r)
{
    struct model_key *k = model_key(t, f->key, f->key_len);
    if (k->count == k->cap) {
        k->cap = k->cap * 2 + 4;
        k->records = realloc(k->records, k->cap * sizeof *k->records);
    }
    r.offset = f->offset;
    k->records[k->count++] = r;
}

enum what { PUT_FLOAT, PUT_INT, PUT_TEXT, PUT_EXPIRING, PUT_BLOCK, DELETE, KINDS };

/* Append a record of this kind to the log; what an entry must say about it goes to *r. */
static inline struct frame append_record(struct model *t, const void *key, size_t len, enum what what,
                                  struct model_record *r)
{
    struct memlog *m = &t->m;
    struct frame f;
    uint64_t bits[64];
    size_t n = 8 + rng_next(&t->rng) % 56;
    for (size_t i = 0; i < n; i++)
        bits[i] = rng_next(&t->rng);
    *r = (struct model_record){.payload = bits[0], .flags = ENTRY_INLINE};
    switch (what) {
    case PUT_FLOAT:
        r->type = SYNA_TYPE_FLOAT;
        CHECK(memlog_add_number(m, key, len, r->type, bits[0], &f));
        break;
    case PUT_INT:
        r->type = SYNA_TYPE_INT;
        CHECK(memlog_add_number(m, key, len, r->type, bits[0], &f));
        break;
    case PUT_TEXT:
        r->type = SYNA_TYPE_TEXT;
        r->flags = 0;
        CHECK(memlog_add(m, key, len, r->type, "some text or other", n % 18, 0, &f));
        r->payload = f.value_len + FRAME_CRC_BYTES;
        break;
    case PUT_EXPIRING:
        r->type = SYNA_TYPE_INT;
        r->flags = ENTRY_INLINE | ENTRY_EXPIRES;
        CHECK(memlog_add(m, key, len, r->type, bits, 8, 12345, &f));
        break;
    case PUT_BLOCK:
        r->type = SYNA_TYPE_FLOAT;
        r->count = (uint32_t)n;
        r->payload = bits[n - 1];
        r->flags = ENTRY_INLINE | ENTRY_BLOCK;
        CHECK(memlog_add_block(m, key, len, r->type, bits, n, &f));
        break;
    default:
        r->type = SYNA_TYPE_NULL;
        r->flags = ENTRY_DELETED;
        CHECK(memlog_delete(m, key, len, &f));
        r->payload = f.value_len + FRAME_CRC_BYTES;
        break;
    }
    return f;
}

static inline void put(struct model *t, const void *key, size_t len, enum what what)
{
    struct model_record r;
    struct frame f = append_record(t, key, len, what, &r);
    CHECK_OK(keydir_apply(t->dir, &f));
    model_note(t, &f, r);
}

static inline enum what any_kind(struct model *t)
{
    return (enum what)(rng_next(&t->rng) % KINDS);
}

/* ---------------------------------------------------------------- comparing */

static inline void same_record(const struct entry *e, const struct model_record *r)
{
    CHECK_EQ(e->offset, r->offset);
    CHECK_EQ(e->type, r->type);
    CHECK_EQ(e->flags, r->flags);
    CHECK_EQ(e->payload, r->payload);
}

static inline void same_history(struct keydir *dir, const struct entry *e, const struct model_key *k)
{
    struct history_cursor c;
    CHECK_EQ(history_records(dir, e), k->count);
    CHECK(e->history != 0 || k->count == 1);
    CHECK_OK(history_seek(dir, e, 0, &c));
    for (size_t i = 0; i < k->count; i++) {
        CHECK_EQ(c.index, i);
        CHECK_EQ(c.offset, k->records[i].offset);
        CHECK_EQ(c.block, k->records[i].count != 0);
        CHECK_EQ(c.count, MAX(k->records[i].count, 1));
        CHECK_RC(history_next(&c), i + 1 < k->count ? SYNA_SUCCESS : SYNA_ERR_KEY_NOT_FOUND);
    }
}

static inline void same_key(struct keydir *dir, const struct model_key *k, uint32_t id)
{
    struct entry e, by_id;
    CHECK_OK(keydir_find(dir, k->bytes, k->len, &e));
    CHECK_EQ(e.id, id);
    CHECK_EQ(e.key_len, k->len);
    same_record(&e, &k->records[k->count - 1]);
    CHECK_OK(keydir_entry(dir, id, &by_id));
    CHECK_EQ(by_id.offset, e.offset);
    CHECK_EQ(by_id.history, e.history);
    same_history(dir, &e, k);
}

static inline void same_stats(const struct model *t, struct keydir *dir)
{
    struct keydir_stats stats;
    uint64_t deleted = 0, records = 0, live = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct model_record *r = &t->keys[i].records[t->keys[i].count - 1];
        records += t->keys[i].count;
        deleted += (r->flags & ENTRY_DELETED) != 0;
        if (!(r->flags & ENTRY_DELETED))
            live += frame_length(t->m.bytes.bytes + r->offset);
    }
    keydir_get_stats(dir, &stats);
    CHECK_EQ(stats.keys, t->count);
    CHECK_EQ(stats.deleted, deleted);
    CHECK_EQ(stats.records, records);
    CHECK_EQ(stats.live_bytes, live);
}

static inline void same_as_model(const struct model *t, struct keydir *dir)
{
    struct entry e;
    CHECK_EQ(keydir_count(dir), t->count);
    for (size_t i = 0; i < t->count; i++) {
        check_note("key %zu of %zu", i, t->count);
        same_key(dir, &t->keys[i], (uint32_t)i);
    }
    CHECK_RC(keydir_find(dir, "not there", 9, &e), SYNA_ERR_KEY_NOT_FOUND);
    CHECK_RC(keydir_find(dir, "", 0, &e), SYNA_ERR_KEY_NOT_FOUND);
    same_stats(t, dir);
}

/* One of `keys` keys of different lengths, some the beginning of others. */
static inline size_t any_key(struct model *t, uint64_t keys, char out[64])
{
    uint64_t n = rng_next(&t->rng) % keys;
    static const char *const forms[] = {"%llu", "key:%08llu", "a/longer/path/of/sixteen/%llu"};
    return (size_t)snprintf(out, 64, forms[n % 3], (unsigned long long)n);
}

static inline void put_any(struct model *t, uint64_t keys)
{
    char key[64];
    size_t len = any_key(t, keys, key);
    put(t, key, len, any_kind(t));
}

/* ---------------------------------------------------------------- memory */

static uint64_t asked_for;
static inline bool count_bytes(void *context, size_t bytes)
{
    (void)context;
    asked_for += bytes;
    return true;
}

/* Give some keys histories that are about to need a larger buffer or a restart. */
static inline void build_for_failures(struct model *t)
{
    char key[32];
    for (int i = 0; i < 140; i++)
        put(t, key, (size_t)snprintf(key, sizeof key, "key %d", i), any_kind(t));
    for (int i = 0; i < 12; i++)
        for (int n = 0; n < 5 + 17 * i; n++)
            put(t, key, (size_t)snprintf(key, sizeof key, "key %d", i), any_kind(t));
}

/* The n-th of the operations that are made to fail: new keys, second records, long histories. */
static inline size_t failing_key(int n, char key[32])
{
    if (n % 3 == 0)
        return (size_t)snprintf(key, 32, "new %d", n);
    return (size_t)snprintf(key, 32, "key %d", n % 3 == 1 ? n % 12 : 12 + n);
}

/* ---------------------------------------------------------------- order */

static inline int by_key(const void *a, const void *b)
{
    const struct model_key *x = *(const struct model_key *const *)a;
    const struct model_key *y = *(const struct model_key *const *)b;
    return key_compare(x->bytes, x->len, y->bytes, y->len);
}

static inline struct model_key **sorted_keys(const struct model *t)
{
    struct model_key **sorted = malloc((t->count + 1) * sizeof *sorted);
    for (size_t i = 0; i < t->count; i++)
        sorted[i] = &t->keys[i];
    qsort(sorted, t->count, sizeof *sorted, by_key);
    return sorted;
}

/* Walk from the first key >= `from` and compare with the sorted model. */
static inline void same_order_from(struct model *t, struct model_key **sorted, const void *from, size_t len)
{
    struct order_cursor c;
    uint32_t id;
    size_t i = 0;
    while (i < t->count && key_compare(sorted[i]->bytes, sorted[i]->len, from, len) < 0)
        i++;
    CHECK_OK(keydir_order_seek(t->dir, from, len, &c));
    for (; i < t->count; i++) {
        CHECK_OK(keydir_order_next(t->dir, &c, &id));
        CHECK_EQ(id, sorted[i] - t->keys);
    }
    CHECK_RC(keydir_order_next(t->dir, &c, &id), SYNA_ERR_KEY_NOT_FOUND);
}

static inline void same_order(struct model *t)
{
    CHECK_OK(keydir_sort(t->dir));
    CHECK(keydir_sorted(t->dir));
    struct model_key **sorted = sorted_keys(t);
    same_order_from(t, sorted, "", 0);
    for (int i = 0; i < 5 && t->count; i++) {
        const struct model_key *k = &t->keys[rng_next(&t->rng) % t->count];
        uint8_t *from = malloc(k->len + 1);
        memcpy(from, k->bytes, k->len);
        from[k->len] = 0;
        same_order_from(t, sorted, from, k->len);
        same_order_from(t, sorted, from, k->len + 1);
        same_order_from(t, sorted, from, k->len / 2);
        free(from);
    }
    free(sorted);
}

/* Put a key that the model has not seen; linear search would make large models slow. */
static inline void put_new(struct model *t, const void *key, size_t len)
{
    struct model_record r;
    struct frame f = append_record(t, key, len, PUT_INT, &r);
    CHECK_OK(keydir_apply(t->dir, &f));
    if (t->count == t->cap) {
        t->cap = t->cap * 2 + 16;
        t->keys = realloc(t->keys, t->cap * sizeof *t->keys);
    }
    struct model_key *k = &t->keys[t->count++];
    *k = (struct model_key){.bytes = malloc(len), .len = len, .records = malloc(sizeof r)};
    memcpy(k->bytes, key, len);
    k->cap = k->count = 1;
    r.offset = f.offset;
    k->records[0] = r;
}

/* A key that no other number gives, in one of the shapes that keys have. */
static inline size_t shaped_key(uint64_t n, int shape, char out[128])
{
    unsigned long long mixed = (unsigned long long)(n * 0x9e3779b97f4a7c15u);
    switch (shape) {
    case 0: return (size_t)snprintf(out, 128, "%llu", (unsigned long long)n);
    case 1: return (size_t)snprintf(out, 128, "a prefix that all of them have/%016llx", mixed);
    case 2: return (size_t)snprintf(out, 128, "%016llx", mixed);
    case 3: /* the beginning of its successors */
        memset(out, 'x', 1 + n % 100);
        return 1 + n % 100 + (size_t)snprintf(out + 1 + n % 100, 20, "%llu", (unsigned long long)n / 100);
    default: return (size_t)snprintf(out, 128, "sensor/%03llu/%llx", (unsigned long long)n % 37, mixed);
    }
}

#endif
