/* For each row the pack that it stands in, 0: none. Rows of a pack were written together, so runs of rows are
 * kept, 8 bytes each, instead of a number for every row. Only a compaction of the documents gives rows other
 * packs; then each row has its own number from there on.
 *
 * Not thread-safe: calls marked (w) need the whole exclusively, the others share it. */
#ifndef SYNA_ENGINE_TEXT_RUNS_H
#define SYNA_ENGINE_TEXT_RUNS_H

#include "index/array.h"
#include "store/snapshot.h"

struct run {
    uint32_t first, pack; /* rows from here on to the next run */
};

struct runs {
    struct array runs; /* struct run, ascending; the first one begins with row 0 */
    uint32_t count;
    uint32_t rows;
    struct array each; /* uint32 a row; only when `spread`: then there are no runs */
    bool spread;
};

syna_rc runs_init(struct runs *r);
void runs_dispose(struct runs *r); /* zeros may be disposed of */

/* (w) Room for so many more rows. */
syna_rc runs_reserve(struct runs *r, size_t rows);
/* (w) The next row. There must be room. */
void runs_add(struct runs *r, uint32_t pack);
/* (w) On failure nothing changed. */
syna_rc runs_set(struct runs *r, uint32_t row, uint32_t pack);
uint32_t runs_pack(const struct runs *r, uint32_t row);
uint64_t runs_memory(const struct runs *r); /* what is in use */

/* ---- section "packs". (w) loading: *found false when it is not there or not sound; then dispose of it. No
 * pack is above `last`. The snapshot must outlive the runs. */
syna_rc runs_save(const struct runs *r, struct snapshot_writer *writer);
syna_rc runs_load(struct runs *r, struct snapshot *snapshot, uint32_t rows, uint32_t last, bool *found);

#endif
