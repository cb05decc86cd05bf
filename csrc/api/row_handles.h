/* Handles of the components over engine/row_store.h, whose structs begin with a row_store: what a table of
 * open stores asks of them, and the path-keyed calls that are the same for all. */
#ifndef SYNA_API_ROW_HANDLES_H
#define SYNA_API_ROW_HANDLES_H

#include "api/api_args.h"
#include "api/file_handles.h"
#include "engine/row_store.h"

syna_rc row_handle_close(void *store);
bool row_handle_is_file(const void *store, uint64_t device, uint64_t inode);
void row_handle_before_fork(void *store);
void row_handle_after_fork(void *store, bool child);

/* A file_component; what opens a store is the component's own. */
#define ROW_COMPONENT(opener_, open_, again_)                                                    \
    {                                                                                            \
        .opener = (opener_), .open_store = (open_), .again = (again_),                           \
        .close_store = row_handle_close, .is_file = row_handle_is_file,                          \
        .before_fork = row_handle_before_fork, .after_fork = row_handle_after_fork               \
    }

/* ---- path-keyed calls */
int32_t row_path_save(struct file_table *table, const char *path, enum row_save why);
int32_t row_path_close(struct file_table *table, const char *path);
int64_t row_path_count(struct file_table *table, const char *path);
/* How a search ended, as JSON. Takes the hits. `out_len` may be NULL. */
int32_t row_path_hits(syna_rc rc, syna_hit *hits, size_t count, char **out_json, size_t *out_len);

#endif
