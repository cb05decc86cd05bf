/* A table of open stores that have a file each: path -> counted handle. Components with a file of their
 * own kind share this; those on a log go through log_handles.h.
 *
 * The table's lock is held for the look-up, never while a store opens or closes. Every way to write the
 * name of a file means the same store: absolute spellings are remembered, others are told by the
 * file's (device, inode). A read-only handle and a writing one of the same file are two handles. */
#ifndef SYNA_API_FILE_HANDLES_H
#define SYNA_API_FILE_HANDLES_H

#include "api/open_table.h"
#include "base/status.h"

/* What the table asks of a component. The first three may block: the lock is not held. */
struct file_component {
    const char *opener; /* the function that opens one, for messages */
    syna_rc (*open_store)(const char *path, const void *options, void **out);
    /* One more opening of an open store: the refusals of open_store. The handle is pinned. */
    syna_rc (*again)(void *store, const void *options);
    syna_rc (*close_store)(void *store); /* frees it, whatever it returns */
    bool (*is_file)(const void *store, uint64_t device, uint64_t inode);
    void (*before_fork)(void *store);
    void (*after_fork)(void *store, bool child);
};

struct file_table {
    struct open_table base;
    const struct file_component *component;
};
#define FILE_TABLE_INIT(component_)                                                              \
    {                                                                                            \
        .base = OPEN_TABLE_INIT, .component = (component_)                                       \
    }

/* Open or count one more opening. */
syna_rc file_table_open(struct file_table *table, const char *path, bool read_only,
                        const void *options, void **out);
/* Give back one opening; the last one waits for pinned calls and closes. */
syna_rc file_table_close(struct file_table *table, void *store);

/* Pin the store of a path for the length of one call, a writing handle before a read-only one; NULL
 * (error record set, *code: -1 or -2) when it is not open. Every enter that returned a store is
 * followed by file_table_leave. */
void *file_table_enter(struct file_table *table, const char *path, syna_rc *code);
void file_table_leave(struct file_table *table, void *store);

#endif
