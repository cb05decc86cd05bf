/* row_handles.c - see row_handles.h. A pointer to a component's struct is one to its row_store. */
#include "base/internal.h"

#include "api/hits_json.h"
#include "api/row_handles.h"

syna_rc row_handle_close(void *store)
{
    return row_store_close(store);
}

bool row_handle_is_file(const void *store, uint64_t device, uint64_t inode)
{
    return row_store_is_file(store, device, inode);
}

void row_handle_before_fork(void *store)
{
    row_store_before_fork(store);
}

void row_handle_after_fork(void *store, bool child)
{
    row_store_after_fork(store, child);
}

/* ---------------------------------------------------------------- path-keyed calls */

int32_t row_path_save(struct file_table *table, const char *path, enum row_save why)
{
    syna_rc rc;
    struct row_store *store = file_table_enter(table, path, &rc);
    if (!store)
        return rc;
    rc = row_store_save(store, why);
    file_table_leave(table, store);
    return rc;
}

int32_t row_path_close(struct file_table *table, const char *path)
{
    syna_rc rc;
    struct row_store *store = file_table_enter(table, path, &rc);
    if (!store)
        return rc;
    file_table_leave(table, store);
    return file_table_close(table, store);
}

int64_t row_path_count(struct file_table *table, const char *path)
{
    syna_rc rc;
    struct row_store *store = file_table_enter(table, path, &rc);
    if (!store)
        return rc;
    uint64_t count = row_store_count(store);
    file_table_leave(table, store);
    return (int64_t)count;
}

int32_t row_path_hits(syna_rc rc, syna_hit *hits, size_t count, char **out_json, size_t *out_len)
{
    if (rc == SYNA_SUCCESS)
        rc = hits_json(hits, count, 0, out_json, out_len);
    syna_free_hits(hits);
    return count_or_code(rc, count);
}
