/* The inside of a text index; for the text*.c files only.
 *
 * The log is the truth and holds the documents, each in a record of its own or, of many that were written at
 * once, in a pack (text_pack.h); in memory stand, for every row, its id, a hash of its
 * record, its terms, and the postings. Rows are numbered in the order in which they were written; a
 * replaced document gets a new number, the old row is dead until the rows are packed.
 *
 * Locks, in the order in which they are taken:
 *   pack_lock    one writer of packs at a time, and none beside deletions and changes of metadata
 *   upkeep_lock  one change of the postings' windows or of the numbering at a time
 *   state_lock   shared by searches, exclusive for changes of what they read; held briefly
 *   the database's locks
 *
 * A write goes
 *
 *     make terms (no lock)  ->  promise room (exclusive)  ->  commit (no lock)  ->  apply (exclusive)
 *
 * The promise makes room, so that applying cannot fail for want of memory after the commit is durable.
 * When writers of one id race, each looks whether the log has its record as the newest, and leaves the
 * document to the other if not: the other will apply it, or has. A writer that nobody overlapped knows
 * without looking. So no lock orders the commits, which can share their syncs. */
#ifndef SYNA_ENGINE_TEXT_CORE_H
#define SYNA_ENGINE_TEXT_CORE_H

#include "base/hash.h"
#include "engine/db_view.h"
#include "engine/meta.h"
#include "engine/text.h"
#include "engine/text_document.h"
#include "engine/text_forward.h"
#include "engine/text_names.h"
#include "engine/text_pack.h"
#include "engine/text_runs.h"
#include "index/postings.h"

#define DOC_PREFIX "doc/"
#define DOC_PREFIX_LEN 4u
#define LOG_PREFIX "doc" /* what the names of documents and of packs begin with */
#define LOG_PREFIX_LEN 3u
#define TEXT_CONFIG_KEY "text-index/config"
#define TEXT_CONFIG_ROOM 128

/* What writers may still take: sums over all of them. */
struct text_room {
    size_t rows, ids, postings, metadata;
};

/* The terms of a row: numbers, ascending, none twice, and how often each occurs. */
struct row_terms {
    struct buf numbers; /* uint32 */
    struct buf counts;  /* uint32 */
    uint32_t count;
    uint32_t length; /* with repetitions */
};
void row_terms_dispose(struct row_terms *t);

struct text_rows {
    struct names ids;
    struct names words;    /* the terms; a term's number is its number in the postings */
    struct postings *postings;
    struct meta *meta;
    struct array hashes;   /* uint64 a row: of its record, or of what that would be */
    struct runs packs;     /* of each row the newest pack that has its id, 0: none */
    struct forward forward; /* of each row its terms */
    struct array found;    /* uint32 a term: live rows that have it */
    uint64_t live_words;   /* length of all live rows */
    uint64_t live_postings;
};

struct syna_text {
    syna_db *db; /* borrowed */
    struct analyzer analyzer;
    double k1, b;
    bool configured; /* the log remembers the analyser */
    bool packs_told; /* the log says that it may have packs */
    uint32_t last_pack; /* the highest number; 0: there has been no pack */
    char *index_path; /* <path>.text */

    pthread_mutex_t pack_lock;
    pthread_mutex_t upkeep_lock;
    pthread_rwlock_t state_lock;

    struct db_view *view; /* the generation of the log that `followed` speaks of */
    uint64_t followed;    /* the log is known to be applied up to here */
    bool opening;         /* nothing behind `followed` is applied yet */
    struct text_rows rows;
    struct text_room promised;
    uint64_t begun, done; /* writes: promised, applied or given up */
    uint64_t changes;     /* rows added or dropped since the snapshot was written */
    uint32_t tried;       /* rows when it was last written, or was to be, while the index was open */
    struct snapshot *snapshot; /* parts of the above may stand in it */
};

/* ---- text.c */
size_t text_config_text(const syna_text *index, char text[TEXT_CONFIG_ROOM]);
/* The log remembers an analyser by now, of which this index knew nothing. Exclusive. */
syna_rc text_check_config(syna_text *index);

/* ---- text_rows.c. Exclusive, where not said otherwise */
syna_rc text_rows_init(struct text_rows *rows);
void text_rows_dispose(struct text_rows *rows);
/* The numbers of terms; new ones are given out. */
syna_rc text_intern(struct text_rows *rows, const struct terms_found *terms, struct row_terms *out);
void text_room_add(struct text_room *room, const syna_document *d, const struct row_terms *terms);
/* Room for what is promised and this more. */
syna_rc text_rows_reserve(struct text_rows *rows, const struct text_room *promised,
                          const struct text_room *more);
/* A new row; one that its id had is dropped. There must be room. `pack`: the one that it was written to, 0: it
 * has a record of its own. Returns whether the id is new. */
bool text_rows_put(struct text_rows *rows, const syna_document *d, const struct row_terms *terms,
                   uint64_t hash, uint32_t pack);
/* Returns whether there was one. */
bool text_rows_drop(struct text_rows *rows, const char *id, size_t id_len);
/* Number the live rows anew, in their order. Nothing is promised. */
syna_rc text_rows_pack(struct text_rows *rows);
/* Shared: */
static inline uint64_t record_hash(const void *record, size_t len)
{
    return hash_bytes(0x74657874u, record, len);
}
static inline uint64_t text_row_hash(const struct text_rows *rows, uint32_t row)
{
    return *(const uint64_t *)array_at(&rows->hashes, row);
}
static inline uint32_t text_row_pack(const struct text_rows *rows, uint32_t row)
{
    return runs_pack(&rows->packs, row);
}
static inline uint32_t text_found(const struct text_rows *rows, uint32_t term)
{
    return *(const uint32_t *)array_at(&rows->found, term);
}
uint64_t text_rows_memory(const struct text_rows *rows);

/* The name of a document's own record. */
struct text_name {
    size_t len;
    char bytes[DOC_PREFIX_LEN + SYNA_TEXT_ID_MAX];
};
/* The id has SYNA_TEXT_ID_MAX bytes at most. */
static inline void text_name_of(const char *id, size_t id_len, struct text_name *name)
{
    memcpy(name->bytes, DOC_PREFIX, DOC_PREFIX_LEN);
    memcpy(name->bytes + DOC_PREFIX_LEN, id, id_len);
    name->len = DOC_PREFIX_LEN + id_len;
}

/* ---- text_packs.c */
/* A document as its record or, when it has none, as it stands in pack `pack` (0: in none). The block is
 * given (mem_free) and *d points into it. SYNA_ERR_KEY_NOT_FOUND when there is none; then the error
 * record is as it was. */
syna_rc text_newest(const syna_text *index, const char *id, size_t id_len, uint32_t pack,
                    void **block, size_t *len, syna_document *d);
/* Is there a value under the id's own name, of whatever type? */
syna_rc text_stands_alone(const syna_text *index, const char *id, size_t id_len, bool *alone);
/* The hash of the record that the document has, or would have. `scratch` is the caller's. */
syna_rc text_hash(const syna_document *d, struct buf *scratch, uint64_t *hash);
/* Make the rows of the documents in a pack what the log has newest. Exclusive. `anew` as in text_apply. */
syna_rc text_apply_pack(syna_text *index, uint32_t number, const void *record, size_t len, bool anew);
/* The number of a pack to be written into a batch that db_update makes. */
syna_rc text_new_pack(const syna_text *index, uint32_t *last);
syna_rc text_put_pack(syna_batch *batch, uint32_t number, struct pack *pack);
/* text_repack.c: before a compaction. Documents that stand alone and are short go into packs, and what is
 * dead in packs goes. The order of the documents stays. */
syna_rc text_repack(syna_text *index);

/* ---- text_read.c: text_newest, but with an error record when there is no document. */
syna_rc text_read(const syna_text *index, const char *id, size_t id_len, uint32_t pack,
                  void **block, size_t *len, syna_document *d);

syna_rc text_missing(const syna_text *index, const char *id, size_t id_len); /* that error */

/* Hits with what they point to, collected and then made one block. */
struct hit_list {
    struct buf hits;    /* syna_text_hit, pointers not yet set */
    struct buf strings; /* id NUL [text NUL] [metadata NUL], hit by hit */
};
syna_rc hit_list_add(struct hit_list *list, const char *id, size_t id_len,
                     const syna_document *d, uint32_t flags, float score);
syna_rc hit_list_finish(struct hit_list *list, syna_text_hit **hits); /* disposes of it, too */
void hit_list_dispose(struct hit_list *list);

/* ---- text_file.c */
syna_rc text_load_snapshot(syna_text *index, bool *loaded);
/* Write it: the sections, and then the rest. upkeep_lock is held, and state_lock exclusively; nothing is promised.
 * *writer NULL: somebody wrote meanwhile, another time. */
syna_rc text_save_snapshot(syna_text *index);
syna_rc text_begin_snapshot(syna_text *index, struct snapshot_writer **writer);
/* What was written, but for metadata. *snapshot NULL: there is none, and no rows. upkeep_lock is held. */
syna_rc text_open_snapshot(syna_text *index, struct text_rows *rows, struct snapshot **snapshot);
/* Apply what the log has and this index has not seen. Exclusive. */
syna_rc text_follow(syna_text *index);
/* A document that is new here, in pack `pack` or with a record of its own (0). Exclusive. */
syna_rc text_apply_document(syna_text *index, const syna_document *d, uint64_t hash, uint32_t pack);
/* Make the row of an id what the log has newest. Exclusive. `name` has the prefix. `anew`: it was written
 * just now, so it comes behind all others even if it is the same as before. */
syna_rc text_apply(syna_text *index, const char *name, size_t len, bool anew);
/* The same for a record that was read already. */
syna_rc text_apply_record(syna_text *index, const char *name, size_t len, const void *record,
                          size_t record_len, bool anew);

/* ---- text_save.c */
/* Is it time for a snapshot, though the index stays open? Shared. */
bool text_save_due(const syna_text *index);
/* Write it, if that is still `due` or in any case, and use what it has. upkeep_lock is held. */
syna_rc text_save_open(syna_text *index, bool due);

/* ---- text_write.c */
/* After a write: seal, join, pack when it is time. Takes the locks. */
syna_rc text_maintain(syna_text *index);

#endif
