/* handles.c - the table of open databases. A handle is in one of three states, always seen under
 * table_lock:
 *
 *     (none) --handles_open--> OPENING --> OPEN --last handles_close--> CLOSING --> (none)
 *                                 \--failure--> (none)
 *
 * Threads that want a handle that is OPENING or CLOSING wait for `moved`. No db_* function that can
 * block is called with table_lock held. Few databases are open at once, so lists do. */
#include "base/internal.h"

#include "api/handles.h"
#include "api/spellings.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "io/vfs.h"

enum handle_state { OPENING, OPEN, CLOSING };

struct handle {
    struct handle *next;
    syna_db *db;
    struct spellings paths;
    enum handle_state state;
    bool read_only, shared;
    uint32_t openings;
    uint32_t pins; /* path-keyed calls in progress */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct handle *table;
static pthread_once_t registered = PTHREAD_ONCE_INIT;

/* ---------------------------------------------------------------- fork */

static void before_fork(void)
{
    pthread_mutex_lock(&table_lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&table_lock);
}

/* Calls that other threads had in progress do not go on in the child. */
static void after_fork_child(void)
{
    for (struct handle *h = table; h; h = h->next)
        h->pins = 0;
    pthread_cond_init(&moved, NULL);
    pthread_mutex_unlock(&table_lock);
}

static void register_hooks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---------------------------------------------------------------- the list (table_lock held) */

static void unlist(struct handle *h)
{
    struct handle **at = &table;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
}

static void handle_free(struct handle *h)
{
    spellings_dispose(&h->paths);
    mem_free(h);
}

/* ---------------------------------------------------------------- opening */

static struct handle *find_for_open(const char *canonical, const struct vfs_stat *st, bool read_only)
{
    for (struct handle *h = table; h; h = h->next) {
        /* After fork() this process may open a file again that it holds a copy of. */
        if (h->read_only != read_only || (h->state == OPEN && db_is_inherited(h->db)))
            continue;
        if (strcmp(h->paths.canonical, canonical) == 0)
            return h;
        if (h->state == OPEN && st->inode && db_is_file(h->db, st->device, st->inode))
            return h;
    }
    return NULL;
}

static struct handle *handle_new(char *canonical, const syna_db_options *options)
{
    struct handle *h = mem_zalloc(sizeof *h);
    if (!h)
        return NULL;
    h->paths.canonical = canonical;
    h->state = OPENING;
    h->read_only = options && options->read_only;
    h->shared = options && options->shared;
    h->next = table;
    table = h;
    return h;
}

/* table_lock is held on entry and on return, and given back while the database opens. */
static syna_rc open_new(char *canonical, const char *path, const syna_db_options *options,
                        syna_db **out)
{
    syna_db *db = NULL;
    struct handle *h = handle_new(canonical, options);
    if (!h) {
        mem_free(canonical);
        return syna_no_memory(sizeof *h);
    }
    pthread_mutex_unlock(&table_lock);
    syna_rc rc = db_open(path, options, &db);
    pthread_mutex_lock(&table_lock);
    pthread_cond_broadcast(&moved);
    if (rc != SYNA_SUCCESS) {
        unlist(h);
        handle_free(h);
        return rc;
    }
    h->db = db;
    h->state = OPEN;
    h->openings = 1;
    spellings_add(&h->paths, path);
    *out = db;
    return SYNA_SUCCESS;
}

static syna_rc count_opening(struct handle *h, const char *path, const syna_db_options *options,
                             syna_db **out)
{
    bool shared = options && options->shared;
    if (h->shared != shared)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "already open in this process with shared=%d, now asked for with %d",
                            h->shared, shared);
    if (!options || !options->no_sync)
        db_require_sync(h->db);
    h->openings++;
    spellings_add(&h->paths, path);
    *out = h->db;
    return SYNA_SUCCESS;
}

static syna_rc open_locked(const char *path, const syna_db_options *options, syna_db **out)
{
    for (;;) {
        struct vfs_stat st = {0};
        char *canonical;
        SYNA_TRY(db_canonical_path(path, &canonical));
        syna_vfs->stat_path(canonical, &st);
        struct handle *h = find_for_open(canonical, &st, options && options->read_only);
        if (!h)
            return open_new(canonical, path, options, out);
        mem_free(canonical);
        if (h->state == OPEN)
            return count_opening(h, path, options, out);
        pthread_cond_wait(&moved, &table_lock);
    }
}

syna_rc handles_open(const char *path, const syna_db_options *options, syna_db **out)
{
    pthread_once(&registered, register_hooks);
    pthread_mutex_lock(&table_lock);
    syna_rc rc = open_locked(path, options, out);
    pthread_mutex_unlock(&table_lock);
    return rc;
}

syna_rc handles_open_shared(const char *path, const syna_db_options *options)
{
    syna_db *db;
    syna_db_options wanted = *options;
    wanted.shared = 1;
    syna_rc rc = handles_open(path, &wanted, &db);
    if (rc != SYNA_ERR_GENERIC || status_get()->reason != SYNA_WHY_ARGUMENT)
        return rc;
    wanted.shared = 0;
    return handles_open(path, &wanted, &db);
}

/* ---------------------------------------------------------------- closing */

static struct handle *find_db(const syna_db *db)
{
    struct handle *h = table;
    while (h && (h->db != db || h->state != OPEN))
        h = h->next;
    return h;
}

syna_rc handles_close(syna_db *db)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&table_lock);
    struct handle *h = find_db(db);
    if (!h) {
        pthread_mutex_unlock(&table_lock);
        return syna_fail(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, "the handle is not open");
    }
    if (--h->openings == 0) {
        h->state = CLOSING;
        while (h->pins > 0)
            pthread_cond_wait(&moved, &table_lock);
        pthread_mutex_unlock(&table_lock);
        rc = db_close(db);
        pthread_mutex_lock(&table_lock);
        unlist(h);
        handle_free(h);
        pthread_cond_broadcast(&moved);
    }
    pthread_mutex_unlock(&table_lock);
    return rc;
}

/* ---------------------------------------------------------------- one call */

static bool writes(const struct handle *h)
{
    return !h->read_only && !db_is_inherited(h->db);
}

/* Newer handles come first in the list: of two that are alike the newer one. */
static struct handle *prefer_writer(struct handle *a, struct handle *b)
{
    return !a || (!writes(a) && writes(b)) ? b : a;
}

static struct handle *find_for_call(const char *path)
{
    struct handle *found = NULL;
    if (path[0] == '/')
        for (struct handle *h = table; h; h = h->next)
            if (h->state == OPEN && spellings_have(&h->paths, path))
                found = prefer_writer(found, h);
    if (found)
        return found;

    struct vfs_stat st;
    if (syna_vfs->stat_path(path, &st) < 0)
        return NULL;
    for (struct handle *h = table; h; h = h->next)
        if (h->state == OPEN && db_is_file(h->db, st.device, st.inode))
            found = prefer_writer(found, h);
    if (found)
        spellings_add(&found->paths, path);
    return found;
}

syna_db *handles_enter(const char *path, syna_rc *code)
{
    if (!path || !utf8_valid(path, strlen(path))) {
        *code = syna_fail(SYNA_ERR_INVALID_PATH, SYNA_WHY_ARGUMENT, "the path is %s",
                          path ? "not UTF-8" : "a null pointer");
        return NULL;
    }
    pthread_mutex_lock(&table_lock);
    struct handle *h = find_for_call(path);
    if (h)
        h->pins++;
    syna_db *db = h ? h->db : NULL;
    pthread_mutex_unlock(&table_lock);
    if (!db)
        *code = syna_fail_at(SYNA_ERR_DB_NOT_FOUND, SYNA_WHY_CLOSED, path, -1, 0,
                             "not open in this process; call syna_open first");
    return db;
}

void handles_leave(syna_db *db)
{
    pthread_mutex_lock(&table_lock);
    struct handle *h = table;
    while (h && h->db != db)
        h = h->next;
    if (h && h->pins > 0 && --h->pins == 0 && h->state == CLOSING) /* 0: a forked child forgot the call */
        pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&table_lock);
}

/* The pin must be gone before the last closing, which waits for pins. handles_close knows the handle by
 * its address only while it is open, so losing a race with another closing is an error return. */
syna_rc handles_close_path(const char *path)
{
    syna_rc code = SYNA_SUCCESS;
    syna_db *db = handles_enter(path, &code);
    if (!db)
        return code;
    handles_leave(db);
    return handles_close(db);
}
