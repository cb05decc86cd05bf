/* vectors_rows.c - the rows in memory: where each stands in the log, its code, whether it lives. */
#include "base/internal.h"

#include "engine/vectors_core.h"

/* Address space that one array may take. */
#define ARRAY_SPACE (256ull << 30)
#define PLACE_SHIFT 16

/* ---------------------------------------------------------------- one row */

static uint64_t place_at(const syna_vectors *store, uint32_t row)
{
    return *(const uint64_t *)array_at(&store->places, row);
}

const char *vectors_row_key(const syna_vectors *store, uint32_t row, size_t *len)
{
    const char *name = db_view_key(store->view, vectors_row_frame(store, row), len);
    *len -= ROW_PREFIX_LEN;
    return name + ROW_PREFIX_LEN;
}

void vectors_prefetch_place(const syna_vectors *store, uint32_t row)
{
    __builtin_prefetch(array_at(&store->places, row));
}

void vectors_prefetch_key(const syna_vectors *store, uint32_t row)
{
    __builtin_prefetch(db_view_bytes(store->view, vectors_row_frame(store, row)));
}

static const char *key_of(void *context, uint32_t row, size_t *len)
{
    return vectors_row_key(context, row, len);
}

/* The first use of a row since the store was opened verifies its checksum. Any number of threads. */
static void check_once(syna_vectors *store, uint32_t row)
{
    uint64_t *word = array_at(&store->checked, row / 64), bit = 1ull << row % 64;
    if (LIKELY(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        return;
    if (db_view_check(store->view, vectors_row_frame(store, row)) == SYNA_SUCCESS)
        __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&store->damaged, true, __ATOMIC_RELAXED);
}

const void *vectors_row_at(const struct db_view *view, uint64_t place)
{
    size_t key_len;
    const char *key = db_view_key(view, place >> PLACE_SHIFT, &key_len);
    return key + key_len + (place & ((1u << PLACE_SHIFT) - 1));
}

static const float *full_row(void *context, uint32_t row)
{
    syna_vectors *store = context;
    check_once(store, row);
    return vectors_row_at(store->view, place_at(store, row));
}

const void *vectors_row(const syna_vectors *store, uint32_t row)
{
    return full_row((void *)(uintptr_t)store, row);
}

/* A row as floats, any alignment, borrowed until the next call. Exclusive. */
static const float *wide_row(syna_vectors *store, uint32_t row)
{
    const float *full = full_row(store, row);
    if (store->set.kind == ROW_FLOAT)
        return full;
    row_set_read(&store->set, full, store->wide);
    return store->wide;
}

syna_rc vectors_damage(const syna_vectors *store)
{
    if (LIKELY(!__atomic_load_n(&store->damaged, __ATOMIC_RELAXED)))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(store->db), -1, 0,
                        "a vector in this file does not match its checksum; `synadb verify` lists the "
                        "damage, `synadb salvage` copies out the rest");
}

/* ---------------------------------------------------------------- all rows */

static syna_rc init_array(struct array *a, size_t item)
{
    return array_init(a, item, MIN((uint64_t)VECTORS_ROWS_MAX, ARRAY_SPACE / item));
}

syna_rc vectors_rows_init(syna_vectors *store, const struct vectors_kept *as)
{
    struct row_set *set = &store->set;
    *set = (struct row_set){
        .kernels = kernels_get(), .full = full_row, .context = store, .kind = as->kind};
    if (as->codes == SYNA_CODES_BINARY)
        codes_init_bits(&set->codes, as->dims, as->metric);
    else
        codes_init(&set->codes, as->dims, as->metric);
    codes_split(&set->codes);
    store->codes = as->codes;
    row_keys_init(&store->keys, key_of, store);
    store->live_count = store->dead_linked = 0;
    store->wide = as->kind == ROW_FLOAT ? NULL : mem_alloc(as->dims * sizeof *store->wide);
    if (as->kind != ROW_FLOAT && !store->wide)
        return syna_no_memory(as->dims * sizeof *store->wide);
    SYNA_TRY(meta_new(&store->meta));
    SYNA_TRY(vectors_tail_init(&store->tail));
    SYNA_TRY(init_array(&set->code_rows, set->codes.stride));
    SYNA_TRY(init_array(&set->norms, sizeof(float)));
    SYNA_TRY(init_array(&set->errors, sizeof(float)));
    SYNA_TRY(init_array(&store->places, sizeof(uint64_t)));
    SYNA_TRY(init_array(&store->live, sizeof(uint64_t)));
    return init_array(&store->checked, sizeof(uint64_t));
}

void vectors_rows_dispose(syna_vectors *store)
{
    array_dispose(&store->set.code_rows);
    array_dispose(&store->set.norms);
    array_dispose(&store->set.errors);
    array_dispose(&store->places);
    array_dispose(&store->live);
    array_dispose(&store->checked);
    row_keys_dispose(&store->keys);
    vectors_tail_dispose(&store->tail);
    codes_dispose(&store->set.codes);
    mem_free(store->wide);
    store->wide = NULL;
    meta_free(store->meta);
    store->meta = NULL;
    store->set.count = 0;
    store->revision++;
}

syna_rc vectors_rows_reserve(syna_vectors *store, size_t rows)
{
    struct row_set *set = &store->set;
    size_t total = set->count + rows;
    if (total > VECTORS_ROWS_MAX || total > ARRAY_SPACE / set->codes.stride)
        return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                            "%zu rows are more than a vector store of %u dimensions can hold", total,
                            set->codes.dims);
    if (vectors_trained(store)) {
        SYNA_TRY(array_reserve(&set->code_rows, total));
        SYNA_TRY(array_reserve(&set->errors, total));
    }
    SYNA_TRY(vectors_tail_reserve(store, total));
    SYNA_TRY(array_reserve(&set->norms, total));
    SYNA_TRY(array_reserve(&store->places, total));
    SYNA_TRY(array_reserve(&store->live, total / 64 + 1));
    SYNA_TRY(array_reserve(&store->checked, total / 64 + 1));
    return row_keys_reserve(&store->keys, rows);
}

static void encode_row(syna_vectors *store, uint32_t row)
{
    struct row_set *set = &store->set;
    *(float *)array_at(&set->errors, row) =
        codes_encode(&set->codes, set->kernels, wide_row(store, row), array_at(&set->code_rows, row));
}

/* Append a row; db_view_find has verified its checksum. */
static uint32_t add_row(syna_vectors *store, const struct db_place *place)
{
    struct row_set *set = &store->set;
    uint32_t row = set->count;
    size_t key_len;
    db_view_key(store->view, place->frame, &key_len);
    uint64_t skip = place->data - place->frame - FRAME_HEADER_BYTES - key_len;
    *(uint64_t *)array_at(&store->places, row) = place->frame << PLACE_SHIFT | skip;
    *(uint64_t *)array_at(&store->live, row / 64) |= 1ull << row % 64;
    *(uint64_t *)array_at(&store->checked, row / 64) |= 1ull << row % 64;
    *(float *)array_at(&set->norms, row) =
        vector_norm(set->kernels, wide_row(store, row), set->codes.dims);
    if (vectors_trained(store))
        encode_row(store, row);
    set->count = row + 1;
    vectors_tail_add(store, row);
    store->live_count++;
    store->changes++;
    store->all_changes++;
    store->revision++;
    return row;
}

static void drop_row(syna_vectors *store, uint32_t row)
{
    *(uint64_t *)array_at(&store->live, row / 64) &= ~(1ull << row % 64);
    store->live_count--;
    store->changes++;
    store->all_changes++;
    store->revision++;
    store->dead_linked += row < store->graph.linked;
    meta_clear(store->meta, row);
}

/* ---------------------------------------------------------------- following the log */

static bool is_row(const syna_vectors *store, const struct db_place *place)
{
    return place->type == SYNA_TYPE_VECTOR && place->len == vectors_row_bytes(store);
}

/* Where the newest record of a key stands; a compaction may come between any two looks. */
static syna_rc find_newest(syna_vectors *store, const char *name, size_t len, struct db_place *place)
{
    syna_rc rc = db_view_find(store->view, name, len, place);
    while (rc == SYNA_ERR_INTERNAL && !db_view_current(store->view)) {
        SYNA_TRY(vectors_rebase(store));
        rc = db_view_find(store->view, name, len, place);
    }
    return rc;
}

syna_rc vectors_find(syna_vectors *store, const char *name, size_t len, struct db_place *place)
{
    syna_rc rc = find_newest(store, name, len, place);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH ||
        (rc == SYNA_SUCCESS && !is_row(store, place))) {
        place->frame = 0;
        return SYNA_SUCCESS;
    }
    return rc;
}

bool vectors_put(syna_vectors *store, const char *name, size_t len, const struct db_place *place)
{
    const char *key = name + ROW_PREFIX_LEN;
    size_t key_len = len - ROW_PREFIX_LEN;
    uint32_t old = row_keys_find(&store->keys, key, key_len);
    if (old != ROW_NONE && vectors_row_frame(store, old) == place->frame)
        return false;
    if (place->frame)
        row_keys_set(&store->keys, add_row(store, place));
    else if (old != ROW_NONE)
        row_keys_remove(&store->keys, key, key_len);
    if (old != ROW_NONE)
        drop_row(store, old);
    return old == ROW_NONE && place->frame;
}

syna_rc vectors_apply(syna_vectors *store, const char *name, size_t len, bool *added)
{
    struct db_place place;
    *added = false;
    SYNA_TRY(vectors_find(store, name, len, &place));
    *added = vectors_put(store, name, len, &place);
    return vectors_meta_apply(store, name, len);
}

/* ---------------------------------------------------------------- codes */

/* A live row for every number: after a compaction there is nothing where a dead one stood. */
static const float *sampled(void *context, size_t i)
{
    syna_vectors *store = context;
    uint32_t row = (uint32_t)i;
    while (!vectors_is_live(store, row))
        row = row + 1 < store->set.count ? row + 1 : 0;
    return wide_row(store, row);
}

syna_rc vectors_train(syna_vectors *store)
{
    struct row_set *set = &store->set;
    size_t total = set->count + store->promised;
    if (store->live_count == 0)
        return SYNA_SUCCESS; /* nothing to learn from */
    SYNA_TRY(array_reserve(&set->code_rows, total));
    SYNA_TRY(array_reserve(&set->errors, total));
    SYNA_TRY(codes_train(&set->codes, set->count, sampled, store));
    for (uint32_t row = 0; row < set->count; row++)
        if (vectors_is_live(store, row)) /* of a dead row the log may be gone */
            encode_row(store, row);
    store->trained_of = set->count;
    vectors_tail_renew(store);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- packing */

static void move_item(const struct array *a, uint32_t from, uint32_t to)
{
    memcpy(array_at(a, to), array_at(a, from), a->item);
}

static void move_row(syna_vectors *store, uint32_t from, uint32_t to)
{
    uint64_t *checked = array_at(&store->checked, to / 64), bit = 1ull << to % 64;
    bool was_checked = *(const uint64_t *)array_at(&store->checked, from / 64) >> from % 64 & 1;
    *checked = was_checked ? *checked | bit : *checked & ~bit;
    if (vectors_trained(store)) {
        move_item(&store->set.code_rows, from, to);
        move_item(&store->set.errors, from, to);
    }
    move_item(&store->set.norms, from, to);
    move_item(&store->places, from, to);
    meta_move(store->meta, from, to);
}

syna_rc vectors_pack(syna_vectors *store)
{
    uint32_t to = 0, count = store->set.count, degree = store->graph.degree;
    uint32_t ef = store->graph.ef_construction;
    struct hnsw none;
    SYNA_TRY(hnsw_init(&none, degree / 2, ef));
    hnsw_replace(&store->graph, &none);
    for (uint32_t row = 0; row < count; row++)
        if (vectors_is_live(store, row)) {
            if (row != to)
                move_row(store, row, to);
            to++;
        }
    for (size_t word = 0; word <= count / 64; word++) {
        uint64_t below = word < to / 64 ? ~0ull : word == to / 64 ? (1ull << to % 64) - 1 : 0;
        *(uint64_t *)array_at(&store->live, word) = below;
        *(uint64_t *)array_at(&store->checked, word) &= below;
    }
    store->set.count = to;
    store->dead_linked = 0;
    vectors_tail_forget(store);
    store->changes += to;
    store->revision++;
    row_keys_clear(&store->keys);
    for (uint32_t row = 0; row < to; row++)
        row_keys_set(&store->keys, row);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- another generation */

/* The place of a row in the newest generation. A row whose key has another value by now is left to
 * die: its new value is applied by whoever wrote it, or when the log is followed. */
static syna_rc new_place(const syna_vectors *store, const struct db_view *view, uint32_t row,
                         uint64_t *out)
{
    struct db_place place;
    size_t len;
    const char *name = db_view_key(store->view, vectors_row_frame(store, row), &len);
    syna_rc rc = db_view_find(view, name, len, &place);
    *out = 0;
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    if (is_row(store, &place) && memcmp(db_view_bytes(view, place.data), vectors_row(store, row),
                                        place.len) == 0)
        *out = place.frame << PLACE_SHIFT | (place.data - place.frame - FRAME_HEADER_BYTES - len);
    return SYNA_SUCCESS;
}

static syna_rc find_places(const syna_vectors *store, const struct db_view *view, uint64_t *places)
{
    for (uint32_t row = 0; row < store->set.count; row++)
        if (vectors_is_live(store, row))
            SYNA_TRY(new_place(store, view, row, &places[row]));
    return SYNA_SUCCESS;
}

syna_rc vectors_rebase(syna_vectors *store)
{
    struct db_view *view;
    uint32_t count = store->set.count;
    SYNA_TRY(db_view_new(store->db, &view));
    uint64_t *places = mem_zalloc((size_t)count * sizeof *places);
    syna_rc rc = places ? find_places(store, view, places)
                        : syna_no_memory((size_t)count * sizeof *places);
    if (rc != SYNA_SUCCESS) {
        mem_free(places);
        db_view_free(view);
        return rc;
    }
    for (uint32_t row = 0; row < count; row++) {
        if (!vectors_is_live(store, row) || places[row])
            continue;
        size_t len; /* while its old place is still known */
        const char *key = vectors_row_key(store, row, &len);
        row_keys_remove(&store->keys, key, len);
        drop_row(store, row);
    }
    for (uint32_t row = 0; row < count; row++)
        *(uint64_t *)array_at(&store->places, row) = places[row];
    mem_free(places);
    if (store->view != store->kept_view)
        db_view_free(store->view);
    store->view = view;
    store->followed = 0;
    store->rebased++;
    store->changes++;
    return SYNA_SUCCESS;
}
