/* hybrid_update.c - change the metadata of a row: its newest vector is ingested again with the new text, so
 * the change is one row of the hot layer, whichever layer the old one is in. */
#include "base/internal.h"

#include "base/json.h"
#include "engine/hybrid_core.h"
#include "engine/meta.h"

/* ---------------------------------------------------------------- merging two objects */

/* The bytes that a name means; two names may be written in different ways. */
static bool name_bytes(const struct json_string *name, struct buf *out)
{
    out->len = 0;
    if (!buf_reserve(out, name->len))
        return false;
    out->len = json_unescape(name, (char *)out->bytes);
    return true;
}

static bool has_field(const char *json, size_t len, const struct buf *wanted)
{
    struct json j;
    struct json_string name;
    json_begin(&j, json, len);
    for (json_enter(&j); json_next_member(&j, &name); json_skip(&j))
        if (json_string_is(&name, (const char *)wanted->bytes, wanted->len))
            return true;
    return false;
}

static bool put_field(struct buf *out, const struct json_string *name, const char *value, size_t len)
{
    return (out->len == 1 || json_put_text(out, ",")) && json_put_text(out, "\"") &&
           buf_append(out, name->raw, name->len) && json_put_text(out, "\":") &&
           buf_append(out, value, len);
}

/* The fields of an object that `but` (len 0: nothing) has none of the same name for. */
static bool put_fields(struct buf *out, const char *json, size_t len, const char *but,
                       size_t but_len)
{
    struct json j;
    struct json_string name;
    struct buf meant = {0};
    bool enough = true;
    json_begin(&j, json, len);
    for (json_enter(&j); enough && json_next_member(&j, &name);) {
        const char *value = j.at;
        json_skip(&j);
        enough = name_bytes(&name, &meant);
        if (enough && (but_len == 0 || !has_field(but, but_len, &meant)))
            enough = put_field(out, &name, value, (size_t)(j.at - value));
    }
    buf_dispose(&meant);
    return enough;
}

/* Both texts passed meta_check. */
static syna_rc merge(const char *old, size_t old_len, const char *json, size_t len, struct buf *out)
{
    if (json_put_text(out, "{") && put_fields(out, old, old_len, json, len) &&
        put_fields(out, json, len, NULL, 0) && json_put_text(out, "}"))
        return SYNA_SUCCESS;
    return syna_no_memory(old_len + len);
}

/* ---------------------------------------------------------------- one row */

struct update {
    syna_layers *store;
    const char *key;
    size_t key_len;
    const char *json; /* NULL: no metadata */
    size_t len;
    float *vector;
    char *old;
    struct buf merged;
};

static syna_rc take_old(struct update *u, bool replace)
{
    size_t old_len;
    if (replace || !u->json)
        return SYNA_SUCCESS;
    SYNA_TRY(hybrid_get_metadata(u->store, u->key, u->key_len, &u->old, &old_len));
    if (!u->old)
        return SYNA_SUCCESS;
    SYNA_TRY(merge(u->old, old_len, u->json, u->len, &u->merged));
    u->json = (const char *)u->merged.bytes;
    u->len = u->merged.len;
    return SYNA_SUCCESS;
}

/* write_lock is held: the row does not change between reading and storing. */
static syna_rc update_locked(struct update *u, bool replace)
{
    uint32_t dims = u->store->dims;
    size_t added;
    u->vector = mem_alloc(dims * sizeof *u->vector);
    if (!u->vector)
        return syna_no_memory(dims * sizeof *u->vector);
    SYNA_TRY(hybrid_get(u->store, u->key, u->key_len, u->vector, dims));
    SYNA_TRY(take_old(u, replace));
    struct gwi_batch batch = {.keys = &u->key,
                              .key_lens = &u->key_len,
                              .vectors = u->vector,
                              .metadata = &u->json,
                              .metadata_lens = &u->len,
                              .dims = dims,
                              .count = 1};
    return hybrid_ingest_locked(u->store, &batch, &added);
}

syna_rc hybrid_update_metadata(syna_layers *store, const char *key, size_t key_len, const char *json,
                               size_t len, bool replace)
{
    struct update u = {.store = store, .key = key, .key_len = key_len, .json = json, .len = len};
    if (json)
        SYNA_TRY(meta_check(json, len));
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = update_locked(&u, replace);
    pthread_mutex_unlock(&store->write_lock);
    mem_free(u.vector);
    mem_free(u.old);
    buf_dispose(&u.merged);
    if (rc == SYNA_SUCCESS)
        promoter_wake(store);
    return rc;
}
