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

static syna_rc take_moment(syna_mmap *store, struct row_moment *moment)
{
    pthread_rwlock_rdlock(&store->base.state_lock);
    syna_rc rc = row_moment_take(&store->base.rows, moment);
    pthread_rwlock_unlock(&store->base.state_lock);
    return rc;
}

/* ---------------------------------------------------------------- building */

/* Put an index in the place of the store's own, with codes for what was written meanwhile. */
static syna_rc put_index(syna_mmap *store, struct mmap_index *fresh)
{
    pthread_mutex_lock(&store->base.write_lock);
    syna_rc rc = mmap_index_catch_up(fresh, &store->base.rows);
    struct mmap_index *old = fresh;
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_wrlock(&store->base.state_lock);
        mmap_index_count_dead(fresh, &store->base.rows);
        old = store->index;
        store->index = fresh;
        pthread_rwlock_unlock(&store->base.state_lock);
    }
    pthread_mutex_unlock(&store->base.write_lock);
    mmap_index_free(old);
    return rc;
}

static syna_rc build(syna_mmap *store, const struct building *b)
{
    struct row_moment moment;
    struct mmap_index *fresh;
    struct hnsw_progress progress = {step, (void *)(uintptr_t)b};
    SYNA_TRY(take_moment(store, &moment));
    syna_rc rc = SYNA_SUCCESS;
    if (moment.count > 0) {
        rc = mmap_index_build(&moment, store->base.dims, store->base.metric, workers_available(), &progress,
                              &fresh);
        if (rc == SYNA_SUCCESS)
            rc = put_index(store, fresh);
    }
    struct status_record why = *status_get();
    row_moment_free(&moment);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* ---------------------------------------------------------------- small changes */

/* What plans read. The store's index is replaced by nobody while index_lock is held. */
static struct row_set plan_set(syna_mmap *store, struct row_reader *reader)
{
    pthread_rwlock_rdlock(&store->base.state_lock);
    struct row_set set =
        mmap_index_set(store->index, &store->base.rows.norms, store->base.rows.file, reader);
    pthread_rwlock_unlock(&store->base.state_lock);
    return set;
}

static syna_rc apply_plan(syna_mmap *store, const struct row_set *set, const struct hnsw_plan *plan)
{
    struct mmap_index *index = store->index;
    pthread_rwlock_wrlock(&store->base.state_lock);
    uint32_t before = index->graph.linked;
    syna_rc rc = hnsw_apply(&index->graph, set, plan);
    index->changes += index->graph.linked - before;
    pthread_rwlock_unlock(&store->base.state_lock);
    return rc;
}

static syna_rc absorb(syna_mmap *store, uint32_t count)
{
    struct row_reader reader;
    struct hnsw_plan plan;
    struct row_set set = plan_set(store, &reader);
    SYNA_TRY(hnsw_plan_insert(&store->index->graph, &set, count, &plan));
    syna_rc rc = apply_plan(store, &set, &plan);
    hnsw_plan_dispose(&plan);
    return rc;
}

static syna_rc repair(syna_mmap *store)
{
    struct mmap_index *index = store->index;
    struct row_reader reader;
    struct row_moment moment;
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
        pthread_rwlock_wrlock(&store->base.state_lock);
        index->changes += index->dead_linked;
        mmap_index_count_dead(index, &store->base.rows);
        pthread_rwlock_unlock(&store->base.state_lock);
    }
    struct status_record why = *status_get();
    row_moment_free(&moment);
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
    pthread_rwlock_rdlock(&store->base.state_lock);
    const struct mmap_index *index = store->index;
    u.rows = store->base.rows.count;
    u.live = store->base.rows.live;
    if (index) {
        u.linked = index->graph.linked;
        u.dead = index->dead_linked;
        u.rebuild = u.rows - u.linked > u.linked / REBUILD_SHARE ||
                    u.dead > u.linked / REBUILD_SHARE ||
                    u.rows / RETRAIN_GROWTH > index->trained_of ||
                    u.linked / 2 > index->graph.measured.calibrated;
    }
    pthread_rwlock_unlock(&store->base.state_lock);
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
        SYNA_TRY(repair(store));
    return extend(store, b, u.rows);
}

/* ---------------------------------------------------------------- the file */

/* The last row that the newest checkpoint covers and its record; false when the graph has others. */
static bool find_saved(syna_mmap *store, uint32_t *count, uint64_t *offset)
{
    bool found = false;
    pthread_rwlock_rdlock(&store->base.state_lock);
    const struct rowfile *file = store->base.rows.file;
    uint64_t rows = __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
    if (store->index && rows > 0 && rows >= store->index->graph.linked) {
        *count = (uint32_t)rows;
        *offset = mmap_rows_offset(&store->base.rows, *count - 1);
        found = true;
    }
    pthread_rwlock_unlock(&store->base.state_lock);
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
        mmap_index_save(index, store->base.index_path, store->base.rows.file, count, offset);
    status_set(&why);
}

/* Rows are durable: link some of those that came since, and save the index when much has changed. Failures
 * do no harm and are not told. */
static syna_rc save(struct row_store *base, enum row_save reason)
{
    syna_mmap *store = mmap_of(base);
    bool closing = reason == ROW_SAVE_CLOSE;
    struct status_record why = *status_get();
    if (pthread_mutex_trylock(&store->base.index_lock) != 0)
        return SYNA_SUCCESS; /* it is being built */
    struct upkeep u = look(store);
    uint32_t saved = (uint32_t)__atomic_load_n(&store->base.rows.file->checkpoint_rows, __ATOMIC_RELAXED);
    if (!closing && u.linked > 0 && saved > u.linked && saved - u.linked > TAIL_ROWS)
        absorb(store, MIN(saved - u.linked, ABSORB_ROWS));
    save_index(store, closing ? CLOSE_SHARE : SAVE_SHARE);
    pthread_mutex_unlock(&store->base.index_lock);
    status_set(&why);
    return SYNA_SUCCESS;
}

static syna_rc load(struct row_store *base)
{
    syna_mmap *store = mmap_of(base);
    struct mmap_index *found;
    syna_rc rc =
        mmap_index_load(store->base.index_path, &store->base.rows, store->base.dims, store->base.metric, &found);
    if (rc == SYNA_ERR_SERIALIZATION) /* a damaged row: told when it is read */
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    if (found) {
        mmap_index_free(store->index);
        store->index = found;
    }
    return SYNA_SUCCESS;
}

static void drop(struct row_store *base)
{
    syna_mmap *store = mmap_of(base);
    mmap_index_free(store->index);
    store->index = NULL;
}

/* The index becomes more, too, or the reader takes one that was saved meanwhile. */
static syna_rc follow(struct row_store *base)
{
    syna_mmap *store = mmap_of(base);
    struct mmap_index *index = store->index;
    if (index && mmap_index_catch_up(index, &store->base.rows) != SYNA_SUCCESS)
        drop(base);
    else if (index)
        mmap_index_count_dead(index, &store->base.rows);
    if (!store->index || store->base.rows.count - store->index->graph.linked > TAIL_ROWS)
        return load(base);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- compaction */

static syna_rc before_renumber(struct row_store *base)
{
    syna_mmap *store = mmap_of(base);
    const struct mmap_index *index = store->index;
    if (!index || index->dead_linked > index->graph.linked / 2)
        return SYNA_SUCCESS; /* too little would be left of the graph */
    SYNA_TRY(repair(store));
    return mmap_renumber_begin(&store->renumbering, index);
}

static void renumber(struct row_store *base, const uint32_t *numbers, uint32_t count)
{
    syna_mmap *store = mmap_of(base);
    struct mmap_index *index = store->index;
    if (!index)
        return;
    if (store->renumbering.graph.degree == 0 || store->base.rows.count == 0) {
        drop(base);
        return;
    }
    mmap_renumber_finish(&store->renumbering, index, numbers, count);
    mmap_index_count_dead(index, &store->base.rows);
}

static void after_renumber(struct row_store *base, bool renumbered)
{
    syna_mmap *store = mmap_of(base);
    if (renumbered)
        save_index(store, UINT32_MAX);
    mmap_renumber_abandon(&store->renumbering); /* nothing is left of one that was finished */
    store->renumbering = (struct mmap_renumbering){0};
}

/* ---------------------------------------------------------------- writes */

static bool has_room(const struct row_store *base, uint64_t total)
{
    const struct mmap_index *index = ((const syna_mmap *)(const void *)base)->index;
    return !index || mmap_index_has_room(index, total);
}

static syna_rc reserve(struct row_store *base, uint64_t total)
{
    struct mmap_index *index = mmap_of(base)->index;
    return index ? mmap_index_reserve(index, total) : SYNA_SUCCESS;
}

/* Codes for the rows, where there is an index. */
static void coming(struct row_store *base, const float *vectors, size_t count)
{
    struct mmap_index *index = mmap_of(base)->index;
    for (size_t i = 0; index && i < count; i++)
        mmap_index_encode_row(index, base->rows.count + (uint32_t)i, vectors + i * base->dims);
}

static void came(struct row_store *base)
{
    struct mmap_index *index = mmap_of(base)->index;
    if (index)
        index->set.count = base->rows.count;
}

static void removed(struct row_store *base, uint32_t row)
{
    struct mmap_index *index = mmap_of(base)->index;
    if (index)
        mmap_index_drop(index, row);
}

static void lock_for_fork(struct row_store *base, bool lock)
{
    struct mmap_index *index = mmap_of(base)->index;
    if (index && lock)
        pthread_mutex_lock(&index->graph.idle_lock);
    else if (index)
        pthread_mutex_unlock(&index->graph.idle_lock);
}

const struct row_store_kind mmap_vectors_kind = {
    .component = SNAPSHOT_FOURCC('M', 'M', 'A', 'P'),
    .noun = "store",
    .index_suffix = ".hnsw",
    .config_len = ROW_CONFIG_BYTES,
    .index_apart = true,
    .load = load,
    .drop = drop,
    .save = save,
    .has_room = has_room,
    .reserve = reserve,
    .coming = coming,
    .came = came,
    .removed = removed,
    .follow = follow,
    .before_renumber = before_renumber,
    .renumber = renumber,
    .after_renumber = after_renumber,
    .lock_for_fork = lock_for_fork,
};

/* ---------------------------------------------------------------- calls */

/* What was built is worth keeping: it becomes durable, with the rows that it is of. */
static syna_rc keep(syna_mmap *store)
{
    pthread_mutex_lock(&store->base.checkpoint_lock);
    syna_rc rc = row_store_save_rows(&store->base);
    pthread_mutex_lock(&store->base.index_lock);
    if (rc == SYNA_SUCCESS)
        save_index(store, UINT32_MAX);
    pthread_mutex_unlock(&store->base.index_lock);
    pthread_mutex_unlock(&store->base.checkpoint_lock);
    return rc;
}

syna_rc mmap_vectors_build_index(syna_mmap *store, syna_progress_fn progress, void *context)
{
    struct building b = {progress, context};
    SYNA_TRY(row_store_check_writable(&store->base));
    pthread_mutex_lock(&store->base.index_lock);
    syna_rc rc = row_store_note_damage(&store->base, build_or_extend(store, &b));
    pthread_mutex_unlock(&store->base.index_lock);
    return rc == SYNA_SUCCESS ? keep(store) : rc;
}

bool mmap_vectors_has_index(syna_mmap *store)
{
    pthread_rwlock_rdlock(&store->base.state_lock);
    bool has = store->index && store->index->graph.linked > 0;
    pthread_rwlock_unlock(&store->base.state_lock);
    return has;
}
