/* cascade_graph.c - stage 3 for rows that come one by one.
 *
 * A new row's candidates are what a short walk from its nearest buckets meets; among them it chooses its
 * links by the rule of hnsw_prune.c. The rows that it chose link back: where their places are full, the new
 * row takes the place of a dead row, or of one that it is nearer to than they are, else of the farthest if
 * it is nearer itself. The two nearest always make room, so that every row can be come to.
 *
 * The walk keeps more rows than it follows: what the farthest of them would add to the candidates is dear, and
 * asking every chosen row for a link back makes the better graph at less cost. */
#include "base/internal.h"

#include "index/cascade_core.h"

#define NEW_EF 32u     /* candidates of a new row */
#define NEW_FOLLOW 24u /* nearest of them whose links the walk follows */
#define NEW_PROBES 1u  /* buckets that the walk begins in */
#define SURE_BACK 2u   /* nearest rows that link back in any case */

struct planning {
    const struct cascade *c;
    const struct row_set *set;
    const uint64_t *live;
    struct cascade_room *room;
    const uint8_t *code; /* of the new row */
};

/* A place and how far its row is, as a number: the farthest is the greatest, of equals the first. */
static inline int64_t place_at(int32_t key, uint32_t at)
{
    return (int64_t)key * CASCADE_DEGREE + (CASCADE_DEGREE - 1 - at);
}
static inline uint32_t place_of(int64_t place)
{
    return CASCADE_DEGREE - 1 - (uint32_t)((uint64_t)place % CASCADE_DEGREE);
}

/* The place among the full links of `row` that the new row, at `key` from it, may have; CASCADE_DEGREE when
 * it is to have none. */
static uint32_t place_among(const struct planning *p, uint32_t row, int32_t key, bool sure)
{
    const uint32_t *links = links_of(p->c, row);
    const uint8_t *codes[CASCADE_DEGREE];
    int32_t from_row[CASCADE_DEGREE], from_new[CASCADE_DEGREE];
    struct code_query query;
    int64_t far = INT64_MIN, behind = INT64_MIN;
    int hidden = 0;
    for (uint32_t i = 0; i < CASCADE_DEGREE; i++) {
        if (p->live && !bit_of(p->live, links[i]))
            return i;
        codes[i] = array_at(&p->set->code_rows, links[i]);
    }
    codes_query_row(&p->set->codes, array_at(&p->set->code_rows, row), p->room->other, &query);
    codes_many(&p->set->codes, p->set->kernels, &query, codes, CASCADE_DEGREE, from_row);
    codes_many(&p->set->codes, p->set->kernels, &p->room->query, codes, CASCADE_DEGREE, from_new);
    for (uint32_t i = 0; i < CASCADE_DEGREE; i++) { /* without branches: nobody could foresee them */
        int64_t place = place_at(from_row[i], i);
        int gives_way = (from_row[i] > key) & (from_new[i] < from_row[i]);
        hidden |= (from_new[i] < key) & (from_row[i] < key);
        far = MAX(far, place);
        behind = MAX(behind, gives_way ? place : INT64_MIN);
    }
    if (hidden && !sure)
        return CASCADE_DEGREE;
    if (behind != INT64_MIN)
        return place_of(behind);
    return sure || from_row[place_of(far)] > key ? place_of(far) : CASCADE_DEGREE;
}

/* A link back from the `nth` nearest of those that the new row chose. */
static void plan_back(const struct planning *p, uint32_t row, int32_t key, uint32_t nth,
                      struct cascade_change *out)
{
    const uint32_t *links = links_of(p->c, row);
    uint32_t at = 0;
    while (at < CASCADE_DEGREE && links[at] < p->c->linked)
        at++;
    if (at == CASCADE_DEGREE)
        at = place_among(p, row, key, nth < SURE_BACK);
    if (at == CASCADE_DEGREE)
        return;
    out->back[out->back_count].row = row;
    out->back[out->back_count++].at = at;
}

static void plan_links(const struct planning *p, struct cascade_change *out)
{
    struct cascade_room *room = p->room;
    struct candidate near[NEW_EF] = {{0}};
    uint32_t count = 0, nth = 0;
    for (uint32_t i = 0; i < room->pool_count && count < NEW_EF; i++)
        if (!p->live || bit_of(p->live, room->pool[i].row))
            near[count++] = room->pool[i];
    prune_links(p->set, room->prune, near, count, CASCADE_DEGREE, out->links);
    for (uint32_t i = 0; i < count; i++) { /* in the order of nearness, whatever prune's is */
        uint32_t l = 0;
        while (l < CASCADE_DEGREE && out->links[l] != near[i].row)
            l++;
        if (l < CASCADE_DEGREE)
            plan_back(p, near[i].row, near[i].key, nth++, out);
    }
}

syna_rc cascade_plan_row(struct cascade *c, const struct row_set *set, const uint64_t *live,
                         uint32_t row, struct cascade_change *out)
{
    struct planning p = {.c = c, .set = set, .live = live};
    out->row = row;
    out->back_count = 0;
    SYNA_TRY(room_take(c, set, NEW_EF, &p.room));
    if (!p.room->prune)
        p.room->prune = prune_room_new(set);
    if (!p.room->prune) {
        room_give(c, p.room);
        return syna_no_memory(c->stride);
    }
    p.code = array_at(&set->code_rows, out->row);
    codes_query_row(&set->codes, p.code, p.room->bytes, &p.room->query);
    memcpy(p.room->code, p.code, c->stride);
    p.room->follow = NEW_FOLLOW;
    cascade_walk(c, set, p.room, NEW_EF, NEW_PROBES, NULL, CASCADE_NONE);
    p.room->follow = 0;
    plan_links(&p, out);
    room_give(c, p.room);
    return SYNA_SUCCESS;
}

syna_rc cascade_plan(struct cascade *c, const struct row_set *set, const uint64_t *live,
                     struct cascade_change *out)
{
    return cascade_plan_row(c, set, live, c->linked, out);
}

bool cascade_has_room(const struct cascade *c)
{
    return c->links.cap > c->linked && c->leaf_of.cap > c->linked && c->leaves.cap > c->leaf_count &&
           c->nodes.cap > c->node_count && c->planes.cap > c->plane_count;
}

syna_rc cascade_reserve(struct cascade *c)
{
    SYNA_TRY(array_reserve(&c->links, c->linked + 1));
    SYNA_TRY(array_reserve(&c->leaf_of, c->linked + 1));
    return tree_reserve(c);
}

void cascade_put_row(struct cascade *c, const struct row_set *set, const struct cascade_change *change)
{
    memcpy(links_of(c, change->row), change->links, sizeof change->links);
    for (uint32_t i = 0; i < change->back_count; i++)
        links_of(c, change->back[i].row)[change->back[i].at] = change->row;
    tree_add(c, set, change->row);
}

void cascade_apply(struct cascade *c, const struct row_set *set, const struct cascade_change *change)
{
    cascade_put_row(c, set, change);
    c->linked++;
}

void cascade_skip(struct cascade *c)
{
    memset(links_of(c, c->linked), 0xff, CASCADE_DEGREE * sizeof(uint32_t));
    *leaf_of(c, c->linked) = CASCADE_NONE;
    c->linked++;
}

void cascade_remove(struct cascade *c, uint32_t row)
{
    if (row < c->linked)
        tree_remove(c, row);
}
