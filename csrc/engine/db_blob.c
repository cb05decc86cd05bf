/* db_blob.c - streamed values of any size.
 *
 * Writing:  write -> CHUNK frame per 4 MiB, appended without a sync -> ... -> finish -> manifest frame,
 *           whose sync makes chunks and manifest durable together, then visible.
 *
 *   1. Chunks are engine frames: no key names them before the manifest is published, so a blob that is
 *      never finished is garbage for the next compaction and nothing else.
 *   2. A writer holds no lock between two calls.
 *   3. Chunk offsets mean something in one generation only. A writer pins the one its chunks are in;
 *      when a compaction, here or in another process, has replaced it, the chunks are appended
 *      again from there, one per turn of the lock, before anything else happens. The manifest is
 *      appended under the same hold of the lock that found the generation to be the right one.
 *
 * Reading pins a generation too, so compaction never disturbs an open blob. A chunk's checksum is
 * verified when it is first touched through this blob. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/db_blob.h"
#include "engine/db_update.h"

/* Blobs with more than this still to be synced are synced before the manifest is appended, where no
 * lock is held; then the sync under write_lock is as short as any. */
#define SYNC_AHEAD_BYTES (16u << 20)

struct syna_blob {
    syna_db *db;
    bool writing;
    /* Writing: where `chunks` are. Reading: the version that was opened. */
    struct generation *gen;

    /* -- writing */
    char *key;
    size_t key_len;
    bool ended;               /* finished, or an earlier write failed */
    bool refused;             /* by what goes with the manifest */
    struct buf piece;         /* the chunk frame being filled, CRC room not yet added */
    size_t piece_at;
    struct buf chunks;        /* struct blob_chunk[] */
    struct generation *moving; /* chunks are being appended again in this generation ... */
    struct buf moved;          /* ... so far these */

    /* -- reading */
    uint64_t size; /* writing: bytes so far */
    struct blob_manifest manifest;
    uint64_t *starts;     /* position of each chunk in the content, and the size behind the last */
    uint8_t *checked;     /* bit per chunk (atomic) */
    bool streamed;        /* `piece` holds the frame of chunk `piece_at`; no bytes: of none */
    const uint8_t *plain; /* content of a value that is not a blob; then no chunks */
};

/* ---------------------------------------------------------------- manifests */

static syna_rc bad_manifest(const struct frame *f, const char *path, const char *what, uint64_t found,
                            uint64_t expected)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, path, (int64_t)f->offset, 0,
                        "blob manifest: %s %llu, expected %llu", what, (unsigned long long)found,
                        (unsigned long long)expected);
}

static syna_rc check_chunks(const struct frame *f, const char *path, const struct blob_manifest *m)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct blob_chunk c = blob_entry(m, i);
        if (c.len == 0 || c.len > BLOB_CHUNK_BYTES)
            return bad_manifest(f, path, "chunk length", c.len, BLOB_CHUNK_BYTES);
        if (c.offset >= f->offset)
            return bad_manifest(f, path, "chunk behind its manifest, at", c.offset, f->offset);
        sum += c.len;
    }
    return sum == m->size ? SYNA_SUCCESS : bad_manifest(f, path, "size", m->size, sum);
}

syna_rc blob_parse(const struct frame *f, const char *path, struct blob_manifest *out)
{
    memset(out, 0, sizeof *out);
    SYNA_TRY(value_decode(f, path, &out->scratch, &out->value));
    const uint8_t *bytes = out->value.data;
    if (out->value.type != SYNA_TYPE_BLOB)
        return bad_manifest(f, path, "type", (uint64_t)out->value.type, SYNA_TYPE_BLOB);
    if (out->value.len < BLOB_HEAD_BYTES)
        return bad_manifest(f, path, "length", out->value.len, BLOB_HEAD_BYTES);
    out->size = load_u64(bytes);
    out->count = load_u32(bytes + 8);
    out->chunks = bytes + BLOB_HEAD_BYTES;
    uint64_t expected = BLOB_HEAD_BYTES + (uint64_t)out->count * BLOB_ENTRY_BYTES;
    if (out->value.len != expected)
        return bad_manifest(f, path, "length", out->value.len, expected);
    return check_chunks(f, path, out);
}

void blob_manifest_dispose(struct blob_manifest *m)
{
    buf_dispose(&m->scratch);
}

bool blob_encode(const struct blob_chunk *chunks, size_t count, struct buf *to)
{
    uint8_t *p = buf_extend(to, BLOB_HEAD_BYTES + count * BLOB_ENTRY_BYTES);
    uint64_t size = 0;
    if (!p)
        return false;
    for (size_t i = 0; i < count; i++) {
        store_u64(p + BLOB_HEAD_BYTES + i * BLOB_ENTRY_BYTES, chunks[i].offset);
        store_u32(p + BLOB_HEAD_BYTES + i * BLOB_ENTRY_BYTES + 8, chunks[i].len);
        size += chunks[i].len;
    }
    store_u64(p, size);
    store_u32(p + 8, (uint32_t)count);
    return true;
}

bool blob_is_chunk(const struct frame *f, uint32_t len)
{
    return f->key_len == 0 && f->value_len == (uint64_t)len + 1 && f->value[0] == ENGINE_CHUNK;
}

syna_rc blob_chunk_at(const struct kvlog *log, const struct blob_chunk *chunk, struct frame *f)
{
    SYNA_TRY(kvlog_frame(log, chunk->offset, f));
    if (blob_is_chunk(f, chunk->len))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, log->file.path,
                        (int64_t)chunk->offset, 0,
                        "found another frame, expected the chunk of %u bytes that a blob names",
                        chunk->len);
}

/* ---------------------------------------------------------------- plain gets of a blob */

syna_rc blob_read_manifest(struct generation *gen, const struct frame *f, uint64_t *size)
{
    struct blob_manifest m;
    syna_rc rc = blob_parse(f, gen->log.file.path, &m);
    *size = m.size;
    blob_manifest_dispose(&m);
    return rc;
}

static syna_rc copy_chunks(const struct kvlog *log, const struct blob_manifest *m, uint8_t *to)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct blob_chunk c = blob_entry(m, i);
        struct frame chunk;
        SYNA_TRY(blob_chunk_at(log, &c, &chunk));
        memcpy(to, chunk.value + 1, c.len);
        to += c.len;
    }
    return SYNA_SUCCESS;
}

syna_rc blob_copy(struct generation *gen, const struct frame *f, void *buf, size_t cap)
{
    struct blob_manifest m;
    syna_rc rc = blob_parse(f, gen->log.file.path, &m);
    if (rc == SYNA_SUCCESS && m.size > cap)
        rc = syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "a blob of %llu bytes into room for %zu",
                       (unsigned long long)m.size, cap);
    if (rc == SYNA_SUCCESS)
        rc = copy_chunks(&gen->log, &m, buf);
    blob_manifest_dispose(&m);
    return rc;
}

/* ---------------------------------------------------------------- writing */

static syna_rc start_piece(struct syna_blob *b)
{
    static const uint8_t kind = ENGINE_CHUNK;
    b->piece.len = 0;
    if (!frame_begin(&b->piece, NULL, 0, &b->piece_at) || !buf_append(&b->piece, &kind, 1))
        return syna_no_memory(FRAME_HEADER_BYTES + 1);
    return SYNA_SUCCESS;
}

static size_t piece_bytes(const struct syna_blob *b)
{
    return b->piece.len - FRAME_HEADER_BYTES - 1;
}

syna_rc db_blob_create(syna_db *db, const char *key, size_t key_len, syna_blob **out)
{
    SYNA_TRY(db_check_key(key, key_len));
    SYNA_TRY(db_check_writable(db));
    struct syna_blob *b = mem_zalloc(sizeof *b);
    if (!b)
        return syna_no_memory(sizeof *b);
    b->db = db;
    b->writing = true;
    b->key = mem_dup(key, key_len);
    b->key_len = key_len;
    syna_rc rc = b->key ? start_piece(b) : syna_no_memory(key_len);
    if (rc != SYNA_SUCCESS) {
        db_blob_free(b);
        return rc;
    }
    b->gen = generation_ref(db_begin_read(db));
    db_end_read(db);
    *out = b;
    return SYNA_SUCCESS;
}

/* Append one chunk frame; write_lock and the process lock held. */
static syna_rc append_chunk(syna_db *db, struct buf *frame, struct buf *chunks, uint32_t len)
{
    struct blob_chunk chunk = {0, len, 0};
    if (!buf_reserve(chunks, sizeof chunk))
        return syna_no_memory(sizeof chunk);
    SYNA_TRY(kvlog_append(&db->gen->log, frame->bytes, frame->len, 0, &chunk.offset, NULL));
    buf_append(chunks, &chunk, sizeof chunk);
    return SYNA_SUCCESS;
}

/* The same, the chunk's bytes being where the caller has them. */
static syna_rc append_bytes(syna_db *db, const uint8_t *data, uint32_t len, uint32_t crc,
                            struct buf *chunks)
{
    struct kvlog_chunk fresh = {.data = data, .len = len, .crc = crc};
    if (!buf_reserve(chunks, sizeof(struct blob_chunk)))
        return syna_no_memory(sizeof(struct blob_chunk));
    SYNA_TRY(kvlog_append_chunks(&db->gen->log, &fresh, 1, 1));
    struct blob_chunk chunk = {fresh.offset, len, 0};
    buf_append(chunks, &chunk, sizeof chunk);
    return SYNA_SUCCESS;
}

/* One step of following a compaction: append one more of the old generation's chunks in the current
 * one; after the last, the current one is where the blob lives. Locks held. */
static syna_rc carry_one(struct syna_blob *b)
{
    syna_db *db = b->db;
    if (b->moving != db->gen) {
        generation_unref(b->moving);
        b->moving = generation_ref(db->gen);
        b->moved.len = 0;
    }
    if (b->moved.len == b->chunks.len) {
        struct buf chunks = b->chunks;
        b->chunks = b->moved;
        b->moved = chunks;
        generation_unref(b->gen);
        b->gen = b->moving;
        b->moving = NULL;
        return SYNA_SUCCESS;
    }

    const struct blob_chunk *chunk = (const void *)(b->chunks.bytes + b->moved.len);
    struct buf copy = {0};
    struct frame f;
    SYNA_TRY(blob_chunk_at(&b->gen->log, chunk, &f));
    syna_rc rc = frame_append(&copy, NULL, 0, 0, f.value, f.value_len)
                     ? append_chunk(db, &copy, &b->moved, chunk->len)
                     : syna_no_memory(f.value_len);
    buf_dispose(&copy);
    return rc;
}

/* Take the locks with all chunks in the current generation. On failure no lock is held. */
static syna_rc enter_current(struct syna_blob *b)
{
    for (;;) {
        SYNA_TRY(db_write_enter(b->db));
        if (b->gen == b->db->gen)
            return SYNA_SUCCESS;
        syna_rc rc = carry_one(b);
        db_write_leave(b->db);
        SYNA_TRY(rc);
    }
}

static syna_rc append_piece(struct syna_blob *b)
{
    uint32_t len = (uint32_t)piece_bytes(b);
    if (!frame_finish(&b->piece, b->piece_at, 0))
        return syna_no_memory(FRAME_CRC_BYTES);
    SYNA_TRY(enter_current(b));
    syna_rc rc = append_chunk(b->db, &b->piece, &b->chunks, len);
    db_write_leave(b->db);
    return rc == SYNA_SUCCESS ? start_piece(b) : rc;
}

static syna_rc check_writing(const struct syna_blob *b)
{
    if (!b->writing)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "this blob was opened for reading, not created");
    if (b->ended)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "this blob was finished, or an earlier write of it failed");
    return SYNA_SUCCESS;
}

size_t db_blob_room(const syna_blob *b)
{
    return BLOB_CHUNK_BYTES - piece_bytes(b);
}

static syna_rc write_chunk(struct syna_blob *b, const uint8_t *data, uint32_t crc)
{
    SYNA_TRY(enter_current(b));
    syna_rc rc = append_bytes(b->db, data, BLOB_CHUNK_BYTES, crc, &b->chunks);
    db_write_leave(b->db);
    if (rc == SYNA_SUCCESS)
        b->size += BLOB_CHUNK_BYTES;
    return rc;
}

syna_rc db_blob_write_chunk(syna_blob *b, const void *data, uint32_t crc)
{
    SYNA_TRY(check_writing(b));
    assert(db_blob_room(b) == BLOB_CHUNK_BYTES);
    syna_rc rc = write_chunk(b, data, crc);
    b->ended = rc != SYNA_SUCCESS;
    return rc;
}

/* A whole chunk is not copied. */
static syna_rc write_pieces(struct syna_blob *b, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t n = MIN(len, db_blob_room(b));
        if (n == BLOB_CHUNK_BYTES) {
            SYNA_TRY(write_chunk(b, data, crc32c(0, data, n)));
            data += n;
            len -= n;
            continue;
        }
        if (!buf_append(&b->piece, data, n))
            return syna_no_memory(n);
        data += n;
        len -= n;
        b->size += n;
        if (piece_bytes(b) == BLOB_CHUNK_BYTES)
            SYNA_TRY(append_piece(b));
    }
    return SYNA_SUCCESS;
}

syna_rc db_blob_write(syna_blob *blob, const void *data, size_t len)
{
    SYNA_TRY(check_writing(blob));
    syna_rc rc = write_pieces(blob, data, len);
    if (rc != SYNA_SUCCESS)
        blob->ended = true; /* how much of `data` went in is not known to the caller */
    return rc;
}

static syna_rc encode_manifest(struct syna_blob *b, struct buf *frames)
{
    struct buf manifest = {0};
    syna_rc rc = SYNA_SUCCESS;
    if (!blob_encode((const void *)b->chunks.bytes, b->chunks.len / sizeof(struct blob_chunk),
                     &manifest))
        rc = syna_no_memory(b->chunks.len);
    if (rc == SYNA_SUCCESS) {
        struct value v = {.type = SYNA_TYPE_BLOB, .data = manifest.bytes, .len = manifest.len};
        rc = db_encode(b->db, frames, b->key, b->key_len, &v);
    }
    buf_dispose(&manifest);
    return rc;
}

/* What goes with the manifest, as frames in front of it. */
static syna_rc build_frames(struct syna_blob *b, db_update_fn build, void *context,
                            struct buf *frames, size_t *count)
{
    syna_batch *batch;
    if (!build)
        return SYNA_SUCCESS;
    SYNA_TRY(db_batch_new(b->db, &batch));
    syna_rc rc = build(context, batch);
    b->refused = rc != SYNA_SUCCESS;
    struct buf *built = db_batch_frames(batch);
    if (rc == SYNA_SUCCESS && !buf_append(frames, built->bytes, built->len))
        rc = syna_no_memory(built->len);
    *count += db_batch_count(batch);
    db_batch_free(batch);
    return rc;
}

static syna_rc commit_manifest(struct syna_blob *b, db_update_fn build, void *context)
{
    struct buf frames = {0};
    size_t count = 1;
    syna_rc rc = build_frames(b, build, context, &frames, &count);
    if (rc == SYNA_SUCCESS)
        rc = encode_manifest(b, &frames);
    if (rc == SYNA_SUCCESS)
        rc = db_write_append(b->db, &frames, count);
    if (rc == SYNA_SUCCESS)
        rc = db_write_publish(b->db);
    buf_dispose(&frames);
    return rc;
}

static syna_rc finish(struct syna_blob *b, db_update_fn build, void *context)
{
    if (piece_bytes(b) > 0)
        SYNA_TRY(append_piece(b));
    if (!b->db->options.no_sync && b->size > SYNC_AHEAD_BYTES)
        SYNA_TRY(db_flush(b->db));
    SYNA_TRY(enter_current(b));
    syna_rc rc = commit_manifest(b, build, context);
    db_write_leave(b->db);
    if (rc != KEYDIR_DAMAGED)
        return rc;
    /* A page of the key checkpoint is damaged: the log has it all. */
    SYNA_TRY(db_rebuild_index(b->db));
    SYNA_TRY(enter_current(b));
    rc = commit_manifest(b, build, context);
    db_write_leave(b->db);
    return rc;
}

syna_rc db_blob_finish_with(syna_blob *blob, db_update_fn build, void *context)
{
    SYNA_TRY(check_writing(blob));
    syna_rc rc = finish(blob, build, context);
    blob->ended = true;
    return blob->refused ? rc : db_note_damage(blob->db, rc);
}

syna_rc db_blob_finish(syna_blob *blob)
{
    return db_blob_finish_with(blob, NULL, NULL);
}

syna_rc db_blob_rename(syna_blob *blob, const char *key, size_t key_len)
{
    SYNA_TRY(check_writing(blob));
    SYNA_TRY(db_check_key(key, key_len));
    char *copy = mem_dup(key, key_len);
    if (!copy)
        return syna_no_memory(key_len);
    mem_free(blob->key);
    blob->key = copy;
    blob->key_len = key_len;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

static syna_rc index_chunks(struct syna_blob *b)
{
    const struct blob_manifest *m = &b->manifest;
    b->starts = mem_alloc(((size_t)m->count + 1) * sizeof *b->starts);
    b->checked = mem_zalloc((size_t)m->count / 8 + 1);
    if (!b->starts || !b->checked)
        return syna_no_memory((size_t)m->count * sizeof *b->starts);
    uint64_t at = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        b->starts[i] = at;
        at += blob_entry(m, i).len;
    }
    b->starts[m->count] = at;
    return SYNA_SUCCESS;
}

static syna_rc open_content(struct syna_blob *b, const struct entry *e, const struct frame *f)
{
    const char *path = b->gen->log.file.path;
    if (e->type == SYNA_TYPE_BLOB) {
        SYNA_TRY(blob_parse(f, path, &b->manifest));
        b->size = b->manifest.size;
        return index_chunks(b);
    }
    if (e->type != SYNA_TYPE_BYTES && e->type != SYNA_TYPE_TEXT && e->type != SYNA_TYPE_PACKED)
        return syna_fail(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE,
                         "the value has type %d; expected a blob, bytes, text or a packed value",
                         e->type);
    SYNA_TRY(value_decode(f, path, &b->manifest.scratch, &b->manifest.value));
    b->plain = b->manifest.value.data;
    b->size = b->manifest.value.len;
    return SYNA_SUCCESS;
}

syna_rc db_blob_open(syna_db *db, const char *key, size_t key_len, syna_blob **out)
{
    struct entry e;
    struct frame f;
    struct syna_blob *b = mem_zalloc(sizeof *b);
    if (!b)
        return syna_no_memory(sizeof *b);
    b->db = db;

    struct generation *gen = db_begin_read(db);
    syna_rc rc = db_find(db, &gen, key, key_len, &e, &f);
    if (rc == SYNA_SUCCESS)
        b->gen = generation_ref(gen);
    db_end_read(db);
    if (rc == SYNA_SUCCESS)
        rc = open_content(b, &e, &f);
    if (rc != SYNA_SUCCESS) {
        db_blob_free(b);
        return db_note_damage(db, rc);
    }
    *out = b;
    return SYNA_SUCCESS;
}

uint64_t db_blob_size(const syna_blob *blob)
{
    return blob->size;
}

/* The chunk that holds byte `at` of the content; at < size. */
static uint32_t chunk_holding(const struct syna_blob *b, uint64_t at)
{
    uint32_t low = 0, high = b->manifest.count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (b->starts[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void db_blob_stream(syna_blob *blob)
{
    blob->streamed = true;
}

/* The chunk as the file has it now. What does not check out is looked at again in the mapping, for the
 * words of the error. */
static syna_rc stream_chunk(struct syna_blob *b, uint32_t i, const uint8_t **bytes)
{
    const struct kvlog *log = &b->gen->log;
    struct blob_chunk c = blob_entry(&b->manifest, i);
    size_t len = FRAME_HEADER_BYTES + 1 + (size_t)c.len + FRAME_CRC_BYTES;
    struct frame f;
    if (b->piece.len == 0 || b->piece_at != i) {
        b->piece.len = 0;
        if (!buf_reserve(&b->piece, len))
            return syna_no_memory(len);
        SYNA_TRY(file_read_exactly(&log->file, c.offset, b->piece.bytes, len));
        if (frame_parse(b->piece.bytes, len, c.offset, log->seed, &f) != FRAME_GOOD ||
            !blob_is_chunk(&f, c.len)) {
            SYNA_TRY(blob_chunk_at(log, &c, &f));
            *bytes = f.value + 1;
            return SYNA_SUCCESS;
        }
        b->piece.len = len;
        b->piece_at = i;
    }
    *bytes = b->piece.bytes + FRAME_HEADER_BYTES + 1;
    return SYNA_SUCCESS;
}

/* A whole chunk of `len` bytes straight to where it is wanted, with everything that looks at the bytes
 * looking while they are in the processor's cache. */
static syna_rc stream_whole(struct syna_blob *b, uint32_t i, uint8_t *to, const struct blob_watch *watch)
{
    const struct kvlog *log = &b->gen->log;
    struct blob_chunk c = blob_entry(&b->manifest, i);
    uint8_t front[FRAME_CHUNK_FRONT], back[FRAME_CRC_BYTES];
    uint64_t at = c.offset + sizeof front;
    struct frame f;
    uint32_t crc = 0;
    SYNA_TRY(file_read_exactly(&log->file, c.offset, front, sizeof front));
    for (uint32_t done = 0, n; done < c.len; done += n) {
        n = MIN(c.len - done, BLOB_WATCH_BYTES);
        SYNA_TRY(file_read_exactly(&log->file, at + done, to + done, n));
        crc = crc32c(crc, to + done, n);
        if (watch)
            watch->see(watch->context, to + done, n);
    }
    SYNA_TRY(file_read_exactly(&log->file, at + c.len, back, sizeof back));
    if (frame_chunk_matches(front, c.offset, log->seed, c.len, crc, load_u32(back)))
        return SYNA_SUCCESS;
    SYNA_TRY(blob_chunk_at(log, &c, &f)); /* looked at again, for the words of the error */
    memcpy(to, f.value + 1, c.len);
    if (!watch)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, log->file.path, (int64_t)c.offset, 0,
                        "this chunk of %u bytes was read damaged once, and undamaged again", c.len);
}

/* After a failed sync the file may have been cut back, so nothing checked earlier counts. */
static syna_rc chunk_bytes(struct syna_blob *b, uint32_t i, const uint8_t **bytes)
{
    struct blob_chunk c = blob_entry(&b->manifest, i);
    uint8_t bit = (uint8_t)(1u << (i & 7));
    struct frame f;
    if (b->streamed)
        return stream_chunk(b, i, bytes);
    if ((__atomic_load_n(&b->checked[i / 8], __ATOMIC_RELAXED) & bit) && !b->gen->log.failed) {
        *bytes = map_base(&b->gen->log.map) + c.offset + FRAME_HEADER_BYTES + 1;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(blob_chunk_at(&b->gen->log, &c, &f));
    __atomic_fetch_or(&b->checked[i / 8], bit, __ATOMIC_RELAXED);
    *bytes = f.value + 1;
    return SYNA_SUCCESS;
}

static syna_rc read_piece(struct syna_blob *b, uint32_t i, size_t skip, uint8_t *to, size_t n,
                          const struct blob_watch *watch)
{
    const uint8_t *bytes = NULL;
    if (b->streamed && skip == 0 && n == b->starts[i + 1] - b->starts[i] && n > BLOB_WATCH_BYTES)
        return stream_whole(b, i, to, watch);
    SYNA_TRY(chunk_bytes(b, i, &bytes));
    for (size_t done = 0, part; done < n; done += part) {
        part = MIN(n - done, (size_t)BLOB_WATCH_BYTES);
        memcpy(to + done, bytes + skip + done, part);
        if (watch)
            watch->see(watch->context, to + done, part);
    }
    return SYNA_SUCCESS;
}

static syna_rc read_chunks(struct syna_blob *b, uint64_t at, uint8_t *to, size_t len,
                           const struct blob_watch *watch)
{
    if (len == 0)
        return SYNA_SUCCESS;
    for (uint32_t i = chunk_holding(b, at); len > 0; i++) {
        size_t n = MIN(len, (size_t)(b->starts[i + 1] - at));
        SYNA_TRY(read_piece(b, i, (size_t)(at - b->starts[i]), to, n, watch));
        to += n;
        at += n;
        len -= n;
    }
    return SYNA_SUCCESS;
}

syna_rc db_blob_read_watched(syna_blob *blob, uint64_t offset, void *buf, size_t len,
                             const struct blob_watch *watch, size_t *got)
{
    *got = 0;
    if (blob->writing)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "this blob is being written; open it again to read");
    if (offset >= blob->size)
        return SYNA_SUCCESS;
    size_t n = (size_t)MIN((uint64_t)len, blob->size - offset);
    if (blob->plain) {
        memcpy(buf, blob->plain + offset, n);
        if (watch)
            watch->see(watch->context, buf, n);
    } else {
        SYNA_TRY(db_note_damage(blob->db, read_chunks(blob, offset, buf, n, watch)));
    }
    *got = n;
    return SYNA_SUCCESS;
}

syna_rc db_blob_read(syna_blob *blob, uint64_t offset, void *buf, size_t len, size_t *got)
{
    return db_blob_read_watched(blob, offset, buf, len, NULL, got);
}

void db_blob_free(syna_blob *blob)
{
    if (!blob)
        return;
    generation_unref(blob->gen);
    generation_unref(blob->moving);
    blob_manifest_dispose(&blob->manifest);
    buf_dispose(&blob->piece);
    buf_dispose(&blob->chunks);
    buf_dispose(&blob->moved);
    mem_free(blob->starts);
    mem_free(blob->checked);
    mem_free(blob->key);
    mem_free(blob);
}
