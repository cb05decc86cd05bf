/* hybrid_promote.c - move rows from the hot layer to the cold one, in parts of so many rows:
 *
 *   copy       slice by slice, under write_lock, the rows as they are now into the cold layer
 *   link       the cold layer puts them into its index, without any lock of ours
 *   commit     a checkpoint of the cold layer: one record that covers all copies
 *   drop       under write_lock, the rows that are still the same leave the hot layer
 *   checkpoint of the hot layer, so that they do not come back
 *
 * Wherever this ends, by failure, by cancelling, by a crash, every key has its newest row: copies that were
 * not dropped are taken for what they are, by the next promotion too. */
#include "base/internal.h"

#include "engine/hybrid_core.h"

#define PART_ROWS 65536u
#define SLICE_ROWS 512u
#define SLICE_BYTES (2u << 20)
#define DROP_ROWS 64u
#define DEAD_LEAST 4096u /* hot rows that a promotion left: the file is written anew */

struct promotion {
    syna_layers *store;
    syna_hit *rows; /* the keys that were hot when it began, in the order written */
    size_t count;
    syna_progress_fn progress;
    void *context;
    const struct hybrid_pace *pace;
    uint64_t done;
    size_t moved;
};

/* One slice on its way. */
struct slice {
    struct promotion *p;
    uint32_t dims;
    size_t count;
    float *vectors;
    const char *keys[SLICE_ROWS];
    size_t key_lens[SLICE_ROWS];
    char *metadata[SLICE_ROWS]; /* owned */
    size_t metadata_lens[SLICE_ROWS];
};

static syna_rc ask(struct promotion *p)
{
    if (!p->progress || p->progress(p->context, p->done, 2 * (uint64_t)p->count) == 0)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_CANCELLED,
                     "promotion: cancelled by its progress callback");
}

/* A copy of the hot row stands in the cold layer. write_lock is held. */
static syna_rc is_copied(syna_layers *store, const syna_hit *row, bool *copied)
{
    SYNA_TRY(cascade_store_contains(store->cold, row->key, row->key_len, copied));
    if (*copied)
        *copied = !outdated_has(&store->outdated, row->key, row->key_len, OUTDATED_PENDING);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- copy */

static syna_rc take_row(struct slice *s, const syna_hit *row)
{
    syna_layers *store = s->p->store;
    size_t i = s->count;
    bool copied, hot;
    SYNA_TRY(gwi_contains(store->hot, row->key, row->key_len, &hot));
    SYNA_TRY(is_copied(store, row, &copied));
    if (!hot || copied)
        return SYNA_SUCCESS;
    SYNA_TRY(gwi_get(store->hot, row->key, row->key_len, s->vectors + i * s->dims, s->dims));
    SYNA_TRY(gwi_get_metadata(store->hot, row->key, row->key_len, &s->metadata[i],
                              &s->metadata_lens[i]));
    s->keys[i] = row->key;
    s->key_lens[i] = row->key_len;
    s->count++;
    return SYNA_SUCCESS;
}

static int32_t stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

/* Storing is all or none, and quick; linking is stopped, because whoever ingests waits. */
static syna_rc store_slice(struct slice *s)
{
    syna_layers *store = s->p->store;
    size_t added;
    struct row_batch batch = {.keys = s->keys,
                                        .key_lens = s->key_lens,
                                        .vectors = s->vectors,
                                        .metadata = (const char *const *)s->metadata,
                                        .metadata_lens = s->metadata_lens,
                                        .dims = s->dims,
                                        .count = s->count,
                                        .progress = stop_at_once};
    syna_rc rc = cascade_store_insert(store->cold, &batch, &added);
    if (rc != SYNA_SUCCESS && status_get()->reason != SYNA_WHY_CANCELLED)
        return rc;
    for (size_t i = 0; i < s->count && store->outdated.count; i++)
        hybrid_forget_outdated(store, s->keys[i], s->key_lens[i]);
    return SYNA_SUCCESS;
}

static size_t slice_rows(uint32_t dims)
{
    size_t fit = SLICE_BYTES / (dims * sizeof(float));
    return MAX(MIN(fit, (size_t)SLICE_ROWS), (size_t)1);
}

/* write_lock is held. */
static syna_rc copy_locked(struct slice *s, const syna_hit *rows, size_t count)
{
    size_t bytes = count * s->p->store->dims * sizeof(float);
    s->dims = s->p->store->dims;
    s->vectors = mem_alloc(bytes);
    if (!s->vectors)
        return syna_no_memory(bytes);
    for (size_t i = 0; i < count; i++)
        SYNA_TRY(take_row(s, &rows[i]));
    return s->count ? store_slice(s) : SYNA_SUCCESS;
}

static syna_rc copy_slice(struct promotion *p, const syna_hit *rows, size_t count)
{
    struct slice *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->p = p;
    pthread_mutex_lock(&p->store->write_lock);
    syna_rc rc = copy_locked(s, rows, count);
    pthread_mutex_unlock(&p->store->write_lock);
    for (size_t i = 0; i < SLICE_ROWS; i++)
        mem_free(s->metadata[i]);
    mem_free(s->vectors);
    mem_free(s);
    return rc;
}

static int32_t ask_while_linking(void *context, uint64_t done, uint64_t total)
{
    const struct promotion *p = context;
    (void)done;
    (void)total;
    return p->progress ? p->progress(p->context, p->done, 2 * (uint64_t)p->count) : 0;
}

/* What was stored is put into the index. Failures of that are no matter: the rows are found without. */
static syna_rc link_slice(struct promotion *p)
{
    size_t added;
    struct row_batch none = {.progress = ask_while_linking, .context = p};
    return cascade_store_insert(p->store->cold, &none, &added);
}

static void pause_after(const struct promotion *p, uint64_t began_us)
{
    uint64_t now = syna_vfs->now_us();
    if (p->pace && p->pace->pause)
        p->pace->pause(p->pace->context, now > began_us ? now - began_us : 0);
}

static syna_rc copy_part(struct promotion *p, const syna_hit *rows, size_t count)
{
    size_t step;
    for (size_t at = 0; at < count; at += step) {
        uint64_t began = syna_vfs->now_us();
        step = MIN(count - at, slice_rows(p->store->dims));
        SYNA_TRY(ask(p));
        SYNA_TRY(copy_slice(p, rows + at, step));
        SYNA_TRY(link_slice(p));
        p->done += step;
        pause_after(p, began);
    }
    return ask(p);
}

/* ---------------------------------------------------------------- drop */

static syna_rc drop_row(struct promotion *p, const syna_hit *row)
{
    syna_layers *store = p->store;
    bool hot, copied;
    int32_t dropped;
    SYNA_TRY(gwi_contains(store->hot, row->key, row->key_len, &hot));
    SYNA_TRY(is_copied(store, row, &copied));
    if (!hot || !copied) /* deleted, or ingested again */
        return SYNA_SUCCESS;
    SYNA_TRY(gwi_delete(store->hot, row->key, row->key_len, &dropped));
    p->moved += (size_t)dropped;
    return SYNA_SUCCESS;
}

static syna_rc drop_part(struct promotion *p, const syna_hit *rows, size_t count)
{
    syna_rc rc = SYNA_SUCCESS;
    for (size_t at = 0; rc == SYNA_SUCCESS && at < count; at += DROP_ROWS) {
        pthread_mutex_lock(&p->store->write_lock);
        for (size_t i = at; rc == SYNA_SUCCESS && i < MIN(at + DROP_ROWS, count); i++)
            rc = drop_row(p, &rows[i]);
        pthread_mutex_unlock(&p->store->write_lock);
        syna_vfs->pause_us(0);
    }
    return rc;
}

/* The gate is held: what the checkpoint covers is not deleted before the rows are dropped. */
static syna_rc publish_at_gate(struct promotion *p, const syna_hit *rows, size_t count)
{
    syna_layers *store = p->store;
    SYNA_TRY(hybrid_checkpoint_cold(store));
    store->hot_drops = true;
    syna_rc rc = drop_part(p, rows, count);
    struct status_record why = *status_get();
    SYNA_TRY(hybrid_checkpoint_hot(store)); /* also of the rows that were dropped before a failure */
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* The first checkpoint does the work, and nobody waits for it; that at the gate is quick. */
static syna_rc publish_part(struct promotion *p, const syna_hit *rows, size_t count)
{
    SYNA_TRY(cascade_store_flush(p->store->cold));
    pthread_mutex_lock(&p->store->gate);
    syna_rc rc = publish_at_gate(p, rows, count);
    pthread_mutex_unlock(&p->store->gate);
    p->done += count;
    return rc;
}

/* ---------------------------------------------------------------- the room of what was dropped */

/* A failure leaves the hot file as it is, for the next promotion. */
static void tidy_hot(syna_layers *store)
{
    syna_wells_stats stats = {.size = sizeof stats};
    if (gwi_get_stats(store->hot, &stats) != SYNA_SUCCESS || stats.dead_rows < DEAD_LEAST ||
        stats.dead_rows < stats.rows)
        return;
    pthread_mutex_lock(&store->gate);
    if (hybrid_checkpoint_hot(store) == SYNA_SUCCESS)
        gwi_compact(store->hot, NULL, NULL);
    pthread_mutex_unlock(&store->gate);
}

/* ---------------------------------------------------------------- the whole */

static syna_rc promote_parts(struct promotion *p)
{
    SYNA_TRY(gwi_rows(p->store->hot, 0, &p->rows, &p->count));
    for (size_t at = 0; at < p->count; at += PART_ROWS) {
        size_t count = MIN(p->count - at, (size_t)PART_ROWS);
        SYNA_TRY(copy_part(p, p->rows + at, count));
        SYNA_TRY(publish_part(p, p->rows + at, count));
    }
    return SYNA_SUCCESS;
}

static syna_rc promote_locked(struct promotion *p)
{
    syna_layers *store = p->store;
    __atomic_store_n(&store->promoting, 1, __ATOMIC_RELAXED);
    syna_rc rc = promote_parts(p);
    struct status_record why = *status_get();
    __atomic_add_fetch(&store->promoted, p->moved, __ATOMIC_RELAXED);
    if (p->moved)
        __atomic_add_fetch(&store->promotions, 1, __ATOMIC_RELAXED);
    if (rc == SYNA_SUCCESS)
        tidy_hot(store);
    __atomic_store_n(&store->promoting, 0, __ATOMIC_RELAXED);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

syna_rc hybrid_promote_at(syna_layers *store, syna_progress_fn progress, void *context,
                          const struct hybrid_pace *pace, size_t *moved)
{
    struct promotion p = {
        .store = store, .progress = progress, .context = context, .pace = pace};
    *moved = 0;
    SYNA_TRY(hybrid_check_writer(store));
    pthread_mutex_lock(&store->promote_lock);
    syna_rc rc = promote_locked(&p);
    pthread_mutex_unlock(&store->promote_lock);
    mem_free(p.rows);
    *moved = p.moved;
    return rc;
}

syna_rc hybrid_promote(syna_layers *store, syna_progress_fn progress, void *context, size_t *moved)
{
    return hybrid_promote_at(store, progress, context, NULL, moved);
}
