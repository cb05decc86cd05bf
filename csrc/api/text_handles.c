/* text_handles.c - the table of open text indexes. An entry is in one of three states, always seen
 * under table_lock:
 *
 *     (none) --open--> LOADING --> READY --last close--> CLOSING --> (none)
 *                         \--failure--> (none)
 *
 * Each opening of an index holds one opening of its database. No call that can block is made with
 * table_lock held. */
#include "base/internal.h"

#include "api/handles.h"
#include "api/text_handles.h"
#include "base/status.h"

enum entry_state { LOADING, READY, CLOSING };

struct open_index {
    struct open_index *next;
    syna_db *db;
    syna_text *index; /* NULL while LOADING */
    enum entry_state state;
    uint32_t openings;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct open_index *table;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

/* ---------------------------------------------------------------- fork */

static void before_fork(void)
{
    pthread_mutex_lock(&table_lock);
    for (struct open_index *e = table; e; e = e->next)
        if (e->state == READY)
            text_before_fork(e->index);
}

static void after_fork_parent(void)
{
    for (struct open_index *e = table; e; e = e->next)
        if (e->state == READY)
            text_after_fork(e->index, false);
    pthread_mutex_unlock(&table_lock);
}

static void after_fork_child(void)
{
    pthread_mutex_init(&table_lock, NULL);
    pthread_cond_init(&moved, NULL);
    for (struct open_index *e = table; e; e = e->next) {
        if (e->state == READY)
            text_after_fork(e->index, true);
    }
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---------------------------------------------------------------- the list (table_lock held) */

static struct open_index *find_db(const syna_db *db)
{
    struct open_index *e = table;
    while (e && e->db != db)
        e = e->next;
    return e;
}

static struct open_index *find_index(const syna_text *index)
{
    struct open_index *e = table;
    while (e && (e->index != index || e->state == LOADING))
        e = e->next;
    return e;
}

static void remove_entry(struct open_index *entry)
{
    struct open_index **at = &table;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    mem_free(entry);
    pthread_cond_broadcast(&moved);
}

/* ---------------------------------------------------------------- opening */

/* table_lock is given back while the documents are read. */
static syna_rc load_new(syna_db *db, const syna_text_options *options, syna_text **out)
{
    struct open_index *e = mem_zalloc(sizeof *e);
    if (!e)
        return syna_no_memory(sizeof *e);
    e->db = db;
    e->state = LOADING;
    e->next = table;
    table = e;
    pthread_mutex_unlock(&table_lock);
    syna_text *index = NULL;
    syna_rc rc = text_new(db, options, &index);
    pthread_mutex_lock(&table_lock);
    if (rc != SYNA_SUCCESS) {
        remove_entry(e);
        return rc;
    }
    e->index = *out = index;
    e->state = READY;
    e->openings = 1;
    pthread_cond_broadcast(&moved);
    return SYNA_SUCCESS;
}

static syna_rc open_locked(syna_db *db, const syna_text_options *options, syna_text **out)
{
    struct open_index *e;
    while ((e = find_db(db)) && e->state != READY)
        pthread_cond_wait(&moved, &table_lock);
    if (!e)
        return load_new(db, options, out);
    SYNA_TRY(text_reopen(e->index, options));
    e->openings++;
    *out = e->index;
    return SYNA_SUCCESS;
}

syna_rc text_handles_open(const char *path, const syna_text_options *given,
                            syna_text **out)
{
    syna_text_options options;
    syna_db *db;
    SYNA_TRY(text_options(given, &options));
    syna_db_options log = {.size = sizeof log, .no_sync = options.no_sync,
                           .read_only = options.read_only,
                           .must_exist = options.must_exist};
    SYNA_TRY(handles_open(path, &log, &db));
    /* After the database has registered its own: so that a fork takes the index's lock first, as
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

syna_rc text_handles_close(syna_text *index)
{
    pthread_mutex_lock(&table_lock);
    struct open_index *e = find_index(index);
    if (!e || e->state != READY) {
        pthread_mutex_unlock(&table_lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "the text index is not open");
    }
    syna_db *db = e->db;
    if (--e->openings == 0) {
        e->state = CLOSING;
        pthread_mutex_unlock(&table_lock);
        text_save(index);
        text_free(index);
        pthread_mutex_lock(&table_lock);
        remove_entry(e);
    }
    pthread_mutex_unlock(&table_lock);
    return handles_close(db);
}
