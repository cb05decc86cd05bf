/* log_handles.c - tables of open stores that lie in a log. A store is in one of three states, always
 * seen under its table's lock:
 *
 *     (none) --open--> LOADING --> READY --last close--> CLOSING --> (none)
 *                         \--failure--> (none)
 *
 * Each opening of a store holds one opening of its database. Threads that want a store that is LOADING
 * or CLOSING wait for `moved`; the lock is given back while rows are read and snapshots written. */
#include "base/internal.h"

#include "api/handles.h"
#include "api/log_handles.h"
#include "base/mem.h"
#include "base/status.h"

enum store_state { LOADING, READY, CLOSING };

struct log_store {
    struct log_store *next;
    syna_db *db;
    void *store; /* NULL while LOADING */
    enum store_state state;
    uint32_t openings;
    uint32_t calls; /* path-keyed calls in progress */
};

/* ---------------------------------------------------------------- fork */

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_table *tables;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&tables_lock);
    for (struct log_table *t = tables; t; t = t->next_table) {
        pthread_mutex_lock(&t->lock);
        for (struct log_store *s = t->first; s; s = s->next)
            if (s->state == READY)
                t->component->before_fork(s->store);
    }
}

static void unlist(struct log_table *t, struct log_store *s)
{
    struct log_store **at = &t->first;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    mem_free(s);
}

/* Stores that a thread of the parent was opening or closing: that thread is not here to finish it. */
static void drop_unfinished(struct log_table *t)
{
    for (struct log_store *s = t->first, *next; s; s = next) {
        next = s->next;
        s->calls = 0; /* nor are those that made calls */
        if (s->state != READY)
            unlist(t, s);
    }
    pthread_cond_init(&t->moved, NULL);
}

static void after_fork(bool child)
{
    for (struct log_table *t = tables; t; t = t->next_table) {
        if (child)
            drop_unfinished(t);
        for (struct log_store *s = t->first; s; s = s->next)
            if (s->state == READY)
                t->component->after_fork(s->store, child);
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

/* Called with a database open, which has registered its own hooks: what is registered later runs
 * earlier, so a fork takes the store's lock before the database's, as every write does. */
static void list_table(struct log_table *t)
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

static struct log_store *find_db(const struct log_table *t, const syna_db *db)
{
    struct log_store *s = t->first;
    while (s && s->db != db)
        s = s->next;
    return s;
}

static struct log_store *find_store(const struct log_table *t, const void *store)
{
    struct log_store *s = t->first;
    while (s && (s->store != store || s->state == LOADING))
        s = s->next;
    return s;
}

/* ---------------------------------------------------------------- opening */

/* The lock is given back while the rows are read. */
static syna_rc load_new(struct log_table *t, syna_db *db, const void *options, void **out)
{
    struct log_store *s = mem_zalloc(sizeof *s);
    if (!s)
        return syna_no_memory(sizeof *s);
    s->db = db;
    s->state = LOADING;
    s->next = t->first;
    t->first = s;
    pthread_mutex_unlock(&t->lock);
    void *store = NULL;
    syna_rc rc = t->component->create(db, options, &store);
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->moved);
    if (rc != SYNA_SUCCESS) {
        unlist(t, s);
        return rc;
    }
    s->store = *out = store;
    s->state = READY;
    s->openings = 1;
    return SYNA_SUCCESS;
}

static syna_rc open_locked(struct log_table *t, syna_db *db, const void *options, void **out)
{
    struct log_store *s;
    while ((s = find_db(t, db)) && s->state != READY)
        pthread_cond_wait(&t->moved, &t->lock);
    if (!s)
        return load_new(t, db, options, out);
    SYNA_TRY(t->component->again(s->store, options));
    s->openings++;
    *out = s->store;
    return SYNA_SUCCESS;
}

syna_rc log_table_open(struct log_table *t, const char *path, const syna_db_options *log,
                       const void *options, void **out)
{
    syna_db *db;
    SYNA_TRY(handles_open(path, log, &db));
    list_table(t);
    pthread_mutex_lock(&t->lock);
    syna_rc rc = open_locked(t, db, options, out);
    pthread_mutex_unlock(&t->lock);
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
    pthread_mutex_lock(&t->lock);
    struct log_store *s = find_store(t, store);
    if (!s || s->state != READY) {
        pthread_mutex_unlock(&t->lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "%s is not open: the handle was closed",
                         t->component->noun);
    }
    syna_db *db = s->db;
    if (--s->openings == 0) {
        s->state = CLOSING;
        while (s->calls > 0)
            pthread_cond_wait(&t->moved, &t->lock);
        pthread_mutex_unlock(&t->lock);
        t->component->finish(store);
        pthread_mutex_lock(&t->lock);
        unlist(t, s);
        pthread_cond_broadcast(&t->moved);
    }
    pthread_mutex_unlock(&t->lock);
    return handles_close(db);
}

/* ---------------------------------------------------------------- one call */

void *log_table_enter(struct log_table *t, const char *path, syna_rc *code)
{
    syna_db *db = handles_enter(path, code);
    if (!db)
        return NULL;
    pthread_mutex_lock(&t->lock);
    struct log_store *s = find_db(t, db);
    bool ready = s && s->state == READY;
    if (ready)
        s->calls++;
    pthread_mutex_unlock(&t->lock);
    if (ready)
        return s->store;
    handles_leave(db);
    *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                         "not open as %s in this process; call %s first", t->component->noun,
                         t->component->opener);
    return NULL;
}

void log_table_leave(struct log_table *t, void *store)
{
    pthread_mutex_lock(&t->lock);
    struct log_store *s = find_store(t, store);
    syna_db *db = s->db;
    if (--s->calls == 0 && s->state == CLOSING)
        pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->lock);
    handles_leave(db);
}
