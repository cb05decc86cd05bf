/* cascade.c - the index as a value: made, freed, replaced; and the scratch memory of its searches. */
#include "base/internal.h"

#include "index/cascade_core.h"

#define ARRAY_SPACE (64ull << 30) /* address space that one array may take */

syna_rc cascade_check_params(const struct cascade_params *p)
{
    if (p->hyperplanes < 1 || p->hyperplanes > CASCADE_HYPERPLANES_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u hyperplanes, expected 1..%u",
                         p->hyperplanes, CASCADE_HYPERPLANES_MAX);
    if (p->capacity < CASCADE_CAPACITY_MIN || p->capacity > CASCADE_CAPACITY_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "a bucket capacity of %u, expected %u..%u",
                         p->capacity, CASCADE_CAPACITY_MIN, CASCADE_CAPACITY_MAX);
    if (p->probes < 1 || p->probes > CASCADE_PROBES_MAX)
        return syna_fail(SYNA_ERR_GENERIC, SYNA_WHY_ARGUMENT, "%u probes, expected 1..%u", p->probes,
                         CASCADE_PROBES_MAX);
    return SYNA_SUCCESS;
}

static syna_rc init_array(struct array *a, size_t item)
{
    return array_init(a, item, (size_t)MIN((uint64_t)CASCADE_ROWS_MAX, ARRAY_SPACE / item));
}

static size_t leaf_bytes(const struct cascade *c)
{
    size_t bytes = sizeof(struct cascade_leaf) +
                   c->params.capacity * (sizeof(uint32_t) + sign_bytes(c));
    return (bytes + 7) & ~(size_t)7;
}

syna_rc cascade_init(struct cascade *c, const struct cascade_params *params, size_t stride)
{
    *c = (struct cascade){.params = *params, .stride = stride, .root = CASCADE_NONE};
    SYNA_TRY(cascade_check_params(params));
    pthread_mutex_init(&c->idle_lock, NULL);
    c->centre = mem_alloc(stride);
    syna_rc rc = c->centre ? SYNA_SUCCESS : syna_no_memory(stride);
    if (rc == SYNA_SUCCESS)
        rc = init_array(&c->planes, (sizeof(struct cascade_plane) + stride + 63) & ~(size_t)63);
    if (rc == SYNA_SUCCESS)
        rc = init_array(&c->nodes, sizeof(struct cascade_node));
    if (rc == SYNA_SUCCESS)
        rc = init_array(&c->leaves, leaf_bytes(c));
    if (rc == SYNA_SUCCESS)
        rc = init_array(&c->leaf_of, sizeof(uint32_t));
    if (rc == SYNA_SUCCESS)
        rc = init_array(&c->links, CASCADE_DEGREE * sizeof(uint32_t));
    if (rc != SYNA_SUCCESS)
        cascade_dispose(c);
    return rc;
}

static void room_free(struct cascade_room *room)
{
    mem_free(room->seen);
    mem_free(room->pool);
    mem_free(room->found);
    mem_free_aligned(room->bytes);
    prune_room_free(room->prune);
    mem_free(room);
}

void cascade_dispose(struct cascade *c)
{
    if (c->stride == 0)
        return;
    array_dispose(&c->planes);
    array_dispose(&c->nodes);
    array_dispose(&c->leaves);
    array_dispose(&c->leaf_of);
    array_dispose(&c->links);
    mem_free(c->centre);
    for (struct cascade_room *r = c->idle, *next; r; r = next) {
        next = r->next;
        room_free(r);
    }
    pthread_mutex_destroy(&c->idle_lock);
    c->stride = 0;
}

void cascade_replace(struct cascade *c, struct cascade *fresh)
{
    cascade_dispose(c);
    *c = *fresh;
    pthread_mutex_init(&c->idle_lock, NULL); /* a lock is not copied */
    pthread_mutex_destroy(&fresh->idle_lock);
    *fresh = (struct cascade){0};
}

uint64_t cascade_bytes(const struct cascade *c)
{
    return array_bytes(&c->planes) + array_bytes(&c->nodes) + array_bytes(&c->leaves) +
           array_bytes(&c->leaf_of) + array_bytes(&c->links) + c->stride;
}

uint64_t cascade_used_bytes(const struct cascade *c)
{
    return c->plane_count * (uint64_t)c->planes.item + c->node_count * (uint64_t)c->nodes.item +
           c->leaf_count * (uint64_t)c->leaves.item +
           c->linked * (uint64_t)(c->leaf_of.item + c->links.item) + c->stride;
}

/* ---------------------------------------------------------------- scratch */

/* A block of at least `bytes`: the old one, or another in its place whose content is zero. *cap is 0 when
 * there is no memory. */
static void *grown(void *block, size_t *cap, size_t bytes)
{
    if (*cap >= bytes)
        return block;
    mem_free(block);
    block = mem_zalloc(bytes);
    *cap = block ? bytes : 0;
    return block;
}

static bool room_fit(struct cascade_room *room, uint32_t rows, uint32_t ef, size_t stride)
{
    size_t seen = ((size_t)rows / 64 + 1) * sizeof *room->seen;
    if (room->seen_cap < seen)
        room->touched_count = 0;
    room->seen = grown(room->seen, &room->seen_cap, seen > room->seen_cap ? seen + seen / 4 : seen);
    room->pool = grown(room->pool, &room->pool_cap, (ef + 1) * sizeof *room->pool);
    room->found = grown(room->found, &room->found_cap, (ef + 1) * sizeof *room->found);
    if (room->bytes_cap < 4 * stride) {
        mem_free_aligned(room->bytes);
        room->bytes = mem_alloc_aligned(4 * stride, 64);
        room->bytes_cap = room->bytes ? 4 * stride : 0;
    }
    if (!room->seen || !room->pool || !room->found || !room->bytes)
        return false;
    room->code = room->bytes + stride;
    room->signs = room->bytes + 2 * stride;
    room->other = room->bytes + 3 * stride;
    return true;
}

syna_rc room_take(struct cascade *c, const struct row_set *set, uint32_t ef,
                  struct cascade_room **out)
{
    pthread_mutex_lock(&c->idle_lock);
    struct cascade_room *room = c->idle;
    if (room)
        c->idle = room->next;
    pthread_mutex_unlock(&c->idle_lock);
    if (!room)
        room = mem_zalloc(sizeof *room);
    if (!room)
        return syna_no_memory(sizeof *room);
    if (!room_fit(room, MAX(set->count, c->linked), ef, c->stride)) {
        room_free(room);
        return syna_no_memory((size_t)set->count / 8);
    }
    *out = room;
    return SYNA_SUCCESS;
}

void room_give(struct cascade *c, struct cascade_room *room)
{
    pthread_mutex_lock(&c->idle_lock);
    room->next = c->idle;
    c->idle = room;
    pthread_mutex_unlock(&c->idle_lock);
}
