/* What is known in memory of the rows of a row file: where the record of each stands, its length, whether
 * it is live, and key -> row. All of it comes from the records; vectors are read where
 * they are mapped.
 *
 * The key table is built when a key is first looked up: opening and searching do without it. Its
 * slots hold row numbers and hashes; a key is compared where its record stands.
 *
 * Not thread-safe: the store's locks cover it. */
#ifndef SYNA_ENGINE_MMAP_ROWS_H
#define SYNA_ENGINE_MMAP_ROWS_H

#include "base/vec.h"
#include "index/array.h"
#include "store/rowfile.h"

#define MMAP_ROW_NONE UINT32_MAX

struct key_slot {
    uint32_t hash;
    uint32_t row; /* MMAP_ROW_NONE = free */
};

struct mmap_rows {
    struct rowfile *file;
    uint32_t count, live;  /* rows; rows not replaced or deleted */
    uint64_t applied;      /* bytes of records that are in here */
    uint64_t sequence;     /* of the last of them */
    struct buf offsets;    /* uint64 a row: its record in the stream */
    struct array norms;    /* float a row: its length; they stay where they are */
    struct buf live_words; /* one bit a row */
    struct key_slot *slots; /* NULL: not built */
    size_t slot_count;      /* a power of two, at least twice the keys */
};

void mmap_rows_init(struct mmap_rows *rows, struct rowfile *file); /* takes the reference */
void mmap_rows_dispose(struct mmap_rows *rows);
uint64_t mmap_rows_bytes(const struct mmap_rows *rows); /* heap in use */

/* Apply the records that the file has and this has not. CORRUPT when they contradict each other. */
syna_rc mmap_rows_apply(struct mmap_rows *rows);

/* Room for `more` rows, so that adding them cannot fail. */
syna_rc mmap_rows_reserve(struct mmap_rows *rows, size_t more);
/* Is there room for `more` rows and keys, with the key table built? */
bool mmap_rows_have_room(const struct mmap_rows *rows, size_t more);

static inline uint64_t mmap_rows_offset(const struct mmap_rows *rows, uint32_t row)
{
    return ((const uint64_t *)(const void *)rows->offsets.bytes)[row];
}
static inline float *mmap_rows_norms(const struct mmap_rows *rows)
{
    return (float *)(void *)rows->norms.tail;
}
static inline uint64_t *mmap_rows_live(const struct mmap_rows *rows)
{
    return (uint64_t *)(void *)rows->live_words.bytes;
}
static inline bool mmap_rows_is_live(const struct mmap_rows *rows, uint32_t row)
{
    return mmap_rows_live(rows)[row / 64] >> row % 64 & 1;
}
static inline const float *mmap_rows_vector(const struct mmap_rows *rows, uint32_t row)
{
    return (const float *)(const void *)rowfile_row(rows->file, row);
}
/* The key of a row, not terminated. */
static inline const char *mmap_rows_key(const struct mmap_rows *rows, uint32_t row, size_t *len)
{
    const uint8_t *records = rowfile_base(rows->file, STREAM_RECORDS);
    return (const char *)record_key(records + mmap_rows_offset(rows, row), len);
}

/* ---- reading full rows */
/* Full rows for index functions. Blocks are checked before their first use, by any number of threads; the
 * first damage that is met is remembered. Whoever reads holds a lock, or the file cannot be swapped. */
struct row_reader {
    struct rowfile *file;
    bool damaged; /* atomic */
    struct status_record why;
};
static inline void row_reader_init(struct row_reader *reader, struct rowfile *file)
{
    reader->file = file;
    reader->damaged = false;
}
/* `context` is a row_reader; as row_set.full wants it. */
const float *row_reader_row(void *context, uint32_t row);
/* The error that was met, if any. */
syna_rc row_reader_end(const struct row_reader *reader);

/* The rows at one moment, for work that goes on without locks: rows do not change, and stay mapped as long
 * as the file is referenced. */
struct row_moment {
    struct rowfile *file;  /* referenced */
    struct array norms;    /* as they were then, borrowed: they do not move */
    uint64_t *live;        /* a copy */
    uint32_t count, live_count;
};
syna_rc row_moment_take(const struct mmap_rows *rows, struct row_moment *out);
void row_moment_free(struct row_moment *moment);

/* ---- changes; there is room */
/* The next row, with its record at `offset`; of `replaced` (NONE: none) it takes the place. */
void mmap_rows_add(struct mmap_rows *rows, uint64_t offset, float norm, uint32_t replaced);
void mmap_rows_drop(struct mmap_rows *rows, uint32_t row);

/* ---- the key table */
uint32_t mmap_key_hash(const char *key, size_t len);
/* Build the table if it is not there. CORRUPT when a key has two live rows. */
syna_rc mmap_keys_build(struct mmap_rows *rows);
/* Room for `more` keys. The table is built. */
syna_rc mmap_keys_reserve(struct mmap_rows *rows, size_t more);
/* The slot of a key; slot_count when there is none. The table is built. */
size_t mmap_keys_find(const struct mmap_rows *rows, uint32_t hash, const char *key, size_t len);
void mmap_keys_add(struct mmap_rows *rows, uint32_t hash, uint32_t row);
void mmap_keys_remove(struct mmap_rows *rows, size_t slot);

#endif
