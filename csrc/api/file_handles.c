/* file_handles.c - tables of open stores with a file each. */
#include "base/internal.h"

#include "api/file_handles.h"
#include "api/spellings.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine/db.h"
#include "io/vfs.h"

struct store_handle {
    struct open_entry entry; /* inherited: who opens the file in this process gets another one */
    struct spellings paths;
    bool read_only;
};

/* ---------------------------------------------------------------- fork */

static void release(struct open_entry *entry)
{
    spellings_dispose(&((struct store_handle *)entry)->paths);
    mem_free(entry);
}

static void before_store(const struct open_table *table, void *store)
{
    ((const struct file_table *)table)->component->before_fork(store);
}

static void after_store(const struct open_table *table, void *store, bool child)
{
    ((const struct file_table *)table)->component->after_fork(store, child);
}

static void register_hooks(void);

static struct open_kind kind = {OPEN_KIND_INIT, .register_hooks = register_hooks, .release = release,
                                .before_fork = before_store, .after_fork = after_store};

static void before_fork(void)
{
    open_kind_before_fork(&kind);
}

static void after_fork_parent(void)
{
    open_kind_after_fork(&kind, false);
}

static void after_fork_child(void)
{
    open_kind_after_fork(&kind, true);
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---------------------------------------------------------------- opening */

static struct store_handle *first(const struct file_table *t)
{
    return (struct store_handle *)t->base.first;
}

static struct store_handle *after(const struct store_handle *h)
{
    return (struct store_handle *)h->entry.next;
}

static struct store_handle *find_for_open(const struct file_table *t, const char *canonical,
                                         const struct vfs_stat *st, bool read_only)
{
    for (struct store_handle *h = first(t); h; h = after(h)) {
        if (h->read_only != read_only || h->entry.inherited)
            continue;
        if (strcmp(h->paths.canonical, canonical) == 0)
            return h;
        if (h->entry.state == OPEN && st->inode &&
            t->component->is_file(h->entry.store, st->device, st->inode))
            return h;
    }
    return NULL;
}

/* The lock is held on entry and on return, and given back while the store opens. Takes `canonical`. */
static syna_rc open_new(struct file_table *t, char *canonical, const char *path, bool read_only,
                        const void *options, void **out)
{
    struct store_handle *h = mem_zalloc(sizeof *h);
    if (!h) {
        mem_free(canonical);
        return syna_no_memory(sizeof *h);
    }
    h->paths.canonical = canonical;
    h->read_only = read_only;
    open_table_add(&t->base, &h->entry);
    pthread_mutex_unlock(&t->base.lock);
    void *store = NULL;
    syna_rc rc = t->component->open_store(path, options, &store);
    pthread_mutex_lock(&t->base.lock);
    if (rc != SYNA_SUCCESS) {
        open_table_remove(&t->base, &h->entry);
        return rc;
    }
    spellings_add(&h->paths, path);
    open_table_opened(&t->base, &h->entry, store);
    *out = store;
    return SYNA_SUCCESS;
}

/* The opening counts from the start, so that nobody closes the store meanwhile; the lock is given back
 * while the component decides. */
static syna_rc count_opening(struct file_table *t, struct store_handle *h, const char *path,
                             const void *options, void **out)
{
    h->entry.openings++;
    h->entry.pins++;
    pthread_mutex_unlock(&t->base.lock);
    syna_rc rc = t->component->again(h->entry.store, options);
    pthread_mutex_lock(&t->base.lock);
    if (rc == SYNA_SUCCESS) {
        spellings_add(&h->paths, path);
        *out = h->entry.store;
    }
    open_table_unpin(&t->base, &h->entry);
    return rc;
}

static syna_rc open_locked(struct file_table *t, const char *path, bool read_only,
                           const void *options, void **out, void **refused)
{
    for (;;) {
        struct vfs_stat st = {0};
        char *canonical;
        SYNA_TRY(db_canonical_path(path, &canonical));
        syna_vfs->stat_path(canonical, &st);
        struct store_handle *h = find_for_open(t, canonical, &st, read_only);
        if (!h)
            return open_new(t, canonical, path, read_only, options, out);
        mem_free(canonical);
        if (h->entry.state != OPEN) {
            pthread_cond_wait(&t->base.moved, &t->base.lock);
            continue;
        }
        void *store = h->entry.store;
        syna_rc rc = count_opening(t, h, path, options, out);
        if (rc != SYNA_SUCCESS)
            *refused = store;
        return rc;
    }
}

syna_rc file_table_open(struct file_table *t, const char *path, bool read_only,
                        const void *options, void **out)
{
    void *refused = NULL;
    open_table_list(&t->base, &kind);
    pthread_mutex_lock(&t->base.lock);
    syna_rc rc = open_locked(t, path, read_only, options, out, &refused);
    pthread_mutex_unlock(&t->base.lock);
    if (refused) { /* the opening was counted before it was refused */
        struct status_record why = *status_get();
        file_table_close(t, refused);
        status_set(&why);
    }
    return rc;
}

/* ---------------------------------------------------------------- closing */

syna_rc file_table_close(struct file_table *t, void *store)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&t->base.lock);
    struct open_entry *entry = open_table_find(&t->base, store);
    if (!entry || entry->state != OPEN) {
        pthread_mutex_unlock(&t->base.lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "the handle is not open");
    }
    if (open_table_close(&t->base, entry)) {
        pthread_mutex_unlock(&t->base.lock);
        rc = t->component->close_store(store);
        pthread_mutex_lock(&t->base.lock);
        open_table_remove(&t->base, entry);
    }
    pthread_mutex_unlock(&t->base.lock);
    return rc;
}

/* ---------------------------------------------------------------- one call */

static struct store_handle *prefer_writer(struct store_handle *a, struct store_handle *b)
{
    return a && !a->read_only ? a : b ? b : a;
}

static struct store_handle *find_for_call(const struct file_table *t, const char *path)
{
    struct store_handle *found = NULL;
    for (struct store_handle *h = first(t); h && path[0] == '/'; h = after(h))
        if (h->entry.state == OPEN && spellings_have(&h->paths, path))
            found = prefer_writer(found, h);
    struct vfs_stat st;
    if (found || syna_vfs->stat_path(path, &st) < 0)
        return found;
    for (struct store_handle *h = first(t); h; h = after(h))
        if (h->entry.state == OPEN && t->component->is_file(h->entry.store, st.device, st.inode))
            found = prefer_writer(found, h);
    if (found)
        spellings_add(&found->paths, path);
    return found;
}

void *file_table_enter(struct file_table *t, const char *path, syna_rc *code)
{
    if (!path || !utf8_valid(path, strlen(path))) {
        *code = syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the path is %s",
                          path ? "not UTF-8" : "a null pointer");
        return NULL;
    }
    pthread_mutex_lock(&t->base.lock);
    struct store_handle *h = find_for_call(t, path);
    if (h)
        h->entry.pins++;
    void *store = h ? h->entry.store : NULL;
    pthread_mutex_unlock(&t->base.lock);
    if (!store)
        *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                             "not open in this process; call %s first", t->component->opener);
    return store;
}

void file_table_leave(struct file_table *t, void *store)
{
    pthread_mutex_lock(&t->base.lock);
    open_table_unpin(&t->base, open_table_find(&t->base, store));
    pthread_mutex_unlock(&t->base.lock);
}
