/* A walk over the records of a database: the newest value of every key, or everything ever written.
 * Numbers out of one column block come as one run, so that streams copy them as arrays. */
#ifndef SYNA_ENGINE_ARROW_RECORDS_H
#define SYNA_ENGINE_ARROW_RECORDS_H

#include "engine/db.h"
#include <synadb/arrow.h>

/* `count` records of one key. The first is spelled out; when there are more, all are numbers of one
 * type, and bits and times hold them, the first included. Borrowed until the next call. */
struct record_run {
    syna_record first;
    size_t count;
    const uint64_t *bits, *times;
};

/* The strings in `options` are copied. */
syna_rc records_new(syna_db *db, const syna_records_options *options, syna_records **out);
/* Times are not looked at from now on: those of runs are those of their first record. */
void records_without_times(syna_records *r);
/* SYNA_ERR_KEY_NOT_FOUND at the end. */
syna_rc records_next_run(syna_records *r, struct record_run *run);
/* The same one by one. */
syna_rc records_next(syna_records *r, syna_record *record);
void records_free(syna_records *r);

/* The pages of the log leave this process's memory. */
void records_let_go(syna_db *db);

/* A deletion at a time of its own, added to a batch. */
syna_rc records_batch_delete(syna_batch *batch, const char *key, size_t key_len, uint64_t when_us);

#endif
