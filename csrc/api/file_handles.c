/* file_handles.c - tables of open stores with a file each. A handle is in one of three states, always
 * seen under the table's lock:
 *
 *     (none) --open--> OPENING --> OPEN --last close--> CLOSING --> (none)
 *                         \--failure--> (none)
 *
 * Threads that want a handle that is OPENING or CLOSING wait for `moved`. No call that can block is made
 * with the lock held. Few stores are open at once, so a list does. */
#include "base/internal.h"

#include "api/file_handles.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine/db.h"
#include "io/vfs.h"

enum handle_state { OPENING, OPEN, CLOSING };

struct spelling {
    struct spelling *next;
    char text[];
};

struct store_handle {
    struct store_handle *next;
    void *store; /* NULL while OPENING */
    char *path;  /* canonical */
    struct spelling *spellings; /* absolute ones that led here */
    enum handle_state state;
    bool read_only;
    bool inherited; /* by fork: whoever opens the file in this process gets a handle of its own */
    uint32_t openings;
    uint32_t pins; /* calls in progress */
};

/* ---------------------------------------------------------------- fork */

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct file_table *tables;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&tables_lock);
    for (struct file_table *t = tables; t; t = t->next_table) {
        pthread_mutex_lock(&t->lock);
        for (struct store_handle *h = t->first; h; h = h->next)
            if (h->state == OPEN)
                t->component->before_fork(h->store);
    }
}

static void unlist(struct file_table *t, struct store_handle *h);

/* Handles that a thread of the parent was opening or closing: that thread is not here to finish it. */
static void drop_unfinished(struct file_table *t)
{
    for (struct store_handle *h = t->first, *next; h; h = next) {
        next = h->next;
        h->pins = 0; /* nor are those that made calls */
        h->inherited = true;
        if (h->state != OPEN)
            unlist(t, h);
    }
    pthread_cond_init(&t->moved, NULL);
}

static void after_fork(bool child)
{
    for (struct file_table *t = tables; t; t = t->next_table) {
        if (child)
            drop_unfinished(t);
        for (struct store_handle *h = t->first; h; h = h->next)
            if (h->state == OPEN)
                t->component->after_fork(h->store, child);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&tables_lock);
}

static void after_fork_parent(void)
{
    after_fork(false);
}

static void after_fork_child(void)
{
    after_fork(true);
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

static void list_table(struct file_table *t)
{
    pthread_once(&registered, register_hooks);
    pthread_mutex_lock(&tables_lock);
    if (!t->listed) {
        t->next_table = tables;
        tables = t;
        t->listed = true;
    }
    pthread_mutex_unlock(&tables_lock);
}

/* ---------------------------------------------------------------- the list (lock held) */

static void unlist(struct file_table *t, struct store_handle *h)
{
    struct store_handle **at = &t->first;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    for (struct spelling *s = h->spellings, *next; s; s = next) {
        next = s->next;
        mem_free(s);
    }
    mem_free(h->path);
    mem_free(h);
    pthread_cond_broadcast(&t->moved);
}

static bool is_spelled(const struct store_handle *h, const char *path)
{
    for (const struct spelling *s = h->spellings; s; s = s->next)
        if (strcmp(s->text, path) == 0)
            return true;
    return strcmp(h->path, path) == 0;
}

/* Remembering a spelling saves a system call the next time; without memory it is not remembered. */
static void remember(struct store_handle *h, const char *path)
{
    if (path[0] != '/' || is_spelled(h, path))
        return;
    size_t len = strlen(path) + 1;
    struct spelling *s = mem_alloc(sizeof *s + len);
    if (!s)
        return;
    memcpy(s->text, path, len);
    s->next = h->spellings;
    h->spellings = s;
}

static struct store_handle *find_store(struct file_table *t, const void *store)
{
    struct store_handle *h = t->first;
    while (h && (h->store != store || h->state == OPENING))
        h = h->next;
    return h;
}

/* ---------------------------------------------------------------- opening */

static struct store_handle *find_for_open(struct file_table *t, const char *canonical,
                                         const struct vfs_stat *st, bool read_only)
{
    for (struct store_handle *h = t->first; h; h = h->next) {
        if (h->read_only != read_only || h->inherited)
            continue;
        if (strcmp(h->path, canonical) == 0)
            return h;
        if (h->state == OPEN && st->inode &&
            t->component->is_file(h->store, st->device, st->inode))
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
    h->path = canonical;
    h->read_only = read_only;
    h->state = OPENING;
    h->next = t->first;
    t->first = h;
    pthread_mutex_unlock(&t->lock);
    void *store = NULL;
    syna_rc rc = t->component->open_store(path, options, &store);
    pthread_mutex_lock(&t->lock);
    if (rc != SYNA_SUCCESS) {
        unlist(t, h);
        return rc;
    }
    h->store = *out = store;
    h->state = OPEN;
    h->openings = 1;
    remember(h, path);
    pthread_cond_broadcast(&t->moved);
    return SYNA_SUCCESS;
}

static void unpin(struct file_table *t, struct store_handle *h)
{
    if (--h->pins == 0 && h->state == CLOSING)
        pthread_cond_broadcast(&t->moved);
}

/* The opening counts from the start, so that nobody closes the store meanwhile; the lock is given back
 * while the component decides. */
static syna_rc count_opening(struct file_table *t, struct store_handle *h, const char *path,
                             const void *options, void **out)
{
    h->openings++;
    h->pins++;
    pthread_mutex_unlock(&t->lock);
    syna_rc rc = t->component->again(h->store, options);
    pthread_mutex_lock(&t->lock);
    if (rc == SYNA_SUCCESS) {
        remember(h, path);
        *out = h->store;
    }
    unpin(t, h);
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
        if (h->state != OPEN) {
            pthread_cond_wait(&t->moved, &t->lock);
            continue;
        }
        void *store = h->store;
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
    list_table(t);
    pthread_mutex_lock(&t->lock);
    syna_rc rc = open_locked(t, path, read_only, options, out, &refused);
    pthread_mutex_unlock(&t->lock);
    if (refused) { /* the opening was counted before it was refused */
        struct status_record why = *status_get();
        file_table_close(t, refused);
        status_set(&why);
    }
    return rc;
}

/* ---------------------------------------------------------------- closing */

static syna_rc not_open(void)
{
    return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "the handle is not open");
}

syna_rc file_table_close(struct file_table *t, void *store)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&t->lock);
    struct store_handle *h = find_store(t, store);
    if (!h || h->state != OPEN) {
        pthread_mutex_unlock(&t->lock);
        return not_open();
    }
    if (--h->openings == 0) {
        h->state = CLOSING;
        while (h->pins > 0)
            pthread_cond_wait(&t->moved, &t->lock);
        pthread_mutex_unlock(&t->lock);
        rc = t->component->close_store(store);
        pthread_mutex_lock(&t->lock);
        unlist(t, h);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* ---------------------------------------------------------------- one call */

static struct store_handle *prefer_writer(struct store_handle *a, struct store_handle *b)
{
    return a && !a->read_only ? a : b ? b : a;
}

static struct store_handle *find_for_call(struct file_table *t, const char *path)
{
    struct store_handle *found = NULL;
    for (struct store_handle *h = t->first; h && path[0] == '/'; h = h->next)
        if (h->state == OPEN && is_spelled(h, path))
            found = prefer_writer(found, h);
    struct vfs_stat st;
    if (found || syna_vfs->stat_path(path, &st) < 0)
        return found;
    for (struct store_handle *h = t->first; h; h = h->next)
        if (h->state == OPEN && t->component->is_file(h->store, st.device, st.inode))
            found = prefer_writer(found, h);
    if (found)
        remember(found, path);
    return found;
}

void *file_table_enter(struct file_table *t, const char *path, syna_rc *code)
{
    if (!path || !utf8_valid(path, strlen(path))) {
        *code = syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the path is %s",
                          path ? "not UTF-8" : "a null pointer");
        return NULL;
    }
    pthread_mutex_lock(&t->lock);
    struct store_handle *h = find_for_call(t, path);
    if (h)
        h->pins++;
    void *store = h ? h->store : NULL;
    pthread_mutex_unlock(&t->lock);
    if (!store)
        *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                             "not open in this process; call %s first", t->component->opener);
    return store;
}

void file_table_leave(struct file_table *t, void *store)
{
    pthread_mutex_lock(&t->lock);
    struct store_handle *h = find_store(t, store);
    if (h && h->pins > 0) /* a forked child forgets the calls of its parent */
        unpin(t, h);
    pthread_mutex_unlock(&t->lock);
}
