/* The inside of the graph; for the hnsw*.c files only. */
#ifndef SYNA_INDEX_HNSW_CORE_H
#define SYNA_INDEX_HNSW_CORE_H

#include "base/mem.h"
#include "base/vec.h"
#include "index/hnsw.h"
#include "index/pool.h"

#define HNSW_ENTRIES 256u /* rows sampled as places to begin */
#define LINKS_MAX (2 * HNSW_M_MAX)

static inline bool bit_of(const uint64_t *bits, uint32_t row)
{
    return bits[row / 64] >> row % 64 & 1;
}

#define HNSW_GROWTH_MAX 1.0f

#define CACHE_LINE 64
#define HNSW_AHEAD 512 /* bytes of a row that are asked for; the processor follows the rest by itself */

static inline void prefetch_code(const uint8_t *code, size_t bytes, size_t most)
{
    for (size_t at = 0; at < MIN(bytes, most); at += CACHE_LINE)
        __builtin_prefetch(code + at);
}

/* ---- a walk, and the memory that it needs; kept for the next one */
#define WALK_TOUCHED 8192

struct hnsw_walk {
    struct hnsw_walk *next;
    uint64_t *seen; /* one bit a row; all zero between walks */
    size_t seen_cap;
    uint32_t touched[WALK_TOUCHED + LINKS_MAX]; /* words of `seen` to zero; all when more than WALK_TOUCHED */
    uint32_t touched_count;
    struct candidate *pool; /* what the walk may still follow, and did: ef + 1 places */
    size_t pool_cap;
    uint32_t pool_count;
    struct candidate *found; /* what may be returned, when not every row may */
    size_t found_cap;
    uint32_t found_count;
    uint8_t *query_room;
    size_t room_cap;
    struct code_query query;
    struct walk_aim {
        uint32_t last; /* the last row that the search returns, or one of the first few behind it: its place */
        float reach;   /* rows so many times as far as that one are left out; 0: none is */
        float shift;   /* what is added to a rank, so that none is below 0 */
        float slack;   /* what codes may be off by */
        bool squares;  /* of distances that ranks are the squares of */
    } aim;
    int32_t limit; /* rows with larger keys are left out */
    bool coarse; /* rows are compared by the first halves of their codes; walk_take: they are not */
    struct hnsw_visits visits;
    /* Between the two halves of a step: the neighbours whose codes were asked for from memory. */
    uint32_t at; /* the place in the pool that the walk is at */
    uint32_t asked_count;
    uint32_t asked[LINKS_MAX];
    const uint8_t *asked_codes[LINKS_MAX];
};

/* Places in the pool of a search of the width ef. */
uint32_t walk_width(const struct hnsw *graph, uint32_t ef);
syna_rc walk_take(struct hnsw *graph, const struct row_set *set, uint32_t ef,
                  struct hnsw_walk **out);
void walk_give(struct hnsw *graph, struct hnsw_walk *walk);
void walk_free(struct hnsw_walk *walk);
/* Before the walk, which has its query by then: it is a search for `wanted` rows of the width ef. Unless this
 * is called, a walk follows all that stays in its pool. */
void walk_aim(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
              const struct hnsw_query *query, uint32_t wanted);
/* After rows were put into `list`, the nearest that may be returned: what is too far now? */
void walk_limit(struct hnsw_walk *walk, const struct candidate *list, uint32_t count);
/* Walk from the entries with walk->query until the `ef` nearest rows seen have all been followed.
 * They stand in the pool afterwards (rows without FOLLOWED), those that `chosen` names in `found`. */
void walk_run(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
              uint32_t ef, const uint64_t *chosen);
/* The same in steps, so that several walks can take turns: after walk_begin, walk_ask and walk_compare
 * alternate until walk_ask finds nothing left to follow; then walk_end. walk_ask asks memory for what
 * walk_compare is going to read. */
void walk_begin(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                uint32_t ef, const uint64_t *chosen);
/* Instead of walk_begin: from `row`, which stands first in the pool then, whatever its distance. */
void walk_begin_at(struct hnsw_walk *walk, uint32_t row);
bool walk_ask(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk);
void walk_compare(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *walk,
                  uint32_t ef, const uint64_t *chosen);
void walk_end(struct hnsw_walk *walk);
/* Walks that were begun, WALK_TURNS_MAX at most, each to its end or for `hops` hops, walk_end included. They take
 * turns: one computes while the codes of the others arrive. */
#define WALK_TURNS_MAX 8u
void walk_together(const struct hnsw *graph, const struct row_set *set, struct hnsw_walk *const *walks,
                   uint32_t count, uint32_t ef, uint32_t hops);

/* ---- hnsw_file.c */
/* May the links of a row be followed? */
bool hnsw_touch(const struct hnsw *graph, uint32_t row);

/* ---- hnsw.c */
syna_rc hnsw_choose_entries(struct hnsw *graph, const struct row_set *set, uint32_t rows);
syna_rc hnsw_take_entries(struct hnsw *graph, const struct row_set *set, const uint32_t *entries,
                          uint32_t count, uint32_t of);
void hnsw_forget_entries(struct hnsw *graph);

/* ---- hnsw_prune.c: which candidates become links */
#define PRUNE_MAX 128u /* candidates looked at */
struct prune_room;
struct prune_room *prune_room_new(const struct row_set *set);
void prune_room_free(struct prune_room *room);
/* Choose at most `degree` of `count` candidates for a row: sorted, no row twice, not the row itself.
 * `links` gets HNSW_NONE behind the last. */
/* The same without filling places with candidates that were left out: returns how many are chosen. */
uint32_t prune_diverse(const struct row_set *set, struct prune_room *room,
                       const struct candidate *candidates, uint32_t count, uint32_t degree,
                       uint32_t *links);
void prune_links(const struct row_set *set, struct prune_room *room,
                 const struct candidate *candidates, uint32_t count, uint32_t degree,
                 uint32_t *links);

/* ---- hnsw_join.c: no row may be out of reach */
/* Rows of the graph that no walk can come to are linked from the nearest that one can. Exclusive.
 * `lonely`: also rows that have no links of their own; those of a repaired graph are dead. */
syna_rc hnsw_join(struct hnsw *graph, const struct row_set *set, bool lonely);

#endif
