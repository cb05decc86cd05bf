/* A table of open stores that have a file each: path -> counted handle. Components with a file of their
 * own kind share this; those on a log go through handles.h.
 *
 * The table's lock is held for the look-up, never while a store opens or closes. Every way to write the
 * name of a file means the same store: absolute spellings are remembered, others are told by the
 * file's (device, inode). A read-only handle and a writing one of the same file are two handles. */
#ifndef SYNA_API_FILE_HANDLES_H
#define SYNA_API_FILE_HANDLES_H

#include "base/status.h"

/* What the table asks of a component. None but `open` and `close` may block. */
struct file_component {
    const char *opener; /* the function that opens one, for messages */
    syna_rc (*open_store)(const char *path, const void *options, void **out);
    /* One more opening of an open store: the refusals of open_store. May block; the handle is pinned. */
    syna_rc (*again)(void *store, const void *options);
    syna_rc (*close_store)(void *store); /* frees it, whatever it returns */
    bool (*is_file)(const void *store, uint64_t device, uint64_t inode);
    void (*before_fork)(void *store);
    void (*after_fork)(void *store, bool child);
};

struct store_handle;
struct file_table {
    const struct file_component *component;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct store_handle *first;
    struct file_table *next_table; /* for the fork hooks */
    bool listed;
};
#define FILE_TABLE_INIT(component_)                                                              \
    {                                                                                            \
        .component = (component_), .lock = PTHREAD_MUTEX_INITIALIZER,                            \
        .moved = PTHREAD_COND_INITIALIZER                                                        \
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
