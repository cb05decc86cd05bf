/* The inside of a cascade index on disk; for the cascade_store*.c files only.
 *
 * Four locks, taken in this order:
 *
 *   checkpoint_lock  one checkpoint or compaction at a time; held across syncs
 *   index_lock       who changes the index: building, linking, measuring, saving it; held while these
 *                    compute, which searches and inserts do not wait for
 *   write_lock       one writer at a time; held while rows are copied into the mapped file
 *   state_lock       shared by searches, exclusive for changes of what they see
 *
 * An insert stores its rows as a mapped vector store does (mmap_vectors_core.h): room, copy, publish. They
 * are fresh then: rows of the file that are not in the index, and every search scores all of them. The
 * insert goes on and links them (cascade_store_maintain), unless somebody else is at that, who will come to
 * them. So nothing that goes wrong with the index can lose a row or hide one. */
#ifndef SYNA_ENGINE_CASCADE_STORE_CORE_H
#define SYNA_ENGINE_CASCADE_STORE_CORE_H

#include "engine/cascade_store.h"
#include "engine/meta.h"
#include "engine/mmap_rows.h"
#include "engine/progress.h"
#include "index/cascade.h"
#include "io/lock.h"

#define CASCADE_COMPONENT \
    ((uint32_t)'C' | (uint32_t)'A' << 8 | (uint32_t)'S' << 16 | (uint32_t)'C' << 24)

struct syna_buckets {
    char *path;       /* canonical */
    char *index_path; /* of the snapshot */
    pthread_mutex_t checkpoint_lock, index_lock, write_lock;
    pthread_rwlock_t state_lock;
    struct writer_lock lock;
    struct mmap_rows rows;
    struct meta *meta;
    struct row_set set;    /* codes, lengths and errors of rows [0, index.linked) */
    struct cascade index;  /* linked 0: not built */
    uint32_t trained_of;   /* rows that the codes were learned from */
    uint32_t dead_before;  /* rows that were dead when the index was built: they are no part of it */
    struct snapshot *snapshot; /* that the index stands in; NULL: it does not */
    struct cascade_params params; /* wanted; the index has those of its building */
    float recall;          /* of searches that name none */
    unsigned threads;
    const struct kernels *kernels;
    uint32_t dims;
    int32_t metric;
    uint64_t capacity;     /* rows that somebody said would come */
    uint32_t saved_end;    /* rows that the saved index covers, 0 = none is saved */
    bool index_changed;    /* built or measured since it was saved */
    bool writer;           /* false: opened read-only */
    bool inherited;        /* by fork: reads only */
    bool damaged;          /* atomic: a block did not match its CRC; no more writes */
    uint64_t device, inode; /* atomic: of the file now */
};

/* What the row file keeps for us: dimensions and metric. */
#define CASCADE_CONFIG_BYTES 8u
syna_rc cascade_store_read_config(const struct rowfile *file, uint32_t *dims, int32_t *metric);
static inline uint32_t cascade_store_row_bytes(uint32_t dims)
{
    return (dims * (uint32_t)sizeof(float) + 63) & ~63u;
}
/* ARGUMENT unless rows of these dimensions and metric are what the store has. A lock is held. */
syna_rc cascade_store_check_same(const syna_buckets *store, uint32_t dims, int32_t metric);
syna_rc cascade_store_check_dims(const syna_buckets *store, const char *what, uint32_t dims);
/* May this handle write now? */
syna_rc cascade_store_check_writable(const syna_buckets *store);
/* Remembers that damage was met; returns rc. */
syna_rc cascade_store_note_damage(syna_buckets *store, syna_rc rc);
/* Another file's rows and metadata become the store's, without an index. Takes them; exclusive. */
void cascade_store_swap(syna_buckets *store, struct mmap_rows *rows, struct meta *meta);
/* Metadata of the rows from `first` on, as their records have it. Exclusive, or not shared yet. */
syna_rc cascade_store_apply_meta(const struct mmap_rows *rows, struct meta *meta, uint32_t first);

/* cascade_store_read.c: take state_lock shared with the key table built. On failure it is not held. */
syna_rc cascade_store_begin_lookup(syna_buckets *store);

/* cascade_store_hits.c: one block with hits, their vectors and keys. A lock is held. */
struct bucket_hits {
    const syna_buckets *store;
    syna_hit *hits;
    float *vectors; /* NULL when not asked for */
    char *texts;    /* keys and metadata */
    bool metadata;
};
syna_rc bucket_hits_begin(struct bucket_hits *b, const syna_buckets *store, uint32_t flags,
                          size_t count, size_t text_bytes);
size_t bucket_hits_text_bytes(const syna_buckets *store, uint32_t flags, uint32_t row);
void bucket_hits_add(struct bucket_hits *b, syna_hit *hit, uint32_t row, float score);

/* cascade_store_index.c: full rows as the index reads them. A row whose block is damaged is remembered. */
struct bucket_rows {
    const syna_buckets *store;
    bool damaged; /* atomic */
    struct status_record why;
};
/* The store's codes with these full rows. A lock is held, or nobody changes them. */
void cascade_store_row_set(struct bucket_rows *rows, struct row_set *out);
/* (exclusive) An empty set of codes for the store's dimensions and metric, and none of the index. */
syna_rc cascade_store_init_set(const syna_buckets *store, struct row_set *set);
void cascade_store_dispose_set(struct row_set *set);
void cascade_store_drop_index(syna_buckets *store);
/* (exclusive) Rows that died without the index being told leave it. */
void cascade_store_sweep(syna_buckets *store);
/* Build, link, measure: whatever is due and nobody else does. What fails is tried again another time, except
 * that CANCELLED is returned. No lock is held. */
syna_rc cascade_store_maintain(syna_buckets *store, syna_progress_fn progress, void *context);

/* cascade_store_file.c. index_lock is held; what the index covers must be durable. */
syna_rc cascade_store_save_index(syna_buckets *store);
/* The saved index, if it is of these rows; without one the store has to be as it is. A reader whose rows
 * are older takes the newer ones. */
syna_rc cascade_store_load_index(syna_buckets *store);

/* cascade_store_upkeep.c: a checkpoint of the rows. checkpoint_lock is held. */
syna_rc cascade_store_save_rows(syna_buckets *store);
/* cascade_store_compact.c: write the live rows to a new file and put it in the place of the old one.
 * checkpoint_lock and index_lock are held. */
syna_rc cascade_store_rewrite(syna_buckets *store, syna_progress_fn progress, void *context);

#endif
