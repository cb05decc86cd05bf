/* The inside of a vector store; for the vectors*.c files only.
 *
 * The log is the truth and holds the vectors; in memory stand, for every row, where it is in the log, its
 * 8-bit code, its length, and the graph's links. Rows are numbered in the order in which they were
 * written; a replaced row gets a new number, an old one is dead and is passed over until the rows
 * are packed.
 *
 * Locks, in the order in which they are taken:
 *   absorber's   see vectors_absorber.c
 *   index_lock   one change of the graph, of the codes, of the numbering at a time; held while a graph is
 *                built or planned, without any other lock
 *   state_lock   shared by searches, exclusive for changes of what they read; held briefly
 *   the database's locks
 *
 * A write goes
 *
 *     promise rows (exclusive)  ->  commit to the log (no lock)  ->  apply (exclusive)
 *
 * The promise makes room, so that applying cannot fail for want of memory after the commit is durable.
 * Applying looks up the newest record of the key: when writers of one key race, whoever applies last
 * finds what the log has last, so memory ends up as the log is, and no lock orders the commits, which
 * can share their syncs. */
#ifndef SYNA_ENGINE_VECTORS_CORE_H
#define SYNA_ENGINE_VECTORS_CORE_H

#include "base/vec.h"
#include "engine/db_view.h"
#include "engine/meta.h"
#include "engine/row_keys.h"
#include "engine/vectors.h"
#include "index/hnsw.h"

#define ROW_PREFIX "vec/"
#define ROW_PREFIX_LEN 4u
#define META_PREFIX "vecm/"
#define META_PREFIX_LEN 5u
#define BOTH_PREFIX "vec" /* of rows and their metadata */
#define BOTH_PREFIX_LEN 3u
#define VECTORS_CONFIG_KEY "vec-store/config"
#define VECTORS_CONFIG_ROOM 128
#define VECTORS_ROWS_MAX HNSW_ROWS_MAX

/* Codes exist from so many rows on: their step is learned from rows. */
#define VECTORS_TRAIN_ROWS 1024u

/* The thread of vectors_absorber.c. */
struct absorber {
    bool on; /* fixed when the store is opened */
    bool stop; /* atomic: give up what is under way */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t idle;
    pthread_t thread;
    bool started; /* `thread` is to be joined */
    bool busy;    /* it works, or is about to */
    unsigned holders; /* calls that want it idle */
};

/* Buckets of fresh rows, see vectors_tail.c. */
struct tail_leaders;
struct fresh_tail {
    uint32_t from; /* rows from here on are in one; UINT32_MAX: none is */
    struct tail_leaders *leaders;
    struct array chunks; /* of row numbers */
};

/* VECTORS_CONFIG_KEY. */
struct vectors_kept {
    uint32_t dims; /* 0 = nothing is remembered */
    int32_t metric;
    enum row_kind kind;
    uint8_t codes; /* SYNA_CODES_NONE, INT8, BINARY */
    bool meta; /* there is metadata */
};

struct syna_vectors {
    syna_db *db; /* borrowed */
    syna_vectors_options options;
    char *index_path; /* <path>.hnsw */

    pthread_mutex_t index_lock;
    pthread_rwlock_t state_lock;

    struct db_view *view; /* the generation of the log that `places` speaks of */
    struct db_view *kept_view; /* a view that vectors_calibrate reads: it is not freed meanwhile */
    uint64_t followed;    /* the log is known to be applied up to here */
    struct row_set set;   /* codes, once trained; set.full reads the log */
    uint8_t codes;        /* SYNA_CODES_NONE, INT8, BINARY */
    float *wide;          /* room for a row as floats, where rows are kept as halves */
    struct array places;  /* uint64 a row: offset of its frame << 16 | bytes from the key's end to the vector */
    struct array live;    /* one bit a row, in uint64 words; no head, so the words stand together */
    struct array checked; /* one bit a row: its checksum was verified since the store was opened (atomic) */
    uint32_t live_count;
    uint32_t trained_of; /* rows that the codes were learned from */
    struct row_keys keys;
    size_t promised; /* rows that writers between promise and apply may still add */

    struct meta *meta;  /* of rows; dead ones have none */
    bool has_meta;      /* the log has, or is about to get, metadata of some row */
    size_t meta_rows, meta_bytes; /* promised: texts, and their bytes together */
    struct buf row_name, meta_name; /* keys of records; room for any once has_meta */
    struct buf meta_plain; /* such a record, when it is compressed */
    uint64_t rebased; /* generations of the log that were changed to */
    pthread_mutex_t update_lock; /* before index_lock: changes of a row's metadata that read it first */

    pthread_mutex_t choice_lock; /* of the pointer; taken last */
    struct choice *choice; /* vectors_choice.c; NULL = none */
    uint64_t revision;     /* goes up with whatever may change what a filter chooses */

    struct absorber absorber;
    struct hnsw graph;
    struct fresh_tail tail;
    uint32_t dead_linked; /* rows that died in the graph since it was last repaired */
    uint64_t changes;     /* rows added or dropped since the snapshot was written */
    uint64_t all_changes; /* the same since the store was opened */
    struct snapshot *snapshot; /* parts of the above may stand in it */

    struct vectors_kept kept; /* what the log remembers */
    bool damaged; /* atomic: a row was met whose checksum is wrong */
};

static inline uint32_t vectors_dims(const syna_vectors *store)
{
    return store->set.codes.dims;
}
static inline int32_t vectors_metric(const syna_vectors *store)
{
    return store->set.codes.metric;
}
/* Bytes of a row in the log: of halves, an even number, so that they can stand as a Vector value. */
static inline size_t vectors_row_bytes(const syna_vectors *store)
{
    return (row_kind_bytes(store->set.kind, vectors_dims(store)) + sizeof(float) - 1) & ~(sizeof(float) - 1);
}
static inline bool vectors_trained(const syna_vectors *store)
{
    return store->set.codes.step > 0;
}

/* ---- vectors.c */
/* The record that remembers dimensions and metric, as text with a NUL. Returns its length. */
size_t vectors_config_text(const syna_vectors *store, char text[VECTORS_CONFIG_ROOM]);
static inline bool vectors_config_current(const syna_vectors *store)
{
    return store->kept.dims == vectors_dims(store) && store->kept.metric == vectors_metric(store) &&
           store->kept.kind == store->set.kind && store->kept.codes == store->codes &&
           store->kept.meta == store->has_meta;
}
/* The store as it is now. */
struct vectors_kept vectors_as_open(const syna_vectors *store);
/* It was written with this text. */
void vectors_config_written(syna_vectors *store, const char *text);
/* ARGUMENT when a vector or query has not the store's dimensions. A lock is held. */
syna_rc vectors_check_dims(const syna_vectors *store, const char *what, uint32_t dims);
/* The same, taking the lock: before anything is read from the caller's array. */
syna_rc vectors_check_dims_first(syna_vectors *store, const char *what, uint32_t dims);
bool vectors_finite(const float *v, uint32_t dims);

/* ---- vectors_rows.c: the rows in memory. Exclusive, where not said otherwise */
syna_rc vectors_rows_init(syna_vectors *store, const struct vectors_kept *as);
void vectors_rows_dispose(syna_vectors *store);
/* Room for this many more rows and keys. */
syna_rc vectors_rows_reserve(syna_vectors *store, size_t rows);
/* Make the row of a key what the log has newest; rows are promised. `name` has the prefix. */
syna_rc vectors_apply(syna_vectors *store, const char *name, size_t len, bool *added);
/* The same in two steps. A place with frame 0: the key has no row. Frames are never at 0. */
syna_rc vectors_find(syna_vectors *store, const char *name, size_t len, struct db_place *place);
bool vectors_put(syna_vectors *store, const char *name, size_t len, const struct db_place *place);
/* Learn codes from the rows and encode all of them. index_lock is held. */
syna_rc vectors_train(syna_vectors *store);
/* Number the live rows anew, in their order. The graph is gone afterwards. index_lock is held too, no
 * row is promised. */
syna_rc vectors_pack(syna_vectors *store);
/* Look every row up again after a compaction: `view` is not the newest any more. */
syna_rc vectors_rebase(syna_vectors *store);
/* Shared: */
static inline uint64_t vectors_row_frame(const syna_vectors *store, uint32_t row)
{
    return *(const uint64_t *)array_at(&store->places, row) >> 16;
}
static inline bool vectors_is_live(const syna_vectors *store, uint32_t row)
{
    return *(const uint64_t *)array_at(&store->live, row / 64) >> row % 64 & 1;
}
/* One bit a row, as the indexes take it; NULL when all rows are live. */
static inline const uint64_t *vectors_live_bits(const syna_vectors *store)
{
    return store->live_count == store->set.count ? NULL : (const uint64_t *)(const void *)store->live.tail;
}
const char *vectors_row_key(const syna_vectors *store, uint32_t row, size_t *len);
/* Ask for where a row's key is, and, when that has arrived, for the key. */
void vectors_prefetch_place(const syna_vectors *store, uint32_t row);
void vectors_prefetch_key(const syna_vectors *store, uint32_t row);
/* Its elements as they stand in the log (set.kind), any alignment. */
const void *vectors_row(const syna_vectors *store, uint32_t row);
/* The row of an item of `places` in a view of its generation; its checksum is not looked at. */
const void *vectors_row_at(const struct db_view *view, uint64_t place);
syna_rc vectors_damage(const syna_vectors *store); /* the error of a damaged row, SUCCESS if none was met */

/* ---- vectors_tail.c: buckets of fresh rows. Exclusive */
syna_rc vectors_tail_init(struct fresh_tail *tail);
void vectors_tail_dispose(struct fresh_tail *tail);
/* Room for rows [0, rows). */
syna_rc vectors_tail_reserve(syna_vectors *store, size_t rows);
/* A row that was just encoded and counted. */
void vectors_tail_add(syna_vectors *store, uint32_t row);
/* Codes have changed; row numbers have. */
void vectors_tail_renew(syna_vectors *store);
void vectors_tail_forget(syna_vectors *store);

/* ---- vectors_meta.c: metadata of rows. Exclusive */
/* From now on rows may have metadata. */
syna_rc vectors_meta_enable(syna_vectors *store);
/* The row of a key, if it has one, gets the metadata that the log has for it. `name` has ROW_PREFIX. */
syna_rc vectors_meta_apply(syna_vectors *store, const char *name, size_t len);
/* The name of the row that a record of metadata, of this name, is of; borrowed until the next call. */
const char *vectors_meta_row_name(syna_vectors *store, const char *name, size_t *len);
/* Room for what is promised, of which the longest text has `longest` bytes. */
syna_rc vectors_meta_reserve(syna_vectors *store, size_t longest);

/* ---- vectors_choice.c. Shared */
/* One bit a row: it lives and matches. *bits is given (mem_free). */
syna_rc vectors_select(const syna_vectors *store, const struct filter *filter, uint64_t **bits,
                       uint64_t *matches);
struct choice;
/* The same for the text of a filter, perhaps from an earlier call. *bits is borrowed until
 * choice_release(*out). */
syna_rc vectors_choose(syna_vectors *store, const char *text, size_t len, struct choice **out,
                       const uint64_t **bits, uint64_t *matches);
void choice_release(struct choice *choice); /* NULL: nothing */

/* ---- vectors_read.c: results. One block: the hits, then their vectors, then their texts */
struct hit_writer {
    const syna_vectors *store;
    syna_hit *hits, *next;
    float *vectors; /* NULL when not asked for */
    bool metadata;
    char *texts;
};
/* Bytes of the key of a row, and of its metadata when that is asked for. */
size_t vectors_hit_text_bytes(const syna_vectors *store, uint32_t row, uint32_t flags);
/* Room for `count` hits whose texts take `text_bytes` together. w->hits is the block. */
syna_rc hit_writer_begin(struct hit_writer *w, const syna_vectors *store, uint32_t flags,
                         size_t count, size_t text_bytes);
void hit_writer_add(struct hit_writer *w, uint32_t row, float score);

/* ---- vectors_file.c */
/* Take rows, codes and graph from the snapshot beside the log, if there is one that fits. */
syna_rc vectors_load_snapshot(syna_vectors *store, bool *loaded);
/* Write it. index_lock is held; no row may be promised. Failures are reported but do no harm. */
syna_rc vectors_save_snapshot(syna_vectors *store);
/* Apply what the log has and this store has not seen: other writers of the log. Exclusive. */
syna_rc vectors_follow(syna_vectors *store);

/* ---- vectors_index.c */
/* After a write: index, absorb, repair or pack when it is time, or have it done by the absorber. Takes
 * the locks. */
syna_rc vectors_maintain(syna_vectors *store);
/* Is there something to do? Takes the state lock. */
bool vectors_needs_upkeep(syna_vectors *store);
/* Do the next thing. index_lock is held. *stop (atomic; NULL = never) turning true: CANCELLED. */
syna_rc vectors_upkeep(syna_vectors *store, const bool *stop);

/* ---- vectors_recall.c */
/* Measure the recall of the graph. index_lock is held. */
syna_rc vectors_calibrate(syna_vectors *store);

/* ---- vectors_absorber.c */
void absorber_init(struct absorber *a, bool on);
/* Have the upkeep done beside. False: there is no thread for it, do it here. */
bool absorber_wake(syna_vectors *store);
/* Between this call and the next the absorber does nothing. For calls that take index_lock for long, or do not
 * want to wait for it for long. */
void absorber_hold(syna_vectors *store);
void absorber_release(syna_vectors *store);
void absorber_resume(syna_vectors *store); /* the same, and what was given up is begun again */
void absorber_dispose(syna_vectors *store);

#endif
