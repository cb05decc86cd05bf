/* T1 and T2 for hybrid stores: two files, each of which a power loss takes back to a checkpoint of its own.
 * Whatever is left of both, every key has one row, and it is the one that was covered or a later one:
 *
 *   P1, P3  a key has the value of the last operation that a flush, a save, a promotion or a closing
 *           covered, or that of a later one
 *   P5      opening never reports damage
 *   P6      a promotion and a second crash on what the first one left change nothing of that
 *
 * The broken variant at the end forgets the order of the two checkpoints, and must be caught. */
#include "check.h"

#include "crash_states.h"
#include "engine/hybrid_core.h"

#define HOT MEM_DIR "/a.gwi"
#define COLD MEM_DIR "/a.cascade"

enum { KEYS = 6, DIMS = 4, OPS = 64, GONE = -1 };

/* i<key>: ingest; b: the first three; d<key>: delete; f: flush_hot; c: save_cold; s: save; p: promote;
 * x: compact; o: close and open again. */
struct workload {
    const char *name, *script;
    uint64_t budget;
};

static const struct workload workloads[] = {
    {"promotions", "b f p i1 i4 p f i1 d2 f", 3000},
    {"replaced", "b p i1 f i1 p i1 c i2 o", 3000},
    {"deleted", "b p d1 c i1 p d1 f i2 d2 f", 3000},
    {"both layers", "b p b f d1 d2 f i1 p d1 c", 3000},
    {"tidied", "b p i1 x d1 x p i3 s", 2000},
};

struct world {
    const char *script;
    long values[KEYS][OPS]; /* after operation n */
    uint64_t ops;
    long next;
    uint64_t seed, second_states;
    bool inner, wrong_order;
};

/* ---------------------------------------------------------------- the store */

static syna_rc open_store(syna_layers **out)
{
    struct hybrid_setup setup = {.cold_path = COLD,
                                 .options = {.size = sizeof setup.options,
                                             .dimensions = DIMS,
                                             .metric = SYNA_METRIC_EUCLIDEAN,
                                             .threads = 1}};
    return hybrid_open(HOT, &setup, out);
}

static void name_of(char key[8], int number)
{
    snprintf(key, 8, "k%d", number);
}

static syna_rc put(syna_layers *store, int first, int count, const long *values)
{
    char names[KEYS][8];
    const char *keys[KEYS];
    float vectors[KEYS][DIMS];
    size_t added;
    for (int i = 0; i < count; i++) {
        name_of(names[i], first + i);
        keys[i] = names[i];
        for (int d = 0; d < DIMS; d++)
            vectors[i][d] = (float)values[i];
    }
    struct gwi_batch batch = {.keys = keys, .vectors = vectors[0], .dims = DIMS, .count = (size_t)count};
    return hybrid_ingest(store, &batch, &added);
}

static long value_of(syna_layers *store, int number)
{
    char key[8];
    float vector[DIMS];
    name_of(key, number);
    return hybrid_get(store, key, strlen(key), vector, DIMS) == SYNA_SUCCESS ? (long)vector[0] : GONE;
}

/* ---------------------------------------------------------------- recording */

static void ingest(struct world *w, syna_layers *store, int first, int count)
{
    long values[KEYS];
    for (int i = 0; i < count; i++)
        w->values[first + i][w->ops] = values[i] = w->next++;
    CHECK_OK(put(store, first, count, values));
}

static void discard(struct world *w, syna_layers *store, int number)
{
    char key[8];
    int32_t deleted;
    name_of(key, number);
    w->values[number][w->ops] = GONE;
    CHECK_OK(hybrid_delete(store, key, strlen(key), &deleted));
}

/* A promotion covers what is in the hot layer, if anything is. */
static bool promote(syna_layers *store)
{
    size_t moved;
    CHECK_OK(hybrid_promote(store, NULL, NULL, &moved));
    return moved > 0;
}

static void flush(const struct world *w, syna_layers *store)
{
    if (w->wrong_order) /* as if no deletion had been noted in the cold layer */
        store->cold_deletions = false;
    CHECK_OK(hybrid_flush_hot(store));
}

static syna_layers *step(struct world *w, syna_layers *store, const char *op)
{
    bool covered = true;
    int number = op[1] - '0';
    CHECK(w->ops + 1 < OPS);
    w->ops++;
    for (int k = 0; k < KEYS; k++)
        w->values[k][w->ops] = w->values[k][w->ops - 1];
    record_mark(MARK_BEGUN, w->ops);
    switch (op[0]) {
    case 'i':
        ingest(w, store, number, 1);
        return store;
    case 'b':
        ingest(w, store, 0, 3);
        return store;
    case 'd':
        discard(w, store, number);
        return store;
    case 'c':
        CHECK_OK(hybrid_save_cold(store));
        return store;
    case 'f':
        flush(w, store);
        break;
    case 's':
        CHECK_OK(hybrid_save(store));
        break;
    case 'p':
        covered = promote(store);
        break;
    case 'x':
        CHECK_OK(hybrid_compact(store, NULL, NULL));
        break;
    default:
        CHECK_OK(hybrid_close(store));
        CHECK_OK(open_store(&store));
    }
    if (covered)
        record_mark(MARK_DURABLE, w->ops);
    return store;
}

static struct trace *record(struct world *w, struct mem_fs *fs)
{
    syna_layers *store;
    mem_fs_use(fs);
    record_begin(&vfs_mem, MISTAKE_NONE);
    syna_test_set_vfs(&vfs_record);
    CHECK_OK(open_store(&store));
    w->ops = 0;
    for (int k = 0; k < KEYS; k++)
        w->values[k][0] = value_of(store, k);
    record_mark(MARK_DURABLE, 0);
    for (const char *at = w->script; *at; at += strcspn(at, " "), at += strspn(at, " "))
        store = step(w, store, at);
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(hybrid_close(store));
    syna_test_set_vfs(NULL);
    return trace;
}

/* ---------------------------------------------------------------- recovery */

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap);

static bool again(const struct world *w, const struct mem_fs *image, char *why, size_t cap)
{
    struct world inner = {
        .script = "p i1 d2 f p", .next = w->next + 1000, .seed = w->seed, .inner = true};
    struct crash_result result;
    struct mem_fs *fs = mem_fs_new(w->seed);
    mem_fs_copy(fs, image);
    struct trace *trace = record(&inner, fs);
    struct crash_plan plan = {trace, image, w->seed, 60, check, &inner};
    crash_enumerate(&plan, &result);
    ((struct world *)(uintptr_t)w)->second_states += result.states;
    if (result.failed)
        snprintf(why, cap, "after a second crash: %.200s", result.why);
    trace_free(trace);
    mem_fs_free(fs);
    return !result.failed;
}

static bool allowed(const struct world *w, const struct crash_point *at, int key, long found)
{
    uint64_t last = MAX(at->marks[MARK_BEGUN], at->marks[MARK_DURABLE]);
    for (uint64_t n = at->marks[MARK_DURABLE]; n <= last; n++)
        if (w->values[key][n] == found)
            return true;
    return false;
}

/* Keys, rows and what a search finds say the same. */
static bool agrees(syna_layers *store, long count, char *why, size_t cap)
{
    float query[DIMS] = {0};
    syna_layers_search_options how = {.size = sizeof how, .k = UINT64_MAX};
    syna_hit *hits, *rows;
    size_t found, listed;
    CHECK_OK(hybrid_search(store, query, 1, DIMS, &how, &hits, NULL, &found));
    CHECK_OK(hybrid_rows(store, 0, &rows, NULL, &listed));
    syna_free_hits(hits);
    syna_free_hits(rows);
    if ((long)found == count && (long)listed == count && (long)hybrid_count(store) == count)
        return true;
    snprintf(why, cap, "%ld keys have rows, a search finds %zu, %zu are listed, %llu counted", count,
             found, listed, (unsigned long long)hybrid_count(store));
    return false;
}

static bool has_allowed(const struct world *w, const struct crash_point *at, syna_layers *store,
                        long found[KEYS], char *why, size_t cap)
{
    long count = 0;
    for (int k = 0; k < KEYS; k++) {
        found[k] = value_of(store, k);
        count += found[k] != GONE;
        if (!allowed(w, at, k, found[k])) {
            snprintf(why, cap, "k%d is %ld, was %ld when all was covered", k, found[k],
                     w->values[k][at->marks[MARK_DURABLE]]);
            return false;
        }
    }
    return agrees(store, count, why, cap);
}

/* What is recovered stays: after a promotion, and after opening once more. */
static bool stays(syna_layers *store, const long found[KEYS], char *why, size_t cap)
{
    size_t moved;
    CHECK_OK(hybrid_promote(store, NULL, NULL, &moved));
    for (int k = 0; k < KEYS; k++)
        if (value_of(store, k) != found[k]) {
            snprintf(why, cap, "k%d was %ld, and is %ld after a promotion", k, found[k],
                     value_of(store, k));
            return false;
        }
    return true;
}

static bool read_back(const struct world *w, const struct crash_point *at, char *why, size_t cap)
{
    syna_layers *store;
    long found[KEYS];
    if (open_store(&store) != SYNA_SUCCESS) {
        snprintf(why, cap, "opening: %.300s", status_get()->message);
        return false;
    }
    bool good = has_allowed(w, at, store, found, why, cap) && stays(store, found, why, cap);
    CHECK_OK(hybrid_close(store));
    return good;
}

enum { AGAIN = 150 };

static bool check(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                  size_t cap)
{
    const struct world *w = context;
    struct mem_fs *before = NULL;
    if (!w->inner && at->number % AGAIN == 7) {
        before = mem_fs_new(0);
        mem_fs_copy(before, image);
    }
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    int64_t blocks = syna_test_live_blocks();
    bool good = read_back(w, at, why, cap);
    if (good && (mem_fs_open_count(image) > 0 || syna_test_live_blocks() != blocks)) {
        snprintf(why, cap, "descriptors or memory leaked");
        good = false;
    }
    if (good && mem_fs_faults(image)[0]) {
        snprintf(why, cap, "%s", mem_fs_faults(image));
        good = false;
    }
    syna_test_set_vfs(NULL);
    if (good && before)
        good = again(w, before, why, cap);
    mem_fs_free(before);
    return good;
}

static bool survives(const struct workload *workload, bool wrong_order)
{
    struct world w = {
        .script = workload->script, .seed = check_random(), .wrong_order = wrong_order};
    struct crash_result result;
    struct mem_fs *fs = mem_fs_new(w.seed);
    struct trace *trace = record(&w, fs);
    struct crash_plan plan = {trace, NULL, w.seed,
                              (uint64_t)check_rounds((int64_t)workload->budget), check, &w};
    crash_enumerate(&plan, &result);
    syna_test_set_vfs(NULL);
    printf("%-12s %6llu states at %llu points, %6llu after a second crash: %s %s\n", workload->name,
           (unsigned long long)result.states, (unsigned long long)result.prefixes,
           (unsigned long long)w.second_states, result.failed ? "fails," : "good", result.why);
    trace_free(trace);
    mem_fs_free(fs);
    return !result.failed;
}

TEST(P1_P3_P5_P6_every_key_is_there_once_after_every_crash)
{
    for (size_t i = 0; i < COUNT_OF(workloads); i++) {
        check_note("%s", workloads[i].name);
        CHECK(survives(&workloads[i], false));
    }
}

TEST(a_deletion_whose_hot_part_is_durable_first_is_noticed)
{
    const struct workload broken = {"wrong order", "b p b f d1 f d2 f", 3000};
    CHECK(survives(&broken, false));
    CHECK(!survives(&broken, true));
}
