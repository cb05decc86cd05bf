/* hybrid_update.c - change the metadata of a row: its newest vector is ingested again with the new text, so
 * the change is one row of the hot layer, whichever layer the old one is in. */
#include "base/internal.h"

#include "engine/hybrid_core.h"
#include "engine/meta_merge.h"

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
    SYNA_TRY(meta_merge(u->old, old_len, u->json, u->len, &u->merged));
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
    SYNA_TRY(hybrid_check_writer(store));
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
