/* cascade_tree.c - stages 1 and 2: cells by hash bits, and below them trees of buckets.
 *
 * Both are one binary tree. On its first hash_bits levels all nodes of a level share a hyperplane: that is
 * the hash. Below, every node has a plane of its own. A query visits buckets in the order of the sum of the
 * squared distances from the planes that part it from them, which is multi-probe by margin on both.
 *
 * A row is filed in one bucket; leaf_of says which, so taking it out needs no routing. */
#include "base/internal.h"

#include "index/cascade_core.h"

#define CELL_BUCKETS 32u  /* a hash bit is used while a cell has that many buckets' rows */
#define FRONTIER 96u      /* nodes that a probe keeps in mind */
#define SEED 0x5ca1ab1eu

/* ---------------------------------------------------------------- buckets */

static void leaf_put(struct cascade *c, const struct row_set *set, uint32_t leaf, uint32_t row)
{
    struct cascade_leaf *l = leaf_at(c, leaf);
    sign_code(array_at(&set->code_rows, row), c->centre, c->stride, leaf_signs(c, l, l->count));
    l->rows[l->count++] = row;
    *leaf_of(c, row) = leaf;
}

void tree_remove(struct cascade *c, uint32_t row)
{
    uint32_t *leaf = leaf_of(c, row), i = 0;
    if (*leaf == CASCADE_NONE)
        return;
    struct cascade_leaf *l = leaf_at(c, *leaf);
    while (i < l->count && l->rows[i] != row)
        i++;
    *leaf = CASCADE_NONE;
    c->filed--;
    if (i == l->count) /* a damaged file said it was here */
        return;
    l->count--;
    l->rows[i] = l->rows[l->count];
    memmove(leaf_signs(c, l, i), leaf_signs(c, l, l->count), sign_bytes(c));
}

/* ---------------------------------------------------------------- all rows at once */

struct growing {
    struct cascade *c;
    const struct row_set *set;
    struct split_room *room;
};

static syna_rc grow_leaf(const struct growing *g, const uint32_t *rows, uint32_t count, uint32_t *out)
{
    struct cascade *c = g->c;
    SYNA_TRY(array_reserve(&c->leaves, c->leaf_count + 1));
    uint32_t leaf = c->leaf_count++;
    leaf_at(c, leaf)->count = 0;
    for (uint32_t i = 0; i < count; i++)
        leaf_put(c, g->set, leaf, rows[i]);
    c->filed += count;
    *out = leaf | LEAF_BIT;
    return SYNA_SUCCESS;
}

/* Rows of side 0 first; how many there are. Order within a side is kept. */
static uint32_t part(const struct cascade *c, const struct row_set *set,
                     const struct cascade_plane *plane, uint32_t *rows, uint32_t count,
                     uint32_t *spare)
{
    uint32_t low = 0, high = 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t product = plane_product(c, set, plane, array_at(&set->code_rows, rows[i]));
        if (plane_side(plane, product, rows[i]))
            spare[high++] = rows[i];
        else
            rows[low++] = rows[i];
    }
    memcpy(rows + low, spare, high * sizeof *rows);
    return low;
}

/* The plane of a node: of the hash on the upper levels, else one of its own. */
static syna_rc choose_plane(const struct growing *g, const uint32_t *rows, uint32_t count,
                            uint32_t depth, uint32_t *out)
{
    struct cascade *c = g->c;
    if (depth < c->hash_bits) {
        *out = depth;
        return SYNA_SUCCESS;
    }
    SYNA_TRY(array_reserve(&c->planes, c->plane_count + 1));
    plane_between(c, g->set, rows, count, c->plane_count, g->room, plane_at(c, c->plane_count));
    *out = c->plane_count++;
    return SYNA_SUCCESS;
}

static syna_rc grow(const struct growing *g, uint32_t *rows, uint32_t count, uint32_t depth,
                    uint32_t *spare, uint32_t *out)
{
    struct cascade *c = g->c;
    uint32_t node = c->node_count, plane = 0, child[2] = {0, 0};
    if (count <= c->params.capacity * 3 / 4) /* room for later ones */
        return grow_leaf(g, rows, count, out);
    SYNA_TRY(array_reserve(&c->nodes, node + 1));
    c->node_count++;
    SYNA_TRY(choose_plane(g, rows, count, depth, &plane));
    uint32_t low = part(c, g->set, plane_at(c, plane), rows, count, spare);
    if (depth >= c->hash_bits && (low == 0 || low == count)) /* the sample was no help */
        low = count / 2;
    SYNA_TRY(grow(g, rows, low, depth + 1, spare, &child[0]));
    SYNA_TRY(grow(g, rows + low, count - low, depth + 1, spare, &child[1]));
    *(struct cascade_node *)array_at(&c->nodes, node) =
        (struct cascade_node){plane, {child[0], child[1]}};
    *out = node;
    return SYNA_SUCCESS;
}

static syna_rc make_hash(const struct growing *g, const uint32_t *rows, uint32_t count)
{
    struct cascade *c = g->c;
    while (c->hash_bits < c->params.hyperplanes &&
           count >> c->hash_bits > CELL_BUCKETS * c->params.capacity)
        c->hash_bits++;
    SYNA_TRY(array_reserve(&c->planes, MAX(c->hash_bits, 1u)));
    for (uint32_t b = 0; b < c->hash_bits; b++)
        plane_random(c, g->set, rows, count, SEED + b, g->room, plane_at(c, b));
    c->plane_count = c->hash_bits;
    return SYNA_SUCCESS;
}

syna_rc tree_build(struct cascade *c, const struct row_set *set, uint32_t *rows, uint32_t count)
{
    struct growing g = {c, set, split_room_new(c->stride)};
    uint32_t *spare = mem_alloc(MAX(count, 1u) * sizeof *spare);
    syna_rc rc = g.room && spare ? SYNA_SUCCESS : syna_no_memory(count * sizeof *spare);
    if (rc == SYNA_SUCCESS) {
        centre_of(set, rows, count, g.room, c->centre);
        rc = make_hash(&g, rows, count);
    }
    if (rc == SYNA_SUCCESS)
        rc = grow(&g, rows, count, 0, spare, &c->root);
    mem_free(spare);
    split_room_free(g.room);
    return rc;
}

/* ---------------------------------------------------------------- one more row */

syna_rc tree_reserve(struct cascade *c)
{
    SYNA_TRY(array_reserve(&c->leaves, c->leaf_count + 1));
    SYNA_TRY(array_reserve(&c->nodes, c->node_count + 1));
    return array_reserve(&c->planes, c->plane_count + 1);
}

/* Where the reference to the row's bucket stands. */
static uint32_t *route(struct cascade *c, const struct row_set *set, uint32_t row)
{
    const uint8_t *code = array_at(&set->code_rows, row);
    uint32_t *at = &c->root;
    while (!(*at & LEAF_BIT)) {
        struct cascade_node *node = array_at(&c->nodes, *at);
        const struct cascade_plane *plane = plane_at(c, node->plane);
        at = &node->child[plane_side(plane, plane_product(c, set, plane, code), row)];
    }
    return at;
}

/* Part a full bucket in two. When there is no memory to choose a plane, or all rows are on one side of it,
 * they are parted in the order in which they stand. */
static void split(struct cascade *c, const struct row_set *set, uint32_t *at)
{
    uint32_t rows[CASCADE_CAPACITY_MAX], spare[CASCADE_CAPACITY_MAX];
    uint32_t old = *at & ~LEAF_BIT, count = leaf_at(c, old)->count, low = 0;
    struct cascade_plane *plane = plane_at(c, c->plane_count);
    struct split_room *room = split_room_new(c->stride);
    memcpy(rows, leaf_at(c, old)->rows, count * sizeof *rows);
    if (room) {
        plane_between(c, set, rows, count, c->plane_count, room, plane);
        low = part(c, set, plane, rows, count, spare);
    } else {
        memset(plane, 0, c->planes.item);
        plane->ties = c->plane_count;
    }
    split_room_free(room);
    if (low == 0 || low == count)
        low = count / 2;
    uint32_t fresh = c->leaf_count++, node = c->node_count++;
    leaf_at(c, old)->count = leaf_at(c, fresh)->count = 0;
    for (uint32_t i = 0; i < count; i++)
        leaf_put(c, set, i < low ? old : fresh, rows[i]);
    *(struct cascade_node *)array_at(&c->nodes, node) =
        (struct cascade_node){c->plane_count++, {old | LEAF_BIT, fresh | LEAF_BIT}};
    *at = node;
}

void tree_add(struct cascade *c, const struct row_set *set, uint32_t row)
{
    uint32_t *at = route(c, set, row);
    if (leaf_at(c, *at & ~LEAF_BIT)->count == c->params.capacity) {
        split(c, set, at);
        at = route(c, set, row);
    }
    leaf_put(c, set, *at & ~LEAF_BIT, row);
    c->filed++;
}

/* ---------------------------------------------------------------- probing */

struct ahead_node {
    float cost;
    uint32_t reference;
};

/* Sorted, nearest last, so that it is taken off in one step; the farthest is forgotten when it is full. */
static void frontier_put(struct ahead_node *ahead, uint32_t *count, struct ahead_node node)
{
    uint32_t at = *count;
    if (at == FRONTIER) {
        if (node.cost >= ahead[0].cost)
            return;
        memmove(ahead, ahead + 1, --at * sizeof *ahead);
        *count = at;
    }
    while (at > 0 && ahead[at - 1].cost < node.cost) {
        ahead[at] = ahead[at - 1];
        at--;
    }
    ahead[at] = node;
    ++*count;
}

uint32_t tree_probe(const struct cascade *c, const struct row_set *set, const uint8_t *code,
                    uint32_t want, uint32_t *leaves)
{
    struct ahead_node ahead[FRONTIER + 1];
    uint32_t count = 0, got = 0;
    if (c->root != CASCADE_NONE)
        ahead[count++] = (struct ahead_node){0, c->root};
    while (count > 0 && got < want) {
        struct ahead_node at = ahead[--count];
        while (!(at.reference & LEAF_BIT) && at.reference < c->node_count) {
            const struct cascade_node *node = array_at(&c->nodes, at.reference);
            if (node->plane >= c->plane_count)
                break;
            const struct cascade_plane *plane = plane_at(c, node->plane);
            float margin = plane_margin(plane, plane_product(c, set, plane, code));
            uint32_t near = margin > 0;
            frontier_put(ahead, &count,
                         (struct ahead_node){at.cost + margin * margin, node->child[1 - near]});
            at.reference = node->child[near];
        }
        if (at.reference & LEAF_BIT && (at.reference & ~LEAF_BIT) < c->leaf_count)
            leaves[got++] = at.reference & ~LEAF_BIT;
    }
    return got;
}
