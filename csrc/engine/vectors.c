/* vectors.c - open a vector store: take its rows from the snapshot or read them from the log; remember
 * dimensions and metric.
 *
 * A row is a Vector value under "vec/<key>"; values of other types there are not ours and left alone.
 * "vec-store/config" is written in the commit of the first row. Files without it (the ancestor's, or
 * rows put with syna_put_vector) have the dimensions of their rows and take the metric as given. */
#include "base/internal.h"

#include "engine/progress.h"
#include "engine/vectors_core.h"
#include "index/workers.h"

#include <float.h>
#include <math.h>

#define VECTORS_INDEX_SUFFIX ".hnsw"
#define SNAPSHOT_SHARE 10u /* a tenth of the rows changed: the snapshot is written anew */

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- what the log remembers */

size_t vectors_config_text(const syna_vectors *store, char text[VECTORS_CONFIG_ROOM])
{
    return (size_t)snprintf(text, VECTORS_CONFIG_ROOM, "{\"dimensions\":%u,\"metric\":\"%s\"%s}",
                            vectors_dims(store), metric_names[vectors_metric(store)],
                            store->has_meta ? ",\"metadata\":true" : "");
}

/* The text behind `"name":`, NULL when there is none. */
static const char *config_field(const char *text, const char *name)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(text, quoted);
    return at ? at + strlen(quoted) : NULL;
}

static int32_t metric_of(const char *text)
{
    for (size_t i = 0; text && i < COUNT_OF(metric_names); i++) {
        size_t len = strlen(metric_names[i]);
        if (text[0] == '"' && strncmp(text + 1, metric_names[i], len) == 0 && text[len + 1] == '"')
            return (int32_t)i;
    }
    return -1;
}

static syna_rc read_config(syna_vectors *store)
{
    char *text;
    size_t len;
    int32_t type;
    syna_rc rc = db_get_copy(store->db, VECTORS_CONFIG_KEY, strlen(VECTORS_CONFIG_KEY),
                             SYNA_TYPE_TEXT, (void **)&text, &len, &type);
    if (rc == SYNA_ERR_KEY_NOT_FOUND)
        return SYNA_SUCCESS;
    SYNA_TRY(rc);
    const char *dims = config_field(text, "dimensions");
    unsigned long value = dims ? strtoul(dims, NULL, 10) : 0;
    store->config_dims = value <= SYNA_DIMENSIONS_MAX ? (uint32_t)value : 0;
    store->config_metric = metric_of(config_field(text, "metric"));
    if (store->config_dims == 0 || store->config_metric < 0)
        rc = syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(store->db), -1, 0,
                          "key %s holds %.80s, expected dimensions and a metric", VECTORS_CONFIG_KEY,
                          text);
    const char *meta = config_field(text, "metadata");
    store->config_meta = meta && strncmp(meta, "true", 4) == 0;
    mem_free(text);
    return rc == SYNA_SUCCESS && store->config_meta ? vectors_meta_enable(store) : rc;
}

/* ---------------------------------------------------------------- checks */

/* Zero means the default. */
static void take_default(uint32_t *option, uint32_t value)
{
    if (*option == 0)
        *option = value;
}

static syna_rc check_range(const char *name, uint32_t value, uint32_t low, uint32_t high)
{
    if (value >= low && value <= high)
        return SYNA_SUCCESS;
    return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%s is %u, expected %u..%u", name, value,
                     low, high);
}

static syna_rc check_index_options(syna_vectors_options *o)
{
    if (o->index > SYNA_INDEX_HNSW)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "index %d, expected 0 (auto), 1 (flat) or 2 (hnsw)", o->index);
    take_default(&o->m, HNSW_M_DEFAULT);
    take_default(&o->ef_construction, HNSW_EF_CONSTRUCTION_DEFAULT);
    take_default(&o->ef_search, HNSW_EF_DEFAULT);
    take_default(&o->threads, workers_available());
    SYNA_TRY(check_range("m", o->m, HNSW_M_MIN, HNSW_M_MAX));
    SYNA_TRY(check_range("ef_construction", o->ef_construction, 1, HNSW_EF_MAX));
    return check_range("ef_search", o->ef_search, 1, HNSW_EF_MAX);
}

syna_rc vectors_options(const syna_vectors_options *given, syna_vectors_options *out)
{
    *out = (syna_vectors_options){.size = sizeof *out};
    if (given->size < offsetof(syna_vectors_options, no_sync))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_vectors_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    if (out->dimensions > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u",
                         out->dimensions, SYNA_DIMENSIONS_MAX);
    if (out->metric < 0 || out->metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)",
                         out->metric);
    return check_index_options(out);
}

syna_rc vectors_check_dims(const syna_vectors *store, const char *what, uint32_t dims)
{
    if (dims == vectors_dims(store))
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                        "the %s has %u dimensions, this store %u", what, dims, vectors_dims(store));
}

syna_rc vectors_check_dims_first(syna_vectors *store, const char *what, uint32_t dims)
{
    pthread_rwlock_rdlock(&store->state_lock);
    syna_rc rc = vectors_check_dims(store, what, dims);
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

bool vectors_finite(const float *v, uint32_t dims)
{
    bool finite = true;
    for (size_t i = 0; i < dims; i++) /* no early exit: the compiler can take many at a time */
        finite &= fabsf(v[i]) <= FLT_MAX;
    return finite;
}

/* Do rows that exist allow these dimensions and this metric? */
static syna_rc check_same(const syna_vectors *store, uint32_t dims, int32_t metric,
                          const syna_vectors_options *options)
{
    const char *path = db_path(store->db);
    if (dims != options->dimensions)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "holds vectors of %u dimensions, opened with %u", dims,
                            options->dimensions);
    if (metric != options->metric)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its metric is %s, opened with %s", metric_names[metric],
                            metric_names[options->metric]);
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- opening */

struct loading {
    syna_vectors *store;
    struct progress progress;
};

static syna_rc check_first_row(const struct loading *loading, const syna_record *record)
{
    const syna_vectors *store = loading->store;
    if (store->config_dims)
        return check_same(store, store->config_dims, store->config_metric, &store->options);
    return check_same(store, (uint32_t)(record->len / sizeof(float)), store->options.metric,
                      &store->options);
}

static syna_rc load_row(void *context, const syna_record *record)
{
    struct loading *loading = context;
    syna_vectors *store = loading->store;
    bool added;
    if (record->key_len == ROW_PREFIX_LEN)
        return SYNA_SUCCESS; /* an empty key: no row of ours */
    if (store->set.count == 0)
        SYNA_TRY(check_first_row(loading, record));
    if (record->len != vectors_dims(store) * sizeof(float))
        return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                            "key %.*s has %zu dimensions, the store %u",
                            (int)MIN(record->key_len, (size_t)200), record->key,
                            record->len / sizeof(float), vectors_dims(store));
    SYNA_TRY(vectors_rows_reserve(store, 1));
    SYNA_TRY(vectors_apply(store, record->key, record->key_len, &added));
    return progress_step(&loading->progress, 1);
}

static syna_rc load_from_log(syna_vectors *store)
{
    struct loading loading = {
        .store = store,
        .progress = {.ask = store->options.progress,
                     .context = store->options.context,
                     .what = "reading rows"},
    };
    store->followed = db_view_end(store->view);
    return db_newest(store->db, ROW_PREFIX, ROW_PREFIX_LEN, SYNA_TYPE_VECTOR,
                     &loading.progress.total, load_row, &loading);
}

static syna_rc load(syna_vectors *store)
{
    bool loaded;
    SYNA_TRY(vectors_load_snapshot(store, &loaded));
    if (!loaded)
        SYNA_TRY(load_from_log(store));
    SYNA_TRY(vectors_follow(store));
    return vectors_maintain(store);
}

static void init_locks(syna_vectors *store)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep inserts out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&store->state_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&store->index_lock, NULL);
    pthread_mutex_init(&store->update_lock, NULL);
}

static syna_rc make_index_path(syna_vectors *store)
{
    size_t len = strlen(db_path(store->db)) + sizeof VECTORS_INDEX_SUFFIX;
    store->index_path = mem_alloc(len);
    if (!store->index_path)
        return syna_no_memory(len);
    snprintf(store->index_path, len, "%s" VECTORS_INDEX_SUFFIX, db_path(store->db));
    return SYNA_SUCCESS;
}

/* No dimensions were given: those of the file. */
static syna_rc take_remembered(syna_vectors *store)
{
    if (store->options.dimensions > 0)
        return SYNA_SUCCESS;
    if (store->config_dims == 0)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "0 dimensions, expected 1..%u: no vector store was made here yet",
                            SYNA_DIMENSIONS_MAX);
    store->options.dimensions = store->config_dims;
    store->options.metric = store->config_metric;
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_vectors *store)
{
    const syna_vectors_options *o = &store->options;
    SYNA_TRY(make_index_path(store));
    SYNA_TRY(db_view_new(store->db, &store->view));
    SYNA_TRY(read_config(store));
    SYNA_TRY(take_remembered(store));
    SYNA_TRY(vectors_rows_init(store, o->dimensions, o->metric));
    SYNA_TRY(hnsw_init(&store->graph, o->m, o->ef_construction));
    return load(store);
}

syna_rc vectors_new(syna_db *db, const syna_vectors_options *options, syna_vectors **out)
{
    syna_vectors *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->db = db;
    init_locks(store);
    syna_rc rc = vectors_options(options, &store->options);
    absorber_init(&store->absorber, !store->options.no_absorber && !store->options.read_only);
    if (rc == SYNA_SUCCESS)
        rc = open_into(store);
    store->options.progress = NULL; /* was the opening's */
    if (rc == SYNA_SUCCESS)
        *out = store;
    else
        vectors_free(store);
    return rc;
}

void vectors_free(syna_vectors *store)
{
    absorber_dispose(store);
    vectors_rows_dispose(store);
    hnsw_dispose(&store->graph);
    snapshot_close(store->snapshot);
    db_view_free(store->view);
    pthread_rwlock_destroy(&store->state_lock);
    pthread_mutex_destroy(&store->index_lock);
    pthread_mutex_destroy(&store->update_lock);
    buf_dispose(&store->row_name);
    buf_dispose(&store->meta_name);
    buf_dispose(&store->meta_plain);
    mem_free(store->index_path);
    mem_free(store);
}

/* Reading the rows again takes a microsecond or two each; writing all of them to save that for a few is
 * no gain. */
static bool snapshot_pays(const syna_vectors *store)
{
    return vectors_trained(store) && store->changes > store->set.count / SNAPSHOT_SHARE;
}

void vectors_save(syna_vectors *store)
{
    struct status_record why = *status_get();
    absorber_hold(store);
    pthread_mutex_lock(&store->index_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    /* What a snapshot covers is durable before it is; a handle that may not write cannot flush. */
    if (store->promised == 0 && snapshot_pays(store) && db_flush(store->db) == SYNA_SUCCESS &&
        vectors_follow(store) == SYNA_SUCCESS)
        vectors_save_snapshot(store);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->index_lock);
    absorber_release(store);
    status_set(&why);
}

/* An empty store takes other dimensions and another metric. */
static syna_rc start_anew(syna_vectors *store, const syna_vectors_options *options)
{
    struct hnsw none;
    SYNA_TRY(hnsw_init(&none, store->options.m, store->options.ef_construction));
    hnsw_replace(&store->graph, &none);
    vectors_rows_dispose(store);
    store->options.dimensions = options->dimensions;
    store->options.metric = options->metric;
    return vectors_rows_init(store, options->dimensions, options->metric);
}

/* It was empty a moment ago. */
static syna_rc reopen_empty(syna_vectors *store, const syna_vectors_options *options)
{
    syna_rc rc = SYNA_SUCCESS;
    absorber_hold(store);
    pthread_mutex_lock(&store->index_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    if (store->live_count > 0 || store->promised > 0)
        rc = check_same(store, vectors_dims(store), vectors_metric(store), options);
    else if (vectors_dims(store) != options->dimensions || vectors_metric(store) != options->metric)
        rc = start_anew(store, options);
    pthread_rwlock_unlock(&store->state_lock);
    pthread_mutex_unlock(&store->index_lock);
    absorber_resume(store);
    return rc;
}

syna_rc vectors_reopen(syna_vectors *store, const syna_vectors_options *options)
{
    syna_rc rc = SYNA_SUCCESS;
    if (options->dimensions == 0)
        return SYNA_SUCCESS; /* as they are */
    pthread_rwlock_rdlock(&store->state_lock);
    bool empty = store->live_count == 0 && store->promised == 0;
    if (!empty)
        rc = check_same(store, vectors_dims(store), vectors_metric(store), options);
    pthread_rwlock_unlock(&store->state_lock);
    return empty ? reopen_empty(store, options) : rc;
}

syna_rc vectors_refresh(syna_vectors *store, bool *changed)
{
    bool log_changed;
    SYNA_TRY(db_refresh(store->db, &log_changed));
    pthread_rwlock_wrlock(&store->state_lock);
    uint64_t before = store->changes;
    syna_rc rc = vectors_follow(store);
    *changed = store->changes != before;
    pthread_rwlock_unlock(&store->state_lock);
    return rc == SYNA_SUCCESS ? vectors_maintain(store) : rc;
}

/* ---------------------------------------------------------------- fork */

void vectors_before_fork(syna_vectors *store)
{
    /* A graph that is being built, by the absorber or a caller, touches nothing of the store before it
     * takes this lock, too. */
    pthread_rwlock_wrlock(&store->state_lock);
    pthread_mutex_lock(&store->graph.idle_lock);
}

void vectors_after_fork(syna_vectors *store, bool child)
{
    pthread_mutex_unlock(&store->graph.idle_lock);
    pthread_rwlock_unlock(&store->state_lock);
    if (!child)
        return;
    /* Made anew all the same: threads that are not here may have waited for them, or held others. */
    init_locks(store);
    absorber_init(&store->absorber, store->absorber.on); /* its thread is not here */
    pthread_mutex_init(&store->graph.idle_lock, NULL);
    store->kept_view = NULL;
    store->promised = store->meta_rows = store->meta_bytes = 0; /* writers are not here to settle */
}
