/* The inside of a compaction: what db_compact.c (the steps and the swap), db_copy.c (which frames go
 * over and how) and db_fold.c (histories into column blocks) share. */
#ifndef SYNA_ENGINE_DB_COMPACT_H
#define SYNA_ENGINE_DB_COMPACT_H

#include "engine/db_core.h"
#include "engine/db_out.h"

/* Another process replaced the file under us: start over. Never leaves db_compact. */
#define COMPACTION_MOVED (-1001)

struct compaction {
    syna_db *db;
    int32_t mode;
    struct progress progress;
    struct generation *old;   /* referenced: what is compacted */
    struct generation *fresh; /* the new log with its index, not yet visible to anyone */
    struct out_log out;       /* writes the new log */
    uint64_t snapshot_end;    /* frames before here are chosen by the index; all behind are kept */
    uint64_t at;              /* the old log is copied up to here */
    uint64_t first_stamp;     /* of the old log: the stamp of folded blocks */
    struct buf kept_from;     /* unless LATEST, uint64_t per entry number: of its records before the
                                 snapshot those from this offset on are copied one by one; the others are
                                 folded, or gone */
    struct buf frame;         /* a frame being built */
};

/* db_copy.c: fill c->kept_from with where each key's history begins in this mode. */
syna_rc compaction_begin_histories(struct compaction *c);

/* db_fold.c: write the folded beginnings of all numeric histories, and move c->kept_from behind them. */
syna_rc compaction_fold(struct compaction *c);

/* db_copy.c: copy what is kept of [c->at, end) of the old log. */
syna_rc compaction_copy(struct compaction *c, uint64_t end);
/* What a failure to read the old log means: damage, unless a failed sync has cut it under us. */
syna_rc compaction_read_failed(struct compaction *c, syna_rc rc);

#endif
