/* db_update.c - a commit that is made of what is read under the same lock. The sync happens with
 * write_lock held: an update is rare, and whoever updates next must see this one. What `build` refuses
 * is no damage of the log, even when it calls it so: reads have noted that themselves. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/db_update.h"

syna_rc db_write_enter(syna_db *db)
{
    pthread_mutex_lock(&db->write_lock);
    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = db_enter_shared(db);
    if (rc != SYNA_SUCCESS)
        pthread_mutex_unlock(&db->write_lock);
    return rc;
}

void db_write_leave(syna_db *db)
{
    db_leave_shared(db);
    pthread_mutex_unlock(&db->write_lock);
}

syna_rc db_write_append(syna_db *db, struct buf *frames, size_t count)
{
    uint64_t offset;
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = keydir_reserve(db->gen->dir, db->unpublished + count);
    if (rc == SYNA_SUCCESS)
        rc = kvlog_append(&db->gen->log, frames->bytes, frames->len, 0, &offset, NULL);
    if (rc == SYNA_SUCCESS)
        db->unpublished += count;
    pthread_rwlock_unlock(&db->state_lock);
    if (rc == SYNA_SUCCESS)
        __atomic_fetch_add(&db->commits, 1, __ATOMIC_RELAXED);
    return rc;
}

syna_rc db_write_publish(syna_db *db)
{
    if (!db->options.no_sync)
        return db_drain(db);
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = db_publish_locked(db, db->gen->log.end);
    db->unpublished = 0;
    pthread_rwlock_unlock(&db->state_lock);
    return rc;
}

static syna_rc write_batch(syna_db *db, syna_batch *batch, size_t count)
{
    SYNA_TRY(db_write_append(db, db_batch_frames(batch), count));
    return db_write_publish(db);
}

static syna_rc update_once(syna_db *db, db_update_fn build, void *context)
{
    syna_batch *batch;
    SYNA_TRY(db_batch_new(db, &batch));
    syna_rc rc = db_write_enter(db);
    if (rc == SYNA_SUCCESS) {
        rc = build(context, batch);
        size_t count = db_batch_count(batch);
        if (rc == SYNA_SUCCESS && count > 0)
            rc = db_note_damage(db, write_batch(db, batch, count));
        db_write_leave(db);
    }
    db_batch_free(batch);
    return rc;
}

syna_rc db_update(syna_db *db, db_update_fn build, void *context)
{
    syna_rc rc = update_once(db, build, context);
    if (rc == KEYDIR_DAMAGED) { /* a page of the key checkpoint: the log has it all */
        SYNA_TRY(db_rebuild_index(db));
        rc = db_index_rc(update_once(db, build, context));
    }
    return rc;
}
