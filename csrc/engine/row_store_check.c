/* row_store_check.c - verify: read the newest checkpoint of a store and say what is wrong with it. It opens
 * the file for itself and read-only, so it works beside a writer, whose unsaved rows it does not see. A
 * saved index is derived: when it does not fit it is not used, so it is not looked at. */
#include "base/internal.h"

#include "engine/db_check.h"
#include "engine/progress.h"
#include "engine/row_store.h"

#include <math.h>

struct check {
    const struct row_store_kind *kind;
    struct mmap_rows rows;
    const struct kernels *kernels;
    uint32_t dims;
    struct findings to;
    struct progress progress;
};

/* Damage that an opening would refuse becomes a finding; other failures stay failures. *found: it did. */
static syna_rc as_finding(struct check *c, syna_rc rc, bool *found)
{
    const struct status_record *why = status_get();
    *found = rc == SYNA_ERR_SERIALIZATION && why->reason == SYNA_WHY_CORRUPT;
    if (!*found)
        return rc;
    uint64_t offset = why->offset < 0 ? 0 : (uint64_t)why->offset;
    finding_damage(&c->to, offset, "%s", finding_reason(why->path, offset));
    return finding_status(&c->to);
}

/* A slot has two copies. One alone being bad is no damage: the other counts, and a crash can do it. */
static syna_rc check_slots(struct check *c)
{
    uint8_t bytes[2 * SLOT_BYTES];
    const struct rowfile *file = c->rows.file;
    SYNA_TRY(file_read_exactly(&file->file, SLOT_OFFSET, bytes, sizeof bytes));
    for (uint32_t i = 0; i < 2; i++) {
        struct row_slot slot;
        uint32_t at = i * SLOT_BYTES;
        bool first = slot_decode(bytes + at, file->header.uuid, &slot);
        bool second = slot_decode(bytes + at + SLOT_COPY_BYTES, file->header.uuid, &slot);
        if (first != second)
            finding_note(&c->to, SLOT_OFFSET + at + (first ? SLOT_COPY_BYTES : 0),
                         "header slot %u: one of its two copies has a wrong checksum; the other is "
                         "good",
                         i);
    }
    return finding_status(&c->to);
}

static void check_row(struct check *c, uint32_t row)
{
    const float *v = mmap_rows_vector(&c->rows, row);
    float norm = vector_norm(c->kernels, v, c->dims), known = mmap_rows_norms(&c->rows)[row];
    uint64_t offset =
        rowfile_offset(c->rows.file, STREAM_ROWS, (uint64_t)row * c->rows.file->row_bytes);
    size_t at = isfinite(norm) ? c->dims : vector_first_not_finite(v, c->dims);
    if (at < c->dims)
        finding_damage(&c->to, offset, "row %u: element %zu is %f", row, at, (double)v[at]);
    else if (memcmp(&norm, &known, sizeof norm) != 0)
        finding_damage(&c->to, offset, "row %u: its length is %.9g, its record says %.9g", row,
                       (double)norm, (double)known);
}

/* Rows block by block; a row is looked at when all blocks that it lies in are good. */
static syna_rc check_rows(struct check *c)
{
    struct rowfile *file = c->rows.file;
    uint64_t end = (uint64_t)c->rows.count * file->row_bytes;
    bool damaged, before = true;
    for (uint64_t at = 0; at < end; at += ROWFILE_BLOCK) {
        uint64_t to = MIN(at + ROWFILE_BLOCK, end);
        SYNA_TRY(as_finding(c, rowfile_touch_blocks(file, STREAM_ROWS, at, to), &damaged));
        c->to.out->bytes += damaged ? 0 : to - at;
        /* Rows that end in this block; those that began in an earlier one need that one, too. */
        uint32_t first = (uint32_t)((at + file->row_bytes - 1) / file->row_bytes);
        for (uint32_t row = at && first ? first - 1 : 0; !damaged && row < to / file->row_bytes; row++)
            if (row >= first || before)
                check_row(c, row);
        before = !damaged;
        SYNA_TRY(finding_status(&c->to));
        SYNA_TRY(progress_step(&c->progress, to - at));
    }
    return SYNA_SUCCESS;
}

/* Every text is a JSON object, of dead rows, too. */
static syna_rc check_meta(struct check *c)
{
    for (uint32_t row = 0; row < c->rows.count; row++) {
        struct row_record r;
        uint64_t at = mmap_rows_offset(&c->rows, row), next;
        SYNA_TRY(rowfile_record(c->rows.file, at, &r, &next));
        if (r.meta_len > 0 && meta_check((const char *)r.meta, r.meta_len) != SYNA_SUCCESS)
            finding_damage(&c->to, rowfile_offset(c->rows.file, STREAM_RECORDS, at),
                           "row %u: its metadata is not a JSON object", row);
    }
    return finding_status(&c->to);
}

/* Everything that is known from the records: it is whole, or one finding says why not. */
static syna_rc check_records(struct check *c, bool *damaged)
{
    int32_t metric;
    syna_rc rc = row_store_read_config(c->kind, c->rows.file, &c->dims, &metric);
    if (rc == SYNA_SUCCESS)
        rc = mmap_rows_apply(&c->rows);
    if (rc == SYNA_SUCCESS)
        rc = mmap_keys_build(&c->rows);
    return as_finding(c, rc, damaged);
}

static syna_rc check_open_file(struct check *c)
{
    bool damaged;
    c->progress.total = c->rows.file->checkpoint_rows * c->rows.file->row_bytes;
    SYNA_TRY(check_slots(c));
    SYNA_TRY(check_records(c, &damaged));
    if (damaged)
        return SYNA_SUCCESS;
    c->to.out->frames = c->rows.count;
    c->to.out->bytes = c->rows.file->checkpoint_record_bytes;
    if (c->kind->metadata)
        SYNA_TRY(check_meta(c));
    return check_rows(c);
}

static syna_rc check_file(struct check *c, const char *path)
{
    struct rowfile *file;
    bool damaged;
    syna_rc rc = rowfile_open(path, c->kind->component, false, &file);
    if (rc != SYNA_SUCCESS)
        return as_finding(c, rc, &damaged);
    mmap_rows_init(&c->rows, file);
    rc = check_open_file(c);
    struct status_record why = *status_get();
    mmap_rows_dispose(&c->rows);
    return rc == SYNA_SUCCESS ? rc : status_set(&why);
}

syna_rc row_store_verify(const struct row_store_kind *kind, const char *path, syna_finding_fn visit,
                         void *context, syna_progress_fn progress, syna_check *out)
{
    syna_check found = {.size = sizeof found};
    struct check c = {.kind = kind,
                      .kernels = kernels_get(),
                      .to = {.visit = visit, .context = context, .out = &found},
                      .progress = {.ask = progress, .context = context, .what = "verify"}};
    if (out->size < offsetof(syna_check, records_saved))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "syna_check.size is %u, expected %zu",
                         out->size, sizeof *out);
    SYNA_TRY(check_file(&c, path));
    found.size = out->size;
    memcpy(out, &found, MIN((size_t)out->size, sizeof found));
    return SYNA_SUCCESS;
}
