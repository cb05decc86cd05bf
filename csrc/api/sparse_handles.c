/* sparse_handles.c - the table of open sparse stores. An entry is in one of three states, always seen
 * under table_lock:
 *
 *     (none) --open--> LOADING --> READY --last close--> CLOSING --> (none)
 *                         \--failure--> (none)
 *
 * Each opening of a store holds one opening of its database. No call that can block is made with
 * table_lock held. */
#include "base/internal.h"

#include "api/handles.h"
#include "api/sparse_handles.h"
#include "base/status.h"

enum entry_state { LOADING, READY, CLOSING };

struct open_store {
    struct open_store *next;
    syna_db *db;
    syna_sparse *store; /* NULL while LOADING */
    enum entry_state state;
    uint32_t openings;
    uint32_t calls; /* path-keyed calls in progress */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct open_store *table;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

/* ---------------------------------------------------------------- fork */

static void before_fork(void)
{
    pthread_mutex_lock(&table_lock);
    for (struct open_store *e = table; e; e = e->next)
        if (e->state == READY)
            sparse_before_fork(e->store);
}

static void after_fork_parent(void)
{
    for (struct open_store *e = table; e; e = e->next)
        if (e->state == READY)
            sparse_after_fork(e->store, false);
    pthread_mutex_unlock(&table_lock);
}

static void after_fork_child(void)
{
    pthread_mutex_init(&table_lock, NULL);
    pthread_cond_init(&moved, NULL);
    for (struct open_store *e = table; e; e = e->next) {
        e->calls = 0; /* the threads that made them are not here */
        if (e->state == READY)
            sparse_after_fork(e->store, true);
    }
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---------------------------------------------------------------- the list (table_lock held) */

static struct open_store *find_db(const syna_db *db)
{
    struct open_store *e = table;
    while (e && e->db != db)
        e = e->next;
    return e;
}

static struct open_store *find_store(const syna_sparse *store)
{
    struct open_store *e = table;
    while (e && (e->store != store || e->state == LOADING))
        e = e->next;
    return e;
}

static void remove_entry(struct open_store *entry)
{
    struct open_store **at = &table;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    mem_free(entry);
    pthread_cond_broadcast(&moved);
}

/* ---------------------------------------------------------------- opening */

/* table_lock is given back while the rows are read. */
static syna_rc load_new(syna_db *db, const syna_sparse_options *options, syna_sparse **out)
{
    struct open_store *e = mem_zalloc(sizeof *e);
    if (!e)
        return syna_no_memory(sizeof *e);
    e->db = db;
    e->state = LOADING;
    e->next = table;
    table = e;
    pthread_mutex_unlock(&table_lock);
    syna_sparse *store = NULL;
    syna_rc rc = sparse_new(db, options, &store);
    pthread_mutex_lock(&table_lock);
    if (rc != SYNA_SUCCESS) {
        remove_entry(e);
        return rc;
    }
    e->store = *out = store;
    e->state = READY;
    e->openings = 1;
    pthread_cond_broadcast(&moved);
    return SYNA_SUCCESS;
}

static syna_rc open_locked(syna_db *db, const syna_sparse_options *options, syna_sparse **out)
{
    struct open_store *e;
    while ((e = find_db(db)) && e->state != READY)
        pthread_cond_wait(&moved, &table_lock);
    if (!e)
        return load_new(db, options, out);
    SYNA_TRY(sparse_reopen(e->store, options));
    e->openings++;
    *out = e->store;
    return SYNA_SUCCESS;
}

syna_rc sparse_handles_open(const char *path, const syna_sparse_options *given,
                            syna_sparse **out)
{
    syna_sparse_options options;
    syna_db *db;
    SYNA_TRY(sparse_options(given, &options));
    syna_db_options log = {.size = sizeof log, .no_sync = options.no_sync,
                           .read_only = options.read_only,
                           .must_exist = options.must_exist};
    SYNA_TRY(handles_open(path, &log, &db));
    /* After the database has registered its own: so that a fork takes the store's lock first, as
     * every write does. */
    pthread_once(&registered, register_hooks);

    pthread_mutex_lock(&table_lock);
    syna_rc rc = open_locked(db, &options, out);
    pthread_mutex_unlock(&table_lock);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        handles_close(db);
        status_set(&why);
    }
    return rc;
}

/* ---------------------------------------------------------------- closing */

syna_rc sparse_handles_close(syna_sparse *store)
{
    pthread_mutex_lock(&table_lock);
    struct open_store *e = find_store(store);
    if (!e || e->state != READY) {
        pthread_mutex_unlock(&table_lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "the sparse store is not open");
    }
    syna_db *db = e->db;
    if (--e->openings == 0) {
        e->state = CLOSING;
        while (e->calls > 0)
            pthread_cond_wait(&moved, &table_lock);
        pthread_mutex_unlock(&table_lock);
        sparse_close_snapshot(store);
        sparse_free(store);
        pthread_mutex_lock(&table_lock);
        remove_entry(e);
    }
    pthread_mutex_unlock(&table_lock);
    return handles_close(db);
}

/* ---------------------------------------------------------------- one call */

syna_sparse *sparse_handles_enter(const char *path, syna_rc *code)
{
    syna_db *db = handles_enter(path, code);
    if (!db)
        return NULL;
    pthread_mutex_lock(&table_lock);
    struct open_store *e = find_db(db);
    bool ready = e && e->state == READY;
    if (ready)
        e->calls++;
    pthread_mutex_unlock(&table_lock);
    if (ready)
        return e->store;
    handles_leave(db);
    *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                         "not open as a sparse store in this process; call syna_svs_new "
                         "first");
    return NULL;
}

void sparse_handles_leave(syna_sparse *store)
{
    pthread_mutex_lock(&table_lock);
    struct open_store *e = find_store(store);
    syna_db *db = e->db;
    if (--e->calls == 0 && e->state == CLOSING)
        pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&table_lock);
    handles_leave(db);
}
