/* hybrid_refresh.c - what a store that is opened read-only sees: the newest checkpoint of each layer, beside
 * whoever writes.
 *
 * The two are of one moment, as a crash at that moment would leave them, so every key has one row: the hot
 * file is looked at first, then the cold one, until the hot one has not changed meanwhile. Should a
 * writer be quicker every time, the hot checkpoint is the older one. Then rows that were promoted meanwhile
 * are seen where they were, and still none is missed: a row leaves the hot layer only when a checkpoint of
 * the cold one covers it (rule 1 of hybrid_core.h), and that one is looked at later.
 *
 * Between the two looks rows may be in neither layer, so whoever reads waits (`view_lock`); not for the
 * indexes, which are brought up to date afterwards: until then new rows are compared one by one. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

#define LOOKS_MAX 16u

syna_rc hybrid_check_writer(const syna_layers *store)
{
    if (store->writer)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_READ_ONLY, store->hot_path, -1, 0,
                        "opened read-only");
}

/* ---------------------------------------------------------------- views */

syna_rc hybrid_begin_view(syna_layers *store)
{
    if (store->writer)
        return SYNA_SUCCESS;
    pthread_rwlock_rdlock(&store->view_lock);
    if (!store->torn)
        return SYNA_SUCCESS;
    pthread_rwlock_unlock(&store->view_lock);
    return syna_fail_at(SYNA_ERR_IO, SYNA_WHY_NONE, store->hot_path, -1, 0,
                        "the last refresh failed half way; refresh again");
}

void hybrid_end_view(syna_layers *store)
{
    if (!store->writer)
        pthread_rwlock_unlock(&store->view_lock);
}

/* ---------------------------------------------------------------- looking */

/* view_lock is held exclusively, or nobody else has the store. */
static syna_rc look(syna_layers *store, bool *hot_changed, bool *cold_changed)
{
    for (uint32_t looks = 0; looks < LOOKS_MAX; looks++) {
        bool hot, cold;
        SYNA_TRY(gwi_look(store->hot, &hot));
        *hot_changed |= hot;
        if (looks > 0 && !hot)
            break;
        SYNA_TRY(cascade_store_look(store->cold, &cold));
        *cold_changed |= cold;
    }
    return SYNA_SUCCESS;
}

static syna_rc look_exclusively(syna_layers *store, bool *hot, bool *cold)
{
    bool torn = store->torn;
    store->torn = true;
    SYNA_TRY(look(store, hot, cold));
    if (torn || *hot || *cold)
        SYNA_TRY(hybrid_take_keys(store));
    store->torn = false;
    return SYNA_SUCCESS;
}

/* The layers were opened one after the other; now they are of one moment. */
syna_rc hybrid_first_look(syna_layers *store)
{
    bool hot = false, cold = false;
    SYNA_TRY(look(store, &hot, &cold));
    if (hot)
        SYNA_TRY(gwi_tend(store->hot));
    return cold ? cascade_store_tend(store->cold) : SYNA_SUCCESS;
}

syna_rc hybrid_refresh(syna_layers *store, bool *changed)
{
    bool hot = false, cold = false;
    *changed = false;
    if (store->writer)
        return SYNA_SUCCESS; /* nobody else writes */
    pthread_rwlock_wrlock(&store->view_lock);
    syna_rc rc = look_exclusively(store, &hot, &cold);
    pthread_rwlock_unlock(&store->view_lock);
    SYNA_TRY(rc);
    *changed = hot || cold;
    if (hot)
        SYNA_TRY(gwi_tend(store->hot));
    return cold ? cascade_store_tend(store->cold) : SYNA_SUCCESS;
}
