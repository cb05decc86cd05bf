/* gwi_index.c - when wells are trained, rows put into lists, lists split, and recall measured.
 *
 * Rows that were stored are fresh until there are FRESH_ROWS of them; then they are assigned to wells,
 * together, which costs a fifth of doing it one by one. Training reads all rows, and is due when there
 * are GROWTH times as many as in the last one: so it costs a third of itself more, however rows come.
 *
 * Nothing here holds state_lock while it computes: searches and inserts go on, and wait only for the
 * result to be put in its place. index_lock keeps two from doing it at once. */
#include "base/internal.h"

#include "engine/gwi_core.h"

#include <math.h>

#define FRESH_ROWS 64u
#define TRAIN_LEAST 1024u /* rows for the first training without a sample */
#define GROWTH 4u
#define DEAD_SLACK 1024u  /* dead rows in lists outnumber the live ones by this: train, without them */
#define MEASURE_GROWTH 2u /* measured anew when rows doubled */
#define SPLITS_SHARE 8u   /* or an eighth more wells came from splits */
#define ROUNDS 64

/* ---------------------------------------------------------------- what a computation reads */

/* Rows as they were at one moment. Their vectors are read where they are mapped, which needs no lock:
 * only a compaction swaps the file, and it holds index_lock. */
struct moment {
    struct gwi_rows rows;
    uint64_t *live;
    float *norms;
    uint32_t count;
};

static void moment_dispose(struct moment *m)
{
    mem_free(m->live);
    mem_free(m->norms);
}

static syna_rc moment_take(const syna_wells *const_store, bool norms, struct moment *m)
{
    syna_wells *store = (syna_wells *)(uintptr_t)const_store;
    *m = (struct moment){.rows.store = store};
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t count = m->count = store->rows.count;
    size_t live_bytes = ((size_t)count + 63) / 64 * sizeof *m->live;
    m->live = mem_alloc(live_bytes);
    m->norms = norms ? mem_alloc(count * sizeof *m->norms) : NULL;
    bool enough = m->live && (!norms || m->norms);
    if (enough && count > 0) {
        memcpy(m->live, mmap_rows_live(&store->rows), live_bytes);
        if (norms)
            memcpy(m->norms, mmap_rows_norms(&store->rows), count * sizeof *m->norms);
    }
    pthread_rwlock_unlock(&store->state_lock);
    if (enough)
        return SYNA_SUCCESS;
    moment_dispose(m);
    return syna_no_memory(live_bytes + count * sizeof *m->norms);
}

/* Several threads call it at once; which of two damaged rows is remembered does not matter. */
static const float *moment_row(void *context, size_t row)
{
    const struct moment *m = context;
    syna_wells *store = (syna_wells *)(uintptr_t)m->rows.store;
    gwi_note_damage(store, rowfile_touch(store->rows.file, row, 1));
    return mmap_rows_vector(&store->rows, (uint32_t)row);
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
    return (struct partition_source){.kernels = store->kernels,
                                     .row = moment_row,
                                     .context = m,
                                     .live = m->live,
                                     .count = m->count,
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

void gwi_drop_lists(syna_wells *store)
{
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
    pthread_rwlock_wrlock(&store->state_lock);
    old = store->part;
    snapshot = store->snapshot;
    store->part = *fresh;
    store->snapshot = NULL;
    store->lists_changed = true;
    pthread_rwlock_unlock(&store->state_lock);
    partition_dispose(&old);
    if (snapshot)
        snapshot_close(snapshot);
}

static syna_rc build(syna_wells *store, const struct partition_source *from, bool sample)
{
    struct partition fresh;
    partition_init(&fresh, store->dims, store->metric);
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
    SYNA_TRY(moment_take(store, false, &m));
    struct partition_source from = source_of(store, &m, asking);
    syna_rc rc = build(store, &from, false);
    moment_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- lists */

static syna_rc absorb(syna_wells *store, const struct moment *m, struct partition_source *from)
{
    struct partition_plan plan;
    SYNA_TRY(partition_plan_add(&store->part, from, m->count - store->part.end, &plan));
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = partition_add(&store->part, &plan);
    pthread_rwlock_unlock(&store->state_lock);
    partition_plan_dispose(&plan);
    return rc;
}

static syna_rc split_well(syna_wells *store, const struct partition_source *from, uint32_t well)
{
    struct partition_split split;
    SYNA_TRY(partition_plan_split(&store->part, from, well, &split));
    pthread_rwlock_wrlock(&store->state_lock);
    syna_rc rc = partition_apply_split(&store->part, &split);
    pthread_rwlock_unlock(&store->state_lock);
    partition_split_dispose(&split);
    return rc;
}

static syna_rc absorb_and_split(syna_wells *store)
{
    struct moment m;
    SYNA_TRY(moment_take(store, false, &m));
    struct partition_source from = source_of(store, &m, NULL);
    syna_rc rc = absorb(store, &m, &from);
    for (int i = 0; rc == SYNA_SUCCESS && i < ROUNDS; i++) {
        uint32_t well = partition_overfull(&store->part);
        if (well == UINT32_MAX || store->part.count >= most_wells(store))
            break;
        rc = split_well(store, &from, well);
    }
    moment_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- recall */

static syna_rc measure(syna_wells *store)
{
    struct moment m;
    struct row_set set;
    struct partition_curves curves;
    SYNA_TRY(moment_take(store, true, &m));
    gwi_row_set(&m.rows, &set);
    set.norms.head = (uint8_t *)m.norms;
    set.norms.head_count = m.count;
    syna_rc rc = partition_measure(&store->part, &set, m.live, m.count, &curves);
    if (rc == SYNA_SUCCESS && m.rows.damaged)
        rc = gwi_note_damage(store, status_set(&m.rows.why));
    if (rc == SYNA_SUCCESS) {
        pthread_rwlock_wrlock(&store->state_lock);
        partition_take_curves(&store->part, &curves);
        pthread_rwlock_unlock(&store->state_lock);
    }
    partition_curves_dispose(&curves);
    moment_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- when */

enum work { NOTHING, TRAIN, ABSORB, MEASURE };

static enum work next_work(syna_wells *store)
{
    enum work work = NOTHING;
    pthread_rwlock_rdlock(&store->state_lock);
    const struct partition *part = &store->part;
    uint64_t live = store->rows.live, grown = (uint64_t)GROWTH * MAX(part->trained, TRAIN_LEAST);
    uint32_t lists = part->curves[0].lists;
    if (!partition_trained(part))
        work = live >= TRAIN_LEAST ? TRAIN : NOTHING;
    else if (live >= grown || part->rows > 2 * live + DEAD_SLACK)
        work = TRAIN;
    else if (store->rows.count - part->end >= FRESH_ROWS)
        work = ABSORB;
    else if (live > GWI_SMALL && part->end > 0 &&
             (live >= (uint64_t)MEASURE_GROWTH * part->calibrated || part->calibrated == 0 ||
              part->count > lists + lists / SPLITS_SHARE))
        work = MEASURE;
    pthread_rwlock_unlock(&store->state_lock);
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
        if (work == NOTHING || __atomic_load_n(&store->damaged, __ATOMIC_ACQUIRE))
            break;
        rc = do_work(store, work);
    }
    return rc;
}

/* Whoever finds somebody at work leaves it to him: the rows are searched as they are. */
void gwi_maintain(syna_wells *store)
{
    struct status_record before = *status_get();
    if (store->inherited || LIKELY(next_work(store) == NOTHING) ||
        pthread_mutex_trylock(&store->index_lock) != 0)
        return;
    work_all(store);
    pthread_mutex_unlock(&store->index_lock);
    status_set(&before); /* what failed is nobody's error */
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
    SYNA_TRY(gwi_check_dims(store, "sample", dims));
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

/* index_lock is held. */
static syna_rc initialize(syna_wells *store, const float *vectors, size_t count, struct asking *a)
{
    struct sample sample = {vectors, store->dims};
    struct partition_source from = {.kernels = store->kernels,
                                    .row = sample_row,
                                    .context = &sample,
                                    .count = (uint32_t)count,
                                    .threads = store->threads,
                                    .step = step,
                                    .step_context = a};
    SYNA_TRY(gwi_count(store) >= MAX(count, TRAIN_LEAST) ? train(store, a)
                                                         : build(store, &from, true));
    pthread_mutex_lock(&store->write_lock);
    gwi_configure_sampled(store);
    pthread_mutex_unlock(&store->write_lock);
    return work_all(store);
}

syna_rc gwi_initialize(syna_wells *store, const float *vectors, size_t count, uint32_t dims,
                       syna_progress_fn progress, void *context)
{
    struct asking a = {.ask = progress, .context = context, .total = count};
    SYNA_TRY(gwi_check_writable(store));
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = check_sample(store, vectors, count, dims);
    if (rc == SYNA_SUCCESS)
        rc = ask_end(&(struct asking){.ask = progress, .context = context});
    if (rc == SYNA_SUCCESS)
        rc = initialize(store, vectors, count, &a);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}

syna_rc gwi_train(syna_wells *store, syna_progress_fn progress, void *context)
{
    struct asking a = {.ask = progress, .context = context, .total = gwi_count(store)};
    SYNA_TRY(gwi_check_writable(store));
    pthread_mutex_lock(&store->index_lock);
    syna_rc rc = a.total ? train(store, &a) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS)
        rc = work_all(store);
    if (rc == SYNA_SUCCESS)
        rc = ask_end(&a);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}
