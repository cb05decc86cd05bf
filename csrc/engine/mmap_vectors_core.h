/* The inside of a mapped vector store; for the mmap_vectors*.c files only.
 *
 * Four locks, taken in this order:
 *
 *   checkpoint_lock  one checkpoint or compaction at a time; held across syncs, nothing waits for it
 *                    but another one of these
 *   index_lock       one change of the graph at a time, and of the rows' numbers; held while a graph is
 *                    built, nothing waits for it but another one of these
 *   write_lock       one writer at a time; held while rows are copied into the mapped file
 *   state_lock       shared by searches, exclusive for changes of what they see
 *
 * A write makes room in the file and in memory first, copies its rows behind the committed ones, and
 * only then takes state_lock and publishes: from there on nothing can fail, so a batch is there whole
 * or not at all. A checkpoint takes write_lock for the moment in which it notes what there is. */
#ifndef SYNA_ENGINE_MMAP_VECTORS_CORE_H
#define SYNA_ENGINE_MMAP_VECTORS_CORE_H

#include "engine/mmap_index.h"
#include "engine/mmap_rows.h"
#include "engine/mmap_vectors.h"
#include "io/lock.h"
#include "math/distance.h"
#include "math/topk.h"

struct syna_mmap {
    char *path; /* canonical */
    char *index_path; /* <path>.hnsw */
    pthread_mutex_t checkpoint_lock, index_lock, write_lock;
    pthread_rwlock_t state_lock;
    struct writer_lock lock;
    struct mmap_rows rows;
    struct mmap_index *index; /* NULL: none. Replaced with write_lock and state_lock held */
    const struct kernels *kernels;
    uint32_t dims;
    int32_t metric;
    uint64_t capacity; /* rows that somebody said would come */
    bool writer;       /* false: opened read-only */
    bool inherited;    /* by fork: reads only */
    bool damaged;      /* atomic: a block did not match its CRC; no more writes */
    uint64_t device, inode; /* atomic: of the file now */
};

/* What the row file keeps for us. */
#define MMAP_CONFIG_BYTES 8u
void mmap_vectors_config(uint32_t dims, int32_t metric, uint8_t out[MMAP_CONFIG_BYTES]);
syna_rc mmap_vectors_read_config(const struct rowfile *file, uint32_t *dims, int32_t *metric);
static inline uint32_t mmap_vectors_row_bytes(uint32_t dims)
{
    return (dims * (uint32_t)sizeof(float) + 63) & ~63u;
}
static inline size_t mmap_vectors_stride(const syna_mmap *store)
{
    return store->rows.file->row_bytes / sizeof(float);
}

/* ARGUMENT unless rows of these dimensions and metric are what the store has. A lock is held. */
syna_rc mmap_vectors_check_same(const char *path, uint32_t has_dims, int32_t has_metric,
                                uint32_t dims, int32_t metric);
syna_rc mmap_vectors_check_dims(const syna_mmap *store, const char *what, uint32_t dims);
/* May this handle write now? */
syna_rc mmap_vectors_check_writable(const syna_mmap *store);
/* Remembers that damage was met; returns rc. */
syna_rc mmap_vectors_note_damage(syna_mmap *store, syna_rc rc);

/* mmap_vectors_search.c: the whole of how searches are answered. state_lock is held shared; the tops
 * are ready for ranks and get them in the end sorted. */
struct mmap_searching {
    syna_mmap *store;
    const float *queries;
    size_t count;
    syna_search how;
    syna_explain explain; /* filled in */
    struct topk *tops;
};
syna_rc mmap_vectors_rank(struct mmap_searching *s);

/* mmap_vectors_index.c */
/* Take the index that is saved beside the file, if it fits. Exclusive, as the next two. */
syna_rc mmap_vectors_load_index(syna_mmap *store);
void mmap_vectors_drop_index(syna_mmap *store);
/* A reader's rows became more: so does its index, or it takes one that was saved meanwhile. */
syna_rc mmap_vectors_follow_index(syna_mmap *store);
/* After a checkpoint: link some of the rows that came since, and save the index when much has changed
 * (`closing`: more readily). Failures do no harm and are not told. checkpoint_lock is held. */
void mmap_vectors_tend_index(syna_mmap *store, bool closing);
/* Save it if it changed. checkpoint_lock and index_lock are held. */
void mmap_vectors_save_index(syna_mmap *store);
/* Lead the graph past dead rows. index_lock is held. */
syna_rc mmap_vectors_repair(syna_mmap *store);
/* Rows get other numbers: the index follows them, in two steps of which the second cannot fail.
 * index_lock is held; for the second write_lock and, exclusively, state_lock too. */
syna_rc mmap_vectors_before_renumber(syna_mmap *store, struct mmap_renumbering *r);
void mmap_vectors_renumber(syna_mmap *store, struct mmap_renumbering *r, const uint32_t *numbers,
                           uint32_t count);

/* mmap_vectors_upkeep.c: a checkpoint. checkpoint_lock is held. */
syna_rc mmap_vectors_save(syna_mmap *store);
/* mmap_vectors_upkeep.c: write the live rows to a new file and put it in the place of the old one.
 * checkpoint_lock is held. */
syna_rc mmap_vectors_rewrite(syna_mmap *store, syna_progress_fn progress, void *context);
/* Another file's rows become the store's. Takes them; exclusive. */
void mmap_vectors_swap(syna_mmap *store, struct mmap_rows *rows);

#endif
