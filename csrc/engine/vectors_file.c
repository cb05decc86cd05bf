/* vectors_file.c - the snapshot beside the log, <path>.hnsw, and what came to the log after it.
 *
 *   "store"    struct store_head
 *   "codes"    count code rows      "errors"  count float32
 *   "norms"    count float32        "places"  count uint64, as in vectors_core.h
 *   "live"     one bit a row
 *   "centre"   dims float32, where codes are bits
 *   "keyrows", "keytags" (row_keys.c), "metarows" and "metatext" when rows have metadata (meta_file.c),
 *   and the graph's sections (hnsw_file.c)
 *
 * It is derived from the log and names what it covers; whatever does not fit is as if it were not there.
 * Places are offsets of one generation of the log, so a compaction makes the file stale. */
#include "base/internal.h"

#include "engine/vectors_core.h"
#include "index/workers.h"

#define SNAPSHOT_VECTORS SNAPSHOT_FOURCC('V', 'E', 'C', 'S')
#define STORE_VERSION 2u
#define STORE_VERSION_SPLIT 3u /* code rows are split; where rows of 2 are not, they become so */

struct store_head {
    uint32_t version;
    uint32_t dims;
    int32_t metric;
    uint32_t count;
    float step, low; /* of the codes */
    uint32_t dead_linked;
    uint32_t trained_of;
    uint32_t kind;  /* enum row_kind */
    uint32_t codes; /* SYNA_CODES_* */
    uint64_t last; /* where the last record covered starts */
};

/* ---------------------------------------------------------------- writing */

static syna_rc save_array(struct snapshot_writer *w, const char *name, const struct array *a,
                          size_t count)
{
    SYNA_TRY(snapshot_section(w, name));
    return array_save(a, count, w);
}

static syna_rc save_sections(const syna_vectors *store, uint64_t last, struct snapshot_writer *w)
{
    const struct row_set *set = &store->set;
    struct store_head head = {
        .version = set->codes.split ? STORE_VERSION_SPLIT : STORE_VERSION,
        .dims = set->codes.dims,
        .metric = set->codes.metric,
        .count = set->count,
        .step = set->codes.step,
        .low = set->codes.low,
        .dead_linked = store->dead_linked,
        .trained_of = store->trained_of,
        .kind = (uint32_t)set->kind,
        .codes = store->codes,
        .last = last,
    };
    SYNA_TRY(snapshot_section(w, "store"));
    SYNA_TRY(snapshot_append(w, &head, sizeof head));
    SYNA_TRY(save_array(w, "codes", &set->code_rows, set->count));
    SYNA_TRY(save_array(w, "errors", &set->errors, set->count));
    SYNA_TRY(save_array(w, "norms", &set->norms, set->count));
    SYNA_TRY(save_array(w, "places", &store->places, set->count));
    SYNA_TRY(save_array(w, "live", &store->live, set->count / 64 + 1));
    if (set->codes.bits) {
        SYNA_TRY(snapshot_section(w, "centre"));
        SYNA_TRY(snapshot_append(w, set->codes.centre, set->codes.dims * sizeof(float)));
    }
    SYNA_TRY(row_keys_save(&store->keys, w));
    if (store->has_meta)
        SYNA_TRY(meta_save(store->meta, w));
    return hnsw_save(&store->graph, w);
}

syna_rc vectors_save_snapshot(syna_vectors *store)
{
    struct snapshot_writer *writer;
    struct snapshot_cover cover;
    uint64_t last;
    db_view_cover(store->view, SNAPSHOT_VECTORS, &cover, &last);
    if (last == 0 || cover.end != store->followed)
        return SYNA_SUCCESS; /* somebody wrote meanwhile: another time */
    if (!hnsw_check(&store->graph, NULL))
        return SYNA_SUCCESS; /* what is damaged is built anew, not saved with new checksums */
    SYNA_TRY(snapshot_begin(store->index_path, &cover, &writer));
    syna_rc rc = save_sections(store, last, writer);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        snapshot_abort(writer);
        return status_set(&why);
    }
    SYNA_TRY(snapshot_commit(writer));
    store->changes = 0;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- checking what is large */

#define PIECE_BYTES (2u << 20) /* of a section, checked by one thread at a time */
#define PIECES_ALONE 8u        /* fewer are not worth a thread */

/* A section as pieces that threads take one after the other. */
struct checking {
    struct snapshot *snapshot;
    uint8_t *bytes;
    size_t len;
};

/* A page that is damaged is noted in the snapshot: whoever takes the section finds out. */
static syna_rc check_piece(void *context, unsigned thread, uint64_t i)
{
    const struct checking *c = context;
    size_t at = (size_t)i * PIECE_BYTES;
    (void)thread;
    snapshot_touch(c->snapshot, c->bytes + at, MIN(c->len - at, (size_t)PIECE_BYTES));
    return SYNA_SUCCESS;
}

/* Codes are what an opening reads most of, for the checksums (links wait, see hnsw_load), and that takes
 * most of its time: so all threads do it that a build may have. */
static syna_rc check_section(const syna_vectors *store, struct snapshot *s, const char *name)
{
    struct checking c = {.snapshot = s};
    c.bytes = snapshot_find(s, name, &c.len);
    uint64_t pieces = c.bytes ? (c.len + PIECE_BYTES - 1) / PIECE_BYTES : 0;
    if (pieces < PIECES_ALONE)
        return SYNA_SUCCESS; /* checked when it is taken */
    return workers_run(store->options.threads, pieces, check_piece, &c, NULL, NULL);
}

/* ---------------------------------------------------------------- reading */

static bool read_head(struct snapshot *s, struct store_head *head)
{
    size_t len;
    const void *bytes = snapshot_find(s, "store", &len);
    if (!bytes || len != sizeof *head || !snapshot_touch(s, bytes, len))
        return false;
    memcpy(head, bytes, sizeof *head);
    return (head->version == STORE_VERSION || head->version == STORE_VERSION_SPLIT) &&
           head->count <= VECTORS_ROWS_MAX && head->step > 0;
}

/* `count` items of a section as the beginning of an array that is empty so far. */
static syna_rc take_array(struct snapshot *s, const char *name, struct array *a, size_t count,
                          size_t max, bool *found)
{
    size_t len, item = a->item;
    void *bytes = snapshot_find(s, name, &len);
    *found = bytes && len == count * item && snapshot_touch(s, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(a);
    return array_init_head(a, item, max, bytes, count);
}

static bool to_split(const struct row_set *set, const struct store_head *head)
{
    return set->codes.split && head->version == STORE_VERSION;
}

static bool places_sound(const struct array *places, uint32_t count, uint64_t end)
{
    for (uint32_t row = 0; row < count; row++) {
        uint64_t frame = *(const uint64_t *)array_at(places, row) >> 16;
        if (frame + FRAME_HEADER_BYTES > end)
            return false;
    }
    return true;
}

/* Live bits are changed all the time and are few: they are copied. */
static syna_rc take_live(syna_vectors *store, struct snapshot *s, uint32_t count, bool *found)
{
    size_t len, words = count / 64 + 1;
    const uint64_t *bits = snapshot_find(s, "live", &len);
    *found = bits && len == words * sizeof *bits && snapshot_touch(s, bits, len) &&
             (count % 64 == 0 ? bits[words - 1] == 0 : bits[words - 1] >> count % 64 == 0);
    if (!*found)
        return SYNA_SUCCESS;
    SYNA_TRY(array_reserve(&store->live, words));
    SYNA_TRY(array_reserve(&store->checked, words));
    memcpy(store->live.tail, bits, len);
    store->live_count = 0;
    for (size_t i = 0; i < words; i++)
        store->live_count += (uint32_t)__builtin_popcountll(bits[i]);
    return SYNA_SUCCESS;
}

static syna_rc take_centre(syna_vectors *store, struct snapshot *s, bool *found)
{
    struct codes *codes = &store->set.codes;
    size_t len, expected = codes->dims * sizeof(float);
    const void *bytes = snapshot_find(s, "centre", &len);
    *found = bytes && len == expected && snapshot_touch(s, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    codes->centre = (float *)(void *)mem_dup(bytes, expected);
    return codes->centre ? SYNA_SUCCESS : syna_no_memory(expected);
}

static syna_rc take_rows(syna_vectors *store, struct snapshot *s, const struct store_head *head,
                         uint64_t end, bool *found)
{
    struct row_set *set = &store->set;
    struct {
        const char *name;
        struct array *array;
    } parts[] = {{"codes", &set->code_rows}, {"errors", &set->errors}, {"norms", &set->norms},
                 {"places", &store->places}};
    *found = true;
    for (size_t i = 0; *found && i < COUNT_OF(parts); i++)
        SYNA_TRY(take_array(s, parts[i].name, parts[i].array, head->count, VECTORS_ROWS_MAX, found));
    if (*found && to_split(set, head))
        SYNA_TRY(codes_split_rows(&set->codes, &set->code_rows, head->count, VECTORS_ROWS_MAX));
    if (*found && !places_sound(&store->places, head->count, end))
        *found = false;
    if (*found)
        SYNA_TRY(take_live(store, s, head->count, found));
    if (*found && store->set.codes.bits)
        SYNA_TRY(take_centre(store, s, found));
    if (!*found)
        return SYNA_SUCCESS;
    set->count = head->count;
    set->codes.step = head->step;
    set->codes.low = head->low;
    store->dead_linked = head->dead_linked;
    store->trained_of = head->trained_of;
    row_keys_load(&store->keys, s, head->count, found);
    if (*found && store->has_meta)
        SYNA_TRY(meta_load(store->meta, s, head->count, found));
    return SYNA_SUCCESS;
}

static syna_rc take_snapshot(syna_vectors *store, struct snapshot *s, bool *loaded)
{
    struct store_head head;
    bool has_graph;
    const struct snapshot_cover *cover = snapshot_cover_of(s);
    *loaded = false;
    if (!read_head(s, &head) || head.dims != vectors_dims(store) ||
        (head.version == STORE_VERSION_SPLIT && !store->set.codes.split) ||
        head.metric != vectors_metric(store) || head.kind != (uint32_t)store->set.kind ||
        head.codes != store->codes || !db_view_covers(store->view, cover, head.last))
        return SYNA_SUCCESS;
    SYNA_TRY(check_section(store, s, "codes"));
    SYNA_TRY(take_rows(store, s, &head, cover->end, loaded));
    if (!*loaded)
        return SYNA_SUCCESS;
    store->followed = cover->end;
    store->changes = to_split(&store->set, &head) ? head.count : 0; /* split rows are worth saving */
    return hnsw_load(&store->graph, &store->set, s, true, &has_graph);
}

syna_rc vectors_load_snapshot(syna_vectors *store, bool *loaded)
{
    struct snapshot_cover cover;
    struct snapshot *s;
    uint64_t last;
    *loaded = false;
    db_view_cover(store->view, SNAPSHOT_VECTORS, &cover, &last);
    SYNA_TRY(snapshot_open(store->index_path, &cover, &s));
    if (!s)
        return SYNA_SUCCESS;
    const struct vectors_kept as = vectors_as_open(store);
    syna_rc rc = take_snapshot(store, s, loaded);
    if (rc == SYNA_SUCCESS && *loaded) {
        store->snapshot = s;
        return SYNA_SUCCESS;
    }
    vectors_rows_dispose(store);
    snapshot_close(s);
    return rc == SYNA_SUCCESS ? vectors_rows_init(store, &as) : rc;
}

/* ---------------------------------------------------------------- following the log */

/* A row, or the metadata of one. */
static syna_rc follow_row(void *context, const char *name, size_t len)
{
    syna_vectors *store = context;
    bool added;
    if (len > META_PREFIX_LEN && memcmp(name, META_PREFIX, META_PREFIX_LEN) == 0) {
        SYNA_TRY(vectors_meta_enable(store));
        name = vectors_meta_row_name(store, name, &len);
        return vectors_meta_apply(store, name, len);
    }
    if (len <= ROW_PREFIX_LEN || memcmp(name, ROW_PREFIX, ROW_PREFIX_LEN) != 0)
        return SYNA_SUCCESS; /* an empty key, or something else that begins so: no row of ours */
    SYNA_TRY(vectors_rows_reserve(store, store->promised + 1));
    return vectors_apply(store, name, len, &added);
}

/* The walk has a view of its own: a compaction that comes between gives the store another one. */
static syna_rc walk_log(syna_vectors *store)
{
    struct db_view *view;
    uint64_t end = store->followed, rebased = store->rebased;
    SYNA_TRY(db_view_new(store->db, &view));
    syna_rc rc = SYNA_SUCCESS;
    bool same = db_view_current(store->view); /* then it is the generation that `view` is of */
    if (same)
        rc = db_view_walk(view, store->followed, BOTH_PREFIX, BOTH_PREFIX_LEN, follow_row, store, &end);
    db_view_free(view);
    if (same && rc == SYNA_SUCCESS && rebased == store->rebased)
        store->followed = end;
    return rc;
}

syna_rc vectors_follow(syna_vectors *store)
{
    for (;;) {
        if (!db_view_current(store->view))
            SYNA_TRY(vectors_rebase(store));
        else if (db_view_end(store->view) == store->followed)
            return SYNA_SUCCESS;
        else
            SYNA_TRY(walk_log(store));
    }
}
