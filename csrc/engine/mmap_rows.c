/* mmap_rows.c - rows and keys of a row file in memory; see mmap_rows.h.
 *
 * The table is open addressing by linear probing. A slot keeps 32 bits of the hash, so that growing
 * needs no keys and a wrong row is compared about never. Removal shifts later slots back instead of
 * leaving marks, so look-ups never degrade. */
#include "base/internal.h"

#include "base/hash.h"
#include "engine/mmap_rows.h"

#define FEWEST_SLOTS 64u

void mmap_rows_init(struct mmap_rows *rows, struct rowfile *file)
{
    *rows = (struct mmap_rows){.file = file};
}

void mmap_rows_dispose(struct mmap_rows *rows)
{
    buf_dispose(&rows->offsets);
    array_dispose(&rows->norms);
    buf_dispose(&rows->live_words);
    mem_free(rows->slots);
    rowfile_unref(rows->file);
    *rows = (struct mmap_rows){0};
}

uint64_t mmap_rows_bytes(const struct mmap_rows *rows)
{
    return rows->offsets.cap + array_bytes(&rows->norms) + rows->live_words.cap +
           rows->slot_count * sizeof *rows->slots + rowfile_memory_bytes(rows->file);
}

/* ---------------------------------------------------------------- rows */

syna_rc mmap_rows_reserve(struct mmap_rows *rows, size_t more)
{
    size_t words = ((size_t)rows->count + more + 63) / 64 * sizeof(uint64_t);
    size_t missing = words > rows->live_words.len ? words - rows->live_words.len : 0;
    if (!buf_reserve(&rows->offsets, more * sizeof(uint64_t)) ||
        !buf_reserve(&rows->live_words, missing))
        return syna_no_memory(more * (sizeof(uint64_t) + sizeof(float)));
    if (rows->norms.item == 0)
        SYNA_TRY(array_init(&rows->norms, sizeof(float), UINT32_MAX));
    return array_reserve(&rows->norms, rows->count + more);
}

bool mmap_rows_have_room(const struct mmap_rows *rows, size_t more)
{
    size_t words = ((size_t)rows->count + more + 63) / 64 * sizeof(uint64_t);
    return rows->slots && rows->slot_count / 2 >= rows->live + more &&
           rows->offsets.cap - rows->offsets.len >= more * sizeof(uint64_t) &&
           rows->norms.cap >= rows->count + more &&
           rows->live_words.cap >= words;
}

static void set_live(struct mmap_rows *rows, uint32_t row)
{
    if (row / 64 * sizeof(uint64_t) == rows->live_words.len)
        memset(buf_extend(&rows->live_words, sizeof(uint64_t)), 0, sizeof(uint64_t));
    mmap_rows_live(rows)[row / 64] |= (uint64_t)1 << row % 64;
    rows->live++;
}

void mmap_rows_drop(struct mmap_rows *rows, uint32_t row)
{
    mmap_rows_live(rows)[row / 64] &= ~((uint64_t)1 << row % 64);
    rows->live--;
}

void mmap_rows_add(struct mmap_rows *rows, uint64_t offset, float norm, uint32_t replaced)
{
    buf_append(&rows->offsets, &offset, sizeof offset);
    mmap_rows_norms(rows)[rows->count] = norm;
    set_live(rows, rows->count++);
    if (replaced != MMAP_ROW_NONE)
        mmap_rows_drop(rows, replaced);
}

static syna_rc contradiction(const struct mmap_rows *rows, uint64_t at, const char *what,
                             uint64_t found)
{
    return syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, rows->file->file.path,
                        (int64_t)rowfile_offset(rows->file, STREAM_RECORDS, at), 0,
                        "record: %s %llu", what, (unsigned long long)found);
}

static syna_rc apply_record(struct mmap_rows *rows, uint64_t at, const struct row_record *r)
{
    float norm;
    if (r->sequence <= rows->sequence)
        return contradiction(rows, at, "its sequence does not grow:", r->sequence);
    if (r->kind == RECORD_ROW && (r->row != rows->count || r->row >= rowfile_rows(rows->file)))
        return contradiction(rows, at, "not the next row:", r->row);
    if (r->replaces != ROWFILE_NONE &&
        (r->replaces >= rows->count || !mmap_rows_is_live(rows, r->replaces)))
        return contradiction(rows, at, "it replaces what is not a live row:", r->replaces);
    rows->sequence = r->sequence;
    if (r->kind == RECORD_DELETION) {
        mmap_rows_drop(rows, r->replaces);
        return SYNA_SUCCESS;
    }
    SYNA_TRY(mmap_rows_reserve(rows, 1));
    memcpy(&norm, &r->word, sizeof norm);
    mmap_rows_add(rows, at, norm, r->replaces);
    return SYNA_SUCCESS;
}

syna_rc mmap_rows_apply(struct mmap_rows *rows)
{
    uint64_t end = rowfile_record_bytes(rows->file), at = rows->applied;
    size_t more = (size_t)(rowfile_rows(rows->file) - rows->count);
    struct row_record r;
    mem_free(rows->slots); /* built again when needed */
    rows->slots = NULL;
    rows->slot_count = 0;
    /* Every row has a record of at least 32 bytes, so this much was compared with the file's size. */
    if (more > (end - at) / RECORD_HEAD_BYTES)
        return contradiction(rows, at, "fewer records than rows:", more);
    SYNA_TRY(mmap_rows_reserve(rows, more));
    for (uint64_t next; at < end; at = next) {
        SYNA_TRY(rowfile_record(rows->file, at, &r, &next));
        SYNA_TRY(apply_record(rows, at, &r));
        rows->applied = next;
    }
    if (rows->count != rowfile_rows(rows->file))
        return contradiction(rows, at, "rows without a record:",
                             rowfile_rows(rows->file) - rows->count);
    if (rows->sequence > rows->file->record_sequence)
        return contradiction(rows, at, "the slot knows of fewer than", rows->sequence);
    rows->sequence = rows->file->record_sequence;
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- full rows */

const float *row_reader_row(void *context, uint32_t row)
{
    struct row_reader *reader = context;
    if (UNLIKELY(rowfile_touch(reader->file, row, 1) != SYNA_SUCCESS) &&
        !__atomic_exchange_n(&reader->damaged, true, __ATOMIC_ACQ_REL))
        reader->why = *status_get();
    return (const float *)(const void *)rowfile_row(reader->file, row);
}

syna_rc row_reader_end(const struct row_reader *reader)
{
    return LIKELY(!reader->damaged) ? SYNA_SUCCESS : status_set(&reader->why);
}

syna_rc row_moment_take(const struct mmap_rows *rows, struct row_moment *out)
{
    size_t bytes = MAX(rows->live_words.len, sizeof(uint64_t));
    *out = (struct row_moment){
        .norms = rows->norms, .count = rows->count, .live_count = rows->live};
    out->live = mem_zalloc(bytes);
    if (!out->live)
        return syna_no_memory(bytes);
    if (rows->count > 0)
        memcpy(out->live, mmap_rows_live(rows), rows->live_words.len);
    out->file = rowfile_ref(rows->file);
    return SYNA_SUCCESS;
}

void row_moment_free(struct row_moment *moment)
{
    rowfile_unref(moment->file);
    mem_free(moment->live);
    *moment = (struct row_moment){0};
}

/* ---------------------------------------------------------------- keys */

uint32_t mmap_key_hash(const char *key, size_t len)
{
    return (uint32_t)hash_bytes(0, key, len);
}

static size_t next_slot(const struct mmap_rows *rows, size_t slot)
{
    return (slot + 1) & (rows->slot_count - 1);
}

static void put_slot(struct mmap_rows *rows, struct key_slot entry)
{
    size_t slot = entry.hash & (rows->slot_count - 1);
    while (rows->slots[slot].row != MMAP_ROW_NONE)
        slot = next_slot(rows, slot);
    rows->slots[slot] = entry;
}

static syna_rc grow_slots(struct mmap_rows *rows, size_t keys)
{
    size_t count = MAX(rows->slot_count, (size_t)FEWEST_SLOTS);
    while (count < 2 * keys)
        count *= 2;
    if (count == rows->slot_count)
        return SYNA_SUCCESS;
    struct key_slot *slots = mem_alloc(count * sizeof *slots), *old = rows->slots;
    if (!slots)
        return syna_no_memory(count * sizeof *slots);
    memset(slots, 0xff, count * sizeof *slots);
    size_t old_count = rows->slot_count;
    rows->slots = slots;
    rows->slot_count = count;
    for (size_t i = 0; i < old_count; i++)
        if (old[i].row != MMAP_ROW_NONE)
            put_slot(rows, old[i]);
    mem_free(old);
    return SYNA_SUCCESS;
}

syna_rc mmap_keys_reserve(struct mmap_rows *rows, size_t more)
{
    return grow_slots(rows, rows->live + more);
}

size_t mmap_keys_find(const struct mmap_rows *rows, uint32_t hash, const char *key, size_t len)
{
    size_t slot = hash & (rows->slot_count - 1), found_len;
    for (; rows->slots[slot].row != MMAP_ROW_NONE; slot = next_slot(rows, slot)) {
        if (rows->slots[slot].hash != hash)
            continue;
        const char *found = mmap_rows_key(rows, rows->slots[slot].row, &found_len);
        if (found_len == len && memcmp(found, key, len) == 0)
            return slot;
    }
    return rows->slot_count;
}

void mmap_keys_add(struct mmap_rows *rows, uint32_t hash, uint32_t row)
{
    put_slot(rows, (struct key_slot){hash, row});
}

/* Empty the slot, moving back each later one of its run that would no longer be found behind it. */
void mmap_keys_remove(struct mmap_rows *rows, size_t hole)
{
    size_t mask = rows->slot_count - 1;
    for (size_t at = next_slot(rows, hole); rows->slots[at].row != MMAP_ROW_NONE;
         at = next_slot(rows, at)) {
        size_t from_home = (at - rows->slots[at].hash) & mask;
        if (from_home < ((at - hole) & mask))
            continue;
        rows->slots[hole] = rows->slots[at];
        hole = at;
    }
    rows->slots[hole].row = MMAP_ROW_NONE;
}

static syna_rc add_row_key(struct mmap_rows *rows, uint32_t row)
{
    size_t len;
    const char *key = mmap_rows_key(rows, row, &len);
    uint32_t hash = mmap_key_hash(key, len);
    if (mmap_keys_find(rows, hash, key, len) != rows->slot_count)
        return contradiction(rows, mmap_rows_offset(rows, row),
                             "its key has another live row; this is row", row);
    mmap_keys_add(rows, hash, row);
    return SYNA_SUCCESS;
}

syna_rc mmap_keys_build(struct mmap_rows *rows)
{
    if (rows->slots)
        return SYNA_SUCCESS;
    syna_rc rc = grow_slots(rows, rows->live);
    for (uint32_t row = 0; rc == SYNA_SUCCESS && row < rows->count; row++)
        if (mmap_rows_is_live(rows, row))
            rc = add_row_key(rows, row);
    if (rc != SYNA_SUCCESS) {
        mem_free(rows->slots);
        rows->slots = NULL;
        rows->slot_count = 0;
    }
    return rc;
}
