/* The inside of a sparse vector store; for the sparse*.c files only.
 *
 * The log is the truth and holds the rows; in memory stand, for every row, where it is in the log, and the
 * inverted index over all of them. Rows are numbered in the order in which they were written; a replaced
 * row gets a new number and the old one is dead. Dead rows keep their number until the file is opened
 * without its snapshot, which is therefore not written when they are most.
 *
 * Locks, in the order in which they are taken:
 *   change_lock  shared by whoever writes rows; exclusive while a row is read to be written anew with other
 *                metadata, so that no row is lost that came between
 *   index_lock   one change of the windows at a time, and whatever numbers rows anew
 *   state_lock   shared by searches, exclusive for changes of what they read; held briefly
 *   the database's locks
 *
 * Writes go as in vectors_core.h: promise room (exclusive), commit to the log (no lock), apply what the log
 * has newest (exclusive). */
#ifndef SYNA_ENGINE_SPARSE_CORE_H
#define SYNA_ENGINE_SPARSE_CORE_H

#include "base/vec.h"
#include "engine/db_view.h"
#include "engine/meta.h"
#include "engine/row_keys.h"
#include "engine/sparse.h"
#include "index/array.h"
#include "index/postings.h"

#define SPARSE_PREFIX "svs/"
#define SPARSE_PREFIX_LEN 4u
#define SPARSE_CONFIG_KEY "svs-store/config"

/* ---- sparse_row.c: a row as the log has it:
 *   u32 pairs; u32 bytes of metadata; u32 term, ascending, `pairs` times; f32 weight likewise; metadata */
#define SPARSE_ROW_HEAD 8u
struct sparse_row {
    const uint8_t *terms, *weights; /* any alignment */
    const char *metadata;           /* not NUL-terminated; NULL = none */
    uint32_t count;
    uint32_t metadata_len;
};
/* false: `len` bytes that are no row; its order and values are not looked at. */
bool sparse_row_parse(const uint8_t *bytes, size_t len, struct sparse_row *out);
/* Are terms ascending and below `vocabulary`, weights finite and not 0? */
bool sparse_row_sound(const struct sparse_row *row, uint32_t vocabulary);
/* Append what pairs in any order come to: sorted, equal terms added up, zeros left out. `what` names it in
 * errors. *count: pairs kept. */
syna_rc sparse_row_append(struct buf *to, const uint32_t *terms, const float *weights, uint64_t count,
                          uint32_t vocabulary, const char *metadata, size_t metadata_len,
                          const char *what);

/* A row that is stored compressed, decompressed: key and row behind it. */
struct sparse_copy {
    size_t key_len, len;
    uint8_t bytes[];
};

struct syna_sparse {
    syna_db *db; /* borrowed */
    syna_sparse_options options;
    char *index_path; /* <path>.postings */

    pthread_rwlock_t change_lock;
    pthread_mutex_t index_lock;
    pthread_rwlock_t state_lock;

    struct db_view *view; /* the generation of the log that `places` speaks of */
    uint64_t followed;    /* the log is known to be applied up to here */
    struct array places;  /* uint64 a row: offset of its frame << 16 | bytes from the key's end to the
                             row; with COPY_BIT the address of a sparse_copy */
    struct array checked; /* one bit a row: its checksum was verified since the opening (atomic) */
    struct array described; /* one bit a row: it has metadata */
    struct row_keys keys;
    struct meta *meta;
    struct postings *post;
    size_t promised;       /* rows that writers between promise and apply may still add */
    uint64_t pairs;        /* in live rows */
    uint64_t changes;      /* rows added or dropped since the snapshot was written */
    size_t copies;
    struct snapshot *snapshot; /* parts of the above may stand in it */

    uint32_t vocabulary;
    uint32_t config_vocabulary; /* what the log remembers; 0 = nothing */
    bool damaged; /* atomic: a row was met whose checksum is wrong */
};

/* Where the newest value of a key was found. Nothing: no row. */
struct sparse_found {
    struct db_place place;    /* frame 0: none */
    struct sparse_copy *copy; /* owned until it is put */
};

static inline bool sparse_is_live(const syna_sparse *store, uint32_t row)
{
    return postings_is_live(store->post, row);
}

/* ---- sparse_rows.c; exclusive, where not said otherwise */
syna_rc sparse_rows_init(syna_sparse *store);
void sparse_rows_dispose(syna_sparse *store);
/* Room for this many more rows and keys, and for metadata of so many bytes. */
syna_rc sparse_rows_reserve(syna_sparse *store, size_t rows, size_t metadata_bytes);
/* Look up what the log has newest under a name (prefix included), in the newest generation. */
syna_rc sparse_find(syna_sparse *store, const char *name, size_t len, struct sparse_found *found);
/* Make it the row of its key; rows and metadata have room. */
syna_rc sparse_put(syna_sparse *store, const char *name, size_t len, struct sparse_found *found,
                   bool *added);
syna_rc sparse_apply(syna_sparse *store, const char *name, size_t len, bool *added);
/* Look every row up again after a compaction. */
syna_rc sparse_rebase(syna_sparse *store);
/* Take the metadata of a row from the log (opening). */
syna_rc sparse_describe(syna_sparse *store, uint32_t row);
/* Shared: */
const char *sparse_row_key(const syna_sparse *store, uint32_t row, size_t *len);
/* A live row; one that is damaged is empty, and the store is noted as damaged. */
void sparse_row_at(const syna_sparse *store, uint32_t row, struct sparse_row *out);
syna_rc sparse_damage(const syna_sparse *store);

/* ---- sparse.c */
/* The record that remembers the vocabulary. Returns its length. */
#define SPARSE_CONFIG_ROOM 64
size_t sparse_config_text(const syna_sparse *store, char text[SPARSE_CONFIG_ROOM]);
/* After a write: seal, join. Takes the locks; a failure changes nothing. */
void sparse_maintain(syna_sparse *store);

/* ---- sparse_file.c */
syna_rc sparse_load_snapshot(syna_sparse *store, bool *loaded);
/* index_lock and state_lock (exclusive) are held; no row may be promised. */
syna_rc sparse_save_snapshot(syna_sparse *store);
/* Apply what the log has and this store has not seen. Exclusive. */
syna_rc sparse_follow(syna_sparse *store);

#endif
