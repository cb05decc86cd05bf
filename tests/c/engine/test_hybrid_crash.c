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

#include "engine/hybrid_core.h"
#include "player.h"

#define HOT MEM_DIR "/a.gwi"
#define COLD MEM_DIR "/a.cascade"

enum { DIMS = 4, AGAIN = 150 /* one state in so many is crashed a second time */ };

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
    struct player player;
    syna_layers *store;
    uint64_t seed, second_states;
    bool wrong_order;
};

/* ---------------------------------------------------------------- the store */

static syna_rc open_store(void *store)
{
    struct hybrid_setup setup = {.cold_path = COLD,
                                 .options = {.size = sizeof setup.options,
                                             .dimensions = DIMS,
                                             .metric = SYNA_METRIC_EUCLIDEAN,
                                             .threads = 1}};
    return hybrid_open(HOT, &setup, store);
}

static syna_rc close_store(void *store)
{
    return hybrid_close(*(syna_layers **)store);
}

static syna_rc read_values(void *store, long values[PLAYER_KEYS])
{
    for (int key = 0; key < PLAYER_KEYS; key++) {
        char name[8];
        float vector[DIMS];
        snprintf(name, sizeof name, "k%d", key);
        syna_rc rc = hybrid_get(*(syna_layers **)store, name, strlen(name), vector, DIMS);
        values[key] = rc == SYNA_SUCCESS ? (long)vector[0] : PLAYER_GONE;
    }
    return SYNA_SUCCESS;
}

/* ---------------------------------------------------------------- one operation */

static syna_rc ingest(struct world *w, int first, int count)
{
    char names[PLAYER_KEYS][8];
    const char *keys[PLAYER_KEYS];
    float vectors[PLAYER_KEYS][DIMS];
    size_t added;
    for (int i = 0; i < count; i++) {
        long value = player_row(&w->player, first + i);
        snprintf(names[i], sizeof names[i], "k%d", first + i);
        keys[i] = names[i];
        for (int d = 0; d < DIMS; d++)
            vectors[i][d] = (float)value;
    }
    struct gwi_batch batch = {.keys = keys, .vectors = vectors[0], .dims = DIMS, .count = (size_t)count};
    return hybrid_ingest(w->store, &batch, &added);
}

static syna_rc discard(struct world *w, int key)
{
    char name[8];
    int32_t deleted;
    snprintf(name, sizeof name, "k%d", key);
    player_drop(&w->player, key);
    return hybrid_delete(w->store, name, strlen(name), &deleted);
}

static syna_rc flush(struct world *w)
{
    if (w->wrong_order) /* as if no deletion had been noted in the cold layer */
        w->store->cold_deletions = false;
    return hybrid_flush_hot(w->store);
}

/* A promotion covers what is in the hot layer, if anything is. */
static syna_rc promote(struct world *w, bool *durable)
{
    size_t moved = 0;
    syna_rc rc = hybrid_promote(w->store, NULL, NULL, &moved);
    *durable = moved > 0;
    return rc;
}

static syna_rc operate(struct player *p, char what, int key, bool *durable)
{
    struct world *w = (struct world *)p;
    *durable = strchr("fsxo", what) != NULL;
    switch (what) {
    case 'i':
        return ingest(w, key, 1);
    case 'b':
        return ingest(w, 0, 3);
    case 'd':
        return discard(w, key);
    case 'c':
        return hybrid_save_cold(w->store);
    case 'f':
        return flush(w);
    case 's':
        return hybrid_save(w->store);
    case 'p':
        return promote(w, durable);
    case 'x':
        return hybrid_compact(w->store, NULL, NULL);
    default:
        return player_reopen(p);
    }
}

/* ---------------------------------------------------------------- recovery */

/* Keys, rows and what a search finds say the same. */
static bool agrees(syna_layers *store, const long values[PLAYER_KEYS], char *why, size_t cap)
{
    float query[DIMS] = {0};
    syna_layers_search_options how = {.size = sizeof how, .k = UINT64_MAX};
    syna_hit *hits, *rows;
    size_t found, listed, count = 0;
    for (int key = 0; key < PLAYER_KEYS; key++)
        count += values[key] != PLAYER_GONE;
    CHECK_OK(hybrid_search(store, query, 1, DIMS, &how, &hits, NULL, &found));
    CHECK_OK(hybrid_rows(store, 0, &rows, NULL, &listed));
    syna_free_hits(hits);
    syna_free_hits(rows);
    if (found == count && listed == count && hybrid_count(store) == count)
        return true;
    snprintf(why, cap, "%zu keys have rows, a search finds %zu, %zu are listed, %llu counted", count,
             found, listed, (unsigned long long)hybrid_count(store));
    return false;
}

/* What is recovered stays after a promotion. */
static bool stays(syna_layers **store, const long found[PLAYER_KEYS], char *why, size_t cap)
{
    long after[PLAYER_KEYS];
    size_t moved;
    CHECK_OK(hybrid_promote(*store, NULL, NULL, &moved));
    CHECK_OK(read_values(store, after));
    for (int key = 0; key < PLAYER_KEYS; key++)
        if (after[key] != found[key]) {
            snprintf(why, cap, "k%d was %ld, and is %ld after a promotion", key, found[key], after[key]);
            return false;
        }
    return true;
}

static bool check(struct player *p, const struct crash_point *at, char *why, size_t cap)
{
    struct world *w = (struct world *)p;
    long found[PLAYER_KEYS];
    CHECK_OK(read_values(&w->store, found));
    return player_allows_each(p, at, found, why, cap) && agrees(w->store, found, why, cap) &&
           stays(&w->store, found, why, cap);
}

static struct player player_of(struct world *w, const char *script)
{
    static const struct player_store kind = {.open_store = open_store,
                                             .close_store = close_store,
                                             .read_values = read_values,
                                             .operate = operate,
                                             .check = check,
                                             .openings = 1};
    return (struct player){.kind = &kind, .store = &w->store, .script = script};
}

/* ---------------------------------------------------------------- and a second crash */

static bool again(struct world *w, const struct mem_fs *image, char *why, size_t cap)
{
    struct world inner = {.seed = w->seed};
    struct crash_result result;
    struct mem_fs *fs = mem_fs_new(w->seed);
    mem_fs_copy(fs, image);
    inner.player = player_of(&inner, "p i1 d2 f p");
    inner.player.next = w->player.next + 1000;
    struct trace *trace = player_record(&inner.player, fs);
    struct crash_plan plan = {trace, image, w->seed, 60, player_recovers, &inner};
    crash_enumerate(&plan, &result);
    w->second_states += result.states;
    if (result.failed)
        snprintf(why, cap, "after a second crash: %.200s", result.why);
    trace_free(trace);
    mem_fs_free(fs);
    return !result.failed;
}

static bool recovers(void *context, struct mem_fs *image, const struct crash_point *at, char *why,
                     size_t cap)
{
    struct mem_fs *before = NULL;
    if (at->number % AGAIN == 7) {
        before = mem_fs_new(0);
        mem_fs_copy(before, image);
    }
    bool good = player_recovers(context, image, at, why, cap) &&
                (!before || again(context, before, why, cap));
    mem_fs_free(before);
    return good;
}

static bool survives(const struct workload *workload, bool wrong_order)
{
    struct world w = {.seed = check_random(), .wrong_order = wrong_order};
    struct mem_fs *fs = mem_fs_new(w.seed);
    w.player = player_of(&w, workload->script);
    struct trace *trace = player_record(&w.player, fs);
    bool good = crash_survives(workload->name, trace, w.seed,
                               (uint64_t)check_rounds((int64_t)workload->budget), recovers, &w);
    printf("%17llu after a second crash\n", (unsigned long long)w.second_states);
    trace_free(trace);
    mem_fs_free(fs);
    return good;
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
