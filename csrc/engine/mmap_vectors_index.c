/* mmap_vectors_index.c - when the graph of a mapped store is built, what is added to it, what is taken
 * out.
 *
 * Inserts run at memory speed, so they never touch the graph: with an index there they encode their
 * rows, which are found by exact search over the codes from then on. build_index links whatever is not
 * linked yet, or builds anew where that costs less; a checkpoint links a bounded number of rows, so
 * that a store which is saved now and then stays quick by itself. Nothing here holds write_lock or
 * state_lock while it computes. */
#include "base/internal.h"

#include "engine/mmap_vectors_core.h"
#include "index/workers.h"

#define TAIL_ROWS 4096u    /* so many fresh rows are searched exactly without asking */
#define ABSORB_ROWS 8192u  /* linked by one checkpoint, at most */
#define ABSORB_STEP 1024u  /* linked between two looks at the caller's progress function */
#define REBUILD_SHARE 4u   /* a quarter as many fresh or dead rows as linked ones: build anew */
#define DEAD_SHARE 8u      /* an eighth of the graph's rows died: lead links past them */
#define RETRAIN_GROWTH 4u  /* codes are learned anew when there are so many times the rows */
#define SAVE_SHARE 4u      /* a quarter of the graph changed: a checkpoint saves it */
#define CLOSE_SHARE 10u    /* the same at the end */

struct building {
    syna_progress_fn ask;
    void *context;
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    const struct building *b = context;
    return !b->ask || b->ask(b->context, done, total) == 0;
}

static syna_rc ask(const struct building *b, uint64_t done, uint64_t total)
{
    if (step((void *)(uintptr_t)b, done, total))
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED,
                     "building the index: cancelled by its progress callback");
}

static syna_rc take_moment(syna_mmap *store, struct mmap_moment *moment)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = mmap_moment_take(&store->rows, moment);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- building */

/* Put an index in the place of the store's own, with codes for what was written meanwhile. */
static syna_rc put_index(syna_mmap *store, struct mmap_index *fresh)
{
    pthread_mutex_lock(&store->write_lock);
    syna_rc rc = mmap_index_catch_up(fresh, &store->rows);
    struct mmap_index *old = fresh;
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_wrlock(&store->state_lock);
        mmap_index_count_dead(fresh, &store->rows);
        old = store->index;
        store->index = fresh;
        pthread_rwlock_unlock(&store->state_lock);
    }
    pthread_mutex_unlock(&store->write_lock);
    mmap_index_free(old);
    return rc;
}

static syna_rc build(syna_mmap *store, const struct building *b)
{
    struct mmap_moment moment;
    struct mmap_index *fresh;
    struct hnsw_progress progress = {step, (void *)(uintptr_t)b};
    SYNA_TRY(take_moment(store, &moment));
    syna_rc rc = SYNA_SUCCESS;
    if (moment.count > 0) {
        rc = mmap_index_build(&moment, store->dims, store->metric, workers_available(), &progress,
                              &fresh);
        if (rc == SYNA_SUCCESS)
            rc = put_index(store, fresh);
    }
    struct status_record why = *status_get();
    mmap_moment_free(&moment);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- small changes */

/* What plans read. The store's index is replaced by nobody while index_lock is held. */
static struct row_set plan_set(syna_mmap *store, struct mmap_reader *reader)
{
    pthread_rwlock_rdlock(&store->state_lock);
    struct row_set set =
        mmap_index_set(store->index, &store->rows.norms, store->rows.file, reader);
    pthread_rwlock_unlock(&store->state_lock);
    return set;
}

static syna_rc apply_plan(syna_mmap *store, const struct row_set *set, const struct hnsw_plan *plan)
{
    struct mmap_index *index = store->index;
    pthread_rwlock_wrlock(&store->state_lock);
    uint32_t before = index->graph.linked;
    syna_rc rc = hnsw_apply(&index->graph, set, plan);
    index->changes += index->graph.linked - before;
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

static syna_rc absorb(syna_mmap *store, uint32_t count)
{
    struct mmap_reader reader;
    struct hnsw_plan plan;
    struct row_set set = plan_set(store, &reader);
    SYNA_TRY(hnsw_plan_insert(&store->index->graph, &set, count, &plan));
    syna_rc rc = apply_plan(store, &set, &plan);
    hnsw_plan_dispose(&plan);
    return rc;
}

syna_rc mmap_vectors_repair(syna_mmap *store)
{
    struct mmap_index *index = store->index;
    struct mmap_reader reader;
    struct mmap_moment moment;
    struct hnsw_plan plan;
    if (!index || index->dead_linked == 0)
        return SYNA_SUCCESS;
    SYNA_TRY(take_moment(store, &moment));
    struct row_set set = plan_set(store, &reader);
    syna_rc rc = hnsw_plan_repair(&index->graph, &set, moment.live, &plan);
    if (rc == SYNA_SUCCESS) {
        rc = apply_plan(store, &set, &plan);
        hnsw_plan_dispose(&plan);
    }
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_wrlock(&store->state_lock);
        index->changes += index->dead_linked;
        mmap_index_count_dead(index, &store->rows);
        pthread_rwlock_unlock(&store->state_lock);
    }
    struct status_record why = *status_get();
    mmap_moment_free(&moment);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- what is to do */

struct upkeep {
    uint32_t rows, linked, dead, live;
    bool rebuild;
};

static struct upkeep look(syna_mmap *store)
{
    struct upkeep u = {0};
    pthread_rwlock_rdlock(&store->state_lock);
    const struct mmap_index *index = store->index;
    u.rows = store->rows.count;
    u.live = store->rows.live;
    if (index) {
        u.linked = index->graph.linked;
        u.dead = index->dead_linked;
        u.rebuild = u.rows - u.linked > u.linked / REBUILD_SHARE ||
                    u.dead > u.linked / REBUILD_SHARE ||
                    u.rows / RETRAIN_GROWTH > index->trained_of ||
                    u.linked / 2 > index->graph.calibrated;
    }
    pthread_rwlock_unlock(&store->state_lock);
    return u;
}

/* Link the fresh rows, some at a time. */
static syna_rc extend(syna_mmap *store, const struct building *b, uint32_t rows)
{
    for (uint32_t linked; (linked = store->index->graph.linked) < rows;) {
        SYNA_TRY(ask(b, linked, rows));
        SYNA_TRY(absorb(store, MIN(ABSORB_STEP, rows - linked)));
    }
    return ask(b, rows, rows);
}

static syna_rc build_or_extend(syna_mmap *store, const struct building *b)
{
    struct upkeep u = look(store);
    SYNA_TRY(ask(b, 0, u.rows));
    if (u.linked == 0 || u.rebuild) {
        SYNA_TRY(build(store, b));
        u = look(store);
    }
    if (u.linked == 0)
        return ask(b, u.rows, u.rows); /* no rows */
    if (u.dead > u.linked / DEAD_SHARE)
        SYNA_TRY(mmap_vectors_repair(store));
    return extend(store, b, u.rows);
}

/* ---------------------------------------------------------------- the file */

/* The last row that the newest checkpoint covers and its record; false when the graph has others. */
static bool find_saved(syna_mmap *store, uint32_t *count, uint64_t *offset)
{
    bool found = false;
    pthread_rwlock_rdlock(&store->state_lock);
    const struct rowfile *file = store->rows.file;
    uint64_t rows = __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
    if (store->index && rows > 0 && rows >= store->index->graph.linked) {
        *count = (uint32_t)rows;
        *offset = mmap_rows_offset(&store->rows, *count - 1);
        found = true;
    }
    pthread_rwlock_unlock(&store->state_lock);
    return found;
}

/* Save the index if enough of it changed. checkpoint_lock and index_lock are held, so that neither the
 * file nor the graph becomes another; what came since the checkpoint is left out. */
static void save_index(syna_mmap *store, uint32_t share)
{
    struct status_record why = *status_get();
    uint32_t count;
    uint64_t offset;
    struct mmap_index *index = store->index;
    if (index && index->changes > index->graph.linked / share && find_saved(store, &count, &offset))
        mmap_index_save(index, store->index_path, store->rows.file, count, offset);
    status_set(&why);
}

void mmap_vectors_save_index(syna_mmap *store)
{
    save_index(store, UINT32_MAX);
}

void mmap_vectors_tend_index(syna_mmap *store, bool closing)
{
    struct status_record why = *status_get();
    if (pthread_mutex_trylock(&store->index_lock) != 0)
        return; /* it is being built */
    struct upkeep u = look(store);
    uint32_t saved = (uint32_t)__atomic_load_n(&store->rows.file->checkpoint_rows, __ATOMIC_RELAXED);
    if (!closing && u.linked > 0 && saved > u.linked && saved - u.linked > TAIL_ROWS)
        absorb(store, MIN(saved - u.linked, ABSORB_ROWS));
    save_index(store, closing ? CLOSE_SHARE : SAVE_SHARE);
    pthread_mutex_unlock(&store->index_lock);
    status_set(&why);
}

syna_rc mmap_vectors_load_index(syna_mmap *store)
{
    struct mmap_index *found;
    syna_rc rc =
        mmap_index_load(store->index_path, &store->rows, store->dims, store->metric, &found);
    if (rc == SYNA_ERR_SERIALIZATION) /* a damaged row: told when it is read */
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    if (found) {
        mmap_index_free(store->index);
        store->index = found;
    }
    return SYNA_SUCCESS;
}

void mmap_vectors_drop_index(syna_mmap *store)
{
    mmap_index_free(store->index);
    store->index = NULL;
}

syna_rc mmap_vectors_follow_index(syna_mmap *store)
{
    struct mmap_index *index = store->index;
    if (index && mmap_index_catch_up(index, &store->rows) != SYNA_SUCCESS)
        mmap_vectors_drop_index(store);
    else if (index)
        mmap_index_count_dead(index, &store->rows);
    if (!store->index || store->rows.count - store->index->graph.linked > TAIL_ROWS)
        return mmap_vectors_load_index(store);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- compaction */

syna_rc mmap_vectors_before_renumber(syna_mmap *store, struct mmap_renumbering *r)
{
    const struct mmap_index *index = store->index;
    *r = (struct mmap_renumbering){0};
    if (!index || index->dead_linked > index->graph.linked / 2)
        return SYNA_SUCCESS; /* too little would be left of the graph */
    SYNA_TRY(mmap_vectors_repair(store));
    return mmap_renumber_begin(r, index);
}

void mmap_vectors_renumber(syna_mmap *store, struct mmap_renumbering *r, const uint32_t *numbers,
                           uint32_t count)
{
    struct mmap_index *index = store->index;
    if (!index)
        return;
    if (r->graph.degree == 0 || store->rows.count == 0) {
        mmap_vectors_drop_index(store);
        return;
    }
    mmap_renumber_finish(r, index, numbers, count);
    mmap_index_count_dead(index, &store->rows);
}

/* ---------------------------------------------------------------- calls */

/* What was built is worth keeping: it becomes durable, with the rows that it is of. */
static syna_rc keep(syna_mmap *store)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    syna_rc rc = mmap_vectors_save(store);
    pthread_mutex_lock(&store->index_lock);
    if (rc == SYNA_SUCCESS)
        mmap_vectors_save_index(store);
    pthread_mutex_unlock(&store->index_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
    return rc;
}

syna_rc mmap_vectors_build_index(syna_mmap *store, syna_progress_fn progress, void *context)
{
    struct building b = {progress, context};
    SYNA_TRY(mmap_vectors_check_writable(store));
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = mmap_vectors_note_damage(store, build_or_extend(store, &b));
    pthread_mutex_unlock(&store->index_lock);
    return rc == SYNA_SUCCESS ? keep(store) : rc;
}

bool mmap_vectors_has_index(syna_mmap *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    bool has = store->index && store->index->graph.linked > 0;
    pthread_rwlock_unlock(&store->state_lock);
    return has;
}
