/* vectors_index.c - when the graph is built, what is added to it, what is taken out.
 *
 * Up to AUTO_ROWS rows exact search over the codes is as quick as a graph. Beyond, the graph holds rows
 * [0, linked), and the fresh rows behind are searched exactly until there are enough of them to be
 * absorbed: one by one into a large graph, or by building it anew when they are many against it,
 * which costs less. The absorber does so (vectors_absorber.c), or, where there is none, the call that
 * wrote the row that was one too many. Nothing here holds the state lock while it computes: searches and
 * inserts go on, and wait only for the new links to be put in their places. */
#include "base/internal.h"

#include "engine/vectors_core.h"
#include "index/workers.h"

#define AUTO_ROWS 10000u
#define TAIL_ROWS 4096u   /* fresh rows searched exactly, at most so many for long, where writers absorb */
#define BESIDE_ROWS 1024u /* the same where nobody waits for it */
#define SLICE_ROWS 1024u  /* absorbed at once: new links are put in place in milliseconds */
#define REBUILD_SHARE 3u  /* a third as many fresh rows as linked ones: build anew */
#define DEAD_SHARE 8u     /* an eighth of the graph's rows died: lead links past them */
#define RETRAIN_GROWTH 4u /* codes are learned anew when there are so many times the rows */
#define PACK_SLACK 1024u  /* dead rows outnumber the live ones by this: number the rows anew */

/* ---------------------------------------------------------------- building */

/* Who may stop it. */
struct building {
    syna_progress_fn ask;
    void *context;
    const bool *stop; /* atomic; NULL = nobody */
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    const struct building *b = context;
    if (b->stop && __atomic_load_n(b->stop, __ATOMIC_RELAXED))
        return false;
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
    return vectors_calibrate(store);
}

static syna_rc ensure_trained(syna_vectors *store)
{
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = vectors_trained(store) || store->set.count == 0 ? SYNA_SUCCESS : vectors_train(store);
    pthread_rwlock_unlock(&store->state_lock);
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

static syna_rc absorb_slice(syna_vectors *store, const struct row_set *set, uint32_t count)
{
    struct hnsw_plan plan;
    SYNA_TRY(hnsw_plan_insert(&store->graph, set, count, &plan));
    syna_rc rc = apply_plan(store, &plan, false);
    hnsw_plan_dispose(&plan);
    return rc;
}

/* The rows that are there now. */
static syna_rc absorb(syna_vectors *store, const struct building *b)
{
    struct row_set set = copy_set(store);
    uint32_t first = store->graph.linked;
    while (store->graph.linked < set.count) {
        if (!step((void *)(uintptr_t)b, store->graph.linked - first, set.count - first))
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED,
                             "stopped; %u of %u rows were taken into the graph",
                             store->graph.linked - first, set.count - first);
        SYNA_TRY(absorb_slice(store, &set, MIN(SLICE_ROWS, set.count - store->graph.linked)));
    }
    return SYNA_SUCCESS;
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

enum work { NOTHING, TRAIN, PACK, BUILD, ABSORB, REPAIR, CHECK };

static enum work work_on_graph(const syna_vectors *store, uint32_t tail_rows)
{
    uint32_t linked = store->graph.linked, fresh = store->set.count - linked;
    if (store->options.index == SYNA_INDEX_FLAT)
        return NOTHING;
    if (linked == 0)
        return store->live_count >= AUTO_ROWS ? BUILD : NOTHING;
    if (__atomic_load_n(&store->graph.damaged, __ATOMIC_RELAXED))
        return BUILD;
    if (fresh > tail_rows)
        return fresh > linked / REBUILD_SHARE ? BUILD : ABSORB;
    if (store->dead_linked > linked / DEAD_SHARE)
        return REPAIR;
    /* Searches check what they follow, so nobody else need wait for it. */
    return store->absorber.on && __atomic_load_n(&store->graph.unsure, __ATOMIC_RELAXED) ? CHECK : NOTHING;
}

static enum work next_work(syna_vectors *store, uint32_t tail_rows)
{
    enum work work = NOTHING;
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t count = store->set.count;
    if (store->promised == 0 &&
        count - store->live_count > (uint64_t)store->live_count + PACK_SLACK)
        work = PACK;
    else if (!vectors_trained(store))
        work = count >= VECTORS_TRAIN_ROWS && store->live_count > 0 && store->codes != SYNA_CODES_NONE
                   ? TRAIN
                   : NOTHING;
    else
        work = work_on_graph(store, tail_rows);
    pthread_rwlock_unlock(&store->state_lock);
    return work;
}

static uint32_t tail_limit(const syna_vectors *store)
{
    return store->absorber.on ? BESIDE_ROWS : TAIL_ROWS;
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

/* index_lock held. */
static syna_rc do_work(syna_vectors *store, enum work work, const struct building *b)
{
    if ((work == ABSORB || work == REPAIR || work == CHECK) && !hnsw_check(&store->graph, b->stop))
        return SYNA_SUCCESS; /* damaged: to be built next; or given up */
    switch (work) {
    case PACK:
        return pack_if_still(store);
    case TRAIN:
        return ensure_trained(store);
    case BUILD:
        return build(store, b);
    case ABSORB:
        return absorb(store, b);
    case REPAIR:
        return repair(store);
    default:
        return SYNA_SUCCESS;
    }
}

bool vectors_needs_upkeep(syna_vectors *store)
{
    return next_work(store, tail_limit(store)) != NOTHING;
}

syna_rc vectors_upkeep(syna_vectors *store, const bool *stop)
{
    const struct building b = {.stop = stop};
    return do_work(store, next_work(store, tail_limit(store)), &b);
}

/* What is left to do so that no row is fresh; index_lock held. */
static syna_rc do_all(syna_vectors *store, uint32_t tail_rows, const struct building *b)
{
    syna_rc rc = SYNA_SUCCESS;
    for (int rounds = 0; rc == SYNA_SUCCESS && rounds < 4; rounds++) {
        enum work work = next_work(store, tail_rows);
        if (work == NOTHING)
            break;
        rc = do_work(store, work, b);
    }
    return rc;
}

/* Codes are learned at once: it takes a millisecond, and every search is the quicker for it. Rows are
 * packed at once, lest a writer that is quicker than the absorber make them grow without end. */
static syna_rc do_short_work(syna_vectors *store)
{
    static const struct building quiet = {NULL, NULL, NULL};
    enum work work = next_work(store, tail_limit(store));
    if ((work != TRAIN && work != PACK) || pthread_mutex_trylock(&store->index_lock) != 0)
        return SYNA_SUCCESS;
    syna_rc rc = do_work(store, next_work(store, tail_limit(store)) == work ? work : NOTHING, &quiet);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}

/* Whoever finds somebody at work leaves it to him: the rows are searchable as they are. */
syna_rc vectors_maintain(syna_vectors *store)
{
    static const struct building quiet = {NULL, NULL, NULL};
    if (LIKELY(!vectors_needs_upkeep(store)))
        return SYNA_SUCCESS;
    if (store->absorber.on) {
        SYNA_TRY(do_short_work(store));
        if (!vectors_needs_upkeep(store) || absorber_wake(store))
            return SYNA_SUCCESS;
    }
    if (pthread_mutex_trylock(&store->index_lock) != 0)
        return SYNA_SUCCESS;
    syna_rc rc = do_all(store, tail_limit(store), &quiet);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}

/* ---------------------------------------------------------------- when it is asked for */

static syna_rc build_all(syna_vectors *store, const struct building *b)
{
    if (store->codes == SYNA_CODES_NONE) /* changes under index_lock only */
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "its quantization is none: without codes there is no graph");
    SYNA_TRY(ensure_trained(store));
    return vectors_count(store) > 0 ? build(store, b) : SYNA_SUCCESS;
}

syna_rc vectors_build_index(syna_vectors *store, syna_progress_fn progress, void *context)
{
    const struct building b = {.ask = progress, .context = context};
    absorber_hold(store);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = build_all(store, &b);
    pthread_mutex_unlock(&store->index_lock);
    absorber_resume(store);
    return rc;
}

syna_rc vectors_absorb(syna_vectors *store, syna_progress_fn progress, void *context)
{
    const struct building b = {.ask = progress, .context = context};
    absorber_hold(store);
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = do_all(store, 0, &b);
    pthread_mutex_unlock(&store->index_lock);
    absorber_resume(store);
    return rc;
}
