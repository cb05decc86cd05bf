/* mmap_index_file.c - the index of a mapped store as a snapshot beside it, <path>.hnsw:
 *
 *   "rows"     struct index_head
 *   "codes"    count code rows
 *   "errors"   count float32
 *   and the graph's sections (hnsw_file.c)
 *
 * It is derived, and names what it covers: the store, its generation, and the last row covered with its
 * record. Rows and records that a checkpoint covered never change within a generation, so a snapshot
 * stays true until the next compaction; rows that came later are encoded on opening. */
#include "base/internal.h"

#include "base/crc32c.h"
#include "engine/mmap_index.h"

#include <math.h>

#define SNAPSHOT_MMAP SNAPSHOT_FOURCC('M', 'V', 'E', 'C')
#define INDEX_VERSION 1u
#define INDEX_VERSION_SPLIT 2u /* code rows are split; where rows of 1 are not, they become so */

struct index_head {
    uint32_t version;
    uint32_t dims;
    int32_t metric;
    uint32_t count;
    float step, low; /* of the codes */
    uint32_t trained_of;
    uint32_t reserved;
    uint64_t last; /* where the record of row count - 1 begins */
};

/* ---------------------------------------------------------------- what is covered */

/* The record at `offset`, which is that of row `count` - 1, and the row. *fits false: it is not. */
static syna_rc make_cover(struct rowfile *file, uint32_t count, uint64_t offset,
                          struct snapshot_cover *cover, bool *fits)
{
    struct row_record r;
    uint64_t next;
    *fits = false;
    SYNA_TRY(rowfile_record(file, offset, &r, &next));
    if (r.kind != RECORD_ROW || r.row != count - 1)
        return SYNA_SUCCESS;
    SYNA_TRY(rowfile_touch(file, r.row, 1));
    uint32_t crc = crc32c(0, rowfile_base(file, STREAM_RECORDS) + offset, (size_t)(next - offset));
    memcpy(cover->uuid, file->header.uuid, sizeof cover->uuid);
    cover->generation = file->header.generation;
    cover->end = next;
    cover->end_crc = crc32c(crc, rowfile_row(file, r.row), file->row_bytes);
    cover->purpose = SNAPSHOT_MMAP;
    *fits = true;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- writing */

static syna_rc save_array(struct snapshot_writer *w, const char *name, const struct array *a,
                          size_t count)
{
    SYNA_TRY(snapshot_section(w, name));
    return array_save(a, count, w);
}

static syna_rc save_sections(const struct mmap_index *index, uint32_t count, uint64_t offset,
                             struct snapshot_writer *w)
{
    const struct row_set *set = &index->set;
    struct index_head head = {
        .version = set->codes.split ? INDEX_VERSION_SPLIT : INDEX_VERSION,
        .dims = set->codes.dims,
        .metric = set->codes.metric,
        .count = count,
        .step = set->codes.step,
        .low = set->codes.low,
        .trained_of = index->trained_of,
        .last = offset,
    };
    SYNA_TRY(snapshot_section(w, "rows"));
    SYNA_TRY(snapshot_append(w, &head, sizeof head));
    SYNA_TRY(save_array(w, "codes", &set->code_rows, count));
    SYNA_TRY(save_array(w, "errors", &set->errors, count));
    return hnsw_save(&index->graph, w);
}

syna_rc mmap_index_save(struct mmap_index *index, const char *path, struct rowfile *file,
                        uint32_t count, uint64_t offset)
{
    struct snapshot_cover cover = {0};
    struct snapshot_writer *writer;
    bool fits;
    SYNA_TRY(make_cover(file, count, offset, &cover, &fits));
    if (!fits)
        return syna_fail_at(SYNA_ERR_INTERNAL, SYNA_WHY_NONE, path, -1, 0,
                            "row %u has its record elsewhere", count - 1);
    SYNA_TRY(snapshot_begin(path, &cover, &writer));
    syna_rc rc = save_sections(index, count, offset, writer);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        snapshot_abort(writer);
        return status_set(&why);
    }
    SYNA_TRY(snapshot_commit(writer));
    index->changes = 0;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- reading */

static bool read_head(struct snapshot *s, struct index_head *head)
{
    size_t len;
    const void *bytes = snapshot_find(s, "rows", &len);
    if (!bytes || len != sizeof *head || !snapshot_touch(s, bytes, len))
        return false;
    memcpy(head, bytes, sizeof *head);
    return (head->version == INDEX_VERSION || head->version == INDEX_VERSION_SPLIT) &&
           head->count > 0 && head->step > 0 && isfinite(head->step) && isfinite(head->low);
}

/* Is it of these rows? Dimensions and metric are those of the file. */
static syna_rc check_cover(struct snapshot *s, const struct index_head *head,
                           const struct mmap_rows *rows, const struct codes *codes, bool *fits)
{
    struct snapshot_cover now = {0};
    const struct snapshot_cover *then = snapshot_cover_of(s);
    *fits = head->dims == codes->dims && head->metric == codes->metric &&
            (codes->split || head->version == INDEX_VERSION) &&
            head->count <= rows->count && mmap_rows_offset(rows, head->count - 1) == head->last;
    if (!*fits)
        return SYNA_SUCCESS;
    SYNA_TRY(make_cover(rows->file, head->count, head->last, &now, fits));
    *fits = *fits && now.end == then->end && now.end_crc == then->end_crc;
    return SYNA_SUCCESS;
}

/* `count` items of a section as the beginning of an array that is empty so far. */
static syna_rc take_array(struct snapshot *s, const char *name, struct array *a, size_t count,
                          bool *found)
{
    size_t len, item = a->item, max = a->reserved / item;
    void *bytes = snapshot_find(s, name, &len);
    *found = *found && bytes && len == count * item && snapshot_touch(s, bytes, len);
    if (!*found)
        return SYNA_SUCCESS;
    array_dispose(a);
    return array_init_head(a, item, count + max, bytes, count);
}

/* Errors bound distances: an exact search believes them. */
static bool errors_sound(const struct array *errors, uint32_t count)
{
    for (uint32_t row = 0; row < count; row++)
        if (!(*(const float *)array_at(errors, row) >= 0))
            return false;
    return true;
}

static syna_rc take_index(struct snapshot *s, const struct mmap_rows *rows, struct mmap_index *index,
                          bool *found)
{
    struct row_set *set = &index->set;
    struct index_head head;
    struct row_reader reader;
    *found = read_head(s, &head);
    if (*found)
        SYNA_TRY(check_cover(s, &head, rows, &set->codes, found));
    if (*found)
        SYNA_TRY(take_array(s, "codes", &set->code_rows, head.count, found));
    if (*found && set->codes.split && head.version == INDEX_VERSION) {
        size_t max = set->code_rows.reserved / set->code_rows.item;
        SYNA_TRY(codes_split_rows(&set->codes, &set->code_rows, head.count, max));
        index->changes = head.count; /* worth saving */
    }
    if (*found)
        SYNA_TRY(take_array(s, "errors", &set->errors, head.count, found));
    if (!*found || !errors_sound(&set->errors, head.count)) {
        *found = false;
        return SYNA_SUCCESS;
    }
    set->count = head.count;
    set->codes.step = head.step;
    set->codes.low = head.low;
    index->trained_of = head.trained_of;
    struct row_set view = mmap_index_set(index, &rows->norms, rows->file, &reader);
    SYNA_TRY(hnsw_load(&index->graph, &view, s, false, found));
    if (*found)
        mmap_index_count_dead(index, rows);
    return *found ? mmap_index_catch_up(index, rows) : SYNA_SUCCESS;
}

syna_rc mmap_index_load(const char *path, const struct mmap_rows *rows, uint32_t dims,
                        int32_t metric, struct mmap_index **out)
{
    struct snapshot_cover cover = {.generation = rows->file->header.generation,
                                   .purpose = SNAPSHOT_MMAP};
    struct mmap_index *index = NULL;
    struct snapshot *s;
    bool found;
    *out = NULL;
    memcpy(cover.uuid, rows->file->header.uuid, sizeof cover.uuid);
    SYNA_TRY(snapshot_open(path, &cover, &s));
    if (!s)
        return SYNA_SUCCESS;
    syna_rc rc = mmap_index_new(dims, metric, &index);
    if (rc == SYNA_SUCCESS)
        rc = take_index(s, rows, index, &found);
    if (rc == SYNA_SUCCESS && found) {
        index->snapshot = s;
        *out = index;
        return SYNA_SUCCESS;
    }
    struct status_record why = *status_get();
    mmap_index_free(index);
    snapshot_close(s);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}
