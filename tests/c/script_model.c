/* script_model.c - what a script should lead to, in plain memory: the records of every key. */
#include "check.h"

#include "base/hash.h"
#include "script_core.h"

struct model_record {
    int32_t type;
    bool deleted;
    uint64_t expires;
    uint8_t *data;
    size_t len;
};

struct model_key {
    struct model_record *records;
    size_t count, cap;
};

struct script_model {
    struct model_key key[SCRIPT_KEYS];
};

struct script_model *script_model_new(void)
{
    struct script_model *m = calloc(1, sizeof *m);
    if (!m)
        abort();
    return m;
}

static void forget(struct model_key *k, size_t keep)
{
    while (k->count > keep)
        free(k->records[--k->count].data);
}

void script_model_free(struct script_model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < SCRIPT_KEYS; i++) {
        forget(&m->key[i], 0);
        free(m->key[i].records);
    }
    free(m);
}

static void remember(struct model_key *k, int32_t type, bool deleted, uint64_t expires,
                     const void *data, size_t len)
{
    if (k->count == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 8;
        k->records = realloc(k->records, k->cap * sizeof *k->records);
    }
    uint8_t *copy = malloc(len + 1);
    if (!k->records || !copy)
        abort();
    if (len)
        memcpy(copy, data, len);
    k->records[k->count++] = (struct model_record){type, deleted, expires, copy, len};
}

static const struct model_record *newest_of(const struct model_key *k)
{
    const struct model_record *r = k->count ? &k->records[k->count - 1] : NULL;
    return r && !r->deleted && (!r->expires || r->expires > SCRIPT_PROBE_US) ? r : NULL;
}

static void model_put(struct script_model *m, const struct script_op *op, int32_t type)
{
    struct buf value = {0};
    size_t len = script_value(type, op->size, op->id, &value);
    remember(&m->key[op->key], type, false, op->kind == DO_PUT ? script_expiry(op->how) : 0,
             value.bytes, len);
    buf_dispose(&value);
}

/* Deleting what is not there writes nothing, and what expired counts as not there; in a batch a
 * deletion is always written. */
static void model_delete(struct script_model *m, uint8_t key, bool always)
{
    if (always || newest_of(&m->key[key]))
        remember(&m->key[key], SYNA_TYPE_NULL, true, 0, NULL, 0);
}

static void model_batch_entry(struct script_model *m, const struct script_op *e)
{
    if (e->kind == DO_DELETE)
        model_delete(m, e->key, true);
    else
        model_put(m, e, e->type);
}

/* The first record that a compaction keeps of a key. */
static size_t first_kept(const struct model_key *k, uint8_t mode)
{
    if (mode == SYNA_COMPACT_HISTORY)
        return 0;
    if (!newest_of(k))
        return k->count;
    size_t first = k->count - 1;
    while (mode == SYNA_COMPACT_LIVE_HISTORY && first > 0 && !k->records[first - 1].deleted)
        first--;
    return first;
}

static void model_compact(struct model_key *k, uint8_t mode)
{
    size_t first = first_kept(k, mode);
    for (size_t i = 0; i < first; i++)
        free(k->records[i].data);
    k->count -= first;
    if (k->count)
        memmove(k->records, k->records + first, k->count * sizeof *k->records);
}

void script_model_step(struct script_model *m, const struct script_op *op)
{
    struct model_key *k = &m->key[op->key];
    switch ((enum script_kind)op->kind) {
    case DO_PUT:
        model_put(m, op, op->type);
        break;
    case DO_DELETE:
        model_delete(m, op->key, false);
        break;
    case DO_BATCH:
        for (uint32_t i = 0; i < op->size; i++) {
            struct script_op e = script_batch_entry(op, i);
            model_batch_entry(m, &e);
        }
        break;
    case DO_APPEND:
        for (uint32_t i = 0; i < op->size; i++) {
            uint64_t bits = script_number(op->type, op->id, i);
            remember(k, op->type, false, 0, &bits, sizeof bits);
        }
        break;
    case DO_BLOB:
        model_put(m, op, SYNA_TYPE_BLOB);
        break;
    case DO_COMPACT:
        for (uint32_t i = 0; i < SCRIPT_KEYS; i++)
            model_compact(&m->key[i], op->how);
        break;
    case DO_OPEN:
    case DO_CLOSE:
    case DO_FLUSH:
    case DO_BACKUP:
    case DO_KINDS:
        break;
    }
}

static void model_numbers(const struct model_key *k, int32_t type, struct script_key_state *out)
{
    uint64_t *bits = malloc((k->count + 1) * sizeof *bits);
    size_t count = 0;
    if (!bits)
        abort();
    for (size_t i = 0; i < k->count; i++)
        if (!k->records[i].deleted && k->records[i].type == type)
            bits[count++] = load_u64(k->records[i].data);
    out->numbers = script_mix(out->numbers, hash_bytes(3, bits, count * sizeof *bits) + count);
    free(bits);
}

void script_model_state(const struct script_model *m, struct script_state *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < SCRIPT_KEYS; i++) {
        const struct model_key *k = &m->key[i];
        struct script_key_state *to = &out->key[i];
        for (size_t n = 0; n < k->count; n++) {
            const struct model_record *r = &k->records[n];
            script_add_record(to, r->type, r->deleted, r->data, r->len, r->expires, 0);
        }
        to->times = 0;
        const struct model_record *r = newest_of(k);
        to->newest = r ? script_digest(r->type, r->data, r->len) : 0;
        out->live += r != NULL;
        model_numbers(k, SYNA_TYPE_FLOAT, to);
        model_numbers(k, SYNA_TYPE_INT, to);
    }
}
