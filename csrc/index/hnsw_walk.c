/* hnsw_walk.c - walks over the graph.
 *
 * The pool is one sorted list of the ef nearest rows seen so far; the walk follows the nearest of them
 * that was not followed yet, until there is none. A row's neighbours are looked at in two passes: the
 * first marks the unseen ones and asks for their codes from memory, the second compares them, four and
 * more at a time, while the later ones are still arriving.
 *
 * A search also ends when the nearest row that is left to follow is much farther than the last of the k that it
 * returns (Al-Jazzazi et al. 2025, arXiv:2505.15636): then others are unlikely to lead to nearer ones, whereas
 * where many rows are about equally far the walk goes on. So easy queries cost less than hard ones, and fewer
 * rows are looked at for the same recall than if each walk had followed as many (text embeddings, recall of
 * .99: a quarter fewer). How much farther follows from ef: as far as the ef-th nearest row is of a typical
 * query, going by how distances were seen to grow with the number of rows (hnsw_recall.c). */
#include "base/internal.h"

#include "index/hnsw_core.h"
#include <synadb/vector.h>

#include <math.h>

/* ---------------------------------------------------------------- rows seen */

/* Leave those of `count` rows that were not seen before, and see them. Words to be zeroed again are noted
 * for every such row, without asking whether they were noted before. */
static uint32_t first_seen(struct hnsw_walk *walk, uint32_t *rows, uint32_t count)
{
    uint32_t noted = MIN(walk->touched_count, WALK_TOUCHED), *touched = walk->touched + noted;
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = rows[i], word = row / 64;
        uint64_t old = walk->seen[word];
        walk->seen[word] = old | 1ull << row % 64;
        touched[fresh] = word;
        rows[fresh] = row;
        fresh += !(old >> row % 64 & 1);
    }
    walk->touched_count = MAX(walk->touched_count, noted + fresh);
    return fresh;
}

static void forget_seen(struct hnsw_walk *walk)
{
    if (walk->touched_count > WALK_TOUCHED)
        memset(walk->seen, 0, walk->seen_cap);
    else
        for (uint32_t i = 0; i < walk->touched_count; i++)
            walk->seen[walk->touched[i]] = 0;
    walk->touched_count = 0;
}

/* ---------------------------------------------------------------- how far a walk goes */

#define BEGINNINGS 4 /* entries that a walk begins from, the nearest */
#define WIDER 3u  /* places in the pool: so many times ef, for queries that have more rows within reach */
#define LAST_LEAST 5u /* the distance of the first few says little of what lies around a query */
#define SLACK 5.0f /* standard deviations of what codes are off by */

uint32_t walk_width(const struct hnsw *graph, uint32_t ef)
{
    return graph->measured.growth > 0 ? ef * WIDER : ef;
}

/* Standard deviations of a rank, of what the codes of a row and of the query leave out of each element. */
static float code_noise(const struct codes *codes, const struct code_query *query, float query_length,
                        float row_length)
{
    float of_rows = codes->step / sqrtf(12), of_query = query->error / sqrtf((float)codes->dims);
    return query_length * of_rows + row_length * of_query;
}

void walk_aim(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
              const struct hnsw_query *query, uint32_t wanted)
{
    struct walk_aim *aim = &walk->aim;
    const struct codes *codes = &set->codes;
    bool dot = codes->metric == SYNA_METRIC_DOT_PRODUCT;
    aim->reach = 0;
    if (graph->measured.growth == 0 || wanted == 0)
        return;
    uint32_t ef = MAX(query->ef, wanted);
    aim->last = MIN(MAX(wanted, LAST_LEAST), ef);
    aim->reach = powf((float)ef / (float)aim->last, graph->measured.growth);
    aim->shift = dot ? query->norm * graph->measured.longest : 0;
    aim->squares = codes->metric == SYNA_METRIC_EUCLIDEAN;
    aim->slack = SLACK * (dot ? code_noise(codes, &walk->query, query->norm, graph->measured.longest)
                              : code_noise(codes, &walk->query, 1, 1));
}

void walk_limit(struct hnsw_walk *walk, const struct candidate *list, uint32_t count)
{
    const struct walk_aim *aim = &walk->aim;
    if (aim->reach == 0 || count < aim->last)
        return;
    float rank = MAX(codes_rank(&walk->query, list[aim->last - 1].key) + aim->shift, 0.0f);
    float slack = aim->squares ? aim->slack * (2 * sqrtf(rank) + aim->slack) : aim->slack;
    float key = (rank * aim->reach + slack - aim->shift - walk->query.offset) / walk->query.scale;
    walk->limit = key < (float)INT32_MAX ? (int32_t)MAX(key, (float)INT32_MIN) : INT32_MAX;
}

/* ---------------------------------------------------------------- walking */

/* Offer a row that was just compared. Returns where it stands in the pool. */
static uint32_t offer(struct hnsw_walk *walk, uint32_t ef, const uint64_t *chosen, uint32_t row,
                      int32_t key)
{
    struct candidate c = {key, row};
    if (chosen && bit_of(chosen, row))
        list_put(walk->found, &walk->found_count, ef, c);
    return list_put(walk->pool, &walk->pool_count, ef, c);
}

/* Keys of entries [first, first + count), which are those of the walk: of half codes, if it is by these. */
static void compare_entries(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                            uint32_t first, uint32_t count, int32_t *keys)
{
    const uint8_t *code = graph->entry_codes + (size_t)first * set->codes.stride, *codes[HNSW_ENTRIES];
    if (!walk->coarse) {
        codes_scan(&set->codes, set->kernels, &walk->query, code, count, keys);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        codes[i] = code + (size_t)i * set->codes.stride;
    codes_coarse_many(&set->codes, set->kernels, &walk->query, codes, count, keys);
}

static void begin(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                  uint32_t ef, const uint64_t *chosen)
{
    int32_t keys[HNSW_ENTRIES];
    struct candidate best[BEGINNINGS];
    uint32_t count = 0;
    for (uint32_t at = 0; at < graph->entry_count; at += HNSW_ENTRIES) {
        uint32_t some = MIN(HNSW_ENTRIES, graph->entry_count - at);
        compare_entries(graph, set, walk, at, some, keys);
        for (uint32_t i = 0; i < some; i++)
            list_put(best, &count, BEGINNINGS,
                     (struct candidate){keys[i], graph->entries[at + i]});
    }
    walk->visits.codes += graph->entry_count;
    for (uint32_t i = 0; i < count; i++)
        if (first_seen(walk, &best[i].row, 1))
            offer(walk, ef, chosen, best[i].row, best[i].key);
}

/* Collect the unseen neighbours of a row and ask for their codes. */
static void collect(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                    uint32_t row)
{
    const uint32_t *links = hnsw_links(graph, row);
    uint32_t count = 0;
    if (UNLIKELY(__atomic_load_n(&graph->unsure, __ATOMIC_RELAXED)) && !hnsw_touch(graph, row)) {
        walk->asked_count = 0;
        return;
    }
    while (count < graph->degree && links[count] < graph->linked) { /* the end, or a damaged link */
        walk->asked[count] = links[count];
        count++;
    }
    count = first_seen(walk, walk->asked, count);
    size_t bytes = walk->coarse ? set->codes.stride / 2 : set->codes.stride;
    for (uint32_t i = 0; i < count; i++) {
        walk->asked_codes[i] = array_at(&set->code_rows, walk->asked[i]);
        prefetch_code(walk->asked_codes[i], bytes, HNSW_AHEAD);
    }
    walk->asked_count = count;
}

static void prefetch_links(const struct hnsw *graph, uint32_t row)
{
    const uint32_t *links = hnsw_links(graph, row & ~FOLLOWED);
    for (uint32_t i = 0; i < graph->degree; i += CACHE_LINE / sizeof *links)
        __builtin_prefetch(links + i);
}

void walk_begin(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                uint32_t ef, const uint64_t *chosen)
{
    walk->pool_count = walk->found_count = walk->at = 0;
    walk->limit = INT32_MAX;
    walk->visits = (struct hnsw_visits){0};
    begin(graph, set, walk, ef, chosen);
}

void walk_begin_at(struct hnsw_walk *walk, uint32_t row)
{
    walk->pool_count = walk->found_count = walk->at = 0;
    walk->limit = INT32_MAX;
    walk->visits = (struct hnsw_visits){0};
    first_seen(walk, &row, 1);
    walk->pool[walk->pool_count++] = (struct candidate){INT32_MIN, row};
}

/* The first place from `at` on whose row was not followed. */
static inline uint32_t next_open(const struct hnsw_walk *walk, uint32_t at)
{
    while (at < walk->pool_count && walk->pool[at].row & FOLLOWED)
        at++;
    return at;
}

bool walk_ask(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk)
{
    walk->at = next_open(walk, walk->at);
    if (walk->at == walk->pool_count || walk->pool[walk->at].key > walk->limit)
        return false;
    uint32_t row = walk->pool[walk->at].row;
    walk->pool[walk->at].row = row | FOLLOWED;
    collect(graph, set, walk, row);
    walk->visits.hops++;
    uint32_t after = next_open(walk, walk->at + 1); /* it is next, unless a nearer one is met now */
    if (after < walk->pool_count)
        prefetch_links(graph, walk->pool[after].row);
    return true;
}

/* Rows that were compared, into the pool. Most are farther than all of a full one, or too far: those are left
 * out first. Returns the foremost place that was taken. */
static uint32_t offer_all(struct hnsw_walk *walk, uint32_t ef, const int32_t *keys, uint32_t count)
{
    int32_t limit = walk->pool_count == ef ? MIN(walk->pool[ef - 1].key, walk->limit) : walk->limit;
    uint32_t near[LINKS_MAX], some = 0, foremost = ef;
    for (uint32_t i = 0; i < count; i++) {
        near[some] = i;
        some += keys[i] <= limit;
    }
    for (uint32_t i = 0; i < some; i++) {
        struct candidate c = {keys[near[i]], walk->asked[near[i]]};
        uint32_t at = list_put(walk->pool, &walk->pool_count, ef, c);
        foremost = MIN(foremost, at);
    }
    if (foremost < walk->aim.last)
        walk_limit(walk, walk->pool, walk->pool_count);
    return foremost;
}

/* The same where only chosen rows may come back: those are kept apart as well. */
static uint32_t offer_chosen(struct hnsw_walk *walk, uint32_t ef, const uint64_t *chosen,
                             const int32_t *keys, uint32_t count)
{
    uint32_t foremost = ef;
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i] > walk->limit)
            continue;
        uint32_t at = offer(walk, ef, chosen, walk->asked[i], keys[i]);
        foremost = MIN(foremost, at);
    }
    walk_limit(walk, walk->found, walk->found_count);
    return foremost;
}

void walk_compare(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                  uint32_t ef, const uint64_t *chosen)
{
    int32_t keys[LINKS_MAX];
    uint32_t count = walk->asked_count, after = walk->at + 1;
    (walk->coarse ? codes_coarse_many : codes_many)(&set->codes, set->kernels, &walk->query,
                                                    walk->asked_codes, count, keys);
    uint32_t foremost = chosen ? offer_chosen(walk, ef, chosen, keys, count)
                               : offer_all(walk, ef, keys, count);
    walk->visits.codes += count;
    walk->at = MIN(after, foremost);
    if (foremost < after && foremost < walk->pool_count)
        prefetch_links(graph, walk->pool[foremost].row);
}

void walk_end(struct hnsw_walk *walk)
{
    for (uint32_t i = 0; i < walk->pool_count; i++)
        walk->pool[i].row &= ~FOLLOWED;
    forget_seen(walk);
}

void walk_together(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *const *walks,
                   uint32_t count, uint32_t ef, uint32_t hops)
{
    bool walking[WALK_TURNS_MAX], busy = true;
    for (uint32_t hop = 0; busy && hop < hops; hop++) {
        busy = false;
        for (uint32_t i = 0; i < count; i++)
            busy |= walking[i] = walk_ask(graph, set, walks[i]);
        for (uint32_t i = 0; i < count; i++)
            if (walking[i])
                walk_compare(graph, set, walks[i], ef, NULL);
    }
    for (uint32_t i = 0; i < count; i++)
        walk_end(walks[i]);
}

void walk_run(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
              uint32_t ef, const uint64_t *chosen)
{
    walk_begin(graph, set, walk, ef, chosen);
    while (walk_ask(graph, set, walk))
        walk_compare(graph, set, walk, ef, chosen);
    walk_end(walk);
}
