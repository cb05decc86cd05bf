/* script.c - run scripts, and digest what a database holds. */
#include "check.h"

#include "base/hash.h"
#include "base/rng.h"
#include "script_core.h"

static const char *const kind_names[DO_KINDS] = {"open",   "close", "put",     "delete", "batch",
                                                 "append", "blob",  "compact", "flush",  "backup"};
static const char *const type_names[] = {"null",  "float",  "int",    "text",
                                         "bytes", "vector", "packed", "blob"};

/* ---------------------------------------------------------------- text */

static int index_of(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static bool parse_line(struct script *s, const char *line)
{
    char kind[16], type[16];
    unsigned handle, key, size, id, how;
    if (sscanf(line, "%15s %u %u %15s %u %u %u", kind, &handle, &key, type, &size, &id, &how) != 7)
        return false;
    int k = index_of(kind_names, DO_KINDS, kind),
        t = index_of(type_names, COUNT_OF(type_names), type);
    if (k < 0 || t < 0 || handle >= SCRIPT_HANDLES || key >= SCRIPT_KEYS || how > 15 ||
        s->count == SCRIPT_OPS)
        return false;
    s->ops[s->count++] = (struct script_op){
        (uint8_t)k, (uint8_t)handle, (uint8_t)key, (uint8_t)t, (uint8_t)how, size, id};
    return true;
}

bool script_parse(struct script *s, const char *text)
{
    s->count = 0;
    while (*text) {
        char line[128];
        size_t len = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)MIN(len, sizeof line - 1), text);
        text += len + (text[len] == '\n');
        size_t blank = strspn(line, " \t\r");
        if (line[blank] == 0 || line[blank] == '#')
            continue;
        if (!parse_line(s, line))
            return false;
    }
    return true;
}

void script_print(const struct script *s, FILE *to)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct script_op *op = &s->ops[i];
        fprintf(to, "%s %u %u %s %u %u %u\n", kind_names[op->kind], op->handle, op->key,
                type_names[op->type], op->size, op->id, op->how);
    }
}

struct script_op script_op_at(uint64_t seed, uint32_t id, const uint8_t *kinds, size_t kind_count)
{
    static const uint32_t sizes[] = {0, 1, 5, 30, 100, 600, 5000};
    uint64_t random = seed + (uint64_t)id * 0x9e3779b97f4a7c15u, dice = rng_next(&random);
    struct script_op op = {.kind = kinds[dice % kind_count],
                           .key = (uint8_t)((dice >> 8) % SCRIPT_KEYS),
                           .type = (uint8_t)((dice >> 16) % SYNA_TYPE_BLOB),
                           .how = (uint8_t)((dice >> 24) % 8),
                           .size = sizes[(dice >> 32) % COUNT_OF(sizes)],
                           .id = id};
    if (op.kind == DO_PUT && op.how > 3)
        op.how = 0;
    if (op.kind == DO_COMPACT)
        op.how %= 3;
    if (op.kind == DO_APPEND) {
        op.type = op.type % 2 ? SYNA_TYPE_FLOAT : SYNA_TYPE_INT;
        op.size = MIN(op.size, 100u);
    }
    if (op.kind == DO_BATCH)
        op.size = 1 + op.size % 5;
    return op;
}

void script_random(struct script *s, uint64_t seed, size_t count, uint8_t open_how)
{
    static const uint8_t kinds[] = {DO_PUT,   DO_PUT,    DO_PUT,  DO_PUT,   DO_PUT,     DO_DELETE,
                                    DO_BATCH, DO_APPEND, DO_BLOB, DO_FLUSH, DO_COMPACT, DO_CLOSE};
    const struct script_op open_it = {.kind = DO_OPEN, .how = open_how};
    s->count = 0;
    s->ops[s->count++] = open_it;
    for (uint32_t id = 1; s->count + 2 < MIN(count, (size_t)SCRIPT_OPS); id++) {
        s->ops[s->count++] = script_op_at(seed, id, kinds, COUNT_OF(kinds));
        if (s->ops[s->count - 1].kind == DO_CLOSE)
            s->ops[s->count++] = open_it;
    }
    s->ops[s->count++] = (struct script_op){.kind = DO_CLOSE};
}

/* ---------------------------------------------------------------- values */

static void fill_text(uint8_t *out, size_t len, uint32_t id)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog and ";
    char head[16];
    snprintf(head, sizeof head, "%u:", id);
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(i < strlen(head) ? head[i] : words[i % (sizeof words - 1)]);
}

static void fill_bytes(uint8_t *out, size_t len, uint32_t id)
{
    uint64_t random = id;
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(rng_next(&random) >> 56);
}

uint64_t script_number(int32_t type, uint32_t id, uint32_t i)
{
    int64_t n = (int64_t)id * 1000003 + i;
    double x = (double)id + (double)i / 100;
    uint64_t bits;
    if (type == SYNA_TYPE_INT)
        memcpy(&bits, &n, sizeof bits);
    else
        memcpy(&bits, &x, sizeof bits);
    return bits;
}

size_t script_value(int32_t type, uint32_t size, uint32_t id, struct buf *out)
{
    size_t len = type == SYNA_TYPE_NULL                             ? 0
                 : type == SYNA_TYPE_FLOAT || type == SYNA_TYPE_INT ? 8
                 : type == SYNA_TYPE_VECTOR ? 4 * MAX((size_t)size, (size_t)1)
                                            : size;
    out->len = 0;
    if (!buf_reserve(out, len + 1))
        return SIZE_MAX;
    uint8_t *p = out->bytes;
    out->len = len;
    if (type == SYNA_TYPE_FLOAT || type == SYNA_TYPE_INT)
        store_u64(p, script_number(type, id, 0));
    for (size_t i = 0; type == SYNA_TYPE_VECTOR && i < len / 4; i++) {
        float x = (float)id + (float)i / 8;
        memcpy(p + 4 * i, &x, sizeof x);
    }
    if (type == SYNA_TYPE_TEXT)
        fill_text(p, len, id);
    if (type == SYNA_TYPE_BYTES || type == SYNA_TYPE_PACKED || type == SYNA_TYPE_BLOB)
        fill_bytes(p, len, id);
    return len;
}

/* ---------------------------------------------------------------- running */

static const char *key_name(uint32_t key)
{
    static const char names[8][4] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"};
    return names[key % 8];
}

static syna_rc do_open(struct script_run *r, const struct script_op *op)
{
    syna_db_options options = {.size = sizeof options,
                               .no_sync = (op->how & OPEN_NO_SYNC) != 0,
                               .shared = (op->how & OPEN_SHARED) != 0,
                               .no_compression = (op->how & OPEN_PLAIN) != 0,
                               .no_mmap = (op->how & OPEN_NO_MMAP) != 0};
    return db_open(r->path, &options, &r->db[op->handle]);
}

static syna_rc do_close(struct script_run *r, uint8_t handle)
{
    syna_db *db = r->db[handle];
    r->db[handle] = NULL;
    return db_close(db);
}

uint64_t script_expiry(uint8_t how)
{
    return how == 1 ? SCRIPT_EARLY_US : how == 2 ? SCRIPT_LATE_US : 0;
}

static syna_rc do_put(syna_db *db, const struct script_op *op)
{
    struct buf value = {0};
    syna_put how = {.size = sizeof how, .expires_us = script_expiry(op->how)};
    if (op->how == 3)
        how.when_us = SCRIPT_EARLY_US + op->id;
    size_t len = script_value(op->type, op->size, op->id, &value);
    syna_rc rc = len == SIZE_MAX ? syna_no_memory(op->size)
                                 : db_put(db, key_name(op->key), 2, op->type, value.bytes, len,
                                          op->how ? &how : NULL, NULL);
    buf_dispose(&value);
    return rc;
}

/* The i-th entry of a batch: mostly puts, some deletes, of neighbouring keys. */
struct script_op script_batch_entry(const struct script_op *op, uint32_t i)
{
    bool remove = (op->id + i) % 4 == 3;
    return (struct script_op){.kind = remove ? DO_DELETE : DO_PUT,
                              .key = (uint8_t)((op->key + i) % SCRIPT_KEYS),
                              .type = i % 2 ? SYNA_TYPE_TEXT : SYNA_TYPE_INT,
                              .size = 20 + i,
                              .id = op->id * 16 + i};
}

static syna_rc do_batch_entry(syna_batch *batch, const struct script_op *e)
{
    struct buf value = {0};
    if (e->kind == DO_DELETE)
        return db_batch_delete(batch, key_name(e->key), 2);
    size_t len = script_value(e->type, e->size, e->id, &value);
    syna_rc rc = len == SIZE_MAX
                     ? syna_no_memory(e->size)
                     : db_batch_put(batch, key_name(e->key), 2, e->type, value.bytes, len, NULL);
    buf_dispose(&value);
    return rc;
}

static syna_rc do_batch(syna_db *db, const struct script_op *op)
{
    syna_batch *batch = NULL;
    SYNA_TRY(db_batch_new(db, &batch));
    syna_rc rc = SYNA_SUCCESS;
    for (uint32_t i = 0; rc == SYNA_SUCCESS && i < op->size; i++) {
        struct script_op e = script_batch_entry(op, i);
        rc = do_batch_entry(batch, &e);
    }
    if (rc == SYNA_SUCCESS)
        rc = db_batch_commit(batch);
    db_batch_free(batch);
    return rc;
}

static syna_rc do_append(syna_db *db, const struct script_op *op)
{
    struct buf bits = {0};
    for (uint32_t i = 0; i < op->size; i++) {
        uint64_t b = script_number(op->type, op->id, i);
        if (!buf_append(&bits, &b, sizeof b)) {
            buf_dispose(&bits);
            return syna_no_memory(sizeof b);
        }
    }
    syna_rc rc = db_append_numbers(db, key_name(op->key), 2, op->type, (const void *)bits.bytes,
                                   NULL, op->size);
    buf_dispose(&bits);
    return rc;
}

static syna_rc do_blob(syna_db *db, const struct script_op *op)
{
    struct buf value = {0};
    syna_blob *blob = NULL;
    size_t len = script_value(SYNA_TYPE_BLOB, op->size, op->id, &value);
    syna_rc rc = len == SIZE_MAX ? syna_no_memory(op->size)
                                 : db_blob_create(db, key_name(op->key), 2, &blob);
    size_t half = len / 2;
    if (rc == SYNA_SUCCESS)
        rc = db_blob_write(blob, value.bytes, half);
    if (rc == SYNA_SUCCESS)
        rc = db_blob_write(blob, value.bytes + half, len - half);
    if (rc == SYNA_SUCCESS)
        rc = db_blob_finish(blob);
    if (blob)
        db_blob_free(blob);
    buf_dispose(&value);
    return rc;
}

const char *script_backup_path(const struct script_run *r, uint32_t id, char *out, size_t cap)
{
    snprintf(out, cap, "%s.backup%u", r->path, id);
    return out;
}

syna_rc script_step(struct script_run *r, const struct script_op *op)
{
    syna_db *db = r->db[op->handle];
    char to[512];
    if (op->kind == DO_OPEN ? db != NULL : db == NULL)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "not a script: the handle is %sopen",
                         db ? "" : "not ");
    switch ((enum script_kind)op->kind) {
    case DO_OPEN:
        return do_open(r, op);
    case DO_CLOSE:
        return do_close(r, op->handle);
    case DO_PUT:
        return do_put(db, op);
    case DO_DELETE:
        return db_delete(db, key_name(op->key), 2, NULL);
    case DO_BATCH:
        return do_batch(db, op);
    case DO_APPEND:
        return do_append(db, op);
    case DO_BLOB:
        return do_blob(db, op);
    case DO_COMPACT:
        return db_compact(db, op->how, NULL, NULL);
    case DO_FLUSH:
        return db_flush(db);
    case DO_BACKUP:
        return db_backup(db, script_backup_path(r, op->id, to, sizeof to), NULL, NULL);
    case DO_KINDS:
        break;
    }
    return SYNA_ERR_INTERNAL;
}

void script_stop(struct script_run *r)
{
    for (uint8_t i = 0; i < SCRIPT_HANDLES; i++)
        if (r->db[i])
            do_close(r, i);
}

/* ---------------------------------------------------------------- digests */

uint64_t script_mix(uint64_t sum, uint64_t word)
{
    return hash_fold(sum ^ 0x9e3779b97f4a7c15u, word ^ 0xd6e8feb86659fd93u) + 1;
}

uint64_t script_digest(int32_t type, const void *data, size_t len)
{
    return script_mix(hash_bytes(7, data ? data : "", len), (uint64_t)type * 1000003u + len) | 1;
}

void script_add_record(struct script_key_state *k, int32_t type, bool deleted, const void *data,
                       size_t len, uint64_t expires, uint64_t time)
{
    uint64_t value = deleted ? 2 : script_digest(type, data, len);
    k->history = script_mix(script_mix(k->history, value), expires);
    k->times = script_mix(k->times, time);
    k->records++;
}

static int32_t on_record(void *context, const syna_record *record)
{
    script_add_record(context, record->type, record->deleted, record->data, record->len,
                      record->expires_us, record->time_us);
    return 0;
}

static syna_rc read_newest(syna_db *db, const char *key, struct script_key_state *k)
{
    uint8_t small[512];
    size_t len = 0;
    int32_t type = 0;
    syna_rc rc = db_get(db, key, 2, small, sizeof small, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS && len <= sizeof small)
        k->newest = script_digest(type, small, len);
    if (rc != SYNA_SUCCESS || len <= sizeof small)
        return rc;
    void *block = NULL;
    rc = db_get_copy(db, key, 2, -1, &block, &len, &type);
    if (rc == SYNA_SUCCESS)
        k->newest = script_digest(type, block, len);
    mem_free(block);
    return rc;
}

static syna_rc read_numbers(syna_db *db, const char *key, int32_t type, struct script_key_state *k)
{
    uint64_t small[128], *bits = small;
    size_t count = 0, again = 0;
    SYNA_TRY(db_history_numbers(db, key, 2, type, small, NULL, COUNT_OF(small), &count));
    if (count > COUNT_OF(small)) {
        bits = mem_alloc(count * sizeof *bits);
        if (!bits)
            return syna_no_memory(count * sizeof *bits);
        syna_rc rc = db_history_numbers(db, key, 2, type, bits, NULL, count, &again);
        if (rc != SYNA_SUCCESS || again != count) {
            mem_free(bits);
            return rc == SYNA_SUCCESS ? SYNA_ERR_INTERNAL : rc;
        }
    }
    k->numbers = script_mix(k->numbers, hash_bytes(3, bits, count * sizeof *bits) + count);
    if (bits != small)
        mem_free(bits);
    return SYNA_SUCCESS;
}

syna_rc script_read(syna_db *db, struct script_state *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < SCRIPT_KEYS; i++) {
        struct script_key_state *k = &out->key[i];
        SYNA_TRY(read_newest(db, key_name(i), k));
        SYNA_TRY(db_history(db, key_name(i), 2, on_record, k));
        SYNA_TRY(read_numbers(db, key_name(i), SYNA_TYPE_FLOAT, k));
        SYNA_TRY(read_numbers(db, key_name(i), SYNA_TYPE_INT, k));
    }
    return db_count(db, &out->live);
}

bool script_same(const struct script_state *a, const struct script_state *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool same_key(const struct script_key_state *a, const struct script_key_state *b)
{
    return a->newest == b->newest && a->history == b->history && a->numbers == b->numbers &&
           a->records == b->records;
}

bool script_same_values(const struct script_state *a, const struct script_state *b)
{
    bool same = a->live == b->live;
    for (uint32_t i = 0; i < SCRIPT_KEYS; i++)
        same = same && same_key(&a->key[i], &b->key[i]);
    return same;
}

static void key_difference(uint32_t key, const struct script_key_state *got,
                           const struct script_key_state *want, char *out, size_t cap)
{
    snprintf(out, cap,
             "%s: newest %s, history %s, times %s, numbers %s; %llu records, expected %llu",
             key_name(key), got->newest == want->newest ? "same" : "differs",
             got->history == want->history ? "same" : "differs",
             got->times == want->times ? "same" : "differ",
             got->numbers == want->numbers ? "same" : "differ", (unsigned long long)got->records,
             (unsigned long long)want->records);
}

void script_difference(const struct script_state *got, const struct script_state *want, char *out,
                       size_t cap)
{
    snprintf(out, cap, "%llu live keys, expected %llu", (unsigned long long)got->live,
             (unsigned long long)want->live);
    for (int times = 0; times <= 1; times++) {
        for (uint32_t i = 0; i < SCRIPT_KEYS; i++) {
            const struct script_key_state *g = &got->key[i], *w = &want->key[i];
            if (times ? g->times == w->times : same_key(g, w))
                continue;
            key_difference(i, g, w, out, cap);
            return;
        }
        if (got->live != want->live)
            return;
    }
}
