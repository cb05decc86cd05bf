/* db_batch.c - atomic batches: frames are encoded into memory as they are added and committed as one
 * piece of log, with COMMIT on the last frame only; recovery drops a batch whose end is missing. */
#include "base/internal.h"

#include "engine/db_core.h"
#include "engine/db_update.h"

struct syna_batch {
    syna_db *db;
    struct buf frames;
    size_t count;
    uint64_t when_us; /* the latest time given; the commit's stamp */
};

syna_rc db_batch_new(syna_db *db, syna_batch **out)
{
    SYNA_TRY(db_check_writable(db));
    syna_batch *batch = mem_zalloc(sizeof *batch);
    if (!batch)
        return syna_no_memory(sizeof *batch);
    batch->db = db;
    *out = batch;
    return SYNA_SUCCESS;
}

syna_rc db_batch_put(syna_batch *batch, const char *key, size_t key_len, int32_t type,
                     const void *data, size_t len, const syna_put *how)
{
    struct value v = {.type = type, .data = data, .len = len};
    if (how) {
        v.expires_us = how->expires_us;
        v.event_us = how->when_us;
    }
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(value_check(&v));
    SYNA_TRY(db_encode(batch->db, &batch->frames, key, key_len, &v));
    batch->when_us = MAX(batch->when_us, v.event_us);
    batch->count++;
    return SYNA_SUCCESS;
}

syna_rc db_batch_delete(syna_batch *batch, const char *key, size_t key_len)
{
    SYNA_TRY(db_check_key(key, key_len));
    if (!db_encode_tombstone(&batch->frames, key, key_len))
        return syna_no_memory(key_len);
    batch->count++;
    return SYNA_SUCCESS;
}

size_t db_batch_count(const syna_batch *batch)
{
    return batch->count;
}

struct buf *db_batch_frames(syna_batch *batch)
{
    return &batch->frames;
}

syna_rc db_batch_commit(syna_batch *batch)
{
    if (batch->count > 0)
        SYNA_TRY(db_commit(batch->db, &batch->frames, batch->count, batch->when_us, NULL));
    batch->frames.len = 0;
    batch->count = 0;
    batch->when_us = 0;
    return SYNA_SUCCESS;
}

void db_batch_free(syna_batch *batch)
{
    if (!batch)
        return;
    buf_dispose(&batch->frames);
    mem_free(batch);
}
