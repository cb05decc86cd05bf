/* The inside of a hybrid store; for the hybrid*.c files only.
 *
 * Which row of a key counts. A key that the hot layer has: the hot row. Else the cold one. A key that stands
 * in both layers is one of two things:
 *
 *   outdated  the cold row is older than the hot one; the key is in `outdated`, and searches pass over
 *             cold hits of such keys
 *   copied    the cold row is a copy of the hot one, made by a promotion: either may be shown, and a
 *             search shows one of them
 *
 *     (none) --ingest--> hot --copy--> copied --drop--> cold --ingest--> outdated --copy--> copied
 *                                        \--ingest--> outdated        delete: (none), from anywhere
 *
 * Why searches find every key once, beside all of this. They search the hot layer first. A row moves by being
 * in the cold layer before it leaves the hot one, so it is seen in one of them, or in both, which is the
 * same row. A key is outdated from a stamp on, given when its hot row is there: a search that began before
 * may show the cold row, which was the newest then. When keys stopped being outdated meanwhile (`epoch`),
 * the search is made again.
 *
 * Why nothing is lost, doubled or brought back by a crash. Each file comes back as of its newest checkpoint,
 * the two of different moments; for a key in both the hot row counts. So there are three rules:
 *
 *   1. a row leaves the hot layer by a promotion only when a checkpoint of the cold layer covers it
 *   2. a deletion in both layers: what makes the hot part durable made the cold part durable before.
 *      So every checkpoint of the hot layer follows one of the cold layer if there were deletions in
 *      that, and no key is deleted out of the cold layer between the two (`gate`)
 *   3. a row that a promotion took out of the hot layer is not deleted out of the cold one before a
 *      checkpoint of the hot layer covers the taking out (`hot_drops`)
 *
 * An outdated cold row stays where it is until a promotion or a deletion replaces it: it is what the key has
 * after a crash that the hot row does not survive.
 *
 * Locks, in this order; those of the layers come behind them:
 *
 *   view_lock     of a store that is opened read-only, where it is the only one that matters: shared by
 *                 whoever reads, exclusive while a refresh goes from one checkpoint to another
 *   promote_lock  one promotion or compaction at a time; held throughout
 *   gate          checkpoints of the hot layer, and deletions out of the cold one; held across syncs
 *   write_lock    who changes what is in which layer, one at a time
 *   map_lock      `outdated`; shared by searches, held briefly */
#ifndef SYNA_ENGINE_HYBRID_CORE_H
#define SYNA_ENGINE_HYBRID_CORE_H

#include "base/vec.h"
#include "engine/hybrid.h"
#include "engine/row_keys.h"

#define OUTDATED_PENDING UINT64_MAX /* the stamp of a key whose hot row is on its way */

struct outdated_key {
    char *key;
    size_t len;
    uint64_t stamp; /* searches that began at this stamp or later pass over the cold row */
};
struct outdated {
    struct row_keys names; /* key -> its place in `list` */
    struct buf list;       /* struct outdated_key */
    size_t count;
};

/* The thread of hybrid_thread.c. */
struct promoter {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t moved;
    pthread_t thread;
    bool started; /* `thread` is to be joined */
    bool wanted;
    bool stop;    /* atomic */
    uint64_t rows; /* atomic: hot rows from which it works; 0 = off */
    uint64_t next; /* hot rows that wake it after a failure */
};

struct syna_layers {
    char *hot_path, *cold_path; /* canonical */
    syna_wells *hot;
    syna_buckets *cold;
    pthread_mutex_t promote_lock, gate, write_lock;
    pthread_rwlock_t map_lock, view_lock;
    struct outdated outdated;
    uint64_t stamp;       /* atomic: the last one given */
    uint64_t epoch;       /* atomic: how often keys stopped being outdated */
    uint64_t live;        /* atomic: keys */
    uint32_t dims;        /* (write_lock) */
    int32_t metric;
    bool cold_deletions;  /* (gate) not covered by a checkpoint of the cold layer */
    bool hot_drops;       /* (gate) not covered by a checkpoint of the hot layer */
    bool inherited;       /* by fork */
    bool writer;          /* false: opened read-only */
    bool torn;            /* (view_lock) a refresh failed between the layers */
    uint32_t promoting;   /* atomic */
    uint64_t promotions, promoted; /* atomic */
    struct promoter promoter;
};

/* ---- hybrid_keys.c. map_lock and write_lock are held for changes, one of them for look-ups. */
void outdated_init(struct outdated *o);
void outdated_dispose(struct outdated *o);
syna_rc outdated_add(struct outdated *o, const char *key, size_t len, uint64_t stamp);
/* Is the key outdated for who began at `stamp`? */
bool outdated_has(const struct outdated *o, const char *key, size_t len, uint64_t stamp);
bool outdated_remove(struct outdated *o, const char *key, size_t len);
void outdated_cut(struct outdated *o, size_t count); /* the newest keys, down to so many */
void outdated_stamp(struct outdated *o, size_t first, uint64_t stamp);

/* hybrid.c: (write_lock, or view_lock exclusively) note which keys stand in both layers, and count all. */
syna_rc hybrid_take_keys(syna_layers *store);

/* ---- hybrid_refresh.c */
/* May this handle write? */
syna_rc hybrid_check_writer(const syna_layers *store);
/* Around everything that looks at both layers: they are of one moment meanwhile, also of a reader. A
 * begin that fails needs no end. */
syna_rc hybrid_begin_view(syna_layers *store);
void hybrid_end_view(syna_layers *store);
syna_rc hybrid_first_look(syna_layers *store);

/* hybrid_write.c: (write_lock) the key's cold row is none, or counts again. */
void hybrid_forget_outdated(syna_layers *store, const char *key, size_t len);
/* (write_lock) Store rows in the hot layer. */
syna_rc hybrid_ingest_locked(syna_layers *store, const struct gwi_batch *batch, size_t *added);

/* hybrid_save.c: (gate) checkpoints by the rules above. */
syna_rc hybrid_checkpoint_hot(syna_layers *store);
syna_rc hybrid_checkpoint_cold(syna_layers *store);

/* hybrid_promote.c: *pause (may be NULL) is called between steps with the time that the last one took. */
struct hybrid_pace {
    void (*pause)(void *context, uint64_t took_us);
    void *context;
};
syna_rc hybrid_promote_at(syna_layers *store, syna_progress_fn progress, void *context,
                          const struct hybrid_pace *pace, size_t *moved);

/* hybrid_search.c: one block of `count` hits with everything that they point to, and where each stands. The
 * hits of `from` are copied; sources may be NULL. */
struct layer_hit {
    const syna_hit *hit;
    uint8_t layer;
};
syna_rc hybrid_copy_hits(const struct layer_hit *from, size_t count, uint32_t dims, syna_hit **hits,
                         uint8_t **sources);

/* hybrid_thread.c */
void promoter_init(struct promoter *p);
void promoter_set(struct promoter *p, uint64_t rows);
/* Rows were ingested, and no lock is held: wakes the thread, or starts it, when there is work. */
void promoter_wake(syna_layers *store);
void promoter_stop(struct promoter *p);
void promoter_dispose(struct promoter *p);
/* In a forked child: the thread is not here. */
void promoter_forget(struct promoter *p);

#endif
