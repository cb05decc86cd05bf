/* The inside of the index; for the cascade*.c files only. */
#ifndef SYNA_INDEX_CASCADE_CORE_H
#define SYNA_INDEX_CASCADE_CORE_H

#include "index/cascade.h"
#include "index/hnsw_build.h" /* candidates, the choice of links, the bulk build */
#include "math/bits.h"
#include "math/int8.h"

/* ---- planes: which side of one a code row is on, and how far */
struct cascade_plane {
    int32_t base;    /* -128 * the sum of the direction, as the products want it */
    int32_t cut;     /* products above it are on side 1, below on side 0 */
    float per_unit;  /* 1 / length of the direction */
    uint32_t ties;   /* rows that lie on the plane are parted by their number mixed with this */
    int8_t direction[]; /* stride of them */
};
static inline struct cascade_plane *plane_at(const struct cascade *c, uint32_t plane)
{
    return array_at(&c->planes, plane);
}
static inline int32_t plane_product(const struct cascade *c, const struct row_set *set,
                                    const struct cascade_plane *plane, const uint8_t *code)
{
    int32_t product;
    set->kernels->int8->product_many(plane->direction, plane->base, &code, 1, c->stride, &product);
    return product;
}
uint32_t plane_side(const struct cascade_plane *plane, int32_t product, uint32_t row);
/* Distance from the plane, negative on side 0. */
static inline float plane_margin(const struct cascade_plane *plane, int32_t product)
{
    return ((float)product - (float)plane->cut) * plane->per_unit;
}
#define SPLIT_SAMPLE 192u /* rows that a plane is chosen from */
struct split_room;
struct split_room *split_room_new(size_t stride);
void split_room_free(struct split_room *room);
/* A random direction, and one between the halves of the rows; the cut is at the median of `count` rows
 * (at most SPLIT_SAMPLE of them, evenly taken). */
void plane_random(const struct cascade *c, const struct row_set *set, const uint32_t *rows,
                  uint32_t count, uint64_t seed, struct split_room *room, struct cascade_plane *out);
void plane_between(const struct cascade *c, const struct row_set *set, const uint32_t *rows,
                   uint32_t count, uint32_t ties, struct split_room *room,
                   struct cascade_plane *out);
/* Bit i: element i of the row is above the centre's. stride / 8 bytes. */
void sign_code(const uint8_t *code, const uint8_t *centre, size_t stride, uint8_t *out);
/* The middle of some rows, as a code row. */
void centre_of(const struct row_set *set, const uint32_t *rows, uint32_t count,
               struct split_room *room, uint8_t *out);

/* ---- the tree. A reference names a node or, with LEAF_BIT, a bucket. */
#define LEAF_BIT 0x80000000u
struct cascade_node {
    uint32_t plane;
    uint32_t child[2];
};
struct cascade_leaf {
    uint32_t count;
    uint32_t reserved;
    uint32_t rows[]; /* capacity of them; behind them as many sign codes */
};
static inline size_t sign_bytes(const struct cascade *c)
{
    return c->stride / 8;
}
static inline struct cascade_leaf *leaf_at(const struct cascade *c, uint32_t leaf)
{
    return array_at(&c->leaves, leaf);
}
static inline uint8_t *leaf_signs(const struct cascade *c, const struct cascade_leaf *leaf, uint32_t i)
{
    return (uint8_t *)(uintptr_t)(leaf->rows + c->params.capacity) + i * sign_bytes(c);
}
static inline uint32_t *leaf_of(const struct cascade *c, uint32_t row)
{
    return array_at(&c->leaf_of, row);
}
syna_rc tree_build(struct cascade *c, const struct row_set *set, uint32_t *rows, uint32_t count);
/* Room for one more split. */
syna_rc tree_reserve(struct cascade *c);
void tree_add(struct cascade *c, const struct row_set *set, uint32_t row);
void tree_remove(struct cascade *c, uint32_t row);
/* The `want` buckets nearest to a code row, nearest first; how many. */
uint32_t tree_probe(const struct cascade *c, const struct row_set *set, const uint8_t *code,
                    uint32_t want, uint32_t *leaves);

/* Told when a walk has come as far as a narrower one would have gone: efs, ascending, `count` of them. */
struct cascade_room;
struct cascade_watch {
    const uint32_t *efs;
    uint32_t count, next;
    void (*see)(void *context, uint32_t i, const struct cascade_room *room);
    void *context;
};

/* ---- scratch of a search */
#define ROOM_TOUCHED 8192
#define FOLLOWED 0x80000000u /* in candidate.row of the pool: its links were followed */
#define ENTRIES_MAX 8u       /* rows of the buckets that a walk begins at */
struct cascade_room {
    struct cascade_room *next;
    uint64_t *seen; /* one bit a row; all zero between walks */
    size_t seen_cap;
    uint32_t touched[ROOM_TOUCHED + 1]; /* words of `seen` to zero; beyond, all of them */
    uint32_t touched_count;
    struct candidate *pool; /* what the walk may still follow, and did */
    size_t pool_cap;
    uint32_t pool_count;
    struct candidate *found; /* what may be returned, when not every row may */
    size_t found_cap;
    uint32_t found_count;
    uint8_t *bytes; /* the query as the kernels want it; then those that follow */
    size_t bytes_cap;
    struct code_query query;
    uint8_t *code;  /* the query as a code row */
    uint8_t *signs; /* its sign code */
    uint8_t *other; /* a row as a query */
    struct prune_room *prune; /* made when first needed */
    struct cascade_watch *watch; /* NULL: nobody does */
    uint32_t follow; /* so many of the nearest have their links followed; 0: all that are kept */
    struct cascade_visits visits;
};
syna_rc room_take(struct cascade *c, const struct row_set *set, uint32_t ef,
                  struct cascade_room **out);
void room_give(struct cascade *c, struct cascade_room *room);

/* cascade_search.c: walk from the nearest buckets with room->query and room->code until the `ef` nearest
 * rows seen have all been followed. They stand in the pool, those that `chosen` names in `found`. */
void cascade_walk(const struct cascade *c, const struct row_set *set, struct cascade_room *room,
                  uint32_t ef, uint32_t probes, const uint64_t *chosen, uint32_t without);

/* cascade_graph.c: cascade_plan and cascade_apply for a row that the building left out: it is below
 * `linked`, its links are none, and tree_reserve made room. */
syna_rc cascade_plan_row(struct cascade *c, const struct row_set *set, const uint64_t *live,
                         uint32_t row, struct cascade_change *out);
void cascade_put_row(struct cascade *c, const struct row_set *set,
                     const struct cascade_change *change);

/* cascade_recall.c: cascade_measure with queries that the index does not have yet. `filed`: the rows that
 * it has. At least MEASURE_LEAST, at most MEASURE_ROWS of them. */
#define MEASURE_ROWS 1024u
#define MEASURE_LEAST 32u
syna_rc cascade_measure_with(struct cascade *c, const struct row_set *set, const uint64_t *filed,
                             const uint32_t *rows, uint32_t count, unsigned threads,
                             struct cascade_curve curves[CASCADE_CURVES]);

static inline uint32_t *links_of(const struct cascade *c, uint32_t row)
{
    return array_at(&c->links, row);
}

#endif
