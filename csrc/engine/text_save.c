/* text_save.c - when the snapshot is written: before the last close, when a tenth of the rows changed (and removed,
 * when no document is left); and while the index is open, when a quarter did. Rows since the snapshot take many times the memory of those in it, so
 * in the second case the rows are then used where they stand in the new one (adopt).
 *
 * While it is open nobody waits for the disk:
 *
 *   sections written (exclusive)  ->  log and snapshot synced, renamed (no lock)  ->  rows exchanged (exclusive)
 *
 *   1. What a snapshot covers is durable before it is.
 *   2. upkeep_lock is held all the time, so rows keep their numbers. Who writes meanwhile keeps the old rows in
 *      use: the snapshot is good all the same, and the exchange is left to the next one.
 *   3. A failure does no harm, and the next attempt waits until there are an eighth more rows. */
#include "base/internal.h"

#include "base/status.h"
#include "engine/text_core.h"
#include "io/vfs.h"

#define SHARE_CLOSING 10u   /* a tenth of the rows changed: the snapshot is written anew */
#define SHARE_OPEN 4u       /* a quarter, while the index is open */
#define SHARE_AGAIN 8u
#define LEAST_CLOSING 1000u /* fewer rows are read as quickly as loaded */
#define LEAST_OPEN 16384u   /* fewer take little memory */

/* ---------------------------------------------------------------- before the last close */

static bool pays(const syna_text *index)
{
    uint32_t rows = index->rows.ids.count;
    return rows >= LEAST_CLOSING && index->changes > rows / SHARE_CLOSING;
}

/* An empty index is read without one, and the words of documents that are gone are not to stay in it. */
static bool is_emptied(const syna_text *index)
{
    return postings_live_count(index->rows.postings) == 0 && index->changes > 0;
}

static void renew_snapshot(syna_text *index)
{
    if (is_emptied(index))
        syna_vfs->remove_name(index->index_path);
    else if (pays(index))
        text_save_snapshot(index);
}

void text_save(syna_text *index)
{
    struct status_record why = *status_get();
    pthread_mutex_lock(&index->upkeep_lock);
    pthread_rwlock_wrlock(&index->state_lock);
    /* A handle that may not write cannot flush. */
    if (index->promised.rows == 0 && (pays(index) || is_emptied(index)) &&
        db_flush(index->db) == SYNA_SUCCESS && text_follow(index) == SYNA_SUCCESS)
        renew_snapshot(index);
    pthread_rwlock_unlock(&index->state_lock);
    pthread_mutex_unlock(&index->upkeep_lock);
    status_set(&why);
}

/* ---------------------------------------------------------------- while it is open */

/* No write is under way, so nothing is promised and no term has a number that a row is yet to use. */
static bool at_rest(const syna_text *index)
{
    return index->begun == index->done && index->promised.rows == 0;
}

bool text_save_due(const syna_text *index)
{
    uint32_t rows = index->rows.ids.count, tried = index->tried;
    return rows >= LEAST_OPEN && index->changes > rows / SHARE_OPEN && at_rest(index) &&
           (rows < tried || rows - tried >= tried / SHARE_AGAIN) && db_is_writer(index->db);
}

/* What the snapshot is of, to be found unchanged when it is there. */
struct saved {
    struct snapshot_writer *writer; /* NULL: nothing to do */
    uint64_t begun, changes;
};

static syna_rc write_sections(syna_text *index, struct saved *saved)
{
    index->tried = index->rows.ids.count;
    SYNA_TRY(text_follow(index));
    SYNA_TRY(text_begin_snapshot(index, &saved->writer));
    saved->begun = index->begun;
    saved->changes = index->changes;
    return SYNA_SUCCESS;
}

/* The rows of the snapshot in place of those in memory, whose metadata stay. */
static void exchange(syna_text *index, struct text_rows *fresh, struct snapshot *snapshot)
{
    struct meta *meta = fresh->meta;
    fresh->meta = index->rows.meta;
    index->rows.meta = meta;
    text_rows_dispose(&index->rows);
    snapshot_close(index->snapshot);
    index->rows = *fresh;
    names_moved(&index->rows.ids);
    names_moved(&index->rows.words);
    index->snapshot = snapshot;
}

static syna_rc adopt(syna_text *index, const struct saved *saved)
{
    struct text_rows fresh;
    struct snapshot *snapshot;
    SYNA_TRY(text_open_snapshot(index, &fresh, &snapshot));
    if (!snapshot)
        return SYNA_SUCCESS;
    pthread_rwlock_wrlock(&index->state_lock);
    bool same = at_rest(index) && index->begun == saved->begun;
    if (same)
        exchange(index, &fresh, snapshot);
    pthread_rwlock_unlock(&index->state_lock);
    if (same)
        return SYNA_SUCCESS;
    text_rows_dispose(&fresh);
    snapshot_close(snapshot);
    return SYNA_SUCCESS;
}

syna_rc text_save_open(syna_text *index, bool due)
{
    struct saved saved = {0};
    pthread_rwlock_wrlock(&index->state_lock);
    syna_rc rc = SYNA_SUCCESS;
    if (!due || text_save_due(index))
        rc = write_sections(index, &saved);
    pthread_rwlock_unlock(&index->state_lock);
    if (rc != SYNA_SUCCESS || !saved.writer)
        return rc;
    rc = db_flush(index->db);
    if (rc != SYNA_SUCCESS) {
        snapshot_abort(saved.writer);
        return rc;
    }
    SYNA_TRY(snapshot_commit(saved.writer));
    pthread_rwlock_wrlock(&index->state_lock);
    index->changes -= saved.changes;
    pthread_rwlock_unlock(&index->state_lock);
    return adopt(index, &saved);
}
