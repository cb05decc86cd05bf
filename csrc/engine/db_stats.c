/* db_stats.c - counts and sizes of an open database. */
#include "base/internal.h"

#include "engine/db_core.h"

/* Keys whose expiry has passed count as deleted; only keys written with one have to be looked at. */
static syna_rc count_expired(struct generation *gen, uint64_t *expired)
{
    struct keydir_stats stats;
    *expired = 0;
    keydir_get_stats(gen->dir, &stats);
    if (stats.expiring == 0)
        return SYNA_SUCCESS;
    for (uint32_t id = 0; id < keydir_count(gen->dir); id++) {
        struct entry e;
        bool live;
        SYNA_TRY(keydir_entry(gen->dir, id, &e));
        if (!(e.flags & ENTRY_EXPIRES) || (e.flags & ENTRY_DELETED))
            continue;
        SYNA_TRY(db_entry_live(gen, &e, &live));
        *expired += !live;
    }
    return SYNA_SUCCESS;
}

static syna_rc count_once(syna_db *db, struct keydir_stats *stats, uint64_t *expired)
{
    struct generation *gen = db_begin_read(db);
    keydir_get_stats(gen->dir, stats);
    syna_rc rc = count_expired(gen, expired);
    db_end_read(db);
    return rc;
}

static syna_rc count_keys(syna_db *db, struct keydir_stats *stats, uint64_t *expired)
{
    syna_rc rc = count_once(db, stats, expired);
    if (rc == KEYDIR_DAMAGED) {
        SYNA_TRY(db_rebuild_index(db));
        rc = count_once(db, stats, expired);
    }
    return db_note_damage(db, rc);
}

syna_rc db_count(syna_db *db, uint64_t *count)
{
    struct keydir_stats stats;
    uint64_t expired;
    SYNA_TRY(count_keys(db, &stats, &expired));
    *count = stats.keys - stats.deleted - expired;
    return SYNA_SUCCESS;
}

static void describe_log(const syna_db *db, const struct kvlog *log, syna_db_stats *out)
{
    struct vfs_stat st;
    out->format_major = log->header.major;
    out->format_minor = log->header.minor;
    out->file_bytes = __atomic_load_n(&log->end, __ATOMIC_ACQUIRE);
    out->durable_bytes = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);
    out->generation = log->header.generation;
    out->syncs = db->past_syncs + __atomic_load_n(&log->syncs, __ATOMIC_RELAXED);
    memcpy(out->uuid, log->header.uuid, sizeof out->uuid);
    if (syna_vfs->stat_fd(log->file.fd, &st) == 0)
        out->allocated_bytes = st.allocated;
}

syna_rc db_get_stats(syna_db *db, syna_db_stats *out)
{
    struct keydir_stats index;
    uint64_t expired;
    SYNA_TRY(count_keys(db, &index, &expired));

    syna_db_stats all = {.size = sizeof all};
    all.keys = index.keys - index.deleted - expired;
    all.deleted_keys = index.deleted + expired;
    all.frames = index.records;
    all.live_bytes = index.live_bytes;
    all.index_bytes = index.index_bytes + index.order_bytes;
    all.history_bytes = index.history_bytes;
    all.commits = __atomic_load_n(&db->commits, __ATOMIC_RELAXED);
    struct generation *gen = db_begin_read(db);
    describe_log(db, &gen->log, &all);
    db_end_read(db);

    uint32_t size = out->size ? MIN(out->size, (uint32_t)sizeof all) : (uint32_t)sizeof all;
    memcpy(out, &all, size);
    return SYNA_SUCCESS;
}
