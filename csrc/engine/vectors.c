/* vectors.c - open a vector store: take its rows from the snapshot or read them from the log; remember
 * dimensions and metric.
 *
 * A row is a Vector value under "vec/<key>"; values of other types there are not ours and left alone.
 * Halves stand in it two by two, the first in the lower half of a component (and a zero behind an odd
 * number of them): two finite halves always make a finite float, so whatever copies such values copies
 * these rows. "vec-store/config" is written in the commit of the first row. Files without it (the
 * ancestor's, or rows put with syna_put_vector) have the dimensions of their rows and take the metric as
 * given. */
#include "base/internal.h"

#include "engine/progress.h"
#include "engine/vectors_core.h"
#include "index/workers.h"

#include <float.h>
#include <math.h>

#define VECTORS_INDEX_SUFFIX ".hnsw"
#define EF_BINARY 200u    /* candidates of a search that names none, where codes are bits */
#define SNAPSHOT_SHARE 10u /* a tenth of the rows changed: the snapshot is written anew */

static const char *const metric_names[] = {"cosine", "euclidean", "dot_product"};
static const char *const codes_names[] = {"", "none", "int8", "binary"}; /* SYNA_CODES_* */
static const char *const kind_names[] = {"float32", "float16", "bfloat16"}; /* enum row_kind */

/* ---------------------------------------------------------------- what the log remembers */

size_t vectors_config_text(const syna_vectors *store, char text[VECTORS_CONFIG_ROOM])
{
    static const char *const kinds[] = {"", ",\"dtype\":\"float16\"", ",\"dtype\":\"bfloat16\""};
    static const char *const codes[] = {"", ",\"quantization\":\"none\"", "",
                                        ",\"quantization\":\"binary\""};
    return (size_t)snprintf(text, VECTORS_CONFIG_ROOM, "{\"dimensions\":%u,\"metric\":\"%s\"%s%s%s}",
                            vectors_dims(store), metric_names[vectors_metric(store)],
                            kinds[store->set.kind], codes[store->codes],
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

/* Which of the names stands there in quotes? -1: none of them. */
static int32_t name_of(const char *text, const char *const *names, size_t count)
{
    for (size_t i = 0; text && i < count; i++) {
        size_t len = strlen(names[i]);
        if (text[0] == '"' && strncmp(text + 1, names[i], len) == 0 && text[len + 1] == '"')
            return (int32_t)i;
    }
    return -1;
}

/* False: it says nothing that could be meant. */
static bool parse_config(const char *text, struct vectors_kept *out)
{
    const char *dims = config_field(text, "dimensions"), *kind = config_field(text, "dtype");
    const char *meta = config_field(text, "metadata");
    unsigned long value = dims ? strtoul(dims, NULL, 10) : 0;
    int32_t metric = name_of(config_field(text, "metric"), metric_names, COUNT_OF(metric_names));
    int32_t known = kind ? name_of(kind, kind_names, COUNT_OF(kind_names)) : ROW_FLOAT;
    const char *codes = config_field(text, "quantization");
    int32_t coded = codes ? name_of(codes, codes_names, COUNT_OF(codes_names)) : SYNA_CODES_INT8;
    *out = (struct vectors_kept){.dims = (uint32_t)value,
                                 .metric = metric,
                                 .kind = (enum row_kind)known,
                                 .codes = (uint8_t)coded,
                                 .meta = meta && strncmp(meta, "true", 4) == 0};
    return value > 0 && value <= SYNA_DIMENSIONS_MAX && metric >= 0 && known >= 0 &&
           coded > SYNA_CODES_DEFAULT;
}

void vectors_config_written(syna_vectors *store, const char *text)
{
    bool meta = store->kept.meta;
    parse_config(text, &store->kept);
    store->kept.meta |= meta;
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
    if (!parse_config(text, &store->kept))
        rc = syna_fail_at(SYNA_ERR_SERIALIZATION, SYNA_WHY_CORRUPT, db_path(store->db), -1, 0,
                          "key %s holds %.80s, expected dimensions, a metric and, if any, a dtype and a "
                          "quantization that are known",
                          VECTORS_CONFIG_KEY, text);
    mem_free(text);
    return rc == SYNA_SUCCESS && store->kept.meta ? vectors_meta_enable(store) : rc;
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
    take_default(&o->threads, workers_available());
    SYNA_TRY(check_range("m", o->m, HNSW_M_MIN, HNSW_M_MAX));
    SYNA_TRY(check_range("ef_construction", o->ef_construction, 1, HNSW_EF_MAX));
    return check_range("ef_search", o->ef_search, 0, HNSW_EF_MAX); /* 0: set when the codes are known */
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
    if (out->dtype > SYNA_ROWS_BFLOAT16)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "dtype %d, expected 0 (the file's), 1 (float32), 2 (float16) or 3 (bfloat16)",
                         out->dtype);
    if (out->quantization > SYNA_CODES_BINARY)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT,
                         "quantization %d, expected 0 (the file's), 1 (none), 2 (int8) or 3 (binary)",
                         out->quantization);
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

/* What an opening wants rows to be; `kept`: when it does not say. */
static enum row_kind kind_wanted(const syna_vectors_options *options, enum row_kind kept)
{
    return options->dtype == SYNA_ROWS_DEFAULT ? kept
                                               : (enum row_kind)(options->dtype - SYNA_ROWS_FLOAT32);
}

static uint8_t codes_wanted(const syna_vectors_options *options, uint8_t kept)
{
    return options->quantization == SYNA_CODES_DEFAULT ? kept : options->quantization;
}

/* Do rows that exist, and are as `kept` says, allow these options? */
static syna_rc check_same(const syna_vectors *store, const struct vectors_kept *kept,
                          const syna_vectors_options *options)
{
    enum row_kind wanted = kind_wanted(options, kept->kind);
    const char *path = db_path(store->db);
    if (kept->dims != options->dimensions)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "holds vectors of %u dimensions, opened with %u", kept->dims,
                            options->dimensions);
    if (kept->metric != options->metric)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its metric is %s, opened with %s", metric_names[kept->metric],
                            metric_names[options->metric]);
    if (kept->kind != wanted)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its vectors are kept as %s, opened with %s", kind_names[kept->kind],
                            kind_names[wanted]);
    if (kept->codes != codes_wanted(options, kept->codes))
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, path, -1, 0,
                            "its quantization is %s, opened with %s", codes_names[kept->codes],
                            codes_names[options->quantization]);
    return SYNA_SUCCESS;
}

/* What an opening makes of a store without rows. */
static struct vectors_kept kept_wanted(const syna_vectors_options *options,
                                       const struct vectors_kept *kept)
{
    return (struct vectors_kept){.dims = options->dimensions,
                                 .metric = options->metric,
                                 .kind = kind_wanted(options, kept->kind),
                                 .codes = codes_wanted(options, kept->codes)};
}

struct vectors_kept vectors_as_open(const syna_vectors *store)
{
    return (struct vectors_kept){.dims = vectors_dims(store),
                                 .metric = vectors_metric(store),
                                 .kind = store->set.kind,
                                 .codes = store->codes};
}

/* ---------------------------------------------------------------- opening */

struct loading {
    syna_vectors *store;
    struct progress progress;
};

static syna_rc check_first_row(const struct loading *loading, const syna_record *record)
{
    const syna_vectors *store = loading->store;
    const struct vectors_kept of_row = {.dims = (uint32_t)(record->len / sizeof(float)),
                                        .metric = store->options.metric,
                                        .codes = codes_wanted(&store->options, SYNA_CODES_INT8)};
    return check_same(store, store->kept.dims ? &store->kept : &of_row, &store->options);
}

static syna_rc check_row(const syna_vectors *store, const syna_record *record)
{
    size_t expected = vectors_row_bytes(store);
    if (record->len == expected)
        return SYNA_SUCCESS;
    return syna_fail_at(SYNA_ERR_TYPE_MISMATCH, SYNA_WHY_NONE, db_path(store->db), -1, 0,
                        "key %.*s holds a vector of %zu bytes, a row of this store has %zu (%u "
                        "dimensions, %s)",
                        (int)MIN(record->key_len, (size_t)200), record->key, record->len, expected,
                        vectors_dims(store), kind_names[store->set.kind]);
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
    SYNA_TRY(check_row(store, record));
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
    pthread_mutex_init(&store->choice_lock, NULL);
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
    if (store->kept.dims == 0)
        return syna_fail_at(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, db_path(store->db), -1, 0,
                            "0 dimensions, expected 1..%u: no vector store was made here yet",
                            SYNA_DIMENSIONS_MAX);
    store->options.dimensions = store->kept.dims;
    store->options.metric = store->kept.metric;
    return SYNA_SUCCESS;
}

static syna_rc open_into(syna_vectors *store)
{
    const syna_vectors_options *o = &store->options;
    SYNA_TRY(make_index_path(store));
    SYNA_TRY(db_view_new(store->db, &store->view));
    SYNA_TRY(read_config(store));
    SYNA_TRY(take_remembered(store));
    const struct vectors_kept as = kept_wanted(o, &store->kept);
    SYNA_TRY(vectors_rows_init(store, &as));
    take_default(&store->options.ef_search, as.codes == SYNA_CODES_BINARY ? EF_BINARY : HNSW_EF_DEFAULT);
    SYNA_TRY(hnsw_init(&store->graph, o->m, o->ef_construction));
    store->graph.search_threads = o->threads; /* stays when a build takes the graph's place */
    return load(store);
}

syna_rc vectors_new(syna_db *db, const syna_vectors_options *options, syna_vectors **out)
{
    syna_vectors *store = mem_zalloc(sizeof *store);
    if (!store)
        return syna_no_memory(sizeof *store);
    store->db = db;
    store->kept.codes = SYNA_CODES_INT8; /* unless the log says something else */
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
    pthread_mutex_destroy(&store->choice_lock);
    choice_release(store->choice);
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

/* An empty store takes other dimensions, another metric, another kind of rows. */
static syna_rc start_anew(syna_vectors *store, const struct vectors_kept *as)
{
    struct hnsw none;
    SYNA_TRY(hnsw_init(&none, store->options.m, store->options.ef_construction));
    hnsw_replace(&store->graph, &none);
    vectors_rows_dispose(store);
    store->options.dimensions = as->dims;
    store->options.metric = as->metric;
    return vectors_rows_init(store, as);
}

/* It was empty a moment ago. */
static syna_rc reopen_empty(syna_vectors *store, const syna_vectors_options *options)
{
    syna_rc rc = SYNA_SUCCESS;
    absorber_hold(store);
    pthread_mutex_lock(&store->index_lock);
    pthread_rwlock_wrlock(&store->state_lock);
    struct vectors_kept now = vectors_as_open(store), wanted = kept_wanted(options, &now);
    if (store->live_count > 0 || store->promised > 0)
        rc = check_same(store, &now, options);
    else if (now.dims != wanted.dims || now.metric != wanted.metric || now.kind != wanted.kind ||
             now.codes != wanted.codes)
        rc = start_anew(store, &wanted);
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
    struct vectors_kept now = vectors_as_open(store);
    if (!empty)
        rc = check_same(store, &now, options);
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
