/* Part of one key's history, by record number: for components that keep in the newest record what they
 * would otherwise have to read the whole history for. */
#ifndef SYNA_ENGINE_DB_TAIL_H
#define SYNA_ENGINE_DB_TAIL_H

#include "engine/db.h"

/* `first`: the last records, `count` of them or as many as there are. */
#define DB_TAIL_LAST UINT64_MAX

/* Visit at most `count` records of a key, oldest first, from record number `first` (0 = oldest) on;
 * deletions are records, too. *records is how many the key has in all, 0 when it was never written;
 * it is set before the first visit. The visitor's pointers are borrowed; it returns SYNA_SUCCESS to
 * go on, anything else ends the walk and is passed on. No lock is held during visits. */
typedef syna_rc (*db_tail_fn)(void *context, const syna_record *record);
syna_rc db_tail(syna_db *db, const char *key, size_t key_len, uint64_t first, uint64_t count,
                db_tail_fn visit, void *context, uint64_t *records);

#endif
