/* log_handles.c - tables of open stores that lie in a log. Each opening of a store holds one opening of its
 * database. The table's lock is given back while rows are read and snapshots written. */
#include "base/internal.h"

#include "api/handles.h"
#include "api/log_handles.h"
#include "base/mem.h"
#include "base/status.h"

struct log_store {
    struct open_entry entry;
    syna_db *db;
};

/* ---------------------------------------------------------------- fork */

static void release(struct open_entry *entry)
{
    mem_free(entry);
}

static void before_store(const struct open_table *table, void *store)
{
    ((const struct log_table *)table)->component->before_fork(store);
}

static void after_store(const struct open_table *table, void *store, bool child)
{
    ((const struct log_table *)table)->component->after_fork(store, child);
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

static struct log_store *find_db(const struct log_table *t, const syna_db *db)
{
    struct log_store *s = (struct log_store *)t->base.first;
    while (s && s->db != db)
        s = (struct log_store *)s->entry.next;
    return s;
}

/* The lock is given back while the rows are read. */
static syna_rc load_new(struct log_table *t, syna_db *db, const void *options, void **out)
{
    struct log_store *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->db = db;
    open_table_add(&t->base, &s->entry);
    pthread_mutex_unlock(&t->base.lock);
    void *store = NULL;
    syna_rc rc = t->component->create(db, options, &store);
    pthread_mutex_lock(&t->base.lock);
    if (rc != SYNA_SUCCESS) {
        open_table_remove(&t->base, &s->entry);
        return rc;
    }
    open_table_opened(&t->base, &s->entry, store);
    *out = store;
    return SYNA_SUCCESS;
}

static syna_rc open_locked(struct log_table *t, syna_db *db, const void *options, void **out)
{
    struct log_store *s;
    while ((s = find_db(t, db)) && s->entry.state != OPEN)
        pthread_cond_wait(&t->base.moved, &t->base.lock);
    if (!s)
        return load_new(t, db, options, out);
    SYNA_TRY(t->component->again(s->entry.store, options));
    s->entry.openings++;
    *out = s->entry.store;
    return SYNA_SUCCESS;
}

/* The table is listed with a database open, which has registered its own hooks: what is registered later
 * runs earlier, so a fork takes the store's lock before the database's, as every write does. */
syna_rc log_table_open(struct log_table *t, const char *path, const syna_db_options *log,
                       const void *options, void **out)
{
    syna_db *db;
    SYNA_TRY(handles_open(path, log, &db));
    open_table_list(&t->base, &kind);
    pthread_mutex_lock(&t->base.lock);
    syna_rc rc = open_locked(t, db, options, out);
    pthread_mutex_unlock(&t->base.lock);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        handles_close(db);
        status_set(&why);
    }
    return rc;
}

/* ---------------------------------------------------------------- closing */

syna_rc log_table_close(struct log_table *t, void *store)
{
    pthread_mutex_lock(&t->base.lock);
    struct log_store *s = (struct log_store *)open_table_find(&t->base, store);
    if (!s || s->entry.state != OPEN) {
        pthread_mutex_unlock(&t->base.lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "%s is not open: the handle was closed",
                         t->component->noun);
    }
    syna_db *db = s->db;
    if (open_table_close(&t->base, &s->entry)) {
        pthread_mutex_unlock(&t->base.lock);
        t->component->finish(store);
        pthread_mutex_lock(&t->base.lock);
        open_table_remove(&t->base, &s->entry);
    }
    pthread_mutex_unlock(&t->base.lock);
    return handles_close(db);
}

/* ---------------------------------------------------------------- one call */

void *log_table_enter(struct log_table *t, const char *path, syna_rc *code)
{
    syna_db *db = handles_enter(path, code);
    if (!db)
        return NULL;
    pthread_mutex_lock(&t->base.lock);
    struct log_store *s = find_db(t, db);
    void *store = s && s->entry.state == OPEN ? s->entry.store : NULL;
    if (store)
        s->entry.pins++;
    pthread_mutex_unlock(&t->base.lock);
    if (store)
        return store;
    handles_leave(db);
    *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                         "not open as %s in this process; call %s first", t->component->noun,
                         t->component->opener);
    return NULL;
}

void log_table_leave(struct log_table *t, void *store)
{
    pthread_mutex_lock(&t->base.lock);
    struct log_store *s = (struct log_store *)open_table_find(&t->base, store);
    syna_db *db = s ? s->db : NULL;
    if (s)
        open_table_unpin(&t->base, &s->entry);
    pthread_mutex_unlock(&t->base.lock);
    if (db) /* NULL: a forked child forgot a store that was closing */
        handles_leave(db);
}
