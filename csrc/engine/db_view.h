/* Records by their place: for components that keep in memory where their rows stand in the log instead
 * of copies of them. A view pins one generation of the log: its bytes stay readable at their offsets
 * whatever compaction does, and what is appended to that generation later is readable too. After a
 * compaction (or the refresh of a reader that met one) the view is no longer the newest: take another
 * and look every row up again. */
#ifndef SYNA_ENGINE_DB_VIEW_H
#define SYNA_ENGINE_DB_VIEW_H

#include "engine/db.h"
#include "store/snapshot.h"

struct db_view;

/* Where a record stands. */
struct db_place {
    uint64_t frame; /* offset of its frame */
    uint64_t data;  /* offset of the value's bytes; they are as they were put, not compressed */
    size_t len;
    int32_t type;
};

syna_rc db_view_new(syna_db *db, struct db_view **out);
void db_view_free(struct db_view *view);

/* Is it still the generation that the database writes to? */
bool db_view_current(const struct db_view *view);

/* Byte `offset` of the log, and what follows of the record there. Valid as long as the view. */
const uint8_t *db_view_bytes(const struct db_view *view, uint64_t offset);
/* The key of the record at `frame`. */
const char *db_view_key(const struct db_view *view, uint64_t frame, size_t *len);
/* The checksum of the record at `frame`; SYNA_ERR_SERIALIZATION, and the database is noted as damaged,
 * when it does not match. */
syna_rc db_view_check(const struct db_view *view, uint64_t frame);

/* The newest live record of a key, its checksum verified. SYNA_ERR_KEY_NOT_FOUND without an error record
 * when there is none. Values that are stored compressed or in pieces are a TYPE_MISMATCH. The view
 * must be current: *place belongs to its generation. */
syna_rc db_view_find(const struct db_view *view, const char *key, size_t key_len,
                     struct db_place *place);

/* Where the published log ends. */
uint64_t db_view_end(const struct db_view *view);
/* Visit the keys that begin with `prefix` of the records in [from, db_view_end), deletions too, in the order
 * of their last records (a key that is written meanwhile may come more than once). `from` is the end of an
 * earlier walk, or 0. *end is where this one ended. */
typedef syna_rc (*db_view_fn)(void *context, const char *key, size_t key_len);
syna_rc db_view_walk(const struct db_view *view, uint64_t from, const char *prefix,
                     size_t prefix_len, db_view_fn visit, void *context, uint64_t *end);

/* What a snapshot made of everything published would cover. `last` is where the last record starts:
 * kept in the snapshot, so that db_view_covers can find it again. */
void db_view_cover(const struct db_view *view, uint32_t purpose, struct snapshot_cover *cover,
                   uint64_t *last);
/* Does the log still hold, where `cover` ends, the record that it ended with? */
bool db_view_covers(const struct db_view *view, const struct snapshot_cover *cover, uint64_t last);

#endif
