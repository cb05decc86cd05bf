/* A store of float32 rows with keys, and metadata where the component has it, in a row file: what
 * MmapVectorStore, GravityWellIndex and CascadeIndex have in common. What differs, the index over the rows,
 * is a table of functions. The struct of a component begins with `struct row_store base`.
 *
 * Four locks, taken in this order:
 *
 *   checkpoint_lock  one checkpoint, refresh or compaction at a time; held across syncs, nothing waits for
 *                    it but another one of these
 *   index_lock       who changes the index, or the rows' numbers; held while these compute, which searches
 *                    and inserts do not wait for
 *   write_lock       one writer at a time; held while rows are copied into the mapped file
 *   state_lock       shared by searches, exclusive for changes of what they see
 *
 * A write makes room in the file and in memory first, copies its rows behind the committed ones, and only
 * then takes state_lock and publishes: from there on nothing can fail, so a batch is there whole or not at
 * all. A checkpoint takes write_lock for the moment in which it notes what there is. Rows that the index
 * does not have yet are fresh: every search looks at all of them, so nothing that goes wrong with an index
 * can lose a row or hide one.
 *
 * Dimensions and metric stand in the configuration of the row file. They are fixed by the first row: a
 * store without rows takes those of whoever opens it last.
 *
 * Files: row_store.c open, close, fork; row_store_write.c insert and delete; row_store_read.c get, list,
 * results; row_store_search.c what searches share; row_store_file.c which rows a saved index covers;
 * row_store_upkeep.c checkpoint, refresh; row_store_compact.c; row_store_check.c verify. */
#ifndef SYNA_ENGINE_ROW_STORE_H
#define SYNA_ENGINE_ROW_STORE_H

#include "engine/db.h"
#include "engine/meta.h"
#include "engine/mmap_rows.h"
#include "index/exact.h"
#include "io/lock.h"
#include "math/topk.h"

#include <synadb/vector.h>

struct row_store;

/* Why an index is asked to save itself. */
enum row_save { ROW_SAVE_CHECKPOINT, ROW_SAVE_CLOSE, ROW_SAVE_ALL };

/* A component. Functions that are marked (optional) may be NULL; the marks say which lock is held: (x)
 * state_lock exclusively, or nobody else has the store yet; (w) write_lock; (i) index_lock. */
struct row_store_kind {
    uint32_t component;       /* of the row file: four characters */
    const char *noun;         /* in messages: "store", "index" */
    const char *index_suffix; /* the index is saved at <path><suffix> */
    uint32_t config_len;      /* ROW_CONFIG_BYTES, and what the component keeps behind them */
    bool metadata;            /* rows may have some */
    /* Building takes index_lock for so long that upkeep of the rows must not wait for it: it is taken by
     * `save`, and by a compaction for no longer than rows get other numbers. Otherwise all upkeep holds it. */
    bool index_apart;

    /* (x, optional) Options beyond those of row_store_options, at every opening; first of all before there
     * is a file. */
    void (*tune)(struct row_store *store, const void *options);
    /* (x, optional) The component's own part of the configuration. */
    void (*read_config)(struct row_store *store, const uint8_t *config);
    void (*write_config)(const struct row_store *store, uint8_t *config);
    /* (x, optional) Dimensions or metric became others; there are no rows and no index. */
    void (*renew)(struct row_store *store);

    /* (x) Take the saved index, if it is of these rows; drop what there is of one, if anything. */
    syna_rc (*load)(struct row_store *store);
    void (*drop)(struct row_store *store);
    /* (i, but for index_apart) Rows are durable: save the index if that is due. */
    syna_rc (*save)(struct row_store *store, enum row_save why);
    /* (optional) Rows came or went: do what is due for the index. No lock is held. */
    syna_rc (*tend)(struct row_store *store, syna_progress_fn progress, void *context);

    /* (w, optional) Is there room for so many rows in all? */
    bool (*has_room)(const struct row_store *store, uint64_t total);
    syna_rc (*reserve)(struct row_store *store, uint64_t total); /* (w, x) */
    /* (w, optional) Vectors of the next rows, which are published after this. */
    void (*coming)(struct row_store *store, const float *vectors, size_t count);
    void (*came)(struct row_store *store);                /* (w, x, optional) they were */
    void (*removed)(struct row_store *store, uint32_t row); /* (w, x, optional) it is dead */
    /* (x, optional) A reader's rows became more and some are dead. */
    syna_rc (*follow)(struct row_store *store);

    /* Optional, all or none: the index outlives a compaction. (i) Before, with whatever can fail; (i, w, x)
     * row i is numbers[i] now, or gone (MMAP_ROW_NONE), and the order stayed; (i) after, also on failure. */
    syna_rc (*before_renumber)(struct row_store *store);
    void (*renumber)(struct row_store *store, const uint32_t *numbers, uint32_t count);
    void (*after_renumber)(struct row_store *store, bool renumbered);

    void (*lock_for_fork)(struct row_store *store, bool lock); /* (optional) further locks */
};

struct row_store {
    const struct row_store_kind *kind;
    char *path;       /* canonical */
    char *index_path; /* of the saved index */
    pthread_mutex_t checkpoint_lock, index_lock, write_lock;
    pthread_rwlock_t state_lock;
    struct writer_lock lock;
    struct mmap_rows rows;
    struct meta *meta; /* NULL: the component has none */
    const struct kernels *kernels;
    uint32_t dims;
    int32_t metric;
    uint64_t capacity; /* rows that somebody said would come */
    bool writer;       /* false: opened read-only */
    bool inherited;    /* by fork: reads only */
    bool damaged;      /* atomic: a block did not match its CRC; no more writes */
    uint64_t device, inode; /* atomic: of the file now */
};

#define ROW_CONFIG_BYTES 8u /* dimensions and metric */

/* ---- row_store.c */
struct row_store_options {
    uint32_t dims; /* 0: those of the file, which has to be there */
    int32_t metric;
    uint64_t capacity;
    bool read_only;
    const void *own; /* of the component, for `tune` */
    syna_progress_fn progress; /* of `tend`; may be NULL */
    void *context;
};
/* ARGUMENT unless dimensions and metric are some that a store can have. */
syna_rc row_store_check_numbers(uint32_t dims, int32_t metric);
/* `size` bytes, of a struct that begins with one of these. */
syna_rc row_store_open(const struct row_store_kind *kind, size_t size, const char *path,
                       const struct row_store_options *options, struct row_store **out);
/* One more opening: the same refusals. */
syna_rc row_store_again(struct row_store *store, const struct row_store_options *options);
syna_rc row_store_close(struct row_store *store);
bool row_store_is_file(const struct row_store *store, uint64_t device, uint64_t inode);
/* Around fork(): no change is half done in the child, and its copies of the locks are free. */
void row_store_before_fork(struct row_store *store);
void row_store_after_fork(struct row_store *store, bool child);

syna_rc row_store_check_dims(const struct row_store *store, const char *what, uint32_t dims);
/* May this handle write now? May it save what was written? */
syna_rc row_store_check_writable(const struct row_store *store);
syna_rc row_store_check_can_save(const struct row_store *store);
/* Remembers that damage was met; returns rc. */
syna_rc row_store_note_damage(struct row_store *store, syna_rc rc);
static inline bool row_store_is_damaged(const struct row_store *store)
{
    return __atomic_load_n(&store->damaged, __ATOMIC_ACQUIRE);
}
syna_rc row_store_tend(struct row_store *store, syna_progress_fn progress, void *context);
/* (w) The component's part of the configuration is another one. Only without rows. */
void row_store_write_config(struct row_store *store);

/* Dimensions and metric of a file. CORRUPT unless they fit its rows. */
syna_rc row_store_read_config(const struct row_store_kind *kind, const struct rowfile *file,
                              uint32_t *dims, int32_t *metric);
/* The file has those of the store. */
syna_rc row_store_check_config(const struct row_store *store, const struct rowfile *file);
/* (x) Another file's rows and metadata become the store's. Takes them. */
void row_store_swap(struct row_store *store, struct mmap_rows *rows, struct meta *meta);
/* Rows and metadata of a file. Takes the reference, whatever it returns. */
syna_rc row_store_load_rows(const struct row_store *store, struct rowfile *file, struct mmap_rows *rows,
                            struct meta **meta);
/* (x) The file has newer rows: so have rows and metadata of the store. */
syna_rc row_store_follow_rows(struct row_store *store);

/* ---- row_store_write.c */
struct row_batch {
    const char *const *keys;
    const size_t *key_lens;      /* NULL: keys end with a NUL */
    const float *vectors;
    const char *const *metadata; /* NULL: none */
    const size_t *metadata_lens; /* NULL: texts end with a NUL */
    uint32_t dims;
    size_t count;
    syna_progress_fn progress; /* of `tend`; may be NULL */
    void *context;
};
syna_rc row_store_insert(struct row_store *store, const struct row_batch *batch, size_t *added);
syna_rc row_store_delete(struct row_store *store, const char *key, size_t key_len, int32_t *deleted);
/* Change the metadata of a row: the fields of `json` are added to those that are there, or take their place
 * (`replace`: are the only ones); NULL takes all away. KEY_NOT_FOUND when there is no row. */
syna_rc row_store_update_metadata(struct row_store *store, const char *key, size_t key_len,
                                  const char *json, size_t len, bool replace);

/* ---- row_store_read.c */
/* Take state_lock shared with the key table built. On failure it is not held. */
syna_rc row_store_begin_lookup(struct row_store *store);
/* The row of a key, its block checked. row_store_begin_lookup was called. */
syna_rc row_store_find(struct row_store *store, const char *key, size_t key_len, uint32_t *row);
syna_rc row_store_get(struct row_store *store, const char *key, size_t key_len, float *out,
                      uint32_t dims);
/* *out: mem_alloc'ed with a NUL, or NULL. */
syna_rc row_store_get_metadata(struct row_store *store, const char *key, size_t key_len, char **out,
                               size_t *len);
syna_rc row_store_contains(struct row_store *store, const char *key, size_t key_len, bool *found);
uint64_t row_store_count(struct row_store *store);
syna_rc row_store_rows(struct row_store *store, uint32_t flags, syna_hit **hits, size_t *count);
/* Have `fill` write figures into *stats, which is zeros and has `size` bytes, and copy to *out as much of
 * them as the size in front of it asks for. */
syna_rc row_store_get_stats(struct row_store *store,
                            void (*fill)(const struct row_store *store, void *stats), void *stats,
                            size_t size, void *out);
static inline uint64_t row_store_unsaved(const struct row_store *store)
{
    const struct rowfile *file = store->rows.file;
    return rowfile_rows(file) - __atomic_load_n(&file->checkpoint_rows, __ATOMIC_RELAXED);
}

/* One block of memory with hits and everything that they point to: the hits, then their vectors, then
 * their keys and metadata. It is made while a lock is held: one moment of the store. */
struct row_hits {
    const struct row_store *store;
    syna_hit *hits;
    float *vectors; /* NULL when not asked for */
    char *texts;
    bool metadata;
};
syna_rc row_hits_begin(struct row_hits *b, const struct row_store *store, uint32_t flags, size_t count,
                       size_t text_bytes);
size_t row_hits_text_bytes(const struct row_store *store, uint32_t flags, uint32_t row);
void row_hits_add(struct row_hits *b, syna_hit *hit, uint32_t row, float score);

/* ---- row_store_search.c */
/* One search of some queries. A component embeds it first in what it needs besides. */
struct row_search {
    struct row_store *store;
    const float *queries;
    size_t count;
    uint64_t k;
    uint32_t flags;
    float radius, recall;
    const char *filter_json; /* NULL: none */
    size_t filter_len;
    /* Rank the rows into `tops`. state_lock is held. */
    syna_rc (*rank)(struct row_search *search);

    struct row_reader reader;
    struct filter *filter;
    uint64_t *bits;         /* of the filter; NULL: none */
    const uint64_t *chosen; /* one bit a row */
    uint64_t matches;       /* rows chosen */
    struct topk *tops;
    uint64_t scored; /* full rows that row_search_score scored */
};
/* The results, best first. The four numbers of the caller are checked; `rank` finds the rest prepared. */
syna_rc row_search_run(struct row_search *s, uint32_t dims, syna_hit **hits, size_t *counts);
/* Nothing but every row will do. */
static inline bool row_search_is_exact(const struct row_search *s)
{
    return (s->flags & (SYNA_SEARCH_RADIUS | SYNA_SEARCH_EXACT)) || s->recall >= 1;
}
/* Empty the tops. */
void row_search_start(struct row_search *s);
/* Does every query have as many rows as there are? */
bool row_search_is_complete(const struct row_search *s);
/* Score every chosen row from `first` on. */
syna_rc row_search_score(struct row_search *s, uint32_t first);
/* Lengths of the queries, to be freed; NULL without memory. */
float *row_search_norms(const struct row_search *s);

/* ---- row_store_file.c: an index that is saved beside the rows names them by their number, the last of
 * them also by its checksum; whatever does not fit is as if it were not there. */
/* Save an index of rows [0, end), which are durable; `put` writes its sections. */
syna_rc row_store_save_snapshot(struct row_store *store, uint32_t purpose, uint32_t end,
                                syna_rc (*put)(struct row_store *store,
                                               struct snapshot_writer *writer));
/* Have `take` take the snapshot if it is of these rows; a reader whose rows are older takes the newer ones.
 * *taken says whether `take` did; then the snapshot is the component's. (x) */
syna_rc row_store_load_snapshot(struct row_store *store, uint32_t purpose,
                                syna_rc (*take)(struct row_store *store, struct snapshot *snapshot,
                                                bool *taken));

/* ---- row_store_upkeep.c */
/* Around all upkeep: checkpoint_lock, and index_lock unless the index is apart. */
void row_store_begin_upkeep(struct row_store *store);
void row_store_end_upkeep(struct row_store *store);
/* A checkpoint of the rows. checkpoint_lock is held. */
syna_rc row_store_save_rows(struct row_store *store);
/* A checkpoint, and the index with it if that is due. That the index could not be saved is an error of
 * ROW_SAVE_ALL only, which asks for it: a checkpoint promises the rows. */
syna_rc row_store_save(struct row_store *store, enum row_save why);
syna_rc row_store_refresh(struct row_store *store, bool *changed);
/* The same without what is due for the index then: row_store_tend. */
syna_rc row_store_look(struct row_store *store, bool *changed);

/* ---- row_store_compact.c */
syna_rc row_store_compact(struct row_store *store, syna_progress_fn progress, void *context);
/* The same between row_store_begin_upkeep and row_store_end_upkeep. */
syna_rc row_store_rewrite(struct row_store *store, syna_progress_fn progress, void *context);

/* ---- row_store_check.c */
syna_rc row_store_verify(const struct row_store_kind *kind, const char *path, syna_finding_fn visit,
                         void *context, syna_progress_fn progress, syna_check *out);

#endif
