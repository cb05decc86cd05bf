/* row_store_compact.c - the live rows in a new file. They are copied while writers and searches go on;
 * then, with write_lock held, what was written meanwhile is replayed with the new row numbers, and the
 * files are swapped. An index that cannot follow the numbers is made anew behind that: until then every
 * row is scored. */
#include "base/internal.h"

#include "engine/progress.h"
#include "engine/row_store.h"

#define INDEX_POLL_NS 10000000 /* between two looks whether the index is still being built */

struct rewrite {
    struct row_store *store;
    struct rowfile *from, *to;
    struct buf numbers; /* uint32 a row of `from`: its number in `to`, MMAP_ROW_NONE = not there */
    uint32_t rows;      /* of `from`, when it began */
    uint64_t records;   /* bytes of records, then */
    struct progress progress;
};

static syna_rc begin_rewrite(struct rewrite *w)
{
    struct row_store *store = w->store;
    pthread_mutex_lock(&store->write_lock);
    const struct rowfile *from = w->from = store->rows.file;
    struct rowfile_setup setup = {.component = store->kind->component,
                                  .row_bytes = from->row_bytes,
                                  .config = from->config,
                                  .config_len = from->config_len,
                                  .uuid = from->header.uuid,
                                  .generation = from->header.generation + 1,
                                  .record_sequence = store->rows.sequence};
    w->rows = store->rows.count;
    w->records = store->rows.applied;
    w->progress.total = store->rows.live;
    pthread_mutex_unlock(&store->write_lock);
    return rowfile_create_temp(store->path, &setup, &w->to);
}

static syna_rc note_number(struct rewrite *w, uint32_t number)
{
    return buf_append(&w->numbers, &number, sizeof number) ? SYNA_SUCCESS
                                                           : syna_no_memory(sizeof number);
}

static uint32_t number_of(const struct rewrite *w, uint32_t row)
{
    return row == ROWFILE_NONE ? ROWFILE_NONE
                               : ((const uint32_t *)(const void *)w->numbers.bytes)[row];
}

/* One record to the new file, and the row that it is about. */
static syna_rc put_record(struct rewrite *w, const struct row_record *r, uint32_t old_row)
{
    struct rowfile *to = w->to;
    struct row_record moved = *r;
    uint64_t bytes = record_bytes(r->key_len, r->meta_len), rows = r->kind == RECORD_ROW;
    SYNA_TRY(rowfile_reserve(to, rows, bytes, w->progress.total));
    if (rows) {
        SYNA_TRY(rowfile_touch(w->from, old_row, 1));
        memcpy(rowfile_next_row(to), rowfile_row(w->from, old_row), to->row_bytes);
        moved.row = (uint32_t)rowfile_rows(to);
    }
    record_encode(&moved, rowfile_next_record(to));
    uint64_t newer = r->sequence > to->record_sequence ? r->sequence - to->record_sequence : 0;
    rowfile_commit(to, rows, bytes, newer);
    return SYNA_SUCCESS;
}

/* The rows of one word of live bits, as they are now. state_lock is held shared. */
static syna_rc copy_word(struct rewrite *w, uint32_t first)
{
    const struct mmap_rows *rows = &w->store->rows;
    for (uint32_t row = first; row < w->rows && row < first + 64; row++) {
        struct row_record r;
        uint64_t next;
        if (!mmap_rows_is_live(rows, row)) {
            SYNA_TRY(note_number(w, MMAP_ROW_NONE));
            continue;
        }
        SYNA_TRY(rowfile_record(w->from, mmap_rows_offset(rows, row), &r, &next));
        r.replaces = ROWFILE_NONE;
        SYNA_TRY(note_number(w, (uint32_t)rowfile_rows(w->to)));
        SYNA_TRY(put_record(w, &r, row));
        w->progress.done++;
    }
    return SYNA_SUCCESS;
}

static syna_rc copy_live(struct rewrite *w)
{
    for (uint32_t first = 0; first < w->rows; first += 64) {
        pthread_rwlock_rdlock(&w->store->state_lock); /* no caller's code runs under it */
        syna_rc rc = copy_word(w, first);
        pthread_rwlock_unlock(&w->store->state_lock);
        SYNA_TRY(rc);
        SYNA_TRY(progress_tick(&w->progress, 64 * (uint64_t)w->from->row_bytes));
    }
    return SYNA_SUCCESS;
}

/* What was written since the copying began. write_lock is held. */
static syna_rc catch_up(struct rewrite *w)
{
    struct row_record r;
    for (uint64_t at = w->records, next; at < w->store->rows.applied; at = next) {
        SYNA_TRY(rowfile_record(w->from, at, &r, &next));
        uint32_t old_row = r.row;
        r.replaces = number_of(w, r.replaces);
        if (r.kind == RECORD_ROW)
            SYNA_TRY(note_number(w, (uint32_t)rowfile_rows(w->to)));
        else if (r.replaces == ROWFILE_NONE)
            continue; /* it was dead before it would have been copied */
        SYNA_TRY(put_record(w, &r, old_row));
    }
    return SYNA_SUCCESS;
}

static syna_rc save(struct rowfile *file)
{
    struct row_slot slot;
    rowfile_capture(file, &slot);
    return rowfile_checkpoint(file, &slot);
}

/* Give the new file the name, its lock held. When only the directory's sync failed it has the name:
 * then the store must follow it, but writes no more. Takes rows and metadata when it does. */
static syna_rc swap_files(struct rewrite *w, struct mmap_rows *rows, struct meta **meta)
{
    struct row_store *store = w->store;
    struct writer_lock lock = WRITER_LOCK_NONE;
    SYNA_TRY(file_check_name(store->path, w->from->device, w->from->inode));
    SYNA_TRY(lock_acquire(&lock, w->to->file.path, 0, NULL));
    syna_rc rc = rowfile_publish(w->to, store->path);
    if (rc != SYNA_SUCCESS && w->to->file.temp == 0 &&
        strcmp(w->to->file.path, store->path) != 0) {
        lock_release(&lock);
        return rc;
    }
    struct status_record why = *status_get();
    pthread_rwlock_wrlock(&store->state_lock);
    row_store_swap(store, rows, *meta);
    *meta = NULL;
    if (store->kind->renumber)
        store->kind->renumber(store, (const uint32_t *)(const void *)w->numbers.bytes,
                              (uint32_t)(w->numbers.len / sizeof(uint32_t)));
    else
        store->kind->drop(store);
    pthread_rwlock_unlock(&store->state_lock);
    lock_release(&store->lock);
    store->lock = lock;
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* write_lock is held. */
static syna_rc finish_rewrite(struct rewrite *w)
{
    struct mmap_rows rows;
    struct meta *meta;
    SYNA_TRY(row_store_check_writable(w->store));
    SYNA_TRY(catch_up(w));
    SYNA_TRY(save(w->to));
    SYNA_TRY(row_store_load_rows(w->store, rowfile_ref(w->to), &rows, &meta));
    syna_rc rc = swap_files(w, &rows, &meta);
    struct status_record why = *status_get();
    mmap_rows_dispose(&rows); /* nothing is left of what was taken */
    meta_free(meta);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

/* index_lock is held. */
static syna_rc renumber_and_swap(struct rewrite *w)
{
    struct row_store *store = w->store;
    const struct row_store_kind *kind = store->kind;
    syna_rc rc = kind->renumber ? kind->before_renumber(store) : SYNA_SUCCESS;
    if (rc == SYNA_SUCCESS) {
        pthread_mutex_lock(&store->write_lock);
        rc = finish_rewrite(w);
        pthread_mutex_unlock(&store->write_lock);
    }
    if (kind->renumber)
        kind->after_renumber(store, rc == SYNA_SUCCESS);
    return rc;
}

/* An index may be in the building, which takes its time: wait, and keep asking. */
static syna_rc lock_index(struct rewrite *w)
{
    do {
        SYNA_TRY(progress_ask(&w->progress));
        if (!w->store->kind->index_apart || pthread_mutex_trylock(&w->store->index_lock) == 0)
            return SYNA_SUCCESS;
        nanosleep(&(struct timespec){.tv_nsec = INDEX_POLL_NS}, NULL);
    } while (true);
}

static syna_rc rewrite(struct rewrite *w)
{
    SYNA_TRY(begin_rewrite(w));
    SYNA_TRY(copy_live(w));
    SYNA_TRY(save(w->to)); /* most of the syncing is done before writers have to wait */
    SYNA_TRY(lock_index(w));
    syna_rc rc = renumber_and_swap(w);
    if (w->store->kind->index_apart)
        pthread_mutex_unlock(&w->store->index_lock);
    return rc;
}

syna_rc row_store_rewrite(struct row_store *store, syna_progress_fn progress, void *context)
{
    struct rewrite w = {.store = store,
                        .progress = {.ask = progress, .context = context, .what = "compaction"}};
    SYNA_TRY(row_store_check_writable(store));
    syna_rc rc = row_store_note_damage(store, rewrite(&w));
    struct status_record why = *status_get();
    rowfile_unref(w.to);
    buf_dispose(&w.numbers);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

syna_rc row_store_compact(struct row_store *store, syna_progress_fn progress, void *context)
{
    row_store_begin_upkeep(store);
    syna_rc rc = row_store_rewrite(store, progress, context);
    row_store_end_upkeep(store);
    return rc == SYNA_SUCCESS ? row_store_tend(store, progress, context) : rc;
}
