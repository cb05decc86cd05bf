/* hybrid_save.c - what makes rows durable: checkpoints of the two layers, in the order that the rules of
 * hybrid_core.h ask for, and compactions, which are checkpoints too. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

/* ---------------------------------------------------------------- checkpoints */

syna_rc hybrid_checkpoint_cold(syna_layers *store)
{
    SYNA_TRY(cascade_store_flush(store->cold));
    store->cold_deletions = false;
    return SYNA_SUCCESS;
}

syna_rc hybrid_checkpoint_hot(syna_layers *store)
{
    if (store->cold_deletions) /* rule 2 */
        SYNA_TRY(hybrid_checkpoint_cold(store));
    SYNA_TRY(gwi_flush(store->hot));
    store->hot_drops = false;
    return SYNA_SUCCESS;
}

syna_rc hybrid_flush_hot(syna_layers *store)
{
    SYNA_TRY(hybrid_check_writer(store));
    pthread_mutex_lock(&store->gate);
    syna_rc rc = hybrid_checkpoint_hot(store);
    pthread_mutex_unlock(&store->gate);
    return rc;
}

static syna_rc save_cold_at_gate(syna_layers *store)
{
    if (store->hot_drops) /* what was promoted is durable for good when it left the hot layer */
        SYNA_TRY(hybrid_checkpoint_hot(store));
    return hybrid_checkpoint_cold(store);
}

/* The index is written first, without the gate: deletions need not wait for that. */
syna_rc hybrid_save_cold(syna_layers *store)
{
    SYNA_TRY(hybrid_check_writer(store));
    SYNA_TRY(cascade_store_save(store->cold));
    pthread_mutex_lock(&store->gate);
    syna_rc rc = save_cold_at_gate(store);
    pthread_mutex_unlock(&store->gate);
    return rc;
}

syna_rc hybrid_save(syna_layers *store)
{
    SYNA_TRY(hybrid_save_cold(store));
    return hybrid_flush_hot(store);
}

/* ---------------------------------------------------------------- compaction */

static syna_rc compact_hot(syna_layers *store, syna_progress_fn progress, void *context)
{
    SYNA_TRY(hybrid_checkpoint_hot(store));
    return gwi_compact(store->hot, progress, context);
}

static syna_rc compact_both(syna_layers *store, syna_progress_fn progress, void *context)
{
    pthread_mutex_lock(&store->gate);
    syna_rc rc = compact_hot(store, progress, context);
    pthread_mutex_unlock(&store->gate);
    return rc == SYNA_SUCCESS ? cascade_store_compact(store->cold, progress, context) : rc;
}

syna_rc hybrid_compact(syna_layers *store, syna_progress_fn progress, void *context)
{
    SYNA_TRY(hybrid_check_writer(store));
    pthread_mutex_lock(&store->promote_lock);
    syna_rc rc = compact_both(store, progress, context);
    pthread_mutex_unlock(&store->promote_lock);
    return rc;
}
