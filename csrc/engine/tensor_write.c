/* tensor_write.c - put, append, delete.
 *
 *   chunks    appended without a sync, some at a time under one hold of write_lock, a PAD frame before
 *             each
 *   sync      of what is large, no lock held
 *   commit    header chunk and manifest in one commit: durable together, then visible
 *
 *   1. No key names the chunks before the manifest is published: a put that does not end is garbage for
 *      the next compaction, and the old tensor stays.
 *   2. Chunk offsets mean something in one generation of the log only. When a compaction has replaced
 *      it before the commit, the put begins anew: the caller's array is still there. After some such
 *      attempts it keeps write_lock from the first chunk to the commit, and compaction has to wait.
 *   3. An append names the chunks of the version it extends, and is committed only if that version is
 *      still the newest; else it begins anew. So racing appends all get their rows in.
 *   4. Appending merges the last chunks with the new rows while they are not larger than what is written
 *      anyway: a tensor grown row by row has few chunks, and each byte is written again at most once per
 *      doubling up to the size of a full chunk. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/tensor_core.h"

/* Start over; never leaves this file. */
#define TENSOR_MOVED (-1002)
/* From this attempt on the lock is kept. */
#define PATIENCE 3
/* More than this still to be synced is synced before the commit, without the lock. */
#define SYNC_AHEAD_BYTES (16u << 20)

/* The bytes to be written: some of the old version, then the caller's. */
struct source {
    struct tensor_reader old;
    uint64_t old_at, old_len;
    const uint8_t *fresh;
    uint64_t len; /* of both */
};

struct writer {
    syna_db *db;
    struct generation *gen; /* referenced: where the chunks are */
    const struct tensor_shape *shape;
    struct source *from;
    uint32_t align;
    bool holding;       /* write_lock is kept */
    struct buf chunks;  /* struct tensor_chunk[] */
    struct buf bytes;   /* of a chunk that is not stored as the caller has it */
    struct buf plain, scratch; /* for the codec */
    struct buf frame;   /* of the commit: header chunk and manifest */
    /* append: the version that must still be the newest; NULL = any */
    const struct tensor_version *base;
};

/* ---------------------------------------------------------------- locks */

static syna_rc enter(syna_db *db)
{
    pthread_mutex_lock(&db->write_lock);
    syna_rc rc = db_check_writable(db);
    if (rc == SYNA_SUCCESS)
        rc = db_enter_shared(db);
    if (rc != SYNA_SUCCESS)
        pthread_mutex_unlock(&db->write_lock);
    return rc;
}

static void leave(syna_db *db)
{
    db_leave_shared(db);
    pthread_mutex_unlock(&db->write_lock);
}

static syna_rc begin_append(struct writer *w)
{
    if (!w->holding)
        SYNA_TRY(enter(w->db));
    if (w->gen == w->db->gen)
        return SYNA_SUCCESS;
    if (!w->holding)
        leave(w->db);
    return TENSOR_MOVED;
}

static void end_append(struct writer *w)
{
    if (!w->holding)
        leave(w->db);
}

/* ---------------------------------------------------------------- chunks */

static syna_rc source_copy(struct source *from, uint64_t at, uint8_t *to, size_t len)
{
    if (at < from->old_len) {
        size_t n = (size_t)MIN((uint64_t)len, from->old_len - at);
        SYNA_TRY(tensor_reader_copy(&from->old, from->old_at + at, to, n));
        at += n;
        to += n;
        len -= n;
    }
    if (len)
        memcpy(to, from->fresh + (at - from->old_len), len);
    return SYNA_SUCCESS;
}

/* The packed bytes of a chunk in w->bytes; as they are when packing does not pay. */
static syna_rc fill_packed(struct writer *w, uint64_t at, uint32_t plain, uint32_t *stored)
{
    w->plain.len = w->scratch.len = w->bytes.len = 0;
    uint8_t *bytes = buf_extend(&w->plain, plain), *scratch = buf_extend(&w->scratch, plain);
    uint8_t *to = buf_extend(&w->bytes, plain);
    if (!bytes || !scratch || !to)
        return syna_no_memory(plain);
    SYNA_TRY(source_copy(w->from, at, bytes, plain));
    *stored = (uint32_t)tensor_pack(bytes, to, plain, tensor_item_bytes(w->shape->dtype), scratch);
    if (*stored == 0) {
        memcpy(to, bytes, plain);
        *stored = plain;
    }
    return SYNA_SUCCESS;
}

/* The bytes of a chunk as they are stored: where the caller has them, or made in w->bytes. */
static syna_rc chunk_bytes(struct writer *w, uint64_t at, struct tensor_chunk *chunk,
                           const uint8_t **bytes)
{
    const struct source *from = w->from;
    chunk->stored = chunk->plain;
    if (w->shape->codec == SYNA_CODEC_LZ4) {
        SYNA_TRY(fill_packed(w, at, chunk->plain, &chunk->stored));
        *bytes = w->bytes.bytes;
    } else if (at >= from->old_len) {
        *bytes = from->fresh + (at - from->old_len);
    } else {
        w->bytes.len = 0;
        uint8_t *to = buf_extend(&w->bytes, chunk->plain);
        if (!to)
            return syna_no_memory(chunk->plain);
        SYNA_TRY(source_copy(w->from, at, to, chunk->plain));
        *bytes = to;
    }
    return SYNA_SUCCESS;
}

/* Chunks that are written together. */
struct group {
    struct kvlog_chunk out[KVLOG_CHUNKS_MAX];
    struct tensor_chunk chunks[KVLOG_CHUNKS_MAX];
    size_t count;
};

static syna_rc append_group(struct writer *w, struct group *group)
{
    SYNA_TRY(begin_append(w));
    syna_rc rc = kvlog_append_chunks(&w->gen->log, group->out, group->count, w->align);
    end_append(w);
    SYNA_TRY(rc);
    for (size_t i = 0; i < group->count; i++)
        group->chunks[i].offset = group->out[i].offset;
    if (!buf_append(&w->chunks, group->chunks, group->count * sizeof *group->chunks))
        return syna_no_memory(group->count * sizeof *group->chunks);
    group->count = 0;
    return SYNA_SUCCESS;
}

static syna_rc write_chunks(struct writer *w)
{
    struct group group = {.count = 0};
    for (uint64_t at = 0; at < w->from->len;) {
        struct tensor_chunk chunk = {
            .plain = (uint32_t)MIN(w->from->len - at, (uint64_t)BLOB_CHUNK_BYTES)};
        const uint8_t *bytes = NULL;
        SYNA_TRY(chunk_bytes(w, at, &chunk, &bytes));
        group.chunks[group.count] = chunk;
        group.out[group.count++] = (struct kvlog_chunk){
            .data = bytes, .len = chunk.stored, .crc = crc32c(0, bytes, chunk.stored)};
        at += chunk.plain;
        /* What was made in w->bytes is gone with the next chunk. */
        if (bytes == w->bytes.bytes || group.count == KVLOG_CHUNKS_MAX || at == w->from->len)
            SYNA_TRY(append_group(w, &group));
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- the commit */

static const struct tensor_chunk *chunks_of(const struct writer *w, size_t *count)
{
    *count = w->chunks.len / sizeof(struct tensor_chunk);
    return (const void *)w->chunks.bytes;
}

/* The manifest: the header, which will start at `offset`, and the data chunks. */
static syna_rc encode_manifest(struct writer *w, uint64_t offset, uint32_t header_len,
                               const char *key, size_t key_len)
{
    size_t count;
    const struct tensor_chunk *chunks = chunks_of(w, &count);
    struct buf list = {0}, manifest = {0};
    struct blob_chunk entry = {offset, header_len, 0};
    bool enough = buf_append(&list, &entry, sizeof entry);
    for (size_t i = 0; i < count && enough; i++) {
        entry = (struct blob_chunk){chunks[i].offset, chunks[i].stored, 0};
        enough = buf_append(&list, &entry, sizeof entry);
    }
    syna_rc rc = enough && blob_encode((const void *)list.bytes, count + 1, &manifest)
                     ? SYNA_SUCCESS
                     : syna_no_memory(count * sizeof entry);
    struct value v = {.type = SYNA_TYPE_BLOB, .data = manifest.bytes, .len = manifest.len};
    if (rc == SYNA_SUCCESS)
        rc = db_encode(w->db, &w->frame, key, key_len, &v);
    buf_dispose(&list);
    buf_dispose(&manifest);
    return rc;
}

static syna_rc encode_commit(struct writer *w, const char *key, size_t key_len)
{
    static const uint8_t kind = ENGINE_CHUNK;
    size_t start, count;
    const struct tensor_chunk *chunks = chunks_of(w, &count);
    w->frame.len = 0;
    if (!frame_begin(&w->frame, NULL, 0, &start) || !buf_append(&w->frame, &kind, 1) ||
        !tensor_header_encode(w->shape, chunks, count, &w->frame))
        return syna_no_memory(count * sizeof(uint32_t));
    size_t header = w->frame.len - FRAME_HEADER_BYTES - 1;
    if (header > BLOB_CHUNK_BYTES)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "a tensor of %zu chunks, expected at most %u", count,
                         BLOB_CHUNK_BYTES / (uint32_t)sizeof(uint32_t));
    if (!frame_finish(&w->frame, start, 0))
        return syna_no_memory(FRAME_CRC_BYTES);
    return encode_manifest(w, w->gen->log.end, (uint32_t)header, key, key_len);
}

/* Locks held: is the version that is extended still the newest? */
static syna_rc check_base(struct writer *w, const char *key, size_t key_len)
{
    struct entry e;
    if (!w->base)
        return SYNA_SUCCESS;
    struct generation *gen = db_begin_read(w->db);
    syna_rc rc = keydir_find(gen->dir, key, key_len, &e);
    db_end_read(w->db);
    if (rc == KEYDIR_DAMAGED)
        return rc;
    return rc == SYNA_SUCCESS && e.offset == w->base->frame ? SYNA_SUCCESS : TENSOR_MOVED;
}

/* Locks held: append header and manifest, make them durable and visible. */
static syna_rc publish(syna_db *db, struct buf *frames)
{
    uint64_t offset;
    pthread_rwlock_wrlock(&db->state_lock);
    syna_rc rc = keydir_reserve(db->gen->dir, db->unpublished + 1);
    if (rc == SYNA_SUCCESS)
        rc = kvlog_append(&db->gen->log, frames->bytes, frames->len, 0, &offset, NULL);
    if (rc == SYNA_SUCCESS)
        db->unpublished++;
    if (rc == SYNA_SUCCESS && db->options.no_sync) {
        rc = db_publish_locked(db, db->gen->log.end);
        db->unpublished = 0;
    }
    pthread_rwlock_unlock(&db->state_lock);
    SYNA_TRY(rc);
    __atomic_fetch_add(&db->commits, 1, __ATOMIC_RELAXED);
    return db->options.no_sync ? SYNA_SUCCESS : db_drain(db);
}

static syna_rc commit_once(struct writer *w, const char *key, size_t key_len)
{
    SYNA_TRY(begin_append(w));
    syna_rc rc = check_base(w, key, key_len);
    if (rc == SYNA_SUCCESS)
        rc = encode_commit(w, key, key_len);
    if (rc == SYNA_SUCCESS)
        rc = publish(w->db, &w->frame);
    end_append(w);
    return rc;
}

static syna_rc commit(struct writer *w, const char *key, size_t key_len)
{
    if (!w->holding && !w->db->options.no_sync && w->from->len > SYNC_AHEAD_BYTES)
        SYNA_TRY(db_flush(w->db));
    syna_rc rc = commit_once(w, key, key_len);
    if (rc != KEYDIR_DAMAGED)
        return rc;
    /* A page of the key checkpoint is damaged: the log has it all. */
    SYNA_TRY(db_rebuild_index(w->db));
    return db_index_rc(commit_once(w, key, key_len));
}

/* ---------------------------------------------------------------- attempts */

static void writer_dispose(struct writer *w)
{
    struct status_record why = *status_get();
    if (w->holding)
        leave(w->db);
    generation_unref(w->gen);
    buf_dispose(&w->chunks);
    buf_dispose(&w->bytes);
    buf_dispose(&w->frame);
    buf_dispose(&w->plain);
    buf_dispose(&w->scratch);
    status_set(&why);
}

/* Write `from` behind the chunks that are in w->chunks already. */
static syna_rc write_tensor(struct writer *w, int attempt, const char *key, size_t key_len)
{
    SYNA_TRY(db_check_writable(w->db));
    if (attempt >= PATIENCE) {
        SYNA_TRY(enter(w->db));
        w->holding = true;
    }
    size_t kept = w->chunks.len / sizeof(struct tensor_chunk);
    bool paged = kept > 0 || w->from->len >= TENSOR_PAGE_FROM;
    w->align = paged ? TENSOR_PAGE : TENSOR_ALIGN;
    w->gen = generation_ref(db_begin_read(w->db));
    db_end_read(w->db);
    if (w->base && w->base->gen != w->gen)
        return TENSOR_MOVED;
    SYNA_TRY(write_chunks(w));
    return commit(w, key, key_len);
}

/* The log key of a prefix, checked. */
static syna_rc log_key(bool chunked, const char *prefix, size_t prefix_len, char *key, size_t *len)
{
    if (prefix_len > SYNA_KEY_MAX - TENSOR_KEY_PREFIX_MAX)
        return syna_fail(SYNA_ERR_KEY_TOO_LONG, SYNA_WHY_ARGUMENT,
                         "the prefix has %zu bytes; expected at most %zu", prefix_len,
                         SYNA_KEY_MAX - TENSOR_KEY_PREFIX_MAX);
    *len = tensor_log_key(chunked, prefix, prefix_len, key);
    return db_check_key(key, *len);
}

/* ---------------------------------------------------------------- put */

static syna_rc check_bools(const struct tensor_shape *shape, const uint8_t *data)
{
    uint8_t any = 0;
    if (shape->dtype != SYNA_DTYPE_BOOL)
        return SYNA_SUCCESS;
    for (uint64_t i = 0; i < shape->count; i++) /* no early exit: many at a time */
        any |= data[i];
    if (any <= 1)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                     "a bool that is neither 0 nor 1 among the data");
}

syna_rc tensors_put(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                    const syna_tensor_spec *spec, const void *data)
{
    char key[SYNA_KEY_MAX];
    size_t key_len = 0;
    struct tensor_shape shape;
    SYNA_TRY(tensor_shape_from(spec, &shape));
    SYNA_TRY(log_key(shape.per_chunk != 0, prefix, prefix_len, key, &key_len));
    SYNA_TRY(check_bools(&shape, data));
    syna_rc rc = TENSOR_MOVED;
    for (int attempt = 0; rc == TENSOR_MOVED; attempt++) {
        struct source from = {.fresh = data, .len = shape.bytes};
        struct writer w = {.db = tensors->db, .shape = &shape, .from = &from};
        rc = write_tensor(&w, attempt, key, key_len);
        writer_dispose(&w);
    }
    return db_note_damage(tensors->db, rc);
}

/* ---------------------------------------------------------------- append */

static syna_rc mismatched(const struct tensor_version *v, const char *what, uint64_t found,
                          uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, v->gen->log.file.path, -1, 0,
                        "rows for tensor \"%.*s\": %s %llu, the tensor has %llu",
                        (int)MIN(v->prefix_len, (size_t)200), v->prefix, what,
                        (unsigned long long)found, (unsigned long long)expected);
}

/* The shape with the rows added. */
static syna_rc grown(const struct tensor_version *v, const struct tensor_shape *rows,
                     struct tensor_shape *out)
{
    *out = v->shape;
    if (rows->dtype != out->dtype)
        return mismatched(v, "dtype", (uint64_t)rows->dtype, (uint64_t)out->dtype);
    if (out->dims == 0)
        return mismatched(v, "dimensions", rows->dims, 0);
    if (rows->dims != out->dims)
        return mismatched(v, "dimensions", rows->dims, out->dims);
    for (uint32_t i = 1; i < out->dims; i++)
        if (rows->shape[i] != out->shape[i])
            return mismatched(v, "length of a dimension", rows->shape[i], out->shape[i]);
    if (__builtin_add_overflow(out->shape[0], rows->shape[0], &out->shape[0]))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "too many rows");
    return tensor_shape_count(out);
}

/* Chunks that stay as they are; the bytes of the others are written again. */
static size_t chunks_kept(const struct tensor_version *v, uint64_t fresh)
{
    size_t kept = v->chunk_count;
    while (kept > 0 && v->chunks[kept - 1].plain < BLOB_CHUNK_BYTES &&
           v->chunks[kept - 1].plain <= fresh)
        fresh += v->chunks[--kept].plain;
    return kept;
}

static syna_rc append_once(syna_tensors *tensors, struct tensor_version *v, int attempt,
                           const struct tensor_shape *rows, const void *data, const char *key,
                           size_t key_len, uint64_t *total)
{
    struct tensor_shape shape;
    SYNA_TRY(grown(v, rows, &shape));
    size_t kept = chunks_kept(v, rows->bytes);
    uint64_t old_at = kept < v->chunk_count ? v->chunks[kept].start : v->shape.bytes;
    struct source from = {.old = {.v = v, .unpacked = SIZE_MAX},
                          .old_at = old_at,
                          .old_len = v->shape.bytes - old_at,
                          .fresh = data,
                          .len = shape.bytes - old_at};
    struct writer w = {.db = tensors->db, .shape = &shape, .from = &from, .base = v};
    syna_rc rc = buf_append(&w.chunks, v->chunks, kept * sizeof *v->chunks)
                     ? write_tensor(&w, attempt, key, key_len)
                     : syna_no_memory(kept * sizeof *v->chunks);
    writer_dispose(&w);
    tensor_reader_dispose(&from.old);
    *total = shape.shape[0];
    return rc;
}

syna_rc tensors_append(syna_tensors *tensors, const char *prefix, size_t prefix_len,
                       const syna_tensor_spec *spec, const void *data, uint64_t *total)
{
    char key[SYNA_KEY_MAX];
    size_t key_len = 0;
    struct tensor_shape rows;
    bool chunked = (spec->flags & SYNA_TENSOR_CHUNKED) != 0;
    SYNA_TRY(tensor_shape_from(spec, &rows));
    SYNA_TRY(log_key(chunked, prefix, prefix_len, key, &key_len));
    SYNA_TRY(check_bools(&rows, data));
    SYNA_TRY(db_check_writable(tensors->db));
    syna_rc rc = TENSOR_MOVED;
    for (int attempt = 0; rc == TENSOR_MOVED; attempt++) {
        struct tensor_version *v;
        rc = tensor_version_find(tensors, chunked, prefix, prefix_len, &v);
        if (rc == SYNA_ERR_KEY_NOT_FOUND)
            return syna_fail_at(rc, SYNA_WHY_NONE, db_path(tensors->db), -1, 0,
                                "no tensor has the prefix \"%.*s\"",
                                (int)MIN(prefix_len, (size_t)200), prefix);
        SYNA_TRY(rc);
        /* Holding write_lock from before the look would need another order; a lost race only costs
         * another turn, and whoever won it has made progress. */
        rc = append_once(tensors, v, attempt, &rows, data, key, key_len, total);
        tensor_version_unref(v);
    }
    return db_note_damage(tensors->db, rc);
}
