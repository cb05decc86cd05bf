/* 1,000 rounds of races and crashes on a hybrid store, against a model. In each round five threads work on
 * one store: two write (each has keys of its own, so the model knows their order), one promotes, one makes
 * durable, one searches. Then the power fails at some moment of that, and what is left is opened.
 *
 *   while they race   a search shows every key at most once, with a value that the key had at some moment of
 *                     the search, and with the metadata that were stored with it; a key that is never
 *                     missing is never missed
 *   after the race    every key has the value of its last write
 *   after the crash   every key has one row: of what was covered, or of a later write; opening reports no
 *                     damage; a promotion and the next round, which begins with these files, change nothing
 *
 * The file system is in memory (vfs_mem.h), the crash one of those of crash_states.h. $CHECK_SCALE makes it
 * more rounds. The broken variant at the end does not sync, and must be caught. */
#include "check.h"

#include "base/rng.h"
#include "crash_states.h"
#include "engine/hybrid_core.h"

#include <sched.h>

#define HOT MEM_DIR "/a.gwi"
#define COLD MEM_DIR "/a.cascade"

enum {
    WRITERS = 2,
    OWNED = 5,                   /* keys of one writer */
    KEYS = WRITERS * OWNED + 2,  /* the last two are written before the race only */
    DIMS = 4,
    STEPS = 8,                   /* of one writer in a round */
    VALUES = STEPS * OWNED + 2,  /* that a key can have in a round */
    LOG = KEYS * VALUES,
    SNAPS = 64,
    CHAIN = 12,                  /* rounds, each on what the crash of the one before left */
    GONE = -1
};

/* What a key had, oldest first. The first is what it had when the round began. */
struct history {
    long values[VALUES];
    uint32_t begun, acked; /* atomic: of them */
};

struct world {
    syna_layers *store;
    struct history keys[KEYS];
    pthread_mutex_t lock; /* of what follows */
    uint8_t log[LOG];     /* the keys of the writes, in the order in which they began */
    uint32_t log_count;
    uint32_t covered[SNAPS][KEYS]; /* how many values of a key are durable at least */
    uint32_t snaps;
    long next;        /* atomic: value */
    uint32_t crossed; /* atomic: keys that changed while a search went on */
    uint32_t absent;  /* atomic: threads that the race waits for */
};

/* One thread of a round. */
struct worker {
    struct world *world;
    void *(*work)(void *);
    uint64_t random;
    int first; /* key of a writer */
};

static uint32_t roll(struct worker *w, uint32_t sides)
{
    return (uint32_t)(rng_next(&w->random) >> 33) % sides;
}

/* Threads meet at other places in each round. */
static void wander(struct worker *w)
{
    uint32_t how = roll(w, 6);
    if (how == 0)
        usleep(1);
    else if (how < 4)
        sched_yield();
}

/* ---------------------------------------------------------------- the store */

static syna_rc open_store(uint64_t promote_rows, syna_layers **out)
{
    struct hybrid_setup setup = {.cold_path = COLD,
                                 .options = {.size = sizeof setup.options,
                                             .dimensions = DIMS,
                                             .metric = SYNA_METRIC_EUCLIDEAN,
                                             .threads = 1,
                                             .promote_rows = promote_rows}};
    return hybrid_open(HOT, &setup, out);
}

static void name_of(char key[8], int number)
{
    snprintf(key, 8, "k%d", number);
}

static syna_rc put(syna_layers *store, int first, int count, long value)
{
    char names[KEYS][8], metadata[32];
    const char *keys[KEYS], *metas[KEYS];
    float vectors[KEYS][DIMS];
    size_t added;
    snprintf(metadata, sizeof metadata, "{\"v\":%ld}", value);
    for (int i = 0; i < count; i++) {
        name_of(names[i], first + i);
        keys[i] = names[i];
        metas[i] = metadata;
        for (int d = 0; d < DIMS; d++)
            vectors[i][d] = (float)value;
    }
    struct gwi_batch batch = {.keys = keys,
                              .vectors = vectors[0],
                              .metadata = metas,
                              .dims = DIMS,
                              .count = (size_t)count};
    return hybrid_ingest(store, &batch, &added);
}

static long value_of(syna_layers *store, int number)
{
    char key[8];
    float vector[DIMS];
    name_of(key, number);
    syna_rc rc = hybrid_get(store, key, strlen(key), vector, DIMS);
    if (rc != SYNA_SUCCESS)
        CHECK_RC(rc, SYNA_ERR_KEY_NOT_FOUND);
    return rc == SYNA_SUCCESS ? (long)vector[0] : GONE;
}

/* The values of all keys as one search shows them. false: a key twice, or a row whose metadata are not
 * its own. */
static bool search_all(syna_layers *store, long found[KEYS])
{
    float query[DIMS] = {0};
    char expected[32];
    size_t count;
    syna_hit *hits;
    bool good = true;
    syna_layers_search_options how = {
        .size = sizeof how, .k = UINT64_MAX, .flags = SYNA_SEARCH_VECTORS | SYNA_SEARCH_METADATA};
    for (int k = 0; k < KEYS; k++)
        found[k] = GONE;
    CHECK_OK(hybrid_search(store, query, 1, DIMS, &how, &hits, NULL, &count));
    for (size_t i = 0; i < count; i++) {
        long key = strtol(hits[i].key + 1, NULL, 10);
        CHECK(key >= 0 && key < KEYS);
        snprintf(expected, sizeof expected, "{\"v\":%ld}", (long)hits[i].vector[0]);
        good &= found[key] == GONE && hits[i].metadata && strcmp(hits[i].metadata, expected) == 0;
        found[key] = (long)hits[i].vector[0];
    }
    syna_free_hits(hits);
    return good;
}

/* ---------------------------------------------------------------- writers */

static void begin(struct world *w, int key, long value)
{
    struct history *h = &w->keys[key];
    uint32_t n = h->begun;
    CHECK(n < VALUES && w->log_count < LOG);
    h->values[n] = value;
    __atomic_store_n(&h->begun, n + 1, __ATOMIC_RELEASE);
    w->log[w->log_count++] = (uint8_t)key;
}

static void begin_all(struct world *w, int first, int count, long value)
{
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < count; i++)
        begin(w, first + i, value);
    record_mark(MARK_BEGUN, w->log_count);
    pthread_mutex_unlock(&w->lock);
}

static void acknowledge(struct world *w, int first, int count)
{
    for (int i = 0; i < count; i++) {
        struct history *h = &w->keys[first + i];
        __atomic_store_n(&h->acked, h->begun, __ATOMIC_RELEASE);
    }
}

static void write_step(struct worker *me)
{
    struct world *w = me->world;
    char name[8];
    int32_t deleted;
    int key = me->first + (int)roll(me, OWNED), count = 1;
    uint32_t what = roll(me, 8);
    long value = what < 3 ? GONE : __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    if (what == 7) {
        key = me->first;
        count = OWNED;
    }
    begin_all(w, key, count, value);
    name_of(name, key);
    if (what < 3)
        CHECK_OK(hybrid_delete(w->store, name, strlen(name), &deleted));
    else
        CHECK_OK(put(w->store, key, count, value));
    acknowledge(w, key, count);
}

/* The vector stays, so the value does; the row is a new one. */
static void touch(struct worker *me)
{
    char name[8], metadata[32];
    int key = me->first + (int)roll(me, OWNED);
    const struct history *h = &me->world->keys[key];
    long value = h->values[h->begun - 1];
    name_of(name, key);
    snprintf(metadata, sizeof metadata, "{\"v\":%ld}", value);
    syna_rc rc = hybrid_update_metadata(me->world->store, name, strlen(name), metadata,
                                        strlen(metadata), true);
    CHECK_RC(rc, value == GONE ? SYNA_ERR_KEY_NOT_FOUND : SYNA_SUCCESS);
}

static void *writes(void *context)
{
    struct worker *me = context;
    for (int n = 0; n < STEPS; n++) {
        if (roll(me, 8) == 0)
            touch(me);
        else
            write_step(me);
        wander(me);
    }
    return NULL;
}

/* ---------------------------------------------------------------- what moves, what covers */

/* The recording table, whose syncs take a moment and whose stores, some of them, give way: the threads meet
 * in the middle of calls too. */
static struct vfs slow;

static int slow_sync(vfs_fd fd)
{
    usleep(1); /* about a twentieth of a millisecond in truth */
    return vfs_record.sync_data(fd);
}

static void slow_store(vfs_fd fd, uint64_t offset, const void *bytes, size_t len)
{
    static uint32_t stores;
    vfs_record.note_store(fd, offset, bytes, len);
    if (__atomic_add_fetch(&stores, 1, __ATOMIC_RELAXED) % 5 == 0)
        sched_yield();
}

static void use_slow(void)
{
    slow = vfs_record;
    slow.sync_data = slow_sync;
    slow.note_store = slow_store;
    syna_test_set_vfs(&slow);
}

static void note_acked(struct world *w, uint32_t acked[KEYS])
{
    for (int k = 0; k < KEYS; k++)
        acked[k] = __atomic_load_n(&w->keys[k].acked, __ATOMIC_ACQUIRE);
}

/* What was acknowledged before a call that has returned now is durable. */
static void cover(struct world *w, const uint32_t acked[KEYS])
{
    pthread_mutex_lock(&w->lock);
    uint32_t n = w->snaps++;
    CHECK(n + 1 < SNAPS);
    for (int k = 0; k < KEYS; k++)
        w->covered[n + 1][k] = MAX(w->covered[n][k], acked[k]);
    record_mark(MARK_DURABLE, n + 1);
    pthread_mutex_unlock(&w->lock);
}

static void *promotes(void *context)
{
    struct worker *me = context;
    uint32_t acked[KEYS];
    for (int n = 0; n < 3; n++) {
        size_t moved = 1;
        wander(me);
        note_acked(me->world, acked);
        if (roll(me, 8) == 0)
            CHECK_OK(hybrid_compact(me->world->store, NULL, NULL));
        else
            CHECK_OK(hybrid_promote(me->world->store, NULL, NULL, &moved));
        if (moved)
            cover(me->world, acked);
    }
    return NULL;
}

static void *covers(void *context)
{
    struct worker *me = context;
    syna_layers *store = me->world->store;
    uint32_t acked[KEYS];
    for (int n = 0; n < 3; n++) {
        uint32_t how = roll(me, 4);
        wander(me);
        note_acked(me->world, acked);
        CHECK_OK(how == 0   ? hybrid_save_cold(store)
                 : how == 1 ? hybrid_save(store)
                            : hybrid_flush_hot(store));
        if (how != 0)
            cover(me->world, acked);
    }
    return NULL;
}

/* ---------------------------------------------------------------- searching */

static bool had(const struct history *h, uint32_t from, uint32_t end, long value)
{
    for (uint32_t n = from; n < end; n++)
        if (h->values[n] == value)
            return true;
    return false;
}

static void *searches(void *context)
{
    struct worker *me = context;
    struct world *w = me->world;
    for (int n = 0; n < 6; n++) {
        uint32_t acked[KEYS];
        long found[KEYS];
        note_acked(w, acked);
        CHECK(search_all(w->store, found));
        for (int k = 0; k < KEYS; k++) {
            uint32_t begun = __atomic_load_n(&w->keys[k].begun, __ATOMIC_ACQUIRE);
            check_note("k%d", k);
            CHECK(had(&w->keys[k], acked[k] - 1, begun, found[k]));
            if (begun > acked[k])
                __atomic_add_fetch(&w->crossed, 1, __ATOMIC_RELAXED);
        }
        int k = (int)roll(me, KEYS);
        uint32_t from = __atomic_load_n(&w->keys[k].acked, __ATOMIC_ACQUIRE) - 1;
        long value = value_of(w->store, k);
        CHECK(had(&w->keys[k], from, __atomic_load_n(&w->keys[k].begun, __ATOMIC_ACQUIRE), value));
        wander(me);
    }
    return NULL;
}

/* ---------------------------------------------------------------- one round */

/* Counts, the list and a search say the same as the look-ups. */
static bool agrees(syna_layers *store, const long values[KEYS], char *why, size_t cap)
{
    long found[KEYS], count = 0;
    syna_hit *rows;
    size_t listed;
    bool good = search_all(store, found);
    CHECK_OK(hybrid_rows(store, 0, &rows, NULL, &listed));
    syna_free_hits(rows);
    for (int k = 0; k < KEYS; k++) {
        count += values[k] != GONE;
        good &= values[k] == found[k] && values[k] == value_of(store, k);
    }
    good &= (long)listed == count && (long)hybrid_count(store) == count;
    if (!good)
        snprintf(why, cap, "%ld keys, %zu are listed, %llu counted, or a search shows others", count,
                 listed, (unsigned long long)hybrid_count(store));
    return good;
}

static void start_round(struct world *w, const long values[KEYS])
{
    w->log_count = w->snaps = 0;
    for (int k = 0; k < KEYS; k++) {
        w->keys[k].values[0] = values[k];
        w->keys[k].begun = w->keys[k].acked = w->covered[0][k] = 1;
    }
}

static void *runs(void *context)
{
    struct worker *me = context;
    __atomic_sub_fetch(&me->world->absent, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&me->world->absent, __ATOMIC_ACQUIRE))
        sched_yield();
    return me->work(me);
}

static void race(struct world *w, uint64_t seed)
{
    void *(*const work[])(void *) = {writes, writes, promotes, covers, searches};
    pthread_t threads[COUNT_OF(work)];
    struct worker workers[COUNT_OF(work)];
    w->absent = COUNT_OF(work);
    for (size_t i = 0; i < COUNT_OF(work); i++) {
        workers[i] = (struct worker){w, work[i], rng_next(&seed), (int)i * OWNED};
        CHECK_EQ(pthread_create(&threads[i], NULL, runs, &workers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(work); i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void last_values(const struct world *w, long values[KEYS])
{
    for (int k = 0; k < KEYS; k++)
        values[k] = w->keys[k].values[w->keys[k].begun - 1];
}

/* The race, recorded. Every other store promotes by itself too, every third one is closed in the end. */
static struct trace *record(struct world *w, struct mem_fs *fs, uint64_t seed,
                            enum record_mistake mistake)
{
    long values[KEYS];
    uint32_t acked[KEYS];
    char why[256] = "";
    mem_fs_use(fs);
    record_begin(&vfs_mem, mistake);
    use_slow();
    CHECK_OK(open_store(seed % 2 ? 6 : 0, &w->store));
    race(w, seed);
    promoter_stop(&w->store->promoter);
    last_values(w, values);
    CHECK(agrees(w->store, values, why, sizeof why));
    if (seed % 3 == 0) {
        note_acked(w, acked);
        CHECK_OK(hybrid_close(w->store));
        cover(w, acked);
    }
    struct trace *trace = record_end();
    syna_test_set_vfs(&vfs_mem);
    if (seed % 3)
        CHECK_OK(hybrid_close(w->store));
    syna_test_set_vfs(NULL);
    return trace;
}

/* ---------------------------------------------------------------- the crash */

static uint64_t last_mark(const struct trace *trace, size_t prefix, int32_t mark)
{
    uint64_t value = 0;
    for (size_t i = 0; i < prefix; i++)
        if (trace->effects[i].kind == EFFECT_MARK && trace->effects[i].mark == mark)
            value = trace->effects[i].value;
    return value;
}

/* What each key may have: values [first, end) of its history. */
static bool is_allowed(const struct world *w, uint64_t begun, uint64_t covered,
                       const long found[KEYS], char *why, size_t cap)
{
    for (int k = 0; k < KEYS; k++) {
        uint32_t end = 1;
        for (uint64_t n = 0; n < begun; n++)
            end += w->log[n] == k;
        if (had(&w->keys[k], w->covered[covered][k] - 1, end, found[k]))
            continue;
        snprintf(why, cap, "k%d is %ld, was %ld when all was covered", k, found[k],
                 w->keys[k].values[w->covered[covered][k] - 1]);
        return false;
    }
    return true;
}

/* Open what is left in `image`, which the next round goes on with. */
static bool recover(const struct world *w, uint64_t begun, uint64_t covered, long found[KEYS],
                    char *why, size_t cap)
{
    syna_layers *store;
    size_t moved;
    if (open_store(0, &store) != SYNA_SUCCESS) {
        snprintf(why, cap, "opening: %.200s", status_get()->message);
        return false;
    }
    for (int k = 0; k < KEYS; k++)
        found[k] = value_of(store, k);
    bool good = is_allowed(w, begun, covered, found, why, cap) && agrees(store, found, why, cap);
    if (good && begun % 2) {
        CHECK_OK(hybrid_promote(store, NULL, NULL, &moved));
        good = agrees(store, found, why, cap);
    }
    CHECK_OK(hybrid_close(store));
    return good;
}

static bool crash(const struct world *w, const struct trace *trace, const struct mem_fs *start,
                  uint64_t seed, struct mem_fs *image, long found[KEYS], char *why, size_t cap)
{
    size_t prefix = (size_t)(rng_next(&seed) % (trace->count + 1));
    struct trace part = {.effects = trace->effects, .count = prefix};
    uint64_t begun = last_mark(trace, prefix, MARK_BEGUN);
    uint64_t covered = last_mark(trace, prefix, MARK_DURABLE);
    crash_sample(&part, start, rng_next(&seed), image);
    mem_fs_set_pid(image, 4711);
    mem_fs_use(image);
    syna_test_set_vfs(&vfs_mem);
    bool good = recover(w, begun, covered, found, why, cap);
    if (good && mem_fs_faults(image)[0]) {
        snprintf(why, cap, "%s", mem_fs_faults(image));
        good = false;
    }
    if (good && mem_fs_open_count(image) > 0) {
        snprintf(why, cap, "descriptors leaked");
        good = false;
    }
    syna_test_set_vfs(NULL);
    return good;
}

/* ---------------------------------------------------------------- rounds */

/* A store with the keys that the races never touch, one in each layer. */
static struct mem_fs *first_image(uint64_t seed, long values[KEYS])
{
    struct mem_fs *fs = mem_fs_new(seed);
    syna_layers *store;
    size_t moved;
    for (int k = 0; k < KEYS; k++)
        values[k] = k < KEYS - 2 ? GONE : 1 + k;
    mem_fs_use(fs);
    syna_test_set_vfs(&vfs_mem);
    CHECK_OK(open_store(0, &store));
    CHECK_OK(put(store, KEYS - 2, 1, values[KEYS - 2]));
    CHECK_OK(hybrid_promote(store, NULL, NULL, &moved));
    CHECK_OK(put(store, KEYS - 1, 1, values[KEYS - 1]));
    CHECK_OK(hybrid_close(store));
    syna_test_set_vfs(NULL);
    return fs;
}

static bool play(struct world *w, struct mem_fs **image, long values[KEYS], uint64_t seed,
                 enum record_mistake mistake, char *why, size_t cap)
{
    struct mem_fs *start = mem_fs_new(0), *left = mem_fs_new(0);
    mem_fs_copy(start, *image);
    start_round(w, values);
    struct trace *trace = record(w, *image, seed, mistake);
    bool good = crash(w, trace, start, seed, left, values, why, cap);
    trace_free(trace);
    mem_fs_free(start);
    mem_fs_free(*image);
    *image = left;
    return good;
}

/* How many rounds went well. *crossed says how much of a race they were. */
static int64_t rounds_survived(int64_t rounds, enum record_mistake mistake, uint32_t *crossed,
                               char *why, size_t cap)
{
    struct world *w = calloc(1, sizeof *w);
    struct mem_fs *image = NULL;
    long values[KEYS];
    int64_t n = 0;
    bool good = true;
    CHECK(w != NULL);
    pthread_mutex_init(&w->lock, NULL);
    w->next = 100;
    for (; n < rounds && good; n++) {
        check_note("round %lld", (long long)n);
        if (n % CHAIN == 0) {
            mem_fs_free(image);
            image = first_image((uint64_t)n + 1, values);
        }
        good = play(w, &image, values, check_random(), mistake, why, cap);
    }
    *crossed = w->crossed;
    mem_fs_free(image);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return good ? n : n - 1;
}

TEST(P1_P3_P12_in_a_thousand_crash_and_race_rounds_no_row_is_lost_or_double)
{
    char why[512] = "";
    uint32_t crossed;
    int64_t rounds = check_rounds(1000);
    int64_t survived = rounds_survived(rounds, MISTAKE_NONE, &crossed, why, sizeof why);
    printf("%lld rounds of %lld survived, %u keys written while searched %s\n",
           (long long)survived, (long long)rounds, crossed, why);
    CHECK_EQ(survived, rounds);
    CHECK(crossed > rounds / 10); /* else the threads came one after the other */
}

TEST(a_store_that_does_not_sync_is_noticed)
{
    char why[512] = "";
    uint32_t crossed;
    CHECK(rounds_survived(500, MISTAKE_NO_SYNC, &crossed, why, sizeof why) < 500);
    printf("without syncs: %s\n", why);
}
