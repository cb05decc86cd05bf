/* What verify and salvage share: findings, and what a frame with a valid checksum must look like. */
#ifndef SYNA_ENGINE_DB_CHECK_H
#define SYNA_ENGINE_DB_CHECK_H

#include "engine/db.h"
#include "engine/db_walk.h"

/* Where findings go and are counted. */
struct findings {
    syna_finding_fn visit; /* may be NULL */
    void *context;
    syna_check *out;
    bool stopped; /* the visitor wants no more */
};

/* One line about a place in the file. */
void finding_note(struct findings *to, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, and the place counts as damage. */
void finding_damage(struct findings *to, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The message of the error record, without the path and offset in front, which a finding has already. */
const char *finding_reason(const char *path, uint64_t offset);

/* CANCELLED once the visitor has asked to stop. */
syna_rc finding_status(const struct findings *to);

/* Is the content of a frame sound: key, flags, atom or column block or engine body? Does not look up
 * the chunks of a blob. SYNA_ERR_SERIALIZATION with the record saying why not; other codes are
 * failures to check. `v` gets the decoded value of a plain frame (may point into *scratch). */
syna_rc check_frame(const struct frame *f, const char *path, struct buf *scratch, struct value *v);

/* db_check_index.c: compare the key checkpoint of the log with the log. Needs a sound log. */
syna_rc check_index(const char *path, struct progress *progress, struct findings *to);

#endif
