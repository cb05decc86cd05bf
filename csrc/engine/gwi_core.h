/* The inside of a gravity well index; for the gwi*.c files only.
 *
 * Four locks, taken in this order:
 *
 *   checkpoint_lock  one checkpoint or compaction at a time; held across syncs
 *   index_lock       who changes the lists: training, absorbing, splitting, saving them; held while
 *                    these compute, which searches and inserts do not wait for
 *   write_lock       one writer at a time; held while rows are copied into the mapped file
 *   state_lock       shared by searches, exclusive for changes of what they see
 *
 * An insert stores its rows exactly as a mapped vector store does (mmap_vectors_core.h): room, copy,
 * publish. They are fresh then: not in a list, and scored by every search. Whoever finds enough of them,
 * and nobody at work, puts them into lists (gwi_maintain). So nothing that goes wrong with lists can lose a
 * row or fail an insert. */
#ifndef SYNA_ENGINE_GWI_CORE_H
#define SYNA_ENGINE_GWI_CORE_H

#include "engine/gwi.h"
#include "engine/meta.h"
#include "engine/mmap_rows.h"
#include "engine/progress.h"
#include "index/partition.h"
#include "io/lock.h"

#define GWI_COMPONENT ((uint32_t)'G' | (uint32_t)'W' << 8 | (uint32_t)'E' << 16 | (uint32_t)'L' << 24)
#define GWI_SMALL 4096u /* rows up to which every search looks at all */

struct syna_wells {
    char *path;       /* canonical */
    char *wells_path; /* of the snapshot */
    pthread_mutex_t checkpoint_lock, index_lock, write_lock;
    pthread_rwlock_t state_lock;
    struct writer_lock lock;
    struct mmap_rows rows;
    struct meta *meta;
    struct partition part;
    struct snapshot *snapshot; /* that the lists stand in; NULL: they do not */
    const struct kernels *kernels;
    uint32_t dims;
    int32_t metric;
    uint32_t branching, levels, threads;
    bool sampled;          /* a sample was given */
    uint64_t capacity;     /* rows that somebody said would come */
    uint32_t saved_end;    /* rows that the saved lists cover, 0 = none are saved */
    bool lists_changed;    /* trained since they were saved */
    bool writer;           /* false: opened read-only */
    bool inherited;        /* by fork: reads only */
    bool damaged;          /* atomic: a block did not match its CRC; no more writes */
    uint64_t device, inode; /* atomic: of the file now */
};

/* What the row file keeps for us. */
#define GWI_CONFIG_BYTES 20u
struct gwi_config {
    uint32_t dims;
    int32_t metric;
    uint32_t branching, levels;
    bool sampled;
};
syna_rc gwi_read_config(const struct rowfile *file, struct gwi_config *out);
static inline uint32_t gwi_row_bytes(uint32_t dims)
{
    return (dims * (uint32_t)sizeof(float) + 63) & ~63u;
}
/* ARGUMENT unless rows of these dimensions and metric are what the store has. A lock is held. */
syna_rc gwi_check_same(const syna_wells *store, uint32_t dims, int32_t metric);
/* (write_lock) Note the configuration again, a sample was given. Only without rows. */
void gwi_configure_sampled(syna_wells *store);
syna_rc gwi_check_dims(const syna_wells *store, const char *what, uint32_t dims);
/* May this handle write now? */
syna_rc gwi_check_writable(const syna_wells *store);
/* Remembers that damage was met; returns rc. */
syna_rc gwi_note_damage(syna_wells *store, syna_rc rc);
/* Another file's rows and metadata become the store's, without lists. Takes them; exclusive. */
void gwi_swap(syna_wells *store, struct mmap_rows *rows, struct meta *meta);

/* Metadata of the rows from `first` on, as their records have it. Exclusive, or not shared yet. */
syna_rc gwi_apply_meta(const struct mmap_rows *rows, struct meta *meta, uint32_t first);

/* gwi_read.c: take state_lock shared with the key table built. On failure it is not held. */
syna_rc gwi_begin_lookup(syna_wells *store);

/* gwi_hits.c: one block with hits, their vectors, keys and metadata. A lock is held. */
struct hit_block {
    const syna_wells *store;
    syna_hit *hits;
    float *vectors; /* NULL when not asked for */
    char *texts;    /* keys and metadata */
    bool metadata;
};
syna_rc hit_block_begin(struct hit_block *b, const syna_wells *store, uint32_t flags, size_t count,
                        size_t text_bytes);
size_t hit_block_text_bytes(const syna_wells *store, uint32_t flags, uint32_t row);
void hit_block_add(struct hit_block *b, syna_hit *hit, uint32_t row, float score);

/* gwi_search.c: full rows for the searches of the index. A row whose block is damaged is remembered. */
struct gwi_rows {
    const syna_wells *store;
    bool damaged;
    struct status_record why;
};
/* A lock is held, or the file cannot be swapped. */
void gwi_row_set(struct gwi_rows *rows, struct row_set *out);

/* gwi_index.c: put fresh rows into lists, train, split, measure, whatever is due and nobody else does. What
 * fails is tried again another time. No lock is held. */
void gwi_maintain(syna_wells *store);
/* Lists for all rows, now; index_lock is held. */
syna_rc gwi_absorb_all(syna_wells *store, syna_progress_fn progress, void *context);
/* (exclusive) No lists. */
void gwi_drop_lists(syna_wells *store);

/* gwi_file.c. index_lock is held; what the lists cover must be durable. */
syna_rc gwi_save_lists(syna_wells *store);
/* The saved lists, if they are of these rows; without lists the store has to be as it is. A reader whose
 * rows are older takes the newer ones. */
syna_rc gwi_load_lists(syna_wells *store);

/* gwi_upkeep.c: a checkpoint of the rows. checkpoint_lock is held. */
syna_rc gwi_save_rows(syna_wells *store);
/* gwi_compact.c: write the live rows to a new file and put it in the place of the old one.
 * checkpoint_lock and index_lock are held. */
syna_rc gwi_rewrite(syna_wells *store, syna_progress_fn progress, void *context);

#endif
