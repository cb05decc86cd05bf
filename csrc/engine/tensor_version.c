/* tensor_version.c - one stored state of a tensor: found, taken apart, checked, read, mapped. */
#include "base/internal.h"

#include "engine/tensor_core.h"

/* More chunks than this are not mapped side by side: a process has a limited number of mappings. */
#define MAP_CHUNKS_MAX 16384u

/* ---------------------------------------------------------------- the handle */

syna_rc tensors_new(syna_db *db, syna_tensors **out)
{
    syna_tensors *t = mem_zalloc(sizeof *t);
    if (!t)
        return syna_no_memory(sizeof *t);
    t->db = db;
    t->pid = syna_vfs->pid();
    pthread_mutex_init(&t->cache_lock, NULL);
    *out = t;
    return SYNA_SUCCESS;
}

void tensors_free(syna_tensors *tensors)
{
    for (size_t i = 0; i < tensors->cached; i++)
        tensor_version_unref(tensors->cache[i]);
    mem_free(tensors->cache);
    pthread_mutex_destroy(&tensors->cache_lock);
    mem_free(tensors);
}

syna_db *tensors_db(const syna_tensors *tensors)
{
    return tensors->db;
}

/* In a forked child another thread of the parent may have held the lock, the cache half changed: both
 * are made anew by the child's first call. What the old cache held stays allocated. */
static void lock_cache(syna_tensors *t)
{
    int pid = syna_vfs->pid(), owner = __atomic_load_n(&t->pid, __ATOMIC_ACQUIRE);
    if (UNLIKELY(owner != pid) &&
        __atomic_compare_exchange_n(&t->pid, &owner, pid, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        pthread_mutex_init(&t->cache_lock, NULL);
        t->cache = NULL;
        t->cached = t->cache_room = 0;
    }
    pthread_mutex_lock(&t->cache_lock);
}

size_t tensor_log_key(bool chunked, const char *prefix, size_t prefix_len, char *key)
{
    const char *head = chunked ? TENSOR_CHUNKS_PREFIX : TENSOR_PREFIX;
    size_t head_len = strlen(head);
    memcpy(key, head, head_len);
    if (prefix_len)
        memcpy(key + head_len, prefix, prefix_len);
    return head_len + prefix_len;
}

/* ---------------------------------------------------------------- the cache */

static int compare(const struct tensor_version *v, bool chunked, const char *prefix, size_t len)
{
    if (v->chunked != chunked)
        return v->chunked ? 1 : -1;
    int order = MIN(len, v->prefix_len) ? memcmp(v->prefix, prefix, MIN(len, v->prefix_len)) : 0;
    return order ? order : (v->prefix_len > len) - (v->prefix_len < len);
}

/* Where a prefix is, or would be, in the cache. */
static size_t cache_place(const syna_tensors *t, bool chunked, const char *prefix, size_t len,
                          bool *found)
{
    size_t low = 0, high = t->cached;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(t->cache[middle], chunked, prefix, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < t->cached && compare(t->cache[low], chunked, prefix, len) == 0;
    return low;
}

/* The version that stands at `frame` of this generation, if it is known; a reference. What is known of
 * a prefix but no longer stored is forgotten. */
static struct tensor_version *cache_get(syna_tensors *t, bool chunked, const char *prefix, size_t len,
                                        const struct generation *gen, uint64_t frame)
{
    bool found;
    struct tensor_version *v = NULL, *old = NULL;
    lock_cache(t);
    size_t i = cache_place(t, chunked, prefix, len, &found);
    if (found && t->cache[i]->gen == gen && t->cache[i]->frame == frame) {
        v = tensor_version_ref(t->cache[i]);
    } else if (found) {
        old = t->cache[i];
        memmove(&t->cache[i], &t->cache[i + 1], (--t->cached - i) * sizeof *t->cache);
    }
    pthread_mutex_unlock(&t->cache_lock);
    if (old)
        tensor_version_unref(old);
    return v;
}

static bool cache_grow(syna_tensors *t)
{
    if (t->cached < t->cache_room)
        return true;
    size_t room = t->cache_room ? 2 * t->cache_room : 16;
    struct tensor_version **cache = mem_resize(t->cache, room * sizeof(struct tensor_version *));
    if (!cache)
        return false;
    t->cache = cache;
    t->cache_room = room;
    return true;
}

/* Without memory for the cache the version is good all the same. */
static void cache_put(syna_tensors *t, struct tensor_version *v)
{
    bool found;
    struct tensor_version *old = NULL;
    lock_cache(t);
    size_t i = cache_place(t, v->chunked, v->prefix, v->prefix_len, &found);
    if (found) {
        old = t->cache[i];
        t->cache[i] = tensor_version_ref(v);
    } else if (cache_grow(t)) {
        memmove(&t->cache[i + 1], &t->cache[i], (t->cached++ - i) * sizeof *t->cache);
        t->cache[i] = tensor_version_ref(v);
    }
    pthread_mutex_unlock(&t->cache_lock);
    if (old)
        tensor_version_unref(old);
}

/* ---------------------------------------------------------------- loading */

struct tensor_version *tensor_version_ref(struct tensor_version *v)
{
    __atomic_fetch_add(&v->refs, 1, __ATOMIC_RELAXED);
    return v;
}

static uint64_t whole_pages(uint64_t bytes)
{
    return (bytes + TENSOR_PAGE - 1) / TENSOR_PAGE * TENSOR_PAGE;
}

void tensor_version_unref(struct tensor_version *v)
{
    if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (v->mapped)
        syna_vfs->unmap(v->mapped, (size_t)whole_pages(v->shape.bytes));
    generation_unref(v->gen);
    pthread_mutex_destroy(&v->map_lock);
    mem_free(v->prefix);
    mem_free(v->chunks);
    mem_free(v->checked);
    mem_free(v);
}

static syna_rc bad_tensor(const struct tensor_version *v, size_t i, const char *what)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, v->gen->log.file.path,
                        (int64_t)v->chunks[i].offset, 0, "tensor \"%.*s\" chunk %zu of %zu: %s",
                        (int)MIN(v->prefix_len, (size_t)200), v->prefix, i, v->chunk_count, what);
}

/* Do the chunks that the manifest names fit the header? */
static syna_rc check_lengths(const struct tensor_version *v)
{
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct tensor_chunk *c = &v->chunks[i];
        bool packed = v->shape.codec == SYNA_CODEC_LZ4 && c->stored < c->plain;
        if (c->stored != c->plain && !packed)
            return bad_tensor(v, i, "its length is not what the header says");
    }
    return SYNA_SUCCESS;
}

/* Can the chunks be mapped side by side? A single one is mapped already. */
static bool in_one_piece(const struct tensor_version *v)
{
    if (v->chunk_count > MAP_CHUNKS_MAX || v->gen->log.map.copy)
        return v->chunk_count == 1 && v->chunks[0].stored == v->chunks[0].plain;
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct tensor_chunk *c = &v->chunks[i];
        uint64_t data = c->offset + FRAME_HEADER_BYTES + 1;
        bool last = i + 1 == v->chunk_count;
        uint32_t align = v->chunk_count > 1 ? TENSOR_PAGE : TENSOR_ALIGN;
        if (c->stored != c->plain || data % align != 0 || (!last && c->plain % TENSOR_PAGE != 0))
            return false;
    }
    return v->chunk_count > 0;
}

static syna_rc fill_in(struct tensor_version *v, const struct blob_manifest *m)
{
    struct blob_chunk head = blob_entry(m, 0);
    struct frame f;
    const char *path = v->gen->log.file.path;
    v->chunk_count = m->count - 1;
    v->chunks = mem_zalloc((v->chunk_count + 1) * sizeof *v->chunks);
    v->checked = mem_zalloc(v->chunk_count / 8 + 1);
    if (!v->chunks || !v->checked)
        return syna_no_memory(v->chunk_count * sizeof *v->chunks);
    SYNA_TRY(blob_chunk_at(&v->gen->log, &head, &f));
    SYNA_TRY(tensor_header_decode(f.value + 1, head.len, path, (int64_t)head.offset, &v->shape,
                                  v->chunks, v->chunk_count));
    for (size_t i = 0; i < v->chunk_count; i++) {
        struct blob_chunk c = blob_entry(m, (uint32_t)i + 1);
        v->chunks[i].offset = c.offset;
        v->chunks[i].stored = c.len;
        v->stored_bytes += c.len;
    }
    SYNA_TRY(check_lengths(v));
    v->one_piece = in_one_piece(v);
    return SYNA_SUCCESS;
}

/* Somebody's blob that happens to have such a key is no tensor; it is left alone. */
static syna_rc is_tensor(const struct generation *gen, const struct blob_manifest *m, bool chunked,
                         bool *is)
{
    struct frame f;
    *is = m->count > 0;
    if (!*is)
        return SYNA_SUCCESS;
    struct blob_chunk head = blob_entry(m, 0);
    SYNA_TRY(blob_chunk_at(&gen->log, &head, &f));
    *is = tensor_header_is(f.value + 1, head.len) &&
          (load_u64(f.value + 1 + 8) != 0) == chunked;
    return SYNA_SUCCESS;
}

static syna_rc load(struct generation *gen, const struct frame *f, bool chunked,
                    const char *prefix, size_t len, struct tensor_version **out)
{
    struct blob_manifest m;
    bool is = false;
    struct tensor_version *v = mem_zalloc(sizeof *v);
    if (!v)
        return syna_no_memory(sizeof *v);
    v->refs = 1;
    v->chunked = chunked;
    v->gen = generation_ref(gen);
    v->frame = f->offset;
    v->prefix_len = len;
    pthread_mutex_init(&v->map_lock, NULL);
    v->prefix = mem_dup(prefix, len);
    syna_rc rc = v->prefix ? blob_parse(f, gen->log.file.path, &m) : syna_no_memory(len);
    if (v->prefix) {
        if (rc == SYNA_SUCCESS)
            rc = is_tensor(gen, &m, chunked, &is);
        if (rc == SYNA_SUCCESS)
            rc = is ? fill_in(v, &m) : SYNA_ERR_KEY_NOT_FOUND;
        blob_manifest_dispose(&m);
    }
    if (rc != SYNA_SUCCESS) {
        tensor_version_unref(v);
        return rc;
    }
    *out = v;
    return SYNA_SUCCESS;
}

/* The manifest's frame of a prefix, its generation referenced. */
static syna_rc find_manifest(syna_db *db, const char *key, size_t key_len, struct generation **gen,
                             struct frame *f)
{
    struct entry e;
    struct status_record before = *status_get();
    struct generation *now = db_begin_read(db);
    syna_rc rc = keydir_find(now->dir, key, key_len, &e);
    if (rc != SYNA_ERR_KEY_NOT_FOUND) /* most look-ups of a search end here, without a message */
        rc = db_find(db, &now, key, key_len, &e, f);
    if (rc == SYNA_SUCCESS && e.type != SYNA_TYPE_BLOB)
        rc = SYNA_ERR_KEY_NOT_FOUND;
    if (rc == SYNA_SUCCESS)
        *gen = generation_ref(now);
    db_end_read(db);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        status_set(&before);
    return rc;
}

syna_rc tensor_version_find(syna_tensors *tensors, bool chunked, const char *prefix,
                            size_t prefix_len, struct tensor_version **out)
{
    char key[SYNA_KEY_MAX];
    struct generation *gen;
    struct frame f;
    if (prefix_len > SYNA_KEY_MAX - TENSOR_KEY_PREFIX_MAX)
        return SYNA_ERR_KEY_NOT_FOUND;
    size_t key_len = tensor_log_key(chunked, prefix, prefix_len, key);
    SYNA_TRY(find_manifest(tensors->db, key, key_len, &gen, &f));
    *out = cache_get(tensors, chunked, prefix, prefix_len, gen, f.offset);
    syna_rc rc = SYNA_SUCCESS;
    if (!*out) {
        rc = load(gen, &f, chunked, prefix, prefix_len, out);
        if (rc == SYNA_SUCCESS)
            cache_put(tensors, *out);
    }
    generation_unref(gen);
    return db_note_damage(tensors->db, rc);
}

/* ---------------------------------------------------------------- reading */

syna_rc tensor_version_chunk(struct tensor_version *v, size_t i, const uint8_t **bytes)
{
    const struct kvlog *log = &v->gen->log;
    const struct tensor_chunk *c = &v->chunks[i];
    uint8_t bit = (uint8_t)(1u << (i & 7));
    struct blob_chunk chunk = {c->offset, c->stored, 0};
    struct frame f;
    /* After a failed sync the file may have been cut back, so nothing checked earlier counts. */
    if (UNLIKELY(!(__atomic_load_n(&v->checked[i / 8], __ATOMIC_RELAXED) & bit) ||
                 kvlog_failed(log))) {
        syna_rc rc = blob_chunk_at(log, &chunk, &f);
        if (rc == SYNA_ERR_SERIALIZATION)
            return bad_tensor(v, i, "its checksum does not match its bytes");
        SYNA_TRY(rc);
        __atomic_fetch_or(&v->checked[i / 8], bit, __ATOMIC_RELAXED);
    }
    *bytes = map_base(&log->map) + c->offset + FRAME_HEADER_BYTES + 1;
    return SYNA_SUCCESS;
}

size_t tensor_version_holding(const struct tensor_version *v, uint64_t at)
{
    size_t guess = (size_t)(at / BLOB_CHUNK_BYTES); /* right when all but the last are full */
    if (LIKELY(guess < v->chunk_count && v->chunks[guess].start <= at &&
               at - v->chunks[guess].start < v->chunks[guess].plain))
        return guess;
    size_t low = 0, high = v->chunk_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (v->chunks[middle].start <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static syna_rc unpack(struct tensor_reader *r, size_t i)
{
    struct tensor_version *v = r->v;
    const struct tensor_chunk *c = &v->chunks[i];
    const uint8_t *bytes;
    SYNA_TRY(tensor_version_chunk(v, i, &bytes));
    r->plain.len = r->scratch.len = 0;
    r->unpacked = SIZE_MAX;
    uint8_t *plain = buf_extend(&r->plain, c->plain), *scratch = buf_extend(&r->scratch, c->plain);
    if (!plain || !scratch)
        return syna_no_memory(c->plain);
    if (!tensor_unpack(bytes, c->stored, plain, c->plain, tensor_item_bytes(v->shape.dtype), scratch))
        return bad_tensor(v, i, "its LZ4 block does not decompress to its length");
    r->unpacked = i;
    return SYNA_SUCCESS;
}

/* The plain bytes of chunk i. */
static syna_rc plain_chunk(struct tensor_reader *r, size_t i, const uint8_t **bytes)
{
    const struct tensor_chunk *c = &r->v->chunks[i];
    if (c->stored == c->plain)
        return tensor_version_chunk(r->v, i, bytes);
    if (r->unpacked != i)
        SYNA_TRY(unpack(r, i));
    *bytes = r->plain.bytes;
    return SYNA_SUCCESS;
}

syna_rc tensor_reader_copy(struct tensor_reader *r, uint64_t at, void *to, size_t len)
{
    uint8_t *out = to;
    if (len == 0)
        return SYNA_SUCCESS;
    for (size_t i = tensor_version_holding(r->v, at); len > 0; i++) {
        const struct tensor_chunk *c = &r->v->chunks[i];
        const uint8_t *bytes;
        SYNA_TRY(plain_chunk(r, i, &bytes));
        size_t skip = (size_t)(at - c->start), n = MIN(len, c->plain - skip);
        memcpy(out, bytes + skip, n);
        out += n;
        at += n;
        len -= n;
    }
    return SYNA_SUCCESS;
}

void tensor_reader_dispose(struct tensor_reader *r)
{
    buf_dispose(&r->plain);
    buf_dispose(&r->scratch);
}

/* ---------------------------------------------------------------- mapping */

/* Map the chunks' pages side by side. What the system refuses is no error: then there is no mapping. */
static void *map_pages(const struct tensor_version *v)
{
    size_t len = (size_t)whole_pages(v->shape.bytes);
    uint8_t *base = syna_vfs->reserve(len);
    if (!base)
        return NULL;
    for (size_t i = 0; i < v->chunk_count; i++) {
        const struct tensor_chunk *c = &v->chunks[i];
        uint64_t data = c->offset + FRAME_HEADER_BYTES + 1;
        if (syna_vfs->map(base + c->start, v->gen->log.file.fd, data,
                          (size_t)whole_pages(c->plain), false, true) < 0) {
            syna_vfs->unmap(base, len);
            return NULL;
        }
    }
    return base;
}

static const uint8_t *mapping(struct tensor_version *v)
{
    void *mapped = __atomic_load_n(&v->mapped, __ATOMIC_ACQUIRE);
    if (mapped || v->chunk_count == 1)
        return mapped ? mapped
                      : map_base(&v->gen->log.map) + v->chunks[0].offset + FRAME_HEADER_BYTES + 1;
    pthread_mutex_lock(&v->map_lock);
    if (!v->mapped && !v->unmappable) {
        mapped = map_pages(v);
        v->unmappable = mapped == NULL;
        __atomic_store_n(&v->mapped, mapped, __ATOMIC_RELEASE);
    }
    mapped = v->mapped;
    pthread_mutex_unlock(&v->map_lock);
    return mapped;
}

syna_rc tensor_version_view(struct tensor_version *v, uint64_t at, uint64_t len,
                            const uint8_t **bytes)
{
    const uint8_t *ignored;
    *bytes = NULL;
    if (!v->one_piece || len == 0)
        return SYNA_SUCCESS;
    size_t last = tensor_version_holding(v, at + len - 1);
    for (size_t i = tensor_version_holding(v, at); i <= last; i++)
        SYNA_TRY(tensor_version_chunk(v, i, &ignored));
    const uint8_t *base = mapping(v);
    *bytes = base ? base + at : NULL;
    return SYNA_SUCCESS;
}
