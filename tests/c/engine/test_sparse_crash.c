/* T1 for sparse vector stores: whatever a power loss leaves of the log and of the saved index, every key has
 * the row of the last operation that a flush, a save or a closing covered, or of a later one, and the
 * index says the same as the rows:
 *
 *   P1, P3  no acknowledged and flushed row is lost, no row is there twice
 *   P4      a batch is there whole or not at all
 *   P5      opening never reports damage
 *
 * The broken variant at the end says that rows are flushed when they are not, and must be caught. */
#include "check.h"

#include "crash_states.h"
#include "engine/sparse.h"

#define LOG MEM_DIR "/a.svs"

enum { KEYS = 6, BATCH = 3, OPS = 64, GONE = -1, TERM = 7 };

/* i<key>: index; b: the first three in one call; d<key>: delete; f: flush; s: save; o: close and open. */
struct workload {
    const char *name, *script;
    uint64_t budget;
};

static const struct workload workloads[] = {
    {"rows", "i1 i2 f i1 d2 f i3", 3000},
    {"batches", "b f b i1 f b", 3000},
    {"saved", "b s i1 d2 s i4 f", 3000},
    {"reopened", "b o i1 d0 o b d1", 3000},
};

struct world {
    const char *script;
    long values[KEYS][OPS]; /* after operation n */
    uint64_t ops;
    long next;
    bool forgets_to_flush;
};

struct open_store {
    syna_db *db;
    syna_sparse *store;
};

/* ---------------------------------------------------------------- the store */

static syna_rc open_store(struct open_store *o)
{
    syna_sparse_options options = {.size = sizeof options, .vocab_size = 100};
    syna_db_options log = {.size = sizeof log, .no_sync = 1};
    SYNA_TRY(db_open(LOG, &log, &o->db));
    syna_rc rc = sparse_new(o->db, &options, &o->store);
    if (rc != SYNA_SUCCESS) {
        struct status_record why = *status_get();
        db_close(o->db);
        return status_set(&why);
    }
    return rc;
}

static void close_store(struct open_store *o)
{
    sparse_close_snapshot(o->store);
    sparse_free(o->store);
    CHECK_OK(db_close(o->db));
}

static void name_of(char key[8], int number)
{
    snprintf(key, 8, "k%d", number);
}

/* Rows of one term each, whose weight is the value. */
static void put(syna_sparse *store, int first, int count, const long *values)
{
    char names[KEYS][8];
    const char *keys[KEYS];
    uint32_t terms[KEYS];
    float weights[KEYS];
    uint64_t offsets[KEYS + 1] = {0};
    size_t added;
    for (int i = 0; i < count; i++) {
        name_of(names[i], first + i);
        keys[i] = names[i];
        terms[i] = TERM;
        weights[i] = (float)values[i];
        offsets[i + 1] = (uint64_t)i + 1;
    }
    syna_sparse_rows rows = {.size = sizeof rows, .count = (uint64_t)count, .offsets = offsets,
                             .terms = terms, .weights = weights, .keys = keys};
    CHECK_OK(sparse_index(store, &rows, &added, NULL));
}

/* What a search finds, by key; the number of hits. */
static size_t search_all(syna_sparse *store, long found[KEYS])
{
    uint64_t offsets[2] = {0, 1};
    uint32_t term = TERM;
    float weight = 1;
    syna_sparse_hit *hits = NULL;
    size_t count;
    syna_sparse_rows query = {
        .size = sizeof query, .count = 1, .offsets = offsets, .terms = &term, .weights = &weight};
    syna_sparse_search how = {.size = sizeof how, .k = UINT64_MAX};
    for (int k = 0; k < KEYS; k++)
        found[k] = GONE;
    CHECK_OK(sparse_search(store, &query, &how, &hits, &count));
    for (size_t i = 0; i < count; i++) {
        int number = hits[i].key[1] - '0';
        CHECK(hits[i].key_len == 2 && number >= 0 && number < KEYS);
        CHECK_EQ(found[number], GONE);
        found[number] = (long)hits[i].score;
    }
    syna_free_sparse_hits(hits);
    return count;
}

/* ---------------------------------------------------------------- recording */

static void write_rows(struct world *w, syna_sparse *store, int first, int count)
{
    long values[KEYS];
    for (int i = 0; i < count; i++)
        w->values[first + i][w->ops] = values[i] = w->next++;
    put(store, first, count, values);
}

static void discard(struct world *w, syna_sparse *store, int number)
{
    char key[8];
    int32_t deleted;
    name_of(key, number);
    w->values[number][w->ops] = GONE;
    CHECK_OK(sparse_delete(store, key, strlen(key), &deleted));
}

static void step(struct world *w, struct open_store *o, const char *op)
{
    int number = op[1] - '0';
    CHECK(w->ops + 1 < OPS);
    w->ops++;
    for (int k = 0; k < KEYS; k++)
        w->values[k][w->ops] = w->values[k][w->ops - 1];
    record_mark(MARK_BEGUN, w->ops);
    switch (op[0]) {
    case 'i':
        write_rows(w, o->store, number, 1);
        return;
    case 'b':
        write_rows(w, o->store, 0, BATCH);
        return;
    case 'd':
        discard(w, o->store, number);
        return;
    case 'f':
        if (!w->forgets_to_flush)
            CHECK_OK(sparse_flush(o->store));
        break;
    case 's':
        CHECK_OK(sparse_save(o->store));
        CHECK_OK(sparse_flush(o->store));
        break;
    default:
        close_store(o);
        CHECK_OK(open_store(o));
    }
    record_mark(MARK_DURABLE, w->ops);
}

static struct trace *record(struct world *w, struct mem_fs *fs)
{
    struct open_store o;
    mem_fs_use(fs);
    record_begin(&vfs_mem, MISTAKE_NONE);
    syna_test_set_vfs(&vfs_record);
    CHECK_OK(open_store(&o));
    w->next = 1;
    search_all(o.store, (long[KEYS]){0});
    for (int k = 0; k < KEYS; k++)
        w->values[k][0] = GONE;
    record_mark(MARK_DURABLE, 0);
    for (const char *at = w->script; *at; at += strcspn(at, " "), at += strspn(at, " "))
        step(w, &o, at);
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    close_store(&o);
    syna_test_set_vfs(NULL);
    return trace;
}

/* ---------------------------------------------------------------- recovery */

/* The log is a prefix of what was written: the state after one of the operations that may be there. */
static bool is_state(const struct world *w, uint64_t op, const long found[KEYS])
{
    for (int k = 0; k < KEYS; k++)
        if (w->values[k][op] != found[k])
            return false;
    return true;
}

static bool has_allowed(const struct world *w, const struct crash_point *at, syna_sparse *store,
                        char *why, size_t cap)
{
    long found[KEYS];
    size_t count = search_all(store, found);
    if (count != sparse_count(store)) {
        snprintf(why, cap, "a search finds %zu rows, %llu are counted", count,
                 (unsigned long long)sparse_count(store));
        return false;
    }
    uint64_t last = MAX(at->marks[MARK_BEGUN], at->marks[MARK_DURABLE]);
    for (uint64_t n = at->marks[MARK_DURABLE]; n <= last; n++)
        if (is_state(w, n, found))
            return true;
    snprintf(why, cap, "k0..k5 are %ld %ld %ld %ld %ld %ld: no state from operation %llu on", found[0],
             found[1], found[2], found[3], found[4], found[5],
             (unsigned long long)at->marks[MARK_DURABLE]);
    return false;
}

static bool read_back(const struct world *w, const struct crash_point *at, char *why, size_t cap)
{
    for (int round = 0; round < 2; round++) { /* what is recovered stays */
        struct open_store o;
        if (open_store(&o) != SYNA_SUCCESS) {
            snprintf(why, cap, "opening: %.300s", status_get()->message);
            return false;
        }
        bool good = has_allowed(w, at, o.store, why, cap);
        close_store(&o);
        if (!good)
            return false;
    }
    return true;
}

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap)
{
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    int64_t blocks = syna_test_live_blocks();
    bool good = read_back(context, at, why, cap);
    if (good && (mem_fs_open_count(image) > 0 || syna_test_live_blocks() != blocks)) {
        snprintf(why, cap, "descriptors or memory leaked");
        good = false;
    }
    if (good && mem_fs_faults(image)[0]) {
        snprintf(why, cap, "%s", mem_fs_faults(image));
        good = false;
    }
    syna_test_set_vfs(NULL);
    return good;
}

static bool survives(const struct workload *workload, bool forgets_to_flush)
{
    struct world w = {.script = workload->script, .forgets_to_flush = forgets_to_flush};
    uint64_t seed = check_random();
    struct mem_fs *fs = mem_fs_new(seed);
    struct trace *trace = record(&w, fs);
    bool good = crash_survives(workload->name, trace, seed,
                               (uint64_t)check_rounds((int64_t)workload->budget), check, &w);
    trace_free(trace);
    mem_fs_free(fs);
    return good;
}

TEST(P1_P3_P4_P5_every_row_is_there_once_after_every_crash)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        check_note("%s", workloads[i].name);
        CHECK(survives(&workloads[i], false));
    }
}

TEST(rows_that_are_not_flushed_are_noticed)
{
    CHECK(!survives(&workloads[0], true));
}
