/* gwi_index.c - when wells are trained, rows put into lists, lists split, and recall measured.
 *
 * Rows that were stored are fresh until there are FRESH_ROWS of them; then they are assigned to wells,
 * together, which costs a fifth of doing it one by one. Training reads all rows, and is due when there
 * are GROWTH times as many as in the last one: so it costs a third of itself more, however rows come.
 * Where rows only pass (gwi_pass_on) it is due later.
 *
 * Recall is measured anew by whoever puts rows into lists, if somebody has searched since it was measured;
 * what nobody searches is measured by the next search, or before it is saved.
 *
 * Nothing here holds state_lock while it computes: searches and inserts go on, and wait only for the
 * result to be put in its place. index_lock keeps two from doing it at once. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#include <math.h>

#define FRESH_ROWS 64u
#define TRAIN_LEAST 1024u /* rows for the first training without a sample */
#define GROWTH 4u
#define GROWTH_PASSING 8u
#define DEAD_SLACK 1024u  /* dead rows in lists outnumber the live ones by this: train, without them */
#define MEASURE_GROWTH 2u /* measured anew when rows doubled */
#define SPLITS_SHARE 8u   /* or an eighth more wells came from splits */
#define ROUNDS 64

/* ---------------------------------------------------------------- what a computation reads */

/* Rows as they were at one moment. */
struct moment {
    struct row_moment rows;
    struct row_reader reader;
};

static syna_rc moment_take(syna_wells *store, struct moment *m)
{
    pthread_rwlock_rdlock(&store->base.state_lock);
    syna_rc rc = row_moment_take(&store->base.rows, &m->rows);
    pthread_rwlock_unlock(&store->base.state_lock);
    row_reader_init(&m->reader, m->rows.file);
    return rc;
}

/* Damage that was met while computing is remembered; what was computed may serve all the same. */
static void moment_end(syna_wells *store, struct moment *m)
{
    if (m->reader.damaged)
        row_store_note_damage(&store->base, SYNA_ERR_SERIALIZATION);
    row_moment_free(&m->rows);
}

static const float *moment_row(void *context, size_t row)
{
    return row_reader_row(context, (uint32_t)row);
}

struct asking {
    syna_progress_fn ask;
    void *context;
    uint64_t done, total;
    bool second; /* half of the work */
};

/* Coding the rows is the first half, assigning them the second; training asks with no numbers between. */
static bool step(void *context, uint64_t done, uint64_t total)
{
    struct asking *a = context;
    if (total == 0)
        a->second = true;
    else
        a->done = (uint64_t)((double)a->total / 2 * ((double)done / (double)total + a->second));
    return !a->ask || a->ask(a->context, MIN(a->done, a->total), a->total) == 0;
}

static struct partition_source source_of(const syna_wells *store, struct moment *m,
                                         struct asking *asking)
{
    return (struct partition_source){.kernels = store->base.kernels,
                                     .row = moment_row,
                                     .context = &m->reader,
                                     .live = m->rows.live,
                                     .count = m->rows.count,
                                     .threads = store->threads,
                                     .step = asking ? step : NULL,
                                     .step_context = asking};
}

/* ---------------------------------------------------------------- training */

static uint32_t most_wells(const syna_wells *store)
{
    if (store->branching == 0 && store->levels == 0)
        return PARTITION_WELLS_MAX;
    double most = pow(store->branching ? store->branching : 16, store->levels ? store->levels : 3);
    return (uint32_t)MIN(most, PARTITION_WELLS_MAX);
}

void gwi_drop_lists(struct row_store *base)
{
    syna_wells *store = gwi_of(base);
    partition_dispose(&store->part);
    if (store->snapshot)
        snapshot_close(store->snapshot);
    store->snapshot = NULL;
    store->saved_end = 0;
}

/* index_lock is held. */
static void replace_lists(syna_wells *store, struct partition *fresh)
{
    struct partition old;
    struct snapshot *snapshot;
    pthread_rwlock_wrlock(&store->base.state_lock);
    old = store->part;
    snapshot = store->snapshot;
    store->part = *fresh;
    store->snapshot = NULL;
    store->lists_changed = true;
    pthread_rwlock_unlock(&store->base.state_lock);
    partition_dispose(&old);
    if (snapshot)
        snapshot_close(snapshot);
}

static syna_rc build(syna_wells *store, const struct partition_source *from, bool sample)
{
    struct partition fresh;
    partition_init(&fresh, store->base.dims, store->base.metric);
    syna_rc rc = partition_build(&fresh, from, most_wells(store), sample);
    if (rc == SYNA_SUCCESS)
        replace_lists(store, &fresh);
    else
        partition_dispose(&fresh);
    return rc;
}

/* From the rows. index_lock is held. */
static syna_rc train(syna_wells *store, struct asking *asking)
{
    struct moment m;
    SYNA_TRY(moment_take(store, &m));
    struct partition_source from = source_of(store, &m, asking);
    syna_rc rc = build(store, &from, false);
    moment_end(store, &m);
    return rc;
}

/* ---------------------------------------------------------------- lists */

static syna_rc absorb(syna_wells *store, const struct moment *m, struct partition_source *from)
{
    struct partition_plan plan;
    SYNA_TRY(partition_plan_add(&store->part, from, m->rows.count - store->part.end, &plan));
    pthread_rwlock_wrlock(&store->base.state_lock);
    syna_rc rc = partition_add(&store->part, &plan);
    pthread_rwlock_unlock(&store->base.state_lock);
    partition_plan_dispose(&plan);
    return rc;
}

static syna_rc split_well(syna_wells *store, const struct partition_source *from, uint32_t well)
{
    struct partition_split split;
    SYNA_TRY(partition_plan_split(&store->part, from, well, &split));
    pthread_rwlock_wrlock(&store->base.state_lock);
    syna_rc rc = partition_apply_split(&store->part, &split);
    pthread_rwlock_unlock(&store->base.state_lock);
    partition_split_dispose(&split);
    return rc;
}

static syna_rc absorb_and_split(syna_wells *store)
{
    struct moment m;
    SYNA_TRY(moment_take(store, &m));
    struct partition_source from = source_of(store, &m, NULL);
    syna_rc rc = absorb(store, &m, &from);
    for (int i = 0; rc == SYNA_SUCCESS && i < ROUNDS; i++) {
        uint32_t well = partition_overfull(&store->part);
        if (well == UINT32_MAX || store->part.count >= most_wells(store))
            break;
        rc = split_well(store, &from, well);
    }
    moment_end(store, &m);
    return rc;
}

/* ---------------------------------------------------------------- recall */

static syna_rc measure(syna_wells *store)
{
    struct moment m;
    __atomic_store_n(&store->searched, false, __ATOMIC_RELAXED);
    struct partition_curves curves;
    SYNA_TRY(moment_take(store, &m));
    struct row_set set = {.kernels = store->base.kernels,
                          .codes = store->part.codes,
                          .count = m.rows.count,
                          .norms = m.rows.norms,
                          .full = row_reader_row,
                          .context = &m.reader};
    syna_rc rc = partition_measure(&store->part, &set, m.rows.live, m.rows.count, &curves);
    if (rc == SYNA_SUCCESS)
        rc = row_reader_end(&m.reader);
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_wrlock(&store->base.state_lock);
        partition_take_curves(&store->part, &curves);
        pthread_rwlock_unlock(&store->base.state_lock);
    }
    partition_curves_dispose(&curves);
    moment_end(store, &m);
    return rc;
}

/* ---------------------------------------------------------------- when */

enum work { NOTHING, TRAIN, ABSORB, MEASURE };

/* state_lock is held. */
static bool measure_due(const syna_wells *store)
{
    const struct partition *part = &store->part;
    uint64_t live = store->base.rows.live;
    uint32_t lists = part->curves[0].lists;
    return partition_trained(part) && live > GWI_SMALL && part->end > 0 &&
           (live >= (uint64_t)MEASURE_GROWTH * part->calibrated || part->calibrated == 0 ||
            part->count > lists + lists / SPLITS_SHARE);
}

static bool was_searched(const syna_wells *store)
{
    return __atomic_load_n(&store->searched, __ATOMIC_RELAXED);
}

static enum work next_work(syna_wells *store)
{
    enum work work = NOTHING;
    pthread_rwlock_rdlock(&store->base.state_lock);
    const struct partition *part = &store->part;
    uint64_t live = store->base.rows.live, trained = MAX(part->trained, TRAIN_LEAST);
    uint64_t grown = trained * (store->passing ? GROWTH_PASSING : GROWTH);
    if (!partition_trained(part))
        work = live >= TRAIN_LEAST ? TRAIN : NOTHING;
    else if (live >= grown || part->rows > 2 * live + DEAD_SLACK)
        work = TRAIN;
    else if (store->base.rows.count - part->end >= FRESH_ROWS)
        work = ABSORB;
    else if (!store->passing && was_searched(store) && measure_due(store))
        work = MEASURE;
    pthread_rwlock_unlock(&store->base.state_lock);
    return work;
}

static syna_rc do_work(syna_wells *store, enum work work)
{
    switch (work) {
    case TRAIN:
        return train(store, NULL);
    case ABSORB:
        return absorb_and_split(store);
    case MEASURE:
        return measure(store);
    default:
        return SYNA_SUCCESS;
    }
}

/* index_lock is held. */
static syna_rc work_all(syna_wells *store)
{
    syna_rc rc = SYNA_SUCCESS;
    for (int rounds = 0; rc == SYNA_SUCCESS && rounds < ROUNDS; rounds++) {
        enum work work = next_work(store);
        if (work == NOTHING || row_store_is_damaged(&store->base))
            break;
        rc = do_work(store, work);
    }
    return rc;
}

/* Whoever finds somebody at work leaves it to him: the rows are searched as they are. */
syna_rc gwi_maintain(struct row_store *base, syna_progress_fn progress, void *context)
{
    syna_wells *store = gwi_of(base);
    struct status_record before = *status_get();
    (void)progress;
    (void)context;
    if (base->inherited || LIKELY(next_work(store) == NOTHING) ||
        pthread_mutex_trylock(&base->index_lock) != 0)
        return SYNA_SUCCESS;
    work_all(store);
    pthread_mutex_unlock(&base->index_lock);
    status_set(&before); /* what failed is nobody's error */
    return SYNA_SUCCESS;
}

void gwi_pass_on(syna_wells *store)
{
    store->passing = true;
}

static bool is_measure_due(syna_wells *store)
{
    pthread_rwlock_rdlock(&store->base.state_lock);
    bool due = measure_due(store);
    pthread_rwlock_unlock(&store->base.state_lock);
    return due;
}

static void measure_put_off(syna_wells *store)
{
    struct row_store *base = &store->base;
    struct status_record before = *status_get();
    if (LIKELY(!is_measure_due(store)) || base->inherited || row_store_is_damaged(base) ||
        pthread_mutex_trylock(&base->index_lock) != 0)
        return;
    measure(store);
    pthread_mutex_unlock(&base->index_lock);
    status_set(&before); /* what failed is tried again by the next search */
}

void gwi_measure_for_search(syna_wells *store)
{
    if (LIKELY(was_searched(store)) && !store->passing)
        return;
    measure_put_off(store);
    if (!is_measure_due(store)) /* or the next search tries again */
        __atomic_store_n(&store->searched, true, __ATOMIC_RELAXED);
}

void gwi_measure_for_later(syna_wells *store)
{
    struct status_record before = *status_get();
    if (store->passing || !is_measure_due(store))
        return;
    measure(store);
    status_set(&before);
}

/* ---------------------------------------------------------------- when it is asked for */

struct sample {
    const float *vectors;
    uint32_t dims;
};

static const float *sample_row(void *context, size_t i)
{
    const struct sample *sample = context;
    return sample->vectors + i * sample->dims;
}

static syna_rc check_sample(const syna_wells *store, const float *vectors, size_t count, uint32_t dims)
{
    SYNA_TRY(row_store_check_dims(&store->base, "sample", dims));
    if (count == 0 || count > PARTITION_ROWS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "a sample of %zu vectors, expected 1 or more", count);
    for (size_t i = 0; i < count; i++) {
        size_t at = vector_first_not_finite(vectors + i * dims, dims);
        if (at < dims)
            return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                             "sample row %zu: element %zu is %f, expected a finite number", i, at,
                             (double)vectors[i * dims + at]);
    }
    return SYNA_SUCCESS;
}

static syna_rc ask_end(struct asking *a)
{
    if (!a->ask || a->ask(a->context, a->total, a->total) == 0)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED, "stopped by the progress callback");
}

static void note_sample(syna_wells *store)
{
    struct row_store *base = &store->base;
    pthread_mutex_lock(&base->write_lock);
    pthread_rwlock_wrlock(&base->state_lock);
    store->sampled = true;
    if (base->rows.count == 0)
        row_store_write_config(base);
    pthread_rwlock_unlock(&base->state_lock);
    pthread_mutex_unlock(&base->write_lock);
}

/* index_lock is held. */
static syna_rc initialize(syna_wells *store, const float *vectors, size_t count, struct asking *a)
{
    struct sample sample = {vectors, store->base.dims};
    struct partition_source from = {.kernels = store->base.kernels,
                                    .row = sample_row,
                                    .context = &sample,
                                    .count = (uint32_t)count,
                                    .threads = store->threads,
                                    .step = step,
                                    .step_context = a};
    SYNA_TRY(gwi_count(store) >= MAX(count, TRAIN_LEAST) ? train(store, a)
                                                         : build(store, &from, true));
    note_sample(store);
    return work_all(store);
}

syna_rc gwi_initialize(syna_wells *store, const float *vectors, size_t count, uint32_t dims,
                       syna_progress_fn progress, void *context)
{
    struct asking a = {.ask = progress, .context = context, .total = count};
    SYNA_TRY(row_store_check_writable(&store->base));
    pthread_mutex_lock(&store->base.index_lock);
    syna_rc rc = check_sample(store, vectors, count, dims);
    if (rc == SYNA_SUCCESS)
        rc = ask_end(&(struct asking){.ask = progress, .context = context});
    if (rc == SYNA_SUCCESS)
        rc = initialize(store, vectors, count, &a);
    pthread_mutex_unlock(&store->base.index_lock);
    return rc;
}

syna_rc gwi_train(syna_wells *store, syna_progress_fn progress, void *context)
{
    struct asking a = {.ask = progress, .context = context, .total = gwi_count(store)};
    SYNA_TRY(row_store_check_writable(&store->base));
    pthread_mutex_lock(&store->base.index_lock);
    syna_rc rc = a.total ? train(store, &a) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS)
        rc = work_all(store);
    if (rc == SYNA_SUCCESS)
        gwi_measure_for_later(store);
    if (rc == SYNA_SUCCESS)
        rc = ask_end(&a);
    pthread_mutex_unlock(&store->base.index_lock);
    return rc;
}
