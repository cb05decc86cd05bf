/* What makes searches of a mapped vector store quick: an 8-bit code of every row, and a graph over the
 * first `graph.linked` of them. It is derived from the row file; without it every row is scored.
 *
 * Codes are there for all rows of the store, from the moment in which the index is: rows [0, linked) are
 * found through the graph, those behind by exact search over the codes. A row never changes, so codes
 * are written once; they are written behind set.count, where nobody reads.
 *
 * Saved in a snapshot beside the row file, which names the store, its generation, and the last record
 * and row that it covers. What is not there is encoded when the file is opened.
 *
 * Not thread-safe; mmap_vectors_index.c says which locks cover what. */
#ifndef SYNA_ENGINE_MMAP_INDEX_H
#define SYNA_ENGINE_MMAP_INDEX_H

#include "engine/mmap_rows.h"
#include "index/hnsw.h"

struct mmap_index {
    struct row_set set; /* codes and errors; see mmap_index_set for what reads full rows */
    struct hnsw graph;
    uint32_t trained_of;  /* rows that the codes were learned from */
    uint32_t dead_linked; /* rows that died in the graph and still have links */
    uint64_t changes;     /* rows linked or led past since the snapshot was written */
    struct snapshot *snapshot; /* parts of the above may stand in it */
};

/* The rows as index functions take them. The reader lives as long as the result. */
struct row_set mmap_index_set(const struct mmap_index *index, const struct array *norms,
                              struct rowfile *file, struct row_reader *reader);

/* An index over the rows of a moment: codes learned, all rows encoded, linked, recall measured. CANCELLED
 * when `progress` says so. *out is given (mmap_index_free). */
syna_rc mmap_index_build(const struct row_moment *moment, uint32_t dims, int32_t metric,
                         unsigned threads, const struct hnsw_progress *progress,
                         struct mmap_index **out);
/* One without codes and rows. *out may be set, and is to be freed, also on failure. */
syna_rc mmap_index_new(uint32_t dims, int32_t metric, struct mmap_index **out);
void mmap_index_free(struct mmap_index *index); /* NULL is fine */
uint64_t mmap_index_bytes(const struct mmap_index *index); /* memory of its own; NULL is fine */

/* Room for codes of rows [0, total). */
syna_rc mmap_index_reserve(struct mmap_index *index, uint64_t total);
static inline bool mmap_index_has_room(const struct mmap_index *index, uint64_t total)
{
    return index->set.code_rows.cap >= total && index->set.errors.cap >= total;
}
/* Encode rows, for which there is room; set.count stays. */
void mmap_index_encode_row(struct mmap_index *index, uint32_t row, const float *vector);
syna_rc mmap_index_encode(struct mmap_index *index, struct rowfile *file, uint32_t first,
                          uint32_t count);
/* Codes for all rows of the store. */
syna_rc mmap_index_catch_up(struct mmap_index *index, const struct mmap_rows *rows);
/* Count the dead rows that searches still walk through. */
void mmap_index_count_dead(struct mmap_index *index, const struct mmap_rows *rows);
static inline void mmap_index_drop(struct mmap_index *index, uint32_t row)
{
    index->dead_linked += row < index->graph.linked;
}

/* Rows got other numbers: row i is numbers[i] now, or gone (MMAP_ROW_NONE); the order stayed. Begins
 * with what can fail, so that the rest cannot. */
struct mmap_renumbering {
    struct hnsw graph; /* of the new numbers; room only, until it is finished */
};
syna_rc mmap_renumber_begin(struct mmap_renumbering *r, const struct mmap_index *index);
void mmap_renumber_abandon(struct mmap_renumbering *r);
void mmap_renumber_finish(struct mmap_renumbering *r, struct mmap_index *index,
                          const uint32_t *numbers, uint32_t count);

/* ---- mmap_index_file.c */
/* The index that is saved at `path`, if it is one of these rows. *out NULL (success): there is none, or
 * it does not fit. Rows that came later are encoded. */
syna_rc mmap_index_load(const char *path, const struct mmap_rows *rows, uint32_t dims,
                        int32_t metric, struct mmap_index **out);
/* Write it, for rows [0, count): all that the graph has, and none that is not durable. `offset` is that
 * of the last of them among the records. */
syna_rc mmap_index_save(struct mmap_index *index, const char *path, struct rowfile *file,
                        uint32_t count, uint64_t offset);

#endif
