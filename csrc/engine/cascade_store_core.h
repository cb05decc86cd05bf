/* The inside of a cascade index on disk; for the cascade_store*.c files only. Rows, keys, metadata, locks
 * and files are those of row_store.h; what is added is index/cascade.h over codes of its own.
 *
 * Rows that were inserted are fresh: not in the index, and every search scores all of them. The insert goes
 * on and links them (cascade_store_maintain), unless somebody else is at that, who will come to them. */
#ifndef SYNA_ENGINE_CASCADE_STORE_CORE_H
#define SYNA_ENGINE_CASCADE_STORE_CORE_H

#include "engine/cascade_store.h"
#include "index/cascade.h"

struct syna_buckets {
    struct row_store base;
    struct row_set set;    /* codes, lengths and errors of rows [0, index.linked) */
    struct cascade index;  /* linked 0: not built */
    uint32_t trained_of;   /* rows that the codes were learned from */
    uint32_t dead_before;  /* rows that were dead when the index was built: they are no part of it */
    struct snapshot *snapshot; /* that the index stands in; NULL: it does not */
    struct cascade_params params; /* wanted; the index has those of its building */
    float recall;          /* of searches that name none */
    unsigned threads;
    uint32_t saved_end;    /* rows that the saved index covers, 0 = none is saved */
    bool index_changed;    /* built or measured since it was saved */
};
static inline syna_buckets *buckets_of(struct row_store *base)
{
    return (syna_buckets *)(void *)base;
}

/* cascade_store_index.c */
/* The store's codes with full rows. A lock is held, or nobody changes them. */
void cascade_store_row_set(const syna_buckets *store, struct row_reader *reader, struct row_set *out);
/* (exclusive) An empty set of codes for the store's dimensions and metric, and none of the index. */
syna_rc cascade_store_init_set(const syna_buckets *store, struct row_set *set);
void cascade_store_drop_index(struct row_store *base);
/* (exclusive) Rows that died without the index being told leave it. */
syna_rc cascade_store_sweep(struct row_store *base);
/* Build, link, measure: whatever is due and nobody else does. What fails is tried again another time, except
 * that CANCELLED is returned. No lock is held. */
syna_rc cascade_store_maintain(struct row_store *base, syna_progress_fn progress, void *context);

/* cascade_store_file.c: see row_store_kind. */
syna_rc cascade_store_load_index(struct row_store *base);
syna_rc cascade_store_save_index(struct row_store *base, enum row_save why);

#endif
