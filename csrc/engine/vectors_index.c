/* vectors_index.c - when the graph is built, what is added to it, what is taken out.
 *
 * Up to AUTO_ROWS rows exact search over the codes is as quick as a graph. Beyond, the graph holds rows
 * [0, linked), and the fresh rows behind are searched exactly until there are enough of them to be
 * absorbed: one by one into a large graph, or by building it anew when they are many against it,
 * which costs less. Nothing here holds the state lock while it computes: searches and inserts go on,
 * and wait only for the new links to be put in their places. */
#include "base/internal.h"

#include "engine/vectors_core.h"
#include "index/workers.h"

#define AUTO_ROWS 10000u
#define TAIL_ROWS 4096u   /* fresh rows searched exactly, at most so many for long */
#define REBUILD_SHARE 3u  /* a third as many fresh rows as linked ones: build anew */
#define DEAD_SHARE 8u     /* an eighth of the graph's rows died: lead links past them */
#define RETRAIN_GROWTH 4u /* codes are learned anew when there are so many times the rows */
#define PACK_SLACK 1024u  /* dead rows outnumber the live ones by this: number the rows anew */

/* ---------------------------------------------------------------- building */

struct building {
    syna_progress_fn ask;
    void *context;
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    const struct building *b = context;
    return !b->ask || b->ask(b->context, done, total) == 0;
}

/* What the index functions read; arrays do not move, so a copy stays good while rows are added. */
static struct row_set copy_set(syna_vectors *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    struct row_set set = store->set;
    pthread_rwlock_unlock(&store->state_lock);
    return set;
}

static syna_rc calibrate(syna_vectors *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = hnsw_calibrate(&store->graph, &store->set, vectors_live_bits(store));
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* A step that was learned from few rows clips too many of later ones. */
static syna_rc retrain_when_grown(syna_vectors *store)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    if (store->set.count / RETRAIN_GROWTH > store->trained_of)
        rc = vectors_train(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* index_lock held. */
static syna_rc build(syna_vectors *store, const struct building *b)
{
    struct hnsw fresh;
    struct hnsw_progress progress = {step, (void *)(uintptr_t)b};
    SYNA_TRY(retrain_when_grown(store));
    struct row_set set = copy_set(store);
    SYNA_TRY(hnsw_init(&fresh, store->graph.degree / 2, store->graph.ef_construction));
    syna_rc rc = hnsw_build(&fresh, &set, set.count, store->options.threads, &progress);
    if (rc != SYNA_SUCCESS) {
        hnsw_dispose(&fresh);
        return rc;
    }
    pthread_rwlock_wrlock(&store->state_lock);
    hnsw_replace(&store->graph, &fresh);
    store->dead_linked = 0;
    store->changes += store->graph.linked;
    pthread_rwlock_unlock(&store->state_lock);
    return calibrate(store);
}

static syna_rc ensure_trained(syna_vectors *store)
{
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = vectors_trained(store) || store->set.count == 0 ? SYNA_SUCCESS : vectors_train(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

syna_rc vectors_build_index(syna_vectors *store, syna_progress_fn progress, void *context)
{
    struct building b = {progress, context};
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = ensure_trained(store);
    if (rc == SYNA_SUCCESS && vectors_count(store) > 0)
        rc = build(store, &b);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}

bool vectors_has_index(syna_vectors *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    bool has = store->graph.linked > 0;
    pthread_rwlock_unlock(&store->state_lock);
    return has;
}

/* ---------------------------------------------------------------- small changes */

static syna_rc apply_plan(syna_vectors *store, const struct hnsw_plan *plan, bool repaired)
{
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = hnsw_apply(&store->graph, &store->set, plan);
    if (rc == SYNA_SUCCESS && repaired)
        store->dead_linked = 0;
    store->changes++;
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc absorb(syna_vectors *store)
{
    struct row_set set = copy_set(store);
    struct hnsw_plan plan;
    SYNA_TRY(hnsw_plan_insert(&store->graph, &set, set.count - store->graph.linked, &plan));
    syna_rc rc = apply_plan(store, &plan, false);
    hnsw_plan_dispose(&plan);
    return rc;
}

static syna_rc repair(syna_vectors *store)
{
    struct hnsw_plan plan;
    pthread_rwlock_rdlock(&store->state_lock);
    struct row_set set = store->set;
    size_t bytes = (set.count / 64 + 1) * sizeof(uint64_t);
    uint64_t *live = mem_alloc(bytes);
    if (live)
        memcpy(live, store->live.tail, bytes);
    pthread_rwlock_unlock(&store->state_lock);
    if (!live)
        return syna_no_memory(bytes);
    syna_rc rc = hnsw_plan_repair(&store->graph, &set, live, &plan);
    mem_free(live);
    SYNA_TRY(rc);
    rc = apply_plan(store, &plan, true);
    hnsw_plan_dispose(&plan);
    return rc;
}

/* ---------------------------------------------------------------- when */

enum work { NOTHING, TRAIN, PACK, BUILD, ABSORB, REPAIR };

static enum work next_work(syna_vectors *store)
{
    enum work work = NOTHING;
    pthread_rwlock_rdlock(&store->state_lock);
    const struct row_set *set = &store->set;
    uint32_t linked = store->graph.linked, fresh = set->count - linked;
    if (store->promised == 0 &&
        set->count - store->live_count > (uint64_t)store->live_count + PACK_SLACK)
        work = PACK;
    else if (!vectors_trained(store))
        work = set->count >= VECTORS_TRAIN_ROWS ? TRAIN : NOTHING;
    else if (store->options.index == SYNA_INDEX_FLAT)
        work = NOTHING;
    else if (linked == 0)
        work = store->live_count >= AUTO_ROWS ? BUILD : NOTHING;
    else if (fresh > TAIL_ROWS)
        work = fresh > linked / REBUILD_SHARE ? BUILD : ABSORB;
    else if (store->dead_linked > linked / DEAD_SHARE)
        work = REPAIR;
    pthread_rwlock_unlock(&store->state_lock);
    return work;
}

static syna_rc pack_if_still(syna_vectors *store)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    if (store->promised == 0)
        rc = vectors_pack(store);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc do_work(syna_vectors *store, enum work work)
{
    static const struct building quiet = {NULL, NULL};
    switch (work) {
    case PACK:
        return pack_if_still(store);
    case TRAIN:
        return ensure_trained(store);
    case BUILD:
        return build(store, &quiet);
    case ABSORB:
        return absorb(store);
    case REPAIR:
        return repair(store);
    default:
        return SYNA_SUCCESS;
    }
}

/* Whoever finds somebody at work leaves it to him: the rows are searchable as they are. */
syna_rc vectors_maintain(syna_vectors *store)
{
    syna_rc rc = SYNA_SUCCESS;
    if (LIKELY(next_work(store) == NOTHING) || pthread_mutex_trylock(&store->index_lock) != 0)
        return SYNA_SUCCESS;
    for (int rounds = 0; rc == SYNA_SUCCESS && rounds < 4; rounds++) {
        enum work work = next_work(store);
        if (work == NOTHING)
            break;
        rc = do_work(store, work);
    }
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}
