/* A table of open stores that lie in a log: database -> counted store, beside the table of handles.h. A
 * path finds its database there, the database finds its store here; so every spelling of a path, and a
 * SynaDB that has the same file open, mean one log. Components with a file of their own kind go through
 * file_handles.h. */
#ifndef SYNA_API_LOG_HANDLES_H
#define SYNA_API_LOG_HANDLES_H

#include "api/open_table.h"
#include "engine/db.h"

/* What the table asks of a component. */
struct log_component {
    const char *noun;   /* "a vector store", for messages */
    const char *opener; /* the function that opens one by its path, for messages */
    syna_rc (*create)(syna_db *db, const void *options, void **out);
    /* One more opening of an open store: the refusals of `create`. */
    syna_rc (*again)(void *store, const void *options);
    void (*finish)(void *store); /* saves what it can and frees it; the database is closed behind it */
    void (*before_fork)(void *store);
    void (*after_fork)(void *store, bool child);
};

struct log_table {
    struct open_table base;
    const struct log_component *component;
};
#define LOG_TABLE_INIT(component_)                                                               \
    {                                                                                            \
        .base = OPEN_TABLE_INIT, .component = (component_)                                       \
    }

/* Open the log and the store in it, or count one more opening. */
syna_rc log_table_open(struct log_table *table, const char *path, const syna_db_options *log,
                       const void *options, void **out);
/* Give back one opening; the last one waits for path-keyed calls in progress and closes. */
syna_rc log_table_close(struct log_table *table, void *store);

/* Pin the store of a path for the length of one call; NULL (error record set, *code: -1 or -2) when
 * it is not open as one. Every enter that returned a store is followed by log_table_leave. */
void *log_table_enter(struct log_table *table, const char *path, syna_rc *code);
void log_table_leave(struct log_table *table, void *store);

#endif
