/* sparse_file.c - the snapshot beside the log, <path>.postings, and what came to the log after it.
 *
 *   "sparse"   struct store_head
 *   "places"   count uint64, as in sparse_core.h     "facts"  one bit a row: it has metadata
 *   "keyrows", "keytags" (row_keys.c), and the index's sections (postings_file.c)
 *
 * It is derived from the log and names what it covers; whatever does not fit is as if it were not there.
 * Places are offsets of one generation of the log, so a compaction makes the file stale. */
#include "base/internal.h"

#include "engine/sparse_core.h"

#define SNAPSHOT_SPARSE SNAPSHOT_FOURCC('S', 'P', 'A', 'R')
#define STORE_VERSION 1u
#define DEAD_ROWS_MOST 4096u /* so many may be dead even when fewer live */

struct store_head {
    uint32_t version;
    uint32_t vocabulary;
    uint32_t count;
    uint32_t reserved;
    uint64_t pairs;
    uint64_t last; /* where the last record covered starts */
};

/* ---------------------------------------------------------------- writing */

static syna_rc save_array(struct snapshot_writer *w, const char *name, const struct array *a,
                          size_t count)
{
    SYNA_TRY(snapshot_section(w, name));
    return array_save(a, count, w);
}

static syna_rc save_sections(const syna_sparse *store, uint64_t last, struct snapshot_writer *w)
{
    uint32_t count = postings_count(store->post);
    struct store_head head = {
        .version = STORE_VERSION,
        .vocabulary = store->vocabulary,
        .count = count,
        .pairs = store->pairs,
        .last = last,
    };
    SYNA_TRY(snapshot_section(w, "sparse"));
    SYNA_TRY(snapshot_append(w, &head, sizeof head));
    SYNA_TRY(save_array(w, "places", &store->places, count));
    SYNA_TRY(save_array(w, "facts", &store->described, (size_t)count / 64 + 1));
    SYNA_TRY(row_keys_save(&store->keys, w));
    return postings_save(store->post, w);
}

/* Rows that stand in memory only have no place in the log, and with most rows dead the next opening does
 * better to number them anew. */
static bool worth_saving(const syna_sparse *store)
{
    uint64_t live = postings_live_count(store->post);
    return store->copies == 0 && postings_count(store->post) - live <= live + DEAD_ROWS_MOST;
}

syna_rc sparse_save_snapshot(syna_sparse *store)
{
    struct snapshot_writer *writer;
    struct snapshot_cover cover;
    uint64_t last;
    if (!worth_saving(store))
        return SYNA_SUCCESS;
    SYNA_TRY(postings_settle(store->post));
    db_view_cover(store->view, SNAPSHOT_SPARSE, &cover, &last);
    if (last == 0 || cover.end != store->followed)
        return SYNA_SUCCESS; /* somebody wrote meanwhile: another time */
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

/* ---------------------------------------------------------------- reading */

static bool read_head(struct snapshot *s, struct store_head *head)
{
    size_t len;
    const void *bytes = snapshot_find(s, "sparse", &len);
    if (!bytes || len != sizeof *head || !snapshot_touch(s, bytes, len))
        return false;
    memcpy(head, bytes, sizeof *head);
    return head->version == STORE_VERSION && head->count <= POSTINGS_ROWS_MAX;
}

/* `count` items of a section, copied behind what is reserved already. */
static bool take_section(struct snapshot *s, const char *name, size_t count, const uint64_t **items)
{
    size_t len;
    *items = snapshot_find(s, name, &len);
    return *items && len == count * sizeof **items && snapshot_touch(s, *items, len);
}

static bool places_sound(const uint64_t *places, uint32_t count, uint64_t end)
{
    for (uint32_t row = 0; row < count; row++)
        if ((places[row] >> 16) + FRAME_HEADER_BYTES > end)
            return false;
    return true;
}

static syna_rc take_rows(syna_sparse *store, struct snapshot *s, const struct store_head *head,
                         uint64_t end, bool *found)
{
    const uint64_t *places, *described;
    size_t words = (size_t)head->count / 64 + 1;
    *found = take_section(s, "places", head->count, &places) &&
             take_section(s, "facts", words, &described) &&
             places_sound(places, head->count, end);
    if (!*found)
        return SYNA_SUCCESS;
    SYNA_TRY(array_reserve(&store->places, head->count + 1));
    SYNA_TRY(array_reserve(&store->checked, words));
    SYNA_TRY(array_reserve(&store->described, words));
    memcpy(array_at(&store->places, 0), places, head->count * sizeof *places);
    memcpy(array_at(&store->described, 0), described, words * sizeof *described);
    store->pairs = head->pairs;
    SYNA_TRY(postings_load(store->post, s, found));
    if (*found && postings_count(store->post) != head->count)
        *found = false;
    if (*found)
        row_keys_load(&store->keys, s, head->count, found);
    return SYNA_SUCCESS;
}

static syna_rc describe_rows(syna_sparse *store)
{
    for (uint32_t row = 0; row < postings_count(store->post); row++)
        if (sparse_is_live(store, row))
            SYNA_TRY(sparse_describe(store, row));
    return SYNA_SUCCESS;
}

static syna_rc take_snapshot(syna_sparse *store, struct snapshot *s, bool *loaded)
{
    struct store_head head;
    const struct snapshot_cover *cover = snapshot_cover_of(s);
    *loaded = false;
    if (!read_head(s, &head) || head.vocabulary != store->vocabulary ||
        !db_view_covers(store->view, cover, head.last))
        return SYNA_SUCCESS;
    SYNA_TRY(take_rows(store, s, &head, cover->end, loaded));
    if (!*loaded)
        return SYNA_SUCCESS;
    store->followed = cover->end;
    store->changes = 0;
    return describe_rows(store);
}

syna_rc sparse_load_snapshot(syna_sparse *store, bool *loaded)
{
    struct snapshot_cover cover;
    struct snapshot *s;
    uint64_t last;
    *loaded = false;
    db_view_cover(store->view, SNAPSHOT_SPARSE, &cover, &last);
    SYNA_TRY(snapshot_open(store->index_path, &cover, &s));
    if (!s)
        return SYNA_SUCCESS;
    syna_rc rc = take_snapshot(store, s, loaded);
    if (rc == SYNA_SUCCESS && *loaded) {
        store->snapshot = s;
        return SYNA_SUCCESS;
    }
    sparse_rows_dispose(store);
    snapshot_close(s);
    return rc == SYNA_SUCCESS ? sparse_rows_init(store) : rc;
}

/* ---------------------------------------------------------------- following the log */

static syna_rc follow_row(void *context, const char *name, size_t len)
{
    syna_sparse *store = context;
    bool added;
    if (len == SPARSE_PREFIX_LEN)
        return SYNA_SUCCESS; /* an empty key: no row of ours */
    SYNA_TRY(sparse_rows_reserve(store, store->promised + 1, 0));
    return sparse_apply(store, name, len, &added);
}

syna_rc sparse_follow(syna_sparse *store)
{
    if (!db_view_current(store->view))
        SYNA_TRY(sparse_rebase(store));
    if (db_view_end(store->view) == store->followed)
        return SYNA_SUCCESS;
    return db_view_walk(store->view, store->followed, SPARSE_PREFIX, SPARSE_PREFIX_LEN, follow_row,
                        store, &store->followed);
}
