/* A table that passes every call on to another one and keeps a trace of the effects: what reached
 * the file system, what was synced, and marks that the test sets between. A crash-state enumerator
 * (crash_states.h) turns the trace into everything that a power loss could have left.
 *
 * It can also be told to make one mistake (enum record_mistake): the call then reports success to
 * the core, and the trace shows what really would have happened. A test of crash safety that does
 * not fail with the mistake that it is about proves nothing. */
#ifndef SYNA_TESTS_VFS_RECORD_H
#define SYNA_TESTS_VFS_RECORD_H

#include "io/vfs.h"

extern const struct vfs vfs_record;

enum effect_kind {
    EFFECT_CREATE,   /* path names file */
    EFFECT_WRITE,    /* bytes at offset, by write */
    EFFECT_STORE,    /* bytes at offset, through a map */
    EFFECT_SIZE,     /* size set to offset */
    EFFECT_ALLOCATE, /* file is at least `offset` bytes long */
    EFFECT_SYNC,     /* effects on file before number `upto` are on disk */
    EFFECT_SYNC_DIR, /* effects on names before number `upto` are on disk */
    EFFECT_RENAME,   /* path -> to, atomically, over what `to` named */
    EFFECT_LINK,     /* to names file as well */
    EFFECT_REMOVE,   /* path */
    EFFECT_MARK,     /* by the test: mark, value */
};

struct effect {
    enum effect_kind kind;
    uint64_t file; /* inode in the table below */
    uint64_t offset;
    uint64_t upto;
    uint8_t *bytes;
    size_t len;
    char *path, *to;
    int32_t mark;
    uint64_t value;
};

struct trace {
    struct effect *effects;
    size_t count, cap;
};

/* The mistakes of RELIABILITY 2 that a table can make on the core's behalf. */
enum record_mistake {
    MISTAKE_NONE,
    MISTAKE_NO_SYNC_DIR,    /* directory syncs do nothing */
    MISTAKE_NO_SYNC_TEMP,   /* temp files get their name without having been synced */
    MISTAKE_NO_SYNC,        /* files under their own name are not synced */
    MISTAKE_IN_PLACE,       /* instead of a rename, the old file is truncated and written again */
    MISTAKE_NO_SYNC_CUT,    /* the sync between cutting a tail and the next append does nothing */
    MISTAKE_CUT_HEAD,       /* cutting a tail zeroes its first 16 bytes only */
    MISTAKE_ALWAYS_COMMIT,  /* every frame stored carries COMMIT */
    MISTAKE_ALWAYS_DURABLE, /* every commit stored carries PRIOR_DURABLE */
    MISTAKE_NEVER_DURABLE,  /* no frame stored carries PRIOR_DURABLE */
    MISTAKE_RENAME_FIRST,   /* a file that replaces another is renamed before it is written */
    MISTAKES
};
const char *record_mistake_name(enum record_mistake mistake);
enum record_mistake record_mistake_from(const char *name); /* MISTAKES: unknown */

/* Start an empty trace over `below`. One recording at a time. */
void record_begin(const struct vfs *below, enum record_mistake mistake);
/* The test's own marks, e.g. "operation 7 was acknowledged". */
void record_mark(int32_t mark, uint64_t value);
/* Stop, and hand the trace over: trace_free. syna_test_set_vfs is the caller's. */
struct trace *record_end(void);
/* What was recorded so far, e.g. to print it. Borrowed. */
const struct trace *record_trace(void);
void trace_free(struct trace *trace);
/* One line of text about an effect. */
void effect_print(const struct effect *e, char *out, size_t cap);

#endif
