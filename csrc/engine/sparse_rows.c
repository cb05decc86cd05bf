/* sparse_rows.c - the rows in memory: where each stands in the log, what the index and the metadata know of
 * it, whether it lives.
 *
 * Bytes of the log are used after their checksum was compared once, with the place checked against the
 * frame that it lies in: the snapshot that places may come from is not trusted. */
#include "base/internal.h"

#include "base/bytes.h"
#include "engine/sparse_core.h"

#define PLACE_SHIFT 16
#define PLACE_SKIP ((1ull << PLACE_SHIFT) - 1)
#define EXPECT_BESIDE 64u /* bytes of a frame beside its pairs, about */
#define EXPECT_MAX 4096u
#define COPY_BIT (1ull << 63) /* no address and no offset in use has it */

/* ---------------------------------------------------------------- one row */

static uint64_t place_at(const syna_sparse *store, uint32_t row)
{
    return *(const uint64_t *)array_at(&store->places, row);
}

static const struct sparse_copy *copy_of(uint64_t place)
{
    return place & COPY_BIT ? (const struct sparse_copy *)(uintptr_t)(place & ~COPY_BIT) : NULL;
}

const char *sparse_row_key(const syna_sparse *store, uint32_t row, size_t *len)
{
    uint64_t place = place_at(store, row);
    const struct sparse_copy *copy = copy_of(place);
    if (copy) {
        *len = copy->key_len;
        return (const char *)copy->bytes;
    }
    const char *name = db_view_key(store->view, place >> PLACE_SHIFT, len);
    *len -= MIN(*len, (size_t)SPARSE_PREFIX_LEN);
    return name + SPARSE_PREFIX_LEN;
}

static const char *key_of(void *context, uint32_t row, size_t *len)
{
    return sparse_row_key(context, row, len);
}

/* The bytes of a row: behind the key and the head of the value, up to the frame's checksum. */
static const uint8_t *bytes_of(const syna_sparse *store, uint64_t place, size_t *len)
{
    const uint8_t *frame = db_view_bytes(store->view, place >> PLACE_SHIFT);
    size_t before = FRAME_HEADER_BYTES + load_u16(frame + FRAME_AT_KEY_LEN) + (place & PLACE_SKIP);
    size_t whole = (size_t)frame_length(frame);
    *len = whole >= before + FRAME_CRC_BYTES ? whole - before - FRAME_CRC_BYTES : 0;
    return frame + before;
}

static bool *bit_flag(const syna_sparse *store)
{
    return (bool *)(uintptr_t)&store->damaged;
}

/* The first use of a row since the store was opened verifies it. Any number of threads. */
static bool check_once(const syna_sparse *store, uint32_t row)
{
    uint64_t *word = array_at(&store->checked, row / 64), bit = 1ull << row % 64;
    if (LIKELY(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        return true;
    uint64_t place = place_at(store, row);
    struct sparse_row parsed;
    size_t len;
    if (db_view_check(store->view, place >> PLACE_SHIFT) == SYNA_SUCCESS) {
        const uint8_t *bytes = bytes_of(store, place, &len);
        if (sparse_row_parse(bytes, len, &parsed)) {
            __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
            return true;
        }
    }
    __atomic_store_n(bit_flag(store), true, __ATOMIC_RELAXED);
    return false;
}

/* A row whose head was checked before. */
static void view_row(const uint8_t *bytes, struct sparse_row *out)
{
    uint32_t count = load_u32(bytes), metadata_len = load_u32(bytes + 4);
    out->terms = bytes + SPARSE_ROW_HEAD;
    out->weights = out->terms + (size_t)count * 4;
    out->metadata = metadata_len ? (const char *)out->weights + (size_t)count * 4 : NULL;
    out->count = count;
    out->metadata_len = metadata_len;
}

void sparse_row_at(const syna_sparse *store, uint32_t row, struct sparse_row *out)
{
    uint64_t place = place_at(store, row);
    const struct sparse_copy *copy = copy_of(place);
    size_t len;
    *out = (struct sparse_row){0};
    if (copy)
        view_row(copy->bytes + copy->key_len, out);
    else if (LIKELY(check_once(store, row)))
        view_row(bytes_of(store, place, &len), out);
}

static void show(void *context, uint32_t row, struct postings_row *out)
{
    struct sparse_row at;
    sparse_row_at(context, row, &at);
    *out = (struct postings_row){at.terms, at.weights, at.count, 0};
}

/* Of the row itself nothing is looked at: its bytes are what is waited for. */
static void expect(void *context, uint32_t row, enum postings_ahead what)
{
    const syna_sparse *store = context;
    if (what == POSTINGS_PLACE) {
        __builtin_prefetch(array_at(&store->places, row));
        return;
    }
    uint64_t place = place_at(store, row), rows = postings_live_count(store->post);
    size_t bytes = EXPECT_BESIDE + (size_t)(store->pairs / MAX(rows, (uint64_t)1)) * 8;
    if (place & COPY_BIT)
        return;
    const uint8_t *frame = db_view_bytes(store->view, place >> PLACE_SHIFT);
    for (size_t at = 0; at < MIN(bytes, (size_t)EXPECT_MAX); at += 64)
        __builtin_prefetch(frame + at);
}

syna_rc sparse_damage(const syna_sparse *store)
{
    if (LIKELY(!__atomic_load_n(bit_flag(store), __ATOMIC_RELAXED)))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(store->db), -1, 0,
                        "a row in this file does not match its checksum; `synadb verify` lists the "
                        "damage, `synadb salvage` copies out the rest");
}

/* ---------------------------------------------------------------- all rows */

syna_rc sparse_rows_init(syna_sparse *store)
{
    row_keys_init(&store->keys, key_of, store);
    SYNA_TRY(array_init(&store->places, sizeof(uint64_t), POSTINGS_ROWS_MAX));
    SYNA_TRY(array_init(&store->checked, sizeof(uint64_t), POSTINGS_ROWS_MAX / 64 + 1));
    SYNA_TRY(array_init(&store->described, sizeof(uint64_t), POSTINGS_ROWS_MAX / 64 + 1));
    SYNA_TRY(meta_new(&store->meta));
    SYNA_TRY(postings_new(POSTINGS_WEIGHTS, show, store, &store->post));
    postings_tell(store->post, expect);
    return SYNA_SUCCESS;
}

static void free_copy(syna_sparse *store, uint32_t row)
{
    uint64_t place = place_at(store, row);
    if (!(place & COPY_BIT))
        return;
    mem_free((void *)(uintptr_t)(place & ~COPY_BIT));
    store->copies--;
}

void sparse_rows_dispose(syna_sparse *store)
{
    if (store->post)
        for (uint32_t row = 0; store->copies && row < postings_count(store->post); row++)
            if (sparse_is_live(store, row))
                free_copy(store, row);
    array_dispose(&store->places);
    array_dispose(&store->checked);
    array_dispose(&store->described);
    row_keys_dispose(&store->keys);
    postings_free(store->post);
    if (store->meta)
        meta_free(store->meta);
    store->post = NULL;
    store->meta = NULL;
    store->pairs = 0;
    store->copies = 0;
}

syna_rc sparse_rows_reserve(syna_sparse *store, size_t rows, size_t metadata_bytes)
{
    size_t total = postings_count(store->post) + rows;
    SYNA_TRY(postings_reserve(store->post, rows, 0));
    SYNA_TRY(array_reserve(&store->places, total));
    SYNA_TRY(array_reserve(&store->checked, total / 64 + 1));
    SYNA_TRY(array_reserve(&store->described, total / 64 + 1));
    if (metadata_bytes)
        SYNA_TRY(meta_reserve(store->meta, (uint32_t)total, rows, metadata_bytes));
    return row_keys_reserve(&store->keys, rows);
}

static void set_bit(const struct array *bits, uint32_t row, bool on)
{
    uint64_t *word = array_at(bits, row / 64), bit = 1ull << row % 64;
    *word = on ? *word | bit : *word & ~bit;
}

syna_rc sparse_describe(syna_sparse *store, uint32_t row)
{
    struct sparse_row at;
    if (!(*(const uint64_t *)array_at(&store->described, row / 64) >> row % 64 & 1))
        return SYNA_SUCCESS;
    sparse_row_at(store, row, &at);
    return at.metadata ? meta_set(store->meta, row, at.metadata, at.metadata_len) : SYNA_SUCCESS;
}

static syna_rc add_row(syna_sparse *store, struct sparse_found *found, size_t name_len,
                       uint32_t *added)
{
    uint32_t row = postings_count(store->post);
    uint64_t place;
    struct sparse_row at;
    if (found->copy)
        place = COPY_BIT | (uint64_t)(uintptr_t)found->copy;
    else
        place = found->place.frame << PLACE_SHIFT |
                (found->place.data - found->place.frame - FRAME_HEADER_BYTES - name_len);
    *(uint64_t *)array_at(&store->places, row) = place;
    set_bit(&store->checked, row, true); /* the look-up compared the checksum */
    sparse_row_at(store, row, &at);
    if (at.metadata)
        SYNA_TRY(meta_set(store->meta, row, at.metadata, at.metadata_len));
    set_bit(&store->described, row, at.metadata != NULL);
    struct postings_row shown = {at.terms, at.weights, at.count, 0};
    *added = postings_add(store->post, &shown);
    store->copies += found->copy != NULL;
    found->copy = NULL;
    store->pairs += at.count;
    store->changes++;
    return SYNA_SUCCESS;
}

static void drop_row(syna_sparse *store, uint32_t row)
{
    struct sparse_row at;
    sparse_row_at(store, row, &at);
    store->pairs -= MIN(store->pairs, (uint64_t)at.count);
    if (at.metadata)
        meta_clear(store->meta, row);
    free_copy(store, row);
    postings_drop(store->post, row);
    store->changes++;
}

/* ---------------------------------------------------------------- following the log */

/* The value of a compressed record, in a block of its own. */
static syna_rc take_copy(const syna_sparse *store, const char *name, size_t len,
                         struct sparse_found *found)
{
    void *value;
    size_t value_len, key_len = len - SPARSE_PREFIX_LEN;
    int32_t type;
    struct sparse_row row;
    syna_rc rc = db_get_copy(store->db, name, len, SYNA_TYPE_BYTES, &value, &value_len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    if (sparse_row_parse(value, value_len, &row) && sparse_row_sound(&row, store->vocabulary)) {
        found->copy = mem_alloc(sizeof *found->copy + key_len + value_len);
        if (!found->copy) {
            mem_free(value);
            return syna_no_memory(value_len);
        }
        found->copy->key_len = key_len;
        found->copy->len = value_len;
        memcpy(found->copy->bytes, name + SPARSE_PREFIX_LEN, key_len);
        memcpy(found->copy->bytes + key_len, value, value_len);
    }
    mem_free(value);
    return SYNA_SUCCESS;
}

static bool is_row(const syna_sparse *store, const struct db_view *view,
                   const struct db_place *place)
{
    struct sparse_row row;
    return place->type == SYNA_TYPE_BYTES &&
           sparse_row_parse(db_view_bytes(view, place->data), place->len, &row) &&
           sparse_row_sound(&row, store->vocabulary);
}

syna_rc sparse_find(syna_sparse *store, const char *name, size_t len, struct sparse_found *found)
{
    *found = (struct sparse_found){0};
    syna_rc rc = db_view_find(store->view, name, len, &found->place);
    while (rc == SYNA_ERR_INTERNAL && !db_view_current(store->view)) {
        SYNA_TRY(sparse_rebase(store));
        rc = db_view_find(store->view, name, len, &found->place);
    }
    if (rc == SYNA_SUCCESS && is_row(store, store->view, &found->place))
        return SYNA_SUCCESS;
    found->place.frame = 0;
    if (rc == SYNA_ERR_TYPE_MISMATCH)
        return take_copy(store, name, len, found);
    return rc == SYNA_ERR_KEY_NOT_FOUND ? SYNA_SUCCESS : rc;
}

syna_rc sparse_put(syna_sparse *store, const char *name, size_t len, struct sparse_found *found,
                   bool *added)
{
    const char *key = name + SPARSE_PREFIX_LEN;
    size_t key_len = len - SPARSE_PREFIX_LEN;
    uint32_t old = row_keys_find(&store->keys, key, key_len), row;
    bool there = found->place.frame || found->copy;
    *added = false;
    if (old != ROW_NONE && found->place.frame &&
        place_at(store, old) >> PLACE_SHIFT == found->place.frame)
        return SYNA_SUCCESS;
    if (there) {
        SYNA_TRY(add_row(store, found, len, &row));
        row_keys_set(&store->keys, row);
    } else if (old != ROW_NONE) {
        row_keys_remove(&store->keys, key, key_len);
    }
    if (old != ROW_NONE)
        drop_row(store, old);
    *added = old == ROW_NONE && there;
    return SYNA_SUCCESS;
}

syna_rc sparse_apply(syna_sparse *store, const char *name, size_t len, bool *added)
{
    struct sparse_found found;
    *added = false;
    SYNA_TRY(sparse_find(store, name, len, &found));
    syna_rc rc = sparse_put(store, name, len, &found, added);
    mem_free(found.copy);
    return rc;
}

/* ---------------------------------------------------------------- another generation */

/* The place of a row in the newest generation, 0 when its key has another value by now: the new one is
 * applied by whoever wrote it, or when the log is followed. */
static syna_rc new_place(const syna_sparse *store, const struct db_view *view, uint32_t row,
                         uint64_t *out)
{
    struct db_place place;
    uint64_t old = place_at(store, row);
    size_t len, old_len;
    *out = 0;
    if (old & COPY_BIT) {
        *out = old;
        return SYNA_SUCCESS;
    }
    const char *name = db_view_key(store->view, old >> PLACE_SHIFT, &len);
    syna_rc rc = db_view_find(view, name, len, &place);
    if (rc == SYNA_ERR_KEY_NOT_FOUND || rc == SYNA_ERR_TYPE_MISMATCH)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    const uint8_t *bytes = bytes_of(store, old, &old_len);
    if (is_row(store, view, &place) && place.len == old_len &&
        memcmp(db_view_bytes(view, place.data), bytes, old_len) == 0)
        *out = place.frame << PLACE_SHIFT | (place.data - place.frame - FRAME_HEADER_BYTES - len);
    return SYNA_SUCCESS;
}

static syna_rc find_places(const syna_sparse *store, const struct db_view *view, uint64_t *places)
{
    for (uint32_t row = 0; row < postings_count(store->post); row++)
        if (sparse_is_live(store, row))
            SYNA_TRY(new_place(store, view, row, &places[row]));
    return SYNA_SUCCESS;
}

static void take_places(syna_sparse *store, struct db_view *view, const uint64_t *places)
{
    uint32_t count = postings_count(store->post);
    for (uint32_t row = 0; row < count; row++) {
        if (!sparse_is_live(store, row) || places[row])
            continue;
        size_t len; /* while its old place is still known */
        const char *key = sparse_row_key(store, row, &len);
        row_keys_remove(&store->keys, key, len);
        drop_row(store, row);
    }
    for (uint32_t row = 0; row < count; row++)
        *(uint64_t *)array_at(&store->places, row) = places[row];
    db_view_free(store->view);
    store->view = view;
    store->followed = 0;
    store->changes++;
}

syna_rc sparse_rebase(syna_sparse *store)
{
    struct db_view *view;
    size_t bytes = ((size_t)postings_count(store->post) + 1) * sizeof(uint64_t);
    SYNA_TRY(db_view_new(store->db, &view));
    uint64_t *places = mem_zalloc(bytes);
    syna_rc rc = places ? find_places(store, view, places) : syna_no_memory(bytes);
    if (rc == SYNA_SUCCESS)
        take_places(store, view, places);
    else
        db_view_free(view);
    mem_free(places);
    return rc;
}
