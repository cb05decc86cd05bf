/* hnsw_filtered.c - walks among some of the rows (Patel et al. 2024, ACORN, arXiv:2403.04871).
 *
 * Only chosen rows are compared and followed. Where a row has fewer chosen neighbours than there is
 * room for links, its other neighbours are looked through: theirs count as if they were its own, until
 * they are enough. So the walk sees a graph over the chosen rows that has about as many links a row as the
 * whole one, and takes no more steps in it than a walk without a filter takes in the whole one.
 *
 * Rows that are chosen together may lie together, away from the query, so a walk begins at the nearest
 * chosen entries, and around the nearest of all.
 *
 * Invariant: the pool has chosen rows only, so all of it may be returned. */
#include "base/internal.h"

#include "index/exact_core.h"
#include "index/hnsw_core.h"
#include "index/hnsw_filtered.h"

#define BEGINNINGS 4 /* chosen entries that are begun from, and others */
#define AHEAD 8u /* rows whose links are asked for before they are looked through */

struct around {
    const struct hnsw *graph;
    const struct row_set *set;
    const uint64_t *chosen;
    struct hnsw_walk *walk;
    uint32_t ef;
};

/* ---------------------------------------------------------------- rows around a row */

static inline bool is_chosen(const struct around *a, uint32_t row)
{
    return bit_of(a->chosen, row);
}

static inline bool first_seen(struct hnsw_walk *walk, uint32_t row)
{
    uint64_t *word = &walk->seen[row / 64], bit = 1ull << row % 64;
    if (*word & bit)
        return false;
    *word |= bit;
    if (walk->touched_count < WALK_TOUCHED)
        walk->touched[walk->touched_count] = row / 64;
    walk->touched_count++; /* of too many, all words are zeroed in the end */
    return true;
}

static void ask(const struct around *a, uint32_t row)
{
    struct hnsw_walk *walk = a->walk;
    const uint8_t *code = array_at(&a->set->code_rows, row);
    prefetch_code(code, a->set->codes.stride, HNSW_AHEAD);
    walk->asked[walk->asked_count] = row;
    walk->asked_codes[walk->asked_count++] = code;
}

static void prefetch_links(const struct hnsw *graph, uint32_t row)
{
    const uint32_t *links = hnsw_links(graph, row);
    for (uint32_t i = 0; i < graph->degree; i += CACHE_LINE / sizeof *links)
        __builtin_prefetch(links + i);
}

/* Ask for the unseen chosen neighbours of a row. The others go to `past`, how many is returned. Which is
 * which no processor could foresee, so there is no branch for it. Links end before the degree, or at a
 * damaged one. */
static uint32_t ask_neighbours(const struct around *a, uint32_t row, uint32_t *past)
{
    const uint32_t *links = hnsw_links(a->graph, row);
    const uint64_t *seen = a->walk->seen;
    uint32_t fresh[LINKS_MAX], count = 0, others = 0;
    for (uint32_t i = 0; i < a->graph->degree && links[i] < a->graph->linked; i++) {
        uint32_t near = links[i], word = near / 64;
        uint32_t chosen = (uint32_t)(a->chosen[word] >> near % 64) & 1;
        fresh[count] = past[others] = near;
        count += chosen & ~(uint32_t)(seen[word] >> near % 64);
        others += !chosen;
    }
    for (uint32_t i = 0; i < count && a->walk->asked_count < LINKS_MAX; i++) {
        first_seen(a->walk, fresh[i]);
        ask(a, fresh[i]);
    }
    return others;
}

static void collect(const struct around *a, uint32_t row)
{
    uint32_t past[LINKS_MAX], beyond[LINKS_MAX], wanted = a->graph->degree;
    a->walk->asked_count = 0;
    uint32_t others = ask_neighbours(a, row, past);
    if (a->walk->asked_count >= wanted)
        return;
    for (uint32_t i = 0; i < MIN(others, AHEAD); i++)
        prefetch_links(a->graph, past[i]);
    for (uint32_t i = 0; i < others && a->walk->asked_count < wanted; i++) {
        if (i + AHEAD < others)
            prefetch_links(a->graph, past[i + AHEAD]);
        if (first_seen(a->walk, past[i]))
            ask_neighbours(a, past[i], beyond);
    }
}

/* Returns the foremost place in the pool that was taken. */
static uint32_t compare(const struct around *a)
{
    int32_t keys[LINKS_MAX];
    struct hnsw_walk *walk = a->walk;
    uint32_t foremost = a->ef;
    codes_many(&a->set->codes, a->set->kernels, &walk->query, walk->asked_codes, walk->asked_count, keys);
    for (uint32_t i = 0; i < walk->asked_count; i++) {
        struct candidate c = {keys[i], walk->asked[i]};
        uint32_t at = c.key > walk->limit ? a->ef : list_put(walk->pool, &walk->pool_count, a->ef, c);
        foremost = MIN(foremost, at);
    }
    if (foremost < walk->aim.last)
        walk_limit(walk, walk->pool, walk->pool_count);
    walk->visits.codes += walk->asked_count;
    return foremost;
}

/* ---------------------------------------------------------------- walking */

/* The nearest chosen entries into the pool, and what is chosen around the nearest of all. */
static void begin(const struct around *a)
{
    int32_t keys[HNSW_ENTRIES];
    struct candidate nearest[BEGINNINGS], own[BEGINNINGS];
    uint32_t count = 0, owned = 0;
    struct hnsw_walk *walk = a->walk;
    uint32_t entries = MIN(a->graph->entry_count, HNSW_ENTRIES);
    codes_scan(&a->set->codes, a->set->kernels, &walk->query, a->graph->entry_codes, entries, keys);
    for (uint32_t i = 0; i < entries; i++) {
        struct candidate c = {keys[i], a->graph->entries[i]};
        list_put(nearest, &count, BEGINNINGS, c);
        if (is_chosen(a, c.row))
            list_put(own, &owned, BEGINNINGS, c);
    }
    walk->visits.codes += entries;
    for (uint32_t i = 0; i < owned; i++)
        if (first_seen(walk, own[i].row))
            list_put(walk->pool, &walk->pool_count, a->ef, own[i]);
    for (uint32_t i = 0; i < count; i++)
        if (!is_chosen(a, nearest[i].row) && first_seen(walk, nearest[i].row)) {
            collect(a, nearest[i].row);
            compare(a);
        }
}

/* False: more than `most` codes were compared before the end. */
static bool walk_chosen(const struct around *a, uint64_t most)
{
    struct hnsw_walk *walk = a->walk;
    for (uint32_t at = 0; at < walk->pool_count;) {
        uint32_t row = walk->pool[at].row;
        if (row & FOLLOWED) {
            at++;
            continue;
        }
        if (walk->pool[at].key > walk->limit)
            break;
        if (walk->visits.codes > most)
            return false;
        walk->pool[at].row |= FOLLOWED;
        walk->visits.hops++;
        collect(a, row);
        uint32_t foremost = compare(a);
        at = MIN(at + 1, foremost);
    }
    return true;
}

/* ---------------------------------------------------------------- scoring */

/* The best of the pool; the others are ruled out by what their codes say for certain. */
static bool score(const struct row_set *set, const struct hnsw_walk *walk, struct seeker *s)
{
    bool enough = true;
    for (uint32_t i = 0; enough && i < walk->pool_count; i++) {
        uint32_t row = walk->pool[i].row;
        if (s->plain)
            enough = seeker_score(s, &row, 1);
        else
            enough = seeker_suspect(s, row, walk->pool[i].key, *(const float *)array_at(&set->errors, row),
                                    *(const float *)array_at(&set->norms, row));
    }
    return enough && seeker_settle(s);
}

/* A seeker that rules nothing out has not coded the query. */
static void code_query(const struct row_set *set, const struct hnsw_query *query, struct hnsw_walk *walk,
                       const struct seeker *s)
{
    walk->query = s->code;
    if (s->plain)
        codes_query(&set->codes, set->kernels, query->vector, walk->query_room, &walk->query);
}

static syna_rc search(struct around *a, const struct hnsw_query *query, uint64_t most, struct topk *top,
                      bool *found)
{
    struct seeker seeker;
    struct hnsw_walk *walk = a->walk;
    walk->pool_count = walk->found_count = walk->at = 0;
    walk->limit = INT32_MAX;
    walk->visits = (struct hnsw_visits){0};
    seeker_init(&seeker, a->set, query->vector, walk->query_room, top, a->set->count);
    code_query(a->set, query, walk, &seeker);
    walk_aim(a->graph, a->set, walk, query, (uint32_t)top->k);
    begin(a);
    *found = walk_chosen(a, most) && walk->pool_count >= top->k;
    walk_end(walk);
    bool enough = !*found || score(a->set, walk, &seeker);
    walk->visits.full += seeker.scored;
    seeker_dispose(&seeker);
    return enough ? SYNA_SUCCESS : syna_no_memory(walk->pool_count * sizeof(struct suspect));
}

syna_rc hnsw_search_chosen(struct hnsw *graph, const struct row_set *set,
                           const struct hnsw_query *query, uint64_t most, struct topk *top,
                           struct hnsw_visits *visits, bool *found)
{
    struct around a = {graph, set, query->chosen, NULL,
                       walk_width(graph, MAX(query->ef, (uint32_t)top->k))};
    *found = false;
    if (graph->linked == 0 || top->k > HNSW_EF_MAX)
        return SYNA_SUCCESS;
    SYNA_TRY(walk_take(graph, set, a.ef, &a.walk));
    syna_rc rc = search(&a, query, most, top, found);
    if (visits) {
        visits->codes += a.walk->visits.codes;
        visits->full += a.walk->visits.full;
        visits->hops += a.walk->visits.hops;
    }
    walk_give(graph, a.walk);
    return rc;
}
