/* sparse.c - open a sparse store: take its rows from the snapshot or read them from the log; remember the
 * vocabulary's size; upkeep of the index.
 *
 * A row is a Bytes value under "svs/<key>" that parses as one (sparse_row.c); other values there are not
 * ours and left alone. "svs-store/config" is written in the commit of the first row. */
#include "base/internal.h"

#include "engine/progress.h"
#include "engine/sparse_core.h"

#define SPARSE_INDEX_SUFFIX ".postings"
#define SNAPSHOT_SHARE 10u /* a tenth of the rows changed: the snapshot is written anew */
#define CONFIG_FIELD "\"vocab_size\":"

/* ---------------------------------------------------------------- what the log remembers */

size_t sparse_config_text(const syna_sparse *store, char text[SPARSE_CONFIG_ROOM])
{
    return (size_t)snprintf(text, SPARSE_CONFIG_ROOM, "{" CONFIG_FIELD "%u}", store->vocabulary);
}

static syna_rc read_config(syna_sparse *store)
{
    char *text;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(store->db, SPARSE_CONFIG_KEY, strlen(SPARSE_CONFIG_KEY),
                             SYNA_TYPE_TEXT, (void **)&text, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    const char *field = strstr(text, CONFIG_FIELD);
    unsigned long long value = field ? strtoull(field + strlen(CONFIG_FIELD), NULL, 10) : 0;
    if (value >= 1 && value <= SYNA_SPARSE_VOCABULARY_MAX)
        store->config_vocabulary = (uint32_t)value;
    else
        rc = syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(store->db), -1, 0,
                          "key %s holds %.80s, expected a vocab_size", SPARSE_CONFIG_KEY, text);
    mem_free(text);
    return rc;
}

/* ---------------------------------------------------------------- checks */

syna_rc sparse_options(const syna_sparse_options *given, syna_sparse_options *out)
{
    *out = (syna_sparse_options){.size = sizeof *out};
    if (given->size < offsetof(syna_sparse_options, no_sync))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_sparse_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    out->size = sizeof *out;
    return SYNA_SUCCESS;
}

static syna_rc check_same(const syna_sparse *store, uint32_t wanted)
{
    if (wanted == 0 || wanted == store->vocabulary)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                        "its vocabulary size is %u, opened with %u", store->vocabulary, wanted);
}

/* ---------------------------------------------------------------- opening */

struct loading {
    syna_sparse *store;
    struct progress progress;
};

static syna_rc load_row(void *context, const syna_record *record)
{
    struct loading *loading = context;
    syna_sparse *store = loading->store;
    bool added;
    if (record->key_len == SPARSE_PREFIX_LEN)
        return SYNA_SUCCESS; /* an empty key: no row of ours */
    SYNA_TRY(sparse_rows_reserve(store, 1, 0));
    SYNA_TRY(sparse_apply(store, record->key, record->key_len, &added));
    return progress_step(&loading->progress, 1);
}

static syna_rc load_from_log(syna_sparse *store)
{
    struct loading loading = {
        .store = store,
        .progress = {.ask = store->options.progress,
                     .context = store->options.context,
                     .what = "reading rows"},
    };
    store->followed = db_view_end(store->view);
    return db_newest(store->db, SPARSE_PREFIX, SPARSE_PREFIX_LEN, SYNA_TYPE_BYTES,
                     &loading.progress.total, load_row, &loading);
}

static syna_rc load(syna_sparse *store)
{
    bool loaded;
    SYNA_TRY(sparse_load_snapshot(store, &loaded));
    if (!loaded)
        SYNA_TRY(load_from_log(store));
    SYNA_TRY(sparse_follow(store));
    SYNA_TRY(check_same(store, postings_live_count(store->post) ? store->options.vocab_size : 0));
    sparse_maintain(store);
    return SYNA_SUCCESS;
}

static void init_locks(syna_sparse *store)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep writes out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&store->state_lock, &attr);
    pthread_rwlock_init(&store->change_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&store->index_lock, NULL);
}

static syna_rc make_index_path(syna_sparse *store)
{
    size_t len = strlen(db_path(store->db)) + sizeof SPARSE_INDEX_SUFFIX;
    store->index_path = mem_alloc(len);
    if (!store->index_path)
        return syna_no_memory(len);
    snprintf(store->index_path, len, "%s" SPARSE_INDEX_SUFFIX, db_path(store->db));
    return SYNA_SUCCESS;
}

/* The size of the file, or while no row was ever written the one given, or any. */
static syna_rc take_vocabulary(syna_sparse *store)
{
    uint32_t wanted = store->options.vocab_size;
    if (store->options.must_exist && !store->config_vocabulary)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "holds no sparse vector store");
    store->vocabulary = store->config_vocabulary ? store->config_vocabulary
                        : wanted                 ? wanted
                                                 : SYNA_SPARSE_VOCABULARY_MAX;
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_sparse *store)
{
    SYNA_TRY(make_index_path(store));
    SYNA_TRY(db_view_new(store->db, &store->view));
    SYNA_TRY(read_config(store));
    SYNA_TRY(take_vocabulary(store));
    SYNA_TRY(sparse_rows_init(store));
    SYNA_TRY(load(store));
    if (store->options.vocab_size && postings_live_count(store->post) == 0)
        store->vocabulary = store->options.vocab_size; /* empty: the latest opening decides */
    return SYNA_SUCCESS;
}

syna_rc sparse_new(syna_db *db, const syna_sparse_options *options, syna_sparse **out)
{
    syna_sparse *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->db = db;
    init_locks(store);
    syna_rc rc = sparse_options(options, &store->options);
    if (rc == SYNA_SUCCESS)
        rc = open_into(store);
    store->options.progress = NULL; /* was the opening's */
    if (rc == SYNA_SUCCESS)
        *out = store;
    else
        sparse_free(store);
    return rc;
}

void sparse_free(syna_sparse *store)
{
    sparse_rows_dispose(store);
    snapshot_close(store->snapshot);
    db_view_free(store->view);
    pthread_rwlock_destroy(&store->state_lock);
    pthread_rwlock_destroy(&store->change_lock);
    pthread_mutex_destroy(&store->index_lock);
    mem_free(store->index_path);
    mem_free(store);
}

syna_db *sparse_db(const syna_sparse *store)
{
    return store->db;
}

uint32_t sparse_vocabulary(syna_sparse *store)
{
    pthread_rwlock_rdlock(&store->state_lock);
    uint32_t vocabulary = store->vocabulary;
    pthread_rwlock_unlock(&store->state_lock);
    return vocabulary;
}

syna_rc sparse_reopen(syna_sparse *store, const syna_sparse_options *options)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    if (options->must_exist && !store->config_vocabulary)
        rc = syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                          "holds no sparse vector store");
    else if (postings_live_count(store->post) > 0 || store->promised > 0)
        rc = check_same(store, options->vocab_size);
    else if (options->vocab_size)
        store->vocabulary = options->vocab_size;
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

/* ---------------------------------------------------------------- saving */

/* Both locks are held. What a snapshot covers is durable before it is. */
static syna_rc save_locked(syna_sparse *store)
{
    SYNA_TRY(db_flush(store->db));
    if (store->promised > 0)
        return SYNA_SUCCESS; /* rows are under way: the next save has them */
    SYNA_TRY(sparse_follow(store));
    return sparse_save_snapshot(store);
}

static syna_rc save(syna_sparse *store, bool always)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_mutex_lock(&store->index_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    bool pays = store->changes > postings_count(store->post) / SNAPSHOT_SHARE;
    if ((pays || (always && store->changes)) && db_is_writer(store->db))
        rc = save_locked(store);
    else if (always)
        rc = db_flush(store->db);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->index_lock);
    return rc;
}

syna_rc sparse_save(syna_sparse *store)
{
    return save(store, true);
}

void sparse_close_snapshot(syna_sparse *store)
{
    struct status_record why = *status_get();
    if (save(store, false) != SYNA_SUCCESS)
        status_set(&why);
}

/* ---------------------------------------------------------------- upkeep */

/* One piece of work; false when there is none, or no memory for it. */
static bool maintain_once(syna_sparse *store)
{
    struct postings_job *job = NULL;
    pthread_rwlock_rdlock(&store->state_lock);
    if (postings_due(store->post) && postings_prepare(store->post, &job) != SYNA_SUCCESS)
        job = NULL;
    pthread_rwlock_unlock(&store->state_lock);
    if (!job)
        return false;
    pthread_rwlock_wrlock(&store->state_lock);
    postings_install(store->post, job);
    pthread_rwlock_unlock(&store->state_lock);
    return true;
}

/* The rows are written; that the index could not be brought up to date is no failure of the write: fresh
 * rows are searched all the same. */
void sparse_maintain(syna_sparse *store)
{
    struct status_record why = *status_get();
    if (pthread_mutex_trylock(&store->index_lock) != 0)
        return;
    while (maintain_once(store))
        continue;
    pthread_mutex_unlock(&store->index_lock);
    status_set(&why);
}

syna_rc sparse_flush(syna_sparse *store)
{
    return db_flush(store->db);
}

syna_rc sparse_refresh(syna_sparse *store, bool *changed)
{
    bool log_changed;
    SYNA_TRY(db_refresh(store->db, &log_changed));
    pthread_rwlock_wrlock(&store->state_lock);
    uint64_t before = store->changes;
    syna_rc rc = SYNA_SUCCESS;
    if (store->config_vocabulary == 0) { /* the writer may have begun since */
        rc = read_config(store);
        if (rc == SYNA_SUCCESS && store->config_vocabulary)
            store->vocabulary = store->config_vocabulary;
    }
    if (rc == SYNA_SUCCESS)
        rc = sparse_follow(store);
    *changed = store->changes != before;
    pthread_rwlock_unlock(&store->state_lock);
    if (rc == SYNA_SUCCESS)
        sparse_maintain(store);
    return rc;
}

/* ---------------------------------------------------------------- fork */

void sparse_before_fork(syna_sparse *store)
{
    pthread_rwlock_wrlock(&store->state_lock);
    postings_before_fork(store->post);
}

void sparse_after_fork(syna_sparse *store, bool child)
{
    postings_after_fork(store->post, child);
    if (!child) {
        pthread_rwlock_unlock(&store->state_lock);
        return;
    }
    init_locks(store);
    store->promised = 0; /* writers are not here to settle */
}
