/* synadb/migrate.h - the ancestor's logs into files of this library.
 *
 * A log of the ancestor (no header block, no checksums) opens read-only as it is, by syna_open and
 * everything that builds on it. syna_migrate makes a new log of it that can be written to. What the
 * ancestor's components kept in other files, and experiments, tensors and experiences, whose records
 * have another layout here, are migrated by Python: `synadb migrate OLD NEW`. */
#ifndef SYNADB_MIGRATE_H
#define SYNADB_MIGRATE_H

#include "kv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What came over and what did not. `visit` of the call gets a line of text about every place or record
 * that did not, and about every one that was changed. */
typedef struct syna_migration {
    uint32_t size;
    uint64_t frames, bytes; /* of the old file: read and found good */
    uint64_t values;        /* copied, each key's history included */
    uint64_t deletions;     /* copied */
    uint64_t left_out;      /* values and deletions of the keys that were to be left out */
    uint64_t lost;          /* records that hold no value, or have a key that this library refuses */
    uint64_t damaged;       /* places that are no records; reading went on behind them */
    uint64_t torn_bytes;    /* an unfinished record at the end */
    uint64_t repacked;      /* vectors that are none here (NaN, infinities): copied as packed arrays */
    uint64_t compressed;    /* values that were LZ4 in the old file */
    uint64_t differences;   /* floats that the old file holds as the difference to the one before */
    uint64_t poisoned;      /* of these: NaN or infinite, because an earlier one of their key was */
    double rounding;        /* no sum of differences is further than this from the float once put */
} syna_migration;

/* Copy the ancestor's log `path` to the new log `to`, which must not exist: all keys with their whole
 * histories in the order of the file, deletions, times. LZ4 is undone and done anew where it pays.
 * Floats stored as differences become whole: each is the sum of the differences up to it, which is
 * what the ancestor reads, and differs from what was put by the rounding of the additions (see
 * `rounding`). Times that go back are kept as the values' event times.
 *
 * path, to          borrowed. `path` is only read; `to` gets its name when it is complete and on disk.
 * leave_out         borrowed: keys, NUL-terminated, whose records are not copied; NULL when none are.
 * visit, progress   may be NULL; both are given `context`. A visitor or progress function that returns
 *                   non-zero stops the call (reason CANCELLED), and nothing is left behind.
 * out               filled in on success; set its size first.
 * returns           SYNA_SUCCESS, also when something was lost: look at *out. -4 with reason WRONG_KIND
 *                   for a file that is no log of the ancestor; -3 with errno EEXIST when `to` is there.
 * Any thread. Since 0.1. */
SYNA_API int32_t syna_migrate(const char *path, const char *to, const char *const *leave_out,
                              size_t leave_out_count, syna_finding_fn visit, void *context,
                              syna_progress_fn progress, syna_migration *out);

#ifdef __cplusplus
}
#endif

#endif
