/* Small programs for databases, for tests that run the same workload in many worlds: crash states,
 * double crashes, injected failures, kills, fuzzing. A script is a list of operations; it prints as
 * text and is read back from text, so that a failing one can be kept as a file.
 *
 * Contents follow from numbers: operation `id` puts a value that only it puts. What a database
 * holds is a script_state: digests per key, equal when the visible contents are equal. A model
 * without any files computes the state that a script should lead to. */
#ifndef SYNA_TESTS_SCRIPT_H
#define SYNA_TESTS_SCRIPT_H

#include "engine/db.h"
#include "io/vfs.h"

#define SCRIPT_KEYS 6u
#define SCRIPT_OPS 64u
#define SCRIPT_HANDLES 2u

enum script_kind {
    DO_OPEN, /* how: script_open bits */
    DO_CLOSE,
    DO_PUT,     /* key, type, size (bytes, or dimensions), id; how: 1 expires early,
                   2 late, 3 with a time of its own, long ago */
    DO_DELETE,  /* key */
    DO_BATCH,   /* size puts and deletes from key on, id */
    DO_APPEND,  /* key, type FLOAT or INT, size numbers, id */
    DO_BLOB,    /* key, size bytes in pieces, id */
    DO_COMPACT, /* how: SYNA_COMPACT_* */
    DO_FLUSH,
    DO_BACKUP, /* to <path>.backup<id> */
    DO_KINDS
};

enum script_open { OPEN_NO_SYNC = 1, OPEN_SHARED = 2, OPEN_PLAIN = 4, OPEN_NO_MMAP = 8 };

struct script_op {
    uint8_t kind, handle, key, type, how;
    uint32_t size, id;
};

struct script {
    struct script_op ops[SCRIPT_OPS];
    size_t count;
};

/* Values that expire early have expired here, and by the real clock, too; the others have not. */
#define SCRIPT_EARLY_US 1600000000000000u
#define SCRIPT_PROBE_US 1900000000000000u
#define SCRIPT_LATE_US 4000000000000000u

/* ---- text */
/* "put 0 3 text 100 7 0": kind, handle, key, type, size, id, how. false: not one. '#' lines and
 * empty ones are skipped. */
bool script_parse(struct script *s, const char *text);
void script_print(const struct script *s, FILE *to);
/* Operation `id` of the endless script of this seed; never an open. Kinds are taken from `kinds`.
 */
struct script_op script_op_at(uint64_t seed, uint32_t id, const uint8_t *kinds, size_t kind_count);
/* Pseudorandom operations between an open and a close. */
void script_random(struct script *s, uint64_t seed, size_t count, uint8_t open_how);

/* ---- running */
struct script_run {
    const char *path;
    syna_db *db[SCRIPT_HANDLES];
};
/* One operation through its handle. SYNA_SUCCESS or what the call returned. */
syna_rc script_step(struct script_run *r, const struct script_op *op);
/* Close what is open. */
void script_stop(struct script_run *r);
const char *script_backup_path(const struct script_run *r, uint32_t id, char *out, size_t cap);

/* The bytes of a value of this type, size and id. Returns the length; buf is grown. */
size_t script_value(int32_t type, uint32_t size, uint32_t id, struct buf *out);

/* ---- what is in a database */
struct script_key_state {
    uint64_t newest;  /* type and value, 0 = none */
    uint64_t history; /* all records in order */
    uint64_t times;   /* and their times */
    uint64_t numbers; /* what the number histories give */
    uint64_t records;
};
struct script_state {
    struct script_key_state key[SCRIPT_KEYS];
    uint64_t live;
};

/* Read everything; values that a read refuses make it fail. The clock of the table must stand at
 * SCRIPT_PROBE_US when expiring values are about. */
syna_rc script_read(syna_db *db, struct script_state *out);
bool script_same(const struct script_state *a, const struct script_state *b);
/* Without the times of records. */
bool script_same_values(const struct script_state *a, const struct script_state *b);
/* A difference as text, one in values before one in times. */
void script_difference(const struct script_state *got, const struct script_state *want, char *out,
                       size_t cap);

/* ---- the model */
struct script_model;
struct script_model *script_model_new(void);
void script_model_free(struct script_model *m);
void script_model_step(struct script_model *m, const struct script_op *op);
void script_model_state(const struct script_model *m, struct script_state *out); /* times: 0 */

#endif
