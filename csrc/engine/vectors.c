/* vectors.c - open a vector store: read its rows from the log, remember dimensions and metric.
 *
 * A row is a Vector value under "vec/<key>"; values of other types there are not ours and left alone.
 * "vec-store/config" is written in the commit of the first row. Files without it (the ancestor's, or
 * rows put with syna_put_vector) have the dimensions of their rows and take the metric as given. */
#include "base/internal.h"

#include "engine/progress.h"
#include "engine/vectors_core.h"

#include <float.h>
#include <math.h>

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};

/* ---------------------------------------------------------------- what the log remembers */

size_t vectors_config_text(const syna_vectors *store, char text[VECTORS_CONFIG_ROOM])
{
    return (size_t)snprintf(text, VECTORS_CONFIG_ROOM, "{\"dimensions\":%u,\"metric\":\"%s\"}",
                            store->flat.dims, metric_names[store->flat.metric]);
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
    mem_free(text);
    return rc;
}

/* ---------------------------------------------------------------- checks */

syna_rc vectors_options(const syna_vectors_options *given, syna_vectors_options *out)
{
    *out = (syna_vectors_options){.size = sizeof *out};
    if (given->size < offsetof(syna_vectors_options, no_sync))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "syna_vectors_options.size is %u, expected %zu", given->size, sizeof *out);
    memcpy(out, given, MIN((size_t)given->size, sizeof *out));
    if (out->dimensions < 1 || out->dimensions > SYNA_DIMENSIONS_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u dimensions, expected 1..%u",
                         out->dimensions, SYNA_DIMENSIONS_MAX);
    if (out->metric < 0 || out->metric >= (int32_t)COUNT_OF(metric_names))
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "metric %d, expected 0 (cosine), 1 (euclidean) or 2 (dot product)",
                         out->metric);
    return SYNA_SUCCESS;
}

syna_rc vectors_check_dims(const syna_vectors *store, const char *what, uint32_t dims)
{
    if (dims == store->flat.dims)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                        "the %s has %u dimensions, this store %u", what, dims, store->flat.dims);
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
    const syna_vectors_options *options;
    struct progress progress;
};

static syna_rc check_first_row(const struct loading *loading, const syna_record *record)
{
    const syna_vectors *store = loading->store;
    if (store->config_dims)
        return check_same(store, store->config_dims, store->config_metric, loading->options);
    return check_same(store, (uint32_t)(record->len / sizeof(float)), loading->options->metric,
                      loading->options);
}

static syna_rc load_row(void *context, const syna_record *record)
{
    struct loading *loading = context;
    syna_vectors *store = loading->store;
    struct row_name *name;
    bool added;
    if (record->key_len == ROW_PREFIX_LEN)
        return SYNA_SUCCESS; /* an empty key: no row of ours */
    if (store->flat.count == 0)
        SYNA_TRY(check_first_row(loading, record));
    if (record->len != store->flat.dims * sizeof(float))
        return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                            "key %.*s has %zu dimensions, the store %u",
                            (int)MIN(record->key_len, (size_t)200), record->key,
                            record->len / sizeof(float), store->flat.dims);
    SYNA_TRY(flat_reserve(&store->flat, 1));
    SYNA_TRY(vector_keys_reserve(&store->keys, 1, (size_t)store->flat.count + 1));
    SYNA_TRY(row_name_new(record->key + ROW_PREFIX_LEN, record->key_len - ROW_PREFIX_LEN, &name));
    vectors_put_row(store, name, record->data, &added);
    return progress_step(&loading->progress, 1);
}

static syna_rc load(syna_vectors *store, const syna_vectors_options *options)
{
    struct loading loading = {
        .store = store,
        .options = options,
        .progress = {.ask = options->progress, .context = options->context, .what = "reading rows"},
    };
    SYNA_TRY(read_config(store));
    return db_newest(store->db, ROW_PREFIX, ROW_PREFIX_LEN, SYNA_TYPE_VECTOR,
                     &loading.progress.total, load_row, &loading);
}

static void init_lock(syna_vectors *store)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    /* Searches one after the other must not keep inserts out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&store->state_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

syna_rc vectors_new(syna_db *db, const syna_vectors_options *options, syna_vectors **out)
{
    syna_vectors *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->db = db;
    flat_init(&store->flat, options->dimensions, options->metric);
    init_lock(store);
    syna_rc rc = load(store, options);
    if (rc == SYNA_SUCCESS)
        *out = store;
    else
        vectors_free(store);
    return rc;
}

void vectors_free(syna_vectors *store)
{
    flat_dispose(&store->flat);
    vector_keys_dispose(&store->keys);
    pthread_rwlock_destroy(&store->state_lock);
    mem_free(store);
}

syna_rc vectors_reopen(syna_vectors *store, const syna_vectors_options *options)
{
    syna_rc rc = SYNA_SUCCESS;
    pthread_rwlock_wrlock(&store->state_lock);
    struct flat *flat = &store->flat;
    if (flat->live > 0 || store->promised > 0) {
        rc = check_same(store, flat->dims, flat->metric, options);
    } else if (flat->dims != options->dimensions || flat->metric != options->metric) {
        flat_dispose(flat);
        flat_init(flat, options->dimensions, options->metric);
        vector_keys_truncate(&store->keys, 0);
    }
    pthread_rwlock_unlock(&store->state_lock);
    return rc;
}

void vectors_before_fork(syna_vectors *store)
{
    pthread_rwlock_wrlock(&store->state_lock);
}

void vectors_after_fork(syna_vectors *store, bool child)
{
    if (!child) {
        pthread_rwlock_unlock(&store->state_lock);
        return;
    }
    init_lock(store);
    store->promised = 0; /* writers are not here to settle */
}
