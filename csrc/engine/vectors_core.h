/* The inside of a vector store; for the vectors*.c files only.
 *
 * One lock: state_lock, shared by searches, exclusive for changes in memory. It is not held across a
 * commit. A write goes
 *
 *     promise rows (exclusive)  ->  commit to the log (no lock)  ->  apply (exclusive)
 *
 * The promise makes room, so that applying cannot fail for want of memory after the commit is
 * durable. Applying does not take the caller's vector but reads the newest value of the key back
 * from the log: when writers of one key race, whoever applies last reads what the log has last, so
 * memory ends up as the log is, and no lock orders the commits, which can share their syncs.
 *
 * state_lock may be held while the database's locks are taken, never the other way round. */
#ifndef SYNA_ENGINE_VECTORS_CORE_H
#define SYNA_ENGINE_VECTORS_CORE_H

#include "engine/vector_keys.h"
#include "engine/vectors.h"
#include "index/flat.h"

struct syna_vectors {
    syna_db *db; /* borrowed */
    pthread_rwlock_t state_lock;
    struct flat flat; /* rows in file order, as far as this process saw it happen */
    struct vector_keys keys;
    size_t promised;          /* rows that writers between promise and apply may still add */
    uint32_t config_dims;     /* what the log remembers; 0 = nothing */
    int32_t config_metric;
};

#define VECTORS_CONFIG_KEY "vec-store/config"
#define VECTORS_CONFIG_ROOM 64

/* The record that remembers dimensions and metric, as text with a NUL. Returns its length. */
size_t vectors_config_text(const syna_vectors *store, char text[VECTORS_CONFIG_ROOM]);
static inline bool vectors_config_current(const syna_vectors *store)
{
    return store->config_dims == store->flat.dims && store->config_metric == store->flat.metric;
}

/* ARGUMENT when a vector or query has not the store's dimensions. A lock is held. */
syna_rc vectors_check_dims(const syna_vectors *store, const char *what, uint32_t dims);
/* The same, taking the lock: before anything is read from the caller's array. */
syna_rc vectors_check_dims_first(syna_vectors *store, const char *what, uint32_t dims);
bool vectors_finite(const float *v, uint32_t dims);

/* state_lock held exclusively, rows promised: the newest value of `name` becomes its row. Takes the
 * name. */
void vectors_put_row(syna_vectors *store, struct row_name *name, const float *vector, bool *added);
void vectors_drop_row(syna_vectors *store, uint32_t row);

#endif
