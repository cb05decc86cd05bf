/* cascade_store_index.c - when the index is built, when rows are linked, when its recall is
 * measured.
 *
 * Up to BUILD_ROWS rows a search scores all of them. Then the index is built from all at once;
 * later rows are linked one by one as they come, unless they are so many that building anew costs
 * less. It is also built anew when more rows have died in it than half of those that live, and a
 * few times in its youth, because codes that were learned from few rows fit later ones less well.
 * Recall is measured after every building and whenever the rows have doubled.
 *
 * Nothing here holds the state lock while it computes, but for measuring, which shares it with
 * searches. */
#include "base/internal.h"

#include "engine/cascade_store_core.h"
#include "engine/progress.h"

#define BUILD_ROWS 2048u
#define REBUILD_SHARE 2u /* half as many fresh rows as linked ones: build anew */
#define DEAD_SHARE 2u
#define DEAD_LEAST 1024u
#define RETRAIN_GROWTH 8u    /* codes are learned anew when there are so many times the rows */
#define TRAINED_FULLY 65536u /* rows; codes learned from so many are good for any number */
#define ARRAY_SPACE (256ull << 30)

/* ---------------------------------------------------------------- rows as the index reads them */

void cascade_store_row_set(const syna_buckets *store, struct row_reader *reader, struct row_set *out)
{
    *out = store->set;
    out->full = row_reader_row;
    out->context = reader;
}

static syna_rc init_array(struct array *a, size_t item)
{
    return array_init(a, item, (size_t)MIN((uint64_t)CASCADE_ROWS_MAX, ARRAY_SPACE / item));
}

static void dispose_set(struct row_set *set)
{
    array_dispose(&set->code_rows);
    array_dispose(&set->norms);
    array_dispose(&set->errors);
    set->count = 0;
}

syna_rc cascade_store_init_set(const syna_buckets *store, struct row_set *set)
{
    *set = (struct row_set){.kernels = store->base.kernels};
    codes_init(&set->codes, store->base.dims, store->base.metric);
    syna_rc rc = init_array(&set->code_rows, set->codes.stride);
    if (rc == SYNA_SUCCESS)
        rc = init_array(&set->norms, sizeof(float));
    if (rc == SYNA_SUCCESS)
        rc = init_array(&set->errors, sizeof(float));
    if (rc != SYNA_SUCCESS)
        dispose_set(set);
    return rc;
}

void cascade_store_drop_index(struct row_store *base)
{
    syna_buckets *store = buckets_of(base);
    cascade_dispose(&store->index);
    dispose_set(&store->set);
    snapshot_close(store->snapshot);
    store->index = (struct cascade){0};
    store->snapshot = NULL;
    store->trained_of = store->dead_before = 0;
    store->saved_end = 0;
    store->index_changed = false;
}

syna_rc cascade_store_sweep(struct row_store *base)
{
    syna_buckets *store = buckets_of(base);
    for (uint32_t row = 0; row < store->index.linked; row++)
        if (!mmap_rows_is_live(&store->base.rows, row))
            cascade_remove(&store->index, row);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- building */

struct building {
    syna_buckets *store;
    struct row_moment rows; /* when it began */
    struct row_reader reader;
    struct row_set set;
    struct cascade index;
    uint32_t *sample; /* live rows that codes are learned from */
    uint32_t sample_count;
    struct progress progress;
};

static bool step(void *context, uint64_t done, uint64_t total)
{
    struct progress *p = context;
    p->done = done;
    p->total = total;
    return progress_ask(p) == SYNA_SUCCESS;
}

static syna_rc note_rows(struct building *b)
{
    struct row_store *base = &b->store->base;
    pthread_rwlock_rdlock(&base->state_lock);
    syna_rc rc = row_moment_take(&base->rows, &b->rows);
    pthread_rwlock_unlock(&base->state_lock);
    row_reader_init(&b->reader, b->rows.file);
    return rc;
}

static bool is_live(const struct building *b, uint32_t row)
{
    return b->rows.live[row / 64] >> row % 64 & 1;
}

static const float *sample_row(void *context, size_t i)
{
    struct building *b = context;
    return row_reader_row(&b->reader, b->sample[i]);
}

#define SAMPLE_ROWS 16384u

/* Every so-manieth live row. */
static syna_rc choose_sample(struct building *b)
{
    uint32_t seen = 0, every = b->rows.live_count / SAMPLE_ROWS + 1;
    b->sample = mem_alloc((b->rows.live_count / every + 1) * sizeof *b->sample);
    if (!b->sample)
        return syna_no_memory(b->rows.live_count / every * sizeof *b->sample);
    for (uint32_t row = 0; row < b->rows.count; row++)
        if (is_live(b, row) && seen++ % every == 0)
            b->sample[b->sample_count++] = row;
    return SYNA_SUCCESS;
}

static void encode_row(struct row_set *set, uint32_t row)
{
    const float *full = set->full(set->context, row);
    *(float *)array_at(&set->norms, row) = vector_norm(set->kernels, full, set->codes.dims);
    *(float *)array_at(&set->errors, row) =
        codes_encode(&set->codes, set->kernels, full, array_at(&set->code_rows, row));
}

static syna_rc reserve_set(struct row_set *set, uint32_t count)
{
    SYNA_TRY(array_reserve(&set->code_rows, count));
    SYNA_TRY(array_reserve(&set->norms, count));
    return array_reserve(&set->errors, count);
}

static syna_rc encode_rows(struct building *b)
{
    SYNA_TRY(choose_sample(b));
    SYNA_TRY(codes_train(&b->set.codes, b->sample_count, sample_row, b));
    SYNA_TRY(reserve_set(&b->set, b->rows.count));
    for (uint32_t row = 0; row < b->rows.count; row++) {
        if (is_live(b, row))
            encode_row(&b->set, row);
        SYNA_TRY(progress_tick(&b->progress, b->set.codes.dims * sizeof(float)));
    }
    b->set.count = b->rows.count;
    return row_reader_end(&b->reader);
}

static void swap_index(struct building *b)
{
    syna_buckets *store = b->store;
    struct row_set old_set = store->set;
    struct cascade old = store->index;
    struct snapshot *snapshot = store->snapshot;
    pthread_rwlock_wrlock(&store->base.state_lock);
    store->set = b->set;
    store->set.full = NULL;
    store->set.context = NULL;
    store->index = (struct cascade){0};
    cascade_replace(&store->index, &b->index);
    store->snapshot = NULL;
    store->trained_of = b->rows.live_count;
    store->dead_before = b->rows.count - b->rows.live_count;
    store->saved_end = 0;
    store->index_changed = true;
    cascade_store_sweep(&store->base);
    pthread_rwlock_unlock(&store->base.state_lock);
    cascade_dispose(&old);
    dispose_set(&old_set);
    snapshot_close(snapshot);
}

static syna_rc build_parts(struct building *b)
{
    struct cascade_progress steps = {step, &b->progress};
    SYNA_TRY(encode_rows(b));
    SYNA_TRY(cascade_init(&b->index, &b->store->params, b->set.codes.stride));
    const uint64_t *live = b->rows.live_count < b->rows.count ? b->rows.live : NULL;
    SYNA_TRY(cascade_build(&b->index, &b->set, live, b->rows.count, b->store->threads, &steps));
    return row_reader_end(&b->reader);
}

static syna_rc build(syna_buckets *store, syna_progress_fn progress, void *context)
{
    struct building b = {
        .store = store,
        .progress = {.ask = progress, .context = context, .what = "building the index"}};
    syna_rc rc = note_rows(&b);
    if (rc == SYNA_SUCCESS)
        rc = cascade_store_init_set(store, &b.set);
    b.set.full = row_reader_row;
    b.set.context = &b.reader;
    b.progress.total = b.rows.live_count;
    if (rc == SYNA_SUCCESS)
        rc = build_parts(&b);
    if (rc == SYNA_SUCCESS) {
        swap_index(&b);
    } else {
        struct status_record why = *status_get();
        cascade_dispose(&b.index);
        dispose_set(&b.set);
        status_set(&why);
    }
    row_moment_free(&b.rows);
    mem_free(b.sample);
    return rc;
}

/* ---------------------------------------------------------------- linking fresh rows */

static syna_rc make_room(syna_buckets *store)
{
    struct row_set *set = &store->set;
    uint32_t linked = store->index.linked;
    if (LIKELY(cascade_has_room(&store->index) && set->code_rows.cap > linked &&
               set->norms.cap > linked && set->errors.cap > linked))
        return SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->base.state_lock);
    syna_rc rc = cascade_reserve(&store->index);
    if (rc == SYNA_SUCCESS)
        rc = reserve_set(set, linked + 1);
    pthread_rwlock_unlock(&store->base.state_lock);
    return rc;
}

/* The state is locked exclusively only to put the links in their places. */
static syna_rc link_next(syna_buckets *store)
{
    struct row_reader reader;
    struct cascade_change change;
    struct row_set set;
    SYNA_TRY(make_room(store));
    pthread_rwlock_rdlock(&store->base.state_lock);
    uint32_t row = store->index.linked;
    bool live = mmap_rows_is_live(&store->base.rows, row);
    row_reader_init(&reader, store->base.rows.file);
    cascade_store_row_set(store, &reader, &set);
    syna_rc rc = SYNA_SUCCESS;
    if (live) {
        encode_row(&set, row);
        rc = row_reader_end(&reader);
        if (rc == SYNA_SUCCESS)
            rc = cascade_plan(&store->index, &set, mmap_rows_live(&store->base.rows), &change);
    }
    pthread_rwlock_unlock(&store->base.state_lock);
    SYNA_TRY(rc);
    pthread_rwlock_wrlock(&store->base.state_lock);
    if (live && mmap_rows_is_live(&store->base.rows, row))
        cascade_apply(&store->index, &store->set, &change);
    else
        cascade_skip(&store->index);
    store->set.count = store->index.linked;
    pthread_rwlock_unlock(&store->base.state_lock);
    return SYNA_SUCCESS;
}

static syna_rc measure(syna_buckets *store)
{
    struct row_reader reader;
    struct cascade_curve curves[CASCADE_CURVES];
    struct row_set set;
    pthread_rwlock_rdlock(&store->base.state_lock);
    row_reader_init(&reader, store->base.rows.file);
    cascade_store_row_set(store, &reader, &set);
    syna_rc rc =
        cascade_measure(&store->index, &set, mmap_rows_live(&store->base.rows), store->threads, curves);
    pthread_rwlock_unlock(&store->base.state_lock);
    SYNA_TRY(rc);
    SYNA_TRY(row_reader_end(&reader));
    pthread_rwlock_wrlock(&store->base.state_lock);
    cascade_take_curves(&store->index, curves);
    store->index_changed = true;
    pthread_rwlock_unlock(&store->base.state_lock);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- what is due */

enum work { NOTHING, BUILD, LINK, MEASURE };

static bool build_due(const syna_buckets *store)
{
    const struct cascade *index = &store->index;
    uint32_t count = store->base.rows.count, fresh = count - index->linked;
    if (index->linked == 0)
        return store->base.rows.live >= BUILD_ROWS;
    if (store->base.rows.live < BUILD_ROWS)
        return false;
    return fresh > index->linked / REBUILD_SHARE ||
           index->linked - index->filed - store->dead_before >
               index->filed / DEAD_SHARE + DEAD_LEAST ||
           (store->trained_of < TRAINED_FULLY &&
            store->base.rows.live / RETRAIN_GROWTH > store->trained_of) ||
           index->params.hyperplanes != store->params.hyperplanes ||
           index->params.capacity != store->params.capacity;
}

static enum work next_work(syna_buckets *store)
{
    enum work work = NOTHING;
    pthread_rwlock_rdlock(&store->base.state_lock);
    const struct cascade *index = &store->index;
    if (build_due(store))
        work = BUILD;
    else if (index->linked > 0 && store->base.rows.count > index->linked)
        work = LINK;
    else if (index->filed / 2 >= index->calibrated && index->filed >= BUILD_ROWS)
        work = MEASURE;
    pthread_rwlock_unlock(&store->base.state_lock);
    return work;
}

static syna_rc do_work(syna_buckets *store, enum work work, struct progress *p)
{
    switch (work) {
    case BUILD:
        return build(store, p->ask, p->context);
    case LINK:
        p->total = store->base.rows.count;
        SYNA_TRY(link_next(store));
        p->done = store->index.linked;
        return progress_tick(p, store->base.dims * sizeof(float));
    case MEASURE:
        return measure(store);
    default:
        return SYNA_SUCCESS;
    }
}

syna_rc cascade_store_maintain(struct row_store *base, syna_progress_fn progress, void *context)
{
    syna_buckets *store = buckets_of(base);
    struct progress p = {.ask = progress, .context = context, .what = "linking rows"};
    syna_rc rc = SYNA_SUCCESS;
    if (pthread_mutex_trylock(&store->base.index_lock) != 0)
        return SYNA_SUCCESS;
    for (enum work work; rc == SYNA_SUCCESS && (work = next_work(store)) != NOTHING;)
        rc = do_work(store, work, &p);
    pthread_mutex_unlock(&store->base.index_lock);
    if (rc != SYNA_SUCCESS && status_get()->reason == SYNA_WHY_CANCELLED)
        return rc;
    row_store_note_damage(base, rc);
    return SYNA_SUCCESS;
}
